/* SPDX-License-Identifier: ISC */

/*
 * settings_change - the rules of a policy: what they change
 *
 * What would let mail past its authoriser is a mistake here: a rule that skips
 * it, does not enforce it, or counts its failure as consent.  A rule on content
 * comes when envelope and recipients have been answered, so it may only take
 * milters away or add some that judge content (design 5.2).
 */

#include "core/conf/reader.h"
#include "core/conf/rule.h"
#include "core/policy/policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
put(struct reader *r, struct conf_node *n, struct rule *rule,
    enum change_kind kind, size_t milter, uint64_t value)
{
	struct change *c =
	    rd_grow(r, &rule->changes, &rule->n_changes, sizeof(*c));

	if (c == NULL)
		return;
	c->kind = kind;
	c->milter = milter;
	c->before = MILTER_NONE;
	c->value = value;
	c->sample = SAMPLE_ALL;
	c->file = n->file;
	c->line = n->line;
}

static bool
is_authoriser(const struct policy *p, size_t milter)
{
	return (p->has_authoriser && p->authoriser == milter);
}

/* milter_of - the milter named by len bytes of a value; -1 after an error */
static long
milter_of(struct reader *r, struct conf_node *n, const char *s, size_t len)
{
	long m = find_milter(r->s, s, len);

	if (m == NOT_FOUND)
		conf_error(r->conf, n, "%s: there is no milter \"%.*s\"",
		    n->name, (int)(len < 100 ? len : 100), s);
	return (m);
}

static bool
named_before(const struct rule *rule, enum change_kind kind, size_t milter)
{
	size_t i;

	for (i = 0; i < rule->n_changes; i++)
		if (rule->changes[i].kind == kind &&
		    rule->changes[i].milter == milter)
			return (true);
	return (false);
}

static void
read_chain(struct reader *r, struct conf_node *n, const struct policy *p,
    struct rule *rule)
{
	size_t i;
	long m;

	if (n->n_values == 0 && n->is_list)
		conf_error(r->conf, n,
		    "chain: an empty list; name the authoriser for it alone");
	if (p->has_authoriser) /* at the head, whether listed or not */
		put(r, n, rule, CHANGE_CHAIN, p->authoriser, 0);
	for (i = 0; i < n->n_values; i++) {
		m = milter_of(r, n, n->values[i], strlen(n->values[i]));
		if (m == NOT_FOUND || is_authoriser(p, (size_t)m))
			continue;
		if (named_before(rule, CHANGE_CHAIN, (size_t)m))
			conf_error(r->conf, n, "%s names \"%s\" twice", n->name,
			    n->values[i]);
		put(r, n, rule, CHANGE_CHAIN, (size_t)m, 0);
	}
}

static void
read_skip(struct reader *r, struct conf_node *n, const struct policy *p,
    struct rule *rule)
{
	size_t i;
	long m;

	for (i = 0; i < n->n_values; i++) {
		m = milter_of(r, n, n->values[i], strlen(n->values[i]));
		if (m == NOT_FOUND)
			continue;
		if (is_authoriser(p, (size_t)m))
			conf_error(r->conf, n,
			    "a rule may not skip the authoriser \"%s\"",
			    n->values[i]);
		put(r, n, rule, CHANGE_SKIP, (size_t)m, 0);
	}
}

/* read_add - "NAME" or "NAME before OTHER" */
static void
read_add(struct reader *r, struct conf_node *n, const struct policy *p,
    struct rule *rule)
{
	const char *v, *before;
	size_t i;
	long m, b = NOT_FOUND;

	for (i = 0; i < n->n_values; i++) {
		v = n->values[i];
		before = strstr(v, " before ");
		m = milter_of(
		    r, n, v, before != NULL ? (size_t)(before - v) : strlen(v));
		if (before != NULL)
			b = milter_of(r, n, before + 8, strlen(before + 8));
		if (m == NOT_FOUND || (before != NULL && b == NOT_FOUND))
			continue;
		if (before != NULL && is_authoriser(p, (size_t)b))
			conf_error(r->conf, n,
			    "add: nothing comes before the authoriser \"%s\"",
			    before + 8);
		if (named_before(rule, CHANGE_SKIP, (size_t)m))
			conf_error(r->conf, n,
			    "the rule skips \"%s\" and adds it",
			    r->s->milters[m].name);
		put(r, n, rule, CHANGE_ADD, (size_t)m, 0);
		if (before != NULL && rule->n_changes > 0)
			rule->changes[rule->n_changes - 1].before = (size_t)b;
	}
}

/* split - "NAME=WORD": the milter and the word's index, or false */
static bool
split(struct reader *r, struct conf_node *n, const char *v,
    const char *const *words, size_t *milter_r, unsigned *word_r)
{
	const char *equals = strchr(v, '=');
	unsigned w;
	long m;

	for (w = 0; equals != NULL && words[w] != NULL; w++)
		if (strcmp(equals + 1, words[w]) == 0)
			break;
	if (equals == NULL || words[w] == NULL) {
		conf_error(r->conf, n, "%s: %s is not MILTER=%s, ...", n->name,
		    v, words[0]);
		return (false);
	}
	if ((m = milter_of(r, n, v, (size_t)(equals - v))) == NOT_FOUND)
		return (false);
	*milter_r = (size_t)m;
	*word_r = w;
	return (true);
}

/* percent_of - "10%", the whole of it; -1 */
static int
percent_of(const char *s)
{
	size_t digits = strspn(s, "0123456789");
	int n = digits >= 1 && digits <= 3 ? atoi(s) : 0;

	return (
	    strcmp(s + digits, "%") == 0 && n >= 1 && n <= SAMPLE_ALL ? n : -1);
}

/* split_mode - "NAME=WORD" or "NAME=WORD:10%" */
static bool
split_mode(struct reader *r, struct conf_node *n, const char *v,
    size_t *milter_r, unsigned *word_r, unsigned *sample_r)
{
	static const char *const words[] = { "enforce", "shadow", "off", NULL };
	const char *colon = strchr(v, ':');
	int percent = SAMPLE_ALL;
	char *plain;
	bool ok;

	if ((plain = strndup(v, strcspn(v, ":"))) == NULL) {
		r->no_memory = true;
		return (false);
	}
	ok = split(r, n, plain, words, milter_r, word_r);
	free(plain);
	if (ok && colon != NULL &&
	    ((percent = percent_of(colon + 1)) == -1 || *word_r == MODE_OFF)) {
		conf_error(r->conf, n,
		    "mode: %s is not MILTER=enforce or MILTER=shadow with :1%% "
		    "to :100%% behind it",
		    v);
		return (false);
	}
	*sample_r = (unsigned)percent;
	return (ok);
}

static void
read_mode(struct reader *r, struct conf_node *n, const struct policy *p,
    struct rule *rule)
{
	unsigned word, sample;
	size_t i, m;

	for (i = 0; i < n->n_values; i++) {
		if (!split_mode(r, n, n->values[i], &m, &word, &sample))
			continue;
		if (is_authoriser(p, m) && word != MODE_ENFORCE)
			conf_error(r->conf, n,
			    "the authoriser \"%s\" must have mode = enforce",
			    r->s->milters[m].name);
		if (is_authoriser(p, m) && sample < SAMPLE_ALL)
			conf_error(r->conf, n,
			    "the authoriser \"%s\" must see every message: no "
			    "sample",
			    r->s->milters[m].name);
		put(r, n, rule, CHANGE_MODE, m, word);
		if (rule->n_changes > 0)
			rule->changes[rule->n_changes - 1].sample = sample;
	}
}

static void
read_failure(struct reader *r, struct conf_node *n, const struct policy *p,
    struct rule *rule)
{
	static const char *const words[] = { "tempfail", "accept", "reject",
		"quarantine", "shutdown", NULL };
	unsigned word;
	size_t i, m;

	for (i = 0; i < n->n_values; i++) {
		if (!split(r, n, n->values[i], words, &m, &word))
			continue;
		if (is_authoriser(p, m) && word == FAIL_ACCEPT)
			conf_error(r->conf, n,
			    "the authoriser \"%s\" may not have on-failure = "
			    "accept",
			    r->s->milters[m].name);
		put(r, n, rule, CHANGE_ON_FAILURE, m, word);
	}
}

/* read_limits - "NAME.connect=5s" */
static void
read_limits(struct reader *r, struct conf_node *n, struct rule *rule)
{
	static const char *const names[] = {
		"connect=", "command=", "message="
	};
	const char *v, *dot;
	uint64_t ms = 0;
	size_t i, k;
	long m;

	for (i = 0; i < n->n_values; i++) {
		v = n->values[i];
		dot = strchr(v, '.');
		for (k = 0; dot != NULL && k < 3; k++)
			if (strncmp(dot + 1, names[k], strlen(names[k])) == 0 &&
			    conf_parse_time_ms(
			        dot + 1 + strlen(names[k]), &ms) == 0 &&
			    ms >= 10 && ms <= 3600 * 1000)
				break;
		if (dot == NULL || k == 3)
			conf_error(r->conf, n,
			    "timeout: %s is not MILTER.connect=, "
			    "MILTER.command= or MILTER.message= with a time "
			    "from 10ms to 1h",
			    v);
		else if ((m = milter_of(r, n, v, (size_t)(dot - v))) !=
		    NOT_FOUND)
			put(r, n, rule,
			    (enum change_kind)(CHANGE_CONNECT_MS + k),
			    (size_t)m, ms);
	}
}

void
read_changes(struct reader *r, struct conf_node *b, const struct policy *p,
    struct rule *rule)
{
	struct conf_node *n;

	if ((n = conf_find(r->conf, b, "chain")) != NULL)
		read_chain(r, n, p, rule);
	if ((n = conf_find(r->conf, b, "skip")) != NULL)
		read_skip(r, n, p, rule);
	if ((n = conf_find(r->conf, b, "add")) != NULL)
		read_add(r, n, p, rule);
	if ((n = conf_find(r->conf, b, "mode")) != NULL)
		read_mode(r, n, p, rule);
	if ((n = conf_find(r->conf, b, "on-failure")) != NULL)
		read_failure(r, n, p, rule);
	if ((n = conf_find(r->conf, b, "timeout")) != NULL)
		read_limits(r, n, rule);
}

/* wrong - a mistake in a rule, where a change of it stands */
static void __attribute__((__format__(printf, 3, 4)))
wrong(struct reader *r, const struct change *c, const char *fmt, ...)
{
	const struct conf_node at = { .file = c->file, .line = c->line };
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	conf_error(r->conf, &at, "%s", text);
}

/* place_in - the milter's place in the policy's own chain, or n_chain */
static size_t
place_in(const struct policy *p, size_t milter)
{
	size_t i = 0;

	while (i < p->n_chain && p->chain[i] != milter)
		i++;
	return (i);
}

/* check_verdict - only what comes after a verdict can depend on it */
static void
check_verdict(struct reader *r, const struct policy *p,
    const struct condition *c, const struct rule *rule)
{
	const struct conf_node at = { .file = c->file, .line = c->line };
	const struct milter_conf *m = r->s->milters;
	size_t i, k;

	for (i = 0; i < c->n_values; i++) {
		size_t judge = c->values[i].milter;

		if (judge == MILTER_NONE)
			continue; /* told already */
		if (!policy_reaches(p, judge)) {
			conf_error(r->conf, &at,
			    "verdict: no chain of this policy has \"%s\"",
			    m[judge].name);
			continue;
		}
		for (k = 0; k < rule->n_changes; k++) {
			const struct change *ch = &rule->changes[k];

			if (ch->kind == CHANGE_SKIP &&
			    place_in(p, ch->milter) <= place_in(p, judge) &&
			    place_in(p, ch->milter) < p->n_chain)
				wrong(r, ch,
				    "\"%s\" is asked before that verdict is "
				    "known",
				    m[ch->milter].name);
			if (ch->kind == CHANGE_ADD && ch->before != MILTER_NONE)
				wrong(r, ch,
				    "a rule on a verdict adds at the end, not "
				    "before \"%s\"",
				    m[ch->before].name);
		}
	}
}

static void
check_content(struct reader *r, const struct rule *rule)
{
	const struct milter_conf *m = r->s->milters;
	size_t i;

	for (i = 0; i < rule->n_changes; i++) {
		const struct change *c = &rule->changes[i];

		if (c->kind == CHANGE_ADD && !m[c->milter].content)
			wrong(r, c,
			    "a rule on size, header or verdict may only add a "
			    "milter with content = yes, which \"%s\" has not",
			    m[c->milter].name);
		else if (c->kind != CHANGE_ADD && c->kind != CHANGE_SKIP) {
			wrong(r, c,
			    "a rule on size, header or verdict may only skip "
			    "or add milters, not change \"%s\"",
			    m[c->milter].name);
			return; /* once is enough for a chain */
		}
	}
}

void
check_changes(struct reader *r, const struct policy *p)
{
	const struct milter_conf *m = r->s->milters;
	size_t i, k;

	for (i = 0; i < p->n_rules; i++) {
		const struct rule *rule = &p->rules[i];

		for (k = 0; k < rule->n_changes; k++) {
			const struct change *c = &rule->changes[k];

			if (!policy_reaches(p, c->milter))
				wrong(r, c,
				    "no chain of this policy has \"%s\"",
				    m[c->milter].name);
			if (c->before != MILTER_NONE &&
			    !policy_reaches(p, c->before))
				wrong(r, c,
				    "no chain of this policy has \"%s\"",
				    m[c->before].name);
		}
		if ((rule->asks & COND_CONTENT) != 0)
			check_content(r, rule);
		for (k = 0; k < rule->n_conditions; k++)
			if (rule->conditions[k].kind == COND_VERDICT)
				check_verdict(r, p, &rule->conditions[k], rule);
	}
}
