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

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	READ_ONCE = 64 << 10,
	RETRY_US = 20 * 1000, /* a milter of ours that is being started */
	CLOCK_LAG_US = 20 * 1000
};

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
	if (c != NULL && c->phase == CONN_READY)
		conn_say_quit(c);
	conn_drop(l);
}

void
conn_say_quit(struct conn *c)
{
	if (c->due)
		(void)conn_cut(c); /* it would wait for the answer */
	if (milter_put(&c->out, MILTER_QUIT, NULL, 0) == 0)
		(void)conn_flush(c);
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
	const struct milter_conf *m = c->conf;
	const struct link *l = c->link;
	uint64_t us, now = now_us();
	struct timeval tv;

	/* Started again it would wait for the next turn of the event loop, and
	 * a milter that never stops talking has a packet in each of them. */
	if (c->deadline_us != 0 && c->deadline_us <= now &&
	    event_pending(c->timer, EV_TIMEOUT, NULL))
		return;
	/* Not its turn: more of the body, or another milter, has to come. */
	if (c->phase == CONN_READY && l != NULL && l->n_expect == 0 &&
	    c->out.len == 0) {
		(void)event_del(c->timer);
		return;
	}
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

/* owes - does the milter answer that command? */
static bool
owes(const struct conn *c, char cmd)
{
	static const struct {
		char cmd;
		uint32_t nr;
	} rows[] = {
		{ MILTER_CONNECT, MILTER_NR_CONNECT },
		{ MILTER_HELO, MILTER_NR_HELO },
		{ MILTER_MAIL, MILTER_NR_MAIL },
		{ MILTER_RCPT, MILTER_NR_RCPT },
		{ MILTER_DATA, MILTER_NR_DATA },
		{ MILTER_HEADER, MILTER_NR_HEADER },
		{ MILTER_EOH, MILTER_NR_EOH },
		{ MILTER_BODY, MILTER_NR_BODY },
		{ MILTER_UNKNOWN, MILTER_NR_UNKNOWN },
		{ MILTER_EOM, 0 },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].cmd == cmd)
			return ((c->opts.protocol & rows[i].nr) == 0);
	return (false);
}

/* let_go - how far what is queued may leave: all of it, or with pipeline = safe
 * up to the first command that is answered */
static size_t
let_go(struct conn *c)
{
	struct milter_packet pkt;
	long n;

	if (c->phase != CONN_READY || !c->conf->safe)
		return (c->out.len);
	while (!c->due && c->out_let < c->out.len &&
	    (n = milter_next(c->out.data + c->out_let, c->out.len - c->out_let,
	         MILTER_PAYLOAD_MAX, &pkt)) > 0) {
		c->out_let += (size_t)n;
		c->due = owes(c, pkt.code);
	}
	return (c->out_let);
}

bool
conn_cut(struct conn *c)
{
	if (c->conf->safe) {
		c->out.len = c->out_let;
		c->due = false;
	}
	return (c->conf->safe);
}

/* gone - the peer has closed a session's connection: what it said before that,
 * maybe a verdict, is read first, and then its end */
static bool
gone(const struct conn *c)
{
	return (c->link != NULL && c->phase == CONN_READY &&
	    (errno == EPIPE || errno == ECONNRESET));
}

/* conn_flush - write what is queued; what is left waits for the socket, or for
 * an answer */
int
conn_flush(struct conn *c)
{
	size_t end = let_go(c);
	int one = 1;
	ssize_t n;

	if (c->link != NULL && c->link->recording != NULL)
		recording_to(c, end);
	while (c->out_off < end) {
		n = conn_send(c, c->out.data + c->out_off, end - c->out_off);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return (event_add(c->ev_write, NULL));
		if (n == -1 && !gone(c))
			return (-1);
		c->out_off = n == -1 ? end : c->out_off + (size_t)n;
	}
	if (c->out_off == c->out.len)
		c->out.len = c->out_off = c->out_let = c->out_noted = 0;
	/* Without it the kernel delays its acknowledgement of the reply. */
	if (c->inet)
		(void)setsockopt(
		    c->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
	return (0);
}

/* reason - of the call that has just failed on c (NULL: it could not begin) */
static const char *
reason(const struct conn *c)
{
	if (errno == EPROTO && c != NULL && c->why[0] != '\0')
		return (c->why);
	return (strerror(errno));
}

/* unreached - an endpoint did not come as far as the negotiation's end */
static void
unreached(struct link *l, size_t endpoint, const char *what, const char *why)
{
	char text[400];

	(void)snprintf(text, sizeof(text), "%s: %s: %s", what,
	    l->conf->endpoints[endpoint].text, why);
	endpoint_fault(l, endpoint, text);
}

/* move_on - say that another endpoint takes the place of the one that failed */
static void
move_on(struct link *l)
{
	const struct chain *c = l->chain;
	char quoted[512];

	l->state->failovers++;
	log_warning("%s: milter=%s: %s; next endpoint=%s",
	    c->id[0] != '\0' ? c->id : "NOQUEUE", l->conf->name,
	    log_quote(
	        quoted, sizeof(quoted), l->fault != NULL ? l->fault : "failed"),
	    l->conf->endpoints[l->endpoint].text);
}

static int
begin(struct link *l, size_t endpoint)
{
	struct conn *c =
	    conn_new(l->chain->engine, l->conf, l->state, endpoint);
	uint64_t by_us = now_us() + l->conf->connect_ms * 1000;

	if (c == NULL)
		return (-1);
	conn_attach(c, l);
	if (l->chain->q != Q_NONE && l->by_us != 0 && l->by_us < by_us)
		by_us = l->by_us;
	c->deadline_us = by_us;
	conn_arm(c);
	return (conn_dial(c));
}

/* conn_start - the best endpoint that is left, from its pool or new; -1 when
 * there is none */
static int
conn_start(struct link *l, bool next)
{
	struct estate *es;
	int i;

	while ((i = endpoint_choose(l)) != -1) {
		l->endpoint = (size_t)i;
		if (next)
			move_on(l);
		next = true;
		es = endpoint_state(l->state, l->conf->endpoints[i].text);
		if (es != NULL && pool_get(l, es))
			return (0);
		if (begin(l, (size_t)i) == 0)
			return (0);
		unreached(l, (size_t)i, "connect", reason(l->conn));
		conn_drop(l);
	}
	link_fail(l, false, "%s",
	    l->fault != NULL ? l->fault : "all endpoints are ejected");
	return (-1);
}

int
conn_get(struct link *l)
{
	return (conn_start(l, false));
}

int
conn_next(struct link *l)
{
	return (conn_start(l, true));
}

/* try_again - a milter of ours that ended as we came is being started: another
 * connection soon, until the same deadline; false: there is no sense in it */
static bool
try_again(struct link *l, size_t endpoint, uint64_t deadline_us)
{
	struct timeval tv = { 0, RETRY_US };
	struct conn *c;

	if (l->conf->run == NULL || now_us() >= deadline_us ||
	    (c = conn_new(l->chain->engine, l->conf, l->state, endpoint)) ==
	        NULL)
		return (false);
	conn_attach(c, l);
	c->deadline_us = deadline_us;
	if (event_add(c->timer, &tv) == 0)
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
	if (c == NULL || !c->reused || c->heard ||
	    (l->rcpts > now && !l->extra))
		return (false);
	conn_drop(l);
	pool_clear(l->chain->engine, l->state); /* from the same time */
	link_forget(l);
	(void)conn_start(l, false);
	return (true);
}

/* lost_early - before the negotiation's end: nothing was said to it yet */
static void
lost_early(struct conn *c, const char *why)
{
	struct link *l = c->link;
	size_t at = c->endpoint;
	uint64_t deadline_us = c->deadline_us;
	const char *what =
	    c->phase == CONN_NEGOTIATING ? "negotiate" : "connect";
	char text[200];

	(void)snprintf(text, sizeof(text), "%s", why); /* may be c's */
	conn_drop(l);
	if (try_again(l, at, deadline_us))
		return;
	unreached(l, at, what, text);
	(void)conn_start(l, true);
}

/* lost - the peer is gone or took too long: the next endpoint while nothing was
 * said, a replay there if it was, nothing at all between messages, else that
 * milter's failure */
static void
lost(struct conn *c, const char *why)
{
	struct link *l = c->link;

	if (l == NULL)
		probe_failed(c, why);
	else if (c->phase != CONN_READY)
		lost_early(c, why);
	else if (!link_waits(l) && (!l->open || l->done))
		conn_drop(l);
	else if (!conn_again(l) &&
	    /* one from the pool may have ended long ago */
	    !replay(l, !c->reused || c->heard, why))
		link_fail(l, false, "%s", why);
}

/* negotiated - the answer to our offer */
static void
negotiated(struct conn *c, const struct milter_packet *pkt)
{
	const char *why = "talks unasked";
	bool last = pkt->data + pkt->len == c->in.data + c->in.len;

	if ((c->link != NULL || last) && negotiate_answer(c, pkt, &why) == 0) {
		c->phase = CONN_READY;
		if (c->link == NULL)
			c->in.len = 0;
		else
			recording_options(c->link);
		conn_idle(c);
		endpoint_handshake(c);
		if (c->link == NULL)
			probe_ready(c);
	} else if (c->link == NULL) {
		probe_failed(c, why);
	} else if (c->conf->n_endpoints > 1) {
		lost_early(c, why); /* others may be another program */
	} else {
		link_fail(c->link, true, "negotiate: %s", why);
	}
}

/* take_packets - hand on every whole packet; false when c is gone, or no
 * session's */
static bool
take_packets(struct conn *c)
{
	struct link *l = c->link;
	unsigned conns = l != NULL ? l->conns : 0;
	struct milter_packet pkt;
	size_t off = 0;
	long n;

	while ((n = milter_next(c->in.data + off, c->in.len - off,
	            MILTER_PAYLOAD_MAX, &pkt)) > 0) {
		off += (size_t)n;
		c->heard = true;
		if (l != NULL)
			recording_from(l, &pkt);
		if (c->phase == CONN_READY)
			link_packet(l, &pkt);
		else
			negotiated(c, &pkt);
		/* The next one may have come to lie where c was. */
		if (l == NULL || l->conn != c || l->conns != conns)
			return (false);
	}
	if (n == -1) {
		if (l == NULL) {
			probe_failed(c, "bad packet");
			return (false);
		}
		link_fail(l, true, "bad packet: %s", strerror(errno));
		return (false);
	}
	memmove(c->in.data, c->in.data + off, c->in.len - off);
	c->in.len -= off;
	if (c->phase == CONN_READY && !link_waits(l))
		conn_idle(c);
	return (true);
}

/* take - read once and hand on; false when c is not to be read again */
static bool
take(struct conn *c)
{
	static char room[READ_ONCE];
	struct link *l = c->link;
	ssize_t n = conn_recv(c, room, sizeof(room));

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return (false);
	if (c->pooled) { /* idle: its end, or words nobody asked for */
		pool_lost(c);
		return (false);
	}
	if (n > 0 && buf_add(&c->in, room, (size_t)n) == 0)
		return (take_packets(c));
	if (n > 0 && l != NULL)
		link_fail(l, true, "reply: %s", strerror(errno));
	else
		lost(c, n == 0 ? "closed the connection" : reason(c));
	return (false);
}

void
conn_on_read(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct link *l = c->link;

	(void)fd;
	(void)what;
	if (c->phase == CONN_TLS) {
		int r = tls_step(c);

		if (r == -1 || (r == 1 && conn_offer(c) == -1))
			lost(c, reason(c));
	} else {
		while (take(c) && conn_pending(c))
			;
	}
	if (l != NULL)
		chain_wake(l);
}

/* connected - or not: the socket knows */
static int
connected(struct conn *c)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1)
		return (-1);
	if (err != 0) {
		errno = err;
		return (-1);
	}
	return (conn_dialled(c));
}

void
conn_on_write(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct link *l = c->link;
	int r;

	(void)fd;
	(void)what;
	if (c->pooled) {
		if (conn_flush(c) == -1)
			pool_lost(c);
		return;
	}
	if (c->phase == CONN_CONNECTING)
		r = connected(c);
	else if (c->phase == CONN_TLS)
		r = (r = tls_step(c)) == 1 ? conn_offer(c) : r;
	else
		r = conn_flush(c);
	if (r == -1)
		lost(c, reason(c));
	else if (l != NULL && c->phase >= CONN_NEGOTIATING &&
	    (link_waits(l) || c->phase != CONN_READY))
		conn_arm(c); /* the peer reads: that is progress */
	if (l != NULL)
		chain_wake(l);
}

/* no_answer - out of time: elsewhere if there is some left for the question */
static void
no_answer(struct conn *c)
{
	struct link *l = c->link;
	char why[80];
	/* The event loop's clock may be a little behind. */
	bool all =
	    c->deadline_us != 0 && now_us() + CLOCK_LAG_US >= c->deadline_us;

	stats_timeout(c);
	(void)snprintf(why, sizeof(why), "no answer to %c: %s",
	    l->expect[0].cmd,
	    all ? "out of time for the message" : "out of time");
	if (!replay(l, true, why))
		link_fail(l, false, "%s", why);
}

void
conn_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct link *l = c->link;

	(void)fd;
	(void)what;
	if (c->phase == CONN_CONNECTING && !c->inet &&
	    now_us() < c->deadline_us) {
		if (conn_dial(c) == -1)
			lost(c, reason(c));
	} else if (c->phase == CONN_READY && l != NULL && l->n_expect > 0) {
		no_answer(c);
	} else {
		stats_timeout(c);
		lost(c, "out of time");
	}
	if (l != NULL)
		chain_wake(l);
}
