/* SPDX-License-Identifier: ISC */
#ifndef CORE_RELAY_JOB_H
#define CORE_RELAY_JOB_H

#include "core/relay/hop.h"
#include "core/relay/relay.h"
#include "core/smtp/envelope.h"

/* One hand-out: some recipients of one message for one next hop. */
struct result {
	bool known;    /* the outcome stands */
	bool asked;    /* RCPT was sent in this session */
	bool accepted; /* RCPT was answered 2xx: shares the content's fate */
	enum outcome what;
	char *reply;
};

struct job {
	TAILQ_ENTRY(job) next;
	struct relay *relay;
	uint64_t ref;
	struct segment *segment;
	uint64_t off, len;
	uint32_t crc;
	char *host;
	uint16_t port;
	struct envelope env;
	struct result *results; /* one for each recipient */
	uint64_t begun_ms;
	uint64_t asked_ref; /* of MSG_HOSTS under way, else 0 */
	uint64_t asked_ms;
	struct hop_addrs addrs;
	struct session *session;
	bool retried; /* once, over a fresh connection */
	char *remote; /* the last next hop that was tried, or NULL */
};

/* job_new - from the payload of MSG_DELIVER; NULL with EPROTO or ENOMEM */
struct job *job_new(struct relay *, uint64_t ref, struct unpacker *);
/* job_free - without an outcome: the queue is gone */
void job_free(struct job *);

/* job_settle - one recipient's outcome, unless it has one */
void job_settle(struct job *, size_t i, enum outcome, const char *reply);
/* job_settle_rest - of all that have none; accepted: of those accepted only */
void job_settle_rest(
    struct job *, bool accepted, enum outcome, const char *reply);
size_t job_open_count(const struct job *); /* recipients without outcome */
bool job_any_accepted(const struct job *);
/* job_done - tell the queue and free; what has no outcome by now is deferred */
void job_done(struct job *);

/* job_outcome - what a reply's code means for a recipient */
enum outcome job_outcome(unsigned code);

#endif
