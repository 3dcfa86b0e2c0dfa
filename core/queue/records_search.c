/* SPDX-License-Identifier: ISC */

/*
 * records_search - find decision records, newest first
 *
 * A day file may hold a gigabyte.  It is read backwards, in pieces of fixed
 * size, and only where records of the time in question can be: their order is
 * that of appending, which follows the messages' times within a bound, so the
 * ends of the stretch are found by halving.
 */

#include "core/queue/records.h"

#include "core/smtp/id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	NAME_LEN = 16,
	PIECE = 512 << 10, /* bytes read in a step */
	ROOM = PIECE + RECORD_MAX,
	HALVE_TO = 1 << 20,      /* a stretch worth no more halving */
	ID_SLACK_MS = 60 * 1000, /* an id's time and its record's time */
	DAY_MS = 86400 * 1000
};

/* narrow - an id tells when its message began; its release came later */
static void
narrow(struct records_query *q)
{
	const char *id = q->id != NULL ? q->id : q->released_from;
	uint64_t at = id != NULL ? queue_id_time(id) * 1000 : 0;

	if (at == 0)
		return;
	if (at > ID_SLACK_MS && q->since_ms < at - ID_SLACK_MS)
		q->since_ms = at - ID_SLACK_MS;
	if (q->id != NULL &&
	    (q->until_ms == 0 || q->until_ms > at + ID_SLACK_MS))
		q->until_ms = at + ID_SLACK_MS;
}

int
records_search_start(
    struct records *r, struct records_search *s, struct records_query *q)
{
	memset(s, 0, sizeof(*s));
	s->fd = -1;
	if ((s->piece = malloc(ROOM)) == NULL)
		return (-1);
	s->query = *q;
	memset(q, 0, sizeof(*q));
	narrow(&s->query);
	if (s->query.limit == 0)
		s->query.limit = RECORDS_LIMIT_MAX;
	records_flush(r);
	s->names = records_days(r, &s->n_names);
	return (0);
}

void
records_search_fini(struct records_search *s)
{
	if (s->fd != -1)
		(void)close(s->fd);
	s->fd = -1;
	free(s->names);
	free(s->piece);
	s->names = NULL;
	s->piece = NULL;
	records_query_fini(&s->query);
}

/* time_after - time of the first whole record that begins after at, and where
 * it begins; 0 if none is found near */
static uint64_t
time_after(struct records_search *s, uint64_t at, uint64_t *begin_r)
{
	char *p, *nl, *end;
	uint64_t t;
	ssize_t n = pread(s->fd, s->piece, ROOM, (off_t)at);

	if (n <= 0)
		return (0);
	end = s->piece + n;
	p = memchr(s->piece, '\n', (size_t)n);
	while (p != NULL && ++p < end &&
	    (nl = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		if ((t = records_time(p, (size_t)(nl - p))) != 0) {
			*begin_r = at + (uint64_t)(p - s->piece);
			return (t);
		}
		p = nl;
	}
	return (0);
}

/* halve - a place such that every record before it is older than ms; unsure if
 * the file holds something else than records */
static uint64_t
halve(struct records_search *s, uint64_t size, uint64_t ms, uint64_t unsure)
{
	uint64_t low = 0, high = size, mid, at, t;

	while (high - low > HALVE_TO) {
		mid = low + (high - low) / 2;
		t = time_after(s, mid, &at);
		if (t == 0 && high == size && mid + ROOM >= size)
			high = mid; /* one record is the rest */
		else if (t == 0)
			return (unsure);
		else if (t < ms && at < high)
			low = at;
		else
			high = mid;
	}
	return (low);
}

/* open_file - and the stretch of it that matters */
static void
open_file(struct records *r, struct records_search *s, const char *name)
{
	const struct records_query *q = &s->query;
	struct stat st;
	uint64_t size;

	s->fd = openat(r->dir, name, O_RDONLY | O_CLOEXEC);
	if (s->fd == -1 || fstat(s->fd, &st) == -1)
		return;
	size = (uint64_t)st.st_size;
	s->low = 0;
	s->offset = size;
	s->carry = 0;
	s->skip = false;
	if (q->since_ms > RECORDS_SKEW_MS)
		s->low = halve(s, size, q->since_ms - RECORDS_SKEW_MS, 0);
	if (q->until_ms != 0) {
		/* From there on all are younger than until and the skew. */
		uint64_t end =
		    halve(s, size, q->until_ms + RECORDS_SKEW_MS + 1, size);

		if (end + HALVE_TO + ROOM < size) {
			s->offset = end + HALVE_TO + ROOM;
			s->skip = true; /* a line's beginning, or nothing */
		}
	}
}

/* in_time - may the file of that day hold such a record? */
static bool
in_time(const struct records_query *q, const char *name)
{
	char line[64];
	uint64_t day;
	int n;

	n = snprintf(
	    line, sizeof(line), "{\"time\":\"%.10sT00:00:00.000Z\"}", name);
	day = records_time(line, (size_t)n);
	return (day == 0 ||
	    (day + DAY_MS > q->since_ms &&
	        (q->until_ms == 0 || day <= q->until_ms + RECORDS_SKEW_MS)));
}

/* lines - from the last to the first of n bytes; what is before the first line
 * end is carried to the next piece unless it is a line's beginning */
static void
lines(struct records_search *s, size_t n, bool at_start,
    void (*fn)(void *, const char *, size_t), void *arg)
{
	char *end = s->piece + n, *nl;

	while (s->found < s->query.limit) {
		nl = end > s->piece
		    ? memrchr(s->piece, '\n', (size_t)(end - s->piece))
		    : NULL;
		if (nl == NULL && !at_start)
			break;
		if (nl == NULL)
			nl = s->piece - 1;
		if (s->skip)
			s->skip = false; /* the rest of it */
		else if (records_match(
		             &s->query, nl + 1, (size_t)(end - nl - 1))) {
			s->found++;
			fn(arg, nl + 1, (size_t)(end - nl - 1));
		}
		if (nl < s->piece) {
			end = s->piece;
			break;
		}
		end = nl;
	}
	s->carry = (size_t)(end - s->piece);
	if (s->carry > RECORD_MAX) {
		s->carry = 0; /* no record of ours is as long */
		s->skip = true;
	}
}

/* next_file - 1 there is one more, 0 none */
static int
next_file(struct records *r, struct records_search *s)
{
	char name[NAME_LEN + 1];

	/* An id lives in one day's file. */
	if (s->at >= s->n_names || (s->found > 0 && s->query.id != NULL))
		return (0);
	memcpy(name, s->names[s->at++], NAME_LEN);
	name[NAME_LEN] = '\0';
	if (in_time(&s->query, name))
		open_file(r, s, name);
	return (1);
}

int
records_search_step(struct records *r, struct records_search *s,
    void (*fn)(void *arg, const char *line, size_t len), void *arg)
{
	uint64_t want;

	if (s->found >= s->query.limit)
		return (0);
	if (s->fd == -1)
		return (next_file(r, s));
	want = s->offset - s->low;
	if (want > PIECE)
		want = PIECE;
	memmove(s->piece + want, s->piece, s->carry);
	if (want > 0 &&
	    pread(s->fd, s->piece, want, (off_t)(s->offset - want)) !=
	        (ssize_t)want)
		want = 0;
	s->offset -= want;
	s->read += want;
	if (want > 0)
		lines(s, want + s->carry, s->offset == s->low, fn, arg);
	if (want == 0 || s->offset == s->low) {
		(void)close(s->fd);
		s->fd = -1;
	}
	return (1);
}
