/* SPDX-License-Identifier: ISC */
#ifndef BLOCK_ATTACHMENT_H
#define BLOCK_ATTACHMENT_H

#include <milldam/milldam.h>

extern const struct mill_filter block_attachment;

#endif
