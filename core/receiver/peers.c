/* SPDX-License-Identifier: ISC */

/*
 * peers - the channels to queue and lookup
 *
 * A session has one question open at most; the reference of a question names
 * the session's slot and a serial, so that a late answer finds nobody instead
 * of somebody else.  When a channel is lost, every question on it is answered
 * with "nobody".
 */

#include "core/receiver/receiver.h"

#include "milter-sdk/base/pack.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOT_BITS = 20 };

int
session_more(struct session *s, struct chan *ch, uint16_t type,
    const struct buf *payload, int fd)
{
	uint64_t ref =
	    (uint64_t)(s->r->serial + 1) << SLOT_BITS | (uint64_t)s->slot;

	return (ch == NULL
	        ? -1
	        : chan_send(ch, type, ref, payload->data, payload->len, fd));
}

int
session_ask(struct session *s, struct chan *ch, uint16_t type,
    const struct buf *payload, int fd, uint64_t limit_ms, answer_fn *fn)
{
	uint64_t ref =
	    (uint64_t)++s->r->serial << SLOT_BITS | (uint64_t)s->slot;

	if (ch == NULL ||
	    chan_send(ch, type, ref, payload != NULL ? payload->data : NULL,
	        payload != NULL ? payload->len : 0, fd) == -1)
		return (-1);
	s->answered = fn;
	s->asked = ch;
	s->ask_ref = ref;
	s->wait = WAIT_PEER;
	s->deadline_ms = now_ms() + limit_ms;
	return (0);
}

static void
answer(struct session *s, struct frame *f)
{
	answer_fn *fn = s->answered;

	s->wait = WAIT_NOTHING;
	s->answered = NULL;
	s->asked = NULL;
	fn(s, f);
	session_go(s);
}

static void
on_accepting(struct receiver *r, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	bool yes = unpack_u8(&u) != 0;
	const char *reply = unpack_str(&u);
	char *copy;

	if (unpack_end(&u) == -1 || (copy = strdup(reply)) == NULL)
		return;
	free(r->refusal);
	r->refusal = copy;
	if (r->accepting != yes)
		log_info("receiver: accepting: %s", yes ? "yes" : reply);
	r->accepting = yes;
}

static void
on_frame(void *arg, struct chan *ch, struct frame *f)
{
	struct receiver *r = arg;
	size_t slot = f->ref & ((1u << SLOT_BITS) - 1);
	struct session *s;

	if (f->type == MSG_ACCEPTING && ch == r->queue)
		on_accepting(r, f);
	else if (f->type == MSG_RELEASE && ch == r->queue)
		release_frame(r, f);
	else if (slot < r->n_slots && (s = r->slots[slot]) != NULL &&
	    s->wait == WAIT_PEER && s->ask_ref == f->ref && s->asked == ch)
		answer(s, f);
	if (f->fd != -1)
		(void)close(f->fd);
}

/* forget - nobody will answer on this channel any more */
static void
forget(struct receiver *r, struct chan *ch)
{
	size_t i;

	for (i = 0; i < r->n_slots; i++)
		if (r->slots[i] != NULL && r->slots[i]->wait == WAIT_PEER &&
		    r->slots[i]->asked == ch)
			answer(r->slots[i], NULL);
}

static void
on_gone(void *arg, struct chan *ch)
{
	struct receiver *r = arg;
	struct chan **place = ch == r->queue ? &r->queue : &r->lookup;

	log_warning(
	    "receiver: lost: peer=%s", ch == r->queue ? "queue" : "lookup");
	*place = NULL; /* before answers are given: they may ask again */
	forget(r, ch);
	chan_free(&ch);
}

void
peers_set(struct receiver *r, enum proc_kind kind, int sock)
{
	struct chan **place, *old, *ch;

	if (kind != PROC_QUEUE && kind != PROC_LOOKUP) {
		(void)close(sock);
		return;
	}
	ch = chan_new(r->child->base, sock, on_frame, on_gone, r);
	if (ch == NULL) {
		(void)close(sock);
		return;
	}
	place = kind == PROC_QUEUE ? &r->queue : &r->lookup;
	old = *place;
	*place = ch;
	if (kind == PROC_QUEUE)
		r->accepting = true; /* until it says otherwise */
	if (old != NULL) {
		forget(r, old);
		chan_free(&old);
	}
	doors_sort(r);
}

void
peers_close(struct receiver *r)
{
	chan_free(&r->queue);
	chan_free(&r->lookup);
}
