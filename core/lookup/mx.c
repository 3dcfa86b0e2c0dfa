/* SPDX-License-Identifier: ISC */

/*
 * mx - from a next hop to addresses, in the order to try them
 *
 * One question for MX, then all A and AAAA side by side.  Whatever cannot be
 * known now is temporary; permanent is only what a name server said is so.
 */

#include "core/lookup/mx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

struct exchanger {
	char *name;
	uint16_t pref;
	uint32_t dice;  /* order among equals */
	struct lookup { /* one family's question */
		struct search *search;
		uint8_t (*addrs)[16];
		size_t n;
		enum dns_status status;
	} v4, v6;
};

struct search {
	struct mx_env *env;
	mx_fn *fn;
	void *arg;
	char *host;    /* without brackets */
	bool direct;   /* bracketed: no MX */
	bool implicit; /* no MX record: the domain itself */
	struct exchanger mx[MX_HOSTS_MAX];
	size_t n;
	unsigned pending; /* questions, and one while asking */
};

static void
finish(struct search *s, enum mx_status status, const char *reason,
    const struct mx_addr *addrs, size_t n)
{
	const struct mx_result r = { status, reason, addrs, n };
	size_t i;

	s->fn(s->arg, &r);
	for (i = 0; i < s->n; i++) {
		free(s->mx[i].name);
		free(s->mx[i].v4.addrs);
		free(s->mx[i].v6.addrs);
	}
	free(s->host);
	free(s);
}

static void
fail(struct search *s, enum mx_status status, const char *fmt)
{
	char reason[512];

	/* fmt is one of ours, with one %s */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)snprintf(reason, sizeof(reason), fmt, s->host);
#pragma GCC diagnostic pop
	finish(s, status, reason, NULL, 0);
}

/* put - append one family's addresses of an exchanger */
static size_t
put(struct mx_addr *out, size_t n, const struct exchanger *mx,
    const struct lookup *l)
{
	size_t i;

	for (i = 0; i < l->n && n < MX_ADDRS_MAX; i++, n++) {
		out[n].name = mx->name;
		out[n].pref = mx->pref;
		(void)dns_addr_text(l->addrs[i], out[n].addr);
	}
	return (n);
}

/* addresses_known - all questions are answered */
static void
addresses_known(struct search *s)
{
	struct mx_addr out[MX_ADDRS_MAX];
	bool unsure = false;
	size_t i, n = 0;

	/* IPv4 first: a host with a broken IPv6 path would else cost a
	 * connect time-out each time. */
	for (i = 0; i < s->n; i++) {
		n = put(out, n, &s->mx[i], &s->mx[i].v4);
		n = put(out, n, &s->mx[i], &s->mx[i].v6);
		unsure |= s->mx[i].v4.status == DNS_TEMP ||
		    s->mx[i].v6.status == DNS_TEMP;
	}
	if (n > 0)
		finish(s, MX_OK, "", out, n);
	else if (unsure)
		fail(s, MX_TEMP,
		    "4.4.3 address look-up failed for the moment: %s");
	else if (s->direct || s->implicit)
		fail(s, MX_PERM, "5.1.2 host or domain has no address: %s");
	else
		fail(s, MX_PERM, "5.4.4 no mail exchanger has an address: %s");
}

static void
one_done(struct search *s)
{
	if (--s->pending == 0)
		addresses_known(s);
}

static void
on_address(void *arg, const struct dns_answer *a)
{
	struct lookup *l = arg;
	struct search *s = l->search;
	size_t i;

	l->status = a->status;
	if (a->n > 0 && (l->addrs = calloc(a->n, 16)) == NULL)
		l->status = DNS_TEMP;
	else
		for (i = 0; i < a->n; i++)
			memcpy(l->addrs[l->n++], a->rrs[i].addr, 16);
	one_done(s);
}

/* from_hosts - the hosts file's addresses, if it knows the name */
static bool
from_hosts(struct search *s, struct exchanger *mx)
{
	uint8_t addr[16];
	struct lookup *l = &mx->v4; /* order of the file is kept */

	while (l->n < MX_ADDRS_MAX &&
	    hosts_addr(s->env->hosts, mx->name, l->n, addr)) {
		if (l->addrs == NULL &&
		    (l->addrs = calloc(MX_ADDRS_MAX, 16)) == NULL)
			break;
		memcpy(l->addrs[l->n++], addr, 16);
	}
	return (l->n > 0);
}

static void
ask_addresses(struct search *s)
{
	struct exchanger *mx;
	size_t i;

	s->pending = 1;
	for (i = 0; i < s->n; i++) {
		mx = &s->mx[i];
		mx->v4.search = mx->v6.search = s;
		mx->v4.status = mx->v6.status = DNS_NODATA;
		if (from_hosts(s, mx))
			continue;
		s->pending += 2;
		dns_ask(s->env->dns, mx->name, DNS_A, on_address, &mx->v4);
		dns_ask(s->env->dns, mx->name, DNS_AAAA, on_address, &mx->v6);
	}
	one_done(s);
}

static bool
is_own(const struct settings *set, const char *name)
{
	size_t i, n = strlen(name);

	if (n > 0 && name[n - 1] == '.')
		n--;
	if (strlen(set->hostname) == n &&
	    strncasecmp(set->hostname, name, n) == 0)
		return (true);
	for (i = 0; i < set->n_own_names; i++)
		if (strlen(set->own_names[i]) == n &&
		    strncasecmp(set->own_names[i], name, n) == 0)
			return (true);
	return (false);
}

static int
by_pref(const void *a, const void *b)
{
	const struct exchanger *x = a, *y = b;

	if (x->pref != y->pref)
		return (x->pref < y->pref ? -1 : 1);
	return (x->dice < y->dice ? -1 : x->dice > y->dice);
}

static int
add(struct search *s, const char *name, uint16_t pref)
{
	struct exchanger *mx = &s->mx[s->n];

	if ((mx->name = strdup(name)) == NULL)
		return (-1);
	mx->pref = pref;
	(void)!getrandom(&mx->dice, sizeof(mx->dice), GRND_NONBLOCK);
	s->n++;
	return (0);
}

/* worst_of - drop the least preferred, so that the best MX_HOSTS_MAX stay */
static void
drop_worst(struct search *s)
{
	size_t i, worst = 0;

	for (i = 1; i < s->n; i++)
		if (s->mx[i].pref > s->mx[worst].pref)
			worst = i;
	free(s->mx[worst].name);
	s->mx[worst] = s->mx[--s->n];
	memset(&s->mx[s->n], 0, sizeof(s->mx[s->n]));
}

/* take_mx - the records that we may use: better than our own (RFC 5321 5.1) */
static int
take_mx(struct search *s, const struct dns_answer *a)
{
	uint32_t limit = UINT32_MAX;
	size_t i;

	for (i = 0; i < a->n; i++)
		if (is_own(s->env->settings, a->rrs[i].name) &&
		    a->rrs[i].pref < limit)
			limit = a->rrs[i].pref;
	for (i = 0; i < a->n; i++) {
		if (a->rrs[i].name[0] == '\0' || a->rrs[i].pref >= limit)
			continue;
		if (s->n == MX_HOSTS_MAX)
			drop_worst(s);
		if (add(s, a->rrs[i].name, a->rrs[i].pref) == -1)
			return (-1);
	}
	qsort(s->mx, s->n, sizeof(s->mx[0]), by_pref);
	return (limit != UINT32_MAX);
}

static void
on_mx(void *arg, const struct dns_answer *a)
{
	struct search *s = arg;
	int rc;

	switch (a->status) {
	case DNS_TEMP:
		fail(s, MX_TEMP, "4.4.3 MX look-up failed for the moment: %s");
		return;
	case DNS_NXDOMAIN:
		/* A name known to the hosts file alone is a host. */
		s->implicit = true;
		if (add(s, s->host, 0) == -1)
			break;
		if (from_hosts(s, &s->mx[0])) {
			s->mx[0].v4.n = 0; /* asked again below */
			free(s->mx[0].v4.addrs);
			s->mx[0].v4.addrs = NULL;
			ask_addresses(s);
		} else
			fail(s, MX_PERM, "5.1.2 no such domain: %s");
		return;
	case DNS_NODATA:
		if (is_own(s->env->settings, s->host)) {
			fail(s, MX_PERM,
			    "5.4.6 mail for %s loops back to this host");
			return;
		}
		s->implicit = true;
		if (add(s, s->host, 0) == -1)
			break;
		ask_addresses(s);
		return;
	case DNS_OK:
		if (a->n == 1 && a->rrs[0].name[0] == '\0') {
			fail(s, MX_PERM,
			    "5.1.10 domain accepts no mail (null MX): %s");
			return;
		}
		if ((rc = take_mx(s, a)) == -1)
			break;
		if (s->n > 0)
			ask_addresses(s);
		else if (rc == 1)
			fail(s, MX_PERM,
			    "5.4.6 mail for %s loops back to this host");
		else
			fail(s, MX_PERM, "5.4.4 MX records are useless: %s");
		return;
	}
	fail(s, MX_TEMP, "4.3.0 out of memory: %s");
}

/* numeric - host as an address, in or without brackets */
static bool
numeric(struct search *s)
{
	struct mx_addr one;
	uint8_t addr[16];

	if (cidr_parse_addr(s->host, addr) == -1)
		return (false);
	one.name = s->host;
	one.pref = 0;
	(void)dns_addr_text(addr, one.addr);
	finish(s, MX_OK, "", &one, 1);
	return (true);
}

void
mx_find(struct mx_env *env, const char *host, mx_fn *fn, void *arg)
{
	static const struct mx_result no_memory = { MX_TEMP,
		"4.3.0 out of memory", NULL, 0 };
	struct search *s = calloc(1, sizeof(*s));
	size_t n = strlen(host);

	if (s != NULL) {
		s->direct = n > 2 && host[0] == '[' && host[n - 1] == ']';
		s->host = s->direct ? strndup(host + 1, n - 2) : strdup(host);
	}
	if (s == NULL || s->host == NULL) {
		free(s);
		fn(arg, &no_memory);
		return;
	}
	s->env = env;
	s->fn = fn;
	s->arg = arg;
	if (numeric(s))
		return;
	if (!dns_is_host(s->host)) {
		/* Not printed: it may be anything. */
		finish(s, MX_PERM, "5.1.2 next hop is no host name", NULL, 0);
		return;
	}
	/* RFC 6761 6.3: localhost is never asked for in the DNS. */
	if (s->direct || strcasecmp(s->host, "localhost") == 0) {
		s->direct = true;
		if (add(s, s->host, 0) == -1)
			fail(s, MX_TEMP, "4.3.0 out of memory: %s");
		else
			ask_addresses(s);
		return;
	}
	dns_ask(env->dns, s->host, DNS_MX, on_mx, s);
}
