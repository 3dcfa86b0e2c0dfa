/* SPDX-License-Identifier: ISC */

/* show_record - one decision record for people */

#include "core/control/ctl.h"

#include <inttypes.h>
#include <string.h>

static void
line(const char *name, const char *text)
{
	if (text[0] == '\0')
		return;
	printf("%*s", (int)(11 - strlen(name)), "");
	colour_text(DIM, name);
	printf("  %s\n", safe(text, 900));
}

static enum colour
reply_colour(const char *s)
{
	static const char *const good[] = { "continue", "accept", "skip",
		"none", "queued", "enforce", "" };
	static const char *const bad[] = { "reject", "rejected", "reply" };
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (strcmp(s, good[i]) == 0)
			return (
			    strcmp(s, "accept") == 0 || strcmp(s, "queued") == 0
			        ? GREEN
			        : PLAIN);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (strcmp(s, bad[i]) == 0)
			return (RED);
	return (YELLOW);
}

/* show_edit - "add-header X-Field: value", or "before -> after" */
static void
show_edit(struct json_object *e)
{
	const char *of = str_of(e, "of"), *after = str_of(e, "after");
	struct json_object *before = obj_of(e, "before");

	printf("      edit     %s", safe(str_of(e, "edit"), 32));
	if (*of != '\0')
		printf(" %s", safe(of, 100));
	if (before != NULL)
		printf(": %s ->", safe(str_of(e, "before"), 200));
	else if (*of != '\0' && obj_of(e, "after") != NULL)
		putchar(':');
	if (obj_of(e, "after") != NULL)
		printf(" %s", safe(after + strspn(after, " "), 200));
	putchar('\n');
}

static void
show_stage(struct json_object *s)
{
	const char *reply = str_of(s, "reply"), *text = str_of(s, "text");
	int64_t times = num_of(s, "count");
	char room[64];

	(void)snprintf(room, sizeof(room), "%-10.20s", safe(reply, 20));
	printf("      %-8s ", safe(str_of(s, "stage"), 16));
	colour_text(reply_colour(reply), room);
	printf(" %9.9s ms", str_of(s, "ms"));
	if (times > 1)
		printf("  %" PRId64 " times", times);
	if (*text != '\0')
		printf("  %s", safe(text, 300));
	putchar('\n');
}

static void
each(struct json_object *list, void (*show)(struct json_object *))
{
	size_t i;

	if (json_object_is_type(list, json_type_array))
		for (i = 0; i < json_object_array_length(list); i++)
			show(json_object_array_get_idx(list, i));
}

static void
show_milter(struct json_object *m)
{
	const char *mode = str_of(m, "mode"), *verdict = str_of(m, "verdict");
	const char *failure = str_of(m, "failure");
	struct json_object *sampled = obj_of(m, "sampled");
	int64_t dropped = num_of(m, "dropped_edits");

	printf("  ");
	colour_text(BOLD, safe(str_of(m, "name"), 64));
	printf("  %s  ", safe(str_of(m, "endpoint"), 100));
	colour_text(reply_colour(mode), safe(mode, 16));
	if (sampled != NULL && !json_object_get_boolean(sampled))
		printf("  not sampled (%" PRId64 "%%)", num_of(m, "sample"));
	if (*verdict != '\0' && strcmp(verdict, "none") != 0) {
		printf("  ");
		colour_text(reply_colour(verdict), safe(verdict, 16));
	}
	putchar('\n');
	each(obj_of(m, "stages"), show_stage);
	each(obj_of(m, "edits"), show_edit);
	if (dropped > 0)
		printf("      dropped  %" PRId64 " edits it may not make\n",
		    dropped);
	if (*failure != '\0') {
		printf("      ");
		colour_text(RED, "failure");
		printf("  %s\n", safe(failure, 300));
	}
}

int
show_record(struct json_object *o)
{
	struct json_object *list = obj_of(o, "recipients");
	const char *outcome = str_of(o, "outcome"), *from;
	char policy[200];
	size_t i;

	line("id", str_of(o, "id"));
	line("time", str_of(o, "time"));
	line("client", str_of(o, "client"));
	line("helo", str_of(o, "helo"));
	line("listener", str_of(o, "listener"));
	(void)snprintf(policy, sizeof(policy), "%s%s%s",
	    safe(str_of(o, "policy"), 100),
	    *str_of(o, "policy_hash") != '\0' ? " " : "",
	    safe(str_of(o, "policy_hash"), 40));
	line("policy", policy);
	line("message-id", str_of(o, "message_id"));
	from = str_of(o, "sender");
	line("from", *from != '\0' ? from : "<>");
	if (json_object_is_type(list, json_type_array))
		for (i = 0; i < json_object_array_length(list); i++)
			line("to",
			    json_object_get_string(
			        json_object_array_get_idx(list, i)));
	line("was held as", str_of(o, "released_from"));
	line("without", str_of(o, "without"));
	printf("    ");
	colour_text(DIM, "outcome");
	printf("  ");
	colour_text(reply_colour(outcome), safe(outcome, 40));
	putchar('\n');
	line("decided by", str_of(o, "milter"));
	line("reply", str_of(o, "reply"));
	each(obj_of(o, "milters"), show_milter);
	return (0);
}
