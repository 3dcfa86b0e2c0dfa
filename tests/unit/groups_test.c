/* SPDX-License-Identifier: ISC */

/*
 * Recipient groups: random chains through real sockets, compared with a serial
 * model that knows only what each filter answers to which header and body.
 */

#include "core/milter/chain_int.h"
#include "milter-sdk/base/milter.h"
#include "tests/lib/t.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FILTERS = 6, KINDS = 4, TEXT = 4096 };

/* What a filter does at the end of a message, by the hash of what it saw. */
struct script {
	enum { PASS, ACCEPT, REJECT, TEMPFAIL, DISCARD, REPLY, DIE } act;
	unsigned one_in; /* of the hashes: acts so, else passes */
	bool field, body, sender, hold;
	bool same; /* the body does not tell who made it */
	bool read_only;
	unsigned delay_us;
	enum fail_action on_failure;
};

static struct script scripts[FILTERS];
static uint8_t modes[KINDS][FILTERS];
static char dir[64];
static int listeners[FILTERS];
static unsigned ends[FILTERS], rcpts[FILTERS], sessions[FILTERS];

static uint64_t
hash(uint64_t h, const void *p, size_t n)
{
	const unsigned char *s = p;

	while (n-- > 0)
		h = (h ^ *s++) * 0x100000001b3ull;
	return (h);
}

static bool
acts(const struct script *s, uint64_t h)
{
	return (s->act != PASS && h / 7 % s->one_in == 0);
}

static void
need(int r)
{
	if (r == -1)
		abort();
}

static void
put2(struct buf *b, char code, const char *s1, const char *s2)
{
	const char *const s[] = { s1, s2 };

	need(milter_put_strings(b, code, s, s2 != NULL ? 2 : 1));
}

/* edits - what it asks for, by what it saw */
static void
edits(unsigned k, uint64_t h, struct buf *b)
{
	const struct script *s = &scripts[k];
	char name[32], value[64];

	snprintf(name, sizeof(name), "X-%u", k);
	snprintf(value, sizeof(value), "v%llx", (unsigned long long)h);
	if (s->field && !s->read_only)
		put2(b, 'h', name, value);
	snprintf(value, sizeof(value), "body %u %llx\r\n", s->same ? 0 : k,
	    (unsigned long long)h);
	if (s->body && !s->read_only)
		need(milter_put(b, 'b', value, strlen(value)));
	snprintf(value, sizeof(value), "<f%u@x.test>", k);
	if (s->sender && !s->read_only)
		put2(b, 'e', value, NULL);
	snprintf(value, sizeof(value), "hold %u", k);
	if (s->hold)
		put2(b, 'q', value, NULL);
}

/* eom - false: close */
static bool
eom(unsigned k, uint64_t h, struct buf *b)
{
	static const char codes[] = { 'c', 'a', 'r', 't', 'd', 'y' };
	const struct script *s = &scripts[k];
	bool act = acts(s, h);

	usleep(s->delay_us);
	__atomic_add_fetch(&ends[k], 1, __ATOMIC_SEQ_CST);
	edits(k, h, b);
	if (act && s->act == DIE)
		return (false);
	if (act && s->act == REPLY)
		put2(b, 'y', "554 5.7.1 own words", NULL);
	else
		need(milter_put(b, codes[act ? s->act : PASS], NULL, 0));
	return (true);
}

static bool
answer(unsigned k, const struct milter_packet *p, uint64_t *h, struct buf *b)
{
	struct milter_options o = { .version = 6 };

	switch (p->code) {
	case 'O':
		o.actions = scripts[k].read_only ? MILTER_MAY_QUARANTINE
		                                 : MILTER_MAY_ALL;
		need(milter_put_options(b, &o));
		return (true);
	case 'M':
		*h = 1;
		break;
	case 'R':
		__atomic_add_fetch(&rcpts[k], 1, __ATOMIC_SEQ_CST);
		break;
	case 'C':
		__atomic_add_fetch(&sessions[k], 1, __ATOMIC_SEQ_CST);
		break;
	case 'L':
	case 'B':
		*h = hash(*h, p->data, p->len);
		break;
	case 'E':
		return (eom(k, *h, b));
	case 'D':
	case 'A':
		return (true);
	case 'Q':
		return (false);
	default:
		break;
	}
	need(milter_put(b, 'c', NULL, 0));
	return (true);
}

struct place {
	unsigned k;
	int fd;
};

static void *
serve(void *arg)
{
	struct place at = *(struct place *)arg;
	struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
	struct milter_packet p;
	char room[8192];
	uint64_t h = 1;
	bool open = true;
	size_t off;
	ssize_t n;
	long len;

	free(arg);
	while (open && (n = recv(at.fd, room, sizeof(room), 0)) > 0) {
		need(buf_add(&in, room, (size_t)n));
		for (off = 0; open &&
		     (len = milter_next(
		          in.data + off, in.len - off, 65535, &p)) > 0;
		     off += (size_t)len) {
			out.len = 0;
			open = answer(at.k, &p, &h, &out);
			if (out.len > 0)
				(void)!send(
				    at.fd, out.data, out.len, MSG_NOSIGNAL);
		}
		memmove(in.data, in.data + off, in.len - off);
		in.len -= off;
	}
	close(at.fd);
	buf_fini(&in);
	buf_fini(&out);
	return (NULL);
}

static void *
accepts(void *arg)
{
	unsigned k = (unsigned)(uintptr_t)arg;
	pthread_t t;
	int fd;

	while ((fd = accept(listeners[k], NULL, NULL)) != -1) {
		struct place *p = malloc(sizeof(*p));

		*p = (struct place){ k, fd };
		if (pthread_create(&t, NULL, serve, p) != 0)
			abort();
		pthread_detach(t);
	}
	return (NULL);
}

static void
listen_all(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	pthread_t t;
	unsigned k;

	if (dir[0] != '\0')
		return;
	snprintf(dir, sizeof(dir), "/tmp/groups_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		abort();
	for (k = 0; k < FILTERS; k++) {
		snprintf(un.sun_path, sizeof(un.sun_path), "%s/%u", dir, k);
		listeners[k] = socket(AF_UNIX, SOCK_STREAM, 0);
		need(bind(listeners[k], (struct sockaddr *)&un, sizeof(un)));
		need(listen(listeners[k], 64));
		if (pthread_create(&t, NULL, accepts, (void *)(uintptr_t)k) !=
		    0)
			abort();
		pthread_detach(t);
	}
}

static void
unlisten_all(void)
{
	char path[100];
	unsigned k;

	for (k = 0; k < FILTERS; k++) {
		snprintf(path, sizeof(path), "%s/%u", dir, k);
		(void)unlink(path);
	}
	(void)rmdir(dir);
}

/* The session. */
static struct event_base *base;
static struct settings *settings;
static struct engine *engine;
static struct chain *chain;
static struct message msg;
static struct envelope env;
static const struct chain_facts facts = { .hostname = "mx.test",
	.listener = "mx",
	.daemon_addr = "127.0.0.1",
	.client_name = "c.test",
	.client_ptr = "c.test",
	.client_resolve = "OK",
	.client_addr = "192.0.2.7",
	.helo = "c.test",
	.tls_version = "",
	.cipher = "",
	.cipher_bits = "",
	.cert_subject = "",
	.cert_issuer = "",
	.verify = "",
	.auth_type = "",
	.auth_authen = "",
	.auth_author = "",
	.auth_ssf = "" };

/* What became of the recipients of one kind. */
struct fate {
	enum chain_verdict verdict;
	char by[32], text[TEXT], sender[64], reason[64];
};

static struct {
	bool in;
	enum chain_verdict verdict;
	bool authorised;
	uint16_t group;
	char reply[200];
	size_t n_groups;
} got;
static struct fate fates[KINDS]; /* what was seen */
static uint16_t group_of[KINDS];
static bool has[KINDS];

static void
put_text(char *out, const struct field *f, size_t n_fields, const char *body,
    size_t n_body)
{
	size_t i, n = 0;

	for (i = 0; i < n_fields; i++)
		n += (size_t)snprintf(out + n, TEXT - n, "%s:%.*s\n", f[i].name,
		    (int)f[i].value_len, f[i].value);
	snprintf(out + n, TEXT - n, "\n%.*s", (int)n_body, body);
}

static void
see(struct fate *f, enum chain_verdict v, const char *by, const char *reason,
    const struct message *m, const struct envelope *e)
{
	f->verdict = v;
	snprintf(f->by, sizeof(f->by), "%s", by);
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
	snprintf(f->sender, sizeof(f->sender), "%s", e->sender);
	put_text(f->text, m->fields, m->n_fields, m->body, m->body_len);
}

static void
on_answer(void *arg, const struct chain_answer *a)
{
	size_t i, k;

	(void)arg;
	got.in = true;
	got.verdict = a->verdict;
	got.authorised = a->authorised;
	got.group = a->group;
	got.n_groups = a->n_groups;
	snprintf(got.reply, sizeof(got.reply), "%s", a->reply);
	for (k = 0; k < KINDS; k++) {
		if (!has[k])
			continue;
		if (a->n_groups == 0)
			see(&fates[k], a->verdict, a->milter, a->reason, &msg,
			    &env);
		for (i = 0; i < a->n_groups; i++)
			if (a->groups[i].group == group_of[k]) {
				const struct chain_group *g = &a->groups[i];

				see(&fates[k], g->verdict, g->milter, g->reason,
				    &g->msg, &g->env);
			}
	}
}

static enum chain_verdict
wait_answer(void)
{
	struct timeval tv = { 20, 0 };

	(void)event_base_loopexit(base, &tv);
	while (!got.in)
		if (event_base_loop(base, EVLOOP_ONCE) != 0 ||
		    event_base_got_exit(base))
			break;
	T_OK(got.in);
	return (got.verdict);
}

#define ASK(call) (got.in = false, (call), wait_answer())

static void
pick(const struct chain *c, const char *rcpt, uint8_t *out)
{
	(void)c;
	memcpy(out, modes[(rcpt[1] - '0') % KINDS], FILTERS);
}

static void
begin(const char *policy)
{
	static const char *const fail[] = { "tempfail", "accept", "reject",
		"quarantine", "shutdown" };
	static char text[8192];
	struct conf_file f = { (char *)"t.conf", text, 0 };
	struct buf errors = BUF_INIT(1 << 16);
	size_t n;
	unsigned k;

	listen_all();
	n = (size_t)snprintf(text, sizeof(text),
	    "hostname = \"mx.test\"\npostmaster = \"p@x.test\"\n");
	for (k = 0; k < FILTERS; k++) {
		n += (size_t)snprintf(text + n, sizeof(text) - n,
		    "milter \"f%u\" { endpoints = {\"unix:%s/%u\"} "
		    "on-failure = %s }\n",
		    k, dir, k, fail[scripts[k].on_failure]);
		ends[k] = rcpts[k] = sessions[k] = 0;
	}
	snprintf(text + n, sizeof(text) - n,
	    "policy \"in\" { authorise = \"f0\" chain = {\"f0\", \"f1\", "
	    "\"f2\", \"f3\", \"f4\", \"f5\"} %s }\n"
	    "listener \"mx\" { address = {\"127.0.0.1:2525\"} policy = in }\n",
	    policy);
	f.len = strlen(text);
	if ((settings = settings_parse(&f, 1, &errors)) == NULL) {
		printf("# %s\n", errors.data);
		abort();
	}
	base = event_base_new();
	engine = engine_new(base, settings);
	engine->pick = policy[0] == '\0' ? pick : NULL;
	chain = chain_new(engine, settings, 0, &facts);
	message_init(&msg);
	need(message_add(&msg, 0, "Subject", " s", 2));
	need(buf_add(&msg.mem, "hello\r\n", 7));
	msg.body = msg.mem.data;
	msg.body_len = 7;
	need(env_init(&env));
	need(env_set(&env.sender, "s@x.test"));
	snprintf(env.id, sizeof(env.id), "0123456789ab");
	memset(has, 0, sizeof(has));
}

static void
end(void)
{
	chain_free(&chain);
	engine_free(&engine);
	settings_unref(&settings);
	event_base_free(base);
	message_fini(&msg);
	env_fini(&env);
}

/* rcpt - as the receiver does; true if it was accepted */
static bool
rcpt(unsigned kind, unsigned n)
{
	struct rcpt *r;
	char addr[32];

	snprintf(addr, sizeof(addr), "r%u-%u@y.test", kind, n);
	if (ASK(chain_rcpt(chain, addr, NULL, 0, NULL, NULL, on_answer,
	        NULL)) != CHAIN_CONTINUE ||
	    !got.authorised)
		return (false);
	if ((r = env_add_rcpt(&env, addr)) == NULL)
		abort();
	r->group = got.group;
	group_of[kind] = got.group;
	has[kind] = true;
	return (true);
}

/* The model: each kind of recipients on its way through its chain. */
struct way {
	struct fate f;
	struct message m;
	bool over;
};

static uint64_t
model_hash(const struct message *m)
{
	uint64_t h = 1;
	size_t i;

	for (i = 0; i < m->n_fields; i++) {
		const struct field *f = &m->fields[i];

		h = hash(h, f->name, strlen(f->name) + 1);
		h = hash(h, f->value + 1, f->value_len - 1);
		h = hash(h, "", 1);
	}
	return (hash(h, m->body, m->body_len));
}

static void
model_edit(unsigned k, uint64_t h, struct way *w)
{
	const struct script *s = &scripts[k];
	char name[32], value[64];

	snprintf(name, sizeof(name), "X-%u", k);
	snprintf(value, sizeof(value), " v%llx", (unsigned long long)h);
	if (s->field && !s->read_only)
		need(message_add(
		    &w->m, w->m.n_fields, name, value, strlen(value)));
	if (s->body && !s->read_only) {
		snprintf(value, sizeof(value), "body %u %llx\r\n",
		    s->same ? 0 : k, (unsigned long long)h);
		buf_fini(&w->m.mem);
		need(buf_add(&w->m.mem, value, strlen(value)));
		w->m.body = w->m.mem.data;
		w->m.body_len = w->m.mem.len;
	}
	if (s->sender && !s->read_only)
		snprintf(w->f.sender, sizeof(w->f.sender), "f%u@x.test", k);
	if (s->hold && w->f.reason[0] == '\0')
		snprintf(w->f.reason, sizeof(w->f.reason), "hold %u", k);
}

static void
model_over(struct way *w, unsigned k, enum chain_verdict v)
{
	w->over = true;
	w->f.verdict = v;
	snprintf(w->f.by, sizeof(w->f.by), "f%u", k);
}

static void
model_filter(unsigned k, struct way *w, uint8_t mode)
{
	static const enum chain_verdict verdicts[] = { CHAIN_CONTINUE,
		CHAIN_CONTINUE, CHAIN_REJECT, CHAIN_TEMPFAIL, CHAIN_DISCARD,
		CHAIN_REJECT };
	const struct script *s = &scripts[k];
	uint64_t h = model_hash(&w->m);

	if (w->over || mode != MODE_ENFORCE)
		return;
	if (!acts(s, h) || s->act <= ACCEPT) {
		model_edit(k, h, w);
	} else if (s->act != DIE) {
		model_over(w, k, verdicts[s->act]);
	} else if (s->on_failure == FAIL_QUARANTINE) {
		if (w->f.reason[0] == '\0')
			snprintf(w->f.reason, sizeof(w->f.reason),
			    "milter f%u failed: closed the connection", k);
	} else if (s->on_failure != FAIL_ACCEPT) {
		model_over(w, k,
		    s->on_failure == FAIL_REJECT ? CHAIN_REJECT
		                                 : CHAIN_TEMPFAIL);
	}
}

static void
model(struct way *w, unsigned kind)
{
	unsigned k;

	memset(w, 0, sizeof(*w));
	message_init(&w->m);
	w->m.mem.max = TEXT;
	need(message_add(&w->m, 0, "Subject", " s", 2));
	need(buf_add(&w->m.mem, "hello\r\n", 7));
	w->m.body = w->m.mem.data;
	w->m.body_len = 7;
	snprintf(w->f.sender, sizeof(w->f.sender), "s@x.test");
	for (k = 0; k < FILTERS; k++)
		model_filter(k, w, modes[kind][k]);
	put_text(
	    w->f.text, w->m.fields, w->m.n_fields, w->m.body, w->m.body_len);
	message_fini(&w->m);
	if (w->over || w->f.reason[0] != '\0') { /* as it was received */
		snprintf(w->f.text, sizeof(w->f.text),
		    "Subject: s\n\nhello\r\n");
		snprintf(w->f.sender, sizeof(w->f.sender), "s@x.test");
	}
}

static void
random_scripts(void)
{
	static const int acts_[] = { PASS, PASS, PASS, ACCEPT, REJECT, TEMPFAIL,
		DISCARD, REPLY, DIE };
	unsigned i, k;

	for (k = 0; k < FILTERS; k++) {
		struct script *s = &scripts[k];

		s->act = (unsigned)acts_[rand() % 9];
		s->one_in = 1 + (unsigned)rand() % 4;
		s->read_only = rand() % 3 == 0;
		s->field = rand() % 2 == 0;
		s->body = rand() % 4 == 0;
		s->sender = rand() % 4 == 0;
		s->hold = rand() % 6 == 0;
		s->delay_us = rand() % 3 == 0 ? (unsigned)rand() % 1500 : 0;
		s->on_failure = (enum fail_action)(rand() % 4);
		if (k == 0 && s->on_failure == FAIL_ACCEPT)
			s->on_failure = FAIL_TEMPFAIL;
		for (i = 0; i < KINDS; i++)
			modes[i][k] = k == 0  ? MODE_ENFORCE
			    : rand() % 3 == 0 ? PICK_ABSENT
			    : rand() % 6 == 0 ? MODE_SHADOW
			                      : MODE_ENFORCE;
	}
}

static unsigned seen_acts[DIE + 1], seen_split, seen_held;

/* compare - one kind's fate; a group alone has what the answer says */
static void
compare(unsigned kind, unsigned run)
{
	struct way w;
	struct fate *f = &fates[kind];
	bool alone = got.n_groups == 0, same;

	model(&w, kind);
	same = f->verdict == w.f.verdict && strcmp(f->by, w.f.by) == 0;
	/* Refused and alone: the receiver's message is as it was. */
	if (same && !(alone && w.f.verdict != CHAIN_CONTINUE))
		same = strcmp(f->text, w.f.text) == 0 &&
		    strcmp(f->sender, w.f.sender) == 0 &&
		    (w.f.verdict != CHAIN_CONTINUE ||
		        strcmp(f->reason, w.f.reason) == 0);
	if (!same)
		printf("# run %u kind %u: %d %s [%s] %s\n# %s\n# want %d %s "
		       "[%s] %s\n# %s\n",
		    run, kind, f->verdict, f->by, f->reason, f->sender, f->text,
		    w.f.verdict, w.f.by, w.f.reason, w.f.sender, w.f.text);
	T_OK(same);
	seen_held += w.f.reason[0] != '\0';
}

static void
one_run(unsigned run)
{
	unsigned kinds = 1 + (unsigned)rand() % KINDS, i, k;

	random_scripts();
	begin("");
	(void)ASK(chain_connect(chain, on_answer, NULL));
	(void)ASK(chain_mail(
	    chain, "0123456789ab", "s@x.test", NULL, 0, on_answer, NULL));
	for (i = 0; i < 2 * kinds; i++)
		T_OK(rcpt(i % kinds, i));
	(void)ASK(chain_data(chain, on_answer, NULL));
	(void)ASK(chain_message(chain, &msg, &env, on_answer, NULL));
	for (k = 0; k < kinds && !t_failed; k++)
		compare(k, run);
	for (k = 0; k < FILTERS; k++)
		seen_acts[scripts[k].act]++;
	seen_split += got.n_groups > 1;
	end();
}

static void
random_chains_come_out_as_in_the_serial_model(void)
{
	const char *more = getenv("GROUPS_RUNS"), *seed = getenv("GROUPS_SEED");
	unsigned runs = more != NULL ? (unsigned)atoi(more) : 600, i;

	for (i = 0; i < runs && !t_failed; i++) {
		srand(i + (seed != NULL ? (unsigned)atoi(seed) : 0));
		one_run(i);
	}
	printf("# %u runs, %u split, %u held\n", i, seen_split, seen_held);
	T_OK(seen_split > runs / 4 && seen_held > 0);
	for (i = 0; i <= DIE; i++)
		T_OK(seen_acts[i] >= 100 || runs < 600);
}

static void
plain(void)
{
	unsigned i, k;

	memset(scripts, 0, sizeof(scripts));
	for (k = 0; k < FILTERS; k++)
		for (i = 0; i < KINDS; i++)
			modes[i][k] = MODE_ENFORCE;
}

static void
a_filter_runs_again_only_for_another_version(void)
{
	unsigned edits_;

	for (edits_ = 0; edits_ < 2; edits_++) {
		plain();
		scripts[1].field = edits_ == 1;
		modes[1][1] = PICK_ABSENT;
		begin("");
		(void)ASK(chain_mail(chain, "0123456789ab", "s@x.test", NULL, 0,
		    on_answer, NULL));
		T_OK(rcpt(0, 0) && rcpt(1, 1) && rcpt(1, 2));
		T_OK(rcpts[1] == 1 && rcpts[2] == 3);
		(void)ASK(chain_message(chain, &msg, &env, on_answer, NULL));
		T_OK(got.n_groups == 2 && got.verdict == CHAIN_CONTINUE);
		T_OK(ends[0] == 1 && ends[1] == 1);
		T_OK(ends[2] == 1 + edits_ && sessions[2] == 1 + edits_);
		T_OK(rcpts[2] == 3 + 2 * edits_);
		end();
	}
}

static void
equal_edits_by_different_filters_are_one_version(void)
{
	plain();
	scripts[1].body = scripts[1].same = true;
	scripts[2].body = scripts[2].same = true;
	modes[0][2] = modes[1][1] = PICK_ABSENT;
	begin("");
	(void)ASK(chain_mail(
	    chain, "0123456789ab", "s@x.test", NULL, 0, on_answer, NULL));
	T_OK(rcpt(0, 0) && rcpt(1, 1));
	(void)ASK(chain_message(chain, &msg, &env, on_answer, NULL));
	T_OK(got.n_groups == 2 && ends[3] == 1 && ends[2] == 1);
	end();
}

static void
rules_pick_by_recipient_and_separate_refuses_others(void)
{
	plain();
	begin("mixed = separate rule \"x\" { recipient = {\"R1-*@Y.test\"} "
	      "skip = {\"f3\"} }");
	(void)ASK(chain_mail(
	    chain, "0123456789ab", "s@x.test", NULL, 0, on_answer, NULL));
	T_OK(rcpt(1, 0) && rcpts[3] == 0 && rcpts[2] == 1);
	T_OK(!rcpt(0, 1) && strncmp(got.reply, "452 4.5.3", 9) == 0);
	T_OK(rcpts[0] == 1);
	T_OK(rcpt(1, 2));
	T_OK(ASK(chain_message(chain, &msg, &env, on_answer, NULL)) ==
	        CHAIN_CONTINUE &&
	    got.n_groups == 0);
	end();
}

static void
too_many_kinds_of_recipients_are_sent_again(void)
{
	char policy[4096], addr[32];
	unsigned i, ok = 0;
	size_t n = 0;

	plain();
	for (i = 0; i < 5; i++) /* each bit of the number another skip */
		n += (size_t)snprintf(policy + n, sizeof(policy) - n,
		    "rule \"%u\" { recipient = {\"?????%.*s1*@*\"} skip = "
		    "{\"f%u\"} } ",
		    i, (int)i, "?????", i + 1);
	begin(policy);
	(void)ASK(chain_mail(
	    chain, "0123456789ab", "s@x.test", NULL, 0, on_answer, NULL));
	for (i = 0; i < 32; i++) {
		snprintf(addr, sizeof(addr), "rcpt-%u%u%u%u%u@y.test", i & 1,
		    i >> 1 & 1, i >> 2 & 1, i >> 3 & 1, i >> 4 & 1);
		ok += ASK(chain_rcpt(chain, addr, NULL, 0, NULL, NULL,
		          on_answer, NULL)) == CHAIN_CONTINUE;
	}
	T_OK(ok == CHAIN_GROUPS_MAX);
	end();
}

static const struct t_case cases[] = {
	{ "a filter runs again only for another version",
	    a_filter_runs_again_only_for_another_version },
	{ "equal edits by different filters are one version",
	    equal_edits_by_different_filters_are_one_version },
	{ "rules pick by recipient, and separate refuses others",
	    rules_pick_by_recipient_and_separate_refuses_others },
	{ "as many kinds of recipients as there may be",
	    too_many_kinds_of_recipients_are_sent_again },
	{ "random chains come out as in the serial model",
	    random_chains_come_out_as_in_the_serial_model },
};

int
main(void)
{
	int r;

	log_open("groups_test", LOG_TO_STDERR, 3);
	r = t_main(cases, sizeof(cases) / sizeof(cases[0]));
	unlisten_all();
	return (r);
}
