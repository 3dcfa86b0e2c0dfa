/* SPDX-License-Identifier: ISC */
#ifndef SDK_MACROS_H
#define SDK_MACROS_H

#include "milter-sdk/base/milter.h"
#include "milter-sdk/src/sdk.h"

/* The macros of a connection, a set for each stage of a session. */
struct macros {
	struct macro_set {
		struct buf text; /* name NUL value NUL ... */
		bool fresh;      /* no command of its stage has come yet */
	} sets[MILTER_STAGES];
};

void macros_init(struct macros *);
/* macros_put - a D packet; -1 with EPROTO, EMSGSIZE or ENOMEM */
int macros_put(struct macros *, const struct milter_packet *) MILL_CHECK;
/* macros_at - command cmd has come */
void macros_at(struct macros *, char cmd);
/* macros_end_message - forget what came since MAIL */
void macros_end_message(struct macros *);
void macros_fini(struct macros *); /* may be used again */
/* macros_find - "i" or "{i}", "{mail_addr}"; the latest stage's; or NULL */
const char *macros_find(const struct macros *, const char *name);

#endif
