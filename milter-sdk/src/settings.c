/* SPDX-License-Identifier: ISC */

/*
 * settings - fill a filter's structure from its file and table
 *
 * The parsed file stays as long as the settings made of it: strings point into
 * it.  Sessions share settings by reference count, so that a reload never takes
 * them away from under a transaction.
 */

#include "milter-sdk/src/sdk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t refs_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *const empty_list[] = { NULL };
static const struct mill_nets empty_nets;

struct loaded *
loaded_ref(struct loaded *l)
{
	(void)pthread_mutex_lock(&refs_lock);
	l->refs++;
	(void)pthread_mutex_unlock(&refs_lock);
	return (l);
}

void
loaded_unref(struct loaded **lp)
{
	struct loaded *l = *lp;
	struct mill_nets *n;
	unsigned refs;

	*lp = NULL;
	if (l == NULL)
		return;
	(void)pthread_mutex_lock(&refs_lock);
	refs = --l->refs;
	(void)pthread_mutex_unlock(&refs_lock);
	if (refs > 0)
		return;
	if (l->data != NULL && l->filter->unload != NULL)
		l->filter->unload(l->data);
	while ((n = l->nets) != NULL) {
		l->nets = n->next;
		cidr_list_fini(&n->list);
		free(n);
	}
	free(l->data);
	conf_fini(&l->conf);
	arena_fini(&l->arena);
	free(l);
}

/* no_memory - reported as a mistake: whoever reads settings stops at any */
static void
no_memory(struct mill_conf *mc)
{
	conf_error(mc->conf, NULL, "out of memory");
}

static struct conf_node *
option(struct mill_conf *mc, const struct mill_block *b, const char *name)
{
	return (conf_find(mc->conf, (struct conf_node *)(uintptr_t)b, name));
}

/* in_folder_of - path as seen from the folder of the file */
static const char *
in_folder_of(struct mill_conf *mc, const char *file, const char *path)
{
	const char *slash = file != NULL ? strrchr(file, '/') : NULL;
	size_t dir, n = strlen(path);
	char *p;

	if (path[0] == '/' || path[0] == '\0' || slash == NULL)
		return (path);
	dir = (size_t)(slash - file) + 1;
	if ((p = arena_alloc(&mc->loaded->arena, dir + n + 1)) == NULL) {
		no_memory(mc);
		return (path);
	}
	memcpy(p, file, dir);
	memcpy(p + dir, path, n + 1);
	return (p);
}

static const char *const *
list_of(struct mill_conf *mc, const struct conf_node *n)
{
	const char **list;
	size_t i;

	if (n == NULL || n->n_values == 0)
		return (empty_list);
	list =
	    arena_alloc(&mc->loaded->arena, (n->n_values + 1) * sizeof(*list));
	if (list == NULL) {
		no_memory(mc);
		return (empty_list);
	}
	for (i = 0; i < n->n_values; i++)
		list[i] = n->values[i];
	list[i] = NULL;
	return (list);
}

static const struct mill_nets *
nets_of(struct mill_conf *mc, const struct conf_node *n)
{
	struct mill_nets *nets;
	size_t i;

	if (n == NULL || n->n_values == 0)
		return (&empty_nets);
	if ((nets = calloc(1, sizeof(*nets))) == NULL) {
		no_memory(mc);
		return (&empty_nets);
	}
	nets->next = mc->loaded->nets;
	mc->loaded->nets = nets;
	for (i = 0; i < n->n_values; i++)
		if (cidr_list_add(&nets->list, n->values[i]) == -1)
			conf_error(mc->conf, n,
			    "%s: \"%s\" is not a network (192.0.2.0/24, "
			    "2001:db8::/32, no bits beyond the prefix)",
			    n->name, n->values[i]);
	return (nets);
}

const struct mill_block *
mill_conf_next(struct mill_conf *mc, const struct mill_block *parent,
    const char *kind, const struct mill_block *after)
{
	const struct conf_node *p = (const struct conf_node *)parent;
	struct conf_node *n;

	if (after != NULL)
		n = ((struct conf_node *)(uintptr_t)after)->next;
	else
		n = p != NULL ? p->children : mc->conf->nodes;
	for (; n != NULL; n = n->next)
		if (n->is_block && strcmp(n->name, kind) == 0) {
			n->used = true;
			return ((const struct mill_block *)n);
		}
	return (NULL);
}

const char *
mill_conf_title(const struct mill_block *b)
{
	return (((const struct conf_node *)b)->title);
}

bool
mill_conf_has(
    struct mill_conf *mc, const struct mill_block *b, const char *name)
{
	return (option(mc, b, name) != NULL);
}

const char *
mill_conf_string(struct mill_conf *mc, const struct mill_block *b,
    const char *name, const char *def)
{
	return (conf_string(mc->conf, option(mc, b, name), def));
}

const char *
mill_conf_path(struct mill_conf *mc, const struct mill_block *b,
    const char *name, const char *def)
{
	struct conf_node *n = option(mc, b, name);
	const char *s = conf_string(mc->conf, n, def);

	return (n != NULL && s != NULL ? in_folder_of(mc, n->file, s) : s);
}

bool
mill_conf_bool(struct mill_conf *mc, const struct mill_block *b,
    const char *name, bool def)
{
	return (conf_bool(mc->conf, option(mc, b, name), def));
}

int64_t
mill_conf_int(struct mill_conf *mc, const struct mill_block *b,
    const char *name, int64_t def, int64_t min, int64_t max)
{
	return (conf_int(mc->conf, option(mc, b, name), def, min, max));
}

uint64_t
mill_conf_size(struct mill_conf *mc, const struct mill_block *b,
    const char *name, uint64_t def)
{
	return (
	    conf_size(mc->conf, option(mc, b, name), def, 0, UINT64_MAX / 2));
}

uint64_t
mill_conf_time(struct mill_conf *mc, const struct mill_block *b,
    const char *name, uint64_t def)
{
	return (conf_time_ms(
	    mc->conf, option(mc, b, name), def, 0, UINT64_MAX / 2));
}

int
mill_conf_word(struct mill_conf *mc, const struct mill_block *b,
    const char *name, const char *const *words, int def)
{
	return (conf_word(mc->conf, option(mc, b, name), words, def));
}

const char *const *
mill_conf_list(
    struct mill_conf *mc, const struct mill_block *b, const char *name)
{
	return (list_of(mc, option(mc, b, name)));
}

const struct mill_nets *
mill_conf_nets(
    struct mill_conf *mc, const struct mill_block *b, const char *name)
{
	return (nets_of(mc, option(mc, b, name)));
}

void
mill_conf_error(struct mill_conf *mc, const struct mill_block *b,
    const char *name, const char *fmt, ...)
{
	const struct conf_node *n = NULL;
	char text[512];
	va_list ap;

	if (name != NULL)
		n = option(mc, b, name);
	if (n == NULL)
		n = (const struct conf_node *)b;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	conf_error(mc->conf, n, "%s", text);
}

void
mill_conf_max_body(
    struct mill_conf *mc, uint64_t max_body, enum mill_verdict oversize)
{
	if (mc->loaded->filter->max_body == 0)
		conf_error(
		    mc->conf, NULL, "fault: the filter declares no max_body");
	mc->loaded->max_body = max_body;
	mc->loaded->oversize = oversize;
}

bool
mill_nets_has(const struct mill_nets *nets, const char *addr)
{
	uint8_t a[16];

	return (cidr_parse_addr(addr, a) == 0 && cidr_list_has(&nets->list, a));
}

/* type_size - bytes that an option fills */
static size_t
type_size(enum mill_type type)
{
	switch (type) {
	case MILL_BOOL:
		return (sizeof(bool));
	case MILL_WORD:
		return (sizeof(int));
	case MILL_STRING:
	case MILL_PATH:
	case MILL_LIST:
	case MILL_NETS:
		return (sizeof(void *));
	case MILL_INT:
	case MILL_SIZE:
	case MILL_TIME:
		return (sizeof(int64_t));
	}
	return (0);
}

const char *
filter_fault(const struct mill_filter *f)
{
	const struct mill_option *o;
	size_t i, n, end = f->settings_size;

	for (o = f->options, n = 0; o != NULL && o->name != NULL; o++, n++) {
		if (type_size(o->type) == 0)
			return ("an option of no type");
		if (end < type_size(o->type) ||
		    o->offset > end - type_size(o->type))
			return ("an option outside the settings structure");
		if (o->type == MILL_WORD &&
		    (o->words == NULL || o->words[0] == NULL))
			return ("an option without its words");
	}
	if (n > SDK_OPTIONS_MAX)
		return ("too many options");
	for (i = 0; i < MILL_N_STAGES; i++)
		if (f->macros[i] != NULL &&
		    strlen(f->macros[i]) > SDK_MACROS_MAX)
			return ("a list of macros that is too long");
	return (NULL);
}

/* default_node - the table's default in the form of a line of the file */
static struct conf_node *
default_node(struct mill_conf *mc, const struct mill_option *o)
{
	struct arena *a = &mc->loaded->arena;
	struct conf_node *n = arena_alloc(a, sizeof(*n));
	size_t cap = 0;
	char *s, *word, *rest = NULL;

	if (n == NULL || (s = arena_strdup(a, o->value)) == NULL) {
		no_memory(mc);
		return (NULL);
	}
	memset(n, 0, sizeof(*n));
	n->name = (char *)(uintptr_t)o->name;
	n->file = "default";
	n->is_list = o->type == MILL_LIST || o->type == MILL_NETS;
	if (!n->is_list) {
		if ((n->values = arena_grow(
		         a, NULL, 0, &cap, sizeof(char *))) != NULL)
			n->values[n->n_values++] = s;
		return (n);
	}
	for (word = strtok_r(s, ", ", &rest); word != NULL;
	     word = strtok_r(NULL, ", ", &rest)) {
		n->values =
		    arena_grow(a, n->values, n->n_values, &cap, sizeof(char *));
		if (n->values == NULL) {
			no_memory(mc);
			return (NULL);
		}
		n->values[n->n_values++] = word;
	}
	return (n);
}

static void
set_number(struct mill_conf *mc, struct conf_node *n,
    const struct mill_option *o, void *at)
{
	bool limited = o->min != 0 || o->max != 0;
	int64_t min = limited ? o->min : 0;
	int64_t max = limited ? o->max : INT64_MAX;

	if (o->type == MILL_INT)
		*(int64_t *)at = conf_int(mc->conf, n, 0, min, max);
	else if (o->type == MILL_SIZE)
		*(uint64_t *)at =
		    conf_size(mc->conf, n, 0, (uint64_t)min, (uint64_t)max);
	else
		*(uint64_t *)at =
		    conf_time_ms(mc->conf, n, 0, (uint64_t)min, (uint64_t)max);
}

static void
set_option(struct mill_conf *mc, const struct mill_option *o, char *data)
{
	struct conf_node *n = conf_find(mc->conf, NULL, o->name);
	bool written = n != NULL;
	void *at = data + o->offset;
	const char *s;

	if (n == NULL && o->value != NULL)
		n = default_node(mc, o);
	switch (o->type) {
	case MILL_STRING:
		*(const char **)at = conf_string(mc->conf, n, NULL);
		return;
	case MILL_PATH:
		s = conf_string(mc->conf, n, NULL);
		*(const char **)at =
		    s != NULL && written ? in_folder_of(mc, n->file, s) : s;
		return;
	case MILL_BOOL:
		*(bool *)at = conf_bool(mc->conf, n, false);
		return;
	case MILL_WORD:
		*(int *)at = conf_word(mc->conf, n, o->words, 0);
		return;
	case MILL_LIST:
		*(const char *const **)at = list_of(mc, n);
		return;
	case MILL_NETS:
		*(const struct mill_nets **)at = nets_of(mc, n);
		return;
	case MILL_INT:
	case MILL_SIZE:
	case MILL_TIME:
		set_number(mc, n, o, at);
		return;
	}
}

/* report_unused - here and in the blocks that load() has read */
static void
report_unused(struct conf *c, struct conf_node *block, const char *const *names)
{
	struct conf_node *n = block != NULL ? block->children : c->nodes;

	conf_unused(c, block, names);
	for (; n != NULL; n = n->next)
		if (n->is_block && n->used)
			report_unused(c, n, NULL);
}

static void
fill(struct mill_conf *mc)
{
	const struct mill_filter *f = mc->loaded->filter;
	const struct mill_option *o;
	const char *names[SDK_OPTIONS_MAX + 1];
	size_t n = 0;
	unsigned before;

	for (o = f->options; o != NULL && o->name != NULL; o++) {
		set_option(mc, o, mc->loaded->data);
		names[n++] = o->name; /* filter_fault() has counted them */
	}
	names[n] = NULL;
	before = mc->conf->n_errors;
	if (f->load != NULL && f->load(mc->loaded->data, mc) == -1 &&
	    mc->conf->n_errors == before)
		conf_error(
		    mc->conf, NULL, "%s: the settings cannot be used", f->name);
	report_unused(mc->conf, NULL, names);
}

struct loaded *
loaded_read(const struct mill_filter *f, const char *path, const char *text,
    struct buf *errors)
{
	struct loaded *l = calloc(1, sizeof(*l));
	struct mill_conf mc;
	int rc = 0;

	if (l == NULL)
		return (NULL);
	l->refs = 1;
	l->filter = f;
	l->arena.max = SDK_MESSAGE_MAX;
	l->max_body = f->max_body;
	l->oversize = f->oversize;
	conf_init(&l->conf);
	/* Never NULL for load(), whatever the size. */
	if ((l->data = calloc(1, f->settings_size + 1)) == NULL) {
		loaded_unref(&l);
		return (NULL);
	}
	if (text != NULL)
		rc = conf_parse(&l->conf, path, text, strlen(text));
	else if (path != NULL)
		rc = conf_read(&l->conf, path);
	mc.conf = &l->conf;
	mc.loaded = l;
	if (rc == 0)
		fill(&mc);
	errno = rc == -1 ? ENOMEM : 0;
	if (rc == 0 && l->conf.n_errors == 0)
		return (l);
	if (l->conf.errors.len > 0)
		(void)!buf_add(errors, l->conf.errors.data, l->conf.errors.len);
	rc = errno;
	loaded_unref(&l);
	errno = rc;
	return (NULL);
}
