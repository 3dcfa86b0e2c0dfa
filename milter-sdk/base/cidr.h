/* SPDX-License-Identifier: ISC */
#ifndef BASE_CIDR_H
#define BASE_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Networks in CIDR notation.  IPv4 is kept as ::ffff:a.b.c.d, so that a mapped
 * address and its plain form are one. */
struct cidr {
	uint8_t addr[16];
	uint8_t bits; /* 0..128 of addr */
};

struct cidr_list {
	struct cidr *nets;
	size_t n;
};

/* cidr_parse - "192.0.2.0/24", "2001:db8::/32", "IPv6:::1", a bare address.
 * -1 with EINVAL; bits set beyond the prefix are EINVAL too (a likely typing
 * error). */
int cidr_parse(const char *, struct cidr *net_r);
int cidr_parse_addr(const char *, uint8_t addr_r[16]);
bool cidr_has(const struct cidr *, const uint8_t addr[16]);

int cidr_list_add(struct cidr_list *, const char *)
    __attribute__((__warn_unused_result__));
bool cidr_list_has(const struct cidr_list *, const uint8_t addr[16]);
void cidr_list_fini(struct cidr_list *);

#endif
