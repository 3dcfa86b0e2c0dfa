/* SPDX-License-Identifier: ISC */

/* tape - recordings of Milter sessions: writing and reading the format */

#include "milter-sdk/base/tape.h"

#include <errno.h>
#include <string.h>

static void
put_be(unsigned char *p, uint64_t v, int n)
{
	while (n-- > 0) {
		p[n] = (unsigned char)v;
		v >>= 8;
	}
}

static uint64_t
get_be(const unsigned char *p, int n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | *p++;
	return (v);
}

int
tape_begin(struct buf *b)
{
	return (buf_add(b, TAPE_HEAD, TAPE_HEAD_LEN));
}

int
tape_put(struct buf *b, char kind, uint64_t us, const void *data, size_t len)
{
	unsigned char hdr[TAPE_ENTRY_HDR];
	size_t was = b->len;

	if (len > TAPE_ENTRY_MAX) {
		errno = EINVAL;
		return (-1);
	}
	hdr[0] = (unsigned char)kind;
	put_be(hdr + 1, len, 4);
	put_be(hdr + 5, us, 8);
	if (buf_add(b, hdr, sizeof(hdr)) == -1)
		return (-1);
	if (len > 0 && buf_add(b, data, len) == -1) {
		b->len = was;
		return (-1);
	}
	return (0);
}

static long
refuse(void)
{
	errno = EPROTO;
	return (-1);
}

long
tape_head(const void *bytes, size_t n)
{
	if (n < TAPE_HEAD_LEN || memcmp(bytes, TAPE_HEAD, TAPE_HEAD_LEN) != 0)
		return (refuse());
	return (TAPE_HEAD_LEN);
}

long
tape_next(const void *bytes, size_t n, uint64_t us, struct tape_entry *e)
{
	const unsigned char *p = bytes;
	uint64_t len;

	if (n == 0)
		return (0);
	if (n < TAPE_ENTRY_HDR || p[0] == '\0' ||
	    strchr("FCO><XE", p[0]) == NULL)
		return (refuse());
	len = get_be(p + 1, 4);
	e->kind = (char)p[0];
	e->us = get_be(p + 5, 8);
	e->data = (const char *)p + TAPE_ENTRY_HDR;
	e->len = (size_t)len;
	if (len > TAPE_ENTRY_MAX || len > n - TAPE_ENTRY_HDR || e->us < us ||
	    (len == 0 && (e->kind == TAPE_TO || e->kind == TAPE_FROM)))
		return (refuse());
	return ((long)(TAPE_ENTRY_HDR + len));
}
