/* SPDX-License-Identifier: ISC */

/*
 * submit - from the end of data to the last reply
 *
 * hop limit, our Received, the chain, routes of recipients that milters added,
 * the hand-over to the queue, and 250 only when the queue says that the message
 * is on stable storage.
 */

#include "core/receiver/receiver.h"

#include "core/smtp/header.h"
#include "core/smtp/received.h"
#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUBMIT_MS = 300 * 1000, BIG_FILE_MS = 30 * 1000 };

static const char no_queue[] = "451 4.3.0 Message could not be queued, "
                               "try again";

static void
accepted(struct session *s)
{
	struct transaction *t = s->tx;

	s->r->messages++;
	s->commands = 0;
	session_reply(
	    s, "250 2.0.0 %s Message accepted for delivery", t->env.id);
	tx_free(s);
}

static void
discarded(struct session *s, const char *milter)
{
	struct transaction *t = s->tx;
	char relay[512], who[128];

	log_info("%s: milter=%s, discard, relay=%s", t->env.id,
	    log_quote(who, sizeof(who), milter),
	    record_relay(s, relay, sizeof(relay)));
	record_send(s, "discarded", "", milter);
	record_discard(s);
	accepted(s);
}

static void
on_submitted(struct session *s, struct frame *f)
{
	struct unpacker u = { NULL, 0, false };
	uint8_t status = 2;

	if (f != NULL && f->type == MSG_SUBMITTED) {
		u.p = f->data;
		u.n = f->len;
		status = unpack_u8(&u);
		(void)unpack_str(&u);
		if (unpack_end(&u) == -1)
			status = 2;
	}
	if (status == 0) {
		accepted(s);
		return;
	}
	tx_fail(s, "tempfailed",
	    status == 1 ? "452 4.3.1 Insufficient disk space, try again later"
	                : no_queue,
	    "");
}

/* has_dots - some line begins with a dot: a relay must stuff */
static bool
has_dots(const char *p, size_t n)
{
	const char *end = p + n, *lf;

	while (p < end) {
		if (*p == '.')
			return (true);
		if ((lf = memchr(p, '\n', (size_t)(end - p))) == NULL)
			break;
		p = lf + 1;
	}
	return (false);
}

static void
set_flags(struct transaction *t)
{
	struct message *m = &t->msg;
	bool dots = t->data.dots, eight_bit = t->data.eight_bit;

	if (m->header_changed || m->body_changed) {
		dots = has_dots(t->header.data, t->header.len) ||
		    has_dots(m->body, m->body_len);
		eight_bit = bytes_8bit(t->header.data, t->header.len) ||
		    bytes_8bit(m->body, m->body_len);
	}
	t->env.flags |= (dots ? ENV_DOTS : 0) | (eight_bit ? ENV_8BIT : 0);
}

/* Where the content lies for the queue. */
struct place {
	uint8_t where; /* as in MSG_SUBMIT */
	int fd;
	uint64_t offset, length;
};

static void
pack_content(
    struct packer *k, const struct transaction *t, const struct place *pl)
{
	const struct message *m = &t->msg;
	uint32_t crc = crc32c(0, t->header.data, t->header.len);

	crc = crc32c(crc, m->body, m->body_len);
	pack_u8(k, pl->where);
	pack_u64(k, pl->length);
	pack_u64(k, pl->offset);
	pack_u32(k, crc);
	if (pl->where != 0) {
		pack_blob(k, "", 0);
		return;
	}
	/* One blob of two parts. */
	pack_u32(k, (uint32_t)pl->length);
	if (buf_add(k->b, t->header.data, t->header.len) == -1 ||
	    buf_add(k->b, m->body, m->body_len) == -1 ||
	    buf_add(k->b, "", 1) == -1)
		k->failed = true;
}

/* send_it - to the queue; -1 when that is not possible (fd is still ours) */
static int
send_it(struct session *s, const struct place *pl)
{
	struct transaction *t = s->tx;
	struct buf b = BUF_INIT(FRAME_MAX), record = BUF_INIT(RECORD_MAX);
	struct packer k = { &b, false };
	bool held = (t->env.flags & ENV_HELD) != 0;
	bool keep = t->msg.header_changed && t->data.header.len <= RECEIVED_MAX;
	int rc = -1;

	if (record_make(
	        s, held ? "held" : "queued", "", t->env.hold_by, &record) == -1)
		goto out;
	env_pack(&k, &t->env);
	pack_content(&k, t, pl);
	pack_blob(
	    &k, keep ? t->data.header.data : "", keep ? t->data.header.len : 0);
	pack_str(&k, record.data);
	if (pack_end(&k) == -1)
		goto out;
	rc = session_ask(
	    s, s->r->queue, MSG_SUBMIT, &b, pl->fd, SUBMIT_MS, on_submitted);
	if (rc == 0 && !t->counted) {
		t->counted = true;
		s->r->submitting++;
	}
out:
	buf_fini(&b);
	buf_fini(&record);
	return (rc);
}

static void
submit_file(struct session *s, struct place *pl)
{
	if (send_it(s, pl) == -1) {
		(void)close(pl->fd);
		tx_fail(s, "tempfailed", no_queue, "");
	}
}

/* submit_written - header and body into a file of no content yet */
static void
submit_written(struct session *s, int fd, uint8_t where)
{
	struct transaction *t = s->tx;
	struct place pl = { .where = where,
		.fd = fd,
		.length = t->header.len + t->msg.body_len };

	if (store_write(fd, t->header.data, t->header.len, 0) == -1 ||
	    store_write(fd, t->msg.body, t->msg.body_len, t->header.len) ==
	        -1) {
		(void)close(fd);
		tx_fail(s, "tempfailed",
		    "452 4.3.1 Insufficient disk space, try again later", "");
		return;
	}
	submit_file(s, &pl);
}

static void
on_big_file(struct session *s, struct frame *f)
{
	int fd;

	if (f == NULL || f->type != MSG_BIG_FILE_R || f->fd == -1) {
		tx_fail(s, "tempfailed", no_queue, "");
		return;
	}
	fd = f->fd;
	f->fd = -1;
	submit_written(s, fd, 2);
}

/* in_place - the body lies in its file as it came and the header fits before
 * it */
static bool
in_place(const struct transaction *t)
{
	const struct message *m = &t->msg;

	return (m->fd != -1 && m->map != NULL && m->body == m->map &&
	    m->body_len == m->map_len && t->header.len <= m->map_off);
}

static void
submit(struct session *s)
{
	struct transaction *t = s->tx;
	struct message *m = &t->msg;
	uint64_t length = t->header.len + m->body_len;
	uint64_t inline_size = s->settings->limits.inline_size;
	struct place pl = { .where = 0, .fd = -1, .length = length };
	int fd;

	set_flags(t);
	if (length <= INLINE_MAX) {
		if (send_it(s, &pl) == -1)
			tx_fail(s, "tempfailed", no_queue, "");
	} else if (in_place(t) && (t->store.big || length <= inline_size)) {
		pl.where = t->store.big ? 2 : 1;
		pl.fd = m->fd;
		pl.offset = m->map_off - t->header.len;
		if (store_write(m->fd, t->header.data, t->header.len,
		        pl.offset) == -1) {
			tx_fail(s, "tempfailed", no_queue, "");
			return;
		}
		m->fd = -1; /* the channel's, or closed */
		submit_file(s, &pl);
	} else if (length > inline_size) {
		if (session_ask(s, s->r->queue, MSG_BIG_FILE, NULL, -1,
		        BIG_FILE_MS, on_big_file) == -1)
			tx_fail(s, "tempfailed", no_queue, "");
	} else if ((fd = store_memory_file()) == -1)
		tx_fail(s, "tempfailed", no_queue, "");
	else
		submit_written(s, fd, 1);
}

static void finish_message(struct session *);

static void
on_added_route(struct session *s, struct frame *f)
{
	struct transaction *t = s->tx;
	struct route r;

	memset(&r, 0, sizeof(r));
	if (route_answer(s, f, &r, t->refusal, sizeof(t->refusal)) == -1) {
		tx_fail(s, "tempfailed", t->refusal, "");
		return;
	}
	route_fini(&t->env.rcpts[t->next_rcpt].route);
	t->env.rcpts[t->next_rcpt].route = r;
	t->next_rcpt++;
	finish_message(s);
}

/* finish_message - the chain has agreed: route who was added, then submit */
static void
finish_message(struct session *s)
{
	struct transaction *t = s->tx;

	while (t->next_rcpt < t->env.n_rcpts &&
	    t->env.rcpts[t->next_rcpt].route.mailer != MAILER_NONE)
		t->next_rcpt++;
	if (t->next_rcpt < t->env.n_rcpts) {
		if (route_ask(s, t->env.rcpts[t->next_rcpt].addr,
		        on_added_route) == -1)
			tx_fail(s, "tempfailed", no_queue, "");
		return;
	}
	if (t->env.n_rcpts == 0) {
		discarded(s, "");
		return;
	}
	if (message_header(&t->msg, &t->header) == -1) {
		tx_fail(s, "tempfailed", no_queue, "");
		return;
	}
	submit(s);
}

static int
hold(struct envelope *e, const struct chain_answer *a)
{
	e->flags |= ENV_HELD;
	return (env_set(&e->hold_reason, a->reason) == -1 ||
	            env_set(&e->hold_by, a->hold_by) == -1
	        ? -1
	        : 0);
}

static void
message_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	s->wait = WAIT_NOTHING;
	switch (a->verdict) {
	case CHAIN_CONTINUE:
		if (a->quarantine && hold(&s->tx->env, a) == -1)
			tx_fail(s, "tempfailed", no_queue, "");
		else
			finish_message(s);
		break;
	case CHAIN_DISCARD:
		discarded(s, a->milter);
		break;
	case CHAIN_SHUTDOWN:
		tx_fail(s, "tempfailed", a->reply, a->milter);
		session_end(s);
		break;
	default:
		tx_fail(s,
		    a->verdict == CHAIN_REJECT ? "rejected" : "tempfailed",
		    a->reply, a->milter);
		break;
	}
	session_go(s);
}

/* add_received - ours, on top, not shown to milters */
static int
add_received(struct session *s)
{
	struct transaction *t = s->tx;
	struct buf b = BUF_INIT(8192);
	int rc = received_value(&b, &t->env, s->settings->hostname,
	    strcmp(s->facts.client_resolve, "FORGED") == 0, time(NULL));

	if (rc == 0)
		rc = message_add(&t->msg, 0, "Received", b.data, b.len);
	if (rc == 0)
		t->msg.fields[0].hidden = true;
	buf_fini(&b);
	return (rc);
}

void
submit_message(struct session *s)
{
	struct transaction *t = s->tx;

	if (t->data.hops > s->settings->limits.hops) {
		tx_fail(s, "rejected", "554 5.4.6 Too many hops", "");
		return;
	}
	t->env.hops = (uint16_t)t->data.hops;
	if (t->discard) {
		discarded(s, t->discard_by != NULL ? t->discard_by : "");
		return;
	}
	if (header_split(t->data.header.data, t->data.header.len, &t->msg) ==
	        -1 ||
	    store_take(&t->store, &t->msg) == -1 || add_received(s) == -1) {
		tx_fail(s, "tempfailed", "451 4.3.0 Out of memory", "");
		return;
	}
	s->wait = WAIT_CHAIN;
	chain_message(s->chain, &t->msg, &t->env, message_done, s);
}
