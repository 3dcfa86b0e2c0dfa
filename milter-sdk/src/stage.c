/* SPDX-License-Identifier: ISC */

/*
 * stage - take what the MTA said, ask the filter, make its answer sendable
 *
 * All of it comes from the network.  Where no answer is possible (the MTA was
 * told that none comes) a failure is kept and answered at the next stage that
 * has one; the end of the message always has.
 */

#include "milter-sdk/src/sdk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

static const char *const stage_names[MILL_N_STAGES] = { "connect", "helo",
	"mail", "rcpt", "headers", "message" };
static const char *const no_args[] = { NULL };

static void
keep_failure(struct mill_txn *t, const char *what)
{
	if (!t->failed)
		mill_log(t, LOG_WARNING, "%s: %s", what,
		    errno == ENOMEM ? "out of memory" : "too large");
	t->failed = true;
}

/* ask - call the filter; MILL_CONTINUE where it declares nothing */
static enum mill_verdict
ask(struct mill_txn *t, enum mill_stage stage,
    enum mill_verdict (*fn)(struct mill_txn *))
{
	enum mill_verdict v;

	t->stage = stage;
	t->reply.code = 0;
	if (fn == NULL)
		return (MILL_CONTINUE);
	v = fn(t);
	if ((unsigned)v > MILL_DISCARD ||
	    (v == MILL_DISCARD && stage < MILL_AT_MAIL)) {
		mill_log(t, LOG_ERR, "fault: verdict %d at %s", (int)v,
		    stage_names[stage]);
		v = MILL_TEMPFAIL;
	}
	/* A text set for a verdict that was not returned in the end */
	if (v != (t->reply.code >= 500 ? MILL_REJECT : MILL_TEMPFAIL))
		t->reply.code = 0;
	return (v);
}

static enum mill_verdict
fail(struct mill_txn *t)
{
	reply_set(t, 452, "4.3.1", "the message has too much for this filter");
	return (MILL_TEMPFAIL);
}

enum mill_verdict
stage_connect(
    struct mill_txn *t, const char *name, const char *addr, uint16_t port)
{
	enum mill_verdict v;

	t->client_port = port;
	(void)!snprintf(t->client_addr, sizeof(t->client_addr), "%s", addr);
	if ((t->client_name = arena_strdup(&t->session, name)) == NULL)
		t->client_name = "";
	v = ask(t, MILL_AT_CONNECT, t->filter->connect);
	t->session_accepted = v == MILL_ACCEPT;
	return (v);
}

enum mill_verdict
stage_helo(struct mill_txn *t, const char *name)
{
	enum mill_verdict v;

	t->reply.code = 0;
	/* Each EHLO adds; a client that says it for ever fills the arena. */
	if ((t->helo = arena_strdup(&t->session, name)) == NULL) {
		t->helo = "";
		return (MILL_TEMPFAIL);
	}
	if (t->session_accepted)
		return (MILL_ACCEPT);
	v = ask(t, MILL_AT_HELO, t->filter->helo);
	t->session_accepted = v == MILL_ACCEPT;
	return (v);
}

/* take_addr - copy an address without its brackets, and its arguments */
static int
take_addr(struct mill_txn *t, const char *const *args, struct addr *r)
{
	const char *s = args[0] != NULL ? args[0] : "";
	size_t i, n = 0, len = strlen(s);
	const char **copy;

	if (len >= 2 && s[0] == '<' && s[len - 1] == '>') {
		s++;
		len -= 2;
	}
	while (args[0] != NULL && args[n + 1] != NULL)
		n++;
	copy = arena_alloc(&t->message, (n + 1) * sizeof(*copy));
	if (copy == NULL || (r->text = arena_copy(&t->message, s, len)) == NULL)
		return (-1);
	for (i = 0; i < n; i++)
		if ((copy[i] = arena_strdup(&t->message, args[i + 1])) == NULL)
			return (-1);
	copy[n] = NULL;
	r->args = copy;
	return (0);
}

/*
 * hide_accept - an accept that must not leave yet: edits made so far leave only
 * at the end of the message, so the MTA has to come there
 */
static enum mill_verdict
hide_accept(struct mill_txn *t, enum mill_verdict v)
{
	if (v != MILL_ACCEPT)
		return (v);
	t->accepted = true;
	return (
	    t->edits != NULL || t->n_dropped > 0 ? MILL_CONTINUE : MILL_ACCEPT);
}

enum mill_verdict
stage_mail(struct mill_txn *t, const char *const *args)
{
	struct addr a = { "", no_args };

	if (t->in_message) /* MAIL after an unfinished message, without RSET */
		txn_end_message(t);
	t->in_message = true;
	if (take_addr(t, args, &a) == -1) {
		keep_failure(t, "sender");
		return (fail(t));
	}
	t->sender = a;
	if (t->session_accepted)
		return (MILL_ACCEPT);
	return (hide_accept(t, ask(t, MILL_AT_MAIL, t->filter->mail)));
}

static int
put_addr(struct mill_txn *t, struct addr **list, size_t *n, size_t *cap)
{
	struct addr *grown =
	    arena_grow(&t->message, *list, *n, cap, sizeof(**list));

	if (grown == NULL)
		return (-1);
	*list = grown;
	grown[(*n)++] = t->rcpt;
	return (0);
}

static enum mill_verdict
judge_rcpt(struct mill_txn *t)
{
	enum mill_verdict v = ask(t, MILL_AT_RCPT, t->filter->rcpt);

	if (v == MILL_DISCARD) {
		if ((t->edits_allowed & MILL_EDIT_DEL_RCPT) == 0) {
			mill_log(t, LOG_ERR,
			    "fault: discard at rcpt needs "
			    "MILL_EDIT_DEL_RCPT, declared and offered");
			return (MILL_TEMPFAIL);
		}
		if (put_addr(t, &t->dropped, &t->n_dropped, &t->cap_dropped) ==
		    -1) {
			keep_failure(t, "recipients");
			return (fail(t));
		}
		return (MILL_CONTINUE);
	}
	/* In the protocol an accept here is the whole message's. */
	return (v == MILL_ACCEPT ? MILL_CONTINUE : v);
}

enum mill_verdict
stage_rcpt(struct mill_txn *t, const char *const *args)
{
	size_t dropped = t->n_dropped;
	enum mill_verdict v = MILL_CONTINUE;

	t->in_message = true;
	if (t->failed || take_addr(t, args, &t->rcpt) == -1) {
		keep_failure(t, "recipients");
		return (fail(t));
	}
	if (!t->accepted)
		v = judge_rcpt(t);
	if (v == MILL_CONTINUE && t->n_dropped == dropped &&
	    put_addr(t, &t->rcpts, &t->n_rcpts, &t->cap_rcpts) == -1) {
		keep_failure(t, "recipients");
		v = fail(t);
	}
	t->rcpt = (struct addr){ "", no_args };
	return (v);
}

/* unfold - raw without line ends and the blanks around it */
static const char *
unfold(struct arena *a, const char *raw)
{
	size_t n;
	char *s, *to;

	raw += strspn(raw, " \t\r\n");
	n = strlen(raw);
	while (n > 0 && strchr(" \t\r\n", raw[n - 1]) != NULL)
		n--;
	if ((s = arena_copy(a, raw, n)) == NULL)
		return (NULL);
	for (to = s; *raw != '\0' && n-- > 0; raw++)
		if (*raw != '\n' && *raw != '\r')
			*to++ = *raw;
	*to = '\0';
	return (s);
}

void
stage_header(struct mill_txn *t, const char *name, const char *value)
{
	struct field f, *grown;

	t->in_message = true; /* an MTA may have been told to leave MAIL out */
	if (t->failed)
		return;
	grown = arena_grow(
	    &t->message, t->fields, t->n_fields, &t->cap_fields, sizeof(f));
	if (grown == NULL ||
	    (f.name = arena_strdup(&t->message, name)) == NULL ||
	    (f.raw = arena_strdup(&t->message, value)) == NULL ||
	    (f.value = unfold(&t->message, value)) == NULL) {
		keep_failure(t, "header");
		return;
	}
	t->fields = grown;
	grown[t->n_fields++] = f;
}

enum mill_verdict
stage_headers(struct mill_txn *t)
{
	t->in_message = true;
	if (t->failed)
		return (fail(t));
	if (t->accepted || (t->n_rcpts == 0 && t->n_dropped > 0))
		return (MILL_CONTINUE);
	return (hide_accept(t, ask(t, MILL_AT_HEADERS, t->filter->headers)));
}

void
stage_body(struct mill_txn *t, const void *bytes, size_t n)
{
	size_t room = t->body.max - t->body.len;

	t->in_message = true;
	/* max_body 0: not asked for, though an MTA may send it */
	if (t->failed || t->accepted || t->filter->message == NULL ||
	    t->filter->max_body == 0)
		return;
	if (n > room) {
		t->truncated = true;
		n = room;
	}
	if (n > 0 && buf_add(&t->body, bytes, n) == -1)
		keep_failure(t, "body");
}

static enum mill_verdict
oversize(struct mill_txn *t)
{
	enum mill_verdict v = t->loaded->oversize;

	mill_log(t, LOG_WARNING, "body over %zu bytes", t->body.max);
	if (v == MILL_REJECT)
		reply_set(t, 552, "5.3.4", "the message is too large");
	else if (v != MILL_ACCEPT && v != MILL_DISCARD) {
		reply_set(t, 451, "4.3.4", "the message is too large to check");
		v = MILL_TEMPFAIL;
	}
	return (v);
}

enum mill_verdict
stage_message(struct mill_txn *t)
{
	enum mill_verdict v = MILL_CONTINUE;

	t->in_message = true;
	t->reply.code = 0;
	if (t->failed)
		return (fail(t));
	if (t->n_rcpts == 0 && t->n_dropped > 0)
		return (MILL_DISCARD);
	if (!t->accepted) {
		if (t->truncated && t->loaded->oversize != MILL_CONTINUE)
			v = oversize(t);
		else
			v = ask(t, MILL_AT_MESSAGE, t->filter->message);
	}
	if (v != MILL_CONTINUE && v != MILL_ACCEPT)
		return (v);
	if (edit_drop(t) == -1) {
		keep_failure(t, "recipients");
		return (fail(t));
	}
	edit_sort(t);
	return (v);
}
