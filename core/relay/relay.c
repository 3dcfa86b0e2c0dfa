/* SPDX-License-Identifier: ISC */

/*
 * relay - hands messages to next hops over SMTP
 *
 * No file system: content comes as descriptors of the queue.  Every hand-out
 * ends in exactly one MSG_OUTCOME while the queue's channel lives; when it is
 * gone, all of it is dropped, for the next queue hands out again what has no
 * outcome.
 */

#include "core/relay/relay.h"

#include "core/relay/session.h"

#include "milter-sdk/base/json.h"
#include "milter-sdk/base/metric.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
	TRIES_MAX = 10, /* addresses tried for one hand-out */
	LOOKUP_LIMIT_MS = 90000
};

static struct relay relay;

uint64_t
relay_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

void
segment_unref(struct segment *s)
{
	if (--s->refs > 0)
		return;
	(void)close(s->fd);
	free(s);
}

static void
segment_drop(struct relay *r, uint64_t number)
{
	struct segment *s;

	LIST_FOREACH(s, &r->segments, next)
	if (s->number == number) {
		LIST_REMOVE(s, next);
		segment_unref(s); /* jobs in hand keep it open */
		return;
	}
}

/* give_up - settle and answer one job that has no session */
static void
give_up(struct job *j, enum outcome what, const char *reply)
{
	job_settle_rest(j, false, what, reply);
	job_done(j);
}

void
relay_settled(struct relay *r)
{
	if (r->stop_ms != 0 && r->n_jobs == 0) {
		chan_free(&r->queue); /* outcomes leave */
		child_exit(r->child, EX_OK);
	}
}

/* is_our_trouble - no fault of the next hop */
static bool
is_our_trouble(int error)
{
	return (error == EMFILE || error == ENFILE || error == ENOMEM ||
	    error == ENOBUFS);
}

/* make_room - after a failed session_open(): end an idle connection at once if
 * that can help; errno stays */
static bool
make_room(struct relay *r)
{
	struct session *s = TAILQ_FIRST(&r->idle);
	int saved = errno;

	if (s == NULL || !is_our_trouble(saved))
		return (false);
	session_cut(s);
	errno = saved;
	return (true);
}

void
relay_next_address(struct relay *r, struct job *j, const char *why)
{
	struct hop_addr *a;
	char line[REPLY_TEXT_MAX];

	(void)snprintf(line, sizeof(line), "%s", why);
	if (r->stop_ms != 0) {
		give_up(j, OUTCOME_DEFER, "451 4.3.2 this host is stopping");
		return;
	}
	while (j->addrs.next < j->addrs.n && j->addrs.next < TRIES_MAX) {
		a = &j->addrs.v[j->addrs.next++];
		if (session_open(r, j, a) == 0 ||
		    (make_room(r) && session_open(r, j, a) == 0))
			return;
		if (is_our_trouble(errno)) {
			log_err("relay: socket: %s", strerror(errno));
			give_up(j, OUTCOME_DEFER,
			    "451 4.3.2 this host has too many connections");
			return;
		}
		(void)snprintf(line, sizeof(line),
		    "451 4.4.1 %s during connecting: %s", a->remote,
		    strerror(errno));
		free(j->remote);
		j->remote = strdup(a->remote);
	}
	give_up(j, OUTCOME_SITE, line);
}

/* ask_lookup - for the addresses of the job's hop */
static void
ask_lookup(struct relay *r, struct job *j)
{
	struct buf b = BUF_INIT(4096);
	struct packer k = { &b, false };

	if (j->asked_ref == 0)
		j->asked_ms = relay_now_ms();
	j->asked_ref = ++r->next_ref;
	relay_wake(r);
	if (r->lookup == NULL)
		return; /* asked when there is one */
	pack_str(&k, j->host);
	pack_u16(&k, j->port);
	if (pack_end(&k) == -1 ||
	    chan_send_buf(r->lookup, MSG_HOSTS, j->asked_ref, &b, -1) == -1) {
		j->asked_ref = 0;
		give_up(
		    j, OUTCOME_DEFER, "451 4.4.3 next hop cannot be looked up");
	}
	buf_fini(&b);
}

void
relay_run(struct relay *r, struct job *j, bool fresh)
{
	struct session *s;

	if (r->stop_ms != 0)
		give_up(j, OUTCOME_DEFER, "451 4.3.2 this host is stopping");
	else if (j->segment == NULL) {
		log_err(
		    "relay: hand-out without its segment: id=%s", j->env.id);
		give_up(j, OUTCOME_DEFER, "451 4.3.0 content is not at hand");
	} else if (job_open_count(j) == 0)
		job_done(j);
	else if (!fresh && (s = session_find_idle(r, j->host, j->port)) != NULL)
		session_begin(s, j);
	else {
		hop_fini(&j->addrs);
		switch (hop_literal(j->host, j->port, &j->addrs)) {
		case 1:
			relay_next_address(r, j, "");
			break;
		case 0:
			ask_lookup(r, j);
			break;
		default:
			give_up(j, OUTCOME_DEFER, "451 4.3.0 out of memory");
		}
	}
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct relay *r = arg;
	uint64_t now = relay_now_ms();
	struct job *j, *next;

	(void)fd;
	(void)what;
	session_tick(r, now);
	for (j = TAILQ_FIRST(&r->jobs); j != NULL; j = next) {
		next = TAILQ_NEXT(j, next);
		if (r->stop_ms != 0 && now >= r->stop_ms) {
			if (j->session != NULL)
				session_drop(j->session);
			give_up(j, OUTCOME_DEFER,
			    "451 4.3.2 this host is stopping");
		} else if (j->asked_ref != 0 &&
		    now - j->asked_ms > LOOKUP_LIMIT_MS)
			give_up(j, OUTCOME_DEFER,
			    "451 4.4.3 look-up of the next hop timed out");
	}
	relay_wake(r);
}

void
relay_wake(struct relay *r)
{
	static const struct timeval tv = { 0, RELAY_TICK_MS * 1000 };

	if ((r->n_sessions > 0 || r->n_jobs > 0) &&
	    !evtimer_pending(r->tick, NULL))
		(void)evtimer_add(r->tick, &tv);
}

static void
on_segment(struct relay *r, struct frame *f, struct unpacker *u)
{
	uint64_t number = unpack_u64(u);
	struct segment *s;

	if (unpack_end(u) == -1 || f->fd == -1 ||
	    (s = calloc(1, sizeof(*s))) == NULL) {
		log_err("relay: segment without descriptor or memory");
		if (f->fd != -1)
			(void)close(f->fd);
		return;
	}
	segment_drop(r, number);
	s->number = number;
	s->fd = f->fd;
	s->refs = 1;
	LIST_INSERT_HEAD(&r->segments, s, next);
}

/* drop_all - no queue, nobody to work for */
static void
drop_all(struct relay *r)
{
	while (!LIST_EMPTY(&r->sessions))
		session_cut(LIST_FIRST(&r->sessions));
	while (!TAILQ_EMPTY(&r->jobs))
		job_free(TAILQ_FIRST(&r->jobs));
	while (!LIST_EMPTY(&r->segments))
		segment_drop(r, LIST_FIRST(&r->segments)->number);
	chan_free(&r->queue);
}

static void
on_deliver(struct relay *r, uint64_t ref, struct unpacker *u)
{
	struct job *j;

	if (r->n_jobs >= RELAY_JOBS_MAX || (j = job_new(r, ref, u)) == NULL) {
		/* It cannot be answered, so the queue must see us end: it
		 * hands out again what has no outcome. */
		log_err("relay: hand-out cannot be taken: %s", strerror(errno));
		child_exit(r->child, EX_PROTOCOL);
	}
	relay_run(r, j, false);
}

static void
on_cancel(struct relay *r, uint64_t ref)
{
	struct job *j;

	TAILQ_FOREACH (j, &r->jobs, next)
		if (j->ref == ref)
			break;
	if (j == NULL || (j->session != NULL && session_begun(j->session)))
		return; /* its outcome is under way */
	if (j->session != NULL)
		session_drop(j->session);
	give_up(j, OUTCOME_DEFER, "451 4.3.2 called back");
}

static void
on_queue(void *arg, struct chan *ch, struct frame *f)
{
	struct relay *r = arg;
	struct unpacker u = { f->data, f->len, false };
	uint64_t number;

	(void)ch;
	if (f->type == MSG_SEGMENT) {
		on_segment(r, f, &u);
		return;
	}
	if (f->fd != -1)
		(void)close(f->fd);
	switch (f->type) {
	case MSG_SEGMENT_DROP:
		number = unpack_u64(&u);
		if (unpack_end(&u) == 0)
			segment_drop(r, number);
		break;
	case MSG_DELIVER:
		on_deliver(r, f->ref, &u);
		break;
	case MSG_CANCEL:
		on_cancel(r, f->ref);
		break;
	default:
		log_err(
		    "relay: unknown frame from the queue: type=%u", f->type);
		drop_all(r);
		break;
	}
}

static void
on_queue_gone(void *arg, struct chan *ch)
{
	(void)ch;
	log_warning("relay: the queue is gone");
	drop_all(arg);
	relay_settled(arg);
}

/* on_hosts - the answer for one job that may be gone by now */
static void
on_hosts(struct relay *r, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	uint8_t status = unpack_u8(&u);
	const char *reason = unpack_str(&u);
	char line[600];
	struct job *j;

	TAILQ_FOREACH (j, &r->jobs, next)
		if (j->asked_ref == f->ref)
			break;
	if (j == NULL)
		return;
	j->asked_ref = 0;
	if (u.failed || hop_unpack(&u, j->port, &j->addrs) == -1) {
		log_err("relay: malformed answer from lookup");
		hop_fini(&j->addrs);
		give_up(j, OUTCOME_DEFER, "451 4.4.3 look-up failed");
		return;
	}
	if (status == 0) {
		relay_next_address(
		    r, j, "451 4.4.4 the next hop has no address");
		return;
	}
	(void)snprintf(line, sizeof(line), "%s %.500s",
	    status == 2 ? "550" : "451", reason);
	/* Of the name, not of a host: no back-off for others is wanted, yet a
	 * name server that fails does concern the whole site. */
	give_up(j, status == 2 ? OUTCOME_FAIL : OUTCOME_SITE, line);
}

static void
on_lookup(void *arg, struct chan *ch, struct frame *f)
{
	(void)ch;
	if (f->fd != -1)
		(void)close(f->fd);
	if (f->type == MSG_HOSTS_R)
		on_hosts(arg, f);
}

static void
on_lookup_gone(void *arg, struct chan *ch)
{
	struct relay *r = arg;

	(void)ch;
	chan_free(&r->lookup); /* jobs ask again when there is another */
}

static void
relay_peer(struct child *c, enum proc_kind kind, unsigned index, int sock)
{
	struct relay *r = c->priv;
	struct chan **slot = kind == PROC_QUEUE ? &r->queue
	    : kind == PROC_LOOKUP               ? &r->lookup
	                                        : NULL;
	struct job *j, *next;

	(void)index; /* one queue and one lookup */
	if (slot == NULL) {
		(void)close(sock);
		return;
	}
	if (kind == PROC_QUEUE && r->queue != NULL)
		drop_all(r);
	chan_free(slot);
	if (kind == PROC_QUEUE)
		*slot = chan_new(c->base, sock, on_queue, on_queue_gone, r);
	else
		*slot = chan_new(c->base, sock, on_lookup, on_lookup_gone, r);
	if (*slot == NULL) {
		log_err("relay: no memory for a peer");
		(void)close(sock);
		return;
	}
	if (kind != PROC_LOOKUP)
		return;
	for (j = TAILQ_FIRST(&r->jobs); j != NULL; j = next) {
		next = TAILQ_NEXT(j, next);
		if (j->asked_ref != 0)
			ask_lookup(r, j);
	}
}

static int
relay_open(struct child *c)
{
	struct relay *r = &relay;
	size_t i;

	memset(r, 0, sizeof(*r));
	c->priv = r;
	r->child = c;
	LIST_INIT(&r->segments);
	TAILQ_INIT(&r->jobs);
	LIST_INIT(&r->sessions);
	TAILQ_INIT(&r->idle);
	for (i = 0; i < RELAY_BUCKETS; i++)
		TAILQ_INIT(&r->idle_by_key[i]);
	return (0);
}

static int
relay_start(struct child *c)
{
	struct relay *r = c->priv;

	r->tick = evtimer_new(c->base, on_tick, r);
	return (r->tick != NULL ? 0 : -1);
}

static void
relay_reload(struct child *c, struct settings *old)
{
	(void)c; /* limits are read when they are needed */
	(void)old;
}

static void
relay_state(struct child *c, const char *name, const char *value)
{
	(void)c; /* delivery is paused by the queue */
	(void)name;
	(void)value;
}

static int
status(const struct relay *r, struct buf *b)
{
	const struct relay_stats *s = &r->stats;

	return (buf_addf(b, "{") |
	    json_kv_num(b, "connections", r->n_sessions) |
	    json_kv_num(b, "idle", r->n_idle) |
	    json_kv_num(b, "delivering", r->n_jobs) |
	    json_kv_num(b, "messages", s->messages) |
	    json_kv_num(b, "delivered", s->delivered) |
	    json_kv_num(b, "deferred", s->deferred) |
	    json_kv_num(b, "failed", s->failed) |
	    json_kv_num(b, "opened", s->opened) |
	    json_kv_num(b, "reused", s->reused) |
	    json_kv_num(b, "damaged", s->damaged) | buf_addf(b, "}"));
}

static int
metrics(const struct relay *r, struct buf *b)
{
	const struct relay_stats *s = &r->stats;

	return (
	    metric_put(b, r->n_sessions, "milldam_relay_connections", NULL) |
	    metric_put(b, r->n_idle, "milldam_relay_idle_connections", NULL) |
	    metric_put(b, r->n_jobs, "milldam_relay_delivering", NULL) |
	    metric_put(b, s->messages, "milldam_relay_handouts_total", NULL) |
	    metric_put(b, s->opened, "milldam_relay_opened_total", NULL) |
	    metric_put(b, s->reused, "milldam_relay_reused_total", NULL) |
	    metric_put(b, s->damaged, "milldam_relay_damaged_total", NULL) |
	    metric_put(b, s->delivered, "milldam_relay_answers_total", "answer",
	        "delivered", NULL) |
	    metric_put(b, s->deferred, "milldam_relay_answers_total", "answer",
	        "deferred", NULL) |
	    metric_put(b, s->failed, "milldam_relay_answers_total", "answer",
	        "failed", NULL));
}

static void
relay_command(struct child *c, uint64_t ref, const char *line)
{
	struct buf b = BUF_INIT(64 * 1024), text = BUF_INIT(8192);
	int rc;

	if (strcmp(line, "status") == 0)
		rc = status(c->priv, &b);
	else if (strcmp(line, "metrics") == 0)
		rc = metrics(c->priv, &b);
	else
		rc = buf_addf(&text, "unknown command %s", line) |
		    buf_addf(&b, "{\"error\":") |
		    json_str(&b, text.data != NULL ? text.data : "") |
		    buf_addf(&b, "}");
	if (rc != 0)
		log_err("relay: command: no memory");
	child_reply(c, ref, true, b.data, b.len);
	buf_fini(&text);
	buf_fini(&b);
}

static void
relay_stop(struct child *c)
{
	struct relay *r = c->priv;
	uint64_t ms = c->settings->stop_ms;
	struct job *j, *next;

	r->stop_ms = relay_now_ms() + (ms < RELAY_STOP_MS ? ms : RELAY_STOP_MS);
	while (!TAILQ_EMPTY(&r->idle))
		session_drop(TAILQ_FIRST(&r->idle));
	/* What no next hop has seen yet can wait for the next start. */
	for (j = TAILQ_FIRST(&r->jobs); j != NULL; j = next) {
		next = TAILQ_NEXT(j, next);
		if (j->session != NULL && session_begun(j->session))
			continue;
		if (j->session != NULL)
			session_drop(j->session);
		give_up(j, OUTCOME_DEFER, "451 4.3.2 this host is stopping");
	}
	relay_settled(r);
	relay_wake(r);
}

const struct child_ops relay_ops = {
	.kind = PROC_RELAY,
	.open = relay_open,
	.start = relay_start,
	.peer = relay_peer,
	.reload = relay_reload,
	.state = relay_state,
	.command = relay_command,
	.stop = relay_stop,
};
