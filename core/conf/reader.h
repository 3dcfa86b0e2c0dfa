/* SPDX-License-Identifier: ISC */
#ifndef CORE_CONF_READER_H
#define CORE_CONF_READER_H

#include "core/conf/settings.h"

/*
 * What the parts of settings_read() share.  no_memory is sticky; everything
 * else that is wrong goes to conf->errors.
 */
struct reader {
	struct conf *conf;
	struct settings *s;
	bool no_memory;
};

/* rd_copy - a copy of the string, or NULL for NULL */
char *rd_copy(struct reader *, const char *);
/* rd_string - the option's value, a copy; def if absent */
char *rd_string(struct reader *, struct conf_node *block, const char *name,
    const char *def);
/* rd_list - copies of an option's values (one value is a list of one) */
void rd_list(struct reader *, struct conf_node *block, const char *name,
    char ***list_r, size_t *n_r);
void rd_free_list(char ***, size_t *);
/* rd_grow - zeroed room for one more element; the element, or NULL */
void *rd_grow(struct reader *, void *array, size_t *n, size_t size);
/* rd_path - a relative path is taken from the folder of the file that says it;
 * takes and returns a malloc'd string */
char *rd_path(struct reader *, const struct conf_node *, char *);

/* rd_is_table - "text:/path", "hash:/path", "btree:/path" */
bool rd_is_table(const char *);

void read_milters(struct reader *);
void read_policies(struct reader *);
void read_listeners(struct reader *);
void milter_fini(struct milter_conf *);
void policy_fini(struct policy *);
void listener_fini(struct listener *);

#endif
