/* SPDX-License-Identifier: ISC */

/*
 * edit_header - a milter's changes to header fields, on a copy
 *
 * Positions: "insert" counts fields as delivered, our own Received included, 0
 * being above it; "change" counts those of one name as the milter was shown
 * them, from 1, and a deletion does not renumber the rest within one milter
 * (Sendmail's way; milters that delete the highest first see no difference).
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FIELDS_MAX = 10000 };

/* The header as it is being edited; a deleted field keeps its place. */
struct slot {
	struct field f;
	bool dead;
};

struct work {
	struct slot *v;
	size_t n, cap;
	uint32_t flags;
	bool leading; /* values bring their own blank */
};

static void
work_fini(struct work *w)
{
	size_t i;

	for (i = 0; i < w->n; i++) {
		free(w->v[i].f.name);
		free(w->v[i].f.value);
	}
	free(w->v);
}

/* put_slot - insert at index at; takes the strings, also when it fails */
static int
put_slot(struct work *w, size_t at, char *name, char *value, size_t len)
{
	struct slot *v;
	size_t cap = w->cap == 0 ? 32 : 2 * w->cap;

	if (name == NULL || value == NULL)
		goto fail;
	if (w->n >= 2 * FIELDS_MAX) {
		errno = E2BIG;
		goto fail;
	}
	if (w->n == w->cap) {
		if ((v = realloc(w->v, cap * sizeof(*v))) == NULL)
			goto fail;
		w->v = v;
		w->cap = cap;
	}
	memmove(&w->v[at + 1], &w->v[at], (w->n - at) * sizeof(*w->v));
	memset(&w->v[at], 0, sizeof(*w->v));
	w->v[at].f.name = name;
	w->v[at].f.value = value;
	w->v[at].f.value_len = len;
	w->n++;
	return (0);

fail:
	free(name);
	free(value);
	return (-1);
}

static int
work_init(struct work *w, const struct view *view)
{
	const struct field *f;
	char *value;
	size_t i;

	for (i = 0; i < view->n_fields; i++) {
		f = &view->fields[i];
		if ((value = malloc(f->value_len + 1)) == NULL)
			return (-1);
		memcpy(value, f->value, f->value_len);
		value[f->value_len] = '\0';
		if (put_slot(w, w->n, strdup(f->name), value, f->value_len) ==
		    -1)
			return (-1);
		w->v[i].f.hidden = f->hidden;
	}
	return (0);
}

/* wire_value - a milter's value as it stands in a message: the blank after the
 * colon, folds as CRLF */
static char *
wire_value(const struct work *w, const char *s, size_t *len)
{
	struct buf b = BUF_INIT(2 * EDIT_FIELD_MAX);
	const char *nl;
	size_t n;

	if (!w->leading && buf_add(&b, " ", 1) == -1)
		goto fail;
	for (; (nl = strchr(s, '\n')) != NULL; s = nl + 1) {
		n = (size_t)(nl - s);
		if (n > 0 && s[n - 1] == '\r')
			n--;
		if (buf_add(&b, s, n) == -1 || buf_add(&b, "\r\n", 2) == -1)
			goto fail;
	}
	if (buf_add(&b, s, strlen(s)) == -1)
		goto fail;
	return (buf_take(&b, len));

fail:
	buf_fini(&b);
	return (NULL);
}

static int
insert(struct link *l, struct work *w, const struct milter_edit *e, size_t at)
{
	size_t len, i, n;
	char *value = wire_value(w, e->value, &len);

	if (value == NULL)
		return (-1);
	/* at counts living fields */
	for (i = 0, n = 0; i < w->n && n < at; i++)
		if (!w->v[i].dead)
			n++;
	if (e->name[0] == '.')
		w->flags |= ENV_DOTS;
	record_edit(l, e->code, e->name, NULL, 0, value, len);
	return (put_slot(w, i, strdup(e->name), value, len));
}

/* find - the nth (from 1) field of that name as the milter knows them */
static struct slot *
find(struct work *w, const char *name, uint32_t nth)
{
	size_t i;

	for (i = 0; i < w->n; i++)
		if (!w->v[i].f.hidden &&
		    strcasecmp(w->v[i].f.name, name) == 0 && --nth == 0)
			return (&w->v[i]);
	return (NULL);
}

static int
change(struct link *l, struct work *w, const struct milter_edit *e)
{
	struct slot *s = find(w, e->name, e->index);
	char *value;
	size_t len;

	if (e->value[0] == '\0') {
		if (s == NULL || s->dead)
			return (0);
		record_edit(
		    l, e->code, e->name, s->f.value, s->f.value_len, NULL, 0);
		s->dead = true;
		return (0);
	}
	if (s == NULL)
		return (insert(l, w, e, SIZE_MAX));
	if ((value = wire_value(w, e->value, &len)) == NULL)
		return (-1);
	record_edit(l, e->code, e->name, s->dead ? NULL : s->f.value,
	    s->f.value_len, value, len);
	free(s->f.value);
	s->f.value = value;
	s->f.value_len = len;
	s->dead = false;
	return (0);
}
static int
header_edits(struct link *l, struct work *w)
{
	size_t i;
	int r = 0;

	for (i = 0; i < l->edits.n && r == 0; i++) {
		const struct milter_edit *e = &l->edits.v[i].e;

		if (e->code == MILTER_ADD_HEADER)
			r = insert(l, w, e, SIZE_MAX);
		else if (e->code == MILTER_INSERT_HEADER)
			r = insert(l, w, e, e->index);
		else if (e->code == MILTER_CHANGE_HEADER)
			r = change(l, w, e);
		else if (e->code == MILTER_QUARANTINE)
			record_edit(l, e->code, "quarantine", NULL, 0, e->name,
			    strlen(e->name));
	}
	return (r);
}

/* take_fields - the living ones; room is the next power of two, as
 * message_add() expects it */
static int
take_fields(struct work *w, struct field **fields_r, size_t *n_r)
{
	struct field *fields;
	size_t i, n = 0, room = 1;

	for (i = 0; i < w->n; i++)
		n += !w->v[i].dead;
	if (n > FIELDS_MAX) {
		errno = E2BIG;
		return (-1);
	}
	while (room < n)
		room *= 2;
	if ((fields = calloc(room, sizeof(*fields))) == NULL)
		return (-1);
	for (i = 0, n = 0; i < w->n; i++)
		if (!w->v[i].dead) {
			fields[n++] = w->v[i].f;
			memset(&w->v[i].f, 0, sizeof(w->v[i].f));
		}
	*fields_r = fields;
	*n_r = n;
	return (0);
}
/* edit_header - the fields of the view after the link's edits; yours */
int
edit_header(struct link *l, const struct view *view, struct field **fields_r,
    size_t *n_r, uint32_t *flags_r)
{
	struct work w = { .leading = l->leading };
	int r = -1;

	if (work_init(&w, view) == 0 && header_edits(l, &w) == 0)
		r = take_fields(&w, fields_r, n_r);
	*flags_r |= w.flags;
	work_fini(&w);
	return (r);
}
