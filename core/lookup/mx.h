/* SPDX-License-Identifier: ISC */
#ifndef CORE_LOOKUP_MX_H
#define CORE_LOOKUP_MX_H

#include "core/conf/settings.h"
#include "core/lookup/dns.h"
#include "core/lookup/hosts.h"

#include <netinet/in.h>

/*
 * The addresses of a next hop (RFC 5321 5.1, RFC 7505).
 *
 *	[192.0.2.1]  [IPv6:2001:db8::1]   that address
 *	[mx.example.org]                  that host's addresses, no MX
 *	example.org                       its mail exchangers, else itself
 */
enum {
	MX_HOSTS_MAX = 20, /* exchangers that are looked at, best first */
	MX_ADDRS_MAX = 40  /* addresses in the answer */
};

enum mx_status { MX_OK, MX_TEMP, MX_PERM };

struct mx_addr {
	const char *name;
	char addr[INET6_ADDRSTRLEN];
	uint16_t pref;
};

struct mx_result {
	enum mx_status status;
	const char *reason; /* "5.1.2 ..." unless MX_OK */
	const struct mx_addr *addrs;
	size_t n;
};

/* what the search needs; borrowed while a search is under way */
struct mx_env {
	struct dns *dns;
	struct hosts *hosts;
	struct settings *settings;
};

typedef void mx_fn(void *arg, const struct mx_result *);

/* mx_find - fn is called exactly once, perhaps before this returns; the result
 * is valid until it returns */
void mx_find(struct mx_env *, const char *host, mx_fn *, void *arg);

#endif
