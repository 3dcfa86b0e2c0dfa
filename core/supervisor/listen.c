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

/* make_sockaddr - 0, or -1 when host is no numeric address */
static int
make_sockaddr(const char *host, uint16_t port, struct sockaddr_storage *ss,
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
	int fd = -1, on = 1;

	if (hostport_parse(address, &host, &port) == -1 ||
	    make_sockaddr(host, port, &ss, &len) == -1)
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
	log_err("supervisor: bind: address=%s: %s", address, strerror(errno));
	if (fd != -1)
		(void)close(fd);
	free(host);
	return (-1);
}

int
listen_bind(struct sup *sup)
{
	const struct settings *s = sup->settings;
	struct listening *list;
	unsigned waits = WAITS;
	size_t i, k;
	int fd;

	for (i = 0; i < s->n_listeners; i++)
		for (k = 0; k < s->listeners[i].n_addresses; k++) {
			fd = bind_one(s->listeners[i].addresses[k], &waits);
			if (fd == -1)
				return (-1);
			list = realloc(sup->listening,
			    (sup->n_listening + 1) * sizeof(*list));
			if (list == NULL) {
				(void)close(fd);
				return (-1);
			}
			sup->listening = list;
			list += sup->n_listening++;
			list->sock = fd;
			list->title = strdup(s->listeners[i].name);
			if (list->title == NULL)
				return (-1);
		}
	return (0);
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
	for (i = 0; i < sup->n_procs; i++)
		if (sup->procs[i]->ops != NULL &&
		    sup->procs[i]->ops->kind == PROC_RECEIVER &&
		    sup->procs[i]->control != NULL)
			spawn_listeners(sup->procs[i]);
	return (0);
}
