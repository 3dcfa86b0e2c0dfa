/* SPDX-License-Identifier: ISC */

/* Content that goes to milters while it still arrives (chain_stream()). */

#include "tests/unit/chain_script.h"

enum { STEP = 100000 };

static size_t whole; /* of msg.body_len, while less of it is there */

/* turn - what there is to do, for about so long */
static void
turn(unsigned ms)
{
	unsigned i;

	for (i = 0; i < ms; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
}

/* until - the fake has seen n of cmd */
static bool
until(const struct fake *f, char cmd, unsigned n)
{
	unsigned i;

	for (i = 0; i < 5000; i++) {
		if (*(const volatile unsigned *)&f->seen[(unsigned char)cmd] >=
		    n)
			return (true);
		turn(1);
	}
	return (false);
}

/* forget - from now on the fake says "continue" */
static void
forget(struct fake *f)
{
	while (f->n_lines > 0)
		buf_fini(&f->lines[--f->n_lines].bytes);
}

/* begin - n bytes of the body are there */
static bool
begin(size_t n)
{
	whole = msg.body_len;
	msg.body_len = n;
	return (chain_stream(chain, &msg, &env));
}

static void
more(size_t n)
{
	msg.body_len = n;
	chain_stream_more(chain);
}

static enum chain_verdict
end(void)
{
	msg.body_len = whole;
	return (ask_message());
}

static void
up_to_data(const char *id)
{
	T_OK(ask_mail(id) == CHAIN_CONTINUE);
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
	T_OK(ask_data() == CHAIN_CONTINUE);
}

static void
filters_hear_of_it_before_the_end(void)
{
	size_t way;

	for (way = 0; way < 2; way++) { /* may "a" change the message? */
		fakes();
		fa.actions = way == 0 ? MILTER_MAY_QUARANTINE : MILTER_MAY_ALL;
		setup("", "");
		big(500000, 0);
		greet();
		up_to_data("Q1");
		T_OK(begin(200000));
		T_OK(until(&fa, 'B', 3)); /* whole chunks only */
		more(300000);
		T_OK(until(&fa, 'B', 4));
		if (way == 0)
			T_OK(until(&fb, 'B', 4));
		turn(20);
		T_OK(fa.seen['B'] == 4 && fa.seen['E'] == 0);
		T_OK(fb.seen['B'] == (way == 0 ? 4 : 0));
		T_OK(!chain_stream_over(chain));
		T_OK(end() == CHAIN_CONTINUE);
		finish(true);
		T_OK(fa.seen['B'] == 8 && fb.seen['B'] == 8);
		T_OK(fa.body.len == 500000 && fb.body.len == 500000);
		T_OK(fa.conns == 1 && fb.conns == 1);
		fakes_fini();
	}
}

static void
a_refusal_stops_the_others(void)
{
	static const char cmds[] = "LB", codes[] = "rtd";
	unsigned n;
	size_t i, k;

	for (i = 0; i < 2; i++)
		for (k = 0; k < 3; k++) {
			fakes();
			fa.actions = fb.actions = MILTER_MAY_QUARANTINE;
			fake_reply(
			    &fa, cmds[i], cmds[i] == 'B' ? 4 : 1, codes[k]);
			setup("", "");
			big(500000, 0);
			greet();
			up_to_data("Q1");
			T_OK(begin(200000));
			if (cmds[i] == 'B') { /* all have answered so far */
				T_OK(until(&fa, 'B', 3) && until(&fb, 'B', 3));
				turn(50);
				T_OK(!chain_stream_over(chain));
				more(300000);
			}
			for (n = 0; n < 5000 && !chain_stream_over(chain); n++)
				turn(1);
			T_OK(chain_stream_over(chain));
			msg.body = ""; /* the receiver drops it */
			whole = 0;
			more(0);
			T_OK(end() ==
			    (codes[k] == 'r'          ? CHAIN_REJECT
			            : codes[k] == 't' ? CHAIN_TEMPFAIL
			                              : CHAIN_DISCARD));
			T_STR(got.milter, "a");
			msg.body = msg.mem.data;
			msg.body_len = msg.mem.len;
			T_OK(fb.seen['E'] == 0);
			/* and nobody is out of step */
			forget(&fa);
			T_OK(pass("Q2") == CHAIN_CONTINUE);
			finish(true);
			T_OK(fb.seen['E'] == 1);
			fakes_fini();
		}
}

/* The one before it still has its say, for which it needs no body. */
static void
behind_one_that_wants_no_body(void)
{
	static const char codes[] = "ctc";
	size_t i;
	unsigned n;

	for (i = 0; i < 3; i++) {
		fakes();
		fa.actions = MILTER_MAY_QUARANTINE | MILTER_MAY_DEL_RCPT;
		fa.protocol = i < 2 ? MILTER_NO_BODY | MILTER_NO_HEADERS : 0;
		fake_reply(&fa, 'E', 1, codes[i]);
		fake_reply(&fb, 'B', 2, 'r');
		setup("", "");
		big(500000, 0);
		greet();
		up_to_data("Q1");
		T_OK(begin(200000));
		T_OK(until(&fb, 'B', 2));
		for (n = 0; i < 2 && n < 5000 && !chain_stream_over(chain); n++)
			turn(1);
		turn(20);
		T_OK(chain_stream_over(chain) == (i < 2));
		if (i < 2)
			msg.body = "";
		more(400000);
		turn(20);
		T_OK(end() == (i == 1 ? CHAIN_TEMPFAIL : CHAIN_REJECT));
		T_STR(got.milter, i == 1 ? "a" : "b");
		msg.body = msg.mem.data;
		finish(true);
		T_OK(fa.seen['E'] == 1 && fb.seen['E'] == 0);
		T_OK(strstr(text(&fa.macros), "{msg_size}=500") != NULL);
		fakes_fini();
	}
}

/* Who may only change the envelope, as the authoriser, holds up the end alone;
 * streamed or not. */
static void
the_end_waits_for_the_envelope(void)
{
	const char *const rcpt[] = { "<r2@y.test>" };
	struct buf *b;
	size_t way;
	int answers;

	for (way = 0; way < 2; way++) {
		fakes();
		fa.actions = MILTER_MAY_DEL_RCPT;
		fa.eom_delay_ms = 300;
		b = &fake_says(&fa, 'E', 1, FAKE_SEND)->bytes;
		fake_check(milter_put_strings(b, '-', rcpt, 1));
		fake_check(milter_put(b, 'c', NULL, 0));
		setup("", "timeout = { \"message=250ms\" }");
		big(300000, 0);
		greet();
		up_to_data("Q1");
		if (way == 1) {
			T_OK(begin(200000));
			T_OK(until(&fb, 'B', 3));
			msg.body_len = whole;
		}
		answers = got.n;
		in_call = true;
		chain_message(chain, &msg, &env, on_answer, NULL);
		in_call = false;
		T_OK(until(&fb, 'B', 5) && until(&fa, 'B', 5));
		turn(100);
		T_OK(fb.seen['E'] == 0);
		T_OK(until(&fa, 'E', 1) && until(&fb, 'E', 1));
		while (got.n == answers)
			turn(1);
		T_OK(got.verdict == CHAIN_CONTINUE);
		T_OK(env.n_rcpts == 1);
		finish(true);
		T_OK(strstr(text(&fb.macros), "{nrcpts}=1") != NULL);
		fakes_fini();
	}
}

/* A filter that owes nothing is told ABORT, and kept. */
static void
one_in_step_is_kept(void)
{
	unsigned n;

	fakes();
	fa.actions = fb.actions = MILTER_MAY_QUARANTINE;
	fb.protocol = MILTER_NR_BODY | MILTER_NR_HEADER;
	fa.slow_cmd = 'N';
	fa.slow_progress = 1;
	fa.slow_ms = 300;
	fake_reply(&fa, 'N', 1, 'r');
	setup("", "");
	big(500000, 0);
	greet();
	up_to_data("Q1");
	T_OK(begin(200000));
	T_OK(until(&fb, 'B', 3));
	for (n = 0; n < 5000 && !chain_stream_over(chain); n++)
		turn(1);
	T_OK(until(&fb, 'A', 1));
	T_OK(end() == CHAIN_REJECT);
	forget(&fa);
	fa.slow_cmd = 0;
	T_OK(pass("Q2") == CHAIN_CONTINUE);
	finish(true);
	T_OK(fb.conns == 1 && fb.seen['E'] == 1);
	fakes_fini();
}

/* The client may take longer than a filter may. */
static void
the_clients_time_is_not_the_filters(void)
{
	static const char *const ways[] = { "pipeline = safe",
		"pipeline = full" };
	char opts[200];
	size_t i;

	for (i = 0; i < 4; i++) {
		fakes();
		fa.protocol = i < 2 ? 0 : MILTER_NR_BODY | MILTER_NR_HEADER;
		snprintf(opts, sizeof(opts),
		    "%s timeout = { \"command=300ms\", \"message=500ms\" }",
		    ways[i % 2]);
		setup(opts, NULL);
		big(500000, 0);
		greet();
		up_to_data("Q1");
		T_OK(begin(200000));
		T_OK(until(&fa, 'B', 3));
		turn(700);
		more(400000);
		T_OK(until(&fa, 'B', 6));
		turn(700);
		T_OK(end() == CHAIN_CONTINUE);
		finish(false);
		T_OK(fa.conns == 1 && fa.seen['E'] == 1);
		fakes_fini();
	}
}

static void
silence_meets_its_limit_all_the_same(void)
{
	static const char cmds[] = "LB";
	size_t i;

	for (i = 0; i < 2; i++) {
		fakes();
		fake_says(&fa, cmds[i], 1, FAKE_SILENT);
		setup("timeout = { \"command=100ms\" }", NULL);
		big(500000, 0);
		greet();
		up_to_data("Q1");
		T_OK(begin(200000));
		turn(400);
		T_OK(chain_stream_over(chain));
		T_OK(end() == CHAIN_TEMPFAIL);
		finish(false);
		fakes_fini();
	}
}

static void
given_up_amid_the_body(void)
{
	fakes();
	setup("", "");
	big(500000, 0);
	greet();
	up_to_data("Q1");
	T_OK(begin(200000));
	T_OK(until(&fa, 'B', 3));
	turn(20);
	chain_abort(chain);
	msg.body_len = whole;
	T_OK(pass("Q2") == CHAIN_CONTINUE);
	/* and the session ends amid another */
	up_to_data("Q3");
	T_OK(begin(200000));
	finish(true);
	T_OK(fa.conns == 1 && fa.seen['A'] == 1 && fa.seen['E'] == 1);
	fakes_fini();
}

static void
not_where_rules_ask_for_the_size(void)
{
	fakes();
	fake_start(&fa);
	fake_start(&fb);
	setup_policy("", "",
	    "authorise = \"a\" rule \"big\" { size = \">1M\" "
	    "skip = {\"b\"} }");
	big(500000, 0);
	greet();
	up_to_data("Q1");
	T_OK(!begin(200000));
	T_OK(end() == CHAIN_CONTINUE);
	finish(true);
	fakes_fini();
}

/* deaths - some fake closes at some command */
static void
deaths(struct fake *f)
{
	static const char cmds[] = "TLNBE";

	if (rnd(6) == 0)
		fake_says(f, cmds[rnd(5)], 1 + rnd(3), FAKE_CLOSE);
}

static const char *
options(void)
{
	static const char *const modes[] = { "", "on-failure = accept ",
		"on-failure = quarantine ", "mode = shadow " };
	static char text[2][100];
	static size_t at;

	at = 1 - at;
	snprintf(text[at], sizeof(text[at]), "%spipeline = %s", modes[rnd(4)],
	    rnd(2) == 0 ? "safe" : "full");
	return (text[at]);
}

/* told - one message; streamed: as it comes, with a pause between pieces */
static enum chain_verdict
told(const char *id, bool streamed)
{
	size_t n = msg.body_len, at;
	enum chain_verdict v = ask_mail(id);

	if (v == CHAIN_CONTINUE)
		v = ask_rcpt("r1@y.test");
	if (v == CHAIN_CONTINUE)
		v = ask_data();
	if (v != CHAIN_CONTINUE)
		return (v);
	for (at = STEP; streamed && at < n; at += STEP) {
		if (at == STEP)
			T_OK(begin(at));
		else
			more(at);
		turn(rnd(3));
	}
	msg.body_len = n;
	return (ask_message());
}

static void
session(unsigned from, bool streamed, struct buf *out)
{
	const char *a, *b;

	seed = from;
	fakes();
	script(&fa);
	script(&fb);
	deaths(&fa);
	deaths(&fb);
	if (rnd(2) == 0)
		fa.actions = fb.actions = MILTER_MAY_QUARANTINE;
	if (rnd(3) == 0)
		fa.protocol |= MILTER_CAN_SKIP;
	a = options();
	b = options();
	setup(
	    strstr(a, "shadow") != NULL || strstr(a, "accept") != NULL ? "" : a,
	    b);
	big(350000, 3);
	greet();
	(void)told("Q1", streamed);
	chain_abort(chain);
	write_down(out);
	finish(true);
	fakes_fini();
}

static void
both_ways_come_to_the_same(void)
{
	struct buf one = BUF_INIT(8 << 20), other = BUF_INIT(8 << 20);
	unsigned i, different = 0;

	for (i = 1; i <= 600; i++) {
		one.len = other.len = 0;
		session(i * 6007, false, &one);
		session(i * 6007, true, &other);
		if (same(&one, &other))
			continue;
		if (different++ < 6)
			printf("# %u, whole %s\n# streamed %s\n", i, one.data,
			    other.data);
	}
	printf("# %u of 600 differ\n", different);
	T_OK(different == 0);
	buf_fini(&one);
	buf_fini(&other);
}

static const struct t_case cases[] = {
	{ "stream: filters hear of it before the end",
	    filters_hear_of_it_before_the_end },
	{ "stream: a refusal stops the others", a_refusal_stops_the_others },
	{ "stream: behind one that wants no body",
	    behind_one_that_wants_no_body },
	{ "stream: the end waits for the envelope",
	    the_end_waits_for_the_envelope },
	{ "stream: one in step is kept", one_in_step_is_kept },
	{ "stream: the client's time is not the filters'",
	    the_clients_time_is_not_the_filters },
	{ "stream: silence meets its limit all the same",
	    silence_meets_its_limit_all_the_same },
	{ "stream: given up amid the body", given_up_amid_the_body },
	{ "stream: not where rules ask for the size",
	    not_where_rules_ask_for_the_size },
	{ "stream: both ways come to the same", both_ways_come_to_the_same },
};

T_MAIN(cases)
