/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_MESSAGE_H
#define CORE_SMTP_MESSAGE_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * A message's content between end of data and the hand-over to the queue: a
 * list of header fields that milters may edit, and the body.
 *
 * The body is contiguous bytes with CRLF line ends, without dot stuffing; it
 * lies in a buffer, or for large messages in a mapped file, and belongs to the
 * message.  A field keeps its bytes as they came, so that what no milter
 * touched leaves as it was, to the byte.
 */
struct field {
	char *name;      /* as received */
	char *value;     /* all after the colon, leading blanks kept, folds as
	                    CRLF + WSP, no final CRLF */
	size_t value_len;
	bool hidden;     /* our own Received: not shown to milters, counted by
	                    insert positions (rule 22) */
};

struct message {
	struct field *fields;
	size_t n_fields;
	const char *body;
	size_t body_len;
	struct buf mem; /* holds the body, or */
	int fd;         /* -1, or the file that body maps */
	void *map;
	size_t map_len;
	size_t map_off; /* of body in the file */
	bool header_changed; /* some milter changed the header */
	bool body_changed;
};

void message_init(struct message *);
void message_fini(struct message *);

/* message_add - insert a field at index at (n_fields appends).  Bytes are
 * copied.  -1 with ENOMEM, E2BIG (field limit 10,000). */
int message_add(struct message *, size_t at, const char *name,
    const char *value, size_t value_len)
    __attribute__((__warn_unused_result__));
void message_del(struct message *, size_t at);
/* message_find - index of the nth (0-based) field of that name that is not
 * hidden, or n_fields */
size_t message_find(const struct message *, const char *name, size_t nth);
/* message_header - the header block as it leaves: fields, then CRLF */
int message_header(const struct message *, struct buf *out)
    __attribute__((__warn_unused_result__));

#endif
