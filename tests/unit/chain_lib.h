/* SPDX-License-Identifier: ISC */
#ifndef TESTS_UNIT_CHAIN_LIB_H
#define TESTS_UNIT_CHAIN_LIB_H

/* One SMTP session against fake milters "a" and "b", on an event loop. */

#include "core/milter/chain.h"
#include "tests/lib/t.h"
#include "tests/unit/fake_milter.h"

#include <stdlib.h>
#include <unistd.h>

static struct event_base *base;
static struct settings *settings;
static struct engine *engine;
static struct chain *chain;
static struct fake fa, fb;
static struct message msg;
static struct envelope env;
static char dir[64];

static struct chain_facts facts;

static const struct chain_facts facts0 = { .hostname = "mx.test",
	.listener = "mx",
	.daemon_addr = "127.0.0.1",
	.daemon_port = 25,
	.client_name = "c.test",
	.client_ptr = "c.test",
	.client_resolve = "OK",
	.client_addr = "192.0.2.7",
	.client_port = 4711,
	.client_connections = 1,
	.helo = "c.test",
	.tls_version = "",
	.cipher = "",
	.cipher_bits = "",
	.cert_subject = "",
	.cert_issuer = "",
	.verify = "",
	.auth_type = "",
	.auth_authen = "",
	.auth_author = "",
	.auth_ssf = "" };

/* The last answer, copied. */
static struct {
	int n;
	enum chain_verdict verdict;
	char reply[2048], milter[64], reason[256], hold_by[64];
	size_t reason_len;
	bool authorised, quarantine;
} got;

static bool in_call;
static int alarms;

static void
on_answer(void *arg, const struct chain_answer *a)
{
	(void)arg;
	T_OK(!in_call);
	got.n++;
	got.verdict = a->verdict;
	snprintf(got.reply, sizeof(got.reply), "%s", a->reply);
	snprintf(got.milter, sizeof(got.milter), "%s", a->milter);
	snprintf(got.reason, sizeof(got.reason), "%s", a->reason);
	snprintf(got.hold_by, sizeof(got.hold_by), "%s", a->hold_by);
	got.reason_len = strlen(a->reason);
	got.authorised = a->authorised;
	got.quarantine = a->quarantine;
	event_base_loopbreak(base);
}

static void
on_alarm(void *arg, const char *milter, const char *why)
{
	(void)arg;
	(void)milter;
	(void)why;
	alarms++;
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

/* wait_answer - until the question in hand is answered, once */
static enum chain_verdict
wait_answer(void)
{
	int n = got.n;
	bool late = false;
	struct timeval tv = { 20, 0 };
	struct event *timer = event_new(base, -1, 0, on_late, &late);

	in_call = false;
	event_add(timer, &tv);
	while (got.n == n && !late)
		event_base_loop(base, EVLOOP_ONCE);
	event_free(timer);
	T_OK(got.n == n + 1);
	return (got.verdict);
}

#define ASK(call) (in_call = true, got.reply[0] = '\0', (call), wait_answer())

static inline enum chain_verdict
ask_connect(void)
{
	return (ASK(chain_connect(chain, on_answer, NULL)));
}

static inline enum chain_verdict
ask_helo(void)
{
	return (ASK(chain_helo(chain, on_answer, NULL)));
}

static inline enum chain_verdict
ask_mail(const char *id)
{
	static const char *const args[] = { "SIZE=10" };

	return (
	    ASK(chain_mail(chain, id, "s@x.test", args, 1, on_answer, NULL)));
}

static inline enum chain_verdict
ask_rcpt(const char *addr)
{
	return (
	    ASK(chain_rcpt(chain, addr, NULL, 0, NULL, NULL, on_answer, NULL)));
}

static inline enum chain_verdict
ask_data(void)
{
	return (ASK(chain_data(chain, on_answer, NULL)));
}

static inline enum chain_verdict
ask_message(void)
{
	return (ASK(chain_message(chain, &msg, &env, on_answer, NULL)));
}

static void
field(const char *name, const char *value)
{
	T_OK(message_add(&msg, msg.n_fields, name, value, strlen(value)) == 0);
}

static void
setup_message(const char *body)
{
	message_init(&msg);
	field("Received", " by us");
	msg.fields[0].hidden = true;
	field("Subject", " one");
	field("X-A", " 1");
	field("X-A", "  2\r\n\tfold");
	field("x-a", "3");
	T_OK(buf_add(&msg.mem, body, strlen(body)) == 0);
	msg.body = msg.mem.data != NULL ? msg.mem.data : "";
	msg.body_len = msg.mem.len;
	T_OK(env_init(&env) == 0 && env_set(&env.sender, "s@x.test") == 0);
	snprintf(env.id, sizeof(env.id), "Q1");
	T_OK(env_add_rcpt(&env, "r1@y.test") != NULL);
	T_OK(env_add_rcpt(&env, "r2@y.test") != NULL);
}

/* ahead - a fake is no known library, but what it is told is the same */
static const char *
ahead(const char *opts)
{
	return (strstr(opts, "pipeline") == NULL &&
	            strstr(opts, "library") == NULL
	        ? "pipeline = full"
	        : "");
}

/* setup - before it fakes may be scripted; a_opts and b_opts go into the milter
 * blocks ("" or e.g. "early = yes"); b_opts NULL: no milter "b" */
static void
setup_policy(const char *a_opts, const char *b_opts, const char *policy)
{
	static char text[4096];
	struct conf_file f = { (char *)"t.conf", text, 0 };
	struct buf errors = BUF_INIT(1 << 16);
	char b[512] = "";

	if (b_opts != NULL)
		snprintf(b, sizeof(b),
		    "milter \"b\" { endpoints = {\"unix:%s\"} %s %s }\n",
		    fb.path, b_opts, ahead(b_opts));
	snprintf(text, sizeof(text),
	    "hostname = \"mx.test\"\npostmaster = \"p@x.test\"\n"
	    "milter \"a\" { endpoints = {\"unix:%s\"} %s %s }\n%s"
	    "policy \"in\" { %s chain = { \"a\"%s } }\n"
	    "listener \"mx\" { address = {\"127.0.0.1:2525\"} policy = "
	    "\"in\" }\n",
	    fa.path, a_opts, ahead(a_opts), b, policy, b_opts != NULL ? ", \"b\"" : "");
	f.len = strlen(text);
	settings = settings_parse(&f, 1, &errors);
	if (settings == NULL) {
		printf("# %s\n", errors.data);
		abort();
	}
	buf_fini(&errors);
	facts = facts0;
	got.n = alarms = 0;
	base = event_base_new();
	engine = engine_new(base, settings);
	engine_on_fail_open(engine, on_alarm, NULL);
	chain = chain_new(engine, settings, 0, &facts);
	T_OK(engine != NULL && chain != NULL);
	setup_message("hello\r\n.dot\r\n");
}

static inline void
setup(const char *a_opts, const char *b_opts)
{
	fake_start(&fa);
	if (b_opts != NULL)
		fake_start(&fb);
	setup_policy(a_opts, b_opts, "authorise = \"a\"");
}

/* finish - the session ends; after it the fakes' notes may be read */
static inline void
finish(bool with_b)
{
	chain_free(&chain);
	fake_stop(&fa);
	if (with_b)
		fake_stop(&fb);
	engine_free(&engine);
	settings_unref(&settings);
	event_base_free(base);
	message_fini(&msg);
	env_fini(&env);
}

static void
fakes(void)
{
	char path[100];

	if (dir[0] == '\0') {
		snprintf(dir, sizeof(dir), "/tmp/chain_test.XXXXXX");
		if (mkdtemp(dir) == NULL)
			abort();
	}
	snprintf(path, sizeof(path), "%s/a", dir);
	fake_init(&fa, path);
	snprintf(path, sizeof(path), "%s/b", dir);
	fake_init(&fb, path);
}

static void
fakes_fini(void)
{
	fake_fini(&fa);
	fake_fini(&fb);
	(void)rmdir(dir);
	dir[0] = '\0';
}

#endif
