/* SPDX-License-Identifier: ISC */

/*
 * dns - c-ares on the event loop
 *
 * c-ares says which sockets it wants watched; one timer drives its time-outs.
 * The hosts file is not c-ares's business here (core/lookup/hosts.c).
 */

#include "core/lookup/dns.h"

#include "core/lookup/dns_cache.h"
#include "milter-sdk/base/buf.h"
#include "milter-sdk/base/log.h"

#include <ares.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

enum {
	TRY_MS = 2000, /* the first try; c-ares doubles it */
	TRIES = 3,
	TICK_US = 250000,
	EDNS_SIZE = 1232 /* bytes in a datagram: no fragments */
};

struct sock {
	LIST_ENTRY(sock) next;
	struct dns *dns;
	struct event *ev;
	ares_socket_t fd;
};

struct question {
	struct dns *dns;
	dns_fn *fn;
	void *arg;
	enum dns_type type;
	char name[];
};

struct dns {
	struct event_base *base;
	struct event *timer;
	ares_channel channel;
	struct ares_addr_port_node *system; /* the system's name servers */
	LIST_HEAD(, sock) socks;
	struct dns_cache *cache;
	struct dns_stats stats;
};

static uint64_t
now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec);
}

/* arm - let the timer ring when c-ares next has something to give up, yet not
 * later than TICK_US: a timer that is set is not set again for a new question
 */
static void
arm(struct dns *d)
{
	struct timeval most = { 0, TICK_US }, tv, *next;

	if (d->stats.pending == 0 || evtimer_pending(d->timer, NULL))
		return;
	next = ares_timeout(d->channel, &most, &tv);
	if (next != NULL)
		(void)evtimer_add(d->timer, next);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dns *d = arg;

	(void)fd;
	(void)what;
	ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm(d);
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct dns *d = ((struct sock *)arg)->dns;

	ares_process_fd(d->channel, what & EV_READ ? fd : ARES_SOCKET_BAD,
	    what & EV_WRITE ? fd : ARES_SOCKET_BAD);
	arm(d);
}

/* on_state - c-ares wants this socket watched so */
static void
on_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct dns *d = arg;
	struct sock *s;

	LIST_FOREACH(s, &d->socks, next)
	if (s->fd == fd)
		break;
	if (s == NULL) {
		if ((!readable && !writable) ||
		    (s = calloc(1, sizeof(*s))) == NULL)
			return;
		s->dns = d;
		s->fd = fd;
		LIST_INSERT_HEAD(&d->socks, s, next);
	} else if (s->ev != NULL) {
		event_free(s->ev);
		s->ev = NULL;
	}
	if (!readable && !writable) {
		LIST_REMOVE(s, next);
		free(s);
		return;
	}
	s->ev = event_new(d->base, fd,
	    (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0) |
	        EV_PERSIST),
	    on_socket, s);
	if (s->ev == NULL || event_add(s->ev, NULL) == -1)
		log_err("lookup: name server socket cannot be watched");
}

struct dns *
dns_new(void)
{
	struct ares_options o;
	struct dns *d = calloc(1, sizeof(*d));
	int rc;

	if (d == NULL)
		return (NULL);
	LIST_INIT(&d->socks);
	memset(&o, 0, sizeof(o));
	o.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS;
	o.timeout = TRY_MS;
	o.tries = TRIES;
	o.ednspsz = EDNS_SIZE;
	o.sock_state_cb = on_state;
	o.sock_state_cb_data = d;
	rc = ares_library_init(ARES_LIB_INIT_ALL);
	if (rc == ARES_SUCCESS)
		rc = ares_init_options(&d->channel, &o,
		    ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
		        ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB);
	if (rc != ARES_SUCCESS) {
		log_err("lookup: resolver: %s", ares_strerror(rc));
		free(d);
		return (NULL);
	}
	(void)ares_get_servers_ports(d->channel, &d->system);
	if ((d->cache = dns_cache_new()) == NULL)
		dns_free(&d);
	return (d);
}

int
dns_start(struct dns *d, struct event_base *base)
{
	d->base = base;
	d->timer = evtimer_new(base, on_timer, d);
	return (d->timer != NULL ? 0 : -1);
}

void
dns_free(struct dns **dp)
{
	struct dns *d = *dp;

	*dp = NULL;
	if (d == NULL)
		return;
	ares_destroy(d->channel); /* answers what is pending */
	if (d->system != NULL)
		ares_free_data(d->system);
	if (d->timer != NULL)
		event_free(d->timer);
	dns_cache_free(&d->cache);
	free(d);
}

int
dns_servers(struct dns *d, char *const *servers, size_t n)
{
	struct buf csv = BUF_INIT(4096);
	size_t i;
	int rc = 0;

	for (i = 0; i < n; i++)
		rc |= buf_addf(&csv, "%s%s", i > 0 ? "," : "", servers[i]);
	/* c-ares does not change servers under a question. */
	if (d->stats.pending > 0)
		ares_cancel(d->channel);
	if (rc == 0)
		rc = n > 0 ? ares_set_servers_ports_csv(d->channel, csv.data)
		           : ares_set_servers_ports(d->channel, d->system);
	buf_fini(&csv);
	return (rc == ARES_SUCCESS ? 0 : -1);
}

/* finish - hand the answer out, through the cache */
static void
finish(struct question *q, struct dns_answer *answer)
{
	const struct dns_answer *a;

	a = dns_cache_add(q->dns->cache, q->name, q->type, now_s(), answer);
	if (a->status == DNS_TEMP)
		q->dns->stats.failed++;
	q->fn(q->arg, a);
	if (a == answer)
		dns_answer_fini(answer);
	free(q);
}

static void
on_answer(void *arg, int status, int timeouts, unsigned char *msg, int n)
{
	struct question *q = arg;
	struct dns_answer a;

	(void)timeouts;
	q->dns->stats.pending--;
	memset(&a, 0, sizeof(a));
	a.ttl_s = DNS_TTL_NEGATIVE;
	switch (status) {
	case ARES_SUCCESS:
		if (dns_parse(msg, (size_t)n, q->type, &a) == -1)
			a.status = DNS_TEMP;
		else if (a.status == DNS_NODATA)
			a.ttl_s = DNS_TTL_NEGATIVE;
		break;
	case ARES_ENODATA:
		a.status = DNS_NODATA;
		break;
	case ARES_ENOTFOUND:
	case ARES_EBADNAME: /* no name that could exist */
		a.status = DNS_NXDOMAIN;
		break;
	default:
		a.status = DNS_TEMP;
		break;
	}
	finish(q, &a);
}

void
dns_ask(
    struct dns *d, const char *name, enum dns_type type, dns_fn *fn, void *arg)
{
	static const struct dns_answer busy = { .status = DNS_TEMP };
	const struct dns_answer *known;
	struct question *q;
	size_t n = strlen(name) + 1;

	d->stats.asked++;
	known = dns_cache_find(d->cache, name, type, now_s());
	if (known != NULL) {
		d->stats.cached++;
		fn(arg, known);
		return;
	}
	if (n > DNS_NAME_MAX + 1 || d->stats.pending >= DNS_PENDING_MAX ||
	    (q = malloc(sizeof(*q) + n)) == NULL) {
		d->stats.failed++;
		fn(arg, &busy);
		return;
	}
	q->dns = d;
	q->fn = fn;
	q->arg = arg;
	q->type = type;
	memcpy(q->name, name, n);
	d->stats.pending++;
	ares_query(d->channel, q->name, 1, (int)type, on_answer, q);
	arm(d);
}

void
dns_ask_ptr(struct dns *d, const uint8_t addr[16], dns_fn *fn, void *arg)
{
	char name[80];
	int i, n = 0;

	if (dns_is_v4(addr))
		(void)snprintf(name, sizeof(name), "%u.%u.%u.%u.in-addr.arpa",
		    addr[15], addr[14], addr[13], addr[12]);
	else {
		for (i = 15; i >= 0; i--)
			n += snprintf(name + n, sizeof(name) - (size_t)n,
			    "%x.%x.", addr[i] & 15, addr[i] >> 4);
		(void)snprintf(name + n, sizeof(name) - (size_t)n, "ip6.arpa");
	}
	dns_ask(d, name, DNS_PTR, fn, arg);
}

void
dns_stats(const struct dns *d, struct dns_stats *stats)
{
	*stats = d->stats;
	stats->entries = dns_cache_count(d->cache);
}
