/* SPDX-License-Identifier: ISC */

/* reader - copies of strings, lists and paths out of the configuration tree */

#include "core/conf/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *
rd_copy(struct reader *r, const char *s)
{
	char *copy = s != NULL ? strdup(s) : NULL;

	if (s != NULL && copy == NULL)
		r->no_memory = true;
	return (copy);
}

char *
rd_string(struct reader *r, struct conf_node *block, const char *name,
    const char *def)
{
	return (rd_copy(
	    r, conf_string(r->conf, conf_find(r->conf, block, name), def)));
}

void *
rd_grow(struct reader *r, void *array, size_t *n, size_t size)
{
	char **p = array, *bigger = realloc(*p, (*n + 1) * size);

	if (bigger == NULL) {
		r->no_memory = true;
		return (NULL);
	}
	*p = bigger;
	bigger += *n * size;
	memset(bigger, 0, size);
	(*n)++;
	return (bigger);
}

void
rd_list(struct reader *r, struct conf_node *block, const char *name,
    char ***list_r, size_t *n_r)
{
	struct conf_node *n = conf_find(r->conf, block, name);
	char **item;
	size_t i;

	for (i = 0; n != NULL && i < n->n_values; i++)
		if ((item = rd_grow(r, list_r, n_r, sizeof(*item))) != NULL)
			*item = rd_copy(r, n->values[i]);
}

void
rd_free_list(char ***list, size_t *n)
{
	while (*n > 0)
		free((*list)[--*n]);
	free(*list);
	*list = NULL;
}

char *
rd_path(struct reader *r, const struct conf_node *n, char *path)
{
	const char *slash;
	char *full;

	if (path == NULL || path[0] == '/' || n == NULL ||
	    (slash = strrchr(n->file, '/')) == NULL)
		return (path);
	if (asprintf(&full, "%.*s/%s", (int)(slash - n->file), n->file, path) ==
	    -1) {
		r->no_memory = true;
		return (path);
	}
	free(path);
	return (full);
}

bool
rd_is_table(const char *s)
{
	return (strncmp(s, "text:/", 6) == 0 || strncmp(s, "hash:/", 6) == 0 ||
	    strncmp(s, "btree:/", 7) == 0);
}
