/* SPDX-License-Identifier: ISC */

/*
 * salvage - live messages out of a spool, as files that any tool can read
 *
 * Content is checked before the first byte is written and while it is written;
 * what does not match leaves under a name that says so.
 */

#include "core/spool/tool/tool.h"
#include "milter-sdk/base/crc32c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 80 };

/* copy - the bytes at the message's place, good or not; the CRC over them */
static int
copy(struct view *v, const struct item *it, FILE *f, uint32_t *crc_r)
{
	char room[65536];
	uint64_t done;
	ssize_t n;
	int fd, e = 0;

	*crc_r = 0;
	if ((fd = spool_file_fd(v->sp, it->place.file)) == -1)
		return (-1);
	for (done = 0; done < it->place.length && e == 0;) {
		size_t want = sizeof(room);

		if (want > it->place.length - done)
			want = (size_t)(it->place.length - done);
		n = pread(fd, room, want, (off_t)(it->place.offset + done));
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0) {
			e = n == 0 ? EPROTO : errno;
			break;
		}
		*crc_r = crc32c(*crc_r, room, (size_t)n);
		if (fwrite(room, 1, (size_t)n, f) != (size_t)n)
			e = errno;
		done += (uint64_t)n;
	}
	close(fd);
	errno = e;
	return (e == 0 ? 0 : -1);
}

int
content_copy(struct view *v, const struct item *it, FILE *f)
{
	uint32_t crc;

	if (spool_verify_content(v->sp, it->seq) == -1 ||
	    copy(v, it, f, &crc) == -1)
		return (-1);
	if (crc != it->place.crc) {
		errno = EPROTO;
		return (-1);
	}
	return (0);
}

/* create - a new file in dir for writing; never one that is there */
static FILE *
create(int dir, const char *base, const char *end)
{
	char name[NAME_MAX_BYTES];
	FILE *f;
	int fd;

	snprintf(name, sizeof(name), "%s%s", base, end);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd == -1)
		return (NULL);
	if ((f = fdopen(fd, "w")) == NULL)
		close(fd);
	return (f);
}

/* finish - durable, or -1 */
static int
finish(FILE *f)
{
	int bad = ferror(f) || fflush(f) == EOF || fsync(fileno(f)) == -1;
	int e = errno;

	if (fclose(f) == EOF || bad) {
		errno = bad ? e : errno;
		return (-1);
	}
	return (0);
}

/* base_name - ID if it is unique and safe as a file name, else with the number
 * of the message */
static void
base_name(int dir, const struct item *it, char out[NAME_MAX_BYTES - 16])
{
	char name[NAME_MAX_BYTES];
	size_t n = strspn(it->id,
	    "0123456789abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ-");
	struct stat st;

	snprintf(out, NAME_MAX_BYTES - 16, "%s", it->id);
	snprintf(name, sizeof(name), "%s.json", it->id);
	if (n == 0 || it->id[n] != '\0' || it->id[0] == '-')
		snprintf(out, NAME_MAX_BYTES - 16, "message-%" PRIu64, it->seq);
	else if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		snprintf(
		    out, NAME_MAX_BYTES - 16, "%s.%" PRIu64, it->id, it->seq);
}

/* one - a message to its two files; 0, 1 when its content is damaged */
static int
one(struct view *v, const struct item *it, int dir)
{
	char base[NAME_MAX_BYTES - 16];
	struct buf b = BUF_INIT((size_t)64 << 20);
	bool intact = spool_verify_content(v->sp, it->seq) == 0;
	uint32_t crc = 0;
	FILE *f;
	int r = -1, e;

	base_name(dir, it, base);
	if ((f = create(dir, base, intact ? ".eml" : ".damaged.eml")) == NULL)
		return (-1);
	if (copy(v, it, f, &crc) == -1 && intact) {
		e = errno;
		(void)fclose(f);
		errno = e;
		return (-1);
	}
	if (finish(f) == -1)
		return (-1);
	if (intact && crc != it->place.crc) { /* changed under our hands */
		errno = EPROTO;
		return (-1);
	}
	if (buf_add(&b, "{", 1) == -1 || item_json(v, it, intact, &b) == -1 ||
	    buf_add(&b, "}\n", 2) == -1)
		goto done;
	if ((f = create(dir, base, ".json")) == NULL)
		goto done;
	(void)fwrite(b.data, 1, b.len, f);
	if (finish(f) == -1)
		goto done;
	r = intact ? 0 : 1;
done:
	e = errno;
	buf_fini(&b);
	errno = e;
	return (r);
}

/* open_empty - the folder, made if missing; refused with EEXIST when something
 * is in it, since a second run would mix with the first */
static int
open_empty(const char *path)
{
	struct dirent *d;
	size_t n = 0;
	DIR *dp;
	int fd;

	if (mkdir(path, 0700) == -1 && errno != EEXIST)
		return (-1);
	if ((dp = opendir(path)) == NULL)
		return (-1);
	while ((d = readdir(dp)) != NULL)
		n +=
		    strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	fd = n == 0 ? fcntl(dirfd(dp), F_DUPFD_CLOEXEC, 0) : -1;
	closedir(dp);
	if (n > 0)
		errno = ENOTEMPTY;
	return (fd);
}

int
salvage(struct view *v, const char *path)
{
	int dir = open_empty(path), r = 0, this;
	size_t i, good = 0, bad = 0;

	if (dir == -1)
		return (-1);
	for (i = 0; i < v->n_items; i++) {
		this = one(v, &v->items[i], dir);
		good += this == 0;
		bad += this == 1;
		/* finished meanwhile by a gateway beside us, or damaged: the
		 * others go on; a folder that can not be written stops */
		if (this == -1 && errno != ENOENT && errno != EPROTO &&
		    errno != EIO) {
			r = -1;
			break;
		}
		if (this != 0) {
			fprintf(stderr,
			    "milldam-spool: message %" PRIu64 " (%s): %s\n",
			    v->items[i].seq, v->items[i].id,
			    this == 1 ? "content is damaged"
			              : "can not be read");
			r = 1;
		}
	}
	if (r != -1 && fsync(dir) == -1)
		r = -1;
	close(dir);
	if (r != -1)
		printf("%zu salvaged, %zu with damaged content\n", good, bad);
	return (r);
}
