/* SPDX-License-Identifier: ISC */

/*
 * lazy_write - preloaded: what is written to the journal reaches the file some
 * writes later
 *
 * A gateway under this shim answers 250 before the journal write: the negative
 * control of the kill test, which must notice that mail is lost.
 */

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HELD = 64 };

static struct {
	int fd;
	void *data;
	size_t n;
	off_t off;
} held[HELD];
static unsigned long count;

static void
release(unsigned long i)
{
	if (held[i].data == NULL)
		return;
	if (pwrite(held[i].fd, held[i].data, held[i].n, held[i].off) == -1)
		abort();
	free(held[i].data);
	held[i].data = NULL;
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	unsigned long slot = count++ % HELD;
	size_t len = 0;
	int i;

	release(slot);
	for (i = 0; i < n; i++)
		len += iov[i].iov_len;
	if ((held[slot].data = malloc(len + 1)) == NULL)
		abort();
	held[slot].fd = fd;
	held[slot].off = off;
	held[slot].n = len;
	for (len = 0, i = 0; i < n; i++) {
		memcpy((char *)held[slot].data + len, iov[i].iov_base,
		    iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return ((ssize_t)len);
}
