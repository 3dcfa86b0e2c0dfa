/* SPDX-License-Identifier: ISC */
#ifndef CORE_MILTER_CHAIN_H
#define CORE_MILTER_CHAIN_H

#include "core/conf/settings.h"
#include "core/smtp/envelope.h"
#include "core/smtp/message.h"

#include <event2/event.h>
#include <stdbool.h>

/*
 * The chain engine: the MTA side of the Milter protocol for one SMTP session.
 * The receiver sees only this header.
 *
 * One question at a time: each chain_*() that takes a done function answers it
 * exactly once, never from inside the call.  chain_free() during a question
 * cancels it without an answer.
 *
 * A milter that is not `early` is asked about CONNECT, HELO and MAIL together
 * with the first RCPT (design: two batches per message); until then those
 * questions answer "continue" for it, and its verdict shows at that RCPT.
 */
struct engine; /* one per process: milters' run-time state, statistics */
struct chain;  /* one per SMTP session */

/* Session facts, for macros and CONNECT.  Borrowed: the receiver keeps them
 * current; strings are never NULL ("" is absent). */
struct chain_facts {
	const char *hostname; /* j */
	const char *listener; /* {daemon_name} */
	const char *daemon_addr;
	unsigned daemon_port;
	const char *client_name; /* verified or "[addr]" */
	const char *client_ptr;
	const char *client_resolve; /* OK FORGED TEMP FAIL */
	const char *client_addr;    /* numeric, no "IPv6:" */
	unsigned client_port;
	unsigned client_connections; /* at the moment, from that address */
	const char *helo;
	const char *tls_version, *cipher, *cipher_bits, *cert_subject,
	    *cert_issuer, *verify;
	const char *auth_type, *auth_authen, *auth_author, *auth_ssf;
	bool early_talker; /* {milldam_early} */
};

enum chain_verdict {
	CHAIN_CONTINUE,
	CHAIN_REJECT,   /* reply is 5yz */
	CHAIN_TEMPFAIL, /* reply is 4yz */
	CHAIN_DISCARD,  /* answer 250 and drop */
	CHAIN_SHUTDOWN  /* reply is 421: say it and close */
};

struct chain_answer {
	enum chain_verdict verdict;
	const char *reply;  /* full reply without the last CRLF, lines parted by
	                       CRLF, checked; "" with CHAIN_CONTINUE */
	const char *milter; /* who decided, or "" */
	/* after chain_rcpt(): the authoriser said yes to this recipient (design
	 * 5.1).  CONTINUE without it must be refused with 451. */
	bool authorised;
	/* after chain_message(): hold it */
	bool quarantine;
	const char *reason;  /* of the quarantine */
	const char *hold_by; /* milter that asked */
};

typedef void chain_done_fn(void *arg, const struct chain_answer *);

struct engine *engine_new(struct event_base *, struct settings *);
void engine_free(struct engine **);
/* engine_reload - sessions that run keep what they have */
void engine_reload(struct engine *, struct settings *);
/* engine_mode - milldamctl milter NAME off|shadow|enforce|drain; -1 ENOENT */
int engine_mode(struct engine *, const char *milter, enum milter_mode);
/* engine_stats - JSON array of one object per milter: name, mode, sessions,
 * calls, verdicts, failures, fail-opens, latency */
int engine_stats(struct engine *, struct buf *out)
    __attribute__((__warn_unused_result__));
/* engine_metrics - samples for docs/metrics.md of the milters configured */
int engine_metrics(struct engine *, struct buf *out)
    __attribute__((__warn_unused_result__));
/* engine_on_fail_open - called for each fail-open (alarm) */
void engine_on_fail_open(struct engine *,
    void (*fn)(void *arg, const char *milter, const char *why), void *arg);

/* engine_on_recording - called with each recording (base/tape.h) when its
 * session ends; what fn wants to keep it takes with buf_take().  Without it
 * nothing is recorded. */
void engine_on_recording(struct engine *,
    void (*fn)(void *arg, const char *milter, const char *listener,
        struct buf *tape),
    void *arg);

/* chain_new - for the policy of the listener; NULL with ENOMEM */
struct chain *chain_new(struct engine *, struct settings *, size_t policy,
    const struct chain_facts *);
void chain_free(struct chain **); /* QUITs every milter */

void chain_connect(struct chain *, chain_done_fn *, void *arg);
void chain_helo(struct chain *, chain_done_fn *, void *arg);
/* chain_mail - begins a transaction; args: ESMTP parameters as given */
void chain_mail(struct chain *, const char *id, const char *sender,
    const char *const *args, size_t n_args, chain_done_fn *, void *arg);
/* chain_rcpt - route NULL: refused by the server itself, shown to milters that
 * asked for rejected recipients, reason in refused ("550 5.1.3 ...") */
void chain_rcpt(struct chain *, const char *rcpt, const char *const *args,
    size_t n_args, const struct route *, const char *refused, chain_done_fn *,
    void *arg);
void chain_data(struct chain *, chain_done_fn *, void *arg);
/*
 * chain_message - header, body and end of message through the chain in order,
 * each milter seeing what those before it changed.  On CONTINUE the edits have
 * been applied to msg and env (recipients added have mailer NONE: the caller
 * routes them; env may have no recipient left: then discard).  On any other
 * verdict both are as they were.
 */
void chain_message(struct chain *, struct message *, struct envelope *,
    chain_done_fn *, void *arg);
/* chain_abort - RSET, a failed message, a new MAIL; no answer */
void chain_abort(struct chain *);
/* chain_unknown - an unrecognised command line; a milter may change the reply
 * but not make it succeed */
void chain_unknown(
    struct chain *, const char *line, chain_done_fn *, void *arg);

/*
 * chain_record - the milters' part of the decision record: a JSON array with
 * one object per milter: name, endpoint, mode, stages (stage, reply, ms), edits
 * (before, after), failures.  Valid after the last answer of a message.
 */
int chain_record(const struct chain *, struct buf *out)
    __attribute__((__warn_unused_result__));
/* chain_summary - "access=accept virus=reject(3ms)" for the log line */
const char *chain_summary(const struct chain *);

#endif
