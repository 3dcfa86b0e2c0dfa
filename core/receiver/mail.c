/* SPDX-License-Identifier: ISC */

/*
 * mail - MAIL and RCPT
 *
 * A recipient is accepted only when the policy's authoriser has said yes to it;
 * whatever else happens, the answer is a refusal.
 */

#include "core/receiver/receiver.h"

#include "milter-sdk/base/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROUTE_MS = 30 * 1000,
	QUEUE_BACKLOG = 32 << 20, /* bytes on their way to the queue: enough */
	RCPT_OVERHEAD = 64
};

static void
mail_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;
	struct transaction *t = s->tx;
	const char *reply = a->reply;

	s->wait = WAIT_NOTHING;
	switch (a->verdict) {
	case CHAIN_CONTINUE:
	case CHAIN_DISCARD:
		t->mailed = true;
		if (a->verdict == CHAIN_DISCARD) {
			t->discard = true;
			t->discard_by = strdup(a->milter);
		}
		session_reply(s, "250 2.1.0 <%s>... Sender ok", t->env.sender);
		break;
	case CHAIN_SHUTDOWN:
		tx_fail(s, "tempfailed", reply, a->milter);
		session_end(s);
		break;
	default:
		tx_fail(s,
		    a->verdict == CHAIN_REJECT ? "rejected" : "tempfailed",
		    reply, a->milter);
		break;
	}
	session_go(s);
}

/* may_accept - NULL, or why no mail is taken now */
static const char *
may_accept(const struct receiver *r)
{
	if (r->stopping)
		return ("451 4.3.2 Service is stopping");
	if (r->paused)
		return ("451 4.3.2 Service is paused");
	if (r->queue == NULL || r->lookup == NULL)
		return ("451 4.3.0 Queue is not available, try again");
	if (!r->accepting)
		return (r->refusal != NULL && r->refusal[0] == '4'
		        ? r->refusal
		        : "452 4.3.1 Mail is not accepted at the moment");
	if (chan_backlog(r->queue) > QUEUE_BACKLOG)
		return ("451 4.3.2 Overloaded, try again later");
	return (NULL);
}

void
mail_command(struct session *s)
{
	const struct command *c = s->cmd;
	const char *why;
	struct transaction *t;

	s->got_mail = true;
	if (s->tx != NULL) {
		session_reply(s, "503 5.5.1 Sender already specified");
		return;
	}
	if ((why = may_accept(s->r)) != NULL) {
		record_refusal(s, "", why, NULL);
		session_reply(s, "%s", why);
		return;
	}
	if (c->prdr && !s->settings->policies[s->listener->policy].prdr) {
		session_reply(s, "555 5.5.4 MAIL parameter not recognized");
		return;
	}
	if (c->size > s->settings->limits.message_size) {
		why = data_reply(DATA_SIZE);
		record_refusal(s, "", why, NULL);
		session_reply(s, "%s", why);
		return;
	}
	if ((t = tx_new(s)) == NULL || env_set(&t->env.sender, c->path) == -1 ||
	    env_set(&t->env.envid, c->envid) == -1) {
		tx_free(s);
		session_reply(s, "451 4.3.0 Out of memory");
		return;
	}
	t->prdr = c->prdr;
	t->env.flags |= (c->body_8bit ? ENV_8BIT : 0) |
	    (c->utf8 ? ENV_SMTPUTF8 : 0) | (c->ret_hdrs ? ENV_RET_HDRS : 0);
	s->wait = WAIT_CHAIN;
	chain_mail(s->chain, t->env.id, t->env.sender, c->params, c->n_params,
	    mail_done, s);
}

int
route_ask(struct session *s, const char *addr, answer_fn *fn)
{
	struct buf b = BUF_INIT(4096);
	struct packer k = { &b, false };
	int rc;

	pack_str(&k, addr); /* a bare "postmaster" too: lookup knows it */
	rc = pack_end(&k);
	if (rc == 0)
		rc = session_ask(
		    s, s->r->lookup, MSG_ROUTE, &b, -1, ROUTE_MS, fn);
	buf_fini(&b);
	return (rc);
}

/* is_reply - what an "error:" route may answer */
static bool
is_reply(const char *r)
{
	size_t i;

	if ((r[0] != '4' && r[0] != '5') || strlen(r) < 5 || r[3] != ' ')
		return (false);
	for (i = 0; r[i] != '\0'; i++)
		if ((unsigned char)r[i] < 32 || r[i] == 127 || i > 500)
			return (false);
	return (true);
}

int
route_answer(struct session *s, struct frame *f, struct route *route_r,
    char *reply, size_t room)
{
	struct unpacker u = { NULL, 0, false };
	uint8_t status;
	const char *reason;

	(void)s;
	(void)snprintf(
	    reply, room, "451 4.3.0 Recipient could not be routed, try again");
	if (f == NULL || f->type != MSG_ROUTE_R)
		return (-1);
	u.p = f->data;
	u.n = f->len;
	status = unpack_u8(&u);
	if (route_unpack(&u, route_r) == -1)
		return (-1);
	reason = unpack_str(&u);
	if (unpack_end(&u) == 0 && status == 0) {
		if (route_r->mailer == MAILER_ERROR)
			(void)snprintf(reply, room, "%.400s",
			    is_reply(route_r->text) ? route_r->text
			                            : "550 5.1.1 User unknown");
		return (0);
	}
	log_info("receiver: route: temporary: %.200s", reason);
	route_fini(route_r);
	return (-1);
}

static int
add_rcpt(struct session *s, uint16_t group)
{
	struct transaction *t = s->tx;
	struct rcpt *r = env_add_rcpt(&t->env, s->cmd->path);

	if (r == NULL)
		return (-1);
	if (env_set(&r->orcpt, s->cmd->orcpt) == -1 ||
	    (t->route.host != NULL && route_copy(&r->route, &t->route) == -1)) {
		env_del_rcpt(&t->env, t->env.n_rcpts - 1);
		return (-1);
	}
	r->notify = s->cmd->notify;
	r->group = group;
	return (0);
}

/* refuse_rcpt - the others of the transaction are not touched by it */
static void
refuse_rcpt(struct session *s, const char *reply, const char *milter)
{
	if (reply[0] == '5')
		s->r->rejected++;
	record_refusal(s, milter, reply, s->cmd->path);
	record_send(
	    s, reply[0] == '5' ? "rejected" : "tempfailed", reply, milter);
	session_reply(s, "%s", reply);
}

static void
accept_rcpt(struct session *s, const struct chain_answer *a)
{
	if (!a->authorised) {
		log_err("%s: nobody authorised to=<%s>: policy \"%s\" has no "
		        "authoriser that answered",
		    s->tx->env.id, s->cmd->path, s->tx->env.policy);
		refuse_rcpt(s,
		    "451 4.7.1 Recipient not authorised: no filter gave "
		    "leave to relay",
		    a->milter);
	} else if (add_rcpt(s, a->group) == -1)
		session_reply(s, "452 4.3.1 Out of memory");
	else {
		s->commands--; /* recipients have a limit of their own */
		session_reply(
		    s, "250 2.1.5 <%s>... Recipient ok", s->cmd->path);
	}
}

static void
rcpt_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	s->wait = WAIT_NOTHING;
	switch (a->verdict) {
	case CHAIN_CONTINUE:
		accept_rcpt(s, a);
		break;
	case CHAIN_DISCARD: /* Sendmail and Postfix: the whole message */
		s->tx->discard = true;
		free(s->tx->discard_by);
		s->tx->discard_by = strdup(a->milter);
		if (add_rcpt(s, 0) == -1)
			s->dead = true;
		session_reply(
		    s, "250 2.1.5 <%s>... Recipient ok", s->cmd->path);
		break;
	case CHAIN_SHUTDOWN:
		refuse_rcpt(s, a->reply, a->milter);
		tx_close(s);
		session_end(s);
		break;
	default:
		refuse_rcpt(s, a->reply, a->milter);
		break;
	}
	if (s->tx != NULL)
		route_fini(&s->tx->route);
	session_go(s);
}

/* refused_done - a milter looked at a recipient that we refuse; our reply
 * stands unless it wants the session closed */
static void
refused_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	s->wait = WAIT_NOTHING;
	refuse_rcpt(s, s->tx->refusal, "");
	if (a->verdict == CHAIN_SHUTDOWN) {
		tx_close(s);
		session_bye(s, "%s", a->reply);
	}
	session_go(s);
}

static void
on_route(struct session *s, struct frame *f)
{
	struct transaction *t = s->tx;
	const struct command *c = s->cmd;
	int rc;

	route_fini(&t->route);
	rc = route_answer(s, f, &t->route, t->refusal, sizeof(t->refusal));
	s->wait = WAIT_CHAIN;
	if (rc == -1 || t->route.mailer == MAILER_ERROR)
		chain_rcpt(s->chain, c->path, c->params, c->n_params, NULL,
		    t->refusal, refused_done, s);
	else
		chain_rcpt(s->chain, c->path, c->params, c->n_params, &t->route,
		    NULL, rcpt_done, s);
}

void
rcpt_command(struct session *s)
{
	struct transaction *t = s->tx;
	const struct command *c = s->cmd;

	if (t == NULL || !t->mailed) {
		session_reply(s, "503 5.5.1 Need MAIL before RCPT");
		return;
	}
	if (t->bdat) {
		session_reply(s, "503 5.5.1 RCPT after BDAT");
		return;
	}
	t->env_bytes += 2 * strlen(c->path) + strlen(c->orcpt) + RCPT_OVERHEAD;
	if (t->env.n_rcpts >= s->settings->limits.recipients ||
	    t->env_bytes > ENVELOPE_MAX) {
		record_refusal(s, "", "452 4.5.3 Too many recipients", c->path);
		session_reply(s, "452 4.5.3 Too many recipients");
		return;
	}
	if (t->discard) {
		if (add_rcpt(s, 0) == -1)
			s->dead = true;
		session_reply(s, "250 2.1.5 <%s>... Recipient ok", c->path);
		return;
	}
	if (route_ask(s, c->path, on_route) == -1)
		refuse_rcpt(s,
		    "451 4.3.0 Recipient could not be routed, try again", "");
}
