/* SPDX-License-Identifier: ISC */
#ifndef CORE_MILTER_STATS_H
#define CORE_MILTER_STATS_H

#include "milter-sdk/base/buf.h"

#include <stdint.h>

/*
 * What is counted for one endpoint of a milter, each at its event.  Kept by the
 * endpoint's text, so that a reload that moves it loses nothing.
 */
enum { STATS_STAGES = 11, STATS_VERDICTS = 8, STATS_BUCKETS = 16 };

struct endpoint_stats {
	struct endpoint_stats *next;
	char *text;
	uint64_t calls, connects, timeouts, failures;
	uint64_t verdicts[STATS_STAGES][STATS_VERDICTS];
	uint64_t buckets[STATS_BUCKETS]; /* not cumulated; the last is beyond */
	uint64_t total_us;
};

struct link;
struct mstate;
struct engine;

/* Each does nothing for a link without an endpoint. */
void stats_call(struct link *, uint64_t n);
void stats_answer(
    struct link *, char cmd, char reply, uint64_t us, const char *text);
void stats_connect(struct link *, size_t endpoint);
void stats_timeout(struct link *);
void stats_failure(struct link *);
void stats_free(struct mstate *);

#endif
