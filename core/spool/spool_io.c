/* SPDX-License-Identifier: ISC */

/* spool_io - the system calls behind struct spool_io */

#include "core/spool/spool_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int
os_openat(int dir, const char *name, int flags, mode_t mode)
{
	return (openat(dir, name, flags | O_CLOEXEC, mode));
}

static ssize_t
os_pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	return (pwritev(fd, iov, n, off));
}

static int
os_allocate(int fd, off_t n)
{
	return (fallocate(fd, 0, 0, n));
}

static int
os_rename(int dir, const char *from, const char *to)
{
	return (renameat(dir, from, dir, to));
}

static int
os_unlink(int dir, const char *name)
{
	return (unlinkat(dir, name, 0));
}

/* os_link - AT_EMPTY_PATH needs a capability on older kernels, the other way
 * needs /proc: whichever works */
static int
os_link(int fd, int dir, const char *name)
{
	char proc[40];

	if (linkat(fd, "", dir, name, AT_EMPTY_PATH) == 0)
		return (0);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return (linkat(AT_FDCWD, proc, dir, name, AT_SYMLINK_FOLLOW));
}

static int
os_space(int dir, uint64_t *free_r)
{
	struct statvfs v;

	if (fstatvfs(dir, &v) == -1)
		return (-1);
	*free_r = (uint64_t)v.f_bavail * v.f_frsize;
	return (0);
}

static int
os_size(int fd, uint64_t *size_r)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return (-1);
	*size_r = (uint64_t)st.st_size;
	return (0);
}

static int
os_list(int dir, void (*each)(void *, const char *), void *arg)
{
	struct dirent *d;
	DIR *dp;
	int fd;

	if ((fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return (-1);
	if ((dp = fdopendir(fd)) == NULL) {
		close(fd);
		return (-1);
	}
	while ((d = readdir(dp)) != NULL)
		each(arg, d->d_name);
	closedir(dp);
	return (0);
}

const struct spool_io spool_io_os = {
	.openat = os_openat,
	.close = close,
	.pread = pread,
	.pwritev = os_pwritev,
	.sync = fdatasync,
	.syncdir = fsync,
	.truncate = ftruncate,
	.allocate = os_allocate,
	.rename = os_rename,
	.unlink = os_unlink,
	.link = os_link,
	.mkdir = mkdirat,
	.size = os_size,
	.list = os_list,
	.space = os_space,
};

int
io_write(const struct spool_io *io, int fd, const void *p, size_t n, off_t off)
{
	const char *c = p;
	struct iovec iov;
	ssize_t r;

	while (n > 0) {
		iov.iov_base = (void *)(uintptr_t)c;
		iov.iov_len = n;
		if ((r = io->pwritev(fd, &iov, 1, off)) == -1) {
			if (errno == EINTR)
				continue;
			return (-1);
		}
		if (r == 0) {
			errno = EIO;
			return (-1);
		}
		c += r;
		n -= (size_t)r;
		off += r;
	}
	return (0);
}

int
io_read(const struct spool_io *io, int fd, void *p, size_t n, off_t off)
{
	char *c = p;
	ssize_t r;

	while (n > 0) {
		if ((r = io->pread(fd, c, n, off)) == -1) {
			if (errno == EINTR)
				continue;
			return (-1);
		}
		if (r == 0) {
			errno = EIO;
			return (-1);
		}
		c += r;
		n -= (size_t)r;
		off += r;
	}
	return (0);
}
