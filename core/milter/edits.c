/* SPDX-License-Identifier: ISC */

/*
 * edits - what a milter asks for at the end of message, together or not at all
 *
 * Edits are collected while they arrive and applied to a copy once the milter's
 * final verdict lets the message pass; the copy then takes the place of the
 * view that the next milter sees.
 */

#include "core/milter/chain_int.h"
#include "core/smtp/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

static void
edit_fini(struct edit *e)
{
	free((char *)(uintptr_t)e->e.name);
	free((char *)(uintptr_t)e->e.value);
}

void
edits_clear(struct edit_list *l)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		edit_fini(&l->v[i]);
	free(l->v);
	buf_fini(&l->body);
	memset(l, 0, sizeof(*l));
}

static bool
text_ok(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return (false);
	return (true);
}

/* address_ok - is it what MAIL (with null_ok) or RCPT would take?  What is not
 * could be neither routed nor delivered. */
static bool
address_ok(const char *s, bool null_ok)
{
	char copy[ADDRESS_MAX + 1];
	const char *addr;
	size_t len;

	if (!milter_address(s, null_ok, &addr, &len) || len > ADDRESS_MAX)
		return (false);
	memcpy(copy, addr, len);
	copy[len] = '\0';
	if (len == 0)
		return (true);
	return (address_check(copy) == 0 ||
	    (!null_ok && strcasecmp(copy, "postmaster") == 0));
}

/* edit_ok - may this go into a message as it is? */
static bool
edit_ok(const struct milter_edit *e)
{
	const char *addr;
	size_t len;

	switch (e->code) {
	case MILTER_ADD_HEADER:
	case MILTER_INSERT_HEADER:
	case MILTER_CHANGE_HEADER:
		return (milter_name_ok(e->name) &&
		    strlen(e->name) + strlen(e->value) <= EDIT_FIELD_MAX &&
		    milter_value_ok(e->value));
	case MILTER_ADD_RCPT:
	case MILTER_ADD_RCPT_PAR:
		return (address_ok(e->name, false) && text_ok(e->value));
	case MILTER_DEL_RCPT: /* what matches no recipient is left alone */
		return (milter_address(e->name, false, &addr, &len));
	case MILTER_CHANGE_FROM:
		return (address_ok(e->name, true) && text_ok(e->value));
	default:
		return (text_ok(e->name));
	}
}

/* add_body - one piece; line ends become CRLF, also across pieces */
static int
add_body(struct edit_list *l, const char *s, size_t n, uint64_t max)
{
	size_t k;

	l->has_body = true;
	l->body.max = max < SIZE_MAX / 8 ? (size_t)max : SIZE_MAX / 8;
	while (n > 0) {
		if (l->body_cr || *s == '\n') {
			if (buf_add(&l->body, "\r\n", 2) == -1)
				return (-1);
			if (*s == '\n') {
				s++;
				n--;
			}
			l->body_cr = false;
			continue;
		}
		for (k = 0; k < n && s[k] != '\r' && s[k] != '\n'; k++)
			;
		if (buf_add(&l->body, s, k) == -1)
			return (-1);
		s += k;
		n -= k;
		if (n > 0 && *s == '\r') {
			l->body_cr = true;
			s++;
			n--;
		}
	}
	return (0);
}

/* edits_add - keep one edit; max is the limit of a body.  -1 with EPROTO, E2BIG
 * or EMSGSIZE (too many, too large) or ENOMEM. */
int
edits_add(struct edit_list *l, const struct milter_edit *e, uint64_t max)
{
	struct edit *v, one = { *e };
	size_t cap, n = strlen(e->value);

	if (e->code == MILTER_REPLACE_BODY)
		return (add_body(l, e->bytes, e->len, max));
	/* Some milters end a value with a line end. */
	while (n > 0 && (e->value[n - 1] == '\n' || e->value[n - 1] == '\r'))
		n--;
	one.e.name = strdup(e->name);
	one.e.value = strndup(e->value, n);
	if (one.e.name == NULL || one.e.value == NULL)
		goto fail;
	if (!edit_ok(&one.e)) {
		errno = EPROTO;
		goto fail;
	}
	l->bytes += strlen(one.e.name) + n;
	if (l->n >= LINK_EDITS_MAX || l->bytes > LINK_EDIT_BYTES) {
		errno = E2BIG;
		goto fail;
	}
	if (l->n == l->cap) {
		cap = l->cap == 0 ? 8 : 2 * l->cap;
		if ((v = realloc(l->v, cap * sizeof(*v))) == NULL)
			goto fail;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = one;
	return (0);

fail:
	edit_fini(&one);
	return (-1);
}

/* finish_body - the last line ends; flags for what it holds */
static int
finish_body(struct link *l, const struct view *view, uint32_t *flags)
{
	struct buf *b = &l->edits.body;
	char before[32], after[32];
	size_t i;

	if ((l->edits.body_cr || (b->len > 0 && b->data[b->len - 1] != '\n')) &&
	    buf_add(b, "\r\n", 2) == -1)
		return (-1);
	l->edits.body_cr = false;
	for (i = 0; i < b->len; i++) {
		if ((unsigned char)b->data[i] >= 0x80)
			*flags |= ENV_8BIT;
		if (b->data[i] == '.' && (i == 0 || b->data[i - 1] == '\n'))
			*flags |= ENV_DOTS;
	}
	(void)snprintf(before, sizeof(before), "%zu bytes", view->body_len);
	(void)snprintf(after, sizeof(after), "%zu bytes", b->len);
	record_edit(l, MILTER_REPLACE_BODY, "body", before, strlen(before),
	    after, strlen(after));
	return (0);
}
void
fields_free(struct field *fields, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		free(fields[i].name);
		free(fields[i].value);
	}
	free(fields);
}
/* which - what kinds of edits are there? */
static void
which(const struct edit_list *l, bool *header, bool *env)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (strchr("himq", l->v[i].e.code) != NULL)
			*header = true;
		else
			*env = true;
}

/* replace - nothing here can fail: the new parts take their places */
static void
replace(struct view *v, struct field *fields, size_t n_fields,
    struct envelope *env, struct edit_list *edits, uint32_t flags)
{
	if (fields != NULL) {
		if (v->own_fields)
			fields_free(v->fields, v->n_fields);
		v->fields = fields;
		v->n_fields = n_fields;
		v->own_fields = true;
	}
	if (env != NULL) {
		if (v->own_env) {
			env_fini(v->env);
			free(v->env);
		}
		v->env = env;
		v->own_env = true;
	}
	if (edits->has_body) {
		buf_fini(&v->mem);
		v->mem = edits->body;
		memset(&edits->body, 0, sizeof(edits->body));
		v->body = v->mem.data != NULL ? v->mem.data : "";
		v->body_len = v->mem.len;
		v->own_body = true;
	}
	v->flags |= flags;
}

/* edits_apply - the link's edits to the view, all or (on -1) none.  dry: only
 * note what they would do. */
int
edits_apply(struct link *l, struct view *view, bool dry)
{
	struct envelope *env = NULL;
	struct field *fields = NULL;
	size_t n_fields = 0;
	uint32_t flags = 0;
	bool header = false, has_env = false;
	int r = -1;

	which(&l->edits, &header, &has_env);
	if (header && edit_header(l, view, &fields, &n_fields, &flags) == -1)
		goto out;
	if (has_env) {
		if ((env = calloc(1, sizeof(*env))) == NULL)
			goto out;
		if (edit_envelope(l, view->env, env) == -1) {
			free(env);
			env = NULL;
			goto out;
		}
	}
	if (l->edits.has_body && finish_body(l, view, &flags) == -1)
		goto out;
	r = 0;
	if (!dry) {
		replace(view, fields, n_fields, env, &l->edits, flags);
		fields = NULL;
		env = NULL;
	}
out:
	if (fields != NULL)
		fields_free(fields, n_fields);
	if (env != NULL) {
		env_fini(env);
		free(env);
	}
	return (r);
}

void
view_init(struct view *v, struct message *m, struct envelope *env)
{
	memset(v, 0, sizeof(*v));
	v->fields = m->fields;
	v->n_fields = m->n_fields;
	v->body = m->body;
	v->body_len = m->body_len;
	v->env = env;
}

void
view_fini(struct view *v)
{
	if (v->own_fields)
		fields_free(v->fields, v->n_fields);
	if (v->own_env) {
		env_fini(v->env);
		free(v->env);
	}
	buf_fini(&v->mem);
	memset(v, 0, sizeof(*v));
}

void
view_store(struct view *v, struct message *m, struct envelope *env)
{
	uint32_t flags = v->flags;
	size_t max = m->mem.max;

	if (v->own_fields) {
		fields_free(m->fields, m->n_fields);
		m->fields = v->fields;
		m->n_fields = v->n_fields;
		m->header_changed = true;
		v->own_fields = false;
	}
	if (v->own_body) {
		if (m->map != NULL)
			(void)munmap(m->map, m->map_len);
		if (m->fd != -1)
			(void)close(m->fd);
		buf_fini(&m->mem);
		m->map = NULL;
		m->map_len = m->map_off = 0;
		m->fd = -1;
		m->mem = v->mem;
		m->mem.max = max;
		m->body = v->body;
		m->body_len = v->body_len;
		m->body_changed = true;
		memset(&v->mem, 0, sizeof(v->mem));
		v->own_body = false;
	}
	if (v->own_env) {
		env_fini(env);
		*env = *v->env;
		free(v->env);
		v->own_env = false;
	}
	env->flags |= flags;
	view_fini(v);
}
