/* SPDX-License-Identifier: ISC */

/*
 * pool - main's side of the zygote and its scanners
 *
 * A thread that has a message takes a free scanner, hands the message over and
 * waits.  A scanner that fails is replaced by the thread that saw it fail,
 * before the next message can meet it.  So is the zygote, by a new one that
 * loads the database again, though not more often than every RESTART_MS.
 */

#include "milters/virus/pool.h"

#include "milters/virus/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <milldam/milldam.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum {
	LOAD_MS = 600 * 1000, /* for the largest databases on slow disks */
	FORK_MS = 30 * 1000,
	RESTART_MS = 10 * 1000,
	SCANS_MAX = 1000 /* then a fresh scanner: nothing piles up in one */
};

struct scanner {
	int sock; /* -1: to be replaced */
	pid_t pid;
	unsigned scans;
	bool busy;
};

struct pool {
	pthread_mutex_t lock; /* busy, refs */
	pthread_cond_t freed;
	unsigned refs;

	pthread_mutex_t zygote_lock; /* what follows; taken without lock held */
	int zygote;                  /* socket; -1: none */
	pid_t zygote_pid;
	int64_t started_ms;

	uint64_t number; /* grows with each pool */
	uint32_t signatures;
	struct zygote_config config;
	unsigned n;
	struct scanner scanners[];
};

extern char **environ;

static int
fail(char *text, const char *what)
{
	(void)snprintf(
	    text, IPC_TEXT_MAX, "%.100s: %.100s", what, strerror(errno));
	return (-1);
}

/* make_printable - text of another process for log and reply */
static void
make_printable(char *text)
{
	text[IPC_TEXT_MAX - 1] = '\0';
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

/* spawn_program - this program again as a zygote, with sock at its place */
static int
spawn_program(int sock, pid_t *pid_r)
{
	char *const argv[] = { (char *)"milldam-virus", (char *)ZYGOTE_ARGUMENT,
		NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGKILL);
	(void)sigdelset(&all, SIGSTOP);
	if ((rc = posix_spawn_file_actions_init(&actions)) != 0)
		goto out;
	if ((rc = posix_spawnattr_init(&attr)) != 0) {
		(void)posix_spawn_file_actions_destroy(&actions);
		goto out;
	}
	if ((rc = posix_spawn_file_actions_adddup2(
	         &actions, sock, IPC_ZYGOTE_FD)) == 0 &&
	    (rc = posix_spawnattr_setflags(
	         &attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)) == 0 &&
	    (rc = posix_spawnattr_setsigmask(&attr, &none)) == 0 &&
	    (rc = posix_spawnattr_setsigdefault(&attr, &all)) == 0)
		rc = posix_spawn(
		    pid_r, "/proc/self/exe", &actions, &attr, argv, environ);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&actions);
out:
	errno = rc;
	return (rc == 0 ? 0 : -1);
}

/* end_zygote - close its socket: it ends its scanners and itself */
static void
end_zygote(struct pool *p)
{
	if (p->zygote == -1)
		return;
	(void)close(p->zygote);
	p->zygote = -1;
	while (waitpid(p->zygote_pid, NULL, 0) == -1 && errno == EINTR)
		continue;
}

/* start_zygote - and wait until it has loaded; -1 with the reason in text */
static int
start_zygote(struct pool *p, char *text)
{
	struct zygote_reply reply;
	int pair[2];
	ssize_t n;

	p->started_ms = ipc_now_ms();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		return (fail(text, "socketpair"));
	if (spawn_program(pair[1], &p->zygote_pid) == -1) {
		(void)fail(text, "/proc/self/exe");
		(void)close(pair[0]);
		(void)close(pair[1]);
		return (-1);
	}
	(void)close(pair[1]);
	p->zygote = pair[0];
	n = ipc_send(p->zygote, &p->config, sizeof(p->config), -1);
	if (n == 0)
		n = ipc_recv(p->zygote, &reply, sizeof(reply), NULL, LOAD_MS);
	if (n == (ssize_t)sizeof(reply) && reply.error == 0) {
		p->signatures = reply.signatures;
		return (0);
	}
	if (n == (ssize_t)sizeof(reply)) {
		make_printable(reply.text);
		memcpy(text, reply.text, IPC_TEXT_MAX);
	} else {
		errno = n == 0 ? EPIPE : errno;
		(void)fail(text, "loading the database");
		(void)kill(p->zygote_pid, SIGKILL);
	}
	end_zygote(p);
	return (-1);
}

/* ask - have the zygote fork a scanner in place of s; -1: the zygote is gone,
 * or it said no (reply->error) */
static int
ask(struct pool *p, struct scanner *s, struct zygote_reply *reply)
{
	struct zygote_request request = { .replaces = s->pid };
	int pair[2];
	ssize_t n;

	memset(reply, 0, sizeof(*reply));
	if (s->sock != -1)
		(void)close(s->sock);
	s->sock = -1;
	if (p->zygote == -1 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		return (-1);
	n = ipc_send(p->zygote, &request, sizeof(request), pair[1]);
	(void)close(pair[1]);
	if (n == 0)
		n = ipc_recv(p->zygote, reply, sizeof(*reply), NULL, FORK_MS);
	if (n == (ssize_t)sizeof(*reply) && reply->error == 0) {
		s->sock = pair[0];
		s->pid = reply->pid;
		s->scans = 0;
		return (0);
	}
	(void)close(pair[0]);
	if (n != (ssize_t)sizeof(*reply)) {
		memset(reply, 0, sizeof(*reply));
		(void)kill(p->zygote_pid, SIGKILL);
		end_zygote(p);
	}
	s->pid = 0;
	return (-1);
}

static void
log_end(pid_t pid, int status)
{
	if (pid == 0)
		return;
	if (WIFSIGNALED(status))
		mill_log(NULL, LOG_NOTICE,
		    "virus: scanner ended: pid=%d, signal=%d", (int)pid,
		    WTERMSIG(status));
	else
		mill_log(NULL, LOG_NOTICE,
		    "virus: scanner ended: pid=%d, exit=%d", (int)pid,
		    WEXITSTATUS(status));
}

/* replace - put a fresh scanner in the place of s, which this thread has;
 * 0, or -1 with the reason in text */
static int
replace(struct pool *p, struct scanner *s, char *text)
{
	struct zygote_reply reply;
	pid_t old = s->pid;
	int rc;

	(void)pthread_mutex_lock(&p->zygote_lock);
	rc = ask(p, s, &reply);
	if (rc == -1 && p->zygote == -1 &&
	    ipc_now_ms() - p->started_ms >= RESTART_MS) {
		mill_log(NULL, LOG_ERR,
		    "virus: the process that holds the database is gone: "
		    "starting another");
		if ((rc = start_zygote(p, text)) == 0)
			rc = ask(p, s, &reply);
	} else if (rc == -1) {
		(void)snprintf(text, IPC_TEXT_MAX, "no scanner");
	}
	(void)pthread_mutex_unlock(&p->zygote_lock);
	if (rc == -1 && reply.error != 0) {
		make_printable(reply.text);
		memcpy(text, reply.text, IPC_TEXT_MAX);
	}
	if (rc == 0)
		log_end(old, reply.old_status);
	return (rc);
}

static void
pool_free(struct pool *p)
{
	unsigned i;

	for (i = 0; i < p->n; i++)
		if (p->scanners[i].sock != -1)
			(void)close(p->scanners[i].sock);
	end_zygote(p);
	(void)pthread_cond_destroy(&p->freed);
	(void)pthread_mutex_destroy(&p->lock);
	(void)pthread_mutex_destroy(&p->zygote_lock);
	free(p);
}

/* init_locks - the condition uses a clock that nobody sets */
static void
init_locks(struct pool *p)
{
	pthread_condattr_t attr;

	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_mutex_init(&p->zygote_lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&p->freed, &attr);
	(void)pthread_condattr_destroy(&attr);
}

struct pool *
pool_new(const struct zygote_config *config, unsigned n, char *text)
{
	static uint64_t count; /* pools are made by one thread at a time */
	struct pool *p = calloc(1, sizeof(*p) + n * sizeof(p->scanners[0]));
	unsigned i;

	if (p == NULL) {
		(void)fail(text, "pool");
		return (NULL);
	}
	init_locks(p);
	p->refs = 1;
	p->zygote = -1;
	p->number = ++count;
	p->config = *config;
	p->n = n;
	for (i = 0; i < n; i++)
		p->scanners[i].sock = -1;
	if (start_zygote(p, text) == -1)
		goto bad;
	for (i = 0; i < n; i++)
		if (replace(p, &p->scanners[i], text) == -1)
			goto bad;
	return (p);
bad:
	pool_free(p);
	return (NULL);
}

struct pool *
pool_ref(struct pool *p)
{
	(void)pthread_mutex_lock(&p->lock);
	p->refs++;
	(void)pthread_mutex_unlock(&p->lock);
	return (p);
}

void
pool_unref(struct pool *p)
{
	unsigned left;

	if (p == NULL)
		return;
	(void)pthread_mutex_lock(&p->lock);
	left = --p->refs;
	(void)pthread_mutex_unlock(&p->lock);
	if (left == 0)
		pool_free(p);
}

uint32_t
pool_signatures(const struct pool *p)
{
	return (p->signatures);
}

bool
pool_is_newer(const struct pool *a, const struct pool *b)
{
	return (b == NULL || a->number > b->number);
}

/* find_free - NULL if all are busy; lock is held */
static struct scanner *
find_free(struct pool *p)
{
	unsigned i;

	for (i = 0; i < p->n; i++)
		if (!p->scanners[i].busy)
			return (&p->scanners[i]);
	return (NULL);
}

/* take_scanner - wait for a free one; NULL after the time-out */
static struct scanner *
take_scanner(struct pool *p)
{
	struct timespec end;
	struct scanner *s;
	int rc = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)(p->config.scan_timeout_ms / 1000 + 1);
	(void)pthread_mutex_lock(&p->lock);
	while ((s = find_free(p)) == NULL && rc == 0)
		rc = pthread_cond_timedwait(&p->freed, &p->lock, &end);
	if (s != NULL)
		s->busy = true;
	(void)pthread_mutex_unlock(&p->lock);
	return (s);
}

static void
give_back(struct pool *p, struct scanner *s)
{
	(void)pthread_mutex_lock(&p->lock);
	s->busy = false;
	(void)pthread_cond_signal(&p->freed);
	(void)pthread_mutex_unlock(&p->lock);
}

/* is_usable - false for one that ended, or spoke without being asked, since
 * its last message */
static bool
is_usable(const struct scanner *s)
{
	struct pollfd p = { .fd = s->sock, .events = POLLIN };

	return (s->sock != -1 && s->scans < SCANS_MAX && poll(&p, 1, 0) == 0);
}

/* scan_with - 0 with the scanner's answer, or -1 with the reason in reply */
static int
scan_with(struct pool *p, struct scanner *s, int fd, uint64_t len,
    struct scan_reply *reply)
{
	const struct scan_request request = { .len = len };
	const char *why;
	ssize_t n;

	s->scans++;
	n = ipc_send(s->sock, &request, sizeof(request), fd);
	if (n == 0)
		n = ipc_recv(s->sock, reply, sizeof(*reply), NULL,
		    (int)p->config.scan_timeout_ms);
	if (n == (ssize_t)sizeof(*reply) && reply->result >= SCAN_FAILED &&
	    reply->result <= SCAN_VIRUS) {
		make_printable(reply->text);
		return (0);
	}
	why = n == -1 && errno == ETIMEDOUT ? "did not answer in time"
	    : n > 0                         ? "answered nonsense"
	                                    : "ended";
	memset(reply, 0, sizeof(*reply));
	(void)snprintf(reply->text, sizeof(reply->text), "scanner %d %s",
	    (int)s->pid, why);
	return (-1);
}

void
pool_scan(struct pool *p, int fd, uint64_t len, struct scan_reply *reply)
{
	char text[IPC_TEXT_MAX] = "";
	struct scanner *s = take_scanner(p);

	memset(reply, 0, sizeof(*reply));
	if (s == NULL) {
		(void)snprintf(
		    reply->text, sizeof(reply->text), "all scanners are busy");
		return;
	}
	if (!is_usable(s) && replace(p, s, text) == -1)
		memcpy(reply->text, text, sizeof(reply->text));
	else if (scan_with(p, s, fd, len, reply) == -1 &&
	    replace(p, s, text) == -1)
		mill_log(NULL, LOG_ERR, "virus: scanner: %s", text);
	give_back(p, s);
}
