/* SPDX-License-Identifier: ISC */

/*
 * id - queue ids
 *
 * Seven characters of time in milliseconds (enough until 2081), two of a
 * counter within the millisecond, six of a random number of the process.  The
 * time never goes back within a process: when the clock does, or when 3844 ids
 * were made in one millisecond, it runs ahead of the clock.
 */

#include "core/smtp/id.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { TIME_CHARS = 7, COUNT_CHARS = 2, KEY_CHARS = 6, COUNTS = 62 * 62 };

static char *
base62(char *out, uint64_t v, int n)
{
	static const char digits[] = "0123456789"
	                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                             "abcdefghijklmnopqrstuvwxyz";
	int i;

	for (i = n - 1; i >= 0; i--) {
		out[i] = digits[v % 62];
		v /= 62;
	}
	return (out + n);
}

void
queue_id_make(char out[ENV_ID_MAX])
{
	static uint64_t key, last_ms;
	static unsigned count;
	static pid_t pid;
	struct timespec now;
	uint64_t ms;

	if (pid != getpid()) { /* the first here: a fork copied the key */
		while (getrandom(&key, sizeof(key), 0) != sizeof(key))
			if (errno != EINTR)
				abort();
		pid = getpid();
	}
	(void)clock_gettime(CLOCK_REALTIME, &now);
	ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	if (ms > last_ms) {
		last_ms = ms;
		count = 0;
	} else if (++count == COUNTS) {
		last_ms++;
		count = 0;
	}
	out = base62(out, last_ms, TIME_CHARS);
	out = base62(out, count, COUNT_CHARS);
	out = base62(out, key, KEY_CHARS);
	*out = '\0';
}
