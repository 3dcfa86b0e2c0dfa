/* SPDX-License-Identifier: ISC */

/* tape_test - recordings: the format, and whose answer is whose */

#include "milter-sdk/mill/mill.h"

#include "tests/lib/t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct buf tape;

static void
begin(void)
{
	buf_fini(&tape);
	tape.max = TAPE_FILE_MAX;
	T_OK(tape_begin(&tape) == 0);
}

static void
add(char kind, uint64_t us, const char *data, size_t len)
{
	T_OK(tape_put(&tape, kind, us, data, len) == 0);
}

/* parse - a copy of the first n bytes */
static int
parse(struct take *t, size_t n)
{
	char *copy = malloc(n + 1);

	if (copy == NULL)
		abort();
	memcpy(copy, tape.data, n);
	return (take_parse(t, copy, n, "test"));
}

static void
connect_with(uint32_t protocol)
{
	char options[12] = { 0, 0, 0, 6, 0, 0, 1, (char)0xff };

	options[9] = (char)(protocol >> 16);
	options[10] = (char)(protocol >> 8);
	options[11] = (char)protocol;
	begin();
	add(TAPE_CONNECTED, 0, "new", 3);
	add(TAPE_OPTIONS, 0, options, sizeof(options));
}

static void
reads_what_it_wrote(void)
{
	struct tape_entry e = { .us = 0 };
	long n;

	begin();
	add(TAPE_TO, 5, "Mx", 2);
	add(TAPE_END, 1ull << 40, "", 0);
	n = tape_head(tape.data, tape.len);
	T_OK(n == TAPE_HEAD_LEN);
	n += tape_next(tape.data + n, tape.len - (size_t)n, 0, &e);
	T_OK(e.kind == TAPE_TO && e.us == 5 && e.len == 2 && e.data[0] == 'M');
	n += tape_next(tape.data + n, tape.len - (size_t)n, 5, &e);
	T_OK(e.kind == TAPE_END && e.us == 1ull << 40 && e.len == 0);
	T_OK((size_t)n == tape.len);
	T_OK(tape_next(tape.data + n, 0, e.us, &e) == 0);
}

static void
refuses_what_is_broken(void)
{
	struct tape_entry e;
	char bytes[TAPE_ENTRY_HDR + 1] = { TAPE_TO, 0, 0, 0, 1 };

	bytes[TAPE_ENTRY_HDR] = 'c';
	T_OK(tape_next(bytes, sizeof(bytes), 0, &e) == (long)sizeof(bytes));
	T_OK(tape_next(bytes, sizeof(bytes) - 1, 0, &e) == -1);
	T_OK(errno == EPROTO);
	T_OK(tape_next(bytes, 4, 0, &e) == -1);
	T_OK(tape_next(bytes, sizeof(bytes), 1, &e) == -1); /* back in time */
	bytes[4] = 0; /* a packet without a code */
	T_OK(tape_next(bytes, TAPE_ENTRY_HDR, 0, &e) == -1);
	bytes[1] = 0x7f; /* 2 GiB */
	T_OK(tape_next(bytes, sizeof(bytes), 0, &e) == -1);
	bytes[1] = 0;
	bytes[0] = 'z';
	T_OK(tape_next(bytes, sizeof(bytes), 0, &e) == -1);
	T_OK(tape_head("milldam recording 2\n", 20) == -1);
	T_OK(tape_head("milldam", 7) == -1);
}

static void
refuses_an_entry_too_long_to_read(void)
{
	static char big[TAPE_ENTRY_MAX + 1];
	size_t was;

	begin();
	was = tape.len;
	T_OK(tape_put(&tape, TAPE_TO, 0, big, sizeof(big)) == -1);
	T_OK(errno == EINVAL && tape.len == was);
	T_OK(tape_put(&tape, TAPE_TO, 0, big, sizeof(big) - 1) == 0);
}

static void
each_cut_is_refused_or_said(void)
{
	struct take t;
	size_t n, whole = 0;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int told = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

	connect_with(0);
	add(TAPE_TO, 1, "M<a@b>", 7);
	add(TAPE_FROM, 2, "c", 1);
	add(TAPE_CLOSED, 3, "", 0);
	add(TAPE_END, 3, "complete", 8);
	T_OK(dup2(null, STDERR_FILENO) != -1); /* a complaint for each */
	for (n = 0; n <= tape.len; n++)
		if (parse(&t, n) == 0) {
			whole += t.whole;
			T_OK(t.whole == (n == tape.len));
			take_free(&t);
		}
	T_OK(whole == 1);
	T_OK(dup2(told, STDERR_FILENO) != -1);
	(void)close(told);
	(void)close(null);
}

static void
an_answer_belongs_to_its_command(void)
{
	struct take t;
	const struct packet *p;

	connect_with(MILTER_NR_MAIL);
	add(TAPE_TO, 1, "M<a@b>", 7); /* gives no answer */
	add(TAPE_TO, 2, "R<b@b>", 7);
	add(TAPE_TO, 2, "R<c@b>", 7);
	add(TAPE_FROM, 5, "r", 1);
	add(TAPE_FROM, 9, "c", 1);
	add(TAPE_TO, 10, "E", 1);
	add(TAPE_FROM, 11, "bx", 2);
	add(TAPE_FROM, 12, "p", 1);
	add(TAPE_FROM, 12, "by", 2);
	add(TAPE_FROM, 13, "a", 1);
	T_OK(parse(&t, tape.len) == 0 && t.n_conns == 1 && !t.whole);
	dialog_then(&t.conns[0], true);
	p = t.conns[0].packets;
	T_OK(!p[0].then.due && p[0].then.sent);
	T_OK(p[1].then.final == 'r' && p[1].then.us == 3);
	T_OK(p[2].then.final == 'c' && p[2].then.us == 7);
	T_OK(p[5].then.final == 'a' && p[5].then.n_edits == 1);
	T_OK(p[5].then.edits[0].len == 2);
	T_OK(memcmp(p[5].then.edits[0].data, "xy", 2) == 0);
	take_free(&t);
}

static void
after_a_verdict_on_the_message_nothing_is_due(void)
{
	struct dialog d = { .now = true };
	struct packet p[6] = { { .code = 'M' }, { .code = 'L' },
		{ .code = 'N' }, { .code = 'E' }, { .code = 'A' },
		{ .code = 'M' } };
	size_t i;

	for (i = 0; i < 3; i++)
		T_OK(dialog_send(&d, &p[i], 0));
	T_OK(dialog_hear(&d, 'c', "", 0, 1) == 0);
	T_OK(dialog_hear(&d, 'r', "", 0, 1) == 0);
	T_OK(!dialog_waits(&d) && !p[2].now.due);
	T_OK(dialog_hear(&d, 'c', "", 0, 1) == -1); /* nobody asked */
	T_OK(!dialog_send(&d, &p[3], 0));
	T_OK(dialog_send(&d, &p[4], 0));
	T_OK(dialog_send(&d, &p[5], 0) && dialog_waits(&d));
	for (i = 0; i < 6; i++)
		answer_fini(&p[i].now);
	dialog_fini(&d);
}

static const struct t_case cases[] = {
	{ "reads what it wrote", reads_what_it_wrote },
	{ "refuses what is broken", refuses_what_is_broken },
	{ "refuses an entry too long to read",
	    refuses_an_entry_too_long_to_read },
	{ "each cut is refused or said", each_cut_is_refused_or_said },
	{ "an answer belongs to its command",
	    an_answer_belongs_to_its_command },
	{ "after a verdict on the message nothing is due",
	    after_a_verdict_on_the_message_nothing_is_due },
};

T_MAIN(cases)
