/* SPDX-License-Identifier: ISC */

/*
 * receiver - the process that speaks SMTP to clients and Milter to filters
 *
 * It has no file system and keeps nothing: a message is the client's until the
 * queue has it on stable storage.
 */

#include "core/receiver/receiver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { STATUS_MAX = 4 << 20, FAIL_OPEN_MS = 1000, SHADOW_GRACE_S = 2 };

/* on_fail_open - tell the supervisor, but not a thousand times a second */
static void
on_fail_open(void *arg, const char *milter, const char *why)
{
	struct receiver *r = arg;
	char text[400];

	r->fail_opens_unsaid++;
	if (now_ms() - r->fail_open_at_ms < FAIL_OPEN_MS)
		return;
	(void)snprintf(text, sizeof(text), "%.60s: %.200s (%llu times)", milter,
	    why, (unsigned long long)r->fail_opens_unsaid);
	child_alarm(r->child, "fail-open", text);
	r->fail_opens_unsaid = 0;
	r->fail_open_at_ms = now_ms();
}

static void
stop_now(struct receiver *r)
{
	doors_close(r);
	peers_close(r); /* what was said, leaves */
	child_exit(r->child, 0);
}

/* on_tick - look again: at the doors after descriptors ran out, at the time
 * that is left while stopping */
static void
on_tick(evutil_socket_t sock, short what, void *arg)
{
	struct receiver *r = arg;

	(void)sock;
	(void)what;
	if (!r->stopping) {
		doors_sort(r);
		return;
	}
	if (r->n_sessions > 0)
		log_warning(
		    "receiver: stop: %u sessions cut off", r->n_sessions);
	engine_shadows_drop(r->engine);
	stop_now(r);
}

/* A session is being freed: never end the process under its feet.  Milters in
 * shadow get a little longer, if the time to stop lasts. */
void
receiver_session_gone(struct receiver *r)
{
	struct timeval tv = { 0, 0 };

	if (!r->stopping || r->n_sessions > 0 || r->n_recordings > 0)
		return;
	if (engine_shadows(r->engine) > 0) {
		uint64_t now = now_ms(), at = r->stop_at_ms;

		if (r->shadow_at_ms == 0)
			r->shadow_at_ms = now + SHADOW_GRACE_S * 1000;
		if (at > r->shadow_at_ms)
			at = r->shadow_at_ms;
		if (at > now) {
			tv.tv_sec = (time_t)((at - now) / 1000);
			tv.tv_usec = (suseconds_t)((at - now) % 1000 * 1000);
		}
	}
	(void)event_add(r->tick, &tv);
}

static int
receiver_open(struct child *c)
{
	struct receiver *r = calloc(1, sizeof(*r));

	tzset();
	if (r == NULL) {
		log_err("receiver: %s", strerror(errno));
		return (-1);
	}
	(void)!getrandom(&r->client_seed, sizeof(r->client_seed), 0);
	r->child = c;
	r->accepting = true;
	r->memory_max = MEMORY_MAX;
	c->priv = r;
	/* It reads keys and the hosts file, which the sandbox would not let. */
	if ((r->engine = engine_new(c->base, c->settings)) == NULL) {
		log_err("receiver: %s", strerror(errno));
		return (-1);
	}
	engine_on_fail_open(r->engine, on_fail_open, r);
	engine_on_recording(r->engine, recordings_keep, r);
	engine_on_shadow(r->engine, record_shadow, r);
	return (0);
}

static int
receiver_start(struct child *c)
{
	struct receiver *r = c->priv;

	r->tick = event_new(c->base, -1, EV_TIMEOUT, on_tick, r);
	if (r->tick == NULL) {
		log_err("receiver: %s", strerror(errno));
		return (-1);
	}
	return (0);
}

static void
receiver_peer(struct child *c, enum proc_kind kind, unsigned index, int sock)
{
	(void)index; /* there is one queue and one lookup */
	peers_set(c->priv, kind, sock);
}

static void
receiver_listener(struct child *c, const char *title, int sock)
{
	doors_add(c->priv, title, sock);
}

static void
receiver_reload(struct child *c, struct settings *old)
{
	struct receiver *r = c->priv;

	(void)old; /* sessions hold it as long as they need it */
	names_clear(r);
	engine_reload(r->engine, c->settings);
	doors_sort(r);
}

static void
set_mode(struct receiver *r, const char *milter, const char *value)
{
	static const struct {
		const char *word;
		enum milter_mode mode;
	} words[] = { { "enforce", MODE_ENFORCE }, { "shadow", MODE_SHADOW },
		{ "off", MODE_OFF }, { "drain", MODE_DRAIN } };
	size_t i;

	for (i = 0; i < 4; i++)
		if (strcmp(value, words[i].word) == 0)
			break;
	if (i == 4 || engine_mode(r->engine, milter, words[i].mode) == -1)
		log_warning(
		    "receiver: state: milter.%s=%s: not known", milter, value);
	else
		log_info("receiver: state: milter.%s=%s", milter, value);
}

static void
receiver_state(struct child *c, const char *name, const char *value)
{
	struct receiver *r = c->priv;

	if (strcmp(name, "accept") == 0) {
		r->paused = strcmp(value, "paused") == 0;
		log_info("receiver: state: accept=%s", value);
	} else if (strncmp(name, "milter.", 7) == 0)
		set_mode(r, name + 7, value);
}

static void
receiver_command(struct child *c, uint64_t ref, const char *line)
{
	static const char unknown[] = "{\"error\":\"unknown command\"}";
	static const char failed[] = "{\"error\":\"out of memory\"}";
	struct buf b = BUF_INIT(STATUS_MAX);

	if (strcmp(line, "metrics") == 0) {
		if (record_metrics(c->priv, &b) == 0)
			child_reply(c, ref, true, b.data, b.len);
		else
			child_reply(c, ref, true, "", 0);
	} else if (strcmp(line, "status") != 0)
		child_reply(c, ref, true, unknown, sizeof(unknown) - 1);
	else if (record_status(c->priv, &b) == -1)
		child_reply(c, ref, true, failed, sizeof(failed) - 1);
	else
		child_reply(c, ref, true, b.data, b.len);
	buf_fini(&b);
}

static void
receiver_stop(struct child *c)
{
	struct receiver *r = c->priv;
	struct timeval tv;
	size_t i;

	if (r->stopping)
		return;
	r->stopping = true;
	doors_close(r);
	r->stop_at_ms = now_ms() + c->settings->stop_ms;
	tv.tv_sec = (time_t)(c->settings->stop_ms / 1000);
	tv.tv_usec = (suseconds_t)(c->settings->stop_ms % 1000 * 1000);
	(void)event_add(r->tick, &tv);
	for (i = 0; i < r->n_slots; i++)
		if (r->slots[i] != NULL)
			session_stop(r->slots[i]);
	receiver_session_gone(r);
}

const struct child_ops receiver_ops = {
	.kind = PROC_RECEIVER,
	.open = receiver_open,
	.start = receiver_start,
	.peer = receiver_peer,
	.listener = receiver_listener,
	.recording = recordings_file,
	.reload = receiver_reload,
	.state = receiver_state,
	.command = receiver_command,
	.stop = receiver_stop,
};
