/* SPDX-License-Identifier: ISC */

/*
 * terms - what is asked of an MTA, and what it need not do
 *
 * Asked is only what a declared stage needs, and a reply only where one
 * decides: each command that is left out, and each reply, is a wake-up less on
 * either side.  Body chunks get no reply even if little of the body is kept:
 * an answer "skip" would save an MTA chunks of few messages and cost it a wait
 * with all others.
 */

#include "milter-sdk/src/terms.h"

#include <stdio.h>

static const struct {
	unsigned edit;
	uint32_t action;
} actions[] = {
	{ MILL_EDIT_ADD_HEADER, MILTER_MAY_ADD_HEADERS },
	{ MILL_EDIT_CHANGE_HEADER, MILTER_MAY_CHANGE_HEADERS },
	{ MILL_EDIT_BODY, MILTER_MAY_CHANGE_BODY },
	{ MILL_EDIT_ADD_RCPT, MILTER_MAY_ADD_RCPT | MILTER_MAY_ADD_RCPT_PAR },
	{ MILL_EDIT_DEL_RCPT, MILTER_MAY_DEL_RCPT },
	{ MILL_EDIT_SENDER, MILTER_MAY_CHANGE_FROM },
	{ MILL_EDIT_QUARANTINE, MILTER_MAY_QUARANTINE },
};

const int terms_stages[MILL_N_STAGES] = { MILTER_AT_CONNECT, MILTER_AT_HELO,
	MILTER_AT_MAIL, MILTER_AT_RCPT, MILTER_AT_EOH, MILTER_AT_EOM };

uint32_t
terms_actions(const struct mill_filter *f)
{
	uint32_t all = 0;
	size_t i;

	for (i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if ((f->edits & actions[i].edit) != 0)
			all |= actions[i].action;
	return (all);
}

static bool
has_macros(const struct mill_filter *f)
{
	size_t i;

	for (i = 0; i < MILL_N_STAGES; i++)
		if (f->macros[i] != NULL)
			return (true);
	return (false);
}

/* last_stage - after it the filter needs nothing */
static enum mill_stage
last_stage(const struct mill_filter *f)
{
	if (f->message != NULL)
		return (MILL_AT_MESSAGE);
	if (f->headers != NULL)
		return (MILL_AT_HEADERS);
	if (f->rcpt != NULL)
		return (MILL_AT_RCPT);
	if (f->mail != NULL)
		return (MILL_AT_MAIL);
	return (f->helo != NULL ? MILL_AT_HELO : MILL_AT_CONNECT);
}

/* unwanted - commands that the MTA need not send */
static uint32_t
unwanted(const struct mill_filter *f)
{
	enum mill_stage last = last_stage(f);
	unsigned without = f->without;
	uint32_t no = MILTER_NO_DATA | MILTER_NO_UNKNOWN;

	if (f->connect == NULL && (without & MILL_WITHOUT_CLIENT) != 0)
		no |= MILTER_NO_CONNECT;
	if (f->helo == NULL &&
	    (last < MILL_AT_HELO || (without & MILL_WITHOUT_HELO) != 0))
		no |= MILTER_NO_HELO;
	if (f->mail == NULL &&
	    (last < MILL_AT_MAIL || (without & MILL_WITHOUT_SENDER) != 0))
		no |= MILTER_NO_MAIL;
	if (f->rcpt == NULL &&
	    (last < MILL_AT_RCPT || (without & MILL_WITHOUT_RCPTS) != 0))
		no |= MILTER_NO_RCPT;
	if (last < MILL_AT_HEADERS || (without & MILL_WITHOUT_HEADERS) != 0)
		no |= MILTER_NO_HEADERS;
	if (f->headers == NULL)
		no |= MILTER_NO_EOH;
	if (f->message == NULL || f->max_body == 0)
		no |= MILTER_NO_BODY;
	return (no);
}

/* silent - commands that are sent and that nothing here answers */
static uint32_t
silent(const struct mill_filter *f)
{
	uint32_t nr = MILTER_NR_HEADER | MILTER_NR_BODY;

	if (f->connect == NULL)
		nr |= MILTER_NR_CONNECT;
	if (f->helo == NULL)
		nr |= MILTER_NR_HELO;
	if (f->mail == NULL)
		nr |= MILTER_NR_MAIL;
	if (f->rcpt == NULL)
		nr |= MILTER_NR_RCPT;
	if (f->headers == NULL)
		nr |= MILTER_NR_EOH;
	return (nr);
}

/* replies_unsent - the no-reply bits of commands that are not sent at all */
static uint32_t
replies_unsent(uint32_t no)
{
	static const struct {
		uint32_t no, nr;
	} pairs[] = { { MILTER_NO_CONNECT, MILTER_NR_CONNECT },
		{ MILTER_NO_HELO, MILTER_NR_HELO },
		{ MILTER_NO_MAIL, MILTER_NR_MAIL },
		{ MILTER_NO_RCPT, MILTER_NR_RCPT },
		{ MILTER_NO_HEADERS, MILTER_NR_HEADER },
		{ MILTER_NO_EOH, MILTER_NR_EOH },
		{ MILTER_NO_BODY, MILTER_NR_BODY } };
	uint32_t nr = 0;
	size_t i;

	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if ((no & pairs[i].no) != 0)
			nr |= pairs[i].nr;
	return (nr);
}

struct terms
terms_for(const struct mill_filter *f, uint32_t offered, uint32_t protocol)
{
	uint32_t want = terms_actions(f);
	struct terms t = { .edits = 0 };
	size_t i;

	if (has_macros(f))
		want |= MILTER_MAY_SET_MACROS;
	t.actions = want & offered;
	t.protocol = unwanted(f) & protocol;
	t.silent = silent(f);
	t.no_reply = t.silent & protocol;
	t.protocol |= t.no_reply & ~replies_unsent(t.protocol);
	for (i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if ((f->edits & actions[i].edit) != 0 &&
		    (offered & actions[i].action & ~MILTER_MAY_ADD_RCPT_PAR) !=
		        0)
			t.edits |= actions[i].edit;
	return (t);
}

/*
 * A list replaces the MTA's default of that stage, so the queue id and the
 * login are put back.  Never an empty list: Sendmail would send no macro at all
 * and Postfix its default.  Sendmail heeds the list of the end of message only
 * if there is one of the end of header too.
 */
bool
terms_macros(
    const struct mill_filter *f, enum mill_stage stage, char *room, size_t n)
{
	static const char *const base[MILL_N_STAGES] = { "j _ {daemon_name}",
		"{tls_version} {cipher}", "i {auth_type} {auth_authen}", "i",
		"i", "i" };
	const char *own = f->macros[stage];

	if (own == NULL && stage == MILL_AT_HEADERS &&
	    f->macros[MILL_AT_MESSAGE] != NULL)
		own = "";
	if (own == NULL)
		return (false);
	(void)snprintf(
	    room, n, "%s%s%s", base[stage], *own != '\0' ? " " : "", own);
	return (true);
}
