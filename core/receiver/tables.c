/* SPDX-License-Identifier: ISC */

/*
 * tables - what policies' rules look up, asked of the lookup process
 *
 * The chain asks in the middle of a question, one key at a time: the session
 * waits for lookup, then for the chain again.  No answer in time, or none that
 * can be read, is a look-up that failed.
 */

#include "core/receiver/receiver.h"

#include "milter-sdk/base/pack.h"

#include <string.h>

enum { TABLE_MS = 5000 };

static void
table_answer(struct session *s, struct frame *f)
{
	struct unpacker u = { f != NULL ? f->data : NULL,
		f != NULL ? f->len : 0, f == NULL };
	uint8_t status = unpack_u8(&u);
	const char *value;
	size_t len;

	value = unpack_blob(&u, &len);
	s->wait = WAIT_CHAIN;
	if (f != NULL && f->type == MSG_TABLE_R && unpack_end(&u) == 0 &&
	    status <= 1) {
		chain_found(s->chain, status, value, len);
		return;
	}
	if (f == NULL)
		log_warning("%s: policy: no answer from the tables in time",
		    s->tx != NULL ? s->tx->env.id : "NOQUEUE");
	chain_found(s->chain, -1, "", 0);
}

/* tables_ask - chain_facts.lookup */
int
tables_ask(void *arg, const char *table, const char *key)
{
	struct session *s = arg;
	struct buf b = BUF_INIT(16 << 10);
	struct packer k = { &b, false };
	int rc = -1;

	pack_str(&k, table);
	pack_str(&k, key);
	if (pack_end(&k) == 0)
		rc = session_ask(
		    s, s->r->lookup, MSG_TABLE, &b, -1, TABLE_MS, table_answer);
	buf_fini(&b);
	return (rc);
}
