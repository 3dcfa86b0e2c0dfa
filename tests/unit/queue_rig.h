/* SPDX-License-Identifier: ISC */
#ifndef TESTS_UNIT_QUEUE_RIG_H
#define TESTS_UNIT_QUEUE_RIG_H

#include "core/proc/child.h"
#include "core/smtp/envelope.h"

/*
 * A real queue process in a child, on a real spool in a temporary folder; the
 * test plays supervisor, receiver, relay and lookup.
 */
struct side { /* one channel, the test's end */
	int sock;
	struct frame_io io;
};

struct got { /* a frame, copied */
	uint16_t type;
	uint64_t ref;
	unsigned char *data;
	size_t len;
	int fd;
};

struct rig {
	char dir[64];
	const char *extra; /* configuration text */
	pid_t pid;
	struct side control, receiver, relay, lookup;
	int segments[64]; /* by file number modulo 64 */
	uint64_t ref;
	const char *instead; /* of rig_put(): the held message, or "" */
};

struct delivery { /* a MSG_DELIVER, decoded */
	uint64_t ref, file, offset, length;
	uint32_t crc;
	char host[256];
	uint16_t port;
	struct envelope env;
	char *content;
	bool good; /* the bytes match the checksum */
};

void rig_start(struct rig *, const char *extra); /* a new spool */
void rig_again(struct rig *); /* kill -9, then a new process on the spool */
void rig_relay(struct rig *); /* a fresh relay; the old one's channel ends */
int rig_stop(struct rig *);   /* exit status; the spool stays */
void rig_end(struct rig *);   /* also removes the spool */

/* side_get - the next frame of that type within ms; others are dropped.  -1 */
int side_get(struct side *, uint16_t type, int ms, struct got *got_r);
void got_fini(struct got *);

/* rig_env - from a@example.org, to rcpt by way of host port 2525 */
void rig_env(
    struct envelope *, const char *id, const char *rcpt, const char *host);
/* rig_put - submit; the status of MSG_SUBMITTED, or -1 */
int rig_put(struct rig *, const struct envelope *, const char *content);
/* rig_more - without waiting: MSG_SUBMIT_MORE, of the set that r->ref names;
 * rig_put_last() ends it */
void rig_more(
    struct rig *, enum msg_type, const struct envelope *, const char *content);
int rig_put_last(struct rig *, const struct envelope *, const char *content);
/* rig_discarded - a receiver has dropped a message to n recipients */
void rig_discarded(struct rig *, uint32_t n);
int rig_submit(
    struct rig *, const char *id, const char *rcpt, const char *host);

/* rig_deliver - the next hand-out within ms; -1 if none comes */
int rig_deliver(struct rig *, int ms, struct delivery *);
void delivery_fini(struct delivery *);
/* rig_outcome - the same for all recipients */
void rig_outcome(
    struct rig *, const struct delivery *, enum outcome, const char *reply);

/* rig_command - the whole answer; the caller frees it */
char *rig_command(struct rig *, const char *line);
/* rig_says - the answer contains text, within a second */
bool rig_says(struct rig *, const char *line, const char *text);
/* rig_route - answer lookup's next question; its address into asked */
int rig_route(struct rig *, char asked[256], const char *host);
void rig_state(struct rig *, const char *name, const char *value);

#endif
