/* SPDX-License-Identifier: ISC */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include "milter-sdk/base/buf.h"

#include <stdint.h>

/*
 * Samples in the text form of Prometheus, "name{label="value",...} number\n".
 * Labels follow as pairs of strings, ended by NULL; names are ours and not
 * checked, values may be anything: they are escaped, and what is no UTF-8 is
 * replaced.  -1 with errno: nothing was added.
 */
int metric_put(struct buf *, uint64_t, const char *name, ...)
    __attribute__((__sentinel__, __warn_unused_result__));
/* metric_us - microseconds, said in seconds */
int metric_us(struct buf *, uint64_t us, const char *name, ...)
    __attribute__((__sentinel__, __warn_unused_result__));

/* metric_label - name="value", escaped */
int metric_label(struct buf *, const char *name, const char *value)
    __attribute__((__warn_unused_result__));

#endif
