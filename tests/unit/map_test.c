/* SPDX-License-Identifier: ISC */

#include "milter-sdk/map/map.h"
#include "tests/lib/files.h"
#include "tests/lib/t.h"

#include <db.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/milldam-map.XXXXXX";
static char path[64], spec[80];

/* put_text - a text table with that content */
static void
put_text(const char *text)
{
	(void)snprintf(path, sizeof(path), "%s/t", dir);
	(void)snprintf(spec, sizeof(spec), "text:%s", path);
	put_file(path, text);
}

/* put_db - a table "A@B" -> "value", key with or without its NUL */
static void
put_db(const char *name, DBTYPE type, const char *key, const char *value,
    unsigned nul)
{
	DB *db;
	DBT k, v;

	(void)snprintf(path, sizeof(path), "%s/%s.db", dir, name);
	(void)unlink(path);
	T_OK(db_create(&db, NULL, 0) == 0);
	T_OK(db->open(db, NULL, path, NULL, type, DB_CREATE, 0600) == 0);
	memset(&k, 0, sizeof(k));
	memset(&v, 0, sizeof(v));
	k.data = (void *)(uintptr_t)key;
	k.size = (u_int32_t)strlen(key) + nul;
	v.data = (void *)(uintptr_t)value;
	v.size = (u_int32_t)strlen(value) + nul;
	T_OK(db->put(db, NULL, &k, &v, 0) == 0);
	T_OK(db->close(db, 0) == 0);
}

/* value - what spec says of key: "absent", "error", "no table: ..." */
static const char *
value(const char *key)
{
	static struct buf b = BUF_INIT(8192);
	struct buf error = BUF_INIT(1000);
	static char text[1100];
	struct map *m;
	int rc;

	b.len = 0;
	if ((m = map_open(spec, &error)) == NULL) {
		(void)snprintf(text, sizeof(text), "%s",
		    error.data != NULL ? error.data : "?");
		buf_fini(&error);
		return (text);
	}
	rc = map_get(m, key, &b);
	map_free(&m);
	return (rc == 1 ? b.data : rc == 0 ? "absent" : "error");
}

static void
reads_text(void)
{
	put_text("# routes\n\nexample.org  smtp:[192.0.2.1]\n"
	         "Example.COM\terror:5.1.1:550 no such \r\n.x\ty");
	T_STR(value("example.org"), "smtp:[192.0.2.1]");
	T_STR(value("EXAMPLE.com"), "error:5.1.1:550 no such");
	T_STR(value(".x"), "y");
	T_STR(value("x"), "absent");
	T_STR(value(""), "absent");
}

static void
names_the_line_of_a_mistake(void)
{
	char want[128];

	put_text("a b\nlonely\n");
	(void)snprintf(want, sizeof(want), "%s:2: key without a value", path);
	T_STR(value("a"), want);
	put_text("a b\nc d\nA e\n");
	(void)snprintf(
	    want, sizeof(want), "%s:3: key stands here a second time", path);
	T_STR(value("a"), want);
}

static void
refuses_long_keys_and_values(void)
{
	char *text = malloc(8000), want[128];

	memset(text, 'k', 1025);
	(void)strcpy(text + 1025, " v\n");
	put_text(text);
	(void)snprintf(want, sizeof(want), "%s:1: key is too long", path);
	T_STR(value("k"), want);
	memset(text, 'v', 5000);
	memcpy(text, "k ", 2);
	(void)strcpy(text + 5000, "\n");
	put_text(text);
	(void)snprintf(want, sizeof(want), "%s:1: value is too long", path);
	T_STR(value("k"), want);
	free(text);
}

static void
refuses_what_is_no_table(void)
{
	(void)snprintf(spec, sizeof(spec), "ldap:/x");
	T_STR(value("a"), "ldap:/x: not hash:/path, btree:/path or text:/path");
	(void)snprintf(spec, sizeof(spec), "text:%s/none", dir);
	T_OK(strstr(value("a"), "No such file") != NULL);
	(void)snprintf(spec, sizeof(spec), "text:%s", dir);
	T_OK(strstr(value("a"), "Invalid argument") != NULL);
	put_text("plain text, and no Berkeley DB at all\n");
	(void)snprintf(spec, sizeof(spec), "hash:%s", path);
	T_OK(strstr(value("a"), "not a Berkeley DB table") != NULL);
}

static void
reads_hash_and_btree(void)
{
	put_db("h", DB_HASH, "example.org", "smtp:a", 0);
	(void)snprintf(spec, sizeof(spec), "hash:%s/h", dir);
	T_STR(value("Example.org"), "smtp:a");
	T_STR(value("example.net"), "absent");
	(void)snprintf(spec, sizeof(spec), "hash:%s/h.db", dir);
	T_STR(value("example.org"), "smtp:a");
	put_db("b", DB_BTREE, "example.org", "smtp:b", 1);
	(void)snprintf(spec, sizeof(spec), "btree:%s/b", dir);
	T_STR(value("example.org"), "smtp:b");
	(void)snprintf(spec, sizeof(spec), "hash:%s/b", dir);
	T_OK(strstr(value("a"), "not a Berkeley DB table") != NULL);
}

static void
refuses_a_long_value_in_a_db(void)
{
	char *v = calloc(1, 5001);

	memset(v, 'v', 5000);
	put_db("l", DB_HASH, "k", v, 0);
	(void)snprintf(spec, sizeof(spec), "hash:%s/l", dir);
	T_STR(value("k"), "error");
	free(v);
}

static void
notices_a_new_file(void)
{
	struct buf error = BUF_INIT(1000), v = BUF_INIT(100);
	struct map *m;

	put_text("a 1\n");
	m = map_open(spec, &error);
	T_OK(m != NULL && !map_changed(m));
	put_text("a two\n");
	T_OK(map_changed(m));
	T_OK(map_reopen(m, &error) == 0 && !map_changed(m));
	T_OK(map_get(m, "a", &v) == 1);
	T_STR(v.data, "two");
	/* A mistake keeps the old table, and says so. */
	put_text("broken\n");
	T_OK(map_reopen(m, &error) == -1 && map_changed(m));
	T_OK(error.len > 0);
	v.len = 0;
	T_OK(map_get(m, "a", &v) == 1);
	map_free(&m);
	buf_fini(&v);
	buf_fini(&error);
}

static void
clean_up(void)
{
	static const char *const names[] = { "t", "t.new", "h.db", "b.db",
		"l.db" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void)unlink(path);
	}
	T_OK(rmdir(dir) == 0);
}

static void
set_up(void)
{
	T_OK(mkdtemp(dir) != NULL);
}

static const struct t_case cases[] = {
	{ "a folder for tables can be made", set_up },
	{ "text tables are read", reads_text },
	{ "a mistake names its line", names_the_line_of_a_mistake },
	{ "long keys and values are refused", refuses_long_keys_and_values },
	{ "what is no table is refused", refuses_what_is_no_table },
	{ "hash and btree are read, with and without NUL",
	    reads_hash_and_btree },
	{ "a long value in a db is an error", refuses_a_long_value_in_a_db },
	{ "a new file is noticed", notices_a_new_file },
	{ "nothing is left behind", clean_up },
};

T_MAIN(cases)
