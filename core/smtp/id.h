/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_ID_H
#define CORE_SMTP_ID_H

#include "core/smtp/envelope.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * queue_id_make - a queue id of 15 characters [0-9A-Za-z]: the second (6), a
 * random number of this process (5), a counter (4).  Unique over processes,
 * restarts and hosts; safe as a file name; ids of one process sort by age
 * within C's order of characters.
 */
void queue_id_make(char out[ENV_ID_MAX]);

/* queue_id_time - Unix seconds when an id of ours was made, 0 if it tells none
 */
uint64_t queue_id_time(const char *);

/* queue_id_ok - the form of an id, with or without a group's "-2" */
bool queue_id_ok(const char *);

#endif
