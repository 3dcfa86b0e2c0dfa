/* SPDX-License-Identifier: ISC */

/*
 * conf_fuzz - the configuration language and what milldam.conf(5) makes of it
 *
 * Input: up to four files, divided by lines that begin with "%%FILE".  They are
 * parsed as a reload's bundle and, when every include names a plain file beside
 * them, from a folder in memory too.
 *
 * coverage: milter-sdk/base/conf.c milter-sdk/base/conf_value.c
 * coverage: milter-sdk/base/cidr.c core/conf
 */

#include "core/conf/settings.h"
#include "milter-sdk/base/log.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES = 4 };

static const char *const names[FILES] = { "main.conf", "a.conf", "b.conf",
	"c.conf" };
static char dir[128];

static void
remove_dir(void)
{
	char path[256];
	size_t i;

	for (i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_EMERG);
	fuzz_folder(dir, sizeof(dir), remove_dir);
	return (0);
}

/* split - the input's files; their number */
static size_t
split(char *text, size_t size, struct conf_file *files)
{
	size_t n = 0;
	char *p = text, *mark, *end = text + size;

	for (;;) {
		mark = n + 1 < FILES
		    ? memmem(p, (size_t)(end - p), "\n%%FILE", 7)
		    : NULL;
		files[n].name = (char *)(uintptr_t)names[n];
		files[n].text = p;
		files[n].len = (size_t)((mark != NULL ? mark + 1 : end) - p);
		n++;
		if (mark == NULL)
			return (n);
		p = memchr(mark + 1, '\n', (size_t)(end - mark - 1));
		if (p == NULL)
			return (n);
		p++;
	}
}

/* tame - no include leads out of our folder */
static int
tame(const char *p, size_t size)
{
	const char *end = p + size;
	size_t n;

	while ((p = memmem(p, (size_t)(end - p), "include", 7)) != NULL) {
		p += 7;
		if (end - p < 3 || p[0] != ' ' || p[1] != '"')
			return (0);
		n = strspn(p + 2, "abcdefghijklmnopqrstuvwxyz.*");
		if (n == 0 || n > 12 || p + 2 + n >= end || p[2 + n] != '"')
			return (0);
	}
	return (1);
}

static void
store(const char *name, const char *text, size_t len)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if ((f = fopen(path, "w")) == NULL)
		abort();
	fwrite(text, 1, len, f);
	fclose(f);
}

/* use - the settings that came out, and the bundle they keep */
static void
use(struct settings *s, struct buf *errors)
{
	struct buf again_errors = BUF_INIT(1 << 20);
	struct settings *again;

	if (s == NULL) {
		/* refused without a word is refused without a reason */
		if (errors->len == 0)
			abort();
		return;
	}
	again = settings_parse(s->files, s->n_files, &again_errors);
	if (again == NULL) /* what was good from here is good for a child */
		abort();
	settings_unref(&again);
	buf_fini(&again_errors);
	settings_unref(&s);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct conf_file files[FILES];
	struct buf errors = BUF_INIT(1 << 20);
	char path[256], *text = malloc(size + 1);
	size_t i, n;

	if (text == NULL)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	n = split(text, size, files);
	use(settings_parse(files, n, &errors), &errors);
	errors.len = 0;
	if (tame(text, size)) {
		for (i = 0; i < FILES; i++)
			store(names[i], i < n ? files[i].text : "",
			    i < n ? files[i].len : 0);
		snprintf(path, sizeof(path), "%s/%s", dir, names[0]);
		use(settings_read(path, &errors), &errors);
	}
	buf_fini(&errors);
	free(text);
	return (0);
}
