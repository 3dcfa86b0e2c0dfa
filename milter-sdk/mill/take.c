/* SPDX-License-Identifier: ISC */

/* take - a recording in memory: what was said on each connection */

#include "milter-sdk/mill/mill.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct conn *
add_conn(struct take *t)
{
	struct conn *more =
	    reallocarray(t->conns, t->n_conns + 1, sizeof(*more));

	if (more == NULL)
		return (NULL);
	t->conns = more;
	memset(&more[t->n_conns], 0, sizeof(*more));
	return (&more[t->n_conns++]);
}

static int
add_packet(struct conn *c, const struct tape_entry *e)
{
	struct packet *more, *p;

	if (c->n_packets == PACKETS_MAX) {
		errno = E2BIG;
		return (-1);
	}
	if (c->n_packets % 64 == 0) {
		more =
		    reallocarray(c->packets, c->n_packets + 64, sizeof(*more));
		if (more == NULL)
			return (-1);
		c->packets = more;
	}
	p = &c->packets[c->n_packets++];
	memset(p, 0, sizeof(*p));
	p->from = e->kind == TAPE_FROM;
	p->code = e->data[0];
	p->data = e->data + 1;
	p->len = e->len - 1;
	p->us = e->us;
	return (0);
}

static void
fact(struct take *t, const struct tape_entry *e)
{
	static const char name[] = "milter";
	size_t n = sizeof(name), i;

	if (e->len <= n || memcmp(e->data, name, n) != 0)
		return;
	for (i = 0; n + i < e->len && i < sizeof(t->milter) - 1; i++)
		if ((t->milter[i] = e->data[n + i]) == '\0')
			break;
}

/* entry - one of them; -1 with errno */
static int
entry(struct take *t, struct conn **cp, const struct tape_entry *e)
{
	struct milter_packet pkt = { MILTER_OPTNEG, e->data, e->len };
	struct conn *c = *cp;

	switch (e->kind) {
	case TAPE_FACT:
		fact(t, e);
		return (0);
	case TAPE_CONNECTED:
		*cp = add_conn(t);
		return (*cp == NULL ? -1 : 0);
	case TAPE_CLOSED:
		*cp = NULL;
		return (0);
	case TAPE_END:
		t->whole = e->len == 8 && memcmp(e->data, "complete", 8) == 0;
		return (0);
	default:
		break;
	}
	if (c == NULL) {
		errno = EPROTO;
		return (-1);
	}
	if (e->kind != TAPE_OPTIONS)
		return (add_packet(c, e));
	if (milter_get_options(&pkt, &c->options) == -1)
		return (-1);
	dialog_clamp(&c->options);
	c->negotiated = true;
	return (0);
}

int
take_parse(struct take *t, char *bytes, size_t len, const char *name)
{
	struct tape_entry e = { .us = 0 };
	struct conn *c = NULL;
	size_t off;
	long n;

	memset(t, 0, sizeof(*t));
	t->bytes = bytes;
	if ((n = tape_head(bytes, len)) == -1) {
		warnx("%s: no recording of a version known here", name);
		goto bad;
	}
	for (off = (size_t)n;
	     (n = tape_next(bytes + off, len - off, e.us, &e)) > 0;
	     off += (size_t)n)
		if (entry(t, &c, &e) == -1) {
			warn("%s: at byte %zu", name, off);
			goto bad;
		}
	if (n == 0)
		return (0);
	warnx("%s: broken at byte %zu", name, off);
bad:
	take_free(t);
	return (-1);
}

int
take_read(struct take *t, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *bytes = NULL;
	struct stat st;
	size_t len = 0;
	ssize_t n;

	if (fd == -1 || fstat(fd, &st) == -1) {
		warn("%s", path);
		goto bad;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > TAPE_FILE_MAX) {
		warnx("%s: no recording is as large", path);
		goto bad;
	}
	if ((bytes = malloc((size_t)st.st_size + 1)) == NULL) {
		warn(NULL);
		goto bad;
	}
	while (len < (size_t)st.st_size &&
	    (n = read(fd, bytes + len, (size_t)st.st_size - len)) > 0)
		len += (size_t)n;
	(void)close(fd);
	return (take_parse(t, bytes, len, path));

bad:
	if (fd != -1)
		(void)close(fd);
	free(bytes);
	return (-1);
}

void
take_free(struct take *t)
{
	size_t i, k;

	for (i = 0; i < t->n_conns; i++) {
		for (k = 0; k < t->conns[i].n_packets; k++) {
			answer_fini(&t->conns[i].packets[k].then);
			answer_fini(&t->conns[i].packets[k].now);
		}
		free(t->conns[i].packets);
	}
	free(t->conns);
	free(t->bytes);
	memset(t, 0, sizeof(*t));
}
