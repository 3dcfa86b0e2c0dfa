/* SPDX-License-Identifier: ISC */

/*
 * dial - from an endpoint's address to the offer of a negotiation: socket,
 * connection, who the other side is
 */

#include "core/milter/chain_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	READ_ONCE = 64 << 10,
	OUT_MAX = 64 << 20,  /* a header as large as allowed fits */
	RETRY_US = 20 * 1000 /* a UNIX socket whose backlog is full */
};

void
conn_attach(struct conn *c, struct link *l)
{
	c->link = l;
	c->conf = l->conf;
	c->es->busy++;
	l->conn = c;
	l->conns++;
	recording_begin(l);
	recording_connected(l, c->phase == CONN_READY);
}

void
conn_detach(struct conn *c)
{
	if (c->link != NULL) {
		c->es->busy--;
		c->conf = c->link->shared; /* its own goes with the session */
	}
	c->link = NULL;
}

void
conn_free(struct conn *c)
{
	size_t i;

	conn_detach(c);
	if (c->ev_read != NULL)
		event_free(c->ev_read);
	if (c->ev_write != NULL)
		event_free(c->ev_write);
	if (c->timer != NULL)
		event_free(c->timer);
	if (c->ssl != NULL) {
		if (c->phase > CONN_TLS)
			(void)SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
	}
	if (c->fd != -1)
		(void)close(c->fd);
	for (i = 0; i < MILTER_STAGES; i++)
		free(c->lists[i]);
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

static socklen_t
inet_address(const struct engine *e, const struct endpoint *ep,
    struct sockaddr_storage *ss)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;
	const struct host *h;
	bool found = false;

	v4->sin_port = htons(ep->port); /* the same place in both */
	if (inet_pton(AF_INET, ep->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		return (sizeof(*v4));
	}
	v6->sin6_addr = in6addr_any;
	if (inet_pton(AF_INET6, ep->host, &v6->sin6_addr) == 1) {
		found = true;
	} else if ((h = engine_host(e, ep->host, ep->v6)) != NULL ||
	    (h = engine_host(e, ep->host, !ep->v6)) != NULL) {
		if (!h->v6) {
			v4->sin_family = AF_INET;
			v4->sin_port = htons(ep->port);
			memcpy(&v4->sin_addr, h->addr, 4);
			return (sizeof(*v4));
		}
		memcpy(&v6->sin6_addr, h->addr, 16);
		found = true;
	}
	v6->sin6_family = AF_INET6;
	return (found ? sizeof(*v6) : 0);
}

static socklen_t
endpoint_address(const struct engine *e, const struct endpoint *ep,
    struct sockaddr_storage *ss)
{
	struct sockaddr_un *un = (struct sockaddr_un *)ss;

	memset(ss, 0, sizeof(*ss));
	if (ep->family == ENDPOINT_INET)
		return (inet_address(e, ep, ss));
	if (strlen(ep->path) >= sizeof(un->sun_path))
		return (0);
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, ep->path, strlen(ep->path) + 1);
	return (sizeof(*un));
}

/* right_peer - is the socket's maker one of the `peer` users?  Else anybody who
 * can write to its folder could take the place of the filter. */
static bool
right_peer(struct conn *c)
{
	const struct milter_conf *m = c->conf;
	const struct user *u;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	size_t i;

	if (c->inet || m->n_peers == 0)
		return (true);
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1)
		return (false);
	for (i = 0; i < m->n_peers; i++)
		for (u = c->engine->users; u != NULL; u = u->next)
			if (u->uid == cred.uid &&
			    strcmp(u->name, m->peers[i]) == 0)
				return (true);
	(void)snprintf(c->why, sizeof(c->why),
	    "its socket belongs to user %u, who is not in peer",
	    (unsigned)cred.uid);
	errno = EPROTO;
	return (false);
}

int
conn_offer(struct conn *c)
{
	c->phase = CONN_NEGOTIATING;
	if (negotiate_offer(c) == -1 || conn_flush(c) == -1 ||
	    event_add(c->ev_read, NULL) == -1)
		return (-1);
	conn_arm(c);
	return (0);
}

int
conn_dialled(struct conn *c)
{
	int r = 1;

	if (!right_peer(c))
		return (-1);
	if (c->inet && c->conf->tls_ca != NULL) {
		if (tls_begin(c) == -1)
			return (-1);
		r = tls_step(c);
	}
	return (r == 1 ? conn_offer(c) : r);
}

int
conn_dial(struct conn *c)
{
	struct sockaddr_storage ss;
	socklen_t len;
	struct timeval tv = { 0, RETRY_US };

	len =
	    endpoint_address(c->engine, &c->conf->endpoints[c->endpoint], &ss);
	if (len == 0) {
		errno = EADDRNOTAVAIL;
		return (-1);
	}
	if (connect(c->fd, (struct sockaddr *)&ss, len) == 0)
		return (conn_dialled(c));
	if (errno == EINPROGRESS)
		return (event_add(c->ev_write, NULL));
	/* A UNIX socket says so when its queue is full: look again soon.  A
	 * timeout on the write event would do as well, but that one may fire
	 * at once for an unconnected socket.  Likewise when a milter of ours
	 * has no socket: it is being started. */
	if (!c->inet &&
	    (errno == EAGAIN ||
	        (c->conf->run != NULL &&
	            (errno == ENOENT || errno == ECONNREFUSED))))
		return (event_add(c->timer, &tv));
	return (-1);
}

static int
open_socket(struct conn *c, const struct endpoint *ep)
{
	struct sockaddr_storage ss;
	int domain = AF_UNIX, one = 1;

	if (c->inet) {
		domain = AF_INET;
		if (endpoint_address(c->engine, ep, &ss) != 0)
			domain = ss.ss_family;
	}
	c->fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd == -1)
		return (-1);
	if (c->inet)
		(void)setsockopt(
		    c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return (0);
}

struct conn *
conn_new(struct engine *e, const struct milter_conf *m, struct mstate *state,
    size_t endpoint)
{
	const struct endpoint *ep = &m->endpoints[endpoint];
	struct conn *c;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->fd = -1;
	c->engine = e;
	c->conf = m;
	c->endpoint = endpoint;
	c->inet = ep->family == ENDPOINT_INET;
	c->in.max = MILTER_PAYLOAD_MAX + MILTER_HDR + READ_ONCE;
	c->out.max = OUT_MAX;
	if ((c->es = endpoint_state(state, ep->text)) == NULL ||
	    open_socket(c, ep) == -1)
		goto fail;
	c->ev_read =
	    event_new(e->base, c->fd, EV_READ | EV_PERSIST, conn_on_read, c);
	c->ev_write = event_new(e->base, c->fd, EV_WRITE, conn_on_write, c);
	c->timer = event_new(e->base, -1, 0, conn_on_timer, c);
	if (c->ev_read == NULL || c->ev_write == NULL || c->timer == NULL)
		goto fail;
	stats_connect(c->es);
	return (c);

fail:
	conn_free(c);
	return (NULL);
}
