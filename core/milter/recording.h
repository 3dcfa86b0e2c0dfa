/* SPDX-License-Identifier: ISC */
#ifndef CORE_MILTER_RECORDING_H
#define CORE_MILTER_RECORDING_H

#include "milter-sdk/base/buf.h"
#include "milter-sdk/base/milter.h"

#include <stdbool.h>

/*
 * record = "dir": what one session says to one milter and hears from it, kept
 * in memory in the form of base/tape.h until the session ends, then handed to
 * whoever can write a file (engine_on_recording()).
 *
 * It never stands in the way of mail: over RECORDING_MAX bytes a recording is
 * cut, and while all of them together have RECORDINGS_TOTAL no new one begins.
 */
enum { RECORDING_MAX = 8 << 20, RECORDINGS_TOTAL = 64 << 20 };

struct engine;
struct link;
struct conn;

struct recording {
	struct buf tape;
	struct engine *engine;
	uint64_t begin_us;
	size_t counted; /* of the engine's total */
	bool cut;
};

/* recording_begin - if the settings say so and none runs for that link */
void recording_begin(struct link *);
/* recording_connected - a connection is made, or taken from the pool */
void recording_connected(struct link *, bool pooled);
void recording_options(struct link *); /* those that were negotiated */
/* recording_to - packets queued since the last time, up to end of conn.out */
void recording_to(struct conn *, size_t end);
void recording_from(struct link *, const struct milter_packet *);
void recording_closed(struct link *);
/* recording_end - hand it over; the link has none then */
void recording_end(struct link *);

#endif
