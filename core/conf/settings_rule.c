/* SPDX-License-Identifier: ISC */

/*
 * settings_rule - the rules of a policy: conditions
 *
 * Each value is taken apart here, once, so that nothing in it can be found
 * wrong when a client is waiting.
 */

#include "core/conf/reader.h"
#include "core/conf/rule.h"
#include "core/policy/pattern.h"
#include "core/policy/policy.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const rule_names[] = { "listener", "client", "client-name",
	"helo", "tls", "login", "sender", "sender-domain", "time", "recipient",
	"recipient-domain", "size", "header", "verdict", "table", "chain",
	"skip", "add", "mode", "on-failure", "timeout", "last", "on-mixed",
	NULL };

void
rule_fini(struct rule *r)
{
	size_t i, k;

	for (i = 0; i < r->n_conditions; i++) {
		struct condition *c = &r->conditions[i];

		for (k = 0; k < c->n_values; k++) {
			free(c->values[k].text);
			free(c->values[k].key);
			free(c->values[k].value);
		}
		free(c->values);
	}
	free(r->conditions);
	free(r->changes);
	free(r->title);
}

static char *
part(struct reader *r, const char *s, size_t n)
{
	char *copy = strndup(s, n);

	if (copy == NULL)
		r->no_memory = true;
	return (copy);
}

/* word_of - its index in words, or -1 */
static int
word_of(const char *s, const char *const *words)
{
	int i;

	for (i = 0; words[i] != NULL; i++)
		if (strcasecmp(s, words[i]) == 0)
			return (i);
	return (-1);
}

/* listener_is - listeners are read after policies: by name in the tree */
static const char *
listener_is(struct reader *r, const char *name)
{
	const struct conf_node *b;

	for (b = r->conf->nodes; b != NULL; b = b->next)
		if (b->is_block && strcmp(b->name, "listener") == 0 &&
		    b->title != NULL && strcmp(b->title, name) == 0)
			return (NULL);
	return ("no listener");
}

static const char *
parse_address(struct reader *r, struct match *m, bool sender)
{
	const char *at = strrchr(m->text, '@');

	if (strcmp(m->text, "*") == 0 ||
	    (sender && strcmp(m->text, "<>") == 0)) {
		m->key = part(r, m->text[0] == '*' ? "*" : "", 1);
		return (NULL);
	}
	if (at == NULL || at == m->text || at[1] == '\0' ||
	    strpbrk(m->text, "<> \t\r\n") != NULL)
		return (sender
		        ? "no address pattern: a@example.org, *@example.org, "
		          "a@*, <> or *"
		        : "no address pattern: a@example.org, *@example.org, "
		          "a@* or *");
	m->key = part(r, m->text, (size_t)(at - m->text));
	m->value = rd_copy(r, at + 1);
	return (NULL);
}

static const char *
parse_domain(const struct match *m)
{
	return (strpbrk(m->text, "@<> \t\r\n") != NULL
	        ? "no name or pattern of one: example.org, .example.org or "
	          "mx*.example.org"
	        : NULL);
}

static const char *
parse_size(struct match *m)
{
	static const char bad[] = "no size: >10M, <100K or 100K-10M";
	char from[32];
	const char *dash = strchr(m->text, '-');

	m->from = 0;
	m->to = UINT64_MAX;
	if (m->text[0] == '>') {
		if (conf_parse_size(m->text + 1, &m->from) == -1 ||
		    m->from++ == UINT64_MAX)
			return (bad);
		return (NULL);
	}
	if (m->text[0] == '<') {
		if (conf_parse_size(m->text + 1, &m->to) == -1 || m->to-- == 0)
			return (bad);
		return (NULL);
	}
	if (dash == NULL || (size_t)(dash - m->text) >= sizeof(from))
		return (bad);
	memcpy(from, m->text, (size_t)(dash - m->text));
	from[dash - m->text] = '\0';
	if (conf_parse_size(from, &m->from) == -1 ||
	    conf_parse_size(dash + 1, &m->to) == -1 || m->from > m->to)
		return (bad);
	return (NULL);
}

/* day_of - "mon" to "sun" at *p, which moves behind it; -1 */
static int
day_of(const char **p)
{
	static const char names[] = "montuewedthufrisatsun";
	int i;

	for (i = 0; i < 7; i++)
		if (strncasecmp(*p, names + 3 * i, 3) == 0) {
			*p += 3;
			return (i);
		}
	return (-1);
}

/* clock_of - "08:30" at *p, in minutes; 24:00 is the end of the day; -1 */
static int
clock_of(const char **p)
{
	const char *s = *p;
	int h, m;

	if (!isdigit((unsigned char)s[0]) || !isdigit((unsigned char)s[1]) ||
	    s[2] != ':' || !isdigit((unsigned char)s[3]) ||
	    !isdigit((unsigned char)s[4]))
		return (-1);
	h = (s[0] - '0') * 10 + s[1] - '0';
	m = (s[3] - '0') * 10 + s[4] - '0';
	*p += 5;
	return (h * 60 + m > 24 * 60 || m > 59 ? -1 : h * 60 + m);
}

/* parse_time - "[DAY[-DAY]] [HH:MM-HH:MM]" */
static const char *
parse_time(struct match *m)
{
	static const char bad[] =
	    "no time: mon-fri 08:00-18:00, sat, or 22:00-06:00";
	const char *p = m->text;
	int a, b;

	m->from = 0;
	m->to = 24 * 60;
	m->days = 0x7f;
	if ((a = day_of(&p)) != -1) {
		b = a;
		if (*p == '-') {
			p++;
			if ((b = day_of(&p)) == -1)
				return (bad);
		}
		m->days = 1u << b;
		for (; a != b; a = (a + 1) % 7)
			m->days |= 1u << a;
		if (*p == '\0')
			return (NULL);
		if (*p++ != ' ')
			return (bad);
	}
	if ((a = clock_of(&p)) == -1 || *p++ != '-' ||
	    (b = clock_of(&p)) == -1 || *p != '\0' || a == b || a == 24 * 60)
		return (bad);
	m->from = (uint64_t)a;
	m->to = (uint64_t)b;
	return (NULL);
}

/* parse_header - "Name" or "Name: pattern" */
static const char *
parse_header(struct reader *r, struct match *m)
{
	const char *colon = strchr(m->text, ':'), *p;
	size_t n = colon != NULL ? (size_t)(colon - m->text) : strlen(m->text);

	for (p = m->text; p < m->text + n; p++)
		if (*p <= ' ' || *p >= 127)
			break;
	if (n == 0 || p < m->text + n)
		return ("no header field: List-Id, or \"Subject: pattern\"");
	m->key = part(r, m->text, n);
	if (colon != NULL) {
		for (colon++; *colon == ' ' || *colon == '\t'; colon++)
			;
		m->value = rd_copy(r, colon);
	}
	return (NULL);
}

static const char *
parse_verdict(struct reader *r, struct match *m)
{
	static const char *const answers[] = { "continue", "accept",
		"quarantine", "failed", NULL };
	const char *equals = strrchr(m->text, '=');
	size_t i, n = equals != NULL ? (size_t)(equals - m->text) : 0;
	int word = equals != NULL ? word_of(equals + 1, answers) : -1;

	if (word == -1)
		return ("no verdict with which a chain goes on: NAME=continue, "
		        "NAME=accept, NAME=quarantine or NAME=failed");
	m->word = (unsigned)word;
	for (i = 0; i < r->s->n_milters; i++)
		if (strlen(r->s->milters[i].name) == n &&
		    memcmp(r->s->milters[i].name, m->text, n) == 0) {
			m->milter = i;
			return (NULL);
		}
	return ("of no milter");
}

/* parse_table - "KEY TABLE [PATTERN]" */
static const char *
parse_table(struct reader *r, struct match *m)
{
	static const char bad[] =
	    "no table look-up: KEY TABLE or KEY TABLE PATTERN; KEY is one of "
	    "listener, client, client-name, helo, login, sender, "
	    "sender-domain, recipient, recipient-domain";
	const char *p = m->text;
	size_t n = strcspn(p, " \t");
	enum condition_kind k;

	for (k = 0; k < COND_SIZE; k++)
		if (strlen(policy_condition_name(k)) == n &&
		    memcmp(policy_condition_name(k), p, n) == 0)
			break;
	if (k == COND_SIZE || k == COND_TLS || k == COND_TIME)
		return (bad);
	m->word = k;
	p += n;
	p += strspn(p, " \t");
	n = strcspn(p, " \t");
	if (n == 0)
		return (bad);
	m->key = part(r, p, n);
	if (m->key != NULL && !rd_is_table(m->key))
		return ("not text:, hash: or btree: and a full path");
	p += n;
	p += strspn(p, " \t");
	if (*p != '\0')
		m->value = rd_copy(r, p);
	return (NULL);
}

/* note_table - lookup opens it */
static void
note_table(struct reader *r, const char *table)
{
	char **item;
	size_t i;

	for (i = 0; table != NULL && i < r->s->n_tables; i++)
		if (strcmp(r->s->tables[i], table) == 0)
			return;
	if (table == NULL ||
	    (item = rd_grow(
	         r, &r->s->tables, &r->s->n_tables, sizeof(*item))) == NULL)
		return;
	if ((*item = rd_copy(r, table)) == NULL)
		r->s->n_tables--;
}

static const char *
parse_tls(struct match *m)
{
	static const char *const words[] = { "none", "any", "verified",
		"TLSv1.2", "TLSv1.3", NULL };
	int word = word_of(m->text, words);

	m->word = (unsigned)word;
	return (word == -1 ? "none of none, any, verified, TLSv1.2 or TLSv1.3"
	                   : NULL);
}

/* parse_match - NULL, or what is wrong with the value */
static const char *
parse_match(struct reader *r, enum condition_kind kind, struct match *m)
{
	if (m->text[0] == '\0')
		return ("empty");
	if (strlen(m->text) > PATTERN_MAX)
		return ("too long");
	switch (kind) {
	case COND_LISTENER:
		return (listener_is(r, m->text));
	case COND_CLIENT:
		return (
		    cidr_parse(m->text, &m->net) == -1 ? "no network" : NULL);
	case COND_TLS:
		return (parse_tls(m));
	case COND_SENDER:
	case COND_RECIPIENT:
		return (parse_address(r, m, kind == COND_SENDER));
	case COND_CLIENT_NAME:
	case COND_HELO:
	case COND_SENDER_DOMAIN:
	case COND_RECIPIENT_DOMAIN:
		return (parse_domain(m));
	case COND_TIME:
		return (parse_time(m));
	case COND_SIZE:
		return (parse_size(m));
	case COND_HEADER:
		return (parse_header(r, m));
	case COND_VERDICT:
		return (parse_verdict(r, m));
	case COND_TABLE:
		return (parse_table(r, m));
	default:
		return (NULL);
	}
}

static void
read_condition(struct reader *r, struct conf_node *n, enum condition_kind kind,
    struct rule *rule)
{
	struct condition *c =
	    rd_grow(r, &rule->conditions, &rule->n_conditions, sizeof(*c));
	const char *text, *wrong;
	struct match *m;
	size_t i;

	if (c == NULL)
		return;
	c->kind = kind;
	c->file = n->file;
	c->line = n->line;
	rule->asks |= COND_BIT(kind);
	if (n->n_values == 0 && n->is_list)
		conf_error(
		    r->conf, n, "%s: an empty list fits nothing", n->name);
	for (i = 0; i < n->n_values && !r->no_memory; i++) {
		m = rd_grow(r, &c->values, &c->n_values, sizeof(*m));
		text = n->values[i];
		if (m == NULL)
			return;
		m->except = text[0] == '!';
		m->milter = MILTER_NONE;
		m->text = rd_copy(r, text + m->except);
		wrong = m->text != NULL ? parse_match(r, kind, m) : NULL;
		if (wrong != NULL)
			conf_error(
			    r->conf, n, "%s: %s is %s", n->name, text, wrong);
		if (kind == COND_TABLE) {
			rule->asks |= COND_BIT(m->word);
			note_table(r, m->key);
		}
	}
}

enum mixed_action
read_on_mixed(struct reader *r, struct conf_node *n)
{
	static const char *const words[] = { "quarantine", "discard", "bounce",
		NULL };

	return ((enum mixed_action)conf_word(r->conf, n, words, 0));
}

/* read_rule_mixed - on-mixed is for the whole message, and what bounces must
 * come from somebody whose sender is not forged */
static void
read_rule_mixed(struct reader *r, struct conf_node *b, struct rule *rule)
{
	struct conf_node *n = conf_find(r->conf, b, "on-mixed");
	const uint32_t ours = COND_BIT(COND_CLIENT) | COND_BIT(COND_LOGIN);

	rule->has_on_mixed = n != NULL;
	rule->on_mixed = read_on_mixed(r, n);
	if (rule->on_mixed == MIXED_BOUNCE && (rule->asks & ours) == 0)
		conf_error(r->conf, n,
		    "on-mixed: bounce needs a rule with the client networks or "
		    "logins that are ours: others' senders may be forged");
	if (rule->has_on_mixed &&
	    (rule->asks &
	        (COND_CONTENT | COND_BIT(COND_RECIPIENT) |
	            COND_BIT(COND_RECIPIENT_DOMAIN))) != 0)
		conf_error(r->conf, n,
		    "on-mixed is for the whole message: not in a rule on "
		    "recipient, size, header or verdict");
}

void
read_rule(struct reader *r, struct conf_node *b, struct policy *p)
{
	enum condition_kind kind;
	struct conf_node *n;
	struct rule *rule;

	b->used = true;
	if ((rule = rd_grow(r, &p->rules, &p->n_rules, sizeof(*rule))) == NULL)
		return;
	rule->title = rd_copy(r, b->title != NULL ? b->title : "");
	rule->file = b->file;
	rule->line = b->line;
	if (b->title == NULL)
		conf_error(r->conf, b, "a rule needs a title");
	for (kind = 0; kind < COND_KINDS; kind++)
		if ((n = conf_find(r->conf, b, policy_condition_name(kind))) !=
		    NULL)
			read_condition(r, n, kind, rule);
	read_changes(r, b, p, rule);
	read_rule_mixed(r, b, rule);
	rule->last = conf_bool(r->conf, conf_find(r->conf, b, "last"), false);
	conf_unused(r->conf, b, rule_names);
}
