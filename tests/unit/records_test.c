/* SPDX-License-Identifier: ISC */

/* records_test - day files of decision records */

#include "core/queue/records.h"

#include "tests/lib/t.h"

#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY 86400000ull

static char dir[64];
static unsigned found;

static int
add(struct records *r, const char *text, uint64_t now)
{
	return (records_add(r, text, strlen(text), now));
}

static void
begin(struct records *r, unsigned keep)
{
	(void)strcpy(dir, "/tmp/milldam-records.XXXXXX");
	T_OK(mkdtemp(dir) != NULL);
	T_OK(records_open(r, dir, keep) == 0);
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return (remove(path));
}

static void
end(struct records *r)
{
	records_close(r);
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool
exists(const char *name)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/records/%s", dir, name);
	return (access(path, F_OK) == 0);
}

static void
count(void *arg, const char *line, size_t len)
{
	(void)arg;
	T_OK(len > 2 && line[0] == '{' && line[len - 1] == '}');
	found++;
}

static unsigned
search(struct records *r, const char *id)
{
	struct records_search s;

	found = 0;
	T_OK(records_search_start(r, &s, id) == 0);
	while (records_search_step(r, &s, count, NULL) == 1)
		;
	records_search_fini(&s);
	return (found);
}

static void
keeps_only_so_many_days(void)
{
	struct records r;
	uint64_t d;

	begin(&r, 3);
	for (d = 0; d < 6; d++)
		T_OK(add(&r, "{\"id\":\"000000000001\"}", d * DAY) == 0);
	T_OK(!exists("1970-01-03.jsonl"));
	T_OK(exists("1970-01-04.jsonl") && exists("1970-01-05.jsonl") &&
	    exists("1970-01-06.jsonl"));
	end(&r);
}

static void
finds_an_id_and_its_groups_in_the_newest_day(void)
{
	struct records r;

	begin(&r, 9);
	T_OK(add(&r, "{\"id\":\"000000000001\",\"n\":1}", 0) == 0);
	T_OK(add(&r, "{\"id\":\"000000000002\"}", DAY) == 0);
	T_OK(add(&r, "{\"id\":\"000000000002-2\"}", DAY) == 0);
	T_OK(add(&r, "{\"id\":\"0000000000021\"}", DAY) == 0);
	T_OK(search(&r, "000000000001") == 1);
	T_OK(search(&r, "000000000002") == 2);
	T_OK(search(&r, "000000000003") == 0);
	end(&r);
}

static void
searches_more_than_one_piece(void)
{
	static char line[1000];
	struct records r;
	int i;

	begin(&r, 9);
	for (i = 0; i < 4000; i++) {
		(void)snprintf(line, sizeof(line),
		    "{\"id\":\"%012d\",\"x\":\"%0900d\"}", i, 0);
		T_OK(add(&r, line, 0) == 0);
	}
	T_OK(search(&r, "000000003999") == 1);
	T_OK(search(&r, "000000000000") == 1);
	T_OK(search(&r, "000000001170") == 1);
	end(&r);
}

static void
refuses_what_is_no_single_line(void)
{
	static char big[RECORD_MAX + 2];
	struct records r;

	begin(&r, 9);
	T_OK(add(&r, "", 0) == -1);
	T_OK(add(&r, "{}\n{}", 0) == -1);
	memset(big, 'x', sizeof(big) - 1);
	T_OK(records_add(&r, big, RECORD_MAX + 1, 0) == -1);
	T_OK(records_add(&r, big, RECORD_MAX, 0) == 0);
	end(&r);
}

static const struct t_case cases[] = {
	{ "keeps only so many days", keeps_only_so_many_days },
	{ "finds an id and its groups in the newest day",
	    finds_an_id_and_its_groups_in_the_newest_day },
	{ "searches more than one piece", searches_more_than_one_piece },
	{ "refuses what is no single line", refuses_what_is_no_single_line },
};

T_MAIN(cases)
