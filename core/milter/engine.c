/* SPDX-License-Identifier: ISC */

/*
 * engine - what all sessions of one process share: milters' run-time switches,
 * statistics, and addresses of the hosts they run on
 *
 * Host names are looked up when settings are read, in the hosts file only:
 * nothing here may block or ask the network later.
 */

#include "core/milter/chain_int.h"
#include "milter-sdk/base/json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HOSTS_LINES_MAX = 100000 };

struct mstate *
engine_state(struct engine *e, const char *name)
{
	struct mstate *m;

	for (m = e->milters; m != NULL; m = m->next)
		if (strcmp(m->name, name) == 0)
			return (m);
	if ((m = calloc(1, sizeof(*m))) == NULL ||
	    (m->name = strdup(name)) == NULL) {
		free(m);
		return (NULL);
	}
	m->next = e->milters;
	e->milters = m;
	return (m);
}

enum milter_mode
engine_effective(const struct mstate *m, const struct milter_conf *conf)
{
	return (m->has_override ? m->override : conf->mode);
}

const struct host *
engine_host(const struct engine *e, const char *name, bool want_v6)
{
	static const struct host loopback[2] = {
		{ .addr = { 127, 0, 0, 1 } },
		{ .addr = { [15] = 1 }, .v6 = true },
	};
	const struct host *h;

	if (strcasecmp(name, "localhost") == 0)
		return (&loopback[want_v6]);
	for (h = e->hosts; h != NULL; h = h->next)
		if (h->v6 == want_v6 && strcasecmp(h->name, name) == 0)
			return (h);
	return (NULL);
}

static void
free_hosts(struct engine *e)
{
	struct host *h;

	while ((h = e->hosts) != NULL) {
		e->hosts = h->next;
		free(h->name);
		free(h);
	}
}

/* needs_host - is this word the name in some milter's endpoint? */
static bool
needs_host(const struct settings *s, const char *word)
{
	size_t i, k;

	for (i = 0; i < s->n_milters; i++)
		for (k = 0; k < s->milters[i].n_endpoints; k++) {
			const struct endpoint *ep = &s->milters[i].endpoints[k];

			if (ep->family == ENDPOINT_INET &&
			    strcasecmp(ep->host, word) == 0)
				return (true);
		}
	return (false);
}

static void
hosts_line(struct engine *e, char *line)
{
	char *save = NULL, *word, *hash = strchr(line, '#');
	struct host one, *h;

	if (hash != NULL)
		*hash = '\0';
	memset(&one, 0, sizeof(one));
	if ((word = strtok_r(line, " \t\r\n", &save)) == NULL)
		return;
	one.v6 = inet_pton(AF_INET6, word, one.addr) == 1;
	if (!one.v6 && inet_pton(AF_INET, word, one.addr) != 1)
		return;
	while ((word = strtok_r(NULL, " \t\r\n", &save)) != NULL) {
		if (!needs_host(e->settings, word) ||
		    engine_host(e, word, one.v6) != NULL)
			continue;
		if ((h = malloc(sizeof(*h))) == NULL)
			return;
		*h = one;
		if ((h->name = strdup(word)) == NULL) {
			free(h);
			return;
		}
		h->next = e->hosts;
		e->hosts = h;
	}
}

/* read_hosts - the names that endpoints use.  Where the file may not be read
 * any more (the sandbox is closed), what was known stays known. */
static void
read_hosts(struct engine *e)
{
	struct host *old = e->hosts;
	char *line = NULL;
	size_t cap = 0, n = 0;
	FILE *f = NULL;

	if (e->settings->hosts_file != NULL)
		f = fopen(e->settings->hosts_file, "re");
	if (f == NULL)
		return;
	e->hosts = NULL;
	while (n++ < HOSTS_LINES_MAX && getline(&line, &cap, f) != -1)
		hosts_line(e, line);
	free(line);
	(void)fclose(f);
	if (old != NULL) {
		struct engine tmp = { .hosts = old };

		free_hosts(&tmp);
	}
}

/* warn_unknown - endpoints that no connection can ever be made to */
static void
warn_unknown(const struct engine *e)
{
	const struct settings *s = e->settings;
	uint8_t room[16];
	size_t i, k;

	for (i = 0; i < s->n_milters; i++)
		for (k = 0; k < s->milters[i].n_endpoints; k++) {
			const struct endpoint *ep = &s->milters[i].endpoints[k];

			if (ep->family == ENDPOINT_INET &&
			    inet_pton(AF_INET, ep->host, room) != 1 &&
			    inet_pton(AF_INET6, ep->host, room) != 1 &&
			    engine_host(e, ep->host, false) == NULL &&
			    engine_host(e, ep->host, true) == NULL)
				log_err("milter=%s: endpoint %s: no address: "
				        "give a numeric one, or a name in the "
				        "hosts file at start",
				    s->milters[i].name, ep->text);
		}
}

static void
read_user(struct engine *e, const char *name)
{
	const struct passwd *pw;
	struct user *u;
	char *end;
	unsigned long uid;

	for (u = e->users; u != NULL; u = u->next)
		if (strcmp(u->name, name) == 0)
			return;
	errno = 0;
	uid = strtoul(name, &end, 10);
	if (name[0] < '0' || name[0] > '9' || *end != '\0' || errno != 0 ||
	    uid >= UINT32_MAX) {
		if ((pw = getpwnam(name)) == NULL) {
			log_err("milter: peer %s: no such user known: give a "
			        "number, or a user that exists at start",
			    name);
			return;
		}
		uid = pw->pw_uid;
	}
	if ((u = calloc(1, sizeof(*u))) == NULL ||
	    (u->name = strdup(name)) == NULL) {
		free(u);
		return;
	}
	u->uid = (uid_t)uid;
	u->next = e->users;
	e->users = u;
}

/* read_users - those that `peer` names.  As with hosts: what is not known when
 * the sandbox closes stays so, and nobody is taken for it. */
static void
read_users(struct engine *e)
{
	const struct settings *s = e->settings;
	size_t i, k;

	for (i = 0; i < s->n_milters; i++)
		for (k = 0; k < s->milters[i].n_peers; k++)
			read_user(e, s->milters[i].peers[k]);
}

static void
free_users(struct engine *e)
{
	struct user *u;

	while ((u = e->users) != NULL) {
		e->users = u->next;
		free(u->name);
		free(u);
	}
}

static void
adopt(struct engine *e)
{
	struct mstate *m;
	size_t i;

	for (m = e->milters; m != NULL; m = m->next)
		m->present = false;
	for (i = 0; i < e->settings->n_milters; i++)
		if ((m = engine_state(e, e->settings->milters[i].name)) != NULL)
			m->present = true;
	read_hosts(e);
	read_users(e);
	tls_load(e);
	warn_unknown(e);
	probe_arm(e);
}

struct engine *
engine_new(struct event_base *base, struct settings *s)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return (NULL);
	e->base = base;
	e->settings = settings_ref(s);
	if (pool_init(e) == -1 || probe_init(e) == -1) {
		engine_free(&e);
		return (NULL);
	}
	adopt(e);
	return (e);
}

static void
free_milter(struct engine *e, struct mstate *m)
{
	struct estate *es;

	pool_clear(e, m);
	probe_clear(e, m);
	while ((es = m->endpoints) != NULL) {
		m->endpoints = es->next;
		free(es->text);
		free(es);
	}
	free(m->name);
	free(m);
}

/* engine_free - after the last chain is gone */
void
engine_free(struct engine **ep)
{
	struct engine *e = *ep;
	struct mstate *m;

	if (e == NULL)
		return;
	*ep = NULL;
	shadow_clear(e);
	if (e->probe_timer != NULL)
		event_free(e->probe_timer);
	e->probe_timer = NULL;
	while ((m = e->milters) != NULL) {
		e->milters = m->next;
		free_milter(e, m);
	}
	free_hosts(e);
	free_users(e);
	tls_free(e);
	if (e->pool_tick != NULL)
		event_free(e->pool_tick);
	settings_unref(&e->settings);
	free(e);
}

void
engine_reload(struct engine *e, struct settings *s)
{
	struct settings *old = e->settings;
	struct mstate *m;

	for (m = e->milters; m != NULL; m = m->next) {
		pool_clear(e, m);
		probe_clear(e, m);
	}
	e->settings = settings_ref(s);
	adopt(e);
	settings_unref(&old);
}

int
engine_mode(struct engine *e, const char *milter, enum milter_mode mode)
{
	struct mstate *m;

	for (m = e->milters; m != NULL; m = m->next)
		if (m->present && strcmp(m->name, milter) == 0) {
			m->has_override = true;
			m->override = mode;
			if (mode == MODE_OFF || mode == MODE_DRAIN) {
				pool_clear(e, m);
				probe_clear(e, m);
			}
			probe_arm(e);
			return (0);
		}
	errno = ENOENT;
	return (-1);
}

void
engine_on_fail_open(
    struct engine *e, void (*fn)(void *, const char *, const char *), void *arg)
{
	e->alarm = fn;
	e->alarm_arg = arg;
}

void
engine_on_recording(struct engine *e,
    void (*fn)(void *, const char *, const char *, struct buf *), void *arg)
{
	e->recording_fn = fn;
	e->recording_arg = arg;
}

void
engine_alarm(struct engine *e, const char *milter, const char *why)
{
	char room[512];

	log_warning("milter=%s: fail-open: %s", milter,
	    log_quote(room, sizeof(room), why));
	if (e->alarm != NULL)
		e->alarm(e->alarm_arg, milter, why);
}

static int
put_state(struct mstate *m, const struct milter_conf *conf, struct buf *b)
{
	static const char *const modes[] = { "enforce", "shadow", "off",
		"drain" };
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "sample", conf->sample },
		{ "left_out", m->left_out },
		{ "sessions", m->sessions },
		{ "calls", m->calls },
		{ "accepts", m->accepts },
		{ "rejects", m->rejects },
		{ "tempfails", m->tempfails },
		{ "discards", m->discards },
		{ "shutdowns", m->shutdowns },
		{ "quarantines", m->quarantines },
		{ "failures", m->failures },
		{ "fail_opens", m->fail_opens },
		{ "dropped_edits", m->dropped },
		{ "not_shown", m->unshown },
		{ "connects", m->connects },
		{ "reused", m->reused },
		{ "failovers", m->failovers },
		{ "replays", m->replays },
		{ "replays_unlike", m->unlike },
		{ "answers", m->answers },
		{ "latency_us", m->answers > 0 ? m->total_us / m->answers : 0 },
		{ "latency_max_us", m->max_us },
		{ "latency_total_us", m->total_us },
	};
	size_t i;

	if (buf_add(b, "{", 1) == -1 || json_kv_str(b, "name", m->name) == -1 ||
	    json_kv_str(b, "mode", modes[engine_effective(m, conf)]) == -1)
		return (-1);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (json_kv_num(b, rows[i].name, rows[i].value) == -1)
			return (-1);
	if (endpoint_stats(conf, m, b) == -1)
		return (-1);
	return (buf_add(b, "}", 1));
}

int
engine_stats(struct engine *e, struct buf *out)
{
	const struct settings *s = e->settings;
	struct mstate *m;
	size_t i;

	if (buf_add(out, "[", 1) == -1)
		return (-1);
	for (i = 0; i < s->n_milters; i++) {
		if ((m = engine_state(e, s->milters[i].name)) == NULL ||
		    (i > 0 && buf_add(out, ",", 1) == -1) ||
		    put_state(m, &s->milters[i], out) == -1)
			return (-1);
	}
	return (buf_add(out, "]", 1));
}
