/* SPDX-License-Identifier: ISC */

/* msg - names of what is in msg.h */

#include "core/proc/msg.h"

const char *
proc_name(enum proc_kind kind)
{
	static const char *const names[PROC_KINDS] = { "supervisor", "receiver",
		"queue", "relay", "lookup", "web" };

	return (kind < PROC_KINDS ? names[kind] : "unknown");
}
