/* SPDX-License-Identifier: ISC */

#include "core/conf/endpoint.h"
#include "tests/unit/chain_lib.h"

#include <time.h>

static const char *
text(const struct buf *b)
{
	return (b->data != NULL ? b->data : "");
}

static void
two_batches_per_message(void)
{
	fakes();
	setup("", NULL);
	T_OK(ask_connect() == CHAIN_CONTINUE);
	T_OK(ask_helo() == CHAIN_CONTINUE);
	T_OK(ask_mail("Q1") == CHAIN_CONTINUE);
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_rcpt("r2@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_data() == CHAIN_CONTINUE);
	T_OK(ask_message() == CHAIN_CONTINUE);
	T_STR(chain_summary(chain)[0] == 'a' ? "ok" : "no", "ok");
	finish(false);
	T_STR(text(&fa.trace),
	    "O|DC C H DM M DR R|DR R|DT T L L L L DN N B DE E|Q ");
	T_STR(text(&fa.args),
	    "C:c.test/4/4711/192.0.2.7;H:c.test;M:<s@x.test>:SIZE=10;"
	    "R:<r1@y.test>;R:<r2@y.test>;");
	T_STR(text(&fa.header), "Subject:one;X-A:1;X-A: 2\n\tfold;x-a:3;");
	T_STR(text(&fa.body), "hello\r\n.dot\r\n");
	fakes_fini();
}

static void
an_early_milter_is_asked_at_once(void)
{
	fakes();
	setup("early = yes", NULL);
	ask_connect();
	ask_helo();
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	ask_data();
	ask_message();
	finish(false);
	T_STR(
	    text(&fa.trace), "O|DC C|H|DM M|DR R|DT T|L L L L DN N B DE E|Q ");
	fakes_fini();
}

static void
a_second_message_uses_the_connection_again(void)
{
	fakes();
	fa.lists[MILTER_AT_MAIL] = "i {auth_authen}";
	setup("", NULL);
	ask_connect();
	ask_helo();
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	chain_abort(chain); /* RSET */
	ask_mail("Q2");
	ask_rcpt("r1@y.test");
	T_OK(got.authorised);
	ask_data();
	T_OK(ask_message() == CHAIN_CONTINUE);
	ask_mail("Q3");
	ask_rcpt("r1@y.test");
	finish(false);
	T_STR(text(&fa.trace),
	    "O|DC C H DM M DR R|A DM M DR R|DT T L L L L DN "
	    "N B DE E|DM M DR R|Q ");
	T_OK(strstr(text(&fa.macros), "M(i=Q1)") != NULL);
	T_OK(strstr(text(&fa.macros), "M(i=Q2)") != NULL);
	T_OK(strstr(text(&fa.macros), "M(i=Q3)") != NULL);
	T_OK(fa.conns == 1);
	fakes_fini();
}

static void
macros_of_both_lists_go_with_their_stage(void)
{
	fakes();
	fa.lists[MILTER_AT_EOM] = "";
	fa.lists[MILTER_AT_RCPT] = "{rcpt_addr},{client_addr} nothing j";
	setup("", NULL);
	facts.tls_version = "TLSv1.3";
	facts.early_talker = true;
	ask_helo();
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	ask_data();
	ask_message();
	finish(false);
	T_OK(strstr(text(&fa.macros),
	         "C(j=mx.test,_=c.test [192.0.2.7],v=Milldam") != NULL);
	T_OK(strstr(text(&fa.macros),
	         "{client_port}=4711,{client_ptr}=c.test,{client_resolve}=OK,"
	         "{client_connections}=1,{milldam_early}=yes)") != NULL);
	T_OK(strstr(text(&fa.macros), "H({tls_version}=TLSv1.3)") != NULL);
	T_OK(strstr(text(&fa.macros),
	         "M(i=Q1,{mail_mailer}=esmtp,{mail_host}=x.test,"
	         "{mail_addr}=s@x.test)") != NULL);
	T_OK(strstr(text(&fa.macros),
	         "R({rcpt_addr}=r1@y.test,{client_addr}=192.0.2.7,j=mx.test)"
	         "T(i=Q1)N(i=Q1)") != NULL);
	T_OK(strstr(text(&fa.macros), "E(") == NULL);
	fakes_fini();
}

static void
the_settings_add_macros_to_either_list(void)
{
	fakes();
	fa.lists[MILTER_AT_EOM] = "";
	fa.lists[MILTER_AT_RCPT] = "{rcpt_addr}";
	setup("macros = { \"mail=s r\", \"rcpt=r nothing\", \"eom=Z\" }", NULL);
	facts.proto = "ESMTP";
	facts.version = "1.2";
	ask_helo();
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	ask_data();
	ask_message();
	finish(false);
	T_OK(strstr(text(&fa.macros),
	         "{mail_addr}=s@x.test,s=c.test,r=ESMTP)"
	         "R({rcpt_addr}=r1@y.test,r=ESMTP)T(i=Q1)") != NULL);
	T_OK(strstr(text(&fa.macros), "E(Z=1.2)") != NULL);
	fakes_fini();
}

static void
nothing_is_sent_or_awaited_that_was_not_wanted(void)
{
	int known;

	fakes();
	fa.protocol = MILTER_NR_CONNECT | MILTER_NR_HELO | MILTER_NR_MAIL |
	    MILTER_NR_RCPT | MILTER_NR_DATA | MILTER_NR_HEADER | MILTER_NR_EOH |
	    MILTER_NR_BODY;
	setup("early = yes", NULL);
	ask_connect();
	ask_helo();
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && !got.authorised);
	ask_data();
	T_OK(ask_message() == CHAIN_CONTINUE);
	finish(false);
	T_STR(
	    text(&fa.trace), "O|DC C H DM M DR R DT T L L L L DN N B DE E|Q ");
	fakes_fini();

	for (known = 0; known < 2; known++) {
		fakes();
		fa.protocol = MILTER_NO_CONNECT | MILTER_NO_HELO |
		    MILTER_NO_MAIL | MILTER_NO_RCPT | MILTER_NO_DATA |
		    MILTER_NO_HEADERS | MILTER_NO_EOH | MILTER_NO_BODY |
		    MILTER_NO_UNKNOWN;
		setup(known ? "library = libmilter" : "", NULL);
		ask_connect();
		ask_helo();
		ask_mail("Q1");
		T_OK(
		    ask_rcpt("r1@y.test") == CHAIN_CONTINUE && !got.authorised);
		ask_data();
		T_OK(ask_message() == CHAIN_CONTINUE);
		finish(false);
		/* a known one needs no queue id again */
		T_STR(text(&fa.trace),
		    known ? "O|DC DM DR DE E|Q " : "O|DC DM DR DT DN DE E|Q ");
		fakes_fini();
	}
}

static void
old_versions_get_what_they_know(void)
{
	fakes();
	fa.version = 2;
	setup("early = yes", NULL);
	ask_connect();
	ask_helo();
	ASK(chain_unknown(chain, "FOO", on_answer, NULL));
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	ask_data();
	T_OK(ask_message() == CHAIN_CONTINUE);
	finish(false);
	T_STR(text(&fa.trace), "O|DC C|H|DM M|DR R|L L L L DN N B DE E|Q ");
	fakes_fini();
}

/* run - ask until something does not continue; the stage's letter */
static char
run(void)
{
	if (ask_connect() != CHAIN_CONTINUE)
		return ('C');
	if (ask_helo() != CHAIN_CONTINUE)
		return ('H');
	if (ask_mail("Q1") != CHAIN_CONTINUE)
		return ('M');
	if (ask_rcpt("r1@y.test") != CHAIN_CONTINUE)
		return ('R');
	if (ask_data() != CHAIN_CONTINUE)
		return ('T');
	if (ask_message() != CHAIN_CONTINUE)
		return ('E');
	return ('.');
}

/* Each verdict at each stage: where it shows when early, and else. */
static void
every_verdict_at_every_stage(void)
{
	static const char stages[] = "CHMRTLNBE";
	static const char early_at[] = "CHMRTEEEE", late_at[] = "RRRREEEEE";
	static const struct {
		char code;
		enum chain_verdict verdict;
		const char *reply;
	} rows[] = {
		{ 'r', CHAIN_REJECT, "550 5.7.1 Command rejected" },
		{ 't', CHAIN_TEMPFAIL,
		    "451 4.7.1 Service unavailable - try again later" },
		{ 'd', CHAIN_DISCARD, "250 2.0.0 Ok" },
		{ '4', CHAIN_SHUTDOWN, "421 4.7.0 Server closing connection" },
		{ 'a', CHAIN_CONTINUE, "" },
	};
	size_t s, i;
	int early;
	char at, want;

	for (s = 0; stages[s] != '\0'; s++)
		for (i = 0; i < 5; i++)
			for (early = 0; early < 2; early++) {
				fakes();
				fake_reply(&fa, stages[s], 0, rows[i].code);
				setup(early ? "early = yes" : "", NULL);
				at = run();
				want = early ? early_at[s] : late_at[s];
				if (rows[i].code == 'a' ||
				    (rows[i].code == 'd' && s < 2))
					want = '.';
				if (at != want)
					printf("# %c to %c: at %c, not %c\n",
					    rows[i].code, stages[s], at, want);
				T_OK(at == want);
				if (want != '.')
					T_OK(got.verdict == rows[i].verdict);
				if (want != '.' && want != 'C' && s > 0)
					T_STR(got.reply, rows[i].reply);
				if (want != '.')
					T_STR(got.milter, "a");
				finish(false);
				fakes_fini();
			}
}

static void
a_refusal_concerns_its_recipient_only(void)
{
	fakes();
	fake_reply(&fa, 'R', 2, 'r');
	fake_reply(&fa, 'R', 3, 't');
	setup("", "");
	ask_helo();
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_rcpt("r2@y.test") == CHAIN_REJECT && !got.authorised);
	T_OK(ask_rcpt("r3@y.test") == CHAIN_TEMPFAIL && !got.authorised);
	T_OK(ask_rcpt("r4@y.test") == CHAIN_CONTINUE && got.authorised);
	ask_data();
	T_OK(ask_message() == CHAIN_CONTINUE);
	finish(true);
	/* the second milter saw only those that passed the first */
	T_OK(strstr(text(&fb.args), "R:<r1@y.test>;R:<r4@y.test>;") != NULL);
	T_OK(fb.seen['R'] == 2);
	fakes_fini();
}

static void
authorisation_is_the_authorisers_own_word(void)
{
	static const struct {
		char cmd, code;
		bool first, second;
	} rows[] = {
		{ 'R', 'c', true, true },
		{ 'R', 'a', true, false }, /* the second was never shown */
		{ 'M', 'a', true, true },
		{ 'H', 'a', true, true },
		{ 'C', 'a', true, true },
		{ 'R', 's', false, false },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fakes();
		fake_reply(&fa, rows[i].cmd, 0, rows[i].code);
		setup("", "");
		ask_connect();
		ask_helo();
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		T_OK(got.authorised == rows[i].first);
		T_OK(ask_rcpt("r2@y.test") == CHAIN_CONTINUE);
		T_OK(got.authorised == rows[i].second);
		/* an accept at MAIL does not outlive the message */
		chain_abort(chain);
		fa.n_lines = rows[i].cmd == 'M' ? 0 : fa.n_lines;
		finish(true);
		fa.n_lines = 1;
		fakes_fini();
	}
}

static void
anothers_word_authorises_nobody(void)
{
	static const char cmds[] = "CHMR", codes[] = "ac";
	size_t i, k;

	for (i = 0; cmds[i] != '\0'; i++)
		for (k = 0; codes[k] != '\0'; k++) {
			fakes(); /* "a" gives no RCPT answer */
			fa.protocol = MILTER_NO_RCPT;
			fake_reply(&fb, cmds[i], 0, codes[k]);
			setup("", "");
			ask_helo();
			ask_mail("Q1");
			T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
			T_OK(!got.authorised);
			finish(true);
			fakes_fini();
		}

	fakes(); /* no authoriser at all */
	fake_start(&fa);
	setup_policy("", NULL, "");
	ask_helo();
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && !got.authorised);
	finish(false);
	fakes_fini();
}

static void
switched_off_the_authoriser_authorises_nobody(void)
{
	static const enum milter_mode modes[] = { MODE_OFF, MODE_SHADOW,
		MODE_DRAIN };
	static const char cmds[] = "RCHM";
	size_t i;

	for (i = 0; i < 12; i++) {
		enum milter_mode mode = modes[i % 3];

		fakes();
		fake_reply(&fa, cmds[i / 3], 0, 'a');
		setup("", NULL);
		T_OK(engine_mode(engine, "a", mode) == 0);
		T_OK(engine_mode(engine, "zz", mode) == -1);
		/* drain: this session goes on with it, a new one has none */
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		T_OK(got.authorised == (mode == MODE_DRAIN));
		chain_free(&chain);
		chain = chain_new(engine, settings, 0, &facts);
		ask_mail("Q2");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		T_OK(!got.authorised);
		finish(false);
		fakes_fini();
	}
}

static struct {
	int n;
	char verdict[32], outcome[32], record[8192];
} shadow;

static void
on_shadow(void *arg, const struct chain_shadow *s)
{
	(void)arg;
	shadow.n++;
	snprintf(shadow.verdict, sizeof(shadow.verdict), "%s", s->verdict);
	snprintf(shadow.outcome, sizeof(shadow.outcome), "%s", s->outcome);
	snprintf(shadow.record, sizeof(shadow.record), "%s", s->milters->data);
}

/* shadow_told - wait until its record is there */
static bool
shadow_told(int n)
{
	struct timeval tv = { 20, 0 };

	(void)event_base_loopexit(base, &tv);
	while (shadow.n < n && event_base_loop(base, EVLOOP_ONCE) == 0 &&
	    !event_base_got_exit(base))
		;
	return (shadow.n == n);
}

static void
shadow_is_asked_and_changes_nothing(void)
{
	struct buf b = BUF_INIT(1 << 16);

	shadow.n = 0;

	fakes();
	fake_check(milter_put_strings(&fake_says(&fb, 'E', 0, FAKE_SEND)->bytes,
	    'h', (const char *const[]){ "X-S", "1" }, 2));
	fake_check(milter_put(&fb.lines[0].bytes, 'r', NULL, 0));
	fake_reply(&fb, 'R', 2, 'r');
	setup("", "mode = shadow");
	engine_on_shadow(engine, on_shadow, NULL);
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
	T_OK(ask_rcpt("r2@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_message() == CHAIN_CONTINUE);
	T_OK(!msg.header_changed && msg.n_fields == 5);
	T_OK(chain_record(chain, &b) == 0);
	T_OK(strstr(text(&b), "{\"name\":\"b\",\"mode\":\"shadow\"}") != NULL);
	T_OK(strstr(chain_summary(chain), "b=[shadow]") != NULL);
	T_OK(shadow.n == 0 && engine_shadows(engine) == 1);
	chain_outcome(chain, -1, "queued", "", "");
	chain_outcome(chain, -1, "tempfailed", "", "");
	T_OK(shadow_told(1) && engine_shadows(engine) == 0);
	T_STR(shadow.verdict, "reject");
	T_STR(shadow.outcome, "queued");
	T_OK(strstr(shadow.record,
	         "\"mode\":\"shadow\",\"verdict\":\"reject\"") != NULL);
	T_OK(!msg.header_changed && msg.n_fields == 5);
	buf_fini(&b);
	finish(true);
	T_OK(fb.seen['E'] == 1);
	fakes_fini();
}

/* The session, its chain and all are gone before the milter says a word; or the
 * process ends. */
static void
shadow_outlives_the_session(void)
{
	int dropped;

	for (dropped = 0; dropped < 2; dropped++) {
		shadow.n = 0;
		fakes();
		if (dropped)
			fake_says(&fb, 'E', 0, FAKE_SILENT);
		else
			fake_reply(&fb, 'E', 0, 'r');
		setup("", "mode = shadow");
		engine_on_shadow(engine, on_shadow, NULL);
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		T_OK(ask_message() == CHAIN_CONTINUE);
		chain_outcome(chain, -1, "held", "", "a");
		chain_free(&chain);
		memset(&facts, 0, sizeof(facts));
		message_fini(&msg);
		message_init(&msg);
		if (dropped)
			engine_shadows_drop(engine);
		T_OK(shadow_told(1) && engine_shadows(engine) == 0);
		T_STR(shadow.verdict, dropped ? "failed" : "reject");
		T_STR(shadow.outcome, "held");
		finish(true);
		fakes_fini();
	}
}

static void
a_rule_takes_a_milter_away(void)
{
	fakes();
	fake_reply(&fb, 'R', 0, 'r');
	fake_start(&fa);
	fake_start(&fb);
	setup_policy("", "",
	    "authorise = \"a\" rule \"r\" { client = { \"192.0.2.0/24\" } "
	    "skip = { \"b\" } }");
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	facts.client_addr = "198.51.100.1";
	chain_free(&chain);
	chain = chain_new(engine, settings, 0, &facts);
	ask_mail("Q2");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_REJECT);
	T_STR(got.milter, "b");
	finish(true);
	fakes_fini();
}

static void
custom_replies_are_checked(void)
{
	static const struct {
		const char *bytes;
		size_t len;
		enum chain_verdict verdict;
		const char *reply;
	} rows[] = {
#define Y(s, v, r) { s, sizeof(s), v, r }
		Y("550 5.7.0 no", CHAIN_REJECT, "550 5.7.0 no"),
		Y("450 4.7.0 50%% off", CHAIN_TEMPFAIL, "450 4.7.0 50% off"),
		Y("550-5.7.0 a\r\n550 5.7.0 b", CHAIN_REJECT,
		    "550-5.7.0 a\r\n550 5.7.0 b"),
		Y("421 4.7.0 bye", CHAIN_SHUTDOWN, "421 4.7.0 bye"),
		Y("550 5.7.0 a\r\n250 ok", CHAIN_TEMPFAIL, NULL),
		Y("550 5.7.0 a\nb", CHAIN_TEMPFAIL, NULL),
		Y("550 4.7.0 a", CHAIN_TEMPFAIL, NULL),
		Y("250 ok", CHAIN_TEMPFAIL, NULL),
		Y("55", CHAIN_TEMPFAIL, NULL),
#undef Y
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fakes();
		fake_check(milter_put(&fake_says(&fa, 'R', 0, FAKE_SEND)->bytes,
		    'y', rows[i].bytes, rows[i].len));
		setup("", NULL);
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == rows[i].verdict);
		T_STR(got.reply,
		    rows[i].reply != NULL
		        ? rows[i].reply
		        : "451 4.7.1 Service unavailable - try again later");
		finish(false);
		fakes_fini();
	}
}

static void
failure_does_what_was_configured(void)
{
	static const struct {
		const char *action;
		enum chain_verdict verdict;
		const char *code;
	} rows[] = {
		{ "tempfail", CHAIN_TEMPFAIL, "451 4.7.1" },
		{ "accept", CHAIN_CONTINUE, "" },
		{ "reject", CHAIN_REJECT, "550 5.7.1" },
		{ "quarantine", CHAIN_CONTINUE, "" },
		{ "shutdown", CHAIN_SHUTDOWN, "421 4.7.0" },
	};
	static const char steps[] = "OCHMRTLNBE";
	char opts[100];
	size_t i, k;

	for (i = 0; i < 5; i++)
		for (k = 0; steps[k] != '\0'; k++) {
			fakes();
			fake_says(&fb, steps[k], 0, FAKE_CLOSE);
			snprintf(opts, sizeof(opts), "on-failure = %s",
			    rows[i].action);
			setup("", opts);
			ask_helo();
			ask_mail("Q1");
			if (ask_rcpt("r1@y.test") == CHAIN_CONTINUE)
				ask_message();
			T_OK(got.verdict == rows[i].verdict);
			T_OK(strncmp(got.reply, rows[i].code,
			         strlen(rows[i].code)) == 0);
			T_OK(got.quarantine == (i == 3));
			if (i == 3)
				T_STR(got.hold_by, "b");
			T_OK(alarms == (i == 1));
			finish(true);
			fakes_fini();
		}
}

static void
nobody_listens(void)
{
	struct buf b = BUF_INIT(1 << 16);

	fakes();
	fake_start(&fa);
	setup_policy("", "on-failure = accept", "authorise = \"a\"");
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(alarms == 1);
	T_OK(engine_stats(engine, &b) == 0);
	T_OK(strstr(text(&b), "\"fail_opens\":1") != NULL);
	/* it comes back: the next message of the session has it again */
	fake_start(&fb);
	ask_mail("Q2");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
	T_OK(ask_message() == CHAIN_CONTINUE && alarms == 1);
	buf_fini(&b);
	finish(true);
	T_OK(fb.seen['E'] == 1);
	fakes_fini();
}

static void
lies_are_failures(void)
{
	static const struct {
		char cmd;
		const char *bytes;
		size_t len;
	} rows[] = {
#define LIE(c, s) { c, s, sizeof(s) - 1 }
		LIE('R', "\0\0\0\0"),          /* no code byte */
		LIE('R', "\377\377\377\377c"), /* too long */
		LIE('R', "\0\0\0\1Z"),         /* unknown */
		LIE('R', "\0\0\0\2cx"),        /* continue with a payload */
		LIE('R', "\0\0\0\5hX\0y\0"),   /* change before the end */
		LIE('B', "\0\0\0\5hX\0y\0\0\0\0\1c"),    /* and an answer */
		LIE('M', "\0\0\0\1c\0\0\0\1c\0\0\0\1c"), /* one too many */
		LIE('E', "\0\0\0\4hX\0y\0\0\0\1c"),      /* value without NUL */
		LIE('E', "\0\0\0\3h\0\0\0\0\0\1c"),      /* no name */
		LIE('E', "\0\0\0\6m\0\0\0\1X\0\0\0\1c"), /* no NUL */
		LIE('E', "\0\0\0\7hX\0a\nb\0\0\0\0\1c"), /* injection */
		LIE('E', "\0\0\0\7hX:\0ab\0\0\0\0\1c"),  /* bad name */
		LIE('E', "\0\0\0\5-a b\0\0\0\0\1c"),     /* bad address */
		LIE('E', "\0\0\0\1f"),                   /* connection failed */
		LIE('T', "\0\0\0\1s"),                   /* skip what? */
#undef LIE
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fakes();
		fake_check(
		    buf_add(&fake_says(&fb, rows[i].cmd, 0, FAKE_SEND)->bytes,
		        rows[i].bytes, rows[i].len));
		setup("", "timeout = { \"command=300ms\" }");
		ask_helo();
		ask_mail("Q1");
		if (ask_rcpt("r1@y.test") == CHAIN_CONTINUE)
			ask_message();
		if (got.verdict != CHAIN_TEMPFAIL)
			printf("# lie %zu\n", i);
		T_OK(got.verdict == CHAIN_TEMPFAIL);
		T_STR(got.milter, "b");
		T_OK(!msg.header_changed && msg.n_fields == 5);
		T_OK(env.n_rcpts == 2);
		finish(true);
		fakes_fini();
	}
}

static void
forbidden_edits_are_failures(void)
{
	struct buf *b;

	fakes();
	fb.actions = MILTER_MAY_ADD_HEADERS;
	b = &fake_says(&fb, 'E', 0, FAKE_SEND)->bytes;
	fake_check(
	    milter_put_strings(b, 'h', (const char *const[]){ "X-S", "1" }, 2));
	fake_check(milter_put_strings(
	    b, '-', (const char *const[]){ "<r1@y.test>" }, 1));
	fake_check(milter_put(b, 'c', NULL, 0));
	setup("", "");
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	T_OK(ask_message() == CHAIN_TEMPFAIL);
	T_OK(msg.n_fields == 5 && env.n_rcpts == 2);
	finish(true);
	fakes_fini();
}

static void
bad_negotiation_is_a_failure(void)
{
	static const struct milter_options rows[] = {
		{ .version = 1 },
		{ .version = 7 },
		{ .version = 0 },
		{ .version = 6, .actions = 0x200 },
	};
	struct buf b = BUF_INIT(1000);
	size_t i;

	for (i = 0; i < 5; i++) {
		fakes();
		b.len = 0;
		if (i < 4)
			fake_check(milter_put_options(&b, &rows[i]));
		else
			fake_check(buf_add(&b, "\0\0\0\5O\0\0\0\6", 9));
		fb.raw_options = b.data;
		fb.raw_options_len = b.len;
		setup("", "");
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_TEMPFAIL);
		finish(true);
		fakes_fini();
	}
	buf_fini(&b);
}

static long
elapsed_ms(const struct timespec *t0)
{
	struct timespec t1;

	clock_gettime(CLOCK_MONOTONIC, &t1);
	return ((t1.tv_sec - t0->tv_sec) * 1000 +
	    (t1.tv_nsec - t0->tv_nsec) / 1000000);
}

static void
silence_meets_its_limit(void)
{
	static const char steps[] = "OCHMRTLNBE";
	struct timespec t0, t1;
	size_t i;
	long ms;

	for (i = 0; steps[i] != '\0'; i++) {
		fakes();
		fake_says(&fb, steps[i], 0, FAKE_SILENT);
		setup("", "timeout = { \"connect=100ms\" \"command=100ms\" }");
		clock_gettime(CLOCK_MONOTONIC, &t0);
		ask_helo();
		ask_mail("Q1");
		if (ask_rcpt("r1@y.test") == CHAIN_CONTINUE)
			ask_message();
		clock_gettime(CLOCK_MONOTONIC, &t1);
		ms = (t1.tv_sec - t0.tv_sec) * 1000 +
		    (t1.tv_nsec - t0.tv_nsec) / 1000000;
		T_OK(got.verdict == CHAIN_TEMPFAIL);
		T_OK(ms >= 90 && ms < 2000);
		finish(true);
		fakes_fini();
	}
}

/* A thread that sends progress for a while would need its own clock: here the
 * fake floods, which must not move the limit of the whole command either. */
static void
progress_does_not_move_the_message_limit(void)
{
	static const char steps[] = "CHMRTLNBE";
	struct timespec t0;
	struct buf *b;
	size_t k;
	int i;

	for (k = 0; steps[k] != '\0'; k++) {
		fakes();
		b = &fake_says(&fb, steps[k], 0, FAKE_SEND)->bytes;
		for (i = 0; i < 5000; i++)
			fake_check(milter_put(b, 'p', NULL, 0));
		setup("", "timeout = { \"command=10s\" \"message=100ms\" }");
		clock_gettime(CLOCK_MONOTONIC, &t0);
		ask_helo();
		ask_mail("Q1");
		if (ask_rcpt("r1@y.test") == CHAIN_CONTINUE)
			ask_message();
		T_OK(got.verdict == CHAIN_TEMPFAIL);
		T_OK(elapsed_ms(&t0) < 5000);
		finish(true);
		fakes_fini();
	}

	for (k = 0; k < 2; k++) { /* but it is counted */
		fakes();
		b = &fake_says(&fb, 'R', 0, FAKE_SEND)->bytes;
		for (i = 0; i < (k == 0 ? 1 : 20000); i++)
			fake_check(milter_put(b, 'p', NULL, 0));
		fake_check(milter_put(b, 'c', NULL, 0));
		setup("", "");
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") ==
		    (k == 0 ? CHAIN_CONTINUE : CHAIN_TEMPFAIL));
		finish(true);
		fakes_fini();
	}
}

static void
byte_by_byte_is_the_same(void)
{
	fakes();
	fa.split = true;
	fake_check(milter_put_strings(&fake_says(&fa, 'E', 0, FAKE_SEND)->bytes,
	    'h', (const char *const[]){ "X-S", "1" }, 2));
	fake_check(milter_put(&fa.lines[0].bytes, 'c', NULL, 0));
	setup("", NULL);
	T_OK(run() == '.');
	T_OK(msg.n_fields == 6);
	finish(false);
	fakes_fini();
}

static void
large_bodies_come_in_chunks_and_may_be_skipped(void)
{
	size_t n = 1000000, i;
	char *body = malloc(n + 1);
	int skip;

	memset(body, 'x', n);
	body[n - 2] = '\r';
	body[n - 1] = '\n';
	body[n] = '\0';
	for (skip = 0; skip < 3; skip++) {
		fakes();
		fa.protocol = skip > 0 ? MILTER_CAN_SKIP : 0;
		if (skip == 2)
			fake_reply(&fa, 'B', 2, 's');
		setup("", NULL);
		message_fini(&msg);
		env_fini(&env);
		setup_message(body);
		T_OK(run() == '.');
		finish(false);
		i = skip == 2 ? 2 * 65535u : n;
		T_OK(fa.body.len == i && memcmp(text(&fa.body), body, i) == 0);
		T_OK(fa.seen['E'] == 1);
		fakes_fini();
	}
	free(body);
}

static void
on_free(void *arg, const struct chain_answer *a)
{
	(void)arg;
	(void)a;
	got.n++;
	chain_free(&chain);
	event_base_loopbreak(base);
}

static void
a_chain_may_be_freed_any_time(void)
{
	struct timeval tv = { 0, 50000 };

	fakes(); /* in the question: no answer comes */
	fake_says(&fa, 'R', 0, FAKE_SILENT);
	setup("", NULL);
	ask_mail("Q1");
	got.n = 0;
	chain_rcpt(chain, "r1@y.test", NULL, 0, NULL, NULL, on_answer, NULL);
	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
	chain_free(&chain);
	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
	T_OK(got.n == 0);
	finish(false);
	fakes_fini();

	fakes(); /* in the answer, deferred and not */
	setup("", NULL);
	chain_connect(chain, on_free, NULL);
	event_base_dispatch(base);
	T_OK(got.n == 1 && chain == NULL);
	chain = chain_new(engine, settings, 0, &facts);
	ask_mail("Q1");
	got.n = 0;
	chain_rcpt(chain, "r1@y.test", NULL, 0, NULL, NULL, on_free, NULL);
	event_base_dispatch(base);
	T_OK(got.n == 1 && chain == NULL);
	finish(false);
	fakes_fini();

	fakes(); /* RSET in the question */
	fake_says(&fa, 'R', 1, FAKE_SILENT);
	setup("", NULL);
	ask_mail("Q1");
	chain_rcpt(chain, "r1@y.test", NULL, 0, NULL, NULL, on_answer, NULL);
	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
	chain_abort(chain);
	ask_mail("Q2");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	finish(false);
	fakes_fini();
}

static void
refused_recipients_are_shown_where_asked_for(void)
{
	fakes();
	fb.protocol = MILTER_RCPT_REJECTED;
	fake_reply(&fb, 'R', 1, 't');
	setup("", "");
	ask_mail("Q1");
	T_OK(ASK(chain_rcpt(chain, "no@y.test", NULL, 0, NULL,
	         "550 5.1.1 no such", on_answer, NULL)) == CHAIN_CONTINUE);
	T_OK(!got.authorised);
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	finish(true);
	T_OK(fa.seen['R'] == 1 && fb.seen['R'] == 2);
	T_OK(strstr(text(&fb.macros),
	         "R(i=Q1,{rcpt_mailer}=error,{rcpt_host}=5.1.1,"
	         "{rcpt_addr}=no such)") != NULL);
	fakes_fini();
}

static void
unknown_commands_are_shown_outside_a_message(void)
{
	fakes();
	fake_reply(&fa, 'U', 0, 't');
	setup("early = yes", NULL);
	ask_connect();
	ask_helo();
	T_OK(ASK(chain_unknown(chain, "FOO bar", on_answer, NULL)) ==
	    CHAIN_TEMPFAIL);
	ask_mail("Q1");
	T_OK(ASK(chain_unknown(chain, "FOO bar", on_answer, NULL)) ==
	    CHAIN_CONTINUE);
	finish(false);
	T_OK(fa.seen['U'] == 1);
	fakes_fini();
}

static void
a_milter_that_restarts_between_messages_is_found_again(void)
{
	struct timeval tv = { 0, 50000 };

	fakes();
	setup("", NULL);
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	T_OK(ask_message() == CHAIN_CONTINUE);
	fake_stop(&fa);
	fake_start(&fa);
	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
	ask_mail("Q2");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_message() == CHAIN_CONTINUE);
	finish(false);
	T_OK(fa.conns == 2);
	fakes_fini();
}

static void
milters_that_change_nothing_run_side_by_side(void)
{
	struct timespec t0;
	int edits;
	long ms;

	for (edits = 0; edits < 3; edits++) {
		fakes();
		fa.actions =
		    edits == 2 ? MILTER_MAY_ADD_HEADERS : MILTER_MAY_QUARANTINE;
		fb.actions = MILTER_MAY_ALL;
		fa.eom_delay_ms = fb.eom_delay_ms = 300;
		if (edits == 1) /* the first one's verdict still counts */
			fake_reply(&fa, 'E', 0, 'r');
		fake_check(milter_put_strings(
		    &fake_says(&fb, 'E', 0, FAKE_SEND)->bytes, 'h',
		    (const char *const[]){ "X-S", "1" }, 2));
		fake_check(milter_put(&fb.lines[0].bytes, 'c', NULL, 0));
		setup("", "");
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		clock_gettime(CLOCK_MONOTONIC, &t0);
		T_OK(ask_message() ==
		    (edits == 1 ? CHAIN_REJECT : CHAIN_CONTINUE));
		ms = elapsed_ms(&t0);
		T_OK(msg.n_fields == (edits == 1 ? 5 : 6));
		T_OK(edits == 2 ? ms >= 590 : ms >= 290 && ms < 560);
		/* and the session goes on */
		ask_mail("Q2");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		finish(true);
		fakes_fini();
	}
}

static void
the_next_endpoint_is_tried(void)
{
	struct milter_conf *m;
	struct endpoint *e;

	fakes();
	setup("", NULL);
	m = &settings->milters[0];
	e = realloc(m->endpoints, 2 * sizeof(*e));
	T_OK(e != NULL);
	m->endpoints = e;
	e[1] = e[0];
	m->n_endpoints = 2;
	T_OK(endpoint_parse("unix:/nonexistent/milter", &e[0]) == 0);
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	finish(false);
	fakes_fini();
}

static void
tcp_endpoints_work(void)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost",
		"milter.test" };
	char name[128];
	struct endpoint *e;
	FILE *f;
	size_t i;

	for (i = 0; i < 3; i++) {
		fakes();
		fa.tcp = true;
		setup("", NULL);
		e = &settings->milters[0].endpoints[0];
		endpoint_fini(e);
		snprintf(name, sizeof(name), "inet:%u@%s", fa.port, hosts[i]);
		T_OK(endpoint_parse(name, e) == 0);
		snprintf(name, sizeof(name), "%s/hosts", dir);
		f = fopen(name, "w");
		fprintf(f, "# x\n127.0.0.1\tother Milter.Test\n");
		fclose(f);
		free(settings->hosts_file);
		settings->hosts_file = strdup(name);
		engine_reload(engine, settings);
		unlink(name);
		T_OK(run() == '.');
		finish(false);
		T_OK(fa.seen['E'] == 1);
		fakes_fini();
	}
}

/* A stream of numbers that is the same in each run. */
static unsigned
dice(unsigned n)
{
	static unsigned state = 1;

	state = state * 1103515245u + 12345u;
	return ((state >> 16) % n);
}

static void
noise(struct buf *b)
{
	static const char codes[] = "carthdim+-2ebqyps4fOZ";
	char room[64];
	size_t i, n;
	unsigned k;

	for (k = dice(6); k > 0; k--) {
		n = dice(4) == 0 ? dice(sizeof(room)) : dice(12);
		for (i = 0; i < n; i++)
			room[i] = dice(3) == 0 ? (char)dice(256)
			    : dice(3) == 0     ? '\0'
			                       : (char)('a' + dice(26));
		fake_check(milter_put(b, codes[dice(sizeof(codes) - 1)], room,
		    dice(2) == 0 ? 0 : n));
		if (dice(20) == 0)
			b->data[dice((unsigned)b->len)] ^= (char)dice(256);
	}
	if (dice(2) == 0)
		fake_check(milter_put(b, 'c', NULL, 0));
}

static void
noise_harms_nobody(void)
{
	static const char cmds[] = "OCHMRTLNBE";
	int i;

	for (i = 0; i < 200; i++) {
		fakes();
		noise(&fake_says(&fa, cmds[dice(10)], 0, FAKE_SEND)->bytes);
		noise(&fake_says(&fb, 'E', 0, FAKE_SEND)->bytes);
		setup("timeout = { \"connect=20ms\" \"command=20ms\" }",
		    "early = yes on-failure = accept timeout = { "
		    "\"connect=20ms\" \"command=20ms\" }");
		(void)run();
		(void)chain_summary(chain);
		T_OK(got.n > 0);
		finish(true);
		fakes_fini();
	}
}

static const struct t_case cases[] = {
	{ "chain: two batches per message, nothing else",
	    two_batches_per_message },
	{ "chain: an early milter is asked at once",
	    an_early_milter_is_asked_at_once },
	{ "chain: a second message uses the connection again, no stale macros",
	    a_second_message_uses_the_connection_again },
	{ "chain: macros of both lists, and of the milter's own",
	    macros_of_both_lists_go_with_their_stage },
	{ "chain: the settings add macros to either list",
	    the_settings_add_macros_to_either_list },
	{ "chain: nothing is sent or awaited that was not wanted",
	    nothing_is_sent_or_awaited_that_was_not_wanted },
	{ "chain: old versions get what they know",
	    old_versions_get_what_they_know },
	{ "chain: every verdict at every stage", every_verdict_at_every_stage },
	{ "chain: a refusal concerns its recipient only",
	    a_refusal_concerns_its_recipient_only },
	{ "authorisation: the authoriser's own word, to that recipient",
	    authorisation_is_the_authorisers_own_word },
	{ "authorisation: nobody else's word",
	    anothers_word_authorises_nobody },
	{ "authorisation: none from off, shadow or a new session in drain",
	    switched_off_the_authoriser_authorises_nobody },
	{ "chain: shadow is asked and changes nothing",
	    shadow_is_asked_and_changes_nothing },
	{ "chain: shadow outlives the session", shadow_outlives_the_session },
	{ "chain: a rule takes a milter away", a_rule_takes_a_milter_away },
	{ "chain: custom replies are checked", custom_replies_are_checked },
	{ "chain: failure at each step does what was configured",
	    failure_does_what_was_configured },
	{ "chain: nobody listens, then somebody does", nobody_listens },
	{ "chain: lies are failures", lies_are_failures },
	{ "chain: edits not negotiated are failures",
	    forbidden_edits_are_failures },
	{ "chain: bad negotiation is a failure", bad_negotiation_is_a_failure },
	{ "chain: silence meets its limit", silence_meets_its_limit },
	{ "chain: progress does not move the limit of the whole command",
	    progress_does_not_move_the_message_limit },
	{ "chain: answers byte by byte", byte_by_byte_is_the_same },
	{ "chain: large bodies come in chunks and may be skipped",
	    large_bodies_come_in_chunks_and_may_be_skipped },
	{ "chain: may be freed in a question, an answer",
	    a_chain_may_be_freed_any_time },
	{ "chain: refused recipients are shown where asked for",
	    refused_recipients_are_shown_where_asked_for },
	{ "chain: unknown commands are shown outside a message",
	    unknown_commands_are_shown_outside_a_message },
	{ "chain: milters that change nothing run side by side",
	    milters_that_change_nothing_run_side_by_side },
	{ "chain: the next endpoint is tried", the_next_endpoint_is_tried },
	{ "chain: TCP endpoints, numeric and by name", tcp_endpoints_work },
	{ "chain: noise harms nobody", noise_harms_nobody },
	{ "chain: a milter that restarts between messages is found again",
	    a_milter_that_restarts_between_messages_is_found_again },
};

T_MAIN(cases)
