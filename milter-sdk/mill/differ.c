/* SPDX-License-Identifier: ISC */

/* differ - what was answered otherwise than in the recording */

#include "milter-sdk/mill/mill.h"

#include <stdlib.h>
#include <string.h>

/* number - a line of a difference in an option */
static unsigned
number(const char *what, uint32_t then, uint32_t now)
{
	if (then == now)
		return (0);
	printf("options: %s: recorded 0x%x, now 0x%x\n", what, then, now);
	return (1);
}

unsigned
differ_options(
    const struct conn *c, const struct milter_options *o, bool negotiated)
{
	const struct milter_options *was = &c->options;
	unsigned n = 0;
	size_t i;

	if (!c->negotiated || !negotiated) {
		if (c->negotiated == negotiated)
			return (0);
		printf("options: %s\n",
		    negotiated ? "recorded no answer, now one"
		               : "recorded an answer, now none");
		return (1);
	}
	n += number("version", was->version, o->version);
	n += number("actions", was->actions, o->actions);
	n += number("protocol", was->protocol, o->protocol);
	for (i = 0; i < MILTER_STAGES; i++) {
		const char *a = was->lists[i], *b = o->lists[i];

		if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0))
			continue;
		printf("options: macros of stage %zu: recorded \"%s\", now "
		       "\"%s\"\n",
		    i, a != NULL ? say_clean(a, strlen(a)) : "(default)",
		    b != NULL ? say_clean(b, strlen(b)) : "(default)");
		n++;
	}
	return (n);
}

/* where - of a command: "3rd rcpt <b@to.test>" is better than a number alone */
static void
where(const struct conn *c, const struct packet *p)
{
	size_t message = 0, i, n = 0;
	const char *text = say_clean(p->data, p->len);

	for (i = 0; &c->packets[i] < p; i++) {
		if (c->packets[i].from)
			continue;
		if (c->packets[i].code == MILTER_MAIL) {
			message++;
			n = 0;
		}
		n += c->packets[i].code == p->code;
	}
	if (p->code == MILTER_MAIL) {
		message++;
		n = 0;
	}
	if (message > 0)
		printf("message %zu: ", message);
	printf("%s %zu", say_command(p->code), n + 1);
	if (p->code != MILTER_BODY && p->code != MILTER_CONNECT &&
	    text[0] != '\0')
		printf(" (%.60s)", text);
	printf(": ");
}

static void
say_answer(const char *when, const struct answer *a)
{
	printf("%s %s", when,
	    !a->sent      ? "not asked"
	        : !a->due ? "no answer due"
	                  : say_reply(a->final));
	if (a->len > 0)
		printf(" \"%s\"", say_clean(a->data, a->len));
}

static bool
same_piece(const struct piece *a, const struct piece *b)
{
	return (a->code == b->code && a->len == b->len &&
	    memcmp(a->data, b->data, a->len) == 0);
}

static void
say_piece(char sign, const struct piece *p)
{
	uint32_t at;

	printf("  %c %s", sign, say_reply(p->code));
	if (p->code == MILTER_REPLACE_BODY)
		printf(" of %zu bytes", p->len);
	else if ((p->code == MILTER_INSERT_HEADER ||
	             p->code == MILTER_CHANGE_HEADER) &&
	    p->len > 4) {
		at = (uint32_t)(unsigned char)p->data[2] << 8 |
		    (unsigned char)p->data[3];
		printf(" %u %s", at, say_clean(p->data + 4, p->len - 4));
	} else
		printf(" %s", say_clean(p->data, p->len));
	putchar('\n');
}

/* missing - those of a that b has not, each as often; how many */
static unsigned
missing(const struct answer *a, const struct answer *b, char sign)
{
	bool *used = calloc(b->n_edits + 1, sizeof(*used));
	unsigned n = 0;
	size_t i, k;

	if (used == NULL)
		abort();
	for (i = 0; i < a->n_edits; i++) {
		for (k = 0; k < b->n_edits; k++)
			if (!used[k] && same_piece(&a->edits[i], &b->edits[k]))
				break;
		if (k < b->n_edits)
			used[k] = true;
		else if (n++ < 100)
			say_piece(sign, &a->edits[i]);
	}
	free(used);
	return (n);
}

static bool
same_edits(const struct answer *a, const struct answer *b)
{
	size_t i;

	if (a->n_edits != b->n_edits)
		return (false);
	for (i = 0; i < a->n_edits; i++)
		if (!same_piece(&a->edits[i], &b->edits[i]))
			return (false);
	return (true);
}

/* says_nothing - the mail goes on as if nobody had been asked */
static bool
says_nothing(const struct answer *a)
{
	return (!a->sent || !a->due || a->final == MILTER_CONTINUE ||
	    a->final == MILTER_SKIP);
}

static bool
same_answer(const struct answer *a, const struct answer *b)
{
	if (!a->due || !b->due || !a->sent || !b->sent)
		return (says_nothing(a) && says_nothing(b));
	return (a->final == b->final && a->len == b->len &&
	    (a->len == 0 || memcmp(a->data, b->data, a->len) == 0));
}

/* timing_class - under 10 ms, 100 ms, 1 s, 10 s, longer */
static unsigned
timing_class(uint64_t us)
{
	unsigned n = 0;

	for (us /= 10000; us > 0 && n < 4; us /= 10)
		n++;
	return (n);
}

/* differ_timing - neighbours are not told apart: machines differ */
static unsigned
differ_timing(const struct conn *c, const struct packet *p)
{
	static const char *const words[] = { "under 10 ms", "under 100 ms",
		"under 1 s", "under 10 s", "10 s and more" };
	unsigned a = timing_class(p->then.us), b = timing_class(p->now.us);

	if (p->then.final == '\0' || p->now.final == '\0' || a == b ||
	    a + 1 == b || b + 1 == a)
		return (0);
	where(c, p);
	printf("recorded %s, now %s\n", words[a], words[b]);
	return (1);
}

unsigned
differ(const struct conn *c, bool timing)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < c->n_packets; i++) {
		const struct packet *p = &c->packets[i];

		if (p->from || p->then.unknown)
			continue;
		if (!same_answer(&p->then, &p->now)) {
			where(c, p);
			say_answer("recorded", &p->then);
			say_answer(", now", &p->now);
			putchar('\n');
			n++;
		}
		if (!same_edits(&p->then, &p->now)) {
			where(c, p);
			printf("other edits\n");
			if (missing(&p->then, &p->now, '-') +
			        missing(&p->now, &p->then, '+') ==
			    0)
				printf("  in another order\n");
			n++;
		}
		if (timing)
			n += differ_timing(c, p);
	}
	return (n);
}
