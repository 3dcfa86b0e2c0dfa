/* SPDX-License-Identifier: ISC */
#ifndef CORE_SPOOL_SPOOL_IO_H
#define CORE_SPOOL_SPOOL_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/*
 * Every call by which the spool touches the disk, so that a simulator can take
 * its place.  Each returns as the system call of its name does: -1 with errno,
 * short counts included.  sync and syncdir are also called from the sync
 * thread.
 */
struct spool_io {
	int (*openat)(int dir, const char *name, int flags, mode_t);
	int (*close)(int fd);
	ssize_t (*pread)(int fd, void *, size_t, off_t);
	ssize_t (*pwritev)(int fd, const struct iovec *, int n, off_t);
	int (*sync)(int fd);    /* fdatasync */
	int (*syncdir)(int fd); /* fsync of a folder */
	int (*truncate)(int fd, off_t);
	/* blocks for so many bytes, which read as zeros; EOPNOTSUPP */
	int (*allocate)(int fd, off_t);
	int (*rename)(int dir, const char *from, const char *to);
	int (*unlink)(int dir, const char *name);
	int (*link)(int fd, int dir, const char *name); /* give fd a name */
	int (*mkdir)(int dir, const char *name, mode_t);
	int (*size)(int fd, uint64_t *size_r);
	/* every name in the folder; -1 with errno */
	int (*list)(int dir, void (*each)(void *, const char *), void *);
	int (*space)(int dir, uint64_t *free_r); /* bytes left for us */
};

extern const struct spool_io spool_io_os;

/* io_write, io_read - all of n bytes, or -1 with errno (EIO at end of file) */
int io_write(const struct spool_io *, int fd, const void *, size_t n, off_t)
    __attribute__((__warn_unused_result__));
int io_read(const struct spool_io *, int fd, void *, size_t n, off_t)
    __attribute__((__warn_unused_result__));

#endif
