/* SPDX-License-Identifier: ISC */
#ifndef ACCESS_ACCESS_H
#define ACCESS_ACCESS_H

#include "milter-sdk/map/map.h"

#include <milldam/milldam.h>
#include <pthread.h>

/* milldam-access(8): who may send to whom.  The parts:
 *	access.c    the decision at each recipient
 *	address.c   parts of an address, domains, routed addresses
 *	keys.c      Sendmail's order of look-up in the access table
 *	table.c     tables that are read again when they change
 *	value.c     what a right-hand side of the access table means
 */
enum { ADDRESS_MAX = 1024 }; /* bytes; longer ones are refused */

/* A table on disk.  Look-ups from many threads; see table.c. */
struct table {
	struct map *map; /* NULL: not configured */
	char *spec;
	pthread_rwlock_t lock;
	int64_t checked_ms; /* when it was last compared with the file */
	bool broken;        /* changed, and the new one cannot be read */
};

/* table_open - -1 with one line in error.  table_fini() accepts zeroes. */
int table_open(struct table *, const char *spec, struct buf *error) MILL_CHECK;
void table_fini(struct table *);
/* table_get - append the value.  1, 0, or -1: it cannot be read now */
int table_get(struct table *, const char *key, struct buf *value) MILL_CHECK;

/* Domains: "example.org" is that name; ".example.org" also all below it. */
struct domains {
	char **names; /* lower case, sorted, no final dot */
	size_t n, cap;
};

int domains_add(
    struct domains *, const char *) MILL_CHECK; /* -1 EINVAL, ENOMEM */
int domains_add_file(
    struct domains *, const char *path) MILL_CHECK; /* -1 errno */
void domains_sort(struct domains *);
bool domains_has(const struct domains *, const char *domain);
void domains_fini(struct domains *);

/* Lower-case parts of an address. */
struct address {
	char all[ADDRESS_MAX];    /* user@domain */
	char user[ADDRESS_MAX];   /* quotes removed */
	char domain[ADDRESS_MAX]; /* without a final dot; "" unqualified */
	bool routed; /* names a further hop: %, !, @ in the local part, or
	                a source route */
};

int address_parse(const char *, struct address *address_r) MILL_CHECK; /* -1:
        too long, or no local part */

enum access {        /* the answer of the access table */
	ACCESS_NONE, /* no entry, or SKIP */
	ACCESS_OK,
	ACCESS_RELAY,
	ACCESS_REJECT,
	ACCESS_DISCARD,
	ACCESS_TEMPFAIL,
	ACCESS_ERROR,      /* with code, xcode and text */
	ACCESS_QUARANTINE, /* with text */
	ACCESS_FRIEND,
	ACCESS_HATER
};

struct access_value {
	enum access what;
	bool skip; /* SKIP: as if absent, and look no further */
	int code;
	char xcode[12]; /* "" none */
	char text[512];
};

/* value_parse - -1: no known word and no reply */
int value_parse(const char *, struct access_value *value_r) MILL_CHECK;

/*
 * The most specific entry: 0 with what is ACCESS_NONE if there is none, -1 when
 * the table cannot be read or its value is not understood (logged).
 * tag is "Connect:", "From:" ...; each key is looked for with and without it,
 * except with only_tagged.
 */
int keys_client(struct table *, const char *name, const char *addr,
    struct access_value *value_r) MILL_CHECK;
int keys_address(struct table *, const char *tag, bool only_tagged,
    const struct address *, struct access_value *value_r) MILL_CHECK;

struct settings {
	const struct mill_nets *relay_networks;
	const char *const *relay_domains, *const *local_domains;
	const char *relay_domains_file, *local_domains_file;
	const char *access_spec, *recipients_spec;
	bool relay_authenticated, unqualified_senders, hater;
	struct domains own; /* relay and local ones */
	struct table access, recipients;
};

extern const struct mill_filter access_filter;

#endif
