/* SPDX-License-Identifier: ISC */
#ifndef MAP_MAP_H
#define MAP_MAP_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>

/*
 * Read-only tables from a key to a value.
 *
 *	hash:/path   Berkeley DB hash, as made by makemap(8)
 *	btree:/path  Berkeley DB btree
 *	text:/path   lines "key value", blanks or tabs between; # comments
 *
 * For the first two, /path.db is tried before /path, so that the name may be
 * given as to Sendmail.  Keys are compared in lower case: map_get() lowers what
 * it is asked, text tables are lowered when read, and makemap lowers unless
 * told otherwise.  A key stored with a trailing NUL (makemap -N) is found too.
 *
 * The author of a table is the administrator, yet nothing in it is trusted to
 * be short: see the limits.  A table is replaced by renaming a new file over
 * it; map_changed() notices.
 *
 * map_get() may run in several threads at a time; map_reopen() and map_free()
 * need the map for themselves.
 */
enum {
	MAP_KEY_MAX = 1024,       /* bytes */
	MAP_VALUE_MAX = 4096,     /* bytes */
	MAP_TEXT_MAX = 16 << 20,  /* bytes of a text file */
	MAP_ENTRIES_MAX = 1 << 20 /* lines with a key */
};

struct map;

/* map_open - NULL with one line in error: "/path:7: key without a value" */
struct map *map_open(const char *spec, struct buf *error);
void map_free(struct map **);

/*
 * map_get - append the value of key.  1 found, 0 absent, -1 with errno: the
 * table could not be read (EIO and others), or the value exceeds
 * MAP_VALUE_MAX or the buffer (EMSGSIZE).  A key over MAP_KEY_MAX is absent.
 */
int map_get(struct map *, const char *key, struct buf *value)
    __attribute__((__warn_unused_result__));

/* map_changed - whether the file is another one than was opened, or gone */
bool map_changed(const struct map *);

/* map_reopen - read it again.  -1 with a line in error: the old table is kept
 * and map_changed() stays true. */
int map_reopen(struct map *, struct buf *error)
    __attribute__((__warn_unused_result__));

#endif
