/* SPDX-License-Identifier: ISC */

/*
 * stage - commands of the envelope, and what every reply means
 *
 * All that a milter has not been told yet goes out in one write with the
 * command that needs an answer: for one that is not `early` CONNECT, HELO, MAIL
 * and the first RCPT leave together.  Replies come in the order of commands.
 * After a verdict other than "continue" it is not defined whether commands sent
 * ahead are still answered (libmilter ignores them, others do not), so a
 * connection with answers outstanding is then closed, and the next message
 * opens another.  With `pipeline = safe` conn_flush() lets one command go at a
 * time, and after a verdict those that are left are dropped.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool
link_waits(const struct link *l)
{
	return (l->n_expect > 0 || l->pumping);
}

/* link_expect - n more answers to cmd are due */
int
link_expect(struct link *l, char cmd, unsigned n)
{
	struct expect *e;

	if (n == 0)
		return (0);
	if (l->n_expect > 0 && l->expect[l->n_expect - 1].cmd == cmd) {
		l->expect[l->n_expect - 1].n += n;
		return (0);
	}
	if (l->n_expect == LINK_EXPECT_MAX) {
		errno = E2BIG;
		return (-1);
	}
	if (l->n_expect == 0)
		l->sent_us = now_us();
	e = &l->expect[l->n_expect++];
	e->cmd = cmd;
	e->n = n;
	return (0);
}

void
link_fail(struct link *l, bool poison, const char *fmt, ...)
{
	struct chain *c = l->chain;
	char text[256], quoted[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (poison && l->conn != NULL)
		endpoint_failed(l->chain->engine, l->conf, l->conn->es);
	stats_failure(l);
	conn_drop(l);
	l->failed = true;
	l->poisoned |= poison;
	free(l->why);
	l->why = strdup(text);
	outcome_clear(&l->now);
	edits_clear(&l->edits);
	log_warning("%s: milter=%s: %s", c->id[0] != '\0' ? c->id : "NOQUEUE",
	    l->conf->name, log_quote(quoted, sizeof(quoted), text));
}

void
link_fail_open(struct link *l)
{
	if (l->noted_open)
		return;
	l->noted_open = true;
	stats_fail_open(l);
	engine_alarm(l->chain->engine, l->conf->name,
	    l->why != NULL ? l->why : "failed");
}

void
link_forget(struct link *l)
{
	size_t i;

	l->asked = l->sent_mail = l->sent_data = l->sent_body = false;
	l->skip_rcpt = l->skip_body = l->held = false;
	l->rcpts = l->dropped = 0;
	l->body_off = l->replay_at = 0;
	l->retell = l->extra;
	for (i = 0; i < l->heard_cap; i++)
		l->heard[i].told = l->heard[i].due = false;
	free(l->quarantine);
	l->quarantine = NULL;
	outcome_clear(&l->now);
	edits_clear(&l->edits);
}

/* link_reset_message - before a new MAIL */
void
link_reset_message(struct link *l)
{
	if (l->failed && !l->poisoned) {
		l->failed = false;
		free(l->why);
		l->why = NULL;
	}
	link_forget(l);
	l->noted_open = l->open = l->done = false;
	l->tried = l->replays = l->retold = 0;
	l->told_mail = l->no_replay = false;
	free(l->fault);
	free(l->before.fault);
	l->fault = l->before.fault = NULL;
	if (l->conn != NULL)
		l->endpoint = l->conn->endpoint;
	if (l->heard_cap > 0)
		memset(l->heard, 0, l->heard_cap * sizeof(*l->heard));
	l->started = l->stopped = l->counts = l->unheard = false;
	l->unshown = NULL;
	l->groups = 0;
	outcome_clear(&l->verdict);
}

/* link_abort - end an unfinished message.  ABORT has no answer, so it leaves
 * with what follows. */
void
link_abort(struct link *l)
{
	if (l->conn != NULL && l->conn->phase != CONN_READY)
		return; /* on its way for the next message */
	if (l->pumping && l->n_expect == 0 && l->conn->out.len == 0)
		l->pumping = false; /* amid the body, and in step */
	if (link_waits(l))
		conn_put(l);
	else if (l->conn != NULL && l->open &&
	    milter_put(&l->conn->out, MILTER_ABORT, NULL, 0) == -1)
		conn_drop(l);
	l->open = false;
}

int
link_command(struct link *l, char cmd, uint32_t no, uint32_t nr,
    int (*put)(struct link *))
{
	uint32_t protocol = l->conn->opts.protocol;

	if (macros_put(l, cmd) == -1)
		return (-1);
	if ((protocol & no) != 0)
		return (0);
	stats_call(l, 1);
	if ((put != NULL ? put(l) : milter_put(&l->conn->out, cmd, NULL, 0)) ==
	    -1)
		return (-1);
	if ((protocol & nr) == 0)
		return (link_expect(l, cmd, 1));
	record_stage(l, cmd, '-', 0, NULL);
	return (0);
}

static int
put_connect(struct link *l)
{
	const struct chain_facts *f = l->chain->facts;
	struct milter_connect k = { .hostname = f->client_name,
		.port = (uint16_t)f->client_port,
		.addr = f->client_addr };

	if (f->client_addr[0] == '\0')
		k.family = 'U';
	else
		k.family = strchr(f->client_addr, ':') != NULL ? '6' : '4';
	return (milter_put_connect(&l->conn->out, &k));
}

static int
put_helo(struct link *l)
{
	return (milter_put_strings(
	    &l->conn->out, MILTER_HELO, &l->chain->facts->helo, 1));
}

/* put_address - "<a@b>" and the ESMTP arguments, a string each */
static int
put_address(struct link *l, char cmd, const char *addr, const char *const *args,
    size_t n_args)
{
	struct buf b = BUF_INIT(MILTER_CHUNK);
	bool bracket = addr[0] != '<';
	size_t i;
	int r = -1;

	if ((bracket && buf_add(&b, "<", 1) == -1) ||
	    buf_add(&b, addr, strlen(addr)) == -1 ||
	    buf_add(&b, bracket ? ">" : "", bracket ? 2 : 1) == -1)
		goto out;
	for (i = 0; i < n_args; i++)
		if (buf_add(&b, args[i], strlen(args[i]) + 1) == -1)
			goto out;
	r = milter_put(&l->conn->out, cmd, b.data, b.len);
out:
	buf_fini(&b);
	return (r);
}

static int
put_mail(struct link *l)
{
	struct chain *c = l->chain;

	return (put_address(l, MILTER_MAIL, c->sender,
	    (const char *const *)c->mail_args, c->n_mail_args));
}

static int
put_rcpt(struct link *l)
{
	struct chain *c = l->chain;

	l->rcpts++;
	return (
	    put_address(l, MILTER_RCPT, c->rcpt, c->rcpt_args, c->n_rcpt_args));
}

/* put_rcpt_again - a recipient shown before, to another endpoint */
int
put_rcpt_again(struct link *l, const struct shown *s)
{
	struct chain *c = l->chain;
	const char *rcpt = c->rcpt, *refused = c->refused;
	const char *const *args = c->rcpt_args;
	const struct route *route = c->route;
	size_t n_args = c->n_rcpt_args;
	int r;

	c->rcpt = s->rcpt;
	c->refused = s->refused;
	c->rcpt_args = (const char *const *)s->args;
	c->n_rcpt_args = s->n_args;
	c->route = s->route;
	r = link_command(
	    l, MILTER_RCPT, MILTER_NO_RCPT, MILTER_NR_RCPT, put_rcpt);
	c->rcpt = rcpt;
	c->refused = refused;
	c->rcpt_args = args;
	c->n_rcpt_args = n_args;
	c->route = route;
	return (r);
}

static int
put_unknown(struct link *l)
{
	return (milter_put_strings(
	    &l->conn->out, MILTER_UNKNOWN, &l->chain->line, 1));
}

/* put_missing - what this connection has not been told of the session yet */
int
put_missing(struct link *l)
{
	struct chain *c = l->chain;

	if (!l->sent_connect) {
		if (link_command(l, MILTER_CONNECT, MILTER_NO_CONNECT,
		        MILTER_NR_CONNECT, put_connect) == -1)
			return (-1);
		l->sent_connect = true;
	}
	if (c->helo != 0 && l->sent_helo != c->helo) {
		if (link_command(l, MILTER_HELO, MILTER_NO_HELO, MILTER_NR_HELO,
		        put_helo) == -1)
			return (-1);
		l->sent_helo = c->helo;
	}
	if (c->in_message && !l->sent_mail) {
		if (link_command(l, MILTER_MAIL, MILTER_NO_MAIL, MILTER_NR_MAIL,
		        put_mail) == -1)
			return (-1);
		l->sent_mail = l->open = true;
	}
	return (0);
}

/* put_stage - the commands of the question in hand */
static int
put_stage(struct link *l)
{
	struct chain *c = l->chain;
	uint32_t protocol = l->conn->opts.protocol;

	if (c->q == Q_RCPT && c->refused != NULL &&
	    (protocol & MILTER_RCPT_REJECTED) == 0)
		return (0);
	if (put_missing(l) == -1 || (l->retell && replay_put(l) == -1))
		return (-1);
	switch (c->q) {
	case Q_RCPT:
		if (l->skip_rcpt)
			return (0);
		return (link_command(
		    l, MILTER_RCPT, MILTER_NO_RCPT, MILTER_NR_RCPT, put_rcpt));
	case Q_DATA:
		l->sent_data = true;
		return (l->conn->opts.version < 4
		        ? 0
		        : link_command(l, MILTER_DATA, MILTER_NO_DATA,
		              MILTER_NR_DATA, NULL));
	case Q_MESSAGE:
		return (content_begin(l));
	case Q_UNKNOWN:
		stats_call(l, 1);
		if (put_unknown(l) == -1)
			return (-1);
		return ((protocol & MILTER_NR_UNKNOWN) != 0
		        ? 0
		        : link_expect(l, MILTER_UNKNOWN, 1));
	default:
		return (0);
	}
}

/* wanted - does the question in hand concern this link now? */
static bool
wanted(struct link *l)
{
	struct chain *c = l->chain;

	switch (c->q) {
	case Q_CONNECT:
	case Q_HELO:
		return (l->conf->early);
	case Q_MAIL:
		/* The first RCPT will need a connection: open it meanwhile. */
		if (!l->conf->early && l->conn == NULL)
			(void)conn_get(l);
		return (l->conf->early);
	case Q_DATA:
		return (
		    l->conf->early && !l->done && (l->rcpts > 0 || !l->varies));
	case Q_UNKNOWN:
		/* In a transaction it would take libmilter to a state that the
		 * rest of the message cannot be reached from. */
		return (conn_ready(l) && l->sent_connect && !l->open &&
		    !c->in_message && l->conn->opts.version >= 3 &&
		    (l->conn->opts.protocol & MILTER_NO_UNKNOWN) == 0);
	default:
		return (!l->done);
	}
}

/* set_time - the link's for the question in hand, whichever endpoints it needs
 */
static void
set_time(struct link *l)
{
	uint64_t by_us = now_us() + l->conf->message_ms * 1000;

	if (l->by_us == 0 && !l->chain->streaming)
		l->by_us = by_us < l->chain->by_us ? by_us : l->chain->by_us;
}

void
link_set_time(struct link *l)
{
	if (!l->asked || !conn_ready(l) || !link_waits(l))
		return;
	set_time(l);
	l->conn->deadline_us = l->by_us;
	conn_arm(l->conn);
}

/* unlike - the endpoint would not answer as the first one did, or did not: that
 * counts as no answer.  1 while another is asked. */
static int
unlike(struct link *l)
{
	static const char why[] =
	    "replay: answers otherwise than the first time";

	l->state->unlike++;
	if (!replay(l, false, why))
		link_fail(l, false, "%s", why);
	return (l->conn != NULL ? 1 : 0);
}

/* link_ask - put the question; 1 while the answer is not in, 0 when it is (or
 * none is due, or the link failed) */
int
link_ask(struct link *l)
{
	char why[200];

	if (l->skipped || l->mode == MODE_OFF || link_apart(l) || l->out ||
	    l->failed)
		return (0);
	if (!l->asked) {
		if (!wanted(l))
			return (0);
		set_time(l);
		if (l->conn == NULL && conn_get(l) == -1)
			return (0);
		if (!conn_ready(l))
			return (1);
		if (l->replays > 0 && !l->sent_connect && !replay_possible(l))
			return (unlike(l));
		l->asked = true;
		l->progress = 0;
		l->conn->at_end = false;
		outcome_clear(&l->now);
		if (put_stage(l) == -1)
			goto fail;
		if (link_waits(l)) {
			/* Progress moves the answer's limit, not this one. */
			l->conn->deadline_us = l->by_us;
			conn_arm(l->conn);
			if (conn_flush(l->conn) == -1)
				goto fail;
		}
	}
	if (l->pumping && content_pump(l) == -1)
		goto fail;
	if (l->conn != NULL && l->conf->safe && conn_flush(l->conn) == -1)
		goto fail; /* an answer lets the next command go */
	return (link_waits(l) ? 1 : 0);

fail:
	(void)snprintf(why, sizeof(why), "send: %s", strerror(errno));
	if (!conn_again(l) && !replay(l, true, why))
		link_fail(l, false, "%s", why);
	return (l->conn != NULL ? 1 : 0);
}

/* cut - commands that have not been sent need no answer, so the connection is
 * in step */
static void
cut(struct link *l)
{
	if (l->conn == NULL || !conn_cut(l->conn))
		return;
	l->n_expect = 0;
	l->pumping = false;
}

/* session_over - a verdict on the whole session, at CONNECT or HELO */
static void
session_over(struct link *l, char cmd, struct outcome *o)
{
	struct chain *c = l->chain;
	bool enforced = l->mode != MODE_SHADOW;

	l->out = true;
	if (o->kind == OUT_ACCEPT && l->authoriser && enforced) {
		c->has_auth_session = true;
		log_info("%s: milter=%s: authorised by accept at %s",
		    c->id[0] != '\0' ? c->id : "NOQUEUE", l->conf->name,
		    cmd == MILTER_CONNECT ? "connect" : "helo");
	} else if (o->kind != OUT_ACCEPT && l->varies &&
	    o->kind != OUT_SHUTDOWN) {
		/* Not everybody's milter: answered to its recipients. */
		l->kept.kind = o->kind;
		free(l->kept.reply);
		l->kept.reply = strdup(outcome_text(o, false));
	} else if (o->kind != OUT_ACCEPT && enforced) {
		outcome_clear(&c->session);
		c->session.kind = o->kind;
		c->session.reply = strdup(outcome_text(o, cmd == 'C'));
		c->session_by = l->conf->name;
	}
	cut(l);
	conn_put(l);
	outcome_move(&l->now, o);
}

static void
rcpt_settled(struct link *l, struct outcome *o)
{
	struct chain *c = l->chain;

	if (c->refused != NULL) { /* the server has refused it already */
		outcome_clear(o);
		o->kind = OUT_CONTINUE;
	}
	/* After a discard libmilter still waits for the end or ABORT. */
	if (o->kind == OUT_ACCEPT)
		l->open = false;
	if (o->kind == OUT_ACCEPT || o->kind == OUT_DISCARD)
		l->done = true;
	if (o->kind == OUT_ACCEPT && l->authoriser && l->mode != MODE_SHADOW)
		c->auth_rcpt = true;
	outcome_move(&l->now, o);
}

/*
 * link_settle - a verdict other than "continue" to cmd.  o is emptied.  What
 * was sent behind it may or may not be answered, so then the connection goes.
 */
void
link_settle(struct link *l, char cmd, struct outcome *o)
{
	struct chain *c = l->chain;

	if (cmd == MILTER_CONNECT || cmd == MILTER_HELO) {
		session_over(l, cmd, o);
		return;
	}
	if (cmd == MILTER_RCPT && c->q == Q_RCPT) {
		rcpt_settled(l, o);
		return;
	}
	if (cmd == MILTER_UNKNOWN) {
		outcome_move(&l->now, o);
		return;
	}
	if (cmd == MILTER_MAIL && o->kind == OUT_ACCEPT && l->authoriser &&
	    l->mode != MODE_SHADOW) {
		c->has_auth_message = true;
		log_info("%s: milter=%s: authorised by accept at mail", c->id,
		    l->conf->name);
	}
	l->done = true;
	if (l->conn != NULL)
		endpoint_verdict(l->conn);
	cut(l);
	if (link_waits(l))
		conn_put(l);
	l->open = false;
	if (cmd != MILTER_EOM)
		edits_clear(&l->edits);
	if (o->kind != OUT_ACCEPT) {
		l->verdict.kind = o->kind;
		free(l->verdict.reply);
		l->verdict.reply = o->reply != NULL ? strdup(o->reply) : NULL;
	}
	outcome_move(&l->now, o);
}

/* forbidden - a change that the configuration does not let it make */
static void
forbidden(struct link *l, char code)
{
	if (!l->conf->forbidden_drop || l->dropped == LINK_EDITS_MAX) {
		link_fail(l, false, "change '%c' is not in its may", code);
		return;
	}
	l->state->dropped++;
	if (l->dropped++ == 0) /* the record has how many */
		log_warning("%s: milter=%s: dropped change '%c': not in its "
		            "may",
		    l->chain->id, l->conf->name, code);
	conn_arm(l->conn);
}

/* take_edit - a change, allowed only between the end of message and its
 * verdict, and only what was negotiated */
static void
take_edit(struct link *l, const struct milter_packet *pkt)
{
	struct milter_edit e;

	if (l->expect[0].cmd != MILTER_EOM || l->pumping) {
		link_fail(l, true, "change '%c' before the end of message",
		    pkt->code);
		return;
	}
	if ((l->conn->opts.actions & milter_edit_action(pkt->code)) == 0) {
		link_fail(
		    l, false, "change '%c' was not negotiated", pkt->code);
		return;
	}
	if ((l->conf->may & milter_edit_action(pkt->code)) == 0) {
		forbidden(l, pkt->code);
		return;
	}
	if (milter_get_edit(pkt, &e) == -1) {
		link_fail(l, true, "malformed change '%c'", pkt->code);
		return;
	}
	/* No limit of size stops empty pieces of a body. */
	if (e.code == MILTER_REPLACE_BODY && e.len == 0 &&
	    ++l->progress > PROGRESS_MAX) {
		link_fail(l, true, "empty changes without end");
		return;
	}
	if (edits_add(&l->edits, &e, l->chain->settings->limits.message_size) ==
	    -1) {
		link_fail(l, false, "change '%c': %s", pkt->code,
		    errno == EMSGSIZE || errno == E2BIG ? "more than is allowed"
		                                        : strerror(errno));
		return;
	}
	conn_arm(l->conn);
}

/* skipped - "no more of these"; only where it means something */
static bool
skipped(struct link *l, char cmd)
{
	if (cmd == MILTER_BODY)
		l->skip_body = true;
	else if (cmd == MILTER_RCPT)
		l->skip_rcpt = true;
	else
		return (cmd == MILTER_HEADER);
	return (true);
}

/* answered - one answer less is due; it may have been the last */
static void
answered(struct link *l)
{
	if (l->conn == NULL)
		return;
	if (link_waits(l))
		conn_arm(l->conn);
	else
		conn_idle(l->conn);
}

/* note_told - a "continue" that another endpoint would have to repeat */
static void
note_told(struct link *l, char cmd)
{
	if (cmd == MILTER_CONNECT)
		l->told_connect = true;
	else if (cmd == MILTER_HELO)
		l->told_helo = l->chain->helo;
	else if (cmd == MILTER_MAIL)
		l->told_mail = true;
}

/* take_verdict - the answer to the oldest command */
static void
take_verdict(struct link *l, const struct milter_packet *pkt)
{
	struct chain *c = l->chain;
	struct outcome o = { OUT_NONE, NULL };
	uint64_t now = now_us(), us = now - l->sent_us;
	char cmd = l->expect[0].cmd;
	bool skip = pkt->code == MILTER_SKIP;
	int same;

	if (pkt->code == MILTER_SKIP && pkt->len == 0 && skipped(l, cmd)) {
		o.kind = OUT_CONTINUE;
	} else if (outcome_of(pkt, &o) == -1) {
		link_fail(l, true, "unexpected reply 0x%02x to %c",
		    (unsigned char)pkt->code, cmd);
		return;
	}
	l->sent_us = now;
	l->conn->due = false;
	if (--l->expect[0].n == 0)
		memmove(&l->expect[0], &l->expect[1],
		    --l->n_expect * sizeof(l->expect[0]));
	record_stage(l, cmd, pkt->code, us, o.reply);
	/* Discard says nothing about a session without a message. */
	if (o.kind == OUT_DISCARD && strchr("CHU", cmd) != NULL)
		o.kind = OUT_CONTINUE;
	if ((same = replay_same(l, cmd, &o, skip)) != 0) {
		outcome_clear(&o);
		if (same == -1)
			(void)unlike(l);
		else
			answered(l);
		return;
	}
	if (cmd == MILTER_RCPT)
		l->rcpt_skip = skip;
	if (cmd == MILTER_RCPT && pkt->code == MILTER_CONTINUE &&
	    c->refused == NULL && l->authoriser && l->mode != MODE_SHADOW)
		c->auth_rcpt = true;
	if (o.kind != OUT_CONTINUE) {
		link_settle(l, cmd, &o);
	} else {
		if (cmd == MILTER_EOM) {
			endpoint_verdict(l->conn);
			l->done = true;
			l->open = false;
			l->conn->at_end = true;
		}
		note_told(l, cmd);
		l->now.kind = OUT_CONTINUE;
	}
	outcome_clear(&o);
	answered(l);
}

/* link_packet - one packet of a negotiated connection */
void
link_packet(struct link *l, const struct milter_packet *pkt)
{
	if (pkt->code == MILTER_PROGRESS && pkt->len == 0) {
		if (++l->progress > PROGRESS_MAX)
			link_fail(l, true, "progress without end");
		else if (link_waits(l))
			conn_arm(l->conn);
		return;
	}
	if (l->n_expect == 0 || (l->conf->safe && !l->conn->due)) {
		link_fail(l, true, "reply 0x%02x that nobody asked for",
		    (unsigned char)pkt->code);
		return;
	}
	if (milter_is_edit(pkt->code))
		take_edit(l, pkt);
	else
		take_verdict(l, pkt);
}
