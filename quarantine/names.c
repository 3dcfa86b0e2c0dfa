/* SPDX-License-Identifier: ISC */

/* names - of the milters that caught a message */

#include "quarantine/quarantine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char between[] = ", ";

bool
quarantine_names_has(const char *list, const char *name)
{
	size_t n = strlen(name), gap = sizeof(between) - 1;
	const char *p = list;

	while (n > 0 && (p = strstr(p, name)) != NULL) {
		if ((p == list ||
		        ((size_t)(p - list) >= gap &&
		            memcmp(p - gap, between, gap) == 0)) &&
		    (p[n] == '\0' || strncmp(p + n, between, gap) == 0))
			return (true);
		p++;
	}
	return (false);
}

char *
quarantine_names_add(const char *list, const char *name)
{
	char *out;

	if (list[0] == '\0' || name[0] == '\0' ||
	    quarantine_names_has(list, name))
		return (strdup(list[0] != '\0' ? list : name));
	return (
	    asprintf(&out, "%s%s%s", list, between, name) == -1 ? NULL : out);
}
