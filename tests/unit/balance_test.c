/* SPDX-License-Identifier: ISC */

/*
 * balance_test - each recipient is counted once where it comes in and once
 * where it ends or waits; a count that is left out is found
 *
 * The linker puts the __wrap_ functions in place of those that count
 * (local.mk): with a plant they take back what was counted, so that the queue
 * goes on as if that line of it were missing.
 */

#include "core/queue/queue.h"
#include "tests/lib/t.h"
#include "tests/unit/queue_rig.h"

#include <stdlib.h>

enum plant {
	NONE,
	/* seen at once */
	ACCEPTED,
	DELIVERED,
	BOUNCED,
	ROUTED_AWAY,
	DROPPED,
	DELETED,
	WAITING_IN,
	WAITING_OUT,
	HELD,
	/* seen after a kill */
	ACCEPTED_KEPT,
	SET_KEPT,
	OWN_KEPT,
	JOURNAL,
	PLANTS
};
static enum plant plant;

/* ---- what is planted ---- */

static void
put_back(uint64_t *now, const uint64_t *was)
{
	memcpy(now, was, 2 * sizeof(*now));
}

static struct spool_totals *
of(const struct spool *sp)
{
	return ((struct spool_totals *)(uintptr_t)spool_totals(sp));
}

void __real_submit_synced(void *, uint64_t, bool);
void __wrap_submit_synced(void *, uint64_t, bool);
void
__wrap_submit_synced(void *arg, uint64_t seq, bool ok)
{
	struct queue *q = arg;
	uint64_t was[2];

	memcpy(was, q->counters.recipients, sizeof(was));
	__real_submit_synced(arg, seq, ok);
	if (plant == ACCEPTED)
		put_back(q->counters.recipients, was);
}

void __real_spool_put_done(
    struct spool *, uint64_t, uint32_t, enum rcpt_state, const char *);
void __wrap_spool_put_done(
    struct spool *, uint64_t, uint32_t, enum rcpt_state, const char *);
void
__wrap_spool_put_done(struct spool *sp, uint64_t seq, uint32_t rcpt,
    enum rcpt_state state, const char *reply)
{
	const struct spool_totals was = *spool_totals(sp);

	__real_spool_put_done(sp, seq, rcpt, state, reply);
	if (plant == DELIVERED)
		put_back(of(sp)->delivered, was.delivered);
	if (plant == BOUNCED)
		put_back(of(sp)->bounced, was.bounced);
	if (plant == ROUTED_AWAY)
		put_back(of(sp)->discarded, was.discarded);
}

void __real_spool_put_discarded(struct spool *, uint64_t);
void __wrap_spool_put_discarded(struct spool *, uint64_t);
void
__wrap_spool_put_discarded(struct spool *sp, uint64_t n)
{
	const struct spool_totals was = *spool_totals(sp);

	__real_spool_put_discarded(sp, n);
	if (plant == DROPPED)
		put_back(of(sp)->discarded, was.discarded);
}

void __real_spool_put_drop(struct spool *, uint64_t, const char *);
void __wrap_spool_put_drop(struct spool *, uint64_t, const char *);
void
__wrap_spool_put_drop(struct spool *sp, uint64_t seq, const char *why)
{
	const struct spool_totals was = *spool_totals(sp);

	__real_spool_put_drop(sp, seq, why);
	if (plant == DELETED)
		put_back(of(sp)->deleted, was.deleted);
}

void __real_entry_count(struct queue *, struct entry *);
void __wrap_entry_count(struct queue *, struct entry *);
void
__wrap_entry_count(struct queue *q, struct entry *e)
{
	uint64_t was[2][2];

	memcpy(was, q->waiting, sizeof(was));
	__real_entry_count(q, e);
	if (plant == WAITING_IN)
		memcpy(q->waiting, was, sizeof(was));
}

void __real_entry_set_state(
    struct queue *, struct entry *, uint32_t, enum rstate);
void __wrap_entry_set_state(
    struct queue *, struct entry *, uint32_t, enum rstate);
void
__wrap_entry_set_state(
    struct queue *q, struct entry *e, uint32_t i, enum rstate st)
{
	uint64_t was[2][2];

	memcpy(was, q->waiting, sizeof(was));
	__real_entry_set_state(q, e, i, st);
	if (plant == WAITING_OUT)
		memcpy(q->waiting, was, sizeof(was));
}

void __real_entry_set_held(struct queue *, struct entry *, bool);
void __wrap_entry_set_held(struct queue *, struct entry *, bool);
void
__wrap_entry_set_held(struct queue *q, struct entry *e, bool on)
{
	uint64_t was[2][2];

	memcpy(was, q->waiting, sizeof(was));
	__real_entry_set_held(q, e, on);
	if (plant == HELD)
		memcpy(q->waiting, was, sizeof(was));
}

int __real_spool_put_messages(struct spool *, const struct spool_new *, size_t,
    uint64_t *, struct spool_place *);
int __wrap_spool_put_messages(struct spool *, const struct spool_new *, size_t,
    uint64_t *, struct spool_place *);
int
__wrap_spool_put_messages(struct spool *sp, const struct spool_new *m, size_t n,
    uint64_t *seq_r, struct spool_place *place_r)
{
	const struct spool_totals was = *spool_totals(sp);
	int rc = __real_spool_put_messages(sp, m, n, seq_r, place_r);

	if ((plant == ACCEPTED_KEPT && n == 1) || (plant == SET_KEPT && n > 1))
		put_back(of(sp)->accepted, was.accepted);
	return (rc);
}

int __real_spool_put_message(
    struct spool *, const struct spool_new *, uint64_t *, struct spool_place *);
int __wrap_spool_put_message(
    struct spool *, const struct spool_new *, uint64_t *, struct spool_place *);
int
__wrap_spool_put_message(struct spool *sp, const struct spool_new *m,
    uint64_t *seq_r, struct spool_place *place_r)
{
	const struct spool_totals was = *spool_totals(sp);
	int rc = __real_spool_put_message(sp, m, seq_r, place_r);

	if (plant == OWN_KEPT)
		put_back(of(sp)->accepted, was.accepted);
	return (rc);
}

void __real_rec_totals_put(unsigned char *, const struct spool_totals *);
void __wrap_rec_totals_put(unsigned char *, const struct spool_totals *);
void
__wrap_rec_totals_put(unsigned char *out, const struct spool_totals *t)
{
	struct spool_totals none;

	memset(&none, 0, sizeof(none));
	__real_rec_totals_put(out, plant == JOURNAL ? &none : t);
}

/* ---- the mail, and what became of it ---- */

struct mail {
	const char *id, *sender, *to[4];
	enum mailer mailer;
	uint32_t flags;
};
static const struct mail mails[] = {
	{ "0000000000001", "s1@example.org",
	    { "good@a.test", "bad@b.test", "waits@c.test" }, MAILER_SMTP, 0 },
	{ "0000000000002", "s2@example.org", { "bad@d.test" }, MAILER_SMTP, 0 },
	{ "0000000000003", "s3@example.org", { "x@e.test", "y@e.test" },
	    MAILER_SMTP, ENV_HELD },
	{ "0000000000004", "s4@example.org", { "deleted@f.test" }, MAILER_SMTP,
	    ENV_HELD },
	{ "0000000000005", "s5@example.org", { "good@g.test", "good2@g.test" },
	    MAILER_SMTP, ENV_HELD },
	{ "0000000000006", "s6@example.org", { "away@h.test" }, MAILER_DISCARD,
	    0 },
	/* one message for two groups */
	{ "0000000000008", "s8@example.org", { "good@j.test" }, MAILER_SMTP,
	    0 },
	{ "0000000000008-2", "s8@example.org", { "x@k.test", "y@k.test" },
	    MAILER_SMTP, ENV_HELD },
	/* after all the rest: what is durable with it */
	{ "0000000000007", "s7@example.org", { "last@i.test" }, MAILER_SMTP,
	    ENV_HELD },
};
enum { MAILS = sizeof(mails) / sizeof(mails[0]), DROPPED_RCPTS = 3 };

/* By what the test itself has done. */
static const struct {
	const char *name, *label;
	unsigned client, own;
} truth[] = {
	{ "accepted_total", "", 14 + DROPPED_RCPTS, 3 },
	{ "ended_total", ",outcome=\"delivered\"", 4, 2 },
	{ "ended_total", ",outcome=\"bounced\"", 2, 1 },
	{ "ended_total", ",outcome=\"discarded\"", 1 + DROPPED_RCPTS, 0 },
	{ "ended_total", ",outcome=\"deleted\"", 1, 0 },
	{ "waiting", ",state=\"queued\"", 1, 0 },
	{ "waiting", ",state=\"quarantined\"", 5, 0 },
	{ "unaccounted", "", 0, 0 },
};

/* stands - is that sample in the page? */
static bool
stands(const char *page, size_t i, bool own, bool tell)
{
	char want[160];
	bool yes;

	(void)snprintf(want, sizeof(want),
	    "milldam_recipients_%s{origin=\"%s\"%s} %u\n", truth[i].name,
	    own ? "own" : "client", truth[i].label,
	    own ? truth[i].own : truth[i].client);
	yes = strstr(page, want) != NULL;
	if (!yes && tell)
		printf("# wanted: %s", want);
	return (yes);
}

/* agrees - does the page say what has been done? */
static bool
agrees(struct rig *r, bool tell)
{
	char *page = rig_command(r, "metrics");
	bool all = true;
	size_t i;

	for (i = 0; i < sizeof(truth) / sizeof(truth[0]); i++) {
		all &= stands(page, i, false, tell);
		all &= stands(page, i, true, tell);
	}
	if (!all && tell)
		printf("# page: %.3000s\n", page);
	free(page);
	return (all);
}

/* submit - the first of a set, or a message that is whole or the last */
static void
submit(struct rig *r, const struct mail *m, bool first, bool last)
{
	static const char content[] = "Subject: x\r\n\r\nx\r\n";
	struct envelope e;
	struct rcpt *c;
	size_t i;

	rig_env(&e, m->id, m->to[0], strchr(m->to[0], '@') + 1);
	e.flags |= m->flags;
	e.rcpts[0].route.mailer = m->mailer;
	T_OK(env_set(&e.sender, m->sender) == 0);
	for (i = 1; i < 4 && m->to[i] != NULL; i++) {
		c = env_add_rcpt(&e, m->to[i]);
		T_OK(c != NULL &&
		    route_copy(&c->route, &e.rcpts[0].route) == 0 &&
		    env_set(&c->route.host, strchr(m->to[i], '@') + 1) == 0);
	}
	if (first)
		r->ref++;
	if (last)
		T_OK(rig_put_last(r, &e, content) == 0);
	else
		rig_more(r, MSG_SUBMIT_MORE, &e, content);
	env_fini(&e);
}

/* relay - answer one hand-out by its recipient; true if it stays out */
static bool
relay(struct rig *r)
{
	struct delivery d;
	const char *to;
	bool stays;

	T_OK(rig_deliver(r, 10000, &d) == 0);
	if (d.env.n_rcpts == 0)
		return (false);
	to = d.env.rcpts[0].addr;
	stays = strncmp(to, "waits", 5) == 0;
	if (!stays && (strncmp(to, "bad", 3) == 0 || strncmp(to, "s2", 2) == 0))
		rig_outcome(r, &d, OUTCOME_FAIL, "550 5.1.1 nobody");
	else if (!stays)
		rig_outcome(r, &d, OUTCOME_DONE, "250 2.0.0 ok");
	delivery_fini(&d);
	return (stays);
}

/* events - each kind of end; all are over when this returns */
static void
events(struct rig *r)
{
	char asked[256];
	unsigned i, out = 0;

	for (i = 0; i < MAILS - 3; i++)
		submit(r, &mails[i], true, true);
	submit(r, &mails[MAILS - 3], true, false);
	submit(r, &mails[MAILS - 2], false, true);
	rig_discarded(r, DROPPED_RCPTS);
	T_OK(rig_says(r, "queue delete 0000000000004", "{\"changed\":1}"));
	T_OK(rig_says(r, "queue release 0000000000005", "{\"changed\":1}"));
	for (i = 0; i < 6; i++)
		out += relay(r);
	T_OK(out == 1);
	/* Two reports; that to s2 fails, which postmaster is told. */
	T_OK(rig_route(r, asked, "back.test") == 0);
	T_OK(rig_route(r, asked, "back.test") == 0);
	T_OK(!relay(r) && !relay(r));
	T_OK(rig_route(r, asked, "back.test") == 0);
	T_OK(!relay(r));
	T_OK(rig_says(r, "status", "\"messages\":3,"));
	submit(r, &mails[MAILS - 1], true, true);
}

static const char *const names[PLANTS] = { "nothing", "accepted", "delivered",
	"bounced", "discarded by route", "discarded by a milter", "deleted",
	"queued, in", "queued, out", "quarantined", "accepted, in the journal",
	"a set of groups, in the journal", "reports, in the journal",
	"the journal" };

static void
try(enum plant what)
{
	bool before, after;
	struct rig r;

	plant = what;
	rig_start(&r, "");
	events(&r);
	before = agrees(&r, what == NONE);
	rig_again(&r);
	after = agrees(&r, what == NONE);
	if (what == NONE)
		T_OK(before && after);
	else if (what < ACCEPTED_KEPT)
		T_OK(!before);
	else
		T_OK(before && !after);
	if (t_failed)
		printf("# planted: %s\n", names[what]);
	rig_end(&r);
}

static void
each_is_counted_once(void)
{
	try(NONE);
}

static void
each_count_left_out_is_found(void)
{
	enum plant p;

	for (p = NONE + 1; p < PLANTS; p++)
		try(p);
}

static const struct t_case cases[] = {
	{ "every recipient is counted once, also after a kill",
	    each_is_counted_once },
	{ "each count that is left out is found",
	    each_count_left_out_is_found },
};
T_MAIN(cases)
