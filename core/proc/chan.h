/* SPDX-License-Identifier: ISC */
#ifndef CORE_PROC_CHAN_H
#define CORE_PROC_CHAN_H

#include "milter-sdk/base/frame.h"

#include <event2/event.h>

/*
 * A framed channel to another of our processes on an event loop.
 *
 * chan_send() only queues: frames of one pass through the loop leave in one
 * write, when the loop is about to sleep.  The frame handler may close its own
 * channel.  On end of file, a protocol error or a full queue the channel closes
 * itself and calls on_gone once.
 */
struct chan;

typedef void chan_frame_fn(void *arg, struct chan *, struct frame *);
typedef void chan_gone_fn(void *arg, struct chan *);

/* chan_new - takes the socket on success; NULL with errno (ENOMEM) */
struct chan *chan_new(struct event_base *, int sock, chan_frame_fn *,
    chan_gone_fn *, void *arg);
void chan_free(struct chan **);

/*
 * chan_send - queue one frame; fd -1 or a descriptor that the channel owns on
 * success.  -1 with errno (EMSGSIZE, ENOMEM, EPIPE): nothing was queued.
 */
int chan_send(struct chan *, uint16_t type, uint64_t ref, const void *,
    size_t, int fd) __attribute__((__warn_unused_result__));

/* chan_send_buf - as chan_send; the packed bytes are the payload */
int chan_send_buf(struct chan *, uint16_t type, uint64_t ref,
    const struct buf *, int fd) __attribute__((__warn_unused_result__));

size_t chan_backlog(const struct chan *); /* bytes queued */

#endif
