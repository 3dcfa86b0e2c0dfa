/* SPDX-License-Identifier: ISC */

/*
 * listen - where a filter listens, in libmilter's words, and the socket's file
 *
 * libmilter removes any socket that it finds in its place, one that another
 * process serves too; and at a stop it would remove the one that a successor
 * has made meanwhile.  So this looks first, and remembers which file is ours.
 */

#include "milter-sdk/src/sdk.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct stat ours;
static bool have_ours;

/* unix_path - of a Unix socket; NULL for a network's */
static const char *
unix_path(const char *where)
{
	if (strncasecmp(where, "unix:", 5) == 0)
		return (where + 5);
	if (strncasecmp(where, "local:", 6) == 0)
		return (where + 6);
	return (strchr(where, ':') == NULL ? where : NULL);
}

/* inet_text - Postfix' inet:HOST:PORT in libmilter's form */
static int
inet_text(const char *s, char *room, size_t n)
{
	const char *colon = strchr(s, ':'), *port = strrchr(s, ':');

	if (strncasecmp(s, "inet", 4) != 0 || colon == port ||
	    strchr(s, '@') != NULL)
		return (snprintf(room, n, "%s", s));
	return (
	    snprintf(room, n, "%s:%s@%.*s", colon[1] == '[' ? "inet6" : "inet",
	        port + 1, (int)(port - colon - 1), colon + 1));
}

int
absolute(const char *path, char *room, size_t n)
{
	char dir[PATH_MAX];
	int len;

	if (path[0] == '/' || getcwd(dir, sizeof(dir)) == NULL)
		len = snprintf(room, n, "%s", path);
	else
		len = snprintf(room, n, "%s/%s", dir, path);
	if (len > 0 && (size_t)len < n)
		return (0);
	errno = ENAMETOOLONG;
	return (-1);
}

int
listen_text(const char *where, char *room, size_t n)
{
	const char *path = unix_path(where);
	int len;

	if (path != NULL && *path == '\0') {
		errno = EINVAL;
		return (-1);
	}
	if (path != NULL) {
		if (n < 6)
			return (-1);
		memcpy(room, "unix:", 6);
		return (absolute(path, room + 5, n - 5));
	}
	len = inet_text(where, room, n);
	if (len > 0 && (size_t)len < n)
		return (0);
	errno = ENAMETOOLONG;
	return (-1);
}

int
listen_check(const char *where)
{
	const char *path = unix_path(where);
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd, rc;

	if (path == NULL)
		return (0);
	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return (-1);
	}
	memcpy(un.sun_path, path, strlen(path) + 1);
	/* Not blocking: a full backlog is EAGAIN, and that is served too. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return (-1);
	rc = connect(fd, (struct sockaddr *)&un, sizeof(un));
	rc = rc == 0 || errno == EAGAIN ? -1 : 0;
	(void)close(fd);
	errno = EADDRINUSE;
	return (rc);
}

enum { BACKLOG = 512 };

/* listen_at - bind one address; -1 with errno */
static int
listen_at(const struct sockaddr *sa, socklen_t len)
{
	int fd, saved, on = 1;

	fd = socket(
	    sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return (-1);
	if (sa->sa_family != AF_UNIX)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, sa, len) == 0 && listen(fd, BACKLOG) == 0)
		return (fd);
	saved = errno;
	(void)close(fd);
	errno = saved;
	return (-1);
}

static int
listen_unix(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t old;
	int fd;

	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return (-1);
	}
	memcpy(un.sun_path, path, strlen(path) + 1);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		(void)unlink(path); /* nobody serves it: listen_check() */
	old = umask(0117);
	fd = listen_at((const struct sockaddr *)&un, sizeof(un));
	(void)umask(old);
	return (fd);
}

/* split_inet - PORT@HOST or PORT; host may be in brackets */
static int
split_inet(const char *s, char *port, char *host, size_t n)
{
	const char *at = strchr(s, '@');
	size_t len = at != NULL ? (size_t)(at - s) : strlen(s);
	size_t host_len = 0;

	if (at != NULL) {
		at++;
		host_len = strlen(at);
		if (host_len > 2 && at[0] == '[' && at[host_len - 1] == ']') {
			at++;
			host_len -= 2;
		}
	}
	if (len == 0 || len >= n || host_len >= n) {
		errno = EINVAL;
		return (-1);
	}
	(void)snprintf(port, n, "%.*s", (int)len, s);
	(void)snprintf(host, n, "%.*s", (int)host_len, at != NULL ? at : "");
	return (0);
}

static int
listen_inet(int family, const char *s)
{
	struct addrinfo hints = { .ai_family = family,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE };
	struct addrinfo *list = NULL, *ai;
	char port[256], host[256];
	int fd = -1;

	if (split_inet(s, port, host, sizeof(port)) == -1)
		return (-1);
	errno = EADDRNOTAVAIL; /* if the resolver has no errno */
	if (getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list) !=
	    0)
		return (-1);
	for (ai = list; ai != NULL && fd == -1; ai = ai->ai_next)
		fd = listen_at(ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(list);
	return (fd);
}

int
listen_open(const char *where)
{
	const char *path = unix_path(where);

	if (path != NULL)
		return (listen_unix(path));
	if (strncasecmp(where, "inet6:", 6) == 0)
		return (listen_inet(AF_INET6, where + 6));
	if (strncasecmp(where, "inet:", 5) == 0)
		return (listen_inet(AF_INET, where + 5));
	errno = EINVAL;
	return (-1);
}

void
listen_made(const char *where)
{
	const char *path = unix_path(where);

	have_ours = path != NULL && stat(path, &ours) == 0;
}

void
listen_remove(const char *where)
{
	const char *path = unix_path(where);
	struct stat st;

	if (have_ours && stat(path, &st) == 0 && st.st_dev == ours.st_dev &&
	    st.st_ino == ours.st_ino)
		(void)unlink(path);
}
