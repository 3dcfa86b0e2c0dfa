/* SPDX-License-Identifier: ISC */

/*
 * move - write live messages of the oldest segment again at the end
 *
 * Segments are recycled oldest first, so that one message that is held, or
 * waits for a dead host, would keep all that came after it.  When less than a
 * quarter of the journal is alive, what lives in the oldest segment is copied:
 * the record as it is, and all that later records said of it.  The copy counts
 * when it is durable; until then, and if its sync fails, the old one does.
 */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/crc32c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SEGS_MIN = 4,       /* a journal of so few is left alone */
	ALIVE_PART = 4,     /* less than one part in so many is alive */
	LOOK_MAX = 16384,   /* buckets looked at in one step */
	STEP_MAX = 2 << 20, /* bytes copied in one step */
	TEXT_ROOM = 1024    /* of a reply that is copied */
};

bool
move_wanted(const struct spool *sp)
{
	const struct seg *g;

	if (sp->ev.state == NULL || sp->n_segs <= SEGS_MIN || sp->failures > 0)
		return (false);
	g = sp->segs[0];
	return (g->live > 0 && g->dirty == 0 &&
	    sp->live_bytes < sp->n_segs * sp->opts.segment_size / ALIVE_PART);
}

/* small - one record of the message's state */
static int
small(struct spool *sp, enum rec_type type, uint64_t seq, uint64_t a,
    uint64_t b, const char *text)
{
	struct rec_head h = { .type = type, .seq = seq };
	struct rec_small s = { .a = a, .b = b, .text = text };
	struct buf out = BUF_INIT(2 * TEXT_ROOM);
	struct iovec iov;
	uint64_t off;
	int r = -1;

	if (rec_small_put(&out, &s) == 0) {
		iov.iov_base = out.data;
		iov.iov_len = out.len;
		r = journal_add(sp, &h, &iov, 1, !sp->full, &off);
	}
	buf_fini(&out);
	return (r);
}

/* state_put - what later records said of it */
static int
state_put(struct spool *sp, const struct ent *e, const struct spool_state *st)
{
	char text[TEXT_ROOM];
	uint32_t i;

	snprintf(text, sizeof(text), "%s", st->reply);
	for (i = 0; i < e->n_rcpts; i++)
		if (ent_final(e, i) &&
		    small(sp, REC_DONE, e->seq, i,
		        st->states[i] == RCPT_FAILED ? RCPT_FAILED : RCPT_DONE,
		        "") == -1)
			return (-1);
	if ((st->attempts > 0 || st->next_try_ms > 0) &&
	    small(sp, REC_DEFERRED, e->seq, st->next_try_ms, st->attempts,
	        text) == -1)
		return (-1);
	return (small(sp, REC_HOLD, e->seq, st->held, STATE_END, text));
}

/* record_read - the whole payload, malloced, if it is intact */
static char *
record_read(struct spool *sp, const struct ent *e)
{
	unsigned char head[REC_HEAD];
	struct rec_head h;
	char *p;

	if (journal_read(sp, e->seg, head, sizeof(head), e->off) == -1)
		return (NULL);
	if (rec_head_get(head, e->seg ^ sp->salt, &h) == -1 ||
	    h.seq != e->seq || h.length != e->length) {
		errno = EPROTO;
		return (NULL);
	}
	if ((p = malloc((size_t)h.length + 1)) == NULL)
		return (NULL);
	if (journal_read(sp, e->seg, p, h.length, e->off + REC_HEAD) == 0) {
		if (crc32c(0, p, h.length) == h.crc)
			return (p);
		errno = EPROTO;
	}
	free(p);
	return (NULL);
}

/* state_get - what the owner of the messages knows; 1, 0 not now, -1 */
static int
state_get(struct spool *sp, const struct ent *e, const char *pay,
    struct spool_state *st)
{
	struct envelope env;
	struct unpacker u;
	struct rec_msg m;
	int r;

	if (rec_msg_get((const unsigned char *)pay, e->length, &m) == -1)
		return (-1);
	u = (struct unpacker){ .p = (const unsigned char *)pay + MSG_FIXED,
		.n = m.meta_len };
	if (env_unpack(&u, &env) == -1)
		return (-1);
	r = sp->ev.state(sp->ev.arg, e->seq, env.id, st);
	env_fini(&env);
	return (r);
}

/* has_room - without a segment being made for it: that blocks, and is done
 * ahead */
static bool
has_room(const struct spool *sp, uint64_t need)
{
	const struct seg *g = sp->segs[sp->n_segs - 1];
	uint64_t have = sp->cur != NULL ? sp->cur->len : 0;

	return (g->used + have + need + SEG_TAIL <= g->size ||
	    sp->n_free > (sp->full ? 1 : SEG_RESERVE));
}

/* copy - the record and its state, in one segment; the batch of the last one
 * decides when the copy counts */
static int
copy(struct spool *sp, struct ent *e, char *pay, const struct spool_state *st)
{
	struct rec_head h = { .type = REC_MOVE, .seq = e->seq };
	struct iovec iov = { pay, e->length };
	uint64_t need =
	    rec_size(e->length) + (e->n_rcpts + 2) * rec_size(TEXT_ROOM);
	struct moved to = { .seq = e->seq };
	struct batch *b;

	if (!has_room(sp, need)) {
		errno = EAGAIN;
		return (-1);
	}
	if (journal_room(sp, need, !sp->full) == -1 ||
	    journal_add(sp, &h, &iov, 1, !sp->full, &to.off) == -1)
		return (-1);
	to.seg = sp->cur->seg->num;
	if (state_put(sp, e, st) == -1)
		return (-1);
	b = sp->cur;
	if (grow(&b->moves, &b->cap_moves, b->n_moves, sizeof(to)) == -1)
		return (-1);
	b->moves[b->n_moves++] = to;
	e->moving = true;
	return (0);
}

/* move_one - -1: no more now */
static int
move_one(struct spool *sp, struct ent *e)
{
	struct spool_state st = { .reply = "" };
	char *pay = record_read(sp, e);
	int r = -1;

	st.states = calloc((size_t)e->n_rcpts + 1, sizeof(*st.states));
	if (pay == NULL || st.states == NULL) {
		if (errno != ENOMEM) {
			e->moving = true; /* it stays where it is */
			sp->stats.damaged++;
			spool_alarm(sp, "damage", "message %llu: %s",
			    (unsigned long long)e->seq, strerror(errno));
			r = 0;
		}
		goto done;
	}
	switch (state_get(sp, e, pay, &st)) {
	case 1:
		r = copy(sp, e, pay, &st);
		if (r == -1 && errno == EMSGSIZE) {
			e->moving = true;
			r = 0;
		}
		break;
	case 0:
		r = 0;
		break;
	}
done:
	free(st.states);
	free(pay);
	return (r);
}

void
move_step(struct spool *sp)
{
	struct ent *e;
	uint64_t seg, bytes = 0;
	size_t i;

	if (!move_wanted(sp))
		return;
	seg = sp->segs[0]->num;
	for (i = 0; i < LOOK_MAX && i < sp->n_hash && bytes < STEP_MAX; i++) {
		sp->move_at = (sp->move_at + 1) & (sp->n_hash - 1);
		for (e = sp->hash[sp->move_at]; e != NULL; e = e->next) {
			if (e->seg != seg || e->ended || e->moving)
				continue;
			if (move_one(sp, e) == -1)
				return;
			bytes += e->length;
		}
	}
}

void
move_done(struct spool *sp, const struct batch *b, bool ok)
{
	struct seg *from, *to;
	struct ent *e;
	size_t i;

	for (i = 0; i < b->n_moves; i++) {
		if ((e = ent_find(sp, b->moves[i].seq)) == NULL)
			continue;
		e->moving = false;
		from = seg_find(sp, e->seg);
		to = seg_find(sp, b->moves[i].seg);
		if (!ok || from == NULL || to == NULL)
			continue;
		from->live--;
		to->live++;
		e->seg = b->moves[i].seg;
		e->off = b->moves[i].off;
	}
}
