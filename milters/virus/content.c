/* SPDX-License-Identifier: ISC */

/*
 * content - the message as libclamav must see it
 *
 * The first line makes libclamav take it for mail whatever field comes first:
 * it decides by the first bytes, and knows only some fields.
 */

#include "milters/virus/content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* put_value - a value as the MTA sent it, its line ends made CRLF */
static void
put_value(FILE *f, const char *value)
{
	size_t n;

	for (;;) {
		n = strcspn(value, "\n");
		(void)fwrite(value, 1, n, f);
		(void)fputs("\r\n", f);
		if (value[n] == '\0')
			return;
		value += n + 1;
	}
}

static void
put_header(FILE *f, const struct mill_txn *txn)
{
	const size_t n = mill_n_headers(txn);
	const char *value;
	size_t i;

	(void)fputs("From milldam\r\n", f);
	for (i = 0; i < n; i++) {
		value = mill_header_raw(txn, i);
		(void)fprintf(f, "%s:%s", mill_header_name(txn, i),
		    *value == ' ' || *value == '\t' ? "" : " ");
		put_value(f, value);
	}
	(void)fputs("\r\n", f);
}

/* seal - no change from now on, by anyone */
static int
seal(int fd)
{
	return (fcntl(fd, F_ADD_SEALS,
	    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
}

int
content_make(const struct mill_txn *txn, uint64_t *len_r)
{
	const char *body;
	FILE *f;
	size_t len;
	off_t end;
	int fd, dup_fd;

	fd = memfd_create("message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd == -1)
		return (-1);
	/* The stream has a descriptor of its own: it closes that one. */
	if ((dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) == -1 ||
	    (f = fdopen(dup_fd, "we")) == NULL) {
		if (dup_fd != -1)
			(void)close(dup_fd);
		(void)close(fd);
		return (-1);
	}
	put_header(f, txn);
	body = mill_body(txn, &len);
	(void)fwrite(body, 1, len, f);
	if ((ferror(f) | fclose(f)) != 0 || seal(fd) == -1 ||
	    (end = lseek(fd, 0, SEEK_END)) == -1 ||
	    lseek(fd, 0, SEEK_SET) == -1) {
		(void)close(fd);
		return (-1);
	}
	*len_r = (uint64_t)end;
	return (fd);
}
