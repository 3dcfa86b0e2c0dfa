/* SPDX-License-Identifier: ISC */

/*
 * fuzz.h - what targets have in common
 *
 * libFuzzer's entry points, a check that is never compiled out, and files for
 * code that reads a file by its name.
 */

#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *, char ***);
int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static inline void
check(bool ok)
{
	if (!ok)
		abort();
}

/* fuzz_file - a file in memory, and its name behind a prefix */
static inline int
fuzz_file(const char *prefix, char *path, size_t room)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	check(fd != -1);
	snprintf(path, room, "%s/proc/self/fd/%d", prefix, fd);
	return (fd);
}

static inline void
fuzz_file_set(int fd, const void *p, size_t n)
{
	check(ftruncate(fd, 0) == 0);
	check(pwrite(fd, p, n, 0) == (ssize_t)n);
}

/* fuzz_folder - a folder in memory, which done removes at the end */
static inline void
fuzz_folder(char *dir, size_t room, void (*done)(void))
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, room, "%s/fuzz-XXXXXX", tmp != NULL ? tmp : "/dev/shm");
	check(mkdtemp(dir) != NULL && atexit(done) == 0);
}

#endif
