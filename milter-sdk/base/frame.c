/* SPDX-License-Identifier: ISC */

/*
 * frame - length-checked records and descriptors between our own processes
 *
 * A descriptor is tied to the first byte of its frame: unix stream sockets
 * never merge a read across ancillary data, so descriptors arrive in the
 * order of the frames that own them.
 */

#include "milter-sdk/base/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILL = 64 * 1024 };

struct frame_out_fd {
	struct frame_out_fd *next;
	size_t at; /* offset in out of the frame that carries it */
	int fd;
};

struct header {
	uint32_t len;
	uint16_t type;
	uint16_t flags;
	uint64_t ref;
};

_Static_assert(sizeof(struct header) == FRAME_HDR, "header has no padding");

void
frame_init(struct frame_io *io, int sock)
{
	memset(io, 0, sizeof(*io));
	io->sock = sock;
	io->in.max = FRAME_MAX + FRAME_HDR + FILL;
	io->out.max = FRAME_QUEUE_MAX;
	io->out_fds_tail = &io->out_fds;
}

/* pop_out_fd - forget the first descriptor to send, and close our copy */
static void
pop_out_fd(struct frame_io *io)
{
	struct frame_out_fd *o = io->out_fds;

	io->out_fds = o->next;
	if (io->out_fds == NULL)
		io->out_fds_tail = &io->out_fds;
	(void)close(o->fd);
	free(o);
}

void
frame_fini(struct frame_io *io)
{
	while (io->out_fds != NULL)
		pop_out_fd(io);
	while (io->n_in_fds > 0)
		(void)close(io->in_fds[--io->n_in_fds]);
	buf_fini(&io->in);
	buf_fini(&io->out);
}

int
frame_put(struct frame_io *io, uint16_t type, uint64_t ref, const void *p,
    size_t len, int fd)
{
	struct header h = { .len = (uint32_t)len,
		.type = type,
		.ref = ref,
		.flags = fd != -1 ? FRAME_HAS_FD : 0 };
	struct frame_out_fd *o = NULL;
	size_t at = io->out.len;

	if (len > FRAME_MAX) {
		errno = EMSGSIZE;
		return (-1);
	}
	if (fd != -1 && (o = calloc(1, sizeof(*o))) == NULL)
		return (-1);
	if (buf_add(&io->out, &h, sizeof(h)) == -1 ||
	    buf_add(&io->out, p, len) == -1) {
		io->out.len = at;
		free(o);
		return (-1);
	}
	if (o != NULL) {
		o->at = at;
		o->fd = fd;
		*io->out_fds_tail = o;
		io->out_fds_tail = &o->next;
	}
	return (0);
}

/* write_some - one sendmsg up to the next frame that carries a descriptor */
static ssize_t
write_some(struct frame_io *io)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} ctl;
	size_t end = io->out.len;
	struct frame_out_fd *o = io->out_fds;
	bool with_fd = o != NULL && o->at == io->out_off;
	struct iovec iov;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (with_fd && o->next != NULL)
		end = o->next->at;
	else if (o != NULL && !with_fd)
		end = o->at;
	iov.iov_base = io->out.data + io->out_off;
	iov.iov_len = end - io->out_off;
	if (with_fd) {
		memset(&ctl, 0, sizeof(ctl));
		m.msg_control = &ctl;
		m.msg_controllen = sizeof(ctl.room);
		ctl.h.cmsg_level = SOL_SOCKET;
		ctl.h.cmsg_type = SCM_RIGHTS;
		ctl.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&ctl.h), &o->fd, sizeof(int));
	}
	n = sendmsg(io->sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0 && with_fd)
		pop_out_fd(io);
	return (n);
}

int
frame_flush(struct frame_io *io)
{
	struct frame_out_fd *o;
	ssize_t n;

	while (io->out_off < io->out.len) {
		if ((n = write_some(io)) == -1) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				return (-1);
			/* Give back what is sent, so that the queue's limit
			 * counts only what waits. */
			memmove(io->out.data, io->out.data + io->out_off,
			    io->out.len - io->out_off);
			for (o = io->out_fds; o != NULL; o = o->next)
				o->at -= io->out_off;
			io->out.len -= io->out_off;
			io->out_off = 0;
			return (1);
		}
		io->out_off += (size_t)n;
	}
	io->out.len = io->out_off = 0;
	if (io->out.cap > 4 * FRAME_MAX)
		buf_fini(&io->out);
	return (0);
}

/* keep_fds - queue the descriptors of one read; too many is a broken peer */
static int
keep_fds(struct frame_io *io, struct msghdr *m)
{
	const size_t max = sizeof(io->in_fds) / sizeof(io->in_fds[0]);
	struct cmsghdr *c;
	size_t i, n;
	int fd, bad = (m->msg_flags & MSG_CTRUNC) != 0;

	for (c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (io->n_in_fds < max)
				io->in_fds[io->n_in_fds++] = fd;
			else {
				(void)close(fd);
				bad = 1;
			}
		}
	}
	if (bad) {
		errno = EPROTO;
		return (-1);
	}
	return (0);
}

long
frame_fill(struct frame_io *io)
{
	static char room[FILL];
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(FRAME_FDS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = { room, sizeof(room) };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl) };
	ssize_t n;

	if (io->in_off > 0) {
		memmove(io->in.data, io->in.data + io->in_off,
		    io->in.len - io->in_off);
		io->in.len -= io->in_off;
		io->in_off = 0;
	}
	do
		n = recvmsg(io->sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n == -1 && errno == EINTR);
	if (n <= 0)
		return (n);
	if (keep_fds(io, &m) == -1 || buf_add(&io->in, room, (size_t)n) == -1)
		return (-1);
	return (n);
}

int
frame_next(struct frame_io *io, struct frame *f)
{
	size_t have = io->in.len - io->in_off;
	struct header h;

	if (have < FRAME_HDR)
		return (0);
	memcpy(&h, io->in.data + io->in_off, sizeof(h));
	if (h.len > FRAME_MAX || (h.flags & ~FRAME_HAS_FD) != 0)
		goto bad;
	if (have < FRAME_HDR + h.len)
		return (0);
	f->type = h.type;
	f->ref = h.ref;
	f->data = io->in.data + io->in_off + FRAME_HDR;
	f->len = h.len;
	f->fd = -1;
	if (h.flags & FRAME_HAS_FD) {
		if (io->n_in_fds == 0)
			goto bad;
		f->fd = io->in_fds[0];
		io->n_in_fds--;
		memmove(io->in_fds, io->in_fds + 1,
		    io->n_in_fds * sizeof(io->in_fds[0]));
	}
	io->in_off += FRAME_HDR + h.len;
	return (1);

bad:
	errno = EPROTO;
	return (-1);
}
