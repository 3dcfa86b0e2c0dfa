/* SPDX-License-Identifier: ISC */

/* recording - a session's traffic with one milter, for mill(1) replay */

#include "core/milter/chain_int.h"

#include "milter-sdk/base/tape.h"

#include <stdlib.h>
#include <string.h>

/* room_for - the end mark must fit too */
enum { END_ROOM = 64 };

static void
put(struct link *l, char kind, const void *data, size_t len)
{
	struct recording *r = l->recording;
	const size_t need = len + TAPE_ENTRY_HDR;

	if (r == NULL || r->cut)
		return;
	if (r->tape.len + need + END_ROOM > RECORDING_MAX ||
	    r->engine->recorded + need > RECORDINGS_TOTAL ||
	    tape_put(&r->tape, kind, now_us() - r->begin_us, data, len) == -1) {
		r->cut = true; /* without a hole: nothing follows */
		return;
	}
	r->counted += need;
	r->engine->recorded += need;
}

static void
fact(struct link *l, const char *name, const char *value)
{
	struct buf b = BUF_INIT(4096);

	if (buf_add(&b, name, strlen(name) + 1) == 0 &&
	    buf_add(&b, value, strlen(value) + 1) == 0)
		put(l, TAPE_FACT, b.data, b.len);
	buf_fini(&b);
}

/* is_wanted - by the milter's block or the listener's */
static bool
is_wanted(const struct link *l)
{
	const struct settings *s = l->chain->settings;
	size_t i;

	if (l->chain->engine->recording_fn == NULL)
		return (false);
	if (l->conf->record != NULL)
		return (true);
	for (i = 0; i < s->n_listeners; i++)
		if (s->listeners[i].record != NULL &&
		    strcmp(s->listeners[i].name, l->chain->facts->listener) ==
		        0)
			return (true);
	return (false);
}

void
recording_begin(struct link *l)
{
	struct engine *e = l->chain->engine;
	struct recording *r;

	if (l->recording != NULL || !is_wanted(l) ||
	    e->recorded >= RECORDINGS_TOTAL ||
	    (r = calloc(1, sizeof(*r))) == NULL)
		return;
	r->tape.max = RECORDING_MAX + 1;
	r->engine = e;
	r->begin_us = now_us();
	if (tape_begin(&r->tape) == -1) {
		free(r);
		return;
	}
	l->recording = r;
	fact(l, "milter", l->conf->name);
	fact(l, "listener", l->chain->facts->listener);
	fact(l, "host", l->chain->facts->hostname);
}

void
recording_connected(struct link *l, bool pooled)
{
	const char *how = pooled ? "pooled" : "new";

	if (l->recording == NULL)
		return;
	put(l, TAPE_CONNECTED, how, strlen(how));
	l->conn->out_noted = l->conn->out.len; /* the last session's end */
	if (pooled)
		recording_options(l);
}

void
recording_options(struct link *l)
{
	struct buf b = BUF_INIT(MILTER_HDR + MILTER_CHUNK);

	if (l->recording != NULL && milter_put_options(&b, &l->conn->opts) == 0)
		put(l, TAPE_OPTIONS, b.data + MILTER_HDR, b.len - MILTER_HDR);
	buf_fini(&b);
}

void
recording_to(struct conn *c, size_t end)
{
	struct milter_packet pkt;
	long n;

	while (c->out_noted < end &&
	    (n = milter_next(c->out.data + c->out_noted, end - c->out_noted,
	         MILTER_PAYLOAD_MAX, &pkt)) > 0) {
		put(c->link, TAPE_TO,
		    c->out.data + c->out_noted + MILTER_HDR - 1, pkt.len + 1);
		c->out_noted += (size_t)n;
	}
}

void
recording_from(struct link *l, const struct milter_packet *pkt)
{
	/* The code stands right before the payload. */
	if (l->recording != NULL)
		put(l, TAPE_FROM, pkt->data - 1, pkt->len + 1);
}

void
recording_closed(struct link *l)
{
	if (l->conn != NULL)
		put(l, TAPE_CLOSED, "", 0);
}

void
recording_end(struct link *l)
{
	struct recording *r = l->recording;
	const char *how;

	if (r == NULL)
		return;
	l->recording = NULL;
	how = r->cut ? "cut" : "complete";
	r->engine->recorded -= r->counted;
	if (tape_put(&r->tape, TAPE_END, now_us() - r->begin_us, how,
	        strlen(how)) == 0)
		r->engine->recording_fn(r->engine->recording_arg, l->conf->name,
		    l->chain->facts->listener, &r->tape);
	buf_fini(&r->tape);
	free(r);
}
