/* SPDX-License-Identifier: ISC */

/*
 * log - one line per event, to stderr, syslog or JSON
 *
 * Own syslog datagrams instead of syslog(3): libc opens the socket when it
 * pleases, and after the sandbox has closed it no longer can.
 */

#include "milter-sdk/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char *program = "milldam";
static enum log_form form = LOG_TO_STDERR;
static int max_level = LOG_INFO;
static int sock = -1;
static pid_t pid;     /* 0: not known, as after a fork */
static bool pid_kept; /* and a fork forgets it */

static const char *const level_names[] = { "emerg", "alert", "crit", "err",
	"warning", "notice", "info", "debug" };

static void
forget_pid(void)
{
	pid = 0;
}

static int
own_pid(void)
{
	if (pid == 0 || !pid_kept)
		pid = getpid();
	return ((int)pid);
}

static int
open_devlog(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX,
		.sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd == -1)
		return (-1);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == -1) {
		(void)close(fd);
		return (-1);
	}
	return (fd);
}

void
log_open(const char *name, enum log_form f, int level)
{
	program = name;
	form = f;
	max_level = level;
	if (sock != -1) {
		(void)close(sock);
		sock = -1;
	}
	if (form == LOG_TO_SYSLOG && (sock = open_devlog()) == -1)
		form = LOG_TO_STDERR; /* better there than nowhere */
	if (!pid_kept)
		pid_kept = pthread_atfork(NULL, NULL, forget_pid) == 0;
	forget_pid();
	tzset();
}

void
log_set_level(int level)
{
	max_level = level;
}

const char *
log_quote(char *room, size_t n, const char *s)
{
	static const char hex[] = "0123456789abcdef";
	size_t i = 0;

	for (; *s != '\0' && i + 5 < n; s++) {
		unsigned char c = (unsigned char)*s;

		if (c >= 32 && c != 127 && c != '"' && c != '\\') {
			room[i++] = (char)c;
			continue;
		}
		room[i++] = '\\';
		room[i++] = 'x';
		room[i++] = hex[c >> 4];
		room[i++] = hex[c & 15];
	}
	if (n > 0)
		room[i] = '\0';
	return (room);
}

static void
write_json(int pri, const char *stamp, const char *text)
{
	char esc[2 * LOG_LINE_MAX], line[2 * LOG_LINE_MAX + 128];
	size_t i = 0;
	int n;

	for (; *text != '\0' && i + 8 < sizeof(esc); text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			esc[i++] = '\\';
		if (c < 32)
			i += (size_t)snprintf(esc + i, 8, "\\u%04x", c);
		else
			esc[i++] = (char)c;
	}
	esc[i] = '\0';
	n = snprintf(line, sizeof(line),
	    "{\"time\":\"%s\",\"program\":\"%s\",\"pid\":%d,\"level\":\"%s\","
	    "\"text\":\"%s\"}\n",
	    stamp, program, own_pid(), level_names[pri], esc);
	if (n > 0)
		(void)!write(STDERR_FILENO, line, (size_t)n);
}

void
log_line(int pri, const char *fmt, ...)
{
	char text[LOG_LINE_MAX], line[LOG_LINE_MAX + 128], stamp[40];
	struct timespec now;
	struct tm tm;
	va_list ap;
	int n, saved = errno;

	pri &= 7;
	if (pri > max_level)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(text))
		memcpy(text + sizeof(text) - 4, "...", 4);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)localtime_r(&now.tv_sec, &tm);
	if (form == LOG_TO_SYSLOG) {
		(void)strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &tm);
		n = snprintf(line, sizeof(line), "<%d>%s %s[%d]: %s",
		    LOG_MAIL | pri, stamp, program, own_pid(), text);
		if (n > 0)
			(void)send(sock, line, (size_t)n, MSG_NOSIGNAL);
		errno = saved;
		return;
	}
	(void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	n = (int)strlen(stamp);
	(void)snprintf(stamp + n, sizeof(stamp) - (size_t)n, ".%03ld",
	    now.tv_nsec / 1000000);
	if (form == LOG_TO_JSON)
		write_json(pri, stamp, text);
	else {
		n = snprintf(line, sizeof(line), "%s %s[%d]: %s\n", stamp,
		    program, own_pid(), text);
		if (n > 0)
			(void)!write(STDERR_FILENO, line, (size_t)n);
	}
	errno = saved;
}
