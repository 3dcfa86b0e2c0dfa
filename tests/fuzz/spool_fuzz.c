/* SPDX-License-Identifier: ISC */

/*
 * spool_fuzz - recovery and reading back, on segments of any content
 *
 * Input: a byte of flags, a u16, the records of one segment, or of two divided
 * at the u16.  Checksums and generations are put right in every record
 * whose reserved field is zero, or nothing would get past them.  The files lie
 * in memory.
 *
 * What must hold: no crash or leak; the gateway finds the same messages as a
 * reader; content that verifies is what is read; after messages were dropped
 * and one was added, just that one is found.
 *
 * coverage: core/spool/record.c core/spool/recover.c
 * coverage: core/spool/read.c core/spool/segment.c
 */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/log.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* each damaged record becomes a file */
enum { FILES = 512, FDS = 64, FD_BASE = 5000, SEGMENT = SEG_MIN, BODY = 100 };
enum flag { WRITE = 1, TWO = 2, BAD_FORMAT = 4, SHORT = 8, BAD_HEAD = 16 };

static const uint64_t salt = 0x5a17;

struct mem {
	char name[64];
	unsigned char *data;
	size_t len, cap;
	unsigned fds;
};

static struct mem files[FILES];
static struct mem *fds[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dir[128];
static int dir_fd;

static struct mem *
named(const char *name)
{
	size_t i;

	for (i = 0; i < FILES; i++)
		if (strcmp(files[i].name, name) == 0 && name[0] != '\0')
			return (&files[i]);
	return (NULL);
}

/* gone - free a file that has neither name nor descriptor */
static void
gone(struct mem *m)
{
	if (m == NULL || m->name[0] != '\0' || m->fds > 0)
		return;
	free(m->data);
	memset(m, 0, sizeof(*m));
}

static struct mem *
create(const char *name)
{
	size_t i;

	for (i = 0; i < FILES; i++)
		if (files[i].name[0] == '\0' && files[i].fds == 0) {
			snprintf(
			    files[i].name, sizeof(files[i].name), "%s", name);
			return (&files[i]);
		}
	return (NULL);
}

static int
mem_openat(int at, const char *name, int flags, mode_t mode)
{
	struct mem *m;
	int i, fd = -1;

	(void)mode;
	if (flags & O_DIRECTORY)
		return (dup(dir_fd));
	(void)at;
	pthread_mutex_lock(&lock);
	m = named(name);
	if (m == NULL && !(flags & O_CREAT))
		errno = ENOENT;
	else if (m != NULL && flags & O_EXCL)
		errno = EEXIST;
	else if ((m == NULL && (m = create(name)) == NULL))
		errno = ENOSPC;
	else
		for (i = 0; i < FDS && fd == -1; i++)
			if (fds[i] == NULL) {
				fds[i] = m;
				m->fds++;
				fd = FD_BASE + i;
			}
	pthread_mutex_unlock(&lock);
	return (fd);
}

static int
mem_close(int fd)
{
	struct mem *m;

	if (fd < FD_BASE)
		return (close(fd));
	pthread_mutex_lock(&lock);
	m = fds[fd - FD_BASE];
	if (m == NULL)
		abort(); /* closed twice */
	fds[fd - FD_BASE] = NULL;
	m->fds--;
	gone(m);
	pthread_mutex_unlock(&lock);
	return (0);
}

static ssize_t
mem_pread(int fd, void *p, size_t n, off_t off)
{
	struct mem *m;

	pthread_mutex_lock(&lock);
	m = fds[fd - FD_BASE];
	if (off < 0 || (uint64_t)off >= m->len)
		n = 0;
	else if (n > m->len - (size_t)off)
		n = m->len - (size_t)off;
	if (n > 0)
		memcpy(p, m->data + off, n);
	pthread_mutex_unlock(&lock);
	return ((ssize_t)n);
}

static void
put(struct mem *m, const void *p, size_t n, size_t off)
{
	size_t cap = m->cap == 0 ? 1024 : m->cap;

	while (cap < off + n)
		cap *= 2;
	if (cap > m->cap && (m->data = realloc(m->data, cap)) == NULL)
		abort();
	m->cap = cap;
	if (off > m->len)
		memset(m->data + m->len, 0, off - m->len);
	memcpy(m->data + off, p, n);
	if (off + n > m->len)
		m->len = off + n;
}

static ssize_t
mem_pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	if (n != 1 || off < 0 || off > 64 * SEGMENT)
		abort();
	pthread_mutex_lock(&lock);
	put(fds[fd - FD_BASE], iov->iov_base, iov->iov_len, (size_t)off);
	pthread_mutex_unlock(&lock);
	return ((ssize_t)iov->iov_len);
}

static int
mem_sync(int fd)
{
	(void)fd;
	return (0);
}

static int
mem_allocate(int fd, off_t n)
{
	pthread_mutex_lock(&lock);
	if (n > 0 && (size_t)n > fds[fd - FD_BASE]->len)
		put(fds[fd - FD_BASE], "", 1, (size_t)n - 1);
	pthread_mutex_unlock(&lock);
	return (0);
}

static int
mem_truncate(int fd, off_t n)
{
	(void)fd;
	(void)n;
	abort();
}

static int
mem_unlink(int at, const char *name)
{
	struct mem *m;

	(void)at;
	pthread_mutex_lock(&lock);
	if ((m = named(name)) != NULL) {
		m->name[0] = '\0';
		gone(m);
	}
	pthread_mutex_unlock(&lock);
	errno = ENOENT;
	return (m != NULL ? 0 : -1);
}

static int
mem_rename(int at, const char *from, const char *to)
{
	struct mem *m;

	(void)mem_unlink(at, to);
	pthread_mutex_lock(&lock);
	if ((m = named(from)) != NULL)
		snprintf(m->name, sizeof(m->name), "%s", to);
	pthread_mutex_unlock(&lock);
	errno = ENOENT;
	return (m != NULL ? 0 : -1);
}

static int
mem_link(int fd, int at, const char *name)
{
	(void)fd;
	(void)at;
	(void)name;
	errno = EXDEV;
	return (-1);
}

static int
mem_mkdir(int at, const char *name, mode_t mode)
{
	(void)at;
	(void)name;
	(void)mode;
	return (0);
}

static int
mem_size(int fd, uint64_t *size_r)
{
	*size_r = fds[fd - FD_BASE]->len;
	return (0);
}

static int
mem_list(int at, void (*each)(void *, const char *), void *arg)
{
	static char names[FILES][64];
	size_t i;

	(void)at;
	for (i = 0; i < FILES; i++)
		memcpy(names[i], files[i].name, sizeof(names[i]));
	for (i = 0; i < FILES; i++)
		if (names[i][0] != '\0' && strchr(names[i], '/') == NULL)
			each(arg, names[i]);
	return (0);
}

static int
mem_space(int at, uint64_t *free_r)
{
	(void)at;
	*free_r = UINT64_MAX;
	return (0);
}

static const struct spool_io io = {
	.openat = mem_openat,
	.close = mem_close,
	.pread = mem_pread,
	.pwritev = mem_pwritev,
	.sync = mem_sync,
	.syncdir = mem_sync,
	.truncate = mem_truncate,
	.allocate = mem_allocate,
	.rename = mem_rename,
	.unlink = mem_unlink,
	.link = mem_link,
	.mkdir = mem_mkdir,
	.size = mem_size,
	.list = mem_list,
	.space = mem_space,
};

static void
num(unsigned char *p, uint64_t v, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t
val(const unsigned char *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return (v);
}

/* mend_message - the checksums inside of a message's payload */
static void
mend_message(unsigned char *p, size_t n)
{
	size_t meta = n >= MSG_FIXED ? val(p, 4) : SIZE_MAX;

	if (meta > n - MSG_FIXED || n < MSG_FIXED)
		return;
	num(p + 4, crc32c(0, p + MSG_FIXED, meta), 4);
	if (val(p + 8, 4) == 0)
		num(p + 12,
		    crc32c(0, p + MSG_FIXED + meta, n - MSG_FIXED - meta), 4);
}

/* mend - make records of what looks like them */
static void
mend(unsigned char *p, size_t n, uint64_t gen)
{
	size_t at = 0, len;

	while (at + REC_HEAD <= n) {
		unsigned char *h = p + at;

		at += REC_ALIGN;
		if (val(h, 4) != REC_MAGIC || val(h + 40, 4) != 0)
			continue;
		len = val(h + 8, 4);
		if (len <= n - (at - REC_ALIGN) - REC_HEAD) {
			if (val(h + 4, 4) == REC_MESSAGE ||
			    val(h + 4, 4) == REC_MOVE)
				mend_message(h + REC_HEAD, len);
			num(h + 12, crc32c(0, h + REC_HEAD, len), 4);
			at += rec_size(len) - REC_ALIGN;
		}
		num(h + 24, gen, 8);
		num(h + 44, crc32c(0, h, REC_HEAD - 4), 4);
	}
}

static void
segment(uint64_t n, const unsigned char *data, size_t size, unsigned flags)
{
	unsigned char *p = calloc(1, SEGMENT);
	size_t full;
	char name[NAME_ROOM];

	if (p == NULL)
		abort();
	if (size > SEGMENT / 2)
		size = SEGMENT / 2;
	/* some zeros at the end; a whole segment of them takes long to scan */
	full = SEG_DATA + size + 512;
	memcpy(p, "MILDSEG1", 8);
	num(p + 8, n ^ salt, 8);
	num(p + 16, 50, 8);
	num(p + 24, 50, 8);
	num(p + 32, BODY + 50, 8);
	num(p + 40, full, 8);
	num(p + 48, crc32c(0, p, 48) ^ (flags & BAD_HEAD), 4);
	if (size > 0)
		memcpy(p + SEG_DATA, data, size);
	mend(p + SEG_DATA, size, n ^ salt);
	seg_name(name, "seg", n);
	put(create(name), p, flags & SHORT ? SEG_DATA + size : full, 0);
	free(p);
}

static void
build(const unsigned char *data, size_t size, unsigned flags)
{
	char text[80], name[NAME_ROOM];
	size_t n, at = val(data, 2);

	data += 2;
	size -= 2;
	n = (size_t)snprintf(text, sizeof(text),
	    "milldam spool 1\nsalt %016llx\n", (unsigned long long)salt);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "crc %08x\n",
	    (unsigned)crc32c(0, text, n) ^ (flags & BAD_FORMAT));
	put(create("format"), text, n, 0);
	if (!(flags & TWO) || at > size)
		at = size;
	segment(1, data, at, flags);
	if (flags & TWO)
		segment(2, data + at, size - at, flags & ~(unsigned)BAD_HEAD);
	seg_name(name, "body", BODY);
	put(create(name), "From: a\r\n\r\nbody\r\n", 17, 0);
}

static void
clear(void)
{
	size_t i;

	for (i = 0; i < FDS; i++)
		if (fds[i] != NULL)
			abort(); /* left open */
	for (i = 0; i < FILES; i++) {
		files[i].name[0] = '\0';
		gone(&files[i]);
	}
}

struct seen {
	uint64_t seqs[4096];
	size_t n;
};

static void
found(void *arg, struct spool_found *f)
{
	struct seen *s = arg;
	size_t i, unused = 0;

	for (i = 0; i < f->env.n_rcpts; i++)
		unused += f->states[i] == RCPT_WAITING;
	if (unused == 0 && f->env.n_rcpts > 0)
		abort(); /* it was over */
	if (s->n < 4096)
		s->seqs[s->n++] = f->seq;
	env_fini(&f->env);
}

static void
synced(void *arg, uint64_t seq, bool ok)
{
	(void)arg;
	(void)seq;
	if (!ok)
		abort();
}

static struct spool *
start(struct seen *seen, bool writing)
{
	struct spool_opts o = {
		.dir = dir, .segment_size = SEGMENT, .read_only = !writing
	};
	struct spool_events ev = { found, synced, NULL, seen, NULL };

	seen->n = 0;
	return (spool_open_io(&o, &ev, &io));
}

/* read_back - all that can be asked about one message */
static void
read_back(struct spool *sp, uint64_t seq)
{
	struct buf b = BUF_INIT(SEGMENT * 2);
	struct spool_place pl;
	struct envelope env;
	int fd;

	if (spool_read_envelope(sp, seq, &env) == 0)
		env_fini(&env);
	if (spool_read_record(sp, seq, &b) == -1)
		b.len = 0;
	if (spool_read_received(sp, seq, &b) == -1)
		b.len = 0;
	if (spool_read_origin(sp, seq, &b) == -1)
		b.len = 0;
	b.len = 0;
	if (spool_read_place(sp, seq, &pl) == -1)
		abort(); /* it was found */
	if (spool_verify_content(sp, seq) == 0 &&
	    (spool_read_content(sp, seq, &b, UINT64_MAX) == -1 ||
	        b.len != pl.length || crc32c(0, b.data, b.len) != pl.crc))
		abort();
	b.len = 0;
	(void)!spool_read_content(sp, seq, &b, 5);
	if (spool_pin(sp, pl.file) == 0)
		spool_unpin(sp, pl.file);
	if ((fd = spool_file_fd(sp, pl.file)) != -1)
		(void)io.close(fd);
	buf_fini(&b);
}

/* not_there - what nobody wrote is not found */
static void
not_there(struct spool *sp)
{
	struct buf b = BUF_INIT(100);
	struct spool_place pl;
	struct envelope env;

	if (spool_read_envelope(sp, REC_NUM_MAX + 1, &env) == 0 ||
	    spool_read_content(sp, REC_NUM_MAX + 1, &b, 1) == 0 ||
	    spool_read_record(sp, REC_NUM_MAX + 1, &b) == 0 ||
	    spool_read_place(sp, REC_NUM_MAX + 1, &pl) == 0 ||
	    spool_pin(sp, REC_NUM_MAX + 1) == 0 ||
	    spool_file_fd(sp, REC_NUM_MAX + 1) != -1)
		abort();
	spool_unpin(sp, REC_NUM_MAX + 1);
	while (spool_file_gone(sp) != 0)
		;
	buf_fini(&b);
}

/* change - end each message in one of the ways there are, add one */
static void
change(struct spool *sp, const struct seen *seen)
{
	struct spool_new m = { .fd = -1, .content = "x", .length = 1 };
	struct spool_place pl;
	struct envelope env;
	uint64_t seq;
	size_t i, k, n;

	for (i = 0; i < seen->n; i++) {
		if (spool_read_envelope(sp, seen->seqs[i], &env) == -1)
			abort();
		n = env.n_rcpts;
		env_fini(&env);
		spool_put_hold(sp, seen->seqs[i], true, "why");
		spool_put_deferred(sp, seen->seqs[i], 1, 1, "451");
		for (k = 0; k < n; k++)
			spool_put_done(
			    sp, seen->seqs[i], (uint32_t)k, RCPT_DONE, "250");
		spool_put_drop(sp, seen->seqs[i], "over");
	}
	if (env_init(&env) == -1 || env_add_rcpt(&env, "a") == NULL)
		abort();
	strcpy(env.id, "NEW");
	m.env = &env;
	m.crc = crc32c(0, "x", 1);
	if (spool_put_message(sp, &m, &seq, &pl) == -1)
		abort();
	env_fini(&env);
}

static void
writing(const struct seen *before)
{
	static struct seen seen;
	struct spool *sp = start(&seen, true);
	size_t i;

	if (sp == NULL)
		return; /* a damaged format, most often */
	if (seen.n != before->n ||
	    memcmp(seen.seqs, before->seqs, seen.n * sizeof(seen.seqs[0])) != 0)
		abort();
	for (i = 0; i < seen.n; i++)
		read_back(sp, seen.seqs[i]);
	change(sp, &seen);
	spool_close(&sp);
	if ((sp = start(&seen, true)) == NULL || seen.n != 1)
		abort();
	spool_close(&sp);
}

static void
remove_dir(void)
{
	(void)unlinkat(dir_fd, "lock", 0);
	(void)rmdir(dir);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_EMERG);
	/* for the lock alone */
	fuzz_folder(dir, sizeof(dir), remove_dir);
	check((dir_fd = open(dir, O_RDONLY | O_DIRECTORY)) != -1);
	return (0);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct seen seen;
	struct spool *sp;
	size_t i;

	if (size < 3)
		return (0);
	build(data + 1, size - 1, data[0]);
	if ((sp = start(&seen, false)) != NULL) {
		for (i = 0; i < seen.n; i++)
			read_back(sp, seen.seqs[i]);
		not_there(sp);
		spool_close(&sp);
		if (data[0] & WRITE)
			writing(&seen);
	}
	clear();
	return (0);
}
