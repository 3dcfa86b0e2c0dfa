/* SPDX-License-Identifier: ISC */
#ifndef TESTS_UNIT_SERIAL_H
#define TESTS_UNIT_SERIAL_H

#include "core/milter/chain.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Serial against parallel: random chains through real sockets.
 *
 * A seed makes a plan: filters, what each does at which command, recipients,
 * messages.  The filters live in a thread of their own and follow the plan; the
 * sessions put it to the engine, many at a time, once for each way to run it.
 * What the client, the queue and the decision record get to see is written down
 * as text, which must be the same each time.
 */
enum {
	FILTERS = 5,
	MESSAGES = 2,
	RCPTS = 5,
	ACTS = 2,
	ENDPOINTS = 2,
	SLOTS = 48 /* sessions at a time */
};

/* What a filter says to a command. */
enum what {
	SAY_CONTINUE,
	SAY_ACCEPT,
	SAY_REJECT,
	SAY_TEMPFAIL,
	SAY_DISCARD,
	SAY_4YZ,
	SAY_5YZ,
	SAY_SHUTDOWN,
	SAY_SKIP,
	SAY_NONSENSE,
	DIE,
	DIE_HALFWAY, /* within an answer; at the end, within its changes */
	N_WHAT
};

enum edit_kind {
	ADD_HEADER,
	INSERT_HEADER,
	CHANGE_HEADER,
	DELETE_HEADER,
	REPLACE_BODY,
	ADD_RCPT,
	ADD_RCPT_PAR,
	DEL_RCPT,
	CHANGE_FROM,
	QUARANTINE,
	N_CHANGE
};

#define STAGES "OCHMRTLNBEU" /* commands that something is said to */
enum { N_STAGES = sizeof(STAGES) - 1 };

struct act {
	char cmd;
	enum what what;
	unsigned nth;  /* recipient, field or chunk */
	unsigned msgs; /* bits: in which messages */
	bool hard;     /* a death that leaves what came unread */
};

struct filter {
	bool early, shadow, read_only, twice; /* twice: two endpoints */
	bool ignores; /* what comes behind its verdict, as libmilter does */
	unsigned may; /* 0 all; 1 some, the rest fails; 2 the rest is dropped */
	enum fail_action on_failure;
	uint32_t protocol, actions;
	unsigned changes; /* bits of enum edit_kind */
	struct act acts[ACTS];
	unsigned n_acts;
};

/* one after the other, side by side, and that with commands sent ahead */
enum run { SERIAL, PARALLEL, AHEAD, N_RUNS };

struct plan {
	unsigned seed, n_filters, n_rcpts, n_msgs;
	struct filter f[FILTERS];
	unsigned skips[RCPTS]; /* bits: filters that a rule takes away */
	unsigned refused;      /* bits: recipients that the server refuses */
	unsigned reset_at;     /* RSET before that step of a message; 0 none */
	bool unknown, large;
	bool unknown_says; /* somebody has an opinion on unknown commands */
	/* what was said and asked for in the first run: bits */
	unsigned said[N_STAGES], asked;
	/* at the end of the message at a time: bits of filters, now, and
	 * whether ever more than one */
	unsigned ending;
	bool beside[N_RUNS];
};

/* serial_plan.c: pure */
uint64_t mix(uint64_t);
bool plan_can(char cmd, enum what); /* is that an answer to it? */
void plan_make(struct plan *, unsigned seed);
/* plan_settings - milldam.conf of a run; paths are DIR/SLOT-FILTER-ENDPOINT */
void plan_settings(const struct plan *, enum run, const char *dir,
    unsigned slot, char *text, size_t size);

/* serial_fakes.c: the filters */
void fakes_begin(const char *dir);
void fakes_end(void);
/* fakes_follow - connections to that slot's sockets from now on */
void fakes_follow(unsigned slot, struct plan *, enum run);

/* serial_session.c: the engine's side */
/* sessions_run - all plans in all ways; done is told the texts of each */
void sessions_run(struct plan *plans, unsigned n, const char *dir,
    bool (*done)(const struct plan *, char *const texts[N_RUNS]));

#endif
