/* SPDX-License-Identifier: ISC */

/*
 * view - a spool as it lies on the disk, read without changing it
 *
 * Beside a running gateway a batch may be half written and a segment may get
 * another name while it is read.  Both look like damage and are gone at the
 * next look; real damage stays.  Hence two looks before anything is reported.
 */

#include "core/spool/tool/tool.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_AGAIN_MS = 300 };

/* room - for one more; memory that runs out is noted, the caller goes on */
static bool
room(struct view *v, void *arrayp, size_t *cap, size_t n, size_t size)
{
	size_t more = *cap == 0 ? 64 : *cap * 2;
	void *p;

	if (n < *cap)
		return (true);
	memcpy(&p, arrayp, sizeof(p));
	if ((p = reallocarray(p, more, size)) == NULL) {
		v->no_memory = true;
		return (false);
	}
	memcpy(arrayp, &p, sizeof(p));
	*cap = more;
	return (true);
}

void
view_damage(struct view *v, const char *text)
{
	char *copy;

	if (!room(v, &v->damage, &v->cap_damage, v->n_damage, sizeof(copy)))
		return;
	if ((copy = strdup(text)) == NULL) {
		v->no_memory = true;
		return;
	}
	v->damage[v->n_damage++] = copy;
}

static void
found(void *arg, struct spool_found *f)
{
	struct view *v = arg;
	struct item it = { .seq = f->seq,
		.place = f->place,
		.n_states = f->env.n_rcpts,
		.next_try_ms = f->next_try_ms,
		.attempts = f->attempts,
		.held = f->held };

	memcpy(it.id, f->env.id, sizeof(it.id));
	it.states = calloc(it.n_states + 1, sizeof(*it.states));
	it.last_reply = strdup(f->last_reply);
	it.why = strdup(f->held ? f->why : "");
	if (it.states == NULL || it.last_reply == NULL || it.why == NULL ||
	    !room(v, &v->items, &v->cap_items, v->n_items, sizeof(it))) {
		v->no_memory = true;
		free(it.states);
		free(it.last_reply);
		free(it.why);
	} else {
		if (it.n_states > 0)
			memcpy(it.states, f->states,
			    it.n_states * sizeof(*it.states));
		v->items[v->n_items++] = it;
	}
	env_fini(&f->env);
}

static void
alarm_found(void *arg, const char *kind, const char *text)
{
	(void)kind;
	view_damage(arg, text);
}

static void
synced(void *arg, uint64_t seq, bool ok)
{
	/* nothing is written */
	(void)arg;
	(void)seq;
	(void)ok;
}

int
view_open(struct view *v, const char *dir)
{
	struct spool_opts o = { .dir = dir, .read_only = true };
	struct spool_events ev = { found, synced, alarm_found, v, NULL };

	memset(v, 0, sizeof(*v));
	if ((v->sp = spool_open(&o, &ev)) == NULL) {
		int e = errno;

		view_close(v);
		errno = e;
		return (-1);
	}
	if (v->no_memory) {
		view_close(v);
		errno = ENOMEM;
		return (-1);
	}
	return (0);
}

void
view_close(struct view *v)
{
	size_t i;

	for (i = 0; i < v->n_items; i++) {
		free(v->items[i].states);
		free(v->items[i].last_reply);
		free(v->items[i].why);
	}
	for (i = 0; i < v->n_damage; i++)
		free(v->damage[i]);
	free(v->items);
	free(v->damage);
	spool_close(&v->sp);
	memset(v, 0, sizeof(*v));
}

void
view_verify(struct view *v)
{
	char text[256];
	size_t i;

	for (i = 0; i < v->n_items; i++) {
		const struct item *it = &v->items[i];

		if (spool_verify_content(v->sp, it->seq) == 0)
			continue;
		snprintf(text, sizeof(text),
		    "message %" PRIu64 " (%s): content: %s", it->seq, it->id,
		    errno == EPROTO ? "checksum does not match"
		                    : strerror(errno));
		view_damage(v, text);
	}
}

static int
by_text(const void *a, const void *b)
{
	return (strcmp(*(char *const *)a, *(char *const *)b));
}

void
view_common(struct view *v, const struct view *other)
{
	size_t i, n = 0;

	if (v->n_damage == 0)
		return;
	if (other->n_damage > 0)
		qsort(other->damage, other->n_damage, sizeof(char *), by_text);
	for (i = 0; i < v->n_damage; i++)
		if (other->n_damage > 0 &&
		    bsearch(&v->damage[i], other->damage, other->n_damage,
		        sizeof(char *), by_text) != NULL)
			v->damage[n++] = v->damage[i];
		else
			free(v->damage[i]);
	v->n_damage = n;
}

int
view_open_sure(struct view *v, const char *dir, bool contents)
{
	struct view first;

	if (view_open(&first, dir) == -1)
		return (-1);
	if (contents)
		view_verify(&first);
	if (first.n_damage == 0 && !first.no_memory) {
		*v = first;
		return (0);
	}
	(void)poll(NULL, 0, LOOK_AGAIN_MS);
	if (view_open(v, dir) == -1) {
		int e = errno;

		view_close(&first);
		errno = e;
		return (-1);
	}
	if (contents)
		view_verify(v);
	view_common(v, &first);
	view_close(&first);
	return (0);
}

const struct item *
view_find(const struct view *v, const char *what)
{
	char *end;
	uint64_t seq;
	size_t i;

	errno = 0;
	seq = isdigit((unsigned char)*what) ? strtoull(what, &end, 10) : 0;
	if (seq != 0 && *end == '\0' && errno == 0)
		for (i = 0; i < v->n_items; i++)
			if (v->items[i].seq == seq)
				return (&v->items[i]);
	for (i = 0; i < v->n_items; i++)
		if (strcmp(v->items[i].id, what) == 0)
			return (&v->items[i]);
	return (NULL);
}
