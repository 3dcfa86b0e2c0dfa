/* SPDX-License-Identifier: ISC */
#ifndef TESTS_LIB_FILES_H
#define TESTS_LIB_FILES_H

/* Files and folders that tests make, replace and remove. */

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

/* put_file - this text under the name, at once */
static inline void
put_file(const char *path, const char *text)
{
	char tmp[256];
	FILE *f;

	(void)snprintf(tmp, sizeof(tmp), "%s.new", path);
	if ((f = fopen(tmp, "w")) == NULL || fputs(text, f) == EOF ||
	    fclose(f) == EOF || rename(tmp, path) == -1)
		abort();
}

static inline int
wipe_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return (remove(path));
}

/* wipe_in - the folder is gone with all that is in it */
static inline void
wipe_in(const char *dir)
{
	(void)nftw(dir, wipe_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
