/* SPDX-License-Identifier: ISC */

/* test - play the MTA for one transaction, without sockets */

#include "milter-sdk/src/sdk.h"

#include <errno.h>
#include <milldam/milldam_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MACROS = 64, ARGS = 64, OUT_MAX = 1 << 24 };

struct mill_test {
	struct mill_txn *txn;
	struct {
		char *name, *value;
	} macros[MACROS];
	struct buf reply, edits, body;
	bool has_body;
	bool ended; /* the message: forget it at the next MAIL */
};

static const char *
macro(const struct mill_txn *t, const char *name)
{
	const struct mill_test *test = t->backend;
	size_t i;

	for (i = 0; i < MACROS; i++)
		if (test->macros[i].name != NULL &&
		    strcmp(test->macros[i].name, name) == 0)
			return (test->macros[i].value);
	return (NULL);
}

struct mill_test *
mill_test_new(const struct mill_filter *f, const char *settings)
{
	struct mill_test *test = calloc(1, sizeof(*test));
	struct buf errors = BUF_INIT(1 << 20);
	struct loaded *l = NULL;

	if (filter_fault(f) != NULL)
		fprintf(stderr, "%s: fault: %s\n", f->name, filter_fault(f));
	else if (test != NULL &&
	    (l = loaded_read(f, "test", settings, &errors)) != NULL)
		test->txn = txn_new(f, l);
	if (errors.data != NULL)
		fputs(errors.data, stderr);
	buf_fini(&errors);
	if (test == NULL || test->txn == NULL) {
		loaded_unref(&l);
		free(test);
		return (NULL);
	}
	test->txn->macro = macro;
	test->txn->backend = test;
	test->txn->edits_allowed = f->edits;
	test->reply.max = test->edits.max = test->body.max = OUT_MAX;
	return (test);
}

void
mill_test_free(struct mill_test **tp)
{
	struct mill_test *test = *tp;
	size_t i;

	*tp = NULL;
	if (test == NULL)
		return;
	txn_free(&test->txn);
	for (i = 0; i < MACROS; i++) {
		free(test->macros[i].name);
		free(test->macros[i].value);
	}
	buf_fini(&test->reply);
	buf_fini(&test->edits);
	buf_fini(&test->body);
	free(test);
}

void
mill_test_macro(struct mill_test *test, const char *name, const char *value)
{
	size_t i, empty = MACROS;

	for (i = 0; i < MACROS; i++) {
		if (test->macros[i].name == NULL) {
			if (empty == MACROS)
				empty = i;
			continue;
		}
		if (strcmp(test->macros[i].name, name) == 0) {
			empty = i;
			break;
		}
	}
	if (empty == MACROS)
		abort(); /* a test with so many macros is wrong */
	free(test->macros[empty].name);
	free(test->macros[empty].value);
	test->macros[empty].name = value != NULL ? strdup(name) : NULL;
	test->macros[empty].value = value != NULL ? strdup(value) : NULL;
}

static void
keep_edit(struct mill_test *test, const struct edit *e)
{
	struct buf *b = &test->edits;
	const char *value = e->value != NULL ? e->value : "";

	switch (e->kind) {
	case EDIT_CHANGE:
		(void)!buf_addf(b, "change %s[%zu]: ", e->name, e->index);
		break;
	case EDIT_DELETE:
		(void)!buf_addf(b, "delete %s[%zu]", e->name, e->index);
		break;
	case EDIT_INSERT:
		(void)!buf_addf(b, "insert %zu %s: ", e->index, e->name);
		break;
	case EDIT_ADD:
		(void)!buf_addf(b, "add %s: ", e->name);
		break;
	case EDIT_SENDER:
	case EDIT_DEL_RCPT:
	case EDIT_ADD_RCPT:
		(void)!buf_addf(b, "%s <%s>%s",
		    e->kind == EDIT_SENDER         ? "sender"
		        : e->kind == EDIT_ADD_RCPT ? "rcpt+"
		                                   : "rcpt-",
		    e->name, e->value != NULL ? " " : "");
		break;
	case EDIT_BODY:
		(void)!buf_addf(b, "body %zu", e->len);
		(void)!buf_add(&test->body, e->value, e->len);
		test->has_body = true;
		value = "";
		break;
	case EDIT_QUARANTINE:
		(void)!buf_addf(b, "quarantine %s", e->name);
		break;
	}
	for (; *value != '\0'; value++)
		(void)!buf_add(
		    b, *value == '\n' ? "\\n" : value, *value == '\n' ? 2 : 1);
	(void)!buf_add(b, "\n", 1);
}

/* note - keep what the MTA would see of this verdict */
static enum mill_verdict
note(struct mill_test *test, enum mill_verdict v)
{
	buf_fini(&test->reply);
	if (v == MILL_REJECT || v == MILL_TEMPFAIL)
		reply_print(&test->txn->reply, &test->reply);
	return (v);
}

static void
forget(struct mill_test *test)
{
	txn_end_message(test->txn);
	buf_fini(&test->edits);
	buf_fini(&test->body);
	test->has_body = test->ended = false;
}

enum mill_verdict
mill_test_connect(struct mill_test *test, const char *addr, const char *name)
{
	char room[64];

	if (addr == NULL)
		addr = "";
	if (name == NULL) {
		(void)snprintf(room, sizeof(room), *addr ? "[%s]" : "%s", addr);
		name = room;
	}
	return (note(test, stage_connect(test->txn, name, addr, 25000)));
}

enum mill_verdict
mill_test_helo(struct mill_test *test, const char *name)
{
	return (note(test, stage_helo(test->txn, name)));
}

/* with_args - the address and the words of args to one of the stages */
static enum mill_verdict
with_args(struct mill_test *test, const char *addr, const char *args,
    enum mill_verdict (*stage)(struct mill_txn *, const char *const *))
{
	const char *argv[ARGS + 2] = { addr };
	char *copy = strdup(args != NULL ? args : ""), *word, *rest = NULL;
	enum mill_verdict v;
	size_t n = 1;

	if (copy == NULL)
		abort();
	for (word = strtok_r(copy, " ", &rest); word != NULL && n < ARGS;
	     word = strtok_r(NULL, " ", &rest))
		argv[n++] = word;
	argv[n] = NULL;
	v = note(test, stage(test->txn, argv));
	free(copy);
	return (v);
}

enum mill_verdict
mill_test_mail(struct mill_test *test, const char *sender, const char *args)
{
	forget(test);
	return (with_args(test, sender, args, stage_mail));
}

enum mill_verdict
mill_test_rcpt(struct mill_test *test, const char *rcpt)
{
	return (with_args(test, rcpt, NULL, stage_rcpt));
}

enum mill_verdict
mill_test_rcpt_args(struct mill_test *test, const char *rcpt, const char *args)
{
	return (with_args(test, rcpt, args, stage_rcpt));
}

void
mill_test_header(struct mill_test *test, const char *name, const char *value)
{
	stage_header(test->txn, name, value);
}

enum mill_verdict
mill_test_headers(struct mill_test *test)
{
	return (note(test, stage_headers(test->txn)));
}

void
mill_test_body(struct mill_test *test, const void *bytes, size_t n)
{
	stage_body(test->txn, bytes, n);
}

enum mill_verdict
mill_test_message(struct mill_test *test)
{
	enum mill_verdict v = note(test, stage_message(test->txn));
	const struct edit *e;

	if (v == MILL_CONTINUE || v == MILL_ACCEPT)
		for (e = test->txn->edits; e != NULL; e = e->next)
			keep_edit(test, e);
	txn_end_message(test->txn);
	test->ended = true;
	return (v);
}

void
mill_test_abort(struct mill_test *test)
{
	forget(test);
}

/* field_end - the line end that no blank follows, or n */
static size_t
field_end(const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (s[i] == '\n' &&
		    (i + 1 == n || (s[i + 1] != ' ' && s[i + 1] != '\t')))
			break;
	return (i);
}

/* put_field - as an MTA shows it: folded by LF, without the first blank */
static void
put_field(struct mill_test *test, const char *s, size_t n)
{
	char *copy = malloc(n + 1), *value, *to, *from;

	if (copy == NULL)
		abort();
	memcpy(copy, s, n);
	copy[n] = '\0';
	for (to = from = copy; *from != '\0'; from++)
		if (*from != '\r')
			*to++ = *from;
	*to = '\0';
	if ((value = strchr(copy, ':')) != NULL) {
		*value++ = '\0';
		stage_header(
		    test->txn, copy, *value == ' ' ? value + 1 : value);
	}
	free(copy);
}

/* put_body - with CRLF at each line's end, in pieces as an MTA sends them */
static void
put_body(struct mill_test *test, const char *s, size_t n)
{
	size_t line;

	while (n > 0) {
		const char *lf = memchr(s, '\n', n);

		line = lf != NULL ? (size_t)(lf - s) : n;
		stage_body(test->txn, s,
		    line > 0 && lf != NULL && s[line - 1] == '\r' ? line - 1
		                                                  : line);
		stage_body(test->txn, "\r\n", 2);
		line += lf != NULL;
		s += line;
		n -= line;
	}
}

enum mill_verdict
mill_test_eml(struct mill_test *test, const void *bytes, size_t n)
{
	const char *s = bytes;
	enum mill_verdict v;
	size_t len;

	while (
	    n > 0 && *s != '\n' && !(n > 1 && s[0] == '\r' && s[1] == '\n')) {
		len = field_end(s, n);
		put_field(test, s, len);
		len += len < n;
		s += len;
		n -= len;
	}
	if ((v = mill_test_headers(test)) != MILL_CONTINUE)
		return (v);
	len = n > 0 && *s == '\r' ? 2 : n > 0;
	put_body(test, s + len, n - len);
	return (mill_test_message(test));
}

const char *
mill_test_reply(struct mill_test *test)
{
	return (test->reply.data != NULL ? test->reply.data : "");
}

const char *
mill_test_edits(struct mill_test *test)
{
	return (test->edits.data != NULL ? test->edits.data : "");
}

const void *
mill_test_new_body(struct mill_test *test, size_t *len_r)
{
	*len_r = test->body.len;
	if (!test->has_body)
		return (NULL);
	return (test->body.data != NULL ? test->body.data : "");
}
