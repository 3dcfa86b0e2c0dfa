/* SPDX-License-Identifier: ISC */

/*
 * stream - a large message goes to the milters while it still arrives
 *
 * They are told of the body in steps of stream-size, straight from the store's
 * file, so that it lies nowhere twice.  When they have refused it the rest is
 * read and dropped; the reply comes at the end of data, as it would have.
 */

#include "core/receiver/receiver.h"

#include <sys/mman.h>

enum { MAP_MIN = 4 << 20 };

void
stream_fini(struct stream *m)
{
	if (m->map != NULL)
		(void)munmap(m->map, m->map_len);
	m->map = NULL;
}

/* look - the message's body is what has come of it.  The mapping reaches beyond
 * the end of the file, into which the body grows. */
static int
look(struct transaction *t)
{
	struct stream *m = &t->stream;
	const struct store *st = &t->store;

	if (m->map == NULL || m->fd != st->fd || m->map_len < st->len) {
		stream_fini(m);
		m->fd = st->fd;
		m->map_len =
		    2 * st->len > MAP_MIN ? 2 * (size_t)st->len : MAP_MIN;
		m->map = mmap(NULL, m->map_len, PROT_READ, MAP_SHARED, st->fd,
		    (off_t)st->front);
		if (m->map == MAP_FAILED) {
			m->map = NULL;
			return (-1);
		}
	}
	t->msg.body = m->map;
	t->msg.body_len = (size_t)st->len;
	return (0);
}

/* never - this message is told when it is whole */
static void
never(struct transaction *t)
{
	t->stream.next = UINT64_MAX;
}

static void
begin(struct session *s)
{
	struct transaction *t = s->tx;

	if (t->data.hops > s->settings->limits.hops || t->data.ended ||
	    t->discard || look(t) == -1) {
		never(t);
	} else if (submit_fields(s) == -1) {
		message_fini(&t->msg);
		message_init(&t->msg);
		never(t);
	} else if (chain_stream(s->chain, &t->msg, &t->env)) {
		t->stream.on = true;
	} else {
		t->stream.on = true; /* the fields are there already */
		never(t);
	}
}

/* drop - refused: the rest is read, and kept by nobody */
static void
drop(struct transaction *t)
{
	stream_fini(&t->stream);
	t->msg.body = "";
	store_drop(&t->store);
	never(t);
}

void
stream_step(struct session *s)
{
	struct transaction *t = s->tx;
	struct store *st = &t->store;

	if (t->data.fault != DATA_GOOD || st->fd == -1)
		return;
	if (st->len >= t->stream.next) {
		t->stream.next = st->len + s->settings->limits.stream_size;
		if (!t->stream.on)
			begin(s);
		else if (look(t) == 0)
			chain_stream_more(s->chain);
	}
	if (t->stream.on && chain_stream_over(s->chain))
		drop(t);
}
