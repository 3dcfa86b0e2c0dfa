/* SPDX-License-Identifier: ISC */

/*
 * metrics - what the queue tells monitoring
 *
 * The balance: each recipient that was accepted is delivered, bounced,
 * discarded, deleted, or still here.  Every number of it is counted where its
 * event happens, none from the others, so that a difference means something.
 */

#include "core/queue/queue.h"

#include "milter-sdk/base/metric.h"

static const char *const origins[2] = { "client", "own" };

static int
balance(struct queue *q, unsigned own, struct buf *b)
{
	const struct spool_totals *t = spool_totals(q->spool);
	const struct {
		const char *how;
		uint64_t n;
	} ends[] = { { "delivered", t->delivered[own] },
		{ "bounced", t->bounced[own] },
		{ "discarded", t->discarded[own] },
		{ "deleted", t->deleted[own] } };
	uint64_t all = q->waiting[own][0] + q->waiting[own][1];
	uint64_t in = q->counters.recipients[own];
	const char *o = origins[own];
	size_t i;
	int rc;

	rc = metric_put(b, q->counters.messages[own],
	         "milldam_messages_accepted_total", "origin", o, NULL) |
	    metric_put(
	        b, in, "milldam_recipients_accepted_total", "origin", o, NULL) |
	    metric_put(b, q->waiting[own][0], "milldam_recipients_waiting",
	        "origin", o, "state", "queued", NULL) |
	    metric_put(b, q->waiting[own][1], "milldam_recipients_waiting",
	        "origin", o, "state", "quarantined", NULL);
	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		rc |= metric_put(b, ends[i].n, "milldam_recipients_ended_total",
		    "origin", o, "outcome", ends[i].how, NULL);
		all += ends[i].n;
	}
	return (rc |
	    metric_put(b, in > all ? in - all : all - in,
	        "milldam_recipients_unaccounted", "origin", o, NULL));
}

static int
sites(struct queue *q, struct buf *b)
{
	uint64_t dead = 0;
	const struct site *s;
	size_t i;

	for (i = 0; i < q->n_site_buckets; i++)
		for (s = q->sites[i]; s != NULL; s = s->next)
			dead += s->fails > 0;
	return (metric_put(b, q->n_sites - dead, "milldam_queue_sites", "state",
	            "alive", NULL) |
	    metric_put(b, dead, "milldam_queue_sites", "state", "dead", NULL));
}

static int
spool(struct queue *q, struct buf *b)
{
	struct spool_stats s;

	spool_stats(q->spool, &s);
	return (metric_put(b, s.syncs, "milldam_spool_syncs_total", NULL) |
	    metric_us(
	        b, s.sync_us_total, "milldam_spool_sync_seconds_total", NULL) |
	    metric_put(b, s.batches, "milldam_spool_batches_total", NULL) |
	    metric_put(
	        b, s.bytes_written, "milldam_spool_written_bytes_total", NULL) |
	    metric_put(b, s.segments, "milldam_spool_segments", NULL) |
	    metric_put(b, s.reserve, "milldam_spool_free_segments", NULL) |
	    metric_put(b, s.recycled, "milldam_spool_recycled_total", NULL) |
	    metric_put(b, s.damaged, "milldam_spool_damaged_total", NULL));
}

int
queue_metrics(struct queue *q, struct buf *b)
{
	const struct {
		const char *state;
		uint64_t n;
	} rows[] = {
		{ "active",
		    q->n_entries - q->n_uncommitted - q->n_held -
		        q->n_deferred },
		{ "deferred", q->n_deferred },
		{ "held", q->n_held },
		{ "uncommitted", q->n_uncommitted },
	};
	size_t i;
	int rc = balance(q, 0, b) | balance(q, 1, b);

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		rc |= metric_put(b, rows[i].n, "milldam_queue_messages",
		    "state", rows[i].state, NULL);
	rc |= metric_put(b, q->counters.late,
	          "milldam_delivered_after_delete_total", NULL) |
	    metric_put(
	        b, q->counters.deferrals, "milldam_deferrals_total", NULL) |
	    metric_put(b, q->counters.bounced, "milldam_bounces_total", NULL) |
	    metric_put(b, q->n_flights, "milldam_queue_delivering", NULL) |
	    metric_put(b, q->accepting, "milldam_queue_accepting", NULL) |
	    metric_put(b, q->paused, "milldam_queue_paused", NULL);
	return (rc | sites(q, b) | spool(q, b)) != 0 ? -1 : 0;
}
