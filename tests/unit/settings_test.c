/* SPDX-License-Identifier: ISC */

#include "core/conf/endpoint.h"
#include "core/conf/settings.h"
#include "tests/lib/t.h"

#include <stdlib.h>

#define SITE                                                                   \
	"postmaster = \"p@example.org\"\n"                                     \
	"milter \"access\" { run = \"milldam-access\" settings = a.conf }\n"   \
	"milter \"virus\" { endpoints = { \"inet:10023@localhost\" } "         \
	"timeout = { \"command=2s\" } }\n"                                     \
	"policy \"in\" { authorise = \"access\" chain = { \"virus\" } }\n"     \
	"listener \"mx\" { address = { \"127.0.0.1:2525\" \"[::1]:25\" } }\n"

static struct buf errors = BUF_INIT(1 << 16);

static struct settings *
parse2(const char *text, const char *site)
{
	struct conf_file f[2] = {
		{ (char *)"/etc/m/a.conf", (char *)text, strlen(text) },
		{ (char *)"/etc/m/local.d/b.conf", (char *)site, strlen(site) }
	};

	errors.len = 0;
	return (settings_parse(f, site[0] != '\0' ? 2 : 1, &errors));
}

static void
a_site_is_read_with_its_defaults(void)
{
	struct settings *s = parse2(SITE, "");

	T_OK(s != NULL);
	if (s == NULL) {
		printf("# %s\n", errors.data);
		return;
	}
	T_OK(s->limits.recipients == 1000 && s->limits.inline_size == 4 << 20);
	T_OK(s->queue.expire_ms == 432000000 && s->relay.reuse == 100);
	T_OK(s->n_milters == 2 && s->milters[1].endpoints[0].port == 10023);
	T_STR(s->milters[0].settings, "/etc/m/a.conf");
	T_STR(s->milters[0].endpoints[0].path,
	    "/run/milldam/milters/access.sock");
	T_OK(s->milters[1].command_ms == 2000);
	T_OK(s->milters[1].message_ms == 300000);
	T_OK(s->policies[0].n_chain == 2 && s->policies[0].chain[0] == 0);
	T_OK(s->n_listeners == 1 && s->listeners[0].n_addresses == 2);
	T_OK(strlen(s->policies[0].hash) == 16);
	settings_unref(&s);
	T_OK(s == NULL);
}

static void
macros_are_kept_by_stage(void)
{
	struct settings *s = parse2(SITE,
	    "milter \"virus\" { macros = { \"rcpt=b {rcpt_host}\", \"eoh=\", "
	    "\"eom=Z\" } }\n");
	char **m;

	T_OK(s != NULL);
	if (s == NULL)
		return;
	m = s->milters[1].macros;
	T_STR(m[MILTER_AT_RCPT], "b {rcpt_host}");
	T_STR(m[MILTER_AT_EOM], "Z");
	T_STR(m[MILTER_AT_EOH], "");
	T_OK(m[MILTER_AT_MAIL] == NULL);
	settings_unref(&s);
}

static void
one_more_rule_leaves_authoriser_and_chain(void)
{
	struct settings *s = parse2(SITE,
	    "policy \"in\" { rule \"r\" { client = { 192.0.2.0/24 } "
	    "skip = { virus } } }\n");

	T_OK(s != NULL && s->n_policies == 1);
	if (s == NULL)
		return;
	T_OK(s->policies[0].has_authoriser && s->policies[0].authoriser == 0);
	T_OK(s->policies[0].n_chain == 2 && s->policies[0].chain[1] == 1);
	T_OK(s->policies[0].n_rules == 1 &&
	    s->policies[0].rules[0].changes[0].milter == 1);
	T_STR(s->policies[0].rules[0].file, "/etc/m/local.d/b.conf");
	T_OK(s->policies[0].rules[0].line == 1);
	settings_unref(&s);
}

/* A site file and the mistake that it must be told about. */
static const struct {
	const char *site, *want;
} mistakes[] = {
	{ "hostnam = x", "b.conf:1: unknown option hostnam; did you mean" },
	{ "\nlimits { recipients = many }",
	    "b.conf:2: recipients is a number" },
	{ "limits { message-size = 1 }", "message-size: 1 is out of range" },
	{ "queue { expire = 5 }", "expire is a time such as" },
	{ "policy \"in\" { chain = { nobody } }", "no milter \"nobody\"" },
	{ "policy \"in\" { chain = { virus virus } }", "\"virus\" twice" },
	{ "policy \"in\" { rule \"r\" { skip = { access } } }",
	    "may not skip the authoriser" },
	{ "milter \"access\" { mode = shadow }", "must have mode = enforce" },
	{ "milter \"access\" { on-failure = accept }",
	    "may not have on-failure = accept" },
	{ "milter \"virus\" {\n sample = 0\n}",
	    "b.conf:2: sample is from 1 to 100" },
	{ "milter \"virus\" {\n sample = 101 }",
	    "b.conf:2: sample is from 1 to 100" },
	{ "milter \"virus\" { sample = ten }", "sample is a number" },
	{ "milter \"access\" { sample = 99 }",
	    "\"access\" must see every message" },
	{ "milter \"x\" { }", "neither run nor endpoints" },
	{ "milter \"virus\" { may = { add-rcpt, fly } }",
	    "may: fly is none of" },
	{ "milter \"virus\" { forbidden = maybe }", "forbidden" },
	{ "milter \"virus\" { macros = { \"rcpt=b;r\" } }",
	    "macros: rcpt=b;r is none of connect=" },
	{ "milter \"virus\" { macros = { \"body=b\" } }", "body=b is none" },
	{ "milter \"virus\" { macros = { \"eom=b\" \"eom=r\" } }",
	    "eom=r is none" },
	{ "milter \"x\" { endpoints = { \"foo\" } }", "foo is no endpoint" },
	{ "milter \"x\" { endpoints = { /run/a /run/a } }",
	    "/run/a stands there twice" },
	{ "milter \"virus\" { balance = fast }", "balance is one of ordered" },
	{ "milter \"virus\" { tls = { \"cert=a\" } }", "tls needs ca=" },
	{ "milter \"virus\" { tls = { \"ca=a\" \"key=b\" } }",
	    "cert= and key= go together" },
	{ "milter \"virus\" { tls = { \"ca=a\" \"ca=b\" } }",
	    "tls: ca=b is none of" },
	{ "milter \"x\" { endpoints = { /run/a } tls = { \"ca=a\" } }",
	    "tls is for inet endpoints" },
	{ "milter \"virus\" { eject-time = 5ms }", "eject-time" },
	{ "milter \"x y\" { run = a }", "a milter needs a name" },
	{ "listener \"l\" { policy = \"in\" }", "needs an address" },
	{ "listener \"l\" { address = { \"localhost:25\" } }",
	    "is not ADDRESS:PORT" },
	{ "listener \"mx\" { policy = \"out\" }", "no policy \"out\"" },
	{ "postmaster = \"nobody\"", "\"nobody\" is no address" },
	{ "web { }", "web needs an address" },
	{ "web { adress = {\"127.0.0.1:9150\"} }", "web needs an address" },
	{ "web { address = {\"0.0.0.0:9150\"} }", "0.0.0.0:9150 is not" },
	{ "web { address = {\"127.0.0.1:80\"} }", "a port from 1024 on" },
	{ "web { address = {\"[::2]:9150\"} }", "[::2]:9150 is not" },
	{ "route { mailertable = \"ldap:x\" }", "is not text:, hash:" },
	{ "policy \"in\" { on-mixed = bounce }",
	    "in a rule on client or login" },
	{ "policy \"in\" { rule \"r\" { on-mixed = bounce } }",
	    "needs a rule with the client networks" },
	{ "policy \"in\" { rule \"r\" { recipient = {\"a@*\"} "
	  "on-mixed = discard } }",
	    "not in a rule on recipient" },
	{ "policy \"in\" { mixed = maybe }", "mixed" },
	{ "policy \"in\" { rule \"r\" { client = { 192.0.2.1/24 } } }",
	    "is no network" },
};

/* RULE: what a rule of policy "in" says; authoriser access, chain virus */
#define RULE(text) "policy \"in\" {\n rule \"r\" {\n" text "\n}\n}"
#define DLP        "milter \"dlp\" { run = d }\n"

static const struct {
	const char *site, *want;
} rule_mistakes[] = {
	{ RULE("skip = access"), "b.conf:3: a rule may not skip the author" },
	{ RULE("mode = {\"access=shadow\"}"), "b.conf:3: the authoriser" },
	{ RULE("mode = {\"access=off\"}"), "must have mode = enforce" },
	{ RULE("on-failure = {\"access=accept\"}"),
	    "may not have on-failure = accept" },
	{ RULE("add = {\"virus before access\"}"),
	    "nothing comes before the authoriser" },
	{ RULE("size = \">1M\" chain = {virus}"),
	    "may only skip or add milters, not change \"access\"" },
	{ RULE("header = Subject mode = {\"virus=shadow\"}"),
	    "may only skip or add milters" },
	{ RULE("verdict = {\"access=accept\"} on-failure = "
	       "{\"virus=accept\"}"),
	    "may only skip or add milters" },
	{ DLP RULE("size = \">1M\" add = {dlp}"),
	    "b.conf:4: a rule on size, header or verdict may only add a milter "
	    "with content = yes, which \"dlp\" has not" },
	{ RULE("verdict = {\"virus=accept\"} skip = {virus}"),
	    "is asked before that verdict is known" },
	{ RULE("verdict = {\"virus=reject\"} skip = {virus}"),
	    "no verdict with which a chain goes on" },
	{ DLP RULE("verdict = {\"dlp=accept\"} skip = {virus}"),
	    "no chain of this policy has \"dlp\"" },
	{ DLP RULE("skip = {dlp}"), "b.conf:4: no chain of this policy has" },
	{ DLP RULE("add = {\"virus before dlp\"}"), "no chain of this policy" },
	{ RULE("skip = {virus} add = {virus}"), "skips \"virus\" and adds it" },
	{ RULE("verdict = {\"ghost=accept\"} skip = virus"),
	    "ghost=accept is of no milter" },
	{ RULE("skip = {ghost}"), "skip: there is no milter \"ghost\"" },
	{ RULE("chain = {virus, virus}"), "names \"virus\" twice" },
	{ RULE("chain = {}"), "an empty list; name the authoriser" },
	{ RULE("mode = {\"virus=drain\"}"), "is not MILTER=enforce" },
	{ RULE("mode = {\"access=enforce:50%\"}"),
	    "b.conf:3: the authoriser \"access\" must see every message" },
	{ RULE("mode = {\"virus=shadow:0%\"}"), "b.conf:3: mode: virus=shad" },
	{ RULE("mode = {\"virus=shadow:101%\"}"), "with :1% to :100% behind" },
	{ RULE("mode = {\"virus=shadow:10\"}"), "with :1% to :100% behind" },
	{ RULE("mode = {\"virus=shadow:\"}"), "with :1% to :100% behind" },
	{ RULE("mode = {\"virus=off:10%\"}"), "with :1% to :100% behind" },
	{ RULE("mode = {\"virus:10%=shadow\"}"), "is not MILTER=enforce" },
	{ RULE("timeout = {\"virus.lunch=1h\"}"), "is not MILTER.connect=" },
	{ RULE("timeout = {\"virus.message=2h\"}"), "from 10ms to 1h" },
	{ RULE("listener = mxx"), "listener: mxx is no listener" },
	{ RULE("client = 192.0.2.1/24"), "is no network" },
	{ RULE("client = {}"), "an empty list fits nothing" },
	{ RULE("sender = example.org"), "is no address pattern" },
	{ RULE("recipient = \"<>\""), "is no address pattern" },
	{ RULE("recipient-domain = \"a@b\""), "is no name or pattern" },
	{ RULE("tls = TLSv1.1"), "tls: TLSv1.1 is none of" },
	{ RULE("time = \"25:00-26:00\""), "is no time" },
	{ RULE("time = \"monday\""), "is no time" },
	{ RULE("time = \"08:00-08:00\""), "is no time" },
	{ RULE("size = 10M"), "is no size" },
	{ RULE("size = \"<0\""), "is no size" },
	{ RULE("size = \"2M-1M\""), "is no size" },
	{ RULE("header = \"Bad Name: x\""), "is no header field" },
	{ RULE("table = \"size text:/x\""), "is no table look-up" },
	{ RULE("table = \"sender ldap:x\""), "is not text:, hash:" },
	{ RULE("sender = \"\""), "is empty" },
	{ RULE("recipent = \"a@b\""), "did you mean recipient" },
	{ RULE("last = perhaps"), "last is yes or no" },
	{ "policy \"in\" { match = best }", "match is one of all, first" },
	{ "policy \"in\" { rule { skip = virus } }", "a rule needs a title" },
};

static void
mistakes_in_rules_are_told_with_file_and_line(void)
{
	struct settings *s;
	size_t i;

	for (i = 0; i < sizeof(rule_mistakes) / sizeof(rule_mistakes[0]); i++) {
		s = parse2(SITE, rule_mistakes[i].site);
		T_OK(s == NULL);
		settings_unref(&s);
		if (errors.len == 0 ||
		    strstr(errors.data, rule_mistakes[i].want) == NULL) {
			printf("# %s\n# got %s\n", rule_mistakes[i].site,
			    errors.len ? errors.data : "");
			T_OK(0);
		}
	}
	/* all of them in one run */
	s = parse2(SITE, RULE("tls = x\nsize = y\ntime = z"));
	T_OK(s == NULL && strstr(errors.data, "b.conf:3: tls") != NULL &&
	    strstr(errors.data, "b.conf:4: size") != NULL &&
	    strstr(errors.data, "b.conf:5: time") != NULL);
}

static void
a_site_changes_one_option_of_a_shipped_rule(void)
{
	struct settings *s =
	    parse2(SITE "policy \"in\" { rule \"r\" { client = 192.0.2.0/24\n"
	                "skip = {virus} } }\n",
	        "\npolicy \"in\" { rule \"r\" { client = 10.0.0.0/8 } }");

	T_OK(s != NULL);
	if (s == NULL)
		return;
	T_OK(s->policies[0].n_rules == 1);
	T_STR(s->policies[0].rules[0].file, "/etc/m/a.conf");
	T_STR(s->policies[0].rules[0].conditions[0].file,
	    "/etc/m/local.d/b.conf");
	T_OK(s->policies[0].rules[0].conditions[0].line == 2);
	T_STR(
	    s->policies[0].rules[0].conditions[0].values[0].text, "10.0.0.0/8");
	T_STR(s->policies[0].rules[0].changes[0].file, "/etc/m/a.conf");
	settings_unref(&s);
}

static void
mistakes_are_told_with_file_and_line(void)
{
	struct settings *s;
	size_t i;

	for (i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		s = parse2(SITE, mistakes[i].site);
		T_OK(s == NULL);
		settings_unref(&s);
		if (errors.len == 0 ||
		    strstr(errors.data, mistakes[i].want) == NULL) {
			printf("# %s\n# got %s\n", mistakes[i].site,
			    errors.len ? errors.data : "");
			T_OK(0);
		}
	}
}

static const struct {
	const char *text, *path, *host;
	unsigned port; /* 0 with neither path: a mistake */
} endpoints[] = {
	{ "unix:/run/a", "/run/a", NULL, 0 },
	{ "local:/run/a", "/run/a", NULL, 0 },
	{ "/run/a", "/run/a", NULL, 0 },
	{ "inet:10@h", NULL, "h", 10 },
	{ "inet:10@[192.0.2.1]", NULL, "192.0.2.1", 10 },
	{ "inet6:10@[::1]", NULL, "::1", 10 },
	{ "inet6:10@::1", NULL, "::1", 10 },
	{ "inet:h:10", NULL, "h", 10 },
	{ "inet:[::1]:10", NULL, "::1", 10 },
	{ "inet:h", NULL, NULL, 0 },
	{ "inet:::1:10", NULL, NULL, 0 },
	{ "inet:0@h", NULL, NULL, 0 },
	{ "inet:65536@h", NULL, NULL, 0 },
	{ "inet:10@", NULL, NULL, 0 },
	{ "unix:run/a", NULL, NULL, 0 },
	{ "", NULL, NULL, 0 },
};

static void
endpoints_of_both_spellings(void)
{
	struct endpoint e;
	size_t i;
	int rc;

	for (i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
		printf("# %s\n", endpoints[i].text);
		rc = endpoint_parse(endpoints[i].text, &e);
		T_OK((rc == 0) ==
		    (endpoints[i].path != NULL || endpoints[i].host != NULL));
		if (rc == -1)
			continue;
		if (endpoints[i].path != NULL)
			T_STR(e.path, endpoints[i].path);
		else
			T_STR(e.host, endpoints[i].host);
		T_OK(e.port == endpoints[i].port);
		endpoint_fini(&e);
	}
	buf_fini(&errors);
}

static const struct t_case cases[] = {
	{ "settings: a site is read with its defaults",
	    a_site_is_read_with_its_defaults },
	{ "settings: a site file with one rule leaves authoriser and chain",
	    one_more_rule_leaves_authoriser_and_chain },
	{ "settings: macros are kept by stage", macros_are_kept_by_stage },
	{ "settings: mistakes are told with file and line",
	    mistakes_are_told_with_file_and_line },
	{ "settings: mistakes in rules are told with file and line",
	    mistakes_in_rules_are_told_with_file_and_line },
	{ "settings: a site changes one option of a shipped rule",
	    a_site_changes_one_option_of_a_shipped_rule },
	{ "endpoint: Sendmail's and Postfix's spellings",
	    endpoints_of_both_spellings },
};

T_MAIN(cases)
