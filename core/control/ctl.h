/* SPDX-License-Identifier: ISC */
#ifndef CORE_CONTROL_CTL_H
#define CORE_CONTROL_CTL_H

#include <json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* How milldamctl talks to people: aligned tables, colour on a terminal. */

enum colour { PLAIN, BOLD, GREEN, YELLOW, RED, DIM };

/* colour_init - on if out is a terminal and NO_COLOR is not set */
void colour_init(FILE *out);
/* colour_text - text in a colour, to stdout */
void colour_text(enum colour, const char *text);

/*
 * A table: columns as wide as their widest cell, numbers to the right.  Cells
 * are copied; a cell that cannot be kept for want of memory ends the program.
 */
struct table;

/* table_new - titles parted by '|'; one that begins with '>' is flush right */
struct table *table_new(const char *titles);
void table_cell(struct table *, enum colour, const char *fmt, ...)
    __attribute__((__format__(printf, 3, 4)));
void table_print(struct table **);

/* safe - text from the network without control characters, cut to max bytes;
 * one of a few static buffers */
const char *safe(const char *, size_t max);

/* member access that forgives: "" and 0 for what is not there */
const char *str_of(struct json_object *, const char *key);
int64_t num_of(struct json_object *, const char *key);
struct json_object *obj_of(struct json_object *, const char *key);

/* show.c - one of these prints an answer; the exit status */
int show_status(struct json_object *);
int show_probe(struct json_object *);
int show_health(struct json_object *);
int show_ok(struct json_object *);
int show_changed(struct json_object *);
/* show_queue.c */
int show_list(struct json_object *);
int show_message(struct json_object *);
int show_quarantine(struct json_object *);
int show_released(struct json_object *);
/* show_record.c */
int show_record(struct json_object *);
/* main.c - an error of the gateway and what to do about it, on stderr */
void show_error(const char *);
/* explain.c - the command's words become one line for the gateway (wrong usage
 * ends the program); then its answer is printed as it comes: exit status */
void explain_compose(char *room, size_t n, int argc, char **argv, bool *json);
int explain_answer(int fd, bool json);
/* policy.c - argv[0] is "policy"; asks no gateway */
int policy_command(int argc, char **argv, bool json);

#endif
