/* SPDX-License-Identifier: ISC */

/*
 * recordings - files for what milters and listeners record
 *
 * A receiver asks for a file of a milter's or listener's directory and gets a
 * descriptor; which directory, what name and how many is decided here, from
 * the settings.  A receiver that was taken over can fill the directory up to
 * its bounds, no more.
 */

#include "core/supervisor/sup.h"

#include "milter-sdk/base/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	FILES_MAX = 1000, /* in one directory, of ours */
	FILES_LEFT = 900, /* then the oldest go */
	RECOUNT = 50,     /* files made between two looks */
	NAME_LEN = 96
};

static const char suffix[] = ".milrec";

static int
make_one(const char *path, bool root, uid_t uid, gid_t gid)
{
	if ((mkdir(path, 0700) == -1 && errno != EEXIST) ||
	    (root && chown(path, uid, gid) == -1)) {
		log_err(
		    "supervisor: record: path=%s: %s", path, strerror(errno));
		return (-1);
	}
	return (0);
}

int
recordings_prepare(const struct settings *s, bool root, uid_t uid, gid_t gid)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < s->n_milters; i++)
		if (s->milters[i].record != NULL)
			rc |= make_one(s->milters[i].record, root, uid, gid);
	for (i = 0; i < s->n_listeners; i++)
		if (s->listeners[i].record != NULL)
			rc |= make_one(s->listeners[i].record, root, uid, gid);
	return (rc);
}

/* find_dir - where the milter's recordings go; its name as the settings have it
 */
static const char *
find_dir(const struct settings *s, const char *milter, const char *listener,
    const char **name_r)
{
	const char *dir = NULL;
	size_t i;

	for (i = 0; i < s->n_listeners; i++)
		if (strcmp(s->listeners[i].name, listener) == 0)
			dir = s->listeners[i].record;
	for (i = 0; i < s->n_milters; i++)
		if (strcmp(s->milters[i].name, milter) == 0) {
			*name_r = s->milters[i].name;
			return (s->milters[i].record != NULL
			        ? s->milters[i].record
			        : dir);
		}
	return (NULL);
}

static int
is_ours(const struct dirent *de)
{
	size_t n = strlen(de->d_name), k = sizeof(suffix) - 1;

	return (
	    n > k && n < NAME_LEN && strcmp(de->d_name + n - k, suffix) == 0);
}

/* expire - names begin with the time, so the first ones are the oldest */
static void
expire(const char *path, int dir)
{
	struct dirent **list;
	int i, n = scandir(path, &list, is_ours, alphasort);

	for (i = 0; i < n; i++) {
		if (n >= FILES_MAX && i < n - FILES_LEFT &&
		    unlinkat(dir, list[i]->d_name, 0) == -1)
			log_warning("supervisor: record: %s/%s: %s", path,
			    list[i]->d_name, strerror(errno));
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

/* make_file - a new one, or -1 */
static int
make_file(const char *path, const char *milter)
{
	static unsigned made;
	char name[NAME_LEN], stamp[32];
	struct timespec ts;
	struct tm tm;
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	(void)strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", &tm);
	(void)snprintf(name, sizeof(name), "%s.%09ld-%.32s%s", stamp,
	    ts.tv_nsec, milter, suffix);
	if (dir != -1) {
		if (made++ % RECOUNT == 0)
			expire(path, dir);
		fd = openat(dir, name,
		    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (fd == -1)
		log_warning("supervisor: record: %s/%s: %s", path, name,
		    strerror(errno));
	if (dir != -1)
		(void)close(dir);
	return (fd);
}

void
recordings_asked(struct process *p, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	const char *milter = unpack_str(&u), *listener = unpack_str(&u);
	const char *dir, *name = NULL;
	struct buf none = BUF_INIT(16);
	int fd = -1;

	if (unpack_end(&u) == -1 || p->ops == NULL || p->control == NULL ||
	    p->ops->kind != PROC_RECEIVER)
		return;
	dir = find_dir(p->sup->settings, milter, listener, &name);
	if (dir != NULL)
		fd = make_file(dir, name);
	if (chan_send_buf(p->control, MSG_RECORDING_R, f->ref, &none, fd) ==
	        -1 &&
	    fd != -1)
		(void)close(fd);
}
