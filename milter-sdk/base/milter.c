/* SPDX-License-Identifier: ISC */

/*
 * milter - packets of the Milter protocol, built and parsed
 *
 * The other side is a separate program and is not trusted: every length is
 * checked before it is used, and what is malformed is an error, not something
 * to repair.  The layout is that of sendmail's libmilter
 * (include/libmilter/mfdef.h); there is no RFC.
 */

#include "milter-sdk/base/milter.h"

#include <errno.h>
#include <string.h>

enum { ADDR_MAX = 1000, NAME_MAX_BYTES = 998 };

static uint32_t
get32(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	return ((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3]);
}

static void
set32(char *p, uint32_t v)
{
	p[0] = (char)(v >> 24);
	p[1] = (char)(v >> 16);
	p[2] = (char)(v >> 8);
	p[3] = (char)v;
}

long
milter_next(const void *bytes, size_t n, size_t max, struct milter_packet *pkt)
{
	const char *p = bytes;
	uint32_t len;

	if (n < 4)
		return (0);
	if ((len = get32(p)) == 0) {
		errno = EPROTO;
		return (-1);
	}
	if (len - 1 > max || len - 1 > MILTER_PAYLOAD_MAX) {
		errno = EMSGSIZE;
		return (-1);
	}
	if (n - 4 < len)
		return (0);
	pkt->code = p[4];
	pkt->data = p + MILTER_HDR;
	pkt->len = len - 1;
	return ((long)len + 4);
}

/*
 * Builders: begin() leaves room for the length, end() fills it in.  On any
 * failure the buffer is cut back, so that no half packet ever leaves.
 */
static int
begin(struct buf *b, char code, size_t *at)
{
	char hdr[MILTER_HDR] = { 0, 0, 0, 0, code };

	*at = b->len;
	return (buf_add(b, hdr, sizeof(hdr)));
}

static int
end(struct buf *b, size_t at, bool ok)
{
	size_t len = b->len - at;

	if (ok && len - MILTER_HDR > MILTER_CHUNK) {
		errno = EMSGSIZE;
		ok = false;
	}
	if (!ok) {
		b->len = at;
		if (b->data != NULL)
			b->data[at] = '\0';
		return (-1);
	}
	set32(b->data + at, (uint32_t)(len - 4));
	return (0);
}

static bool
add_string(struct buf *b, const char *s)
{
	return (buf_add(b, s, strlen(s) + 1) == 0);
}

static bool
add32(struct buf *b, uint32_t v)
{
	char room[4];

	set32(room, v);
	return (buf_add(b, room, sizeof(room)) == 0);
}

int
milter_put(struct buf *b, char code, const void *payload, size_t len)
{
	size_t at;

	if (len > MILTER_CHUNK) {
		errno = EMSGSIZE;
		return (-1);
	}
	if (begin(b, code, &at) == -1)
		return (-1);
	return (end(b, at, len == 0 || buf_add(b, payload, len) == 0));
}

int
milter_put_options(struct buf *b, const struct milter_options *o)
{
	size_t at, i;
	bool ok;

	if (begin(b, MILTER_OPTNEG, &at) == -1)
		return (-1);
	ok = add32(b, o->version) && add32(b, o->actions) &&
	    add32(b, o->protocol);
	for (i = 0; i < MILTER_STAGES && ok; i++)
		if (o->lists[i] != NULL)
			ok =
			    add32(b, (uint32_t)i) && add_string(b, o->lists[i]);
	return (end(b, at, ok));
}

int
milter_put_macros(
    struct buf *b, char cmd, const struct milter_macro *m, size_t n)
{
	size_t at, i;
	bool ok;

	if (begin(b, MILTER_MACRO, &at) == -1)
		return (-1);
	ok = buf_add(b, &cmd, 1) == 0;
	for (i = 0; i < n && ok; i++)
		if (m[i].value != NULL)
			ok = add_string(b, m[i].name) &&
			    add_string(b, m[i].value);
	return (end(b, at, ok));
}

int
milter_put_connect(struct buf *b, const struct milter_connect *c)
{
	char port[2] = { (char)(c->port >> 8), (char)c->port };
	size_t at;
	bool ok;

	if (strchr("46LU", c->family) == NULL || c->family == '\0') {
		errno = EINVAL;
		return (-1);
	}
	if (begin(b, MILTER_CONNECT, &at) == -1)
		return (-1);
	ok = add_string(b, c->hostname) && buf_add(b, &c->family, 1) == 0;
	if (ok && c->family != 'U')
		ok = buf_add(b, port, sizeof(port)) == 0 &&
		    add_string(b, c->addr);
	return (end(b, at, ok));
}

int
milter_put_strings(struct buf *b, char code, const char *const *s, size_t n)
{
	size_t at, i;
	bool ok = true;

	if (begin(b, code, &at) == -1)
		return (-1);
	for (i = 0; i < n && ok; i++)
		ok = add_string(b, s[i]);
	return (end(b, at, ok));
}

int
milter_put_indexed(struct buf *b, char code, uint32_t index, const char *name,
    const char *value)
{
	size_t at;

	if (begin(b, code, &at) == -1)
		return (-1);
	return (end(b, at,
	    add32(b, index) && add_string(b, name) && add_string(b, value)));
}

/* Parsers: a cursor over the payload. */
struct cursor {
	const char *p;
	size_t n;
};

static int
bad(void)
{
	errno = EPROTO;
	return (-1);
}

/* take_string - split a NUL-terminated string off the front, or NULL */
static const char *
take_string(struct cursor *c)
{
	const char *s = c->p;
	const char *nul = c->n > 0 ? memchr(s, '\0', c->n) : NULL;

	if (nul == NULL)
		return (NULL);
	c->n -= (size_t)(nul - s) + 1;
	c->p = nul + 1;
	return (s);
}

static bool
take32(struct cursor *c, uint32_t *v)
{
	if (c->n < 4)
		return (false);
	*v = get32(c->p);
	c->p += 4;
	c->n -= 4;
	return (true);
}

int
milter_get_options(const struct milter_packet *pkt, struct milter_options *o)
{
	struct cursor c = { pkt->data, pkt->len };
	const char *list;
	uint32_t stage;

	memset(o, 0, sizeof(*o));
	if (pkt->code != MILTER_OPTNEG || !take32(&c, &o->version) ||
	    !take32(&c, &o->actions) || !take32(&c, &o->protocol))
		return (bad());
	while (c.n > 0) {
		if (!take32(&c, &stage) || (list = take_string(&c)) == NULL)
			return (bad());
		if (stage < MILTER_STAGES) /* unknown ones are ignored */
			o->lists[stage] = list;
	}
	return (0);
}

int
milter_get_macros(const struct milter_packet *pkt, char *cmd,
    struct milter_macro *m, size_t max, size_t *n)
{
	struct cursor c = { pkt->data, pkt->len };

	*n = 0;
	if (pkt->code != MILTER_MACRO || c.n == 0)
		return (bad());
	*cmd = *c.p++;
	for (c.n--; c.n > 0; (*n)++) {
		if (*n == max) {
			errno = E2BIG;
			return (-1);
		}
		m[*n].name = take_string(&c);
		m[*n].value = take_string(&c);
		if (m[*n].name == NULL || m[*n].value == NULL)
			return (bad());
	}
	return (0);
}

int
milter_get_connect(const struct milter_packet *pkt, struct milter_connect *k)
{
	struct cursor c = { pkt->data, pkt->len };

	memset(k, 0, sizeof(*k));
	k->addr = "";
	if (pkt->code != MILTER_CONNECT ||
	    (k->hostname = take_string(&c)) == NULL || c.n == 0)
		return (bad());
	k->family = *c.p++;
	c.n--;
	if (k->family == 'U')
		return (c.n == 0 ? 0 : bad());
	if (strchr("46L", k->family) == NULL || k->family == '\0' || c.n < 2)
		return (bad());
	k->port =
	    (uint16_t)((unsigned char)c.p[0] << 8 | (unsigned char)c.p[1]);
	c.p += 2;
	c.n -= 2;
	if ((k->addr = take_string(&c)) == NULL || c.n != 0)
		return (bad());
	/* Sendmail marks IPv6 addresses, Postfix does not. */
	if (k->family == '6' && strncasecmp(k->addr, "IPv6:", 5) == 0)
		k->addr += 5;
	return (0);
}

int
milter_get_strings(
    const struct milter_packet *pkt, const char **s, size_t max, size_t *n)
{
	struct cursor c = { pkt->data, pkt->len };

	for (*n = 0; c.n > 0; (*n)++) {
		if (*n == max) {
			errno = E2BIG;
			return (-1);
		}
		if ((s[*n] = take_string(&c)) == NULL)
			return (bad());
	}
	return (0);
}

bool
milter_is_edit(char code)
{
	return (code != '\0' && strchr("himb+2-eq", code) != NULL);
}

uint32_t
milter_edit_action(char code)
{
	switch (code) {
	case MILTER_ADD_HEADER:
	case MILTER_INSERT_HEADER:
		return (MILTER_MAY_ADD_HEADERS);
	case MILTER_CHANGE_HEADER:
		return (MILTER_MAY_CHANGE_HEADERS);
	case MILTER_REPLACE_BODY:
		return (MILTER_MAY_CHANGE_BODY);
	case MILTER_ADD_RCPT:
		return (MILTER_MAY_ADD_RCPT);
	case MILTER_ADD_RCPT_PAR:
		return (MILTER_MAY_ADD_RCPT_PAR);
	case MILTER_DEL_RCPT:
		return (MILTER_MAY_DEL_RCPT);
	case MILTER_CHANGE_FROM:
		return (MILTER_MAY_CHANGE_FROM);
	case MILTER_QUARANTINE:
		return (MILTER_MAY_QUARANTINE);
	default:
		return (0);
	}
}

int
milter_get_edit(const struct milter_packet *pkt, struct milter_edit *e)
{
	struct cursor c = { pkt->data, pkt->len };
	bool indexed = pkt->code == MILTER_INSERT_HEADER ||
	    pkt->code == MILTER_CHANGE_HEADER;

	memset(e, 0, sizeof(*e));
	e->code = pkt->code;
	e->name = e->value = e->bytes = "";
	if (!milter_is_edit(pkt->code))
		return (bad());
	if (pkt->code == MILTER_REPLACE_BODY) {
		e->bytes = pkt->data;
		e->len = pkt->len;
		return (0);
	}
	if (indexed && !take32(&c, &e->index))
		return (bad());
	if ((e->name = take_string(&c)) == NULL)
		return (bad());
	if (indexed || pkt->code == MILTER_ADD_HEADER) {
		if ((e->value = take_string(&c)) == NULL || e->name[0] == '\0')
			return (bad());
	} else if (c.n > 0 &&
	    (pkt->code == MILTER_ADD_RCPT_PAR ||
	        pkt->code == MILTER_CHANGE_FROM)) {
		if ((e->value = take_string(&c)) == NULL)
			return (bad());
	}
	if (pkt->code == MILTER_CHANGE_HEADER && e->index == 0)
		e->index = 1;
	return (c.n == 0 ? 0 : bad());
}

static bool
is_digit(char ch)
{
	return (ch >= '0' && ch <= '9');
}

/* enhanced_ok - "D.ddd.ddd" after the code must be of the code's class; text
 * that is no enhanced code is fine */
static bool
enhanced_ok(const char *s, size_t n, char class)
{
	size_t i = 0, part, digits;

	for (part = 0; part < 3; part++) {
		for (digits = 0; i < n && is_digit(s[i]) && digits < 4; i++)
			digits++;
		if (digits == 0 || digits > 3 || (part == 0 && digits > 1))
			return (true);
		if (part < 2 && (i == n || s[i++] != '.'))
			return (true);
	}
	return ((i < n && s[i] != ' ') || s[0] == class);
}

/* add_text - "%%" is "%", a lone "%" is dropped, as Postfix reads it.  A reply
 * is ASCII for most clients: what else a filter says (its verdict is clear all
 * the same) becomes "?". */
static int
add_text(struct buf *b, const char *s, size_t n)
{
	size_t i;
	char ch;

	for (i = 0; i < n; i++) {
		if (s[i] == '%' && (++i == n || s[i] != '%')) {
			i--;
			continue;
		}
		ch = s[i] >= ' ' && s[i] <= '~' ? s[i]
		    : s[i] == '\t'              ? ' '
		                                : '?';
		if (buf_add(b, &ch, 1) == -1)
			return (-1);
	}
	return (0);
}

/* reply_line - check one line of n bytes and append it */
static int
reply_line(struct buf *b, const char *s, size_t n, const char *code, bool last)
{
	size_t i;

	if (n < 3 || n > MILTER_REPLY_LINE || memcmp(s, code, 3) != 0 ||
	    (n > 3 && s[3] != ' ' && s[3] != '-'))
		return (bad());
	for (i = 3; i < n; i++)
		if (s[i] == '\0' || s[i] == '\r' || s[i] == '\n')
			return (bad());
	if (n > 4 && !enhanced_ok(s + 4, n - 4, code[0]))
		return (bad());
	if (buf_add(b, code, 3) == -1 || buf_add(b, last ? " " : "-", 1) == -1)
		return (-1);
	return (n > 4 ? add_text(b, s + 4, n - 4) : 0);
}

int
milter_get_reply(const struct milter_packet *pkt, struct buf *text)
{
	const char *s = pkt->data, *nl;
	size_t n = pkt->len, len, lines = 0, start = text->len;
	char code[3];
	bool last;

	if (n > 0 && s[n - 1] == '\0')
		n--;
	if (pkt->code != MILTER_REPLYCODE || n < 3 ||
	    (s[0] != '4' && s[0] != '5') || !is_digit(s[1]) || !is_digit(s[2]))
		return (bad());
	memcpy(code, s, 3);
	if (n >= 2 && memcmp(s + n - 2, "\r\n", 2) == 0)
		n -= 2;
	do {
		nl = memmem(s, n, "\r\n", 2);
		last = nl == NULL;
		len = last ? n : (size_t)(nl - s);
		if (++lines > MILTER_REPLY_LINES) {
			(void)bad();
			goto fail;
		}
		if (reply_line(text, s, len, code, last) == -1 ||
		    (!last && buf_add(text, "\r\n", 2) == -1))
			goto fail;
		if (!last) {
			n -= len + 2;
			s = nl + 2;
		}
	} while (!last);
	return ((code[0] - '0') * 100 + (code[1] - '0') * 10 + code[2] - '0');

fail:
	text->len = start;
	if (text->data != NULL)
		text->data[start] = '\0';
	return (-1);
}

bool
milter_name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > NAME_MAX_BYTES)
		return (false);
	for (; *s != '\0'; s++)
		if (*s <= ' ' || *s > '~' || *s == ':')
			return (false);
	return (true);
}

bool
milter_value_ok(const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\r' && *++s != '\n')
			return (false);
		if (*s == '\n' && s[1] != ' ' && s[1] != '\t')
			return (false);
	}
	return (true);
}

bool
milter_address(const char *s, bool null_ok, const char **addr, size_t *len)
{
	size_t i, n = strlen(s);

	if (n >= 2 && s[0] == '<' && s[n - 1] == '>') {
		s++;
		n -= 2;
	}
	if (n > ADDR_MAX || (n == 0 && !null_ok))
		return (false);
	for (i = 0; i < n; i++)
		if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || s[i] == '<' ||
		    s[i] == '>')
			return (false);
	*addr = s;
	*len = n;
	return (true);
}
