/* SPDX-License-Identifier: ISC */

/*
 * mta - what an MTA says on one connection, and the answers to it
 *
 * The MTA's side is not trusted: what is malformed, too long or out of place
 * before the negotiation ends the connection, of which every MTA makes its own
 * default for a filter that fails.  But no command is ever left without its
 * answer, and QUIT_NC begins a new session from any state: libmilter would
 * ignore what its table of states does not expect, and let the MTA wait.
 *
 * Commands that came together are handled together; the answers lie in out
 * until there is nothing more to handle, so that they leave in one write.
 */

#include "milter-sdk/src/mta.h"
#include "milter-sdk/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

enum {
	IN_MAX = MTA_READ_MAX + MILTER_CHUNK + MILTER_HDR,
	OUT_MAX = MTA_OUT_HIGH + 4 * MILTER_CHUNK,
	ARGS_MAX = 100, /* ESMTP arguments of one command */
	KEEP_MAX = 4096 /* bytes of an empty buffer that stays */
};

/* What there is to know of a command that an MTA waits for. */
struct rule {
	char cmd;
	uint32_t nr;           /* the bit that says that none is waited for */
	enum mill_stage stage; /* its function, MILL_N_STAGES: none */
	bool in_message;
};

static const struct rule rules[] = {
	{ MILTER_CONNECT, MILTER_NR_CONNECT, MILL_AT_CONNECT, false },
	{ MILTER_HELO, MILTER_NR_HELO, MILL_AT_HELO, false },
	{ MILTER_MAIL, MILTER_NR_MAIL, MILL_AT_MAIL, true },
	{ MILTER_RCPT, MILTER_NR_RCPT, MILL_AT_RCPT, true },
	{ MILTER_DATA, MILTER_NR_DATA, MILL_N_STAGES, true },
	{ MILTER_HEADER, MILTER_NR_HEADER, MILL_N_STAGES, true },
	{ MILTER_EOH, MILTER_NR_EOH, MILL_AT_HEADERS, true },
	{ MILTER_BODY, MILTER_NR_BODY, MILL_N_STAGES, true },
	{ MILTER_EOM, 0, MILL_AT_MESSAGE, true },
	{ MILTER_UNKNOWN, MILTER_NR_UNKNOWN, MILL_N_STAGES, false },
};

static const struct rule *
rule_of(char cmd)
{
	size_t i;

	for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].cmd == cmd)
			return (&rules[i]);
	return (NULL);
}

void
mta_init(struct mta *m, const struct mill_filter *f)
{
	memset(m, 0, sizeof(*m));
	m->filter = f;
	m->in.max = IN_MAX;
	m->out.max = OUT_MAX;
	macroset_init(&m->macros);
}

static int
fault(struct mta *m, const char *what)
{
	m->fault = what;
	return (-1);
}

/* end_message - finished, or given up */
static void
end_message(struct mta *m)
{
	m->over = '\0';
	macroset_end_message(&m->macros);
	if (m->txn == NULL)
		return;
	txn_end_message(m->txn);
	session_count(m->txn);
}

/*
 * end_session - not beside fini(): when the process is about to end, the
 * filter's data stays as it is
 */
static void
end_session(struct mta *m)
{
	struct mill_txn *t = m->txn;

	m->txn = NULL;
	m->connected = false;
	m->over = '\0';
	if (t == NULL)
		return;
	t->backend = NULL;
	session_working(t, false);
	if (!session_enter(t)) {
		session_leave(t);
		return;
	}
	t->in_message = false;
	session_hold();
	session_count(t);
	session_free(&t);
	session_release();
}

void
mta_fini(struct mta *m)
{
	end_session(m);
	macroset_fini(&m->macros);
	buf_fini(&m->in);
	buf_fini(&m->out);
}

static const char *
macro(const struct mill_txn *t, const char *name)
{
	const struct mta *m = t->backend;

	return (m != NULL ? macroset_find(&m->macros, name) : NULL);
}

/* session - the one in hand, or a new one with the settings of now */
static struct mill_txn *
session(struct mta *m)
{
	struct loaded *l;

	if (m->txn != NULL)
		return (m->txn);
	l = session_loaded();
	if (l == NULL || (m->txn = txn_new(m->filter, l)) == NULL) {
		if (l != NULL)
			loaded_unref(&l);
		(void)fault(m, "out of memory");
		return (NULL);
	}
	m->txn->backend = m;
	m->txn->macro = macro;
	m->txn->progress = m->progress;
	m->txn->edits_allowed = m->terms.edits;
	return (m->txn);
}

/*
 * negotiate - as libmilter does: the lower version, and of an MTA that offers
 * nothing what the first one had
 */
static int
negotiate(struct mta *m, const struct milter_packet *pkt)
{
	char room[MILL_N_STAGES][SDK_MACROS_MAX + 64];
	struct milter_packet head = *pkt;
	struct milter_options o, answer = { .version = MILTER_VERSION };
	size_t i;

	if (m->txn != NULL)
		return (fault(m, "negotiation in a session"));
	if (head.len > 12)
		head.len = 12; /* what may come one day */
	if (milter_get_options(&head, &o) == -1)
		return (fault(m, "malformed negotiation"));
	if (o.version < MILTER_VERSION_MIN)
		return (fault(m, "version below 2"));
	if (o.version < answer.version)
		answer.version = o.version;
	m->terms = terms_for(m->filter, o.actions != 0 ? o.actions : 0x0f,
	    o.protocol != 0 ? o.protocol : 0x3f);
	m->negotiated = true;
	if ((terms_actions(m->filter) & ~m->terms.actions) != 0)
		log_warning("negotiate: the MTA does not offer edits: 0x%x",
		    terms_actions(m->filter) & ~m->terms.actions);
	answer.actions = m->terms.actions;
	answer.protocol = m->terms.protocol;
	for (i = 0;
	     i < MILL_N_STAGES && (answer.actions & MILTER_MAY_SET_MACROS) != 0;
	     i++)
		if (terms_macros(m->filter, (enum mill_stage)i, room[i],
		        sizeof(room[i])))
			answer.lists[terms_stages[i]] = room[i];
	if (milter_put_options(&m->out, &answer) == -1)
		return (fault(m, "out of memory"));
	return (0);
}

/* address_of - as numbers, in one spelling; false: it is none */
static bool
address_of(const struct milter_connect *k, char *text, size_t n)
{
	unsigned char raw[sizeof(struct in6_addr)];
	int family = k->family == '4' ? AF_INET : AF_INET6;
	const void *p = raw;

	text[0] = '\0';
	if (k->family != '4' && k->family != '6')
		return (true);
	if (inet_pton(family, k->addr, raw) != 1)
		return (false);
	if (family == AF_INET6 &&
	    IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)p)) {
		family = AF_INET;
		p = raw + 12;
	}
	return (inet_ntop(family, p, text, (socklen_t)n) != NULL);
}

static int
on_connect(struct mta *m, const struct milter_packet *pkt, enum mill_verdict *v)
{
	char addr[INET6_ADDRSTRLEN], name[INET6_ADDRSTRLEN + 3];
	struct milter_connect k;

	if (milter_get_connect(pkt, &k) == -1 ||
	    !address_of(&k, addr, sizeof(addr)))
		return (fault(m, "malformed client"));
	m->connected = true;
	*v = stage_connect(m->txn,
	    session_host(k.hostname, addr, name, sizeof(name)), addr,
	    addr[0] != '\0' ? k.port : 0);
	return (0);
}

/* take_text - a packet that is one string */
static const char *
take_text(const struct milter_packet *pkt)
{
	const char *s;
	size_t n;

	return (milter_get_strings(pkt, &s, 1, &n) == 0 && n == 1 ? s : NULL);
}

static int
on_helo(struct mta *m, const struct milter_packet *pkt, enum mill_verdict *v)
{
	const char *name = take_text(pkt);

	if (name == NULL)
		return (fault(m, "malformed HELO"));
	*v = stage_helo(m->txn, name);
	return (0);
}

static int
on_address(struct mta *m, const struct milter_packet *pkt, enum mill_verdict *v)
{
	const char *args[ARGS_MAX + 1];
	size_t n;

	if (milter_get_strings(pkt, args, ARGS_MAX, &n) == -1 || n == 0)
		return (fault(m, "malformed address"));
	args[n] = NULL;
	*v = pkt->code == MILTER_MAIL ? stage_mail(m->txn, args)
	                              : stage_rcpt(m->txn, args);
	return (0);
}

static int
on_header(struct mta *m, const struct milter_packet *pkt)
{
	const char *s[2];
	size_t n;

	if (milter_get_strings(pkt, s, 2, &n) == -1 || n != 2)
		return (fault(m, "malformed header field"));
	stage_header(m->txn, s[0], s[1]);
	return (0);
}

/* ask - give a command to its stage */
static int
ask(struct mta *m, const struct milter_packet *pkt, enum mill_verdict *v)
{
	*v = MILL_CONTINUE;
	switch (pkt->code) {
	case MILTER_CONNECT:
		return (on_connect(m, pkt, v));
	case MILTER_HELO:
		return (on_helo(m, pkt, v));
	case MILTER_MAIL:
	case MILTER_RCPT:
		return (on_address(m, pkt, v));
	case MILTER_HEADER:
		return (on_header(m, pkt));
	case MILTER_EOH:
		*v = stage_headers(m->txn);
		return (0);
	case MILTER_BODY:
		stage_body(m->txn, pkt->data, pkt->len);
		return (0);
	case MILTER_EOM:
		/* Bytes in it are the last ones of the body. */
		stage_body(m->txn, pkt->data, pkt->len);
		*v = stage_message(m->txn);
		return (0);
	default: /* DATA and unknown commands, which no stage is about */
		return (0);
	}
}

static int
put(struct mta *m, char code)
{
	if (milter_put(&m->out, code, NULL, 0) == -1)
		return (fault(m, "out of memory"));
	return (0);
}

/* is_silent - a command that nothing here decides about, or to which the MTA
 * wants no answer: then *rc_r is what its handling returns */
static bool
is_silent(struct mta *m, const struct rule *r, int *rc_r)
{
	*rc_r = 0;
	if (r->nr == 0 || ((m->terms.no_reply | m->terms.silent) & r->nr) == 0)
		return (false);
	if ((m->terms.no_reply & r->nr) == 0)
		*rc_r = put(m, MILTER_CONTINUE);
	return (true);
}

/* send_end - edits, then the verdict; 1: when out has left */
static int
send_end(struct mta *m)
{
	int rc;

	if (!mta_edits(m))
		return (1);
	m->sending = false;
	rc = mta_reply(m, m->verdict);
	end_message(m);
	return (rc == -1 ? fault(m, "out of memory") : 0);
}

/* answer - after a stage */
static int
answer(struct mta *m, const struct rule *r, enum mill_verdict v)
{
	struct mill_txn *t = m->txn;
	int rc;

	session_count(t);
	if (r->cmd == MILTER_EOM) {
		session_working(t, false);
		m->sending = true;
		m->verdict = v;
		m->edit_off = 0;
		m->edit =
		    v == MILL_CONTINUE || v == MILL_ACCEPT ? t->edits : NULL;
		return (send_end(m));
	}
	if (is_silent(m, r, &rc))
		return (rc);
	if (mta_reply(m, v) == -1)
		return (fault(m, "out of memory"));
	if (v == MILL_CONTINUE || !r->in_message || r->cmd == MILTER_RCPT)
		return (0);
	/* The message is over, but an MTA may have sent more of it already. */
	end_message(m);
	m->over = v == MILL_ACCEPT ? MILTER_ACCEPT
	    : v == MILL_REJECT     ? MILTER_REJECT
	    : v == MILL_DISCARD    ? MILTER_DISCARD
	                           : MILTER_TEMPFAIL;
	return (0);
}

/* refuse - what begins while the program stops */
static int
refuse(struct mta *m, const struct rule *r)
{
	int rc;

	if (is_silent(m, r, &rc))
		return (rc);
	session_working(m->txn, false);
	session_refuse(m->txn);
	rc = mta_reply(m, MILL_TEMPFAIL);
	m->txn->reply.code = 0;
	if (r->cmd == MILTER_EOM)
		end_message(m);
	return (rc == -1 ? fault(m, "out of memory") : 0);
}

/* again - the answer that the message already has */
static int
again(struct mta *m, const struct rule *r)
{
	char code = m->over;
	int rc;

	if (r->cmd == MILTER_EOM)
		end_message(m);
	return (is_silent(m, r, &rc) ? rc : put(m, code));
}

/* command - one that has a rule: 0, 1 out must leave first, -1 the end */
static int
command(struct mta *m, const struct rule *r, const struct milter_packet *pkt)
{
	enum mill_verdict v;

	macroset_at(&m->macros, r->cmd);
	if (r->cmd == MILTER_CONNECT && m->connected)
		end_session(m); /* one without QUIT_NC */
	if (r->cmd == MILTER_MAIL)
		m->over = '\0';
	if (r->cmd == MILTER_CONNECT || r->cmd == MILTER_HELO)
		end_message(m); /* EHLO is a RSET */
	if (m->over != '\0')
		return (again(m, r));
	if (r->cmd == MILTER_UNKNOWN)
		return (put(m, MILTER_CONTINUE));
	if (session(m) == NULL)
		return (-1);
	if (!session_enter(m->txn))
		return (refuse(m, r));
	if (ask(m, pkt, &v) == -1) {
		session_count(m->txn);
		return (-1);
	}
	return (answer(m, r, v));
}

/* handle - one packet: 0, 1 out must leave first, -1 the end */
static int
handle(struct mta *m, const struct milter_packet *pkt)
{
	const struct rule *r = rule_of(pkt->code);

	if (pkt->code == MILTER_OPTNEG)
		return (negotiate(m, pkt));
	if (pkt->code == MILTER_QUIT)
		return (-1);
	if (!m->negotiated)
		return (fault(m, "no negotiation"));
	if (r != NULL)
		return (command(m, r, pkt));
	switch (pkt->code) {
	case MILTER_MACRO:
		if (macroset_put(&m->macros, pkt) == -1)
			return (fault(m, "malformed macros"));
		return (0);
	case MILTER_ABORT:
		end_message(m);
		return (0);
	case MILTER_QUIT_NC:
		end_session(m);
		macroset_fini(&m->macros);
		return (0);
	default:
		return (fault(m, "unknown command"));
	}
}

/* is_slow - whether handling a command means to wait, maybe */
static bool
is_slow(const struct mta *m, char cmd)
{
	const struct mill_filter *f = m->filter;
	const struct rule *r = rule_of(cmd);

	if (r == NULL || r->stage == MILL_N_STAGES || m->over != '\0' ||
	    (f->quick & MILL_QUICK(r->stage)) != 0)
		return (false);
	switch (r->stage) {
	case MILL_AT_CONNECT:
		return (f->connect != NULL);
	case MILL_AT_HELO:
		return (f->helo != NULL);
	case MILL_AT_MAIL:
		return (f->mail != NULL);
	case MILL_AT_RCPT:
		return (f->rcpt != NULL);
	case MILL_AT_HEADERS:
		return (f->headers != NULL);
	default:
		return (f->message != NULL);
	}
}

/* wait_for - a slow function is next.  Only at the end of message may an MTA
 * be told to be patient, and only when all before has left. */
static enum mta_next
wait_for(struct mta *m, char cmd, bool may_wait)
{
	if (m->txn != NULL && m->txn->working) /* it has waited already */
		return (may_wait ? MTA_READ : MTA_SLOW);
	if (m->out.len > 0)
		return (MTA_WRITE);
	if (cmd == MILTER_EOM && m->progress != NULL && session(m) != NULL)
		session_working(m->txn, true);
	return (may_wait ? MTA_READ : MTA_SLOW);
}

/* go - handle packets in n bytes; *used_r of them are done with */
static enum mta_next
go(struct mta *m, const char *p, size_t n, bool may_wait, size_t *used_r)
{
	struct milter_packet pkt;
	enum mta_next next;
	long len;
	int rc = m->sending ? send_end(m) : 0;

	*used_r = 0;
	while (rc == 0) {
		if (m->out.len >= MTA_OUT_HIGH)
			return (MTA_WRITE);
		len = milter_next(p + *used_r, n - *used_r, MILTER_CHUNK, &pkt);
		if (len == 0)
			return (MTA_READ);
		if (len == -1) {
			rc = fault(m, "packet of a wrong length");
			break;
		}
		if (is_slow(m, pkt.code) &&
		    (next = wait_for(m, pkt.code, may_wait)) != MTA_READ)
			return (next);
		*used_r += (size_t)len;
		rc = handle(m, &pkt);
	}
	return (rc == 1 ? MTA_WRITE : MTA_END);
}

/* keep - the part of in that is not handled stays */
static void
keep(struct mta *m, size_t used)
{
	struct buf *b = &m->in;

	b->len -= used;
	if (b->len > 0 && used > 0)
		memmove(b->data, b->data + used, b->len);
	if (b->len == 0 && b->cap > KEEP_MAX)
		buf_fini(b);
}

enum mta_next
mta_take(struct mta *m, const void *bytes, size_t n, bool may_wait)
{
	enum mta_next next;
	size_t used;

	if (m->in.len == 0 && n > 0) {
		next = go(m, bytes, n, may_wait, &used);
		if (next != MTA_END && used < n &&
		    buf_add(&m->in, (const char *)bytes + used, n - used) == -1)
			next = MTA_END;
	} else {
		if (n > 0 && buf_add(&m->in, bytes, n) == -1)
			return (MTA_END);
		next = go(m, m->in.data != NULL ? m->in.data : "", m->in.len,
		    may_wait, &used);
		keep(m, used);
	}
	if (m->fault != NULL)
		log_warning("connection: closed: %s", m->fault);
	return (next);
}
