/* SPDX-License-Identifier: ISC */

/* reply - what a next hop answers */

#include "core/relay/reply.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

void
reply_init(struct reply *r)
{
	memset(r, 0, sizeof(*r));
	r->text.max = REPLY_KEPT_MAX;
}

void
reply_fini(struct reply *r)
{
	buf_fini(&r->text);
}

static int
bad(void)
{
	errno = EPROTO;
	return (-1);
}

/* add_text - a line's text, with control bytes as '?' */
static int
add_text(struct reply *r, const char *s, size_t n)
{
	char line[REPLY_LINE_MAX + 1];
	size_t i;

	for (i = 0; i < n; i++)
		line[i] =
		    (unsigned char)s[i] < ' ' || s[i] == 0x7f ? '?' : s[i];
	line[n] = '\n';
	if (buf_add(&r->text, line, n + 1) == 0)
		return (0);
	return (errno == EMSGSIZE ? bad() : -1);
}

/* add_line - one line without its end; 1 if it was the last */
static int
add_line(struct reply *r, const char *s, size_t n)
{
	unsigned code;

	if (n < 3 || s[0] < '2' || s[0] > '5' ||
	    !isdigit((unsigned char)s[1]) || !isdigit((unsigned char)s[2]) ||
	    (n > 3 && s[3] != ' ' && s[3] != '-'))
		return (bad());
	code = (unsigned)(s[0] - '0') * 100 + (unsigned)(s[1] - '0') * 10 +
	    (unsigned)(s[2] - '0');
	if ((r->lines > 0 && code != r->code) || r->lines >= REPLY_LINES_MAX)
		return (bad());
	r->code = code;
	r->lines++;
	if (add_text(r, n > 4 ? s + 4 : "", n > 4 ? n - 4 : 0) == -1)
		return (-1);
	return (n == 3 || s[3] == ' ');
}

int
reply_take(struct reply *r, const char *p, size_t n, size_t *used)
{
	const char *nl;
	size_t len;
	int rc;

	*used = 0;
	if (r->complete) {
		r->complete = false;
		r->code = r->lines = 0;
		r->text.len = 0;
	}
	while ((nl = memchr(p + *used, '\n', n - *used)) != NULL) {
		len = (size_t)(nl - (p + *used));
		rc = 0;
		if (len > 0 && nl[-1] == '\r')
			len--;
		rc = len > REPLY_LINE_MAX ? bad() : add_line(r, p + *used, len);
		*used = (size_t)(nl + 1 - p);
		if (rc == -1)
			return (-1);
		if (rc == 1) {
			r->complete = true;
			return (1);
		}
	}
	/* the last byte may be the CR of a line end */
	return (n - *used > REPLY_LINE_MAX + 1 ? bad() : 0);
}

const char *
reply_next_text(const struct reply *r, size_t *at, char *room, size_t n)
{
	const char *s, *nl;
	size_t len;

	if (*at >= r->text.len)
		return (NULL);
	s = r->text.data + *at;
	nl = memchr(s, '\n', r->text.len - *at);
	len = nl != NULL ? (size_t)(nl - s) : r->text.len - *at;
	*at += len + 1;
	if (len >= n)
		len = n - 1;
	memcpy(room, s, len);
	room[len] = '\0';
	return (room);
}

/* dsn_len - length of the enhanced code and the blank that begin s, or 0 */
static size_t
dsn_len(const char *s)
{
	unsigned a, b, c;
	int n = 0;

	if (sscanf(s, "%1u.%3u.%3u%n", &a, &b, &c, &n) != 3 || n == 0 ||
	    s[n] != ' ')
		return (0);
	return ((size_t)n + 1);
}

const char *
reply_line(const struct reply *r, char *room, size_t n)
{
	char line[REPLY_LINE_MAX + 1];
	const char *s, *first = NULL;
	size_t at = 0, used, dsn = 0;

	used = (size_t)snprintf(room, n, "%03u", r->code);
	while ((s = reply_next_text(r, &at, line, sizeof(line))) != NULL) {
		if (first == NULL) {
			dsn = dsn_len(s);
			first = room + used + 1;
		} else if (dsn > 0 && strncmp(first, s, dsn) == 0)
			s += dsn;
		if (used + 1 < n)
			used +=
			    (size_t)snprintf(room + used, n - used, " %s", s);
		if (used >= n) {
			memcpy(room + n - 4, "...", 4);
			break;
		}
	}
	return (room);
}
