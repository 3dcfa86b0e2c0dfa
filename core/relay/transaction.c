/* SPDX-License-Identifier: ISC */

/*
 * transaction - SMTP's client side (RFC 5321, 2920, 1870, 6531, 3461)
 *
 * With PIPELINING the whole envelope leaves in one write, and content with its
 * final dot in the next.  The replies are then matched one by one.  Content is
 * sent only after a 354 and only if some recipient was accepted; in the odd
 * case of a 354 for none the connection is broken, since even an empty message
 * would be one that nobody sent.
 *
 * No outcome is guessed: 2xx after the final dot is the only success.  A lost
 * connection before that is temporary, with the risk of a duplicate if the
 * reply to the final dot was lost.
 */

#include "core/relay/session.h"

#include "core/smtp/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BURST = 64 * 1024 }; /* bytes of commands in one write */

static int
put(struct session *s, const char *text)
{
	return (buf_add(&s->out, text, strlen(text)));
}

/* wire_addr - the address after routing */
static const char *
wire_addr(const struct rcpt *r)
{
	return (r->route.addr[0] != '\0' ? r->route.addr : r->addr);
}

static bool
needs_utf8(const struct envelope *e)
{
	size_t i;

	if ((e->flags & ENV_SMTPUTF8) != 0 || address_is_8bit(e->sender))
		return (true);
	for (i = 0; i < e->n_rcpts; i++)
		if (address_is_8bit(wire_addr(&e->rcpts[i])))
			return (true);
	return (false);
}

/* param_ok - an xtext value as it may stand in a command */
static bool
param_ok(const char *s)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++)
		if (s[i] <= ' ' || s[i] == 0x7f || i > 500)
			return (false);
	return (i > 0);
}

static int
put_mail(struct session *s)
{
	const struct envelope *e = &s->job->env;
	int rc = buf_addf(&s->out, "MAIL FROM:<%s>", e->sender);

	if ((s->ext & EXT_SIZE) != 0)
		rc |= buf_addf(
		    &s->out, " SIZE=%llu", (unsigned long long)s->job->len);
	/* To a hop without 8BITMIME 8-bit text goes as it is: nearly all take
	 * it, and a conversion would break signatures. */
	if ((s->ext & EXT_8BITMIME) != 0 && (e->flags & ENV_8BIT) != 0)
		rc |= put(s, " BODY=8BITMIME");
	if ((s->ext & EXT_SMTPUTF8) != 0 && needs_utf8(e))
		rc |= put(s, " SMTPUTF8");
	if ((s->ext & EXT_DSN) != 0) {
		if ((e->flags & ENV_RET_HDRS) != 0)
			rc |= put(s, " RET=HDRS");
		if (param_ok(e->envid))
			rc |= buf_addf(&s->out, " ENVID=%s", e->envid);
	}
	return (rc | put(s, "\r\n"));
}

static int
put_notify(struct session *s, unsigned notify)
{
	static const char *const words[] = { "SUCCESS", "FAILURE", "DELAY" };
	const char *sep = " NOTIFY=";
	unsigned i;
	int rc = 0;

	if ((notify & NOTIFY_NEVER) != 0)
		return (put(s, " NOTIFY=NEVER"));
	for (i = 0; i < 3; i++)
		if ((notify & (unsigned)NOTIFY_SUCCESS << i) != 0) {
			rc |= buf_addf(&s->out, "%s%s", sep, words[i]);
			sep = ",";
		}
	return (rc);
}

static int
put_rcpt(struct session *s, size_t i)
{
	const struct rcpt *r = &s->job->env.rcpts[i];
	int rc = buf_addf(&s->out, "RCPT TO:<%s>", wire_addr(r));

	if ((s->ext & EXT_DSN) != 0) {
		rc |= put_notify(s, r->notify);
		if (param_ok(r->orcpt))
			rc |= buf_addf(&s->out, " ORCPT=%s", r->orcpt);
	}
	return (rc | put(s, "\r\n"));
}

static size_t
step_data(const struct session *s)
{
	return (STEP_RCPT + s->job->env.n_rcpts);
}

/* skipped - steps that this transaction does not have */
static bool
skipped(const struct session *s, size_t step, bool sending)
{
	const struct result *r;

	if (step == STEP_RSET)
		return (!s->need_rset);
	if (step < STEP_RCPT || step >= step_data(s))
		return (false);
	r = &s->job->results[step - STEP_RCPT];
	return (sending ? r->known : !r->asked);
}

/* put_step - one command; 0, -1 no memory */
static int
put_step(struct session *s, size_t step)
{
	if (step == STEP_RSET)
		return (put(s, "RSET\r\n"));
	if (step == STEP_MAIL)
		return (put_mail(s));
	if (step == step_data(s))
		return (put(s, "DATA\r\n"));
	s->job->results[step - STEP_RCPT].asked = true;
	return (put_rcpt(s, step - STEP_RCPT));
}

/* over - the job is answered and done; the connection goes on */
static int
over(struct session *s)
{
	struct job *j = s->job;

	s->job = NULL;
	j->session = NULL;
	s->in_len = 0; /* whatever else came is the answer to nothing */
	job_done(j);
	session_idle(s);
	return (-1);
}

/* broken - the job is settled; the connection cannot be used again */
static int
broken(struct session *s)
{
	struct job *j = s->job;

	s->job = NULL;
	j->session = NULL;
	session_drop(s);
	job_done(j);
	return (-1);
}

static int
no_memory(struct session *s)
{
	job_settle_rest(
	    s->job, false, OUTCOME_DEFER, "451 4.3.0 out of memory");
	return (broken(s));
}

/* send_envelope - as many commands as may be on their way now */
static int
send_envelope(struct session *s)
{
	bool pipelining = (s->ext & EXT_PIPELINING) != 0;

	while (s->sent <= step_data(s) && s->out.len - s->out_off < BURST) {
		if (skipped(s, s->sent, true)) {
			s->sent++;
			continue;
		}
		if (!pipelining && s->sent > STEP_MAIL &&
		    s->sent == step_data(s) && !job_any_accepted(s->job)) {
			s->need_rset = true;
			return (over(s));
		}
		if (put_step(s, s->sent) == -1)
			return (no_memory(s));
		s->sent++;
		if (!pipelining)
			break;
	}
	session_limit(s, s->relay->child->settings->relay.command_ms);
	return (s->out.len > s->out_off ? session_write(s) : 0);
}

/* cannot_go - what the next hop said at EHLO makes it useless to try */
static const char *
cannot_go(const struct session *s, char *room, size_t n)
{
	if ((s->ext & EXT_SIZE) != 0 && s->size_limit > 0 &&
	    s->job->len > s->size_limit) {
		(void)snprintf(room, n,
		    "552 5.3.4 message is larger than %s takes (%llu bytes)",
		    s->remote, (unsigned long long)s->size_limit);
		return (room);
	}
	if ((s->ext & EXT_SMTPUTF8) == 0 && needs_utf8(&s->job->env)) {
		(void)snprintf(
		    room, n, "553 5.6.7 %s does not offer SMTPUTF8", s->remote);
		return (room);
	}
	return (NULL);
}

/* begin - the connection is ready, the job waits */
static int
begin(struct session *s)
{
	struct job *j = s->job;
	char room[600];
	const char *why;
	size_t i;

	free(j->remote);
	j->remote = strdup(s->remote);
	if ((why = cannot_go(s, room, sizeof(room))) != NULL)
		job_settle_rest(j, false, OUTCOME_FAIL, why);
	if (job_open_count(j) == 0)
		return (over(s));
	for (i = 0; i < j->env.n_rcpts; i++)
		j->results[i].asked = j->results[i].accepted = false;
	s->state = S_ENVELOPE;
	s->messages++;
	s->mail_refused = s->answered = false;
	s->step = s->sent = s->need_rset ? STEP_RSET : STEP_MAIL;
	return (send_envelope(s));
}

void
session_begin(struct session *s, struct job *j)
{
	s->job = j;
	j->session = s;
	(void)!begin(s);
}

static int
greet(struct session *s, const char *verb)
{
	if (buf_addf(&s->out, "%s %s\r\n", verb,
	        s->relay->child->settings->hostname) == -1)
		return (no_memory(s));
	session_limit(s, s->relay->child->settings->relay.command_ms);
	return (session_write(s));
}

/* next_address - this host does not want us now; perhaps the next one does */
static int
next_address(struct session *s)
{
	struct job *j = s->job;
	struct relay *r = s->relay;
	char line[REPLY_TEXT_MAX];

	(void)reply_line(&s->reply, line, sizeof(line));
	s->job = NULL;
	j->session = NULL;
	free(j->remote);
	j->remote = strdup(s->remote);
	session_drop(s);
	relay_next_address(r, j, line);
	return (-1);
}

/* read_ehlo - note what is offered */
static void
read_ehlo(struct session *s)
{
	static const struct {
		const char *word;
		unsigned bit;
	} known[] = { { "PIPELINING", EXT_PIPELINING },
		{ "8BITMIME", EXT_8BITMIME }, { "SMTPUTF8", EXT_SMTPUTF8 },
		{ "SIZE", EXT_SIZE }, { "DSN", EXT_DSN } };
	char line[128];
	const char *word;
	size_t at = 0, i, n;

	s->ext = 0;
	s->size_limit = 0;
	(void)reply_next_text(&s->reply, &at, line, sizeof(line));
	while ((word = reply_next_text(&s->reply, &at, line, sizeof(line))) !=
	    NULL) {
		n = strcspn(word, " =");
		for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if (strlen(known[i].word) == n &&
			    strncasecmp(known[i].word, word, n) == 0)
				s->ext |= known[i].bit;
		if (n == 4 && strncasecmp(word, "SIZE", 4) == 0)
			s->size_limit = strtoull(word + n, NULL, 10);
	}
}

/* at_greeting - banner, EHLO, HELO */
static int
at_greeting(struct session *s)
{
	unsigned code = s->reply.code;

	switch (s->state) {
	case S_BANNER:
		if (code / 100 != 2)
			return (next_address(s));
		s->state = S_EHLO;
		return (greet(s, "EHLO"));
	case S_EHLO:
		if (code / 100 == 5) {
			s->state = S_HELO;
			return (greet(s, "HELO"));
		}
		if (code / 100 != 2)
			return (next_address(s));
		read_ehlo(s);
		return (begin(s));
	default:
		if (code / 100 != 2)
			return (next_address(s));
		return (begin(s));
	}
}

/* fresh_try - a connection that was kept open turned out to be closed or tired:
 * the job was not seen, and goes over a new one, once */
static bool
fresh_try(struct session *s)
{
	return (s->messages > 1 && !s->answered && !s->job->retried);
}

static void
retry(struct session *s)
{
	struct job *j = s->job;

	s->job = NULL;
	j->session = NULL;
	j->retried = true;
	relay_run(s->relay, j, true);
}

/* afresh - give this connection up and go over a new one */
static int
afresh(struct session *s)
{
	retry(s);
	session_drop(s);
	return (-1);
}

/* closing - 421: whatever has no answer is temporary */
static int
closing(struct session *s, const char *line)
{
	enum outcome what = s->step <= STEP_MAIL ? OUTCOME_SITE : OUTCOME_DEFER;

	if (s->state == S_ENVELOPE && fresh_try(s))
		return (afresh(s));
	job_settle_rest(s->job, false, what, line);
	return (broken(s));
}

/* at_rset - a hop that cannot forget the last message cannot take this one */
static int
at_rset(struct session *s)
{
	s->need_rset = false;
	if (s->reply.code / 100 == 2)
		return (0);
	if (fresh_try(s))
		return (afresh(s));
	job_settle_rest(s->job, false, OUTCOME_DEFER,
	    "451 4.5.0 protocol error: RSET was refused");
	return (broken(s));
}

static int
at_mail(struct session *s, const char *line)
{
	unsigned code = s->reply.code;

	if (code / 100 == 2) {
		s->answered = true;
		return (0);
	}
	/* A hop may be tired of this connection rather than of the message,
	 * or have lost count of what RSET ended. */
	if ((code / 100 == 4 || code == 503) && fresh_try(s))
		return (afresh(s));
	/* 3xx makes no sense here, and is temporary like all nonsense. */
	job_settle_rest(s->job, false, job_outcome(code), line);
	s->answered = s->mail_refused = s->need_rset = true;
	return ((s->ext & EXT_PIPELINING) == 0 ? over(s) : 0);
}

static int
at_rcpt(struct session *s, size_t i, const char *line)
{
	unsigned code = s->reply.code;
	enum outcome what = job_outcome(code);

	if (s->mail_refused)
		return (0);
	if (what == OUTCOME_DONE) {
		s->job->results[i].accepted = true;
		return (0);
	}
	/* RFC 5321 4.5.3.1.10: 552 is an old way to say "too many", which is
	 * temporary; but not if the enhanced code says that a box is full. */
	if (code == 552 && strncmp(line + 3, " 5.", 3) != 0)
		what = OUTCOME_DEFER;
	job_settle(s->job, i, what, line);
	return (0);
}

static int
at_data(struct session *s, const char *line)
{
	struct job *j = s->job;
	unsigned code = s->reply.code;
	bool any = job_any_accepted(j);

	s->need_rset = !any || code != 354;
	if (code == 354 && any) {
		content_init(
		    &s->content, j->segment->fd, j->off, j->len, j->crc);
		s->state = S_DATA;
		session_limit(s, s->relay->child->settings->relay.command_ms);
		return (session_write(s));
	}
	job_settle_rest(
	    j, false, code / 100 == 5 ? OUTCOME_FAIL : OUTCOME_DEFER, line);
	return (code >= 400 ? over(s) : broken(s));
}

static int
at_final(struct session *s, const char *line)
{
	job_settle_rest(s->job, true, job_outcome(s->reply.code), line);
	return (s->reply.code == 421 ? broken(s) : over(s));
}

/* at_envelope - the reply to step */
static int
at_envelope(struct session *s, const char *line)
{
	size_t step;
	int rc = 0;

	while (skipped(s, s->step, false))
		s->step++;
	step = s->step;
	if (step >= s->sent) {
		job_settle_rest(s->job, false, OUTCOME_DEFER,
		    "451 4.5.0 protocol error: a reply to no command");
		return (broken(s));
	}
	s->step++;
	session_limit(s, s->relay->child->settings->relay.command_ms);
	if (step == step_data(s))
		return (at_data(s, line));
	if (step == STEP_RSET)
		rc = at_rset(s);
	else if (step == STEP_MAIL)
		rc = at_mail(s, line);
	else
		rc = at_rcpt(s, step - STEP_RCPT, line);
	return (rc == -1 ? -1 : send_envelope(s));
}

int
transaction_reply(struct session *s)
{
	char line[REPLY_TEXT_MAX];

	if (s->state <= S_HELO)
		return (at_greeting(s));
	(void)reply_line(&s->reply, line, sizeof(line));
	if (s->state != S_FINAL && s->reply.code == 421)
		return (closing(s, line));
	switch (s->state) {
	case S_ENVELOPE:
		return (at_envelope(s, line));
	case S_DATA:
		/* An answer before the end: it will not take the message.
		 * Without the final dot there is none. */
		job_settle_rest(s->job, true,
		    s->reply.code / 100 == 5 ? OUTCOME_FAIL : OUTCOME_DEFER,
		    line);
		return (broken(s));
	default:
		return (at_final(s, line));
	}
}

int
transaction_fill(struct session *s)
{
	struct job *j = s->job;
	char text[256];
	int rc = content_fill(&s->content, &s->out);

	if (rc == CONTENT_MORE)
		return (0);
	if (rc == CONTENT_END) {
		s->state = S_FINAL;
		session_limit(s, s->relay->child->settings->relay.data_ms);
		return (0);
	}
	(void)snprintf(text, sizeof(text),
	    "message %s: content in segment %llu at %llu: %s", j->env.id,
	    (unsigned long long)j->segment->number, (unsigned long long)j->off,
	    rc == -1 ? strerror(errno) : "checksum is wrong");
	s->relay->stats.damaged++;
	child_alarm(s->relay->child, "damage", text);
	job_settle_rest(j, false, OUTCOME_DEFER,
	    "451 4.3.0 content is damaged on this host");
	return (broken(s));
}

void
transaction_lost(struct session *s, const char *why)
{
	static const char *const where[] = { "connecting", "greeting", "EHLO",
		"HELO", "the envelope", "content", "the reply to the message",
		"idle", "QUIT" };
	struct job *j = s->job;
	char line[700];
	bool early = s->state == S_ENVELOPE && s->step <= STEP_MAIL;

	if (s->state == S_ENVELOPE && fresh_try(s)) {
		retry(s);
		return;
	}
	(void)snprintf(line, sizeof(line), "451 4.4.%c %s during %s: %s",
	    strcmp(why, "timed out") == 0 ? '1' : '2', s->remote,
	    where[s->state], why);
	s->job = NULL;
	j->session = NULL;
	free(j->remote);
	j->remote = strdup(s->remote);
	if (s->state <= S_HELO) {
		relay_next_address(s->relay, j, line);
		return;
	}
	job_settle_rest(j, false, early ? OUTCOME_SITE : OUTCOME_DEFER, line);
	job_done(j);
}
