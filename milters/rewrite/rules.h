/* SPDX-License-Identifier: ISC */
#ifndef MILTERS_REWRITE_RULES_H
#define MILTERS_REWRITE_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Header rules: pure functions over a working copy of the header, so that a
 * rule sees what the rules before it made.  One rule set may be used by many
 * threads; a header belongs to one.
 */

enum rule_action { RULE_ADD, RULE_INSERT, RULE_CHANGE, RULE_DELETE };

enum {
	RULES_MAX = 1000,
	RULE_VALUE_MAX = 64 << 10, /* bytes of a value made by a rule */
	RULE_LINE_MAX = 998,       /* RFC 5322 2.1.1, name included */
	RULE_FOLD_AT = 78
};

struct rule_limits { /* of one match, see pcre2_set_match_limit(3) */
	uint32_t match, depth, heap_kib;
};

struct rule; /* one */

struct rules {
	struct rule *list;
	size_t n;
	struct rule_limits limits;
	void *match_context; /* made by rules_init() */
};

struct rule_source {       /* as it stands in the settings; NULL: absent */
	const char *title; /* for the log; NULL: the field's name */
	const char *name;  /* the field to add, change or delete */
	const char *in;    /* the field that match looks at; NULL: name */
	const char *match;
	const char *value;
	enum rule_action action;
};

struct field {             /* one line of the working copy */
	const char *name;  /* borrowed */
	const char *value; /* unfolded; borrowed, or text */
	size_t nth;        /* fields of that name before it, as they arrived */
	char *text;        /* made by a rule; NULL: as it arrived */
	bool deleted;
};

struct new_field {
	const char *name; /* the rule's */
	char *value;
	bool insert; /* at the top */
};

struct header {
	struct field *fields;
	size_t n;
	struct new_field *added; /* in the order of the rules */
	size_t n_added;
};

int rules_init(struct rules *, const struct rule_limits *)
    __attribute__((__warn_unused_result__));
void rules_fini(struct rules *);

/*
 * rules_add - compile one rule.  0; -1 with *option_r the name of the wrong
 * option and the mistake in text; errno EINVAL, or ENOMEM.
 */
int rules_add(struct rules *, const struct rule_source *, const char **option_r,
    char *text, size_t room) __attribute__((__warn_unused_result__));

/*
 * header_init - a working copy with room for n fields, all zero: the caller
 * fills in name, value and nth.  -1 ENOMEM.
 */
int header_init(struct header *, size_t n)
    __attribute__((__warn_unused_result__));
void header_fini(struct header *);

/*
 * rules_apply - all rules in order.  -1 with *title_r the rule at fault and
 * the reason in text: a match over its limits (errno E2BIG), a value over its
 * limit (EMSGSIZE), ENOMEM.
 */
int rules_apply(const struct rules *, struct header *, const char **title_r,
    char *text, size_t room) __attribute__((__warn_unused_result__));

#endif
