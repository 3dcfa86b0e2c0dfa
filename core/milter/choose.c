/* SPDX-License-Identifier: ISC */

/*
 * choose - which endpoint of a milter a connection goes to, and what becomes of
 * the endpoint by what it does there
 *
 * An endpoint that failed a link is not tried again for that message.  Whether
 * others should try it says its breaker; a milter with one endpoint has none
 * to go to, so there the breaker counts only if `all-ejected = fail`.
 */

#include "core/milter/chain_int.h"
#include "milter-sdk/base/json.h"

#include <stdlib.h>
#include <string.h>

struct estate *
endpoint_state(struct mstate *m, const char *text)
{
	struct estate *es;

	for (es = m->endpoints; es != NULL; es = es->next)
		if (strcmp(es->text, text) == 0)
			return (es);
	if ((es = calloc(1, sizeof(*es))) == NULL ||
	    (es->text = strdup(text)) == NULL) {
		free(es);
		return (NULL);
	}
	es->milter = m;
	es->next = m->endpoints;
	m->endpoints = es;
	return (es);
}

static bool
may_eject(const struct milter_conf *m)
{
	return (m->n_endpoints > 1 || m->fail_ejected);
}

/* last_resort - the ejected one whose time is over first */
static int
last_resort(struct link *l)
{
	const struct milter_conf *m = l->conf;
	struct estate *es, *found = NULL;
	int best = -1;
	size_t i;

	for (i = 0; i < m->n_endpoints && i < ENDPOINTS_MAX; i++) {
		if ((l->tried & 1u << i) != 0)
			continue;
		es = endpoint_state(l->state, m->endpoints[i].text);
		if (es == NULL ||
		    (found != NULL &&
		        found->breaker.until_us <= es->breaker.until_us))
			continue;
		found = es;
		best = (int)i;
	}
	if (found != NULL)
		breaker_force(&found->breaker, m->connect_ms, now_us());
	return (best);
}

int
endpoint_choose(struct link *l)
{
	const struct milter_conf *m = l->conf;
	struct estate *es, *found = NULL;
	size_t n = m->n_endpoints, i, k, start = 0;
	int best = -1;

	if (n > ENDPOINTS_MAX)
		n = ENDPOINTS_MAX;
	if (m->balance != BALANCE_ORDERED && n > 0)
		start = l->state->turn % n;
	for (k = 0; k < n; k++) {
		i = (start + k) % n;
		if ((l->tried & 1u << i) != 0)
			continue;
		es = endpoint_state(l->state, m->endpoints[i].text);
		if (es == NULL || es->breaker.state != BREAKER_CLOSED)
			continue;
		if (found != NULL &&
		    (m->balance != BALANCE_LEAST_BUSY ||
		        es->busy >= found->busy))
			continue;
		found = es;
		best = (int)i;
	}
	if (best == -1)
		return (m->fail_ejected ? -1 : last_resort(l));
	if (n > 1)
		l->state->turn = (size_t)best + 1;
	return (best);
}

void
endpoint_failed(
    struct engine *e, const struct milter_conf *m, struct estate *es)
{
	es->failures++;
	if (!may_eject(m) ||
	    !breaker_failed(
	        &es->breaker, m->eject_after, m->eject_ms, now_us()))
		return;
	es->ejections++;
	log_warning("milter=%s: endpoint=%s: ejected for %llu ms after %u "
	            "failures in a row",
	    m->name, es->text,
	    (unsigned long long)(es->breaker.until_us - now_us()) / 1000,
	    es->breaker.failures);
	probe_arm(e);
}

void
endpoint_fault(struct link *l, size_t endpoint, const char *why)
{
	struct estate *es =
	    endpoint_state(l->state, l->conf->endpoints[endpoint].text);

	l->tried |= 1u << endpoint;
	free(l->fault);
	l->fault = strdup(why);
	if (es != NULL)
		endpoint_failed(l->chain->engine, l->conf, es);
}

static void
back(const struct conn *c)
{
	log_info("milter=%s: endpoint=%s: back", c->conf->name, c->es->text);
}

void
endpoint_handshake(struct conn *c)
{
	if (breaker_handshake(&c->es->breaker))
		back(c);
}

void
endpoint_verdict(struct conn *c)
{
	if (breaker_verdict(&c->es->breaker))
		back(c);
}

static int
put_endpoint(const struct estate *es, struct buf *b)
{
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "busy", es->busy },
		{ "idle", es->n_idle },
		{ "connects", es->connects },
		{ "reused", es->reused },
		{ "failures", es->failures },
		{ "ejections", es->ejections },
		{ "probes", es->probes },
		{ "probe_failures", es->probe_failures },
		{ "replays", es->replays },
	};
	size_t i;

	if (buf_add(b, "{", 1) == -1 ||
	    json_kv_str(b, "endpoint", es->text) == -1 ||
	    json_kv_str(b, "state", breaker_word(&es->breaker)) == -1)
		return (-1);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (json_kv_num(b, rows[i].name, rows[i].value) == -1)
			return (-1);
	return (buf_add(b, "}", 1));
}

/* endpoint_stats - "endpoints":[...] of the milter's object */
int
endpoint_stats(const struct milter_conf *conf, struct mstate *m, struct buf *b)
{
	struct estate *es;
	size_t i;

	if (json_key(b, "endpoints") == -1 || buf_add(b, "[", 1) == -1)
		return (-1);
	for (i = 0; i < conf->n_endpoints; i++)
		if ((es = endpoint_state(m, conf->endpoints[i].text)) == NULL ||
		    (i > 0 && buf_add(b, ",", 1) == -1) ||
		    put_endpoint(es, b) == -1)
			return (-1);
	return (buf_add(b, "]", 1));
}
