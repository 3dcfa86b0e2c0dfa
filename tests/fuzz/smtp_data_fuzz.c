/* SPDX-License-Identifier: ISC */

/*
 * smtp_data_fuzz - any content through the decoder, in pieces
 *
 * The first byte chooses DATA or BDAT and a store that is soon full, the second
 * the size of the pieces.  The result must not depend on the pieces; good
 * content has CRLF line ends only, and its header block can be split and joined
 * to the same bytes.
 *
 * coverage: core/smtp/data.c core/smtp/header.c
 */

#include "core/smtp/data.h"
#include "core/smtp/header.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { BDAT = 1, FULL = 2 };

struct result {
	struct data d;
	struct buf body;
	size_t used;
};

static int
sink(void *arg, const char *p, size_t n)
{
	return (buf_add(arg, p, n));
}

static void
run(struct result *r, const char *p, size_t n, unsigned flags, size_t piece)
{
	bool stuffed = (flags & BDAT) == 0;
	const struct data_limits limits = { .message_size = 100000,
		.line_length = 200,
		.header_size = 2000,
		.header_fields = 20 };
	size_t len;

	memset(r, 0, sizeof(*r));
	r->body.max = flags & FULL ? 100 : 1 << 20;
	data_init(&r->d, &limits, stuffed, sink, &r->body);
	while (r->used < n && !r->d.ended) {
		len = piece < n - r->used ? piece : n - r->used;
		len = data_feed(&r->d, p + r->used, len);
		check(len > 0);
		r->used += len;
	}
	if (!stuffed)
		data_end(&r->d);
}

static void
check_lines(const struct buf *b)
{
	size_t i;

	for (i = 0; i < b->len; i++) {
		if (b->data[i] == '\r')
			check(i + 1 < b->len && b->data[i + 1] == '\n');
		if (b->data[i] == '\n')
			check(i > 0 && b->data[i - 1] == '\r');
	}
	check(b->len == 0 || b->data[b->len - 1] == '\n');
}

static void
check_header(struct buf *header)
{
	struct buf again = BUF_INIT(1 << 16);
	struct message m;

	message_init(&m);
	check(header_split(header->data, header->len, &m) == 0);
	check(message_header(&m, &again) == 0);
	check(again.len == header->len + 2 &&
	    (header->len == 0 ||
	        memcmp(again.data, header->data, header->len) == 0));
	message_fini(&m);
	buf_fini(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct result a, b;
	const char *reply;
	size_t piece;

	if (n < 2)
		return (0);
	piece = (size_t)p[1] + 1;
	run(&a, (const char *)p + 2, n - 2, p[0], n);
	run(&b, (const char *)p + 2, n - 2, p[0], piece);
	check(a.d.ended == b.d.ended && a.used == b.used &&
	    (a.d.fault == DATA_GOOD) == (b.d.fault == DATA_GOOD));
	/* of a line too long, pieces were stored before that was seen */
	check(a.d.fault == b.d.fault || (p[0] & FULL) != 0);
	if (a.d.fault != DATA_GOOD) {
		reply = data_reply(a.d.fault);
		check(strncmp(reply, "55", 2) == 0 || reply[0] == '4');
	}
	if (a.d.ended && a.d.fault == DATA_GOOD) {
		check(a.body.len == b.body.len &&
		    a.d.header.len == b.d.header.len && a.d.hops == b.d.hops &&
		    a.d.size == b.d.size && a.d.dots == b.d.dots &&
		    a.d.eight_bit == b.d.eight_bit);
		check(a.body.len == 0 ||
		    memcmp(a.body.data, b.body.data, a.body.len) == 0);
		check_lines(&a.body);
		check_lines(&a.d.header);
		check_header(&a.d.header);
	}
	data_fini(&a.d);
	data_fini(&b.d);
	buf_fini(&a.body);
	buf_fini(&b.body);
	return (0);
}
