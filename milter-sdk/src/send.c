/* SPDX-License-Identifier: ISC */

/*
 * send - a filter's verdicts and edits as packets
 *
 * Edits leave as the connection takes them: a new body may be much larger than
 * what is kept for an MTA that does not read.
 */

#include "milter-sdk/src/mta.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

/* put_text - '%' doubled: Sendmail and Postfix read it as a format */
static int
put_text(struct buf *b, const char *s)
{
	size_t n;

	for (; *s != '\0'; s += n) {
		n = strcspn(s, "%");
		if (n > 0 && buf_add(b, s, n) == -1)
			return (-1);
		if (s[n] == '%') {
			if (buf_add(b, "%%", 2) == -1)
				return (-1);
			n++;
		}
	}
	return (0);
}

/* put_reply - the text of r; where an MTA wants an enhanced code on each of
 * many lines, it gets one */
static int
put_reply(struct buf *out, const struct reply *r)
{
	struct buf b = BUF_INIT(MILTER_CHUNK);
	char xcode[32] = "";
	size_t i;
	int rc = -1;

	if (r->xcode[0] != '\0')
		(void)snprintf(xcode, sizeof(xcode), "%s ", r->xcode);
	else if (r->n_lines > 1)
		(void)snprintf(xcode, sizeof(xcode), "%d.0.0 ", r->code / 100);
	for (i = 0; i < r->n_lines; i++)
		if (buf_addf(&b, "%s%d%c%s", i > 0 ? "\r\n" : "", r->code,
		        i + 1 < r->n_lines ? '-' : ' ', xcode) == -1 ||
		    put_text(&b, r->lines[i]) == -1)
			goto done;
	if (buf_add(&b, "", 1) == 0)
		rc = milter_put(out, MILTER_REPLYCODE, b.data, b.len);
done:
	buf_fini(&b);
	return (rc);
}

int
mta_reply(struct mta *m, enum mill_verdict v)
{
	static const char codes[] = { [MILL_TEMPFAIL] = MILTER_TEMPFAIL,
		[MILL_CONTINUE] = MILTER_CONTINUE,
		[MILL_ACCEPT] = MILTER_ACCEPT,
		[MILL_REJECT] = MILTER_REJECT,
		[MILL_DISCARD] = MILTER_DISCARD };

	if ((v == MILL_REJECT || v == MILL_TEMPFAIL) && m->txn->reply.code != 0)
		return (put_reply(&m->out, &m->txn->reply));
	return (milter_put(&m->out, codes[v], NULL, 0));
}

static int
put_address(struct mta *m, const struct edit *e)
{
	char addr[1200]; /* edit.c takes less than 1,024 */
	const char *s[2] = { addr, e->value };
	char code = MILTER_ADD_RCPT;

	(void)snprintf(addr, sizeof(addr), "<%s>", e->name);
	if (e->kind == EDIT_SENDER)
		code = MILTER_CHANGE_FROM;
	else if (e->kind == EDIT_DEL_RCPT)
		code = MILTER_DEL_RCPT;
	else if (e->value != NULL)
		code = MILTER_ADD_RCPT_PAR;
	return (milter_put_strings(&m->out, code, s, e->value != NULL ? 2 : 1));
}

/* put_body - the next chunk; nothing at all would leave the old body */
static int
put_body(struct mta *m, const struct edit *e)
{
	size_t n = e->len - m->edit_off;

	if (e->len == 0)
		return (milter_put(&m->out, MILTER_REPLACE_BODY, "\r\n", 2));
	if (n > MILTER_CHUNK)
		n = MILTER_CHUNK;
	if (milter_put(
	        &m->out, MILTER_REPLACE_BODY, e->value + m->edit_off, n) == -1)
		return (-1);
	m->edit_off += n;
	return (0);
}

static int
put_edit(struct mta *m, const struct edit *e)
{
	const char *s[2] = { e->name, e->value };

	switch (e->kind) {
	case EDIT_CHANGE:
	case EDIT_DELETE: /* value NULL; 1-based on the wire */
		return (milter_put_indexed(&m->out, MILTER_CHANGE_HEADER,
		    (uint32_t)e->index + 1, e->name,
		    e->value != NULL ? e->value : ""));
	case EDIT_INSERT:
		return (milter_put_indexed(&m->out, MILTER_INSERT_HEADER,
		    (uint32_t)e->index, e->name, e->value));
	case EDIT_ADD:
		return (milter_put_strings(&m->out, MILTER_ADD_HEADER, s, 2));
	case EDIT_SENDER:
	case EDIT_DEL_RCPT:
	case EDIT_ADD_RCPT:
		return (put_address(m, e));
	case EDIT_BODY:
		return (put_body(m, e));
	case EDIT_QUARANTINE:
		return (milter_put_strings(&m->out, MILTER_QUARANTINE, s, 1));
	}
	errno = EINVAL;
	return (-1);
}

bool
mta_edits(struct mta *m)
{
	const struct edit *e;

	while ((e = m->edit) != NULL) {
		if (m->out.len >= MTA_OUT_HIGH)
			return (false);
		if (put_edit(m, e) == -1) {
			mill_log(m->txn, LOG_ERR, "an edit was refused: %s",
			    strerror(errno));
			m->verdict = MILL_TEMPFAIL; /* the MTA drops them all */
			m->edit = NULL;
			break;
		}
		if (e->kind != EDIT_BODY || m->edit_off == e->len) {
			m->edit = e->next;
			m->edit_off = 0;
		}
	}
	return (true);
}
