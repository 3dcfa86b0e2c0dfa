/* SPDX-License-Identifier: ISC */
#ifndef CORE_POLICY_PATTERN_H
#define CORE_POLICY_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Patterns of rules.  '*' stands for any bytes, none included, '?' for one.
 * A-Z and a-z are equal everywhere, in local parts and headers too; all other
 * bytes are compared as they are: a rule is there to find mail, so it must not
 * be escaped by a capital letter.  Pure; texts may come from the network and
 * cost at most length of pattern times length of text.
 */
enum { PATTERN_MAX = 512 }; /* bytes of a pattern */

bool pattern_has(const char *pattern, const char *text, size_t len);

/* pattern_has_domain - the same for names of hosts and domains; a pattern that
 * begins with a dot fits that domain and every one below.  A dot at the end of
 * the text does not count. */
bool pattern_has_domain(const char *pattern, const char *domain, size_t len);

/*
 * pattern_local - the local part of an address as a rule compares it, without
 * quotes and backslashes ("\"a\\b\"@c" is ab): a sender must not choose its
 * rule by the way it spells.  Its length in out (cut at room - 1; longer is no
 * address), and what follows the '@' in domain_r, "" without one.
 */
size_t pattern_local(
    const char *address, char *out, size_t room, const char **domain_r);

#endif
