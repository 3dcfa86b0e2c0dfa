/* SPDX-License-Identifier: ISC */

/*
 * signals - SIGHUP, SIGTERM and SIGINT are ours alone
 *
 * libmilter has a thread that waits for the same signals, and takes SIGHUP for
 * a stop too.  Linux gives a signal of the process to its first thread if that
 * does not block it, so this one never does; but while an earlier signal is on
 * its way to it, or while libmilter's thread is about to wait, that thread gets
 * the next one.  So it is put to rest: by a signal that only it receives, whose
 * handler never returns.
 */

#include "milter-sdk/base/log.h"
#include "milter-sdk/src/sdk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REST_TRIES = 400, TRY_MS = 5 };

static int wake[2] = { -1, -1 };

int
signals_rest(void)
{
	return (SIGRTMAX - 2);
}

static void
on_signal(int sig)
{
	char c = (char)sig;
	int saved = errno;

	(void)!write(wake[1], &c, 1);
	errno = saved;
}

static void
on_rest(int sig)
{
	(void)sig;
	for (;;)
		(void)poll(NULL, 0, -1);
}

/* A filter's helper process has no part in our signals. */
static void
in_child(void)
{
	(void)signal(SIGHUP, SIG_DFL);
	(void)signal(SIGTERM, SIG_DFL);
	(void)signal(SIGINT, SIG_DFL);
}

int
signals_catch(void)
{
	struct sigaction sa = { .sa_handler = on_signal,
		.sa_flags = SA_RESTART | SA_NODEFER };
	struct sigaction rest = { .sa_handler = on_rest };
	sigset_t set;

	if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) == -1)
		return (-1);
	(void)pthread_atfork(NULL, NULL, in_child);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigaction(SIGHUP, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigfillset(&rest.sa_mask);
	(void)sigaction(signals_rest(), &rest, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	return (pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0 ? 0 : -1);
}

int
signals_wait(int timeout_ms)
{
	struct pollfd p = { .fd = wake[0], .events = POLLIN };
	char c;

	if (poll(&p, 1, timeout_ms) == 1 && read(wake[0], &c, 1) == 1)
		return (c);
	return (0);
}

/* bit - a signal's in the masks of /proc */
static unsigned long long
bit(int sig)
{
	return (1ULL << (sig - 1));
}

/* is_waiting - whether a thread blocks all signals but the three: the kernel
 * unblocks those while it waits for them */
static bool
is_waiting(const char *tid)
{
	unsigned long long mask = 0,
	                   three = bit(SIGHUP) | bit(SIGTERM) | bit(SIGINT);
	const unsigned long long never = bit(SIGKILL) | bit(SIGSTOP);
	char path[64], line[256];
	bool found = false;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%.16s/status", tid);
	if ((f = fopen(path, "re")) == NULL)
		return (false);
	while (!found && fgets(line, sizeof(line), f) != NULL)
		found = sscanf(line, "SigBlk: %llx", &mask) == 1;
	(void)fclose(f);
	return (found && (mask & three) == 0 &&
	    (mask | three | never | ~0x7fffffffULL) == ~0ULL);
}

/* find_waiting - libmilter's thread; 0 while it does not wait */
static pid_t
find_waiting(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	pid_t tid = 0;

	while (d != NULL && tid == 0 && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && is_waiting(e->d_name))
			tid = (pid_t)atoi(e->d_name);
	if (d != NULL)
		(void)closedir(d);
	return (tid);
}

void
signals_own(bool (*ended)(void))
{
	const struct timespec tick = { 0, TRY_MS * 1000000 };
	bool told = false;
	pid_t tid;
	int i;

	for (i = 0; i < REST_TRIES && !ended(); i++) {
		if ((tid = find_waiting()) != 0) {
			told = true;
			(void)tgkill(getpid(), tid, signals_rest());
		} else if (told)
			return;
		(void)nanosleep(&tick, NULL);
	}
	/* Without /proc: nearly always right all the same. */
	log_debug("signals: libmilter's thread was not found");
}
