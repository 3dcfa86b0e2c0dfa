/* SPDX-License-Identifier: ISC */

/* txn - what a filter reads of a session and its message */

#include "milter-sdk/base/log.h"
#include "milter-sdk/src/sdk.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const no_args[] = { NULL };

struct mill_txn *
txn_new(const struct mill_filter *f, struct loaded *l)
{
	struct mill_txn *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return (NULL);
	if (pthread_mutex_init(&t->lock, NULL) != 0) {
		free(t);
		return (NULL);
	}
	t->filter = f;
	t->loaded = l;
	t->session.max = SDK_SESSION_MAX;
	t->message.max = SDK_MESSAGE_MAX;
	t->client_name = t->helo = "";
	txn_end_message(t);
	return (t);
}

static void
set_data(struct user_data *d, void *p, void (*free_fn)(void *))
{
	if (d->p != NULL && d->p != p && d->free_fn != NULL)
		d->free_fn(d->p);
	d->p = p;
	d->free_fn = free_fn;
}

void
txn_end_message(struct mill_txn *t)
{
	set_data(&t->message_data, NULL, NULL);
	arena_fini(&t->message);
	buf_fini(&t->body);
	t->body.max = (size_t)t->loaded->max_body;
	t->in_message = t->accepted = t->failed = t->truncated = false;
	t->sender = t->rcpt = (struct addr){ "", no_args };
	t->rcpts = t->dropped = NULL;
	t->fields = NULL;
	t->n_rcpts = t->cap_rcpts = t->n_dropped = t->cap_dropped = 0;
	t->n_fields = t->cap_fields = 0;
	t->edits = NULL;
	t->edits_tail = &t->edits;
	t->reply.code = 0;
}

void
txn_free(struct mill_txn **tp)
{
	struct mill_txn *t = *tp;

	*tp = NULL;
	if (t == NULL)
		return;
	txn_end_message(t);
	set_data(&t->session_data, NULL, NULL);
	arena_fini(&t->session);
	free(t->reply.text);
	(void)pthread_mutex_destroy(&t->lock);
	loaded_unref(&t->loaded);
	free(t);
}

const void *
mill_settings(const struct mill_txn *t)
{
	return (t->loaded->data);
}

const char *
mill_client_name(const struct mill_txn *t)
{
	return (t->client_name);
}

const char *
mill_client_addr(const struct mill_txn *t)
{
	return (t->client_addr);
}

uint16_t
mill_client_port(const struct mill_txn *t)
{
	return (t->client_port);
}

bool
mill_client_in(const struct mill_txn *t, const struct mill_nets *nets)
{
	return (mill_nets_has(nets, t->client_addr));
}

const char *
mill_helo(const struct mill_txn *t)
{
	return (t->helo);
}

const char *
mill_macro(const struct mill_txn *t, const char *name)
{
	return (t->macro != NULL ? t->macro(t, name) : NULL);
}

const char *
mill_auth(const struct mill_txn *t)
{
	const char *login = mill_macro(t, "{auth_authen}");

	return (login != NULL ? login : "");
}

const char *
mill_queue_id(const struct mill_txn *t)
{
	const char *id = mill_macro(t, "i");

	return (id != NULL ? id : "");
}

const char *
mill_sender(const struct mill_txn *t)
{
	return (t->sender.text);
}

const char *const *
mill_sender_args(const struct mill_txn *t)
{
	return (t->sender.args);
}

const char *
mill_rcpt(const struct mill_txn *t)
{
	return (t->rcpt.text);
}

const char *const *
mill_rcpt_args(const struct mill_txn *t)
{
	return (t->rcpt.args);
}

size_t
mill_n_rcpts(const struct mill_txn *t)
{
	return (t->n_rcpts);
}

const char *
mill_rcpt_at(const struct mill_txn *t, size_t i)
{
	return (i < t->n_rcpts ? t->rcpts[i].text : "");
}

const char *
mill_header(const struct mill_txn *t, const char *name, size_t n)
{
	size_t i;

	for (i = 0; i < t->n_fields; i++)
		if (strcasecmp(t->fields[i].name, name) == 0 && n-- == 0)
			return (t->fields[i].value);
	return (NULL);
}

size_t
mill_n_headers(const struct mill_txn *t)
{
	return (t->n_fields);
}

const char *
mill_header_name(const struct mill_txn *t, size_t i)
{
	return (i < t->n_fields ? t->fields[i].name : "");
}

const char *
mill_header_value(const struct mill_txn *t, size_t i)
{
	return (i < t->n_fields ? t->fields[i].value : "");
}

const char *
mill_header_raw(const struct mill_txn *t, size_t i)
{
	return (i < t->n_fields ? t->fields[i].raw : "");
}

size_t
mill_header_nth(const struct mill_txn *t, size_t i)
{
	size_t k, n = 0;

	for (k = 0; k < i && i < t->n_fields; k++)
		n += strcasecmp(t->fields[k].name, t->fields[i].name) == 0;
	return (n);
}

const void *
mill_body(const struct mill_txn *t, size_t *len_r)
{
	*len_r = t->body.len;
	return (t->body.data != NULL ? t->body.data : "");
}

bool
mill_body_truncated(const struct mill_txn *t)
{
	return (t->truncated);
}

void
mill_set_session_data(struct mill_txn *t, void *p, void (*free_fn)(void *))
{
	set_data(&t->session_data, p, free_fn);
}

void *
mill_session_data(const struct mill_txn *t)
{
	return (t->session_data.p);
}

void
mill_set_message_data(struct mill_txn *t, void *p, void (*free_fn)(void *))
{
	set_data(&t->message_data, p, free_fn);
}

void *
mill_message_data(const struct mill_txn *t)
{
	return (t->message_data.p);
}

void
mill_log(const struct mill_txn *t, int priority, const char *fmt, ...)
{
	const char *id = t != NULL ? mill_queue_id(t) : "";
	char text[LOG_LINE_MAX], *p;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 32 || *p == 127)
			*p = '?';
	log_line(priority, "%s%s%s", id, id[0] != '\0' ? ": " : "", text);
}
