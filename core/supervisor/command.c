/* SPDX-License-Identifier: ISC */

/*
 * command - what milldamctl(8) may ask of the supervisor
 */

#include "config.h"

#include "core/supervisor/control.h"

#include "milter-sdk/base/json.h"
#include "milter-sdk/base/metric.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void
say_ok(struct client *c)
{
	client_say(c, "{\"ok\":true}", strlen("{\"ok\":true}"));
	client_end(c);
}

static const struct part *
part_of(const struct client *c, const struct process *p)
{
	size_t i;

	for (i = 0; i < c->n_parts; i++)
		if (c->parts[i].from == p && c->parts[i].ref == 0 &&
		    c->parts[i].text.len > 0)
			return (&c->parts[i]);
	return (NULL);
}

/* add_processes - "processes":[...] with each one's own answer as key */
static int
add_processes(struct client *c, struct buf *b, const char *key)
{
	const struct sup *sup = c->sup;
	uint64_t now = sup_now_ms();
	const struct part *part;
	size_t i;
	int rc = json_key(b, "processes");

	rc |= buf_add(b, "[", 1);
	for (i = 0; i < sup->n_procs; i++) {
		const struct process *p = sup->procs[i];

		if (p->gone)
			continue;
		if (b->data[b->len - 1] != '[')
			rc |= buf_add(b, ",", 1);
		rc |= buf_add(b, "{", 1);
		rc |= json_kv_str(b, "name", p->name);
		rc |= json_kv_num(b, "pid", (uint64_t)p->pid);
		rc |= json_kv_num(b, "uptime_s",
		    p->pid == 0 ? 0 : (now - p->started_ms) / 1000);
		rc |= json_kv_num(b, "restarts", p->restarts);
		rc |= json_kv_str(b, "state",
		    p->pid == 0                       ? "down"
		        : p->ops != NULL && !p->ready ? "starting"
		                                      : "running");
		if ((part = part_of(c, p)) != NULL) {
			rc |= json_key(b, key);
			rc |= buf_add(b, part->text.data, part->text.len);
		}
		rc |= buf_add(b, "}", 1);
	}
	return (rc | buf_add(b, "]", 1));
}

static int
add_states(const struct sup *sup, struct buf *b)
{
	size_t i;
	int rc = json_key(b, "states");

	rc |= buf_add(b, "{", 1);
	for (i = 0; i < sup->n_states; i++)
		rc |= json_kv_str(b, sup->states[i][0], sup->states[i][1]);
	return (rc | buf_add(b, "}", 1));
}

static int
add_alarms(const struct sup *sup, struct buf *b)
{
	size_t n = sup->n_alarms < ALARMS_MAX ? sup->n_alarms : ALARMS_MAX, i;
	int rc = json_key(b, "alarms");

	rc |= buf_add(b, "[", 1);
	for (i = 0; i < n; i++) {
		const struct alarm_note *a =
		    &sup->alarms[(sup->n_alarms - n + i) % ALARMS_MAX];

		rc |= buf_add(b, i > 0 ? ",{" : "{", i > 0 ? 2 : 1);
		rc |= json_kv_num(b, "time", a->at_ms / 1000);
		rc |= json_kv_str(b, "kind", a->kind);
		rc |= json_kv_str(b, "text", a->text);
		rc |= buf_add(b, "}", 1);
	}
	rc |= buf_add(b, "]", 1);
	return (rc | json_kv_num(b, "alarms_total", sup->n_alarms));
}

static void
say_buf(struct client *c, struct buf *b, int rc)
{
	if (rc != 0)
		client_error(c, "the answer is too long");
	else {
		client_say(c, b->data, b->len);
		client_end(c);
	}
	buf_fini(b);
}

static void
status_gathered(struct client *c)
{
	const struct sup *sup = c->sup;
	struct buf b = BUF_INIT(16 << 20);
	int rc = buf_add(&b, "{", 1);

	rc |= json_kv_str(&b, "hostname", sup->settings->hostname);
	rc |= json_kv_str(&b, "version", PACKAGE_VERSION);
	rc |= json_kv_str(&b, "state",
	    sup->phase != RUNNING ? "stopping"
	        : sup->accepting  ? "running"
	                          : "starting");
	rc |= add_processes(c, &b, "info");
	rc |= add_states(sup, &b);
	rc |= add_alarms(sup, &b);
	rc |= buf_add(&b, "}", 1);
	say_buf(c, &b, rc);
}

static void
probe_gathered(struct client *c)
{
	struct buf b = BUF_INIT(1 << 20);
	int rc = buf_add(&b, "{", 1);

	rc |= add_processes(c, &b, "probe");
	rc |= buf_add(&b, "}", 1);
	say_buf(c, &b, rc);
}

/* is_ready - mail can be taken and moved; the names of what is missing into
 * problems.  Without the page that tells it mail goes on: web does not count.
 */
static bool
is_ready(const struct sup *sup, struct buf *problems)
{
	bool ready = sup->phase == RUNNING && sup->accepting;
	size_t i;

	for (i = 0; i < sup->n_procs; i++) {
		const struct process *p = sup->procs[i];

		if (p->gone || (p->pid != 0 && (p->ops == NULL || p->ready)))
			continue;
		if (p->ops == NULL || p->ops->kind != PROC_WEB)
			ready = false;
		if (problems == NULL)
			continue;
		if (problems->data[problems->len - 1] != '[')
			(void)!buf_add(problems, ",", 1);
		(void)!json_str(problems, p->name);
	}
	return (ready);
}

/* health - live: the supervisor answers */
static void
health(struct client *c)
{
	struct buf b = BUF_INIT(1 << 16);
	bool ready;
	int rc = buf_add(&b, "{\"live\":true", strlen("{\"live\":true"));

	rc |= json_key(&b, "problems") | buf_add(&b, "[", 1);
	ready = rc == 0 && is_ready(c->sup, &b);
	rc |= buf_add(&b, "]", 1);
	rc |= json_key(&b, "ready");
	rc |= buf_addf(&b, "%s}", ready ? "true" : "false");
	say_buf(c, &b, rc);
}

/* add_own - what the supervisor itself knows */
static int
add_own(struct client *c, struct buf *b)
{
	const struct sup *sup = c->sup;
	size_t i, k;
	int rc = 0;

	for (i = 0; i < sup->n_procs; i++) {
		const struct process *p = sup->procs[i];

		if (p->gone)
			continue;
		rc |= metric_put(b, p->pid != 0, "milldam_process_up",
		          "process", p->name, NULL) |
		    metric_put(b, p->restarts, "milldam_process_restarts_total",
		        "process", p->name, NULL);
		if (p->ops == NULL)
			continue;
		for (k = 0; k < c->n_parts; k++)
			if (c->parts[k].from == p && c->parts[k].ref == 0 &&
			    !c->parts[k].lost)
				break;
		rc |= metric_put(b, k < c->n_parts, "milldam_process_answers",
		    "process", p->name, NULL);
	}
	return (rc |
	    metric_put(b, sup->n_alarms, "milldam_alarms_total", NULL) |
	    metric_put(b, is_ready(sup, NULL), "milldam_ready", NULL));
}

/* metrics_gathered - for the web process, which makes a page of it */
static void
metrics_gathered(struct client *c)
{
	struct buf b = BUF_INIT(16 << 20);
	size_t i;
	int rc = add_own(c, &b);

	for (i = 0; i < c->n_parts; i++)
		if (part_of(c, c->parts[i].from) != NULL)
			rc |= buf_addf(&b, "# process %s\n",
			          c->parts[i].from->name) |
			    buf_add(&b, c->parts[i].text.data,
			        c->parts[i].text.len);
	say_buf(c, &b, rc);
}

static void
reload(struct client *c)
{
	struct buf errors = BUF_INIT(1 << 20);

	/* "done" once all have it: a child answers after it has reloaded. */
	if (sup_reload(c->sup, &errors) == 0)
		gather_start(c, PROC_KINDS, "status", say_ok);
	else
		client_error(c, errors.data != NULL ? errors.data : "refused");
	buf_fini(&errors);
}

static void
set_state(struct client *c, const char *name, const char *value)
{
	if (state_set(c->sup, name, value) == 0)
		gather_start(c, PROC_KINDS, "status", say_ok); /* all have it */
	else
		client_error(c, strerror(errno));
}

/* authorises - some policy asks the milter who may relay */
static bool
authorises(const struct settings *s, size_t milter)
{
	size_t i;

	for (i = 0; i < s->n_policies; i++)
		if (s->policies[i].has_authoriser &&
		    s->policies[i].authoriser == milter)
			return (true);
	return (false);
}

static void
milter_mode(struct client *c, const char *name, const char *mode)
{
	static const char *const modes[] = { "enforce", "shadow", "off",
		"drain" };
	const struct settings *s = c->sup->settings;
	char key[128];
	size_t i, m;

	for (i = 0; i < s->n_milters; i++)
		if (strcmp(s->milters[i].name, name) == 0)
			break;
	for (m = 0; m < 4 && strcmp(modes[m], mode) != 0; m++)
		;
	if (i == s->n_milters)
		client_error(c, "no such milter in the configuration");
	else if (m == 4)
		client_error(c, "a mode is enforce, shadow, off or drain");
	else if ((m == 1 || m == 2) && authorises(s, i))
		client_error(c,
		    "it authorises relaying: without its word "
		    "every recipient is refused");
	else {
		(void)snprintf(key, sizeof(key), "milter.%s", name);
		set_state(c, key, mode);
	}
}

static void
pause_or_resume(struct client *c, const char *what, bool resume)
{
	if (strcmp(what, "accept") != 0 && strcmp(what, "delivery") != 0)
		client_error(c, "say accept or delivery");
	else
		set_state(c, what, resume ? "running" : "paused");
}

static void
own_command(struct client *c, char **w, size_t n)
{
	if (n == 1 && strcmp(w[0], "status") == 0)
		gather_start(c, PROC_KINDS, "status", status_gathered);
	else if (n == 1 && strcmp(w[0], "probe") == 0)
		gather_start(c, PROC_KINDS, "probe", probe_gathered);
	else if (n == 1 && strcmp(w[0], "metrics") == 0)
		gather_start(c, PROC_KINDS, "metrics", metrics_gathered);
	else if (n == 1 && strcmp(w[0], "health") == 0)
		health(c);
	else if (n == 1 && strcmp(w[0], "reload") == 0)
		reload(c);
	else if (n == 1 && strcmp(w[0], "stop") == 0) {
		say_ok(c);
		sup_stop(c->sup);
	} else if (n == 1 && strcmp(w[0], "reopen") == 0) {
		spawn_broadcast(c->sup, MSG_REOPEN, NULL);
		say_ok(c);
	} else if (n == 3 && strcmp(w[0], "milter") == 0)
		milter_mode(c, w[1], w[2]);
	else if (n == 2 && strcmp(w[0], "pause") == 0)
		pause_or_resume(c, w[1], false);
	else if (n == 2 && strcmp(w[0], "resume") == 0)
		pause_or_resume(c, w[1], true);
	else
		client_error(c, "unknown command");
}

void
control_run(struct client *c)
{
	char copy[sizeof(c->room)], *words[4], *p = copy, *word;
	size_t n = 0;

	(void)snprintf(copy, sizeof(copy), "%s", c->line);
	while ((word = strsep(&p, " ")) != NULL)
		if (word[0] != '\0' && n < 4)
			words[n++] = word;
	if (n == 0)
		client_error(c, "empty command");
	else if (c->asks &&
	    (n != 1 ||
	        (strcmp(words[0], "metrics") != 0 &&
	            strcmp(words[0], "health") != 0)))
		client_error(c, "not for this process");
	else if (strcmp(words[0], "queue") == 0 ||
	    strcmp(words[0], "quarantine") == 0 ||
	    strcmp(words[0], "explain") == 0)
		gather_stream(c, spawn_find(c->sup, PROC_QUEUE, 0), c->line);
	else
		own_command(c, words, n);
}
