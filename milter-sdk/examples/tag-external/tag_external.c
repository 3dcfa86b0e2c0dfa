/* SPDX-License-Identifier: ISC */

/*
 * tag-external - mark mail that came from outside
 *
 * The subject of a message from a client that is neither in our networks nor
 * authenticated gets a tag in front.  The smallest useful filter: one stage,
 * one edit, three settings.
 */

#include "tag_external.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>

struct settings {
	const struct mill_nets *inside;
	const char *tag;
	bool add_field;
};

static const struct mill_option options[] = {
	{ .name = "inside",
	    .type = MILL_NETS,
	    .offset = offsetof(struct settings, inside),
	    .value = "127.0.0.0/8, ::1",
	    .help = "networks whose mail is not external" },
	{ .name = "tag",
	    .type = MILL_STRING,
	    .offset = offsetof(struct settings, tag),
	    .value = "[EXTERNAL]",
	    .help = "put before the subject" },
	{ .name = "add-field",
	    .type = MILL_BOOL,
	    .offset = offsetof(struct settings, add_field),
	    .value = "yes",
	    .help = "also add X-External: yes" },
	{ .name = NULL },
};

/* A subject that came with the tag is left alone: a reply to tagged mail. */
static enum mill_verdict
on_headers(struct mill_txn *txn)
{
	const struct settings *s = mill_settings(txn);
	const char *subject = mill_header(txn, "Subject", 0);
	char tagged[1100];
	int n;

	if (mill_client_in(txn, s->inside) || mill_auth(txn)[0] != '\0')
		return (MILL_ACCEPT);
	if (s->add_field && mill_add_header(txn, "X-External", "yes") == -1)
		return (MILL_TEMPFAIL);
	if (subject != NULL && strstr(subject, s->tag) != NULL)
		return (MILL_CONTINUE);
	n = snprintf(tagged, sizeof(tagged), "%s %s", s->tag,
	    subject != NULL ? subject : "");
	/* Longer than a line may be: better no tag than a broken subject. */
	if (n < 0 || n > 990)
		return (MILL_CONTINUE);
	if (mill_change_header(txn, "Subject", 0, tagged) == -1)
		return (MILL_TEMPFAIL);
	mill_log(txn, LOG_DEBUG, "tagged");
	return (MILL_CONTINUE);
}

const struct mill_filter tag_external = {
	.abi = MILL_ABI,
	.name = "tag-external",
	.version = "1.0",
	.options = options,
	.settings_size = sizeof(struct settings),
	.headers = on_headers,
	.edits = MILL_EDIT_ADD_HEADER | MILL_EDIT_CHANGE_HEADER,
	.without = MILL_WITHOUT_HELO | MILL_WITHOUT_RCPTS,
	.quick = MILL_QUICK_ALL, /* no function ever waits */
};
