/* SPDX-License-Identifier: ISC */
#ifndef CORE_PROC_CHILD_H
#define CORE_PROC_CHILD_H

#include "core/conf/settings.h"
#include "core/proc/chan.h"
#include "core/proc/msg.h"

#include <stdbool.h>

/*
 * What every child process of the supervisor has in common: the control
 * channel, its event loop, answers to pings, commands and reloads, the
 * sandbox.  A kind of process is a struct child_ops and its own state.
 *
 * Order in a child: fork; own uid; ops->open() (open what needs a path or a
 * privilege); sandbox closed; ops->start(); loop.  Channels to peers arrive as
 * MSG_PEER and may be replaced at any time when a peer was restarted.
 */
struct child;

struct child_ops {
	enum proc_kind kind;
	/* open - before the sandbox: directories, sockets, libraries.  0, or -1
	 * after having logged why. */
	int (*open)(struct child *);
	/* start - after the sandbox, on the loop.  0 or -1 */
	int (*start)(struct child *);
	/* peer - a channel's socket to another process; owned by the handler.
	 * Replace the older channel to the same (kind, index). */
	void (*peer)(struct child *, enum proc_kind, unsigned index, int sock);
	/* listener - a listening socket (receivers only) */
	void (*listener)(struct child *, const char *title, int sock);
	/* reload - c->settings is the new one; old is released by the caller
	 * after this returns, settings_ref() it to keep it longer */
	void (*reload)(struct child *, struct settings *old);
	/* state - a run-time switch was set */
	void (*state)(struct child *, const char *name, const char *value);
	/* command - from milldamctl; answer with child_reply(), now or later */
	void (*command)(struct child *, uint64_t ref, const char *line);
	/* stop - finish gracefully and call child_exit() */
	void (*stop)(struct child *);
	void (*reopen)(struct child *); /* may be NULL */
	/* recording - the file that child_recording() asked for, or -1; owned
	 * by the handler (receivers only) */
	void (*recording)(struct child *, uint64_t ref, int fd);
	/* notice - the supervisor's mail to postmaster (the queue only) */
	void (*notice)(
	    struct child *, const char *subject, const char *text, size_t len);
};

struct child {
	const struct child_ops *ops;
	unsigned index; /* 0.. among its kind */
	struct event_base *base;
	struct settings *settings; /* current; refcounted */
	struct chan *control;      /* to the supervisor */
	void *priv;                /* the kind's own state */
};

/* child_main - called by the supervisor in the forked child; never returns */
void child_main(const struct child_ops *, unsigned index, struct settings *,
    int control_sock) __attribute__((__noreturn__));

/* child_reply - one part of a command's answer: JSON text; last ends it */
void child_reply(
    struct child *, uint64_t ref, bool last, const char *text, size_t len);
/* child_alarm - tell the supervisor, who logs, counts and keeps it in status */
void child_alarm(struct child *, const char *kind, const char *text);
/* child_recording - ask the supervisor for a file: ops->recording answers */
void child_recording(
    struct child *, uint64_t ref, const char *milter, const char *listener);
void child_exit(struct child *, int status) __attribute__((__noreturn__));

/* child_ask - for the web process: a connection to the supervisor that answers
 * what it may know; a socket, or -1 with errno */
int child_ask(struct child *);

extern const struct child_ops receiver_ops, queue_ops, relay_ops, lookup_ops,
    web_ops;

#endif
