/* SPDX-License-Identifier: ISC */

/*
 * groups - recipients of a message by the chain that each has
 *
 * The rules pick for each recipient which milters of the session's order see
 * it, and in which mode.  Recipients with the same pick are one group, made at
 * its first recipient.  In the content phase each group has a version of the
 * message and an envelope of its own.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
rule_has_client(const struct chain *c, const struct rule *r)
{
	uint8_t addr[16];

	return (!r->has_client ||
	    (cidr_parse_addr(c->facts->client_addr, addr) == 0 &&
	        cidr_list_has(&r->client, addr)));
}

static bool
rule_has_rcpt(const struct rule *r, const char *rcpt)
{
	size_t i;

	for (i = 0; i < r->n_recipients; i++)
		if (fnmatch(r->recipients[i], rcpt, FNM_CASEFOLD) == 0)
			return (true);
	return (!r->has_recipient);
}

static bool
rule_skips(const struct chain *c, const struct rule *r, const struct link *l)
{
	size_t i;

	for (i = 0; i < r->n_skip; i++)
		if (r->skip[i] == c->policy->chain[l->index])
			return (true);
	return (false);
}

/* groups_init - what is decided for the whole session, and what may differ
 * among its recipients */
void
groups_init(struct chain *c)
{
	size_t i, k;

	c->on_mixed = c->policy->on_mixed;
	for (i = 0; i < c->policy->n_rules; i++) {
		const struct rule *r = &c->policy->rules[i];

		if (!rule_has_client(c, r))
			continue;
		if (r->has_on_mixed)
			c->on_mixed = r->on_mixed;
		for (k = 0; k < c->n_links; k++) {
			struct link *l = &c->links[k];

			if (l->authoriser || !rule_skips(c, r, l))
				continue;
			if (r->has_recipient)
				l->varies = c->varies = true;
			else
				l->skipped = true;
		}
	}
	for (k = 0; c->engine->pick != NULL && k < c->n_links; k++)
		if (!c->links[k].authoriser)
			c->links[k].varies = c->varies = true;
}

enum mixed_action
chain_on_mixed(const struct chain *c)
{
	return (c->on_mixed);
}

/* pick - the mode of each link for this recipient */
static void
pick(const struct chain *c, const char *rcpt, uint8_t *modes)
{
	size_t i, k;

	for (k = 0; k < c->n_links; k++) {
		const struct link *l = &c->links[k];

		modes[k] = l->skipped || l->mode == MODE_OFF ? PICK_ABSENT
		                                             : (uint8_t)l->mode;
	}
	if (c->engine->pick != NULL)
		c->engine->pick(c, rcpt, modes);
	for (i = 0; c->varies && i < c->policy->n_rules; i++) {
		const struct rule *r = &c->policy->rules[i];

		if (r->n_skip == 0 || !rule_has_client(c, r) ||
		    !rule_has_rcpt(r, rcpt))
			continue;
		for (k = 0; k < c->n_links; k++)
			if (!c->links[k].authoriser &&
			    rule_skips(c, r, &c->links[k]))
				modes[k] = PICK_ABSENT;
	}
}

static struct group *
group_new(struct chain *c)
{
	size_t cap = c->n_groups == 0 ? 1 : 2 * c->n_groups;
	struct group *g;

	/* Room doubles at powers of two; a session mostly keeps one. */
	if ((c->n_groups & (c->n_groups - 1)) == 0) {
		g = realloc(c->groups, cap * sizeof(*g));
		if (g == NULL)
			return (NULL);
		c->groups = g;
	}
	g = &c->groups[c->n_groups];
	memset(g, 0, sizeof(*g));
	g->modes = calloc(c->n_links + 1, 1);
	g->ran = calloc(c->n_links + 1, sizeof(*g->ran));
	if (g->modes == NULL || g->ran == NULL) {
		free(g->modes);
		free(g->ran);
		return (NULL);
	}
	c->n_groups++;
	return (g);
}

/* first_group - of the first recipient that was accepted, or n_groups */
static size_t
first_group(const struct chain *c)
{
	size_t i;

	for (i = 0; i < c->n_groups && c->groups[i].n_rcpts == 0; i++)
		;
	return (i);
}

const char *
groups_pick(struct chain *c, const char *rcpt)
{
	struct group *g;
	uint8_t *modes;
	size_t i;

	if (c->n_groups > 0 && !c->varies) {
		c->group = 0;
		return (NULL);
	}
	if ((modes = calloc(c->n_links + 1, 1)) == NULL)
		return ("451 4.3.0 Out of memory");
	pick(c, rcpt, modes);
	for (i = 0; i < c->n_groups; i++)
		if (memcmp(modes, c->groups[i].modes, c->n_links) == 0)
			break;
	if (c->policy->separate && first_group(c) < c->n_groups &&
	    i != first_group(c)) {
		free(modes);
		return ("452 4.5.3 Filtered otherwise than the first recipient,"
		        " send separately");
	}
	if (i == CHAIN_GROUPS_MAX) {
		free(modes);
		return ("452 4.5.3 Too many kinds of recipients");
	}
	if (i == c->n_groups) {
		if ((g = group_new(c)) == NULL) {
			free(modes);
			return ("451 4.3.0 Out of memory");
		}
		free(g->modes);
		g->modes = modes;
	} else
		free(modes);
	c->group = i;
	return (NULL);
}

/* groups_mode - of a milter for the recipient in hand */
enum milter_mode
groups_mode(const struct chain *c, const struct link *l)
{
	uint8_t mode;

	if (c->q != Q_RCPT || c->group >= c->n_groups)
		return (l->skipped ? MODE_OFF : l->mode);
	mode = c->groups[c->group].modes[l->index];
	return (mode == PICK_ABSENT ? MODE_OFF : (enum milter_mode)mode);
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

/* keep - what was shown, for a further session */
static int
keep(struct chain *c)
{
	size_t cap = c->cap_seen == 0 ? 4 : 2 * c->cap_seen, i;
	struct buf b = BUF_INIT(64 << 10);
	struct seen_rcpt *s;

	if (c->n_seen == c->cap_seen) {
		if ((s = realloc(c->seen, cap * sizeof(*s))) == NULL)
			return (-1);
		c->seen = s;
		c->cap_seen = cap;
	}
	s = &c->seen[c->n_seen];
	memset(s, 0, sizeof(*s));
	if (buf_add(&b, c->rcpt, strlen(c->rcpt) + 1) == -1)
		goto bad;
	for (i = 0; i < c->n_rcpt_args; i++)
		if (buf_add(&b, c->rcpt_args[i], strlen(c->rcpt_args[i]) + 1) ==
		    -1)
			goto bad;
	if (c->route != NULL && route_copy(&s->route, c->route) == -1)
		goto bad;
	s->routed = c->route != NULL;
	s->text = buf_take(&b, NULL);
	s->n_args = c->n_rcpt_args;
	s->group = c->group;
	c->n_seen++;
	return (0);
bad:
	buf_fini(&b);
	return (-1);
}

int
groups_accept(struct chain *c)
{
	if (c->group >= c->n_groups)
		return (0);
	if (c->varies && keep(c) == -1)
		return (-1);
	c->groups[c->group].n_rcpts++;
	return (0);
}

void
group_over(struct group *g, const struct outcome *o, const char *by)
{
	outcome_clear(&g->out);
	g->out.kind = o->kind;
	g->out.reply = o->reply != NULL ? strdup(o->reply) : NULL;
	g->by = by;
}

/* group_hold - the first reason counts */
void
group_hold(struct group *g, const char *reason, const char *by)
{
	if (g->held_reason != NULL)
		return;
	g->held_reason = strndup(reason, REASON_MAX);
	g->held_by = by;
}

/* settle_known - verdicts of the envelope on the whole message */
static void
settle_known(struct chain *c, struct group *g)
{
	size_t i;

	for (i = 0; i < c->n_links && g->out.kind == OUT_NONE; i++) {
		struct link *l = &c->links[i];

		if (l->varies && g->modes[i] == MODE_ENFORCE &&
		    l->verdict.kind != OUT_NONE)
			group_over(g, &l->verdict, l->conf->name);
	}
}

static size_t
group_of(const struct chain *c, const struct rcpt *r)
{
	return (r->group < c->n_groups ? r->group : 0);
}

static int
copy_rcpt(struct envelope *env, const struct rcpt *from)
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
		    copy_rcpt(g->env, &all->rcpts[i]) == -1)
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
	unsigned live = 0, number = 0;
	size_t i;
	int r = 0;

	if (v == NULL || (c->n_groups == 0 && groups_pick(c, "") != NULL)) {
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
		settle_known(c, g);
	}
	view_unref(&v);
	return (r);
}

void
groups_end(struct chain *c)
{
	struct link *l;
	size_t i;

	for (i = 0; i < c->n_groups; i++) {
		struct group *g = &c->groups[i];

		view_unref(&g->view);
		if (g->own_env) {
			env_fini(g->env);
			free(g->env);
		}
		g->env = NULL;
		g->own_env = false;
		outcome_clear(&g->out);
		free(g->held_reason);
		g->held_reason = NULL;
	}
	for (i = 0; i < c->n_links; i++)
		view_unref(&c->links[i].view);
	for (l = c->extras; l != NULL; l = l->next) {
		view_unref(&l->view);
		conn_put(l);
	}
	while (c->n_seen > 0) {
		struct seen_rcpt *s = &c->seen[--c->n_seen];

		free(s->text);
		route_fini(&s->route);
	}
	free(c->seen);
	c->seen = NULL;
	c->cap_seen = 0;
}

void
groups_clear(struct chain *c)
{
	struct link *l;

	groups_end(c);
	while (c->n_groups > 0) {
		struct group *g = &c->groups[--c->n_groups];

		free(g->modes);
		free(g->ran);
	}
	free(c->groups);
	c->groups = NULL;
	while ((l = c->extras) != NULL) {
		c->extras = l->next;
		link_reset_message(l);
		outcome_clear(&l->now);
		record_clear(l);
		free(l->why);
		free(l);
	}
}

/* one_result - of a group among several */
static int
one_result(struct group *g, struct chain_group *r)
{
	bool held = g->held_reason != NULL && g->out.kind == OUT_NONE;

	message_init(&r->msg);
	r->verdict = outcome_verdict(g->out.kind);
	r->milter = g->by != NULL ? g->by : "";
	r->reply = strdup(outcome_text(&g->out, false));
	r->quarantine = held;
	r->reason = strdup(held ? g->held_reason : "");
	r->hold_by = held ? g->held_by : "";
	r->env = *g->env;
	r->env.flags |= g->view->flags;
	free(g->env);
	g->env = NULL;
	g->own_env = false;
	return (r->reply == NULL || r->reason == NULL ||
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
			if (one_result(&c->groups[i],
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
		message_fini(&r->msg);
		env_fini(&r->env);
	}
	free(a->groups);
	a->groups = NULL;
}
