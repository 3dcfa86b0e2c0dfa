/* SPDX-License-Identifier: ISC */
#ifndef CORE_SPOOL_SPOOL_H
#define CORE_SPOOL_SPOOL_H

#include "core/smtp/envelope.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The spool: a journal of preallocated, recycled segments, shared commits and
 * the promise of docs/reliability.md.  One process opens it for writing (lock).
 * Format: docs/spool-format.md.
 *
 * Writing is in two steps.  spool_put_*() appends a record to the batch that is
 * being collected; spool_flush() writes the batch with a commit record and lets
 * the sync thread make it durable: while one fdatasync is in flight the next
 * batch collects (shared commit).  spool_fd() becomes readable when a sync has
 * ended; spool_synced() then reports each message of the batch to on_synced.
 */
struct spool;

struct spool_opts {
	const char *dir;       /* made if missing, mode 0700 */
	uint64_t segment_size; /* bytes */
	uint64_t inline_max;   /* bytes; larger content must be a file */
	uint64_t min_free;     /* bytes that must be left on the disk */
	bool read_only;        /* for milldam-spool: no lock, nothing written */
};

/* Where a message's content lies: give spool_file_fd(file) to a relay. */
struct spool_place {
	uint64_t file;   /* number of a segment or body file, never reused */
	uint64_t offset; /* bytes */
	uint64_t length;
	uint32_t crc; /* CRC-32C of exactly these bytes */
};

enum rcpt_state {
	RCPT_WAITING,
	RCPT_DONE,
	RCPT_FAILED,
	RCPT_DISCARDED /* for spool_put_done() alone: found again as done */
};

/*
 * What was counted since the spool was made, in recipients but for messages;
 * [0] mail from clients, [1] the queue's own (bounces, notices).  Each number
 * goes up where its event is put into the journal, and is written in the same
 * batch: so after a crash they agree with the messages that are found.
 * accepted and messages include what no sync has covered yet.
 */
struct spool_totals {
	uint64_t messages[2], accepted[2], delivered[2], bounced[2],
	    discarded[2], deleted[2];
};

/* What recovery found, one per live message, in journal order.  Recipients that
 * are done or failed are marked so; env belongs to the callee afterwards. */
struct spool_found {
	uint64_t seq; /* the message's number, never reused */
	struct spool_place place;
	struct envelope env;
	enum rcpt_state *states; /* env.n_rcpts */
	uint64_t next_try_ms;    /* Unix time; 0 at once */
	unsigned attempts;
	const char *last_reply; /* of the last deferral, or "" */
	const char *why;        /* of the last hold record, or "" */
	bool held;              /* by hold record or ENV_HELD not released */
};

/* What later records said of a message, for its copy (see move.c). */
struct spool_state {
	enum rcpt_state *states; /* of its recipients, to fill */
	uint64_t next_try_ms;
	unsigned attempts;
	const char *reply; /* or why held; until the next call */
	bool held;
};

struct spool_events {
	void (*found)(void *arg, struct spool_found *); /* during open */
	/* durable (ok) or lost (not ok: the sync failed; answer 451) */
	void (*synced)(void *arg, uint64_t seq, bool ok);
	/* damage was found, the disk is full, a sync failed: for an alarm */
	void (*alarm)(void *arg, const char *kind, const char *text);
	void *arg;
	/* state_r of a live message; 1, 0 not now, -1.  NULL: messages are
	 * never moved, so that one that stays keeps the whole journal. */
	int (*state)(void *arg, uint64_t seq, const char *id,
	    struct spool_state *state_r);
};

/* spool_open - recover, then ready to write.  NULL with errno; the reason has
 * been logged (EAGAIN: locked by another process). */
struct spool *spool_open(
    const struct spool_opts *, const struct spool_events *);
/* spool_close - flush, sync, join the thread */
void spool_close(struct spool **);

/*
 * spool_put_message - append a message; content is all of n bytes, or fd is a
 * file from spool_big_file() (content NULL; range offset..offset+n).  received:
 * header as received if it was changed.  record: decision record.  seq_r is
 * valid at once, durable at its synced event.  -1 with ENOSPC (disk or reserve
 * full), EIO (a sync failed before: nothing is accepted), ENOMEM.
 */
struct spool_new {
	const struct envelope *env;
	const void *content;
	uint64_t length, offset;
	uint32_t crc;
	int fd;
	const void *received;
	size_t received_len;
	const void *origin; /* what release of a held one needs, or NULL */
	size_t origin_len;
	const char *record;
	bool own; /* the queue's: may use what min_free keeps, for it frees more
	             than it takes */
	bool file; /* content into a file of its own, however small */
};
int spool_put_message(struct spool *, const struct spool_new *, uint64_t *seq_r,
    struct spool_place *place_r) __attribute__((__warn_unused_result__));

/* spool_put_messages - n messages as one: they lie in one batch, so that after
 * a crash all are there, or none; seq_r and place_r have room for n.  On -1
 * none was put; also EMSGSIZE: more than a segment takes (see spool_new.file).
 */
int spool_put_messages(struct spool *, const struct spool_new *, size_t n,
    uint64_t *seq_r, struct spool_place *place_r)
    __attribute__((__warn_unused_result__));

/* spool_put_instead - the same, and the live message old is over in that very
 * batch: after a crash or a failed sync either it is there, or they are.  Until
 * their synced event old can be read, and is not to be given other outcomes. */
int spool_put_instead(struct spool *, uint64_t old, const struct spool_new *,
    size_t n, uint64_t *seq_r, struct spool_place *place_r)
    __attribute__((__warn_unused_result__));

/* Outcomes.  They always fit (reserve segments).  Written with the next flush,
 * synced with the next batch or within 50 ms. */
void spool_put_done(struct spool *, uint64_t seq, uint32_t rcpt,
    enum rcpt_state, const char *reply);
void spool_put_deferred(struct spool *, uint64_t seq, uint64_t next_try_ms,
    unsigned attempts, const char *reply);
void spool_put_hold(struct spool *, uint64_t seq, bool held, const char *why);
void spool_put_drop(struct spool *, uint64_t seq, const char *why);

/* spool_put_discarded - recipients of a message that was accepted and dropped
 * on a milter's word: only counted, as accepted and as discarded */
void spool_put_discarded(struct spool *, uint64_t rcpts);
const struct spool_totals *spool_totals(const struct spool *);

/* spool_flush - write the batch; start a sync unless one is in flight */
void spool_flush(struct spool *);
int spool_fd(const struct spool *); /* readable: call spool_synced() */
void spool_synced(struct spool *);
/* spool_tick - call every 50 ms or so while spool_busy(): outcomes' sync,
 * recycling, compaction */
void spool_tick(struct spool *);
bool spool_busy(const struct spool *);

/* spool_big_file - an unnamed file in the spool for a body over inline_max */
int spool_big_file(struct spool *) __attribute__((__warn_unused_result__));

/* spool_accepting - false with the reply to give at MAIL when full or failed */
bool spool_accepting(struct spool *, const char **reply_r);

/* Hand-outs: a file is not recycled while pinned.  spool_file_fd() is a new
 * read-only descriptor, the caller's; -1 with errno. */
int spool_pin(struct spool *, uint64_t file)
    __attribute__((__warn_unused_result__));
void spool_unpin(struct spool *, uint64_t file);
int spool_file_fd(struct spool *, uint64_t file)
    __attribute__((__warn_unused_result__));
/* spool_file_gone - the next file number that was recycled or removed since the
 * last call, or 0: tell the relays to close it */
uint64_t spool_file_gone(struct spool *);

/* Reading back, by the message's number. */
int spool_read_envelope(struct spool *, uint64_t seq, struct envelope *env_r)
    __attribute__((__warn_unused_result__));
int spool_read_content(struct spool *, uint64_t seq, struct buf *out,
    uint64_t max) __attribute__((__warn_unused_result__));
/* spool_read_record - the decision record, into out */
int spool_read_record(struct spool *, uint64_t seq, struct buf *out)
    __attribute__((__warn_unused_result__));

/* spool_read_received - the header as received, empty if it was not changed */
int spool_read_received(struct spool *, uint64_t seq, struct buf *out)
    __attribute__((__warn_unused_result__));
/* spool_has_file - its content is a file that holds nothing else */
bool spool_has_file(struct spool *, uint64_t seq);
/* spool_read_origin - what it was put with, or empty */
int spool_read_origin(struct spool *, uint64_t seq, struct buf *out)
    __attribute__((__warn_unused_result__));
int spool_read_place(struct spool *, uint64_t seq, struct spool_place *place_r)
    __attribute__((__warn_unused_result__));
/* spool_verify_content - 0 if all bytes match their CRC, -1 with EPROTO, EIO */
int spool_verify_content(struct spool *, uint64_t seq)
    __attribute__((__warn_unused_result__));

/* Counters since open, for status: never derived from each other. */
struct spool_stats {
	uint64_t messages_put, messages_live, messages_dropped;
	uint64_t syncs, sync_us_total, batches, bytes_written;
	uint64_t segments, reserve, recycled, damaged;
};
void spool_stats(const struct spool *, struct spool_stats *stats_r);

#endif
