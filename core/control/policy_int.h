/* SPDX-License-Identifier: ISC */
#ifndef CORE_CONTROL_POLICY_INT_H
#define CORE_CONTROL_POLICY_INT_H

#include "core/control/ctl.h"
#include "core/policy/policy.h"

#include <arpa/inet.h>

/* What the parts of "milldamctl policy" share: one test, the session and
 * recipients that it is about. */
enum { RCPTS_MAX = 1000, FIELDS_MAX = 1000 };

struct test {
	struct settings *settings;
	const struct listener *listener;
	struct policy_facts facts;
	const char *rcpts[RCPTS_MAX];
	size_t n_rcpts;
	struct field fields[FIELDS_MAX];
	struct policy_verdict *verdicts;
	const char
	    *wanted[FIELDS_MAX]; /* --verdict, until there are settings */
	size_t n_wanted;
	const char *listener_name, *file;
	char name[INET6_ADDRSTRLEN + 3];
	struct policy_chain groups[RCPTS_MAX];
	size_t n_groups;
};

/* policy.c */
struct settings *policy_read(const char *path); /* or exits with 78 */
void policy_usage(void) __attribute__((__noreturn__));

/* policy_try.c */
int policy_try(int argc, char **argv, bool json);

/* policy_print.c */
void policy_print(const struct test *, const struct policy_chain *);
struct json_object *policy_json(const struct test *, const char *rcpt,
    size_t group, const struct policy_chain *);

#endif
