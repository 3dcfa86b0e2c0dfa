/* SPDX-License-Identifier: ISC */
#ifndef CORE_RELAY_CONTENT_H
#define CORE_RELAY_CONTENT_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * A message's bytes from a segment to the wire: dots stuffed, and the checksum
 * of the whole range made on the way, so that what the disk damaged never gets
 * its final dot.
 */
enum { CONTENT_CHUNK = 256 * 1024 };

struct content {
	int fd; /* borrowed */
	uint64_t off, left;
	uint32_t want, crc;
	char last[2]; /* the last two bytes that were read */
};

enum content_state {
	CONTENT_MORE,
	CONTENT_END,    /* all was read, the sum is right, final dot appended */
	CONTENT_DAMAGED /* the sum is wrong, or the file is too short */
};

void content_init(
    struct content *, int fd, uint64_t off, uint64_t len, uint32_t crc);

/*
 * content_fill - append the next chunk, as it leaves, to out.  A state, or -1
 * with errno: reading failed, or no memory.
 */
int content_fill(struct content *, struct buf *out)
    __attribute__((__warn_unused_result__));

/* content_stuff - append n bytes with dots stuffed; last are the two bytes
 * before them ("\r\n" at the start) */
int content_stuff(struct buf *out, const char last[2], const char *, size_t n)
    __attribute__((__warn_unused_result__));

#endif
