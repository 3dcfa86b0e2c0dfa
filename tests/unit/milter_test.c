/* SPDX-License-Identifier: ISC */

#include "milter-sdk/base/milter.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <stdlib.h>

static struct buf b = BUF_INIT(1 << 20);
static struct milter_packet pkt;

/* take - the one packet in b, whole; b is emptied by the next reset() */
static bool
take(void)
{
	return (milter_next(b.data, b.len, MILTER_PAYLOAD_MAX, &pkt) ==
	    (long)b.len);
}

static void
reset(void)
{
	b.len = 0;
}

/* payload - a packet of these bytes */
#define PKT(c, s) (pkt = (struct milter_packet){ c, s, sizeof(s) - 1 }, &pkt)

static void
frames_need_every_byte(void)
{
	static const char bytes[] = "\0\0\0\4Hab";
	size_t i;

	for (i = 0; i < 8; i++)
		T_OK(milter_next(bytes, i, 10, &pkt) == 0);
	T_OK(milter_next(bytes, 8, 10, &pkt) == 8);
	T_OK(pkt.code == 'H' && pkt.len == 3 && memcmp(pkt.data, "ab", 3) == 0);
	errno = 0;
	T_OK(milter_next("\0\0\0\0", 4, 10, &pkt) == -1 && errno == EPROTO);
	T_OK(milter_next("\0\0\0\14", 4, 10, &pkt) == -1 && errno == EMSGSIZE);
	T_OK(milter_next("\377\377\377\377", 4, SIZE_MAX, &pkt) == -1 &&
	    errno == EMSGSIZE);
}

static void
payloads_over_the_limit_are_not_built(void)
{
	static char big[MILTER_CHUNK + 1];

	reset();
	T_OK(milter_put(&b, 'B', big, MILTER_CHUNK) == 0 && take());
	T_OK(pkt.len == MILTER_CHUNK);
	reset();
	errno = 0;
	T_OK(milter_put(&b, 'B', big, sizeof(big)) == -1);
	T_OK(errno == EMSGSIZE && b.len == 0);
	memset(big, 'x', sizeof(big) - 1);
	T_OK(
	    milter_put_strings(&b, 'H', (const char *const[]){ big }, 1) == -1);
	T_OK(errno == EMSGSIZE && b.len == 0);
}

static void
options_go_both_ways(void)
{
	struct milter_options o = { 6, 0x1ff, 0x400,
		{ [MILTER_AT_MAIL] = "i {mail_addr}", [MILTER_AT_EOM] = "" } };
	struct milter_options r;
	size_t i;

	reset();
	T_OK(milter_put_options(&b, &o) == 0 && take());
	/* as measured with libmilter */
	T_OK(b.len == 5 + 12 + 4 + 14 + 4 + 1);
	T_OK(milter_get_options(&pkt, &r) == 0);
	T_OK(r.version == 6 && r.actions == 0x1ff && r.protocol == 0x400);
	T_STR(r.lists[MILTER_AT_MAIL], "i {mail_addr}");
	T_STR(r.lists[MILTER_AT_EOM], "");
	T_OK(r.lists[MILTER_AT_EOH] == NULL);
	for (i = 0; i <= 35; i++) { /* every cut but after a list */
		pkt.len = i;
		T_OK((milter_get_options(&pkt, &r) == 0) ==
		    (i == 12 || i == 30 || i == 35));
	}
	/* a stage that nobody knows is ignored */
	T_OK(milter_get_options(
	         PKT('O', "\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\7i\0"), &r) == 0);
	T_OK(
	    milter_get_options(PKT('H', "\0\0\0\6\0\0\0\0\0\0\0\0"), &r) == -1);
}

static void
connect_knows_its_families(void)
{
	static const struct milter_connect rows[] = {
		{ "h", '4', 25, "192.0.2.1" },
		{ "h", '6', 65535, "2001:db8::1" },
		{ "h", 'L', 0, "/run/x" },
		{ "localhost", 'U', 0, "" },
	};
	struct milter_connect r;
	size_t i, cut;

	for (i = 0; i < 4; i++) {
		reset();
		T_OK(milter_put_connect(&b, &rows[i]) == 0 && take());
		T_OK(milter_get_connect(&pkt, &r) == 0);
		T_STR(r.hostname, rows[i].hostname);
		T_STR(r.addr, rows[i].addr);
		T_OK(r.family == rows[i].family && r.port == rows[i].port);
		for (cut = pkt.len; cut-- > 0;) {
			pkt.len = cut;
			T_OK(milter_get_connect(&pkt, &r) == -1);
		}
	}
	T_OK(milter_get_connect(PKT('C', "h\0006\0\1IPv6:::1\0"), &r) == 0);
	T_STR(r.addr, "::1");
	T_OK(milter_get_connect(PKT('C', "h\0004\0\1a\0x"), &r) == -1);
	T_OK(milter_get_connect(PKT('C', "h\0Ux"), &r) == -1);
	T_OK(milter_get_connect(PKT('C', "h\0Z"), &r) == -1);
}

static void
macros_and_strings_go_both_ways(void)
{
	const struct milter_macro m[] = { { "i", "Q1" }, { "j", NULL },
		{ "{x}", "" } };
	const char *s[3];
	struct milter_macro r[3];
	size_t n;
	char cmd;

	reset();
	T_OK(milter_put_macros(&b, 'M', m, 3) == 0 && take());
	T_OK(milter_get_macros(&pkt, &cmd, r, 3, &n) == 0 && n == 2);
	T_OK(cmd == 'M');
	T_STR(r[0].name, "i");
	T_STR(r[1].name, "{x}");
	T_OK(milter_get_macros(&pkt, &cmd, r, 1, &n) == -1 && errno == E2BIG);
	T_OK(milter_get_macros(PKT('D', ""), &cmd, r, 3, &n) == -1);
	T_OK(milter_get_macros(PKT('D', "Mi"), &cmd, r, 3, &n) == -1);
	T_OK(milter_get_macros(PKT('D', "Mi\0"), &cmd, r, 3, &n) == -1);
	T_OK(milter_get_macros(PKT('D', "M"), &cmd, r, 3, &n) == 0 && n == 0);
	T_OK(milter_get_strings(PKT('M', "<a>\0SIZE=1\0"), s, 3, &n) == 0 &&
	    n == 2);
	T_OK(milter_get_strings(PKT('M', "<a>\0SIZE=1"), s, 3, &n) == -1);
	T_OK(milter_get_strings(PKT('M', "a\0b\0c\0d\0"), s, 3, &n) == -1);
}

static void
edits_are_exact(void)
{
	static const struct {
		char code;
		const char *bytes;
		size_t len;
		int want;
	} rows[] = {
#define ROW(c, s, w) { c, s, sizeof(s) - 1, w }
		ROW('h', "n\0v\0", 0),
		ROW('h', "n\0\0", 0),
		ROW('h', "n\0v", -1),
		ROW('h', "n\0", -1),
		ROW('h', "", -1),
		ROW('h', "\0v\0", -1),
		ROW('h', "n\0v\0x", -1),
		ROW('i', "\0\0\0\1n\0v\0", 0),
		ROW('i', "\0\0\0", -1),
		ROW('i', "n\0v\0", -1),
		ROW('m', "\0\0\0\0n\0\0", 0),
		ROW('m', "\0\0\0\1n\0v\0z\0", -1),
		ROW('b', "", 0),
		ROW('b', "\0x", 0),
		ROW('+', "a@b\0", 0),
		ROW('+', "a@b", -1),
		ROW('+', "a@b\0x\0", -1),
		ROW('2', "a@b\0x=1\0", 0),
		ROW('2', "a@b\0", 0),
		ROW('2', "a@b\0x", -1),
		ROW('-', "a@b\0", 0),
		ROW('e', "<>\0", 0),
		ROW('e', "<>\0RET=HDRS\0", 0),
		ROW('q', "why\0", 0),
		ROW('q', "why", -1),
		ROW('c', "", -1),
#undef ROW
	};
	struct milter_edit e;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pkt = (struct milter_packet){ rows[i].code, rows[i].bytes,
			rows[i].len };
		if (milter_get_edit(&pkt, &e) != rows[i].want)
			printf("# row %zu\n", i);
		T_OK(milter_get_edit(&pkt, &e) == rows[i].want);
	}
	T_OK(milter_get_edit(PKT('m', "\0\0\0\0n\0v\0"), &e) == 0);
	T_OK(e.index == 1);
	T_OK(milter_edit_action('2') == MILTER_MAY_ADD_RCPT_PAR);
}

static void
custom_replies_are_cleaned_or_refused(void)
{
	static const struct {
		const char *bytes;
		size_t len;
		int code;
		const char *text;
	} rows[] = {
#define ROW(s, c, t) { s, sizeof(s) - 1, c, t }
		ROW("550 5.7.1 no\0", 550, "550 5.7.1 no"),
		ROW("550 5.7.1 no", 550, "550 5.7.1 no"),
		ROW("550 5.7.1 no\r\n\0", 550, "550 5.7.1 no"),
		ROW("450", 450, "450 "),
		ROW("450 100%% %d%", 450, "450 100% d"),
		ROW("550-a\r\n550 5.7.1 b\0", 550, "550-a\r\n550 5.7.1 b"),
		ROW("550 a\r\n550-b\0", 550, "550-a\r\n550 b"),
		ROW("550 5.7.1\0", 550, "550 5.7.1"),
		ROW("421-4.7.0 a\r\n421 b", 421, "421-4.7.0 a\r\n421 b"),
		ROW("550 a\r\n551 b", -1, ""),
		ROW("550 a\r\n", 550, "550 a"),
		ROW("550 a\r\n\r\n", -1, ""),
		ROW("550 a\rb", -1, ""),
		ROW("550 a\nb", -1, ""),
		ROW("550 a\0b", -1, ""),
		ROW("550 4.7.1 x", -1, ""),
		ROW("450 5.7.1 x", -1, ""),
		ROW("250 ok", -1, ""),
		ROW("350 ok", -1, ""),
		ROW("650 ok", -1, ""),
		ROW("55x ok", -1, ""),
		ROW("550x", -1, ""),
		ROW("", -1, ""),
		ROW("\0", -1, ""),
		ROW("550 5.7.1 \303\244\tb\1", 550, "550 5.7.1 ?? b?"),
		ROW("550 5.7.1 %n%%n%s", 550, "550 5.7.1 n%ns"),
		ROW("550 10.0.0.1 listed", 550, "550 10.0.0.1 listed"),
#undef ROW
	};
	struct buf text = BUF_INIT(1 << 16);
	char longest[1200];
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		text.len = 0;
		T_OK(buf_add(&text, "", 0) == 0);
		pkt = (struct milter_packet){ 'y', rows[i].bytes, rows[i].len };
		if (milter_get_reply(&pkt, &text) != rows[i].code)
			printf("# row %zu\n", i);
		text.len = 0;
		T_OK(buf_add(&text, "", 0) == 0);
		T_OK(milter_get_reply(&pkt, &text) == rows[i].code);
		T_STR(text.data, rows[i].text);
	}
	memset(longest, 'x', sizeof(longest));
	memcpy(longest, "550 ", 4);
	pkt = (struct milter_packet){ 'y', longest, MILTER_REPLY_LINE };
	T_OK(milter_get_reply(&pkt, &text) == 550);
	pkt.len++;
	T_OK(milter_get_reply(&pkt, &text) == -1);
	buf_fini(&text);
}

static void
texts_are_judged(void)
{
	const char *a;
	size_t n;

	T_OK(milter_name_ok("X-A") && !milter_name_ok("X A") &&
	    !milter_name_ok("X:") && !milter_name_ok("") &&
	    !milter_name_ok("\303\244"));
	T_OK(milter_value_ok("a\n b\r\n\tc") && !milter_value_ok("a\nb") &&
	    !milter_value_ok("a\rb") && !milter_value_ok("a\n") &&
	    !milter_value_ok("a\r"));
	T_OK(milter_address("<a@b>", false, &a, &n) && n == 3 && a[0] == 'a');
	T_OK(milter_address("<>", true, &a, &n) && n == 0);
	T_OK(!milter_address("<>", false, &a, &n));
	T_OK(!milter_address("a b", true, &a, &n));
	T_OK(!milter_address("<a@b", true, &a, &n));
	T_OK(!milter_address("a@b>\r\nRCPT", true, &a, &n));
}

static const struct t_case cases[] = {
	{ "milter: frames need every byte", frames_need_every_byte },
	{ "milter: payloads over the limit are not built",
	    payloads_over_the_limit_are_not_built },
	{ "milter: options go both ways, cut ones do not",
	    options_go_both_ways },
	{ "milter: connect knows its families", connect_knows_its_families },
	{ "milter: macros and strings go both ways",
	    macros_and_strings_go_both_ways },
	{ "milter: edits are exact", edits_are_exact },
	{ "milter: custom replies are cleaned or refused",
	    custom_replies_are_cleaned_or_refused },
	{ "milter: names, values and addresses are judged", texts_are_judged },
};

T_MAIN(cases)
