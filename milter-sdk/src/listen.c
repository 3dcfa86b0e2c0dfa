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
