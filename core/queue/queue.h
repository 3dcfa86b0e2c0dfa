/* SPDX-License-Identifier: ISC */
#ifndef CORE_QUEUE_QUEUE_H
#define CORE_QUEUE_QUEUE_H

#include "core/proc/child.h"
#include "core/queue/heap.h"
#include "core/queue/records.h"
#include "core/spool/spool.h"

#include <sys/queue.h>

/*
 * Inside the queue process.
 *
 * An entry is a message; a site is a next hop (host and port) with its own
 * queue of jobs; a job says that an entry has recipients waiting for a site; a
 * hand-out is some recipients of one message in a relay's hands.  A recipient
 * is in exactly one state, so that it is never handed out twice at a time.
 *
 * What was only decided in memory is lost by a crash and decided again; what
 * must not be lost is in the spool before anybody is told.
 */
enum {
	RELAYS_MAX = 64,
	RECEIVERS_MAX = 256,
	HANDOUTS_MAX = 200, /* in one relay's hands; refs keep 8 bits */
	HANDOUT_RCPTS_MAX = 100,
	RELAY_FILES_MAX = 256, /* descriptors that one relay keeps for us */
	DEATHS_MAX = 3,        /* of relays that had the message in hand */
	HOT_MAX = 8192,        /* envelopes in memory, weighed */
	STREAMS_MAX = 16,      /* long answers at a time */
	SITE_START = 5         /* first concurrency of a site */
};

enum rstate {
	R_WAIT,    /* to be handed out as soon as its site may */
	R_LATER,   /* not before the entry's next_ms */
	R_ROUTING, /* lookup was asked */
	R_FLIGHT,  /* in a relay's hands */
	R_DONE,
	R_FAILED
};

struct queue;
struct entry;
struct site;
struct relay;

struct job {
	TAILQ_ENTRY(job) in_site;
	struct job *sibling; /* of the same entry */
	struct entry *e;
	struct site *site; /* NULL: the entry's own job is not in use */
};
TAILQ_HEAD(job_list, job);

enum entry_flag {
	E_UNCOMMITTED = 1, /* not on stable storage yet */
	E_HELD = 2,
	E_DEFERRED = 4,   /* waits for a time or a dead site; counted */
	E_WARNED = 8,     /* the delay warning was sent */
	E_GONE = 16,      /* deleted; freed when its hand-outs are back */
	E_PINNED = 32,    /* lookup was asked: keep the envelope */
	E_NULL = 64,      /* null sender: never bounces */
	E_FRONT = 128,    /* its next job goes before the others */
	E_CAUGHT = 256,   /* held because milters said so, or failed */
	E_RELEASING = 512 /* through the chain again: release.c */
};

/* An envelope in memory: of entries lately in use. */
struct hot {
	TAILQ_ENTRY(hot) link;
	struct entry *e;
	struct envelope env;
	struct spool_place place;
	unsigned weight;
	uint64_t pass; /* that used it last: not released in the same one */
};
TAILQ_HEAD(hot_list, hot);

struct entry {
	struct job job; /* most messages need one */
	struct job *jobs;
	TAILQ_ENTRY(entry) all;
	struct entry *next_id;
	struct timer timer;
	uint64_t seq;
	uint64_t arrival_ms;
	uint64_t since_ms; /* the expiry counts from here: arrival or release */
	uint64_t next_ms;  /* Unix time of the next try, 0: none set */
	struct hot *hot;
	char *reason; /* last reply or why held; may be NULL */
	union {
		uint8_t few[8];
		uint8_t *many; /* n_rcpts > 8 */
	} states;
	uint32_t size; /* bytes */
	uint32_t n_rcpts, left;
	uint16_t flights, attempts;
	uint16_t flags; /* enum entry_flag */
	uint8_t deaths;
	bool own;     /* a bounce or notice, not from a client */
	bool counted; /* in queue.waiting: durable and not over */
	char id[ENV_ID_MAX];
};
TAILQ_HEAD(entry_list, entry);

enum site_place { SITE_NOWHERE, SITE_READY, SITE_ASIDE };

struct site {
	struct site *next; /* in its hash chain */
	TAILQ_ENTRY(site) link;
	enum site_place where;
	struct relay *relay;
	struct job_list jobs;
	size_t n_jobs;
	struct timer timer; /* dead: the next probe; idle: to be forgotten */
	unsigned flights, limit;
	unsigned fails; /* in a row; 0 is alive */
	unsigned gen;   /* changes when it dies or revives */
	bool probe;     /* dead, and one hand-out is allowed */
	char *reply;    /* why dead */
	uint32_t hash;
	uint16_t port;
	char host[];
};
TAILQ_HEAD(site_list, site);

struct handout {
	uint64_t ref;
	struct entry *e;
	struct site *site;
	struct relay *relay;
	uint64_t file; /* pinned */
	unsigned gen;
	bool suspect;
	uint32_t n;
	uint32_t rcpts[]; /* indices into the message's recipients */
};

struct relay_file {
	uint64_t file;
	unsigned flights;
};

struct relay {
	struct queue *q;
	unsigned index;
	struct chan *ch;
	struct site_list ready, aside;
	struct handout *slots[HANDOUTS_MAX];
	unsigned flights, suspects;
	struct relay_file files[RELAY_FILES_MAX]; /* oldest first */
	unsigned n_files;
};

struct submission; /* submit.c */
struct release;    /* release.c */

struct receiver {
	struct queue *q;
	unsigned index;
	struct chan *ch;
	uint64_t gen; /* of the channel: an answer to an older one is void */
	struct submission *more; /* a set that is coming in, first one first */
	size_t n_more;
	uint64_t more_ref;
};

/* A message that was put and is not known to be durable. */
struct pending {
	TAILQ_ENTRY(pending) link;
	struct pending *answers; /* the one of its set that has the answer: the
	                            last, which is itself */
	uint64_t seq;
	struct entry *e;
	unsigned receiver;
	uint64_t receiver_gen, ref;
	char *record;
	struct buf own; /* the queue's own: content, to put it once more */
	uint32_t flags;
	bool is_own, again;
	struct release *release; /* it is part of what came of one, or NULL */
};
TAILQ_HEAD(pending_list, pending);

struct ask { /* of lookup */
	struct ask *next;
	uint64_t ref;
	struct entry *e;
	uint32_t rcpt;
};

struct limiter { /* so many at once, then one each interval */
	uint64_t last_ms;
	unsigned tokens, suppressed;
};

struct counters { /* each counted where it happens */
	uint64_t accepted, delivered, failed, bounced, discarded, deferrals,
	    deleted;
	/* recipients that were delivered after their message was deleted */
	uint64_t late;
	/* as spool_totals.messages and .accepted, but only what is durable */
	uint64_t messages[2], recipients[2];
};

struct queue {
	struct child *c;
	struct spool *spool;
	struct event *ev, *sync_ev;
	struct entry_list all;
	struct entry **ids;
	size_t n_ids;           /* buckets, a power of two */
	uint64_t waiting[2][2]; /* recipients, by entry.own and E_HELD */
	size_t n_entries, n_held, n_deferred, n_uncommitted, n_flights;
	struct hot_list hots;
	size_t hot_weight;
	struct heap entry_heap, site_heap;
	struct site **sites;
	size_t n_site_buckets, n_sites;
	struct relay relays[RELAYS_MAX];
	unsigned n_relays;
	struct receiver receivers[RECEIVERS_MAX];
	uint64_t receiver_gen;
	struct chan *lookup;
	struct ask *asks[256];
	uint64_t next_ref;
	struct pending_list pending;
	struct counters counters;
	struct limiter notices, doubles;
	struct records records;
	TAILQ_HEAD(, release) releases;
	unsigned next_receiver;
	TAILQ_HEAD(, stream) streams;
	unsigned n_streams;
	bool accepting, accepting_known;
	bool paused, stopping;
	bool kicked; /* a pass comes as soon as the loop allows */
	uint64_t stop_at_ms, tick_ms, records_ms, pass;
};

/* One recipient's share in a bounce or a warning. */
struct fate {
	uint32_t rcpt;
	const char *reply;  /* "550 5.1.1 ..." */
	const char *remote; /* "name [addr]" or "" */
	const char *status; /* "4.4.7", or NULL: from the reply */
};

/* queue.c */
uint64_t queue_now_ms(void);     /* Unix time */
void queue_kick(struct queue *); /* have a pass soon */
void queue_alarm(struct queue *, const char *kind, const char *text);
uint32_t queue_random(void);
__attribute__((__noreturn__)) void queue_oom(void);

/* entry.c */
struct entry *entry_new(
    struct queue *, const struct envelope *, uint64_t seq, uint64_t size);
/* entry_free - forget it; it has no hand-outs */
void entry_free(struct queue *, struct entry *);
/* entry_count - it is durable: its recipients wait for their outcome */
void entry_count(struct queue *, struct entry *);
struct entry *entry_find(struct queue *, const char *id);
enum rstate entry_state(const struct entry *, uint32_t rcpt);
void entry_set_state(
    struct queue *, struct entry *, uint32_t rcpt, enum rstate);
void entry_defer_flag(struct queue *, struct entry *, bool);
void entry_set_held(struct queue *, struct entry *, bool);
void entry_set_reason(struct entry *, const char *);
/* entry_env - its envelope and place, read if necessary; NULL with errno.
 * Valid until the end of this pass of the loop. */
struct hot *entry_env(struct queue *, struct entry *);
void entry_keep_env(struct queue *, struct entry *, struct envelope *,
    const struct spool_place *); /* takes the envelope */
void entry_drop_env(struct queue *, struct entry *);

/* site.c */
struct site *site_get(struct queue *, const char *host, uint16_t port);
bool site_is(const struct site *, const struct route *);
void site_add_job(struct queue *, struct site *, struct entry *);
void site_del_job(struct queue *, struct job *);
void entry_del_jobs(struct queue *, struct entry *);
/* site_update - to or from its relay's list, as its state asks */
void site_update(struct queue *, struct site *);
void site_reached(struct queue *, struct site *);
void site_failed(struct queue *, struct site *, unsigned gen, const char *);
void site_wake(struct queue *, struct site *); /* try now */
void site_run_due(struct queue *, uint64_t now);
void sites_rehome(struct queue *); /* the number of relays changed */
void sites_wake_all(struct queue *);
size_t sites_wake_host(struct queue *, const char *host);

/* schedule.c */
uint64_t backoff_ms(
    unsigned attempts, uint64_t min_ms, uint64_t max_ms, uint32_t random);
void entry_schedule(struct queue *, struct entry *); /* set its timer */
/* entry_expire_at - Unix ms when it is returned */
uint64_t entry_expire_at(const struct queue *, const struct entry *);
void entry_expand(struct queue *, struct entry *); /* recipients to sites */
/* entry_route_again - routes that were only in memory are gone */
void entry_route_again(struct queue *, struct entry *);
void entry_run_due(struct queue *, uint64_t now);
/* entry_defer - LATER recipients exist: choose the next try, record it */
void entry_defer(struct queue *, struct entry *, const char *reply);
/* entry_settle - after any change: over, or wait for the next event.  The
 * entry may be freed. */
void entry_settle(struct queue *, struct entry *);
void lookup_set(struct queue *, int sock);
void asks_forget(struct queue *, struct entry *);

/* handout.c */
void relay_set(struct queue *, unsigned index, int sock);
void relay_gone(struct relay *);
void relay_pump(struct relay *);
void relay_drop_file(struct relay *, uint64_t file);
void handout_end(struct handout *); /* take it back; frees it */

/* outcome.c */
void outcome_frame(struct relay *, struct frame *);
/* outcome_fail - recipients are refused for good: bounce, then record */
void outcome_fail(struct queue *, struct entry *, const struct envelope *,
    const struct fate *, size_t n, const char *mailer, uint64_t xdelay_ms);
void outcome_log(const struct entry *, const char *to, const char *mailer,
    const char *remote, const char *reply, enum outcome, uint64_t xdelay_ms);
/* reply_status - the enhanced code of a reply, or of its class, into out */
const char *reply_status(const char *reply, char out[16]);

/* submit.c */
void submit_frame(struct receiver *, struct frame *);
/* submit_forget - a set of messages that will not be ended */
void submit_forget(struct receiver *);
void submit_big_file(struct receiver *, struct frame *);
void submit_accepting(struct queue *, struct receiver *only);
void submit_synced(void *arg, uint64_t seq, bool ok);
/* submit_own - a message of the queue's; takes content.  -1 with errno */
int submit_own(struct queue *, struct envelope *, struct buf *content)
    __attribute__((__warn_unused_result__));

/* bounce.c */
int bounce_send(struct queue *, struct entry *, const struct envelope *,
    const struct fate *, size_t n, bool delay)
    __attribute__((__warn_unused_result__));

/* notice.c */
bool limiter_take(
    struct limiter *, uint64_t now, unsigned burst, uint64_t interval_ms);
void notice_send(
    struct queue *, const char *subject, const char *text, size_t len);
void notice_frame(struct queue *, struct frame *);

/* command.c */
void queue_answer(struct queue *, uint64_t ref, const char *line);
void command_skip(struct queue *, struct entry *); /* it is about to go */
bool command_step(struct queue *);                 /* true: more to do */
void entry_hold(struct queue *, struct entry *, const char *why);
void command_reply(struct queue *, uint64_t ref, struct buf *); /* the last */
void command_error(
    struct queue *, uint64_t ref, const char *what, const char *arg);
void command_list_caught(struct queue *, uint64_t ref);
void command_show(struct queue *, uint64_t ref, const char *id);
void command_delete(struct queue *, uint64_t ref, struct entry *);
/* command_was_released - an error that tells so of an id that is not held */
void command_was_released(struct queue *, uint64_t ref, const char *id);

/* caught.c */
bool caught_command(struct queue *, uint64_t ref, char **words, int n);
/* is_caught - held because a milter said so, or failed */
bool is_caught(const struct entry *);

/* release.c */
/* release_done_fn - ids: what it became, as in a JSON array; NULL: it stays
 * held, and why */
typedef void release_done_fn(
    struct queue *, void *arg, uint64_t cmd, const char *ids, const char *why);
/* release_start - e is caught; more: milters to pass by, besides those that
 * hold it.  NULL, or why not. */
const char *release_start(struct queue *, struct entry *, const char *more,
    release_done_fn *, void *arg, uint64_t cmd);
/* release_find - that this receiver has in hand and has not submitted yet */
struct release *release_find(struct receiver *, const char *id);
/* release_put - its result is in a batch; the number of the held message */
uint64_t release_put(struct release *);
void release_unput(struct release *); /* the sync failed */
void release_durable(
    struct queue *, struct release *, const struct entry *, bool last);
void release_answered(struct receiver *, struct frame *);
void release_receiver_gone(struct receiver *);
void release_tick(struct queue *, uint64_t now);

/* list.c */
int list_entry(struct queue *, struct entry *, bool full, struct buf *out)
    __attribute__((__warn_unused_result__));
int list_status(struct queue *, struct buf *out)
    __attribute__((__warn_unused_result__));
/* metrics.c: samples for docs/metrics.md */
int queue_metrics(struct queue *, struct buf *out)
    __attribute__((__warn_unused_result__));
int list_raw_json(struct buf *out, const char *text, size_t len)
    __attribute__((__warn_unused_result__));

#endif
