/* SPDX-License-Identifier: ISC */

/*
 * chan - frames on an event loop
 *
 * Output is flushed from a zero-delay event, so that every frame queued in one
 * pass of the loop shares one write.
 */

#include "core/proc/chan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { READS_PER_WAKE = 16 }; /* then let others have the loop */

struct chan {
	struct frame_io io;
	struct event *rd, *wr, *flush;
	chan_frame_fn *on_frame;
	chan_gone_fn *on_gone;
	void *arg;
	bool flushing; /* flush or wr is pending */
	bool *freed;   /* set while a handler runs: tells it to stop */
	bool gone;
};

static void
gone(struct chan *c)
{
	if (c->gone)
		return;
	c->gone = true;
	(void)event_del(c->rd);
	(void)event_del(c->wr);
	(void)event_del(c->flush);
	if (c->on_gone != NULL)
		c->on_gone(c->arg, c);
}

static void
on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct chan *c = arg;
	int n;

	(void)fd;
	(void)what;
	c->flushing = false;
	n = frame_flush(&c->io);
	if (n == -1)
		gone(c);
	else if (n == 1) {
		c->flushing = true;
		(void)event_add(c->wr, NULL);
	}
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct chan *c = arg;
	bool freed = false;
	struct frame f;
	long got;
	int n, i;

	(void)fd;
	(void)what;
	c->freed = &freed;
	for (i = 0; i < READS_PER_WAKE; i++) {
		got = frame_fill(&c->io);
		if (got == -1 && errno == EAGAIN)
			break;
		while ((n = frame_next(&c->io, &f)) == 1) {
			c->on_frame(c->arg, c, &f);
			if (freed)
				return;
			if (c->gone)
				goto out;
		}
		if (got <= 0 || n == -1) {
			c->freed = NULL;
			gone(c);
			return;
		}
		if (got < 64 * 1024)
			break;
	}
out:
	c->freed = NULL;
}

struct chan *
chan_new(struct event_base *base, int sock, chan_frame_fn *on_frame,
    chan_gone_fn *on_gone, void *arg)
{
	struct chan *c;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	frame_init(&c->io, sock);
	c->on_frame = on_frame;
	c->on_gone = on_gone;
	c->arg = arg;
	c->rd = event_new(base, sock, EV_READ | EV_PERSIST, on_read, c);
	c->wr = event_new(base, sock, EV_WRITE, on_flush, c);
	c->flush = event_new(base, -1, EV_TIMEOUT, on_flush, c);
	if (c->rd == NULL || c->wr == NULL || c->flush == NULL ||
	    evutil_make_socket_nonblocking(sock) == -1 ||
	    event_add(c->rd, NULL) == -1) {
		c->io.sock = -1;
		chan_free(&c);
		errno = ENOMEM;
		return (NULL);
	}
	return (c);
}

void
chan_free(struct chan **cp)
{
	struct chan *c = *cp;

	*cp = NULL;
	if (c == NULL)
		return;
	if (c->freed != NULL)
		*c->freed = true;
	if (c->io.sock != -1 && !c->gone)
		(void)!frame_flush(&c->io); /* what was said, leaves */
	if (c->rd != NULL)
		event_free(c->rd);
	if (c->wr != NULL)
		event_free(c->wr);
	if (c->flush != NULL)
		event_free(c->flush);
	if (c->io.sock != -1)
		(void)close(c->io.sock);
	frame_fini(&c->io);
	free(c);
}

int
chan_send(struct chan *c, uint16_t type, uint64_t ref, const void *p, size_t n,
    int fd)
{
	static const struct timeval now = { 0, 0 };

	if (c->gone) {
		errno = EPIPE;
		return (-1);
	}
	if (frame_put(&c->io, type, ref, p, n, fd) == -1)
		return (-1);
	if (!c->flushing) {
		c->flushing = true;
		(void)event_add(c->flush, &now);
	}
	return (0);
}

int
chan_send_buf(
    struct chan *c, uint16_t type, uint64_t ref, const struct buf *b, int fd)
{
	return (chan_send(c, type, ref, b->data, b->len, fd));
}

size_t
chan_backlog(const struct chan *c)
{
	return (c->io.out.len - c->io.out_off);
}
