/* SPDX-License-Identifier: ISC */

/*
 * dns_parse - records of a DNS answer (RFC 1035 4.1)
 *
 * c-ares parses answers too, but its MX and PTR readers lose the TTL.  The
 * bytes are the network's: every length is checked here or in
 * ares_expand_name().
 */

#include "core/lookup/dns.h"

#include <ares.h>
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

struct reader {
	const unsigned char *msg;
	size_t n, off;
};

static unsigned
get16(const unsigned char *p)
{
	return ((unsigned)p[0] << 8 | p[1]);
}

/* get_name - expand the name at off into *name_r (NULL: only skip it) */
static int
get_name(struct reader *r, char **name_r)
{
	char *name;
	long used;

	if (r->off >= r->n ||
	    ares_expand_name(r->msg + r->off, r->msg, (int)r->n, &name,
	        &used) != ARES_SUCCESS)
		return (-1);
	r->off += (size_t)used;
	if (name_r != NULL)
		*name_r = strdup(name);
	ares_free_string(name);
	return (name_r != NULL && *name_r == NULL ? -1 : 0);
}

bool
dns_is_host(const char *s)
{
	size_t i, label = 0;

	for (i = 0; s[i] != '\0'; i++) {
		if (s[i] == '.') {
			if (label == 0)
				return (false);
			label = 0;
		} else if (isalnum((unsigned char)s[i]) || s[i] == '-' ||
		    s[i] == '_') {
			if (++label > 63)
				return (false);
		} else
			return (false);
	}
	return (i > 0 && i <= DNS_NAME_MAX);
}

bool
dns_is_v4(const uint8_t addr[16])
{
	return (memcmp(addr, v4_prefix, sizeof(v4_prefix)) == 0);
}

const char *
dns_addr_text(const uint8_t addr[16], char *room)
{
	if (dns_is_v4(addr))
		return (inet_ntop(AF_INET, addr + 12, room, INET6_ADDRSTRLEN));
	return (inet_ntop(AF_INET6, addr, room, INET6_ADDRSTRLEN));
}

/* get_rdata - one record of the type that was asked for; 0, -1 malformed, 1
 * well-formed but no use (a name that is no host name) */
static int
get_rdata(struct reader r, size_t len, enum dns_type type, struct dns_rr *rr)
{
	memset(rr, 0, sizeof(*rr));
	switch (type) {
	case DNS_A:
		if (len != 4)
			return (-1);
		memcpy(rr->addr, v4_prefix, sizeof(v4_prefix));
		memcpy(rr->addr + 12, r.msg + r.off, 4);
		return (0);
	case DNS_AAAA:
		if (len != 16)
			return (-1);
		memcpy(rr->addr, r.msg + r.off, 16);
		return (0);
	case DNS_MX:
		if (len < 3)
			return (-1);
		rr->pref = (uint16_t)get16(r.msg + r.off);
		r.off += 2;
		break;
	case DNS_PTR:
		break;
	}
	if (get_name(&r, &rr->name) == -1)
		return (-1);
	if (dns_is_host(rr->name) || (type == DNS_MX && *rr->name == '\0'))
		return (0);
	free(rr->name);
	rr->name = NULL;
	return (1);
}

/* get_rr - the next record; kept if it is of the type */
static int
get_rr(struct reader *r, enum dns_type type, struct dns_answer *a)
{
	const unsigned char *p;
	struct dns_rr *rr;
	uint32_t ttl;
	size_t len;
	bool ours;
	int rc;

	if (get_name(r, NULL) == -1 || r->n - r->off < 10)
		return (-1);
	p = r->msg + r->off;
	ttl = (uint32_t)get16(p + 4) << 16 | get16(p + 6);
	len = get16(p + 8);
	r->off += 10;
	if (r->n - r->off < len)
		return (-1);
	/* Of a chain of aliases the shortest life counts.  A TTL with the top
	 * bit set is zero (RFC 2181 8). */
	if ((ttl & 0x80000000u) != 0)
		ttl = 0;
	if (ttl < a->ttl_s)
		a->ttl_s = ttl;
	ours = get16(p) == (unsigned)type && get16(p + 2) == 1;
	if (ours)
		a->status = DNS_OK; /* even if it is of no use */
	if (ours && a->n < DNS_RRS_MAX) {
		rr = realloc(a->rrs, (a->n + 1) * sizeof(*rr));
		if (rr == NULL)
			return (-1);
		a->rrs = rr;
		if ((rc = get_rdata(*r, len, type, &rr[a->n])) == -1)
			return (-1);
		a->n += rc == 0;
	}
	r->off += len;
	return (0);
}

int
dns_parse(const unsigned char *msg, size_t n, enum dns_type type,
    struct dns_answer *a)
{
	struct reader r = { msg, n, 12 };
	unsigned i, count;

	memset(a, 0, sizeof(*a));
	a->status = DNS_NODATA;
	a->ttl_s = DNS_TTL_MAX;
	if (n < 12 || n > 65535)
		goto bad;
	for (i = 0, count = get16(msg + 4); i < count; i++) {
		if (get_name(&r, NULL) == -1 || r.n - r.off < 4)
			goto bad;
		r.off += 4;
	}
	for (i = 0, count = get16(msg + 6); i < count; i++)
		if (get_rr(&r, type, a) == -1)
			goto bad;
	return (0);

bad:
	dns_answer_fini(a);
	errno = EPROTO;
	return (-1);
}

void
dns_answer_fini(struct dns_answer *a)
{
	size_t i;

	for (i = 0; i < a->n; i++)
		free(a->rrs[i].name);
	free(a->rrs);
	memset(a, 0, sizeof(*a));
}
