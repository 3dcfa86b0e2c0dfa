/* SPDX-License-Identifier: ISC */

/* answer - verdicts of milters and the SMTP replies that they become */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { REPLY_MAX = MILTER_REPLY_LINES * (MILTER_REPLY_LINE + 2) };

void
outcome_clear(struct outcome *o)
{
	free(o->reply);
	o->reply = NULL;
	o->kind = OUT_NONE;
}

void
outcome_move(struct outcome *to, struct outcome *from)
{
	free(to->reply);
	*to = *from;
	from->kind = OUT_NONE;
	from->reply = NULL;
}

static int
custom(const struct milter_packet *pkt, struct outcome *o)
{
	struct buf text = BUF_INIT(REPLY_MAX);
	int code = milter_get_reply(pkt, &text);

	if (code == -1) {
		buf_fini(&text);
		return (-1);
	}
	o->reply = buf_take(&text, NULL);
	if (code == 421) /* ends the session, as in Sendmail and Postfix */
		o->kind = OUT_SHUTDOWN;
	else
		o->kind = code < 500 ? OUT_TEMPFAIL : OUT_REJECT;
	return (0);
}

/* outcome_of - a final reply; -1 with EPROTO for anything else */
int
outcome_of(const struct milter_packet *pkt, struct outcome *o)
{
	static const struct {
		char code;
		enum outcome_kind kind;
	} rows[] = {
		{ MILTER_CONTINUE, OUT_CONTINUE },
		{ MILTER_ACCEPT, OUT_ACCEPT },
		{ MILTER_REJECT, OUT_REJECT },
		{ MILTER_TEMPFAIL, OUT_TEMPFAIL },
		{ MILTER_DISCARD, OUT_DISCARD },
		{ MILTER_SHUTDOWN, OUT_SHUTDOWN },
	};
	size_t i;

	if (pkt->code == MILTER_REPLYCODE)
		return (custom(pkt, o));
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].code == pkt->code && pkt->len == 0) {
			o->kind = rows[i].kind;
			return (0);
		}
	errno = EPROTO;
	return (-1);
}

enum chain_verdict
outcome_verdict(enum outcome_kind kind)
{
	switch (kind) {
	case OUT_REJECT:
		return (CHAIN_REJECT);
	case OUT_TEMPFAIL:
		return (CHAIN_TEMPFAIL);
	case OUT_DISCARD:
		return (CHAIN_DISCARD);
	case OUT_SHUTDOWN:
		return (CHAIN_SHUTDOWN);
	default:
		return (CHAIN_CONTINUE);
	}
}

const char *
outcome_text(const struct outcome *o, bool at_connect)
{
	if (o->reply != NULL)
		return (o->reply);
	switch (o->kind) {
	case OUT_REJECT:
		return (at_connect ? "554 5.7.1 Command rejected"
		                   : "550 5.7.1 Command rejected");
	case OUT_TEMPFAIL:
		return ("451 4.7.1 Service unavailable - try again later");
	case OUT_SHUTDOWN:
		return ("421 4.7.0 Server closing connection");
	case OUT_DISCARD:
		return ("250 2.0.0 Ok");
	default:
		return ("");
	}
}

const char *
outcome_word(enum outcome_kind kind)
{
	static const char *const words[] = { "none", "continue", "accept",
		"reject", "tempfail", "discard", "shutdown" };

	return (words[kind]);
}

/* failure_outcome - what on-failure says; accept and quarantine go on */
enum outcome_kind
failure_outcome(enum fail_action a)
{
	switch (a) {
	case FAIL_ACCEPT:
	case FAIL_QUARANTINE:
		return (OUT_CONTINUE);
	case FAIL_REJECT:
		return (OUT_REJECT);
	case FAIL_SHUTDOWN:
		return (OUT_SHUTDOWN);
	default:
		return (OUT_TEMPFAIL);
	}
}
