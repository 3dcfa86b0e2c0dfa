/* SPDX-License-Identifier: ISC */
#ifndef CORE_WEB_WEB_H
#define CORE_WEB_WEB_H

#include "core/proc/child.h"
#include "core/web/http.h"

#include <sys/queue.h>

/*
 * Inside the web process.  A visit is one connection: one request, one answer,
 * then it ends.  A question goes to the supervisor, once for all visits that
 * wait for the same.
 */
enum {
	VISITS_MAX = 64,
	SOCKETS_MAX = 16,
	VISIT_SECONDS = 10, /* from accept to the answer's last byte */
	LINGER_SECONDS = 1, /* then, for the client to take it */
	ASK_SECONDS = 5,    /* the supervisor waits 2 for the others */
	FRESH_MS = 500,     /* so old an answer serves again */
	GATHERED_MAX = 8 << 20,
	PAGE_MAX_BYTES = 16 << 20
};

enum question { ASK_METRICS, ASK_HEALTH, QUESTIONS };

struct web;

struct ask {
	struct web *w;
	enum question what;
	struct event *ev; /* NULL: none is asked */
	int sock;
	uint64_t at_ms; /* when the answer came; 0: there is none */
	struct buf text;
	struct buf coming;
};

struct visit {
	TAILQ_ENTRY(visit) link;
	struct web *w;
	int sock;
	struct event *ev, *timer;
	char in[HTTP_HEAD_MAX];
	size_t n_in;
	bool head, live; /* live: only that somebody answers counts */
	struct ask *waits;
	struct buf out;
	size_t sent;
	bool over; /* all is sent: linger */
};
TAILQ_HEAD(visit_list, visit);

struct web {
	struct child *c;
	int socks[SOCKETS_MAX];
	struct event *doors[SOCKETS_MAX];
	size_t n_socks;
	struct visit_list visits;
	unsigned n_visits;
	struct ask asks[QUESTIONS];
};

uint64_t web_now_ms(void);

/* serve.c */
void serve_door(struct web *, size_t i); /* accept from now on */
void serve_answered(struct ask *);       /* text is new, or at_ms is 0 */

/* ask.c */
/* ask_for - true: the answer is there, or cannot be had; else
 * serve_answered() will be called */
bool ask_for(struct ask *);

#endif
