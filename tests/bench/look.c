/* SPDX-License-Identifier: ISC */

/* look - a filter that reads every header field, for filter.py; with LOOK_SLOW
 * in the environment it does not say that it is quick */

#include <milldam/milldam.h>
#include <stdlib.h>
#include <string.h>

static enum mill_verdict
on_headers(struct mill_txn *txn)
{
	size_t i, n = mill_n_headers(txn);

	for (i = 0; i < n; i++)
		if (strstr(mill_header_value(txn, i), "viagra") != NULL)
			return (MILL_REJECT);
	return (MILL_CONTINUE);
}

int
main(int argc, char **argv)
{
	struct mill_filter f = {
		.abi = MILL_ABI,
		.name = "look",
		.headers = on_headers,
		.without = MILL_WITHOUT_CLIENT | MILL_WITHOUT_HELO |
		    MILL_WITHOUT_SENDER | MILL_WITHOUT_RCPTS,
		.quick = getenv("LOOK_SLOW") == NULL ? MILL_QUICK_ALL : 0,
	};

	return (mill_main(&f, argc, argv));
}
