/* SPDX-License-Identifier: ISC */

/*
 * content - DATA, header, body and end of message in one batch
 *
 * All of it leaves in as few writes as the socket takes; only a body of several
 * chunks waits for the first chunk's answer when the milter may say "skip".
 * The limit for the end of message begins with the batch, and neither progress
 * nor anything else moves it.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* put_simple - macros of the stage and a command without payload */
static int
put_simple(struct link *l, char cmd, uint32_t no, uint32_t nr)
{
	/* Of DATA and EOH the default set is only the queue id, known since
	 * MAIL: not worth a packet to a filter that wants no such command, if
	 * its library is one that keeps what came with MAIL. */
	if ((l->conn->opts.protocol & no) != 0 && l->conf->reuse &&
	    !macros_asked(l, cmd))
		return (0);
	return (link_command(l, cmd, no, nr, NULL));
}

/*
 * put_field - name and value as milters know them: folds as LF, and without the
 * one blank after the colon unless blanks were asked for.
 */
static int
put_field(struct link *l, const struct field *f, struct buf *b)
{
	const char *s = f->value, *cr;
	size_t n = f->value_len, k;

	b->len = 0;
	if (n > 0 && s[0] == ' ' &&
	    (l->conn->opts.protocol & MILTER_LEADING_SPACE) == 0) {
		s++;
		n--;
	}
	if (buf_add(b, f->name, strlen(f->name) + 1) == -1)
		return (-1);
	while (n > 0) {
		cr = memmem(s, n, "\r\n", 2);
		k = cr != NULL ? (size_t)(cr - s) : n;
		if (buf_add(b, s, k) == -1)
			return (-1);
		s += k;
		n -= k;
		if (cr != NULL) {
			s++;
			n--;
			if (buf_add(b, s, 1) == -1)
				return (-1);
			s++;
			n--;
		}
	}
	if (buf_add(b, "", 1) == -1)
		return (-1);
	return (milter_put(&l->conn->out, MILTER_HEADER, b->data, b->len));
}

static int
put_header(struct link *l)
{
	const struct view *v = l->view;
	struct buf b = BUF_INIT(MILTER_CHUNK);
	unsigned n = 0;
	size_t i;

	for (i = 0; i < v->n_fields; i++) {
		if (v->fields[i].hidden)
			continue;
		if (put_field(l, &v->fields[i], &b) == -1) {
			buf_fini(&b);
			return (-1);
		}
		n++;
	}
	buf_fini(&b);
	stats_call(l, n);
	if ((l->conn->opts.protocol & MILTER_NR_HEADER) == 0)
		return (link_expect(l, MILTER_HEADER, n));
	if (n > 0)
		record_stage(l, MILTER_HEADER, '-', 0, NULL);
	return (0);
}

int
content_begin(struct link *l)
{
	uint32_t protocol = l->conn->opts.protocol;

	/* libmilter would silently ignore all that follows */
	if (l->rcpts == 0 && (protocol & MILTER_NO_RCPT) == 0) {
		errno = EPROTO;
		return (-1);
	}
	l->conn->deadline_us = l->by_us;
	if (!l->sent_data && l->conn->opts.version >= 4 &&
	    put_simple(l, MILTER_DATA, MILTER_NO_DATA, MILTER_NR_DATA) == -1)
		return (-1);
	l->sent_data = true;
	if ((protocol & MILTER_NO_HEADERS) == 0 && put_header(l) == -1)
		return (-1);
	if (put_simple(l, MILTER_EOH, MILTER_NO_EOH, MILTER_NR_EOH) == -1)
		return (-1);
	l->body_off = 0;
	l->pumping = true;
	/* Its connection may be gone when its edits are applied. */
	l->leading = (protocol & MILTER_LEADING_SPACE) != 0;
	return (content_pump(l));
}

/* body_waits - must the answer to a chunk come before the next one? */
static bool
body_waits(const struct link *l)
{
	uint32_t protocol = l->conn->opts.protocol;

	return (l->sent_body && (protocol & MILTER_CAN_SKIP) != 0 &&
	    (protocol & MILTER_NR_BODY) == 0 && l->n_expect > 0);
}

/* content_pump - queue body chunks while there is room, then the end */
int
content_pump(struct link *l)
{
	const struct view *v = l->view;
	struct conn *k = l->conn;
	uint32_t protocol = k->opts.protocol;
	size_t n;

	while ((protocol & MILTER_NO_BODY) == 0 && !l->skip_body &&
	    l->body_off < v->body_len) {
		if (k->out.len >= CONN_OUT_HIGH) {
			if (conn_flush(k) == -1)
				return (-1);
			if (k->out.len > 0)
				return (0); /* until the socket took it all */
		}
		if (body_waits(l))
			return (conn_flush(k));
		n = v->body_len - l->body_off;
		if (n > MILTER_CHUNK)
			n = MILTER_CHUNK;
		else if (n < MILTER_CHUNK && l->chain->streaming)
			break; /* chunks are as they would be later */
		if (milter_put(
		        &k->out, MILTER_BODY, v->body + l->body_off, n) == -1)
			return (-1);
		l->body_off += n;
		l->sent_body = true;
		stats_call(l, 1);
		if ((protocol & MILTER_NR_BODY) != 0)
			record_stage(l, MILTER_BODY, '-', 0, NULL);
		else if (link_expect(l, MILTER_BODY, 1) == -1)
			return (-1);
	}
	if (!run_may_end(l)) {
		l->held = true;
		if (conn_flush(k) == -1)
			return (-1);
		conn_arm(k);
		return (0);
	}
	if (l->held) { /* its time begins now */
		l->held = false;
		l->by_us = 0;
		link_set_time(l);
	}
	l->pumping = false;
	if (put_simple(l, MILTER_EOM, 0, 0) == -1)
		return (-1);
	conn_arm(k);
	return (conn_flush(k));
}
