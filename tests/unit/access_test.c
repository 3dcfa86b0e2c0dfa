/* SPDX-License-Identifier: ISC */

/* access_test - who may send to whom, through the fake transaction */

#include "milters/access/access.h"
#include "tests/lib/t.h"

#include <milldam/milldam_test.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/access-test.XXXXXX";
static char reply[1024];

/* write_file - below dir; the path is overwritten by the next call */
static const char *
write_file(const char *name, const char *text)
{
	static char path[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	if ((f = fopen(path, "w")) == NULL)
		abort();
	fputs(text, f);
	(void)fclose(f);
	return (path);
}

static const char table[] =
    "# Sendmail's forms\n"
    "Connect:bad.test           REJECT\n"
    "Connect:good.bad.test      OK\n"
    "Connect:192.0.2            REJECT\n"
    "Connect:192.0.2.7          OK\n"
    "Connect:198.51.100.64/26   ERROR:5.7.1:\"550 range\"\n"
    "Connect:198.51.100.70      RELAY\n"
    "Connect:IPv6:2001:db8:0    REJECT\n"
    "Connect:2001:db8:1::/48    550 5.7.1 net\n"
    "From:spam@from.test        REJECT\n"
    "From:wait.test             TEMPFAIL\n"
    "From:biz                   REJECT\n"
    "From:friend@shop.biz       OK\n"
    "From:drop.test             DISCARD\n"
    "From:hold.test             QUARANTINE:look at it\n"
    "From:odd.test              PERHAPS\n"
    "From:skip.biz              SKIP\n"
    "From:<>                    OK\n"
    "nobody@                    ERROR:5.1.1:550 gone\n"
    "untagged.test              553 no mail\n"
    "To:closed@ours.test        REJECT\n"
    "To:partner.test            RELAY\n"
    "To:half@ours.test          DISCARD\n"
    "Spam:all@ours.test         FRIEND\n";

static const char basic[] = "relay-networks = {127.0.0.0/8, ::1, 10.0.0.0/8}\n"
                            "relay-domains = {ours.test, .many.test}\n";

/* with_table - settings with the access table */
static const char *
with_table(void)
{
	static char text[1024];

	(void)snprintf(text, sizeof(text), "%saccess = \"text:%s\"\n", basic,
	    write_file("access", table));
	return (text);
}

/* ask - the verdict for one recipient; its reply's first line in reply */
static enum mill_verdict
ask(const char *settings, const char *client, const char *name,
    const char *from, const char *to)
{
	struct mill_test *t = mill_test_new(&access_filter, settings);
	enum mill_verdict v;

	if (t == NULL)
		abort();
	(void)mill_test_connect(t, client, name);
	(void)mill_test_mail(t, from, NULL);
	v = mill_test_rcpt(t, to);
	(void)snprintf(reply, sizeof(reply), "%s", mill_test_reply(t));
	reply[strcspn(reply, "\n")] = '\0';
	mill_test_free(&t);
	return (v);
}

#define OUT     "203.0.113.5"
#define ASK(to) ask(basic, OUT, NULL, "<a@a.test>", to)
#define CLIENT(addr, name)                                                     \
	ask(with_table(), addr, name, "<a@a.test>", "<b@ours.test>")
#define FROM(from) ask(with_table(), OUT, NULL, from, "<b@ours.test>")
#define TO(to)     ask(with_table(), OUT, NULL, "<a@a.test>", to)

static void
accepts_anyone_to_our_domains(void)
{
	T_OK(ASK("<b@ours.test>") == MILL_CONTINUE);
	T_OK(ASK("<B@OURS.Test.>") == MILL_CONTINUE);
	T_OK(ASK("b@many.test") == MILL_CONTINUE);
	T_OK(ASK("b@a.b.many.test") == MILL_CONTINUE);
}

static void
denies_relaying_to_strangers(void)
{
	T_OK(ASK("<b@else.test>") == MILL_REJECT);
	T_STR(reply, "550 5.7.1 b@else.test... Relaying denied");
	T_OK(ASK("<b@sub.ours.test>") == MILL_REJECT);
	T_OK(ASK("<b@notmany.test>") == MILL_REJECT);
	T_OK(ask("", "127.0.0.1", NULL, "", "b@ours.test") == MILL_REJECT);
	T_OK(ask(basic, "", "localhost", "", "b@else.test") == MILL_REJECT);
}

static void
lets_our_networks_send_anywhere(void)
{
	T_OK(ask(basic, "127.0.0.1", NULL, "", "b@x.test") == MILL_CONTINUE);
	T_OK(ask(basic, "::1", NULL, "", "b@x.test") == MILL_CONTINUE);
	T_OK(ask(basic, "10.1.2.3", NULL, "", "b@x.test") == MILL_CONTINUE);
	T_OK(ask(basic, "11.1.2.3", NULL, "", "b@x.test") == MILL_REJECT);
}

static void
lets_authenticated_users_send_anywhere(void)
{
	struct mill_test *t = mill_test_new(&access_filter, basic);

	(void)mill_test_connect(t, OUT, NULL);
	mill_test_macro(t, "{auth_authen}", "joe");
	(void)mill_test_mail(t, "joe@ours.test", NULL);
	T_OK(mill_test_rcpt(t, "<b@else.test>") == MILL_CONTINUE);
	mill_test_free(&t);
	t = mill_test_new(&access_filter, "relay-authenticated = no\n");
	mill_test_macro(t, "{auth_authen}", "joe");
	(void)mill_test_mail(t, "joe@ours.test", NULL);
	T_OK(mill_test_rcpt(t, "<b@else.test>") == MILL_REJECT);
	mill_test_free(&t);
}

static void
refuses_addresses_that_name_another_hop(void)
{
	static const char *const routed[] = { "<b%else.test@ours.test>",
		"<\"b@else.test\"@ours.test>", "<else.test!b@ours.test>",
		"<@ours.test:b@else.test>", "<@ours.test,@x:b@ours.test>",
		"<\"b%else.test\"@ours.test>", "<b\\@else.test@ours.test>",
		"<b@else.test@ours.test>", "<\"b\\@else.test\"@ours.test>",
		"<else.test!b>", "<postmaster%else.test@ours.test>" };
	size_t i;

	for (i = 0; i < sizeof(routed) / sizeof(routed[0]); i++) {
		T_OK(ASK(routed[i]) == MILL_REJECT);
		T_OK(strncmp(reply, "550 5.7.1 ", 10) == 0);
	}
}

static void
refuses_malformed_recipients(void)
{
	char big[3000];

	T_OK(ASK("<>") == MILL_REJECT);
	T_OK(ASK("<@>") == MILL_REJECT);
	T_OK(ASK("<b>") == MILL_REJECT);
	T_OK(ASK("<b@>") == MILL_REJECT);
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	T_OK(ASK(big) == MILL_REJECT);
	memcpy(big + 600, "@", 1);
	big[1200] = '\0';
	T_OK(ASK(big) == MILL_REJECT);
}

static void
always_reaches_the_postmaster(void)
{
	T_OK(ASK("<postmaster>") == MILL_CONTINUE);
	T_OK(ASK("<Postmaster@Ours.Test>") == MILL_CONTINUE);
	T_OK(ASK("<postmaster@else.test>") == MILL_REJECT);
	T_OK(ask(with_table(), "192.0.2.1", NULL, "spam@from.test",
	         "<postmaster@ours.test>") == MILL_CONTINUE);
}

static void
judges_clients_most_specific_first(void)
{
	T_OK(CLIENT("192.0.2.1", NULL) == MILL_REJECT);
	T_STR(reply, "550 5.7.1 b@ours.test... Access denied");
	T_OK(CLIENT("192.0.2.7", NULL) == MILL_CONTINUE);
	T_OK(CLIENT(OUT, "bad.test") == MILL_REJECT);
	T_OK(CLIENT(OUT, "a.Bad.test") == MILL_REJECT);
	T_OK(CLIENT(OUT, "good.bad.test") == MILL_CONTINUE);
	T_OK(CLIENT(OUT, "notbad.test") == MILL_CONTINUE);
	T_OK(CLIENT("198.51.100.65", NULL) == MILL_REJECT);
	T_STR(reply, "550 5.7.1 range");
	T_OK(CLIENT("198.51.100.63", NULL) == MILL_CONTINUE);
	T_OK(CLIENT("2001:db8::5", NULL) == MILL_REJECT);
	T_OK(CLIENT("2001:db8:1::5", NULL) == MILL_REJECT);
	T_STR(reply, "550 5.7.1 net");
	T_OK(CLIENT("2001:db8:2::5", NULL) == MILL_CONTINUE);
	T_OK(ask(with_table(), "198.51.100.70", NULL, "a@a.test",
	         "b@else.test") == MILL_CONTINUE);
}

static void
judges_senders_most_specific_first(void)
{
	T_OK(FROM("<spam@from.test>") == MILL_REJECT);
	T_OK(FROM("<SPAM@From.Test>") == MILL_REJECT);
	T_OK(FROM("<ham@from.test>") == MILL_CONTINUE);
	T_OK(FROM("<a@wait.test>") == MILL_TEMPFAIL);
	T_STR(reply, "451 4.7.1 b@ours.test... Try again later");
	T_OK(FROM("<a@x.biz>") == MILL_REJECT);
	T_OK(FROM("<friend@shop.biz>") == MILL_CONTINUE);
	T_OK(FROM("<a@skip.biz>") == MILL_CONTINUE);
	T_OK(FROM("<nobody@any.test>") == MILL_REJECT);
	T_STR(reply, "550 5.1.1 gone");
	T_OK(FROM("<a@b.untagged.test>") == MILL_REJECT);
	T_STR(reply, "553 5.7.1 no mail");
	T_OK(FROM("<>") == MILL_CONTINUE);
}

static void
judges_recipients(void)
{
	T_OK(TO("<closed@ours.test>") == MILL_REJECT);
	T_OK(TO("<x@partner.test>") == MILL_CONTINUE);
	T_OK(TO("<x@sub.partner.test>") == MILL_CONTINUE);
	T_OK(TO("<x%y@partner.test>") == MILL_REJECT);
	T_OK(TO("<x@untagged.test>") == MILL_REJECT);
}

static void
lets_a_friend_receive_all(void)
{
	T_OK(ask(with_table(), "192.0.2.1", NULL, "spam@from.test",
	         "<all@ours.test>") == MILL_CONTINUE);
}

static void
never_guesses_at_a_value_it_does_not_know(void)
{
	T_OK(FROM("<a@odd.test>") == MILL_TEMPFAIL);
	T_OK(strncmp(reply, "451 4.3.0 ", 10) == 0);
}

static void
drops_and_holds(void)
{
	struct mill_test *t = mill_test_new(&access_filter, with_table());

	(void)mill_test_connect(t, OUT, NULL);
	(void)mill_test_mail(t, "a@hold.test", NULL);
	T_OK(mill_test_rcpt(t, "<b@ours.test>") == MILL_CONTINUE);
	T_OK(mill_test_rcpt(t, "<half@ours.test>") == MILL_CONTINUE);
	T_OK(mill_test_message(t) == MILL_CONTINUE);
	T_STR(mill_test_edits(t),
	    "rcpt- <half@ours.test>\nquarantine look at it\n");
	(void)mill_test_mail(t, "a@drop.test", NULL);
	T_OK(mill_test_rcpt(t, "<b@ours.test>") == MILL_CONTINUE);
	T_OK(mill_test_message(t) == MILL_DISCARD);
	mill_test_free(&t);
}

static void
wants_a_domain_in_senders(void)
{
	T_OK(FROM("<eve>") == MILL_REJECT);
	T_STR(
	    reply, "553 5.5.4 eve... Domain name required for sender address");
	T_OK(ask(basic, "127.0.0.1", NULL, "eve", "b@ours.test") ==
	    MILL_CONTINUE);
}

static void
knows_who_exists(void)
{
	char text[1024];

	(void)snprintf(text, sizeof(text), "%srecipients = \"text:%s\"\n",
	    basic, write_file("recipients", "b@ours.test OK\n@many.test OK\n"));
	T_OK(ask(text, OUT, NULL, "", "b@ours.test") == MILL_CONTINUE);
	T_OK(ask(text, OUT, NULL, "", "B+x@ours.test") == MILL_CONTINUE);
	T_OK(ask(text, OUT, NULL, "", "any@many.test") == MILL_CONTINUE);
	T_OK(ask(text, OUT, NULL, "", "c@ours.test") == MILL_REJECT);
	T_STR(reply, "550 5.1.1 c@ours.test... User unknown");
	T_OK(ask(text, "::1", NULL, "", "c@ours.test") == MILL_REJECT);
	T_OK(ask(text, "::1", NULL, "", "c@else.test") == MILL_CONTINUE);
	T_OK(ask(text, OUT, NULL, "", "postmaster@ours.test") == MILL_CONTINUE);
}

static void
asks_to_come_again_when_a_table_is_gone(void)
{
	struct mill_test *t = mill_test_new(&access_filter, with_table());
	char path[256];

	(void)mill_test_connect(t, OUT, NULL);
	(void)mill_test_mail(t, "a@a.test", NULL);
	T_OK(mill_test_rcpt(t, "<b@ours.test>") == MILL_CONTINUE);
	(void)snprintf(path, sizeof(path), "%s/access", dir);
	(void)unlink(path);
	(void)sleep(3); /* it looks every 2 s */
	T_OK(mill_test_rcpt(t, "<b@ours.test>") == MILL_TEMPFAIL);
	T_STR(mill_test_reply(t),
	    "451 4.3.0 Temporary failure: a table cannot be read, try again "
	    "later\n");
	(void)with_table();
	(void)sleep(3);
	T_OK(mill_test_rcpt(t, "<b@ours.test>") == MILL_CONTINUE);
	mill_test_free(&t);
}

static void
reports_mistakes_in_settings(void)
{
	T_OK(
	    mill_test_new(&access_filter, "access = \"text:/none\"\n") == NULL);
	T_OK(mill_test_new(&access_filter, "relay-domains = {\"a b\"}\n") ==
	    NULL);
	T_OK(mill_test_new(
	         &access_filter, "relay-domains-file = \"/none\"\n") == NULL);
	T_OK(mill_test_new(&access_filter, "relay-network = {}\n") == NULL);
}

static void
reads_domains_from_a_file(void)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "relay-domains-file = \"%s\"\n",
	    write_file("domains", "# ours\nOne.test\n  .two.test # all\n\n"));
	T_OK(ask(text, OUT, NULL, "", "b@one.test") == MILL_CONTINUE);
	T_OK(ask(text, OUT, NULL, "", "b@x.two.test") == MILL_CONTINUE);
	T_OK(ask(text, OUT, NULL, "", "b@three.test") == MILL_REJECT);
}

static const struct t_case cases[] = {
	{ "accepts_anyone_to_our_domains", accepts_anyone_to_our_domains },
	{ "denies_relaying_to_strangers", denies_relaying_to_strangers },
	{ "lets_our_networks_send_anywhere", lets_our_networks_send_anywhere },
	{ "lets_authenticated_users_send_anywhere",
	    lets_authenticated_users_send_anywhere },
	{ "refuses_addresses_that_name_another_hop",
	    refuses_addresses_that_name_another_hop },
	{ "refuses_malformed_recipients", refuses_malformed_recipients },
	{ "always_reaches_the_postmaster", always_reaches_the_postmaster },
	{ "judges_clients_most_specific_first",
	    judges_clients_most_specific_first },
	{ "judges_senders_most_specific_first",
	    judges_senders_most_specific_first },
	{ "judges_recipients", judges_recipients },
	{ "lets_a_friend_receive_all", lets_a_friend_receive_all },
	{ "never_guesses_at_a_value_it_does_not_know",
	    never_guesses_at_a_value_it_does_not_know },
	{ "drops_and_holds", drops_and_holds },
	{ "wants_a_domain_in_senders", wants_a_domain_in_senders },
	{ "knows_who_exists", knows_who_exists },
	{ "asks_to_come_again_when_a_table_is_gone",
	    asks_to_come_again_when_a_table_is_gone },
	{ "reports_mistakes_in_settings", reports_mistakes_in_settings },
	{ "reads_domains_from_a_file", reads_domains_from_a_file },
};

int
main(void)
{
	static const char *const files[] = { "access", "recipients",
		"domains" };
	char path[256];
	size_t i;
	int rc;

	if (mkdtemp(dir) == NULL)
		return (99);
	rc = t_main(cases, sizeof(cases) / sizeof(cases[0]));
	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		(void)unlink(path);
	}
	(void)rmdir(dir);
	return (rc);
}
