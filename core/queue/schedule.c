/* SPDX-License-Identifier: ISC */

/*
 * schedule - when a message is tried, warned about and given up
 *
 * Each entry has one timer: the next try, the delay warning or the expiry,
 * whichever is first.  At its try the recipients are spread over their sites,
 * which decide when a hand-out leaves.
 */

#include "core/queue/queue.h"

#include "milter-sdk/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	DUE_PER_PASS = 1000,
	UNTOLD_MS = 60000 /* a sender that could not be told is told then */
};

/*
 * backoff_ms - doubles from min to max; up to a quarter is taken off at
 * random, so that what failed together is not tried together.
 */
uint64_t
backoff_ms(unsigned attempts, uint64_t min, uint64_t max, uint32_t random)
{
	uint64_t ms = min > 0 ? min : 1;

	if (max < ms)
		max = ms;
	while (attempts-- > 1 && ms < max)
		ms *= 2;
	if (ms > max)
		ms = max;
	ms -= ms / 4 * (random % 1024) / 1024;
	return (ms > min ? ms : min > 0 ? min : 1);
}

static uint64_t
lifetime(const struct queue *q, const struct entry *e)
{
	const struct queue_conf *c = &q->c->settings->queue;

	return ((e->flags & E_NULL) != 0 ? c->bounce_expire_ms : c->expire_ms);
}

uint64_t
entry_expire_at(const struct queue *q, const struct entry *e)
{
	return (e->since_ms + lifetime(q, e));
}

static uint64_t
warn_at(const struct queue *q, const struct entry *e)
{
	return (e->since_ms + q->c->settings->queue.warn_ms);
}

void
entry_schedule(struct queue *q, struct entry *e)
{
	uint64_t now, at;

	if ((e->flags & (E_HELD | E_UNCOMMITTED | E_GONE)) != 0) {
		heap_del(&q->entry_heap, &e->timer);
		return;
	}
	at = entry_expire_at(q, e);
	if ((e->flags & (E_WARNED | E_NULL)) == 0 && warn_at(q, e) < at)
		at = warn_at(q, e);
	if (e->flights > 0 && at < (now = queue_now_ms()) + 1000)
		at = now + 1000; /* what is in flight decides first */
	if (e->next_ms != 0 && e->next_ms < at)
		at = e->next_ms;
	heap_set(&q->entry_heap, &e->timer, at);
}

void
entry_settle(struct queue *q, struct entry *e)
{
	if ((e->flags & E_GONE) != 0) {
		entry_free(q, e);
		return;
	}
	if (e->left == 0) {
		entry_free(q, e);
		return;
	}
	entry_schedule(q, e);
	queue_kick(q);
}

void
entry_defer(struct queue *q, struct entry *e, const char *reply)
{
	const struct queue_conf *c = &q->c->settings->queue;
	uint64_t now = queue_now_ms();

	if (reply[0] != '\0')
		entry_set_reason(e, reply);
	entry_defer_flag(q, e, true);
	if (e->next_ms > now)
		return; /* another site's trouble has set it */
	if (e->attempts < UINT16_MAX)
		e->attempts++;
	e->next_ms = now +
	    backoff_ms(
	        e->attempts, c->retry_min_ms, c->retry_max_ms, queue_random());
	/* A try beyond the expiry means "released" after a restart. */
	if (e->next_ms > entry_expire_at(q, e))
		e->next_ms = entry_expire_at(q, e);
	spool_put_deferred(q->spool, e->seq, e->next_ms, e->attempts, reply);
}

/* unreadable - its bytes are damaged: an explicit stop, never a silent one */
static void
unreadable(struct queue *q, struct entry *e)
{
	char text[200];

	if (errno == ENOMEM)
		queue_oom();
	(void)snprintf(text, sizeof(text),
	    "%s: cannot be read from the spool: "
	    "%s",
	    e->id, strerror(errno));
	queue_alarm(q, "damage", text);
	entry_hold(q, e, text);
}

/* ask - let lookup route recipient i */
static void
send_ask(struct queue *q, struct ask *a, const char *addr)
{
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };

	if (q->lookup == NULL)
		return; /* sent when there is a channel */
	pack_str(&k, addr);
	if (pack_end(&k) == -1 ||
	    chan_send_buf(q->lookup, MSG_ROUTE, a->ref, &b, -1) == -1)
		log_err("lookup: route: %s", strerror(errno));
	buf_fini(&b);
}

static void
ask(struct queue *q, struct entry *e, const char *addr, uint32_t i)
{
	struct ask *a = calloc(1, sizeof(*a)), **slot;

	if (a == NULL)
		queue_oom();
	a->ref = ++q->next_ref;
	a->e = e;
	a->rcpt = i;
	slot = &q->asks[a->ref % (sizeof(q->asks) / sizeof(q->asks[0]))];
	a->next = *slot;
	*slot = a;
	entry_set_state(q, e, i, R_ROUTING);
	e->flags |= E_PINNED;
	send_ask(q, a, addr);
}

void
asks_forget(struct queue *q, struct entry *e)
{
	struct ask **p, *a;
	uint32_t i;
	size_t k;

	for (i = 0; i < e->n_rcpts; i++)
		if (entry_state(e, i) == R_ROUTING)
			break;
	if (i == e->n_rcpts)
		return;
	for (k = 0; k < sizeof(q->asks) / sizeof(q->asks[0]); k++)
		for (p = &q->asks[k]; (a = *p) != NULL;) {
			if (a->e != e) {
				p = &a->next;
				continue;
			}
			*p = a->next;
			free(a);
		}
	for (i = 0; i < e->n_rcpts; i++)
		if (entry_state(e, i) == R_ROUTING)
			entry_set_state(q, e, i, R_LATER);
}

/* discard - routed to nowhere: over, and counted */
static void
discard(struct queue *q, struct entry *e, const struct rcpt *r, uint32_t i)
{
	entry_set_state(q, e, i, R_DONE);
	spool_put_done(
	    q->spool, e->seq, i, RCPT_DISCARDED, "discarded by routing");
	q->counters.discarded++;
	outcome_log(
	    e, r->addr, "discard", "", "250 2.0.0 discarded", OUTCOME_DONE, 0);
}

/* to_site - send recipient i, in state R_WAIT, where its route says.  1: the
 * route refuses it, 2: for now; text_r is the reply. */
static int
to_site(struct queue *q, struct entry *e, struct envelope *env, uint32_t i,
    const char **text_r)
{
	const struct rcpt *r = &env->rcpts[i];

	switch (r->route.mailer) {
	case MAILER_NONE:
		ask(q, e, r->addr, i);
		return (0);
	case MAILER_SMTP:
		if (r->route.host[0] == '\0')
			break;
		site_add_job(q, site_get(q, r->route.host, r->route.port), e);
		return (0);
	case MAILER_DISCARD:
		discard(q, e, r, i);
		return (0);
	case MAILER_ERROR:
		*text_r = r->route.text[0] != '\0' ? r->route.text
		                                   : "550 5.1.2 no route";
		return ((*text_r)[0] == '4' ? 2 : 1);
	}
	*text_r = "451 4.3.5 route without a host";
	return (2);
}

/* spread - recipients first..last-1 in state R_WAIT to their sites */
static void
spread(struct queue *q, struct entry *e, struct envelope *env, uint32_t first,
    uint32_t last)
{
	struct fate *fates = NULL;
	const char *text = "", *later = NULL;
	size_t n = 0;
	uint32_t i;

	for (i = first; i < last; i++) {
		if (entry_state(e, i) != R_WAIT)
			continue;
		switch (to_site(q, e, env, i, &text)) {
		case 1:
			if (fates == NULL &&
			    (fates = calloc(last - first, sizeof(*fates))) ==
			        NULL)
				queue_oom();
			fates[n++] = (struct fate){ i, text, "", NULL };
			break;
		case 2:
			entry_set_state(q, e, i, R_LATER);
			q->counters.deferrals++;
			outcome_log(e, env->rcpts[i].addr, "error", "", text,
			    OUTCOME_DEFER, 0);
			later = text;
			break;
		}
	}
	if (n > 0)
		outcome_fail(q, e, env, fates, n, "error", 0);
	free(fates);
	if (later != NULL)
		entry_defer(q, e, later);
}

void
entry_expand(struct queue *q, struct entry *e)
{
	struct hot *h;
	uint32_t i;

	e->next_ms = 0;
	if ((h = entry_env(q, e)) == NULL) {
		unreadable(q, e);
		return;
	}
	entry_defer_flag(q, e, false);
	for (i = 0; i < e->n_rcpts; i++)
		if (entry_state(e, i) == R_LATER)
			entry_set_state(q, e, i, R_WAIT);
	spread(q, e, &h->env, 0, e->n_rcpts);
}

/*
 * entry_route_again - a job of its came up, but the routes that lookup gave
 * were released with the envelope.  The job's turn is not lost.
 */
void
entry_route_again(struct queue *q, struct entry *e)
{
	struct hot *h = entry_env(q, e);

	if (h == NULL)
		return;
	e->flags |= E_FRONT;
	spread(q, e, &h->env, 0, e->n_rcpts);
	entry_settle(q, e);
}

/* last_reply - why recipient i was not delivered so far */
static const char *
last_reply(struct entry *e, const struct rcpt *r)
{
	const struct job *j;

	for (j = e->jobs; j != NULL; j = j->sibling)
		if (j->site->reply != NULL && site_is(j->site, &r->route))
			return (j->site->reply);
	return (e->reason != NULL ? e->reason
	                          : "451 4.4.7 no attempt succeeded in time");
}

/* late - those that wait: all are returned (expired), or the sender is told */
static void
late(struct queue *q, struct entry *e, bool expired)
{
	struct hot *h = entry_env(q, e);
	struct fate *fates;
	size_t n = 0;
	uint32_t i;

	if (h == NULL) {
		unreadable(q, e);
		return;
	}
	if ((fates = calloc(e->n_rcpts, sizeof(*fates))) == NULL)
		queue_oom();
	for (i = 0; i < e->n_rcpts; i++)
		if (entry_state(e, i) <= R_ROUTING)
			fates[n++] = (struct fate){ i,
				last_reply(e, &h->env.rcpts[i]), "", "4.4.7" };
	if (n > 0 && expired) {
		asks_forget(q, e);
		outcome_fail(q, e, &h->env, fates, n, "smtp", 0);
	} else if (n > 0) { /* else all are in hand: let us see */
		e->flags |= E_WARNED;
		if (bounce_send(q, e, &h->env, fates, n, true) == -1)
			log_warning(
			    "%s: delay warning: %s", e->id, strerror(errno));
	}
	free(fates);
}

static void
due(struct queue *q, struct entry *e, uint64_t now)
{
	if (now >= entry_expire_at(q, e)) {
		late(q, e, true);
		/* No room for the bounce, it seems: not at once again. */
		if (e->left > 0 && e->flights == 0 && (e->flags & E_HELD) == 0)
			e->since_ms = now + UNTOLD_MS - lifetime(q, e);
	} else if ((e->flags & (E_WARNED | E_NULL)) == 0 &&
	    now >= warn_at(q, e))
		late(q, e, false);
	if (e->next_ms != 0 && e->next_ms <= now &&
	    (e->flags & (E_HELD | E_GONE)) == 0 && e->left > 0)
		entry_expand(q, e);
	entry_settle(q, e);
}

void
entry_run_due(struct queue *q, uint64_t now)
{
	struct timer *t;
	struct entry *e;
	int n;

	for (n = 0; n < DUE_PER_PASS; n++) {
		t = heap_first(&q->entry_heap);
		if (t == NULL || t->at_ms > now)
			return;
		heap_del(&q->entry_heap, t);
		e = (struct entry *)(void *)((char *)t -
		    offsetof(struct entry, timer));
		due(q, e, now);
	}
	queue_kick(q);
}

/* unpin - no question to lookup is open: the envelope may go */
static void
unpin(struct entry *e)
{
	uint32_t i;

	for (i = 0; i < e->n_rcpts; i++)
		if (entry_state(e, i) == R_ROUTING)
			return;
	e->flags &= (uint16_t)~E_PINNED;
}

/* routed - lookup's answer for one recipient */
static void
routed(struct queue *q, struct entry *e, uint32_t i, int status,
    struct route *route, const char *reason)
{
	struct hot *h = e->hot; /* pinned since lookup was asked */
	char text[300];

	if (h == NULL || status != 0 || route->mailer == MAILER_NONE) {
		(void)snprintf(text, sizeof(text), "451 4.4.3 routing: %s",
		    reason[0] != '\0' ? reason : "no answer");
		entry_set_state(q, e, i, R_LATER);
		q->counters.deferrals++;
		entry_defer(q, e, text);
		return;
	}
	route_fini(&h->env.rcpts[i].route);
	h->env.rcpts[i].route = *route;
	memset(route, 0, sizeof(*route));
	entry_set_state(q, e, i, R_WAIT);
	if ((e->flags & E_HELD) != 0)
		entry_set_state(q, e, i, R_LATER);
	else
		spread(q, e, &h->env, i, i + 1);
}

static void
on_lookup(void *arg, struct chan *ch, struct frame *f)
{
	struct queue *q = arg;
	struct unpacker u = { f->data, f->len, false };
	struct ask **p, *a;
	struct route route;
	const char *reason;
	uint8_t status;

	(void)ch;
	if (f->type != MSG_ROUTE_R) {
		notice_frame(q, f);
		return;
	}
	if (f->fd != -1)
		(void)close(f->fd);
	status = unpack_u8(&u);
	if (route_unpack(&u, &route) == -1) {
		log_err("lookup: bad answer: %s", strerror(errno));
		return;
	}
	reason = unpack_str(&u);
	if (unpack_end(&u) == -1)
		status = 1;
	p = &q->asks[f->ref % (sizeof(q->asks) / sizeof(q->asks[0]))];
	while ((a = *p) != NULL && a->ref != f->ref)
		p = &a->next;
	if (a != NULL) { /* else of a message that is gone */
		*p = a->next;
		routed(q, a->e, a->rcpt, status, &route, reason);
		unpin(a->e);
		entry_settle(q, a->e);
		free(a);
	}
	route_fini(&route);
}

static void
on_lookup_gone(void *arg, struct chan *ch)
{
	struct queue *q = arg;

	(void)ch;
	chan_free(&q->lookup);
}

void
lookup_set(struct queue *q, int sock)
{
	struct ask *a;
	size_t k;

	chan_free(&q->lookup);
	q->lookup = chan_new(q->c->base, sock, on_lookup, on_lookup_gone, q);
	if (q->lookup == NULL)
		queue_oom();
	for (k = 0; k < sizeof(q->asks) / sizeof(q->asks[0]); k++)
		for (a = q->asks[k]; a != NULL; a = a->next)
			if (a->e->hot != NULL)
				send_ask(
				    q, a, a->e->hot->env.rcpts[a->rcpt].addr);
}
