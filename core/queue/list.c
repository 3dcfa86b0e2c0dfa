/* SPDX-License-Identifier: ISC */

/* list - what the queue says of itself and its messages, in JSON */

#include "core/queue/queue.h"

#include "milter-sdk/base/json.h"

#include <errno.h>
#include <string.h>

enum { JSON_DEPTH = 32, HEADER_SHOWN = 256 << 10 };

/* Checking JSON that another process made, before it becomes part of ours. */
struct text {
	const char *p, *end;
};

static void
blanks(struct text *t)
{
	while (
	    t->p < t->end && strchr(" \t\r\n", *t->p) != NULL && *t->p != '\0')
		t->p++;
}

static bool
take(struct text *t, char c)
{
	blanks(t);
	if (t->p == t->end || *t->p != c)
		return (false);
	t->p++;
	return (true);
}

static bool
string_ok(struct text *t)
{
	if (!take(t, '"'))
		return (false);
	for (; t->p < t->end && *t->p != '"'; t->p++) {
		if ((unsigned char)*t->p < 32)
			return (false);
		if (*t->p == '\\' &&
		    (++t->p == t->end || *t->p == '\0' ||
		        strchr("\"\\/bfnrtu", *t->p) == NULL))
			return (false);
	}
	return (take(t, '"'));
}

static bool
word_ok(struct text *t)
{
	const char *at;

	blanks(t);
	for (at = t->p; t->p < t->end && *t->p != '\0' &&
	     strchr("+-.0123456789eEtrufalsn", *t->p) != NULL;
	     t->p++)
		;
	if (t->p == at)
		return (false);
	if (*at == '-' || (*at >= '0' && *at <= '9'))
		return (true);
	return (
	    (t->p - at == 4 &&
	        (memcmp(at, "true", 4) == 0 || memcmp(at, "null", 4) == 0)) ||
	    (t->p - at == 5 && memcmp(at, "false", 5) == 0));
}

static bool
value_ok(struct text *t, unsigned depth)
{
	char open, close;

	blanks(t);
	if (t->p == t->end || depth == 0)
		return (false);
	open = *t->p;
	if (open == '"')
		return (string_ok(t));
	if (open != '{' && open != '[')
		return (word_ok(t));
	close = open == '{' ? '}' : ']';
	t->p++;
	if (take(t, close))
		return (true);
	do {
		if (open == '{' && (!string_ok(t) || !take(t, ':')))
			return (false);
		if (!value_ok(t, depth - 1))
			return (false);
	} while (take(t, ','));
	return (take(t, close));
}

/* list_raw_json - text as it is if it is JSON, else as a string */
int
list_raw_json(struct buf *out, const char *text, size_t len)
{
	struct text t = { text, text + len };

	if (value_ok(&t, JSON_DEPTH)) {
		blanks(&t);
		if (t.p == t.end)
			return (buf_add(out, text, len));
	}
	return (json_strn(out, text, len));
}

static const char *
state_name(const struct entry *e)
{
	if ((e->flags & E_HELD) != 0)
		return ("held");
	return ((e->flags & E_DEFERRED) != 0 ? "deferred" : "active");
}

/* reason - why it is still here */
static const char *
reason(const struct entry *e)
{
	const struct job *j;

	for (j = e->jobs; j != NULL; j = j->sibling)
		if (j->site->reply != NULL)
			return (j->site->reply);
	return (e->reason != NULL ? e->reason : "");
}

/* next_try - Unix ms; 0 when held or in hand */
static uint64_t
next_try(const struct entry *e)
{
	const struct job *j;
	uint64_t at = e->next_ms;

	if ((e->flags & E_HELD) != 0)
		return (0);
	for (j = e->jobs; j != NULL; j = j->sibling)
		if (j->site->fails > 0 && j->site->timer.pos != 0 &&
		    (at == 0 || j->site->timer.at_ms < at))
			at = j->site->timer.at_ms;
	return (at);
}

static int
recipients(const struct entry *e, const struct envelope *v, struct buf *out)
{
	static const char *const names[] = { "waiting", "waiting", "waiting",
		"waiting", "done", "failed" };
	int rc = json_key(out, "recipients") | buf_add(out, "[", 1);
	enum rstate st;
	uint32_t i;

	for (i = 0; i < e->n_rcpts && rc == 0; i++) {
		st = entry_state(e, i);
		rc = buf_addf(out, "%s{", i > 0 ? "," : "") |
		    json_kv_str(out, "address", v->rcpts[i].addr) |
		    json_kv_str(out, "state", names[st]) |
		    json_kv_str(out, "reply", st < R_DONE ? reason(e) : "") |
		    buf_add(out, "}", 1);
	}
	return (rc | buf_add(out, "]", 1));
}

/* header - the message's header as text */
static int
header(struct queue *q, const struct entry *e, struct buf *out)
{
	struct buf b = BUF_INIT(HEADER_SHOWN + 1);
	const char *end;
	size_t n;
	int rc;

	if (spool_read_content(q->spool, e->seq, &b, HEADER_SHOWN) == -1)
		b.len = 0;
	end = b.len > 0 ? memmem(b.data, b.len, "\r\n\r\n", 4) : NULL;
	n = end != NULL ? (size_t)(end - b.data) + 2 : b.len;
	rc = json_key(out, "header") |
	    json_strn(out, b.data != NULL ? b.data : "", n);
	buf_fini(&b);
	return (rc);
}

static int
record(struct queue *q, const struct entry *e, struct buf *out)
{
	struct buf b = BUF_INIT(RECORD_MAX + 1);
	int rc = json_key(out, "record");

	if (spool_read_record(q->spool, e->seq, &b) == -1 || b.len == 0)
		rc |= buf_addf(out, "null");
	else
		rc |= list_raw_json(out, b.data, b.len);
	buf_fini(&b);
	return (rc);
}

int
list_entry(struct queue *q, struct entry *e, bool full, struct buf *out)
{
	bool was_hot = e->hot != NULL;
	struct hot *h = entry_env(q, e);
	const struct envelope *v;
	size_t was = out->len;
	int rc;

	rc = buf_add(out, "{", 1) | json_kv_str(out, "id", e->id) |
	    json_kv_num(out, "arrival", e->arrival_ms / 1000) |
	    json_kv_num(out, "size", e->size);
	if (h != NULL) {
		v = &h->env;
		rc |= json_kv_str(out, "sender", v->sender) |
		    recipients(e, v, out) |
		    json_kv_str(out, "hold_by",
		        (e->flags & E_HELD) != 0 ? v->hold_by : "");
		if (full)
			rc |= json_kv_str(out, "client", v->client_addr) |
			    json_kv_str(out, "helo", v->helo) |
			    header(q, e, out) | record(q, e, out);
	} else
		rc |= json_kv_str(out, "error", strerror(errno));
	rc |= json_kv_str(out, "state", state_name(e)) |
	    json_kv_str(out, "reason", reason(e)) |
	    json_kv_num(out, "next_try", (next_try(e) + 999) / 1000) |
	    json_kv_num(out, "attempts", e->attempts) | buf_add(out, "}", 1);
	if (!was_hot) /* a list must not push out what delivery needs */
		entry_drop_env(q, e);
	if (rc != 0)
		out->len = was; /* whole or not at all */
	return (rc != 0 ? -1 : 0);
}

static int
counters(const struct counters *c, struct buf *out)
{
	return (json_key(out, "counters") | buf_add(out, "{", 1) |
	    json_kv_num(out, "accepted", c->accepted) |
	    json_kv_num(out, "delivered", c->delivered) |
	    json_kv_num(out, "failed", c->failed) |
	    json_kv_num(out, "bounced", c->bounced) |
	    json_kv_num(out, "discarded", c->discarded) |
	    json_kv_num(out, "deferrals", c->deferrals) |
	    json_kv_num(out, "deleted", c->deleted) | buf_add(out, "}", 1));
}

static int
spool_members(struct queue *q, struct buf *out)
{
	struct spool_stats s;

	spool_stats(q->spool, &s);
	return (json_key(out, "spool") | buf_add(out, "{", 1) |
	    json_kv_num(out, "messages_put", s.messages_put) |
	    json_kv_num(out, "messages_live", s.messages_live) |
	    json_kv_num(out, "messages_dropped", s.messages_dropped) |
	    json_kv_num(out, "syncs", s.syncs) |
	    json_kv_num(out, "sync_us_total", s.sync_us_total) |
	    json_kv_num(out, "batches", s.batches) |
	    json_kv_num(out, "bytes_written", s.bytes_written) |
	    json_kv_num(out, "segments", s.segments) |
	    json_kv_num(out, "reserve", s.reserve) |
	    json_kv_num(out, "recycled", s.recycled) |
	    json_kv_num(out, "damaged", s.damaged) | buf_add(out, "}", 1));
}

int
list_status(struct queue *q, struct buf *out)
{
	int rc;

	rc = buf_add(out, "{", 1) |
	    json_kv_num(out, "messages", q->n_entries - q->n_uncommitted) |
	    json_kv_num(out, "held", q->n_held) |
	    json_kv_num(out, "deferred", q->n_deferred) |
	    json_kv_num(out, "delivering", q->n_flights) |
	    json_kv_num(out, "uncommitted", q->n_uncommitted) |
	    json_kv_num(out, "sites", q->n_sites) | json_key(out, "accepting") |
	    buf_addf(out, q->accepting ? "true" : "false") |
	    json_kv_str(out, "delivery", q->paused ? "paused" : "running") |
	    counters(&q->counters, out) | spool_members(q, out) |
	    buf_add(out, "}", 1);
	return (rc != 0 ? -1 : 0);
}
