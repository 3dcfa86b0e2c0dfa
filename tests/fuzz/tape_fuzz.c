/* SPDX-License-Identifier: ISC */

/*
 * tape_fuzz - a recording from nowhere: its entries, the dialog they make, and
 * what is printed of it
 *
 * coverage: milter-sdk/base/tape.c milter-sdk/mill/take.c
 * milter-sdk/mill/dialog.c
 */

#include "milter-sdk/mill/mill.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* again - what was read is written as it was */
static void
again(const uint8_t *data, size_t n)
{
	struct buf b = BUF_INIT(TAPE_FILE_MAX);
	struct tape_entry e = { .us = 0 };
	long len = tape_head(data, n);
	size_t off = len > 0 ? (size_t)len : n;

	check(tape_begin(&b) == 0);
	while ((len = tape_next(data + off, n - off, e.us, &e)) > 0) {
		check(tape_put(&b, e.kind, e.us, e.data, e.len) == 0);
		off += (size_t)len;
		check(b.len == off && memcmp(b.data, data, off) == 0);
	}
	buf_fini(&b);
}

/* read_back - as mill does, from a file */
static int
read_back(const uint8_t *data, size_t n, struct take *t)
{
	static char path[64];
	static int fd = -1;

	if (fd == -1)
		fd = fuzz_file("", path, sizeof(path));
	fuzz_file_set(fd, data, n);
	return (take_read(t, path));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static bool quiet;
	struct take t;
	size_t i;

	if (!quiet && freopen("/dev/null", "w", stdout) != NULL)
		quiet = true;
	again(data, n);
	if (read_back(data, n, &t) == -1)
		return (0);
	say_take(&t);
	for (i = 0; i < t.n_conns; i++) {
		dialog_then(&t.conns[i], t.whole);
		(void)differ(&t.conns[i], true);
	}
	take_free(&t);
	return (0);
}
