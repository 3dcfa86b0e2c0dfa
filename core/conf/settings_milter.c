/* SPDX-License-Identifier: ISC */

/* settings_milter - the milter blocks of milldam.conf(5) */

#include "core/conf/endpoint.h"
#include "core/conf/reader.h"
#include "milter-sdk/base/milter.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MACROS_TEXT_MAX = 1000 };

static const char *const fail_words[] = { "tempfail", "accept", "reject",
	"quarantine", "shutdown", NULL };
static const char *const mode_words[] = { "enforce", "shadow", "off", "drain",
	NULL };
static const char *const library_words[] = { "other", "libmilter", "milldam",
	NULL };
static const char *const pipeline_words[] = { "safe", "full", NULL };
static const char *const names[] = { "run", "args", "settings", "user",
	"endpoints", "library", "pipeline", "on-failure", "mode", "early",
	"timeout", "macros", "may", "forbidden", "content", "balance", "replay",
	"all-ejected", "eject-after", "eject-time", "health-interval", "warm",
	"peer", "tls", "record", "sample", NULL };
static const char *const balance_words[] = { "ordered", "round-robin",
	"least-busy", NULL };
static const char *const ejected_words[] = { "try", "fail", NULL };
static const char *const forbidden_words[] = { "fail", "drop", NULL };

void
milter_fini(struct milter_conf *m)
{
	size_t i;

	for (i = 0; i < MILTER_STAGES; i++)
		free(m->macros[i]);
	free(m->name);
	free(m->run);
	rd_free_list(&m->run_args, &m->n_run_args);
	free(m->settings);
	free(m->user);
	free(m->record);
	while (m->n_endpoints > 0)
		endpoint_fini(&m->endpoints[--m->n_endpoints]);
	free(m->endpoints);
	rd_free_list(&m->peers, &m->n_peers);
	free(m->tls_ca);
	free(m->tls_cert);
	free(m->tls_key);
	free(m->tls_name);
}

static void
read_endpoints(struct reader *r, struct conf_node *b, struct milter_conf *m)
{
	struct conf_node *n = conf_find(r->conf, b, "endpoints");
	struct endpoint e, *room;
	char *path;
	size_t i;

	for (i = 0; n != NULL && i < n->n_values; i++) {
		if (endpoint_parse(n->values[i], &e) == -1) {
			if (errno == ENOMEM)
				r->no_memory = true;
			conf_error(r->conf, n,
			    "%s is no endpoint: unix:/path, inet:PORT@HOST or "
			    "inet:HOST:PORT",
			    n->values[i]);
			continue;
		}
		room =
		    rd_grow(r, &m->endpoints, &m->n_endpoints, sizeof(*room));
		if (room != NULL)
			*room = e;
		else
			endpoint_fini(&e);
	}
	if (n != NULL || m->run == NULL)
		return;
	if (asprintf(&path, "unix:%s/milters/%s.sock", r->s->run_dir,
	        m->name) == -1) {
		r->no_memory = true;
		return;
	}
	if (endpoint_parse(path, &e) == -1)
		conf_error(
		    r->conf, b, "%s: the socket's path is too long", path);
	else if ((room = rd_grow(r, &m->endpoints, &m->n_endpoints,
	              sizeof(*room))) != NULL)
		*room = e;
	free(path);
}

/* is_names - of macros: words, in braces or not */
static bool
is_names(const char *s)
{
	static const char chars[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
	    "{} ";

	return (strlen(s) <= MACROS_TEXT_MAX && s[strspn(s, chars)] == '\0');
}

/* read_macros - macros = {"rcpt=b r", ...} */
static void
read_macros(struct reader *r, struct conf_node *b, struct milter_conf *m)
{
	static const char *const stages[MILTER_STAGES] = {
		[MILTER_AT_CONNECT] = "connect=",
		[MILTER_AT_HELO] = "helo=",
		[MILTER_AT_MAIL] = "mail=",
		[MILTER_AT_RCPT] = "rcpt=",
		[MILTER_AT_DATA] = "data=",
		[MILTER_AT_EOM] = "eom=",
		[MILTER_AT_EOH] = "eoh=",
	};
	struct conf_node *n = conf_find(r->conf, b, "macros");
	size_t i, k, len = 0;

	for (i = 0; n != NULL && i < n->n_values; i++) {
		for (k = 0; k < MILTER_STAGES; k++) {
			len = strlen(stages[k]);
			if (strncmp(n->values[i], stages[k], len) == 0)
				break;
		}
		if (k == MILTER_STAGES || m->macros[k] != NULL ||
		    !is_names(n->values[i] + len)) {
			conf_error(r->conf, n,
			    "macros: %s is none of connect=, helo=, mail=, "
			    "rcpt=, data=, eoh= or eom= with names, each once",
			    n->values[i]);
			continue;
		}
		m->macros[k] = strdup(n->values[i] + len);
		if (m->macros[k] == NULL)
			r->no_memory = true;
	}
}

/* read_timeout - timeout = {"connect=5s", "command=30s", "message=5m"} */
static void
read_timeout(struct reader *r, struct conf_node *b, struct milter_conf *m)
{
	struct conf_node *n = conf_find(r->conf, b, "timeout");
	const struct {
		const char *name;
		uint64_t *ms;
	} which[] = { { "connect=", &m->connect_ms },
		{ "command=", &m->command_ms },
		{ "message=", &m->message_ms } };
	size_t i, k, len;
	uint64_t ms;

	m->connect_ms = 5000;
	m->command_ms = 30 * 1000;
	m->message_ms = 300 * 1000;
	for (i = 0; n != NULL && i < n->n_values; i++) {
		for (k = 0; k < 3; k++) {
			len = strlen(which[k].name);
			if (strncmp(n->values[i], which[k].name, len) == 0 &&
			    conf_parse_time_ms(n->values[i] + len, &ms) == 0 &&
			    ms >= 10 && ms <= 3600 * 1000) {
				*which[k].ms = ms;
				break;
			}
		}
		if (k == 3)
			conf_error(r->conf, n,
			    "timeout: %s is none of connect=, command= or "
			    "message= with a time from 10ms to 1h",
			    n->values[i]);
	}
}

/*
 * read_may - may = {"add-header", ...}: the changes that a milter is allowed.
 * Without it all, but for new recipients: nobody authorised those, so whoever
 * adds them must have been given leave (design 5.1).
 */
static void
read_may(struct reader *r, struct conf_node *b, struct milter_conf *m)
{
	static const struct {
		const char *word;
		uint32_t bits;
	} rows[] = {
		{ "add-header", MILTER_MAY_ADD_HEADERS },
		{ "change-header", MILTER_MAY_CHANGE_HEADERS },
		{ "change-body", MILTER_MAY_CHANGE_BODY },
		{ "add-rcpt", MILTER_MAY_ADD_RCPT | MILTER_MAY_ADD_RCPT_PAR },
		{ "delete-rcpt", MILTER_MAY_DEL_RCPT },
		{ "change-from", MILTER_MAY_CHANGE_FROM },
		{ "quarantine", MILTER_MAY_QUARANTINE },
	};
	const size_t n_rows = sizeof(rows) / sizeof(rows[0]);
	struct conf_node *n = conf_find(r->conf, b, "may");
	size_t i, k;

	m->may = n != NULL ? 0
	                   : MILTER_MAY_ALL &
	        ~(uint32_t)(MILTER_MAY_ADD_RCPT | MILTER_MAY_ADD_RCPT_PAR);
	for (i = 0; n != NULL && i < n->n_values; i++) {
		if (strcmp(n->values[i], "all") == 0) {
			m->may = MILTER_MAY_ALL;
			continue;
		}
		for (k = 0; k < n_rows; k++)
			if (strcmp(n->values[i], rows[k].word) == 0)
				break;
		if (k < n_rows)
			m->may |= rows[k].bits;
		else
			conf_error(r->conf, n,
			    "may: %s is none of add-header, change-header, "
			    "change-body, add-rcpt, delete-rcpt, change-from, "
			    "quarantine or all",
			    n->values[i]);
	}
}

/* read_tls - tls = {"ca=file", "cert=file", "key=file", "name=host"} */
static void
read_tls(struct reader *r, struct conf_node *b, struct milter_conf *m)
{
	struct conf_node *n = conf_find(r->conf, b, "tls");
	const struct {
		const char *name;
		char **text;
	} which[] = { { "ca=", &m->tls_ca }, { "cert=", &m->tls_cert },
		{ "key=", &m->tls_key }, { "name=", &m->tls_name } };
	size_t i, k, len;

	for (i = 0; n != NULL && i < n->n_values; i++) {
		for (k = 0; k < 4; k++) {
			len = strlen(which[k].name);
			if (strncmp(n->values[i], which[k].name, len) != 0 ||
			    n->values[i][len] == '\0' || *which[k].text != NULL)
				continue;
			*which[k].text = rd_copy(r, n->values[i] + len);
			if (k < 3)
				*which[k].text = rd_path(r, n, *which[k].text);
			break;
		}
		if (k == 4)
			conf_error(r->conf, n,
			    "tls: %s is none of ca=, cert=, key= (files) or "
			    "name=, once each",
			    n->values[i]);
	}
	if (n == NULL || r->no_memory)
		return;
	if (m->tls_ca == NULL)
		conf_error(r->conf, n,
		    "tls needs ca=: nothing else says who the endpoint is");
	if ((m->tls_cert == NULL) != (m->tls_key == NULL))
		conf_error(r->conf, n, "tls: cert= and key= go together");
	for (i = 0; i < m->n_endpoints; i++)
		if (m->endpoints[i].family == ENDPOINT_INET)
			return;
	conf_error(r->conf, n, "tls is for inet endpoints, and there is none");
}

/* read_group - what concerns the choice between endpoints */
static void
read_group(struct reader *r, struct conf_node *b, struct milter_conf *m)
{
	struct conf *c = r->conf;
	struct conf_node *n;
	bool several = m->n_endpoints > 1;
	size_t i, k;

	m->balance = (enum balance)conf_word(
	    c, conf_find(c, b, "balance"), balance_words, 0);
	m->no_replay = !conf_bool(c, conf_find(c, b, "replay"), true);
	m->fail_ejected =
	    conf_word(c, conf_find(c, b, "all-ejected"), ejected_words, 0) == 1;
	m->eject_after =
	    (unsigned)conf_int(c, conf_find(c, b, "eject-after"), 3, 1, 1000);
	m->eject_ms =
	    conf_time_ms(c, conf_find(c, b, "eject-time"), 10000, 100, 3600000);
	m->health_ms = conf_time_ms(c, conf_find(c, b, "health-interval"),
	    several ? 10000 : 0, 0, 3600000);
	if (m->health_ms > 0 && m->health_ms < 100)
		m->health_ms = 100;
	m->warm = (unsigned)conf_int(c, conf_find(c, b, "warm"), 0, 0, 32);
	rd_list(r, b, "peer", &m->peers, &m->n_peers);
	read_tls(r, b, m);
	n = conf_find(c, b, "endpoints");
	for (i = 1; i < m->n_endpoints; i++)
		for (k = 0; k < i; k++)
			if (strcmp(m->endpoints[i].text,
			        m->endpoints[k].text) == 0)
				conf_error(c, n, "%s stands there twice",
				    m->endpoints[i].text);
	if (m->n_endpoints > ENDPOINTS_MAX)
		conf_error(c, n, "more than %d endpoints", ENDPOINTS_MAX);
}

static bool
name_ok(const char *s)
{
	size_t n = strlen(s);

	for (; *s != '\0'; s++)
		if (!isalnum((unsigned char)*s) && *s != '-' && *s != '_')
			return (false);
	return (n >= 1 && n <= 32);
}

static void
read_milter(struct reader *r, struct conf_node *b)
{
	struct milter_conf *m;
	struct conf_node *n;
	int library;

	b->used = true;
	if (b->title == NULL || !name_ok(b->title)) {
		conf_error(r->conf, b,
		    "a milter needs a name of 1 to 32 letters, digits, - or _");
		return;
	}
	m = rd_grow(r, &r->s->milters, &r->s->n_milters, sizeof(*m));
	if (m == NULL)
		return;
	m->name = rd_copy(r, b->title);
	m->run = rd_string(r, b, "run", NULL);
	rd_list(r, b, "args", &m->run_args, &m->n_run_args);
	n = conf_find(r->conf, b, "settings");
	m->settings = rd_path(r, n, rd_string(r, b, "settings", NULL));
	m->user = rd_string(r, b, "user", NULL);
	n = conf_find(r->conf, b, "record");
	m->record = rd_path(r, n, rd_string(r, b, "record", NULL));
	m->on_failure = (enum fail_action)conf_word(
	    r->conf, conf_find(r->conf, b, "on-failure"), fail_words, 0);
	m->mode = (enum milter_mode)conf_word(
	    r->conf, conf_find(r->conf, b, "mode"), mode_words, 0);
	m->sample = (unsigned)conf_int(r->conf, conf_find(r->conf, b, "sample"),
	    SAMPLE_ALL, 1, SAMPLE_ALL);
	library = conf_word(
	    r->conf, conf_find(r->conf, b, "library"), library_words, 0);
	m->reuse = library != 0;
	m->any_state = library == 2;
	m->safe = conf_word(r->conf, conf_find(r->conf, b, "pipeline"),
	              pipeline_words, m->reuse ? 1 : 0) == 0;
	m->early = conf_bool(r->conf, conf_find(r->conf, b, "early"), false);
	m->content =
	    conf_bool(r->conf, conf_find(r->conf, b, "content"), false);
	m->forbidden_drop =
	    conf_word(r->conf, conf_find(r->conf, b, "forbidden"),
	        forbidden_words, 0) == 1;
	read_may(r, b, m);
	read_timeout(r, b, m);
	read_macros(r, b, m);
	read_endpoints(r, b, m);
	read_group(r, b, m);
	if (m->n_endpoints == 0)
		conf_error(r->conf, b,
		    "milter \"%s\" has neither run nor endpoints", m->name);
	conf_unused(r->conf, b, names);
}

void
read_milters(struct reader *r)
{
	struct conf_node *b;

	for (b = r->conf->nodes; b != NULL && !r->no_memory; b = b->next)
		if (b->is_block && strcmp(b->name, "milter") == 0)
			read_milter(r, b);
}
