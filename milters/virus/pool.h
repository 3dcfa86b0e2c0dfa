/* SPDX-License-Identifier: ISC */
#ifndef MILTERS_VIRUS_POOL_H
#define MILTERS_VIRUS_POOL_H

#include "milters/virus/ipc.h"

#include <stdbool.h>

/*
 * One database in use: a zygote that loaded it and its scanners.  Any thread
 * may scan; a pool is freed with its last reference.
 */
struct pool;

/*
 * pool_new - start the zygote and n scanners; returns when the database is
 * loaded.  NULL with the reason in text (IPC_TEXT_MAX bytes).  One reference is
 * yours.
 */
struct pool *pool_new(const struct zygote_config *, unsigned n, char *text);

struct pool *pool_ref(struct pool *);
void pool_unref(struct pool *); /* NULL is fine */

/*
 * pool_scan - have the message in fd (len bytes, sealed) scanned.  SCAN_FAILED
 * with the reason: no free scanner within the time-out, a scanner that ended
 * or did not answer (it is replaced), an error of libclamav.  The text has
 * printable ASCII only.
 */
void pool_scan(struct pool *, int fd, uint64_t len, struct scan_reply *);

/* pool_signatures - how many were loaded */
uint32_t pool_signatures(const struct pool *);

/* pool_is_newer - whether a was started after b; true for b NULL */
bool pool_is_newer(const struct pool *a, const struct pool *b);

#endif
