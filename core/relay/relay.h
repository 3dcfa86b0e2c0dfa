/* SPDX-License-Identifier: ISC */
#ifndef CORE_RELAY_RELAY_H
#define CORE_RELAY_RELAY_H

#include "core/proc/child.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/*
 * One relay process.  A job is one hand-out of the queue; a session is one
 * connection to a next hop.  A job waits for addresses, then has a session; a
 * session has one job or is idle.  Whoever ends first lets go of the other:
 * job_done() is the only way a job ends while the queue is there.
 */
enum {
	RELAY_JOBS_MAX = 100000,
	RELAY_IDLE_MAX = 500, /* idle connections; the oldest goes */
	RELAY_TICK_MS = 100,  /* how coarse time limits are */
	RELAY_STOP_MS = 5000, /* for what is in hand at a stop */
	RELAY_BUCKETS = 256
};

struct segment {
	LIST_ENTRY(segment) next;
	uint64_t number;
	int fd;
	unsigned refs; /* the list's, and one for each job */
};

struct job;
struct session;

struct relay_stats {
	uint64_t messages, delivered, deferred, failed, opened, reused, damaged;
};

struct relay {
	struct child *child;
	struct chan *queue, *lookup; /* NULL while there is none */
	LIST_HEAD(, segment) segments;
	TAILQ_HEAD(job_list, job) jobs;
	size_t n_jobs;
	LIST_HEAD(, session) sessions;
	TAILQ_HEAD(session_list, session) idle;           /* oldest first */
	TAILQ_HEAD(, session) idle_by_key[RELAY_BUCKETS]; /* newest first */
	struct session *ticked; /* session_tick() looks at it next */
	size_t n_sessions, n_idle;
	struct event *tick;
	uint64_t next_ref; /* of questions to lookup */
	uint64_t stop_ms;  /* deadline once stopping, else 0 */
	struct relay_stats stats;
};

uint64_t relay_now_ms(void);
/* relay_wake - time limits are to be looked at from now on */
void relay_wake(struct relay *);
/* relay_run - find a session for the job: an idle one (unless fresh), or by
 * looking up and connecting */
void relay_run(struct relay *, struct job *, bool fresh);
/* relay_next_address - connect to the next address of the job's hop; after the
 * last the job ends as the site's trouble, with why */
void relay_next_address(struct relay *, struct job *, const char *why);
/* relay_settled - a job was freed: when stopping, exit after the last */
void relay_settled(struct relay *);

void segment_unref(struct segment *);

#endif
