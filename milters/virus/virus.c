/* SPDX-License-Identifier: ISC */

/*
 * milldam-virus - refuse, hold or mark mail in which libclamav finds a virus
 *
 * This process speaks Milter and decides; it never gives content to libclamav.
 * That is done by scanners in a jail (jail.c), forked by a zygote that holds
 * the database (zygote.c), which pool.c starts and feeds.
 *
 * SIGHUP: load() starts a new pool beside the one in use.  The first message
 * that meets the new settings makes it the current one, for sessions that have
 * older settings too; the old pool ends after its last scan.
 */

#include "milters/virus/content.h"
#include "milters/virus/pool.h"
#include "milters/virus/zygote.h"

#include <errno.h>
#include <fnmatch.h>
#include <milldam/milldam.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

enum action { ACTION_REJECT, ACTION_QUARANTINE, ACTION_HEADER, ACTION_PASS };

/* OVER_... - what happens to mail that cannot be looked at as a whole */
enum { OVER_TEMPFAIL, OVER_PASS, OVER_REJECT };

static const char *const actions[] = { "reject", "quarantine", "header", "pass",
	NULL };
static const char *const overs[] = { "tempfail", "pass", "reject", NULL };

struct class
{ /* of signatures, with an action of its own */
	struct class *next;
	const char *const *patterns;
	enum action action;
};

struct settings {
	const char *const *databases;
	const char *temp_directory;
	const char *header_name;
	const char *reply;
	int action, oversize, over_limits;
	bool unwanted;
	int64_t scanners, max_files, max_recursion;
	uint64_t max_size, max_scansize, temp_size, memory;
	uint64_t max_scantime, scan_timeout;
	/* made by load() */
	struct class *classes;
	bool marks;        /* some action adds our header field */
	struct pool *pool; /* NULL until init() */
};

#define AT(member) offsetof(struct settings, member)

static const struct mill_option options[] = {
	{ "databases", MILL_LIST, AT(databases), "/var/lib/clamav",
	    "folders or files with signatures", 0, 0, NULL },
	{ "action", MILL_WORD, AT(action), "reject",
	    "at a virus: reject, quarantine, header, pass", 0, 0, actions },
	{ "reply", MILL_STRING, AT(reply), "virus {name} found",
	    "text of the refusal", 0, 0, NULL },
	{ "header-name", MILL_STRING, AT(header_name), "X-Virus",
	    "field to add with action = header", 0, 0, NULL },
	{ "unwanted-applications", MILL_BOOL, AT(unwanted), "no",
	    "also load signatures of possibly unwanted applications", 0, 0,
	    NULL },
	{ "scanners", MILL_INT, AT(scanners), "2", "scanner processes", 1, 64,
	    NULL },
	{ "scan-timeout", MILL_TIME, AT(scan_timeout), "60s",
	    "for one message; then the scanner is ended", 1000, 3600 * 1000,
	    NULL },
	{ "max-size", MILL_SIZE, AT(max_size), "64M", "of a message", 1024,
	    1 << 30, NULL },
	{ "oversize", MILL_WORD, AT(oversize), "tempfail",
	    "message over max-size: tempfail, pass, reject", 0, 0, overs },
	{ "over-limits", MILL_WORD, AT(over_limits), "tempfail",
	    "content over a limit below: tempfail, pass, reject", 0, 0, overs },
	{ "max-scansize", MILL_SIZE, AT(max_scansize), "200M",
	    "of all that one message unpacks to", 64 << 10, (int64_t)2 << 30,
	    NULL },
	{ "max-files", MILL_INT, AT(max_files), "10000", "files in one message",
	    1, 1000000, NULL },
	{ "max-recursion", MILL_INT, AT(max_recursion), "17",
	    "archives in archives", 1, 100, NULL },
	{ "max-scantime", MILL_TIME, AT(max_scantime), "50s",
	    "after which libclamav stops by itself", 100, 3600 * 1000, NULL },
	{ "memory", MILL_SIZE, AT(memory), "1G",
	    "of a scanner beside the database", 64 << 20, (int64_t)16 << 30,
	    NULL },
	{ "temp-directory", MILL_PATH, AT(temp_directory), "/tmp",
	    "where scanners may unpack", 0, 0, NULL },
	{ "temp-size", MILL_SIZE, AT(temp_size), "400M",
	    "of one temporary file", 1 << 20, (int64_t)4 << 30, NULL },
	{ .name = NULL },
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pool *current; /* what the newest message seen was scanned by */
static bool running;         /* init() was called */

/* add_string - with its NUL; -1: no room */
static int
add_string(struct zygote_config *c, const char *s)
{
	size_t n = strlen(s) + 1;

	if (n > sizeof(c->strings) - c->strings_len)
		return (-1);
	memcpy(c->strings + c->strings_len, s, n);
	c->strings_len += (uint32_t)n;
	return (0);
}

static int
make_config(const struct settings *s, struct zygote_config *c)
{
	size_t i;

	memset(c, 0, sizeof(*c));
	c->max_scansize = s->max_scansize;
	c->temp_size = s->temp_size;
	c->memory = s->memory;
	c->max_files = (uint32_t)s->max_files;
	c->max_recursion = (uint32_t)s->max_recursion;
	c->max_scantime_ms = (uint32_t)s->max_scantime;
	c->scan_timeout_ms = (uint32_t)s->scan_timeout;
	c->pua = s->unwanted;
	if (add_string(c, s->temp_directory) == -1)
		return (-1);
	for (i = 0; s->databases[i] != NULL; i++, c->n_databases++)
		if (add_string(c, s->databases[i]) == -1)
			return (-1);
	return (0);
}

/* start_pool - load the database; -1 with the reason in text */
static int
start_pool(struct settings *s, char *text)
{
	struct zygote_config *c = malloc(sizeof(*c));

	if (c == NULL || make_config(s, c) == -1) {
		(void)snprintf(text, IPC_TEXT_MAX, "too many databases");
		free(c);
		return (-1);
	}
	s->pool = pool_new(c, (unsigned)s->scanners, text);
	free(c);
	if (s->pool == NULL)
		return (-1);
	mill_log(NULL, LOG_INFO,
	    "virus: database loaded: signatures=%u, scanners=%u",
	    (unsigned)pool_signatures(s->pool), (unsigned)s->scanners);
	return (0);
}

/* load_class - one block class "title" { match = {"PUA.*"} action = ... } */
static int
load_class(struct settings *s, struct mill_conf *conf,
    const struct mill_block *block, struct class ***end)
{
	struct class *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		mill_log(NULL, LOG_ERR, "virus: settings: no memory");
		return (-1);
	}
	**end = c;
	*end = &c->next;
	c->patterns = mill_conf_list(conf, block, "match");
	if (c->patterns[0] == NULL)
		mill_conf_error(conf, block, "match",
		    "match is needed: patterns for names of signatures");
	if (!mill_conf_has(conf, block, "action"))
		mill_conf_error(conf, block, NULL, "action is needed");
	c->action = (enum action)mill_conf_word(
	    conf, block, "action", actions, s->action);
	return (0);
}

static bool
may_mark(const struct settings *s)
{
	const struct class *c;

	for (c = s->classes; c != NULL; c = c->next)
		if (c->action == ACTION_HEADER)
			return (true);
	return (s->action == ACTION_HEADER);
}

static bool
is_field_name(const char *s)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++)
		if (s[i] <= ' ' || s[i] == ':' || s[i] > '~')
			return (false);
	return (i > 0 && i < 100);
}

/* check - what the table of options cannot say */
static void
check(const struct settings *s, struct mill_conf *conf)
{
	size_t i;

	if (s->databases[0] == NULL)
		mill_conf_error(conf, NULL, "databases", "none is given");
	for (i = 0; s->databases[i] != NULL; i++)
		if (s->databases[i][0] != '/')
			mill_conf_error(conf, NULL, "databases",
			    "%s: must begin with /", s->databases[i]);
		else if (access(s->databases[i], R_OK) == -1)
			mill_conf_error(conf, NULL, "databases", "%s: %s",
			    s->databases[i], strerror(errno));
	if (access(s->temp_directory, W_OK | X_OK) == -1)
		mill_conf_error(conf, NULL, "temp-directory", "%s: %s",
		    s->temp_directory, strerror(errno));
	if (!is_field_name(s->header_name))
		mill_conf_error(conf, NULL, "header-name",
		    "not the name of a header field: %s", s->header_name);
	if (s->max_scantime >= s->scan_timeout)
		mill_conf_error(conf, NULL, "max-scantime",
		    "must be less than scan-timeout");
}

static int
load(void *settings, struct mill_conf *conf)
{
	static const enum mill_verdict verdicts[] = { MILL_TEMPFAIL,
		MILL_CONTINUE, MILL_REJECT };
	struct settings *s = settings;
	struct class **end = &s->classes;
	const struct mill_block *b;
	char text[IPC_TEXT_MAX] = "";

	check(s, conf);
	for (b = NULL; (b = mill_conf_next(conf, NULL, "class", b)) != NULL;)
		if (load_class(s, conf, b, &end) == -1)
			return (-1);
	s->marks = may_mark(s);
	mill_conf_max_body(conf, s->max_size, verdicts[s->oversize]);
	if (running && start_pool(s, text) == -1)
		mill_conf_error(conf, NULL, "databases", "%s", text);
	return (0);
}

static void
unload(void *settings)
{
	struct settings *s = settings;
	struct class *c;

	while ((c = s->classes) != NULL) {
		s->classes = c->next;
		free(c);
	}
	pool_unref(s->pool);
	s->pool = NULL;
}

static int
init(void *settings)
{
	char text[IPC_TEXT_MAX] = "";

	if (start_pool(settings, text) == -1) {
		mill_log(NULL, LOG_ERR, "virus: databases: %s", text);
		return (-1);
	}
	running = true;
	return (0);
}

static void
fini(void)
{
	pool_unref(current);
	current = NULL;
}

/* take_pool - the newest pool that any message has met; unref it */
static struct pool *
take_pool(const struct settings *s)
{
	struct pool *old = NULL, *p;

	(void)pthread_mutex_lock(&lock);
	if (pool_is_newer(s->pool, current)) {
		old = current;
		current = pool_ref(s->pool);
	}
	p = pool_ref(current);
	(void)pthread_mutex_unlock(&lock);
	pool_unref(old);
	return (p);
}

static enum action
action_for(const struct settings *s, const char *name)
{
	const struct class *c;
	size_t i;

	for (c = s->classes; c != NULL; c = c->next)
		for (i = 0; c->patterns[i] != NULL; i++)
			if (fnmatch(c->patterns[i], name, 0) == 0)
				return (c->action);
	return ((enum action)s->action);
}

/* reject - the reply with the signature's name in the place of {name} */
static enum mill_verdict
reject(struct mill_txn *txn, const char *reply, const char *name)
{
	const char *at = strstr(reply, "{name}");

	if (at == NULL)
		return (mill_reply(txn, 550, "5.7.1", "%s", reply));
	return (mill_reply(txn, 550, "5.7.1", "%.*s%s%s", (int)(at - reply),
	    reply, name, at + strlen("{name}")));
}

static enum mill_verdict
tempfail(struct mill_txn *txn, const char *why)
{
	mill_log(txn, LOG_ERR, "virus: not scanned: %s", why);
	return (mill_reply(
	    txn, 451, "4.7.1", "Virus scan failed, try again later"));
}

/* remove_marks - fields of our name that arrived: they may lie */
static int
remove_marks(struct mill_txn *txn, const struct settings *s)
{
	size_t i, n = mill_n_headers(txn);
	const char *name;

	for (i = 0; i < n; i++) {
		name = mill_header_name(txn, i);
		if (strcasecmp(name, s->header_name) == 0 &&
		    mill_delete_header(txn, name, mill_header_nth(txn, i)) ==
		        -1)
			return (-1);
	}
	return (0);
}

static enum mill_verdict
found(struct mill_txn *txn, const struct settings *s, const char *name)
{
	const enum action action = action_for(s, name);
	char reason[IPC_TEXT_MAX + 8];

	mill_log(txn, LOG_NOTICE,
	    "virus: found: name=%s, action=%s, from=<%s>, relay=%s [%s]", name,
	    actions[action], mill_sender(txn), mill_client_name(txn),
	    mill_client_addr(txn));
	if (action == ACTION_REJECT)
		return (reject(txn, s->reply, name));
	(void)snprintf(reason, sizeof(reason), "virus %s", name);
	if ((action == ACTION_QUARANTINE &&
	        mill_quarantine(txn, reason) == -1) ||
	    (action == ACTION_HEADER &&
	        mill_add_header(txn, s->header_name, name) == -1))
		return (tempfail(txn, strerror(errno)));
	return (MILL_CONTINUE);
}

/* over - libclamav says which limit it reached, and saw nothing until then */
static enum mill_verdict
over(struct mill_txn *txn, const struct settings *s, const char *name)
{
	mill_log(txn, LOG_WARNING, "virus: over a limit: %s, action=%s", name,
	    overs[s->over_limits]);
	if (s->over_limits == OVER_PASS)
		return (MILL_CONTINUE);
	if (s->over_limits == OVER_REJECT)
		return (mill_reply(txn, 554, "5.7.1",
		    "Message is too large or too deep to be scanned"));
	return (mill_reply(txn, 451, "4.7.1",
	    "Message is too large or too deep to be scanned"));
}

static enum mill_verdict
decide(struct mill_txn *txn)
{
	const struct settings *s = mill_settings(txn);
	struct scan_reply reply;
	struct pool *pool;
	uint64_t len;
	int fd;

	if (s->marks && remove_marks(txn, s) == -1)
		return (tempfail(txn, strerror(errno)));
	if (mill_body_truncated(txn))
		mill_log(txn, LOG_WARNING,
		    "virus: over max-size: only its beginning is scanned");
	if ((fd = content_make(txn, &len)) == -1)
		return (tempfail(txn, strerror(errno)));
	pool = take_pool(s);
	pool_scan(pool, fd, len, &reply);
	pool_unref(pool);
	(void)close(fd);
	switch (reply.result) {
	case SCAN_CLEAN:
		return (MILL_CONTINUE);
	case SCAN_VIRUS:
		if (strncmp(reply.text, "Heuristics.Limits.Exceeded", 26) == 0)
			return (over(txn, s, reply.text));
		return (found(txn, s, reply.text));
	default:
		return (tempfail(txn, reply.text));
	}
}

static const struct mill_filter filter = {
	.abi = MILL_ABI,
	.name = "milldam-virus",
	.options = options,
	.settings_size = sizeof(struct settings),
	.load = load,
	.unload = unload,
	.init = init,
	.fini = fini,
	.message = decide,
	.edits = MILL_EDIT_ADD_HEADER | MILL_EDIT_CHANGE_HEADER |
	    MILL_EDIT_QUARANTINE,
	.without = MILL_WITHOUT_HELO | MILL_WITHOUT_RCPTS,
	.max_body = 64 << 20,
};

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], ZYGOTE_ARGUMENT) == 0)
		return (zygote_main());
	return (mill_main(&filter, argc, argv));
}
