/* SPDX-License-Identifier: ISC */

/*
 * address - take addresses apart, and know our domains
 *
 * The domain is what stands after the last '@' outside of quotes.  A local part
 * that names another hop would make the next system relay for the client; it is
 * only marked here.
 */

#include "milters/access/access.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
lower(char *s)
{
	for (; *s != '\0'; s++)
		*s = (char)tolower((unsigned char)*s);
}

/* last_at - the '@' before the domain, NULL without one */
static const char *
last_at(const char *s)
{
	const char *at = NULL;
	bool quoted = false;

	for (; *s != '\0'; s++) {
		if (*s == '\\' && quoted && s[1] != '\0')
			s++;
		else if (*s == '"')
			quoted = !quoted;
		else if (*s == '@' && !quoted)
			at = s;
	}
	return (at);
}

/* unquote - the local part as the next hop would understand it */
static void
unquote(const char *s, size_t n, char *to)
{
	for (; n > 0; s++, n--) {
		if (*s == '"')
			continue;
		if (*s == '\\' && n > 1) {
			s++;
			n--;
		}
		*to++ = *s;
	}
	*to = '\0';
}

int
address_parse(const char *s, struct address *a)
{
	size_t len = strlen(s), user;
	const char *at;

	if (len >= ADDRESS_MAX)
		return (-1);
	/* "@one,@two:user@three" (RFC 5321 C) */
	a->routed = s[0] == '@';
	at = last_at(s);
	user = at != NULL ? (size_t)(at - s) : len;
	unquote(s, user, a->user);
	(void)snprintf(
	    a->domain, sizeof(a->domain), "%s", at != NULL ? at + 1 : "");
	len = strlen(a->domain);
	if (len > 0 && a->domain[len - 1] == '.')
		a->domain[len - 1] = '\0';
	lower(a->user);
	lower(a->domain);
	a->routed |= strpbrk(a->user, "%!@") != NULL;
	/* Of two strings of which each fits, the sum may not. */
	if (strlen(a->user) + strlen(a->domain) + 2 > sizeof(a->all))
		return (-1);
	(void)strcpy(a->all, a->user);
	if (at != NULL) {
		(void)strcat(a->all, "@");
		(void)strcat(a->all, a->domain);
	}
	return (a->user[0] != '\0' ? 0 : -1);
}

int
domains_add(struct domains *d, const char *name)
{
	size_t len = strlen(name), i;
	char **grown, *copy;

	if (len > 0 && name[len - 1] == '.')
		len--;
	if (len == 0 || len > 255)
		goto bad;
	for (i = 0; i < len; i++)
		if ((unsigned char)name[i] <= 32 || name[i] == 127 ||
		    strchr("@<>*,;\"", name[i]) != NULL)
			goto bad;
	if (d->n == d->cap) {
		grown =
		    realloc(d->names, (2 * d->cap + 16) * sizeof(*d->names));
		if (grown == NULL)
			return (-1);
		d->names = grown;
		d->cap = 2 * d->cap + 16;
	}
	if ((copy = strndup(name, len)) == NULL)
		return (-1);
	lower(copy);
	d->names[d->n++] = copy;
	return (0);
bad:
	errno = EINVAL;
	return (-1);
}

int
domains_add_file(struct domains *d, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[1024], *word, *rest;
	int rc = 0;

	if (f == NULL)
		return (-1);
	while (rc == 0 && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "#")] = '\0';
		for (word = strtok_r(line, " \t\r\n", &rest);
		     word != NULL && rc == 0;
		     word = strtok_r(NULL, " \t\r\n", &rest))
			rc = domains_add(d, word);
	}
	if (rc == 0 && ferror(f)) {
		errno = EIO;
		rc = -1;
	}
	(void)fclose(f);
	return (rc);
}

static int
compare(const void *a, const void *b)
{
	return (strcmp(*(char *const *)a, *(char *const *)b));
}

void
domains_sort(struct domains *d)
{
	if (d->n > 0)
		qsort(d->names, d->n, sizeof(*d->names), compare);
}

static bool
find(const struct domains *d, const char *name)
{
	return (d->n > 0 &&
	    bsearch(&name, d->names, d->n, sizeof(*d->names), compare) != NULL);
}

bool
domains_has(const struct domains *d, const char *domain)
{
	char dotted[ADDRESS_MAX + 1];
	const char *p;

	if (domain[0] == '\0')
		return (false);
	if (find(d, domain))
		return (true);
	(void)snprintf(dotted, sizeof(dotted), ".%s", domain);
	for (p = dotted; p != NULL; p = strchr(p + 1, '.'))
		if (find(d, p))
			return (true);
	return (false);
}

void
domains_fini(struct domains *d)
{
	while (d->n > 0)
		free(d->names[--d->n]);
	free(d->names);
	memset(d, 0, sizeof(*d));
}
