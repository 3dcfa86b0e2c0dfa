/* SPDX-License-Identifier: ISC */

/*
 * origin - what only the session knew of a held message, packed
 *
 * Read back from the spool, and from a channel: not trusted.
 */

#include "quarantine/quarantine.h"

#include "milter-sdk/base/pack.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { VERSION = 1 };

#define AT(member) offsetof(struct quarantine_origin, member)

/* in the order in which they are packed: new ones go to the end */
static const size_t texts[] = { AT(daemon_addr), AT(client_ptr),
	AT(client_resolve), AT(tls_version), AT(cipher), AT(cipher_bits),
	AT(cert_subject), AT(cert_issuer), AT(verify), AT(auth_type),
	AT(auth_authen), AT(auth_author), AT(auth_ssf) };

enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };

int
quarantine_origin_pack(struct buf *out, const struct quarantine_origin *o)
{
	struct packer k = { out, false };
	const char *text;
	size_t i;

	pack_u16(&k, VERSION);
	pack_u16(&k, o->daemon_port);
	pack_u8(&k, o->early_talker);
	for (i = 0; i < TEXTS; i++) {
		memcpy(&text, (const char *)o + texts[i], sizeof(text));
		pack_str(&k, text);
	}
	pack_u32(&k, (uint32_t)o->n_args);
	for (i = 0; i < o->n_args; i++)
		pack_str(&k, o->args[i]);
	if (pack_end(&k) == -1)
		return (-1);
	if (out->len > QUARANTINE_ORIGIN_MAX) {
		errno = EMSGSIZE;
		return (-1);
	}
	return (0);
}

int
quarantine_origin_unpack(const void *p, size_t n, struct quarantine_origin *o)
{
	struct unpacker u = { p, n, false };
	const char *text;
	size_t i, args;

	memset(o, 0, sizeof(*o));
	if (unpack_u16(&u) != VERSION)
		u.failed = true;
	o->daemon_port = unpack_u16(&u);
	o->early_talker = unpack_u8(&u) != 0;
	for (i = 0; i < TEXTS; i++) {
		text = unpack_str(&u);
		memcpy((char *)o + texts[i], &text, sizeof(text));
	}
	args = unpack_u32(&u);
	if (args > QUARANTINE_ARGS_MAX)
		u.failed = true;
	for (i = 0; i < args && !u.failed; i++)
		o->args[o->n_args++] = unpack_str(&u);
	return (unpack_end(&u));
}
