/* SPDX-License-Identifier: ISC */

/*
 * policy - from a policy's rules and the facts to a chain
 *
 * What a rule may change was checked when the settings were read: here no
 * authoriser can be skipped, since no such change exists.
 */

#include "core/policy/policy_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The chain in the making: a step for each milter in reach, so that mode,
 * failure action and limits are kept of those that are not in the chain now. */
struct work {
	const struct policy *policy;
	struct policy_step *all; /* as policy->reach */
	size_t *order;           /* indices into all */
	size_t n;
	struct policy_chain *out;
};

void
policy_chain_fini(struct policy_chain *c)
{
	free(c->steps);
	free(c->rules);
	free(c->open);
	memset(c, 0, sizeof(*c));
}

/* at - the step of a milter in reach */
static size_t
at(const struct work *w, size_t milter)
{
	size_t i = 0;

	while (w->policy->reach[i] != milter)
		i++;
	return (i);
}

/* place_of - where in the order the step is, or n */
static size_t
place_of(const struct work *w, size_t step)
{
	size_t i = 0;

	while (i < w->n && w->order[i] != step)
		i++;
	return (i);
}

static void
begin(struct work *w, const struct settings *s)
{
	const struct policy *p = w->policy;
	size_t i;

	for (i = 0; i < p->n_reach; i++) {
		const struct milter_conf *m = &s->milters[p->reach[i]];
		struct policy_step *step = &w->all[i];

		step->milter = p->reach[i];
		step->mode = m->mode;
		step->sample = m->sample;
		step->on_failure = m->on_failure;
		step->connect_ms = m->connect_ms;
		step->command_ms = m->command_ms;
		step->message_ms = m->message_ms;
	}
	for (; w->n < p->n_chain; w->n++) {
		i = at(w, p->chain[w->n]);
		w->order[w->n] = i;
		w->all[i].in = (struct policy_by){ NULL, p->file, p->line };
	}
}

/* add - into the chain, if it is not there; it is asked in either case */
static void
add(struct work *w, const struct change *c, const struct policy_by *by)
{
	size_t step = at(w, c->milter), place = w->n;

	if (place_of(w, step) == w->n) {
		if (c->before != MILTER_NONE)
			place = place_of(w, at(w, c->before));
		memmove(&w->order[place + 1], &w->order[place],
		    (w->n - place) * sizeof(*w->order));
		w->order[place] = step;
		w->n++;
		w->all[step].in = *by;
	} else if (w->all[step].skipped)
		w->all[step].in = *by;
	w->all[step].skipped = false;
}

static void
apply_one(struct work *w, const struct change *c, const struct policy_by *by)
{
	struct policy_step *step = &w->all[at(w, c->milter)];

	switch (c->kind) {
	case CHANGE_CHAIN:
	case CHANGE_ADD:
		add(w, c, by);
		break;
	case CHANGE_SKIP:
		step->skipped = true;
		step->skip = *by;
		break;
	case CHANGE_MODE:
		step->mode = (enum milter_mode)c->value;
		step->sample = c->sample;
		step->by_mode = *by;
		break;
	case CHANGE_ON_FAILURE:
		step->on_failure = (enum fail_action)c->value;
		step->by_failure = *by;
		break;
	case CHANGE_CONNECT_MS:
		step->connect_ms = c->value;
		step->by_limits = *by;
		break;
	case CHANGE_COMMAND_MS:
		step->command_ms = c->value;
		step->by_limits = *by;
		break;
	case CHANGE_MESSAGE_MS:
		step->message_ms = c->value;
		step->by_limits = *by;
		break;
	}
}

static void
apply(struct work *w, const struct rule *r)
{
	size_t i;

	w->out->rules[w->out->n_rules++] = r;
	if (r->has_on_mixed)
		w->out->on_mixed = r->on_mixed;
	/* A chain takes the place of what was there, skipped ones too. */
	for (i = 0;
	     r->n_changes > 0 && r->changes[0].kind == CHANGE_CHAIN && i < w->n;
	     i++)
		w->all[w->order[i]].skipped = false;
	if (r->n_changes > 0 && r->changes[0].kind == CHANGE_CHAIN)
		w->n = 0;
	for (i = 0; i < r->n_changes; i++) {
		const struct change *c = &r->changes[i];
		const struct policy_by by = { r, c->file, c->line };

		apply_one(w, c, &by);
	}
}

/* pass - the rules with a condition on content, or those without */
static int
pass(struct work *w, const struct policy_facts *f, bool content)
{
	const struct policy *p = w->policy;
	enum fits fits;
	size_t i;

	for (i = 0; i < p->n_rules; i++) {
		const struct rule *r = &p->rules[i];

		if (((r->asks & COND_CONTENT) != 0) != content)
			continue;
		if (rule_fits(r, f, &fits) == -1)
			return (-1);
		if (fits == FITS_YES)
			apply(w, r);
		else if (fits == FITS_OPEN)
			w->out->open[w->out->n_open++] = r;
		if (fits != FITS_NO && (p->first || r->last))
			break;
	}
	return (0);
}

int
policy_decide(const struct settings *s, size_t policy,
    const struct policy_facts *f, struct policy_chain *out)
{
	const struct policy *p = &s->policies[policy];
	struct work w = { .policy = p, .out = out };
	size_t i;
	int rc = -1;

	memset(out, 0, sizeof(*out));
	w.all = calloc(p->n_reach + 1, sizeof(*w.all));
	w.order = calloc(p->n_reach + 1, sizeof(*w.order));
	out->steps = calloc(p->n_reach + 1, sizeof(*out->steps));
	out->rules = calloc(p->n_rules + 1, sizeof(*out->rules));
	out->open = calloc(p->n_rules + 1, sizeof(*out->open));
	if (w.all == NULL || w.order == NULL || out->steps == NULL ||
	    out->rules == NULL || out->open == NULL) {
		errno = ENOMEM;
		goto done;
	}
	out->on_mixed = p->on_mixed;
	begin(&w, s);
	if (pass(&w, f, false) == -1 || pass(&w, f, true) == -1)
		goto done;
	for (i = 0; i < w.n; i++)
		out->steps[i] = w.all[w.order[i]];
	out->n_steps = w.n;
	rc = 0;

done:
	free(w.all);
	free(w.order);
	if (rc == -1) {
		int saved = errno;

		policy_chain_fini(out);
		errno = saved;
	}
	return (rc);
}

/* asked - the next step that asks a milter, or n_steps */
static size_t
asked(const struct policy_chain *c, size_t i)
{
	while (i < c->n_steps &&
	    (c->steps[i].skipped || c->steps[i].mode == MODE_OFF))
		i++;
	return (i);
}

bool
policy_chain_same(const struct policy_chain *a, const struct policy_chain *b)
{
	size_t i = asked(a, 0), k = asked(b, 0);

	for (; i < a->n_steps && k < b->n_steps;
	     i = asked(a, i + 1), k = asked(b, k + 1)) {
		const struct policy_step *x = &a->steps[i], *y = &b->steps[k];

		if (x->milter != y->milter || x->mode != y->mode ||
		    x->sample != y->sample || x->on_failure != y->on_failure ||
		    x->connect_ms != y->connect_ms ||
		    x->command_ms != y->command_ms ||
		    x->message_ms != y->message_ms)
			return (false);
	}
	return (i == a->n_steps && k == b->n_steps);
}

bool
policy_reaches(const struct policy *p, size_t milter)
{
	size_t i;

	for (i = 0; i < p->n_reach; i++)
		if (p->reach[i] == milter)
			return (true);
	return (false);
}

/* mark - the milters that the rule concerns: those that it names, and if it has
 * a chain of its own all others, which are not in that one */
static void
mark(const struct policy *p, const struct rule *r, bool *marks)
{
	bool all = r->n_changes > 0 && r->changes[0].kind == CHANGE_CHAIN;
	size_t i, k;

	for (i = 0; i < p->n_reach; i++)
		for (k = 0; k < r->n_changes && !marks[i]; k++)
			marks[i] = all || r->changes[k].milter == p->reach[i];
}

/* undecided - of one pass.  What stands behind an open rule that may end the
 * pass is as open. */
static int
undecided(
    const struct policy *p, const struct policy_facts *f, bool content, bool *m)
{
	bool behind = false;
	enum fits fits;
	size_t i;

	for (i = 0; i < p->n_rules; i++) {
		const struct rule *r = &p->rules[i];

		if (((r->asks & COND_CONTENT) != 0) != content)
			continue;
		if (rule_fits(r, f, &fits) == -1)
			return (-1);
		if (fits == FITS_OPEN || (fits == FITS_YES && behind))
			mark(p, r, m);
		if (fits == FITS_YES && !behind && (p->first || r->last))
			break;
		if (fits == FITS_OPEN && (p->first || r->last))
			behind = true;
	}
	return (0);
}

int
policy_undecided(const struct settings *s, size_t policy,
    const struct policy_facts *f, bool *undecided_r)
{
	const struct policy *p = &s->policies[policy];

	memset(undecided_r, 0, p->n_reach * sizeof(*undecided_r));
	return (undecided(p, f, false, undecided_r) == -1 ||
	            undecided(p, f, true, undecided_r) == -1
	        ? -1
	        : 0);
}

int
policy_pending(const struct settings *s, size_t policy,
    const struct policy_facts *f, bool *pending_r)
{
	const struct policy *p = &s->policies[policy];
	enum fits fits;
	size_t i;

	for (i = 0; i < p->n_rules; i++) {
		pending_r[i] = false;
		if ((p->rules[i].asks & COND_CONTENT) == 0)
			continue;
		if (rule_fits(&p->rules[i], f, &fits) == -1)
			return (-1);
		pending_r[i] = fits != FITS_NO;
	}
	return (0);
}

uint32_t
policy_asks(const struct policy *p)
{
	uint32_t bits = 0;
	size_t i;

	for (i = 0; i < p->n_rules; i++)
		bits |= p->rules[i].asks;
	return (bits);
}

unsigned
policy_week_minute(time_t t)
{
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL)
		return (0);
	return ((unsigned)((tm.tm_wday + 6) % 7 * 24 * 60 + tm.tm_hour * 60 +
	    tm.tm_min));
}
