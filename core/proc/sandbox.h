/* SPDX-License-Identifier: ISC */
#ifndef CORE_PROC_SANDBOX_H
#define CORE_PROC_SANDBOX_H

#include "core/conf/settings.h"
#include "core/proc/msg.h"

#include <sys/types.h>

/*
 * sandbox_supervisor - what the supervisor and all that it starts may never do:
 * change to id 0, and calls that administer the machine.  Inherited over fork
 * and exec.  -1 with errno.
 */
int sandbox_supervisor(const struct settings *)
    __attribute__((__warn_unused_result__));

/*
 * sandbox_close - no new privileges, resource limits, Landlock rules where the
 * kernel has them, seccomp filter of that kind (docs/sandbox.md has the
 * table).  Refused calls return EPERM.  Nothing with sandbox = no (logged).
 */
int sandbox_close(enum proc_kind, const struct settings *)
    __attribute__((__warn_unused_result__));

/* sandbox_probe - try what should be refused; a JSON object into out */
int sandbox_probe(struct buf *out) __attribute__((__warn_unused_result__));

#endif
