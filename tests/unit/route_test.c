/* SPDX-License-Identifier: ISC */

#include "core/route/route.h"
#include "tests/lib/t.h"

#include <stdlib.h>
#include <strings.h>

static const struct {
	const char *key, *value;
} table[] = {
	{ "full.example.org", "smtp:[192.0.2.1]:2525" },
	{ ".example.org", "esmtp:hub.example.net" },
	{ "[192.0.2.9]", "relay:[literal.example]" },
	{ "no.example", "error:5.7.1:550 go away" },
	{ "code.example", "error:450 later" },
	{ "both.example", "error:550 5.1.6 \"moved on\"" },
	{ "word.example", "error:nohost" },
	{ "text.example", "error:nouser nobody of that name" },
	{ "gone.example", "discard:" },
	{ "six.example", "smtp:[IPv6:2001:db8::1]" },
	{ "bad.example", "uucp:x" },
	{ "badport.example", "smtp:[x]:99999" },
	{ "badcode.example", "error:perhaps" },
	{ "mixed.example", "error:5.1.1:450 x" },
	{ "empty.example", "smtp:" },
};

static bool with_dot, broken;

static int
get(void *arg, const char *key, struct buf *value)
{
	size_t i;

	(void)arg;
	if (broken)
		return (-1);
	if (with_dot && strcmp(key, ".") == 0)
		return (buf_addf(value, "smtp:dot.example") == 0 ? 1 : -1);
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcasecmp(table[i].key, key) == 0)
			return (buf_addf(value, "%s", table[i].value) == 0
			        ? 1
			        : -1);
	return (0);
}

/* way - the route of addr as text */
static const char *
way(const char *addr, const char *smart)
{
	static const char *const mailers[] = { "none", "smtp", "error",
		"discard" };
	static char text[600];
	struct buf error = BUF_INIT(2000);
	struct route r;

	if (route_find(get, NULL, smart, addr, &r, &error) == -1)
		(void)snprintf(text, sizeof(text), "wrong: %s",
		    error.data != NULL ? error.data : "?");
	else {
		(void)snprintf(text, sizeof(text), "%s %s %u <%s> %s",
		    mailers[r.mailer], r.host, r.port, r.addr, r.text);
		route_fini(&r);
	}
	buf_fini(&error);
	return (text);
}

static void
follows_sendmails_order(void)
{
	T_STR(way("a@FULL.example.org", NULL),
	    "smtp [192.0.2.1] 2525 <a@FULL.example.org> ");
	T_STR(way("a@x.y.example.org", NULL),
	    "smtp hub.example.net 0 <a@x.y.example.org> ");
	T_STR(
	    way("a@example.org", NULL), "smtp example.org 0 <a@example.org> ");
	T_STR(way("a@[192.0.2.9]", NULL),
	    "smtp [literal.example] 0 <a@[192.0.2.9]> ");
	T_STR(way("a@six.example", NULL),
	    "smtp [IPv6:2001:db8::1] 0 <a@six.example> ");
	T_STR(way("a@gone.example", NULL), "discard  0 <a@gone.example> ");
	with_dot = true;
	T_STR(way("a@other.test", "smtp:[smart.example]"),
	    "smtp dot.example 0 <a@other.test> ");
	with_dot = false;
}

static void
makes_replies_of_errors(void)
{
	T_STR(way("a@no.example", NULL),
	    "error 5.7.1 0 <a@no.example> 550 5.7.1 go away");
	T_STR(way("a@code.example", NULL),
	    "error 4.0.0 0 <a@code.example> 450 4.0.0 later");
	T_STR(way("a@both.example", NULL),
	    "error 5.1.6 0 <a@both.example> 550 5.1.6 moved on");
	T_STR(way("a@word.example", NULL),
	    "error 5.1.2 0 <a@word.example> 550 5.1.2 Host unknown");
	T_STR(way("a@text.example", NULL),
	    "error 5.1.1 0 <a@text.example> 550 5.1.1 nobody of that name");
}

static void
falls_back_to_smart_host_and_domain(void)
{
	T_STR(way("a@else.test", "smtp:[127.0.0.1]:25"),
	    "smtp [127.0.0.1] 25 <a@else.test> ");
	T_STR(way("a@else.test.", NULL), "smtp else.test 0 <a@else.test.> ");
}

static void
says_what_is_wrong(void)
{
	T_STR(way("a@bad.example", NULL),
	    "wrong: mailertable: bad.example: uucp:x: mailer is not smtp:, "
	    "esmtp:, relay:, error: or discard:");
	T_STR(way("a@badport.example", NULL),
	    "wrong: mailertable: badport.example: smtp:[x]:99999: port is not "
	    "1 to 65535");
	T_OK(strstr(way("a@badcode.example", NULL), "after error:") != NULL);
	T_OK(strstr(way("a@mixed.example", NULL), "disagree") != NULL);
	T_OK(strstr(way("a@empty.example", NULL), "no host") != NULL);
	broken = true;
	T_STR(way("a@x.test", NULL), "wrong: mailertable cannot be read");
	broken = false;
}

static void
refuses_odd_recipients(void)
{
	T_OK(strstr(way("nobody", NULL), "553 5.1.3") != NULL);
	T_OK(strstr(way("a@", NULL), "553 5.1.3") != NULL);
	T_OK(strstr(way("a@b c", NULL), "553 5.1.3") != NULL);
	T_OK(strstr(way("a@[", NULL), "553 5.1.3") != NULL);
	T_OK(strstr(way("a@x\r\nDATA", NULL), "553 5.1.3") != NULL);
}

static const struct t_case cases[] = {
	{ "the order is Sendmail's", follows_sendmails_order },
	{ "error: becomes a reply", makes_replies_of_errors },
	{ "smart host, then the domain", falls_back_to_smart_host_and_domain },
	{ "a mistake is explained", says_what_is_wrong },
	{ "odd recipients are refused", refuses_odd_recipients },
};

T_MAIN(cases)
