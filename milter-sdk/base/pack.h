/* SPDX-License-Identifier: ISC */
#ifndef BASE_PACK_H
#define BASE_PACK_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Fixed-order binary records, for IPC between our own processes and for the
 * spool.  Integers are little-endian; a string is a u32 length and its bytes
 * and carries a NUL after them that the length does not count, so that a
 * reader may point into the record.  There is no padding.
 *
 * Both sides keep a sticky error: check once, at the end.  A writer fails when
 * its buffer does (EMSGSIZE, ENOMEM); a reader fails with EPROTO on a short
 * record, a missing NUL, or a NUL inside a string.
 */
struct packer {
	struct buf *b;
	bool failed;
};

struct unpacker {
	const unsigned char *p;
	size_t n;
	bool failed;
};

void pack_u8(struct packer *, uint8_t);
void pack_u16(struct packer *, uint16_t);
void pack_u32(struct packer *, uint32_t);
void pack_u64(struct packer *, uint64_t);
void pack_str(struct packer *, const char *); /* NULL is packed as "" */
void pack_blob(struct packer *, const void *, size_t);

/* pack_end - 0, or -1 with errno as left by the buffer */
int pack_end(const struct packer *) __attribute__((__warn_unused_result__));

uint8_t unpack_u8(struct unpacker *);
uint16_t unpack_u16(struct unpacker *);
uint32_t unpack_u32(struct unpacker *);
uint64_t unpack_u64(struct unpacker *);
const char *unpack_str(struct unpacker *); /* into the record; never NULL */
const void *unpack_blob(struct unpacker *, size_t *len_r);

/* unpack_end - 0, or -1 with EPROTO when anything was short or is left over */
int unpack_end(struct unpacker *) __attribute__((__warn_unused_result__));

#endif
