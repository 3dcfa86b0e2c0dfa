/* SPDX-License-Identifier: ISC */

/*
 * policy - milldamctl policy show, policy test
 *
 * These read the configuration themselves and ask no gateway, so that a change
 * can be tried before a reload; the hash tells whether a running gateway has
 * the same.
 */

#include "core/policy/policy.h"
#include "core/control/ctl.h"
#include "milter-sdk/map/map.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { RCPTS_MAX = 1000, FIELDS_MAX = 1000, SHOW_MAX = 16 << 20 };

struct test {
	struct settings *settings;
	const struct listener *listener;
	struct policy_facts facts;
	const char *rcpts[RCPTS_MAX];
	size_t n_rcpts;
	struct field fields[FIELDS_MAX];
	struct policy_verdict *verdicts;
	const char
	    *wanted[FIELDS_MAX]; /* --verdict, until there are settings */
	size_t n_wanted;
	const char *listener_name, *file;
	char name[INET6_ADDRSTRLEN + 3];
	struct policy_chain groups[RCPTS_MAX];
	size_t n_groups;
};

static struct settings *
read_file(const char *path)
{
	struct buf errors = BUF_INIT(1 << 20);
	struct settings *s = settings_read(path, &errors);

	if (s == NULL) {
		fputs(errors.data != NULL ? errors.data : "out of memory\n",
		    stderr);
		exit(EX_CONFIG);
	}
	buf_fini(&errors);
	return (s);
}

static void
policy_usage(void)
{
	fprintf(stderr,
	    "usage: milldamctl policy show [-f file] [policy]\n"
	    "       milldamctl [--json] policy test [-f file] "
	    "[--listener name]\n"
	    "           --client address [--name name] [--helo name] "
	    "[--tls version]\n"
	    "           [--login user] [--from address] [--to address ...]\n"
	    "           [--size bytes] [--header \"name: value\" ...] "
	    "[--no-header]\n"
	    "           [--verdict milter=word ...] "
	    "[--at \"YYYY-MM-DD HH:MM\"]\n");
	exit(EX_USAGE);
}

static int
show_policies(int argc, char **argv)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	const char *file = SYSCONFDIR "/milldam.conf", *name;
	struct buf out = BUF_INIT(SHOW_MAX);
	struct settings *s;
	bool found = false;
	size_t i;
	int ch;

	while ((ch = getopt_long(argc, argv, "f:", none, NULL)) != -1)
		if (ch == 'f')
			file = optarg;
		else
			policy_usage();
	if (argc - optind > 1)
		policy_usage();
	name = argv[optind];
	s = read_file(file);
	for (i = 0; i < s->n_policies; i++) {
		if (name != NULL && strcmp(s->policies[i].name, name) != 0)
			continue;
		if ((found && buf_add(&out, "\n", 1) == -1) ||
		    policy_show(s, i, &out) == -1)
			err(EX_OSERR, NULL);
		found = true;
	}
	if (name != NULL && !found)
		errx(1, "%s: no such policy in %s", name, file);
	if (out.data != NULL)
		fputs(out.data, stdout);
	buf_fini(&out);
	settings_unref(&s);
	return (0);
}

/* ask_table - opened for each key: this is for one look */
static int
ask_table(void *arg, const char *table, const char *key, struct buf *value)
{
	struct buf error = BUF_INIT(1024);
	struct map *map = map_open(table, &error);
	int rc;

	(void)arg;
	if (map == NULL)
		errx(1, "table %s: %s", table,
		    error.data != NULL ? error.data : "cannot be opened");
	if ((rc = map_get(map, key, value)) == -1)
		err(1, "table %s", table);
	map_free(&map);
	return (rc);
}

/* plain - an address without brackets */
static const char *
plain(char *s)
{
	size_t n = strlen(s);

	if (n >= 2 && s[0] == '<' && s[n - 1] == '>') {
		s[n - 1] = '\0';
		return (s + 1);
	}
	return (s);
}

static void
take_header(struct test *t, char *text)
{
	char *colon = strchr(text, ':');
	struct field *f = &t->fields[t->facts.n_fields];

	if (colon == NULL || colon == text || t->facts.n_fields == FIELDS_MAX)
		errx(EX_USAGE, "--header \"name: value\"");
	*colon = '\0';
	f->name = text;
	f->value = colon + 1;
	f->value_len = strlen(f->value);
	t->facts.n_fields++;
	t->facts.known |= COND_BIT(COND_HEADER);
}

static unsigned
take_time(const char *text)
{
	struct tm tm = { .tm_isdst = -1 };
	const char *end = strptime(text, "%Y-%m-%d %H:%M", &tm);
	time_t at;

	if (end == NULL || *end != '\0' || (at = mktime(&tm)) == -1)
		errx(EX_USAGE, "--at \"YYYY-MM-DD HH:MM\", local time");
	return (policy_week_minute(at));
}

enum {
	O_CLIENT = 256,
	O_NAME,
	O_HELO,
	O_LISTENER,
	O_TLS,
	O_LOGIN,
	O_FROM,
	O_TO,
	O_SIZE,
	O_HEADER,
	O_NO_HEADER,
	O_VERDICT,
	O_AT
};

static void
take_session(struct test *t, int option, char *text)
{
	struct policy_facts *f = &t->facts;
	uint8_t addr[16];

	switch (option) {
	case 'f':
		t->file = text;
		break;
	case O_LISTENER:
		t->listener_name = text;
		break;
	case O_CLIENT:
		if (cidr_parse_addr(text, addr) == -1)
			errx(EX_USAGE, "--client: %s is no address", text);
		f->client_addr = text;
		break;
	case O_NAME:
		f->client_name = text;
		break;
	case O_HELO:
		f->helo = text;
		f->known |= COND_BIT(COND_HELO);
		break;
	case O_TLS:
		f->tls_version = strcmp(text, "none") == 0 ? "" : text;
		break;
	case O_LOGIN:
		f->login = text;
		break;
	default:
		policy_usage();
	}
}

static void
take(struct test *t, int option, char *text)
{
	struct policy_facts *f = &t->facts;

	switch (option) {
	case O_FROM:
		f->sender = plain(text);
		f->known |=
		    COND_BIT(COND_SENDER) | COND_BIT(COND_SENDER_DOMAIN);
		break;
	case O_TO:
		if (t->n_rcpts == RCPTS_MAX)
			errx(EX_USAGE, "too many recipients");
		t->rcpts[t->n_rcpts++] = plain(text);
		break;
	case O_SIZE:
		if (conf_parse_size(text, &f->size) == -1)
			errx(EX_USAGE, "--size: %s is no size", text);
		f->known |= COND_BIT(COND_SIZE);
		break;
	case O_HEADER:
		take_header(t, text);
		break;
	case O_NO_HEADER:
		f->known |= COND_BIT(COND_HEADER);
		break;
	case O_VERDICT:
		if (t->n_wanted == FIELDS_MAX)
			errx(EX_USAGE, "too many verdicts");
		t->wanted[t->n_wanted++] = text;
		f->known |= COND_BIT(COND_VERDICT);
		break;
	case O_AT:
		f->week_minute = take_time(text);
		break;
	default:
		take_session(t, option, text);
		break;
	}
}

static void
parse_options(struct test *t, int argc, char **argv)
{
	static const struct option options[] = {
		{ "client", required_argument, NULL, O_CLIENT },
		{ "name", required_argument, NULL, O_NAME },
		{ "helo", required_argument, NULL, O_HELO },
		{ "listener", required_argument, NULL, O_LISTENER },
		{ "tls", required_argument, NULL, O_TLS },
		{ "login", required_argument, NULL, O_LOGIN },
		{ "from", required_argument, NULL, O_FROM },
		{ "to", required_argument, NULL, O_TO },
		{ "size", required_argument, NULL, O_SIZE },
		{ "header", required_argument, NULL, O_HEADER },
		{ "no-header", 0, NULL, O_NO_HEADER },
		{ "verdict", required_argument, NULL, O_VERDICT },
		{ "at", required_argument, NULL, O_AT },
		{ NULL, 0, NULL, 0 },
	};
	int ch;

	while ((ch = getopt_long(argc, argv, "f:", options, NULL)) != -1)
		take(t, ch, optarg);
	if (optind != argc || t->facts.client_addr == NULL)
		policy_usage();
	if (t->facts.client_name == NULL) {
		(void)snprintf(t->name, sizeof(t->name), "[%.*s]",
		    INET6_ADDRSTRLEN, t->facts.client_addr);
		t->facts.client_name = t->name;
	}
}

/* find_verdicts - "spam=accept" */
static void
find_verdicts(struct test *t)
{
	static const char *const words[] = { "continue", "accept", "quarantine",
		"failed" };
	const struct settings *s = t->settings;
	size_t i, m, n;
	unsigned w;

	t->verdicts = calloc(t->n_wanted + 1, sizeof(*t->verdicts));
	if (t->verdicts == NULL)
		err(EX_OSERR, NULL);
	for (i = 0; i < t->n_wanted; i++) {
		n = strcspn(t->wanted[i], "=");
		for (m = 0; m < s->n_milters; m++)
			if (strlen(s->milters[m].name) == n &&
			    memcmp(s->milters[m].name, t->wanted[i], n) == 0)
				break;
		for (w = 0; w < 4; w++)
			if (t->wanted[i][n] == '=' &&
			    strcmp(t->wanted[i] + n + 1, words[w]) == 0)
				break;
		if (m == s->n_milters || w == 4)
			errx(EX_USAGE,
			    "--verdict: %s is no MILTER=continue, accept, "
			    "quarantine or failed",
			    t->wanted[i]);
		t->verdicts[i].milter = m;
		t->verdicts[i].answer = (enum policy_answer)w;
	}
	t->facts.verdicts = t->verdicts;
	t->facts.n_verdicts = t->n_wanted;
}

static void
find_listener(struct test *t)
{
	const struct settings *s = t->settings;
	size_t i;

	if (s->n_listeners == 0)
		errx(1, "%s has no listener", t->file);
	for (i = 0; i < s->n_listeners; i++)
		if (t->listener_name == NULL ||
		    strcmp(s->listeners[i].name, t->listener_name) == 0)
			break;
	if (i == s->n_listeners)
		errx(EX_USAGE, "--listener: %s has no \"%s\"", t->file,
		    t->listener_name);
	t->listener = &s->listeners[i];
	t->facts.listener = t->listener->name;
}

/* why - "chain x:1; mode: rule "r" x:2", appended */
static void
why(struct buf *b, const char *what, const struct policy_by *by)
{
	int rc = b->len > 0 ? buf_add(b, "; ", 2) : 0;

	if (rc == 0 && what[0] != '\0')
		rc = buf_addf(b, "%s: ", what);
	if (rc == 0)
		rc = by->rule != NULL
		    ? buf_addf(b, "rule \"%s\" %s:%u", by->rule->title,
		          by->file, by->line)
		    : buf_addf(b, "chain %s:%u", by->file, by->line);
	if (rc == -1)
		err(EX_OSERR, NULL);
}

static void
explain_step(const struct policy_step *p, struct buf *b)
{
	why(b, "", p->skipped ? &p->skip : &p->in);
	if (p->skipped)
		return;
	if (p->by_mode.rule != NULL)
		why(b, "mode", &p->by_mode);
	if (p->by_failure.rule != NULL)
		why(b, "on-failure", &p->by_failure);
	if (p->by_limits.rule != NULL)
		why(b, "timeout", &p->by_limits);
}

static void
print_chain(const struct test *t, const struct policy_chain *c)
{
	struct table *table = table_new("  MILTER|MODE|ON FAILURE|WHY");
	size_t i;

	for (i = 0; i < c->n_steps; i++) {
		const struct policy_step *p = &c->steps[i];
		struct buf b = BUF_INIT(1 << 16);

		explain_step(p, &b);
		table_cell(table, p->skipped ? DIM : PLAIN, "  %s",
		    t->settings->milters[p->milter].name);
		table_cell(table,
		    p->skipped                    ? DIM
		        : p->mode != MODE_ENFORCE ? YELLOW
		                                  : PLAIN,
		    "%s", p->skipped ? "skipped" : policy_mode_name(p->mode));
		table_cell(table, PLAIN, "%s",
		    p->skipped ? "-" : policy_failure_name(p->on_failure));
		table_cell(table, PLAIN, "%s", b.data);
		buf_fini(&b);
	}
	table_print(&table);
	for (i = 0; i < c->n_open; i++)
		printf("  open: rule \"%s\" %s:%u needs to know more\n",
		    safe(c->open[i]->title, 100), c->open[i]->file,
		    c->open[i]->line);
}

static struct json_object *
json_by(const struct policy_by *by)
{
	struct json_object *o = json_object_new_object();

	if (by->rule != NULL)
		json_object_object_add(
		    o, "rule", json_object_new_string(by->rule->title));
	json_object_object_add(o, "file", json_object_new_string(by->file));
	json_object_object_add(
	    o, "line", json_object_new_int64((int64_t)by->line));
	return (o);
}

static struct json_object *
json_step(const struct test *t, const struct policy_step *p)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "milter",
	    json_object_new_string(t->settings->milters[p->milter].name));
	json_object_object_add(
	    o, "skipped", json_object_new_boolean(p->skipped));
	json_object_object_add(
	    o, "mode", json_object_new_string(policy_mode_name(p->mode)));
	json_object_object_add(o, "on_failure",
	    json_object_new_string(policy_failure_name(p->on_failure)));
	json_object_object_add(
	    o, "connect_ms", json_object_new_int64((int64_t)p->connect_ms));
	json_object_object_add(
	    o, "command_ms", json_object_new_int64((int64_t)p->command_ms));
	json_object_object_add(
	    o, "message_ms", json_object_new_int64((int64_t)p->message_ms));
	json_object_object_add(
	    o, "by", json_by(p->skipped ? &p->skip : &p->in));
	if (p->by_mode.rule != NULL)
		json_object_object_add(o, "mode_by", json_by(&p->by_mode));
	if (p->by_failure.rule != NULL)
		json_object_object_add(
		    o, "on_failure_by", json_by(&p->by_failure));
	if (p->by_limits.rule != NULL)
		json_object_object_add(o, "timeout_by", json_by(&p->by_limits));
	return (o);
}

static struct json_object *
json_chain(const struct test *t, const char *rcpt, size_t group,
    const struct policy_chain *c)
{
	struct json_object *o = json_object_new_object(),
	                   *steps = json_object_new_array(),
	                   *open = json_object_new_array();
	size_t i;

	for (i = 0; i < c->n_steps; i++)
		json_object_array_add(steps, json_step(t, &c->steps[i]));
	for (i = 0; i < c->n_open; i++) {
		const struct rule *r = c->open[i];

		json_object_array_add(
		    open, json_by(&(struct policy_by){ r, r->file, r->line }));
	}
	if (rcpt != NULL)
		json_object_object_add(
		    o, "recipient", json_object_new_string(rcpt));
	json_object_object_add(
	    o, "group", json_object_new_int64((int64_t)group));
	json_object_object_add(o, "chain", steps);
	json_object_object_add(o, "open", open);
	return (o);
}

/* group_of - from 1; takes the chain if it is a new one */
static size_t
group_of(struct test *t, struct policy_chain *c, bool *new_r)
{
	size_t i;

	for (i = 0; i < t->n_groups; i++)
		if (policy_chain_same(&t->groups[i], c))
			break;
	*new_r = i == t->n_groups;
	if (*new_r)
		t->groups[t->n_groups++] = *c;
	return (i + 1);
}

static void
one_recipient(struct test *t, const char *rcpt, struct json_object *all)
{
	struct policy_chain c;
	size_t group;
	bool new;

	t->facts.recipient = rcpt;
	if (rcpt != NULL)
		t->facts.known |=
		    COND_BIT(COND_RECIPIENT) | COND_BIT(COND_RECIPIENT_DOMAIN);
	if (policy_decide(t->settings, t->listener->policy, &t->facts, &c) ==
	    -1)
		err(EX_OSERR, NULL);
	group = group_of(t, &c, &new);
	if (all != NULL)
		json_object_array_add(all, json_chain(t, rcpt, group, &c));
	else {
		if (rcpt != NULL)
			printf(
			    "\nto <%s>, group %zu\n", safe(rcpt, 600), group);
		else
			printf("\n");
		print_chain(t, &c);
	}
	if (!new)
		policy_chain_fini(&c);
}

static int
test_policy(int argc, char **argv, bool json)
{
	struct test *t = calloc(1, sizeof(*t));
	struct json_object *all = NULL;
	const struct policy *p;
	size_t i;

	if (t == NULL)
		err(EX_OSERR, NULL);
	t->file = SYSCONFDIR "/milldam.conf";
	t->facts.known =
	    POLICY_AT_CONNECT | COND_BIT(COND_TLS) | COND_BIT(COND_LOGIN);
	t->facts.tls_version = t->facts.login = t->facts.helo = "";
	t->facts.sender = "";
	t->facts.fields = t->fields;
	t->facts.get = ask_table;
	t->facts.week_minute = policy_week_minute(time(NULL));
	parse_options(t, argc, argv);
	t->settings = read_file(t->file);
	find_listener(t);
	find_verdicts(t);
	p = &t->settings->policies[t->listener->policy];
	if (json)
		all = json_object_new_array();
	else
		printf("policy \"%s\" of listener \"%s\", hash %s\n", p->name,
		    t->listener->name, p->hash);
	for (i = 0; i < t->n_rcpts || i == 0; i++)
		one_recipient(t, t->n_rcpts > 0 ? t->rcpts[i] : NULL, all);
	if (json)
		printf("%s\n",
		    json_object_to_json_string_ext(all,
		        JSON_C_TO_STRING_PLAIN |
		            JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(all);
	for (i = 0; i < t->n_groups; i++)
		policy_chain_fini(&t->groups[i]);
	settings_unref(&t->settings);
	free(t->verdicts);
	free(t);
	return (0);
}

int
policy_command(int argc, char **argv, bool json)
{
	if (argc < 2)
		policy_usage();
	optind = 0; /* begin anew */
	if (strcmp(argv[1], "show") == 0)
		return (show_policies(argc - 1, argv + 1));
	if (strcmp(argv[1], "test") == 0)
		return (test_policy(argc - 1, argv + 1, json));
	policy_usage();
	return (EX_USAGE);
}
