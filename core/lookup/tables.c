/* SPDX-License-Identifier: ISC */

/* tables - the mailertable and what is done when it cannot be read */

#include "core/lookup/tables.h"

#include "core/route/route.h"

#include "milter-sdk/map/map.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct tables {
	char *spec;      /* NULL: none is configured */
	struct map *map; /* NULL: it cannot be read */
	struct buf trouble;
	bool fresh;
	time_t looked; /* monotonic seconds */
};

static time_t
seconds(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (ts.tv_sec);
}

struct tables *
tables_new(void)
{
	struct tables *t = calloc(1, sizeof(*t));

	if (t != NULL)
		t->trouble.max = 4096;
	return (t);
}

void
tables_free(struct tables **tp)
{
	struct tables *t = *tp;

	*tp = NULL;
	if (t == NULL)
		return;
	map_free(&t->map);
	buf_fini(&t->trouble);
	free(t->spec);
	free(t);
}

/* open_table - (re)open; the trouble is news if it differs */
static void
open_table(struct tables *t)
{
	struct buf error = BUF_INIT(4096);

	map_free(&t->map);
	if (t->spec != NULL && (t->map = map_open(t->spec, &error)) == NULL &&
	    error.len == 0)
		(void)!buf_addf(&error, "%s: out of memory", t->spec);
	if (strcmp(error.data != NULL ? error.data : "",
	        t->trouble.data != NULL ? t->trouble.data : "") != 0)
		t->fresh = true;
	buf_fini(&t->trouble);
	t->trouble = error;
}

void
tables_use(struct tables *t, const struct settings *s)
{
	free(t->spec);
	t->spec = s->mailertable != NULL ? strdup(s->mailertable) : NULL;
	t->looked = seconds();
	open_table(t);
}

void
tables_refresh(struct tables *t)
{
	time_t now = seconds();

	if (t->spec == NULL || now == t->looked)
		return;
	t->looked = now;
	/* The old table would be a wrong answer: its successor may have been
	 * made to stop mail to somewhere. */
	if (t->map == NULL || map_changed(t->map))
		open_table(t);
}

const char *
tables_trouble(struct tables *t, bool *fresh)
{
	*fresh = t->fresh;
	t->fresh = false;
	return (t->trouble.len > 0 ? t->trouble.data : "");
}

static int
get(void *arg, const char *key, struct buf *value)
{
	return (map_get(arg, key, value));
}

int
tables_route(struct tables *t, const struct settings *s, const char *address,
    struct route *r, struct buf *error)
{
	struct buf full = BUF_INIT(1024);
	int rc;

	memset(r, 0, sizeof(*r));
	if (t->spec != NULL && t->map == NULL) {
		(void)!buf_addf(error, "mailertable cannot be read");
		return (-1);
	}
	/* RFC 5321 4.5.1: always accepted, without a domain too. */
	if (strcasecmp(address, "postmaster") == 0) {
		if (buf_addf(&full, "%s", s->postmaster) == -1 ||
		    (strchr(s->postmaster, '@') == NULL &&
		        buf_addf(&full, "@%s", s->hostname) == -1)) {
			buf_fini(&full);
			return (-1);
		}
		address = full.data;
	}
	rc = route_find(t->map != NULL ? get : NULL, t->map, s->smart_host,
	    address, r, error);
	buf_fini(&full);
	return (rc);
}
