/* SPDX-License-Identifier: ISC */

/* sdk_test - libmilldam through its fake transaction */

#include "tests/lib/t.h"

#include <errno.h>
#include <milldam/milldam_test.h>
#include <stdlib.h>

static enum mill_verdict (*body_fn)(struct mill_txn *);
static enum mill_verdict next_rcpt;
static int message_calls, freed;

struct settings {
	const char *name, *path;
	bool on;
	int64_t count;
	uint64_t size, time;
	int word;
	const char *const *list;
	const struct mill_nets *nets;
	char blocks[256];
};

static const char *const words[] = { "red", "green", NULL };

static const struct mill_option options[] = {
	{ "name", MILL_STRING, offsetof(struct settings, name), "nobody", "", 0,
	    0, NULL },
	{ "path", MILL_PATH, offsetof(struct settings, path), NULL, "", 0, 0,
	    NULL },
	{ "on", MILL_BOOL, offsetof(struct settings, on), "yes", "", 0, 0,
	    NULL },
	{ "count", MILL_INT, offsetof(struct settings, count), "7", "", 1, 9,
	    NULL },
	{ "size", MILL_SIZE, offsetof(struct settings, size), "2K", "", 0, 0,
	    NULL },
	{ "time", MILL_TIME, offsetof(struct settings, time), "3s", "", 0, 0,
	    NULL },
	{ "word", MILL_WORD, offsetof(struct settings, word), "green", "", 0, 0,
	    words },
	{ "list", MILL_LIST, offsetof(struct settings, list), "a, b", "", 0, 0,
	    NULL },
	{ "nets", MILL_NETS, offsetof(struct settings, nets), "192.0.2.0/24",
	    "", 0, 0, NULL },
	{ NULL, MILL_STRING, 0, NULL, NULL, 0, 0, NULL },
};

static int
load(void *data, struct mill_conf *conf)
{
	struct settings *s = data;
	const struct mill_block *b = NULL;

	while ((b = mill_conf_next(conf, NULL, "header", b)) != NULL) {
		if (!mill_conf_has(conf, b, "name"))
			mill_conf_error(conf, b, NULL, "header without name");
		strcat(s->blocks, mill_conf_title(b));
		strcat(s->blocks, "=");
		strcat(s->blocks, mill_conf_string(conf, b, "name", "?"));
		strcat(s->blocks, ";");
	}
	return (0);
}

static enum mill_verdict
on_rcpt(struct mill_txn *t)
{
	if (strcmp(mill_rcpt(t), "no@b.test") == 0)
		return (mill_reply(
		    t, 550, "5.1.1", "%s: none\nat 100%% sure", mill_rcpt(t)));
	return (next_rcpt);
}

static enum mill_verdict
on_message(struct mill_txn *t)
{
	message_calls++;
	return (body_fn != NULL ? body_fn(t) : MILL_CONTINUE);
}

static const struct mill_filter filter = {
	.abi = MILL_ABI,
	.name = "test-filter",
	.options = options,
	.settings_size = sizeof(struct settings),
	.load = load,
	.rcpt = on_rcpt,
	.message = on_message,
	.edits = 0x7f,
	.max_body = 64,
};

static struct mill_test *
begin(const char *settings, enum mill_verdict (*fn)(struct mill_txn *))
{
	struct mill_test *t = mill_test_new(&filter, settings);

	if (t == NULL)
		abort();
	body_fn = fn;
	next_rcpt = MILL_CONTINUE;
	message_calls = 0;
	(void)mill_test_connect(t, "192.0.2.9", NULL);
	(void)mill_test_helo(t, "client.test");
	(void)mill_test_mail(t, "<a@a.test>", "SIZE=10 BODY=8BITMIME");
	(void)mill_test_rcpt(t, "<b@b.test>");
	return (t);
}

static const char eml[] = "Subject: one\n two\nX-A: 1\r\nx-a: 2\nX-A:3\n"
                          "\nbody\r\nline\n";

static enum mill_verdict
check_defaults(struct mill_txn *t)
{
	const struct settings *s = mill_settings(t);

	T_STR(s->name, "nobody");
	T_OK(s->path == NULL && s->on && s->count == 7);
	T_OK(s->size == 2048 && s->time == 3000 && s->word == 1);
	T_STR(s->list[0], "a");
	T_STR(s->list[1], "b");
	T_OK(s->list[2] == NULL);
	T_OK(mill_client_in(t, s->nets));
	T_OK(!mill_nets_has(s->nets, "192.0.3.1"));
	return (MILL_CONTINUE);
}

static void
fills_settings_from_defaults(void)
{
	struct mill_test *t = begin("", check_defaults);

	T_OK(mill_test_eml(t, eml, sizeof(eml) - 1) == MILL_CONTINUE);
	T_OK(message_calls == 1);
	mill_test_free(&t);
	T_OK(t == NULL);
}

static enum mill_verdict
check_written(struct mill_txn *t)
{
	const struct settings *s = mill_settings(t);

	T_STR(s->name, "x y");
	T_OK(!s->on && s->count == 9 && s->word == 0);
	T_OK(s->list[0] == NULL);
	T_OK(!mill_client_in(t, s->nets));
	T_STR(s->blocks, "one=A;two=B;");
	return (MILL_CONTINUE);
}

static void
fills_settings_and_blocks_from_the_file(void)
{
	struct mill_test *t = begin("name = \"x y\"\non = no\ncount = 9\n"
	                            "word = red\nlist = {}\n"
	                            "nets = {2001:db8::/32}\n"
	                            "header \"one\" { name = A }\n"
	                            "header \"two\" { name = B }\n",
	    check_written);

	(void)mill_test_eml(t, eml, sizeof(eml) - 1);
	T_OK(message_calls == 1);
	mill_test_free(&t);
}

static void
refuses_settings_with_mistakes(void)
{
	T_OK(mill_test_new(&filter, "count = 10\n") == NULL);
	T_OK(mill_test_new(&filter, "cuont = 9\n") == NULL);
	T_OK(mill_test_new(&filter, "nets = {192.0.2.1/24}\n") == NULL);
	T_OK(mill_test_new(&filter, "header \"a\" { }\n") == NULL);
	T_OK(mill_test_new(&filter, "header \"a\" { name=b y=1 }\n") == NULL);
	T_OK(mill_test_new(&filter, "footer \"a\" { name = b }\n") == NULL);
}

static enum mill_verdict
check_reads(struct mill_txn *t)
{
	size_t n;
	const char *body = mill_body(t, &n);

	T_STR(mill_client_name(t), "[192.0.2.9]");
	T_STR(mill_client_addr(t), "192.0.2.9");
	T_STR(mill_helo(t), "client.test");
	T_STR(mill_sender(t), "a@a.test");
	T_STR(mill_sender_args(t)[1], "BODY=8BITMIME");
	T_OK(mill_sender_args(t)[2] == NULL);
	T_OK(mill_n_rcpts(t) == 1);
	T_STR(mill_rcpt_at(t, 0), "b@b.test");
	T_STR(mill_rcpt(t), "");
	T_STR(mill_header(t, "subject", 0), "one two");
	T_STR(mill_header_raw(t, 0), "one\n two");
	T_STR(mill_header(t, "X-A", 1), "2");
	T_STR(mill_header(t, "X-A", 2), "3");
	T_OK(mill_header(t, "X-A", 3) == NULL);
	T_OK(mill_n_headers(t) == 4 && mill_header_nth(t, 3) == 2);
	T_OK(n == 12 && memcmp(body, "body\r\nline\r\n", 12) == 0);
	T_STR(mill_queue_id(t), "QID1");
	T_STR(mill_auth(t), "");
	return (MILL_CONTINUE);
}

static void
shows_session_envelope_header_and_body(void)
{
	struct mill_test *t = begin("", check_reads);

	mill_test_macro(t, "i", "QID1");
	T_OK(mill_test_rcpt(t, "no@b.test") == MILL_REJECT);
	T_STR(mill_test_reply(t),
	    "550 5.1.1 no@b.test: none\n550 5.1.1 at 100% sure\n");
	T_OK(mill_test_eml(t, eml, sizeof(eml) - 1) == MILL_CONTINUE);
	T_STR(mill_test_edits(t), "");
	mill_test_free(&t);
}

static enum mill_verdict
edit_all(struct mill_txn *t)
{
	T_OK(mill_quarantine(t, "why\nnot") == 0);
	T_OK(mill_replace_body(t, "old", 3) == 0);
	T_OK(mill_replace_body(t, "newer", 5) == 0);
	T_OK(mill_add_rcpt(t, "n@n.test", "NOTIFY=NEVER") == 0);
	T_OK(mill_del_rcpt(t, "b@b.test") == 0);
	T_OK(mill_change_sender(t, "", NULL) == 0);
	T_OK(mill_add_header(t, "X-New", "v\n\tw") == 0);
	T_OK(mill_insert_header(t, 0, "X-Top", "1") == 0);
	T_OK(mill_delete_header(t, "x-a", 0) == 0);
	T_OK(mill_delete_header(t, "X-A", 2) == 0);
	T_OK(mill_delete_header(t, "X-A", 9) == 0);
	T_OK(mill_change_header(t, "X-A", 1, "void") == 0);
	T_OK(mill_change_header(t, "X-A", 1, "two") == 0);
	T_OK(mill_change_header(t, "Subject", 0, "s") == 0);
	return (MILL_ACCEPT);
}

static void
orders_edits_as_every_mta_takes_them(void)
{
	struct mill_test *t = begin("", edit_all);
	size_t n;

	T_OK(mill_test_eml(t, eml, sizeof(eml) - 1) == MILL_ACCEPT);
	T_STR(mill_test_edits(t),
	    "change X-A[1]: two\n"
	    "change Subject[0]: s\n"
	    "delete X-A[2]\n"
	    "delete x-a[0]\n"
	    "insert 0 X-Top: 1\n"
	    "add X-New: v\\n\tw\n"
	    "sender <>\n"
	    "rcpt- <b@b.test>\n"
	    "rcpt+ <n@n.test> NOTIFY=NEVER\n"
	    "body 5\n"
	    "quarantine why?not\n");
	T_OK(memcmp(mill_test_new_body(t, &n), "newer", 5) == 0 && n == 5);
	mill_test_free(&t);
}

static enum mill_verdict
edit_wrongly(struct mill_txn *t)
{
	T_OK(mill_add_header(t, "X New", "v") == -1 && errno == EINVAL);
	T_OK(mill_add_header(t, "X:", "v") == -1 && errno == EINVAL);
	T_OK(mill_add_header(t, "", "v") == -1 && errno == EINVAL);
	T_OK(mill_add_header(t, "X", "v\nBcc: w") == -1 && errno == EINVAL);
	T_OK(mill_add_header(t, "X", "v\r\n w") == -1 && errno == EINVAL);
	T_OK(mill_add_rcpt(t, "a@b>\r\nX", NULL) == -1 && errno == EINVAL);
	T_OK(mill_add_rcpt(t, "", NULL) == -1 && errno == EINVAL);
	T_OK(mill_add_rcpt(t, "a b@c", NULL) == -1 && errno == EINVAL);
	T_OK(mill_change_sender(t, "a@b", "X\n") == -1 && errno == EINVAL);
	T_OK(mill_quarantine(t, "") == -1 && errno == EINVAL);
	return (MILL_CONTINUE);
}

static void
refuses_edits_that_would_inject(void)
{
	struct mill_test *t = begin("", edit_wrongly);

	T_OK(mill_test_eml(t, eml, sizeof(eml) - 1) == MILL_CONTINUE);
	T_STR(mill_test_edits(t), "");
	mill_test_free(&t);
}

static enum mill_verdict
edit_and_reject(struct mill_txn *t)
{
	T_OK(mill_add_header(t, "X", "v") == 0);
	return (mill_reply(t, 554, NULL, "no"));
}

static void
makes_no_edit_of_a_refused_message(void)
{
	struct mill_test *t = begin("", edit_and_reject);

	T_OK(mill_test_eml(t, eml, sizeof(eml) - 1) == MILL_REJECT);
	T_STR(mill_test_edits(t), "");
	T_STR(mill_test_reply(t), "554 no\n");
	mill_test_free(&t);
}

static void
drops_a_discarded_recipient_alone(void)
{
	struct mill_test *t = begin("", NULL);

	next_rcpt = MILL_DISCARD;
	T_OK(mill_test_rcpt(t, "<c@b.test>") == MILL_CONTINUE);
	T_OK(mill_test_eml(t, eml, sizeof(eml) - 1) == MILL_CONTINUE);
	T_STR(mill_test_edits(t), "rcpt- <c@b.test>\n");
	mill_test_free(&t);
}

static void
discards_when_no_recipient_is_left(void)
{
	struct mill_test *t = mill_test_new(&filter, "");

	next_rcpt = MILL_DISCARD;
	message_calls = 0;
	(void)mill_test_mail(t, "a@a.test", NULL);
	T_OK(mill_test_rcpt(t, "c@b.test") == MILL_CONTINUE);
	T_OK(mill_test_eml(t, eml, sizeof(eml) - 1) == MILL_DISCARD);
	T_OK(message_calls == 0);
	mill_test_free(&t);
}

static void
never_turns_an_accepted_recipient_into_all(void)
{
	struct mill_test *t = begin("", NULL);

	next_rcpt = MILL_ACCEPT;
	T_OK(mill_test_rcpt(t, "c@b.test") == MILL_CONTINUE);
	T_OK(mill_test_rcpt(t, "no@b.test") == MILL_REJECT);
	mill_test_free(&t);
}

static void
makes_a_wrong_verdict_a_tempfail(void)
{
	struct mill_test *t = begin("", NULL);

	next_rcpt = (enum mill_verdict)77;
	T_OK(mill_test_rcpt(t, "c@b.test") == MILL_TEMPFAIL);
	T_STR(mill_test_reply(t), "");
	mill_test_free(&t);
}

static enum mill_verdict
wrong_reply(struct mill_txn *t)
{
	T_OK(mill_reply(t, 250, NULL, "ok") == MILL_TEMPFAIL);
	T_OK(mill_reply(t, 550, "4.1.1", "x") == MILL_REJECT);
	(void)mill_reply(t, 550, "5.1.1", "unused");
	return (MILL_CONTINUE);
}

static void
drops_replies_that_contradict(void)
{
	struct mill_test *t = begin("", wrong_reply);

	T_OK(mill_test_eml(t, eml, sizeof(eml) - 1) == MILL_CONTINUE);
	T_STR(mill_test_reply(t), "");
	mill_test_free(&t);
}

static void
answers_an_oversize_body_as_declared(void)
{
	struct mill_test *t = begin("", NULL);
	char big[65];

	memset(big, 'x', sizeof(big));
	mill_test_body(t, big, 64);
	T_OK(mill_test_message(t) == MILL_CONTINUE && message_calls == 1);
	(void)mill_test_mail(t, "a@a.test", NULL);
	(void)mill_test_rcpt(t, "b@b.test");
	mill_test_body(t, big, 65);
	T_OK(mill_test_message(t) == MILL_TEMPFAIL && message_calls == 1);
	T_STR(mill_test_reply(t),
	    "451 4.3.4 the message is too large to check\n");
	mill_test_free(&t);
}

static void
tempfails_more_header_than_it_keeps(void)
{
	struct mill_test *t = begin("", NULL);
	char *value = calloc(1, 1 << 20);
	int i;

	memset(value, 'v', (1 << 20) - 1);
	for (i = 0; i < 20; i++)
		mill_test_header(t, "X", value);
	T_OK(mill_test_headers(t) == MILL_TEMPFAIL);
	T_OK(mill_test_message(t) == MILL_TEMPFAIL && message_calls == 0);
	free(value);
	mill_test_free(&t);
}

static void
count_free(void *p)
{
	(void)p;
	freed++;
}

static enum mill_verdict
keep_data(struct mill_txn *t)
{
	T_OK(mill_message_data(t) == NULL);
	mill_set_message_data(t, &freed, count_free);
	T_OK(mill_message_data(t) == &freed);
	if (mill_session_data(t) == NULL)
		mill_set_session_data(t, &message_calls, count_free);
	return (MILL_CONTINUE);
}

static void
frees_the_filters_data_with_message_and_session(void)
{
	struct mill_test *t = begin("", keep_data);

	freed = 0;
	(void)mill_test_message(t);
	T_OK(freed == 1);
	(void)mill_test_mail(t, "a@a.test", NULL);
	(void)mill_test_message(t);
	T_OK(freed == 2);
	mill_test_free(&t);
	T_OK(freed == 3);
}

static enum mill_verdict
long_reply(struct mill_txn *t)
{
	char text[20000];
	size_t i;

	for (i = 0; i < sizeof(text) - 1; i++)
		text[i] = i % 300 == 299 ? '\n' : '\r';
	text[i] = '\0';
	return (mill_reply(t, 450, "4.1.1", "%s", text));
}

static void
bounds_the_lines_of_a_reply(void)
{
	struct mill_test *t = begin("", long_reply);
	const char *s;
	int lines = 0;

	T_OK(mill_test_message(t) == MILL_TEMPFAIL);
	for (s = mill_test_reply(t); *s != '\0'; s++) {
		lines += *s == '\n';
		T_OK(*s != '\r');
	}
	T_OK(lines == 32);
	mill_test_free(&t);
}

static enum mill_verdict
edit_early(struct mill_txn *t)
{
	T_OK(mill_add_header(t, "X", "v") == -1 && errno == EINVAL);
	return (MILL_CONTINUE);
}

static enum mill_verdict
edit_mail(struct mill_txn *t)
{
	T_OK(mill_add_header(t, "X-Mail", "1") == 0);
	return (MILL_CONTINUE);
}

static enum mill_verdict
edit_rcpt(struct mill_txn *t)
{
	T_STR(mill_rcpt_args(t)[0], "NOTIFY=NEVER");
	T_OK(mill_rcpt_args(t)[1] == NULL);
	T_OK(mill_add_header(t, "X-Rcpt", mill_rcpt(t)) == 0);
	T_OK(mill_add_rcpt(t, "b@b.test", NULL) == -1 && errno == ENOTSUP);
	return (MILL_CONTINUE);
}

static enum mill_verdict
accept_headers(struct mill_txn *t)
{
	T_OK(mill_add_header(t, "X-Headers", "1") == 0);
	return (MILL_ACCEPT);
}

static enum mill_verdict
never(struct mill_txn *t)
{
	(void)t;
	T_OK(false);
	return (MILL_REJECT);
}

static void
makes_edits_of_earlier_stages_at_the_end(void)
{
	static const struct mill_filter early = { .abi = MILL_ABI,
		.name = "early",
		.connect = edit_early,
		.helo = edit_early,
		.mail = edit_mail,
		.rcpt = edit_rcpt,
		.headers = accept_headers,
		.message = never,
		.edits = MILL_EDIT_ADD_HEADER };
	struct mill_test *t = mill_test_new(&early, "");

	(void)mill_test_connect(t, "", NULL);
	(void)mill_test_helo(t, "h");
	(void)mill_test_mail(t, "<>", NULL);
	T_OK(mill_test_rcpt_args(t, "<r@b.test>", "NOTIFY=NEVER") ==
	    MILL_CONTINUE);
	/* Hidden: the MTA must come to the end for the edits to leave. */
	T_OK(mill_test_headers(t) == MILL_CONTINUE);
	T_OK(mill_test_message(t) == MILL_CONTINUE);
	T_STR(mill_test_edits(t),
	    "add X-Mail: 1\nadd X-Rcpt: r@b.test\nadd X-Headers: 1\n");
	/* RSET forgets edits too. */
	(void)mill_test_mail(t, "<>", NULL);
	mill_test_abort(t);
	(void)mill_test_mail(t, "<>", NULL);
	(void)mill_test_headers(t);
	(void)mill_test_message(t);
	T_STR(mill_test_edits(t), "add X-Mail: 1\nadd X-Headers: 1\n");
	mill_test_free(&t);
}

static int
keep_nothing(void *data, struct mill_conf *conf)
{
	(void)data;
	mill_conf_max_body(conf, 0, MILL_TEMPFAIL);
	return (0);
}

static void
never_passes_a_body_unseen_because_of_a_limit_of_0(void)
{
	static const struct mill_filter f = { .abi = MILL_ABI,
		.name = "keeps nothing",
		.load = keep_nothing,
		.message = never,
		.max_body = 1 };
	static const struct mill_filter none = {
		.abi = MILL_ABI, .name = "declares none", .load = keep_nothing
	};
	struct mill_test *t = mill_test_new(&f, "");

	(void)mill_test_mail(t, "<>", NULL);
	mill_test_body(t, "x", 1);
	T_OK(mill_test_message(t) == MILL_TEMPFAIL);
	mill_test_free(&t);
	T_OK(mill_test_new(&none, "") == NULL);
}

static void
refuses_a_filter_that_is_defined_wrongly(void)
{
	static const struct mill_option outside[] = {
		{ .name = "a", .type = MILL_INT, .offset = 4 }, { .name = NULL }
	};
	static const struct mill_option wordless[] = {
		{ .name = "a", .type = MILL_WORD }, { .name = NULL }
	};
	struct mill_option many[129];
	struct mill_filter f = {
		.abi = MILL_ABI, .name = "wrong", .settings_size = 8
	};
	char list[500];
	size_t i;

	f.options = outside;
	T_OK(mill_test_new(&f, "") == NULL);
	f.options = wordless;
	T_OK(mill_test_new(&f, "") == NULL);
	memset(many, 0, sizeof(many));
	for (i = 0; i < 128; i++)
		many[i].name = "n";
	f.options = many;
	T_OK(mill_test_new(&f, "") == NULL);
	f.options = NULL;
	memset(list, 'm', sizeof(list));
	list[sizeof(list) - 1] = '\0';
	f.macros[MILL_AT_MAIL] = list;
	T_OK(mill_test_new(&f, "") == NULL);
}

static const struct t_case cases[] = {
	{ "makes_edits_of_earlier_stages_at_the_end",
	    makes_edits_of_earlier_stages_at_the_end },
	{ "never_passes_a_body_unseen_because_of_a_limit_of_0",
	    never_passes_a_body_unseen_because_of_a_limit_of_0 },
	{ "refuses_a_filter_that_is_defined_wrongly",
	    refuses_a_filter_that_is_defined_wrongly },
	{ "fills_settings_from_defaults", fills_settings_from_defaults },
	{ "fills_settings_and_blocks_from_the_file",
	    fills_settings_and_blocks_from_the_file },
	{ "refuses_settings_with_mistakes", refuses_settings_with_mistakes },
	{ "shows_session_envelope_header_and_body",
	    shows_session_envelope_header_and_body },
	{ "orders_edits_as_every_mta_takes_them",
	    orders_edits_as_every_mta_takes_them },
	{ "refuses_edits_that_would_inject", refuses_edits_that_would_inject },
	{ "makes_no_edit_of_a_refused_message",
	    makes_no_edit_of_a_refused_message },
	{ "drops_a_discarded_recipient_alone",
	    drops_a_discarded_recipient_alone },
	{ "discards_when_no_recipient_is_left",
	    discards_when_no_recipient_is_left },
	{ "never_turns_an_accepted_recipient_into_all",
	    never_turns_an_accepted_recipient_into_all },
	{ "makes_a_wrong_verdict_a_tempfail",
	    makes_a_wrong_verdict_a_tempfail },
	{ "drops_replies_that_contradict", drops_replies_that_contradict },
	{ "answers_an_oversize_body_as_declared",
	    answers_an_oversize_body_as_declared },
	{ "tempfails_more_header_than_it_keeps",
	    tempfails_more_header_than_it_keeps },
	{ "frees_the_filters_data_with_message_and_session",
	    frees_the_filters_data_with_message_and_session },
	{ "bounds_the_lines_of_a_reply", bounds_the_lines_of_a_reply },
};

T_MAIN(cases)
