/* SPDX-License-Identifier: ISC */
#ifndef SDK_SDK_H
#define SDK_SDK_H

#include "milter-sdk/base/buf.h"
#include "milter-sdk/base/cidr.h"
#include "milter-sdk/base/conf.h"
#include "milter-sdk/src/arena.h"

#include <milldam/milldam.h>
#include <pthread.h>

/*
 * What the parts of libmilldam share.  The back-ends (libmilter.c, and mta.c
 * below events.c) and test.c (no sockets) feed the same functions of stage.c.
 */
enum {
	SDK_SESSION_MAX = 64 << 10, /* bytes kept of a session */
	SDK_MESSAGE_MAX = 16 << 20, /* of envelope, header and edits */
	SDK_REPLY_LINES = 32,       /* libmilter's limit */
	SDK_REPLY_LINE = 480,       /* half of libmilter's: '%' is doubled */
	SDK_REPLY_TEXT = SDK_REPLY_LINES * (SDK_REPLY_LINE + 1),
	SDK_HEADER_LINE = 998, /* RFC 5322 2.1.1 */
	SDK_REASON_MAX = 100,  /* what Postfix keeps */
	SDK_OPTIONS_MAX = 127, /* in a filter's table */
	SDK_MACROS_MAX = 448,  /* bytes of a filter's list of macros */
	SDK_PROGRESS_MS = 4000 /* Sendmail waits 10 s by default */
};

struct mill_nets {
	struct cidr_list list;
	struct mill_nets *next;
};

/* Settings as read once; shared by the sessions that began with them. */
struct loaded {
	unsigned refs; /* under a lock of settings.c */
	const struct mill_filter *filter;
	void *data;         /* the filter's structure; NULL without one */
	struct conf conf;   /* strings point into it */
	struct arena arena; /* lists, paths */
	struct mill_nets *nets;
	uint64_t max_body;
	enum mill_verdict oversize;
};

struct mill_conf {
	struct conf *conf;
	struct loaded *loaded;
};

/*
 * loaded_read - path NULL: defaults; text not NULL: from memory, path names it.
 * NULL with errno 0 when there is a mistake (all are in errors), else -1's
 * errno.
 */
struct loaded *loaded_read(const struct mill_filter *, const char *path,
    const char *text, struct buf *errors);
/* filter_fault - what is wrong with the definition; NULL: nothing */
const char *filter_fault(const struct mill_filter *);
struct loaded *loaded_ref(struct loaded *);
void loaded_unref(struct loaded **);

enum edit_kind { /* in the order in which they leave */
	EDIT_CHANGE,
	EDIT_DELETE,
	EDIT_INSERT,
	EDIT_ADD,
	EDIT_SENDER,
	EDIT_DEL_RCPT,
	EDIT_ADD_RCPT,
	EDIT_BODY,
	EDIT_QUARANTINE
};

struct edit {
	struct edit *next;
	enum edit_kind kind;
	size_t index;      /* of INSERT; nth of CHANGE and DELETE */
	const char *name;  /* header name, address or reason */
	const char *value; /* header value, ESMTP arguments (or NULL) */
	size_t len;        /* of BODY, whose bytes are value */
};

struct field {
	const char *name;
	const char *raw;
	const char *value; /* unfolded */
};

struct addr {
	const char *text; /* without brackets */
	const char *const *args;
};

struct reply {
	int code;       /* 0: none */
	char xcode[12]; /* "" none */
	size_t n_lines;
	const char *lines[SDK_REPLY_LINES]; /* in text */
	char *text; /* SDK_REPLY_TEXT bytes; NULL until there was one */
};

struct user_data {
	void *p;
	void (*free_fn)(void *);
};

struct mill_txn {
	const struct mill_filter *filter;
	struct loaded *loaded;
	unsigned edits_allowed; /* MILL_EDIT_: declared and offered */
	const char *(*macro)(const struct mill_txn *, const char *);
	void *backend; /* SMFICTX or struct mill_test */

	/* the session */
	struct arena session;
	const char *client_name;
	char client_addr[46]; /* INET6_ADDRSTRLEN */
	uint16_t client_port;
	const char *helo;
	struct user_data session_data;
	bool session_accepted;

	/* the message */
	struct arena message;
	enum mill_stage stage; /* in hand */
	bool in_message;
	bool accepted; /* do not ask again about it */
	bool failed;   /* something did not fit or memory ran out */
	struct addr sender;
	struct addr rcpt; /* at MILL_AT_RCPT */
	struct addr *rcpts;
	size_t n_rcpts, cap_rcpts;
	struct addr *dropped; /* MILL_DISCARD at rcpt */
	size_t n_dropped, cap_dropped;
	struct field *fields;
	size_t n_fields, cap_fields;
	struct buf body;
	bool truncated;
	struct edit *edits, **edits_tail;
	struct user_data message_data;
	struct reply reply;

	/* libmilter.c */
	unsigned long no_reply; /* SMFIP_NR_ that were negotiated */
	bool begun;             /* the session has its settings */

	bool counted; /* among the messages in hand, session.c */

	/* automatic progress, session.c */
	void (*progress)(struct mill_txn *); /* tell the MTA */
	pthread_mutex_t lock;
	bool working; /* message() runs: under lock */
	int64_t told_ms;
	struct mill_txn *next_working, *prev_working;
};

/* txn.c */
struct mill_txn *txn_new(const struct mill_filter *, struct loaded *);
void txn_free(struct mill_txn **);
void txn_end_message(struct mill_txn *);

/*
 * stage.c - take what the MTA said and ask the filter.  What a filter answers
 * is made valid here: a verdict that comes out can be sent as it is, with
 * txn->reply if reply.code is not 0.
 */
enum mill_verdict stage_connect(
    struct mill_txn *, const char *name, const char *addr, uint16_t port);
enum mill_verdict stage_helo(struct mill_txn *, const char *);
/* args: address first, then ESMTP arguments, then NULL */
enum mill_verdict stage_mail(struct mill_txn *, const char *const *args);
enum mill_verdict stage_rcpt(struct mill_txn *, const char *const *args);
void stage_header(struct mill_txn *, const char *name, const char *value);
enum mill_verdict stage_headers(struct mill_txn *);
void stage_body(struct mill_txn *, const void *, size_t);
enum mill_verdict stage_message(struct mill_txn *);

/* edit.c - sort into the order in which every MTA understands them alike */
void edit_sort(struct mill_txn *);
/* edit_drop - the recipients that were discarded one by one; -1 ENOMEM */
int edit_drop(struct mill_txn *) __attribute__((__warn_unused_result__));

/* reply.c */
void reply_set(struct mill_txn *, int code, const char *xcode, const char *);
/* reply_print - "550 5.7.1 text\n" for each line */
void reply_print(const struct reply *, struct buf *);

/*
 * signals.c - signals_catch() before any thread is made, signals_own() when
 * libmilter runs (until it has ended): then signals_wait() gets each SIGHUP,
 * SIGTERM and SIGINT, or 0 after the time.  signals_rest() is the one that
 * libmilter's threads must not block.
 */
int signals_catch(void) MILL_CHECK;
void signals_own(bool (*ended)(void));
int signals_wait(int timeout_ms);
int signals_rest(void);

/*
 * listen.c - listen_text() makes -p's argument what libmilter and the others
 * here take, a relative path absolute; listen_check() is EADDRINUSE if another
 * process serves it; listen_made() remembers the new file and listen_remove()
 * removes that one only.  -1 with errno.
 */
int listen_text(const char *where, char *room, size_t n) MILL_CHECK;
int listen_check(const char *where) MILL_CHECK;
void listen_made(const char *where);
void listen_remove(const char *where);
/* listen_open - a socket that listens there, not blocking, mode 0660; where is
 * listen_text()'s */
int listen_open(const char *where) MILL_CHECK;
int absolute(const char *path, char *room, size_t n) MILL_CHECK;

/*
 * A back-end.  open() listens; start() makes threads that leave signals to the
 * caller; ended() - it has given up; asked() - because of a signal.  -1 with
 * errno.
 */
struct engine {
	const char *name;
	int (*open)(const struct mill_filter *, const char *where);
	int (*start)(void);
	bool (*ended)(void);
	bool (*asked)(void);
};
extern const struct engine engine_events;    /* events.c */
extern const struct engine engine_libmilter; /* libmilter.c */

#ifdef SANITIZER /* which may be one without a leak check */
void __lsan_do_leak_check(void) __attribute__((__weak__));
void __lsan_ignore_object(const void *) __attribute__((__weak__));
#endif

#endif
