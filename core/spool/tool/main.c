/* SPDX-License-Identifier: ISC */

/*
 * milldam-spool - look at a spool without the gateway
 *
 * Opens it read-only and takes no lock: it works beside a running gateway, on a
 * copy, and on a damaged spool.  Nothing here may be believed before its
 * checksum has been.
 */

#include "core/spool/tool/tool.h"
#include "milter-sdk/base/json.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_DAMAGE = 1, EXIT_USAGE = 64, EXIT_NO_SPOOL = 66, EXIT_IO = 74 };

struct options {
	const char *dir;
	bool json, content;
};

static int
usage(void)
{
	fputs("usage: milldam-spool [-d DIR] [--json] COMMAND\n"
	      "  list                      live messages\n"
	      "  show [--content] SEQ|ID   one message\n"
	      "  verify                    check every checksum\n"
	      "  salvage OUTDIR            write each message to files\n",
	    stderr);
	return (EXIT_USAGE);
}

static int
fail(const char *what, int status)
{
	fprintf(stderr, "milldam-spool: %s: %s\n", what,
	    errno == EPROTO ? "damaged, or not in this program's format"
	                    : strerror(errno));
	return (status);
}

static void
print_damage(const struct view *v)
{
	size_t i;

	for (i = 0; i < v->n_damage; i++)
		fprintf(stderr, "milldam-spool: damage: %s\n", v->damage[i]);
}

static int
do_list(struct view *v, const struct options *o)
{
	if ((o->json ? list_json(v, stdout) : list_text(v, stdout)) == -1)
		return (fail("list", EXIT_IO));
	print_damage(v);
	return (0);
}

static int
do_show(struct view *v, const struct options *o, const char *what)
{
	const struct item *it = view_find(v, what);

	if (it == NULL) {
		fprintf(stderr, "milldam-spool: no live message %s\n", what);
		return (EXIT_DAMAGE);
	}
	if (o->content) {
		if (content_copy(v, it, stdout) == -1)
			return (fail("content", EXIT_DAMAGE));
		return (0);
	}
	if ((o->json ? show_json : show_text)(v, it, stdout) == -1)
		return (fail(what, EXIT_DAMAGE));
	return (spool_verify_content(v->sp, it->seq) == -1 ? EXIT_DAMAGE : 0);
}

static int
verify_json(const struct view *v)
{
	struct buf b = BUF_INIT((size_t)256 << 20);
	size_t i;

	if (buf_add(&b, "{", 1) == -1 ||
	    json_kv_num(&b, "messages", v->n_items) == -1 ||
	    json_key(&b, "damage") == -1 || buf_add(&b, "[", 1) == -1)
		goto bad;
	for (i = 0; i < v->n_damage; i++)
		if ((i > 0 && buf_add(&b, ",", 1) == -1) ||
		    json_str(&b, v->damage[i]) == -1)
			goto bad;
	if (buf_add(&b, "]}", 2) == -1)
		goto bad;
	puts(b.data);
	buf_fini(&b);
	return (v->n_damage > 0 ? EXIT_DAMAGE : 0);
bad:
	buf_fini(&b);
	return (fail("verify", EXIT_IO));
}

static int
do_verify(struct view *v, const struct options *o)
{
	if (o->json)
		return (verify_json(v));
	print_damage(v);
	printf("%zu messages, %zu damaged\n", v->n_items, v->n_damage);
	return (v->n_damage > 0 ? EXIT_DAMAGE : 0);
}

static int
do_salvage(struct view *v, const char *dir)
{
	int r = salvage(v, dir);

	if (r == -1)
		return (fail(dir, EXIT_IO));
	print_damage(v);
	return (r == 1 || v->n_damage > 0 ? EXIT_DAMAGE : 0);
}

static int
command(const struct options *o, int argc, char **argv)
{
	bool verify = argc == 1 && strcmp(argv[0], "verify") == 0;
	struct view v;
	int r;

	if (view_open_sure(&v, o->dir, verify) == -1)
		return (fail(o->dir, EXIT_NO_SPOOL));
	if (verify)
		r = do_verify(&v, o);
	else if (strcmp(argv[0], "list") == 0)
		r = do_list(&v, o);
	else if (strcmp(argv[0], "show") == 0)
		r = do_show(&v, o, argv[1]);
	else
		r = do_salvage(&v, argv[1]);
	view_close(&v);
	if (fflush(stdout) == EOF || ferror(stdout))
		return (fail("output", EXIT_IO));
	return (r);
}

int
main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "content", no_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = { .dir = "/var/spool/milldam" };
	const char *c;
	int opt;

	while ((opt = getopt_long(argc, argv, "d:h", longs, NULL)) != -1)
		switch (opt) {
		case 'd':
			o.dir = optarg;
			break;
		case 'j':
			o.json = true;
			break;
		case 'c':
			o.content = true;
			break;
		default:
			return (usage());
		}
	argc -= optind;
	argv += optind;
	c = argc > 0 ? argv[0] : "";
	if (!(argc == 1 &&
	        (strcmp(c, "list") == 0 || strcmp(c, "verify") == 0)) &&
	    !(argc == 2 &&
	        (strcmp(c, "show") == 0 || strcmp(c, "salvage") == 0)))
		return (usage());
	/* the reasons are printed here, once */
	log_open("milldam-spool", LOG_TO_STDERR, LOG_CRIT);
	return (command(&o, argc, argv));
}
