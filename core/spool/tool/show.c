/* SPDX-License-Identifier: ISC */

/*
 * show - live messages as text for people and as JSON for programs
 *
 * All text came from the network: control bytes are escaped before they reach
 * a terminal.  A header is shown only after the whole content has been checked.
 */

#include "core/spool/tool/tool.h"
#include "milter-sdk/base/json.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEADER_MAX = 1 << 20, RECORD_MAX = 16 << 20, QUOTE_ROOM = 2048 };

static const char *const state_name[] = { "waiting", "done", "failed" };

/* when - Unix milliseconds as UTC, "-" for none */
static const char *
when(char out[32], uint64_t ms)
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;

	if (ms == 0 || ms / 1000 > INT32_MAX * (uint64_t)64 ||
	    gmtime_r(&t, &tm) == NULL ||
	    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return ("-");
	return (out);
}

static const char *
state_of(const struct item *it)
{
	return (it->held ? "held" : it->attempts > 0 ? "deferred" : "active");
}

/* quoted - one line, fit for a terminal; good until the call after the next */
static const char *
quoted(const char *s)
{
	static char out[2][QUOTE_ROOM];
	static unsigned n;

	n ^= 1;
	return (log_quote(out[n], sizeof(out[n]), s));
}

/* waits - the state of recipient i, safe against an envelope that changed */
static const char *
waits(const struct item *it, size_t i)
{
	return (i < it->n_states ? state_name[it->states[i] % 3] : "?");
}

int
list_text(struct view *v, FILE *f)
{
	char t1[32], t2[32];
	struct envelope env;
	size_t i, k;

	fprintf(f, "%-16s %8s %-20s %11s %-8s %-20s %s\n", "ID", "SEQ",
	    "ARRIVED", "SIZE", "STATE", "NEXT TRY", "SENDER, RECIPIENTS");
	for (i = 0; i < v->n_items; i++) {
		const struct item *it = &v->items[i];

		/* finished meanwhile by a gateway beside us */
		if (spool_read_envelope(v->sp, it->seq, &env) == -1)
			continue;
		fprintf(f,
		    "%-16s %8" PRIu64 " %-20s %11" PRIu64 " %-8s %-20s "
		    "<%s>\n",
		    quoted(env.id), it->seq, when(t1, env.arrival_ms),
		    it->place.length, state_of(it), when(t2, it->next_try_ms),
		    quoted(env.sender));
		for (k = 0; k < env.n_rcpts; k++)
			fprintf(f, "%89s %-7s <%s>\n", "", waits(it, k),
			    quoted(env.rcpts[k].addr));
		env_fini(&env);
	}
	fprintf(f, "%zu message%s\n", v->n_items, v->n_items == 1 ? "" : "s");
	return (0);
}

/* reason_of - why it is held: of the last hold record, else the envelope's */
static const char *
reason_of(const struct item *it, const struct envelope *e)
{
	return (it->why[0] != '\0' ? it->why : e->hold_reason);
}

static int
rcpt_json(const struct item *it, const struct rcpt *r, size_t k, struct buf *b)
{
	static const char *const mailer[] = { "none", "smtp", "error",
		"discard" };

	if (buf_add(b, "{", 1) == -1 ||
	    json_kv_str(b, "address", r->addr) == -1 ||
	    json_kv_str(b, "state", waits(it, k)) == -1 ||
	    json_kv_str(b, "orcpt", r->orcpt) == -1 ||
	    json_kv_num(b, "notify", r->notify) == -1 ||
	    json_kv_str(b, "mailer", mailer[r->route.mailer % 4]) == -1 ||
	    json_kv_str(b, "host", r->route.host) == -1 ||
	    json_kv_num(b, "port", r->route.port) == -1 ||
	    json_kv_str(b, "routed", r->route.addr) == -1 ||
	    json_kv_str(b, "text", r->route.text) == -1)
		return (-1);
	return (buf_add(b, "}", 1));
}

static int
session_json(const struct envelope *e, struct buf *b)
{
	if (json_kv_str(b, "envid", e->envid) == -1 ||
	    json_kv_str(b, "client", e->client_addr) == -1 ||
	    json_kv_num(b, "client_port", e->client_port) == -1 ||
	    json_kv_str(b, "client_name", e->client_name) == -1 ||
	    json_kv_str(b, "helo", e->helo) == -1 ||
	    json_kv_str(b, "proto", e->proto) == -1 ||
	    json_kv_str(b, "tls", e->tls) == -1 ||
	    json_kv_str(b, "auth_user", e->auth_user) == -1 ||
	    json_kv_str(b, "listener", e->listener) == -1 ||
	    json_kv_str(b, "policy", e->policy) == -1 ||
	    json_kv_str(b, "policy_hash", e->policy_hash) == -1 ||
	    json_kv_num(b, "hops", e->hops) == -1 ||
	    json_kv_num(b, "group", e->group) == -1)
		return (-1);
	return (json_kv_num(b, "flags", e->flags));
}

/* envelope_json - the members of a queue list's object, and more */
static int
envelope_json(const struct item *it, const struct envelope *e, struct buf *b)
{
	size_t k;

	if (json_kv_str(b, "id", e->id) == -1 ||
	    json_kv_num(b, "seq", it->seq) == -1 ||
	    json_kv_num(b, "arrival", e->arrival_ms / 1000) == -1 ||
	    json_kv_num(b, "size", it->place.length) == -1 ||
	    json_kv_str(b, "sender", e->sender) == -1 ||
	    json_kv_str(b, "state", state_of(it)) == -1 ||
	    json_kv_str(b, "reason", reason_of(it, e)) == -1 ||
	    json_kv_str(b, "hold_by", e->hold_by) == -1 ||
	    json_kv_num(b, "next_try", it->next_try_ms / 1000) == -1 ||
	    json_kv_num(b, "attempts", it->attempts) == -1 ||
	    json_kv_str(b, "last_reply", it->last_reply) == -1 ||
	    json_key(b, "recipients") == -1 || buf_add(b, "[", 1) == -1)
		return (-1);
	for (k = 0; k < e->n_rcpts; k++)
		if ((k > 0 && buf_add(b, ",", 1) == -1) ||
		    rcpt_json(it, &e->rcpts[k], k, b) == -1)
			return (-1);
	return (buf_add(b, "]", 1));
}

int
list_json(struct view *v, FILE *f)
{
	struct buf b = BUF_INIT(RECORD_MAX);
	struct envelope env;
	bool first = true;
	size_t i;
	int r;

	fputs("[", f);
	for (i = 0; i < v->n_items; i++) {
		if (spool_read_envelope(v->sp, v->items[i].seq, &env) == -1)
			continue;
		r = buf_add(&b, "{", 1) == -1 ||
		        envelope_json(&v->items[i], &env, &b) == -1 ||
		        buf_add(&b, "}", 1) == -1
		    ? -1
		    : 0;
		env_fini(&env);
		if (r == -1) {
			buf_fini(&b);
			return (-1);
		}
		fprintf(f, "%s%s", first ? "" : ",\n", b.data);
		first = false;
		b.len = 0;
	}
	fputs("]\n", f);
	buf_fini(&b);
	return (0);
}

int
item_json(struct view *v, const struct item *it, bool intact, struct buf *b)
{
	struct buf record = BUF_INIT(RECORD_MAX), was = BUF_INIT(RECORD_MAX);
	struct envelope env;
	int r = -1;

	if (spool_read_envelope(v->sp, it->seq, &env) == -1)
		return (-1);
	if (spool_read_record(v->sp, it->seq, &record) == -1 ||
	    spool_read_received(v->sp, it->seq, &was) == -1)
		goto done;
	if (envelope_json(it, &env, b) == -1 || session_json(&env, b) == -1 ||
	    json_kv_str(b, "content", intact ? "intact" : "damaged") == -1 ||
	    json_kv_str(b, "record", record.len > 0 ? record.data : "") == -1 ||
	    json_key(b, "received_header") == -1 ||
	    json_strn(b, was.len > 0 ? was.data : "", was.len) == -1)
		goto done;
	r = 0;
done:
	env_fini(&env);
	buf_fini(&record);
	buf_fini(&was);
	return (r);
}

/* header_of - the content's header, once all of the content is known good */
static int
header_of(struct view *v, const struct item *it, struct buf *out)
{
	struct buf all = BUF_INIT(HEADER_MAX);
	char *end;
	int r;

	if (spool_verify_content(v->sp, it->seq) == -1 ||
	    spool_read_content(v->sp, it->seq, &all, HEADER_MAX) == -1) {
		buf_fini(&all);
		return (-1);
	}
	end = all.len > 0 ? memmem(all.data, all.len, "\r\n\r\n", 4) : NULL;
	r = buf_add(out, all.data,
	    end != NULL ? (size_t)(end + 2 - all.data) : all.len);
	buf_fini(&all);
	return (r);
}

int
show_json(struct view *v, const struct item *it, FILE *f)
{
	struct buf b = BUF_INIT((size_t)64 << 20), h = BUF_INIT(HEADER_MAX);
	bool intact = header_of(v, it, &h) == 0;
	int r;

	r = buf_add(&b, "{", 1) == -1 || item_json(v, it, intact, &b) == -1 ||
	        json_key(&b, "header") == -1 ||
	        json_strn(&b, h.len > 0 ? h.data : "", h.len) == -1 ||
	        buf_add(&b, "}", 1) == -1
	    ? -1
	    : 0;
	if (r == 0)
		fprintf(f, "%s\n", b.data);
	buf_fini(&b);
	buf_fini(&h);
	return (r);
}

/* lines - text of several lines, each fit for a terminal */
static void
lines(FILE *f, const char *title, const struct buf *b)
{
	size_t i;
	unsigned char c;

	if (b->len == 0)
		return;
	fprintf(f, "%s\n    ", title);
	for (i = 0; i < b->len; i++) {
		c = (unsigned char)b->data[i];
		if (c == '\n')
			fputs(i + 1 < b->len ? "\n    " : "", f);
		else if (c == '\r')
			continue;
		else if ((c < ' ' && c != '\t') || c == 0x7f)
			fprintf(f, "\\x%02x", c);
		else
			fputc(c, f);
	}
	fputc('\n', f);
}

static void
line(FILE *f, const char *name, const char *value)
{
	if (value[0] != '\0')
		fprintf(f, "%-10s %s\n", name, quoted(value));
}

static void
flags(FILE *f, uint32_t bits)
{
	static const char *const name[] = { "8bit", "smtputf8", "held",
		"bounce", "ret=hdrs", "esmtp", "authenticated", "dots" };
	size_t i;

	fprintf(f, "%-10s", "flags");
	for (i = 0; i < sizeof(name) / sizeof(name[0]); i++)
		if (bits >> i & 1)
			fprintf(f, " %s", name[i]);
	fputc('\n', f);
}

static void
envelope_text(FILE *f, const struct item *it, const struct envelope *e)
{
	char t[32];
	size_t k;

	line(f, "id", e->id);
	fprintf(f, "%-10s %" PRIu64 "\n", "seq", it->seq);
	fprintf(f, "%-10s %s\n", "arrived", when(t, e->arrival_ms));
	fprintf(f, "%-10s %" PRIu64 "\n", "size", it->place.length);
	fprintf(f, "%-10s file %" PRIu64 " offset %" PRIu64 "\n", "place",
	    it->place.file, it->place.offset);
	fprintf(f, "%-10s <%s>\n", "sender", quoted(e->sender));
	line(f, "envid", e->envid);
	line(f, "client", e->client_addr);
	line(f, "name", e->client_name);
	line(f, "helo", e->helo);
	line(f, "proto", e->proto);
	line(f, "tls", e->tls);
	line(f, "user", e->auth_user);
	line(f, "listener", e->listener);
	line(f, "policy", e->policy);
	line(f, "hash", e->policy_hash);
	flags(f, e->flags);
	line(f, "state", state_of(it));
	line(f, "reason", reason_of(it, e));
	line(f, "held by", e->hold_by);
	if (it->attempts > 0)
		fprintf(f, "%-10s %u, next %s\n", "attempts", it->attempts,
		    when(t, it->next_try_ms));
	line(f, "last reply", it->last_reply);
	for (k = 0; k < e->n_rcpts; k++)
		fprintf(f, "%-10s %-7s <%s>\n", k == 0 ? "recipients" : "",
		    waits(it, k), quoted(e->rcpts[k].addr));
}

int
show_text(struct view *v, const struct item *it, FILE *f)
{
	struct buf b = BUF_INIT(RECORD_MAX), h = BUF_INIT(HEADER_MAX);
	struct envelope env;
	bool intact;

	if (spool_read_envelope(v->sp, it->seq, &env) == -1)
		return (-1);
	envelope_text(f, it, &env);
	env_fini(&env);
	intact = header_of(v, it, &h) == 0;
	line(f, "content", intact ? "intact" : "damaged");
	if (spool_read_record(v->sp, it->seq, &b) == 0)
		lines(f, "record", &b);
	b.len = 0;
	if (spool_read_received(v->sp, it->seq, &b) == 0)
		lines(f, "header as received", &b);
	if (intact)
		lines(f, "header", &h);
	buf_fini(&b);
	buf_fini(&h);
	return (0);
}
