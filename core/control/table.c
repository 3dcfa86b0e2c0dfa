/* SPDX-License-Identifier: ISC */

/*
 * table - aligned output for people
 */

#include "core/control/ctl.h"

#include <err.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { COLUMNS_MAX = 16 };

struct cell {
	char *text;
	enum colour colour;
};

struct table {
	char *titles[COLUMNS_MAX];
	bool right[COLUMNS_MAX];
	size_t widths[COLUMNS_MAX];
	size_t n_columns, n_cells, cap;
	struct cell *cells;
};

static bool colours;

void
colour_init(FILE *out)
{
	const char *off = getenv("NO_COLOR");

	colours = isatty(fileno(out)) && (off == NULL || off[0] == '\0');
}

static const char *
sequence(enum colour c)
{
	static const char *const codes[] = { "", "\033[1m", "\033[32m",
		"\033[33m", "\033[31m", "\033[2m" };

	return (colours ? codes[c] : "");
}

void
colour_text(enum colour c, const char *text)
{
	printf("%s%s%s", sequence(c), text,
	    c != PLAIN && colours ? "\033[0m" : "");
}

/* columns - of a UTF-8 text, one for each character: enough for addresses */
static size_t
columns(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return (n);
}

struct table *
table_new(const char *titles)
{
	struct table *t = calloc(1, sizeof(*t));
	char *copy = strdup(titles), *p = copy, *title;

	if (t == NULL || copy == NULL)
		err(EX_OSERR, NULL);
	while (
	    (title = strsep(&p, "|")) != NULL && t->n_columns < COLUMNS_MAX) {
		t->right[t->n_columns] = title[0] == '>';
		if (title[0] == '>')
			title++;
		if ((t->titles[t->n_columns] = strdup(title)) == NULL)
			err(EX_OSERR, NULL);
		t->widths[t->n_columns++] = columns(title);
	}
	free(copy);
	return (t);
}

void
table_cell(struct table *t, enum colour colour, const char *fmt, ...)
{
	size_t column = t->n_cells % t->n_columns, w;
	struct cell *c;
	va_list ap;

	if (t->n_cells == t->cap) {
		t->cap = t->cap == 0 ? 64 : t->cap * 2;
		t->cells = reallocarray(t->cells, t->cap, sizeof(*t->cells));
		if (t->cells == NULL)
			err(EX_OSERR, NULL);
	}
	c = &t->cells[t->n_cells++];
	c->colour = colour;
	va_start(ap, fmt);
	if (vasprintf(&c->text, fmt, ap) == -1)
		err(EX_OSERR, NULL);
	va_end(ap);
	if ((w = columns(c->text)) > t->widths[column])
		t->widths[column] = w;
}

static void
print_cell(
    const struct table *t, size_t column, enum colour colour, const char *text)
{
	int pad = (int)(t->widths[column] - columns(text));
	bool last = column + 1 == t->n_columns;

	if (t->right[column])
		printf("%*s", pad, "");
	colour_text(colour, text);
	if (!t->right[column] && !last)
		printf("%*s", pad, "");
	fputs(last ? "\n" : "  ", stdout);
}

void
table_print(struct table **tp)
{
	struct table *t = *tp;
	size_t i;

	for (i = 0; i < t->n_columns; i++)
		print_cell(t, i, BOLD, t->titles[i]);
	for (i = 0; i < t->n_cells; i++) {
		print_cell(
		    t, i % t->n_columns, t->cells[i].colour, t->cells[i].text);
		free(t->cells[i].text);
	}
	for (i = 0; i < t->n_columns; i++)
		free(t->titles[i]);
	free(t->cells);
	free(t);
	*tp = NULL;
}

const char *
safe(const char *s, size_t max)
{
	static char rooms[4][1024];
	static unsigned next;
	char *room = rooms[next++ % 4];
	size_t n = 0;

	if (max > sizeof(rooms[0]) - 4)
		max = sizeof(rooms[0]) - 4;
	for (; *s != '\0' && n < max; s++)
		room[n++] = (unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s;
	/* not in the middle of a character */
	while (*s != '\0' && n > 0 && ((unsigned char)*s & 0xc0) == 0x80) {
		n--;
		s--;
	}
	room[n] = '\0';
	if (*s != '\0')
		strcpy(room + n, "...");
	return (room);
}

struct json_object *
obj_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (json_object_is_type(o, json_type_object))
		(void)json_object_object_get_ex(o, key, &v);
	return (v);
}

const char *
str_of(struct json_object *o, const char *key)
{
	struct json_object *v = obj_of(o, key);

	return (v != NULL ? json_object_get_string(v) : "");
}

int64_t
num_of(struct json_object *o, const char *key)
{
	struct json_object *v = obj_of(o, key);

	return (v != NULL ? json_object_get_int64(v) : 0);
}
