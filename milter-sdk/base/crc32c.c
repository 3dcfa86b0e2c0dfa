/* SPDX-License-Identifier: ISC */

/* crc32c - by the processor's instruction where it has one, else by table */

#include "milter-sdk/base/crc32c.h"

#include <stdbool.h>
#include <string.h>

static uint32_t table[256];
static bool have_instruction;

__attribute__((__constructor__)) static void
setup(void)
{
	uint32_t i, c;
	int k;

	for (i = 0; i < 256; i++) {
		for (c = i, k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
		table[i] = c;
	}
#ifdef __x86_64__
	__builtin_cpu_init();
	have_instruction = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

#ifdef __x86_64__
__attribute__((__target__("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const unsigned char *p, size_t n)
{
	uint64_t c = crc, v;

	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&v, p, 8);
		c = __builtin_ia32_crc32di(c, v);
	}
	for (; n > 0; n--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
	return ((uint32_t)c);
}
#endif

uint32_t
crc32c(uint32_t crc, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	crc = ~crc;
#ifdef __x86_64__
	if (have_instruction)
		return (~by_instruction(crc, p, n));
#endif
	while (n-- > 0)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
	return (~crc);
}
