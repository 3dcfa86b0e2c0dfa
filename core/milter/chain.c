/* SPDX-License-Identifier: ISC */

/*
 * chain - questions of one SMTP session, put to its milters in order
 *
 * The first milter that does not let go on ends the stage; those after it do
 * not hear of it (as in Sendmail and Postfix).  Answers are given from the
 * event loop only, and last, because the receiver may free the chain in them.
 */

#include "core/milter/chain_int.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIELD_MAX = 65000 }; /* bytes; what fits a packet with its name */

#define NO_MEMORY "451 4.3.0 Out of memory"

uint64_t
now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000);
}

/* answer - the question is decided; given later by fire() */
static void
answer(struct chain *c, enum outcome_kind kind, const char *reply,
    const char *milter)
{
	memset(&c->answer, 0, sizeof(c->answer));
	c->answer.verdict = outcome_verdict(kind);
	free(c->ans_reply);
	c->ans_reply = NULL;
	if (c->answer.verdict != CHAIN_CONTINUE)
		c->ans_reply = strdup(reply);
	c->answer.reply = c->ans_reply;
	c->answer.milter = milter != NULL ? milter : "";
	c->answered = true;
}

/* authorised - design 5.1: only the authoriser's own word counts */
static bool
authorised(const struct chain *c)
{
	const struct link *l = c->n_links > 0 ? c->links[0] : NULL;

	if (l == NULL || !l->authoriser || l->skipped || l->failed ||
	    l->mode != MODE_ENFORCE || c->refused != NULL)
		return (false);
	return (c->has_auth_session || c->has_auth_message || c->auth_rcpt);
}

static void
hold(struct chain *c, struct link *l)
{
	char *reason;

	if (c->held_reason != NULL ||
	    asprintf(&reason, "milter %s failed: %s", l->conf->name,
	        l->why != NULL ? l->why : "") == -1)
		return;
	c->held_reason = reason;
	c->held_by = l->conf->name;
}

/* failed - what a milter that failed means for the question in hand */
static void
failed(struct chain *c, struct link *l)
{
	struct outcome o = { failure_outcome(l->conf->on_failure), NULL };

	/* A refusal stands, and an unknown command is refused anyway. */
	if (l->mode == MODE_SHADOW || c->refused != NULL || c->q == Q_UNKNOWN)
		return;
	if (l->conf->on_failure == FAIL_QUARANTINE && c->in_message)
		hold(c, l);
	if (l->conf->on_failure == FAIL_ACCEPT && !l->noted_open) {
		l->noted_open = true;
		stats_fail_open(l);
		engine_alarm(c->engine, l->conf->name,
		    l->why != NULL ? l->why : "failed");
	}
	if (o.kind != OUT_CONTINUE)
		answer(c, o.kind, outcome_text(&o, c->q == Q_CONNECT),
		    l->conf->name);
}

/* sticky - a verdict on the whole message: later questions get it too */
static void
sticky(struct chain *c, struct link *l, const struct outcome *o)
{
	outcome_clear(&c->message);
	c->message.kind = o->kind;
	c->message.reply = o->reply != NULL ? strdup(o->reply) : NULL;
	c->message_by = l->conf->name;
	record_final(l, o->kind);
	answer(c, o->kind, outcome_text(o, false), l->conf->name);
}

/* judge - the link has said what it had to say */
static void
judge(struct chain *c, struct link *l)
{
	struct outcome *o = &l->now;

	if (l->skipped || l->mode == MODE_OFF ||
	    (c->q == Q_MAIL && !l->conf->early))
		return;
	if (c->q == Q_MESSAGE && l->asked && !l->failed &&
	    (o->kind == OUT_CONTINUE || o->kind == OUT_ACCEPT) &&
	    content_commit(l) == -1)
		link_fail(l, false, "changes: %s", strerror(errno));
	if (l->failed) {
		failed(c, l);
		return;
	}
	if (c->q == Q_MESSAGE)
		record_final(l, l->asked ? o->kind : OUT_ACCEPT);
	if (l->mode == MODE_SHADOW)
		return;
	if (c->session.kind != OUT_NONE) {
		record_final(l, c->session.kind);
		answer(c, c->session.kind, outcome_text(&c->session, false),
		    c->session_by);
	} else if (l->verdict.kind != OUT_NONE) {
		sticky(c, l, &l->verdict);
	} else if (l->asked && o->kind == OUT_DISCARD && c->q == Q_RCPT) {
		sticky(c, l, o);
	} else if (l->asked && outcome_verdict(o->kind) != CHAIN_CONTINUE) {
		record_final(l, o->kind);
		answer(c, o->kind, outcome_text(o, false), l->conf->name);
	}
}

/* link_may_edit - could it still change what those after it see? */
bool
link_may_edit(const struct link *l)
{
	const uint32_t edits = MILTER_MAY_ALL &
	    ~(uint32_t)(MILTER_MAY_QUARANTINE | MILTER_MAY_SET_MACROS);

	if (l->skipped || l->out || l->failed || (l->done && !l->asked) ||
	    l->mode == MODE_OFF || l->mode == MODE_SHADOW)
		return (false);
	return (!conn_ready(l) ||
	    (l->conn->opts.actions & l->conf->may & edits) != 0);
}

/* side_by_side - content also goes to those behind the link in hand, as long as
 * nobody before them can change it; verdicts still count in order */
static void
side_by_side(struct chain *c)
{
	size_t i;

	for (i = c->at; i + 1 < c->n_links && !link_may_edit(c->links[i]); i++)
		(void)link_ask(c->links[i + 1]);
}

/* step - go on with the question as far as it goes */
static void
step(struct chain *c)
{
	struct link *l;

	while (c->q != Q_NONE && !c->answered) {
		if (c->at == c->n_links) {
			answer(c, OUT_CONTINUE, "", NULL);
			break;
		}
		l = c->links[c->at];
		if (link_ask(l) == 1) {
			if (c->q == Q_MESSAGE)
				side_by_side(c);
			break;
		}
		judge(c, l);
		c->at++;
	}
}

/* end_message - nothing of the message is left; milters that have it open are
 * told so with the next write */
static void
end_message(struct chain *c)
{
	size_t i;

	for (i = 0; i < c->n_links; i++)
		link_abort(c->links[i]);
	replay_clear(c);
	c->in_message = false;
	c->n_rcpts = 0;
	c->has_auth_message = false;
	outcome_clear(&c->message);
	free(c->held_reason);
	c->held_reason = NULL;
	view_fini(&c->view);
	c->msg = NULL;
	c->env = NULL;
}

/* complete - the last of the answer: results into the receiver's message */
static void
complete(struct chain *c, enum question q, char **reason_r)
{
	struct chain_answer *a = &c->answer;
	bool go_on = a->verdict == CHAIN_CONTINUE;

	if (q == Q_RCPT) {
		replay_note(c);
		a->authorised = authorised(c);
		if (go_on && c->refused == NULL)
			c->n_rcpts++;
		c->rcpt = c->refused = NULL;
		c->route = NULL;
	} else if (q == Q_MESSAGE) {
		if (go_on && c->held_reason != NULL) {
			a->quarantine = true;
			a->hold_by = c->held_by;
			*reason_r = c->held_reason;
			c->held_reason = NULL;
		}
		if (go_on)
			view_store(&c->view, c->msg, c->env);
	}
	if (q == Q_MESSAGE || (q == Q_MAIL && !go_on))
		end_message(c);
}

/* fire - give the answer; c may be gone when it returns */
static void
fire(struct chain *c)
{
	struct settings *settings = settings_ref(c->settings);
	chain_done_fn *done = c->done;
	void *arg = c->arg;
	enum question q = c->q;
	struct chain_answer a;
	char *reason = NULL, *reply;

	(void)event_del(c->defer);
	complete(c, q, &reason);
	c->q = Q_NONE;
	c->answered = false;
	reply = c->ans_reply;
	c->ans_reply = NULL;
	a = c->answer;
	if (a.verdict == CHAIN_CONTINUE)
		a.reply = "";
	else
		a.reply = reply != NULL ? reply : NO_MEMORY;
	a.reason = reason != NULL ? reason : "";
	if (a.hold_by == NULL)
		a.hold_by = "";
	done(arg, &a);
	free(reply);
	free(reason);
	settings_unref(&settings); /* names in the answer belong to it */
}

void
chain_wake(struct link *l)
{
	struct chain *c = l->chain;

	if (c->q != Q_NONE && !c->answered && c->at < c->n_links) {
		if (c->links[c->at] == l)
			step(c);
		else if (c->q == Q_MESSAGE && (l->asked || l->replays > 0))
			(void)link_ask(l); /* its body goes on meanwhile */
	}
	if (c->q != Q_NONE && c->answered)
		fire(c);
}

static void
on_defer(evutil_socket_t fd, short what, void *arg)
{
	struct chain *c = arg;

	(void)fd;
	(void)what;
	if (c->q != Q_NONE && c->answered)
		fire(c);
}

/* question_ms - the whole chain's time for one question; where the settings do
 * not say, a milter given longer by its own gets it */
static uint64_t
question_ms(const struct chain *c)
{
	uint64_t ms = CHAIN_TOTAL_MS;
	size_t i;

	if (c->settings->limits.chain_ms > 0)
		return (c->settings->limits.chain_ms);
	for (i = 0; i < c->n_links; i++)
		if (c->links[i]->conf->message_ms > ms)
			ms = c->links[i]->conf->message_ms;
	return (ms);
}

/* begin - a question from the receiver */
static void
begin(struct chain *c, enum question q, chain_done_fn *done, void *arg)
{
	size_t i;

	assert(c->q == Q_NONE);
	c->q = q;
	c->done = done;
	c->arg = arg;
	c->at = 0;
	c->answered = false;
	c->by_us = now_us() + question_ms(c) * 1000;
	for (i = 0; i < c->n_links; i++) {
		c->links[i]->asked = c->links[i]->rcpt_skip = false;
		c->links[i]->by_us = 0;
		outcome_clear(&c->links[i]->now);
	}
	if (c->session.kind != OUT_NONE)
		answer(c, c->session.kind, outcome_text(&c->session, false),
		    c->session_by);
	else if (c->message.kind != OUT_NONE && c->in_message)
		answer(c, c->message.kind, outcome_text(&c->message, false),
		    c->message_by);
	else
		step(c);
	if (c->answered)
		event_active(c->defer, EV_TIMEOUT, 0);
}

/* refuse - a question that needs no milter to be answered */
static void
refuse(struct chain *c, enum question q, enum outcome_kind kind,
    const char *reply, chain_done_fn *done, void *arg)
{
	assert(c->q == Q_NONE);
	c->q = q;
	c->done = done;
	c->arg = arg;
	answer(c, kind, reply, NULL);
	event_active(c->defer, EV_TIMEOUT, 0);
}

/* link_init - one milter that the session may be shown to; false: no state for
 * its name */
static bool
link_init(struct chain *c, struct link *l, size_t milter)
{
	const struct policy *p = &c->settings->policies[c->policy];

	l->chain = c;
	l->shared = &c->settings->milters[milter];
	l->own = *l->shared;
	l->conf = &l->own;
	l->state = engine_state(c->engine, l->conf->name);
	if (l->state == NULL)
		return (false);
	l->authoriser = p->has_authoriser && p->authoriser == milter;
	/* Draining: sessions that run go on, this one begins without. */
	l->mode = engine_effective(l->state, l->conf);
	l->drained = l->mode == MODE_DRAIN;
	return (true);
}

/* link_set - as the policy wants it; a run-time switch goes over that */
static void
link_set(struct link *l, const struct policy_step *step)
{
	enum milter_mode mode;

	l->own = *l->shared;
	l->own.mode = step->mode;
	l->own.on_failure = step->on_failure;
	l->own.connect_ms = step->connect_ms;
	l->own.command_ms = step->command_ms;
	l->own.message_ms = step->message_ms;
	l->skipped = l->drained || step->skipped;
	l->by = step->skipped ? step->skip : step->in;
	mode = engine_effective(l->state, l->conf);
	if (mode != MODE_DRAIN)
		l->mode = mode;
	if (!l->counted && !l->skipped && l->mode != MODE_OFF) {
		l->counted = true;
		l->state->sessions++;
	}
	l->chain->keep |=
	    !l->skipped && l->conf->n_endpoints > 1 && !l->conf->no_replay;
}

/*
 * choose - the chain that the policy picks by what is known of the session so
 * far, and at MAIL of the sender.  -1 with errno: nothing has changed.
 */
static int
choose(struct chain *c, uint32_t known)
{
	const struct chain_facts *s = c->facts;
	const struct policy *p = &c->settings->policies[c->policy];
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
		.week_minute = policy_week_minute(time(NULL)),
	};
	struct policy_chain chain;
	size_t i, k;

	if (policy_decide(c->settings, c->policy, &f, &chain) == -1)
		return (-1);
	for (i = 0; i < chain.n_steps; i++) {
		for (k = 0; p->reach[k] != chain.steps[i].milter; k++)
			;
		link_set(&c->all[k], &chain.steps[i]);
		c->links[i] = &c->all[k];
	}
	c->n_links = chain.n_steps;
	policy_chain_fini(&chain);
	return (0);
}

struct chain *
chain_new(struct engine *e, struct settings *s, size_t policy,
    const struct chain_facts *facts)
{
	struct chain *c = calloc(1, sizeof(*c));
	const struct policy *p = &s->policies[policy];

	if (c == NULL)
		return (NULL);
	c->engine = e;
	c->settings = settings_ref(s);
	c->policy = policy;
	c->facts = facts;
	c->defer = event_new(e->base, -1, 0, on_defer, c);
	c->all = calloc(p->n_reach + 1, sizeof(*c->all));
	c->links = calloc(p->n_reach + 1, sizeof(*c->links));
	if (c->defer == NULL || c->all == NULL || c->links == NULL)
		goto fail;
	for (; c->n_all < p->n_reach; c->n_all++)
		if (!link_init(c, &c->all[c->n_all], p->reach[c->n_all]))
			goto fail;
	if (choose(c, POLICY_AT_CONNECT) == -1)
		goto fail;
	return (c);

fail:
	chain_free(&c);
	errno = ENOMEM;
	return (NULL);
}

static void
free_mail(struct chain *c)
{
	free(c->sender);
	c->sender = NULL;
	while (c->n_mail_args > 0)
		free(c->mail_args[--c->n_mail_args]);
	free(c->mail_args);
	c->mail_args = NULL;
}

void
chain_free(struct chain **cp)
{
	struct chain *c = *cp;
	size_t i;

	if (c == NULL)
		return;
	*cp = NULL;
	c->q = Q_NONE;
	for (i = 0; i < c->n_all; i++) {
		struct link *l = &c->all[i];

		conn_put(l);
		recording_end(l);
		link_reset_message(l);
		outcome_clear(&l->now);
		record_clear(l);
		free(l->why);
		free(l->fault);
		free(l->heard);
	}
	free(c->all);
	free(c->links);
	free_mail(c);
	outcome_clear(&c->session);
	outcome_clear(&c->message);
	free(c->held_reason);
	free(c->ans_reply);
	free(c->summary);
	view_fini(&c->view);
	replay_clear(c);
	if (c->defer != NULL)
		event_free(c->defer);
	settings_unref(&c->settings);
	free(c);
}

void
chain_connect(struct chain *c, chain_done_fn *done, void *arg)
{
	begin(c, Q_CONNECT, done, arg);
}

void
chain_helo(struct chain *c, chain_done_fn *done, void *arg)
{
	if (c->in_message)
		end_message(c);
	if (++c->helo == 0)
		c->helo = 1;
	begin(c, Q_HELO, done, arg);
}

/* keep_mail - copies: a milter that is not early hears them later */
static int
keep_mail(
    struct chain *c, const char *sender, const char *const *args, size_t n)
{
	free_mail(c);
	if ((c->sender = strdup(sender)) == NULL ||
	    (c->mail_args = calloc(n + 1, sizeof(*c->mail_args))) == NULL)
		return (-1);
	for (; c->n_mail_args < n; c->n_mail_args++)
		if ((c->mail_args[c->n_mail_args] =
		            strdup(args[c->n_mail_args])) == NULL)
			return (-1);
	return (0);
}

/* renew - a link before a new message */
static void
renew(struct chain *c, struct link *l)
{
	if (c->message_seen)
		record_clear(l);
	link_reset_message(l);
	if (l->mode == MODE_OFF)
		conn_put(l);
}

void
chain_mail(struct chain *c, const char *id, const char *sender,
    const char *const *args, size_t n_args, chain_done_fn *done, void *arg)
{
	size_t i;

	end_message(c);
	(void)snprintf(c->id, sizeof(c->id), "%s", id);
	if (keep_mail(c, sender, args, n_args) == -1 ||
	    choose(c, POLICY_AT_MAIL) == -1) {
		refuse(c, Q_MAIL, OUT_TEMPFAIL, NO_MEMORY, done, arg);
		return;
	}
	for (i = 0; i < c->n_all; i++)
		renew(c, &c->all[i]);
	c->message_seen = true;
	c->in_message = true;
	begin(c, Q_MAIL, done, arg);
}

void
chain_rcpt(struct chain *c, const char *rcpt, const char *const *args,
    size_t n_args, const struct route *route, const char *refused,
    chain_done_fn *done, void *arg)
{
	c->rcpt = rcpt;
	c->rcpt_args = args;
	c->n_rcpt_args = n_args;
	c->route = route;
	c->refused = refused;
	c->auth_rcpt = false;
	begin(c, Q_RCPT, done, arg);
}

void
chain_data(struct chain *c, chain_done_fn *done, void *arg)
{
	begin(c, Q_DATA, done, arg);
}

void
chain_message(struct chain *c, struct message *m, struct envelope *env,
    chain_done_fn *done, void *arg)
{
	size_t i;

	c->msg = m;
	c->env = env;
	view_fini(&c->view);
	view_init(&c->view, m, env);
	for (i = 0; i < m->n_fields; i++)
		if (strlen(m->fields[i].name) + m->fields[i].value_len >
		    FIELD_MAX) {
			refuse(c, Q_MESSAGE, OUT_REJECT,
			    "554 5.6.0 Header field too long", done, arg);
			return;
		}
	begin(c, Q_MESSAGE, done, arg);
}

void
chain_abort(struct chain *c)
{
	c->q = Q_NONE;
	c->answered = false;
	c->rcpt = c->refused = NULL;
	c->route = NULL;
	(void)event_del(c->defer);
	end_message(c);
}

void
chain_unknown(struct chain *c, const char *line, chain_done_fn *done, void *arg)
{
	c->line = line;
	begin(c, Q_UNKNOWN, done, arg);
}
