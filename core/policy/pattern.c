/* SPDX-License-Identifier: ISC */

/*
 * pattern - '*' and '?' against texts from the network
 *
 * No recursion: after a mismatch only the last '*' is tried one byte further,
 * so the cost is bounded by the product of the lengths.
 */

#include "core/policy/pattern.h"

#include <string.h>

static unsigned char
lower(char c)
{
	return ((unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c));
}

bool
pattern_has(const char *pattern, const char *text, size_t len)
{
	const char *star = NULL, *t = text, *end = text + len, *again = text;

	while (t < end) {
		if (*pattern == '*') {
			star = pattern++;
			again = t;
		} else if (*pattern != '\0' &&
		    (*pattern == '?' || lower(*pattern) == lower(*t))) {
			pattern++;
			t++;
		} else if (star != NULL) {
			pattern = star + 1;
			t = ++again;
		} else
			return (false);
	}
	while (*pattern == '*')
		pattern++;
	return (*pattern == '\0');
}

bool
pattern_has_domain(const char *pattern, const char *domain, size_t len)
{
	const char *dot;

	if (len > 0 && domain[len - 1] == '.')
		len--;
	if (pattern[0] != '.' || pattern[1] == '\0')
		return (pattern_has(pattern, domain, len));
	if (pattern_has(pattern + 1, domain, len))
		return (true);
	while ((dot = memchr(domain, '.', len)) != NULL) {
		len -= (size_t)(dot - domain);
		domain = dot;
		if (pattern_has(pattern, domain, len))
			return (true);
		domain++;
		len--;
	}
	return (false);
}

size_t
pattern_local(
    const char *address, char *out, size_t room, const char **domain_r)
{
	bool quoted = false;
	const char *p = address;
	const char *at = NULL;
	size_t n = 0;

	/* The '@' is the last one outside quotes. */
	for (; *p != '\0'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (*p == '@' && !quoted)
			at = p;
	}
	*domain_r = at != NULL ? at + 1 : "";
	for (p = address; p != at && *p != '\0'; p++) {
		if (*p == '"')
			continue;
		if (*p == '\\' && p[1] != '\0' && p + 1 != at)
			p++;
		if (n + 1 < room)
			out[n++] = *p;
	}
	if (room > 0)
		out[n] = '\0';
	return (n);
}
