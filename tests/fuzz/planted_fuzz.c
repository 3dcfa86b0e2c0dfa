/* SPDX-License-Identifier: ISC */

/*
 * planted_fuzz - does the harness find anything at all?
 *
 * The envelope decoder with an overflow of a few bytes behind it, as a reader
 * might write it: tests/fuzz/run expects this target, and only this one, to
 * crash within a minute, from no seeds.
 */

#define PLANTED 1
#include "tests/fuzz/pack_fuzz.c"
