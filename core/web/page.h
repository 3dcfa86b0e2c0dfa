/* SPDX-License-Identifier: ISC */
#ifndef CORE_WEB_PAGE_H
#define CORE_WEB_PAGE_H

#include "milter-sdk/base/buf.h"

/*
 * page_make - the metrics page of what the supervisor gathered: parts that
 * begin with "# process NAME\n", each followed by samples.  They come from
 * processes that may have been taken over: what is no sample of a family that
 * we know is left out, and each gets its process as a label.  -1 with ENOMEM.
 */
int page_make(const char *gathered, size_t n, struct buf *out)
    __attribute__((__warn_unused_result__));

#endif
