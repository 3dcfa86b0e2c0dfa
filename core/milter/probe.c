/* SPDX-License-Identifier: ISC */

/*
 * probe - handshakes of the engine's own
 *
 * For three reasons: an ejected endpoint's time is over, the health interval
 * is, or the warm pool lacks a connection.  One at a time for each endpoint.
 * A handshake that succeeds goes into the pool if that lacks one.
 */

#include "core/milter/chain_int.h"

#include <stdlib.h>

enum { WARM_RETRY_US = 1000000, NEVER_US = 0 };

static uint64_t
sooner(uint64_t a, uint64_t b)
{
	return (a != NEVER_US && a < b ? a : b);
}

static bool
wants_warm(const struct milter_conf *m, const struct estate *es)
{
	return (es->n_idle < m->warm && es->breaker.state == BREAKER_CLOSED);
}

/* due - when the endpoint's next probe should begin */
static uint64_t
due(const struct milter_conf *m, const struct estate *es)
{
	uint64_t at = NEVER_US;

	if (es->probe != NULL)
		return (NEVER_US);
	if (es->breaker.state != BREAKER_CLOSED)
		return (es->breaker.until_us);
	if (m->health_ms > 0)
		at = es->health_us;
	if (wants_warm(m, es))
		at = sooner(at, es->warm_us);
	return (at);
}

/* each - of the endpoints in the settings that may be probed */
static void
each(struct engine *e,
    void (*fn)(struct engine *, const struct milter_conf *, struct estate *,
        size_t, void *),
    void *arg)
{
	const struct settings *s = e->settings;
	struct estate *es;
	struct mstate *m;
	enum milter_mode mode;
	size_t i, k;

	for (i = 0; i < s->n_milters; i++) {
		if ((m = engine_state(e, s->milters[i].name)) == NULL)
			continue;
		mode = engine_effective(m, &s->milters[i]);
		if (mode == MODE_OFF || mode == MODE_DRAIN)
			continue;
		for (k = 0; k < s->milters[i].n_endpoints; k++)
			if ((es = endpoint_state(
			         m, s->milters[i].endpoints[k].text)) != NULL)
				fn(e, &s->milters[i], es, k, arg);
	}
}

static void
earliest(struct engine *e, const struct milter_conf *m, struct estate *es,
    size_t endpoint, void *arg)
{
	uint64_t *at = arg, t;

	(void)e;
	(void)endpoint;
	if (es->health_us == 0) /* new: it has yet to be waited for */
		es->health_us = now_us() + m->health_ms * 1000;
	if (es->warm_us == 0)
		es->warm_us = 1;
	t = due(m, es);
	if (t != NEVER_US && (*at == NEVER_US || t < *at))
		*at = t;
}

void
probe_arm(struct engine *e)
{
	uint64_t at = NEVER_US, now = now_us();
	struct timeval tv = { 0, 0 };

	if (e->probe_timer == NULL)
		return;
	each(e, earliest, &at);
	if (at == NEVER_US) {
		(void)event_del(e->probe_timer);
		return;
	}
	if (at > now) {
		tv.tv_sec = (time_t)((at - now) / 1000000);
		tv.tv_usec = (suseconds_t)((at - now) % 1000000);
	}
	(void)event_add(e->probe_timer, &tv);
}

static void
begin(struct engine *e, const struct milter_conf *m, struct estate *es,
    size_t endpoint, void *arg)
{
	uint64_t now = now_us(), at = due(m, es);
	struct conn *c;

	(void)arg;
	if (at == NEVER_US || at > now)
		return;
	if (es->breaker.state != BREAKER_CLOSED &&
	    !breaker_probe(&es->breaker, m->connect_ms, now))
		return;
	es->probes++;
	es->health_us = now + m->health_ms * 1000;
	es->warm_us = now + WARM_RETRY_US; /* unless it succeeds */
	if ((c = conn_new(e, m, es->milter, endpoint)) == NULL) {
		endpoint_failed(e, m, es);
		return;
	}
	es->probe = c;
	c->deadline_us = now + m->connect_ms * 1000;
	conn_arm(c);
	if (conn_dial(c) == -1)
		probe_failed(c, "connect");
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct engine *e = arg;

	(void)fd;
	(void)what;
	each(e, begin, NULL);
	probe_arm(e);
}

int
probe_init(struct engine *e)
{
	e->probe_timer = event_new(e->base, -1, 0, on_timer, e);
	return (e->probe_timer != NULL ? 0 : -1);
}

/* probe_ready - the handshake is done; c is pooled, or gone */
void
probe_ready(struct conn *c)
{
	struct engine *e = c->engine;
	struct estate *es = c->es;

	es->probe = NULL;
	if (wants_warm(c->conf, es) && pool_add(c)) {
		es->warm_us = 1; /* the next may follow at once */
	} else {
		conn_say_quit(c);
		conn_free(c);
	}
	probe_arm(e);
}

void
probe_failed(struct conn *c, const char *why)
{
	struct engine *e = c->engine;
	struct estate *es = c->es;

	log_info(
	    "milter=%s: endpoint=%s: probe: %s", c->conf->name, es->text, why);
	es->probe = NULL;
	es->probe_failures++;
	endpoint_failed(e, c->conf, es);
	conn_free(c);
	probe_arm(e);
}

void
probe_clear(struct engine *e, struct mstate *m)
{
	struct estate *es;

	(void)e;
	for (es = m->endpoints; es != NULL; es = es->next)
		if (es->probe != NULL) {
			conn_free(es->probe);
			es->probe = NULL;
		}
}
