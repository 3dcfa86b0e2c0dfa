/* SPDX-License-Identifier: ISC */

/*
 * groups - recipients of a message by the chain that each has
 *
 * Recipients with the same chain are one group, made at its first recipient.
 * In the content phase each group has a version of the message and an envelope
 * of its own.
 */

#include "core/milter/chain_int.h"

#include "quarantine/quarantine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
group_fini(struct group *g)
{
	policy_chain_fini(&g->chain);
	free(g->rcpt);
	free(g->pending);
	free(g->modes);
	free(g->ran);
	free(g->seen);
	free(g->verdicts);
}

struct group *
groups_find(const struct chain *c, const struct policy_chain *chain,
    const bool *pending, const uint8_t *modes)
{
	size_t n = c->settings->policies[c->policy].n_rules, i;

	for (i = 0; i < c->n_groups; i++) {
		const struct group *g = &c->groups[i];

		if (memcmp(modes, g->modes, c->n_all) == 0 &&
		    memcmp(pending, g->pending, n * sizeof(*pending)) == 0 &&
		    policy_chain_same(chain, &g->chain))
			return (&c->groups[i]);
	}
	return (NULL);
}

struct group *
groups_add(
    struct chain *c, struct policy_chain *chain, bool *pending, uint8_t *modes)
{
	size_t cap = c->n_groups == 0 ? 1 : 2 * c->n_groups;
	struct group *g,
	    one = { .chain = *chain,
		    .pending = pending,
		    .modes = modes,
		    .ran = calloc(c->n_all + 1, sizeof(*one.ran)),
		    .verdicts = calloc(c->n_all + 1, sizeof(*one.verdicts)) };

	/* Room doubles at powers of two; a session mostly keeps one. */
	if (one.ran == NULL || one.verdicts == NULL)
		goto bad;
	if ((c->n_groups & (c->n_groups - 1)) == 0) {
		g = realloc(c->groups, cap * sizeof(*g));
		if (g == NULL)
			goto bad;
		c->groups = g;
	}
	c->groups[c->n_groups] = one;
	return (&c->groups[c->n_groups++]);

bad:
	group_fini(&one);
	return (NULL);
}

struct group *
groups_first(const struct chain *c)
{
	size_t i;

	for (i = 0; i < c->n_groups; i++)
		if (c->groups[i].n_rcpts > 0)
			return (&c->groups[i]);
	return (NULL);
}

const struct policy_step *
group_step(const struct group *g, const struct link *l)
{
	size_t i;

	for (i = 0; i < g->chain.n_steps; i++)
		if (g->chain.steps[i].milter == l->milter)
			return (&g->chain.steps[i]);
	return (NULL);
}

/* some_have - is the milter in the chain of any recipient? */
static bool
some_have(const struct chain *c, const struct link *l)
{
	size_t i;

	for (i = 0; i < c->n_groups; i++)
		if (c->groups[i].n_rcpts > 0 &&
		    c->groups[i].modes[l->index] != PICK_ABSENT)
			return (true);
	return (c->n_groups == 0);
}

/* groups_mode - of a milter for the recipient in hand; at DATA one that no
 * recipient has is off: libmilter would be silent, without a RCPT */
enum milter_mode
groups_mode(const struct chain *c, const struct link *l)
{
	uint8_t mode;

	if (l->sampled && (c->q == Q_CONNECT || c->q == Q_HELO))
		return (MODE_OFF); /* told with its messages */
	if (c->q == Q_DATA && l->varies && !some_have(c, l))
		return (MODE_OFF);
	if (c->q != Q_RCPT || c->group >= c->n_groups)
		return (l->skipped ? MODE_OFF : l->mode);
	mode = c->groups[c->group].modes[l->index];
	return (mode == PICK_ABSENT ? MODE_OFF : (enum milter_mode)mode);
}

/* groups_failure - what a failure of the milter means for the recipient in
 * hand, or for all */
enum fail_action
groups_failure(const struct chain *c, const struct link *l)
{
	const struct policy_step *step = NULL;

	if (c->q == Q_RCPT && c->group < c->n_groups)
		step = group_step(&c->groups[c->group], l);
	return (step != NULL ? step->on_failure : l->conf->on_failure);
}

bool
groups_all_have(const struct chain *c, const struct link *l)
{
	size_t i;

	for (i = 0; i < c->n_groups; i++)
		if (c->groups[i].n_rcpts > 0 &&
		    c->groups[i].modes[l->index] != MODE_ENFORCE)
			return (false);
	return (true);
}

void
groups_accept(struct chain *c)
{
	if (c->group < c->n_groups)
		c->groups[c->group].n_rcpts++;
	if (c->n_shown > 0) {
		c->shown[c->n_shown - 1].accepted = true;
		c->shown[c->n_shown - 1].group = c->group;
	}
}

void
group_over(struct group *g, const struct outcome *o, const char *by)
{
	outcome_clear(&g->out);
	g->out.kind = o->kind;
	g->out.reply = o->reply != NULL ? strdup(o->reply) : NULL;
	g->by = by;
}

/* group_hold - the first reason counts; who asked, all of them */
void
group_hold(struct group *g, const char *reason, const char *by)
{
	char *all =
	    quarantine_names_add(g->held_by != NULL ? g->held_by : "", by);

	if (all != NULL) {
		free(g->held_by);
		g->held_by = all;
	}
	if (g->held_reason == NULL)
		g->held_reason = strndup(reason, REASON_MAX);
}

/* settle_known - verdicts of the envelope on the whole message */
static void
settle_known(struct chain *c, struct group *g)
{
	size_t i;

	for (i = 0; i < c->n_links && g->out.kind == OUT_NONE; i++) {
		struct link *l = c->links[i];

		if (l->varies && g->modes[l->index] == MODE_ENFORCE &&
		    l->verdict.kind != OUT_NONE)
			group_over(g, &l->verdict, l->conf->name);
	}
}

static size_t
group_of(const struct chain *c, const struct rcpt *r)
{
	return (r->group < c->n_groups ? r->group : 0);
}

int
group_rcpt_copy(struct envelope *env, const struct rcpt *from)
{
	struct rcpt *r = env_add_rcpt(env, from->addr);

	if (r == NULL || env_set(&r->orcpt, from->orcpt) == -1 ||
	    route_copy(&r->route, &from->route) == -1)
		return (-1);
	r->notify = from->notify;
	r->group = from->group;
	return (0);
}

/* split - the group's own envelope; number from 1 */
static int
split(struct chain *c, size_t group, unsigned number)
{
	const struct envelope *all = c->env;
	struct group *g = &c->groups[group];
	size_t i, n = strlen(all->id);

	if ((g->env = calloc(1, sizeof(*g->env))) == NULL)
		return (-1);
	g->own_env = true;
	if (env_clone_head(all, g->env) == -1)
		return (-1);
	for (i = 0; i < all->n_rcpts; i++)
		if (group_of(c, &all->rcpts[i]) == group &&
		    group_rcpt_copy(g->env, &all->rcpts[i]) == -1)
			return (-1);
	g->env->group = (uint16_t)number;
	if (number > 1)
		(void)snprintf(g->env->id + n, sizeof(g->env->id) - n, "-%u",
		    number % 100);
	return (0);
}

int
groups_begin(struct chain *c)
{
	struct view *v = view_new(c->msg);
	const char *refused = NULL;
	unsigned live = 0, number = 0;
	size_t i;
	int r = 0;

	if (v == NULL ||
	    (c->n_groups == 0 &&
	        (decide_rcpt(c, &refused) != 0 || refused != NULL))) {
		view_unref(&v);
		return (-1);
	}
	for (i = 0; i < c->env->n_rcpts; i++) {
		struct group *g = &c->groups[group_of(c, &c->env->rcpts[i])];

		live += !g->live;
		g->live = true;
	}
	if (live == 0) {
		live = 1;
		c->groups[0].live = true;
	}
	for (i = 0; i < c->n_groups && r == 0; i++) {
		struct group *g = &c->groups[i];

		if (!g->live)
			continue;
		g->view = view_ref(v);
		if (live == 1)
			g->env = c->env;
		else
			r = split(c, i, ++number);
		if (r == 0)
			r = decide_content(c, g);
		settle_known(c, g);
	}
	view_unref(&v);
	return (r);
}

void
groups_end(struct chain *c)
{
	struct link *l;
	size_t i, k;

	for (i = 0; i < c->n_groups; i++) {
		struct group *g = &c->groups[i];

		view_unref(&g->view);
		for (k = 0; k < c->n_all && g->seen != NULL; k++)
			view_unref(&g->seen[k]);
		if (g->own_env) {
			env_fini(g->env);
			free(g->env);
		}
		g->env = NULL;
		g->own_env = false;
		outcome_clear(&g->out);
		free(g->held_reason);
		free(g->held_by);
		g->held_reason = g->held_by = NULL;
	}
	for (i = 0; i < c->n_all; i++)
		view_unref(&c->all[i].view);
	for (l = c->extras; l != NULL; l = l->next) {
		view_unref(&l->view);
		conn_put(l);
	}
}

void
groups_clear(struct chain *c)
{
	struct link *l;

	groups_end(c);
	while (c->n_groups > 0)
		group_fini(&c->groups[--c->n_groups]);
	free(c->groups);
	c->groups = NULL;
	while ((l = c->extras) != NULL) {
		c->extras = l->next;
		link_reset_message(l);
		outcome_clear(&l->now);
		recording_end(l);
		outcome_clear(&l->kept);
		record_clear(l);
		free(l->why);
		free(l->fault);
		free(l->heard);
		free(l);
	}
}

/* as_received - for a group that is held, or may be: without any edit */
static int
as_received(struct chain *c, struct group *g)
{
	struct view *v = g->view;
	unsigned number = g->env->group;

	env_fini(g->env);
	free(g->env);
	g->env = NULL;
	g->own_env = false;
	while (v->base != NULL)
		v = v->base;
	v = view_ref(v);
	view_unref(&g->view);
	g->view = v;
	return (split(c, (size_t)(g - c->groups), number));
}

/* one_result - of a group among several */
static int
one_result(struct chain *c, struct group *g, struct chain_group *r)
{
	bool held = g->held_reason != NULL && g->out.kind == OUT_NONE;

	if ((held || g->out.kind != OUT_NONE) && as_received(c, g) == -1)
		return (-1);
	message_init(&r->msg);
	r->verdict = outcome_verdict(g->out.kind);
	r->milter = g->by != NULL ? g->by : "";
	r->reply = strdup(outcome_text(&g->out, false));
	r->quarantine = held;
	r->reason = strdup(held ? g->held_reason : "");
	r->hold_by = strdup(held && g->held_by != NULL ? g->held_by : "");
	r->env = *g->env;
	r->env.flags |= g->view->flags;
	free(g->env);
	g->env = NULL;
	g->own_env = false;
	return (r->reply == NULL || r->reason == NULL || r->hold_by == NULL ||
	            view_copy(g->view, &r->msg) == -1
	        ? -1
	        : 0);
}

int
groups_result(struct chain *c, struct chain_answer *a)
{
	size_t i;

	a->groups = calloc(CHAIN_GROUPS_MAX, sizeof(*a->groups));
	if (a->groups == NULL)
		return (-1);
	for (i = 0; i < c->n_groups; i++)
		if (c->groups[i].live) {
			a->groups[a->n_groups].group = (uint16_t)i;
			if (one_result(c, &c->groups[i],
			        &a->groups[a->n_groups++]) == -1) {
				groups_result_free(a);
				return (-1);
			}
		}
	return (0);
}

void
groups_result_free(struct chain_answer *a)
{
	while (a->n_groups > 0) {
		struct chain_group *r = &a->groups[--a->n_groups];

		free((char *)(uintptr_t)r->reply);
		free((char *)(uintptr_t)r->reason);
		free((char *)(uintptr_t)r->hold_by);
		message_fini(&r->msg);
		env_fini(&r->env);
	}
	free(a->groups);
	a->groups = NULL;
}
