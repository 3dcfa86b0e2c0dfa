/* SPDX-License-Identifier: ISC */

/* sdk_filter - a filter that does what the recipient's address tells it to;
 * built by sdk_test.py with the installed SDK */

#include <milldam/milldam.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

struct settings {
	int64_t generation;
};

static const struct mill_option options[] = {
	{ .name = "generation",
	    .type = MILL_INT,
	    .offset = offsetof(struct settings, generation),
	    .value = "1" },
	{ .name = NULL },
};

static enum mill_verdict
on_rcpt(struct mill_txn *txn)
{
	const char *rcpt = mill_rcpt(txn);

	if (strncmp(rcpt, "lines", 5) == 0)
		return (mill_reply(
		    txn, 550, "5.7.1", "100%% one\ntwo\nthree %s", rcpt));
	if (strncmp(rcpt, "drop", 4) == 0)
		return (MILL_DISCARD);
	if (strncmp(rcpt, "close", 5) == 0)
		return (mill_reply(txn, 421, "4.7.0", "bye"));
	return (strncmp(rcpt, "accept", 6) == 0 ? MILL_ACCEPT : MILL_CONTINUE);
}

static int
edit(struct mill_txn *txn)
{
	if (mill_add_header(txn, "X-New", "a\n b") == -1 ||
	    mill_insert_header(txn, 1, "X-Top", "t") == -1 ||
	    mill_delete_header(txn, "X-A", 0) == -1 ||
	    mill_delete_header(txn, "X-A", 1) == -1 ||
	    mill_change_header(txn, "Subject", 0, "changed") == -1 ||
	    mill_change_sender(txn, "", NULL) == -1 ||
	    mill_add_rcpt(txn, "new@to.test", NULL) == -1 ||
	    mill_add_rcpt(txn, "par@to.test", "NOTIFY=NEVER") == -1 ||
	    mill_del_rcpt(txn, mill_rcpt_at(txn, 0)) == -1 ||
	    mill_replace_body(txn, "new\r\n", 5) == -1)
		return (-1);
	return (0);
}

static enum mill_verdict
on_message(struct mill_txn *txn)
{
	const struct settings *s = mill_settings(txn);
	const char *rcpt = mill_rcpt_at(txn, 0);
	const char *body;
	char text[128];
	size_t len;

	if (strncmp(rcpt, "sleep", 5) == 0)
		(void)sleep((unsigned)atoi(rcpt + 5));
	if (strncmp(rcpt, "edit", 4) == 0 &&
	    (edit(txn) == -1 || mill_quarantine(txn, "held") == -1))
		return (MILL_TEMPFAIL);
	if (strncmp(rcpt, "alter", 5) == 0 && edit(txn) == -1)
		return (MILL_TEMPFAIL);
	if (strncmp(rcpt, "empty", 5) == 0 &&
	    mill_replace_body(txn, "", 0) == -1)
		return (MILL_TEMPFAIL);
	if (strncmp(rcpt, "tell", 4) != 0)
		return (MILL_CONTINUE);
	body = mill_body(txn, &len);
	(void)snprintf(text, sizeof(text), "generation=%d body=%zu last=%d",
	    (int)s->generation, len, len > 0 ? body[len - 1] : -1);
	return (mill_reply(txn, 550, "5.0.0",
	    "%s id=%s client=%s port=%d "
	    "helo=%s auth=%s n=%zu ptr=%s",
	    text, mill_queue_id(txn), mill_client_name(txn),
	    mill_client_port(txn), mill_helo(txn), mill_auth(txn),
	    mill_n_rcpts(txn),
	    mill_macro(txn, "{client_ptr}") ? mill_macro(txn, "{client_ptr}")
	                                    : ""));
}

static enum mill_verdict
on_helo(struct mill_txn *txn)
{
	if (strncmp(mill_helo(txn), "sleep", 5) == 0)
		(void)sleep((unsigned)atoi(mill_helo(txn) + 5));
	return (MILL_CONTINUE);
}

static void
on_end(void)
{
	mill_log(NULL, LOG_INFO, "fini");
}

static const struct mill_filter filter = {
	.abi = MILL_ABI,
	.name = "sdk-filter",
	.options = options,
	.settings_size = sizeof(struct settings),
	.fini = on_end,
	.helo = on_helo,
	.rcpt = on_rcpt,
	.message = on_message,
	.edits = MILL_EDIT_ADD_HEADER | MILL_EDIT_CHANGE_HEADER |
	    MILL_EDIT_BODY | MILL_EDIT_ADD_RCPT | MILL_EDIT_DEL_RCPT |
	    MILL_EDIT_SENDER | MILL_EDIT_QUARANTINE,
	.max_body = 1 << 20,
	.macros = { [MILL_AT_CONNECT] = "{client_ptr}" },
};

/* A filter that reads nothing, and adds a field all the same */
static enum mill_verdict
on_bare(struct mill_txn *txn)
{
	if (mill_add_header(txn, "X-Bare", mill_queue_id(txn)) == -1)
		return (MILL_TEMPFAIL);
	return (MILL_CONTINUE);
}

static const struct mill_filter bare = {
	.abi = MILL_ABI,
	.name = "sdk-bare",
	.message = on_bare,
	.edits = MILL_EDIT_ADD_HEADER,
	.without = MILL_WITHOUT_CLIENT | MILL_WITHOUT_HELO |
	    MILL_WITHOUT_SENDER | MILL_WITHOUT_RCPTS | MILL_WITHOUT_HEADERS,
	.macros = { [MILL_AT_MESSAGE] = "{msg_id}" },
	.quick = MILL_QUICK_ALL,
};

int
main(int argc, char **argv)
{
	struct mill_filter quick = filter;

	quick.quick = MILL_QUICK_ALL & ~MILL_QUICK(MILL_AT_MESSAGE);
	if (getenv("SDK_QUICK") != NULL)
		return (mill_main(&quick, argc, argv));
	if (getenv("SDK_BARE") != NULL)
		return (mill_main(&bare, argc, argv));
	return (mill_main(&filter, argc, argv));
}
