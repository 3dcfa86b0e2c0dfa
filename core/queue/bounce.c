/* SPDX-License-Identifier: ISC */

/*
 * bounce - tell the sender, or nobody, or the postmaster
 *
 * The null sender is never answered: what fails there (a double bounce) is
 * logged and shown to the postmaster, at a bounded rate; if it was addressed
 * to the postmaster it ends in the log.
 */

#include "core/queue/queue.h"
#include "core/queue/report.h"
#include "core/smtp/id.h"

#include "milter-sdk/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	FULL_MAX = 256 << 10, /* a larger message returns as its header */
	REPORT_MAX = 16 << 20,
	DOUBLES_BURST = 100,
	DOUBLES_INTERVAL_MS = 36000
};

/* wants - NOTIFY of RFC 3461; without one, failures and delays are told */
static bool
wants(const struct rcpt *r, bool delay)
{
	if (r->notify == 0)
		return (true);
	if ((r->notify & NOTIFY_NEVER) != 0)
		return (false);
	return ((r->notify & (delay ? NOTIFY_DELAY : NOTIFY_FAILURE)) != 0);
}

/* quoted - what of the message is returned, into b; header_only_r */
static int
quoted(struct queue *q, struct entry *e, const struct envelope *env, bool delay,
    struct buf *b, bool *header_only_r)
{
	const char *end;

	if (spool_read_content(q->spool, e->seq, b, FULL_MAX) == -1) {
		if (errno == ENOMEM)
			return (-1);
		b->len = 0; /* damaged: say what we know without it */
	}
	*header_only_r = delay || (env->flags & ENV_RET_HDRS) != 0 ||
	    e->size > FULL_MAX || b->len == 0;
	if (!*header_only_r || b->len == 0)
		return (0);
	if ((end = memmem(b->data, b->len, "\r\n\r\n", 4)) != NULL)
		b->len = (size_t)(end - b->data) + 2;
	else if ((end = memrchr(b->data, '\n', b->len)) != NULL)
		b->len = (size_t)(end - b->data) + 1;
	return (0);
}

/* post - build and submit; doubles go to the postmaster */
static int
post(struct queue *q, struct entry *e, const struct envelope *env,
    struct report *r)
{
	struct buf content = BUF_INIT(FULL_MAX + 1),
	           text = BUF_INIT(REPORT_MAX);
	struct envelope mine;
	char room[300];

	if (env_init(&mine) == -1)
		return (-1);
	queue_id_make(mine.id);
	mine.arrival_ms = r->now_ms;
	mine.flags = ENV_BOUNCE | ENV_ESMTP;
	r->id = mine.id;
	if (quoted(q, e, env, r->delay, &content, &r->header_only) == -1)
		goto bad;
	r->content = content.data != NULL ? content.data : "";
	r->content_len = content.len;
	if (env_add_rcpt(&mine, r->to) == NULL ||
	    env_set(&mine.proto, "local") == -1 || report_build(r, &text) == -1)
		goto bad;
	mine.flags |= report_flags(&text);
	if ((env->flags & ENV_SMTPUTF8) != 0)
		mine.flags |= ENV_SMTPUTF8;
	log_info("%s: %s: %s: %s", e->id, mine.id,
	    r->delay       ? "delay warning"
	        : r->twice ? "postmaster notify"
	                   : "DSN",
	    log_quote(room, sizeof(room), r->rcpts[0].reply));
	if (submit_own(q, &mine, &text) == -1)
		goto bad;
	buf_fini(&content);
	return (0);
bad:
	buf_fini(&content);
	buf_fini(&text);
	env_fini(&mine);
	return (-1);
}

/* double_bounce - true if the postmaster shall see it */
static bool
double_bounce(struct queue *q, struct entry *e, const struct envelope *env,
    const struct fate *f, size_t n)
{
	const char *postmaster = q->c->settings->postmaster;
	size_t i;

	for (i = 0; i < n; i++)
		if ((env->flags & ENV_BOUNCE) != 0 &&
		    strcasecmp(env->rcpts[f[i].rcpt].addr, postmaster) == 0) {
			log_warning(
			    "%s: double bounce to postmaster: dropped", e->id);
			return (false);
		}
	if (!limiter_take(&q->doubles, queue_now_ms(), DOUBLES_BURST,
	        DOUBLES_INTERVAL_MS)) {
		log_warning("%s: double bounce: dropped", e->id);
		return (false);
	}
	log_warning("%s: double bounce: to postmaster", e->id);
	return (true);
}

int
bounce_send(struct queue *q, struct entry *e, const struct envelope *env,
    const struct fate *f, size_t n, bool delay)
{
	const struct settings *s = q->c->settings;
	struct report r = { .hostname = s->hostname,
		.to = env->sender,
		.env = env,
		.now_ms = queue_now_ms(),
		.until_ms = env->arrival_ms + s->queue.expire_ms,
		.delay = delay };
	struct report_rcpt *v;
	char(*codes)[16];
	const struct rcpt *c;
	size_t i;
	int rc = 0;

	r.twice = env->sender[0] == '\0';
	if (r.twice) {
		if (delay || !double_bounce(q, e, env, f, n))
			return (0);
		r.to = s->postmaster;
	}
	v = calloc(n, sizeof(*v));
	codes = calloc(n, sizeof(*codes));
	if (v == NULL || codes == NULL)
		queue_oom();
	for (i = 0; i < n; i++) {
		c = &env->rcpts[f[i].rcpt];
		if (!r.twice && !wants(c, delay))
			continue;
		r.expired |= f[i].status != NULL;
		v[r.n_rcpts] = (struct report_rcpt){ c->addr, c->orcpt,
			f[i].reply, f[i].remote, f[i].status };
		if (f[i].status == NULL)
			v[r.n_rcpts].status =
			    reply_status(f[i].reply, codes[i]);
		r.n_rcpts++;
	}
	r.rcpts = v;
	if (r.n_rcpts > 0 && (rc = post(q, e, env, &r)) == 0 && !delay)
		q->counters.bounced++;
	free(v);
	free(codes);
	return (rc);
}
