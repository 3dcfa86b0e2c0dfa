/* SPDX-License-Identifier: ISC */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "milter-sdk/base/buf.h"

#include <stdint.h>

/*
 * Writing JSON into a buffer.  Commas are the caller's business except in
 * json_key(), which puts one before the name unless the object has just begun.
 */

/* json_str - a quoted string; control bytes are escaped and bytes that are no
 * UTF-8 become U+FFFD, so that any text from the network is valid JSON.  -1
 * with errno (EMSGSIZE, ENOMEM). */
int json_str(struct buf *, const char *)
    __attribute__((__warn_unused_result__));
int json_strn(struct buf *, const char *, size_t)
    __attribute__((__warn_unused_result__));

/* json_key - `"name":`; json_kv_str, json_kv_num - a member with its value */
int json_key(struct buf *, const char *name)
    __attribute__((__warn_unused_result__));
int json_kv_str(struct buf *, const char *name, const char *value)
    __attribute__((__warn_unused_result__));
int json_kv_num(struct buf *, const char *name, uint64_t value)
    __attribute__((__warn_unused_result__));

#endif
