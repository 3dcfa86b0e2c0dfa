/* SPDX-License-Identifier: ISC */

/*
 * record - what each milter answered and changed, for the decision record, the
 * log and the statistics.  Text from milters is escaped, cut and counted, so
 * that no milter makes a record large.
 */

#include "core/milter/chain_int.h"
#include "milter-sdk/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUMMARY_MAX = 4096 };

static void
count_verdict(struct mstate *s, char reply, const char *text)
{
	switch (reply) {
	case MILTER_ACCEPT:
		s->accepts++;
		break;
	case MILTER_REJECT:
		s->rejects++;
		break;
	case MILTER_TEMPFAIL:
		s->tempfails++;
		break;
	case MILTER_DISCARD:
		s->discards++;
		break;
	case MILTER_SHUTDOWN:
		s->shutdowns++;
		break;
	case MILTER_REPLYCODE:
		if (text != NULL && text[0] == '4')
			s->tempfails++;
		else
			s->rejects++;
		break;
	default:
		break;
	}
}

/* record_stage - one answer (or '-': none was due) */
void
record_stage(
    struct link *l, char cmd, char reply, uint64_t us, const char *text)
{
	struct mstate *s = l->state;
	struct stage_note *n;

	if (reply != '-') {
		s->answers++;
		s->total_us += us;
		if (us > s->max_us)
			s->max_us = us;
		count_verdict(s, reply, text);
		stats_answer(l, cmd, reply, us, text);
	}
	n = l->n_stages > 0 ? &l->stages[l->n_stages - 1] : NULL;
	if (n != NULL && n->cmd == cmd && n->reply == reply && text == NULL &&
	    n->text == NULL) {
		n->n++;
		n->us += us;
		return;
	}
	if (l->stages == NULL)
		l->stages = calloc(LINK_STAGES_MAX, sizeof(*l->stages));
	if (l->stages == NULL || l->n_stages == LINK_STAGES_MAX)
		return;
	n = &l->stages[l->n_stages++];
	n->cmd = cmd;
	n->reply = reply;
	n->n = 1;
	n->us = us;
	n->text = text != NULL ? strdup(text) : NULL;
}

/* clip - a copy cut to NOTE_TEXT bytes, or NULL */
static char *
clip(const char *s, size_t n)
{
	if (s == NULL)
		return (NULL);
	return (strndup(s, n < NOTE_TEXT ? n : NOTE_TEXT));
}

void
record_edit(struct link *l, char code, const char *what, const char *before,
    size_t before_len, const char *after, size_t after_len)
{
	struct edit_note *n;

	l->n_edits++;
	if (l->notes == NULL)
		l->notes = calloc(LINK_NOTES_MAX, sizeof(*l->notes));
	if (l->notes == NULL || l->n_notes == LINK_NOTES_MAX)
		return;
	n = &l->notes[l->n_notes++];
	n->code = code;
	n->what = clip(what, strlen(what));
	n->before = clip(before, before_len);
	n->after = clip(after, after_len);
}

void
record_cut(struct link *l, size_t n)
{
	while (l->n_stages > n)
		free(l->stages[--l->n_stages].text);
}

void
record_clear(struct link *l)
{
	record_cut(l, 0);
	while (l->n_notes > 0) {
		struct edit_note *n = &l->notes[--l->n_notes];

		free(n->what);
		free(n->before);
		free(n->after);
	}
	free(l->stages);
	free(l->notes);
	l->stages = NULL;
	l->notes = NULL;
	l->n_edits = 0;
	l->final = OUT_NONE;
	l->final_us = 0;
}

/* record_final - what became of the message at this milter, and how long all
 * its answers took */
void
record_final(struct link *l, enum outcome_kind kind)
{
	size_t i;

	l->final = kind;
	l->final_us = 0;
	for (i = 0; i < l->n_stages; i++)
		l->final_us += l->stages[i].us;
}

static const char *
stage_name(char cmd)
{
	switch (cmd) {
	case MILTER_CONNECT:
		return ("connect");
	case MILTER_HELO:
		return ("helo");
	case MILTER_MAIL:
		return ("mail");
	case MILTER_RCPT:
		return ("rcpt");
	case MILTER_DATA:
		return ("data");
	case MILTER_HEADER:
		return ("header");
	case MILTER_EOH:
		return ("eoh");
	case MILTER_BODY:
		return ("body");
	case MILTER_UNKNOWN:
		return ("unknown");
	default:
		return ("eom");
	}
}

static const char *
reply_name(char reply)
{
	switch (reply) {
	case MILTER_CONTINUE:
		return ("continue");
	case MILTER_ACCEPT:
		return ("accept");
	case MILTER_REJECT:
		return ("reject");
	case MILTER_TEMPFAIL:
		return ("tempfail");
	case MILTER_DISCARD:
		return ("discard");
	case MILTER_SHUTDOWN:
		return ("shutdown");
	case MILTER_SKIP:
		return ("skip");
	case MILTER_REPLYCODE:
		return ("reply");
	default:
		return ("none");
	}
}

static const char *
edit_name(char code)
{
	switch (code) {
	case MILTER_ADD_HEADER:
		return ("add-header");
	case MILTER_INSERT_HEADER:
		return ("insert-header");
	case MILTER_CHANGE_HEADER:
		return ("change-header");
	case MILTER_REPLACE_BODY:
		return ("replace-body");
	case MILTER_ADD_RCPT:
	case MILTER_ADD_RCPT_PAR:
		return ("add-rcpt");
	case MILTER_DEL_RCPT:
		return ("delete-rcpt");
	case MILTER_CHANGE_FROM:
		return ("change-from");
	default:
		return ("quarantine");
	}
}

static int
put_ms(struct buf *b, uint64_t us)
{
	return (buf_addf(b, ",\"ms\":%llu.%03llu",
	    (unsigned long long)(us / 1000), (unsigned long long)(us % 1000)));
}

static int
put_stages(const struct link *l, struct buf *b)
{
	size_t i;

	if (json_key(b, "stages") == -1 || buf_add(b, "[", 1) == -1)
		return (-1);
	for (i = 0; i < l->n_stages; i++) {
		const struct stage_note *n = &l->stages[i];

		if (buf_addf(b, "%s{\"stage\":\"%s\",\"reply\":\"%s\"",
		        i > 0 ? "," : "", stage_name(n->cmd),
		        reply_name(n->reply)) == -1 ||
		    put_ms(b, n->us) == -1 ||
		    (n->n > 1 && buf_addf(b, ",\"count\":%u", n->n) == -1) ||
		    (n->text != NULL &&
		        json_kv_str(b, "text", n->text) == -1) ||
		    buf_add(b, "}", 1) == -1)
			return (-1);
	}
	return (buf_add(b, "]", 1));
}

static int
put_edits(const struct link *l, struct buf *b)
{
	size_t i;

	if (l->n_edits == 0)
		return (0);
	if (json_key(b, "edits") == -1 || buf_add(b, "[", 1) == -1)
		return (-1);
	for (i = 0; i < l->n_notes; i++) {
		const struct edit_note *n = &l->notes[i];

		if (buf_addf(b, "%s{\"edit\":\"%s\"", i > 0 ? "," : "",
		        edit_name(n->code)) == -1 ||
		    (n->what != NULL && json_kv_str(b, "of", n->what) == -1) ||
		    (n->before != NULL &&
		        json_kv_str(b, "before", n->before) == -1) ||
		    (n->after != NULL &&
		        json_kv_str(b, "after", n->after) == -1) ||
		    buf_add(b, "}", 1) == -1)
			return (-1);
	}
	if (buf_add(b, "]", 1) == -1)
		return (-1);
	return (json_kv_num(b, "n_edits", l->n_edits));
}

/* mode_name - of the milter for those whose chain has it with that step */
static const char *
mode_name(
    const struct link *l, const struct group *g, const struct policy_step *step)
{
	static const char *const names[] = { "enforce", "shadow", "off",
		"drain" };

	if (l->drained || (step != NULL && step->skipped))
		return ("skipped");
	if (g != NULL)
		return (g->modes[l->index] == PICK_ABSENT
		        ? "off"
		        : names[g->modes[l->index]]);
	return (names[l->mode]);
}

/* put_by - a rule that decided something, by its place */
static int
put_by(struct buf *b, const char *name, const struct policy_by *by)
{
	char place[600];

	if (by->rule == NULL)
		return (0);
	(void)snprintf(place, sizeof(place), "%.550s:%u", by->file, by->line);
	return (json_kv_str(b, name, place));
}

/* put_sample - of a milter that is not shown every message; without "sampled"
 * it would not have been asked anyway */
static int
put_sample(const struct link *l, const struct policy_step *step, struct buf *b)
{
	const struct link *first = &l->chain->all[l->index];

	if (step == NULL || step->sample == SAMPLE_ALL || first->drained ||
	    !l->chain->message_seen || link_wanted(first, step) == MODE_OFF)
		return (0);
	return (buf_addf(b, ",\"sample\":%u,\"sampled\":%s", step->sample,
	    sample_left_out(first, step) ? "false" : "true"));
}

/* put_rules - who had the milter skipped, or put into the chain, or changed */
static int
put_rules(const struct policy_step *step, struct buf *b)
{
	const struct policy_by *by;

	if (step == NULL)
		return (0);
	by = step->skipped ? &step->skip : &step->in;
	if (by->rule != NULL && json_kv_str(b, "rule", by->rule->title) == -1)
		return (-1);
	return (put_by(b, "rule_at", by) == -1 ||
	            put_by(b, "mode_rule_at", &step->by_mode) == -1 ||
	            put_by(b, "on_failure_rule_at", &step->by_failure) == -1 ||
	            put_by(b, "timeout_rule_at", &step->by_limits) == -1
	        ? -1
	        : 0);
}

static int
put_link(const struct link *l, const char *mode, const struct policy_step *step,
    struct buf *b)
{
	const struct milter_conf *m = l->conf;
	size_t ep = l->endpoint < m->n_endpoints ? l->endpoint : 0;

	if (buf_add(b, "{", 1) == -1 || json_kv_str(b, "name", m->name) == -1)
		return (-1);
	if (step != NULL && step->skipped) /* for these recipients */
		return (json_kv_str(b, "mode", mode) == -1 ||
		            put_rules(step, b) == -1
		        ? -1
		        : buf_add(b, "}", 1));
	/* What it says comes in a record of its own. */
	if (!l->chain->detached && strcmp(mode, "shadow") == 0)
		return (json_kv_str(b, "mode", mode) == -1 ||
		            put_sample(l, step, b) == -1 ||
		            put_rules(step, b) == -1 ||
		            (l->unshown != NULL &&
		                json_kv_str(b, "not_shown", l->unshown) == -1)
		        ? -1
		        : buf_add(b, "}", 1));
	if (json_kv_str(b, "endpoint",
	        m->n_endpoints > 0 ? m->endpoints[ep].text : "") == -1 ||
	    json_kv_str(b, "mode", mode) == -1 ||
	    put_sample(l, step, b) == -1 || put_rules(step, b) == -1 ||
	    (l->extra && buf_addf(b, ",\"replay\":true") == -1) ||
	    json_kv_str(b, "verdict", outcome_word(l->final)) == -1 ||
	    put_stages(l, b) == -1 || put_edits(l, b) == -1)
		return (-1);
	if (l->dropped > 0 && json_kv_num(b, "dropped_edits", l->dropped) == -1)
		return (-1);
	/* One that was not heard may have been lost without anybody waiting. */
	if (!l->counts)
		return (buf_add(b, "}", 1));
	if (l->retold > 0 && json_kv_num(b, "replays", l->retold) == -1)
		return (-1);
	if (l->fault != NULL && json_kv_str(b, "fault", l->fault) == -1)
		return (-1);
	if (l->failed && l->why != NULL &&
	    json_kv_str(b, "failure", l->why) == -1)
		return (-1);
	return (buf_add(b, "}", 1));
}

/* session_of - the one that served the group, of the step's milter */
static const struct link *
session_of(
    const struct chain *c, const struct group *g, const struct policy_step *s)
{
	size_t i;

	for (i = 0; c->all[i].milter != s->milter; i++)
		;
	return (g != NULL && g->ran[i] != NULL ? g->ran[i] : &c->all[i]);
}

/* put_chain - of a group, or of the session while there is none */
static int
put_chain(const struct chain *c, const struct group *g, struct buf *out)
{
	const struct policy_chain *chain =
	    g != NULL ? &g->chain : &c->session_chain;
	size_t i;

	if (buf_add(out, "[", 1) == -1)
		return (-1);
	for (i = 0; i < chain->n_steps; i++) {
		const struct policy_step *step = &chain->steps[i];
		const struct link *l = session_of(c, g, step);

		if ((i > 0 && buf_add(out, ",", 1) == -1) ||
		    put_link(l, mode_name(l, g, step), step, out) == -1)
			return (-1);
	}
	return (buf_add(out, "]", 1));
}

/* step_of - of any group that has the milter, or would but for a sample */
static const struct policy_step *
step_of(const struct chain *c, const struct link *l)
{
	const struct policy_step *step, *left_out = NULL;
	size_t k;

	for (k = 0; k < c->n_groups; k++) {
		step = group_step(&c->groups[k], l);
		if (c->groups[k].modes[l->index] != PICK_ABSENT)
			return (step);
		if (step != NULL && !step->skipped && sample_left_out(l, step))
			left_out = step;
	}
	return (left_out);
}

/* put_all - of several groups together: every session once */
static int
put_all(const struct chain *c, struct buf *out)
{
	const struct policy_step *step;
	const struct link *l;
	size_t i;

	if (buf_add(out, "[", 1) == -1)
		return (-1);
	for (i = 0; i < c->n_links; i++) {
		l = c->links[i];
		step = step_of(c, l);
		if ((i > 0 && buf_add(out, ",", 1) == -1) ||
		    put_link(l, mode_name(l, NULL, step), step, out) == -1)
			return (-1);
	}
	for (l = c->extras; l != NULL; l = l->next)
		if (!l->unheard &&
		    (buf_add(out, ",", 1) == -1 ||
		        put_link(l, mode_name(l, NULL, NULL), NULL, out) == -1))
			return (-1);
	return (buf_add(out, "]", 1));
}

int
chain_record(const struct chain *c, struct buf *out)
{
	return (c->n_groups > 1
	        ? put_all(c, out)
	        : put_chain(c, c->n_groups == 1 ? c->groups : NULL, out));
}

int
chain_group_record(const struct chain *c, uint16_t group, struct buf *out)
{
	return (group < c->n_groups ? put_chain(c, &c->groups[group], out)
	                            : chain_record(c, out));
}

static int
sum_up(struct buf *b, const struct link *l, bool shadow)
{
	if (shadow && !l->chain->detached)
		return (buf_addf(
		    b, "%s%s=[shadow]", b->len > 0 ? " " : "", l->conf->name));
	if (buf_addf(b, "%s%s=%s", b->len > 0 ? " " : "", l->conf->name,
	        l->failed && l->counts ? "failed" : outcome_word(l->final)) ==
	        -1 ||
	    (l->final_us >= 1000 &&
	        buf_addf(b, "(%llums)",
	            (unsigned long long)(l->final_us / 1000)) == -1))
		return (-1);
	return (0);
}

/* sum_group - the milters of one group, or of all */
static int
sum_group(const struct chain *c, const struct group *g, struct buf *b)
{
	const struct link *l;
	size_t i;
	int r = 0;

	for (i = 0; i < c->n_links && r == 0; i++) {
		l = c->links[i];
		if (g != NULL) {
			if (g->modes[l->index] == PICK_ABSENT)
				continue;
			if (g->ran[l->index] != NULL)
				l = g->ran[l->index];
		} else if (l->skipped || l->mode == MODE_OFF)
			continue;
		r = sum_up(b, l,
		    (g != NULL ? g->modes[l->index] : (uint8_t)l->mode) ==
		        MODE_SHADOW);
	}
	return (r);
}

const char *
chain_group_summary(struct chain *c, uint16_t group)
{
	struct buf b = BUF_INIT(SUMMARY_MAX);
	const struct group *g = group < c->n_groups ? &c->groups[group] : NULL;

	if (g == NULL && c->n_groups == 1)
		g = c->groups;
	(void)!sum_group(c, g, &b);
	free(c->summary);
	c->summary = buf_take(&b, NULL);
	return (c->summary != NULL ? c->summary : "");
}

const char *
chain_summary(const struct chain *cc)
{
	/* The text is a cache, not part of the chain's meaning. */
	return (chain_group_summary(
	    (struct chain *)(uintptr_t)cc, CHAIN_GROUPS_MAX));
}
