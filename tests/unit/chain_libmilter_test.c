/* SPDX-License-Identifier: ISC */

/*
 * The chain engine against libmilter itself, in a process of its own: what
 * every C filter and most bindings speak.
 */

#include "tests/unit/chain_lib.h"

#include <libmilter/mfapi.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static pid_t child;
static sfsistat body_says = SMFIS_CONTINUE;
static unsigned long all_or = 0; /* protocol bits asked for */
static unsigned n_helo;
static bool by_letters; /* the sender says what is answered */

/* say - the answer that the letter at that place of the sender stands for */
static sfsistat
say(const char *sender, size_t at)
{
	if (sender == NULL || strlen(sender) <= at)
		return (SMFIS_CONTINUE);
	switch (sender[at]) {
	case 'a':
		return (SMFIS_ACCEPT);
	case 'r':
		return (SMFIS_REJECT);
	case 't':
		return (SMFIS_TEMPFAIL);
	case 'd':
		return (SMFIS_DISCARD);
	default:
		return (SMFIS_CONTINUE);
	}
}

static sfsistat
m_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *sa)
{
	(void)ctx;
	return (strcmp(name, "c.test") == 0 && sa->sa_family == AF_INET
	        ? SMFIS_CONTINUE
	        : SMFIS_REJECT);
}

static sfsistat
m_helo(SMFICTX *ctx, char *name)
{
	(void)ctx;
	n_helo++;
	return (strcmp(name, "c.test") == 0 ? SMFIS_CONTINUE : SMFIS_REJECT);
}

static sfsistat
m_from(SMFICTX *ctx, char **argv)
{
	const char *id = smfi_getsymval(ctx, (char *)"i");

	if (by_letters) {
		free(smfi_getpriv(ctx));
		(void)smfi_setpriv(ctx, strdup(argv[0]));
		return (say(argv[0], 1));
	}
	return (id != NULL && id[0] == 'Q' &&
	            strcmp(argv[0], "<s@x.test>") == 0 &&
	            strcmp(argv[1], "SIZE=10") == 0
	        ? SMFIS_CONTINUE
	        : SMFIS_REJECT);
}

static sfsistat
m_rcpt(SMFICTX *ctx, char **argv)
{
	const char *addr = smfi_getsymval(ctx, (char *)"{rcpt_addr}");

	if (by_letters)
		return (say(argv[0], 1));
	if (addr == NULL || strncmp(argv[0] + 1, addr, strlen(addr)) != 0)
		return (SMFIS_TEMPFAIL);
	if (strncmp(argv[0], "<no", 3) == 0) {
		smfi_setreply(ctx, (char *)"550", (char *)"5.1.1",
		    (char *)"100%% unknown");
		return (SMFIS_REJECT);
	}
	return (SMFIS_CONTINUE);
}

static sfsistat
m_data(SMFICTX *ctx)
{
	return (by_letters ? say(smfi_getpriv(ctx), 2) : SMFIS_CONTINUE);
}

static sfsistat
m_header(SMFICTX *ctx, char *name, char *value)
{
	(void)name;
	(void)value;
	if ((all_or & SMFIP_NR_HDR) != 0)
		return (SMFIS_NOREPLY);
	return (by_letters ? say(smfi_getpriv(ctx), 3) : SMFIS_CONTINUE);
}

static sfsistat
m_eoh(SMFICTX *ctx)
{
	return (by_letters ? say(smfi_getpriv(ctx), 4) : SMFIS_CONTINUE);
}

static sfsistat
m_body(SMFICTX *ctx, unsigned char *p, size_t n)
{
	if (by_letters)
		return (say(smfi_getpriv(ctx), 5));
	return (n > 2 && memcmp(p, "BAD", 3) == 0 ? SMFIS_REJECT : body_says);
}

static sfsistat
m_eom(SMFICTX *ctx)
{
	if (by_letters)
		return (say(smfi_getpriv(ctx), 6));
	(void)smfi_progress(ctx);
	(void)smfi_insheader(ctx, 0, (char *)"X-Top", (char *)"t");
	(void)smfi_chgheader(ctx, (char *)"X-A", 2, NULL);
	(void)smfi_addheader(ctx, (char *)"X-End", (char *)"a\n\tb");
	(void)smfi_addrcpt(ctx, (char *)"<new@y.test>");
	(void)smfi_chgfrom(ctx, (char *)"<f@x.test>", NULL);
	(void)smfi_replacebody(ctx, (unsigned char *)"new\r\n", 5);
	return (SMFIS_CONTINUE);
}

static sfsistat
m_close(SMFICTX *ctx)
{
	free(smfi_getpriv(ctx));
	(void)smfi_setpriv(ctx, NULL);
	return (SMFIS_CONTINUE);
}

static sfsistat
m_unknown(SMFICTX *ctx, const char *line)
{
	(void)ctx;
	(void)line;
	return (SMFIS_CONTINUE);
}

static sfsistat
m_negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2,
    unsigned long f3, unsigned long *p0, unsigned long *p1, unsigned long *p2,
    unsigned long *p3)
{
	(void)f2;
	(void)f3;
	*p0 = f0;
	*p1 = f1 & (SMFIP_SKIP | all_or);
	*p2 = *p3 = 0;
	(void)smfi_setsymlist(ctx, SMFIM_ENVFROM, (char *)"i {mail_addr}");
	return (SMFIS_CONTINUE);
}

static struct smfiDesc desc = { (char *)"fake", SMFI_VERSION,
	SMFIF_ADDHDRS | SMFIF_CHGHDRS | SMFIF_CHGBODY | SMFIF_ADDRCPT |
	    SMFIF_DELRCPT | SMFIF_CHGFROM | SMFIF_SETSYMLIST,
	m_connect, m_helo, m_from, m_rcpt, m_header, m_eoh, m_body, m_eom, NULL,
	m_close, m_unknown, m_data, m_negotiate };

static void
start(const char *opts)
{
	char conn[128], all[128];
	struct stat st;
	int i;

	fakes();
	snprintf(conn, sizeof(conn), "unix:%s", fa.path);
	(void)unlink(fa.path);
	fflush(stdout);
	if ((child = fork()) == 0) {
		if (smfi_setconn(conn) == MI_FAILURE ||
		    smfi_register(desc) == MI_FAILURE)
			_exit(1);
		_exit(smfi_main() == MI_SUCCESS ? 0 : 1);
	}
	for (i = 0; i < 500 && stat(fa.path, &st) == -1; i++)
		usleep(10000);
	snprintf(all, sizeof(all), "may = { all } %s", opts);
	setup_policy(all, NULL, "authorise = \"a\"");
}

static void
stop(void)
{
	int status;

	chain_free(&chain);
	(void)kill(child, SIGKILL); /* on SIGTERM it would linger for 5 s */
	(void)waitpid(child, &status, 0);
	engine_free(&engine);
	settings_unref(&settings);
	event_base_free(base);
	message_fini(&msg);
	env_fini(&env);
	(void)unlink(fa.path);
	fakes_fini();
}

static void
new_message(const char *body)
{
	message_fini(&msg);
	env_fini(&env);
	setup_message(body);
}

static void
messages(const char *opts)
{
	int i;

	start(opts);
	T_OK(ask_connect() == CHAIN_CONTINUE);
	T_OK(ask_helo() == CHAIN_CONTINUE);
	for (i = 0; i < 3; i++) {
		new_message(i == 1 ? "BAD\r\n" : "good\r\n");
		T_OK(ask_mail(i == 0 ? "Q1" : "Q2") == CHAIN_CONTINUE);
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
		T_OK(ask_rcpt("no@y.test") == CHAIN_REJECT && !got.authorised);
		T_STR(got.reply, "550 5.1.1 100% unknown");
		T_OK(ask_data() == CHAIN_CONTINUE);
		if (i == 1) {
			T_OK(ask_message() == CHAIN_REJECT);
			T_OK(!msg.header_changed && env.n_rcpts == 2);
			continue;
		}
		T_OK(ask_message() == CHAIN_CONTINUE);
		T_OK(msg.n_fields == 6 && env.n_rcpts == 3);
		T_STR(msg.fields[0].name, "X-Top");
		T_STR(msg.fields[0].value, " t");
		T_STR(msg.fields[5].value, " a\r\n\tb");
		T_STR(env.sender, "f@x.test");
		T_OK(msg.body_len == 5 && memcmp(msg.body, "new\r\n", 5) == 0);
		/* RSET in between, after RCPT */
		T_OK(ask_mail("Q9") == CHAIN_CONTINUE);
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
		chain_abort(chain);
	}
	T_OK(strstr(chain_summary(chain), "a=") != NULL);
	stop();
}

static void
in_batches(void)
{
	all_or = 0;
	messages("");
}

static void
stage_by_stage(void)
{
	messages("early = yes");
}

static void
without_replies(void)
{
	all_or = SMFIP_NR_HDR;
	messages("");
	all_or = 0;
}

static void
skips_a_large_body(void)
{
	char *body = malloc(400001);

	memset(body, 'x', 399998);
	memcpy(body + 399998, "\r\n", 3);
	body_says = SMFIS_SKIP;
	start("");
	new_message(body);
	ask_helo();
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	T_OK(ask_message() == CHAIN_CONTINUE && msg.body_len == 5);
	stop();
	body_says = SMFIS_CONTINUE;
	free(body);
}

static void
accept_in_the_batch_leaves_the_session_usable(void)
{
	body_says = SMFIS_ACCEPT; /* the end of message was sent ahead */
	start("");
	ask_helo();
	ask_mail("Q1");
	ask_rcpt("r1@y.test");
	T_OK(ask_message() == CHAIN_CONTINUE && !msg.header_changed);
	ask_mail("Q2");
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_message() == CHAIN_CONTINUE);
	stop();
	body_says = SMFIS_CONTINUE;
}

static int
connects(void)
{
	struct buf b = BUF_INIT(1 << 16);
	const char *at;
	int n;

	T_OK(engine_stats(engine, &b) == 0);
	at = strstr(b.data, "\"connects\":");
	n = at != NULL ? atoi(at + 11) : -1;
	buf_fini(&b);
	return (n);
}

/* one_session - a message and its end; how: what the client does after it */
static void
one_session(const char *body, char how)
{
	new_message(body);
	T_OK(ask_connect() == CHAIN_CONTINUE);
	T_OK(ask_helo() == CHAIN_CONTINUE);
	T_OK(ask_mail("Q1") == CHAIN_CONTINUE);
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_message() == (body[0] == 'B' ? CHAIN_REJECT : CHAIN_CONTINUE));
	if (how == 'm')
		T_OK(ask_mail("Q2") == CHAIN_CONTINUE);
	if (how == 'r') {
		T_OK(ask_mail("Q2") == CHAIN_CONTINUE);
		T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	}
	chain_free(&chain);
	chain = chain_new(engine, settings, 0, &facts);
}

static void
one_connection_serves_many_sessions(void)
{
	int i;

	start("library = libmilter");
	for (i = 0; i < 5; i++)
		one_session("good\r\n", 'q');
	one_session("good\r\n", 'm');           /* MAIL was not shown yet */
	T_OK(ask_mail("Q1") == CHAIN_CONTINUE); /* a session of only that */
	chain_free(&chain);
	chain = chain_new(engine, settings, 0, &facts);
	one_session("good\r\n", 'q');
	T_OK(connects() == 1);
	stop();
}

static void
only_after_an_end_of_message_that_went_on(void)
{
	start("library = libmilter");
	one_session("BAD\r\n", 'q');
	one_session("good\r\n", 'r'); /* the filter was told ABORT */
	one_session("good\r\n", 'q');
	one_session("good\r\n", 'q');
	T_OK(connects() == 3);
	stop();
}

static void
not_with_an_unknown_library(void)
{
	start("");
	one_session("good\r\n", 'q');
	one_session("good\r\n", 'q');
	T_OK(connects() == 2);
	stop();
}

/* restart - the filter ends, and another one listens on the same socket */
static void
restart(void)
{
	char conn[128];
	struct stat st;
	int i, status;

	(void)kill(child, SIGKILL);
	(void)waitpid(child, &status, 0);
	(void)unlink(fa.path);
	fflush(stdout);
	if ((child = fork()) == 0) {
		snprintf(conn, sizeof(conn), "unix:%s", fa.path);
		if (smfi_setconn(conn) == MI_FAILURE ||
		    smfi_register(desc) == MI_FAILURE)
			_exit(1);
		_exit(smfi_main() == MI_SUCCESS ? 0 : 1);
	}
	for (i = 0; i < 500 && stat(fa.path, &st) == -1; i++)
		usleep(10000);
}

/* The loop has not seen the end of the old connection when it is used. */
static void
a_restarted_filter_is_connected_to_anew(void)
{
	start("library = libmilter");
	one_session("good\r\n", 'q');
	restart();
	one_session("good\r\n", 'q');
	T_OK(connects() == 2);
	new_message("good\r\n");
	ask_connect();
	ask_mail("Q1"); /* the connection is taken here */
	restart();
	T_OK(ask_rcpt("r1@y.test") == CHAIN_CONTINUE && got.authorised);
	T_OK(ask_message() == CHAIN_CONTINUE && connects() == 3);
	stop();
}

/* dice - a stream of numbers that is the same in each run */
static unsigned
dice(unsigned n)
{
	static unsigned state = 7;

	state = state * 1103515245u + 12345u;
	return ((state >> 16) % n);
}

/* letters - n of them, most "c" */
static const char *
letters(size_t n)
{
	static char room[32];
	size_t i;

	for (i = 0; i < n; i++)
		room[i] = dice(8) == 0 ? "artd"[dice(4)] : 'c';
	snprintf(room + n, sizeof(room) - n, "@x.test");
	return (room);
}

/* a_session - as the receiver puts its questions, in any order that
 * SMTP allows */
static void
a_session(void)
{
	enum chain_verdict v;
	bool mail = false, dropped = false;
	int i, rcpts = 0;

	ask_connect();
	for (i = 0; i < 25; i++) {
		switch (dice(7)) {
		case 0:
			ask_helo();
			mail = false;
			break;
		case 1:
			chain_abort(chain);
			mail = false;
			break;
		case 2:
			ASK(chain_unknown(chain, "XYZZY", on_answer, NULL));
			break;
		case 3:
			if (!mail || rcpts == 0)
				break;
			v = dropped ? CHAIN_DISCARD : ask_data();
			new_message(dice(4) == 0 ? "" : "good\r\n");
			if (v == CHAIN_CONTINUE)
				ask_message();
			else if (v != CHAIN_DISCARD)
				chain_abort(chain);
			mail = false;
			break;
		default:
			if (mail && !dropped) {
				v = ask_rcpt(letters(1));
				dropped = v == CHAIN_DISCARD;
				rcpts += dropped || v == CHAIN_CONTINUE;
			} else if (!mail) {
				v = ASK(chain_mail(chain, "Q1", letters(6),
				    NULL, 0, on_answer, NULL));
				mail =
				    v == CHAIN_CONTINUE || v == CHAIN_DISCARD;
				dropped = v == CHAIN_DISCARD;
				rcpts = 0;
				if (!mail)
					chain_abort(chain);
			}
			break;
		}
	}
}

/* libmilter does not answer what comes out of its order: each silence
 * would be a failure. */
static void
no_session_meets_silence(void)
{
	static const unsigned long bits[] = { 0, SMFIP_NR_HDR, SMFIP_NODATA,
		SMFIP_NODATA | SMFIP_NOUNKNOWN, SMFIP_NOHELO | SMFIP_NORCPT,
		SMFIP_NOMAIL | SMFIP_NOHDRS | SMFIP_NOEOH, SMFIP_NOBODY };
	char opts[100];
	struct buf b = BUF_INIT(1 << 16);
	size_t i;
	int n;

	by_letters = true;
	for (i = 0; i < 28; i++) {
		all_or = bits[i % 7];
		snprintf(opts, sizeof(opts),
		    "early = %s library = %s "
		    "timeout = { \"command=4s\" }",
		    i / 7 % 2 == 0 ? "no" : "yes",
		    i < 14 ? "other" : "libmilter");
		start(opts);
		for (n = 0; n < 200; n++) {
			a_session();
			chain_free(&chain);
			chain = chain_new(engine, settings, 0, &facts);
		}
		b.len = 0;
		T_OK(engine_stats(engine, &b) == 0);
		if (strstr(b.data, "\"failures\":0,") == NULL)
			printf("# %zu: %s\n", i, b.data);
		T_OK(strstr(b.data, "\"failures\":0,") != NULL);
		stop();
	}
	by_letters = false;
	all_or = 0;
	buf_fini(&b);
}

static const struct t_case cases[] = {
	{ "libmilter: one connection serves many sessions",
	    one_connection_serves_many_sessions },
	{ "libmilter: kept only after an end of message that went on",
	    only_after_an_end_of_message_that_went_on },
	{ "libmilter: another library gets a connection a session",
	    not_with_an_unknown_library },
	{ "libmilter: a restarted filter is connected to anew",
	    a_restarted_filter_is_connected_to_anew },
	{ "libmilter: three messages in batches", in_batches },
	{ "libmilter: the same, asked early", stage_by_stage },
	{ "libmilter: the same, no reply to header fields", without_replies },
	{ "libmilter: skips a large body", skips_a_large_body },
	{ "libmilter: accept amid what was sent ahead",
	    accept_in_the_batch_leaves_the_session_usable },
	{ "libmilter: no session meets silence", no_session_meets_silence },
};

T_MAIN(cases)
