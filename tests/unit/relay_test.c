/* SPDX-License-Identifier: ISC */

/*
 * The relay against a scripted next hop on loopback.  A script is one
 * connection: ">text" is said, "<PREFIX" is a line that must come, "." reads
 * content up to its dot, "?" waits for the end, "!" closes.  All that came is
 * kept in `heard`.
 */

#include "core/proc/child.h"
#include "core/relay/relay.h"
#include "core/smtp/envelope.h"
#include "milter-sdk/base/crc32c.h"
#include "tests/lib/t.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static struct settings settings;
static struct child child = { .ops = &relay_ops, .settings = &settings };
static struct chan *queue, *control;

/* what the queue was told */
static char outcomes[2000];
static unsigned n_outcomes;
static char alarms[1000];

/* the next hop */
static struct {
	int listener;
	uint16_t port;
	const char *const *script; /* NULL between connections and at the end */
	pthread_t thread;
	char heard[8000];
	char wrong[500];
} hop;

static void
hear(const char *s)
{
	(void)strncat(hop.heard, s, sizeof(hop.heard) - strlen(hop.heard) - 1);
}

/* play - one connection; returns where the next one's lines begin */
static const char *const *
play(int fd, const char *const *line)
{
	const struct timeval rest = { 0, 100000 };
	FILE *in = fdopen(fd, "r");
	char got[2000];

	for (; *line != NULL; line++) {
		if (**line == '>')
			T_OK(dprintf(fd, "%s\r\n", *line + 1) > 0);
		else if (**line == '!') {
			fclose(in);
			return (line + 1);
		} else if (**line == '?') {
			while (fgets(got, sizeof(got), in) != NULL)
				;
		} else {
			do {
				if (fgets(got, sizeof(got), in) == NULL) {
					(void)snprintf(hop.wrong,
					    sizeof(hop.wrong), "end at %s",
					    *line);
					hear("EOF\n");
					goto out;
				}
				got[strcspn(got, "\r")] = '\0';
				hear(got);
				hear("\n");
			} while (**line == '.' && strcmp(got, ".") != 0);
			if (**line == '<' &&
			    strncmp(got, *line + 1, strlen(*line + 1)) != 0)
				(void)snprintf(hop.wrong, sizeof(hop.wrong),
				    "want %s, got %.200s", *line, got);
		}
	}
out:
	if (*line == NULL)
		(void)setsockopt(
		    fd, SOL_SOCKET, SO_RCVTIMEO, &rest, sizeof(rest));
	while (*line == NULL && fgets(got, sizeof(got), in) != NULL) {
		got[strcspn(got, "\r")] = '\0';
		hear(got);
		hear("\n");
	}
	fclose(in);
	return (line);
}

static void *
serve(void *arg)
{
	const struct timeval tv = { 3, 0 };
	const char *const *line = hop.script;
	int fd;

	(void)arg;
	do {
		if ((fd = accept(hop.listener, NULL, NULL)) == -1)
			break;
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		line = play(fd, line);
	} while (*line != NULL);
	return (NULL);
}

static void
hop_start(const char *const *script)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t n = sizeof(in);

	memset(&hop, 0, sizeof(hop));
	outcomes[0] = alarms[0] = '\0';
	n_outcomes = 0;
	hop.script = script;
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	hop.listener = socket(AF_INET, SOCK_STREAM, 0);
	T_OK(bind(hop.listener, (struct sockaddr *)&in, n) == 0);
	T_OK(listen(hop.listener, 5) == 0);
	T_OK(getsockname(hop.listener, (struct sockaddr *)&in, &n) == 0);
	hop.port = ntohs(in.sin_port);
	T_OK(pthread_create(&hop.thread, NULL, serve, NULL) == 0);
}

static void
on_queue(void *arg, struct chan *ch, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	uint32_t i, n = unpack_u32(&u), index;
	const char *reply;
	char line[1000];
	uint8_t what;

	(void)arg;
	(void)ch;
	T_OK(f->type == MSG_OUTCOME);
	for (i = 0; i < n; i++) {
		index = unpack_u32(&u);
		what = unpack_u8(&u);
		reply = unpack_str(&u);
		(void)snprintf(line, sizeof(line), "%u.%u=%c %s\n",
		    (unsigned)f->ref, index, "+~-s"[what & 3], reply);
		(void)strcat(outcomes, line);
		(void)unpack_str(&u);
	}
	(void)unpack_u32(&u);
	T_OK(unpack_end(&u) == 0);
	n_outcomes++;
}

static void
on_control(void *arg, struct chan *ch, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };

	(void)arg;
	(void)ch;
	if (f->type == MSG_ALARM)
		(void)strcat(alarms, unpack_str(&u));
}

/* deliver - hand out content to n recipients r0@x..; bad: a wrong checksum */
static void
deliver_to(uint64_t ref, const char *host, const char *content,
    const char *const *rcpts, uint32_t flags, bool bad)
{
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };
	char path[] = "/tmp/milldam-relay.XXXXXX";
	struct envelope e;
	size_t n = strlen(content);
	int fd = mkstemp(path);

	(void)unlink(path);
	T_OK(pwrite(fd, content, n, 100) == (ssize_t)n);
	pack_u64(&k, ref);
	T_OK(chan_send_buf(queue, MSG_SEGMENT, 0, &b, fd) == 0);
	b.len = 0;
	pack_u64(&k, ref);
	pack_u64(&k, 100);
	pack_u64(&k, n);
	pack_u32(&k, crc32c(0, content, n) + bad);
	pack_str(&k, host);
	pack_u16(&k, hop.port);
	T_OK(env_init(&e) == 0);
	(void)strcpy(e.id, "test12345678");
	T_OK(env_set(&e.sender, "s@x.test") == 0);
	e.flags = flags;
	for (; *rcpts != NULL; rcpts++)
		T_OK(env_add_rcpt(&e, *rcpts) != NULL);
	env_pack(&k, &e);
	env_fini(&e);
	T_OK(pack_end(&k) == 0);
	T_OK(chan_send_buf(queue, MSG_DELIVER, ref, &b, -1) == 0);
	buf_fini(&b);
}

static const char *const one[] = { "a@x.test", NULL };
static const char *const three[] = { "a@x.test", "b@x.test", "c@x.test", NULL };

static void
deliver(uint64_t ref, const char *const *rcpts)
{
	deliver_to(
	    ref, "[127.0.0.1]", "Subject: x\r\n\r\n.dot\r\n", rcpts, 0, false);
}

/* pass - let the loop run until n outcomes have come, at most 5 seconds */
static void
pass(unsigned n)
{
	struct timeval now, end, tick = { 0, 20000 };

	(void)gettimeofday(&end, NULL);
	end.tv_sec += 5;
	do {
		(void)event_base_loopexit(child.base, &tick);
		(void)event_base_dispatch(child.base);
		(void)gettimeofday(&now, NULL);
	} while (n_outcomes < n && timercmp(&now, &end, <));
	T_OK(n_outcomes == n);
}

static void
hop_end(void)
{
	(void)shutdown(hop.listener, SHUT_RDWR);
	(void)close(hop.listener);
	(void)pthread_join(hop.thread, NULL);
	T_STR(hop.wrong, "");
}

#define EHLO                                                                   \
	">220 hi", "<EHLO gate.test",                                          \
	    ">250-hi\r\n250-SIZE 9999\r\n250 PIPELINING"
#define PLAIN ">220 hi", "<EHLO gate.test", ">250 hi"

static void
sets_up(void)
{
	int a[2], b[2];

	settings.hostname = (char *)(uintptr_t) "gate.test";
	settings.relay.connect_ms = 1000;
	settings.relay.command_ms = 1000;
	settings.relay.data_ms = 1000;
	settings.relay.idle_ms = 60000;
	settings.relay.reuse = 3;
	settings.stop_ms = 1000;
	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0);
	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, b) == 0);
	child.base = event_base_new();
	child.control = chan_new(child.base, a[0], on_control, NULL, NULL);
	control = chan_new(child.base, a[1], on_control, NULL, NULL);
	T_OK(relay_ops.open(&child) == 0 && relay_ops.start(&child) == 0);
	relay_ops.peer(&child, PROC_QUEUE, 0, b[0]);
	queue = chan_new(child.base, b[1], on_queue, NULL, NULL);
}

static void
delivers_and_reuses(void)
{
	static const char *const script[] = { EHLO,
		"<MAIL FROM:<s@x.test> SIZE=", "<RCPT TO:<a@x.test>", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", ">250 2.0.0 kept 1",
		"<MAIL", "<RCPT", "<DATA", ">250 ok\r\n250 ok\r\n354 go", ".",
		">250 2.0.0 kept 2", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	deliver(2, one);
	pass(2);
	T_STR(outcomes, "1.0=+ 250 2.0.0 kept 1\n2.0=+ 250 2.0.0 kept 2\n");
	T_OK(strstr(hop.heard, "\n\n..dot\n.\n") != NULL);
	/* The third is the last over this connection. */
	(void)shutdown(hop.listener, SHUT_RDWR);
	deliver(3, one);
	pass(3);
	T_OK(strstr(outcomes, "3.0=") != NULL);
	hop_end();
}

static void
tells_recipients_apart(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<RCPT",
		"<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n550-5.1.1 no\r\n550 5.1.1 such\r\n"
		"452 4.2.2 full\r\n354 go",
		".", ">250 2.0.0 kept", NULL };

	hop_start(script);
	deliver(1, three);
	pass(1);
	T_STR(outcomes,
	    "1.0=+ 250 2.0.0 kept\n1.1=- 550 5.1.1 no such\n"
	    "1.2=~ 452 4.2.2 full\n");
	hop_end();
}

static void
resets_after_a_refused_envelope(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n550 5.1.1 no\r\n503 5.5.1 none", "<RSET", "<MAIL",
		"<RCPT", "<DATA", ">250 ok\r\n250 ok\r\n250 ok\r\n354 go", ".",
		">250 kept", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	deliver(2, one);
	pass(2);
	T_STR(outcomes, "1.0=- 550 5.1.1 no\n2.0=+ 250 kept\n");
	hop_end();
}

static void
sends_nothing_when_none_is_accepted(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n550 no\r\n354 go on all the same", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	T_STR(outcomes, "1.0=- 550 no\n");
	hop_end();
	T_OK(strstr(hop.heard, "Subject") == NULL);
}

static void
passes_on_a_refused_sender(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<RCPT",
		"<RCPT", "<DATA",
		">451 4.7.1 later\r\n503 a\r\n503 b\r\n503 c\r\n503 d", NULL };

	hop_start(script);
	deliver(1, three);
	pass(1);
	T_STR(outcomes,
	    "1.0=~ 451 4.7.1 later\n1.1=~ 451 4.7.1 later\n"
	    "1.2=~ 451 4.7.1 later\n");
	hop_end();
}

static void
refused_content_concerns_the_accepted(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<RCPT",
		"<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n451 greylisted\r\n250 ok\r\n354 go", ".",
		">554 5.7.1 spam", NULL };

	hop_start(script);
	deliver(1, three);
	pass(1);
	T_STR(outcomes,
	    "1.0=- 554 5.7.1 spam\n1.1=~ 451 greylisted\n"
	    "1.2=- 554 5.7.1 spam\n");
	hop_end();
}

static void
works_step_by_step_without_pipelining(void)
{
	static const char *const script[] = { PLAIN, "<MAIL FROM:<s@x.test>",
		">250 ok", "<RCPT", ">550 no", "<RCPT", ">250 ok", "<RCPT",
		">250 ok", "<DATA", ">354 go", ".", ">250 kept", "<MAIL",
		">250 ok", "<RCPT", ">550 no", "<RSET", ">250 ok", "<MAIL",
		">550 never", NULL };

	hop_start(script);
	deliver(1, three);
	pass(1);
	T_STR(outcomes, "1.0=- 550 no\n1.1=+ 250 kept\n1.2=+ 250 kept\n");
	outcomes[0] = '\0';
	deliver(2, one);
	pass(2);
	deliver(3, one);
	pass(3);
	T_STR(outcomes, "2.0=- 550 no\n3.0=- 550 never\n");
	hop_end();
}

static void
falls_back_to_helo(void)
{
	static const char *const script[] = { ">220 old", "<EHLO", ">502 what",
		"<HELO gate.test", ">250 hi", "<MAIL", ">250 ok", "<RCPT",
		">250 ok", "<DATA", ">354 go", ".", ">250 kept", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	T_STR(outcomes, "1.0=+ 250 kept\n");
	hop_end();
}

static void
a_lost_final_reply_is_temporary(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", "!", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	T_STR(outcomes,
	    "1.0=~ 451 4.4.2 [127.0.0.1] [127.0.0.1] during the reply to the "
	    "message: connection closed\n");
	hop_end();
}

static void
damaged_content_never_gets_its_dot(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", NULL };

	hop_start(script);
	deliver_to(1, "[127.0.0.1]", "Subject: x\r\n\r\ny\r\n", one, 0, true);
	pass(1);
	pass(1);
	T_STR(outcomes, "1.0=~ 451 4.3.0 content is damaged on this host\n");
	T_STR(alarms, "damage");
	hop_end();
	T_OK(strstr(hop.heard, "\n.\n") == NULL);
}

static void
a_closed_idle_connection_costs_nothing(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", ">250 kept 1", "<MAIL",
		">421 4.3.2 closing", "!", EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", ">250 kept 2", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	deliver(2, one);
	pass(2);
	T_STR(outcomes, "1.0=+ 250 kept 1\n2.0=+ 250 kept 2\n");
	hop_end();
}

static void
a_tired_connection_is_replaced(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", ">250 kept 1", "<MAIL",
		">452 4.3.2 too many messages\r\n503 no\r\n503 no", "!", EHLO,
		"<MAIL", "<RCPT", "<DATA", ">250 ok\r\n550 no\r\n503 none",
		"<RSET", ">500 what", "!", EHLO, "<MAIL",
		">452 4.3.2 too many messages\r\n503 no\r\n503 no", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	deliver(2, one);
	pass(2);
	deliver(3, one);
	pass(3);
	T_STR(outcomes,
	    "1.0=+ 250 kept 1\n2.0=- 550 no\n"
	    "3.0=~ 452 4.3.2 too many messages\n");
	hop_end();
}

static void
troubles_of_the_site(void)
{
	static const char *const script[] = { ">421 4.3.2 busy", "!",
		">554 5.7.1 go away", "!", ">250-hello", ">251 there", "!",
		EHLO, "<MAIL", ">421 not now", "!", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	deliver(2, one);
	pass(2);
	deliver(3, one);
	pass(3);
	deliver(4, one);
	pass(4);
	T_OK(strstr(outcomes, "1.0=s 421 4.3.2 busy\n") != NULL);
	T_OK(strstr(outcomes, "2.0=s 554 5.7.1 go away\n") != NULL);
	T_OK(strstr(outcomes, "3.0=s 451 4.4.2") != NULL);
	T_OK(strstr(outcomes, "4.0=s 421 not now\n") != NULL);
	hop_end();
	deliver(5, one); /* nobody listens any more */
	pass(5);
	T_OK(strstr(outcomes, "5.0=s 451 4.4.2") != NULL);
	T_OK(strstr(outcomes, "Connection refused") != NULL);
}

static void
times_out(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok", "?", NULL };

	hop_start(script);
	deliver(1, one);
	pass(1);
	T_OK(strstr(outcomes, "1.0=~ 451 4.4.1") != NULL);
	T_OK(strstr(outcomes, "timed out") != NULL);
	hop_end();
}

static void
minds_what_the_hop_offers(void)
{
	static const char *const script[] = { EHLO, NULL };
	char *big = malloc(10001);

	memset(big, 'b', 10000);
	big[10000] = '\0';
	hop_start(script);
	deliver_to(1, "[127.0.0.1]", big, one, 0, false);
	pass(1);
	deliver_to(2, "[127.0.0.1]", "x\r\n", one, ENV_SMTPUTF8, false);
	pass(2);
	T_OK(strstr(outcomes, "1.0=- 552 5.3.4") != NULL);
	T_OK(strstr(outcomes, "2.0=- 553 5.6.7") != NULL);
	free(big);
	hop_end();
}

static void
no_command_hides_in_an_address(void)
{
	static const char *const rcpts[] = { "a@x.test>\r\nRCPT TO:<b@x.test",
		"a b@x.test", "<x", NULL };
	static const char *const script[] = { NULL };

	hop_start(script);
	deliver(1, rcpts);
	pass(1);
	T_OK(strstr(outcomes, "1.0=- 553 5.1.3") != NULL);
	T_OK(strstr(outcomes, "1.1=- 553 5.1.3") != NULL);
	T_OK(strstr(outcomes, "1.2=- 553 5.1.3") != NULL);
	hop_end();
}

static struct chan *lookup;
static int lookup_status;

static void
on_lookup(void *arg, struct chan *ch, struct frame *f)
{
	struct buf b = BUF_INIT(1000);
	struct packer k = { &b, false };

	(void)arg;
	T_OK(f->type == MSG_HOSTS);
	pack_u8(&k, (uint8_t)lookup_status);
	pack_str(&k, lookup_status == 0 ? "" : "5.1.2 no such domain");
	pack_u32(&k, lookup_status == 0 ? 2 : 0);
	if (lookup_status == 0) {
		/* 127.0.0.2: nobody listens there */
		pack_str(&k, "mx1.test");
		pack_str(&k, "127.0.0.2");
		pack_u16(&k, 10);
		pack_str(&k, "mx2.test");
		pack_str(&k, "127.0.0.1");
		pack_u16(&k, 20);
	}
	T_OK(chan_send_buf(ch, MSG_HOSTS_R, f->ref, &b, -1) == 0);
	buf_fini(&b);
}

static void
asks_lookup_and_tries_the_next_address(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", ">250 kept", NULL };
	int s[2];

	hop_start(script);
	/* Handed out before there is a lookup process. */
	deliver_to(1, "x.test", "x\r\n", one, 0, false);
	pass(0);
	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	lookup = chan_new(child.base, s[1], on_lookup, NULL, NULL);
	relay_ops.peer(&child, PROC_LOOKUP, 0, s[0]);
	pass(1);
	T_STR(outcomes, "1.0=+ 250 kept\n");
	lookup_status = 2;
	deliver_to(2, "none.test", "x\r\n", one, 0, false);
	pass(2);
	T_OK(strstr(outcomes, "2.0=- 550 5.1.2 no such domain") != NULL);
	lookup_status = 1;
	deliver_to(3, "none.test", "x\r\n", one, 0, false);
	pass(3);
	T_OK(strstr(outcomes, "3.0=s 451 ") != NULL);
	hop_end();
}

/* The time limit of one connection ends another one, which is next in line: an
 * idle one that must give its descriptor. */
static void
out_of_descriptors_an_idle_connection_makes_room(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", ">250 kept", "?", "!", EHLO,
		"<MAIL", "<RCPT", "<DATA", ">250 ok\r\n250 ok\r\n354 go", ".",
		">250 kept", NULL };
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct rlimit limit, tight;
	int mute = socket(AF_INET, SOCK_STREAM, 0), i;

	hop_start(script);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
	in.sin_port = htons(hop.port);
	T_OK(bind(mute, (struct sockaddr *)&in, sizeof(in)) == 0);
	T_OK(listen(mute, 5) == 0);
	deliver(1, one);
	pass(1);
	lookup_status = 0;
	deliver_to(2, "x.test", "x\r\n", one, 0, false);
	for (i = 0; i < 10; i++)
		pass(1);
	T_OK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	tight = limit;
	tight.rlim_cur = (rlim_t)(i = dup(0));
	(void)close(i);
	T_OK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
	pass(2);
	T_OK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	T_STR(outcomes, "1.0=+ 250 kept\n2.0=+ 250 kept\n");
	hop_end();
	(void)close(mute);
}

static void
calls_back_what_has_not_begun(void)
{
	static const char *const script[] = { "<never", NULL };

	hop_start(script);
	deliver(1, one);
	T_OK(chan_send(queue, MSG_CANCEL, 1, NULL, 0, -1) == 0);
	pass(1);
	T_STR(outcomes, "1.0=~ 451 4.3.2 called back\n");
	hop.wrong[0] = '\0';
	(void)shutdown(hop.listener, SHUT_RDWR);
	(void)close(hop.listener);
	(void)pthread_join(hop.thread, NULL);
}

static void
large_content_leaves_whole(void)
{
	static const char *const script[] = { ">220 hi", "<EHLO",
		">250-hi\r\n250 PIPELINING", "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", ">250 kept", NULL };
	size_t i, n = 3 << 20;
	char *big = malloc(n + 1);

	for (i = 0; i < n; i++)
		big[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'm';
	big[n] = '\0';
	hop_start(script);
	deliver_to(1, "[127.0.0.1]", big, one, 0, false);
	pass(1);
	T_STR(outcomes, "1.0=+ 250 kept\n");
	free(big);
	hop_end();
}

/* ends_gracefully - in a process of its own, for it exits */
static void
ends_gracefully(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", ">250 kept", "<QUIT",
		NULL };
	struct buf b = BUF_INIT(100);
	struct packer k = { &b, false };
	static volatile struct relay
	    kept; /* else the copy of our heap is a leak */
	struct chan *old_queue = queue, *to_child;
	int a[2], s[2], status;
	pid_t pid;

	hop_start(script);
	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0);
	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	if ((pid = fork()) == 0) {
		(void)close(a[1]);
		(void)close(s[1]);
		kept = *(struct relay *)child.priv;
		(void)kept.n_jobs;
		child_main(&relay_ops, 0, &settings, a[0]);
	}
	(void)close(a[0]);
	to_child = chan_new(child.base, a[1], on_control, NULL, NULL);
	queue = chan_new(child.base, s[1], on_queue, NULL, NULL);
	pack_u8(&k, PROC_QUEUE);
	pack_u16(&k, 0);
	T_OK(chan_send_buf(to_child, MSG_PEER, 0, &b, s[0]) == 0);
	buf_fini(&b);
	deliver(1, one);
	pass(1);
	/* No lookup process: this one has not begun when the stop comes. */
	deliver_to(2, "later.test", "x\r\n", one, 0, false);
	pass(1);
	T_OK(chan_send(to_child, MSG_STOP, 0, NULL, 0, -1) == 0);
	pass(2);
	T_STR(outcomes,
	    "1.0=+ 250 kept\n2.0=~ 451 4.3.2 this host is stopping\n");
	T_OK(waitpid(pid, &status, 0) == pid);
	T_OK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	hop_end();
	chan_free(&to_child);
	chan_free(&queue);
	queue = old_queue;
}

static void
drops_all_when_the_queue_is_gone(void)
{
	static const char *const script[] = { EHLO, "<MAIL", "<RCPT", "<DATA",
		">250 ok\r\n250 ok\r\n354 go", ".", NULL };

	hop_start(script);
	deliver(1, one);
	pass(0);
	chan_free(&queue);
	pass(0);
	hop_end(); /* the hop sees the end of the connection */
	chan_free(&lookup);
	pass(0);
	chan_free(&control);
	chan_free(&child.control);
}

static const struct t_case cases[] = {
	{ "the relay starts", sets_up },
	{ "connections are reused", delivers_and_reuses },
	{ "recipients are told apart", tells_recipients_apart },
	{ "RSET follows a refused envelope", resets_after_a_refused_envelope },
	{ "a 354 for no recipient gets nothing",
	    sends_nothing_when_none_is_accepted },
	{ "a refused sender concerns all", passes_on_a_refused_sender },
	{ "refused content concerns the accepted",
	    refused_content_concerns_the_accepted },
	{ "without PIPELINING it goes step by step",
	    works_step_by_step_without_pipelining },
	{ "HELO after a refused EHLO", falls_back_to_helo },
	{ "a lost final reply is temporary", a_lost_final_reply_is_temporary },
	{ "damaged content never gets its dot",
	    damaged_content_never_gets_its_dot },
	{ "421 on a reused connection is tried afresh",
	    a_closed_idle_connection_costs_nothing },
	{ "a tired connection is replaced", a_tired_connection_is_replaced },
	{ "before MAIL it is the site's trouble", troubles_of_the_site },
	{ "a silent hop times out", times_out },
	{ "SIZE and SMTPUTF8 are minded", minds_what_the_hop_offers },
	{ "no command hides in an address", no_command_hides_in_an_address },
	{ "lookup is asked, the next address tried",
	    asks_lookup_and_tries_the_next_address },
	{ "what has not begun can be called back",
	    calls_back_what_has_not_begun },
	{ "large content leaves whole", large_content_leaves_whole },
	{ "a stop finishes, defers and says QUIT", ends_gracefully },
	{ "out of descriptors an idle connection makes room",
	    out_of_descriptors_an_idle_connection_makes_room },
	{ "without a queue all is dropped", drops_all_when_the_queue_is_gone },
};

T_MAIN(cases)
