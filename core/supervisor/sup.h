/* SPDX-License-Identifier: ISC */
#ifndef CORE_SUPERVISOR_SUP_H
#define CORE_SUPERVISOR_SUP_H

#include "core/proc/child.h"

#include <event2/event.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

/*
 * The supervisor's own state, shared by its files.  It starts, watches and ends
 * the other processes; it never reads a byte of mail.
 */
enum { STATES_MAX = 256, ALARMS_MAX = 32, CLIENTS_MAX = 32 };

struct process { /* a child of ours or a milter */
	struct sup *sup;
	char name[64];               /* "receiver.0", "milter.access" */
	const struct child_ops *ops; /* NULL: a milter */
	unsigned index;
	char *milter; /* name of the milter block */
	unsigned nth; /* of a milter: which of uid-base's users it has */
	pid_t pid;    /* 0: not running */
	struct chan *control;
	bool ready;
	bool lost; /* its channel has ended, it has not yet */
	bool gone; /* no longer configured: not started again */
	bool told; /* one that is gone: SIGTERM was sent */
	uint64_t started_ms, pong_ms, backoff_ms;
	unsigned restarts;
	struct event *restart; /* of one that is gone: its grace is over */
	struct event *health;  /* health.c: a question to a milter */
	int health_sock;       /* -1: none is asked */
	bool answered;         /* the milter has, since it was started */
};

struct listening {
	char *title, *address;
	int sock;
	bool kept; /* while reloading: in the new settings too */
};

struct alarm_note {
	uint64_t at_ms; /* Unix time */
	char kind[32];
	char text[256];
};

struct sup {
	struct event_base *base;
	struct settings *settings;
	const char *conf_path;
	struct process **procs;
	size_t n_procs;
	struct listening *listening;
	size_t n_listening, n_announced; /* receivers know the first ones */
	bool accepting;                  /* listen() has been called */
	bool root;                       /* children get users of their own */
	enum { RUNNING, STOP_RECEIVERS, STOP_QUEUE, STOP_REST } phase;
	char *states[STATES_MAX][2]; /* run-time switches: name, value */
	size_t n_states;
	struct alarm_note alarms[ALARMS_MAX]; /* ring */
	size_t n_alarms;
	int control_sock;
	struct client *clients; /* control.h */
	uint64_t next_ref;
	struct event *tick, *accept, *sigs[5], *stop_timer, *control;
};

/* main.c */
uint64_t sup_now_ms(void); /* monotonic */
void sup_stop(struct sup *);
void sup_next_phase(struct sup *); /* after a process ended while stopping */

/* check.c */
/* check_milters - report the mistakes in milters' settings on stderr; -1 if
 * there are any */
int check_milters(const struct settings *);

/* user.c - uids by uid-base or by name; only as root */
int user_find(const struct settings *, const char *role, unsigned nth,
    const char *name, uid_t *uid_r, gid_t *gid_r);
int user_prepare(struct sup *);   /* folders and their owners */
int user_drop_self(struct sup *); /* keep only what starting needs */
int user_become(uid_t, gid_t);    /* in a child, for good */

/* spawn.c */
int spawn_all(struct sup *);
void spawn_process(struct process *);
void spawn_listeners(struct process *, size_t from); /* to a receiver */
void spawn_reaped(struct sup *, pid_t, int status);
void spawn_broadcast(struct sup *, uint16_t type, const struct buf *);
struct process *spawn_find(struct sup *, enum proc_kind, unsigned index);
void spawn_watch(struct sup *); /* once a second: pings and hung children */
/* spawn_milters_again - start new ones, end removed ones, tell the others */
void spawn_milters_again(struct sup *, const struct settings *old);
/* spawn_web_again - start it if the settings now ask for it, and end it if they
 * do no longer */
void spawn_web_again(struct sup *);
bool spawn_ready(const struct sup *);
const struct milter_conf *spawn_milter_of(const struct process *);
/* spawn_wanted - is the milter ours to start, and does any policy ask it? */
bool spawn_wanted(const struct settings *, const struct milter_conf *);
void spawn_free(struct sup *);

/* health.c - does a milter answer?  asked over its own protocol */
void health_ask(struct process *);
void health_end(struct process *);

/* listen.c */
/* listen_sockaddr - 0, or -1 when host is no numeric address */
int listen_sockaddr(const char *host, uint16_t port, struct sockaddr_storage *,
    socklen_t *len_r);
int listen_bind(struct sup *);
int listen_begin(struct sup *);
/* listen_change - bind what is new in the settings and close what is no longer
 * there; -1 with the reason in errors: nothing was changed */
int listen_change(struct sup *, const struct settings *, struct buf *errors);
void listen_announce(struct sup *); /* the new ones, to receivers */
void listen_free(struct sup *);

/* reload.c */
int sup_reload(struct sup *, struct buf *errors);

/* state.c */
int state_load(struct sup *);
void state_free(struct sup *);
int state_set(struct sup *, const char *name, const char *value);
void state_send_all(struct sup *, struct process *);

/* recordings.c - files for what milters and listeners record */
/* recordings_prepare - make the directories; as root, before the change of
 * user */
int recordings_prepare(const struct settings *, bool root, uid_t, gid_t);
void recordings_asked(struct process *, struct frame *);

/* control.c */
int control_open(struct sup *);
void control_answer(struct sup *, struct frame *); /* MSG_REPLY */
/* gather_lost - the process has ended: nobody need wait for it */
void gather_lost(struct sup *, struct process *);
/* control_adopt - a socket that asks "metrics" and "health" alone; takes it */
void control_adopt(struct sup *, int sock);
void control_close(struct sup *);

#endif
