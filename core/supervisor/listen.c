/* SPDX-License-Identifier: ISC */

/*
 * listen - bind before privileges go, listen when all is ready
 *
 * Between bind and listen a client is refused by the kernel and tries again;
 * it never meets a gateway whose milters are not there yet.
 */

#include "core/conf/endpoint.h"
#include "core/supervisor/sup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024, WAIT_MS = 50, WAITS = 60 };

int
listen_sockaddr(const char *host, uint16_t port, struct sockaddr_storage *ss,
    socklen_t *len_r)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)ss;

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		*len_r = sizeof(*in);
		return (0);
	}
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		*len_r = sizeof(*in6);
		return (0);
	}
	return (-1);
}

static int
bind_one(const char *address, unsigned *waits_left)
{
	struct sockaddr_storage ss;
	char *host = NULL;
	socklen_t len;
	uint16_t port;
	int fd = -1, on = 1, saved;

	if (hostport_parse(address, &host, &port) == -1 ||
	    listen_sockaddr(host, port, &ss, &len) == -1)
		goto fail;
	fd =
	    socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1)
		goto fail;
	/* "[::]:25" beside "0.0.0.0:25": each family has its own socket. */
	if (ss.ss_family == AF_INET6)
		(void)setsockopt(
		    fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	while (bind(fd, (struct sockaddr *)&ss, len) == -1) {
		/* After kill -9 the processes of a gateway before us may take
		 * a moment to end. */
		if (errno != EADDRINUSE || *waits_left == 0)
			goto fail;
		(*waits_left)--;
		(void)usleep(WAIT_MS * 1000);
	}
	free(host);
	return (fd);

fail:
	saved = errno;
	log_err("supervisor: bind: address=%s: %s", address, strerror(errno));
	if (fd != -1)
		(void)close(fd);
	free(host);
	errno = saved;
	return (-1);
}

static void
forget(struct listening *l)
{
	(void)close(l->sock);
	free(l->title);
	free(l->address);
}

/* add - bind one address; -1 with errno */
static int
add(struct sup *sup, const char *title, const char *address,
    unsigned *waits_left)
{
	struct listening *list =
	    reallocarray(sup->listening, sup->n_listening + 1, sizeof(*list));
	struct listening *l;

	if (list == NULL)
		return (-1);
	sup->listening = list;
	l = &list[sup->n_listening];
	l->kept = true;
	l->title = strdup(title);
	l->address = strdup(address);
	l->sock = bind_one(address, waits_left);
	if (l->sock == -1 || l->title == NULL || l->address == NULL ||
	    (sup->accepting && listen(l->sock, BACKLOG) == -1)) {
		int saved = errno;

		forget(l);
		errno = saved;
		return (-1);
	}
	sup->n_listening++;
	return (0);
}

int
listen_bind(struct sup *sup)
{
	const struct settings *s = sup->settings;
	unsigned waits = WAITS;
	size_t i, k;

	for (i = 0; i < s->n_listeners; i++)
		for (k = 0; k < s->listeners[i].n_addresses; k++)
			if (add(sup, s->listeners[i].name,
			        s->listeners[i].addresses[k], &waits) == -1)
				return (-1);
	sup->n_announced = sup->n_listening;
	return (0);
}

static struct listening *
find(struct sup *sup, const char *address)
{
	size_t i;

	for (i = 0; i < sup->n_listening; i++)
		if (strcmp(sup->listening[i].address, address) == 0)
			return (&sup->listening[i]);
	return (NULL);
}

/* want - keep or bind one address of the new settings */
static int
want(
    struct sup *sup, const char *title, const char *address, struct buf *errors)
{
	struct listening *l = find(sup, address);
	unsigned waits = 0; /* sessions are served meanwhile */

	if (l != NULL && strcmp(l->title, title) == 0)
		l->kept = true;
	else if (l != NULL)
		(void)!buf_addf(errors,
		    "listener \"%s\": %s belongs to \"%s\" while milldam "
		    "runs: restart it\n",
		    title, address, l->title);
	else if (add(sup, title, address, &waits) == -1)
		(void)!buf_addf(errors, "listener \"%s\": %s: %s\n", title,
		    address, strerror(errno));
	return (errors->len == 0 ? 0 : -1);
}

int
listen_change(struct sup *sup, const struct settings *s, struct buf *errors)
{
	const size_t before = sup->n_listening;
	size_t i, k, n = 0;
	int rc = 0;

	for (i = 0; i < before; i++)
		sup->listening[i].kept = false;
	for (i = 0; rc == 0 && i < s->n_listeners; i++)
		for (k = 0; rc == 0 && k < s->listeners[i].n_addresses; k++)
			rc = want(sup, s->listeners[i].name,
			    s->listeners[i].addresses[k], errors);
	if (rc == -1) {
		while (sup->n_listening > before)
			forget(&sup->listening[--sup->n_listening]);
		return (-1);
	}
	sup->n_announced = 0;
	for (i = 0; i < sup->n_listening; i++) {
		if (!sup->listening[i].kept) {
			/* Receivers have it too: they see this and close. */
			(void)shutdown(sup->listening[i].sock, SHUT_RDWR);
			forget(&sup->listening[i]);
			continue;
		}
		sup->n_announced += i < before;
		sup->listening[n++] = sup->listening[i];
	}
	sup->n_listening = n;
	return (0);
}

void
listen_announce(struct sup *sup)
{
	size_t i;

	for (i = 0; sup->accepting && i < sup->n_procs; i++)
		if (sup->procs[i]->ops != NULL &&
		    sup->procs[i]->ops->kind == PROC_RECEIVER &&
		    sup->procs[i]->control != NULL)
			spawn_listeners(sup->procs[i], sup->n_announced);
	sup->n_announced = sup->n_listening;
}

void
listen_free(struct sup *sup)
{
	while (sup->n_listening > 0)
		forget(&sup->listening[--sup->n_listening]);
	free(sup->listening);
	sup->listening = NULL;
}

int
listen_begin(struct sup *sup)
{
	size_t i;

	for (i = 0; i < sup->n_listening; i++)
		if (listen(sup->listening[i].sock, BACKLOG) == -1) {
			log_err("supervisor: listen: title=%s: %s",
			    sup->listening[i].title, strerror(errno));
			return (-1);
		}
	sup->accepting = true;
	sup->n_announced = 0;
	listen_announce(sup);
	return (0);
}
