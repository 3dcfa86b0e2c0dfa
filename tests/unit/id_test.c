/* SPDX-License-Identifier: ISC */

/* id_test - queue ids are unique and have the documented form */

#include "core/smtp/id.h"

#include "tests/lib/t.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 20000 };

static int
by_text(const void *a, const void *b)
{
	return (strcmp(a, b));
}

static void
many_are_all_different(void)
{
	static char ids[MANY][ENV_ID_MAX];
	size_t i;

	for (i = 0; i < MANY; i++) {
		queue_id_make(ids[i]);
		T_OK(strlen(ids[i]) == 15 && queue_id_ok(ids[i]));
	}
	qsort(ids, MANY, sizeof(ids[0]), by_text);
	for (i = 1; i < MANY; i++)
		T_OK(strcmp(ids[i - 1], ids[i]) != 0);
}

static void
a_forked_process_takes_another_number(void)
{
	char mine[ENV_ID_MAX], other[ENV_ID_MAX] = "";
	int p[2];

	queue_id_make(mine);
	T_OK(pipe(p) == 0);
	if (fork() == 0) {
		queue_id_make(other);
		_exit(write(p[1], other, sizeof(other)) < 0);
	}
	T_OK(read(p[0], other, sizeof(other)) == sizeof(other));
	(void)wait(NULL);
	T_OK(memcmp(mine + 6, other + 6, 5) != 0);
	(void)close(p[0]);
	(void)close(p[1]);
}

static void
refuses_what_is_no_id(void)
{
	T_OK(queue_id_ok("abcdefghijkl"));
	T_OK(queue_id_ok("abcdefghijkl-2"));
	T_OK(!queue_id_ok(""));
	T_OK(!queue_id_ok("short"));
	T_OK(!queue_id_ok("abcdefghijklmnopq"));
	T_OK(!queue_id_ok("abcdefghijk/"));
	T_OK(!queue_id_ok("abcdefghijkl-"));
	T_OK(!queue_id_ok("abcdefghijkl-0"));
	T_OK(!queue_id_ok("abcdefghijkl-2x"));
	T_OK(!queue_id_ok("abcdefghijkl-123456"));
}

static const struct t_case cases[] = {
	{ "many are all different", many_are_all_different },
	{ "a forked process takes another number",
	    a_forked_process_takes_another_number },
	{ "refuses what is no id", refuses_what_is_no_id },
};

T_MAIN(cases)
