/* SPDX-License-Identifier: ISC */
#ifndef SDK_WORKERS_H
#define SDK_WORKERS_H

#include "milter-sdk/src/conn.h"

enum { WORKERS_MAX = 64 };

/* workers_init - wake_fd: an eventfd for the loop */
void workers_init(int wake_fd);
/* workers_give - to whichever thread is free; -1: there can be none */
int workers_give(struct conn *) MILL_CHECK;
/* workers_take - those that are over, by next_job */
struct conn *workers_take(void);

#endif
