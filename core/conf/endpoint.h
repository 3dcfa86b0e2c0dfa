/* SPDX-License-Identifier: ISC */
#ifndef CORE_CONF_ENDPOINT_H
#define CORE_CONF_ENDPOINT_H

#include "core/conf/settings.h"

/*
 * endpoint_parse - where a milter listens, in Sendmail's or Postfix's spelling:
 * unix:/path, local:/path, /path, inet:PORT@HOST, inet6:PORT@[ADDR],
 * inet:HOST:PORT, inet:[ADDR]:PORT.  -1 with EINVAL or ENOMEM.
 */
int endpoint_parse(const char *, struct endpoint *endpoint_r)
    __attribute__((__warn_unused_result__));
void endpoint_fini(struct endpoint *);

/* hostport_parse - "HOST:PORT" or "[ADDR]:PORT"; host without brackets, yours
 * to free.  -1 with EINVAL or ENOMEM. */
int hostport_parse(const char *, char **host_r, uint16_t *port_r)
    __attribute__((__warn_unused_result__));

#endif
