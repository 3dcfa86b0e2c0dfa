/* SPDX-License-Identifier: ISC */

/* smtp_test - addresses, commands, our trace field */

#include "core/smtp/command.h"
#include "core/smtp/received.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <stdlib.h>

static char out[ADDRESS_MAX + 1];

/* path - what address_path() makes of it, or the name of its error */
static const char *
path(const char *s, unsigned flags)
{
	const char *rest = "";

	if (address_path(s, flags, out, &rest) == 0)
		return (out);
	switch (errno) {
	case EINVAL:
		return ("EINVAL");
	case EDESTADDRREQ:
		return ("EDESTADDRREQ");
	case E2BIG:
		return ("E2BIG");
	case EILSEQ:
		return ("EILSEQ");
	}
	return ("?");
}

static void
paths_are_taken_apart(void)
{
	T_STR(path("<a@b.c>", 0), "a@b.c");
	T_STR(path("<a@b.c> SIZE=1", 0), "a@b.c");
	T_STR(path("a@b.c", 0), "a@b.c");
	T_STR(path("<@one.x,@two.y:a@b.c>", 0), "a@b.c");
	T_STR(path("<@[192.0.2.1]:a@b.c>", 0), "a@b.c");
	T_STR(path("<\"a b\\\"@>\"@b.c>", 0), "\"a b\\\"@>\"@b.c");
	T_STR(path("<a+b=c/d!e%f@x-y.z_1>", 0), "a+b=c/d!e%f@x-y.z_1");
	T_STR(path("<a@[192.0.2.1]>", 0), "a@[192.0.2.1]");
	T_STR(path("<a@[IPv6:2001:db8::1]>", 0), "a@[IPv6:2001:db8::1]");
	T_STR(
	    path("<\xc3\xa9@\xe4\xbe\x8b.jp>", 0), "\xc3\xa9@\xe4\xbe\x8b.jp");
	T_STR(path("<>", ADDRESS_NULL), "");
	T_STR(path("<PostMaster>", ADDRESS_POSTMASTER), "PostMaster");
}

static void
malformed_paths_are_refused(void)
{
	static const char *const bad[] = { "", "<", ">", "<>", "<a", "<a@b",
		"<@>", "<@b>", "<a@>", "<a@b.>", "<a@.b>", "<a@b..c>", "<.a@b>",
		"<a.@b>", "<a..b@c>", "<a b@c>", "<a@b c>", "<a@b>x", "<<a@b>>",
		"<a@-b>", "<a@b->", "<a@[1.2.3]>", "<a@[300.1.1.1]>", "<a@[]>",
		"<a@[IPv6:x]>", "<a@[1.2.3.4>", "<\"a@b>", "<\"a\"b@c>",
		"<@one:@two:a@b>", "<@one,a@b>", "<@one>", "<a@b@c>",
		"<\"a\n\"@b>", "<\"a\\\x80\"@b>", "<a(x)@b>", "<a@b>>", "a@b>",
		"<a,b@c>", "<\\a@b>" };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (strcmp(path(bad[i], 0), "EINVAL") != 0) {
			printf("# %s -> %s\n", bad[i], path(bad[i], 0));
			T_OK(false);
		}
	T_STR(path("<postmaster>", 0), "EDESTADDRREQ");
	T_STR(path("<user>", ADDRESS_POSTMASTER), "EDESTADDRREQ");
	T_STR(path("<\xff@b>", 0), "EILSEQ");
	T_STR(path("<\xc0\xaf@b>", 0), "EILSEQ");
	T_STR(path("<\xed\xa0\x80@b>", 0), "EILSEQ");
	T_STR(path("<a@\xc3>", 0), "EILSEQ");
}

static void
length_limits_are_exact(void)
{
	char s[2000];
	int n;

	memset(s, 'a', sizeof(s));
	s[0] = '<';
	memcpy(s + 1 + ADDRESS_LOCAL_MAX, "@b.c>", 6);
	T_OK(strlen(path(s, 0)) == ADDRESS_LOCAL_MAX + 4);
	memset(s + 1, 'a', ADDRESS_LOCAL_MAX + 1);
	memcpy(s + 2 + ADDRESS_LOCAL_MAX, "@b.c>", 6);
	T_STR(path(s, 0), "E2BIG");
	(void)snprintf(s, sizeof(s), "<a@%063d>", 1);
	T_OK(strlen(path(s, 0)) == 65);
	(void)snprintf(s, sizeof(s), "<a@%064d>", 1);
	T_STR(path(s, 0), "E2BIG");
	n = snprintf(s, sizeof(s), "<a@%063d.%063d.%063d.%063d>", 1, 2, 3, 4);
	T_OK(n == 259 && strlen(path(s, 0)) == 257);
	(void)snprintf(
	    s, sizeof(s), "<a@%063d.%063d.%063d.%062d.1>", 1, 2, 3, 4);
	T_STR(path(s, 0), "E2BIG");
	memset(s, 'a', sizeof(s));
	s[0] = '"';
	s[sizeof(s) - 1] = '\0';
	T_STR(path(s, 0), "E2BIG");
}

static void
domains_are_found(void)
{
	T_STR(address_domain("a@b.c"), "b.c");
	T_STR(address_domain("\"x@y\"@b.c"), "b.c");
	T_STR(address_domain("\"x@y\""), "");
	T_STR(address_domain("postmaster"), "");
	T_OK(address_check("a@b.c") == 0);
	T_OK(address_check("a@b.c>") == -1);
	T_OK(address_check("a@b.c d") == -1);
}

static struct command c;

static const char *
parse(const char *line)
{
	const char *bad = command_parse(&c, line, strlen(line), false);

	return (bad != NULL ? bad : "ok");
}

static void
commands_are_parsed(void)
{
	T_STR(parse("ehlo  client.test "), "ok");
	T_OK(c.verb == VERB_EHLO);
	T_STR(c.arg, "client.test");
	T_STR(parse("mail from: <a@b.c>  size=10 BODY=8bitmime RET=HDRS "
	            "ENVID=a+2B AUTH=<>"),
	    "ok");
	T_OK(c.verb == VERB_MAIL && c.size == 10 && c.body_8bit && c.ret_hdrs);
	T_STR(c.path, "a@b.c");
	T_STR(c.envid, "a+2B");
	T_OK(c.n_params == 5);
	T_STR(c.params[0], "size=10");
	T_STR(c.text,
	    "mail from: <a@b.c>  size=10 BODY=8bitmime RET=HDRS "
	    "ENVID=a+2B AUTH=<>");
	T_STR(parse("RCPT TO:<a@b.c> NOTIFY=success,DELAY ORCPT=rfc822;a@b.c"),
	    "ok");
	T_OK(c.notify == (NOTIFY_SUCCESS | NOTIFY_DELAY));
	T_STR(c.orcpt, "rfc822;a@b.c");
	T_STR(parse("RCPT TO:<postmaster>"), "ok");
	T_STR(parse("BDAT 10 last"), "ok");
	T_OK(c.verb == VERB_BDAT && c.chunk == 10 && c.last);
	T_STR(parse("bdat 0"), "ok");
	T_OK(c.chunk == 0 && !c.last);
	T_STR(parse("MAIL FROM:<>"), "ok");
	T_STR(parse("MAIL FROM:<\xc3\xa9@b.c> SMTPUTF8"), "ok");
	T_OK(c.utf8);
	T_STR(parse("NOOP anything"), "ok");
	T_STR(parse("QUIT"), "ok");
}

static void
bad_commands_get_their_reply(void)
{
	static const struct {
		const char *line, *reply;
	} rows[] = { { "", "500 5.5.1" }, { "XYZ", "500 5.5.1" },
		{ "HELOX a", "500 5.5.1" }, { "NO\001OP", "500 5.5.2" },
		{ "NOOP\r", "500 5.5.2" }, { "MAIL", "501 5.5.4" },
		{ "MAIL TO:<a@b>", "501 5.5.4" },
		{ "RCPT FROM:<a@b>", "501 5.5.4" },
		{ "MAIL FROM:<a b@c>", "501 5.1.7" },
		{ "RCPT TO:<>", "501 5.1.3" }, { "RCPT TO:<u>", "553 5.1.3" },
		{ "MAIL FROM:<u>", "553 5.1.7" },
		{ "MAIL FROM:<\xc3\xa9@b.c>", "553 5.6.7" },
		{ "MAIL FROM:<a@b> FOO", "555 5.5.4" },
		{ "MAIL FROM:<a@b> SIZE", "501 5.5.4" },
		{ "MAIL FROM:<a@b> SIZE=-1", "501 5.5.4" },
		{ "MAIL FROM:<a@b> SIZE=99999999999999999999", "501 5.5.4" },
		{ "MAIL FROM:<a@b> SIZE=1 size=2", "501 5.5.4" },
		{ "MAIL FROM:<a@b> BODY=BINARYMIME", "501 5.5.4" },
		{ "MAIL FROM:<a@b> SMTPUTF8=1", "501 5.5.4" },
		{ "MAIL FROM:<a@b> RET=X", "501 5.5.4" },
		{ "MAIL FROM:<a@b> ENVID=a+", "501 5.5.4" },
		{ "MAIL FROM:<a@b> =1", "501 5.5.4" },
		{ "RCPT TO:<a@b> NOTIFY=NEVER,DELAY", "501 5.5.4" },
		{ "RCPT TO:<a@b> NOTIFY=", "501 5.5.4" },
		{ "RCPT TO:<a@b> ORCPT=x", "501 5.5.4" },
		{ "RCPT TO:<a@b> SIZE=1", "555 5.5.4" },
		{ "BDAT", "501 5.5.4" }, { "BDAT x", "501 5.5.4" },
		{ "BDAT 1 2", "501 5.5.4" }, { "DATA x", "501 5.5.4" },
		{ "MAIL FROM:<a@b> A=1 B=1 C=1 D=1 E=1", "555 5.5.4" } };
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strncmp(parse(rows[i].line), rows[i].reply, 9) != 0) {
			printf(
			    "# %s -> %s\n", rows[i].line, parse(rows[i].line));
			T_OK(false);
		}
	T_STR(command_parse(&c, "NO\0OP", 5, false),
	    "500 5.5.2 Invalid character in command");
}

static void
longest_line_is_taken_and_no_longer(void)
{
	char line[COMMAND_LINE_MAX + 2];

	memset(line, 'x', sizeof(line));
	memcpy(line, "NOOP ", 5);
	T_OK(command_parse(&c, line, COMMAND_LINE_MAX, false) == NULL);
	T_STR(command_parse(&c, line, COMMAND_LINE_MAX + 1, false),
	    "500 5.5.2 Line too long");
}

static void
trace_field_tells_what_is_known(void)
{
	struct buf b = BUF_INIT(4096);
	struct envelope e;

	if (env_init(&e) == -1)
		abort();
	strcpy(e.id, "0123456789AB");
	if (env_set(&e.client_addr, "192.0.2.1") == -1 ||
	    env_set(&e.client_name, "[192.0.2.1]") == -1 ||
	    env_set(&e.helo, "a(b)c") == -1 || env_set(&e.proto, "ESMTP") == -1)
		abort();
	T_OK(received_value(&b, &e, "gate.test", false, 0) == 0);
	T_STR(b.data,
	    " from a?b?c ([192.0.2.1])\r\n\tby gate.test with ESMTP id "
	    "0123456789AB;\r\n\tThu, 01 Jan 1970 00:00:00 +0000");
	b.len = 0;
	if (env_set(&e.client_addr, "2001:db8::1") == -1 ||
	    env_set(&e.client_name, "c.test") == -1 ||
	    env_set(&e.helo, "") == -1 || env_add_rcpt(&e, "x@y.z") == NULL)
		abort();
	e.flags |= ENV_SMTPUTF8;
	T_OK(received_value(&b, &e, "gate.test", true, 0) == 0);
	T_STR(b.data,
	    " from c.test (c.test [IPv6:2001:db8::1] (may be forged))\r\n\t"
	    "by gate.test with UTF8SMTP id 0123456789AB\r\n\tfor <x@y.z>; "
	    "Thu, 01 Jan 1970 00:00:00 +0000");
	if (env_add_rcpt(&e, "other@y.z") == NULL)
		abort();
	b.len = 0;
	T_OK(received_value(&b, &e, "gate.test", true, 0) == 0);
	T_OK(strstr(b.data, "other") == NULL && strstr(b.data, "x@") == NULL);
	buf_fini(&b);
	env_fini(&e);
}

static const struct t_case cases[] = {
	{ "paths are taken apart", paths_are_taken_apart },
	{ "malformed paths are refused", malformed_paths_are_refused },
	{ "length limits are exact", length_limits_are_exact },
	{ "domains are found", domains_are_found },
	{ "commands are parsed", commands_are_parsed },
	{ "bad commands get their reply", bad_commands_get_their_reply },
	{ "longest line is taken and no longer",
	    longest_line_is_taken_and_no_longer },
	{ "trace field tells what is known", trace_field_tells_what_is_known },
};

T_MAIN(cases)
