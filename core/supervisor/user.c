/* SPDX-License-Identifier: ISC */

/*
 * user - whose rights each process has
 *
 * Started as root, the supervisor changes to a uid of its own and keeps four
 * capabilities: to bind low ports, to start children under their users, and to
 * end them.  With NO_SETUID_FIXUP a child's change of uid drops none of them by
 * itself, so the child clears its sets afterwards.
 */

#include "core/supervisor/sup.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MILTER_OFFSET = 10 }; /* uid-base + 10: the first milter */

static const struct {
	const char *role, *name;
	unsigned offset;
} users[] = {
	{ "supervisor", "milldam", 0 },
	{ "receiver", "milldam-recv", 1 },
	{ "queue", "milldam-queue", 2 },
	{ "relay", "milldam-relay", 3 },
	{ "lookup", "milldam-lookup", 4 },
	{ "web", "milldam-web", 5 },
	{ "milter", "milldam-milter", MILTER_OFFSET },
};

int
user_find(const struct settings *s, const char *role, unsigned nth,
    const char *name, uid_t *uid_r, gid_t *gid_r)
{
	struct passwd *pw;
	size_t i;

	for (i = 0; strcmp(users[i].role, role) != 0; i++)
		;
	if (s->uid_base != 0 && name == NULL) {
		*uid_r = *gid_r = s->uid_base + users[i].offset + nth;
		return (0);
	}
	if (name == NULL)
		name = users[i].name;
	if ((pw = getpwnam(name)) == NULL || pw->pw_uid == 0) {
		log_err("supervisor: user: name=%s: %s", name,
		    pw == NULL ? "no such user: create it, or set uid-base"
		               : "may not be root");
		return (-1);
	}
	*uid_r = pw->pw_uid;
	*gid_r = pw->pw_gid;
	return (0);
}

/* make_folder - with its parents' first missing one left to the admin */
static int
make_folder(const char *path, mode_t mode, uid_t uid, gid_t gid, bool own)
{
	if (mkdir(path, mode) == -1 && errno != EEXIST) {
		log_err(
		    "supervisor: mkdir: path=%s: %s", path, strerror(errno));
		return (-1);
	}
	if (own && (chown(path, uid, gid) == -1 || chmod(path, mode) == -1)) {
		log_err(
		    "supervisor: chown: path=%s: %s", path, strerror(errno));
		return (-1);
	}
	return (0);
}

int
user_prepare(struct sup *sup)
{
	const struct settings *s = sup->settings;
	uid_t uid = 0, queue = 0, receiver = 0;
	gid_t gid = 0, queue_gid = 0, receiver_gid = 0;
	char *milters;
	int rc;

	if (sup->root &&
	    (user_find(s, "supervisor", 0, NULL, &uid, &gid) == -1 ||
	        user_find(s, "queue", 0, NULL, &queue, &queue_gid) == -1 ||
	        user_find(s, "receiver", 0, NULL, &receiver, &receiver_gid) ==
	            -1))
		return (-1);
	if (asprintf(&milters, "%s/milters", s->run_dir) == -1)
		return (-1);
	/* Milters make their sockets there; only the receiver's group gets in.
	 */
	rc = make_folder(s->run_dir, 0755, uid, gid, sup->root);
	if (rc == 0)
		rc = make_folder(milters, 0770, uid, receiver_gid, sup->root);
	if (rc == 0)
		rc = make_folder(
		    s->spool_dir, 0700, queue, queue_gid, sup->root);
	free(milters);
	if (rc == 0)
		rc = recordings_prepare(s, sup->root, uid, gid);
	return (rc);
}

int
user_drop_self(struct sup *sup)
{
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
	    SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED;
	uid_t uid;
	gid_t gid, receiver;

	if (!sup->root)
		return (0);
	if (user_find(sup->settings, "supervisor", 0, NULL, &uid, &gid) == -1 ||
	    user_find(sup->settings, "receiver", 0, NULL, &(uid_t){ 0 },
	        &receiver) == -1)
		return (-1);
	/* The receiver's group: to ask milters whether they answer. */
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) == -1 ||
	    setgroups(1, &receiver) == -1 || setresgid(gid, gid, gid) == -1 ||
	    setresuid(uid, uid, uid) == -1) {
		log_err("supervisor: setuid: %s", strerror(errno));
		return (-1);
	}
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED,
	        CAP_NET_BIND_SERVICE, CAP_SETUID, CAP_SETGID, CAP_KILL,
	        -1) != 0 ||
	    capng_apply(CAPNG_SELECT_CAPS) != 0) {
		log_err("supervisor: capabilities: %s", strerror(errno));
		return (-1);
	}
	return (0);
}

int
user_become(uid_t uid, gid_t gid)
{
	if (setgroups(0, NULL) == -1 || setresgid(gid, gid, gid) == -1 ||
	    setresuid(uid, uid, uid) == -1)
		return (-1);
	capng_clear(CAPNG_SELECT_BOTH);
	return (capng_apply(CAPNG_SELECT_CAPS) == 0 ? 0 : -1);
}
