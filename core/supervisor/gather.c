/* SPDX-License-Identifier: ISC */

/*
 * gather - ask children on behalf of a client of the control socket
 *
 * A child that does not answer in time is left out: a status that comes is
 * worth more than one that is whole.
 */

#include "core/supervisor/control.h"

#include "milter-sdk/base/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PART_MAX = 1 << 20 };

static const struct timeval gather_limit = { 2, 0 };
static const struct timeval stream_limit = { 20, 0 };

/* send_line - with that ref; -1 if it cannot be */
static int
send_line(struct process *p, uint64_t ref, const char *line)
{
	struct buf b = BUF_INIT(8192);
	struct packer k = { &b, false };
	int rc = -1;

	pack_str(&k, line);
	if (p->control != NULL && pack_end(&k) == 0)
		rc = chan_send_buf(p->control, MSG_COMMAND, ref, &b, -1);
	buf_fini(&b);
	return (rc);
}

void
gather_free(struct client *c)
{
	size_t i;

	if (c->stream != 0)
		(void)!send_line(c->asked, c->stream, "cancel");
	for (i = 0; i < c->n_parts; i++)
		buf_fini(&c->parts[i].text);
	free(c->parts);
	c->parts = NULL;
	c->n_parts = 0;
	c->stream = 0;
	if (c->timer != NULL)
		event_free(c->timer);
	c->timer = NULL;
}

static uint64_t
ask(struct sup *sup, struct process *p, const char *line)
{
	uint64_t ref = ++sup->next_ref;

	return (send_line(p, ref, line) == -1 ? 0 : ref);
}

static void
on_gather_time(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	c->gathered(c);
}

/* stream_ends - without its last part; what was cut off is no JSON */
static void
stream_ends(struct client *c, const char *why)
{
	c->stream = 0;
	(void)event_del(c->timer);
	if (c->begun)
		client_end(c);
	else
		client_error(c, why);
}

static void
on_stream_time(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	(void)!send_line(c->asked, c->stream, "cancel");
	stream_ends(c, "the process does not answer");
}

void
gather_sent(struct client *c, size_t n)
{
	if (c->stream == 0)
		return;
	(void)event_add(c->timer, &stream_limit);
	c->passed_on += n;
	if (c->passed_on < REPLY_MORE)
		return;
	c->passed_on -= REPLY_MORE;
	(void)!send_line(c->asked, c->stream, "more");
}

static bool
complete(const struct client *c)
{
	size_t i;

	for (i = 0; i < c->n_parts; i++)
		if (c->parts[i].ref != 0)
			return (false);
	return (true);
}

void
gather_start(struct client *c, enum proc_kind kind, const char *line,
    void (*done)(struct client *))
{
	struct sup *sup = c->sup;
	size_t i;

	c->parts = calloc(sup->n_procs, sizeof(*c->parts));
	c->timer = event_new(sup->base, -1, 0, on_gather_time, c);
	if (c->parts == NULL || c->timer == NULL) {
		client_error(c, "out of memory");
		return;
	}
	c->gathered = done;
	for (i = 0; i < sup->n_procs; i++) {
		struct process *p = sup->procs[i];
		struct part *part = &c->parts[c->n_parts];

		if (p->control == NULL ||
		    (kind != PROC_KINDS && p->ops->kind != kind))
			continue;
		part->from = p;
		part->text.max = PART_MAX;
		part->ref = ask(sup, p, line);
		part->lost = part->ref == 0;
		c->n_parts++;
	}
	if (complete(c))
		done(c);
	else
		(void)event_add(c->timer, &gather_limit);
}

void
gather_stream(struct client *c, struct process *p, const char *line)
{
	if (p == NULL || p->control == NULL) {
		client_error(c, "that process does not run now");
		return;
	}
	c->asked = p;
	c->timer = event_new(c->sup->base, -1, 0, on_stream_time, c);
	c->stream = c->timer != NULL ? ask(c->sup, p, line) : 0;
	if (c->stream == 0)
		client_error(c, "the process cannot be asked");
	else
		(void)event_add(c->timer, &stream_limit);
}

/* part_answer - the client whose gathering awaits ref takes the text */
static bool
part_answer(
    struct client *c, uint64_t ref, bool last, const char *text, size_t n)
{
	size_t i;

	for (i = 0; i < c->n_parts; i++) {
		struct part *p = &c->parts[i];

		if (p->ref != ref)
			continue;
		if (buf_add(&p->text, text, n) == -1)
			p->text.len = 0; /* too long: left out */
		if (last)
			p->ref = 0;
		if (complete(c)) {
			(void)event_del(c->timer);
			c->gathered(c);
		}
		return (true);
	}
	return (false);
}

void
gather_lost(struct sup *sup, struct process *p)
{
	struct client *c, *next;
	size_t i;

	for (c = sup->clients; c != NULL; c = next) {
		bool waited = false;

		next = c->next;
		if (c->stream != 0 && c->asked == p)
			stream_ends(c, "that process has ended");
		for (i = 0; i < c->n_parts; i++)
			if (c->parts[i].from == p && c->parts[i].ref != 0) {
				c->parts[i].ref = 0;
				c->parts[i].lost = true;
				c->parts[i].text.len = 0;
				waited = true;
			}
		if (waited && complete(c)) {
			(void)event_del(c->timer);
			c->gathered(c);
		}
	}
}

void
control_answer(struct sup *sup, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	bool last = unpack_u8(&u) != 0;
	struct client *c, *next;
	const char *text;
	size_t n;

	text = unpack_blob(&u, &n);
	if (unpack_end(&u) == -1 || f->ref == 0)
		return;
	for (c = sup->clients; c != NULL; c = next) {
		next = c->next;
		if (c->stream == f->ref) {
			(void)event_add(c->timer, &stream_limit);
			if (last) {
				c->stream = 0;
				(void)event_del(c->timer);
			}
			c->begun = true;
			client_say(c, text, n);
			if (last)
				client_end(c);
			return;
		}
		if (part_answer(c, f->ref, last, text, n))
			return;
	}
}
