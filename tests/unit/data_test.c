/* SPDX-License-Identifier: ISC */

/* data_test - content of DATA and BDAT, cut at every byte; header blocks */

#include "core/smtp/data.h"
#include "core/smtp/header.h"
#include "tests/lib/t.h"

#include <stdlib.h>

static struct data_limits limits;
static struct buf body = BUF_INIT(1 << 20);
static struct data d;
static size_t used;
static bool sink_fails;

static int
sink(void *arg, const char *p, size_t n)
{
	(void)arg;
	return (sink_fails ? -1 : buf_add(&body, p, n));
}

/* feed - p in pieces of at most step bytes, the first of cut */
static void
feed(const char *p, size_t n, bool stuffed, size_t cut, size_t step)
{
	size_t at = 0, len;

	data_fini(&d);
	data_init(&d, &limits, stuffed, sink, NULL);
	body.len = 0;
	for (; at < n && !d.ended; at += len) {
		len = at == 0 && cut > 0 ? cut : step;
		if (len > n - at)
			len = n - at;
		len = data_feed(&d, p + at, len);
	}
	used = at;
	if (!stuffed)
		data_end(&d);
}

/* gives - content with that header and body, wherever the input is cut */
static bool
gives_n(const char *in, size_t n, bool stuffed, const char *header,
    const char *want)
{
	size_t cut, step;

	for (step = 1; step <= 3; step++)
		for (cut = 0; cut <= n; cut++) {
			feed(in, n, stuffed, cut, step == 3 ? n : step);
			if (d.fault != DATA_GOOD || !d.ended || used != n ||
			    d.header.len != strlen(header) ||
			    memcmp(d.header.data != NULL ? d.header.data : "",
			        header, d.header.len) != 0 ||
			    body.len != strlen(want) ||
			    memcmp(body.data, want, body.len) != 0) {
				printf("# cut %zu step %zu: fault %d ended %d "
				       "header \"%s\" body \"%.*s\"\n",
				    cut, step, d.fault, d.ended,
				    d.header.data != NULL ? d.header.data : "",
				    (int)body.len, body.data);
				return (false);
			}
		}
	return (true);
}

static bool
gives(const char *in, const char *header, const char *want)
{
	return (gives_n(in, strlen(in), true, header, want));
}

static bool
faults(const char *in, size_t n, bool stuffed, enum data_fault f)
{
	size_t cut;

	for (cut = 0; cut <= n; cut++) {
		feed(in, n, stuffed, cut, n);
		if (d.fault != f || !d.ended || used != n) {
			printf("# cut %zu: fault %d ended %d used %zu of %zu\n",
			    cut, d.fault, d.ended, used, n);
			return (false);
		}
	}
	return (true);
}

static void
set_up(void)
{
	limits.message_size = 1 << 20;
	limits.line_length = 1000;
	limits.header_size = 4096;
	limits.header_fields = 10;
	sink_fails = false;
	(void)!buf_add(&body, "", 0);
}

static void
content_is_unstuffed_and_split(void)
{
	set_up();
	T_OK(gives(".\r\n", "", ""));
	T_OK(gives("a: b\r\n\r\nx\r\n.\r\n", "a: b\r\n", "x\r\n"));
	T_OK(gives("a: b\r\n.\r\n", "a: b\r\n", ""));
	T_OK(gives("a: b\r\n\r\n.\r\n", "a: b\r\n", ""));
	T_OK(gives("a: b\r\n c\r\n\td\r\nE:\r\n\r\n\r\nx\r\n.\r\n",
	    "a: b\r\n c\r\n\td\r\nE:\r\n", "\r\nx\r\n"));
	T_OK(gives("\r\n..\r\n...x\r\n..y.\r\nz\r\n.\r\n", "",
	    ".\r\n..x\r\n.y.\r\nz\r\n"));
	T_OK(gives(".x: y\r\n\r\n.z\r\n.\r\n", "x: y\r\n", "z\r\n"));
	T_OK(gives("..x: y\r\n\r\n.\r\n", ".x: y\r\n", ""));
	T_OK(d.dots);
}

static void
text_that_is_no_field_begins_the_body(void)
{
	set_up();
	T_OK(gives("hello\r\na: b\r\n.\r\n", "", "hello\r\na: b\r\n"));
	T_OK(gives("a: b\r\nno field\r\nc: d\r\n\r\nx\r\n.\r\n", "a: b\r\n",
	    "no field\r\nc: d\r\n\r\nx\r\n"));
	T_OK(gives(" folded first\r\n.\r\n", "", " folded first\r\n"));
	T_OK(gives("From x Mon 10:00\r\na: b\r\n.\r\n", "",
	    "From x Mon 10:00\r\na: b\r\n"));
	T_OK(gives(": x\r\n.\r\n", "", ": x\r\n"));
	T_OK(gives("a\t : x\r\n\r\n.\r\n", "a\t : x\r\n", ""));
	T_OK(gives("..hello\r\n.\r\n", "", ".hello\r\n"));
}

static void
every_false_end_is_a_fault(void)
{
	static const char *const ends[] = { "\n.\n", "\n.\r\n", "\r.\r\n",
		"\r\n.\n", "\r\n.\r", "\r.\r", "\n.\r", "\r.\n", "\n\r.\r\n",
		"\r\n\n.\r\n", "\r\r\n.\r\n", "\r\n.\r\r\n", "\n\n", "\r\r" };
	static const char *const before[] = { "", "a: b\r\n", "a: b\r\n\r\n",
		"a: b\r\n\r\nx", "a: b", "\r\n" };
	char text[200];
	size_t i, k, n;

	set_up();
	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		for (k = 0; k < sizeof(before) / sizeof(before[0]); k++) {
			n = (size_t)snprintf(text, sizeof(text),
			    "%s%sMAIL FROM:<a@b.c>\r\n.\r\n", before[k],
			    ends[i]);
			/* "CRLF CRCRLF . CRLF" holds a true end too */
			feed(text, n, true, 0, n);
			T_OK(d.fault == DATA_BARE && d.ended);
			if (used == n)
				T_OK(faults(text, n, true, DATA_BARE));
			else
				T_OK(strncmp(text + used - 5, "\r\n.\r\n", 5) ==
				    0);
		}
}

static void
chunks_know_no_dots(void)
{
	set_up();
	T_OK(gives_n(
	    "a: b\r\n\r\n.\r\nx\r\n", 14, false, "a: b\r\n", ".\r\nx\r\n"));
	T_OK(d.dots);
	T_OK(gives_n("a: b\r\n\r\nx", 9, false, "a: b\r\n", "x\r\n"));
	T_OK(gives_n("a: b", 4, false, "a: b\r\n", ""));
	T_OK(gives_n("a b", 3, false, "", "a b\r\n"));
	T_OK(gives_n("", 0, false, "", ""));
	T_OK(faults("a: b\r\n\r\nx\n", 10, false, DATA_BARE));
	T_OK(faults("a: b\r\n\r\nx\r", 10, false, DATA_BARE));
	T_OK(faults("a: b\r\n\r\n\rx", 10, false, DATA_BARE));
}

static void
nul_is_refused_in_the_header_only(void)
{
	set_up();
	T_OK(faults("a: \0b\r\n\r\n.\r\n", 12, true, DATA_NUL));
	T_OK(faults("a: b\r\n \0\r\n\r\n.\r\n", 15, true, DATA_NUL));
	feed("a: b\r\n\r\n\0\r\n.\r\n", 14, true, 0, 14);
	T_OK(d.fault == DATA_GOOD && body.len == 3 && body.data[0] == '\0');
	feed("\0x\r\na: b\r\n.\r\n", 13, true, 0, 13);
	T_OK(d.fault == DATA_GOOD && body.len == 10);
}

static void
limits_are_exact(void)
{
	char text[3000];
	size_t n;

	set_up();
	limits.line_length = 10;
	T_OK(gives("\r\n0123456789\r\n.\r\n", "", "0123456789\r\n"));
	T_OK(gives("\r\n.0123456789\r\n.\r\n", "", "0123456789\r\n"));
	T_OK(faults("\r\n01234567890\r\n.\r\n", 18, true, DATA_LINE));
	T_OK(faults("a:345678901\r\n.\r\n", 16, true, DATA_LINE));
	set_up();
	limits.message_size = 10;
	T_OK(gives("a: b\r\n\r\n\r\n.\r\n", "a: b\r\n", "\r\n"));
	T_OK(faults("a: b\r\n\r\nx\r\n.\r\n", 14, true, DATA_SIZE));
	set_up();
	limits.header_fields = 2;
	T_OK(gives("a:\r\nb:\r\n .\r\n\r\n.\r\n", "a:\r\nb:\r\n .\r\n", ""));
	T_OK(faults("a:\r\nb:\r\nc:\r\n\r\n.\r\n", 17, true, DATA_HEADER));
	set_up();
	limits.header_size = 2000;
	for (n = 0; n < 1998; n++)
		text[n] = n % 100 == 98 ? '\r'
		    : n % 100 == 99     ? '\n'
		    : n % 100 == 0      ? ' '
		                        : 'x';
	memcpy(text, "a:", 2);
	memcpy(text + 1998, "\r\n\r\n.\r\n", 8);
	feed(text, 2005, true, 0, 2005);
	T_OK(d.fault == DATA_GOOD && d.header.len == 2000);
	limits.header_size = 1999;
	feed(text, 2005, true, 0, 2005);
	T_OK(d.fault == DATA_HEADER && d.ended);
	set_up();
	sink_fails = true;
	T_OK(faults("\r\nx\r\n.\r\n", 8, true, DATA_STORE));
}

static void
hops_and_bytes_are_noticed(void)
{
	set_up();
	T_OK(gives("Received: a\r\nRECEIVED : b\r\nX-Received: c\r\n"
	           "Received:\r\n \r\n\r\nReceived: d\r\n.\r\n",
	    "Received: a\r\nRECEIVED : b\r\nX-Received: c\r\nReceived:\r\n "
	    "\r\n",
	    "Received: d\r\n"));
	T_OK(d.hops == 3 && d.fields == 4 && !d.eight_bit && !d.dots);
	T_OK(gives("\r\n\xc3\xa9\r\n.\r\n", "", "\xc3\xa9\r\n"));
	T_OK(d.eight_bit && d.size == 6);
}

static void
what_follows_the_end_is_left(void)
{
	static const char in[] = "\r\nx\r\n.\r\nQUIT\r\n";

	set_up();
	feed(in, sizeof(in) - 1, true, 0, sizeof(in) - 1);
	T_OK(d.ended && used == 8);
}

static void
header_blocks_are_split_and_joined_to_the_byte(void)
{
	static const char block[] = "Subject:  two  blanks \r\n"
	                            "X:\r\n"
	                            "Folded: a\r\n\t b\r\n  \r\n c\r\n"
	                            "odd\t :v\r\n"
	                            "colon:a:b: c\r\n"
	                            "8bit: \xc3\xa9\xff\r\n";
	struct buf b = BUF_INIT(4096);
	struct message m;
	char copy[sizeof(block)];

	message_init(&m);
	memcpy(copy, block, sizeof(block));
	T_OK(header_split(copy, sizeof(block) - 1, &m) == 0);
	T_OK(memcmp(copy, block, sizeof(block)) == 0);
	T_OK(m.n_fields == 6);
	T_STR(m.fields[0].name, "Subject");
	T_STR(m.fields[0].value, "  two  blanks ");
	T_STR(m.fields[1].value, "");
	T_STR(m.fields[2].value, " a\r\n\t b\r\n  \r\n c");
	T_STR(m.fields[3].name, "odd\t ");
	T_STR(m.fields[4].value, "a:b: c");
	T_OK(message_header(&m, &b) == 0);
	T_OK(b.len == sizeof(block) - 1 + 2 &&
	    memcmp(b.data, block, sizeof(block) - 1) == 0);
	buf_fini(&b);
	message_fini(&m);
}

static void
what_is_no_block_is_refused(void)
{
	static const char *const bad[] = { "\r\n", " a\r\n", "a\r\n", "a:b",
		"a:b\n", "a:b\r\nc\r\n", ":\r\n", "a:b\r\n\r\n" };
	char copy[32];
	struct message m;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		message_init(&m);
		strcpy(copy, bad[i]);
		T_OK(header_split(copy, strlen(copy), &m) == -1);
		T_STR(copy, bad[i]);
		message_fini(&m);
	}
}

static const struct t_case cases[] = {
	{ "content is unstuffed and split", content_is_unstuffed_and_split },
	{ "text that is no field begins the body",
	    text_that_is_no_field_begins_the_body },
	{ "every false end is a fault", every_false_end_is_a_fault },
	{ "chunks know no dots", chunks_know_no_dots },
	{ "NUL is refused in the header only",
	    nul_is_refused_in_the_header_only },
	{ "limits are exact", limits_are_exact },
	{ "hops and bytes are noticed", hops_and_bytes_are_noticed },
	{ "what follows the end is left", what_follows_the_end_is_left },
	{ "header blocks are split and joined to the byte",
	    header_blocks_are_split_and_joined_to_the_byte },
	{ "what is no block is refused", what_is_no_block_is_refused },
};

T_MAIN(cases)
