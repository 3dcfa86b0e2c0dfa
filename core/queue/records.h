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

/*
 * A search, newest record first.  All that is given must match; what is absent
 * matches everything.  It reads day files backwards, a bounded piece a step,
 * and of each only the stretch that the times (or the time in an id) allow.
 * That relies on records being appended at most RECORDS_SKEW_MS after their
 * message began.
 */
enum {
	RECORDS_SKEW_MS = 6 * 3600 * 1000,
	RECORDS_LIMIT_MAX = 10000 /* records that one search finds */
};

struct records_query {
	char *id;            /* queue id; those of its groups match too */
	char *released_from; /* of the held message that was released */
	char *message_id;    /* Message-ID, with or without its <> */
	char *from, *to;     /* "a@b", "@b" (a domain), "<>"; any case */
	uint64_t since_ms, until_ms; /* Unix time; until 0: now */
	unsigned limit;              /* 0: RECORDS_LIMIT_MAX */
};

/* records_query_parse - one word: "id=X", "released-from=X", "message-id=X",
 * "from=X", "to=X", "since=UNIX" and "until=UNIX" (seconds), "limit=N", or an
 * id or a Message-ID (with an @) alone.  -1 with EINVAL or ENOMEM. */
int records_query_parse(struct records_query *, const char *word)
    __attribute__((__warn_unused_result__));
void records_query_fini(struct records_query *);

/* records_match - pure: is the line a record that is asked for? */
bool records_match(const struct records_query *, const char *line, size_t len);
/* records_time - Unix time in ms of a record's line, 0 if it has none */
uint64_t records_time(const char *line, size_t len);

struct records_search {
	struct records_query query; /* owned after a successful start */
	char (*names)[16];
	size_t n_names, at;
	int fd;
	uint64_t low, offset; /* of the file: read down to, unread up to */
	char *piece;
	size_t carry; /* bytes of a line whose head is not read yet */
	bool skip;    /* a line longer than any record */
	unsigned found;
	uint64_t read; /* bytes so far */
};
/* records_search_start - takes over what the query holds; -1 with ENOMEM */
int records_search_start(struct records *, struct records_search *,
    struct records_query *) __attribute__((__warn_unused_result__));
/* records_search_step - calls fn for each record found; 1 more to do, 0 ended
 */
int records_search_step(struct records *, struct records_search *,
    void (*fn)(void *arg, const char *line, size_t len), void *arg);
void records_search_fini(struct records_search *);

/* records_days - names of the day files, newest first; malloc'ed */
char (*records_days(struct records *, size_t *n_r))[16];

#endif
