/* SPDX-License-Identifier: ISC */

/*
 * content - from the segment to the wire
 *
 * Stuffing looks at every line and does not trust ENV_DOTS: a missing dot would
 * cut a message short, or let its rest be taken for commands.  A dot after a
 * bare LF is stuffed too: some next hop may take that LF for a line's end.
 */

#include "core/relay/content.h"

#include "milter-sdk/base/crc32c.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* One process, one thread, and nothing is kept here between calls. */
static char chunk[CONTENT_CHUNK];

void
content_init(
    struct content *c, int fd, uint64_t off, uint64_t len, uint32_t crc)
{
	c->fd = fd;
	c->off = off;
	c->left = len;
	c->want = crc;
	c->crc = 0;
	c->last[0] = '\r';
	c->last[1] = '\n';
}

int
content_stuff(struct buf *out, const char last[2], const char *p, size_t n)
{
	const char *end = p + n, *from = p, *dot = p;

	/* Dots are rarer than line ends: look for them. */
	while ((dot = memchr(dot, '.', (size_t)(end - dot))) != NULL) {
		if (dot == p ? last[1] == '\n' : dot[-1] == '\n') {
			if (buf_add(out, from, (size_t)(dot - from)) == -1 ||
			    buf_add(out, ".", 1) == -1)
				return (-1);
			from = dot;
		}
		dot++;
	}
	return (buf_add(out, from, (size_t)(end - from)));
}

static int
final_dot(struct content *c, struct buf *out)
{
	bool ended = c->last[0] == '\r' && c->last[1] == '\n';

	if (c->crc != c->want)
		return (CONTENT_DAMAGED);
	if (buf_add(out, "\r\n.\r\n" + (ended ? 2 : 0), ended ? 3 : 5) == -1)
		return (-1);
	return (CONTENT_END);
}

int
content_fill(struct content *c, struct buf *out)
{
	size_t want =
	    c->left < CONTENT_CHUNK ? (size_t)c->left : (size_t)CONTENT_CHUNK;
	ssize_t n;

	if (c->left == 0)
		return (final_dot(c, out));
	n = pread(c->fd, chunk, want, (off_t)c->off);
	if (n == -1)
		return (-1);
	if (n == 0)
		return (CONTENT_DAMAGED);
	c->crc = crc32c(c->crc, chunk, (size_t)n);
	if (content_stuff(out, c->last, chunk, (size_t)n) == -1)
		return (-1);
	if (n > 1)
		c->last[0] = chunk[n - 2];
	else
		c->last[0] = c->last[1];
	c->last[1] = chunk[n - 1];
	c->off += (uint64_t)n;
	c->left -= (uint64_t)n;
	return (c->left == 0 ? final_dot(c, out) : CONTENT_MORE);
}
