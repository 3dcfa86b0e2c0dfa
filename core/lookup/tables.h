/* SPDX-License-Identifier: ISC */
#ifndef CORE_LOOKUP_TABLES_H
#define CORE_LOOKUP_TABLES_H

#include "core/conf/settings.h"
#include "core/smtp/envelope.h"

#include "milter-sdk/base/buf.h"

/* The mailertable, kept open and read again when it was replaced. */
struct tables;

struct tables *tables_new(void);
void tables_free(struct tables **);
/* tables_use - the settings' table; opened now.  A table that cannot be read
 * makes every route temporary until it can. */
void tables_use(struct tables *, const struct settings *);
/* tables_refresh - read again what changed; at most once a second */
void tables_refresh(struct tables *);
/* tables_trouble - why the table cannot be read, "" if it can; fresh_r says
 * whether that is news since the last call */
const char *tables_trouble(struct tables *, bool *fresh_r);
/* tables_route - 0, or -1 with the reason: temporary */
int tables_route(struct tables *, const struct settings *, const char *address,
    struct route *route_r, struct buf *error)
    __attribute__((__warn_unused_result__));

#endif
