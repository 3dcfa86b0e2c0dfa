/* SPDX-License-Identifier: ISC */

/* policy_print - a chain and the rule behind each step, for people or as JSON
 */

#include "core/control/policy_int.h"

#include <err.h>
#include <sysexits.h>

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

/* sample_text - ":10%", as a rule has it, where it makes a difference */
static const char *
sample_text(const struct policy_step *p, char *room, size_t n)
{
	room[0] = '\0';
	if (p->sample < SAMPLE_ALL && !p->skipped && p->mode != MODE_OFF)
		(void)snprintf(room, n, ":%u%%", p->sample);
	return (room);
}

void
policy_print(const struct test *t, const struct policy_chain *c)
{
	struct table *table = table_new("  MILTER|MODE|ON FAILURE|WHY");
	size_t i;

	for (i = 0; i < c->n_steps; i++) {
		const struct policy_step *p = &c->steps[i];
		struct buf b = BUF_INIT(1 << 16);
		char part[16];

		explain_step(p, &b);
		table_cell(table, p->skipped ? DIM : PLAIN, "  %s",
		    t->settings->milters[p->milter].name);
		table_cell(table,
		    p->skipped                    ? DIM
		        : p->mode != MODE_ENFORCE ? YELLOW
		                                  : PLAIN,
		    "%s%s", p->skipped ? "skipped" : policy_mode_name(p->mode),
		    sample_text(p, part, sizeof(part)));
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
	json_object_object_add(
	    o, "sample", json_object_new_int64((int64_t)p->sample));
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

struct json_object *
policy_json(const struct test *t, const char *rcpt, size_t group,
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
