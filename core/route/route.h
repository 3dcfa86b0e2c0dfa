/* SPDX-License-Identifier: ISC */
#ifndef CORE_ROUTE_ROUTE_H
#define CORE_ROUTE_ROUTE_H

#include "core/smtp/envelope.h"

#include "milter-sdk/base/buf.h"

/*
 * Where a recipient goes: Sendmail's mailertable, else the smart host, else the
 * domain itself.  Pure: the table is asked through a function.
 *
 * Look-up order for user@host.sub.example: host.sub.example, .sub.example,
 * .example, "."; a domain literal: [192.0.2.1], then ".".  Values:
 *
 *	smtp:example.org            MX of example.org (esmtp:, relay: likewise)
 *	smtp:[mx.example.org]       that host, no MX
 *	smtp:[192.0.2.1]:2525       also [IPv6:2001:db8::1] and host:port
 *	error:5.7.1:550 text        enhanced code, reply code, text
 *	error:550 text              reply code, text (which may begin
 *with 5.1.1) error:nohost text           nouser nohost unavailable tempfail
 *usage software protocol config; text optional discard: accepted and thrown
 *away
 */

/* route_get_fn - the value of key in the table: 1 found and appended, 0 absent,
 * -1 the table cannot be read */
typedef int route_get_fn(void *arg, const char *key, struct buf *value);

/*
 * route_parse - one value, for addr.  -1 with EINVAL and the reason in error,
 * or ENOMEM; route_r is empty then.
 */
int route_parse(const char *value, const char *addr, struct route *route_r,
    struct buf *error) __attribute__((__warn_unused_result__));

/*
 * route_find - the route of addr (local@domain).  get NULL: no table; smart
 * NULL: no smart host.  A recipient without a domain gets MAILER_ERROR 5.1.3.
 * -1 with the reason in error: unreadable table (EIO), mistaken value (EINVAL,
 * the key is named), ENOMEM.  All of them are temporary for the sender.
 */
int route_find(route_get_fn *get, void *arg, const char *smart,
    const char *addr, struct route *route_r, struct buf *error)
    __attribute__((__warn_unused_result__));

#endif
