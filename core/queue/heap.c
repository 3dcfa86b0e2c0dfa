/* SPDX-License-Identifier: ISC */

/* heap - what is due next, among a million */

#include "core/queue/heap.h"

#include <stdlib.h>

static void
place(struct heap *h, size_t i, struct timer *t)
{
	h->v[i] = t;
	t->pos = i + 1;
}

static void
up(struct heap *h, size_t i, struct timer *t)
{
	while (i > 0 && h->v[(i - 1) / 2]->at_ms > t->at_ms) {
		place(h, i, h->v[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(h, i, t);
}

static void
down(struct heap *h, size_t i, struct timer *t)
{
	size_t k;

	while ((k = 2 * i + 1) < h->n) {
		if (k + 1 < h->n && h->v[k + 1]->at_ms < h->v[k]->at_ms)
			k++;
		if (h->v[k]->at_ms >= t->at_ms)
			break;
		place(h, i, h->v[k]);
		i = k;
	}
	place(h, i, t);
}

void
heap_set(struct heap *h, struct timer *t, uint64_t at_ms)
{
	uint64_t was = t->at_ms;

	t->at_ms = at_ms;
	if (t->pos != 0) {
		if (at_ms < was)
			up(h, t->pos - 1, t);
		else
			down(h, t->pos - 1, t);
		return;
	}
	if (h->n == h->cap) {
		h->cap = h->cap == 0 ? 64 : 2 * h->cap;
		h->v = reallocarray(h->v, h->cap, sizeof(h->v[0]));
		if (h->v == NULL)
			abort();
	}
	h->n++;
	up(h, h->n - 1, t);
}

void
heap_del(struct heap *h, struct timer *t)
{
	size_t i = t->pos - 1;
	struct timer *last;

	if (t->pos == 0)
		return;
	t->pos = 0;
	last = h->v[--h->n];
	if (last == t)
		return;
	if (last->at_ms < t->at_ms)
		up(h, i, last);
	else
		down(h, i, last);
}

struct timer *
heap_first(const struct heap *h)
{
	return (h->n > 0 ? h->v[0] : NULL);
}

void
heap_fini(struct heap *h)
{
	free(h->v);
	h->v = NULL;
	h->n = h->cap = 0;
}
