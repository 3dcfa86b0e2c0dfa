/* SPDX-License-Identifier: ISC */

/* test - block-attachment without sockets; prints TAP */

#include "block_attachment.h"

#include <milldam/milldam_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n, bad;

static const char head[] = "Subject: x\nContent-Type: multipart/mixed; "
                           "boundary=b\n\n--b\n";

static void
check(const char *name, const char *settings, const char *part,
    enum mill_verdict want, const char *edits)
{
	struct mill_test *t = mill_test_new(&block_attachment, settings);
	char eml[1024];
	int ok;

	(void)snprintf(eml, sizeof(eml), "%s%s\n--b--\n", head, part);
	(void)mill_test_mail(t, "<a@example.org>", NULL);
	(void)mill_test_rcpt(t, "<b@example.net>");
	ok = mill_test_eml(t, eml, strlen(eml)) == want &&
	    strcmp(mill_test_edits(t), edits) == 0;
	printf("%sok %d - %s\n", ok ? "" : "not ", ++n, name);
	bad |= !ok;
	mill_test_free(&t);
}

static void
check_large(void)
{
	struct mill_test *t =
	    mill_test_new(&block_attachment, "max-body = 1K\n");
	char *big = calloc(1, 2000);
	int ok;

	(void)mill_test_mail(t, "<a@example.org>", NULL);
	mill_test_body(t, big, 2000);
	ok = mill_test_message(t) == MILL_REJECT &&
	    strncmp(mill_test_reply(t), "552 5.3.4 ", 10) == 0;
	printf("%sok %d - refuses what is too large to read\n",
	    ok ? "" : "not ", ++n);
	bad |= !ok;
	free(big);
	mill_test_free(&t);
}

int
main(void)
{
	puts("1..7");
	check("refuses by file name", "",
	    "Content-Disposition: attachment; filename=\"Run me.EXE\"\n\nMZ",
	    MILL_REJECT, "");
	check("finds a name on a line of its own", "",
	    "Content-Type: application/octet-stream;\n\tname=a.scr\n\nMZ",
	    MILL_REJECT, "");
	check("ignores dots at the end of a name", "",
	    "Content-Disposition: attachment; filename=\"a.exe. \"\n\nMZ",
	    MILL_REJECT, "");
	check("takes other files", "",
	    "Content-Disposition: attachment; filename=a.exe.txt\n\nhi",
	    MILL_CONTINUE, "");
	check("does not read the text for a header", "",
	    "Content-Type: text/plain\n\nfilename=a.exe\n", MILL_CONTINUE, "");
	check("holds if told so", "quarantine = yes\n",
	    "Content-Disposition: attachment; filename=a.exe\n\nMZ",
	    MILL_CONTINUE, "quarantine attachment\n");
	check_large();
	return (bad);
}
