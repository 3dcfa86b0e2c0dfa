/* SPDX-License-Identifier: ISC */
#ifndef BASE_FRAME_H
#define BASE_FRAME_H

#include "milter-sdk/base/buf.h"

#include <stdint.h>

/*
 * Framed records over a stream socketpair between two processes of ours, with
 * descriptors riding along.  Records queued between two calls of frame_flush()
 * leave in one write: that is the batching.
 *
 * A frame is a 16-byte header (u32 payload length, u16 type, u16 flags, u64
 * ref; host byte order: both ends are on one machine) and the payload.  The
 * peer is another process of ours and may be taken over: lengths are checked
 * before use, and FRAME_MAX is the ceiling of a payload.
 */
enum {
	FRAME_HDR = 16,
	FRAME_MAX = 1 << 20,        /* bytes of payload */
	FRAME_QUEUE_MAX = 64 << 20, /* bytes waiting to be written */
	FRAME_FDS_MAX = 16          /* descriptors in one write */
};

enum { FRAME_HAS_FD = 1 }; /* flags: the frame carries one descriptor */

struct frame {
	uint16_t type;
	uint64_t ref;     /* chosen by the sender; answers repeat it */
	const void *data; /* into the reader's buffer */
	size_t len;
	int fd; /* -1, or a descriptor now owned by whoever took the frame */
};

struct frame_out_fd;

struct frame_io {
	int sock;        /* non-blocking; owned by the caller */
	struct buf in;   /* bytes read, not yet taken */
	size_t in_off;   /* bytes of in already taken */
	struct buf out;  /* bytes to write */
	size_t out_off;  /* bytes of out already written */
	int in_fds[64];  /* received, in order, not yet taken */
	size_t n_in_fds;
	struct frame_out_fd *out_fds, **out_fds_tail;
};

void frame_init(struct frame_io *, int sock);
/* frame_fini - free buffers, close descriptors not yet taken or sent */
void frame_fini(struct frame_io *);

/*
 * frame_put - queue one record; fd -1, or a descriptor that is owned by the
 * queue on success (closed once sent).  -1 with EMSGSIZE or ENOMEM.
 */
int frame_put(struct frame_io *, uint16_t type, uint64_t ref, const void *,
    size_t len, int fd) __attribute__((__warn_unused_result__));

/*
 * frame_flush - write what is queued.  0 when nothing is left, 1 when the
 * socket is full, -1 with errno when the peer is gone.
 */
int frame_flush(struct frame_io *) __attribute__((__warn_unused_result__));

/* frame_fill - read once.  Bytes read, 0 at end of file, -1 with errno. */
long frame_fill(struct frame_io *) __attribute__((__warn_unused_result__));

/*
 * frame_next - the next whole record.  1, 0 when more bytes are needed, or -1
 * with EPROTO.  data is valid until the next frame_fill().
 */
int frame_next(struct frame_io *, struct frame *frame_r)
    __attribute__((__warn_unused_result__));

#endif
