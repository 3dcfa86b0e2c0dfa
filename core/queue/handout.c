/* SPDX-License-Identifier: ISC */

/*
 * handout - recipients into the relays' hands and back
 *
 * A relay gets a descriptor once per file and then ranges in it.  When it dies
 * its hand-outs wait again; a message that was in hand at each of three deaths
 * is held.  So that bystanders do not share its fate, a message that saw a
 * death is handed out only while no other such one is in that relay's hands.
 */

#include "core/queue/queue.h"

#include "milter-sdk/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BACKLOG_MAX = 8 << 20 };

static struct relay_file *
file_find(struct relay *r, uint64_t file)
{
	unsigned i;

	for (i = r->n_files; i-- > 0;)
		if (r->files[i].file == file)
			return (&r->files[i]);
	return (NULL);
}

static void
file_forget(struct relay *r, struct relay_file *f)
{
	struct buf b = BUF_INIT(64);
	struct packer k = { &b, false };

	pack_u64(&k, f->file);
	if (r->ch != NULL &&
	    (pack_end(&k) == -1 ||
	        chan_send_buf(r->ch, MSG_SEGMENT_DROP, 0, &b, -1) == -1))
		log_warning("relay.%u: segment: %s", r->index, strerror(errno));
	buf_fini(&b);
	memmove(
	    f, f + 1, (size_t)(&r->files[r->n_files] - (f + 1)) * sizeof(*f));
	r->n_files--;
}

void
relay_drop_file(struct relay *r, uint64_t file)
{
	struct relay_file *f = file_find(r, file);

	if (f != NULL)
		file_forget(r, f);
}

/* file_send - the relay has, or gets now, a descriptor of that file */
static struct relay_file *
file_send(struct relay *r, uint64_t file)
{
	struct relay_file *f = file_find(r, file);
	struct buf b = BUF_INIT(64);
	struct packer k = { &b, false };
	unsigned i;
	int fd;

	if (f != NULL)
		return (f);
	if (r->n_files == RELAY_FILES_MAX) {
		for (i = 0; i < r->n_files && r->files[i].flights > 0; i++)
			;
		if (i == r->n_files)
			return (NULL); /* cannot be: fewer hand-outs */
		file_forget(r, &r->files[i]);
	}
	if ((fd = spool_file_fd(r->q->spool, file)) == -1)
		return (NULL);
	pack_u64(&k, file);
	if (pack_end(&k) == -1 ||
	    chan_send_buf(r->ch, MSG_SEGMENT, 0, &b, fd) == -1) {
		(void)close(fd);
		buf_fini(&b);
		return (NULL);
	}
	buf_fini(&b);
	f = &r->files[r->n_files++];
	f->file = file;
	f->flights = 0;
	return (f);
}

/* send_deliver - MSG_DELIVER with just those recipients */
static int
send_deliver(struct relay *r, const struct handout *h, const struct hot *hot)
{
	static struct buf b = BUF_INIT(FRAME_MAX); /* used again each time */
	struct packer k = { &b, false };
	struct envelope env = hot->env;
	struct rcpt rcpts[HANDOUT_RCPTS_MAX];
	uint32_t i;

	for (i = 0; i < h->n; i++)
		rcpts[i] = hot->env.rcpts[h->rcpts[i]];
	env.rcpts = rcpts;
	env.n_rcpts = h->n;
	b.len = 0;
	pack_u64(&k, hot->place.file);
	pack_u64(&k, hot->place.offset);
	pack_u64(&k, hot->place.length);
	pack_u32(&k, hot->place.crc);
	pack_str(&k, h->site->host);
	pack_u16(&k, h->site->port);
	env_pack(&k, &env);
	if (pack_end(&k) == -1)
		return (-1);
	return (chan_send_buf(r->ch, MSG_DELIVER, h->ref, &b, -1));
}

/* gather - up to a hand-out of those that wait for the site; more_r if some
 * are left */
static struct handout *
gather(
    struct site *s, struct entry *e, const struct envelope *env, bool *more_r)
{
	uint32_t found[HANDOUT_RCPTS_MAX], i, n = 0;
	struct handout *h;

	*more_r = false;
	for (i = 0; i < e->n_rcpts; i++) {
		if (entry_state(e, i) != R_WAIT ||
		    !site_is(s, &env->rcpts[i].route))
			continue;
		if (n == HANDOUT_RCPTS_MAX) {
			*more_r = true;
			break;
		}
		found[n++] = i;
	}
	if (n == 0)
		return (NULL);
	if ((h = calloc(1, sizeof(*h) + n * sizeof(h->rcpts[0]))) == NULL)
		queue_oom();
	h->n = n;
	memcpy(h->rcpts, found, n * sizeof(found[0]));
	return (h);
}

/* begin - count it in every place that handout_end() counts it out */
static void
begin(struct relay *r, struct handout *h, struct relay_file *f)
{
	struct site *s = h->site;
	uint32_t i;

	for (i = 0; i < h->n; i++)
		entry_set_state(r->q, h->e, h->rcpts[i], R_FLIGHT);
	r->slots[h->ref & 255] = h;
	r->flights++;
	r->q->n_flights++;
	f->flights++;
	h->e->flights++;
	s->flights++;
	s->probe = false;
	if (h->suspect)
		r->suspects++;
	entry_defer_flag(r->q, h->e, false);
}

void
handout_end(struct handout *h)
{
	struct relay *r = h->relay;
	struct queue *q = r->q;
	struct relay_file *f = file_find(r, h->file);
	struct site *s;

	r->slots[h->ref & 255] = NULL;
	r->flights--;
	q->n_flights--;
	if (f != NULL && f->flights > 0)
		f->flights--;
	spool_unpin(q->spool, h->file);
	h->e->flights--;
	h->site->flights--;
	site_update(q, h->site);
	if (h->suspect) {
		r->suspects--;
		while ((s = TAILQ_FIRST(&r->aside)) != NULL) {
			TAILQ_REMOVE(&r->aside, s, link);
			s->where = SITE_NOWHERE;
			site_update(q, s);
		}
	}
	free(h);
	queue_kick(q);
}

/* set_aside - the site's next message must wait for another suspect */
static void
set_aside(struct relay *r, struct site *s)
{
	TAILQ_REMOVE(&r->ready, s, link);
	TAILQ_INSERT_TAIL(&r->aside, s, link);
	s->where = SITE_ASIDE;
}

/* advance - the job was served; its site goes behind the others */
static void
advance(struct relay *r, struct site *s, struct job *j, bool more)
{
	if (more) {
		TAILQ_REMOVE(&s->jobs, j, in_site);
		TAILQ_INSERT_TAIL(&s->jobs, j, in_site);
	} else
		site_del_job(r->q, j);
	site_update(r->q, s);
	if (s->where == SITE_READY) {
		TAILQ_REMOVE(&r->ready, s, link);
		TAILQ_INSERT_TAIL(&r->ready, s, link);
	}
}

/* hand_out - one hand-out for the site.  -1: not now, e.g. the channel is full
 */
static int
hand_out(struct relay *r, struct site *s)
{
	struct job *j = TAILQ_FIRST(&s->jobs);
	struct queue *q = r->q;
	struct entry *e = j->e;
	struct relay_file *f = NULL;
	struct handout *h;
	struct hot *hot;
	unsigned slot;
	bool more;

	if (e->deaths > 0 && r->suspects > 0) {
		set_aside(r, s);
		return (0);
	}
	if ((hot = entry_env(q, e)) == NULL) {
		entry_hold(q, e, "cannot be read from the spool");
		return (0);
	}
	if ((h = gather(s, e, &hot->env, &more)) == NULL) {
		site_del_job(q, j);
		entry_route_again(q, e);
		return (0);
	}
	for (slot = 0; r->slots[slot] != NULL; slot++)
		;
	h->ref = ++q->next_ref << 8 | slot;
	h->e = e;
	h->site = s;
	h->relay = r;
	h->gen = s->gen;
	h->suspect = e->deaths > 0;
	/* It may have been moved since its envelope was read. */
	if (spool_pin(q->spool, hot->place.file) == -1 &&
	    (spool_read_place(q->spool, e->seq, &hot->place) == -1 ||
	        spool_pin(q->spool, hot->place.file) == -1)) {
		free(h);
		entry_hold(q, e, "content is missing from the spool");
		return (0);
	}
	h->file = hot->place.file;
	if ((f = file_send(r, h->file)) == NULL ||
	    send_deliver(r, h, hot) == -1) {
		log_err("relay.%u: hand-out: %s", r->index, strerror(errno));
		spool_unpin(q->spool, h->file);
		free(h);
		return (-1);
	}
	begin(r, h, f);
	advance(r, s, j, more);
	return (0);
}

void
relay_pump(struct relay *r)
{
	struct queue *q = r->q;
	struct site *s;

	if (r->ch == NULL || q->paused || q->stopping)
		return;
	while (r->flights < HANDOUTS_MAX && chan_backlog(r->ch) < BACKLOG_MAX &&
	    (s = TAILQ_FIRST(&r->ready)) != NULL)
		if (hand_out(r, s) == -1)
			return;
}

/* took_down - the message was in hand when the relay died */
static void
took_down(struct relay *r, struct handout *h)
{
	struct queue *q = r->q;
	struct entry *e = h->e;
	struct site *s = h->site;
	uint32_t i;

	for (i = 0; i < h->n; i++)
		if (entry_state(e, h->rcpts[i]) == R_FLIGHT)
			entry_set_state(q, e, h->rcpts[i], R_WAIT);
	handout_end(h);
	if (!q->stopping && ++e->deaths >= DEATHS_MAX &&
	    (e->flags & (E_GONE | E_HELD)) == 0) {
		entry_hold(q, e, "in hand when a relay died, three times");
		queue_alarm(q, "poison", e->reason != NULL ? e->id : "");
	} else if ((e->flags & (E_GONE | E_HELD)) == 0)
		site_add_job(q, s, e);
	entry_settle(q, e);
}

void
relay_gone(struct relay *r)
{
	unsigned i;

	if (r->ch == NULL)
		return;
	chan_free(&r->ch);
	r->n_files = 0;
	if (r->flights > 0)
		log_warning(
		    "relay.%u: gone: handouts=%u", r->index, r->flights);
	for (i = 0; i < HANDOUTS_MAX; i++)
		if (r->slots[i] != NULL)
			took_down(r, r->slots[i]);
}

static void
on_frame(void *arg, struct chan *ch, struct frame *f)
{
	struct relay *r = arg;

	(void)ch;
	if (f->type == MSG_OUTCOME)
		outcome_frame(r, f);
	else
		notice_frame(r->q, f);
}

static void
on_gone(void *arg, struct chan *ch)
{
	(void)ch;
	relay_gone(arg);
}

void
relay_set(struct queue *q, unsigned index, int sock)
{
	struct relay *r = &q->relays[index];

	relay_gone(r);
	r->ch = chan_new(q->c->base, sock, on_frame, on_gone, r);
	if (r->ch == NULL)
		queue_oom();
	queue_kick(q);
}
