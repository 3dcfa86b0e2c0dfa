/* SPDX-License-Identifier: ISC */

/*
 * entry - the messages in the queue, compact, and envelopes lately in use
 *
 * A million entries must fit into modest memory: an entry holds what the
 * schedule needs.  The envelope is read again from the spool when the message
 * is due, unless it is still among the hot ones.
 */

#include "core/queue/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 8, IDS_FIRST = 1024, REASON_MAX = 300 };

static size_t
id_slot(const struct queue *q, const char *id)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (; *id != '\0'; id++)
		h = (h ^ (unsigned char)*id) * 0x100000001b3u;
	return ((size_t)(h ^ h >> 32) & (q->n_ids - 1));
}

static void
rehash(struct queue *q)
{
	size_t n = q->n_ids == 0 ? IDS_FIRST : 2 * q->n_ids;
	struct entry *e;

	free(q->ids);
	if ((q->ids = calloc(n, sizeof(q->ids[0]))) == NULL)
		queue_oom();
	q->n_ids = n;
	TAILQ_FOREACH (e, &q->all, all) {
		e->next_id = q->ids[id_slot(q, e->id)];
		q->ids[id_slot(q, e->id)] = e;
	}
}

struct entry *
entry_find(struct queue *q, const char *id)
{
	struct entry *e;

	if (q->n_ids == 0)
		return (NULL);
	for (e = q->ids[id_slot(q, id)]; e != NULL; e = e->next_id)
		if (strcmp(e->id, id) == 0)
			return (e);
	return (NULL);
}

struct entry *
entry_new(
    struct queue *q, const struct envelope *env, uint64_t seq, uint64_t size)
{
	struct entry *e = calloc(1, sizeof(*e));
	size_t slot;

	if (e == NULL)
		queue_oom();
	if (env->n_rcpts > FEW &&
	    (e->states.many = calloc(env->n_rcpts, 1)) == NULL)
		queue_oom();
	memcpy(e->id, env->id, sizeof(e->id));
	e->seq = seq;
	e->arrival_ms = e->since_ms = env->arrival_ms;
	e->size = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
	e->n_rcpts = e->left = (uint32_t)env->n_rcpts;
	e->job.e = e;
	e->own = (env->flags & ENV_BOUNCE) != 0;
	if (env->sender[0] == '\0')
		e->flags |= E_NULL;
	if ((env->flags & ENV_HELD) != 0 && env->hold_by[0] != '\0')
		e->flags |= E_CAUGHT;
	if (q->n_entries >= q->n_ids)
		rehash(q);
	slot = id_slot(q, e->id);
	e->next_id = q->ids[slot];
	q->ids[slot] = e;
	TAILQ_INSERT_TAIL(&q->all, e, all);
	q->n_entries++;
	return (e);
}

/* waiting - the number of recipients that this message's are part of */
static uint64_t *
waiting(struct queue *q, const struct entry *e)
{
	return (&q->waiting[e->own][(e->flags & E_HELD) != 0]);
}

void
entry_count(struct queue *q, struct entry *e)
{
	e->counted = true;
	*waiting(q, e) += e->left;
}

/* unlist - no longer a message of the queue */
static void
unlist(struct queue *q, struct entry *e)
{
	struct entry **p = &q->ids[id_slot(q, e->id)];

	while (*p != e)
		p = &(*p)->next_id;
	*p = e->next_id;
	command_skip(q, e);
	TAILQ_REMOVE(&q->all, e, all);
	q->n_entries--;
	if (e->counted)
		*waiting(q, e) -= e->left;
	e->counted = false;
	entry_defer_flag(q, e, false);
	entry_set_held(q, e, false);
	entry_del_jobs(q, e);
	heap_del(&q->entry_heap, &e->timer);
	asks_forget(q, e);
}

void
entry_free(struct queue *q, struct entry *e)
{
	if ((e->flags & E_GONE) == 0) {
		unlist(q, e);
		e->flags |= E_GONE;
	}
	if (e->flights > 0)
		return; /* the last hand-out to come back frees it */
	entry_drop_env(q, e);
	if (e->n_rcpts > FEW)
		free(e->states.many);
	free(e->reason);
	free(e);
}

static uint8_t *
state_at(struct entry *e, uint32_t i)
{
	return (e->n_rcpts > FEW ? &e->states.many[i] : &e->states.few[i]);
}

enum rstate
entry_state(const struct entry *e, uint32_t i)
{
	return ((enum rstate)(
	    e->n_rcpts > FEW ? e->states.many[i] : e->states.few[i]));
}

void
entry_set_state(struct queue *q, struct entry *e, uint32_t i, enum rstate st)
{
	uint8_t *p = state_at(e, i);

	if (*p < R_DONE && st >= R_DONE) {
		e->left--;
		if (e->counted)
			(*waiting(q, e))--;
	}
	*p = (uint8_t)st;
}

void
entry_defer_flag(struct queue *q, struct entry *e, bool on)
{
	if (on == ((e->flags & E_DEFERRED) != 0))
		return;
	e->flags ^= E_DEFERRED;
	if (on)
		q->n_deferred++;
	else
		q->n_deferred--;
}

void
entry_set_held(struct queue *q, struct entry *e, bool on)
{
	if (on == ((e->flags & E_HELD) != 0))
		return;
	if (e->counted)
		*waiting(q, e) -= e->left;
	e->flags ^= E_HELD;
	if (e->counted)
		*waiting(q, e) += e->left;
	if (on)
		q->n_held++;
	else
		q->n_held--;
}

void
entry_set_reason(struct entry *e, const char *why)
{
	free(e->reason);
	e->reason = why[0] != '\0' ? strndup(why, REASON_MAX) : NULL;
}

/* cool - release the coldest envelopes until the rest is within bounds */
static void
cool(struct queue *q)
{
	struct hot *h;
	unsigned tries = 64;

	while (q->hot_weight > HOT_MAX && tries-- > 0 &&
	    (h = TAILQ_FIRST(&q->hots)) != NULL) {
		if ((h->e->flags & (E_PINNED | E_UNCOMMITTED)) != 0 ||
		    h->pass == q->pass) {
			TAILQ_REMOVE(&q->hots, h, link);
			TAILQ_INSERT_TAIL(&q->hots, h, link);
		} else
			entry_drop_env(q, h->e);
	}
}

void
entry_keep_env(struct queue *q, struct entry *e, struct envelope *env,
    const struct spool_place *place)
{
	struct hot *h;

	cool(q);
	if ((h = calloc(1, sizeof(*h))) == NULL)
		queue_oom();
	h->e = e;
	h->env = *env;
	h->place = *place;
	h->pass = q->pass;
	h->weight = 1 + (unsigned)env->n_rcpts / 4;
	memset(env, 0, sizeof(*env));
	TAILQ_INSERT_TAIL(&q->hots, h, link);
	q->hot_weight += h->weight;
	e->hot = h;
}

void
entry_drop_env(struct queue *q, struct entry *e)
{
	struct hot *h = e->hot;

	if (h == NULL)
		return;
	TAILQ_REMOVE(&q->hots, h, link);
	q->hot_weight -= h->weight;
	env_fini(&h->env);
	free(h);
	e->hot = NULL;
	e->flags &= (uint16_t)~E_PINNED;
}

struct hot *
entry_env(struct queue *q, struct entry *e)
{
	struct spool_place place;
	struct envelope env;

	if (e->hot != NULL) {
		TAILQ_REMOVE(&q->hots, e->hot, link);
		TAILQ_INSERT_TAIL(&q->hots, e->hot, link);
		e->hot->pass = q->pass;
		return (e->hot);
	}
	if (spool_read_envelope(q->spool, e->seq, &env) == -1)
		return (NULL);
	if (env.n_rcpts != e->n_rcpts) {
		env_fini(&env);
		errno = EPROTO;
		return (NULL);
	}
	if (spool_read_place(q->spool, e->seq, &place) == -1) {
		env_fini(&env);
		return (NULL);
	}
	entry_keep_env(q, e, &env, &place);
	return (e->hot);
}
