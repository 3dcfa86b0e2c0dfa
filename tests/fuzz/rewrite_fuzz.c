/* SPDX-License-Identifier: ISC */

/*
 * rewrite_fuzz - what milldam-rewrite makes of the addresses in a field
 *
 * A second pass over what came out changes nothing; what is not a domain that
 * was replaced stays, byte by byte.
 *
 * coverage: milters/rewrite/address.c
 */

#include "milters/rewrite/address.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const hidden[] = { "host.example.org", ".in.example.org",
	NULL };
static const char *const exposed[] = { "root", "ann@host.example.org", NULL };
static const struct masquerade m = { "example.org", hidden, exposed };

/* is_hidden - whether these bytes are a domain that may be replaced */
static bool
is_hidden(const char *s, size_t n)
{
	size_t i, len;

	for (i = 0; hidden[i] != NULL; i++) {
		len = strlen(hidden[i]);
		if (n >= len && (n == len || hidden[i][0] == '.') &&
		    strncasecmp(s + n - len, hidden[i], len) == 0)
			return (true);
	}
	return (false);
}

/* same - both texts, but for domains that were replaced */
static void
same(const char *old, const char *new)
{
	size_t n = strlen(m.as), len;

	while (*old != '\0') {
		len = strcspn(old, " \t\r\n\"[]()<>@,;:\\");
		if (len > 0 && strncmp(old, new, len) == 0) {
			old += len;
			new += len;
		} else if (is_hidden(old, len)) {
			check(strncmp(new, m.as, n) == 0);
			old += len;
			new += n;
		} else
			check(*old++ == *new ++);
	}
	check(*new == '\0');
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char *text = calloc(1, n + 1), *once, *twice;

	check(text != NULL);
	memcpy(text, p, n);
	if (address_masquerade_field(&m, text, &once) == 1) {
		check(address_masquerade_field(&m, once, &twice) == 0);
		same(text, once);
		free(once);
	}
	if (address_masquerade(&m, text, &once) == 1) {
		check(address_masquerade(&m, once, &twice) == 0);
		free(once);
	}
	check(!address_is_domain(text) || strpbrk(text, " @<>\"\r\n") == NULL);
	free(text);
	return (0);
}
