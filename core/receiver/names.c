/* SPDX-License-Identifier: ISC */

/*
 * names - who a client's address belongs to, for a few seconds
 *
 * A busy client opens many sessions; each question to the lookup process is two
 * wake-ups before the greeting.  Only answers that name servers gave are kept,
 * no failures of theirs.  Each place holds one address: a new one replaces it.
 */

#include "core/receiver/receiver.h"

#include <stdlib.h>
#include <string.h>

enum { KEEP_MS = 5000 };

static struct client_name *
place(struct receiver *r, const char *addr)
{
	uint64_t h = r->client_seed ^ 14695981039346656037u;

	for (; *addr != '\0'; addr++)
		h = (h ^ (uint8_t)*addr) * 1099511628211u;
	return (&r->names[(h >> 32) % NAMES_KEPT]);
}

static void
clear(struct client_name *n)
{
	free(n->name);
	free(n->ptr);
	memset(n, 0, sizeof(*n));
}

const struct client_name *
names_find(struct receiver *r, const char *addr)
{
	struct client_name *n = place(r, addr);

	if (n->name == NULL || strcmp(n->addr, addr) != 0)
		return (NULL);
	if (now_ms() < n->until_ms)
		return (n);
	clear(n);
	return (NULL);
}

void
names_keep(struct receiver *r, const char *addr, const char *name,
    const char *ptr, const char *resolve)
{
	struct client_name *n = place(r, addr);

	clear(n);
	if (strcmp(resolve, "TEMP") == 0)
		return;
	n->name = strdup(name);
	n->ptr = strdup(ptr);
	if (n->name == NULL || n->ptr == NULL) {
		clear(n);
		return;
	}
	(void)strcpy(n->addr, addr); /* both have INET6_ADDRSTRLEN */
	n->resolve = resolve;
	n->until_ms = now_ms() + KEEP_MS;
}

void
names_clear(struct receiver *r)
{
	size_t i;

	for (i = 0; i < NAMES_KEPT; i++)
		clear(&r->names[i]);
}
