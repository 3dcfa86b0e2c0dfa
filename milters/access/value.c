/* SPDX-License-Identifier: ISC */

/*
 * value - right-hand sides of the access table, as Sendmail writes them
 *
 *	OK RELAY REJECT DISCARD SKIP TEMPFAIL FRIEND HATER
 *	550 text        550 5.7.1 text
 *	ERROR:550 text  ERROR:"550 text"  ERROR:5.7.1:550 text
 *	ERROR:5.7.1:"550 text"
 *	QUARANTINE:reason
 */

#include "milters/access/access.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *word;
	enum access what;
} words[] = {
	{ "OK", ACCESS_OK },
	{ "RELAY", ACCESS_RELAY },
	{ "REJECT", ACCESS_REJECT },
	{ "DISCARD", ACCESS_DISCARD },
	{ "SKIP", ACCESS_NONE },
	{ "TEMPFAIL", ACCESS_TEMPFAIL },
	{ "FRIEND", ACCESS_FRIEND },
	{ "HATER", ACCESS_HATER },
};

/* xcode_at - length of an enhanced status code (RFC 3463), 0 for none */
static size_t
xcode_at(const char *s)
{
	size_t n = 2, part;

	if ((s[0] != '4' && s[0] != '5') || s[1] != '.')
		return (0);
	part = strspn(s + n, "0123456789");
	if (part < 1 || part > 3 || s[n + part] != '.')
		return (0);
	n += part + 1;
	part = strspn(s + n, "0123456789");
	return (part < 1 || part > 3 ? 0 : n + part);
}

static void
set_xcode(struct access_value *v, const char *s, size_t n)
{
	(void)snprintf(v->xcode, sizeof(v->xcode), "%.*s", (int)n, s);
}

/* parse_reply - "550 text" or "550 5.7.1 text", perhaps in quotes */
static int
parse_reply(const char *s, struct access_value *v)
{
	bool quoted = *s == '"';
	size_t n;

	s += quoted;
	if ((s[0] != '4' && s[0] != '5') || !isdigit((unsigned char)s[1]) ||
	    !isdigit((unsigned char)s[2]) || (s[3] != ' ' && s[3] != '\0'))
		return (-1);
	v->what = ACCESS_ERROR;
	v->code = atoi(s);
	s += 3;
	s += strspn(s, " ");
	if ((n = xcode_at(s)) > 0 && (s[n] == ' ' || s[n] == '\0')) {
		set_xcode(v, s, n);
		s += n;
		s += strspn(s, " ");
	}
	(void)snprintf(v->text, sizeof(v->text), "%s", s);
	n = strlen(v->text);
	if (quoted && n > 0 && v->text[n - 1] == '"')
		v->text[n - 1] = '\0';
	return (0);
}

static int
parse_error(const char *s, struct access_value *v)
{
	size_t n = xcode_at(s);
	const char *x = s;

	if (n > 0 && s[n] == ':') {
		if (parse_reply(s + n + 1, v) == -1)
			return (-1);
		set_xcode(v, x, n);
	} else if (parse_reply(s, v) == -1)
		return (-1);
	/* Sendmail sends what stands there; a contradiction is a mistake. */
	return (
	    v->xcode[0] != '\0' && v->xcode[0] != '0' + v->code / 100 ? -1 : 0);
}

int
value_parse(const char *s, struct access_value *v)
{
	size_t i, n;

	memset(v, 0, sizeof(*v));
	s += strspn(s, " \t");
	n = strcspn(s, " \t\r\n");
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (n == strlen(words[i].word) &&
		    strncasecmp(s, words[i].word, n) == 0) {
			v->what = words[i].what;
			v->skip = v->what == ACCESS_NONE;
			return (0);
		}
	if (strncasecmp(s, "ERROR:", 6) == 0)
		return (parse_error(s + 6, v));
	if (strncasecmp(s, "QUARANTINE:", 11) == 0) {
		v->what = ACCESS_QUARANTINE;
		(void)snprintf(v->text, sizeof(v->text), "%s", s + 11);
		return (v->text[0] != '\0' ? 0 : -1);
	}
	return (parse_error(s, v));
}
