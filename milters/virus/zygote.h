/* SPDX-License-Identifier: ISC */
#ifndef MILTERS_VIRUS_ZYGOTE_H
#define MILTERS_VIRUS_ZYGOTE_H

/* zygote_main - be the process that loads the database and forks scanners;
 * started by pool.c with its socket at IPC_ZYGOTE_FD.  The exit status. */
int zygote_main(void);

/* What main adds to its own path to start one. */
#define ZYGOTE_ARGUMENT "--zygote"

#endif
