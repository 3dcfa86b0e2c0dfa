/* SPDX-License-Identifier: ISC */

/* test - tag-external without sockets; prints TAP */

#include "tag_external.h"

#include <milldam/milldam_test.h>
#include <stdio.h>
#include <string.h>

static int n, bad;

/* check - the edits that a message with these properties gets */
static void
check(const char *name, const char *client, const char *login,
    const char *header, const char *edits)
{
	struct mill_test *t = mill_test_new(&tag_external, "");
	char eml[256];
	int ok;

	(void)snprintf(eml, sizeof(eml), "%s\nbody\n", header);
	(void)mill_test_connect(t, client, NULL);
	mill_test_macro(t, "{auth_authen}", login);
	(void)mill_test_mail(t, "<a@example.org>", NULL);
	(void)mill_test_rcpt(t, "<b@example.net>");
	(void)mill_test_eml(t, eml, strlen(eml));
	ok = strcmp(mill_test_edits(t), edits) == 0;
	printf("%sok %d - %s\n", ok ? "" : "not ", ++n, name);
	bad |= !ok;
	mill_test_free(&t);
}

int
main(void)
{
	puts("1..5");
	check("tags mail from outside", "192.0.2.1", NULL, "Subject: hello\n",
	    "change Subject[0]: [EXTERNAL] hello\nadd X-External: yes\n");
	check("makes a subject where there is none", "192.0.2.1", NULL,
	    "From: a@example.org\n",
	    "change Subject[0]: [EXTERNAL] \nadd X-External: yes\n");
	check("tags only once", "192.0.2.1", NULL,
	    "Subject: Re: [EXTERNAL] hello\n", "add X-External: yes\n");
	check("leaves our own mail alone", "127.0.0.1", NULL,
	    "Subject: hello\n", "");
	check("leaves users who logged in alone", "192.0.2.1", "joe",
	    "Subject: hello\n", "");
	return (bad);
}
