/* SPDX-License-Identifier: ISC */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* crc32c - CRC-32C (Castagnoli, RFC 3720 B.4) of n more bytes; start with 0.
 * crc32c(crc32c(0, a, n), b, m) is the checksum of a and b together. */
uint32_t crc32c(uint32_t crc, const void *, size_t n);

#endif
