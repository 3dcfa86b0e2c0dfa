/* SPDX-License-Identifier: ISC */

/*
 * release - a held message through the chain again
 *
 * The queue hands over what a milter had held, as it was received.  A session
 * without a client, made of what is known of the one that was, asks the chain
 * in the order of SMTP, without the milters that held it; the authoriser is
 * asked about every recipient again.  If all agree, the result goes to the
 * queue as any message does, in the place of the held one.  Whatever else
 * happens the queue is told why, and keeps what it has.
 */

#include "core/receiver/receiver.h"

#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/pack.h"
#include "quarantine/quarantine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MS = 30 * 1000, RECEIVED_ROOM = 16 << 10, PARAM_ROOM = 2048 };

struct release {
	uint64_t ref;
	struct listener listener; /* it came in by, as configured today */
	struct envelope env;      /* as it was received */
	struct quarantine_origin origin;
	char *origin_bytes, *without;
	char *content; /* or */
	int fd;
	uint64_t offset, length, fed;
	uint32_t crc, want_crc;
	char *received; /* value of our field of then */
	size_t next;    /* recipient */
	char params[2][PARAM_ROOM];
	const char *args[2];
	bool submitted;
	char *by, *why; /* it stays held */
};

static void next_rcpt(struct session *);
static void feed(struct session *);

static void
tell(struct receiver *r, uint64_t ref, bool submitted, const char *by,
    const char *why)
{
	struct buf b = BUF_INIT(64 << 10);
	struct packer k = { &b, false };

	pack_u8(&k, submitted);
	pack_str(&k, by);
	pack_str(&k, why);
	if (r->queue != NULL && pack_end(&k) == 0 &&
	    chan_send_buf(r->queue, MSG_RELEASED, ref, &b, -1) == -1)
		log_warning("receiver: released: %s", strerror(errno));
	buf_fini(&b);
}

static void
fini(struct release *l)
{
	env_fini(&l->env);
	free(l->listener.name);
	free(l->origin_bytes);
	free(l->without);
	free(l->content);
	free(l->received);
	free(l->by);
	free(l->why);
	if (l->fd != -1)
		(void)close(l->fd);
	free(l);
}

void
release_free(struct session *s)
{
	struct release *l = s->release;

	tell(s->r, l->ref, l->submitted, l->by != NULL ? l->by : "",
	    l->why != NULL ? l->why : "not finished");
	fini(l);
	s->release = NULL;
}

const char *
release_id(const struct release *l)
{
	return (l->env.id);
}

const char *
release_without(const struct release *l)
{
	return (l->without);
}

bool
release_over(const struct session *s)
{
	return (s->release->submitted || s->release->why != NULL);
}

void
release_said(struct release *l, const char *reply)
{
	if (reply[0] == '2')
		l->submitted = true;
	else if (l->why == NULL)
		l->why = strdup(reply);
}

void
release_kept(struct session *s, const char *milter, const char *why)
{
	struct release *l = s->release;
	char who[128], say[500];
	size_t i;

	if (l->why != NULL)
		return;
	l->by = strdup(milter);
	if ((l->why = strdup(why)) == NULL) {
		s->dead = true;
		return;
	}
	for (i = 0; l->why[i] != '\0'; i++) /* a reply of several lines */
		if (l->why[i] == '\r' || l->why[i] == '\n')
			l->why[i] = ' ';
	log_info("%s: not released: milter=%s, reason=%s", l->env.id,
	    log_quote(who, sizeof(who), milter),
	    log_quote(say, sizeof(say), l->why));
	if (s->tx == NULL)
		return;
	record_send(s, "kept", l->why, milter);
	chain_abort(s->chain);
	tx_free(s);
}

/* agreed - the chain goes on; else the message stays held */
static bool
agreed(struct session *s, const struct chain_answer *a)
{
	char text[200];

	s->wait = WAIT_NOTHING;
	if (a->verdict == CHAIN_CONTINUE)
		return (true);
	(void)snprintf(text, sizeof(text), "would be discarded by milter %.60s",
	    a->milter);
	release_kept(
	    s, a->milter, a->verdict == CHAIN_DISCARD ? text : a->reply);
	return (false);
}

static void
no_memory(struct session *s)
{
	release_kept(s, "", "451 4.3.0 Out of memory");
}

/* read_at - n bytes of the content */
static int
read_at(const struct release *l, char *out, size_t n, uint64_t at)
{
	ssize_t r;

	if (l->content != NULL) {
		memcpy(out, l->content + at, n);
		return (0);
	}
	for (; n > 0; out += r, n -= (size_t)r, at += (uint64_t)r)
		if ((r = pread(l->fd, out, n, (off_t)(l->offset + at))) <= 0)
			return (-1);
	return (0);
}

/* own_field - our Received on top goes aside: it is not shown to milters */
static int
own_field(struct release *l)
{
	static const char name[] = "Received:";
	char room[RECEIVED_ROOM];
	size_t n = l->length < sizeof(room) ? (size_t)l->length : sizeof(room);
	const char *lf = room;

	if (read_at(l, room, n, 0) == -1 || n < sizeof(name) ||
	    strncasecmp(room, name, sizeof(name) - 1) != 0)
		return (-1);
	do {
		lf = memchr(lf, '\n', (size_t)(room + n - lf));
		if (lf == NULL || lf[-1] != '\r' || ++lf == room + n)
			return (-1);
	} while (*lf == ' ' || *lf == '\t');
	l->received = strndup(room + sizeof(name) - 1,
	    (size_t)(lf - room) - (sizeof(name) - 1) - 2);
	l->fed = (uint64_t)(lf - room);
	l->crc = crc32c(0, room, l->fed);
	return (l->received == NULL ? -1 : 0);
}

int
release_received(struct session *s)
{
	const char *v = s->release->received;

	if (message_add(&s->tx->msg, 0, "Received", v, strlen(v)) == -1)
		return (-1);
	s->tx->msg.fields[0].hidden = true;
	return (0);
}

int
release_origin(struct session *s, struct buf *out)
{
	const struct chain_facts *f = &s->facts;
	struct quarantine_origin o = { .daemon_addr = f->daemon_addr,
		.client_ptr = f->client_ptr,
		.client_resolve = f->client_resolve,
		.tls_version = f->tls_version,
		.cipher = f->cipher,
		.cipher_bits = f->cipher_bits,
		.cert_subject = f->cert_subject,
		.cert_issuer = f->cert_issuer,
		.verify = f->verify,
		.auth_type = f->auth_type,
		.auth_authen = f->auth_authen,
		.auth_author = f->auth_author,
		.auth_ssf = f->auth_ssf,
		.daemon_port = (uint16_t)f->daemon_port,
		.early_talker = f->early_talker };
	const char *const *args = chain_mail_args(s->chain, &o.n_args);
	size_t i;

	if (o.n_args > QUARANTINE_ARGS_MAX)
		o.n_args = QUARANTINE_ARGS_MAX;
	for (i = 0; i < o.n_args; i++)
		o.args[i] = args[i];
	return (quarantine_origin_pack(out, &o));
}

/* message_end - the last byte: the rest is as for any message */
static void
message_end(struct session *s)
{
	struct transaction *t = s->tx;

	data_end(&t->data);
	t->size = t->data.size;
	if (s->release->crc != s->release->want_crc)
		release_kept(s, "", "451 4.3.0 Content is damaged");
	else if (t->data.fault != DATA_GOOD)
		release_kept(s, "", data_reply(t->data.fault));
	else
		submit_message(s);
}

static void
on_file(struct session *s, struct frame *f)
{
	if (f == NULL || f->type != MSG_BIG_FILE_R || f->fd == -1 ||
	    store_move(&s->tx->store, f->fd) == -1) {
		release_kept(s, "", "452 4.3.1 No room for a large message");
		return;
	}
	f->fd = -1;
	feed(s);
}

/* feed - content into the decoder, as if a client had sent it */
static void
feed(struct session *s)
{
	struct transaction *t = s->tx;
	struct release *l = s->release;
	char *room = s->r->scratch;
	size_t n;

	while (l->fed < l->length) {
		n = SCRATCH_SIZE;
		if (n > l->length - l->fed)
			n = (size_t)(l->length - l->fed);
		if (read_at(l, room, n, l->fed) == -1) {
			release_kept(s, "", "451 4.3.0 Content is not there");
			return;
		}
		l->crc = crc32c(l->crc, room, n);
		l->fed += n;
		(void)data_feed(&t->data, room, n);
		if (!t->store.want_big || t->data.fault != DATA_GOOD)
			continue;
		if (session_ask(s, s->r->queue, MSG_BIG_FILE, NULL, -1, FILE_MS,
		        on_file) == -1)
			on_file(s, NULL);
		return;
	}
	message_end(s);
}

static void
on_data(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;
	const struct limits *l = &s->settings->limits;
	const struct data_limits limits = { .message_size = l->message_size,
		.line_length = l->line_length,
		.header_size = l->header_size,
		.header_fields = l->header_fields };

	if (agreed(s, a)) {
		data_init(
		    &s->tx->data, &limits, false, store_add, &s->tx->store);
		feed(s);
	}
	session_go(s);
}

/* add_rcpt - the recipient in hand was accepted */
static int
add_rcpt(struct session *s, uint16_t group)
{
	struct transaction *t = s->tx;
	const struct rcpt *was = &s->release->env.rcpts[s->release->next];
	struct rcpt *r = env_add_rcpt(&t->env, was->addr);

	if (r == NULL || env_set(&r->orcpt, was->orcpt) == -1)
		return (-1);
	r->notify = was->notify;
	r->group = group;
	route_fini(&r->route);
	r->route = t->route;
	memset(&t->route, 0, sizeof(t->route));
	return (0);
}

/* refused - all or none: a message with a recipient that is refused stays */
static void
refused(struct session *s, const char *milter, const char *why)
{
	char text[1000];

	(void)snprintf(text, sizeof(text), "<%.300s>: %.600s",
	    s->release->env.rcpts[s->release->next].addr, why);
	release_kept(s, milter, text);
}

static void
on_rcpt(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	if (a->verdict != CHAIN_CONTINUE && a->verdict != CHAIN_DISCARD) {
		s->wait = WAIT_NOTHING;
		refused(s, a->milter, a->reply);
	} else if (!agreed(s, a))
		;
	else if (!a->authorised)
		refused(s, a->milter,
		    "451 4.7.1 Recipient not authorised: no filter gave leave "
		    "to relay");
	else if (add_rcpt(s, a->group) == -1)
		no_memory(s);
	else {
		s->release->next++;
		next_rcpt(s);
	}
	session_go(s);
}

/* rcpt_params - as RCPT carried them; how many.  The chain borrows them until
 * its answer. */
static size_t
rcpt_params(struct release *l, const struct rcpt *r)
{
	static const char *const words[] = { "NEVER", "SUCCESS", "FAILURE",
		"DELAY" };
	char *notify = l->params[0];
	size_t i, n = 0;

	(void)snprintf(notify, PARAM_ROOM, "NOTIFY=");
	for (i = 0; i < 4; i++)
		if ((r->notify & 1u << i) != 0) {
			if (notify[7] != '\0')
				strcat(notify, ",");
			strcat(notify, words[i]);
		}
	if (notify[7] != '\0')
		l->args[n++] = notify;
	if (r->orcpt[0] != '\0') {
		(void)snprintf(l->params[1], PARAM_ROOM, "ORCPT=%s", r->orcpt);
		l->args[n++] = l->params[1];
	}
	return (n);
}

static void
on_route(struct session *s, struct frame *f)
{
	struct transaction *t = s->tx;
	struct release *l = s->release;
	const struct rcpt *r = &l->env.rcpts[l->next];
	int rc;

	route_fini(&t->route);
	rc = route_answer(s, f, &t->route, t->refusal, sizeof(t->refusal));
	if (rc == -1 || t->route.mailer == MAILER_ERROR) {
		refused(s, "", t->refusal);
		return;
	}
	s->wait = WAIT_CHAIN;
	chain_rcpt(s->chain, r->addr, l->args, rcpt_params(l, r), &t->route,
	    NULL, on_rcpt, s);
}

static void
next_rcpt(struct session *s)
{
	struct release *l = s->release;

	if (l->next == l->env.n_rcpts) {
		s->wait = WAIT_CHAIN;
		chain_data(s->chain, on_data, s);
	} else if (route_ask(s, l->env.rcpts[l->next].addr, on_route) == -1)
		refused(s, "", "451 4.3.0 Recipient could not be routed");
}

static void
on_mail(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	if (agreed(s, a)) {
		s->tx->mailed = true;
		next_rcpt(s);
	}
	session_go(s);
}

/* begin - a transaction with the envelope of then */
static void
begin(struct session *s)
{
	struct release *l = s->release;
	const struct envelope *was = &l->env;
	struct transaction *t = tx_new(s);

	if (t == NULL || env_set(&t->env.sender, was->sender) == -1 ||
	    env_set(&t->env.envid, was->envid) == -1 ||
	    env_set(&t->env.proto, was->proto) == -1 ||
	    env_set(&t->env.tls, was->tls) == -1 ||
	    env_set(&t->env.auth_user, was->auth_user) == -1) {
		no_memory(s);
		return;
	}
	t->env.flags |= was->flags &
	    (ENV_8BIT | ENV_SMTPUTF8 | ENV_RET_HDRS | ENV_ESMTP |
	        ENV_AUTHENTICATED);
	s->wait = WAIT_CHAIN;
	chain_mail(s->chain, t->env.id, was->sender, l->origin.args,
	    l->origin.n_args, on_mail, s);
}

static void
on_helo(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	if (agreed(s, a))
		begin(s);
	session_go(s);
}

static void
on_connect(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	if (agreed(s, a)) {
		if (s->helo[0] == '\0')
			begin(s);
		else {
			s->wait = WAIT_CHAIN;
			chain_helo(s->chain, on_helo, s);
		}
	}
	session_go(s);
}

static void
set_facts(struct session *s)
{
	const struct release *l = s->release;
	const struct quarantine_origin *o = &l->origin;
	struct chain_facts *f = &s->facts;

	(void)snprintf(
	    s->client_addr, sizeof(s->client_addr), "%s", l->env.client_addr);
	(void)snprintf(
	    s->local_addr, sizeof(s->local_addr), "%s", o->daemon_addr);
	*f = (struct chain_facts){ .hostname = s->settings->hostname,
		.listener = l->listener.name,
		.daemon_addr = s->local_addr,
		.daemon_port = o->daemon_port,
		.client_name = s->client_name,
		.client_ptr = s->client_ptr,
		.client_resolve = o->client_resolve,
		.client_addr = s->client_addr,
		.client_port = l->env.client_port,
		.client_connections = 1,
		.helo = s->helo,
		.tls_version = o->tls_version,
		.cipher = o->cipher,
		.cipher_bits = o->cipher_bits,
		.cert_subject = o->cert_subject,
		.cert_issuer = o->cert_issuer,
		.verify = o->verify,
		.auth_type = o->auth_type,
		.auth_authen = o->auth_authen,
		.auth_author = o->auth_author,
		.auth_ssf = o->auth_ssf,
		.early_talker = o->early_talker,
		.lookup = tables_ask,
		.lookup_arg = s,
		.released = true,
		.without = l->without };
}

/* start - the session that was, as far as milters can tell; takes l */
static void
start(struct receiver *r, struct release *l)
{
	struct session *s = session_bare(r, &l->listener, l);

	if (s == NULL) {
		tell(r, l->ref, false, "", "out of memory");
		fini(l);
		return;
	}
	s->ehlo = (l->env.flags & ENV_ESMTP) != 0;
	s->client_name = strdup(l->env.client_name);
	s->client_ptr = strdup(l->origin.client_ptr);
	s->helo = strdup(l->env.helo);
	if (s->client_name != NULL && s->client_ptr != NULL &&
	    s->helo != NULL) {
		set_facts(s);
		s->chain = chain_new(
		    r->engine, s->settings, l->listener.policy, &s->facts);
	}
	if (s->chain == NULL)
		no_memory(s);
	else {
		s->wait = WAIT_CHAIN;
		chain_connect(s->chain, on_connect, s);
	}
	session_go(s);
}

/* find_policy - of the listener, or by name if that is gone.  -1: neither */
static int
find_policy(const struct settings *c, struct release *l)
{
	size_t i;

	if ((l->listener.name = strdup(l->env.listener)) == NULL)
		return (-1);
	for (i = 0; i < c->n_listeners; i++)
		if (strcmp(c->listeners[i].name, l->env.listener) == 0) {
			l->listener.policy = c->listeners[i].policy;
			return (0);
		}
	for (i = 0; i < c->n_policies; i++)
		if (strcmp(c->policies[i].name, l->env.policy) == 0) {
			l->listener.policy = i;
			return (0);
		}
	return (-1);
}

static int
parse(struct frame *f, struct release *l)
{
	struct unpacker u = { f->data, f->len, false };
	const void *content, *origin;
	size_t n, n_origin;

	if (env_unpack(&u, &l->env) == -1)
		return (-1);
	l->length = unpack_u64(&u);
	l->offset = unpack_u64(&u);
	l->want_crc = unpack_u32(&u);
	content = unpack_blob(&u, &n);
	origin = unpack_blob(&u, &n_origin);
	l->without = strdup(unpack_str(&u));
	if (unpack_end(&u) == -1 || l->without == NULL ||
	    (f->fd == -1 ? n != l->length : n != 0))
		return (-1);
	l->fd = f->fd;
	f->fd = -1;
	if (l->fd == -1) {
		if ((l->content = malloc(n + 1)) == NULL)
			return (-1);
		memcpy(l->content, content, n);
	}
	if ((l->origin_bytes = malloc(n_origin + 1)) == NULL)
		return (-1);
	memcpy(l->origin_bytes, origin, n_origin);
	return (quarantine_origin_unpack(
	            l->origin_bytes, n_origin, &l->origin) == -1 ||
	            l->env.n_rcpts == 0
	        ? -1
	        : 0);
}

void
release_frame(struct receiver *r, struct frame *f)
{
	struct release *l = calloc(1, sizeof(*l));
	const char *why = NULL;

	if (l == NULL) {
		tell(r, f->ref, false, "", "out of memory");
		return;
	}
	l->ref = f->ref;
	l->fd = -1;
	if (r->stopping)
		why = "the gateway is stopping";
	else if (r->lookup == NULL)
		why = "recipients cannot be routed now";
	else if (parse(f, l) == -1 || own_field(l) == -1)
		why = "what was kept of it cannot be read";
	else if (find_policy(r->child->settings, l) == -1)
		why = "its listener and its policy are no longer configured";
	if (why != NULL) {
		tell(r, f->ref, false, "", why);
		fini(l);
	} else
		start(r, l);
}
