/* SPDX-License-Identifier: ISC */
#ifndef MILLDAM_MILLDAM_H
#define MILLDAM_MILLDAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * libmilldam - write a mail filter as a few functions that decide
 *
 * A filter is one struct mill_filter: a name, a table of settings, and one
 * function for each stage at which it wants to decide.  main() is one call of
 * mill_main(), which reads the command line and the settings, listens, speaks
 * the Milter protocol with Milldam, Sendmail or Postfix, and calls the
 * functions.
 *
 * Conventions of this header, stated once:
 * - A decide function sees the transaction so far and returns a verdict.  Each
 *   may be NULL.  What no declared stage needs is not asked of the MTA.
 * - Many threads call the functions at once, but one transaction is in one
 *   function at a time.  Keep state in the transaction or behind a lock.
 * - const char * returned is borrowed: until the end of the message (sender,
 *   recipients, header, body) or of the session (client, HELO); a macro until
 *   the function that asked for it returns.  All strings end in NUL and hold no
 *   other NUL; they come from the network unless said otherwise, and may hold
 *   any other byte.
 * - Indices count from 0.  Sizes are bytes.
 * - int functions return 0, or -1 with errno: EINVAL an argument is malformed,
 *   EMSGSIZE a limit is reached, ENOMEM, ENOTSUP the edit was not declared or
 *   the MTA does not offer it.  A failed call changes nothing.
 * - Edits are collected and leave together after the message's last verdict,
 *   if that is MILL_CONTINUE or MILL_ACCEPT; otherwise none does.  They may be
 *   made at any stage of a message (mail and later; before it they are EINVAL)
 *   and are the message's: one made for a recipient that is then refused stays.
 *
 * ABI: structures grow only at their end, and MILL_ABI then grows; mill_main()
 * accepts any smaller number.
 */
#define MILL_ABI 2 /* 2: quick */

struct mill_txn;   /* one session and the message in hand */
struct mill_conf;  /* settings while they are read */
struct mill_block; /* a block { ... } in the settings */
struct mill_nets;  /* a list of networks */

#define MILL_PRINTF(fmt, args) __attribute__((__format__(printf, fmt, args)))
#define MILL_CHECK             __attribute__((__warn_unused_result__))

/*
 * What a decide function answers.  Zero is the safe one.
 *
 * At connect and helo a verdict other than MILL_CONTINUE is for the whole
 * session, at rcpt for that recipient alone, else for the message.
 */
enum mill_verdict {
	MILL_TEMPFAIL = 0, /* 451: the client tries again later */
	MILL_CONTINUE,     /* go on; at message: accept */
	MILL_ACCEPT,       /* go on and do not ask this filter again about the
	                      session or message; at rcpt the same as
	                      MILL_CONTINUE: others are still asked about */
	MILL_REJECT,       /* 550 5.7.1 */
	MILL_DISCARD       /* swallow without a bounce.  At rcpt only that
	                      recipient is dropped (MILL_EDIT_DEL_RCPT must be
	                      declared).  At connect and helo it does not exist:
	                      it is logged as a fault and becomes MILL_TEMPFAIL */
};

enum mill_stage {
	MILL_AT_CONNECT,
	MILL_AT_HELO,
	MILL_AT_MAIL,
	MILL_AT_RCPT,
	MILL_AT_HEADERS, /* after the last header field */
	MILL_AT_MESSAGE, /* after the last byte */
	MILL_N_STAGES
};

#define MILL_QUICK(stage) (1U << (stage))
#define MILL_QUICK_ALL    (MILL_QUICK(MILL_N_STAGES) - 1)

/* Edits that a filter may make; all others fail with ENOTSUP. */
enum {
	MILL_EDIT_ADD_HEADER = 1 << 0,    /* add and insert */
	MILL_EDIT_CHANGE_HEADER = 1 << 1, /* change and delete */
	MILL_EDIT_BODY = 1 << 2,
	MILL_EDIT_ADD_RCPT = 1 << 3,
	MILL_EDIT_DEL_RCPT = 1 << 4,
	MILL_EDIT_SENDER = 1 << 5,
	MILL_EDIT_QUARANTINE = 1 << 6
};

/* What a filter never reads.  By default all that comes before its last
 * declared stage is sent to it (the body only if max_body is set). */
enum {
	MILL_WITHOUT_CLIENT = 1 << 0,
	MILL_WITHOUT_HELO = 1 << 1,
	MILL_WITHOUT_SENDER = 1 << 2,
	MILL_WITHOUT_RCPTS = 1 << 3,
	MILL_WITHOUT_HEADERS = 1 << 4
};

/*
 * Settings.  The file's language is that of milldam.conf(5):
 *	name = value
 *	kind "title" { name = value ... }
 * The table says which names exist at the top level; each has a member in the
 * filter's settings structure, which libmilldam fills.  A name that is neither
 * in the table nor asked for by load() is a mistake, reported with its place.
 * Repeated blocks are read by load(), see mill_conf_next().
 */
enum mill_type {
	MILL_STRING, /* const char * */
	MILL_PATH,   /* const char *; relative ones are taken from the folder of
	                the settings file */
	MILL_BOOL,   /* bool: yes, no */
	MILL_INT,    /* int64_t */
	MILL_SIZE,   /* uint64_t bytes: 100, 64K, 10M */
	MILL_TIME,   /* uint64_t milliseconds: 500ms, 5s, 10m, 4h, 5d */
	MILL_WORD,   /* int: index into words */
	MILL_LIST, /* const char *const *: ends with NULL, never NULL itself */
	MILL_NETS  /* const struct mill_nets *: never NULL */
};

struct mill_option {
	const char *name; /* NULL ends the table */
	enum mill_type type;
	size_t offset;     /* offsetof(struct settings, member) */
	const char *value; /* default as written in a file ("10s", "yes"; a list
	                      with commas); NULL: 0, NULL or an empty list */
	const char *help;  /* one line for -h */
	int64_t min, max;  /* of INT, SIZE, TIME; both 0: any that is >= 0 */
	const char *const *words; /* of MILL_WORD; ends with NULL */
};

struct mill_filter {
	int abi;             /* MILL_ABI */
	const char *name;    /* program and log name: "milldam-virus" */
	const char *version; /* for -h; may be NULL */

	const struct mill_option *options; /* may be NULL */
	size_t settings_size; /* sizeof the settings structure; 0: none */

	/*
	 * load - complete settings just read: blocks, tables, checks across
	 * options.  Called at the start, with -n, and at each SIGHUP for a new
	 * structure; a session keeps the one that it began with.  Mistakes are
	 * reported by mill_conf_error().  0, or -1 when it failed otherwise
	 * (logged by it).  After any mistake or failure unload() is called, so
	 * leave the structure in a state that it can free.  At SIGHUP it runs
	 * beside decide functions (those have other settings).
	 */
	int (*load)(void *settings, struct mill_conf *);
	/* unload - free what load() made; the table's members are not yours.
	 * In whichever thread ends the last session with these settings; not at
	 * the end of the program. */
	void (*unload)(void *settings);

	/*
	 * init - once, after privileges are dropped and the daemon is in the
	 * background, before the first session; not with -n.  Start threads and
	 * helper processes here.  -1: the program ends with 75.
	 * fini - at a graceful stop, after the last transaction: no function of
	 * the filter runs beside it or later.  Not called if something was
	 * still in hand 10 s after the signal.
	 */
	int (*init)(void *settings);
	void (*fini)(void);

	/* The stages; NULL = not declared. */
	enum mill_verdict (*connect)(struct mill_txn *);
	enum mill_verdict (*helo)(struct mill_txn *);
	enum mill_verdict (*mail)(struct mill_txn *);
	enum mill_verdict (*rcpt)(struct mill_txn *);
	enum mill_verdict (*headers)(struct mill_txn *);
	enum mill_verdict (*message)(struct mill_txn *);

	unsigned edits;   /* MILL_EDIT_... that may be made */
	unsigned without; /* MILL_WITHOUT_... */

	/*
	 * Bytes of body kept for the message stage; 0: the body is not asked
	 * for.  A longer one: oversize says what happens.  MILL_CONTINUE calls
	 * message() with the first max_body bytes and mill_body_truncated()
	 * true; any other is the verdict (451 4.3.4, 552 5.3.4) and message()
	 * is not called.  load() may choose others: mill_conf_max_body().
	 */
	size_t max_body;
	enum mill_verdict oversize;

	/*
	 * Macros beyond those that every MTA sends by default, per stage, with
	 * blanks between: [MILL_AT_CONNECT] = "{client_ptr} {tls_version}".  A
	 * list replaces the MTA's default for that stage; the queue id and the
	 * login are added to it by libmilldam.  MILL_AT_HEADERS,
	 * MILL_AT_MESSAGE: end of header, end of message.
	 */
	const char *macros[MILL_N_STAGES];

	/*
	 * quick - stages whose function never waits: not for the network, a
	 * process, a slow disk, or a lock that another stage keeps for long
	 * (MILL_QUICK_ALL: none of them does).  The events back-end runs those
	 * in its one loop, which costs the least; while one waited, all other
	 * sessions would too.  The others run in threads, as many as are needed
	 * at once, at most 64.
	 */
	unsigned quick; /* MILL_QUICK(stage) | ... */
};

/*
 * mill_main - be a filter: returns the exit status of the program.
 *
 *	-p SOCKET  where to listen: unix:/path, inet:PORT@HOST, inet6:PORT@HOST,
 *	           or as Postfix writes it, inet:HOST:PORT
 *	-c FILE    settings; none: all defaults
 *	-n         check settings only
 *	-f         stay in the foreground (default)
 *	-d         detach; logs go to syslog
 *	-P FILE    write the process id there
 *	-u USER    become USER (and its groups)
 *	-l FORM    log to stderr (default), syslog (default with -d), or as json
 *	-e ENGINE  who speaks the protocol: events (libmilldam itself, by an
 *event loop; default) or libmilter (sendmail's library) -v         log more -h
 *help: options and settings
 *
 * Status: 0 stopped by SIGTERM or SIGINT, or -n without mistakes; 64 wrong
 * usage; 70 the definition is at fault; 75 it could not start; 78 mistakes in
 * the settings, each as file:line.  SIGHUP reads the settings again; with
 * mistakes the old ones stay and the mistakes are logged.  A Unix socket has
 * mode 0660; a stale one is replaced, one that is served is not (75).  While
 * message() works, the MTA is told every few seconds that it does.  At a stop
 * messages in hand are finished for up to 10 s, and others get 451 4.3.2.
 */
int mill_main(const struct mill_filter *, int argc, char **argv);

/* mill_settings - the settings structure of this transaction; stays until the
 * session's end even when SIGHUP brought newer ones */
const void *mill_settings(const struct mill_txn *);

/*
 * Replies.
 *
 * mill_reply - set the text for the verdict to be returned, and return that
 * verdict: MILL_REJECT for code 500..599, MILL_TEMPFAIL for 400..499.
 *	return (mill_reply(txn, 550, "5.7.1", "%s: no such user", rcpt));
 * xcode is an enhanced status code of the same class (RFC 3463), or NULL.  LF
 * in the text begins another line (at most 32 of 480 bytes; more is cut);
 * control bytes become '?'; '%' needs no care.  421 also ends the SMTP session.
 * A wrong code or xcode is a fault of the filter: it is logged, and the MTA's
 * default text is used.
 */
enum mill_verdict mill_reply(struct mill_txn *, int code, const char *xcode,
    const char *fmt, ...) MILL_PRINTF(4, 5);

/*
 * The session.
 *
 * mill_client_name  name confirmed by the MTA, else "[192.0.2.1]"; "" when the
 *                   MTA did not say
 * mill_client_addr  numeric IPv4 or IPv6, without a prefix; "" for mail that
 *                   came over no network
 * mill_client_port  0 unknown
 * mill_client_in    whether the address is in the list; false for ""
 * mill_helo         "" before HELO
 * mill_auth         login of the authenticated client ({auth_authen}), "" none
 * mill_macro        value of a macro, "i" or "{rcpt_host}"; NULL if not sent
 * mill_queue_id     "" while the MTA has not said (Postfix: before the first
 *                   recipient was accepted)
 */
const char *mill_client_name(const struct mill_txn *);
const char *mill_client_addr(const struct mill_txn *);
uint16_t mill_client_port(const struct mill_txn *);
bool mill_client_in(const struct mill_txn *, const struct mill_nets *);
const char *mill_helo(const struct mill_txn *);
const char *mill_auth(const struct mill_txn *);
const char *mill_macro(const struct mill_txn *, const char *name);
const char *mill_queue_id(const struct mill_txn *);

/*
 * The envelope.  Addresses stand without angle brackets; the null sender is "".
 *
 * mill_sender_args, mill_rcpt_args  ESMTP arguments as sent ("SIZE=100"); ends
 *                with NULL, never NULL itself
 * mill_rcpt      the recipient in hand at the rcpt stage, else ""
 * mill_n_rcpts   recipients that this filter let pass so far (the MTA or a
 *                later filter may still have refused some)
 * mill_rcpt_at   one of them, in order; i < mill_n_rcpts(), "" beyond
 */
const char *mill_sender(const struct mill_txn *);
const char *const *mill_sender_args(const struct mill_txn *);
const char *mill_rcpt(const struct mill_txn *);
const char *const *mill_rcpt_args(const struct mill_txn *);
size_t mill_n_rcpts(const struct mill_txn *);
const char *mill_rcpt_at(const struct mill_txn *, size_t i);

/*
 * The header as it arrived (edits do not show), in order; headers and message
 * stage.  Names compare without case.
 *
 * mill_header        value of the n-th field of that name, unfolded (line ends
 *                    removed, blanks around it too); NULL if there is none
 * mill_n_headers     number of fields
 * mill_header_name   name of field i, as written
 * mill_header_value  its value, unfolded
 * mill_header_raw    its value as the MTA sent it: folded by LF and a blank
 * mill_header_nth    how many fields of the same name stand before field i: the
 *                    nth that mill_change_header() and others want
 */
const char *mill_header(const struct mill_txn *, const char *name, size_t n);
size_t mill_n_headers(const struct mill_txn *);
const char *mill_header_name(const struct mill_txn *, size_t i);
const char *mill_header_value(const struct mill_txn *, size_t i);
const char *mill_header_raw(const struct mill_txn *, size_t i);
size_t mill_header_nth(const struct mill_txn *, size_t i);

/*
 * mill_body - the body, lines ended by CRLF; may hold NUL.  Message stage, and
 * only if max_body is set.  Never NULL (length 0 if there is none).
 * mill_body_truncated - whether it was longer than max_body.
 */
const void *mill_body(const struct mill_txn *, size_t *len_r);
bool mill_body_truncated(const struct mill_txn *);

/*
 * Edits.  A header value may be folded by LF and a blank; other control bytes
 * but TAB, and a line of more than 998 bytes, are EINVAL.  nth counts fields of
 * the name as they arrived, whatever else is edited.
 *
 * mill_add_header     at the bottom of the header
 * mill_insert_header  at the top; with index above 0 below that many fields,
 *                     which count those that the MTA itself puts on top
 * mill_change_header  replace the value of the nth field; add it if none
 * mill_delete_header  remove it; no error if none
 * mill_replace_body   the whole body; lines ended by CRLF; the last call wins
 * mill_add_rcpt       args: ESMTP arguments with blanks between, or NULL
 * mill_del_rcpt       as it stands in the envelope
 * mill_change_sender  "" is the null sender; the last call wins
 * mill_quarantine     hold the message for the postmaster with this reason (at
 *                     most 100 bytes are kept); the last call wins
 */
int mill_add_header(
    struct mill_txn *, const char *name, const char *value) MILL_CHECK;
int mill_insert_header(struct mill_txn *, unsigned index, const char *name,
    const char *value) MILL_CHECK;
int mill_change_header(struct mill_txn *, const char *name, size_t nth,
    const char *value) MILL_CHECK;
int mill_delete_header(
    struct mill_txn *, const char *name, size_t nth) MILL_CHECK;
int mill_replace_body(struct mill_txn *, const void *, size_t len) MILL_CHECK;
int mill_add_rcpt(
    struct mill_txn *, const char *addr, const char *args) MILL_CHECK;
int mill_del_rcpt(struct mill_txn *, const char *addr) MILL_CHECK;
int mill_change_sender(
    struct mill_txn *, const char *addr, const char *args) MILL_CHECK;
int mill_quarantine(struct mill_txn *, const char *reason) MILL_CHECK;

/*
 * Pointers of the filter, NULL until set.  free_fn (may be NULL) is called with
 * the pointer when it is replaced and at the end of the session or message.
 */
void mill_set_session_data(struct mill_txn *, void *, void (*free_fn)(void *));
void *mill_session_data(const struct mill_txn *);
void mill_set_message_data(struct mill_txn *, void *, void (*free_fn)(void *));
void *mill_message_data(const struct mill_txn *);

/*
 * mill_log - one line to the log; priority of syslog(3) (LOG_ERR, LOG_WARNING,
 * LOG_INFO, LOG_DEBUG).  txn may be NULL; with one the line begins with the
 * queue id.  Control bytes are made harmless, so text of the network may be
 * logged.
 */
void mill_log(const struct mill_txn *, int priority, const char *fmt, ...)
    MILL_PRINTF(3, 4);

/*
 * Blocks and single values, in load() only.  block NULL is the top level.  A
 * wrong value is reported with its place, and def is returned.  Strings live as
 * long as the settings structure.
 *
 * mill_conf_next    the first block of that kind inside parent (after NULL), or
 *                   the one after `after'; NULL when there is no more.
 *	for (b = NULL; (b = mill_conf_next(conf, NULL, "header", b)) != NULL;)
 *		name = mill_conf_string(conf, b, "name", NULL);
 * mill_conf_title   its title, NULL without one
 * mill_conf_has     whether the option is written there
 * mill_conf_list    values of a list (or the one value); NULL-terminated, empty
 *                   if absent
 * mill_conf_nets    a list of networks; mistakes are reported; never NULL
 * mill_conf_word    index into words (NULL-terminated)
 * mill_conf_error   report a mistake at the option of that name in the block
 *                   (name NULL or absent: at the block's first line)
 */
const struct mill_block *mill_conf_next(struct mill_conf *,
    const struct mill_block *parent, const char *kind,
    const struct mill_block *after);
const char *mill_conf_title(const struct mill_block *);
bool mill_conf_has(
    struct mill_conf *, const struct mill_block *, const char *name);
const char *mill_conf_string(struct mill_conf *, const struct mill_block *,
    const char *name, const char *def);
const char *mill_conf_path(struct mill_conf *, const struct mill_block *,
    const char *name, const char *def);
bool mill_conf_bool(
    struct mill_conf *, const struct mill_block *, const char *name, bool def);
int64_t mill_conf_int(struct mill_conf *, const struct mill_block *,
    const char *name, int64_t def, int64_t min, int64_t max);
uint64_t mill_conf_size(struct mill_conf *, const struct mill_block *,
    const char *name, uint64_t def);
uint64_t mill_conf_time(struct mill_conf *, const struct mill_block *,
    const char *name, uint64_t def);
int mill_conf_word(struct mill_conf *, const struct mill_block *,
    const char *name, const char *const *words, int def);
const char *const *mill_conf_list(
    struct mill_conf *, const struct mill_block *, const char *name);
const struct mill_nets *mill_conf_nets(
    struct mill_conf *, const struct mill_block *, const char *name);
void mill_conf_error(struct mill_conf *, const struct mill_block *,
    const char *name, const char *fmt, ...) MILL_PRINTF(4, 5);

/* mill_conf_max_body - choose max_body and oversize for these settings; 0:
 * every body is too large.  A mistake if the filter declares no max_body. */
void mill_conf_max_body(
    struct mill_conf *, uint64_t max_body, enum mill_verdict oversize);

/* mill_nets_has - whether addr (numeric IPv4 or IPv6) is in one of the
 * networks; false for anything else */
bool mill_nets_has(const struct mill_nets *, const char *addr);

#ifdef __cplusplus
}
#endif

#endif
