/* SPDX-License-Identifier: ISC */
#ifndef SDK_MTA_H
#define SDK_MTA_H

#include "milter-sdk/src/macroset.h"
#include "milter-sdk/src/session.h"
#include "milter-sdk/src/terms.h"

/*
 * One connection of an MTA: the bytes that came go in, those for it come out.
 * Knows no socket and no thread; whoever has it feeds it.
 */
struct mta {
	const struct mill_filter *filter;
	bool negotiated; /* terms hold, over sessions too */
	struct terms terms;
	struct mill_txn *txn; /* of the session; NULL before and after it */
	bool connected;       /* the session has its CONNECT */
	char over;            /* answer to what still comes of a message that
	                         has its final one; '\0': none */
	struct macroset macros;
	struct buf in;  /* a packet's beginning, or what waits */
	struct buf out; /* for the MTA: whoever sends takes from the front */

	/* The end of a message: edits, then the verdict, as out has room. */
	bool sending;
	enum mill_verdict verdict;
	const struct edit *edit; /* the next to leave */
	size_t edit_off;         /* bytes of a new body that have left */

	/* told to the MTA while a slow message() works; NULL: nothing */
	void (*progress)(struct mill_txn *);
	const char *fault; /* what the MTA did wrong; NULL: nothing */
};

enum mta_next {
	MTA_READ,  /* all is handled: more bytes */
	MTA_WRITE, /* out must leave first */
	MTA_SLOW,  /* a function that may wait comes next */
	MTA_END    /* out may still leave, then close */
};

enum {
	/* bytes: what may be handed over at once, and of out before it waits */
	MTA_READ_MAX = 128 << 10,
	MTA_OUT_HIGH = 256 << 10
};

void mta_init(struct mta *, const struct mill_filter *);
/* mta_fini - ends the session, if the program does not stop meanwhile: then
 * it is left as it is */
void mta_fini(struct mta *);

/*
 * mta_take - handle what came: n bytes more, or 0 to go on.  The bytes are
 * the caller's again.  may_wait: functions that may wait are called too.
 */
enum mta_next mta_take(struct mta *, const void *, size_t n, bool may_wait);

/* mta_reply - send.c: a verdict, with txn->reply if that has a code; -1 with
 * ENOMEM.  mta_edits - edits that out has room for, and then the verdict
 * becomes known: true. */
int mta_reply(struct mta *, enum mill_verdict) MILL_CHECK;
bool mta_edits(struct mta *);

#endif
