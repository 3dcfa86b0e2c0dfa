/* SPDX-License-Identifier: ISC */

/* What a held message keeps beside itself, and who held it. */

#include "quarantine/quarantine.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void
an_origin_comes_back_as_it_was(void)
{
	struct quarantine_origin o = { .daemon_addr = "192.0.2.1",
		.daemon_port = 25,
		.client_resolve = "FORGED",
		.auth_ssf = "256",
		.early_talker = true,
		.args = { "BODY=8BITMIME", "SIZE=7" },
		.n_args = 2 };
	struct quarantine_origin got;
	struct buf b = BUF_INIT(QUARANTINE_ORIGIN_MAX);
	size_t n;
	char *copy;

	T_OK(quarantine_origin_pack(&b, &o) == 0);
	T_OK(quarantine_origin_unpack(b.data, b.len, &got) == 0);
	T_STR(got.daemon_addr, "192.0.2.1");
	T_STR(got.client_resolve, "FORGED");
	T_STR(got.client_ptr, "");
	T_STR(got.auth_ssf, "256");
	T_OK(got.daemon_port == 25 && got.early_talker && got.n_args == 2);
	T_STR(got.args[0], "BODY=8BITMIME");
	T_STR(got.args[1], "SIZE=7");
	/* cut anywhere, or with something behind it */
	for (n = 0; n <= b.len; n++) {
		if ((copy = malloc(n + 1)) == NULL)
			abort();
		memcpy(copy, b.data, n);
		copy[n] = '\0';
		T_OK((quarantine_origin_unpack(copy, n, &got) == 0) ==
		    (n == b.len));
		T_OK(n < b.len ||
		    quarantine_origin_unpack(copy, n + 1, &got) == -1);
		free(copy);
	}
	b.data[0]++; /* a version that nobody knows */
	T_OK(quarantine_origin_unpack(b.data, b.len, &got) == -1);
	buf_fini(&b);
}

static void
an_origin_has_limits(void)
{
	static char big[QUARANTINE_ORIGIN_MAX];
	struct quarantine_origin o = { .daemon_addr = big }, got;
	struct buf b = BUF_INIT(2 * QUARANTINE_ORIGIN_MAX);

	memset(big, 'x', sizeof(big) - 1);
	T_OK(quarantine_origin_pack(&b, &o) == -1 && errno == EMSGSIZE);
	b.len = 0;
	o.daemon_addr = "";
	T_OK(quarantine_origin_pack(&b, &o) == 0);
	memset(b.data + b.len - 4, 0xff, 4); /* so many parameters */
	T_OK(quarantine_origin_unpack(b.data, b.len, &got) == -1);
	buf_fini(&b);
}

static void
names_are_whole_words_of_a_list(void)
{
	static const struct {
		const char *list, *name;
		bool has;
		const char *added;
	} rows[] = {
		{ "", "odd", false, "odd" },
		{ "odd", "odd", true, "odd" },
		{ "odder", "odd", false, "odder, odd" },
		{ "an odd", "odd", false, "an odd, odd" },
		{ "spam, odd", "odd", true, "spam, odd" },
		{ "odd, spam", "odd", true, "odd, spam" },
		{ "odder, odd, x", "odd", true, "odder, odd, x" },
		{ "odd", "", false, "odd" },
	};
	size_t i;
	char *all;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		T_OK(quarantine_names_has(rows[i].list, rows[i].name) ==
		    rows[i].has);
		all = quarantine_names_add(rows[i].list, rows[i].name);
		T_STR(all, rows[i].added);
		free(all);
	}
}

static const struct t_case cases[] = {
	{ "an_origin_comes_back_as_it_was", an_origin_comes_back_as_it_was },
	{ "an_origin_has_limits", an_origin_has_limits },
	{ "names_are_whole_words_of_a_list", names_are_whole_words_of_a_list },
};

T_MAIN(cases)
