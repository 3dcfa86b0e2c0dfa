/* SPDX-License-Identifier: ISC */

/* job - one hand-out and its outcomes */

#include "core/relay/job.h"

#include "core/relay/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { ADDRESS_MAX = 1000, SHORT_REPLY = 48 };

static struct segment *
segment_find(struct relay *r, uint64_t number)
{
	struct segment *s;

	LIST_FOREACH(s, &r->segments, next)
	if (s->number == number)
		return (s);
	return (NULL);
}

/* addr_ok - may stand between < and >: what could end the command, or the path,
 * is refused.  A quoted local part may hold blanks and brackets. */
static bool
addr_ok(const char *s)
{
	bool quoted = false;
	size_t i;

	for (i = 0; s[i] != '\0'; i++) {
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f ||
		    i >= ADDRESS_MAX)
			return (false);
		if (quoted && s[i] == '\\') {
			if ((unsigned char)s[i + 1] < ' ')
				return (false);
			i++;
		} else if (s[i] == '"')
			quoted = !quoted;
		else if (!quoted && strchr("<> ", s[i]) != NULL)
			return (false);
	}
	return (!quoted);
}

/* check_addresses - settle what cannot be put into a command */
static void
check_addresses(struct job *j)
{
	const struct rcpt *r;
	size_t i;

	for (i = 0; i < j->env.n_rcpts; i++) {
		r = &j->env.rcpts[i];
		if (!addr_ok(j->env.sender))
			job_settle(j, i, OUTCOME_FAIL,
			    "553 5.1.7 sender cannot be sent on");
		else if (r->addr[0] == '\0' || !addr_ok(r->addr) ||
		    !addr_ok(r->route.addr))
			job_settle(j, i, OUTCOME_FAIL,
			    "553 5.1.3 recipient cannot be sent on");
	}
}

struct job *
job_new(struct relay *r, uint64_t ref, struct unpacker *u)
{
	struct job *j = calloc(1, sizeof(*j));
	uint64_t number = unpack_u64(u);
	const char *host;

	if (j == NULL)
		return (NULL);
	j->relay = r;
	j->ref = ref;
	j->off = unpack_u64(u);
	j->len = unpack_u64(u);
	j->crc = unpack_u32(u);
	host = unpack_str(u);
	j->port = unpack_u16(u);
	if (u->failed || env_unpack(u, &j->env) == -1 || unpack_end(u) == -1 ||
	    j->env.n_rcpts == 0 || j->off > INT64_MAX || j->len > INT64_MAX)
		goto bad;
	j->host = strdup(host);
	j->results = calloc(j->env.n_rcpts, sizeof(*j->results));
	if (j->host == NULL || j->results == NULL)
		goto fail;
	if ((j->segment = segment_find(r, number)) != NULL)
		j->segment->refs++;
	j->begun_ms = relay_now_ms();
	TAILQ_INSERT_TAIL(&r->jobs, j, next);
	r->n_jobs++;
	r->stats.messages++;
	check_addresses(j);
	return (j);

bad:
	errno = EPROTO;
fail:
	env_fini(&j->env);
	free(j->host);
	free(j->results);
	free(j);
	return (NULL);
}

void
job_free(struct job *j)
{
	size_t i;

	TAILQ_REMOVE(&j->relay->jobs, j, next);
	j->relay->n_jobs--;
	if (j->segment != NULL)
		segment_unref(j->segment);
	for (i = 0; i < j->env.n_rcpts; i++)
		free(j->results[i].reply);
	free(j->results);
	env_fini(&j->env);
	hop_fini(&j->addrs);
	free(j->host);
	free(j->remote);
	free(j);
}

enum outcome
job_outcome(unsigned code)
{
	return (code < 300   ? OUTCOME_DONE
	        : code < 500 ? OUTCOME_DEFER
	                     : OUTCOME_FAIL);
}

void
job_settle(struct job *j, size_t i, enum outcome what, const char *reply)
{
	struct result *r = &j->results[i];

	if (r->known)
		return;
	r->known = true;
	r->what = what;
	r->reply = strdup(reply); /* NULL: a stock text, see pack_outcome() */
	switch (what) {
	case OUTCOME_DONE:
		j->relay->stats.delivered++;
		break;
	case OUTCOME_FAIL:
		j->relay->stats.failed++;
		break;
	case OUTCOME_DEFER:
	case OUTCOME_SITE:
		j->relay->stats.deferred++;
		break;
	}
}

void
job_settle_rest(
    struct job *j, bool accepted, enum outcome what, const char *reply)
{
	size_t i;

	for (i = 0; i < j->env.n_rcpts; i++)
		if (!accepted || j->results[i].accepted)
			job_settle(j, i, what, reply);
}

size_t
job_open_count(const struct job *j)
{
	size_t i, n = 0;

	for (i = 0; i < j->env.n_rcpts; i++)
		n += !j->results[i].known;
	return (n);
}

bool
job_any_accepted(const struct job *j)
{
	size_t i;

	for (i = 0; i < j->env.n_rcpts; i++)
		if (j->results[i].accepted && !j->results[i].known)
			return (true);
	return (false);
}

/* pack_outcome - limit: bytes kept of each reply, so that a hand-out with very
 * many recipients fits into a frame */
static int
pack_outcome(const struct job *j, struct buf *b, size_t limit)
{
	static const char *const stock[] = { "250 2.0.0 sent",
		"451 4.3.0 out of memory", "554 5.0.0 refused",
		"451 4.3.0 out of memory" };
	struct packer k = { b, false };
	char text[REPLY_TEXT_MAX];
	const struct result *r;
	size_t i;

	b->len = 0;
	pack_u32(&k, (uint32_t)j->env.n_rcpts);
	for (i = 0; i < j->env.n_rcpts; i++) {
		r = &j->results[i];
		(void)strncpy(text,
		    r->reply != NULL ? r->reply : stock[r->what], limit - 1);
		text[limit - 1] = '\0';
		pack_u32(&k, (uint32_t)i);
		pack_u8(&k, (uint8_t)r->what);
		pack_str(&k, text);
		pack_str(&k,
		    j->remote != NULL && limit > SHORT_REPLY ? j->remote : "");
	}
	pack_u32(&k, (uint32_t)(relay_now_ms() - j->begun_ms));
	return (pack_end(&k));
}

void
job_done(struct job *j)
{
	struct relay *r = j->relay;
	struct buf b = BUF_INIT(FRAME_MAX);

	job_settle_rest(j, false, OUTCOME_DEFER, "451 4.3.0 not tried");
	if (r->queue != NULL &&
	    ((pack_outcome(j, &b, REPLY_TEXT_MAX) == -1 &&
	         pack_outcome(j, &b, SHORT_REPLY) == -1) ||
	        chan_send_buf(r->queue, MSG_OUTCOME, j->ref, &b, -1) == -1)) {
		/* The queue would wait for ever: better that it sees a relay
		 * end, and schedules again what it had handed out. */
		log_err("relay: outcome cannot be sent: %s", strerror(errno));
		_exit(EX_OSERR);
	}
	buf_fini(&b);
	job_free(j);
	relay_settled(r);
}
