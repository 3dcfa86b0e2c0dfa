/* SPDX-License-Identifier: ISC */

/*
 * replay - a message that was begun with an endpoint which then failed is told
 * to another from the beginning
 *
 * The message is kept, so nothing is lost; the other endpoint's answers from
 * CONNECT to RCPT must be those that the client has been given already, else
 * they count as none (design 5.2).  Likewise in a further session for another
 * version of the message; and recipients that a rule on content gives to a
 * milter are told from the same memory, for the first time.
 *
 * The link goes back to "nothing said" and the question in hand is put again;
 * put_missing() and replay_put() tell what came before it.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
shown_fini(struct shown *s)
{
	while (s->n_args > 0)
		free(s->args[--s->n_args]);
	free(s->args);
	free(s->rcpt);
	free(s->refused);
	if (s->route != NULL)
		route_fini(s->route);
	free(s->route);
	memset(s, 0, sizeof(*s));
}

void
replay_clear(struct chain *c)
{
	while (c->n_shown > 0)
		shown_fini(&c->shown[--c->n_shown]);
	free(c->shown);
	c->shown = NULL;
	c->shown_cap = 0;
}

int
shown_copy(struct shown *to, const struct shown *s)
{
	memset(to, 0, sizeof(*to));
	if ((to->rcpt = strdup(s->rcpt)) == NULL ||
	    (to->args = calloc(s->n_args + 1, sizeof(*to->args))) == NULL ||
	    (s->refused != NULL && (to->refused = strdup(s->refused)) == NULL))
		return (-1);
	for (; to->n_args < s->n_args; to->n_args++)
		if ((to->args[to->n_args] = strdup(s->args[to->n_args])) ==
		    NULL)
			return (-1);
	if (s->route == NULL)
		return (0);
	if ((to->route = calloc(1, sizeof(*to->route))) == NULL)
		return (-1);
	return (route_copy(to->route, s->route));
}

/* keep - a copy of the recipient in hand */
static int
keep(const struct chain *c, struct shown *s)
{
	const struct shown in_hand = { .rcpt = (char *)(uintptr_t)c->rcpt,
		.refused = (char *)(uintptr_t)c->refused,
		.args = (char **)(uintptr_t)c->rcpt_args,
		.n_args = c->n_rcpt_args,
		.route = (struct route *)(uintptr_t)c->route };

	return (shown_copy(s, &in_hand));
}

/* code_of - the reply's, given or by default: texts may count seconds */
static uint16_t
code_of(const struct outcome *o)
{
	return ((uint16_t)atoi(outcome_text(o, false)));
}

/* heard_room - as many as chain.shown will have; -1 with ENOMEM */
static int
heard_room(struct link *l, size_t n)
{
	struct heard *room;
	size_t cap = l->heard_cap > 0 ? l->heard_cap : 4;

	while (cap < n)
		cap *= 2;
	if (cap == l->heard_cap)
		return (0);
	if ((room = realloc(l->heard, cap * sizeof(*room))) == NULL)
		return (-1);
	memset(room + l->heard_cap, 0, (cap - l->heard_cap) * sizeof(*room));
	l->heard = room;
	l->heard_cap = cap;
	return (0);
}

static int
note_heard(struct link *l, size_t at)
{
	if (heard_room(l, at + 1) == -1)
		return (-1);
	l->heard[at] = (struct heard){ .put = l->asked,
		.told = l->asked,
		.skip = l->rcpt_skip,
		.kind = (uint8_t)l->now.kind,
		.code = code_of(&l->now) };
	return (0);
}

/* replay_note - -1 with ENOMEM: then nothing can be told again */
int
replay_note(struct chain *c)
{
	struct shown *room;
	size_t i;

	if (!c->keep)
		return (0);
	if (c->n_shown == c->shown_cap) {
		size_t cap = c->shown_cap > 0 ? c->shown_cap * 2 : 4;

		room = realloc(c->shown, cap * sizeof(*room));
		if (room == NULL)
			goto fail;
		c->shown = room;
		c->shown_cap = cap;
	}
	if (keep(c, &c->shown[c->n_shown]) == -1)
		goto fail_kept;
	for (i = 0; i < c->n_links; i++)
		if (note_heard(c->links[i], c->n_shown) == -1)
			goto fail_kept;
	c->n_shown++;
	return (0);

fail_kept:
	shown_fini(&c->shown[c->n_shown]);
fail:
	for (i = 0; i < c->n_links; i++)
		c->links[i]->no_replay = true;
	return (-1);
}

int
replay_tell(struct link *l, uint32_t groups, const struct link *first)
{
	const struct chain *c = l->chain;
	size_t i;

	if (heard_room(l, c->n_shown) == -1)
		return (-1);
	for (i = 0; i < c->n_shown; i++) {
		const struct heard *h =
		    i < first->heard_cap ? &first->heard[i] : NULL;

		if (!c->shown[i].accepted ||
		    (groups & 1u << c->shown[i].group) == 0 ||
		    (l == first && h != NULL && h->put))
			continue;
		if (h != NULL && h->put)
			l->heard[i] = *h;
		else
			l->heard[i].late = true;
		l->heard[i].put = true;
		l->heard[i].told = false;
	}
	l->retell = true;
	return (0);
}

/* told - has it answered something of this message already? */
static bool
told(const struct link *l)
{
	size_t i;

	if (l->told_mail || l->chain->q >= Q_DATA)
		return (true);
	for (i = 0; i < l->chain->n_shown; i++)
		if (i < l->heard_cap && l->heard[i].put)
			return (true);
	return (false);
}

/* somewhere - is an endpoint left that has not failed this message? */
static bool
somewhere(const struct link *l)
{
	size_t i;

	for (i = 0; i < l->conf->n_endpoints && i < ENDPOINTS_MAX; i++)
		if ((l->tried & 1u << i) == 0)
			return (true);
	return (false);
}

bool
replay(struct link *l, bool fault, const char *why)
{
	struct chain *c = l->chain;

	if (l->conn == NULL)
		return (false);
	l->tried |= 1u << l->conn->endpoint;
	if (fault)
		endpoint_fault(l, l->conn->endpoint, why);
	if (l->conf->no_replay || l->no_replay || !somewhere(l) ||
	    (c->q != Q_NONE && l->by_us != 0 && now_us() >= l->by_us))
		return (false);
	free(l->fault);
	l->fault = strdup(why);
	conn_drop(l);
	link_forget(l);
	l->replays++;
	l->retell = true;
	if (told(l)) {
		l->retold++;
		l->state->replays++;
	}
	if (conn_next(l) == 0 && l->retold > 0)
		l->conn->es->replays++;
	return (true); /* or it has failed as a whole by now */
}

/* too_late - have milters behind it been given the content, or its end?  Then
 * the one that it was could change no content, or nothing. */
static bool
too_late(const struct link *l)
{
	const struct chain *c = l->chain;
	bool change = link_may_change(l), edit = link_may_edit(l);
	size_t i = 0;

	if (c->q != Q_MESSAGE)
		return (false);
	while (i < c->n_links && c->links[i]->index != l->index)
		i++;
	while (++i < c->n_links) {
		const struct link *behind = c->links[i];

		if (behind->asked && (change || (edit && !behind->pumping)))
			return (true);
	}
	return (false);
}

bool
replay_possible(const struct link *l)
{
	size_t i;

	if (too_late(l))
		return (false);
	if ((l->conn->opts.protocol & (MILTER_NO_RCPT | MILTER_NR_RCPT)) == 0)
		return (true);
	for (i = 0; i < l->chain->n_shown; i++)
		if (i < l->heard_cap && l->heard[i].put &&
		    l->heard[i].kind != OUT_NONE &&
		    (l->authoriser || l->heard[i].kind != OUT_CONTINUE))
			return (false);
	return (true);
}

/* concerns - is that recipient to be shown to it again? */
static bool
concerns(const struct link *l, size_t i)
{
	return (i < l->heard_cap && l->heard[i].put && !l->heard[i].told &&
	    (l->chain->shown[i].refused == NULL ||
	        (l->conn->opts.protocol & MILTER_RCPT_REJECTED) != 0));
}

int
replay_put(struct link *l)
{
	size_t i;

	l->replay_at = 0;
	for (i = 0; i < l->chain->n_shown; i++) {
		if (!concerns(l, i))
			continue;
		l->heard[i].told = l->heard[i].due = true;
		if (put_rcpt_again(l, &l->chain->shown[i]) == -1)
			return (-1);
	}
	l->retell = false;
	return (0);
}

/* answer_due - to the recipient told longest ago, or NULL */
static struct heard *
answer_due(struct link *l)
{
	size_t n =
	    l->chain->n_shown < l->heard_cap ? l->chain->n_shown : l->heard_cap;

	while (l->replay_at < n && !l->heard[l->replay_at].due)
		l->replay_at++;
	if (l->replay_at == n)
		return (NULL);
	l->heard[l->replay_at].due = false;
	return (&l->heard[l->replay_at]);
}

int
replay_same(struct link *l, char cmd, const struct outcome *o, bool skip)
{
	struct heard *h;

	/* Also where the session has to connect anew between messages. */
	if ((cmd == MILTER_CONNECT && l->told_connect) ||
	    (cmd == MILTER_HELO && l->told_helo == l->chain->helo) ||
	    (cmd == MILTER_MAIL && l->told_mail))
		return (o->kind == OUT_CONTINUE ? 1 : -1);
	if (cmd != MILTER_RCPT || (h = answer_due(l)) == NULL)
		return (0);
	if (l->chain->shown[l->replay_at].refused != NULL)
		return (1); /* its answer never counted */
	if (h->late && (o->kind == OUT_ACCEPT || o->kind == OUT_DISCARD))
		return (0);
	if (h->kind == OUT_NONE)
		return (o->kind == OUT_CONTINUE ? 1 : -1);
	if (h->kind != o->kind || h->code != code_of(o) ||
	    (l->authoriser && h->skip != skip))
		return (-1);
	return (1);
}
