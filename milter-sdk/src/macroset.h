/* SPDX-License-Identifier: ISC */
#ifndef SDK_MACROSET_H
#define SDK_MACROSET_H

#include "milter-sdk/base/milter.h"
#include "milter-sdk/src/sdk.h"

/* The macros of a connection, a set for each stage of a session. */
struct macroset {
	struct macro_set {
		struct buf text; /* name NUL value NUL ... */
		bool fresh;      /* no command of its stage has come yet */
	} sets[MILTER_STAGES];
};

void macroset_init(struct macroset *);
/* macroset_put - a D packet; -1 with EPROTO, EMSGSIZE or ENOMEM */
int macroset_put(struct macroset *, const struct milter_packet *) MILL_CHECK;
/* macroset_at - command cmd has come */
void macroset_at(struct macroset *, char cmd);
/* macroset_end_message - forget what came since MAIL */
void macroset_end_message(struct macroset *);
void macroset_fini(struct macroset *); /* may be used again */
/* macroset_find - "i" or "{i}", "{mail_addr}"; the latest stage's; or NULL */
const char *macroset_find(const struct macroset *, const char *name);

#endif
