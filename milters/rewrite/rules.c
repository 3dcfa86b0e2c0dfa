/* SPDX-License-Identifier: ISC */

/*
 * rules - add, change and delete header fields by regular expressions
 *
 * Values come from the network, patterns from the admin.  A pattern may be
 * slow by mistake: each match has a limit of steps, depth and heap, is never
 * compiled to machine code, and going over a limit is an error, not "does not
 * match".  Patterns work on bytes: with UTF on, mail with bad UTF-8 would fail.
 */

#define PCRE2_CODE_UNIT_WIDTH 8

#include "milters/rewrite/rules.h"

#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct rule {
	char *title;
	char *name;
	char *in;
	char *value;
	pcre2_code *re; /* NULL: no match asked for */
	enum rule_action action;
};

struct text { /* grows to RULE_VALUE_MAX */
	char *p;
	size_t len, room;
};

int
rules_init(struct rules *r, const struct rule_limits *limits)
{
	pcre2_match_context *mc = pcre2_match_context_create(NULL);

	memset(r, 0, sizeof(*r));
	if (mc == NULL) {
		errno = ENOMEM;
		return (-1);
	}
	r->limits = *limits;
	pcre2_set_match_limit(mc, limits->match);
	pcre2_set_depth_limit(mc, limits->depth);
	pcre2_set_heap_limit(mc, limits->heap_kib);
	r->match_context = mc;
	return (0);
}

static void
rule_fini(struct rule *rule)
{
	free(rule->title);
	free(rule->name);
	free(rule->in);
	free(rule->value);
	pcre2_code_free(rule->re);
}

void
rules_fini(struct rules *r)
{
	size_t i;

	for (i = 0; i < r->n; i++)
		rule_fini(&r->list[i]);
	free(r->list);
	pcre2_match_context_free(r->match_context);
	memset(r, 0, sizeof(*r));
}

/* is_name - whether s may be the name of a field (RFC 5322 ftext) */
static bool
is_name(const char *s)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++)
		if (s[i] <= ' ' || s[i] == ':' || s[i] > '~')
			return (false);
	return (i > 0 && i <= 200);
}

/* check_value - NULL, or what is wrong with the template */
static const char *
check_value(const char *value, uint32_t n_groups, bool has_match)
{
	const unsigned char *p;

	for (p = (const unsigned char *)value; *p != '\0'; p++) {
		if (*p == '\n' && p[1] != ' ' && p[1] != '\t')
			return ("a line end must be followed by a blank");
		if ((*p < ' ' && *p != '\t' && *p != '\n') || *p == 0x7f)
			return ("no control bytes are allowed");
		if (*p != '$')
			continue;
		p++;
		if (*p == '$')
			continue;
		if (*p < '0' || *p > '9')
			return ("after $ one of 0 to 9 or another $ is needed");
		if (!has_match)
			return ("$0 to $9 need a match");
		if ((uint32_t)(*p - '0') > n_groups)
			return ("the pattern has fewer groups");
	}
	return (NULL);
}

/* compile - the pattern, NULL with the mistake in text */
static pcre2_code *
compile(const char *pattern, char *text, size_t room)
{
	const uint32_t options = PCRE2_NEVER_UTF | PCRE2_NEVER_BACKSLASH_C;
	PCRE2_UCHAR why[160];
	PCRE2_SIZE at;
	pcre2_code *re;
	int error;

	re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options,
	    &error, &at, NULL);
	if (re == NULL) {
		(void)pcre2_get_error_message(error, why, sizeof(why));
		(void)snprintf(
		    text, room, "at byte %zu: %s", at, (const char *)why);
	}
	return (re);
}

/* check_source - what can be said before the pattern is compiled */
static int
check_source(const struct rule_source *src, const char **option_r, char *text,
    size_t room)
{
	const char *why = NULL;

	if (src->name == NULL || !is_name(src->name)) {
		*option_r = "name";
		why = "the name of a header field is needed";
	} else if (src->in != NULL && !is_name(src->in)) {
		*option_r = "in";
		why = "not the name of a header field";
	} else if (src->in != NULL && src->match == NULL) {
		*option_r = "in";
		why = "it needs a match";
	} else if (src->in != NULL && src->action >= RULE_CHANGE) {
		*option_r = "in";
		why = "change and delete look at the field itself";
	} else if (src->action == RULE_DELETE && src->value != NULL) {
		*option_r = "value";
		why = "delete takes no value";
	} else if (src->action != RULE_DELETE && src->value == NULL) {
		*option_r = "value";
		why = "this action needs a value";
	}
	if (why == NULL)
		return (0);
	(void)snprintf(text, room, "%s", why);
	errno = EINVAL;
	return (-1);
}

static int
copy(char **to, const char *from)
{
	return ((*to = strdup(from)) == NULL ? -1 : 0);
}

/* fill - copy the strings of a rule */
static int
fill(struct rule *rule, const struct rule_source *src)
{
	return (
	    copy(&rule->title, src->title != NULL ? src->title : src->name) |
	    copy(&rule->name, src->name) |
	    copy(&rule->in, src->in != NULL ? src->in : src->name) |
	    (src->value != NULL ? copy(&rule->value, src->value) : 0));
}

int
rules_add(struct rules *r, const struct rule_source *src, const char **option_r,
    char *text, size_t room)
{
	struct rule rule = { .action = src->action }, *p;
	const char *why;
	uint32_t n_groups = 0;

	*option_r = NULL;
	if (check_source(src, option_r, text, room) == -1)
		return (-1);
	if (r->n == RULES_MAX) {
		(void)snprintf(text, room, "more than %d rules", RULES_MAX);
		errno = EINVAL;
		return (-1);
	}
	if (src->match != NULL) {
		*option_r = "match";
		if ((rule.re = compile(src->match, text, room)) == NULL)
			goto bad;
		(void)pcre2_pattern_info(
		    rule.re, PCRE2_INFO_CAPTURECOUNT, &n_groups);
	}
	*option_r = "value";
	if (src->value != NULL &&
	    (why = check_value(src->value, n_groups, src->match != NULL)) !=
	        NULL) {
		(void)snprintf(text, room, "%s", why);
		goto bad;
	}
	p = reallocarray(r->list, r->n + 1, sizeof(*p));
	if (p != NULL)
		r->list = p;
	if (p == NULL || fill(&rule, src) != 0) {
		(void)snprintf(text, room, "no memory");
		rule_fini(&rule);
		errno = ENOMEM;
		return (-1);
	}
	r->list[r->n++] = rule;
	return (0);
bad:
	rule_fini(&rule);
	errno = EINVAL;
	return (-1);
}

int
header_init(struct header *h, size_t n)
{
	memset(h, 0, sizeof(*h));
	h->fields = calloc(n > 0 ? n : 1, sizeof(*h->fields));
	if (h->fields == NULL)
		return (-1);
	h->n = n;
	return (0);
}

void
header_fini(struct header *h)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		free(h->fields[i].text);
	for (i = 0; i < h->n_added; i++)
		free(h->added[i].value);
	free(h->fields);
	free(h->added);
	memset(h, 0, sizeof(*h));
}

static int
put(struct text *t, const char *p, size_t n)
{
	size_t room = t->room;
	char *q;

	if (n > RULE_VALUE_MAX - t->len) {
		errno = EMSGSIZE;
		return (-1);
	}
	while (t->len + n + 1 > room)
		room = room != 0 ? room * 2 : 128;
	if (room != t->room) {
		if ((q = realloc(t->p, room)) == NULL)
			return (-1);
		t->p = q;
		t->room = room;
	}
	memcpy(t->p + t->len, p, n);
	t->len += n;
	t->p[t->len] = '\0';
	return (0);
}

/* put_group - text of the message: control bytes become '?', so that no part
 * of it can begin a line */
static int
put_group(struct text *t, const char *p, size_t n)
{
	size_t at = t->len, i;

	if (put(t, p, n) == -1)
		return (-1);
	for (i = at; i < t->len; i++)
		if (((unsigned char)t->p[i] < ' ' && t->p[i] != '\t') ||
		    t->p[i] == 0x7f)
			t->p[i] = '?';
	return (0);
}

/* expand - the template with $0..$9 from subject; groups that took no part in
 * the match are empty */
static int
expand(const char *value, const char *subject, pcre2_match_data *md,
    struct text *t)
{
	const PCRE2_SIZE *ov =
	    md != NULL ? pcre2_get_ovector_pointer(md) : NULL;
	const char *p;
	size_t g, n;

	if (put(t, "", 0) == -1)
		return (-1);
	for (p = value; *p != '\0'; p += n) {
		n = strcspn(p, "$");
		if (n > 0 || ov == NULL || p[1] == '$') {
			/* "$$" is one; without a match no other is there */
			if (n == 0 && put(t, "$", 1) == -1)
				return (-1);
			if (n > 0 && put(t, p, n) == -1)
				return (-1);
			if (n == 0)
				n = 2;
			continue;
		}
		g = (size_t)(p[1] - '0');
		n = 2;
		if (g < pcre2_get_ovector_count(md) &&
		    ov[2 * g] != PCRE2_UNSET && ov[2 * g + 1] >= ov[2 * g] &&
		    put_group(t, subject + ov[2 * g],
		        ov[2 * g + 1] - ov[2 * g]) == -1)
			return (-1);
	}
	return (0);
}

/*
 * fold - break lines of more than RULE_FOLD_AT columns at a blank; used is
 * the room of "Name: ".  A word that is longer than a line can be stays, and
 * is EMSGSIZE above RULE_LINE_MAX.
 */
static int
fold(struct text *t, size_t used)
{
	struct text out = { NULL, 0, 0 };
	size_t blank = 0, i, start = 0; /* blank: 0 is none since start */
	size_t col = used;

	for (i = 0; i <= t->len; i++) {
		if (i < t->len && t->p[i] == '\n') {
			col = 0;
			blank = 0;
			continue;
		}
		if (i < t->len && ++col > RULE_FOLD_AT && blank > start) {
			if (put(&out, t->p + start, blank - start) == -1 ||
			    put(&out, "\n", 1) == -1)
				goto bad;
			start = blank;
			col = i - blank + 1;
			blank = 0;
		}
		if (col > RULE_LINE_MAX) {
			errno = EMSGSIZE;
			goto bad;
		}
		/* Not at the first of several, nor where only blanks would be
		 * left of a line. */
		if (i > start + 1 && i + 1 < t->len &&
		    (t->p[i] == ' ' || t->p[i] == '\t') && t->p[i + 1] != ' ' &&
		    t->p[i + 1] != '\t' && t->p[i + 1] != '\n' &&
		    t->p[i - 1] != '\n')
			blank = i;
	}
	if (put(&out, t->p + start, t->len - start) == -1)
		goto bad;
	free(t->p);
	*t = out;
	return (0);
bad:
	free(out.p);
	return (-1);
}

/* make_value - the text of a field; *value_r is yours */
static int
make_value(const struct rule *rule, const char *subject, pcre2_match_data *md,
    char **value_r)
{
	struct text t = { NULL, 0, 0 };

	if (expand(rule->value, subject, md, &t) == -1 ||
	    fold(&t, strlen(rule->name) + 2) == -1) {
		free(t.p);
		return (-1);
	}
	*value_r = t.p;
	return (0);
}

/* matches - 1, 0, or -1 with *error the number of PCRE2 */
static int
matches(const struct rules *r, const struct rule *rule, const char *value,
    pcre2_match_data *md, int *error)
{
	int rc = pcre2_match(rule->re, (PCRE2_SPTR)value, strlen(value), 0, 0,
	    md, r->match_context);

	if (rc >= 0)
		return (1);
	if (rc == PCRE2_ERROR_NOMATCH)
		return (0);
	*error = rc;
	errno = rc == PCRE2_ERROR_NOMEMORY ? ENOMEM : E2BIG;
	return (-1);
}

static int
add_field(const struct rule *rule, struct header *h, const char *subject,
    pcre2_match_data *md)
{
	struct new_field *p;

	p = reallocarray(h->added, h->n_added + 1, sizeof(*p));
	if (p == NULL)
		return (-1);
	h->added = p;
	p += h->n_added;
	p->name = rule->name;
	p->insert = rule->action == RULE_INSERT;
	if (make_value(rule, subject, md, &p->value) == -1)
		return (-1);
	h->n_added++;
	return (0);
}

/* unfold - a changed value is again what a pattern expects: one line */
static char *
unfold(const char *value)
{
	char *out = strdup(value), *p, *q;

	if (out == NULL)
		return (NULL);
	for (p = q = out; *p != '\0'; p++)
		if (*p != '\n')
			*q++ = *p;
	*q = '\0';
	return (out);
}

/* change_field - one field whose value matches (or any, without a match) */
static int
change_field(const struct rule *rule, struct field *f, const char *subject,
    pcre2_match_data *md)
{
	char *text;

	if (rule->action == RULE_DELETE) {
		f->deleted = true;
		return (0);
	}
	if (make_value(rule, subject, md, &text) == -1)
		return (-1);
	free(f->text);
	f->value = f->text = text;
	return (0);
}

/* apply_to - one rule to one field of the right name; 1: done with the rule */
static int
apply_to(const struct rules *r, const struct rule *rule, struct header *h,
    struct field *f, pcre2_match_data *md, int *error)
{
	char *line = NULL;
	const char *subject = f->value;
	int rc = 1;

	if (f->text != NULL) {
		if ((line = unfold(f->text)) == NULL)
			return (-1);
		subject = line;
	}
	if (rule->re != NULL)
		rc = matches(r, rule, subject, md, error);
	if (rc == 1 && rule->action >= RULE_CHANGE)
		rc = change_field(rule, f, subject, md);
	else if (rc == 1)
		rc = add_field(rule, h, subject, md) == -1 ? -1 : 1;
	free(line);
	return (rc);
}

/* apply_rule - 0, or -1 with errno and perhaps *error */
static int
apply_rule(const struct rules *r, const struct rule *rule, struct header *h,
    int *error)
{
	pcre2_match_data *md = NULL;
	size_t i;
	int rc = 0, keep;

	if (rule->re == NULL && rule->action <= RULE_INSERT)
		return (add_field(rule, h, "", NULL));
	if (rule->re != NULL) {
		md = pcre2_match_data_create_from_pattern(rule->re, NULL);
		if (md == NULL) {
			errno = ENOMEM;
			return (-1);
		}
	}
	for (i = 0; rc == 0 && i < h->n; i++)
		if (!h->fields[i].deleted &&
		    strcasecmp(h->fields[i].name, rule->in) == 0)
			rc = apply_to(r, rule, h, &h->fields[i], md, error);
	keep = errno;
	pcre2_match_data_free(md);
	errno = keep;
	return (rc == -1 ? -1 : 0);
}

int
rules_apply(const struct rules *r, struct header *h, const char **title_r,
    char *text, size_t room)
{
	PCRE2_UCHAR why[160];
	size_t i;
	int error, keep;

	for (i = 0; i < r->n; i++) {
		error = 0;
		if (apply_rule(r, &r->list[i], h, &error) == 0)
			continue;
		keep = errno;
		*title_r = r->list[i].title;
		if (error != 0) {
			(void)pcre2_get_error_message(error, why, sizeof(why));
			(void)snprintf(text, room, "%s", (const char *)why);
		} else {
			(void)snprintf(text, room, "%s",
			    keep == EMSGSIZE ? "the value gets too long"
			                     : strerror(keep));
		}
		errno = keep;
		return (-1);
	}
	return (0);
}
