/* SPDX-License-Identifier: ISC */

/*
 * state - run-time switches that survive a restart
 *
 * A file of "name value" lines, replaced by rename, so that a crash leaves the
 * old one or the new one.
 */

#include "core/supervisor/sup.h"

#include "milter-sdk/base/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
put(struct sup *sup, const char *name, const char *value)
{
	char *copy = strdup(value);
	size_t i;

	if (copy == NULL)
		return (-1);
	for (i = 0; i < sup->n_states; i++)
		if (strcmp(sup->states[i][0], name) == 0) {
			free(sup->states[i][1]);
			sup->states[i][1] = copy;
			return (0);
		}
	if (sup->n_states == STATES_MAX ||
	    (sup->states[i][0] = strdup(name)) == NULL) {
		free(copy);
		errno = ENOSPC;
		return (-1);
	}
	sup->states[i][1] = copy;
	sup->n_states++;
	return (0);
}

static int
path_of(const struct sup *sup, const char *name, char *room, size_t n)
{
	int len = snprintf(room, n, "%s/%s", sup->settings->run_dir, name);

	return (len < 0 || (size_t)len >= n ? -1 : 0);
}

static int
save(const struct sup *sup)
{
	struct buf b = BUF_INIT(1 << 16);
	char tmp[4096], path[4096];
	size_t i;
	int fd = -1;

	if (path_of(sup, "state.new", tmp, sizeof(tmp)) == -1 ||
	    path_of(sup, "state", path, sizeof(path)) == -1)
		return (-1);
	for (i = 0; i < sup->n_states; i++)
		if (buf_addf(&b, "%s %s\n", sup->states[i][0],
		        sup->states[i][1]) == -1)
			goto fail;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd == -1 ||
	    (b.len > 0 && write(fd, b.data, b.len) != (ssize_t)b.len) ||
	    fsync(fd) == -1 || close(fd) == -1)
		goto fail;
	buf_fini(&b);
	return (rename(tmp, path));

fail:
	if (fd != -1)
		(void)close(fd);
	buf_fini(&b);
	return (-1);
}

static bool
word_ok(const char *s)
{
	return (s[0] != '\0' && strlen(s) < 128 &&
	    s[strcspn(s, " \t\r\n")] == '\0');
}

int
state_load(struct sup *sup)
{
	char path[4096], line[512], *value;
	FILE *f;

	if (path_of(sup, "state", path, sizeof(path)) == -1)
		return (-1);
	if ((f = fopen(path, "re")) == NULL)
		return (errno == ENOENT ? 0 : -1);
	while (fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if ((value = strchr(line, ' ')) == NULL)
			continue;
		*value++ = '\0';
		if (word_ok(line) && word_ok(value))
			(void)!put(sup, line, value);
	}
	(void)fclose(f);
	return (0);
}

static void
pack_state(struct buf *b, const char *name, const char *value)
{
	struct packer k = { b, false };

	b->len = 0;
	pack_str(&k, name);
	pack_str(&k, value);
}

int
state_set(struct sup *sup, const char *name, const char *value)
{
	struct buf b = BUF_INIT(1024);

	if (!word_ok(name) || !word_ok(value)) {
		errno = EINVAL;
		return (-1);
	}
	if (put(sup, name, value) == -1 || save(sup) == -1)
		return (-1);
	log_info("supervisor: state: name=%s value=%s", name, value);
	pack_state(&b, name, value);
	spawn_broadcast(sup, MSG_STATE, &b);
	buf_fini(&b);
	return (0);
}

void
state_send_all(struct sup *sup, struct process *p)
{
	struct buf b = BUF_INIT(1024);
	size_t i;

	for (i = 0; i < sup->n_states; i++) {
		pack_state(&b, sup->states[i][0], sup->states[i][1]);
		if (chan_send_buf(p->control, MSG_STATE, 0, &b, -1) == -1)
			log_warning("supervisor: state: name=%s", p->name);
	}
	buf_fini(&b);
}

void
state_free(struct sup *sup)
{
	while (sup->n_states > 0) {
		free(sup->states[--sup->n_states][0]);
		free(sup->states[sup->n_states][1]);
	}
}
