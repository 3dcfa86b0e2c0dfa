/* SPDX-License-Identifier: ISC */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include "milter-sdk/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The configuration language, for the core and for milters' settings:
 *
 *	name = value
 *	kind "title" { name = value ... }
 *	include "glob"
 *	# comment
 *
 * A value is a quoted string ("..." with \" \\ \n \t), a bare word (letters,
 * digits and -_.:/[]@+*), or a list of values in braces with commas or blanks
 * between.  Blocks nest.  The parser knows no option: it makes a tree that keeps
 * file and line for every block and option; a schema (struct conf_option) then
 * checks and types it.  All mistakes are collected, none stops the parser.
 *
 * Merging: a block with the kind and title of an earlier one is merged into
 * it, option by option, later wins, lists replace.  Blocks of the kind "rule"
 * inside a block append, unless the title is equal.
 */
struct conf_node { /* an option (values) or a block (children) */
	struct conf_node *next;
	struct conf_node *children; /* of a block */
	bool is_block;
	bool is_list; /* written in braces */
	bool used;    /* set by conf_find(): what was never asked for is an
	                 unknown option */
	char *name;   /* option's name, block's kind */
	char *title;  /* block's title, or NULL */
	char **values;
	size_t n_values;
	const char *file; /* owned by the tree */
	unsigned line;    /* 1-based */
};

struct conf_file { /* as read: for MSG_RELOAD */
	char *name;
	char *text;
	size_t len;
};

struct conf {
	struct conf_node *nodes; /* top level, in order */
	struct conf_file *files; /* in the order read */
	size_t n_files;
	struct buf errors;       /* "file:line: text\n" each */
	unsigned n_errors;
};

enum { CONF_FILE_MAX = 4 << 20, CONF_FILES_MAX = 1000, CONF_DEPTH_MAX = 8 };

void conf_init(struct conf *);
void conf_fini(struct conf *);

/*
 * conf_read - read a file and all it includes (relative globs are taken from
 * the folder of the including file).  Mistakes are in errors; only -1 with
 * errno ENOMEM is a failure.
 */
int conf_read(struct conf *, const char *path)
    __attribute__((__warn_unused_result__));

/* conf_parse - the same from memory; include is a mistake there unless the
 * named files are among conf->files (a reload's bundle: no file is opened) */
int conf_parse(struct conf *, const char *name, const char *text, size_t len)
    __attribute__((__warn_unused_result__));

/* conf_error - add one mistake at node (NULL: no place) */
void conf_error(struct conf *, const struct conf_node *, const char *fmt, ...)
    __attribute__((__format__(printf, 3, 4)));

/* conf_find - the option of that name among the children of block (NULL: top
 * level), marked as used; NULL if absent.  Blocks: walk children by name. */
struct conf_node *conf_find(
    struct conf *, struct conf_node *block, const char *name);

/* conf_unused - report each option and block that nothing asked for; suggests
 * the nearest of names (NULL-terminated, may be NULL) */
void conf_unused(struct conf *, struct conf_node *block,
    const char *const *names);

/*
 * Typed values; a wrong one is reported with file:line and the default is
 * returned.  node NULL returns the default.
 */
const char *conf_string(struct conf *, struct conf_node *, const char *def);
bool conf_bool(struct conf *, struct conf_node *, bool def); /* yes|no */
int64_t conf_int(struct conf *, struct conf_node *, int64_t def, int64_t min,
    int64_t max);
/* bytes: 100, 64K, 10M, 2G (powers of 1024; KiB and the like also) */
uint64_t conf_size(struct conf *, struct conf_node *, uint64_t def,
    uint64_t min, uint64_t max);
/* milliseconds: 500ms, 5s, 10m, 4h, 5d; no unit is a mistake */
uint64_t conf_time_ms(struct conf *, struct conf_node *, uint64_t def,
    uint64_t min, uint64_t max);
/* index into words (NULL-terminated) */
int conf_word(struct conf *, struct conf_node *, const char *const *words,
    int def);

/* conf_parse_time_ms, conf_parse_size - the same for a bare text; -1 EINVAL */
int conf_parse_time_ms(const char *, uint64_t *ms_r);
int conf_parse_size(const char *, uint64_t *bytes_r);

#endif
