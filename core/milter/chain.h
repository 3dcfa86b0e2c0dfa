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
 *
 * Groups (design 5.2): the policy picks the chain for each recipient; those
 * with the same chain are one group.  A milter sees the recipients of the
 * groups that hold it, each once, and runs once for all of them as long as they
 * hold the same header and body; for each further version it runs again, in a
 * session of its own that is told CONNECT to RCPT from memory.
 */
enum {
	CHAIN_GROUPS_MAX = 32 /* of one message; a recipient beyond gets 452 */
};

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
	const char *proto;   /* r: SMTP or ESMTP */
	const char *version; /* Z */
	const char *tls_version, *cipher, *cipher_bits, *cert_subject,
	    *cert_issuer, *verify;
	const char *auth_type, *auth_authen, *auth_author, *auth_ssf;
	bool early_talker; /* {milldam_early} */
	/* Rules ask a table: 0, and chain_found() comes later, never from
	 * inside; -1: it cannot be asked.  NULL: there are no tables. */
	int (*lookup)(void *arg, const char *table, const char *key);
	void *lookup_arg;
	/* a held message is released: {milldam_replay}; the milters that held
	 * it ("odd, spam") are passed by.  Of an authoriser among them only
	 * its wish to hold the message is. */
	bool released;
	const char *without; /* may be NULL */
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
	const char *hold_by; /* milters that asked: "odd, spam" */
	/* after chain_rcpt(), on CONTINUE: the recipient's group, for
	 * rcpt.group of the envelope */
	uint16_t group;
	/* after chain_message(): the groups, if there is more than one; valid
	 * during the call.  verdict is then SHUTDOWN, or that of all groups if
	 * they agree (reply that of the first), TEMPFAIL if nobody's is
	 * CONTINUE and somebody's that, else CONTINUE: see each group. */
	struct chain_group *groups;
	size_t n_groups;
};

/* One group's result.  The callee may take message and envelope (and leave
 * empty ones).  Bodies are borrowed from the receiver's message or from another
 * group's: keep all of them until the last is done with. */
struct chain_group {
	enum chain_verdict verdict;
	const char *reply, *milter;
	bool quarantine;
	const char *reason, *hold_by;
	uint16_t group; /* as in rcpt.group */
	struct message msg;
	struct envelope env; /* its recipients; id "X", "X-2", "X-3" */
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
    void (*fn)(
        void *arg, const char *milter, const char *listener, struct buf *tape),
    void *arg);

/*
 * A milter in shadow is asked when the message is decided, in a session of its
 * own that nobody waits for (design: the reply never does).  What it said is
 * told with what became of the message, once for each group.
 */
struct chain_shadow {
	const char *id;
	unsigned group; /* its number, or 0: there was one only */
	uint64_t arrival_ms;
	const char *listener, *policy;
	const char *milter;
	const char *verdict;              /* a word: that it would have given */
	const char *outcome, *reply, *by; /* as in chain_outcome() */
	const struct buf *milters;        /* as chain_record() */
};
void engine_on_shadow(struct engine *,
    void (*fn)(void *arg, const struct chain_shadow *), void *arg);
/* engine_shadows - such sessions under way */
unsigned engine_shadows(const struct engine *);
/* engine_shadows_drop - the process ends: tell what they have said so far */
void engine_shadows_drop(struct engine *);

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
 * verdict, and with quarantine, both are as they were: a held message is kept
 * as it was received, so that milters can see it again when it is released.
 *
 * With several groups msg and env stay as they are, and each group's own are in
 * the answer; they are as received unless the group goes on and is not held.
 */
void chain_message(struct chain *, struct message *, struct envelope *,
    chain_done_fn *, void *arg);
/* chain_found - the answer to the chain's look-up: found 1, 0, or -1 if it
 * failed.  The question's answer does not come from inside. */
void chain_found(struct chain *, int found, const char *value, size_t len);
/*
 * chain_stream - the same before the body is whole: milters that see the
 * message as received are told the header and what of the body is there.  More
 * of it (body, body_len of the message) is told by chain_stream_more(), and
 * chain_message() follows with all of it.  False: not for this message. Neither
 * gives an answer.
 */
bool chain_stream(struct chain *, struct message *, struct envelope *);
void chain_stream_more(struct chain *);
/* chain_stream_over - refused or discarded: the content is not needed */
bool chain_stream_over(struct chain *);
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
/* chain_group_record - the same of one group (chain_group.group): only the
 * milters of its chain, in the sessions that served it */
int chain_group_record(const struct chain *, uint16_t group, struct buf *out)
    __attribute__((__warn_unused_result__));
/* chain_outcome - what became of the last message (group: -1, or
 * chain_group.group), for the records of milters in shadow; the first counts.
 * Until the next MAIL. */
void chain_outcome(struct chain *, int group, const char *outcome,
    const char *reply, const char *milter);
/* chain_mail_args - ESMTP parameters of the last MAIL; until the next one */
const char *const *chain_mail_args(const struct chain *, size_t *n_r);
const char *chain_group_summary(struct chain *, uint16_t group);
/* chain_on_mixed - what becomes of groups that are refused while others are
 * accepted */
enum mixed_action chain_on_mixed(const struct chain *);
/* chain_summary - "access=accept virus=reject(3ms)" for the log line */
const char *chain_summary(const struct chain *);

#endif
