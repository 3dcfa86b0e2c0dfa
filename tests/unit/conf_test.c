/* SPDX-License-Identifier: ISC */

#include "milter-sdk/base/conf.h"
#include "tests/lib/t.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct conf c;

static void
parse(const char *text)
{
	conf_init(&c);
	if (conf_parse(&c, "x", text, strlen(text)) == -1)
		abort();
}

static void
tree_keeps_values_and_lines(void)
{
	struct conf_node *n;

	parse("a = 1 # one\nb = \"x \\\"y\\\" \\n\"\n"
	      "k \"t\" {\n  l = { \"p\", q r }\n}\n");
	T_OK(c.n_errors == 0);
	T_STR(conf_string(&c, conf_find(&c, NULL, "a"), ""), "1");
	T_STR(conf_string(&c, conf_find(&c, NULL, "b"), ""), "x \"y\" \n");
	n = c.nodes->next->next;
	T_OK(n->is_block && n->line == 3);
	T_STR(n->title, "t");
	n = conf_find(&c, n, "l");
	T_OK(n != NULL && n->is_list && n->n_values == 3 && n->line == 4);
	T_STR(n->values[2], "r");
	conf_fini(&c);
}

static void
every_mistake_is_reported_with_its_line(void)
{
	parse("a = \nb 1\nc = 1\nd = \"open\n}\n= 5\ne { f = 1\n");
	printf("# %s", c.errors.data);
	T_OK(c.n_errors == 6);
	T_OK(strstr(c.errors.data, "x:1:") != NULL);
	T_OK(strstr(c.errors.data, "x:2:") != NULL);
	T_OK(strstr(c.errors.data, "x:4:") != NULL);
	T_OK(strstr(c.errors.data, "x:6:") != NULL);
	T_OK(strstr(c.errors.data, "x:7:") != NULL);
	conf_fini(&c);
}

static void
blocks_of_one_title_merge_and_lists_replace(void)
{
	struct conf_node *n, *k;
	int rules = 0;

	parse("p \"in\" { chain = { a b } x = 1 rule \"r1\" { s = 1 } }\n"
	      "p \"in\" { x = 2 rule \"r2\" { s = 2 } rule \"r1\" { s = 3 } }");
	T_OK(c.n_errors == 0 && c.nodes->next == NULL);
	n = c.nodes;
	T_OK(conf_find(&c, n, "chain")->n_values == 2);
	T_STR(conf_find(&c, n, "x")->values[0], "2");
	for (k = n->children; k != NULL; k = k->next)
		if (k->is_block) {
			rules++;
			if (strcmp(k->title, "r1") == 0)
				T_STR(conf_find(&c, k, "s")->values[0], "3");
		}
	T_OK(rules == 2);
	conf_fini(&c);
}

static void
values_have_types_units_and_ranges(void)
{
	static const char *const words[] = { "one", "two", NULL };

	parse("t = 5m\nbad = 5\ns = 64K\nb = yes\nw = two\nn = 99\nm = 2x\n");
	T_OK(conf_time_ms(&c, conf_find(&c, NULL, "t"), 0, 0, 1 << 30) ==
	    300000);
	T_OK(conf_size(&c, conf_find(&c, NULL, "s"), 0, 0, 1 << 30) == 65536);
	T_OK(conf_bool(&c, conf_find(&c, NULL, "b"), false));
	T_OK(conf_word(&c, conf_find(&c, NULL, "w"), words, 0) == 1);
	T_OK(c.n_errors == 0);
	T_OK(conf_time_ms(&c, conf_find(&c, NULL, "bad"), 7, 0, 100) == 7);
	T_OK(conf_int(&c, conf_find(&c, NULL, "n"), 7, 0, 98) == 7);
	T_OK(conf_int(&c, conf_find(&c, NULL, "m"), 7, 0, 98) == 7);
	T_OK(c.n_errors == 3);
	T_OK(conf_int(&c, conf_find(&c, NULL, "absent"), 7, 0, 98) == 7);
	conf_fini(&c);
}

static void
unknown_options_get_a_hint(void)
{
	static const char *const names[] = { "hostname", "spool", NULL };

	parse("hostnam = a\nzzzzzz = b\n");
	conf_unused(&c, NULL, names);
	T_OK(c.n_errors == 2);
	T_OK(strstr(c.errors.data, "did you mean hostname?") != NULL);
	conf_fini(&c);
}

static void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		abort();
}

static void
a_bundle_gives_the_tree_of_the_files(void)
{
	char dir[] = "/tmp/conf_test.XXXXXX", a[64], b[64];
	struct conf again;
	size_t i;

	T_OK(mkdtemp(dir) != NULL);
	(void)snprintf(a, sizeof(a), "%s/a", dir);
	(void)snprintf(b, sizeof(b), "%s/b", dir);
	write_file(a, "include \"b*\"\nx = 1\n");
	write_file(b, "x = 2\n");
	conf_init(&c);
	T_OK(conf_read(&c, a) == 0 && c.n_errors == 0 && c.n_files == 2);
	conf_init(&again);
	for (i = 0; i < c.n_files; i++)
		T_OK(conf_parse(&again, c.files[i].name, c.files[i].text,
		         c.files[i].len) == 0);
	T_STR(conf_find(&c, NULL, "x")->values[0], "2");
	T_STR(conf_find(&again, NULL, "x")->values[0], "2");
	conf_fini(&again);
	conf_fini(&c);
	(void)unlink(a);
	(void)unlink(b);
	(void)rmdir(dir);
}

static const struct t_case cases[] = {
	{ "conf: the tree keeps values, titles and lines",
	    tree_keeps_values_and_lines },
	{ "conf: every mistake is reported with its line",
	    every_mistake_is_reported_with_its_line },
	{ "conf: blocks of one title merge, lists replace, rules append",
	    blocks_of_one_title_merge_and_lists_replace },
	{ "conf: values have types, units and ranges",
	    values_have_types_units_and_ranges },
	{ "conf: unknown options get a hint", unknown_options_get_a_hint },
	{ "conf: a bundle gives the tree of the files",
	    a_bundle_gives_the_tree_of_the_files },
};

T_MAIN(cases)
