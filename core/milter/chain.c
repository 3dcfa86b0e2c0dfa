/* SPDX-License-Identifier: ISC */

/*
 * chain - questions of one SMTP session, put to its milters in order
 *
 * The first milter that does not let go on ends the stage; those after it do
 * not hear of it (as in Sendmail and Postfix).  Answers are given from the
 * event loop only, and last, because the receiver may free the chain in them.
 */

#include "core/milter/chain_int.h"

#include "quarantine/quarantine.h"

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

/* chain_answer - the question is decided; given later by fire() */
void
chain_answer(struct chain *c, enum outcome_kind kind, const char *reply,
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

/* later - not everybody's milter: what it says before the first recipient is
 * answered to those that have it, what at DATA to their groups */
static bool
later(const struct chain *c, const struct link *l)
{
	switch (c->q) {
	case Q_CONNECT:
	case Q_HELO:
	case Q_MAIL:
		return (l->varies);
	case Q_DATA:
		return (l->varies && !groups_all_have(c, l));
	default:
		return (false);
	}
}

/* failed - what a milter that failed means for the question in hand */
static void
failed(struct chain *c, struct link *l)
{
	enum fail_action action = groups_failure(c, l);
	struct outcome o = { failure_outcome(action), NULL };

	/* A refusal stands, and an unknown command is refused anyway. */
	if (c->refused != NULL || c->q == Q_UNKNOWN || later(c, l))
		return;
	if (action == FAIL_ACCEPT)
		link_fail_open(l);
	if (o.kind != OUT_CONTINUE)
		chain_answer(c, o.kind, outcome_text(&o, c->q == Q_CONNECT),
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
	chain_answer(c, o->kind, outcome_text(o, false), l->conf->name);
}

/* on_message - a verdict on the whole message.  Of a milter that not everybody
 * has, it concerns the recipients that have it. */
static void
on_message(struct chain *c, struct link *l, const struct outcome *o)
{
	if (!l->varies || o->kind == OUT_SHUTDOWN ||
	    (c->q == Q_DATA && groups_all_have(c, l))) {
		sticky(c, l, o);
		return;
	}
	if (c->q != Q_RCPT)
		return;
	record_final(l, o->kind);
	if (o->kind == OUT_DISCARD) /* accepted, and dropped with its group */
		chain_answer(c, OUT_CONTINUE, "", NULL);
	else
		chain_answer(c, o->kind, outcome_text(o, false), l->conf->name);
}

/* judge - the link has said what it had to say */
static void
judge(struct chain *c, struct link *l)
{
	enum milter_mode mode = groups_mode(c, l);
	struct outcome *o = &l->now;

	if (mode == MODE_OFF || (mode == MODE_SHADOW && !c->detached) ||
	    (c->q == Q_MAIL && !l->conf->early))
		return;
	if (l->varies && l->asked && o->kind == OUT_DISCARD && c->q == Q_RCPT)
		l->verdict.kind = OUT_DISCARD;
	/* The content phase tells whom such a failure concerns. */
	l->counts |= !(l->failed && later(c, l));
	if (mode == MODE_SHADOW)
		return;
	if (l->failed) {
		failed(c, l);
	} else if (c->session.kind != OUT_NONE) {
		record_final(l, c->session.kind);
		chain_answer(c, c->session.kind,
		    outcome_text(&c->session, false), c->session_by);
	} else if (l->kept.kind != OUT_NONE) {
		if (c->q != Q_RCPT)
			return;
		record_final(l, l->kept.kind);
		chain_answer(c, l->kept.kind, outcome_text(&l->kept, false),
		    l->conf->name);
	} else if (l->verdict.kind != OUT_NONE) {
		on_message(c, l, &l->verdict);
	} else if (l->asked && o->kind == OUT_DISCARD && c->q == Q_RCPT) {
		sticky(c, l, o);
	} else if (l->asked && outcome_verdict(o->kind) != CHAIN_CONTINUE) {
		record_final(l, o->kind);
		chain_answer(c, o->kind, outcome_text(o, false), l->conf->name);
	}
}

/* chain_step - go on with the question as far as it goes */
void
chain_step(struct chain *c)
{
	enum milter_mode mode;
	struct link *l;

	if (c->q == Q_MESSAGE)
		run_step(c);
	while (c->q != Q_NONE && !c->answered) {
		if (c->q == Q_MESSAGE)
			break;
		if (c->at == c->n_links) {
			chain_answer(c, OUT_CONTINUE, "", NULL);
			break;
		}
		l = c->links[c->at];
		mode = groups_mode(c, l);
		if (mode != MODE_OFF && (mode != MODE_SHADOW || c->detached) &&
		    link_ask(l) == 1)
			break;
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

	for (i = 0; i < c->n_all; i++) {
		link_abort(&c->all[i]);
		outcome_clear(&c->all[i].verdict);
	}
	groups_end(c);
	replay_clear(c);
	known_clear(c);
	c->in_message = false;
	c->n_rcpts = 0;
	c->has_auth_message = false;
	outcome_clear(&c->message);
	c->msg = NULL;
	c->env = NULL;
}

/* chain_only_group - of the content phase, or NULL if there are several */
struct group *
chain_only_group(struct chain *c)
{
	struct group *g = NULL;
	size_t k;

	for (k = 0; k < c->n_groups; k++) {
		if (!c->groups[k].live)
			continue;
		if (g != NULL)
			return (NULL);
		g = &c->groups[k];
	}
	return (g);
}

/* complete_one - the only group's results into the receiver's message */
static void
complete_one(struct chain *c, struct group *g, char *held_r[2])
{
	struct chain_answer *a = &c->answer;
	uint32_t flags = g->view->flags;

	if (a->verdict != CHAIN_CONTINUE)
		return;
	if (g->held_reason != NULL) {
		a->quarantine = true;
		held_r[0] = g->held_reason;
		held_r[1] = g->held_by;
		g->held_reason = g->held_by = NULL;
		return; /* kept as it was received */
	}
	view_store(g->view, c->msg);
	if (g->own_env) {
		env_fini(c->env);
		*c->env = *g->env;
		free(g->env);
		g->env = NULL;
		g->own_env = false;
	}
	c->env->flags |= flags;
}

/* complete - the last of the answer: results into the receiver's message */
static void
complete(struct chain *c, enum question q, char *held_r[2])
{
	struct chain_answer *a = &c->answer;
	bool go_on = a->verdict == CHAIN_CONTINUE;
	struct group *g;

	if (q == Q_RCPT) {
		a->authorised = authorised(c);
		a->group = (uint16_t)c->group;
		if (replay_note(c) == -1 && go_on && c->refused == NULL) {
			a->verdict = CHAIN_TEMPFAIL; /* no memory */
			go_on = false;
		}
		if (go_on && c->refused == NULL)
			c->n_rcpts++;
		if (go_on && (a->authorised || c->detached))
			groups_accept(c);
		c->rcpt = c->refused = NULL;
		c->rcpt_args = NULL;
		c->n_rcpt_args = 0;
		c->route = NULL;
	} else if (q == Q_MESSAGE && c->concluded) {
		shadow_begin(c);
		if ((g = chain_only_group(c)) != NULL)
			complete_one(c, g, held_r);
		else if (groups_result(c, a) == -1)
			a->verdict = CHAIN_TEMPFAIL;
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
	char *held[2] = { NULL, NULL }, *reply;

	(void)event_del(c->defer);
	complete(c, q, held);
	c->q = Q_NONE;
	c->answered = false;
	reply = c->ans_reply;
	c->ans_reply = NULL;
	a = c->answer;
	if (a.verdict == CHAIN_CONTINUE)
		a.reply = "";
	else
		a.reply = reply != NULL ? reply : NO_MEMORY;
	a.reason = held[0] != NULL ? held[0] : "";
	a.hold_by = held[1] != NULL ? held[1] : "";
	done(arg, &a);
	groups_result_free(&a);
	free(reply);
	free(held[0]);
	free(held[1]);
	settings_unref(&settings); /* names in the answer belong to it */
}

/* settle - give the answer, if it is there and somebody waits for it */
static void
settle(struct chain *c)
{
	if (c->q == Q_NONE)
		return;
	if (c->streaming)
		stream_settle(c);
	else if (c->answered)
		fire(c);
}

void
chain_wake(struct link *l)
{
	struct chain *c = l->chain;

	if (c->deciding)
		return; /* it is not known yet who is asked */
	if (c->q == Q_MESSAGE && !c->answered && l->started) {
		(void)run_ask(l); /* its body goes on before its turn, too */
		chain_step(c);
	} else if (c->q != Q_NONE && !c->answered && c->at < c->n_links &&
	    c->links[c->at] == l)
		chain_step(c);
	settle(c);
}

static void
on_defer(evutil_socket_t fd, short what, void *arg)
{
	struct chain *c = arg;

	(void)fd;
	(void)what;
	settle(c);
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

/* decide - the chain for the question in hand.  1 waits for a table, 0, or -1:
 * it is answered. */
static int
decide(struct chain *c)
{
	const char *refused = NULL;
	int r;

	if (c->q == Q_RCPT)
		r = decide_rcpt(c, &refused);
	else
		r = decide_session(
		    c, c->q == Q_MAIL ? POLICY_AT_MAIL : POLICY_AT_CONNECT);
	if (r == 1)
		return (1);
	c->deciding = false;
	if (r == -1) {
		log_warning("%s: policy=%s: no chain: %s",
		    c->id[0] != '\0' ? c->id : "NOQUEUE",
		    c->settings->policies[c->policy].name, strerror(errno));
		refused = errno == ENOMEM
		    ? NO_MEMORY
		    : "451 4.3.0 A table of our policy cannot be read now";
	}
	if (refused == NULL)
		return (0);
	/* What the server refuses is refused; at MAIL we ask again. */
	if (c->refused != NULL || c->q == Q_CONNECT)
		chain_answer(c, OUT_CONTINUE, "", NULL);
	else
		chain_answer(c, OUT_TEMPFAIL, refused, NULL);
	return (-1);
}

/* go_on - the chain, if the question needs one, then its milters */
static void
go_on(struct chain *c)
{
	size_t i;

	if (c->deciding && decide(c) != 0)
		return;
	c->by_us = now_us() + question_ms(c) * 1000;
	for (i = 0; i < c->n_all && c->q == Q_MAIL; i++)
		if ((c->all[i].mode == MODE_OFF || link_apart(&c->all[i])) &&
		    !c->all[i].varies)
			conn_put(&c->all[i]);
	if (c->session.kind != OUT_NONE)
		chain_answer(c, c->session.kind,
		    outcome_text(&c->session, false), c->session_by);
	else if (c->message.kind != OUT_NONE && c->in_message)
		chain_answer(c, c->message.kind,
		    outcome_text(&c->message, false), c->message_by);
	else
		chain_step(c);
}

void
chain_go_on(struct chain *c)
{
	if (c->q == Q_NONE || c->answered || !c->deciding)
		return;
	go_on(c);
	if (c->answered)
		event_active(c->defer, EV_TIMEOUT, 0);
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
	c->deciding =
	    !c->detached && (q == Q_CONNECT || q == Q_MAIL || q == Q_RCPT);
	for (i = 0; i < c->n_all; i++) {
		c->all[i].asked = c->all[i].rcpt_skip = false;
		c->all[i].by_us = 0;
		outcome_clear(&c->all[i].now);
	}
	go_on(c);
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
	chain_answer(c, kind, reply, NULL);
	event_active(c->defer, EV_TIMEOUT, 0);
}

bool
link_held(const struct link *l)
{
	const char *without = l->chain->facts->without;

	return (
	    without != NULL && quarantine_names_has(without, l->conf->name));
}

bool
link_init(struct chain *c, struct link *l, size_t milter)
{
	const struct policy *p = &c->settings->policies[c->policy];

	l->chain = c;
	l->milter = milter;
	l->index = c->n_all;
	l->shared = &c->settings->milters[milter];
	l->own = *l->shared;
	l->conf = &l->own;
	l->state = engine_state(c->engine, l->conf->name);
	if (l->state == NULL)
		return (false);
	l->authoriser = p->has_authoriser && p->authoriser == milter;
	/* Draining: sessions that run go on, this one begins without. */
	l->drained = engine_effective(l->state, l->conf) == MODE_DRAIN ||
	    (!l->authoriser && link_held(l));
	l->skipped = true; /* nobody's, until the rules say so */
	return (true);
}

struct chain *
chain_bare(struct engine *e, struct settings *s, size_t policy,
    const struct chain_facts *facts, size_t n_links)
{
	struct chain *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return (NULL);
	c->engine = e;
	c->settings = settings_ref(s);
	c->policy = policy;
	c->facts = facts;
	c->defer = event_new(e->base, -1, 0, on_defer, c);
	c->all = calloc(n_links + 1, sizeof(*c->all));
	c->links = calloc(n_links + 1, sizeof(*c->links));
	if (c->defer != NULL && c->all != NULL && c->links != NULL)
		return (c);
	chain_free(&c);
	errno = ENOMEM;
	return (NULL);
}

struct chain *
chain_new(struct engine *e, struct settings *s, size_t policy,
    const struct chain_facts *facts)
{
	const struct policy *p = &s->policies[policy];
	struct chain *c = chain_bare(e, s, policy, facts, p->n_reach);

	if (c == NULL)
		return (NULL);
	for (; c->n_all < p->n_reach; c->n_all++)
		if (!link_init(c, &c->all[c->n_all], p->reach[c->n_all])) {
			chain_free(&c);
			errno = ENOMEM;
			return (NULL);
		}
	return (c);
}

const char *const *
chain_mail_args(const struct chain *c, size_t *n_r)
{
	*n_r = c->n_mail_args;
	return ((const char *const *)c->mail_args);
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
	shadow_disown(c);
	c->q = Q_NONE;
	groups_clear(c);
	for (i = 0; i < c->n_all; i++) {
		struct link *l = &c->all[i];

		conn_put(l);
		recording_end(l);
		link_reset_message(l);
		outcome_clear(&l->now);
		outcome_clear(&l->kept);
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
	free(c->ans_reply);
	free(c->summary);
	replay_clear(c);
	known_clear(c);
	free(c->asked_key);
	policy_chain_fini(&c->session_chain);
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
}

void
chain_mail(struct chain *c, const char *id, const char *sender,
    const char *const *args, size_t n_args, chain_done_fn *done, void *arg)
{
	size_t i;

	shadow_disown(c);
	end_message(c);
	groups_clear(c);
	(void)snprintf(c->id, sizeof(c->id), "%s", id);
	if (keep_mail(c, sender, args, n_args) == -1) {
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
	if (c->q == Q_MESSAGE) { /* told while it came */
		c->done = done;
		c->arg = arg;
		c->by_us = now_us() + question_ms(c) * 1000;
		stream_end(c);
		if (c->answered)
			event_active(c->defer, EV_TIMEOUT, 0);
		return;
	}
	c->concluded = c->cut = false;
	for (i = 0; i < m->n_fields; i++)
		if (strlen(m->fields[i].name) + m->fields[i].value_len >
		    FIELD_MAX) {
			refuse(c, Q_MESSAGE, OUT_REJECT,
			    "554 5.6.0 Header field too long", done, arg);
			return;
		}
	if (groups_begin(c) == -1)
		refuse(c, Q_MESSAGE, OUT_TEMPFAIL, NO_MEMORY, done, arg);
	else
		begin(c, Q_MESSAGE, done, arg);
}

void
chain_abort(struct chain *c)
{
	c->q = Q_NONE;
	c->answered = c->deciding = c->streaming = false;
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
