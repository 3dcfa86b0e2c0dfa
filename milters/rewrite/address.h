/* SPDX-License-Identifier: ISC */
#ifndef MILTERS_REWRITE_ADDRESS_H
#define MILTERS_REWRITE_ADDRESS_H

#include <stdbool.h>

/*
 * Masquerading: user@host.example.org becomes user@example.org.
 *
 * domains  "host.example.org" is that domain, ".example.org" is all below it
 * exposed  local parts ("root") or whole addresses ("root@host.example.org")
 *          that stay as they are
 * Lists end with NULL and are never NULL; all compare without case.  The
 * strings stay the caller's.
 */
struct masquerade {
	const char *as; /* NULL: off */
	const char *const *domains;
	const char *const *exposed;
};

/* A field that needs more room after the change than this is EMSGSIZE. */
enum { ADDRESS_FIELD_MAX = 1 << 20 };

/*
 * address_masquerade - the new form of one address of the envelope, without
 * angle brackets.  1 and *new_r (yours) if it changes, 0 if not, -1 with errno
 * ENOMEM.
 */
int address_masquerade(const struct masquerade *, const char *addr,
    char **new_r) __attribute__((__warn_unused_result__));

/*
 * address_masquerade_field - the same for each address in the value of a From,
 * To, ... field (RFC 5322 address-list, folded or not).  All other bytes stay:
 * comments, display names, quoted strings, blanks.  A value with an unclosed
 * quote, comment, literal or angle bracket does not change at all: what a
 * reader makes of it is anyone's guess.  -1: ENOMEM, EMSGSIZE.
 */
int address_masquerade_field(const struct masquerade *, const char *value,
    char **new_r) __attribute__((__warn_unused_result__));

/* address_is_domain - whether s can stand after the @: letters, digits, '-'
 * and '.', no empty label; bytes of UTF-8 are let through */
bool address_is_domain(const char *s);

#endif
