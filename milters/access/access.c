/* SPDX-License-Identifier: ISC */

/*
 * access - decide at each recipient whether this client may send to it
 *
 * All is judged at RCPT, also what the client and the sender are to blame for:
 * a client that is refused then tells its user which recipient was meant, and
 * the postmaster can still be reached.  What cannot be known now (a table that
 * cannot be read) is answered with 451, never with a guess.
 */

#include "milters/access/access.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

static enum mill_verdict
not_now(struct mill_txn *txn)
{
	return (mill_reply(txn, 451, "4.3.0",
	    "Temporary failure: a table cannot be read, try again later"));
}

/*
 * refusal - the table's answer as a verdict; MILL_CONTINUE if it refuses
 * nothing
 */
static enum mill_verdict
refusal(struct mill_txn *txn, const struct access_value *v)
{
	switch (v->what) {
	case ACCESS_REJECT:
		return (mill_reply(
		    txn, 550, "5.7.1", "%s... Access denied", mill_rcpt(txn)));
	case ACCESS_TEMPFAIL:
		return (mill_reply(txn, 451, "4.7.1", "%s... Try again later",
		    mill_rcpt(txn)));
	case ACCESS_DISCARD:
		return (MILL_DISCARD);
	case ACCESS_ERROR:
		return (mill_reply(txn, v->code,
		    v->xcode[0] != '\0'  ? v->xcode
		        : v->code >= 500 ? "5.7.1"
		                         : "4.7.1",
		    "%s", v->text));
	case ACCESS_QUARANTINE:
		if (mill_quarantine(txn, v->text) == -1)
			return (not_now(txn));
		return (MILL_CONTINUE);
	case ACCESS_NONE:
	case ACCESS_OK:
	case ACCESS_RELAY:
	case ACCESS_FRIEND:
	case ACCESS_HATER:
		break;
	}
	return (MILL_CONTINUE);
}

/* What is known of the client before any recipient, kept with the session. */
struct client {
	struct access_value access;
	bool trusted; /* may send anywhere */
};

static int
judge_client(struct mill_txn *txn, struct settings *s, struct client *c)
{
	c->trusted = mill_client_in(txn, s->relay_networks);
	if (keys_client(&s->access, mill_client_name(txn),
	        mill_client_addr(txn), &c->access) == -1)
		return (-1);
	if (c->access.what == ACCESS_RELAY)
		c->trusted = true;
	if (s->relay_authenticated && mill_auth(txn)[0] != '\0') {
		c->trusted = true;
		c->access.what = ACCESS_NONE;
	}
	return (0);
}

/* is_friend - whether the checks of client and sender are left out for this
 * recipient (Sendmail's delay_checks, "friend" or "hater") */
static int
is_friend(struct settings *s, const struct address *rcpt, bool *friend_r)
{
	struct access_value v;

	if (keys_address(&s->access, "spam:", true, rcpt, &v) == -1)
		return (-1);
	*friend_r = s->hater ? v.what != ACCESS_HATER : v.what == ACCESS_FRIEND;
	return (0);
}

static enum mill_verdict
judge_sender(struct mill_txn *txn, struct settings *s, const struct client *c)
{
	const char *sender = mill_sender(txn);
	struct access_value v;
	struct address a;

	if (sender[0] == '\0') {
		memset(&a, 0, sizeof(a));
		(void)strcpy(a.all, "<>");
	} else if (address_parse(sender, &a) == -1)
		return (mill_reply(
		    txn, 553, "5.1.7", "The sender's address is malformed"));
	else if (a.domain[0] == '\0' && !s->unqualified_senders && !c->trusted)
		return (mill_reply(txn, 553, "5.5.4",
		    "%s... Domain name required for sender address", sender));
	if (keys_address(&s->access, "from:", false, &a, &v) == -1)
		return (not_now(txn));
	return (refusal(txn, &v));
}

/* known - whether a recipient of ours exists: 1, 0, -1 */
static int
known(struct settings *s, const struct address *a)
{
	struct buf value = BUF_INIT(MAP_VALUE_MAX);
	char key[2 * ADDRESS_MAX];
	const char *plus = strchr(a->user, '+');
	int rc;

	if (s->recipients.map == NULL)
		return (1);
	rc = table_get(&s->recipients, a->all, &value);
	if (rc == 0 && plus != NULL && plus != a->user) {
		(void)snprintf(key, sizeof(key), "%.*s@%s",
		    (int)(plus - a->user), a->user, a->domain);
		rc = table_get(&s->recipients, key, &value);
	}
	if (rc == 0) {
		(void)snprintf(key, sizeof(key), "@%s", a->domain);
		rc = table_get(&s->recipients, key, &value);
	}
	buf_fini(&value);
	return (rc);
}

/* judge_relay - is it ours, or may this client send there? */
static enum mill_verdict
judge_relay(struct mill_txn *txn, struct settings *s, const struct client *c,
    const struct address *a, bool to_relay)
{
	const char *rcpt = mill_rcpt(txn);
	bool own = domains_has(&s->own, a->domain);

	if (a->routed && !c->trusted)
		return (mill_reply(
		    txn, 550, "5.7.1", "%s... Relaying denied", rcpt));
	if (a->domain[0] == '\0')
		return (mill_reply(
		    txn, 553, "5.1.3", "%s... Domain name required", rcpt));
	if (!own && !to_relay && !c->trusted)
		return (mill_reply(
		    txn, 550, "5.7.1", "%s... Relaying denied", rcpt));
	if (!own)
		return (MILL_CONTINUE);
	switch (known(s, a)) {
	case 1:
		return (MILL_CONTINUE);
	case 0:
		return (
		    mill_reply(txn, 550, "5.1.1", "%s... User unknown", rcpt));
	default:
		return (not_now(txn));
	}
}

static bool
is_postmaster(const struct settings *s, const struct address *a)
{
	return (strcmp(a->user, "postmaster") == 0 && !a->routed &&
	    (a->domain[0] == '\0' || domains_has(&s->own, a->domain)));
}

/* judge_client_and_sender - unless the recipient wants all mail */
static enum mill_verdict
judge_client_and_sender(struct mill_txn *txn, struct settings *s,
    const struct client *c, const struct address *rcpt)
{
	enum mill_verdict v;
	bool friendly;

	if (is_friend(s, rcpt, &friendly) == -1)
		return (not_now(txn));
	if (friendly)
		return (MILL_CONTINUE);
	if ((v = refusal(txn, &c->access)) != MILL_CONTINUE)
		return (v);
	return (judge_sender(txn, s, c));
}

static enum mill_verdict
on_rcpt(struct mill_txn *txn)
{
	/* The tables lock themselves; the rest is only read. */
	struct settings *s = (struct settings *)(uintptr_t)mill_settings(txn);
	struct access_value to;
	struct client c;
	struct address a;
	enum mill_verdict v;

	if (address_parse(mill_rcpt(txn), &a) == -1)
		return (mill_reply(
		    txn, 553, "5.1.3", "The recipient's address is malformed"));
	if (is_postmaster(s, &a))
		return (MILL_CONTINUE);
	if (judge_client(txn, s, &c) == -1)
		return (not_now(txn));
	v = judge_client_and_sender(txn, s, &c, &a);
	if (v != MILL_CONTINUE)
		return (v);
	if (keys_address(&s->access, "to:", false, &a, &to) == -1)
		return (not_now(txn));
	if ((v = refusal(txn, &to)) != MILL_CONTINUE)
		return (v);
	return (judge_relay(txn, s, &c, &a, to.what == ACCESS_RELAY));
}

static void
add_domains(struct settings *s, struct mill_conf *conf, const char *option,
    const char *const *list)
{
	for (; *list != NULL; list++)
		if (domains_add(&s->own, *list) == -1)
			mill_conf_error(conf, NULL, option,
			    "%s: \"%s\" is not a domain (.example.org for it "
			    "and all below)",
			    option, *list);
}

static void
add_domains_file(struct settings *s, struct mill_conf *conf, const char *option,
    const char *path)
{
	if (path != NULL && domains_add_file(&s->own, path) == -1)
		mill_conf_error(conf, NULL, option, "%s: %s: %s", option, path,
		    errno == EINVAL ? "it holds what is not a domain"
		                    : strerror(errno));
}

static void
open_table(struct table *t, struct mill_conf *conf, const char *option,
    const char *spec)
{
	struct buf error = BUF_INIT(1024);

	if (spec != NULL && table_open(t, spec, &error) == -1)
		mill_conf_error(conf, NULL, option, "%s: %s", option,
		    error.data != NULL ? error.data : strerror(errno));
	buf_fini(&error);
}

static int
load(void *settings, struct mill_conf *conf)
{
	struct settings *s = settings;

	add_domains(s, conf, "relay-domains", s->relay_domains);
	add_domains(s, conf, "local-domains", s->local_domains);
	add_domains_file(s, conf, "relay-domains-file", s->relay_domains_file);
	add_domains_file(s, conf, "local-domains-file", s->local_domains_file);
	domains_sort(&s->own);
	open_table(&s->access, conf, "access", s->access_spec);
	open_table(&s->recipients, conf, "recipients", s->recipients_spec);
	return (0);
}

static void
unload(void *settings)
{
	struct settings *s = settings;

	domains_fini(&s->own);
	table_fini(&s->access);
	table_fini(&s->recipients);
}

#define OPTION(n, t, member, def, text)                                        \
	{                                                                      \
		.name = (n), .type = (t),                                      \
		.offset = offsetof(struct settings, member), .value = (def),   \
		.help = (text)                                                 \
	}

static const struct mill_option options[] = {
	OPTION("relay-networks", MILL_NETS, relay_networks, NULL,
	    "clients that may send to any domain"),
	OPTION("relay-authenticated", MILL_BOOL, relay_authenticated, "yes",
	    "authenticated clients may send to any domain"),
	OPTION("relay-domains", MILL_LIST, relay_domains, NULL,
	    "domains whose mail is passed on for any client"),
	OPTION("relay-domains-file", MILL_PATH, relay_domains_file, NULL,
	    "more of them, one a line"),
	OPTION("local-domains", MILL_LIST, local_domains, NULL,
	    "domains of this system"),
	OPTION("local-domains-file", MILL_PATH, local_domains_file, NULL,
	    "more of them, one a line"),
	OPTION("recipients", MILL_STRING, recipients_spec, NULL,
	    "table of the recipients that exist in these domains"),
	OPTION("access", MILL_STRING, access_spec, NULL,
	    "access table with Sendmail's tags and values"),
	OPTION("unqualified-senders", MILL_BOOL, unqualified_senders, "no",
	    "accept senders without a domain from any client"),
	OPTION("hater", MILL_BOOL, hater, "no",
	    "check client and sender only for recipients marked Spam: HATER"),
	{ .name = NULL },
};

const struct mill_filter access_filter = {
	.abi = MILL_ABI,
	.name = "milldam-access",
	.options = options,
	.settings_size = sizeof(struct settings),
	.load = load,
	.unload = unload,
	.rcpt = on_rcpt,
	.without = MILL_WITHOUT_HELO,
	/* A discarded recipient leaves the envelope; QUARANTINE:reason. */
	.edits = MILL_EDIT_DEL_RCPT | MILL_EDIT_QUARANTINE,
	/* Tables are files; to read a changed one again is rare. */
	.quick = MILL_QUICK_ALL,
};
