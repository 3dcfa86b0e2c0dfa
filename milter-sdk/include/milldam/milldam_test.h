/* SPDX-License-Identifier: ISC */
#ifndef MILLDAM_MILLDAM_TEST_H
#define MILLDAM_MILLDAM_TEST_H

#include <milldam/milldam.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A transaction without sockets, for unit tests of filters: say what a client
 * says, look at the verdicts and the edits.  Conventions as in milldam.h; the
 * MTA that is played offers every edit.
 *
 *	struct mill_test *t = mill_test_new(&my_filter, "limit = 3\n");
 *	mill_test_connect(t, "192.0.2.1", "mx.example.org");
 *	mill_test_mail(t, "a@example.org", NULL);
 *	assert(mill_test_rcpt(t, "b@example.net") == MILL_REJECT);
 *	assert(strcmp(mill_test_reply(t), "550 5.7.1 No\n") == 0);
 *	mill_test_free(&t);
 *
 * Verdicts are those that the MTA sees: MILL_ACCEPT at rcpt shows as
 * MILL_CONTINUE, one at mail or headers too if edits were made before, and a
 * message whose recipients were all discarded is MILL_DISCARD at its end.
 */
struct mill_test;

/* mill_test_new - settings: text of a settings file, "" for the defaults.  NULL
 * with mistakes in it (written to stderr).  init() is not called. */
struct mill_test *mill_test_new(
    const struct mill_filter *, const char *settings);
void mill_test_free(struct mill_test **);

/* mill_test_macro - define a macro ("{auth_authen}"); value NULL removes it */
void mill_test_macro(struct mill_test *, const char *name, const char *value);

/*
 * The SMTP session, in its order.  address "" or NULL: not over the network;
 * name NULL: unconfirmed.  args: ESMTP arguments with blanks between, or NULL.
 * mill_test_headers() ends the header, mill_test_message() the message;
 * mill_test_abort() is RSET.  The end of a message keeps the reply and the
 * edits until the next MAIL.
 */
enum mill_verdict mill_test_connect(
    struct mill_test *, const char *address, const char *name);
enum mill_verdict mill_test_helo(struct mill_test *, const char *name);
enum mill_verdict mill_test_mail(
    struct mill_test *, const char *sender, const char *args);
enum mill_verdict mill_test_rcpt(struct mill_test *, const char *rcpt);
enum mill_verdict mill_test_rcpt_args(
    struct mill_test *, const char *rcpt, const char *args);
void mill_test_header(struct mill_test *, const char *name, const char *value);
enum mill_verdict mill_test_headers(struct mill_test *);
void mill_test_body(struct mill_test *, const void *, size_t len);
enum mill_verdict mill_test_message(struct mill_test *);
void mill_test_abort(struct mill_test *);

/* mill_test_eml - header, body and end of a message as stored in a file; lines
 * end in LF or CRLF.  The first verdict that is final. */
enum mill_verdict mill_test_eml(struct mill_test *, const void *, size_t len);

/* mill_test_reply - text set for the last verdict, one line "550 5.7.1 text\n"
 * for each of the reply's; "" if none was */
const char *mill_test_reply(struct mill_test *);

/*
 * mill_test_edits - after a message that passed: one line for each edit, in the
 * order in which the MTA gets them; "" if there are none.  LF in a value shows
 * as "\n".
 *
 *	change NAME[NTH]: VALUE
 *	delete NAME[NTH]
 *	insert INDEX NAME: VALUE
 *	add NAME: VALUE
 *	sender <ADDR> ARGS
 *	rcpt- <ADDR>
 *	rcpt+ <ADDR> ARGS
 *	body LENGTH
 *	quarantine REASON
 */
const char *mill_test_edits(struct mill_test *);

/* mill_test_new_body - the body that replaced the other; NULL if none did */
const void *mill_test_new_body(struct mill_test *, size_t *len_r);

#ifdef __cplusplus
}
#endif

#endif
