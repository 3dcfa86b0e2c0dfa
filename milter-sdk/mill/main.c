/* SPDX-License-Identifier: ISC */

/*
 * mill - look at recordings of Milter sessions and play them to a milter
 */

#include "milter-sdk/mill/mill.h"

#include <err.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { TIMEOUT_S = 60 };

static int
usage(FILE *out)
{
	fprintf(out,
	    "usage: mill replay file --to socket [--timeout seconds] "
	    "[--no-timing]\n"
	    "       mill show file\n");
	return (EX_USAGE);
}

/* replay_one - a connection; how much differs, or -1 */
static int
replay_one(
    struct conn *c, const char *to, unsigned timeout_s, bool timing, bool whole)
{
	struct milter_options o = { 0 };
	char *lists[MILTER_STAGES] = { NULL };
	bool negotiated = false;
	unsigned n = 0;
	size_t i;
	int rc;

	dialog_then(c, whole);
	rc = talk(c, to, timeout_s, &o, lists, &negotiated);
	if (rc == 0) {
		n = differ_options(c, &o, negotiated);
		if (negotiated && c->negotiated)
			n += differ(c, timing);
	}
	for (i = 0; i < MILTER_STAGES; i++)
		free(lists[i]);
	return (rc == -1 ? -1 : (int)n);
}

static int
replay(const char *file, const char *to, unsigned timeout_s, bool timing)
{
	struct take t;
	size_t i;
	int n = 0, one = 0;

	if (take_read(&t, file) == -1)
		return (EX_DATAERR);
	if (!t.whole)
		warnx("%s: it was cut off: what is there is played", file);
	for (i = 0; i < t.n_conns && one != -1; i++) {
		one = replay_one(&t.conns[i], to, timeout_s, timing,
		    t.whole || i + 1 < t.n_conns);
		n += one > 0 ? one : 0;
	}
	if (one != -1)
		printf("%d difference%s\n", n, n == 1 ? "" : "s");
	take_free(&t);
	return (one == -1 ? EX_UNAVAILABLE : n > 0);
}

static int
show(const char *file)
{
	struct take t;

	if (take_read(&t, file) == -1)
		return (EX_DATAERR);
	say_take(&t);
	take_free(&t);
	return (0);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = { { "to", 1, NULL, 't' },
		{ "timeout", 1, NULL, 'w' }, { "no-timing", 0, NULL, 'n' },
		{ "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	const char *to = NULL;
	bool timing = true;
	unsigned long wait = TIMEOUT_S;
	char *end;
	int ch;

	while ((ch = getopt_long(argc, argv, "h", options, NULL)) != -1)
		switch (ch) {
		case 't':
			to = optarg;
			break;
		case 'w':
			wait = strtoul(optarg, &end, 10);
			if (*end != '\0' || wait == 0 || wait > 86400)
				errx(EX_USAGE, "%s: seconds, 1 to 86400",
				    optarg);
			break;
		case 'n':
			timing = false;
			break;
		case 'h':
			(void)usage(stdout);
			return (0);
		default:
			return (usage(stderr));
		}
	argc -= optind;
	argv += optind;
	if (argc == 2 && strcmp(argv[0], "show") == 0)
		return (show(argv[1]));
	if (argc == 2 && strcmp(argv[0], "replay") == 0 && to != NULL)
		return (replay(argv[1], to, (unsigned)wait, timing));
	return (usage(stderr));
}
