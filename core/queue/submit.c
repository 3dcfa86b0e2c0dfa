/* SPDX-License-Identifier: ISC */

/*
 * submit - messages into the spool
 *
 * A receiver is told "submitted" only when the sync that covers its message
 * has ended.  If the receiver is gone by then the message stays: the client
 * may send it twice, it is never lost.
 */

#include "core/queue/queue.h"
#include "core/smtp/id.h"

#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WHERE_INLINE, WHERE_MEMORY, WHERE_FILE };
enum { HEADER_ROOM = 1 << 20, PIECE = 64 << 10, LOG_TEXT = 600 };

enum { SET_MAX = 64, SET_BYTES = 4 << 20, SMALL = 16 << 10 };

struct submission {
	struct envelope env;
	uint8_t where;
	uint64_t length, offset;
	uint32_t crc;
	const void *content, *received;
	size_t content_len, received_len;
	const char *record, *instead;
	const void *origin;
	size_t origin_len;
	int fd;
	char *frame; /* what the pointers point into, if it is ours */
	char *mem;   /* content from a memory file */
};

static void
answer(struct receiver *r, uint64_t ref, uint8_t status, const char *reason)
{
	struct buf b = BUF_INIT(1024);
	struct packer k = { &b, false };

	pack_u8(&k, status);
	pack_str(&k, reason);
	if (r->ch != NULL &&
	    (pack_end(&k) == -1 ||
	        chan_send_buf(r->ch, MSG_SUBMITTED, ref, &b, -1) == -1))
		log_err(
		    "receiver.%u: submitted: %s", r->index, strerror(errno));
	buf_fini(&b);
}

static int
parse(struct frame *f, struct submission *s)
{
	struct unpacker u = { f->data, f->len, false };

	memset(s, 0, sizeof(*s));
	s->fd = f->fd;
	if (env_unpack(&u, &s->env) == -1)
		return (-1);
	s->where = unpack_u8(&u);
	s->length = unpack_u64(&u);
	s->offset = unpack_u64(&u);
	s->crc = unpack_u32(&u);
	s->content = unpack_blob(&u, &s->content_len);
	s->received = unpack_blob(&u, &s->received_len);
	s->record = unpack_str(&u);
	s->origin = unpack_blob(&u, &s->origin_len);
	s->instead = unpack_str(&u);
	if (unpack_end(&u) == -1) {
		env_fini(&s->env);
		return (-1);
	}
	return (0);
}

/* file_ok - a file that holds the range; its bytes into mem, or with mem NULL
 * only checked.  Never mapped: the receiver could cut it short meanwhile. */
static const char *
file_ok(struct submission *s, char *mem)
{
	char room[PIECE];
	uint64_t done;
	uint32_t crc = 0;
	struct stat st;
	ssize_t n;
	size_t want;

	if (fstat(s->fd, &st) == -1 || !S_ISREG(st.st_mode) ||
	    s->offset > (uint64_t)st.st_size ||
	    s->length > (uint64_t)st.st_size - s->offset)
		return ("file too short");
	for (done = 0; done < s->length; done += (uint64_t)n) {
		want = sizeof(room);
		if (want > s->length - done)
			want = (size_t)(s->length - done);
		n = pread(s->fd, mem != NULL ? mem + done : room,
		    mem != NULL ? (size_t)(s->length - done) : want,
		    (off_t)(s->offset + done));
		if (n <= 0)
			return ("file cannot be read");
		if (mem == NULL)
			crc = crc32c(crc, room, (size_t)n);
	}
	return (mem == NULL && crc != s->crc ? "wrong checksum" : NULL);
}

static void
submission_fini(struct submission *s)
{
	env_fini(&s->env);
	if (s->fd != -1)
		(void)close(s->fd);
	free(s->frame);
	free(s->mem);
}

/* refusal - why this submission is not acceptable, or NULL.  Content in memory
 * has its checksum compared by the spool. */
static const char *
refusal(struct queue *q, struct submission *s)
{
	const struct limits *l = &q->c->settings->limits;

	if (!queue_id_ok(s->env.id) || entry_find(q, s->env.id) != NULL)
		return ("bad or known id");
	if (s->env.n_rcpts == 0)
		return ("no recipients");
	if (s->length > l->message_size + HEADER_ROOM)
		return ("too large");
	if (strchr(s->record, '\n') != NULL || strlen(s->record) > RECORD_MAX)
		return ("bad decision record");
	switch (s->where) {
	case WHERE_INLINE:
		return (s->content_len == s->length ? NULL : "wrong length");
	case WHERE_MEMORY:
		if (s->fd == -1 || s->content_len != 0)
			return ("no descriptor");
		if ((s->mem = malloc(s->length + 1)) == NULL)
			return ("no memory");
		s->content = s->mem;
		return (file_ok(s, s->mem));
	case WHERE_FILE:
		if (s->fd == -1 || s->content_len != 0)
			return ("no descriptor");
		s->content = NULL;
		return (file_ok(s, NULL));
	}
	return ("unknown form");
}

/* refusal_all - of a set: each, and no id twice */
static const char *
refusal_all(struct queue *q, struct submission *s, size_t n)
{
	const char *why = NULL;
	size_t i, k;

	for (i = 0; i < n && why == NULL; i++) {
		why = refusal(q, &s[i]);
		for (k = 0; k < i && why == NULL; k++)
			if (strcmp(s[i].env.id, s[k].env.id) == 0)
				why = "one id twice";
	}
	return (why);
}

/* register_put - it is in the collecting batch; the entry waits for its sync */
static struct pending *
register_put(struct queue *q, struct envelope *env, uint64_t length,
    uint64_t seq, const struct spool_place *place)
{
	struct pending *p;

	if ((p = calloc(1, sizeof(*p))) == NULL)
		queue_oom();
	p->answers = p;
	p->seq = seq;
	p->flags = env->flags;
	p->e = entry_new(q, env, seq, length);
	p->e->flags |= E_UNCOMMITTED;
	entry_keep_env(q, p->e, env, place);
	TAILQ_INSERT_TAIL(&q->pending, p, link);
	q->n_uncommitted++;
	queue_kick(q);
	return (p);
}

/* put - one of the queue's own */
static struct pending *
put(struct queue *q, struct envelope *env, const struct spool_new *m)
{
	struct spool_place place;
	uint64_t seq;

	if (q->spool == NULL) { /* it is being closed */
		errno = EIO;
		return (NULL);
	}
	if (spool_put_message(q->spool, m, &seq, &place) == -1)
		return (NULL);
	return (register_put(q, env, m->length, seq, &place));
}

/* fill - for the spool.  A set lies in one batch: if it is large, contents go
 * into files of their own. */
static void
fill(struct spool_new *m, const struct submission *s, bool large)
{
	memset(m, 0, sizeof(*m));
	m->env = &s->env;
	m->content = s->content;
	m->length = s->length;
	m->offset = s->offset;
	m->crc = s->crc;
	m->fd = s->where == WHERE_FILE ? s->fd : -1;
	m->received = s->received;
	m->received_len = s->received_len;
	m->record = s->record;
	m->origin = s->origin;
	m->origin_len = s->origin_len;
	m->file = large && s->length > SMALL;
}

/* put_all - all or none; the pendings of a set share one answer */
static int
put_all(struct receiver *r, uint64_t ref, struct submission *s, size_t n,
    struct release *l)
{
	struct spool_new m[SET_MAX] = { { .fd = -1 } };
	struct spool_place place[SET_MAX];
	uint64_t seq[SET_MAX], all = 0, max = SET_BYTES;
	struct pending *p[SET_MAX];
	struct queue *q = r->q;
	size_t i;
	int rc;

	if (q->spool == NULL) {
		errno = EIO;
		return (-1);
	}
	if (max > q->c->settings->queue.segment_size / 4)
		max = q->c->settings->queue.segment_size / 4;
	for (i = 0; i < n; i++) {
		s[i].env.flags &= ~(uint32_t)ENV_BOUNCE; /* ours alone */
		all += s[i].length;
	}
	for (i = 0; i < n; i++)
		fill(&m[i], &s[i], n > 1 && all > max);
	if (l == NULL)
		rc = spool_put_messages(q->spool, m, n, seq, place);
	else if ((rc = spool_put_instead(
	              q->spool, release_put(l), m, n, seq, place)) == -1)
		release_unput(l);
	if (rc == -1)
		return (-1);
	for (i = 0; i < n; i++) {
		p[i] =
		    register_put(q, &s[i].env, s[i].length, seq[i], &place[i]);
		p[i]->receiver = r->index;
		p[i]->receiver_gen = r->gen;
		p[i]->ref = ref;
		p[i]->release = l;
		if ((p[i]->record = strdup(s[i].record)) == NULL)
			queue_oom();
	}
	for (i = 0; i < n; i++)
		p[i]->answers = p[n - 1];
	return (0);
}

static void
submit(struct receiver *r, uint64_t ref, struct submission *s, size_t n)
{
	const char *instead = s[n - 1].instead, *why;
	struct release *l = NULL;
	int e;

	why = refusal_all(r->q, s, n);
	if (why == NULL && instead[0] != '\0' &&
	    (l = release_find(r, instead)) == NULL)
		why = "the held message is not being released";
	if (why != NULL) {
		log_err("receiver.%u: submit: %s", r->index, why);
		answer(r, ref, 3, why);
	} else if (put_all(r, ref, s, n, l) == -1) {
		e = errno;
		log_err("receiver.%u: submit: %s", r->index, strerror(e));
		answer(r, ref,
		    e == ENOSPC       ? 1
		        : e == EINVAL ? 3
		                      : 2,
		    strerror(e));
		submit_accepting(r->q, NULL);
	}
}

void
submit_forget(struct receiver *r)
{
	while (r->n_more > 0)
		submission_fini(&r->more[--r->n_more]);
	free(r->more);
	r->more = NULL;
}

/* keep - one more of a set; what it points to must outlive the frame */
static int
keep(struct receiver *r, struct frame *f, struct submission *s)
{
	struct submission *more;
	struct frame copy = *f;
	char *data;

	if (r->n_more == SET_MAX ||
	    (more = realloc(r->more, (r->n_more + 1) * sizeof(*more))) == NULL)
		return (-1);
	r->more = more;
	env_fini(&s->env);
	if ((data = malloc(f->len + 1)) == NULL)
		return (-1);
	memcpy(data, f->data, f->len);
	copy.data = data;
	if (parse(&copy, s) == -1) {
		free(data);
		return (-1);
	}
	s->frame = data;
	r->more[r->n_more++] = *s;
	return (0);
}

void
submit_frame(struct receiver *r, struct frame *f)
{
	bool more = f->type == MSG_SUBMIT_MORE;
	struct submission s;

	if (r->n_more > 0 && r->more_ref != f->ref) {
		log_warning(
		    "receiver.%u: submit: a set was not ended", r->index);
		submit_forget(r);
	}
	r->more_ref = f->ref;
	if (parse(f, &s) == -1) {
		log_err("receiver.%u: submit: bad frame", r->index);
		if (f->fd != -1)
			(void)close(f->fd);
		submit_forget(r);
		chan_free(&r->ch);
		release_receiver_gone(r);
		return;
	}
	if (!more && r->n_more == 0) {
		submit(r, f->ref, &s, 1);
		submission_fini(&s);
		return;
	}
	if (keep(r, f, &s) == -1) {
		log_err("receiver.%u: submit: set too large", r->index);
		submission_fini(&s);
		submit_forget(r);
		chan_free(&r->ch);
		release_receiver_gone(r);
		return;
	}
	if (!more) {
		submit(r, f->ref, r->more, r->n_more);
		submit_forget(r);
	}
}

int
submit_own(struct queue *q, struct envelope *env, struct buf *content)
{
	struct spool_new m = { .env = env,
		.content = content->data,
		.length = content->len,
		.crc = crc32c(0, content->data, content->len),
		.fd = -1,
		.received = "",
		.record = "",
		.own = true };
	struct pending *p;

	if ((p = put(q, env, &m)) == NULL)
		return (-1);
	p->is_own = true;
	p->own = *content;
	memset(content, 0, sizeof(*content));
	return (0);
}

void
submit_big_file(struct receiver *r, struct frame *f)
{
	struct buf b = BUF_INIT(1024);
	struct packer k = { &b, false };
	int fd = spool_big_file(r->q->spool);

	if (f->fd != -1)
		(void)close(f->fd);
	pack_str(&k, fd == -1 ? strerror(errno) : "");
	if (pack_end(&k) == -1 ||
	    chan_send_buf(r->ch, MSG_BIG_FILE_R, f->ref, &b, fd) == -1) {
		log_err("receiver.%u: big file: %s", r->index, strerror(errno));
		if (fd != -1)
			(void)close(fd);
	}
	buf_fini(&b);
}

/* submit_accepting - tell one receiver, or all when it changed */
void
submit_accepting(struct queue *q, struct receiver *only)
{
	const char *reply = NULL;
	bool yes = spool_accepting(q->spool, &reply);
	struct buf b = BUF_INIT(1024);
	struct packer k = { &b, false };
	struct receiver *r;

	if (!q->accepting_known || yes != q->accepting)
		only = NULL; /* all must know */
	else if (only == NULL)
		return;
	q->accepting = yes;
	q->accepting_known = true;
	pack_u8(&k, yes);
	pack_str(&k, reply != NULL ? reply : "");
	if (pack_end(&k) == -1)
		queue_oom();
	for (r = q->receivers; r < q->receivers + RECEIVERS_MAX; r++)
		if (r->ch != NULL && (only == NULL || r == only) &&
		    chan_send_buf(r->ch, MSG_ACCEPTING, 0, &b, -1) == -1)
			log_err("receiver.%u: accepting: %s", r->index,
			    strerror(errno));
	buf_fini(&b);
}

/* summary - the milters' verdicts from the decision record's "summary" */
static const char *
summary(char *room, size_t n, const char *record)
{
	static const char key[] = "\"summary\":\"";
	const char *p = record != NULL ? strstr(record, key) : NULL;
	size_t len;

	room[0] = '\0';
	if (p == NULL)
		return (room);
	p += sizeof(key) - 1;
	len = strcspn(p, "\"\\");
	if (len > 0 && len < n)
		(void)snprintf(room, n, "%.*s", (int)len, p);
	return (room);
}

static void
log_from(const struct entry *e, const struct envelope *v, const char *record)
{
	char a[LOG_TEXT], b[300], c[300], m[300], s[LOG_TEXT];

	log_quote(m, sizeof(m), summary(s, sizeof(s), record));
	(void)snprintf(s, sizeof(s), "%s%s%s",
	    v->client_addr[0] != '\0' ? " [" : "", v->client_addr,
	    v->client_addr[0] != '\0' ? "]" : "");
	log_info("%s: from=<%s>, size=%u, nrcpts=%u, proto=%s, helo=%s, "
	         "relay=%s%s%s%s",
	    e->id, log_quote(a, sizeof(a), v->sender), e->size, e->n_rcpts,
	    v->proto, log_quote(b, sizeof(b), v->helo),
	    v->client_name[0] != '\0' ? log_quote(c, sizeof(c), v->client_name)
	                              : "localhost",
	    s, m[0] != '\0' ? ", milter=" : "", m);
	if ((v->flags & ENV_HELD) != 0)
		log_info("%s: held: by=%s, reason=%s", e->id,
		    log_quote(a, sizeof(a), v->hold_by),
		    log_quote(b, sizeof(b), v->hold_reason));
}

/* durable - tell the receiver, then schedule */
static void
durable(struct queue *q, struct pending *p)
{
	struct receiver *r = &q->receivers[p->receiver];
	struct entry *e = p->e;
	const struct envelope *v = &e->hot->env;

	e->flags &= (uint16_t)~E_UNCOMMITTED;
	entry_count(q, e);
	if (p->release == NULL) {
		q->counters.messages[e->own]++;
		q->counters.recipients[e->own] += e->n_rcpts;
	}
	log_from(e, v, p->record);
	if (!p->is_own) {
		q->counters.accepted += p->release == NULL;
		/* Syncs end in the order of puts: the set is durable. */
		if (p->answers == p && r->ch != NULL &&
		    r->gen == p->receiver_gen)
			answer(r, p->ref, 0, "");
		if (p->record[0] != '\0' &&
		    records_add(&q->records, p->record, strlen(p->record),
		        queue_now_ms()) == -1)
			log_warning("%s: record: %s", e->id, strerror(errno));
	}
	if ((v->flags & ENV_HELD) != 0) {
		entry_set_held(q, e, true);
		entry_set_reason(e, v->hold_reason);
	}
	if (p->release != NULL)
		release_durable(q, p->release, e, p->answers == p);
	e->next_ms = 1; /* at once */
	entry_settle(q, e);
}

/* lost - the sync failed: the receiver says so, our own is put once more */
static void
lost(struct queue *q, struct pending *p)
{
	struct receiver *r = &q->receivers[p->receiver];
	struct envelope env;
	struct spool_new m = { .env = &env,
		.content = p->own.data,
		.length = p->own.len,
		.crc = crc32c(0, p->own.data, p->own.len),
		.fd = -1,
		.received = "",
		.record = "",
		.own = true };
	struct pending *n;

	if (!p->is_own) {
		if (p->answers == p && r->ch != NULL &&
		    r->gen == p->receiver_gen)
			answer(r, p->ref, 2, "writing to storage failed");
		if (p->release != NULL)
			release_unput(p->release);
		entry_free(q, p->e);
		return;
	}
	env = p->e->hot->env;
	memset(&p->e->hot->env, 0, sizeof(env));
	entry_free(q, p->e);
	if (!p->again && (n = put(q, &env, &m)) != NULL) {
		n->is_own = n->again = true;
		n->own = p->own;
		memset(&p->own, 0, sizeof(p->own));
		return;
	}
	log_err("%s: lost: storage failed: %s", env.id, strerror(errno));
	queue_alarm(q, "disk",
	    "a message of the queue's own could not be "
	    "written");
	env_fini(&env);
}

void
submit_synced(void *arg, uint64_t seq, bool ok)
{
	struct queue *q = arg;
	struct pending *p;

	/* Syncs end in the order of puts: this is the first but for failures.
	 */
	TAILQ_FOREACH (p, &q->pending, link)
		if (p->seq == seq)
			break;
	if (p == NULL)
		return;
	TAILQ_REMOVE(&q->pending, p, link);
	q->n_uncommitted--;
	if (ok)
		durable(q, p);
	else
		lost(q, p);
	buf_fini(&p->own);
	free(p->record);
	free(p);
	queue_kick(q);
}
