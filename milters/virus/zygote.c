/* SPDX-License-Identifier: ISC */

/*
 * zygote - load the virus database once, and fork the scanners that share it
 *
 * The zygote is started afresh (not forked from main, which has threads and
 * mail in its memory), has one thread, reads files that the admin named and
 * packets from main, and never mail.  Its scanners share the pages of the
 * database.  It ends at the end of its socket, that is with main, and takes
 * its scanners and their folders along.
 */

#include "milters/virus/zygote.h"

#include "milters/virus/engine.h"
#include "milters/virus/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum { SCANNERS_MAX = 256, DIR_MAX = 512 };

struct child {
	pid_t pid; /* 0: free */
	char dir[DIR_MAX];
};

struct zygote {
	struct zygote_config config;
	struct engine *engine;
	struct child children[SCANNERS_MAX];
};

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return (0);
}

static void
remove_folder(const char *dir)
{
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* end_child - end a scanner and remove its folder; its wait status */
static int
end_child(struct child *c)
{
	int status = 0;

	(void)kill(c->pid, SIGKILL);
	while (waitpid(c->pid, &status, 0) == -1 && errno == EINTR)
		continue;
	remove_folder(c->dir);
	c->pid = 0;
	return (status);
}

/* scanner_main - scan what main sends until main closes the socket */
static int
scanner_main(struct zygote *z, int sock, const char *dir)
{
	struct scan_request request;
	struct scan_reply reply;
	struct stat st;
	ssize_t n;
	int fd;

	(void)prctl(PR_SET_NAME, "virus-scan", 0, 0, 0);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1 ||
	    engine_temp(z->engine, dir) == -1 || chdir(dir) == -1 ||
	    jail_close(&z->config, dir) == -1)
		return (EX_OSERR);
	for (;;) {
		n = ipc_recv(sock, &request, sizeof(request), &fd, -1);
		if (n == 0)
			return (0);
		if (n != (ssize_t)sizeof(request) || fd == -1 ||
		    fstat(fd, &st) == -1 || (uint64_t)st.st_size != request.len)
			return (EX_PROTOCOL);
		jail_cpu(z->config.scan_timeout_ms);
		engine_scan(z->engine, fd, &reply);
		(void)close(fd);
		if (ipc_send(sock, &reply, sizeof(reply), -1) == -1)
			return (0);
	}
}

static int
fail(struct zygote_reply *reply, const char *what)
{
	reply->error = errno != 0 ? errno : EIO;
	(void)snprintf(reply->text, sizeof(reply->text), "%.200s: %s", what,
	    strerror(reply->error));
	return (-1);
}

/* spawn - fork one scanner that talks over sock */
static void
spawn(struct zygote *z, struct child *c, int sock, struct zygote_reply *reply)
{
	(void)snprintf(c->dir, sizeof(c->dir), "%.480s/milldam-virus.XXXXXX",
	    z->config.strings);
	if (mkdtemp(c->dir) == NULL) {
		(void)fail(reply, c->dir);
		return;
	}
	if ((c->pid = fork()) == -1) {
		(void)fail(reply, "fork");
		c->pid = 0;
		(void)rmdir(c->dir);
		return;
	}
	if (c->pid == 0) {
		(void)close(IPC_ZYGOTE_FD);
		_exit(scanner_main(z, sock, c->dir));
	}
	reply->pid = c->pid;
}

/* serve - one request of main */
static void
serve(struct zygote *z, const struct zygote_request *request, int sock,
    struct zygote_reply *reply)
{
	struct child *c, *room = NULL;

	for (c = z->children; c < z->children + SCANNERS_MAX; c++)
		if (c->pid != 0 && c->pid == request->replaces)
			reply->old_status = end_child(c);
	for (c = z->children; room == NULL && c < z->children + SCANNERS_MAX;
	     c++)
		if (c->pid == 0)
			room = c;
	if (room == NULL) {
		errno = EAGAIN;
		(void)fail(reply, "scanners");
		return;
	}
	spawn(z, room, sock, reply);
}

/* config_is_sound - whether the strings are all there.  main is trusted, but
 * not to be the same version: the file may have been replaced under it. */
static bool
config_is_sound(const struct zygote_config *c)
{
	uint32_t i, n = 0;

	if (c->strings_len == 0 || c->strings_len > sizeof(c->strings) ||
	    c->strings[c->strings_len - 1] != '\0')
		return (false);
	for (i = 0; i < c->strings_len; i++)
		n += c->strings[i] == '\0';
	return (c->n_databases > 0 && n == c->n_databases + 1);
}

/* begin - read the settings and load; 0, or -1 when main is told why not */
static int
begin(struct zygote *z)
{
	struct zygote_reply reply = { .error = 0 };
	ssize_t n;

	n = ipc_recv(IPC_ZYGOTE_FD, &z->config, sizeof(z->config), NULL, 60000);
	if (n != (ssize_t)sizeof(z->config) || !config_is_sound(&z->config)) {
		reply.error = EPROTO;
		(void)snprintf(reply.text, sizeof(reply.text),
		    "the program file has changed: restart it");
	} else {
		z->engine =
		    engine_load(&z->config, &reply.signatures, reply.text);
		if (z->engine == NULL)
			reply.error = EINVAL;
		else
			engine_warm(z->engine);
	}
	if (ipc_send(IPC_ZYGOTE_FD, &reply, sizeof(reply), -1) == -1)
		return (-1);
	return (reply.error == 0 ? 0 : -1);
}

static void
run(struct zygote *z)
{
	struct zygote_request request;
	struct zygote_reply reply;
	struct child *c;
	ssize_t n;
	int sock;

	for (;;) {
		n = ipc_recv(
		    IPC_ZYGOTE_FD, &request, sizeof(request), &sock, -1);
		if (n != (ssize_t)sizeof(request) || sock == -1)
			break;
		memset(&reply, 0, sizeof(reply));
		serve(z, &request, sock, &reply);
		(void)close(sock);
		if (ipc_send(IPC_ZYGOTE_FD, &reply, sizeof(reply), -1) == -1)
			break;
	}
	for (c = z->children; c < z->children + SCANNERS_MAX; c++)
		if (c->pid != 0)
			(void)end_child(c);
}

int
zygote_main(void)
{
	static struct zygote z; /* some 150 kB */
	struct stat st;

	if (fstat(IPC_ZYGOTE_FD, &st) == -1 || !S_ISSOCK(st.st_mode)) {
		(void)fprintf(stderr,
		    "milldam-virus: " ZYGOTE_ARGUMENT
		    " is for the program's own use\n");
		return (EX_USAGE);
	}
	(void)close_range(IPC_ZYGOTE_FD + 1, ~0u, 0);
	(void)prctl(PR_SET_NAME, "virus-database", 0, 0, 0);
	/* Signals to the group are for main; its end is the end of all. */
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(077);
	if (fcntl(IPC_ZYGOTE_FD, F_SETFD, FD_CLOEXEC) == -1 || begin(&z) == -1)
		return (EX_TEMPFAIL);
	run(&z);
	return (0);
}
