/* SPDX-License-Identifier: ISC */

/*
 * keys - in which order the access table is asked, most specific key first
 *
 * Sendmail's order (cf/README, "Using the access database"): a client by its
 * name and the domains above, then by its address and the networks around it;
 * an address as a whole, as user@, then its domain and those above.  Each key
 * is tried with the tag and then without.  Networks may also be written as
 * prefixes (192.0.2.0/25), which Sendmail cannot.
 */

#include "milters/access/access.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

struct search {
	struct table *table;
	const char *tag;
	bool only_tagged;
	struct access_value *value;
};

static int
ask(struct search *s, const char *tag, const char *key)
{
	struct buf text = BUF_INIT(MAP_VALUE_MAX);
	char tagged[ADDRESS_MAX + 64];
	int rc;

	(void)snprintf(tagged, sizeof(tagged), "%s%s", tag, key);
	rc = table_get(s->table, tagged, &text);
	if (rc == 1 &&
	    value_parse(text.data != NULL ? text.data : "", s->value) == -1) {
		mill_log(NULL, LOG_ERR, "access: %s: value not understood: %s",
		    tagged, text.data != NULL ? text.data : "");
		rc = -1;
	}
	buf_fini(&text);
	return (rc);
}

/* try - 1 found, 0 go on, -1 */
static int
try(struct search *s, const char *key)
{
	int rc = ask(s, s->tag, key);

	if (rc == 0 && !s->only_tagged)
		rc = ask(s, "", key);
	return (rc);
}

/* try_domain - the name, then each domain above it */
static int
try_domain(struct search *s, const char *domain)
{
	int rc = 0;

	while (rc == 0 && domain != NULL && domain[0] != '\0') {
		rc = try(s, domain);
		/* A domain literal has no parents. */
		domain = domain[0] != '[' ? strchr(domain, '.') : NULL;
		domain += domain != NULL;
	}
	return (rc);
}

/* mask - clear all but the first bits */
static void
mask(unsigned char *addr, size_t size, unsigned bits)
{
	size_t i;

	for (i = 0; i < size; i++, bits -= bits < 8 ? bits : 8)
		if (bits < 8)
			addr[i] &= (unsigned char)(0xff00 >> bits);
}

static int
try_prefix(
    struct search *s, int family, const unsigned char *addr, unsigned bits)
{
	char text[INET6_ADDRSTRLEN], key[INET6_ADDRSTRLEN + 8];
	size_t size = family == AF_INET ? 4 : 16;
	unsigned char net[16];

	memcpy(net, addr, size);
	mask(net, size, bits);
	(void)inet_ntop(family, net, text, sizeof(text));
	(void)snprintf(key, sizeof(key), "%s/%u", text, bits);
	return (try(s, key));
}

static int
try_ipv4(struct search *s, const unsigned char *a)
{
	char key[INET_ADDRSTRLEN];
	unsigned bits;
	int n, rc = 0;

	for (bits = 32; rc == 0; bits--) {
		if (bits % 8 == 0 && bits > 0) {
			n = snprintf(key, sizeof(key), "%u.%u.%u.%u", a[0],
			    a[1], a[2], a[3]);
			for (unsigned octets = 4; octets > bits / 8; octets--)
				while (n > 0 && key[--n] != '.')
					;
			key[n] = '\0';
			rc = try(s, key);
		}
		if (rc == 0)
			rc = try_prefix(s, AF_INET, a, bits);
		if (bits == 0)
			break;
	}
	return (rc);
}

/* try_groups - Sendmail's form: IPv6:2001:db8:0:1, from 8 groups to 1 */
static int
try_groups(struct search *s, const unsigned char *a, unsigned groups)
{
	char key[64] = "IPv6";
	unsigned i;
	size_t n = 4;

	for (i = 0; i < groups; i++)
		n += (size_t)snprintf(key + n, sizeof(key) - n, ":%x",
		    (unsigned)a[2 * i] << 8 | a[2 * i + 1]);
	return (try(s, key));
}

static int
try_ipv6(struct search *s, const unsigned char *a)
{
	char text[INET6_ADDRSTRLEN], key[INET6_ADDRSTRLEN + 8];
	unsigned bits;
	int rc;

	(void)inet_ntop(AF_INET6, a, text, sizeof(text));
	(void)snprintf(key, sizeof(key), "IPv6:%s", text);
	if ((rc = try(s, text)) == 0)
		rc = try(s, key);
	for (bits = 128; rc == 0; bits--) {
		if (bits % 16 == 0 && bits > 0)
			rc = try_groups(s, a, bits / 16);
		if (rc == 0)
			rc = try_prefix(s, AF_INET6, a, bits);
		if (bits == 0)
			break;
	}
	return (rc);
}

/* finish - SKIP is as if nothing was found */
static int
finish(struct search *s, int rc)
{
	if (rc == 0)
		memset(s->value, 0, sizeof(*s->value));
	return (rc == -1 ? -1 : 0);
}

int
keys_client(
    struct table *t, const char *name, const char *addr, struct access_value *v)
{
	struct search s = { t, "connect:", false, v };
	unsigned char a[16];
	char domain[ADDRESS_MAX];
	size_t n;
	int rc = 0;

	memset(v, 0, sizeof(*v));
	if (t->map == NULL)
		return (0);
	/* "[192.0.2.1]" stands for a client without a confirmed name. */
	n = (size_t)snprintf(domain, sizeof(domain), "%s", name);
	if (n < sizeof(domain) && name[0] != '[') {
		if (n > 0 && domain[n - 1] == '.')
			domain[n - 1] = '\0';
		rc = try_domain(&s, domain);
	}
	if (rc == 0 && inet_pton(AF_INET, addr, a) == 1)
		rc = try_ipv4(&s, a);
	else if (rc == 0 && inet_pton(AF_INET6, addr, a) == 1)
		rc = try_ipv6(&s, a);
	return (finish(&s, rc));
}

int
keys_address(struct table *t, const char *tag, bool only_tagged,
    const struct address *a, struct access_value *v)
{
	struct search s = { t, tag, only_tagged, v };
	char key[2 * ADDRESS_MAX];
	int rc;

	memset(v, 0, sizeof(*v));
	if (t->map == NULL)
		return (0);
	rc = try(&s, a->all);
	if (rc == 0 && a->domain[0] != '\0') {
		(void)snprintf(key, sizeof(key), "%s@", a->user);
		rc = try(&s, key);
	}
	if (rc == 0)
		rc = try_domain(&s, a->domain);
	return (finish(&s, rc));
}
