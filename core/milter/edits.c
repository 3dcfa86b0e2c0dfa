/* SPDX-License-Identifier: ISC */

/*
 * edits - what a milter asks for at the end of message, together or not at all
 *
 * Edits are collected while they arrive and applied to a copy once the milter's
 * final verdict lets the message pass; the copy then takes the place of the
 * view that the next milter sees.
 *
 * Positions: "insert" counts fields as delivered, our own Received included, 0
 * being above it; "change" counts those of one name as the milter was shown
 * them, from 1, and a deletion does not renumber the rest within one milter
 * (Sendmail's way; milters that delete the highest first see no difference).
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	FIELDS_MAX = 10000,
	VALUE_MAX = 65000, /* bytes: the next milter must be able to see
	                      it in one packet */
	ENV_PACK_MAX = 64 << 20
};

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
		    strlen(e->value) <= VALUE_MAX && milter_value_ok(e->value));
	case MILTER_ADD_RCPT:
	case MILTER_ADD_RCPT_PAR:
	case MILTER_DEL_RCPT:
		return (milter_address(e->name, false, &addr, &len) &&
		    text_ok(e->value));
	case MILTER_CHANGE_FROM:
		return (milter_address(e->name, true, &addr, &len) &&
		    text_ok(e->value));
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
	struct buf b = BUF_INIT(2 * VALUE_MAX);
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

/* Envelope. */

/* same_address - local part to the letter, domain in any case */
static bool
same_address(const char *a, const char *b, size_t n)
{
	const char *at = memrchr(b, '@', n);
	size_t local = at != NULL ? (size_t)(at - b) : n;

	return (strlen(a) == n && memcmp(a, b, local) == 0 &&
	    strncasecmp(a + local, b + local, n - local) == 0);
}

static size_t
find_rcpt(const struct envelope *env, const char *addr, size_t n)
{
	size_t i;

	for (i = 0; i < env->n_rcpts; i++)
		if (same_address(env->rcpts[i].addr, addr, n))
			break;
	return (i);
}

/* argument - the value of NAME= in a blank-separated list, or NULL */
static const char *
argument(const char *args, const char *name, size_t *len)
{
	size_t n = strlen(name);

	for (;;) {
		args += strspn(args, " ");
		if (*args == '\0')
			return (NULL);
		*len = strcspn(args, " ");
		if (*len > n && strncasecmp(args, name, n) == 0) {
			*len -= n;
			return (args + n);
		}
		args += *len;
	}
}

static uint8_t
notify_bits(const char *s, size_t n)
{
	static const struct {
		const char *word;
		uint8_t bit;
	} words[] = { { "NEVER", NOTIFY_NEVER }, { "SUCCESS", NOTIFY_SUCCESS },
		{ "FAILURE", NOTIFY_FAILURE }, { "DELAY", NOTIFY_DELAY } };
	uint8_t bits = 0;
	size_t i, k;

	for (; n > 0; s += k, n -= k) {
		for (k = 0; k < n && s[k] != ','; k++)
			;
		for (i = 0; i < 4; i++)
			if (strlen(words[i].word) == k &&
			    strncasecmp(s, words[i].word, k) == 0)
				bits |= words[i].bit;
		if (k < n)
			k++;
	}
	return ((bits & NOTIFY_NEVER) != 0 ? NOTIFY_NEVER : bits);
}

static int
set_part(char **member, const char *s, size_t n)
{
	char *copy = strndup(s, n);

	if (copy == NULL)
		return (-1);
	free(*member);
	*member = copy;
	return (0);
}

static int
add_rcpt(struct link *l, struct envelope *env, const struct milter_edit *e)
{
	const char *addr, *arg;
	size_t len, n;
	struct rcpt *r;
	char *copy;

	(void)milter_address(e->name, false, &addr, &len);
	if (find_rcpt(env, addr, len) < env->n_rcpts)
		return (0);
	if ((copy = strndup(addr, len)) == NULL)
		return (-1);
	r = env_add_rcpt(env, copy);
	free(copy);
	if (r == NULL)
		return (-1);
	if ((arg = argument(e->value, "NOTIFY=", &n)) != NULL)
		r->notify = notify_bits(arg, n);
	if ((arg = argument(e->value, "ORCPT=", &n)) != NULL &&
	    set_part(&r->orcpt, arg, n) == -1)
		return (-1);
	record_edit(l, e->code, "recipient", NULL, 0, addr, len);
	return (0);
}

static void
del_rcpt(struct link *l, struct envelope *env, const struct milter_edit *e)
{
	const char *addr;
	size_t len, i;

	(void)milter_address(e->name, false, &addr, &len);
	while ((i = find_rcpt(env, addr, len)) < env->n_rcpts) {
		record_edit(l, e->code, "recipient", addr, len, NULL, 0);
		env_del_rcpt(env, i);
	}
}

static int
change_from(struct link *l, struct envelope *env, const struct milter_edit *e)
{
	const char *addr, *arg;
	size_t len, n;

	(void)milter_address(e->name, true, &addr, &len);
	record_edit(
	    l, e->code, "sender", env->sender, strlen(env->sender), addr, len);
	if (set_part(&env->sender, addr, len) == -1)
		return (-1);
	if ((arg = argument(e->value, "RET=", &n)) != NULL) {
		env->flags &= ~(uint32_t)ENV_RET_HDRS;
		if (n == 4 && strncasecmp(arg, "HDRS", 4) == 0)
			env->flags |= ENV_RET_HDRS;
	}
	if ((arg = argument(e->value, "ENVID=", &n)) != NULL)
		return (set_part(&env->envid, arg, n));
	return (0);
}

static int
env_clone(const struct envelope *from, struct envelope *to)
{
	struct buf b = BUF_INIT(ENV_PACK_MAX);
	struct packer k = { .b = &b };
	struct unpacker u;
	int r = -1;

	env_pack(&k, from);
	if (pack_end(&k) == 0) {
		u = (struct unpacker){ .p = (unsigned char *)b.data,
			.n = b.len };
		r = env_unpack(&u, to);
	}
	buf_fini(&b);
	return (r);
}

/* envelope_edits - all of them, on a copy */
static int
envelope_edits(struct link *l, struct envelope *env)
{
	size_t i;

	for (i = 0; i < l->edits.n; i++) {
		const struct milter_edit *e = &l->edits.v[i].e;

		switch (e->code) {
		case MILTER_ADD_RCPT:
		case MILTER_ADD_RCPT_PAR:
			if (add_rcpt(l, env, e) == -1)
				return (-1);
			break;
		case MILTER_DEL_RCPT:
			del_rcpt(l, env, e);
			break;
		case MILTER_CHANGE_FROM:
			if (change_from(l, env, e) == -1)
				return (-1);
			break;
		default:
			break;
		}
	}
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

static void
free_fields(struct field *fields, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		free(fields[i].name);
		free(fields[i].value);
	}
	free(fields);
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
			free_fields(v->fields, v->n_fields);
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
	struct work w = { .leading = l->conn != NULL &&
		    (l->conn->opts.protocol & MILTER_LEADING_SPACE) != 0 };
	struct envelope *env = NULL;
	struct field *fields = NULL;
	size_t n_fields = 0;
	bool header = false, has_env = false;
	int r = -1;

	which(&l->edits, &header, &has_env);
	if (header &&
	    (work_init(&w, view) == -1 || header_edits(l, &w) == -1 ||
	        take_fields(&w, &fields, &n_fields) == -1))
		goto out;
	if (has_env) {
		if ((env = calloc(1, sizeof(*env))) == NULL)
			goto out;
		if (env_clone(view->env, env) == -1 ||
		    envelope_edits(l, env) == -1)
			goto out;
	}
	if (l->edits.has_body && finish_body(l, view, &w.flags) == -1)
		goto out;
	r = 0;
	if (!dry) {
		replace(view, fields, n_fields, env, &l->edits, w.flags);
		fields = NULL;
		env = NULL;
	}
out:
	if (fields != NULL)
		free_fields(fields, n_fields);
	if (env != NULL) {
		env_fini(env);
		free(env);
	}
	work_fini(&w);
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
		free_fields(v->fields, v->n_fields);
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
		free_fields(m->fields, m->n_fields);
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
