/* SPDX-License-Identifier: ISC */

/*
 * address - masquerade the addresses of a header field or of the envelope
 *
 * The walker splits a value into the tokens of RFC 5322 section 3.4 and looks,
 * in each element of the list, for the one place where an address can stand:
 * between angle brackets, or, without those, alone.  Only the bytes of its
 * domain are ever replaced.  What does not have one of these two forms is left
 * alone: a field that cannot be read is never made worse.  Values come from
 * the network.
 */

#include "milters/rewrite/address.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum kind { END, BROKEN, BLANK, COMMENT, QUOTED, LITERAL, ATOM, SPECIAL };

struct token {
	enum kind kind;
	const char *p;
	size_t len;
};

struct span {
	const char *p; /* NULL: none seen */
	size_t len;
};

/* One element of the list, or what stands between its angle brackets. */
struct element {
	struct span local, domain;
	bool at;    /* the @ was seen */
	bool other; /* something that fits neither form */
};

/* scan_quoted - length of "..." or [...], 0 when it does not end */
static size_t
scan_quoted(const char *p, char end)
{
	size_t i;

	for (i = 1; p[i] != '\0'; i++) {
		if (p[i] == end)
			return (i + 1);
		if (p[i] == '\\' && p[++i] == '\0')
			break;
	}
	return (0);
}

/* scan_comment - length of (...), comments in it included; 0: it does not end
 */
static size_t
scan_comment(const char *p)
{
	size_t depth = 0, i;

	for (i = 0; p[i] != '\0'; i++) {
		if (p[i] == '(')
			depth++;
		else if (p[i] == ')' && --depth == 0)
			return (i + 1);
		else if (p[i] == '\\' && p[++i] == '\0')
			break;
	}
	return (0);
}

static bool
is_blank(char c)
{
	return (c == ' ' || c == '\t' || c == '\r' || c == '\n');
}

/* next_token - the token at p; a dot belongs to the atom around it */
static struct token
next_token(const char *p)
{
	struct token t = { SPECIAL, p, 1 };

	if (*p == '\0') {
		t.kind = END;
		t.len = 0;
	} else if (is_blank(*p)) {
		t.kind = BLANK;
		while (is_blank(p[t.len]))
			t.len++;
	} else if (*p == '"') {
		t.len = scan_quoted(p, '"');
		t.kind = t.len != 0 ? QUOTED : BROKEN;
	} else if (*p == '[') {
		t.len = scan_quoted(p, ']');
		t.kind = t.len != 0 ? LITERAL : BROKEN;
	} else if (*p == '(') {
		t.len = scan_comment(p);
		t.kind = t.len != 0 ? COMMENT : BROKEN;
	} else if (*p == ')') {
		t.kind = BROKEN;
	} else if (strchr("<>@,;:]\\", *p) == NULL) {
		t.kind = ATOM;
		t.len = strcspn(p, " \t\r\n\"[]()<>@,;:\\");
	}
	return (t);
}

/* same - compare without case (ASCII) */
static bool
same(struct span a, const char *b)
{
	return (strlen(b) == a.len && strncasecmp(a.p, b, a.len) == 0);
}

static bool
domain_is_listed(const struct masquerade *m, struct span d)
{
	struct span tail;
	size_t i, n;

	for (i = 0; m->domains[i] != NULL; i++) {
		n = strlen(m->domains[i]);
		if (m->domains[i][0] != '.') {
			if (same(d, m->domains[i]))
				return (true);
		} else if (d.len > n) {
			tail.p = d.p + d.len - n;
			tail.len = n;
			if (same(tail, m->domains[i]))
				return (true);
		}
	}
	return (false);
}

/* unquote - the local part as it is meant: "john\.x" is john.x.  room has
 * local.len bytes at least. */
static struct span
unquote(struct span local, char *room)
{
	struct span out = { room, 0 };
	size_t i;
	bool quoted = false;

	for (i = 0; i < local.len; i++) {
		if (local.p[i] == '"') {
			quoted = !quoted;
			continue;
		}
		if (quoted && local.p[i] == '\\' && i + 1 < local.len)
			i++;
		room[out.len++] = local.p[i];
	}
	return (out);
}

static bool
is_exposed(const struct masquerade *m, struct span local, struct span domain)
{
	char room[256]; /* a longer local part is no user's name */
	const char *at;
	struct span user;
	size_t i;

	if (local.len > sizeof(room))
		return (false);
	local = unquote(local, room);
	for (i = 0; m->exposed[i] != NULL; i++) {
		at = strrchr(m->exposed[i], '@');
		if (at == NULL) {
			if (same(local, m->exposed[i]))
				return (true);
			continue;
		}
		user.p = m->exposed[i];
		user.len = (size_t)(at - m->exposed[i]);
		if (user.len == local.len &&
		    strncasecmp(user.p, local.p, user.len) == 0 &&
		    same(domain, at + 1))
			return (true);
	}
	return (false);
}

/* is_changed - whether this address gets the other domain */
static bool
is_changed(const struct masquerade *m, const struct element *e)
{
	if (e->other || !e->at || e->local.p == NULL || e->domain.p == NULL)
		return (false);
	return (domain_is_listed(m, e->domain) && !same(e->domain, m->as) &&
	    !is_exposed(m, e->local, e->domain));
}

/* add_word - an atom or quoted string: part of the local part, or the domain */
static void
add_word(struct element *e, const struct token *t)
{
	struct span *s = e->at ? &e->domain : &e->local;

	if (s->p == NULL) {
		s->p = t->p;
		s->len = t->len;
	} else if (!e->at && s->p + s->len == t->p) {
		s->len += t->len; /* "a".b */
	} else {
		e->other = true;
	}
	if (e->at && t->kind == QUOTED)
		e->other = true;
}

/* add_token - let the element know of a token that does not end it */
static void
add_token(struct element *e, const struct token *t)
{
	switch (t->kind) {
	case ATOM:
	case QUOTED:
		add_word(e, t);
		break;
	case LITERAL:
		e->other = true; /* no name */
		break;
	case SPECIAL:
		if (*t->p != '@' || e->at)
			e->other = true;
		e->at = true;
		break;
	default:
		break; /* blanks and comments mean nothing */
	}
}

/* The value being rewritten: all up to `from` is in out. */
struct walk {
	const struct masquerade *m;
	const char *from;
	char *out; /* NULL: nothing has changed yet */
	size_t len, room;
};

static int
put(struct walk *w, const char *p, size_t n)
{
	size_t room = w->room;
	char *q;

	if (n >= ADDRESS_FIELD_MAX - w->len) {
		errno = EMSGSIZE;
		return (-1);
	}
	while (w->len + n + 1 > room)
		room = room != 0 ? room * 2 : 256;
	if (room != w->room) {
		if ((q = realloc(w->out, room)) == NULL)
			return (-1);
		w->out = q;
		w->room = room;
	}
	memcpy(w->out + w->len, p, n);
	w->len += n;
	w->out[w->len] = '\0';
	return (0);
}

/* end_element - replace the domain if the address is one of ours */
static int
end_element(struct walk *w, struct element *e)
{
	if (is_changed(w->m, e)) {
		if (put(w, w->from, (size_t)(e->domain.p - w->from)) == -1 ||
		    put(w, w->m->as, strlen(w->m->as)) == -1)
			return (-1);
		w->from = e->domain.p + e->domain.len;
	}
	memset(e, 0, sizeof(*e));
	return (0);
}

/*
 * walk_angle - from behind '<' to behind '>'; NULL with errno 0 if there is
 * none.  A route, "<@a,@b:user@c>", is dropped from the view but not the text.
 */
static const char *
walk_angle(struct walk *w, const char *p)
{
	struct element e = { .at = false };
	struct token t;

	for (t = next_token(p);; t = next_token(t.p + t.len)) {
		if (t.kind == END || t.kind == BROKEN) {
			errno = 0;
			return (NULL);
		}
		if (t.kind == SPECIAL && *t.p == '>')
			break;
		if (t.kind == SPECIAL && *t.p == ':' && e.local.p == NULL)
			memset(&e, 0, sizeof(e));
		else if (t.kind == SPECIAL && *t.p == ',' && e.local.p == NULL)
			memset(&e, 0, sizeof(e));
		else
			add_token(&e, &t);
	}
	return (end_element(w, &e) == -1 ? NULL : t.p + 1);
}

/*
 * walk_list - the whole value.  0; -1 with errno, 0 if it cannot be read
 */
static int
walk_list(struct walk *w, const char *p)
{
	struct element e = { .at = false };
	struct token t;

	for (t = next_token(p);; t = next_token(p)) {
		p = t.p + t.len;
		if (t.kind == BROKEN) {
			errno = 0;
			return (-1);
		}
		if (t.kind == END)
			return (end_element(w, &e));
		if (t.kind != SPECIAL || strchr("<,;:", *t.p) == NULL) {
			add_token(&e, &t);
		} else if (*t.p == '<') {
			if ((p = walk_angle(w, p)) == NULL)
				return (-1);
			/* What else is here is a name, not an address. */
			memset(&e, 0, sizeof(e));
			e.other = true;
		} else if (*t.p == ':') {
			memset(&e, 0, sizeof(e)); /* the name of a group */
		} else if (end_element(w, &e) == -1) {
			return (-1);
		}
	}
}

int
address_masquerade_field(
    const struct masquerade *m, const char *value, char **new_r)
{
	struct walk w = { .m = m, .from = value };

	*new_r = NULL;
	if (m->as == NULL)
		return (0);
	if (walk_list(&w, value) == -1 ||
	    (w.out != NULL && put(&w, w.from, strlen(w.from)) == -1)) {
		free(w.out);
		return (errno == 0 ? 0 : -1);
	}
	*new_r = w.out;
	return (w.out != NULL);
}

int
address_masquerade(const struct masquerade *m, const char *addr, char **new_r)
{
	struct element e = { .at = true };
	const char *at = strrchr(addr, '@');
	struct walk w = { .m = m, .from = addr };

	*new_r = NULL;
	if (m->as == NULL || at == NULL || at == addr)
		return (0);
	e.local.p = addr;
	e.local.len = (size_t)(at - addr);
	e.domain.p = at + 1;
	e.domain.len = strlen(at + 1);
	if (end_element(&w, &e) == -1) {
		free(w.out);
		return (-1);
	}
	*new_r = w.out;
	return (w.out != NULL);
}

bool
address_is_domain(const char *s)
{
	size_t label = 0;

	for (; *s != '\0'; s++) {
		if (*s == '.') {
			if (label == 0)
				return (false);
			label = 0;
			continue;
		}
		if ((unsigned char)*s < 0x80 && *s != '-' &&
		    (*s < '0' || *s > '9') && (*s < 'A' || *s > 'Z') &&
		    (*s < 'a' || *s > 'z'))
			return (false);
		if (++label > 63)
			return (false);
	}
	return (label > 0);
}
