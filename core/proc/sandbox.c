/* SPDX-License-Identifier: ISC */

/*
 * sandbox - take from a child every right that its job does not need
 *
 * One table says which system calls a kind of process may make; all others
 * return EPERM, so that a probe or a library's optional call survives and a
 * taken-over process gets nowhere.  Landlock says which files; a process with
 * an empty row sees none.
 */

#include "config.h"

#include "core/proc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define R     (1u << PROC_RECEIVER)
#define Q     (1u << PROC_QUEUE)
#define Y     (1u << PROC_RELAY)
#define L     (1u << PROC_LOOKUP)
#define W     (1u << PROC_WEB)
#define ALL   (R | Q | Y | L | W)
#define NET   (R | Y | L)
#define FILES (Q | L)

#ifdef SANITIZER
#define S ALL /* what AddressSanitizer and its leak check call */
#else
#define S 0
#endif

static const struct {
	int nr;
	unsigned who;
} calls[] = {
	{ SCMP_SYS(brk), ALL },
	{ SCMP_SYS(clock_gettime), ALL },
	{ SCMP_SYS(clock_nanosleep), ALL },
	{ SCMP_SYS(close), ALL },
	{ SCMP_SYS(dup), ALL },
	{ SCMP_SYS(epoll_create1), ALL },
	{ SCMP_SYS(epoll_ctl), ALL },
	{ SCMP_SYS(epoll_pwait), ALL },
	{ SCMP_SYS(epoll_wait), ALL },
	{ SCMP_SYS(eventfd2), ALL },
	{ SCMP_SYS(exit), ALL },
	{ SCMP_SYS(exit_group), ALL },
	{ SCMP_SYS(fcntl), ALL },
	{ SCMP_SYS(fstat), ALL },
	{ SCMP_SYS(futex), ALL },
	{ SCMP_SYS(getpid), ALL },
	{ SCMP_SYS(getrandom), ALL },
	{ SCMP_SYS(gettid), ALL },
	{ SCMP_SYS(gettimeofday), ALL },
	{ SCMP_SYS(getuid), ALL },
	{ SCMP_SYS(ioctl), ALL },
	{ SCMP_SYS(lseek), ALL },
	{ SCMP_SYS(madvise), ALL },
	{ SCMP_SYS(mmap), ALL },
	{ SCMP_SYS(mprotect), ALL },
	{ SCMP_SYS(mremap), ALL },
	{ SCMP_SYS(munmap), ALL },
	{ SCMP_SYS(nanosleep), ALL },
	{ SCMP_SYS(poll), ALL },
	{ SCMP_SYS(pread64), ALL },
	{ SCMP_SYS(preadv), ALL },
	{ SCMP_SYS(read), ALL },
	{ SCMP_SYS(readv), ALL },
	{ SCMP_SYS(recvfrom), ALL },
	{ SCMP_SYS(recvmsg), ALL },
	{ SCMP_SYS(restart_syscall), ALL },
	{ SCMP_SYS(rt_sigaction), ALL },
	{ SCMP_SYS(rt_sigprocmask), ALL },
	{ SCMP_SYS(rt_sigreturn), ALL },
	{ SCMP_SYS(sched_yield), ALL },
	{ SCMP_SYS(sendmsg), ALL },
	{ SCMP_SYS(sendto), ALL },
	{ SCMP_SYS(sigaltstack), ALL },
	{ SCMP_SYS(timerfd_create), ALL },
	{ SCMP_SYS(timerfd_settime), ALL },
	{ SCMP_SYS(write), ALL },
	{ SCMP_SYS(writev), ALL },
	/* sockets */
	{ SCMP_SYS(accept4), R | W },
	{ SCMP_SYS(bind), Y | L },
	{ SCMP_SYS(connect), NET },
	{ SCMP_SYS(getpeername), NET },
	{ SCMP_SYS(getsockname), NET },
	{ SCMP_SYS(getsockopt), NET },
	{ SCMP_SYS(setsockopt), NET },
	{ SCMP_SYS(shutdown), NET | W },
	{ SCMP_SYS(socket), NET },
	{ SCMP_SYS(socketpair), W },
	{ SCMP_SYS(sendmmsg), L },
	/* content in memory */
	{ SCMP_SYS(ftruncate), R | Q },
	{ SCMP_SYS(memfd_create), R | Q },
	{ SCMP_SYS(pwrite64), R | Q },
	{ SCMP_SYS(pwritev), R | Q },
	/* files, beneath what Landlock leaves */
	{ SCMP_SYS(access), FILES },
	{ SCMP_SYS(faccessat), FILES },
	{ SCMP_SYS(faccessat2), FILES },
	{ SCMP_SYS(getdents64), FILES },
	{ SCMP_SYS(newfstatat), FILES },
	{ SCMP_SYS(open), FILES },
	{ SCMP_SYS(openat), FILES },
	{ SCMP_SYS(stat), FILES },
	{ SCMP_SYS(statx), FILES },
	{ SCMP_SYS(fallocate), Q },
	{ SCMP_SYS(fchmod), Q },
	{ SCMP_SYS(fdatasync), Q },
	{ SCMP_SYS(flock), Q },
	{ SCMP_SYS(fstatfs), Q },
	{ SCMP_SYS(fsync), Q },
	{ SCMP_SYS(link), Q },
	{ SCMP_SYS(linkat), Q },
	{ SCMP_SYS(mkdir), Q },
	{ SCMP_SYS(mkdirat), Q },
	{ SCMP_SYS(pwritev2), Q },
	{ SCMP_SYS(rename), Q },
	{ SCMP_SYS(renameat), Q },
	{ SCMP_SYS(renameat2), Q },
	{ SCMP_SYS(statfs), Q },
	{ SCMP_SYS(sync_file_range), Q },
	{ SCMP_SYS(unlink), Q },
	{ SCMP_SYS(unlinkat), Q },
	/* the queue's sync thread */
	{ SCMP_SYS(rseq), Q },
	{ SCMP_SYS(set_robust_list), Q },
	/* abort() */
	{ SCMP_SYS(tgkill), ALL },
	/* sanitizers: the leak check stops this process from a copy of it that
	 * reads /proc/self; reports name functions out of the program's file */
	{ SCMP_SYS(clone), S },
	{ SCMP_SYS(getdents), S },
	{ SCMP_SYS(getdents64), S },
	{ SCMP_SYS(getppid), S },
	{ SCMP_SYS(open), S },
	{ SCMP_SYS(openat), S },
	{ SCMP_SYS(prctl), S },
	{ SCMP_SYS(ptrace), S },
	{ SCMP_SYS(readlink), S },
	{ SCMP_SYS(sched_getaffinity), S },
	{ SCMP_SYS(wait4), S },
};

static int
add_rules(scmp_filter_ctx ctx, enum proc_kind kind)
{
	const unsigned thread = 0x00010000; /* CLONE_THREAD */
	size_t i;
	int rc;

	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if ((calls[i].who & 1u << kind) == 0)
			continue;
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i].nr, 0);
		if (rc < 0 && rc != -EEXIST && rc != -EDOM)
			return (rc);
	}
	if (kind != PROC_QUEUE)
		return (0);
	/* Threads, not processes; glibc falls back from clone3 on ENOSYS. */
	if ((rc = seccomp_rule_add(
	         ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0)) < 0)
		return (rc);
	rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
	    SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
	return (rc == -EEXIST ? 0 : rc);
}

static int
close_calls(enum proc_kind kind)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc;

	if (ctx == NULL)
		return (-1);
	if ((rc = add_rules(ctx, kind)) == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	if (rc < 0) {
		errno = -rc;
		return (-1);
	}
	return (0);
}

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_ALL                                                                 \
	(FS_READ | LANDLOCK_ACCESS_FS_EXECUTE |                                \
	    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |    \
	    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |    \
	    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |        \
	    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |      \
	    LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

static void
allow_beneath(int rules, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr a = { .allowed_access = access };
	struct stat st;

	a.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (a.parent_fd == -1)
		return; /* not there: nothing to allow */
	if (fstat(a.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
		a.allowed_access &= LANDLOCK_ACCESS_FS_READ_FILE;
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH,
	        &a, 0) == -1)
		log_warning(
		    "sandbox: landlock: path=%s: %s", path, strerror(errno));
	(void)close(a.parent_fd);
}

/* allow_folder_of - the folder of a table "text:/path" or of a plain path: a
 * table is replaced by renaming, so the file itself would be the wrong rule.
 * But all of /etc is too much for the sake of one file: there a replaced one
 * is seen after a restart. */
static void
allow_folder_of(int rules, const char *table)
{
	const char *path = table != NULL ? strchr(table, '/') : NULL;
	char *dir, *slash;

	if (path == NULL || (dir = strdup(path)) == NULL)
		return;
	slash = strrchr(dir, '/');
	slash[slash == dir] = '\0';
	allow_beneath(rules, strcmp(dir, "/etc") == 0 ? path : dir, FS_READ);
	free(dir);
}

static int
close_files(enum proc_kind kind, const struct settings *s)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = FS_ALL };
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);
	int rules;
	size_t i;

	if (abi < 1) {
		log_info("sandbox: landlock: not in this kernel");
		return (0);
	}
	/* Unless handled, no file may change its folder; the queue sets damaged
	 * ones aside. */
	if (abi >= 2)
		attr.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
	rules =
	    (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rules == -1)
		return (-1);
	if (kind == PROC_QUEUE)
		allow_beneath(rules, s->spool_dir,
		    attr.handled_access_fs &
		        ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE);
	if (kind == PROC_LOOKUP) {
		for (i = 0; i < s->n_tables; i++)
			allow_folder_of(rules, s->tables[i]);
		allow_folder_of(rules, s->mailertable);
		allow_folder_of(rules, s->hosts_file);
		allow_folder_of(rules, "/etc/resolv.conf");
	}
#ifdef SANITIZER
	allow_beneath(rules, "/proc/self", FS_READ);
	allow_beneath(rules, "/proc/self/exe", FS_READ);
	allow_beneath(rules, "/usr", FS_READ);
#endif
	if (syscall(SYS_landlock_restrict_self, rules, 0) == -1) {
		(void)close(rules);
		return (-1);
	}
	(void)close(rules);
	return (0);
}

/* What neither the supervisor nor any milter that it starts has a use for. */
static const int denied[] = { SCMP_SYS(acct), SCMP_SYS(add_key), SCMP_SYS(bpf),
	SCMP_SYS(delete_module), SCMP_SYS(finit_module), SCMP_SYS(init_module),
	SCMP_SYS(kexec_file_load), SCMP_SYS(kexec_load), SCMP_SYS(keyctl),
	SCMP_SYS(mount), SCMP_SYS(move_mount), SCMP_SYS(open_by_handle_at),
	SCMP_SYS(perf_event_open), SCMP_SYS(pivot_root),
	SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
#ifndef SANITIZER /* the leak check stops its own threads with it */
	SCMP_SYS(ptrace),
#endif
	SCMP_SYS(reboot), SCMP_SYS(request_key), SCMP_SYS(setdomainname),
	SCMP_SYS(sethostname), SCMP_SYS(setns), SCMP_SYS(swapoff),
	SCMP_SYS(swapon), SCMP_SYS(umount2), SCMP_SYS(userfaultfd) };

/* Calls that change an id, and how many arguments each has. */
static const struct {
	int nr;
	unsigned args;
} changers[] = { { SCMP_SYS(setuid), 1 }, { SCMP_SYS(setgid), 1 },
	{ SCMP_SYS(setreuid), 2 }, { SCMP_SYS(setregid), 2 },
	{ SCMP_SYS(setresuid), 3 }, { SCMP_SYS(setresgid), 3 },
	{ SCMP_SYS(setfsuid), 1 }, { SCMP_SYS(setfsgid), 1 } };

static int
add_denials(scmp_filter_ctx ctx)
{
	struct scmp_arg_cmp zero = {
		.op = SCMP_CMP_MASKED_EQ, .datum_a = 0xffffffff, .datum_b = 0
	};
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < sizeof(denied) / sizeof(denied[0]); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
	for (i = 0; i < sizeof(changers) / sizeof(changers[0]); i++)
		for (zero.arg = 0; rc == 0 && zero.arg < changers[i].args;
		     zero.arg++)
			rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM),
			    changers[i].nr, 1, &zero);
	return (rc);
}

int
sandbox_supervisor(const struct settings *s)
{
	scmp_filter_ctx ctx;
	int rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return (-1);
	if (!s->sandbox)
		return (0);
	if ((ctx = seccomp_init(SCMP_ACT_ALLOW)) == NULL)
		return (-1);
	if ((rc = add_denials(ctx)) == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	if (rc < 0) {
		errno = -rc;
		return (-1);
	}
	return (0);
}

int
sandbox_close(enum proc_kind kind, const struct settings *s)
{
	const struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		return (-1);
	if (!s->sandbox) {
		log_warning("sandbox: off by configuration: process=%s",
		    proc_name(kind));
		return (0);
	}
	if (close_files(kind, s) == -1)
		return (-1);
	return (close_calls(kind));
}

/* tried - "name":"ok" or "name":"EPERM" */
static int
tried(struct buf *out, const char *name, bool ok)
{
	const char *why = ok ? "ok" : strerrorname_np(errno);

	return (buf_addf(out, "%s\"%s\":\"%s\"", out->len > 1 ? "," : "", name,
	    why != NULL ? why : "error"));
}

int
sandbox_probe(struct buf *out)
{
	char *const argv[] = { (char *)"true", NULL };
	int fd, rc = buf_addf(out, "{");

	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	rc |= tried(out, "open", fd != -1);
	if (fd != -1)
		(void)close(fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rc |= tried(out, "socket", fd != -1);
	if (fd != -1)
		(void)close(fd);
	/* A path that does not exist: allowed, it would say ENOENT. */
	(void)execve("/nonexistent/probe", argv, argv + 1);
	rc |= tried(out, "execve", false);
	rc |= tried(
	    out, "ptrace", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == 0);
	rc |= tried(out, "kill", kill(1, 0) == 0);
	return (rc | buf_addf(out, "}"));
}
