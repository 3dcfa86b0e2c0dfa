/* SPDX-License-Identifier: ISC */

/*
 * serial_fakes - filters that follow a plan, all in one thread
 *
 * What they ask for tells what they saw: each change bears a hash of header and
 * body.
 */

#include "tests/unit/serial.h"

#include "milter-sdk/base/milter.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct listener_at {
	unsigned slot, k, endpoint;
	int fd;
	struct event *ev;
};

struct peer {
	struct peer *next, **self;
	struct plan *p;
	const struct filter *f;
	unsigned k, endpoint;
	enum run run;
	int fd;
	struct event *read, *timer;
	struct buf in, out;
	bool waited; /* for the packet in hand */
	bool over;   /* it has decided, until ABORT or the next message */
	bool dead, hard, ending;
	unsigned msg, rcpts, fields, chunks, packets;
	uint64_t hash;
};

static struct {
	struct plan *p;
	enum run run;
} slots[SLOTS];

static struct event_base *base;
static struct event *woken;
static struct peer *peers;
static struct listener_at at[SLOTS * FILTERS * ENDPOINTS];
static pthread_t thread;
static int wake[2];
static char where[64];

static void
need(int r)
{
	if (r == -1)
		abort();
}

/* ending - it takes its time for the end of a message, or no longer */
static void
ending(struct peer *c, bool on)
{
	struct plan *p = c->p;

	if (p->f[c->k].shadow) /* nobody waits for it */
		return;
	c->ending = on;
	if (!on) {
		p->ending &= ~(1u << c->k);
		return;
	}
	p->ending |= 1u << c->k;
	if ((p->ending & (p->ending - 1)) != 0)
		p->beside[c->run] = true;
}

static void
peer_free(struct peer *c)
{
	if (c->ending)
		ending(c, false);
	*c->self = c->next;
	if (c->next != NULL)
		c->next->self = c->self;
	event_free(c->read);
	event_free(c->timer);
	close(c->fd);
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

static void
hash_in(struct peer *c, const char *s, size_t n)
{
	while (n-- > 0)
		c->hash = (c->hash ^ (unsigned char)*s++) * 0x100000001b3ull;
}

static void
put2(struct buf *b, char code, const char *s1, const char *s2)
{
	const char *const s[] = { s1, s2 };

	need(milter_put_strings(b, code, s, s2 != NULL ? 2 : 1));
}

static void
put_change(struct peer *c, enum edit_kind e, const char *v, struct buf *b)
{
	char name[32], addr[64];

	snprintf(name, sizeof(name), "X-F%u", c->k);
	snprintf(addr, sizeof(addr), "<f%u@x.test>", c->k);
	switch (e) {
	case ADD_HEADER:
		put2(b, 'h', name, v);
		break;
	case INSERT_HEADER:
		need(milter_put_indexed(b, 'i', c->k % 3, name, v));
		break;
	case CHANGE_HEADER:
		need(milter_put_indexed(b, 'm', 1 + c->k % 2, "X-A", v));
		break;
	case DELETE_HEADER:
		need(milter_put_indexed(b, 'm', 1, "X-B", ""));
		break;
	case REPLACE_BODY:
		need(milter_put(b, 'b', v, strlen(v)));
		need(milter_put(b, 'b', "\r\n.more\n", 8));
		break;
	case ADD_RCPT:
		put2(b, '+', addr, NULL);
		break;
	case ADD_RCPT_PAR:
		snprintf(addr, sizeof(addr), "<p%u@x.test>", c->k);
		put2(b, '2', addr, "NOTIFY=NEVER");
		break;
	case DEL_RCPT:
		put2(b, '-', c->k % 2 == 0 ? "<r1@y.test>" : "<r3@y.test>",
		    NULL);
		break;
	case CHANGE_FROM:
		put2(b, 'e', addr, NULL);
		break;
	default:
		put2(b, 'q', v, NULL);
		break;
	}
}

/* put_changes - in an order of its own */
static void
put_changes(struct peer *c, struct buf *b)
{
	uint64_t h = mix(c->p->seed * 8 + c->k);
	unsigned i, e;
	char v[64];

	snprintf(
	    v, sizeof(v), "f%u saw %016llx", c->k, (unsigned long long)c->hash);
	for (i = 0; i < N_CHANGE; i++) {
		e = (unsigned)(h + i * (1 + 2 * (h >> 8 & 1))) % N_CHANGE;
		if ((c->f->changes & 1u << e) == 0)
			continue;
		put_change(c, (enum edit_kind)e, v, b);
		if (c->run == SERIAL)
			__atomic_fetch_or(
			    &c->p->asked, 1u << e, __ATOMIC_RELAXED);
	}
}

static void
put_offer(const struct peer *c, struct buf *b)
{
	struct milter_options o = { .version = 6,
		.actions = c->f->actions,
		.protocol = c->f->protocol };

	need(milter_put_options(b, &o));
}

static void
put_answer(const struct peer *c, char cmd, enum what w, struct buf *b)
{
	static const char codes[] = { 'c', 'a', 'r', 't', 'd', 0, 0, '4', 's',
		'Z' };
	char text[64];

	if (w == SAY_4YZ || w == SAY_5YZ) {
		snprintf(text, sizeof(text), "%s %d.7.1 f%u at %c",
		    w == SAY_4YZ ? "450" : "554", w == SAY_4YZ ? 4 : 5, c->k,
		    cmd);
		put2(b, 'y', text, NULL);
	} else if (cmd == 'O' && w == SAY_CONTINUE)
		put_offer(c, b);
	else
		need(milter_put(b, codes[w], NULL, 0));
}

/* die - softly: the other side sees the end, but what it sends is still read;
 * or hard: see go_on() */
static void
die(struct peer *c, bool hard)
{
	(void)!send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
	c->out.len = 0;
	c->dead = true;
	c->hard = hard;
	if (!hard)
		shutdown(c->fd, SHUT_WR);
}

/* act_on - what the plan says for this command */
static const struct act *
act_on(const struct peer *c, char cmd, unsigned nth)
{
	static const struct act none = { .what = SAY_CONTINUE };
	unsigned i;

	for (i = 0; i < c->f->n_acts; i++) {
		const struct act *a = &c->f->acts[i];

		/* Only its first endpoint dies, if there is another. */
		if (a->what >= DIE && c->endpoint > 0)
			continue;
		if (a->cmd == cmd && a->nth == nth &&
		    (strchr("OCHU", cmd) != NULL || (a->msgs >> c->msg & 1)))
			return (a);
	}
	return (&none);
}

static bool
due(const struct peer *c, char cmd)
{
	static const struct {
		char cmd;
		uint32_t nr;
	} rows[] = { { 'C', MILTER_NR_CONNECT }, { 'H', MILTER_NR_HELO },
		{ 'M', MILTER_NR_MAIL }, { 'R', MILTER_NR_RCPT },
		{ 'T', MILTER_NR_DATA }, { 'L', MILTER_NR_HEADER },
		{ 'N', MILTER_NR_EOH }, { 'B', MILTER_NR_BODY },
		{ 'U', MILTER_NR_UNKNOWN } };
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].cmd == cmd)
			return ((c->f->protocol & rows[i].nr) == 0);
	return (true);
}

static void
say(struct peer *c, char cmd, unsigned nth)
{
	const struct act *a = act_on(c, cmd, nth);
	struct buf b = BUF_INIT(1 << 20);
	enum what w = a->what;

	if (!due(c, cmd))
		return;
	if (c->run == SERIAL)
		__atomic_fetch_or(&c->p->said[strchr(STAGES, cmd) - STAGES],
		    1u << w, __ATOMIC_RELAXED);
	if (cmd == 'E')
		put_changes(c, &b);
	if (w >= DIE)
		need(milter_put(&b, 'c', NULL, 0));
	else
		put_answer(c, cmd, w, &b);
	if (w == DIE_HALFWAY)
		b.len = cmd == 'E' && b.len > 8 ? b.len / 2 + 1 : 3;
	if (w != DIE)
		need(buf_add(&c->out, b.data, b.len));
	buf_fini(&b);
	if (w >= DIE)
		die(c, a->hard);
	if (w != SAY_CONTINUE && w != SAY_SKIP)
		c->over |= strchr("MTLNBE", cmd) != NULL ||
		    (cmd == 'R' && w == SAY_ACCEPT);
}

/* new_message - the queue id comes with MAIL, wanted or not: its last letter
 * is the number of the message */
static void
new_message(struct peer *c, const struct milter_packet *p)
{
	struct milter_macro m[64];
	size_t i, n;
	char cmd;

	need(milter_get_macros(p, &cmd, m, 64, &n));
	if (cmd != 'M')
		return;
	c->over = false;
	c->rcpts = c->fields = c->chunks = 0;
	c->hash = 1;
	for (i = 0; i < n; i++)
		if (strcmp(m[i].name, "i") == 0)
			c->msg = (unsigned)(m[i].value[strlen(m[i].value) - 1] -
			    '0');
}

/* deaf - libmilter does not answer what its state does not expect: the rest of
 * a message that it has decided, content without a recipient */
static bool
deaf(const struct peer *c, char cmd)
{
	return (c->f->ignores &&
	    ((c->over && strchr("RTLNBE", cmd) != NULL) ||
	        (c->rcpts == 0 && (c->f->protocol & MILTER_NO_RCPT) == 0 &&
	            strchr("TLNBE", cmd) != NULL)));
}

static void
take(struct peer *c, const struct milter_packet *p)
{
	unsigned nth = 0;

	if (p->code == 'D') {
		new_message(c, p);
		return;
	}
	if (p->code == 'A' || p->code == 'M')
		c->over = false;
	if (strchr("AQK", p->code) != NULL || deaf(c, p->code))
		return;
	if (p->code == 'R') { /* "<rN@y.test>" */
		nth = (unsigned)(p->data[2] - '0');
		c->rcpts++;
	}
	if (p->code == 'L')
		nth = c->fields++;
	if (p->code == 'B')
		nth = c->chunks++;
	if (p->code == 'L' || p->code == 'B')
		hash_in(c, p->data, p->len);
	say(c, p->code, nth);
}

/* delay - in ms, other ones in each run; mostly at the end, where milters wait
 * for one another */
static unsigned
delay(const struct peer *c, char cmd)
{
	uint64_t h = mix(c->p->seed * 131 + c->run * 17 + c->k) ^
	    mix(c->packets * 7919u);
	unsigned often = strchr("ACDKQ", cmd) != NULL ? 0 : 20;

	h = mix(h);
	if (cmd == 'E' ? h % 4 == 0 : often == 0 || h % often != 0)
		return (0);
	return (1 + (unsigned)(h >> 32) % 3);
}

static void
flush(struct peer *c)
{
	if (c->out.len > 0)
		(void)!send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
	c->out.len = 0;
}

static void
go_on(struct peer *c)
{
	struct milter_packet p;
	struct timeval tv = { 0, 0 };
	size_t off = 0;
	long n;

	while (!c->dead &&
	    (n = milter_next(c->in.data + off, c->in.len - off, 1 << 20, &p)) >
	        0) {
		if (!c->waited && (tv.tv_usec = delay(c, p.code) * 1000) != 0) {
			c->waited = true;
			if (p.code == 'E' && !c->over)
				ending(c, true);
			break;
		}
		c->waited = false;
		if (c->ending)
			ending(c, false);
		c->packets++;
		off += (size_t)n;
		take(c, &p);
	}
	if (c->in.len > 0)
		memmove(c->in.data, c->in.data + off, c->in.len - off);
	c->in.len -= off;
	if (c->dead) {
		c->in.len = 0;
		if (c->hard)
			peer_free(c);
		return;
	}
	flush(c);
	if (c->waited) {
		event_del(c->read);
		need(event_add(c->timer, &tv));
	}
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct peer *c = arg;

	(void)fd;
	(void)what;
	need(event_add(c->read, NULL));
	go_on(c);
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	static char room[1 << 18];
	struct peer *c = arg;
	ssize_t n = recv(fd, room, sizeof(room), 0);

	(void)what;
	if (n <= 0) {
		peer_free(c);
		return;
	}
	if (c->dead)
		return;
	need(buf_add(&c->in, room, (size_t)n));
	go_on(c);
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	const struct listener_at *l = arg;
	struct peer *c;
	int s = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)what;
	if (s == -1)
		return;
	if ((c = calloc(1, sizeof(*c))) == NULL)
		abort();
	c->p = __atomic_load_n(&slots[l->slot].p, __ATOMIC_ACQUIRE);
	c->run = __atomic_load_n(&slots[l->slot].run, __ATOMIC_ACQUIRE);
	c->f = &c->p->f[l->k];
	c->k = l->k;
	c->endpoint = l->endpoint;
	c->fd = s;
	c->in.max = c->out.max = 4 << 20;
	c->read = event_new(base, s, EV_READ | EV_PERSIST, on_read, c);
	c->timer = event_new(base, -1, 0, on_timer, c);
	c->next = peers;
	if (peers != NULL)
		peers->self = &c->next;
	peers = c;
	c->self = &peers;
	if (c->read == NULL || c->timer == NULL)
		abort();
	need(event_add(c->read, NULL));
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	(void)event_base_loopbreak(base);
}

static void *
fakes_main(void *arg)
{
	(void)arg;
	(void)event_base_dispatch(base);
	return (NULL);
}

static void
path_of(const struct listener_at *l, struct sockaddr_un *un)
{
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof(un->sun_path), "%s/%u-%u-%u", where,
	    l->slot, l->k, l->endpoint);
}

static void
listen_at(unsigned i)
{
	struct listener_at *l = &at[i];
	struct sockaddr_un un;

	l->endpoint = i % ENDPOINTS;
	l->k = i / ENDPOINTS % FILTERS;
	l->slot = i / ENDPOINTS / FILTERS;
	path_of(l, &un);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	need(bind(l->fd, (struct sockaddr *)&un, sizeof(un)));
	need(listen(l->fd, 64));
	l->ev = event_new(base, l->fd, EV_READ | EV_PERSIST, on_accept, l);
	need(event_add(l->ev, NULL));
}

void
fakes_begin(const char *dir)
{
	unsigned i;

	snprintf(where, sizeof(where), "%s", dir);
	base = event_base_new();
	need(pipe(wake));
	woken = event_new(base, wake[0], EV_READ, on_wake, NULL);
	need(event_add(woken, NULL));
	for (i = 0; i < SLOTS * FILTERS * ENDPOINTS; i++)
		listen_at(i);
	if (pthread_create(&thread, NULL, fakes_main, NULL) != 0)
		abort();
}

void
fakes_end(void)
{
	struct sockaddr_un un;
	unsigned i;

	close(wake[1]);
	pthread_join(thread, NULL);
	while (peers != NULL)
		peer_free(peers);
	event_free(woken);
	close(wake[0]);
	for (i = 0; i < SLOTS * FILTERS * ENDPOINTS; i++) {
		path_of(&at[i], &un);
		event_free(at[i].ev);
		close(at[i].fd);
		(void)unlink(un.sun_path);
	}
	event_base_free(base);
}

void
fakes_follow(unsigned slot, struct plan *p, enum run run)
{
	__atomic_store_n(&slots[slot].run, run, __ATOMIC_RELEASE);
	__atomic_store_n(&slots[slot].p, p, __ATOMIC_RELEASE);
}
