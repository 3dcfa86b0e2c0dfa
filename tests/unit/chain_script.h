/* SPDX-License-Identifier: ISC */
#ifndef TESTS_UNIT_CHAIN_SCRIPT_H
#define TESTS_UNIT_CHAIN_SCRIPT_H

/* Sessions of chain_lib.h with random scripts for the fakes, and all that came
 * of them as text: two ways of doing the same must write the same. */

#include "milter-sdk/base/crc32c.h"
#include "tests/unit/chain_lib.h"

static inline const char *
text(const struct buf *b)
{
	return (b->data != NULL ? b->data : "");
}

/* pass - a transaction, as far as it goes */
static inline enum chain_verdict
pass(const char *id)
{
	enum chain_verdict v = ask_mail(id);

	if (v == CHAIN_CONTINUE)
		v = ask_rcpt("r1@y.test");
	if (v == CHAIN_CONTINUE)
		v = ask_data();
	return (v == CHAIN_CONTINUE ? ask_message() : v);
}

static inline void
greet(void)
{
	ask_connect();
	ask_helo();
}

/* big - a body of n bytes in lines, and header fields */
static inline void
big(size_t n, unsigned fields)
{
	static char line[80];
	size_t i;

	memset(line, 'x', 78);
	memcpy(line + 78, "\r\n", 2);
	msg.mem.len = 0;
	msg.mem.max = 64 << 20;
	for (i = 0; i < n; i += 80)
		T_OK(buf_add(&msg.mem, line, 80) == 0);
	msg.body = msg.mem.data;
	msg.body_len = msg.mem.len;
	while (fields-- > 0)
		field("X-Many", " value");
}

static unsigned seed = 1;

static inline unsigned
rnd(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return ((seed >> 16) % n);
}

/* script - some answers, often "continue" */
static inline void
script(struct fake *f)
{
	static const char cmds[] = "CHMRTLNBE", codes[] = "arrttdycc";
	static const char reply[] = "450-4.7.0 a\r\n450 4.7.0 b";
	const char *const s[] = { reply };
	unsigned n = rnd(3);

	f->protocol = rnd(3) == 0 ? MILTER_NR_HEADER | MILTER_NR_BODY : 0;
	if (rnd(3) == 0)
		f->protocol |= MILTER_NO_HELO | MILTER_NO_DATA | MILTER_NO_EOH;
	while (n-- > 0) {
		char code = codes[rnd(sizeof(codes) - 1)];
		char cmd = cmds[rnd(sizeof(cmds) - 1)];
		struct buf *b;

		if (!fake_due(f, cmd))
			continue;
		b = &fake_says(f, cmd, 0, FAKE_SEND)->bytes;
		if (cmd == 'E') {
			const char *const h[] = { "X-By", "filter" };

			fake_check(milter_put_strings(b, 'h', h, 2));
			fake_check(milter_put_indexed(b, 'm', 2, "X-A", "z"));
			if (rnd(2) == 0)
				fake_check(milter_put(b, 'b', "new\r\n", 5));
		}
		if (code == 'y')
			fake_check(milter_put_strings(b, 'y', s, 1));
		else
			fake_check(milter_put(b, code, NULL, 0));
	}
}

/* times_out - "ms":1.234 as "ms":0, so that records can be compared */
static inline void
times_out(char *s)
{
	char *w = s;

	while (*s != '\0') {
		if (strncmp(s, "\"ms\":", 5) == 0) {
			memcpy(w, s, 5);
			w += 5;
			s += 5;
			s += strspn(s, "0123456789.");
			continue;
		}
		*w++ = *s++;
	}
	*w = '\0';
}

/* cut_out - all that begins so, up to the byte that ends it, and a comma */
static inline void
cut_out(char *s, const char *text, char last)
{
	char *p, *end;

	while ((p = strstr(s, text)) != NULL) {
		end = strchr(p + strlen(text), last) + 1;
		if (*end == ',')
			end++;
		memmove(p, end, strlen(end) + 1);
	}
}

/* lost_out - how far one that failed had come: its last answers may be read
 * before its end shows, or not */
static inline void
lost_out(char *s)
{
	char *p = s, *next, *stages, *end;

	for (; (p = strstr(p, "{\"name\"")) != NULL; p++) {
		next = strstr(p + 1, "{\"name\"");
		end = strstr(p, "\"failure\"");
		if (end == NULL || (next != NULL && next < end))
			continue;
		stages = strstr(p, "\"stages\":[");
		end = strchr(stages, ']') + 1;
		memmove(stages, end, strlen(end) + 1);
	}
}

/* settled - what does not hang on the order in which bytes came: a new
 * connection is told CONNECT and HELO again, what needs no answer is noted when
 * there is room for it, a loss shows at a read or at a write */
static inline void
settled(char *s)
{
	static const char *const stages[] = { "header", "body" };
	char text[80];
	size_t i;

	lost_out(s);
	cut_out(s, "{\"stage\":\"connect\"", '}');
	cut_out(s, "{\"stage\":\"helo\"", '}');
	for (i = 0; i < 2; i++) {
		snprintf(text, sizeof(text),
		    "{\"stage\":\"%s\",\"reply\":\"none\"", stages[i]);
		cut_out(s, text, '}');
	}
	cut_out(s, ",\"fault\":\"", '"');
	cut_out(s, "\"failure\":\"", '"');
}

static inline void
write_down(struct buf *out)
{
	struct buf rec = BUF_INIT(1 << 20);
	size_t i;

	T_OK(chain_record(chain, &rec) == 0);
	times_out(rec.data);
	settled(rec.data);
	/* How far those behind the one that decided came is not settled. */
	if (strcmp(got.milter, "a") == 0)
		*strstr(rec.data, "{\"name\":\"b\"") = '\0';
	T_OK(buf_addf(out, "%d %s %s %d %s\n", (int)got.verdict, got.reply,
	         got.milter, got.quarantine, rec.data) == 0);
	for (i = 0; i < msg.n_fields; i++)
		T_OK(buf_addf(out, "%s:%s\n", msg.fields[i].name,
		         msg.fields[i].value) == 0);
	T_OK(buf_addf(out, "%zu bytes, %08x\n", msg.body_len,
	         (unsigned)crc32c(0, msg.body, msg.body_len)) == 0);
	buf_fini(&rec);
}

/* same - but for the sockets, which lie in a folder of their own each time */
static inline bool
same(struct buf *a, struct buf *b)
{
	static const char path[] = "chain_test.";
	struct buf *const bufs[] = { a, b };
	char *p;
	size_t i;

	for (i = 0; i < 2; i++)
		for (p = bufs[i]->data; (p = strstr(p, path)) != NULL;
		     p += sizeof(path) - 1)
			memset(p + sizeof(path) - 1, 'x', 6);
	return (a->len == b->len && memcmp(a->data, b->data, a->len) == 0);
}

#endif
