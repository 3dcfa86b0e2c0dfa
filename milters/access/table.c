/* SPDX-License-Identifier: ISC */

/*
 * table - a table on disk that is read again when another file takes its name
 *
 * Looking whether it changed costs a system call, so it is done every few
 * seconds.  If the new file cannot be read nothing is answered from the old
 * one: the client is asked to come again rather than told something untrue.
 */

#include "milters/access/access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

enum { CHECK_MS = 2000 };

static int64_t
now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

int
table_open(struct table *t, const char *spec, struct buf *error)
{
	memset(t, 0, sizeof(*t));
	if ((t->map = map_open(spec, error)) == NULL)
		return (-1);
	if ((t->spec = strdup(spec)) == NULL ||
	    pthread_rwlock_init(&t->lock, NULL) != 0) {
		map_free(&t->map);
		free(t->spec);
		t->spec = NULL;
		return (-1);
	}
	t->checked_ms = now_ms();
	return (0);
}

void
table_fini(struct table *t)
{
	if (t->map == NULL)
		return;
	map_free(&t->map);
	(void)pthread_rwlock_destroy(&t->lock);
	free(t->spec);
	t->spec = NULL;
}

/* refresh - under the write lock */
static void
refresh(struct table *t)
{
	struct buf error = BUF_INIT(1024);

	if (now_ms() - t->checked_ms < CHECK_MS)
		return; /* another thread has just done it */
	t->checked_ms = now_ms();
	if (!map_changed(t->map)) {
		t->broken = false;
		return;
	}
	if (map_reopen(t->map, &error) == 0) {
		mill_log(NULL, LOG_INFO, "table read again: %s", t->spec);
		t->broken = false;
	} else {
		mill_log(NULL, LOG_ERR, "table: %s",
		    error.data != NULL ? error.data : t->spec);
		t->broken = true;
	}
	buf_fini(&error);
}

int
table_get(struct table *t, const char *key, struct buf *value)
{
	int rc;

	if (t->map == NULL)
		return (0);
	(void)pthread_rwlock_rdlock(&t->lock);
	if (now_ms() - t->checked_ms >= CHECK_MS) {
		(void)pthread_rwlock_unlock(&t->lock);
		(void)pthread_rwlock_wrlock(&t->lock);
		refresh(t);
	}
	rc = t->broken ? -1 : map_get(t->map, key, value);
	if (rc == -1 && !t->broken)
		mill_log(
		    NULL, LOG_ERR, "table: %s: %s", t->spec, strerror(errno));
	(void)pthread_rwlock_unlock(&t->lock);
	return (rc);
}
