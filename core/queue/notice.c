/* SPDX-License-Identifier: ISC */

/* notice - mail to the postmaster from our own processes, at a bounded rate */

#include "core/queue/queue.h"
#include "core/queue/report.h"
#include "core/smtp/id.h"

#include "milter-sdk/base/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	NOTICE_TEXT_MAX = 64 << 10,
	NOTICE_BURST = 10,
	NOTICE_INTERVAL_MS = 300000
};

/* limiter_take - a token bucket: true if one more may pass */
bool
limiter_take(
    struct limiter *l, uint64_t now, unsigned burst, uint64_t interval_ms)
{
	uint64_t n;

	if (l->last_ms == 0) {
		l->tokens = burst;
		l->last_ms = now;
	}
	n = now > l->last_ms ? (now - l->last_ms) / interval_ms : 0;
	if (n > 0) {
		l->tokens =
		    n >= burst - l->tokens ? burst : l->tokens + (unsigned)n;
		l->last_ms += n * interval_ms;
	}
	if (l->tokens == 0) {
		l->suppressed++;
		return (false);
	}
	l->tokens--;
	return (true);
}

/* body - text with CRLF line ends and no other control bytes than tabs */
static int
body(struct buf *out, const char *text, size_t len)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < len && rc == 0; i++) {
		if (text[i] == '\n')
			rc = buf_add(out, "\r\n", 2);
		else if (text[i] == '\t' || (unsigned char)text[i] >= 32)
			rc = buf_add(out, &text[i], 1);
	}
	return (rc | buf_add(out, "\r\n", 2));
}

static int
build(struct queue *q, const char *id, const char *subject, const char *text,
    size_t len, struct buf *out)
{
	const struct settings *s = q->c->settings;
	char date[40], room[200];
	int rc;

	rc = buf_addf(out,
	    "Date: %s\r\n"
	    "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n"
	    "To: <%s>\r\n"
	    "Subject: %s\r\n"
	    "Message-ID: <%s@%s>\r\n"
	    "Auto-Submitted: auto-generated\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: text/plain; charset=utf-8\r\n"
	    "Content-Transfer-Encoding: 8bit\r\n\r\n",
	    report_date(date, queue_now_ms()), s->hostname, s->postmaster,
	    log_quote(room, sizeof(room), subject), id, s->hostname);
	rc |= body(out, text, len);
	if (q->notices.suppressed > 0)
		rc |= buf_addf(out,
		    "\r\nNotices that were left out since the last one: %u\r\n",
		    q->notices.suppressed);
	return (rc);
}

void
notice_send(struct queue *q, const char *subject, const char *text, size_t len)
{
	struct buf b = BUF_INIT(4 * NOTICE_TEXT_MAX);
	struct envelope env;
	char room[200];

	if (len > NOTICE_TEXT_MAX)
		len = NOTICE_TEXT_MAX;
	log_info("notice: %s", log_quote(room, sizeof(room), subject));
	if (!limiter_take(
	        &q->notices, queue_now_ms(), NOTICE_BURST, NOTICE_INTERVAL_MS))
		return;
	if (env_init(&env) == -1)
		queue_oom();
	queue_id_make(env.id);
	env.arrival_ms = queue_now_ms();
	env.flags = ENV_BOUNCE | ENV_ESMTP;
	if (env_add_rcpt(&env, q->c->settings->postmaster) == NULL ||
	    env_set(&env.proto, "local") == -1 ||
	    build(q, env.id, subject, text, len, &b) == -1)
		goto bad;
	env.flags |= report_flags(&b);
	if (submit_own(q, &env, &b) == -1)
		goto bad;
	q->notices.suppressed = 0;
	return;
bad:
	log_err("notice: %s", strerror(errno));
	buf_fini(&b);
	env_fini(&env);
}

/* notice_frame - what any process may send us */
void
notice_frame(struct queue *q, struct frame *f)
{
	struct unpacker u = { f->data, f->len, false };
	const char *subject, *text;
	size_t len;

	if (f->fd != -1)
		(void)close(f->fd);
	if (f->type != MSG_NOTICE)
		return;
	subject = unpack_str(&u);
	text = unpack_blob(&u, &len);
	if (unpack_end(&u) == 0)
		notice_send(q, subject, text, len);
}
