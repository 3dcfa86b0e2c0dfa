/* SPDX-License-Identifier: ISC */

/*
 * journal - collect records, write them as batches
 *
 * A record's place is known when it is added, so a batch lies in one segment:
 * a record that does not fit writes the batch, seals the segment and goes on in
 * the next.
 */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
batch_free(struct batch *b)
{
	free(b->data);
	free(b->seqs);
	free(b->ended);
	free(b->moves);
	free(b);
}

static struct seg *
active(struct spool *sp)
{
	return (sp->segs[sp->n_segs - 1]);
}

static struct batch *
batch_open(struct spool *sp)
{
	struct batch *b = sp->cur;

	if (b == NULL && (b = calloc(1, sizeof(*b))) != NULL) {
		b->num = sp->next_batch++;
		b->seg = active(sp);
		b->start = b->seg->used;
		sp->cur = b;
	}
	return (b);
}

/* room - for n more bytes, and the seal and commit after them */
static int
room(struct batch *b, uint64_t n)
{
	uint64_t need = b->len + n + SEG_TAIL, cap = b->cap;
	char *p;

	if (need <= cap)
		return (0);
	if (cap == 0)
		cap = 16384;
	while (cap < need)
		cap *= 2;
	if ((p = realloc(b->data, cap)) == NULL)
		return (-1);
	b->data = p;
	b->cap = cap;
	return (0);
}

/* append - one record; room() has been called */
static void
append(struct spool *sp, struct batch *b, struct rec_head *h,
    const struct iovec *iov, int n_iov)
{
	size_t at = b->len, pad;
	int i;

	h->gen = b->seg->num ^ sp->salt;
	h->batch = b->num;
	h->length = h->crc = 0;
	b->len += REC_HEAD;
	for (i = 0; i < n_iov; i++) {
		if (iov[i].iov_len == 0)
			continue;
		memcpy(b->data + b->len, iov[i].iov_base, iov[i].iov_len);
		h->crc = crc32c(h->crc, iov[i].iov_base, iov[i].iov_len);
		h->length += (uint32_t)iov[i].iov_len;
		b->len += iov[i].iov_len;
	}
	rec_head_put((unsigned char *)b->data + at, h);
	pad = rec_size(h->length) - REC_HEAD - h->length;
	memset(b->data + b->len, 0, pad);
	b->len += pad;
	b->records++;
}

/* append_end - a commit or seal; SEG_TAIL has kept room for both */
static void
append_end(struct spool *sp, struct batch *b, enum rec_type type)
{
	struct rec_head h = { .type = type };
	struct rec_small s = { .a = b->start, .b = b->records };
	struct buf out = BUF_INIT(64);
	struct iovec iov;

	if (rec_small_put(&out, &s) == -1) {
		log_err("spool: no memory for a commit record");
		abort(); /* us or the machine: recovery will sort it out */
	}
	iov.iov_base = out.data;
	iov.iov_len = out.len;
	append(sp, b, &h, &iov, 1);
	buf_fini(&out);
}

/* append_totals - in the batch of what they count; SEG_TAIL has kept room */
static void
append_totals(struct spool *sp, struct batch *b)
{
	struct rec_head h = { .type = REC_TOTALS };
	unsigned char room[TOTALS_BYTES];
	struct iovec iov = { room, sizeof(room) };

	rec_totals_put(room, &sp->totals);
	append(sp, b, &h, &iov, 1);
	sp->totals_new = false;
}

/* write_out - the batch with its commit record, to the file */
static void
write_out(struct spool *sp, bool seal)
{
	struct batch *b = sp->cur;
	struct seg *g;

	if (b == NULL)
		return;
	g = b->seg;
	if (room(b, 0) == -1) {
		sync_failed(sp, ENOMEM);
		return;
	}
	if (sp->totals_new)
		append_totals(sp, b);
	if (seal)
		append_end(sp, b, REC_SEAL);
	append_end(sp, b, REC_COMMIT);
	if (io_write(sp->io, g->fd, b->data, b->len, (off_t)b->start) == -1) {
		sync_failed(sp, errno);
		return;
	}
	sp->cur = NULL;
	g->used += b->len;
	g->dirty++;
	sp->stats.bytes_written += b->len;
	sp->stats.batches++;
	if (b->n_seqs > 0)
		sp->urgent = true;
	free(b->data);
	b->data = NULL;
	b->next = NULL;
	*sp->tail = b;
	sp->tail = &b->next;
}

void
journal_write(struct spool *sp)
{
	write_out(sp, false);
}

/* fit - a batch in whose segment n bytes have room, or NULL */
static struct batch *
fit(struct spool *sp, uint64_t n, bool message)
{
	struct seg *g = active(sp);
	size_t have = sp->cur != NULL ? sp->cur->len : 0;
	struct batch *b;

	if (n > sp->opts.segment_size - SEG_DATA - SEG_TAIL) {
		errno = EMSGSIZE;
		return (NULL);
	}
	if (have + n > BATCH_MAX && have > 0 && !sp->together) {
		write_out(sp, false);
		g = active(sp);
		have = 0;
	}
	if (g->used + have + n + SEG_TAIL > g->size) {
		/* the next one first: without it this one stays open */
		if (seg_next(sp, message) == -1)
			return (NULL);
		if (sp->cur != NULL)
			write_out(sp, true);
	}
	if ((b = batch_open(sp)) == NULL || room(b, n) == -1)
		return (NULL);
	return (b);
}

void
journal_totals(struct spool *sp)
{
	sp->totals_new = true;
	/* without room or memory: with the next batch that has them */
	(void)!journal_room(sp, REC_HEAD, false);
}

int
journal_room(struct spool *sp, uint64_t n, bool message)
{
	return (fit(sp, n, message) == NULL ? -1 : 0);
}

int
journal_add(struct spool *sp, const struct rec_head *head,
    const struct iovec *iov, int n_iov, bool message, uint64_t *off_r)
{
	struct rec_head h = *head;
	uint64_t n = 0;
	struct batch *b;
	int i;

	for (i = 0; i < n_iov; i++)
		n += iov[i].iov_len;
	if ((b = fit(sp, rec_size(n), message)) == NULL)
		return (-1);
	*off_r = b->start + b->len;
	append(sp, b, &h, iov, n_iov);
	return (0);
}

/* journal_small - an outcome; one that can not be written costs a duplicate */
void
journal_small(struct spool *sp, enum rec_type type, uint64_t seq,
    const struct rec_small *s)
{
	struct rec_head h = { .type = type, .seq = seq };
	struct buf out = BUF_INIT(8192);
	struct rec_small cut = *s;
	char text[2048];
	struct iovec iov;
	uint64_t off;

	if (sp->failures > 1)
		return;
	if (s->text != NULL && strlen(s->text) >= sizeof(text)) {
		memcpy(text, s->text, sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		cut.text = text;
	}
	if (rec_small_put(&out, &cut) == 0) {
		iov.iov_base = out.data;
		iov.iov_len = out.len;
		if (journal_add(sp, &h, &iov, 1, false, &off) == 0) {
			buf_fini(&out);
			return;
		}
	}
	buf_fini(&out);
	spool_alarm(
	    sp, "outcome", "an outcome was not written: %s", strerror(errno));
}

int
journal_read(struct spool *sp, uint64_t seg, void *out, size_t n, uint64_t off)
{
	struct seg *g = seg_find(sp, seg);
	const struct batch *b = sp->cur;

	if (g == NULL) {
		errno = ENOENT;
		return (-1);
	}
	if (b != NULL && b->seg == g && off >= b->start) {
		if (off - b->start > b->len || n > b->len - (off - b->start)) {
			errno = EIO;
			return (-1);
		}
		memcpy(out, b->data + (off - b->start), n);
		return (0);
	}
	return (io_read(sp->io, g->fd, out, n, (off_t)off));
}
