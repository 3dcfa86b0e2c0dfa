/* SPDX-License-Identifier: ISC */

/*
 * page - the metrics in the text format of Prometheus, version 0.0.4
 *
 * The table is the list of all there is; docs/metrics.md says more of each, and
 * tests/lint/metrics.py compares the two and what the processes say.
 */

#include "core/web/page.h"

#include "milter-sdk/base/metric.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 4096, NAME_MAX_BYTES = 64, PAGE_MAX = 16 << 20 };

enum type { COUNTER, GAUGE, HISTOGRAM };
static const char *const type_names[] = { "counter", "gauge", "histogram" };

static const struct family {
	const char *name;
	enum type type;
	const char *help;
} families[] = {
	{ "milldam_messages_accepted_total", COUNTER,
	    "Messages that were answered 250 or made by the queue itself" },
	{ "milldam_recipients_accepted_total", COUNTER,
	    "Recipients of accepted messages" },
	{ "milldam_recipients_ended_total", COUNTER,
	    "Recipients that are over, by what became of them" },
	{ "milldam_recipients_waiting", GAUGE,
	    "Recipients in the queue or in quarantine" },
	{ "milldam_recipients_unaccounted", GAUGE,
	    "Accepted recipients less all others: 0, or something is wrong" },
	{ "milldam_delivered_after_delete_total", COUNTER,
	    "Recipients delivered while their message was being deleted" },
	{ "milldam_queue_messages", GAUGE, "Messages by state" },
	{ "milldam_queue_delivering", GAUGE, "Hand-outs in the relays' hands" },
	{ "milldam_queue_accepting", GAUGE,
	    "1 while the queue lets MAIL be accepted" },
	{ "milldam_queue_paused", GAUGE, "1 while delivery is paused" },
	{ "milldam_queue_sites", GAUGE, "Next hops by state" },
	{ "milldam_deferrals_total", COUNTER,
	    "Tries of a recipient that failed for now" },
	{ "milldam_bounces_total", COUNTER,
	    "Non-delivery reports put into the queue" },
	{ "milldam_spool_syncs_total", COUNTER, "Syncs of the journal" },
	{ "milldam_spool_sync_seconds_total", COUNTER, "Time that syncs took" },
	{ "milldam_spool_batches_total", COUNTER,
	    "Batches written to the journal" },
	{ "milldam_spool_written_bytes_total", COUNTER,
	    "Bytes written to the journal" },
	{ "milldam_spool_segments", GAUGE, "Segments of the journal" },
	{ "milldam_spool_free_segments", GAUGE, "Segments ready for use" },
	{ "milldam_spool_recycled_total", COUNTER, "Segments recycled" },
	{ "milldam_spool_damaged_total", COUNTER, "Damaged pieces found" },
	{ "milldam_sessions", GAUGE, "SMTP sessions now" },
	{ "milldam_sessions_total", COUNTER, "SMTP sessions begun" },
	{ "milldam_received_total", COUNTER,
	    "Messages answered 250 by this receiver" },
	{ "milldam_refused_total", COUNTER,
	    "Refusals of this receiver, of a recipient or a message" },
	{ "milldam_submitting", GAUGE,
	    "Messages between end of data and the reply" },
	{ "milldam_milter_calls_total", COUNTER, "Commands sent to a milter" },
	{ "milldam_milter_verdicts_total", COUNTER,
	    "Answers of a milter by stage and verdict" },
	{ "milldam_milter_answer_seconds", HISTOGRAM,
	    "Time from a command to its answer" },
	{ "milldam_milter_timeouts_total", COUNTER,
	    "Connections and answers that took too long" },
	{ "milldam_milter_failures_total", COUNTER,
	    "Sessions with a milter that failed" },
	{ "milldam_milter_connects_total", COUNTER,
	    "Connections tried to a milter" },
	{ "milldam_milter_endpoint_state", GAUGE,
	    "1 for the state of the endpoint's breaker" },
	{ "milldam_milter_endpoint_faults_total", COUNTER,
	    "What its breaker counts: no connection, no answer, a broken one" },
	{ "milldam_milter_ejections_total", COUNTER,
	    "Times that the breaker took an endpoint out" },
	{ "milldam_milter_probes_total", COUNTER,
	    "Handshakes of the gateway's own" },
	{ "milldam_milter_probe_failures_total", COUNTER,
	    "Of these, those that failed" },
	{ "milldam_milter_failovers_total", COUNTER,
	    "Times that another endpoint took the place of one that failed" },
	{ "milldam_milter_replays_total", COUNTER,
	    "Messages told to an endpoint anew after another had failed" },
	{ "milldam_milter_replays_unlike_total", COUNTER,
	    "Replays answered otherwise than the first time" },
	{ "milldam_milter_busy", GAUGE, "Connections that sessions have" },
	{ "milldam_milter_reused_total", COUNTER,
	    "Sessions over a pooled connection" },
	{ "milldam_milter_pool_idle", GAUGE, "Pooled connections now" },
	{ "milldam_milter_sessions_total", COUNTER,
	    "SMTP sessions that used the milter" },
	{ "milldam_milter_fail_opens_total", COUNTER,
	    "Failures passed over by on-failure = accept" },
	{ "milldam_milter_quarantines_total", COUNTER,
	    "Messages that the milter put into quarantine" },
	{ "milldam_milter_dropped_edits_total", COUNTER,
	    "Changes left out because may does not allow them" },
	{ "milldam_milter_left_out_total", COUNTER,
	    "Messages not shown to the milter: its sample" },
	{ "milldam_milter_not_shown_total", COUNTER,
	    "Messages not shown to the milter in shadow: no room" },
	{ "milldam_milter_mode", GAUGE, "1 for the mode that is in force" },
	{ "milldam_relay_connections", GAUGE, "Connections to next hops" },
	{ "milldam_relay_idle_connections", GAUGE,
	    "Of these, kept for the next message" },
	{ "milldam_relay_delivering", GAUGE, "Hand-outs in this relay" },
	{ "milldam_relay_handouts_total", COUNTER, "Hand-outs received" },
	{ "milldam_relay_answers_total", COUNTER,
	    "Recipients by the next hops' answer" },
	{ "milldam_relay_opened_total", COUNTER, "Connections opened" },
	{ "milldam_relay_reused_total", COUNTER,
	    "Messages over a connection that was open" },
	{ "milldam_relay_damaged_total", COUNTER,
	    "Messages whose bytes did not match their checksum" },
	{ "milldam_lookup_queries_total", COUNTER, "DNS queries" },
	{ "milldam_lookup_cached_total", COUNTER,
	    "Questions answered from the cache" },
	{ "milldam_lookup_failed_total", COUNTER, "DNS queries that failed" },
	{ "milldam_process_up", GAUGE, "1 while the process runs" },
	{ "milldam_process_answers", GAUGE,
	    "1 if the process told its numbers for this page" },
	{ "milldam_process_restarts_total", COUNTER,
	    "Times that the process was started again" },
	{ "milldam_alarms_total", COUNTER, "Alarms raised" },
	{ "milldam_ready", GAUGE, "What /readyz says" },
};
enum { FAMILIES = sizeof(families) / sizeof(families[0]) };

static bool
is_name(char c, bool first)
{
	return ((c >= 'a' && c <= 'z') || c == '_' ||
	    (!first && c >= '0' && c <= '9'));
}

/* name_end - past a name, or p */
static const char *
name_end(const char *p, const char *end)
{
	const char *at = p;

	while (p < end && is_name(*p, p == at))
		p++;
	return (p);
}

/* labels_end - past a name="value",... list, or NULL */
static const char *
labels_end(const char *p, const char *end)
{
	const char *at;

	for (;; p++) {
		if ((at = name_end(p, end)) == p || end - at < 2 ||
		    at[0] != '=' || at[1] != '"')
			return (NULL);
		for (p = at + 2; p < end && *p != '"'; p++) {
			if (*p < 32 || *p > 126 ||
			    (*p == '\\' &&
			        (++p == end ||
			            (*p != '\\' && *p != '"' && *p != 'n'))))
				return (NULL);
		}
		if (p == end || ++p == end)
			return (NULL);
		if (*p != ',')
			return (p);
	}
}

static bool
is_number(const char *p, const char *end)
{
	const char *at = p;
	unsigned dots = 0;

	for (; p < end; p++)
		if (*p == '.' && p > at && p + 1 < end)
			dots++;
		else if (*p < '0' || *p > '9')
			return (false);
	return (p > at && dots < 2);
}

/* family_of - the index, or FAMILIES */
static size_t
family_of(const char *name, size_t n)
{
	static const char *const parts[] = { "_bucket", "_sum", "_count" };
	size_t i, k, len;

	for (i = 0; i < FAMILIES; i++) {
		len = strlen(families[i].name);
		if (n < len || memcmp(name, families[i].name, len) != 0)
			continue;
		if (families[i].type != HISTOGRAM) {
			if (n == len)
				return (i);
			continue;
		}
		for (k = 0; k < 3; k++)
			if (n - len == strlen(parts[k]) &&
			    memcmp(name + len, parts[k], n - len) == 0)
				return (i);
	}
	return (FAMILIES);
}

/* sample - one line to its family, with the process as first label */
static int
sample(struct buf *out, const char *p, size_t n, const char *process)
{
	const char *end = p + n, *name = name_end(p, end), *labels = NULL;
	const char *value = name;
	size_t i = family_of(p, (size_t)(name - p));
	int rc;

	if (i == FAMILIES || name == end)
		return (0);
	if (*name == '{') {
		labels = name + 1;
		value = labels_end(labels, end);
		if (value == NULL || value == end || *value++ != '}')
			return (0);
	}
	if (value == end || *value != ' ' || !is_number(value + 1, end))
		return (0);
	rc = buf_add(&out[i], p, (size_t)(name - p));
	if (process[0] != '\0')
		rc |= buf_add(&out[i], "{", 1) |
		    metric_label(&out[i], "process", process) |
		    buf_add(&out[i], labels != NULL ? "," : "}", 1);
	else if (labels != NULL)
		rc |= buf_add(&out[i], "{", 1);
	if (labels != NULL)
		rc |= buf_add(&out[i], labels, (size_t)(value - labels));
	return (rc | buf_add(&out[i], value, (size_t)(end - value)) |
	    buf_add(&out[i], "\n", 1));
}

/* spread - every sample to its family's buffer */
static int
spread(const char *p, size_t n, struct buf *out)
{
	static const char mark[] = "# process ";
	char process[NAME_MAX_BYTES] = "";
	const char *end = p + n, *nl;
	size_t len;

	for (; p < end && (nl = memchr(p, '\n', (size_t)(end - p))) != NULL;
	     p = nl + 1) {
		len = (size_t)(nl - p);
		if (len >= sizeof(mark) - 1 &&
		    memcmp(p, mark, sizeof(mark) - 1) == 0) {
			p += sizeof(mark) - 1;
			len = (size_t)(nl - p);
			if (len >= sizeof(process))
				len = sizeof(process) - 1;
			memcpy(process, p, len);
			process[len] = '\0';
		} else if (len < LINE_MAX_BYTES &&
		    sample(out, p, len, process) != 0)
			return (-1);
	}
	return (0);
}

int
page_make(const char *gathered, size_t n, struct buf *out)
{
	struct buf *parts = calloc(FAMILIES, sizeof(*parts));
	int rc = parts == NULL ? -1 : 0;
	size_t i;

	for (i = 0; rc == 0 && i < FAMILIES; i++)
		parts[i].max = PAGE_MAX;
	if (rc == 0)
		rc = spread(gathered, n, parts);
	for (i = 0; rc == 0 && i < FAMILIES; i++)
		if (parts[i].len > 0)
			rc = buf_addf(out, "# HELP %s %s.\n# TYPE %s %s\n",
			         families[i].name, families[i].help,
			         families[i].name,
			         type_names[families[i].type]) |
			    buf_add(out, parts[i].data, parts[i].len);
	for (i = 0; parts != NULL && i < FAMILIES; i++)
		buf_fini(&parts[i]);
	free(parts);
	if (rc != 0)
		errno = ENOMEM;
	return (rc != 0 ? -1 : 0);
}
