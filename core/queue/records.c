/* SPDX-License-Identifier: ISC */

/*
 * records - day files of decision records
 *
 * They explain what was decided; they are not the mail.  So they are written
 * in batches, without a sync, and bounded in number and size.
 */

#include "core/queue/records.h"

#include "milter-sdk/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAME_LEN = 16 }; /* "2026-01-31.jsonl" */

int
records_open(struct records *r, const char *spool_dir, unsigned keep)
{
	int top = open(spool_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	memset(r, 0, sizeof(*r));
	r->dir = r->fd = -1;
	r->keep = keep > 0 ? keep : 1;
	r->out.max = RECORDS_BUFFER + RECORD_MAX + 1;
	if (top == -1)
		return (-1);
	if (mkdirat(top, "records", 0700) == 0 || errno == EEXIST)
		r->dir =
		    openat(top, "records", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)close(top);
	return (r->dir == -1 ? -1 : 0);
}

void
records_close(struct records *r)
{
	records_flush(r);
	if (r->fd != -1)
		(void)close(r->fd);
	if (r->dir != -1)
		(void)close(r->dir);
	r->fd = r->dir = -1;
	buf_fini(&r->out);
}

static bool
is_day_file(const char *name)
{
	static const char form[] = "dddd-dd-dd.jsonl";
	size_t i;

	for (i = 0; i < NAME_LEN; i++)
		if (form[i] == 'd' ? name[i] < '0' || name[i] > '9'
		                   : name[i] != form[i])
			return (false);
	return (name[i] == '\0');
}

static int
newest_first(const void *a, const void *b)
{
	return (memcmp(b, a, NAME_LEN));
}

char (*records_days(struct records *r, size_t *n_r))[NAME_LEN]
{
	char(*names)[NAME_LEN] = NULL, (*more)[NAME_LEN];
	size_t n = 0, cap = 0;
	struct dirent *de;
	int fd = openat(r->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd != -1 ? fdopendir(fd) : NULL;

	*n_r = 0;
	if (d == NULL) {
		if (fd != -1)
			(void)close(fd);
		return (NULL);
	}
	while ((de = readdir(d)) != NULL) {
		if (!is_day_file(de->d_name))
			continue;
		if (n == cap) {
			cap = cap == 0 ? 64 : 2 * cap;
			more = reallocarray(names, cap, NAME_LEN);
			if (more == NULL)
				break;
			names = more;
		}
		memcpy(names[n++], de->d_name, NAME_LEN);
	}
	(void)closedir(d);
	if (n > 0)
		qsort(names, n, NAME_LEN, newest_first);
	*n_r = n;
	return (names);
}

/* expire - files beyond the number to keep */
static void
expire(struct records *r)
{
	char name[NAME_LEN + 1];
	size_t i, n;
	char(*names)[NAME_LEN] = records_days(r, &n);

	for (i = r->keep; i < n; i++) {
		memcpy(name, names[i], NAME_LEN);
		name[NAME_LEN] = '\0';
		if (unlinkat(r->dir, name, 0) == -1)
			log_warning("records: %s: %s", name, strerror(errno));
	}
	free(names);
}

/* open_day - the file of that day, made if it is missing */
static int
open_day(struct records *r, long day)
{
	time_t t = (time_t)day * 86400;
	char name[64];
	struct stat st;
	struct tm tm;

	if (r->fd != -1)
		(void)close(r->fd);
	r->day = day;
	r->dropped = r->size = 0;
	(void)gmtime_r(&t, &tm);
	(void)strftime(name, sizeof(name), "%Y-%m-%d.jsonl", &tm);
	r->fd = openat(
	    r->dir, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (r->fd == -1) {
		log_err("records: %s: %s", name, strerror(errno));
		return (-1);
	}
	if (fstat(r->fd, &st) == 0)
		r->size = (uint64_t)st.st_size;
	expire(r);
	return (0);
}

void
records_flush(struct records *r)
{
	ssize_t n;

	if (r->out.len == 0)
		return;
	n = r->fd != -1 ? write(r->fd, r->out.data, r->out.len) : -1;
	/* A line cut short by a full disk would spoil the next one. */
	if (n > 0 && (size_t)n < r->out.len)
		(void)!write(r->fd, "\n", 1);
	if (n != (ssize_t)r->out.len && r->dropped++ == 0)
		log_warning(
		    "records: write: %s", n == -1 ? strerror(errno) : "short");
	if (n > 0)
		r->size += (uint64_t)n;
	r->out.len = 0;
	if (r->out.cap > 2 * RECORDS_BUFFER)
		buf_fini(&r->out);
}

int
records_add(struct records *r, const char *text, size_t len, uint64_t now_ms)
{
	long day = (long)(now_ms / 86400000);

	if (len == 0 || len > RECORD_MAX || memchr(text, '\n', len) != NULL ||
	    memchr(text, '\0', len) != NULL) {
		errno = EINVAL;
		return (-1);
	}
	if (r->fd == -1 || day != r->day) {
		records_flush(r);
		if (open_day(r, day) == -1)
			return (0); /* logged; the mail goes on */
	}
	if (r->size + r->out.len + len + 1 > RECORDS_DAY_MAX) {
		if (r->dropped++ == 0)
			log_warning("records: day file full: further "
			            "records are dropped");
		return (0);
	}
	if (buf_add(&r->out, text, len) == -1 ||
	    buf_add(&r->out, "\n", 1) == -1)
		return (-1);
	if (r->out.len >= RECORDS_BUFFER)
		records_flush(r);
	return (0);
}
