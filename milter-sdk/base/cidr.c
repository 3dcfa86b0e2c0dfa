/* SPDX-License-Identifier: ISC */

/* cidr - networks; IPv4 lives in ::ffff:0:0/96 */

#include "milter-sdk/base/cidr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const uint8_t v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

/* parse_addr - *v4_r says which family the text was written in */
static int
parse_addr(const char *s, uint8_t addr[16], bool *v4_r)
{
	struct in_addr v4;

	if (strncasecmp(s, "IPv6:", 5) == 0)
		s += 5;
	*v4_r = inet_pton(AF_INET, s, &v4) == 1;
	if (*v4_r) {
		memcpy(addr, v4_prefix, sizeof(v4_prefix));
		memcpy(addr + 12, &v4, 4);
		return (0);
	}
	if (inet_pton(AF_INET6, s, addr) == 1)
		return (0);
	errno = EINVAL;
	return (-1);
}

int
cidr_parse_addr(const char *s, uint8_t addr[16])
{
	bool v4;

	return (parse_addr(s, addr, &v4));
}

/* prefix_len - decimal 0..max, or -1 */
static int
prefix_len(const char *s, int max)
{
	int n = 0;

	if (*s == '\0')
		return (-1);
	for (; *s != '\0'; s++) {
		if (*s < '0' || *s > '9' || (n = n * 10 + *s - '0') > max)
			return (-1);
	}
	return (n);
}

int
cidr_parse(const char *s, struct cidr *net)
{
	const char *slash = strchr(s, '/');
	size_t n = slash != NULL ? (size_t)(slash - s) : strlen(s);
	char text[64];
	int bits, i;
	bool v4;

	if (n >= sizeof(text))
		goto bad;
	memcpy(text, s, n);
	text[n] = '\0';
	if (parse_addr(text, net->addr, &v4) == -1)
		return (-1);
	bits = v4 ? 32 : 128;
	if (slash != NULL && (bits = prefix_len(slash + 1, bits)) == -1)
		goto bad;
	net->bits = (uint8_t)(v4 ? bits + 96 : bits);
	for (i = net->bits; i < 128; i++)
		if (net->addr[i / 8] & (0x80 >> i % 8))
			goto bad;
	return (0);

bad:
	errno = EINVAL;
	return (-1);
}

bool
cidr_has(const struct cidr *net, const uint8_t addr[16])
{
	size_t whole = net->bits / 8;
	unsigned rest = net->bits % 8;

	if (memcmp(net->addr, addr, whole) != 0)
		return (false);
	return (rest == 0 ||
	    ((net->addr[whole] ^ addr[whole]) & (0xff00 >> rest) & 0xff) == 0);
}

int
cidr_list_add(struct cidr_list *l, const char *s)
{
	struct cidr net, *nets;

	if (cidr_parse(s, &net) == -1)
		return (-1);
	if ((nets = realloc(l->nets, (l->n + 1) * sizeof(*nets))) == NULL)
		return (-1);
	l->nets = nets;
	l->nets[l->n++] = net;
	return (0);
}

bool
cidr_list_has(const struct cidr_list *l, const uint8_t addr[16])
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (cidr_has(&l->nets[i], addr))
			return (true);
	return (false);
}

void
cidr_list_fini(struct cidr_list *l)
{
	free(l->nets);
	l->nets = NULL;
	l->n = 0;
}
