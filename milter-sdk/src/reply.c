/* SPDX-License-Identifier: ISC */

/* reply - the text that goes with a verdict, checked before it leaves */

#include "milter-sdk/src/sdk.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

/* digits - one to three of them */
static const char *
digits(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return (n >= 1 && n <= 3 ? s + n : NULL);
}

/* xcode_ok - class.subject.detail, the class that of the code */
static bool
xcode_ok(const char *s, int code)
{
	if (s[0] != '0' + code / 100 || s[1] != '.' ||
	    (s = digits(s + 2)) == NULL || *s != '.' ||
	    (s = digits(s + 1)) == NULL)
		return (false);
	return (*s == '\0');
}

/* add_line - one line without control bytes, cut to fit */
static char *
add_line(struct reply *r, char *to, const char *s, size_t n)
{
	size_t i;

	if (n > SDK_REPLY_LINE)
		n = SDK_REPLY_LINE;
	r->lines[r->n_lines++] = to;
	for (i = 0; i < n; i++)
		*to++ = (unsigned char)s[i] < 32 || s[i] == 127 ? '?' : s[i];
	*to++ = '\0';
	return (to);
}

void
reply_set(struct mill_txn *t, int code, const char *xcode, const char *text)
{
	struct reply *r = &t->reply;
	char *to;
	size_t n;

	r->n_lines = 0;
	r->code = 0;
	if (r->text == NULL && (r->text = malloc(SDK_REPLY_TEXT)) == NULL)
		return; /* the MTA has a text of its own */
	to = r->text;
	r->code = code;
	(void)snprintf(r->xcode, sizeof(r->xcode), "%s", xcode ? xcode : "");
	while (r->n_lines < SDK_REPLY_LINES) {
		n = strcspn(text, "\n");
		to = add_line(r, to, text,
		    n > 0 && text[n] == '\n' && text[n - 1] == '\r' ? n - 1
		                                                    : n);
		if (text[n] == '\0' || text[n + 1] == '\0')
			return;
		text += n + 1;
	}
}

enum mill_verdict
mill_reply(
    struct mill_txn *t, int code, const char *xcode, const char *fmt, ...)
{
	char text[SDK_REPLY_TEXT];
	va_list ap;

	t->reply.code = 0;
	if (code < 400 || code > 599) {
		mill_log(t, LOG_ERR, "fault: reply code %d", code);
		return (MILL_TEMPFAIL);
	}
	if (xcode != NULL && !xcode_ok(xcode, code)) {
		mill_log(
		    t, LOG_ERR, "fault: enhanced code %s with %d", xcode, code);
		return (code >= 500 ? MILL_REJECT : MILL_TEMPFAIL);
	}
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	reply_set(t, code, xcode, text);
	return (code >= 500 ? MILL_REJECT : MILL_TEMPFAIL);
}

void
reply_print(const struct reply *r, struct buf *b)
{
	size_t i;

	for (i = 0; r->code != 0 && i < r->n_lines; i++)
		(void)!buf_addf(b, "%d%s%s %s\n", r->code,
		    r->xcode[0] != '\0' ? " " : "", r->xcode, r->lines[i]);
}
