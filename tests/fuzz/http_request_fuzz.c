/* SPDX-License-Identifier: ISC */

/*
 * http_request_fuzz - any bytes as a request, and as what a process says of
 * itself
 *
 * A request that is complete stays so whatever follows, one that was refused
 * stays refused, and nothing is taken from beyond its end.
 *
 * coverage: core/web/http.c core/web/page.c
 */

#include "core/web/http.h"
#include "core/web/page.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void
request(const char *p, size_t n)
{
	struct http_request r, part;
	int whole = http_parse(p, n, &r), st;
	size_t i, step = 1 + n / 64;

	check(whole == 0 || http_reason(whole)[0] != '\0');
	check(whole == 0 || strcmp(http_reason(whole), "Error") != 0);
	check(strlen(r.path) < sizeof(r.path));
	if (whole == 200)
		check(r.path[0] == '\0' || r.path[0] == '/');
	for (i = 0; i < n; i += step) {
		st = http_parse(p, i, &part);
		check(st == 0 || st == whole);
	}
	if (n >= HTTP_HEAD_MAX)
		check(whole != 0);
}

static void
page(const char *p, size_t n)
{
	struct buf out = BUF_INIT(1 << 20), again = BUF_INIT(1 << 20);

	if (page_make(p, n, &out) == 0 && out.len > 0) {
		check(out.data[out.len - 1] == '\n');
		check(strlen(out.data) == out.len);
		/* What was said by the supervisor is said again as it is. */
		if (strstr(out.data, "process=") == NULL &&
		    page_make(out.data, out.len, &again) == 0)
			check(again.len == out.len &&
			    memcmp(again.data, out.data, out.len) == 0);
	}
	buf_fini(&out);
	buf_fini(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *p = malloc(n + 1); /* exact, so that no byte beyond is read */

	if (p == NULL)
		return (0);
	if (n > 0)
		memcpy(p, data, n);
	p = realloc(p, n > 0 ? n : 1);
	request(p, n);
	page(p, n);
	free(p);
	return (0);
}
