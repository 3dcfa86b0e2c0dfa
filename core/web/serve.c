/* SPDX-License-Identifier: ISC */

/*
 * serve - connections, and what is answered on them
 *
 * Every connection has one limit of time for all it does, one buffer of fixed
 * size for its request, and ends after one answer.  When there are too many,
 * the next ones wait in the kernel.
 */

#include "core/web/page.h"
#include "core/web/web.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char plain[] = "text/plain; charset=utf-8";
static const char exposition[] = "text/plain; version=0.0.4; charset=utf-8";

static void
doors_set(struct web *w, bool open)
{
	size_t i;

	for (i = 0; i < w->n_socks; i++)
		if (open)
			(void)event_add(w->doors[i], NULL);
		else
			(void)event_del(w->doors[i]);
}

static void
visit_end(struct visit *v)
{
	struct web *w = v->w;

	TAILQ_REMOVE(&w->visits, v, link);
	if (w->n_visits-- == VISITS_MAX)
		doors_set(w, true);
	if (v->ev != NULL)
		event_free(v->ev);
	if (v->timer != NULL)
		event_free(v->timer);
	buf_fini(&v->out);
	(void)close(v->sock);
	free(v);
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	visit_end(arg);
}

/* watch - for the next event of that kind alone; -1: the visit is over */
static int
watch(struct visit *v, short what, event_callback_fn fn)
{
	if (v->ev != NULL)
		event_free(v->ev);
	v->ev = event_new(v->w->c->base, v->sock, what | EV_PERSIST, fn, v);
	if (v->ev != NULL && event_add(v->ev, NULL) == 0)
		return (0);
	visit_end(v);
	return (-1);
}

/* on_rest - what comes after the answer; closing on unread bytes would reset
 * the connection, and the client might lose the answer */
static void
on_rest(evutil_socket_t sock, short what, void *arg)
{
	char room[4096];
	struct visit *v = arg;
	ssize_t n = recv(sock, room, sizeof(room), 0);

	(void)what;
	if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
		visit_end(v);
}

static void
on_writable(evutil_socket_t sock, short what, void *arg)
{
	static const struct timeval linger = { LINGER_SECONDS, 0 };
	struct visit *v = arg;
	ssize_t n = send(
	    sock, v->out.data + v->sent, v->out.len - v->sent, MSG_NOSIGNAL);

	(void)what;
	if (n == -1 && errno != EAGAIN && errno != EINTR) {
		visit_end(v);
		return;
	}
	if (n > 0)
		v->sent += (size_t)n;
	if (v->sent < v->out.len)
		return;
	v->over = true;
	(void)shutdown(sock, SHUT_WR);
	(void)event_add(v->timer, &linger);
	(void)!watch(v, EV_READ, on_rest);
}

/* answer - the visit may be over after it */
static void
answer(
    struct visit *v, int status, const char *type, const char *body, size_t n)
{
	v->waits = NULL;
	if (buf_addf(&v->out,
	        "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
	        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
	        "%sConnection: close\r\n\r\n",
	        status, http_reason(status), type, n,
	        status == 405 ? "Allow: GET, HEAD\r\n" : "") == -1 ||
	    (!v->head && buf_add(&v->out, body, n) == -1)) {
		visit_end(v);
		return;
	}
	(void)!watch(v, EV_WRITE, on_writable);
}

static void
answer_text(struct visit *v, int status, const char *text)
{
	answer(v, status, plain, text, strlen(text));
}

static void
answer_metrics(struct visit *v, const struct buf *gathered)
{
	struct buf page = BUF_INIT(PAGE_MAX_BYTES);

	if (page_make(gathered->data, gathered->len, &page) == -1 ||
	    page.len == 0)
		answer_text(v, 503, "no metrics: out of memory\n");
	else
		answer(v, 200, exposition, page.data, page.len);
	buf_fini(&page);
}

/* reply - with what has been asked for */
static void
reply(struct visit *v, struct ask *a)
{
	bool ready;

	if (a->at_ms == 0)
		answer_text(v, 503, "the supervisor does not answer\n");
	else if (a->what == ASK_METRICS)
		answer_metrics(v, &a->text);
	else if (v->live)
		answer_text(v, 200, "ok\n");
	else {
		ready = strstr(a->text.data, "\"ready\":true") != NULL;
		answer(v, ready ? 200 : 503, "application/json", a->text.data,
		    a->text.len);
	}
}

void
serve_answered(struct ask *a)
{
	struct visit *v, *next;

	for (v = TAILQ_FIRST(&a->w->visits); v != NULL; v = next) {
		next = TAILQ_NEXT(v, link);
		if (v->waits == a)
			reply(v, a);
	}
}

static void
route(struct visit *v, const char *path)
{
	struct ask *a = &v->w->asks[ASK_HEALTH];

	if (strcmp(path, "/metrics") == 0)
		a = &v->w->asks[ASK_METRICS];
	else if (strcmp(path, "/healthz") == 0)
		v->live = true;
	else if (strcmp(path, "/readyz") != 0) {
		answer_text(v, 404, "/metrics, /healthz or /readyz\n");
		return;
	}
	(void)event_del(v->ev);
	v->waits = a;
	if (ask_for(a))
		reply(v, a);
}

static void
on_request(evutil_socket_t sock, short what, void *arg)
{
	struct visit *v = arg;
	struct http_request r;
	ssize_t n;
	int status;

	(void)what;
	n = recv(sock, v->in + v->n_in, sizeof(v->in) - v->n_in, 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		visit_end(v);
		return;
	}
	v->n_in += (size_t)n;
	status = http_parse(v->in, v->n_in, &r);
	v->head = r.head;
	if (status == 200)
		route(v, r.path);
	else if (status != 0)
		answer_text(v, status, "refused\n");
}

static void
on_door(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval limit = { VISIT_SECONDS, 0 };
	struct web *w = arg;
	struct visit *v;
	int sock;

	(void)what;
	if (w->n_visits >= VISITS_MAX)
		return;
	sock = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (sock == -1)
		return;
	if ((v = calloc(1, sizeof(*v))) == NULL) {
		(void)close(sock);
		return;
	}
	v->w = w;
	v->sock = sock;
	v->out.max = PAGE_MAX_BYTES + 4096;
	TAILQ_INSERT_TAIL(&w->visits, v, link);
	if (++w->n_visits == VISITS_MAX)
		doors_set(w, false);
	v->timer = event_new(w->c->base, -1, 0, on_time, v);
	if (v->timer == NULL || event_add(v->timer, &limit) == -1)
		visit_end(v);
	else
		(void)!watch(v, EV_READ, on_request);
}

void
serve_door(struct web *w, size_t i)
{
	w->doors[i] = event_new(
	    w->c->base, w->socks[i], EV_READ | EV_PERSIST, on_door, w);
	if (w->doors[i] != NULL)
		(void)event_add(w->doors[i], NULL);
}
