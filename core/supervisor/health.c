/* SPDX-License-Identifier: ISC */

/*
 * health - does a milter of ours answer?
 *
 * A milter has no control channel, so the supervisor asks as an MTA would: it
 * connects, offers to negotiate and ends the session at the first bytes.  Only
 * that something came counts; what came is not looked at.  spawn_watch() ends a
 * milter that was silent for hang-time.
 */

#include "core/supervisor/sup.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* SMFIC_OPTNEG: version 6, every action, every step */
static const unsigned char offer[] = { 0, 0, 0, 13, 'O', 0, 0, 0, 6, 0, 0, 1,
	0xff, 0, 0x1f, 0xff, 0xff };
static const unsigned char quit[] = { 0, 0, 0, 1, 'Q' };

void
health_end(struct process *p)
{
	if (p->health != NULL)
		event_free(p->health);
	p->health = NULL;
	if (p->health_sock != -1)
		(void)close(p->health_sock);
	p->health_sock = -1;
}

static void
on_answer(evutil_socket_t sock, short what, void *arg)
{
	struct process *p = arg;
	char room[64];
	ssize_t n = recv(sock, room, sizeof(room), 0);

	(void)what;
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	/* One that closes because it is full is alive as well. */
	p->answered = true;
	p->pong_ms = sup_now_ms();
	(void)!send(sock, quit, sizeof(quit), MSG_NOSIGNAL | MSG_DONTWAIT);
	health_end(p);
}

/* on_connected - the first bytes fit into any socket's buffer */
static void
on_connected(evutil_socket_t sock, short what, void *arg)
{
	struct process *p = arg;

	(void)what;
	event_free(p->health);
	p->health =
	    event_new(p->sup->base, sock, EV_READ | EV_PERSIST, on_answer, p);
	if (send(sock, offer, sizeof(offer), MSG_NOSIGNAL) !=
	        (ssize_t)sizeof(offer) ||
	    p->health == NULL || event_add(p->health, NULL) == -1)
		health_end(p);
}

static int
address_of(
    const struct endpoint *ep, struct sockaddr_storage *ss, socklen_t *len_r)
{
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)ss;

	memset(ss, 0, sizeof(*ss));
	if (ep->family == ENDPOINT_INET)
		return (listen_sockaddr(ep->host, ep->port, ss, len_r));
	if (strlen(ep->path) >= sizeof(un->sun_path))
		return (-1);
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, ep->path);
	*len_r = sizeof(*un);
	return (0);
}

void
health_ask(struct process *p)
{
	const struct milter_conf *m = spawn_milter_of(p);
	struct sockaddr_storage ss;
	socklen_t len;

	if (p->health_sock != -1)
		return; /* the last one still waits */
	if (m == NULL || address_of(&m->endpoints[0], &ss, &len) == -1) {
		p->pong_ms = sup_now_ms(); /* a host's name: not asked */
		return;
	}
	p->health_sock =
	    socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->health_sock == -1)
		return;
	/* EAGAIN: the queue of its socket is full, so it does not accept */
	if (connect(p->health_sock, (struct sockaddr *)&ss, len) == -1 &&
	    errno != EINPROGRESS) {
		health_end(p);
		return;
	}
	p->health =
	    event_new(p->sup->base, p->health_sock, EV_WRITE, on_connected, p);
	if (p->health == NULL || event_add(p->health, NULL) == -1)
		health_end(p);
}
