/* SPDX-License-Identifier: ISC */

/*
 * session - settings in use, what is in hand, progress: for both back-ends
 *
 * Sendmail waits 10 s for each reply, so progress is told by a thread of its
 * own while message() works.  It only writes to the session's socket; the lock
 * of the transaction keeps it apart from the edits, which the thread that ran
 * message() sends.
 */

#include "milter-sdk/src/session.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t loaded_lock = PTHREAD_MUTEX_INITIALIZER;
static struct loaded *current;
static atomic_uint in_hand;
static atomic_bool stopping;

static pthread_mutex_t working_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mill_txn *working;

void
session_set_loaded(struct loaded *l)
{
	struct loaded *old;

	(void)pthread_mutex_lock(&loaded_lock);
	old = current;
	current = l;
	(void)pthread_mutex_unlock(&loaded_lock);
	loaded_unref(&old);
}

struct loaded *
session_loaded(void)
{
	struct loaded *l = NULL;

	(void)pthread_mutex_lock(&loaded_lock);
	if (current != NULL)
		l = loaded_ref(current);
	(void)pthread_mutex_unlock(&loaded_lock);
	return (l);
}

/* is_old - not the settings in use, which have one more reference */
static bool
is_old(const struct loaded *l)
{
	bool old;

	(void)pthread_mutex_lock(&loaded_lock);
	old = l != current;
	(void)pthread_mutex_unlock(&loaded_lock);
	return (old);
}

static void *
unref(void *arg)
{
	struct loaded *l = arg;

	loaded_unref(&l);
	session_release();
	return (NULL);
}

void
session_free(struct mill_txn **tp)
{
	struct mill_txn *t = *tp;
	struct loaded *l = NULL;
	sigset_t all;

	*tp = NULL;
	if (t == NULL)
		return;
	(void)sigfillset(&all);
	if (t->filter->unload != NULL && is_old(t->loaded))
		l = loaded_ref(t->loaded);
	txn_free(&t);
	if (l == NULL)
		return;
	session_hold();
	if (session_thread(unref, l, &all) != 0)
		(void)unref(l);
}

void
session_leave(struct mill_txn *t)
{
	static struct mill_txn *left; /* so that it is no leak */

	(void)pthread_mutex_lock(&working_lock);
	t->next_working = left;
	left = t;
	(void)pthread_mutex_unlock(&working_lock);
}

void
session_hold(void)
{
	in_hand++;
}

void
session_release(void)
{
	in_hand--;
}

unsigned
session_in_hand(void)
{
	return (in_hand);
}

void
session_stop(void)
{
	stopping = true;
}

void
session_count(struct mill_txn *t)
{
	if (t->in_message == t->counted)
		return;
	t->counted = t->in_message;
	if (t->counted)
		in_hand++;
	else
		in_hand--;
}

/*
 * Counted first and looked at then, in the other order than the thread that
 * stops: so fini() never runs beside a decide function.
 */
bool
session_enter(struct mill_txn *t)
{
	if (t->counted)
		return (true);
	t->counted = true;
	in_hand++;
	if (!stopping)
		return (true);
	t->counted = false;
	in_hand--;
	return (false);
}

void
session_refuse(struct mill_txn *t)
{
	reply_set(t, 451, "4.3.2", "the filter is stopping");
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

void
session_working(struct mill_txn *t, bool on)
{
	if (t->working == on) /* only its owner changes it */
		return;
	(void)pthread_mutex_lock(&t->lock);
	t->working = on;
	t->told_ms = now_ms();
	(void)pthread_mutex_unlock(&t->lock);
	(void)pthread_mutex_lock(&working_lock);
	if (on) {
		t->prev_working = NULL;
		if ((t->next_working = working) != NULL)
			working->prev_working = t;
		working = t;
	} else {
		if (t->prev_working != NULL)
			t->prev_working->next_working = t->next_working;
		else
			working = t->next_working;
		if (t->next_working != NULL)
			t->next_working->prev_working = t->prev_working;
	}
	(void)pthread_mutex_unlock(&working_lock);
}

/* tell - a thread: five bytes to each MTA that waits */
static void *
tell(void *arg)
{
	const struct timespec second = { 1, 0 };
	struct mill_txn *t;
	int64_t now;

	(void)arg;
	for (;;) {
		(void)nanosleep(&second, NULL);
		now = now_ms();
		(void)pthread_mutex_lock(&working_lock);
		for (t = working; t != NULL; t = t->next_working) {
			(void)pthread_mutex_lock(&t->lock);
			if (t->working && now - t->told_ms >= SDK_PROGRESS_MS) {
				t->progress(t);
				t->told_ms = now;
			}
			(void)pthread_mutex_unlock(&t->lock);
		}
		(void)pthread_mutex_unlock(&working_lock);
	}
	return (NULL);
}

int
session_tell(const sigset_t *mask)
{
	return (session_thread(tell, NULL, mask));
}

int
session_thread(void *(*fn)(void *), void *arg, const sigset_t *mask)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	if ((rc = pthread_attr_init(&attr)) != 0)
		return (rc);
	if ((rc = pthread_attr_setdetachstate(
	         &attr, PTHREAD_CREATE_DETACHED)) == 0 &&
	    (rc = pthread_attr_setsigmask_np(&attr, mask)) == 0)
		rc = pthread_create(&thread, &attr, fn, arg);
	(void)pthread_attr_destroy(&attr);
	return (rc);
}

const char *
session_host(const char *name, const char *addr, char *room, size_t n)
{
	if (name != NULL && strcmp(name, "unknown") != 0)
		return (name);
	(void)snprintf(room, n, addr[0] != '\0' ? "[%s]" : "%s", addr);
	return (room);
}
