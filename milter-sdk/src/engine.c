/* SPDX-License-Identifier: ISC */

/*
 * engine - libmilter's callbacks: negotiate, feed the stages, apply edits
 *
 * Asked of the MTA is only what a declared stage needs, and a reply only where
 * one decides; where the MTA was told that no reply comes, the callback must
 * return SMFIS_NOREPLY (libmilter logs a line for each other value).
 *
 * Sendmail waits 10 s for each reply, so progress is told by a thread of its
 * own while message() works.  smfi_progress() only writes to the session's
 * socket; the lock of the transaction keeps it apart from the edits, which the
 * callback's own thread sends.
 */

#include "config.h"

#include "milter-sdk/base/log.h"
#include "milter-sdk/src/sdk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmilter/mfapi.h>
#include <libmilter/mfdef.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

static const struct mill_filter *filter;
static pthread_mutex_t loaded_lock = PTHREAD_MUTEX_INITIALIZER;
static struct loaded *current;
static atomic_uint in_hand;
static atomic_bool stopping, ended, asked;

static pthread_mutex_t working_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mill_txn *working;

/* What was last negotiated: for a session that begins after QUIT_NC. */
static pthread_mutex_t negotiated_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long last_no_reply;
static unsigned last_edits;

static const struct {
	unsigned edit;
	unsigned long action;
} actions[] = {
	{ MILL_EDIT_ADD_HEADER, SMFIF_ADDHDRS },
	{ MILL_EDIT_CHANGE_HEADER, SMFIF_CHGHDRS },
	{ MILL_EDIT_BODY, SMFIF_CHGBODY },
	{ MILL_EDIT_ADD_RCPT, SMFIF_ADDRCPT | SMFIF_ADDRCPT_PAR },
	{ MILL_EDIT_DEL_RCPT, SMFIF_DELRCPT },
	{ MILL_EDIT_SENDER, SMFIF_CHGFROM },
	{ MILL_EDIT_QUARANTINE, SMFIF_QUARANTINE },
};

/* Macro lists: libmilter's numbers of our stages */
static const int macro_stage[MILL_N_STAGES] = { SMFIM_CONNECT, SMFIM_HELO,
	SMFIM_ENVFROM, SMFIM_ENVRCPT, SMFIM_EOH, SMFIM_EOM };

void
engine_set_loaded(struct loaded *l)
{
	struct loaded *old;

	(void)pthread_mutex_lock(&loaded_lock);
	old = current;
	current = l;
	(void)pthread_mutex_unlock(&loaded_lock);
	loaded_unref(&old);
}

static struct loaded *
ref_current(void)
{
	struct loaded *l;

	(void)pthread_mutex_lock(&loaded_lock);
	l = loaded_ref(current);
	(void)pthread_mutex_unlock(&loaded_lock);
	return (l);
}

bool
engine_ended(void)
{
	return (ended);
}

bool
engine_asked_to(void)
{
	return (asked);
}

unsigned
engine_in_hand(void)
{
	return (in_hand);
}

void
engine_stop(void)
{
	stopping = true;
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

static const char *
macro(const struct mill_txn *t, const char *name)
{
	return (smfi_getsymval(t->backend, (char *)(uintptr_t)name));
}

/* actions_for - all that the declared edits may need */
static unsigned long
actions_for(unsigned edits)
{
	unsigned long all = 0;
	size_t i;

	for (i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if ((edits & actions[i].edit) != 0)
			all |= actions[i].action;
	return (all);
}

static bool
has_macros(void)
{
	size_t i;

	for (i = 0; i < MILL_N_STAGES; i++)
		if (filter->macros[i] != NULL)
			return (true);
	return (false);
}

/* last_stage - after it the filter needs nothing */
static enum mill_stage
last_stage(void)
{
	if (filter->message != NULL)
		return (MILL_AT_MESSAGE);
	if (filter->headers != NULL)
		return (MILL_AT_HEADERS);
	if (filter->rcpt != NULL)
		return (MILL_AT_RCPT);
	if (filter->mail != NULL)
		return (MILL_AT_MAIL);
	return (filter->helo != NULL ? MILL_AT_HELO : MILL_AT_CONNECT);
}

/* unwanted - commands that the MTA need not send */
static unsigned long
unwanted(void)
{
	enum mill_stage last = last_stage();
	unsigned without = filter->without;
	unsigned long no = SMFIP_NODATA | SMFIP_NOUNKNOWN;

	if (filter->connect == NULL && (without & MILL_WITHOUT_CLIENT) != 0)
		no |= SMFIP_NOCONNECT;
	if (filter->helo == NULL &&
	    (last < MILL_AT_HELO || (without & MILL_WITHOUT_HELO) != 0))
		no |= SMFIP_NOHELO;
	if (filter->mail == NULL &&
	    (last < MILL_AT_MAIL || (without & MILL_WITHOUT_SENDER) != 0))
		no |= SMFIP_NOMAIL;
	if (filter->rcpt == NULL &&
	    (last < MILL_AT_RCPT || (without & MILL_WITHOUT_RCPTS) != 0))
		no |= SMFIP_NORCPT;
	if (last < MILL_AT_HEADERS || (without & MILL_WITHOUT_HEADERS) != 0)
		no |= SMFIP_NOHDRS;
	if (filter->headers == NULL)
		no |= SMFIP_NOEOH;
	if (filter->message == NULL || filter->max_body == 0)
		no |= SMFIP_NOBODY;
	return (no);
}

/* silent - commands that are sent and that nothing here answers */
static unsigned long
silent(void)
{
	unsigned long nr = SMFIP_NR_HDR | SMFIP_NR_BODY;

	if (filter->connect == NULL)
		nr |= SMFIP_NR_CONN;
	if (filter->helo == NULL)
		nr |= SMFIP_NR_HELO;
	if (filter->mail == NULL)
		nr |= SMFIP_NR_MAIL;
	if (filter->rcpt == NULL)
		nr |= SMFIP_NR_RCPT;
	if (filter->headers == NULL)
		nr |= SMFIP_NR_EOH;
	return (nr);
}

/* replies_unsent - the no-reply bits of commands that are not sent at all */
static unsigned long
replies_unsent(unsigned long no)
{
	static const struct {
		unsigned long no, nr;
	} pairs[] = { { SMFIP_NOCONNECT, SMFIP_NR_CONN },
		{ SMFIP_NOHELO, SMFIP_NR_HELO },
		{ SMFIP_NOMAIL, SMFIP_NR_MAIL },
		{ SMFIP_NORCPT, SMFIP_NR_RCPT }, { SMFIP_NOHDRS, SMFIP_NR_HDR },
		{ SMFIP_NOEOH, SMFIP_NR_EOH },
		{ SMFIP_NOBODY, SMFIP_NR_BODY } };
	unsigned long nr = 0;
	size_t i;

	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if ((no & pairs[i].no) != 0)
			nr |= pairs[i].nr;
	return (nr);
}

/*
 * ask_macros - a list replaces the MTA's default of that stage, so the queue id
 * and the login are put back.  Never an empty list: Sendmail would send no
 * macro at all and Postfix its default.  Sendmail heeds the list of the end of
 * message only if there is one of the end of header too.
 */
static void
ask_macros(SMFICTX *ctx)
{
	static const char *const base[MILL_N_STAGES] = { "j _ {daemon_name}",
		"{tls_version} {cipher}", "i {auth_type} {auth_authen}", "i",
		"i", "i" };
	const char *own;
	char list[SDK_MACROS_MAX + 64];
	size_t i;

	for (i = 0; i < MILL_N_STAGES; i++) {
		own = filter->macros[i];
		if (own == NULL && i == MILL_AT_HEADERS &&
		    filter->macros[MILL_AT_MESSAGE] != NULL)
			own = "";
		if (own == NULL)
			continue;
		(void)snprintf(list, sizeof(list), "%s%s%s", base[i],
		    *own != '\0' ? " " : "", own);
		if (smfi_setsymlist(ctx, macro_stage[i], list) != MI_SUCCESS)
			log_warning("negotiate: macro list refused: %s", list);
	}
}

static sfsistat
on_negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2,
    unsigned long f3, unsigned long *pf0, unsigned long *pf1,
    unsigned long *pf2, unsigned long *pf3)
{
	unsigned long want = actions_for(filter->edits);
	struct mill_txn *t = txn_new(filter, ref_current());
	size_t i;

	(void)f2;
	(void)f3;
	if (t == NULL)
		return (SMFIS_REJECT);
	t->backend = ctx;
	t->macro = macro;
	if (has_macros() && (f0 & SMFIF_SETSYMLIST) != 0) {
		want |= SMFIF_SETSYMLIST;
		ask_macros(ctx);
	}
	if ((want & ~f0) != 0)
		log_warning("negotiate: the MTA does not offer edits: 0x%lx",
		    want & ~f0);
	*pf0 = want & f0;
	*pf1 = unwanted() & f1;
	t->no_reply = silent() & f1;
	*pf1 |= t->no_reply & ~replies_unsent(*pf1);
	*pf2 = *pf3 = 0;
	for (i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if ((filter->edits & actions[i].edit) != 0 &&
		    (f0 & actions[i].action & ~SMFIF_ADDRCPT_PAR) != 0)
			t->edits_allowed |= actions[i].edit;
	(void)pthread_mutex_lock(&negotiated_lock);
	last_no_reply = t->no_reply;
	last_edits = t->edits_allowed;
	(void)pthread_mutex_unlock(&negotiated_lock);
	(void)smfi_setpriv(ctx, t);
	return (SMFIS_CONTINUE);
}

/*
 * txn_of - the transaction of a connection.  After QUIT_NC libmilter has closed
 * it and does not negotiate again; the terms are then those of before, and
 * every MTA that sends QUIT_NC offers all.
 */
static struct mill_txn *
txn_of(SMFICTX *ctx)
{
	struct mill_txn *t = smfi_getpriv(ctx);

	if (t == NULL && (t = txn_new(filter, ref_current())) != NULL) {
		t->backend = ctx;
		t->macro = macro;
		(void)pthread_mutex_lock(&negotiated_lock);
		t->no_reply = last_no_reply;
		t->edits_allowed = last_edits;
		(void)pthread_mutex_unlock(&negotiated_lock);
		(void)smfi_setpriv(ctx, t);
	}
	/* A connection may wait in the MTA's pool for long: the session's
	 * settings are those at its first command. */
	if (t != NULL && !t->begun) {
		loaded_unref(&t->loaded);
		t->loaded = ref_current();
		t->body.max = (size_t)t->loaded->max_body;
		t->begun = true;
	}
	return (t);
}

/* count - what is in hand: a message from its first command to its end */
static void
count(struct mill_txn *t)
{
	if (t->in_message == t->counted)
		return;
	t->counted = t->in_message;
	if (t->counted)
		in_hand++;
	else
		in_hand--;
}

/*
 * enter - whether the filter may be asked: not when the program stops, but for
 * a message in hand.  Counted first and looked at then, in the other order than
 * the thread that stops: so fini() never runs beside a decide function.
 */
static bool
enter(struct mill_txn *t)
{
	if (t->counted)
		return (true);
	t->counted = true;
	in_hand++;
	if (!stopping)
		return (true);
	t->counted = false;
	in_hand--;
	return (false);
}

/* line_for_mta - '%' doubled: Sendmail and Postfix read the text as a format */
static char *
line_for_mta(char *to, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '%')
			*to++ = '%';
		*to++ = *s;
	}
	*to++ = '\0';
	return (to);
}

static void
send_reply(struct mill_txn *t)
{
	struct reply *r = &t->reply;
	char code[8], *l[SDK_REPLY_LINES] = { NULL }, *to, *text;
	char *x = r->xcode[0] != '\0' ? r->xcode : NULL;
	size_t i;
	int rc;

	if ((text = to = malloc(2 * sizeof(r->text))) == NULL)
		return;
	for (i = 0; i < r->n_lines; i++) {
		l[i] = to;
		to = line_for_mta(to, r->lines[i]);
	}
	(void)snprintf(code, sizeof(code), "%d", r->code);
	if (r->n_lines == 1)
		rc = smfi_setreply(t->backend, code, x, l[0]);
	else
		rc = smfi_setmlreply(t->backend, code, x, l[0], l[1], l[2],
		    l[3], l[4], l[5], l[6], l[7], l[8], l[9], l[10], l[11],
		    l[12], l[13], l[14], l[15], l[16], l[17], l[18], l[19],
		    l[20], l[21], l[22], l[23], l[24], l[25], l[26], l[27],
		    l[28], l[29], l[30], l[31], NULL);
	if (rc != MI_SUCCESS)
		mill_log(t, LOG_ERR, "fault: reply refused: %s", r->lines[0]);
	free(text); /* libmilter has copied it */
}

/* answer - a verdict as libmilter's, unless the MTA waits for none */
static sfsistat
answer(struct mill_txn *t, enum mill_verdict v, unsigned long nr)
{
	count(t);
	if ((t->no_reply & nr) != 0)
		return (SMFIS_NOREPLY);
	if ((v == MILL_REJECT || v == MILL_TEMPFAIL) && t->reply.code != 0)
		send_reply(t);
	/* libmilter calls no abort after a final answer. */
	if (v != MILL_CONTINUE && (nr == SMFIP_NR_MAIL || nr == SMFIP_NR_EOH)) {
		txn_end_message(t);
		count(t);
	}
	switch (v) {
	case MILL_CONTINUE:
		return (SMFIS_CONTINUE);
	case MILL_ACCEPT:
		return (SMFIS_ACCEPT);
	case MILL_REJECT:
		return (SMFIS_REJECT);
	case MILL_DISCARD:
		return (SMFIS_DISCARD);
	case MILL_TEMPFAIL:
		break;
	}
	return (SMFIS_TEMPFAIL);
}

/* refuse - what begins while the program stops */
static sfsistat
refuse(struct mill_txn *t, unsigned long nr)
{
	if (t != NULL && (t->no_reply & nr) != 0)
		return (SMFIS_NOREPLY);
	if (t != NULL) {
		reply_set(t, 451, "4.3.2", "the filter is stopping");
		send_reply(t);
		t->reply.code = 0;
	}
	return (SMFIS_TEMPFAIL);
}

static void
address_of(const struct sockaddr *sa, char *text, size_t n, uint16_t *port)
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in = (const void *)sa;

	text[0] = '\0';
	*port = 0;
	if (sa != NULL && sa->sa_family == AF_INET) {
		*port = ntohs(in->sin_port);
		(void)inet_ntop(AF_INET, &in->sin_addr, text, (socklen_t)n);
	} else if (sa != NULL && sa->sa_family == AF_INET6) {
		*port = ntohs(in6->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
			(void)inet_ntop(AF_INET,
			    (const char *)&in6->sin6_addr + 12, text,
			    (socklen_t)n);
		else
			(void)inet_ntop(
			    AF_INET6, &in6->sin6_addr, text, (socklen_t)n);
	}
}

static sfsistat
on_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *sa)
{
	struct mill_txn *t = txn_of(ctx);
	char addr[INET6_ADDRSTRLEN], name[INET6_ADDRSTRLEN + 3];
	uint16_t port;

	if (t == NULL || !enter(t))
		return (refuse(t, SMFIP_NR_CONN));
	address_of((const struct sockaddr *)sa, addr, sizeof(addr), &port);
	/* Postfix says "unknown" where Sendmail says the address. */
	if (host == NULL || strcmp(host, "unknown") == 0) {
		(void)snprintf(
		    name, sizeof(name), addr[0] ? "[%s]" : "%s", addr);
		host = name;
	}
	return (answer(t, stage_connect(t, host, addr, port), SMFIP_NR_CONN));
}

static sfsistat
on_helo(SMFICTX *ctx, char *name)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !enter(t))
		return (refuse(t, SMFIP_NR_HELO));
	return (
	    answer(t, stage_helo(t, name != NULL ? name : ""), SMFIP_NR_HELO));
}

static sfsistat
on_mail(SMFICTX *ctx, char **argv)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !enter(t))
		return (refuse(t, SMFIP_NR_MAIL));
	return (
	    answer(t, stage_mail(t, (const char *const *)argv), SMFIP_NR_MAIL));
}

static sfsistat
on_rcpt(SMFICTX *ctx, char **argv)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !enter(t))
		return (refuse(t, SMFIP_NR_RCPT));
	return (
	    answer(t, stage_rcpt(t, (const char *const *)argv), SMFIP_NR_RCPT));
}

static sfsistat
on_header(SMFICTX *ctx, char *name, char *value)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !enter(t))
		return (refuse(t, SMFIP_NR_HDR));
	stage_header(t, name, value);
	return (answer(t, MILL_CONTINUE, SMFIP_NR_HDR));
}

static sfsistat
on_headers_end(SMFICTX *ctx)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !enter(t))
		return (refuse(t, SMFIP_NR_EOH));
	return (answer(t, stage_headers(t), SMFIP_NR_EOH));
}

static sfsistat
on_body(SMFICTX *ctx, unsigned char *bytes, size_t n)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !enter(t))
		return (refuse(t, SMFIP_NR_BODY));
	stage_body(t, bytes, n);
	return (answer(t, MILL_CONTINUE, SMFIP_NR_BODY));
}

static void
set_working(struct mill_txn *t, bool on)
{
	(void)pthread_mutex_lock(&t->lock);
	t->working = on;
	t->told_ms = now_ms();
	(void)pthread_mutex_unlock(&t->lock);
	(void)pthread_mutex_lock(&working_lock);
	if (on) {
		t->prev_working = NULL;
		if ((t->next_working = working) != NULL)
			working->prev_working = t;
		working = t;
	} else {
		if (t->prev_working != NULL)
			t->prev_working->next_working = t->next_working;
		else
			working = t->next_working;
		if (t->next_working != NULL)
			t->next_working->prev_working = t->prev_working;
	}
	(void)pthread_mutex_unlock(&working_lock);
}

/* tell_progress - a thread: five bytes to each MTA that waits */
static void *
tell_progress(void *arg)
{
	const struct timespec second = { 1, 0 };
	struct mill_txn *t;
	int64_t now;

	(void)arg;
	for (;;) {
		(void)nanosleep(&second, NULL);
		now = now_ms();
		(void)pthread_mutex_lock(&working_lock);
		for (t = working; t != NULL; t = t->next_working) {
			(void)pthread_mutex_lock(&t->lock);
			if (t->working && now - t->told_ms >= SDK_PROGRESS_MS) {
				(void)smfi_progress(t->backend);
				t->told_ms = now;
			}
			(void)pthread_mutex_unlock(&t->lock);
		}
		(void)pthread_mutex_unlock(&working_lock);
	}
	return (NULL);
}

/* in_brackets - addresses leave as every MTA takes them */
static char *
in_brackets(struct mill_txn *t, const char *addr)
{
	size_t n = strlen(addr);
	char *s = arena_alloc(&t->message, n + 3);

	if (s != NULL)
		(void)snprintf(s, n + 3, "<%s>", addr);
	return (s);
}

static int
apply_addr(struct mill_txn *t, const struct edit *e)
{
	char *addr = in_brackets(t, e->name);
	char *args = (char *)(uintptr_t)e->value;
	SMFICTX *ctx = t->backend;

	if (addr == NULL)
		return (MI_FAILURE);
	if (e->kind == EDIT_SENDER)
		return (smfi_chgfrom(ctx, addr, args));
	if (e->kind == EDIT_DEL_RCPT)
		return (smfi_delrcpt(ctx, addr));
	if (args != NULL)
		return (smfi_addrcpt_par(ctx, addr, args));
	return (smfi_addrcpt(ctx, addr));
}

static int
apply_body(SMFICTX *ctx, const struct edit *e)
{
	static unsigned char empty_line[] = "\r\n";

	/* libmilter sends nothing at all for no bytes. */
	if (e->len == 0)
		return (smfi_replacebody(ctx, empty_line, 2));
	return (smfi_replacebody(
	    ctx, (unsigned char *)(uintptr_t)e->value, (int)e->len));
}

static int
apply(struct mill_txn *t, const struct edit *e)
{
	char *name = (char *)(uintptr_t)e->name;
	char *value = (char *)(uintptr_t)e->value;
	SMFICTX *ctx = t->backend;

	switch (e->kind) {
	case EDIT_CHANGE:
	case EDIT_DELETE: /* value NULL; 1-based on the wire */
		return (smfi_chgheader(ctx, name, (int)e->index + 1, value));
	case EDIT_INSERT:
		return (smfi_insheader(ctx, (int)e->index, name, value));
	case EDIT_ADD:
		return (smfi_addheader(ctx, name, value));
	case EDIT_SENDER:
	case EDIT_DEL_RCPT:
	case EDIT_ADD_RCPT:
		return (apply_addr(t, e));
	case EDIT_BODY:
		return (apply_body(ctx, e));
	case EDIT_QUARANTINE:
		return (smfi_quarantine(ctx, name));
	}
	return (MI_FAILURE);
}

static sfsistat
on_message(SMFICTX *ctx)
{
	struct mill_txn *t = txn_of(ctx);
	const struct edit *e;
	enum mill_verdict v;
	sfsistat r;

	if (t == NULL || !enter(t))
		return (refuse(t, 0));
	set_working(t, true);
	v = stage_message(t);
	set_working(t, false);
	for (e = t->edits; (v == MILL_CONTINUE || v == MILL_ACCEPT) && e;
	     e = e->next)
		if (apply(t, e) != MI_SUCCESS) {
			mill_log(t, LOG_ERR, "an edit was refused");
			v = MILL_TEMPFAIL; /* the MTA drops all of them */
		}
	r = answer(t, v, 0);
	txn_end_message(t);
	count(t);
	return (r);
}

static sfsistat
on_abort(SMFICTX *ctx)
{
	struct mill_txn *t = smfi_getpriv(ctx);

	if (t != NULL) {
		txn_end_message(t);
		count(t);
	}
	return (SMFIS_CONTINUE);
}

static sfsistat
on_close(SMFICTX *ctx)
{
	struct mill_txn *t = smfi_getpriv(ctx);

	/* Not beside fini(): the process is about to end. */
	if (t == NULL)
		return (SMFIS_CONTINUE);
	if (!enter(t)) {
#ifdef SANITIZER
		if (__lsan_ignore_object != NULL)
			__lsan_ignore_object(t);
#endif
		return (SMFIS_CONTINUE);
	}
	(void)smfi_setpriv(ctx, NULL);
	txn_free(&t);
	in_hand--;
	return (SMFIS_CONTINUE);
}

int
engine_open(const struct mill_filter *f, const char *where)
{
	struct smfiDesc desc = { .xxfi_name = (char *)(uintptr_t)f->name,
		.xxfi_version = SMFI_VERSION,
		.xxfi_flags = actions_for(f->edits) | SMFIF_SETSYMLIST,
		.xxfi_connect = on_connect,
		.xxfi_helo = on_helo,
		.xxfi_envfrom = on_mail,
		.xxfi_envrcpt = on_rcpt,
		.xxfi_header = on_header,
		.xxfi_eoh = on_headers_end,
		.xxfi_body = on_body,
		.xxfi_eom = on_message,
		.xxfi_abort = on_abort,
		.xxfi_close = on_close,
		.xxfi_negotiate = on_negotiate };
	mode_t old;
	int rc;

	filter = f;
	if (listen_check(where) == -1)
		return (-1);
	errno = EINVAL; /* libmilter keeps no reason of most failures */
	if (smfi_register(desc) != MI_SUCCESS ||
	    smfi_setconn((char *)(uintptr_t)where) != MI_SUCCESS)
		return (-1);
	(void)smfi_setbacklog(512);
	old = umask(0117); /* the socket: 0660 */
	rc = smfi_opensocket(true);
	(void)umask(old);
	if (rc == MI_SUCCESS)
		listen_made(where);
	return (rc == MI_SUCCESS ? 0 : -1);
}

static void *
run_libmilter(void *arg)
{
	(void)arg;
	asked = smfi_main() == MI_SUCCESS;
	ended = true;
	return (NULL);
}

int
engine_start(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;
	int rc;

	/* Signals are for the caller's thread, but for one. */
	(void)sigfillset(&all);
	(void)sigdelset(&all, signals_rest());
	if ((errno = pthread_attr_init(&attr)) != 0)
		return (-1);
	if ((rc = pthread_attr_setdetachstate(
	         &attr, PTHREAD_CREATE_DETACHED)) == 0 &&
	    (rc = pthread_attr_setsigmask_np(&attr, &all)) == 0 &&
	    (rc = pthread_create(&thread, &attr, tell_progress, NULL)) == 0)
		rc = pthread_create(&thread, &attr, run_libmilter, NULL);
	(void)pthread_attr_destroy(&attr);
	errno = rc;
	return (rc == 0 ? 0 : -1);
}
