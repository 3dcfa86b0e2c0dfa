/* SPDX-License-Identifier: ISC */

/*
 * dns_cache - answers for as long as they may be kept
 *
 * A hash table with a list by age; at the ceiling the oldest goes.
 */

#include "core/lookup/dns_cache.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

enum { BUCKETS = 2048 };

struct entry {
	LIST_ENTRY(entry) chain;
	TAILQ_ENTRY(entry) age;
	struct dns_answer answer;
	uint64_t until_s;
	enum dns_type type;
	char name[];
};

struct dns_cache {
	LIST_HEAD(, entry) buckets[BUCKETS];
	TAILQ_HEAD(, entry) by_age;
	size_t n;
};

static unsigned
bucket(const char *name, enum dns_type type)
{
	uint32_t h = 2166136261u ^ (uint32_t)type;

	for (; *name != '\0'; name++)
		h = (h ^ (uint8_t)(*name | 0x20)) * 16777619u;
	return (h % BUCKETS);
}

static void
drop(struct dns_cache *c, struct entry *e)
{
	LIST_REMOVE(e, chain);
	TAILQ_REMOVE(&c->by_age, e, age);
	dns_answer_fini(&e->answer);
	free(e);
	c->n--;
}

struct dns_cache *
dns_cache_new(void)
{
	struct dns_cache *c = calloc(1, sizeof(*c));

	if (c != NULL)
		TAILQ_INIT(&c->by_age);
	return (c);
}

void
dns_cache_free(struct dns_cache **cp)
{
	struct dns_cache *c = *cp;

	*cp = NULL;
	if (c == NULL)
		return;
	while (!TAILQ_EMPTY(&c->by_age))
		drop(c, TAILQ_FIRST(&c->by_age));
	free(c);
}

const struct dns_answer *
dns_cache_find(
    struct dns_cache *c, const char *name, enum dns_type type, uint64_t now_s)
{
	struct entry *e;

	LIST_FOREACH(e, &c->buckets[bucket(name, type)], chain)
	{
		if (e->type != type || strcasecmp(e->name, name) != 0)
			continue;
		if (e->until_s > now_s)
			return (&e->answer);
		drop(c, e);
		break;
	}
	return (NULL);
}

const struct dns_answer *
dns_cache_add(struct dns_cache *c, const char *name, enum dns_type type,
    uint64_t now_s, struct dns_answer *answer)
{
	size_t n = strlen(name) + 1;
	struct entry *e;

	if (answer->status == DNS_TEMP || answer->ttl_s == 0)
		return (answer);
	/* Two questions under way at a time may both bring an answer. */
	LIST_FOREACH(e, &c->buckets[bucket(name, type)], chain)
	if (e->type == type && strcasecmp(e->name, name) == 0) {
		drop(c, e);
		break;
	}
	if (c->n >= DNS_CACHE_MAX)
		drop(c, TAILQ_FIRST(&c->by_age));
	if ((e = malloc(sizeof(*e) + n)) == NULL)
		return (answer);
	memcpy(e->name, name, n);
	e->type = type;
	e->answer = *answer;
	memset(answer, 0, sizeof(*answer));
	e->until_s = now_s + e->answer.ttl_s;
	LIST_INSERT_HEAD(&c->buckets[bucket(name, type)], e, chain);
	TAILQ_INSERT_TAIL(&c->by_age, e, age);
	c->n++;
	return (&e->answer);
}

size_t
dns_cache_count(const struct dns_cache *c)
{
	return (c->n);
}
