/* SPDX-License-Identifier: ISC */

/*
 * decide - from the policy's rules to the chain of a session, of a recipient,
 * and of a group when its message is there
 *
 * The rules are asked at CONNECT and MAIL for what concerns everybody, at RCPT
 * for each recipient, and in the content stage for each group again, since its
 * recipients fit the same rules on content (pending).  A run-time switch of
 * milldamctl goes over what a rule says of a milter's mode.
 *
 * One order holds for all: each chain is merged into that of the message, and a
 * recipient whose chain has two milters the other way round is sent separately.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ASKS_RCPT (COND_BIT(COND_RECIPIENT) | COND_BIT(COND_RECIPIENT_DOMAIN))

static const struct policy *
policy_of(const struct chain *c)
{
	return (&c->settings->policies[c->policy]);
}

static struct link *
link_of(const struct chain *c, size_t milter)
{
	const struct policy *p = policy_of(c);
	size_t i;

	for (i = 0; p->reach[i] != milter; i++)
		;
	return (&c->all[i]);
}

static struct policy_facts
facts_of(struct chain *c, uint32_t known, const char *rcpt)
{
	const struct chain_facts *s = c->facts;
	const struct policy_facts f = {
		.known = known,
		.listener = s->listener,
		.client_addr = s->client_addr,
		.client_name = s->client_name,
		.helo = s->helo,
		.tls_version = s->tls_version,
		.tls_verified = strcmp(s->verify, "OK") == 0,
		.login = s->auth_authen,
		.sender = c->sender,
		.recipient = rcpt,
		.week_minute = c->week_minute,
		.get = known_get,
		.arg = c,
	};

	return (f);
}

void
link_limits(struct link *l, const struct policy_step *step)
{
	l->own.on_failure = step->on_failure;
	l->own.connect_ms = step->connect_ms;
	l->own.command_ms = step->command_ms;
	l->own.message_ms = step->message_ms;
}

static void
count(struct link *l)
{
	if (l->counted || l->skipped || l->mode == MODE_OFF || link_apart(l))
		return;
	l->counted = true;
	l->state->sessions++;
}

/* link_wanted - the mode for messages that the milter is shown */
enum milter_mode
link_wanted(const struct link *l, const struct policy_step *step)
{
	return (l->switched ? l->switched_to : step->mode);
}

static enum milter_mode
mode_of(const struct link *l, const struct policy_step *step)
{
	return (sample_left_out(l, step) ? MODE_OFF : link_wanted(l, step));
}

/* count_left_out - once for a message; one that is off anyway leaves nothing */
static void
count_left_out(struct link *l, const struct policy_step *step)
{
	if (l->left_out || l->drained || step->skipped ||
	    link_wanted(l, step) == MODE_OFF || !sample_left_out(l, step))
		return;
	l->left_out = true;
	l->state->left_out++;
}

/* link_set - as the session's rules want it */
static void
link_set(struct chain *c, struct link *l, const struct policy_step *step)
{
	l->step = step;
	l->skipped = l->drained || step->skipped;
	l->mode = mode_of(l, step);
	l->own.mode = step->mode;
	/* What it says of a session holds for its own messages only. */
	l->sampled = !l->authoriser && step->sample < SAMPLE_ALL;
	l->varies |= l->sampled;
	link_limits(l, step);
	count(l);
	c->links[c->n_links++] = l;
}

/* switches - of milldamctl.  Draining: sessions that run go on. */
static void
switches(struct link *l)
{
	const struct mstate *m = l->state;

	l->switched = m->has_override && m->override != MODE_DRAIN;
	l->switched_to = m->override;
}

static int
waits(void)
{
	return (errno == EAGAIN ? 1 : -1);
}

int
decide_session(struct chain *c, uint32_t known)
{
	const struct policy *p = policy_of(c);
	struct policy_facts f;
	struct policy_chain chain;
	bool *varies = calloc(p->n_reach + 1, sizeof(*varies));
	size_t i;

	if (varies == NULL)
		return (-1);
	c->week_minute = policy_week_minute(time(NULL));
	f = facts_of(c, known, NULL);
	if (policy_decide(c->settings, c->policy, &f, &chain) == -1) {
		free(varies);
		return (waits());
	}
	if (policy_undecided(c->settings, c->policy, &f, varies) == -1) {
		policy_chain_fini(&chain);
		free(varies);
		return (waits());
	}
	policy_chain_fini(&c->session_chain);
	c->session_chain = chain;
	c->asks = policy_asks(p);
	c->varies = (c->asks & ASKS_RCPT) != 0 || c->engine->pick != NULL;
	c->keep = c->varies || (c->asks & COND_CONTENT) != 0;
	c->n_links = 0;
	for (i = 0; i < c->n_all; i++) {
		struct link *l = &c->all[i];

		switches(l);
		l->own = *l->shared;
		l->step = NULL;
		l->skipped = true;
		l->sampled = l->left_out = false;
		l->varies =
		    !l->authoriser && (varies[i] || c->engine->pick != NULL);
		c->keep |= l->conf->n_endpoints > 1 && !l->conf->no_replay;
	}
	for (i = 0; i < chain.n_steps; i++) {
		struct link *l = link_of(c, chain.steps[i].milter);

		link_set(c, l, &chain.steps[i]);
		c->keep |= link_apart(l);
	}
	free(varies);
	return (0);
}

static size_t
place_of(struct link **order, size_t n, const struct link *l)
{
	size_t i = 0;

	while (i < n && order[i] != l)
		i++;
	return (i);
}

/* merge - the chain's milters into an order of n, room for all; those that it
 * skips keep their places too.  False: it has two the other way round. */
static bool
merge(struct chain *c, const struct policy_chain *chain, struct link **order,
    size_t *n)
{
	size_t next = 0, i, at;

	for (i = 0; i < chain->n_steps; i++) {
		struct link *l = link_of(c, chain->steps[i].milter);

		at = place_of(order, *n, l);
		if (at < *n && at < next) {
			if (chain->steps[i].skipped)
				continue;
			return (false);
		}
		if (at == *n) {
			at = next;
			if (c->q == Q_MESSAGE && at <= c->at && c->at < *n)
				at = c->at + 1; /* the others had their turn */
			memmove(&order[at + 1], &order[at],
			    (*n - at) * sizeof(*order));
			order[at] = l;
			(*n)++;
		}
		next = at + 1;
	}
	return (true);
}

/* set_order - with that chain in it; -1 with ENOMEM, or EXDEV: that cannot be.
 * The first recipient's chain makes the order. */
static int
set_order(struct chain *c, const struct policy_chain *chain)
{
	struct link **order = calloc(c->n_all + 1, sizeof(*order));
	size_t n = c->n_links;
	bool fits;

	if (order == NULL)
		return (-1);
	memcpy(order, c->links, n * sizeof(*order));
	fits = merge(c, chain, order, &n);
	if (!fits && c->n_groups == 0) {
		n = 0;
		fits = merge(c, chain, order, &n);
	}
	if (fits) {
		memcpy(c->links, order, n * sizeof(*order));
		c->n_links = n;
	}
	free(order);
	errno = EXDEV;
	return (fits ? 0 : -1);
}

/* modes_of - of each milter for those who have that chain */
static uint8_t *
modes_of(struct chain *c, const struct policy_chain *chain, const char *rcpt)
{
	uint8_t *modes = malloc(c->n_all + 1);
	size_t i;

	if (modes == NULL)
		return (NULL);
	memset(modes, PICK_ABSENT, c->n_all + 1);
	for (i = 0; i < chain->n_steps; i++) {
		const struct policy_step *step = &chain->steps[i];
		const struct link *l = link_of(c, step->milter);

		if (!l->drained && !step->skipped &&
		    mode_of(l, step) != MODE_OFF)
			modes[l->index] = (uint8_t)mode_of(l, step);
	}
	if (c->engine->pick != NULL)
		c->engine->pick(c, rcpt, modes);
	return (modes);
}

/* take_part - the milters of that chain do, in the way that it says */
static void
take_part(struct chain *c, const struct group *g)
{
	size_t i;

	for (i = 0; i < g->chain.n_steps; i++) {
		struct link *l = link_of(c, g->chain.steps[i].milter);
		enum milter_mode mode;

		if (g->modes[l->index] == PICK_ABSENT) {
			count_left_out(l, &g->chain.steps[i]);
			continue;
		}
		mode = (enum milter_mode)g->modes[l->index];
		if (l->skipped || mode < l->mode)
			l->mode = mode;
		l->skipped = false;
		link_limits(l, &g->chain.steps[i]);
		count(l);
	}
}

/* place - the group of a recipient with that chain; the three are taken.  NULL
 * with errno, or with the reply that the recipient gets. */
static struct group *
place(struct chain *c, struct policy_chain *chain, bool *pending,
    uint8_t *modes, const char **refused_r)
{
	struct group *first = groups_first(c);
	struct group *g = groups_find(c, chain, pending, modes);

	errno = 0;
	if (policy_of(c)->separate && first != NULL && g != first)
		*refused_r = "452 4.5.3 Filtered otherwise than the first "
		             "recipient, send separately";
	else if (g == NULL && c->n_groups == CHAIN_GROUPS_MAX)
		*refused_r = "452 4.5.3 Too many kinds of recipients";
	else if (g == NULL && set_order(c, chain) == -1) {
		if (errno == EXDEV)
			*refused_r = "452 4.5.3 Filtered in another order than "
			             "the first recipient, send separately";
	} else if (g == NULL)
		return (groups_add(c, chain, pending, modes));
	policy_chain_fini(chain);
	free(pending);
	free(modes);
	return (*refused_r == NULL ? g : NULL);
}

int
decide_rcpt(struct chain *c, const char **refused_r)
{
	const struct policy *p = policy_of(c);
	const char *rcpt = c->rcpt != NULL ? c->rcpt : "";
	struct policy_facts f = facts_of(c, POLICY_AT_RCPT, rcpt);
	struct policy_chain chain;
	struct group *g;
	uint8_t *modes = NULL;
	bool *pending;

	*refused_r = NULL;
	if (c->n_groups > 0 && !c->varies) {
		c->group = 0;
		return (0);
	}
	if (policy_decide(c->settings, c->policy, &f, &chain) == -1)
		return (waits());
	pending = calloc(p->n_rules + 1, sizeof(*pending));
	if (pending == NULL ||
	    policy_pending(c->settings, c->policy, &f, pending) == -1 ||
	    (modes = modes_of(c, &chain, rcpt)) == NULL) {
		int saved = errno;

		policy_chain_fini(&chain);
		free(pending);
		errno = saved;
		return (waits());
	}
	g = place(c, &chain, pending, modes, refused_r);
	if (g == NULL)
		return (*refused_r != NULL ? 0 : -1);
	if (g->rcpt == NULL && (g->rcpt = strdup(rcpt)) == NULL)
		return (-1);
	c->group = (size_t)(g - c->groups);
	take_part(c, g);
	return (0);
}

/* size_of - the content as it came */
static uint64_t
size_of(const struct message *m)
{
	uint64_t size = m->body_len + 2;
	size_t i;

	for (i = 0; i < m->n_fields; i++)
		if (!m->fields[i].hidden)
			size += strlen(m->fields[i].name) + 1 +
			    m->fields[i].value_len + 2;
	return (size);
}

int
decide_content(struct chain *c, struct group *g)
{
	struct policy_facts f = facts_of(
	    c, POLICY_AT_RCPT | COND_CONTENT, g->rcpt != NULL ? g->rcpt : "");
	struct policy_chain chain;
	uint8_t *modes;

	if ((c->asks & COND_CONTENT) == 0)
		return (0);
	f.size = size_of(c->msg);
	f.fields = c->msg->fields;
	f.n_fields = c->msg->n_fields;
	f.verdicts = g->verdicts;
	f.n_verdicts = g->n_verdicts;
	if (policy_decide(c->settings, c->policy, &f, &chain) == -1)
		return (-1);
	if (set_order(c, &chain) == -1 ||
	    (modes = modes_of(c, &chain, f.recipient)) == NULL) {
		policy_chain_fini(&chain);
		return (-1);
	}
	free(g->modes);
	g->modes = modes;
	policy_chain_fini(&g->chain);
	g->chain = chain;
	take_part(c, g);
	return (0);
}

/* decide_waits - may a verdict that is still to come take the milter away from
 * the group? */
bool
decide_waits(const struct chain *c, const struct group *g, size_t index)
{
	const struct policy *p = policy_of(c);
	size_t i, k;

	if ((c->asks & COND_BIT(COND_VERDICT)) == 0)
		return (false);
	for (i = 0; i < p->n_rules; i++)
		for (k = 0; g->pending[i] && k < p->rules[i].n_changes &&
		     (p->rules[i].asks & COND_BIT(COND_VERDICT)) != 0;
		     k++)
			if (p->rules[i].changes[k].milter ==
			    c->all[index].milter)
				return (true);
	return (false);
}

enum mixed_action
chain_on_mixed(const struct chain *c)
{
	enum mixed_action least = c->session_chain.on_mixed;
	size_t i;

	for (i = 0; i < c->n_groups; i++)
		if (c->groups[i].live && c->groups[i].chain.on_mixed < least)
			least = c->groups[i].chain.on_mixed;
	return (least);
}
