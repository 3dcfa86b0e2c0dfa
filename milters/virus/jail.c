/* SPDX-License-Identifier: ISC */

/*
 * jail - take from a scanner every right that scanning does not need
 *
 * libclamav parses dozens of formats that attackers choose.  When it is taken
 * over, what is left is: one socket to main, the message in hand and one empty
 * folder.
 */

#include "config.h"

#include "milters/virus/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int calls[] = {
	/* memory, time, the process itself */
	SCMP_SYS(brk),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(futex),
	SCMP_SYS(getcwd),
	SCMP_SYS(getegid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getpid),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrusage),
	SCMP_SYS(gettid),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getuid),
	SCMP_SYS(madvise),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),
	SCMP_SYS(nanosleep),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_yield),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(sysinfo),
	SCMP_SYS(times),
	SCMP_SYS(uname),
	/* the socket */
	SCMP_SYS(poll),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	/* files, beneath what Landlock leaves */
	SCMP_SYS(access),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(fadvise64),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(ftruncate),
	SCMP_SYS(getdents64),
	SCMP_SYS(lseek),
	SCMP_SYS(lstat),
	SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(read),
	SCMP_SYS(readlink),
	SCMP_SYS(readv),
	SCMP_SYS(rename),
	SCMP_SYS(rmdir),
	SCMP_SYS(stat),
	SCMP_SYS(statx),
	SCMP_SYS(umask),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(write),
	SCMP_SYS(writev),
};

#ifdef SANITIZER
static const int sanitizer_calls[] = {
	SCMP_SYS(getppid),
	SCMP_SYS(prctl),
	SCMP_SYS(ptrace),
	SCMP_SYS(sched_setaffinity),
	SCMP_SYS(wait4),
};
#endif

/* add_special - calls that are allowed with some arguments only */
static int
add_special(scmp_filter_ctx ctx)
{
	const uint64_t thread = CLONE_THREAD;
	const int memory[] = { SCMP_SYS(mmap), SCMP_SYS(mprotect) };
	size_t i;
	int rc;

	for (i = 0; i < 2; i++)
		if ((rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, memory[i], 1,
		         SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0))) < 0)
			return (rc);
	/* Threads, not processes; glibc falls back from clone3 on ENOSYS. */
	if ((rc = seccomp_rule_add(
	         ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0)) < 0 ||
	    (rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
	         SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread))) < 0)
		return (rc);
	/* abort(), and not the other processes of this user */
	if ((rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
	         SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()))) < 0)
		return (rc);
	/* The limit of CPU time of this process moves with each message. */
	return (seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
	    SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, RLIMIT_CPU)));
}

static int
add_rules(scmp_filter_ctx ctx)
{
	size_t i;
	int rc;

	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
		/* -EDOM: not a call of this architecture */
		if (rc < 0 && rc != -EEXIST && rc != -EDOM)
			return (rc);
	}
#ifdef SANITIZER
	for (i = 0; i < sizeof(sanitizer_calls) / sizeof(int); i++)
		if ((rc = seccomp_rule_add(
		         ctx, SCMP_ACT_ALLOW, sanitizer_calls[i], 0)) < 0)
			return (rc);
#endif
	return (add_special(ctx));
}

static int
close_calls(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc;

	if (ctx == NULL)
		return (-1);
	if ((rc = add_rules(ctx)) == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	if (rc < 0) {
		errno = -rc;
		return (-1);
	}
	return (0);
}

#define FS_TEMP                                                                \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |          \
	    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |    \
	    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |     \
	    LANDLOCK_ACCESS_FS_MAKE_REG)
#define FS_ALL                                                                 \
	(FS_TEMP | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | \
	    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |      \
	    LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

/* close_files - only dir is left; nothing where the kernel has no Landlock */
static int
close_files(const char *dir)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = FS_ALL };
	struct landlock_path_beneath_attr beneath = { .allowed_access =
		                                          FS_TEMP };
	int rules, rc = -1;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0,
	        LANDLOCK_CREATE_RULESET_VERSION) < 1)
		return (0);
	rules =
	    (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rules == -1)
		return (-1);
	beneath.parent_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (beneath.parent_fd != -1 &&
	    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH,
	        &beneath, 0) == 0 &&
	    syscall(SYS_landlock_restrict_self, rules, 0) == 0)
		rc = 0;
	if (beneath.parent_fd != -1)
		(void)close(beneath.parent_fd);
	(void)close(rules);
	return (rc);
}

/* address_space - bytes this process has mapped; 0 unknown */
static uint64_t
address_space(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f == NULL)
		return (0);
	if (fscanf(f, "%lu", &pages) != 1)
		pages = 0;
	(void)fclose(f);
	return ((uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE));
}

static int
set_limit(int what, uint64_t value)
{
	const struct rlimit limit = { value, value };

	return (setrlimit(what, &limit));
}

static int
close_resources(const struct zygote_config *c)
{
	uint64_t used = address_space();

	if (set_limit(RLIMIT_CORE, 0) == -1 ||
	    set_limit(RLIMIT_FSIZE, c->temp_size) == -1 ||
	    set_limit(RLIMIT_NOFILE, 256) == -1)
		return (-1);
#ifndef SANITIZER /* AddressSanitizer maps terabytes */
	if (set_limit(RLIMIT_AS, used + c->memory) == -1)
		return (-1);
#else
	(void)used;
#endif
	return (0);
}

int
jail_close(const struct zygote_config *c, const char *dir)
{
	if (close_resources(c) == -1 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 || close_files(dir) == -1)
		return (-1);
	return (close_calls());
}

void
jail_cpu(uint32_t ms)
{
	struct rusage used;
	struct rlimit limit;

	if (getrusage(RUSAGE_SELF, &used) == -1)
		return;
	limit.rlim_cur = (rlim_t)used.ru_utime.tv_sec +
	    (rlim_t)used.ru_stime.tv_sec + ms / 1000 + 2;
	limit.rlim_max = RLIM_INFINITY;
	(void)setrlimit(RLIMIT_CPU, &limit);
}
