/* SPDX-License-Identifier: ISC */
#ifndef CORE_SPOOL_RECORD_H
#define CORE_SPOOL_RECORD_H

#include "core/spool/spool.h"

/*
 * One record of the journal: a header of REC_HEAD bytes, the payload, zeros up
 * to a multiple of REC_ALIGN.  docs/spool-format.md has the layout.
 */
#define REC_NUM_MAX ((uint64_t)1 << 62) /* no counter gets there honestly */
/* No counter goes on from a number beyond, nor is a file so named: what we
 * write must stay below the maximum, or it would not be read again. */
#define REC_NUM_NEXT (REC_NUM_MAX / 2)

enum {
	REC_HEAD = 48,
	REC_ALIGN = 8,
	REC_MAGIC = 0x3152444d /* "MDR1" */
};

enum rec_type {
	REC_MESSAGE = 1,
	REC_DONE, /* one recipient has its final outcome */
	REC_DEFERRED,
	REC_HOLD,
	REC_DROP,
	REC_VOID,     /* batches whose sync failed */
	REC_SEAL,     /* nothing follows in this segment */
	REC_COMMIT,   /* ends a batch */
	REC_MOVE,     /* a live message again; its state follows */
	REC_TOTALS,   /* what was counted up to here: struct spool_totals */
	REC_REPLACED, /* over: the messages of this batch took its place */
	REC_TYPE_END
};

struct rec_head {
	enum rec_type type;
	uint32_t length; /* payload, bytes */
	uint32_t crc;    /* CRC-32C of the payload */
	uint64_t seq;    /* message; 0 where the record is about none */
	uint64_t gen;    /* number of the segment, XOR the spool's salt */
	uint64_t batch;
};

/* rec_size - bytes on disk for a payload of n */
uint64_t rec_size(uint64_t n);

void rec_head_put(unsigned char *out, const struct rec_head *);
/* rec_head_get - 0, or -1 when these bytes are no header of generation gen */
int rec_head_get(const unsigned char *in, uint64_t gen, struct rec_head *head_r)
    __attribute__((__warn_unused_result__));

/* The fixed part of a message's payload; meta (envelope, decision record,
 * received header, origin) follows, then the content unless it is a file. */
enum { MSG_FIXED = 44 };

struct rec_msg {
	uint32_t meta_len, meta_crc;
	bool big; /* content is in a body file */
	struct spool_place
	    place; /* inline: file 0, offset within the payload */
};

void rec_msg_put(unsigned char *out, const struct rec_msg *);
/* rec_msg_get - from the first MSG_FIXED bytes of a payload of n; -1 EPROTO */
int rec_msg_get(const unsigned char *in, uint64_t n, struct rec_msg *msg_r)
    __attribute__((__warn_unused_result__));

/* Payloads of the small records, by the type in the header. */
struct rec_small {
	uint64_t a, b;    /* done: rcpt, state; deferred: next_try_ms, attempts;
	                     hold: held, 1 at a copy's end; void: first, last;
	                     commit: start of    the batch, records in it */
	const char *text; /* reply or reason; in the record */
};

int rec_small_put(struct buf *, const struct rec_small *)
    __attribute__((__warn_unused_result__));
int rec_small_get(const void *, size_t n, struct rec_small *small_r)
    __attribute__((__warn_unused_result__));

/* Totals: n, then n numbers; a later version may have more of them. */
enum {
	TOTALS_N = sizeof(struct spool_totals) / sizeof(uint64_t),
	TOTALS_BYTES = 4 + TOTALS_N * 8,
	TOTALS_N_MAX = 1000
};
void rec_totals_put(unsigned char *out, const struct spool_totals *);
/* rec_totals_get - 0, or -1 with EPROTO */
int rec_totals_get(const unsigned char *in, size_t n,
    struct spool_totals *totals_r) __attribute__((__warn_unused_result__));

#endif
