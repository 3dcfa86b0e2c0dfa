/* SPDX-License-Identifier: ISC */

/*
 * data - content of DATA and BDAT, as it comes
 *
 * Every form of smuggling (LF.LF, LF.CRLF, CR.CRLF, CRLF.LF, CRLF.CR ...)
 * rests on an end of line that one server takes and another does not.  Here
 * there is one form, and a message with any other is refused whole, after its
 * true end.
 *
 * Header lines are collected until the header ends: at an empty line, or before
 * the first line that is neither a field nor a continuation, which then begins
 * the body.
 */

#include "core/smtp/data.h"
#include "core/smtp/header.h"

#include <string.h>

enum state {
	AT_LINE, /* after CRLF */
	IN_LINE,
	AT_DOT, /* "." after CRLF, in DATA: stuffing or the end */
	AT_DOT_CR,
	AT_CR
};

void
data_init(struct data *d, const struct data_limits *limits, bool stuffed,
    data_sink_fn *sink, void *arg)
{
	memset(d, 0, sizeof(*d));
	d->limits = *limits;
	d->stuffed = stuffed;
	d->sink = sink;
	d->arg = arg;
	/* The line at hand lies there too, before it is judged. */
	d->header.max = limits->header_size + limits->line_length + 4;
}

void
data_fini(struct data *d)
{
	buf_fini(&d->header);
}

static void
fault(struct data *d, enum data_fault f)
{
	if (d->fault == DATA_GOOD)
		d->fault = f;
	buf_fini(&d->header);
	d->in_body = true;
}

static void
to_body(struct data *d, const char *p, size_t n)
{
	if (d->fault == DATA_GOOD && n > 0 && d->sink(d->arg, p, n) == -1)
		fault(d, DATA_STORE);
}

/* keep - content bytes, none of them a line end of its own */
static void
keep(struct data *d, const char *p, size_t n)
{
	if (d->fault != DATA_GOOD || n == 0)
		return;
	d->size += n;
	if (d->size > d->limits.message_size) {
		fault(d, DATA_SIZE);
		return;
	}
	if (!d->eight_bit)
		d->eight_bit = bytes_8bit(p, n);
	if (d->in_body)
		to_body(d, p, n);
	else if (buf_add(&d->header, p, n) == -1)
		fault(d, DATA_HEADER);
}

/* text - bytes of a line; its length is checked as it grows */
static void
text(struct data *d, const char *p, size_t n)
{
	if (d->line_len == 0 && n > 0 && p[0] == '.')
		d->dots = true;
	d->line_len += n;
	if (d->line_len > d->limits.line_length)
		fault(d, DATA_LINE);
	keep(d, p, n);
}

/* end_header - what lies in header from line_at on is the body's begin */
static void
end_header(struct data *d, bool empty_line)
{
	size_t at = d->line_at;

	d->in_body = true;
	if (!empty_line)
		to_body(d, d->header.data + at, d->header.len - at);
	if (d->fault == DATA_GOOD)
		d->header.len = at;
}

/* judge - a whole header line, with its CRLF, lies at line_at */
static void
judge(struct data *d)
{
	const char *line = d->header.data + d->line_at;
	size_t n = d->header.len - d->line_at, name;

	if (n == 2) {
		end_header(d, true);
		return;
	}
	name = header_name_len(line, n - 2);
	if (name == 0 && !((*line == ' ' || *line == '\t') && d->fields > 0)) {
		end_header(d, false);
		return;
	}
	if (memchr(line, '\0', n) != NULL) {
		fault(d, DATA_NUL);
		return;
	}
	if (name > 0) {
		d->fields++;
		d->hops += header_is(line, name, "Received");
	}
	if (d->fields > d->limits.header_fields ||
	    d->header.len > d->limits.header_size) {
		fault(d, DATA_HEADER);
		return;
	}
	d->line_at = d->header.len;
}

static void
line_end(struct data *d)
{
	keep(d, "\r\n", 2);
	d->line_len = 0;
	if (!d->in_body)
		judge(d);
}

/* in_line - the longest run of plain text at p; how many bytes were used */
static size_t
in_line(struct data *d, const char *p, size_t n)
{
	const char *lf = memchr(p, '\n', n), *cr;
	size_t len = lf != NULL ? (size_t)(lf - p) : n;

	if ((cr = memchr(p, '\r', len)) != NULL)
		len = (size_t)(cr - p);
	if (len > 0) {
		text(d, p, len);
		d->state = IN_LINE;
	}
	if (len == n)
		return (n);
	if (cr == NULL) {
		fault(d, DATA_BARE);
		d->state = IN_LINE;
	} else
		d->state = AT_CR;
	return (len + 1);
}

/* run - body text with proper line ends and without dots passes in one piece:
 * most of a message.  How many bytes were used, at a line's begin. */
static size_t
run(struct data *d, const char *p, size_t n)
{
	size_t at = 0, len;
	const char *lf;

	if (d->limits.message_size - d->size < n)
		return (0);
	while (at < n && p[at] != '.' &&
	    (lf = memchr(p + at, '\n', n - at)) != NULL) {
		len = (size_t)(lf - (p + at));
		if (len == 0 || lf[-1] != '\r' ||
		    len - 1 > d->limits.line_length ||
		    memchr(p + at, '\r', len - 1) != NULL)
			break;
		at += len + 1;
	}
	keep(d, p, at);
	return (at);
}

static size_t
step(struct data *d, const char *p, size_t n)
{
	size_t used;

	switch (d->state) {
	case AT_LINE:
		if (d->in_body && d->fault == DATA_GOOD &&
		    (used = run(d, p, n)) > 0)
			return (used);
		if (d->stuffed && *p == '.') {
			d->state = AT_DOT;
			return (1);
		}
		return (in_line(d, p, n));
	case IN_LINE:
		return (in_line(d, p, n));
	case AT_DOT:
		if (*p == '\r') {
			d->state = AT_DOT_CR;
			return (1);
		}
		/* The dot was stuffing: gone.  A line of a single dot and more
		 * (".x") loses it too, RFC 5321 4.5.2. */
		d->state = IN_LINE;
		return (0);
	case AT_DOT_CR:
		if (*p == '\n') {
			d->ended = true;
			return (1);
		}
		fault(d, DATA_BARE);
		d->state = IN_LINE;
		return (0);
	default: /* AT_CR */
		if (*p == '\n') {
			line_end(d);
			d->state = AT_LINE;
			return (1);
		}
		fault(d, DATA_BARE);
		d->state = IN_LINE;
		return (0);
	}
}

/* finish - the end: what was taken for header is one */
static void
finish(struct data *d)
{
	d->ended = true;
	if (!d->in_body)
		end_header(d, true);
}

size_t
data_feed(struct data *d, const char *p, size_t n)
{
	size_t at = 0;

	while (at < n && !d->ended)
		at += step(d, p + at, n - at);
	if (d->ended)
		finish(d);
	return (at);
}

void
data_end(struct data *d)
{
	if (d->state == AT_CR)
		fault(d, DATA_BARE);
	if (d->state == IN_LINE)
		line_end(d);
	finish(d);
}

const char *
data_reply(enum data_fault f)
{
	switch (f) {
	case DATA_BARE:
		return ("554 5.5.2 Bare CR or LF is not allowed in a message");
	case DATA_LINE:
		return ("554 5.6.0 Line too long");
	case DATA_NUL:
		return ("554 5.6.0 NUL in the message header");
	case DATA_HEADER:
		return ("554 5.6.0 Message header too large");
	case DATA_SIZE:
		return ("552 5.3.4 Message size exceeds fixed maximum "
		        "message size");
	default:
		return ("452 4.3.1 Not enough room for the message");
	}
}
