/* SPDX-License-Identifier: ISC */

/*
 * lazy_write - preloaded: what is written to the journal reaches the file some
 * writes later
 *
 * A gateway under this shim answers 250 before the journal write: the negative
 * control of the kill test, which must notice that mail is lost.  What makes a
 * new file (its first block, its zeros) is written at once: only a spool that
 * can be opened can lose mail.
 */

#include <stdbool.h>
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
	/* Its segment may have been closed meanwhile: lost, as it should be. */
	(void)!pwrite(held[i].fd, held[i].data, held[i].n, held[i].off);
	free(held[i].data);
	held[i].data = NULL;
}

static bool
all_zero(const struct iovec *iov)
{
	const char *p = iov->iov_base;

	return (iov->iov_len > 0 && p[0] == '\0' &&
	    memcmp(p, p + 1, iov->iov_len - 1) == 0);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	unsigned long slot;
	size_t len = 0;
	int i;

	if (off == 0 || (n == 1 && all_zero(iov)))
		return (pwrite(fd, iov[0].iov_base, iov[0].iov_len, off));
	slot = count++ % HELD;
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
