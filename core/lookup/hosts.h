/* SPDX-License-Identifier: ISC */
#ifndef CORE_LOOKUP_HOSTS_H
#define CORE_LOOKUP_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The hosts file: "address name alias...".  Lines that say nothing sensible are
 * skipped, as the C library does; an absent file is an empty one. */
enum { HOSTS_FILE_MAX = 4 << 20, HOSTS_ENTRIES_MAX = 50000 };

struct hosts_entry {
	uint8_t addr[16];
	bool first; /* the line's first name: its canonical one */
	const char *name;
};

struct hosts;

struct hosts *hosts_open(const char *path);
void hosts_free(struct hosts **);
/* hosts_refresh - read again if the file is another one than before */
void hosts_refresh(struct hosts *);
/* hosts_name - canonical name of the address, or NULL; until the refresh */
const char *hosts_name(const struct hosts *, const uint8_t addr[16]);
/* hosts_addr - the nth address of that name; false when there are no more */
bool hosts_addr(
    const struct hosts *, const char *name, size_t nth, uint8_t addr_r[16]);

#endif
