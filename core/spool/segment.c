/* SPDX-License-Identifier: ISC */

/*
 * segment - the journal's files
 *
 * A segment is written with zeros once, before its first use: later syncs then
 * change no metadata.  When all in it is finished it becomes free-N and later,
 * under a new number, a segment again; what is left in it from before carries
 * another generation and is never read.  Names change only together with a sync
 * of the folder, oldest first, since an outcome lies in the same or a later
 * segment than its message.
 */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
seg_name(char out[NAME_ROOM], const char *kind, uint64_t num)
{
	snprintf(out, NAME_ROOM, "%s-%016" PRIx64, kind, num);
}

int
file_new(struct spool *sp, const char *name)
{
	return (sp->io->openat(sp->dir, name, O_RDWR | O_CREAT | O_EXCL, 0600));
}

int
file_end(struct spool *sp, const char *name, int fd, int rc)
{
	int e = errno;

	(void)sp->io->close(fd);
	if (rc == -1)
		(void)sp->io->unlink(sp->dir, name);
	errno = e;
	return (rc);
}

struct seg *
seg_find(struct spool *sp, uint64_t num)
{
	size_t i;

	/* the one being written is asked for most */
	for (i = sp->n_segs; i-- > 0;)
		if (sp->segs[i]->num == num)
			return (sp->segs[i]);
	return (NULL);
}

int
seg_add(struct spool *sp, uint64_t num, int fd, uint64_t size)
{
	struct seg *g;

	if (grow(&sp->segs, &sp->cap_segs, sp->n_segs, sizeof(g)) == -1 ||
	    (g = calloc(1, sizeof(*g))) == NULL)
		return (-1);
	g->num = num;
	g->fd = fd;
	g->size = size;
	g->used = SEG_DATA;
	sp->segs[sp->n_segs++] = g;
	sp->stats.segments = sp->n_segs;
	return (0);
}

/* fill - zeros from off on to the end, or for a piece; -1 */
static int
fill(struct spool *sp, int fd, uint64_t *off)
{
	static const char zeros[65536];
	uint64_t end = *off + SEG_PIECE;
	size_t n;

	if (end > sp->opts.segment_size)
		end = sp->opts.segment_size;
	for (; *off < end; *off += n) {
		n = end - *off < sizeof(zeros) ? (size_t)(end - *off)
		                               : sizeof(zeros);
		if (io_write(sp->io, fd, zeros, n, (off_t)*off) == -1)
			return (-1);
	}
	return (sp->io->sync(fd));
}

/* seg_make_free - write zeros to a new file, durable when this returns.  Runs
 * in the sync thread too: touches nothing but the options.  between is called
 * after each piece, so that a commit need not wait for a whole segment. */
int
seg_make_free(struct spool *sp, uint64_t num, void (*between)(struct spool *))
{
	char name[NAME_ROOM];
	uint64_t off = 0;
	int fd, rc = 0;

	seg_name(name, "new", num);
	if ((fd = file_new(sp, name)) == -1)
		return (-1);
	while (rc == 0 && off < sp->opts.segment_size) {
		rc = fill(sp, fd, &off);
		if (rc == 0 && between != NULL)
			between(sp);
	}
	return (file_end(sp, name, fd, rc));
}

/* make_soon - a segment whose blocks are only reserved.  A flush in it costs
 * more than in one full of zeros, but nobody waits until those are written. */
static int
make_soon(struct spool *sp, uint64_t num)
{
	char name[NAME_ROOM];
	int fd, rc;

	seg_name(name, "new", num);
	if ((fd = file_new(sp, name)) == -1)
		return (-1);
	rc = sp->io->allocate(fd, (off_t)sp->opts.segment_size);
	if (file_end(sp, name, fd, rc == 0 ? sp->io->sync(fd) : -1) == 0)
		return (0);
	return (errno == EOPNOTSUPP || errno == ENOSYS
	        ? seg_make_free(sp, num, NULL)
	        : -1);
}

/* head_put - the segment's first sector, under its new number */
static int
head_put(struct spool *sp, int fd, uint64_t num)
{
	unsigned char b[SEG_DATA];
	uint64_t v[5] = { num ^ sp->salt, sp->next_seq, sp->next_batch,
		sp->next_file, sp->opts.segment_size };
	uint32_t crc;
	size_t i;

	memset(b, 0, sizeof(b));
	memcpy(b, "MILDSEG1", 8);
	for (i = 0; i < 40; i++)
		b[8 + i] = (unsigned char)(v[i / 8] >> (i % 8 * 8));
	crc = crc32c(0, b, 48);
	for (i = 0; i < 4; i++)
		b[48 + i] = (unsigned char)(crc >> (8 * i));
	rec_totals_put(b + HEAD_TOTALS, &sp->totals);
	crc = crc32c(0, b + HEAD_TOTALS, TOTALS_BYTES);
	for (i = 0; i < 4; i++)
		b[HEAD_TOTALS - 4 + i] = (unsigned char)(crc >> (8 * i));
	return (io_write(sp->io, fd, b, sizeof(b), 0));
}

/* head_totals - for the time when all records that had them are gone */
static void
head_totals(struct spool *sp, int fd)
{
	unsigned char b[4 + TOTALS_BYTES];
	uint32_t crc = 0;
	size_t i;

	if (io_read(sp->io, fd, b, sizeof(b), HEAD_TOTALS - 4) == -1)
		return;
	for (i = 0; i < 4; i++)
		crc |= (uint32_t)b[i] << (8 * i);
	if (crc == crc32c(0, b + 4, TOTALS_BYTES))
		(void)!rec_totals_get(b + 4, TOTALS_BYTES, &sp->totals);
}

/* head_read - the numbers in a segment's head; -1 if damaged */
static int
head_read(struct spool *sp, int fd, uint64_t v[5])
{
	unsigned char b[52];
	uint32_t crc = 0;
	size_t i;

	memset(v, 0, 5 * sizeof(v[0]));
	if (io_read(sp->io, fd, b, sizeof(b), 0) == -1)
		return (-1);
	for (i = 0; i < 40; i++)
		v[i / 8] |= (uint64_t)b[8 + i] << (i % 8 * 8);
	for (i = 0; i < 4; i++)
		crc |= (uint32_t)b[48 + i] << (8 * i);
	return (
	    memcmp(b, "MILDSEG1", 8) != 0 || crc != crc32c(0, b, 48) ? -1 : 0);
}

/* seg_head_get - take the counters from a segment's head; -1 if it is damaged
 * or, after a crash, from the file's life before */
int
seg_head_get(struct spool *sp, struct seg *g)
{
	uint64_t v[5];

	if (head_read(sp, g->fd, v) == -1 || v[0] != (g->num ^ sp->salt))
		return (-1);
	if (!sp->totals_found)
		head_totals(sp, g->fd);
	if (v[1] > sp->next_seq && v[1] <= REC_NUM_NEXT)
		sp->next_seq = v[1];
	if (v[2] > sp->next_batch && v[2] <= REC_NUM_NEXT)
		sp->next_batch = v[2];
	if (v[3] > sp->next_file && v[3] <= REC_NUM_NEXT)
		sp->next_file = v[3];
	if (g->size < v[4]) {
		sp->stats.damaged++;
		spool_alarm(sp, "damage",
		    "segment %" PRIu64 " has %" PRIu64 " of %" PRIu64 " bytes",
		    g->num, g->size, v[4]);
	}
	return (0);
}

int
seg_salt(struct spool *sp, const uint64_t *nums, size_t n)
{
	uint64_t v[5], *salts = calloc(n + 1, sizeof(*salts));
	size_t i, j, same, best = 0, found = 0;
	char name[NAME_ROOM];
	int fd;

	if (salts == NULL)
		return (-1);
	/* the newest are enough: one vote each */
	for (i = n > 1000 ? n - 1000 : 0; i < n; i++) {
		seg_name(name, "seg", nums[i]);
		if ((fd = sp->io->openat(sp->dir, name, O_RDONLY, 0)) == -1)
			continue;
		if (head_read(sp, fd, v) == 0)
			salts[found++] = v[0] ^ nums[i];
		(void)sp->io->close(fd);
	}
	for (i = 0; i < found; i++) {
		for (same = 0, j = 0; j < found; j++)
			same += salts[j] == salts[i];
		if (same > best) {
			best = same;
			sp->salt = salts[i];
		}
	}
	free(salts);
	if (best == 0) {
		errno = EPROTO;
		return (-1);
	}
	return (0);
}

/* use - make a ready file (kind-from) the segment that is written */
static int
use(struct spool *sp, const char *kind, uint64_t from)
{
	uint64_t num = sp->next_file++;
	char was[NAME_ROOM], name[NAME_ROOM];
	int fd;

	seg_name(was, kind, from);
	seg_name(name, "seg", num);
	if (sp->io->rename(sp->dir, was, name) == -1)
		return (-1);
	if (sp->io->syncdir(sp->dir) == -1)
		return (-1);
	if ((fd = sp->io->openat(sp->dir, name, O_RDWR, 0)) == -1)
		return (-1);
	if (head_put(sp, fd, num) == -1 ||
	    seg_add(sp, num, fd, sp->opts.segment_size) == -1) {
		(void)sp->io->close(fd);
		return (-1);
	}
	return (0);
}

/*
 * seg_next - a fresh segment to write.  A message leaves the reserve alone and
 * takes a new file instead; -1 with ENOSPC when there is no
 * room for one.
 */
int
seg_next(struct spool *sp, bool message)
{
	uint64_t num;

	sync_prepared(sp);
	if (sp->n_free > (message ? SEG_RESERVE : 0)) {
		num = sp->free[0];
		sp->n_free--;
		memmove(sp->free, sp->free + 1, sp->n_free * sizeof(num));
		sp->stats.reserve = sp->n_free;
		return (use(sp, "free", num));
	}
	num = sp->next_file++;
	if (make_soon(sp, num) == -1)
		return (-1);
	return (use(sp, "new", num));
}

void
gone_add(struct spool *sp, uint64_t num)
{
	if (grow(&sp->gone, &sp->cap_gone, sp->n_gone, sizeof(num)) == 0)
		sp->gone[sp->n_gone++] = num;
}

/* seg_recycle - free the oldest segments that nothing needs any more */
void
seg_recycle(struct spool *sp)
{
	char was[NAME_ROOM], name[NAME_ROOM];
	struct seg *g;

	while (sp->n_segs > 1) {
		g = sp->segs[0];
		if (g->live > 0 || g->pins > 0 || g->dirty > 0)
			return;
		seg_name(was, "seg", g->num);
		seg_name(name, "free", g->num);
		if (sp->n_free >= SEG_KEEP ||
		    g->size != sp->opts.segment_size ||
		    grow(&sp->free, &sp->cap_free, sp->n_free,
		        sizeof(g->num)) == -1) {
			if (sp->io->unlink(sp->dir, was) == -1)
				return;
		} else {
			if (sp->io->rename(sp->dir, was, name) == -1)
				return;
			sp->free[sp->n_free++] = g->num;
		}
		(void)sp->io->syncdir(sp->dir);
		(void)sp->io->close(g->fd);
		gone_add(sp, g->num);
		memmove(sp->segs, sp->segs + 1, --sp->n_segs * sizeof(g));
		free(g);
		sp->stats.recycled++;
		sp->stats.segments = sp->n_segs;
		sp->stats.reserve = sp->n_free;
	}
}

struct bodyfile *
body_find(struct spool *sp, uint64_t num)
{
	struct bodyfile *b;

	for (b = sp->bodies; b != NULL && b->num != num; b = b->next)
		;
	return (b);
}

struct bodyfile *
body_add(struct spool *sp, uint64_t num)
{
	struct bodyfile *b;

	if ((b = calloc(1, sizeof(*b))) == NULL)
		return (NULL);
	b->num = num;
	b->next = sp->bodies;
	sp->bodies = b;
	return (b);
}

/* body_reap - remove a body that no message and no hand-out needs */
void
body_reap(struct spool *sp, struct bodyfile *b)
{
	struct bodyfile **p;
	char name[NAME_ROOM];

	if (!b->dead || b->pins > 0 || sp->recovering)
		return;
	if (!sp->opts.read_only) {
		seg_name(name, "body", b->num);
		(void)sp->io->unlink(sp->dir, name);
	}
	gone_add(sp, b->num);
	for (p = &sp->bodies; *p != b; p = &(*p)->next)
		;
	*p = b->next;
	free(b);
}
