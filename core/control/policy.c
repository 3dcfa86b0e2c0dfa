/* SPDX-License-Identifier: ISC */

/*
 * policy - milldamctl policy show, policy test
 *
 * These read the configuration themselves and ask no gateway, so that a change
 * can be tried before a reload; the hash tells whether a running gateway has
 * the same.
 */

#include "core/control/policy_int.h"

#include <err.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { SHOW_MAX = 16 << 20 };

struct settings *
policy_read(const char *path)
{
	struct buf errors = BUF_INIT(1 << 20);
	struct settings *s = settings_read(path, &errors);

	if (s == NULL) {
		fputs(errors.data != NULL ? errors.data : "out of memory\n",
		    stderr);
		exit(EX_CONFIG);
	}
	buf_fini(&errors);
	return (s);
}

void
policy_usage(void)
{
	fprintf(stderr,
	    "usage: milldamctl policy show [-f file] [policy]\n"
	    "       milldamctl [--json] policy test [-f file] "
	    "[--listener name]\n"
	    "           --client address [--name name] [--helo name] "
	    "[--tls version]\n"
	    "           [--login user] [--from address] [--to address ...]\n"
	    "           [--size bytes] [--header \"name: value\" ...] "
	    "[--no-header]\n"
	    "           [--verdict milter=word ...] "
	    "[--at \"YYYY-MM-DD HH:MM\"]\n");
	exit(EX_USAGE);
}

static int
show_policies(int argc, char **argv)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	const char *file = SYSCONFDIR "/milldam.conf", *name;
	struct buf out = BUF_INIT(SHOW_MAX);
	struct settings *s;
	bool found = false;
	size_t i;
	int ch;

	while ((ch = getopt_long(argc, argv, "f:", none, NULL)) != -1)
		if (ch == 'f')
			file = optarg;
		else
			policy_usage();
	if (argc - optind > 1)
		policy_usage();
	name = argv[optind];
	s = policy_read(file);
	for (i = 0; i < s->n_policies; i++) {
		if (name != NULL && strcmp(s->policies[i].name, name) != 0)
			continue;
		if ((found && buf_add(&out, "\n", 1) == -1) ||
		    policy_show(s, i, &out) == -1)
			err(EX_OSERR, NULL);
		found = true;
	}
	if (name != NULL && !found)
		errx(1, "%s: no such policy in %s", name, file);
	if (out.data != NULL)
		fputs(out.data, stdout);
	buf_fini(&out);
	settings_unref(&s);
	return (0);
}

int
policy_command(int argc, char **argv, bool json)
{
	if (argc < 2)
		policy_usage();
	optind = 0; /* begin anew */
	if (strcmp(argv[1], "show") == 0)
		return (show_policies(argc - 1, argv + 1));
	if (strcmp(argv[1], "test") == 0)
		return (policy_try(argc - 1, argv + 1, json));
	policy_usage();
}
