/* SPDX-License-Identifier: ISC */

/*
 * recover - what the journal says after a stop of any kind
 *
 * Each segment is read whole and its records are held back until a commit
 * record follows.  A record that is damaged with a commit after it goes to
 * corrupt/ and raises an alarm; the rest goes on.  What has no commit after it
 * was never acknowledged; an intact message in it is kept in corrupt/ all the
 * same, since damage to the last acknowledged batch looks like that.  All bytes
 * are checked before they are believed.
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

/* One thing found in a segment, before its commit. */
struct piece {
	bool good;
	struct rec_head h;
	uint64_t off, len;
};

struct scan {
	struct spool *sp;
	struct seg *g;
	const unsigned char *p;
	struct piece *pieces;
	size_t n, cap;
};

/* keep - n bytes as a file in corrupt/, whole and durable under that name or
 * not there */
static int
keep(struct spool *sp, const char *name, const void *p, uint64_t n)
{
	const struct spool_io *io = sp->io;
	int fd, dir, r = -1;

	fd = io->openat(
	    sp->dir, "corrupt/new", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd == -1)
		return (-1);
	if (io_write(io, fd, p, n, 0) == 0 && io->sync(fd) == 0)
		r = io->rename(sp->dir, "corrupt/new", name);
	(void)io->close(fd);
	if (r == -1)
		return (-1);
	dir = io->openat(sp->dir, "corrupt", O_RDONLY | O_DIRECTORY, 0);
	if (dir == -1)
		return (-1);
	r = io->syncdir(dir);
	(void)io->close(dir);
	return (r);
}

/* save - bytes that can not be used, for a person to look at */
static void
save(struct scan *s, uint64_t off, uint64_t len, const char *why)
{
	struct spool *sp = s->sp;
	char name[NAME_ROOM * 2];
	int fd;

	sp->stats.damaged++;
	snprintf(name, sizeof(name), "corrupt/seg-%016" PRIx64 "-%" PRIu64,
	    s->g->num, off);
	if (!sp->opts.read_only) {
		fd = sp->io->openat(sp->dir, name, O_RDONLY, 0);
		if (fd != -1) { /* told at an earlier start */
			(void)sp->io->close(fd);
			return;
		}
		if (keep(sp, name, s->p + off, len) == -1) {
			log_err("spool: corrupt: file=%s error=%s", name,
			    strerror(errno));
			s->g->pins++; /* the only copy: keep the segment */
		}
	}
	spool_alarm(sp, "damage",
	    "%s: segment %" PRIu64 " offset %" PRIu64 " bytes %" PRIu64, why,
	    s->g->num, off, len);
}

static void
drop_void(struct spool *sp, uint64_t first, uint64_t last)
{
	struct ent *e, *next;
	size_t i;

	for (i = 0; i < sp->n_hash; i++)
		for (e = sp->hash[i]; e != NULL; e = next) {
			next = e->next;
			if (e->rec->replaced >= first &&
			    e->rec->replaced <= last)
				e->rec->replaced = 0; /* by what never was */
			if (e->batch >= first && e->batch <= last)
				ent_del(sp, e);
		}
}

/* end_replaced - no void has come: others took their places */
static void
end_replaced(struct spool *sp)
{
	struct ent *e, *next;
	size_t i;

	for (i = 0; i < sp->n_hash; i++)
		for (e = sp->hash[i]; e != NULL; e = next) {
			next = e->next;
			if (e->rec->replaced != 0)
				ent_del(sp, e);
		}
}

/* moved - a copy of a message that is there.  It counts when the end of its
 * state comes, see relocate(). */
static int
moved(struct scan *s, const struct piece *c, struct ent *e, uint32_t n_rcpts,
    uint64_t body)
{
	if (e->n_rcpts != n_rcpts || e->body != body)
		return (-1);
	e->rec->to_seg = s->g->num;
	e->rec->to_off = c->off;
	e->rec->to_length = c->h.length;
	return (0);
}

/* relocate - from now on the copy is the message: the segments before it may be
 * gone next time.  The batch stays the first one's: a void of the copy's batch
 * concerns the copy alone, and the bytes are good. */
static void
relocate(struct spool *sp, struct ent *e)
{
	struct seg *from = seg_find(sp, e->seg);
	struct seg *to = seg_find(sp, e->rec->to_seg);

	if (e->rec->to_seg == 0 || from == NULL || to == NULL)
		return;
	from->live--;
	to->live++;
	sp->live_bytes -= rec_size(e->length);
	sp->live_bytes += rec_size(e->rec->to_length);
	e->seg = e->rec->to_seg;
	e->off = e->rec->to_off;
	e->length = e->rec->to_length;
	e->rec->to_seg = 0;
}

static int
message(struct scan *s, const struct piece *c)
{
	struct spool *sp = s->sp;
	const unsigned char *pay = s->p + c->off + REC_HEAD;
	char name[NAME_ROOM];
	struct envelope env;
	struct unpacker u;
	struct bodyfile *body;
	struct rec_msg m;
	struct ent *e;
	uint64_t size = 0;
	int fd, r;

	if (rec_msg_get(pay, c->h.length, &m) == -1)
		return (-1);
	u = (struct unpacker){ .p = pay + MSG_FIXED, .n = m.meta_len };
	if (crc32c(0, u.p, u.n) != m.meta_crc || env_unpack(&u, &env) == -1)
		return (-1);
	if (m.big) {
		if (m.place.file >= sp->next_file)
			sp->next_file = m.place.file + 1;
		seg_name(name, "body", m.place.file);
		fd = sp->io->openat(sp->dir, name, O_RDONLY, 0);
		r = fd == -1 ? -1 : sp->io->size(fd, &size);
		if (fd != -1)
			(void)sp->io->close(fd);
		/* a missing one belongs to a message that is over, most often:
		 * then an outcome follows; spool_found tells of the others */
		if (r == -1 || size < m.place.offset + m.place.length)
			size = 0;
	}
	if ((e = ent_find(sp, c->h.seq)) != NULL) {
		r = c->h.type != REC_MOVE
		    ? -1
		    : moved(s, c, e, (uint32_t)env.n_rcpts,
		          m.big ? m.place.file : 0);
		env_fini(&env);
		return (r);
	}
	e = ent_add(sp, c->h.seq, (uint32_t)env.n_rcpts);
	if (e == NULL || (e->rec = calloc(1, sizeof(*e->rec))) == NULL ||
	    (e->rec->states = calloc(env.n_rcpts + 1, 1)) == NULL) {
		if (e != NULL)
			ent_del(sp, e);
		env_fini(&env);
		return (-1);
	}
	e->seg = s->g->num;
	e->off = c->off;
	e->length = c->h.length;
	/* a copy whose first one is gone was durable: no void concerns it */
	e->batch = c->h.type == REC_MOVE ? 0 : c->h.batch;
	s->g->live++;
	sp->live_bytes += rec_size(e->length);
	if (m.big) {
		e->body = m.place.file;
		e->rec->no_body = size == 0;
		if ((body = body_find(sp, e->body)) == NULL)
			(void)body_add(sp, e->body);
		else
			body->dead = false;
	}
	e->rec->held = (env.flags & ENV_HELD) != 0;
	e->own = (env.flags & ENV_BOUNCE) != 0;
	env_fini(&env);
	return (0);
}

static void
outcome(struct spool *sp, const struct rec_head *h, const struct rec_small *r)
{
	struct ent *e = ent_find(sp, h->seq);

	if (e == NULL)
		return;
	switch (h->type) {
	case REC_DONE:
		if (r->a < e->n_rcpts)
			e->rec->states[r->a] =
			    r->b == RCPT_FAILED ? RCPT_FAILED : RCPT_DONE;
		if (r->a < e->n_rcpts && ent_mark(e, (uint32_t)r->a))
			ent_del(sp, e);
		break;
	case REC_DEFERRED:
		e->rec->next_try_ms = r->a;
		e->rec->attempts = (unsigned)r->b;
		free(e->rec->last_reply);
		e->rec->last_reply = strdup(r->text);
		break;
	case REC_HOLD:
		e->rec->held = r->a != 0;
		free(e->rec->why);
		e->rec->why = strdup(r->text);
		if (r->b == STATE_END)
			relocate(sp, e);
		break;
	case REC_DROP:
		ent_del(sp, e);
		break;
	case REC_REPLACED:
		e->rec->replaced = h->batch;
		break;
	default:
		break;
	}
}

static void
apply(struct scan *s, const struct piece *c)
{
	struct rec_small r;
	const unsigned char *pay = s->p + c->off + REC_HEAD;

	if (c->h.type == REC_MESSAGE || c->h.type == REC_MOVE) {
		if (message(s, c) == -1)
			save(s, c->off, c->len, "unreadable message");
		return;
	}
	if (c->h.type == REC_TOTALS) {
		if (rec_totals_get(pay, c->h.length, &s->sp->totals) == -1)
			save(s, c->off, c->len, "unreadable totals");
		else
			s->sp->totals_found = true;
		return;
	}
	if (rec_small_get(pay, c->h.length, &r) == -1)
		save(s, c->off, c->len, "unreadable record");
	else if (c->h.type == REC_VOID)
		drop_void(s->sp, r.a, r.b);
	else
		outcome(s->sp, &c->h, &r);
}

/* settle - a commit (or with none the segment's end) decides on the pieces */
static void
settle(struct scan *s, bool committed)
{
	struct piece *c;
	size_t i;

	for (i = 0; i < s->n; i++) {
		c = &s->pieces[i];
		if (committed && c->good)
			apply(s, c);
		else if (committed)
			save(s, c->off, c->len, "damaged record");
		else if (c->good && c->h.type == REC_MESSAGE)
			save(s, c->off, c->len, "message without commit");
	}
	s->n = 0;
}

static void
counters(struct spool *sp, const struct rec_head *h)
{
	if (h->seq >= sp->next_seq && h->seq <= REC_NUM_NEXT)
		sp->next_seq = h->seq + 1;
	if (h->batch >= sp->next_batch && h->batch <= REC_NUM_NEXT)
		sp->next_batch = h->batch + 1;
}

/* next_head - the next header of this generation at or after off, or end */
static uint64_t
next_head(const struct scan *s, uint64_t off, struct rec_head *h)
{
	uint64_t gen = s->g->num ^ s->sp->salt;

	for (; off + REC_HEAD <= s->g->size; off += REC_ALIGN)
		if (rec_head_get(s->p + off, gen, h) == 0)
			return (off);
	return (s->g->size);
}

static int
add(struct scan *s, bool good, const struct rec_head *h, uint64_t off,
    uint64_t len)
{
	struct piece *c;

	if (grow(&s->pieces, &s->cap, s->n, sizeof(*c)) == -1)
		return (-1);
	c = &s->pieces[s->n++];
	memset(c, 0, sizeof(*c));
	c->good = good;
	if (h != NULL)
		c->h = *h;
	c->off = off;
	c->len = len;
	return (0);
}

static int
scan_bytes(struct scan *s)
{
	uint64_t at = SEG_DATA, next, size;
	struct rec_head h;
	bool good;

	while ((next = next_head(s, at, &h)) < s->g->size) {
		if (next > at && add(s, false, NULL, at, next - at) == -1)
			return (-1);
		counters(s->sp, &h);
		size = rec_size(h.length);
		good = size <= s->g->size - next &&
		    crc32c(0, s->p + next + REC_HEAD, h.length) == h.crc;
		if (!good) {
			/* trust its length no further than to the next header
			 */
			size = next_head(s, next + REC_ALIGN, &h) - next;
			if (add(s, false, NULL, next, size) == -1)
				return (-1);
		} else if (h.type == REC_COMMIT)
			settle(s, true);
		else if (add(s, true, &h, next, size) == -1)
			return (-1);
		at = next + size;
	}
	settle(s, false);
	return (0);
}

/* read_all - the segment's bytes.  Who only reads wants what can be had of a
 * failing disk: what it refuses stays zeros.  The gateway must not start so:
 * what can not be read now may be there at the next try. */
static int
read_all(struct scan *s, unsigned char *p)
{
	const uint64_t step = 4096;
	struct spool *sp = s->sp;
	uint64_t off, n, bad = 0;

	if (io_read(sp->io, s->g->fd, p, s->g->size, 0) == 0)
		return (0);
	if (!sp->opts.read_only)
		return (-1);
	memset(p, 0, s->g->size);
	for (off = 0; off < s->g->size; off += n) {
		n = step < s->g->size - off ? step : s->g->size - off;
		if (io_read(sp->io, s->g->fd, p + off, n, (off_t)off) == -1) {
			memset(p + off, 0, n);
			bad += n;
		}
	}
	sp->stats.damaged++;
	spool_alarm(sp, "damage",
	    "segment %" PRIu64 ": %" PRIu64 " bytes can not be read", s->g->num,
	    bad);
	return (0);
}

static int
scan_segment(struct spool *sp, struct seg *g)
{
	struct scan s = { .sp = sp, .g = g };
	unsigned char *p;
	int r = -1;

	if (g->size < SEG_DATA || g->size > SEG_MAX) {
		sp->stats.damaged++;
		spool_alarm(sp, "damage",
		    "segment %" PRIu64 " has %" PRIu64 " bytes", g->num,
		    g->size);
		if (g->size < SEG_DATA)
			return (0);
		g->size = SEG_MAX; /* no record is beyond */
	}
	if ((p = malloc(g->size)) == NULL)
		return (-1);
	s.p = p;
	/* what a crash left in the page cache only must not be believed */
	if (!sp->opts.read_only && sp->io->sync(g->fd) == -1)
		goto done;
	if (read_all(&s, p) == -1)
		goto done;
	if (seg_head_get(sp, g) == -1)
		log_warning(
		    "spool: head: segment=%" PRIu64 " unreadable", g->num);
	r = scan_bytes(&s);
	g->used = g->size;
done:
	free(s.pieces);
	free(p);
	return (r);
}

struct names {
	struct spool *sp;
	uint64_t *segs, *bodies;
	size_t n_segs, n_bodies, cap_segs, cap_bodies;
	bool failed;
};

static void
name_found(void *arg, const char *name)
{
	struct names *n = arg;
	struct spool *sp = n->sp;
	const char *dash = strchr(name, '-');
	char again[17];
	uint64_t num;
	int r = 0;

	if (dash == NULL || strlen(dash + 1) != 16)
		return;
	num = strtoull(dash + 1, NULL, 16);
	snprintf(again, sizeof(again), "%016" PRIx64, num);
	/* only a name that we would give: it is made of the number again */
	if (strcmp(again, dash + 1) != 0 || num == 0 || num > REC_NUM_NEXT)
		return;
	if (num >= sp->next_file)
		sp->next_file = num + 1;
	if (strncmp(name, "seg-", 4) == 0) {
		r = grow(&n->segs, &n->cap_segs, n->n_segs, sizeof(num));
		if (r == 0)
			n->segs[n->n_segs++] = num;
	} else if (strncmp(name, "free-", 5) == 0) {
		r = grow(&sp->free, &sp->cap_free, sp->n_free, sizeof(num));
		if (r == 0)
			sp->free[sp->n_free++] = num;
	} else if (strncmp(name, "body-", 5) == 0) {
		r = grow(&n->bodies, &n->cap_bodies, n->n_bodies, sizeof(num));
		if (r == 0)
			n->bodies[n->n_bodies++] = num;
	} else if (strncmp(name, "new-", 4) == 0 && !sp->opts.read_only)
		(void)sp->io->unlink(sp->dir, name);
	if (r == -1)
		n->failed = true;
}

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x < y ? -1 : x > y);
}

static int
open_segment(struct spool *sp, uint64_t num)
{
	char name[NAME_ROOM];
	uint64_t size;
	int fd;

	seg_name(name, "seg", num);
	fd = sp->io->openat(
	    sp->dir, name, sp->opts.read_only ? O_RDONLY : O_RDWR, 0);
	/* recycled by a gateway beside us since the folder was read */
	if (fd == -1 && sp->opts.read_only && errno == ENOENT)
		return (0);
	if (fd == -1)
		return (-1);
	if (sp->io->size(fd, &size) == -1 || seg_add(sp, num, fd, size) == -1) {
		(void)sp->io->close(fd);
		return (-1);
	}
	return (scan_segment(sp, sp->segs[sp->n_segs - 1]));
}

/* free_check - a ready file of another size is of no use */
static void
free_check(struct spool *sp)
{
	char name[NAME_ROOM];
	uint64_t size;
	size_t i, n = 0;
	int fd;

	for (i = 0; i < sp->n_free; i++) {
		seg_name(name, "free", sp->free[i]);
		size = 0;
		fd = sp->io->openat(sp->dir, name, O_RDONLY, 0);
		if (fd != -1) {
			(void)sp->io->size(fd, &size);
			(void)sp->io->close(fd);
		}
		if (size == sp->opts.segment_size)
			sp->free[n++] = sp->free[i];
		else if (!sp->opts.read_only)
			(void)sp->io->unlink(sp->dir, name);
	}
	sp->n_free = n;
	sp->stats.reserve = n;
}

/* orphans - bodies that no message names; beside damage they are evidence */
static void
orphans(struct spool *sp, const struct names *n)
{
	char name[NAME_ROOM], to[NAME_ROOM + 8];
	size_t i;

	for (i = 0; i < n->n_bodies; i++) {
		if (body_find(sp, n->bodies[i]) != NULL)
			continue;
		seg_name(name, "body", n->bodies[i]);
		snprintf(to, sizeof(to), "corrupt/%s", name);
		if (sp->stats.damaged > 0)
			(void)sp->io->rename(sp->dir, name, to);
		else
			(void)sp->io->unlink(sp->dir, name);
	}
}

/* first_totals - a spool without any: what is here was accepted once */
static void
first_totals(struct spool *sp)
{
	struct ent *e;
	size_t i;

	if (sp->totals_found || sp->totals.messages[0] > 0 ||
	    sp->totals.messages[1] > 0)
		return;
	for (i = 0; i < sp->n_hash; i++)
		for (e = sp->hash[i]; e != NULL; e = e->next) {
			sp->totals.messages[e->own]++;
			sp->totals.accepted[e->own] += e->left;
		}
}

/* reap - bodies of messages that were over.  Not before: nothing is removed
 * when the journal turns out to be unreadable further on. */
static void
reap(struct spool *sp)
{
	struct bodyfile *b, *next;

	sp->recovering = false;
	for (b = sp->bodies; b != NULL; b = next) {
		next = b->next;
		body_reap(sp, b);
	}
}

int
recover(struct spool *sp)
{
	struct names n = { .sp = sp };
	size_t i;
	int r = -1;

	if (sp->io->list(sp->dir, name_found, &n) == -1 || n.failed)
		goto done;
	if (n.n_segs > 0)
		qsort(n.segs, n.n_segs, sizeof(*n.segs), by_number);
	if (sp->salt_lost) {
		sp->stats.damaged++;
		spool_alarm(sp, "damage", "the file \"format\" is damaged");
		if (n.n_segs > 0 && seg_salt(sp, n.segs, n.n_segs) == -1)
			goto done;
	}
	free_check(sp);
	sp->recovering = true;
	for (i = 0; i < n.n_segs; i++)
		if (open_segment(sp, n.segs[i]) == -1)
			goto done;
	end_replaced(sp);
	if (!sp->opts.read_only)
		orphans(sp, &n);
	reap(sp);
	first_totals(sp);
	r = 0;
done:
	free(n.segs);
	free(n.bodies);
	return (r);
}
