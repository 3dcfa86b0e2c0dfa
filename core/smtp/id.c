/* SPDX-License-Identifier: ISC */

/*
 * id - queue ids
 *
 * Made by receivers for what they accept and by the queue for its bounces,
 * without asking each other: a random number per process keeps them apart,
 * the counter those of one second.
 */

#include "core/smtp/id.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { TIME_CHARS = 6, PROCESS_CHARS = 5, COUNTER_CHARS = 4 };

static const char digits[] =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* put - v modulo 62^n as n characters */
static char *
put(char *out, uint64_t v, unsigned n)
{
	unsigned i;

	for (i = n; i-- > 0; v /= 62)
		out[i] = digits[v % 62];
	return (out + n);
}

void
queue_id_make(char out[ENV_ID_MAX])
{
	static uint64_t process, counter;
	static pid_t owner;
	pid_t self = getpid();
	char *p = out;

	if (owner != self) { /* first use, or the child of a fork */
		if (getrandom(&process, sizeof(process), 0) != sizeof(process))
			abort();
		owner = self;
	}
	p = put(p, (uint64_t)time(NULL), TIME_CHARS);
	p = put(p, process, PROCESS_CHARS);
	p = put(p, counter++, COUNTER_CHARS);
	*p = '\0';
}

uint64_t
queue_id_time(const char *id)
{
	uint64_t now = (uint64_t)time(NULL), v = 0;
	const char *p;
	int i;

	if (!queue_id_ok(id))
		return (0);
	for (i = 0; i < TIME_CHARS; i++) {
		p = strchr(digits, id[i]);
		v = 62 * v + (uint64_t)(p - digits);
	}
	/* Six characters last for 1,800 years; an id of another making gives
	 * a time that is no time of ours. */
	return (v > 1577836800 && v <= now + 86400 ? v : 0);
}

bool
queue_id_ok(const char *id)
{
	size_t n = strspn(id, digits);

	if (n < 12 || n > 16)
		return (false);
	if (id[n] == '\0')
		return (true);
	if (id[n] != '-' || id[n + 1] < '1' || id[n + 1] > '9')
		return (false);
	id += n + 1;
	n = strspn(id, "0123456789");
	return (n <= 5 && id[n] == '\0');
}
