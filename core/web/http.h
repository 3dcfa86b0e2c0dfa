/* SPDX-License-Identifier: ISC */
#ifndef CORE_WEB_HTTP_H
#define CORE_WEB_HTTP_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The head of an HTTP/1.x request, RFC 9112: pure, over hostile bytes.  Only
 * what a page that is read needs: GET and HEAD without a body.
 */
enum { HTTP_HEAD_MAX = 8192, HTTP_FIELDS_MAX = 64, HTTP_PATH_MAX = 64 };

struct http_request {
	bool head;
	char path[HTTP_PATH_MAX]; /* without the query; "" if longer */
};

/*
 * http_parse - 0: more bytes are needed; 200: r is complete; else the status to
 * refuse it with.  r->head is right as soon as the method was read.
 */
int http_parse(const char *, size_t n, struct http_request *r)
    __attribute__((__warn_unused_result__));

const char *http_reason(int status);

#endif
