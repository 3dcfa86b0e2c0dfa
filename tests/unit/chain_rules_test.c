/* SPDX-License-Identifier: ISC */

/* Rules of the protocol and of authorisation that docs/milter.md lists. */

#include "tests/unit/chain_lib.h"

static const char *
text(const struct buf *b)
{
	return (b->data != NULL ? b->data : "");
}

/* eom - what the fake sends at the end of message, before its verdict */
static struct buf *
eom(struct fake *f)
{
	return (&fake_says(f, 'E', 0, FAKE_SEND)->bytes);
}

static void
add(struct buf *b, char code, const char *s1, const char *s2)
{
	const char *const s[] = { s1, s2 };

	fake_check(milter_put_strings(b, code, s, s2 != NULL ? 2 : 1));
}

static void
reply(struct buf *b, char code)
{
	fake_check(milter_put(b, code, NULL, 0));
}

/* pass - one message of one recipient, as far as it goes */
static enum chain_verdict
pass(const char *id)
{
	ask_mail(id);
	if (ask_rcpt("r1@y.test") != CHAIN_CONTINUE)
		return (got.verdict);
	ask_data();
	return (ask_message());
}

static bool
has_field(const char *name, const char *value)
{
	size_t i;

	for (i = 0; i < msg.n_fields; i++)
		if (strcmp(msg.fields[i].name, name) == 0)
			return (strcmp(msg.fields[i].value, value) == 0);
	return (false);
}

static void
everything_is_offered(void)
{
	fakes();
	setup("", NULL);
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(false);
	T_OK(fa.offered.version == 6 && fa.offered.actions == 0x1ff &&
	    fa.offered.protocol == 0x1fffff);
	fakes_fini();
}

/* rspamd asks for all no-reply bits, and for some that nobody knows. */
static void
bits_not_offered_are_borne(void)
{
	static const char raw[] = "\0\0\0\15O\0\0\0\6\0\0\1\377\260\17\360\200";

	fakes();
	fa.protocol = 0xff080;
	fa.raw_options = raw;
	fa.raw_options_len = sizeof(raw) - 1;
	setup("", "");
	ask_helo();
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(true);
	T_STR(
	    text(&fa.trace), "O|DC C H DM M DR R DT T L L L L DN N B DE E|Q ");
	fakes_fini();
}

static void
each_version_gets_what_it_knows(void)
{
	static const char *const traces[] = {
		[2] = "O|DC C|H|DM M|DR R|L L L L DN N B DE E|Q ",
		[3] = "O|DC C|H|U|DM M|DR R|L L L L DN N B DE E|Q ",
		[4] = "O|DC C|H|U|DM M|DR R|DT T|L L L L DN N B DE E|Q ",
		[5] = "O|DC C|H|U|DM M|DR R|DT T|L L L L DN N B DE E|Q ",
		[6] = "O|DC C|H|U|DM M|DR R|DT T|L L L L DN N B DE E|Q ",
	};
	uint32_t v;

	for (v = 2; v <= 6; v++) {
		fakes();
		fa.version = v;
		setup("early = yes", NULL);
		ask_connect();
		ask_helo();
		ASK(chain_unknown(chain, "FOO", on_answer, NULL));
		T_OK(pass("Q1") == CHAIN_CONTINUE);
		finish(false);
		T_STR(text(&fa.trace), traces[v]);
		fakes_fini();
	}
}

/* Each bit by itself: that command is not sent, or not waited for. */
static void
each_bit_concerns_its_command(void)
{
	static const struct {
		uint32_t no, nr;
		char cmd;
	} rows[] = {
		{ MILTER_NO_CONNECT, MILTER_NR_CONNECT, 'C' },
		{ MILTER_NO_HELO, MILTER_NR_HELO, 'H' },
		{ MILTER_NO_MAIL, MILTER_NR_MAIL, 'M' },
		{ MILTER_NO_RCPT, MILTER_NR_RCPT, 'R' },
		{ MILTER_NO_DATA, MILTER_NR_DATA, 'T' },
		{ MILTER_NO_HEADERS, MILTER_NR_HEADER, 'L' },
		{ MILTER_NO_EOH, MILTER_NR_EOH, 'N' },
		{ MILTER_NO_BODY, MILTER_NR_BODY, 'B' },
		{ MILTER_NO_UNKNOWN, MILTER_NR_UNKNOWN, 'U' },
	};
	size_t i, k;
	int nr;

	for (i = 0; i < 9; i++)
		for (nr = 0; nr < 2; nr++) {
			fakes();
			fb.protocol = nr ? rows[i].nr : rows[i].no;
			setup("", "early = yes");
			ask_connect();
			ask_helo();
			T_OK(ASK(chain_unknown(chain, "FOO", on_answer,
			         NULL)) == CHAIN_CONTINUE);
			T_OK(pass("Q1") == CHAIN_CONTINUE);
			finish(true);
			for (k = 0; k < 9; k++)
				T_OK((fb.seen[(unsigned char)rows[k].cmd] ==
				         0) == (!nr && k == i));
			fakes_fini();
		}
}

static void
clients_are_shown_by_family(void)
{
	static const struct {
		const char *addr, *want;
	} rows[] = {
		{ "192.0.2.7", "C:c.test/4/4711/192.0.2.7;" },
		{ "2001:db8::7", "C:c.test/6/4711/2001:db8::7;" },
		{ "", "C:c.test/U/0/;" },
	};
	size_t i;

	for (i = 0; i < 3; i++) {
		fakes();
		setup("", NULL);
		facts.client_addr = rows[i].addr;
		T_OK(pass("Q1") == CHAIN_CONTINUE);
		finish(false);
		T_OK(strncmp(text(&fa.args), rows[i].want,
		         strlen(rows[i].want)) == 0);
		fakes_fini();
	}
}

static void
addresses_pass_as_they_came(void)
{
	static const char *const args[] = { "NOTIFY=NEVER",
		"ORCPT=rfc822;a@b" };

	fakes();
	setup("", NULL);
	ASK(chain_mail(chain, "Q1", "", NULL, 0, on_answer, NULL));
	T_OK(ASK(chain_rcpt(chain, "j\303\266@y.test", args, 2, NULL, NULL,
	         on_answer, NULL)) == CHAIN_CONTINUE);
	finish(false);
	T_OK(strstr(text(&fa.args),
	         "M:<>;R:<j\303\266@y.test>:NOTIFY=NEVER:ORCPT=rfc822;a@b;") !=
	    NULL);
	fakes_fini();
}

static void
empty_messages_have_no_header_or_body_packet(void)
{
	fakes();
	setup("", NULL);
	message_fini(&msg);
	env_fini(&env);
	setup_message("");
	while (msg.n_fields > 1)
		message_del(&msg, 1);
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(false);
	T_STR(text(&fa.trace), "O|DC C DM M DR R|DT T DN N DE E|Q ");
	fakes_fini();
}

static void
a_body_with_nul_passes(void)
{
	static const char body[] = "a\0b\r\n";

	fakes();
	setup("", NULL);
	msg.mem.len = 0;
	T_OK(buf_add(&msg.mem, body, 5) == 0);
	msg.body = msg.mem.data;
	msg.body_len = 5;
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(false);
	T_OK(fa.body.len == 5 && memcmp(fa.body.data, body, 5) == 0);
	fakes_fini();
}

/* What Sendmail and Postfix send without being asked, by stage. */
static void
macros_of_sendmail_and_postfix_are_sent_unasked(void)
{
	static const struct {
		const char *stage, *names;
	} rows[] = {
		{ "C(",
		    "j _ {daemon_name} {daemon_addr} {if_name} {if_addr} "
		    "v" },
		{ "H(",
		    "{tls_version} {cipher} {cipher_bits} {cert_subject} "
		    "{cert_issuer}" },
		{ "M(",
		    "i {auth_type} {auth_authen} {auth_ssf} {auth_author} "
		    "{mail_mailer} {mail_host} {mail_addr}" },
		{ "R(", "i {rcpt_mailer} {rcpt_host} {rcpt_addr}" },
		{ "T(", "i" },
		{ "N(", "i" },
		{ "E(", "i {msg_id}" },
	};
	struct route route = { .mailer = MAILER_SMTP,
		.host = (char *)"hub.test",
		.addr = (char *)"r9@y.test",
		.text = (char *)"" };
	char names[128], want[160], set[1024], *name, *save;
	const char *at;
	size_t i;

	fakes();
	setup("", NULL);
	facts.tls_version = facts.cipher = facts.cipher_bits = "t";
	facts.cert_subject = facts.cert_issuer = facts.verify = "c";
	facts.auth_type = facts.auth_authen = facts.auth_author = "a";
	facts.auth_ssf = "256";
	field("Message-ID", " <1@x.test>");
	ask_helo();
	ask_mail("Q1");
	T_OK(ASK(chain_rcpt(chain, "r1@y.test", NULL, 0, &route, NULL,
	         on_answer, NULL)) == CHAIN_CONTINUE);
	ask_data();
	T_OK(ask_message() == CHAIN_CONTINUE);
	finish(false);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		at = strstr(text(&fa.macros), rows[i].stage);
		T_OK(at != NULL);
		if (at == NULL)
			continue;
		snprintf(set, sizeof(set), "%.*s", (int)strcspn(at, ")"), at);
		set[1] = ',';
		snprintf(names, sizeof(names), "%s", rows[i].names);
		for (name = strtok_r(names, " ", &save); name != NULL;
		     name = strtok_r(NULL, " ", &save)) {
			snprintf(want, sizeof(want), ",%s=", name);
			if (strstr(set, want) == NULL)
				printf("# %s %s\n", rows[i].stage, name);
			T_OK(strstr(set, want) != NULL);
		}
	}
	T_OK(strstr(text(&fa.macros),
	         "R(i=Q1,{rcpt_mailer}=esmtp,{rcpt_host}=hub.test,"
	         "{rcpt_addr}=r9@y.test)") != NULL);
	T_OK(strstr(text(&fa.macros), "{msg_id}=<1@x.test>") != NULL);
	fakes_fini();
}

/* A set of no macro would leave the last message's visible in libmilter. */
static void
no_set_is_empty_and_none_is_stale(void)
{
	struct route route = { .mailer = MAILER_SMTP,
		.host = (char *)"hub.test",
		.addr = (char *)"r9@y.test",
		.text = (char *)"" };

	fakes();
	fa.lists[MILTER_AT_RCPT] = "{rcpt_host}";
	fa.lists[MILTER_AT_MAIL] = "{mail_host}";
	setup("", NULL);
	ask_mail("Q1");
	ASK(chain_rcpt(
	    chain, "r1@y.test", NULL, 0, &route, NULL, on_answer, NULL));
	ask_rcpt("r2@y.test"); /* without a host */
	chain_abort(chain);
	ASK(chain_mail(chain, "Q2", "", NULL, 0, on_answer, NULL));
	ask_rcpt("r3@y.test");
	finish(false);
	T_OK(strstr(text(&fa.macros),
	         "M({mail_host}=x.test)R({rcpt_host}=hub.test)R(i=Q1)"
	         "M(i=Q2)R(i=Q2)") != NULL);
	fakes_fini();
}

static void
lists_of_macros_are_bounded(void)
{
	static char raw[8192], list[4096], far[4096];
	struct buf b = BUF_INIT(8192);
	struct milter_options o = { 6, 0x1ff, 0,
		{ [MILTER_AT_RCPT] = list, [MILTER_AT_MAIL] = far } };
	size_t i, n = 0;

	for (i = 0; i < 300; i++)
		n += (size_t)snprintf(
		    list + n, sizeof(list) - n, "%s", i < 80 ? "j " : "{no} ");
	snprintf(list + n, sizeof(list) - n, "{mail_addr}");
	for (i = n = 0; i < 300; i++) /* too far behind to be looked for */
		n += (size_t)snprintf(far + n, sizeof(far) - n, "{no} ");
	snprintf(far + n, sizeof(far) - n, "i");
	fakes();
	fake_check(milter_put_options(&b, &o));
	memcpy(raw, b.data, b.len);
	memcpy(raw + b.len, "\0\0\0\7i\0", 6); /* a stage nobody knows */
	n = b.len + 6 - 4;
	raw[2] = (char)(n >> 8);
	raw[3] = (char)n;
	fa.raw_options = raw;
	fa.raw_options_len = b.len + 6;
	setup("", NULL);
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(false);
	T_OK(strstr(text(&fa.macros), "R(j=mx.test,j=mx.test") != NULL);
	T_OK(strstr(text(&fa.macros), "j=mx.test)T(i=Q1)") != NULL);
	T_OK(strstr(text(&fa.macros), "M(") == NULL);
	buf_fini(&b);
	fakes_fini();
}

static void
progress_restarts_the_limit_of_an_answer(void)
{
	static const char steps[] = "CRLE";
	size_t i;

	for (i = 0; steps[i] != '\0'; i++) {
		fakes();
		fb.slow_cmd = steps[i];
		fb.slow_progress = 4;
		fb.slow_ms = 200;
		setup("", "timeout = { \"command=700ms\" }");
		ask_helo();
		T_OK(pass("Q1") == CHAIN_CONTINUE);
		finish(true);
		fakes_fini();
	}
}

static void
chunks_end_where_they_must(void)
{
	static const size_t sizes[] = { 1, 65534, 65535, 65536, 65537, 131070,
		131071 };
	char *body = malloc(131072);
	size_t i, n;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		n = sizes[i];
		memset(body, 'x', n);
		if (n > 65536) /* a line end across the border */
			memcpy(body + 65534, "\r\n", 2);
		body[n] = '\0';
		fakes();
		setup("", NULL);
		message_fini(&msg);
		env_fini(&env);
		setup_message(body);
		T_OK(pass("Q1") == CHAIN_CONTINUE);
		finish(false);
		T_OK(fa.seen['B'] == (n + 65534) / 65535);
		T_OK(fa.body.len == n && memcmp(fa.body.data, body, n) == 0);
		fakes_fini();
	}
	free(body);
}

static void
blanks_are_kept_where_asked_for(void)
{
	fakes();
	fa.protocol = MILTER_LEADING_SPACE;
	setup("", NULL);
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(false);
	T_STR(text(&fa.header), "Subject: one;X-A: 1;X-A:  2\n\tfold;x-a:3;");
	fakes_fini();
}

static void
without_a_recipient_there_is_no_content(void)
{
	fakes();
	setup("", NULL);
	ask_mail("Q1");
	T_OK(ask_message() == CHAIN_TEMPFAIL);
	finish(false);
	T_OK(fa.seen['E'] == 0);
	fakes_fini();
}

static void
skip_means_something_at_three_commands(void)
{
	static const char steps[] = "CHMRTLNBE";
	size_t i;

	for (i = 0; steps[i] != '\0'; i++) {
		fakes();
		fb.protocol = MILTER_CAN_SKIP;
		fake_reply(&fb, steps[i], 1, 's');
		setup("", "");
		ask_helo();
		ask_mail("Q1");
		if (ask_rcpt("r1@y.test") == CHAIN_CONTINUE &&
		    ask_rcpt("r2@y.test") == CHAIN_CONTINUE)
			ask_message();
		T_OK((got.verdict == CHAIN_CONTINUE) ==
		    (strchr("RLB", steps[i]) != NULL));
		finish(true);
		if (steps[i] == 'R') /* the second is not shown */
			T_OK(fb.seen['R'] == 1 && fb.seen['E'] == 1);
		fakes_fini();
	}
}

/* What breaks the protocol is not used again in this session; a connection that
 * ended is made anew for the next message. */
static void
a_liar_is_not_asked_again(void)
{
	int lie;

	for (lie = 0; lie < 2; lie++) {
		fakes();
		if (lie)
			fake_reply(&fb, 'R', 1, 'Z');
		else
			fake_says(&fb, 'R', 1, FAKE_CLOSE);
		setup("", "");
		T_OK(pass("Q1") == CHAIN_TEMPFAIL);
		T_OK(pass("Q2") == (lie ? CHAIN_TEMPFAIL : CHAIN_CONTINUE));
		chain_free(&chain);
		chain = chain_new(engine, settings, 0, &facts);
		T_OK(pass("Q3") == CHAIN_CONTINUE);
		finish(true);
		T_OK(fb.conns == (lie ? 2 : 3));
		fakes_fini();
	}
}

/* What was said on a connection is gone with it: the content of a message does
 * not go on over another one. */
static void
a_loss_between_commands_is_a_failure(void)
{
	struct timeval tv = { 0, 50000 };
	int library;

	for (library = 0; library < 2; library++) {
		fakes();
		reply(&fake_says(&fb, 'R', 2, FAKE_SEND_CLOSE)->bytes, 'c');
		setup("", library ? "library = libmilter" : "");
		T_OK(ask_connect() == CHAIN_CONTINUE);
		ask_mail("Q1");
		ask_rcpt("r1@y.test");
		T_OK(ask_message() == CHAIN_CONTINUE);
		chain_free(&chain);
		chain = chain_new(engine, settings, 0, &facts);
		ask_mail("Q2");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		event_base_loopexit(base, &tv);
		event_base_dispatch(base);
		T_OK(ask_message() == CHAIN_TEMPFAIL);
		T_STR(got.milter, "b");
		finish(true);
		T_OK(fb.seen['E'] == 1 && fb.conns == (library ? 1 : 2));
		fakes_fini();
	}
}

/* A connection serves another session only where the milter is sure to know. */
static void
connections_are_kept_with_care(void)
{
	static const struct {
		uint32_t version;
		const char *opts;
		bool off;  /* switched off before the session ends */
		char dies; /* in the second session */
		unsigned conns;
		enum chain_verdict second;
		char first; /* answer to the first session's recipient */
		uint32_t protocol;
	} rows[] = {
		{ 6, "library = libmilter", false, 0, 1, CHAIN_CONTINUE, 0, 0 },
		{ 6, "library = milldam", false, 0, 1, CHAIN_CONTINUE, 0, 0 },
		{ 6, "", false, 0, 2, CHAIN_CONTINUE, 0, 0 },
		{ 4, "library = libmilter", false, 0, 2, CHAIN_CONTINUE, 0, 0 },
		{ 6, "library = libmilter", true, 0, 2, CHAIN_CONTINUE, 0, 0 },
		/* nothing was answered yet: again, on another one */
		{ 6, "library = libmilter", false, 'C', 2, CHAIN_CONTINUE, 0,
		    0 },
		{ 6, "library = libmilter", false, 'H', 1, CHAIN_TEMPFAIL, 0,
		    0 },
		/* in a message, or without a CONNECT: only our own library */
		{ 6, "library = milldam", false, 0, 1, CHAIN_CONTINUE, 'r', 0 },
		{ 6, "library = milldam", false, 0, 1, CHAIN_CONTINUE, 'a', 0 },
		{ 6, "library = libmilter", false, 0, 2, CHAIN_CONTINUE, 'r',
		    0 },
		{ 6, "library = milldam", false, 0, 1, CHAIN_CONTINUE, 0,
		    MILTER_NO_CONNECT },
		{ 6, "library = libmilter", false, 0, 2, CHAIN_CONTINUE, 0,
		    MILTER_NO_CONNECT },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fakes();
		fb.version = rows[i].version;
		if (rows[i].dies != 0)
			fake_says(&fb, rows[i].dies, 2, FAKE_CLOSE);
		fb.protocol = rows[i].protocol;
		if (rows[i].first != 0)
			fake_reply(&fb, 'R', 1, rows[i].first);
		setup("", rows[i].opts);
		ask_helo();
		T_OK(pass("Q1") ==
		    (rows[i].first == 'r' ? CHAIN_REJECT : CHAIN_CONTINUE));
		if (rows[i].off)
			T_OK(engine_mode(engine, "b", MODE_OFF) == 0);
		chain_free(&chain);
		T_OK(engine_mode(engine, "b", MODE_ENFORCE) == 0);
		chain = chain_new(engine, settings, 0, &facts);
		ask_helo();
		T_OK(pass("Q2") == rows[i].second);
		finish(true);
		if (fb.conns != rows[i].conns)
			printf("# row %zu\n", i);
		T_OK(fb.conns == rows[i].conns);
		fakes_fini();
	}
}

static void
a_list_of_its_own_is_sent_for_a_command_left_out(void)
{
	fakes();
	fa.protocol = MILTER_NO_DATA | MILTER_NO_EOH;
	fa.lists[MILTER_AT_DATA] = "j";
	setup("library = libmilter", NULL);
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	finish(false);
	T_OK(strstr(text(&fa.macros), "T(j=mx.test)E(") != NULL);
	fakes_fini();
}

static void
replies_that_nobody_asked_for_are_lies(void)
{
	static const char cmds[] = "DRA";
	size_t i;

	for (i = 0; cmds[i] != '\0'; i++) {
		fakes();
		fb.protocol = cmds[i] == 'R' ? MILTER_NR_RCPT : 0;
		fake_reply(&fb, cmds[i], 1, 'c');
		setup("", "");
		ask_helo();
		if (cmds[i] == 'A') {
			ask_mail("Q0");
			T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
			chain_abort(chain);
		}
		T_OK(pass("Q1") == CHAIN_TEMPFAIL);
		T_STR(got.milter, "b");
		finish(true);
		fakes_fini();
	}
}

static void
two_verdicts_are_one_too_many(void)
{
	struct buf *b;

	fakes();
	b = eom(&fb);
	add(b, 'h', "X-S", "1");
	reply(b, 'c');
	reply(b, 'c');
	setup("", "");
	T_OK(pass("Q1") == CHAIN_TEMPFAIL);
	T_OK(!msg.header_changed);
	finish(true);
	fakes_fini();
}

static void
after_a_verdict_nothing_more_is_sent(void)
{
	fakes(); /* the first milter refuses: the second hears ABORT only */
	fake_reply(&fa, 'E', 0, 'r');
	setup("", "");
	T_OK(pass("Q1") == CHAIN_REJECT);
	finish(true);
	T_STR(text(&fb.trace), "O|DC C DM M DR R|A Q ");
	T_STR(text(&fa.trace), "O|DC C DM M DR R|DT T L L L L DN N B DE E|Q ");
	fakes_fini();

	fakes(); /* accepted at RCPT, and at MAIL */
	fake_reply(&fb, 'R', 1, 'a');
	fake_reply(&fb, 'M', 2, 'a');
	setup("", "early = yes");
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	T_OK(pass("Q2") == CHAIN_CONTINUE);
	finish(true);
	T_STR(text(&fb.trace), "O|DC C DM M|DR R|DM M|Q ");
	fakes_fini();

	fakes(); /* discarded at RCPT: libmilter still has it open */
	fake_reply(&fb, 'R', 1, 'd');
	setup("", "");
	T_OK(pass("Q1") == CHAIN_DISCARD);
	T_OK(pass("Q2") == CHAIN_CONTINUE);
	finish(true);
	T_STR(text(&fb.trace),
	    "O|DC C DM M DR R|A DM M DR R|DT T L L L L DN N B DE E|Q ");
	fakes_fini();
}

static void
rset_at_any_point_is_one_abort(void)
{
	int i;

	fakes();
	setup("early = yes", "");
	ask_connect();
	ask_helo();
	for (i = 0; i < 4; i++) {
		ask_mail("Q1");
		if (i > 0)
			T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		if (i > 1)
			ask_rcpt("r2@y.test");
		if (i > 2)
			ask_data();
		chain_abort(chain);
		chain_abort(chain);
	}
	T_OK(pass("Q2") == CHAIN_CONTINUE && got.verdict == CHAIN_CONTINUE);
	ask_helo(); /* a second EHLO, amid a message */
	ask_mail("Q3");
	ask_rcpt("r1@y.test");
	ask_helo();
	finish(true);
	T_OK(fa.seen['A'] == 5 && fb.seen['A'] == 4);
	T_OK(fa.seen['H'] == 3 && fa.conns == 1);
	fakes_fini();
}

static void
pieces_of_a_body_need_not_be_neighbours(void)
{
	struct buf *b;

	fakes();
	b = eom(&fa);
	fake_check(milter_put(b, 'b', "one\r", 4));
	add(b, 'h', "X-S", "1");
	fake_check(milter_put(b, 'b', "\ntwo", 4));
	reply(b, 'c');
	setup("", NULL);
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	T_OK(msg.body_len == 10 && memcmp(msg.body, "one\r\ntwo\r\n", 10) == 0);
	T_OK(has_field("X-S", " 1"));
	finish(false);
	fakes_fini();
}

/* The edits of one that runs beside a slower one outlive its connection. */
static void
edits_outlive_the_connection(void)
{
	struct buf *b;

	fakes();
	fa.actions = 0;
	fa.eom_delay_ms = 200;
	fb.protocol = MILTER_LEADING_SPACE;
	b = &fake_says(&fb, 'E', 0, FAKE_SEND_CLOSE)->bytes;
	add(b, 'h', "X-S", "1");
	reply(b, 'c');
	setup("", "");
	T_OK(pass("Q1") == CHAIN_CONTINUE);
	T_OK(has_field("X-S", "1"));
	finish(true);
	fakes_fini();
}

static void
edits_never_outgrow_what_others_take(void)
{
	static char big[400000];
	struct buf *b;
	int i;

	memset(big, 'x', sizeof(big) - 1);
	fakes(); /* a reason and an ENVID as long as packets allow */
	b = &fake_says(&fa, 'E', 1, FAKE_SEND)->bytes;
	big[60000] = '\0';
	add(b, 'q', big, NULL);
	memcpy(big, "ENVID=", 6);
	add(b, 'e', "n@x.test", big);
	reply(b, 'c');
	memset(big, 'x', sizeof(big) - 1);
	b = &fake_says(&fa, 'E', 2, FAKE_SEND)->bytes;
	for (i = 0; i < 2500;
	     i++) { /* more recipients than an envelope takes */
		(void)snprintf(big, sizeof(big), "%0200d@x.test", i);
		add(b, '+', big, NULL);
	}
	memset(big, 'x', sizeof(big) - 1);
	reply(b, 'c');
	/* a field that no other milter could be shown */
	memset(big, 'x', sizeof(big) - 1);
	big[64900] = '\0';
	b = &fake_says(&fa, 'E', 3, FAKE_SEND)->bytes;
	add(b, 'h',
	    "X-A-name-that-is-long-and-longer-and-so-long-that-both-do-"
	    "not-fit-into-one-packet-any-more-for-sure-as-they-should",
	    big);
	reply(b, 'c');
	setup("may = { all }", "");
	T_OK(pass("Q1") == CHAIN_CONTINUE && got.quarantine);
	T_OK(strlen(env.envid) == 0);
	T_STR(env.sender, "s@x.test"); /* held as it was received */
	T_OK(got.reason_len == 500 && got.reason[0] == 'x');
	T_OK(pass("Q2") == CHAIN_TEMPFAIL && env.n_rcpts == 2);
	T_STR(got.milter, "a");
	T_OK(pass("Q3") == CHAIN_TEMPFAIL);
	T_STR(got.milter, "a");
	finish(true);
	fakes_fini();
}

static void
recipients_are_added_with_leave_only(void)
{
	static const struct {
		const char *opts;
		enum chain_verdict verdict;
		size_t n_rcpts;
		bool field;
	} rows[] = {
		{ "", CHAIN_TEMPFAIL, 2, false },
		{ "on-failure = accept", CHAIN_CONTINUE, 2, false },
		{ "forbidden = drop", CHAIN_CONTINUE, 2, true },
		{ "may = { add-rcpt, add-header }", CHAIN_CONTINUE, 3, true },
		{ "may = { add-rcpt }", CHAIN_TEMPFAIL, 2, false },
		{ "may = { add-rcpt } forbidden = drop", CHAIN_CONTINUE, 3,
		    false },
		{ "may = { all }", CHAIN_CONTINUE, 3, true },
		{ "may = { } forbidden = drop", CHAIN_CONTINUE, 2, false },
	};
	struct buf *b, record = BUF_INIT(1 << 16);
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fakes();
		b = eom(&fb);
		add(b, 'h', "X-S", "1");
		add(b, i % 2 == 0 ? '2' : '+', "new@y.test", NULL);
		reply(b, 'c');
		setup("", rows[i].opts);
		if (pass("Q1") != rows[i].verdict)
			printf("# row %zu\n", i);
		T_OK(got.verdict == rows[i].verdict);
		T_OK(env.n_rcpts == rows[i].n_rcpts);
		T_OK(has_field("X-S", " 1") == rows[i].field);
		record.len = 0;
		T_OK(chain_record(chain, &record) == 0);
		T_OK((strstr(record.data, "\"dropped_edits\":") != NULL) ==
		    (strstr(rows[i].opts, "drop") != NULL));
		finish(true);
		fakes_fini();
	}
	fakes(); /* 5,000 of them are too many to leave out */
	b = eom(&fb);
	for (i = 0; i < 5000; i++)
		add(b, '+', "new@y.test", NULL);
	reply(b, 'c');
	setup("", "forbidden = drop");
	T_OK(pass("Q1") == CHAIN_TEMPFAIL);
	finish(true);
	fakes_fini();
	buf_fini(&record);
}

static void
shadow_changes_and_holds_nothing(void)
{
	static const char steps[] = "CHMRTLNBE", codes[] = "rtd4";
	struct buf *b;
	size_t i;

	for (i = 0; i < 36; i++) { /* nor does it refuse */
		fakes();
		fake_reply(&fb, steps[i / 4], 0, codes[i % 4]);
		setup("",
		    i % 2 == 0 ? "mode = shadow" : "mode = shadow early = yes");
		ask_connect();
		T_OK(ask_helo() == CHAIN_CONTINUE);
		T_OK(pass("Q1") == CHAIN_CONTINUE);
		finish(true);
		fakes_fini();
	}

	fakes();
	b = eom(&fa);
	add(b, 'h', "X-S", "1");
	add(b, '-', "<r1@y.test>", NULL);
	add(b, 'q', "odd", NULL);
	fake_check(milter_put(b, 'b', "new", 3));
	reply(b, 'c');
	fake_start(&fa);
	fake_start(&fb);
	setup_policy("mode = shadow", "", "");
	T_OK(pass("Q1") == CHAIN_CONTINUE && !got.quarantine);
	T_OK(!msg.header_changed && !msg.body_changed && env.n_rcpts == 2);
	finish(true);
	T_OK(strstr(text(&fb.header), "X-S") == NULL);
	T_STR(text(&fb.body), "hello\r\n.dot\r\n");
	fakes_fini();
}

/* However the authoriser fails, nobody is authorised. */
static void
a_failed_authoriser_authorises_nobody(void)
{
	static const char *const actions[] = { "tempfail", "reject",
		"quarantine", "shutdown" };
	static const char steps[] = "OCHMR";
	char opts[100];
	size_t i, k;
	int act;

	for (i = 0; i < 4; i++)
		for (k = 0; steps[k] != '\0'; k++)
			for (act = 0; act < 2; act++) {
				fakes();
				fake_says(&fa, steps[k], 0,
				    act == 0 ? FAKE_CLOSE : FAKE_SILENT);
				snprintf(opts, sizeof(opts),
				    "on-failure = %s timeout = { "
				    "\"connect=50ms\" \"command=50ms\" }",
				    actions[i]);
				setup(opts, "");
				ask_helo();
				ask_mail("Q1");
				T_OK((ask_rcpt("r1@y.test") ==
				         CHAIN_CONTINUE) == (i == 2));
				T_OK(!got.authorised);
				finish(true);
				fakes_fini();
			}
}

static void
a_yes_is_for_that_recipient_of_that_message(void)
{
	static const enum milter_mode modes[] = { MODE_OFF, MODE_SHADOW,
		MODE_ENFORCE };
	struct buf *b;
	int i;

	fakes(); /* it dies after the first recipient */
	fake_says(&fa, 'R', 2, FAKE_CLOSE);
	setup("", "");
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_rcpt("r2@y.test") == CHAIN_TEMPFAIL && !got.authorised);
	T_OK(ask_rcpt("r3@y.test") == CHAIN_TEMPFAIL && !got.authorised);
	finish(true);
	fakes_fini();

	fakes(); /* accept at MAIL is for one message */
	fake_reply(&fa, 'M', 1, 'a');
	fa.protocol = MILTER_NO_RCPT;
	setup("early = yes", "");
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	chain_abort(chain);
	ask_mail("Q2");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && !got.authorised);
	finish(true);
	fakes_fini();

	fakes(); /* a yes with a lie behind it is none */
	b = &fake_says(&fa, 'R', 1, FAKE_SEND)->bytes;
	reply(b, 'c');
	reply(b, 'Z');
	setup("on-failure = quarantine", "");
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && !got.authorised);
	finish(true);
	fakes_fini();

	for (i = 0; i < 3;
	     i++) { /* one of before it was switched off neither */
		fakes();
		fake_reply(&fa, 'C', 1, 'a');
		setup("", "");
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
		T_OK(engine_mode(engine, "a", modes[i]) == 0);
		ask_mail("Q2");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		T_OK(got.authorised == (modes[i] == MODE_ENFORCE));
		finish(true);
		fakes_fini();
	}

	fakes(); /* and a recipient that the server refuses gets none */
	fa.protocol = MILTER_RCPT_REJECTED;
	setup("", "");
	ask_mail("Q1");
	ASK(chain_rcpt(chain, "no@y.test", NULL, 0, NULL, "550 5.1.1 no",
	    on_answer, NULL));
	T_OK(!got.authorised);
	finish(true);
	fakes_fini();
}

/* Asked at once or with the first recipient (design 5.2). */
static void
verdicts_show_at_once_or_at_rcpt(void)
{
	int early;

	for (early = 0; early < 2; early++) {
		fakes();
		fake_reply(&fb, 'C', 0, 'r');
		setup("", early ? "early = yes" : "");
		T_OK(ask_connect() == (early ? CHAIN_REJECT : CHAIN_CONTINUE));
		if (early)
			T_STR(got.reply, "554 5.7.1 Command rejected");
		T_OK(ask_helo() == (early ? CHAIN_REJECT : CHAIN_CONTINUE));
		ask_mail("Q1");
		T_OK(ask_rcpt("r1@y.test") == CHAIN_REJECT);
		ask_mail("Q2"); /* and from then on at once */
		T_OK(got.verdict == CHAIN_REJECT);
		finish(true);
		T_OK(fb.conns == 1);
		fakes_fini();
	}
}

static const struct t_case cases[] = {
	{ "rules: every bit is offered, version 6", everything_is_offered },
	{ "rules: protocol bits not offered are borne",
	    bits_not_offered_are_borne },
	{ "rules: versions 2 to 6 get what they know",
	    each_version_gets_what_it_knows },
	{ "rules: each NO and NR bit concerns its command",
	    each_bit_concerns_its_command },
	{ "rules: clients are shown by family", clients_are_shown_by_family },
	{ "rules: addresses and arguments pass as they came",
	    addresses_pass_as_they_came },
	{ "rules: empty messages have no header or body packet",
	    empty_messages_have_no_header_or_body_packet },
	{ "rules: a body with NUL passes", a_body_with_nul_passes },
	{ "rules: macros of Sendmail and Postfix are sent unasked",
	    macros_of_sendmail_and_postfix_are_sent_unasked },
	{ "rules: no set of macros is empty, none is stale",
	    no_set_is_empty_and_none_is_stale },
	{ "rules: lists of macros are bounded", lists_of_macros_are_bounded },
	{ "rules: progress restarts the limit of an answer",
	    progress_restarts_the_limit_of_an_answer },
	{ "rules: chunks end where they must", chunks_end_where_they_must },
	{ "rules: blanks are kept where asked for",
	    blanks_are_kept_where_asked_for },
	{ "rules: without a recipient there is no content",
	    without_a_recipient_there_is_no_content },
	{ "rules: skip at RCPT, header and body, a lie elsewhere",
	    skip_means_something_at_three_commands },
	{ "rules: a liar is not asked again in the session",
	    a_liar_is_not_asked_again },
	{ "rules: connections are kept with care",
	    connections_are_kept_with_care },
	{ "rules: a list of its own is sent for a command left out",
	    a_list_of_its_own_is_sent_for_a_command_left_out },
	{ "rules: a loss between commands is a failure",
	    a_loss_between_commands_is_a_failure },
	{ "rules: replies to D, A and no-reply commands are lies",
	    replies_that_nobody_asked_for_are_lies },
	{ "rules: two verdicts are one too many",
	    two_verdicts_are_one_too_many },
	{ "rules: after a verdict nothing more is sent",
	    after_a_verdict_nothing_more_is_sent },
	{ "rules: RSET and EHLO at any point are one ABORT",
	    rset_at_any_point_is_one_abort },
	{ "rules: pieces of a body need not be neighbours",
	    pieces_of_a_body_need_not_be_neighbours },
	{ "rules: edits outlive the connection", edits_outlive_the_connection },
	{ "rules: edits never outgrow what others take",
	    edits_never_outgrow_what_others_take },
	{ "rules: shadow changes and holds nothing",
	    shadow_changes_and_holds_nothing },
	{ "authorisation: recipients are added with leave only",
	    recipients_are_added_with_leave_only },
	{ "authorisation: none from an authoriser that failed",
	    a_failed_authoriser_authorises_nobody },
	{ "authorisation: a yes is for that recipient of that message",
	    a_yes_is_for_that_recipient_of_that_message },
	{ "verdicts: at once, or at the first RCPT",
	    verdicts_show_at_once_or_at_rcpt },
};

T_MAIN(cases)
