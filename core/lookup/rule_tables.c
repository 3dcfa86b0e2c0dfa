/* SPDX-License-Identifier: ISC */

/*
 * rule_tables - what policies' rules look up
 *
 * Only tables that the settings name are opened: who asks may have been taken
 * over.  A table that cannot be read is a failure until it can, never an empty
 * one, since a rule may keep mail from somewhere by it.
 */

#include "core/lookup/rule_tables.h"

#include "milter-sdk/map/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct one {
	char *spec;
	struct map *map; /* NULL: it cannot be read */
	struct buf trouble;
	time_t looked; /* monotonic seconds */
};

struct rule_tables {
	struct one *v;
	size_t n;
};

static time_t
seconds(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (ts.tv_sec);
}

struct rule_tables *
rule_tables_new(void)
{
	return (calloc(1, sizeof(struct rule_tables)));
}

static void
clear(struct rule_tables *t)
{
	while (t->n > 0) {
		struct one *o = &t->v[--t->n];

		map_free(&o->map);
		buf_fini(&o->trouble);
		free(o->spec);
	}
	free(t->v);
	t->v = NULL;
}

void
rule_tables_free(struct rule_tables **tp)
{
	struct rule_tables *t = *tp;

	*tp = NULL;
	if (t != NULL)
		clear(t);
	free(t);
}

/* look - (re)open what was replaced, at most once a second; what is new of its
 * trouble into error */
static void
look(struct one *o, struct buf *error)
{
	struct buf b = BUF_INIT(4096);
	time_t now = seconds();

	if (now == o->looked || (o->map != NULL && !map_changed(o->map)))
		return;
	o->looked = now;
	/* The old table would be a wrong answer. */
	map_free(&o->map);
	if ((o->map = map_open(o->spec, &b)) == NULL && b.len == 0)
		(void)!buf_addf(&b, "%s: out of memory", o->spec);
	if (b.len > 0 &&
	    (b.len != o->trouble.len ||
	        memcmp(b.data, o->trouble.data, b.len) != 0))
		(void)!buf_add(error, b.data, b.len);
	buf_fini(&o->trouble);
	o->trouble = b;
}

int
rule_tables_use(struct rule_tables *t, const struct settings *s)
{
	clear(t);
	if ((t->v = calloc(s->n_tables + 1, sizeof(*t->v))) == NULL)
		return (-1);
	for (; t->n < s->n_tables; t->n++) {
		struct one *o = &t->v[t->n];

		o->looked = -1;
		o->trouble.max = 4096;
		if ((o->spec = strdup(s->tables[t->n])) == NULL)
			return (-1);
	}
	return (0);
}

int
rule_tables_get(struct rule_tables *t, const char *table, const char *key,
    struct buf *value, struct buf *error)
{
	struct one *o = NULL;
	size_t i;
	int rc;

	for (i = 0; i < t->n && o == NULL; i++)
		if (strcmp(t->v[i].spec, table) == 0)
			o = &t->v[i];
	if (o == NULL) {
		(void)!buf_addf(error, "no rule has that table");
		return (-1);
	}
	look(o, error);
	if (o->map == NULL)
		return (-1);
	if ((rc = map_get(o->map, key, value)) == -1)
		(void)!buf_addf(error, "%s: %s", table, strerror(errno));
	return (rc);
}
