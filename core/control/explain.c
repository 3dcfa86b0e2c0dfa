/* SPDX-License-Identifier: ISC */

/*
 * explain - find decision records and show them while they come
 *
 * An answer may be thousands of records long: each is parsed, printed and
 * forgotten by itself.
 */

#include "core/control/ctl.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

static bool wide; /* one line a record, else all of it */

/* time_ago - "90s", "15m", "2h", "7d": that long before now; 0 if it is none */
static time_t
time_ago(const char *s)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);
	time_t unit = *end == 's' ? 1
	    : *end == 'm'         ? 60
	    : *end == 'h'         ? 3600
	    : *end == 'd'         ? 86400
	                          : 0;

	if (end == s || unit == 0 || end[1] != '\0' || n > 1000000)
		return (0);
	return (time(NULL) - (time_t)n * unit);
}

/* time_at - "2026-01-31", with "T12:00" or "T12:00:30" after it and "Z" for
 * UTC, or "12:00" of today; 0 if it is none */
static time_t
time_at(const char *s)
{
	static const char *const forms[] = { "%Y-%m-%dT%H:%M:%S",
		"%Y-%m-%dT%H:%M", "%Y-%m-%d", "%H:%M:%S", "%H:%M" };
	time_t now = time(NULL);
	struct tm tm;
	const char *end;
	size_t i;

	for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		(void)localtime_r(&now, &tm);
		tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
		tm.tm_isdst = -1;
		end = strptime(s, forms[i], &tm);
		if (end != NULL && strcmp(end, "Z") == 0)
			return (timegm(&tm));
		if (end != NULL && *end == '\0')
			return (mktime(&tm));
	}
	return (0);
}

static void
add(char *room, size_t n, const char *key, const char *value)
{
	size_t used = strlen(room);
	int w;

	if (value[0] == '\0' || value[strcspn(value, " \t\r\n")] != '\0')
		errx(EX_USAGE, "%s%s: a word without blanks", key, value);
	w = snprintf(room + used, n - used, " %s%s", key, value);
	if (w < 0 || (size_t)w >= n - used - 1)
		errx(EX_USAGE, "the command line is too long");
}

static void
add_time_option(char *room, size_t n, const char *key, const char *value)
{
	char text[32];
	time_t at = time_ago(value);

	if (at == 0)
		at = time_at(value);
	if (at <= 0)
		errx(EX_USAGE,
		    "%s: no time: say 2h, 7d, 14:30, 2026-01-31 or "
		    "2026-01-31T14:30",
		    value);
	(void)snprintf(text, sizeof(text), "%" PRIdMAX, (intmax_t)at);
	add(room, n, key, text);
}

void
explain_compose(char *room, size_t n, int argc, char **argv, bool *json)
{
	static const struct option options[] = { { "from", 1, NULL, 'f' },
		{ "to", 1, NULL, 't' }, { "since", 1, NULL, 's' },
		{ "until", 1, NULL, 'u' }, { "message-id", 1, NULL, 'm' },
		{ "limit", 1, NULL, 'l' }, { "full", 0, NULL, 'F' },
		{ "json", 0, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	bool full = false, limited = false;
	int ch;

	(void)snprintf(room, n, "explain");
	optind = 0; /* begin anew, with these words */
	while ((ch = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (ch) {
		case 'f':
			add(room, n, "from=", optarg);
			break;
		case 't':
			add(room, n, "to=", optarg);
			break;
		case 's':
			add_time_option(room, n, "since=", optarg);
			break;
		case 'u':
			add_time_option(room, n, "until=", optarg);
			break;
		case 'm':
			add(room, n, "message-id=", optarg);
			break;
		case 'l':
			limited = true;
			add(room, n, "limit=", optarg);
			break;
		case 'F':
			full = true;
			break;
		case 'j':
			*json = true;
			break;
		default:
			exit(EX_USAGE);
		}
	if (argc - optind > 1 || (argc == optind && strlen(room) == 7))
		errx(EX_USAGE,
		    "explain ID | MESSAGE-ID | [--from A] [--to B] [--since T] "
		    "[--until T] [--message-id M] [--limit N] [--full]");
	wide = argc == optind && !full;
	if (argc > optind)
		add(room, n, "", argv[optind]);
	else if (!limited)
		add(room, n, "limit=", "100");
	(void)strcat(room, "\n"); /* add() left room for it */
}

static enum colour
outcome_colour(const char *s)
{
	if (strcmp(s, "queued") == 0)
		return (GREEN);
	return (strcmp(s, "rejected") == 0 ? RED : YELLOW);
}

/* show_short - one line; the columns cannot wait for the widest */
static void
show_short(struct json_object *o, bool head)
{
	struct json_object *to = obj_of(o, "recipients");
	const char *outcome = str_of(o, "outcome"), *by = str_of(o, "milter");
	const char *from = str_of(o, "sender"), *first = "";
	size_t n = 0;
	char line[160], room[80];

	if (head)
		colour_text(BOLD,
		    "TIME (UTC)           ID                OUTCOME     FROM"
		    "                          TO                            "
		    "BY\n");
	if (json_object_is_type(to, json_type_array) &&
	    (n = json_object_array_length(to)) > 0)
		first =
		    json_object_get_string(json_object_array_get_idx(to, 0));
	if (n > 1)
		(void)snprintf(
		    room, sizeof(room), "%s (+%zu)", safe(first, 40), n - 1);
	else
		(void)snprintf(room, sizeof(room), "%s", safe(first, 60));
	printf("%-19.19s  %-16.20s  ", safe(str_of(o, "time"), 19),
	    safe(str_of(o, "id"), 20));
	(void)snprintf(line, sizeof(line), "%-10.10s", safe(outcome, 10));
	colour_text(outcome_colour(outcome), line);
	printf("  %-28s  %-28s  %s\n", from[0] != '\0' ? safe(from, 60) : "<>",
	    room, safe(by, 40));
}

/* Splitting the answer into its records: an array of objects, or one object. */
struct splitter {
	json_tokener *tok;
	size_t n;
	bool in_record, array, ended;
	int rc;
};

static void
take_record(struct splitter *s, struct json_object *o)
{
	if (!s->array) {
		s->rc = 1;
		s->ended = true;
		show_error(str_of(o, "error"));
	} else if (wide)
		show_short(o, s->n == 0);
	else {
		if (s->n > 0)
			putchar('\n');
		(void)show_record(o);
	}
	s->n++;
	json_object_put(o);
}

/* outside - a character between records */
static void
outside(struct splitter *s, char c)
{
	if (c == '[' && !s->array && s->n == 0)
		s->array = true;
	else if (c == ']' && s->array)
		s->ended = true;
	else if (c == '{' || c == '"')
		s->in_record = true;
	else if (strchr(", \t\r\n", c) == NULL)
		errx(EX_PROTOCOL, "the answer is no list of records");
}

static void
split(struct splitter *s, const char *p, size_t n)
{
	struct json_object *o;

	while (n > 0) {
		if (!s->in_record)
			outside(s, *p);
		if (!s->in_record) {
			p++;
			n--;
			continue;
		}
		o = json_tokener_parse_ex(s->tok, p, (int)n);
		if (o == NULL &&
		    json_tokener_get_error(s->tok) == json_tokener_continue)
			return;
		if (o == NULL)
			errx(EX_PROTOCOL, "a record is no JSON");
		p += json_tokener_get_parse_end(s->tok);
		n -= json_tokener_get_parse_end(s->tok);
		s->in_record = false;
		take_record(s, o);
	}
}

/* raw - the answer as it comes; what it begins and ends with is looked at */
static void
raw(struct splitter *s, const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (strchr(" \t\r\n", p[i]) != NULL && p[i] != '\0')
			continue;
		if (s->n++ == 0)
			s->rc = p[i] == '{';
		s->ended = p[i] == (s->rc == 0 ? ']' : '}');
	}
	(void)fwrite(p, 1, n, stdout);
}

int
explain_answer(int fd, bool json)
{
	struct splitter s = { .tok = json_tokener_new() };
	char room[64 * 1024];
	ssize_t n;

	if (s.tok == NULL)
		err(EX_OSERR, NULL);
	while ((n = read(fd, room, sizeof(room))) != 0) {
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			err(EX_IOERR, "control socket");
		if (json)
			raw(&s, room, (size_t)n);
		else
			split(&s, room, (size_t)n);
	}
	json_tokener_free(s.tok);
	if (!s.ended)
		errx(EX_PROTOCOL,
		    "the answer was cut off: did the gateway stop?");
	if (!json && s.rc == 0 && s.n == 0)
		puts("Nothing found.");
	return (s.rc);
}
