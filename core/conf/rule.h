/* SPDX-License-Identifier: ISC */
#ifndef CORE_CONF_RULE_H
#define CORE_CONF_RULE_H

#include "core/conf/reader.h"

/* What the readers of policies, rules and changes share. */
enum { NOT_FOUND = -1 };

/* find_milter - its index, or NOT_FOUND */
long find_milter(const struct settings *, const char *name, size_t len);
/* read_rule - once the policy's authoriser and chain are known */
void read_rule(struct reader *, struct conf_node *, struct policy *);
void rule_fini(struct rule *);
/* read_changes - what the rule does; check_changes() comes when all rules of
 * the policy are read and its reach is known */
void read_changes(
    struct reader *, struct conf_node *, const struct policy *, struct rule *);
void check_changes(struct reader *, const struct policy *);

#endif
