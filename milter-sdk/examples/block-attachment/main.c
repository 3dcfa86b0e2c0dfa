/* SPDX-License-Identifier: ISC */

#include "block_attachment.h"

int
main(int argc, char **argv)
{
	return (mill_main(&block_attachment, argc, argv));
}
