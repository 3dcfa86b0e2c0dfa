/* SPDX-License-Identifier: ISC */

/*
 * libmilter - the back-end on sendmail's libmilter: its callbacks feed the
 * stages
 *
 * Where the MTA was told that no reply comes, a callback must return
 * SMFIS_NOREPLY (libmilter logs a line for each other value).
 */

#include "config.h"

#include "milter-sdk/base/log.h"
#include "milter-sdk/src/session.h"
#include "milter-sdk/src/terms.h"

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
static atomic_bool ended, asked;

/* What was last negotiated: for a session that begins after QUIT_NC. */
static pthread_mutex_t negotiated_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long last_no_reply;
static unsigned last_edits;

static bool
has_ended(void)
{
	return (ended);
}

static bool
was_asked(void)
{
	return (asked);
}

static const char *
macro(const struct mill_txn *t, const char *name)
{
	return (smfi_getsymval(t->backend, (char *)(uintptr_t)name));
}

static void
progress(struct mill_txn *t)
{
	(void)smfi_progress(t->backend);
}

static struct mill_txn *
new_txn(SMFICTX *ctx)
{
	struct mill_txn *t = txn_new(filter, session_loaded());

	if (t == NULL)
		return (NULL);
	t->backend = ctx;
	t->macro = macro;
	t->progress = progress;
	return (t);
}

static void
ask_macros(SMFICTX *ctx)
{
	char list[SDK_MACROS_MAX + 64];
	size_t i;

	for (i = 0; i < MILL_N_STAGES; i++)
		if (terms_macros(
		        filter, (enum mill_stage)i, list, sizeof(list)) &&
		    smfi_setsymlist(ctx, terms_stages[i], list) != MI_SUCCESS)
			log_warning("negotiate: macro list refused: %s", list);
}

static sfsistat
on_negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2,
    unsigned long f3, unsigned long *pf0, unsigned long *pf1,
    unsigned long *pf2, unsigned long *pf3)
{
	const struct terms terms =
	    terms_for(filter, (uint32_t)f0, (uint32_t)f1);
	unsigned long lacking = terms_actions(filter) & ~f0;
	struct mill_txn *t = new_txn(ctx);

	(void)f2;
	(void)f3;
	if (t == NULL)
		return (SMFIS_REJECT);
	if ((terms.actions & SMFIF_SETSYMLIST) != 0)
		ask_macros(ctx);
	if (lacking != 0)
		log_warning(
		    "negotiate: the MTA does not offer edits: 0x%lx", lacking);
	*pf0 = terms.actions;
	*pf1 = terms.protocol;
	*pf2 = *pf3 = 0;
	t->no_reply = terms.no_reply;
	t->edits_allowed = terms.edits;
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

	if (t == NULL && (t = new_txn(ctx)) != NULL) {
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
		t->loaded = session_loaded();
		t->body.max = (size_t)t->loaded->max_body;
		t->begun = true;
	}
	return (t);
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

	if ((text = to = malloc(2 * SDK_REPLY_TEXT)) == NULL)
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
	session_count(t);
	if ((t->no_reply & nr) != 0)
		return (SMFIS_NOREPLY);
	if ((v == MILL_REJECT || v == MILL_TEMPFAIL) && t->reply.code != 0)
		send_reply(t);
	/* libmilter calls no abort after a final answer. */
	if (v != MILL_CONTINUE && (nr == SMFIP_NR_MAIL || nr == SMFIP_NR_EOH)) {
		txn_end_message(t);
		session_count(t);
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
		session_refuse(t);
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

	if (t == NULL || !session_enter(t))
		return (refuse(t, SMFIP_NR_CONN));
	address_of((const struct sockaddr *)sa, addr, sizeof(addr), &port);
	return (answer(t,
	    stage_connect(
	        t, session_host(host, addr, name, sizeof(name)), addr, port),
	    SMFIP_NR_CONN));
}

static sfsistat
on_helo(SMFICTX *ctx, char *name)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !session_enter(t))
		return (refuse(t, SMFIP_NR_HELO));
	return (
	    answer(t, stage_helo(t, name != NULL ? name : ""), SMFIP_NR_HELO));
}

static sfsistat
on_mail(SMFICTX *ctx, char **argv)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !session_enter(t))
		return (refuse(t, SMFIP_NR_MAIL));
	return (
	    answer(t, stage_mail(t, (const char *const *)argv), SMFIP_NR_MAIL));
}

static sfsistat
on_rcpt(SMFICTX *ctx, char **argv)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !session_enter(t))
		return (refuse(t, SMFIP_NR_RCPT));
	return (
	    answer(t, stage_rcpt(t, (const char *const *)argv), SMFIP_NR_RCPT));
}

static sfsistat
on_header(SMFICTX *ctx, char *name, char *value)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !session_enter(t))
		return (refuse(t, SMFIP_NR_HDR));
	stage_header(t, name, value);
	return (answer(t, MILL_CONTINUE, SMFIP_NR_HDR));
}

static sfsistat
on_headers_end(SMFICTX *ctx)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !session_enter(t))
		return (refuse(t, SMFIP_NR_EOH));
	return (answer(t, stage_headers(t), SMFIP_NR_EOH));
}

static sfsistat
on_body(SMFICTX *ctx, unsigned char *bytes, size_t n)
{
	struct mill_txn *t = txn_of(ctx);

	if (t == NULL || !session_enter(t))
		return (refuse(t, SMFIP_NR_BODY));
	stage_body(t, bytes, n);
	return (answer(t, MILL_CONTINUE, SMFIP_NR_BODY));
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

	if (t == NULL || !session_enter(t))
		return (refuse(t, 0));
	session_working(t, true);
	v = stage_message(t);
	session_working(t, false);
	for (e = t->edits; (v == MILL_CONTINUE || v == MILL_ACCEPT) && e;
	     e = e->next)
		if (apply(t, e) != MI_SUCCESS) {
			mill_log(t, LOG_ERR, "an edit was refused");
			v = MILL_TEMPFAIL; /* the MTA drops all of them */
		}
	r = answer(t, v, 0);
	txn_end_message(t);
	session_count(t);
	return (r);
}

static sfsistat
on_abort(SMFICTX *ctx)
{
	struct mill_txn *t = smfi_getpriv(ctx);

	if (t != NULL) {
		txn_end_message(t);
		session_count(t);
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
	if (!session_enter(t)) {
#ifdef SANITIZER
		if (__lsan_ignore_object != NULL)
			__lsan_ignore_object(t);
#endif
		return (SMFIS_CONTINUE);
	}
	(void)smfi_setpriv(ctx, NULL);
	txn_free(&t);
	session_release();
	return (SMFIS_CONTINUE);
}

static int
open_socket(const struct mill_filter *f, const char *where)
{
	struct smfiDesc desc = { .xxfi_name = (char *)(uintptr_t)f->name,
		.xxfi_version = SMFI_VERSION,
		.xxfi_flags = terms_actions(f) | SMFIF_SETSYMLIST,
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

static int
start(void)
{
	sigset_t all;

	/* Signals are for the caller's thread, but for one. */
	(void)sigfillset(&all);
	(void)sigdelset(&all, signals_rest());
	if ((errno = session_tell(&all)) != 0 ||
	    (errno = session_thread(run_libmilter, NULL, &all)) != 0)
		return (-1);
	signals_own(has_ended);
	return (0);
}

const struct engine engine_libmilter = { .name = "libmilter",
	.open = open_socket,
	.start = start,
	.ended = has_ended,
	.asked = was_asked };
