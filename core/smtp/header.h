/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_HEADER_H
#define CORE_SMTP_HEADER_H

#include "core/smtp/message.h"

/*
 * Header lines and blocks.  Pure; input is from the network.
 */

/*
 * header_name_len - bytes before the colon if the line (n bytes, no CRLF)
 * begins a field, else 0.  A name is printable ASCII; blanks between it and the
 * colon are the obsolete form of RFC 5322 4.5 and count as part of it, so that
 * the field leaves as it came.
 */
size_t header_name_len(const char *line, size_t n);

/* header_is - whether that name is want, whatever the case and blanks */
bool header_is(const char *name, size_t n, const char *want);

/*
 * header_split - append the fields of a block to m, byte for byte.  block:
 * lines that end in CRLF, the first of them a field; written to while it runs
 * and restored.  -1 with EINVAL (not such a block), ENOMEM, E2BIG.
 */
int header_split(char *block, size_t n, struct message *m)
    __attribute__((__warn_unused_result__));

#endif
