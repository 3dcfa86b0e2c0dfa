/* SPDX-License-Identifier: ISC */

/*
 * address - paths of MAIL and RCPT
 *
 * RFC 5321 4.1.2 with the internationalised atoms of RFC 6531.  Underscores in
 * domains are let through: such hosts exist and resolve.  What an address means
 * is not decided here.
 */

#include "core/smtp/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

enum { LABEL_MAX = 63 };

static int
fail(int why)
{
	errno = why;
	return (-1);
}

/* utf8_len - length of the UTF-8 sequence at p (not ASCII), 0 if it is none */
static size_t
utf8_len(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t i, n;
	unsigned long c;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return (0);
	c = p[0] & (0xffu >> (n + 1));
	for (i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return (0);
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff))) ||
	    (n == 4 && (c < 0x10000 || c > 0x10ffff)))
		return (0);
	return (n);
}

static bool
is_atext(unsigned char c)
{
	return (isalnum(c) ||
	    (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL));
}

/* skip_atom - length of the run of allowed characters at s; -1 EILSEQ */
static long
skip_atom(const char *s, bool (*allowed)(unsigned char))
{
	size_t i = 0, n;

	for (;;) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x80) {
			if ((n = utf8_len(s + i)) == 0)
				return (fail(EILSEQ));
			i += n;
		} else if (allowed(c))
			i++;
		else
			return ((long)i);
		if (i > ADDRESS_MAX)
			return (fail(E2BIG));
	}
}

static long
skip_dot_string(const char *s)
{
	long i = 0, n;

	for (;;) {
		if ((n = skip_atom(s + i, is_atext)) <= 0)
			return (n == 0 ? fail(EINVAL) : -1);
		i += n;
		if (i > ADDRESS_MAX)
			return (fail(E2BIG));
		if (s[i] != '.')
			return (i);
		i++;
	}
}

static long
skip_quoted(const char *s)
{
	size_t i = 1, n;

	while (s[i] != '"') {
		unsigned char c = (unsigned char)s[i];

		if (c == '\\') {
			c = (unsigned char)s[++i];
			if (c >= 0x80)
				return (fail(EINVAL));
		}
		if (c >= 0x80) {
			if ((n = utf8_len(s + i)) == 0)
				return (fail(EILSEQ));
			i += n;
		} else if (c >= 32 && c != 127)
			i++;
		else
			return (fail(EINVAL));
		if (i > ADDRESS_MAX)
			return (fail(E2BIG));
	}
	return ((long)i + 1);
}

static bool
is_label(unsigned char c)
{
	return (isalnum(c) || c == '-' || c == '_');
}

/* skip_literal - "[192.0.2.1]" or "[IPv6:2001:db8::1]" */
static long
skip_literal(const char *s)
{
	char text[INET6_ADDRSTRLEN + 8];
	unsigned char addr[16];
	size_t n = strcspn(s, "]");

	if (s[n] != ']' || n - 1 >= sizeof(text))
		return (fail(EINVAL));
	memcpy(text, s + 1, n - 1);
	text[n - 1] = '\0';
	if (strncasecmp(text, "IPv6:", 5) == 0) {
		if (inet_pton(AF_INET6, text + 5, addr) != 1)
			return (fail(EINVAL));
	} else if (inet_pton(AF_INET, text, addr) != 1)
		return (fail(EINVAL));
	return ((long)n + 1);
}

static long
skip_domain(const char *s)
{
	long i = 0, n;

	if (s[0] == '[')
		return (skip_literal(s));
	for (;;) {
		if ((n = skip_atom(s + i, is_label)) <= 0)
			return (n == 0 ? fail(EINVAL) : -1);
		if (s[i] == '-' || s[i + n - 1] == '-')
			return (fail(EINVAL));
		if (n > LABEL_MAX)
			return (fail(E2BIG));
		i += n;
		if (i > ADDRESS_DOMAIN_MAX)
			return (fail(E2BIG));
		if (s[i] != '.')
			return (i);
		i++;
	}
}

/* skip_route - "@one,@two:" before the mailbox: obsolete, ignored */
static long
skip_route(const char *s)
{
	long i = 0, n;

	while (s[i] == '@') {
		if ((n = skip_domain(s + i + 1)) == -1)
			return (-1);
		i += n + 1;
		if (i > 2 * ADDRESS_MAX)
			return (fail(E2BIG));
		if (s[i] == ':')
			return (i + 1);
		if (s[i++] != ',')
			break;
	}
	return (fail(EINVAL));
}

static long
skip_mailbox(const char *s, unsigned flags, bool bracket)
{
	long local, domain;
	bool missing;

	local = s[0] == '"' ? skip_quoted(s) : skip_dot_string(s);
	if (local == -1)
		return (-1);
	if (local > ADDRESS_LOCAL_MAX)
		return (fail(E2BIG));
	if (s[local] != '@') {
		if ((flags & ADDRESS_POSTMASTER) != 0 && local == 10 &&
		    strncasecmp(s, "postmaster", 10) == 0)
			return (local);
		missing = bracket ? s[local] == '>'
		                  : s[local] == '\0' || s[local] == ' ';
		return (fail(missing ? EDESTADDRREQ : EINVAL));
	}
	if ((domain = skip_domain(s + local + 1)) == -1)
		return (-1);
	return (local + 1 + domain);
}

int
address_path(const char *s, unsigned flags, char out[ADDRESS_MAX + 1],
    const char **rest_r)
{
	bool bracket = s[0] == '<';
	long n;

	s += bracket;
	out[0] = '\0';
	if (bracket && s[0] == '>' && (flags & ADDRESS_NULL) != 0) {
		*rest_r = s + 1;
		return (0);
	}
	if (bracket && s[0] == '@') {
		if ((n = skip_route(s)) == -1)
			return (-1);
		s += n;
	}
	if ((n = skip_mailbox(s, flags, bracket)) == -1)
		return (-1);
	memcpy(out, s, (size_t)n);
	out[n] = '\0';
	s += n;
	if (bracket && *s++ != '>')
		return (fail(EINVAL));
	if (*s != '\0' && *s != ' ' && *s != '\t')
		return (fail(EINVAL));
	*rest_r = s;
	return (0);
}

int
address_check(const char *s)
{
	long n = skip_mailbox(s, 0, false);

	if (n == -1)
		return (-1);
	return (s[n] == '\0' ? 0 : fail(EINVAL));
}

bool
address_is_8bit(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s >= 0x80)
			return (true);
	return (false);
}

const char *
address_domain(const char *s)
{
	const char *at = strrchr(s, '@');

	if (at == NULL || (s[0] == '"' && strchr(at, '"') != NULL))
		return ("");
	return (at + 1);
}
