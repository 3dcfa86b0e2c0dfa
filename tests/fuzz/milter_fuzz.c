/* SPDX-License-Identifier: ISC */

/*
 * milter_fuzz - every parser of the Milter codec on a stream of packets, as it
 * would come from either side.  What a parser accepts must survive being built
 * and parsed again.
 *
 * coverage: milter-sdk/base/milter.c
 */

#include "milter-sdk/base/milter.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* again - parse what was just built */
static struct milter_packet
again(const struct buf *b)
{
	struct milter_packet pkt;

	check(milter_next(b->data, b->len, MILTER_PAYLOAD_MAX, &pkt) ==
	    (long)b->len);
	return (pkt);
}

static void
commands(const struct milter_packet *pkt, struct buf *b)
{
	struct milter_options o;
	struct milter_connect k;
	struct milter_macro m[32];
	struct milter_packet copy;
	const char *s[32];
	size_t n, k2;
	char cmd;

	b->len = 0;
	if (milter_get_options(pkt, &o) == 0 &&
	    milter_put_options(b, &o) == 0) {
		copy = again(b);
		check(milter_get_options(&copy, &o) == 0);
	}
	b->len = 0;
	if (milter_get_connect(pkt, &k) == 0 &&
	    milter_put_connect(b, &k) == 0) {
		copy = again(b);
		check(milter_get_connect(&copy, &k) == 0);
	}
	b->len = 0;
	if (milter_get_macros(pkt, &cmd, m, 32, &n) == 0 &&
	    milter_put_macros(b, cmd, m, n) == 0) {
		copy = again(b);
		check(
		    milter_get_macros(&copy, &cmd, m, 32, &k2) == 0 && k2 == n);
	}
	b->len = 0;
	if (milter_get_strings(pkt, s, 32, &n) == 0 &&
	    milter_put_strings(b, pkt->code, s, n) == 0)
		check(again(b).len == pkt->len);
}

static void
replies(const struct milter_packet *pkt, struct buf *b)
{
	struct milter_edit e;
	const char *addr;
	size_t i, len;

	b->len = 0;
	if (milter_get_edit(pkt, &e) == 0) {
		check(milter_edit_action(e.code) != 0);
		(void)milter_name_ok(e.name);
		(void)milter_value_ok(e.value);
		if (milter_address(e.name, true, &addr, &len))
			check(memchr(addr, '\n', len) == NULL);
	}
	if (milter_get_reply(pkt, b) == -1) {
		check(b->len == 0);
		return;
	}
	check(b->len >= 4 && (b->data[0] == '4' || b->data[0] == '5'));
	for (i = 0; i < b->len; i++) /* no line break of its own */
		check(b->data[i] != '\n' ||
		    (i > 0 && b->data[i - 1] == '\r' && i + 3 < b->len &&
		        memcmp(b->data + i + 1, b->data, 3) == 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf b = BUF_INIT(1 << 21);
	struct milter_packet pkt;
	long n;

	while ((n = milter_next(data, size, 65535, &pkt)) > 0) {
		commands(&pkt, &b);
		replies(&pkt, &b);
		data += n;
		size -= (size_t)n;
	}
	buf_fini(&b);
	return (0);
}
