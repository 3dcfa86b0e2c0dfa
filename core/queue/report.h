/* SPDX-License-Identifier: ISC */
#ifndef CORE_QUEUE_REPORT_H
#define CORE_QUEUE_REPORT_H

#include "core/smtp/envelope.h"

/* What a delivery status notification (RFC 3464) is made of.  A pure function
 * makes the text, so that every form of it can be tested. */
struct report_rcpt {
	const char *addr, *orcpt;
	const char *reply;  /* "550 5.1.1 ..." */
	const char *remote; /* "name [addr]" or "" */
	const char *status; /* "5.1.1" */
};

struct report {
	const char *hostname;
	const char *id;             /* of the report */
	const char *to;             /* where it goes */
	const struct envelope *env; /* of the message it is about */
	const struct report_rcpt *rcpts;
	size_t n_rcpts;
	uint64_t now_ms;
	uint64_t until_ms;   /* of a warning: when it is given up */
	bool delay;          /* a warning, else a failure */
	bool expired;        /* given up because it took too long */
	bool twice;          /* about a message that must not bounce */
	const char *content; /* of that message, perhaps only its header */
	size_t content_len;
	bool header_only;
};

/* report_build - the message, CRLF line ends; -1 with EMSGSIZE, ENOMEM */
int report_build(const struct report *, struct buf *out)
    __attribute__((__warn_unused_result__));

/* report_date - RFC 5322 date in UTC */
const char *report_date(char room[40], uint64_t ms);

/* report_flags - ENV_8BIT and ENV_DOTS as the text asks */
uint32_t report_flags(const struct buf *);

#endif
