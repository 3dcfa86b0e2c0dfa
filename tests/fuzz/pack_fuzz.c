/* SPDX-License-Identifier: ISC */

/*
 * pack_fuzz - frames and packed records, as another process may send them
 *
 * The first byte chooses the decoder, the rest is its input.
 *
 * coverage: milter-sdk/base/pack.c milter-sdk/base/frame.c
 * coverage: core/smtp/envelope.c quarantine/origin.c
 */

#include "core/smtp/envelope.h"
#include "core/spool/record.h"
#include "milter-sdk/base/frame.h"
#include "milter-sdk/base/json.h"
#include "quarantine/quarantine.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef PLANTED
/* The mistake that the harness must find: a byte off the wire as an index, when
 * there are only 16 combinations of NOTIFY. */
static void
planted(const struct envelope *e)
{
	unsigned *counts = calloc(16, sizeof(*counts));
	size_t i;

	for (i = 0; counts != NULL && i < e->n_rcpts; i++)
		counts[e->rcpts[i].notify]++;
	free(counts);
}
#endif

/* envelope - what is accepted must pack to the same bytes again */
static void
envelope(const unsigned char *p, size_t n)
{
	struct unpacker u = { .p = p, .n = n };
	struct buf b = BUF_INIT((size_t)1 << 28);
	struct packer k = { .b = &b };
	struct envelope e;

	if (env_unpack(&u, &e) == -1)
		return;
#ifdef PLANTED
	planted(&e);
#endif
	env_pack(&k, &e);
	if (pack_end(&k) == -1 || b.len != n - u.n ||
	    memcmp(b.data, p, b.len) != 0)
		abort();
	while (e.n_rcpts > 0)
		env_del_rcpt(&e, e.n_rcpts / 2);
	env_fini(&e);
	buf_fini(&b);
}

static void
route(const unsigned char *p, size_t n)
{
	struct unpacker u = { .p = p, .n = n };
	struct route r, copy = { 0 };

	if (route_unpack(&u, &r) == -1)
		return;
	if (route_copy(&copy, &r) == -1 || strcmp(copy.addr, r.addr) != 0)
		abort();
	route_fini(&copy);
	route_fini(&r);
	(void)!unpack_end(&u);
}

static void
records(const unsigned char *p, size_t n)
{
	struct rec_small s;
	struct rec_msg m;
	struct buf b = BUF_INIT(1 << 20);

	if (rec_small_get(p, n, &s) == 0 &&
	    (rec_small_put(&b, &s) == -1 || b.len != n ||
	        memcmp(b.data, p, n) != 0))
		abort();
	buf_fini(&b);
	if (rec_msg_get(p, n, &m) == 0 && !m.big &&
	    m.place.offset + m.place.length != n)
		abort();
}

static void
json(const unsigned char *p, size_t n)
{
	struct buf b = BUF_INIT(1 << 20);
	size_t i;

	if (json_strn(&b, (const char *)p, n) == -1)
		return;
	for (i = 1; i + 1 < b.len; i++)
		if ((unsigned char)b.data[i] < 0x20 ||
		    (b.data[i] == '"' && b.data[i - 1] != '\\'))
			abort();
	buf_fini(&b);
}

static void
pair(struct frame_io io[2], int sv[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) == -1)
		abort();
	frame_init(&io[0], sv[0]);
	frame_init(&io[1], sv[1]);
}

static void
unpair(struct frame_io io[2], int sv[2])
{
	frame_fini(&io[0]);
	frame_fini(&io[1]);
	close(sv[0]);
	close(sv[1]);
}

/* stream - raw bytes from a process that was taken over */
static void
stream(const unsigned char *p, size_t n)
{
	struct frame_io io[2];
	struct frame f;
	size_t step, at;
	int sv[2], r = 0;

	if (n < 1)
		return;
	pair(io, sv);
	step = (size_t)p[0] * 16 + 1;
	for (at = 1; at < n && r != -1; at += step) {
		if (step > n - at)
			step = n - at;
		if (write(sv[0], p + at, step) == -1 ||
		    frame_fill(&io[1]) == -1)
			break;
		while ((r = frame_next(&io[1], &f)) == 1) {
			envelope(f.data, f.len);
			if (f.fd != -1)
				abort(); /* none was sent */
		}
	}
	unpair(io, sv);
}

/* frame_len - some are larger than a socket holds, few enough to be quick */
static size_t
frame_len(const unsigned char *p, size_t i)
{
	return (p[i + 1] & 128 && i < 4 ? (size_t)p[i] * 1000 : p[i]);
}

/* there_and_back - frames, some with descriptors, arrive as they were sent */
static void
there_and_back(const unsigned char *p, size_t n)
{
	static char big[300000];
	struct frame_io io[2];
	struct frame f;
	size_t i, sent = 0, got = 0, len;
	int sv[2], fd, r = 1;

	pair(io, sv);
	for (i = 0; i + 1 < n && i < 80; i += 2, sent++) {
		len = frame_len(p, i);
		fd = p[i + 1] & 64 && sent % 4 == 0 ? dup(sv[0]) : -1;
		if (frame_put(&io[0], p[i + 1], sent, big, len, fd) == -1)
			abort();
	}
	while (r != 0 || got < sent) {
		if ((r = frame_flush(&io[0])) == -1 ||
		    (got < sent && frame_fill(&io[1]) == -1))
			abort();
		while (frame_next(&io[1], &f) == 1) {
			i = got++ * 2;
			len = frame_len(p, i);
			if (f.ref != i / 2 || f.type != p[i + 1] ||
			    f.len != len ||
			    (f.fd != -1) !=
			        ((p[i + 1] & 64) != 0 && i % 8 == 0))
				abort();
			if (f.fd != -1)
				close(f.fd);
		}
	}
	unpair(io, sv);
}

/* origin - of a held message; what is accepted must pack to the same again */
static void
origin(const unsigned char *p, size_t n)
{
	struct buf b = BUF_INIT((size_t)1 << 28);
	struct quarantine_origin o;

	if (quarantine_origin_unpack(p, n, &o) == 0 &&
	    n <= QUARANTINE_ORIGIN_MAX &&
	    (quarantine_origin_pack(&b, &o) == -1 || b.len != n))
		abort();
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static void (*const decode[])(const unsigned char *, size_t) = {
		envelope, route, records, json, stream, there_and_back, origin
	};

	if (size == 0)
		return (0);
#ifdef PLANTED
	envelope(data + 1, size - 1);
	return (0);
#endif
	decode[data[0] % (sizeof(decode) / sizeof(decode[0]))](
	    data + 1, size - 1);
	return (0);
}
