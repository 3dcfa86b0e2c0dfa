/* SPDX-License-Identifier: ISC */
#ifndef BASE_TAPE_H
#define BASE_TAPE_H

#include "milter-sdk/base/buf.h"

#include <stdint.h>

/*
 * Recordings of Milter sessions, version 1 (docs/recording.md): a first line
 * and entries.  Pure: bytes in, bytes out.  An entry is a u8 kind, a u32
 * length, a u64 time in microseconds since the recording began (both
 * big-endian, as in the protocol), and the payload.
 *
 * A reader trusts nothing: an unknown kind, a length over TAPE_ENTRY_MAX, a
 * packet without a code or a time that goes backwards is EPROTO.
 */
#define TAPE_HEAD "milldam recording 1\n"

enum {
	TAPE_HEAD_LEN = sizeof(TAPE_HEAD) - 1,
	TAPE_ENTRY_HDR = 13,
	TAPE_ENTRY_MAX = 1 << 20,
	TAPE_FILE_MAX = 64 << 20 /* no reader takes a larger file */
};

enum tape_kind {
	TAPE_FACT = 'F',      /* name NUL value NUL */
	TAPE_CONNECTED = 'C', /* a connection is made; "new" or "pooled" */
	TAPE_OPTIONS = 'O',   /* in force on it: as in an OPTNEG packet */
	TAPE_TO = '>',        /* a packet to the milter: code and payload */
	TAPE_FROM = '<',      /* a packet from it */
	TAPE_CLOSED = 'X',    /* the connection is over */
	TAPE_END = 'E'        /* "complete", or "cut": over the size limit */
};

struct tape_entry {
	char kind;
	uint64_t us;
	const char *data; /* into the caller's bytes */
	size_t len;
};

/* tape_begin - the first line; tape_put - an entry, whole or not at all: -1
 * with EINVAL (too long), EMSGSIZE or ENOMEM */
int tape_begin(struct buf *) __attribute__((__warn_unused_result__));
int tape_put(struct buf *, char kind, uint64_t us, const void *, size_t)
    __attribute__((__warn_unused_result__));

/* tape_head - bytes of the first line, or -1 with EPROTO: no recording of a
 * version known here */
long tape_head(const void *, size_t) __attribute__((__warn_unused_result__));
/* tape_next - the entry at the begin of n bytes, none older than us.  Returns
 * the bytes it takes up, 0 when there are none, or -1 with EPROTO. */
long tape_next(const void *, size_t n, uint64_t us, struct tape_entry *entry_r)
    __attribute__((__warn_unused_result__));

#endif
