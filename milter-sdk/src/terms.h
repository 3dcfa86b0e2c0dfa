/* SPDX-License-Identifier: ISC */
#ifndef SDK_TERMS_H
#define SDK_TERMS_H

#include "milter-sdk/base/milter.h"
#include "milter-sdk/src/sdk.h"

/* What is agreed with the MTA on a connection. */
struct terms {
	uint32_t actions;  /* of our answer, MILTER_MAY_... */
	uint32_t protocol; /* of our answer, MILTER_NO_... and MILTER_NR_... */
	uint32_t no_reply; /* MILTER_NR_...: also of commands not wanted */
	uint32_t silent;   /* MILTER_NR_...: nothing here decides; an MTA that
	                      waits all the same hears "continue" */
	unsigned edits;    /* MILL_EDIT_...: declared and offered */
};

/* terms_for - our answer to what the MTA offers */
struct terms terms_for(
    const struct mill_filter *, uint32_t actions, uint32_t protocol);
/* terms_actions - all that the declared edits may need */
uint32_t terms_actions(const struct mill_filter *);
/* terms_macros - the list for a stage into room; false: the MTA's own */
bool terms_macros(
    const struct mill_filter *, enum mill_stage, char *room, size_t n);
/* Our stages as the protocol numbers them (enum milter_stage) */
extern const int terms_stages[MILL_N_STAGES];

#endif
