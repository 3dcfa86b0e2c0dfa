/* SPDX-License-Identifier: ISC */
#ifndef MILTERS_VIRUS_ENGINE_H
#define MILTERS_VIRUS_ENGINE_H

#include "milters/virus/ipc.h"

/*
 * libclamav, as used by the zygote (which loads) and its scanners (which scan).
 * Nothing else in this program calls it.
 */
struct engine;

/* engine_load - the databases of the settings, compiled.  NULL with the reason
 * in text (IPC_TEXT_MAX bytes). */
struct engine *engine_load(
    const struct zygote_config *, uint32_t *signatures_r, char *text);

/* engine_temp - where this process may write; not copied into the jail, so
 * call it before */
int engine_temp(struct engine *, const char *dir)
    __attribute__((__warn_unused_result__));

/* engine_scan - one message in a file */
void engine_scan(struct engine *, int fd, struct scan_reply *);

/* engine_warm - scan a constant message, so that what libraries open at their
 * first use is open before the jail closes */
void engine_warm(struct engine *);

#endif
