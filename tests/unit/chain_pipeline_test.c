/* SPDX-License-Identifier: ISC */

/*
 * Commands ahead of their answers (pipeline = full) or one at a time (safe):
 * the filter is told the same and the outcome is the same; what differs is
 * where it has to be awaited, and what becomes of the connection after an early
 * verdict.
 */

#include "tests/unit/chain_script.h"

static const char *const ways[] = { "pipeline = safe", "pipeline = full" };

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
	unsigned i, different = 0;

	for (i = 1; i <= 1000; i++) {
		one.len = other.len = 0;
		session(i * 7919, ways[0], &one);
		session(i * 7919, ways[1], &other);
		if (same(&one, &other))
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
