/* SPDX-License-Identifier: ISC */

/*
 * greet - from accept to banner
 *
 * Who is it (lookup's answer within 5 s, else "[addr]"); does it talk before
 * its turn; what do the milters say to CONNECT; then the banner, without
 * product or version.
 */

#include "config.h"

#include "core/receiver/receiver.h"

#include "milter-sdk/base/pack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { CLIENT_MS = 5000 };

/* numeric - address as text; IPv4 within IPv6 as IPv4.  Its port. */
static unsigned
numeric(const struct sockaddr_storage *sa, char room[INET6_ADDRSTRLEN])
{
	const struct sockaddr_in *in = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;

	room[0] = '\0';
	if (sa->ss_family == AF_INET) {
		(void)inet_ntop(AF_INET, &in->sin_addr, room, INET6_ADDRSTRLEN);
		return (ntohs(in->sin_port));
	}
	if (sa->ss_family != AF_INET6)
		return (0);
	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		(void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], room,
		    INET6_ADDRSTRLEN);
	else
		(void)inet_ntop(
		    AF_INET6, &in6->sin6_addr, room, INET6_ADDRSTRLEN);
	return (ntohs(in6->sin6_port));
}

static void
set_facts(struct session *s, const struct sockaddr_storage *peer)
{
	struct chain_facts *f = &s->facts;
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);

	memset(&local, 0, sizeof(local));
	(void)getsockname(s->sock, (struct sockaddr *)&local, &len);
	f->client_port = numeric(peer, s->client_addr);
	f->daemon_port = numeric(&local, s->local_addr);
	f->hostname = s->settings->hostname;
	f->version = PACKAGE_VERSION;
	f->listener = s->listener->name;
	f->daemon_addr = s->local_addr;
	f->client_addr = s->client_addr;
	f->client_name = f->client_ptr = f->helo = f->proto = "";
	f->client_resolve = "TEMP";
	f->client_connections = doors_client_count(s->r, s->client_key, 0);
	f->tls_version = f->cipher = f->cipher_bits = f->cert_subject = "";
	f->cert_issuer = f->verify = "";
	f->lookup = tables_ask;
	f->lookup_arg = s;
	f->auth_type = f->auth_authen = f->auth_author = f->auth_ssf = "";
}

static void
refuse_session(struct session *s, const char *reply)
{
	if ((s->refused = strdup(reply)) == NULL)
		s->dead = true;
}

/* bye_421 - a milter's reply, each line of it with the code 421 */
static void
bye_421(struct session *s, const char *reply)
{
	char *copy = strdup(reply), *line = copy;

	if (copy == NULL) {
		s->dead = true;
		return;
	}
	for (;;) {
		memcpy(line, "421", strnlen(line, 3));
		if ((line = strstr(line, "\r\n")) == NULL)
			break;
		line += 2;
	}
	session_bye(s, "%s", copy);
	free(copy);
}

static void
connect_done(void *arg, const struct chain_answer *a)
{
	struct session *s = arg;

	s->wait = WAIT_NOTHING;
	switch (a->verdict) {
	case CHAIN_REJECT:
		refuse_session(s, a->reply);
		record_refusal(s, a->milter, a->reply, NULL);
		session_reply(s, "%s", a->reply);
		break;
	case CHAIN_TEMPFAIL: /* RFC 5321 4.3.2 knows no other 4yz here */
	case CHAIN_SHUTDOWN:
		refuse_session(s, a->reply);
		record_refusal(s, a->milter, a->reply, NULL);
		bye_421(s, a->reply);
		break;
	default:
		s->discard = a->verdict == CHAIN_DISCARD;
		session_reply(s, "220 %s ESMTP", s->settings->hostname);
		break;
	}
	session_go(s);
}

static void
ask_chain(struct session *s)
{
	s->chain = chain_new(
	    s->r->engine, s->settings, s->listener->policy, &s->facts);
	if (s->chain == NULL) {
		session_bye(
		    s, "421 4.3.0 %s Out of memory", s->settings->hostname);
		return;
	}
	s->wait = WAIT_CHAIN;
	chain_connect(s->chain, connect_done, s);
}

/* talks - bytes are there although nothing was said to the client yet */
static bool
talks(struct session *s)
{
	char c;

	return (recv(s->sock, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0);
}

void
greet_pause_over(struct session *s, bool early)
{
	char reply[300];

	s->wait = WAIT_NOTHING;
	s->deadline_ms = 0;
	s->facts.early_talker = early || talks(s);
	if (!s->facts.early_talker || s->settings->limits.banner_ms == 0) {
		ask_chain(s);
		return;
	}
	(void)snprintf(reply, sizeof(reply),
	    "554 5.5.1 %.255s ESMTP not accepting messages",
	    s->settings->hostname);
	record_refusal(s, "", reply, NULL);
	session_reply(s, "%s", reply);
	refuse_session(s, "550 5.0.0 Command rejected");
}

/* pause_or_go - the greet pause runs from accept on */
static void
pause_or_go(struct session *s)
{
	uint64_t over = s->begin_ms + s->settings->limits.banner_ms;

	if (now_ms() >= over) {
		greet_pause_over(s, false);
		return;
	}
	s->wait = WAIT_BANNER;
	s->deadline_ms = over;
}

/* is_name - what may stand in a log line or a field */
static bool
is_name(const char *s)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++)
		if (s[i] <= 32 || s[i] == 127 || i >= 255)
			return (false);
	return (i > 0);
}

/* known - the client's name, as its session and the milters see it */
static void
known(struct session *s, const char *name, const char *ptr, const char *resolve)
{
	s->client_name = strdup(name);
	s->client_ptr = strdup(ptr);
	if (s->client_name == NULL || s->client_ptr == NULL) {
		s->dead = true;
		return;
	}
	s->facts.client_name = s->client_name;
	s->facts.client_ptr = s->client_ptr;
	s->facts.client_resolve = resolve;
	pause_or_go(s);
}

static void
client_answer(struct session *s, struct frame *f)
{
	static const char *const words[] = { "OK", "FORGED", "TEMP", "FAIL" };
	struct unpacker u = { f != NULL ? f->data : NULL,
		f != NULL ? f->len : 0, f == NULL };
	const char *name = unpack_str(&u), *ptr = unpack_str(&u);
	const char *resolve = unpack_str(&u), *word = "TEMP";
	char room[INET6_ADDRSTRLEN + 3];
	size_t i;

	if (f == NULL || f->type != MSG_CLIENT_R || unpack_end(&u) == -1)
		name = ptr = resolve = "";
	for (i = 0; i < 4; i++)
		if (strcmp(resolve, words[i]) == 0)
			word = words[i];
	(void)snprintf(room, sizeof(room), "[%s]", s->client_addr);
	if (!is_name(name))
		name = room;
	if (!is_name(ptr))
		ptr = "";
	names_keep(s->r, s->client_addr, name, ptr, word);
	known(s, name, ptr, word);
}

void
greet_begin(struct session *s, const struct sockaddr_storage *peer)
{
	struct buf b = BUF_INIT(256);
	struct packer k = { &b, false };
	const struct client_name *n;

	s->begin_ms = now_ms();
	set_facts(s, peer);
	if ((n = names_find(s->r, s->client_addr)) != NULL) {
		known(s, n->name, n->ptr, n->resolve);
		return;
	}
	pack_str(&k, s->client_addr);
	if (pack_end(&k) == -1 ||
	    session_ask(s, s->r->lookup, MSG_CLIENT, &b, -1, CLIENT_MS,
	        client_answer) == -1)
		client_answer(s, NULL);
	buf_fini(&b);
}
