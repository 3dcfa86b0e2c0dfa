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

static struct view *
view_alloc(struct view *base)
{
	struct view *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return (NULL);
	v->refs = 1;
	if (base != NULL) {
		v->base = view_ref(base);
		v->fields = base->fields;
		v->n_fields = base->n_fields;
		v->body = base->body;
		v->body_len = base->body_len;
		v->flags = base->flags;
	}
	return (v);
}

struct view *
view_new(struct message *m)
{
	struct view *v = view_alloc(NULL);

	if (v == NULL)
		return (NULL);
	v->fields = m->fields;
	v->n_fields = m->n_fields;
	v->body = m->body;
	v->body_len = m->body_len;
	return (v);
}

struct view *
view_ref(struct view *v)
{
	v->refs++;
	return (v);
}

void
view_unref(struct view **vp)
{
	struct view *v = *vp, *base;

	*vp = NULL;
	while (v != NULL && --v->refs == 0) {
		base = v->base;
		if (v->own_fields)
			fields_free(v->fields, v->n_fields);
		buf_fini(&v->mem);
		free(v);
		v = base;
	}
}

/* view_same - the same bytes, whoever made them */
bool
view_same(const struct view *a, const struct view *b)
{
	size_t i;

	if (a == b)
		return (true);
	if (a->n_fields != b->n_fields || a->body_len != b->body_len)
		return (false);
	for (i = 0; i < a->n_fields && a->fields != b->fields; i++) {
		const struct field *f = &a->fields[i], *g = &b->fields[i];

		if (strcmp(f->name, g->name) != 0 || f->hidden != g->hidden ||
		    f->value_len != g->value_len ||
		    memcmp(f->value, g->value, f->value_len) != 0)
			return (false);
	}
	return (a->body == b->body || a->body_len == 0 ||
	    memcmp(a->body, b->body, a->body_len) == 0);
}

/* What one milter's edits make, until all of it is there. */
struct result {
	struct view *view; /* new version, or NULL */
	struct envelope *env[CHAIN_GROUPS_MAX];
};

static void
result_fini(struct result *r)
{
	size_t k;

	view_unref(&r->view);
	for (k = 0; k < CHAIN_GROUPS_MAX; k++)
		if (r->env[k] != NULL) {
			env_fini(r->env[k]);
			free(r->env[k]);
		}
}

/* make_view - the new version of header and body */
static int
make_view(struct link *l, bool header, struct result *r)
{
	struct view *v = view_alloc(l->view);
	struct field *fields = NULL;
	size_t n = 0;

	if ((r->view = v) == NULL)
		return (-1);
	if (header) {
		if (edit_header(l, l->view, &fields, &n, &v->flags) == -1)
			return (-1);
		if (fields != NULL) {
			v->fields = fields;
			v->n_fields = n;
			v->own_fields = true;
		}
	}
	if (l->edits.has_body) {
		if (finish_body(l, l->view, &v->flags) == -1)
			return (-1);
		v->mem = l->edits.body;
		memset(&l->edits.body, 0, sizeof(l->edits.body));
		v->body = v->mem.data != NULL ? v->mem.data : "";
		v->body_len = v->mem.len;
		v->own_body = true;
	}
	return (0);
}

/* make_envs - of each group; recipients are added to one of them only */
static int
make_envs(struct link *l, uint32_t groups, struct result *r)
{
	struct chain *c = l->chain;
	bool first = true;
	size_t k;

	for (k = 0; k < c->n_groups; k++) {
		struct envelope *env;

		if ((groups & 1u << k) == 0)
			continue;
		if ((env = calloc(1, sizeof(*env))) == NULL)
			return (-1);
		if (edit_envelope(l, c->groups[k].env, env, first) == -1) {
			free(env);
			return (-1);
		}
		r->env[k] = env;
		first = false;
	}
	return (0);
}

/* take - nothing here can fail: the new parts take their places */
static void
take(struct link *l, uint32_t groups, struct result *r)
{
	struct chain *c = l->chain;
	size_t k;

	for (k = 0; k < c->n_groups; k++) {
		struct group *g = &c->groups[k];

		if ((groups & 1u << k) == 0)
			continue;
		if (r->view != NULL) {
			view_unref(&g->view);
			g->view = view_ref(r->view);
		}
		if (r->env[k] == NULL)
			continue;
		if (g->own_env) {
			env_fini(g->env);
			free(g->env);
		}
		g->env = r->env[k];
		g->own_env = true;
		r->env[k] = NULL;
	}
}

int
edits_apply(struct link *l, uint32_t groups)
{
	struct chain *c = l->chain;
	struct result r = { .view = NULL };
	uint32_t real = groups;
	bool header = false, env = false;
	size_t k;
	int rc = 0;

	for (k = 0; k < c->n_groups; k++)
		if (c->groups[k].modes[l->index] != MODE_ENFORCE)
			real &= ~(1u << k);
	which(&l->edits, &header, &env);
	if (header || l->edits.has_body)
		rc = make_view(l, header, &r);
	if (rc == 0 && env)
		rc = make_envs(l, real != 0 ? real : groups, &r);
	if (rc == 0)
		take(l, real, &r);
	result_fini(&r);
	return (rc);
}

/* owner - the version that made these fields, or this body */
static struct view *
owner(struct view *v, bool body)
{
	while (v != NULL && !(body ? v->own_body : v->own_fields))
		v = v->base;
	return (v);
}

void
view_store(struct view *v, struct message *m)
{
	struct view *f = owner(v, false), *b = owner(v, true);
	size_t max = m->mem.max;

	if (f != NULL) {
		fields_free(m->fields, m->n_fields);
		m->fields = f->fields;
		m->n_fields = f->n_fields;
		m->header_changed = true;
		f->own_fields = false;
	}
	if (b != NULL) {
		if (m->map != NULL)
			(void)munmap(m->map, m->map_len);
		if (m->fd != -1)
			(void)close(m->fd);
		buf_fini(&m->mem);
		m->map = NULL;
		m->map_len = m->map_off = 0;
		m->fd = -1;
		m->mem = b->mem;
		m->mem.max = max;
		m->body = b->body;
		m->body_len = b->body_len;
		m->body_changed = true;
		memset(&b->mem, 0, sizeof(b->mem));
	}
}

int
view_copy(struct view *v, struct message *m)
{
	struct view *b = owner(v, true);
	size_t i;

	for (i = 0; i < v->n_fields; i++) {
		const struct field *f = &v->fields[i];

		if (message_add(m, i, f->name, f->value, f->value_len) == -1)
			return (-1);
		m->fields[i].hidden = f->hidden;
	}
	m->header_changed = owner(v, false) != NULL;
	m->body_changed = b != NULL;
	m->body = v->body;
	m->body_len = v->body_len;
	if (b != NULL && b->mem.data != NULL) {
		m->mem = b->mem;
		memset(&b->mem, 0, sizeof(b->mem));
	}
	return (0);
}
