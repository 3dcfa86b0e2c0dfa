/* SPDX-License-Identifier: ISC */
#ifndef MILTERS_VIRUS_JAIL_H
#define MILTERS_VIRUS_JAIL_H

#include "milters/virus/ipc.h"

/*
 * jail_close - leave this process what libclamav needs and no more: memory it
 * has plus config->memory, files below dir, no network, no other program, no
 * new executable memory.  Refused calls return EPERM.  -1 with errno; then the
 * process must end.
 */
int jail_close(const struct zygote_config *, const char *dir)
    __attribute__((__warn_unused_result__));

/* jail_cpu - let the process compute for ms from now; then SIGXCPU ends it */
void jail_cpu(uint32_t ms);

#endif
