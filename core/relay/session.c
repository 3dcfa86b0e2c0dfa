/* SPDX-License-Identifier: ISC */

/*
 * session - a connection to a next hop: bytes and time
 *
 * The read event stays registered for the connection's life, and time limits
 * are compared on a common tick: a message costs no epoll_ctl and no timer.
 */

#include "core/relay/session.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	OUT_MAX = 2 * CONTENT_CHUNK + 256 * 1024, /* all dots, and commands */
	OUT_KEEP = 64 * 1024, /* room that an idle connection may keep */
	WRITES_PER_WAKE = 8,
	QUIT_MS = 2000
};

static void on_read(evutil_socket_t, short, void *);
static void on_write(evutil_socket_t, short, void *);

static unsigned
bucket(const char *host, uint16_t port)
{
	uint32_t h = 2166136261u ^ port;

	for (; *host != '\0'; host++)
		h = (h ^ (uint8_t)*host) * 16777619u;
	return (h % RELAY_BUCKETS);
}

void
session_limit(struct session *s, uint64_t ms)
{
	s->deadline_ms = relay_now_ms() + ms;
}

static void
leave_idle(struct session *s)
{
	struct relay *r = s->relay;

	TAILQ_REMOVE(&r->idle, s, idle);
	TAILQ_REMOVE(&r->idle_by_key[bucket(s->host, s->port)], s, by_key);
	r->n_idle--;
}

/* session_free - close and forget */
static void
session_free(struct session *s)
{
	if (s->state == S_IDLE)
		leave_idle(s);
	if (s->job != NULL)
		s->job->session = NULL;
	if (s->relay->ticked == s)
		s->relay->ticked = LIST_NEXT(s, all);
	LIST_REMOVE(s, all);
	s->relay->n_sessions--;
	if (s->rd != NULL)
		event_free(s->rd);
	if (s->wr != NULL)
		event_free(s->wr);
	if (s->fd != -1)
		(void)close(s->fd);
	reply_fini(&s->reply);
	buf_fini(&s->out);
	free(s->host);
	free(s->remote);
	free(s);
}

/* quit - be polite; the answer is waited for, but not long */
static void
quit(struct session *s)
{
	static const char text[] = "QUIT\r\n";

	if (s->state == S_IDLE)
		leave_idle(s);
	s->state = S_QUIT;
	session_limit(s, QUIT_MS);
	if (send(s->fd, text, sizeof(text) - 1, MSG_NOSIGNAL) == -1)
		session_free(s);
}

void
session_drop(struct session *s)
{
	if (s->state == S_IDLE)
		quit(s);
	else
		session_free(s);
}

void
session_cut(struct session *s)
{
	session_free(s);
}

static int
session_socket(const struct hop_addr *a)
{
	const int on = 1;
	int fd = socket(
	    a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd == -1)
		return (-1);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (const struct sockaddr *)&a->sa, a->sa_len) == -1 &&
	    errno != EINPROGRESS) {
		(void)close(fd);
		return (-1);
	}
	return (fd);
}

int
session_open(struct relay *r, struct job *j, const struct hop_addr *a)
{
	struct session *s = calloc(1, sizeof(*s));
	int saved;

	if (s == NULL)
		return (-1);
	s->relay = r;
	s->port = j->port;
	s->out.max = OUT_MAX;
	s->state = S_CONNECT;
	reply_init(&s->reply);
	LIST_INSERT_HEAD(&r->sessions, s, all);
	r->n_sessions++;
	s->host = strdup(j->host);
	s->remote = strdup(a->remote);
	if ((s->fd = session_socket(a)) == -1 || s->host == NULL ||
	    s->remote == NULL)
		goto fail;
	/* The server speaks first, so readable is all there is to wait for:
	 * a refused connection is readable too. */
	s->rd =
	    event_new(r->child->base, s->fd, EV_READ | EV_PERSIST, on_read, s);
	s->wr = event_new(r->child->base, s->fd, EV_WRITE, on_write, s);
	if (s->rd == NULL || s->wr == NULL || event_add(s->rd, NULL) == -1)
		goto fail;
	session_limit(s, r->child->settings->relay.connect_ms);
	s->job = j;
	j->session = s;
	r->stats.opened++;
	relay_wake(r);
	return (0);

fail:
	saved = errno;
	session_free(s);
	errno = saved;
	return (-1);
}

struct session *
session_find_idle(struct relay *r, const char *host, uint16_t port)
{
	struct session *s;

	TAILQ_FOREACH (s, &r->idle_by_key[bucket(host, port)], by_key)
		if (s->port == port && strcmp(s->host, host) == 0) {
			leave_idle(s);
			s->state = S_ENVELOPE;
			r->stats.reused++;
			return (s);
		}
	return (NULL);
}

/* session_idle - the job is over: keep the connection, or say good-bye */
void
session_idle(struct session *s)
{
	struct relay *r = s->relay;
	const struct relay_conf *c = &r->child->settings->relay;

	if (s->out.cap > OUT_KEEP)
		buf_fini(&s->out);
	if (s->messages >= c->reuse || c->idle_ms == 0 || r->stop_ms != 0) {
		quit(s);
		return;
	}
	s->state = S_IDLE;
	session_limit(s, c->idle_ms);
	TAILQ_INSERT_TAIL(&r->idle, s, idle);
	TAILQ_INSERT_HEAD(&r->idle_by_key[bucket(s->host, s->port)], s, by_key);
	if (++r->n_idle > RELAY_IDLE_MAX)
		quit(TAILQ_FIRST(&r->idle));
}

bool
session_begun(const struct session *s)
{
	return (s->state >= S_ENVELOPE);
}

/* lost - the connection is over; the job is settled by what was reached */
static void
lost(struct session *s, const char *why)
{
	if (s->job != NULL)
		transaction_lost(s, why);
	session_free(s);
}

/* session_write - send what is in out; content is refilled as it leaves */
int
session_write(struct session *s)
{
	ssize_t n;
	int i;

	for (i = 0; i < WRITES_PER_WAKE; i++) {
		while (s->out_off < s->out.len) {
			n = send(s->fd, s->out.data + s->out_off,
			    s->out.len - s->out_off, MSG_NOSIGNAL);
			if (n == -1 && errno == EAGAIN)
				goto wait;
			if (n == -1) {
				lost(s, strerror(errno));
				return (-1);
			}
			s->out_off += (size_t)n;
		}
		s->out.len = s->out_off = 0;
		if (s->state != S_DATA)
			return (0);
		if (transaction_fill(s) == -1)
			return (-1);
	}
wait:
	(void)event_add(s->wr, NULL);
	return (0);
}

static void
on_write(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	const struct relay_conf *c = &s->relay->child->settings->relay;

	(void)fd;
	(void)what;
	if (s->state >= S_IDLE)
		return;
	session_limit(s, s->state == S_FINAL ? c->data_ms : c->command_ms);
	(void)!session_write(s);
}

/* take_replies - -1 when the session is gone */
static int
take_replies(struct session *s)
{
	size_t used, off = 0;
	int rc = 0;

	while (off < s->in_len) {
		rc = reply_take(&s->reply, s->in + off, s->in_len - off, &used);
		off += used;
		if (rc != 1)
			break;
		if (transaction_reply(s) == -1)
			return (-1);
	}
	if (rc == -1) {
		lost(s, "protocol error: the next hop does not speak SMTP");
		return (-1);
	}
	memmove(s->in, s->in + off, s->in_len - off);
	s->in_len -= off;
	return (0);
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	ssize_t n;

	(void)fd;
	(void)what;
	/* A line never fills the room: reply_take() refuses it before. */
	n = recv(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len, 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		lost(s, n == 0 ? "connection closed" : strerror(errno));
		return;
	}
	if (s->state == S_IDLE || s->state == S_QUIT) {
		/* 421, or an answer to nothing: either way it is over. */
		session_free(s);
		return;
	}
	if (s->state == S_CONNECT)
		s->state = S_BANNER;
	s->in_len += (size_t)n;
	(void)!take_replies(s);
}

/* expired - one session's time is over */
static void
expired(struct session *s)
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof(sa);

	if (s->state == S_IDLE)
		quit(s);
	else if (s->state == S_CONNECT &&
	    getpeername(s->fd, (struct sockaddr *)&sa, &n) == 0) {
		/* Connected, and waiting for the banner. */
		s->state = S_BANNER;
		session_limit(s, s->relay->child->settings->relay.command_ms);
	} else
		lost(s, "timed out");
}

void
session_tick(struct relay *r, uint64_t now)
{
	struct session *s;

	/* Whatever a session's end begins is put at the head of the list; it
	 * may end another session, which then moves ticked on. */
	for (s = LIST_FIRST(&r->sessions); s != NULL; s = r->ticked) {
		r->ticked = LIST_NEXT(s, all);
		if (s->deadline_ms <= now)
			expired(s);
	}
}
