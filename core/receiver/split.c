/* SPDX-License-Identifier: ISC */

/*
 * split - a message whose recipients are in several groups
 *
 * Each group has its own message.  Those that are accepted go to the queue, all
 * in one hand-over or none; what becomes of those that are refused is the
 * policy's on-mixed, or with PRDR their own reply.  Records of groups that are
 * not queued are sent when the others are on stable storage: until then the
 * whole message may still fail.
 */

#include "core/receiver/receiver.h"

#include "milter-sdk/base/pack.h"
#include "quarantine/quarantine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPLIT_MS = 300 * 1000, SPLIT_FILE_MS = 30 * 1000 };

static const char no_queue[] = "451 4.3.0 Message could not be queued, "
                               "try again";

static void go(struct session *);

void
split_free(struct transaction *t)
{
	while (t->n_parts > 0) {
		struct part *p = &t->parts[--t->n_parts];

		if (p->fd != -1)
			(void)close(p->fd);
		free(p->reply);
		free(p->milter);
		env_fini(&p->env);
		message_fini(&p->msg);
		buf_fini(&p->header);
	}
	free(t->parts);
	t->parts = NULL;
}

/* hold - by and, of a release, those that had held it before */
static int
hold(struct session *s, struct part *p, const char *reason, const char *by)
{
	char *all = quarantine_names_add(
	    s->release != NULL ? release_without(s->release) : "", by);
	int rc;

	p->queue = true;
	p->env.flags |= ENV_HELD;
	rc = all == NULL || env_set(&p->env.hold_reason, reason) == -1 ||
	        env_set(&p->env.hold_by, all) == -1
	    ? -1
	    : 0;
	free(all);
	return (rc);
}

/* bounce - the queue returns it to the sender */
static int
bounce(struct part *p)
{
	char text[400];
	size_t i, n = strcspn(p->reply, "\r");

	if (p->reply[0] == '5')
		(void)snprintf(text, sizeof(text), "%.*s",
		    n < sizeof(text) ? (int)n : (int)sizeof(text) - 1,
		    p->reply);
	else
		(void)snprintf(text, sizeof(text),
		    "550 5.7.1 Refused for this recipient by milter %.40s",
		    p->milter);
	if (strlen(text) > 3)
		text[3] = ' ';
	for (i = 0; i < p->env.n_rcpts; i++) {
		struct rcpt *r = &p->env.rcpts[i];

		route_fini(&r->route);
		if (route_make(&r->route, MAILER_ERROR, "5.7.1", 0, r->addr,
		        text) == -1)
			return (-1);
	}
	p->queue = true;
	return (0);
}

/* refused - a group that gets a reply of its own, or on-mixed */
static int
refused(struct session *s, struct part *p)
{
	static const char *const words[] = { "quarantine", "discard",
		"bounce" };
	enum mixed_action action = chain_on_mixed(s->chain);
	char text[500], say[500], who[128];

	(void)snprintf(text, sizeof(text),
	    "refused by milter %.40s while "
	    "other recipients were accepted: %.*s",
	    p->milter, (int)strcspn(p->reply, "\r"), p->reply);
	/* Nobody could tell the null sender; a release loses nothing. */
	if ((action == MIXED_BOUNCE && p->env.sender[0] == '\0') ||
	    s->release != NULL)
		action = MIXED_QUARANTINE;
	log_info("%s: milter=%s, reject=%s, %s=%s", p->env.id,
	    log_quote(who, sizeof(who), p->milter),
	    log_quote(say, sizeof(say), p->reply),
	    s->tx->prdr ? "for" : "on-mixed",
	    s->tx->prdr ? "PRDR" : words[action]);
	if (s->tx->prdr || action == MIXED_DISCARD)
		return (0);
	return (
	    action == MIXED_BOUNCE ? bounce(p) : hold(s, p, text, p->milter));
}

/* take - one group's result, and what becomes of it */
static int
take(struct session *s, struct part *p, struct chain_group *g)
{
	p->fd = -1;
	p->header.max = SIZE_MAX / 8;
	p->verdict = g->verdict;
	p->group = g->group;
	p->env = g->env;
	p->msg = g->msg;
	memset(&g->env, 0, sizeof(g->env));
	message_init(&g->msg);
	p->milter = strdup(g->milter);
	p->reply =
	    strdup(g->verdict == CHAIN_REJECT || g->verdict == CHAIN_TEMPFAIL
	            ? g->reply
	            : "");
	if (p->milter == NULL || p->reply == NULL)
		return (-1);
	if (p->reply[0] != '\0')
		return (refused(s, p));
	if (g->verdict == CHAIN_DISCARD && s->release != NULL)
		return (hold(s, p, "would be discarded", p->milter));
	if (g->verdict != CHAIN_CONTINUE || p->env.n_rcpts == 0)
		return (0);
	if (g->quarantine)
		return (hold(s, p, g->reason, g->hold_by));
	p->queue = true;
	return (0);
}

static const char *
outcome_of(const struct session *s, const struct part *p)
{
	if (p->reply[0] == '\0' || !s->tx->prdr)
		return ("discarded");
	return (p->reply[0] == '5' ? "rejected" : "tempfailed");
}

/* done - the groups to be queued are on stable storage, or there are none */
static void
done(struct session *s)
{
	struct transaction *t = s->tx;
	char text[400];
	const char *reply = NULL;
	size_t i;

	for (i = 0; i < t->n_parts; i++) {
		struct part *p = &t->parts[i];

		if (p->queue)
			chain_outcome(s->chain, p->group,
			    (p->env.flags & ENV_HELD) != 0 ? "held" : "queued",
			    "", p->env.hold_by);
		else {
			const char *outcome = outcome_of(s, p);

			record_send_part(s, p, outcome);
			if (strcmp(outcome, "discarded") == 0)
				record_discard(s, &p->env);
		}
		if (p->reply[0] == '5' && s->tx->prdr)
			s->r->rejected++;
	}
	/* With PRDR all may have been refused: then so is the message. */
	for (i = 0; t->prdr && i < t->n_parts; i++) {
		const char *r = t->parts[i].reply;

		if (r[0] == '\0') {
			reply = NULL;
			break;
		}
		if (reply == NULL || r[0] < reply[0])
			reply = r;
	}
	if (reply == NULL) {
		(void)snprintf(text, sizeof(text),
		    "250 2.0.0 %s Message accepted for delivery", t->env.id);
		reply = text;
		s->r->messages += s->release == NULL;
		s->commands = 0;
	}
	tx_reply(s, reply);
	tx_free(s);
}

static void
on_submitted(struct session *s, struct frame *f)
{
	int status = submit_status(f);

	if (status == 0) {
		done(s);
		return;
	}
	split_free(s->tx); /* they all get the same */
	tx_fail(s, "tempfailed",
	    status == 1 ? "452 4.3.1 Insufficient disk space, try again later"
	                : no_queue,
	    "");
}

static void
fail(struct session *s)
{
	split_free(s->tx);
	tx_fail(s, "tempfailed", no_queue, "");
}

static struct outgoing
outgoing(struct part *p)
{
	return ((struct outgoing){ .env = &p->env,
	    .msg = &p->msg,
	    .header = &p->header,
	    .group = p->group,
	    .where = p->where,
	    .fd = p->fd,
	    .length = p->header.len + p->msg.body_len });
}

/* write_content - header and body into a file of no content yet */
static int
write_content(struct part *p, int fd, uint8_t where)
{
	p->fd = fd;
	p->where = where;
	p->ready = true;
	return (store_write(fd, p->header.data, p->header.len, 0) == -1 ||
	            store_write(
	                fd, p->msg.body, p->msg.body_len, p->header.len) == -1
	        ? -1
	        : 0);
}

/* waiting - the part that is being made ready */
static struct part *
waiting(struct transaction *t)
{
	size_t i;

	for (i = 0; i < t->n_parts; i++)
		if (t->parts[i].queue && !t->parts[i].ready)
			return (&t->parts[i]);
	return (NULL);
}

static void
on_file(struct session *s, struct frame *f)
{
	struct part *p = waiting(s->tx);
	int fd;

	if (f == NULL || f->type != MSG_BIG_FILE_R || f->fd == -1) {
		fail(s);
		return;
	}
	fd = f->fd;
	f->fd = -1;
	if (write_content(p, fd, 2) == -1)
		fail(s);
	else
		go(s);
}

/* place - the content: in the frame, a memory file or the queue's.  1: the
 * queue is asked for one */
static int
place(struct session *s, struct part *p)
{
	struct outgoing o;
	int fd;

	if (message_header(&p->msg, &p->header) == -1)
		return (-1);
	o = outgoing(p);
	submit_flags(s->tx, &o);
	if (o.length <= INLINE_MAX) {
		p->ready = true;
		return (0);
	}
	if (o.length > s->settings->limits.inline_size)
		return (session_ask(s, s->r->queue, MSG_BIG_FILE, NULL, -1,
		            SPLIT_FILE_MS, on_file) == -1
		        ? -1
		        : 1);
	if ((fd = store_memory_file()) == -1)
		return (-1);
	return (write_content(p, fd, 1));
}

static size_t
unrouted(const struct part *p)
{
	size_t i;

	for (i = 0; i < p->env.n_rcpts; i++)
		if (p->env.rcpts[i].route.mailer == MAILER_NONE)
			break;
	return (i);
}

static void
on_route(struct session *s, struct frame *f)
{
	struct transaction *t = s->tx;
	struct part *p = waiting(t);
	size_t i = unrouted(p);
	struct route r;

	memset(&r, 0, sizeof(r));
	if (route_answer(s, f, &r, t->refusal, sizeof(t->refusal)) == -1) {
		split_free(t);
		tx_fail(s, "tempfailed", t->refusal, "");
		return;
	}
	if (r.mailer == MAILER_NONE) { /* lookup would be asked for ever */
		route_fini(&r);
		fail(s);
		return;
	}
	route_fini(&p->env.rcpts[i].route);
	p->env.rcpts[i].route = r;
	go(s);
}

/* send_all - every frame is made before the first one leaves */
static int
send_all(struct session *s)
{
	struct transaction *t = s->tx;
	struct buf b[CHAIN_GROUPS_MAX];
	struct part *parts[CHAIN_GROUPS_MAX];
	size_t i, n = 0;
	int rc = 0;

	for (i = 0; i < t->n_parts && rc == 0; i++) {
		struct part *p = &t->parts[i];
		struct outgoing o = outgoing(p);

		if (!p->queue)
			continue;
		b[n] = (struct buf)BUF_INIT(FRAME_MAX);
		parts[n] = p;
		rc = submit_pack(s, &o, &b[n++]);
	}
	for (i = 0; i < n && rc == 0; i++) {
		rc = i + 1 < n ? session_more(s, s->r->queue, MSG_SUBMIT_MORE,
		                     &b[i], parts[i]->fd)
		               : session_ask(s, s->r->queue, MSG_SUBMIT, &b[i],
		                     parts[i]->fd, SPLIT_MS, on_submitted);
		if (rc == 0)
			parts[i]->fd = -1; /* the channel's */
	}
	while (n > 0)
		buf_fini(&b[--n]);
	if (rc == 0 && !t->counted) {
		t->counted = true;
		s->r->submitting++;
	}
	return (rc);
}

/* go - make one part after the other ready, then hand over all */
static void
go(struct session *s)
{
	struct transaction *t = s->tx;
	struct part *p;
	size_t i;
	int rc;

	while ((p = waiting(t)) != NULL) {
		if ((i = unrouted(p)) < p->env.n_rcpts) {
			if (route_ask(s, p->env.rcpts[i].addr, on_route) == -1)
				fail(s);
			return;
		}
		if ((rc = place(s, p)) == -1)
			fail(s);
		if (rc != 0)
			return;
	}
	for (i = 0; i < t->n_parts && !t->parts[i].queue; i++)
		;
	if (i == t->n_parts)
		done(s);
	else if (send_all(s) == -1)
		fail(s);
}

/* stays - a release without a message to deliver, or that would lose one */
static bool
stays(struct session *s)
{
	const struct transaction *t = s->tx;
	const struct part *p = NULL;
	size_t i;

	if (s->release == NULL)
		return (false);
	for (i = 0; i < t->n_parts; i++) {
		if (!t->parts[i].queue) {
			release_kept(s, "", "milters left no recipient");
			return (true);
		}
		if ((t->parts[i].env.flags & ENV_HELD) == 0)
			p = &t->parts[i];
	}
	if (p != NULL)
		return (false);
	p = &t->parts[0];
	release_kept(s, p->env.hold_by, p->env.hold_reason);
	return (true);
}

void
split_message(struct session *s, const struct chain_answer *a)
{
	struct transaction *t = s->tx;
	int rc = 0;

	t->parts = calloc(a->n_groups, sizeof(*t->parts));
	if (t->parts == NULL) {
		fail(s);
		return;
	}
	while (t->n_parts < a->n_groups && rc == 0) {
		rc = take(s, &t->parts[t->n_parts], &a->groups[t->n_parts]);
		t->n_parts++;
	}
	if (rc == -1)
		fail(s);
	else if (!stays(s))
		go(s);
}
