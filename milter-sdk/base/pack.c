/* SPDX-License-Identifier: ISC */

/* pack - fixed-order binary records; see pack.h for the format */

#include "milter-sdk/base/pack.h"

#include <errno.h>
#include <string.h>

static void
put(struct packer *k, const void *p, size_t n)
{
	if (!k->failed && buf_add(k->b, p, n) == -1)
		k->failed = true;
}

static void
put_int(struct packer *k, uint64_t v, size_t n)
{
	unsigned char b[8];
	size_t i;

	for (i = 0; i < n; i++)
		b[i] = (unsigned char)(v >> (8 * i));
	put(k, b, n);
}

void
pack_u8(struct packer *k, uint8_t v)
{
	put_int(k, v, 1);
}

void
pack_u16(struct packer *k, uint16_t v)
{
	put_int(k, v, 2);
}

void
pack_u32(struct packer *k, uint32_t v)
{
	put_int(k, v, 4);
}

void
pack_u64(struct packer *k, uint64_t v)
{
	put_int(k, v, 8);
}

void
pack_blob(struct packer *k, const void *p, size_t n)
{
	if (n > UINT32_MAX) {
		errno = EMSGSIZE;
		k->failed = true;
		return;
	}
	pack_u32(k, (uint32_t)n);
	put(k, p, n);
	put(k, "", 1);
}

void
pack_str(struct packer *k, const char *s)
{
	pack_blob(k, s != NULL ? s : "", s != NULL ? strlen(s) : 0);
}

int
pack_end(const struct packer *k)
{
	return (k->failed ? -1 : 0);
}

/* get - the next n bytes, or NULL once the record was short */
static const unsigned char *
get(struct unpacker *u, size_t n)
{
	const unsigned char *p = u->p;

	if (u->failed || u->n < n) {
		u->failed = true;
		return (NULL);
	}
	u->p += n;
	u->n -= n;
	return (p);
}

static uint64_t
get_int(struct unpacker *u, size_t n)
{
	const unsigned char *p = get(u, n);
	uint64_t v = 0;

	if (p == NULL)
		return (0);
	while (n-- > 0)
		v = v << 8 | p[n];
	return (v);
}

uint8_t
unpack_u8(struct unpacker *u)
{
	return ((uint8_t)get_int(u, 1));
}

uint16_t
unpack_u16(struct unpacker *u)
{
	return ((uint16_t)get_int(u, 2));
}

uint32_t
unpack_u32(struct unpacker *u)
{
	return ((uint32_t)get_int(u, 4));
}

uint64_t
unpack_u64(struct unpacker *u)
{
	return (get_int(u, 8));
}

const void *
unpack_blob(struct unpacker *u, size_t *len_r)
{
	size_t n = unpack_u32(u);
	const unsigned char *p;

	*len_r = 0;
	if (u->failed || u->n < n + 1 || u->p[n] != '\0') {
		u->failed = true;
		return ("");
	}
	p = get(u, n + 1);
	*len_r = n;
	return (p);
}

const char *
unpack_str(struct unpacker *u)
{
	size_t n;
	const char *s = unpack_blob(u, &n);

	if (memchr(s, '\0', n) != NULL) {
		u->failed = true;
		return ("");
	}
	return (s);
}

int
unpack_end(struct unpacker *u)
{
	if (u->failed || u->n != 0) {
		errno = EPROTO;
		return (-1);
	}
	return (0);
}
