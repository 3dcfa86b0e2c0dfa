/* SPDX-License-Identifier: ISC */

/* report_test - the text of delivery status notifications */

#include "core/queue/report.h"

#include "tests/lib/t.h"

static struct envelope env;
static struct buf out = BUF_INIT(1 << 20);

static void
build(struct report *r, const struct report_rcpt *c)
{
	r->hostname = "gate.test";
	r->id = "000000000000001";
	if (r->to == NULL)
		r->to = "a@example.org";
	r->env = &env;
	r->rcpts = c;
	r->n_rcpts = 1;
	r->now_ms = 86400000;
	if (r->content == NULL)
		r->content = "Subject: x\r\n\r\nbody\r\n";
	r->content_len = strlen(r->content);
	out.len = 0;
	T_OK(report_build(r, &out) == 0);
}

static bool
has(const char *text)
{
	if (out.len > 0 && strstr(out.data, text) != NULL)
		return (true);
	printf("# no \"%s\" in\n# %s\n", text, out.data);
	return (false);
}

static void
a_failure_has_three_parts(void)
{
	struct report_rcpt c = { "b@dest.test", "rfc822;b+40dest.test",
		"550 5.1.1 no such user", "mx.dest.test [192.0.2.1]", "5.1.1" };
	struct report r = { 0 };

	T_OK(env_init(&env) == 0);
	T_OK(env_set(&env.envid, "QQ+3D1") == 0);
	build(&r, &c);
	T_OK(has("Date: Fri, 02 Jan 1970 00:00:00 +0000\r\n"));
	T_OK(has("From: Mail Delivery System <MAILER-DAEMON@gate.test>\r\n"));
	T_OK(has("To: <a@example.org>\r\n"));
	T_OK(has("Auto-Submitted: auto-replied\r\n"));
	T_OK(has("report-type=delivery-status;\r\n"
	         "\tboundary=\"=_000000000000001\"\r\n"));
	T_OK(has("Original-Envelope-Id: QQ=1\r\n"));
	T_OK(has("Reporting-MTA: dns; gate.test\r\n"));
	T_OK(has("Original-Recipient: rfc822;b@dest.test\r\n"
	         "Final-Recipient: rfc822; b@dest.test\r\n"
	         "Action: failed\r\nStatus: 5.1.1\r\n"
	         "Remote-MTA: dns; mx.dest.test\r\n"
	         "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"));
	T_OK(has("Content-Type: message/rfc822\r\n\r\n"
	         "Subject: x\r\n\r\nbody\r\n\r\n--=_000000000000001--\r\n"));
	T_OK(report_flags(&out) == 0);
	env_fini(&env);
}

static void
no_byte_from_the_network_begins_a_line(void)
{
	struct report_rcpt c = { "b\r\nX: y@dest.test", "rfc822;+0D+0AX: y",
		"550 a\r\n--=_1\r\nX: y", "m\nX: y", "5.0.0" };
	struct report r = { .to = "a\r\nX: y@example.org" };

	T_OK(env_init(&env) == 0);
	T_OK(env_set(&env.envid, "+0AX: y") == 0 &&
	    env_set(&env.helo, "h\r\nX: y") == 0);
	build(&r, &c);
	T_OK(strstr(out.data, "\nX: y") == NULL);
	T_OK(strstr(out.data, "\n--=_1\r") == NULL);
	env_fini(&env);
}

static void
a_warning_says_until_when(void)
{
	struct report_rcpt c = { "b@dest.test", "", "450 4.2.0 busy", "",
		"4.4.7" };
	struct report r = { .delay = true,
		.header_only = true,
		.until_ms = 2 * 86400000,
		.content = "Subject: x\r\n" };

	T_OK(env_init(&env) == 0);
	build(&r, &c);
	T_OK(has("Action: delayed\r\nStatus: 4.4.7\r\n"));
	T_OK(has("Will-Retry-Until: Sat, 03 Jan 1970 00:00:00 +0000\r\n"));
	T_OK(has("Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\n"));
	T_OK(has("Diagnostic-Code: x-milldam; 450 4.2.0 busy\r\n"));
	env_fini(&env);
}

static void
eight_bit_content_and_addresses_are_declared(void)
{
	struct report_rcpt c = { "b\303\274@dest.test", "", "550 no", "",
		"5.0.0" };
	struct report r = { .content = "Subject: x\r\n\r\n.\303\274\r\n" };

	T_OK(env_init(&env) == 0);
	build(&r, &c);
	T_OK(has("Content-Transfer-Encoding: 8bit\r\n"));
	T_OK(has("report-type=global-delivery-status"));
	T_OK(has("Final-Recipient: utf-8; b\303\274@dest.test\r\n"));
	T_OK(report_flags(&out) == (ENV_8BIT | ENV_DOTS));
	env_fini(&env);
	buf_fini(&out);
}

static const struct t_case cases[] = {
	{ "a failure has three parts", a_failure_has_three_parts },
	{ "no byte from the network begins a line",
	    no_byte_from_the_network_begins_a_line },
	{ "a warning says until when", a_warning_says_until_when },
	{ "8-bit content and addresses are declared",
	    eight_bit_content_and_addresses_are_declared },
};

T_MAIN(cases)
