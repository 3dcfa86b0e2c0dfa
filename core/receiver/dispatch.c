/* SPDX-License-Identifier: ISC */

/* dispatch - one command line: who handles it, and the simple ones */

#include "core/receiver/receiver.h"

#include <stdlib.h>
#include <string.h>

/* greeting_text - "gate.test Hello name [addr], pleased to meet you" */
static const char *
greeting_text(const struct session *s, char *room, size_t n)
{
	char relay[512];

	(void)snprintf(room, n, "%s Hello %s, pleased to meet you",
	    s->settings->hostname, record_relay(s, relay, sizeof(relay)));
	return (room);
}

static void
reply_helo(struct session *s)
{
	char text[800];

	(void)greeting_text(s, text, sizeof(text));
	if (!s->ehlo) {
		session_reply(s, "250 %s", text);
		return;
	}
	session_reply(s,
	    "250-%s\r\n250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n"
	    "250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE %llu\r\n"
	    "250-CHUNKING\r\n%s250 HELP",
	    text, (unsigned long long)s->settings->limits.message_size,
	    s->settings->policies[s->listener->policy].prdr ? "250-PRDR\r\n"
	                                                    : "");
}

static void
helo_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	s->wait = WAIT_NOTHING;
	switch (a->verdict) {
	case CHAIN_SHUTDOWN:
		record_refusal(s, a->milter, a->reply, NULL);
		session_bye(s, "%s", a->reply);
		break;
	case CHAIN_REJECT:
	case CHAIN_TEMPFAIL:
		record_refusal(s, a->milter, a->reply, NULL);
		session_reply(s, "%s", a->reply);
		break;
	default:
		if (a->verdict == CHAIN_DISCARD)
			s->discard = true;
		reply_helo(s);
		break;
	}
	session_go(s);
}

/* is_helo - printable, no blank, nothing that could leave a comment */
static bool
is_helo(const char *a)
{
	size_t i;

	for (i = 0; a[i] != '\0'; i++)
		if ((unsigned char)a[i] <= 32 || a[i] == 127 || i >= 255 ||
		    strchr("()<>;,\"\\", a[i]) != NULL)
			return (false);
	return (i > 0);
}

static void
helo_command(struct session *s)
{
	char *copy;

	if (!is_helo(s->cmd->arg)) {
		session_reply(s, "501 5.5.4 %s requires a domain name",
		    s->cmd->verb == VERB_EHLO ? "EHLO" : "HELO");
		return;
	}
	if ((copy = strdup(s->cmd->arg)) == NULL) {
		s->dead = true;
		return;
	}
	tx_close(s);
	free(s->helo);
	s->helo = copy;
	s->facts.helo = copy;
	s->facts.proto = s->cmd->verb == VERB_EHLO ? "ESMTP" : "SMTP";
	s->ehlo = s->cmd->verb == VERB_EHLO;
	if (s->refused != NULL) {
		reply_helo(s);
		return;
	}
	s->wait = WAIT_CHAIN;
	chain_helo(s->chain, helo_done, s);
}

static void
unknown_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	s->wait = WAIT_NOTHING;
	if (a->verdict == CHAIN_SHUTDOWN)
		session_bye(s, "%s", a->reply);
	else if (a->verdict == CHAIN_REJECT || a->verdict == CHAIN_TEMPFAIL)
		session_reply(s, "%s", a->reply);
	else
		session_reply(s, "500 5.5.1 Command unrecognized: \"%.200s\"",
		    s->cmd->text);
	session_go(s);
}

static void
unknown_command(struct session *s)
{
	if (s->refused != NULL) {
		session_reply(s, "500 5.5.1 Command unrecognized: \"%.200s\"",
		    s->cmd->text);
		return;
	}
	s->wait = WAIT_CHAIN;
	chain_unknown(s->chain, s->cmd->text, unknown_done, s);
}

/* is_web - a browser was made to speak to us (cross-protocol attack) */
static bool
is_web(const struct session *s, const char *line, size_t len)
{
	static const char *const methods[] = { "GET /", "POST /", "PUT /",
		"HEAD /", "OPTIONS ", "CONNECT " };
	size_t i, n;

	for (i = 0; s->helo == NULL && i < 6; i++) {
		n = strlen(methods[i]);
		if (len >= n && memcmp(line, methods[i], n) == 0)
			return (true);
	}
	return (false);
}

static void
rset_command(struct session *s)
{
	tx_close(s);
	session_reply(s, "250 2.0.0 Reset state");
}

static void
quit_command(struct session *s)
{
	tx_close(s);
	session_bye(
	    s, "221 2.0.0 %s closing connection", s->settings->hostname);
	s->linger = false;
	s->got_mail = true; /* a polite visitor is not worth a line */
}

static void
dispatch(struct session *s)
{
	switch (s->cmd->verb) {
	case VERB_HELO:
	case VERB_EHLO:
		helo_command(s);
		break;
	case VERB_MAIL:
		mail_command(s);
		break;
	case VERB_RCPT:
		rcpt_command(s);
		break;
	case VERB_DATA:
		data_command(s);
		break;
	case VERB_BDAT:
		bdat_command(s);
		break;
	case VERB_RSET:
		rset_command(s);
		break;
	case VERB_NOOP:
		session_reply(s, "250 2.0.0 OK");
		break;
	case VERB_VRFY:
		session_reply(s,
		    "252 2.5.2 Cannot VRFY user; try RCPT to "
		    "attempt delivery");
		break;
	case VERB_EXPN:
		session_reply(s,
		    "502 5.7.0 Sorry, we do not allow this "
		    "operation");
		break;
	case VERB_HELP:
		session_reply(s, "214 2.0.0 See RFC 5321");
		break;
	case VERB_QUIT:
		quit_command(s);
		break;
	default:
		unknown_command(s);
		break;
	}
}

void
command_run(struct session *s, const char *line, size_t len)
{
	const char *bad;
	bool utf8 = s->tx != NULL && (s->tx->env.flags & ENV_SMTPUTF8) != 0;

	if (is_web(s, line, len)) {
		log_info("NOQUEUE: web client on the mail port: relay=[%s]",
		    s->client_addr);
		session_bye(s, "554 5.5.1 This is a mail server");
		return;
	}
	if (s->cmd == NULL && (s->cmd = malloc(sizeof(*s->cmd))) == NULL) {
		s->dead = true;
		return;
	}
	bad = command_parse(s->cmd, line, len, utf8);
	if (s->refused != NULL &&
	    (s->cmd->verb == VERB_MAIL || s->cmd->verb == VERB_RCPT ||
	        s->cmd->verb == VERB_DATA || s->cmd->verb == VERB_BDAT))
		session_reply(s, "%s", s->refused);
	else if (bad != NULL && s->cmd->verb != VERB_UNKNOWN)
		session_reply(s, "%s", bad);
	else if (bad != NULL && s->cmd->text[0] == '\0')
		session_reply(
		    s, "%s", len == 0 ? "500 5.5.2 Empty command" : bad);
	else
		dispatch(s);
}
