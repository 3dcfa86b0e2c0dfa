/* SPDX-License-Identifier: ISC */

/*
 * Serial against parallel: the same random chains with `parallel = no`, with
 * milters side by side, and so with `pipeline = full`.  SERIAL_CHAINS is how
 * many, SERIAL_SEED runs one alone, which may be repeated by SERIAL_CHAINS.
 *
 * With BROKEN the content phase is that of serial_broken.c, whose faults must
 * be found.
 */

#include "tests/unit/serial.h"

#include "milter-sdk/base/log.h"
#include "tests/lib/t.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	CHAINS = 10000,
#ifdef __SANITIZE_ADDRESS__
	DEFAULT = 2000
#else
	DEFAULT = CHAINS
#endif
};

static struct plan *plans;
static unsigned n_plans, n_compared, n_differ;
static char dir[64];
static bool show;

static void
print_text(const char *title, const char *text)
{
	printf("# --- %s\n# ", title);
	for (; *text != '\0'; text++)
		printf(*text == '\n' ? "\n# " : "%c", *text);
	printf("\n");
}

static bool
compare(const struct plan *p, char *const texts[N_RUNS])
{
	static const char *const names[] = { "serial", "parallel",
		"parallel, commands ahead" };
	unsigned i;

	n_compared++;
	for (i = 1; i < N_RUNS && strcmp(texts[0], texts[i]) == 0; i++)
		;
	if (i == N_RUNS)
		return (true);
	n_differ++;
	if (show) {
		printf(
		    "# chain %u differs: SERIAL_SEED=%u\n", p->seed, p->seed);
		print_text(names[0], texts[0]);
		print_text(names[i], texts[i]);
	}
	return (show && n_differ < 5);
}

static unsigned
number(const char *name, unsigned otherwise)
{
	const char *s = getenv(name);

	return (s != NULL ? (unsigned)atoi(s) : otherwise);
}

static void
run_chains(unsigned n)
{
	const char *seed = getenv("SERIAL_SEED");
	unsigned i;

	n_plans = n;
	n_compared = n_differ = 0;
	if ((plans = calloc(n, sizeof(*plans))) == NULL)
		abort();
	for (i = 0; i < n; i++)
		plan_make(&plans[i], seed != NULL ? (unsigned)atoi(seed) : i);
	snprintf(dir, sizeof(dir), "/tmp/serial_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		abort();
	fakes_begin(dir);
	sessions_run(plans, n, dir, compare);
	fakes_end();
	(void)rmdir(dir);
}

#ifdef BROKEN

extern int broken; /* serial_broken.c */

static void
find_fault(int which)
{
	broken = which;
	run_chains(number("SERIAL_CHAINS", 2000));
	printf("# found after %u chains\n", n_compared);
	T_OK(n_differ > 0);
	free(plans);
}

static void
verdicts_that_count_as_they_come_are_found(void)
{
	find_fault(1);
}

static void
a_milter_begun_before_its_turn_is_found(void)
{
	find_fault(2);
}

static const struct t_case cases[] = {
	{ "verdicts that count as they come are found",
	    verdicts_that_count_as_they_come_are_found },
	{ "a milter begun before its turn is found",
	    a_milter_begun_before_its_turn_is_found },
};

#else

static const char *const said[] = { "continue", "accept", "reject", "tempfail",
	"discard", "4yz", "5yz", "shutdown", "skip", "nonsense", "die",
	"die halfway" };
static const char *const changes[] = { "add-header", "insert-header",
	"change-header", "delete-header", "replace-body", "add-rcpt",
	"add-rcpt with parameters", "delete-rcpt", "change-from",
	"quarantine" };

static void
the_outcome_is_that_of_the_serial_run(void)
{
	unsigned i, serial = 0, parallel = 0;

	show = true;
	run_chains(number("SERIAL_CHAINS", DEFAULT));
	for (i = 0; i < n_plans; i++) {
		serial += plans[i].beside[SERIAL];
		parallel += plans[i].beside[PARALLEL];
	}
	printf("# %u chains compared; milters at the end side by side in %u\n",
	    n_compared, parallel);
	T_OK(n_differ == 0 && n_compared == n_plans);
	T_OK(serial == 0 && parallel > n_plans / 100);
}

static unsigned
count_said(unsigned stage, unsigned w)
{
	unsigned i, n = 0;

	for (i = 0; i < n_plans; i++)
		n += plans[i].said[stage] >> w & 1;
	return (n);
}

static void
each_verdict_and_death_came_at_each_stage(void)
{
	unsigned s, w, n, few = UINT32_MAX;

	for (s = 0; s < N_STAGES; s++) {
		printf("# at %c:", STAGES[s]);
		for (w = 0; w < N_WHAT; w++) {
			if (!plan_can(STAGES[s], (enum what)w))
				continue;
			n = count_said(s, w);
			printf(" %s %u", said[w], n);
			few = n < few ? n : few;
		}
		printf("\n");
	}
	T_OK(few >= (n_plans < CHAINS ? n_plans / 200 : 100));
}

static void
each_change_was_asked_for(void)
{
	unsigned e, i, n, few = UINT32_MAX;

	for (e = 0; e < N_CHANGE; e++) {
		for (i = n = 0; i < n_plans; i++)
			n += plans[i].asked >> e & 1;
		printf("# %s %u\n", changes[e], n);
		few = n < few ? n : few;
	}
	T_OK(few >= (n_plans < CHAINS ? n_plans / 200 : 100));
	free(plans);
}

static const struct t_case cases[] = {
	{ "the outcome is that of the serial run",
	    the_outcome_is_that_of_the_serial_run },
	{ "each verdict and death came at each stage",
	    each_verdict_and_death_came_at_each_stage },
	{ "each change was asked for", each_change_was_asked_for },
};

#endif

int
main(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max < 8192 ? r.rlim_max : 8192;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
	log_open("serial_test", LOG_TO_STDERR, 0);
	return (t_main(cases, sizeof(cases) / sizeof(cases[0])));
}
