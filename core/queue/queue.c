/* SPDX-License-Identifier: ISC */

/*
 * queue - the process that owns the spool and the schedule
 *
 * All work of one pass of the loop is collected: messages put by any receiver
 * share a batch of the journal, hand-outs to a relay share a write.  The pass
 * runs when something asked for it, or when the first timer is due.
 */

#include "core/queue/queue.h"

#include "milter-sdk/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
	TICK_MS = 50,     /* while the spool has something to do */
	RECORDS_MS = 500, /* records wait at most so long for their write */
	IDLE_MS = 5000,
	DISCARD_MAX = 10000, /* recipients of one message */
	STOP_MS = 5000       /* for hand-outs in flight */
};

uint64_t
queue_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return ((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

uint32_t
queue_random(void)
{
	uint32_t v = 0;

	(void)!getrandom(&v, sizeof(v), 0);
	return (v);
}

/* queue_oom - half a message in memory is worse than a restart: the spool has
 * all that was promised */
void
queue_oom(void)
{
	log_err("queue: %s", strerror(ENOMEM));
	_exit(EX_OSERR);
}

void
queue_kick(struct queue *q)
{
	static const struct timeval now = { 0, 0 };

	if (q->kicked || q->ev == NULL)
		return;
	q->kicked = true;
	(void)event_add(q->ev, &now);
}

void
queue_alarm(struct queue *q, const char *kind, const char *text)
{
	child_alarm(q->c, kind, text);
}

static void
on_alarm(void *arg, const char *kind, const char *text)
{
	queue_alarm(arg, kind, text);
}

/* on_found - a message that the spool kept over the restart */
static void
on_found(void *arg, struct spool_found *f)
{
	struct queue *q = arg;
	struct entry *e = entry_new(q, &f->env, f->seq, f->place.length);
	uint32_t i;

	for (i = 0; i < e->n_rcpts; i++)
		entry_set_state(q, e, i,
		    f->states[i] == RCPT_DONE         ? R_DONE
		        : f->states[i] == RCPT_FAILED ? R_FAILED
		                                      : R_LATER);
	e->attempts =
	    f->attempts > UINT16_MAX ? UINT16_MAX : (uint16_t)f->attempts;
	e->next_ms = f->next_try_ms != 0 ? f->next_try_ms : 1;
	/* Whether the warning left is not known: once is better than twice. */
	if (queue_now_ms() > e->arrival_ms + q->c->settings->queue.warn_ms)
		e->flags |= E_WARNED;
	/* A try beyond the expiry: it was released from hold since. */
	if (e->next_ms > entry_expire_at(q, e))
		e->since_ms = e->next_ms;
	entry_set_reason(e, f->last_reply);
	entry_defer_flag(q, e, e->attempts > 0 && !f->held);
	if (f->held) {
		entry_set_held(q, e, true);
		if (f->why[0] != '\0')
			entry_set_reason(e, f->why);
		else if (f->env.hold_reason[0] != '\0')
			entry_set_reason(e, f->env.hold_reason);
	}
	entry_count(q, e);
	entry_schedule(q, e);
	entry_keep_env(q, e, &f->env, &f->place);
}

/* on_state - for the copy of a message that stays long */
static int
on_state(void *arg, uint64_t seq, const char *id, struct spool_state *st)
{
	struct queue *q = arg;
	struct entry *e = entry_find(q, id);
	uint32_t i;

	if (e == NULL || e->seq != seq || (e->flags & E_UNCOMMITTED) != 0)
		return (0);
	for (i = 0; i < e->n_rcpts; i++)
		st->states[i] = entry_state(e, i) == R_FAILED ? RCPT_FAILED
		    : entry_state(e, i) == R_DONE             ? RCPT_DONE
		                                              : RCPT_WAITING;
	st->held = (e->flags & E_HELD) != 0;
	st->attempts = e->attempts;
	st->next_try_ms = e->next_ms > 1 ? e->next_ms : 0;
	/* as release() wrote it: the expiry counts from there */
	if (e->since_ms != e->arrival_ms && st->next_try_ms < e->since_ms)
		st->next_try_ms = e->since_ms;
	st->reply = e->reason != NULL ? e->reason : "";
	return (1);
}

static unsigned
relays_of(const struct settings *s)
{
	return (s->relays > RELAYS_MAX ? RELAYS_MAX
	        : s->relays > 0        ? s->relays
	                               : 1);
}

/* queue_open - the folder must be there for the sandbox to allow it; the spool
 * itself is opened inside, so that its thread is confined as well */
static int
queue_open(struct child *c)
{
	const struct settings *s = c->settings;
	struct queue *q = calloc(1, sizeof(*q));
	unsigned i;

	if (q == NULL)
		return (-1);
	c->priv = q;
	q->c = c;
	TAILQ_INIT(&q->all);
	TAILQ_INIT(&q->hots);
	TAILQ_INIT(&q->pending);
	TAILQ_INIT(&q->streams);
	TAILQ_INIT(&q->releases);
	for (i = 0; i < RELAYS_MAX; i++) {
		q->relays[i].q = q;
		q->relays[i].index = i;
		TAILQ_INIT(&q->relays[i].ready);
		TAILQ_INIT(&q->relays[i].aside);
	}
	for (i = 0; i < RECEIVERS_MAX; i++) {
		q->receivers[i].q = q;
		q->receivers[i].index = i;
	}
	q->n_relays = relays_of(s);
	/* No hand-out has a number that a process before us has used: a relay
	 * may outlive us and answer late. */
	q->next_ref = queue_now_ms() << 12;
	if (mkdir(s->spool_dir, 0700) == -1 && errno != EEXIST) {
		log_err("queue: %s: %s", s->spool_dir, strerror(errno));
		return (-1);
	}
	return (0);
}

static int
open_spool(struct queue *q)
{
	const struct settings *s = q->c->settings;
	struct spool_opts o = { .dir = s->spool_dir,
		.segment_size = s->queue.segment_size,
		.inline_max = s->limits.inline_size,
		.min_free = s->queue.min_free };
	const struct spool_totals *t;
	struct spool_events ev = { on_found, submit_synced, on_alarm, q,
		on_state };

	if ((q->spool = spool_open(&o, &ev)) == NULL)
		return (-1); /* the spool has logged why */
	t = spool_totals(q->spool);
	memcpy(q->counters.messages, t->messages, sizeof(t->messages));
	memcpy(q->counters.recipients, t->accepted, sizeof(t->accepted));
	if (records_open(&q->records, s->spool_dir, s->queue.keep_records) ==
	    -1) {
		log_err("queue: records: %s", strerror(errno));
		return (-1);
	}
	log_info(
	    "queue: open: messages=%zu, held=%zu", q->n_entries, q->n_held);
	return (0);
}

/* exit_now - all that was promised is on disk, all that was said leaves */
static void
exit_now(struct queue *q)
{
	unsigned i;

	if (q->n_flights > 0)
		log_warning("queue: stop: handouts=%zu", q->n_flights);
	records_close(&q->records);
	spool_close(&q->spool);
	for (i = 0; i < RECEIVERS_MAX; i++) {
		submit_forget(&q->receivers[i]);
		chan_free(&q->receivers[i].ch);
	}
	log_info("queue: stopped");
	child_exit(q->c, 0);
}

static bool
has_receivers(const struct queue *q)
{
	unsigned i;

	for (i = 0; i < RECEIVERS_MAX; i++)
		if (q->receivers[i].ch != NULL)
			return (true);
	return (false);
}

/* arm - the next pass, unless one was asked for */
static void
arm(struct queue *q, bool more)
{
	uint64_t now = queue_now_ms(), at = now + IDLE_MS;
	struct timer *t;
	struct timeval tv;

	if (q->kicked)
		return;
	if ((t = heap_first(&q->entry_heap)) != NULL && t->at_ms < at)
		at = t->at_ms;
	if ((t = heap_first(&q->site_heap)) != NULL && t->at_ms < at)
		at = t->at_ms;
	if ((spool_busy(q->spool) || q->stopping) && now + TICK_MS < at)
		at = now + TICK_MS;
	if (q->records.out.len > 0 && now + RECORDS_MS < at)
		at = now + RECORDS_MS;
	if (more) /* a long answer: as fast as it is read */
		at = now + (chan_backlog(q->c->control) > 0 ? 10 : 1);
	if (at <= now)
		at = now + 1;
	tv.tv_sec = (time_t)((at - now) / 1000);
	tv.tv_usec = (suseconds_t)((at - now) % 1000 * 1000);
	(void)event_add(q->ev, &tv);
}

static void
on_pass(evutil_socket_t fd, short what, void *arg)
{
	struct queue *q = arg;
	uint64_t now = queue_now_ms(), file;
	bool more;
	unsigned i;

	(void)fd;
	(void)what;
	q->kicked = false;
	q->pass++;
	site_run_due(q, now);
	entry_run_due(q, now);
	for (i = 0; i < q->n_relays; i++)
		relay_pump(&q->relays[i]);
	more = command_step(q);
	release_tick(q, now);
	spool_flush(q->spool);
	if (now >= q->tick_ms + TICK_MS && spool_busy(q->spool)) {
		q->tick_ms = now;
		spool_tick(q->spool);
	}
	if (now >= q->records_ms + RECORDS_MS) {
		q->records_ms = now;
		records_flush(&q->records);
	}
	while ((file = spool_file_gone(q->spool)) != 0)
		for (i = 0; i < RELAYS_MAX; i++)
			relay_drop_file(&q->relays[i], file);
	submit_accepting(q, NULL);
	if (q->stopping &&
	    (now >= q->stop_at_ms ||
	        (q->n_flights == 0 && TAILQ_EMPTY(&q->pending) &&
	            !has_receivers(q))))
		exit_now(q);
	arm(q, more);
}

static void
on_sync(evutil_socket_t fd, short what, void *arg)
{
	struct queue *q = arg;

	(void)fd;
	(void)what;
	spool_synced(q->spool);
	queue_kick(q);
}

static int
queue_start(struct child *c)
{
	struct queue *q = c->priv;

	if (open_spool(q) == -1)
		return (-1);
	q->ev = event_new(c->base, -1, 0, on_pass, q);
	q->sync_ev = event_new(
	    c->base, spool_fd(q->spool), EV_READ | EV_PERSIST, on_sync, q);
	if (q->ev == NULL || q->sync_ev == NULL ||
	    event_add(q->sync_ev, NULL) == -1)
		return (-1);
	queue_kick(q);
	return (0);
}

/* queue_discarded - a receiver has dropped mail after its 250 */
static void
queue_discarded(struct queue *q, uint32_t rcpts, bool ok)
{
	if (!ok || rcpts > DISCARD_MAX)
		return;
	q->counters.messages[0]++;
	q->counters.recipients[0] += rcpts;
	spool_put_discarded(q->spool, rcpts);
	queue_kick(q);
}

static void
on_receiver(void *arg, struct chan *ch, struct frame *f)
{
	struct receiver *r = arg;
	struct unpacker u = { f->data, f->len, false };
	const char *record;
	uint32_t rcpts;

	(void)ch;
	switch (f->type) {
	case MSG_SUBMIT:
	case MSG_SUBMIT_MORE:
		submit_frame(r, f);
		return;
	case MSG_DISCARDED:
		if (f->fd != -1)
			(void)close(f->fd);
		rcpts = unpack_u32(&u);
		queue_discarded(r->q, rcpts, unpack_end(&u) == 0);
		return;
	case MSG_BIG_FILE:
		submit_big_file(r, f);
		return;
	case MSG_RELEASED:
		release_answered(r, f);
		return;
	case MSG_RECORD:
		if (f->fd != -1)
			(void)close(f->fd);
		record = unpack_str(&u);
		if (unpack_end(&u) == -1 ||
		    records_add(&r->q->records, record, strlen(record),
		        queue_now_ms()) == -1)
			log_warning("receiver.%u: bad record", r->index);
		queue_kick(r->q);
		return;
	default:
		notice_frame(r->q, f);
	}
}

static void
on_receiver_gone(void *arg, struct chan *ch)
{
	struct receiver *r = arg;

	(void)ch;
	submit_forget(r);
	chan_free(&r->ch);
	release_receiver_gone(r);
	queue_kick(r->q);
}

static void
receiver_set(struct queue *q, unsigned index, int sock)
{
	struct receiver *r = &q->receivers[index];

	submit_forget(r);
	chan_free(&r->ch);
	release_receiver_gone(r);
	r->gen = ++q->receiver_gen;
	r->ch = chan_new(q->c->base, sock, on_receiver, on_receiver_gone, r);
	if (r->ch == NULL)
		queue_oom();
	submit_accepting(q, r);
}

static void
queue_peer(struct child *c, enum proc_kind kind, unsigned index, int sock)
{
	struct queue *q = c->priv;

	if (kind == PROC_RECEIVER && index < RECEIVERS_MAX)
		receiver_set(q, index, sock);
	else if (kind == PROC_RELAY && index < RELAYS_MAX)
		relay_set(q, index, sock);
	else if (kind == PROC_LOOKUP)
		lookup_set(q, sock);
	else
		(void)close(sock);
}

static void
queue_reload(struct child *c, struct settings *old)
{
	struct queue *q = c->priv;
	const struct settings *s = c->settings;
	struct entry *e;

	if (relays_of(s) != q->n_relays) {
		q->n_relays = relays_of(s);
		sites_rehome(q);
	}
	q->records.keep = s->queue.keep_records > 0 ? s->queue.keep_records : 1;
	if (s->queue.warn_ms != old->queue.warn_ms ||
	    s->queue.expire_ms != old->queue.expire_ms ||
	    s->queue.bounce_expire_ms != old->queue.bounce_expire_ms)
		TAILQ_FOREACH (e, &q->all, all)
			entry_schedule(q, e);
	queue_kick(q);
}

static void
queue_state(struct child *c, const char *name, const char *value)
{
	struct queue *q = c->priv;

	if (strcmp(name, "delivery") != 0)
		return;
	q->paused = strcmp(value, "paused") == 0;
	log_info("queue: delivery: %s", q->paused ? "paused" : "running");
	queue_kick(q);
}

static void
queue_command(struct child *c, uint64_t ref, const char *line)
{
	queue_answer(c->priv, ref, line);
}

static void
queue_stop(struct child *c)
{
	struct queue *q = c->priv;

	if (!q->stopping) {
		q->stopping = true;
		q->stop_at_ms = queue_now_ms() + STOP_MS;
	}
	queue_kick(q);
}

static void
queue_notice(struct child *c, const char *subject, const char *text, size_t len)
{
	notice_send(c->priv, subject, text, len);
}

const struct child_ops queue_ops = {
	.kind = PROC_QUEUE,
	.open = queue_open,
	.start = queue_start,
	.peer = queue_peer,
	.reload = queue_reload,
	.state = queue_state,
	.command = queue_command,
	.stop = queue_stop,
	.notice = queue_notice,
};
