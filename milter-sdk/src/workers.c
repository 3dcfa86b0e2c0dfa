/* SPDX-License-Identifier: ISC */

/*
 * workers - threads for functions that may wait
 *
 * A worker reads, decides and writes by itself until the connection has nothing
 * more to do, so that the loop is not woken again for it.  Threads are made
 * when all are busy, up to a limit, and end when there is little to do.
 */

#include "milter-sdk/src/workers.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IDLE_S = 60 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct conn *jobs, **jobs_end = &jobs, *over;
static unsigned n_jobs, n_threads, n_idle;
static int wake = -1;

void
workers_init(int wake_fd)
{
	wake = wake_fd;
}

/* next_job - waits for one; NULL: this thread is not needed any more */
static struct conn *
next_job(void)
{
	struct timespec end;
	struct conn *c;
	int rc = 0;

	(void)clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += IDLE_S;
	(void)pthread_mutex_lock(&lock);
	n_idle++;
	while (jobs == NULL && rc == 0)
		rc = pthread_cond_timedwait(&more, &lock, &end);
	n_idle--;
	if ((c = jobs) != NULL) {
		if ((jobs = c->next_job) == NULL)
			jobs_end = &jobs;
		n_jobs--;
	} else
		n_threads--;
	(void)pthread_mutex_unlock(&lock);
	return (c);
}

/* give_back - false: something has happened on the socket meanwhile */
static bool
give_back(struct conn *c)
{
	int mine = CONN_WORKER;

	if (atomic_compare_exchange_strong(&c->owner, &mine, CONN_LOOP))
		return (true);
	atomic_store(&c->owner, CONN_WORKER);
	c->readable = c->closing = true; /* read until it has no more */
	return (false);
}

/* put_over - only the loop may free it, which may have an event for it */
static void
put_over(struct conn *c)
{
	const uint64_t one = 1;

	(void)pthread_mutex_lock(&lock);
	c->next_job = over;
	over = c;
	(void)pthread_mutex_unlock(&lock);
	(void)!write(wake, &one, sizeof(one));
}

static void *
work(void *arg)
{
	enum conn_state state;
	struct conn *c;

	while ((c = next_job()) != NULL) {
		do {
			c->closing = false;
			state = conn_go(c, true, arg);
		} while (state == CONN_WAITS && !give_back(c));
		if (state == CONN_OVER)
			put_over(c);
	}
	free(arg);
	return (NULL);
}

/* add - one more thread; under lock */
static int
add(void)
{
	char *room = malloc(MTA_READ_MAX);
	sigset_t all;
	int rc;

	(void)sigfillset(&all);
	if (room == NULL)
		return (-1);
	if ((rc = session_thread(work, room, &all)) != 0) {
		log_warning(
		    "workers: no more than %u: %s", n_threads, strerror(rc));
		free(room);
		return (-1);
	}
	n_threads++;
	return (0);
}

int
workers_give(struct conn *c)
{
	int rc = 0;

	(void)pthread_mutex_lock(&lock);
	if (n_jobs >= n_idle && n_threads < WORKERS_MAX && add() == -1 &&
	    n_threads == 0)
		rc = -1;
	if (rc == 0) {
		atomic_store(&c->owner, CONN_WORKER);
		c->next_job = NULL;
		*jobs_end = c;
		jobs_end = &c->next_job;
		n_jobs++;
		(void)pthread_cond_signal(&more);
	}
	(void)pthread_mutex_unlock(&lock);
	return (rc);
}

struct conn *
workers_take(void)
{
	struct conn *list;

	(void)pthread_mutex_lock(&lock);
	list = over;
	over = NULL;
	(void)pthread_mutex_unlock(&lock);
	return (list);
}
