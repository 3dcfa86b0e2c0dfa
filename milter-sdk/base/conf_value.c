/* SPDX-License-Identifier: ISC */

/* conf_value - find options in the tree and give their values a type */

#include "milter-sdk/base/conf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit times[] = {
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", 60 * 1000 },
	{ "h", 3600 * 1000 },
	{ "d", 86400 * 1000ull },
	{ NULL, 0 },
};

static const struct unit sizes[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "K", 1 << 10 },
	{ "KiB", 1 << 10 },
	{ "M", 1 << 20 },
	{ "MiB", 1 << 20 },
	{ "G", 1 << 30 },
	{ "GiB", 1 << 30 },
	{ NULL, 0 },
};

/* with_unit - digits and a unit of the table */
static int
with_unit(const char *s, const struct unit *u, uint64_t *value_r)
{
	uint64_t n = 0;

	if (*s < '0' || *s > '9')
		goto bad;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (n > UINT64_MAX / 100)
			goto bad;
		n = n * 10 + (uint64_t)(*s - '0');
	}
	for (; u->name != NULL; u++) {
		if (strcasecmp(s, u->name) != 0)
			continue;
		if (n > UINT64_MAX / u->factor)
			goto bad;
		*value_r = n * u->factor;
		return (0);
	}
bad:
	errno = EINVAL;
	return (-1);
}

int
conf_parse_time_ms(const char *s, uint64_t *ms_r)
{
	return (with_unit(s, times, ms_r));
}

int
conf_parse_size(const char *s, uint64_t *bytes_r)
{
	return (with_unit(s, sizes, bytes_r));
}

struct conf_node *
conf_find(struct conf *c, struct conf_node *block, const char *name)
{
	struct conf_node *n = block != NULL ? block->children : c->nodes;

	for (; n != NULL; n = n->next)
		if (!n->is_block && strcmp(n->name, name) == 0) {
			n->used = true;
			return (n);
		}
	return (NULL);
}

/* distance - edits between two short words, at most 3 */
static unsigned
distance(const char *a, const char *b)
{
	unsigned row[33], i, j, left, up, best;
	size_t na = strlen(a), nb = strlen(b);

	if (na > 32 || nb > 32)
		return (3);
	for (j = 0; j <= nb; j++)
		row[j] = j;
	for (i = 1; i <= na; i++) {
		left = row[0];
		row[0] = i;
		for (j = 1; j <= nb; j++) {
			up = row[j];
			best = left + (a[i - 1] != b[j - 1]);
			if (up + 1 < best)
				best = up + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			left = up;
			row[j] = best;
		}
	}
	return (row[nb] < 3 ? row[nb] : 3);
}

void
conf_unused(struct conf *c, struct conf_node *block, const char *const *names)
{
	struct conf_node *n = block != NULL ? block->children : c->nodes;
	const char *const *w, *near;
	unsigned d, best;

	for (; n != NULL; n = n->next) {
		if (n->used)
			continue;
		near = NULL;
		for (best = 3, w = names; w != NULL && *w != NULL; w++)
			if ((d = distance(n->name, *w)) < best) {
				best = d;
				near = *w;
			}
		conf_error(c, n, "unknown %s %s%s%s%s",
		    n->is_block ? "block" : "option", n->name,
		    near != NULL ? "; did you mean " : "",
		    near != NULL ? near : "", near != NULL ? "?" : "");
	}
}

/* one - the option's only value, or NULL after an error */
static const char *
one(struct conf *c, struct conf_node *n)
{
	if (!n->is_list && n->n_values == 1)
		return (n->values[0]);
	if (n->is_list) /* without a value the parser has complained */
		conf_error(c, n, "%s takes one value, not a list", n->name);
	return (NULL);
}

const char *
conf_string(struct conf *c, struct conf_node *n, const char *def)
{
	const char *s = n != NULL ? one(c, n) : NULL;

	return (s != NULL ? s : def);
}

bool
conf_bool(struct conf *c, struct conf_node *n, bool def)
{
	const char *s = n != NULL ? one(c, n) : NULL;

	if (s == NULL)
		return (def);
	if (strcmp(s, "yes") == 0 || strcmp(s, "true") == 0)
		return (true);
	if (strcmp(s, "no") == 0 || strcmp(s, "false") == 0)
		return (false);
	conf_error(c, n, "%s is yes or no, not \"%s\"", n->name, s);
	return (def);
}

int64_t
conf_int(
    struct conf *c, struct conf_node *n, int64_t def, int64_t min, int64_t max)
{
	const char *s = n != NULL ? one(c, n) : NULL;
	char *end;
	long long v;

	if (s == NULL)
		return (def);
	errno = 0;
	v = strtoll(s, &end, 10);
	if (*s == '\0' || *end != '\0' || errno != 0) {
		conf_error(c, n, "%s is a number, not \"%s\"", n->name, s);
		return (def);
	}
	if (v < min || v > max) {
		conf_error(c, n, "%s is from %" PRId64 " to %" PRId64, n->name,
		    min, max);
		return (def);
	}
	return (v);
}

/* scaled - a number with a unit, within its limits */
static uint64_t
scaled(struct conf *c, struct conf_node *n, const struct unit *units,
    const char *example, uint64_t def, const uint64_t range[2])
{
	const char *s = n != NULL ? one(c, n) : NULL;
	uint64_t v;

	if (s == NULL)
		return (def);
	if (with_unit(s, units, &v) == -1) {
		conf_error(c, n, "%s is %s, not \"%s\"", n->name, example, s);
		return (def);
	}
	if (v < range[0] || v > range[1]) {
		conf_error(c, n, "%s: %s is out of range", n->name, s);
		return (def);
	}
	return (v);
}

uint64_t
conf_size(struct conf *c, struct conf_node *n, uint64_t def, uint64_t min,
    uint64_t max)
{
	const uint64_t range[2] = { min, max };

	return (scaled(c, n, sizes, "a size such as 64K or 10M", def, range));
}

uint64_t
conf_time_ms(struct conf *c, struct conf_node *n, uint64_t def, uint64_t min,
    uint64_t max)
{
	const uint64_t range[2] = { min, max };

	return (
	    scaled(c, n, times, "a time such as 500ms, 5s or 4h", def, range));
}

int
conf_word(
    struct conf *c, struct conf_node *n, const char *const *words, int def)
{
	const char *s = n != NULL ? one(c, n) : NULL;
	char list[256] = "";
	int i;

	if (s == NULL)
		return (def);
	for (i = 0; words[i] != NULL; i++) {
		if (strcmp(s, words[i]) == 0)
			return (i);
		if (strlen(list) + strlen(words[i]) + 3 < sizeof(list)) {
			strcat(list, i > 0 ? ", " : "");
			strcat(list, words[i]);
		}
	}
	conf_error(c, n, "%s is one of %s, not \"%s\"", n->name, list, s);
	return (def);
}
