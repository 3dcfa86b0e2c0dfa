/* SPDX-License-Identifier: ISC */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stddef.h>
#include <syslog.h>

/*
 * Log lines "module: event: key=value ...".  The caller formats; text that
 * came from the network goes through log_quote() so that no control byte
 * reaches the log.
 */
enum log_form {
	LOG_TO_STDERR, /* text, one line each (default) */
	LOG_TO_SYSLOG, /* RFC 3164 datagrams to /dev/log, facility mail */
	LOG_TO_JSON    /* stderr, one JSON object a line */
};

enum { LOG_LINE_MAX = 2048 }; /* bytes; a longer line ends in "..." */

/*
 * log_open - name the program and choose the form.  Opens /dev/log once, so
 * call it before the sandbox closes.  level: LOG_DEBUG shows all.
 */
void log_open(const char *program, enum log_form, int level);
void log_set_level(int level);

void log_line(int priority, const char *fmt, ...)
    __attribute__((__format__(printf, 2, 3)));

#define log_err(...)    log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...)   log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)  log_line(LOG_DEBUG, __VA_ARGS__)

/*
 * log_quote - copy s into room with control bytes, '"' and '\\' escaped as
 * \xNN, cut to fit; returns room.  Bytes >= 0x80 stay (UTF-8 addresses).
 */
const char *log_quote(char *room, size_t n, const char *s);

#endif
