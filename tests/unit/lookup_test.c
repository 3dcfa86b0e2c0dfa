/* SPDX-License-Identifier: ISC */

/*
 * The lookup process against a name server of the test's own on a loopback
 * port, with a hosts file and a mailertable in a folder of the test.
 */

#include "core/proc/child.h"
#include "core/smtp/envelope.h"
#include "tests/lib/files.h"
#include "tests/lib/t.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { A = 1, PTR = 12, MX = 15, AAAA = 28, ERR = 255 };

/* data: address, name, or "PREF name"; of ERR: the response code */
static const struct record {
	const char *name;
	int type;
	const char *data;
} zone[] = {
	{ "order.test", MX, "20 c.test" },
	{ "order.test", MX, "10 a.test" },
	{ "order.test", MX, "5 b.test" },
	{ "a.test", A, "192.0.2.1" },
	{ "a.test", AAAA, "2001:db8::1" },
	{ "b.test", A, "192.0.2.2" },
	{ "b.test", A, "192.0.2.3" },
	{ "c.test", A, "192.0.2.4" },
	{ "equal.test", MX, "10 a.test" },
	{ "equal.test", MX, "10 c.test" },
	{ "null.test", MX, "0 ." },
	{ "nomx.test", A, "192.0.2.9" },
	{ "empty.test", 16, "" },
	{ "backup.test", MX, "10 a.test" },
	{ "backup.test", MX, "20 Gate.test" },
	{ "backup.test", MX, "20 b.test" },
	{ "backup.test", MX, "30 c.test" },
	{ "loop.test", MX, "10 other-name.test" },
	{ "loop.test", MX, "20 a.test" },
	{ "dead.test", MX, "10 gone.test" },
	{ "half.test", MX, "10 broken.test" },
	{ "half.test", MX, "20 c.test" },
	{ "halfdead.test", MX, "10 broken.test" },
	{ "servfail.test", ERR, "2" },
	{ "broken.test", ERR, "2" },
	{ "odd.test", MX, "10 bad name.test" },
	{ "filed.test", MX, "10 inhosts.test" },
	{ "1.2.0.192.in-addr.arpa", PTR, "a.test" },
	{ "2.2.0.192.in-addr.arpa", PTR, "a.test" },
	{ "3.2.0.192.in-addr.arpa", PTR, "broken.test" },
	{ "4.2.0.192.in-addr.arpa", PTR, "nonsense.test" },
	{ "4.2.0.192.in-addr.arpa", PTR, "c.test" },
	{ "5.2.0.192.in-addr.arpa", ERR, "2" },
	{ "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2."
	  "ip6.arpa",
	    PTR, "a.test" },
};

static int dns_sock;
static unsigned dns_asked;
static char dir[] = "/tmp/milldam-lookup.XXXXXX";
static char server[32], *servers[] = { server }, hosts_path[64], table_path[64],
                        table_spec[80];
static char *own[] = { (char *)(uintptr_t) "other-name.test" };
static char none_spec[] = "text:/nonexistent/x";
static char rules_path[64], rules_spec[80];
static char *tables[] = { rules_spec, none_spec };
static struct settings settings;
static struct child child = { .ops = &lookup_ops, .settings = &settings };
static struct chan *peer, *control;
static char got[4000], alarms[2000];
static unsigned n_got;

/* put_name - a name as it stands in a message; "." is the root */
static unsigned char *
put_name(unsigned char *p, const char *name)
{
	size_t n;

	while (*name != '\0' && *name != '.') {
		n = strcspn(name, ".");
		*p++ = (unsigned char)n;
		memcpy(p, name, n);
		p += n;
		name += n + (name[n] == '.');
	}
	*p++ = 0;
	return (p);
}

static unsigned char *
put16(unsigned char *p, unsigned v)
{
	p[0] = (unsigned char)(v >> 8);
	p[1] = (unsigned char)v;
	return (p + 2);
}

static unsigned char *
put_record(unsigned char *p, const struct record *r)
{
	unsigned char *len;
	char *name;

	p = put16(p, 0xc00c); /* the question's name */
	p = put16(put16(p, (unsigned)r->type), 1);
	p = put16(put16(p, 0), 300);
	len = p;
	p += 2;
	switch (r->type) {
	case A:
		(void)inet_pton(AF_INET, r->data, p);
		p += 4;
		break;
	case AAAA:
		(void)inet_pton(AF_INET6, r->data, p);
		p += 16;
		break;
	case MX:
		p = put16(p, (unsigned)strtoul(r->data, &name, 10));
		p = put_name(p, name + 1);
		break;
	default:
		p = put_name(p, r->data);
		break;
	}
	(void)put16(len, (unsigned)(p - len - 2));
	return (p);
}

/* respond - the answer to one question; its length */
static size_t
respond(const unsigned char *q, unsigned char *out)
{
	const unsigned char *s = q + 12;
	char name[300] = "";
	unsigned char *p;
	unsigned type, answers = 0, code = 3;
	size_t i;

	while (*s != 0) {
		(void)strncat(name, (const char *)s + 1, *s);
		s += *s + 1;
		(void)strcat(name, *s != 0 ? "." : "");
	}
	type = (unsigned)s[1] << 8 | s[2];
	memcpy(out, q, (size_t)(s + 5 - q));
	p = out + (s + 5 - q);
	for (i = 0; i < sizeof(zone) / sizeof(zone[0]); i++) {
		if (strcasecmp(zone[i].name, name) != 0)
			continue;
		code = zone[i].type == ERR ? (unsigned)atoi(zone[i].data) : 0;
		if (zone[i].type == (int)type) {
			p = put_record(p, &zone[i]);
			answers++;
		}
	}
	out[2] = 0x81;
	out[3] = (unsigned char)(0x80 | code);
	(void)put16(out + 4, 1);
	(void)put16(out + 6, answers);
	(void)put16(put16(out + 8, 0), 0);
	return ((size_t)(p - out));
}

static void *
serve(void *arg)
{
	unsigned char q[2000] = { 0 }, out[4000];
	struct sockaddr_in from;
	socklen_t n;
	ssize_t len;

	(void)arg;
	for (;;) {
		n = sizeof(from);
		len = recvfrom(dns_sock, q, sizeof(q) - 1, 0,
		    (struct sockaddr *)&from, &n);
		if (len < 13)
			return (NULL);
		dns_asked++;
		len = (ssize_t)respond(q, out);
		(void)sendto(
		    dns_sock, out, (size_t)len, 0, (struct sockaddr *)&from, n);
	}
}

static void
on_peer(void *arg, struct chan *ch, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	char line[600];
	const char *a, *b, *c;
	struct route r;
	uint32_t i, n;
	unsigned status;
	size_t len;

	(void)arg;
	(void)ch;
	n_got++;
	got[0] = '\0';
	switch (f->type) {
	case MSG_HOSTS_R:
		status = unpack_u8(&u);
		(void)snprintf(
		    got, sizeof(got), "%u %s", status, unpack_str(&u));
		for (i = 0, n = unpack_u32(&u); i < n; i++) {
			a = unpack_str(&u);
			b = unpack_str(&u);
			(void)snprintf(line, sizeof(line), "%s %s %u|", a, b,
			    unpack_u16(&u));
			(void)strcat(got, line);
		}
		break;
	case MSG_CLIENT_R:
		a = unpack_str(&u);
		b = unpack_str(&u);
		c = unpack_str(&u);
		(void)snprintf(got, sizeof(got), "%s,%s,%s", a, b, c);
		break;
	case MSG_TABLE_R:
		status = unpack_u8(&u);
		a = unpack_blob(&u, &len);
		(void)snprintf(
		    got, sizeof(got), "%u %.*s", status, (int)len, a);
		break;
	case MSG_ROUTE_R:
		status = unpack_u8(&u);
		T_OK(route_unpack(&u, &r) == 0);
		(void)snprintf(got, sizeof(got), "%u %u %s %u %s %s|%s", status,
		    r.mailer, r.host, r.port, r.addr, r.text, unpack_str(&u));
		route_fini(&r);
		break;
	default:
		break;
	}
	T_OK(unpack_end(&u) == 0);
}

static void
on_control(void *arg, struct chan *ch, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };

	(void)arg;
	(void)ch;
	if (f->type == MSG_ALARM) {
		(void)unpack_str(&u);
		(void)strcat(alarms, unpack_str(&u));
	}
}

static const char *key; /* of MSG_TABLE */

/* ask - one question and its answer as text */
static const char *
ask(uint16_t type, const char *what)
{
	struct buf b = BUF_INIT(2000);
	struct packer k = { &b, false };
	struct timeval now, end, tick = { 0, 5000 };
	unsigned before = n_got;

	pack_str(&k, what);
	if (type == MSG_HOSTS)
		pack_u16(&k, 25);
	if (type == MSG_TABLE)
		pack_str(&k, key);
	T_OK(chan_send_buf(peer, type, 7, &b, -1) == 0);
	buf_fini(&b);
	(void)gettimeofday(&end, NULL);
	end.tv_sec += 10;
	do {
		(void)event_base_loopexit(child.base, &tick);
		(void)event_base_dispatch(child.base);
		(void)gettimeofday(&now, NULL);
	} while (n_got == before && timercmp(&now, &end, <));
	T_OK(n_got == before + 1);
	return (got);
}

static void
sets_up(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t n = sizeof(in);
	pthread_t thread;
	int a[2], b[2];

	T_OK(mkdtemp(dir) != NULL);
	(void)snprintf(hosts_path, sizeof(hosts_path), "%s/hosts", dir);
	(void)snprintf(table_path, sizeof(table_path), "%s/mailertable", dir);
	(void)snprintf(table_spec, sizeof(table_spec), "text:%s", table_path);
	put_file(hosts_path,
	    "# hosts\n127.0.0.1 localhost loop\n::1 localhost\n"
	    "10.0.0.7\tinner.test inner\nnonsense\n203.0.113.5 inhosts.test\n");
	(void)snprintf(rules_path, sizeof(rules_path), "%s/rules", dir);
	(void)snprintf(rules_spec, sizeof(rules_spec), "text:%s", rules_path);
	put_file(rules_path, "t.test smtp:[192.0.2.1]\n");
	put_file(table_path, "t.test smtp:[192.0.2.1]\n");
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	dns_sock = socket(AF_INET, SOCK_DGRAM, 0);
	T_OK(bind(dns_sock, (struct sockaddr *)&in, n) == 0);
	T_OK(getsockname(dns_sock, (struct sockaddr *)&in, &n) == 0);
	(void)snprintf(
	    server, sizeof(server), "127.0.0.1:%u", ntohs(in.sin_port));
	T_OK(pthread_create(&thread, NULL, serve, NULL) == 0);
	(void)pthread_detach(thread);
	settings.hostname = (char *)(uintptr_t) "gate.test";
	settings.postmaster = (char *)(uintptr_t) "root@t.test";
	settings.hosts_file = hosts_path;
	settings.mailertable = table_spec;
	settings.tables = tables;
	settings.n_tables = 2;
	settings.own_names = own;
	settings.n_own_names = 1;
	settings.nameservers = servers;
	settings.n_nameservers = 1;
	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0);
	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, b) == 0);
	T_OK(lookup_ops.open(&child) == 0);
	child.base = event_base_new();
	child.control = chan_new(child.base, a[0], on_control, NULL, NULL);
	control = chan_new(child.base, a[1], on_control, NULL, NULL);
	T_OK(lookup_ops.start(&child) == 0);
	lookup_ops.peer(&child, PROC_RELAY, 0, b[0]);
	peer = chan_new(child.base, b[1], on_peer, NULL, NULL);
}

/* Whatever asks, lookup opens no other tables than the settings name. */
static void
tables_of_rules(void)
{
	char other[100];
	unsigned i;

	key = "T.test";
	T_STR(ask(MSG_TABLE, rules_spec), "1 smtp:[192.0.2.1]");
	key = "u.test";
	T_STR(ask(MSG_TABLE, rules_spec), "0 ");
	T_OK(strstr(alarms, "nonexistent") == NULL);
	T_STR(ask(MSG_TABLE, none_spec), "2 ");
	T_OK(strstr(alarms, "/nonexistent/x") != NULL);
	(void)snprintf(other, sizeof(other), "text:%s", hosts_path);
	T_STR(ask(MSG_TABLE, other), "2 ");
	/* replaced: seen within two seconds, and never half of it */
	(void)snprintf(other, sizeof(other), "%s.new", rules_path);
	put_file(other, "u.test new\nt.test smtp:[192.0.2.1]\n");
	T_OK(rename(other, rules_path) == 0);
	for (i = 0; i < 500 && strcmp(ask(MSG_TABLE, rules_spec), "0 ") == 0;
	     i++)
		(void)usleep(10000);
	T_STR(got, "1 new");
	(void)unlink(rules_path);
}

static void
orders_exchangers(void)
{
	unsigned before;

	T_STR(ask(MSG_HOSTS, "order.test"),
	    "0 b.test 192.0.2.2 5|b.test 192.0.2.3 5|a.test 192.0.2.1 10|"
	    "a.test 2001:db8::1 10|c.test 192.0.2.4 20|");
	before = dns_asked;
	(void)ask(MSG_HOSTS, "Order.test");
	T_OK(dns_asked == before); /* from the cache */
}

static void
mixes_equals(void)
{
	unsigned i, a = 0, c = 0;

	for (i = 0; i < 60; i++) {
		(void)ask(MSG_HOSTS, "equal.test");
		a += strncmp(got, "0 a.test", 8) == 0;
		c += strncmp(got, "0 c.test", 8) == 0;
	}
	T_OK(a + c == 60 && a > 5 && c > 5);
}

static void
knows_null_mx(void)
{
	T_STR(ask(MSG_HOSTS, "null.test"),
	    "2 5.1.10 domain accepts no mail (null MX): null.test");
}

static void
does_without_mx(void)
{
	T_STR(ask(MSG_HOSTS, "nomx.test"), "0 nomx.test 192.0.2.9 0|");
	T_STR(ask(MSG_HOSTS, "empty.test"),
	    "2 5.1.2 host or domain has no address: empty.test");
	T_STR(ask(MSG_HOSTS, "none.test"), "2 5.1.2 no such domain: none.test");
}

static void
removes_itself(void)
{
	T_STR(ask(MSG_HOSTS, "backup.test"),
	    "0 a.test 192.0.2.1 10|a.test 2001:db8::1 10|");
	T_STR(ask(MSG_HOSTS, "loop.test"),
	    "2 5.4.6 mail for loop.test loops back to this host");
}

static void
tells_temporary_from_permanent(void)
{
	T_STR(ask(MSG_HOSTS, "servfail.test"),
	    "1 4.4.3 MX look-up failed for the moment: servfail.test");
	T_STR(ask(MSG_HOSTS, "dead.test"),
	    "2 5.4.4 no mail exchanger has an address: dead.test");
	T_STR(ask(MSG_HOSTS, "halfdead.test"),
	    "1 4.4.3 address look-up failed for the moment: halfdead.test");
	T_STR(ask(MSG_HOSTS, "half.test"), "0 c.test 192.0.2.4 20|");
	T_STR(ask(MSG_HOSTS, "odd.test"),
	    "2 5.4.4 MX records are useless: odd.test");
}

static void
takes_brackets_at_their_word(void)
{
	unsigned before = dns_asked;

	T_STR(ask(MSG_HOSTS, "[192.0.2.77]"), "0 192.0.2.77 192.0.2.77 0|");
	T_STR(ask(MSG_HOSTS, "[IPv6:2001:db8::7]"),
	    "0 IPv6:2001:db8::7 2001:db8::7 0|");
	T_STR(ask(MSG_HOSTS, "[inner]"), "0 inner 10.0.0.7 0|");
	T_STR(ask(MSG_HOSTS, "localhost"),
	    "0 localhost 127.0.0.1 0|localhost ::1 0|");
	T_OK(dns_asked == before);
	T_STR(ask(MSG_HOSTS, "[order.test]"),
	    "2 5.1.2 host or domain has no address: order.test");
	T_STR(ask(MSG_HOSTS, "[b.test]"),
	    "0 b.test 192.0.2.2 0|b.test 192.0.2.3 0|");
	T_STR(ask(MSG_HOSTS, "filed.test"), "0 inhosts.test 203.0.113.5 10|");
	T_STR(ask(MSG_HOSTS, "a b"), "2 5.1.2 next hop is no host name");
}

static void
names_clients(void)
{
	unsigned before = dns_asked;

	T_STR(ask(MSG_CLIENT, "127.0.0.1"), "localhost,localhost,OK");
	T_STR(ask(MSG_CLIENT, "10.0.0.7"), "inner.test,inner.test,OK");
	T_STR(ask(MSG_CLIENT, "192.168.1.1"), ",,FAIL");
	T_STR(ask(MSG_CLIENT, "no address"), ",,FAIL");
	T_OK(dns_asked == before);
	T_STR(ask(MSG_CLIENT, "192.0.2.1"), "a.test,a.test,OK");
	T_STR(ask(MSG_CLIENT, "2001:db8::1"), "a.test,a.test,OK");
	T_STR(ask(MSG_CLIENT, "192.0.2.2"), ",a.test,FORGED");
	T_STR(ask(MSG_CLIENT, "192.0.2.3"), ",broken.test,TEMP");
	T_STR(ask(MSG_CLIENT, "192.0.2.4"), "c.test,c.test,OK");
	T_STR(ask(MSG_CLIENT, "192.0.2.5"), ",,TEMP");
	T_STR(ask(MSG_CLIENT, "192.0.2.6"), ",,FAIL");
}

static void
routes_by_table(void)
{
	T_STR(ask(MSG_ROUTE, "a@t.test"), "0 1 [192.0.2.1] 0 a@t.test |");
	T_STR(ask(MSG_ROUTE, "a@u.test"), "0 1 u.test 0 a@u.test |");
	T_STR(ask(MSG_ROUTE, "Postmaster"), "0 1 [192.0.2.1] 0 root@t.test |");
	T_STR(ask(MSG_ROUTE, "nobody"),
	    "0 2 5.1.3 0 nobody 553 5.1.3 A domain name is needed|");
}

static void
a_broken_table_is_temporary(void)
{
	put_file(table_path, "t.test\n");
	(void)usleep(1100000); /* files are looked at once a second */
	T_STR(ask(MSG_ROUTE, "a@t.test"),
	    "1 0  0  |4.3.5 routing table cannot be used");
	(void)ask(MSG_ROUTE, "a@t.test");
	T_OK(strstr(alarms, "mailertable:1: key without a value") != NULL);
	put_file(table_path, "t.test smtp:[192.0.2.2]\n");
	(void)usleep(1100000);
	T_STR(ask(MSG_ROUTE, "a@t.test"), "0 1 [192.0.2.2] 0 a@t.test |");
	put_file(table_path, "t.test fax:1\n");
	(void)usleep(1100000);
	T_STR(ask(MSG_ROUTE, "a@t.test"),
	    "1 0  0  |4.3.5 routing table cannot be used");
}

static void
ends(void)
{
	const struct timeval tick = { 0, 20000 };

	chan_free(&peer);
	(void)event_base_loopexit(child.base, &tick);
	(void)event_base_dispatch(child.base);
	chan_free(&control);
	chan_free(&child.control);
	T_OK(unlink(hosts_path) == 0 && unlink(table_path) == 0 &&
	    rmdir(dir) == 0);
}

static const struct t_case cases[] = {
	{ "the process starts", sets_up },
	{ "exchangers come in order, then from the cache", orders_exchangers },
	{ "equals are mixed", mixes_equals },
	{ "null MX is permanent", knows_null_mx },
	{ "without MX it is the domain itself", does_without_mx },
	{ "our own names end the list", removes_itself },
	{ "temporary is told from permanent", tells_temporary_from_permanent },
	{ "brackets mean no MX", takes_brackets_at_their_word },
	{ "clients are named if both ways agree", names_clients },
	{ "routes come from the table", routes_by_table },
	{ "a broken table is temporary until mended",
	    a_broken_table_is_temporary },
	{ "tables of rules, and no others", tables_of_rules },
	{ "the process ends", ends },
};

T_MAIN(cases)
