/* SPDX-License-Identifier: ISC */

/*
 * shadow - milters whose word does not count, asked when all is decided
 *
 * No reply waits for a milter in shadow.  When the content phase has come to
 * its end, each such milter gets a session of its own: a chain of one link,
 * told CONNECT to end of message from a copy.  The copy is the version that the
 * milter would have seen at its turn, for the recipients that have it so.
 *
 * What it said is told when its session is over and when the receiver has said
 * what became of the message, whichever comes last.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHADOW_RECORD_MAX = 128 << 10,
	SHOWN_BYTES = 512 /* of a recipient, about */
};

/* What such a session is told; those with the same version share it. */
struct copy {
	unsigned refs;
	struct engine *engine;
	size_t bytes;
	struct chain_facts facts;
	struct buf strings;
	bool helo;
	struct shown mail; /* the sender, as a recipient */
	struct shown *shown;
	size_t n_shown;
	struct message msg;
};

/* One group: its record. */
struct shadow_of {
	uint16_t group; /* in the chain */
	unsigned number;
	char id[ENV_ID_MAX];
	char *outcome, *reply, *by; /* NULL: not told yet */
};

struct shadow {
	struct shadow *next;
	struct engine *engine;
	const struct chain *owner; /* until all outcomes are told */
	struct copy *copy;         /* these, until it is over */
	struct chain *chain;
	struct envelope env;
	struct settings *settings; /* names belong to it */
	struct policy_step step;
	const char *milter, *policy;
	char *listener;
	uint64_t arrival_ms;
	uint32_t groups;
	struct shadow_of *of;
	size_t n_of;
	enum question asked; /* last */
	size_t at;           /* of copy.shown: the next */
	unsigned refused;    /* of them, by the milter */
	enum outcome_kind would, rcpt_would;
	const char *verdict;
	bool over;
	struct buf record;
};

bool
link_apart(const struct link *l)
{
	return (l->mode == MODE_SHADOW && !l->chain->detached);
}

static void
copy_unref(struct copy **cp)
{
	struct copy *k = *cp;

	*cp = NULL;
	if (k == NULL || --k->refs > 0)
		return;
	k->engine->shadow_bytes -= k->bytes;
	buf_fini(&k->strings);
	shown_fini(&k->mail);
	while (k->n_shown > 0)
		shown_fini(&k->shown[--k->n_shown]);
	free(k->shown);
	message_fini(&k->msg);
	free(k);
}

/* copy_facts - strings and all */
static int
copy_facts(struct copy *k, const struct chain_facts *from)
{
	struct chain_facts *f = &k->facts;
	const char **members[] = { &f->hostname, &f->listener, &f->daemon_addr,
		&f->client_name, &f->client_ptr, &f->client_resolve,
		&f->client_addr, &f->helo, &f->proto, &f->version,
		&f->tls_version, &f->cipher, &f->cipher_bits, &f->cert_subject,
		&f->cert_issuer, &f->verify, &f->auth_type, &f->auth_authen,
		&f->auth_author, &f->auth_ssf, &f->without };
	const size_t n = sizeof(members) / sizeof(members[0]);
	const char *p;
	size_t i;

	*f = *from;
	f->lookup = NULL;
	f->lookup_arg = NULL;
	k->strings.max = SIZE_MAX / 8;
	for (i = 0; i < n; i++)
		if (*members[i] != NULL &&
		    buf_add(&k->strings, *members[i],
		        strlen(*members[i]) + 1) == -1)
			return (-1);
	p = k->strings.data;
	for (i = 0; i < n; i++)
		if (*members[i] != NULL) {
			*members[i] = p;
			p += strlen(p) + 1;
		}
	return (0);
}

static bool
concerns(const struct chain *c, const struct shown *s, uint32_t groups)
{
	/* Of one refused by the server nobody knows the group. */
	if (s->refused != NULL)
		return (c->n_groups == 1);
	return (s->accepted && (groups & 1u << s->group) != 0);
}

static int
copy_shown(struct copy *k, const struct chain *c, uint32_t groups)
{
	size_t i;

	k->shown = calloc(c->n_shown + 1, sizeof(*k->shown));
	if (k->shown == NULL)
		return (-1);
	for (i = 0; i < c->n_shown; i++)
		if (concerns(c, &c->shown[i], groups) &&
		    shown_copy(&k->shown[k->n_shown++], &c->shown[i]) == -1)
			return (-1);
	return (0);
}

static int
copy_message(struct copy *k, const struct view *v)
{
	size_t i;

	for (i = 0; i < v->n_fields; i++) {
		const struct field *f = &v->fields[i];

		if (message_add(&k->msg, i, f->name, f->value, f->value_len) ==
		    -1)
			return (-1);
		k->msg.fields[i].hidden = f->hidden;
	}
	if (buf_add(&k->msg.mem, v->body, v->body_len) == -1)
		return (-1);
	if (v->body_len > 0)
		k->msg.body = k->msg.mem.data;
	k->msg.body_len = v->body_len;
	return (0);
}

static size_t
bytes_of(const struct chain *c, const struct view *v)
{
	size_t n = v->body_len + c->n_shown * SHOWN_BYTES, i;

	for (i = 0; i < v->n_fields; i++)
		n += v->fields[i].value_len + sizeof(struct field) + 64;
	return (n);
}

static struct copy *
copy_new(struct chain *c, uint32_t groups, const struct view *v)
{
	const struct shown mail = { .rcpt = c->sender,
		.args = c->mail_args,
		.n_args = c->n_mail_args };
	struct copy *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return (NULL);
	k->refs = 1;
	k->engine = c->engine;
	k->bytes = bytes_of(c, v);
	k->engine->shadow_bytes += k->bytes;
	k->helo = c->helo != 0;
	message_init(&k->msg);
	if (copy_facts(k, c->facts) == -1 ||
	    shown_copy(&k->mail, &mail) == -1 ||
	    copy_shown(k, c, groups) == -1 || copy_message(k, v) == -1)
		copy_unref(&k);
	return (k);
}

static void
shadow_free(struct shadow *s)
{
	struct engine *e = s->engine;
	struct shadow **at;

	for (at = &e->shadows; *at != NULL; at = &(*at)->next)
		if (*at == s) {
			*at = s->next;
			break;
		}
	if (!s->over)
		e->n_shadows--;
	chain_free(&s->chain);
	copy_unref(&s->copy);
	env_fini(&s->env);
	while (s->n_of > 0) {
		struct shadow_of *of = &s->of[--s->n_of];

		free(of->outcome);
		free(of->reply);
		free(of->by);
	}
	free(s->of);
	free(s->listener);
	buf_fini(&s->record);
	settings_unref(&s->settings);
	free(s);
}

static const char *
text_of(const char *s)
{
	return (s != NULL ? s : "");
}

/* tell - all is known of it, or will be; it is freed */
static void
tell(struct shadow *s)
{
	size_t i;

	for (i = 0; i < s->n_of && s->engine->shadow_fn != NULL; i++) {
		const struct shadow_of *of = &s->of[i];
		const struct chain_shadow told = { .id = of->id,
			.group = of->number,
			.arrival_ms = s->arrival_ms,
			.listener = s->listener,
			.policy = s->policy,
			.milter = s->milter,
			.verdict = s->verdict,
			.outcome = text_of(of->outcome),
			.reply = text_of(of->reply),
			.by = text_of(of->by),
			.milters = &s->record };

		s->engine->shadow_fn(s->engine->shadow_arg, &told);
	}
	shadow_free(s);
}

/* verdict_of - the milter's on all of the message, if it had counted */
static const char *
verdict_of(const struct shadow *s)
{
	const struct link *l = &s->chain->all[0];
	enum outcome_kind kind = s->would;
	size_t i;

	if (l->failed)
		return ("failed");
	if (kind == OUT_NONE && s->refused > 0 &&
	    s->refused >= s->env.n_rcpts) /* nobody was left */
		kind = s->rcpt_would;
	if (kind == OUT_NONE)
		kind = l->final;
	if (kind == OUT_CONTINUE || kind == OUT_ACCEPT)
		for (i = 0; i < l->n_notes; i++)
			if (l->notes[i].code == MILTER_QUARANTINE)
				return ("quarantine");
	return (outcome_word(kind));
}

/* end - its session is over; the chain may be in its last answer */
static void
end(struct shadow *s)
{
	log_info("%s: shadow: %s", s->of[0].id, chain_summary(s->chain));
	s->verdict = verdict_of(s);
	if (chain_record(s->chain, &s->record) == -1)
		buf_fini(&s->record);
	chain_free(&s->chain);
	copy_unref(&s->copy);
	s->over = true;
	s->engine->n_shadows--;
	if (s->owner == NULL)
		tell(s);
}

/* note - what it said to the last question */
static void
note(struct shadow *s)
{
	const struct link *l = &s->chain->all[0];
	bool said =
	    l->asked && l->now.kind != OUT_NONE && l->now.kind != OUT_CONTINUE;

	if (!said || l->failed || s->would != OUT_NONE)
		return;
	if (s->asked != Q_RCPT) {
		s->would = l->now.kind;
	} else if (l->now.kind == OUT_REJECT || l->now.kind == OUT_TEMPFAIL) {
		s->refused++;
		s->rcpt_would = l->now.kind;
	} else
		s->would = l->now.kind;
}

static void next(struct shadow *);

static void
on_answer(void *arg, const struct chain_answer *a)
{
	struct shadow *s = arg;

	(void)a; /* its word does not count here either */
	note(s);
	next(s);
}

/* add_group - of all that are told, with the milter as its only step */
static int
add_group(struct shadow *s)
{
	struct chain *c = s->chain;
	const struct policy *p = &c->settings->policies[c->policy];
	struct policy_chain chain = { .steps = malloc(sizeof(*chain.steps)),
		.n_steps = 1 };
	bool *pending = calloc(p->n_rules + 1, sizeof(*pending));
	uint8_t *modes = malloc(1);

	if (chain.steps == NULL || pending == NULL || modes == NULL) {
		free(chain.steps);
		free(pending);
		free(modes);
		return (-1);
	}
	chain.steps[0] = s->step;
	modes[0] = MODE_SHADOW;
	c->group = 0;
	return (groups_add(c, &chain, pending, modes) != NULL ? 0 : -1);
}

static void
ask_mail(struct shadow *s)
{
	const struct shown *m = &s->copy->mail;

	chain_mail(s->chain, s->env.id, m->rcpt, (const char *const *)m->args,
	    m->n_args, on_answer, s);
	if (add_group(s) == -1)
		link_fail(&s->chain->all[0], false, "%s", strerror(errno));
}

static void
ask_rcpt(struct shadow *s)
{
	const struct shown *r = &s->copy->shown[s->at++];

	chain_rcpt(s->chain, r->rcpt, (const char *const *)r->args, r->n_args,
	    r->route, r->refused, on_answer, s);
}

/* next - the question after the one that was answered */
static void
next(struct shadow *s)
{
	if (s->asked != Q_RCPT || s->at == s->copy->n_shown)
		s->asked++;
	if (s->asked == Q_HELO && !s->copy->helo)
		s->asked++;
	switch (s->asked) {
	case Q_CONNECT:
		chain_connect(s->chain, on_answer, s);
		break;
	case Q_HELO:
		chain_helo(s->chain, on_answer, s);
		break;
	case Q_MAIL:
		ask_mail(s);
		break;
	case Q_RCPT:
		ask_rcpt(s);
		break;
	case Q_DATA:
		chain_data(s->chain, on_answer, s);
		break;
	case Q_MESSAGE:
		chain_message(s->chain, &s->copy->msg, &s->env, on_answer, s);
		break;
	default:
		end(s);
		break;
	}
}

/* make_chain - of that one link, as the group's step wants it */
static int
make_chain(struct shadow *s, struct chain *c, const struct link *from)
{
	struct link *l;

	s->chain =
	    chain_bare(c->engine, c->settings, c->policy, &s->copy->facts, 1);
	if (s->chain == NULL ||
	    !link_init(s->chain, &s->chain->all[0], from->milter))
		return (-1);
	l = &s->chain->all[0];
	s->chain->n_all = s->chain->n_links = 1;
	s->chain->links[0] = l;
	s->chain->detached = true;
	s->chain->keep = l->conf->n_endpoints > 1 && !l->conf->no_replay;
	l->own = from->own;
	l->skipped = l->drained = false;
	l->mode = MODE_SHADOW;
	l->step = &s->step;
	link_limits(l, l->step);
	l->counted = true;
	l->state->sessions++;
	return (0);
}

/* make_env - as received; all recipients are of one group here */
static int
make_env(struct shadow *s, const struct chain *c)
{
	size_t i;

	if (env_clone_head(c->env, &s->env) == -1)
		return (-1);
	for (i = 0; i < c->env->n_rcpts; i++) {
		const struct rcpt *r = &c->env->rcpts[i];

		if (r->group >= c->n_groups ||
		    (s->groups & 1u << r->group) == 0)
			continue;
		if (group_rcpt_copy(&s->env, r) == -1)
			return (-1);
		s->env.rcpts[s->env.n_rcpts - 1].group = 0;
	}
	return (0);
}

static int
make_of(struct shadow *s, struct chain *c)
{
	bool one = chain_only_group(c) != NULL;
	size_t k;

	if ((s->of = calloc(c->n_groups, sizeof(*s->of))) == NULL)
		return (-1);
	for (k = 0; k < c->n_groups; k++) {
		const struct group *g = &c->groups[k];
		struct shadow_of *of = &s->of[s->n_of];

		if ((s->groups & 1u << k) == 0)
			continue;
		of->group = (uint16_t)k;
		of->number = one ? 0 : g->env->group;
		(void)snprintf(of->id, sizeof(of->id), "%s", g->env->id);
		s->n_of++;
	}
	return (0);
}

/* begin - one session; the copy is taken over.  -1 with ENOMEM */
static int
begin(struct chain *c, struct link *l, uint32_t groups, struct copy *k)
{
	struct engine *e = c->engine;
	struct shadow *s = calloc(1, sizeof(*s));
	const struct policy_step *step = NULL;
	size_t i;

	for (i = 0; i < c->n_groups && step == NULL; i++)
		if ((groups & 1u << i) != 0)
			step = group_step(&c->groups[i], l);
	if (s == NULL || step == NULL) {
		free(s);
		copy_unref(&k);
		return (-1);
	}
	s->engine = e;
	s->copy = k;
	s->step = *step;
	s->groups = groups;
	s->settings = settings_ref(c->settings);
	s->milter = l->shared->name;
	s->policy = c->settings->policies[c->policy].name;
	s->arrival_ms = c->env->arrival_ms;
	s->record.max = SHADOW_RECORD_MAX;
	s->next = e->shadows;
	e->shadows = s;
	e->n_shadows++;
	if ((s->listener = strdup(c->facts->listener)) == NULL ||
	    make_env(s, c) == -1 || make_of(s, c) == -1 ||
	    make_chain(s, c, l) == -1) {
		shadow_free(s);
		return (-1);
	}
	s->owner = c;
	c->has_shadows = true;
	return (0);
}

/* holders - groups, as bits, with a recipient and the milter in shadow */
static uint32_t
holders(const struct chain *c, size_t index)
{
	uint32_t bits = 0;
	size_t i;

	for (i = 0; i < c->n_shown; i++) {
		size_t k = c->shown[i].group;

		if (c->shown[i].accepted && k < c->n_groups &&
		    c->groups[k].live &&
		    c->groups[k].modes[index] == MODE_SHADOW)
			bits |= 1u << k;
	}
	return (bits);
}

/* version - what it would have seen: at its turn, or the last there was */
static const struct view *
version(const struct group *g, size_t index)
{
	return (g->seen != NULL && g->seen[index] != NULL ? g->seen[index]
	                                                  : g->view);
}

void
shadow_seen(struct chain *c, size_t i)
{
	size_t index = c->links[i]->index, k;

	for (k = 0; k < c->n_groups; k++) {
		struct group *g = &c->groups[k];

		if (!g->live || g->out.kind != OUT_NONE || c->detached ||
		    g->modes[index] != MODE_SHADOW)
			continue;
		if (g->seen == NULL)
			g->seen = calloc(c->n_all, sizeof(struct view *));
		if (g->seen == NULL)
			continue; /* it sees the last version */
		view_unref(&g->seen[index]);
		g->seen[index] = view_ref(g->view);
	}
}

/* room - why there is none, or NULL */
static const char *
room(const struct chain *c, const struct view *v, bool copied)
{
	const struct limits *m = &c->settings->limits;
	const struct engine *e = c->engine;

	if (c->cut)
		return ("the message was refused before its end");
	if (e->n_shadows >= m->shadow_sessions)
		return ("shadow-sessions");
	if (!copied &&
	    (e->shadow_bytes >= m->shadow_size ||
	        bytes_of(c, v) > m->shadow_size - e->shadow_bytes))
		return ("shadow-size");
	return (NULL);
}

/* show - the message to one milter, in a session for each version */
static void
show(struct chain *c, struct link *l, struct copy **copy,
    const struct view **copied, uint32_t *copied_for)
{
	uint32_t todo = holders(c, l->index), same;
	const struct view *v;
	const char *why;
	bool have;
	size_t k;

	for (; todo != 0; todo &= ~same) {
		for (v = NULL, same = 0, k = 0; k < c->n_groups; k++) {
			if ((todo & 1u << k) == 0)
				continue;
			if (v == NULL)
				v = version(&c->groups[k], l->index);
			if (view_same(version(&c->groups[k], l->index), v))
				same |= 1u << k;
		}
		have = *copy != NULL && v == *copied && same == *copied_for;
		why = room(c, v, have);
		if (why == NULL && !have) {
			copy_unref(copy);
			*copy = copy_new(c, same, v);
			*copied = v;
			*copied_for = same;
		}
		if (why == NULL && *copy != NULL) {
			(*copy)->refs++;
			if (begin(c, l, same, *copy) == 0)
				continue;
		}
		l->unshown = why != NULL ? why : "no memory";
		l->state->unshown++;
	}
}

void
shadow_begin(struct chain *c)
{
	struct copy *copy = NULL;
	const struct view *copied = NULL;
	uint32_t copied_for = 0;
	struct shadow *s, *after;
	size_t i;

	if (c->detached)
		return;
	for (i = 0; i < c->n_links; i++)
		show(c, c->links[i], &copy, &copied, &copied_for);
	copy_unref(&copy);
	for (s = c->has_shadows ? c->engine->shadows : NULL; s != NULL;
	     s = after) {
		after = s->next;
		if (s->owner == c && s->asked == Q_NONE)
			next(s);
	}
}

/* settle - all outcomes are told */
static void
settle(struct shadow *s)
{
	s->owner = NULL;
	if (s->over)
		tell(s);
}

void
chain_outcome(struct chain *c, int group, const char *outcome,
    const char *reply, const char *milter)
{
	struct shadow *s, *after;
	size_t i, left;

	for (s = c->has_shadows ? c->engine->shadows : NULL; s != NULL;
	     s = after) {
		after = s->next;
		if (s->owner != c)
			continue;
		for (i = left = 0; i < s->n_of; i++) {
			struct shadow_of *of = &s->of[i];

			if (of->outcome == NULL &&
			    (group == -1 || of->group == group)) {
				of->outcome = strdup(outcome);
				of->reply = strdup(reply);
				of->by = strdup(milter);
			}
			left += of->outcome == NULL;
		}
		if (left == 0)
			settle(s);
	}
}

void
shadow_disown(struct chain *c)
{
	struct shadow *s, *after;

	for (s = c->has_shadows ? c->engine->shadows : NULL; s != NULL;
	     s = after) {
		after = s->next;
		if (s->owner == c)
			settle(s);
	}
	c->has_shadows = false;
}

void
engine_on_shadow(struct engine *e,
    void (*fn)(void *, const struct chain_shadow *), void *arg)
{
	e->shadow_fn = fn;
	e->shadow_arg = arg;
}

unsigned
engine_shadows(const struct engine *e)
{
	return (e->n_shadows);
}

void
engine_shadows_drop(struct engine *e)
{
	struct shadow *s;

	while ((s = e->shadows) != NULL) {
		s->owner = NULL;
		if (s->over) {
			tell(s);
			continue;
		}
		if (!s->chain->all[0].failed) {
			struct link *l = &s->chain->all[0];

			l->failed = l->counts = true;
			free(l->why);
			l->why = strdup("the gateway stopped");
		}
		end(s);
	}
}

void
shadow_clear(struct engine *e)
{
	while (e->shadows != NULL)
		shadow_free(e->shadows);
}
