/* SPDX-License-Identifier: ISC */

/*
 * child - what every child of the supervisor does alike
 *
 * The control channel is the child's life line: its end means that the
 * supervisor is gone, and the child ends too, so that nothing of ours runs
 * without one.
 */

#include "core/proc/child.h"
#include "core/proc/sandbox.h"

#include "milter-sdk/base/pack.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

enum { BUNDLE_FILES_MAX = 1000 };

static void
fatal(struct child *c, const char *what)
{
	log_err("%s: %s: %s", proc_name(c->ops->kind), what, strerror(errno));
	_exit(EX_OSERR);
}

void
child_exit(struct child *c, int status)
{
	chan_free(&c->control); /* what was said, leaves */
	exit(status);
}

static void
send_control(struct child *c, uint16_t type, uint64_t ref, const struct buf *b)
{
	if (chan_send(c->control, type, ref, b != NULL ? b->data : NULL,
	        b != NULL ? b->len : 0, -1) == -1)
		fatal(c, "control channel");
}

void
child_reply(
    struct child *c, uint64_t ref, bool last, const char *text, size_t len)
{
	const size_t part = FRAME_MAX / 2;
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };
	size_t n;

	do {
		n = len < part ? len : part;
		b.len = 0;
		pack_u8(&k, last && n == len);
		pack_blob(&k, text, n);
		if (pack_end(&k) == -1)
			fatal(c, "reply");
		send_control(c, MSG_REPLY, ref, &b);
		text += n;
		len -= n;
	} while (len > 0);
	buf_fini(&b);
}

void
child_alarm(struct child *c, const char *kind, const char *text)
{
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };

	log_line(LOG_ALERT, "alarm: kind=%s text=%s", kind, text);
	pack_str(&k, kind);
	pack_str(&k, text);
	if (pack_end(&k) == 0)
		send_control(c, MSG_ALARM, 0, &b);
	buf_fini(&b);
}

int
child_ask(struct child *c)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
	        sv) == -1)
		return (-1);
	if (chan_send(c->control, MSG_ASK, 0, NULL, 0, sv[1]) == 0)
		return (sv[0]);
	(void)close(sv[0]);
	(void)close(sv[1]);
	return (-1);
}

void
child_recording(
    struct child *c, uint64_t ref, const char *milter, const char *listener)
{
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };

	pack_str(&k, milter);
	pack_str(&k, listener);
	if (pack_end(&k) == 0)
		send_control(c, MSG_RECORDING, ref, &b);
	buf_fini(&b);
}

/* reload - parse the bundle; on a mistake (the supervisor checked it, so a
 * difference of versions) the old settings stay */
static void
reload(struct child *c, struct unpacker *u)
{
	struct conf_file *files;
	struct buf errors = BUF_INIT(1 << 20);
	struct settings *new, *old;
	uint32_t i, n = unpack_u32(u);

	if (u->failed || n == 0 || n > BUNDLE_FILES_MAX ||
	    (files = calloc(n, sizeof(*files))) == NULL)
		return;
	for (i = 0; i < n; i++) {
		files[i].name = (char *)unpack_str(u);
		files[i].text = (char *)unpack_blob(u, &files[i].len);
	}
	new = unpack_end(u) == 0 ? settings_parse(files, n, &errors) : NULL;
	free(files);
	if (new == NULL) {
		log_err("%s: reload refused: %s", proc_name(c->ops->kind),
		    errors.len > 0 ? errors.data : "bad bundle");
		buf_fini(&errors);
		return;
	}
	buf_fini(&errors);
	old = c->settings;
	c->settings = new;
	log_set_level(new->log_level);
	c->ops->reload(c, old);
	settings_unref(&old);
}

static void
on_peer(struct child *c, struct frame *f, struct unpacker *u)
{
	uint8_t kind = unpack_u8(u);
	uint16_t index = unpack_u16(u);

	if (unpack_end(u) == -1 || kind >= PROC_KINDS || f->fd == -1) {
		if (f->fd != -1)
			(void)close(f->fd);
		return;
	}
	c->ops->peer(c, (enum proc_kind)kind, index, f->fd);
}

static void
on_listen(struct child *c, struct frame *f, struct unpacker *u)
{
	const char *title = unpack_str(u);

	if (unpack_end(u) == -1 || f->fd == -1 || c->ops->listener == NULL) {
		if (f->fd != -1)
			(void)close(f->fd);
		return;
	}
	c->ops->listener(c, title, f->fd);
}

static void
on_command(struct child *c, struct frame *f, struct unpacker *u)
{
	const char *line = unpack_str(u);
	struct buf b = BUF_INIT(1 << 16);

	if (unpack_end(u) == -1)
		return;
	if (strcmp(line, "probe") == 0) {
		if (sandbox_probe(&b) == 0)
			child_reply(c, f->ref, true, b.data, b.len);
		buf_fini(&b);
		return;
	}
	c->ops->command(c, f->ref, line);
}

static void
on_control(void *arg, struct chan *ch, struct frame *f)
{
	struct child *c = arg;
	struct unpacker u = { f->data, f->len, false };
	const char *name, *value;
	size_t n;

	(void)ch;
	switch (f->type) {
	case MSG_PEER:
		on_peer(c, f, &u);
		break;
	case MSG_LISTEN:
		on_listen(c, f, &u);
		break;
	case MSG_RELOAD:
		reload(c, &u);
		break;
	case MSG_STOP:
		c->ops->stop(c);
		break;
	case MSG_PING:
		send_control(c, MSG_PONG, f->ref, NULL);
		break;
	case MSG_COMMAND:
		on_command(c, f, &u);
		break;
	case MSG_STATE:
		name = unpack_str(&u);
		value = unpack_str(&u);
		if (unpack_end(&u) == 0)
			c->ops->state(c, name, value);
		break;
	case MSG_NOTICE:
		name = unpack_str(&u);
		value = unpack_blob(&u, &n);
		if (unpack_end(&u) == 0 && c->ops->notice != NULL)
			c->ops->notice(c, name, value, n);
		break;
	case MSG_RECORDING_R:
		if (c->ops->recording != NULL)
			c->ops->recording(c, f->ref, f->fd);
		else if (f->fd != -1)
			(void)close(f->fd);
		break;
	case MSG_REOPEN:
		if (c->ops->reopen != NULL)
			c->ops->reopen(c);
		break;
	default:
		if (f->fd != -1)
			(void)close(f->fd);
		break;
	}
}

static void
on_control_gone(void *arg, struct chan *ch)
{
	(void)arg;
	(void)ch;
	_exit(EX_UNAVAILABLE); /* the supervisor is gone */
}

void
child_main(const struct child_ops *ops, unsigned index, struct settings *s,
    int control_sock)
{
	struct child c = { .ops = ops, .index = index, .settings = s };
	struct event_config *cfg = event_config_new();

	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN); /* the supervisor says MSG_STOP */
	(void)signal(SIGINT, SIG_IGN);
	/* One clock read a pass: time-outs here are coarse. */
	if (cfg == NULL ||
	    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK) == -1 ||
	    (c.base = event_base_new_with_config(cfg)) == NULL)
		fatal(&c, "event loop");
	event_config_free(cfg);
	if (ops->open(&c) == -1)
		_exit(EX_OSERR);
	if (sandbox_close(ops->kind, s) == -1)
		fatal(&c, "sandbox");
	c.control =
	    chan_new(c.base, control_sock, on_control, on_control_gone, &c);
	if (c.control == NULL)
		fatal(&c, "control channel");
	if (ops->start(&c) == -1)
		_exit(EX_OSERR);
	send_control(&c, MSG_READY, 0, NULL);
	(void)event_base_dispatch(c.base);
	_exit(EX_SOFTWARE); /* the control channel is always pending */
}
