/* SPDX-License-Identifier: ISC */

/*
 * reply_fuzz - what a next hop answers, whole and byte by byte
 *
 * Both ways must find the same replies; the one-line form is one line of text.
 *
 * coverage: core/relay/reply.c
 */

#include "core/relay/reply.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALL_MAX = 1 << 16 };

/* all - the one-line forms after each other; how many, or -1 at the end of
 * sense */
static int
all(const char *p, size_t n, size_t step, struct buf *out)
{
	char line[REPLY_TEXT_MAX];
	size_t off = 0, have = 0, used, i;
	struct reply r;
	int rc = 0, found = 0;

	reply_init(&r);
	while (rc != -1 && have < n) {
		have = n - have < step ? n : have + step;
		do {
			rc = reply_take(&r, p + off, have - off, &used);
			check(used <= have - off);
			off += used;
			if (rc != 1)
				break;
			found++;
			check(r.code >= 200 && r.code <= 599 &&
			    r.lines <= REPLY_LINES_MAX);
			(void)reply_line(&r, line, sizeof(line));
			check(strlen(line) < sizeof(line));
			for (i = 0; line[i] != '\0'; i++)
				check((unsigned char)line[i] >= ' ');
			(void)!buf_addf(out, "%s\n", line);
		} while (off < have);
	}
	reply_fini(&r);
	return (rc == -1 ? -1 : found);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf a = BUF_INIT(ALL_MAX), b = BUF_INIT(ALL_MAX);
	int x, y;

	if (n > 8192)
		return (0);
	x = all((const char *)p, n, n, &a);
	y = all((const char *)p, n, 1, &b);
	check(x == y && a.len == b.len);
	check(a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
	buf_fini(&a);
	buf_fini(&b);
	return (0);
}
