/* SPDX-License-Identifier: ISC */

/* hop - socket addresses of a next hop */

#include "core/relay/hop.h"

#include "milter-sdk/base/cidr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SMTP_PORT = 25 };

/* add - one numeric address; -1 with EPROTO if it is none */
static int
add(struct hop_addrs *h, const char *name, const char *addr, uint16_t port)
{
	static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };
	struct hop_addr *a;
	struct sockaddr_in *in;
	struct sockaddr_in6 *in6;
	struct buf remote = BUF_INIT(512);
	uint8_t raw[16];

	if (cidr_parse_addr(addr, raw) == -1 || h->n >= HOP_ADDRS_MAX ||
	    strlen(name) > 255) {
		errno = EPROTO;
		return (-1);
	}
	if ((a = realloc(h->v, (h->n + 1) * sizeof(*a))) == NULL)
		return (-1);
	h->v = a;
	a += h->n;
	memset(a, 0, sizeof(*a));
	if (buf_addf(&remote, "%s [%s]", name, addr) == -1)
		return (-1);
	a->remote = buf_take(&remote, NULL);
	h->n++;
	port = htons(port != 0 ? port : SMTP_PORT);
	if (memcmp(raw, v4, sizeof(v4)) == 0) {
		in = (struct sockaddr_in *)&a->sa;
		in->sin_family = AF_INET;
		in->sin_port = port;
		memcpy(&in->sin_addr, raw + 12, 4);
		a->sa_len = sizeof(*in);
	} else {
		in6 = (struct sockaddr_in6 *)&a->sa;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = port;
		memcpy(&in6->sin6_addr, raw, 16);
		a->sa_len = sizeof(*in6);
	}
	return (0);
}

int
hop_literal(const char *host, uint16_t port, struct hop_addrs *h)
{
	char addr[INET6_ADDRSTRLEN + 8];
	uint8_t raw[16];
	size_t n = strlen(host);

	if (n < 3 || host[0] != '[' || host[n - 1] != ']' ||
	    n - 2 >= sizeof(addr))
		return (0);
	memcpy(addr, host + 1, n - 2);
	addr[n - 2] = '\0';
	if (cidr_parse_addr(addr, raw) == -1)
		return (0);
	return (add(h, host, addr, port) == -1 ? -1 : 1);
}

int
hop_unpack(struct unpacker *u, uint16_t port, struct hop_addrs *h)
{
	uint32_t i, n = unpack_u32(u);
	const char *name, *addr;

	if (u->failed || n > HOP_ADDRS_MAX) {
		errno = EPROTO;
		return (-1);
	}
	for (i = 0; i < n; i++) {
		name = unpack_str(u);
		addr = unpack_str(u);
		(void)unpack_u16(u);
		if (u->failed || add(h, name, addr, port) == -1)
			return (-1);
	}
	return (unpack_end(u));
}

void
hop_fini(struct hop_addrs *h)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		free(h->v[i].remote);
	free(h->v);
	memset(h, 0, sizeof(*h));
}
