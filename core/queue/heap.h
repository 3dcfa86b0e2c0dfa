/* SPDX-License-Identifier: ISC */
#ifndef CORE_QUEUE_HEAP_H
#define CORE_QUEUE_HEAP_H

#include <stddef.h>
#include <stdint.h>

/* Timers in a binary heap; a timer lies inside the thing that it wakes. */
struct timer {
	uint64_t at_ms; /* Unix time */
	size_t pos;     /* 1-based place in the heap; 0: not in it */
};

struct heap {
	struct timer **v;
	size_t n, cap;
};

/* heap_set - in the heap with that time, wherever it was; aborts without
 * memory, like all of the queue process */
void heap_set(struct heap *, struct timer *, uint64_t at_ms);
void heap_del(struct heap *, struct timer *); /* fine if not in it */
struct timer *heap_first(const struct heap *);
void heap_fini(struct heap *);

#endif
