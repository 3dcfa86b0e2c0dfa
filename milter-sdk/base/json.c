/* SPDX-License-Identifier: ISC */

/*
 * json - write JSON text (RFC 8259)
 */

#include "milter-sdk/base/json.h"

#include <inttypes.h>
#include <string.h>

/* Length of the UTF-8 sequence at s, or 0 if there is none (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF). */
static size_t
utf8_len(const unsigned char *s, size_t n)
{
	size_t len, i;

	if (s[0] < 0x80)
		return (1);
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return (0);
	if (n < len)
		return (0);
	for (i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return (0);
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return (0);
	return (len);
}

static int
escape(struct buf *b, unsigned char c)
{
	switch (c) {
	case '"':
		return (buf_add(b, "\\\"", 2));
	case '\\':
		return (buf_add(b, "\\\\", 2));
	case '\n':
		return (buf_add(b, "\\n", 2));
	case '\r':
		return (buf_add(b, "\\r", 2));
	case '\t':
		return (buf_add(b, "\\t", 2));
	default:
		return (buf_addf(b, "\\u%04x", c));
	}
}

int
json_strn(struct buf *b, const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t run = 0, i = 0, len;

	if (buf_add(b, "\"", 1) == -1)
		return (-1);
	while (i < n) {
		len = utf8_len(s + i, n - i);
		if (len != 0 && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\' &&
		    s[i] != 0x7f) {
			i += len;
			continue;
		}
		if (buf_add(b, s + run, i - run) == -1)
			return (-1);
		if (len == 0 ? buf_add(b, "\\ufffd", 6) == -1
		             : escape(b, s[i]) == -1)
			return (-1);
		run = ++i;
	}
	if (buf_add(b, s + run, i - run) == -1)
		return (-1);
	return (buf_add(b, "\"", 1));
}

int
json_str(struct buf *b, const char *s)
{
	return (json_strn(b, s, strlen(s)));
}

int
json_key(struct buf *b, const char *name)
{
	if (b->len != 0 && b->data[b->len - 1] != '{' &&
	    buf_add(b, ",", 1) == -1)
		return (-1);
	if (json_str(b, name) == -1)
		return (-1);
	return (buf_add(b, ":", 1));
}

int
json_kv_str(struct buf *b, const char *name, const char *value)
{
	return (json_key(b, name) == -1 ? -1 : json_str(b, value));
}

int
json_kv_num(struct buf *b, const char *name, uint64_t value)
{
	if (json_key(b, name) == -1)
		return (-1);
	return (buf_addf(b, "%" PRIu64, value));
}
