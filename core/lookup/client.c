/* SPDX-License-Identifier: ISC */

/* client - forward-confirmed reverse look-up, within five seconds */

#include "core/lookup/client.h"

#include "milter-sdk/base/cidr.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

struct search {
	struct dns *dns;
	client_fn *fn; /* NULL: answered already, questions still under way */
	void *arg;
	struct event *limit;
	uint8_t addr[16];
	char *names[CLIENT_NAMES_MAX];
	size_t n;
	unsigned pending;
	bool unsure; /* some question had no answer */
	struct check {
		struct search *search;
		size_t i;
	} checks[CLIENT_NAMES_MAX];
};

static void
release(struct search *s)
{
	size_t i;

	if (s->pending > 0)
		return;
	for (i = 0; i < s->n; i++)
		free(s->names[i]);
	free(s);
}

static void
answer(struct search *s, const char *name, const char *ptr, const char *resolve)
{
	client_fn *fn = s->fn;

	if (fn == NULL)
		return;
	s->fn = NULL;
	if (s->limit != NULL)
		event_free(s->limit);
	s->limit = NULL;
	fn(s->arg, name, ptr, resolve);
}

static void
on_limit(evutil_socket_t fd, short what, void *arg)
{
	struct search *s = arg;

	(void)fd;
	(void)what;
	answer(s, "", s->n > 0 ? s->names[0] : "", "TEMP");
	release(s);
}

static void
one_done(struct search *s)
{
	if (--s->pending > 0)
		return;
	answer(s, "", s->n > 0 ? s->names[0] : "",
	    s->unsure      ? "TEMP"
	        : s->n > 0 ? "FORGED"
	                   : "FAIL");
	release(s);
}

static void
on_forward(void *arg, const struct dns_answer *a)
{
	struct check *c = arg;
	struct search *s = c->search;
	size_t i;

	s->unsure |= a->status == DNS_TEMP;
	for (i = 0; i < a->n; i++)
		if (memcmp(a->rrs[i].addr, s->addr, 16) == 0)
			answer(s, s->names[c->i], s->names[c->i], "OK");
	one_done(s);
}

static void
on_reverse(void *arg, const struct dns_answer *a)
{
	struct search *s = arg;
	size_t i, n;

	s->unsure = a->status == DNS_TEMP;
	for (i = 0; i < a->n && s->n < CLIENT_NAMES_MAX; i++)
		if ((s->names[s->n] = strdup(a->rrs[i].name)) != NULL)
			s->n++;
	n = s->fn != NULL ? s->n : 0;
	s->pending += (unsigned)n;
	for (i = 0; i < n; i++) {
		s->checks[i].search = s;
		s->checks[i].i = i;
		dns_ask(s->dns, s->names[i],
		    dns_is_v4(s->addr) ? DNS_A : DNS_AAAA, on_forward,
		    &s->checks[i]);
	}
	one_done(s);
}

/* is_private - ranges that the public DNS knows nothing of */
static bool
is_private(const uint8_t addr[16])
{
	static const char *const nets[] = { "127.0.0.0/8", "10.0.0.0/8",
		"172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1",
		"fe80::/10", "fc00::/7" };
	static struct cidr_list list;
	size_t i;

	if (list.n == 0)
		for (i = 0; i < sizeof(nets) / sizeof(nets[0]); i++)
			if (cidr_list_add(&list, nets[i]) == -1)
				return (false);
	return (cidr_list_has(&list, addr));
}

void
client_find(struct event_base *base, struct dns *dns, struct hosts *hosts,
    const char *address, client_fn *fn, void *arg)
{
	static const struct timeval limit = { CLIENT_LIMIT_S, 0 };
	struct search *s;
	const char *name;
	uint8_t addr[16];

	if (cidr_parse_addr(address, addr) == -1) {
		fn(arg, "", "", "FAIL");
		return;
	}
	name = hosts_name(hosts, addr);
	if (name != NULL && dns_is_host(name)) {
		fn(arg, name, name, "OK");
		return;
	}
	if (is_private(addr)) {
		fn(arg, "", "", "FAIL");
		return;
	}
	if ((s = calloc(1, sizeof(*s))) == NULL) {
		fn(arg, "", "", "TEMP");
		return;
	}
	s->dns = dns;
	s->fn = fn;
	s->arg = arg;
	memcpy(s->addr, addr, 16);
	s->limit = evtimer_new(base, on_limit, s);
	if (s->limit != NULL)
		(void)evtimer_add(s->limit, &limit);
	s->pending = 1;
	dns_ask_ptr(dns, addr, on_reverse, s);
}
