/* SPDX-License-Identifier: ISC */

/*
 * pool - connections to milters that outlive an SMTP session
 *
 * A new connection costs a filter on libmilter an accept, a hand-over to a
 * thread and a negotiation, which is more than the message itself.  QUIT_NC
 * ends the session and leaves the connection, but libmilter understands it
 * only right after an end of message answered "continue"; elsewhere it drops
 * the command and the next session would hang.  So only such connections are
 * kept, and only of milters whose `library` is known; of Milldam's own all.
 *
 * QUIT_NC leaves with the first command of the next session, to save the
 * filter a wake-up; the tick sends it if there is none soon.
 */

#include "core/milter/chain_int.h"

#include <unistd.h>

enum {
	POOL_MAX = 64,              /* idle connections to one milter */
	POOL_IDLE_US = 30 * 1000000 /* then QUIT */
};

static const struct timeval tick = { 1, 0 };

/* take_out - c is no longer its milter's */
static void
take_out(struct engine *e, struct conn *c)
{
	struct conn **cp = &c->es->idle;

	while (*cp != c)
		cp = &(*cp)->next_idle;
	*cp = c->next_idle;
	c->next_idle = NULL;
	c->es->n_idle--;
	c->pooled = false;
	if (--e->n_idle == 0)
		(void)event_del(e->pool_tick);
}

void
pool_lost(struct conn *c)
{
	struct engine *e = c->engine;

	take_out(e, c);
	conn_free(c);
	probe_arm(e); /* the warm pool may lack one */
}

void
pool_clear(struct engine *e, struct mstate *m)
{
	struct estate *es;
	struct conn *c;

	for (es = m->endpoints; es != NULL; es = es->next)
		while ((c = es->idle) != NULL) {
			take_out(e, c);
			conn_say_quit(c);
			conn_free(c);
		}
}

/* age - one endpoint's: end sessions that nothing has followed, and old
 * connections */
static void
age(struct engine *e, struct estate *es, uint64_t now)
{
	struct conn *c, *next;

	for (c = es->idle; c != NULL; c = next) {
		next = c->next_idle;
		if (now - c->idle_us >= POOL_IDLE_US)
			conn_say_quit(c);
		else if (conn_flush(c) == 0 && c->out.len == 0)
			continue;
		take_out(e, c);
		conn_free(c);
	}
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct engine *e = arg;
	uint64_t now = now_us();
	struct mstate *m;
	struct estate *es;

	(void)fd;
	(void)what;
	for (m = e->milters; m != NULL; m = m->next)
		for (es = m->endpoints; es != NULL; es = es->next)
			age(e, es, now);
	probe_arm(e);
}

int
pool_init(struct engine *e)
{
	e->pool_tick =
	    event_new(e->base, -1, EV_TIMEOUT | EV_PERSIST, on_tick, e);
	return (e->pool_tick != NULL ? 0 : -1);
}

/* is_unused - taken from the pool, and the session said nothing on it */
static bool
is_unused(const struct link *l)
{
	return (l->conn->reused && !l->sent_connect);
}

/* at_rest - is QUIT_NC understood now?  Without a C libmilter would not see
 * where the next session begins. */
static bool
at_rest(const struct link *l)
{
	const struct conn *c = l->conn;

	if (is_unused(l))
		return (true);
	return (c->out.len == 0 &&
	    (l->conf->any_state ||
	        (c->at_end && (c->opts.protocol & MILTER_NO_CONNECT) == 0)));
}

/* may_keep - is the connection where another session can begin? */
static bool
may_keep(const struct link *l)
{
	const struct conn *c = l->conn;
	enum milter_mode mode = engine_effective(l->state, l->conf);

	return (c->phase == CONN_READY && l->n_expect == 0 && !l->pumping &&
	    at_rest(l) && c->in.len == 0 && c->opts.version >= 6 &&
	    l->conf->reuse && c->es->breaker.state == BREAKER_CLOSED &&
	    mode != MODE_OFF && mode != MODE_DRAIN &&
	    l->chain->settings == l->chain->engine->settings &&
	    c->es->n_idle < POOL_MAX);
}

static void
put_in(struct conn *c)
{
	struct engine *e = c->engine;

	conn_idle(c);
	conn_detach(c);
	c->pooled = true;
	c->idle_us = now_us();
	c->next_idle = c->es->idle; /* the last one first: others may age */
	c->es->idle = c;
	c->es->n_idle++;
	if (e->n_idle++ == 0)
		(void)event_add(e->pool_tick, &tick);
}

bool
pool_put(struct link *l)
{
	struct conn *c = l->conn;

	if (!may_keep(l))
		return (false);
	if (!is_unused(l) && milter_put(&c->out, MILTER_QUIT_NC, NULL, 0) == -1)
		return (false);
	put_in(c);
	return (true);
}

bool
pool_add(struct conn *c)
{
	if (c->in.len > 0 || c->out.len > 0 || c->es->n_idle >= POOL_MAX)
		return (false);
	put_in(c);
	return (true);
}

bool
pool_get(struct link *l, struct estate *es)
{
	struct engine *e = l->chain->engine;
	struct conn *c = es->idle;

	if (c == NULL || l->chain->settings != e->settings)
		return (false);
	take_out(e, c);
	conn_attach(c, l);
	c->endpoint = l->endpoint;
	c->reused = true;
	c->heard = c->at_end = false;
	l->state->reused++;
	es->reused++;
	if (c->conf->warm > 0)
		probe_arm(e); /* the pool lacks one now */
	return (true);
}
