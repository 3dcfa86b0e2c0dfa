/* SPDX-License-Identifier: ISC */

/*
 * spawn - start children and milters, join them by channels, replace the dead
 */

#include "core/policy/policy.h"
#include "core/supervisor/sup.h"

#include "milter-sdk/base/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	BACKOFF_FIRST_MS = 100,
	BACKOFF_MAX_MS = 10000,
	LIVED_MS = 10000,  /* who lived so long starts with the first again */
	START_MS = 600000, /* a large spool or virus database takes a while */
	LOST_MS = 1000,    /* whose channel has ended */
	GONE_MS = 10000,   /* for a milter that was told to end */
	ARGS_MAX = 64
};

/* Which kinds talk to which. */
static const enum proc_kind links[][2] = {
	{ PROC_RECEIVER, PROC_QUEUE },
	{ PROC_RECEIVER, PROC_LOOKUP },
	{ PROC_QUEUE, PROC_RELAY },
	{ PROC_QUEUE, PROC_LOOKUP },
	{ PROC_RELAY, PROC_LOOKUP },
};

struct process *
spawn_find(struct sup *sup, enum proc_kind kind, unsigned index)
{
	size_t i;

	for (i = 0; i < sup->n_procs; i++)
		if (sup->procs[i]->ops != NULL &&
		    sup->procs[i]->ops->kind == kind &&
		    sup->procs[i]->index == index)
			return (sup->procs[i]);
	return (NULL);
}

static void
send_peer(struct process *to, const struct process *other, int sock)
{
	struct buf b = BUF_INIT(64);
	struct packer k = { &b, false };

	pack_u8(&k, (uint8_t)other->ops->kind);
	pack_u16(&k, (uint16_t)other->index);
	if (pack_end(&k) == -1 ||
	    chan_send_buf(to->control, MSG_PEER, 0, &b, sock) == -1)
		(void)close(sock);
	buf_fini(&b);
}

/* join - a fresh channel between two processes that both run */
static void
join(struct process *a, struct process *b)
{
	int sv[2];

	if (a->control == NULL || b->control == NULL)
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
	        sv) == -1) {
		log_err("supervisor: socketpair: %s", strerror(errno));
		return;
	}
	send_peer(a, b, sv[0]);
	send_peer(b, a, sv[1]);
}

static void
join_all(struct process *p)
{
	struct sup *sup = p->sup;
	size_t i, l;

	for (l = 0; l < sizeof(links) / sizeof(links[0]); l++)
		for (i = 0; i < sup->n_procs; i++) {
			struct process *o = sup->procs[i];

			if (o->ops == NULL || o == p)
				continue;
			if ((links[l][0] == p->ops->kind &&
			        links[l][1] == o->ops->kind) ||
			    (links[l][1] == p->ops->kind &&
			        links[l][0] == o->ops->kind))
				join(p, o);
		}
}

void
spawn_listeners(struct process *p, size_t from)
{
	struct sup *sup = p->sup;
	struct buf b = BUF_INIT(4096);
	struct packer k = { &b, false };
	size_t i;
	int fd;

	for (i = from; i < sup->n_listening; i++) {
		b.len = 0;
		pack_str(&k, sup->listening[i].title);
		fd = fcntl(sup->listening[i].sock, F_DUPFD_CLOEXEC, 0);
		if (fd == -1 || pack_end(&k) == -1 ||
		    chan_send_buf(p->control, MSG_LISTEN, 0, &b, fd) == -1) {
			log_err("supervisor: listener: title=%s: cannot pass",
			    sup->listening[i].title);
			if (fd != -1)
				(void)close(fd);
		}
	}
	buf_fini(&b);
}

/* tell_postmaster - by mail; the queue bounds how often */
static void
tell_postmaster(struct sup *sup, const char *kind, const char *text)
{
	struct process *queue = spawn_find(sup, PROC_QUEUE, 0);
	struct buf b = BUF_INIT(1 << 16);
	struct packer k = { &b, false };
	char subject[64];

	if (queue == NULL || queue->control == NULL)
		return;
	(void)snprintf(subject, sizeof(subject), "alarm: %s", kind);
	pack_str(&k, subject);
	pack_blob(&k, text, strlen(text));
	if (pack_end(&k) == -1 ||
	    chan_send_buf(queue->control, MSG_NOTICE, 0, &b, -1) == -1)
		log_warning("supervisor: alarm: not mailed: kind=%s", kind);
	buf_fini(&b);
}

static void
note_alarm(struct sup *sup, const char *kind, const char *text)
{
	struct alarm_note *a = &sup->alarms[sup->n_alarms++ % ALARMS_MAX];
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	a->at_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	(void)snprintf(a->kind, sizeof(a->kind), "%s", kind);
	(void)snprintf(a->text, sizeof(a->text), "%s", text);
	tell_postmaster(sup, kind, text);
}

static void
on_control(void *arg, struct chan *ch, struct frame *f)
{
	struct process *p = arg;
	struct unpacker u = { f->data, f->len, false };
	const char *kind, *text;

	(void)ch;
	if (f->type == MSG_ASK && f->fd != -1 && p->ops->kind == PROC_WEB) {
		control_adopt(p->sup, f->fd);
		return;
	}
	if (f->fd != -1)
		(void)close(f->fd);
	switch (f->type) {
	case MSG_READY:
		p->ready = true;
		break;
	case MSG_PONG:
		p->pong_ms = sup_now_ms();
		break;
	case MSG_REPLY:
		control_answer(p->sup, f);
		break;
	case MSG_RECORDING:
		recordings_asked(p, f);
		break;
	case MSG_ALARM:
		kind = unpack_str(&u);
		text = unpack_str(&u);
		if (unpack_end(&u) == 0)
			note_alarm(p->sup, kind, text);
		break;
	default:
		break;
	}
}

static void
on_control_gone(void *arg, struct chan *ch)
{
	struct process *p = arg;

	(void)ch;
	/* It ends, or is broken: a moment to end by itself, with its status. */
	p->lost = true;
}

/* in_child - what every process does after fork: no descriptor of ours but
 * keep (moved to 3, -1 for none), end with the supervisor */
static void
in_child(const struct process *p, int keep, pid_t parent)
{
	const struct settings *s = p->sup->settings;
	const char *role = p->ops != NULL ? proc_name(p->ops->kind) : "milter";
	const char *user = NULL;
	gid_t gid, group;
	uid_t uid;
	sigset_t none;
	size_t i;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (keep != -1 && dup2(keep, 3) == -1)
		_exit(EX_OSERR);
	(void)close_range(keep != -1 ? 4 : 3, ~0u, 0);
	for (i = 0; p->ops == NULL && i < s->n_milters; i++)
		if (strcmp(s->milters[i].name, p->milter) == 0)
			user = s->milters[i].user;
	if (p->sup->root) {
		if (user_find(s, role, p->nth, user, &uid, &gid) == -1)
			_exit(EX_NOUSER);
		/* A milter's socket belongs to the receiver's group. */
		if (p->ops == NULL) {
			if (user_find(s, "receiver", 0, NULL, &(uid_t){ 0 },
			        &group) == -1)
				_exit(EX_NOUSER);
			gid = group;
		}
		if (user_become(uid, gid) == -1)
			_exit(EX_NOPERM);
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1 ||
	    getppid() != parent)
		_exit(EX_UNAVAILABLE);
}

static void
run_child(struct process *p, int sock, pid_t parent)
{
	struct settings *s = p->sup->settings;

	in_child(p, sock, parent);
	log_open(p->name, s->log_form, s->log_level);
	child_main(p->ops, p->index, s, 3);
}

const struct milter_conf *
spawn_milter_of(const struct process *p)
{
	const struct settings *s = p->sup->settings;
	size_t i;

	for (i = 0; i < s->n_milters; i++)
		if (strcmp(s->milters[i].name, p->milter) == 0)
			return (&s->milters[i]);
	return (NULL);
}

static void
run_milter(const struct process *p, const struct milter_conf *m, pid_t parent)
{
	char *argv[ARGS_MAX + 8], path[1024];
	char *const envp[] = { (char *)"PATH=/usr/bin:/bin",
		(char *)"LC_ALL=C.UTF-8", NULL };
	size_t n = 0, i;

	in_child(p, -1, parent);
	if (m->run[0] == '/')
		(void)snprintf(path, sizeof(path), "%s", m->run);
	else
		(void)snprintf(path, sizeof(path), "%s/%s", LIBEXECDIR, m->run);
	argv[n++] = path;
	argv[n++] = (char *)"-p";
	argv[n++] = m->endpoints[0].text;
	if (m->settings != NULL) {
		argv[n++] = (char *)"-c";
		argv[n++] = m->settings;
	}
	for (i = 0; i < m->n_run_args && i < ARGS_MAX; i++)
		argv[n++] = m->run_args[i];
	argv[n] = NULL;
	(void)execve(path, argv, envp);
	log_err("%s: %s: %s", p->name, path, strerror(errno));
	_exit(EX_UNAVAILABLE);
}

/* start_later - after its back-off, which grows */
static void
start_later(struct process *p)
{
	struct timeval tv = { (time_t)(p->backoff_ms / 1000),
		(suseconds_t)(p->backoff_ms % 1000 * 1000) };

	(void)event_add(p->restart, &tv);
	if ((p->backoff_ms *= 2) > BACKOFF_MAX_MS)
		p->backoff_ms = BACKOFF_MAX_MS;
}

/* not_started - no process could be made: that may pass */
static void
not_started(struct process *p)
{
	log_err("supervisor: start: name=%s: %s", p->name, strerror(errno));
	p->pid = 0;
	start_later(p);
}

static void
start_child(struct process *p)
{
	struct sup *sup = p->sup;
	pid_t parent = getpid();
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
	        sv) == -1) {
		not_started(p);
		return;
	}
	if ((p->pid = fork()) == -1) {
		(void)close(sv[0]);
		(void)close(sv[1]);
		not_started(p);
		return;
	}
	if (p->pid == 0)
		run_child(p, sv[1], parent);
	(void)close(sv[1]);
	p->control = chan_new(sup->base, sv[0], on_control, on_control_gone, p);
	if (p->control == NULL) {
		(void)close(sv[0]);
		(void)kill(p->pid, SIGKILL);
		return;
	}
	state_send_all(sup, p);
	join_all(p);
	if (p->ops->kind == PROC_RECEIVER && sup->accepting)
		spawn_listeners(p, 0);
}

void
spawn_process(struct process *p)
{
	const struct milter_conf *m;
	pid_t parent = getpid();

	p->ready = p->answered = p->lost = false;
	p->started_ms = p->pong_ms = sup_now_ms();
	if (p->ops != NULL) {
		start_child(p);
	} else if ((m = spawn_milter_of(p)) != NULL && m->run != NULL) {
		if (m->endpoints[0].family == ENDPOINT_UNIX)
			(void)unlink(m->endpoints[0].path);
		if ((p->pid = fork()) == 0)
			run_milter(p, m, parent);
		if (p->pid == -1)
			not_started(p);
	} else
		return;
	if (p->pid > 0)
		log_info("supervisor: started: name=%s pid=%d", p->name,
		    (int)p->pid);
}

/* end_gone - sessions with the old settings have had their time */
static void
end_gone(struct process *p)
{
	const struct timeval more = { GONE_MS / 1000, 0 };

	(void)kill(p->pid, p->told ? SIGKILL : SIGTERM);
	p->told = true;
	(void)event_add(p->restart, &more);
}

static void
on_restart(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;

	(void)fd;
	(void)what;
	if (p->gone && p->pid > 0)
		end_gone(p);
	else if (p->pid == 0 && !p->gone && p->sup->phase == RUNNING) {
		p->restarts++;
		spawn_process(p);
	}
}

static struct process *
new_process(struct sup *sup, const char *name)
{
	struct process **list, *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return (NULL);
	list = realloc(sup->procs, (sup->n_procs + 1) * sizeof(*list));
	p->restart = event_new(sup->base, -1, 0, on_restart, p);
	if (list == NULL || p->restart == NULL) {
		if (list != NULL)
			sup->procs = list;
		if (p->restart != NULL)
			event_free(p->restart);
		free(p);
		return (NULL);
	}
	p->sup = sup;
	p->health_sock = -1;
	p->backoff_ms = BACKOFF_FIRST_MS;
	(void)snprintf(p->name, sizeof(p->name), "%s", name);
	sup->procs = list;
	sup->procs[sup->n_procs++] = p;
	return (p);
}

static int
add_kind(struct sup *sup, const struct child_ops *ops, unsigned n)
{
	struct process *p;
	char name[64];
	unsigned i;

	for (i = 0; i < n; i++) {
		(void)snprintf(
		    name, sizeof(name), "%s.%u", proc_name(ops->kind), i);
		if ((p = new_process(sup, name)) == NULL)
			return (-1);
		p->ops = ops;
		p->index = i;
	}
	return (0);
}

/* free_nth - the first number that no milter has: its user's */
static unsigned
free_nth(const struct sup *sup)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < sup->n_procs; i++)
		if (sup->procs[i]->milter != NULL && sup->procs[i]->nth == n) {
			n++;
			i = (size_t)-1; /* from the first again */
		}
	return (n);
}

static struct process *
find_milter(const struct sup *sup, const char *name)
{
	size_t i;

	for (i = 0; i < sup->n_procs; i++)
		if (sup->procs[i]->milter != NULL &&
		    strcmp(sup->procs[i]->milter, name) == 0)
			return (sup->procs[i]);
	return (NULL);
}

static void
add_milter(struct sup *sup, const char *title)
{
	unsigned nth = free_nth(sup);
	struct process *p;
	char name[64];

	(void)snprintf(name, sizeof(name), "milter.%s", title);
	if ((p = new_process(sup, name)) == NULL ||
	    (p->milter = strdup(title)) == NULL) {
		log_err(
		    "supervisor: start: name=%s: %s", name, strerror(errno));
		return;
	}
	p->nth = nth;
	spawn_process(p);
}

static bool
same_text(const char *a, const char *b)
{
	return (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0));
}

/* same_command - is the milter started alike in both settings? */
static bool
same_command(const struct milter_conf *a, const struct settings *s)
{
	const struct milter_conf *b = s->milters;
	size_t i;

	while (b < s->milters + s->n_milters && strcmp(a->name, b->name) != 0)
		b++;
	if (b == s->milters + s->n_milters || !same_text(a->run, b->run) ||
	    !same_text(a->settings, b->settings) ||
	    !same_text(a->user, b->user) || a->n_run_args != b->n_run_args ||
	    !same_text(a->endpoints[0].text, b->endpoints[0].text))
		return (false);
	for (i = 0; i < a->n_run_args; i++)
		if (strcmp(a->run_args[i], b->run_args[i]) != 0)
			return (false);
	return (true);
}

bool
spawn_wanted(const struct settings *s, const struct milter_conf *m)
{
	const size_t milter = (size_t)(m - s->milters);
	size_t i;

	for (i = 0; m->run != NULL && i < s->n_policies; i++)
		if (policy_reaches(&s->policies[i], milter))
			return (true);
	return (false);
}

/* retire - milters that are no longer asked serve the sessions that began
 * with the old settings for a while */
static void
retire(struct sup *sup)
{
	const uint64_t ms = sup->settings->stop_ms;
	const struct timeval tv = { (time_t)(ms / 1000),
		(suseconds_t)(ms % 1000 * 1000) };
	const struct milter_conf *m;
	size_t i;

	for (i = 0; i < sup->n_procs; i++) {
		struct process *p = sup->procs[i];

		if (p->ops != NULL || p->gone ||
		    ((m = spawn_milter_of(p)) != NULL &&
		        spawn_wanted(sup->settings, m)))
			continue;
		p->gone = true;
		p->told = false;
		(void)event_add(p->restart, &tv);
	}
}

void
spawn_milters_again(struct sup *sup, const struct settings *old)
{
	const struct settings *s = sup->settings;
	struct process *p;
	size_t i;

	retire(sup);
	for (i = 0; i < s->n_milters; i++) {
		if (!spawn_wanted(s, &s->milters[i]))
			continue;
		if ((p = find_milter(sup, s->milters[i].name)) == NULL) {
			add_milter(sup, s->milters[i].name);
			continue;
		}
		if (p->gone)
			(void)event_del(p->restart);
		p->gone = false;
		if (p->pid == 0) {
			if (!event_pending(p->restart, EV_TIMEOUT, NULL))
				spawn_process(p);
		} else /* the reaper starts it again, after SIGTERM */
			(void)kill(p->pid,
			    same_command(&s->milters[i], old) ? SIGHUP
			                                      : SIGTERM);
	}
}

void
spawn_web_again(struct sup *sup)
{
	const bool wanted = sup->settings->n_web_addresses > 0;
	struct process *p = spawn_find(sup, PROC_WEB, 0);

	if (p == NULL) {
		if (wanted && add_kind(sup, &web_ops, 1) == 0)
			spawn_process(sup->procs[sup->n_procs - 1]);
		return;
	}
	if (!wanted && !p->gone) {
		p->gone =
		    true; /* ended by its own reload: no address is left */
		(void)event_del(p->restart);
	} else if (wanted && p->gone) {
		p->gone = false;
		if (p->pid == 0)
			spawn_process(p);
	}
}

int
spawn_all(struct sup *sup)
{
	const struct settings *s = sup->settings;
	size_t i;

	if (add_kind(sup, &lookup_ops, 1) == -1 ||
	    add_kind(sup, &queue_ops, 1) == -1 ||
	    add_kind(sup, &relay_ops, s->relays) == -1 ||
	    add_kind(sup, &receiver_ops, s->receivers) == -1 ||
	    add_kind(sup, &web_ops, s->n_web_addresses > 0) == -1)
		return (-1);
	for (i = 0; i < sup->n_procs; i++)
		spawn_process(sup->procs[i]);
	for (i = 0; i < s->n_milters; i++)
		if (spawn_wanted(s, &s->milters[i]))
			add_milter(sup, s->milters[i].name);
	return (0);
}

bool
spawn_ready(const struct sup *sup)
{
	const struct milter_conf *m;
	struct stat st;
	size_t i;

	for (i = 0; i < sup->n_procs; i++) {
		const struct process *p = sup->procs[i];

		if (p->ops != NULL && !p->ready && p->ops->kind != PROC_WEB)
			return (false);
		if (p->ops == NULL && (m = spawn_milter_of(p)) != NULL &&
		    m->endpoints[0].family == ENDPOINT_UNIX &&
		    stat(m->endpoints[0].path, &st) == -1)
			return (false);
	}
	return (true);
}

static struct process *
by_pid(struct sup *sup, pid_t pid)
{
	size_t i;

	for (i = 0; i < sup->n_procs; i++)
		if (sup->procs[i]->pid == pid)
			return (sup->procs[i]);
	return (NULL);
}

void
spawn_reaped(struct sup *sup, pid_t pid, int status)
{
	struct process *p = by_pid(sup, pid);

	if (p == NULL)
		return;
	p->pid = 0;
	p->ready = false;
	chan_free(&p->control);
	gather_lost(sup, p);
	health_end(p);
	if (sup->phase != RUNNING || p->gone) {
		sup_next_phase(sup);
		return;
	}
	if (sup_now_ms() - p->started_ms >= LIVED_MS)
		p->backoff_ms = BACKOFF_FIRST_MS;
	log_warning("supervisor: ended: name=%s pid=%d %s=%d again_ms=%llu",
	    p->name, (int)pid, WIFSIGNALED(status) ? "signal" : "status",
	    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
	    (unsigned long long)p->backoff_ms);
	start_later(p);
}

void
spawn_broadcast(struct sup *sup, uint16_t type, const struct buf *b)
{
	size_t i;

	for (i = 0; i < sup->n_procs; i++)
		if (sup->procs[i]->control != NULL &&
		    chan_send(sup->procs[i]->control, type, 0,
		        b != NULL ? b->data : NULL, b != NULL ? b->len : 0,
		        -1) == -1)
			log_warning("supervisor: send: name=%s: %s",
			    sup->procs[i]->name, strerror(errno));
}

/* hung - was it silent for too long? */
static bool
hung(const struct process *p, uint64_t now)
{
	const bool begun = p->ops != NULL ? p->ready : p->answered;
	uint64_t limit = p->sup->settings->hang_ms;

	/* It reads the whole spool first, which takes what it takes: cut off,
	 * it would begin anew for ever. */
	if (!begun && !p->lost && p->ops != NULL && p->ops->kind == PROC_QUEUE)
		return (false);
	if (!begun && limit < START_MS)
		limit = START_MS;
	if (p->lost)
		limit = LOST_MS;
	return (now - p->pong_ms > limit);
}

void
spawn_watch(struct sup *sup)
{
	uint64_t now = sup_now_ms();
	size_t i;

	for (i = 0; i < sup->n_procs; i++) {
		struct process *p = sup->procs[i];

		if (p->pid == 0 || p->gone)
			continue;
		if (hung(p, now)) {
			log_err("supervisor: hung: name=%s pid=%d", p->name,
			    (int)p->pid);
			(void)kill(p->pid, SIGKILL);
			p->pong_ms = now;
		} else if (p->ops == NULL) {
			if (!p->answered ||
			    now - p->pong_ms > sup->settings->hang_ms / 3)
				health_ask(p);
		} else if (p->control != NULL &&
		    chan_send(p->control, MSG_PING, 0, NULL, 0, -1) == -1)
			log_debug("supervisor: ping: name=%s", p->name);
	}
}

void
spawn_free(struct sup *sup)
{
	while (sup->n_procs > 0) {
		struct process *p = sup->procs[--sup->n_procs];

		chan_free(&p->control);
		health_end(p);
		event_free(p->restart);
		free(p->milter);
		free(p);
	}
	free(sup->procs);
	sup->procs = NULL;
}
