/* SPDX-License-Identifier: ISC */

/* header - what is a field, and a block taken apart into fields */

#include "core/smtp/header.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

size_t
header_name_len(const char *line, size_t n)
{
	size_t i = 0, name;

	while (i < n && line[i] > 32 && line[i] < 127 && line[i] != ':')
		i++;
	name = i;
	while (i < n && (line[i] == ' ' || line[i] == '\t'))
		i++;
	return (name > 0 && i < n && line[i] == ':' ? i : 0);
}

bool
header_is(const char *name, size_t n, const char *want)
{
	while (n > 0 && (name[n - 1] == ' ' || name[n - 1] == '\t'))
		n--;
	return (n == strlen(want) && strncasecmp(name, want, n) == 0);
}

/* field_end - the offset after the CRLF that ends the field at p */
static size_t
field_end(const char *p, size_t n)
{
	size_t at = 0;
	const char *lf;

	while ((lf = memchr(p + at, '\n', n - at)) != NULL) {
		at = (size_t)(lf - p) + 1;
		if (at == n || (p[at] != ' ' && p[at] != '\t'))
			return (at);
	}
	return (0);
}

int
header_split(char *block, size_t n, struct message *m)
{
	size_t at = 0, len, name;
	int rc;

	for (; at < n; at += len) {
		len = field_end(block + at, n - at);
		name = len > 2 ? header_name_len(block + at, len - 2) : 0;
		if (name == 0 || block[at + len - 2] != '\r') {
			errno = EINVAL;
			return (-1);
		}
		block[at + name] = '\0';
		rc = message_add(m, m->n_fields, block + at,
		    block + at + name + 1, len - name - 3);
		block[at + name] = ':';
		if (rc == -1)
			return (-1);
	}
	return (0);
}
