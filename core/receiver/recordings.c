/* SPDX-License-Identifier: ISC */

/*
 * recordings - milters' recordings into files
 *
 * The receiver has no file system: it asks the supervisor for a file when a
 * recording is complete, writes it in one go and closes it.
 */

#include "core/receiver/receiver.h"

#include "core/milter/recording.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WAITING_MAX = 64, WAITING_BYTES = RECORDINGS_TOTAL };

struct kept_recording {
	struct kept_recording *next;
	uint64_t ref;
	char *bytes;
	size_t len;
};

static size_t
waiting_bytes(const struct receiver *r)
{
	const struct kept_recording *k;
	size_t n = 0;

	for (k = r->recordings; k != NULL; k = k->next)
		n += k->len;
	return (n);
}

void
recordings_keep(
    void *arg, const char *milter, const char *listener, struct buf *tape)
{
	struct receiver *r = arg;
	struct kept_recording *k;

	if (r->n_recordings >= WAITING_MAX ||
	    waiting_bytes(r) + tape->len > WAITING_BYTES ||
	    (k = calloc(1, sizeof(*k))) == NULL) {
		log_warning("milter=%s: recording lost: too many", milter);
		return;
	}
	k->ref = ++r->recording_ref;
	k->bytes = buf_take(tape, &k->len);
	k->next = r->recordings;
	r->recordings = k;
	r->n_recordings++;
	child_recording(r->child, k->ref, milter, listener);
}

void
recordings_file(struct child *c, uint64_t ref, int fd)
{
	struct receiver *r = c->priv;
	struct kept_recording **kp = &r->recordings, *k;

	while (*kp != NULL && (*kp)->ref != ref)
		kp = &(*kp)->next;
	if ((k = *kp) != NULL) {
		/* Without a file the supervisor has logged why. */
		if (fd != -1 && store_write(fd, k->bytes, k->len, 0) == -1)
			log_warning("receiver: recording: %s", strerror(errno));
		*kp = k->next;
		free(k->bytes);
		free(k);
		r->n_recordings--;
	}
	if (fd != -1)
		(void)close(fd);
	receiver_session_gone(r);
}
