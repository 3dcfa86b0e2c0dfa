/* SPDX-License-Identifier: ISC */

/*
 * access_fuzz - what milldam-access makes of addresses, values and domains
 *
 * Input: an address, a line end, a value of the access table, a line end, a
 * file of domains.  Of an address that the gateway accepts both must see the
 * same domain: the authoriser would else allow one that another is routed to.
 *
 * coverage: milters/access/address.c milters/access/value.c
 */

#include "milters/access/access.h"
#include "tests/fuzz/fuzz.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* core/smtp/address.h, whose limits have the same names */
int address_check(const char *);
const char *address_domain(const char *);

static int fd = -1;
static char path[64];

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fd = fuzz_file("", path, sizeof(path));
	return (0);
}

static bool
is_lower(const char *s)
{
	for (; *s != '\0'; s++)
		if (*s >= 'A' && *s <= 'Z')
			return (false);
	return (true);
}

static void
address(const char *s, const struct domains *d)
{
	static struct address a;
	bool has;

	if (address_parse(s, &a) == -1) {
		/* an empty user is one for SMTP, though none for us */
		check(address_check(s) == -1 || strncmp(s, "\"\"@", 3) == 0);
		return;
	}
	check(is_lower(a.all) && a.user[0] != '\0');
	check(a.routed || strpbrk(a.user, "%!@") == NULL);
	check(strncmp(a.all, a.user, strlen(a.user)) == 0);
	if (address_check(s) == 0)
		check(strcasecmp(address_domain(s), a.domain) == 0);
	has = domains_has(d, a.domain);
	check(!has || (d->n > 0 && a.domain[0] != '\0'));
}

static void
value(const char *s)
{
	struct access_value v;

	if (value_parse(s, &v) == -1)
		return;
	check((v.what == ACCESS_NONE) == v.skip);
	check(v.what != ACCESS_QUARANTINE || v.text[0] != '\0');
	if (v.what == ACCESS_ERROR)
		check(v.code >= 400 && v.code <= 599 &&
		    (v.xcode[0] == '\0' || v.xcode[0] == '0' + v.code / 100));
}

static void
domains(struct domains *d, const char *text)
{
	size_t i;

	fuzz_file_set(fd, text, strlen(text));
	if (domains_add_file(d, path) == -1)
		(void)!domains_add(d, ".example.org");
	domains_sort(d);
	for (i = 0; i < d->n; i++) {
		check(is_lower(d->names[i]));
		check(d->names[i][0] == '.' || domains_has(d, d->names[i]));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct domains d = { 0 };
	char *text = calloc(1, n + 1), *second, *third;

	check(text != NULL);
	memcpy(text, p, n);
	second = text + strcspn(text, "\n");
	if (*second != '\0')
		*second++ = '\0';
	third = second + strcspn(second, "\n");
	if (*third != '\0')
		*third++ = '\0';
	domains(&d, third);
	address(text, &d);
	value(second);
	domains_fini(&d);
	free(text);
	return (0);
}
