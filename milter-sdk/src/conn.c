/* SPDX-License-Identifier: ISC */

/*
 * conn - an MTA and its socket
 *
 * epoll tells of changes only (EPOLLET), so a read that does not fill the room
 * has emptied the socket and need not be repeated.  Room to write is asked for
 * only when there was none: on a Unix socket it would be told each time that
 * the peer has read something.
 */

#include "milter-sdk/src/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	READS_MAX = 16,      /* then others have their turn */
	KEEP_MAX = 16 << 10, /* bytes of an empty buffer that stays */
	IDLE_S = 7210,       /* as libmilter: longer than any SMTP session */
	STUCK_S = 300        /* in a packet, a reply or the negotiation */
};

time_t
conn_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (ts.tv_sec);
}

/* watch - tell epoll what is waited for */
static int
watch(struct conn *c, int op)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET |
		    (c->wants_out ? EPOLLOUT : 0),
		.data.ptr = c };

	return (epoll_ctl(c->poll_fd, op, c->fd, &e));
}

/*
 * progress - five bytes between two replies: out is empty, as nothing is
 * handled while message() works.  What the socket does not take waits there.
 */
static void
progress(struct mill_txn *t)
{
	static const char packet[] = { 0, 0, 0, 1, MILTER_PROGRESS };
	struct conn *c = t->backend;
	ssize_t n;

	if (c->mta.out.len > 0)
		return;
	n = send(c->fd, packet, sizeof(packet), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0 && n < (ssize_t)sizeof(packet))
		(void)!buf_add(
		    &c->mta.out, packet + n, sizeof(packet) - (size_t)n);
}

struct conn *
conn_new(const struct mill_filter *f, int poll_fd, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	int on = 1;

	if (c == NULL) {
		(void)close(fd);
		return (NULL);
	}
	/* It fails on a Unix socket, and need not be there. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	mta_init(&c->mta, f);
	c->mta.progress = progress;
	c->fd = fd;
	c->poll_fd = poll_fd;
	c->last_s = conn_now();
	if (watch(c, EPOLL_CTL_ADD) == -1) {
		conn_free(c);
		return (NULL);
	}
	return (c);
}

void
conn_free(struct conn *c)
{
	mta_fini(&c->mta);
	(void)close(c->fd);
	if (c->held)
		session_release();
	free(c);
}

/* flush - 0, also when some is left; -1: the connection is gone */
static int
flush(struct conn *c)
{
	struct buf *b = &c->mta.out;
	ssize_t n = 0;

	if (b->len > 0)
		n = send(c->fd, b->data, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n == -1 && errno != EAGAIN && errno != EINTR)
		return (-1);
	if (n > 0) {
		b->len -= (size_t)n;
		memmove(b->data, b->data + n, b->len);
		c->last_s = conn_now();
	}
	if (b->len == 0 && b->cap > KEEP_MAX)
		buf_fini(b);
	if ((b->len > 0) == c->wants_out)
		return (0);
	c->wants_out = b->len > 0;
	return (watch(c, EPOLL_CTL_MOD));
}

/* take - read once; what is next, or MTA_READ with readable false */
static enum mta_next
take(struct conn *c, bool may_wait, char *room)
{
	ssize_t n;

	do
		n = recv(c->fd, room, MTA_READ_MAX, MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n == -1 && errno == EAGAIN) {
		c->readable = false;
		return (MTA_READ);
	}
	if (n <= 0)
		return (MTA_END);
	c->readable = n == MTA_READ_MAX || c->closing;
	c->last_s = conn_now();
	return (mta_take(&c->mta, room, (size_t)n, may_wait));
}

static enum conn_state
go(struct conn *c, bool may_wait, char *room)
{
	enum mta_next next = MTA_WRITE;
	int reads = 0;

	if (c->slow)
		next = mta_take(&c->mta, NULL, 0, may_wait);
	for (;;) {
		if (next == MTA_READ && c->readable && reads < READS_MAX) {
			reads++;
			next = take(c, may_wait, room);
			continue;
		}
		if ((c->slow = next == MTA_SLOW))
			return (CONN_SLOW);
		if (flush(c) == -1 || next == MTA_END)
			return (CONN_OVER);
		if (next == MTA_READ && c->readable &&
		    watch(c, EPOLL_CTL_MOD) == -1) /* it is told again */
			return (CONN_OVER);
		if (next == MTA_READ || c->mta.out.len > 0)
			return (CONN_WAITS);
		next = mta_take(&c->mta, NULL, 0, may_wait);
	}
}

enum conn_state
conn_go(struct conn *c, bool may_wait, char *room)
{
	enum conn_state state;

	if (!c->held) {
		c->held = true;
		session_hold();
	}
	state = go(c, may_wait, room);
	if (state == CONN_WAITS && c->mta.out.len == 0) {
		c->held = false;
		session_release();
	}
	return (state);
}

bool
conn_is_late(const struct conn *c, time_t now_s)
{
	bool stuck =
	    !c->mta.negotiated || c->mta.in.len > 0 || c->mta.out.len > 0;

	return (now_s - c->last_s > (stuck ? STUCK_S : IDLE_S));
}
