/* SPDX-License-Identifier: ISC */

/*
 * ask - what the supervisor knows, and gathers from the others
 *
 * The channel is one end of a socket pair, whose other end the supervisor takes
 * for a client of its control socket that may only ask.
 */

#include "core/web/web.h"

#include "milter-sdk/base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void
end(struct ask *a)
{
	if (a->ev != NULL)
		event_free(a->ev);
	a->ev = NULL;
	if (a->sock != -1)
		(void)close(a->sock);
	a->sock = -1;
}

/* done - ok: all has come */
static void
done(struct ask *a, bool ok)
{
	end(a);
	buf_fini(&a->text);
	a->at_ms = ok ? web_now_ms() : 0;
	if (ok) {
		a->text = a->coming;
		memset(&a->coming, 0, sizeof(a->coming));
	} else
		log_warning("web: the supervisor does not answer");
	buf_fini(&a->coming);
	serve_answered(a);
}

static void
on_answer(evutil_socket_t sock, short what, void *arg)
{
	char room[65536];
	struct ask *a = arg;
	ssize_t n;

	if ((what & EV_TIMEOUT) != 0) {
		done(a, false);
		return;
	}
	n = recv(sock, room, sizeof(room), 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		done(a, n == 0 && a->coming.len > 0);
	else if (buf_add(&a->coming, room, (size_t)n) == -1)
		done(a, false);
}

static bool
start(struct ask *a)
{
	static const char *const lines[QUESTIONS] = { "metrics\n", "health\n" };
	static const struct timeval limit = { ASK_SECONDS, 0 };
	const char *line = lines[a->what];

	if ((a->sock = child_ask(a->w->c)) == -1)
		return (false);
	a->coming.max = GATHERED_MAX;
	a->ev = event_new(
	    a->w->c->base, a->sock, EV_READ | EV_PERSIST, on_answer, a);
	if (a->ev == NULL || event_add(a->ev, &limit) == -1 ||
	    send(a->sock, line, strlen(line), MSG_NOSIGNAL) !=
	        (ssize_t)strlen(line)) {
		end(a);
		return (false);
	}
	return (true);
}

bool
ask_for(struct ask *a)
{
	if (a->ev != NULL)
		return (false);
	if (a->at_ms != 0 && web_now_ms() - a->at_ms < FRESH_MS)
		return (true);
	a->at_ms = 0;
	return (!start(a));
}
