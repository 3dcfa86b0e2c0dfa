/* SPDX-License-Identifier: ISC */
#ifndef CORE_LOOKUP_RULE_TABLES_H
#define CORE_LOOKUP_RULE_TABLES_H

#include "core/conf/settings.h"

#include "milter-sdk/base/buf.h"

/* The tables that policies' rules ask, kept open and read again when they were
 * replaced. */
struct rule_tables;

struct rule_tables *rule_tables_new(void);
void rule_tables_free(struct rule_tables **);
/* rule_tables_use - those of the settings, opened now */
int rule_tables_use(struct rule_tables *, const struct settings *)
    __attribute__((__warn_unused_result__));
/* rule_tables_get - the value of key, appended: 1 found, 0 absent, -1: the
 * table cannot be read, or is none of the settings'; why in error, "" if that
 * is no news */
int rule_tables_get(struct rule_tables *, const char *table, const char *key,
    struct buf *value, struct buf *error)
    __attribute__((__warn_unused_result__));

#endif
