/* SPDX-License-Identifier: ISC */

/* schedule_test - back-off, timers, rate limits, reply codes */

#include "core/queue/queue.h"

#include "tests/lib/t.h"

#include <stdlib.h>

static void
back_off_doubles_between_its_bounds(void)
{
	T_OK(backoff_ms(1, 300, 14400, 0) == 300);
	T_OK(backoff_ms(2, 300, 14400, 0) == 600);
	T_OK(backoff_ms(3, 300, 14400, 0) == 1200);
	T_OK(backoff_ms(100, 300, 14400, 0) == 14400);
	T_OK(backoff_ms(0, 300, 14400, 0) == 300);
	T_OK(backoff_ms(5, 300, 100, 0) == 300);
	T_OK(backoff_ms(5, 0, 0, 0) == 1);
}

static void
jitter_takes_off_a_quarter_at_most(void)
{
	uint64_t ms, low = UINT64_MAX, high = 0;
	uint32_t i;

	for (i = 0; i < 2000; i++) {
		ms = backoff_ms(4, 1000, 100000, i);
		low = ms < low ? ms : low;
		high = ms > high ? ms : high;
		T_OK(backoff_ms(1, 1000, 100000, i) == 1000);
	}
	T_OK(high == 8000);
	T_OK(low >= 6000 && low < 6100);
}

enum { TIMERS = 2000 };

static void
timers_come_out_in_order(void)
{
	static struct timer t[TIMERS];
	struct heap h = { 0 };
	struct timer *first;
	uint64_t last = 0;
	size_t i, n = 0;

	srand(1);
	for (i = 0; i < TIMERS; i++)
		heap_set(&h, &t[i], (uint64_t)rand() % 1000);
	for (i = 0; i < TIMERS; i += 3)
		heap_set(&h, &t[i], (uint64_t)rand() % 1000);
	for (i = 0; i < TIMERS; i += 5)
		heap_del(&h, &t[i]);
	heap_del(&h, &t[0]); /* fine twice */
	while ((first = heap_first(&h)) != NULL) {
		T_OK(first->at_ms >= last);
		last = first->at_ms;
		heap_del(&h, first);
		n++;
	}
	T_OK(n == TIMERS - TIMERS / 5);
	heap_fini(&h);
}

static void
a_limiter_lets_a_burst_through_then_a_trickle(void)
{
	struct limiter l = { 0 };
	uint64_t now = 1000000;
	int i, n = 0;

	for (i = 0; i < 10; i++)
		n += limiter_take(&l, now, 3, 100);
	T_OK(n == 3 && l.suppressed == 7);
	T_OK(!limiter_take(&l, now + 99, 3, 100));
	T_OK(limiter_take(&l, now + 100, 3, 100));
	T_OK(!limiter_take(&l, now + 150, 3, 100));
	for (i = n = 0; i < 10; i++)
		n += limiter_take(&l, now + 1000000, 3, 100);
	T_OK(n == 3);
}

static const struct {
	const char *reply, *status;
} replies[] = {
	{ "250 2.0.0 ok", "2.0.0" },
	{ "550 5.1.1 no", "5.1.1" },
	{ "550-5.7.26 no", "5.7.26" },
	{ "250 ok", "2.0.0" },
	{ "451 try later", "4.0.0" },
	{ "554 192.0.2.1 is listed", "5.0.0" },
	{ "550 5..1 no", "5.0.0" },
	{ "550 5.1. no", "5.0.0" },
	{ "550 1.1.1 no", "5.0.0" },
	{ "550 5.1.1", "5.1.1" },
	{ "550", "5.0.0" },
	{ "", "5.0.0" },
};

static void
the_enhanced_code_is_taken_from_the_reply(void)
{
	char out[16];
	size_t i;

	for (i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
		T_STR(reply_status(replies[i].reply, out), replies[i].status);
}

static void
foreign_json_is_checked_before_it_is_used(void)
{
	static const char *const good[] = { "{}", "[1,\"a\",{\"b\":null}]",
		"\"\\u0041\"", " true ", "-1.5e3" };
	static const char *const bad[] = { "", "{", "{\"a\"}", "[1,]", "{} x",
		"\"", "\"\\", "nul", "{\"a\":1,}" };
	struct buf b = BUF_INIT(4096);
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		b.len = 0;
		T_OK(list_raw_json(&b, good[i], strlen(good[i])) == 0);
		T_STR(b.data, good[i]);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		b.len = 0;
		T_OK(list_raw_json(&b, bad[i], strlen(bad[i])) == 0);
		T_OK(b.data[0] == '"' && b.data[b.len - 1] == '"');
	}
	buf_fini(&b);
}

static const struct t_case cases[] = {
	{ "back-off doubles between its bounds",
	    back_off_doubles_between_its_bounds },
	{ "jitter takes off a quarter at most",
	    jitter_takes_off_a_quarter_at_most },
	{ "timers come out in order", timers_come_out_in_order },
	{ "a limiter lets a burst through, then a trickle",
	    a_limiter_lets_a_burst_through_then_a_trickle },
	{ "the enhanced code is taken from the reply",
	    the_enhanced_code_is_taken_from_the_reply },
	{ "foreign JSON is checked before it is used",
	    foreign_json_is_checked_before_it_is_used },
};

T_MAIN(cases)
