/* SPDX-License-Identifier: ISC */

/*
 * main - the milldam supervisor
 *
 * Order matters: mistakes in the configuration before anything is opened,
 * sockets and folders before privileges go, children before clients.
 */

#include "config.h"

#include "core/proc/sandbox.h"
#include "core/supervisor/sup.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { READY_MS = 15000 }; /* then clients are served with what is there */

uint64_t
sup_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

/* any_left - does a process of the phase still run? */
static bool
any_left(const struct sup *sup)
{
	size_t i;

	for (i = 0; i < sup->n_procs; i++) {
		const struct process *p = sup->procs[i];
		bool receiver = p->ops != NULL && p->ops->kind == PROC_RECEIVER;
		bool queue = p->ops != NULL && p->ops->kind == PROC_QUEUE;

		if (p->pid == 0 ||
		    (sup->phase == STOP_RECEIVERS && !receiver) ||
		    (sup->phase == STOP_QUEUE && !queue))
			continue;
		return (true);
	}
	return (false);
}

/* tell - MSG_STOP to the processes of the phase, SIGTERM to milters */
static void
tell(struct sup *sup)
{
	size_t i;

	for (i = 0; i < sup->n_procs; i++) {
		struct process *p = sup->procs[i];
		enum proc_kind kind =
		    p->ops != NULL ? p->ops->kind : PROC_KINDS;

		if (p->pid == 0 ||
		    (sup->phase == STOP_RECEIVERS && kind != PROC_RECEIVER) ||
		    (sup->phase == STOP_QUEUE && kind != PROC_QUEUE))
			continue;
		if (p->control == NULL)
			(void)kill(p->pid, SIGTERM);
		else if (chan_send(p->control, MSG_STOP, 0, NULL, 0, -1) == -1)
			(void)kill(p->pid, SIGKILL);
	}
}

void
sup_next_phase(struct sup *sup)
{
	while (sup->phase != RUNNING && !any_left(sup)) {
		if (sup->phase == STOP_REST) {
			(void)event_base_loopbreak(sup->base);
			return;
		}
		sup->phase++;
		tell(sup);
	}
}

void
sup_stop(struct sup *sup)
{
	const uint64_t ms = sup->settings->stop_ms;
	struct timeval tv = { (time_t)(ms / 1000),
		(suseconds_t)(ms % 1000 * 1000) };

	if (sup->phase != RUNNING)
		return;
	log_info("supervisor: stopping");
	sup->phase = STOP_RECEIVERS;
	(void)event_add(sup->stop_timer, &tv);
	tell(sup);
	sup_next_phase(sup);
}

/* on_stop_time - grace is over */
static void
on_stop_time(evutil_socket_t fd, short what, void *arg)
{
	struct sup *sup = arg;
	size_t i;

	(void)fd;
	(void)what;
	for (i = 0; i < sup->n_procs; i++)
		if (sup->procs[i]->pid > 0) {
			log_warning("supervisor: killed after stop-time: "
			            "name=%s",
			    sup->procs[i]->name);
			(void)kill(sup->procs[i]->pid, SIGKILL);
		}
}

static void
on_signal(evutil_socket_t sig, short what, void *arg)
{
	struct sup *sup = arg;
	struct buf errors = BUF_INIT(1 << 20);
	int status;
	pid_t pid;

	(void)what;
	switch (sig) {
	case SIGCHLD:
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			spawn_reaped(sup, pid, status);
		break;
	case SIGHUP:
		(void)sup_reload(sup, &errors);
		buf_fini(&errors);
		break;
	case SIGUSR1:
		spawn_broadcast(sup, MSG_REOPEN, NULL);
		break;
	default:
		sup_stop(sup);
		break;
	}
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sup *sup = arg;

	(void)fd;
	(void)what;
	if (sup->phase == RUNNING) /* else stop-time is their limit */
		spawn_watch(sup);
}

/* on_ready - poll until all is up, then let clients in */
static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
	static uint64_t begun;
	static const struct timeval again = { 0, 20000 };
	struct sup *sup = arg;

	(void)fd;
	(void)what;
	if (begun == 0)
		begun = sup_now_ms();
	if (!spawn_ready(sup) && sup_now_ms() - begun < READY_MS) {
		(void)event_add(sup->accept, &again);
		return;
	}
	if (sup->phase != RUNNING)
		return;
	if (listen_begin(sup) == -1)
		sup_stop(sup);
	else
		log_info("supervisor: ready: sockets=%zu", sup->n_listening);
}

static int
make_events(struct sup *sup)
{
	static const int signals[5] = { SIGCHLD, SIGHUP, SIGTERM, SIGINT,
		SIGUSR1 };
	static const struct timeval second = { 1, 0 }, now = { 0, 0 };
	size_t i;

	for (i = 0; i < 5; i++) {
		sup->sigs[i] =
		    evsignal_new(sup->base, signals[i], on_signal, sup);
		if (sup->sigs[i] == NULL || event_add(sup->sigs[i], NULL) == -1)
			return (-1);
	}
	sup->tick = event_new(sup->base, -1, EV_PERSIST, on_tick, sup);
	sup->accept = event_new(sup->base, -1, 0, on_ready, sup);
	sup->stop_timer = event_new(sup->base, -1, 0, on_stop_time, sup);
	if (sup->tick == NULL || sup->accept == NULL || sup->stop_timer == NULL)
		return (-1);
	(void)event_add(sup->tick, &second);
	(void)event_add(sup->accept, &now);
	return (0);
}

static void
raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int
run(struct sup *sup)
{
	const struct settings *s = sup->settings;

	log_open("milldam", s->log_form, s->log_level);
	(void)signal(SIGPIPE, SIG_IGN);
	raise_limits();
	sup->root = geteuid() == 0;
	if (user_prepare(sup) == -1 || listen_bind(sup) == -1 ||
	    user_drop_self(sup) == -1)
		return (EX_NOPERM);
	if (sandbox_supervisor(s) == -1) {
		log_err("supervisor: sandbox: %s", strerror(errno));
		return (EX_OSERR);
	}
	if ((sup->base = event_base_new()) == NULL || make_events(sup) == -1)
		return (EX_OSERR);
	if (state_load(sup) == -1)
		log_warning("supervisor: state: %s", strerror(errno));
	if (control_open(sup) == -1 || spawn_all(sup) == -1)
		return (EX_OSERR);
	(void)event_base_dispatch(sup->base);
	log_info("supervisor: stopped");
	return (EX_OK);
}

/* release - so that a leak check finds only what was really lost */
static void
release(struct sup *sup)
{
	struct event *own[] = { sup->tick, sup->accept, sup->stop_timer,
		sup->sigs[0], sup->sigs[1], sup->sigs[2], sup->sigs[3],
		sup->sigs[4] };
	size_t i;

	control_close(sup);
	spawn_free(sup);
	listen_free(sup);
	state_free(sup);
	for (i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i] != NULL)
			event_free(own[i]);
	if (sup->base != NULL)
		event_base_free(sup->base);
	settings_unref(&sup->settings);
}

static void
usage(FILE *out)
{
	fprintf(out,
	    "usage: milldam [-n] [-f file]\n\n"
	    "  -f file  configuration (%s/milldam.conf)\n"
	    "  -n       report every mistake in it and exit\n"
	    "  -V       print the version and exit\n",
	    SYSCONFDIR);
}

static void
version(void)
{
#ifdef SANITIZER
	printf("milldam %s, built with a sanitizer: not for production\n",
	    PACKAGE_VERSION);
#else
	printf("milldam %s\n", PACKAGE_VERSION);
#endif
}

/* read_settings - or every mistake on stderr */
static int
read_settings(struct sup *sup)
{
	struct buf errors = BUF_INIT(1 << 20);

	sup->settings = settings_read(sup->conf_path, &errors);
	if (sup->settings == NULL)
		fputs(errors.data != NULL ? errors.data : "", stderr);
	buf_fini(&errors);
	return (sup->settings != NULL ? 0 : -1);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = { { "version", 0, NULL, 'V' },
		{ "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	struct sup sup = { .conf_path = SYSCONFDIR "/milldam.conf",
		.control_sock = -1 };
	bool check = false;
	int ch, rc = EX_OK;

	while ((ch = getopt_long(argc, argv, "f:nVh", options, NULL)) != -1)
		switch (ch) {
		case 'f':
			sup.conf_path = optarg;
			break;
		case 'n':
			check = true;
			break;
		case 'V':
			version();
			return (EX_OK);
		case 'h':
			usage(stdout);
			return (EX_OK);
		default:
			usage(stderr);
			return (EX_USAGE);
		}
	if (optind != argc) {
		usage(stderr);
		return (EX_USAGE);
	}
	if (read_settings(&sup) == -1)
		return (EX_CONFIG);
	if (check && check_milters(sup.settings) == -1)
		rc = EX_CONFIG;
	else if (check)
		printf("%s: no mistakes\n", sup.conf_path);
	else
		rc = run(&sup);
	release(&sup);
	return (rc);
}
