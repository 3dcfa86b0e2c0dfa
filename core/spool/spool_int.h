/* SPDX-License-Identifier: ISC */
#ifndef CORE_SPOOL_SPOOL_INT_H
#define CORE_SPOOL_SPOOL_INT_H

#include "core/spool/record.h"
#include "core/spool/spool.h"
#include "core/spool/spool_io.h"

#include <pthread.h>

/*
 * Inside the spool.  All of it belongs to the caller's thread, except struct
 * sync, which is under its lock.
 */
enum {
	SEG_DATA = 512,      /* where a segment's records begin */
	HEAD_TOTALS = 64,    /* in its head; 4 bytes of CRC before them */
	SEG_RESERVE = 2,     /* free segments that only outcomes may take */
	SEG_PIECE = 1 << 20, /* zeros written to a new one between commits */
	SEG_KEEP = 8,        /* free segments kept for use again */
	SEG_MIN = 65536,     /* smallest segment, bytes */
	SEG_MAX = 1 << 30,   /* largest */
	BATCH_MAX = 8 << 20, /* a batch this large is written at once */
	META_MAX = 64 << 20,
	STATE_END = 1, /* in a hold record: a copy's state is complete */
	NAME_ROOM = 40
};
/* room kept at a segment's end for the totals, the seal and its commit */
#define SEG_TAIL (4 * (REC_HEAD + 32))

struct seg {
	uint64_t num;
	int fd;
	uint64_t size;
	uint64_t used; /* bytes handed to the file */
	uint64_t live; /* messages in it that are not finished and synced */
	unsigned pins;
	unsigned dirty; /* batches that no sync has covered */
};

struct bodyfile {
	struct bodyfile *next;
	uint64_t num;
	unsigned pins;
	bool dead;
};

/* What only recovery needs to know of a message. */
struct found_state {
	unsigned char *states; /* enum rcpt_state */
	uint64_t next_try_ms;
	unsigned attempts;
	char *last_reply, *why;
	uint64_t replaced; /* batch that has what took its place; 0 none */
	bool held;
	bool no_body;            /* its file is missing or short */
	uint64_t to_seg, to_off; /* a copy whose state is not complete yet */
	uint32_t to_length;
};

/* One live message. */
struct ent {
	struct ent *next;
	uint64_t seq;
	uint64_t seg, off; /* its record */
	uint64_t body;     /* its body file, or 0 */
	uint64_t batch;
	uint32_t length; /* of the record's payload */
	uint32_t n_rcpts, left;
	bool ended, moving, own;
	bool counted;            /* in the totals, when it was put */
	bool replaced;           /* ended by messages of the same batch, */
	int64_t more_rcpts;      /* that have so many more recipients */
	uint64_t bits;           /* recipients that are final, n_rcpts <= 64 */
	unsigned char *more;     /* the same for more of them */
	struct found_state *rec; /* during recovery */
};

struct moved { /* where a copy lies */
	uint64_t seq, seg, off;
};

struct batch {
	struct batch *next;
	uint64_t num;
	struct seg *seg;
	uint64_t start, records;
	char *data; /* not written yet */
	size_t len, cap;
	uint64_t *seqs; /* messages in it */
	size_t n_seqs, cap_seqs;
	uint64_t *ended; /* messages that it ends */
	size_t n_ended, cap_ended;
	struct moved *moves;
	size_t n_moves, cap_moves;
};

/* The sync thread's desk. */
struct sync {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	pthread_t thread;
	bool running, stop;
	enum { SYNC_IDLE, SYNC_ASKED, SYNC_BUSY, SYNC_ENDED } state;
	int fds[4];
	int n_fds;
	int error; /* errno of a failed sync, or 0 */
	uint64_t us;
	enum { PREP_IDLE, PREP_ASKED, PREP_ENDED } prep;
	uint64_t prep_num;
	int prep_error;
};

struct spool {
	struct spool_opts opts;
	struct spool_events ev;
	const struct spool_io *io;
	int dir, lock_fd, event;
	uint64_t salt;
	bool salt_lost; /* to be found in the segments' heads */
	uint64_t next_seq, next_batch, next_file;

	struct seg **segs; /* oldest first; the last one is written */
	size_t n_segs, cap_segs;
	uint64_t *free; /* numbers of segments ready for use */
	size_t n_free, cap_free;
	struct bodyfile *bodies;
	bool recovering; /* no body is removed before all was read */

	struct ent **hash;
	size_t n_hash;       /* a power of two */
	uint64_t live_bytes; /* of the journal, in records of live messages */
	size_t move_at;      /* bucket that was looked at last */

	struct batch *cur;             /* collecting, or NULL */
	struct batch *waiting, **tail; /* written, no sync yet */
	struct batch *flight;          /* being synced */
	struct batch *lost;            /* to be reported as not ok */
	bool urgent;                   /* a message is waiting */
	bool together;                 /* a set is put: no write in between */

	unsigned failures;
	bool failed; /* nothing more is accepted */
	bool full;
	uint64_t space_checked_ms, prep_tried_ms;

	uint64_t *gone;
	size_t n_gone, cap_gone;
	struct sync sync;
	struct spool_stats stats;
	struct spool_totals totals;
	bool totals_new;   /* not in the journal yet */
	bool totals_found; /* by recovery, in a record; a head's are older */
};

/* spool.c */
struct spool *spool_open_io(const struct spool_opts *,
    const struct spool_events *, const struct spool_io *);
uint64_t spool_now_ms(void);
void spool_alarm(struct spool *, const char *kind, const char *fmt, ...)
    __attribute__((__format__(printf, 3, 4)));
/* grow - room for one more of size bytes; -1 with ENOMEM */
int grow(void *arrayp, size_t *cap, size_t n, size_t size)
    __attribute__((__warn_unused_result__));

/* put.c: spool_ended - a record that ends a message once it is synced */
void spool_ended(
    struct spool *, enum rec_type, uint64_t seq, const struct rec_small *);

/* entry.c */
struct ent *ent_find(struct spool *, uint64_t seq);
struct ent *ent_add(struct spool *, uint64_t seq, uint32_t n_rcpts);
void ent_del(struct spool *, struct ent *);
bool ent_final(const struct ent *, uint32_t i);
/* ent_mark - recipient i is final; true when that ended the message */
bool ent_mark(struct ent *, uint32_t i);

/* segment.c */
void seg_name(char out[NAME_ROOM], const char *kind, uint64_t num);
int file_new(struct spool *, const char *name); /* a descriptor, or -1 */
/* file_end - close it, and remove it if rc is -1; rc, and errno as it was */
int file_end(struct spool *, const char *name, int fd, int rc);
struct seg *seg_find(struct spool *, uint64_t num);
int seg_add(struct spool *, uint64_t num, int fd, uint64_t size);
int seg_next(struct spool *, bool message);
int seg_make_free(
    struct spool *, uint64_t num, void (*between)(struct spool *));
int seg_head_get(struct spool *, struct seg *);
/* seg_salt - what most of the segments' heads say the salt is; -1 EPROTO */
int seg_salt(struct spool *, const uint64_t *nums, size_t n);
void seg_recycle(struct spool *);
struct bodyfile *body_find(struct spool *, uint64_t num);
struct bodyfile *body_add(struct spool *, uint64_t num);
void body_reap(struct spool *, struct bodyfile *);
void gone_add(struct spool *, uint64_t num);

/* journal.c */
int journal_add(struct spool *, const struct rec_head *, const struct iovec *,
    int n_iov, bool message, uint64_t *off_r)
    __attribute__((__warn_unused_result__));
void journal_small(
    struct spool *, enum rec_type, uint64_t seq, const struct rec_small *);
/* journal_room - the next n bytes of records will lie in one segment */
int journal_room(struct spool *, uint64_t n, bool message)
    __attribute__((__warn_unused_result__));
void journal_write(struct spool *);
void batch_free(struct batch *);
/* journal_totals - a batch will be written, with the totals in it */
void journal_totals(struct spool *);
/* journal_read - bytes of a segment, written or still in the batch */
int journal_read(struct spool *, uint64_t seg, void *, size_t, uint64_t off)
    __attribute__((__warn_unused_result__));

/* move.c */
bool move_wanted(const struct spool *);
void move_step(struct spool *);
/* move_done - the batch with the copies is durable, or lost */
void move_done(struct spool *, const struct batch *, bool ok);

/* sync.c */
int sync_start(struct spool *);
void sync_stop(struct spool *);
void sync_ask(struct spool *);
void sync_prepare(struct spool *);
void sync_prepared(struct spool *);
void sync_signal(struct spool *);
void sync_wait(struct spool *);
/* sync_done - take the result of a sync, report its messages */
void sync_done(struct spool *);
/* sync_failed - all that is not durable is lost: void it, go on elsewhere */
void sync_failed(struct spool *, int error);

/* recover.c */
int recover(struct spool *);

#endif
