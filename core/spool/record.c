/* SPDX-License-Identifier: ISC */

/*
 * record - bytes of the journal's records
 *
 * Pure functions: what they decode came from a disk and may be anything.  The
 * generation in each header is unguessable (a salt made with the spool), so
 * mail content can not pass for a record when recovery looks for the next one.
 */

#include "core/spool/record.h"
#include "milter-sdk/base/crc32c.h"

#include <errno.h>
#include <string.h>

static void
put(unsigned char **p, uint64_t v, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		*(*p)++ = (unsigned char)(v >> (8 * i));
}

static uint64_t
get(const unsigned char **p, size_t n)
{
	uint64_t v = 0;
	size_t i;

	for (i = 0; i < n; i++)
		v |= (uint64_t) * (*p)++ << (8 * i);
	return (v);
}

uint64_t
rec_size(uint64_t n)
{
	return ((REC_HEAD + n + REC_ALIGN - 1) / REC_ALIGN * REC_ALIGN);
}

void
rec_head_put(unsigned char *out, const struct rec_head *h)
{
	unsigned char *p = out;

	put(&p, REC_MAGIC, 4);
	put(&p, h->type, 4);
	put(&p, h->length, 4);
	put(&p, h->crc, 4);
	put(&p, h->seq, 8);
	put(&p, h->gen, 8);
	put(&p, h->batch, 8);
	put(&p, 0, 4);
	put(&p, crc32c(0, out, REC_HEAD - 4), 4);
}

int
rec_head_get(const unsigned char *in, uint64_t gen, struct rec_head *h)
{
	const unsigned char *p = in;
	uint64_t type;

	if (get(&p, 4) != REC_MAGIC)
		return (-1);
	type = get(&p, 4);
	h->length = (uint32_t)get(&p, 4);
	h->crc = (uint32_t)get(&p, 4);
	h->seq = get(&p, 8);
	h->gen = get(&p, 8);
	h->batch = get(&p, 8);
	(void)get(&p, 4);
	if (get(&p, 4) != crc32c(0, in, REC_HEAD - 4))
		return (-1);
	if (h->gen != gen || type == 0 || type >= REC_TYPE_END ||
	    h->seq > REC_NUM_MAX || h->batch > REC_NUM_MAX)
		return (-1);
	h->type = (enum rec_type)type;
	return (0);
}

void
rec_msg_put(unsigned char *out, const struct rec_msg *m)
{
	unsigned char *p = out;

	put(&p, m->meta_len, 4);
	put(&p, m->meta_crc, 4);
	put(&p, m->big, 4);
	put(&p, m->place.crc, 4);
	put(&p, m->place.file, 8);
	put(&p, m->place.offset, 8);
	put(&p, m->place.length, 8);
	put(&p, 0, 4);
}

int
rec_msg_get(const unsigned char *in, uint64_t n, struct rec_msg *m)
{
	const unsigned char *p = in;
	uint64_t big, rest;

	if (n < MSG_FIXED)
		goto bad;
	m->meta_len = (uint32_t)get(&p, 4);
	m->meta_crc = (uint32_t)get(&p, 4);
	big = get(&p, 4);
	m->place.crc = (uint32_t)get(&p, 4);
	m->place.file = get(&p, 8);
	m->place.offset = get(&p, 8);
	m->place.length = get(&p, 8);
	m->big = big == 1;
	if (big > 1 || m->meta_len > n - MSG_FIXED)
		goto bad;
	rest = n - MSG_FIXED - m->meta_len;
	if (m->big &&
	    (rest != 0 || m->place.file == 0 || m->place.file > REC_NUM_NEXT ||
	        m->place.offset > INT64_MAX ||
	        m->place.length > INT64_MAX - m->place.offset))
		goto bad;
	if (!m->big &&
	    (m->place.file != 0 || m->place.length != rest ||
	        m->place.offset != n - rest))
		goto bad;
	return (0);
bad:
	errno = EPROTO;
	return (-1);
}

int
rec_small_put(struct buf *b, const struct rec_small *s)
{
	struct packer k = { .b = b };

	pack_u64(&k, s->a);
	pack_u64(&k, s->b);
	pack_str(&k, s->text);
	return (pack_end(&k));
}

int
rec_small_get(const void *data, size_t n, struct rec_small *s)
{
	struct unpacker u = { .p = data, .n = n };

	s->a = unpack_u64(&u);
	s->b = unpack_u64(&u);
	s->text = unpack_str(&u);
	return (unpack_end(&u));
}

void
rec_totals_put(unsigned char *out, const struct spool_totals *t)
{
	unsigned char *p = out;
	uint64_t v[TOTALS_N];
	size_t i;

	memcpy(v, t, sizeof(v));
	put(&p, TOTALS_N, 4);
	for (i = 0; i < TOTALS_N; i++)
		put(&p, v[i], 8);
}

int
rec_totals_get(const unsigned char *in, size_t n, struct spool_totals *t)
{
	const unsigned char *p = in;
	uint64_t v[TOTALS_N], count;
	size_t i;

	if (n < TOTALS_BYTES || (count = get(&p, 4)) < TOTALS_N ||
	    count > TOTALS_N_MAX || n != 4 + count * 8) {
		errno = EPROTO;
		return (-1);
	}
	for (i = 0; i < TOTALS_N; i++)
		v[i] = get(&p, 8);
	memcpy(t, v, sizeof(v));
	return (0);
}
