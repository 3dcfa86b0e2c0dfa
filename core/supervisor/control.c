/* SPDX-License-Identifier: ISC */

/*
 * control - the socket that milldamctl(8) talks to
 *
 * One command line in, JSON out, then the connection ends.  The socket's mode
 * says who may command; still no line, answer or number of clients is without
 * a limit, so that a stuck client costs nothing but itself.
 */

#include "core/supervisor/control.h"

#include "milter-sdk/base/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	ASKS_MAX = 4,
	LINE_MAX_BYTES = 4096,
	ANSWER_MAX = 256 << 20,
	CLIENT_SECONDS = 20
};

static int
socket_path(const struct sup *sup, struct sockaddr_un *un)
{
	int n = snprintf(un->sun_path, sizeof(un->sun_path), "%s/control",
	    sup->settings->run_dir);

	un->sun_family = AF_UNIX;
	if (n < 0 || (size_t)n >= sizeof(un->sun_path)) {
		log_err("supervisor: control: %s/control: too long",
		    sup->settings->run_dir);
		return (-1);
	}
	return (0);
}

void
client_free(struct client *c)
{
	struct client **at = &c->sup->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (c->in_ev != NULL)
		event_free(c->in_ev);
	if (c->out_ev != NULL)
		event_free(c->out_ev);
	gather_free(c);
	buf_fini(&c->out);
	(void)close(c->sock);
	free(c);
}

static void
on_writable(evutil_socket_t sock, short what, void *arg)
{
	struct client *c = arg;
	ssize_t n;

	if (what & EV_TIMEOUT) {
		client_free(c);
		return;
	}
	n = send(
	    sock, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
	if (n == -1 && errno != EAGAIN && errno != EINTR) {
		client_free(c);
		return;
	}
	if (n > 0) {
		c->sent += (size_t)n;
		gather_sent(c, (size_t)n);
	}
	if (c->sent == c->out.len) {
		c->sent = c->out.len = 0;
		if (c->ended) {
			client_free(c);
			return;
		}
		return;
	}
	client_flush(c);
}

void
client_flush(struct client *c)
{
	static const struct timeval limit = { CLIENT_SECONDS, 0 };

	if (event_add(c->out_ev, &limit) == -1)
		c->ended = true;
}

void
client_say(struct client *c, const char *text, size_t n)
{
	if (buf_add(&c->out, text, n) == -1) {
		c->ended = true; /* cut short: no valid JSON, so noticed */
		log_warning("supervisor: control: answer too long");
	}
	client_flush(c);
}

void
client_end(struct client *c)
{
	c->ended = true;
	client_say(c, "\n", 1);
}

void
client_error(struct client *c, const char *text)
{
	struct buf b = BUF_INIT(8192);

	if (buf_add(&b, "{", 1) == 0 && json_kv_str(&b, "error", text) == 0 &&
	    buf_add(&b, "}", 1) == 0)
		client_say(c, b.data, b.len);
	buf_fini(&b);
	client_end(c);
}

static void
on_readable(evutil_socket_t sock, short what, void *arg)
{
	struct client *c = arg;
	char *end;
	ssize_t n;

	if (what & EV_TIMEOUT) {
		client_free(c);
		return;
	}
	n = recv(sock, c->line + c->len, LINE_MAX_BYTES - 1 - c->len, 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_free(c);
		return;
	}
	c->len += (size_t)n;
	c->line[c->len] = '\0';
	if ((end = strchr(c->line, '\n')) == NULL) {
		if (c->len < LINE_MAX_BYTES - 1)
			return;
		(void)event_del(c->in_ev);
		client_error(c, "the command line is too long");
		return;
	}
	*end = '\0';
	(void)event_del(c->in_ev);
	control_run(c);
}

static struct client *
client_new(struct sup *sup, int sock)
{
	static const struct timeval limit = { CLIENT_SECONDS, 0 };
	struct client *c;

	if ((c = calloc(1, sizeof(*c))) == NULL) {
		(void)close(sock);
		return (NULL);
	}
	c->sup = sup;
	c->sock = sock;
	c->out.max = ANSWER_MAX;
	c->next = sup->clients;
	sup->clients = c;
	c->line = c->room;
	c->in_ev =
	    event_new(sup->base, sock, EV_READ | EV_PERSIST, on_readable, c);
	c->out_ev = event_new(sup->base, sock, EV_WRITE, on_writable, c);
	if (c->in_ev == NULL || c->out_ev == NULL ||
	    event_add(c->in_ev, &limit) == -1) {
		client_free(c);
		return (NULL);
	}
	return (c);
}

void
control_adopt(struct sup *sup, int sock)
{
	struct client *c, *i;
	unsigned n = 0;

	for (i = sup->clients; i != NULL; i = i->next)
		n += i->asks;
	if (n >= ASKS_MAX)
		(void)close(sock);
	else if ((c = client_new(sup, sock)) != NULL)
		c->asks = true;
}

static void
on_connection(evutil_socket_t fd, short what, void *arg)
{
	struct sup *sup = arg;
	struct client *i;
	unsigned n = 0;
	int sock;

	(void)what;
	sock = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (sock == -1)
		return;
	for (i = sup->clients; i != NULL; i = i->next)
		n += !i->asks;
	if (n >= CLIENTS_MAX)
		(void)close(sock);
	else
		(void)client_new(sup, sock);
}

int
control_open(struct sup *sup)
{
	struct sockaddr_un un = { 0 };
	mode_t old;
	int rc;

	if (socket_path(sup, &un) == -1)
		return (-1);
	sup->control_sock =
	    socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sup->control_sock == -1)
		goto fail;
	(void)unlink(un.sun_path);
	old = umask(0117);
	rc = bind(sup->control_sock, (struct sockaddr *)&un, sizeof(un));
	(void)umask(old);
	if (rc == -1 || listen(sup->control_sock, CLIENTS_MAX) == -1)
		goto fail;
	sup->control = event_new(sup->base, sup->control_sock,
	    EV_READ | EV_PERSIST, on_connection, sup);
	if (sup->control == NULL || event_add(sup->control, NULL) == -1)
		goto fail;
	return (0);

fail:
	log_err(
	    "supervisor: control: path=%s: %s", un.sun_path, strerror(errno));
	return (-1);
}

void
control_close(struct sup *sup)
{
	struct sockaddr_un un = { 0 };

	while (sup->clients != NULL)
		client_free(sup->clients);
	if (sup->control != NULL)
		event_free(sup->control);
	if (sup->control_sock != -1) {
		(void)close(sup->control_sock);
		if (socket_path(sup, &un) == 0)
			(void)unlink(un.sun_path);
	}
}
