/* SPDX-License-Identifier: ISC */
#ifndef CORE_LOOKUP_DNS_CACHE_H
#define CORE_LOOKUP_DNS_CACHE_H

#include "core/lookup/dns.h"

/* Answers by (type, name), until their time is over or the oldest must go.
 * Temporary failures are never kept. */
struct dns_cache;

struct dns_cache *dns_cache_new(void);
void dns_cache_free(struct dns_cache **);
/* dns_cache_find - NULL when absent or too old */
const struct dns_answer *dns_cache_find(
    struct dns_cache *, const char *name, enum dns_type, uint64_t now_s);
/* dns_cache_add - takes the answer's records; *answer is what to read from then
 * on.  If there is no memory it stays the caller's and is returned. */
const struct dns_answer *dns_cache_add(struct dns_cache *, const char *name,
    enum dns_type, uint64_t now_s, struct dns_answer *);
size_t dns_cache_count(const struct dns_cache *);

#endif
