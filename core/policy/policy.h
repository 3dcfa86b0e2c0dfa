/* SPDX-License-Identifier: ISC */
#ifndef CORE_POLICY_POLICY_H
#define CORE_POLICY_POLICY_H

#include "core/conf/settings.h"
#include "core/smtp/message.h"

#include <time.h>

/*
 * From a policy and what is known of a session, a recipient and a message:
 * which milters, in which order and mode, with which failure action and limits,
 * and which rule decided each step.  Pure: no state, no clock, no file; tables
 * are asked through a function.
 *
 * Two passes.  First the rules without a condition on content, in order, with
 * the facts known so far; then, when size, header or verdicts are known, the
 * rules with one.  In each pass all rules that fit apply, later ones over
 * earlier ones; with match = "first", or after a rule with last = yes, the pass
 * ends.  A rule with a condition on what is not known yet is open: it changes
 * nothing now, and is counted.  With match = "first" nothing behind an open
 * rule is looked at, since that rule may be the first one yet.
 *
 * A rule that is looked at with the recipient known is decided for good: call
 * with the recipient's facts at RCPT, and again with the content's facts added.
 */

/* policy_get_fn - the value of key in the table: 1 found and appended, 0
 * absent, -1 with errno: policy_decide() fails with it.  EAGAIN is for a caller
 * that has to ask somebody, and decides again when it knows. */
typedef int policy_get_fn(
    void *arg, const char *table, const char *key, struct buf *value);

enum policy_tls { TLS_NONE, TLS_ANY, TLS_VERIFIED, TLS_1_2, TLS_1_3 };

struct policy_verdict {
	size_t milter; /* index into settings.milters */
	enum policy_answer answer;
};

/* Borrowed, text from the network as it is.  Only what known has a bit for is
 * read; TABLE needs no bit of its own. */
struct policy_facts {
	uint32_t known; /* COND_BIT()s */
	const char *listener;
	const char *client_addr;    /* numeric, no "IPv6:" */
	const char *client_name;    /* verified or "[addr]" */
	const char *helo;           /* "" before HELO */
	const char *tls_version;    /* "TLSv1.3", "" without TLS */
	bool tls_verified;          /* the client's certificate was */
	const char *login;          /* "" without */
	const char *sender;         /* no brackets, "" is the null sender */
	const char *recipient;      /* no brackets */
	unsigned week_minute;       /* local time: policy_week_minute() */
	uint64_t size;              /* of the content */
	const struct field *fields; /* of the header as received */
	size_t n_fields;
	const struct policy_verdict *verdicts; /* so far, of this recipient's */
	size_t n_verdicts;
	policy_get_fn *get; /* NULL: every table look-up fails with ENOSYS */
	void *arg;
};

/* What a session knows at CONNECT, and at MAIL; at RCPT; at the end of data. */
#define POLICY_AT_CONNECT                                                      \
	(COND_BIT(COND_LISTENER) | COND_BIT(COND_CLIENT) |                     \
	    COND_BIT(COND_CLIENT_NAME) | COND_BIT(COND_TIME))
#define POLICY_AT_MAIL                                                         \
	(POLICY_AT_CONNECT | COND_BIT(COND_HELO) | COND_BIT(COND_TLS) |        \
	    COND_BIT(COND_LOGIN) | COND_BIT(COND_SENDER) |                     \
	    COND_BIT(COND_SENDER_DOMAIN))
#define POLICY_AT_RCPT                                                         \
	(POLICY_AT_MAIL | COND_BIT(COND_RECIPIENT) |                           \
	    COND_BIT(COND_RECIPIENT_DOMAIN))

/* Who decided something: a rule, and the line of its option.  rule NULL: the
 * policy's own chain, or the milter's own block (file NULL). */
struct policy_by {
	const struct rule *rule;
	const char *file;
	unsigned line;
};

struct policy_step {
	size_t milter;         /* index into settings.milters */
	bool skipped;          /* not asked; kept in its place for the record */
	enum milter_mode mode; /* the configured one; a run-time switch of
	                          milldamctl goes over it */
	unsigned sample;       /* percent of the messages that it is shown */
	enum fail_action on_failure;
	uint64_t connect_ms, command_ms, message_ms;
	struct policy_by in, skip, by_mode, by_failure, by_limits;
};

struct policy_chain {
	struct policy_step *steps; /* in order, the authoriser first */
	size_t n_steps;
	const struct rule **rules; /* that applied, in order */
	size_t n_rules;
	const struct rule **open; /* looked at, facts not all known yet */
	size_t n_open;
	enum mixed_action on_mixed;
};

/*
 * policy_decide - 0, or -1 with errno: ENOMEM, or what a table's look-up said.
 * The chain belongs to the caller (policy_chain_fini()) and points into the
 * settings.  After a failure it is empty: the recipient is to be tempfailed,
 * since no chain at all, or a shorter one, would let mail past a filter.
 */
int policy_decide(const struct settings *, size_t policy,
    const struct policy_facts *, struct policy_chain *out)
    __attribute__((__warn_unused_result__));
void policy_chain_fini(struct policy_chain *);

/* policy_chain_same - the same milters asked in the same order and way: their
 * recipients are one group */
bool policy_chain_same(
    const struct policy_chain *, const struct policy_chain *);

/* policy_undecided - which milters in reach (as policy->reach) may be left out,
 * put in or asked otherwise by a rule that the facts do not decide yet (design
 * 5.2: what such a milter says before RCPT must wait).  Errors as
 * policy_decide(). */
int policy_undecided(const struct settings *, size_t policy,
    const struct policy_facts *, bool *undecided_r)
    __attribute__((__warn_unused_result__));

/* policy_pending - which rules (as policy->rules) wait for the content; those
 * who have the same chain and the same of these stay together.  Errors as
 * policy_decide(). */
int policy_pending(const struct settings *, size_t policy,
    const struct policy_facts *, bool *pending_r)
    __attribute__((__warn_unused_result__));

/* policy_reaches - may a session of the policy be shown to the milter? */
bool policy_reaches(const struct policy *, size_t milter);

/* policy_asks - the conditions that some rule of the policy has; without
 * COND_RECIPIENT* all recipients have one chain */
uint32_t policy_asks(const struct policy *);

unsigned policy_week_minute(time_t);

/* names, for people */
const char *policy_condition_name(enum condition_kind);
const char *policy_mode_name(enum milter_mode);
const char *policy_failure_name(enum fail_action);

/* policy_show - the effective policy, in the language of milldam.conf(5), each
 * line with its place behind it; -1 ENOMEM or EMSGSIZE */
int policy_show(const struct settings *, size_t policy, struct buf *out)
    __attribute__((__warn_unused_result__));

#endif
