/* SPDX-License-Identifier: ISC */

/*
 * events - the back-end of our own: one thread with epoll for all connections
 *
 * It accepts, reads, calls quick functions and writes; what may wait goes to
 * workers.c.  An idle connection is a descriptor and some hundred bytes.  The
 * other side may be hostile: connections are counted, and those that do not get
 * on are closed.
 */

#include "milter-sdk/base/log.h"
#include "milter-sdk/src/workers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	EVENTS = 128,    /* of one call */
	ACCEPTS = 64,    /* then others have their turn */
	SCAN_S = 30,     /* between looks for late connections */
	PAUSE_S = 1,     /* after an accept that failed */
	FILES_OWN = 128, /* descriptors left to the filter */
	CONNS_LEAST = 64 /* whatever the limit */
};

static struct {
	const struct mill_filter *filter;
	int poll_fd, listen_fd, wake_fd;
	struct conn *conns;
	size_t n_conns, max_conns;
	bool paused; /* no new connections now */
	time_t scanned_s, paused_s;
	char *room;
	atomic_bool ended;
} loop = { .poll_fd = -1, .listen_fd = -1, .wake_fd = -1 };

static bool
has_ended(void)
{
	return (loop.ended);
}

static bool
was_asked(void)
{
	return (false);
}

static int
watch(int fd, uint32_t events, int op)
{
	/* data: the descriptor's own place, which no connection has */
	struct epoll_event e = { .events = events,
		.data.ptr =
		    fd == loop.listen_fd ? &loop.listen_fd : &loop.wake_fd };

	return (epoll_ctl(loop.poll_fd, op, fd, &e));
}

static void
pause_listening(bool on)
{
	if (loop.paused == on)
		return;
	loop.paused = on;
	loop.paused_s = conn_now();
	(void)watch(loop.listen_fd, on ? 0 : EPOLLIN, EPOLL_CTL_MOD);
}

static void
remove_conn(struct conn *c)
{
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		loop.conns = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	loop.n_conns--;
	conn_free(c);
}

static void
add_conn(int fd)
{
	struct conn *c = conn_new(loop.filter, loop.poll_fd, fd);

	if (c == NULL) {
		log_err("connection: %s", strerror(errno));
		return;
	}
	if ((c->next = loop.conns) != NULL)
		c->next->prev = c;
	loop.conns = c;
	loop.n_conns++;
}

static void
on_listen(void)
{
	int i, fd;

	for (i = 0; i < ACCEPTS; i++) {
		if (loop.n_conns >= loop.max_conns) {
			log_warning("accept: %zu connections are the limit",
			    loop.n_conns);
			pause_listening(true);
			return;
		}
		fd = accept4(
		    loop.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd != -1) {
			add_conn(fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
		    errno == ENOMEM) {
			log_err("accept: %s", strerror(errno));
			pause_listening(true);
		}
		if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

/* run - go on with a connection that the loop has */
static void
run(struct conn *c)
{
	enum conn_state state = conn_go(c, false, loop.room);

	/* Better all wait than one for ever. */
	while (state == CONN_SLOW && workers_give(c) == -1)
		state = conn_go(c, true, loop.room);
	if (state == CONN_OVER)
		remove_conn(c);
}

static void
on_event(struct conn *c, uint32_t events)
{
	int owner = CONN_WORKER;

	/* A worker has it: it looks again itself, unless it is done now. */
	if (atomic_load(&c->owner) != CONN_LOOP &&
	    (atomic_compare_exchange_strong(&c->owner, &owner, CONN_EVENT) ||
	        owner == CONN_EVENT))
		return;
	if ((events & ~(uint32_t)EPOLLOUT) != 0)
		c->readable = true;
	c->closing = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
	run(c);
}

/* free_over - what workers have ended; not amid events, which may be theirs */
static void
free_over(void)
{
	struct conn *c, *next;

	for (c = workers_take(); c != NULL; c = next) {
		next = c->next_job;
		remove_conn(c);
	}
}

static void
close_late(time_t now)
{
	struct conn *c, *next;

	if (now - loop.scanned_s < SCAN_S)
		return;
	loop.scanned_s = now;
	for (c = loop.conns; c != NULL; c = next) {
		next = c->next;
		if (atomic_load(&c->owner) == CONN_LOOP &&
		    conn_is_late(c, now)) {
			log_warning("connection: closed: time-out");
			remove_conn(c);
		}
	}
}

/* look_after - what is to be done now and then */
static void
look_after(void)
{
	time_t now = conn_now();

	if (loop.n_conns > 0)
		close_late(now);
	if (loop.paused && loop.n_conns < loop.max_conns &&
	    now - loop.paused_s >= PAUSE_S)
		pause_listening(false);
}

static int
timeout_ms(void)
{
	if (loop.paused)
		return (PAUSE_S * 1000);
	return (loop.n_conns > 0 ? SCAN_S * 1000 : -1);
}

/* one_turn - false: the loop cannot go on */
static bool
one_turn(void)
{
	struct epoll_event e[EVENTS];
	int i, n = epoll_wait(loop.poll_fd, e, EVENTS, timeout_ms());
	bool woken = false;
	uint64_t count;

	if (n == -1 && errno != EINTR) {
		log_err("epoll: %s", strerror(errno));
		return (false);
	}
	for (i = 0; i < n; i++) {
		if (e[i].data.ptr == &loop.listen_fd)
			on_listen();
		else if (e[i].data.ptr == &loop.wake_fd)
			woken = true;
		else
			on_event(e[i].data.ptr, e[i].events);
	}
	if (woken) {
		(void)!read(loop.wake_fd, &count, sizeof(count));
		free_over();
	}
	look_after();
	return (true);
}

static void *
run_loop(void *arg)
{
	(void)arg;
	while (one_turn())
		;
	loop.ended = true;
	return (NULL);
}

/* most_conns - a descriptor each, and some are for the filter itself */
static size_t
most_conns(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1 ||
	    r.rlim_cur < FILES_OWN + CONNS_LEAST)
		return (CONNS_LEAST);
	return ((size_t)r.rlim_cur - FILES_OWN);
}

static int
open_loop(const struct mill_filter *f, const char *where)
{
	loop.filter = f;
	loop.max_conns = most_conns();
	loop.scanned_s = conn_now();
	if (listen_check(where) == -1)
		return (-1);
	if ((loop.room = malloc(MTA_READ_MAX)) == NULL ||
	    (loop.poll_fd = epoll_create1(EPOLL_CLOEXEC)) == -1 ||
	    (loop.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) == -1 ||
	    (loop.listen_fd = listen_open(where)) == -1)
		return (-1);
	listen_made(where);
	workers_init(loop.wake_fd);
	if (watch(loop.wake_fd, EPOLLIN, EPOLL_CTL_ADD) == -1)
		return (-1);
	return (watch(loop.listen_fd, EPOLLIN, EPOLL_CTL_ADD));
}

static int
start(void)
{
	const struct mill_filter *f = loop.filter;
	sigset_t all;

	/* Signals are for the caller's thread. */
	(void)sigfillset(&all);
	if (f->message != NULL &&
	    (f->quick & MILL_QUICK(MILL_AT_MESSAGE)) == 0 &&
	    (errno = session_tell(&all)) != 0)
		return (-1);
	errno = session_thread(run_loop, NULL, &all);
	return (errno == 0 ? 0 : -1);
}

const struct engine engine_events = { .name = "events",
	.open = open_loop,
	.start = start,
	.ended = has_ended,
	.asked = was_asked };
