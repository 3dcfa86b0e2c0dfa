/* SPDX-License-Identifier: ISC */

/*
 * ipc - packets with a descriptor between main, zygote and scanners
 */

#include "milters/virus/ipc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

int
ipc_send(int sock, const void *p, size_t len, int fd)
{
	union control control;
	struct iovec iov = { (void *)(uintptr_t)p, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	if (fd != -1) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	return (n == (ssize_t)len ? 0 : -1);
}

/* take_fd - the one descriptor of a packet; surplus ones do not fit into the
 * control buffer, and the kernel closes those */
static int
take_fd(struct msghdr *msg)
{
	struct cmsghdr *c;
	int fd = -1;

	for (c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		    c->cmsg_len == CMSG_LEN(sizeof(fd)))
			memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return (fd);
}

int64_t
ipc_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

/* wait_readable - 0, or -1 with errno */
static int
wait_readable(int sock, int timeout_ms)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	const int64_t end = ipc_now_ms() + timeout_ms;
	int64_t left;
	int n;

	for (;;) {
		left = timeout_ms < 0 ? -1 : end - ipc_now_ms();
		if (timeout_ms >= 0 && left < 0)
			left = 0;
		n = poll(&p, 1, (int)left);
		if (n > 0)
			return (0);
		if (n == 0) {
			errno = ETIMEDOUT;
			return (-1);
		}
		if (errno != EINTR)
			return (-1);
	}
}

ssize_t
ipc_recv(int sock, void *p, size_t len, int *fd_r, int timeout_ms)
{
	union control control;
	struct iovec iov = { p, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;
	int fd;

	if (fd_r != NULL) {
		*fd_r = -1;
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	if (wait_readable(sock, timeout_ms) == -1)
		return (-1);
	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		return (-1);
	fd = fd_r != NULL ? take_fd(&msg) : -1;
	if ((msg.msg_flags & MSG_TRUNC) != 0) {
		if (fd != -1)
			(void)close(fd);
		errno = EMSGSIZE;
		return (-1);
	}
	if (fd_r != NULL)
		*fd_r = fd;
	return (n);
}
