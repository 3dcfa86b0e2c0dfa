/* SPDX-License-Identifier: ISC */

/*
 * stats - what is counted of each milter and endpoint, and how it is told
 *
 * A milter or endpoint that is no longer configured is not told any more; it
 * goes on from where it was if it comes back.
 */

#include "core/milter/chain_int.h"
#include "milter-sdk/base/metric.h"

#include <string.h>

static const char stage_codes[STATS_STAGES] = "CHMRTLNBEU";
static const char *const stage_names[STATS_STAGES] = { "connect", "helo",
	"mail", "rcpt", "data", "header", "eoh", "body", "eom", "unknown",
	"other" };
static const char *const verdict_names[STATS_VERDICTS] = { "continue", "accept",
	"reject", "tempfail", "discard", "shutdown", "skip", "other" };
/* Upper bounds, microseconds, and as they are written. */
static const uint64_t bounds[STATS_BUCKETS - 1] = { 500, 1000, 2500, 5000,
	10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000,
	10000000, 30000000 };
static const char *const bound_names[STATS_BUCKETS] = { "0.0005", "0.001",
	"0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1",
	"2.5", "5", "10", "30", "+Inf" };

static struct estate *
of_link(const struct link *l)
{
	if (l->conn != NULL)
		return (l->conn->es);
	return (l->endpoint < l->conf->n_endpoints
	        ? endpoint_state(l->state, l->conf->endpoints[l->endpoint].text)
	        : NULL);
}

void
stats_call(struct link *l, uint64_t n)
{
	struct estate *es = of_link(l);

	l->state->calls += n;
	if (es != NULL)
		es->stats.calls += n;
}

void
stats_connect(struct estate *es)
{
	es->milter->connects++;
	es->connects++;
}

void
stats_timeout(struct conn *c)
{
	c->es->stats.timeouts++;
}

void
stats_failure(struct link *l)
{
	struct estate *es = of_link(l);

	l->state->failures++;
	if (es != NULL)
		es->stats.failures++;
}

void
stats_fail_open(struct link *l)
{
	struct estate *es = of_link(l);

	l->state->fail_opens++;
	if (es != NULL)
		es->stats.fail_opens++;
}

static unsigned
verdict(char reply, const char *text)
{
	switch (reply) {
	case MILTER_CONTINUE:
		return (0);
	case MILTER_ACCEPT:
		return (1);
	case MILTER_REJECT:
		return (2);
	case MILTER_REPLYCODE:
		return (text != NULL && text[0] == '4' ? 3 : 2);
	case MILTER_TEMPFAIL:
		return (3);
	case MILTER_DISCARD:
		return (4);
	case MILTER_SHUTDOWN:
		return (5);
	case MILTER_SKIP:
		return (6);
	default:
		return (STATS_VERDICTS - 1);
	}
}

void
stats_answer(
    struct link *l, char cmd, char reply, uint64_t us, const char *text)
{
	struct estate *es = of_link(l);
	unsigned stage = 0, bucket = 0;
	struct stats *s;

	if (es == NULL)
		return;
	s = &es->stats;
	while (stage < STATS_STAGES - 1 && stage_codes[stage] != cmd)
		stage++;
	while (bucket < STATS_BUCKETS - 1 && us > bounds[bucket])
		bucket++;
	s->verdicts[stage][verdict(reply, text)]++;
	s->buckets[bucket]++;
	s->total_us += us;
}

static int
put_latency(struct buf *b, const char *milter, const struct estate *es)
{
	const struct stats *s = &es->stats;
	uint64_t sum = 0;
	size_t i;
	int rc = 0;

	for (i = 0; i < STATS_BUCKETS; i++) {
		sum += s->buckets[i];
		rc |= metric_put(b, sum, "milldam_milter_answer_seconds_bucket",
		    "milter", milter, "endpoint", es->text, "le",
		    bound_names[i], NULL);
	}
	return (rc |
	    metric_us(b, s->total_us, "milldam_milter_answer_seconds_sum",
	        "milter", milter, "endpoint", es->text, NULL) |
	    metric_put(b, sum, "milldam_milter_answer_seconds_count", "milter",
	        milter, "endpoint", es->text, NULL));
}

static int
put_verdicts(struct buf *b, const char *milter, const struct estate *es)
{
	size_t i, k;
	int rc = 0;

	for (i = 0; i < STATS_STAGES; i++)
		for (k = 0; k < STATS_VERDICTS; k++)
			if (es->stats.verdicts[i][k] > 0)
				rc |= metric_put(b, es->stats.verdicts[i][k],
				    "milldam_milter_verdicts_total", "milter",
				    milter, "endpoint", es->text, "stage",
				    stage_names[i], "verdict", verdict_names[k],
				    NULL);
	return (rc);
}

static int
put_endpoint(struct buf *b, const char *milter, const struct estate *es)
{
	static const char *const states[] = { "closed", "open", "half-open" };
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "milldam_milter_calls_total", es->stats.calls },
		{ "milldam_milter_connects_total", es->connects },
		{ "milldam_milter_reused_total", es->reused },
		{ "milldam_milter_timeouts_total", es->stats.timeouts },
		{ "milldam_milter_failures_total", es->stats.failures },
		{ "milldam_milter_fail_opens_total", es->stats.fail_opens },
		{ "milldam_milter_endpoint_faults_total", es->failures },
		{ "milldam_milter_ejections_total", es->ejections },
		{ "milldam_milter_probes_total", es->probes },
		{ "milldam_milter_probe_failures_total", es->probe_failures },
		{ "milldam_milter_replays_total", es->replays },
		{ "milldam_milter_pool_idle", es->n_idle },
		{ "milldam_milter_busy", es->busy },
	};
	size_t i;
	int rc = 0;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		rc |= metric_put(b, rows[i].value, rows[i].name, "milter",
		    milter, "endpoint", es->text, NULL);
	for (i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		rc |= metric_put(b,
		    strcmp(states[i], breaker_word(&es->breaker)) == 0,
		    "milldam_milter_endpoint_state", "milter", milter,
		    "endpoint", es->text, "state", states[i], NULL);
	return (rc | put_verdicts(b, milter, es) | put_latency(b, milter, es));
}

static int
put_milter(struct buf *b, struct mstate *m, const struct milter_conf *conf)
{
	static const char *const modes[] = { "enforce", "shadow", "off",
		"drain" };
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "milldam_milter_sessions_total", m->sessions },
		{ "milldam_milter_left_out_total", m->left_out },
		{ "milldam_milter_quarantines_total", m->quarantines },
		{ "milldam_milter_dropped_edits_total", m->dropped },
		{ "milldam_milter_not_shown_total", m->unshown },
		{ "milldam_milter_failovers_total", m->failovers },
		{ "milldam_milter_replays_unlike_total", m->unlike },
	};
	const struct estate *es;
	size_t i;
	int rc = 0;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		rc |= metric_put(
		    b, rows[i].value, rows[i].name, "milter", m->name, NULL);
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		rc |= metric_put(b, engine_effective(m, conf) == i,
		    "milldam_milter_mode", "milter", m->name, "mode", modes[i],
		    NULL);
	for (i = 0; i < conf->n_endpoints; i++)
		if ((es = endpoint_state(m, conf->endpoints[i].text)) != NULL)
			rc |= put_endpoint(b, m->name, es);
	return (rc);
}

int
engine_metrics(struct engine *e, struct buf *out)
{
	const struct settings *s = e->settings;
	struct mstate *m;
	size_t i;
	int rc = 0;

	for (i = 0; i < s->n_milters; i++)
		if ((m = engine_state(e, s->milters[i].name)) != NULL)
			rc |= put_milter(out, m, &s->milters[i]);
	return (rc != 0 ? -1 : 0);
}
