/* SPDX-License-Identifier: ISC */

/* rules_test - header rules on a header in memory */

#include "milters/rewrite/rules.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct rule_limits limits = { 10000, 1000, 1024 };
static struct rules rules;
static struct header header;
static const char *option;
static char why[200];

static void
begin(void)
{
	T_OK(rules_init(&rules, &limits) == 0);
	T_OK(header_init(&header, 4) == 0);
	header.fields[0] =
	    (struct field){ .name = "Subject", .value = "cheap [list] pills" };
	header.fields[1] = (struct field){ .name = "X-A", .value = "one" };
	header.fields[2] =
	    (struct field){ .name = "x-a", .value = "two", .nth = 1 };
	header.fields[3] = (struct field){ .name = "To", .value = "x" };
}

static void
end(void)
{
	header_fini(&header);
	rules_fini(&rules);
}

static int
rule(enum rule_action action, const char *name, const char *match,
    const char *value)
{
	const struct rule_source src = {
		.name = name, .match = match, .value = value, .action = action
	};

	why[0] = '\0';
	return (rules_add(&rules, &src, &option, why, sizeof(why)));
}

static int
apply(void)
{
	const char *title;

	return (rules_apply(&rules, &header, &title, why, sizeof(why)));
}

static void
changes_with_groups(void)
{
	begin();
	T_OK(rule(RULE_CHANGE, "subject", "^(.*) \\[(\\w+)\\] (.*)$",
	         "$2: $1 $3 $$5") == 0);
	T_OK(apply() == 0);
	T_STR(header.fields[0].text, "list: cheap pills $5");
	T_OK(header.fields[1].text == NULL);
	end();
}

static void
changes_only_what_matches(void)
{
	begin();
	T_OK(rule(RULE_CHANGE, "X-A", "tw", "<$0>") == 0);
	T_OK(apply() == 0);
	T_OK(header.fields[1].text == NULL);
	T_STR(header.fields[2].text, "<tw>");
	end();
}

static void
later_rules_see_earlier_ones(void)
{
	begin();
	T_OK(rule(RULE_CHANGE, "X-A", "one", "three") == 0);
	T_OK(rule(RULE_CHANGE, "X-A", "^three$", "four") == 0);
	T_OK(rule(RULE_DELETE, "X-A", "two", NULL) == 0);
	T_OK(rule(RULE_CHANGE, "X-A", "two", "five") == 0);
	T_OK(apply() == 0);
	T_STR(header.fields[1].text, "four");
	T_OK(header.fields[2].deleted && header.fields[2].text == NULL);
	end();
}

static void
adds_and_inserts(void)
{
	const struct rule_source src = { .name = "X-Flag",
		.in = "Subject",
		.match = "(pills)",
		.value = "has $1",
		.action = RULE_INSERT };

	begin();
	T_OK(rule(RULE_ADD, "X-Site", NULL, "gate $$") == 0);
	T_OK(rule(RULE_ADD, "X-None", "never", "x") == 0);
	T_OK(rule(RULE_ADD, "X-A", "o", "saw $0") == 0); /* once, not twice */
	T_OK(rules_add(&rules, &src, &option, why, sizeof(why)) == 0);
	T_OK(apply() == 0);
	T_OK(header.n_added == 3);
	T_STR(header.added[0].value, "gate $");
	T_OK(!header.added[0].insert);
	T_STR(header.added[1].value, "saw o");
	T_STR(header.added[2].name, "X-Flag");
	T_STR(header.added[2].value, "has pills");
	T_OK(header.added[2].insert);
	end();
}

static void
deletes_all_without_a_match(void)
{
	begin();
	T_OK(rule(RULE_DELETE, "x-A", NULL, NULL) == 0);
	T_OK(apply() == 0);
	T_OK(header.fields[1].deleted && header.fields[2].deleted);
	T_OK(!header.fields[0].deleted && !header.fields[3].deleted);
	end();
}

static void
a_match_over_its_limits_is_an_error(void)
{
	begin();
	header.fields[0].value =
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
	T_OK(rule(RULE_DELETE, "Subject", "^(a+)+$", NULL) == 0);
	errno = 0;
	T_OK(apply() == -1 && errno == E2BIG);
	T_OK(strstr(why, "limit") != NULL);
	end();
}

static void
text_of_the_message_begins_no_line(void)
{
	begin();
	header.fields[3].value = "a\rb\001c";
	T_OK(rule(RULE_CHANGE, "To", "(?s)^(.*)$", "<$1>") == 0);
	T_OK(apply() == 0);
	T_STR(header.fields[3].text, "<a?b?c>");
	end();
}

static void
folds_long_values(void)
{
	static char in[3000], word[2000];
	const char *p, *nl;
	size_t i;

	for (i = 0; i < sizeof(in) - 1; i++)
		in[i] = i % 10 == 9 ? ' ' : 'x';
	memset(word, 'y', sizeof(word) - 1);
	begin();
	header.fields[0].value = in;
	T_OK(rule(RULE_CHANGE, "Subject", "(?s).*", "[tag] $0") == 0);
	T_OK(apply() == 0);
	for (p = header.fields[0].text; p != NULL && *p != '\0'; p = nl) {
		nl = strchr(p, '\n');
		nl = nl != NULL ? nl + 1 : p + strlen(p);
		T_OK(nl - p <= 80);
		T_OK(*nl == '\0' || *nl == ' ');
	}
	header.fields[0].value = word;
	free(header.fields[0].text);
	header.fields[0].text = NULL;
	T_OK(apply() == -1 && errno == EMSGSIZE);
	end();
}

static void
a_value_over_its_limit_is_an_error(void)
{
	static char in[RULE_VALUE_MAX + 1];
	size_t i;

	for (i = 0; i < sizeof(in) - 1; i++)
		in[i] = i % 10 == 9 ? ' ' : 'x';
	begin();
	header.fields[0].value = in;
	T_OK(rule(RULE_CHANGE, "Subject", "(?s)^x.*", "$0$0") == 0);
	T_OK(apply() == -1 && errno == EMSGSIZE);
	end();
}

static void
reports_mistakes(void)
{
	static const struct {
		struct rule_source src;
		const char *option;
	} rows[] = {
		{ { .match = "x", .action = RULE_DELETE }, "name" },
		{ { .name = "A B", .action = RULE_DELETE }, "name" },
		{ { .name = "A:", .action = RULE_DELETE }, "name" },
		{ { .name = "A", .match = "(x", .action = RULE_DELETE },
		    "match" },
		{ { .name = "A", .match = "(*UTF)x", .action = RULE_DELETE },
		    "match" },
		{ { .name = "A", .value = "x", .action = RULE_DELETE },
		    "value" },
		{ { .name = "A", .action = RULE_ADD }, "value" },
		{ { .name = "A", .value = "$1", .action = RULE_ADD }, "value" },
		{ { .name = "A", .match = "(x)", .value = "$2" }, "value" },
		{ { .name = "A", .value = "x$" }, "value" },
		{ { .name = "A", .value = "x\ny" }, "value" },
		{ { .name = "A", .value = "x\001y" }, "value" },
		{ { .name = "A", .in = "B", .value = "x" }, "in" },
	};
	size_t i;

	begin();
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		why[0] = '\0';
		T_OK(rules_add(&rules, &rows[i].src, &option, why,
		         sizeof(why)) == -1 &&
		    errno == EINVAL);
		T_STR(option, rows[i].option);
		T_OK(why[0] != '\0');
	}
	T_OK(rules.n == 0);
	end();
}

static const struct t_case cases[] = {
	{ "rules: changes with groups", changes_with_groups },
	{ "rules: changes only what matches", changes_only_what_matches },
	{ "rules: later rules see earlier ones", later_rules_see_earlier_ones },
	{ "rules: adds and inserts", adds_and_inserts },
	{ "rules: deletes all without a match", deletes_all_without_a_match },
	{ "rules: a match over its limits is an error",
	    a_match_over_its_limits_is_an_error },
	{ "rules: text of the message begins no line",
	    text_of_the_message_begins_no_line },
	{ "rules: folds long values", folds_long_values },
	{ "rules: a value over its limit is an error",
	    a_value_over_its_limit_is_an_error },
	{ "rules: reports mistakes", reports_mistakes },
};

T_MAIN(cases)
