/* SPDX-License-Identifier: ISC */
#ifndef TESTS_UNIT_RECEIVER_CHAIN_H
#define TESTS_UNIT_RECEIVER_CHAIN_H

#include "core/milter/chain.h"

/*
 * A chain engine for tests of the receiver: it answers what the test says and
 * notes what it was asked, one word a question.
 */
enum fake_stage {
	AT_CONNECT,
	AT_HELO,
	AT_MAIL,
	AT_RCPT,
	AT_DATA,
	AT_MESSAGE,
	AT_UNKNOWN,
	FAKE_STAGES
};

extern struct chain_answer fake_answers[FAKE_STAGES];
extern char fake_asked[4096]; /* "connect helo:x mail:a@b ..." */
/* edits of chain_message(), or NULL */
extern void (*fake_edit)(struct message *, struct envelope *);
extern bool fake_early;
extern const char *fake_mode; /* of the last engine_mode() */

void fake_reset(void);

#endif
