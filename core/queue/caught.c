/* SPDX-License-Identifier: ISC */

/*
 * caught - commands on what milters have held
 *
 * What an administrator held by command is no business of these.
 */

#include "core/queue/queue.h"

#include "milter-sdk/base/json.h"
#include "quarantine/quarantine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All that were held when "release all" came, one after the other. */
struct all {
	char (*ids)[ENV_ID_MAX];
	size_t n, at;
	uint64_t released, kept;
	char *more;
};

bool
is_caught(const struct entry *e)
{
	return ((e->flags & (E_HELD | E_CAUGHT | E_UNCOMMITTED)) ==
	    (E_HELD | E_CAUGHT));
}

static void
one_done(
    struct queue *q, void *arg, uint64_t ref, const char *ids, const char *why)
{
	struct buf b = BUF_INIT(128 << 10);

	(void)arg;
	if (ids == NULL) {
		command_error(q, ref, why, "");
		return;
	}
	if (buf_addf(&b, "{\"changed\":1,\"released_as\":[%s]}", ids) == -1)
		queue_oom();
	command_reply(q, ref, &b);
}

static void all_next(struct queue *, struct all *, uint64_t ref);

static void
all_done(
    struct queue *q, void *arg, uint64_t ref, const char *ids, const char *why)
{
	struct all *a = arg;

	(void)why;
	if (ids != NULL)
		a->released++;
	else
		a->kept++;
	all_next(q, a, ref);
}

static void
all_next(struct queue *q, struct all *a, uint64_t ref)
{
	struct buf b = BUF_INIT(4096);
	struct entry *e;

	while (a->at < a->n) {
		e = entry_find(q, a->ids[a->at++]);
		if (e == NULL || !is_caught(e))
			continue;
		if (release_start(q, e, a->more, all_done, a, ref) == NULL)
			return;
		a->kept++;
	}
	if (buf_addf(&b, "{\"changed\":%llu,\"kept\":%llu}",
	        (unsigned long long)a->released,
	        (unsigned long long)a->kept) == -1)
		queue_oom();
	command_reply(q, ref, &b);
	free(a->ids);
	free(a->more);
	free(a);
}

static void
release_all(struct queue *q, uint64_t ref, const char *more)
{
	struct all *a = calloc(1, sizeof(*a));
	struct entry *e;

	if (a == NULL || (a->more = strdup(more)) == NULL ||
	    (a->ids = calloc(q->n_held + 1, sizeof(*a->ids))) == NULL)
		queue_oom();
	TAILQ_FOREACH (e, &q->all, all)
		if (is_caught(e) && a->n < q->n_held)
			memcpy(a->ids[a->n++], e->id, ENV_ID_MAX);
	all_next(q, a, ref);
}

/* may_pass - why this milter cannot be passed by, or NULL */
static const char *
may_pass(const struct settings *s, const char *name)
{
	size_t i, m;

	for (m = 0; m < s->n_milters; m++)
		if (strcmp(s->milters[m].name, name) == 0)
			break;
	if (m == s->n_milters)
		return ("no such milter: ");
	for (i = 0; i < s->n_policies; i++)
		if (s->policies[i].has_authoriser &&
		    s->policies[i].authoriser == m)
			return ("it authorises relaying, and is asked: ");
	return (NULL);
}

/* release - ID|all [without NAME...] */
static bool
release(struct queue *q, uint64_t ref, char **w, int n)
{
	struct entry *e = entry_find(q, w[2]);
	const char *why;
	char *more = strdup(""), *longer;
	int i;

	if (n > 3 && (n == 4 || strcmp(w[3], "without") != 0)) {
		free(more);
		return (false);
	}
	for (i = 4; i < n && more != NULL; i++) {
		if ((why = may_pass(q->c->settings, w[i])) != NULL) {
			command_error(q, ref, why, w[i]);
			free(more);
			return (true);
		}
		longer = quarantine_names_add(more, w[i]);
		free(more);
		more = longer;
	}
	if (more == NULL)
		queue_oom();
	if (strcmp(w[2], "all") == 0)
		release_all(q, ref, more);
	else if (e == NULL)
		command_was_released(q, ref, w[2]);
	else if (!is_caught(e))
		command_error(q, ref, "not in quarantine", "");
	else if ((why = release_start(q, e, more, one_done, NULL, ref)) != NULL)
		command_error(q, ref, why, "");
	free(more);
	return (true);
}

bool
caught_command(struct queue *q, uint64_t ref, char **w, int n)
{
	bool show = n == 3 && strcmp(w[1], "show") == 0;
	struct entry *e;

	if (n == 2 && strcmp(w[1], "list") == 0)
		return (command_list_caught(q, ref), true);
	if (n >= 3 && strcmp(w[1], "release") == 0)
		return (release(q, ref, w, n));
	if (!show && (n != 3 || strcmp(w[1], "delete") != 0))
		return (false);
	e = entry_find(q, w[2]);
	if (e == NULL)
		command_was_released(q, ref, w[2]);
	else if (!is_caught(e))
		command_error(q, ref, "not in quarantine", "");
	else if (show)
		command_show(q, ref, w[2]);
	else if ((e->flags & E_RELEASING) != 0)
		command_error(q, ref, "it is being released", "");
	else
		command_delete(q, ref, e);
	return (true);
}
