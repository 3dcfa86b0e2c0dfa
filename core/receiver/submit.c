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
#include "quarantine/quarantine.h"

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
	char reply[100];

	s->r->messages += s->release == NULL;
	s->commands = 0;
	chain_outcome(s->chain, -1,
	    (t->env.flags & ENV_HELD) != 0 ? "held" : "queued", "",
	    t->env.hold_by);
	(void)snprintf(reply, sizeof(reply),
	    "250 2.0.0 %s Message accepted for delivery", t->env.id);
	tx_reply(s, reply);
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
	record_discard(s, &t->env);
	accepted(s);
}

int
submit_status(struct frame *f)
{
	struct unpacker u = { NULL, 0, false };
	uint8_t status;

	if (f == NULL || f->type != MSG_SUBMITTED)
		return (2);
	u.p = f->data;
	u.n = f->len;
	status = unpack_u8(&u);
	(void)unpack_str(&u);
	return (unpack_end(&u) == -1 ? 2 : status);
}

static void
on_submitted(struct session *s, struct frame *f)
{
	int status = submit_status(f);

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

/* submit_flags - what the content needs of a relay */
void
submit_flags(struct transaction *t, const struct outgoing *o)
{
	const struct message *m = o->msg;
	bool dots = t->data.dots, eight_bit = t->data.eight_bit;

	if (m->header_changed || m->body_changed) {
		dots = has_dots(o->header->data, o->header->len) ||
		    has_dots(m->body, m->body_len);
		eight_bit = bytes_8bit(o->header->data, o->header->len) ||
		    bytes_8bit(m->body, m->body_len);
	}
	o->env->flags |= (dots ? ENV_DOTS : 0) | (eight_bit ? ENV_8BIT : 0);
}

static void
pack_content(struct packer *k, const struct outgoing *o)
{
	const struct message *m = o->msg;
	uint32_t crc = crc32c(0, o->header->data, o->header->len);

	crc = crc32c(crc, m->body, m->body_len);
	pack_u8(k, o->where);
	pack_u64(k, o->length);
	pack_u64(k, o->offset);
	pack_u32(k, crc);
	if (o->where != 0) {
		pack_blob(k, "", 0);
		return;
	}
	/* One blob of two parts. */
	pack_u32(k, (uint32_t)o->length);
	if (buf_add(k->b, o->header->data, o->header->len) == -1 ||
	    buf_add(k->b, m->body, m->body_len) == -1 ||
	    buf_add(k->b, "", 1) == -1)
		k->failed = true;
}

int
submit_pack(struct session *s, const struct outgoing *o, struct buf *b)
{
	const struct buf *received = &s->tx->data.header;
	struct buf record = BUF_INIT(RECORD_MAX);
	struct buf origin = BUF_INIT(2 * QUARANTINE_ORIGIN_MAX);
	struct packer k = { b, false };
	bool held = (o->env->flags & ENV_HELD) != 0;
	bool keep = o->msg->header_changed && received->len <= RECEIVED_MAX;
	int rc = -1;

	if (record_make(s, o->env, o->group, held ? "held" : "queued", "",
	        o->env->hold_by, &record) == 0 &&
	    (!held || release_origin(s, &origin) == 0)) {
		env_pack(&k, o->env);
		pack_content(&k, o);
		pack_blob(
		    &k, keep ? received->data : "", keep ? received->len : 0);
		pack_str(&k, record.data);
		pack_blob(&k, origin.data, origin.len);
		pack_str(&k, s->release != NULL ? release_id(s->release) : "");
		rc = pack_end(&k);
	}
	buf_fini(&record);
	buf_fini(&origin);
	return (rc);
}

/* send_it - to the queue; -1 when that is not possible (fd is still ours) */
static int
send_it(struct session *s, const struct outgoing *o)
{
	struct transaction *t = s->tx;
	struct buf b = BUF_INIT(FRAME_MAX);
	int rc = submit_pack(s, o, &b);

	if (rc == 0)
		rc = session_ask(s, s->r->queue, MSG_SUBMIT, &b, o->fd,
		    SUBMIT_MS, on_submitted);
	if (rc == 0 && !t->counted) {
		t->counted = true;
		s->r->submitting++;
	}
	buf_fini(&b);
	return (rc);
}

/* whole - the transaction as it is */
static struct outgoing
whole(struct transaction *t)
{
	return ((struct outgoing){ .env = &t->env,
	    .msg = &t->msg,
	    .header = &t->header,
	    .group = -1,
	    .fd = -1,
	    .length = t->header.len + t->msg.body_len });
}

static void
submit_file(struct session *s, const struct outgoing *pl)
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
	struct outgoing pl = whole(t);

	pl.where = where;
	pl.fd = fd;
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
	struct outgoing pl = whole(t);
	int fd;

	submit_flags(t, &pl);
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
		if (s->release != NULL)
			release_kept(s, "", "milters left no recipient");
		else
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

/* stays - a release that comes to anything but a message to deliver */
static bool
stays(struct session *s, const struct chain_answer *a)
{
	char text[600];

	if (s->release == NULL ||
	    (a->verdict != CHAIN_DISCARD &&
	        (a->verdict != CHAIN_CONTINUE || !a->quarantine)))
		return (false);
	if (a->verdict == CHAIN_DISCARD)
		(void)snprintf(text, sizeof(text),
		    "would be discarded by milter %.60s", a->milter);
	else
		(void)snprintf(text, sizeof(text), "held by milter %.60s: %s",
		    a->hold_by, a->reason);
	release_kept(s, a->quarantine ? a->hold_by : a->milter, text);
	return (true);
}

static void
message_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	s->wait = WAIT_NOTHING;
	if (a->n_groups > 1 && a->verdict != CHAIN_SHUTDOWN &&
	    (a->verdict == CHAIN_CONTINUE || s->tx->prdr)) {
		split_message(s, a);
		session_go(s);
		return;
	}
	if (stays(s, a)) {
		session_go(s);
		return;
	}
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

int
submit_fields(struct session *s)
{
	struct transaction *t = s->tx;

	t->env.hops = (uint16_t)t->data.hops;
	return (header_split(t->data.header.data, t->data.header.len, &t->msg) ==
	                -1 ||
	            (s->release != NULL ? release_received(s)
	                                : add_received(s)) == -1
	        ? -1
	        : 0);
}

/* keep_groups - of each recipient in order: a milter may change the list */
static int
keep_groups(struct transaction *t)
{
	size_t i;

	t->prdr_groups = calloc(t->env.n_rcpts + 1, sizeof(*t->prdr_groups));
	if (t->prdr_groups == NULL)
		return (-1);
	for (i = 0; i < t->env.n_rcpts; i++)
		t->prdr_groups[i] = t->env.rcpts[i].group;
	t->n_prdr = t->env.n_rcpts;
	return (0);
}

void
submit_message(struct session *s)
{
	struct transaction *t = s->tx;

	if (t->data.hops > s->settings->limits.hops) {
		tx_fail(s, "rejected", "554 5.4.6 Too many hops", "");
		return;
	}
	if (t->prdr && keep_groups(t) == -1) {
		tx_fail(s, "tempfailed", "451 4.3.0 Out of memory", "");
		return;
	}
	if (t->discard) {
		discarded(s, t->discard_by != NULL ? t->discard_by : "");
		return;
	}
	if ((!t->stream.on && submit_fields(s) == -1) ||
	    store_take(&t->store, &t->msg) == -1) {
		tx_fail(s, "tempfailed", "451 4.3.0 Out of memory", "");
		return;
	}
	s->wait = WAIT_CHAIN;
	chain_message(s->chain, &t->msg, &t->env, message_done, s);
}
