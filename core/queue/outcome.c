/* SPDX-License-Identifier: ISC */

/*
 * outcome - what became of a hand-out
 *
 * A relay may be taken over: its answer must name each recipient of the
 * hand-out exactly once, or the relay is dropped and its hand-outs wait again.
 * A failure is recorded only after the bounce is in the spool; both lie in one
 * journal in that order, so a crash between them sends the bounce twice at
 * worst.
 */

#include "core/queue/queue.h"

#include "milter-sdk/base/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_TEXT = 600 };

struct answer {
	enum outcome what;
	const char *reply, *remote;
	bool seen;
};

/* span - a duration as Sendmail logs it: [D+]HH:MM:SS */
static const char *
span(char *room, size_t n, uint64_t ms)
{
	uint64_t s = ms / 1000, d = s / 86400;

	s %= 86400;
	if (d > 0)
		(void)snprintf(room, n, "%u+%02u:%02u:%02u",
		    (unsigned)(d % 100000), (unsigned)(s / 3600),
		    (unsigned)(s / 60 % 60), (unsigned)(s % 60));
	else
		(void)snprintf(room, n, "%02u:%02u:%02u", (unsigned)(s / 3600),
		    (unsigned)(s / 60 % 60), (unsigned)(s % 60));
	return (room);
}

const char *
reply_status(const char *reply, char out[16])
{
	const char *p = reply, *q;
	unsigned dots = 0;

	(void)snprintf(out, 16, "%c.0.0",
	    reply[0] == '2' || reply[0] == '4' ? reply[0] : '5');
	if (strlen(reply) < 9 || (reply[3] != ' ' && reply[3] != '-'))
		return (out);
	for (q = p += 4;
	     *q != '\0' && (isdigit((unsigned char)*q) || *q == '.'); q++)
		dots += *q == '.';
	if (dots != 2 || q - p < 5 || q - p > 9 || p[1] != '.' ||
	    q[-1] == '.' || strstr(p, "..") == p + 1 ||
	    strchr("245", p[0]) == NULL)
		return (out);
	(void)snprintf(out, 16, "%.*s", (int)(q - p), p);
	return (out);
}

void
outcome_log(const struct entry *e, const char *to, const char *mailer,
    const char *remote, const char *reply, enum outcome what,
    uint64_t xdelay_ms)
{
	char a[LOG_TEXT], b[LOG_TEXT], c[LOG_TEXT], d1[32], d2[32], dsn[16];
	uint64_t now = queue_now_ms();

	log_line(LOG_INFO,
	    "%s: to=<%s>, delay=%s, xdelay=%s, mailer=%s%s%s, dsn=%s, "
	    "stat=%s%s%s",
	    e->id, log_quote(a, sizeof(a), to),
	    span(d1, sizeof(d1), now > e->arrival_ms ? now - e->arrival_ms : 0),
	    span(d2, sizeof(d2), xdelay_ms), mailer,
	    remote[0] != '\0' ? ", relay=" : "",
	    log_quote(b, sizeof(b), remote), reply_status(reply, dsn),
	    what == OUTCOME_DONE       ? "Sent ("
	        : what == OUTCOME_FAIL ? ""
	                               : "Deferred: ",
	    log_quote(c, sizeof(c), reply), what == OUTCOME_DONE ? ")" : "");
}

void
outcome_fail(struct queue *q, struct entry *e, const struct envelope *env,
    const struct fate *f, size_t n, const char *mailer, uint64_t xdelay_ms)
{
	size_t i;

	if (bounce_send(q, e, env, f, n, false) == -1) {
		/* Not told to the sender, so not over: try again later. */
		log_err("%s: bounce: %s", e->id, strerror(errno));
		for (i = 0; i < n; i++)
			entry_set_state(q, e, f[i].rcpt, R_LATER);
		entry_defer(q, e, f[0].reply);
		return;
	}
	for (i = 0; i < n; i++) {
		entry_set_state(q, e, f[i].rcpt, R_FAILED);
		spool_put_done(
		    q->spool, e->seq, f[i].rcpt, RCPT_FAILED, f[i].reply);
		q->counters.failed++;
		outcome_log(e, env->rcpts[f[i].rcpt].addr, mailer, f[i].remote,
		    f[i].reply, OUTCOME_FAIL, xdelay_ms);
	}
}

/* parse - n answers by index; 0, or -1 with EPROTO */
static int
parse(struct unpacker *u, const struct handout *h, struct answer *a,
    uint64_t *ms_r)
{
	uint32_t i, k, n = unpack_u32(u);
	uint8_t what;

	if (u->failed || n != h->n)
		goto bad;
	for (k = 0; k < n; k++) {
		i = unpack_u32(u);
		what = unpack_u8(u);
		if (u->failed || i >= n || a[i].seen || what > OUTCOME_SITE)
			goto bad;
		a[i].seen = true;
		a[i].what = (enum outcome)what;
		a[i].reply = unpack_str(u);
		a[i].remote = unpack_str(u);
	}
	*ms_r = unpack_u32(u);
	return (unpack_end(u));
bad:
	errno = EPROTO;
	return (-1);
}

/* sent - recipient done */
static void
sent(struct queue *q, struct entry *e, uint32_t i, const struct answer *a)
{
	entry_set_state(q, e, i, R_DONE);
	spool_put_done(q->spool, e->seq, i, RCPT_DONE, a->reply);
	q->counters.delivered++;
}

/* site_trouble - the next hop could not be reached; the recipients wait for
 * its next probe, behind the other messages there */
static void
site_trouble(
    struct queue *q, struct handout *h, struct entry *e, const char *reply)
{
	struct site *s = h->site;
	uint64_t at;

	site_failed(q, s, h->gen, reply);
	entry_set_reason(e, reply);
	if (e->attempts < UINT16_MAX)
		e->attempts++;
	at = s->timer.pos != 0 ? s->timer.at_ms : queue_now_ms();
	if (at > entry_expire_at(q, e)) /* as in entry_defer() */
		at = entry_expire_at(q, e);
	spool_put_deferred(q->spool, e->seq, at, e->attempts, reply);
	if ((e->flags & E_HELD) == 0)
		site_add_job(q, s, e);
	entry_defer_flag(q, e, (e->flags & E_HELD) == 0);
}

/* apply - one hand-out's answers to its entry */
static void
apply(struct queue *q, struct handout *h, const struct answer *a, uint64_t ms,
    const struct envelope *env)
{
	struct fate fates[HANDOUT_RCPTS_MAX];
	const char *later = NULL, *trouble = NULL;
	struct entry *e = h->e;
	uint32_t i, k;
	size_t n = 0;

	for (k = 0; k < h->n; k++) {
		i = h->rcpts[k];
		switch (a[k].what) {
		case OUTCOME_DONE:
			sent(q, e, i, &a[k]);
			break;
		case OUTCOME_DEFER:
			entry_set_state(q, e, i, R_LATER);
			q->counters.deferrals++;
			later = a[k].reply;
			break;
		case OUTCOME_SITE:
			entry_set_state(q, e, i, R_WAIT);
			q->counters.deferrals++;
			trouble = a[k].reply;
			break;
		case OUTCOME_FAIL:
			fates[n++] =
			    (struct fate){ i, a[k].reply, a[k].remote, NULL };
			continue; /* logged when it is recorded */
		}
		outcome_log(e, env->rcpts[i].addr, "smtp", a[k].remote,
		    a[k].reply, a[k].what, ms);
	}
	if (trouble != NULL)
		site_trouble(q, h, e, trouble);
	else
		site_reached(q, h->site);
	if (n > 0)
		outcome_fail(q, e, env, fates, n, "smtp", ms);
	if (later != NULL)
		entry_defer(q, e, later);
}

/* gone - of a message that was deleted meanwhile: only counted and logged */
static void
gone(struct queue *q, struct handout *h, const struct answer *a)
{
	uint32_t k;

	for (k = 0; k < h->n; k++)
		if (a[k].what == OUTCOME_DONE) {
			q->counters.delivered++;
			q->counters.late++;
			log_info("%s: deleted, but was being delivered: "
			         "recipient=%u",
			    h->e->id, h->rcpts[k]);
		}
}

void
outcome_frame(struct relay *r, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	struct answer a[HANDOUT_RCPTS_MAX];
	struct queue *q = r->q;
	unsigned slot = f->ref & 255;
	struct handout *h = slot < HANDOUTS_MAX ? r->slots[slot] : NULL;
	struct entry *e;
	struct hot *hot;
	uint64_t ms;

	if (f->fd != -1)
		(void)close(f->fd);
	memset(a, 0, sizeof(a));
	if (h == NULL || h->ref != f->ref) {
		/* Of a hand-out by the queue process before this one: the
		 * message waits here and is tried again. */
		log_info("relay.%u: outcome: unknown hand-out", r->index);
		return;
	}
	if (parse(&u, h, a, &ms) == -1) {
		log_err("relay.%u: outcome: bad frame", r->index);
		relay_gone(r);
		return;
	}
	e = h->e;
	if ((e->flags & E_GONE) != 0)
		gone(q, h, a);
	else if ((hot = entry_env(q, e)) == NULL) {
		uint32_t k;

		log_err("%s: envelope: %s", e->id, strerror(errno));
		for (k = 0; k < h->n; k++)
			if (a[k].what == OUTCOME_DONE)
				sent(q, e, h->rcpts[k], &a[k]);
			else
				entry_set_state(q, e, h->rcpts[k], R_LATER);
		if (e->left > 0)
			entry_hold(q, e, "cannot be read from the spool");
	} else
		apply(q, h, a, ms, &hot->env);
	handout_end(h);
	entry_settle(q, e);
}
