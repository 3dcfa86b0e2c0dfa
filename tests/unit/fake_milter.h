/* SPDX-License-Identifier: ISC */
#ifndef TESTS_UNIT_FAKE_MILTER_H
#define TESTS_UNIT_FAKE_MILTER_H

/*
 * A scripted milter on a UNIX socket, one thread each: it answers "continue"
 * where an answer is due, unless a script line says otherwise, and writes down
 * all it is told.
 */

#include "milter-sdk/base/milter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum fake_act { FAKE_SEND, FAKE_SEND_CLOSE, FAKE_CLOSE, FAKE_SILENT };

struct fake_line {
	char cmd;
	unsigned nth; /* which of that command in all, from 1; 0 each */
	enum fake_act act;
	struct buf bytes;
};

struct fake {
	char path[100];
	int fd, stop[2];
	pthread_t thread;
	uint32_t version, actions, protocol;
	struct milter_options offered;
	const char *lists[MILTER_STAGES];
	const char *raw_options; /* instead of a good answer to OPTNEG */
	size_t raw_options_len;
	bool split;            /* answer byte by byte */
	int room;              /* for answers that nobody has read yet */
	unsigned eom_delay_ms; /* before the answer to E */
	char slow_cmd; /* before the answer to it: so often, after so long */
	unsigned slow_progress, slow_ms;
	bool tcp; /* listen on 127.0.0.1, sets port */
	unsigned port;
	struct fake_line lines[16];
	size_t n_lines;
	unsigned seen[256], conns;
	struct buf trace;  /* "O|DC C DH H DM M DR R|..."; '|' is a read */
	struct buf header; /* "Name:value;" as shown */
	struct buf body;
	struct buf macros; /* "M{i=Q1,{mail_addr}=a@b}" */
	struct buf args;   /* strings of C H M R, ';' after each */
};

static void
fake_check(int r)
{
	if (r == -1)
		abort();
}

/* fake_says - when cmd comes (nth time), send these bytes */
static struct fake_line *
fake_says(struct fake *f, char cmd, unsigned nth, enum fake_act act)
{
	struct fake_line *l = &f->lines[f->n_lines++];

	memset(l, 0, sizeof(*l));
	l->cmd = cmd;
	l->nth = nth;
	l->act = act;
	l->bytes.max = 8 << 20;
	return (l);
}

static inline void
fake_reply(struct fake *f, char cmd, unsigned nth, char code)
{
	fake_check(milter_put(
	    &fake_says(f, cmd, nth, FAKE_SEND)->bytes, code, NULL, 0));
}

static void
fake_write(struct fake *f, int fd, const char *p, size_t n)
{
	ssize_t k;

	for (; n > 0; p += k, n -= (size_t)k) {
		k = send(fd, p, f->split ? 1 : n, MSG_NOSIGNAL);
		if (k == -1)
			return;
	}
}

static void
fake_note(struct fake *f, const struct milter_packet *p)
{
	struct milter_macro m[64];
	struct milter_connect k;
	const char *s[64];
	size_t i, n;
	char cmd;

	if (p->code == 'D') {
		fake_check(milter_get_macros(p, &cmd, m, 64, &n));
		fake_check(buf_addf(&f->trace, "D%c ", cmd));
		fake_check(buf_addf(&f->macros, "%c(", cmd));
		for (i = 0; i < n; i++)
			fake_check(buf_addf(&f->macros, "%s%s=%s",
			    i > 0 ? "," : "", m[i].name, m[i].value));
		fake_check(buf_addf(&f->macros, ")"));
		return;
	}
	fake_check(buf_addf(&f->trace, "%c ", p->code));
	if (p->code == 'O')
		fake_check(milter_get_options(p, &f->offered));
	if (p->code == 'C') {
		fake_check(milter_get_connect(p, &k));
		fake_check(buf_addf(&f->args, "C:%s/%c/%u/%s;", k.hostname,
		    k.family, (unsigned)k.port, k.addr));
	} else if (strchr("HMRUL", p->code) != NULL) {
		fake_check(milter_get_strings(p, s, 64, &n));
		if (p->code == 'L') {
			fake_check(buf_addf(&f->header, "%s:%s;", s[0], s[1]));
			return;
		}
		fake_check(buf_addf(&f->args, "%c", p->code));
		for (i = 0; i < n; i++)
			fake_check(buf_addf(&f->args, ":%s", s[i]));
		fake_check(buf_addf(&f->args, ";"));
	} else if (p->code == 'B') {
		fake_check(buf_add(&f->body, p->data, p->len));
	}
}

static bool
fake_due(const struct fake *f, char cmd)
{
	static const struct {
		char cmd;
		uint32_t nr;
	} rows[] = { { 'C', MILTER_NR_CONNECT }, { 'H', MILTER_NR_HELO },
		{ 'M', MILTER_NR_MAIL }, { 'R', MILTER_NR_RCPT },
		{ 'T', MILTER_NR_DATA }, { 'L', MILTER_NR_HEADER },
		{ 'N', MILTER_NR_EOH }, { 'B', MILTER_NR_BODY }, { 'E', 0 },
		{ 'U', MILTER_NR_UNKNOWN } };
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].cmd == cmd)
			return ((f->protocol & rows[i].nr) == 0);
	return (false);
}

/* fake_answer - false: close the connection */
static bool
fake_answer(struct fake *f, int fd, const struct milter_packet *p)
{
	struct milter_options o = { f->version, f->actions, f->protocol,
		{ NULL } };
	struct buf b = BUF_INIT(1 << 20);
	unsigned nth = ++f->seen[(unsigned char)p->code];
	size_t i;

	if (p->code == 'E')
		usleep(f->eom_delay_ms * 1000);
	for (i = 0; p->code == f->slow_cmd && i < f->slow_progress; i++) {
		usleep(f->slow_ms * 1000);
		fake_write(f, fd, "\0\0\0\1p", 5);
	}
	for (i = 0; i < f->n_lines; i++) {
		struct fake_line *l = &f->lines[i];

		if (l->cmd != p->code || (l->nth != 0 && l->nth != nth))
			continue;
		if (l->act <= FAKE_SEND_CLOSE && l->bytes.len > 0)
			fake_write(f, fd, l->bytes.data, l->bytes.len);
		return (l->act == FAKE_SEND || l->act == FAKE_SILENT);
	}
	if (p->code == 'O') {
		memcpy(o.lists, f->lists, sizeof(o.lists));
		fake_check(milter_put_options(&b, &o));
		if (f->raw_options != NULL)
			fake_write(f, fd, f->raw_options, f->raw_options_len);
		else
			fake_write(f, fd, b.data, b.len);
	} else if (fake_due(f, p->code)) {
		fake_check(milter_put(&b, 'c', NULL, 0));
		fake_write(f, fd, b.data, b.len);
	}
	buf_fini(&b);
	return (p->code != 'Q');
}

static void
fake_serve(struct fake *f, int fd)
{
	static __thread char room[1 << 18];
	struct pollfd pfd[2] = { { .fd = fd, .events = POLLIN },
		{ .fd = f->stop[0], .events = POLLIN } };
	struct buf in = BUF_INIT(4 << 20);
	struct milter_packet p;
	bool open = true;
	size_t off;
	ssize_t k;
	long n;

	if (f->room > 0)
		fake_check(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &f->room,
		    sizeof(f->room)));
	while (open && poll(pfd, 2, -1) > 0) {
		if (pfd[0].revents == 0)
			break; /* told to stop, and nothing left to read */
		if ((k = recv(fd, room, sizeof(room), 0)) <= 0)
			break;
		fake_check(buf_add(&in, room, (size_t)k));
		for (off = 0; open &&
		     (n = milter_next(in.data + off, in.len - off, 65535, &p)) >
		         0;
		     off += (size_t)n) {
			fake_note(f, &p);
			open = fake_answer(f, fd, &p);
		}
		memmove(in.data, in.data + off, in.len - off);
		in.len -= off;
		if (open && f->trace.len > 0 &&
		    f->trace.data[f->trace.len - 1] == ' ')
			f->trace.data[f->trace.len - 1] = '|';
	}
	buf_fini(&in);
	close(fd);
}

static void *
fake_main(void *arg)
{
	struct fake *f = arg;
	struct pollfd pfd[2] = { { .fd = f->fd, .events = POLLIN },
		{ .fd = f->stop[0], .events = POLLIN } };
	int fd;

	while (poll(pfd, 2, -1) > 0 && pfd[0].revents != 0) {
		if ((fd = accept(f->fd, NULL, NULL)) == -1)
			break;
		f->conns++;
		fake_serve(f, fd);
	}
	return (NULL);
}

static void
fake_init(struct fake *f, const char *path)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->path, sizeof(f->path), "%s", path);
	f->version = 6;
	f->actions = MILTER_MAY_ALL;
	f->trace.max = f->header.max = f->body.max = f->macros.max =
	    f->args.max = 64 << 20;
}

static void
fake_run(struct fake *f)
{
	fake_check(listen(f->fd, 16));
	fake_check(pipe(f->stop));
	if (pthread_create(&f->thread, NULL, fake_main, f) != 0)
		abort();
}

static void
fake_listen_tcp(struct fake *f)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fake_check(bind(f->fd, (struct sockaddr *)&in, len));
	fake_check(getsockname(f->fd, (struct sockaddr *)&in, &len));
	f->port = ntohs(in.sin_port);
	fake_run(f);
}

static void
fake_start(struct fake *f)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (f->tcp) {
		fake_listen_tcp(f);
		return;
	}
	(void)unlink(f->path);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", f->path);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fake_check(bind(f->fd, (struct sockaddr *)&un, sizeof(un)));
	fake_run(f);
}

/* fake_stop - after that the notes may be read */
static void
fake_stop(struct fake *f)
{
	close(f->stop[1]);
	pthread_join(f->thread, NULL);
	close(f->stop[0]);
	close(f->fd);
	(void)unlink(f->path);
}

static void
fake_fini(struct fake *f)
{
	size_t i;

	for (i = 0; i < f->n_lines; i++)
		buf_fini(&f->lines[i].bytes);
	buf_fini(&f->trace);
	buf_fini(&f->header);
	buf_fini(&f->body);
	buf_fini(&f->macros);
	buf_fini(&f->args);
}

#endif
