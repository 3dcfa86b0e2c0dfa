/* SPDX-License-Identifier: ISC */
#ifndef CORE_MILTER_STATS_H
#define CORE_MILTER_STATS_H

#include "milter-sdk/base/buf.h"

#include <stdint.h>

/* What is counted for one endpoint of a milter, each at its event. */
enum { STATS_STAGES = 11, STATS_VERDICTS = 8, STATS_BUCKETS = 16 };

struct stats {
	uint64_t calls, timeouts, failures, fail_opens;
	uint64_t verdicts[STATS_STAGES][STATS_VERDICTS];
	uint64_t buckets[STATS_BUCKETS]; /* not cumulated; the last is beyond */
	uint64_t total_us;
};

struct conn;
struct estate;
struct link;

void stats_call(struct link *, uint64_t n);
void stats_answer(
    struct link *, char cmd, char reply, uint64_t us, const char *text);
void stats_connect(struct estate *);
void stats_timeout(struct conn *);
void stats_failure(struct link *);
void stats_fail_open(struct link *);

#endif
