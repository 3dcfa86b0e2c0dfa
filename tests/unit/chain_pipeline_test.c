/* SPDX-License-Identifier: ISC */

/*
 * Commands ahead of their answers (pipeline = full) or one at a time (safe):
 * the filter is told the same and the outcome is the same; what differs is
 * where it has to be awaited, and what becomes of the connection after an early
 * verdict.
 */

#include "tests/unit/chain_lib.h"

#include "milter-sdk/base/milter.h"

static const char *const ways[] = { "pipeline = safe", "pipeline = full" };

static const char *
text(const struct buf *b)
{
	return (b->data != NULL ? b->data : "");
}

/* pass - a transaction, as far as it goes */
static enum chain_verdict
pass(const char *id)
{
	enum chain_verdict v = ask_mail(id);

	if (v == CHAIN_CONTINUE)
		v = ask_rcpt("r1@y.test");
	if (v == CHAIN_CONTINUE)
		v = ask_data();
	return (v == CHAIN_CONTINUE ? ask_message() : v);
}

static void
greet(void)
{
	ask_connect();
	ask_helo();
}

static void
one_command_at_a_time(void)
{
	fakes();
	setup("library = other", NULL);
	greet();
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(false);
	T_STR(
	    text(&fa.trace), "O|DC C|H|DM M|DR R|DT T|L|L|L|L|DN N|B|DE E|Q ");
	fakes_fini();

	/* what needs no answer leaves with what does */
	fakes();
	fa.protocol = MILTER_NR_CONNECT | MILTER_NR_MAIL | MILTER_NR_HEADER |
	    MILTER_NR_BODY;
	setup("pipeline = safe", NULL);
	greet();
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(false);
	T_STR(
	    text(&fa.trace), "O|DC C H|DM M DR R|DT T|L L L L DN N|B DE E|Q ");
	fakes_fini();
}

static void
all_ahead_for_a_known_library(void)
{
	static const char *const opts[] = { "library = libmilter",
		"library = milldam", "library = other pipeline = full" };
	size_t i;

	for (i = 0; i < 3; i++) {
		fakes();
		setup(opts[i], NULL);
		greet();
		T_OK(pass("Q1") == CHAIN_CONTINUE);
		finish(false);
		T_OK(strncmp(text(&fa.trace),
		         "O|DC C H DM M DR R|DT T L L L L DN N B DE E|",
		         44) == 0);
		fakes_fini();
	}
}

/* A verdict at each stage, then a second message: with "safe" over the same
 * connection, which is in step; with "full" over another one. */
static void
after_an_early_verdict_nobody_is_out_of_step(void)
{
	static const char cmds[] = "MTLNB", codes[] = "artd";
	size_t i, k, way;

	for (i = 0; cmds[i] != '\0'; i++)
		for (k = 0; codes[k] != '\0'; k++)
			for (way = 0; way < 2; way++) {
				fakes();
				fake_reply(&fa, cmds[i], 1, codes[k]);
				setup(ways[way], NULL);
				greet();
				(void)pass("Q1");
				chain_abort(chain);
				T_OK(pass("Q2") == CHAIN_CONTINUE);
				finish(false);
				if (fa.conns != (way == 0 ? 1u : 2u))
					printf("# %c %c %s: %s\n", cmds[i],
					    codes[k], ways[way],
					    text(&fa.trace));
				T_OK(fa.conns == (way == 0 ? 1u : 2u));
				T_OK(way == 1 || fa.seen['E'] == 1);
				fakes_fini();
			}
}

static void
an_answer_to_what_was_not_sent_is_a_lie(void)
{
	static const char cmds[] = "CMTLNB";
	size_t i;

	for (i = 0; cmds[i] != '\0'; i++) {
		struct buf *b;

		fakes();
		b = &fake_says(&fa, cmds[i], 1, FAKE_SEND)->bytes;
		fake_check(milter_put(b, 'c', NULL, 0));
		fake_check(milter_put(b, 'c', NULL, 0));
		setup("pipeline = safe", NULL);
		greet();
		T_OK(pass("Q1") == CHAIN_TEMPFAIL);
		finish(false);
		T_OK(fa.seen['E'] == 0);
		fakes_fini();
	}
	fakes();
	{
		struct buf *b = &fake_says(&fa, 'B', 1, FAKE_SEND)->bytes;
		const char *const s[] = { "X-New", "v" };

		fake_check(milter_put(b, 'c', NULL, 0));
		fake_check(milter_put_strings(b, 'h', s, 2));
	}
	setup("pipeline = safe", NULL);
	greet();
	T_OK(pass("Q1") == CHAIN_TEMPFAIL);
	finish(false);
	fakes_fini();
}

/* big - a body of n bytes in lines, and header fields */
static void
big(size_t n, unsigned fields)
{
	static char line[80];
	size_t i;

	memset(line, 'x', 78);
	memcpy(line + 78, "\r\n", 2);
	msg.mem.len = 0;
	msg.mem.max = 64 << 20;
	for (i = 0; i < n; i += 80)
		T_OK(buf_add(&msg.mem, line, 80) == 0);
	msg.body = msg.mem.data;
	msg.body_len = msg.mem.len;
	while (fields-- > 0)
		field("X-Many", " value");
}

/* The filter writes each answer before it reads on, with hardly any room for
 * answers, while more than the sockets hold is on its way to it. */
static void
full_sockets_on_both_sides_do_not_stop_it(void)
{
	size_t way;

	for (way = 0; way < 2; way++) {
		fakes();
		fa.room = 1;
		setup(ways[way], NULL);
		big(3 << 20, 9000);
		greet();
		T_OK(pass("Q1") == CHAIN_CONTINUE);
		finish(false);
		T_OK(fa.seen['L'] == 9004 && fa.conns == 1);
		T_OK(fa.body.len == msg.body_len || msg.body_len == 0);
		T_OK(fa.body.len >= 3 << 20);
		fakes_fini();
	}
}

/* A filter that may skip is not shown a chunk after it did. */
static void
no_chunk_after_a_skip(void)
{
	size_t way;

	for (way = 0; way < 2; way++) {
		fakes();
		fa.protocol = MILTER_CAN_SKIP;
		fake_reply(&fa, 'B', 2, 's');
		setup(ways[way], NULL);
		big(400 << 10, 0);
		greet();
		T_OK(pass("Q1") == CHAIN_CONTINUE);
		finish(false);
		T_OK(fa.seen['B'] == 2 && fa.seen['E'] == 1);
		fakes_fini();
	}
}

static unsigned seed = 1;

static unsigned
rnd(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return ((seed >> 16) % n);
}

/* script - some answers, often "continue" */
static void
script(struct fake *f)
{
	static const char cmds[] = "CHMRTLNBE", codes[] = "arrttdycc";
	static const char reply[] = "450-4.7.0 a\r\n450 4.7.0 b";
	const char *const s[] = { reply };
	unsigned n = rnd(3);

	f->protocol = rnd(3) == 0 ? MILTER_NR_HEADER | MILTER_NR_BODY : 0;
	if (rnd(3) == 0)
		f->protocol |= MILTER_NO_HELO | MILTER_NO_DATA | MILTER_NO_EOH;
	while (n-- > 0) {
		char code = codes[rnd(sizeof(codes) - 1)];
		char cmd = cmds[rnd(sizeof(cmds) - 1)];
		struct buf *b;

		if (!fake_due(f, cmd))
			continue;
		b = &fake_says(f, cmd, 0, FAKE_SEND)->bytes;
		if (cmd == 'E') {
			const char *const h[] = { "X-By", "filter" };

			fake_check(milter_put_strings(b, 'h', h, 2));
			fake_check(milter_put_indexed(b, 'm', 2, "X-A", "z"));
			if (rnd(2) == 0)
				fake_check(milter_put(b, 'b', "new\r\n", 5));
		}
		if (code == 'y')
			fake_check(milter_put_strings(b, 'y', s, 1));
		else
			fake_check(milter_put(b, code, NULL, 0));
	}
}

/* times_out - "ms":1.234 as "ms":0, so that records can be compared */
static void
times_out(char *s)
{
	char *w = s;

	while (*s != '\0') {
		if (strncmp(s, "\"ms\":", 5) == 0) {
			memcpy(w, s, 5);
			w += 5;
			s += 5;
			s += strspn(s, "0123456789.");
			continue;
		}
		*w++ = *s++;
	}
	*w = '\0';
}

/* greeting_out - a new connection is told CONNECT and HELO again */
static void
greeting_out(char *s)
{
	static const char *const stages[] = { "{\"stage\":\"connect\"",
		"{\"stage\":\"helo\"" };
	char *p, *end;
	size_t i;

	for (i = 0; i < 2; i++)
		while ((p = strstr(s, stages[i])) != NULL) {
			end = strchr(p, '}') + 1;
			if (*end == ',')
				end++;
			memmove(p, end, strlen(end) + 1);
		}
}

static void
write_down(struct buf *out)
{
	struct buf rec = BUF_INIT(1 << 20);
	size_t i;

	T_OK(chain_record(chain, &rec) == 0);
	times_out(rec.data);
	greeting_out(rec.data);
	/* How far those behind the one that decided came is not settled. */
	if (strcmp(got.milter, "a") == 0)
		*strstr(rec.data, "{\"name\":\"b\"") = '\0';
	T_OK(buf_addf(out, "%d %s %s %d %s\n", (int)got.verdict, got.reply,
	         got.milter, got.quarantine, rec.data) == 0);
	for (i = 0; i < msg.n_fields; i++)
		T_OK(buf_addf(out, "%s:%s\n", msg.fields[i].name,
		         msg.fields[i].value) == 0);
	T_OK(buf_add(out, msg.body, msg.body_len) == 0);
	buf_fini(&rec);
}

/* session - two messages through scripted filters; all that came of it */
static void
session(unsigned from, const char *way, struct buf *out)
{
	int i;

	seed = from;
	fakes();
	script(&fa);
	script(&fb);
	if (rnd(2) == 0)
		fa.actions = fb.actions = MILTER_MAY_QUARANTINE;
	setup(way, way);
	if (rnd(3) == 0)
		big(200 << 10, 3);
	greet();
	for (i = 0; i < 2; i++) {
		(void)pass(i == 0 ? "Q1" : "Q2");
		chain_abort(chain);
		write_down(out);
	}
	finish(true);
	fakes_fini();
}

static void
both_ways_come_to_the_same(void)
{
	struct buf one = BUF_INIT(8 << 20), other = BUF_INIT(8 << 20);
	char path[100];
	unsigned i, different = 0;
	char *p;

	for (i = 1; i <= 1000; i++) {
		one.len = other.len = 0;
		session(i * 7919, ways[0], &one);
		session(i * 7919, ways[1], &other);
		/* sockets lie in a folder of their own each time */
		snprintf(path, sizeof(path), "chain_test.");
		for (p = one.data; (p = strstr(p, path)) != NULL; p += 11)
			memset(p + 11, 'x', 6);
		for (p = other.data; (p = strstr(p, path)) != NULL; p += 11)
			memset(p + 11, 'x', 6);
		if (one.len == other.len &&
		    memcmp(one.data, other.data, one.len) == 0)
			continue;
		if (different++ == 0)
			printf("# %u, %s %s\n# %s %s\n", i, ways[0], one.data,
			    ways[1], other.data);
	}
	T_OK(different == 0);
	buf_fini(&one);
	buf_fini(&other);
}

static const struct t_case cases[] = {
	{ "pipeline: safe is one command at a time", one_command_at_a_time },
	{ "pipeline: full is the default of a known library",
	    all_ahead_for_a_known_library },
	{ "pipeline: after an early verdict nobody is out of step",
	    after_an_early_verdict_nobody_is_out_of_step },
	{ "pipeline: an answer to what was not sent is a lie",
	    an_answer_to_what_was_not_sent_is_a_lie },
	{ "pipeline: full sockets on both sides do not stop it",
	    full_sockets_on_both_sides_do_not_stop_it },
	{ "pipeline: no chunk after a skip", no_chunk_after_a_skip },
	{ "pipeline: both ways come to the same", both_ways_come_to_the_same },
};

T_MAIN(cases)
