/* SPDX-License-Identifier: ISC */

/*
 * show_queue - messages and decisions for people
 */

#include "core/control/ctl.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { ADDRESS_MAX = 48, REASON_MAX = 70 };

static const char *
when(int64_t unix_s)
{
	static char rooms[2][32];
	static unsigned next;
	char *room = rooms[next++ % 2];
	time_t at = (time_t)unix_s;
	struct tm tm;

	if (unix_s == 0)
		return ("-");
	(void)strftime(
	    room, sizeof(rooms[0]), "%m-%d %H:%M:%S", localtime_r(&at, &tm));
	return (room);
}

static const char *
size_text(int64_t bytes)
{
	static char room[32];

	if (bytes < 10000)
		(void)snprintf(room, sizeof(room), "%" PRId64, bytes);
	else if (bytes < 10 << 20)
		(void)snprintf(room, sizeof(room), "%" PRId64 "K", bytes >> 10);
	else
		(void)snprintf(room, sizeof(room), "%" PRId64 "M", bytes >> 20);
	return (room);
}

static enum colour
state_colour(const char *state)
{
	if (strcmp(state, "held") == 0 || strcmp(state, "failed") == 0)
		return (RED);
	if (strcmp(state, "deferred") == 0)
		return (YELLOW);
	return (GREEN);
}

/* first_rcpt - the first that is waiting, and how many more there are */
static void
rcpt_cell(struct table *t, struct json_object *m)
{
	struct json_object *list = obj_of(m, "recipients");
	size_t n, i;
	const char *first = "";
	unsigned waiting = 0;

	if (!json_object_is_type(list, json_type_array))
		list = NULL;
	n = list != NULL ? json_object_array_length(list) : 0;
	for (i = 0; i < n; i++) {
		struct json_object *r = json_object_array_get_idx(list, i);

		if (strcmp(str_of(r, "state"), "waiting") != 0)
			continue;
		if (waiting++ == 0)
			first = str_of(r, "address");
	}
	if (waiting > 1)
		table_cell(t, PLAIN, "%s (+%u)", safe(first, ADDRESS_MAX),
		    waiting - 1);
	else
		table_cell(t, PLAIN, "%s", safe(first, ADDRESS_MAX));
}

int
show_list(struct json_object *o)
{
	struct table *t;
	size_t i, n;

	if (!json_object_is_type(o, json_type_array))
		return (1);
	if ((n = json_object_array_length(o)) == 0) {
		puts("The queue is empty.");
		return (0);
	}
	t = table_new("ID|STATE|ARRIVED|>SIZE|FROM|TO|NEXT|REASON");
	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(o, i);
		const char *state = str_of(m, "state");
		const char *sender = str_of(m, "sender");

		table_cell(t, PLAIN, "%s", str_of(m, "id"));
		table_cell(t, state_colour(state), "%s", state);
		table_cell(t, PLAIN, "%s", when(num_of(m, "arrival")));
		table_cell(t, PLAIN, "%s", size_text(num_of(m, "size")));
		table_cell(t, PLAIN, "%s",
		    sender[0] != '\0' ? safe(sender, ADDRESS_MAX) : "<>");
		rcpt_cell(t, m);
		table_cell(t, PLAIN, "%s", when(num_of(m, "next_try")));
		table_cell(t, DIM, "%s", safe(str_of(m, "reason"), REASON_MAX));
	}
	table_print(&t);
	printf("%zu message%s\n", n, n == 1 ? "" : "s");
	return (0);
}

int
show_quarantine(struct json_object *o)
{
	struct table *t;
	size_t i, n;

	if (!json_object_is_type(o, json_type_array))
		return (1);
	if ((n = json_object_array_length(o)) == 0) {
		puts("The quarantine is empty.");
		return (0);
	}
	t = table_new("ID|ARRIVED|>SIZE|FROM|TO|HELD BY|REASON");
	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(o, i);
		const char *sender = str_of(m, "sender");

		table_cell(t, PLAIN, "%s", str_of(m, "id"));
		table_cell(t, PLAIN, "%s", when(num_of(m, "arrival")));
		table_cell(t, PLAIN, "%s", size_text(num_of(m, "size")));
		table_cell(t, PLAIN, "%s",
		    sender[0] != '\0' ? safe(sender, ADDRESS_MAX) : "<>");
		rcpt_cell(t, m);
		table_cell(t, YELLOW, "%s", safe(str_of(m, "hold_by"), 32));
		table_cell(t, DIM, "%s", safe(str_of(m, "reason"), REASON_MAX));
	}
	table_print(&t);
	printf("%zu message%s\n", n, n == 1 ? "" : "s");
	return (0);
}

/* show_released - "released as ID", or how many of all */
int
show_released(struct json_object *o)
{
	struct json_object *as = obj_of(o, "released_as");
	size_t i;

	if (!json_object_is_type(as, json_type_array)) {
		printf("%" PRId64 " released, %" PRId64 " still held\n",
		    num_of(o, "changed"), num_of(o, "kept"));
		return (num_of(o, "kept") > 0);
	}
	for (i = 0; i < json_object_array_length(as); i++)
		printf("released as %s\n",
		    safe(json_object_get_string(
		             json_object_array_get_idx(as, i)),
		        ADDRESS_MAX));
	return (0);
}

static void
line(const char *name, const char *text)
{
	if (text[0] == '\0')
		return;
	printf("%*s", (int)(10 - strlen(name)), "");
	colour_text(DIM, name);
	printf("  %s\n", safe(text, 900));
}

int
show_message(struct json_object *o)
{
	struct json_object *list = obj_of(o, "recipients");
	const char *header = str_of(o, "header");
	struct table *t;
	size_t i;

	line("id", str_of(o, "id"));
	line("state", str_of(o, "state"));
	line("reason", str_of(o, "reason"));
	line("held by", str_of(o, "hold_by"));
	line("arrived", when(num_of(o, "arrival")));
	line("next try", when(num_of(o, "next_try")));
	line("size", size_text(num_of(o, "size")));
	line("from", str_of(o, "sender"));
	line("client", str_of(o, "client"));
	line("helo", str_of(o, "helo"));
	putchar('\n');
	if (json_object_is_type(list, json_type_array)) {
		t = table_new("RECIPIENT|STATE|LAST REPLY");
		for (i = 0; i < json_object_array_length(list); i++) {
			struct json_object *r =
			    json_object_array_get_idx(list, i);

			table_cell(
			    t, PLAIN, "%s", safe(str_of(r, "address"), 256));
			table_cell(t, state_colour(str_of(r, "state")), "%s",
			    str_of(r, "state"));
			table_cell(t, DIM, "%s", safe(str_of(r, "reply"), 200));
		}
		table_print(&t);
	}
	if (json_object_is_type(obj_of(o, "record"), json_type_object)) {
		putchar('\n');
		(void)show_record(obj_of(o, "record"));
	}
	putchar('\n');
	for (; *header != '\0'; header++)
		if (*header == '\n' || *header == '\t' ||
		    ((unsigned char)*header >= 0x20 && *header != 0x7f))
			putchar(*header);
	return (0);
}
