/* SPDX-License-Identifier: ISC */

/* put - messages and outcomes into the journal */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* check_space - at most once a second */
static void
check_space(struct spool *sp)
{
	uint64_t now = spool_now_ms(), left;
	bool was = sp->full;

	if (sp->space_checked_ms != 0 && now - sp->space_checked_ms < 1000)
		return;
	sp->space_checked_ms = now;
	if (sp->io->space(sp->dir, &left) == -1)
		return;
	sp->full = left < sp->opts.min_free;
	if (sp->full && !was)
		spool_alarm(sp, "full", "the spool's disk is nearly full");
}

bool
spool_accepting(struct spool *sp, const char **reply_r)
{
	check_space(sp);
	if (sp->failed) {
		*reply_r = "421 4.3.0 Mail storage failed, try again later";
		return (false);
	}
	if (sp->full) {
		*reply_r = "452 4.3.1 Insufficient mail storage";
		return (false);
	}
	*reply_r = NULL;
	return (true);
}

int
spool_big_file(struct spool *sp)
{
	char name[NAME_ROOM];
	int fd;

	check_space(sp);
	if (sp->full) {
		errno = ENOSPC;
		return (-1);
	}
	fd = sp->io->openat(sp->dir, ".", O_TMPFILE | O_RDWR, 0600);
	if (fd != -1 || (errno != EOPNOTSUPP && errno != EISDIR))
		return (fd);
	/* a file system without them: its content is copied when it is put */
	seg_name(name, "new", sp->next_file++);
	fd = file_new(sp, name);
	if (fd != -1)
		(void)sp->io->unlink(sp->dir, name);
	return (fd);
}

/* body_fill - the content's bytes to a file, durable on return */
static int
body_fill(struct spool *sp, const struct spool_new *m, int fd)
{
	char room[65536];
	uint64_t done;
	size_t n;

	for (done = 0; done < m->length; done += n) {
		n = sizeof(room);
		if (n > m->length - done)
			n = (size_t)(m->length - done);
		if (m->content == NULL &&
		    io_read(sp->io, m->fd, room, n,
		        (off_t)(m->offset + done)) == -1)
			return (-1);
		if (io_write(sp->io, fd,
		        m->content == NULL ? room
		                           : (const char *)m->content + done,
		        n, (off_t)done) == -1)
			return (-1);
	}
	return (sp->io->sync(fd));
}

/* body_copy - the content's bytes to a new body file */
static int
body_copy(struct spool *sp, const struct spool_new *m, const char *name)
{
	int fd = file_new(sp, name);

	return (fd == -1 ? -1 : file_end(sp, name, fd, body_fill(sp, m, fd)));
}

/* body_put - content as a file: it and the folder are durable on return */
static int
body_put(struct spool *sp, const struct spool_new *m, struct spool_place *pl)
{
	char name[NAME_ROOM];
	int e;

	pl->file = sp->next_file++;
	pl->offset = m->content == NULL ? m->offset : 0;
	seg_name(name, "body", pl->file);
	if (m->content != NULL || sp->io->link(m->fd, sp->dir, name) == -1) {
		pl->offset = 0;
		if (body_copy(sp, m, name) == -1)
			return (-1);
	} else if (sp->io->sync(m->fd) == -1)
		goto bad;
	if (sp->io->syncdir(sp->dir) == -1 || body_add(sp, pl->file) == NULL)
		goto bad;
	return (0);
bad:
	e = errno;
	(void)sp->io->unlink(sp->dir, name);
	errno = e;
	return (-1);
}

static int
meta_pack(struct buf *meta, const struct spool_new *m)
{
	struct packer k = { .b = meta };

	env_pack(&k, m->env);
	pack_str(&k, m->record);
	pack_blob(&k, m->received, m->received_len);
	if (m->origin_len > 0)
		pack_blob(&k, m->origin, m->origin_len);
	return (pack_end(&k));
}

static bool
put_is_sane(const struct spool_new *m)
{
	if (m->content == NULL && m->length > 0)
		return (m->fd >= 0 && m->offset <= INT64_MAX &&
		    m->length <= INT64_MAX - m->offset);
	/* a wrong checksum would stop its delivery for ever */
	return (crc32c(0, m->content, m->length) == m->crc);
}

/* One message on its way into the journal. */
struct putting {
	struct buf meta;
	struct rec_msg msg;
	struct ent *e;
};

/* message_add - the record; everything it names is durable */
static int
message_add(struct spool *sp, const struct spool_new *m, struct putting *p)
{
	struct rec_head h = { .type = REC_MESSAGE, .seq = p->e->seq };
	unsigned char fixed[MSG_FIXED];
	struct iovec iov[3] = { { fixed, sizeof(fixed) },
		{ p->meta.data, p->meta.len },
		{ (void *)(uintptr_t)m->content, p->msg.big ? 0 : m->length } };
	struct ent *e = p->e;
	struct batch *b;

	rec_msg_put(fixed, &p->msg);
	if (journal_add(sp, &h, iov, 3, true, &e->off) == -1)
		return (-1);
	b = sp->cur;
	e->seg = b->seg->num;
	e->batch = b->num;
	e->length =
	    (uint32_t)(iov[0].iov_len + iov[1].iov_len + iov[2].iov_len);
	b->seg->live++;
	sp->live_bytes += rec_size(e->length);
	if (grow(&b->seqs, &b->cap_seqs, b->n_seqs, sizeof(e->seq)) == -1)
		abort(); /* in the batch, yet never to be reported */
	b->seqs[b->n_seqs++] = e->seq;
	return (0);
}

/* prepare - all of a message but its record; *size grows by that */
static int
prepare(struct spool *sp, const struct spool_new *m, uint64_t seq,
    struct putting *p, uint64_t *size)
{
	uint64_t n;

	p->meta = (struct buf)BUF_INIT(META_MAX);
	if (meta_pack(&p->meta, m) == -1)
		return (-1);
	p->msg.meta_len = (uint32_t)p->meta.len;
	p->msg.meta_crc = crc32c(0, p->meta.data, p->meta.len);
	p->msg.place.length = m->length;
	p->msg.place.crc = m->crc;
	p->msg.big = m->length > 0 &&
	    (m->content == NULL || m->file || m->length > sp->opts.inline_max);
	if (p->msg.big && body_put(sp, m, &p->msg.place) == -1) {
		p->msg.place.file = 0;
		return (-1);
	}
	if (!p->msg.big)
		p->msg.place.offset = MSG_FIXED + p->meta.len;
	if ((p->e = ent_add(sp, seq, (uint32_t)m->env->n_rcpts)) == NULL)
		return (-1);
	p->e->body = p->msg.place.file;
	n = MSG_FIXED + p->meta.len + (p->msg.big ? 0 : m->length);
	*size += rec_size((uint32_t)n);
	return (0);
}

/* unprepare - as if it had never been */
static void
unprepare(struct spool *sp, struct putting *p)
{
	struct bodyfile *body;

	if (p->e != NULL)
		ent_del(sp, p->e);
	else if ((body = body_find(sp, p->msg.place.file)) != NULL) {
		body->dead = true;
		body_reap(sp, body);
	}
}

/* replace - old is over with the batch at hand */
static int
replace(struct spool *sp, struct ent *old)
{
	struct rec_head h = { .type = REC_REPLACED, .seq = old->seq };
	struct rec_small s = { .text = "released" };
	struct buf out = BUF_INIT(256);
	struct batch *b = sp->cur;
	struct iovec iov;
	uint64_t off;
	int r = -1;

	if (grow(&b->ended, &b->cap_ended, b->n_ended, sizeof(old->seq)) ==
	        -1 ||
	    rec_small_put(&out, &s) == -1)
		goto done;
	iov.iov_base = out.data;
	iov.iov_len = out.len;
	if ((r = journal_add(sp, &h, &iov, 1, true, &off)) == -1)
		goto done;
	b->ended[b->n_ended++] = old->seq;
	old->ended = old->replaced = true;
done:
	buf_fini(&out);
	return (r);
}

/* add_all - the records, one batch; once there is room nothing can fail on the
 * way */
static int
add_all(struct spool *sp, const struct spool_new *m, struct putting *p,
    size_t n, uint64_t size, struct ent *old)
{
	size_t i;
	int r = 0;

	if (old != NULL)
		size += rec_size(64);
	sp->together = n > 1 || old != NULL;
	if (sp->together && journal_room(sp, size, true) == -1) {
		sp->together = false;
		return (-1);
	}
	for (i = 0; i < n && r == 0; i++)
		r = message_add(sp, &m[i], &p[i]);
	if (r == 0 && old != NULL && replace(sp, old) == -1) {
		r = -1;
		i = n + 1;
	}
	sp->together = false;
	if (r == -1 && i > 1)
		abort(); /* half of a set is in the batch: never write it */
	return (r);
}

/* count - what was put.  Those that take the place of another were accepted
 * with it: only recipients that milters have added or taken away since. */
static void
count(struct spool *sp, struct putting *p, size_t n, struct ent *old)
{
	struct spool_totals *t = &sp->totals;
	int64_t now = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		struct ent *e = p[i].e;

		e->counted = old == NULL;
		now += e->n_rcpts;
		if (!e->counted)
			continue;
		t->messages[e->own]++;
		t->accepted[e->own] += e->n_rcpts;
	}
	if (old != NULL) {
		old->more_rcpts = now - (int64_t)old->left;
		if (old->more_rcpts > 0)
			t->accepted[old->own] += (uint64_t)old->more_rcpts;
		else
			t->discarded[old->own] += (uint64_t)-old->more_rcpts;
	}
	sp->totals_new = true;
}

static int
put_all(struct spool *sp, const struct spool_new *m, struct putting *p,
    size_t n, uint64_t *seq_r, struct spool_place *place_r, struct ent *old)
{
	uint64_t size = 0;
	size_t i;

	for (i = 0; i < n; i++)
		if (prepare(sp, &m[i], sp->next_seq + i, &p[i], &size) == -1)
			return (-1);
	if (add_all(sp, m, p, n, size, old) == -1)
		return (-1);
	for (i = 0; i < n; i++) {
		place_r[i] = p[i].msg.place;
		if (!p[i].msg.big) {
			place_r[i].file = p[i].e->seg;
			place_r[i].offset += p[i].e->off + REC_HEAD;
		}
		seq_r[i] = sp->next_seq++;
		sp->stats.messages_put++;
		p[i].e->own = (m[i].env->flags & ENV_BOUNCE) != 0;
	}
	count(sp, p, n, old);
	return (0);
}

static int
put_set(struct spool *sp, struct ent *old, const struct spool_new *m, size_t n,
    uint64_t *seq_r, struct spool_place *place_r)
{
	struct putting one = { .e = NULL }, *p = &one;
	const char *reply;
	size_t i;
	int err = 0;

	if (!spool_accepting(sp, &reply) && (sp->failed || !m->own)) {
		errno = sp->failed ? EIO : ENOSPC;
		return (-1);
	}
	for (i = 0; i < n; i++)
		if (!put_is_sane(&m[i])) {
			errno = EINVAL;
			return (-1);
		}
	if (n > 1 && (p = calloc(n, sizeof(*p))) == NULL)
		return (-1);
	if (put_all(sp, m, p, n, seq_r, place_r, old) == -1) {
		err = errno == EDQUOT ? ENOSPC : errno;
		for (i = 0; i < n; i++)
			unprepare(sp, &p[i]);
	}
	for (i = 0; i < n; i++)
		buf_fini(&p[i].meta);
	if (p != &one)
		free(p);
	if (err == 0)
		return (0);
	if (err == ENOSPC) {
		sp->full = true;
		sp->space_checked_ms = spool_now_ms();
	}
	errno = err;
	return (-1);
}

int
spool_put_messages(struct spool *sp, const struct spool_new *m, size_t n,
    uint64_t *seq_r, struct spool_place *place_r)
{
	return (put_set(sp, NULL, m, n, seq_r, place_r));
}

int
spool_put_instead(struct spool *sp, uint64_t old, const struct spool_new *m,
    size_t n, uint64_t *seq_r, struct spool_place *place_r)
{
	struct ent *e = ent_find(sp, old);

	if (e == NULL || e->ended) {
		errno = ENOENT;
		return (-1);
	}
	return (put_set(sp, e, m, n, seq_r, place_r));
}

int
spool_put_message(struct spool *sp, const struct spool_new *m, uint64_t *seq_r,
    struct spool_place *place_r)
{
	return (spool_put_messages(sp, m, 1, seq_r, place_r));
}

void
spool_ended(struct spool *sp, enum rec_type type, uint64_t seq,
    const struct rec_small *s)
{
	struct batch *b;

	journal_small(sp, type, seq, s);
	if ((b = sp->cur) == NULL)
		return;
	if (grow(&b->ended, &b->cap_ended, b->n_ended, sizeof(seq)) == -1)
		return; /* stays in memory and on disk; found at next start */
	b->ended[b->n_ended++] = seq;
}

/* outcome - write it; last: the message needs nothing more */
static void
outcome(struct spool *sp, enum rec_type type, struct ent *e, bool last,
    const struct rec_small *s)
{
	if (last) {
		e->ended = true;
		spool_ended(sp, type, e->seq, s);
	} else
		journal_small(sp, type, e->seq, s);
}

void
spool_put_done(struct spool *sp, uint64_t seq, uint32_t rcpt,
    enum rcpt_state state, const char *reply)
{
	struct rec_small s = { .a = rcpt,
		.b = state == RCPT_FAILED ? RCPT_FAILED : RCPT_DONE,
		.text = reply };
	struct spool_totals *t = &sp->totals;
	struct ent *e = ent_find(sp, seq);
	bool first;

	if (e == NULL || e->ended)
		return;
	first = rcpt < e->n_rcpts && !ent_final(e, rcpt);
	outcome(sp, REC_DONE, e, ent_mark(e, rcpt), &s);
	if (!first)
		return;
	/* Now, when the record is in the batch: one that it filled up has left
	 * without it. */
	*(state == RCPT_FAILED       ? &t->bounced[e->own]
	        : state == RCPT_DONE ? &t->delivered[e->own]
	                             : &t->discarded[e->own]) += 1;
	sp->totals_new = true;
}

void
spool_put_discarded(struct spool *sp, uint64_t rcpts)
{
	sp->totals.messages[0]++;
	sp->totals.accepted[0] += rcpts;
	sp->totals.discarded[0] += rcpts;
	journal_totals(sp);
}

const struct spool_totals *
spool_totals(const struct spool *sp)
{
	return (&sp->totals);
}

void
spool_put_deferred(struct spool *sp, uint64_t seq, uint64_t next_try_ms,
    unsigned attempts, const char *reply)
{
	struct rec_small s = { .a = next_try_ms, .b = attempts, .text = reply };
	struct ent *e = ent_find(sp, seq);

	if (e != NULL && !e->ended)
		outcome(sp, REC_DEFERRED, e, false, &s);
}

void
spool_put_hold(struct spool *sp, uint64_t seq, bool held, const char *why)
{
	struct rec_small s = { .a = held, .text = why };
	struct ent *e = ent_find(sp, seq);

	if (e != NULL && !e->ended)
		outcome(sp, REC_HOLD, e, false, &s);
}

void
spool_put_drop(struct spool *sp, uint64_t seq, const char *why)
{
	struct rec_small s = { .text = why };
	struct ent *e = ent_find(sp, seq);

	if (e == NULL || e->ended)
		return;
	sp->stats.messages_dropped++;
	outcome(sp, REC_DROP, e, true, &s);
	sp->totals.deleted[e->own] += e->left;
	sp->totals_new = true;
}
