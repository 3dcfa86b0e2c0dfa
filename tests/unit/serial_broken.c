/* SPDX-License-Identifier: ISC */

/*
 * serial_broken - the content phase with faults in its order, to show that
 * they are found.  It takes the place of core/milter/run.c in a test program;
 * nothing of it is in the product.
 */

#define run_step run_step_in_order
#include "core/milter/run.c"
#undef run_step

void run_step(struct chain *);

extern int broken;

int broken; /* 1: verdicts as they come; 2: nobody waits for an editor */

/* first_ready - the first that has answered, or n_links */
static size_t
first_ready(struct chain *c, const bool *judged)
{
	size_t i;

	for (i = c->at; i < c->n_links; i++)
		if (!judged[i] && c->links[i]->started && !busy(c, i))
			break;
	return (i);
}

void
run_step(struct chain *c)
{
	bool judged[64] = { false };
	size_t i;

	if (c->settings->policies[c->policy].serial || broken == 0) {
		run_step_in_order(c);
		return;
	}
	while (!c->answered) {
		if (c->at == c->n_links || find(c, OUT_NONE) == NULL) {
			conclude(c);
			return;
		}
		start_all(c);
		for (i = c->at; broken == 2 && i < c->n_links; i++)
			if (!c->links[i]->started)
				start(c, i);
		if (broken == 1 && (i = first_ready(c, judged)) < c->n_links &&
		    i > c->at) {
			judge_all(c, i);
			judged[i] = true;
			continue;
		}
		if (busy(c, c->at))
			return;
		judge_all(c, c->at++);
	}
}
