/* SPDX-License-Identifier: ISC */

/* entry - the table of live messages, small per message */

#include "core/spool/spool_int.h"

#include <stdlib.h>

static size_t
slot(const struct spool *sp, uint64_t seq)
{
	/* numbers are dense: the low bits spread well */
	return (seq & (sp->n_hash - 1));
}

static int
rehash(struct spool *sp)
{
	size_t n = sp->n_hash == 0 ? 1024 : sp->n_hash * 2, i, old = sp->n_hash;
	struct ent **h = calloc(n, sizeof(*h)), **was = sp->hash, *e, *next;

	if (h == NULL)
		return (-1);
	sp->hash = h;
	sp->n_hash = n;
	for (i = 0; i < old; i++)
		for (e = was[i]; e != NULL; e = next) {
			next = e->next;
			e->next = h[slot(sp, e->seq)];
			h[slot(sp, e->seq)] = e;
		}
	free(was);
	return (0);
}

struct ent *
ent_find(struct spool *sp, uint64_t seq)
{
	struct ent *e;

	if (sp->n_hash == 0)
		return (NULL);
	for (e = sp->hash[slot(sp, seq)]; e != NULL; e = e->next)
		if (e->seq == seq)
			return (e);
	return (NULL);
}

struct ent *
ent_add(struct spool *sp, uint64_t seq, uint32_t n_rcpts)
{
	struct ent *e;

	if (sp->stats.messages_live >= sp->n_hash && rehash(sp) == -1)
		return (NULL);
	if ((e = calloc(1, sizeof(*e))) == NULL)
		return (NULL);
	if (n_rcpts > 64 && (e->more = calloc(n_rcpts, 1)) == NULL) {
		free(e);
		return (NULL);
	}
	e->seq = seq;
	e->n_rcpts = e->left = n_rcpts;
	e->next = sp->hash[slot(sp, seq)];
	sp->hash[slot(sp, seq)] = e;
	sp->stats.messages_live++;
	return (e);
}

/* ent_del - the message is over: its segment and body may go */
void
ent_del(struct spool *sp, struct ent *e)
{
	struct ent **p;
	struct seg *g;
	struct bodyfile *b;

	for (p = &sp->hash[slot(sp, e->seq)]; *p != e; p = &(*p)->next)
		;
	*p = e->next;
	sp->stats.messages_live--;
	if (e->length > 0)
		sp->live_bytes -= rec_size(e->length);
	if ((g = seg_find(sp, e->seg)) != NULL && g->live > 0)
		g->live--;
	if (e->body != 0 && (b = body_find(sp, e->body)) != NULL) {
		b->dead = true;
		body_reap(sp, b);
	}
	if (e->rec != NULL) {
		free(e->rec->states);
		free(e->rec->last_reply);
		free(e->rec->why);
		free(e->rec);
	}
	free(e->more);
	free(e);
}

bool
ent_final(const struct ent *e, uint32_t i)
{
	return (e->more != NULL ? e->more[i] != 0 : (e->bits >> i & 1) != 0);
}

bool
ent_mark(struct ent *e, uint32_t i)
{
	if (i >= e->n_rcpts)
		return (false);
	if (e->more != NULL) {
		if (e->more[i])
			return (false);
		e->more[i] = 1;
	} else {
		if (e->bits >> i & 1)
			return (false);
		e->bits |= (uint64_t)1 << i;
	}
	return (--e->left == 0);
}
