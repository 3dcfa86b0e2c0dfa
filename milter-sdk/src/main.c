/* SPDX-License-Identifier: ISC */

/* main - command line, settings and the way into the background */

#include "config.h"

#include "milter-sdk/base/log.h"
#include "milter-sdk/src/session.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
	STOP_MS = 10000, /* for the messages in hand */
	FILES = 65536    /* descriptors: one for each session */
};

struct options {
	const char *socket, *settings, *pidfile, *user, *log;
	const struct engine *engine;
	bool check, detach, verbose, help;
};

static const struct engine *const engines[] = { &engine_events,
	&engine_libmilter };

static const char *const type_names[] = { "text", "path", "yes|no", "number",
	"size", "time", "word", "{list}", "{networks}" };

static void
print_help(const struct mill_filter *f)
{
	const struct mill_option *o;
	size_t i;

	printf(
	    "%s %s\n"
	    "usage: %s -p SOCKET [-c FILE] [-f | -d] [-P PIDFILE] [-u USER]\n"
	    "       [-l stderr|syslog|json] [-e events|libmilter] [-v]\n"
	    "       %s -n [-c FILE]\n",
	    f->name, f->version != NULL ? f->version : "", f->name, f->name);
	for (o = f->options; o != NULL && o->name != NULL; o++) {
		if (o == f->options)
			puts("\nSettings:");
		printf("  %s = ", o->name);
		for (i = 0; o->type == MILL_WORD && o->words[i] != NULL; i++)
			printf("%s%s", i > 0 ? "|" : "", o->words[i]);
		if (o->type != MILL_WORD)
			fputs(type_names[o->type], stdout);
		if (o->value != NULL)
			printf("  (default %s)", o->value);
		printf("\n      %s\n", o->help != NULL ? o->help : "");
	}
}

static int
usage(const struct mill_filter *f, const char *why)
{
	fprintf(stderr,
	    "%s: %s\nusage: %s -p SOCKET [-c FILE] [-n] [-f | -d] [-P PIDFILE] "
	    "[-u USER]\n       [-l stderr|syslog|json] [-e events|libmilter] "
	    "[-v] "
	    "[-h]\n",
	    f->name, why, f->name);
	return (EX_USAGE);
}

/* find_engine - NULL for a name that none has */
static const struct engine *
find_engine(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
		if (strcmp(engines[i]->name, name) == 0)
			return (engines[i]);
	return (NULL);
}

/* parse - 0, or -1 for a letter that does not exist (getopt has said so) */
static int
parse(struct options *o, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "p:c:nfdP:u:l:e:vh")) != -1)
		switch (c) {
		case 'p':
			o->socket = optarg;
			break;
		case 'c':
			o->settings = optarg;
			break;
		case 'n':
			o->check = true;
			break;
		case 'f':
			o->detach = false;
			break;
		case 'd':
			o->detach = true;
			break;
		case 'P':
			o->pidfile = optarg;
			break;
		case 'u':
			o->user = optarg;
			break;
		case 'l':
			o->log = optarg;
			break;
		case 'e':
			o->engine = find_engine(optarg);
			break;
		case 'v':
			o->verbose = true;
			break;
		case 'h':
			o->help = true;
			break;
		default:
			return (-1);
		}
	return (0);
}

/* read_settings - NULL after all mistakes were given to say */
static struct loaded *
read_settings(const struct mill_filter *f, const char *path,
    void (*say)(const char *line), int *status_r)
{
	struct buf errors = BUF_INIT(1 << 20);
	struct loaded *l = loaded_read(f, path, NULL, &errors);
	char *line, *rest = NULL;

	*status_r = l == NULL && errno != 0 ? EX_TEMPFAIL : EX_CONFIG;
	if (l == NULL && errors.len == 0)
		say(strerror(errno));
	if (errors.data != NULL)
		for (line = strtok_r(errors.data, "\n", &rest); line != NULL;
		     line = strtok_r(NULL, "\n", &rest))
			say(line);
	buf_fini(&errors);
	return (l);
}

static void
say_stderr(const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static void
say_log(const char *line)
{
	log_err("settings: %s", line);
}

static int
become(const char *name)
{
	struct passwd *pw = getpwnam(name);

	if (pw == NULL) {
		log_err("user: %s: not found", name);
		return (-1);
	}
	if (geteuid() == pw->pw_uid && getegid() == pw->pw_gid)
		return (0);
	if (initgroups(name, pw->pw_gid) == -1 || setgid(pw->pw_gid) == -1 ||
	    setuid(pw->pw_uid) == -1) {
		log_err("user: %s: %s", name, strerror(errno));
		return (-1);
	}
	return (0);
}

static int
open_pidfile(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd == -1)
		log_err("pidfile: %s: %s", path, strerror(errno));
	return (fd);
}

static void
write_pid(int fd)
{
	if (fd == -1)
		return;
	if (ftruncate(fd, 0) == -1 || dprintf(fd, "%d\n", (int)getpid()) < 0)
		log_warning("pidfile: %s", strerror(errno));
	(void)close(fd);
}

/*
 * detach - the child returns with a descriptor to close (after a byte: ready);
 * the parent waits for it and ends
 */
static int
detach(void)
{
	int pipe_fd[2], null;
	char c;

	if (pipe2(pipe_fd, O_CLOEXEC) == -1)
		return (-1);
	switch (fork()) {
	case -1:
		return (-1);
	case 0:
		break;
	default:
		(void)close(pipe_fd[1]);
		_exit(read(pipe_fd[0], &c, 1) == 1 ? EX_OK : EX_TEMPFAIL);
	}
	(void)close(pipe_fd[0]);
	(void)setsid();
	if (chdir("/") == -1)
		return (-1);
	if ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) != -1) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
	}
	return (pipe_fd[1]);
}

static void
reload(const struct mill_filter *f, const char *path)
{
	struct loaded *l;
	int status;

	if ((l = read_settings(f, path, say_log, &status)) == NULL) {
		log_err("settings: the ones before stay");
		return;
	}
	session_set_loaded(l);
	log_info("settings: read again");
}

/*
 * stop - messages in hand go on for a while; what begins is told to come again.
 * Then the process ends without a clean-up: libmilter's takes 5 s to notice
 * and cuts sessions off all the same.
 */
static int
stop(const struct mill_filter *f, const struct options *o)
{
	const struct timespec tick = { 0, 20 * 1000000 };
	int i;

	listen_remove(o->socket);
	session_stop();
	for (i = 0; i < STOP_MS / 20 && session_in_hand() > 0; i++)
		(void)nanosleep(&tick, NULL);
	if (session_in_hand() > 0)
		log_warning("stop: %u in hand cut off", session_in_hand());
	else if (f->fini != NULL)
		f->fini();
	if (o->pidfile != NULL)
		(void)unlink(o->pidfile); /* its folder may not be ours */
	log_info("stopped");
	return (EX_OK);
}

static int
run(const struct mill_filter *f, const struct options *o)
{
	int sig;

	for (;;) {
		sig = signals_wait(1000);
		if (sig == SIGHUP)
			reload(f, o->settings);
		else if (sig != 0)
			return (stop(f, o));
		if (o->engine->ended() && o->engine->asked())
			return (
			    stop(f, o)); /* it took our signal at the start */
		if (o->engine->ended()) {
			log_err("engine: %s has ended", o->engine->name);
			return (EX_TEMPFAIL);
		}
	}
}

/* more_files - a session needs one, and the usual limit is low */
static void
more_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1 || r.rlim_cur >= FILES)
		return;
	r.rlim_cur = r.rlim_max < FILES ? r.rlim_max : FILES;
	(void)setrlimit(RLIMIT_NOFILE, &r);
}

/* find_files - paths that hold when the working directory is left */
static int
find_files(struct options *o)
{
	static char where[PATH_MAX], settings[PATH_MAX], pidfile[PATH_MAX];

	if (listen_text(o->socket, where, sizeof(where)) == -1) {
		log_err("socket: %s: %s", o->socket, strerror(errno));
		return (-1);
	}
	o->socket = where;
	if ((o->settings != NULL &&
	        absolute(o->settings, settings, sizeof(settings)) == -1) ||
	    (o->pidfile != NULL &&
	        absolute(o->pidfile, pidfile, sizeof(pidfile)) == -1)) {
		log_err("file name: %s", strerror(errno));
		return (-1);
	}
	if (o->settings != NULL)
		o->settings = settings;
	if (o->pidfile != NULL)
		o->pidfile = pidfile;
	return (0);
}

/* start - all that may fail; 0 or an exit status */
static int
start(const struct mill_filter *f, struct options *o)
{
	struct loaded *l;
	int status, pid_fd = -1, ready = -1;

	if (find_files(o) == -1)
		return (EX_TEMPFAIL);
	more_files();
	if (o->pidfile != NULL && (pid_fd = open_pidfile(o->pidfile)) == -1)
		return (EX_TEMPFAIL);
	if (o->user != NULL && become(o->user) == -1)
		return (EX_TEMPFAIL);
	if ((l = read_settings(f, o->settings, say_stderr, &status)) == NULL)
		return (status);
	if (geteuid() == 0)
		log_warning("runs as root: -u USER is safer");
	session_set_loaded(loaded_ref(l));
	if ((o->detach && (ready = detach()) == -1) || signals_catch() == -1) {
		log_err("start: %s", strerror(errno));
		return (EX_TEMPFAIL);
	}
	write_pid(pid_fd);
	if (f->init != NULL && f->init(l->data) == -1)
		return (EX_TEMPFAIL);
	loaded_unref(&l);
	if (o->engine->open(f, o->socket) == -1 || o->engine->start() == -1) {
		log_err("listen: %s: %s", o->socket, strerror(errno));
		return (EX_TEMPFAIL);
	}
	log_info("started: socket=%s, engine=%s", o->socket, o->engine->name);
	if (ready != -1) {
		/* Whoever started us may wait for the end of our stderr. */
		if (o->log == NULL)
			(void)dup2(STDOUT_FILENO, STDERR_FILENO);
		(void)!write(ready, "", 1);
		(void)close(ready);
	}
	return (0);
}

static int
check(const struct mill_filter *f, const struct options *o)
{
	struct loaded *l;
	int status;

	l = read_settings(f, o->settings, say_stderr, &status);
	if (l == NULL)
		return (status);
	loaded_unref(&l);
	return (EX_OK);
}

/* choose_log - false for a word that is no form */
static bool
choose_log(const struct mill_filter *f, const struct options *o)
{
	enum log_form form = o->detach ? LOG_TO_SYSLOG : LOG_TO_STDERR;

	if (o->log != NULL) {
		if (strcmp(o->log, "syslog") == 0)
			form = LOG_TO_SYSLOG;
		else if (strcmp(o->log, "json") == 0)
			form = LOG_TO_JSON;
		else if (strcmp(o->log, "stderr") == 0)
			form = LOG_TO_STDERR;
		else
			return (false);
	}
	log_open(f->name, form, o->verbose ? LOG_DEBUG : LOG_INFO);
	return (true);
}

/* filter_now - the definition in today's form: an older one is shorter */
static const struct mill_filter *
filter_now(const struct mill_filter *f)
{
	static struct mill_filter now;

	if (f->abi >= 2)
		return (f);
	memcpy(&now, f, offsetof(struct mill_filter, quick));
	return (&now);
}

int
mill_main(const struct mill_filter *f, int argc, char **argv)
{
	struct options o = { .engine = engines[0] };
	int status;

	if (f->abi < 1 || f->abi > MILL_ABI) {
		fprintf(stderr, "%s: made for libmilldam ABI %d, this is %d\n",
		    f->name, f->abi, MILL_ABI);
		return (EX_SOFTWARE);
	}
	f = filter_now(f);
	if (filter_fault(f) != NULL) {
		fprintf(stderr, "%s: fault: %s\n", f->name, filter_fault(f));
		return (EX_SOFTWARE);
	}
	if (parse(&o, argc, argv) == -1)
		return (EX_USAGE);
	if (o.help) {
		print_help(f);
		return (EX_OK);
	}
	if (optind < argc)
		return (usage(f, "too many arguments"));
	if (!choose_log(f, &o))
		return (usage(f, "-l takes stderr, syslog or json"));
	if (o.engine == NULL)
		return (usage(f, "-e takes events or libmilter"));
	if (o.check)
		return (check(f, &o));
	if (o.socket == NULL)
		return (usage(f, "-p is needed"));
	if ((status = start(f, &o)) == 0)
		status = run(f, &o);
	/* Not exit(): sessions of other threads still use what it frees. */
	(void)fflush(NULL);
#ifdef SANITIZER
	if (__lsan_do_leak_check != NULL)
		__lsan_do_leak_check();
#endif
	_exit(status);
}
