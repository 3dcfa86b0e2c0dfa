/* SPDX-License-Identifier: ISC */

/* sample - which messages a milter with a sample is shown, and what of it */

#include "core/milter/chain_int.h"
#include "core/smtp/id.h"
#include "tests/unit/chain_script.h"

enum { IDS = 10000 };

static char ids[IDS][ENV_ID_MAX];

static void
make_ids(void)
{
	size_t i;

	for (i = 0; i < IDS; i++)
		queue_id_make(ids[i]);
}

/* chosen - of all ids, for that milter */
static unsigned
chosen(const char *milter, unsigned percent)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < IDS; i++)
		n += sample_picks(ids[i], milter, percent);
	return (n);
}

/* Bounds of six standard deviations: once in 500 million. */
static void
ids_are_spread_evenly(void)
{
	T_OK(chosen("spam", 100) == IDS);
	T_OK(chosen("spam", 10) >= 820 && chosen("spam", 10) <= 1180);
	T_OK(chosen("virus", 10) >= 820 && chosen("virus", 10) <= 1180);
	T_OK(chosen("spam", 1) >= 40 && chosen("spam", 1) <= 160);
	T_OK(chosen("spam", 50) >= 4700 && chosen("spam", 50) <= 5300);
	T_OK(chosen("spam", 99) >= 9840 && chosen("spam", 99) <= 9960);
}

static void
the_choice_is_the_same_again(void)
{
	size_t i;

	/* other hosts and versions choose alike */
	T_OK(sample_picks("4Xq1Zb0001", "spam", 98));
	T_OK(!sample_picks("4Xq1Zb0001", "spam", 97));
	for (i = 0; i < IDS; i++) {
		bool ten = sample_picks(ids[i], "spam", 10);

		if (ten != sample_picks(ids[i], "spam", 10) ||
		    (ten && !sample_picks(ids[i], "spam", 30)))
			break;
	}
	T_OK(i == IDS);
}

static void
milters_choose_by_themselves(void)
{
	unsigned both = 0;
	size_t i;

	for (i = 0; i < IDS; i++)
		both += sample_picks(ids[i], "spam", 50) &&
		    sample_picks(ids[i], "spam2", 50);
	T_OK(both >= 2240 && both <= 2760);
}

/* one_of - an id that is, or is not, in b's sample */
static const char *
one_of(bool in)
{
	size_t i = 0;

	while (i < IDS - 1 && sample_picks(ids[i], "b", 50) != in)
		i++;
	return (ids[i]);
}

/* says - the record of the message in hand has that text */
static bool
says(const char *text)
{
	struct buf b = BUF_INIT(1 << 20);
	bool has;

	T_OK(chain_record(chain, &b) == 0);
	has = strstr(b.data, text) != NULL;
	if (!has)
		printf("# %s\n", b.data);
	buf_fini(&b);
	return (has);
}

static void
what_is_left_out_is_not_shown(void)
{
	fakes();
	setup("", "sample = 50");
	T_OK(ask_connect() == CHAIN_CONTINUE && ask_helo() == CHAIN_CONTINUE);
	T_OK(pass(one_of(false)) == CHAIN_CONTINUE);
	T_OK(says("\"mode\":\"off\",\"sample\":50,\"sampled\":false"));
	T_OK(strstr(chain_summary(chain), "b=") == NULL);
	T_OK(engine_state(engine, "b")->left_out == 1);
	T_OK(engine_state(engine, "b")->connects == 0);
	T_OK(pass(one_of(true)) == CHAIN_CONTINUE);
	T_OK(says("\"mode\":\"enforce\",\"sample\":50,\"sampled\":true"));
	T_OK(pass(one_of(false)) == CHAIN_CONTINUE);
	T_OK(engine_state(engine, "b")->left_out == 2);
	T_OK(engine_state(engine, "a")->left_out == 0);
	finish(true);
	T_OK(fa.seen['E'] == 3);
	T_OK(fb.conns == 1 && fb.seen['C'] == 1 && fb.seen['M'] == 1);
	T_OK(fb.seen['R'] == 1 && fb.seen['E'] == 1);
	fakes_fini();
}

/* What it says at CONNECT or HELO is for its own messages, whenever asked. */
static void
a_refused_session_concerns_its_own_messages(void)
{
	static const char *const opts[] = { "sample = 50",
		"sample = 50 early = yes" };
	static const char cmds[] = "CHM";
	size_t i, k;

	for (i = 0; i < 2; i++)
		for (k = 0; k < 3; k++) {
			fakes();
			fake_reply(&fb, cmds[k], 0, 'r');
			setup("", opts[i]);
			T_OK(ask_connect() == CHAIN_CONTINUE);
			T_OK(ask_helo() == CHAIN_CONTINUE);
			T_OK(pass(one_of(false)) == CHAIN_CONTINUE);
			T_OK(engine_state(engine, "b")->connects == 0);
			T_OK(ask_mail(one_of(true)) == CHAIN_CONTINUE);
			T_OK(ask_rcpt("r1@y.test") == CHAIN_REJECT);
			T_STR(got.milter, "b");
			T_OK(pass(one_of(false)) == CHAIN_CONTINUE);
			T_OK(ask_helo() == CHAIN_CONTINUE);
			T_OK(pass(one_of(false)) == CHAIN_CONTINUE);
			finish(true);
			/* without early all is sent together */
			T_OK(fb.conns == 1 && fb.seen['R'] == (i == 0));
			fakes_fini();
		}
}

static void
the_early_are_asked_from_mail_on(void)
{
	fakes();
	setup("", "sample = 50 early = yes");
	T_OK(ask_connect() == CHAIN_CONTINUE && ask_helo() == CHAIN_CONTINUE);
	T_OK(engine_state(engine, "b")->calls == 0);
	T_OK(ask_mail(one_of(true)) == CHAIN_CONTINUE);
	T_OK(engine_state(engine, "b")->calls == 3);
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE);
	/* of a HELO with the next message only */
	T_OK(ask_helo() == CHAIN_CONTINUE);
	T_OK(pass(one_of(false)) == CHAIN_CONTINUE);
	T_OK(engine_state(engine, "b")->calls == 4);
	finish(true);
	T_OK(fb.seen['C'] == 1 && fb.seen['H'] == 1 && fb.seen['M'] == 1);
	fakes_fini();
}

/* A switch changes the mode, so that it can be taken back. */
static void
a_switch_leaves_the_sample(void)
{
	fakes();
	setup("", "sample = 50");
	greet();
	T_OK(engine_mode(engine, "b", MODE_SHADOW) == 0);
	T_OK(pass(one_of(true)) == CHAIN_CONTINUE);
	T_OK(says("\"mode\":\"shadow\",\"sample\":50,\"sampled\":true"));
	T_OK(pass(one_of(false)) == CHAIN_CONTINUE);
	T_OK(says("\"sampled\":false"));
	T_OK(engine_mode(engine, "b", MODE_OFF) == 0);
	T_OK(pass(one_of(true)) == CHAIN_CONTINUE);
	T_OK(says("\"mode\":\"off\",\"verdict\":\"none\""));
	T_OK(engine_mode(engine, "b", MODE_ENFORCE) == 0);
	T_OK(engine_state(engine, "b")->left_out == 1);
	while (engine_shadows(engine) > 0) /* asked when all is decided */
		T_OK(event_base_loop(base, EVLOOP_ONCE) == 0);
	finish(true);
	T_OK(fb.seen['E'] == 1);
	fakes_fini();
}

/* Every recipient's group has the milter, or none. */
static void
groups_of_a_message_agree(void)
{
	static const char *const modes[] = { "\"b=enforce:50%\"",
		"\"b=shadow:50%\"" };
	char policy[300];
	size_t i, k;

	for (i = 0; i < 2; i++)
		for (k = 0; k < 2; k++) {
			fakes();
			fake_start(&fa);
			fake_start(&fb);
			fake_reply(&fb, 'R', 0, 'r');
			snprintf(policy, sizeof(policy),
			    "authorise = \"a\" rule \"r\" { recipient = "
			    "{\"r*@*\"} mode = {%s} }",
			    modes[i]);
			setup_policy("", "sample = 50", policy);
			greet();
			ask_mail(one_of(k == 0));
			T_OK(ask_rcpt("r1@y.test") ==
			    (k == 0 && i == 0 ? CHAIN_REJECT : CHAIN_CONTINUE));
			T_OK(ask_rcpt("m@y.test") ==
			    (k == 0 ? CHAIN_REJECT : CHAIN_CONTINUE));
			T_OK(says(
			    k == 0 ? "\"sampled\":true" : "\"sampled\":false"));
			T_OK(engine_state(engine, "b")->left_out == k);
			finish(true);
			/* In shadow it would be asked with the message. */
			T_OK(fb.seen['R'] == (k > 0 ? 0 : i == 0 ? 2 : 1));
			fakes_fini();
		}
}

static const struct t_case cases[] = {
	{ "sample: ids are spread evenly", ids_are_spread_evenly },
	{ "sample: the choice is the same again",
	    the_choice_is_the_same_again },
	{ "sample: milters choose by themselves",
	    milters_choose_by_themselves },
	{ "sample: what is left out is not shown",
	    what_is_left_out_is_not_shown },
	{ "sample: a refused session concerns its own messages",
	    a_refused_session_concerns_its_own_messages },
	{ "sample: the early are asked from MAIL on",
	    the_early_are_asked_from_mail_on },
	{ "sample: a switch leaves the sample", a_switch_leaves_the_sample },
	{ "sample: groups of a message agree", groups_of_a_message_agree },
};

int
main(void)
{
	make_ids();
	return (t_main(cases, sizeof(cases) / sizeof(cases[0])));
}
