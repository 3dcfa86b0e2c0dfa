/* SPDX-License-Identifier: ISC */
#ifndef MILTERS_VIRUS_CONTENT_H
#define MILTERS_VIRUS_CONTENT_H

#include <milldam/milldam.h>

/*
 * content_make - the whole message as a file in memory that nobody can change
 * any more: "From milldam", the header as it arrived, an empty line, the body
 * as far as it was kept; lines end with CRLF.  The descriptor (yours), or -1
 * with errno.
 */
int content_make(const struct mill_txn *, uint64_t *len_r) MILL_CHECK;

#endif
