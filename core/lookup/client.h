/* SPDX-License-Identifier: ISC */
#ifndef CORE_LOOKUP_CLIENT_H
#define CORE_LOOKUP_CLIENT_H

#include "core/lookup/dns.h"
#include "core/lookup/hosts.h"

struct event_base;

/* Who a client is: its name by reverse look-up, believed only if that name
 * leads back to the address.  The hosts file is asked first; loopback and
 * private ranges are not asked for in the DNS at all. */
enum { CLIENT_LIMIT_S = 5, CLIENT_NAMES_MAX = 4 };

/* resolve is Sendmail's {client_resolve}: OK FORGED TEMP FAIL */
typedef void client_fn(
    void *arg, const char *name, const char *ptr, const char *resolve);

/* client_find - fn is called exactly once, perhaps before this returns */
void client_find(struct event_base *, struct dns *, struct hosts *,
    const char *address, client_fn *, void *arg);

#endif
