/* SPDX-License-Identifier: ISC */

/*
 * command - what an administrator asks of the queue
 *
 * What concerns all messages is done in slices between other work, and long
 * answers leave in parts of bounded size: a million messages stop neither
 * delivery nor fill the memory.
 */

#include "core/queue/queue.h"

#include "milter-sdk/base/json.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SLICE_ENTRIES = 500,
	SLICE_BYTES = 128 << 10,
	SLICE_PIECES = 8,    /* of day files: a millisecond or two */
	PART_MAX = 32 << 20, /* one message with 10,000 recipients fits */
	BACKLOG_MAX = 4 << 20,
	WORDS_MAX = 12,
	SHADOWS_MAX = 1 << 20,  /* bytes of their records kept for the end */
	SIGN_OF_LIFE = 64 << 20 /* bytes searched without a find */
};

enum op { OP_LIST, OP_HOLD, OP_RELEASE, OP_DELETE, OP_FLUSH, OP_EXPLAIN };

struct stream {
	TAILQ_ENTRY(stream) link;
	uint64_t ref;
	enum op op;
	struct entry *at; /* the next one */
	uint64_t changed;
	bool caught; /* only what a milter had held */
	bool last;   /* OP_EXPLAIN: nothing is followed further */
	bool only;   /* OP_EXPLAIN: whether it was released, no more */
	bool beside; /* OP_EXPLAIN: only records of milters in shadow */
	struct records_query next; /* to be searched for after this */
	bool begun;                /* something of the answer has left */
	size_t credit;             /* bytes that may leave */
	struct records_search search;
	uint64_t said;      /* of search.read, when something was last sent */
	struct buf shadows; /* records that come last, a comma before each */
	struct buf out;
};

void
command_reply(struct queue *q, uint64_t ref, struct buf *b)
{
	child_reply(q->c, ref, true, b->data != NULL ? b->data : "", b->len);
	buf_fini(b);
}

void
command_error(struct queue *q, uint64_t ref, const char *what, const char *arg)
{
	struct buf b = BUF_INIT(4096);
	char text[1000];

	(void)snprintf(text, sizeof(text), "%s%s", what, arg);
	if ((buf_add(&b, "{", 1) | json_kv_str(&b, "error", text) |
	        buf_add(&b, "}", 1)) != 0)
		queue_oom();
	command_reply(q, ref, &b);
}

static void
reply_changed(struct queue *q, uint64_t ref, uint64_t n)
{
	struct buf b = BUF_INIT(4096);

	if ((buf_add(&b, "{", 1) | json_kv_num(&b, "changed", n) |
	        buf_add(&b, "}", 1)) != 0)
		queue_oom();
	command_reply(q, ref, &b);
}

/* entry_hold - stop its delivery until it is released */
void
entry_hold(struct queue *q, struct entry *e, const char *why)
{
	char room[300];

	if ((e->flags & (E_GONE | E_UNCOMMITTED | E_HELD)) != 0)
		return;
	log_info(
	    "%s: held: reason=%s", e->id, log_quote(room, sizeof(room), why));
	spool_put_hold(q->spool, e->seq, true, why);
	entry_defer_flag(q, e, false);
	entry_set_held(q, e, true);
	entry_set_reason(e, why);
	entry_del_jobs(q, e);
	entry_settle(q, e);
}

static void
release(struct queue *q, struct entry *e)
{
	log_info("%s: released", e->id);
	spool_put_hold(q->spool, e->seq, false, "released");
	/* The time in hold does not count; a restart reads it from here. */
	e->since_ms = queue_now_ms();
	spool_put_deferred(
	    q->spool, e->seq, e->since_ms, e->attempts, "released");
	entry_set_held(q, e, false);
	entry_set_reason(e, "");
	e->deaths = 0;
	e->next_ms = 1;
	entry_settle(q, e);
}

static void delete (struct queue *q, struct entry *e)
{
	log_info("%s: deleted", e->id);
	spool_put_drop(q->spool, e->seq, "deleted by command");
	q->counters.deleted++;
	entry_free(q, e);
	queue_kick(q);
}

/* flush - try a waiting message now */
static bool
flush(struct queue *q, struct entry *e)
{
	struct job *j;

	if ((e->flags & E_DEFERRED) == 0)
		return (false);
	for (j = e->jobs; j != NULL; j = j->sibling)
		site_wake(q, j->site);
	if (e->next_ms != 0)
		e->next_ms = 1;
	entry_settle(q, e);
	return (true);
}

/* apply - one operation to one message; true if it changed anything */
static bool
apply(struct queue *q, struct entry *e, enum op op)
{
	bool held = (e->flags & E_HELD) != 0;

	if ((e->flags & E_UNCOMMITTED) != 0)
		return (false); /* its client is not answered yet */
	switch (op) {
	case OP_HOLD:
		if (!held)
			entry_hold(q, e, "held by command");
		return (!held);
	case OP_RELEASE:
		if (held && !is_caught(e))
			release(q, e);
		return (held && !is_caught(e));
	case OP_DELETE:
		if ((e->flags & E_RELEASING) != 0)
			return (false);
		delete (q, e);
		return (true);
	case OP_FLUSH:
		return (flush(q, e));
	case OP_LIST:
	case OP_EXPLAIN:
		break;
	}
	return (false);
}

static struct stream *
stream_new(struct queue *q, uint64_t ref, enum op op)
{
	struct stream *s;

	if (q->n_streams == STREAMS_MAX) {
		command_error(q, ref, "busy: too many commands at a time", "");
		return (NULL);
	}
	if ((s = calloc(1, sizeof(*s))) == NULL)
		queue_oom();
	s->ref = ref;
	s->op = op;
	s->out.max = PART_MAX;
	s->shadows.max = SHADOWS_MAX;
	s->credit = REPLY_WINDOW;
	s->search.fd = -1;
	if (op != OP_EXPLAIN)
		s->at = TAILQ_FIRST(&q->all);
	TAILQ_INSERT_TAIL(&q->streams, s, link);
	q->n_streams++;
	queue_kick(q);
	return (s);
}

static void
stream_free(struct queue *q, struct stream *s)
{
	TAILQ_REMOVE(&q->streams, s, link);
	q->n_streams--;
	records_search_fini(&s->search);
	buf_fini(&s->out);
	buf_fini(&s->shadows);
	records_query_fini(&s->next);
	free(s);
}

void
command_skip(struct queue *q, struct entry *e)
{
	struct stream *s;

	TAILQ_FOREACH (s, &q->streams, link)
		if (s->at == e)
			s->at = TAILQ_NEXT(e, all);
}

/* list_slice - some more messages of an array; true when it is complete */
static bool
list_slice(struct queue *q, struct stream *s)
{
	struct entry *e;
	int n;

	if (!s->begun && buf_add(&s->out, "[", 1) == -1)
		queue_oom();
	for (n = 0; n < SLICE_ENTRIES && s->out.len < SLICE_BYTES &&
	     (e = s->at) != NULL;
	     n++) {
		s->at = TAILQ_NEXT(e, all);
		if ((e->flags & E_UNCOMMITTED) != 0 ||
		    (s->caught && !is_caught(e)))
			continue;
		if (s->changed++ > 0 && buf_add(&s->out, ",", 1) == -1)
			queue_oom();
		if (list_entry(q, e, false, &s->out) == -1 &&
		    buf_addf(&s->out, "{\"id\":\"%s\"}", e->id) == -1)
			queue_oom();
	}
	if (s->at == NULL && buf_add(&s->out, "]", 1) == -1)
		queue_oom();
	return (s->at == NULL);
}

static bool
change_slice(struct queue *q, struct stream *s)
{
	struct entry *e;
	int n;

	for (n = 0; n < SLICE_ENTRIES && (e = s->at) != NULL; n++) {
		s->at = TAILQ_NEXT(e, all);
		s->changed += apply(q, e, s->op);
	}
	if (s->at == NULL &&
	    buf_addf(&s->out, "{\"changed\":%llu}",
	        (unsigned long long)s->changed) == -1)
		queue_oom();
	return (s->at == NULL);
}

/* member - the string of a record's member into room, or false.  In a record
 * quotes within strings are escaped: no client can write one. */
static bool
member(const char *line, size_t len, const char *name, char *room, size_t n)
{
	char key[40];
	const char *p, *end;
	int k = snprintf(key, sizeof(key), "\"%s\":\"", name);

	if ((p = memmem(line, len, key, (size_t)k)) == NULL)
		return (false);
	p += k;
	end = memchr(p, '"', len - (size_t)(p - line));
	if (end == NULL || (size_t)(end - p) >= n)
		return (false);
	memcpy(room, p, (size_t)(end - p));
	room[end - p] = '\0';
	return (true);
}

/* shadowed - milters in shadow were asked too: they have records of their own.
 * No quote in a text stands without a backslash. */
static bool
shadowed(const char *line, size_t len)
{
	static const char mark[] = "\"mode\":\"shadow\"";

	return (memmem(line, len, mark, sizeof(mark) - 1) != NULL);
}

/* leads_on - another record belongs to it */
static bool
leads_on(const char *line, size_t len)
{
	char room[ENV_ID_MAX];

	return (shadowed(line, len) ||
	    member(line, len, "released_from", room, sizeof(room)) ||
	    (member(line, len, "outcome", room, sizeof(room)) &&
	        strcmp(room, "held") == 0));
}

/* follow - a held message may have been released; one that was, was held */
static void
follow(struct stream *s, const char *line, size_t len)
{
	const struct records_query *query = &s->search.query;
	char room[ENV_ID_MAX], *id;

	if (query->id == NULL || s->last || s->next.id != NULL ||
	    s->next.released_from != NULL)
		return;
	if (member(line, len, "released_from", room, sizeof(room))) {
		if ((id = strdup(room)) == NULL)
			queue_oom();
		s->next.id = id;
	} else if (member(line, len, "outcome", room, sizeof(room)) &&
	    strcmp(room, "held") == 0) {
		if ((id = strdup(query->id)) == NULL)
			queue_oom();
		s->next.released_from = id;
	}
}

/* put_last - of a milter in shadow: after the message's; false: no room */
static bool
put_last(struct stream *s, const char *line, size_t len)
{
	size_t was = s->shadows.len;

	if (buf_add(&s->shadows, ",", 1) == 0 &&
	    list_raw_json(&s->shadows, line, len) == 0)
		return (true);
	s->shadows.len = was;
	return (false);
}

/* add_shadows - the answer is complete but for them */
static void
add_shadows(struct stream *s)
{
	if (s->shadows.len == 0)
		return;
	if (buf_add(&s->out, s->changed > 0 ? "," : "[", 1) == -1 ||
	    buf_add(&s->out, s->shadows.data + 1, s->shadows.len - 1) == -1)
		queue_oom();
	s->changed++;
}

/* explain_line - one record that was found */
static void
explain_line(void *arg, const char *line, size_t len)
{
	struct stream *s = arg;
	size_t was = s->out.len;
	char room[ENV_ID_MAX], milter[40];

	if (s->beside && !member(line, len, "shadow", milter, sizeof(milter)))
		return; /* told from the spool */
	if (s->only) {
		if (member(line, len, "shadow", milter, sizeof(milter)) ||
		    !member(line, len, "outcome", room, sizeof(room)) ||
		    strcmp(room, "kept") == 0)
			return; /* tried only */
		if (member(line, len, "id", room, sizeof(room)) &&
		    buf_addf(&s->out, "%s%s", s->changed++ > 0 ? ", " : "",
		        room) == -1)
			queue_oom();
		return;
	}
	if (s->search.query.id != NULL &&
	    member(line, len, "shadow", milter, sizeof(milter)) &&
	    put_last(s, line, len))
		return;
	follow(s, line, len);
	if (buf_add(&s->out, s->changed > 0 ? "," : "[", 1) == -1 ||
	    list_raw_json(&s->out, line, len) == -1)
		s->out.len = was; /* cannot be: a piece of records fits */
	else
		s->changed++;
}

/* released_answer - for an id that is not held */
static void
released_answer(struct stream *s)
{
	struct buf b = BUF_INIT(PART_MAX);
	char text[1000];

	if (s->changed > 0)
		(void)snprintf(text, sizeof(text),
		    "not in quarantine: released as %.900s", s->out.data);
	else
		(void)snprintf(text, sizeof(text), "not in quarantine");
	if ((buf_add(&b, "{", 1) | json_kv_str(&b, "error", text) |
	        buf_add(&b, "}", 1)) != 0)
		queue_oom();
	buf_fini(&s->out);
	s->out = b;
}

/* explain_next - go on with what the records found so far lead to */
static void
explain_next(struct queue *q, struct stream *s)
{
	struct records_query query = s->next;

	memset(&s->next, 0, sizeof(s->next));
	records_search_fini(&s->search);
	if (records_search_start(&q->records, &s->search, &query) == -1)
		queue_oom();
	s->last = true;
	s->beside = false;
}

/* explain_shadows - what the day files have of a message in the spool */
static void
explain_shadows(struct queue *q, struct stream *s, const char *id)
{
	struct records_query query = { .id = strdup(id) };

	s->beside = true;
	records_search_fini(&s->search);
	if (query.id == NULL ||
	    records_search_start(&q->records, &s->search, &query) == -1)
		queue_oom();
}

/* explain_slice - search a piece further; true when the answer is complete */
static bool
explain_slice(struct queue *q, struct stream *s)
{
	const char *end = "]";
	int more = 1, n;

	for (n = 0; n < SLICE_PIECES && more == 1 && s->out.len < SLICE_BYTES;
	     n++)
		more = records_search_step(
		    &q->records, &s->search, explain_line, s);
	if (more == 1) {
		/* Blanks tell who waits that the search goes on. */
		if (s->out.len == 0 &&
		    s->search.read - s->said >= SIGN_OF_LIFE) {
			s->said = s->search.read;
			if (buf_add(&s->out, "\n", 1) == -1)
				queue_oom();
		}
		return (false);
	}
	if (s->next.id != NULL || s->next.released_from != NULL) {
		explain_next(q, s);
		return (false);
	}
	if (s->only) {
		released_answer(s);
		return (true);
	}
	add_shadows(s);
	if (s->changed == 0)
		end = s->search.query.id != NULL ? "{\"error\":\"unknown id\"}"
		                                 : "[]";
	if (buf_add(&s->out, end, strlen(end)) == -1)
		queue_oom();
	return (true);
}

/* step - a slice of one stream; it may be freed */
static void
step(struct queue *q, struct stream *s)
{
	bool last;

	if (s->op == OP_LIST)
		last = list_slice(q, s);
	else if (s->op == OP_EXPLAIN)
		last = explain_slice(q, s);
	else
		last = change_slice(q, s);
	if (!last &&
	    ((s->op != OP_LIST && s->op != OP_EXPLAIN) || s->out.len == 0))
		return;
	child_reply(q->c, s->ref, last, s->out.data, s->out.len);
	s->begun = true;
	s->credit -= s->out.len < s->credit ? s->out.len : s->credit;
	s->out.len = 0;
	if (last)
		stream_free(q, s);
}

bool
command_step(struct queue *q)
{
	struct stream *s, *next;
	bool more = false;

	if (chan_backlog(q->c->control) > BACKLOG_MAX)
		return (q->n_streams > 0);
	for (s = TAILQ_FIRST(&q->streams); s != NULL; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->credit > 0)
			step(q, s);
	}
	TAILQ_FOREACH (s, &q->streams, link)
		more |= s->credit > 0;
	return (more);
}

/* stream_flow - "more" or "cancel" for the answer to ref */
static void
stream_flow(struct queue *q, uint64_t ref, bool more)
{
	struct stream *s;

	TAILQ_FOREACH (s, &q->streams, link)
		if (s->ref == ref)
			break;
	if (s == NULL)
		return; /* it is complete */
	if (more)
		s->credit += REPLY_MORE;
	else if (s->op == OP_LIST || s->op == OP_EXPLAIN)
		stream_free(q, s); /* a change goes on to its end */
	queue_kick(q);
}

static void
show(struct queue *q, uint64_t ref, const char *id)
{
	struct entry *e = entry_find(q, id);
	struct buf b = BUF_INIT(PART_MAX);

	if (e == NULL || (e->flags & E_UNCOMMITTED) != 0)
		command_error(q, ref, "unknown id", "");
	else if (list_entry(q, e, true, &b) == -1) {
		buf_fini(&b);
		command_error(q, ref, strerror(errno), "");
	} else
		command_reply(q, ref, &b);
}

/* explain_queued - from the spool, if the message is still there; what it was
 * before, or was to become, from the day files */
static bool
explain_queued(struct queue *q, uint64_t ref, const char *id)
{
	struct entry *e = entry_find(q, id);
	struct buf r = BUF_INIT(RECORD_MAX + 1), b = BUF_INIT(PART_MAX);
	struct stream *s;
	bool found = e != NULL &&
	    spool_read_record(q->spool, e->seq, &r) == 0 && r.len > 0;

	if (found && leads_on(r.data, r.len)) {
		if ((s = stream_new(q, ref, OP_EXPLAIN)) != NULL) {
			s->search.query.id = strdup(id);
			explain_line(s, r.data, r.len);
			if (shadowed(r.data, r.len))
				explain_shadows(q, s, id);
			else
				explain_next(q, s);
		}
	} else if (found) {
		if ((buf_add(&b, "[", 1) | list_raw_json(&b, r.data, r.len) |
		        buf_add(&b, "]", 1)) != 0)
			queue_oom();
		command_reply(q, ref, &b);
	}
	buf_fini(&r);
	return (found);
}

/* explain - ID, or what a record must show */
static void
explain(struct queue *q, uint64_t ref, char **w, int n)
{
	struct records_query query = { 0 };
	struct stream *s;
	int i;

	for (i = 0; i < n; i++)
		if (records_query_parse(&query, w[i]) == -1) {
			command_error(q, ref, "not understood: ", w[i]);
			records_query_fini(&query);
			return;
		}
	if (n == 1 && query.id != NULL && explain_queued(q, ref, query.id)) {
		records_query_fini(&query);
		return;
	}
	if ((s = stream_new(q, ref, OP_EXPLAIN)) != NULL &&
	    records_search_start(&q->records, &s->search, &query) == -1)
		queue_oom();
	records_query_fini(&query);
}

static void
change(struct queue *q, uint64_t ref, enum op op, const char *arg)
{
	struct entry *e;

	if (arg == NULL || strcmp(arg, "all") == 0) {
		if (op == OP_FLUSH)
			sites_wake_all(q);
		(void)stream_new(q, ref, op);
		return;
	}
	if ((e = entry_find(q, arg)) != NULL && op == OP_RELEASE &&
	    is_caught(e))
		command_error(q, ref,
		    "milters hold it: they are asked again by \"milldamctl "
		    "quarantine release\"",
		    "");
	else if (e != NULL)
		reply_changed(q, ref, apply(q, e, op));
	else if (op == OP_FLUSH)
		reply_changed(q, ref, sites_wake_host(q, arg));
	else
		command_error(q, ref, "unknown id", "");
}

/* words - the line's, in place; how many */
static int
words(char *line, char *w[WORDS_MAX])
{
	char *save = NULL, *p = strtok_r(line, " \t", &save);
	int n = 0;

	for (; p != NULL; p = strtok_r(NULL, " \t", &save)) {
		if (n == WORDS_MAX)
			return (n + 1);
		w[n++] = p;
	}
	return (n);
}

static bool
queue_command(struct queue *q, uint64_t ref, char **w, int n)
{
	static const struct {
		const char *name;
		enum op op;
	} ops[] = { { "hold", OP_HOLD }, { "release", OP_RELEASE },
		{ "delete", OP_DELETE }, { "flush", OP_FLUSH } };
	size_t i;

	if (n == 2 && strcmp(w[1], "list") == 0)
		return (stream_new(q, ref, OP_LIST), true);
	if (n == 3 && strcmp(w[1], "show") == 0)
		return (show(q, ref, w[2]), true);
	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (n >= 2 && strcmp(w[1], ops[i].name) == 0 &&
		    (n == 3 || (n == 2 && ops[i].op == OP_FLUSH)))
			return (change(q, ref, ops[i].op, n == 3 ? w[2] : NULL),
			    true);
	return (false);
}

void
command_list_caught(struct queue *q, uint64_t ref)
{
	struct stream *s = stream_new(q, ref, OP_LIST);

	if (s != NULL)
		s->caught = true;
}

void
command_was_released(struct queue *q, uint64_t ref, const char *id)
{
	struct records_query query = { .released_from = strdup(id) };
	struct stream *s;

	if (query.released_from == NULL)
		queue_oom();
	if ((s = stream_new(q, ref, OP_EXPLAIN)) != NULL) {
		s->only = true;
		if (records_search_start(&q->records, &s->search, &query) == -1)
			queue_oom();
	}
	records_query_fini(&query);
}

void
command_show(struct queue *q, uint64_t ref, const char *id)
{
	show(q, ref, id);
}

void
command_delete(struct queue *q, uint64_t ref, struct entry *e)
{
	reply_changed(q, ref, apply(q, e, OP_DELETE));
}

static void
status(struct queue *q, uint64_t ref)
{
	struct buf b = BUF_INIT(64 << 10);

	if (list_status(q, &b) == -1)
		queue_oom();
	command_reply(q, ref, &b);
}

static void
metrics(struct queue *q, uint64_t ref)
{
	struct buf b = BUF_INIT(64 << 10);

	if (queue_metrics(q, &b) == -1)
		queue_oom();
	command_reply(q, ref, &b);
}

void
queue_answer(struct queue *q, uint64_t ref, const char *line)
{
	char *copy = strdup(line), *w[WORDS_MAX];
	int n;

	if (copy == NULL)
		queue_oom();
	n = words(copy, w);
	if (n == 1 && strcmp(w[0], "status") == 0)
		status(q, ref);
	else if (n == 1 && strcmp(w[0], "metrics") == 0)
		metrics(q, ref);
	else if (n == 1 &&
	    (strcmp(w[0], "more") == 0 || strcmp(w[0], "cancel") == 0))
		stream_flow(q, ref, w[0][0] == 'm');
	else if (n >= 2 && n <= WORDS_MAX && strcmp(w[0], "explain") == 0)
		explain(q, ref, w + 1, n - 1);
	else if (n < 2 || n > WORDS_MAX ||
	    !((strcmp(w[0], "queue") == 0 && queue_command(q, ref, w, n)) ||
	        (strcmp(w[0], "quarantine") == 0 &&
	            caught_command(q, ref, w, n))))
		command_error(q, ref, "unknown command ", line);
	free(copy);
}
