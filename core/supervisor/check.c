/* SPDX-License-Identifier: ISC */

/*
 * check - the settings of milters, for milldam -n
 *
 * Only a milter knows its options: each of ours is run with -n, which reads its
 * settings, reports every mistake with file and line and opens nothing.  Other
 * people's programs know no such option and are left alone.  And rules on what
 * the receiver cannot act on.
 */

#include "core/policy/policy.h"
#include "core/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static void
run_check(const struct milter_conf *m)
{
	char path[1024];
	char *const argv[] = { path, (char *)"-n", (char *)"-c", m->settings,
		NULL };
	char *const envp[] = { (char *)"PATH=/usr/bin:/bin", NULL };
	int null = open("/dev/null", O_RDWR);

	(void)snprintf(path, sizeof(path), "%s/%s", LIBEXECDIR, m->run);
	if (null == -1 || dup2(null, STDIN_FILENO) == -1 ||
	    dup2(null, STDOUT_FILENO) == -1)
		_exit(EX_OSERR);
	(void)execve(path, argv, envp);
	fprintf(
	    stderr, "milter \"%s\": %s: %s\n", m->name, path, strerror(errno));
	_exit(EX_UNAVAILABLE);
}

int
check_milters(const struct settings *s)
{
	size_t i;
	int status, rc = 0;
	pid_t pid;

	for (i = 0; i < s->n_milters; i++) {
		const struct milter_conf *m = &s->milters[i];

		if (!spawn_wanted(s, m) || m->run[0] == '/' ||
		    m->settings == NULL)
			continue;
		(void)fflush(NULL);
		if ((pid = fork()) == 0)
			run_check(m);
		if (pid == -1 || waitpid(pid, &status, 0) == -1) {
			fprintf(stderr,
			    "milter \"%s\": cannot be checked: %s\n", m->name,
			    strerror(errno));
			rc = -1;
		} else if (!WIFEXITED(status) || WEXITSTATUS(status) != EX_OK)
			rc = -1;
	}
	return (rc);
}
