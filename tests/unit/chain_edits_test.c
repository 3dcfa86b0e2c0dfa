/* SPDX-License-Identifier: ISC */

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
indexed(struct buf *b, char code, uint32_t i, const char *name, const char *v)
{
	fake_check(milter_put_indexed(b, code, i, name, v));
}

static void
verdict(struct buf *b, char code)
{
	fake_check(milter_put(b, code, NULL, 0));
}

/* pass - a message through the chain */
static enum chain_verdict
pass(void)
{
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
	return (ask_message());
}

/* header - the fields as they leave, '|' for line ends */
static const char *
header(void)
{
	static char room[4096];
	struct buf b = BUF_INIT(1 << 20);
	size_t i, n = 0;

	T_OK(message_header(&msg, &b) == 0);
	for (i = 0; i < b.len && n < sizeof(room) - 1; i++)
		if (b.data[i] != '\r')
			room[n++] = b.data[i] == '\n' ? '|' : b.data[i];
	room[n] = '\0';
	buf_fini(&b);
	return (room);
}

/* one - these fields after the edits that fn makes */
static void
one(void (*fn)(struct buf *), uint32_t protocol, const char *want)
{
	struct buf *b;

	fakes();
	fa.protocol = protocol;
	b = eom(&fa);
	fn(b);
	verdict(b, 'c');
	setup("", NULL);
	T_OK(pass() == CHAIN_CONTINUE);
	T_STR(header(), want);
	T_OK(msg.fields[0].hidden || strcmp(msg.fields[0].name, "X-T") == 0);
	finish(false);
	fakes_fini();
}

#define REC "Received: by us|"
#define SUB "Subject: one|"
#define A1  "X-A: 1|"
#define A2  "X-A:  2|\tfold|"
#define A3  "x-a:3|"

static void
e_add(struct buf *b)
{
	add(b, 'h', "X-N", "v\n\tmore\n");
}

static void
e_insert(struct buf *b)
{
	indexed(b, 'i', 1, "X-1", "one");
	indexed(b, 'i', 0, "X-T", "top");
	indexed(b, 'i', 4000000000u, "X-E", "end");
}

static void
e_change(struct buf *b)
{
	indexed(b, 'm', 2, "x-A", "two");
	indexed(b, 'm', 0, "Subject", "zero is one");
	indexed(b, 'm', 9, "X-A", "new");
	indexed(b, 'm', 1, "X-None", "");
}

static void
e_delete_up(struct buf *b)
{
	indexed(b, 'm', 1, "X-A", "");
	indexed(b, 'm', 2, "X-A", ""); /* as shown: the folded one */
}

static void
e_delete_down(struct buf *b)
{
	indexed(b, 'm', 3, "X-A", "");
	indexed(b, 'm', 1, "X-A", "");
}

static void
e_delete_insert(struct buf *b)
{
	indexed(b, 'm', 1, "X-A", "");
	indexed(b, 'i', 3, "X-I", "three"); /* of those that are left */
}

static void
e_hidden(struct buf *b)
{
	indexed(b, 'm', 1, "Received", ""); /* never shown, so not there */
}

static void
header_edits_keep_their_index_rules(void)
{
	one(e_add, 0, REC SUB A1 A2 A3 "X-N: v|\tmore||");
	one(e_add, MILTER_LEADING_SPACE, REC SUB A1 A2 A3 "X-N:v|\tmore||");
	one(e_insert, 0, "X-T: top|" REC "X-1: one|" SUB A1 A2 A3 "X-E: end||");
	one(e_change, 0,
	    REC "Subject: zero is one|" A1 "X-A: two|" A3 "X-A: new||");
	one(e_delete_up, 0, REC SUB A3 "|");
	one(e_delete_down, 0, REC SUB A2 "|");
	one(e_delete_insert, 0, REC SUB A2 "X-I: three|" A3 "|");
	one(e_hidden, 0, REC SUB A1 A2 A3 "|");
}

static void
the_next_milter_sees_the_edits_of_the_one_before(void)
{
	struct buf *b;

	fakes();
	b = eom(&fa);
	indexed(b, 'i', 0, "X-T", "top");
	indexed(b, 'm', 1, "Subject", "changed");
	fake_check(milter_put(b, 'b', "new\nbo", 6));
	fake_check(milter_put(b, 'b', "dy\r", 3));
	fake_check(milter_put(b, 'b', "\n..end", 6));
	verdict(b, 'a');
	b = eom(&fb);
	indexed(b, 'm', 1, "X-A", "");
	add(b, 'h', "X-B", "b");
	verdict(b, 'c');
	setup("", "");
	env.flags = 0;
	T_OK(pass() == CHAIN_CONTINUE);
	T_STR(header(), "X-T: top|" REC "Subject: changed|" A2 A3 "X-B: b||");
	T_OK(msg.header_changed && msg.body_changed);
	T_OK(msg.body_len == 18 &&
	    memcmp(msg.body, "new\r\nbody\r\n..end\r\n", 18) == 0);
	T_OK((env.flags & ENV_DOTS) != 0);
	finish(true);
	T_STR(text(&fb.header),
	    "X-T:top;Subject:changed;X-A:1;X-A: 2\n\tfold;x-a:3;");
	T_STR(text(&fb.body), "new\r\nbody\r\n..end\r\n");
	fakes_fini();
}

static void
an_empty_body_is_one(void)
{
	struct buf *b;

	fakes();
	b = eom(&fa);
	fake_check(milter_put(b, 'b', NULL, 0));
	verdict(b, 'c');
	setup("", "");
	T_OK(pass() == CHAIN_CONTINUE);
	T_OK(msg.body_len == 0 && msg.body_changed && msg.body[0] == '\0');
	finish(true);
	T_OK(fb.seen['B'] == 0 && fb.seen['E'] == 1);
	fakes_fini();
}

static void
envelope_edits_are_applied(void)
{
	struct buf *b;

	fakes();
	b = eom(&fa);
	add(b, '-', "<r1@Y.TEST>", NULL);
	add(b, '-', "nobody@y.test", NULL);
	add(b, '+', "new@y.test", NULL);
	add(b, '+', "r2@y.test", NULL); /* is there */
	add(b, '2', "<par@y.test>",
	    "ORCPT=rfc822;o@y.test NOTIFY=SUCCESS,DELAY");
	add(b, 'e', "<>", "RET=HDRS ENVID=e1");
	verdict(b, 'c');
	setup("may = { all }", NULL);
	T_OK(pass() == CHAIN_CONTINUE);
	T_STR(env.sender, "");
	T_STR(env.envid, "e1");
	T_OK((env.flags & ENV_RET_HDRS) != 0);
	T_OK(env.n_rcpts == 3);
	T_STR(env.rcpts[0].addr, "r2@y.test");
	T_STR(env.rcpts[1].addr, "new@y.test");
	T_OK(env.rcpts[1].route.mailer == MAILER_NONE);
	T_STR(env.rcpts[2].addr, "par@y.test");
	T_STR(env.rcpts[2].orcpt, "rfc822;o@y.test");
	T_OK(env.rcpts[2].notify == (NOTIFY_SUCCESS | NOTIFY_DELAY));
	T_OK(!msg.header_changed && !msg.body_changed);
	finish(false);
	fakes_fini();
}

static void
many_edits(struct buf *b)
{
	indexed(b, 'i', 0, "X-T", "top");
	fake_check(milter_put(b, 'b', "other", 5));
	add(b, '+', "new@y.test", NULL);
	add(b, '-', "r1@y.test", NULL);
	add(b, 'e', "<f@x.test>", NULL);
}

/* Whatever comes instead of a verdict that lets the message pass: nothing of
 * the edits stays, neither this milter's nor those before it. */
static void
edits_count_with_the_verdict_or_not_at_all(void)
{
	static const struct {
		char end; /* verdict of the second milter; 0 dies */
		const char *failure;
		enum chain_verdict verdict;
		bool first_stays;
	} rows[] = {
		{ 'r', "tempfail", CHAIN_REJECT, false },
		{ 't', "tempfail", CHAIN_TEMPFAIL, false },
		{ 'd', "tempfail", CHAIN_DISCARD, false },
		{ '4', "tempfail", CHAIN_SHUTDOWN, false },
		{ 0, "tempfail", CHAIN_TEMPFAIL, false },
		{ 0, "accept", CHAIN_CONTINUE, true },
		{ 0, "quarantine", CHAIN_CONTINUE, false },
	};
	char opts[64];
	struct buf *b;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fakes();
		b = eom(&fa);
		add(b, 'h', "X-First", "1");
		verdict(b, 'c');
		b = eom(&fb);
		many_edits(b);
		if (rows[i].end != 0)
			verdict(b, rows[i].end);
		else
			fb.lines[0].act = FAKE_SEND_CLOSE;
		snprintf(opts, sizeof(opts), "may = { all } on-failure = %s",
		    rows[i].failure);
		setup("", opts);
		T_OK(pass() == rows[i].verdict);
		T_STR(header(),
		    rows[i].first_stays ? REC SUB A1 A2 A3 "X-First: 1||"
		                        : REC SUB A1 A2 A3 "|");
		T_OK(msg.header_changed == rows[i].first_stays);
		T_OK(!msg.body_changed && msg.body_len == 13);
		T_OK(env.n_rcpts == 2);
		T_STR(env.sender, "s@x.test");
		T_OK(got.quarantine == (i == 6));
		finish(true);
		fakes_fini();
	}
}

static void
quarantine_holds_unless_a_verdict_refuses(void)
{
	struct buf *b;

	fakes();
	b = eom(&fa);
	add(b, 'q', "looks odd", NULL);
	verdict(b, 'c');
	setup("", "");
	T_OK(pass() == CHAIN_CONTINUE && got.quarantine);
	T_STR(got.reason, "looks odd");
	T_STR(got.hold_by, "a");
	finish(true);
	T_OK(fb.seen['E'] == 1); /* the next one is still asked */
	fakes_fini();

	fakes();
	b = eom(&fa);
	add(b, 'q', "looks odd", NULL);
	verdict(b, 'r');
	setup("", "");
	T_OK(pass() == CHAIN_REJECT && !got.quarantine);
	finish(true);
	fakes_fini();

	fakes();
	b = eom(&fa);
	add(b, 'q', "looks odd", NULL);
	verdict(b, 'c');
	fake_reply(&fb, 'E', 0, 'r');
	setup("", "");
	T_OK(pass() == CHAIN_REJECT && !got.quarantine);
	finish(true);
	fakes_fini();
}

static void
the_record_names_stages_edits_and_failures(void)
{
	struct buf b = BUF_INIT(1 << 20), *e;
	const char *s;

	fakes();
	e = eom(&fa);
	indexed(e, 'm', 1, "Subject", "new");
	verdict(e, 'c');
	fake_says(&fb, 'E', 0, FAKE_CLOSE);
	setup("", "on-failure = accept");
	T_OK(pass() == CHAIN_CONTINUE);
	T_OK(chain_record(chain, &b) == 0);
	s = text(&b);
	T_OK(strstr(s, "[{\"name\":\"a\",\"endpoint\":\"unix:") == s);
	T_OK(strstr(s,
	         "\"mode\":\"enforce\",\"verdict\":\"continue\","
	         "\"stages\":[{\"stage\":\"connect\",\"reply\":"
	         "\"continue\",\"ms\":") != NULL);
	T_OK(strstr(s, "\"stage\":\"header\",\"reply\":\"continue\",\"ms\":") !=
	    NULL);
	T_OK(strstr(s, "\"count\":4}") != NULL);
	T_OK(strstr(s,
	         "\"edits\":[{\"edit\":\"change-header\",\"of\":\"Subject\","
	         "\"before\":\" one\",\"after\":\" new\"}],\"n_edits\":1") !=
	    NULL);
	T_OK(strstr(s, "\"failure\":\"closed the connection\"}]") != NULL);
	T_OK(strstr(chain_summary(chain), "a=continue") != NULL);
	T_OK(strstr(chain_summary(chain), "b=failed") != NULL);
	buf_fini(&b);
	finish(true);
	fakes_fini();
}

static void
limits_hold(void)
{
	struct buf *b;
	int i;

	fakes(); /* more edits than a message may have */
	b = eom(&fa);
	for (i = 0; i < 4001; i++)
		add(b, '-', "r1@y.test", NULL);
	verdict(b, 'c');
	setup("", NULL);
	T_OK(pass() == CHAIN_TEMPFAIL && env.n_rcpts == 2);
	finish(false);
	fakes_fini();

	fakes(); /* more bytes of them: 70 fields of 64,000 */
	b = eom(&fa);
	{
		char *big = calloc(1, 64001);

		memset(big, 'x', 64000);
		for (i = 0; i < 70; i++)
			add(b, 'h', "X-Big", big);
		free(big);
	}
	verdict(b, 'c');
	setup("", NULL);
	T_OK(pass() == CHAIN_TEMPFAIL && !msg.header_changed);
	finish(false);
	fakes_fini();

	fakes(); /* a field that no milter could be shown */
	setup("", NULL);
	{
		char *big = calloc(1, 70001);

		memset(big, 'x', 70000);
		field("X-Big", big);
		free(big);
	}
	T_OK(pass() == CHAIN_REJECT);
	T_STR(got.reply, "554 5.6.0 Header field too long");
	finish(false);
	fakes_fini();
}

static const struct t_case cases[] = {
	{ "edits: add, insert, change, delete count as documented",
	    header_edits_keep_their_index_rules },
	{ "edits: the next milter sees them",
	    the_next_milter_sees_the_edits_of_the_one_before },
	{ "edits: an empty body is one", an_empty_body_is_one },
	{ "edits: recipients and sender", envelope_edits_are_applied },
	{ "edits: with the verdict or not at all",
	    edits_count_with_the_verdict_or_not_at_all },
	{ "edits: quarantine holds unless a verdict refuses",
	    quarantine_holds_unless_a_verdict_refuses },
	{ "edits: the record names stages, edits and failures",
	    the_record_names_stages_edits_and_failures },
	{ "edits: limits hold", limits_hold },
};

T_MAIN(cases)
