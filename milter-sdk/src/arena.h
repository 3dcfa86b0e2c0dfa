/* SPDX-License-Identifier: ISC */
#ifndef SDK_ARENA_H
#define SDK_ARENA_H

#include <stddef.h>

/*
 * Memory that is freed all at once: what a session or a message brings.  max is
 * the ceiling in bytes; zero-initialised but for it.
 */
struct arena_block;

struct arena {
	struct arena_block *blocks;
	size_t used; /* bytes handed out */
	size_t max;
};

/* NULL with ENOMEM, or EMSGSIZE over the ceiling; aligned for any type */
void *arena_alloc(struct arena *, size_t) __attribute__((__malloc__));
char *arena_copy(struct arena *, const void *, size_t); /* adds a NUL */
char *arena_strdup(struct arena *, const char *);
/*
 * arena_grow - room for one more element in an array of n; *cap grows by
 * doubling.  The array, perhaps moved, or NULL.
 */
void *arena_grow(
    struct arena *, void *array, size_t n, size_t *cap, size_t size);
void arena_fini(struct arena *); /* may be used again */

#endif
