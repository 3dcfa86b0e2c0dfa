/* SPDX-License-Identifier: ISC */
#ifndef CORE_RELAY_SESSION_H
#define CORE_RELAY_SESSION_H

#include "core/relay/content.h"
#include "core/relay/job.h"
#include "core/relay/reply.h"

/*
 * One SMTP connection to a next hop.
 *
 *	CONNECT -> BANNER -> EHLO (-> HELO) -> ENVELOPE -> DATA -> FINAL
 *	                                 IDLE <-----------------------'
 *
 * session.c moves bytes and minds the clock; transaction.c knows SMTP.  A
 * session that ends (session_close()) is freed at once: callers return.
 */
enum session_state {
	S_CONNECT,
	S_BANNER,
	S_EHLO,
	S_HELO,
	S_ENVELOPE, /* RSET, MAIL, RCPT and DATA; replies are counted */
	S_DATA,     /* content is leaving */
	S_FINAL,    /* the final dot has left, or is leaving */
	S_IDLE,
	S_QUIT
};

enum session_ext {
	EXT_PIPELINING = 1,
	EXT_8BITMIME = 2,
	EXT_SMTPUTF8 = 4,
	EXT_SIZE = 8,
	EXT_DSN = 16
};

/* steps of an envelope: RSET, MAIL, RCPT 0.., DATA */
enum { STEP_RSET, STEP_MAIL, STEP_RCPT };

struct session {
	LIST_ENTRY(session) all;
	TAILQ_ENTRY(session) idle, by_key;
	struct relay *relay;
	struct job *job; /* NULL when idle */
	char *host;      /* the next hop's name as routed: the key, with port */
	uint16_t port;
	char *remote; /* "name [addr]" */
	int fd;
	struct event *rd, *wr;
	enum session_state state;
	uint64_t deadline_ms;
	unsigned messages; /* begun over this connection */
	unsigned ext;
	uint64_t size_limit; /* SIZE of the next hop; 0: none */
	bool need_rset;      /* the last transaction did not end by itself */
	bool mail_refused;
	bool answered;     /* some reply came for this job */
	size_t step, sent; /* next reply, next command */
	struct content content;
	struct reply reply;
	struct buf out;
	size_t out_off;
	size_t in_len;
	char in[REPLY_LINE_MAX * 2 + 2];
};

/* session_open - connect to the address for the job.  -1 with errno: nothing
 * was begun. */
int session_open(struct relay *, struct job *, const struct hop_addr *)
    __attribute__((__warn_unused_result__));
/* session_find_idle - a connection to that hop with nothing to do, or NULL */
struct session *session_find_idle(struct relay *, const char *host, uint16_t);
/* session_begin - start the job over an open connection */
void session_begin(struct session *, struct job *);
/* session_drop - close, say QUIT if it is idle; its job is left alone */
void session_drop(struct session *);
/* session_cut - the same without a word */
void session_cut(struct session *);
/* session_tick - look at the time limits of all */
void session_tick(struct relay *, uint64_t now_ms);
/* session_begun - whether the next hop may have seen the job */
bool session_begun(const struct session *);

/* between session.c and transaction.c: 0, or -1 when the session is gone or
 * idle and what was read for it is used up */
void session_limit(struct session *, uint64_t ms);
int session_write(struct session *) __attribute__((__warn_unused_result__));
void session_idle(struct session *);
int transaction_reply(struct session *) __attribute__((__warn_unused_result__));
/* transaction_lost - the connection broke or took too long; settles the job */
void transaction_lost(struct session *, const char *why);
/* transaction_fill - more content into out */
int transaction_fill(struct session *) __attribute__((__warn_unused_result__));

#endif
