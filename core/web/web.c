/* SPDX-License-Identifier: ISC */

/*
 * web - the process that answers monitoring, on loopback
 *
 * It knows nothing itself: no file, no channel to any process but the
 * supervisor, and no command but two questions.  Other addresses need another
 * process, with another sandbox: a reload that changes them ends this one.
 */

#include "core/web/web.h"

#include "core/conf/endpoint.h"
#include "milter-sdk/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 64 };

uint64_t
web_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

/* listen_on - a socket, or -1 after having logged why */
static int
listen_on(const char *address)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&ss;
	socklen_t len = sizeof(*in);
	char *host = NULL;
	uint16_t port;
	int fd = -1, on = 1;

	if (hostport_parse(address, &host, &port) == -1)
		goto fail;
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	if (inet_pton(AF_INET, host, &in->sin_addr) != 1) {
		memset(&ss, 0, sizeof(ss));
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		len = sizeof(*in6);
		if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1)
			goto fail;
	}
	fd =
	    socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    bind(fd, (struct sockaddr *)&ss, len) == -1 ||
	    listen(fd, BACKLOG) == -1)
		goto fail;
	free(host);
	return (fd);

fail:
	log_err("web: listen: address=%s: %s", address, strerror(errno));
	if (fd != -1)
		(void)close(fd);
	free(host);
	return (-1);
}

static int
web_open(struct child *c)
{
	const struct settings *s = c->settings;
	struct web *w = calloc(1, sizeof(*w));
	size_t i;

	if (w == NULL)
		return (-1);
	c->priv = w;
	w->c = c;
	TAILQ_INIT(&w->visits);
	for (i = 0; i < QUESTIONS; i++) {
		w->asks[i].w = w;
		w->asks[i].what = (enum question)i;
		w->asks[i].sock = -1;
	}
	for (i = 0; i < s->n_web_addresses && i < SOCKETS_MAX; i++) {
		w->socks[i] = listen_on(s->web_addresses[i]);
		if (w->socks[i] == -1)
			return (-1); /* the supervisor tries again */
		w->n_socks++;
	}
	return (0);
}

static int
web_start(struct child *c)
{
	struct web *w = c->priv;
	size_t i;

	for (i = 0; i < w->n_socks; i++)
		serve_door(w, i);
	return (0);
}

static void
web_peer(struct child *c, enum proc_kind kind, unsigned index, int sock)
{
	(void)c;
	(void)kind;
	(void)index;
	(void)close(sock);
}

static void
web_reload(struct child *c, struct settings *old)
{
	const struct settings *s = c->settings;
	size_t i;

	if (s->n_web_addresses == old->n_web_addresses) {
		for (i = 0; i < s->n_web_addresses; i++)
			if (strcmp(s->web_addresses[i],
			        old->web_addresses[i]) != 0)
				break;
		if (i == s->n_web_addresses)
			return;
	}
	log_info("web: other addresses: ending");
	child_exit(c, 0);
}

static void
web_state(struct child *c, const char *name, const char *value)
{
	(void)c;
	(void)name;
	(void)value;
}

static void
web_command(struct child *c, uint64_t ref, const char *line)
{
	static const char unknown[] = "{\"error\":\"unknown command\"}";
	const struct web *w = c->priv;
	struct buf b = BUF_INIT(1024);

	if (strcmp(line, "metrics") == 0)
		child_reply(c, ref, true, "", 0); /* the page is ours */
	else if (strcmp(line, "status") == 0 &&
	    buf_addf(&b, "{\"visits\":%u}", w->n_visits) == 0)
		child_reply(c, ref, true, b.data, b.len);
	else
		child_reply(c, ref, true, unknown, sizeof(unknown) - 1);
	buf_fini(&b);
}

static void
web_stop(struct child *c)
{
	child_exit(c, 0);
}

const struct child_ops web_ops = {
	.kind = PROC_WEB,
	.open = web_open,
	.start = web_start,
	.peer = web_peer,
	.reload = web_reload,
	.state = web_state,
	.command = web_command,
	.stop = web_stop,
};
