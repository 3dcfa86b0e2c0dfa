/* SPDX-License-Identifier: ISC */

/*
 * records_match - is a line the decision record that somebody asks for?
 *
 * Lines are searched by the million, so nothing is allocated and a record is
 * read no further than needed: what is asked about stands before the milters'
 * part, which is most of it.  The text was made by a receiver, from words of
 * the network: everything is bounded by the line.
 */

#include "core/queue/records.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VALUE_MAX = 2048 }; /* bytes of a value that is compared */

struct text {
	const char *p, *end;
};

/* string - step over a string; its inside, still escaped */
static bool
string(struct text *t, struct text *inside)
{
	const char *q;

	if (t->p == t->end || *t->p != '"')
		return (false);
	inside->p = ++t->p;
	for (;;) {
		q = memchr(t->p, '"', (size_t)(t->end - t->p));
		if (q == NULL)
			return (false);
		inside->end = q;
		t->p = q + 1;
		while (q > inside->p && q[-1] == '\\')
			q--;
		if ((inside->end - q) % 2 == 0)
			return (true);
	}
}

/* skip - step over a value that is not looked at */
static bool
skip(struct text *t)
{
	struct text inside;
	unsigned depth = 0;

	do {
		if (t->p == t->end)
			return (false);
		if (*t->p == '"') {
			if (!string(t, &inside))
				return (false);
			continue;
		}
		if (*t->p == '{' || *t->p == '[')
			depth++;
		else if (*t->p == '}' || *t->p == ']') {
			if (depth-- == 0)
				return (false);
		} else if (*t->p == ',' && depth == 0)
			return (true);
		t->p++;
	} while (depth > 0 ||
	    (t->p < t->end && *t->p != ',' && *t->p != '}' && *t->p != ']'));
	return (true);
}

static unsigned
hex4(const char *p)
{
	unsigned v = 0;
	int i;

	for (i = 0; i < 4; i++)
		v = v << 4 |
		    (unsigned)(isdigit((unsigned char)p[i])
		            ? p[i] - '0'
		            : (tolower((unsigned char)p[i]) - 'a' + 10) & 15);
	return (v);
}

/* plain - the string without escapes, cut to the room; its length */
static size_t
plain(struct text in, char room[VALUE_MAX])
{
	size_t n = 0;
	unsigned v;
	char c;

	while (in.p < in.end && n < VALUE_MAX - 1) {
		c = *in.p++;
		if (c == '\\' && in.p < in.end) {
			c = *in.p++;
			if (c == 'u' && in.end - in.p >= 4) {
				v = hex4(in.p);
				in.p += 4;
				c = v > 0 && v < 128 ? (char)v : '?';
			} else if (c == 't')
				c = '\t';
			else if (c == 'n')
				c = '\n';
			else if (c == 'r')
				c = '\r';
		}
		room[n++] = c;
	}
	room[n] = '\0';
	return (n);
}

static bool
same_id(struct text in, const char *want)
{
	size_t n = strlen(want), len = (size_t)(in.end - in.p);

	return (len >= n && memcmp(in.p, want, n) == 0 &&
	    (len == n || in.p[n] == '-'));
}

static bool
same_message_id(struct text in, const char *want)
{
	char room[VALUE_MAX];
	size_t n = strlen(want), len = plain(in, room);
	const char *p = room;

	if (want[0] == '<' && n > 2 && want[n - 1] == '>') {
		want++;
		n -= 2;
	}
	if (len > 2 && p[0] == '<' && p[len - 1] == '>') {
		p++;
		len -= 2;
	}
	return (len == n && memcmp(p, want, n) == 0);
}

static bool
same_address(struct text in, const char *want)
{
	char room[VALUE_MAX];
	size_t n, len = plain(in, room);

	if (strcmp(want, "<>") == 0)
		return (len == 0);
	n = strlen(want);
	if (want[0] == '@')
		return (len > n && strcasecmp(room + len - n, want) == 0);
	return (strcasecmp(room, want) == 0);
}

/* one_of - some string of the list is the address */
static bool
one_of(struct text *t, const char *want)
{
	struct text inside;
	bool yes = false;

	if (t->p == t->end || *t->p++ != '[')
		return (false);
	while (string(t, &inside)) {
		yes = yes || same_address(inside, want);
		if (t->p == t->end || *t->p != ',')
			break;
		t->p++;
	}
	if (t->p < t->end && *t->p == ']')
		t->p++;
	return (yes);
}

static bool
key_is(const struct text *key, const char *name)
{
	size_t n = strlen(name);

	return (
	    (size_t)(key->end - key->p) == n && memcmp(key->p, name, n) == 0);
}

/* days - since 1970 of a date of the Gregorian calendar */
static int64_t
days(int64_t y, int64_t m, int64_t d)
{
	y -= m <= 2;
	return (365 * y + y / 4 - y / 100 + y / 400 +
	    (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1 - 719468);
}

/* time_of - "2026-01-31T23:59:59.999Z" */
static uint64_t
time_of(const struct text *in)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
	int64_t v[7] = { 0 }, s;
	size_t i, k = 0;

	if ((size_t)(in->end - in->p) != sizeof(form) - 1)
		return (0);
	for (i = 0; i < sizeof(form) - 1; i++) {
		if (form[i] != 'd') {
			if (in->p[i] != form[i])
				return (0);
			k++;
		} else if (!isdigit((unsigned char)in->p[i]))
			return (0);
		else
			v[k] = 10 * v[k] + (in->p[i] - '0');
	}
	s = days(v[0], v[1], v[2]) * 86400 + v[3] * 3600 + v[4] * 60 + v[5];
	return (s > 0 ? (uint64_t)s * 1000 + (uint64_t)v[6] : 0);
}

/* string_member - the next member's value, if it is a string */
static bool
next_key(struct text *t, struct text *key)
{
	if (t->p == t->end || (*t->p != '{' && *t->p != ','))
		return (false);
	t->p++;
	if (!string(t, key) || t->p == t->end || *t->p != ':')
		return (false);
	t->p++;
	return (true);
}

uint64_t
records_time(const char *line, size_t len)
{
	struct text t = { line, line + len }, key, value;

	while (next_key(&t, &key)) {
		if (key_is(&key, "time"))
			return (string(&t, &value) ? time_of(&value) : 0);
		if (!skip(&t))
			break;
	}
	return (0);
}

/* What a record must still show. */
enum {
	W_ID = 1,
	W_MESSAGE_ID = 2,
	W_FROM = 4,
	W_TO = 8,
	W_TIME = 16,
	W_RELEASED = 32
};

static unsigned
wanted(const struct records_query *q)
{
	return ((q->id != NULL ? W_ID : 0u) |
	    (q->message_id != NULL ? W_MESSAGE_ID : 0u) |
	    (q->released_from != NULL ? W_RELEASED : 0u) |
	    (q->from != NULL ? W_FROM : 0u) | (q->to != NULL ? W_TO : 0u) |
	    (q->since_ms != 0 || q->until_ms != 0 ? W_TIME : 0u));
}

/* concerns - which wish a member is about */
static unsigned
concerns(const struct text *key, unsigned want)
{
	static const struct {
		const char *name;
		unsigned bit;
	} rows[] = { { "id", W_ID }, { "time", W_TIME }, { "sender", W_FROM },
		{ "recipients", W_TO }, { "message_id", W_MESSAGE_ID },
		{ "released_from", W_RELEASED } };
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if ((want & rows[i].bit) != 0 && key_is(key, rows[i].name))
			return (rows[i].bit);
	return (0);
}

static bool
satisfies(const struct records_query *q, unsigned wish, struct text *t)
{
	struct text value;
	uint64_t at;

	if (wish == W_TO)
		return (one_of(t, q->to));
	if (!string(t, &value))
		return (false);
	switch (wish) {
	case W_ID:
		return (same_id(value, q->id));
	case W_RELEASED:
		return (same_id(value, q->released_from));
	case W_FROM:
		return (same_address(value, q->from));
	case W_MESSAGE_ID:
		return (same_message_id(value, q->message_id));
	default:
		at = time_of(&value);
		return (at != 0 && at >= q->since_ms &&
		    (q->until_ms == 0 || at <= q->until_ms));
	}
}

enum { SHADOW_AT = 64 }; /* bytes that the second member begins within */

bool
records_match(const struct records_query *q, const char *line, size_t len)
{
	struct text t = { line, line + len }, key;
	unsigned want = wanted(q), wish;

	/* Of milters in shadow: found with their message, which comes alone
	 * where many are. */
	if (q->id == NULL &&
	    memmem(line, len < SHADOW_AT ? len : SHADOW_AT,
	        "\",\"shadow\":", 11) != NULL)
		return (false);
	if (want == 0)
		return (len > 1 && line[0] == '{' && line[len - 1] == '}');
	while (want != 0 && next_key(&t, &key)) {
		wish = concerns(&key, want);
		if (wish == 0 ? !skip(&t) : !satisfies(q, wish, &t))
			return (false);
		want &= ~wish;
	}
	return (want == 0);
}

void
records_query_fini(struct records_query *q)
{
	free(q->id);
	free(q->released_from);
	free(q->message_id);
	free(q->from);
	free(q->to);
	memset(q, 0, sizeof(*q));
}

static int
keep(char **place, const char *value)
{
	if (*place != NULL || value[0] == '\0' || strlen(value) >= VALUE_MAX) {
		errno = EINVAL;
		return (-1);
	}
	*place = strdup(value);
	return (*place == NULL ? -1 : 0);
}

static int
number(const char *s, uint64_t max, uint64_t *v_r)
{
	uint64_t v = 0;

	for (; isdigit((unsigned char)*s) && v <= max; s++)
		v = 10 * v + (uint64_t)(*s - '0');
	if (*s != '\0' || v == 0 || v > max) {
		errno = EINVAL;
		return (-1);
	}
	*v_r = v;
	return (0);
}

int
records_query_parse(struct records_query *q, const char *word)
{
	const uint64_t far = 1ull << 40; /* seconds */
	const char *value = strchr(word, '=');
	size_t n = value != NULL ? (size_t)(value++ - word) : 0;
	const struct text key = { word, word + n };
	uint64_t v;

	if (n > 0 && key_is(&key, "id"))
		return (keep(&q->id, value));
	if (n > 0 && key_is(&key, "released-from"))
		return (keep(&q->released_from, value));
	if (n > 0 && key_is(&key, "message-id"))
		return (keep(&q->message_id, value));
	if (n > 0 && key_is(&key, "from"))
		return (keep(&q->from, value));
	if (n > 0 && key_is(&key, "to"))
		return (keep(&q->to, value));
	if (n > 0 && (key_is(&key, "since") || key_is(&key, "until"))) {
		if (number(value, far, &v) == -1)
			return (-1);
		*(key.p[0] == 's' ? &q->since_ms : &q->until_ms) = v * 1000;
		return (0);
	}
	if (n > 0 && key_is(&key, "limit")) {
		if (number(value, RECORDS_LIMIT_MAX, &v) == -1)
			return (-1);
		q->limit = (unsigned)v;
		return (0);
	}
	return (
	    keep(strchr(word, '@') != NULL ? &q->message_id : &q->id, word));
}
