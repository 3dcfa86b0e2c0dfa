/* SPDX-License-Identifier: ISC */

/*
 * negotiate - what we offer a milter and what of its answer we take
 *
 * We offer everything: a libmilter filter that lacks a callback refuses a
 * server that does not know the matching "do not send" bit.  An action not
 * offered is a lie and refused; a protocol bit not offered is ignored (rspamd
 * asks for all no-reply bits whatever was offered, and we know them all).
 */

#include "core/milter/chain_int.h"

#include <stdlib.h>
#include <string.h>

int
negotiate_offer(struct conn *c)
{
	const struct milter_options o = {
		.version = MILTER_VERSION,
		.actions = MILTER_MAY_ALL,
		.protocol = MILTER_PROTOCOL_ALL,
	};

	return (milter_put_options(&c->out, &o));
}

int
negotiate_answer(
    struct conn *c, const struct milter_packet *pkt, const char **why)
{
	struct milter_options *o = &c->opts;
	size_t i;

	*why = "malformed answer";
	if (milter_get_options(pkt, o) == -1)
		return (-1);
	*why = "version not spoken";
	if (o->version < MILTER_VERSION_MIN || o->version > MILTER_VERSION)
		return (-1);
	*why = "asks for an action that was not offered";
	if ((o->actions & ~(uint32_t)MILTER_MAY_ALL) != 0)
		return (-1);
	o->protocol &= MILTER_PROTOCOL_ALL;
	if (o->version <= 2)
		o->protocol |= MILTER_NO_UNKNOWN;
	if (o->version <= 3)
		o->protocol |= MILTER_NO_DATA;
	*why = "out of memory";
	for (i = 0; i < MILTER_STAGES; i++) {
		if (o->lists[i] != NULL &&
		    (c->lists[i] = strdup(o->lists[i])) == NULL)
			return (-1);
		o->lists[i] = c->lists[i];
	}
	return (0);
}
