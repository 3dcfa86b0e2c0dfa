/* SPDX-License-Identifier: ISC */

#include "milter-sdk/base/cidr.h"
#include "tests/lib/t.h"

static const struct {
	const char *net, *addr;
	int has; /* -1: net is a mistake */
} rows[] = {
	{ "192.0.2.0/24", "192.0.2.255", 1 },
	{ "192.0.2.0/24", "192.0.3.0", 0 },
	{ "192.0.2.0/25", "192.0.2.128", 0 },
	{ "192.0.2.1", "192.0.2.1", 1 },
	{ "192.0.2.1", "::ffff:192.0.2.1", 1 },
	{ "0.0.0.0/0", "192.0.2.1", 1 },
	{ "0.0.0.0/0", "2001:db8::1", 0 },
	{ "::/0", "192.0.2.1", 1 },
	{ "2001:db8::/32", "2001:db8:1::1", 1 },
	{ "2001:db8::/33", "2001:db8:8000::1", 0 },
	{ "IPv6:::1", "::1", 1 },
	{ "192.0.2.1/24", "", -1 },
	{ "192.0.2.0/33", "", -1 },
	{ "192.0.2.0/", "", -1 },
	{ "192.0.2.0/2x", "", -1 },
	{ "192.0.2", "", -1 },
	{ "2001:db8::/129", "", -1 },
	{ "", "", -1 },
};

static void
rows_hold(void)
{
	struct cidr net;
	uint8_t addr[16];
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		printf("# %s %s\n", rows[i].net, rows[i].addr);
		if (rows[i].has == -1) {
			T_OK(cidr_parse(rows[i].net, &net) == -1);
			continue;
		}
		T_OK(cidr_parse(rows[i].net, &net) == 0);
		T_OK(cidr_parse_addr(rows[i].addr, addr) == 0);
		T_OK(cidr_has(&net, addr) == (rows[i].has == 1));
	}
}

static const struct t_case cases[] = {
	{ "cidr: networks, addresses and mistakes, by row", rows_hold },
};

T_MAIN(cases)
