/* SPDX-License-Identifier: ISC */
#ifndef CORE_LOOKUP_DNS_H
#define CORE_LOOKUP_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Questions to the name servers, answered on the event loop, with a cache.
 *
 * Answers come from the network: names are checked to be host names, addresses
 * are 16 bytes (IPv4 as ::ffff:a.b.c.d), counts are limited.
 */
enum {
	DNS_NAME_MAX = 255,
	DNS_RRS_MAX = 64,       /* of one answer; the rest is left out */
	DNS_PENDING_MAX = 2000, /* questions under way */
	DNS_CACHE_MAX = 10000,  /* answers kept */
	DNS_TTL_MAX = 3600,     /* seconds that an answer is kept at most */
	DNS_TTL_NEGATIVE = 60   /* seconds for "there is none" */
};

enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_MX = 15, DNS_AAAA = 28 };

enum dns_status {
	DNS_OK,       /* there are records, though perhaps none of use */
	DNS_NODATA,   /* the name exists, no record of this type */
	DNS_NXDOMAIN, /* no such name */
	DNS_TEMP      /* no answer, SERVFAIL, too much to do */
};

struct dns_rr {
	uint16_t pref;    /* MX */
	uint8_t addr[16]; /* A, AAAA */
	char *name;       /* MX ("" is the root: null MX), PTR; else NULL */
};

struct dns_answer {
	enum dns_status status;
	uint32_t ttl_s;
	struct dns_rr *rrs;
	size_t n;
};

struct dns;
struct event_base;

/* answer - valid until the function returns or asks again */
typedef void dns_fn(void *arg, const struct dns_answer *answer);

/* dns_new - reads the system's resolver settings, so before the sandbox */
struct dns *dns_new(void);
void dns_free(struct dns **);
/* dns_start - use this loop from now on */
int dns_start(struct dns *, struct event_base *);
/* dns_servers - "127.0.0.1:5353"...; n 0: those of the system.  Questions under
 * way may be answered DNS_TEMP.  -1: a name server's address is wrong. */
int dns_servers(struct dns *, char *const *servers, size_t n);
/* dns_ask - fn is called exactly once, perhaps before this returns */
void dns_ask(
    struct dns *, const char *name, enum dns_type, dns_fn *, void *arg);
/* dns_ask_ptr - the names of an address */
void dns_ask_ptr(struct dns *, const uint8_t addr[16], dns_fn *, void *arg);

struct dns_stats {
	uint64_t asked, cached, failed;
	size_t pending, entries;
};
void dns_stats(const struct dns *, struct dns_stats *);

/* dns_parse - an answer's records of that type; -1 with EPROTO or ENOMEM */
int dns_parse(const unsigned char *msg, size_t n, enum dns_type,
    struct dns_answer *answer_r) __attribute__((__warn_unused_result__));
void dns_answer_fini(struct dns_answer *);
/* dns_is_host - letters, digits, - _ . and no empty label */
bool dns_is_host(const char *);
bool dns_is_v4(const uint8_t addr[16]);
/* dns_addr_text - numeric, in room of 46 bytes; returns room */
const char *dns_addr_text(const uint8_t addr[16], char *room);

#endif
