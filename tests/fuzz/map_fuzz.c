/* SPDX-License-Identifier: ISC */

/*
 * map_fuzz - any bytes as a text table
 *
 * The file is in memory, named by its descriptor.  Each key that a line shows
 * must be found with that line's value in a table that is accepted; a refusal
 * must name a line.
 *
 * coverage: milter-sdk/map/map_text.c
 */

#include "milter-sdk/map/map.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static int fd = -1;
static char spec[64];

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fd = fuzz_file("text:", spec, sizeof(spec));
	return (0);
}

/* ask - the key that begins this line has the value that ends it */
static void
ask(struct map *m, const char *s, size_t n)
{
	struct buf value = BUF_INIT(MAP_VALUE_MAX);
	char *key;
	size_t len;

	while (n > 0 && strchr(" \t", *s) != NULL) {
		s++;
		n--;
	}
	while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL)
		n--;
	if (n == 0 || *s == '#' || (key = strndup(s, n)) == NULL)
		return;
	len = strcspn(key, " \t");
	key[len] = '\0';
	check(map_get(m, key, &value) == 1);
	check(value.len <= n - len && value.len > 0 &&
	    memcmp(value.data, s + n - value.len, value.len) == 0);
	free(key);
	buf_fini(&value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf error = BUF_INIT(1 << 16), value = BUF_INIT(MAP_VALUE_MAX);
	const char *s = (const char *)p, *end = s + n, *nl;
	struct map *m;

	fuzz_file_set(fd, p, n);
	m = map_open(spec, &error);
	check((m == NULL) == (error.len > 0));
	if (m != NULL) {
		for (; s < end; s = nl + 1) {
			nl = memchr(s, '\n', (size_t)(end - s));
			if (nl == NULL)
				nl = end;
			ask(m, s, (size_t)(nl - s));
		}
		(void)!map_get(m, "no such key", &value);
		check(value.len == 0); /* a key holds no blank */
		/* a mistake in what replaces it leaves the old table */
		fuzz_file_set(fd, "key\n", 4);
		check(map_reopen(m, &error) == -1 && error.len > 0);
	}
	map_free(&m);
	buf_fini(&value);
	buf_fini(&error);
	return (0);
}
