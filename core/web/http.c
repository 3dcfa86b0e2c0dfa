/* SPDX-License-Identifier: ISC */

/*
 * http - the head of a request
 *
 * Nothing is guessed: what two readers could take for different requests (bare
 * LF, folded fields, a body, two hosts) is refused.  A Host that is neither an
 * address nor "localhost" is refused too, or a web page elsewhere whose name
 * was made to point at us could read ours in somebody's browser.
 */

#include "core/web/http.h"

#include <string.h>
#include <strings.h>

struct span {
	const char *p;
	size_t n;
};

static bool
is(struct span s, const char *word)
{
	return (s.n == strlen(word) && memcmp(s.p, word, s.n) == 0);
}

static bool
is_token(struct span s)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";
	size_t i;

	for (i = 0; i < s.n; i++) {
		char c = s.p[i];

		if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') &&
		    (c < '0' || c > '9') &&
		    (c == '\0' || strchr(marks, c) == NULL))
			return (false);
	}
	return (s.n > 0);
}

/* take - what comes before c, and step over it */
static bool
take(struct span *s, char c, struct span *out)
{
	const char *at = s->n > 0 ? memchr(s->p, c, s->n) : NULL;

	if (at == NULL)
		return (false);
	out->p = s->p;
	out->n = (size_t)(at - s->p);
	s->n -= out->n + 1;
	s->p = at + 1;
	return (true);
}

/* target_path - of "/path?query" or "http://host/path?query" */
static int
target_path(struct span t, struct http_request *r)
{
	static const char scheme[] = "http://";
	struct span host;
	size_t i, n;

	for (i = 0; i < t.n; i++)
		if (t.p[i] <= ' ' || t.p[i] > 126)
			return (400);
	if (t.n > sizeof(scheme) - 1 &&
	    strncasecmp(t.p, scheme, sizeof(scheme) - 1) == 0) {
		t.p += sizeof(scheme) - 1;
		t.n -= sizeof(scheme) - 1;
		if (!take(&t, '/', &host))
			return (404);
		t.p--;
		t.n++;
	}
	if (t.n == 0 || t.p[0] != '/')
		return (400);
	for (n = 0; n < t.n && t.p[n] != '?'; n++)
		;
	if (n >= sizeof(r->path))
		n = 0; /* we have none so long */
	memcpy(r->path, t.p, n);
	r->path[n] = '\0';
	return (200);
}

static int
request_line(struct span line, struct http_request *r, bool *old_r)
{
	struct span method, target;

	if (!take(&line, ' ', &method) || !is_token(method))
		return (400);
	r->head = is(method, "HEAD");
	if (!take(&line, ' ', &target))
		return (400);
	*old_r = is(line, "HTTP/1.0");
	if (line.n != 8 || memcmp(line.p, "HTTP/", 5) != 0)
		return (400);
	if (!*old_r && !is(line, "HTTP/1.1"))
		return (505);
	if (!r->head && !is(method, "GET"))
		return (405);
	return (target_path(target, r));
}

static struct span
trim(struct span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return (s);
}

/* host_ok - an address, or localhost; with or without a port */
static bool
host_ok(struct span s)
{
	static const char local[] = "localhost";
	const char *marks = "0123456789.";
	size_t i = 0;

	if (s.n > 0 && s.p[0] == '[') {
		for (i = 1; i < s.n && s.p[i] != ']'; i++)
			if (s.p[i] == '\0' ||
			    strchr("0123456789abcdefABCDEF:.", s.p[i]) == NULL)
				return (false);
		if (i == s.n)
			return (false);
		i++;
	} else if (s.n >= sizeof(local) - 1 &&
	    strncasecmp(s.p, local, sizeof(local) - 1) == 0) {
		i = sizeof(local) - 1;
	} else {
		while (
		    i < s.n && s.p[i] != '\0' && strchr(marks, s.p[i]) != NULL)
			i++;
		if (i == 0)
			return (false);
	}
	if (i < s.n && s.p[i++] != ':')
		return (false);
	for (; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return (false);
	return (true);
}

static bool
named(struct span s, const char *word)
{
	return (s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0);
}

static int
field(struct span line, unsigned *hosts)
{
	struct span name, value;
	size_t i;

	if (!take(&line, ':', &name) || !is_token(name))
		return (400);
	value = trim(line);
	for (i = 0; i < value.n; i++)
		if (((unsigned char)value.p[i] < 32 && value.p[i] != '\t') ||
		    value.p[i] == 127)
			return (400);
	if (named(name, "Host")) {
		if (++*hosts > 1)
			return (400);
		return (host_ok(value) ? 200 : 421);
	}
	if (named(name, "Transfer-Encoding") ||
	    (named(name, "Content-Length") && !is(value, "0")))
		return (413);
	return (200);
}

/* next_line - without its CRLF; 0 none yet, 200, or 400 for a bare CR or LF */
static int
next_line(struct span *s, struct span *line)
{
	if (!take(s, '\n', line))
		return (0);
	if (line->n == 0 || line->p[line->n - 1] != '\r')
		return (400);
	line->n--;
	return (memchr(line->p, '\r', line->n) == NULL ? 200 : 400);
}

int
http_parse(const char *p, size_t n, struct http_request *r)
{
	struct span s = { p, n < HTTP_HEAD_MAX ? n : HTTP_HEAD_MAX }, line;
	unsigned fields = 0, hosts = 0;
	bool old = false;
	int st;

	memset(r, 0, sizeof(*r));
	if ((st = next_line(&s, &line)) == 0)
		return (n >= HTTP_HEAD_MAX ? 414 : 0);
	if (st == 200)
		st = request_line(line, r, &old);
	while (st == 200) {
		if ((st = next_line(&s, &line)) == 0)
			return (n >= HTTP_HEAD_MAX ? 431 : 0);
		if (st == 200 && line.n == 0)
			return (old || hosts == 1 ? 200 : 400);
		if (st == 200)
			st = ++fields > HTTP_FIELDS_MAX ? 431
			                                : field(line, &hosts);
	}
	return (st);
}

const char *
http_reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = { { 200, "OK" }, { 400, "Bad Request" },
		{ 404, "Not Found" }, { 405, "Method Not Allowed" },
		{ 408, "Request Timeout" }, { 413, "Content Too Large" },
		{ 414, "URI Too Long" }, { 421, "Misdirected Request" },
		{ 431, "Request Header Fields Too Large" },
		{ 503, "Service Unavailable" },
		{ 505, "HTTP Version Not Supported" } };
	size_t i;

	for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return (reasons[i].text);
	return ("Error");
}
