/* SPDX-License-Identifier: ISC */

/* main - the program milldam-access */

#include "milters/access/access.h"

int
main(int argc, char **argv)
{
	return (mill_main(&access_filter, argc, argv));
}
