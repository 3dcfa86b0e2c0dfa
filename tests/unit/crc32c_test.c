/* SPDX-License-Identifier: ISC */

#include "milter-sdk/base/crc32c.h"
#include "tests/lib/t.h"

static void
matches_rfc3720(void)
{
	unsigned char b[32] = { 0 };
	unsigned i;

	T_OK(crc32c(0, "123456789", 9) == 0xe3069283u);
	T_OK(crc32c(0, b, 32) == 0x8a9136aau);
	for (i = 0; i < 32; i++)
		b[i] = (unsigned char)i;
	T_OK(crc32c(0, b, 32) == 0x46dd794eu);
	for (i = 0; i <= 32; i++)
		T_OK(crc32c(crc32c(0, b, i), b + i, 32 - i) == 0x46dd794eu);
}

static const struct t_case cases[] = {
	{ "crc32c: the vectors of RFC 3720, whole and in parts",
	    matches_rfc3720 },
};

T_MAIN(cases)
