/* SPDX-License-Identifier: ISC */

/*
 * spool - open, flush, tick and close; see spool.h for the contract
 */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_SEGMENT = 64 << 20, DEFAULT_INLINE = 4 << 20 };

uint64_t
spool_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

void
spool_alarm(struct spool *sp, const char *kind, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_err("spool: %s: %s", kind, text);
	if (sp->ev.alarm != NULL)
		sp->ev.alarm(sp->ev.arg, kind, text);
}

int
grow(void *arrayp, size_t *cap, size_t n, size_t size)
{
	void *p;

	if (n < *cap)
		return (0);
	n = *cap == 0 ? 16 : *cap * 2;
	memcpy(&p, arrayp, sizeof(p));
	if ((p = reallocarray(p, n, size)) == NULL)
		return (-1);
	memcpy(arrayp, &p, sizeof(p));
	*cap = n;
	return (0);
}

/* The file format: this, the salt in 16 hex digits, and the CRC-32C of both
 * lines in 8. */
#define FORMAT_HEAD "milldam spool 1\nsalt "

/* any_mail - is one of the names a segment's or a body's? */
static void
any_mail(void *arg, const char *name)
{
	bool *mail = arg;

	*mail |=
	    strncmp(name, "seg-", 4) == 0 || strncmp(name, "body-", 5) == 0;
}

/* format_new - a spool that is new: version and salt, in one step */
static int
format_new(struct spool *sp)
{
	bool mail = false;
	char text[80];
	int fd, n;

	/* a new salt would make what is there unreadable, and so lost */
	if (sp->io->list(sp->dir, any_mail, &mail) == -1)
		return (-1);
	if (mail) {
		errno = EPROTO;
		return (-1);
	}
	if (getrandom(&sp->salt, sizeof(sp->salt), 0) != sizeof(sp->salt))
		return (-1);
	n = snprintf(
	    text, sizeof(text), FORMAT_HEAD "%016" PRIx64 "\n", sp->salt);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "crc %08" PRIx32 "\n",
	    crc32c(0, text, (size_t)n));
	fd = sp->io->openat(
	    sp->dir, "format.new", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd == -1)
		return (-1);
	if (io_write(sp->io, fd, text, (size_t)n, 0) == -1 ||
	    sp->io->sync(fd) == -1) {
		(void)sp->io->close(fd);
		return (-1);
	}
	(void)sp->io->close(fd);
	if (sp->io->rename(sp->dir, "format.new", "format") == -1)
		return (-1);
	return (sp->io->syncdir(sp->dir));
}

/* format_parse - the salt; -1 with EPROTO.  Byte for byte: with a wrong salt
 * every record would look like none at all. */
static int
format_parse(struct spool *sp, const char *text, size_t n)
{
	const size_t head = strlen(FORMAT_HEAD);
	char want[80];
	uint32_t crc;

	if (n >= head + 17 && memcmp(text, FORMAT_HEAD, head) == 0 &&
	    sscanf(text + head, "%16" SCNx64, &sp->salt) == 1) {
		crc = crc32c(0, text, head + 17);
		snprintf(want, sizeof(want),
		    FORMAT_HEAD "%016" PRIx64 "\ncrc %08" PRIx32 "\n", sp->salt,
		    crc);
		if (n == strlen(want) && memcmp(text, want, n) == 0)
			return (0);
	}
	errno = EPROTO;
	return (-1);
}

static int
format_read(struct spool *sp)
{
	char text[80];
	ssize_t n;
	int fd = sp->io->openat(sp->dir, "format", O_RDONLY, 0);

	if (fd == -1) {
		if (errno != ENOENT)
			return (-1);
		if (!sp->opts.read_only)
			return (format_new(sp));
		n = 0;
	} else {
		n = sp->io->pread(fd, text, sizeof(text) - 1, 0);
		(void)sp->io->close(fd);
	}
	if (n < 0)
		return (-1);
	text[n] = '\0';
	if (format_parse(sp, text, (size_t)n) == 0)
		return (0);
	/* who only reads may guess, who writes may not */
	sp->salt_lost = sp->opts.read_only;
	return (sp->salt_lost ? 0 : -1);
}

/* folder_open - make, open and lock it */
static int
folder_open(struct spool *sp)
{
	const struct spool_io *io = sp->io;
	int flags = O_RDONLY | O_DIRECTORY;

	if (!sp->opts.read_only &&
	    io->mkdir(AT_FDCWD, sp->opts.dir, 0700) == -1 && errno != EEXIST)
		return (-1);
	if ((sp->dir = io->openat(AT_FDCWD, sp->opts.dir, flags, 0)) == -1)
		return (-1);
	if (sp->opts.read_only)
		return (0);
	sp->lock_fd =
	    openat(sp->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (sp->lock_fd == -1 || flock(sp->lock_fd, LOCK_EX | LOCK_NB) == -1)
		return (-1);
	if (io->mkdir(sp->dir, "corrupt", 0700) == -1 && errno != EEXIST)
		return (-1);
	return (0);
}

static int
by_seq(const void *a, const void *b)
{
	const struct ent *x = *(struct ent *const *)a;
	const struct ent *y = *(struct ent *const *)b;

	return (x->seq < y->seq ? -1 : x->seq > y->seq);
}

/* tell - one message that recovery found, to the caller */
static void
tell(struct spool *sp, struct ent *e)
{
	struct found_state *rec = e->rec;
	struct spool_found f = { .seq = e->seq };
	enum rcpt_state *states;
	size_t i;

	states = calloc(e->n_rcpts + 1, sizeof(*states));
	if (states == NULL || spool_read_envelope(sp, e->seq, &f.env) == -1) {
		spool_alarm(sp, "damage", "message %" PRIu64 ": %s", e->seq,
		    strerror(errno));
		free(states);
		return;
	}
	if (rec->no_body || spool_read_place(sp, e->seq, &f.place) == -1) {
		sp->stats.damaged++;
		spool_alarm(sp, "damage",
		    "message %" PRIu64 " (%s) has no body", e->seq, f.env.id);
		env_fini(&f.env);
		free(states);
		return;
	}
	for (i = 0; i < e->n_rcpts; i++)
		states[i] = (enum rcpt_state)rec->states[i];
	f.states = states;
	f.next_try_ms = rec->next_try_ms;
	f.attempts = rec->attempts;
	f.last_reply = rec->last_reply != NULL ? rec->last_reply : "";
	f.why = rec->why != NULL ? rec->why : "";
	f.held = rec->held;
	e->rec = NULL;
	sp->ev.found(sp->ev.arg, &f);
	free(states);
	free(rec->states);
	free(rec->last_reply);
	free(rec->why);
	free(rec);
}

static int
tell_all(struct spool *sp)
{
	struct ent **all, *e;
	size_t i, n = 0;

	if (sp->stats.messages_live == 0)
		return (0);
	if ((all = calloc(sp->stats.messages_live, sizeof(e))) == NULL)
		return (-1);
	for (i = 0; i < sp->n_hash; i++)
		for (e = sp->hash[i]; e != NULL; e = e->next)
			all[n++] = e;
	qsort(all, n, sizeof(e), by_seq);
	for (i = 0; i < n; i++)
		tell(sp, all[i]);
	free(all);
	return (0);
}

static void
options(struct spool *sp, const struct spool_opts *o)
{
	sp->opts = *o;
	if (sp->opts.segment_size == 0)
		sp->opts.segment_size = DEFAULT_SEGMENT;
	if (sp->opts.segment_size < SEG_MIN)
		sp->opts.segment_size = SEG_MIN;
	if (sp->opts.segment_size > SEG_MAX)
		sp->opts.segment_size = SEG_MAX;
	sp->opts.segment_size &= ~(uint64_t)4095;
	if (sp->opts.inline_max == 0)
		sp->opts.inline_max = DEFAULT_INLINE;
	/* a larger one would leave much of a segment unused */
	if (sp->opts.inline_max > sp->opts.segment_size / 4)
		sp->opts.inline_max = sp->opts.segment_size / 4;
}

/* ready - a segment to write and the reserve behind it */
static int
ready(struct spool *sp)
{
	char was[NAME_ROOM], name[NAME_ROOM];
	uint64_t num;

	while (sp->n_free < SEG_RESERVE + 1) {
		num = sp->next_file++;
		seg_name(was, "new", num);
		seg_name(name, "free", num);
		if (grow(&sp->free, &sp->cap_free, sp->n_free, sizeof(num)) ==
		        -1 ||
		    seg_make_free(sp, num, NULL) == -1 ||
		    sp->io->rename(sp->dir, was, name) == -1)
			return (-1);
		sp->free[sp->n_free++] = num;
	}
	if (seg_next(sp, true) == -1)
		return (-1);
	seg_recycle(sp);
	return (sync_start(sp));
}

struct spool *
spool_open_io(const struct spool_opts *opts, const struct spool_events *ev,
    const struct spool_io *io)
{
	struct spool *sp = calloc(1, sizeof(*sp));
	const char *step = "memory";
	int e;

	if (sp == NULL)
		return (NULL);
	sp->io = io;
	sp->ev = *ev;
	options(sp, opts);
	sp->dir = sp->lock_fd = sp->event = -1;
	sp->next_seq = sp->next_batch = sp->next_file = 1;
	sp->tail = &sp->waiting;
	pthread_mutex_init(&sp->sync.lock, NULL);
	pthread_cond_init(&sp->sync.cond, NULL);
	if (step = "open", folder_open(sp) == -1)
		goto bad;
	if (step = "format", format_read(sp) == -1)
		goto bad;
	if (step = "recover", recover(sp) == -1)
		goto bad;
	sp->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (step = "eventfd", sp->event == -1)
		goto bad;
	if (step = "reserve", !sp->opts.read_only && ready(sp) == -1)
		goto bad;
	if (step = "memory", tell_all(sp) == -1)
		goto bad;
	return (sp);
bad:
	e = errno;
	log_err("spool: %s: dir=%s error=%s", step, opts->dir, strerror(e));
	spool_close(&sp);
	errno = e;
	return (NULL);
}

struct spool *
spool_open(const struct spool_opts *opts, const struct spool_events *ev)
{
	return (spool_open_io(opts, ev, &spool_io_os));
}

/* drain - all that was put becomes durable */
static void
drain(struct spool *sp)
{
	while (sp->cur != NULL || sp->waiting != NULL || sp->flight != NULL ||
	    sp->lost != NULL) {
		journal_write(sp);
		sync_ask(sp);
		sync_wait(sp);
		sync_done(sp);
	}
}

void
spool_close(struct spool **spp)
{
	struct spool *sp = *spp;
	struct bodyfile *b;
	struct ent *e;
	size_t i;

	*spp = NULL;
	if (sp == NULL)
		return;
	if (sp->sync.running)
		drain(sp);
	sync_stop(sp);
	for (i = 0; i < sp->n_hash; i++)
		while ((e = sp->hash[i]) != NULL) {
			e->body = 0; /* stays */
			ent_del(sp, e);
		}
	while ((b = sp->bodies) != NULL) {
		sp->bodies = b->next;
		free(b);
	}
	for (i = 0; i < sp->n_segs; i++) {
		(void)sp->io->close(sp->segs[i]->fd);
		free(sp->segs[i]);
	}
	free(sp->segs);
	free(sp->free);
	free(sp->hash);
	free(sp->gone);
	if (sp->event != -1)
		close(sp->event);
	if (sp->dir != -1)
		(void)sp->io->close(sp->dir);
	if (sp->lock_fd != -1)
		close(sp->lock_fd);
	pthread_mutex_destroy(&sp->sync.lock);
	pthread_cond_destroy(&sp->sync.cond);
	free(sp);
}

void
spool_flush(struct spool *sp)
{
	journal_write(sp);
	/* outcomes alone wait for a message or the next tick */
	if (sp->urgent)
		sync_ask(sp);
}

int
spool_fd(const struct spool *sp)
{
	return (sp->event);
}

void
spool_synced(struct spool *sp)
{
	uint64_t n;

	if (read(sp->event, &n, sizeof(n)) == -1 && errno != EAGAIN)
		log_err("spool: eventfd: error=%s", strerror(errno));
	sync_done(sp);
}

void
spool_tick(struct spool *sp)
{
	move_step(sp);
	journal_write(sp);
	sync_ask(sp);
	sync_prepared(sp);
	sync_prepare(sp);
	seg_recycle(sp); /* under steady load some sync is always in flight */
}

bool
spool_busy(const struct spool *sp)
{
	const struct seg *g;

	if (sp->n_segs == 0) /* read-only */
		return (false);
	g = sp->segs[0];
	return (sp->cur != NULL || sp->waiting != NULL || sp->flight != NULL ||
	    sp->lost != NULL || sp->n_free <= SEG_RESERVE || move_wanted(sp) ||
	    (sp->n_segs > 1 && g->live == 0 && g->pins == 0));
}

void
spool_stats(const struct spool *sp, struct spool_stats *stats_r)
{
	*stats_r = sp->stats;
}
