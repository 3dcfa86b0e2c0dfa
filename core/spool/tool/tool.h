/* SPDX-License-Identifier: ISC */
#ifndef CORE_SPOOL_TOOL_TOOL_H
#define CORE_SPOOL_TOOL_TOOL_H

#include "core/spool/spool.h"

#include <stdio.h>

/*
 * What milldam-spool saw of a spool: the live messages in journal order, and
 * one line for each piece of damage.  Envelopes are read again when they are
 * printed, so that a long queue needs little memory.
 */
struct item {
	uint64_t seq;
	struct spool_place place;
	char id[ENV_ID_MAX];
	enum rcpt_state *states;
	size_t n_states;
	uint64_t next_try_ms;
	unsigned attempts;
	char *last_reply, *why;
	bool held;
};

struct view {
	struct spool *sp;
	struct item *items;
	size_t n_items, cap_items;
	char **damage;
	size_t n_damage, cap_damage;
	bool no_memory;
};

/* view.c: view_open - -1 with errno when the spool can not be read at all */
int view_open(struct view *, const char *dir)
    __attribute__((__warn_unused_result__));
void view_close(struct view *);
void view_damage(struct view *, const char *text);
/* view_verify - add a damage line for each content that is not what it was */
void view_verify(struct view *);
/* view_common - keep the damage that other shows too */
void view_common(struct view *, const struct view *other);
/* view_open_sure - as view_open; damage (with contents: of these too) is looked
 * at twice, since a gateway may be writing beside us */
int view_open_sure(struct view *, const char *dir, bool contents)
    __attribute__((__warn_unused_result__));
const struct item *view_find(const struct view *, const char *seq_or_id);

/* show.c: each returns 0, or -1 with errno when memory ran out */
int list_text(struct view *, FILE *);
int list_json(struct view *, FILE *);
int show_text(struct view *, const struct item *, FILE *);
int show_json(struct view *, const struct item *, FILE *);
/* item_json - the message's facts as one object, without its header */
int item_json(struct view *, const struct item *, bool intact, struct buf *);

/* salvage.c: content_copy - the message's bytes; -1 with EPROTO when they are
 * not those that were put, known before the first is written */
int content_copy(struct view *, const struct item *, FILE *);
/* salvage - all to dir; 0, 1 when some content is damaged, -1 with errno */
int salvage(struct view *, const char *dir);

#endif
