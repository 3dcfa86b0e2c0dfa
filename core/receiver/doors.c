/* SPDX-License-Identifier: ISC */

/*
 * doors - listening sockets, and whether there is room for one more session
 *
 * Nothing is accepted before queue and lookup were there for the first time, so
 * that a client that connects during the start waits instead of being sent
 * away.  Who cannot be served gets a 421 and no session.
 */

#include "core/receiver/receiver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTS_PER_WAKE = 32, RETRY_MS = 100 };

void
doors_key(const struct sockaddr_storage *sa, uint8_t key[16])
{
	const struct sockaddr_in *in = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;

	memset(key, 0, 16);
	if (sa->ss_family == AF_INET) {
		key[10] = key[11] = 0xff;
		memcpy(key + 12, &in->sin_addr, 4);
	} else if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		memcpy(key, &in6->sin6_addr, 16);
	else
		memcpy(key, &in6->sin6_addr, 8);
}

static struct client_count **
bucket(struct receiver *r, const uint8_t key[16])
{
	uint64_t h = r->client_seed ^ 0xcbf29ce484222325ull;
	size_t i;

	for (i = 0; i < 16; i++)
		h = (h ^ key[i]) * 0x100000001b3ull;
	return (&r->clients[(h >> 32) % CLIENT_BUCKETS]);
}

/* doors_client_count - add 1, -1 or 0; the sessions of that client now */
unsigned
doors_client_count(struct receiver *r, const uint8_t key[16], int add)
{
	struct client_count **cp = bucket(r, key), *c;
	unsigned n;

	while (*cp != NULL && memcmp((*cp)->key, key, 16) != 0)
		cp = &(*cp)->next;
	if ((c = *cp) == NULL) {
		if (add <= 0 || (c = calloc(1, sizeof(*c))) == NULL)
			return (0);
		memcpy(c->key, key, 16);
		*cp = c;
	}
	c->n = (unsigned)((int)c->n + add);
	if ((n = c->n) == 0) {
		*cp = c->next;
		free(c);
	}
	return (n);
}

static const struct listener *
listener_of(const struct settings *s, const char *title)
{
	size_t i;

	for (i = 0; i < s->n_listeners; i++)
		if (strcmp(s->listeners[i].name, title) == 0)
			return (&s->listeners[i]);
	return (NULL);
}

/* share - this process's part of a limit that is for all receivers */
static unsigned
share(const struct settings *s, unsigned limit)
{
	return ((limit + s->receivers - 1) / s->receivers);
}

/* no_room - why this client cannot be served, or NULL */
static const char *
no_room(struct receiver *r, const uint8_t key[16])
{
	const struct settings *s = r->child->settings;

	if (r->stopping)
		return ("4.3.2 Service is stopping");
	if (r->paused)
		return ("4.3.2 Service is paused");
	if (r->queue == NULL || r->lookup == NULL)
		return ("4.3.0 Service is not available, try again");
	if (r->n_sessions >= share(s, s->limits.sessions))
		return ("4.3.2 Too many sessions, try again later");
	if (doors_client_count(r, key, 0) >=
	    share(s, s->limits.sessions_per_client))
		return ("4.7.0 Too many sessions from your address");
	return (NULL);
}

static void
send_away(struct receiver *r, int sock, const struct sockaddr_storage *sa,
    const char *why)
{
	char text[512], addr[INET6_ADDRSTRLEN] = "";
	int n;

	n = snprintf(text, sizeof(text), "421 %s %s\r\n", why,
	    r->child->settings->hostname);
	if (n > 0)
		(void)!send(sock, text,
		    (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sa->ss_family == AF_INET)
		(void)inet_ntop(AF_INET,
		    &((const struct sockaddr_in *)(const void *)sa)->sin_addr,
		    addr, sizeof(addr));
	else
		(void)inet_ntop(AF_INET6,
		    &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr,
		    addr, sizeof(addr));
	log_info("NOQUEUE: reject=421 %s, relay=[%s]", why, addr);
	(void)close(sock);
}

/* pause_doors - no descriptor is left: look again in a moment */
static void
pause_doors(struct receiver *r)
{
	const struct timeval retry = { 0, RETRY_MS * 1000 };
	struct door *d;

	log_err("receiver: accept: %s", strerror(errno));
	for (d = r->doors; d != NULL; d = d->next)
		(void)event_del(d->ev);
	(void)event_add(r->tick, &retry);
}

static void
door_free(struct door *d)
{
	if (d->ev != NULL)
		event_free(d->ev);
	(void)close(d->sock);
	free(d->title);
	free(d);
}

/* door_shut - the supervisor ended the listening socket itself */
static void
door_shut(struct door *d)
{
	struct door **dp = &d->r->doors;

	while (*dp != d)
		dp = &(*dp)->next;
	*dp = d->next;
	door_free(d);
}

static void
on_accept(evutil_socket_t sock, short what, void *arg)
{
	struct door *d = arg;
	struct receiver *r = d->r;
	const struct listener *l = listener_of(r->child->settings, d->title);
	struct sockaddr_storage sa;
	socklen_t len;
	const char *why;
	uint8_t key[16];
	int i, fd;

	(void)what;
	for (i = 0; i < ACCEPTS_PER_WAKE && l != NULL; i++) {
		len = sizeof(sa);
		fd = accept4(sock, (struct sockaddr *)&sa, &len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd == -1) {
			if (errno == EMFILE || errno == ENFILE ||
			    errno == ENOMEM || errno == ENOBUFS)
				pause_doors(r);
			else if (errno == EINVAL)
				door_shut(d);
			return;
		}
		if (sa.ss_family != AF_INET && sa.ss_family != AF_INET6) {
			(void)close(fd);
			continue;
		}
		doors_key(&sa, key);
		if ((why = no_room(r, key)) != NULL) {
			send_away(r, fd, &sa, why);
			continue;
		}
		if (session_new(r, fd, l, &sa) == -1)
			send_away(r, fd, &sa, "4.3.0 Out of memory");
	}
}

void
doors_add(struct receiver *r, const char *title, int sock)
{
	struct door *d = calloc(1, sizeof(*d));
	int on = 1;

	if (d == NULL) {
		(void)close(sock);
		return;
	}
	d->r = r;
	d->sock = sock;
	d->title = strdup(title);
	d->ev =
	    event_new(r->child->base, sock, EV_READ | EV_PERSIST, on_accept, d);
	if (d->title == NULL || d->ev == NULL ||
	    evutil_make_socket_nonblocking(sock) == -1) {
		door_free(d);
		return;
	}
	/* What is accepted inherits it. */
	(void)setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	d->next = r->doors;
	r->doors = d;
	doors_sort(r);
}

/* doors_sort - open the doors if there is somebody to serve through them, and
 * remove those whose listener is no longer configured */
void
doors_sort(struct receiver *r)
{
	struct door **dp = &r->doors, *d;

	while ((d = *dp) != NULL) {
		if (listener_of(r->child->settings, d->title) == NULL) {
			*dp = d->next;
			door_free(d);
			continue;
		}
		if (r->sessions_total > 0 ||
		    (r->queue != NULL && r->lookup != NULL))
			(void)event_add(d->ev, NULL);
		dp = &d->next;
	}
}

void
doors_close(struct receiver *r)
{
	struct door *d;

	while ((d = r->doors) != NULL) {
		r->doors = d->next;
		door_free(d);
	}
}
