/* SPDX-License-Identifier: ISC */

/* policy_try - milldamctl policy test: the chain that a session would get */

#include "core/control/policy_int.h"
#include "milter-sdk/map/map.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

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
		json_object_array_add(all, policy_json(t, rcpt, group, &c));
	else {
		if (rcpt != NULL)
			printf(
			    "\nto <%s>, group %zu\n", safe(rcpt, 600), group);
		else
			printf("\n");
		policy_print(t, &c);
	}
	if (!new)
		policy_chain_fini(&c);
}

int
policy_try(int argc, char **argv, bool json)
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
	t->settings = policy_read(t->file);
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
