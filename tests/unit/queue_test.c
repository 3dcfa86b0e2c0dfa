/* SPDX-License-Identifier: ISC */

/* queue_test - the queue process on a real spool, with peers played here */

#include "tests/lib/t.h"
#include "tests/unit/queue_rig.h"

#include "milter-sdk/base/crc32c.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ID1 "0000000000001"
#define ID2 "0000000000002"
#define ID3 "0000000000003"

static void
nap(long ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	(void)nanosleep(&t, NULL);
}

static bool
nothing_leaves(struct rig *r, int ms)
{
	struct delivery d;
	bool none = rig_deliver(r, ms, &d) == -1;

	delivery_fini(&d);
	return (none);
}

static void
accepts_and_delivers(void)
{
	struct delivery d;
	struct rig r;

	rig_start(&r, "");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "[127.0.0.1]") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	T_OK(d.good);
	T_STR(d.content, "Subject: test\r\n\r\nHello\r\n");
	T_STR(d.host, "[127.0.0.1]");
	T_OK(d.port == 2525 && d.env.n_rcpts == 1);
	T_STR(d.env.rcpts[0].addr, "b@dest.test");
	T_OK(rig_says(&r, "status", "\"delivering\":1"));
	rig_outcome(&r, &d, OUTCOME_DONE, "250 2.0.0 ok");
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	T_OK(rig_says(&r, "status", "\"delivered\":1"));
	T_OK(rig_says(&r, "queue show " ID1, "unknown id"));
	T_OK(rig_says(&r, "explain " ID1, "[{\"id\":\"" ID1 "\""));
	T_OK(rig_says(&r, "explain 9999999999999", "unknown id"));
	T_OK(rig_says(&r, "queue dance", "unknown command"));
	delivery_fini(&d);
	T_OK(rig_stop(&r) == 0);
	rig_end(&r);
}

static void
tells_the_same_totals_after_a_kill(void)
{
	struct delivery d;
	struct rig r;

	rig_start(&r, "");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "one.test") == 0);
	T_OK(rig_submit(&r, ID2, "c@dest.test", "two.test") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_outcome(&r, &d, OUTCOME_DONE, "250 2.0.0 ok");
	delivery_fini(&d);
	T_OK(rig_says(&r, "metrics", "outcome=\"delivered\"} 1\n"));
	T_OK(rig_says(&r, "metrics", "accepted_total{origin=\"client\"} 2\n"));
	T_OK(rig_says(&r, "queue hold " ID2, "\"changed\":1") ||
	    rig_says(&r, "queue hold " ID1, "\"changed\":1"));
	T_OK(rig_says(&r, "metrics",
	    "waiting{origin=\"client\",state=\"quarantined\"} 1\n"));
	nap(200);
	rig_again(&r);
	T_OK(rig_says(&r, "metrics", "accepted_total{origin=\"client\"} 2\n"));
	T_OK(rig_says(&r, "metrics",
	    "ended_total{origin=\"client\",outcome=\"delivered\"} 1\n"));
	T_OK(rig_says(&r, "metrics",
	    "waiting{origin=\"client\",state=\"quarantined\"} 1\n"));
	T_OK(rig_says(
	    &r, "metrics", "waiting{origin=\"client\",state=\"queued\"} 0\n"));
	T_OK(rig_says(&r, "metrics", "unaccounted{origin=\"client\"} 0\n"));
	T_OK(rig_stop(&r) == 0);
	rig_end(&r);
}

static void
groups_the_recipients_of_one_site(void)
{
	struct delivery d;
	struct envelope e;
	struct rcpt *c;
	char addr[40];
	struct rig r;
	unsigned i, seen = 0, outs = 0;

	rig_start(&r, "");
	rig_env(&e, ID1, "r0@dest.test", "one.test");
	for (i = 1; i < 250; i++) {
		(void)snprintf(addr, sizeof(addr), "r%u@dest.test", i);
		c = env_add_rcpt(&e, addr);
		T_OK(
		    c != NULL && route_copy(&c->route, &e.rcpts[0].route) == 0);
	}
	c = env_add_rcpt(&e, "other@two.test");
	T_OK(c != NULL && route_copy(&c->route, &e.rcpts[0].route) == 0 &&
	    env_set(&c->route.host, "two.test") == 0);
	T_OK(rig_put(&r, &e, "Subject: many\r\n\r\n.\r\n") == 0);
	while (rig_deliver(&r, seen < 251 ? 3000 : 100, &d) == 0) {
		seen += (unsigned)d.env.n_rcpts;
		outs++;
		rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
		delivery_fini(&d);
	}
	T_OK(seen == 251 && outs == 4);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	env_fini(&e);
	rig_end(&r);
}

static void
tries_again_after_a_deferral(void)
{
	struct delivery d;
	struct rig r;

	rig_start(&r, "");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_outcome(&r, &d, OUTCOME_DEFER, "450 4.2.0 greylisted");
	delivery_fini(&d);
	T_OK(nothing_leaves(&r, 100));
	T_OK(rig_says(&r, "queue list", "\"reason\":\"450 4.2.0 greylisted\""));
	T_OK(rig_says(&r, "queue list", "\"attempts\":1"));
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
	delivery_fini(&d);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	T_OK(rig_says(&r, "status", "\"deferrals\":1"));
	rig_end(&r);
}

static void
returns_what_failed_to_its_sender(void)
{
	char asked[256] = "";
	struct delivery d;
	struct rig r;

	rig_start(&r, "");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_outcome(&r, &d, OUTCOME_FAIL, "550 5.1.1 no such user");
	delivery_fini(&d);
	T_OK(rig_route(&r, asked, "back.test") == 0);
	T_STR(asked, "a@example.org");
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	T_STR(d.host, "back.test");
	T_STR(d.env.sender, "");
	T_OK((d.env.flags & ENV_BOUNCE) != 0 && d.good);
	T_OK(strstr(d.content, "Status: 5.1.1\r\n") != NULL);
	T_OK(strstr(d.content, "Final-Recipient: rfc822; b@dest.test\r\n") !=
	    NULL);
	T_OK(strstr(d.content, "Subject: test\r\n\r\nHello\r\n") != NULL);
	rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
	delivery_fini(&d);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	T_OK(rig_says(&r, "status", "\"failed\":1,\"bounced\":1"));
	rig_end(&r);
}

static void
shows_a_double_bounce_to_the_postmaster_once(void)
{
	char asked[256] = "";
	struct delivery d;
	struct envelope e;
	struct rig r;

	rig_start(&r, "");
	rig_env(&e, ID1, "b@dest.test", "dest.test");
	T_OK(env_set(&e.sender, "") == 0);
	T_OK(rig_put(&r, &e, "Subject: x\r\n\r\n") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_outcome(&r, &d, OUTCOME_FAIL, "550 5.1.1 no");
	delivery_fini(&d);
	T_OK(rig_route(&r, asked, "back.test") == 0);
	T_STR(asked, "postmaster@gate.test");
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_outcome(&r, &d, OUTCOME_FAIL, "550 5.1.1 no");
	delivery_fini(&d);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	T_OK(rig_says(&r, "status", "\"failed\":2,\"bounced\":1"));
	env_fini(&e);
	rig_end(&r);
}

static void
routing_refuses_discards_and_notify_never_is_silent(void)
{
	struct envelope e;
	struct rcpt *c;
	struct rig r;

	rig_start(&r, "");
	rig_env(&e, ID1, "b@dest.test", "dest.test");
	e.rcpts[0].route.mailer = MAILER_DISCARD;
	c = env_add_rcpt(&e, "c@dest.test");
	T_OK(c != NULL);
	c->route.mailer = MAILER_ERROR;
	c->notify = NOTIFY_NEVER;
	T_OK(env_set(&c->route.text, "550 5.1.2 closed") == 0);
	T_OK(rig_put(&r, &e, "Subject: x\r\n\r\n") == 0);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	T_OK(rig_says(
	    &r, "status", "\"failed\":1,\"bounced\":0,\"discarded\":1"));
	env_fini(&e);
	rig_end(&r);
}

static void
holds_releases_and_deletes(void)
{
	struct delivery d;
	struct envelope e;
	struct rig r;

	rig_start(&r, "");
	rig_env(&e, ID1, "b@dest.test", "dest.test");
	e.flags |= ENV_HELD;
	T_OK(env_set(&e.hold_reason, "looks odd") == 0 &&
	    env_set(&e.hold_by, "virus") == 0);
	T_OK(rig_put(&r, &e, "Subject: x\r\n\r\nbody\r\n") == 0);
	T_OK(nothing_leaves(&r, 200));
	T_OK(rig_says(&r, "queue show " ID1, "\"state\":\"held\""));
	T_OK(rig_says(&r, "queue show " ID1, "\"hold_by\":\"virus\""));
	T_OK(rig_says(&r, "queue show " ID1, "\"reason\":\"looks odd\""));
	T_OK(
	    rig_says(&r, "queue show " ID1, "\"header\":\"Subject: x\\r\\n\""));
	T_OK(rig_says(&r, "queue show " ID1, "\"record\":{\"id\":"));
	rig_again(&r);
	T_OK(rig_says(&r, "status", "\"held\":1"));
	T_OK(rig_says(&r, "queue release " ID1, "quarantine release"));
	T_OK(rig_says(&r, "queue release all", "{\"changed\":0}"));
	T_OK(rig_says(&r, "queue delete " ID1, "{\"changed\":1}"));
	T_OK(rig_says(&r, "queue delete " ID1, "unknown id"));
	env_fini(&e);
	rig_env(&e, ID2, "b@dest.test", "dest.test");
	rig_state(&r, "delivery", "paused");
	T_OK(rig_put(&r, &e, "Subject: x\r\n\r\nbody\r\n") == 0);
	T_OK(rig_says(&r, "queue hold " ID2, "{\"changed\":1}"));
	rig_state(&r, "delivery", "running");
	T_OK(nothing_leaves(&r, 200));
	rig_again(&r);
	T_OK(rig_says(&r, "queue show " ID2, "\"reason\":\"held by command"));
	T_OK(rig_says(&r, "queue release " ID2, "{\"changed\":1}"));
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_outcome(&r, &d, OUTCOME_DEFER, "450 later");
	delivery_fini(&d);
	T_OK(rig_says(&r, "status", "\"deferred\":1"));
	T_OK(rig_says(&r, "queue hold all", "{\"changed\":1}"));
	T_OK(nothing_leaves(&r, 400));
	T_OK(rig_says(&r, "queue delete " ID2, "{\"changed\":1}"));
	T_OK(rig_says(&r, "status", "\"messages\":0,\"held\":0"));
	env_fini(&e);
	rig_again(&r);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	rig_end(&r);
}

static void
a_message_in_hand_may_be_deleted(void)
{
	struct delivery d;
	struct rig r;

	rig_start(&r, "");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	T_OK(rig_says(&r, "queue delete " ID1, "{\"changed\":1}"));
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	rig_outcome(&r, &d, OUTCOME_DEFER, "450 later");
	delivery_fini(&d);
	T_OK(rig_says(&r, "status", "\"delivering\":0"));
	T_OK(nothing_leaves(&r, 300));
	rig_end(&r);
}

static void
a_dead_site_costs_one_probe_and_no_other_site(void)
{
	struct delivery d;
	char id[24];
	struct rig r;
	int i;

	rig_start(&r, "");
	rig_state(&r, "delivery", "paused");
	for (i = 0; i < 20; i++) {
		(void)snprintf(id, sizeof(id), "00000000001%02d", i);
		T_OK(rig_submit(&r, id, "b@dead.test", "dead.test") == 0);
	}
	T_OK(rig_submit(&r, ID2, "b@live.test", "live.test") == 0);
	T_OK(nothing_leaves(&r, 100));
	rig_state(&r, "delivery", "running");
	for (i = 0; i < 6; i++) { /* five at first, and the live one */
		T_OK(rig_deliver(&r, 3000, &d) == 0);
		if (strcmp(d.host, "live.test") == 0)
			rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
		else
			rig_outcome(&r, &d, OUTCOME_SITE, "450 4.4.1 refused");
		delivery_fini(&d);
	}
	T_OK(rig_says(&r, "status", "\"delivered\":1"));
	T_OK(rig_says(&r, "status", "\"deferred\":20"));
	T_OK(rig_says(&r, "queue list", "450 4.4.1 refused"));
	T_OK(rig_submit(&r, ID3, "b@live.test", "live.test") == 0);
	T_OK(rig_deliver(&r, 100, &d) == 0);
	T_STR(d.host, "live.test");
	rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
	delivery_fini(&d);
	T_OK(rig_deliver(&r, 3000, &d) == 0); /* the probe */
	T_STR(d.host, "dead.test");
	T_OK(nothing_leaves(&r, 300));
	{
		struct delivery none;

		T_OK(rig_deliver(&r, 300, &none) == -1);
	}
	rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
	delivery_fini(&d);
	for (i = 0; i < 19; i++) { /* alive again: all the others */
		T_OK(rig_deliver(&r, 1000, &d) == 0);
		rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
		delivery_fini(&d);
	}
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	rig_end(&r);
}

static void
holds_what_three_relays_died_of(void)
{
	struct delivery d;
	struct rig r;
	int i;

	rig_start(&r, "");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	T_OK(rig_submit(&r, ID2, "c@dest.test", "dest.test") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	delivery_fini(&d);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	delivery_fini(&d);
	for (i = 0; i < 3; i++) {
		rig_relay(&r);
		T_OK(rig_deliver(&r, 3000, &d) == 0);
		/* both saw a death: only one at a time now */
		if (strcmp(d.env.id, ID2) == 0) {
			rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
			delivery_fini(&d);
			T_OK(rig_deliver(&r, 3000, &d) == 0);
		}
		T_STR(d.env.id, ID1);
		delivery_fini(&d);
		if (i == 1)
			break;
	}
	rig_relay(&r);
	T_OK(rig_says(&r, "status", "\"held\":1"));
	T_OK(rig_says(&r, "queue show " ID1, "when a relay died"));
	rig_end(&r);
}

static void
finds_its_messages_after_kill_9(void)
{
	struct delivery d;
	struct rig r;
	int i;

	rig_start(&r, "");
	rig_state(&r, "delivery", "paused");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	T_OK(rig_submit(&r, ID2, "c@dest.test", "dest.test") == 0);
	T_OK(rig_submit(&r, ID2, "c@dest.test", "dest.test") == 3);
	rig_again(&r);
	for (i = 0; i < 2; i++) {
		T_OK(rig_deliver(&r, 3000, &d) == 0);
		T_OK(d.good);
		rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
		delivery_fini(&d);
	}
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	nap(100); /* the outcomes are synced within 50 ms */
	rig_again(&r);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	T_OK(nothing_leaves(&r, 100));
	rig_end(&r);
}

/* submit with a descriptor; the status */
static int
submit_fd(struct rig *r, const char *id, uint8_t where, int fd, uint64_t len,
    uint32_t crc)
{
	struct buf b = BUF_INIT(FRAME_MAX);
	struct packer k = { &b, false };
	struct envelope e;
	struct got g;
	int status = -1;

	rig_env(&e, id, "b@dest.test", "dest.test");
	env_pack(&k, &e);
	env_fini(&e);
	pack_u8(&k, where);
	pack_u64(&k, len);
	pack_u64(&k, 4096);
	pack_u32(&k, crc);
	pack_blob(&k, "", 0);
	pack_blob(&k, "", 0);
	pack_str(&k, "{}");
	pack_blob(&k, "", 0);
	pack_str(&k, "");
	T_OK(
	    frame_put(&r->receiver.io, MSG_SUBMIT, 77, b.data, b.len, fd) == 0);
	T_OK(frame_flush(&r->receiver.io) == 0);
	buf_fini(&b);
	if (side_get(&r->receiver, MSG_SUBMITTED, 5000, &g) == 0) {
		status = g.data[0];
		got_fini(&g);
	}
	return (status);
}

static void
takes_content_by_descriptor(void)
{
	static char big[300000];
	struct delivery d;
	struct got g;
	struct rig r;
	uint32_t crc;
	int i, fd;

	memset(big, 'x', sizeof(big));
	memcpy(big, "Subject: y\r\n\r\n", 14);
	crc = crc32c(0, big, sizeof(big));
	rig_start(&r, "");
	T_OK((fd = memfd_create("m", MFD_CLOEXEC)) != -1);
	T_OK(pwrite(fd, big, sizeof(big), 4096) == sizeof(big));
	T_OK(submit_fd(&r, ID1, 1, dup(fd), sizeof(big), crc) == 0);
	T_OK(submit_fd(&r, ID3, 1, dup(fd), sizeof(big), crc + 1) == 3);
	T_OK(submit_fd(&r, ID3, 1, fd, sizeof(big) + 1, crc) == 3);
	T_OK(frame_put(&r.receiver.io, MSG_BIG_FILE, 5, NULL, 0, -1) == 0);
	T_OK(frame_flush(&r.receiver.io) == 0);
	T_OK(side_get(&r.receiver, MSG_BIG_FILE_R, 3000, &g) == 0);
	T_OK(g.fd != -1);
	T_OK(pwrite(g.fd, big, sizeof(big), 4096) == sizeof(big));
	T_OK(submit_fd(&r, ID2, 2, dup(g.fd), sizeof(big), crc) == 0);
	T_OK(submit_fd(&r, ID3, 2, dup(g.fd), sizeof(big), crc + 1) == 3);
	got_fini(&g);
	for (i = 0; i < 2; i++) {
		T_OK(rig_deliver(&r, 3000, &d) == 0);
		T_OK(d.good && d.length == sizeof(big));
		rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
		delivery_fini(&d);
	}
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	rig_end(&r);
}

static void
warns_of_delay_and_gives_up_in_time(void)
{
	unsigned delayed = 0, expired = 0;
	char asked[256] = "";
	struct delivery d;
	struct rig r;
	int i;

	rig_start(&r, "warn-after = 1s expire = 2s");
	rig_state(&r, "delivery", "paused");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	for (i = 0; i < 2; i++) {
		T_OK(rig_route(&r, asked, "back.test") == 0);
		T_STR(asked, "a@example.org");
	}
	T_OK(rig_says(&r, "queue show " ID1, "unknown id"));
	rig_state(&r, "delivery", "running");
	for (i = 0; i < 2 && rig_deliver(&r, 3000, &d) == 0; i++) {
		delayed += strstr(d.content, "Action: delayed\r\n") != NULL;
		expired += strstr(d.content, "Status: 4.4.7\r\n") != NULL &&
		    strstr(d.content, "Action: failed\r\n") != NULL;
		rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
		delivery_fini(&d);
	}
	T_OK(delayed == 1 && expired == 1);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	rig_end(&r);
}

static void
lists_many_in_parts_and_flushes_them(void)
{
	char id[24], *text, *p;
	struct delivery d;
	struct rig r;
	int i, n = 0;

	rig_start(&r, "");
	rig_state(&r, "delivery", "paused");
	for (i = 0; i < 1200; i++) {
		(void)snprintf(id, sizeof(id), "000000000%04d", i);
		T_OK(rig_submit(&r, id, "b@dest.test", "dest.test") == 0);
	}
	text = rig_command(&r, "queue list");
	for (p = text; (p = strstr(p, "\"id\":")) != NULL; p++)
		n++;
	T_OK(n == 1200 && text[0] == '[' && text[strlen(text) - 1] == ']');
	free(text);
	T_OK(rig_says(&r, "queue hold all", "{\"changed\":1200}"));
	T_OK(rig_says(&r, "queue release all", "{\"changed\":1200}"));
	rig_state(&r, "delivery", "running");
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_outcome(&r, &d, OUTCOME_SITE, "450 no route");
	delivery_fini(&d);
	T_OK(rig_says(&r, "queue flush dest.test", "\"changed\":"));
	T_OK(rig_says(&r, "queue delete all", "{\"changed\":1200}"));
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	rig_end(&r);
}

/* tell - a line for the answer to ref */
static void
tell(struct rig *r, uint64_t ref, const char *line)
{
	struct buf b = BUF_INIT(1024);
	struct packer k = { &b, false };

	pack_str(&k, line);
	T_OK(pack_end(&k) == 0);
	T_OK(frame_put(&r->control.io, MSG_COMMAND, ref, b.data, b.len, -1) ==
	    0);
	T_OK(frame_flush(&r->control.io) == 0);
	buf_fini(&b);
}

/* hear - bytes of answer that come without being asked for more */
static size_t
hear(struct rig *r, uint64_t ref, bool *last)
{
	struct unpacker u;
	struct got g;
	size_t n, sum = 0;

	*last = false;
	while (!*last && side_get(&r->control, MSG_REPLY, 500, &g) == 0) {
		u = (struct unpacker){ g.data, g.len, false };
		*last = unpack_u8(&u) != 0;
		(void)unpack_blob(&u, &n);
		T_OK(g.ref == ref);
		sum += n;
		got_fini(&g);
	}
	return (sum);
}

/* said - the answer to ref, which is short, contains text */
static bool
said(struct rig *r, uint64_t ref, const char *text)
{
	struct unpacker u;
	struct got g;
	const char *p;
	size_t n;
	bool yes;

	if (side_get(&r->control, MSG_REPLY, 5000, &g) == -1)
		return (false);
	u = (struct unpacker){ g.data, g.len, false };
	yes = unpack_u8(&u) == 1;
	p = unpack_blob(&u, &n);
	yes = yes && g.ref == ref && memmem(p, n, text, strlen(text)) != NULL;
	if (!yes)
		printf("# said: %.*s\n# wanted: %s\n", (int)n, p, text);
	got_fini(&g);
	return (yes);
}

/* keep - what a receiver says of a release that came to nothing */
static void
keep(struct rig *r, uint64_t ref, const char *milter, const char *why)
{
	struct buf b = BUF_INIT(1024);
	struct packer k = { &b, false };

	pack_u8(&k, 0);
	pack_str(&k, milter);
	pack_str(&k, why);
	T_OK(pack_end(&k) == 0);
	T_OK(frame_put(&r->receiver.io, MSG_RELEASED, ref, b.data, b.len, -1) ==
	    0);
	T_OK(frame_flush(&r->receiver.io) == 0);
	buf_fini(&b);
}

/* offered - a message to be released; its ref, or 0 */
static uint64_t
offered(struct rig *r, const char *id, const char *content, const char *without)
{
	struct envelope e;
	struct unpacker u;
	struct got g;
	uint64_t ref = 0;
	const char *p, *origin;
	size_t n, n_origin;

	if (side_get(&r->receiver, MSG_RELEASE, 5000, &g) == -1)
		return (0);
	u = (struct unpacker){ g.data, g.len, false };
	T_OK(env_unpack(&u, &e) == 0);
	T_STR(e.id, id);
	env_fini(&e);
	T_OK(unpack_u64(&u) == strlen(content) && unpack_u64(&u) == 0);
	T_OK(unpack_u32(&u) == crc32c(0, content, strlen(content)));
	p = unpack_blob(&u, &n);
	T_OK(n == strlen(content) && memcmp(p, content, n) == 0);
	origin = unpack_blob(&u, &n_origin);
	T_OK(n_origin == 6 && memcmp(origin, "origin", 6) == 0);
	T_STR(unpack_str(&u), without);
	if (unpack_end(&u) == 0)
		ref = g.ref;
	got_fini(&g);
	return (ref);
}

static void
a_release_takes_the_place_of_what_was_held(void)
{
	static const char content[] = "Received: x\r\n\r\nbody\r\n";
	struct delivery d;
	struct envelope e;
	struct rig r;
	uint64_t ref;

	rig_start(&r, "");
	rig_env(&e, ID1, "b@dest.test", "dest.test");
	e.flags |= ENV_HELD;
	T_OK(env_set(&e.hold_by, "odd, spam") == 0);
	T_OK(rig_put(&r, &e, content) == 0);
	env_fini(&e);
	rig_env(&e, ID2, "b@dest.test", "dest.test");
	/* no receiver may say so of its own accord */
	r.instead = ID1;
	T_OK(rig_put(&r, &e, content) == 3);
	tell(&r, 5, "quarantine release " ID1);
	T_OK((ref = offered(&r, ID1, content, "odd, spam")) != 0);
	T_OK(rig_says(&r, "quarantine release " ID1, "being released"));
	T_OK(rig_says(&r, "quarantine delete " ID1, "being released"));
	T_OK(rig_says(&r, "queue delete all", "{\"changed\":0}"));
	keep(&r, ref + 1, "x", "a stranger's");
	keep(&r, ref, "dlp", "550 no");
	T_OK(said(&r, 5, "not released: milter dlp: 550 no"));
	T_OK(rig_put(&r, &e, content) == 3); /* it is too late */
	rig_again(&r);
	T_OK(rig_says(&r, "queue show " ID1, "not released: milter dlp"));
	tell(&r, 6, "quarantine release " ID1);
	T_OK((ref = offered(&r, ID1, content, "odd, spam")) != 0);
	rig_again(&r); /* kill -9 of the queue, and with it of the release */
	T_OK(rig_put(&r, &e, content) == 3);
	tell(&r, 7, "quarantine release " ID1);
	T_OK((ref = offered(&r, ID1, content, "odd, spam")) != 0);
	T_OK(rig_put(&r, &e, content) == 0);
	T_OK(said(&r, 7, "\"released_as\":[\"" ID2 "\"]"));
	keep(&r, ref, "x", "late");
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	T_STR(d.env.id, ID2);
	rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
	delivery_fini(&d);
	T_OK(rig_says(&r, "status", "\"messages\":0,\"held\":0"));
	T_OK(rig_put(&r, &e, content) == 3);
	env_fini(&e);
	rig_again(&r);
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	rig_end(&r);
}

static void
a_long_answer_waits_for_its_reader(void)
{
	char addr[200];
	struct envelope e;
	struct rcpt *c;
	struct rig r;
	size_t n, sum;
	bool last;
	int i;

	rig_start(&r, "");
	rig_state(&r, "delivery", "paused");
	rig_env(&e, ID1, "b@dest.test", "dest.test");
	memset(addr, 'x', sizeof(addr));
	(void)strcpy(addr + 100, "@dest.test");
	for (i = 0; i < 200; i++) {
		c = env_add_rcpt(&e, addr);
		T_OK(
		    c != NULL && route_copy(&c->route, &e.rcpts[0].route) == 0);
	}
	for (i = 0; i < 90; i++) {
		(void)snprintf(e.id, sizeof(e.id), "000000000%04d", i);
		T_OK(rig_put(&r, &e, "Subject: x\r\n\r\n") == 0);
	}
	tell(&r, 900, "queue list");
	sum = hear(&r, 900, &last);
	T_OK(!last && sum >= REPLY_WINDOW && sum < REPLY_WINDOW * 3 / 2);
	for (i = 0; i < 10 && !last; i++) {
		tell(&r, 900, "more");
		n = hear(&r, 900, &last);
		T_OK(n < REPLY_MORE * 2);
		sum += n;
	}
	T_OK(last && sum > 2 * REPLY_WINDOW);
	for (i = 0; i < 40; i++) {
		tell(&r, 901 + (uint64_t)i, "queue list");
		tell(&r, 901 + (uint64_t)i, "cancel");
	}
	T_OK(rig_says(&r, "queue hold all", "{\"changed\":90}"));
	tell(&r, 990, "more"); /* of nothing */
	tell(&r, 990, "cancel");
	T_OK(rig_says(&r, "status", "\"messages\":90"));
	env_fini(&e);
	rig_end(&r);
}

static void
drops_a_relay_that_answers_nonsense(void)
{
	struct delivery d, again;
	struct rig r;

	rig_start(&r, "");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	d.env.n_rcpts = 0;
	rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
	d.env.n_rcpts = 1;
	T_OK(rig_says(&r, "status", "\"delivering\":0"));
	rig_relay(&r);
	T_OK(rig_deliver(&r, 3000, &again) == 0);
	T_OK(again.ref != d.ref);
	rig_outcome(&r, &again, OUTCOME_DONE, "250 ok");
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	delivery_fini(&d);
	delivery_fini(&again);
	rig_end(&r);
}

static void
an_answer_to_the_process_before_is_void(void)
{
	struct delivery d, again;
	struct rig r;

	rig_start(&r, "");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	rig_again(&r);
	T_OK(rig_deliver(&r, 3000, &again) == 0);
	T_OK(again.ref != d.ref);
	rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
	nap(50);
	T_OK(rig_says(&r, "status", "\"messages\":1"));
	T_OK(rig_says(&r, "status", "\"delivering\":1"));
	rig_outcome(&r, &again, OUTCOME_DONE, "250 ok");
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	delivery_fini(&d);
	delivery_fini(&again);
	rig_end(&r);
}

static void
what_was_long_in_hold_is_tried_not_returned(void)
{
	struct delivery d;
	struct envelope e;
	struct rig r;

	rig_start(&r, "warn-after = 1s expire = 1s");
	rig_env(&e, ID1, "b@dest.test", "dest.test");
	e.flags |= ENV_HELD;
	e.arrival_ms -= 3600000;
	T_OK(rig_put(&r, &e, "Subject: x\r\n\r\n") == 0);
	T_OK(rig_says(&r, "queue release all", "{\"changed\":1}"));
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	delivery_fini(&d);
	nap(100);
	rig_again(&r);
	T_OK(rig_deliver(&r, 3000, &d) == 0);
	T_STR(d.env.id, ID1);
	rig_outcome(&r, &d, OUTCOME_DONE, "250 ok");
	delivery_fini(&d);
	T_OK(rig_says(&r, "status", "\"bounced\":0"));
	T_OK(rig_says(&r, "status", "\"messages\":0"));
	env_fini(&e);
	rig_end(&r);
}

static void
a_delay_during_an_attempt_is_told_after_it(void)
{
	char asked[256] = "";
	struct delivery d;
	struct rig r;

	rig_start(&r, "warn-after = 1s retry-min = 10s retry-max = 10s");
	T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
	T_OK(rig_deliver(&r, 900, &d) == 0);
	nap(1200); /* the hop is slow: the warning is due meanwhile */
	rig_outcome(&r, &d, OUTCOME_DEFER, "450 4.2.0 later");
	delivery_fini(&d);
	T_OK(rig_route(&r, asked, "back.test") == 0);
	T_STR(asked, "a@example.org");
	T_OK(rig_deliver(&r, 2000, &d) == 0);
	T_OK(d.content != NULL &&
	    strstr(d.content, "Action: delayed\r\n") != NULL &&
	    strstr(d.content, "450 4.2.0 later\r\n") != NULL);
	delivery_fini(&d);
	rig_end(&r);
}

/* A last try planned beyond the expiry looked like a release from hold, and
 * each restart gave the message another life. */
static void
a_restart_does_not_prolong_a_message(void)
{
	static const enum outcome whats[] = { OUTCOME_DEFER, OUTCOME_SITE };
	char asked[256] = "";
	struct delivery d;
	struct rig r;
	unsigned i;

	for (i = 0; i < 2; i++) {
		rig_start(&r,
		    "warn-after = 1d expire = 2s retry-min = 5s retry-max = "
		    "20s");
		T_OK(rig_submit(&r, ID1, "b@dest.test", "dest.test") == 0);
		T_OK(rig_deliver(&r, 1500, &d) == 0);
		rig_outcome(&r, &d, whats[i], "450 4.2.0 later");
		delivery_fini(&d);
		T_OK(rig_says(&r, "queue list", "\"attempts\":1"));
		rig_again(&r);
		T_OK(rig_route(&r, asked, "back.test") == 0);
		T_STR(asked, "a@example.org");
		rig_end(&r);
	}
}

static const struct t_case cases[] = {
	{ "tells the same totals after a kill",
	    tells_the_same_totals_after_a_kill },
	{ "accepts and delivers", accepts_and_delivers },
	{ "groups the recipients of one site",
	    groups_the_recipients_of_one_site },
	{ "tries again after a deferral", tries_again_after_a_deferral },
	{ "returns what failed to its sender",
	    returns_what_failed_to_its_sender },
	{ "shows a double bounce to the postmaster once",
	    shows_a_double_bounce_to_the_postmaster_once },
	{ "routing refuses, discards, and NOTIFY=NEVER is silent",
	    routing_refuses_discards_and_notify_never_is_silent },
	{ "holds, releases and deletes", holds_releases_and_deletes },
	{ "a release takes the place of what was held",
	    a_release_takes_the_place_of_what_was_held },
	{ "a message in hand may be deleted",
	    a_message_in_hand_may_be_deleted },
	{ "a dead site costs one probe and no other site",
	    a_dead_site_costs_one_probe_and_no_other_site },
	{ "holds what three relays died of", holds_what_three_relays_died_of },
	{ "finds its messages after kill -9", finds_its_messages_after_kill_9 },
	{ "takes content by descriptor", takes_content_by_descriptor },
	{ "warns of delay and gives up in time",
	    warns_of_delay_and_gives_up_in_time },
	{ "lists many in parts and flushes them",
	    lists_many_in_parts_and_flushes_them },
	{ "a long answer waits for its reader",
	    a_long_answer_waits_for_its_reader },
	{ "drops a relay that answers nonsense",
	    drops_a_relay_that_answers_nonsense },
	{ "an answer to the process before is void",
	    an_answer_to_the_process_before_is_void },
	{ "what was long in hold is tried, not returned",
	    what_was_long_in_hold_is_tried_not_returned },
	{ "a delay during an attempt is told after it",
	    a_delay_during_an_attempt_is_told_after_it },
	{ "a restart does not prolong a message",
	    a_restart_does_not_prolong_a_message },
};

T_MAIN(cases)
