/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_ENVELOPE_H
#define CORE_SMTP_ENVELOPE_H

#include "milter-sdk/base/pack.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One message's envelope and session facts, as the receiver learnt them: the
 * same struct goes to the queue, into the spool, and (with the recipients of
 * one hand-out) to a relay.
 *
 * Strings are owned by the envelope, never NULL after env_init(); "" is
 * absent.  Addresses carry no angle brackets; "" as sender is the null
 * reverse-path.
 */
enum {
	ENV_ID_MAX = 24,      /* bytes with NUL; an id is 12 to 16 characters, a
	                         group's "-2" after them */
	ENV_RCPTS_MAX = 10000 /* hard ceiling; the limit in force is lower */
};

enum env_flag {
	ENV_8BIT = 1,      /* BODY=8BITMIME or 8-bit bytes seen */
	ENV_SMTPUTF8 = 2,  /* asked for at MAIL */
	ENV_HELD = 4,      /* quarantined: hold_reason says why */
	ENV_BOUNCE = 8,    /* made by the queue: never bounces again */
	ENV_RET_HDRS = 16, /* RET=HDRS, else full */
	ENV_ESMTP = 32,    /* EHLO, else HELO */
	ENV_AUTHENTICATED = 64,
	ENV_DOTS = 128 /* some line begins with a dot: stuff on sending */
};

enum env_notify { /* bits of NOTIFY=; 0 is "not given" (FAILURE) */
	NOTIFY_NEVER = 1,
	NOTIFY_SUCCESS = 2,
	NOTIFY_FAILURE = 4,
	NOTIFY_DELAY = 8
};

enum mailer {         /* how a recipient leaves */
	MAILER_NONE,  /* not routed yet */
	MAILER_SMTP,  /* host is a domain (MX look-up), name or [addr] */
	MAILER_ERROR, /* host is an enhanced code, text the reason */
	MAILER_DISCARD
};

struct route {
	enum mailer mailer;
	char *host;    /* next hop as in the table: "example.org", "[192.0.2.1]"
	                  (brackets: no MX look-up) */
	uint16_t port; /* host byte order; 0 is 25 */
	char *addr;    /* recipient after routing */
	char *text;    /* MAILER_ERROR: reply text, e.g. "550 5.1.1 no such" */
};

struct rcpt {
	char *addr;
	char *orcpt;    /* ORCPT= value as given, xtext */
	uint8_t notify; /* enum env_notify */
	uint16_t group; /* the chain engine's; not packed */
	struct route route;
};

struct envelope {
	char id[ENV_ID_MAX];
	uint64_t arrival_ms; /* Unix time of MAIL */
	uint32_t flags;      /* enum env_flag */
	uint16_t hops;       /* Received fields counted by the receiver */
	uint16_t group;      /* 1.. */
	char *sender;
	char *envid;
	char *hold_reason;
	char *hold_by;     /* milter that asked for quarantine */
	char *client_addr; /* "192.0.2.1", "2001:db8::1" */
	uint16_t client_port;
	char *client_name; /* verified, or "[192.0.2.1]" */
	char *helo;
	char *proto; /* SMTP, ESMTP, ESMTPS, ... for Received and log */
	char *tls;   /* "TLSv1.3 cipher", or "" */
	char *auth_user;
	char *listener;
	char *policy;
	char *policy_hash; /* hex of the effective policy's text */
	struct rcpt *rcpts;
	size_t n_rcpts;
};

int env_init(struct envelope *) __attribute__((__warn_unused_result__));
void env_fini(struct envelope *);

/* env_set - replace one string member: env_set(&e->sender, "a@b") */
int env_set(char **member, const char *)
    __attribute__((__warn_unused_result__));

/* env_add_rcpt - append; the new recipient, or NULL with ENOMEM or E2BIG */
struct rcpt *env_add_rcpt(struct envelope *, const char *addr);
void env_del_rcpt(struct envelope *, size_t i);

void env_pack(struct packer *, const struct envelope *);
/* env_unpack - 0, or -1 with EPROTO or ENOMEM; out is empty then */
int env_unpack(struct unpacker *, struct envelope *env_r)
    __attribute__((__warn_unused_result__));

/* route_make - fill a route with copies; -1 with ENOMEM */
int route_make(struct route *route_r, enum mailer, const char *host,
    uint16_t port, const char *addr, const char *text)
    __attribute__((__warn_unused_result__));
void route_pack(struct packer *, const struct route *);
int route_unpack(struct unpacker *, struct route *route_r)
    __attribute__((__warn_unused_result__));
int route_copy(struct route *to, const struct route *from)
    __attribute__((__warn_unused_result__));
void route_fini(struct route *);

#endif
