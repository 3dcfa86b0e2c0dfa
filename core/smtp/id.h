/* SPDX-License-Identifier: ISC */
#ifndef CORE_SMTP_ID_H
#define CORE_SMTP_ID_H

#include "core/smtp/envelope.h"

/* queue_id_make - a new queue id: 15 characters of [0-9A-Za-z], never made
 * twice by a process, and by two processes or hosts only with negligible
 * probability.  Ids of one process sort by time in ASCII order. */
void queue_id_make(char out[ENV_ID_MAX]);

#endif
