/* SPDX-License-Identifier: ISC */

/*
 * map_db - Berkeley DB tables as made by makemap(8)
 *
 * Opened without an environment and read-only, so nothing is ever written
 * beside the table.  DB_THREAD makes the handle usable from several threads.
 */

#include "milter-sdk/map/map_impl.h"

#include <db.h>
#include <errno.h>
#include <string.h>

/* quiet - libdb would print to stderr; the caller logs what we return */
static void
quiet(const DB_ENV *env, const char *prefix, const char *text)
{
	(void)env;
	(void)prefix;
	(void)text;
}

static void *
db_open(const char *path, DBTYPE type, struct buf *error)
{
	DB *db;
	int rc = db_create(&db, NULL, 0);

	if (rc == 0) {
		db->set_errcall(db, quiet);
		rc = db->open(
		    db, NULL, path, NULL, type, DB_RDONLY | DB_THREAD, 0);
		if (rc == 0)
			return (db);
		(void)db->close(db, DB_NOSYNC);
	}
	(void)!buf_addf(error, "%s: %s", path,
	    rc == EINVAL ? "not a Berkeley DB table of this kind"
	                 : db_strerror(rc));
	errno = rc > 0 ? rc : EIO;
	return (NULL);
}

static void *
hash_open(const char *path, struct buf *error)
{
	return (db_open(path, DB_HASH, error));
}

static void *
btree_open(const char *path, struct buf *error)
{
	return (db_open(path, DB_BTREE, error));
}

static void
db_close(void *state)
{
	DB *db = state;

	(void)db->close(db, DB_NOSYNC);
}

static int
db_get(void *state, const char *name, size_t len, struct buf *out)
{
	DB *db = state;
	char room[MAP_VALUE_MAX + 1]; /* a trailing NUL may be stored */
	DBT key, value;
	int rc = DB_NOTFOUND, nul;

	for (nul = 0; nul <= 1 && rc == DB_NOTFOUND; nul++) {
		memset(&key, 0, sizeof(key));
		memset(&value, 0, sizeof(value));
		key.data = (void *)(uintptr_t)name;
		key.size = (u_int32_t)(len + (size_t)nul);
		value.data = room;
		value.ulen = sizeof(room);
		value.flags = DB_DBT_USERMEM;
		rc = db->get(db, NULL, &key, &value, 0);
	}
	if (rc == DB_NOTFOUND)
		return (0);
	if (rc != 0) {
		errno = rc == DB_BUFFER_SMALL ? EMSGSIZE : rc > 0 ? rc : EIO;
		return (-1);
	}
	if (value.size > 0 && room[value.size - 1] == '\0')
		value.size--;
	if (value.size > MAP_VALUE_MAX) {
		errno = EMSGSIZE;
		return (-1);
	}
	return (buf_add(out, room, value.size) == -1 ? -1 : 1);
}

const struct map_ops map_hash_ops = { "hash", hash_open, db_get, db_close };
const struct map_ops map_btree_ops = { "btree", btree_open, db_get, db_close };
