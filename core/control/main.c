/* SPDX-License-Identifier: ISC */

/*
 * milldamctl - ask and command a running gateway
 *
 * One line to the control socket, the answer to the end of file.
 */

#include "core/control/ctl.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

enum { LINE_BYTES = 4096, ANSWER_MAX = 1 << 30 };

static const struct {
	const char *words; /* what the command begins with */
	int (*show)(struct json_object *);
	const char *help;
} commands[] = {
	{ "status", show_status, "processes, milters, queue, alarms" },
	{ "health", show_health, "exit status 0 when mail can be taken" },
	{ "probe", show_probe, "what each process's sandbox refuses" },
	{ "reload", show_ok, "read the configuration again" },
	{ "stop", show_ok, "finish what is in hand and end" },
	{ "reopen", show_ok, "reopen logs" },
	{ "pause", show_ok, "accept | delivery" },
	{ "resume", show_ok, "accept | delivery" },
	{ "milter", show_ok, "NAME enforce | shadow | off | drain" },
	{ "queue list", show_list, "every message" },
	{ "queue show", show_message, "ID: one message with its header" },
	{ "queue hold", show_changed, "ID | all" },
	{ "queue release", show_changed, "ID | all: let held mail go" },
	{ "queue delete", show_changed,
	    "ID | all: for good, without a bounce" },
	{ "queue flush", show_changed, "[ID | site]: try again now" },
	{ "quarantine list", show_quarantine,
	    "what milters had held, and why" },
	{ "quarantine show", show_message, "ID: header and decision record" },
	{ "quarantine release", show_released,
	    "ID | all [without MILTER...]: through the other filters" },
	{ "quarantine delete", show_changed, "ID: for good" },
	{ "explain", show_record,
	    "ID | MESSAGE-ID | --from A --to B --since T: who decided what" },
};

static void
usage(FILE *out)
{
	size_t i;

	fprintf(out, "usage: milldamctl [-s socket] [--json] command\n\n");
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(
		    out, "  %-18s %s\n", commands[i].words, commands[i].help);
	fprintf(out, "  %-18s %s\n  %-18s %s\n", "policy show",
	    "[-f file] [policy]: as it is after all files", "policy test",
	    "--client address ...: the chain for each recipient");
}

static int
dial(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(un.sun_path))
		errx(EX_USAGE, "%s: longer than a socket's name may be", path);
	strcpy(un.sun_path, path);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1)
		err(EX_OSERR, "socket");
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == -1) {
		if (errno == EACCES)
			err(EX_NOPERM, "%s: be root or in its group", path);
		err(EX_UNAVAILABLE, "%s: is milldam running? (-s socket)",
		    path);
	}
	return (fd);
}

static void
say(int fd, const char *line)
{
	size_t n = strlen(line), off = 0;
	ssize_t w;

	while (off < n) {
		w = send(fd, line + off, n - off, MSG_NOSIGNAL);
		if (w == -1 && errno != EINTR)
			err(EX_IOERR, "control socket");
		if (w > 0)
			off += (size_t)w;
	}
}

static char *
hear(int fd, size_t *len_r)
{
	size_t n = 0, cap = 1 << 16;
	char *text = malloc(cap);
	ssize_t r;

	while (text != NULL) {
		r = read(fd, text + n, cap - n - 1);
		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			err(EX_IOERR, "control socket");
		if (r == 0)
			break;
		n += (size_t)r;
		if (cap - n < 2) {
			if (cap >= ANSWER_MAX)
				errx(EX_PROTOCOL, "the answer is too long");
			text = realloc(text, cap *= 2);
		}
	}
	if (text == NULL)
		err(EX_OSERR, NULL);
	text[n] = '\0';
	*len_r = n;
	return (text);
}

/* hint_for - what to do about an error of the gateway, or "" */
static const char *
hint_for(const char *error)
{
	static const char *const hints[][2] = {
		{ "unknown id",
		    "; \"milldamctl queue list\" tells what is queued" },
		{ "not in quarantine",
		    "; \"milldamctl quarantine list\" tells what is" },
		{ "unknown command", "; \"milldamctl -h\" lists them" },
		{ "no such milter", "; \"milldamctl status\" lists them" },
		{ "that process does not run",
		    "; it is being started again: see the log" },
		{ "the process does not answer",
		    "; it is replaced after hang-time: try again then" },
	};
	size_t i;

	for (i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
		if (strncmp(error, hints[i][0], strlen(hints[i][0])) == 0)
			return (hints[i][1]);
	return ("");
}

/* show_error - each line of it by itself */
void
show_error(const char *text)
{
	char line[1024];
	size_t n;

	for (; *text != '\0'; text += n + (text[n] == '\n')) {
		n = strcspn(text, "\n");
		(void)snprintf(line, sizeof(line), "%.*s", (int)n, text);
		warnx("%s%s", safe(line, sizeof(line)), hint_for(line));
	}
}

static int
show(const char *line, const char *text, bool json)
{
	struct json_object *o = json_tokener_parse(text);
	const char *error;
	size_t i;
	int rc = 0;

	if (o == NULL)
		errx(EX_PROTOCOL,
		    "the answer was cut off: did the gateway stop?");
	error = str_of(o, "error");
	if (error[0] != '\0')
		rc = 1;
	if (json) {
		fputs(text, stdout);
	} else if (rc != 0) {
		show_error(error);
	} else {
		for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
			if (strncmp(line, commands[i].words,
			        strlen(commands[i].words)) == 0)
				rc = commands[i].show(o);
	}
	json_object_put(o);
	return (rc);
}

static void
compose(char *room, size_t n, int argc, char **argv)
{
	size_t used = 0;
	int i, w;

	for (i = 0; i < argc; i++) {
		if (argv[i][strcspn(argv[i], " \t\r\n")] != '\0')
			errx(EX_USAGE, "%s: blanks in a word", argv[i]);
		w = snprintf(
		    room + used, n - used, "%s%s", i > 0 ? " " : "", argv[i]);
		if (w < 0 || (size_t)w >= n - used - 1)
			errx(EX_USAGE, "the command line is too long");
		used += (size_t)w;
	}
	room[used++] = '\n';
	room[used] = '\0';
}

int
main(int argc, char **argv)
{
	static const struct option options[] = { { "json", 0, NULL, 'j' },
		{ "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	const char *path = RUNDIR "/control";
	char line[LINE_BYTES], *text;
	bool json = false, explain;
	size_t n;
	int ch, fd, rc;

	while ((ch = getopt_long(argc, argv, "+s:h", options, NULL)) != -1)
		switch (ch) {
		case 's':
			path = optarg;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			usage(stdout);
			return (0);
		default:
			usage(stderr);
			return (EX_USAGE);
		}
	if (optind == argc) {
		usage(stderr);
		return (EX_USAGE);
	}
	argc -= optind;
	argv += optind;
	colour_init(stdout);
	if (strcmp(argv[0], "policy") == 0)
		return (policy_command(argc, argv, json));
	explain = strcmp(argv[0], "explain") == 0;
	if (explain)
		explain_compose(line, sizeof(line), argc, argv, &json);
	else
		compose(line, sizeof(line), argc, argv);
	fd = dial(path);
	say(fd, line);
	if (explain)
		return (explain_answer(fd, json));
	text = hear(fd, &n);
	rc = show(line, text, json);
	free(text);
	(void)close(fd);
	return (rc);
}
