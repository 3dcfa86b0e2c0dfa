/* SPDX-License-Identifier: ISC */

/*
 * content - DATA and BDAT: from the command to the last byte
 *
 * When the body outgrows inline-size the queue is asked for a file and input
 * waits for it; without one the rest is read and dropped, and 452 is the
 * answer.
 */

#include "core/receiver/receiver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BIG_FILE_MS = 30 * 1000, CHUNK_COUNTS = 1024 };

static void
collect(struct session *s)
{
	const struct limits *l = &s->settings->limits;
	const struct data_limits limits = { .message_size = l->message_size,
		.line_length = l->line_length,
		.header_size = l->header_size,
		.header_fields = l->header_fields };
	struct transaction *t = s->tx;

	data_init(&t->data, &limits, !t->bdat, store_add, &t->store);
	t->collecting = true;
	s->data_bytes = 0;
	s->data_begin_ms = now_ms();
	if (t->bdat)
		s->mode = IN_CHUNK;
	else {
		session_reply(s,
		    "354 Enter mail, end with \".\" on a line by "
		    "itself");
		s->mode = IN_DATA;
	}
}

static void
data_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;
	bool bdat = s->tx->bdat;

	s->wait = WAIT_NOTHING;
	if (a->verdict == CHAIN_DISCARD) {
		s->tx->discard = true;
		free(s->tx->discard_by);
		s->tx->discard_by = strdup(a->milter);
	}
	if (a->verdict == CHAIN_CONTINUE || a->verdict == CHAIN_DISCARD) {
		collect(s);
		session_go(s);
		return;
	}
	tx_fail(s, a->verdict == CHAIN_REJECT ? "rejected" : "tempfailed",
	    a->reply, a->milter);
	if (a->verdict == CHAIN_SHUTDOWN)
		session_end(s);
	else if (bdat) { /* replied already; the chunk is dropped */
		s->chunk_bad = "";
		s->mode = IN_CHUNK;
		s->data_begin_ms = now_ms();
	}
	session_go(s);
}

/* begin - ask the chain about DATA, unless a milter has discarded it */
static void
begin(struct session *s)
{
	if (s->tx->discard) {
		collect(s);
		return;
	}
	s->wait = WAIT_CHAIN;
	chain_data(s->chain, data_done, s);
}

/* not_now - why DATA or BDAT is out of place, or NULL */
static const char *
not_now(const struct session *s)
{
	if (s->tx == NULL || !s->tx->mailed)
		return ("503 5.5.1 Need MAIL command");
	if (s->tx->env.n_rcpts == 0)
		return ("554 5.5.1 No valid recipients");
	return (NULL);
}

void
data_command(struct session *s)
{
	const char *why = not_now(s);

	if (why == NULL && s->tx->bdat)
		why = "503 5.5.1 DATA after BDAT";
	if (why != NULL)
		session_reply(s, "%s", why);
	else
		begin(s);
}

void
bdat_command(struct session *s)
{
	const char *why = not_now(s);

	s->chunk_size = s->chunk_left = s->cmd->chunk;
	s->chunk_last = s->cmd->last;
	s->chunk_bad = why;
	if (why != NULL) {
		s->mode = IN_CHUNK; /* its bytes follow all the same */
		s->data_begin_ms = now_ms();
	} else if (s->tx->collecting)
		s->mode = IN_CHUNK;
	else {
		s->tx->bdat = true;
		begin(s);
	}
}

/* end_of_data - the message is whole */
static void
end_of_data(struct session *s)
{
	struct transaction *t = s->tx;
	enum data_fault f = t->data.fault;

	s->mode = IN_COMMANDS;
	t->size = t->data.size;
	if (f == DATA_GOOD) {
		submit_message(s);
		return;
	}
	tx_fail(
	    s, f == DATA_STORE ? "tempfailed" : "rejected", data_reply(f), "");
	/* What follows may have been meant as part of the message: commands
	 * in it must not run. */
	if (f == DATA_BARE)
		session_end(s);
}

static void
end_of_chunk(struct session *s)
{
	struct transaction *t = s->tx;

	s->mode = IN_COMMANDS;
	if (s->chunk_bad != NULL) {
		if (s->chunk_bad[0] != '\0')
			session_reply(s, "%s", s->chunk_bad);
		return;
	}
	if (s->chunk_size >= CHUNK_COUNTS)
		s->commands = 0; /* it gets on with its message */
	if (s->chunk_last)
		data_end(&t->data);
	if (s->chunk_last || t->data.fault != DATA_GOOD)
		end_of_data(s);
	else
		session_reply(s, "250 2.0.0 %llu octets received",
		    (unsigned long long)s->chunk_size);
}

static void go_on(struct session *);

static void
on_big_file(struct session *s, struct frame *f)
{
	struct store *st = &s->tx->store;

	st->want_big = false;
	if (f == NULL || f->type != MSG_BIG_FILE_R || f->fd == -1 ||
	    store_move(st, f->fd) == -1) {
		log_warning("%s: no file for a large message: %s",
		    s->tx->env.id,
		    f == NULL ? "queue is not there" : strerror(errno));
		st->failed = true;
		s->tx->data.fault = s->tx->data.fault == DATA_GOOD
		    ? DATA_STORE
		    : s->tx->data.fault;
	} else
		f->fd = -1; /* ours now */
	go_on(s);
}

/* go_on - after some bytes: room for more, or the end */
static void
go_on(struct session *s)
{
	struct transaction *t = s->tx;

	if (t->store.want_big && t->data.fault == DATA_GOOD) {
		if (session_ask(s, s->r->queue, MSG_BIG_FILE, NULL, -1,
		        BIG_FILE_MS, on_big_file) == -1)
			on_big_file(s, NULL);
		return;
	}
	stream_step(s);
	if (s->mode == IN_DATA && t->data.ended)
		end_of_data(s);
	else if (s->mode == IN_CHUNK && s->chunk_left == 0)
		end_of_chunk(s);
}

static void
drop_chunk(struct session *s)
{
	size_t n = s->n < s->chunk_left ? s->n : (size_t)s->chunk_left;

	session_take(s, n);
	s->chunk_left -= n;
	if (s->chunk_left == 0)
		end_of_chunk(s);
}

/* endless - a client that goes on and on after its message was refused is not
 * read to the end.  Dots and line ends never double what counts. */
static bool
endless(struct session *s, size_t n)
{
	const char *why;

	s->data_bytes += n;
	if (s->data_bytes / 2 <=
	    s->settings->limits.message_size + SCRATCH_SIZE)
		return (false);
	why = data_reply(
	    s->tx->data.fault != DATA_GOOD ? s->tx->data.fault : DATA_SIZE);
	tx_fail(s, "rejected", why, "");
	session_end(s);
	return (true);
}

/* content_step - feed the bytes at hand; false when more are needed */
bool
content_step(struct session *s)
{
	size_t n = s->n;
	bool chunk = s->mode == IN_CHUNK;

	if (n == 0 && !(chunk && s->chunk_left == 0))
		return (false);
	if (chunk && s->chunk_bad != NULL) {
		drop_chunk(s);
		return (true);
	}
	if (chunk && n > s->chunk_left)
		n = (size_t)s->chunk_left;
	n = data_feed(&s->tx->data, s->p, n);
	session_take(s, n);
	if (endless(s, n))
		return (false);
	if (chunk)
		s->chunk_left -= n;
	go_on(s);
	return (true);
}
