/* SPDX-License-Identifier: ISC */
#ifndef CORE_CONF_SETTINGS_H
#define CORE_CONF_SETTINGS_H

#include "milter-sdk/base/cidr.h"
#include "milter-sdk/base/conf.h"
#include "milter-sdk/base/log.h"
#include "milter-sdk/base/milter.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Everything milldam.conf(5) says, checked and typed.  Read-only once made and
 * shared by reference count: a session keeps the settings it began with.
 * Option names and defaults stand beside each member; milldam.conf(5) gives the
 * reasons.  Strings and arrays are owned by the settings.
 */
enum fail_action {       /* milter's on-failure; zero is the safe one */
	FAIL_TEMPFAIL,   /* 451 4.7.1 */
	FAIL_ACCEPT,     /* go on without it; logged and counted */
	FAIL_REJECT,     /* 550 5.7.1 */
	FAIL_QUARANTINE, /* accept and hold */
	FAIL_SHUTDOWN    /* 421 4.7.0 and close */
};

enum milter_mode { MODE_ENFORCE, MODE_SHADOW, MODE_OFF, MODE_DRAIN };

enum { SAMPLE_ALL = 100 }; /* percent: a milter is shown every message */

/* which of several endpoints a connection goes to */
enum balance { BALANCE_ORDERED, BALANCE_ROUND_ROBIN, BALANCE_LEAST_BUSY };

enum { ENDPOINTS_MAX = 16 }; /* of one milter */

enum endpoint_family { ENDPOINT_UNIX, ENDPOINT_INET };

struct endpoint {
	enum endpoint_family family;
	char *text; /* as configured, for the log */
	char *path; /* unix */
	char *host; /* inet: numeric address or name in the hosts file */
	uint16_t port;
	bool v6; /* inet6: a name's IPv6 address first */
};

struct milter_conf {
	char *name;
	char *run; /* program: an absolute path, or a name below libexecdir;
	              NULL: not started by us */
	char **run_args; /* args = {...}: further arguments */
	size_t n_run_args;
	char *settings; /* settings = file: given to it as -c */
	char *user;     /* user = name; NULL: chosen by the supervisor */
	struct endpoint *endpoints; /* endpoints = {...}; one for a run milter:
	                   unix:RUNDIR/milters/NAME.sock */
	size_t n_endpoints;
	enum balance balance; /* balance = ordered|round-robin|
	           least-busy */
	bool no_replay;       /* replay = yes: a message begun with an
	           endpoint that fails is told to another */
	bool fail_ejected;    /* all-ejected = try|fail: when no
	           endpoint is left, use an ejected one, or fail */
	unsigned eject_after; /* eject-after = 3 failures in a row */
	uint64_t eject_ms;    /* eject-time = 10s, doubled up to 8x */
	uint64_t health_ms;   /* health-interval = 10s with several
	           endpoints, else 0s: no handshakes of our own */
	unsigned warm;        /* warm = 0: negotiated connections kept
	           ready, to each endpoint */
	char **peers;         /* peer = {user ...}: who may have made a
	           unix endpoint; names or numbers */
	size_t n_peers;
	char *tls_ca, *tls_cert, *tls_key, *tls_name; /* tls = {"ca=file",
	                   "cert=file", "key=file", "name=host"}: for inet
	                   endpoints; ca NULL: in the clear */
	enum fail_action on_failure;                  /* tempfail */
	enum milter_mode mode;                        /* enforce */
	unsigned sample;     /* sample = 100: percent of the messages */
	bool reuse;          /* library = other: libmilter or milldam
	          let a connection serve further sessions */
	bool any_state;      /* library = milldam: QUIT_NC ends a session
	          in every state */
	bool safe;           /* pipeline = safe|full: no command while an
	          answer is due; full with a known library */
	bool early;          /* early = no: ask at CONNECT, HELO and
	          MAIL at once, not with the first RCPT */
	uint64_t connect_ms; /* timeout = {"connect=5s", ...} 5 s */
	uint64_t command_ms; /* command=30s */
	uint64_t message_ms; /* message=5m: end-of-message, in total;
	          progress does not move it */
	uint32_t may;        /* may = {...}: MILTER_MAY_* it may use;
	          all but add-rcpt */
	char *macros[MILTER_STAGES]; /* macros = {"rcpt=b r"}: names sent with
	          that stage beside the usual ones; NULL none */
	char *record;                /* record = dir: recordings of its
	                  sessions (docs/recording.md); NULL none */
	bool forbidden_drop;         /* forbidden = fail|drop: what else it
	                  asks for is its failure, or left out */
	bool content;                /* content = no: it judges content only,
	                  so that a rule on content may add it */
};

/*
 * What a rule asks about, in the order of the stages at which it is known.
 * Rules with a condition from CONTENT_FROM on are content rules: they are
 * looked at when the message is there, after all others.
 */
enum condition_kind {
	COND_LISTENER,
	COND_CLIENT,      /* network */
	COND_CLIENT_NAME, /* verified */
	COND_HELO,
	COND_TLS,
	COND_LOGIN,
	COND_SENDER,
	COND_SENDER_DOMAIN,
	COND_TIME,
	COND_RECIPIENT,
	COND_RECIPIENT_DOMAIN,
	COND_SIZE,
	COND_HEADER,
	COND_VERDICT,
	COND_TABLE, /* last: not asked where another condition says no */
	COND_KINDS
};

#define COND_BIT(kind) (1u << (kind))
#define COND_CONTENT                                                           \
	(COND_BIT(COND_SIZE) | COND_BIT(COND_HEADER) | COND_BIT(COND_VERDICT))

enum policy_answer { /* an earlier milter's, with which a chain goes on */
	ANSWERED_CONTINUE,
	ANSWERED_ACCEPT,
	ANSWERED_QUARANTINE,
	ANSWERED_FAILED
};

/* One value of a condition; which members count depends on its kind. */
struct match {
	bool except; /* "!value": whatever it fits is left out */
	char *text;  /* as written, without the '!' */
	char *value; /* HEADER, TABLE: pattern of the value, or NULL; SENDER,
	                RECIPIENT: pattern of the domain, or NULL */
	char *key;   /* HEADER: the field's name; TABLE: the table; SENDER,
	                RECIPIENT: pattern of the local part */
	struct cidr net;   /* CLIENT */
	uint64_t from, to; /* SIZE: bytes, both included; TIME: minutes of the
	                      day, to excluded; from > to is over midnight */
	unsigned days;     /* TIME: bits, Monday 0: the day it begins */
	size_t milter;     /* VERDICT: index into settings.milters */
	unsigned word;     /* VERDICT: enum policy_answer; TLS: enum policy_tls;
	                      TABLE: enum condition_kind of the key */
};

struct condition { /* holds if some value does, or there are only '!' ones,
	              and no '!' one does */
	enum condition_kind kind;
	struct match *values;
	size_t n_values;
	const char *file;
	unsigned line;
};

enum change_kind {
	CHANGE_CHAIN, /* the chain is this one; a change for each milter */
	CHANGE_SKIP,
	CHANGE_ADD, /* before another one, or at the end */
	CHANGE_MODE,
	CHANGE_ON_FAILURE,
	CHANGE_CONNECT_MS,
	CHANGE_COMMAND_MS,
	CHANGE_MESSAGE_MS
};

#define MILTER_NONE SIZE_MAX

struct change { /* in the order of change_kind within a rule */
	enum change_kind kind;
	size_t milter;   /* index into settings.milters */
	size_t before;   /* ADD: index, or MILTER_NONE */
	uint64_t value;  /* enum milter_mode, enum fail_action, milliseconds */
	unsigned sample; /* MODE: percent of the messages */
	const char *file;
	unsigned line;
};

enum mixed_action {       /* policy's on-mixed: groups that are refused while
	                     others of the message are accepted */
	MIXED_QUARANTINE, /* hold them */
	MIXED_DISCARD,
	MIXED_BOUNCE /* only in a rule on client or login */
};

struct rule {
	char *title;
	struct condition *conditions; /* all must hold; ordered by kind */
	size_t n_conditions;
	struct change *changes;
	size_t n_changes;
	bool has_on_mixed;
	enum mixed_action on_mixed; /* of the whole message */
	bool last;                  /* no rule after it in its pass */
	uint32_t asks;    /* COND_BIT() of its conditions and tables' keys */
	const char *file; /* where it stands, for explain */
	unsigned line;
};

struct policy {
	char *name;
	size_t authoriser;   /* index into settings.milters */
	bool has_authoriser; /* without one every recipient is refused */
	size_t *chain;       /* indices into settings.milters, in order; the
	                        authoriser first, whether listed or not */
	size_t n_chain;
	size_t *reach; /* the chain and all that some rule may bring in */
	size_t n_reach;
	struct rule *rules; /* in order */
	size_t n_rules;
	bool first;       /* match = "first": the first rule that fits, of
	                     each pass; all of them otherwise */
	const char *file; /* of its chain, or of the block */
	unsigned line;
	enum mixed_action on_mixed; /* quarantine */
	bool separate; /* mixed = split|separate: a recipient whose chain
	                  differs from the first one's gets 452 */
	bool serial;   /* parallel = yes; no: milters that only read the content
	                  take their turns too */
	bool prdr;     /* prdr = no: answers for each recipient after the
	                  data, to clients that ask for them */
	char hash[17]; /* hex: of the policy and the milters it names */
};

struct listener {
	char *name;
	char **addresses; /* "127.0.0.1:2525", "[::1]:2525" */
	size_t n_addresses;
	size_t policy; /* index */
	char *record;  /* record = dir: of all its milters; NULL none */
};

struct limits {
	uint64_t message_size;        /* 50M */
	unsigned recipients;          /* 1000 a message */
	unsigned sessions;            /* 1000 at a time, in total */
	unsigned sessions_per_client; /* 100 */
	unsigned errors;              /* 20 in a session, then 421 */
	unsigned commands;      /* 1000 in a session without a message done */
	unsigned hops;          /* 25 Received fields */
	uint64_t line_length;   /* 64K, bytes in content */
	uint64_t header_size;   /* 256K */
	unsigned header_fields; /* 1000 */
	uint64_t stream_size;   /* 256K: of more body milters are told while
	                           it arrives, so many bytes at a time */
	uint64_t inline_size;   /* 4M: a larger body is a file of its own */
	uint64_t command_ms;    /* 5m: between commands */
	uint64_t data_ms;       /* 3m: between data bytes */
	uint64_t data_total_ms; /* 30m: a whole DATA */
	uint64_t chain_ms;      /* milter-time: one question to the whole
	                           chain; 0: 5m, or the longest message= */
	unsigned
	    shadow_sessions;  /* 100 with milters in shadow at a time, and */
	uint64_t shadow_size; /* 64M of copies for them, in each receiver */
	uint64_t banner_ms;   /* greet-pause 0s: wait for early talkers */
};

struct queue_conf {
	uint64_t segment_size;     /* 64M */
	uint64_t min_free;         /* 100M left on the disk, else 452 */
	uint64_t retry_min_ms;     /* 5m */
	uint64_t retry_max_ms;     /* 4h */
	uint64_t warn_ms;          /* 4h: delay warning */
	uint64_t expire_ms;        /* 5d */
	uint64_t bounce_expire_ms; /* 5d for the null sender */
	unsigned site_concurrency; /* 20 connections to one site */
	unsigned keep_records;     /* 30 day files of decision records */
};

struct relay_conf {
	uint64_t connect_ms; /* 30s */
	uint64_t command_ms; /* 5m */
	uint64_t data_ms;    /* 10m after the final dot */
	uint64_t idle_ms;    /* 5s: keep a connection for the next message */
	unsigned reuse;      /* 100 messages over one connection */
};

struct settings {
	unsigned refs;
	char *hostname;   /* required, or the machine's name */
	char *postmaster; /* required: an address */
	char *spool_dir;  /* spool = "/var/spool/milldam" */
	char *run_dir;    /* run-directory = "/run/milldam": control socket,
	                     milter sockets, state of run-time switches */
	enum log_form log_form; /* log = stderr|syslog|json */
	int log_level;          /* log-level = err|warning|info|debug: info */
	unsigned receivers;     /* 1 */
	unsigned relays;        /* 1 */
	uint32_t uid_base;      /* uid-base = 0: named users */
	bool sandbox;     /* sandbox = yes; no is for debugging and logged */
	uint64_t hang_ms; /* hang-time = 10s */
	uint64_t stop_ms; /* stop-time = 30s for a graceful stop */
	struct limits limits;
	struct queue_conf queue;
	struct relay_conf relay;
	/* route block */
	char *mailertable; /* "text:/path" or "hash:/path.db"; NULL none */
	char *smart_host;  /* "smtp:host", "smtp:[addr]:port"; NULL: MX */
	char **own_names;  /* names = {...}: this host in MX lists */
	size_t n_own_names;
	char **nameservers; /* nameservers = {"127.0.0.1:5353"}; empty: those
	                       of the system */
	size_t n_nameservers;
	char *hosts_file;     /* "/etc/hosts" */
	char **web_addresses; /* web { address = {"127.0.0.1:9150"} }: on
	                         loopback; none: no web process */
	size_t n_web_addresses;
	struct milter_conf *milters;
	size_t n_milters;
	struct policy *policies;
	size_t n_policies;
	struct listener *listeners;
	size_t n_listeners;
	char **tables; /* that rules ask, each once */
	size_t n_tables;
	struct conf_file *files; /* the text it was made of, for MSG_RELOAD */
	size_t n_files;
};

/*
 * settings_read - read the file and all that it includes.  NULL when there is a
 * mistake; all of them are in errors as "file:line: text\n".
 */
struct settings *settings_read(const char *path, struct buf *errors);
/* settings_parse - the same from a reload's bundle; files[0] is the main file
 */
struct settings *settings_parse(
    const struct conf_file *files, size_t n, struct buf *errors);
struct settings *settings_ref(struct settings *);
void settings_unref(struct settings **);

#endif
