/* SPDX-License-Identifier: ISC */

#include "milter-sdk/base/frame.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct frame_io a, b;
static int sv[2];

static void
open_pair(void)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) == -1)
		abort();
	frame_init(&a, sv[0]);
	frame_init(&b, sv[1]);
}

static void
close_pair(void)
{
	frame_fini(&a);
	frame_fini(&b);
	close(sv[0]);
	close(sv[1]);
}

static void
batch_keeps_order_and_descriptors(void)
{
	struct frame f;
	int p[2], got = 0;
	char c;

	open_pair();
	T_OK(pipe(p) == 0);
	T_OK(frame_put(&a, 1, 11, "one", 3, -1) == 0);
	T_OK(frame_put(&a, 2, 12, "two", 3, p[1]) == 0);
	T_OK(frame_put(&a, 3, 13, "", 0, -1) == 0);
	T_OK(frame_flush(&a) == 0);
	while (frame_fill(&b) > 0)
		while (frame_next(&b, &f) == 1) {
			got++;
			T_OK(f.type == got && f.ref == 10u + (unsigned)got);
			T_OK((f.fd != -1) == (got == 2));
			if (f.fd != -1) {
				T_OK(write(f.fd, "x", 1) == 1);
				close(f.fd);
			}
		}
	T_OK(got == 3);
	T_OK(read(p[0], &c, 1) == 1 && c == 'x');
	T_OK(read(p[0], &c, 1) == 0); /* no copy of p[1] is left open */
	close(p[0]);
	close_pair();
}

static void
refuses_hostile_headers(void)
{
	static const unsigned char big[16] = { 0xff, 0xff, 0xff, 0xff };
	static const unsigned char no_fd[16] = { 0, 0, 0, 0, 1, 0, 1, 0 };
	struct frame f;

	open_pair();
	T_OK(write(sv[0], big, 16) == 16 && frame_fill(&b) == 16);
	errno = 0;
	T_OK(frame_next(&b, &f) == -1 && errno == EPROTO);
	close_pair();
	open_pair();
	T_OK(write(sv[0], no_fd, 16) == 16 && frame_fill(&b) == 16);
	errno = 0;
	T_OK(frame_next(&b, &f) == -1 && errno == EPROTO);
	T_OK(frame_put(&a, 1, 1, NULL, FRAME_MAX + 1, -1) == -1 &&
	    errno == EMSGSIZE);
	close_pair();
}

static void
every_prefix_asks_for_more(void)
{
	unsigned char bytes[19] = { 3, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
		0, 'a', 'b', 'c' };
	struct frame f;
	size_t i;

	open_pair();
	for (i = 0; i < sizeof(bytes); i++) {
		T_OK(frame_next(&b, &f) == 0);
		T_OK(write(sv[0], bytes + i, 1) == 1 && frame_fill(&b) == 1);
	}
	T_OK(frame_next(&b, &f) == 1 && f.type == 7 && f.len == 3);
	close_pair();
}

static const struct t_case cases[] = {
	{ "frame: a batch keeps order, descriptors go with their frame",
	    batch_keeps_order_and_descriptors },
	{ "frame: refuses a length over the limit and a missing descriptor",
	    refuses_hostile_headers },
	{ "frame: every prefix asks for more", every_prefix_asks_for_more },
};

T_MAIN(cases)
