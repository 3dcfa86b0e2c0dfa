/* SPDX-License-Identifier: ISC */

#include "core/relay/content.h"
#include "core/relay/reply.h"
#include "milter-sdk/base/crc32c.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* all - what reply_take() makes of text, byte by byte or at once */
static const char *
all(const char *text, size_t step)
{
	static char out[4000];
	char line[REPLY_TEXT_MAX];
	struct reply r;
	size_t off = 0, have = 0, used, n = strlen(text);
	int rc = 0;

	reply_init(&r);
	out[0] = '\0';
	while (off < n && rc != -1) {
		have = have + step > n ? n : have + step;
		while (
		    (rc = reply_take(&r, text + off, have - off, &used)) == 1) {
			off += used;
			(void)strcat(out, reply_line(&r, line, sizeof(line)));
			(void)strcat(out, "|");
		}
		off += used;
		if (have == n)
			break;
	}
	if (rc == -1)
		(void)strcat(out, "bad");
	reply_fini(&r);
	return (out);
}

static void
reads_replies(void)
{
	static const char text[] = "220 hi there\r\n250-a\r\n250-b\r\n250 c\n"
	                           "354\r\n550-5.1.1 no\r\n550 5.1.1 such\r\n";
	static const char want[] =
	    "220 hi there|250 a b c|354 |550 5.1.1 no such|";

	T_STR(all(text, sizeof(text)), want);
	T_STR(all(text, 1), want);
	T_STR(all("25", 1), "");
}

static void
refuses_nonsense(void)
{
	T_STR(all("hello\r\n", 100), "bad");
	T_STR(all("150 x\r\n", 100), "bad");
	T_STR(all("650 x\r\n", 100), "bad");
	T_STR(all("25\r\n", 100), "bad");
	T_STR(all("250x\r\n", 100), "bad");
	T_STR(all("250-a\r\n251 b\r\n", 100), "bad");
	T_STR(all("\r\n", 100), "bad");
	T_STR(all("250 a\tb\033c\r\n", 100), "250 a?b?c|");
}

static void
refuses_too_much(void)
{
	char *text = malloc(200 * 20 + 10), *s = text;
	int i;

	memset(text, 'x', 3000);
	memcpy(text, "250 ", 4);
	text[3000] = '\0';
	T_STR(all(text, 3000), "bad"); /* without any line end, too */
	for (i = 0; i < REPLY_LINES_MAX + 1; i++)
		s += sprintf(s, "250-x\r\n");
	T_STR(all(text, 10000), "bad");
	free(text);
}

/* a line as long as may be, and one byte more, whole and byte by byte */
static void
takes_the_longest_line(void)
{
	char text[REPLY_LINE_MAX + 4];
	size_t step;

	for (step = 1; step < sizeof(text); step += sizeof(text) - 2) {
		memset(text, 'x', sizeof(text));
		memcpy(text, "250 ", 4);
		memcpy(text + REPLY_LINE_MAX, "\r\n", 3);
		T_OK(strncmp(all(text, step), "250 xxx", 7) == 0);
		memcpy(text + REPLY_LINE_MAX, "x\r\n", 4);
		T_STR(all(text, step), "bad");
	}
}

static void
shortens_long_text(void)
{
	char text[1900], line[64];
	struct reply r;
	size_t used;

	memset(text, 'y', sizeof(text));
	memcpy(text, "550 5.7.1 ", 10);
	memcpy(text + 1890, "\r\n", 3);
	reply_init(&r);
	T_OK(reply_take(&r, text, 1892, &used) == 1);
	(void)reply_line(&r, line, sizeof(line));
	T_OK(strlen(line) == 63 && strcmp(line + 60, "...") == 0);
	reply_fini(&r);
}

/* sent - content as it leaves */
static const char *
sent(const char *text, uint32_t crc, int *state)
{
	static struct buf out = BUF_INIT(4 << 20);
	char path[] = "/tmp/milldam-content.XXXXXX";
	struct content c;
	int fd = mkstemp(path);

	(void)unlink(path);
	T_OK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	out.len = 0;
	content_init(&c, fd, 0, strlen(text), crc);
	while ((*state = content_fill(&c, &out)) == CONTENT_MORE)
		;
	(void)close(fd);
	return (out.data != NULL ? out.data : "");
}

static void
stuffs_dots(void)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "a\r\n", "a\r\n.\r\n" },
		{ ".a\r\n..\r\n.\r\nb.c\r\n",
		    "..a\r\n...\r\n..\r\nb.c\r\n.\r\n" },
		{ "a\n.\r\nb\r\n", "a\n..\r\nb\r\n.\r\n" },
		{ "no end", "no end\r\n.\r\n" },
		{ "x\r", "x\r\r\n.\r\n" },
		{ "", ".\r\n" },
	};
	size_t i;
	int state;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		T_STR(sent(rows[i].in,
		          crc32c(0, rows[i].in, strlen(rows[i].in)), &state),
		    rows[i].out);
		T_OK(state == CONTENT_END);
	}
}

static void
stuffs_across_chunks(void)
{
	char *text = malloc(CONTENT_CHUNK + 10);
	const char *out;
	int state;

	memset(text, 'z', CONTENT_CHUNK);
	(void)strcpy(text + CONTENT_CHUNK - 2, "\r\n.\r\n");
	out = sent(text, crc32c(0, text, strlen(text)), &state);
	T_OK(state == CONTENT_END);
	T_STR(out + CONTENT_CHUNK - 3, "z\r\n..\r\n.\r\n");
	free(text);
}

static void
keeps_the_dot_of_damaged_content(void)
{
	int state;

	T_STR(sent("abc\r\n", 1, &state), "abc\r\n");
	T_OK(state == CONTENT_DAMAGED);
}

static const struct t_case cases[] = {
	{ "replies are read, in pieces too", reads_replies },
	{ "nonsense is refused", refuses_nonsense },
	{ "too long and too many lines are refused", refuses_too_much },
	{ "the longest line is taken", takes_the_longest_line },
	{ "long text is cut with a sign", shortens_long_text },
	{ "dots are stuffed", stuffs_dots },
	{ "dots are stuffed across chunks", stuffs_across_chunks },
	{ "damaged content gets no final dot",
	    keeps_the_dot_of_damaged_content },
};

T_MAIN(cases)
