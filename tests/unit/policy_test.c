/* SPDX-License-Identifier: ISC */

/* policy - which chain a session, a recipient and a message get, and why */

#include "core/policy/pattern.h"
#include "core/policy/policy.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <stdlib.h>

#define SITE                                                                   \
	"postmaster = \"p@example.org\"\n"                                     \
	"milter \"access\" { run = \"a\" }\n"                                  \
	"milter \"grey\" { run = \"g\" on-failure = accept }\n"                \
	"milter \"virus\" { run = \"v\" timeout = {\"message=2m\"} }\n"        \
	"milter \"spam\" { run = \"s\" }\n"                                    \
	"milter \"dlp\" { run = \"d\" content = yes }\n"                       \
	"policy \"in\" { authorise = access chain = {grey, virus, spam}\n"     \
	"%s\n}\n"                                                              \
	"policy \"out\" { authorise = access }\n"                              \
	"listener \"mx\" { address = {\"127.0.0.1:25\"} policy = in }\n"       \
	"listener \"sub\" { address = {\"127.0.0.1:587\"} policy = out }\n"

static struct settings *s;
static struct buf errors = BUF_INIT(1 << 16);
static struct policy_facts facts;
static int table_calls, table_rc;
static char table_key[1200];

static void
use(const char *rules)
{
	char text[8192];
	struct conf_file f = { (char *)"m.conf", text, 0 };

	settings_unref(&s);
	snprintf(text, sizeof(text), SITE, rules);
	f.len = strlen(text);
	errors.len = 0;
	s = settings_parse(&f, 1, &errors);
	if (s == NULL)
		printf("# %s", errors.len > 0 ? errors.data : "?\n");
	T_OK(s != NULL);
}

static int
get(void *arg, const char *table, const char *key, struct buf *value)
{
	(void)arg;
	(void)table;
	table_calls++;
	snprintf(table_key, sizeof(table_key), "%s", key);
	if (table_rc == -1) {
		errno = EIO;
		return (-1);
	}
	if (strcmp(key, "vip@example.org") != 0 && strcmp(key, ".example") != 0)
		return (0);
	return (buf_addf(value, "strict") == -1 ? -1 : 1);
}

static void
reset(void)
{
	memset(&facts, 0, sizeof(facts));
	facts.known = POLICY_AT_RCPT;
	facts.listener = "mx";
	facts.client_addr = "192.0.2.7";
	facts.client_name = "mx.partner.example";
	facts.helo = "helo.example";
	facts.tls_version = facts.login = "";
	facts.sender = "a@from.example";
	facts.recipient = "b@example.org";
	facts.get = get;
	table_calls = table_rc = 0;
}

/* chain - the milters asked, "access grey(shadow)"; skipped ones "-virus" */
static const char *
chain(void)
{
	static char text[512];
	struct policy_chain c;
	size_t i;

	text[0] = '\0';
	if (s == NULL)
		return ("no settings");
	if (policy_decide(s, 0, &facts, &c) == -1)
		return (errno == EIO ? "EIO" : "failed");
	for (i = 0; i < c.n_steps; i++) {
		const struct policy_step *p = &c.steps[i];

		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		    "%s%s%s%s", i > 0 ? " " : "", p->skipped ? "-" : "",
		    s->milters[p->milter].name,
		    p->mode == MODE_ENFORCE   ? ""
		        : p->mode == MODE_OFF ? "(off)"
		                              : "(shadow)");
		if (p->sample != 100)
			snprintf(text + strlen(text),
			    sizeof(text) - strlen(text), ":%u", p->sample);
	}
	policy_chain_fini(&c);
	return (text);
}

#define FULL "access grey virus spam"

/* One condition, facts that fit, and facts that do not. */
static void
fits(const char *condition, bool yes)
{
	char rule[1024];

	snprintf(
	    rule, sizeof(rule), "rule \"r\" { %s skip = {virus} }", condition);
	use(rule);
	printf("# %s\n", condition);
	T_STR(chain(), yes ? "access grey -virus spam" : FULL);
}

static void
sessions_conditions(void)
{
	reset();
	fits("listener = mx", true);
	fits("listener = {sub}", false);
	fits("client = {198.51.100.0/24, 192.0.2.0/24}", true);
	fits("client = {\"192.0.2.0/24\", \"!192.0.2.7\"}", false);
	fits("client = {\"!10.0.0.0/8\"}", true);
	fits("client-name = {\".partner.example\"}", true);
	fits("client-name = {\"MX.*.Example\"}", true);
	fits("client-name = unknown", false);
	facts.client_name = "[192.0.2.7]";
	fits("client-name = unknown", true);
	fits("client-name = \"!unknown\"", false);
	fits("helo = {\"helo.example\"}", true);
	fits("helo = {\".lo.example\"}", false);
	fits("tls = none", true);
	fits("tls = {any}", false);
	facts.tls_version = "TLSv1.3";
	fits("tls = any", true);
	fits("tls = TLSv1.3", true);
	fits("tls = TLSv1.2", false);
	fits("tls = verified", false);
	fits("login = \"*\"", false);
	fits("login = \"!*\"", true);
	facts.login = "Joe@example.org";
	fits("login = \"joe@*\"", true);
	fits("login = \"!*\"", false);
}

static void
addresses(void)
{
	reset();
	fits("sender = \"a@from.example\"", true);
	fits("sender = \"A@FROM.example\"", true);
	fits("sender = \"*@example\"", false);
	fits("sender = \"*@.example\"", true);
	fits("sender = \"<>\"", false);
	fits("sender-domain = \"from.example\"", true);
	fits("sender-domain = \"example\"", false);
	facts.sender = "";
	fits("sender = \"<>\"", true);
	fits("sender = \"*@*\"", false);
	fits("sender = \"*\"", true);
	fits("sender-domain = \"*\"", false);
	fits("recipient = {\"abuse@*\", \"b@*\"}", true);
	fits("recipient = {\"*\", \"!b@example.org\"}", false);
	fits("recipient-domain = {example.org}", true);
	/* nobody chooses his rule by spelling */
	facts.recipient = "\"ab\\use\"@Example.ORG";
	fits("recipient = \"abuse@example.org\"", true);
	facts.recipient = "Abuse@example.org.";
	fits("recipient = \"abuse@example.org\"", true);
	facts.recipient = "postmaster";
	fits("recipient = \"postmaster@*\"", true);
	/* a star stays on its side of the '@' */
	facts.recipient = "\"abuse@x\"@example.org";
	fits("recipient = \"abuse@*\"", false);
	fits("recipient = \"abuse*@example.org\"", true);
	facts.recipient = "x@abuse.example.org";
	fits("recipient = \"*abuse@*\"", false);
}

static void
times_of_day(void)
{
	reset();
	facts.week_minute = 4 * 1440 + 23 * 60; /* Friday 23:00 */
	fits("time = \"mon-fri 08:00-18:00\"", false);
	fits("time = fri", true);
	fits("time = \"sat-mon\"", false);
	fits("time = \"fri 22:00-06:00\"", true);
	fits("time = \"sat 22:00-06:00\"", false);
	facts.week_minute = 5 * 1440 + 5 * 60 + 59; /* Saturday 05:59 */
	fits("time = \"fri 22:00-06:00\"", true);
	fits("time = \"sat 22:00-06:00\"", false);
	fits("time = \"22:00-24:00\"", false);
	facts.week_minute++;
	fits("time = \"fri 22:00-06:00\"", false);
	facts.week_minute = 6 * 1440 + 1; /* Sunday 00:01 */
	fits("time = \"sat-mon\"", true);
	fits("time = \"fri-sat\"", false);
}

static void
content(void)
{
	struct field h[] = {
		{ (char *)"X-Spam-Flag", (char *)" YES ", 5, false },
		{ (char *)"Subject", (char *)" a\r\n bill", 9, false },
		{ (char *)"Received", (char *)" ours", 5, true },
	};
	struct policy_verdict v = { 1, ANSWERED_ACCEPT };

	reset();
	fits("size = \">10K\"", false); /* not known yet: open */
	facts.known |= COND_CONTENT;
	facts.size = 10241;
	facts.fields = h;
	facts.n_fields = 3;
	facts.verdicts = &v;
	fits("size = \">10K\"", true);
	fits("size = \"<10K\"", false);
	fits("size = \"1K-10241\"", true);
	fits("header = x-spam-flag", true);
	fits("header = \"X-Spam-Flag: yes\"", true);
	fits("header = \"X-Spam-Flag: no*\"", false);
	fits("header = \"Subject: a bill\"", true);
	fits("header = \"!List-Id\"", true);
	fits("header = \"Received\"", false);
	fits("verdict = {\"grey=accept\"}", false); /* no verdict yet: open */
	facts.n_verdicts = 1;
	fits("verdict = {\"grey=accept\"}", true);
	fits("verdict = {\"grey=failed\"}", false);
	use("rule \"big\" { size = \">10K\" add = {\"dlp before virus\"} }");
	T_STR(chain(), "access grey dlp virus spam");
}

static void
tables(void)
{
	reset();
	facts.recipient = "\"VIP\"@Example.org";
	fits("table = \"recipient text:/t\"", true);
	T_STR(table_key, "vip@example.org");
	fits("table = \"recipient text:/t str*\"", true);
	fits("table = \"recipient text:/t lax\"", false);
	facts.sender = "a@b.c.example";
	fits("table = \"sender-domain text:/t\"", true);
	facts.sender = "";
	fits("table = \"sender text:/t\"", false);
	T_STR(table_key, "<>");
	/* what another condition decides needs no table */
	table_calls = 0;
	fits("table = \"sender text:/t\" listener = sub", false);
	T_OK(table_calls == 0);
	table_rc = -1;
	use("rule \"r\" { table = \"recipient text:/t\" skip = {virus} }");
	T_STR(chain(), "EIO"); /* no shorter chain: none */
	facts.known = POLICY_AT_MAIL;
	T_STR(chain(), FULL);
}

static void
changes(void)
{
	reset();
	use("rule \"r\" { chain = {spam, virus} }");
	T_STR(chain(), "access spam virus");
	use("rule \"r\" { add = {dlp} }");
	T_STR(chain(), FULL " dlp");
	use("rule \"r\" { add = {\"dlp before virus\"} "
	    "mode = {\"dlp=shadow\"} }");
	T_STR(chain(), "access grey dlp(shadow) virus spam");
	/* before one that is not there: at the end */
	use("rule \"0\" { chain = {spam} } "
	    "rule \"r\" { add = {\"dlp before virus\"} }");
	T_STR(chain(), "access spam dlp");
	use("rule \"r\" { recipient = \"b@*\" skip = {grey, virus, spam} }");
	T_STR(chain(), "access -grey -virus -spam");
}

static void
later_rules_go_over_earlier_ones(void)
{
	reset();
	use("rule \"1\" { skip = {virus, spam} } rule \"2\" { add = {virus} }");
	T_STR(chain(), "access grey virus -spam");
	use("rule \"1\" { skip = {virus} } rule \"2\" { chain = {virus} }"
	    "rule \"3\" { add = {dlp} }");
	T_STR(chain(), "access virus dlp");
	use("rule \"1\" { mode = {\"spam=shadow\"} } "
	    "rule \"2\" { mode = {\"spam=enforce\", \"virus=off\"} }");
	T_STR(chain(), "access grey virus(off) spam");
	/* a new chain keeps what was said of its milters */
	use("rule \"1\" { mode = {\"spam=shadow\"} } "
	    "rule \"2\" { chain = {spam} }");
	T_STR(chain(), "access spam(shadow)");
}

static void
a_mode_brings_its_sample(void)
{
	reset();
	use("rule \"1\" { mode = {\"spam=shadow:10%\", \"virus=enforce:99%\"} "
	    "}");
	T_STR(chain(), "access grey virus:99 spam(shadow):10");
	/* what a later mode does not say is not left from an earlier one */
	use("rule \"1\" { mode = {\"spam=shadow:10%\"} } "
	    "rule \"2\" { mode = {\"spam=enforce\"} }");
	T_STR(chain(), FULL);
	use("rule \"1\" { mode = {\"spam=shadow:10%\"} } "
	    "rule \"2\" { chain = {spam} }");
	T_STR(chain(), "access spam(shadow):10");
}

#define TWO                                                                    \
	"rule \"1\" { client = 192.0.2.0/24 skip = {virus} %s }\n"             \
	"rule \"2\" { skip = {spam} }\n"                                       \
	"rule \"3\" { size = \">1\" skip = {grey} }\n"

static void
first_match_and_all_match(void)
{
	char text[1024];

	reset();
	facts.known |= COND_BIT(COND_SIZE);
	facts.size = 2;
	snprintf(text, sizeof(text), "match = all " TWO, "");
	use(text);
	T_STR(chain(), "access -grey -virus -spam");
	snprintf(text, sizeof(text), "match = first " TWO, "");
	use(text); /* a pass each for envelope and content */
	T_STR(chain(), "access -grey -virus spam");
	facts.client_addr = "198.51.100.1";
	T_STR(chain(), "access -grey virus -spam");
	snprintf(text, sizeof(text), TWO, "last = yes");
	use(text);
	T_STR(chain(), "access -grey virus -spam");
	facts.client_addr = "192.0.2.1";
	T_STR(chain(), "access -grey -virus spam");
}

static void
an_open_rule_changes_nothing_yet(void)
{
	struct policy_chain c;

	reset();
	facts.known = POLICY_AT_MAIL;
	use("match = first rule \"1\" { recipient = \"b@*\" skip = {virus} }"
	    "rule \"2\" { skip = {spam} }");
	T_STR(chain(), FULL); /* the first may be the first one yet */
	facts.known = POLICY_AT_RCPT;
	T_STR(chain(), "access grey -virus spam");
	facts.recipient = "c@x";
	T_STR(chain(), "access grey virus -spam");
	use("rule \"1\" { recipient = \"b@*\" skip = {virus} }"
	    "rule \"2\" { recipient = \"b@*\" listener = sub skip = {grey} }"
	    "rule \"3\" { size = \">1\" skip = {spam} }");
	facts.known = POLICY_AT_MAIL;
	T_OK(policy_decide(s, 0, &facts, &c) == 0);
	T_OK(c.n_open == 2 && c.n_rules == 0);
	policy_chain_fini(&c);
}

static void
each_step_knows_who_decided_it(void)
{
	struct policy_chain c;

	reset();
	use("rule \"r\" {\n"
	    " skip = {grey}\n"
	    " add = {dlp}\n"
	    " mode = {\"spam=shadow\"}\n"
	    " on-failure = {\"virus=quarantine\"}\n"
	    " timeout = {\"virus.message=10m\", \"virus.connect=1s\"} }");
	T_OK(policy_decide(s, 0, &facts, &c) == 0);
	T_OK(c.n_steps == 5 && c.n_rules == 1 && c.rules[0]->line == 8);
	T_OK(c.steps[0].in.rule == NULL && c.steps[0].in.line == 7);
	T_OK(c.steps[1].skipped && c.steps[1].skip.line == 9);
	T_STR(c.steps[1].skip.rule->title, "r");
	T_OK(c.steps[1].on_failure == FAIL_ACCEPT);
	T_OK(c.steps[2].on_failure == FAIL_QUARANTINE);
	T_OK(c.steps[2].by_failure.line == 12);
	T_OK(c.steps[2].message_ms == 600000 && c.steps[2].connect_ms == 1000);
	T_OK(c.steps[2].by_limits.line == 13);
	T_OK(c.steps[3].mode == MODE_SHADOW && c.steps[3].by_mode.line == 11);
	T_OK(c.steps[4].in.line == 10 && !c.steps[4].skipped);
	policy_chain_fini(&c);
}

/* What stands behind an open rule that may end the pass is as open. */
static void
what_rules_leave_undecided_is_known(void)
{
	bool open[8], pending[4];

	reset();
	use("rule \"1\" { client = 192.0.2.1 skip = {grey} last = yes }"
	    "rule \"2\" { recipient = \"y@*\" mode = {\"spam=shadow\"} }");
	facts.known = POLICY_AT_CONNECT;
	facts.client_addr = "192.0.2.1";
	T_OK(policy_undecided(s, 0, &facts, open) == 0);
	T_OK(!open[0] && !open[1] && !open[2] && !open[3]);
	facts.client_addr = "192.0.2.2";
	T_OK(policy_undecided(s, 0, &facts, open) == 0);
	T_OK(!open[0] && !open[1] && !open[2] && open[3]);
	facts.known = POLICY_AT_RCPT;
	T_OK(policy_undecided(s, 0, &facts, open) == 0);
	T_OK(!open[3]);

	reset();
	use("match = first "
	    "rule \"1\" { recipient = \"x@*\" skip = {virus} }"
	    "rule \"2\" { client = 192.0.2.1 skip = {grey} }"
	    "rule \"3\" { size = \">1M\" recipient = \"x@*\" skip = {spam} }");
	facts.known = POLICY_AT_MAIL;
	facts.client_addr = "192.0.2.1";
	T_OK(policy_undecided(s, 0, &facts, open) == 0);
	T_OK(!open[0] && open[1] && open[2] && open[3]);
	facts.known = POLICY_AT_RCPT;
	facts.recipient = "x@d";
	T_OK(policy_pending(s, 0, &facts, pending) == 0);
	T_OK(!pending[0] && !pending[1] && pending[2]);
	facts.recipient = "y@d";
	T_OK(policy_pending(s, 0, &facts, pending) == 0);
	T_OK(!pending[2]);
}

static void
chains_are_the_same_when_the_milters_asked_are(void)
{
	struct policy_chain a, b;

	reset();
	use("rule \"1\" { recipient = \"x@*\" skip = {spam} }"
	    "rule \"2\" { recipient = \"y@*\" chain = {grey, virus} }"
	    "rule \"3\" { recipient = \"z@*\" mode = {\"spam=shadow\"} }");
	facts.recipient = "x@d";
	T_OK(policy_decide(s, 0, &facts, &a) == 0);
	facts.recipient = "y@d";
	T_OK(policy_decide(s, 0, &facts, &b) == 0);
	T_OK(policy_chain_same(&a, &b));
	policy_chain_fini(&b);
	facts.recipient = "z@d";
	T_OK(policy_decide(s, 0, &facts, &b) == 0);
	T_OK(!policy_chain_same(&a, &b));
	policy_chain_fini(&b);
	policy_chain_fini(&a);
	T_OK(policy_asks(&s->policies[0]) == COND_BIT(COND_RECIPIENT));
}

static void
patterns(void)
{
	static const struct {
		const char *pattern, *text;
		bool yes;
	} rows[] = {
		{ "", "", true },
		{ "", "a", false },
		{ "*", "", true },
		{ "a*b*c", "aXbYbZc", true },
		{ "a*b*c", "aXbYbZ", false },
		{ "?", "", false },
		{ "??", "ab", true },
		{ "A", "a", true },
		{ "*a", "aaab", false },
		{ "*.*", "a.b", true },
		{ "\xc3\x84", "\xc3\xa4", false },
	};
	static char slow[20000], star[512];
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		printf("# %s %s\n", rows[i].pattern, rows[i].text);
		T_OK(pattern_has(rows[i].pattern, rows[i].text,
		         strlen(rows[i].text)) == rows[i].yes);
	}
	memset(slow, 'a', sizeof(slow));
	for (i = 0; i + 3 < sizeof(star); i += 2)
		memcpy(star + i, "*a", 2);
	star[i] = 'b';
	T_OK(!pattern_has(star, slow, sizeof(slow))); /* and comes back */
	T_OK(pattern_has_domain(".b.c", "a.b.c", 5));
	T_OK(pattern_has_domain(".b.c", "B.C.", 4));
	T_OK(!pattern_has_domain(".b.c", "ab.c", 4));
	T_OK(!pattern_has_domain("*.b.c", "b.c", 3));
}

static void
the_policy_shown_is_the_policy(void)
{
	struct buf one = BUF_INIT(1 << 16), two = BUF_INIT(1 << 16);
	char text[4096], *p;

	use("match = first rule \"a\\\"b\" { client = {192.0.2.0/24} sender = "
	    "{\"a@*\", \"!<>\"} time = \"mon 08:00-09:00\" "
	    "table = \"recipient text:/t x y\"\n skip = {grey, spam} "
	    "add = {\"dlp before virus\"}\n mode = {\"virus=shadow\"} "
	    "on-failure = {\"virus=accept\"} "
	    "timeout = {\"virus.command=5s\"} last = yes }"
	    "rule \"c\" { chain = {spam} }");
	T_OK(policy_show(s, 0, &one) == 0);
	printf("# %s\n", one.data);
	T_OK(strstr(one.data, "skip = {\"grey\", \"spam\"}\t# m.conf:9") !=
	    NULL);
	/* its rules, read again, give the same */
	p = strstr(one.data, "\trule ");
	snprintf(text, sizeof(text), "match = first %.*s",
	    (int)(strrchr(one.data, '}') - p), p);
	use(text);
	T_OK(policy_show(s, 0, &two) == 0);
	for (p = one.data; (p = strstr(p, "\t# ")) != NULL;)
		memset(p, ' ', strcspn(p, "\n"));
	for (p = two.data; (p = strstr(p, "\t# ")) != NULL;)
		memset(p, ' ', strcspn(p, "\n"));
	T_OK(strlen(strstr(one.data, "rule \"c\"")) > 0 &&
	    strstr(two.data, "\"dlp before virus\"") != NULL &&
	    strstr(two.data, "\"virus.command=5000ms\"") != NULL &&
	    strstr(two.data, "rule \"a\\\"b\"") != NULL &&
	    strstr(two.data, "\"!<>\"") != NULL);
	buf_fini(&one);
	buf_fini(&two);
	settings_unref(&s);
	buf_fini(&errors);
}

static const struct t_case cases[] = {
	{ "policy: conditions on the session", sessions_conditions },
	{ "policy: addresses, by local part and domain, however spelt",
	    addresses },
	{ "policy: times of day, over midnight too", times_of_day },
	{ "policy: size, header, an earlier verdict", content },
	{ "policy: tables; one that cannot be read gives no chain at all",
	    tables },
	{ "policy: chain and add", changes },
	{ "policy: later rules go over earlier ones",
	    later_rules_go_over_earlier_ones },
	{ "policy: a mode brings its sample", a_mode_brings_its_sample },
	{ "policy: first match, all matches, and last",
	    first_match_and_all_match },
	{ "policy: a rule on what is not known yet changes nothing",
	    an_open_rule_changes_nothing_yet },
	{ "policy: what rules leave undecided is known",
	    what_rules_leave_undecided_is_known },
	{ "policy: each step knows who decided it",
	    each_step_knows_who_decided_it },
	{ "policy: chains are the same when the milters asked are",
	    chains_are_the_same_when_the_milters_asked_are },
	{ "policy: patterns", patterns },
	{ "policy: what is shown can be read again",
	    the_policy_shown_is_the_policy },
};

T_MAIN(cases)
