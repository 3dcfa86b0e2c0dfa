/* SPDX-License-Identifier: ISC */

/*
 * stream - the content phase begins while DATA still arrives
 *
 * It is the question of chain_message() put before the body is whole and
 * without anybody to answer to: milters whose turn does not depend on another's
 * changes are told header and body as far as it is there, in the chunks that
 * they would get later, and no end of message.  chain_message() then names who
 * waits for the answer, and the rest follows.  Nobody can change anything
 * before the end of message, so there is one version of the message until then.
 *
 * The client's time is not the milters': their limit for the whole command
 * begins with the end of data, and while nothing is due none runs.
 */

#include "core/milter/chain_int.h"

#include <string.h>

/* grow - the body as far as it is there */
static void
grow(struct chain *c)
{
	size_t i;

	for (i = 0; i < c->n_groups; i++) {
		struct view *v = c->groups[i].view;

		if (v == NULL)
			continue;
		v->body = c->msg->body;
		v->body_len = c->msg->body_len;
	}
}

/* each - go on with every session that has begun */
static void
each(struct chain *c)
{
	struct link *l;
	size_t i;

	for (i = 0; i < c->n_all; i++)
		(void)run_ask(&c->all[i]);
	for (l = c->extras; l != NULL; l = l->next)
		(void)run_ask(l);
}

static void
stop(struct link *l)
{
	l->stopped = true;
	link_abort(l);
	/* What cannot be written now waits for the next message. */
	if (conn_ready(l))
		(void)conn_flush(l->conn);
}

/* refused - by that milter, whatever those before it will say? */
static bool
refused(const struct chain *c, size_t group, const struct link *l)
{
	const struct group *g = &c->groups[group];

	if (!l->started || (l->groups & 1u << group) == 0 ||
	    g->modes[l->index] != MODE_ENFORCE)
		return (false);
	if (l->failed)
		return (failure_outcome(group_failure(g, l)) != OUT_CONTINUE);
	return (l->verdict.kind != OUT_NONE);
}

/* last - the first milter whose refusal leaves no group; those behind it are
 * not asked in the end.  n_links: none has */
static size_t
last(const struct chain *c)
{
	uint32_t left = 0;
	size_t i, k;

	for (k = 0; k < c->n_groups; k++)
		if (c->groups[k].live && c->groups[k].out.kind == OUT_NONE)
			left |= 1u << k;
	for (i = c->at; i < c->n_links; i++) {
		for (k = 0; k < c->n_groups; k++)
			if ((left & 1u << k) != 0 && refused(c, k, c->links[i]))
				left &= ~(1u << k);
		if (left == 0)
			break;
	}
	return (i);
}

/* wants_body - or might, at another endpoint? */
static bool
wants_body(const struct link *l)
{
	if (l->skipped || l->mode == MODE_OFF || link_apart(l) || l->out ||
	    l->failed || l->done)
		return (false);
	return (!conn_ready(l) ||
	    ((l->conn->opts.protocol & MILTER_NO_BODY) == 0 && !l->skip_body) ||
	    (l->conf->n_endpoints > 1 && !l->conf->no_replay));
}

/* stop_from - those from place i of the chain on */
static void
stop_from(struct chain *c, size_t i)
{
	struct link *l;

	for (; i < c->n_links; i++) {
		if (!c->links[i]->stopped)
			stop(c->links[i]);
		for (l = c->extras; l != NULL; l = l->next)
			if (l->index == c->links[i]->index && !l->stopped)
				stop(l);
	}
}

void
stream_settle(struct chain *c)
{
	if (c->answered && c->answer.verdict != CHAIN_CONTINUE)
		stop_from(c, 0);
	else if (!c->answered)
		stop_from(c, last(c) + 1);
}

bool
chain_stream(struct chain *c, struct message *m, struct envelope *env)
{
	if (c->q != Q_NONE || c->session.kind != OUT_NONE ||
	    c->message.kind != OUT_NONE || (c->asks & COND_BIT(COND_SIZE)) != 0)
		return (false);
	c->streaming = true;
	chain_message(c, m, env, NULL, NULL);
	stream_settle(c);
	return (true);
}

void
chain_stream_more(struct chain *c)
{
	if (!c->streaming || c->answered)
		return;
	grow(c);
	each(c);
	chain_step(c);
	stream_settle(c);
}

/* over - is the content not needed?  Of several groups each gets a copy of the
 * message with its result. */
static bool
over(struct chain *c)
{
	size_t i, n;

	if (!c->streaming)
		return (false);
	if (c->answered)
		return (c->answer.verdict != CHAIN_CONTINUE &&
		    (!c->concluded || chain_only_group(c) != NULL));
	if ((n = last(c)) == c->n_links || chain_only_group(c) == NULL)
		return (false);
	for (i = c->at; i < n; i++)
		if (wants_body(c->links[i]))
			return (false);
	return (c->extras == NULL);
}

bool
chain_stream_over(struct chain *c)
{
	c->cut |= over(c);
	return (c->cut);
}

void
stream_end(struct chain *c)
{
	struct link *l;
	size_t i;

	c->streaming = false;
	grow(c);
	if (c->answered)
		return;
	for (i = 0; i < c->n_all; i++)
		link_set_time(&c->all[i]);
	for (l = c->extras; l != NULL; l = l->next)
		link_set_time(l);
	each(c);
	chain_step(c);
}
