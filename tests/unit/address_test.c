/* SPDX-License-Identifier: ISC */

/* address_test - masquerading touches the domain and nothing else */

#include "milters/rewrite/address.h"
#include "tests/lib/t.h"

#include <stdlib.h>

static const char *const domains[] = { "host.example.org", ".in.example.org",
	NULL };
static const char *const exposed[] = { "root", "ann@host.example.org", NULL };
static const struct masquerade m = { "example.org", domains, exposed };

/* field - the value masqueraded, or "=" if it stays */
static const char *
field(const char *value)
{
	static char *text;
	int rc;

	free(text);
	rc = address_masquerade_field(&m, value, &text);
	return (rc == 1 ? text : rc == 0 ? "=" : "error");
}

static const char *
envelope(const char *addr)
{
	static char *text;
	int rc;

	free(text);
	rc = address_masquerade(&m, addr, &text);
	return (rc == 1 ? text : rc == 0 ? "=" : "error");
}

static void
changes_the_two_forms_of_an_address(void)
{
	T_STR(field("bob@host.example.org"), "bob@example.org");
	T_STR(field("Bob <bob@host.example.org>"), "Bob <bob@example.org>");
	T_STR(field(" <bob@HOST.Example.Org> "), " <bob@example.org> ");
	T_STR(field("bob@a.b.in.example.org"), "bob@example.org");
}

static void
leaves_other_domains(void)
{
	T_STR(field("bob@example.org"), "=");
	T_STR(field("bob@in.example.org"), "=");
	T_STR(field("bob@xhost.example.org"), "=");
	T_STR(field("bob@host.example.org.evil.test"), "=");
	T_STR(field("bob"), "=");
	T_STR(field(""), "=");
	T_STR(field("bob@[192.0.2.1]"), "=");
}

static void
walks_lists_and_groups(void)
{
	T_STR(field("a@host.example.org, x@y.test,\n\tC <c@host.example.org>"),
	    "a@example.org, x@y.test,\n\tC <c@example.org>");
	T_STR(field("staff: a@host.example.org, b@host.example.org;, z@q.test"),
	    "staff: a@example.org, b@example.org;, z@q.test");
	T_STR(field("undisclosed-recipients:;"), "=");
	T_STR(field("a@host.example.org,,b@host.example.org"),
	    "a@example.org,,b@example.org");
}

static void
leaves_names_quotes_and_comments(void)
{
	T_STR(field("\"x@host.example.org\" <b@host.example.org> (at "
	            "c@host.example.org)"),
	    "\"x@host.example.org\" <b@example.org> (at c@host.example.org)");
	T_STR(field("x@host.example.org <b@y.test>"), "=");
	T_STR(field("(a (b) \\) x@host.example.org) b@host.example.org (c)"),
	    "(a (b) \\) x@host.example.org) b@example.org (c)");
	T_STR(field("\"a, b\\\"<c@host.example.org>\" <d@host.example.org>"),
	    "\"a, b\\\"<c@host.example.org>\" <d@example.org>");
	T_STR(field("\"j d\".x@host.example.org"), "\"j d\".x@example.org");
	T_STR(field("=?utf-8?q?J=C3=B6?= <j@host.example.org>"),
	    "=?utf-8?q?J=C3=B6?= <j@example.org>");
}

static void
reads_source_routes(void)
{
	T_STR(field("<@host.example.org,@b.test:u@host.example.org>"),
	    "<@host.example.org,@b.test:u@example.org>");
	T_STR(field("<@host.example.org:u@y.test>"), "=");
}

static void
leaves_what_it_cannot_read(void)
{
	T_STR(field("a@host.example.org, \"open <b@host.example.org>"), "=");
	T_STR(field("a@host.example.org, (open"), "=");
	T_STR(field("a@host.example.org, <b@host.example.org"), "=");
	T_STR(field("a@host.example.org) b"), "=");
	T_STR(field("a@host.example.org, [x"), "=");
	T_STR(field("a@host.example.org, \"x\\"), "=");
	/* These end somewhere; only the odd element stays. */
	T_STR(field("Joe Doe joe@host.example.org, b@host.example.org"),
	    "Joe Doe joe@host.example.org, b@example.org");
	T_STR(field("a@b@host.example.org"), "=");
	T_STR(field("a@host.example.org x"), "=");
	T_STR(field("@host.example.org"), "=");
	T_STR(field("a@\"host.example.org\""), "=");
	T_STR(field("<a@host.example.org <b@host.example.org>>"), "=");
}

static void
exposes_users(void)
{
	T_STR(
	    field("root@host.example.org, Root <ROOT@host.example.org>"), "=");
	T_STR(field("\"root\"@host.example.org"), "=");
	T_STR(field("\"ro\\ot\"@host.example.org"), "=");
	T_STR(field("ann@host.example.org, ann@x.in.example.org"),
	    "ann@host.example.org, ann@example.org");
	T_STR(field("rooty@host.example.org"), "rooty@example.org");
	T_STR(envelope("root@host.example.org"), "=");
}

static void
changes_the_envelope(void)
{
	T_STR(envelope("bob@host.example.org"), "bob@example.org");
	T_STR(envelope("\"a@b\"@host.example.org"), "\"a@b\"@example.org");
	T_STR(envelope(""), "=");
	T_STR(envelope("bob"), "=");
	T_STR(envelope("@host.example.org"), "=");
	T_STR(envelope("bob@y.test"), "=");
}

static void
is_off_without_a_domain(void)
{
	const struct masquerade off = { NULL, domains, exposed };
	char *text;

	T_OK(address_masquerade_field(&off, "b@host.example.org", &text) == 0);
	T_OK(address_masquerade(&off, "b@host.example.org", &text) == 0);
}

static void
checks_domains(void)
{
	T_OK(address_is_domain("example.org"));
	T_OK(address_is_domain("b\xc3\xbc"
	                       "cher.example"));
	T_OK(!address_is_domain(""));
	T_OK(!address_is_domain("a..b"));
	T_OK(!address_is_domain(".a"));
	T_OK(!address_is_domain("a."));
	T_OK(!address_is_domain("a b"));
	T_OK(!address_is_domain("a@b"));
}

static const struct t_case cases[] = {
	{ "masquerade: changes the two forms of an address",
	    changes_the_two_forms_of_an_address },
	{ "masquerade: leaves other domains", leaves_other_domains },
	{ "masquerade: walks lists and groups", walks_lists_and_groups },
	{ "masquerade: leaves names, quotes and comments",
	    leaves_names_quotes_and_comments },
	{ "masquerade: reads source routes", reads_source_routes },
	{ "masquerade: leaves what it cannot read",
	    leaves_what_it_cannot_read },
	{ "masquerade: exposes users", exposes_users },
	{ "masquerade: changes the envelope", changes_the_envelope },
	{ "masquerade: is off without a domain", is_off_without_a_domain },
	{ "masquerade: checks domains", checks_domains },
};

T_MAIN(cases)
