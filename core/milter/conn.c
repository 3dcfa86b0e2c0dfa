/* SPDX-License-Identifier: ISC */

/*
 * conn - one milter's connection: socket, packets, timers
 *
 * Non-blocking throughout.  Writes go out at once and only what the socket does
 * not take waits for an event.
 *
 * Whatever happens here ends in chain_wake() as the last act of the event
 * function, because the answer that follows may free the chain.
 */

#include "core/milter/chain_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

static void on_read(evutil_socket_t, short, void *);
static void on_write(evutil_socket_t, short, void *);
static void on_timer(evutil_socket_t, short, void *);
static int conn_start(struct link *);

void
conn_free(struct conn *c)
{
	size_t i;

	if (c->ev_read != NULL)
		event_free(c->ev_read);
	if (c->ev_write != NULL)
		event_free(c->ev_write);
	if (c->timer != NULL)
		event_free(c->timer);
	if (c->fd != -1)
		(void)close(c->fd);
	for (i = 0; i < MILTER_STAGES; i++)
		free(c->lists[i]);
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

/* forget - the link has no connection, so nothing was said on it */
static void
forget(struct link *l)
{
	recording_closed(l);
	l->conn = NULL;
	l->sent_connect = false;
	l->sent_helo = 0;
	l->sent_macros = 0;
	l->n_expect = 0;
	l->pumping = false;
	l->open = false;
}

/* conn_drop - close without a word */
void
conn_drop(struct link *l)
{
	struct conn *c = l->conn;

	forget(l);
	if (c != NULL)
		conn_free(c);
}

/* conn_put - done with it: into the pool, else QUIT and close */
void
conn_put(struct link *l)
{
	struct conn *c = l->conn;

	if (c != NULL && pool_put(l)) {
		forget(l);
		return;
	}
	if (c != NULL && c->phase == CONN_READY &&
	    milter_put(&c->out, MILTER_QUIT, NULL, 0) == 0)
		(void)conn_flush(c);
	conn_drop(l);
}

bool
conn_ready(const struct link *l)
{
	return (l->conn != NULL && l->conn->phase == CONN_READY);
}

/* conn_arm - (re)start the timer of the phase; never beyond the deadline */
void
conn_arm(struct conn *c)
{
	const struct milter_conf *m = c->link->conf;
	uint64_t us, now = now_us();
	struct timeval tv;

	us = (c->phase == CONN_READY ? m->command_ms : m->connect_ms) * 1000;
	if (c->deadline_us != 0 && c->deadline_us < now + us)
		us = c->deadline_us > now ? c->deadline_us - now : 0;
	tv.tv_sec = (time_t)(us / 1000000);
	tv.tv_usec = (suseconds_t)(us % 1000000);
	(void)event_add(c->timer, &tv);
}

/* conn_idle - nothing is due: an idle session keeps no buffers */
void
conn_idle(struct conn *c)
{
	(void)event_del(c->timer);
	c->deadline_us = 0;
	if (c->in.len == 0)
		buf_fini(&c->in);
	if (c->out.len == 0)
		buf_fini(&c->out);
}

/* conn_flush - write what is queued; what is left waits for the socket */
int
conn_flush(struct conn *c)
{
	int one = 1;
	ssize_t n;

	if (c->link != NULL && c->link->recording != NULL)
		recording_to(c);
	while (c->out_off < c->out.len) {
		n = send(c->fd, c->out.data + c->out_off,
		    c->out.len - c->out_off, MSG_NOSIGNAL);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return (event_add(c->ev_write, NULL));
		if (n == -1)
			return (-1);
		c->out_off += (size_t)n;
	}
	c->out.len = c->out_off = c->out_noted = 0;
	/* Without it the kernel delays its acknowledgement of the reply. */
	if (c->inet)
		(void)setsockopt(
		    c->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
	return (0);
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
	} else if ((h = engine_host(e, ep->host, false)) != NULL) {
		v4->sin_family = AF_INET;
		memcpy(&v4->sin_addr, h->addr, 4);
		return (sizeof(*v4));
	} else if ((h = engine_host(e, ep->host, true)) != NULL) {
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

static int
offer(struct conn *c)
{
	c->phase = CONN_NEGOTIATING;
	if (negotiate_offer(c) == -1 || conn_flush(c) == -1 ||
	    event_add(c->ev_read, NULL) == -1)
		return (-1);
	conn_arm(c);
	return (0);
}

/* try_connect - 0 under way or done, -1 with errno */
static int
try_connect(struct conn *c)
{
	struct link *l = c->link;
	struct sockaddr_storage ss;
	socklen_t len;
	struct timeval tv = { 0, RETRY_US };

	len = endpoint_address(
	    l->chain->engine, &l->conf->endpoints[c->endpoint], &ss);
	if (len == 0) {
		errno = EADDRNOTAVAIL;
		return (-1);
	}
	if (connect(c->fd, (struct sockaddr *)&ss, len) == 0)
		return (offer(c));
	if (errno == EINPROGRESS)
		return (event_add(c->ev_write, NULL));
	/* A UNIX socket says so when its queue is full: look again soon.  A
	 * timeout on the write event would do as well, but that one may fire
	 * at once for an unconnected socket.  Likewise when a milter of ours
	 * has no socket: it is being started. */
	if (!c->inet &&
	    (errno == EAGAIN ||
	        (l->conf->run != NULL &&
	            (errno == ENOENT || errno == ECONNREFUSED))))
		return (event_add(c->timer, &tv));
	return (-1);
}

static struct conn *
conn_new(struct link *l, size_t endpoint)
{
	const struct endpoint *ep = &l->conf->endpoints[endpoint];
	struct event_base *base = l->chain->engine->base;
	struct conn *c;
	int domain, one = 1;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->engine = l->chain->engine;
	c->link = l;
	c->endpoint = endpoint;
	l->state->connects++;
	c->inet = ep->family == ENDPOINT_INET;
	c->in.max = MILTER_PAYLOAD_MAX + MILTER_HDR + READ_ONCE;
	c->out.max = OUT_MAX;
	domain = AF_UNIX;
	if (c->inet) {
		struct sockaddr_storage ss;

		domain = AF_INET;
		if (endpoint_address(l->chain->engine, ep, &ss) != 0)
			domain = ss.ss_family;
	}
	c->fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd == -1)
		goto fail;
	if (c->inet)
		(void)setsockopt(
		    c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->ev_read = event_new(base, c->fd, EV_READ | EV_PERSIST, on_read, c);
	c->ev_write = event_new(base, c->fd, EV_WRITE, on_write, c);
	c->timer = event_new(base, -1, 0, on_timer, c);
	if (c->ev_read == NULL || c->ev_write == NULL || c->timer == NULL)
		goto fail;
	return (c);

fail:
	conn_free(c);
	return (NULL);
}

/* conn_start - connect to l->endpoint or one after it; -1 when none is left */
static int
conn_start(struct link *l)
{
	const char *text = "no endpoint";
	int saved = 0;

	for (; l->endpoint < l->conf->n_endpoints; l->endpoint++) {
		text = l->conf->endpoints[l->endpoint].text;
		if ((l->conn = conn_new(l, l->endpoint)) != NULL) {
			recording_connected(l, false);
			l->conn->deadline_us =
			    now_us() + l->conf->connect_ms * 1000;
			conn_arm(l->conn);
			if (try_connect(l->conn) == 0)
				return (0);
		}
		saved = errno;
		conn_drop(l);
	}
	link_fail(l, false, "connect: %s: %s", text, strerror(saved));
	return (-1);
}

int
conn_get(struct link *l)
{
	l->endpoint = 0;
	recording_begin(l);
	if (pool_get(l)) {
		recording_connected(l, true);
		return (0);
	}
	return (conn_start(l));
}

/* try_again - a milter of ours that ended as we came is being started: another
 * connection soon, until the same deadline; false: there is no sense in it */
static bool
try_again(struct link *l, size_t endpoint, uint64_t deadline_us)
{
	struct timeval tv = { 0, RETRY_US };

	if (l->conf->run == NULL || now_us() >= deadline_us ||
	    (l->conn = conn_new(l, endpoint)) == NULL)
		return (false);
	recording_connected(l, false);
	l->conn->deadline_us = deadline_us;
	if (event_add(l->conn->timer, &tv) == 0)
		return (true);
	conn_drop(l);
	return (false);
}

bool
conn_again(struct link *l)
{
	const struct conn *c = l->conn;
	unsigned now = l->chain->q == Q_RCPT ? 1 : 0;

	/* A recipient shown before would not be shown again. */
	if (c == NULL || !c->reused || c->heard || l->rcpts > now)
		return (false);
	conn_drop(l);
	pool_clear(l->chain->engine, l->state); /* from the same time */
	l->asked = l->sent_mail = l->sent_data = l->sent_body = false;
	l->rcpts = 0;
	l->endpoint = 0;
	(void)conn_start(l);
	return (true);
}

/* lost - the peer is gone or took too long: the next endpoint while nothing was
 * said, nothing at all between messages, else that milter's failure */
static void
lost(struct conn *c, const char *why)
{
	struct link *l = c->link;

	if (c->phase != CONN_READY) {
		size_t at = c->endpoint;
		uint64_t deadline_us = c->deadline_us;
		const char *what =
		    c->phase == CONN_CONNECTING ? "connect" : "negotiate";

		conn_drop(l);
		if (try_again(l, at, deadline_us))
			return;
		l->endpoint = at + 1;
		if (l->endpoint < l->conf->n_endpoints)
			(void)conn_start(l);
		else
			link_fail(l, false, "%s: %s: %s", what,
			    l->conf->endpoints[at].text, why);
	} else if (link_waits(l) || (l->open && !l->done)) {
		if (!conn_again(l))
			link_fail(l, false, "%s", why);
	} else
		conn_drop(l);
}

/* take_packets - hand on every whole packet; false when c is gone */
static bool
take_packets(struct conn *c)
{
	struct link *l = c->link;
	struct milter_packet pkt;
	const char *why;
	size_t off = 0;
	long n;

	while ((n = milter_next(c->in.data + off, c->in.len - off,
	            MILTER_PAYLOAD_MAX, &pkt)) > 0) {
		off += (size_t)n;
		c->heard = true;
		recording_from(l, &pkt);
		if (c->phase == CONN_READY) {
			link_packet(l, &pkt);
		} else if (negotiate_answer(c, &pkt, &why) == 0) {
			c->phase = CONN_READY;
			recording_options(l);
			conn_idle(c);
		} else {
			link_fail(l, true, "negotiate: %s", why);
		}
		if (l->conn != c)
			return (false);
	}
	if (n == -1) {
		link_fail(l, true, "bad packet: %s", strerror(errno));
		return (false);
	}
	memmove(c->in.data, c->in.data + off, c->in.len - off);
	c->in.len -= off;
	if (c->phase == CONN_READY && !link_waits(l))
		conn_idle(c);
	return (true);
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	static char room[READ_ONCE];
	struct conn *c = arg;
	struct link *l = c->link;
	ssize_t n;

	(void)what;
	n = recv(fd, room, sizeof(room), 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (l == NULL) { /* idle: its end, or words nobody asked for */
		pool_lost(c);
		return;
	}
	if (n <= 0)
		lost(c, n == 0 ? "closed the connection" : strerror(errno));
	else if (buf_add(&c->in, room, (size_t)n) == -1)
		link_fail(l, true, "reply: %s", strerror(errno));
	else
		(void)take_packets(c);
	chain_wake(l);
}

static void
on_write(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct link *l = c->link;
	int err = 0;
	socklen_t len = sizeof(err);

	(void)what;
	if (l == NULL) {
		if (conn_flush(c) == -1)
			pool_lost(c);
		return;
	}
	if (c->phase == CONN_CONNECTING) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1)
			err = errno;
		if (err != 0)
			lost(c, strerror(err));
		else if (offer(c) == -1)
			lost(c, strerror(errno));
	} else if (conn_flush(c) == -1) {
		lost(c, strerror(errno));
	} else if (link_waits(l) || c->phase != CONN_READY) {
		conn_arm(c); /* the peer reads: that is progress */
	}
	chain_wake(l);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct link *l = c->link;

	(void)fd;
	(void)what;
	if (c->phase == CONN_CONNECTING && !c->inet &&
	    now_us() < c->deadline_us) {
		if (try_connect(c) == -1)
			lost(c, strerror(errno));
	} else if (c->phase == CONN_READY && l->n_expect > 0) {
		link_fail(l, false, "no answer to %c: %s", l->expect[0].cmd,
		    c->deadline_us != 0 && now_us() >= c->deadline_us
		        ? "out of time for the message"
		        : "out of time");
	} else {
		lost(c, "out of time");
	}
	chain_wake(l);
}
