/* SPDX-License-Identifier: ISC */

/*
 * mta_fuzz - an MTA's bytes against a filter: whatever comes, each command
 * that wants an answer gets exactly one, what leaves are whole packets, and it
 * is the same however the bytes are cut.
 *
 * Input: a byte of choices (below), one of how the bytes are cut, the bytes.
 *
 * coverage: milter-sdk/src/mta.c milter-sdk/src/send.c
 * coverage: milter-sdk/src/macroset.c milter-sdk/src/terms.c
 */

#include "milter-sdk/base/log.h"
#include "milter-sdk/src/mta.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

enum { FEW_STAGES = 1, SLOW = 2, NEGOTIATED = 4, CUT = 8 };

static void
check(bool ok)
{
	if (!ok)
		abort();
}

/* by - a verdict that a text asks for */
static enum mill_verdict
by(struct mill_txn *t, const char *text)
{
	switch (text[0]) {
	case 'a':
		return (MILL_ACCEPT);
	case 'd':
		return (MILL_DISCARD);
	case 't':
		return (MILL_TEMPFAIL);
	case 'r':
		return (mill_reply(t, 550, "5.7.1", "%s", text));
	case 'l':
		return (mill_reply(t, 450, NULL, "100%% one\ntwo"));
	default:
		return (MILL_CONTINUE);
	}
}

static enum mill_verdict
on_connect(struct mill_txn *t)
{
	return (by(t, mill_client_name(t)));
}

static enum mill_verdict
on_helo(struct mill_txn *t)
{
	return (by(t, mill_helo(t)));
}

static enum mill_verdict
on_mail(struct mill_txn *t)
{
	return (by(t, mill_sender(t)));
}

static enum mill_verdict
on_rcpt(struct mill_txn *t)
{
	return (by(t, mill_rcpt(t)));
}

static enum mill_verdict
on_headers(struct mill_txn *t)
{
	return (by(t, mill_header_value(t, 0)));
}

/* on_message - an edit for each header field, of the kind that it names */
static enum mill_verdict
on_message(struct mill_txn *t)
{
	static const char big[100000];
	size_t i, n;
	const char *v;
	int rc = 0;

	(void)mill_macro(t, "{mail_addr}");
	for (i = 0; i < mill_n_headers(t); i++) {
		v = mill_header_value(t, i);
		switch (mill_header_name(t, i)[0]) {
		case 'h':
			rc = mill_add_header(t, "X-H", v);
			break;
		case 'i':
			rc = mill_insert_header(t, (unsigned)i, "X-I", v);
			break;
		case 'm':
			rc = mill_change_header(t, v, i, "m");
			break;
		case 'x':
			rc = mill_delete_header(t, "x", i);
			break;
		case '+':
			rc = mill_add_rcpt(t, v, i % 2 ? "NOTIFY=NEVER" : NULL);
			break;
		case '-':
			rc = mill_del_rcpt(t, v);
			break;
		case 'e':
			rc = mill_change_sender(t, v, NULL);
			break;
		case 'q':
			rc = mill_quarantine(t, v);
			break;
		case 'b':
			rc = mill_replace_body(
			    t, big, strlen(v) * 10000 % sizeof(big));
			break;
		}
	}
	(void)rc;
	v = mill_body(t, &n);
	return (n > 0 ? by(t, v) : MILL_CONTINUE);
}

#define EVERY_EDIT                                                             \
	(MILL_EDIT_ADD_HEADER | MILL_EDIT_CHANGE_HEADER | MILL_EDIT_BODY |     \
	    MILL_EDIT_ADD_RCPT | MILL_EDIT_DEL_RCPT | MILL_EDIT_SENDER |       \
	    MILL_EDIT_QUARANTINE)

static struct mill_filter all = { .abi = MILL_ABI,
	.name = "fuzz",
	.connect = on_connect,
	.helo = on_helo,
	.mail = on_mail,
	.rcpt = on_rcpt,
	.headers = on_headers,
	.message = on_message,
	.edits = EVERY_EDIT,
	.max_body = 1000,
	.oversize = MILL_CONTINUE,
	.macros = {
	    [MILL_AT_MAIL] = "{mail_addr}", [MILL_AT_MESSAGE] = "{msg_id}" } };
static struct mill_filter few = { .abi = MILL_ABI,
	.name = "fuzz",
	.message = on_message,
	.edits = EVERY_EDIT,
	.without = MILL_WITHOUT_CLIENT | MILL_WITHOUT_HELO |
	    MILL_WITHOUT_SENDER | MILL_WITHOUT_RCPTS };

/* take_out - keep what leaves */
static void
take_out(struct mta *m, struct buf *all_out)
{
	check(buf_add(all_out, m->out.data != NULL ? m->out.data : "",
	          m->out.len) == 0);
	m->out.len = 0;
}

static enum mta_next
go(struct mta *m, const uint8_t *data, size_t n, struct buf *out)
{
	enum mta_next next = mta_take(m, data, n, false);

	while (next == MTA_WRITE || next == MTA_SLOW) {
		check(next == MTA_WRITE || m->out.len == 0);
		take_out(m, out);
		next = mta_take(m, NULL, 0, next == MTA_SLOW);
	}
	take_out(m, out);
	return (next);
}

/* answers - finals in what left; edits only before the end's */
static size_t
answers(const struct buf *out)
{
	struct milter_packet pkt;
	size_t off = 0, n = 0;
	long len;

	while (off < out->len) {
		len = milter_next(
		    out->data + off, out->len - off, MILTER_CHUNK, &pkt);
		check(len > 0);
		check(milter_is_edit(pkt.code) ||
		    strchr("Ocardty", pkt.code) != NULL);
		n += pkt.code != 'O' && !milter_is_edit(pkt.code);
		off += (size_t)len;
	}
	return (n);
}

/* wanted - answers for which the MTA waits, if all was handled */
static size_t
wanted(const struct mta *m, const uint8_t *data, size_t size)
{
	static const struct {
		char cmd;
		uint32_t nr;
	} nr[] = { { 'C', MILTER_NR_CONNECT }, { 'H', MILTER_NR_HELO },
		{ 'M', MILTER_NR_MAIL }, { 'R', MILTER_NR_RCPT },
		{ 'T', MILTER_NR_DATA }, { 'L', MILTER_NR_HEADER },
		{ 'N', MILTER_NR_EOH }, { 'B', MILTER_NR_BODY }, { 'E', 0 },
		{ 'U', MILTER_NR_UNKNOWN } };
	struct milter_packet pkt;
	size_t i, n = 0;
	long len;

	while ((len = milter_next(data, size, MILTER_CHUNK, &pkt)) > 0) {
		for (i = 0; i < sizeof(nr) / sizeof(nr[0]); i++)
			n += nr[i].cmd == pkt.code &&
			    (m->terms.no_reply & nr[i].nr) == 0;
		data += len;
		size -= (size_t)len;
	}
	return (n);
}

/* has_options - a second negotiation changes which answers are waited for */
static bool
has_options(const uint8_t *data, size_t size)
{
	struct milter_packet pkt;
	bool found = false;
	long len;

	while ((len = milter_next(data, size, MILTER_CHUNK, &pkt)) > 0) {
		found |= pkt.code == MILTER_OPTNEG;
		data += len;
		size -= (size_t)len;
	}
	return (found);
}

/* progress - nobody calls it: no thread tells */
static void
progress(struct mill_txn *t)
{
	(void)t;
}

static enum mta_next
talk(unsigned choices, size_t step, const uint8_t *data, size_t size,
    struct buf *out)
{
	static const uint8_t offer[] = { 0, 0, 0, 13, 'O', 0, 0, 0, 6, 0, 0, 1,
		0xff, 0, 0x1f, 0xff, 0xff };
	const struct mill_filter *f = choices & FEW_STAGES ? &few : &all;
	enum mta_next next = MTA_READ;
	struct mta m;
	size_t i, n;

	all.quick = few.quick = choices & SLOW ? 0 : MILL_QUICK_ALL;
	mta_init(&m, f);
	m.progress = progress;
	if ((choices & NEGOTIATED) != 0)
		check(go(&m, offer, sizeof(offer), out) == MTA_READ);
	for (i = 0; i < size && next == MTA_READ; i += n) {
		n = step != 0 && step < size - i ? step : size - i;
		if (n > MTA_READ_MAX)
			n = MTA_READ_MAX;
		next = go(&m, data + i, n, out);
	}
	n = answers(out);
	if (m.negotiated && !has_options(data, size))
		check(next == MTA_READ ? n == wanted(&m, data, size)
		                       : n <= wanted(&m, data, size));
	mta_fini(&m);
	check(session_in_hand() == 0);
	return (next);
}

static void
load(void)
{
	static struct loaded *l;
	struct buf errors = BUF_INIT(1024);

	if (l != NULL)
		return;
	log_set_level(-1);
	l = loaded_read(&all, NULL, NULL, &errors);
	session_set_loaded(l);
	buf_fini(&errors);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf once = BUF_INIT(1 << 26), cut = BUF_INIT(1 << 26);
	enum mta_next next;

	if (size < 2)
		return (0);
	load();
	next = talk(data[0], 0, data + 2, size - 2, &once);
	if ((data[0] & CUT) != 0) {
		check(talk(data[0], (size_t)data[1] + 1, data + 2, size - 2,
		          &cut) == next);
		check(cut.len == once.len &&
		    (cut.len == 0 ||
		        memcmp(cut.data, once.data, cut.len) == 0));
	}
	buf_fini(&once);
	buf_fini(&cut);
	return (0);
}
