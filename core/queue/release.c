/* SPDX-License-Identifier: ISC */

/*
 * release - a message that milters hold, through the chain again
 *
 * A receiver gets it as it was received and asks the chain without those
 * milters.  What comes of it is put in the place of the held message, in one
 * batch of the journal; until that is on stable storage the message is held.
 * So whoever is killed, and whenever: it is held, or it is in the queue.
 */

#include "core/queue/queue.h"

#include "milter-sdk/base/json.h"
#include "milter-sdk/base/log.h"
#include "quarantine/quarantine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	INLINE_MAX = 60 << 10, /* content up to this travels in the frame */
	SIGN_MS = 4000,        /* who waits is told that it goes on */
	TEXT_MAX = 2000
};

struct release {
	TAILQ_ENTRY(release) link;
	uint64_t ref; /* of MSG_RELEASE */
	struct entry *e;
	unsigned receiver;
	uint64_t receiver_gen;
	bool put;  /* what came of it waits for its sync */
	bool gone; /* for good: e is freed */
	char *without;
	struct buf ids; /* of what came of it, as JSON */
	uint64_t rcpts; /* of that */
	release_done_fn *done;
	void *arg;
	uint64_t cmd; /* of who waits */
	uint64_t said_ms;
};

static void
finish(struct queue *q, struct release *l, const char *why)
{
	TAILQ_REMOVE(&q->releases, l, link);
	if (!l->gone)
		l->e->flags &= (uint16_t)~E_RELEASING;
	l->done(q, l->arg, l->cmd, l->gone ? l->ids.data : NULL, why);
	free(l->without);
	buf_fini(&l->ids);
	free(l);
	queue_kick(q);
}

/* kept - it stays held; who: the milter whose word that was, or "" */
static void
kept(struct queue *q, struct release *l, const char *who, const char *why)
{
	char text[TEXT_MAX], a[300], b[500];
	struct entry *e = l->e;

	(void)snprintf(text, sizeof(text), "not released: %s%s%s%.1500s",
	    who[0] != '\0' ? "milter " : "", who, who[0] != '\0' ? ": " : "",
	    why);
	log_info("%s: held: by=%s, reason=%s", e->id,
	    log_quote(a, sizeof(a), who), log_quote(b, sizeof(b), text));
	spool_put_hold(q->spool, e->seq, true, text);
	entry_set_reason(e, text);
	finish(q, l, text);
}

/* content_fd - for a receiver: the body's own file, or a copy; never a segment,
 * which holds other messages too */
static int
content_fd(struct queue *q, struct entry *e, const struct spool_place *place,
    uint64_t *offset_r)
{
	struct buf b = BUF_INIT(place->length + 1);
	size_t done;
	ssize_t n;
	int fd = -1;

	if (spool_has_file(q->spool, e->seq)) {
		*offset_r = place->offset;
		return (spool_file_fd(q->spool, place->file));
	}
	*offset_r = 0;
	if (spool_read_content(q->spool, e->seq, &b, place->length) == -1 ||
	    (fd = memfd_create("content", MFD_CLOEXEC)) == -1)
		goto fail;
	for (done = 0; done < b.len; done += (size_t)n)
		if ((n = write(fd, b.data + done, b.len - done)) <= 0)
			goto fail;
	buf_fini(&b);
	return (fd);
fail:
	if (fd != -1)
		(void)close(fd);
	buf_fini(&b);
	return (-1);
}

/* hand_over - MSG_RELEASE; -1 with errno */
static int
hand_over(struct queue *q, struct release *l, struct hot *h)
{
	struct receiver *r = &q->receivers[l->receiver];
	const struct spool_place *place = &h->place;
	struct buf b = BUF_INIT(FRAME_MAX), origin = BUF_INIT(FRAME_MAX);
	struct buf content = BUF_INIT(INLINE_MAX + 1);
	struct packer k = { &b, false };
	uint64_t offset = 0;
	int fd = -1, rc = -1;

	if (spool_read_origin(q->spool, l->e->seq, &origin) == -1)
		goto done;
	if (place->length <= INLINE_MAX
	        ? spool_read_content(
	              q->spool, l->e->seq, &content, place->length) == -1
	        : (fd = content_fd(q, l->e, place, &offset)) == -1)
		goto done;
	env_pack(&k, &h->env);
	pack_u64(&k, place->length);
	pack_u64(&k, offset);
	pack_u32(&k, place->crc);
	pack_blob(&k, content.data, content.len);
	pack_blob(&k, origin.data, origin.len);
	pack_str(&k, l->without);
	if (pack_end(&k) == 0 &&
	    (rc = chan_send_buf(r->ch, MSG_RELEASE, l->ref, &b, fd)) == 0)
		fd = -1;
done:
	if (fd != -1)
		(void)close(fd);
	buf_fini(&b);
	buf_fini(&origin);
	buf_fini(&content);
	return (rc);
}

/* pick - a receiver, in turn; NULL: there is none */
static struct receiver *
pick(struct queue *q)
{
	unsigned i;

	for (i = 0; i < RECEIVERS_MAX; i++) {
		q->next_receiver = (q->next_receiver + 1) % RECEIVERS_MAX;
		if (q->receivers[q->next_receiver].ch != NULL)
			return (&q->receivers[q->next_receiver]);
	}
	return (NULL);
}

const char *
release_start(struct queue *q, struct entry *e, const char *more,
    release_done_fn *done, void *arg, uint64_t cmd)
{
	struct hot *h = entry_env(q, e);
	struct receiver *r = pick(q);
	struct release *l;

	if ((e->flags & E_RELEASING) != 0)
		return ("it is being released");
	if (h == NULL)
		return ("it cannot be read");
	if (r == NULL)
		return ("no receiver runs now");
	if (q->stopping)
		return ("the gateway is stopping");
	if ((l = calloc(1, sizeof(*l))) == NULL ||
	    (l->without = quarantine_names_add(h->env.hold_by, more)) == NULL)
		queue_oom();
	l->ids = (struct buf)BUF_INIT(64 << 10);
	l->ref = ++q->next_ref;
	l->e = e;
	l->receiver = r->index;
	l->receiver_gen = r->gen;
	l->done = done;
	l->arg = arg;
	l->cmd = cmd;
	l->said_ms = queue_now_ms();
	if (hand_over(q, l, h) == -1) {
		log_err("%s: release: %s", e->id, strerror(errno));
		free(l->without);
		free(l);
		return ("it cannot be handed to a receiver");
	}
	e->flags |= E_RELEASING;
	TAILQ_INSERT_TAIL(&q->releases, l, link);
	return (NULL);
}

struct release *
release_find(struct receiver *r, const char *id)
{
	struct release *l;

	TAILQ_FOREACH (l, &r->q->releases, link)
		if (l->receiver == r->index && l->receiver_gen == r->gen &&
		    !l->put && strcmp(l->e->id, id) == 0)
			return (l);
	return (NULL);
}

uint64_t
release_put(struct release *l)
{
	l->put = true;
	return (l->e->seq);
}

void
release_unput(struct release *l)
{
	l->put = false;
	l->ids.len = 0;
	l->rcpts = 0;
}

/* release_durable - one of those that came of it; last: all are */
void
release_durable(
    struct queue *q, struct release *l, const struct entry *e, bool last)
{
	char room[300];

	log_info("%s: released as %s, without=%s", l->e->id, e->id,
	    log_quote(room, sizeof(room), l->without));
	if (buf_addf(&l->ids, "%s\"%s\"", l->ids.len > 0 ? "," : "", e->id) ==
	    -1)
		queue_oom();
	l->rcpts += e->n_rcpts;
	if (!last)
		return;
	if (l->rcpts > l->e->left) /* milters have added some */
		q->counters.recipients[0] += l->rcpts - l->e->left;
	entry_free(q, l->e);
	l->gone = true;
	finish(q, l, NULL);
}

void
release_answered(struct receiver *r, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	bool submitted = unpack_u8(&u) != 0;
	const char *who = unpack_str(&u), *why = unpack_str(&u);
	struct release *l;

	if (f->fd != -1)
		(void)close(f->fd);
	TAILQ_FOREACH (l, &r->q->releases, link)
		if (l->ref == f->ref && l->receiver == r->index &&
		    l->receiver_gen == r->gen)
			break;
	if (l == NULL || l->put)
		return; /* what was put is told when it is durable */
	if (unpack_end(&u) == -1 || submitted)
		who = "", why = "the receiver's answer makes no sense";
	kept(r->q, l, who, why);
}

void
release_receiver_gone(struct receiver *r)
{
	struct release *l, *next;

	for (l = TAILQ_FIRST(&r->q->releases); l != NULL; l = next) {
		next = TAILQ_NEXT(l, link);
		if (l->receiver == r->index && !l->put)
			kept(r->q, l, "",
			    "the process that asked the milters has ended");
	}
}

void
release_tick(struct queue *q, uint64_t now)
{
	struct release *l;

	TAILQ_FOREACH (l, &q->releases, link)
		if (now - l->said_ms >= SIGN_MS) {
			l->said_ms = now;
			child_reply(q->c, l->cmd, false, "\n", 1);
		}
}
