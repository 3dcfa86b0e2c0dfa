/* SPDX-License-Identifier: ISC */

/* Rules that the chain asks: tables that answer late, not at all, or for a
 * transaction that is over; content; each with fake milters "a" and "b". */

#include "tests/unit/chain_lib.h"

#include <string.h>

#define TABLE "rule \"t\" { table = \"recipient text:/t\" skip = {\"b\"} }"

/* What the table is to say next, and what it was asked. */
static struct {
	int found; /* 1, 0, -1; -2: nothing for now; -3: it cannot be asked */
	const char *value;
	size_t len;
	int asked;
	char key[300], table[100];
} table;

static void
on_table(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	in_call = true; /* the answer may not come from inside */
	chain_found(chain, table.found, table.value, table.len);
	in_call = false;
}

static int
ask_table(void *arg, const char *name, const char *key)
{
	struct timeval tv = { 0, 1000 };

	T_OK(arg == &table);
	table.asked++;
	snprintf(table.key, sizeof(table.key), "%s", key);
	snprintf(table.table, sizeof(table.table), "%s", name);
	if (table.found == -3)
		return (-1);
	if (table.found != -2)
		event_base_once(base, -1, EV_TIMEOUT, on_table, NULL, &tv);
	return (0);
}

static void
begin(const char *b_opts, const char *rules)
{
	char policy[1000];

	if (dir[0] == '\0')
		fakes(); /* else they have been told what to say */
	fake_start(&fa);
	fake_start(&fb);
	snprintf(policy, sizeof(policy), "authorise = \"a\" %s", rules);
	setup_policy("", b_opts, policy);
	facts.lookup = ask_table;
	facts.lookup_arg = &table;
	memset(&table, 0, sizeof(table));
	table.value = "";
}

static void
end(void)
{
	finish(true);
	fakes_fini();
}

static enum chain_verdict
message_to(const char *rcpt)
{
	ask_mail("Q1");
	if (ask_rcpt(rcpt) != CHAIN_CONTINUE)
		return (got.verdict);
	T_OK(got.authorised);
	ask_data();
	return (ask_message());
}

static void
a_table_decides_for_a_recipient(void)
{
	begin("", TABLE);
	table.found = 1;
	T_OK(message_to("r1@y.test") == CHAIN_CONTINUE && table.asked == 1);
	T_OK(strcmp(table.key, "r1@y.test") == 0 &&
	    strcmp(table.table, "text:/t") == 0);
	table.found = 0;
	T_OK(message_to("r1@y.test") == CHAIN_CONTINUE && table.asked == 2);
	end();
	T_OK(fb.seen['M'] == 1 && fa.seen['M'] == 2);
}

static void
what_was_found_holds_for_the_transaction(void)
{
	begin("", TABLE);
	table.found = 1;
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
	table.found = 0;
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && table.asked == 1);
	T_OK(got.authorised);
	T_OK(ask_rcpt("r2@y.test") == CHAIN_CONTINUE && table.asked == 2);
	end();
	T_OK(fb.seen['R'] == 1);
}

static void
a_look_up_that_fails_is_temporary(void)
{
	begin("", TABLE);
	ask_mail("Q1");
	table.found = -1;
	T_OK(ask_rcpt("r1@y.test") == CHAIN_TEMPFAIL);
	T_OK(strncmp(got.reply, "451 4.3.0", 9) == 0 && !got.authorised);
	T_OK(ask_rcpt("r1@y.test") == CHAIN_TEMPFAIL && table.asked == 2);
	table.found = -3;
	T_OK(ask_rcpt("r1@y.test") == CHAIN_TEMPFAIL);
	table.found = 1; /* and is asked again */
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	table.value = calloc(1, 3 << 20);
	table.len = 3 << 20; /* more than is kept */
	T_OK(ask_rcpt("r2@y.test") == CHAIN_TEMPFAIL && !got.authorised);
	free((char *)(uintptr_t)table.value);
	end();
	T_OK(fa.seen['R'] == 1 && fb.seen['R'] == 0);
}

static void
without_tables_every_look_up_fails(void)
{
	begin("", TABLE);
	facts.lookup = NULL;
	ask_mail("Q1");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_TEMPFAIL && !got.authorised);
	end();
}

static void
at_connect_a_failure_waits_for_mail(void)
{
	begin("early = yes",
	    "rule \"t\" { table = \"client text:/t\" skip = {\"b\"} }");
	table.found = -1;
	T_OK(ask_connect() == CHAIN_CONTINUE && table.asked == 1);
	T_OK(ask_helo() == CHAIN_CONTINUE && table.asked == 1);
	T_OK(ask_mail("Q1") == CHAIN_TEMPFAIL && table.asked == 2);
	T_OK(strncmp(got.reply, "451 4.3.0", 9) == 0);
	table.found = 0;
	T_OK(message_to("r1@y.test") == CHAIN_CONTINUE && table.asked == 3);
	end();
	T_OK(fb.seen['C'] == 1 && fb.seen['H'] == 1 && fb.seen['M'] == 1);
}

/* The answer to a question that was given up is nobody else's. */
static void
a_late_answer_is_not_taken_for_another(void)
{
	begin("", TABLE);
	ask_mail("Q1");
	table.found = -2;
	chain_rcpt(chain, "vip@y.test", NULL, 0, NULL, NULL, on_answer, NULL);
	T_OK(table.asked == 1);
	chain_abort(chain);
	ask_mail("Q2");
	chain_rcpt(chain, "r1@y.test", NULL, 0, NULL, NULL, on_answer, NULL);
	T_OK(table.asked == 1);       /* one at a time */
	chain_found(chain, 1, "", 0); /* vip's */
	T_OK(table.asked == 2 && strcmp(table.key, "r1@y.test") == 0);
	chain_found(chain, 0, "", 0);
	T_OK(wait_answer() == CHAIN_CONTINUE && got.authorised);
	table.found = 0;
	T_OK(ask_rcpt("vip@y.test") == CHAIN_CONTINUE && table.asked == 3);
	end();
	T_OK(fb.seen['R'] == 2);
}

static void
a_session_may_end_during_a_look_up(void)
{
	begin("", TABLE);
	ask_mail("Q1");
	table.found = -2;
	chain_rcpt(chain, "r1@y.test", NULL, 0, NULL, NULL, on_answer, NULL);
	chain_free(&chain);
	end();
	T_OK(fa.seen['M'] == 0);
}

/* 5.1: nothing that a table or rule says makes up for the authoriser. */
static void
a_refused_recipient_stays_refused(void)
{
	fakes();
	fake_says(&fa, 'R', 1, FAKE_CLOSE);
	begin("", TABLE);
	ask_mail("Q1");
	table.found = -1;
	T_OK(ASK(chain_rcpt(chain, "r1@y.test", NULL, 0, NULL, "550 5.1.3 no",
	         on_answer, NULL)) == CHAIN_CONTINUE);
	T_OK(!got.authorised);
	table.found = 1;
	T_OK(ask_rcpt("r2@y.test") == CHAIN_TEMPFAIL && !got.authorised);
	end();
}

static void
content_takes_a_milter_away(void)
{
	begin("",
	    "rule \"h\" { header = \"X-A\" size = \">1\" "
	    "skip = {\"b\"} }");
	T_OK(message_to("r1@y.test") == CHAIN_CONTINUE);
	end();
	T_OK(fb.seen['R'] == 1 && fb.seen['L'] == 0 && fb.seen['E'] == 0);
	T_OK(fa.seen['E'] == 1);
}

/* Its connection is told of the message from memory, also a second time when
 * it breaks at the first command. */
static void
content_adds_a_milter_from_memory(void)
{
	int i;

	for (i = 0; i < 3; i++) {
		fakes();
		if (i == 1) /* accepts: it has no more to say */
			fake_reply(&fb, 'R', 1, 'a');
		if (i == 2) /* the client has been told "yes" */
			fake_reply(&fb, 'R', 1, 'r');
		begin("content = yes",
		    "rule \"1\" { chain = {\"a\"} }"
		    "rule \"2\" { header = \"X-A\" recipient = \"r2@*\" "
		    "add = {\"b\"} }");
		ask_mail("Q1");
		if (i < 2)
			T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
		T_OK(ask_rcpt("r2@y.test") == CHAIN_CONTINUE);
		env.rcpts[1].group = i < 2;
		if (i == 2)
			env_del_rcpt(&env, 0);
		ask_data();
		T_OK(
		    ask_message() == (i < 2 ? CHAIN_CONTINUE : CHAIN_TEMPFAIL));
		end();
		T_OK(fa.seen['R'] == (i < 2 ? 2u : 1) && fb.seen['C'] == 1);
		T_OK(fb.seen['M'] == 1 && fb.seen['R'] == 1);
	}
}

/* Nobody hears the content that a verdict still to come may keep from him. */
static void
who_depends_on_a_verdict_waits_for_it(void)
{
	int i;

	for (i = 0; i < 2; i++) {
		fakes();
		fa.actions = fb.actions = 0; /* they may run side by side */
		fa.eom_delay_ms = 50;
		if (i == 1)
			fake_reply(&fa, 'E', 1, 'a');
		begin("",
		    "rule \"v\" { verdict = \"a=accept\" "
		    "skip = {\"b\"} }");
		T_OK(message_to("r1@y.test") == CHAIN_CONTINUE);
		end();
		T_OK(fb.seen['L'] == (i == 0 ? 4u : 0));
		T_OK(fb.seen['E'] == (i == 0));
	}
}

static const struct t_case cases[] = {
	{ "rules: a table decides for a recipient",
	    a_table_decides_for_a_recipient },
	{ "rules: what was found holds for the transaction",
	    what_was_found_holds_for_the_transaction },
	{ "rules: a look-up that fails is temporary",
	    a_look_up_that_fails_is_temporary },
	{ "rules: without tables every look-up fails",
	    without_tables_every_look_up_fails },
	{ "rules: at CONNECT a failure waits for MAIL",
	    at_connect_a_failure_waits_for_mail },
	{ "rules: a late answer is not taken for another",
	    a_late_answer_is_not_taken_for_another },
	{ "rules: a session may end during a look-up",
	    a_session_may_end_during_a_look_up },
	{ "rules: a refused recipient stays refused",
	    a_refused_recipient_stays_refused },
	{ "rules: content takes a milter away", content_takes_a_milter_away },
	{ "rules: content adds a milter, told from memory",
	    content_adds_a_milter_from_memory },
	{ "rules: who depends on a verdict waits for it",
	    who_depends_on_a_verdict_waits_for_it },
};

int
main(void)
{
	return (t_main(cases, sizeof(cases) / sizeof(cases[0])));
}
