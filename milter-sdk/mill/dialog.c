/* SPDX-License-Identifier: ISC */

/*
 * dialog - which answer belongs to which command
 *
 * A milter answers commands in their order, except those that the options say
 * need no answer; after a verdict on the whole message it answers nothing more
 * of it.  Edits come before the verdict at the end of message.
 */

#include "milter-sdk/mill/mill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	char command;
	uint32_t no, no_reply; /* bits: do not send, does not answer */
} rows[] = {
	{ MILTER_CONNECT, MILTER_NO_CONNECT, MILTER_NR_CONNECT },
	{ MILTER_HELO, MILTER_NO_HELO, MILTER_NR_HELO },
	{ MILTER_MAIL, MILTER_NO_MAIL, MILTER_NR_MAIL },
	{ MILTER_RCPT, MILTER_NO_RCPT, MILTER_NR_RCPT },
	{ MILTER_DATA, MILTER_NO_DATA, MILTER_NR_DATA },
	{ MILTER_HEADER, MILTER_NO_HEADERS, MILTER_NR_HEADER },
	{ MILTER_EOH, MILTER_NO_EOH, MILTER_NR_EOH },
	{ MILTER_BODY, MILTER_NO_BODY, MILTER_NR_BODY },
	{ MILTER_UNKNOWN, MILTER_NO_UNKNOWN, MILTER_NR_UNKNOWN },
	{ MILTER_EOM, 0, 0 },
};

void
dialog_clamp(struct milter_options *o)
{
	o->protocol &= MILTER_PROTOCOL_ALL;
	if (o->version <= 2)
		o->protocol |= MILTER_NO_UNKNOWN;
	if (o->version <= 3)
		o->protocol |= MILTER_NO_DATA;
}

void
answer_fini(struct answer *a)
{
	while (a->n_edits > 0)
		free(a->edits[--a->n_edits].data);
	free(a->edits);
	free(a->data);
	memset(a, 0, sizeof(*a));
}

void
dialog_fini(struct dialog *d)
{
	free(d->due);
	memset(d, 0, sizeof(*d));
}

bool
dialog_waits(const struct dialog *d)
{
	return (d->at < d->n_due);
}

static void
push(struct dialog *d, struct packet *p)
{
	struct packet **more;

	if (d->n_due == d->cap) {
		d->cap = d->cap == 0 ? 64 : 2 * d->cap;
		if ((more = reallocarray(d->due, d->cap, sizeof(*more))) ==
		    NULL)
			abort();
		d->due = more;
	}
	d->due[d->n_due++] = p;
}

bool
dialog_send(struct dialog *d, struct packet *p, uint64_t us)
{
	struct answer *a = d->now ? &p->now : &p->then;
	char code = p->code;
	size_t i;

	if (code == MILTER_MAIL || code == MILTER_ABORT) {
		d->message_over = false;
		d->skip = 0;
	}
	if (code == MILTER_MACRO) /* with its command, or without */
		return (!d->session_over && !d->message_over);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].command == code)
			break;
	if (i == sizeof(rows) / sizeof(rows[0]))
		return (code == MILTER_ABORT && !d->session_over);
	if (d->session_over || d->message_over || code == d->skip ||
	    (d->protocol & rows[i].no) != 0)
		return (false);
	a->sent = true;
	a->sent_us = us;
	if ((d->protocol & rows[i].no_reply) == 0) {
		a->due = true;
		push(d, p);
	}
	return (true);
}

/* copy - the bytes with a NUL after them */
static char *
copy(const char *data, size_t len)
{
	char *p = malloc(len + 1);

	if (p == NULL)
		abort();
	memcpy(p, data, len);
	p[len] = '\0';
	return (p);
}

static int
add_edit(struct answer *a, char code, const char *data, size_t len)
{
	struct piece *last = a->n_edits > 0 ? &a->edits[a->n_edits - 1] : NULL;

	if (code == MILTER_REPLACE_BODY && last != NULL && last->code == code) {
		char *more = NULL;

		if (last->len + len > TAPE_FILE_MAX) {
			errno = E2BIG;
			return (-1);
		}
		if ((more = realloc(last->data, last->len + len + 1)) == NULL)
			abort();
		memcpy(more + last->len, data, len);
		last->data = more;
		last->len += len;
		return (0);
	}
	if (a->n_edits == EDITS_MAX) {
		errno = E2BIG;
		return (-1);
	}
	if (a->n_edits % 16 == 0) {
		a->edits =
		    reallocarray(a->edits, a->n_edits + 16, sizeof(*a->edits));
		if (a->edits == NULL)
			abort();
	}
	last = &a->edits[a->n_edits++];
	last->code = code;
	last->data = copy(data, len);
	last->len = len;
	return (0);
}

/* over - what a final answer means for what follows it */
static void
over(struct dialog *d, char command, char reply)
{
	bool session = command == MILTER_CONNECT || command == MILTER_HELO;

	if (reply == MILTER_CONTINUE || command == MILTER_UNKNOWN)
		return;
	if (reply == MILTER_SKIP) {
		d->skip = command;
		return;
	}
	if (command == MILTER_RCPT &&
	    (reply == MILTER_REJECT || reply == MILTER_TEMPFAIL ||
	        reply == MILTER_REPLYCODE))
		return; /* of that recipient alone */
	if (session || reply == MILTER_SHUTDOWN || reply == MILTER_CONN_FAIL)
		d->session_over = true;
	d->message_over = true;
	while (d->at < d->n_due) { /* nothing more will be said of these */
		struct packet *p = d->due[d->at++];

		(d->now ? &p->now : &p->then)->due = false;
	}
}

void
dialog_then(struct conn *c, bool whole)
{
	struct dialog d = { .protocol = c->options.protocol };
	size_t i;

	for (i = 0; i < c->n_packets; i++) {
		struct packet *p = &c->packets[i];

		if (p->code == MILTER_OPTNEG)
			continue;
		if (!p->from) {
			(void)dialog_send(&d, p, p->us);
			p->then.sent = true;
		} else if (dialog_hear(&d, p->code, p->data, p->len, p->us) ==
		    -1)
			break; /* as the gateway did */
	}
	for (i = d.at; i < d.n_due && !whole; i++)
		d.due[i]->then.unknown = true;
	dialog_fini(&d);
}

int
dialog_hear(
    struct dialog *d, char code, const char *data, size_t len, uint64_t us)
{
	struct packet *p;
	struct answer *a;

	if (code == MILTER_PROGRESS)
		return (0);
	if (d->at == d->n_due) {
		errno = EPROTO;
		return (-1);
	}
	p = d->due[d->at];
	a = d->now ? &p->now : &p->then;
	if (milter_is_edit(code))
		return (add_edit(a, code, data, len));
	d->at++;
	a->final = code;
	a->data = copy(data, len);
	a->len = len;
	a->us = us > a->sent_us ? us - a->sent_us : 0;
	over(d, p->code, code);
	return (0);
}
