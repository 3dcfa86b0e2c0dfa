/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_COMMAND_H
#define CORE_SMTP_COMMAND_H

#include "core/smtp/address.h"

#include <stddef.h>
#include <stdint.h>

/*
 * One SMTP command line, parsed.  Pure; input is from the network.
 */
enum {
	COMMAND_LINE_MAX = 2048, /* bytes without the line end: RFC 5321's 512
	                            and what the extensions add */
	COMMAND_PARAMS_MAX = 16
};

enum verb {
	VERB_UNKNOWN,
	VERB_HELO,
	VERB_EHLO,
	VERB_MAIL,
	VERB_RCPT,
	VERB_DATA,
	VERB_BDAT,
	VERB_RSET,
	VERB_NOOP,
	VERB_VRFY,
	VERB_EXPN,
	VERB_HELP,
	VERB_QUIT,
	VERBS
};

struct command {
	enum verb verb;
	const char *word; /* the verb as given */
	const char *arg; /* what follows it, blanks around it cut; "" if none */
	/* MAIL and RCPT */
	char path[ADDRESS_MAX + 1];
	const char *params[COMMAND_PARAMS_MAX]; /* "SIZE=100", as given */
	size_t n_params;
	uint64_t size;     /* SIZE=, 0 if not given */
	bool body_8bit;    /* BODY=8BITMIME */
	bool utf8;         /* SMTPUTF8 */
	bool ret_hdrs;     /* RET=HDRS */
	bool prdr;         /* PRDR */
	uint8_t notify;    /* enum env_notify */
	const char *envid; /* "" if not given */
	const char *orcpt;
	/* BDAT */
	uint64_t chunk;
	bool last;
	/* the bytes that the pointers point into */
	char line[COMMAND_LINE_MAX + 1]; /* cut into words */
	char text[COMMAND_LINE_MAX + 1]; /* as it came */
};

/*
 * command_parse - a line without its line end.  NULL, or the reply to give
 * ("501 5.5.4 ..."): verb is right even then.  utf8: this transaction's MAIL
 * asked for SMTPUTF8 (for RCPT).  The command may not be copied: it points into
 * itself.
 */
const char *command_parse(
    struct command *, const char *line, size_t len, bool utf8);

#endif
