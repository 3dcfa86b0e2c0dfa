/* SPDX-License-Identifier: ISC */

/* show - a policy as it is after all files are merged, in their language */

#include "core/policy/policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *
policy_condition_name(enum condition_kind kind)
{
	static const char *const names[COND_KINDS] = { "listener", "client",
		"client-name", "helo", "tls", "login", "sender",
		"sender-domain", "time", "recipient", "recipient-domain",
		"size", "header", "verdict", "table" };

	return (kind < COND_KINDS ? names[kind] : "");
}

const char *
policy_mode_name(enum milter_mode mode)
{
	static const char *const names[] = { "enforce", "shadow", "off",
		"drain" };

	return (names[mode]);
}

const char *
policy_failure_name(enum fail_action action)
{
	static const char *const names[] = { "tempfail", "accept", "reject",
		"quarantine", "shutdown" };

	return (names[action]);
}

static const char *const mixed_words[] = { "quarantine", "discard", "bounce" };

/* put_quoted - as the parser reads it */
static int
put_quoted(struct buf *b, const char *prefix, const char *s)
{
	const char *p;
	int rc = buf_addf(b, "\"%s", prefix);

	for (p = s; *p != '\0' && rc == 0; p++) {
		if (*p == '\n' || *p == '\t')
			rc = buf_add(b, *p == '\n' ? "\\n" : "\\t", 2);
		else if (*p == '"' || *p == '\\')
			rc = buf_addf(b, "\\%c", *p);
		else
			rc = buf_add(b, p, 1);
	}
	return (rc == 0 ? buf_add(b, "\"", 1) : -1);
}

static int
put_place(struct buf *b, const char *file, unsigned line)
{
	return (file != NULL ? buf_addf(b, "\t# %s:%u\n", file, line)
	                     : buf_add(b, "\n", 1));
}

static int
put_condition(struct buf *b, const struct condition *c)
{
	size_t i;

	if (buf_addf(b, "\t\t%s = {", policy_condition_name(c->kind)) == -1)
		return (-1);
	for (i = 0; i < c->n_values; i++)
		if (buf_add(b, i > 0 ? ", " : "", i > 0 ? 2 : 0) == -1 ||
		    put_quoted(b, c->values[i].except ? "!" : "",
		        c->values[i].text) == -1)
			return (-1);
	return (buf_add(b, "}", 1) == -1 ? -1 : put_place(b, c->file, c->line));
}

/* option_of - the option that says such a change */
static const char *
option_of(enum change_kind kind)
{
	switch (kind) {
	case CHANGE_CHAIN:
		return ("chain");
	case CHANGE_SKIP:
		return ("skip");
	case CHANGE_ADD:
		return ("add");
	case CHANGE_MODE:
		return ("mode");
	case CHANGE_ON_FAILURE:
		return ("on-failure");
	default:
		return ("timeout");
	}
}

static int
put_change(struct buf *b, const struct settings *s, const struct change *c)
{
	const char *name = s->milters[c->milter].name;

	switch (c->kind) {
	case CHANGE_CHAIN:
	case CHANGE_SKIP:
		return (buf_addf(b, "\"%s\"", name));
	case CHANGE_ADD:
		if (c->before == MILTER_NONE)
			return (buf_addf(b, "\"%s\"", name));
		return (buf_addf(
		    b, "\"%s before %s\"", name, s->milters[c->before].name));
	case CHANGE_MODE:
		return (
		    buf_addf(b, "\"%s=%s", name,
		        policy_mode_name((enum milter_mode)c->value)) == -1 ||
		            (c->sample < SAMPLE_ALL &&
		                buf_addf(b, ":%u%%", c->sample) == -1)
		        ? -1
		        : buf_add(b, "\"", 1));
	case CHANGE_ON_FAILURE:
		return (buf_addf(b, "\"%s=%s\"", name,
		    policy_failure_name((enum fail_action)c->value)));
	case CHANGE_CONNECT_MS:
		return (buf_addf(
		    b, "\"%s.connect=%" PRIu64 "ms\"", name, c->value));
	case CHANGE_COMMAND_MS:
		return (buf_addf(
		    b, "\"%s.command=%" PRIu64 "ms\"", name, c->value));
	case CHANGE_MESSAGE_MS:
		return (buf_addf(
		    b, "\"%s.message=%" PRIu64 "ms\"", name, c->value));
	}
	return (0);
}

static int
put_rule(struct buf *b, const struct settings *s, const struct rule *r)
{
	const char *option = "";
	size_t i;

	if (buf_add(b, "\n\trule ", 7) == -1 ||
	    put_quoted(b, "", r->title) == -1 || buf_add(b, " {", 2) == -1 ||
	    put_place(b, r->file, r->line) == -1)
		return (-1);
	for (i = 0; i < r->n_conditions; i++)
		if (put_condition(b, &r->conditions[i]) == -1)
			return (-1);
	for (i = 0; i < r->n_changes; i++) {
		const struct change *c = &r->changes[i];
		const char *mine = option_of(c->kind);
		bool more = i + 1 < r->n_changes &&
		    strcmp(mine, option_of(c[1].kind)) == 0;

		if ((strcmp(mine, option) != 0 ? buf_addf(b, "\t\t%s = {", mine)
		                               : buf_add(b, ", ", 2)) == -1 ||
		    put_change(b, s, c) == -1)
			return (-1);
		option = mine;
		if (!more &&
		    (buf_add(b, "}", 1) == -1 ||
		        put_place(b, c->file, c->line) == -1))
			return (-1);
	}
	if (r->has_on_mixed &&
	    buf_addf(b, "\t\ton-mixed = %s\n", mixed_words[r->on_mixed]) == -1)
		return (-1);
	if (r->last && buf_addf(b, "\t\tlast = yes\n") == -1)
		return (-1);
	return (buf_addf(b, "\t}\n"));
}

int
policy_show(const struct settings *s, size_t policy, struct buf *b)
{
	const struct policy *p = &s->policies[policy];
	size_t i;

	if (buf_add(b, "policy ", 7) == -1 ||
	    put_quoted(b, "", p->name) == -1 ||
	    buf_addf(b, " {\t# hash %s\n", p->hash) == -1 ||
	    (p->has_authoriser &&
	        buf_addf(b, "\tauthorise = \"%s\"\n",
	            s->milters[p->authoriser].name) == -1) ||
	    buf_addf(b, "\tmatch = \"%s\"\n", p->first ? "first" : "all") ==
	        -1 ||
	    buf_addf(b, "\ton-mixed = %s\n\tmixed = %s\n\tprdr = %s\n",
	        mixed_words[p->on_mixed], p->separate ? "separate" : "split",
	        p->prdr ? "yes" : "no") == -1 ||
	    buf_addf(b, "\tchain = {") == -1)
		return (-1);
	for (i = 0; i < p->n_chain; i++)
		if (buf_addf(b, "%s\"%s\"", i > 0 ? ", " : "",
		        s->milters[p->chain[i]].name) == -1)
			return (-1);
	if (buf_add(b, "}", 1) == -1 || put_place(b, p->file, p->line) == -1)
		return (-1);
	for (i = 0; i < p->n_rules; i++)
		if (put_rule(b, s, &p->rules[i]) == -1)
			return (-1);
	return (buf_add(b, "}\n", 2));
}
