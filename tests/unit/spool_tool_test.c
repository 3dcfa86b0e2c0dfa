/* SPDX-License-Identifier: ISC */

/*
 * milldam-spool on sound and damaged spools: never a crash, never altered
 * content shown as good.
 */

#include "core/spool/spool_int.h"
#include "core/spool/tool/tool.h"
#include "milter-sdk/base/crc32c.h"
#include "milter-sdk/base/log.h"
#include "tests/lib/files.h"
#include "tests/lib/t.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEGMENT = 65536, MESSAGES = 6, BIG = 40000 };

static char dir[64], segment[128], body[128], format[128];
static unsigned long long big_seq;

static void
nothing(void *arg, uint64_t seq, bool ok)
{
	(void)arg;
	(void)seq;
	(void)ok;
}

static void
not_found(void *arg, struct spool_found *f)
{
	(void)arg;
	env_fini(&f->env);
}

/* content - what message k must say, to the byte */
static size_t
content(unsigned k, char *out, size_t room)
{
	size_t n = (size_t)snprintf(out, room,
	    "Subject: number %u\r\nX-Esc: \033[31m\r\n\r\nbody %u\r\n", k, k);
	size_t want = k == MESSAGES ? BIG : n + k * 37;

	for (; n < want; n++)
		out[n] = (char)('a' + (n * 7 + k) % 26);
	return (n);
}

static void
put(struct spool *sp, unsigned k)
{
	static char data[BIG + 1];
	struct spool_new m = { .fd = -1,
		.content = data,
		.record = "{\"outcome\":\"queued\"}",
		.received = "Subject: before\r\n",
		.received_len = 17 };
	struct spool_place pl;
	struct envelope env;
	uint64_t seq;

	if (env_init(&env) == -1 || env_set(&env.sender, "a@b") == -1 ||
	    env_set(&env.helo, "evil\033[2J\"") == -1 ||
	    env_add_rcpt(&env, "c@d.example") == NULL ||
	    env_add_rcpt(&env, "e@f.example") == NULL)
		abort();
	snprintf(env.id, sizeof(env.id), "MSG%u", k);
	env.arrival_ms = 1700000000000;
	m.env = &env;
	m.length = content(k, data, sizeof(data));
	m.crc = crc32c(0, data, m.length);
	if (spool_put_message(sp, &m, &seq, &pl) == -1)
		abort();
	if (k == MESSAGES)
		big_seq = seq;
	env_fini(&env);
}

/* make - six messages in one segment; number 2 is finished, 3 has one recipient
 * left, 4 is held, the last has a body file */
static void
make(void)
{
	struct spool_opts o = { .dir = dir, .segment_size = SEGMENT };
	struct spool_events ev = { not_found, nothing, NULL, NULL, NULL };
	struct spool *sp;
	unsigned k;

	snprintf(dir, sizeof(dir), "spool-tool-XXXXXX");
	if (mkdtemp(dir) == NULL || (sp = spool_open(&o, &ev)) == NULL)
		abort();
	for (k = 1; k <= MESSAGES; k++)
		put(sp, k);
	spool_put_done(sp, 2, 0, RCPT_DONE, "250 ok");
	spool_put_done(sp, 2, 1, RCPT_DONE, "250 ok");
	spool_put_done(sp, 3, 0, RCPT_FAILED, "550 no");
	spool_put_deferred(sp, 3, 1700000100000, 2, "451 \"later\"\033");
	spool_put_hold(sp, 4, true, "virus");
	snprintf(segment, sizeof(segment), "%s/seg-%016llx", dir,
	    (unsigned long long)sp->segs[sp->n_segs - 1]->num);
	snprintf(body, sizeof(body), "%s/body-%016llx", dir,
	    (unsigned long long)ent_find(sp, big_seq)->body);
	snprintf(format, sizeof(format), "%s/format", dir);
	spool_close(&sp);
}

/* run - milldam-spool itself; its status, output to text */
static int
run(char *text, size_t room, const char *a, const char *b, const char *c)
{
	int fd[2], status;
	size_t n = 0;
	ssize_t r;
	pid_t pid;

	if (pipe(fd) == -1 || (pid = fork()) == -1)
		abort();
	if (pid == 0) {
		dup2(fd[1], 1);
		dup2(fd[1], 2);
		close(fd[0]);
		execl("./milldam-spool", "milldam-spool", "-d", dir, a, b, c,
		    (char *)NULL);
		_exit(99);
	}
	close(fd[1]);
	while (n + 1 < room && (r = read(fd[0], text + n, room - 1 - n)) > 0)
		n += (size_t)r;
	text[n] = '\0';
	close(fd[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return (-1);
	return (WEXITSTATUS(status));
}

static char text[200000];

static void
lists_what_is_live(void)
{
	make();
	T_OK(run(text, sizeof(text), "list", NULL, NULL) == 0);
	T_OK(strstr(text, "MSG1 ") != NULL && strstr(text, "MSG2") == NULL);
	T_OK(strstr(text, "failed  <c@d.example>") != NULL);
	T_OK(strstr(text, "waiting <e@f.example>") != NULL);
	T_OK(strstr(text, "held") != NULL && strstr(text, "deferred") != NULL);
	T_OK(strstr(text, "2023-11-14T22:15:00Z") != NULL);
	T_OK(strstr(text, "5 messages\n") != NULL);
	T_OK(run(text, sizeof(text), "--json", "list", NULL) == 0);
	T_OK(text[0] == '[' && strstr(text, "\"id\":\"MSG6\"") != NULL);
	wipe_in(dir);
}

static void
shows_one_message_without_its_control_bytes(void)
{
	make();
	T_OK(run(text, sizeof(text), "show", "MSG3", NULL) == 0);
	T_OK(strstr(text, "Subject: number 3") != NULL);
	T_OK(strstr(text, "Subject: before") != NULL);
	T_OK(strstr(text, "queued") != NULL && strstr(text, "451") != NULL);
	T_OK(strchr(text, '\033') == NULL);
	T_OK(run(text, sizeof(text), "--json", "show", "3") == 0);
	T_OK(strchr(text, '\033') == NULL && strstr(text, "MSG3") != NULL);
	T_OK(run(text, sizeof(text), "show", "MSG2", NULL) == 1);
	T_OK(run(text, sizeof(text), "show", "99", NULL) == 1);
	wipe_in(dir);
}

static void
gives_the_content_to_the_byte(void)
{
	static char want[BIG + 1];
	size_t n = content(6, want, sizeof(want));

	make();
	T_OK(run(text, sizeof(text), "show", "--content", "MSG6") == 0);
	T_OK(strlen(text) == n && memcmp(text, want, n) == 0);
	wipe_in(dir);
}

static bool
same(const char *path, const char *want, size_t n)
{
	static char got[BIG + 10];
	FILE *f = fopen(path, "r");
	bool ok;

	if (f == NULL)
		return (false);
	ok = fread(got, 1, sizeof(got), f) == n && memcmp(got, want, n) == 0;
	fclose(f);
	return (ok);
}

static void
salvages_each_live_message_to_files(void)
{
	static char want[BIG + 1];
	char out[80], name[160];
	unsigned k;

	make();
	snprintf(out, sizeof(out), "%s/out", dir);
	T_OK(run(text, sizeof(text), "salvage", out, NULL) == 0);
	T_OK(strstr(text, "5 salvaged, 0 with damaged content") != NULL);
	for (k = 1; k <= MESSAGES; k++) {
		snprintf(name, sizeof(name), "%s/MSG%u.eml", out, k);
		T_OK(same(name, want, content(k, want, sizeof(want))) ==
		    (k != 2));
		snprintf(name, sizeof(name), "%s/MSG%u.json", out, k);
		T_OK((access(name, R_OK) == 0) == (k != 2));
	}
	/* never into what is there */
	T_OK(run(text, sizeof(text), "salvage", out, NULL) == 74);
	wipe_in(dir);
}

static void
wants_a_spool_and_the_right_words(void)
{
	char was[64];

	make();
	T_OK(run(text, sizeof(text), "verify", NULL, NULL) == 0);
	T_OK(strstr(text, "5 messages, 0 damaged") != NULL);
	T_OK(run(text, sizeof(text), "list", "more", NULL) == 64);
	T_OK(run(text, sizeof(text), "--nonsense", "list", NULL) == 64);
	T_OK(run(text, sizeof(text), NULL, NULL, NULL) == 64);
	memcpy(was, dir, sizeof(was));
	snprintf(dir, sizeof(dir), "/nonexistent");
	T_OK(run(text, sizeof(text), "verify", NULL, NULL) == 66);
	memcpy(dir, was, sizeof(dir));
	wipe_in(dir);
}

static void
reports_damage_and_sets_the_content_apart(void)
{
	char out[80], name[160], c = 'X';
	int fd;

	make();
	T_OK((fd = open(body, O_RDWR)) != -1);
	T_OK(pwrite(fd, &c, 1, 20000) == 1);
	T_OK(run(text, sizeof(text), "verify", NULL, NULL) == 1);
	T_OK(strstr(text, "(MSG6): content: checksum") != NULL);
	T_OK(run(text, sizeof(text), "--json", "verify", NULL) == 1);
	T_OK(run(text, sizeof(text), "show", "--content", "MSG6") == 1);
	T_OK(strlen(text) < 100);
	T_OK(run(text, sizeof(text), "show", "MSG6", NULL) == 1);
	T_OK(strstr(text, "Subject: number") == NULL);
	snprintf(out, sizeof(out), "%s/out", dir);
	T_OK(run(text, sizeof(text), "salvage", out, NULL) == 1);
	snprintf(name, sizeof(name), "%s/MSG6.damaged.eml", out);
	T_OK(access(name, R_OK) == 0);
	snprintf(name, sizeof(name), "%s/MSG5.eml", out);
	T_OK(access(name, R_OK) == 0);
	close(fd);
	T_OK(unlink(body) == 0);
	T_OK(run(text, sizeof(text), "verify", NULL, NULL) == 1);
	T_OK(strstr(text, "has no body") != NULL);
	wipe_in(dir);
}

static void
reads_a_spool_whose_format_file_is_gone(void)
{
	make();
	T_OK(unlink(format) == 0);
	T_OK(run(text, sizeof(text), "list", NULL, NULL) == 0);
	T_OK(strstr(text, "5 messages\n") != NULL);
	T_OK(strstr(text, "\"format\" is damaged") != NULL);
	wipe_in(dir);
}

/* look - everything the tool does, in this process; what it shows as good must
 * be.  Returns how many messages it gave. */
static size_t
look(bool *damage_r)
{
	static char want[BIG + 1];
	FILE *null = fopen("/dev/null", "w"), *mem;
	struct view v;
	size_t i, n, good = 0, len;
	unsigned k;
	char *got;

	*damage_r = true;
	if (null == NULL || view_open(&v, dir) == -1) {
		fclose(null);
		return (0);
	}
	view_verify(&v);
	(void)list_text(&v, null);
	(void)list_json(&v, null);
	for (i = 0; i < v.n_items; i++) {
		const struct item *it = &v.items[i];

		(void)show_text(&v, it, null);
		(void)show_json(&v, it, null);
		if ((mem = open_memstream(&got, &len)) == NULL)
			abort();
		if (content_copy(&v, it, mem) == 0) {
			fflush(mem);
			k = (unsigned)atoi(it->id + 3);
			n = content(k, want, sizeof(want));
			/* without its outcome 2 comes back: told, no loss */
			T_OK(k == it->seq && (k != 2 || v.n_damage > 0));
			T_OK(len == n && memcmp(got, want, n) == 0);
			good++;
		}
		fclose(mem);
		free(got);
	}
	*damage_r = v.n_damage > 0;
	view_close(&v);
	fclose(null);
	return (good);
}

/* flip_all - one changed byte at a time, every step-th */
static void
flip_all(const char *path, off_t end, off_t step, bool must_tell)
{
	int fd = open(path, O_RDWR);
	size_t good;
	bool damage;
	off_t at;
	char c, was;

	T_OK(fd != -1);
	for (at = 0; at < end && !t_failed; at += step) {
		T_OK(pread(fd, &was, 1, at) == 1);
		c = (char)(was ^ (1 << at % 8));
		T_OK(pwrite(fd, &c, 1, at) == 1);
		good = look(&damage);
		T_OK(good >= 5 || damage || !must_tell);
		T_OK(good <= 6);
		T_OK(pwrite(fd, &was, 1, at) == 1);
	}
	if (t_failed)
		printf("# %s at %lld\n", path, (long long)at);
	close(fd);
}

static void
never_believes_a_flipped_bit(void)
{
	bool damage;

	make();
	T_OK(look(&damage) == 5 && !damage);
	flip_all(segment, 512, 5, false);
	flip_all(segment, 6000, 3, true);
	flip_all(body, BIG, 1999, true);
	flip_all(format, 50, 1, true);
	T_OK(look(&damage) == 5 && !damage);
	wipe_in(dir);
}

static void
never_believes_a_truncated_file(void)
{
	struct stat st;
	size_t good, before = 5;
	bool damage;
	off_t at;

	make();
	T_OK(stat(segment, &st) == 0);
	for (at = 6000; at >= 0 && !t_failed; at -= 37) {
		T_OK(truncate(segment, at) == 0);
		good = look(&damage);
		T_OK(damage && good <= before + 1);
		before = good;
	}
	T_OK(before == 0);
	wipe_in(dir);
	make();
	T_OK(truncate(body, 100) == 0);
	T_OK(look(&damage) == 4 && damage);
	wipe_in(dir);
}

/* gateway - put and finish messages until killed */
static void
gateway(void)
{
	struct spool_opts o = { .dir = dir, .segment_size = SEGMENT };
	struct spool_events ev = { not_found, nothing, NULL, NULL, NULL };
	struct spool *sp = spool_open(&o, &ev);
	uint64_t done = 0;

	while (sp != NULL) {
		for (unsigned i = 1; i < MESSAGES; i++)
			put(sp, i);
		spool_flush(sp);
		for (; done + 20 < sp->next_seq; done++)
			spool_put_drop(sp, done, "test");
		usleep(500);
		spool_synced(sp);
		spool_tick(sp);
	}
	_exit(1);
}

static void
sees_no_damage_beside_a_running_gateway(void)
{
	pid_t pid;
	int i, status;

	make();
	fflush(stdout);
	if ((pid = fork()) == 0)
		gateway();
	for (i = 0; i < 8; i++) {
		usleep(30000);
		T_OK(run(text, sizeof(text), "verify", NULL, NULL) == 0);
		if (t_failed)
			printf("# %s", text);
	}
	kill(pid, SIGKILL);
	T_OK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	wipe_in(dir);
}

static const struct t_case cases[] = {
	{ "lists_what_is_live", lists_what_is_live },
	{ "shows_one_message_without_its_control_bytes",
	    shows_one_message_without_its_control_bytes },
	{ "gives_the_content_to_the_byte", gives_the_content_to_the_byte },
	{ "salvages_each_live_message_to_files",
	    salvages_each_live_message_to_files },
	{ "wants_a_spool_and_the_right_words",
	    wants_a_spool_and_the_right_words },
	{ "reports_damage_and_sets_the_content_apart",
	    reports_damage_and_sets_the_content_apart },
	{ "reads_a_spool_whose_format_file_is_gone",
	    reads_a_spool_whose_format_file_is_gone },
	{ "sees_no_damage_beside_a_running_gateway",
	    sees_no_damage_beside_a_running_gateway },
	{ "never_believes_a_flipped_bit", never_believes_a_flipped_bit },
	{ "never_believes_a_truncated_file", never_believes_a_truncated_file },
};

int
main(void)
{
	log_set_level(LOG_EMERG);
	return (t_main(cases, sizeof(cases) / sizeof(cases[0])));
}
