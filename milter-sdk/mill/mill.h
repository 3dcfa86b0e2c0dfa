/* SPDX-License-Identifier: ISC */
#ifndef MILL_MILL_H
#define MILL_MILL_H

#include "milter-sdk/base/milter.h"
#include "milter-sdk/base/tape.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/*
 * mill - play recordings of Milter sessions.
 *
 *   take     a recording as it is in memory: connections, packets of each
 *   dialog   which answer belongs to which command, by the options in force;
 *            one for what was recorded, one for what is heard now
 *
 * The recording and the milter's answers are hostile input: packets are bounded
 * by their readers, and text is cleaned before it is printed.
 */
enum { EDITS_MAX = 20000, PACKETS_MAX = 1 << 20 };

struct piece { /* an edit; several replace-body are one */
	char code;
	char *data;
	size_t len;
};

struct answer {
	bool sent;    /* the command was */
	bool due;     /* and an answer to it was */
	bool unknown; /* the recording was cut off before it */
	char final;   /* 0: none came */
	char *data;
	size_t len;
	struct piece *edits;
	size_t n_edits;
	uint64_t sent_us, us; /* how long the answer took */
};

struct packet {    /* of the recording */
	bool from; /* the milter; else to it */
	char code;
	const char *data;
	size_t len;
	uint64_t us;
	struct answer then, now; /* to a command */
};

struct conn { /* one connection of the recording */
	struct packet *packets;
	size_t n_packets;
	bool negotiated;
	struct milter_options options; /* into the file's bytes */
};

struct take {
	char *bytes;
	struct conn *conns;
	size_t n_conns;
	bool whole; /* has its end mark, and that says complete */
	char milter[64];
};

struct dialog {
	uint32_t protocol; /* bits in force */
	bool now;          /* fill packet.now, else packet.then */
	struct packet **due;
	size_t n_due, at, cap;
	bool message_over, session_over;
	char skip; /* command that the milter asked not to see again, or 0 */
};

/* take.c - 0, or -1 after saying why on stderr */
int take_read(struct take *, const char *path);
int take_parse(struct take *, char *bytes, size_t len, const char *name);
void take_free(struct take *);

/* dialog.c */
/* dialog_send - does this command leave?  If so, an answer may be due */
bool dialog_send(struct dialog *, struct packet *, uint64_t us);
/* dialog_hear - 0, or -1: nobody asked for this, or far too much of it */
int dialog_hear(
    struct dialog *, char code, const char *data, size_t len, uint64_t us);
/* dialog_then - fill packet.then; in one that was cut off, what is not answered
 * is not known */
void dialog_then(struct conn *, bool whole);
bool dialog_waits(const struct dialog *);
void dialog_fini(struct dialog *);
void answer_fini(struct answer *);
/* dialog_clamp - options as both sides understand them */
void dialog_clamp(struct milter_options *);

/* talk.c - 0, or -1 after saying why: no connection could be made */
int talk(struct conn *, const char *to, unsigned timeout_s,
    struct milter_options *options_r, char **lists_r, bool *negotiated_r);

/* differ.c - print what differs; how many things do */
unsigned differ_options(
    const struct conn *, const struct milter_options *, bool negotiated);
unsigned differ(const struct conn *, bool timing);

/* say.c - words for people; clean is one of a few static buffers */
const char *say_command(char);
const char *say_reply(char);
const char *say_clean(const char *, size_t);
void say_take(const struct take *);

#endif
