/* SPDX-License-Identifier: ISC */
#ifndef QUARANTINE_QUARANTINE_H
#define QUARANTINE_QUARANTINE_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The quarantine's border: what is its own, whoever keeps the message.  Above
 * milter-sdk/base and below core: it knows no session, no spool and no milter.
 *
 * A held message is kept as it was received, so that at its release it can pass
 * the milters once more: header, body and envelope by whoever holds it, and
 * beside them its origin, which is what only the session knew.
 */
enum {
	QUARANTINE_ARGS_MAX = 32,        /* of MAIL */
	QUARANTINE_ORIGIN_MAX = 64 << 10 /* bytes, packed */
};

/* Strings are never NULL after quarantine_origin_unpack(), and point into what
 * was unpacked; "" or NULL is absent when packing. */
struct quarantine_origin {
	const char *daemon_addr, *client_ptr, *client_resolve;
	const char *tls_version, *cipher, *cipher_bits, *cert_subject,
	    *cert_issuer, *verify;
	const char *auth_type, *auth_authen, *auth_author, *auth_ssf;
	uint16_t daemon_port;
	bool early_talker;
	const char *args[QUARANTINE_ARGS_MAX]; /* of MAIL, as given */
	size_t n_args;
};

/* quarantine_origin_pack - append; -1 with EMSGSIZE or ENOMEM */
int quarantine_origin_pack(struct buf *, const struct quarantine_origin *)
    __attribute__((__warn_unused_result__));
/* quarantine_origin_unpack - all of n bytes; -1 with EPROTO */
int quarantine_origin_unpack(const void *, size_t n,
    struct quarantine_origin *origin_r) __attribute__((__warn_unused_result__));

/*
 * Milters that have caught a message: "odd, spam", in the order of the chain.
 * A release passes them by.
 */
bool quarantine_names_has(const char *list, const char *name);
/* quarantine_names_add - a new list with one more name, if it is not there */
char *quarantine_names_add(const char *list, const char *name);

#endif
