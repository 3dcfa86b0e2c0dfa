/* SPDX-License-Identifier: ISC */
#ifndef BASE_MILTER_H
#define BASE_MILTER_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The Milter protocol's packets, both directions: the MTA builds commands and
 * parses replies, a filter the reverse.  Pure: bytes in, bytes out.
 *
 * A packet is a u32 big-endian length that counts the code byte, the code
 * byte, and the payload.  Parsers point into the packet and accept exactly what
 * the protocol allows: a string without its NUL, a length that does not fit or
 * bytes left over are EPROTO.  Builders append a whole packet or nothing: -1
 * with EMSGSIZE (payload over MILTER_CHUNK, or the buffer's own limit), EINVAL
 * or ENOMEM.
 */
enum {
	MILTER_HDR = 5,       /* bytes: length and code */
	MILTER_CHUNK = 65535, /* payload bytes that every peer accepts */
	MILTER_PAYLOAD_MAX = (1 << 20) - 1, /* largest payload ever read */
	MILTER_VERSION = 6,                 /* spoken by us */
	MILTER_VERSION_MIN = 2,
	MILTER_STAGES = 7, /* macro lists */
	MILTER_REPLY_LINES = 32,
	MILTER_REPLY_LINE = 980 /* bytes of one line of a custom reply */
};

enum milter_command { /* MTA to filter */
	MILTER_OPTNEG = 'O',
	MILTER_MACRO = 'D',
	MILTER_CONNECT = 'C',
	MILTER_HELO = 'H',
	MILTER_MAIL = 'M',
	MILTER_RCPT = 'R',
	MILTER_DATA = 'T', /* since version 4 */
	MILTER_HEADER = 'L',
	MILTER_EOH = 'N',
	MILTER_BODY = 'B',
	MILTER_EOM = 'E',
	MILTER_ABORT = 'A',
	MILTER_QUIT = 'Q',
	MILTER_UNKNOWN = 'U', /* since version 3 */
	MILTER_QUIT_NC = 'K'  /* since version 6 */
};

enum milter_reply { /* filter to MTA */
	MILTER_CONTINUE = 'c',
	MILTER_ACCEPT = 'a',
	MILTER_REJECT = 'r',
	MILTER_TEMPFAIL = 't',
	MILTER_DISCARD = 'd',
	MILTER_REPLYCODE = 'y',
	MILTER_SKIP = 's',
	MILTER_PROGRESS = 'p',
	MILTER_SHUTDOWN = '4',
	MILTER_CONN_FAIL = 'f',
	MILTER_ADD_HEADER = 'h',
	MILTER_INSERT_HEADER = 'i',
	MILTER_CHANGE_HEADER = 'm',
	MILTER_REPLACE_BODY = 'b',
	MILTER_ADD_RCPT = '+',
	MILTER_ADD_RCPT_PAR = '2',
	MILTER_DEL_RCPT = '-',
	MILTER_CHANGE_FROM = 'e',
	MILTER_QUARANTINE = 'q'
};

enum milter_action { /* what a filter asks leave to do */
	MILTER_MAY_ADD_HEADERS = 0x01,
	MILTER_MAY_CHANGE_BODY = 0x02,
	MILTER_MAY_ADD_RCPT = 0x04,
	MILTER_MAY_DEL_RCPT = 0x08,
	MILTER_MAY_CHANGE_HEADERS = 0x10,
	MILTER_MAY_QUARANTINE = 0x20,
	MILTER_MAY_CHANGE_FROM = 0x40,
	MILTER_MAY_ADD_RCPT_PAR = 0x80,
	MILTER_MAY_SET_MACROS = 0x100,
	MILTER_MAY_ALL = 0x1ff
};

enum milter_protocol {
	MILTER_NO_CONNECT = 0x01,
	MILTER_NO_HELO = 0x02,
	MILTER_NO_MAIL = 0x04,
	MILTER_NO_RCPT = 0x08,
	MILTER_NO_BODY = 0x10,
	MILTER_NO_HEADERS = 0x20,
	MILTER_NO_EOH = 0x40,
	MILTER_NR_HEADER = 0x80,
	MILTER_NO_UNKNOWN = 0x100,
	MILTER_NO_DATA = 0x200,
	MILTER_CAN_SKIP = 0x400,
	MILTER_RCPT_REJECTED = 0x800, /* show refused recipients too */
	MILTER_NR_CONNECT = 0x1000,
	MILTER_NR_HELO = 0x2000,
	MILTER_NR_MAIL = 0x4000,
	MILTER_NR_RCPT = 0x8000,
	MILTER_NR_DATA = 0x10000,
	MILTER_NR_UNKNOWN = 0x20000,
	MILTER_NR_EOH = 0x40000,
	MILTER_NR_BODY = 0x80000,
	MILTER_LEADING_SPACE = 0x100000, /* header values bring their own */
	MILTER_PROTOCOL_ALL = 0x1fffff
};

/* Index of a macro list; the end of message stands before the end of header. */
enum milter_stage {
	MILTER_AT_CONNECT,
	MILTER_AT_HELO,
	MILTER_AT_MAIL,
	MILTER_AT_RCPT,
	MILTER_AT_DATA,
	MILTER_AT_EOM,
	MILTER_AT_EOH
};

struct milter_packet {
	char code;
	const char *data; /* into the caller's bytes */
	size_t len;
};

struct milter_options {
	uint32_t version;
	uint32_t actions;
	uint32_t protocol;
	const char *lists[MILTER_STAGES]; /* "i {mail_addr}"; NULL: not given,
	                                     "": no macros */
};

struct milter_macro {
	const char *name; /* "i" or "{mail_addr}" */
	const char *value;
};

struct milter_connect {
	const char *hostname;
	char family;      /* '4', '6', 'L' or 'U' */
	uint16_t port;    /* host byte order */
	const char *addr; /* "" with 'U'; without "IPv6:" */
};

/* One change asked for at the end of message. */
struct milter_edit {
	char code;         /* h i m b + 2 - e q */
	uint32_t index;    /* i: position from 0; m: which of that name, from 1
	                      (0 on the wire is read as 1, as Sendmail and
	                      Postfix do) */
	const char *name;  /* of the field; else the address, or the reason */
	const char *value; /* of the field; else the ESMTP arguments, or "" */
	const char *bytes; /* b */
	size_t len;
};

/*
 * milter_next - the first packet in n bytes.  Returns the bytes it takes up, 0
 * when more are needed, or -1 with EPROTO (length 0) or EMSGSIZE (payload over
 * max).
 */
long milter_next(const void *bytes, size_t n, size_t max,
    struct milter_packet *pkt_r) __attribute__((__warn_unused_result__));

int milter_put(struct buf *, char code, const void *payload, size_t len)
    __attribute__((__warn_unused_result__));
int milter_put_options(struct buf *, const struct milter_options *)
    __attribute__((__warn_unused_result__));
/* milter_put_macros - of the command cmd; those with a NULL value are left out
 */
int milter_put_macros(struct buf *, char cmd, const struct milter_macro *,
    size_t n) __attribute__((__warn_unused_result__));
int milter_put_connect(struct buf *, const struct milter_connect *)
    __attribute__((__warn_unused_result__));
/* milter_put_strings - H M R L U, and the replies h + 2 - e q y */
int milter_put_strings(struct buf *, char code, const char *const *strings,
    size_t n) __attribute__((__warn_unused_result__));
/* milter_put_indexed - the replies i and m */
int milter_put_indexed(struct buf *, char code, uint32_t index,
    const char *name, const char *value)
    __attribute__((__warn_unused_result__));

/* milter_get_*: 0, or -1 with EPROTO (E2BIG: more strings than max) */
int milter_get_options(const struct milter_packet *,
    struct milter_options *options_r) __attribute__((__warn_unused_result__));
int milter_get_macros(const struct milter_packet *, char *cmd_r,
    struct milter_macro *macros, size_t max, size_t *n_r)
    __attribute__((__warn_unused_result__));
int milter_get_connect(const struct milter_packet *,
    struct milter_connect *connect_r) __attribute__((__warn_unused_result__));
int milter_get_strings(const struct milter_packet *, const char **strings,
    size_t max, size_t *n_r) __attribute__((__warn_unused_result__));
int milter_get_edit(const struct milter_packet *, struct milter_edit *edit_r)
    __attribute__((__warn_unused_result__));

/*
 * milter_get_reply - a custom reply, checked: every line the same code from 400
 * to 599, an enhanced code of the same class if there is one, no NUL and no CR
 * or LF of its own, "%%" for "%".  What is not printable ASCII becomes "?".
 * Appends the reply with CRLF between lines and none after the
 * last.  Returns the code, or -1 with EPROTO.
 */
int milter_get_reply(const struct milter_packet *, struct buf *text)
    __attribute__((__warn_unused_result__));

/* milter_is_edit - is this reply a change, not a verdict? */
bool milter_is_edit(char code);
/* milter_edit_action - the action bits of which one must have been negotiated
 */
uint32_t milter_edit_action(char code);

/* milter_name_ok - a field name of RFC 5322: 1 to 998 of ftext */
bool milter_name_ok(const char *);
/* milter_value_ok - CR only before LF, LF only before SP or TAB (a fold) */
bool milter_value_ok(const char *);
/*
 * milter_address - the address in "a@b" or "<a@b>"; false when it is empty
 * (unless null_ok), over 1,000 bytes or holds blanks, controls or brackets.
 */
bool milter_address(
    const char *, bool null_ok, const char **addr_r, size_t *len_r);

#endif
