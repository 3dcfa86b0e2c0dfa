/* SPDX-License-Identifier: ISC */

/*
 * record - what is told about a decision: the record, the log line, the status
 */

#include "core/receiver/receiver.h"

#include "milter-sdk/base/json.h"
#include "milter-sdk/base/metric.h"
#include "milter-sdk/base/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	RCPTS_SHOWN = 1000,
	CHAIN_RECORD_MAX = 128 << 10,
	MESSAGE_ID_MAX = 1000 /* bytes */
};

const char *
record_relay(const struct session *s, char *room, size_t n)
{
	const char *name = s->client_name != NULL ? s->client_name : "";

	if (name[0] == '\0' || name[0] == '[')
		(void)snprintf(room, n, "[%s]", s->client_addr);
	else
		(void)snprintf(room, n, "%s [%s]", name, s->client_addr);
	return (room);
}

void
record_refusal(
    struct session *s, const char *milter, const char *reply, const char *to)
{
	char relay[512], who[128], say[512], from[560], rcpt[560], helo[300];
	const struct envelope *e = s->tx != NULL ? &s->tx->env : NULL;
	char to_part[600] = "", by[150] = "", from_part[600] = "";

	if (milter[0] != '\0')
		(void)snprintf(by, sizeof(by), "milter=%s, ",
		    log_quote(who, sizeof(who), milter));
	if (e != NULL)
		(void)snprintf(from_part, sizeof(from_part), "from=<%s>, ",
		    log_quote(from, sizeof(from), e->sender));
	if (to == NULL && e != NULL && e->n_rcpts == 1)
		to = e->rcpts[0].addr;
	if (to != NULL)
		(void)snprintf(to_part, sizeof(to_part), "to=<%s>, ",
		    log_quote(rcpt, sizeof(rcpt), to));
	log_info("%s: %sreject=%s, %s%srelay=%s, helo=%s",
	    e != NULL ? e->id : "NOQUEUE", by,
	    log_quote(say, sizeof(say), reply), from_part, to_part,
	    record_relay(s, relay, sizeof(relay)),
	    log_quote(helo, sizeof(helo), s->helo != NULL ? s->helo : ""));
}

static int
add_time(struct buf *out, uint64_t unix_ms)
{
	time_t t = (time_t)(unix_ms / 1000);
	struct tm tm;
	char text[40];

	if (gmtime_r(&t, &tm) == NULL)
		return (-1);
	(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	return (json_key(out, "time") == -1 ||
	            buf_addf(out, "\"%s.%03uZ\"", text,
	                (unsigned)(unix_ms % 1000)) == -1
	        ? -1
	        : 0);
}

static int
add_rcpts(struct buf *out, const struct envelope *e)
{
	size_t i, n = e->n_rcpts < RCPTS_SHOWN ? e->n_rcpts : RCPTS_SHOWN;

	if (json_key(out, "recipients") == -1 || buf_add(out, "[", 1) == -1)
		return (-1);
	for (i = 0; i < n; i++)
		if ((i > 0 && buf_add(out, ",", 1) == -1) ||
		    json_str(out, e->rcpts[i].addr) == -1)
			return (-1);
	if (buf_add(out, "]", 1) == -1)
		return (-1);
	return (n == e->n_rcpts
	        ? 0
	        : json_kv_num(out, "recipients_in_all", e->n_rcpts));
}

/* add_message_id - as the client sent it, for searches */
static int
add_message_id(struct buf *out, const struct message *m)
{
	size_t i = message_find(m, "Message-ID", 0), n;
	const char *p;

	if (i == m->n_fields)
		return (0);
	p = m->fields[i].value;
	n = m->fields[i].value_len;
	while (n > 0 && strchr(" \t\r\n", *p) != NULL)
		p++, n--;
	while (n > 0 && strchr(" \t\r\n", p[n - 1]) != NULL)
		n--;
	if (n == 0 || n > MESSAGE_ID_MAX)
		return (0);
	return (json_key(out, "message_id") == -1 ? -1 : json_strn(out, p, n));
}

/* add_milters - the chain's part; one too large is left out, and said so */
static int
add_milters(struct session *s, int group, struct buf *out)
{
	struct buf b = BUF_INIT(CHAIN_RECORD_MAX);
	int rc;

	if (s->chain != NULL &&
	    (group == -1
	            ? chain_record(s->chain, &b)
	            : chain_group_record(s->chain, (uint16_t)group, &b)) == 0 &&
	    b.len > 0) {
		rc = json_key(out, "milters");
		if (rc == 0)
			rc = buf_add(out, b.data, b.len);
	} else
		rc = json_kv_str(out, "milters", "too large");
	buf_fini(&b);
	return (rc);
}

static const char *
summary(struct session *s, int group)
{
	if (s->chain == NULL)
		return ("");
	return (group == -1 ? chain_summary(s->chain)
	                    : chain_group_summary(s->chain, (uint16_t)group));
}

/* What a record says of the outcome. */
struct told {
	const char *outcome, *reply, *milter;
	bool rcpts; /* name them */
};

/* add_release - of which held message, and who was passed by */
static int
add_release(const struct session *s, struct buf *out)
{
	const struct release *l = s->release;

	return (l == NULL ? 0
	                  : json_kv_str(out, "released_from", release_id(l)) |
	            json_kv_str(out, "without", release_without(l)));
}

static int
make(struct session *s, const struct envelope *e, int group,
    const struct told *t, struct buf *out)
{
	if (buf_add(out, "{", 1) == -1 || json_kv_str(out, "id", e->id) == -1 ||
	    (group != -1 && json_kv_num(out, "group", e->group) == -1) ||
	    add_release(s, out) == -1 || add_time(out, e->arrival_ms) == -1 ||
	    json_kv_str(out, "client", e->client_addr) == -1 ||
	    json_kv_str(out, "client_name", e->client_name) == -1 ||
	    json_kv_str(out, "helo", e->helo) == -1 ||
	    json_kv_str(out, "listener", e->listener) == -1 ||
	    json_kv_str(out, "policy", e->policy) == -1 ||
	    json_kv_str(out, "policy_hash", e->policy_hash) == -1 ||
	    json_kv_str(out, "sender", e->sender) == -1 ||
	    add_message_id(out, &s->tx->msg) == -1 ||
	    (t->rcpts && add_rcpts(out, e) == -1) ||
	    json_kv_num(out, "size", s->tx->size) == -1 ||
	    json_kv_str(out, "outcome", t->outcome) == -1 ||
	    json_kv_str(out, "reply", t->reply) == -1 ||
	    json_kv_str(out, "milter", t->milter) == -1 ||
	    json_kv_str(out, "summary", summary(s, group)) == -1 ||
	    add_milters(s, group, out) == -1)
		return (-1);
	return (buf_add(out, "}", 1));
}

int
record_make(struct session *s, const struct envelope *e, int group,
    const char *outcome, const char *reply, const char *milter, struct buf *out)
{
	struct told t = { outcome, reply, milter, true };

	if (make(s, e, group, &t, out) == 0)
		return (0);
	out->len = 0; /* thousands of long addresses */
	t.rcpts = false;
	return (make(s, e, group, &t, out));
}

/* hand_over - a record to the queue */
static int
hand_over(struct receiver *r, const struct buf *record)
{
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };
	int rc = -1;

	pack_str(&k, record->data);
	if (r->queue != NULL && pack_end(&k) == 0)
		rc = chan_send_buf(r->queue, MSG_RECORD, 0, &b, -1);
	buf_fini(&b);
	return (rc);
}

static void
send_record(struct session *s, const struct envelope *e, int group,
    const struct told *t)
{
	struct buf record = BUF_INIT(RECORD_MAX);

	if (s->chain != NULL)
		chain_outcome(s->chain, group, t->outcome, t->reply, t->milter);
	if (record_make(
	        s, e, group, t->outcome, t->reply, t->milter, &record) == -1 ||
	    hand_over(s->r, &record) == -1)
		log_warning(
		    "%s: decision record lost: outcome=%s", e->id, t->outcome);
	buf_fini(&record);
}

static int
make_shadow(const struct chain_shadow *w, struct buf *out)
{
	if (buf_add(out, "{", 1) == -1 || json_kv_str(out, "id", w->id) == -1 ||
	    json_kv_str(out, "shadow", w->milter) == -1 ||
	    (w->group != 0 && json_kv_num(out, "group", w->group) == -1) ||
	    add_time(out, w->arrival_ms) == -1 ||
	    json_kv_str(out, "listener", w->listener) == -1 ||
	    json_kv_str(out, "policy", w->policy) == -1 ||
	    json_kv_str(out, "outcome", w->outcome) == -1 ||
	    json_kv_str(out, "reply", w->reply) == -1 ||
	    json_kv_str(out, "milter", w->by) == -1 ||
	    json_kv_str(out, "verdict", w->verdict) == -1 ||
	    json_key(out, "milters") == -1 ||
	    (w->milters->len > 0
	            ? buf_add(out, w->milters->data, w->milters->len)
	            : json_str(out, "too large")) == -1)
		return (-1);
	return (buf_add(out, "}", 1));
}

void
record_shadow(void *arg, const struct chain_shadow *w)
{
	struct receiver *r = arg;
	struct buf record = BUF_INIT(RECORD_MAX);

	if (make_shadow(w, &record) == -1 || hand_over(r, &record) == -1)
		log_warning("%s: milter=%s: shadow: decision record lost",
		    w->id, w->milter);
	buf_fini(&record);
	receiver_session_gone(r);
}

void
record_send(struct session *s, const char *outcome, const char *reply,
    const char *milter)
{
	struct told t = { outcome, reply, milter, true };

	send_record(s, &s->tx->env, -1, &t);
}

void
record_send_part(struct session *s, const struct part *p, const char *outcome)
{
	struct told t = { outcome, p->reply, p->milter, true };

	send_record(s, &p->env, p->group, &t);
}

void
record_discard(struct session *s, const struct envelope *env)
{
	struct buf b = BUF_INIT(64);
	struct packer k = { &b, false };

	pack_u32(&k, (uint32_t)env->n_rcpts);
	if (s->r->queue == NULL || pack_end(&k) == -1 ||
	    chan_send_buf(s->r->queue, MSG_DISCARDED, 0, &b, -1) == -1)
		log_warning("%s: discard: not counted", env->id);
	buf_fini(&b);
}

int
record_metrics(struct receiver *r, struct buf *out)
{
	return (metric_put(out, r->n_sessions, "milldam_sessions", NULL) |
	    metric_put(out, r->sessions_total, "milldam_sessions_total", NULL) |
	    metric_put(out, r->messages, "milldam_received_total", NULL) |
	    metric_put(out, r->rejected, "milldam_refused_total", NULL) |
	    metric_put(out, r->submitting, "milldam_submitting", NULL) |
	    engine_metrics(r->engine, out));
}

int
record_status(struct receiver *r, struct buf *out)
{
	if (buf_add(out, "{", 1) == -1 ||
	    json_kv_num(out, "sessions", r->n_sessions) == -1 ||
	    json_kv_num(out, "sessions_total", r->sessions_total) == -1 ||
	    json_kv_num(out, "messages", r->messages) == -1 ||
	    json_kv_num(out, "submitting", r->submitting) == -1 ||
	    json_kv_num(out, "rejected", r->rejected) == -1 ||
	    json_key(out, "milters") == -1 ||
	    engine_stats(r->engine, out) == -1)
		return (-1);
	return (buf_add(out, "}", 1));
}
