/* SPDX-License-Identifier: ISC */

/*
 * site - next hops, each with its own queue, concurrency and back-off
 *
 * A dead site costs one hand-out per interval however many messages wait for
 * it, and takes no place of another one: relays' lists hold only sites that
 * may have a hand-out now, and are served in turn.
 */

#include "core/queue/queue.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BUCKETS_FIRST = 256, IDLE_MS = 60000 };

static uint32_t
hash_of(const char *host, uint16_t port)
{
	uint32_t h = 2166136261u; /* FNV-1a over the lower-case name */
	unsigned char c;

	for (; (c = (unsigned char)*host) != '\0'; host++)
		h = (h ^ (c >= 'A' && c <= 'Z' ? c | 32u : c)) * 16777619u;
	h = (h ^ port) * 16777619u;
	return (h ^ h >> 15);
}

static uint16_t
port_of(uint16_t port)
{
	return (port != 0 ? port : 25);
}

static void
rehash(struct queue *q)
{
	size_t i,
	    n = q->n_site_buckets == 0 ? BUCKETS_FIRST : 2 * q->n_site_buckets;
	struct site **v = calloc(n, sizeof(v[0])), *s, *next;

	if (v == NULL)
		queue_oom();
	for (i = 0; i < q->n_site_buckets; i++)
		for (s = q->sites[i]; s != NULL; s = next) {
			next = s->next;
			s->next = v[s->hash & (n - 1)];
			v[s->hash & (n - 1)] = s;
		}
	free(q->sites);
	q->sites = v;
	q->n_site_buckets = n;
}

static unsigned
limit_of(const struct queue *q)
{
	unsigned n = q->c->settings->queue.site_concurrency;

	return (n > 0 ? n : 1);
}

static unsigned
start_of(const struct queue *q)
{
	unsigned n = limit_of(q);

	return (n < SITE_START ? n : SITE_START);
}

struct site *
site_get(struct queue *q, const char *host, uint16_t port)
{
	uint32_t h = hash_of(host, port = port_of(port));
	struct site *s;
	size_t n;

	if (q->n_sites >= q->n_site_buckets)
		rehash(q);
	s = q->sites[h & (q->n_site_buckets - 1)];
	for (; s != NULL; s = s->next)
		if (s->hash == h && s->port == port &&
		    strcasecmp(s->host, host) == 0)
			return (s);
	n = strlen(host) + 1;
	if ((s = calloc(1, sizeof(*s) + n)) == NULL)
		queue_oom();
	memcpy(s->host, host, n);
	s->port = port;
	s->hash = h;
	s->limit = start_of(q);
	s->relay = &q->relays[h % q->n_relays];
	TAILQ_INIT(&s->jobs);
	s->next = q->sites[h & (q->n_site_buckets - 1)];
	q->sites[h & (q->n_site_buckets - 1)] = s;
	q->n_sites++;
	return (s);
}

bool
site_is(const struct site *s, const struct route *r)
{
	return (r->mailer == MAILER_SMTP && port_of(r->port) == s->port &&
	    strcasecmp(r->host, s->host) == 0);
}

static void
unlist(struct site *s)
{
	if (s->where == SITE_READY)
		TAILQ_REMOVE(&s->relay->ready, s, link);
	else if (s->where == SITE_ASIDE)
		TAILQ_REMOVE(&s->relay->aside, s, link);
	s->where = SITE_NOWHERE;
}

static void
site_free(struct queue *q, struct site *s)
{
	struct site **p = &q->sites[s->hash & (q->n_site_buckets - 1)];

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	q->n_sites--;
	unlist(s);
	heap_del(&q->site_heap, &s->timer);
	free(s->reply);
	free(s);
}

void
site_update(struct queue *q, struct site *s)
{
	bool may = s->n_jobs > 0 &&
	    (s->fails > 0 ? s->probe && s->flights == 0
	                  : s->flights < s->limit);

	if (may && s->where == SITE_NOWHERE) {
		TAILQ_INSERT_TAIL(&s->relay->ready, s, link);
		s->where = SITE_READY;
		queue_kick(q);
	} else if (!may && s->where != SITE_NOWHERE)
		unlist(s);
	if (s->flights > 0 || s->timer.pos != 0)
		return;
	if (s->n_jobs == 0)
		heap_set(&q->site_heap, &s->timer, queue_now_ms() + IDLE_MS);
	else if (s->fails > 0 && !s->probe) /* its probe got lost */
		heap_set(&q->site_heap, &s->timer,
		    queue_now_ms() + q->c->settings->queue.retry_min_ms);
}

void
site_add_job(struct queue *q, struct site *s, struct entry *e)
{
	struct job *j;

	for (j = e->jobs; j != NULL; j = j->sibling)
		if (j->site == s)
			return;
	if (e->job.site == NULL)
		j = &e->job;
	else if ((j = calloc(1, sizeof(*j))) == NULL)
		queue_oom();
	j->e = e;
	j->site = s;
	j->sibling = e->jobs;
	e->jobs = j;
	if ((e->flags & E_FRONT) != 0)
		TAILQ_INSERT_HEAD(&s->jobs, j, in_site);
	else
		TAILQ_INSERT_TAIL(&s->jobs, j, in_site);
	e->flags &= (uint16_t)~E_FRONT;
	s->n_jobs++;
	if (s->fails > 0)
		entry_defer_flag(q, e, true);
	site_update(q, s);
}

void
site_del_job(struct queue *q, struct job *j)
{
	struct site *s = j->site;
	struct job **p = &j->e->jobs;

	while (*p != j)
		p = &(*p)->sibling;
	*p = j->sibling;
	TAILQ_REMOVE(&s->jobs, j, in_site);
	s->n_jobs--;
	if (j == &j->e->job)
		j->site = NULL;
	else
		free(j);
	site_update(q, s);
}

void
entry_del_jobs(struct queue *q, struct entry *e)
{
	while (e->jobs != NULL)
		site_del_job(q, e->jobs);
}

/* site_reached - its server spoke to us: it is alive */
void
site_reached(struct queue *q, struct site *s)
{
	if (s->fails > 0) {
		s->fails = 0;
		s->gen++;
		s->limit = start_of(q);
		s->probe = false;
		free(s->reply);
		s->reply = NULL;
		heap_del(&q->site_heap, &s->timer);
	} else if (s->limit < limit_of(q))
		s->limit++;
	else
		s->limit = limit_of(q); /* a reload may have lowered it */
}

/* site_failed - it could not be reached.  Hand-outs that were under way when
 * it died say nothing new. */
void
site_failed(struct queue *q, struct site *s, unsigned gen, const char *reply)
{
	const struct queue_conf *c = &q->c->settings->queue;
	struct job *j;

	if (gen != s->gen)
		return;
	s->gen++;
	s->probe = false;
	free(s->reply);
	s->reply = strdup(reply);
	if (s->fails++ == 0)
		TAILQ_FOREACH (j, &s->jobs, in_site)
			entry_defer_flag(q, j->e, true);
	heap_set(&q->site_heap, &s->timer,
	    queue_now_ms() +
	        backoff_ms(s->fails, c->retry_min_ms, c->retry_max_ms,
	            queue_random()));
}

void
site_wake(struct queue *q, struct site *s)
{
	if (s->fails > 0)
		s->probe = true;
	site_update(q, s);
}

void
site_run_due(struct queue *q, uint64_t now)
{
	struct timer *t;
	struct site *s;

	while ((t = heap_first(&q->site_heap)) != NULL && t->at_ms <= now) {
		heap_del(&q->site_heap, t);
		s = (struct site *)(void *)((char *)t -
		    offsetof(struct site, timer));
		if (s->n_jobs == 0 && s->flights == 0)
			site_free(q, s);
		else
			site_wake(q, s);
	}
}

void
sites_rehome(struct queue *q)
{
	struct site *s;
	size_t i;

	for (i = 0; i < q->n_site_buckets; i++)
		for (s = q->sites[i]; s != NULL; s = s->next) {
			unlist(s);
			s->relay = &q->relays[s->hash % q->n_relays];
			site_update(q, s);
		}
}

void
sites_wake_all(struct queue *q)
{
	struct site *s;
	size_t i;

	for (i = 0; i < q->n_site_buckets; i++)
		for (s = q->sites[i]; s != NULL; s = s->next)
			site_wake(q, s);
}

/* sites_wake_host - every port of it; messages that wait there */
size_t
sites_wake_host(struct queue *q, const char *host)
{
	struct site *s;
	size_t i, n = 0;

	for (i = 0; i < q->n_site_buckets; i++)
		for (s = q->sites[i]; s != NULL; s = s->next)
			if (strcasecmp(s->host, host) == 0) {
				n += s->n_jobs;
				site_wake(q, s);
			}
	return (n);
}
