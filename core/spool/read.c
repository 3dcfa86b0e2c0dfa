/* SPDX-License-Identifier: ISC */

/* read - messages back from the journal; hand-outs of its files */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* message_read - the fixed part and meta (malloced) of a live message */
static int
message_read(struct spool *sp, uint64_t seq, struct rec_msg *m, char **meta_r)
{
	unsigned char fixed[MSG_FIXED];
	struct ent *e = ent_find(sp, seq);
	char *meta;

	if (e == NULL) {
		errno = ENOENT;
		return (-1);
	}
	if (journal_read(sp, e->seg, fixed, sizeof(fixed), e->off + REC_HEAD) ==
	        -1 ||
	    rec_msg_get(fixed, e->length, m) == -1)
		return (-1);
	if ((meta = malloc((size_t)m->meta_len + 1)) == NULL)
		return (-1);
	if (journal_read(sp, e->seg, meta, m->meta_len,
	        e->off + REC_HEAD + MSG_FIXED) == -1)
		goto bad;
	if (crc32c(0, meta, m->meta_len) != m->meta_crc) {
		errno = EPROTO;
		goto bad;
	}
	if (!m->big) {
		m->place.file = e->seg;
		m->place.offset += e->off + REC_HEAD;
	}
	*meta_r = meta;
	return (0);
bad:
	free(meta);
	return (-1);
}

int
spool_read_place(struct spool *sp, uint64_t seq, struct spool_place *place_r)
{
	struct rec_msg m;
	char *meta;

	if (message_read(sp, seq, &m, &meta) == -1)
		return (-1);
	free(meta);
	*place_r = m.place;
	return (0);
}

int
spool_read_envelope(struct spool *sp, uint64_t seq, struct envelope *env_r)
{
	struct unpacker u;
	struct rec_msg m;
	char *meta;
	int r;

	if (message_read(sp, seq, &m, &meta) == -1)
		return (-1);
	u = (struct unpacker){ .p = (unsigned char *)meta, .n = m.meta_len };
	r = env_unpack(&u, env_r);
	free(meta);
	return (r);
}

enum after { AFTER_RECORD, AFTER_RECEIVED, AFTER_ORIGIN };

/* read_after - one of the things behind the envelope */
static int
read_after(struct spool *sp, uint64_t seq, struct buf *out, enum after what)
{
	struct envelope env;
	struct unpacker u;
	struct rec_msg m;
	const void *p, *origin = "";
	const char *s;
	char *meta;
	size_t n, n_origin = 0;
	int r = -1;

	if (message_read(sp, seq, &m, &meta) == -1)
		return (-1);
	u = (struct unpacker){ .p = (unsigned char *)meta, .n = m.meta_len };
	if (env_unpack(&u, &env) == -1)
		goto done;
	env_fini(&env);
	s = unpack_str(&u);
	p = unpack_blob(&u, &n);
	if (u.n > 0)
		origin = unpack_blob(&u, &n_origin);
	if (unpack_end(&u) == -1)
		goto done;
	r = what == AFTER_RECEIVED ? buf_add(out, p, n)
	    : what == AFTER_ORIGIN ? buf_add(out, origin, n_origin)
	                           : buf_add(out, s, strlen(s));
done:
	free(meta);
	return (r);
}

int
spool_read_record(struct spool *sp, uint64_t seq, struct buf *out)
{
	return (read_after(sp, seq, out, AFTER_RECORD));
}

int
spool_read_received(struct spool *sp, uint64_t seq, struct buf *out)
{
	return (read_after(sp, seq, out, AFTER_RECEIVED));
}

bool
spool_has_file(struct spool *sp, uint64_t seq)
{
	const struct ent *e = ent_find(sp, seq);

	return (e != NULL && e->body != 0);
}

int
spool_read_origin(struct spool *sp, uint64_t seq, struct buf *out)
{
	return (read_after(sp, seq, out, AFTER_ORIGIN));
}

/* content_piece - n bytes of the content from at on */
static int
content_piece(struct spool *sp, const struct rec_msg *m, int body, uint64_t at,
    void *out, size_t n)
{
	uint64_t off = m->place.offset + at;

	if (m->big)
		return (io_read(sp->io, body, out, n, (off_t)off));
	return (journal_read(sp, m->place.file, out, n, off));
}

/* content_read - up to max bytes to out; with all: check the rest's CRC too */
static int
content_read(
    struct spool *sp, uint64_t seq, struct buf *out, uint64_t max, bool all)
{
	struct rec_msg m;
	char *meta, room[16384];
	uint64_t at, end;
	uint32_t crc = 0;
	size_t n;
	int fd = -1, r = -1;

	if (message_read(sp, seq, &m, &meta) == -1)
		return (-1);
	free(meta);
	if (m.big && (fd = spool_file_fd(sp, m.place.file)) == -1)
		return (-1);
	end = all || m.place.length < max ? m.place.length : max;
	for (at = 0; at < end; at += n) {
		n = end - at < sizeof(room) ? (size_t)(end - at) : sizeof(room);
		if (content_piece(sp, &m, fd, at, room, n) == -1)
			goto done;
		crc = crc32c(crc, room, n);
		if (out != NULL && buf_add(out, room, n) == -1)
			goto done;
	}
	if (end == m.place.length && crc != m.place.crc) {
		errno = EPROTO;
		goto done;
	}
	r = 0;
done:
	if (fd != -1)
		(void)sp->io->close(fd);
	return (r);
}

int
spool_read_content(
    struct spool *sp, uint64_t seq, struct buf *out, uint64_t max)
{
	return (content_read(sp, seq, out, max, false));
}

int
spool_verify_content(struct spool *sp, uint64_t seq)
{
	return (content_read(sp, seq, NULL, 0, true));
}

static unsigned *
pins(struct spool *sp, uint64_t file, struct bodyfile **body_r)
{
	struct seg *g = seg_find(sp, file);

	*body_r = g == NULL ? body_find(sp, file) : NULL;
	if (g != NULL)
		return (&g->pins);
	return (*body_r != NULL ? &(*body_r)->pins : NULL);
}

int
spool_pin(struct spool *sp, uint64_t file)
{
	struct bodyfile *b;
	unsigned *n = pins(sp, file, &b);

	if (n == NULL) {
		errno = ENOENT;
		return (-1);
	}
	(*n)++;
	return (0);
}

void
spool_unpin(struct spool *sp, uint64_t file)
{
	struct bodyfile *b;
	unsigned *n = pins(sp, file, &b);

	if (n == NULL || *n == 0)
		return;
	(*n)--;
	if (b != NULL)
		body_reap(sp, b);
}

int
spool_file_fd(struct spool *sp, uint64_t file)
{
	char name[NAME_ROOM];

	seg_name(name, seg_find(sp, file) != NULL ? "seg" : "body", file);
	return (sp->io->openat(sp->dir, name, O_RDONLY, 0));
}

uint64_t
spool_file_gone(struct spool *sp)
{
	uint64_t num;

	if (sp->n_gone == 0)
		return (0);
	num = sp->gone[0];
	memmove(sp->gone, sp->gone + 1, --sp->n_gone * sizeof(num));
	return (num);
}
