/* SPDX-License-Identifier: ISC */
#ifndef SDK_DIALOG_H
#define SDK_DIALOG_H

#include "milter-sdk/src/macros.h"
#include "milter-sdk/src/session.h"
#include "milter-sdk/src/terms.h"

/*
 * One connection of an MTA: the bytes that came go in, those for it come out.
 * Knows no socket and no thread; whoever has the dialog feeds it.
 */
struct dialog {
	const struct mill_filter *filter;
	bool negotiated; /* terms hold, over sessions too */
	struct terms terms;
	struct mill_txn *txn; /* of the session; NULL before and after it */
	bool connected;       /* the session has its CONNECT */
	char over;            /* answer to what still comes of a message that
	                         has its final one; '\0': none */
	struct macros macros;
	struct buf
	    in; /* not yet handled: a packet's beginning, or what waits */
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

enum dialog_next {
	DIALOG_READ,  /* all is handled: more bytes */
	DIALOG_WRITE, /* out must leave first */
	DIALOG_SLOW,  /* a function that may wait comes next */
	DIALOG_END    /* out may still leave, then close */
};

enum {
	/* bytes: what may be handed over at once, and of out before it waits */
	DIALOG_READ_MAX = 128 << 10,
	DIALOG_OUT_HIGH = 256 << 10
};

void dialog_init(struct dialog *, const struct mill_filter *);
/* dialog_fini - ends the session, if the program does not stop meanwhile: then
 * it is left as it is */
void dialog_fini(struct dialog *);

/*
 * dialog_take - handle what came: n bytes more, or 0 to go on.  The bytes are
 * the caller's again.  may_wait: functions that may wait are called too.
 */
enum dialog_next dialog_take(
    struct dialog *, const void *, size_t n, bool may_wait);

/* dialog_reply - send.c: a verdict, with txn->reply if that has a code; -1 with
 * ENOMEM.  dialog_edits - edits that out has room for, and then the verdict
 * becomes known: true. */
int dialog_reply(struct dialog *, enum mill_verdict) MILL_CHECK;
bool dialog_edits(struct dialog *);

#endif
