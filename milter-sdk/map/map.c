/* SPDX-License-Identifier: ISC */

/*
 * map - tables by kind and path
 *
 * What is common to all kinds: the spec, lower case, and whether the file was
 * replaced.
 */

#include "milter-sdk/map/map_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct map {
	const struct map_ops *ops;
	void *state;
	char *path;
	bool is_db;
	struct stat st; /* of the file that was opened */
};

static const struct map_ops *const kinds[] = { &map_hash_ops, &map_btree_ops,
	&map_text_ops };

/* real_path - the file that is meant: Sendmail's names omit ".db" */
static char *
real_path(const struct map *m)
{
	size_t n = strlen(m->path);
	char *path = malloc(n + 4);

	if (path == NULL)
		return (NULL);
	memcpy(path, m->path, n + 1);
	if (!m->is_db || (n > 3 && strcmp(path + n - 3, ".db") == 0))
		return (path);
	memcpy(path + n, ".db", 4);
	if (access(path, F_OK) == -1)
		path[n] = '\0';
	return (path);
}

/* load - open what the path names now, into *state_r and *st_r */
static int
load(const struct map *m, void **state_r, struct stat *st_r, struct buf *error)
{
	char *path = real_path(m);

	if (path == NULL)
		return (-1);
	/* The status is taken first: a file replaced in between is seen as
	 * changed, and read again. */
	if (stat(path, st_r) == -1) {
		(void)!buf_addf(error, "%s: %s", path, strerror(errno));
		free(path);
		return (-1);
	}
	*state_r = m->ops->open(path, error);
	free(path);
	return (*state_r != NULL ? 0 : -1);
}

struct map *
map_open(const char *spec, struct buf *error)
{
	const char *colon = strchr(spec, ':');
	struct map *m;
	size_t i, n = colon != NULL ? (size_t)(colon - spec) : 0;

	if ((m = calloc(1, sizeof(*m))) == NULL)
		return (NULL);
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i]->name) == n &&
		    memcmp(kinds[i]->name, spec, n) == 0)
			m->ops = kinds[i];
	if (m->ops == NULL || colon[1] != '/') {
		(void)!buf_addf(error,
		    "%s: not hash:/path, btree:/path or text:/path", spec);
		goto fail;
	}
	m->is_db = m->ops != &map_text_ops;
	if ((m->path = strdup(colon + 1)) == NULL)
		goto fail;
	if (load(m, &m->state, &m->st, error) == -1)
		goto fail;
	return (m);

fail:
	map_free(&m);
	return (NULL);
}

void
map_free(struct map **mp)
{
	struct map *m = *mp;

	*mp = NULL;
	if (m == NULL)
		return;
	if (m->state != NULL)
		m->ops->close(m->state);
	free(m->path);
	free(m);
}

int
map_get(struct map *m, const char *key, struct buf *value)
{
	char lower[MAP_KEY_MAX + 1];
	size_t i, n = strlen(key);

	if (n == 0 || n > MAP_KEY_MAX)
		return (0);
	/* ASCII only: bytes of UTF-8 stay. */
	for (i = 0; i <= n; i++)
		lower[i] = key[i] >= 'A' && key[i] <= 'Z'
		    ? (char)(key[i] + 'a' - 'A')
		    : key[i];
	return (m->ops->get(m->state, lower, n, value));
}

bool
map_changed(const struct map *m)
{
	char *path = real_path(m);
	struct stat st;
	bool same;

	if (path == NULL)
		return (false);
	same = stat(path, &st) == 0 && st.st_dev == m->st.st_dev &&
	    st.st_ino == m->st.st_ino && st.st_size == m->st.st_size &&
	    st.st_mtim.tv_sec == m->st.st_mtim.tv_sec &&
	    st.st_mtim.tv_nsec == m->st.st_mtim.tv_nsec;
	free(path);
	return (!same);
}

int
map_reopen(struct map *m, struct buf *error)
{
	struct stat st;
	void *state;

	if (load(m, &state, &st, error) == -1)
		return (-1);
	m->ops->close(m->state);
	m->state = state;
	m->st = st;
	return (0);
}
