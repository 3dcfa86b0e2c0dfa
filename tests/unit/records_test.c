/* SPDX-License-Identifier: ISC */

/* records_test - day files of decision records */

#include "core/queue/records.h"

#include "tests/lib/files.h"
#include "tests/lib/t.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
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

static void
end(struct records *r)
{
	records_close(r);
	wipe_in(dir);
}

static bool
exists(const char *name)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/records/%s", dir, name);
	return (access(path, F_OK) == 0);
}

static char first[256];

static void
count(void *arg, const char *line, size_t len)
{
	(void)arg;
	T_OK(len > 2 && line[0] == '{' && line[len - 1] == '}');
	if (found++ == 0)
		(void)snprintf(first, sizeof(first), "%.*s", (int)len, line);
}

/* search - words parted by blanks; how many were found */
static unsigned
search(struct records *r, const char *words)
{
	struct records_query q = { 0 };
	struct records_search s;
	char copy[200], *p = copy, *w;

	found = 0;
	first[0] = '\0';
	(void)snprintf(copy, sizeof(copy), "%s", words);
	while ((w = strsep(&p, " ")) != NULL)
		T_OK(records_query_parse(&q, w) == 0);
	T_OK(records_search_start(r, &s, &q) == 0);
	while (records_search_step(r, &s, count, NULL) == 1)
		T_OK(s.carry <= RECORD_MAX);
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

static const char one[] =
    "{\"id\":\"000000000001\",\"time\":\"1970-01-01T00:10:00.000Z\","
    "\"client\":\"x, \\\"sender\\\":{\",\"helo\":\"\\\\\","
    "\"sender\":\"A.b@Example.org\",\"message_id\":\"<1\\u003c2@x>\","
    "\"recipients\":[\"c@d.test\",\"e\\\"]@f.test\"],"
    "\"milters\":[{\"sender\":\"no@no\",\"of\":\"]}\"}],"
    "\"outcome\":\"queued\"}";

static bool
match(const char *words)
{
	struct records_query q = { 0 };
	char copy[200], *p = copy, *w;
	bool yes;

	(void)snprintf(copy, sizeof(copy), "%s", words);
	while ((w = strsep(&p, " ")) != NULL)
		T_OK(records_query_parse(&q, w) == 0);
	yes = records_match(&q, one, strlen(one));
	records_query_fini(&q);
	return (yes);
}

static void
matches_each_thing_asked_for(void)
{
	T_OK(match("000000000001") && !match("000000000002"));
	T_OK(match("from=a.B@example.ORG") && match("from=@example.org"));
	T_OK(!match("from=@ample.org") && !match("from=<>"));
	T_OK(!match("from=b@example.org") && !match("from=no@no"));
	T_OK(match("to=c@d.test") && match("to=@f.test"));
	T_OK(match("to=e\"]@f.test") && !match("to=g@f.test"));
	T_OK(match("1<2@x") && match("message-id=<1<2@x>"));
	T_OK(!match("message-id=1<2@y"));
	T_OK(match("since=600") && !match("since=601"));
	T_OK(match("until=600") && !match("until=599"));
	T_OK(match("from=@example.org to=@d.test since=1 until=1000"));
	T_OK(!match("from=@example.org to=@x.test"));
	T_OK(records_time(one, strlen(one)) == 600000);
}

static void
a_record_cut_anywhere_is_read_safely(void)
{
	struct records_query q = { 0 };
	size_t n;
	char *copy;

	T_OK(records_query_parse(&q, "to=none@none.test") == 0 &&
	    records_query_parse(&q, "from=@example.org") == 0);
	for (n = 0; n <= strlen(one); n++) {
		if ((copy = malloc(n > 0 ? n : 1)) == NULL)
			abort();
		memcpy(copy, one, n);
		T_OK(!records_match(&q, copy, n));
		(void)records_time(copy, n);
		free(copy);
	}
	records_query_fini(&q);
}

static void
refuses_a_question_that_makes_no_sense(void)
{
	static const char *const bad[] = { "since=", "since=x", "limit=0",
		"limit=10001", "from=", "until=99999999999999", "id=" };
	struct records_query q = { 0 };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		T_OK(records_query_parse(&q, bad[i]) == -1);
	T_OK(records_query_parse(&q, "from=a@b") == 0);
	T_OK(records_query_parse(&q, "from=c@d") == -1);
	records_query_fini(&q);
}

/* fill - a record a second from the day's begin, of about a kilobyte */
static void
fill(struct records *r, unsigned n)
{
	static char line[1200];
	unsigned i;

	for (i = 0; i < n; i++) {
		(void)snprintf(line, sizeof(line),
		    "{\"id\":\"%012u\",\"time\":\"1970-01-01T%02u:%02u:%02u."
		    "000Z\",\"client\":\"127.0.0.1\",\"sender\":\"s%u@"
		    "from.test\",\"message_id\":\"<%u@m.test>\","
		    "\"recipients\":[\"r%u@to.test\"],\"milters\":\"%0800d\"}",
		    i, i / 3600 % 24, i / 60 % 60, i % 60, i % 1000, i, i % 7,
		    0);
		T_OK(add(r, line, 0) == 0);
	}
}

static void
reads_only_where_the_time_can_be(void)
{
	struct records_query q = { 0 };
	struct records_search s;
	struct records r;

	begin(&r, 9);
	fill(&r, 86400);
	T_OK(search(&r, "since=80000 until=80009") == 10);
	T_OK(strstr(first, "000000080009") != NULL); /* newest first */
	T_OK(search(&r, "until=59") == 59);          /* 1970 has no second 0 */
	T_OK(search(&r, "since=86390") == 10);
	T_OK(search(&r, "from=s7@from.test limit=5") == 5);
	T_OK(search(&r, "from=s7@from.test") == 87);
	T_OK(search(&r, "4711@m.test") == 1);
	T_OK(search(&r, "to=@nowhere.test") == 0);
	T_OK(records_query_parse(&q, "since=40000") == 0 &&
	    records_query_parse(&q, "until=40000") == 0);
	T_OK(records_search_start(&r, &s, &q) == 0);
	while (records_search_step(&r, &s, count, NULL) == 1)
		;
	T_OK(s.found == 1);
	T_OK(s.read < 60ull << 20); /* of 85 MiB: six hours each way */
	records_search_fini(&s);
	end(&r);
}

static void
finds_what_follows_a_line_of_rubbish(void)
{
	static char big[2 << 20];
	struct records r;
	FILE *f;
	char path[128];

	begin(&r, 9);
	fill(&r, 100);
	records_flush(&r);
	(void)snprintf(path, sizeof(path), "%s/records/1970-01-01.jsonl", dir);
	memset(big, 'x', sizeof(big) - 1);
	f = fopen(path, "a");
	T_OK(f != NULL && fprintf(f, "%s\n{\"cut\n", big) > 0);
	T_OK(f != NULL && fclose(f) == 0);
	fill(&r, 100);
	T_OK(search(&r, "000000000099") == 2);
	T_OK(search(&r, "from=s3@from.test") == 2);
	end(&r);
}

/* RECORDS_BENCH=1000000: that many records, one search of each kind */
static void
finds_among_a_million(void)
{
	static const char *const asked[] = { "999@m.test", "from=s7@from.test",
		"to=@nowhere.test", "000000000100", "since=86390 limit=100" };
	const char *n = getenv("RECORDS_BENCH");
	struct timespec a, b;
	struct records r;
	size_t i;

	if (n == NULL)
		return;
	begin(&r, 9);
	fill(&r, (unsigned)atoi(n));
	records_flush(&r);
	for (i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		(void)clock_gettime(CLOCK_MONOTONIC, &a);
		(void)search(&r, asked[i]);
		(void)clock_gettime(CLOCK_MONOTONIC, &b);
		printf("# %-24s %6u found %.3f s\n", asked[i], found,
		    (double)(b.tv_sec - a.tv_sec) +
		        (double)(b.tv_nsec - a.tv_nsec) / 1e9);
	}
	end(&r);
}

static const struct t_case cases[] = {
	{ "keeps only so many days", keeps_only_so_many_days },
	{ "finds an id and its groups in the newest day",
	    finds_an_id_and_its_groups_in_the_newest_day },
	{ "searches more than one piece", searches_more_than_one_piece },
	{ "refuses what is no single line", refuses_what_is_no_single_line },
	{ "matches each thing asked for", matches_each_thing_asked_for },
	{ "a record cut anywhere is read safely",
	    a_record_cut_anywhere_is_read_safely },
	{ "refuses a question that makes no sense",
	    refuses_a_question_that_makes_no_sense },
	{ "reads only where the time can be",
	    reads_only_where_the_time_can_be },
	{ "finds what follows a line of rubbish",
	    finds_what_follows_a_line_of_rubbish },
	{ "finds among a million", finds_among_a_million },
};

T_MAIN(cases)
