/* SPDX-License-Identifier: ISC */

/*
 * sample - which messages a milter with sample = N is shown
 *
 * By a hash of the queue id and the milter's name: the same for all recipients
 * and stages of a transaction and whenever it is asked again, without anything
 * to remember, and independent of other milters' choices.  A message chosen at
 * 10% is also chosen at 30%.
 */

#include "core/milter/chain_int.h"

static uint64_t
hash_text(uint64_t h, const char *s)
{
	for (; *s != '\0'; s++) /* FNV-1a */
		h = (h ^ (unsigned char)*s) * 0x100000001b3ull;
	return ((h ^ 0xff) * 0x100000001b3ull);
}

bool
sample_picks(const char *id, const char *milter, unsigned percent)
{
	uint64_t h = hash_text(hash_text(0xcbf29ce484222325ull, id), milter);

	/* Ids differ in their last digits: spread that over all bits. */
	h = (h ^ h >> 33) * 0xff51afd7ed558ccdull;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ull;
	h ^= h >> 33;
	return ((h >> 32) * SAMPLE_ALL >> 32 < percent);
}

/* sample_left_out - the milter is not shown the message in hand: it belongs to
 * the others.  Before MAIL there is none. */
bool
sample_left_out(const struct link *l, const struct policy_step *step)
{
	const struct chain *c = l->chain;

	return (!l->authoriser && step->sample < SAMPLE_ALL &&
	    (!c->message_seen ||
	        !sample_picks(c->id, l->conf->name, step->sample)));
}
