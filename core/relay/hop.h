/* SPDX-License-Identifier: ISC */
#ifndef CORE_RELAY_HOP_H
#define CORE_RELAY_HOP_H

#include "milter-sdk/base/pack.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* The addresses at which a next hop may be reached, in the order to try. */
enum { HOP_ADDRS_MAX = 40 };

struct hop_addr {
	struct sockaddr_storage sa;
	socklen_t sa_len;
	char *remote; /* "mx.example.org [192.0.2.1]", for the log */
};

struct hop_addrs {
	struct hop_addr *v;
	size_t n, next; /* next to try */
};

/* hop_literal - "[192.0.2.1]", "[IPv6:2001:db8::1]": 1 and the address, 0 when
 * host is none, -1 with ENOMEM */
int hop_literal(const char *host, uint16_t port, struct hop_addrs *);
/* hop_unpack - the list of MSG_HOSTS_R; -1 with EPROTO or ENOMEM */
int hop_unpack(struct unpacker *, uint16_t port, struct hop_addrs *);
void hop_fini(struct hop_addrs *);

#endif
