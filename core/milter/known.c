/* SPDX-License-Identifier: ISC */

/*
 * known - what tables have that rules ask about
 *
 * The lookup process has the tables, so a question waits for its answer and the
 * rules are asked again.  What it said is kept for the transaction: the rules
 * must not see a table change between RCPT and the content.  A look-up that
 * fails is not kept; whoever needed it is tempfailed, and asks again later.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	KNOWN_MAX = 20000, /* look-ups of one transaction */
	KNOWN_BYTES = 2 << 20
};

void
known_clear(struct chain *c)
{
	while (c->n_known > 0) {
		struct known *k = &c->known[--c->n_known];

		free(k->key);
		free(k->value);
	}
	free(c->known);
	c->known = NULL;
	c->known_bytes = 0;
	c->ask_stale = c->asked_key != NULL; /* its answer will still come */
	c->ask_error = 0;
}

static const struct known *
find(const struct chain *c, const char *table, const char *key)
{
	size_t i;

	for (i = c->n_known; i > 0; i--) /* the last ones are asked most */
		if (strcmp(c->known[i - 1].key, key) == 0 &&
		    strcmp(c->known[i - 1].table, table) == 0)
			return (&c->known[i - 1]);
	return (NULL);
}

/* ask - -1 with EAGAIN: the answer comes by chain_found() */
static int
ask(struct chain *c, const char *table, const char *key)
{
	const struct chain_facts *f = c->facts;

	if (c->asked_key != NULL) { /* a look-up before this one goes on */
		errno = EAGAIN;
		return (-1);
	}
	if (f->lookup == NULL || c->msg != NULL) {
		errno = f->lookup == NULL ? ENOSYS : EIO;
		return (-1);
	}
	if ((c->asked_key = strdup(key)) == NULL)
		return (-1);
	c->asked_table = table;
	if (f->lookup(f->lookup_arg, table, key) == -1) {
		free(c->asked_key);
		c->asked_key = NULL;
		errno = EIO;
		return (-1);
	}
	errno = EAGAIN;
	return (-1);
}

int
known_get(void *arg, const char *table, const char *key, struct buf *value)
{
	struct chain *c = arg;
	const struct known *k = find(c, table, key);

	if (k == NULL && c->ask_error != 0) {
		errno = c->ask_error;
		c->ask_error = 0;
		return (-1);
	}
	if (k == NULL)
		return (ask(c, table, key));
	if (k->found == 1 && buf_add(value, k->value, k->len) == -1)
		return (-1);
	return (k->found);
}

/* keep - -1 with errno: ENOMEM, or ENOSPC over the limits */
static int
keep(struct chain *c, int found, const char *value, size_t len)
{
	size_t bytes = strlen(c->asked_key) + len;
	struct known *k;

	if (c->n_known == KNOWN_MAX || c->known_bytes + bytes > KNOWN_BYTES) {
		errno = ENOSPC;
		return (-1);
	}
	if ((c->n_known & (c->n_known - 1)) == 0) {
		k = realloc(c->known,
		    (c->n_known == 0 ? 1 : 2 * c->n_known) * sizeof(*k));
		if (k == NULL)
			return (-1);
		c->known = k;
	}
	k = &c->known[c->n_known];
	if ((k->value = malloc(len + 1)) == NULL)
		return (-1);
	memcpy(k->value, value, len);
	k->len = len;
	k->table = c->asked_table;
	k->key = c->asked_key;
	k->found = found;
	c->asked_key = NULL;
	c->known_bytes += bytes;
	c->n_known++;
	return (0);
}

void
chain_found(struct chain *c, int found, const char *value, size_t len)
{
	if (c->ask_stale) /* its question was cancelled */
		c->ask_stale = false;
	else if (found == -1)
		c->ask_error = EIO;
	else if (keep(c, found, value, len) == -1)
		c->ask_error = errno;
	free(c->asked_key);
	c->asked_key = NULL;
	chain_go_on(c);
}
