/* SPDX-License-Identifier: ISC */

/*
 * report - the text of delivery status notifications, RFC 3464
 *
 * Addresses and replies in it come from the network: no byte of them may end
 * a line or a part.  The boundary holds the report's id, which nobody knew
 * when the message in it was written.
 */

#include "core/queue/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TEXT_MAX = 800 }; /* bytes of a quoted text; a line holds 998 */

const char *
report_date(char room[40], uint64_t ms)
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;

	(void)gmtime_r(&t, &tm);
	(void)strftime(room, 40, "%a, %d %b %Y %H:%M:%S +0000", &tm);
	return (room);
}

/* clean - s in one line without control bytes, cut to fit */
static const char *
clean(char room[TEXT_MAX + 1], const char *s)
{
	size_t i;

	for (i = 0; i < TEXT_MAX && s[i] != '\0'; i++)
		room[i] = (unsigned char)s[i] < 32 || s[i] == 127 ? ' ' : s[i];
	room[i] = '\0';
	return (room);
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return (c - '0');
	return (c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1);
}

/* unxtext - RFC 3461 4: +3D is "="; into one clean line */
static const char *
unxtext(char room[TEXT_MAX + 1], const char *s)
{
	size_t i;

	for (i = 0; i < TEXT_MAX && *s != '\0'; i++, s++) {
		room[i] = *s;
		if (*s == '+' && hex(s[1]) >= 0 && hex(s[2]) >= 0) {
			room[i] = (char)(hex(s[1]) << 4 | hex(s[2]));
			s += 2;
		}
		if ((unsigned char)room[i] < 32 || room[i] == 127)
			room[i] = ' ';
	}
	room[i] = '\0';
	return (room);
}

static bool
is_ascii(const char *s)
{
	while (*s != '\0' && (unsigned char)*s < 128)
		s++;
	return (*s == '\0');
}

uint32_t
report_flags(const struct buf *b)
{
	uint32_t flags = bytes_8bit(b->data, b->len) ? ENV_8BIT : 0;

	if ((b->len > 0 && b->data[0] == '.') ||
	    memmem(b->data, b->len, "\n.", 2) != NULL)
		flags |= ENV_DOTS;
	return (flags);
}

/* is_global - RFC 6533: an address is not ASCII */
static bool
is_global(const struct report *r)
{
	size_t i;

	for (i = 0; i < r->n_rcpts; i++)
		if (!is_ascii(r->rcpts[i].addr))
			return (true);
	return (!is_ascii(r->to));
}

static int
head(const struct report *r, bool eight, struct buf *out)
{
	char room[TEXT_MAX + 1], date[40];
	const char *subject = r->delay ? "Delayed mail (still being retried)"
	    : r->twice                 ? "Postmaster copy: undelivered mail"
	                               : "Undelivered mail returned to sender";

	return (buf_addf(out,
	    "Date: %s\r\n"
	    "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n"
	    "To: <%s>\r\n"
	    "Subject: %s\r\n"
	    "Message-ID: <%s@%s>\r\n"
	    "Auto-Submitted: auto-replied\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: multipart/report; report-type=%s;\r\n"
	    "\tboundary=\"=_%s\"\r\n"
	    "%s\r\n",
	    report_date(date, r->now_ms), r->hostname, clean(room, r->to),
	    subject, r->id, r->hostname,
	    is_global(r) ? "global-delivery-status" : "delivery-status", r->id,
	    eight ? "Content-Transfer-Encoding: 8bit\r\n" : ""));
}

/* part - a boundary and what the part says of itself */
static int
part(const struct report *r, const char *type, bool eight, struct buf *out)
{
	return (buf_addf(out, "--=_%s\r\nContent-Type: %s\r\n%s\r\n", r->id,
	    type, eight ? "Content-Transfer-Encoding: 8bit\r\n" : ""));
}

static int
prose(const struct report *r, bool eight, struct buf *out)
{
	char a[TEXT_MAX + 1], b[TEXT_MAX + 1], date[40];
	const struct report_rcpt *c;
	size_t i;
	int rc;

	rc = part(r, "text/plain; charset=utf-8", eight, out);
	rc |= buf_addf(
	    out, "This is the mail gateway at %s.\r\n\r\n", r->hostname);
	if (r->delay)
		rc |= buf_addf(out,
		    "Your message could not be delivered yet to the recipients"
		    " below.\r\nYou need not send it again: delivery is tried"
		    " until\r\n%s.\r\n\r\n",
		    report_date(date, r->until_ms));
	else if (r->twice)
		rc |= buf_addf(out,
		    "A message that must not be returned (its sender is empty)"
		    " could not\r\nbe delivered to the recipients below. It is"
		    " not tried again.\r\n\r\n");
	else
		rc |= buf_addf(out,
		    "Your message could not be delivered to the recipients"
		    " below%s.\r\nIt is not tried again.\r\n\r\n",
		    r->expired ? " in time" : "");
	for (i = 0; i < r->n_rcpts; i++) {
		c = &r->rcpts[i];
		rc |= buf_addf(out, "<%s>:\r\n", clean(a, c->addr));
		rc |= buf_addf(out, "    %s%s%s\r\n", clean(a, c->reply),
		    c->remote[0] != '\0' ? "\r\n    said by " : "",
		    clean(b, c->remote));
	}
	return (rc | buf_addf(out, "\r\n"));
}

static int
rcpt_fields(
    const struct report *r, const struct report_rcpt *c, struct buf *out)
{
	char room[TEXT_MAX + 1], date[40];
	size_t n;
	int rc = buf_addf(out, "\r\n");

	if (c->orcpt[0] != '\0')
		rc |= buf_addf(
		    out, "Original-Recipient: %s\r\n", unxtext(room, c->orcpt));
	rc |= buf_addf(out, "Final-Recipient: %s; %s\r\n",
	    is_ascii(c->addr) ? "rfc822" : "utf-8", clean(room, c->addr));
	rc |= buf_addf(out, "Action: %s\r\nStatus: %s\r\n",
	    r->delay ? "delayed" : "failed", c->status);
	if (c->remote[0] != '\0') {
		(void)clean(room, c->remote);
		n = strcspn(room, " ");
		rc |= buf_addf(out, "Remote-MTA: dns; %.*s\r\n", (int)n, room);
	}
	rc |= buf_addf(out, "Diagnostic-Code: %s; %s\r\n",
	    c->remote[0] != '\0' ? "smtp" : "x-milldam", clean(room, c->reply));
	rc |= buf_addf(
	    out, "Last-Attempt-Date: %s\r\n", report_date(date, r->now_ms));
	if (r->delay)
		rc |= buf_addf(out, "Will-Retry-Until: %s\r\n",
		    report_date(date, r->until_ms));
	return (rc);
}

static int
status(const struct report *r, bool eight, struct buf *out)
{
	char room[TEXT_MAX + 1], date[40];
	size_t i;
	int rc;

	rc = part(r,
	    is_global(r) ? "message/global-delivery-status"
	                 : "message/delivery-status",
	    eight, out);
	if (r->env->envid[0] != '\0')
		rc |= buf_addf(out, "Original-Envelope-Id: %s\r\n",
		    unxtext(room, r->env->envid));
	rc |= buf_addf(out, "Reporting-MTA: dns; %s\r\n", r->hostname);
	if (r->env->helo[0] != '\0')
		rc |= buf_addf(out, "Received-From-MTA: dns; %s\r\n",
		    clean(room, r->env->helo));
	rc |= buf_addf(out, "Arrival-Date: %s\r\nX-Milldam-Id: %s\r\n",
	    report_date(date, r->env->arrival_ms), r->env->id);
	for (i = 0; i < r->n_rcpts; i++)
		rc |= rcpt_fields(r, &r->rcpts[i], out);
	return (rc | buf_addf(out, "\r\n"));
}

int
report_build(const struct report *r, struct buf *out)
{
	bool global = is_global(r) || (r->env->flags & ENV_SMTPUTF8) != 0;
	bool eight = global || bytes_8bit(r->content, r->content_len);
	const char *type = r->header_only
	    ? global ? "message/global-headers" : "text/rfc822-headers"
	    : global ? "message/global"
	             : "message/rfc822";
	size_t i;
	int rc;

	for (i = 0; i < r->n_rcpts && !eight; i++)
		eight = !is_ascii(r->rcpts[i].reply) ||
		    !is_ascii(r->rcpts[i].remote);
	rc = head(r, eight, out);
	rc |= prose(r, eight, out);
	rc |= status(r, eight, out);
	rc |= part(r, type, eight, out);
	rc |= buf_add(out, r->content, r->content_len);
	return (rc | buf_addf(out, "\r\n--=_%s--\r\n", r->id));
}
