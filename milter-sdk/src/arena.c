/* SPDX-License-Identifier: ISC */

/* arena - many small pieces with one end */

#include "milter-sdk/src/arena.h"

#include <errno.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096 - 64 };

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	alignas(max_align_t) char data[];
};

void *
arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->blocks;
	size_t size;
	void *p;

	if (n > a->max || a->used > a->max - n) {
		errno = EMSGSIZE;
		return (NULL);
	}
	n = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (b == NULL || b->size - b->used < n) {
		size = n > BLOCK ? n : BLOCK;
		if ((b = malloc(sizeof(*b) + size)) == NULL)
			return (NULL);
		b->size = size;
		b->used = 0;
		b->next = a->blocks;
		a->blocks = b;
	}
	p = b->data + b->used;
	b->used += n;
	a->used += n;
	return (p);
}

char *
arena_copy(struct arena *a, const void *bytes, size_t n)
{
	char *p;

	if (n == SIZE_MAX || (p = arena_alloc(a, n + 1)) == NULL)
		return (NULL);
	if (n > 0)
		memcpy(p, bytes, n);
	p[n] = '\0';
	return (p);
}

char *
arena_strdup(struct arena *a, const char *s)
{
	return (arena_copy(a, s, strlen(s)));
}

void *
arena_grow(struct arena *a, void *array, size_t n, size_t *cap, size_t size)
{
	size_t want;
	void *p;

	if (n < *cap)
		return (array);
	want = *cap == 0 ? 8 : 2 * *cap;
	if (want > SIZE_MAX / 2 / size) {
		errno = EMSGSIZE;
		return (NULL);
	}
	if ((p = arena_alloc(a, want * size)) == NULL)
		return (NULL);
	if (n > 0)
		memcpy(p, array, n * size);
	*cap = want;
	return (p);
}

void
arena_fini(struct arena *a)
{
	struct arena_block *b;

	while ((b = a->blocks) != NULL) {
		a->blocks = b->next;
		free(b);
	}
	a->used = 0;
}
