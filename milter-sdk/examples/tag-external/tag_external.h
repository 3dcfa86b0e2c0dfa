/* SPDX-License-Identifier: ISC */
#ifndef TAG_EXTERNAL_H
#define TAG_EXTERNAL_H

#include <milldam/milldam.h>

extern const struct mill_filter tag_external;

#endif
