/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_DATA_H
#define CORE_SMTP_DATA_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Content as it arrives after DATA or in BDAT chunks, checked and taken apart
 * into header block and body while it comes, at whatever byte it is cut.
 *
 * Lines end in CRLF and nothing else: a CR or LF that stands alone is a fault,
 * so that no two servers can see different ends of one message.  The end of
 * data is CRLF "." CRLF only (the start of DATA counts as after a CRLF).  After
 * a fault nothing more is kept, but the true end is still looked for.
 */
enum data_fault { /* the first one found counts */
	DATA_GOOD,
	DATA_BARE,   /* a CR or LF that stands alone */
	DATA_LINE,   /* a line over the limit */
	DATA_NUL,    /* NUL in the header */
	DATA_HEADER, /* header over its limits */
	DATA_SIZE,   /* content over the limit */
	DATA_STORE   /* the sink failed */
};

struct data_limits {
	uint64_t message_size; /* bytes of content */
	uint64_t line_length;  /* bytes without CRLF */
	uint64_t header_size;  /* bytes of the block */
	unsigned header_fields;
};

/* data_sink_fn - takes body bytes; -1 stops the keeping */
typedef int data_sink_fn(void *arg, const char *, size_t);

struct data {
	struct data_limits limits;
	data_sink_fn *sink;
	void *arg;
	enum data_fault fault;
	struct buf header; /* fields as received, each with its CRLF; without
	                      the empty line */
	uint64_t size;     /* bytes of content so far */
	unsigned fields;
	unsigned hops;  /* Received fields among them */
	bool eight_bit; /* some byte >= 0x80 */
	bool dots;      /* some line begins with a dot */
	/* the decoder's own */
	bool stuffed; /* DATA; else BDAT */
	bool in_body;
	bool ended;
	unsigned char state;
	uint64_t line_len; /* content bytes of the line at hand */
	size_t line_at;    /* in header: where the line at hand begins */
};

/* data_init - stuffed: dots are doubled and ".": ends (DATA) */
void data_init(struct data *, const struct data_limits *, bool stuffed,
    data_sink_fn *, void *arg);
void data_fini(struct data *);

/*
 * data_feed - n more bytes; how many were used.  All, unless the end of data
 * was among them: then ended is set and the rest are commands.
 */
size_t data_feed(struct data *, const char *, size_t n);

/* data_end - the last BDAT chunk was fed: a last line without CRLF gets one */
void data_end(struct data *);

/* data_reply - the reply for a fault ("554 5.5.2 ...") */
const char *data_reply(enum data_fault);

#endif
