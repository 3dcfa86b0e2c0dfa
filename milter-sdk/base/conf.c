/* SPDX-License-Identifier: ISC */

/*
 * conf - parse the configuration language into a tree
 *
 * The parser knows no option.  It goes on after a mistake, at the next line or
 * the end of the block, so that one run reports all of them; what it could not
 * understand is left out of the tree.
 */

#include "milter-sdk/base/conf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum token_kind { T_END, T_WORD, T_STRING, T_EQUALS, T_OPEN, T_CLOSE, T_BAD };

struct parser {
	struct conf *conf;
	const char *file;
	const char *p, *end;
	unsigned line;
	unsigned depth;   /* of blocks */
	unsigned nesting; /* of includes */
	bool
	    from_memory; /* a bundle: the included files follow by themselves */
	bool no_memory;
	struct pending *pending, **pending_tail;
	/* the token in hand */
	enum token_kind kind;
	char *text;  /* of T_WORD and T_STRING; owned */
	unsigned at; /* its line */
};

/*
 * An include takes effect after the file that holds it: then the order in which
 * files are merged is the order in which they are read, and a bundle of their
 * texts gives the same tree.
 */
struct pending {
	struct pending *next;
	unsigned line;
	char *pattern;
};

static int read_file(struct conf *, const char *, unsigned nesting);

void
conf_init(struct conf *c)
{
	memset(c, 0, sizeof(*c));
	c->errors.max = 1 << 20;
}

static void
free_nodes(struct conf_node *n)
{
	struct conf_node *next;
	size_t i;

	for (; n != NULL; n = next) {
		next = n->next;
		free_nodes(n->children);
		for (i = 0; i < n->n_values; i++)
			free(n->values[i]);
		free(n->values);
		free(n->name);
		free(n->title);
		free(n);
	}
}

void
conf_fini(struct conf *c)
{
	size_t i;

	free_nodes(c->nodes);
	for (i = 0; i < c->n_files; i++) {
		free(c->files[i].name);
		free(c->files[i].text);
	}
	free(c->files);
	buf_fini(&c->errors);
	memset(c, 0, sizeof(*c));
}

static void
error_at(struct conf *c, const char *file, unsigned line, const char *fmt,
    va_list ap)
{
	char text[512];

	(void)vsnprintf(text, sizeof(text), fmt, ap);
	c->n_errors++;
	if (file != NULL)
		(void)!buf_addf(&c->errors, "%s:%u: %s\n", file, line, text);
	else
		(void)!buf_addf(&c->errors, "%s\n", text);
}

void
conf_error(struct conf *c, const struct conf_node *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	error_at(
	    c, n != NULL ? n->file : NULL, n != NULL ? n->line : 0, fmt, ap);
	va_end(ap);
}

static void
parse_error(struct parser *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	error_at(s->conf, s->file, s->at, fmt, ap);
	va_end(ap);
}

static bool
word_char(char c)
{
	return (isalnum((unsigned char)c) ||
	    (c != '\0' && strchr("-_.:/[]@+*%?!$&<>|^~", c) != NULL) ||
	    (unsigned char)c >= 0x80);
}

static void
skip_blanks(struct parser *s)
{
	for (; s->p < s->end; s->p++) {
		if (*s->p == '#')
			while (s->p < s->end && *s->p != '\n')
				s->p++;
		if (s->p == s->end)
			return;
		if (*s->p == '\n')
			s->line++;
		else if (*s->p != ' ' && *s->p != '\t' && *s->p != '\r' &&
		    *s->p != ',' && *s->p != ';')
			return;
	}
}

/* quoted - a string up to its closing quote, on one line */
static enum token_kind
quoted(struct parser *s)
{
	struct buf b = BUF_INIT(CONF_FILE_MAX);
	char c;

	for (s->p++; s->p < s->end && *s->p != '"'; s->p++) {
		if ((c = *s->p) == '\n')
			break;
		if (c == '\\' && s->p + 1 < s->end) {
			c = *++s->p;
			if (c == 'n')
				c = '\n';
			else if (c == 't')
				c = '\t';
			else if (c != '"' && c != '\\' &&
			    buf_add(&b, "\\", 1) == -1)
				s->no_memory = true; /* kept: for patterns */
		}
		if (buf_add(&b, &c, 1) == -1)
			s->no_memory = true;
	}
	if (s->p == s->end || *s->p != '"') {
		parse_error(s, "this string has no closing quote");
		buf_fini(&b);
		return (T_BAD);
	}
	s->p++;
	if (buf_add(&b, "", 0) == -1)
		s->no_memory = true;
	s->text = buf_take(&b, NULL);
	return (T_STRING);
}

/* next - move to the next token */
static void
next(struct parser *s)
{
	const char *begin;
	char c;

	free(s->text);
	s->text = NULL;
	skip_blanks(s);
	s->at = s->line;
	if (s->p == s->end || s->no_memory) {
		s->kind = T_END;
		return;
	}
	c = *s->p;
	if (c == '"') {
		s->kind = quoted(s);
		return;
	}
	if (word_char(c)) {
		for (begin = s->p; s->p < s->end && word_char(*s->p);)
			s->p++;
		s->text = strndup(begin, (size_t)(s->p - begin));
		if (s->text == NULL)
			s->no_memory = true;
		s->kind = T_WORD;
		return;
	}
	s->p++;
	s->kind = c == '=' ? T_EQUALS
	    : c == '{'     ? T_OPEN
	    : c == '}'     ? T_CLOSE
	                   : T_BAD;
	if (s->kind == T_BAD)
		parse_error(s, "unexpected character '%c'",
		    isprint((unsigned char)c) ? c : '?');
}

static bool
is_text(const struct parser *s)
{
	return (s->kind == T_WORD || s->kind == T_STRING);
}

static struct conf_node *
new_node(struct parser *s, char *name)
{
	struct conf_node *n = calloc(1, sizeof(*n));

	if (n == NULL || name == NULL) {
		free(n);
		free(name);
		s->no_memory = true;
		return (NULL);
	}
	n->name = name;
	n->file = s->file;
	n->line = s->at;
	return (n);
}

static void
add_value(struct parser *s, struct conf_node *n)
{
	char **v = realloc(n->values, (n->n_values + 1) * sizeof(*v));

	if (v == NULL) {
		s->no_memory = true;
		return;
	}
	n->values = v;
	v[n->n_values++] = s->text;
	s->text = NULL;
}

/* skip_line - after a mistake: go on behind that line */
static void
skip_line(struct parser *s, unsigned line)
{
	while (s->at == line && s->kind != T_END)
		next(s);
}

static void
parse_value(struct parser *s, struct conf_node *n)
{
	unsigned line = s->at;

	next(s);
	if (is_text(s) && s->at == line) {
		add_value(s, n);
		next(s);
		return;
	}
	if (s->kind != T_OPEN) {
		if (s->kind != T_BAD)
			conf_error(
			    s->conf, n, "%s needs a value after '='", n->name);
		skip_line(s, line);
		return;
	}
	n->is_list = true;
	for (next(s); is_text(s); next(s))
		add_value(s, n);
	if (s->kind == T_CLOSE) {
		next(s);
		return;
	}
	parse_error(s, "the list of %s, begun in line %u, has no closing '}'",
	    n->name, line);
}

/* put - add a node to its block by the merging rules; takes it */
static void
put(struct conf_node **head, struct conf_node *n)
{
	struct conf_node **p, *old, *child;

	for (p = head; (old = *p) != NULL; p = &old->next) {
		if (old->is_block != n->is_block ||
		    strcmp(old->name, n->name) != 0 ||
		    strcmp(old->title != NULL ? old->title : "",
		        n->title != NULL ? n->title : "") != 0)
			continue;
		if (!n->is_block) { /* a later option replaces */
			n->next = old->next;
			*p = n;
			old->next = NULL;
			free_nodes(old);
			return;
		}
		while ((child = n->children) != NULL) {
			n->children = child->next;
			child->next = NULL;
			put(&old->children, child);
		}
		free_nodes(n);
		return;
	}
	*p = n;
}

static void
include(struct parser *s, const char *pattern)
{
	char path[4096];
	const char *slash = strrchr(s->file, '/');
	glob_t g;
	size_t i;
	int n;

	if (s->nesting >= CONF_DEPTH_MAX) {
		parse_error(s, "includes are nested too deep");
		return;
	}
	n = pattern[0] == '/' || slash == NULL
	    ? snprintf(path, sizeof(path), "%s", pattern)
	    : snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - s->file),
	          s->file, pattern);
	if (n < 0 || (size_t)n >= sizeof(path)) {
		parse_error(s, "include: the path is too long");
		return;
	}
	n = glob(path, GLOB_MARK, NULL, &g);
	if (n == GLOB_NOMATCH) {
		if (strpbrk(pattern, "*?[") == NULL)
			parse_error(s, "include: %s: no such file", path);
		return;
	}
	if (n != 0) {
		parse_error(s, "include: %s: cannot be read", path);
		return;
	}
	for (i = 0; i < g.gl_pathc; i++)
		if (read_file(s->conf, g.gl_pathv[i], s->nesting + 1) == -1)
			s->no_memory = true;
	globfree(&g);
}

/* defer_include - takes the token's text */
static void
defer_include(struct parser *s)
{
	struct pending *i = calloc(1, sizeof(*i));

	if (i == NULL) {
		s->no_memory = true;
		return;
	}
	i->line = s->at;
	i->pattern = s->text;
	s->text = NULL;
	*s->pending_tail = i;
	s->pending_tail = &i->next;
}

static void
run_includes(struct parser *s)
{
	struct pending *i;

	while ((i = s->pending) != NULL) {
		s->pending = i->next;
		s->at = i->line;
		if (!s->from_memory && !s->no_memory)
			include(s, i->pattern);
		free(i->pattern);
		free(i);
	}
}

static void parse_block(struct parser *, struct conf_node **head, bool inner);

/* parse_statement - name = value, a block, or an include */
static void
parse_statement(struct parser *s, struct conf_node **head)
{
	unsigned line = s->at;
	struct conf_node *n;
	char *name = s->text;

	s->text = NULL;
	if (strcmp(name, "include") == 0 && s->depth == 0) {
		free(name);
		next(s);
		if (is_text(s)) {
			defer_include(s);
			next(s);
		} else
			parse_error(s, "include needs a file name");
		return;
	}
	if ((n = new_node(s, name)) == NULL)
		return;
	next(s);
	if (s->kind == T_EQUALS) {
		parse_value(s, n);
		put(head, n);
		return;
	}
	if (is_text(s) && s->at == line) {
		n->title = s->text;
		s->text = NULL;
		next(s);
	}
	if (s->kind != T_OPEN) {
		if (s->kind != T_BAD)
			conf_error(s->conf, n, "expected '=' or '{' after %s",
			    n->name);
		free_nodes(n);
		skip_line(s, line);
		return;
	}
	n->is_block = true;
	if (++s->depth > CONF_DEPTH_MAX) {
		parse_error(s, "blocks are nested too deep");
		s->p = s->end;
	}
	next(s);
	parse_block(s, &n->children, true);
	s->depth--;
	if (s->kind == T_CLOSE)
		next(s);
	else
		conf_error(s->conf, n, "%s has no closing '}'", n->name);
	put(head, n);
}

static void
parse_block(struct parser *s, struct conf_node **head, bool inner)
{
	while (s->kind != T_END) {
		if (s->kind == T_WORD)
			parse_statement(s, head);
		else if (s->kind == T_CLOSE && inner)
			return;
		else {
			if (s->kind != T_BAD)
				parse_error(s,
				    "expected the name of an option "
				    "or block");
			skip_line(s, s->at);
		}
	}
}

static int
parse_text(struct conf *c, const char *name, const char *text, size_t len,
    unsigned nesting, bool from_memory)
{
	struct parser s = { .conf = c,
		.file = name,
		.p = text,
		.end = text + len,
		.line = 1,
		.nesting = nesting,
		.from_memory = from_memory };

	if (memchr(text, '\0', len) != NULL) {
		s.at = 1;
		parse_error(&s, "the file holds a NUL byte");
		return (0);
	}
	s.pending_tail = &s.pending;
	next(&s);
	parse_block(&s, &c->nodes, false);
	free(s.text);
	run_includes(&s);
	if (s.no_memory) {
		errno = ENOMEM;
		return (-1);
	}
	return (0);
}

/* keep_file - copy name and take text; nodes point to the name */
static struct conf_file *
keep_file(struct conf *c, const char *name, char *text, size_t len)
{
	struct conf_file *f = realloc(c->files, (c->n_files + 1) * sizeof(*f));

	if (f == NULL)
		return (NULL);
	c->files = f;
	f += c->n_files;
	if ((f->name = strdup(name)) == NULL)
		return (NULL);
	f->text = text;
	f->len = len;
	c->n_files++;
	return (f);
}

/* slurp - a whole file of at most CONF_FILE_MAX bytes; NULL with errno */
static char *
slurp(const char *path, size_t *len_r)
{
	struct buf b = BUF_INIT(CONF_FILE_MAX);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char room[4096];
	ssize_t n;
	int saved;

	if (fd == -1)
		return (NULL);
	while ((n = read(fd, room, sizeof(room))) > 0)
		if (buf_add(&b, room, (size_t)n) == -1)
			break;
	saved = errno;
	(void)close(fd);
	if (n != 0) {
		buf_fini(&b);
		errno = saved;
		return (NULL);
	}
	if (b.data == NULL && buf_add(&b, "", 0) == -1)
		return (NULL);
	return (buf_take(&b, len_r));
}

static int
read_file(struct conf *c, const char *path, unsigned nesting)
{
	struct conf_file *f;
	size_t len;
	char *text;

	if (c->n_files >= CONF_FILES_MAX) {
		conf_error(c, NULL, "%s: too many files", path);
		return (0);
	}
	if ((text = slurp(path, &len)) == NULL) {
		if (errno == ENOMEM)
			return (-1);
		conf_error(c, NULL, "%s:1: %s", path, strerror(errno));
		return (0);
	}
	if ((f = keep_file(c, path, text, len)) == NULL) {
		free(text);
		return (-1);
	}
	/* files[] may move while includes are read; name and text do not. */
	return (parse_text(c, f->name, f->text, f->len, nesting, false));
}

int
conf_read(struct conf *c, const char *path)
{
	return (read_file(c, path, 0));
}

int
conf_parse(struct conf *c, const char *name, const char *text, size_t len)
{
	struct conf_file *f;
	char *copy = malloc(len + 1);

	if (copy == NULL)
		return (-1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	if ((f = keep_file(c, name, copy, len)) == NULL) {
		free(copy);
		return (-1);
	}
	return (parse_text(c, f->name, f->text, f->len, 0, true));
}
