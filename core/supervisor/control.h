/* SPDX-License-Identifier: ISC */
#ifndef CORE_SUPERVISOR_CONTROL_H
#define CORE_SUPERVISOR_CONTROL_H

#include "core/supervisor/sup.h"

/*
 * One client of the control socket, and what it waits for: either an answer
 * that one child streams, or one answer of each of several children.
 */
enum { GATHER_MAX = 64 };

struct part { /* of a gathered answer */
	struct process *from;
	uint64_t ref; /* 0: answered */
	bool lost;    /* it has ended, or cannot be asked */
	struct buf text;
};

struct client {
	struct client *next;
	struct sup *sup;
	int sock;
	struct event *in_ev, *out_ev;
	char room[4096], *line;
	size_t len;
	struct buf out;
	size_t sent;
	bool asks;             /* the web process: may do nothing else */
	bool ended;            /* free it when all is written */
	uint64_t stream;       /* ref of a child's answer that is passed on */
	struct process *asked; /* whose answer that is */
	bool begun;            /* some of it has come */
	size_t passed_on;      /* bytes since the child was told "more" */
	struct part *parts;    /* n_parts */
	size_t n_parts;
	void (*gathered)(struct client *);
	struct event *timer; /* of the gathering or the stream */
};

/* control.c */
void client_free(struct client *);
void client_say(struct client *, const char *, size_t);
void client_flush(struct client *);
void client_end(struct client *); /* nothing more will be said */
void client_error(struct client *, const char *text);

/* command.c */
void control_run(struct client *);

/* gather.c */
/* gather_start - ask each running child, those of kind only unless PROC_KINDS;
 * done is called when all have answered or time is up */
void gather_start(struct client *, enum proc_kind, const char *line,
    void (*done)(struct client *));
/* gather_stream - pass line to the queue, and its answer to the client */
void gather_stream(struct client *, struct process *, const char *line);
void gather_free(struct client *);
/* gather_sent - the client has taken n bytes */
void gather_sent(struct client *, size_t n);

#endif
