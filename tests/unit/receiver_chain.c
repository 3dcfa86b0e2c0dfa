/* SPDX-License-Identifier: ISC */

/* receiver_chain - the fake chain engine: see the header */

#include "tests/unit/receiver_chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct engine {
	struct event_base *base;
};

struct chain {
	struct engine *e;
	struct event *ev;
	enum fake_stage stage;
	chain_done_fn *done;
	void *arg;
	struct message *msg;
	struct envelope *env;
};

struct chain_answer fake_answers[FAKE_STAGES];
char fake_asked[4096];
void (*fake_edit)(struct message *, struct envelope *);
bool fake_early;
const char *fake_mode;

void
fake_reset(void)
{
	static const struct chain_answer ok = { .verdict = CHAIN_CONTINUE,
		.reply = "",
		.milter = "",
		.authorised = true,
		.reason = "",
		.hold_by = "" };
	int i;

	for (i = 0; i < FAKE_STAGES; i++)
		fake_answers[i] = ok;
	fake_asked[0] = '\0';
	fake_edit = NULL;
	fake_early = false;
	fake_mode = "";
}

static void
note(const char *word, const char *what)
{
	size_t n = strlen(fake_asked);

	(void)snprintf(fake_asked + n, sizeof(fake_asked) - n, "%s%s%s%s",
	    n > 0 ? " " : "", word, what[0] != '\0' ? ":" : "", what);
}

static void
on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct chain *c = arg;
	chain_done_fn *done = c->done;
	struct chain_answer a = fake_answers[c->stage];

	(void)fd;
	(void)what;
	c->done = NULL;
	if (c->stage == AT_MESSAGE && a.verdict == CHAIN_CONTINUE &&
	    fake_edit != NULL)
		fake_edit(c->msg, c->env);
	done(c->arg, &a);
}

static void
ask(struct chain *c, enum fake_stage stage, chain_done_fn *done, void *arg)
{
	static const struct timeval now = { 0, 0 };

	if (c->done != NULL)
		abort(); /* two questions at a time */
	c->stage = stage;
	c->done = done;
	c->arg = arg;
	(void)event_add(c->ev, &now);
}

const char *const *
chain_mail_args(const struct chain *c, size_t *n_r)
{
	(void)c;
	*n_r = 0;
	return (NULL);
}

void
chain_outcome(struct chain *c, int group, const char *outcome,
    const char *reply, const char *milter)
{
	(void)c;
	(void)group;
	(void)outcome;
	(void)reply;
	(void)milter;
}

void
engine_on_shadow(struct engine *e,
    void (*fn)(void *, const struct chain_shadow *), void *arg)
{
	(void)e;
	(void)fn;
	(void)arg;
}

unsigned
engine_shadows(const struct engine *e)
{
	(void)e;
	return (0);
}

void
engine_shadows_drop(struct engine *e)
{
	(void)e;
}

struct engine *
engine_new(struct event_base *base, struct settings *s)
{
	struct engine *e = calloc(1, sizeof(*e));

	(void)s;
	e->base = base;
	return (e);
}

void
engine_free(struct engine **ep)
{
	free(*ep);
	*ep = NULL;
}

void
engine_reload(struct engine *e, struct settings *s)
{
	(void)e;
	(void)s;
}

int
engine_mode(struct engine *e, const char *milter, enum milter_mode m)
{
	(void)e;
	fake_mode = m == MODE_SHADOW ? "shadow" : "other";
	return (strcmp(milter, "access") == 0 ? 0 : -1);
}

int
engine_metrics(struct engine *e, struct buf *out)
{
	(void)e;
	(void)out;
	return (0);
}

int
engine_stats(struct engine *e, struct buf *out)
{
	(void)e;
	return (buf_add(out, "[]", 2));
}

void
engine_on_fail_open(struct engine *e,
    void (*fn)(void *arg, const char *milter, const char *why), void *arg)
{
	(void)e;
	(void)fn;
	(void)arg;
}

void
engine_on_recording(struct engine *e,
    void (*fn)(void *, const char *, const char *, struct buf *), void *arg)
{
	(void)e;
	(void)fn;
	(void)arg;
}

struct chain *
chain_new(struct engine *e, struct settings *s, size_t policy,
    const struct chain_facts *f)
{
	struct chain *c = calloc(1, sizeof(*c));

	(void)s;
	(void)policy;
	fake_early = f->early_talker;
	c->e = e;
	c->ev = event_new(e->base, -1, EV_TIMEOUT, on_answer, c);
	return (c);
}

void
chain_free(struct chain **cp)
{
	if (*cp == NULL)
		return;
	event_free((*cp)->ev);
	free(*cp);
	*cp = NULL;
}

void
chain_connect(struct chain *c, chain_done_fn *done, void *arg)
{
	note("connect", "");
	ask(c, AT_CONNECT, done, arg);
}

void
chain_helo(struct chain *c, chain_done_fn *done, void *arg)
{
	note("helo", "");
	ask(c, AT_HELO, done, arg);
}

void
chain_mail(struct chain *c, const char *id, const char *sender,
    const char *const *args, size_t n_args, chain_done_fn *done, void *arg)
{
	size_t i;

	if (strlen(id) < 12 || strlen(id) > 16)
		abort();
	note("mail", sender);
	for (i = 0; i < n_args; i++)
		note("+", args[i]);
	ask(c, AT_MAIL, done, arg);
}

void
chain_rcpt(struct chain *c, const char *rcpt, const char *const *args,
    size_t n_args, const struct route *r, const char *refused,
    chain_done_fn *done, void *arg)
{
	(void)args;
	(void)n_args;
	if ((r == NULL) != (refused != NULL))
		abort();
	note(r != NULL ? "rcpt" : "refused", rcpt);
	ask(c, AT_RCPT, done, arg);
}

void
chain_data(struct chain *c, chain_done_fn *done, void *arg)
{
	note("data", "");
	ask(c, AT_DATA, done, arg);
}

void
chain_message(struct chain *c, struct message *m, struct envelope *e,
    chain_done_fn *done, void *arg)
{
	note("message", "");
	c->msg = m;
	c->env = e;
	ask(c, AT_MESSAGE, done, arg);
}

void
chain_abort(struct chain *c)
{
	if (c->done != NULL)
		abort();
	note("abort", "");
}

void
chain_unknown(struct chain *c, const char *line, chain_done_fn *done, void *arg)
{
	note("unknown", line);
	ask(c, AT_UNKNOWN, done, arg);
}

int
chain_record(const struct chain *c, struct buf *out)
{
	(void)c;
	return (buf_add(out, "[]", 2));
}

int
chain_group_record(const struct chain *c, uint16_t group, struct buf *out)
{
	(void)c;
	return (buf_addf(out, "[%u]", group));
}

const char *
chain_group_summary(struct chain *c, uint16_t group)
{
	(void)c;
	(void)group;
	return ("access=accept");
}

void
chain_found(struct chain *c, int found, const char *value, size_t len)
{
	(void)c;
	(void)found;
	(void)value;
	(void)len;
}

enum mixed_action
chain_on_mixed(const struct chain *c)
{
	(void)c;
	return (MIXED_QUARANTINE);
}

const char *
chain_summary(const struct chain *c)
{
	(void)c;
	return ("access=accept");
}

bool
chain_stream(struct chain *c, struct message *m, struct envelope *env)
{
	(void)c;
	(void)m;
	(void)env;
	return (false);
}

void
chain_stream_more(struct chain *c)
{
	(void)c;
}

bool
chain_stream_over(struct chain *c)
{
	(void)c;
	return (false);
}
