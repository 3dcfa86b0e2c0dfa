/* SPDX-License-Identifier: ISC */

/*
 * settings - milldam.conf(5), checked and typed
 *
 * Nothing is opened here but the configuration itself, so that `milldam -n` may
 * run anywhere.  All mistakes are collected; settings exist only without any.
 */

#include "core/conf/endpoint.h"
#include "core/conf/reader.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WEB_ADDRESSES_MAX = 16 };
#define MS_DAY (86400 * 1000ull)

static const char *const log_words[] = { "stderr", "syslog", "json", NULL };
static const char *const level_words[] = { "err", "warning", "info", "debug",
	NULL };
static const int levels[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
static const char *const top_names[] = { "hostname", "postmaster", "spool",
	"run-directory", "log", "log-level", "receivers", "relays", "uid-base",
	"sandbox", "hang-time", "stop-time", "limits", "queue", "relay",
	"route", "web", "milter", "policy", "listener", "include", NULL };

/* One row per option of a block: its kind, place, default and range. */
enum kind { SIZE, TIME, COUNT };

struct number {
	const char *name;
	enum kind kind;
	size_t offset;
	uint64_t def, min, max;
};

#define LIMIT(m) offsetof(struct limits, m)
static const struct number limit_rows[] = {
	{ "message-size", SIZE, LIMIT(message_size), 50 << 20, 1024,
	    2ull << 30 },
	{ "recipients", COUNT, LIMIT(recipients), 1000, 1, 10000 },
	{ "sessions", COUNT, LIMIT(sessions), 1000, 1, 100000 },
	{ "sessions-per-client", COUNT, LIMIT(sessions_per_client), 100, 1,
	    100000 },
	{ "errors", COUNT, LIMIT(errors), 20, 1, 1000 },
	{ "commands", COUNT, LIMIT(commands), 1000, 10, 1000000 },
	{ "hops", COUNT, LIMIT(hops), 25, 1, 1000 },
	{ "line-length", SIZE, LIMIT(line_length), 65536, 1000, 16 << 20 },
	{ "header-size", SIZE, LIMIT(header_size), 256 << 10, 4096, 16 << 20 },
	{ "header-fields", COUNT, LIMIT(header_fields), 1000, 10, 10000 },
	{ "stream-size", SIZE, LIMIT(stream_size), 256 << 10, 64 << 10,
	    2ull << 30 },
	{ "inline-size", SIZE, LIMIT(inline_size), 4 << 20, 64 << 10,
	    32 << 20 },
	{ "command-time", TIME, LIMIT(command_ms), 300000, 1000, 3600000 },
	{ "data-time", TIME, LIMIT(data_ms), 180000, 1000, 3600000 },
	{ "data-total-time", TIME, LIMIT(data_total_ms), 1800000, 1000,
	    MS_DAY },
	{ "milter-time", TIME, LIMIT(chain_ms), 0, 1000, 3600000 },
	{ "shadow-sessions", COUNT, LIMIT(shadow_sessions), 100, 0, 10000 },
	{ "shadow-size", SIZE, LIMIT(shadow_size), 64 << 20, 0, 2ull << 30 },
	{ "greet-pause", TIME, LIMIT(banner_ms), 0, 0, 60000 },
	{ NULL, COUNT, 0, 0, 0, 0 },
};

#define QUEUE(m) offsetof(struct queue_conf, m)
static const struct number queue_rows[] = {
	{ "segment-size", SIZE, QUEUE(segment_size), 64 << 20, 1 << 20,
	    1 << 30 },
	{ "min-free", SIZE, QUEUE(min_free), 100 << 20, 0, UINT64_MAX / 2 },
	{ "retry-min", TIME, QUEUE(retry_min_ms), 300000, 100, MS_DAY },
	{ "retry-max", TIME, QUEUE(retry_max_ms), 4 * 3600000, 100,
	    5 * MS_DAY },
	{ "warn-after", TIME, QUEUE(warn_ms), 4 * 3600000, 1000, 100 * MS_DAY },
	{ "expire", TIME, QUEUE(expire_ms), 5 * MS_DAY, 1000, 100 * MS_DAY },
	{ "bounce-expire", TIME, QUEUE(bounce_expire_ms), 5 * MS_DAY, 1000,
	    100 * MS_DAY },
	{ "site-concurrency", COUNT, QUEUE(site_concurrency), 20, 1, 1000 },
	{ "keep-records", COUNT, QUEUE(keep_records), 30, 1, 3650 },
	{ NULL, COUNT, 0, 0, 0, 0 },
};

#define RELAY(m) offsetof(struct relay_conf, m)
static const struct number relay_rows[] = {
	{ "connect-time", TIME, RELAY(connect_ms), 30000, 100, 3600000 },
	{ "command-time", TIME, RELAY(command_ms), 300000, 100, 3600000 },
	{ "data-time", TIME, RELAY(data_ms), 600000, 100, 3600000 },
	{ "idle-time", TIME, RELAY(idle_ms), 5000, 0, 600000 },
	{ "reuse", COUNT, RELAY(reuse), 100, 1, 100000 },
	{ NULL, COUNT, 0, 0, 0, 0 },
};

static struct conf_node *
find_block(struct reader *r, const char *name)
{
	struct conf_node *b;

	for (b = r->conf->nodes; b != NULL; b = b->next)
		if (b->is_block && strcmp(b->name, name) == 0) {
			b->used = true;
			return (b);
		}
	return (NULL);
}

/* read_numbers - fill the struct at base from the block of that name */
static void
read_numbers(
    struct reader *r, const char *block, const struct number *rows, void *base)
{
	const char *names[32];
	struct conf_node *b = find_block(r, block), *n;
	const struct number *row;
	size_t count = 0;
	uint64_t v;
	char *at;

	for (row = rows; row->name != NULL; row++) {
		names[count++] = row->name;
		n = b != NULL ? conf_find(r->conf, b, row->name) : NULL;
		at = (char *)base + row->offset;
		if (row->kind == COUNT) {
			*(unsigned *)(void *)at =
			    (unsigned)conf_int(r->conf, n, (int64_t)row->def,
			        (int64_t)row->min, (int64_t)row->max);
			continue;
		}
		v = row->kind == SIZE
		    ? conf_size(r->conf, n, row->def, row->min, row->max)
		    : conf_time_ms(r->conf, n, row->def, row->min, row->max);
		*(uint64_t *)(void *)at = v;
	}
	names[count] = NULL;
	if (b != NULL)
		conf_unused(r->conf, b, names);
}

/* check_table - "text:/path", "hash:/path", "btree:/path" */
static void
check_table(struct reader *r, struct conf_node *n, const char *s)
{
	if (s != NULL && !rd_is_table(s))
		conf_error(r->conf, n,
		    "%s: %s is not text:, hash: or btree: and a full path",
		    n->name, s);
}

static void
read_route(struct reader *r)
{
	static const char *const names[] = { "mailertable", "smart-host",
		"names", "nameservers", "hosts", NULL };
	struct conf_node *b = find_block(r, "route"), *n;
	struct settings *s = r->s;

	if (b == NULL) {
		s->hosts_file = rd_copy(r, "/etc/hosts");
		return;
	}
	s->mailertable = rd_string(r, b, "mailertable", NULL);
	check_table(r, conf_find(r->conf, b, "mailertable"), s->mailertable);
	s->smart_host = rd_string(r, b, "smart-host", NULL);
	n = conf_find(r->conf, b, "smart-host");
	if (s->smart_host != NULL && strncmp(s->smart_host, "smtp:", 5) != 0)
		conf_error(r->conf, n,
		    "smart-host: %s is not smtp:HOST, smtp:[ADDRESS] or "
		    "smtp:[ADDRESS]:PORT",
		    s->smart_host);
	rd_list(r, b, "names", &s->own_names, &s->n_own_names);
	rd_list(r, b, "nameservers", &s->nameservers, &s->n_nameservers);
	s->hosts_file = rd_string(r, b, "hosts", "/etc/hosts");
	conf_unused(r->conf, b, names);
}

/* is_loopback - "127.x.y.z:PORT" or "[::1]:PORT": nothing there asks who it is
 * that reads */
static bool
is_loopback(const char *text)
{
	struct in_addr in;
	struct in6_addr in6;
	char *host = NULL;
	uint16_t port;
	bool yes;

	if (hostport_parse(text, &host, &port) == -1)
		return (false);
	yes = (inet_pton(AF_INET, host, &in) == 1 &&
	          ntohl(in.s_addr) >> 24 == 127) ||
	    (inet_pton(AF_INET6, host, &in6) == 1 &&
	        IN6_IS_ADDR_LOOPBACK(&in6));
	free(host);
	return (yes && port >= 1024);
}

static void
read_web(struct reader *r)
{
	static const char *const web_names[] = { "address", NULL };
	struct conf_node *b = find_block(r, "web"), *n;
	struct settings *s = r->s;
	size_t i;

	if (b == NULL)
		return;
	n = conf_find(r->conf, b, "address");
	rd_list(r, b, "address", &s->web_addresses, &s->n_web_addresses);
	if (n == NULL)
		conf_error(r->conf, b, "web needs an address");
	if (s->n_web_addresses > WEB_ADDRESSES_MAX)
		conf_error(
		    r->conf, n, "address: more than %d", WEB_ADDRESSES_MAX);
	for (i = 0; i < s->n_web_addresses && !r->no_memory; i++)
		if (!is_loopback(s->web_addresses[i]))
			conf_error(r->conf, n,
			    "address: %s is not 127.0.0.1:PORT or [::1]:PORT, "
			    "with a port from 1024 on",
			    s->web_addresses[i]);
	conf_unused(r->conf, b, web_names);
}

static void
read_names(struct reader *r)
{
	struct settings *s = r->s;
	char machine[256] = "localhost";
	size_t i;

	(void)gethostname(machine, sizeof(machine) - 1);
	s->hostname = rd_string(r, NULL, "hostname", machine);
	for (i = 0; s->hostname != NULL && s->hostname[i] != '\0'; i++)
		if ((unsigned char)s->hostname[i] <= ' ' ||
		    s->hostname[i] == 127 || i > 253) {
			conf_error(r->conf,
			    conf_find(r->conf, NULL, "hostname"),
			    "hostname is not a host's name");
			break;
		}
	s->postmaster = rd_string(r, NULL, "postmaster", NULL);
	if (s->postmaster == NULL)
		conf_error(r->conf, NULL,
		    "%s:1: postmaster = \"address\" is required",
		    r->conf->n_files > 0 ? r->conf->files[0].name : "-");
	else if (strchr(s->postmaster, '@') == NULL ||
	    strpbrk(s->postmaster, " <>\r\n\t") != NULL)
		conf_error(r->conf, conf_find(r->conf, NULL, "postmaster"),
		    "postmaster: \"%s\" is no address", s->postmaster);
	s->spool_dir = rd_path(r, conf_find(r->conf, NULL, "spool"),
	    rd_string(r, NULL, "spool", "/var/spool/milldam"));
	s->run_dir = rd_path(r, conf_find(r->conf, NULL, "run-directory"),
	    rd_string(r, NULL, "run-directory", "/run/milldam"));
}

static void
read_top(struct reader *r)
{
	struct conf *c = r->conf;
	struct settings *s = r->s;

	read_names(r);
	s->log_form = (enum log_form)conf_word(
	    c, conf_find(c, NULL, "log"), log_words, LOG_TO_STDERR);
	s->log_level = levels[conf_word(
	    c, conf_find(c, NULL, "log-level"), level_words, 2)];
	s->receivers =
	    (unsigned)conf_int(c, conf_find(c, NULL, "receivers"), 1, 1, 64);
	s->relays =
	    (unsigned)conf_int(c, conf_find(c, NULL, "relays"), 1, 1, 64);
	s->uid_base = (uint32_t)conf_int(
	    c, conf_find(c, NULL, "uid-base"), 0, 0, 2000000000);
	s->sandbox = conf_bool(c, conf_find(c, NULL, "sandbox"), true);
	s->hang_ms = conf_time_ms(
	    c, conf_find(c, NULL, "hang-time"), 10000, 1000, 600000);
	s->stop_ms = conf_time_ms(
	    c, conf_find(c, NULL, "stop-time"), 30000, 100, 3600000);
}

/* keep_files - move the texts into the settings, for a reload's bundle */
static void
keep_files(struct reader *r)
{
	/* Rules' places point to the names of files, which are kept. */
	r->s->files = r->conf->files;
	r->s->n_files = r->conf->n_files;
	r->conf->files = NULL;
	r->conf->n_files = 0;
}

/* finish - type the tree; NULL when there is a mistake */
static struct settings *
finish(struct conf *c, struct buf *errors)
{
	struct reader r = { .conf = c };

	if ((r.s = calloc(1, sizeof(*r.s))) == NULL)
		return (NULL);
	r.s->refs = 1;
	read_top(&r);
	read_numbers(&r, "limits", limit_rows, &r.s->limits);
	read_numbers(&r, "queue", queue_rows, &r.s->queue);
	read_numbers(&r, "relay", relay_rows, &r.s->relay);
	read_route(&r);
	read_web(&r);
	read_milters(&r);
	read_policies(&r);
	read_listeners(&r);
	conf_unused(c, NULL, top_names);
	if (r.s->queue.retry_max_ms < r.s->queue.retry_min_ms)
		r.s->queue.retry_max_ms = r.s->queue.retry_min_ms;
	if (r.no_memory)
		conf_error(c, NULL, "out of memory");
	if (c->n_errors > 0) {
		(void)!buf_add(errors, c->errors.data, c->errors.len);
		settings_unref(&r.s);
		return (NULL);
	}
	keep_files(&r);
	return (r.s);
}

struct settings *
settings_read(const char *path, struct buf *errors)
{
	struct settings *s = NULL;
	struct conf c;

	conf_init(&c);
	if (conf_read(&c, path) == -1)
		(void)!buf_addf(errors, "%s:1: %s\n", path, strerror(errno));
	else
		s = finish(&c, errors);
	conf_fini(&c);
	return (s);
}

struct settings *
settings_parse(const struct conf_file *files, size_t n, struct buf *errors)
{
	struct settings *s = NULL;
	struct conf c;
	size_t i;

	conf_init(&c);
	for (i = 0; i < n; i++)
		if (conf_parse(
		        &c, files[i].name, files[i].text, files[i].len) == -1) {
			(void)!buf_addf(errors, "%s:1: %s\n", files[i].name,
			    strerror(errno));
			conf_fini(&c);
			return (NULL);
		}
	s = finish(&c, errors);
	conf_fini(&c);
	return (s);
}

struct settings *
settings_ref(struct settings *s)
{
	s->refs++;
	return (s);
}

static void
settings_free(struct settings *s)
{
	size_t i;

	for (i = 0; i < s->n_milters; i++)
		milter_fini(&s->milters[i]);
	for (i = 0; i < s->n_policies; i++)
		policy_fini(&s->policies[i]);
	for (i = 0; i < s->n_listeners; i++)
		listener_fini(&s->listeners[i]);
	for (i = 0; i < s->n_files; i++) {
		free(s->files[i].name);
		free(s->files[i].text);
	}
	rd_free_list(&s->own_names, &s->n_own_names);
	rd_free_list(&s->web_addresses, &s->n_web_addresses);
	rd_free_list(&s->nameservers, &s->n_nameservers);
	free(s->milters);
	free(s->policies);
	free(s->listeners);
	free(s->files);
	free(s->hostname);
	free(s->postmaster);
	free(s->spool_dir);
	free(s->run_dir);
	free(s->mailertable);
	while (s->n_tables > 0)
		free(s->tables[--s->n_tables]);
	free(s->tables);
	free(s->smart_host);
	free(s->hosts_file);
	free(s);
}

void
settings_unref(struct settings **sp)
{
	struct settings *s = *sp;

	*sp = NULL;
	if (s != NULL && --s->refs == 0)
		settings_free(s);
}
