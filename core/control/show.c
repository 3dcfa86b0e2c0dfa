/* SPDX-License-Identifier: ISC */

/*
 * show - the gateway's state for people
 */

#include "core/control/ctl.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* ago - seconds as 5s, 3m, 2h10m, 4d3h; one static buffer */
static const char *
ago(int64_t s)
{
	static char room[32];

	if (s < 60)
		(void)snprintf(room, sizeof(room), "%" PRId64 "s", s);
	else if (s < 3600)
		(void)snprintf(room, sizeof(room), "%" PRId64 "m", s / 60);
	else if (s < 86400)
		(void)snprintf(room, sizeof(room), "%" PRId64 "h%" PRId64 "m",
		    s / 3600, s % 3600 / 60);
	else
		(void)snprintf(room, sizeof(room), "%" PRId64 "d%" PRId64 "h",
		    s / 86400, s % 86400 / 3600);
	return (room);
}

/* of_kind - the "info" of the nth process whose name begins with kind */
static struct json_object *
info_of(struct json_object *processes, const char *kind, size_t nth)
{
	size_t i, n = json_object_array_length(processes);

	for (i = 0; i < n; i++) {
		struct json_object *p = json_object_array_get_idx(processes, i);

		if (strncmp(str_of(p, "name"), kind, strlen(kind)) == 0 &&
		    nth-- == 0)
			return (obj_of(p, "info"));
	}
	return (NULL);
}

static bool
show_processes(struct json_object *processes)
{
	struct table *t = table_new("PROCESS|STATE|>PID|>UP|>RESTARTS");
	size_t i, n = json_object_array_length(processes);
	bool well = true;

	for (i = 0; i < n; i++) {
		struct json_object *p = json_object_array_get_idx(processes, i);
		bool up = strcmp(str_of(p, "state"), "running") == 0;

		well &= up;
		table_cell(t, PLAIN, "%s", str_of(p, "name"));
		table_cell(t, up ? GREEN : RED, "%s", str_of(p, "state"));
		table_cell(t, PLAIN, "%" PRId64, num_of(p, "pid"));
		table_cell(t, PLAIN, "%s", ago(num_of(p, "uptime_s")));
		table_cell(t, num_of(p, "restarts") > 0 ? YELLOW : PLAIN,
		    "%" PRId64, num_of(p, "restarts"));
	}
	table_print(&t);
	return (well);
}

static void
put_endpoint(struct table *t, struct json_object *m, struct json_object *e)
{
	bool up = strcmp(str_of(e, "state"), "closed") == 0;

	table_cell(t, PLAIN, "%s", str_of(e, "endpoint"));
	table_cell(t, PLAIN, "%s", str_of(m, "name"));
	table_cell(t, up ? GREEN : RED, "%s",
	    up                                            ? "in use"
	        : strcmp(str_of(e, "state"), "open") == 0 ? "ejected"
	                                                  : "on probe");
	table_cell(t, PLAIN, "%" PRId64, num_of(e, "busy"));
	table_cell(t, PLAIN, "%" PRId64, num_of(e, "idle"));
	table_cell(t, num_of(e, "failures") > 0 ? RED : PLAIN, "%" PRId64,
	    num_of(e, "failures"));
	table_cell(t, PLAIN, "%" PRId64, num_of(e, "ejections"));
	table_cell(t, PLAIN, "%" PRId64, num_of(e, "replays"));
}

/* show_endpoints - of milters that have several, or one that is out */
static void
show_endpoints(struct json_object *milters)
{
	struct json_object *m, *list, *e;
	struct table *t = NULL;
	size_t i, k, n;

	for (i = 0; i < json_object_array_length(milters); i++) {
		m = json_object_array_get_idx(milters, i);
		list = obj_of(m, "endpoints");
		n = json_object_is_type(list, json_type_array)
		    ? json_object_array_length(list)
		    : 0;
		for (k = 0; k < n; k++) {
			e = json_object_array_get_idx(list, k);
			if (n == 1 && strcmp(str_of(e, "state"), "closed") == 0)
				continue;
			if (t == NULL)
				t = table_new("ENDPOINT|MILTER|STATE|>BUSY|"
				              ">IDLE|>FAILURES|>EJECTED|"
				              ">REPLAYS");
			put_endpoint(t, m, e);
		}
	}
	if (t != NULL) {
		putchar('\n');
		table_print(&t);
	}
}

static void
show_milters(struct json_object *processes)
{
	struct json_object *info, *list;
	struct table *t;
	size_t i, k;

	for (k = 0; (info = info_of(processes, "receiver", k)) != NULL; k++) {
		list = obj_of(info, "milters");
		if (!json_object_is_type(list, json_type_array) ||
		    json_object_array_length(list) == 0)
			continue;
		t = table_new("MILTER|MODE|>CALLS|>FAILURES|>FAIL-OPEN");
		for (i = 0; i < json_object_array_length(list); i++) {
			struct json_object *m =
			    json_object_array_get_idx(list, i);
			bool on = strcmp(str_of(m, "mode"), "enforce") == 0;

			table_cell(t, PLAIN, "%s", str_of(m, "name"));
			if (num_of(m, "sample") > 0 &&
			    num_of(m, "sample") < 100)
				table_cell(t, YELLOW, "%s:%" PRId64 "%%",
				    str_of(m, "mode"), num_of(m, "sample"));
			else
				table_cell(t, on ? GREEN : YELLOW, "%s",
				    str_of(m, "mode"));
			table_cell(t, PLAIN, "%" PRId64, num_of(m, "calls"));
			table_cell(t, num_of(m, "failures") > 0 ? RED : PLAIN,
			    "%" PRId64, num_of(m, "failures"));
			table_cell(t, num_of(m, "fail_opens") > 0 ? RED : PLAIN,
			    "%" PRId64, num_of(m, "fail_opens"));
		}
		putchar('\n');
		table_print(&t);
		show_endpoints(list);
	}
}

static void
show_queue_line(struct json_object *processes)
{
	struct json_object *info = info_of(processes, "queue", 0), *c;

	if (info == NULL)
		return;
	c = obj_of(info, "counters");
	putchar('\n');
	colour_text(BOLD, "QUEUE");
	printf("  %" PRId64 " message%s, %" PRId64 " deferred, %" PRId64
	       " held; delivery %s\n",
	    num_of(info, "messages"), num_of(info, "messages") == 1 ? "" : "s",
	    num_of(info, "deferred"), num_of(info, "held"),
	    str_of(info, "delivery"));
	printf("       accepted %" PRId64 ", delivered %" PRId64
	       ", bounced %" PRId64 ", discarded %" PRId64 ", deleted %" PRId64
	       "\n",
	    num_of(c, "accepted"), num_of(c, "delivered"), num_of(c, "bounced"),
	    num_of(c, "discarded"), num_of(c, "deleted"));
}

static void
show_switches(struct json_object *states)
{
	bool first = true;

	if (!json_object_is_type(states, json_type_object))
		return;
	json_object_object_foreach(states, name, value)
	{
		if (first)
			colour_text(BOLD, "\nSWITCHES\n");
		first = false;
		printf("  %s = %s\n", name, json_object_get_string(value));
	}
}

static void
show_alarms(struct json_object *alarms)
{
	size_t i;

	if (!json_object_is_type(alarms, json_type_array) ||
	    json_object_array_length(alarms) == 0)
		return;
	colour_text(BOLD, "\nALARMS\n");
	for (i = 0; i < json_object_array_length(alarms); i++) {
		struct json_object *a = json_object_array_get_idx(alarms, i);
		time_t at = (time_t)num_of(a, "time");
		char when[32];
		struct tm tm;

		(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S",
		    localtime_r(&at, &tm));
		printf("  %s  ", when);
		colour_text(RED, safe(str_of(a, "kind"), 32));
		printf("  %s\n", safe(str_of(a, "text"), 300));
	}
}

int
show_status(struct json_object *o)
{
	struct json_object *processes = obj_of(o, "processes");
	bool well;

	if (!json_object_is_type(processes, json_type_array))
		return (1);
	colour_text(BOLD, str_of(o, "hostname"));
	printf(
	    "  milldam %s  %s\n\n", str_of(o, "version"), str_of(o, "state"));
	well = show_processes(processes);
	show_milters(processes);
	show_queue_line(processes);
	show_switches(obj_of(o, "states"));
	show_alarms(obj_of(o, "alarms"));
	return (well ? 0 : 1);
}

int
show_probe(struct json_object *o)
{
	static const char *const calls[] = { "open", "socket", "execve",
		"ptrace", "kill" };
	struct json_object *processes = obj_of(o, "processes");
	struct table *t = table_new("PROCESS|OPEN|SOCKET|EXECVE|PTRACE|KILL");
	size_t i, k;

	if (!json_object_is_type(processes, json_type_array))
		return (1);
	for (i = 0; i < json_object_array_length(processes); i++) {
		struct json_object *p = json_object_array_get_idx(processes, i);
		struct json_object *probe = obj_of(p, "probe");

		if (probe == NULL)
			continue;
		table_cell(t, PLAIN, "%s", str_of(p, "name"));
		for (k = 0; k < sizeof(calls) / sizeof(calls[0]); k++) {
			const char *got = str_of(probe, calls[k]);
			bool ok = strcmp(got, "ok") == 0;

			table_cell(
			    t, ok ? YELLOW : GREEN, "%s", ok ? "allowed" : got);
		}
	}
	table_print(&t);
	return (0);
}

int
show_health(struct json_object *o)
{
	struct json_object *problems = obj_of(o, "problems");
	bool ready = json_object_get_boolean(obj_of(o, "ready"));
	size_t i;

	colour_text(ready ? GREEN : RED, ready ? "ready" : "not ready");
	putchar('\n');
	if (json_object_is_type(problems, json_type_array))
		for (i = 0; i < json_object_array_length(problems); i++)
			printf("  %s does not run\n",
			    json_object_get_string(
			        json_object_array_get_idx(problems, i)));
	return (ready ? 0 : 1);
}

int
show_ok(struct json_object *o)
{
	(void)o;
	puts("done");
	return (0);
}

int
show_changed(struct json_object *o)
{
	printf("%" PRId64 " changed\n", num_of(o, "changed"));
	return (0);
}
