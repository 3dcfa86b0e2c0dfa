/* SPDX-License-Identifier: ISC */
#ifndef CORE_QUEUE_RECORDS_H
#define CORE_QUEUE_RECORDS_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Decision records in day files records/YYYY-MM-DD.jsonl (UTC) below the
 * spool: one line of JSON each, appended without a sync, at most keep files
 * and RECORDS_DAY_MAX bytes a file.  What does not fit is counted and logged
 * once a day.
 */
enum {
	RECORD_MAX = 256 << 10,    /* bytes of one record */
	RECORDS_DAY_MAX = 1 << 30, /* bytes of one file */
	RECORDS_BUFFER = 1 << 20   /* written at once when it is this full */
};

struct records {
	int dir;  /* the folder */
	int fd;   /* of the day, or -1 */
	long day; /* since 1970 */
	uint64_t size;
	uint64_t dropped;
	unsigned keep;
	struct buf out;
};

/* records_open - the folder is made if it is missing; -1 with errno */
int records_open(struct records *, const char *spool_dir, unsigned keep)
    __attribute__((__warn_unused_result__));
void records_close(struct records *);

/* records_add - one line without its newline, for the day of now_ms.  Text with
 * a line end or over RECORD_MAX is not a record: -1 with EINVAL. */
int records_add(struct records *, const char *, size_t, uint64_t now_ms)
    __attribute__((__warn_unused_result__));
void records_flush(struct records *);

/* A search for one id, newest day first; step reads a bounded piece. */
struct records_search {
	char id[32];
	char (*names)[16];
	size_t n_names, at;
	int fd;
	uint64_t offset;
	struct buf piece;
	bool found;
};
int records_search_start(struct records *, struct records_search *,
    const char *id) __attribute__((__warn_unused_result__));
/* records_search_step - calls fn for each line found; 1 more to do, 0 ended */
int records_search_step(struct records *, struct records_search *,
    void (*fn)(void *arg, const char *line, size_t len), void *arg);
void records_search_fini(struct records_search *);

#endif
