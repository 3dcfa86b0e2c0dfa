/* SPDX-License-Identifier: ISC */

/* The spool's promise: what was reported durable is there after any stop. */

#include "core/spool/spool_int.h"
#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/log.h"
#include "tests/lib/files.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEGMENT = 256 * 1024, KEEP = 4096 };

static char dir[64];

struct seen {
	uint64_t seqs[KEEP];
	struct spool_place places[KEEP];
	char ids[KEEP][ENV_ID_MAX];
	enum rcpt_state first[KEEP];
	size_t n;
	uint64_t ok, lost, alarms, held;
	unsigned attempts;
	char reply[64], why[64];
	int ack; /* pipe for acknowledgements, or -1 */
};

static struct seen seen;

static void
on_found(void *arg, struct spool_found *f)
{
	struct seen *s = arg;

	if (s->n < KEEP) {
		s->seqs[s->n] = f->seq;
		s->places[s->n] = f->place;
		memcpy(s->ids[s->n], f->env.id, ENV_ID_MAX);
		s->first[s->n] = f->env.n_rcpts > 0 ? f->states[0] : 0;
		s->n++;
	}
	s->held += f->held;
	s->attempts = f->attempts;
	snprintf(s->reply, sizeof(s->reply), "%s", f->last_reply);
	snprintf(s->why, sizeof(s->why), "%s", f->why);
	env_fini(&f->env);
}

static void
on_synced(void *arg, uint64_t seq, bool ok)
{
	struct seen *s = arg;

	ok ? s->ok++ : s->lost++;
	if (ok && s->ack != -1 && write(s->ack, &seq, sizeof(seq)) == -1)
		_exit(1);
}

static void
on_alarm(void *arg, const char *kind, const char *text)
{
	struct seen *s = arg;

	(void)kind;
	(void)text;
	s->alarms++;
}

/* on_state - what the tests' messages are, once they are moved */
static int
on_state(void *arg, uint64_t seq, const char *id, struct spool_state *st)
{
	(void)arg;
	(void)id;
	st->states[0] = RCPT_FAILED;
	st->held = seq == 1;
	st->attempts = 7;
	st->next_try_ms = 77;
	st->reply = "moved";
	return (1);
}

static struct spool *
reopen_io(const struct spool_io *io)
{
	struct spool_opts o = { .dir = dir, .segment_size = SEGMENT };
	struct spool_events ev = { on_found, on_synced, on_alarm, &seen,
		on_state };

	memset(&seen, 0, sizeof(seen));
	seen.ack = -1;
	return (spool_open_io(&o, &ev, io));
}

static struct spool *
reopen(void)
{
	return (reopen_io(&spool_io_os));
}

static void
fresh(void)
{
	snprintf(dir, sizeof(dir), "spool-test-XXXXXX");
	if (mkdtemp(dir) == NULL)
		abort();
}

/* content - bytes that depend on the number, so that any mix-up shows */
static size_t
content(uint64_t k, char *out, size_t room)
{
	size_t i, n = (size_t)(k * 7919 % 5000) + 1;

	if (n > room)
		n = room;
	for (i = 0; i < n; i++)
		out[i] = (char)('a' + (k + i * 31) % 26);
	return (n);
}

static uint64_t
put(struct spool *sp, uint64_t k, unsigned rcpts)
{
	static char data[8192];
	struct spool_new m = { .fd = -1,
		.record = "decided",
		.received = "H: v\r\n",
		.received_len = 6 };
	struct spool_place place;
	struct envelope env;
	uint64_t seq = 0;
	unsigned i;

	if (env_init(&env) == -1)
		abort();
	snprintf(env.id, sizeof(env.id), "ID%08llu", (unsigned long long)k);
	for (i = 0; i < rcpts; i++)
		if (env_add_rcpt(&env, "a@example.org") == NULL)
			abort();
	m.env = &env;
	m.content = data;
	m.length = content(k, data, sizeof(data));
	m.crc = crc32c(0, data, m.length);
	if (spool_put_message(sp, &m, &seq, &place) == -1)
		seq = 0;
	env_fini(&env);
	return (seq);
}

static void
settle(struct spool *sp)
{
	struct pollfd p = { .fd = spool_fd(sp), .events = POLLIN };
	int i;

	for (i = 0; i < 200; i++) {
		spool_tick(sp);
		if (sp->flight == NULL && sp->waiting == NULL &&
		    sp->cur == NULL && sp->lost == NULL)
			return;
		if (poll(&p, 1, 50) == 1)
			spool_synced(sp);
	}
}

/* matches - the message's id says which content it must have */
static bool
matches(struct spool *sp, uint64_t seq)
{
	char want[8192];
	struct buf b = BUF_INIT(1 << 20);
	struct envelope env;
	bool ok;
	size_t n;

	if (spool_read_envelope(sp, seq, &env) == -1)
		return (false);
	n = content(strtoull(env.id + 2, NULL, 10), want, sizeof(want));
	ok = spool_read_content(sp, seq, &b, 1 << 20) == 0 && b.len == n &&
	    memcmp(b.data, want, n) == 0;
	env_fini(&env);
	buf_fini(&b);
	return (ok);
}

static void
keeps_messages_over_a_restart(void)
{
	struct buf b = BUF_INIT(100);
	struct spool *sp;
	uint64_t k;
	size_t i;

	fresh();
	T_OK((sp = reopen()) != NULL);
	for (k = 1; k <= 300; k++) {
		T_OK(put(sp, k, 1) == k);
		if (k % 7 == 0)
			spool_flush(sp);
	}
	T_OK(matches(sp, 300)); /* not written yet */
	settle(sp);
	T_OK(seen.ok == 300 && seen.lost == 0);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 300);
	for (i = 0; i < seen.n; i++)
		T_OK(seen.seqs[i] == i + 1 && matches(sp, i + 1));
	T_OK(spool_read_record(sp, 5, &b) == 0);
	T_STR(b.data, "decided");
	buf_fini(&b);
	T_OK(put(sp, 301, 1) == 301);
	T_OK(seen.alarms == 0);
	spool_close(&sp);
	wipe_in(dir);
}

static void
forgets_what_is_finished_and_recycles(void)
{
	struct spool_stats st;
	struct spool *sp;
	uint64_t k, s;

	fresh();
	T_OK((sp = reopen()) != NULL);
	for (k = 1; k <= 2000; k++) {
		T_OK((s = put(sp, k, 2)) != 0);
		spool_put_done(sp, s, 0, RCPT_DONE, "250 ok");
		spool_put_done(sp, s, 0, RCPT_DONE, "250 again");
		spool_put_done(sp, s, 1, RCPT_FAILED, "550 no");
		if (k % 20 == 0)
			settle(sp);
	}
	settle(sp);
	spool_stats(sp, &st);
	T_OK(st.messages_live == 0);
	T_OK(st.segments <= 2);
	T_OK(st.recycled > 10);
	T_OK(spool_file_gone(sp) != 0);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 0);
	T_OK(put(sp, 1, 1) == 2001);
	spool_close(&sp);
	wipe_in(dir);
}

static void
keeps_outcomes_holds_and_deferrals(void)
{
	struct spool *sp;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 2) == 1 && put(sp, 2, 1) == 2);
	spool_put_done(sp, 1, 0, RCPT_FAILED, "550 no");
	spool_put_deferred(sp, 1, 12345, 3, "451 later");
	spool_put_hold(sp, 1, true, "virus");
	spool_put_drop(sp, 2, "admin");
	settle(sp);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 1 && seen.first[0] == RCPT_FAILED);
	T_OK(seen.attempts == 3 && seen.held == 1);
	T_STR(seen.reply, "451 later");
	spool_close(&sp);
	wipe_in(dir);
}

/* pass - n messages that come and go */
static void
traffic(struct spool *sp, uint64_t k, int n)
{
	uint64_t s;

	for (; n > 0; n--, k++) {
		T_OK((s = put(sp, k, 1)) != 0);
		spool_put_done(sp, s, 0, RCPT_DONE, "250");
		if (n % 20 == 0 || n == 1)
			settle(sp);
	}
}

static void
one_that_stays_does_not_keep_the_journal(void)
{
	struct spool_stats st;
	struct spool *sp;
	uint64_t file, k;
	int turn;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 2) == 1 && put(sp, 2, 100) == 2);
	spool_put_done(sp, 1, 0, RCPT_FAILED, "550 no");
	spool_put_done(sp, 2, 0, RCPT_FAILED, "550 no");
	spool_put_done(sp, 2, 99, RCPT_DONE, "250");
	spool_put_hold(sp, 1, true, "virus");
	settle(sp);
	file = sp->segs[0]->num;
	for (turn = 0; turn < 4; turn++) {
		traffic(sp, 3 + (uint64_t)turn * 1500, 1500);
		spool_stats(sp, &st);
		T_OK(st.messages_live == 2);
		T_OK(st.segments <= 6);
		T_OK(sp->segs[0]->num != file);
		T_OK(matches(sp, 1) && matches(sp, 2));
		T_OK(spool_verify_content(sp, 1) == 0);
		spool_close(&sp);
		T_OK((sp = reopen()) != NULL);
		T_OK(seen.n == 2 && seen.alarms == 0 && seen.held == 1);
		T_OK(seen.seqs[0] == 1 && seen.seqs[1] == 2);
		T_OK(seen.first[0] == RCPT_FAILED &&
		    seen.first[1] == RCPT_FAILED);
		T_OK(seen.attempts == 7);
		T_STR(seen.reply, "moved");
	}
	for (k = 1; k < 99; k++)
		spool_put_done(sp, 2, (uint32_t)k, RCPT_DONE, "250");
	spool_put_drop(sp, 1, "admin");
	settle(sp);
	spool_stats(sp, &st);
	T_OK(st.messages_live == 0);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 0 && seen.alarms == 0 && sp->live_bytes == 0);
	spool_close(&sp);
	wipe_in(dir);
}

static void
does_not_recycle_what_is_pinned(void)
{
	struct spool_stats st;
	struct spool *sp;
	uint64_t k, s, file;

	fresh();
	T_OK((sp = reopen()) != NULL);
	file = sp->segs[0]->num;
	T_OK(spool_pin(sp, file) == 0);
	for (k = 1; k <= 500; k++) {
		s = put(sp, k, 1);
		spool_put_done(sp, s, 0, RCPT_DONE, "250");
		settle(sp);
	}
	spool_stats(sp, &st);
	T_OK(st.recycled == 0 && sp->segs[0]->num == file);
	spool_unpin(sp, file);
	spool_tick(sp);
	spool_stats(sp, &st);
	T_OK(st.recycled > 0);
	spool_close(&sp);
	wipe_in(dir);
}

static void
keeps_a_large_body_in_a_file(void)
{
	static char big[300 * 1024];
	struct spool_new m = {
		.content = NULL, .length = sizeof(big) - 10, .offset = 10
	};
	struct spool_place pl;
	struct envelope env;
	struct spool *sp;
	uint64_t seq;
	int fd;

	fresh();
	memset(big, 'x', sizeof(big));
	T_OK((sp = reopen()) != NULL);
	T_OK(env_init(&env) == 0 && env_add_rcpt(&env, "a@b") != NULL);
	snprintf(env.id, sizeof(env.id), "ID1");
	T_OK((m.fd = fd = spool_big_file(sp)) != -1);
	T_OK(io_write(&spool_io_os, fd, big, sizeof(big), 0) == 0);
	m.env = &env;
	m.crc = crc32c(0, big + 10, sizeof(big) - 10);
	T_OK(spool_put_message(sp, &m, &seq, &pl) == 0);
	close(fd);
	T_OK(pl.offset == 10 && pl.length == sizeof(big) - 10);
	settle(sp);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 1 && seen.places[0].file == pl.file);
	T_OK(spool_verify_content(sp, seq) == 0);
	T_OK(spool_pin(sp, pl.file) == 0);
	spool_put_done(sp, seq, 0, RCPT_DONE, "250");
	settle(sp);
	T_OK((fd = spool_file_fd(sp, pl.file)) != -1);
	close(fd);
	spool_unpin(sp, pl.file);
	T_OK(spool_file_fd(sp, pl.file) == -1);
	env_fini(&env);
	spool_close(&sp);
	wipe_in(dir);
}

/* copies - a segment's file as it is now, for damage */
static int
segment_fd(uint64_t num)
{
	char name[NAME_ROOM], path[128];

	seg_name(name, "seg", num);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return (open(path, O_RDWR));
}

static void
flip(uint64_t file, uint64_t off)
{
	int fd = segment_fd(file);
	char c;

	if (pread(fd, &c, 1, (off_t)off) != 1)
		abort();
	c ^= 4;
	if (pwrite(fd, &c, 1, (off_t)off) != 1)
		abort();
	close(fd);
}

static void
sets_a_damaged_record_aside_and_goes_on(void)
{
	struct spool_place pl;
	struct spool *sp;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 1) == 1 && put(sp, 2, 1) == 2 && put(sp, 3, 1) == 3);
	settle(sp);
	T_OK(spool_read_place(sp, 2, &pl) == 0);
	spool_close(&sp);
	flip(pl.file, pl.offset);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 2 && seen.alarms == 1 && sp->stats.damaged == 1);
	T_OK(seen.seqs[0] == 1 && seen.seqs[1] == 3);
	spool_close(&sp);
	wipe_in(dir);
}

static void
goes_on_after_a_damaged_header_too(void)
{
	struct spool *sp;
	uint64_t off, file;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 1) == 1 && put(sp, 2, 1) == 2 && put(sp, 3, 1) == 3);
	settle(sp);
	off = ent_find(sp, 1)->off;
	file = ent_find(sp, 1)->seg;
	spool_close(&sp);
	flip(file, off + 9);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 2 && seen.alarms == 1);
	spool_close(&sp);
	wipe_in(dir);
}

static void
drops_a_torn_tail_but_keeps_an_intact_message_of_it(void)
{
	struct spool *sp;
	uint64_t end, file, second;
	char zeros[4096] = { 0 };
	int fd;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 1) == 1);
	settle(sp);
	T_OK(put(sp, 3, 1) == 2 && put(sp, 4, 1) == 3);
	settle(sp);
	second = ent_find(sp, 3)->off;
	file = ent_find(sp, 3)->seg;
	end = sp->segs[sp->n_segs - 1]->used;
	spool_close(&sp);
	/* the last batch lost its end: commit and most of its last message */
	fd = segment_fd(file);
	for (; end > second + 100; end -= end - second > 4096 ? 4096 : 100)
		if (pwrite(fd, zeros, 100, (off_t)end - 100) != 100)
			abort();
	if (pwrite(fd, zeros, sizeof(zeros), (off_t)second + 60) == -1 ||
	    pwrite(fd, zeros, sizeof(zeros), (off_t)second + 2048) == -1)
		abort();
	close(fd);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 1 && seen.seqs[0] == 1);
	T_OK(seen.alarms == 1); /* message 2 was whole: in corrupt/ */
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 1 && seen.alarms == 0); /* told once */
	spool_close(&sp);
	wipe_in(dir);
}

/* put_set - n messages as one, numbered from k; size 0: their own content */
static int
put_set(struct spool *sp, uint64_t k, size_t n, size_t size)
{
	static char data[4][200 * 1024];
	struct spool_new m[4];
	struct spool_place places[4];
	struct envelope envs[4];
	uint64_t seqs[4];
	size_t i;
	int r;

	memset(m, 0, sizeof(m));
	for (i = 0; i < n; i++) {
		if (env_init(&envs[i]) == -1 ||
		    env_add_rcpt(&envs[i], "a@example.org") == NULL)
			abort();
		snprintf(envs[i].id, sizeof(envs[i].id), "ID%08llu",
		    (unsigned long long)(k + i));
		m[i].env = &envs[i];
		m[i].fd = -1;
		m[i].record = "decided";
		m[i].received = "";
		m[i].content = data[i];
		m[i].length = content(k + i, data[i], 8192);
		if (size > 0)
			m[i].length = size;
		m[i].crc = crc32c(0, data[i], m[i].length);
	}
	r = spool_put_messages(sp, m, n, seqs, places);
	for (i = 0; i < n; i++)
		env_fini(&envs[i]);
	return (r);
}

static void
a_set_is_there_whole_or_not_at_all(void)
{
	char *zeros = calloc(1, SEGMENT);
	struct spool *sp;
	uint64_t from, to, cut, file, k;
	int fd;

	/* over the ends of many segments */
	fresh();
	T_OK((sp = reopen()) != NULL);
	for (k = 1; k < 600; k += 4) {
		T_OK(put_set(sp, k, 4, 0) == 0);
		if (k % 24 == 1)
			settle(sp);
	}
	settle(sp);
	T_OK(seen.ok == 600 && seen.lost == 0);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 600 && seen.alarms == 0);
	for (k = 1; k <= 600; k += 7)
		T_OK(matches(sp, k));
	spool_close(&sp);
	wipe_in(dir);
	/* torn anywhere */
	for (cut = 0, to = 1, from = 0; cut < to - from; cut += 509) {
		fresh();
		T_OK((sp = reopen()) != NULL);
		T_OK(put(sp, 1, 1) == 1);
		settle(sp);
		file = sp->segs[sp->n_segs - 1]->num;
		from = sp->segs[sp->n_segs - 1]->used;
		T_OK(put_set(sp, 2, 4, 0) == 0);
		settle(sp);
		to = sp->segs[sp->n_segs - 1]->used;
		spool_close(&sp);
		fd = segment_fd(file);
		T_OK(pwrite(fd, zeros, to - from - cut, (off_t)(from + cut)) ==
		    (ssize_t)(to - from - cut));
		close(fd);
		T_OK((sp = reopen()) != NULL);
		T_OK(seen.n == 1);
		spool_close(&sp);
		wipe_in(dir);
	}
	free(zeros);
}

static void
a_set_that_does_not_fit_leaves_nothing(void)
{
	struct spool_stats st;
	struct spool *sp;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 1) == 1);
	T_OK(put_set(sp, 2, 4, SEGMENT / 4) == -1 && errno == EMSGSIZE);
	spool_stats(sp, &st);
	T_OK(st.messages_live == 1);
	T_OK(put_set(sp, 2, 4, 0) == 0);
	settle(sp);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 5);
	spool_close(&sp);
	wipe_in(dir);
}

/* instead - put_set() in the place of old */
static int
instead(struct spool *sp, uint64_t old, uint64_t k)
{
	static char data[2][8192];
	struct spool_new m[2];
	struct spool_place places[2];
	struct envelope envs[2];
	uint64_t seqs[2];
	size_t i;
	int r;

	memset(m, 0, sizeof(m));
	for (i = 0; i < 2; i++) {
		if (env_init(&envs[i]) == -1 ||
		    env_add_rcpt(&envs[i], "a@example.org") == NULL)
			abort();
		snprintf(envs[i].id, sizeof(envs[i].id), "ID%08llu",
		    (unsigned long long)(k + i));
		m[i].env = &envs[i];
		m[i].fd = -1;
		m[i].record = "decided";
		m[i].received = "";
		m[i].origin = "facts";
		m[i].origin_len = i == 0 ? 5 : 0;
		m[i].content = data[i];
		m[i].length = content(k + i, data[i], sizeof(data[i]));
		m[i].crc = crc32c(0, data[i], m[i].length);
	}
	r = spool_put_instead(sp, old, m, 2, seqs, places);
	for (i = 0; i < 2; i++)
		env_fini(&envs[i]);
	return (r);
}

static void
one_takes_the_place_of_another_in_one_batch(void)
{
	char *zeros = calloc(1, SEGMENT);
	struct buf b = BUF_INIT(100);
	struct spool *sp;
	uint64_t from, to, cut, file;
	int fd;

	for (cut = 0, to = 1, from = 0; cut <= to - from; cut += 97) {
		bool whole;

		fresh();
		T_OK((sp = reopen()) != NULL);
		T_OK(put(sp, 1, 1) == 1);
		settle(sp);
		file = sp->segs[sp->n_segs - 1]->num;
		from = sp->segs[sp->n_segs - 1]->used;
		T_OK(instead(sp, 1, 2) == 0);
		T_OK(instead(sp, 1, 2) == -1 && errno == ENOENT);
		spool_put_drop(sp, 1, "no");
		T_OK(matches(sp, 1)); /* not over yet */
		settle(sp);
		to = sp->segs[sp->n_segs - 1]->used;
		T_OK(seen.ok == 3 && !matches(sp, 1) && matches(sp, 2));
		spool_close(&sp);
		whole = cut >= to - from;
		fd = segment_fd(file);
		T_OK(whole ||
		    pwrite(fd, zeros, to - from - cut, (off_t)(from + cut)) ==
		        (ssize_t)(to - from - cut));
		close(fd);
		T_OK((sp = reopen()) != NULL);
		T_OK(seen.n == (whole ? 2 : 1));
		T_OK(matches(sp, seen.seqs[0]));
		T_STR(seen.ids[0], whole ? "ID00000002" : "ID00000001");
		T_OK(!whole ||
		    (spool_read_origin(sp, 2, &b) == 0 && b.len == 5 &&
		        memcmp(b.data, "facts", 5) == 0));
		b.len = 0;
		T_OK(!whole ||
		    (spool_read_origin(sp, 3, &b) == 0 && b.len == 0));
		buf_fini(&b);
		spool_close(&sp);
		wipe_in(dir);
		if (!whole && cut + 97 > to - from)
			cut = to - from - 97; /* once without damage */
	}
	free(zeros);
}

/* file_named - a file of the spool, for damage */
static int
file_named(const char *name, int flags)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return (open(path, flags, 0600));
}

static void
refuses_a_spool_whose_format_file_is_damaged_or_gone(void)
{
	struct spool_opts o = { .dir = dir, .read_only = true };
	struct spool_events ev = { on_found, on_synced, on_alarm, &seen,
		on_state };
	char text[80], path[128];
	struct spool *sp;
	ssize_t n, i;
	int fd;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 1) == 1);
	settle(sp);
	spool_close(&sp);
	T_OK((fd = file_named("format", O_RDWR)) != -1);
	T_OK((n = read(fd, text, sizeof(text))) > 0);
	for (i = 0; i < n; i++) {
		text[i] ^= 1;
		T_OK(pwrite(fd, text, (size_t)n, 0) == n);
		/* another salt would make every message invisible */
		T_OK((sp = reopen()) == NULL && errno == EPROTO);
		memset(&seen, 0, sizeof(seen));
		T_OK((sp = spool_open(&o, &ev)) != NULL);
		T_OK(seen.n == 1 && seen.alarms == 1);
		spool_close(&sp);
		text[i] ^= 1;
	}
	close(fd);
	snprintf(path, sizeof(path), "%s/format", dir);
	T_OK(unlink(path) == 0);
	T_OK((sp = reopen()) == NULL && errno == EPROTO);
	T_OK(access(path, F_OK) == -1);
	wipe_in(dir);
}

static void
leaves_names_alone_that_it_never_gave(void)
{
	static const char *const odd[] = { "seg-000000000000000A",
		"seg-+00000000000000f", "seg-ffffffffffffffff",
		"body-fffffffffffffffe", "free- 00000000000000f", "seg-", "-" };
	struct spool *sp;
	size_t i;
	int fd;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 1) == 1);
	settle(sp);
	spool_close(&sp);
	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		T_OK((fd = file_named(odd[i], O_RDWR | O_CREAT)) != -1);
		close(fd);
	}
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 1 && sp->next_file < 100);
	spool_close(&sp);
	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		T_OK((fd = file_named(odd[i], O_RDWR)) != -1);
		close(fd);
	}
	wipe_in(dir);
}

static void
tells_when_a_segment_is_short(void)
{
	struct spool *sp;
	uint64_t file;
	int fd;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 1) == 1);
	settle(sp);
	T_OK(put(sp, 2, 1) == 2);
	settle(sp);
	file = ent_find(sp, 2)->seg;
	fd = segment_fd(file);
	T_OK(ftruncate(fd, (off_t)ent_find(sp, 2)->off + 60) == 0);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 1 && seen.alarms == 1 && sp->stats.damaged == 1);
	spool_close(&sp);
	T_OK(ftruncate(fd, 100) == 0);
	close(fd);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 0 && seen.alarms == 1);
	spool_close(&sp);
	wipe_in(dir);
}

static void
counts_no_further_than_is_honest(void)
{
	unsigned char b[REC_HEAD];
	struct rec_head h = { .type = REC_DONE, .seq = UINT64_MAX, .gen = 1 };
	struct rec_head g;

	/* one more than that would be message 0 again */
	rec_head_put(b, &h);
	T_OK(rec_head_get(b, 1, &g) == -1);
	h.seq = REC_NUM_MAX;
	rec_head_put(b, &h);
	T_OK(rec_head_get(b, 1, &g) == 0);
	h.batch = UINT64_MAX;
	rec_head_put(b, &h);
	T_OK(rec_head_get(b, 1, &g) == -1);
}

static int
no_room_in_corrupt(int at, const char *name, int flags, mode_t mode)
{
	if (strncmp(name, "corrupt/", 8) == 0) {
		errno = ENOSPC;
		return (-1);
	}
	return (openat(at, name, flags | O_CLOEXEC, mode));
}

static void
keeps_the_segment_when_the_damage_can_not_be_set_aside(void)
{
	struct spool_io io = spool_io_os;
	struct spool_place pl;
	struct spool *sp;
	uint64_t k;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 1) == 1);
	settle(sp);
	T_OK(spool_read_place(sp, 1, &pl) == 0);
	spool_close(&sp);
	flip(pl.file, pl.offset);
	io.openat = no_room_in_corrupt;
	T_OK((sp = reopen_io(&io)) != NULL);
	T_OK(seen.alarms == 1);
	for (k = 2; k < 200; k++) {
		spool_put_drop(sp, put(sp, k, 1), "test");
		settle(sp);
	}
	T_OK(sp->segs[0]->num == pl.file);
	spool_close(&sp);
	/* set aside at the next start, told again */
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.alarms == 1);
	spool_close(&sp);
	wipe_in(dir);
}

static int sync_fails;

/* prepared - until no segment is being made, whose sync would fail instead */
static void
prepared(struct spool *sp)
{
	int i;

	for (i = 0; i < 200 && sp->n_free <= SEG_RESERVE; i++) {
		(void)poll(NULL, 0, 10);
		spool_tick(sp);
	}
}

static int
failing_sync(int fd)
{
	if (sync_fails > 0) {
		sync_fails--;
		errno = EIO;
		return (-1);
	}
	return (fdatasync(fd));
}

static void
voids_a_batch_whose_sync_failed_and_goes_on(void)
{
	struct spool_io io = spool_io_os;
	const char *reply;
	struct spool *sp;

	fresh();
	io.sync = failing_sync;
	T_OK((sp = reopen_io(&io)) != NULL);
	T_OK(put(sp, 1, 1) == 1);
	settle(sp);
	prepared(sp);
	sync_fails = 1;
	T_OK(put(sp, 2, 1) == 2);
	settle(sp);
	T_OK(seen.ok == 1 && seen.lost == 1 && seen.alarms == 1);
	T_OK(spool_accepting(sp, &reply));
	T_OK(put(sp, 3, 1) == 3);
	settle(sp);
	T_OK(seen.ok == 2);
	sync_fails = 1;
	T_OK(put(sp, 4, 1) == 4);
	settle(sp);
	T_OK(seen.lost == 2);
	T_OK(!spool_accepting(sp, &reply) && strncmp(reply, "421", 3) == 0);
	T_OK(put(sp, 5, 1) == 0 && errno == EIO);
	spool_close(&sp);
	/* both lost batches are in the page cache: the voids must count */
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 2 && seen.seqs[0] == 1 && seen.seqs[1] == 3);
	spool_close(&sp);
	wipe_in(dir);
}

/* the failed batch is in the page cache: its void must count */
static void
a_failed_sync_leaves_the_old_one_in_its_place(void)
{
	struct spool_io io = spool_io_os;
	struct spool *sp;

	fresh();
	io.sync = failing_sync;
	T_OK((sp = reopen_io(&io)) != NULL);
	T_OK(put(sp, 1, 1) == 1);
	settle(sp);
	prepared(sp);
	sync_fails = 1;
	T_OK(instead(sp, 1, 2) == 0);
	settle(sp);
	T_OK(seen.lost == 2 && matches(sp, 1) && !matches(sp, 2));
	spool_put_hold(sp, 1, true, "once more");
	settle(sp);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 1 && seen.seqs[0] == 1 && seen.held == 1);
	T_STR(seen.why, "once more");
	T_OK(instead(sp, 1, 2) == 0);
	settle(sp);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(seen.n == 2 && matches(sp, seen.seqs[0]));
	spool_close(&sp);
	wipe_in(dir);
}

static _Atomic bool zeros_slow;
static _Atomic unsigned zeros_written;

/* slow_zeros - a disk that takes its time for the pieces of a new segment */
static ssize_t
slow_zeros(int fd, const struct iovec *iov, int n, off_t off)
{
	if (zeros_slow && iov->iov_len == 65536) {
		zeros_written++;
		(void)poll(NULL, 0, 5);
	}
	return (pwritev(fd, iov, n, off));
}

static void
commits_while_a_segment_is_being_made(void)
{
	struct spool_opts o = { .dir = dir, .segment_size = 8 << 20 };
	struct spool_events ev = { on_found, on_synced, on_alarm, &seen,
		on_state };
	struct spool_io io = spool_io_os;
	struct spool *sp;
	int i;

	fresh();
	memset(&seen, 0, sizeof(seen));
	seen.ack = -1;
	io.pwritev = slow_zeros;
	T_OK((sp = spool_open_io(&o, &ev, &io)) != NULL);
	T_OK(seg_next(sp, true) == 0); /* the one kept ready is in use */
	zeros_slow = true;
	spool_tick(sp);
	for (i = 0; i < 2000 && zeros_written == 0; i++)
		(void)poll(NULL, 0, 1);
	T_OK(put(sp, 1, 1) == 1);
	settle(sp);
	T_OK(seen.ok == 1 && zeros_written > 0 && zeros_written < 128);
	zeros_slow = false;
	spool_close(&sp);
	wipe_in(dir);
}

static unsigned allocated;
static int allocate_error;

static int
counted_allocate(int fd, off_t n)
{
	allocated++;
	errno = allocate_error;
	return (allocate_error != 0 ? -1 : fallocate(fd, 0, 0, n));
}

static void
a_burst_takes_segments_that_are_only_allocated(void)
{
	static const int errors[] = { 0, EOPNOTSUPP, ENOSPC };
	struct spool_io io = spool_io_os;
	struct spool *sp;
	uint64_t k, n;
	size_t i;

	io.allocate = counted_allocate;
	for (i = 0; i < 3; i++) {
		fresh();
		allocated = 0;
		allocate_error = errors[i];
		T_OK((sp = reopen_io(&io)) != NULL);
		for (k = 1; k <= 400 && put(sp, k, 1) == k; k++)
			spool_flush(sp);
		n = k - 1;
		T_OK(allocated > 0);
		T_OK(errors[i] == ENOSPC ? n < 400 && errno == ENOSPC
		                         : n == 400);
		settle(sp);
		T_OK(seen.ok == n && seen.lost == 0);
		spool_close(&sp);
		T_OK((sp = reopen()) != NULL);
		T_OK(seen.n == n && seen.alarms == 0);
		for (k = 1; k <= n; k++)
			T_OK(matches(sp, k));
		spool_close(&sp);
		wipe_in(dir);
	}
}

static void
refuses_at_mail_when_the_disk_is_full(void)
{
	struct spool_opts o = {
		.dir = dir, .segment_size = SEGMENT, .min_free = UINT64_MAX
	};
	struct spool_events ev = { on_found, on_synced, on_alarm, &seen,
		on_state };
	const char *reply;
	struct spool *sp, *other;

	fresh();
	T_OK((sp = spool_open(&o, &ev)) != NULL);
	T_OK(!spool_accepting(sp, &reply) && strncmp(reply, "452", 3) == 0);
	T_OK(put(sp, 1, 1) == 0 && errno == ENOSPC);
	T_OK((other = spool_open(&o, &ev)) == NULL && errno == EAGAIN);
	o.read_only = true;
	T_OK((other = spool_open(&o, &ev)) != NULL);
	spool_close(&other);
	spool_close(&sp);
	wipe_in(dir);
}

/* writer - put, finish every third, acknowledge until killed */
static void
writer(int ack, uint64_t k)
{
	struct spool *sp = reopen();
	struct pollfd p;
	int i;

	if (sp == NULL)
		_exit(1);
	seen.ack = ack;
	p = (struct pollfd){ .fd = spool_fd(sp), .events = POLLIN };
	for (;;) {
		for (i = 0; i < 5; i++)
			if (put(sp, k++, 1) == 0)
				_exit(1);
		spool_flush(sp);
		if (poll(&p, 1, 1) == 1)
			spool_synced(sp);
	}
}

static void
loses_nothing_acknowledged_to_kill_9(void)
{
	static char acked[1 << 20];
	struct spool *sp;
	uint64_t seq, top = 0;
	pid_t pid;
	int fd[2], round, status;
	size_t i;

	fresh();
	srand((unsigned)getpid());
	memset(acked, 0, sizeof(acked));
	for (round = 0; round < 6; round++) {
		if (pipe(fd) == -1 || (pid = fork()) == -1)
			abort();
		if (pid == 0)
			writer(fd[1], top + 1);
		close(fd[1]);
		usleep((useconds_t)(20000 + rand() % 60000));
		kill(pid, SIGKILL);
		while (read(fd[0], &seq, sizeof(seq)) == sizeof(seq)) {
			if (seq < sizeof(acked))
				acked[seq] = 1;
			if (seq > top)
				top = seq;
		}
		close(fd[0]);
		T_OK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
		T_OK((sp = reopen()) != NULL);
		for (i = 1; i < sizeof(acked); i++)
			if (acked[i] && !matches(sp, i)) {
				T_OK(!"an acknowledged message is lost");
				break;
			}
		for (i = 0; i < seen.n; i++) {
			spool_put_drop(sp, seen.seqs[i], "test");
			acked[seen.seqs[i]] = 0;
		}
		settle(sp);
		top = sp->next_seq;
		spool_close(&sp);
	}
	T_OK(top > 10);
	printf("# %llu messages\n", (unsigned long long)top);
	wipe_in(dir);
}

/* churner - nearly all messages end at once, the others are moved again and
 * again, until the process is killed */
static void
churner(int ack)
{
	struct spool *sp = reopen();
	struct pollfd p;
	uint64_t s;
	int i;

	if (sp == NULL)
		_exit(1);
	seen.ack = ack;
	p = (struct pollfd){ .fd = spool_fd(sp), .events = POLLIN };
	for (;;) {
		for (i = 0; i < 20; i++) {
			if ((s = put(sp, sp->next_seq, 1)) == 0)
				_exit(1);
			if (s % 32 != 0)
				spool_put_drop(sp, s, "over");
		}
		spool_flush(sp);
		if (poll(&p, 1, 1) == 1)
			spool_synced(sp);
		spool_tick(sp);
	}
}

static void
loses_nothing_that_is_moved_to_kill_9(void)
{
	static char acked[1 << 20];
	struct spool *sp;
	uint64_t seq, top = 0;
	pid_t pid;
	int fd[2], round, status;
	size_t i;

	fresh();
	memset(acked, 0, sizeof(acked));
	for (round = 0; round < 12; round++) {
		if (pipe(fd) == -1 || (pid = fork()) == -1)
			abort();
		if (pid == 0)
			churner(fd[1]);
		close(fd[1]);
		usleep((useconds_t)(30000 + rand() % 120000));
		kill(pid, SIGKILL);
		while (read(fd[0], &seq, sizeof(seq)) == sizeof(seq)) {
			if (seq < sizeof(acked))
				acked[seq] = 1;
			if (seq > top)
				top = seq;
		}
		close(fd[0]);
		T_OK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
		T_OK((sp = reopen()) != NULL);
		for (i = 32; i <= top; i += 32)
			if (acked[i] && !matches(sp, i)) {
				T_OK(!"an acknowledged message is lost");
				break;
			}
		spool_close(&sp);
	}
	T_OK((sp = reopen()) != NULL);
	printf("# %llu messages, %zu live, first segment %llu of %llu\n",
	    (unsigned long long)top, seen.n,
	    (unsigned long long)sp->segs[0]->num,
	    (unsigned long long)sp->next_file);
	T_OK(sp->segs[0]->num > 10); /* that is, messages were moved */
	spool_close(&sp);
	wipe_in(dir);
}

static void
decodes_no_header_that_was_changed(void)
{
	unsigned char b[REC_HEAD], room[MSG_FIXED] = { 0 };
	struct rec_head h = { .type = REC_DONE,
		.length = 5,
		.seq = 7,
		.gen = 99,
		.batch = 3 },
	                g;
	struct rec_msg m;
	size_t i;

	rec_head_put(b, &h);
	T_OK(rec_head_get(b, 99, &g) == 0 && g.seq == 7 && g.batch == 3);
	T_OK(rec_head_get(b, 98, &g) == -1);
	for (i = 0; i < sizeof(b); i++) {
		b[i] ^= 1;
		T_OK(rec_head_get(b, 99, &g) == -1);
		b[i] ^= 1;
	}
	T_OK(rec_msg_get(room, MSG_FIXED - 1, &m) == -1);
	memset(room, 0xff, sizeof(room));
	T_OK(rec_msg_get(room, MSG_FIXED, &m) == -1);
}

/* sum - all that has become of mail from clients */
static uint64_t
sum(const struct spool_totals *t)
{
	return (
	    t->delivered[0] + t->bounced[0] + t->discarded[0] + t->deleted[0]);
}

static void
totals_agree_with_what_is_found(void)
{
	const struct spool_totals *t;
	struct spool_totals was;
	struct spool *sp;
	uint64_t k;

	fresh();
	T_OK((sp = reopen()) != NULL);
	T_OK(put(sp, 1, 5) == 1 && put(sp, 2, 3) == 2 && put(sp, 3, 1) == 3);
	spool_put_done(sp, 1, 0, RCPT_DONE, "250 ok");
	spool_put_done(sp, 1, 0, RCPT_DONE, "250 again");
	spool_put_done(sp, 1, 1, RCPT_FAILED, "550 no");
	spool_put_done(sp, 1, 2, RCPT_DISCARDED, "nowhere");
	spool_put_done(sp, 1, 99, RCPT_DONE, "250 nobody");
	spool_put_done(sp, 2, 0, RCPT_DONE, "250 ok");
	spool_put_drop(sp, 2, "admin");
	spool_put_drop(sp, 2, "again");
	spool_put_discarded(sp, 4);
	settle(sp);
	t = spool_totals(sp);
	T_OK(t->messages[0] == 4 && t->accepted[0] == 13);
	T_OK(t->delivered[0] == 2 && t->bounced[0] == 1);
	T_OK(t->discarded[0] == 5 && t->deleted[0] == 2);
	T_OK(t->accepted[0] == sum(t) + 2 + 1); /* two and one wait */
	was = *t;
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL && seen.n == 2);
	T_OK(memcmp(spool_totals(sp), &was, sizeof(was)) == 0);
	/* the records that had them are recycled; more come */
	for (k = 10; k < 400; k += 20)
		traffic(sp, k, 20);
	T_OK(spool_totals(sp)->delivered[0] == was.delivered[0] + 400);
	was = *spool_totals(sp);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL);
	T_OK(memcmp(spool_totals(sp), &was, sizeof(was)) == 0);
	spool_close(&sp);
	wipe_in(dir);
}

static void
totals_leave_out_what_was_not_accepted(void)
{
	struct spool_io io = spool_io_os;
	struct spool_totals was;
	struct spool *sp;

	fresh();
	io.sync = failing_sync;
	sync_fails = 0;
	T_OK((sp = reopen_io(&io)) != NULL);
	T_OK(put(sp, 1, 2) != 0);
	settle(sp);
	prepared(sp);
	sync_fails = 1;
	T_OK(put(sp, 2, 3) != 0);
	settle(sp);
	T_OK(seen.ok == 1 && seen.lost == 1);
	was = *spool_totals(sp);
	T_OK(was.messages[0] == 1 && was.accepted[0] == 2);
	spool_close(&sp);
	T_OK((sp = reopen()) != NULL && seen.n == 1);
	T_OK(memcmp(spool_totals(sp), &was, sizeof(was)) == 0);
	spool_close(&sp);
	wipe_in(dir);
}

static const struct t_case cases[] = {
	{ "decodes_no_header_that_was_changed",
	    decodes_no_header_that_was_changed },
	{ "keeps_messages_over_a_restart", keeps_messages_over_a_restart },
	{ "forgets_what_is_finished_and_recycles",
	    forgets_what_is_finished_and_recycles },
	{ "keeps_outcomes_holds_and_deferrals",
	    keeps_outcomes_holds_and_deferrals },
	{ "totals_agree_with_what_is_found", totals_agree_with_what_is_found },
	{ "totals_leave_out_what_was_not_accepted",
	    totals_leave_out_what_was_not_accepted },
	{ "one_that_stays_does_not_keep_the_journal",
	    one_that_stays_does_not_keep_the_journal },
	{ "does_not_recycle_what_is_pinned", does_not_recycle_what_is_pinned },
	{ "keeps_a_large_body_in_a_file", keeps_a_large_body_in_a_file },
	{ "sets_a_damaged_record_aside_and_goes_on",
	    sets_a_damaged_record_aside_and_goes_on },
	{ "goes_on_after_a_damaged_header_too",
	    goes_on_after_a_damaged_header_too },
	{ "drops_a_torn_tail_but_keeps_an_intact_message_of_it",
	    drops_a_torn_tail_but_keeps_an_intact_message_of_it },
	{ "a_set_is_there_whole_or_not_at_all",
	    a_set_is_there_whole_or_not_at_all },
	{ "a_set_that_does_not_fit_leaves_nothing",
	    a_set_that_does_not_fit_leaves_nothing },
	{ "one_takes_the_place_of_another_in_one_batch",
	    one_takes_the_place_of_another_in_one_batch },
	{ "refuses_a_spool_whose_format_file_is_damaged_or_gone",
	    refuses_a_spool_whose_format_file_is_damaged_or_gone },
	{ "leaves_names_alone_that_it_never_gave",
	    leaves_names_alone_that_it_never_gave },
	{ "tells_when_a_segment_is_short", tells_when_a_segment_is_short },
	{ "counts_no_further_than_is_honest",
	    counts_no_further_than_is_honest },
	{ "keeps_the_segment_when_the_damage_can_not_be_set_aside",
	    keeps_the_segment_when_the_damage_can_not_be_set_aside },
	{ "voids_a_batch_whose_sync_failed_and_goes_on",
	    voids_a_batch_whose_sync_failed_and_goes_on },
	{ "a_failed_sync_leaves_the_old_one_in_its_place",
	    a_failed_sync_leaves_the_old_one_in_its_place },
	{ "commits_while_a_segment_is_being_made",
	    commits_while_a_segment_is_being_made },
	{ "a_burst_takes_segments_that_are_only_allocated",
	    a_burst_takes_segments_that_are_only_allocated },
	{ "refuses_at_mail_when_the_disk_is_full",
	    refuses_at_mail_when_the_disk_is_full },
	{ "loses_nothing_that_is_moved_to_kill_9",
	    loses_nothing_that_is_moved_to_kill_9 },
	{ "loses_nothing_acknowledged_to_kill_9",
	    loses_nothing_acknowledged_to_kill_9 },
};

T_MAIN(cases)
