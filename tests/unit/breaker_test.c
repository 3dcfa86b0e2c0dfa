/* SPDX-License-Identifier: ISC */

#include "core/milter/breaker.h"
#include "tests/lib/t.h"

enum { AFTER = 3, EJECT = 1000 };
#define MS 1000ull

static void
eject(struct breaker *b, uint64_t now)
{
	while (b->state != BREAKER_OPEN)
		(void)breaker_failed(b, AFTER, EJECT, now);
}

static void
the_nth_failure_in_a_row_ejects(void)
{
	struct breaker b = { 0 };

	T_OK(!breaker_failed(&b, AFTER, EJECT, 0));
	T_OK(!breaker_failed(&b, AFTER, EJECT, 0));
	T_OK(!breaker_verdict(&b)); /* ends the row */
	T_OK(!breaker_failed(&b, AFTER, EJECT, 0));
	T_OK(!breaker_handshake(&b)); /* does not */
	T_OK(!breaker_failed(&b, AFTER, EJECT, 0));
	T_STR(breaker_word(&b), "closed");
	T_OK(breaker_failed(&b, AFTER, EJECT, 5 * MS));
	T_STR(breaker_word(&b), "open");
	T_OK(b.until_us == (5 + EJECT) * MS);
	T_OK(!breaker_failed(&b, AFTER, EJECT, 50 * MS));
	T_OK(b.until_us == (5 + EJECT) * MS && b.state == BREAKER_OPEN);
}

static void
when_its_time_is_over_one_probe_goes(void)
{
	struct breaker b = { 0 };

	T_OK(!breaker_probe(&b, 100, 0));
	eject(&b, 0);
	T_OK(!breaker_handshake(&b)); /* of a session begun before */
	T_OK(!breaker_probe(&b, 100, EJECT * MS - 1));
	T_OK(breaker_probe(&b, 100, EJECT * MS));
	T_STR(breaker_word(&b), "half-open");
	T_OK(!breaker_probe(&b, 100, EJECT * MS + 1));
	/* the one that did not end is followed by another */
	T_OK(breaker_probe(&b, 100, (EJECT + 100) * MS));
	T_OK(b.state == BREAKER_HALF_OPEN);
}

static void
a_failed_probe_doubles_the_time(void)
{
	struct breaker b = { 0 };
	uint64_t now = 0, want = EJECT;
	int i;

	eject(&b, 0);
	for (i = 0; i < 6; i++) {
		T_OK(b.until_us - now == want * MS);
		now = b.until_us;
		T_OK(breaker_probe(&b, 100, now));
		T_OK(breaker_failed(&b, AFTER, EJECT, now));
		if (want < 8 * EJECT)
			want *= 2;
	}
	T_OK(want == 8 * EJECT);
}

static void
back_on_trial_and_back_for_good(void)
{
	struct breaker b = { 0 };

	eject(&b, 0);
	T_OK(breaker_probe(&b, 100, EJECT * MS));
	T_OK(breaker_handshake(&b) && b.state == BREAKER_CLOSED);
	T_OK(breaker_failed(&b, AFTER, EJECT, 0)); /* one is enough */
	T_OK(b.until_us == 2 * EJECT * MS);
	T_OK(breaker_probe(&b, 100, b.until_us));
	T_OK(breaker_handshake(&b));
	T_OK(!breaker_verdict(&b));
	T_OK(!breaker_failed(&b, AFTER, EJECT, 0)); /* three again */
	T_OK(!breaker_failed(&b, AFTER, EJECT, 0));
	T_OK(breaker_failed(&b, AFTER, EJECT, 0));
	T_OK(b.until_us == EJECT * MS);
}

static void
a_verdict_closes_from_every_state(void)
{
	struct breaker b = { 0 };

	eject(&b, 0);
	T_OK(breaker_verdict(&b) && b.state == BREAKER_CLOSED);
	eject(&b, 0);
	breaker_force(&b, 100, 7 * MS);
	T_OK(b.state == BREAKER_HALF_OPEN && b.until_us == 107 * MS);
	breaker_force(&b, 100, 9 * MS); /* one probe at a time */
	T_OK(b.until_us == 107 * MS);
	T_OK(breaker_verdict(&b) && b.state == BREAKER_CLOSED);
	breaker_force(&b, 100, 0);
	T_OK(b.state == BREAKER_CLOSED);
}

static const struct t_case cases[] = {
	{ "breaker: the Nth failure in a row ejects",
	    the_nth_failure_in_a_row_ejects },
	{ "breaker: when its time is over one probe goes",
	    when_its_time_is_over_one_probe_goes },
	{ "breaker: a failed probe doubles the time, up to 8 times",
	    a_failed_probe_doubles_the_time },
	{ "breaker: back on trial, and back for good",
	    back_on_trial_and_back_for_good },
	{ "breaker: a verdict closes it from every state",
	    a_verdict_closes_from_every_state },
};

T_MAIN(cases)
