/* SPDX-License-Identifier: ISC */

/*
 * talk - play one connection of a recording to a milter
 *
 * Commands leave in the batches in which they were recorded: before each
 * recorded answer, what is due now is waited for.  A command that the milter's
 * own options or verdict make pointless is left out.
 */

#include "milter-sdk/mill/mill.h"

#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READ_ONCE = 64 << 10, OUT_HIGH = 256 << 10, OUT_MAX = 2 << 20 };

struct talk {
	int fd;
	struct buf in, out;
	size_t out_off;
	uint64_t limit_us;
	struct dialog d;
	bool gone;
	/* the first packet that is heard is options, kept here */
	struct milter_options *options;
	char **lists;
	bool negotiated;
};

static uint64_t
now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000);
}

static int
dial_unix(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(un.sun_path)) {
		warnx("%s: longer than a socket's name may be", path);
		return (-1);
	}
	memcpy(un.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd != -1 && connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return (fd);
	warn("%s", path);
	if (fd != -1)
		(void)close(fd);
	return (-1);
}

/* dial_inet - PORT@HOST as Sendmail writes it, HOST:PORT as Postfix does */
static int
dial_inet(const char *text, int family)
{
	struct addrinfo hints = { .ai_family = family,
		.ai_socktype = SOCK_STREAM },
	                *list, *a;
	char host[256], port[16];
	const char *at = strchr(text, '@'), *colon = strrchr(text, ':');
	int fd = -1, rc;

	if (at != NULL) {
		(void)snprintf(
		    port, sizeof(port), "%.*s", (int)(at - text), text);
		(void)snprintf(host, sizeof(host), "%s", at + 1);
	} else if (colon != NULL) {
		(void)snprintf(
		    host, sizeof(host), "%.*s", (int)(colon - text), text);
		(void)snprintf(port, sizeof(port), "%s", colon + 1);
	} else {
		warnx("%s: say PORT@HOST or HOST:PORT", text);
		return (-1);
	}
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = '\0';
		memmove(host, host + 1, strlen(host));
	}
	if ((rc = getaddrinfo(host, port, &hints, &list)) != 0) {
		warnx("%s: %s", text, gai_strerror(rc));
		return (-1);
	}
	for (a = list; a != NULL && fd == -1; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC,
		    a->ai_protocol);
		if (fd != -1 && connect(fd, a->ai_addr, a->ai_addrlen) == -1) {
			(void)close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	if (fd == -1)
		warn("%s", text);
	return (fd);
}

static int
dial(const char *to)
{
	static const struct {
		const char *prefix;
		int family;
	} rows[] = { { "unix:", AF_UNIX }, { "local:", AF_UNIX },
		{ "inet:", AF_INET }, { "inet6:", AF_INET6 } };
	size_t i, n;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		n = strlen(rows[i].prefix);
		if (strncmp(to, rows[i].prefix, n) != 0)
			continue;
		return (rows[i].family == AF_UNIX
		        ? dial_unix(to + n)
		        : dial_inet(to + n, rows[i].family));
	}
	return (dial_unix(to));
}

/* keep_options - the answer to our offer */
static int
keep_options(struct talk *t, const struct milter_packet *pkt)
{
	struct milter_options *o = t->options;
	size_t i;

	if (pkt->code != MILTER_OPTNEG || milter_get_options(pkt, o) == -1)
		return (-1);
	dialog_clamp(o);
	for (i = 0; i < MILTER_STAGES; i++)
		if (o->lists[i] != NULL) {
			if ((t->lists[i] = strdup(o->lists[i])) == NULL)
				abort();
			o->lists[i] = t->lists[i];
		}
	t->d.protocol = o->protocol;
	t->negotiated = true;
	return (0);
}

/* take_packets - -1 when the milter broke the protocol */
static int
take_packets(struct talk *t)
{
	struct milter_packet pkt;
	size_t off = 0;
	long n;
	int rc = 0;

	while (rc == 0 &&
	    (n = milter_next(t->in.data + off, t->in.len - off,
	         MILTER_PAYLOAD_MAX, &pkt)) != 0) {
		if (n == -1)
			return (-1);
		off += (size_t)n;
		rc = t->negotiated
		    ? dialog_hear(&t->d, pkt.code, pkt.data, pkt.len, now_us())
		    : keep_options(t, &pkt);
	}
	memmove(t->in.data, t->in.data + off, t->in.len - off);
	t->in.len -= off;
	return (rc);
}

static void
hear(struct talk *t)
{
	static char room[READ_ONCE];
	ssize_t n = recv(t->fd, room, sizeof(room), MSG_DONTWAIT);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		t->gone = true;
	else if (buf_add(&t->in, room, (size_t)n) == -1 ||
	    take_packets(t) == -1) {
		warnx("the milter broke the protocol");
		t->gone = true;
	}
}

static void
say(struct talk *t)
{
	ssize_t n = send(t->fd, t->out.data + t->out_off,
	    t->out.len - t->out_off, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n == -1 && errno != EAGAIN && errno != EINTR)
		t->gone = true;
	if (n > 0 && (t->out_off += (size_t)n) == t->out.len)
		t->out.len = t->out_off = 0;
}

/* pump - until all has left and, if asked for, all that is due was heard */
static void
pump(struct talk *t, bool wait)
{
	uint64_t begin = now_us();
	struct pollfd p = { .fd = t->fd };
	int n;

	while (!t->gone &&
	    (t->out.len > 0 ||
	        (wait && (!t->negotiated || dialog_waits(&t->d))))) {
		p.events = (short)(POLLIN | (t->out.len > 0 ? POLLOUT : 0));
		n = poll(&p, 1, 100);
		if (n == -1 && errno != EINTR)
			err(1, "poll");
		if (n > 0 && (p.revents & POLLOUT) != 0)
			say(t);
		if (n > 0 && (p.revents & ~POLLOUT) != 0)
			hear(t);
		if (now_us() - begin > t->limit_us)
			t->gone = true; /* no answer is an answer too */
	}
}

static int
offer(struct talk *t, const struct conn *c)
{
	const struct milter_options all = { .version = MILTER_VERSION,
		.actions = MILTER_MAY_ALL,
		.protocol = MILTER_PROTOCOL_ALL };
	size_t i;

	for (i = 0; i < c->n_packets; i++)
		if (!c->packets[i].from && c->packets[i].code == MILTER_OPTNEG)
			return (milter_put(&t->out, MILTER_OPTNEG,
			    c->packets[i].data, c->packets[i].len));
	return (milter_put_options(&t->out, &all));
}

/* put - a packet of any size that was recorded */
static int
put(struct buf *b, const struct packet *p)
{
	const uint32_t n = (uint32_t)p->len + 1;
	const char head[MILTER_HDR] = { (char)(n >> 24), (char)(n >> 16),
		(char)(n >> 8), (char)n, p->code };

	return (buf_add(b, head, sizeof(head)) == -1 ||
	            (p->len > 0 && buf_add(b, p->data, p->len) == -1)
	        ? -1
	        : 0);
}

static void
play(struct talk *t, struct conn *c)
{
	size_t i;

	for (i = 0; i < c->n_packets && !t->gone; i++) {
		struct packet *p = &c->packets[i];

		if (p->code == MILTER_OPTNEG)
			continue;
		if (p->from) {
			pump(t, !milter_is_edit(p->code));
			continue;
		}
		if (dialog_send(&t->d, p, now_us()) && put(&t->out, p) == -1)
			err(1, NULL);
		if (t->out.len > OUT_HIGH)
			pump(t, false);
	}
	pump(t, true);
}

int
talk(struct conn *c, const char *to, unsigned timeout_s,
    struct milter_options *options_r, char **lists_r, bool *negotiated_r)
{
	struct talk t = { .fd = dial(to),
		.limit_us = (uint64_t)timeout_s * 1000000,
		.options = options_r,
		.lists = lists_r,
		.d = { .now = true } };

	if (t.fd == -1)
		return (-1);
	t.in.max = MILTER_PAYLOAD_MAX + MILTER_HDR + READ_ONCE;
	t.out.max = OUT_MAX;
	if (offer(&t, c) == -1)
		err(1, NULL);
	pump(&t, true);
	if (t.negotiated && c->negotiated)
		play(&t, c);
	if (!t.gone && milter_put(&t.out, MILTER_QUIT, NULL, 0) == 0)
		pump(&t, false);
	*negotiated_r = t.negotiated;
	(void)close(t.fd);
	dialog_fini(&t.d);
	buf_fini(&t.in);
	buf_fini(&t.out);
	return (0);
}
