/* SPDX-License-Identifier: ISC */

/* queue_rig - a queue process and all its peers, for tests */

#include "tests/unit/queue_rig.h"

#include "milter-sdk/base/crc32c.h"
#include "tests/lib/files.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void
die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t
now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

static struct settings *
settings(const struct rig *r)
{
	struct buf text = BUF_INIT(1 << 16), errors = BUF_INIT(1 << 16);
	struct conf_file f = { .name = (char *)"/m.conf" };
	struct settings *s;

	if (buf_addf(&text,
	        "hostname = \"gate.test\"\n"
	        "postmaster = \"postmaster@gate.test\"\n"
	        "spool = \"%s\"\n"
	        "sandbox = %s\n"
	        "queue { segment-size = 1M min-free = 0\n"
	        "retry-min = 150ms retry-max = 1s %s }\n",
	        r->dir, getenv("QUEUE_SANDBOX") != NULL ? "yes" : "no",
	        r->extra) == -1)
		die("settings");
	f.text = text.data;
	f.len = text.len;
	if ((s = settings_parse(&f, 1, &errors)) == NULL) {
		printf("# %s\n", errors.data);
		die("settings");
	}
	buf_fini(&text);
	buf_fini(&errors);
	return (s);
}

static int
side_init(struct side *s)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == -1)
		die("socketpair");
	if (fcntl(sv[0], F_SETFL, O_NONBLOCK) == -1)
		die("fcntl");
	s->sock = sv[0];
	frame_init(&s->io, sv[0]);
	return (sv[1]);
}

static void
side_fini(struct side *s)
{
	if (s->sock == -1)
		return;
	frame_fini(&s->io);
	(void)close(s->sock);
	s->sock = -1;
}

static void
flush(struct side *s)
{
	struct pollfd p = { s->sock, POLLOUT, 0 };
	int n;

	while ((n = frame_flush(&s->io)) == 1)
		(void)poll(&p, 1, 1000);
	if (n == -1)
		printf("# write: %s\n", strerror(errno));
}

static void
put(struct side *s, uint16_t type, uint64_t ref, const struct buf *b, int fd)
{
	if (frame_put(&s->io, type, ref, b != NULL ? b->data : NULL,
	        b != NULL ? b->len : 0, fd) == -1)
		die("frame_put");
	flush(s);
}

int
side_get(struct side *s, uint16_t type, int ms, struct got *g)
{
	uint64_t end = now_ms() + (uint64_t)ms, now;
	struct pollfd p = { s->sock, POLLIN, 0 };
	struct frame f;
	int n;

	for (;;) {
		while ((n = frame_next(&s->io, &f)) == 1) {
			if (f.type != type && type != 0) {
				if (f.fd != -1)
					(void)close(f.fd);
				continue;
			}
			g->type = f.type;
			g->ref = f.ref;
			g->len = f.len;
			g->fd = f.fd;
			if ((g->data = malloc(f.len + 1)) == NULL)
				die("malloc");
			memcpy(g->data, f.data, f.len);
			return (0);
		}
		now = now_ms();
		if (n == -1 || now >= end)
			return (-1);
		if (poll(&p, 1, (int)(end - now)) == 1 &&
		    frame_fill(&s->io) <= 0 && errno != EAGAIN)
			return (-1);
	}
}

void
got_fini(struct got *g)
{
	free(g->data);
	if (g->fd != -1)
		(void)close(g->fd);
}

static void
peer(struct rig *r, struct side *s, enum proc_kind kind)
{
	struct buf b = BUF_INIT(64);
	struct packer k = { &b, false };
	int fd = side_init(s);

	pack_u8(&k, (uint8_t)kind);
	pack_u16(&k, 0);
	put(&r->control, MSG_PEER, 0, &b, fd);
	buf_fini(&b);
}

static void
spawn(struct rig *r)
{
	struct got g;
	int sock = side_init(&r->control);

	(void)fflush(stdout);
	if ((r->pid = fork()) == -1)
		die("fork");
	if (r->pid == 0) {
		if (getenv("QUEUE_LOG") == NULL)
			log_set_level(LOG_CRIT);
		(void)close(r->control.sock);
		child_main(&queue_ops, 0, settings(r), sock);
	}
	(void)close(sock);
	if (side_get(&r->control, MSG_READY, 10000, &g) == -1)
		die("the queue did not start");
	got_fini(&g);
	peer(r, &r->receiver, PROC_RECEIVER);
	peer(r, &r->relay, PROC_RELAY);
	peer(r, &r->lookup, PROC_LOOKUP);
}

static void
close_all(struct rig *r)
{
	int i;

	side_fini(&r->control);
	side_fini(&r->receiver);
	side_fini(&r->relay);
	side_fini(&r->lookup);
	for (i = 0; i < 64; i++) {
		if (r->segments[i] != -1)
			(void)close(r->segments[i]);
		r->segments[i] = -1;
	}
}

void
rig_start(struct rig *r, const char *extra)
{
	memset(r, 0, sizeof(*r));
	memset(r->segments, 0xff, sizeof(r->segments));
	r->extra = extra;
	r->instead = "";
	(void)strcpy(r->dir, "/tmp/milldam-queue.XXXXXX");
	if (mkdtemp(r->dir) == NULL)
		die("mkdtemp");
	spawn(r);
}

void
rig_again(struct rig *r)
{
	(void)kill(r->pid, SIGKILL);
	(void)waitpid(r->pid, NULL, 0);
	close_all(r);
	spawn(r);
}

void
rig_relay(struct rig *r)
{
	int i;

	side_fini(&r->relay);
	for (i = 0; i < 64; i++) {
		if (r->segments[i] != -1)
			(void)close(r->segments[i]);
		r->segments[i] = -1;
	}
	peer(r, &r->relay, PROC_RELAY);
}

int
rig_stop(struct rig *r)
{
	int status = -1;

	put(&r->control, MSG_STOP, 0, NULL, -1);
	side_fini(&r->receiver);
	(void)waitpid(r->pid, &status, 0);
	close_all(r);
	r->pid = 0;
	return (WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

void
rig_end(struct rig *r)
{
	if (r->pid > 0) {
		(void)kill(r->pid, SIGKILL);
		(void)waitpid(r->pid, NULL, 0);
	}
	close_all(r);
	wipe_in(r->dir);
}

void
rig_env(struct envelope *e, const char *id, const char *rcpt, const char *host)
{
	struct timespec t;
	struct rcpt *r;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	if (env_init(e) == -1)
		die("env");
	(void)snprintf(e->id, sizeof(e->id), "%s", id);
	e->arrival_ms =
	    (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	e->flags = ENV_ESMTP;
	if (env_set(&e->sender, "a@example.org") == -1 ||
	    env_set(&e->client_addr, "192.0.2.1") == -1 ||
	    env_set(&e->helo, "client.example.org") == -1 ||
	    (r = env_add_rcpt(e, rcpt)) == NULL)
		die("env");
	r->route.mailer = MAILER_SMTP;
	r->route.port = 2525;
	if (env_set(&r->route.host, host) == -1 ||
	    env_set(&r->route.addr, rcpt) == -1)
		die("env");
}

void
rig_more(
    struct rig *r, enum msg_type type, const struct envelope *e,
    const char *content)
{
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };
	char record[200];

	(void)snprintf(record, sizeof(record),
	    "{\"id\":\"%s\",\"outcome\":\"queued\"}", e->id);
	env_pack(&k, e);
	pack_u8(&k, 0);
	pack_u64(&k, strlen(content));
	pack_u64(&k, 0);
	pack_u32(&k, crc32c(0, content, strlen(content)));
	pack_blob(&k, content, strlen(content));
	pack_blob(&k, "", 0);
	pack_str(&k, record);
	pack_blob(&k, "origin", (e->flags & ENV_HELD) != 0 ? 6 : 0);
	pack_str(&k, r->instead);
	if (pack_end(&k) == -1)
		die("pack");
	put(&r->receiver, type, r->ref, &b, -1);
	buf_fini(&b);
}

int
rig_put(struct rig *r, const struct envelope *e, const char *content)
{
	r->ref++;
	return (rig_put_last(r, e, content));
}

int
rig_put_last(struct rig *r, const struct envelope *e, const char *content)
{
	struct got g;
	int status = -1;

	rig_more(r, MSG_SUBMIT, e, content);
	if (side_get(&r->receiver, MSG_SUBMITTED, 10000, &g) == -1)
		return (-1);
	if (g.ref == r->ref && g.len > 0)
		status = g.data[0];
	got_fini(&g);
	return (status);
}

void
rig_discarded(struct rig *r, uint32_t n)
{
	struct buf b = BUF_INIT(64);
	struct packer k = { &b, false };

	pack_u32(&k, n);
	put(&r->receiver, MSG_DISCARDED, 0, &b, -1);
	buf_fini(&b);
}

int
rig_submit(struct rig *r, const char *id, const char *rcpt, const char *host)
{
	struct envelope e;
	int status;

	rig_env(&e, id, rcpt, host);
	status = rig_put(r, &e, "Subject: test\r\n\r\nHello\r\n");
	env_fini(&e);
	return (status);
}

static void
segment(struct rig *r, const struct got *g)
{
	struct unpacker u = { g->data, g->len, false };
	int *fd = &r->segments[unpack_u64(&u) % 64];

	if (*fd != -1)
		(void)close(*fd);
	*fd = g->type == MSG_SEGMENT ? dup(g->fd) : -1;
}

static void
content(struct rig *r, struct delivery *d)
{
	int fd = r->segments[d->file % 64];

	if ((d->content = calloc(1, d->length + 1)) == NULL)
		die("calloc");
	d->good = pread(fd, d->content, d->length, (off_t)d->offset) ==
	        (ssize_t)d->length &&
	    crc32c(0, d->content, d->length) == d->crc;
}

int
rig_deliver(struct rig *r, int ms, struct delivery *d)
{
	uint64_t end = now_ms() + (uint64_t)ms, now;
	struct unpacker u;
	struct got g;
	int rc;

	memset(d, 0, sizeof(*d));
	for (;;) {
		now = now_ms();
		rc = side_get(
		    &r->relay, 0, now < end ? (int)(end - now) : 0, &g);
		if (rc == -1)
			return (-1);
		if (g.type == MSG_DELIVER)
			break;
		if (g.type == MSG_SEGMENT || g.type == MSG_SEGMENT_DROP)
			segment(r, &g);
		got_fini(&g);
	}
	u = (struct unpacker){ g.data, g.len, false };
	d->ref = g.ref;
	d->file = unpack_u64(&u);
	d->offset = unpack_u64(&u);
	d->length = unpack_u64(&u);
	d->crc = unpack_u32(&u);
	(void)snprintf(d->host, sizeof(d->host), "%s", unpack_str(&u));
	d->port = unpack_u16(&u);
	if (env_unpack(&u, &d->env) == -1 || unpack_end(&u) == -1)
		die("deliver");
	got_fini(&g);
	content(r, d);
	return (0);
}

void
delivery_fini(struct delivery *d)
{
	env_fini(&d->env);
	free(d->content);
}

void
rig_outcome(struct rig *r, const struct delivery *d, enum outcome what,
    const char *reply)
{
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };
	uint32_t i;

	pack_u32(&k, (uint32_t)d->env.n_rcpts);
	for (i = 0; i < d->env.n_rcpts; i++) {
		pack_u32(&k, i);
		pack_u8(&k, (uint8_t)what);
		pack_str(&k, reply);
		pack_str(&k, "next.test [192.0.2.9]");
	}
	pack_u32(&k, 5);
	put(&r->relay, MSG_OUTCOME, d->ref, &b, -1);
	buf_fini(&b);
}

char *
rig_command(struct rig *r, const char *line)
{
	struct buf b = BUF_INIT(1024), out = BUF_INIT(64 << 20);
	struct packer k = { &b, false };
	struct unpacker u;
	struct got g;
	const void *p;
	bool last = false;
	size_t n;

	pack_str(&k, line);
	put(&r->control, MSG_COMMAND, ++r->ref, &b, -1);
	buf_fini(&b);
	while (!last && side_get(&r->control, MSG_REPLY, 10000, &g) == 0) {
		u = (struct unpacker){ g.data, g.len, false };
		last = unpack_u8(&u) != 0;
		p = unpack_blob(&u, &n);
		if (g.ref == r->ref && buf_add(&out, p, n) == -1)
			die("reply");
		got_fini(&g);
	}
	if (!last)
		printf("# no answer to %s\n", line);
	return (out.data != NULL ? out.data : strdup(""));
}

bool
rig_says(struct rig *r, const char *line, const char *text)
{
	const struct timespec nap = { 0, 20000000 };
	char *said = NULL;
	bool yes = false;
	int i;

	for (i = 0; i < 50 && !yes; i++) {
		free(said);
		said = rig_command(r, line);
		if (!(yes = strstr(said, text) != NULL))
			(void)nanosleep(&nap, NULL);
	}
	if (!yes)
		printf("# %s: %s\n#   wanted: %s\n", line, said, text);
	free(said);
	return (yes);
}

int
rig_route(struct rig *r, char asked[256], const char *host)
{
	struct route route = { MAILER_SMTP, (char *)(uintptr_t)host, 2525,
		asked, (char *)(uintptr_t) "" };
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };
	struct unpacker u;
	struct got g;

	if (side_get(&r->lookup, MSG_ROUTE, 3000, &g) == -1)
		return (-1);
	u = (struct unpacker){ g.data, g.len, false };
	(void)snprintf(asked, 256, "%s", unpack_str(&u));
	pack_u8(&k, 0);
	route_pack(&k, &route);
	pack_str(&k, "");
	put(&r->lookup, MSG_ROUTE_R, g.ref, &b, -1);
	got_fini(&g);
	buf_fini(&b);
	return (0);
}

void
rig_state(struct rig *r, const char *name, const char *value)
{
	struct buf b = BUF_INIT(1024);
	struct packer k = { &b, false };

	pack_str(&k, name);
	pack_str(&k, value);
	put(&r->control, MSG_STATE, 0, &b, -1);
	buf_fini(&b);
}
