/* SPDX-License-Identifier: ISC */

/*
 * serial_session - the engine's side: many sessions at a time on one loop
 *
 * Each slot runs a plan in all ways, one after the other, with an engine of its
 * own each time, as the state of endpoints outlives a session.
 */

#include "tests/unit/serial.h"

#include "milter-sdk/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 4 << 20, LARGE = 150000, HANG_S = 60 };

struct slot {
	unsigned number;
	struct plan *p;
	enum run run;
	struct settings *settings;
	struct engine *engine;
	struct chain *chain;
	struct message msg;
	struct envelope env;
	bool has_msg;
	struct event *next;
	void (*then)(struct slot *);
	unsigned n_msg, n_rcpt, n_ok;
	uint16_t group;
	struct buf out;
	struct buf shadows[MESSAGES * RCPTS * FILTERS]; /* their records */
	unsigned n_shadows;
	char *texts[N_RUNS];
};

static struct event_base *base;
static struct slot slots[SLOTS];
static struct plan *plans;
static unsigned n_plans, n_begun, n_busy, n_ended;
static const char *dir;
static bool (*finished)(const struct plan *, char *const texts[N_RUNS]);
static bool stopping;

static const struct chain_facts facts = { .hostname = "mx.test",
	.listener = "mx",
	.daemon_addr = "127.0.0.1",
	.client_name = "c.test",
	.client_ptr = "c.test",
	.client_resolve = "OK",
	.client_addr = "192.0.2.7",
	.helo = "c.test",
	.tls_version = "",
	.cipher = "",
	.cipher_bits = "",
	.cert_subject = "",
	.cert_issuer = "",
	.verify = "",
	.auth_type = "",
	.auth_authen = "",
	.auth_author = "",
	.auth_ssf = "" };

static void
need(int r)
{
	if (r == -1)
		abort();
}

/* put_plain - without what may differ: times, and how an end shows */
static void
put_plain(struct buf *b, const char *s)
{
	static const char *const ends[] = { "closed the connection",
		"Connection reset by peer", "Broken pipe" };
	const char *end;
	size_t i, n;

	while (*s != '\0') {
		for (i = 0; i < 3; i++)
			if (strncmp(s, ends[i], n = strlen(ends[i])) == 0)
				break;
		if (i < 3) {
			need(buf_addf(b, "(ended)"));
			s += n;
		} else if (strncmp(s, "send: ", 6) == 0) {
			s += 6;
		} else if (strncmp(s, ",\"ms\":", 6) == 0) {
			s += 6 + strspn(s + 6, "0123456789.");
		} else if (*s == '(' && (end = strstr(s, "ms)")) != NULL &&
		    strspn(s + 1, "0123456789") == (size_t)(end - s - 1)) {
			s = end + 3;
		} else {
			need(buf_add(b, s++, 1));
		}
	}
}

static void
put_content(struct slot *s, const struct message *m, const struct envelope *e)
{
	struct buf *b = &s->out;
	size_t i;

	need(buf_addf(b, "  id=%s from=<%s> flags=%x\n", e->id, e->sender,
	    (unsigned)e->flags));
	for (i = 0; i < e->n_rcpts; i++)
		need(buf_addf(b, "  to=<%s> notify=%x orcpt=%s group=%u\n",
		    e->rcpts[i].addr, (unsigned)e->rcpts[i].notify,
		    e->rcpts[i].orcpt, (unsigned)e->rcpts[i].group));
	for (i = 0; i < m->n_fields; i++)
		need(buf_addf(b, "  %s%s:%.*s\n",
		    m->fields[i].hidden ? "(hidden) " : "", m->fields[i].name,
		    (int)m->fields[i].value_len, m->fields[i].value));
	if (m->body_len >= LARGE)
		need(buf_addf(b, "  large\n"));
	else
		need(buf_add(b, m->body, m->body_len));
}

static void
put_verdict(struct slot *s, const char *what, enum chain_verdict v,
    const char *reply, const char *milter)
{
	static const char *const words[] = { "continue", "reject", "tempfail",
		"discard", "shutdown" };

	need(buf_addf(
	    &s->out, "%s: %s [%s] %s\n", what, words[v], reply, milter));
}

static void
put_hold(struct slot *s, bool held, const char *reason, const char *by)
{
	if (!held)
		return;
	need(buf_addf(&s->out, "  held by %s: ", by));
	put_plain(&s->out, reason);
	need(buf_addf(&s->out, "\n"));
}

/* One entry of a record's stages, until the next differs. */
struct stage {
	char what[400];
	unsigned n;
};

static void
put_stage(struct buf *b, struct stage *e)
{
	if (e->n > 0)
		need(buf_addf(b, "{%s x%u}", e->what, e->n));
	e->n = 0;
}

/* take_stage - one entry, from behind its brace; returns what follows it.
 * again: CONNECT and HELO are told anew if the connection is a new one, which
 * it is if the one before was dropped in the middle of its work. */
static const char *
take_stage(struct buf *b, const char *s, struct stage *e, bool again)
{
	const char *end = strchr(s, '}'), *count;
	size_t n = (size_t)(end - s);
	unsigned times = 1;

	count = memmem(s, n, ",\"count\":", 9);
	if (count != NULL) {
		times = (unsigned)atoi(count + 9);
		n = (size_t)(count - s);
	}
	if (again &&
	    (strncmp(s, "\"stage\":\"connect\"", 17) == 0 ||
	        strncmp(s, "\"stage\":\"helo\"", 14) == 0))
		return (end + 1);
	if (e->n > 0 && (strncmp(e->what, s, n) != 0 || e->what[n] != '\0'))
		put_stage(b, e);
	(void)snprintf(e->what, sizeof(e->what), "%.*s", (int)n, s);
	e->n += times;
	return (end + 1);
}

/* put_stages - a record, with its lists of stages in their simplest form */
static void
put_stages(struct buf *b, const char *s, bool again)
{
	struct stage e = { "", 0 };

	while (*s != '\0')
		if (strncmp(s, "{\"stage\":", 9) == 0) {
			s = take_stage(b, s + 1, &e, again);
			s += *s == ',';
		} else {
			put_stage(b, &e);
			need(buf_add(b, s++, 1));
		}
}

/* unused - length of an endpoint that nothing was said to: which one a milter
 * was going to use depends on what was known of the others by then */
static size_t
unused(const char *s)
{
	const char *stages, *end;

	if (strncmp(s, "\"endpoint\":\"", 12) != 0 ||
	    (stages = strstr(s, "\"stages\":[")) == NULL ||
	    strncmp(stages + 10, "]}", 2) != 0 ||
	    (end = strchr(s + 12, '"')) == NULL)
		return (0);
	return ((size_t)(end + 1 - s));
}

static void
put_record(struct slot *s, int group)
{
	struct buf b = BUF_INIT(1 << 20), plain = BUF_INIT(1 << 20),
	           simple = BUF_INIT(1 << 20);
	const char *p;

	need(group < 0 ? chain_record(s->chain, &b)
	               : chain_group_record(s->chain, (uint16_t)group, &b));
	need(buf_add(&b, "", 1));
	put_plain(&plain, b.data);
	need(buf_add(&plain, "", 1));
	put_stages(&simple, plain.data, s->n_msg > 0);
	need(buf_add(&simple, "", 1));
	for (p = simple.data; *p != '\0'; p++) {
		p += unused(p);
		need(buf_add(&s->out, p, 1));
	}
	need(buf_addf(&s->out, "\n"));
	buf_fini(&b);
	buf_fini(&plain);
	buf_fini(&simple);
	put_plain(&s->out,
	    group < 0 ? chain_summary(s->chain)
	              : chain_group_summary(s->chain, (uint16_t)group));
	need(buf_addf(&s->out, "\n"));
}

static void
put_answer(struct slot *s, const char *what, const struct chain_answer *a)
{
	put_verdict(s, what, a->verdict, a->reply, a->milter);
	put_hold(s, a->quarantine, a->reason, a->hold_by);
}

/* later - the next step is not made from inside an answer */
static void
later(struct slot *s, void (*then)(struct slot *))
{
	s->then = then;
	event_active(s->next, EV_TIMEOUT, 0);
}

static void
on_next(evutil_socket_t fd, short what, void *arg)
{
	struct slot *s = arg;

	(void)fd;
	(void)what;
	s->then(s);
}

static void begin_run(struct slot *);
static void end_run(struct slot *);

static void
begin_plan(struct slot *s)
{
	if (n_begun == n_plans || stopping) {
		n_busy--;
		return;
	}
	s->p = &plans[n_begun++];
	s->run = SERIAL;
	begin_run(s);
}

static void
drop_message(struct slot *s)
{
	if (!s->has_msg)
		return;
	message_fini(&s->msg);
	env_fini(&s->env);
	s->has_msg = false;
}

/* on_shadow - one of a milter in shadow.  They come in any order. */
static void
on_shadow(void *arg, const struct chain_shadow *told)
{
	struct slot *s = arg;
	struct buf plain = BUF_INIT(1 << 20), *b = &s->shadows[s->n_shadows];

	if (s->n_shadows++ == sizeof(s->shadows) / sizeof(s->shadows[0]))
		abort();
	*b = (struct buf)BUF_INIT(1 << 20);
	need(buf_addf(b, "%s shadow %s: %s, %s\n", told->id, told->milter,
	    told->verdict, told->outcome));
	put_plain(&plain, told->milters->data);
	need(buf_add(&plain, "", 1));
	put_stages(b, plain.data, true);
	buf_fini(&plain);
	if (s->chain == NULL && engine_shadows(s->engine) == 0)
		later(s, end_run);
}

static int
by_text(const void *a, const void *b)
{
	const struct buf *x = a, *y = b;

	return (strcmp(x->data, y->data));
}

static void
end_run(struct slot *s)
{
	unsigned i;

	drop_message(s);
	chain_free(&s->chain);
	if (engine_shadows(s->engine) > 0)
		return; /* on_shadow() calls again */
	qsort(s->shadows, s->n_shadows, sizeof(s->shadows[0]), by_text);
	for (i = 0; i < s->n_shadows; i++) {
		need(buf_addf(&s->out, "%s\n", s->shadows[i].data));
		buf_fini(&s->shadows[i]);
	}
	s->n_shadows = 0;
	engine_free(&s->engine);
	settings_unref(&s->settings);
	need(buf_add(&s->out, "", 1));
	s->texts[s->run] = buf_take(&s->out, NULL);
	n_ended++;
	if (++s->run < N_RUNS) {
		begin_run(s);
		return;
	}
	if (!finished(s->p, s->texts))
		stopping = true;
	for (i = 0; i < N_RUNS; i++) {
		free(s->texts[i]);
		s->texts[i] = NULL;
	}
	begin_plan(s);
}

static void
field(struct slot *s, const char *name, const char *value)
{
	need(message_add(&s->msg, s->msg.n_fields, name, value, strlen(value)));
}

static void
make_message(struct slot *s)
{
	unsigned i;

	drop_message(s);
	s->has_msg = true;
	message_init(&s->msg);
	field(s, "Received", " by us");
	s->msg.fields[0].hidden = true;
	field(s, "Subject", " one");
	field(s, "X-A", " 1");
	field(s, "X-B", "  2\r\n\tfold");
	field(s, "x-a", s->n_msg == 0 ? "3" : "4");
	need(buf_add(&s->msg.mem, "hello\r\n.dot\r\n", 13));
	for (i = 0; s->p->large && i < LARGE / 10; i++)
		need(buf_add(&s->msg.mem, "12345678\r\n", 10));
	s->msg.body = s->msg.mem.data;
	s->msg.body_len = s->msg.mem.len;
	need(env_init(&s->env));
	need(env_set(&s->env.sender, "s@x.test"));
	(void)snprintf(s->env.id, sizeof(s->env.id), "0123456789a%u", s->n_msg);
}

static void next_message(struct slot *);

/* reset - the client says RSET before that step? */
static bool
reset(struct slot *s, unsigned step)
{
	if (s->p->reset_at != step || s->n_msg > 0 || s->p->n_msgs == 1)
		return (false);
	need(buf_addf(&s->out, "RSET\n"));
	chain_abort(s->chain);
	s->n_msg++;
	later(s, next_message);
	return (true);
}

static void
over(struct slot *s)
{
	if (++s->n_msg < s->p->n_msgs)
		later(s, next_message);
	else
		later(s, end_run);
}

static void
message_done(void *arg, const struct chain_answer *a)
{
	struct slot *s = arg;
	size_t i;

	put_answer(s, "message", a);
	chain_outcome(s->chain, -1, "over", "", "");
	if (a->n_groups == 0) {
		if (a->verdict == CHAIN_CONTINUE)
			put_content(s, &s->msg, &s->env);
		put_record(s, -1);
	}
	for (i = 0; i < a->n_groups; i++) {
		const struct chain_group *g = &a->groups[i];

		put_verdict(s, " group", g->verdict, g->reply, g->milter);
		put_hold(s, g->quarantine, g->reason, g->hold_by);
		put_content(s, &g->msg, &g->env);
		put_record(s, g->group);
	}
	if (a->verdict == CHAIN_SHUTDOWN)
		later(s, end_run);
	else
		over(s);
}

static void
ask_message(struct slot *s)
{
	if (!reset(s, 4))
		chain_message(s->chain, &s->msg, &s->env, message_done, s);
}

/* give_up - the receiver asks nothing more about the message; the record of
 * one that is discarded is made */
static void
give_up(struct slot *s, enum chain_verdict v)
{
	if (v != CHAIN_CONTINUE)
		put_record(s, -1);
	if (v == CHAIN_SHUTDOWN) {
		later(s, end_run);
		return;
	}
	chain_abort(s->chain);
	over(s);
}

static void
data_done(void *arg, const struct chain_answer *a)
{
	struct slot *s = arg;

	put_answer(s, "data", a);
	if (a->verdict == CHAIN_CONTINUE)
		later(s, ask_message);
	else
		give_up(s, a->verdict);
}

static void
ask_data(struct slot *s)
{
	if (s->n_ok == 0)
		give_up(s, CHAIN_CONTINUE);
	else if (!reset(s, 3))
		chain_data(s->chain, data_done, s);
}

static void ask_rcpt(struct slot *);

static void
rcpt_addr(const struct slot *s, char *addr, size_t size)
{
	(void)snprintf(addr, size, "r%u@y.test", s->n_rcpt);
}

static void
rcpt_done(void *arg, const struct chain_answer *a)
{
	struct slot *s = arg;
	bool refused = (s->p->refused >> s->n_rcpt & 1) != 0;
	char addr[64];
	struct rcpt *r;

	put_answer(s, "rcpt", a);
	need(buf_addf(&s->out, "  authorised=%d group=%u\n", a->authorised,
	    (unsigned)a->group));
	rcpt_addr(s, addr, sizeof(addr));
	if (a->verdict == CHAIN_SHUTDOWN || a->verdict == CHAIN_DISCARD) {
		give_up(s, a->verdict);
		return;
	}
	if (a->verdict == CHAIN_CONTINUE && a->authorised && !refused) {
		if ((r = env_add_rcpt(&s->env, addr)) == NULL)
			abort();
		r->group = a->group;
		s->n_ok++;
	}
	s->n_rcpt++;
	later(s, s->n_rcpt < s->p->n_rcpts ? ask_rcpt : ask_data);
}

static void
ask_rcpt(struct slot *s)
{
	char addr[64];
	bool refused = (s->p->refused >> s->n_rcpt & 1) != 0;
	static char kept[SLOTS][64]; /* borrowed until the answer */

	if (s->n_rcpt == 1 && reset(s, 2))
		return;
	rcpt_addr(s, addr, sizeof(addr));
	memcpy(kept[s->number], addr, sizeof(addr));
	chain_rcpt(s->chain, kept[s->number], NULL, 0, NULL,
	    refused ? "550 5.1.1 No such mailbox" : NULL, rcpt_done, s);
}

static void
mail_done(void *arg, const struct chain_answer *a)
{
	struct slot *s = arg;

	put_answer(s, "mail", a);
	if (a->verdict != CHAIN_CONTINUE)
		give_up(s, a->verdict);
	else if (!reset(s, 1))
		later(s, ask_rcpt);
}

static void
ask_mail(struct slot *s)
{
	static const char *const args[] = { "SIZE=10" };

	make_message(s);
	s->n_rcpt = s->n_ok = 0;
	chain_mail(s->chain, s->env.id, "s@x.test", args, 1, mail_done, s);
}

static void
unknown_done(void *arg, const struct chain_answer *a)
{
	struct slot *s = arg;

	put_answer(s, "unknown", a);
	later(s, a->verdict == CHAIN_SHUTDOWN ? end_run : ask_mail);
}

static void
next_message(struct slot *s)
{
	/* Whose connection was dropped in the middle of its work is not asked
	 * between messages. */
	if (s->p->unknown && (s->n_msg == 0 || !s->p->unknown_says))
		chain_unknown(s->chain, "WHAT", unknown_done, s);
	else
		ask_mail(s);
}

static void
helo_done(void *arg, const struct chain_answer *a)
{
	struct slot *s = arg;

	put_answer(s, "helo", a);
	later(s, a->verdict != CHAIN_CONTINUE ? end_run : next_message);
}

static void
ask_helo(struct slot *s)
{
	chain_helo(s->chain, helo_done, s);
}

static void
connect_done(void *arg, const struct chain_answer *a)
{
	struct slot *s = arg;

	put_answer(s, "connect", a);
	later(s, a->verdict != CHAIN_CONTINUE ? end_run : ask_helo);
}

static void
begin_run(struct slot *s)
{
	static char text[16384];
	struct conf_file f = { (char *)"t.conf", text, 0 };
	struct buf errors = BUF_INIT(1 << 16);

	fakes_follow(s->number, s->p, s->run);
	plan_settings(s->p, s->run, dir, s->number, text, sizeof(text));
	f.len = strlen(text);
	if ((s->settings = settings_parse(&f, 1, &errors)) == NULL) {
		printf("# %s\n%s", errors.data, text);
		abort();
	}
	buf_fini(&errors);
	s->engine = engine_new(base, s->settings);
	s->chain = chain_new(s->engine, s->settings, 0, &facts);
	if (s->engine == NULL || s->chain == NULL)
		abort();
	engine_on_shadow(s->engine, on_shadow, s);
	s->out = (struct buf)BUF_INIT(TEXT_MAX);
	s->n_msg = 0;
	chain_connect(s->chain, connect_done, s);
}

/* on_watch - an answer that never comes is a failure of its own */
static void
on_watch(evutil_socket_t fd, short what, void *arg)
{
	static unsigned before;
	unsigned i;

	(void)fd;
	(void)what;
	(void)arg;
	if (n_ended != before) {
		before = n_ended;
		return;
	}
	for (i = 0; i < SLOTS; i++)
		if (slots[i].chain != NULL)
			printf("# hangs: SERIAL_SEED=%u run %d message %u\n%s",
			    slots[i].p->seed, (int)slots[i].run, slots[i].n_msg,
			    slots[i].out.data);
	fflush(stdout);
	abort();
}

void
sessions_run(struct plan *all, unsigned n, const char *where,
    bool (*done)(const struct plan *, char *const texts[N_RUNS]))
{
	struct timeval tv = { HANG_S, 0 };
	struct event *watch;
	unsigned i;

	base = event_base_new();
	plans = all;
	n_plans = n;
	n_begun = 0;
	dir = where;
	finished = done;
	stopping = false;
	n_busy = SLOTS;
	for (i = 0; i < SLOTS; i++) {
		slots[i].number = i;
		slots[i].next = event_new(base, -1, 0, on_next, &slots[i]);
		begin_plan(&slots[i]);
	}
	watch = event_new(base, -1, EV_PERSIST, on_watch, NULL);
	need(event_add(watch, &tv));
	while (n_busy > 0 && event_base_loop(base, EVLOOP_ONCE) == 0)
		;
	event_free(watch);
	for (i = 0; i < SLOTS; i++)
		event_free(slots[i].next);
	event_base_free(base);
}
