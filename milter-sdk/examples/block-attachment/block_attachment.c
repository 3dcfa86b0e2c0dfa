/* SPDX-License-Identifier: ISC */

/*
 * block-attachment - refuse messages that carry files of certain names
 *
 * Looks for name= and filename= in the MIME header of each part.  It does so
 * line by line: a part's header is what stands between a line "--..." and the
 * next empty line.  That finds what mail programs write; it is an example of a
 * filter that reads the body, not a defence against an attacker who writes MIME
 * by hand (RFC 2231 continuations, encoded words).
 */

#include "block_attachment.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>

enum { NAME_MAX_LEN = 256 };

struct settings {
	const char *const *extensions;
	const char *text;
	bool quarantine;
	uint64_t max_body;
};

static const struct mill_option options[] = {
	{ .name = "extensions",
	    .type = MILL_LIST,
	    .offset = offsetof(struct settings, extensions),
	    .value = "exe, com, scr, pif, bat, cmd, vbs, js, jar",
	    .help = "ends of file names that are refused" },
	{ .name = "text",
	    .type = MILL_STRING,
	    .offset = offsetof(struct settings, text),
	    .value = "Attachments of this kind are not accepted here",
	    .help = "what the sender is told" },
	{ .name = "quarantine",
	    .type = MILL_BOOL,
	    .offset = offsetof(struct settings, quarantine),
	    .value = "no",
	    .help = "hold the message instead of refusing it" },
	{ .name = "max-body",
	    .type = MILL_SIZE,
	    .offset = offsetof(struct settings, max_body),
	    .value = "25M",
	    .help = "a larger message is refused unseen",
	    .min = 1024,
	    .max = 1 << 30 },
	{ .name = NULL },
};

static int
load(void *data, struct mill_conf *conf)
{
	const struct settings *s = data;

	mill_conf_max_body(conf, s->max_body, MILL_REJECT);
	return (0);
}

static bool
is_blocked(const struct settings *s, const char *name)
{
	const char *dot = strrchr(name, '.');
	size_t i;

	for (i = 0; dot != NULL && s->extensions[i] != NULL; i++)
		if (strcasecmp(dot + 1, s->extensions[i]) == 0)
			return (true);
	return (false);
}

/* take_name - the value after "name=", with or without quotes */
static void
take_name(const char *s, const char *end, char *name)
{
	bool quoted = s < end && *s == '"';
	size_t n = 0;

	for (s += quoted; s < end && n < NAME_MAX_LEN - 1; s++) {
		if (quoted ? *s == '"'
		           : *s == ';' || isspace((unsigned char)*s))
			break;
		name[n++] = *s;
	}
	while (n > 0 && (name[n - 1] == ' ' || name[n - 1] == '.'))
		n--; /* some systems ignore them at the end of a name */
	name[n] = '\0';
}

/* find_name - a blocked name in one piece of MIME header */
static bool
find_name(const struct settings *s, const char *p, const char *end, char *name)
{
	for (; end - p > 5; p++)
		if (strncasecmp(p, "name=", 5) == 0) {
			take_name(p + 5, end, name);
			if (is_blocked(s, name))
				return (true);
		}
	return (false);
}

/* find_in_body - each part's header, up to the empty line that ends it */
static bool
find_in_body(const struct settings *s, const char *p, size_t len, char *name)
{
	const char *end = p + len, *eol;
	bool in_header = false;

	for (; p < end; p = eol + 1) {
		if ((eol = memchr(p, '\n', (size_t)(end - p))) == NULL)
			eol = end - 1;
		if (eol - p > 2 && p[0] == '-' && p[1] == '-')
			in_header = true;
		else if (eol - p <= 1)
			in_header = false;
		else if (in_header && find_name(s, p, eol, name))
			return (true);
	}
	return (false);
}

static enum mill_verdict
on_message(struct mill_txn *txn)
{
	const struct settings *s = mill_settings(txn);
	char name[NAME_MAX_LEN] = "";
	const char *field;
	const void *body;
	size_t len, i;
	bool found = false;

	for (i = 0; !found && i < mill_n_headers(txn); i++) {
		field = mill_header_value(txn, i);
		if (strncasecmp(mill_header_name(txn, i), "Content-", 8) == 0)
			found =
			    find_name(s, field, field + strlen(field), name);
	}
	body = mill_body(txn, &len);
	if (!found && !find_in_body(s, body, len, name))
		return (MILL_CONTINUE);
	mill_log(txn, LOG_INFO, "blocked: name=%s", name);
	if (!s->quarantine)
		return (mill_reply(txn, 550, "5.7.1", "%s: %s", s->text, name));
	if (mill_quarantine(txn, "attachment") == -1)
		return (MILL_TEMPFAIL);
	return (MILL_CONTINUE);
}

const struct mill_filter block_attachment = {
	.abi = MILL_ABI,
	.name = "block-attachment",
	.version = "1.0",
	.options = options,
	.settings_size = sizeof(struct settings),
	.load = load,
	.message = on_message,
	.edits = MILL_EDIT_QUARANTINE,
	.without = MILL_WITHOUT_CLIENT | MILL_WITHOUT_HELO | MILL_WITHOUT_RCPTS,
	.max_body = 25 << 20, /* any but 0: the body is asked for */
};
