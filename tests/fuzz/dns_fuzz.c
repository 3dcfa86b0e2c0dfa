/* SPDX-License-Identifier: ISC */

/*
 * dns_fuzz - any bytes as the answer of a name server
 *
 * The first byte chooses what was asked.  Names that come out must be host
 * names, counts and times within their limits.
 *
 * coverage: core/lookup/dns_parse.c
 */

#include "core/lookup/dns.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const enum dns_type types[] = { DNS_A, DNS_AAAA, DNS_MX,
		DNS_PTR };
	struct dns_answer a;
	enum dns_type type;
	char room[64];
	size_t i;

	if (n == 0)
		return (0);
	type = types[p[0] % 4];
	if (dns_parse(p + 1, n - 1, type, &a) == -1) {
		check(a.rrs == NULL && a.n == 0);
		return (0);
	}
	check(a.n <= DNS_RRS_MAX && a.ttl_s <= DNS_TTL_MAX);
	check(a.n == 0 || a.status == DNS_OK);
	for (i = 0; i < a.n; i++) {
		check(dns_addr_text(a.rrs[i].addr, room) != NULL);
		check((type == DNS_MX || type == DNS_PTR) ==
		    (a.rrs[i].name != NULL));
		check(a.rrs[i].name == NULL || dns_is_host(a.rrs[i].name) ||
		    (type == DNS_MX && a.rrs[i].name[0] == '\0'));
	}
	dns_answer_fini(&a);
	return (0);
}
