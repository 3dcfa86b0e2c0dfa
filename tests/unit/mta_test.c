/* SPDX-License-Identifier: ISC */

/* mta_test - the filter's side of the protocol, without sockets */

#include "milter-sdk/src/conn.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static enum mill_verdict at[MILL_N_STAGES];
static int calls[MILL_N_STAGES];
static char seen[512]; /* what the message stage saw */
static size_t new_body;

static enum mill_verdict
verdict(struct mill_txn *t, enum mill_stage stage)
{
	calls[stage]++;
	if (at[stage] == MILL_REJECT)
		return (mill_reply(
		    t, 550, "5.7.1", "100%% no\nstage %d", (int)stage));
	return (at[stage]);
}

static enum mill_verdict
on_connect(struct mill_txn *t)
{
	return (verdict(t, MILL_AT_CONNECT));
}

static enum mill_verdict
on_helo(struct mill_txn *t)
{
	return (verdict(t, MILL_AT_HELO));
}

static enum mill_verdict
on_mail(struct mill_txn *t)
{
	return (verdict(t, MILL_AT_MAIL));
}

static enum mill_verdict
on_rcpt(struct mill_txn *t)
{
	return (verdict(t, MILL_AT_RCPT));
}

static enum mill_verdict
on_headers(struct mill_txn *t)
{
	return (verdict(t, MILL_AT_HEADERS));
}

static enum mill_verdict
on_message(struct mill_txn *t)
{
	const char *addr = mill_macro(t, "{rcpt_addr}");
	char *body;
	size_t n;

	(void)mill_body(t, &n);
	(void)snprintf(seen, sizeof(seen),
	    "id=%s client=%s [%s] helo=%s from=%s n=%zu rcpt=%s fields=%zu "
	    "body=%zu",
	    mill_queue_id(t), mill_client_name(t), mill_client_addr(t),
	    mill_helo(t), mill_sender(t), mill_n_rcpts(t), addr ? addr : "-",
	    mill_n_headers(t), n);
	if (new_body > 0 && (body = calloc(1, new_body)) != NULL) {
		T_OK(mill_replace_body(t, body, new_body) == 0);
		T_OK(mill_add_header(t, "X-New", "1") == 0);
		free(body);
	}
	return (verdict(t, MILL_AT_MESSAGE));
}

static struct mill_filter filter = { .abi = MILL_ABI,
	.name = "mta",
	.connect = on_connect,
	.helo = on_helo,
	.mail = on_mail,
	.rcpt = on_rcpt,
	.headers = on_headers,
	.message = on_message,
	.edits = MILL_EDIT_BODY | MILL_EDIT_ADD_HEADER,
	.max_body = 1 << 20,
	.quick = MILL_QUICK_ALL };

/* only_message - needs no answer before the end */
static const struct mill_filter only_message = { .abi = MILL_ABI,
	.name = "mta",
	.message = on_message,
	.max_body = 1 << 20,
	.quick = MILL_QUICK_ALL };

static void
begin(struct mta *m, const struct mill_filter *f)
{
	struct buf errors = BUF_INIT(1024);
	size_t i;

	for (i = 0; i < MILL_N_STAGES; i++) {
		at[i] = MILL_CONTINUE;
		calls[i] = 0;
	}
	seen[0] = '\0';
	new_body = 0;
	session_set_loaded(loaded_read(f, NULL, NULL, &errors));
	buf_fini(&errors);
	mta_init(m, f);
}

/* finish - nothing may be left that a stop would wait for */
static void
finish(struct mta *m)
{
	mta_fini(m);
	T_OK(session_in_hand() == 0);
	session_set_loaded(NULL);
}

/* say - one packet */
static enum mta_next
say_bytes(struct mta *m, char code, const void *data, size_t n)
{
	struct buf b = BUF_INIT(1 << 20);
	enum mta_next next;

	T_OK(milter_put(&b, code, data, n) == 0);
	next = mta_take(m, b.data, b.len, false);
	buf_fini(&b);
	return (next);
}

#define SAY(m, code, text) say_bytes(m, code, text, sizeof(text) - 1)

/* put_all - a session with one message */
static void
put_all(struct buf *b)
{
#define PUT(code, text) T_OK(milter_put(b, code, text, sizeof(text) - 1) == 0)
	PUT('D', "Cj\0gate\0");
	PUT('C',
	    "client\0"
	    "4\0\031192.0.2.1\0");
	PUT('H', "helo\0");
	PUT('D', "Mi\0Q1\0");
	PUT('M', "<a@b>\0SIZE=1\0");
	PUT('R', "<c@m>\0");
	PUT('T', "");
	PUT('L', "Subject\0x\0");
	PUT('N', "");
	PUT('B', "text\r\n");
	PUT('E', "");
}

static const char all_seen[] = "id=Q1 client=client [192.0.2.1] helo=helo "
                               "from=a@b n=1 rcpt=- fields=1 body=6";

static void
offer(struct mta *m, uint32_t version, uint32_t actions, uint32_t protocol)
{
	struct milter_options o = { version, actions, protocol, { NULL } };
	struct buf b = BUF_INIT(1024);

	T_OK(milter_put_options(&b, &o) == 0);
	T_OK(mta_take(m, b.data, b.len, false) == MTA_READ);
	buf_fini(&b);
}

/* heard - the codes of what lies in out, which is emptied */
static const char *
heard(struct mta *m)
{
	static char codes[256];
	struct milter_packet pkt;
	size_t off = 0, n = 0;
	long len;

	while (n < sizeof(codes) - 1 &&
	    (len = milter_next(
	         m->out.data + off, m->out.len - off, 65535, &pkt)) > 0) {
		codes[n++] = pkt.code;
		off += (size_t)len;
	}
	codes[n] = '\0';
	T_OK(off == m->out.len);
	m->out.len = 0;
	return (codes);
}

/* talk - negotiated with an MTA that offers everything */
static void
talk(struct mta *m, const struct mill_filter *f)
{
	begin(m, f);
	offer(m, 6, 0x1ff, 0x1fffff);
	T_STR(heard(m), "O");
}

/* one_session - from CONNECT to the end; all must be answered */
static void
one_session(struct mta *m, const char *answers)
{
	struct buf b = BUF_INIT(4096);

	seen[0] = '\0';
	put_all(&b);
	T_OK(mta_take(m, b.data, b.len, false) == MTA_READ);
	T_STR(heard(m), answers);
	T_STR(seen, all_seen);
	buf_fini(&b);
}

static void
answers_a_session_that_came_at_once(void)
{
	struct mta m;

	talk(&m, &filter);
	T_OK(m.terms.protocol == (0x300 | 0x80 | 0x80000));
	one_session(&m, "ccccccc");
	finish(&m);
	talk(&m, &only_message);
	T_OK((m.terms.protocol & 0x40) != 0); /* no end of header */
	one_session(&m, "cc");                /* DATA, which was not wanted */
	finish(&m);
}

static void
answers_the_same_however_the_bytes_are_cut(void)
{
	struct buf b = BUF_INIT(4096);
	struct mta m;
	size_t i, step;

	put_all(&b);
	for (step = 1; step < b.len; step += step < 40 ? 1 : 17) {
		talk(&m, &filter);
		for (i = 0; i < b.len; i += step)
			T_OK(mta_take(&m, b.data + i,
			         i + step < b.len ? step : b.len - i,
			         false) == MTA_READ);
		T_STR(heard(&m), "ccccccc");
		T_STR(seen, all_seen);
		T_OK(m.in.len == 0);
		finish(&m);
	}
	buf_fini(&b);
}

static void
agrees_on_the_lower_version(void)
{
	static const struct {
		uint32_t version, actions, protocol, want, want_actions;
	} t[] = { { 6, 0x1ff, 0x1fffff, 6, 3 }, { 2, 0x3f, 0x7f, 2, 3 },
		{ 2, 0, 0, 2, 3 }, { 4, 0x3e, 0x3ff, 4, 2 },
		{ 7, 0x1ff, 0xffffffff, 6, 3 } };
	struct milter_packet pkt;
	struct milter_options o;
	struct mta m;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		begin(&m, &filter);
		offer(&m, t[i].version, t[i].actions, t[i].protocol);
		T_OK(milter_next(m.out.data, m.out.len, 65535, &pkt) > 0);
		T_OK(milter_get_options(&pkt, &o) == 0);
		T_OK(o.version == t[i].want && o.actions == t[i].want_actions);
		T_OK((o.protocol & ~t[i].protocol) == 0);
		m.out.len = 0;
		/* an MTA without no-reply bits gets each answer */
		if ((t[i].protocol & MILTER_NR_BODY) == 0)
			one_session(&m,
			    t[i].protocol & MILTER_NR_HEADER ? "cccccccc"
			                                     : "ccccccccc");
		finish(&m);
	}
}

static void
begins_a_session_after_quit_nc_from_every_state(void)
{
	static const struct {
		char code;
		const char *data;
		size_t n;
	} t[] = { { 'C',
		      "x\0"
		      "4\0\0311.2.3.4\0",
		      13 },
		{ 'H', "y\0", 2 }, { 'M', "<m@n>\0", 6 }, { 'R', "<o@p>\0", 6 },
		{ 'T', "", 0 }, { 'L', "A\0b\0", 4 }, { 'N', "", 0 },
		{ 'B', "zz", 2 }, { 'E', "", 0 }, { 'A', "", 0 },
		{ 'U', "WHAT\0", 5 } };
	static const enum mill_verdict ends[] = { MILL_CONTINUE, MILL_ACCEPT,
		MILL_REJECT, MILL_TEMPFAIL, MILL_DISCARD };
	struct mta m;
	size_t i, k, stage, end;

	for (i = 0; i <= sizeof(t) / sizeof(t[0]); i++) {
		talk(&m, &filter);
		for (k = 0; k < i; k++)
			T_OK(say_bytes(&m, t[k].code, t[k].data, t[k].n) ==
			    MTA_READ);
		(void)heard(&m);
		T_OK(SAY(&m, 'K', "") == MTA_READ);
		T_OK(session_in_hand() == 0 && m.txn == NULL);
		one_session(&m, "ccccccc");
		finish(&m);
	}
	/* and after each verdict at each stage */
	for (stage = 0; stage < MILL_N_STAGES; stage++)
		for (end = 0; end < 5; end++) {
			talk(&m, &filter);
			at[stage] = ends[end];
			for (k = 0; k < 9; k++)
				T_OK(say_bytes(&m, t[k].code, t[k].data,
				         t[k].n) == MTA_READ);
			T_OK(strlen(heard(&m)) == 7);
			T_OK(SAY(&m, 'K', "") == MTA_READ);
			at[stage] = MILL_CONTINUE;
			one_session(&m, "ccccccc");
			finish(&m);
		}
}

static void
forgets_macros_of_what_has_ended(void)
{
	struct mta m;

	talk(&m, &only_message);
	(void)SAY(&m, 'D', "Mi\0Q1\0");
	(void)SAY(&m, 'M', "<a@b>\0");
	(void)SAY(&m, 'D', "R{rcpt_addr}\0one\0");
	(void)SAY(&m, 'R', "<c@m>\0");
	(void)SAY(&m, 'E', "");
	T_STR(seen,
	    "id=Q1 client= [] helo= from=a@b n=1 rcpt=one fields=0 "
	    "body=0");
	/* the next message without any, with and without an abort */
	(void)SAY(&m, 'M', "<a@b>\0");
	(void)SAY(&m, 'R', "<c@m>\0");
	(void)SAY(&m, 'E', "");
	T_OK(strstr(seen, "id= ") != NULL && strstr(seen, "rcpt=-") != NULL);
	(void)SAY(&m, 'D', "M{i}\0Q2\0");
	(void)SAY(&m, 'M', "<a@b>\0");
	(void)SAY(&m, 'A', "");
	(void)SAY(&m, 'M', "<a@b>\0");
	(void)SAY(&m, 'E', "");
	T_OK(strstr(seen, "id= ") != NULL);
	/* nor does an MTA that need not say MAIL show an old one */
	(void)SAY(&m, 'D', "Mi\0Q2\0");
	(void)SAY(&m, 'E', "");
	T_OK(strstr(seen, "id=Q2 ") != NULL);
	(void)SAY(&m, 'E', "");
	T_OK(strstr(seen, "id= ") != NULL);
	/* a second recipient without its own; an empty set */
	(void)SAY(&m, 'D', "Mi\0Q3\0");
	(void)SAY(&m, 'M', "<a@b>\0");
	(void)SAY(&m, 'D', "R{rcpt_addr}\0one\0");
	(void)SAY(&m, 'R', "<c@m>\0");
	(void)SAY(&m, 'R', "<e@f>\0");
	(void)SAY(&m, 'E', "");
	T_OK(strstr(seen, "id=Q3 ") != NULL && strstr(seen, "rcpt=-") != NULL);
	(void)SAY(&m, 'D', "Mi\0Q4\0");
	(void)SAY(&m, 'D', "M");
	(void)SAY(&m, 'M', "<a@b>\0");
	(void)SAY(&m, 'E', "");
	T_OK(strstr(seen, "id= ") != NULL);
	T_STR(heard(&m), "ccccccc");
	finish(&m);
}

static void
finds_macros_by_either_spelling_the_latest_first(void)
{
	struct macroset m;
	struct milter_packet pkt = { 'D', NULL, 0 };

#define PUT_SET(text)                                                          \
	(pkt.data = (text), pkt.len = sizeof(text) - 1, macroset_put(&m, &pkt))
	macroset_init(&m);
	T_OK(PUT_SET("C{j}\0host\0_\0x\0{long}\0v\0") == 0);
	T_STR(macroset_find(&m, "j"), "host");
	T_STR(macroset_find(&m, "{_}"), "x");
	T_STR(macroset_find(&m, "{long}"), "v");
	T_OK(
	    macroset_find(&m, "long") == NULL && macroset_find(&m, "") == NULL);
	T_OK(macroset_find(&m, "host") == NULL); /* that is a value */
	T_OK(PUT_SET("Mj\0later\0") == 0);
	T_STR(macroset_find(&m, "j"), "later");
	T_OK(PUT_SET("H{x}\0\0") == 0); /* something before it begins anew */
	T_STR(macroset_find(&m, "j"), "host");
	T_STR(macroset_find(&m, "x"), "");
	T_OK(PUT_SET("Lj\0no\0") == 0 && PUT_SET("?j\0no\0") == 0);
	T_STR(macroset_find(&m, "j"), "host");
	T_OK(PUT_SET("") == -1 && errno == EPROTO);
	T_OK(PUT_SET("Mj\0x") == -1 && errno == EPROTO);
	T_OK(PUT_SET("Mj\0") == -1 && errno == EPROTO);
	macroset_fini(&m);
	T_OK(macroset_find(&m, "j") == NULL);
}

static void
answers_commands_in_any_order(void)
{
	static const char *const orders[] = { "TLNBE", "RRE", "MTE", "MULE",
		"ENE", "MAE", "HMHE", "MMRE", "UUU", "MREMREE", "CCE" };
	struct mta m;
	const char *s;
	size_t i;

	for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		size_t want = 0;

		talk(&m, &filter);
		for (s = orders[i]; *s != '\0'; s++) {
			want += strchr("LBA", *s) == NULL;
			switch (*s) {
			case 'C':
				T_OK(SAY(&m, 'C', "x\0U") == MTA_READ);
				break;
			case 'H':
			case 'M':
			case 'R':
			case 'U':
				T_OK(say_bytes(&m, *s, "<x@y>", 6) == MTA_READ);
				break;
			case 'L':
				T_OK(SAY(&m, 'L', "A\0b\0") == MTA_READ);
				break;
			default:
				T_OK(SAY(&m, *s, "") == MTA_READ);
			}
		}
		T_OK(strlen(heard(&m)) == want);
		finish(&m);
	}
}

static void
repeats_a_messages_final_answer(void)
{
	static const struct {
		enum mill_verdict v;
		const char *want;
	} t[] = { { MILL_ACCEPT, "aaaaa" }, { MILL_REJECT, "yrrrr" },
		{ MILL_TEMPFAIL, "ttttt" }, { MILL_DISCARD, "ddddd" } };
	struct mta m;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		talk(&m, &filter);
		at[MILL_AT_MAIL] = t[i].v;
		(void)SAY(&m, 'M', "<a@b>\0");
		(void)SAY(&m, 'R', "<c@m>\0");
		(void)SAY(&m, 'T', "");
		(void)SAY(&m, 'L', "A\0b\0");
		(void)SAY(&m, 'N', "");
		(void)SAY(&m, 'B', "x");
		(void)SAY(&m, 'E', "");
		T_STR(heard(&m), t[i].want);
		T_OK(calls[MILL_AT_RCPT] == 0 && calls[MILL_AT_MESSAGE] == 0);
		at[MILL_AT_MAIL] = MILL_CONTINUE;
		(void)SAY(&m, 'M', "<a@b>\0");
		(void)SAY(&m, 'R', "<c@m>\0");
		(void)SAY(&m, 'E', "");
		T_STR(heard(&m), "ccc");
		finish(&m);
	}
}

static void
answers_once_to_an_end_with_bytes(void)
{
	struct mta m;

	talk(&m, &filter);
	at[MILL_AT_MESSAGE] = MILL_REJECT;
	(void)SAY(&m, 'M', "<a@b>\0");
	(void)SAY(&m, 'R', "<c@m>\0");
	(void)SAY(&m, 'B', "");
	(void)SAY(&m, 'B', "1234");
	(void)SAY(&m, 'E', "5678");
	T_OK(strstr(seen, "body=8") != NULL);
	T_STR(heard(&m), "ccy");
	finish(&m);
}

static void
doubles_percents_and_codes_each_line(void)
{
	static const char want[] = "550-5.7.1 100%% no\r\n550 5.7.1 stage 5";
	struct milter_packet pkt;
	struct mta m;

	talk(&m, &only_message);
	at[MILL_AT_MESSAGE] = MILL_REJECT;
	(void)SAY(&m, 'E', "");
	T_OK(milter_next(m.out.data, m.out.len, 65535, &pkt) > 0);
	T_OK(pkt.code == 'y' && pkt.len == sizeof(want));
	T_STR(pkt.data, want);
	m.out.len = 0;
	finish(&m);
}

static void
closes_what_is_malformed(void)
{
	static const struct {
		const char *bytes;
		size_t n;
	} t[] = {
#define BYTES(s) { s, sizeof(s) - 1 }
		BYTES("\0\0\0\0"),
		BYTES("\0\1\0\1B"),
		BYTES("\377\377\377\377"),
		BYTES("\0\0\0\2Hx"),
		BYTES("\0\0\0\1H"),
		BYTES("\0\0\0\1M"),
		BYTES("\0\0\0\3L\0\0\0\0\0\2L\0"),
		BYTES("\0\0\0\2Rx"),
		BYTES("\0\0\0\4C\0"
		      "4"
		      "0"),
		BYTES("\0\0\0\014C\0"
		      "4\0\0"
		      "1.2.3.x\0"),
		BYTES("\0\0\0\1D"),
		BYTES("\0\0\0\4DMi\0"),
		BYTES("\0\0\0\1?"),
		BYTES("\0\0\0\2L\0\0\0\0\1N"),
	};
	struct mta m;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		talk(&m, &filter);
		T_OK(mta_take(&m, t[i].bytes, t[i].n, false) == MTA_END);
		T_OK(m.fault != NULL);
		finish(&m);
	}
	/* more in a negotiation than we know is none */
	begin(&m, &filter);
	T_OK(SAY(&m, 'O', "\0\0\0\7\0\0\0\0\0\0\0\0more") == MTA_READ);
	T_STR(heard(&m), "O");
	finish(&m);
	/* before the negotiation, a second one in a session, a wrong one */
	begin(&m, &filter);
	T_OK(SAY(&m, 'H', "x\0") == MTA_END);
	finish(&m);
	begin(&m, &filter);
	T_OK(SAY(&m, 'O', "\0\0\0\1\0\0\0\0\0\0\0\0") == MTA_END);
	finish(&m);
	begin(&m, &filter);
	T_OK(SAY(&m, 'O', "\0\0\0\6\0\0\0\0\0\0\0") == MTA_END);
	finish(&m);
	talk(&m, &filter);
	(void)SAY(&m, 'H', "x\0");
	T_OK(SAY(&m, 'O', "\0\0\0\6\0\0\0\0\0\0\0\0") == MTA_END);
	finish(&m);
	/* QUIT is no fault */
	talk(&m, &filter);
	T_OK(SAY(&m, 'Q', "") == MTA_END && m.fault == NULL);
	finish(&m);
}

static void
sends_a_large_body_as_there_is_room(void)
{
	enum mta_next next;
	struct milter_packet pkt;
	struct mta m;
	size_t got = 0, packets = 0, off;
	char last = '\0';
	long len;

	talk(&m, &filter);
	new_body = 10 << 20;
	(void)SAY(&m, 'M', "<a@b>\0");
	(void)heard(&m);
	for (next = SAY(&m, 'E', "");; next = mta_take(&m, NULL, 0, false)) {
		T_OK(m.out.len < MTA_OUT_HIGH + 2 * MILTER_CHUNK);
		for (off = 0; off < m.out.len; off += (size_t)len) {
			len = milter_next(
			    m.out.data + off, m.out.len - off, 65535, &pkt);
			T_OK(len > 0);
			if (len <= 0)
				break;
			if (pkt.code == 'b')
				got += pkt.len;
			packets++;
			last = pkt.code;
		}
		m.out.len = 0;
		if (next != MTA_WRITE)
			break;
	}
	T_OK(next == MTA_READ && last == 'c' && got == new_body);
	T_OK(packets == 1 + (new_body + 65534) / 65535 + 1);
	new_body = 0;
	one_session(&m, "ccccccc");
	finish(&m);
}

static void
leaves_slow_functions_to_who_may_wait(void)
{
	struct buf b = BUF_INIT(4096);
	struct mta m;
	unsigned quick = filter.quick;

	filter.quick = MILL_QUICK_ALL & ~MILL_QUICK(MILL_AT_MESSAGE);
	talk(&m, &filter);
	put_all(&b);
	/* first what was answered leaves, then the message is waited for */
	T_OK(mta_take(&m, b.data, b.len, false) == MTA_WRITE);
	T_STR(heard(&m), "cccccc");
	T_OK(mta_take(&m, NULL, 0, false) == MTA_SLOW);
	T_OK(calls[MILL_AT_MESSAGE] == 0 && m.out.len == 0);
	T_OK(mta_take(&m, NULL, 0, true) == MTA_READ);
	T_STR(heard(&m), "c");
	T_OK(calls[MILL_AT_MESSAGE] == 1);
	buf_fini(&b);
	finish(&m);
	filter.quick = 0;
	talk(&m, &filter);
	T_OK(SAY(&m, 'H', "x\0") == MTA_SLOW && calls[MILL_AT_HELO] == 0);
	T_OK(mta_take(&m, NULL, 0, true) == MTA_READ);
	T_STR(heard(&m), "c");
	finish(&m);
	filter.quick = quick;
}

static void
tells_which_connections_are_late(void)
{
	struct conn c = { .last_s = 1000 };

	begin(&c.mta, &filter);
	T_OK(!conn_is_late(&c, 1300) && conn_is_late(&c, 1301));
	offer(&c.mta, 6, 0x1ff, 0x1fffff);
	T_OK(conn_is_late(&c, 1301)); /* the answer is not read */
	(void)heard(&c.mta);
	T_OK(!conn_is_late(&c, 8210) && conn_is_late(&c, 8211));
	(void)mta_take(&c.mta, "\0\0", 2, false);
	T_OK(!conn_is_late(&c, 1300) && conn_is_late(&c, 1301));
	finish(&c.mta);
}

/* Last: a stop is for ever. */
static void
refuses_what_begins_while_it_stops(void)
{
	struct mta m, idle;

	talk(&m, &filter);
	(void)SAY(&m, 'M', "<a@b>\0");
	T_OK(session_in_hand() == 1);
	mta_init(&idle, &filter);
	offer(&idle, 6, 0x1ff, 0x1fffff);
	(void)heard(&idle);
	(void)SAY(&idle, 'H', "x\0");
	T_STR(heard(&idle), "c");
	session_stop();
	(void)SAY(&idle, 'M', "<a@b>\0");
	(void)SAY(&idle, 'R', "<a@b>\0");
	(void)SAY(&idle, 'E', "");
	T_STR(heard(&idle), "yyy");
	T_OK(calls[MILL_AT_MAIL] == 1 && calls[MILL_AT_MESSAGE] == 0);
	(void)SAY(&m, 'R', "<a@b>\0");
	(void)SAY(&m, 'E', "");
	T_STR(heard(&m), "ccc");
	T_OK(session_in_hand() == 0);
	mta_fini(&idle); /* whose session nobody can end any more */
	finish(&m);
}

static const struct t_case cases[] = {
	{ "answers_a_session_that_came_at_once",
	    answers_a_session_that_came_at_once },
	{ "answers_the_same_however_the_bytes_are_cut",
	    answers_the_same_however_the_bytes_are_cut },
	{ "agrees_on_the_lower_version", agrees_on_the_lower_version },
	{ "begins_a_session_after_quit_nc_from_every_state",
	    begins_a_session_after_quit_nc_from_every_state },
	{ "forgets_macros_of_what_has_ended",
	    forgets_macros_of_what_has_ended },
	{ "finds_macros_by_either_spelling_the_latest_first",
	    finds_macros_by_either_spelling_the_latest_first },
	{ "answers_commands_in_any_order", answers_commands_in_any_order },
	{ "repeats_a_messages_final_answer", repeats_a_messages_final_answer },
	{ "answers_once_to_an_end_with_bytes",
	    answers_once_to_an_end_with_bytes },
	{ "doubles_percents_and_codes_each_line",
	    doubles_percents_and_codes_each_line },
	{ "closes_what_is_malformed", closes_what_is_malformed },
	{ "sends_a_large_body_as_there_is_room",
	    sends_a_large_body_as_there_is_room },
	{ "leaves_slow_functions_to_who_may_wait",
	    leaves_slow_functions_to_who_may_wait },
	{ "tells_which_connections_are_late",
	    tells_which_connections_are_late },
	{ "refuses_what_begins_while_it_stops",
	    refuses_what_begins_while_it_stops },
};

T_MAIN(cases)
