/* SPDX-License-Identifier: ISC */

/* say - the protocol's letters in words, and text fit for a terminal */

#include "milter-sdk/mill/mill.h"

#include <inttypes.h>

struct word {
	char code;
	const char *text;
};

static const char *
find(const struct word *w, char code)
{
	for (; w->code != '\0'; w++)
		if (w->code == code)
			return (w->text);
	return ("unknown");
}

const char *
say_command(char code)
{
	static const struct word words[] = { { MILTER_OPTNEG, "options" },
		{ MILTER_MACRO, "macros" }, { MILTER_CONNECT, "connect" },
		{ MILTER_HELO, "helo" }, { MILTER_MAIL, "mail" },
		{ MILTER_RCPT, "rcpt" }, { MILTER_DATA, "data" },
		{ MILTER_HEADER, "header" }, { MILTER_EOH, "end-of-header" },
		{ MILTER_BODY, "body" }, { MILTER_EOM, "end-of-message" },
		{ MILTER_ABORT, "abort" }, { MILTER_QUIT, "quit" },
		{ MILTER_UNKNOWN, "unknown-command" },
		{ MILTER_QUIT_NC, "next-session" }, { 0, NULL } };

	return (find(words, code));
}

const char *
say_reply(char code)
{
	static const struct word words[] = { { MILTER_OPTNEG, "options" },
		{ MILTER_CONTINUE, "continue" }, { MILTER_ACCEPT, "accept" },
		{ MILTER_REJECT, "reject" }, { MILTER_TEMPFAIL, "tempfail" },
		{ MILTER_DISCARD, "discard" }, { MILTER_REPLYCODE, "reply" },
		{ MILTER_SKIP, "skip" }, { MILTER_PROGRESS, "progress" },
		{ MILTER_SHUTDOWN, "shutdown" },
		{ MILTER_CONN_FAIL, "connection-failed" },
		{ MILTER_ADD_HEADER, "add-header" },
		{ MILTER_INSERT_HEADER, "insert-header" },
		{ MILTER_CHANGE_HEADER, "change-header" },
		{ MILTER_REPLACE_BODY, "replace-body" },
		{ MILTER_ADD_RCPT, "add-rcpt" },
		{ MILTER_ADD_RCPT_PAR, "add-rcpt" },
		{ MILTER_DEL_RCPT, "delete-rcpt" },
		{ MILTER_CHANGE_FROM, "change-from" },
		{ MILTER_QUARANTINE, "quarantine" }, { 0, "no answer" } };

	return (code == '\0' ? "no answer" : find(words, code));
}

/* say_clean - NUL becomes a blank, other controls "?", long text is cut */
const char *
say_clean(const char *s, size_t n)
{
	enum { SHOWN = 200 };
	static char rooms[4][SHOWN + 4];
	static unsigned next;
	char *room = rooms[next++ % 4];
	size_t i;

	while (n > 0 && s[n - 1] == '\0')
		n--;
	for (i = 0; i < n && i < SHOWN; i++)
		room[i] = s[i] == '\0'                        ? ' '
		    : (unsigned char)s[i] < 32 || s[i] == 127 ? '?'
		                                              : s[i];
	room[i] = '\0';
	if (i < n)
		(void)snprintf(room + i, 4, "...");
	return (room);
}

void
say_take(const struct take *t)
{
	size_t i, k;

	printf("milter %s, %zu connection%s, %s\n",
	    say_clean(t->milter, sizeof(t->milter)), t->n_conns,
	    t->n_conns == 1 ? "" : "s", t->whole ? "complete" : "cut off");
	for (i = 0; i < t->n_conns; i++) {
		printf("connection %zu\n", i + 1);
		for (k = 0; k < t->conns[i].n_packets; k++) {
			const struct packet *p = &t->conns[i].packets[k];

			printf("%10.3f ms %c %-15s %6zu  %s\n",
			    (double)p->us / 1000, p->from ? '<' : '>',
			    p->from ? say_reply(p->code) : say_command(p->code),
			    p->len,
			    p->code == MILTER_OPTNEG
			        ? ""
			        : say_clean(p->data, p->len));
		}
	}
}
