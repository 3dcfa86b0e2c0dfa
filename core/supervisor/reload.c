/* SPDX-License-Identifier: ISC */

/*
 * reload - new settings for new sessions, or none at all
 *
 * Whatever could fail comes first; after it nothing may, so that a refused
 * reload leaves everything as it was.  Sessions keep the settings that they
 * began with, and the milters that those name.
 */

#include "core/supervisor/sup.h"

#include "milter-sdk/base/pack.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void
no_change(struct buf *errors, const char *option, bool same)
{
	if (!same)
		(void)!buf_addf(errors,
		    "%s: cannot change while milldam runs: restart it\n",
		    option);
}

/* changeable - is what children opened, or were started with, the same? */
static bool
changeable(
    const struct settings *old, const struct settings *new, struct buf *errors)
{
	no_change(errors, "spool", strcmp(old->spool_dir, new->spool_dir) == 0);
	no_change(
	    errors, "run-directory", strcmp(old->run_dir, new->run_dir) == 0);
	no_change(errors, "uid-base", old->uid_base == new->uid_base);
	no_change(errors, "receivers", old->receivers == new->receivers);
	no_change(errors, "relays", old->relays == new->relays);
	no_change(errors, "sandbox", old->sandbox == new->sandbox);
	no_change(errors, "log", old->log_form == new->log_form);
	return (errors->len == 0);
}

/* pack_files - the configuration's text for the children */
static int
pack_files(const struct settings *s, struct buf *b)
{
	struct packer k = { b, false };
	size_t i;

	pack_u32(&k, (uint32_t)s->n_files);
	for (i = 0; i < s->n_files; i++) {
		pack_str(&k, s->files[i].name);
		pack_blob(&k, s->files[i].text, s->files[i].len);
	}
	return (pack_end(&k));
}

/* same_folder - are the files of two tables, "text:/path" or paths, in one? */
static bool
same_folder(const char *a, const char *b)
{
	const char *x, *y;

	if (a == NULL || b == NULL)
		return (a == b);
	a += strcspn(a, "/");
	b += strcspn(b, "/");
	if ((x = strrchr(a, '/')) == NULL || (y = strrchr(b, '/')) == NULL)
		return (strcmp(a, b) == 0);
	/* In /etc the sandbox leaves the file alone. */
	if (x - a == 4 && strncmp(a, "/etc", 4) == 0)
		return (strcmp(a, b) == 0);
	return (x - a == y - b && strncmp(a, b, (size_t)(x - a)) == 0);
}

/* has_folder - had it a table there? */
static bool
has_folder(const struct settings *s, const char *table)
{
	size_t i;

	for (i = 0; i < s->n_tables; i++)
		if (same_folder(s->tables[i], table))
			return (true);
	return (same_folder(s->mailertable, table));
}

/* same_folders - are the rules' tables where it can read? */
static bool
same_folders(const struct settings *old, const struct settings *new)
{
	size_t i;

	for (i = 0; i < new->n_tables; i++)
		if (!has_folder(old, new->tables[i]))
			return (false);
	return (same_folder(old->mailertable, new->mailertable) &&
	    same_folder(old->hosts_file, new->hosts_file));
}

/* renew_lookup - its sandbox has the folders of the tables that it began with:
 * for others a new one is needed.  Who waits for the old one's answer hears of
 * a temporary failure. */
static void
renew_lookup(struct sup *sup, const struct settings *old)
{
	const struct settings *new = sup->settings;
	struct process *p = spawn_find(sup, PROC_LOOKUP, 0);

	if (p != NULL && p->pid > 0 && !same_folders(old, new)) {
		log_info("supervisor: renewed: name=%s pid=%d", p->name,
		    (int)p->pid);
		(void)kill(p->pid, SIGKILL);
	}
}

static void
log_lines(const char *text)
{
	const char *end;

	for (; *text != '\0'; text = end + (*end == '\n')) {
		end = text + strcspn(text, "\n");
		log_err("supervisor: reload: refused: %.*s", (int)(end - text),
		    text);
	}
}

int
sup_reload(struct sup *sup, struct buf *errors)
{
	struct settings *old = sup->settings, *new;
	struct buf b = BUF_INIT(FRAME_MAX);

	if ((new = settings_read(sup->conf_path, errors)) == NULL)
		goto refused;
	if (pack_files(new, &b) == -1) {
		(void)!buf_addf(errors, "the configuration is over 1 MiB\n");
		goto refused;
	}
	if (!changeable(old, new, errors) ||
	    listen_change(sup, new, errors) == -1)
		goto refused;
	sup->settings = new;
	log_set_level(new->log_level);
	spawn_broadcast(sup, MSG_RELOAD, &b);
	listen_announce(sup);
	renew_lookup(sup, old);
	spawn_milters_again(sup, old);
	spawn_web_again(sup);
	settings_unref(&old);
	buf_fini(&b);
	log_info("supervisor: reloaded: file=%s", sup->conf_path);
	return (0);

refused:
	settings_unref(&new);
	buf_fini(&b);
	log_lines(errors->data != NULL ? errors->data : "out of memory");
	return (-1);
}
