/* SPDX-License-Identifier: ISC */

/*
 * envelope - who sends what to whom, and what was learnt about the client
 *
 * The packed form travels between processes and lies in the spool
 * (docs/spool-format.md): new members go at the end and raise ENV_VERSION.
 */

#include "core/smtp/envelope.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ENV_VERSION = 1 };

/* The string members, in packed order; one list serves init, free and both
 * codecs. */
#define STRINGS(X)                                                             \
	X(sender)                                                              \
	X(envid)                                                               \
	X(hold_reason)                                                         \
	X(hold_by)                                                             \
	X(client_addr)                                                         \
	X(client_name)                                                         \
	X(helo)                                                                \
	X(proto)                                                               \
	X(tls)                                                                 \
	X(auth_user)                                                           \
	X(listener)                                                            \
	X(policy)                                                              \
	X(policy_hash)

int
env_set(char **member, const char *s)
{
	char *copy = strdup(s != NULL ? s : "");

	if (copy == NULL)
		return (-1);
	free(*member);
	*member = copy;
	return (0);
}

static int
route_init(struct route *r)
{
	memset(r, 0, sizeof(*r));
	if (env_set(&r->host, "") == -1 || env_set(&r->addr, "") == -1 ||
	    env_set(&r->text, "") == -1) {
		route_fini(r);
		return (-1);
	}
	return (0);
}

void
route_fini(struct route *r)
{
	free(r->host);
	free(r->addr);
	free(r->text);
	memset(r, 0, sizeof(*r));
}

int
route_copy(struct route *to, const struct route *from)
{
	struct route r;

	memset(&r, 0, sizeof(r));
	r.mailer = from->mailer;
	r.port = from->port;
	if (env_set(&r.host, from->host) == -1 ||
	    env_set(&r.addr, from->addr) == -1 ||
	    env_set(&r.text, from->text) == -1) {
		route_fini(&r);
		return (-1);
	}
	route_fini(to);
	*to = r;
	return (0);
}

int
env_init(struct envelope *e)
{
	memset(e, 0, sizeof(*e));
#define X(m)                                                                   \
	if (env_set(&e->m, "") == -1)                                          \
		goto fail;
	STRINGS(X)
#undef X
	return (0);

fail:
	env_fini(e);
	return (-1);
}

static void
rcpt_fini(struct rcpt *r)
{
	free(r->addr);
	free(r->orcpt);
	route_fini(&r->route);
}

void
env_fini(struct envelope *e)
{
	size_t i;

#define X(m) free(e->m);
	STRINGS(X)
#undef X
	for (i = 0; i < e->n_rcpts; i++)
		rcpt_fini(&e->rcpts[i]);
	free(e->rcpts);
	memset(e, 0, sizeof(*e));
}

struct rcpt *
env_add_rcpt(struct envelope *e, const char *addr)
{
	struct rcpt *r;
	size_t n = e->n_rcpts;

	if (n >= ENV_RCPTS_MAX) {
		errno = E2BIG;
		return (NULL);
	}
	/* Room doubles at powers of two; no capacity member is needed. */
	if ((n & (n - 1)) == 0) {
		r = realloc(e->rcpts, (n == 0 ? 1 : 2 * n) * sizeof(*r));
		if (r == NULL)
			return (NULL);
		e->rcpts = r;
	}
	r = &e->rcpts[n];
	memset(r, 0, sizeof(*r));
	if (env_set(&r->addr, addr) == -1 || env_set(&r->orcpt, "") == -1 ||
	    route_init(&r->route) == -1) {
		rcpt_fini(r);
		return (NULL);
	}
	e->n_rcpts++;
	return (r);
}

void
env_del_rcpt(struct envelope *e, size_t i)
{
	struct rcpt *r;

	rcpt_fini(&e->rcpts[i]);
	memmove(&e->rcpts[i], &e->rcpts[i + 1],
	    (e->n_rcpts - i - 1) * sizeof(*e->rcpts));
	e->n_rcpts--;
	/* Keep env_add_rcpt()'s rule: room is the next power of two. */
	if (e->n_rcpts > 0 && (e->n_rcpts & (e->n_rcpts - 1)) == 0 &&
	    (r = realloc(e->rcpts, e->n_rcpts * sizeof(*r))) != NULL)
		e->rcpts = r;
	if (e->n_rcpts == 0) {
		free(e->rcpts);
		e->rcpts = NULL;
	}
}

void
route_pack(struct packer *k, const struct route *r)
{
	pack_u8(k, (uint8_t)r->mailer);
	pack_u16(k, r->port);
	pack_str(k, r->host);
	pack_str(k, r->addr);
	pack_str(k, r->text);
}

int
route_make(struct route *r, enum mailer mailer, const char *host, uint16_t port,
    const char *addr, const char *text)
{
	memset(r, 0, sizeof(*r));
	r->mailer = mailer;
	r->port = port;
	if (env_set(&r->host, host) == -1 || env_set(&r->addr, addr) == -1 ||
	    env_set(&r->text, text) == -1) {
		route_fini(r);
		return (-1);
	}
	return (0);
}

int
route_unpack(struct unpacker *u, struct route *r)
{
	uint8_t mailer = unpack_u8(u);
	uint16_t port = unpack_u16(u);
	const char *host = unpack_str(u), *addr = unpack_str(u),
	           *text = unpack_str(u);

	if (u->failed || mailer > MAILER_DISCARD) {
		errno = EPROTO;
		return (-1);
	}
	return (route_make(r, (enum mailer)mailer, host, port, addr, text));
}

void
env_pack(struct packer *k, const struct envelope *e)
{
	size_t i;

	pack_u16(k, ENV_VERSION);
	pack_str(k, e->id);
	pack_u64(k, e->arrival_ms);
	pack_u32(k, e->flags);
	pack_u16(k, e->hops);
	pack_u16(k, e->group);
	pack_u16(k, e->client_port);
#define X(m) pack_str(k, e->m);
	STRINGS(X)
#undef X
	pack_u32(k, (uint32_t)e->n_rcpts);
	for (i = 0; i < e->n_rcpts; i++) {
		const struct rcpt *r = &e->rcpts[i];

		pack_str(k, r->addr);
		pack_str(k, r->orcpt);
		pack_u8(k, r->notify);
		route_pack(k, &r->route);
	}
}

static int
unpack_rcpt(struct unpacker *u, struct envelope *e)
{
	const char *addr = unpack_str(u), *orcpt = unpack_str(u);
	uint8_t notify = unpack_u8(u);
	struct route route;
	struct rcpt *r;

	if (route_unpack(u, &route) == -1)
		return (-1);
	if ((r = env_add_rcpt(e, addr)) == NULL ||
	    env_set(&r->orcpt, orcpt) == -1) {
		route_fini(&route);
		return (-1);
	}
	r->notify = notify;
	route_fini(&r->route);
	r->route = route;
	return (0);
}

int
env_unpack(struct unpacker *u, struct envelope *e)
{
	const char *id;
	uint32_t i, n;

	if (env_init(e) == -1)
		return (-1);
	if (unpack_u16(u) != ENV_VERSION)
		goto bad;
	id = unpack_str(u);
	if (u->failed || id[0] == '\0' || strlen(id) >= sizeof(e->id))
		goto bad;
	memcpy(e->id, id, strlen(id) + 1);
	e->arrival_ms = unpack_u64(u);
	e->flags = unpack_u32(u);
	e->hops = unpack_u16(u);
	e->group = unpack_u16(u);
	e->client_port = unpack_u16(u);
#define X(m)                                                                   \
	if (env_set(&e->m, unpack_str(u)) == -1)                               \
		goto fail;
	STRINGS(X)
#undef X
	n = unpack_u32(u);
	if (u->failed || n > ENV_RCPTS_MAX)
		goto bad;
	for (i = 0; i < n; i++)
		if (unpack_rcpt(u, e) == -1)
			goto fail;
	return (0);

bad:
	errno = EPROTO;
fail:
	env_fini(e);
	return (-1);
}
