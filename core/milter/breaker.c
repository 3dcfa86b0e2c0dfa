/* SPDX-License-Identifier: ISC */

/* breaker - may an endpoint be used? */

#include "core/milter/breaker.h"

#include <string.h>

enum { DOUBLED_MAX = 3 }; /* times */

bool
breaker_failed(
    struct breaker *b, unsigned after, uint64_t eject_ms, uint64_t now_us)
{
	if (b->state == BREAKER_OPEN)
		return (false);
	if (b->failures < after)
		b->failures++;
	if (b->state == BREAKER_CLOSED && b->failures < after)
		return (false);
	b->state = BREAKER_OPEN;
	b->until_us = now_us + (eject_ms << b->row) * 1000;
	if (b->row < DOUBLED_MAX)
		b->row++;
	return (true);
}

bool
breaker_probe(struct breaker *b, uint64_t limit_ms, uint64_t now_us)
{
	if (b->state == BREAKER_CLOSED || now_us < b->until_us)
		return (false);
	b->state = BREAKER_HALF_OPEN;
	b->until_us = now_us + limit_ms * 1000;
	return (true);
}

void
breaker_force(struct breaker *b, uint64_t limit_ms, uint64_t now_us)
{
	if (b->state != BREAKER_OPEN)
		return;
	b->state = BREAKER_HALF_OPEN;
	b->until_us = now_us + limit_ms * 1000;
}

bool
breaker_handshake(struct breaker *b)
{
	if (b->state != BREAKER_HALF_OPEN)
		return (false);
	b->state = BREAKER_CLOSED; /* the row of failures stays */
	return (true);
}

bool
breaker_verdict(struct breaker *b)
{
	bool back = b->state != BREAKER_CLOSED;

	memset(b, 0, sizeof(*b));
	return (back);
}

const char *
breaker_word(const struct breaker *b)
{
	static const char *const words[] = { "closed", "open", "half-open" };

	return (words[b->state]);
}
