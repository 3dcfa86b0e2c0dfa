/* SPDX-License-Identifier: ISC */

/*
 * macros - the facts that go with each stage
 *
 * The defaults are the union of Sendmail's and Postfix's lists and of what
 * rspamd expects unasked; a milter that names its own list at negotiation gets
 * that for the stage; those of the settings go behind.  Undefined macros are
 * left out.  A set is never empty, because an empty one would leave the last
 * message's values visible in libmilter: "i" or "j" stands in when the milter
 * had a set before.
 */

#include "core/milter/chain_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
	MACROS_MAX = 64, /* of one stage */
	NAMES_MAX = 256, /* read from a milter's list */
	MACRO_NAME_MAX = 64,
	SET_MAX = 60000 /* bytes of one set; a packet takes 65,535 */
};

static const char *const defaults[MILTER_STAGES] = {
	[MILTER_AT_CONNECT] = "j _ v {daemon_name} {daemon_addr} {daemon_port} "
	                      "{if_name} {if_addr} {client_addr} {client_name} "
	                      "{client_port} {client_ptr} {client_resolve} "
	                      "{client_connections} {milldam_early}",
	[MILTER_AT_HELO] = "{tls_version} {cipher} {cipher_bits} "
	                   "{cert_subject} {cert_issuer} {verify}",
	[MILTER_AT_MAIL] = "i {auth_type} {auth_authen} {auth_ssf} "
	                   "{auth_author} {mail_mailer} {mail_host} "
	                   "{mail_addr} {milldam_replay}",
	[MILTER_AT_RCPT] = "i {rcpt_mailer} {rcpt_host} {rcpt_addr}",
	[MILTER_AT_DATA] = "i",
	[MILTER_AT_EOH] = "i",
	[MILTER_AT_EOM] = "i {msg_id} {msg_size} {nrcpts} {milldam_group}",
};

static enum milter_stage
stage_of(char cmd)
{
	switch (cmd) {
	case MILTER_CONNECT:
		return (MILTER_AT_CONNECT);
	case MILTER_HELO:
		return (MILTER_AT_HELO);
	case MILTER_MAIL:
		return (MILTER_AT_MAIL);
	case MILTER_RCPT:
		return (MILTER_AT_RCPT);
	case MILTER_DATA:
		return (MILTER_AT_DATA);
	case MILTER_EOH:
		return (MILTER_AT_EOH);
	default:
		return (MILTER_AT_EOM);
	}
}

/* Macros whose value is a member of the facts; "" is undefined. */
static const struct {
	const char *name;
	size_t offset;
} fact_rows[] = {
#define FACT(n, m)                                                             \
	{                                                                      \
		n, offsetof(struct chain_facts, m)                             \
	}
	FACT("j", hostname),
	FACT("daemon_name", listener),
	FACT("daemon_addr", daemon_addr),
	FACT("if_addr", daemon_addr),
	FACT("if_name", hostname),
	FACT("client_addr", client_addr),
	FACT("client_ptr", client_ptr),
	FACT("client_resolve", client_resolve),
	FACT("s", helo),
	FACT("r", proto),
	FACT("Z", version),
	FACT("tls_version", tls_version),
	FACT("cipher", cipher),
	FACT("cipher_bits", cipher_bits),
	FACT("cert_subject", cert_subject),
	FACT("cert_issuer", cert_issuer),
	FACT("verify", verify),
	FACT("auth_type", auth_type),
	FACT("auth_authen", auth_authen),
	FACT("auth_author", auth_author),
	FACT("auth_ssf", auth_ssf),
#undef FACT
};

static const char *
defined(const char *s)
{
	return (s != NULL && s[0] != '\0' ? s : NULL);
}

/* number - into room; room holds any u64 */
static const char *
number(char *room, size_t n, uint64_t v)
{
	(void)snprintf(room, n, "%llu", (unsigned long long)v);
	return (room);
}

/* date - now, as RFC 5322 writes it */
static const char *
date(char *room, size_t n)
{
	time_t now = time(NULL);
	struct tm tm;

	if (localtime_r(&now, &tm) == NULL ||
	    strftime(room, n, "%a, %d %b %Y %H:%M:%S %z", &tm) == 0)
		return (NULL);
	return (room);
}

/* client_macro - `_` and the {client_*} that are not plain strings */
static const char *
client_macro(const struct chain *c, const char *name, char *room, size_t n)
{
	const struct chain_facts *f = c->facts;
	const char *who = f->client_name;

	if (strcmp(name, "client_port") == 0)
		return (f->client_port != 0 ? number(room, n, f->client_port)
		                            : NULL);
	if (strcmp(name, "client_connections") == 0)
		return (number(room, n, f->client_connections));
	/* Postfix's word for a client whose name is not verified */
	if (strcmp(name, "client_name") == 0)
		return (who[0] == '[' || who[0] == '\0' ? "unknown" : who);
	if (strcmp(name, "_") != 0)
		return (NULL);
	if (strcmp(f->client_resolve, "FORGED") == 0 &&
	    f->client_ptr[0] != '\0')
		(void)snprintf(room, n, "%s [%s] (may be forged)",
		    f->client_ptr, f->client_addr);
	else if (who[0] == '[' || who[0] == '\0')
		(void)snprintf(room, n, "[%s]", f->client_addr);
	else
		(void)snprintf(room, n, "%s [%s]", who, f->client_addr);
	return (room);
}

/* bare - an address without its brackets, into room */
static const char *
bare(const char *s, char *room, size_t n)
{
	const char *addr;
	size_t len;

	if (!milter_address(s, true, &addr, &len) || len >= n)
		return (NULL);
	memcpy(room, addr, len);
	room[len] = '\0';
	return (room);
}

static const char *
mail_macro(const struct chain *c, const char *name, char *room, size_t n)
{
	const char *addr = c->sender != NULL ? bare(c->sender, room, n) : NULL;
	const char *at;

	if (addr == NULL)
		return (NULL);
	if (strcmp(name, "mail_addr") == 0)
		return (addr);
	if (addr[0] == '\0')
		return (NULL);
	if (strcmp(name, "mail_mailer") == 0)
		return ("esmtp");
	at = strrchr(addr, '@');
	return (strcmp(name, "mail_host") == 0 && at != NULL ? at + 1 : NULL);
}

/* refused_macro - as Sendmail shows a recipient that it refuses itself:
 * mailer "error", host the enhanced code, address the reason */
static const char *
refused_macro(const char *text, const char *name, char *room, size_t n)
{
	const char *s = text;
	size_t len;

	if (strcmp(name, "rcpt_mailer") == 0)
		return ("error");
	if (isdigit((unsigned char)s[0]) && strlen(s) > 4)
		s += 4;
	len = strcspn(s, " ");
	if (strcmp(name, "rcpt_host") == 0) {
		if (len >= n || strchr("245", s[0]) == NULL ||
		    memchr(s, '.', len) == NULL)
			return (NULL);
		memcpy(room, s, len);
		room[len] = '\0';
		return (room);
	}
	if (memchr(s, '.', len) != NULL && s[len] == ' ')
		s += len + 1;
	return (strcmp(name, "rcpt_addr") == 0 ? s : NULL);
}

static const char *
rcpt_macro(const struct chain *c, const char *name, char *room, size_t n)
{
	const struct route *r = c->route;

	if (c->refused != NULL)
		return (refused_macro(c->refused, name, room, n));
	if (c->rcpt == NULL)
		return (NULL);
	if (r != NULL && r->mailer == MAILER_ERROR)
		return (refused_macro(r->text, name, room, n));
	if (strcmp(name, "rcpt_addr") == 0)
		return (r != NULL && r->addr[0] != '\0'
		        ? bare(r->addr, room, n)
		        : bare(c->rcpt, room, n));
	if (r == NULL || r->mailer == MAILER_NONE)
		return (NULL);
	if (strcmp(name, "rcpt_host") == 0)
		return (defined(r->host));
	if (strcmp(name, "rcpt_mailer") == 0)
		return (r->mailer == MAILER_DISCARD ? "discard" : "esmtp");
	return (NULL);
}

/* recipients - of the groups that this session runs for */
static uint64_t
recipients(const struct link *l)
{
	const struct chain *c = l->chain;
	uint64_t sum = 0;
	size_t k;

	if (c->q != Q_MESSAGE || l->groups == 0)
		return (c->n_rcpts);
	for (k = 0; k < c->n_groups; k++)
		if ((l->groups & 1u << k) != 0 && c->groups[k].env != NULL)
			sum += c->groups[k].env->n_rcpts;
	return (sum);
}

/* group_numbers - "1,3", or NULL if the message has one group */
static const char *
group_numbers(const struct link *l, char *room, size_t n)
{
	const struct chain *c = l->chain;
	size_t k, len = 0;
	unsigned live = 0;

	room[0] = '\0';
	for (k = 0; k < c->n_groups; k++) {
		if (!c->groups[k].live)
			continue;
		live++;
		if ((l->groups & 1u << k) != 0 && len + 8 < n)
			len += (size_t)snprintf(room + len, n - len, "%s%u",
			    len > 0 ? "," : "", live);
	}
	return (live > 1 ? room : NULL);
}

static const char *
content_macro(const struct link *l, const char *name, char *room, size_t n)
{
	const struct chain *c = l->chain;
	const struct view *v = l->view;
	uint64_t size;
	size_t i;

	if (strcmp(name, "nrcpts") == 0)
		return (number(room, n, recipients(l)));
	if (c->q != Q_MESSAGE || v == NULL)
		return (NULL);
	if (strcmp(name, "milldam_group") == 0)
		return (group_numbers(l, room, n));
	size = v->body_len + 2;
	for (i = 0; i < v->n_fields; i++) {
		const struct field *f = &v->fields[i];

		size += strlen(f->name) + 1 + f->value_len + 2;
		if (strcmp(name, "msg_id") == 0 &&
		    strcasecmp(f->name, "Message-ID") == 0) {
			size_t skip = strspn(f->value, " \t\r\n");
			size_t len = strcspn(f->value + skip, " \t\r\n");

			if (len == 0 || len >= n)
				return (NULL);
			memcpy(room, f->value + skip, len);
			room[len] = '\0';
			return (room);
		}
	}
	return (strcmp(name, "msg_size") == 0 ? number(room, n, size) : NULL);
}

/* value - of a bare name, or NULL; room is for those that must be made */
static const char *
value(const struct link *l, const char *name, char *room, size_t n)
{
	const struct chain *c = l->chain;
	size_t i;

	for (i = 0; i < sizeof(fact_rows) / sizeof(fact_rows[0]); i++)
		if (name[0] == fact_rows[i].name[0] &&
		    strcmp(name, fact_rows[i].name) == 0)
			return (defined(
			    *(const char *const *)(const void *)((const char *)
			                                             c->facts +
			        fact_rows[i].offset)));
	if (strcmp(name, "i") == 0)
		return (defined(c->id));
	if (strcmp(name, "v") == 0)
		return ("Milldam");
	if (strcmp(name, "b") == 0) /* as in a Date field */
		return (date(room, n));
	if (strcmp(name, "daemon_port") == 0)
		return (number(room, n, c->facts->daemon_port));
	if (strcmp(name, "milldam_early") == 0)
		return (c->facts->early_talker ? "yes" : NULL);
	if (strcmp(name, "milldam_replay") == 0)
		return (l->retold > 0 || c->facts->released
		        ? number(room, n, l->retold + c->facts->released)
		        : NULL);
	if (strncmp(name, "client_", 7) == 0 || strcmp(name, "_") == 0)
		return (client_macro(c, name, room, n));
	if (strncmp(name, "mail_", 5) == 0 || strcmp(name, "f") == 0)
		return (mail_macro(
		    c, name[0] == 'f' ? "mail_addr" : name, room, n));
	if (strncmp(name, "rcpt_", 5) == 0)
		return (rcpt_macro(c, name, room, n));
	return (content_macro(l, name, room, n));
}

/* next_name - split the next word off a list: the name bare into room, and as
 * it is sent ("i", "{mail_addr}") into wire.  Called some 150 times a message,
 * so without printf. */
static bool
next_name(const char **list, char *room, char *wire)
{
	const char *s;
	size_t n;

	for (;;) {
		s = *list + strspn(*list, " \t,");
		n = strcspn(s, " \t,");
		*list = s + n;
		if (n == 0)
			return (false);
		if (n > 2 && s[0] == '{' && s[n - 1] == '}') {
			s++;
			n -= 2;
		}
		if (n < MACRO_NAME_MAX - 3)
			break;
	}
	memcpy(room, s, n);
	room[n] = '\0';
	if (n > 1)
		*wire++ = '{';
	memcpy(wire, s, n);
	wire += n;
	if (n > 1)
		*wire++ = '}';
	*wire = '\0';
	return (true);
}

/* add - one NAME NUL VALUE NUL; what would not fit is left out */
static int
add(struct buf *b, const char *name, const char *text)
{
	size_t n = strlen(name) + 1, k = strlen(text) + 1;

	if (b->len + n + k > SET_MAX)
		return (0);
	return (
	    buf_add(b, name, n) == -1 || buf_add(b, text, k) == -1 ? -1 : 0);
}

bool
macros_asked(const struct link *l, char cmd)
{
	enum milter_stage at = stage_of(cmd);

	return (l->conn->opts.lists[at] != NULL || l->conf->macros[at] != NULL);
}

int
macros_put(struct link *l, char cmd)
{
	struct chain *c = l->chain;
	enum milter_stage at = stage_of(cmd);
	const char *list = l->conn->opts.lists[at], *text;
	const char *more = l->conf->macros[at]; /* behind that list */
	char name[MACRO_NAME_MAX], wire[MACRO_NAME_MAX], room[2048];
	struct buf set = BUF_INIT(MILTER_CHUNK);
	unsigned n = 0, names = 0;
	int r = -1;

	if (list == NULL)
		list = defaults[at];
	if (buf_add(&set, &cmd, 1) == -1)
		goto out;
	while (n < MACROS_MAX && names++ < NAMES_MAX) {
		if (!next_name(&list, name, wire)) {
			if (more == NULL)
				break;
			list = more;
			more = NULL;
			continue;
		}
		if ((text = value(l, name, room, sizeof(room))) == NULL)
			continue;
		if (add(&set, wire, text) == -1)
			goto out;
		n++;
	}
	r = 0;
	if (n == 0) {
		if ((l->sent_macros & (1u << at)) == 0)
			goto out;
		r = c->id[0] != '\0' && at != MILTER_AT_CONNECT &&
		        at != MILTER_AT_HELO
		    ? add(&set, "i", c->id)
		    : add(&set, "j", c->facts->hostname);
	}
	l->sent_macros |= 1u << at;
	if (r == 0)
		r = milter_put(&l->conn->out, MILTER_MACRO, set.data, set.len);
out:
	buf_fini(&set);
	return (r);
}
