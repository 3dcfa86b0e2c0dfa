/* SPDX-License-Identifier: ISC */
#ifndef SDK_SESSION_H
#define SDK_SESSION_H

#include "milter-sdk/src/sdk.h"

#include <signal.h>

/*
 * session.c - what both back-ends share: the settings in use, what is in hand,
 * and progress.  Safe in any thread.
 */
void session_set_loaded(struct loaded *); /* for sessions to come; takes it */
struct loaded *session_loaded(void);      /* a reference, or NULL */

/*
 * session_free - end the session.  The settings that it held last may take long
 * to unload: then a thread made for that does it.
 */
void session_free(struct mill_txn **);
/* session_leave - one that cannot end any more, as the program does */
void session_leave(struct mill_txn *);

/*
 * session_enter - whether the filter may be asked: not when the program stops,
 * but for a message in hand.  session_count - after it was asked: what is in
 * hand is a message from its first command to its end.  session_refuse - put
 * the reply to what begins while the program stops.
 */
bool session_enter(struct mill_txn *);
void session_count(struct mill_txn *);
void session_refuse(struct mill_txn *);

/* session_hold, session_release - something else that a stop waits for */
void session_hold(void);
void session_release(void);
void session_stop(void); /* begin nothing new */
unsigned session_in_hand(void);

/*
 * session_working - message() runs, or waits to: the MTA is told so every few
 * seconds by t->progress, which is called under t->lock.  The thread that does
 * it is started by session_tell().
 */
void session_working(struct mill_txn *, bool on);
int session_tell(const sigset_t *mask) MILL_CHECK;

/* session_thread - a detached one with these signals blocked; 0 or errno */
int session_thread(void *(*)(void *), void *, const sigset_t *mask) MILL_CHECK;

/* session_host - the name to show: Postfix says "unknown" for no name */
const char *session_host(
    const char *name, const char *addr, char *room, size_t n);

#endif
