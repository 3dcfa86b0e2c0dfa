/* SPDX-License-Identifier: ISC */

/* serial_plan - a random chain and what happens to it, from a seed */

#include "tests/unit/serial.h"

#include "milter-sdk/base/milter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t
mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return (x ^ (x >> 31));
}

static uint64_t state;

static unsigned
below(unsigned n)
{
	return ((unsigned)(mix(state++) >> 33) % n);
}

static bool
one_in(unsigned n)
{
	return (below(n) == 0);
}

/* plan_can - is that something to say to that command? */
bool
plan_can(char cmd, enum what w)
{
	switch (cmd) {
	case 'O':
		return (w == SAY_CONTINUE || w == DIE || w == DIE_HALFWAY ||
		    w == SAY_NONSENSE);
	case 'U':
		return (w == SAY_CONTINUE || w == SAY_REJECT || w == SAY_5YZ ||
		    w == DIE);
	case 'R':
	case 'L':
	case 'B':
		return (true);
	default:
		return (w != SAY_SKIP);
	}
}

/* kinds - number all that can be said to some command */
static unsigned
kinds(unsigned want, char *cmd_r, enum what *what_r)
{
	unsigned i, w, n = 0;

	for (i = 0; i < N_STAGES; i++)
		for (w = 0; w < N_WHAT; w++)
			if (w != SAY_CONTINUE &&
			    plan_can(STAGES[i], (enum what)w) && n++ == want) {
				*cmd_r = STAGES[i];
				*what_r = (enum what)w;
			}
	return (n);
}

/* content_kind - one that is said to content, where milters run together */
static unsigned
content_kind(void)
{
	unsigned kind;
	enum what w;
	char cmd;

	do {
		kind = below(kinds(UINT32_MAX, NULL, NULL));
		(void)kinds(kind, &cmd, &w);
	} while (strchr("TLNBE", cmd) == NULL);
	return (kind);
}

static void
make_act(struct plan *p, struct filter *f, unsigned kind)
{
	struct act *a = &f->acts[f->n_acts++];

	(void)kinds(kind, &a->cmd, &a->what);
	a->hard = one_in(4);
	a->msgs = one_in(3) ? 1u << below(p->n_msgs) : 3;
	if (a->cmd == 'R') {
		a->nth = below(p->n_rcpts);
		p->refused &= ~(1u << a->nth);
		p->skips[a->nth] &= ~(1u << (f - p->f));
	} else if (a->cmd == 'L')
		a->nth = below(4);
	else if (a->cmd == 'B')
		a->nth = p->large ? below(3) : 0;
	if (a->cmd == 'U')
		p->unknown = p->unknown_says = f->early = true;
}

/* make_protocol - leave out commands and answers that it does not act on */
static void
make_protocol(struct filter *f, bool authoriser)
{
	static const struct {
		char cmd;
		uint32_t no, nr;
	} rows[] = {
		{ 'C', MILTER_NO_CONNECT, MILTER_NR_CONNECT },
		{ 'H', MILTER_NO_HELO, MILTER_NR_HELO },
		{ 'M', MILTER_NO_MAIL, MILTER_NR_MAIL },
		{ 'R', MILTER_NO_RCPT, MILTER_NR_RCPT },
		{ 'T', MILTER_NO_DATA, MILTER_NR_DATA },
		{ 'L', MILTER_NO_HEADERS, MILTER_NR_HEADER },
		{ 'N', MILTER_NO_EOH, MILTER_NR_EOH },
		{ 'B', MILTER_NO_BODY, MILTER_NR_BODY },
		{ 'U', MILTER_NO_UNKNOWN, MILTER_NR_UNKNOWN },
	};
	size_t i;
	unsigned k;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool acts = rows[i].cmd == 'R' && authoriser;

		for (k = 0; k < f->n_acts; k++)
			acts |= f->acts[k].cmd == rows[i].cmd;
		if (acts)
			continue;
		if (one_in(8))
			f->protocol |= rows[i].no;
		else if (one_in(4))
			f->protocol |= rows[i].nr;
	}
	f->protocol |= MILTER_CAN_SKIP;
	if (one_in(3))
		f->protocol |= MILTER_RCPT_REJECTED;
	if (one_in(4))
		f->protocol |= MILTER_LEADING_SPACE;
}

static void
make_filter(struct plan *p, unsigned k, int kind)
{
	struct filter *f = &p->f[k];
	unsigned i;

	f->early = one_in(3);
	f->shadow = k > 0 && kind < 0 && one_in(10);
	f->read_only = !one_in(4);
	f->ignores = one_in(2);
	f->twice = p->n_msgs == 1 && one_in(3);
	f->may = one_in(8) ? 1 + below(2) : 0;
	f->on_failure = (enum fail_action)below(5);
	if (k == 0 && f->on_failure == FAIL_ACCEPT)
		f->on_failure = FAIL_TEMPFAIL;
	f->actions = f->read_only ? MILTER_MAY_QUARANTINE : MILTER_MAY_ALL;
	for (i = 0; i < N_CHANGE; i++)
		if (i == QUARANTINE ? one_in(4) : !f->read_only && one_in(3))
			f->changes |= 1u << i;
	if (kind >= 0)
		make_act(p, f, (unsigned)kind);
	else if (one_in(2))
		make_act(p, f, content_kind());
	if (one_in(12))
		make_act(p, f, below(kinds(UINT32_MAX, NULL, NULL)));
	make_protocol(f, k == 0);
}

/* plan_make - each kind of act in turn is somebody's, the rest is chance */
void
plan_make(struct plan *p, unsigned seed)
{
	unsigned i, n = kinds(UINT32_MAX, NULL, NULL), whose;

	memset(p, 0, sizeof(*p));
	state = mix(seed) | 1;
	p->seed = seed;
	p->n_filters = 2 + below(FILTERS - 1);
	p->n_msgs = one_in(3) ? 2 : 1;
	p->n_rcpts = 1 + below(RCPTS);
	p->large = one_in(30);
	p->unknown = one_in(10);
	if (one_in(10))
		p->refused = 1u << below(p->n_rcpts);
	if (one_in(10))
		p->reset_at = 1 + below(4);
	whose = below(p->n_filters);
	for (i = 0; i < p->n_rcpts && one_in(2); i++)
		p->skips[i] = below(1u << p->n_filters) & ~1u &
		    ~(one_in(2) ? 1u << whose : 0);
	for (i = 0; i < p->n_filters; i++)
		make_filter(p, i, i == whose ? (int)(seed % n) : -1);
}

static size_t
put(char *text, size_t size, size_t n, const char *s)
{
	return (n + (size_t)snprintf(text + n, size - n, "%s", s));
}

static size_t
put_milter(const struct plan *p, unsigned k, enum run run, const char *dir,
    unsigned slot, char *text, size_t size)
{
	const struct filter *f = &p->f[k];
	static const char *const fail[] = { "tempfail", "accept", "reject",
		"quarantine", "shutdown" };
	static const char *const may[] = { "\"all\"",
		"\"add-header\", \"quarantine\"",
		"\"add-header\", \"quarantine\"" };
	size_t n;

	n = (size_t)snprintf(text, size,
	    "milter \"f%u\" { endpoints = {\"unix:%s/%u-%u-0\"", k, dir, slot,
	    k);
	if (f->twice)
		n += (size_t)snprintf(
		    text + n, size - n, ", \"unix:%s/%u-%u-1\"", dir, slot, k);
	n += (size_t)snprintf(text + n, size - n,
	    "} on-failure = %s early = %s mode = %s may = {%s} "
	    "forbidden = %s pipeline = %s }\n",
	    fail[f->on_failure], f->early ? "yes" : "no",
	    f->shadow ? "shadow" : "enforce", may[f->may],
	    f->may == 2 ? "drop" : "fail", run == AHEAD ? "full" : "safe");
	return (n);
}

void
plan_settings(const struct plan *p, enum run run, const char *dir,
    unsigned slot, char *text, size_t size)
{
	size_t n;
	unsigned i, k;
	char word[64];

	n = put(text, size, 0,
	    "hostname = \"mx.test\"\npostmaster = \"p@x.test\"\n");
	for (k = 0; k < p->n_filters; k++)
		n += put_milter(p, k, run, dir, slot, text + n, size - n);
	n = put(
	    text, size, n, "policy \"in\" { authorise = \"f0\" parallel = ");
	n = put(text, size, n, run == SERIAL ? "no" : "yes");
	n = put(text, size, n, " chain = {\"f0\"");
	for (k = 1; k < p->n_filters; k++) {
		(void)snprintf(word, sizeof(word), ", \"f%u\"", k);
		n = put(text, size, n, word);
	}
	n = put(text, size, n, "}\n");
	for (i = 0; i < p->n_rcpts; i++) {
		const char *comma = "";

		if (p->skips[i] == 0)
			continue;
		(void)snprintf(word, sizeof(word),
		    "rule \"%u\" { recipient = {\"r%u@*\"} skip = {", i, i);
		n = put(text, size, n, word);
		for (k = 1; k < p->n_filters; k++) {
			if ((p->skips[i] & 1u << k) == 0)
				continue;
			(void)snprintf(
			    word, sizeof(word), "%s\"f%u\"", comma, k);
			n = put(text, size, n, word);
			comma = ", ";
		}
		n = put(text, size, n, "} }\n");
	}
	(void)put(text, size, n,
	    "}\nlistener \"mx\" { address = {\"127.0.0.1:2525\"} "
	    "policy = \"in\" }\n");
}
