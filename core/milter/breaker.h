/* SPDX-License-Identifier: ISC */
#ifndef CORE_MILTER_BREAKER_H
#define CORE_MILTER_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * breaker - may an endpoint be used?  Pure: the time is told.
 *
 *   state      event                      becomes
 *   CLOSED     failure, not the Nth       CLOSED (N failures in a row)
 *   CLOSED     Nth failure                OPEN for the ejection time
 *   OPEN       failure                    OPEN, nothing changes
 *   OPEN       its time is over           HALF_OPEN: one probe
 *   OPEN       forced                     HALF_OPEN: nothing else is left
 *   HALF_OPEN  handshake                  CLOSED on trial
 *   HALF_OPEN  failure                    OPEN for twice as long, up to 8 times
 *   HALF_OPEN  probe's time is over       HALF_OPEN: another probe
 *   CLOSED on trial, one failure          OPEN, likewise twice as long
 *   any        a message's final verdict  CLOSED, all forgotten
 *
 * A handshake shows that something answers, not that it does its work: it ends
 * no row of failures.
 */
enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
	enum breaker_state state;
	unsigned failures; /* in a row; as many as eject: on trial */
	unsigned row;      /* ejections since the last verdict */
	uint64_t until_us; /* of OPEN, and of the probe in HALF_OPEN */
};

/* breaker_failed - true when it is ejected by this failure */
bool breaker_failed(
    struct breaker *, unsigned after, uint64_t eject_ms, uint64_t now_us);
/* breaker_probe - true when a probe is due; it has limit_ms to end */
bool breaker_probe(struct breaker *, uint64_t limit_ms, uint64_t now_us);
/* breaker_force - use it although it is OPEN */
void breaker_force(struct breaker *, uint64_t limit_ms, uint64_t now_us);
/* breaker_handshake, breaker_verdict - true when it is back by this */
bool breaker_handshake(struct breaker *);
bool breaker_verdict(struct breaker *);
const char *breaker_word(const struct breaker *);

#endif
