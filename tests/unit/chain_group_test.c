/* SPDX-License-Identifier: ISC */

/* Several endpoints of one milter "a": fa, fb, and one that is not there. */

#include "tests/unit/chain_lib.h"

#include <time.h>

static struct buf stats = BUF_INIT(1 << 16);

static const char *
text(const struct buf *b)
{
	return (b->data != NULL ? b->data : "");
}

/* group - milter "a" gets these endpoints (with %A and %B for the fakes') and
 * options; start: which fakes run */
static void
group(const char *endpoints, const char *opts, const char *start)
{
	static char policy[1024];
	struct buf b = BUF_INIT(512);
	const char *s;

	for (s = endpoints; *s != '\0'; s++)
		if (*s == 'A' || *s == 'B')
			fake_check(buf_addf(
			    &b, "\"unix:%s\" ", *s == 'A' ? fa.path : fb.path));
		else
			fake_check(buf_addf(&b, "\"unix:/nonexistent/x\" "));
	if (strchr(start, 'A') != NULL)
		fake_start(&fa);
	if (strchr(start, 'B') != NULL)
		fake_start(&fb);
	snprintf(policy, sizeof(policy),
	    "authorise = \"a\" }\nmilter \"a\" { endpoints = {%s} "
	    "health-interval = 0s %s }\npolicy \"in\" {",
	    b.data, opts);
	buf_fini(&b);
	setup_policy("", NULL, policy);
}

static void
again(void)
{
	chain_free(&chain);
	chain = chain_new(engine, settings, 0, &facts);
}

static void
run_ms(unsigned ms)
{
	struct timeval tv = { ms / 1000, (suseconds_t)(ms % 1000) * 1000 };

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

static bool
has(const char *what)
{
	stats.len = 0;
	T_OK(engine_stats(engine, &stats) == 0 && buf_add(&stats, "", 1) == 0);
	if (strstr(stats.data, what) != NULL)
		return (true);
	printf("# %s\n", stats.data);
	return (false);
}

static bool
contains(const struct buf *b, const char *what)
{
	if (strstr(text(b), what) != NULL)
		return (true);
	printf("# %s\n", text(b));
	return (false);
}

/* transaction - one message to two recipients */
static enum chain_verdict
transaction(void)
{
	ask_connect();
	ask_helo();
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	T_OK(got.authorised);
	ask_rcpt("r2@y.test");
	ask_data();
	return (ask_message());
}

static void
finish_group(bool a, bool b)
{
	chain_free(&chain);
	if (a)
		fake_stop(&fa);
	if (b)
		fake_stop(&fb);
	engine_free(&engine);
	settings_unref(&settings);
	event_base_free(base);
	message_fini(&msg);
	env_fini(&env);
}

static void
in_order_in_turn_or_the_least_busy(void)
{
	struct chain *first;

	fakes();
	group("xAB", "", "AB");
	T_OK(transaction() == CHAIN_CONTINUE);
	again();
	T_OK(transaction() == CHAIN_CONTINUE);
	T_OK(has("\"failovers\":2,\"replays\":0"));
	finish_group(true, true);
	T_OK(fa.conns == 2 && fb.conns == 0);
	fakes_fini();

	fakes();
	group("AB", "balance = round-robin", "AB");
	T_OK(transaction() == CHAIN_CONTINUE);
	again();
	T_OK(transaction() == CHAIN_CONTINUE);
	again();
	T_OK(transaction() == CHAIN_CONTINUE);
	finish_group(true, true);
	T_OK(fa.conns == 2 && fb.conns == 1);
	fakes_fini();

	fakes();
	group("AB", "balance = least-busy", "AB");
	T_OK(transaction() == CHAIN_CONTINUE);
	first = chain;
	chain = chain_new(engine, settings, 0, &facts);
	T_OK(transaction() == CHAIN_CONTINUE);
	chain_free(&first); /* a is free again, and its turn */
	again();
	T_OK(transaction() == CHAIN_CONTINUE);
	finish_group(true, true);
	T_OK(fa.conns + fb.conns == 3 && fb.conns >= 1 && fa.conns >= 1);
	fakes_fini();
}

/* Where the first endpoint dies, stops or breaks off. */
static const struct {
	char cmd;
	unsigned nth;
	enum fake_act act;
} deaths[] = { { 'M', 1, FAKE_CLOSE }, { 'R', 1, FAKE_CLOSE },
	{ 'R', 2, FAKE_CLOSE }, { 'T', 1, FAKE_CLOSE }, { 'L', 2, FAKE_CLOSE },
	{ 'B', 1, FAKE_CLOSE }, { 'E', 1, FAKE_CLOSE }, { 'C', 1, FAKE_SILENT },
	{ 'R', 2, FAKE_SILENT }, { 'N', 1, FAKE_SILENT },
	{ 'E', 1, FAKE_SILENT } };

static void
wherever_it_dies_the_message_goes_elsewhere(void)
{
	size_t i;

	for (i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
		printf("# %c\n", deaths[i].cmd);
		fakes();
		fake_says(&fa, deaths[i].cmd, deaths[i].nth, deaths[i].act);
		group("AB", "timeout = {\"command=200ms\"}", "AB");
		T_OK(transaction() == CHAIN_CONTINUE);
		finish_group(true, true);
		T_OK(contains(&fb.args,
		    "C:c.test/4/4711/192.0.2.7;H:c.test;M:<s@x.test>:SIZE=10;"
		    "R:<r1@y.test>;R:<r2@y.test>;"));
		T_STR(text(&fb.header),
		    "Subject:one;X-A:1;X-A: 2\n\tfold;x-a:3;");
		T_STR(text(&fb.body), "hello\r\n.dot\r\n");
		fakes_fini();
	}
}

static void
nothing_of_a_broken_off_change_stays(void)
{
	fakes();
	fake_check(milter_put(&fake_says(&fa, 'E', 1, FAKE_SEND_CLOSE)->bytes,
	    MILTER_REPLACE_BODY, "half", 4));
	{
		struct fake_line *l = fake_says(&fb, 'E', 1, FAKE_SEND);

		fake_check(
		    milter_put(&l->bytes, MILTER_REPLACE_BODY, "one\r\n", 5));
		fake_check(
		    milter_put(&l->bytes, MILTER_REPLACE_BODY, "two\r\n", 5));
		fake_check(milter_put(&l->bytes, 'c', NULL, 0));
	}
	group("AB", "", "AB");
	T_OK(transaction() == CHAIN_CONTINUE);
	T_OK(msg.body_len == 10 && memcmp(msg.body, "one\r\ntwo\r\n", 10) == 0);
	T_OK(has("\"replays\":1"));
	finish_group(true, true);
	T_OK(contains(&fb.macros, "{milldam_replay}=1"));
	T_OK(strstr(text(&fa.macros), "milldam_replay") == NULL);
	fakes_fini();
}

static void
a_recipient_refused_must_be_refused_again(void)
{
	static const char *const opts[] = { "R", "r", "t", "" };
	size_t i;

	for (i = 0; i < 4; i++) {
		struct fake_line *l;

		fakes();
		l = fake_says(&fa, 'R', 2, FAKE_SEND);
		fake_check(
		    milter_put(&l->bytes, 'y', "550 5.7.1 go in 299 s", 22));
		fake_says(&fa, 'E', 1, FAKE_CLOSE);
		if (i == 0) { /* the same code, another text */
			l = fake_says(&fb, 'R', 2, FAKE_SEND);
			fake_check(milter_put(
			    &l->bytes, 'y', "550 5.7.1 go in 298 s", 22));
		} else if (i < 3)
			fake_reply(&fb, 'R', 2, opts[i][0]);
		group("AB", "", "AB");
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		T_OK(ask_rcpt("r2@y.test") == CHAIN_REJECT);
		ask_data();
		T_OK(
		    ask_message() == (i < 2 ? CHAIN_CONTINUE : CHAIN_TEMPFAIL));
		T_OK(has(
		    i < 2 ? "\"replays_unlike\":0" : "\"replays_unlike\":1"));
		finish_group(true, true);
		fakes_fini();
	}
}

static void
a_yes_to_a_recipient_must_be_said_again(void)
{
	static const uint32_t bits[] = { MILTER_NO_RCPT, MILTER_NR_RCPT, 0 };
	size_t i;

	for (i = 0; i < 3; i++) {
		fakes();
		fake_says(&fa, 'E', 1, FAKE_CLOSE);
		fb.protocol = bits[i];
		if (bits[i] == 0)
			fake_reply(&fb, 'R', 1, 's');
		group("AB", "", "AB");
		T_OK(transaction() == CHAIN_TEMPFAIL);
		T_OK(has("\"replays_unlike\":1"));
		finish_group(true, true);
		T_OK(bits[i] == 0 || text(&fb.body)[0] == '\0');
		fakes_fini();
	}
}

/* In the second message of a session the connection is an old one. */
static void
the_second_message_of_a_session_too(void)
{
	static const char cmds[] = { 0, 'C', 'H', 'M' };
	size_t i;

	for (i = 0; i < 4; i++) {
		fakes();
		fake_says(&fa, 'E', 2, FAKE_CLOSE);
		if (cmds[i] != 0)
			fake_reply(&fb, cmds[i], 1, 'r');
		group("AB", i == 0 ? "" : "early = yes", "AB");
		T_OK(transaction() == CHAIN_CONTINUE);
		ask_mail("Q2");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		ask_data();
		T_OK(ask_message() ==
		    (i == 0 ? CHAIN_CONTINUE : CHAIN_TEMPFAIL));
		T_OK(has(
		    i == 0 ? "\"replays_unlike\":0" : "\"replays_unlike\":1"));
		finish_group(true, true);
		T_OK(contains(&fb.macros, "i=Q2"));
		fakes_fini();
	}
}

static void
what_the_session_was_told_stays(void)
{
	fakes();
	fake_check(milter_put(
	    &fake_says(&fa, 'E', 1, FAKE_SEND_CLOSE)->bytes, 'c', NULL, 0));
	fake_reply(&fa, 'C', 2, 'r');
	group("A", "", "A");
	T_OK(transaction() == CHAIN_CONTINUE);
	run_ms(50);
	ask_mail("Q2");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_TEMPFAIL);
	T_OK(has("\"replays_unlike\":1"));
	chain_abort(chain);
	ask_mail("Q3"); /* and is not held against the next message */
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
	finish_group(true, false);
	fakes_fini();
}

/* A milter that gets the content beside one before it that changes nothing:
 * the other endpoint of that one may not change it any more. */
static void
rights_to_change_do_not_grow_late(void)
{
	static char policy[1024];
	struct fake fc;
	char path[100];
	int i;

	for (i = 0; i < 2; i++) {
		fakes();
		snprintf(path, sizeof(path), "%s/c", dir);
		fake_init(&fc, path);
		fa.actions = MILTER_MAY_QUARANTINE;
		fb.actions = i == 0 ? MILTER_MAY_QUARANTINE : MILTER_MAY_ALL;
		fake_says(&fa, 'E', 1, FAKE_CLOSE);
		fa.eom_delay_ms = 100; /* the one behind has it by then */
		fake_start(&fa);
		fake_start(&fb);
		fake_start(&fc);
		snprintf(policy, sizeof(policy),
		    "authorise = \"a\" rule \"all\" { add = {\"c\"} } }\n"
		    "milter \"c\" { endpoints = {\"unix:%s\"} }\n"
		    "milter \"a\" { endpoints = {\"unix:%s\" \"unix:%s\"} }\n"
		    "policy \"in\" {",
		    fc.path, fa.path, fb.path);
		setup_policy("", NULL, policy);
		T_OK(transaction() ==
		    (i == 0 ? CHAIN_CONTINUE : CHAIN_TEMPFAIL));
		finish_group(true, true);
		fake_stop(&fc);
		fake_fini(&fc);
		fakes_fini();
	}
}

/* Lost between two recipients: those before are told again. */
static void
a_loss_between_two_commands_is_noticed(void)
{
	fakes();
	fake_check(milter_put(
	    &fake_says(&fa, 'R', 1, FAKE_SEND_CLOSE)->bytes, 'c', NULL, 0));
	group("AB", "", "AB");
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	run_ms(50);
	T_OK(ask_rcpt("r2@y.test") == CHAIN_CONTINUE && got.authorised);
	ask_data();
	T_OK(ask_message() == CHAIN_CONTINUE);
	finish_group(true, true);
	T_OK(contains(&fb.trace, "DM M DR R DR R|DT T L"));
	T_OK(contains(&fb.args, "R:<r1@y.test>;R:<r2@y.test>;"));
	fakes_fini();
}

/* What needs no recipients did not hear of them; another may want them. */
static void
an_endpoint_may_want_more_than_the_first(void)
{
	fakes();
	fa.protocol = MILTER_NO_RCPT | MILTER_NO_MAIL | MILTER_NO_HELO;
	fake_says(&fa, 'E', 1, FAKE_CLOSE);
	group("AB", "", "AB");
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && !got.authorised);
	ask_data();
	T_OK(ask_message() == CHAIN_CONTINUE);
	finish_group(true, true);
	T_OK(contains(&fb.args, "M:<s@x.test>:SIZE=10;R:<r1@y.test>;"));
	fakes_fini();
}

static void
a_lie_is_not_told_twice(void)
{
	fakes();
	fake_reply(&fa, 'E', 1, '?');
	group("AB", "", "AB");
	T_OK(transaction() == CHAIN_TEMPFAIL);
	T_OK(has("\"failures\":1,\"fail_opens\":0"));
	T_OK(has("\"replays\":0"));
	finish_group(true, true);
	T_OK(fb.conns == 0);
	fakes_fini();
}

static void
a_bad_negotiation_leads_to_the_next(void)
{
	fakes();
	fa.raw_options = "\0\0\0\5O\0\0\0\2";
	fa.raw_options_len = 9;
	group("AB", "", "AB");
	T_OK(transaction() == CHAIN_CONTINUE);
	T_OK(has("\"failures\":0,\"fail_opens\":0"));
	T_OK(has("\"failovers\":1,\"replays\":0"));
	finish_group(true, true);
	fakes_fini();
}

static void
every_endpoint_has_its_pool(void)
{
	int i;

	fakes();
	fa.protocol = fb.protocol = MILTER_NR_HEADER;
	group("AB", "balance = round-robin library = libmilter", "AB");
	for (i = 0; i < 6; i++) {
		T_OK(transaction() == CHAIN_CONTINUE);
		again();
	}
	T_OK(has("\"connects\":2,\"reused\":4"));
	T_OK(has("\"idle\":1,\"connects\":1,\"reused\":2"));
	finish_group(true, true);
	T_OK(fa.conns == 1 && fb.conns == 1);
	T_OK(contains(&fb.trace, "K DC C H"));
	fakes_fini();
}

static void
no_replay_where_it_is_not_wanted(void)
{
	fakes();
	fake_says(&fa, 'E', 1, FAKE_CLOSE);
	group("AB", "replay = no", "AB");
	T_OK(transaction() == CHAIN_TEMPFAIL);
	finish_group(true, true);
	T_OK(fb.conns == 0);
	fakes_fini();
}

static uint64_t
ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

static void
replays_share_the_time_of_the_question(void)
{
	uint64_t began;

	fakes();
	fake_says(&fa, 'E', 0, FAKE_SILENT);
	fake_says(&fb, 'E', 0, FAKE_SILENT);
	group("AB", "timeout = {\"command=600ms\" \"message=900ms\"}", "AB");
	began = ms_now();
	T_OK(transaction() == CHAIN_TEMPFAIL);
	T_OK(ms_now() - began >= 800 && ms_now() - began < 1900);
	T_OK(contains(&stats, "") && has("\"replays\":1"));
	finish_group(true, true);
	fakes_fini();

	fakes(); /* the chain's time: ended before the milter's */
	fake_says(&fa, 'E', 0, FAKE_SILENT);
	fake_says(&fb, 'E', 0, FAKE_SILENT);
	group("AB",
	    "timeout = {\"command=5s\"} }\n"
	    "limits { milter-time = 1s",
	    "AB");
	began = ms_now();
	T_OK(transaction() == CHAIN_TEMPFAIL);
	T_OK(ms_now() - began >= 900 && ms_now() - began < 3000);
	T_OK(has("\"replays\":0"));
	finish_group(true, true);
	fakes_fini();
}

static void
what_fails_is_ejected_and_comes_back(void)
{
	int i;

	fakes();
	group("AB", "eject-after = 2 eject-time = 200ms", "B");
	for (i = 0; i < 3; i++) {
		T_OK(transaction() == CHAIN_CONTINUE);
		again();
	}
	/* the third did not try it */
	T_OK(has("\"failovers\":2"));
	T_OK(has("\"state\":\"open\",\"busy\":0,\"idle\":0,\"connects\":2,"
	         "\"reused\":0,\"failures\":2,\"ejections\":1,\"probes\":0"));
	run_ms(300);
	T_OK(has("\"state\":\"open\"") && has("\"probes\":1"));
	fake_start(&fa);
	run_ms(500); /* twice as long */
	T_OK(!has("\"state\":\"open\"") && has("\"probe_failures\":1"));
	again();
	T_OK(transaction() == CHAIN_CONTINUE);
	finish_group(true, true);
	T_OK(strcmp(text(&fa.trace),
	         "O|Q O|DC C H DM M DR R|DR R|DT T L L L L "
	         "DN N B DE E|Q ") == 0);
	fakes_fini();
}

static void
when_all_are_ejected_they_are_tried_or_not(void)
{
	int i;

	for (i = 0; i < 2; i++) {
		fakes();
		group("xA",
		    i == 0 ? "eject-after = 1 eject-time = 1h"
		           : "eject-after = 1 eject-time = 1h "
		             "all-ejected = fail",
		    "");
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_TEMPFAIL);
		again();
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_TEMPFAIL);
		T_OK(has(i == 0 ? "\"connects\":2" : "\"connects\":1"));
		T_OK(has("\"failures\":2"));
		finish_group(false, false);
		fakes_fini();
	}
}

static void
every_fail_open_is_counted_once(void)
{
	fakes();
	fake_says(&fa, 'E', 1, FAKE_CLOSE);
	fake_says(&fb, 'E', 1, FAKE_CLOSE);
	fake_start(&fa);
	fake_start(&fb);
	{
		static char policy[600];

		snprintf(policy, sizeof(policy),
		    "chain = {} }\nmilter \"a\" { endpoints = {\"unix:%s\" "
		    "\"unix:%s\"} on-failure = accept }\npolicy \"in\" {",
		    fa.path, fb.path);
		setup_policy("", NULL, policy);
	}
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	ask_data();
	T_OK(ask_message() == CHAIN_CONTINUE);
	T_OK(alarms == 1 && has("\"fail_opens\":1"));
	finish_group(true, true);
	fakes_fini();
}

static void
warm_connections_wait_for_sessions(void)
{
	fakes();
	group("A", "warm = 1", "A");
	run_ms(200);
	T_OK(has("\"idle\":1"));
	T_OK(transaction() == CHAIN_CONTINUE);
	T_OK(has("\"reused\":1"));
	finish_group(true, false);
	T_OK(strstr(text(&fa.trace), "O|DC C H DM M") == text(&fa.trace));
	fakes_fini();
}

static void
only_the_named_user_is_a_peer(void)
{
	char opts[64];
	int i;

	for (i = 0; i < 2; i++) {
		fakes();
		snprintf(opts, sizeof(opts), "peer = {%u}",
		    (unsigned)getuid() + (unsigned)i);
		group("A", opts, "A");
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") ==
		    (i == 0 ? CHAIN_CONTINUE : CHAIN_TEMPFAIL));
		finish_group(true, false);
		T_OK(i == 0 || text(&fa.trace)[0] == '\0');
		fakes_fini();
	}
}

static const struct t_case cases[] = {
	{ "group: in order, in turn, or the least busy",
	    in_order_in_turn_or_the_least_busy },
	{ "group: wherever it dies the message goes elsewhere",
	    wherever_it_dies_the_message_goes_elsewhere },
	{ "group: nothing of a broken-off change stays",
	    nothing_of_a_broken_off_change_stays },
	{ "group: a recipient refused must be refused again",
	    a_recipient_refused_must_be_refused_again },
	{ "group: a yes to a recipient must be said again",
	    a_yes_to_a_recipient_must_be_said_again },
	{ "group: the second message of a session too",
	    the_second_message_of_a_session_too },
	{ "group: what the session was told stays",
	    what_the_session_was_told_stays },
	{ "group: rights to change do not grow late",
	    rights_to_change_do_not_grow_late },
	{ "group: a loss between two commands is noticed",
	    a_loss_between_two_commands_is_noticed },
	{ "group: an endpoint may want more than the first",
	    an_endpoint_may_want_more_than_the_first },
	{ "group: a lie is not told twice", a_lie_is_not_told_twice },
	{ "group: a bad negotiation leads to the next",
	    a_bad_negotiation_leads_to_the_next },
	{ "group: every endpoint has its pool", every_endpoint_has_its_pool },
	{ "group: no replay where it is not wanted",
	    no_replay_where_it_is_not_wanted },
	{ "group: replays share the time of the question",
	    replays_share_the_time_of_the_question },
	{ "group: what fails is ejected and comes back",
	    what_fails_is_ejected_and_comes_back },
	{ "group: when all are ejected they are tried, or not",
	    when_all_are_ejected_they_are_tried_or_not },
	{ "group: every fail-open is counted once",
	    every_fail_open_is_counted_once },
	{ "group: warm connections wait for sessions",
	    warm_connections_wait_for_sessions },
	{ "group: only the named user is a peer",
	    only_the_named_user_is_a_peer },
};

int
main(void)
{
	int bad = t_main(cases, sizeof(cases) / sizeof(cases[0]));

	buf_fini(&stats);
	return (bad);
}
