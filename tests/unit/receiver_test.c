/* SPDX-License-Identifier: ISC */

/*
 * receiver_test - SMTP dialogues with a fake chain, queue and lookup
 *
 * One loop runs all: the receiver as it is, a client socket, and the far ends
 * of its channels.  What a client says is written at once; replies are compared
 * as a whole.
 */

#include "core/proc/child.h"
#include "core/receiver/receiver.h"
#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/pack.h"
#include "tests/lib/t.h"
#include "tests/unit/receiver_chain.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct child c;
static struct chan *queue, *lookup, *boss;
static int port, sock = -1;
static char got[1 << 20];
static size_t got_len;
static bool at_end; /* the server has closed */

/* what the queue got and how it answers */
static struct envelope env;
static struct buf content = BUF_INIT(64 << 20);
static char received[65536], record[262144];
static int n_submits, n_records, submit_where;
static unsigned n_discarded; /* recipients */
static uint8_t queue_status;
static bool queue_dies, queue_mute, big_denied;
/* how the lookup answers */
static const char *client_name;
static bool lookup_mute;
static char replies[65536]; /* of commands */

static void
on_queue(void *arg, struct chan *ch, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	struct buf b = BUF_INIT(4096);
	struct packer k = { &b, false };
	const char *text;
	uint64_t length, offset;
	uint32_t crc;
	size_t n;
	char *p;

	(void)arg;
	if (f->type == MSG_RECORD) {
		(void)snprintf(record, sizeof(record), "%s", unpack_str(&u));
		n_records++;
		return;
	}
	if (f->type == MSG_DISCARDED) {
		n_discarded += unpack_u32(&u);
		T_OK(unpack_end(&u) == 0);
		return;
	}
	if (f->type == MSG_BIG_FILE) {
		int fd = big_denied ? -1 : memfd_create("big", 0);

		pack_str(&k, big_denied ? "no" : "");
		if (chan_send_buf(ch, MSG_BIG_FILE_R, f->ref, &b, fd) == -1)
			abort();
		buf_fini(&b);
		return;
	}
	n_submits++;
	env_fini(&env);
	T_OK(env_unpack(&u, &env) == 0);
	submit_where = unpack_u8(&u);
	length = unpack_u64(&u);
	offset = unpack_u64(&u);
	crc = unpack_u32(&u);
	content.len = 0;
	text = unpack_blob(&u, &n);
	if (submit_where == 0)
		T_OK(n == length && buf_add(&content, text, n) == 0);
	else {
		p = malloc(length);
		T_OK(n == 0 && f->fd != -1 &&
		    pread(f->fd, p, length, (off_t)offset) == (ssize_t)length &&
		    buf_add(&content, p, length) == 0);
		free(p);
		(void)close(f->fd);
		f->fd = -1;
	}
	T_OK(crc32c(0, content.data, content.len) == crc);
	text = unpack_blob(&u, &n);
	(void)snprintf(received, sizeof(received), "%.*s", (int)n, text);
	(void)snprintf(record, sizeof(record), "%s", unpack_str(&u));
	(void)unpack_blob(&u, &n);
	T_OK((n > 0) == ((env.flags & ENV_HELD) != 0));
	T_STR(unpack_str(&u), "");
	T_OK(unpack_end(&u) == 0);
	if (queue_dies) {
		chan_free(&queue);
		return;
	}
	if (queue_mute)
		return;
	pack_u8(&k, queue_status);
	pack_str(&k, "");
	if (chan_send_buf(ch, MSG_SUBMITTED, f->ref, &b, -1) == -1)
		abort();
	buf_fini(&b);
}

static void
on_lookup(void *arg, struct chan *ch, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	const char *what = unpack_str(&u);
	struct buf b = BUF_INIT(4096);
	struct packer k = { &b, false };
	bool bad = strncmp(what, "unknown@", 8) == 0;
	struct route r = { .mailer = bad ? MAILER_ERROR : MAILER_SMTP,
		.host = (char *)"[127.0.0.1]",
		.addr = (char *)what,
		.text = (char *)(bad ? "550 5.1.1 No such user" : "") };

	(void)arg;
	if (lookup_mute)
		return;
	if (f->type == MSG_CLIENT) {
		pack_str(&k, client_name);
		pack_str(&k, client_name);
		pack_str(&k, client_name[0] != '\0' ? "OK" : "FAIL");
	} else {
		pack_u8(&k, strncmp(what, "later@", 6) == 0);
		route_pack(&k, &r);
		pack_str(&k, "no answer");
	}
	if (chan_send_buf(ch,
	        f->type == MSG_CLIENT ? MSG_CLIENT_R : MSG_ROUTE_R, f->ref, &b,
	        -1) == -1)
		abort();
	buf_fini(&b);
}

static void
on_boss(void *arg, struct chan *ch, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	size_t n;
	const char *p;

	(void)arg;
	(void)ch;
	if (f->type != MSG_REPLY)
		return;
	(void)unpack_u8(&u);
	p = unpack_blob(&u, &n);
	(void)snprintf(replies, sizeof(replies), "%.*s", (int)n, p);
}

static void
turn(void)
{
	ssize_t n;

	(void)event_base_loop(c.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	while (sock != -1 && !at_end && got_len < sizeof(got) - 1 &&
	    (n = recv(sock, got + got_len, sizeof(got) - 1 - got_len,
	         MSG_DONTWAIT)) >= 0) {
		if (n == 0)
			at_end = true;
		got_len += (size_t)n;
		got[got_len] = '\0';
	}
}

static void
turns(unsigned ms)
{
	uint64_t end = now_ms() + ms;

	do {
		turn();
		usleep(200);
	} while (now_ms() < end);
}

/* wait_for - until text is in what came; false after five seconds */
static bool
wait_for(const char *text)
{
	uint64_t end = now_ms() + 5000;

	while (strstr(got, text) == NULL && !at_end && now_ms() < end)
		turn();
	if (strstr(got, text) != NULL)
		return (true);
	printf("# waited for \"%s\", got \"%.2000s\"\n", text, got);
	return (false);
}

static bool
wait_end(void)
{
	uint64_t end = now_ms() + 5000;

	while (!at_end && now_ms() < end)
		turn();
	return (at_end);
}

static void
say_n(const char *p, size_t n)
{
	ssize_t w;

	while (n > 0) {
		w = send(sock, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (w > 0) {
			p += w;
			n -= (size_t)w;
		} else if (at_end)
			return;
		turn();
	}
}

static void
say(const char *text)
{
	got_len = 0;
	got[0] = '\0';
	say_n(text, strlen(text));
}

/* asks - say and wait for the reply that begins so */
static bool
asks(const char *text, const char *reply)
{
	say(text);
	return (wait_for(reply));
}

static void
hang_up(void)
{
	if (sock != -1)
		(void)close(sock);
	sock = -1;
	turns(3);
}

static void
dial(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port) };

	hang_up();
	at_end = false;
	got_len = 0;
	got[0] = '\0';
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sock = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(sock, (struct sockaddr *)&in, sizeof(in)) == -1)
		abort();
}

static struct settings *
settings_of(const char *limits)
{
	struct buf text = BUF_INIT(8192), errors = BUF_INIT(8192);
	struct conf_file f = { .name = (char *)"test" };
	struct settings *s;

	if (buf_addf(&text,
	        "hostname = \"gate.test\"\n"
	        "postmaster = \"boss@gate.test\"\n"
	        "limits { %s }\n"
	        "milter \"access\" { endpoints = {\"unix:/nowhere\"} }\n"
	        "policy \"in\" { authorise = \"access\" chain = {access} }\n"
	        "listener \"mx\" { address = {\"127.0.0.1:2525\"} "
	        "policy = \"in\" }\n",
	        limits) == -1)
		abort();
	f.text = text.data;
	f.len = text.len;
	if ((s = settings_parse(&f, 1, &errors)) == NULL) {
		printf("# %s\n", errors.data);
		abort();
	}
	buf_fini(&text);
	return (s);
}

static void
reload(const char *limits)
{
	struct settings *old = c.settings;

	c.settings = settings_of(limits);
	receiver_ops.reload(&c, old);
	settings_unref(&old);
}

static void
new_queue(void)
{
	int sv[2];

	chan_free(&queue);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
		abort();
	receiver_ops.peer(&c, PROC_QUEUE, 0, sv[0]);
	queue = chan_new(c.base, sv[1], on_queue, NULL, NULL);
}

static void
new_lookup(void)
{
	int sv[2];

	chan_free(&lookup);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
		abort();
	receiver_ops.peer(&c, PROC_LOOKUP, 0, sv[0]);
	lookup = chan_new(c.base, sv[1], on_lookup, NULL, NULL);
}

static void
set_up_once(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);
	int sv[2], fd;

	if (c.base != NULL)
		return;
	log_open("receiver_test", LOG_TO_STDERR, LOG_EMERG);
	if (env_init(&env) == -1)
		abort();
	c.ops = &receiver_ops;
	c.base = event_base_new();
	c.settings = settings_of("");
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
		abort();
	c.control = chan_new(c.base, sv[0], on_boss, NULL, NULL);
	boss = chan_new(c.base, sv[1], on_boss, NULL, NULL);
	if (receiver_ops.open(&c) == -1 || receiver_ops.start(&c) == -1)
		abort();
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) == -1 ||
	    listen(fd, 64) == -1 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) == -1)
		abort();
	port = ntohs(in.sin_port);
	receiver_ops.listener(&c, "mx", fd);
	new_queue();
	new_lookup();
}

/* begin - a fresh session in a fresh world, up to the banner */
static void
begin(const char *limits)
{
	set_up_once();
	hang_up();
	fake_reset();
	reload(limits);
	if (queue == NULL)
		new_queue();
	if (lookup == NULL)
		new_lookup();
	queue_status = 0;
	queue_dies = queue_mute = lookup_mute = big_denied = false;
	client_name = "localhost";
	n_submits = n_records = 0;
	content.len = 0;
	received[0] = record[0] = '\0';
	dial();
	T_OK(wait_for("220 gate.test ESMTP\r\n"));
}

/* mail_to - EHLO, MAIL and one RCPT */
static void
mail_to(const char *rcpt)
{
	char text[600];

	T_OK(asks("EHLO client.test\r\n", "250 HELP\r\n"));
	(void)snprintf(text, sizeof(text),
	    "MAIL FROM:<a@from.test>\r\nRCPT TO:<%s>\r\n", rcpt);
	T_OK(asks(text, "250 2.1.5 "));
}

static const char *
content_after_received(void)
{
	const char *p = content.data != NULL ? content.data : "";

	if (strncmp(p, "Received: from ", 15) != 0)
		return ("no Received field");
	while ((p = strchr(p, '\n')) != NULL && (*++p == ' ' || *p == '\t'))
		;
	return (p != NULL ? p : "");
}

static void
accepts_a_message_and_says_its_id(void)
{
	char want[100];

	begin("");
	T_OK(asks("EHLO client.test\r\n",
	    "250-gate.test Hello localhost [127.0.0.1], pleased to meet "
	    "you\r\n"));
	T_OK(strstr(got, "250-SIZE 52428800\r\n") != NULL);
	T_OK(strstr(got, "250-CHUNKING\r\n") != NULL);
	T_OK(asks("MAIL FROM:<a@from.test> SIZE=100 BODY=8BITMIME\r\n",
	    "250 2.1.0 <a@from.test>... Sender ok\r\n"));
	T_OK(asks("RCPT TO:<b@to.test> NOTIFY=NEVER\r\n",
	    "250 2.1.5 <b@to.test>... Recipient ok\r\n"));
	T_OK(asks("DATA\r\n",
	    "354 Enter mail, end with \".\" on a line by "
	    "itself\r\n"));
	T_OK(asks("Subject: x\r\n\r\n..dot\r\n.\r\n",
	    "Message accepted for delivery\r\n"));
	T_OK(n_submits == 1 && submit_where == 0);
	(void)snprintf(want, sizeof(want),
	    "250 2.0.0 %s Message accepted for delivery\r\n", env.id);
	T_STR(got, want);
	T_STR(content_after_received(), "Subject: x\r\n\r\n.dot\r\n");
	T_STR(env.sender, "a@from.test");
	T_OK(env.n_rcpts == 1 && env.rcpts[0].notify == NOTIFY_NEVER);
	T_STR(env.rcpts[0].route.host, "[127.0.0.1]");
	T_OK(env.flags == (ENV_8BIT | ENV_ESMTP | ENV_DOTS));
	T_OK(strstr(record, "\"outcome\":\"queued\"") != NULL);
	T_OK(strstr(record, "\"summary\":\"access=accept\"") != NULL);
	T_STR(fake_asked,
	    "connect helo mail:a@from.test +:SIZE=100 "
	    "+:BODY=8BITMIME rcpt:b@to.test data message");
	T_OK(asks("QUIT\r\n", "221 2.0.0 gate.test closing connection\r\n"));
	T_OK(wait_end());
}

static void
pipelined_group_is_answered_in_order(void)
{
	begin("");
	say("HELO c\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<unknown@b.c>\r\n"
	    "RCPT TO:<x@b.c>\r\nNOOP\r\nDATA\r\n");
	T_OK(wait_for("354 "));
	T_STR(got,
	    "250 gate.test Hello localhost [127.0.0.1], pleased to meet "
	    "you\r\n250 2.1.0 <a@b.c>... Sender ok\r\n"
	    "550 5.1.1 No such user\r\n"
	    "250 2.1.5 <x@b.c>... Recipient ok\r\n250 2.0.0 OK\r\n"
	    "354 Enter mail, end with \".\" on a line by itself\r\n");
	say("x\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n");
	T_OK(wait_for("354 "));
	T_STR(content_after_received(), "\r\nx\r\n");
	T_STR(env.proto, "SMTP");
	T_OK(n_records == 1);
	T_OK(asks(".\r\nQUIT\r\n", "221 "));
	T_OK(n_submits == 2);
	T_STR(env.rcpts[0].addr, "postmaster");
	T_STR(env.rcpts[0].route.addr, "postmaster");
	T_STR(content_after_received(), "\r\n");
}

static void
many_pipelined_commands_do_not_stall(void)
{
	static char text[40000];
	int i;

	begin("commands = 100000");
	for (i = 0; i < 4000; i++)
		strcat(text + 6 * (i > 0 ? i - 1 : 0), "NOOP\r\n");
	say(text);
	T_OK(asks("QUIT\r\n", "221 "));
	T_OK(wait_end());
}

/* smuggle - content with a false end is refused whole and nothing after it
 * is run */
static void
smuggle(const char *p, size_t n)
{
	static const char after[] = "MAIL FROM:<evil@x.y>\r\n"
	                            "RCPT TO:<v@x.y>\r\nDATA\r\nevil\r\n.\r\n";

	begin("");
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	got_len = 0;
	got[0] = '\0';
	say_n(p, n);
	say_n(after, strlen(after));
	T_OK(wait_end());
	T_OK(n_submits == 0);
	T_STR(got, "554 5.5.2 Bare CR or LF is not allowed in a message\r\n");
	T_OK(strstr(fake_asked, "evil") == NULL);
}

static void
refuses_every_form_of_smuggling(void)
{
	static const char *const ends[] = { "\n.\n", "\n.\r\n", "\r.\r\n",
		"\r\n.\n", "\r\n.\r", "\r.\r", "\n.\r", "\r.\n", "\r\n\r.\r\n",
		"\n\n.\r\n", "\r\n\n.\r\n" };
	size_t i;

	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		smuggle(ends[i], strlen(ends[i]));
	smuggle("\r\0\n.\r\n", 6);
}

static void
takes_chunks(void)
{
	begin("");
	mail_to("b@to.test");
	T_OK(asks("BDAT 12\r\nSubject: y\r\nBDAT 7 LAST\r\n\r\n.\r\nab",
	    "Message accepted"));
	T_OK(strstr(got, "250 2.0.0 12 octets received\r\n") != NULL);
	T_STR(content_after_received(), "Subject: y\r\n\r\n.\r\nab\r\n");
	T_OK((env.flags & ENV_DOTS) != 0);
	/* without a transaction the bytes are read all the same */
	T_OK(asks("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "250 2.0.0 OK"));
	T_OK(strncmp(got, "503 5.5.1 ", 10) == 0);
	T_OK(asks("MAIL FROM:<>\r\nRCPT TO:<b@c.d>\r\nBDAT 0 LAST\r\n",
	    "Message accepted"));
	T_STR(content_after_received(), "\r\n");
	mail_to("b@to.test");
	T_OK(asks("BDAT 4\r\na\nb\nQUIT\r\n", "554 5.5.2 "));
	T_OK(wait_end());
	T_OK(n_submits == 2);
}

static void
refused_chunk_is_swallowed(void)
{
	begin("");
	fake_answers[AT_DATA].verdict = CHAIN_REJECT;
	fake_answers[AT_DATA].reply = "550 5.7.1 no";
	mail_to("b@to.test");
	T_OK(asks("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "250 2.0.0 OK"));
	T_STR(got, "550 5.7.1 no\r\n250 2.0.0 OK\r\n");
}

static void
large_bodies_travel_in_files(void)
{
	static char line[1001];
	int i;

	memset(line, 'x', 998);
	memcpy(line + 998, "\r\n", 3);
	begin("inline-size = 64K");
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	for (i = 0; i < 62; i++)
		say_n(line, 1000);
	T_OK(asks(".\r\n", "Message accepted"));
	T_OK(submit_where == 1 && strlen(content_after_received()) == 62002);
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	for (i = 0; i < 5000; i++)
		say_n(line, 1000);
	T_OK(asks(".\r\n", "Message accepted"));
	T_OK(submit_where == 2 && strlen(content_after_received()) == 5000002);
	big_denied = true;
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	for (i = 0; i < 300; i++)
		say_n(line, 1000);
	T_OK(asks(".\r\n", "452 4.3.1 "));
	T_OK(asks("NOOP\r\n", "250 "));
	T_OK(n_submits == 2);
}

static void
bodies_in_memory_are_bounded_together(void)
{
	struct receiver *r = c.priv;
	static char line[1001];
	int i, first;

	memset(line, 'x', 998);
	memcpy(line + 998, "\r\n", 3);
	begin("");
	r->memory_max = 300000;
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	for (i = 0; i < 200; i++)
		say_n(line, 1000);
	for (i = 0; i < 100 && r->memory != 200000; i++)
		turns(10);
	T_OK(r->memory == 200000);
	first = sock;
	sock = -1; /* that one stays */
	dial();
	T_OK(wait_for("220 "));
	T_OK(asks("EHLO client.test\r\n", "250 HELP\r\n"));
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	for (i = 0; i < 200; i++)
		say_n(line, 1000);
	T_OK(asks(".\r\n", "Message accepted"));
	T_OK(submit_where == 2 && strlen(content_after_received()) == 200002);
	T_OK(r->memory == 200000);
	(void)close(first);
	turns(20);
	T_OK(r->memory == 0);
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	for (i = 0; i < 200; i++)
		say_n(line, 1000);
	T_OK(asks(".\r\n", "Message accepted"));
	T_OK(submit_where == 1 && strlen(content_after_received()) == 200002);
	T_OK(r->memory == 0);
	r->memory_max = MEMORY_MAX;
}

static void
bigger(struct message *m, struct envelope *e)
{
	size_t n = 200000;
	char *p = malloc(n);

	(void)e;
	memset(p, 'y', n);
	buf_fini(&m->mem);
	T_OK(buf_add(&m->mem, p, n) == 0);
	m->body = m->mem.data;
	m->body_len = n;
	m->body_changed = true;
	free(p);
}

static void
changed_bodies_are_written_anew(void)
{
	begin("inline-size = 256K");
	fake_edit = bigger;
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	T_OK(asks("x\r\n.\r\n", "Message accepted"));
	T_OK(submit_where == 1 && content.len > 200000);
	hang_up();
	begin("inline-size = 64K");
	fake_edit = bigger;
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	T_OK(asks("x\r\n.\r\n", "Message accepted"));
	T_OK(submit_where == 2 && content.len > 200000);
}

static void
edit(struct message *m, struct envelope *e)
{
	T_OK(m->fields[0].hidden);
	T_OK(message_add(m, 1, "X-Spam", " yes", 4) == 0);
	m->header_changed = true;
	T_OK(env_add_rcpt(e, "added@to.test") != NULL);
}

static void
edits_and_added_recipients_are_queued(void)
{
	begin("");
	fake_edit = edit;
	fake_answers[AT_MESSAGE].quarantine = true;
	fake_answers[AT_MESSAGE].reason = "virus";
	fake_answers[AT_MESSAGE].hold_by = "virus";
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	T_OK(asks("A: b\r\n\r\nx\r\n.\r\n", "Message accepted"));
	T_STR(content_after_received(), "X-Spam: yes\r\nA: b\r\n\r\nx\r\n");
	T_STR(received, "A: b\r\n");
	T_OK(env.n_rcpts == 2 && env.rcpts[1].route.mailer == MAILER_SMTP);
	T_OK((env.flags & ENV_HELD) != 0);
	T_STR(env.hold_reason, "virus");
	T_OK(strstr(record, "\"outcome\":\"held\"") != NULL);
}

static void
queue_that_dies_before_its_answer_means_451(void)
{
	begin("");
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	queue_dies = true;
	T_OK(asks("x\r\n.\r\n", "451 4.3.0 "));
	T_OK(asks("MAIL FROM:<a@b.c>\r\n", "451 4.3.0 "));
	new_queue();
	queue_dies = false;
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	T_OK(asks("x\r\n.\r\n", "250 2.0.0 "));
}

static void
full_disk_means_452(void)
{
	begin("");
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	queue_status = 1;
	T_OK(asks("x\r\n.\r\n", "452 4.3.1 "));
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	queue_status = 2;
	T_OK(asks("x\r\n.\r\n", "451 4.3.0 "));
}

static void
accepting_no_is_answered_at_mail(void)
{
	struct buf b = BUF_INIT(100);
	struct packer k = { &b, false };

	begin("");
	pack_u8(&k, 0);
	pack_str(&k, "452 4.3.1 disk full");
	T_OK(chan_send_buf(queue, MSG_ACCEPTING, 0, &b, -1) == 0);
	turns(5);
	T_OK(asks("MAIL FROM:<a@b.c>\r\n", "452 4.3.1 disk full\r\n"));
	b.len = 0;
	pack_u8(&k, 1);
	pack_str(&k, "");
	T_OK(chan_send_buf(queue, MSG_ACCEPTING, 0, &b, -1) == 0);
	turns(5);
	T_OK(asks("MAIL FROM:<a@b.c>\r\n", "250 "));
	buf_fini(&b);
}

static void
nobody_authorised_is_451(void)
{
	begin("");
	fake_answers[AT_RCPT].authorised = false;
	T_OK(asks("MAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\n", "451 4.7.1 "));
	T_OK(asks("DATA\r\n", "554 5.5.1 "));
}

static void
verdicts_are_answered_as_they_are(void)
{
	begin("");
	fake_answers[AT_MAIL].verdict = CHAIN_TEMPFAIL;
	fake_answers[AT_MAIL].reply = "451 4.7.1 mail\r\n451 4.7.1 two";
	T_OK(asks("HELO c\r\n", "250 "));
	T_OK(asks(
	    "MAIL FROM:<a@b.c>\r\n", "451 4.7.1 mail\r\n451 4.7.1 two\r\n"));
	fake_answers[AT_MAIL].verdict = CHAIN_CONTINUE;
	fake_answers[AT_RCPT].verdict = CHAIN_REJECT;
	fake_answers[AT_RCPT].reply = "550 5.7.1 rcpt";
	fake_answers[AT_RCPT].milter = "access";
	T_OK(asks(
	    "MAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\n", "550 5.7.1 rcpt\r\n"));
	turns(5);
	T_OK(strstr(record, "\"outcome\":\"rejected\"") != NULL);
	T_OK(strstr(record, "\"milter\":\"access\"") != NULL);
	fake_answers[AT_RCPT].verdict = CHAIN_CONTINUE;
	fake_answers[AT_MESSAGE].verdict = CHAIN_REJECT;
	fake_answers[AT_MESSAGE].reply = "554 5.7.1 message";
	T_OK(asks("RCPT TO:<x@y.z>\r\nDATA\r\n", "354 "));
	T_OK(asks("x\r\n.\r\n", "554 5.7.1 message\r\n"));
	fake_answers[AT_MESSAGE].verdict = CHAIN_DISCARD;
	T_OK(asks("MAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\nDATA\r\n", "354 "));
	T_OK(asks("x\r\n.\r\n", "Message accepted for delivery\r\n"));
	turns(5);
	T_OK(n_submits == 0 && n_discarded == 1);
	T_OK(strstr(record, "\"outcome\":\"discarded\"") != NULL);
	fake_answers[AT_RCPT].verdict = CHAIN_SHUTDOWN;
	fake_answers[AT_RCPT].reply = "421 4.7.0 go away";
	T_OK(asks("MAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\nNOOP\r\n",
	    "421 4.7.0 go away\r\n"));
	T_OK(wait_end());
	T_OK(strstr(got, "250 2.0.0") == NULL);
}

static void
refusal_at_connect_lets_no_mail_through(void)
{
	set_up_once();
	hang_up();
	fake_reset();
	fake_answers[AT_CONNECT].verdict = CHAIN_REJECT;
	fake_answers[AT_CONNECT].reply = "554 5.7.1 not you";
	dial();
	T_OK(wait_for("554 5.7.1 not you\r\n"));
	T_OK(asks("EHLO c\r\n", "250 HELP\r\n"));
	T_OK(asks("MAIL FROM:<a@b.c>\r\n", "554 5.7.1 not you\r\n"));
	T_OK(asks("QUIT\r\n", "221 "));
	hang_up();
	fake_answers[AT_CONNECT].verdict = CHAIN_TEMPFAIL;
	fake_answers[AT_CONNECT].reply = "451-4.7.1 not\r\n451 4.7.1 now";
	dial();
	T_OK(wait_for("421-4.7.1 not\r\n421 4.7.1 now\r\n"));
}

static void
a_client_that_comes_again_is_known(void)
{
	begin("");
	hang_up();
	lookup_mute = true;
	dial();
	T_OK(asks("HELO c\r\n", "Hello localhost [127.0.0.1],"));
	lookup_mute = false;
	hang_up();
}

static void
early_talkers_are_noticed_and_refused_only_with_a_pause(void)
{
	begin("");
	hang_up();
	reload(""); /* forgets the client's name */
	lookup_mute = true;
	dial();
	say("HELO c\r\n");
	turns(20);
	lookup_mute = false;
	new_lookup(); /* the question is lost with its channel */
	T_OK(wait_for("220 gate.test ESMTP\r\n250 gate.test Hello "
	              "[127.0.0.1],"));
	T_OK(fake_early);
	hang_up();
	reload("greet-pause = 300ms");
	dial();
	say("HELO c\r\nMAIL FROM:<a@b.c>\r\nQUIT\r\n");
	T_OK(wait_for("221 "));
	T_OK(strncmp(got, "554 5.5.1 gate.test ESMTP not accepting messages",
	         48) == 0);
	T_OK(strstr(got, "550 5.0.0 Command rejected\r\n") != NULL);
	dial();
	turns(150);
	T_OK(got_len == 0);
	T_OK(wait_for("220 "));
	T_OK(!fake_early);
}

static void
limits_hold(void)
{
	begin("recipients = 2 errors = 3 message-size = 2K hops = 2");
	T_OK(asks("MAIL FROM:<a@b.c> SIZE=3000\r\n", "552 5.3.4 "));
	T_OK(asks("MAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<a@b.c>\r\n"
	          "RCPT TO:<a@b.c>\r\n",
	    "452 4.5.3 Too many recipients\r\n"));
	T_OK(asks("DATA\r\n", "354 "));
	T_OK(asks("Received: a\r\nreceived : b\r\nRECEIVED:c\r\n\r\n.\r\n",
	    "554 5.4.6 "));
	T_OK(asks("XXXX\r\n", "500 5.5.1 "));
	T_OK(wait_for("421 4.7.0 gate.test Too many errors\r\n"));
	T_OK(wait_end());
	begin("message-size = 2K");
	mail_to("b@c.d");
	T_OK(asks("DATA\r\n", "354 "));
	for (int i = 0; i < 200; i++)
		say_n("0123456789abcdef\r\n", 18);
	T_OK(asks(".\r\n", "552 5.3.4 "));
	T_OK(asks("NOOP\r\n", "250 "));
	begin("message-size = 2K");
	mail_to("b@c.d");
	T_OK(asks("DATA\r\n", "354 "));
	for (int i = 0; i < 60000 && !at_end; i++)
		say_n("0123456789abcdef\r\n", 18);
	T_OK(strstr(got, "\r\n552 5.3.4 ") != NULL);
	begin("commands = 10");
	for (int i = 0; i < 11; i++)
		T_OK(asks("NOOP\r\n", "250 "));
	T_OK(wait_for("421 4.7.0 "));
	begin("sessions-per-client = 1");
	{
		int first = sock;

		sock = -1;
		dial();
		T_OK(wait_for("421 4.7.0 "));
		(void)close(first);
	}
	begin("command-time = 1s");
	T_OK(wait_for("421 4.4.2 "));
	/* a byte now and then gains no time, nor does a line without end */
	begin("command-time = 1s");
	for (int i = 0; i < 10 && !at_end; i++) {
		say_n("N", 1);
		turns(200);
	}
	T_OK(strstr(got, "421 4.4.2 ") != NULL);
	begin("command-time = 1s");
	for (int i = 0; i < 4000; i++)
		say_n("N", 1);
	for (int i = 0; i < 10 && !at_end; i++) {
		say_n("N", 1);
		turns(200);
	}
	T_OK(strstr(got, "421 4.4.2 ") != NULL);
	begin("command-time = 1s");
	for (int i = 0; i < 8; i++) {
		T_OK(asks("NOOP\r\n", "250 "));
		turns(200);
	}
}

static void
bad_commands_are_answered_properly(void)
{
	static char text[3000];

	begin("errors = 1000");
	T_OK(asks("RCPT TO:<a@b.c>\r\n", "503 5.5.1 "));
	T_OK(asks("DATA\r\n", "503 5.5.1 "));
	T_OK(asks("EHLO\r\n", "501 5.5.4 "));
	T_OK(asks("VRFY x\r\n", "252 "));
	T_OK(asks("EXPN x\r\n", "502 "));
	T_OK(asks("MAIL FROM:<a@b.c> FOO=1\r\n", "555 5.5.4 "));
	T_OK(asks("MAIL FROM:<a@b.c>\r\n", "250 "));
	T_OK(asks("MAIL FROM:<a@b.c>\r\n", "503 5.5.1 "));
	T_OK(asks("RSET\r\n", "250 2.0.0 "));
	T_OK(asks("MAIL FROM:<a@b.c>\r\n", "250 "));
	T_OK(asks("", "") &&
	    asks("FROB x\r\n",
	        "500 5.5.1 Command "
	        "unrecognized: \"FROB x\""));
	memset(text, 'x', sizeof(text) - 3);
	memcpy(text + sizeof(text) - 3, "\r\n", 3);
	T_OK(asks(text, "500 5.5.2 Line too long\r\n"));
	T_OK(asks("NOOP\r\n", "250 2.0.0 OK\r\n"));
	T_OK(strncmp(got, "250", 3) == 0);
	T_OK(asks("NOOP\n", "500 5.5.2 "));
	T_OK(asks("\n", "500 5.5.2 "));
	T_OK(asks("NO\rOP\r\n", "500 5.5.2 "));
	T_OK(asks("NOOP\r\r\n", "500 5.5.2 "));
	begin("");
	T_OK(asks("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "554 5.5.1 "));
	T_OK(wait_end());
}

static void
temporary_routes_and_lost_lookup_are_451(void)
{
	begin("");
	T_OK(
	    asks("MAIL FROM:<a@b.c>\r\nRCPT TO:<later@b.c>\r\n", "451 4.3.0 "));
	T_OK(strstr(fake_asked, "refused:later@b.c") != NULL);
	lookup_mute = true;
	say("RCPT TO:<x@b.c>\r\n");
	turns(20);
	T_OK(got_len == 0);
	chan_free(&lookup);
	T_OK(wait_for("451 4.3.0 "));
	T_OK(asks("RCPT TO:<x@b.c>\r\n", "451 4.3.0 "));
}

static void
switches_pause_and_status_tells(void)
{
	begin("");
	receiver_ops.state(&c, "milter.access", "shadow");
	T_STR(fake_mode, "shadow");
	receiver_ops.state(&c, "accept", "paused");
	T_OK(asks("MAIL FROM:<a@b.c>\r\n", "451 4.3.2 "));
	dial();
	T_OK(wait_for("421 4.3.2 "));
	receiver_ops.state(&c, "accept", "running");
	dial();
	T_OK(wait_for("220 "));
	receiver_ops.command(&c, 7, "status");
	turns(10);
	T_OK(strstr(replies, "{\"sessions\":1,\"sessions_total\":") != NULL);
	T_OK(strstr(replies, "\"milters\":[]}") != NULL);
}

static void
client_that_leaves_is_recorded(void)
{
	begin("");
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	say("half a mess");
	hang_up();
	turns(10);
	T_OK(n_submits == 0 && n_records == 1);
	T_OK(strstr(record, "\"outcome\":\"closed\"") != NULL);
	/* and one that leaves while the queue works is no trouble */
	begin("");
	mail_to("b@to.test");
	queue_mute = true;
	T_OK(asks("DATA\r\n", "354 "));
	say("x\r\n.\r\n");
	turns(10);
	hang_up();
	new_queue();
	turns(10);
}

/* stopping - in a process of its own, since it ends with exit(0) */
static void
stopping(void)
{
	int busy, idle;

	begin("");
	mail_to("b@to.test");
	T_OK(asks("DATA\r\n", "354 "));
	busy = sock;
	sock = -1;
	dial();
	T_OK(wait_for("220 "));
	receiver_ops.stop(&c);
	T_OK(wait_for("421 4.3.2 gate.test Service is stopping\r\n"));
	T_OK(wait_end());
	idle = sock;
	sock = busy;
	at_end = false;
	turns(20);
	T_OK(asks("x\r\n.\r\n", "421 4.3.2 "));
	T_OK(strncmp(got, "250 2.0.0 ", 10) == 0 && n_submits == 1);
	(void)close(idle);
	if (t_failed)
		_exit(1);
	hang_up();
	turns(3000); /* exits in here */
	_exit(2);
}

static void
stop_ends_idle_sessions_and_finishes_the_others(void)
{
	int status = -1;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0)
		stopping();
	T_OK(waitpid(pid, &status, 0) == pid);
	T_OK(status == 0);
}

static const struct t_case cases[] = {
	{ "stop ends idle sessions and finishes the others",
	    stop_ends_idle_sessions_and_finishes_the_others },
	{ "accepts a message and says its id",
	    accepts_a_message_and_says_its_id },
	{ "pipelined group is answered in order",
	    pipelined_group_is_answered_in_order },
	{ "many pipelined commands do not stall",
	    many_pipelined_commands_do_not_stall },
	{ "refuses every form of smuggling", refuses_every_form_of_smuggling },
	{ "takes chunks", takes_chunks },
	{ "refused chunk is swallowed", refused_chunk_is_swallowed },
	{ "large bodies travel in files", large_bodies_travel_in_files },
	{ "bodies in memory are bounded together",
	    bodies_in_memory_are_bounded_together },
	{ "changed bodies are written anew", changed_bodies_are_written_anew },
	{ "edits and added recipients are queued",
	    edits_and_added_recipients_are_queued },
	{ "queue that dies before its answer means 451",
	    queue_that_dies_before_its_answer_means_451 },
	{ "full disk means 452", full_disk_means_452 },
	{ "accepting no is answered at MAIL",
	    accepting_no_is_answered_at_mail },
	{ "nobody authorised is 451", nobody_authorised_is_451 },
	{ "verdicts are answered as they are",
	    verdicts_are_answered_as_they_are },
	{ "refusal at connect lets no mail through",
	    refusal_at_connect_lets_no_mail_through },
	{ "a client that comes again is known without a look-up",
	    a_client_that_comes_again_is_known },
	{ "early talkers are noticed, and refused only with a pause",
	    early_talkers_are_noticed_and_refused_only_with_a_pause },
	{ "limits hold", limits_hold },
	{ "bad commands are answered properly",
	    bad_commands_are_answered_properly },
	{ "temporary routes and lost lookup are 451",
	    temporary_routes_and_lost_lookup_are_451 },
	{ "switches pause and status tells", switches_pause_and_status_tells },
	{ "client that leaves is recorded", client_that_leaves_is_recorded },
};

T_MAIN(cases)
