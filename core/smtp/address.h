/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_ADDRESS_H
#define CORE_SMTP_ADDRESS_H

#include <stdbool.h>

/*
 * Paths of MAIL and RCPT (RFC 5321 4.1.2, RFC 6531 3.3).  Pure; input is from
 * the network.
 */
enum {
	ADDRESS_LOCAL_MAX =
	    255, /* bytes.  RFC 5321 asks for 64 at least; longer
	            ones come from VERP and SRS senders */
	ADDRESS_DOMAIN_MAX = 255,
	ADDRESS_MAX = ADDRESS_LOCAL_MAX + 1 + ADDRESS_DOMAIN_MAX
};

enum address_flag {
	ADDRESS_NULL = 1,       /* "<>" is allowed (MAIL): gives "" */
	ADDRESS_POSTMASTER = 2, /* "<postmaster>" without domain (RCPT) */
};

/*
 * address_path - the path at the start of s, copied to out without brackets
 * and source route; *rest_r is what follows it.  Brackets may be missing, as
 * Sendmail allows.  UTF-8 is accepted; see address_is_8bit().
 *
 * -1 with EINVAL (syntax), EDESTADDRREQ (no domain), E2BIG (too long), EILSEQ
 * (8-bit bytes that are not UTF-8).
 */
int address_path(const char *s, unsigned flags, char out[ADDRESS_MAX + 1],
    const char **rest_r) __attribute__((__warn_unused_result__));

/* address_check - a whole address without brackets ("a@b"); errors as above */
int address_check(const char *s) __attribute__((__warn_unused_result__));

bool address_is_8bit(const char *s);

/* address_domain - what follows the last '@' outside quotes, or "" */
const char *address_domain(const char *s);

#endif
