/* SPDX-License-Identifier: ISC */

/*
 * slow_sync - preloaded: each flush of a file takes SLOW_SYNC_MS longer
 */

#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long delay_ms;

__attribute__((__constructor__)) static void
setup(void)
{
	const char *ms = getenv("SLOW_SYNC_MS");

	delay_ms = ms != NULL ? atol(ms) : 0;
}

int
fdatasync(int fd)
{
	static int (*real)(int);
	struct timespec t = { delay_ms / 1000, delay_ms % 1000 * 1000000 };

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
	(void)nanosleep(&t, NULL);
	return (real(fd));
}
