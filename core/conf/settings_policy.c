/* SPDX-License-Identifier: ISC */

/*
 * settings_policy - policies, their rules, and listeners
 *
 * What would let mail past its authoriser is a mistake here, before anything is
 * opened: an authoriser that a rule skips, that is not enforced, or whose
 * failure would count as consent.
 */

#include "core/conf/endpoint.h"
#include "core/conf/reader.h"
#include "core/conf/rule.h"
#include "core/policy/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const policy_names[] = { "authorise", "chain", "match",
	"rule", "on-mixed", "mixed", "parallel", "prdr", NULL };
static const char *const match_words[] = { "all", "first", NULL };
static const char *const mixed_words[] = { "split", "separate", NULL };
static const char *const listener_names[] = { "address", "policy", "record",
	NULL };

void
policy_fini(struct policy *p)
{
	size_t i;

	free(p->name);
	free(p->chain);
	free(p->reach);
	for (i = 0; i < p->n_rules; i++)
		rule_fini(&p->rules[i]);
	free(p->rules);
}

void
listener_fini(struct listener *l)
{
	free(l->name);
	free(l->record);
	rd_free_list(&l->addresses, &l->n_addresses);
}

long
find_milter(const struct settings *s, const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < s->n_milters; i++)
		if (strlen(s->milters[i].name) == len &&
		    memcmp(s->milters[i].name, name, len) == 0)
			return ((long)i);
	return (NOT_FOUND);
}

/* milter_list - indices of the milters that an option names */
static void
milter_list(struct reader *r, struct conf_node *n, size_t **list, size_t *count)
{
	size_t i, k, *item;
	long m;

	for (i = 0; n != NULL && i < n->n_values; i++) {
		m = find_milter(r->s, n->values[i], strlen(n->values[i]));
		if (m == NOT_FOUND) {
			conf_error(r->conf, n, "%s: there is no milter \"%s\"",
			    n->name, n->values[i]);
			continue;
		}
		for (k = 0; k < *count && (*list)[k] != (size_t)m; k++)
			;
		if (k < *count)
			conf_error(r->conf, n, "%s names \"%s\" twice", n->name,
			    n->values[i]);
		else if ((item = rd_grow(r, list, count, sizeof(*item))) !=
		    NULL)
			*item = (size_t)m;
	}
}

static void
read_authoriser(struct reader *r, struct conf_node *b, struct policy *p)
{
	struct conf_node *n = conf_find(r->conf, b, "authorise");
	const char *name = conf_string(r->conf, n, NULL);
	const struct milter_conf *m;
	long i;

	if (name == NULL)
		return; /* legal: every recipient is refused */
	if ((i = find_milter(r->s, name, strlen(name))) == NOT_FOUND) {
		conf_error(
		    r->conf, n, "authorise: there is no milter \"%s\"", name);
		return;
	}
	p->authoriser = (size_t)i;
	p->has_authoriser = true;
	m = &r->s->milters[i];
	if (m->mode != MODE_ENFORCE)
		conf_error(r->conf, n,
		    "the authoriser \"%s\" must have mode = enforce", name);
	if (m->sample < SAMPLE_ALL)
		conf_error(r->conf, n,
		    "the authoriser \"%s\" must see every message: no sample",
		    name);
	if (m->on_failure == FAIL_ACCEPT)
		conf_error(r->conf, n,
		    "the authoriser \"%s\" may not have on-failure = accept",
		    name);
}

/* authoriser_first - at the head of the chain, whether listed or not */
static void
authoriser_first(struct reader *r, struct policy *p)
{
	size_t i;

	for (i = 0; i < p->n_chain && p->chain[i] != p->authoriser; i++)
		;
	if (i == p->n_chain &&
	    rd_grow(r, &p->chain, &p->n_chain, sizeof(size_t)) == NULL)
		return;
	memmove(&p->chain[1], &p->chain[0], i * sizeof(size_t));
	p->chain[0] = p->authoriser;
}

static uint64_t
hash_add(uint64_t h, const char *s)
{
	for (; s != NULL && *s != '\0'; s++) /* FNV-1a: a name, not a seal */
		h = (h ^ (unsigned char)*s) * 0x100000001b3ull;
	return ((h ^ 0xff) * 0x100000001b3ull);
}

static uint64_t
hash_tree(uint64_t h, const struct conf_node *n)
{
	size_t i;

	for (; n != NULL; n = n->next) {
		h = hash_add(hash_add(h, n->name), n->title);
		for (i = 0; i < n->n_values; i++)
			h = hash_add(h, n->values[i]);
		h = hash_tree(h, n->children);
	}
	return (h);
}

/* set_reach - all milters that a session of this policy may be shown to */
static void
set_reach(struct reader *r, struct policy *p)
{
	size_t i, k, *item;

	for (i = 0; i < p->n_chain; i++)
		if ((item = rd_grow(
		         r, &p->reach, &p->n_reach, sizeof(*item))) != NULL)
			*item = p->chain[i];
	for (i = 0; i < p->n_rules; i++)
		for (k = 0; k < p->rules[i].n_changes; k++) {
			const struct change *c = &p->rules[i].changes[k];

			if ((c->kind != CHANGE_CHAIN &&
			        c->kind != CHANGE_ADD) ||
			    policy_reaches(p, c->milter))
				continue;
			item =
			    rd_grow(r, &p->reach, &p->n_reach, sizeof(*item));
			if (item != NULL)
				*item = c->milter;
		}
}

/* set_hash - of the policy's text and that of the milters it may ask */
static void
set_hash(struct reader *r, const struct conf_node *b, struct policy *p)
{
	uint64_t h = hash_tree(0xcbf29ce484222325ull, b->children);
	const struct conf_node *k;
	size_t i;

	for (i = 0; i < p->n_reach; i++)
		for (k = r->conf->nodes; k != NULL; k = k->next)
			if (k->is_block && strcmp(k->name, "milter") == 0 &&
			    k->title != NULL &&
			    strcmp(k->title, r->s->milters[p->reach[i]].name) ==
			        0)
				h = hash_tree(h, k->children);
	(void)snprintf(
	    p->hash, sizeof(p->hash), "%016llx", (unsigned long long)h);
}

static void
read_policy(struct reader *r, struct conf_node *b)
{
	struct conf_node *k, *n;
	struct policy *p;

	b->used = true;
	p = rd_grow(r, &r->s->policies, &r->s->n_policies, sizeof(*p));
	if (p == NULL)
		return;
	p->name = rd_copy(r, b->title != NULL ? b->title : "");
	if (b->title == NULL)
		conf_error(r->conf, b, "a policy needs a title");
	n = conf_find(r->conf, b, "chain");
	p->file = n != NULL ? n->file : b->file;
	p->line = n != NULL ? n->line : b->line;
	read_authoriser(r, b, p);
	milter_list(r, n, &p->chain, &p->n_chain);
	if (p->has_authoriser)
		authoriser_first(r, p);
	p->first = conf_word(r->conf, conf_find(r->conf, b, "match"),
	               match_words, 0) == 1;
	for (k = b->children; k != NULL; k = k->next)
		if (k->is_block && strcmp(k->name, "rule") == 0)
			read_rule(r, k, p);
	n = conf_find(r->conf, b, "on-mixed");
	p->on_mixed = read_on_mixed(r, n);
	if (p->on_mixed == MIXED_BOUNCE)
		conf_error(r->conf, n,
		    "on-mixed: bounce stands in a rule on client or login "
		    "only: a sender from elsewhere may be forged");
	p->separate = conf_word(r->conf, conf_find(r->conf, b, "mixed"),
	                  mixed_words, 0) == 1;
	p->serial =
	    !conf_bool(r->conf, conf_find(r->conf, b, "parallel"), true);
	p->prdr = conf_bool(r->conf, conf_find(r->conf, b, "prdr"), false);
	set_reach(r, p);
	check_changes(r, p);
	set_hash(r, b, p);
	conf_unused(r->conf, b, policy_names);
}

void
read_policies(struct reader *r)
{
	struct conf_node *b;

	for (b = r->conf->nodes; b != NULL && !r->no_memory; b = b->next)
		if (b->is_block && strcmp(b->name, "policy") == 0)
			read_policy(r, b);
}

static void
check_address(struct reader *r, struct conf_node *n, const char *text)
{
	unsigned char room[16];
	char *host = NULL;
	uint16_t port;

	if (hostport_parse(text, &host, &port) == -1 ||
	    (inet_pton(AF_INET, host, room) != 1 &&
	        inet_pton(AF_INET6, host, room) != 1))
		conf_error(r->conf, n,
		    "address: %s is not ADDRESS:PORT or [IPV6]:PORT", text);
	free(host);
}

static void
read_listener(struct reader *r, struct conf_node *b)
{
	struct conf_node *n;
	struct listener *l;
	const char *name;
	size_t i;

	b->used = true;
	l = rd_grow(r, &r->s->listeners, &r->s->n_listeners, sizeof(*l));
	if (l == NULL)
		return;
	l->name = rd_copy(r, b->title != NULL ? b->title : "");
	if (b->title == NULL)
		conf_error(r->conf, b, "a listener needs a title");
	n = conf_find(r->conf, b, "address");
	rd_list(r, b, "address", &l->addresses, &l->n_addresses);
	if (n == NULL)
		conf_error(r->conf, b, "a listener needs an address");
	for (i = 0; i < l->n_addresses && !r->no_memory; i++)
		check_address(r, n, l->addresses[i]);
	n = conf_find(r->conf, b, "policy");
	name = conf_string(r->conf, n, NULL);
	for (i = 0; i < r->s->n_policies; i++)
		if (name != NULL && strcmp(r->s->policies[i].name, name) == 0)
			break;
	if (name == NULL && r->s->n_policies == 1)
		i = 0;
	if (i == r->s->n_policies)
		conf_error(r->conf, n != NULL ? n : b,
		    name != NULL ? "there is no policy \"%s\""
		                 : "a listener needs a policy%s",
		    name != NULL ? name : "");
	l->policy = i;
	l->record = rd_path(r, conf_find(r->conf, b, "record"),
	    rd_string(r, b, "record", NULL));
	conf_unused(r->conf, b, listener_names);
}

void
read_listeners(struct reader *r)
{
	struct conf_node *b;

	for (b = r->conf->nodes; b != NULL && !r->no_memory; b = b->next)
		if (b->is_block && strcmp(b->name, "listener") == 0)
			read_listener(r, b);
}
