/* SPDX-License-Identifier: ISC */

/*
 * session - one SMTP connection: bytes in, replies out, time limits
 *
 * Idle sessions hold no buffer: all sessions read into one scratch area of the
 * process, and only what could not be used yet is copied.  Replies collect and
 * leave when there is no further command at hand, so that a pipelined group is
 * answered in one write.
 */

#include "core/receiver/receiver.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_MAX = 4 * SCRATCH_SIZE, OUT_MAX = 1 << 20, LINGER_MS = 2000 };

uint64_t
now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

static void
session_free(struct session *s)
{
	struct receiver *r = s->r;

	tx_close(s);
	chain_free(&s->chain);
	(void)event_del(&s->rd);
	(void)event_del(&s->wr);
	(void)event_del(&s->timer);
	if (s->release != NULL)
		release_free(s);
	else
		(void)close(s->sock);
	buf_fini(&s->in);
	buf_fini(&s->out);
	free(s->cmd);
	free(s->client_name);
	free(s->client_ptr);
	free(s->helo);
	free(s->refused);
	settings_unref(&s->settings);
	(void)doors_client_count(r, s->client_key, -1);
	r->slots[s->slot] = NULL;
	if (s->slot < r->free_slot)
		r->free_slot = s->slot;
	r->n_sessions--;
	free(s);
	receiver_session_gone(r);
}

static void
reply(struct session *s, const char *fmt, va_list ap)
{
	char *text;

	if (s->quit || s->dead)
		return;
	if (vasprintf(&text, fmt, ap) == -1) {
		s->dead = true;
		return;
	}
	if (s->release != NULL) {
		release_said(s->release, text);
		free(text);
		return;
	}
	if (buf_add(&s->out, text, strlen(text)) == -1 ||
	    buf_add(&s->out, "\r\n", 2) == -1)
		s->dead = true;
	if (text[0] == '5')
		s->errors++;
	free(text);
}

void
session_reply(struct session *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	reply(s, fmt, ap);
	va_end(ap);
}

void
session_bye(struct session *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	reply(s, fmt, ap);
	va_end(ap);
	session_end(s);
}

void
session_end(struct session *s)
{
	s->quit = true;
	s->linger = true;
}

void
session_take(struct session *s, size_t n)
{
	s->p += n;
	s->n -= n;
}

/* too_much - limits on what a session may do without sending mail */
static void
too_much(struct session *s)
{
	const struct limits *l = &s->settings->limits;

	if (s->quit || s->dead)
		return;
	if (s->errors >= l->errors)
		session_bye(
		    s, "421 4.7.0 %s Too many errors", s->settings->hostname);
	else if (s->commands > l->commands)
		session_bye(
		    s, "421 4.7.0 %s Too many commands", s->settings->hostname);
}

/* long_line - a command line without an end in sight */
static bool
long_line(struct session *s)
{
	if (s->n <= COMMAND_LINE_MAX + 2)
		return (false);
	session_reply(s, "500 5.5.2 Line too long");
	s->mode = IN_LONG_LINE;
	return (true);
}

/* step - use some input; false when more is needed */
static bool
step(struct session *s)
{
	const char *lf, *line = s->p;
	size_t len;

	if (s->mode == IN_DATA || s->mode == IN_CHUNK)
		return (content_step(s));
	if (s->n == 0)
		return (false);
	if ((lf = memchr(s->p, '\n', s->n)) == NULL) {
		if (s->mode == IN_LONG_LINE) {
			session_take(s, s->n);
			return (false);
		}
		return (long_line(s));
	}
	len = (size_t)(lf - line);
	session_take(s, len + 1);
	if (s->mode == IN_LONG_LINE) {
		s->mode = IN_COMMANDS;
		return (true);
	}
	s->commands++;
	s->asked_ms = 0;
	if (len == 0 || line[len - 1] != '\r')
		session_reply(s, "500 5.5.2 Command does not end in CRLF");
	else
		command_run(s, line, len - 1);
	return (true);
}

/* flush - write what can be; dead when the client is gone */
static void
flush(struct session *s)
{
	ssize_t n;

	while (s->out_off < s->out.len) {
		n = send(s->sock, s->out.data + s->out_off,
		    s->out.len - s->out_off, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1) {
			if (errno != EAGAIN)
				s->dead = true;
			return;
		}
		s->out_off += (size_t)n;
	}
	buf_fini(&s->out);
	s->out_off = 0;
}

/* finish - the last reply has left.  A close with input unread would be a
 * reset, which may take the reply away from the client: wait for its end. */
static void
finish(struct session *s)
{
	if (!s->linger || shutdown(s->sock, SHUT_WR) == -1) {
		s->dead = true;
		return;
	}
	s->lingering = true;
	s->n = 0;
	s->deadline_ms = now_ms() + LINGER_MS;
}

/* keep_input - what is left over must outlive the scratch area */
static void
keep_input(struct session *s)
{
	struct buf rest = BUF_INIT(IN_MAX);

	if (s->n == 0) {
		buf_fini(&s->in);
		s->p = NULL;
		return;
	}
	if (s->in.data == s->p && s->in.len == s->n)
		return;
	if (buf_add(&rest, s->p, s->n) == -1) {
		s->dead = true;
		return;
	}
	buf_fini(&s->in);
	s->in = rest;
	s->p = s->in.data;
}

/* set_deadline - when waiting for the client; questions set their own */
static void
set_deadline(struct session *s)
{
	const struct limits *l = &s->settings->limits;
	uint64_t now, total;

	if (s->wait == WAIT_CHAIN) {
		s->asked_ms = 0;
		s->deadline_ms = 0; /* the engine has its budgets */
		return;
	}
	if (s->wait != WAIT_NOTHING || s->lingering) {
		s->asked_ms = 0;
		return;
	}
	now = now_ms();
	if (s->mode != IN_DATA && s->mode != IN_CHUNK) {
		/* Of the whole line: a byte now and then gains no time. */
		if (s->asked_ms == 0)
			s->asked_ms = now;
		s->deadline_ms = s->asked_ms + l->command_ms;
		return;
	}
	s->asked_ms = 0;
	s->deadline_ms = now + l->data_ms;
	total = s->data_begin_ms + l->data_total_ms;
	if (s->deadline_ms > total)
		s->deadline_ms = total;
}

/* set_timer - lazily: a timer that goes off too early is set again */
static void
set_timer(struct session *s)
{
	struct timeval tv;
	uint64_t now, ms;

	if (s->deadline_ms == 0 ||
	    (s->timer_ms != 0 && s->timer_ms <= s->deadline_ms))
		return;
	now = now_ms();
	ms = s->deadline_ms > now ? s->deadline_ms - now : 0;
	tv.tv_sec = (time_t)(ms / 1000);
	tv.tv_usec = (suseconds_t)(ms % 1000 * 1000);
	if (event_add(&s->timer, &tv) == -1)
		s->dead = true;
	s->timer_ms = s->deadline_ms;
}

/* wants_input - what the client says now can be used, or is waited for */
static bool
wants_input(const struct session *s)
{
	return (s->lingering || s->wait == WAIT_BANNER ||
	    (s->wait == WAIT_NOTHING && !s->quit &&
	        s->out.len - s->out_off < OUT_HIGH));
}

/* set_events - the read event stays on until input comes that is not wanted:
 * a client waits for our reply as a rule, so that this costs nothing */
static void
set_events(struct session *s)
{
	bool wr = s->out.len > s->out_off;

	if (!s->rd_on && wants_input(s))
		s->rd_on = event_add(&s->rd, NULL) == 0;
	if (wr != s->wr_on)
		(void)(wr ? event_add(&s->wr, NULL) : event_del(&s->wr));
	s->wr_on = wr;
}

/* is_idle - nothing in hand: may be ended when the process stops */
static bool
is_idle(const struct session *s)
{
	return (s->wait == WAIT_NOTHING && s->tx == NULL &&
	    (s->mode == IN_COMMANDS || s->mode == IN_LONG_LINE));
}

/* use_input - as far as it goes */
static void
use_input(struct session *s)
{
	while (!s->dead && !s->quit && s->wait == WAIT_NOTHING) {
		if (s->out.len - s->out_off >= OUT_HIGH)
			flush(s);
		if (s->dead || s->out.len - s->out_off >= OUT_HIGH)
			break; /* it does not read: on_write() goes on */
		too_much(s);
		if (s->quit || !step(s))
			break;
	}
	if (s->r->stopping && !s->dead && !s->quit && is_idle(s))
		session_bye(s, "421 4.3.2 %s Service is stopping",
		    s->settings->hostname);
}

/*
 * session_go - go on: use the input, write, wait for what is next.  The session
 * may be freed here, and only here.
 */
void
session_go(struct session *s)
{
	if (s->release != NULL) {
		s->dead |= release_over(s);
		if (s->wait == WAIT_CHAIN)
			s->deadline_ms = 0; /* the engine has its budgets */
		if (!s->dead)
			set_timer(s);
		else
			session_free(s);
		return;
	}
	use_input(s);
	/* While a question is open its reply will join these. */
	if (!s->dead && s->out.len > 0 && (s->quit || s->wait == WAIT_NOTHING))
		flush(s);
	if (!s->dead && s->quit && s->out.len == 0 && !s->lingering)
		finish(s);
	if (!s->dead)
		keep_input(s);
	if (!s->dead) {
		if (s->wait == WAIT_NOTHING) {
			free(s->cmd);
			s->cmd = NULL;
		}
		set_deadline(s);
		set_timer(s);
		set_events(s);
	}
	if (s->dead)
		session_free(s);
}

/* end_of_input - the client has closed its side */
static void
end_of_input(struct session *s)
{
	char relay[512];

	if (!s->got_mail && s->refused == NULL && !s->lingering)
		log_info("NOQUEUE: %s did not issue MAIL during connection "
		         "to %s",
		    record_relay(s, relay, sizeof(relay)), s->listener->name);
	tx_close(s);
	s->quit = true;
	s->linger = false;
	if (s->lingering || s->out.len == 0)
		s->dead = true;
}

static void
on_banner_input(struct session *s)
{
	char c;
	ssize_t n = recv(s->sock, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
		end_of_input(s);
	else if (n > 0)
		greet_pause_over(s, true);
	session_go(s);
}

static void
on_read(evutil_socket_t sock, short what, void *arg)
{
	struct session *s = arg;
	struct receiver *r = s->r;
	ssize_t n;

	(void)what;
	if (!wants_input(s)) {
		(void)event_del(&s->rd);
		s->rd_on = false;
		return;
	}
	if (s->wait == WAIT_BANNER) {
		on_banner_input(s);
		return;
	}
	n = recv(sock, r->scratch, sizeof(r->scratch), MSG_DONTWAIT);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		end_of_input(s);
	else if (s->lingering)
		return; /* all is said: what comes is dropped */
	else if (s->n == 0) {
		s->p = r->scratch;
		s->n = (size_t)n;
	} else if (buf_add(&s->in, r->scratch, (size_t)n) == -1)
		s->dead = true;
	else {
		s->p = s->in.data;
		s->n = s->in.len;
	}
	session_go(s);
}

static void
on_write(evutil_socket_t sock, short what, void *arg)
{
	struct session *s = arg;

	(void)sock;
	(void)what;
	s->wr_on = false; /* the event is not persistent */
	flush(s);
	session_go(s);
}

static void
timed_out(struct session *s)
{
	answer_fn *fn;
	char relay[512];

	if (s->wait == WAIT_BANNER) {
		greet_pause_over(s, false);
	} else if (s->wait == WAIT_PEER) {
		fn = s->answered;
		s->wait = WAIT_NOTHING;
		s->ask_ref = 0;
		fn(s, NULL);
	} else if (s->lingering || s->quit || s->out.len > 0)
		s->dead = true; /* it does not read */
	else {
		log_info("%s: timeout waiting for input from %s",
		    s->tx != NULL ? s->tx->env.id : "NOQUEUE",
		    record_relay(s, relay, sizeof(relay)));
		session_bye(s, "421 4.4.2 %s Timeout, closing connection",
		    s->settings->hostname);
		tx_close(s);
	}
}

static void
on_timer(evutil_socket_t sock, short what, void *arg)
{
	struct session *s = arg;

	(void)sock;
	(void)what;
	s->timer_ms = 0;
	if (s->deadline_ms == 0)
		return;
	if (now_ms() < s->deadline_ms) {
		set_timer(s);
		return;
	}
	timed_out(s);
	session_go(s);
}

void
session_stop(struct session *s)
{
	if (is_idle(s))
		session_go(s);
}

/* take_slot - a free place in the table; -1 ENOMEM */
static int
take_slot(struct receiver *r, struct session *s)
{
	size_t i = r->free_slot, n = r->n_slots;
	struct session **slots;

	while (i < n && r->slots[i] != NULL)
		i++;
	if (i == n) {
		n = n == 0 ? 64 : 2 * n;
		if ((slots = realloc(r->slots, n * sizeof(*slots))) == NULL)
			return (-1);
		memset(
		    slots + r->n_slots, 0, (n - r->n_slots) * sizeof(*slots));
		r->slots = slots;
		r->n_slots = n;
	}
	r->slots[i] = s;
	r->free_slot = i + 1;
	s->slot = i;
	return (0);
}

/* make - a session in its slot */
static struct session *
make(struct receiver *r, int sock, const struct listener *l,
    const struct sockaddr_storage *peer)
{
	struct event_base *base = r->child->base;
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL || take_slot(r, s) == -1) {
		free(s);
		return (NULL);
	}
	s->r = r;
	s->sock = sock;
	s->in.max = IN_MAX;
	s->out.max = OUT_MAX;
	s->settings = settings_ref(r->child->settings);
	s->listener = l;
	doors_key(peer, s->client_key);
	(void)doors_client_count(r, s->client_key, 1);
	r->n_sessions++;
	(void)event_assign(
	    &s->rd, base, sock, EV_READ | EV_PERSIST, on_read, s);
	(void)event_assign(&s->wr, base, sock, EV_WRITE, on_write, s);
	(void)event_assign(&s->timer, base, -1, EV_TIMEOUT, on_timer, s);
	return (s);
}

struct session *
session_bare(
    struct receiver *r, const struct listener *l, struct release *release)
{
	struct sockaddr_storage nobody;
	struct session *s;

	memset(&nobody, 0, sizeof(nobody));
	if ((s = make(r, -1, l, &nobody)) != NULL)
		s->release = release;
	return (s);
}

int
session_new(struct receiver *r, int sock, const struct listener *l,
    const struct sockaddr_storage *peer)
{
	struct session *s = make(r, sock, l, peer);

	if (s == NULL)
		return (-1);
	r->sessions_total++;
	greet_begin(s, peer);
	session_go(s);
	return (0);
}
