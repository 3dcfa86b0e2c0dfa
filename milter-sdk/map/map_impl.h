/* SPDX-License-Identifier: ISC */
#ifndef MAP_MAP_IMPL_H
#define MAP_MAP_IMPL_H

#include "milter-sdk/map/map.h"

/* What a kind of table does; open returns its state, or NULL with the reason in
 * error.  Keys arrive in lower case, never longer than MAP_KEY_MAX. */
struct map_ops {
	const char *name;
	void *(*open)(const char *path, struct buf *error);
	int (*get)(void *, const char *key, size_t len, struct buf *value);
	void (*close)(void *);
};

extern const struct map_ops map_hash_ops, map_btree_ops, map_text_ops;

#endif
