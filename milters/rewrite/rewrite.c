/* SPDX-License-Identifier: ISC */

/*
 * milldam-rewrite - change header fields by rules, and masquerade addresses
 *
 * The engines are pure: rules.c works on a copy of the header, address.c on
 * one value.  Here are the settings, and the edits that make the difference
 * between what arrived and what the engines left.  Rules come first, so that
 * what they write is masqueraded too.  Any failure is a tempfail: a message
 * must not pass with half of its rules.
 */

#include "milters/rewrite/address.h"
#include "milters/rewrite/rules.h"

#include <errno.h>
#include <milldam/milldam.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>

struct settings {
	const char *masquerade_as;
	const char *const *masquerade_domains;
	const char *const *exposed_users;
	bool masquerade_envelope;
	bool masquerade_recipients;
	int64_t match_limit, depth_limit;
	uint64_t heap_limit;
	struct rules rules; /* made by load() */
	bool loaded;
};

#define AT(member) offsetof(struct settings, member)

static const struct mill_option options[] = {
	{ .name = "masquerade-as",
	    .type = MILL_STRING,
	    .offset = AT(masquerade_as),
	    .help = "domain to show instead of the masqueraded ones" },
	{ .name = "masquerade-domains",
	    .type = MILL_LIST,
	    .offset = AT(masquerade_domains),
	    .help = "domains to hide; .example.org is all below it" },
	{ .name = "exposed-users",
	    .type = MILL_LIST,
	    .offset = AT(exposed_users),
	    .help = "users whose addresses stay" },
	{ .name = "masquerade-envelope",
	    .type = MILL_BOOL,
	    .offset = AT(masquerade_envelope),
	    .value = "no",
	    .help = "also the envelope's sender" },
	{ .name = "masquerade-recipients",
	    .type = MILL_BOOL,
	    .offset = AT(masquerade_recipients),
	    .value = "no",
	    .help = "also To and Cc" },
	{ .name = "match-limit",
	    .type = MILL_INT,
	    .offset = AT(match_limit),
	    .value = "100000",
	    .help = "steps of one match",
	    .min = 100,
	    .max = 100000000 },
	{ .name = "depth-limit",
	    .type = MILL_INT,
	    .offset = AT(depth_limit),
	    .value = "1000",
	    .help = "depth of back-tracking of one match",
	    .min = 10,
	    .max = 1000000 },
	{ .name = "heap-limit",
	    .type = MILL_SIZE,
	    .offset = AT(heap_limit),
	    .value = "1M",
	    .help = "memory of one match",
	    .min = 16 << 10,
	    .max = 1 << 30 },
	{ .name = NULL },
};

/* load_rule - one block header "title" { ... } */
static int
load_rule(
    struct settings *s, struct mill_conf *conf, const struct mill_block *block)
{
	static const char *const actions[] = { "add", "insert", "change",
		"delete", NULL };
	struct rule_source src = { .title = mill_conf_title(block) };
	const char *option;
	char why[256] = "";

	src.name = mill_conf_string(conf, block, "name", NULL);
	src.in = mill_conf_string(conf, block, "in", NULL);
	src.match = mill_conf_string(conf, block, "match", NULL);
	src.value = mill_conf_string(conf, block, "value", NULL);
	if (!mill_conf_has(conf, block, "action")) {
		mill_conf_error(conf, block, NULL,
		    "action is needed: add, insert, change or delete");
		return (0);
	}
	src.action = (enum rule_action)mill_conf_word(
	    conf, block, "action", actions, -1);
	if ((int)src.action == -1)
		return (0); /* reported */
	if (rules_add(&s->rules, &src, &option, why, sizeof(why)) == 0)
		return (0);
	if (errno == ENOMEM)
		return (-1);
	mill_conf_error(conf, block, option, "%s%s%s",
	    option != NULL ? option : "", option != NULL ? ": " : "", why);
	return (0);
}

/* check_masquerade - what the table of options cannot say */
static void
check_masquerade(struct settings *s, struct mill_conf *conf)
{
	const char *d;
	size_t i;

	if (s->masquerade_as != NULL && !address_is_domain(s->masquerade_as))
		mill_conf_error(conf, NULL, "masquerade-as", "not a domain: %s",
		    s->masquerade_as);
	if (s->masquerade_as == NULL && s->masquerade_domains[0] != NULL)
		mill_conf_error(conf, NULL, "masquerade-domains",
		    "masquerade-as is needed with it");
	if (s->masquerade_as != NULL && s->masquerade_domains[0] == NULL)
		mill_conf_error(conf, NULL, "masquerade-as",
		    "masquerade-domains is needed with it");
	for (i = 0; (d = s->masquerade_domains[i]) != NULL; i++)
		if (!address_is_domain(*d == '.' ? d + 1 : d))
			mill_conf_error(conf, NULL, "masquerade-domains",
			    "not a domain: %s", d);
}

static int
load(void *settings, struct mill_conf *conf)
{
	struct settings *s = settings;
	struct rule_limits limits = { (uint32_t)s->match_limit,
		(uint32_t)s->depth_limit, (uint32_t)(s->heap_limit >> 10) };
	const struct mill_block *b;

	if (rules_init(&s->rules, &limits) == -1)
		goto bad;
	s->loaded = true;
	check_masquerade(s, conf);
	for (b = NULL; (b = mill_conf_next(conf, NULL, "header", b)) != NULL;)
		if (load_rule(s, conf, b) == -1)
			goto bad;
	return (0);
bad:
	mill_log(NULL, LOG_ERR, "rewrite: settings: %s", strerror(errno));
	return (-1);
}

static void
unload(void *settings)
{
	struct settings *s = settings;

	if (s->loaded)
		rules_fini(&s->rules);
}

static void
get_masquerade(const struct settings *s, struct masquerade *m)
{
	m->as = s->masquerade_as;
	m->domains = s->masquerade_domains;
	m->exposed = s->exposed_users;
}

/* failed - one line to the log, and the verdict */
static enum mill_verdict
failed(struct mill_txn *txn, const char *what, const char *why)
{
	mill_log(txn, LOG_ERR, "rewrite: %s: %s", what, why);
	return (mill_reply(txn, 451, "4.3.0", "Message cannot be rewritten"));
}

/* masquerade_sender - the envelope; 0, or -1 with errno */
static int
masquerade_sender(struct mill_txn *txn, const struct settings *s)
{
	struct masquerade m;
	const char *old = mill_sender(txn);
	char *text;
	int rc;

	get_masquerade(s, &m);
	if (!s->masquerade_envelope)
		return (0);
	if ((rc = address_masquerade(&m, old, &text)) != 1)
		return (rc);
	rc = mill_change_sender(txn, text, NULL);
	mill_log(
	    txn, LOG_INFO, "rewrite: sender: from=<%s>, to=<%s>", old, text);
	free(text);
	return (rc);
}

static bool
is_masqueraded(const struct settings *s, const char *name)
{
	static const char *const names[] = { "From", "Reply-To", "Sender",
		"Resent-From", "Resent-Reply-To", "Resent-Sender", "To", "Cc",
		"Resent-To", "Resent-Cc" };
	size_t i, n = s->masquerade_recipients ? 10 : 6;

	if (s->masquerade_as == NULL)
		return (false);
	for (i = 0; i < n; i++)
		if (strcasecmp(name, names[i]) == 0)
			return (true);
	return (false);
}

/* edit_field - tell the MTA what became of field i.  0, or -1 with errno. */
static int
edit_field(struct mill_txn *txn, const struct settings *s,
    const struct field *f, size_t i)
{
	struct masquerade m;
	const char *raw = mill_header_raw(txn, i);
	const char *value = f->text != NULL ? f->text : raw;
	char *text = NULL;
	int rc = 0;

	if (f->deleted)
		return (mill_delete_header(txn, f->name, f->nth));
	get_masquerade(s, &m);
	if (is_masqueraded(s, f->name)) {
		if (address_masquerade_field(&m, value, &text) == -1)
			return (-1);
		if (text != NULL)
			value = text;
	}
	if (value != raw && strcmp(value, raw) != 0)
		rc = mill_change_header(txn, f->name, f->nth, value);
	free(text);
	return (rc);
}

/* add_fields - the new ones; of several inserted ones the first is on top */
static int
add_fields(struct mill_txn *txn, const struct header *h)
{
	const struct new_field *f;
	unsigned top = 0;
	size_t i;

	for (i = 0; i < h->n_added; i++) {
		f = &h->added[i];
		if (f->insert) {
			if (mill_insert_header(txn, top++, f->name, f->value) ==
			    -1)
				return (-1);
		} else if (mill_add_header(txn, f->name, f->value) == -1) {
			return (-1);
		}
	}
	return (0);
}

/* edit - the difference between what arrived and the working copy */
static int
edit(struct mill_txn *txn, const struct settings *s, const struct header *h)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		if (edit_field(txn, s, &h->fields[i], i) == -1)
			return (-1);
	return (add_fields(txn, h));
}

/* decide - after the header: all is known that this filter looks at */
static enum mill_verdict
decide(struct mill_txn *txn)
{
	const struct settings *s = mill_settings(txn);
	enum mill_verdict verdict = MILL_CONTINUE;
	const char *title = "";
	struct header h;
	char why[256] = "";
	size_t i;

	if (header_init(&h, mill_n_headers(txn)) == -1)
		return (failed(txn, "header", strerror(errno)));
	for (i = 0; i < h.n; i++) {
		h.fields[i].name = mill_header_name(txn, i);
		h.fields[i].value = mill_header_value(txn, i);
		h.fields[i].nth = mill_header_nth(txn, i);
	}
	if (rules_apply(&s->rules, &h, &title, why, sizeof(why)) == -1) {
		mill_log(txn, LOG_ERR, "rewrite: rule \"%s\": %s", title, why);
		verdict = mill_reply(
		    txn, 451, "4.3.0", "Message cannot be rewritten");
	} else if (edit(txn, s, &h) == -1) {
		verdict = failed(txn, "edit", strerror(errno));
	} else if (masquerade_sender(txn, s) == -1) {
		verdict = failed(txn, "sender", strerror(errno));
	}
	header_fini(&h);
	return (verdict);
}

static const struct mill_filter filter = {
	.abi = MILL_ABI,
	.name = "milldam-rewrite",
	.options = options,
	.settings_size = sizeof(struct settings),
	.load = load,
	.unload = unload,
	.headers = decide,
	.edits =
	    MILL_EDIT_ADD_HEADER | MILL_EDIT_CHANGE_HEADER | MILL_EDIT_SENDER,
	.without = MILL_WITHOUT_CLIENT | MILL_WITHOUT_HELO | MILL_WITHOUT_RCPTS,
};

int
main(int argc, char **argv)
{
	return (mill_main(&filter, argc, argv));
}
