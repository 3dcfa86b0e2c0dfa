/* SPDX-License-Identifier: ISC */

/*
 * route_fuzz - a recipient, a line end, a mailertable value
 *
 * "|" before it: the value is the smart host; "!": the table cannot be read.
 *
 * A route that comes out must survive being packed, and an error's text must
 * be one reply line.
 *
 * coverage: core/route/route.c
 */

#include "core/route/route.h"
#include "tests/fuzz/fuzz.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int
get(void *arg, const char *key, struct buf *value)
{
	check(*key != '\0');
	if (*(const char *)arg == '\0')
		return (-1);
	if (strcmp(key, ".") != 0)
		return (0);
	return (buf_addf(value, "%s", (const char *)arg) == 0 ? 1 : -1);
}

static void
check_route(const struct route *r)
{
	struct buf b = BUF_INIT(1 << 16);
	struct packer k = { &b, false };
	struct unpacker u;
	struct route again;
	size_t i;

	check(r->mailer == MAILER_SMTP || r->mailer == MAILER_ERROR ||
	    r->mailer == MAILER_DISCARD);
	check(r->mailer != MAILER_SMTP || r->host[0] != '\0');
	if (r->mailer == MAILER_ERROR) {
		check(r->text[0] == '4' || r->text[0] == '5');
		check(isdigit((unsigned char)r->text[1]) &&
		    isdigit((unsigned char)r->text[2]) && r->text[3] == ' ');
		check(r->host[0] == r->text[0]);
	}
	for (i = 0; r->text[i] != '\0'; i++)
		check((unsigned char)r->text[i] >= ' ');
	route_pack(&k, r);
	check(pack_end(&k) == 0);
	u = (struct unpacker){ (unsigned char *)b.data, b.len, false };
	check(route_unpack(&u, &again) == 0);
	route_fini(&again);
	buf_fini(&b);
}

/* find - route addr; what cannot be routed has its reason */
static void
find(char *addr, char *value)
{
	struct buf error = BUF_INIT(1 << 16);
	struct route r;
	int rc;

	if (*addr == '|')
		rc = route_find(NULL, NULL, value, addr + 1, &r, &error);
	else if (*addr == '!')
		rc = route_find(get, "", NULL, addr + 1, &r, &error);
	else
		rc = route_find(get, value, NULL, addr, &r, &error);
	if (rc == 0) {
		check_route(&r);
		route_fini(&r);
	} else
		check(error.len > 0);
	buf_fini(&error);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char *text, *value;

	if (n > 4000 || (text = calloc(1, n + 1)) == NULL)
		return (0);
	memcpy(text, p, n);
	if ((value = strchr(text, '\n')) != NULL) {
		*value++ = '\0';
		find(text, value);
	}
	free(text);
	return (0);
}
