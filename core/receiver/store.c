/* SPDX-License-Identifier: ISC */

/*
 * store - a message body while it arrives
 *
 * The receiver has no file system.  A small body stays on the heap, a larger
 * one goes into an anonymous memory file, a very large one into a file that the
 * queue opened for us.  In a file the body begins after room for the header:
 * when the header is final it is written right before the body, and nothing is
 * copied.
 */

#include "core/receiver/receiver.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, HEADER_SLACK = 64 << 10 };

void
store_init(struct store *st, struct receiver *r, const struct limits *l)
{
	memset(st, 0, sizeof(*st));
	st->fd = -1;
	st->mem.max = INLINE_MAX;
	st->inline_size = l->inline_size;
	st->memory = &r->memory;
	st->memory_max = r->memory_max;
	st->front = (l->header_size + HEADER_SLACK + PAGE - 1) / PAGE * PAGE;
}

/* count - n bytes are in a memory file now */
static void
count(struct store *st, uint64_t n)
{
	st->counted += n;
	*st->memory += n;
}

static void
uncount(struct store *st)
{
	if (st->counted > 0)
		*st->memory -= st->counted;
	st->counted = 0;
}

void
store_fini(struct store *st)
{
	uncount(st);
	buf_fini(&st->mem);
	if (st->fd != -1)
		(void)close(st->fd);
	st->fd = -1;
}

int
store_write(int fd, const char *p, size_t n, uint64_t at)
{
	ssize_t w;

	while (n > 0) {
		if ((w = pwrite(fd, p, n, (off_t)at)) == -1) {
			if (errno == EINTR)
				continue;
			return (-1);
		}
		p += w;
		n -= (size_t)w;
		at += (uint64_t)w;
	}
	return (0);
}

int
store_memory_file(void)
{
	return (memfd_create("content", MFD_CLOEXEC));
}

static int
to_memory_file(struct store *st)
{
	if ((st->fd = store_memory_file()) == -1 ||
	    store_write(st->fd, st->mem.data, st->mem.len, st->front) == -1)
		return (-1);
	count(st, st->mem.len);
	buf_fini(&st->mem);
	return (0);
}

int
store_add(void *arg, const char *p, size_t n)
{
	struct store *st = arg;

	if (st->failed)
		return (-1);
	if (st->dropped) {
		st->len += n; /* {msg_size} */
		return (0);
	}
	if (st->fd == -1 && st->len + n <= INLINE_MAX) {
		if (buf_add(&st->mem, p, n) == -1)
			st->failed = true;
	} else if ((st->fd == -1 && to_memory_file(st) == -1) ||
	    store_write(st->fd, p, n, st->front + st->len) == -1)
		st->failed = true;
	if (st->failed)
		return (-1);
	st->len += n;
	if (st->fd != -1 && !st->big)
		count(st, n);
	st->want_big = !st->big &&
	    (st->len > st->inline_size ||
	        (st->fd != -1 && *st->memory > st->memory_max));
	return (0);
}

/* store_move - go on in the queue's file; takes the descriptor on success */
int
store_move(struct store *st, int big_fd)
{
	void *map = mmap(
	    NULL, st->len, PROT_READ, MAP_PRIVATE, st->fd, (off_t)st->front);
	int rc;

	if (map == MAP_FAILED)
		return (-1);
	rc = store_write(big_fd, map, st->len, st->front);
	(void)munmap(map, st->len);
	if (rc == -1)
		return (-1);
	(void)close(st->fd);
	uncount(st);
	st->fd = big_fd;
	st->big = true;
	st->want_big = false;
	return (0);
}

void
store_drop(struct store *st)
{
	store_fini(st);
	st->dropped = true;
	st->want_big = false;
}

int
store_take(struct store *st, struct message *m)
{
	if (st->fd == -1) {
		m->mem.data = st->mem.data;
		m->mem.len = st->mem.len;
		m->mem.cap = st->mem.cap;
		(void)buf_take(&st->mem, NULL);
		m->body = m->mem.data != NULL ? m->mem.data : "";
		m->body_len = st->dropped ? st->len : m->mem.len;
		return (0);
	}
	m->map = mmap(
	    NULL, st->len, PROT_READ, MAP_PRIVATE, st->fd, (off_t)st->front);
	if (m->map == MAP_FAILED) {
		m->map = NULL;
		return (-1);
	}
	m->map_len = st->len;
	m->map_off = st->front;
	m->body = m->map;
	m->body_len = st->len;
	m->fd = st->fd;
	st->fd = -1;
	return (0);
}
