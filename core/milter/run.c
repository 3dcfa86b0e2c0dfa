/* SPDX-License-Identifier: ISC */

/*
 * run - the content phase: each milter for the groups that hold it
 *
 * Milters take their turn in the chain's order.  One may begin before its turn
 * when nobody before it that shares a group with it can still change the
 * message; verdicts count in order all the same.  A milter runs once for all of
 * its groups that hold the same version; for each further version a session of
 * its own is told CONNECT to RCPT from memory.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
alive(const struct group *g)
{
	return (g->live && g->out.kind == OUT_NONE);
}

/* holders - groups, as bits, that this milter still concerns */
static uint32_t
holders(const struct chain *c, size_t i)
{
	uint32_t bits = 0;
	size_t k;

	for (k = 0; k < c->n_groups; k++)
		if (alive(&c->groups[k]) &&
		    c->groups[k].modes[i] != PICK_ABSENT)
			bits |= 1u << k;
	return (bits);
}

/* enforced - those of the groups that its edits and verdicts count for */
static uint32_t
enforced(const struct chain *c, size_t i, uint32_t groups)
{
	size_t k;

	for (k = 0; k < c->n_groups; k++)
		if (c->groups[k].modes[i] != MODE_ENFORCE)
			groups &= ~(1u << k);
	return (groups);
}

/* idle - does the content phase not concern it? */
static bool
idle(const struct link *l)
{
	return (l->skipped || l->mode == MODE_OFF || l->out || l->failed ||
	    (l->done && !l->asked));
}

/* may_edit_in - could that session still change what others see? */
static bool
may_edit_in(const struct link *l)
{
	const uint32_t edits = MILTER_MAY_ALL &
	    ~(uint32_t)(MILTER_MAY_QUARANTINE | MILTER_MAY_SET_MACROS);

	if (idle(l))
		return (false);
	return (!conn_ready(l) ||
	    (l->conn->opts.actions & l->conf->may & edits) != 0);
}

/* may_edit - could any of the milter's sessions?  One may have failed while
 * another goes on. */
static bool
may_edit(const struct chain *c, size_t i)
{
	const struct link *l;

	if (may_edit_in(&c->links[i]))
		return (true);
	for (l = c->extras; l != NULL; l = l->next)
		if (l->index == i && may_edit_in(l))
			return (true);
	return (false);
}

/* unsettled - groups whose version may change before milter i's turn */
static uint32_t
unsettled(const struct chain *c, size_t i)
{
	uint32_t bits = 0;
	size_t k;

	for (k = c->at; k < i; k++)
		if (may_edit(c, k))
			bits |= enforced(c, k, holders(c, k));
	return (bits);
}

/* extra_new - a further session of the same milter */
static struct link *
extra_new(struct chain *c, const struct link *first)
{
	struct link *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return (NULL);
	l->chain = c;
	l->index = first->index;
	l->conf = first->conf;
	l->state = first->state;
	l->mode = first->mode;
	l->varies = l->replay = true;
	l->state->sessions++;
	l->next = c->extras;
	c->extras = l;
	return (l);
}

/* same_version - those of the groups that hold what the first of them holds */
static uint32_t
same_version(const struct chain *c, uint32_t groups, struct view **view_r)
{
	uint32_t same = 0;
	size_t k;

	*view_r = NULL;
	for (k = 0; k < c->n_groups; k++) {
		if ((groups & 1u << k) == 0)
			continue;
		if (*view_r == NULL)
			*view_r = c->groups[k].view;
		if (view_same(c->groups[k].view, *view_r))
			same |= 1u << k;
	}
	return (same);
}

static void
start(struct chain *c, size_t i)
{
	static const struct outcome lost = { OUT_TEMPFAIL, NULL };
	struct link *l = &c->links[i];
	uint32_t todo = holders(c, i), same;
	struct view *v;
	size_t k;

	l->started = true;
	if (idle(l) || todo == 0) {
		l->groups = todo;
		return;
	}
	for (;;) {
		same = same_version(c, todo, &v);
		l->groups = same;
		view_unref(&l->view);
		l->view = view_ref(v);
		(void)link_ask(l);
		if ((todo &= ~same) == 0)
			return;
		if ((l = extra_new(c, &c->links[i])) == NULL)
			break;
		l->started = true;
	}
	for (k = 0; k < c->n_groups; k++) /* no memory */
		if ((todo & 1u << k) != 0)
			group_over(&c->groups[k], &lost, "");
}

/* start_all - whoever's turn it is, and who need not wait for it */
static void
start_all(struct chain *c)
{
	size_t i;

	for (i = c->at; i < c->n_links; i++)
		if (!c->links[i].started &&
		    (i == c->at || (holders(c, i) & unsettled(c, i)) == 0))
			start(c, i);
}

/* run_ask - go on with a session; 1 while it waits.  One without groups has
 * nothing to be shown. */
int
run_ask(struct link *l)
{
	return (l->started && l->view != NULL ? link_ask(l) : 0);
}

static bool
busy(struct chain *c, size_t i)
{
	struct link *l;
	bool waits = run_ask(&c->links[i]) == 1;

	for (l = c->extras; l != NULL; l = l->next)
		if (l->index == i && run_ask(l) == 1)
			waits = true;
	return (waits);
}

/* failed - what the failure of a milter means for one of its groups */
static void
failed(struct chain *c, struct link *l, struct group *g)
{
	struct outcome o = { failure_outcome(l->conf->on_failure), NULL };
	char text[400];

	if (l->conf->on_failure == FAIL_QUARANTINE) {
		(void)snprintf(text, sizeof(text), "milter %s failed: %s",
		    l->conf->name, l->why != NULL ? l->why : "");
		group_hold(g, text, l->conf->name);
	}
	if (l->conf->on_failure == FAIL_ACCEPT && !l->noted_open) {
		l->noted_open = true;
		l->state->fail_opens++;
		engine_alarm(c->engine, l->conf->name,
		    l->why != NULL ? l->why : "failed");
	}
	if (o.kind != OUT_CONTINUE)
		group_over(g, &o, l->conf->name);
}

static void
judge_group(struct chain *c, struct link *l, struct group *g)
{
	g->ran[l->index] = l;
	if (g->modes[l->index] != MODE_ENFORCE)
		return;
	if (l->failed)
		failed(c, l, g);
	else if (l->verdict.kind != OUT_NONE)
		group_over(g, &l->verdict, l->conf->name);
	else if (l->asked && outcome_verdict(l->now.kind) != CHAIN_CONTINUE)
		group_over(g, &l->now, l->conf->name);
}

/* hold - quarantines that it asked for, with a verdict that lets pass */
static void
hold(struct chain *c, struct link *l, uint32_t groups)
{
	size_t i, k;

	for (i = 0; i < l->edits.n; i++) {
		if (l->edits.v[i].e.code != MILTER_QUARANTINE)
			continue;
		l->state->quarantines++;
		for (k = 0; k < c->n_groups; k++)
			if ((groups & 1u << k) != 0)
				group_hold(&c->groups[k], l->edits.v[i].e.name,
				    l->conf->name);
	}
}

/* judge - one session has said what it had to say: its edits count, together
 * or not at all, then its verdict */
static void
judge(struct chain *c, struct link *l)
{
	uint32_t groups = l->groups & holders(c, l->index);
	enum outcome_kind kind = OUT_ACCEPT;
	size_t k;

	if (groups == 0 || l->skipped || l->mode == MODE_OFF)
		return;
	if (l->asked && !l->failed &&
	    (l->now.kind == OUT_CONTINUE || l->now.kind == OUT_ACCEPT)) {
		if (edits_apply(l, groups) == -1)
			link_fail(l, false, "changes: %s", strerror(errno));
		else
			hold(c, l, enforced(c, l->index, groups));
		edits_clear(&l->edits);
	}
	if (l->verdict.kind != OUT_NONE)
		kind = l->verdict.kind;
	else if (l->asked)
		kind = l->now.kind;
	if (!l->failed)
		record_final(l, kind);
	for (k = 0; k < c->n_groups; k++)
		if ((groups & 1u << k) != 0)
			judge_group(c, l, &c->groups[k]);
}

static void
judge_all(struct chain *c, size_t i)
{
	struct link *l;

	judge(c, &c->links[i]);
	for (l = c->extras; l != NULL; l = l->next)
		if (l->index == i)
			judge(c, l);
}

/* find - the first group with that outcome, or NULL */
static struct group *
find(struct chain *c, enum outcome_kind kind)
{
	size_t k;

	for (k = 0; k < c->n_groups; k++)
		if (c->groups[k].live && c->groups[k].out.kind == kind)
			return (&c->groups[k]);
	return (NULL);
}

/* conclude - the answer to all of it: see chain_answer.groups */
static void
conclude(struct chain *c)
{
	static const enum outcome_kind order[] = { OUT_SHUTDOWN, OUT_NONE,
		OUT_TEMPFAIL, OUT_REJECT, OUT_DISCARD };
	struct group *g = NULL;
	size_t i;

	c->concluded = true;
	for (i = 0; i < 5 && g == NULL; i++)
		g = find(c, order[i]);
	if (g == NULL || g->out.kind == OUT_NONE ||
	    (g->out.kind == OUT_REJECT && find(c, OUT_DISCARD) != NULL))
		chain_answer(c, OUT_CONTINUE, "", NULL);
	else
		chain_answer(
		    c, g->out.kind, outcome_text(&g->out, false), g->by);
}

/* run_step - go on with the content phase as far as it goes */
void
run_step(struct chain *c)
{
	while (!c->answered) {
		if (c->at == c->n_links || find(c, OUT_NONE) == NULL) {
			conclude(c);
			return;
		}
		start_all(c);
		if (busy(c, c->at))
			return;
		judge_all(c, c->at++);
	}
}

/* run_rcpts - the recipients of a further session, from memory.  The message's
 * own may differ from what was shown, so the memory is the chain's. */
int
run_rcpts(struct link *l)
{
	enum { ARGS_MAX = 32 };
	struct chain *c = l->chain;
	const char *args[ARGS_MAX], *p;
	size_t i, k;
	int r = 0;

	for (i = 0; i < c->n_seen && r == 0; i++) {
		const struct seen_rcpt *s = &c->seen[i];

		if ((l->groups & 1u << s->group) == 0 || s->n_args > ARGS_MAX)
			continue;
		for (k = 0, p = s->text; k < s->n_args; k++)
			args[k] = p += strlen(p) + 1;
		c->rcpt = s->text;
		c->rcpt_args = args;
		c->n_rcpt_args = s->n_args;
		c->route = s->routed ? &s->route : NULL;
		r = link_rcpt(l);
	}
	c->rcpt = NULL;
	c->rcpt_args = NULL;
	c->n_rcpt_args = 0;
	c->route = NULL;
	return (r);
}
