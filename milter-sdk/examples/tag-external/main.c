/* SPDX-License-Identifier: ISC */

#include "tag_external.h"

int
main(int argc, char **argv)
{
	return (mill_main(&tag_external, argc, argv));
}
