/* SPDX-License-Identifier: ISC */

/* hosts - the hosts file, in memory; searched line by line: it is short */

#include "core/lookup/hosts.h"

#include "milter-sdk/base/cidr.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct hosts {
	char *path, *text;
	struct hosts_entry *entries;
	size_t n, room;
	struct stat st;
};

static int
add(struct hosts *h, const uint8_t addr[16], const char *name, bool first)
{
	struct hosts_entry *e;

	if (h->n == h->room) {
		if (h->room >= HOSTS_ENTRIES_MAX)
			return (-1);
		h->room = h->room == 0 ? 32 : 2 * h->room;
		e = realloc(h->entries, h->room * sizeof(*e));
		if (e == NULL)
			return (-1);
		h->entries = e;
	}
	e = &h->entries[h->n++];
	memcpy(e->addr, addr, 16);
	e->name = name;
	e->first = first;
	return (0);
}

static void
parse(struct hosts *h)
{
	char *line, *word, *lines = h->text, *words;
	uint8_t addr[16];
	bool first;

	while ((line = strsep(&lines, "\n")) != NULL) {
		line[strcspn(line, "#\r")] = '\0';
		if ((word = strtok_r(line, " \t", &words)) == NULL ||
		    cidr_parse_addr(word, addr) == -1)
			continue;
		for (first = true;
		     (word = strtok_r(NULL, " \t", &words)) != NULL;
		     first = false)
			if (add(h, addr, word, first) == -1) {
				log_warning("lookup: %s: too many lines, the "
				            "rest is left out",
				    h->path);
				return;
			}
	}
}

static void
clear(struct hosts *h)
{
	free(h->text);
	free(h->entries);
	h->text = NULL;
	h->entries = NULL;
	h->n = h->room = 0;
}

static void
load(struct hosts *h)
{
	size_t size, len = 0;
	ssize_t n;
	int fd;

	clear(h);
	fd = open(h->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd == -1)
		return;
	if (!S_ISREG(h->st.st_mode) || h->st.st_size > HOSTS_FILE_MAX) {
		log_warning("lookup: %s: no file, or too large", h->path);
		(void)close(fd);
		return;
	}
	size = (size_t)h->st.st_size;
	if ((h->text = malloc(size + 1)) != NULL) {
		while (
		    len < size && (n = read(fd, h->text + len, size - len)) > 0)
			len += (size_t)n;
		h->text[len] = '\0';
		parse(h);
	}
	(void)close(fd);
}

struct hosts *
hosts_open(const char *path)
{
	struct hosts *h = calloc(1, sizeof(*h));

	if (h == NULL || (h->path = strdup(path)) == NULL) {
		free(h);
		return (NULL);
	}
	hosts_refresh(h);
	return (h);
}

void
hosts_free(struct hosts **hp)
{
	struct hosts *h = *hp;

	*hp = NULL;
	if (h == NULL)
		return;
	clear(h);
	free(h->path);
	free(h);
}

void
hosts_refresh(struct hosts *h)
{
	struct stat st;

	memset(&st, 0, sizeof(st));
	(void)stat(h->path, &st);
	if (st.st_ino == h->st.st_ino && st.st_size == h->st.st_size &&
	    st.st_mtim.tv_sec == h->st.st_mtim.tv_sec &&
	    st.st_mtim.tv_nsec == h->st.st_mtim.tv_nsec)
		return;
	h->st = st;
	load(h);
}

const char *
hosts_name(const struct hosts *h, const uint8_t addr[16])
{
	size_t i;

	for (i = 0; i < h->n; i++)
		if (h->entries[i].first &&
		    memcmp(h->entries[i].addr, addr, 16) == 0)
			return (h->entries[i].name);
	return (NULL);
}

bool
hosts_addr(
    const struct hosts *h, const char *name, size_t nth, uint8_t addr[16])
{
	size_t i;

	for (i = 0; i < h->n; i++) {
		if (strcasecmp(h->entries[i].name, name) != 0 || nth-- > 0)
			continue;
		memcpy(addr, h->entries[i].addr, 16);
		return (true);
	}
	return (false);
}
