/* SPDX-License-Identifier: ISC */

/* json - whatever the network says becomes valid JSON */

#include "milter-sdk/base/json.h"
#include "tests/lib/t.h"

#include <string.h>

static int
gives(const char *in, size_t n, const char *want)
{
	struct buf b = BUF_INIT(1000);
	int ok = json_strn(&b, in, n) == 0 && strcmp(b.data, want) == 0;

	buf_fini(&b);
	return (ok);
}

static void
text_is_escaped(void)
{
	T_OK(gives("", 0, "\"\""));
	T_OK(gives("a\"\\\r\n\t", 6, "\"a\\\"\\\\\\r\\n\\t\""));
	T_OK(gives("\x01\x7f\0z", 4, "\"\\u0001\\u007f\\u0000z\""));
}

static void
only_utf8_leaves(void)
{
	T_OK(gives("\xc3\xa4\xe2\x82\xac", 5, "\"\xc3\xa4\xe2\x82\xac\""));
	T_OK(gives("\xff\xc0\x80", 3, "\"\\ufffd\\ufffd\\ufffd\""));
	T_OK(gives("\xe2\x82", 2, "\"\\ufffd\\ufffd\""));
	T_OK(gives("\xed\xa0\x80", 3, "\"\\ufffd\\ufffd\\ufffd\""));
}

static void
members_are_parted(void)
{
	struct buf b = BUF_INIT(1000), tiny = BUF_INIT(4);

	T_OK(buf_add(&b, "{", 1) == 0);
	T_OK(json_kv_str(&b, "a", "x") == 0);
	T_OK(json_kv_num(&b, "b", 18446744073709551615ull) == 0);
	T_STR(b.data, "{\"a\":\"x\",\"b\":18446744073709551615");
	T_OK(json_str(&tiny, "abcdef") == -1);
	buf_fini(&b);
	buf_fini(&tiny);
}

static const struct t_case cases[] = {
	{ "json_str: quotes and control bytes are escaped", text_is_escaped },
	{ "json_str: what is no UTF-8 becomes U+FFFD", only_utf8_leaves },
	{ "json_kv_*: members, and a full buffer is an error",
	    members_are_parted },
};

T_MAIN(cases)
