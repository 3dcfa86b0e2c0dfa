/* SPDX-License-Identifier: ISC */
#ifndef SDK_CONN_H
#define SDK_CONN_H

#include "milter-sdk/src/mta.h"

#include <stdatomic.h>
#include <time.h>

/*
 * A connection of the events back-end.  One thread has it at a time: the loop,
 * or a worker to which the loop gave it because a slow function comes next.
 */
enum conn_owner {
	CONN_LOOP,
	CONN_WORKER,
	CONN_EVENT /* a worker's, and something has happened on its socket */
};

struct conn {
	struct mta mta; /* first: the transaction's backend is both */
	int fd, poll_fd;
	atomic_int owner;
	bool readable;  /* there may be bytes */
	bool closing;   /* the peer has closed: read until it shows */
	bool wants_out; /* epoll tells when there is room again */
	bool held;      /* a stop waits for it */
	bool slow;      /* a slow function comes next; out is not ours then */
	time_t last_s;  /* of the monotonic clock: when something went on */
	struct conn *next, *prev; /* all of the loop */
	struct conn *next_job;    /* workers.c; then of those to free */
};

enum conn_state {
	CONN_WAITS, /* for its socket */
	CONN_SLOW,  /* for a thread that may wait */
	CONN_OVER   /* free it */
};

/* conn_new - takes fd; NULL with errno, and fd is closed */
struct conn *conn_new(const struct mill_filter *, int poll_fd, int fd);
/* conn_go - go on until the socket has no more.  room: MTA_READ_MAX bytes */
enum conn_state conn_go(struct conn *, bool may_wait, char *room);
/* conn_is_late - the peer has kept it for too long */
bool conn_is_late(const struct conn *, time_t now_s);
void conn_free(struct conn *);
time_t conn_now(void); /* seconds */

#endif
