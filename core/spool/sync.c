/* SPDX-License-Identifier: ISC */

/*
 * sync - shared commits off the event loop
 *
 * One thread, one fdatasync at a time: it starts when the one before has ended
 * and covers every batch that was written meanwhile.  When the thread has
 * nothing to sync it fills new segments with zeros.
 */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static uint64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000);
}

void
sync_signal(struct spool *sp)
{
	uint64_t one = 1;

	/* can only fail when it is readable already */
	if (write(sp->event, &one, sizeof(one)) == -1)
		return;
}

/* sync_files - the lock is held; given up while the disk works */
static void
sync_files(struct spool *sp)
{
	struct sync *y = &sp->sync;
	int i, error = 0, n = y->n_fds, fds[4];
	uint64_t t;

	memcpy(fds, y->fds, sizeof(fds));
	y->state = SYNC_BUSY;
	pthread_mutex_unlock(&y->lock);
	t = now_us();
	for (i = 0; i < n; i++)
		if (sp->io->sync(fds[i]) == -1)
			error = errno;
	t = now_us() - t;
	pthread_mutex_lock(&y->lock);
	y->us = t;
	y->error = error;
	y->state = SYNC_ENDED;
	pthread_cond_broadcast(&y->cond);
	sync_signal(sp);
}

/* sync_first - commits go before the rest of a segment that is prepared */
static void
sync_first(struct spool *sp)
{
	struct sync *y = &sp->sync;

	pthread_mutex_lock(&y->lock);
	while (y->state == SYNC_ASKED)
		sync_files(sp);
	pthread_mutex_unlock(&y->lock);
}

static void
prepare(struct spool *sp)
{
	struct sync *y = &sp->sync;
	uint64_t num = y->prep_num;
	int error;

	pthread_mutex_unlock(&y->lock);
	error = seg_make_free(sp, num, sync_first) == -1 ? errno : 0;
	pthread_mutex_lock(&y->lock);
	y->prep_error = error;
	y->prep = PREP_ENDED;
	pthread_cond_broadcast(&y->cond);
}

static void *
run(void *arg)
{
	struct spool *sp = arg;
	struct sync *y = &sp->sync;

	pthread_mutex_lock(&y->lock);
	for (;;) {
		if (y->state == SYNC_ASKED)
			sync_files(sp);
		else if (y->stop)
			break;
		else if (y->prep == PREP_ASKED)
			prepare(sp);
		else
			pthread_cond_wait(&y->cond, &y->lock);
	}
	pthread_mutex_unlock(&y->lock);
	return (NULL);
}

int
sync_start(struct spool *sp)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&sp->sync.thread, NULL, run, sp);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		errno = r;
		return (-1);
	}
	sp->sync.running = true;
	return (0);
}

void
sync_stop(struct spool *sp)
{
	if (!sp->sync.running)
		return;
	pthread_mutex_lock(&sp->sync.lock);
	sp->sync.stop = true;
	pthread_cond_broadcast(&sp->sync.cond);
	pthread_mutex_unlock(&sp->sync.lock);
	pthread_join(sp->sync.thread, NULL);
	sp->sync.running = false;
}

/* sync_ask - let the thread sync all that is written, unless it is at work */
void
sync_ask(struct spool *sp)
{
	struct sync *y = &sp->sync;
	struct seg *segs[4];
	struct batch *b, **end;
	int i, n = 0;

	if (sp->flight != NULL || sp->waiting == NULL)
		return;
	for (end = &sp->waiting; (b = *end) != NULL; end = &b->next) {
		for (i = 0; i < n && segs[i] != b->seg; i++)
			;
		if (i == n && n == 4)
			break;
		if (i == n)
			segs[n++] = b->seg;
	}
	sp->flight = sp->waiting;
	sp->waiting = *end;
	*end = NULL;
	if (sp->waiting == NULL) {
		sp->tail = &sp->waiting;
		sp->urgent = false;
	}
	pthread_mutex_lock(&y->lock);
	for (i = 0; i < n; i++)
		y->fds[i] = segs[i]->fd;
	y->n_fds = n;
	y->state = SYNC_ASKED;
	pthread_cond_broadcast(&y->cond);
	pthread_mutex_unlock(&y->lock);
}

/* sync_wait - until the sync that was asked for has ended */
void
sync_wait(struct spool *sp)
{
	struct sync *y = &sp->sync;

	pthread_mutex_lock(&y->lock);
	while (y->state == SYNC_ASKED || y->state == SYNC_BUSY)
		pthread_cond_wait(&y->cond, &y->lock);
	pthread_mutex_unlock(&y->lock);
}

/* finish - the batch is durable, or lost */
static void
finish(struct spool *sp, struct batch *b, bool ok)
{
	struct ent *e;
	size_t i;

	if (b->seg->dirty > 0)
		b->seg->dirty--;
	move_done(sp, b, ok);
	for (i = 0; i < b->n_seqs; i++) {
		if (!ok && (e = ent_find(sp, b->seqs[i])) != NULL)
			ent_del(sp, e);
		sp->ev.synced(sp->ev.arg, b->seqs[i], ok);
	}
	for (i = 0; i < b->n_ended; i++) {
		if ((e = ent_find(sp, b->ended[i])) == NULL)
			continue;
		if (ok)
			ent_del(sp, e);
		else if (e->replaced) /* as if nobody had taken its place */
			e->ended = e->replaced = false;
	}
	batch_free(b);
}

void
sync_done(struct spool *sp)
{
	struct sync *y = &sp->sync;
	struct batch *b, *next;
	int error;

	pthread_mutex_lock(&y->lock);
	if (y->state != SYNC_ENDED) {
		pthread_mutex_unlock(&y->lock);
		goto lost;
	}
	y->state = SYNC_IDLE;
	error = y->error;
	sp->stats.syncs++;
	sp->stats.sync_us_total += y->us;
	pthread_mutex_unlock(&y->lock);
	if (error != 0) {
		sync_failed(sp, error);
		goto lost;
	}
	b = sp->flight;
	sp->flight = NULL;
	/* the disk goes on while the messages are reported */
	sync_ask(sp);
	for (; b != NULL; b = next) {
		next = b->next;
		finish(sp, b, true);
	}
lost:
	while ((b = sp->lost) != NULL) {
		sp->lost = b->next;
		finish(sp, b, false);
	}
}

/* uncount - messages that were not accepted after all */
static void
uncount(struct spool *sp, const struct batch *b)
{
	struct ent *e;
	size_t i;

	for (i = 0; i < b->n_seqs; i++) {
		if ((e = ent_find(sp, b->seqs[i])) == NULL || !e->counted)
			continue;
		sp->totals.messages[e->own]--;
		sp->totals.accepted[e->own] -= e->n_rcpts;
	}
	for (i = 0; i < b->n_ended; i++) {
		if ((e = ent_find(sp, b->ended[i])) == NULL || !e->replaced)
			continue;
		if (e->more_rcpts > 0)
			sp->totals.accepted[e->own] -= (uint64_t)e->more_rcpts;
		else
			sp->totals.discarded[e->own] -=
			    (uint64_t)-e->more_rcpts;
	}
	sp->totals_new = true;
}

/* to_lost - move a list of batches, widening the range that is void */
static void
to_lost(struct spool *sp, struct batch *b, uint64_t range[2])
{
	struct batch **p = &sp->lost;

	while (*p != NULL)
		p = &(*p)->next;
	*p = b;
	for (; b != NULL; b = b->next) {
		uncount(sp, b);
		if (range[0] == 0 || b->num < range[0])
			range[0] = b->num;
		if (b->num > range[1])
			range[1] = b->num;
	}
}

/*
 * sync_failed - after a failed fdatasync the pages count as clean and may or
 * may not reach the disk; pages written after it share blocks with them.  So
 * everything that is not yet durable is void, in a segment of its own.
 */
void
sync_failed(struct spool *sp, int error)
{
	struct rec_small none = { .text = "sync failed" };
	struct rec_small s = { .text = "sync failed" };
	uint64_t range[2] = { 0, 0 };
	struct batch *b;
	struct ent *e;
	size_t i;

	sp->failures++;
	sp->failed = sp->failures > 1;
	sync_wait(sp);
	pthread_mutex_lock(&sp->sync.lock);
	sp->sync.state = SYNC_IDLE;
	pthread_mutex_unlock(&sp->sync.lock);
	to_lost(sp, sp->flight, range);
	to_lost(sp, sp->waiting, range);
	to_lost(sp, sp->cur, range);
	sp->flight = sp->waiting = sp->cur = NULL;
	sp->tail = &sp->waiting;
	sync_signal(sp);
	spool_alarm(sp, "sync", "writing failed (%s): %s", strerror(error),
	    sp->failed ? "nothing more is accepted"
	               : "going on in the reserve");
	/* the last time nothing can be trusted to be written */
	if (sp->failures > 2)
		return;
	if (seg_next(sp, false) == -1) {
		sp->failures = 3;
		sp->failed = true;
		spool_alarm(
		    sp, "sync", "no reserve segment: %s", strerror(errno));
		return;
	}
	s.a = range[0];
	s.b = range[1];
	sp->failures--; /* journal_small() is silent after the second */
	journal_small(sp, REC_VOID, 0, &s);
	for (b = sp->lost; b != NULL; b = b->next)
		for (i = 0; i < b->n_ended; i++)
			if ((e = ent_find(sp, b->ended[i])) == NULL ||
			    !e->replaced)
				spool_ended(sp, REC_DROP, b->ended[i], &none);
	sp->failures++;
	journal_write(sp);
	sync_ask(sp);
}

/* sync_prepare - have a segment made ahead of its use */
void
sync_prepare(struct spool *sp)
{
	struct sync *y = &sp->sync;
	uint64_t now = spool_now_ms();

	if (sp->n_free > SEG_RESERVE || sp->full ||
	    now - sp->prep_tried_ms < 1000)
		return;
	pthread_mutex_lock(&y->lock);
	if (y->prep == PREP_IDLE) {
		sp->prep_tried_ms = now;
		y->prep = PREP_ASKED;
		y->prep_num = sp->next_file++;
		pthread_cond_broadcast(&y->cond);
	}
	pthread_mutex_unlock(&y->lock);
}

/* sync_prepared - take over a segment that the thread has made */
void
sync_prepared(struct spool *sp)
{
	struct sync *y = &sp->sync;
	char was[NAME_ROOM], name[NAME_ROOM];
	bool made;

	pthread_mutex_lock(&y->lock);
	made = y->prep == PREP_ENDED;
	if (made)
		y->prep = PREP_IDLE;
	pthread_mutex_unlock(&y->lock);
	if (!made || y->prep_error != 0)
		return;
	seg_name(was, "new", y->prep_num);
	seg_name(name, "free", y->prep_num);
	if (grow(&sp->free, &sp->cap_free, sp->n_free, 8) == -1 ||
	    sp->io->rename(sp->dir, was, name) == -1)
		return;
	sp->free[sp->n_free++] = y->prep_num;
	sp->stats.reserve = sp->n_free;
}
