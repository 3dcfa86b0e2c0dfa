/* SPDX-License-Identifier: ISC */

/*
 * edit - collect a filter's edits, and order them for every MTA
 *
 * Postfix renumbers fields after a delete and Sendmail does not; Postfix ends a
 * body replacement at any other edit.  So changes go first, then deletes from
 * the highest field down, then what adds: with that order both agree.
 */

#include "milter-sdk/src/sdk.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

static int
fail(int e)
{
	errno = e;
	return (-1);
}

/* put - copies; name and value may be NULL, value has len bytes */
static struct edit *
put(struct mill_txn *t, enum edit_kind kind, const char *name,
    const char *value, size_t len)
{
	struct edit *e = arena_alloc(&t->message, sizeof(*e));

	if (e == NULL)
		return (NULL);
	memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->len = len;
	if (name != NULL && (e->name = arena_strdup(&t->message, name)) == NULL)
		return (NULL);
	if (value != NULL &&
	    (e->value = arena_copy(&t->message, value, len)) == NULL)
		return (NULL);
	*t->edits_tail = e;
	t->edits_tail = &e->next;
	return (e);
}

/* supersedes - whether an earlier edit is void because of this one */
static bool
supersedes(const struct edit *e, const struct edit *old)
{
	if (e->kind == EDIT_CHANGE || e->kind == EDIT_DELETE)
		return (
		    (old->kind == EDIT_CHANGE || old->kind == EDIT_DELETE) &&
		    old->index == e->index &&
		    strcasecmp(old->name, e->name) == 0);
	return (old->kind == e->kind);
}

/* void_others - the last call wins: put() has put e at the end */
static void
void_others(struct mill_txn *t, const struct edit *e)
{
	struct edit **p = &t->edits, *old;

	while ((old = *p) != NULL) {
		if (old != e && supersedes(e, old))
			*p = old->next;
		else
			p = &old->next;
	}
	t->edits_tail = p;
}

static int
allowed(const struct mill_txn *t, unsigned edit)
{
	if ((t->edits_allowed & edit) == 0)
		return (fail(ENOTSUP));
	if (!t->in_message)
		return (fail(EINVAL));
	return (0);
}

static bool
name_ok(const char *s)
{
	size_t n = 0;

	for (; s[n] != '\0'; n++)
		if (s[n] <= 32 || s[n] == ':' || s[n] == 127)
			return (false);
	return (n > 0 && n < 256);
}

static bool
value_ok(const char *s)
{
	size_t line = 0;

	for (; *s != '\0'; s++) {
		if (*s == '\n') {
			if (s[1] != ' ' && s[1] != '\t')
				return (false);
			line = 0;
		} else if (((unsigned char)*s < 32 && *s != '\t') ||
		    *s == 127 || ++line > SDK_HEADER_LINE)
			return (false);
	}
	return (true);
}

/* addr_ok - no blank or control byte: an address cannot carry a second command
 */
static bool
addr_ok(const char *s)
{
	bool in_quotes = false;
	size_t n = 0;

	for (; s[n] != '\0'; n++) {
		if (s[n] == '"' && (n == 0 || s[n - 1] != '\\'))
			in_quotes = !in_quotes;
		if ((unsigned char)s[n] < 32 || s[n] == 127 ||
		    (!in_quotes && strchr(" <>", s[n]) != NULL))
			return (false);
	}
	return (n < 1024);
}

static bool
args_ok(const char *s)
{
	size_t n = 0;

	if (s == NULL)
		return (true);
	for (; s[n] != '\0'; n++)
		if ((unsigned char)s[n] < 32 || s[n] == 127)
			return (false);
	return (n < 1024);
}

int
mill_add_header(struct mill_txn *t, const char *name, const char *value)
{
	if (allowed(t, MILL_EDIT_ADD_HEADER) == -1)
		return (-1);
	if (!name_ok(name) || !value_ok(value))
		return (fail(EINVAL));
	return (put(t, EDIT_ADD, name, value, strlen(value)) ? 0 : -1);
}

int
mill_insert_header(
    struct mill_txn *t, unsigned at, const char *name, const char *value)
{
	struct edit *e;

	if (allowed(t, MILL_EDIT_ADD_HEADER) == -1)
		return (-1);
	if (!name_ok(name) || !value_ok(value) || at > INT_MAX)
		return (fail(EINVAL));
	if ((e = put(t, EDIT_INSERT, name, value, strlen(value))) == NULL)
		return (-1);
	e->index = at;
	return (0);
}

static int
change(struct mill_txn *t, const char *name, size_t nth, const char *value)
{
	struct edit *e;

	if (allowed(t, MILL_EDIT_CHANGE_HEADER) == -1)
		return (-1);
	if (!name_ok(name) || nth >= INT_MAX ||
	    (value != NULL && !value_ok(value)))
		return (fail(EINVAL));
	if ((e = put(t, value != NULL ? EDIT_CHANGE : EDIT_DELETE, name, value,
	         value != NULL ? strlen(value) : 0)) == NULL)
		return (-1);
	e->index = nth;
	void_others(t, e);
	return (0);
}

int
mill_change_header(
    struct mill_txn *t, const char *name, size_t nth, const char *value)
{
	/* On the wire an empty value would delete. */
	return (change(t, name, nth, *value != '\0' ? value : " "));
}

int
mill_delete_header(struct mill_txn *t, const char *name, size_t nth)
{
	if (mill_header(t, name, nth) == NULL)
		return (allowed(t, MILL_EDIT_CHANGE_HEADER));
	return (change(t, name, nth, NULL));
}

int
mill_replace_body(struct mill_txn *t, const void *bytes, size_t len)
{
	struct edit *e;
	char *copy;

	if (allowed(t, MILL_EDIT_BODY) == -1)
		return (-1);
	if (len > INT_MAX)
		return (fail(EMSGSIZE));
	/* Beside the arena's ceiling, which is for what the network sends. */
	t->message.max += len + 1;
	if ((copy = arena_copy(&t->message, bytes, len)) == NULL ||
	    (e = put(t, EDIT_BODY, NULL, NULL, len)) == NULL) {
		t->message.max -= len + 1;
		return (-1);
	}
	e->value = copy;
	void_others(t, e);
	return (0);
}

int
mill_add_rcpt(struct mill_txn *t, const char *addr, const char *args)
{
	if (allowed(t, MILL_EDIT_ADD_RCPT) == -1)
		return (-1);
	if (*addr == '\0' || !addr_ok(addr) || !args_ok(args))
		return (fail(EINVAL));
	return (put(t, EDIT_ADD_RCPT, addr, args,
	            args != NULL ? strlen(args) : 0) != NULL
	        ? 0
	        : -1);
}

int
mill_del_rcpt(struct mill_txn *t, const char *addr)
{
	if (allowed(t, MILL_EDIT_DEL_RCPT) == -1)
		return (-1);
	if (*addr == '\0' || !addr_ok(addr))
		return (fail(EINVAL));
	return (put(t, EDIT_DEL_RCPT, addr, NULL, 0) != NULL ? 0 : -1);
}

int
edit_drop(struct mill_txn *t)
{
	size_t i;

	for (i = 0; i < t->n_dropped; i++)
		if (put(t, EDIT_DEL_RCPT, t->dropped[i].text, NULL, 0) == NULL)
			return (-1);
	t->n_dropped = 0;
	return (0);
}

int
mill_change_sender(struct mill_txn *t, const char *addr, const char *args)
{
	struct edit *e;

	if (allowed(t, MILL_EDIT_SENDER) == -1)
		return (-1);
	if (!addr_ok(addr) || !args_ok(args))
		return (fail(EINVAL));
	if ((e = put(t, EDIT_SENDER, addr, args,
	         args != NULL ? strlen(args) : 0)) == NULL)
		return (-1);
	void_others(t, e);
	return (0);
}

int
mill_quarantine(struct mill_txn *t, const char *reason)
{
	char room[SDK_REASON_MAX + 1];
	struct edit *e;
	size_t i;

	if (allowed(t, MILL_EDIT_QUARANTINE) == -1)
		return (-1);
	for (i = 0; i < SDK_REASON_MAX && reason[i] != '\0'; i++)
		room[i] = (unsigned char)reason[i] < 32 || reason[i] == 127
		    ? '?'
		    : reason[i];
	room[i] = '\0';
	if (i == 0)
		return (fail(EINVAL));
	if ((e = put(t, EDIT_QUARANTINE, room, NULL, 0)) == NULL)
		return (-1);
	void_others(t, e);
	return (0);
}

/* before - whether a leaves before b; equal ones keep their order */
static bool
before(const struct edit *a, const struct edit *b)
{
	if (a->kind != b->kind)
		return (a->kind < b->kind);
	return (a->kind == EDIT_DELETE && a->index > b->index);
}

/* edit_sort - by insertion: there are few, and a filter is not the network */
void
edit_sort(struct mill_txn *t)
{
	struct edit *sorted = NULL, *e, **p;

	while ((e = t->edits) != NULL) {
		t->edits = e->next;
		for (p = &sorted; *p != NULL && !before(e, *p);)
			p = &(*p)->next;
		e->next = *p;
		*p = e;
	}
	t->edits = sorted;
	for (p = &t->edits; *p != NULL;)
		p = &(*p)->next;
	t->edits_tail = p;
}
