/* SPDX-License-Identifier: ISC */

/*
 * smtp_command_fuzz - any line through the command parser
 *
 * What it accepts must hold what it promises: results within their buffers,
 * an address that parses again to itself.
 *
 * coverage: core/smtp/command.c core/smtp/address.c
 */

#include "core/smtp/command.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct command c;
	char again[ADDRESS_MAX + 1], angle[ADDRESS_MAX + 3];
	const char *bad, *rest;
	size_t i;

	bad = command_parse(&c, (const char *)p, n, n > 0 && p[0] == 'R');
	if (bad != NULL) {
		check(bad[0] == '5' && strlen(bad) > 10);
		return (0);
	}
	check(n <= COMMAND_LINE_MAX && c.verb > VERB_UNKNOWN &&
	    c.verb < VERBS && strlen(c.path) <= ADDRESS_MAX);
	for (i = 0; i < c.n_params; i++)
		check(c.params[i] > c.line &&
		    c.params[i] < c.line + sizeof(c.line) &&
		    strpbrk(c.params[i], " \t\r\n") == NULL);
	if (c.verb != VERB_MAIL && c.verb != VERB_RCPT)
		return (0);
	(void)memcpy(angle, "<", 1);
	(void)strcpy(angle + 1, c.path);
	(void)strcat(angle, ">");
	check(address_path(angle, ADDRESS_NULL | ADDRESS_POSTMASTER, again,
	          &rest) == 0 &&
	    strcmp(again, c.path) == 0 && *rest == '\0');
	rest = address_domain(c.path);
	if (address_check(c.path) == 0) /* neither "" nor postmaster */
		check(*rest != '\0' || strchr(c.path, '"') != NULL);
	else
		check(*rest == '\0');
	return (0);
}
