/* SPDX-License-Identifier: ISC */

/* transaction - one MAIL to end of data: begin, failure, end */

#include "core/receiver/receiver.h"

#include "core/smtp/id.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static int
fill_envelope(struct session *s, struct envelope *e)
{
	const struct policy *p = &s->settings->policies[s->listener->policy];
	struct timespec t;

	if (env_init(e) == -1)
		return (-1);
	queue_id_make(e->id);
	(void)clock_gettime(CLOCK_REALTIME, &t);
	e->arrival_ms =
	    (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	e->group = 1;
	e->client_port = (uint16_t)s->facts.client_port;
	if (s->ehlo)
		e->flags |= ENV_ESMTP;
	if (env_set(&e->client_addr, s->client_addr) == -1 ||
	    env_set(&e->client_name, s->client_name) == -1 ||
	    env_set(&e->helo, s->helo) == -1 ||
	    env_set(&e->proto, s->ehlo ? "ESMTP" : "SMTP") == -1 ||
	    env_set(&e->listener, s->listener->name) == -1 ||
	    env_set(&e->policy, p->name) == -1 ||
	    env_set(&e->policy_hash, p->hash) == -1) {
		env_fini(e);
		return (-1);
	}
	return (0);
}

struct transaction *
tx_new(struct session *s)
{
	struct transaction *t = calloc(1, sizeof(*t));

	if (t == NULL || fill_envelope(s, &t->env) == -1) {
		free(t);
		return (NULL);
	}
	message_init(&t->msg);
	store_init(&t->store, s->r, &s->settings->limits);
	t->stream.next = s->settings->limits.stream_size;
	t->header.max = SIZE_MAX / 8;
	t->discard = s->discard;
	s->tx = t;
	return (t);
}

void
tx_free(struct session *s)
{
	struct transaction *t = s->tx;

	if (t == NULL)
		return;
	s->tx = NULL;
	if (t->counted)
		s->r->submitting--;
	split_free(t); /* bodies of parts may be the message's */
	free(t->prdr_groups);
	env_fini(&t->env);
	message_fini(&t->msg);
	data_fini(&t->data);
	stream_fini(&t->stream);
	store_fini(&t->store);
	route_fini(&t->route);
	buf_fini(&t->header);
	free(t->discard_by);
	free(t);
	if (s->mode == IN_DATA || s->mode == IN_CHUNK)
		s->mode = IN_COMMANDS;
}

/* part_reply - one line for the recipients of a group */
static const char *
part_reply(const struct transaction *t, uint16_t group, const char *all,
    char *room, size_t n)
{
	size_t i, len;

	for (i = 0; i < t->n_parts; i++)
		if (t->parts[i].group == group)
			all = t->parts[i].reply[0] != '\0'
			    ? t->parts[i].reply
			    : "250 2.1.5 Accepted";
	len = strcspn(all, "\r");
	(void)snprintf(room, n, "%.*s", (int)(len < n ? len : n - 1), all);
	if (strlen(room) > 3)
		room[3] = ' ';
	return (room);
}

void
tx_reply(struct session *s, const char *reply)
{
	const struct transaction *t = s->tx;
	unsigned errors = s->errors;
	char room[300];
	size_t i, n = t->n_prdr;

	if (strncmp(reply, "421", 3) == 0)
		n = 0; /* nobody hears more than that */
	if (n > 0)
		session_reply(s, "353 Replies for each recipient follow");
	for (i = 0; i < n; i++)
		session_reply(s, "%s",
		    part_reply(
		        t, t->prdr_groups[i], reply, room, sizeof(room)));
	s->errors = errors; /* one message is one error at most */
	session_reply(s, "%s", reply);
}

void
tx_fail(struct session *s, const char *outcome, const char *reply,
    const char *milter)
{
	if (s->release != NULL) {
		release_kept(s, milter, reply);
		return;
	}
	if (reply[0] == '5')
		s->r->rejected++;
	record_refusal(s, milter, reply, NULL);
	record_send(s, outcome, reply, milter);
	tx_reply(s, reply);
	chain_abort(s->chain);
	tx_free(s);
}

void
tx_close(struct session *s)
{
	if (s->tx == NULL)
		return;
	if (s->tx->env.n_rcpts > 0)
		record_send(s, "closed", "", "");
	/* A question to the chain may be open: chain_free() follows then. */
	if (s->wait != WAIT_CHAIN)
		chain_abort(s->chain);
	tx_free(s);
}
