/* SPDX-License-Identifier: ISC */

/* message - header fields that milters may edit, and the body they share */

#include "core/smtp/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FIELDS_MAX = 10000 };

void
message_init(struct message *m)
{
	memset(m, 0, sizeof(*m));
	m->body = "";
	m->fd = -1;
	m->mem.max = (size_t)1 << 32;
}

static void
field_fini(struct field *f)
{
	free(f->name);
	free(f->value);
}

void
message_fini(struct message *m)
{
	size_t i;

	for (i = 0; i < m->n_fields; i++)
		field_fini(&m->fields[i]);
	free(m->fields);
	if (m->map != NULL)
		(void)munmap(m->map, m->map_len);
	if (m->fd != -1)
		(void)close(m->fd);
	buf_fini(&m->mem);
	message_init(m);
}

int
message_add(struct message *m, size_t at, const char *name, const char *value,
    size_t value_len)
{
	struct field f = { .name = strdup(name), .value_len = value_len };
	struct field *fields;
	size_t n = m->n_fields;

	if (n >= FIELDS_MAX) {
		errno = E2BIG;
		goto fail;
	}
	if (f.name == NULL || (f.value = malloc(value_len + 1)) == NULL)
		goto fail;
	memcpy(f.value, value, value_len);
	f.value[value_len] = '\0';
	if ((n & (n - 1)) == 0) { /* room doubles at powers of two */
		fields =
		    realloc(m->fields, (n == 0 ? 1 : 2 * n) * sizeof(*fields));
		if (fields == NULL)
			goto fail;
		m->fields = fields;
	}
	if (at > n)
		at = n;
	memmove(
	    &m->fields[at + 1], &m->fields[at], (n - at) * sizeof(*m->fields));
	m->fields[at] = f;
	m->n_fields++;
	return (0);

fail:
	field_fini(&f);
	return (-1);
}

void
message_del(struct message *m, size_t at)
{
	struct field *fields;
	size_t n;

	field_fini(&m->fields[at]);
	memmove(&m->fields[at], &m->fields[at + 1],
	    (m->n_fields - at - 1) * sizeof(*m->fields));
	n = --m->n_fields;
	/* Keep message_add()'s rule: room is the next power of two. */
	if (n == 0) {
		free(m->fields);
		m->fields = NULL;
	} else if ((n & (n - 1)) == 0 &&
	    (fields = realloc(m->fields, n * sizeof(*fields))) != NULL)
		m->fields = fields;
}

size_t
message_find(const struct message *m, const char *name, size_t nth)
{
	size_t i;

	for (i = 0; i < m->n_fields; i++)
		if (!m->fields[i].hidden &&
		    strcasecmp(m->fields[i].name, name) == 0 && nth-- == 0)
			return (i);
	return (m->n_fields);
}

int
message_header(const struct message *m, struct buf *out)
{
	const struct field *f;
	size_t i;

	for (i = 0; i < m->n_fields; i++) {
		f = &m->fields[i];
		if (buf_add(out, f->name, strlen(f->name)) == -1 ||
		    buf_add(out, ":", 1) == -1 ||
		    buf_add(out, f->value, f->value_len) == -1 ||
		    buf_add(out, "\r\n", 2) == -1)
			return (-1);
	}
	return (buf_add(out, "\r\n", 2));
}
