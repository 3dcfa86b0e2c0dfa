/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_RECEIVED_H
#define CORE_SMTP_RECEIVED_H

#include "core/smtp/envelope.h"

#include <time.h>

/*
 * received_value - the value of our Received field, after the colon, folded:
 *
 *	 from HELO (name [addr])
 *		by HOST with ESMTP id ID
 *		for <rcpt>; Sat, 21 Nov 2026 07:15:16 +0000
 *
 * "for" is left out unless there is exactly one recipient, so that nobody
 * learns of another.  -1 with EMSGSIZE or ENOMEM.
 */
int received_value(struct buf *out, const struct envelope *,
    const char *hostname, bool forged, time_t now)
    __attribute__((__warn_unused_result__));

#endif
