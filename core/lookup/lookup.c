/* SPDX-License-Identifier: ISC */

/*
 * lookup - answers what may wait for a name server or reads a table
 *
 * Receivers, queues and relays ask; an answer to a peer that has gone meanwhile
 * is thrown away.  What cannot be answered is a temporary failure, never a
 * guess.
 */

#include "core/lookup/client.h"
#include "core/lookup/dns.h"
#include "core/lookup/hosts.h"
#include "core/lookup/mx.h"
#include "core/lookup/rule_tables.h"
#include "core/lookup/tables.h"
#include "core/proc/child.h"

#include "milter-sdk/base/json.h"
#include "milter-sdk/base/metric.h"
#include "milter-sdk/base/pack.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sysexits.h>
#include <unistd.h>

enum { ASKS_MAX = 10000 }; /* under way, of all peers */

struct peer {
	LIST_ENTRY(peer) next;
	struct lookup *lookup;
	struct chan *chan;
	enum proc_kind kind;
	unsigned index;
	uint64_t serial; /* asks name their peer by it */
};

struct ask { /* one question under way */
	struct lookup *lookup;
	uint64_t peer, ref;
};

struct lookup {
	struct child *child;
	struct dns *dns;
	struct hosts *hosts;
	struct tables *tables;
	struct rule_tables *rules;
	struct mx_env mx;
	LIST_HEAD(, peer) peers;
	uint64_t serial;
	uint64_t routes, clients, hops, keys;
	unsigned asks;
	bool stopping;
};

static struct lookup lookup;

static void
peer_drop(struct peer *p)
{
	LIST_REMOVE(p, next);
	chan_free(&p->chan);
	free(p);
}

/* say - send one answer; a peer that does not read is dropped by its channel */
static void
say(struct lookup *l, uint64_t serial, uint16_t type, uint64_t ref,
    struct packer *k)
{
	struct peer *p;

	LIST_FOREACH(p, &l->peers, next)
	if (p->serial == serial)
		break;
	if (p == NULL)
		return;
	if (pack_end(k) == -1 ||
	    chan_send_buf(p->chan, type, ref, k->b, -1) == -1)
		log_err("lookup: answer lost: peer=%s", proc_name(p->kind));
}

/* ask_new - NULL: too much under way */
static struct ask *
ask_new(struct peer *p, uint64_t ref)
{
	struct ask *a;

	if (p->lookup->asks >= ASKS_MAX || (a = malloc(sizeof(*a))) == NULL)
		return (NULL);
	a->lookup = p->lookup;
	a->peer = p->serial;
	a->ref = ref;
	p->lookup->asks++;
	return (a);
}

static void
answer(struct ask *a, uint16_t type, struct packer *k)
{
	say(a->lookup, a->peer, type, a->ref, k);
	a->lookup->asks--;
	free(a);
	buf_fini(k->b);
}

/* refresh - notice changed files; tell about a table's trouble once */
static void
refresh(struct lookup *l)
{
	const char *why;
	bool fresh;

	tables_refresh(l->tables);
	why = tables_trouble(l->tables, &fresh);
	if (!fresh)
		return;
	if (*why != '\0')
		child_alarm(l->child, "table", why);
	else
		log_info("lookup: mailertable: read again");
}

static void
on_route(struct peer *p, uint64_t ref, const char *address)
{
	static char none[] = "";
	struct lookup *l = p->lookup;
	struct buf b = BUF_INIT(FRAME_MAX), error = BUF_INIT(8192);
	struct packer k = { &b, false };
	struct route r;
	int rc;

	l->routes++;
	refresh(l);
	rc = tables_route(l->tables, l->child->settings, address, &r, &error);
	pack_u8(&k, rc == -1);
	if (rc == -1) {
		const struct route empty = { MAILER_NONE, none, 0, none, none };

		log_err("lookup: route: %s",
		    error.len > 0 ? error.data : "out of memory");
		route_pack(&k, &empty);
	} else
		route_pack(&k, &r);
	/* The reason may quote the table: it is for the log, not the sender. */
	pack_str(&k, rc == -1 ? "4.3.5 routing table cannot be used" : "");
	say(l, p->serial, MSG_ROUTE_R, ref, &k);
	if (rc == 0)
		route_fini(&r);
	buf_fini(&b);
	buf_fini(&error);
}

static void
client_known(void *arg, const char *name, const char *ptr, const char *resolve)
{
	struct buf b = BUF_INIT(4096);
	struct packer k = { &b, false };

	pack_str(&k, name);
	pack_str(&k, ptr);
	pack_str(&k, resolve);
	answer(arg, MSG_CLIENT_R, &k);
}

static void
on_client(struct peer *p, uint64_t ref, const char *address)
{
	struct lookup *l = p->lookup;
	struct ask *a = ask_new(p, ref);
	struct buf b = BUF_INIT(64);
	struct packer k = { &b, false };

	l->clients++;
	if (a != NULL) {
		hosts_refresh(l->hosts);
		client_find(
		    l->child->base, l->dns, l->hosts, address, client_known, a);
		return;
	}
	pack_str(&k, "");
	pack_str(&k, "");
	pack_str(&k, "TEMP");
	say(l, p->serial, MSG_CLIENT_R, ref, &k);
	buf_fini(&b);
}

/* on_table - for a rule; what is wrong with a table is told once */
static void
on_table(struct peer *p, uint64_t ref, const char *table, const char *key)
{
	struct lookup *l = p->lookup;
	struct buf value = BUF_INIT(8 << 10), error = BUF_INIT(4096);
	struct buf b = BUF_INIT(16 << 10);
	struct packer k = { &b, false };
	int rc = rule_tables_get(l->rules, table, key, &value, &error);

	l->keys++;
	if (error.len > 0)
		child_alarm(l->child, "table", error.data);
	pack_u8(&k, rc == -1 ? 2 : (uint8_t)rc);
	pack_blob(&k, rc == 1 ? value.data : NULL, rc == 1 ? value.len : 0);
	say(l, p->serial, MSG_TABLE_R, ref, &k);
	buf_fini(&b);
	buf_fini(&value);
	buf_fini(&error);
}

static void
pack_hosts(struct packer *k, const struct mx_result *r)
{
	size_t i;

	pack_u8(k, (uint8_t)r->status);
	pack_str(k, r->reason);
	pack_u32(k, (uint32_t)r->n);
	for (i = 0; i < r->n; i++) {
		pack_str(k, r->addrs[i].name);
		pack_str(k, r->addrs[i].addr);
		pack_u16(k, r->addrs[i].pref);
	}
}

static void
hosts_known(void *arg, const struct mx_result *r)
{
	struct buf b = BUF_INIT(64 * 1024);
	struct packer k = { &b, false };

	pack_hosts(&k, r);
	answer(arg, MSG_HOSTS_R, &k);
}

static void
on_hosts(struct peer *p, uint64_t ref, const char *host)
{
	static const struct mx_result busy = { MX_TEMP,
		"4.4.3 too many look-ups under way", NULL, 0 };
	struct lookup *l = p->lookup;
	struct ask *a = ask_new(p, ref);
	struct buf b = BUF_INIT(1024);
	struct packer k = { &b, false };

	l->hops++;
	if (a != NULL) {
		hosts_refresh(l->hosts);
		mx_find(&l->mx, host, hosts_known, a);
		return;
	}
	pack_hosts(&k, &busy);
	say(l, p->serial, MSG_HOSTS_R, ref, &k);
	buf_fini(&b);
}

static void
on_frame(void *arg, struct chan *ch, struct frame *f)
{
	struct peer *p = arg;
	struct unpacker u = { f->data, f->len, false };
	const char *s = unpack_str(&u), *key = "";

	(void)ch;
	if (f->fd != -1)
		(void)close(f->fd);
	if (f->type == MSG_HOSTS)
		(void)unpack_u16(&u);
	if (f->type == MSG_TABLE)
		key = unpack_str(&u);
	if (unpack_end(&u) == -1) {
		log_err("lookup: malformed question: peer=%s index=%u",
		    proc_name(p->kind), p->index);
		peer_drop(p);
		return;
	}
	switch (f->type) {
	case MSG_ROUTE:
		on_route(p, f->ref, s);
		break;
	case MSG_CLIENT:
		on_client(p, f->ref, s);
		break;
	case MSG_TABLE:
		on_table(p, f->ref, s, key);
		break;
	case MSG_HOSTS:
		on_hosts(p, f->ref, s);
		break;
	default:
		log_err("lookup: unknown question: peer=%s type=%u",
		    proc_name(p->kind), f->type);
		peer_drop(p);
		break;
	}
}

/* end - with its tables closed */
static void
end(struct lookup *l)
{
	tables_free(&l->tables);
	rule_tables_free(&l->rules);
	child_exit(l->child, EX_OK);
}

static void
on_gone(void *arg, struct chan *ch)
{
	struct lookup *l = ((struct peer *)arg)->lookup;

	(void)ch;
	peer_drop(arg);
	if (l->stopping && LIST_EMPTY(&l->peers))
		end(l);
}

static void
lookup_peer(struct child *c, enum proc_kind kind, unsigned index, int sock)
{
	struct lookup *l = c->priv;
	struct peer *p;

	LIST_FOREACH(p, &l->peers, next)
	if (p->kind == kind && p->index == index) {
		peer_drop(p);
		break;
	}
	if ((p = calloc(1, sizeof(*p))) == NULL ||
	    (p->chan = chan_new(c->base, sock, on_frame, on_gone, p)) == NULL) {
		log_err("lookup: no memory for a peer");
		(void)close(sock);
		free(p);
		return;
	}
	p->lookup = l;
	p->kind = kind;
	p->index = index;
	p->serial = ++l->serial;
	LIST_INSERT_HEAD(&l->peers, p, next);
}

static int
lookup_open(struct child *c)
{
	struct lookup *l = &lookup;

	memset(l, 0, sizeof(*l));
	c->priv = l;
	l->child = c;
	LIST_INIT(&l->peers);
	if ((l->dns = dns_new()) == NULL ||
	    (l->hosts = hosts_open(c->settings->hosts_file)) == NULL ||
	    (l->tables = tables_new()) == NULL ||
	    (l->rules = rule_tables_new()) == NULL ||
	    rule_tables_use(l->rules, c->settings) == -1) {
		log_err("lookup: no memory, or no resolver");
		return (-1);
	}
	tables_use(l->tables, c->settings);
	return (0);
}

static void
use_settings(struct lookup *l)
{
	const struct settings *s = l->child->settings;

	l->mx.dns = l->dns;
	l->mx.hosts = l->hosts;
	l->mx.settings = l->child->settings;
	if (dns_servers(l->dns, s->nameservers, s->n_nameservers) == -1)
		child_alarm(l->child, "table",
		    "nameservers: not ADDRESS:PORT; all look-ups will fail");
	refresh(l);
}

static int
lookup_start(struct child *c)
{
	struct lookup *l = c->priv;

	if (dns_start(l->dns, c->base) == -1)
		return (-1);
	use_settings(l);
	return (0);
}

static void
lookup_reload(struct child *c, struct settings *old)
{
	struct lookup *l = c->priv;
	struct hosts *h;

	tables_use(l->tables, c->settings);
	if (rule_tables_use(l->rules, c->settings) == -1)
		log_err("lookup: no memory for the tables of rules");
	/* Searches under way hold no reference to the old file's text. */
	if (strcmp(old->hosts_file, c->settings->hosts_file) != 0 &&
	    (h = hosts_open(c->settings->hosts_file)) != NULL) {
		hosts_free(&l->hosts);
		l->hosts = h;
	}
	use_settings(l);
}

static void
lookup_state(struct child *c, const char *name, const char *value)
{
	(void)c;
	(void)name;
	(void)value;
}

static void
status(struct lookup *l, struct buf *b)
{
	struct dns_stats d;
	bool fresh;
	const char *why = tables_trouble(l->tables, &fresh);

	dns_stats(l->dns, &d);
	if (buf_addf(b, "{") == -1 ||
	    json_kv_num(b, "queries", d.asked) == -1 ||
	    json_kv_num(b, "cached", d.cached) == -1 ||
	    json_kv_num(b, "failed", d.failed) == -1 ||
	    json_kv_num(b, "pending", d.pending) == -1 ||
	    json_kv_num(b, "cache_entries", d.entries) == -1 ||
	    json_kv_num(b, "routes", l->routes) == -1 ||
	    json_kv_num(b, "clients", l->clients) == -1 ||
	    json_kv_num(b, "hosts", l->hops) == -1 ||
	    json_kv_num(b, "table_keys", l->keys) == -1 ||
	    json_kv_str(b, "mailertable", *why != '\0' ? why : "ok") == -1 ||
	    buf_addf(b, "}") == -1)
		log_err("lookup: status: no memory");
}

static int
metrics(struct lookup *l, struct buf *b)
{
	struct dns_stats d;

	dns_stats(l->dns, &d);
	return (metric_put(b, d.asked, "milldam_lookup_queries_total", NULL) |
	    metric_put(b, d.cached, "milldam_lookup_cached_total", NULL) |
	    metric_put(b, d.failed, "milldam_lookup_failed_total", NULL));
}

static void
lookup_command(struct child *c, uint64_t ref, const char *line)
{
	struct buf b = BUF_INIT(64 * 1024);

	if (strcmp(line, "metrics") == 0) {
		if (metrics(c->priv, &b) != 0)
			log_err("lookup: metrics: no memory");
	} else if (strcmp(line, "status") == 0)
		status(c->priv, &b);
	else if (buf_addf(&b, "{\"error\":") == 0) {
		struct buf text = BUF_INIT(8192);

		if (buf_addf(&text, "unknown command %s", line) == -1 ||
		    json_str(&b, text.data) == -1 || buf_addf(&b, "}") == -1)
			b.len = 0;
		buf_fini(&text);
	}
	child_reply(c, ref, true, b.data, b.len);
	buf_fini(&b);
}

static void
on_stop_limit(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	end(arg);
}

/* lookup_stop - the others ask until they have ended: stay as long */
static void
lookup_stop(struct child *c)
{
	struct lookup *l = c->priv;
	uint64_t ms = c->settings->stop_ms;
	const struct timeval tv = { (time_t)(ms / 1000),
		(suseconds_t)(ms % 1000 * 1000) };

	l->stopping = true;
	if (LIST_EMPTY(&l->peers) ||
	    event_base_once(c->base, -1, EV_TIMEOUT, on_stop_limit, l, &tv) ==
	        -1)
		end(l);
}

const struct child_ops lookup_ops = {
	.kind = PROC_LOOKUP,
	.open = lookup_open,
	.start = lookup_start,
	.peer = lookup_peer,
	.reload = lookup_reload,
	.state = lookup_state,
	.command = lookup_command,
	.stop = lookup_stop,
};
