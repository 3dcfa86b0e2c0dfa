/* SPDX-License-Identifier: ISC */

/*
 * map_text - a table as plain text
 *
 * The file is read whole and its lines sorted by key once; a look-up is a
 * binary search.  Every mistake ends the reading with file:line: half a table
 * would be a wrong answer.
 */

#include "milter-sdk/map/map_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct entry {
	const char *key, *value; /* into text */
	unsigned line;
};

struct text {
	char *text;
	struct entry *entries;
	size_t n, room;
};

static void
text_close(void *state)
{
	struct text *t = state;

	free(t->text);
	free(t->entries);
	free(t);
}

/* slurp - the file's bytes and a NUL; NULL with errno (EFBIG, EINVAL for what
 * is no plain file) */
static char *
slurp(const char *path, size_t *len_r)
{
	struct stat st;
	char *text = NULL;
	ssize_t n;
	int fd, saved;

	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) == -1)
		return (NULL);
	if (fstat(fd, &st) == -1)
		goto out;
	errno = !S_ISREG(st.st_mode) ? EINVAL : EFBIG;
	if (!S_ISREG(st.st_mode) || st.st_size > MAP_TEXT_MAX)
		goto out;
	if ((text = malloc((size_t)st.st_size + 1)) == NULL)
		goto out;
	for (*len_r = 0; *len_r < (size_t)st.st_size; *len_r += (size_t)n) {
		n = read(fd, text + *len_r, (size_t)st.st_size - *len_r);
		if (n == 0)
			break;
		if (n == -1) {
			free(text);
			text = NULL;
			goto out;
		}
	}
	text[*len_r] = '\0';
out:
	saved = errno;
	(void)close(fd);
	errno = saved;
	return (text);
}

static int
by_key(const void *a, const void *b)
{
	return (strcmp(
	    ((const struct entry *)a)->key, ((const struct entry *)b)->key));
}

/* add_line - one line, ended by a NUL; the reason why not, or NULL */
static const char *
add_line(struct text *t, char *s, unsigned line)
{
	struct entry *e;
	size_t n, i;

	s += strspn(s, " \t");
	n = strlen(s);
	while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL)
		s[--n] = '\0';
	if (*s == '\0' || *s == '#')
		return (NULL);
	if (t->n == t->room) {
		if (t->room >= MAP_ENTRIES_MAX)
			return ("too many lines");
		t->room = t->room == 0 ? 64 : 2 * t->room;
		e = realloc(t->entries, t->room * sizeof(*e));
		if (e == NULL)
			return ("out of memory");
		t->entries = e;
	}
	n = strcspn(s, " \t");
	if (s[n] == '\0')
		return ("key without a value");
	s[n] = '\0';
	for (i = 0; i < n; i++)
		if (s[i] >= 'A' && s[i] <= 'Z')
			s[i] = (char)(s[i] + 'a' - 'A');
	e = &t->entries[t->n++];
	e->key = s;
	e->value = s + n + 1 + strspn(s + n + 1, " \t");
	e->line = line;
	if (n > MAP_KEY_MAX)
		return ("key is too long");
	return (strlen(e->value) > MAP_VALUE_MAX ? "value is too long" : NULL);
}

static const char *
add_lines(struct text *t, size_t len, unsigned *line_r)
{
	char *s = t->text, *end = t->text + len, *nl;
	const char *why = NULL;
	size_t i;

	for (*line_r = 1; s < end && why == NULL; s = nl + 1, ++*line_r) {
		if ((nl = memchr(s, '\n', (size_t)(end - s))) == NULL)
			nl = end;
		if (memchr(s, '\0', (size_t)(nl - s)) != NULL)
			return ("NUL byte");
		*nl = '\0';
		if ((why = add_line(t, s, *line_r)) != NULL)
			return (why);
	}
	if (t->n > 0)
		qsort(t->entries, t->n, sizeof(*t->entries), by_key);
	for (i = 1; i < t->n; i++)
		if (strcmp(t->entries[i - 1].key, t->entries[i].key) == 0) {
			*line_r = t->entries[i].line > t->entries[i - 1].line
			    ? t->entries[i].line
			    : t->entries[i - 1].line;
			return ("key stands here a second time");
		}
	return (NULL);
}

static void *
text_open(const char *path, struct buf *error)
{
	struct text *t = calloc(1, sizeof(*t));
	const char *why;
	unsigned line;
	size_t len;

	if (t == NULL)
		return (NULL);
	if ((t->text = slurp(path, &len)) == NULL) {
		(void)!buf_addf(error, "%s: %s", path, strerror(errno));
		text_close(t);
		return (NULL);
	}
	if ((why = add_lines(t, len, &line)) != NULL) {
		(void)!buf_addf(error, "%s:%u: %s", path, line, why);
		text_close(t);
		errno = EINVAL;
		return (NULL);
	}
	return (t);
}

static int
text_get(void *state, const char *key, size_t len, struct buf *value)
{
	struct text *t = state;
	struct entry want = { key, NULL, 0 }, *e;

	(void)len;
	if (t->n == 0)
		return (0);
	e = bsearch(&want, t->entries, t->n, sizeof(want), by_key);
	if (e == NULL)
		return (0);
	return (buf_add(value, e->value, strlen(e->value)) == -1 ? -1 : 1);
}

const struct map_ops map_text_ops = { "text", text_open, text_get, text_close };
