/* SPDX-License-Identifier: ISC */
#ifndef CORE_RECEIVER_RECEIVER_H
#define CORE_RECEIVER_RECEIVER_H

#include "core/milter/chain.h"
#include "core/proc/child.h"
#include "core/smtp/command.h"
#include "core/smtp/data.h"
#include "core/smtp/envelope.h"
#include "core/smtp/message.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>

/*
 * Inside the receiver: the SMTP server.
 *
 *   receiver     the process: doors (listening sockets), peers, counters
 *   session      one SMTP connection
 *   transaction  MAIL to end of data; exists only between them
 *   store        the body while it arrives
 *
 * A session does one thing at a time.  While a question is open (wait is not
 * WAIT_NOTHING) no input is taken; whatever answers it calls session_go(),
 * which goes on with the input at hand, writes the replies in one piece, and
 * alone frees the session.
 */
enum {
	SCRATCH_SIZE = 64 << 10, /* bytes of one read */
	INLINE_MAX = 60 << 10,   /* content up to this travels in the frame */
	NAMES_KEPT = 256,
	OUT_HIGH = 16 << 10,      /* replies waiting: take no more input */
	RECORD_MAX = 192 << 10,   /* bytes of a decision record */
	RECEIVED_MAX = 256 << 10, /* of the header as received, kept */
	ENVELOPE_MAX = 400 << 10, /* of an envelope: all fit into one frame */
	MEMORY_MAX = 256 << 20,   /* of bodies in memory files, all sessions */
	CLIENT_BUCKETS = 1024
};

struct receiver;
struct session;

/* answer_fn - a peer's answer; frame NULL: it went away or was too slow.  A
 * descriptor in the frame belongs to the callee if it sets frame->fd to -1. */
typedef void answer_fn(struct session *, struct frame *);

enum session_wait {
	WAIT_NOTHING,
	WAIT_CHAIN, /* chain_*() */
	WAIT_PEER,  /* session_ask() */
	WAIT_BANNER /* greet pause */
};

enum session_mode {
	IN_COMMANDS,
	IN_LONG_LINE, /* skip to its end */
	IN_DATA,
	IN_CHUNK /* of BDAT */
};

/* The body as it arrives: in memory, beyond INLINE_MAX in a memory file,
 * beyond inline-size in a file of the queue.  In a file, room for the header is
 * left in front, so that content is one range of it in the end. */
struct store {
	struct buf mem;
	int fd;        /* -1, or the file */
	bool big;      /* it is the queue's */
	bool dropped;  /* nobody needs it */
	bool want_big; /* the body outgrew inline-size */
	bool failed;
	uint64_t front; /* bytes before the body; a multiple of the page */
	uint64_t len;   /* bytes of body */
	uint64_t inline_size;
	uint64_t *memory;    /* bytes in memory files, of all stores */
	uint64_t memory_max; /* beyond, a body goes to a queue's file earlier */
	uint64_t counted;    /* ours of them */
};

/* One group's message on its way to the queue.  Its body may be the
 * transaction's or another part's. */
struct part {
	enum chain_verdict verdict;
	char *reply;  /* what its recipients get, if not accepted */
	char *milter; /* who decided */
	uint16_t group;
	struct envelope env;
	struct message msg;
	struct buf header;
	bool queue;    /* it goes to the queue */
	bool ready;    /* routed, and its content in place */
	uint8_t where; /* as in MSG_SUBMIT */
	int fd;
};

/* What is handed over: a transaction, or a part of it. */
struct outgoing {
	struct envelope *env;
	struct message *msg;
	struct buf *header;
	int group; /* -1: there is one only */
	uint8_t where;
	int fd;
	uint64_t offset, length;
};

/* The body as far as it is there, for milters that are told meanwhile. */
struct stream {
	bool on;
	uint64_t next; /* bytes of body before they are told (again) */
	int fd;        /* of the store, that is mapped */
	void *map;
	size_t map_len;
};

struct release; /* release.c: of a held message, instead of a client */

struct transaction {
	struct envelope env;
	struct message msg;
	struct data data;
	struct store store;
	struct stream stream;
	size_t env_bytes; /* rough size of the envelope packed */
	bool mailed;      /* MAIL was accepted */
	bool collecting;  /* DATA or the first BDAT was accepted */
	bool bdat;
	bool discard; /* a milter said so: accept and drop */
	char *discard_by;
	bool counted;       /* in receiver.submitting */
	struct route route; /* of the recipient in question */
	char refusal[512];  /* that it gets from us */
	size_t next_rcpt;   /* to route, of those added by milters */
	uint64_t size;      /* of content, for the record */
	struct part *parts; /* if the message was split */
	size_t n_parts;
	bool prdr;             /* replies for each recipient are asked for */
	uint16_t *prdr_groups; /* of each recipient, from the end of data on */
	size_t n_prdr;
	struct buf header; /* as it leaves */
};

struct session {
	struct receiver *r;
	size_t slot; /* in receiver.slots */
	int sock;
	struct event rd, wr, timer;
	bool wr_on, rd_on;
	struct settings *settings;
	const struct listener *listener; /* of settings */
	struct chain *chain;
	struct chain_facts facts;
	char client_addr[INET6_ADDRSTRLEN];
	char local_addr[INET6_ADDRSTRLEN];
	uint8_t client_key[16];
	char *client_name, *client_ptr, *helo;

	enum session_wait wait;
	answer_fn *answered;
	struct chan *asked;
	uint64_t ask_ref;

	enum session_mode mode;
	bool ehlo;
	bool dead;   /* free it */
	bool quit;   /* close once the replies have left */
	bool linger; /* and wait for the client to close */
	bool lingering;
	bool got_mail; /* some MAIL came (for the log) */
	char *refused; /* a session that gets no mail through: reply */
	bool discard;  /* CONNECT or HELO was answered "discard" */
	unsigned errors, commands;
	uint64_t data_bytes; /* that came for this message, kept or not */
	uint64_t chunk_size, chunk_left;
	bool chunk_last;
	const char *chunk_bad; /* reply that a refused BDAT chunk gets */

	uint64_t deadline_ms; /* monotonic; 0 none */
	uint64_t asked_ms;    /* since when a command is waited for */
	uint64_t timer_ms;    /* when the timer goes off; 0 not set */
	uint64_t begin_ms, data_begin_ms;

	const char *p; /* input at hand */
	size_t n;
	struct buf in; /* it, while it must be kept */
	struct buf out;
	size_t out_off;
	struct command *cmd;     /* in hand */
	struct release *release; /* NULL: a client's session */
	struct transaction *tx;
};

struct door {
	struct door *next;
	struct receiver *r;
	char *title;
	struct event *ev;
	int sock;
};

struct client_count {
	struct client_count *next;
	uint8_t key[16];
	unsigned n;
};

/* What lookup said of an address.  name is never "". */
struct client_name {
	char addr[INET6_ADDRSTRLEN];
	char *name, *ptr;
	const char *resolve; /* static */
	uint64_t until_ms;
};

struct receiver {
	struct child *child;
	struct engine *engine;
	struct chan *queue, *lookup;
	bool accepting; /* the queue takes mail */
	char *refusal;  /* if not: reply at MAIL */
	bool paused, stopping;
	struct door *doors;
	struct event *tick; /* accept again, stop at last */
	uint64_t stop_at_ms;
	uint64_t shadow_at_ms; /* until then milters in shadow may go on */
	struct session **slots;
	size_t n_slots;
	size_t free_slot; /* look for a free one from here */
	uint32_t serial;
	uint64_t memory, memory_max; /* bytes of bodies in memory files */
	struct client_count *clients[CLIENT_BUCKETS];
	uint64_t client_seed;
	struct client_name names[NAMES_KEPT];
	struct kept_recording *recordings; /* that wait for their files */
	unsigned n_recordings;
	uint64_t recording_ref;
	unsigned n_sessions;
	uint64_t sessions_total, messages, rejected;
	unsigned submitting;
	uint64_t fail_opens_unsaid, fail_open_at_ms;
	char scratch[SCRATCH_SIZE];
};

uint64_t now_ms(void); /* monotonic */

/* receiver.c */
void receiver_session_gone(struct receiver *);

/* peers.c */
void peers_set(struct receiver *, enum proc_kind, int sock);
void peers_close(struct receiver *);

/* doors.c: listening sockets and room for sessions */
void doors_add(struct receiver *, const char *title, int sock);
void doors_sort(struct receiver *); /* open, or close those not configured */
void doors_close(struct receiver *);
/* doors_key - what is counted as one client: an IPv4 address, an IPv6 /64 */
void doors_key(const struct sockaddr_storage *, uint8_t key[16]);
unsigned doors_client_count(struct receiver *, const uint8_t key[16], int add);

/* names.c */
const struct client_name *names_find(struct receiver *, const char *addr);
void names_keep(struct receiver *, const char *addr, const char *name,
    const char *ptr, const char *resolve);
void names_clear(struct receiver *);

/* session.c */
int session_new(struct receiver *, int sock, const struct listener *,
    const struct sockaddr_storage *peer)
    __attribute__((__warn_unused_result__));
/* session_bare - without a client; the caller goes on with session_go() */
struct session *session_bare(
    struct receiver *, const struct listener *, struct release *);
void session_go(struct session *);
void session_stop(struct session *); /* the process is stopping */
int session_ask(struct session *, struct chan *, uint16_t type,
    const struct buf *payload, int fd, uint64_t limit_ms, answer_fn *)
    __attribute__((__warn_unused_result__));
/* session_more - one more frame of a set, before session_ask() sends its last
 */
int session_more(struct session *, struct chan *, uint16_t type,
    const struct buf *payload, int fd) __attribute__((__warn_unused_result__));
/* session_reply - one reply, without its last CRLF; counts errors */
void session_reply(struct session *, const char *fmt, ...)
    __attribute__((__format__(printf, 2, 3)));
/* session_bye - a last reply, then close */
void session_bye(struct session *, const char *fmt, ...)
    __attribute__((__format__(printf, 2, 3)));
/* session_end - close when the replies have left */
void session_end(struct session *);
void session_take(struct session *, size_t n); /* n bytes of input are done */

/* greet.c: from accept to banner */
void greet_begin(struct session *, const struct sockaddr_storage *peer);
void greet_pause_over(struct session *, bool early);

/* dispatch.c: one line of input */
void command_run(struct session *, const char *line, size_t len);

/* mail.c: MAIL and RCPT */
void mail_command(struct session *);
void rcpt_command(struct session *);
/* route_answer - decode MSG_ROUTE_R.  0, or -1: temporary failure, said in
 * reply.  An error: route is 0 with route_r->mailer MAILER_ERROR. */
int route_ask(struct session *, const char *addr, answer_fn *);
int route_answer(struct session *, struct frame *, struct route *route_r,
    char *reply, size_t room);

/* tables.c: chain_facts.lookup */
int tables_ask(void *session, const char *table, const char *key);

/* transaction.c */
struct transaction *tx_new(struct session *);
void tx_free(struct session *);
/* tx_fail - refuse the message in hand: reply, log, record, forget */
void tx_fail(struct session *, const char *outcome, const char *reply,
    const char *milter);
/* tx_reply - to the end of data; with PRDR the same to each recipient */
void tx_reply(struct session *, const char *reply);
/* tx_close - the client gave it up (RSET, QUIT, gone) */
void tx_close(struct session *);

/* content.c: DATA and BDAT */
void data_command(struct session *);
void bdat_command(struct session *);
bool content_step(struct session *);

/* stream.c: milters are told a large message while it arrives */
void stream_step(struct session *);
void stream_fini(struct stream *);

/* store.c */
void store_init(struct store *, struct receiver *, const struct limits *);
void store_fini(struct store *);
int store_add(void *store, const char *, size_t); /* data_sink_fn */
int store_move(struct store *, int big_fd)
    __attribute__((__warn_unused_result__));
/* store_take - give the body to the message */
int store_take(struct store *, struct message *)
    __attribute__((__warn_unused_result__));
/* store_drop - keep nothing but the length: nobody will look at the body */
void store_drop(struct store *);
/* store_write - write all; -1 with errno */
int store_write(int fd, const char *, size_t, uint64_t at)
    __attribute__((__warn_unused_result__));
int store_memory_file(void);

/* recordings.c: milters' recordings into files of the supervisor */
void recordings_keep(
    void *receiver, const char *milter, const char *listener, struct buf *tape);
void recordings_file(struct child *, uint64_t ref, int fd);

/* submit.c: end of data to the last reply */
void submit_message(struct session *);
/* submit_fields - the header into fields, with ours on top */
int submit_fields(struct session *) __attribute__((__warn_unused_result__));
/* submit_pack - a frame for the queue; -1 when it does not fit */
int submit_pack(struct session *, const struct outgoing *, struct buf *)
    __attribute__((__warn_unused_result__));
void submit_flags(struct transaction *, const struct outgoing *);
int submit_status(
    struct frame *); /* of MSG_SUBMITTED; 2 if it makes no sense */

/* split.c: a message of several groups */
void split_message(struct session *, const struct chain_answer *);
void split_free(struct transaction *);

/* release.c: a held message through the chain again */
void release_frame(struct receiver *, struct frame *);
/* release_said - what a client would be told */
void release_said(struct release *, const char *reply);
/* release_kept - it stays held, and why; ends the transaction */
void release_kept(struct session *, const char *milter, const char *why);
void release_free(struct session *);
/* release_over - its transaction is */
bool release_over(const struct session *);
const char *release_id(const struct release *); /* of the held message */
const char *release_without(const struct release *);
/* release_received - our Received field of then; 0 or -1 */
int release_received(struct session *);
/* release_origin - of the message in hand, which is to be held */
int release_origin(struct session *, struct buf *out)
    __attribute__((__warn_unused_result__));

/* record.c */
void record_send(struct session *, const char *outcome, const char *reply,
    const char *milter);
/* group: -1, or that of a part, whose envelope env is */
int record_make(struct session *, const struct envelope *env, int group,
    const char *outcome, const char *reply, const char *milter, struct buf *out)
    __attribute__((__warn_unused_result__));
void record_send_part(
    struct session *, const struct part *, const char *outcome);
/* record_refusal - the log line of a refusal; to may be NULL */
void record_refusal(
    struct session *, const char *milter, const char *reply, const char *to);
const char *record_relay(const struct session *, char *room, size_t n);
/* record_discard - the queue counts what a milter has us drop */
void record_discard(struct session *, const struct envelope *);
/* record_shadow - chain_shadow into a record of its own */
void record_shadow(void *receiver, const struct chain_shadow *);
int record_metrics(struct receiver *, struct buf *out)
    __attribute__((__warn_unused_result__));
int record_status(struct receiver *, struct buf *out)
    __attribute__((__warn_unused_result__));

#endif
