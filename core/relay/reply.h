/* SPDX-License-Identifier: ISC */
#ifndef CORE_RELAY_REPLY_H
#define CORE_RELAY_REPLY_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>

/*
 * SMTP replies (RFC 5321 4.2) from a next hop that may be hostile: lines of at
 * most REPLY_LINE_MAX bytes, at most REPLY_LINES_MAX of them, one code.  A bare
 * LF ends a line too.
 */
enum {
	REPLY_LINE_MAX = 2000,
	REPLY_LINES_MAX = 128,
	REPLY_KEPT_MAX = 16 * 1024, /* bytes of text of one reply */
	REPLY_TEXT_MAX = 900        /* bytes of the one-line form */
};

struct reply {
	unsigned code; /* 200..599; 0 while nothing was read */
	unsigned lines;
	struct buf text; /* without codes; lines end in LF; control
	                    bytes are '?' */
	bool complete;
};

void reply_init(struct reply *);
void reply_fini(struct reply *);

/*
 * reply_take - read from p; *used_r is how many of the n bytes were consumed.
 * 1 when the reply is complete, 0 when more bytes are needed, -1 with EPROTO
 * (no SMTP, or beyond a limit) or ENOMEM.  A complete reply is begun anew by
 * the next call.
 */
int reply_take(struct reply *, const char *p, size_t n, size_t *used_r)
    __attribute__((__warn_unused_result__));

/* reply_line - "550 5.1.1 first second" in room; an enhanced code that each
 * line repeats is kept once; a longer text ends in "..." */
const char *reply_line(const struct reply *, char *room, size_t n);

/* reply_next_text - the lines of text one by one: *at begins as 0; NULL at the
 * end.  The line is cut out into room. */
const char *reply_next_text(
    const struct reply *, size_t *at, char *room, size_t n);

#endif
