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

#define ANY_EDIT                                                               \
	((uint32_t)MILTER_MAY_ALL &                                            \
	    ~(uint32_t)(MILTER_MAY_QUARANTINE | MILTER_MAY_SET_MACROS))
/* what milters behind see; of the envelope they have seen what it was */
#define CONTENT_EDIT                                                           \
	((uint32_t)(MILTER_MAY_ADD_HEADERS | MILTER_MAY_CHANGE_HEADERS |       \
	    MILTER_MAY_CHANGE_BODY))

static bool
alive(const struct group *g)
{
	return (g->live && g->out.kind == OUT_NONE);
}

/* holders - groups, as bits, that this milter still concerns.  Those that have
 * it in shadow come later: see shadow.c. */
static uint32_t
holders(const struct chain *c, size_t index)
{
	uint32_t bits = 0;
	size_t k;

	for (k = 0; k < c->n_groups; k++) {
		uint8_t mode = c->groups[k].modes[index];

		if (alive(&c->groups[k]) && mode != PICK_ABSENT &&
		    (mode != MODE_SHADOW || c->detached))
			bits |= 1u << k;
	}
	return (bits);
}

/* enforced - those of the groups that its edits and verdicts count for */
static uint32_t
enforced(const struct chain *c, size_t index, uint32_t groups)
{
	size_t k;

	for (k = 0; k < c->n_groups; k++)
		if (c->groups[k].modes[index] != MODE_ENFORCE)
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

/* may - one of those changes? */
static bool
may(const struct link *l, uint32_t edits)
{
	if (idle(l))
		return (false);
	return (!conn_ready(l) ||
	    (l->conn->opts.actions & l->conf->may & edits) != 0);
}

bool
link_may_edit(const struct link *l)
{
	return (may(l, ANY_EDIT));
}

bool
link_may_change(const struct link *l)
{
	return (may(l, CONTENT_EDIT));
}

/* may_any - could any of the milter's sessions?  One may have failed while
 * another goes on. */
static bool
may_any(const struct chain *c, size_t index, uint32_t edits)
{
	const struct link *l;

	if (may(&c->all[index], edits))
		return (true);
	for (l = c->extras; l != NULL; l = l->next)
		if (l->index == index && may(l, edits))
			return (true);
	return (false);
}

/* unsettled - groups for which one of those changes may still be made before
 * milter i's turn */
static uint32_t
unsettled(const struct chain *c, size_t i, uint32_t edits)
{
	uint32_t bits = 0;
	size_t k, index;

	for (k = c->at; k < i; k++) {
		index = c->links[k]->index;
		if (may_any(c, index, edits))
			bits |= enforced(c, index, holders(c, index));
	}
	index = c->links[i]->index;
	for (k = 0; k < c->n_groups; k++)
		if (c->groups[k].live && decide_waits(c, &c->groups[k], index))
			bits |= 1u << k;
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
	l->milter = first->milter;
	l->index = first->index;
	l->shared = first->shared;
	l->own = first->own;
	l->conf = &l->own;
	l->state = first->state;
	l->mode = first->mode;
	l->varies = l->extra = true;
	/* All that it is told now has been answered: with "continue". */
	l->told_connect = l->told_mail = true;
	l->told_helo = c->helo;
	l->retold = 1;
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

/* late - those of the groups with a recipient that the milter has not been
 * shown: a rule on content has put it into their chain */
static uint32_t
late(const struct chain *c, const struct link *l, uint32_t groups)
{
	uint32_t bits = 0;
	size_t i;

	if ((c->asks & COND_CONTENT) == 0)
		return (0);
	for (i = 0; i < c->n_shown; i++)
		if (c->shown[i].accepted &&
		    (groups & 1u << c->shown[i].group) != 0 &&
		    (i >= l->heard_cap || !l->heard[i].put))
			bits |= 1u << c->shown[i].group;
	return (bits);
}

/* set_limits - the longest of those that its groups' rules give it */
static void
set_limits(struct chain *c, struct link *l)
{
	struct milter_conf *m = &l->own;
	bool first = true;
	size_t k;

	for (k = 0; k < c->n_groups; k++) {
		const struct policy_step *s;

		if ((l->groups & 1u << k) == 0 ||
		    (s = group_step(&c->groups[k], l)) == NULL)
			continue;
		if (first || s->connect_ms > m->connect_ms)
			m->connect_ms = s->connect_ms;
		if (first || s->command_ms > m->command_ms)
			m->command_ms = s->command_ms;
		if (first || s->message_ms > m->message_ms)
			m->message_ms = s->message_ms;
		first = false;
	}
}

static void
note_before(struct link *l)
{
	l->before.n_stages = l->n_stages;
	l->before.endpoint = l->endpoint;
	l->before.retold = l->retold;
	free(l->before.fault);
	l->before.fault = l->fault != NULL ? strdup(l->fault) : NULL;
}

/* begin - one session, for groups that hold the same version */
static int
begin(struct chain *c, struct link *l, uint32_t groups, struct view *v)
{
	struct link *main = &c->all[l->index];

	l->started = true;
	l->groups = groups;
	view_unref(&l->view);
	l->view = view_ref(v);
	note_before(l);
	set_limits(c, l);
	if ((l != main || late(c, l, groups) != 0) &&
	    replay_tell(l, groups, main) == -1)
		return (-1);
	(void)link_ask(l);
	return (0);
}

static void
start(struct chain *c, size_t i)
{
	static const struct outcome lost = { OUT_TEMPFAIL, NULL };
	struct link *l = c->links[i];
	uint32_t todo = holders(c, l->index), same, mine = todo;
	struct view *v;
	size_t k;

	l->started = true;
	if (idle(l) || todo == 0) {
		l->groups = todo;
		return;
	}
	if (l->sent_data) /* no recipient can follow */
		mine &= ~late(c, l, todo);
	if (mine == 0)
		l->groups = 0;
	while (todo != 0) {
		if (mine == 0 && (l = extra_new(c, c->links[i])) == NULL)
			break;
		same = same_version(c, mine != 0 ? mine : todo, &v);
		mine = 0;
		if (begin(c, l, same, v) == -1)
			break;
		todo &= ~same;
	}
	for (k = 0; k < c->n_groups; k++) /* no memory */
		if ((todo & 1u << k) != 0)
			group_over(&c->groups[k], &lost, "");
}

/* early - may it begin before its turn?  Nobody before it may still change what
 * it is shown; and if it needs several sessions for its groups, it waits to see
 * which of them are left by then. */
static bool
early(const struct chain *c, size_t i)
{
	const struct link *l = c->links[i];
	uint32_t todo = holders(c, l->index);
	struct view *v;

	return (!c->settings->policies[c->policy].serial &&
	    (todo & unsettled(c, i, CONTENT_EDIT)) == 0 &&
	    late(c, l, todo) == 0 && same_version(c, todo, &v) == todo);
}

/* start_all - whoever's turn it is, and who need not wait for it */
static void
start_all(struct chain *c)
{
	size_t i;

	for (i = c->at; i < c->n_links; i++) {
		struct link *l = c->links[i];

		if (!l->started && !l->stopped && (i == c->at || early(c, i)))
			start(c, i);
		else if (l->pumping && i > c->at)
			(void)run_ask(l); /* its end may be told now */
	}
}

bool
run_may_end(const struct link *l)
{
	const struct chain *c = l->chain;
	size_t i = c->at;

	if (c->streaming)
		return (false);
	while (i < c->n_links && c->links[i]->index != l->index)
		i++;
	return (i >= c->n_links || i == c->at ||
	    (l->groups & unsettled(c, i, ANY_EDIT)) == 0);
}

/* run_ask - go on with a session; 1 while it waits.  One without groups has
 * nothing to be shown. */
int
run_ask(struct link *l)
{
	return (l->started && !l->stopped && l->view != NULL ? link_ask(l) : 0);
}

static bool
busy(struct chain *c, size_t i)
{
	struct link *l, *main = c->links[i];
	bool waits = run_ask(main) == 1;

	for (l = c->extras; l != NULL; l = l->next)
		if (l->index == main->index && run_ask(l) == 1)
			waits = true;
	return (waits);
}

enum fail_action
group_failure(const struct group *g, const struct link *l)
{
	const struct policy_step *step = group_step(g, l);

	return (step != NULL ? step->on_failure : l->conf->on_failure);
}

/* failed - what the failure of a milter means for one of its groups */
static void
failed(struct link *l, struct group *g)
{
	enum fail_action action = group_failure(g, l);
	struct outcome o = { failure_outcome(action), NULL };
	char text[400];

	if (action == FAIL_QUARANTINE) {
		(void)snprintf(text, sizeof(text), "milter %s failed: %s",
		    l->conf->name, l->why != NULL ? l->why : "");
		group_hold(g, text, l->conf->name);
	}
	if (action == FAIL_ACCEPT)
		link_fail_open(l);
	if (o.kind != OUT_CONTINUE)
		group_over(g, &o, l->conf->name);
}

/* note_verdict - with which the group goes on: rules may ask about it */
static void
note_verdict(
    struct chain *c, struct link *l, struct group *g, enum policy_answer a)
{
	static const struct outcome lost = { OUT_TEMPFAIL, NULL };

	if ((c->asks & COND_BIT(COND_VERDICT)) == 0 || !alive(g) ||
	    g->n_verdicts == c->n_all)
		return;
	g->verdicts[g->n_verdicts++] = (struct policy_verdict){ l->milter, a };
	if (decide_content(c, g) == 0)
		return;
	log_warning("%s: policy: no chain after milter=%s: %s", c->id,
	    l->conf->name, strerror(errno));
	group_over(g, &lost, "");
}

static void
judge_group(
    struct chain *c, struct link *l, struct group *g, enum policy_answer a)
{
	g->ran[l->index] = l;
	if (g->modes[l->index] != MODE_ENFORCE)
		return;
	if (l->failed)
		failed(l, g);
	else if (l->kept.kind != OUT_NONE)
		group_over(g, &l->kept, l->conf->name);
	else if (l->verdict.kind != OUT_NONE)
		group_over(g, &l->verdict, l->conf->name);
	else if (l->asked && outcome_verdict(l->now.kind) != CHAIN_CONTINUE)
		group_over(g, &l->now, l->conf->name);
	note_verdict(c, l, g, l->failed ? ANSWERED_FAILED : a);
}

/* hold - quarantines that it asked for, with a verdict that lets pass */
static bool
hold(struct chain *c, struct link *l, uint32_t groups)
{
	bool any = false;
	size_t i, k;

	for (i = 0; i < l->edits.n; i++) {
		if (l->edits.v[i].e.code != MILTER_QUARANTINE ||
		    link_held(l)) /* an authoriser: the rest are not asked */
			continue;
		any = true;
		l->state->quarantines++;
		for (k = 0; k < c->n_groups; k++)
			if ((groups & 1u << k) != 0)
				group_hold(&c->groups[k], l->edits.v[i].e.name,
				    l->conf->name);
	}
	return (any);
}

/* unhear - it ran ahead of its turn, and the message was decided before that
 * came: what it said or failed in never happened, as if it had waited */
static void
unhear(struct link *l)
{
	if (l->view == NULL)
		return;
	record_cut(l, l->before.n_stages);
	l->unheard = true;
	l->endpoint = l->before.endpoint;
	l->retold = l->before.retold;
	free(l->fault);
	l->fault = l->before.fault;
	l->before.fault = NULL;
	l->failed = l->poisoned = false;
	free(l->why);
	l->why = NULL;
	l->dropped = 0;
	outcome_clear(&l->verdict);
}

static void
unhear_all(struct chain *c, struct link *main)
{
	struct link *l;

	unhear(main);
	for (l = c->extras; l != NULL; l = l->next)
		if (l->index == main->index)
			unhear(l);
}

/* judge - one session has said what it had to say: its edits count, together
 * or not at all, then its verdict */
static void
judge(struct chain *c, struct link *l)
{
	uint32_t groups = l->groups & holders(c, l->index);
	enum outcome_kind kind = OUT_ACCEPT;
	bool held = false;
	size_t k;

	if (l->skipped || l->mode == MODE_OFF)
		return;
	if (groups == 0) {
		unhear(l);
		return;
	}
	l->counts = true;
	if (l->asked && !l->failed &&
	    (l->now.kind == OUT_CONTINUE || l->now.kind == OUT_ACCEPT)) {
		if (edits_apply(l, groups) == -1)
			link_fail(l, false, "changes: %s", strerror(errno));
		else
			held = hold(c, l, enforced(c, l->index, groups));
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
			judge_group(c, l, &c->groups[k],
			    held                     ? ANSWERED_QUARANTINE
			        : kind == OUT_ACCEPT ? ANSWERED_ACCEPT
			                             : ANSWERED_CONTINUE);
}

static void
judge_all(struct chain *c, size_t i)
{
	struct link *l, *main = c->links[i];

	shadow_seen(c, i);
	judge(c, main);
	for (l = c->extras; l != NULL; l = l->next)
		if (l->index == main->index)
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
	for (i = c->at; i < c->n_links; i++)
		unhear_all(c, c->links[i]);
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
		judge_all(c, c->at);
		c->at++;
	}
}
