/* SPDX-License-Identifier: ISC */
#ifndef CORE_MILTER_CHAIN_INT_H
#define CORE_MILTER_CHAIN_INT_H

#include "core/milter/breaker.h"
#include "core/milter/chain.h"
#include "core/milter/recording.h"
#include "core/milter/stats.h"
#include "core/policy/policy.h"
#include "milter-sdk/base/milter.h"

#include <event2/event.h>
#include <openssl/types.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Inside the chain engine.
 *
 *   chain   one SMTP session: the question in hand, the milters in order
 *   link    one milter of that session: what it has been told and answered
 *   conn    the link's connection: socket, buffers, negotiated options
 *   group   recipients of a message that have the same chain
 *   view    a version of the header and body; groups share it until a milter
 *           that not all of them have changes it
 *
 * A question goes from link to link (chain_step).  A link says whether it is
 * done or waits; whatever happens on its connection ends in chain_wake(), which
 * goes on if the question waits for that link.  The answer is given last, by
 * the outermost function, because it may free the chain.
 */
enum {
	PICK_ABSENT = 0xff,         /* a group's mode of a milter it lacks */
	LINK_EXPECT_MAX = 16,       /* kinds of answer due at one time */
	LINK_STAGES_MAX = 48,       /* stages noted for the record */
	LINK_EDITS_MAX = 4000,      /* changes by one milter to one message */
	PROGRESS_MAX = 10000,       /* answers that say nothing, a question */
	EDIT_FIELD_MAX = 65000,     /* bytes of name and value: the next milter
	                               must be able to see it in one packet */
	EDIT_ENV_MAX = 384 << 10,   /* bytes of an envelope after edits: below
	                               what the receiver can hand to the queue */
	EDIT_ARG_MAX = 500,         /* of ORCPT= and ENVID= (RFC 3461) */
	REASON_MAX = 500,           /* of a quarantine's reason, kept */
	LINK_EDIT_BYTES = 4 << 20,  /* of them, without bodies */
	LINK_NOTES_MAX = 64,        /* edits noted for the record */
	NOTE_TEXT = 200,            /* bytes of each text in the record */
	CONN_OUT_HIGH = 256 << 10,  /* bytes queued before body waits */
	CHAIN_TOTAL_MS = 300 * 1000 /* one question, the whole chain */
};

enum question {
	Q_NONE,
	Q_CONNECT,
	Q_HELO,
	Q_MAIL,
	Q_RCPT,
	Q_DATA,
	Q_MESSAGE,
	Q_UNKNOWN
};

/* An endpoint's run-time state, found by its text; as its milter's. */
struct estate {
	struct estate *next;
	struct mstate *milter;
	char *text;
	struct breaker breaker;
	unsigned busy;     /* connections that sessions have */
	struct conn *idle; /* pooled connections, the last used first */
	unsigned n_idle;
	struct conn *probe;          /* a handshake under way, no session's */
	uint64_t health_us, warm_us; /* when the next may begin */
	uint64_t connects, reused, failures, ejections, probes, probe_failures;
	uint64_t replays; /* to it */
	struct stats stats;
};

/* A milter's run-time state; lives as long as the engine. */
struct mstate {
	struct mstate *next;
	struct estate *endpoints;
	size_t turn; /* of the next connection, for round robin */
	char *name;
	bool present; /* in the current settings */
	bool has_override;
	enum milter_mode override;
	uint64_t sessions, calls, failures, fail_opens, dropped, left_out;
	uint64_t accepts, rejects, tempfails, discards, quarantines, shutdowns;
	uint64_t answers, total_us, max_us; /* latency of stages */
	uint64_t connects, reused, failovers, replays, unlike;
	uint64_t unshown; /* messages that it was not shown in shadow */
};

struct tls { /* keys of a milter's block, read before the sandbox closes */
	struct tls *next;
	char *name; /* the paths */
	SSL_CTX *ctx;
};

struct user { /* who may have made a unix socket: a name and its number */
	struct user *next;
	char *name;
	uid_t uid;
};

struct host { /* a name that an endpoint uses */
	struct host *next;
	char *name;
	uint8_t addr[16];
	bool v6;
};

struct engine {
	struct event_base *base;
	struct settings *settings;
	struct mstate *milters;
	struct host *hosts;
	struct tls *tls;
	struct user *users;
	void (*alarm)(void *, const char *, const char *);
	void *alarm_arg;
	/* for tests: picks a recipient's chain instead of the rules */
	void (*pick)(const struct chain *, const char *rcpt, uint8_t *modes);
	void (*recording_fn)(void *, const char *, const char *, struct buf *);
	void *recording_arg;
	size_t recorded; /* bytes, of recordings under way */
	unsigned n_idle; /* of all milters */
	struct shadow *shadows;
	unsigned n_shadows;  /* of them, that have not come to their end */
	size_t shadow_bytes; /* what they are shown */
	void (*shadow_fn)(void *, const struct chain_shadow *);
	void *shadow_arg;
	struct event *pool_tick;
	struct event *probe_timer;
};

enum conn_phase { CONN_CONNECTING, CONN_TLS, CONN_NEGOTIATING, CONN_READY };

struct conn {
	struct engine *engine;
	struct link *link; /* NULL in the pool, and of a probe */
	struct estate *es;
	const struct milter_conf *conf; /* of the link, else of the engine */
	bool pooled;                    /* in es->idle */
	struct conn *next_idle;
	uint64_t idle_us; /* in the pool since */
	bool at_end;      /* the last command was E, answered "continue" */
	bool reused;      /* from the pool; the peer may be gone */
	bool heard;       /* it has answered since */
	size_t endpoint;
	int fd;
	bool inet;
	enum conn_phase phase;
	SSL *ssl;      /* or NULL */
	char why[160]; /* of the last call that failed with EPROTO */
	struct event *ev_read, *ev_write, *timer;
	struct buf in, out;
	size_t out_off;
	size_t out_noted;     /* of out, by the recording */
	size_t out_let;       /* pipeline = safe: no more of out may leave, */
	bool due;             /* while an answer is due */
	uint64_t deadline_us; /* of the phase, or of the message; 0 none */
	struct milter_options opts;
	char *lists[MILTER_STAGES]; /* owned copies of opts.lists */
};

struct expect {
	char cmd;
	unsigned n;
};

struct stage_note {
	char cmd;
	char reply;  /* '-' no answer was due */
	unsigned n;  /* equal ones in a row */
	uint64_t us; /* in total */
	char *text;  /* of a custom reply, or NULL */
};

struct edit {
	struct milter_edit e; /* strings owned */
};

struct edit_list {
	struct edit *v;
	size_t n, cap;
	size_t bytes;
	struct buf body; /* all pieces of 'b' */
	bool has_body;
	bool body_cr; /* last byte taken was a bare CR so far */
};

struct edit_note {
	char code;
	char *what, *before, *after;
};

enum outcome_kind {
	OUT_NONE, /* nothing said yet */
	OUT_CONTINUE,
	OUT_ACCEPT,
	OUT_REJECT,
	OUT_TEMPFAIL,
	OUT_DISCARD,
	OUT_SHUTDOWN
};

struct outcome {
	enum outcome_kind kind;
	char *reply; /* custom text, or NULL */
};

struct link {
	struct chain *chain;
	size_t milter;     /* index into settings.milters */
	size_t index;      /* in chain.all: the same for all of a session */
	bool varies;       /* not every recipient's chain has it so, or not
	                      every message is shown to it */
	bool sampled;      /* the latter, by what the session says */
	bool left_out;     /* of the message in hand: counted */
	bool extra;        /* a further session, for another version */
	struct link *next; /* of those, in the chain's extras */
	const struct milter_conf *conf;   /* &own */
	const struct milter_conf *shared; /* the settings' */
	struct milter_conf own; /* the milter's, with what rules changed; its
	                           strings belong to the settings */
	struct mstate *state;
	enum milter_mode mode;
	bool skipped;  /* nobody's so far: by rules, or draining */
	bool drained;  /* the latter, when we began */
	bool counted;  /* in state->sessions */
	bool switched; /* by milldamctl, since MAIL, to: */
	enum milter_mode switched_to;
	const struct policy_step *step; /* the session's, or NULL */
	bool authoriser;
	struct conn *conn;
	unsigned conns;  /* so many before it */
	size_t endpoint; /* of conn, or the last tried */
	uint32_t tried;  /* endpoints (bits) that failed for this message */
	char *fault;     /* what the last of them did */

	/* what was answered, for a replay elsewhere */
	bool told_connect, told_mail; /* "continue" */
	unsigned told_helo;           /* serial of the HELO likewise */
	struct heard *heard;          /* to chain.shown, one each */
	size_t heard_cap;
	bool rcpt_skip;   /* the answer to the RCPT in hand */
	bool no_replay;   /* what came before is not known */
	unsigned replays; /* begun anew elsewhere, for this message */
	unsigned retold;  /* of them after it had answered something */
	bool retell;      /* some of shown have to be told first */
	size_t replay_at; /* of shown: the next due, or before it */

	/* the session, on this connection */
	bool sent_connect;
	unsigned sent_helo;   /* serial of the HELO shown; 0 none */
	bool out;             /* accepted the session: not asked again */
	bool poisoned;        /* broke the protocol: not used again */
	bool failed;          /* until the next MAIL */
	char *why;            /* of the failure */
	bool noted_open;      /* fail-open told for this message */
	struct outcome kept;  /* of CONNECT or HELO, answered at RCPT */
	uint32_t sent_macros; /* stages (bits) that had a set on this conn */

	/* the message */
	bool open; /* MAIL shown: owes an end or ABORT */
	bool sent_mail, sent_data;
	bool done; /* its verdict on the message is in */
	bool skip_rcpt;
	unsigned rcpts;         /* shown */
	struct outcome verdict; /* sticky: reject... at MAIL, discard */

	/* the question in hand */
	bool asked;
	struct outcome now; /* what it answered */
	uint64_t by_us;     /* its time for the question, replays and all */
	struct expect expect[LINK_EXPECT_MAX];
	size_t n_expect;
	unsigned progress; /* that came since the question */
	uint64_t sent_us;  /* when the wait began */

	/* content */
	bool started;      /* its turn has come */
	bool stopped;      /* or will not: see stream.c */
	uint32_t groups;   /* bits: whom it runs for */
	struct view *view; /* what it is shown */
	size_t body_off;
	bool pumping; /* content not all queued */
	bool held;    /* all queued but the end, which has to wait */
	bool skip_body;
	bool sent_body;
	bool leading; /* its edits bring their own blank */
	struct edit_list edits;
	unsigned dropped; /* changes left out: not in its may */
	char *quarantine; /* reason, until the verdict counts */

	/* record */
	struct recording *recording; /* record = dir, or NULL */
	struct stage_note *stages;   /* room for LINK_STAGES_MAX, or NULL */
	size_t n_stages;
	struct {
		size_t n_stages, endpoint;
		unsigned retold;
		char *fault;
	} before;     /* the content phase, in case its turn never comes */
	bool counts;  /* its word, or its failure, has counted */
	bool unheard; /* ran ahead of its turn, which never came */
	const char *unshown;     /* in shadow: why, or NULL */
	struct edit_note *notes; /* room for LINK_NOTES_MAX, or NULL */
	size_t n_notes;
	size_t n_edits;          /* made, noted or not */
	enum outcome_kind final; /* for the summary */
	uint64_t final_us;
};

/* A recipient that milters were asked about, and what each said: kept while
 * one of them may have to be told again, or told at all. */
struct shown {
	char *rcpt, *refused;
	char **args;
	size_t n_args;
	struct route *route; /* owned, or NULL */
	bool accepted;
	size_t group;
};

struct heard {
	bool put;     /* the link was asked, or is to be */
	bool told;    /* on this connection */
	bool due;     /* told from memory; its answer is to be compared */
	bool late;    /* first told in the content stage */
	bool skip;    /* answered "no more of these" */
	uint8_t kind; /* enum outcome_kind; OUT_NONE: no answer was due */
	uint16_t code;
};

/* A version of header and body.  Parts not owned are those of the base, in the
 * end of the receiver's message. */
struct view {
	unsigned refs;
	struct view *base; /* a reference */
	struct field *fields;
	size_t n_fields;
	bool own_fields;
	const char *body;
	size_t body_len;
	struct buf mem; /* a replaced body */
	bool own_body;
	uint32_t flags; /* ENV_* to add */
};

/* Recipients of this message whose chain is the same. */
struct group {
	struct policy_chain chain; /* as decided for the first of them */
	char *rcpt;                /* whom rules on content then are about */
	bool *pending;             /* rules on content that may fit, as the
	                              policy's rules */
	uint8_t *modes;            /* enum milter_mode of each of chain.all, or
	                              PICK_ABSENT */
	struct link **ran;         /* the session that served it, likewise */
	struct view **seen;        /* by those in shadow, as their turn came;
	                              likewise, or NULL */
	struct policy_verdict *verdicts; /* so far, room for each of them */
	size_t n_verdicts;
	unsigned n_rcpts; /* accepted */
	bool live;        /* takes part in the content phase */
	struct view *view;
	struct envelope *env;
	bool own_env;
	struct outcome out; /* a verdict that ended it */
	const char *by;
	char *held_reason;
	char *held_by; /* all that asked: "odd, spam" */
};

/* What a table was found to have, for one transaction. */
struct known {
	const char *table; /* the settings' */
	char *key;
	char *value;
	size_t len;
	int found; /* 1, 0 */
};

struct chain {
	struct engine *engine;
	struct settings *settings;
	size_t policy; /* index */
	const struct chain_facts *facts;
	struct link *all; /* of each milter that some rule may bring in */
	size_t n_all;
	struct link **links; /* those of the message in hand, in order */
	size_t n_links;

	enum question q;
	chain_done_fn *done;
	void *arg;
	size_t at; /* link being asked */
	bool answered;
	bool streaming; /* the body is not all there: nobody waits yet */
	struct event *defer;
	struct chain_answer answer;
	char *ans_reply, *ans_milter;

	unsigned helo; /* serial of the current HELO */
	bool has_auth_session, has_auth_message, auth_rcpt;
	struct outcome session; /* reject... at CONNECT or HELO */
	const char *session_by;
	struct outcome message; /* sticky verdict on the message */
	const char *message_by;
	bool in_message;
	bool message_seen; /* a first MAIL: later ones clear the record */
	bool varies;       /* there may be several groups */
	uint32_t asks;     /* policy_asks() */
	bool deciding;     /* the question waits for a chain */
	struct policy_chain session_chain; /* by what the session says */
	unsigned week_minute; /* at MAIL: it does not change on the way */
	struct known *known;
	size_t n_known, known_bytes;
	char *asked_key; /* a look-up under way, or NULL */
	const char *asked_table;
	bool ask_stale;       /* for a transaction that is over */
	int ask_error;        /* how the last one failed, or 0 */
	bool concluded;       /* the content phase came to its end */
	bool detached;        /* of one milter in shadow: see shadow.c */
	bool has_shadows;     /* that wait for the message's outcome */
	bool cut;             /* of this message not all was kept */
	struct group *groups; /* at most CHAIN_GROUPS_MAX */
	size_t n_groups;
	size_t group; /* of the recipient in hand */
	struct link *extras;

	/* arguments of the question; borrowed until it is answered */
	char id[ENV_ID_MAX];
	char *sender; /* "<a@b>" */
	char **mail_args;
	size_t n_mail_args;
	const char *rcpt;
	const char *const *rcpt_args;
	size_t n_rcpt_args;
	const struct route *route;
	const char *refused;
	const char *line;
	unsigned n_rcpts; /* accepted so far, for {nrcpts} */
	bool keep;        /* recipients may have to be told again */
	struct shown *shown;
	size_t n_shown, shown_cap;
	struct message *msg;
	struct envelope *env;
	uint64_t by_us; /* end of the whole chain's time for the question */

	char *summary;
};

/* chain.c */
void chain_answer(
    struct chain *, enum outcome_kind, const char *reply, const char *milter);
void chain_go_on(struct chain *); /* what the question waited for is there */
void chain_wake(struct link *);   /* its question may go on; maybe answers */
uint64_t now_us(void);

void chain_step(struct chain *);
struct group *chain_only_group(struct chain *);

/* stream.c: content while DATA arrives */
void stream_settle(struct chain *); /* a refusal stops the other milters */
void stream_end(struct chain *);    /* the body is whole */

/* engine.c */
struct mstate *engine_state(struct engine *, const char *name);
enum milter_mode engine_effective(
    const struct mstate *, const struct milter_conf *);
const struct host *engine_host(
    const struct engine *, const char *name, bool want_v6);
void engine_alarm(struct engine *, const char *milter, const char *why);

/* choose.c: which endpoint, and what becomes of it */
struct estate *endpoint_state(struct mstate *, const char *text);
int endpoint_choose(struct link *); /* its index, or -1: none is left */
/* endpoint_fault - it failed this link: not again for this message */
void endpoint_fault(struct link *, size_t endpoint, const char *why);
void endpoint_failed(
    struct engine *, const struct milter_conf *, struct estate *);
void endpoint_verdict(struct conn *);   /* it has finished a message */
void endpoint_handshake(struct conn *); /* it has negotiated */
int endpoint_stats(const struct milter_conf *, struct mstate *, struct buf *);

/* dial.c: sockets up to the negotiation */
struct conn *conn_new(struct engine *, const struct milter_conf *,
    struct mstate *, size_t endpoint);
int conn_dial(struct conn *);    /* 0 under way or done, -1 with errno */
int conn_dialled(struct conn *); /* the socket says that it is connected */
int conn_offer(struct conn *);
void conn_attach(struct conn *, struct link *);
void conn_detach(struct conn *); /* no session's any more */
void conn_free(struct conn *);
/* engine_reachable - is there an address for it? */
bool engine_reachable(const struct engine *, const struct endpoint *);

/* conn.c */
void conn_on_read(evutil_socket_t, short, void *);
void conn_on_write(evutil_socket_t, short, void *);
void conn_on_timer(evutil_socket_t, short, void *);
int conn_get(struct link *);  /* from the pool or new; 0 or -1 */
int conn_next(struct link *); /* likewise, another endpoint's */
void conn_put(struct link *); /* into the pool, or QUIT and close */
/* conn_again - a pooled connection broke at its first command: begin anew;
 * false: what was said cannot be repeated */
bool conn_again(struct link *);
void conn_drop(struct link *); /* close without a word */
int conn_flush(struct conn *);
/* conn_cut - with pipeline = safe forget what has not left; else false */
bool conn_cut(struct conn *);
void conn_arm(struct conn *);  /* (re)start the timer */
void conn_idle(struct conn *); /* nothing is due: free buffers */
bool conn_ready(const struct link *);
void conn_say_quit(struct conn *);

/* tls.c */
void tls_load(struct engine *); /* keys that the settings name */
void tls_free(struct engine *);
int tls_begin(struct conn *);
int tls_step(struct conn *); /* 1 done, 0 waits, -1 with errno */
/* conn_recv, conn_send - as recv() and send(), in the clear or not */
ssize_t conn_recv(struct conn *, void *, size_t);
ssize_t conn_send(struct conn *, const void *, size_t);
bool conn_pending(const struct conn *); /* bytes read and not yet taken */

/* pool.c: connections that outlive a session */
int pool_init(struct engine *);
bool pool_get(struct link *, struct estate *); /* l->conn is ready */
bool pool_put(struct link *); /* the pool has it; l->conn is untouched */
bool pool_add(struct conn *); /* one that nobody has used */
void pool_lost(struct conn *);
void pool_clear(struct engine *, struct mstate *);

/* probe.c: handshakes of the engine's own, for health and the warm pool */
int probe_init(struct engine *);
void probe_arm(struct engine *); /* something may be due earlier now */
void probe_ready(struct conn *);
void probe_failed(struct conn *, const char *why);
void probe_clear(struct engine *, struct mstate *);

/* replay.c: the session and message told again, to another endpoint */
/* replay - its endpoint failed it; false: there is no other, the link fails.
 * fault: the endpoint's own. */
bool replay(struct link *, bool fault, const char *why);
bool replay_possible(const struct link *); /* with what is negotiated now? */
int replay_put(struct link *); /* recipients to be told from memory */
/* replay_tell - the link is to be told the recipients of these groups before
 * the content: those that first has been told as it was, and others for the
 * first time; -1 with ENOMEM */
int replay_tell(struct link *, uint32_t groups, const struct link *first);
/* replay_same - 1 as the first time, nothing to do; 0 new; -1 unlike */
int replay_same(struct link *, char cmd, const struct outcome *, bool skip);
int replay_note(struct chain *); /* the RCPT in hand is answered */
void replay_clear(struct chain *);
int shown_copy(struct shown *to, const struct shown *); /* to is empty */
void shown_fini(struct shown *);

/* negotiate.c */
int negotiate_offer(struct conn *);
int negotiate_answer(
    struct conn *, const struct milter_packet *, const char **why_r);

/* macros.c */
int macros_put(struct link *, char cmd);
/* macros_asked - has the milter named a list of its own for that stage? */
bool macros_asked(const struct link *, char cmd);

/* link_held - it held the message that is being released */
bool link_held(const struct link *);

/* stage.c: everything but content */
int link_ask(struct link *); /* 1 waits, 0 done, -1 failed */
void link_packet(struct link *, const struct milter_packet *);
int link_expect(struct link *, char cmd, unsigned n);
/*
 * link_command - macros, then the command (put; NULL: it has no payload) unless
 * the protocol bit no says that the milter does not want it, then the answer
 * that is due unless the bit nr says that it gives none
 */
int link_command(struct link *, char cmd, uint32_t no, uint32_t nr,
    int (*put)(struct link *));
void link_settle(struct link *, char cmd, struct outcome *);
bool link_waits(const struct link *);
void link_set_time(struct link *); /* for the question in hand */
void link_reset_message(struct link *);
void link_abort(struct link *);
/* link_fail_open - the message goes on without it: counted and told, once */
void link_fail_open(struct link *);
/* link_fail - close, note, log; poison when it broke the protocol */
void link_fail(struct link *, bool poison, const char *fmt, ...)
    __attribute__((__format__(printf, 3, 4)));
int put_missing(struct link *); /* CONNECT, HELO, MAIL as needed */
int put_rcpt_again(struct link *, const struct shown *);
/* link_forget - nothing of the message has been said to anybody */
void link_forget(struct link *);

/* shadow.c: milters in shadow, when the message is decided */
void shadow_seen(struct chain *, size_t i); /* the turn of link i has come */
void shadow_begin(struct chain *);
void shadow_disown(struct chain *); /* nothing more is told of its message */
void shadow_clear(struct engine *);
/* link_apart - it is in shadow, so nobody waits for it here */
bool link_apart(const struct link *);

/* chain_bare - without any milter; NULL with ENOMEM */
struct chain *chain_bare(struct engine *, struct settings *, size_t policy,
    const struct chain_facts *, size_t n_links);
/* link_init - the next of chain.all; false: no state for its name */
bool link_init(struct chain *, struct link *, size_t milter);

/* content.c */
int content_begin(struct link *);
int content_pump(struct link *);

/* decide.c: from rules to chains.  All of them: 1 waits for a table, 0, or -1
 * with errno */
int decide_session(struct chain *, uint32_t known);
int decide_rcpt(struct chain *, const char **refused_r);
int decide_content(struct chain *, struct group *);
bool decide_waits(const struct chain *, const struct group *, size_t index);
void link_limits(struct link *, const struct policy_step *);
enum milter_mode link_wanted(const struct link *, const struct policy_step *);

/* sample.c */
bool sample_picks(const char *id, const char *milter, unsigned percent);
bool sample_left_out(const struct link *, const struct policy_step *);

/* known.c: what tables have */
policy_get_fn known_get;
void known_clear(struct chain *);

/* groups.c: who has which chain */
/* groups_find - the group with that chain, or NULL */
struct group *groups_find(const struct chain *, const struct policy_chain *,
    const bool *pending, const uint8_t *modes);
/* groups_add - a new one; the three are taken.  NULL with ENOMEM */
struct group *groups_add(
    struct chain *, struct policy_chain *, bool *pending, uint8_t *modes);
const struct policy_step *group_step(const struct group *, const struct link *);
int group_rcpt_copy(struct envelope *, const struct rcpt *);
/* groups_first - of the first recipient that was accepted, or NULL */
struct group *groups_first(const struct chain *);
void groups_accept(struct chain *); /* one more recipient */
/* groups_all_have - do all accepted recipients' chains enforce this milter? */
bool groups_all_have(const struct chain *, const struct link *);
enum milter_mode groups_mode(const struct chain *, const struct link *);
enum fail_action groups_failure(const struct chain *, const struct link *);
int groups_begin(struct chain *); /* the content phase */
void groups_end(struct chain *);
void groups_clear(struct chain *); /* all is forgotten, the record too */
void group_over(struct group *, const struct outcome *, const char *by);
void group_hold(struct group *, const char *reason, const char *by);
/* groups_result - what the groups came to; 0 or -1 with ENOMEM */
int groups_result(struct chain *, struct chain_answer *);
void groups_result_free(struct chain_answer *);

/* run.c: the content phase */
void run_step(struct chain *);
int run_ask(struct link *);
bool link_may_edit(const struct link *);   /* anything */
bool link_may_change(const struct link *); /* what those after it see */
enum fail_action group_failure(const struct group *, const struct link *);
/* run_may_end - is the body whole, and what its end comes with settled? */
bool run_may_end(const struct link *);

/* edits.c */
int edits_add(struct edit_list *, const struct milter_edit *, uint64_t max);
void edits_clear(struct edit_list *);
/* edits_apply - the link's edits for these groups, all or (on -1) none; in
 * those that have it in shadow they are only noted */
int edits_apply(struct link *, uint32_t groups);
void fields_free(struct field *, size_t n);
struct view *view_new(struct message *); /* NULL with ENOMEM */
struct view *view_ref(struct view *);
void view_unref(struct view **);
bool view_same(const struct view *, const struct view *);
/* view_store - what the milters made of it into the receiver's own */
void view_store(struct view *, struct message *);
/* view_copy - into a message of its own; the body goes to the first that takes
 * it and is borrowed by the others */
int view_copy(struct view *, struct message *message_r);

/* edit_header.c, edit_envelope.c: copies with the edits in them */
int edit_header(struct link *, const struct view *, struct field **fields_r,
    size_t *n_r, uint32_t *flags_r);
/* env_clone_head - all but the recipients */
int env_clone_head(const struct envelope *from, struct envelope *to);
/* first: of the groups; it gets the added recipients, and is noted */
int edit_envelope(struct link *, const struct envelope *from,
    struct envelope *to, bool first);

/* answer.c */
void outcome_clear(struct outcome *);
void outcome_move(struct outcome *to, struct outcome *from);
int outcome_of(const struct milter_packet *, struct outcome *);
enum chain_verdict outcome_verdict(enum outcome_kind);
const char *outcome_text(const struct outcome *, bool at_connect);
const char *outcome_word(enum outcome_kind);
enum outcome_kind failure_outcome(enum fail_action);

/* record.c */
void record_stage(
    struct link *, char cmd, char reply, uint64_t us, const char *text);
void record_edit(struct link *, char code, const char *what, const char *before,
    size_t before_len, const char *after, size_t after_len);
/* record_cut - keep only the first n stages */
void record_cut(struct link *, size_t n);
void record_clear(struct link *);
void record_final(struct link *, enum outcome_kind);

#endif
