/* SPDX-License-Identifier: ISC */

/*
 * engine - libclamav: load the databases once, scan one message at a time
 *
 * Limits are libclamav's own; that one was reached is asked for as a finding
 * ("Heuristics.Limits.Exceeded..."), because libclamav otherwise calls what it
 * did not look at clean.  Bytecode signatures are interpreted: a scanner may
 * not make memory executable.
 */

#include "config.h"

#include "milters/virus/engine.h"

#include <clamav.h>
#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct engine {
	struct cl_engine *clam;
	struct cl_scan_options options;
};

#ifdef SANITIZER
/* What libclamav itself keeps to its end is no leak of ours. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return ("leak:libclamav\nleak:iconv_open\n");
}
#endif

/* The last warning or error of libclamav: it says more than the code. */
static char last_message[120];

static void
on_message(enum cl_msg severity, const char *full, const char *msg, void *ctx)
{
	(void)full;
	(void)ctx;
	if (severity == CL_MSG_INFO_VERBOSE || msg == NULL)
		return;
	(void)snprintf(last_message, sizeof(last_message), "%s", msg);
	last_message[strcspn(last_message, "\r\n")] = '\0';
}

static void
reason(char *text, const char *what, cl_error_t rc)
{
	(void)snprintf(text, IPC_TEXT_MAX, "%.90s: %.36s%s%s%s", what,
	    cl_strerror(rc), last_message[0] != '\0' ? " (" : "", last_message,
	    last_message[0] != '\0' ? ")" : "");
}

/* set_limits - 0, or -1 with the reason in text */
static int
set_limits(struct cl_engine *e, const struct zygote_config *c, char *text)
{
	const struct {
		enum cl_engine_field field;
		long long value;
	} rows[] = {
		{ CL_ENGINE_MAX_SCANSIZE, (long long)c->max_scansize },
		/* Of a longer file in an archive libclamav scans the first
		 * part and calls it clean: let the limit above speak first. */
		{ CL_ENGINE_MAX_FILESIZE, (long long)c->max_scansize },
		{ CL_ENGINE_MAX_FILES, c->max_files },
		{ CL_ENGINE_MAX_RECURSION, c->max_recursion },
		{ CL_ENGINE_MAX_SCANTIME, c->max_scantime_ms },
		{ CL_ENGINE_BYTECODE_MODE, CL_BYTECODE_MODE_INTERPRETER },
		{ CL_ENGINE_DISABLE_PE_STATS, 1 },
	};
	cl_error_t rc;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rc = cl_engine_set_num(e, rows[i].field, rows[i].value);
		if (rc != CL_SUCCESS) {
			reason(text, "limits", rc);
			return (-1);
		}
	}
	return (0);
}

/* load_all - each folder or file of the settings */
static int
load_all(
    struct cl_engine *e, const struct zygote_config *c, unsigned *n, char *text)
{
	const char *path = c->strings + strlen(c->strings) + 1;
	const unsigned options = CL_DB_STDOPT | (c->pua ? CL_DB_PUA : 0);
	unsigned before;
	cl_error_t rc;
	uint32_t i;

	for (i = 0; i < c->n_databases; i++, path += strlen(path) + 1) {
		before = *n;
		rc = cl_load(path, e, n, options);
		if (rc != CL_SUCCESS) {
			reason(text, path, rc);
			return (-1);
		}
		if (*n == before) {
			(void)snprintf(
			    text, IPC_TEXT_MAX, "%s: holds no signature", path);
			return (-1);
		}
	}
	if (cl_engine_compile(e) != CL_SUCCESS) {
		(void)snprintf(
		    text, IPC_TEXT_MAX, "the signatures cannot be compiled");
		return (-1);
	}
	return (0);
}

struct engine *
engine_load(const struct zygote_config *c, uint32_t *signatures_r, char *text)
{
	struct engine *e = calloc(1, sizeof(*e));
	cl_error_t rc;
	unsigned n = 0;

	cl_set_clcb_msg(on_message);
	if (e == NULL || (rc = cl_init(CL_INIT_DEFAULT)) != CL_SUCCESS ||
	    (e->clam = cl_engine_new()) == NULL) {
		(void)snprintf(text, IPC_TEXT_MAX, "libclamav cannot begin");
		free(e);
		return (NULL);
	}
	if (set_limits(e->clam, c, text) == -1 ||
	    load_all(e->clam, c, &n, text) == -1) {
		(void)cl_engine_free(e->clam);
		free(e);
		return (NULL);
	}
	e->options.general = CL_SCAN_GENERAL_HEURISTICS;
	e->options.parse = ~0u;
	e->options.heuristic = CL_SCAN_HEURISTIC_EXCEEDS_MAX;
	*signatures_r = n;
	return (e);
}

int
engine_temp(struct engine *e, const char *dir)
{
	return (cl_engine_set_str(e->clam, CL_ENGINE_TMPDIR, dir) == CL_SUCCESS
	        ? 0
	        : -1);
}

void
engine_scan(struct engine *e, int fd, struct scan_reply *reply)
{
	/* libclamav changes the options while it scans. */
	struct cl_scan_options options = e->options;
	const char *name = NULL;
	unsigned long scanned = 0;
	cl_error_t rc;

	memset(reply, 0, sizeof(*reply));
	last_message[0] = '\0';
	rc = cl_scandesc(fd, NULL, &name, &scanned, e->clam, &options);
	if (rc == CL_CLEAN) {
		reply->result = SCAN_CLEAN;
	} else if (rc == CL_VIRUS) {
		reply->result = SCAN_VIRUS;
		(void)snprintf(reply->text, sizeof(reply->text), "%s",
		    name != NULL ? name : "unknown");
	} else {
		reply->result = SCAN_FAILED;
		reason(reply->text, "libclamav", rc);
	}
}

/* keep_charsets - the C library loads a module for each character set: keep
 * those open that documents and mail commonly use */
static void
keep_charsets(void)
{
	static const char *const names[] = { "UTF-16LE", "UTF-16BE", "UTF-32",
		"UTF-7", "ISO-8859-1", "ISO-8859-2", "ISO-8859-5", "ISO-8859-7",
		"ISO-8859-9", "ISO-8859-15", "KOI8-R", "CP437", "CP850",
		"CP852", "CP866", "CP874", "CP932", "CP936", "CP949", "CP950",
		"CP1250", "CP1251", "CP1252", "CP1253", "CP1254", "CP1255",
		"CP1256", "CP1257", "CP1258" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)iconv_open("UTF-8", names[i]);
}

void
engine_warm(struct engine *e)
{
	static const char text[] =
	    "From warm\r\nSubject: =?iso-8859-1?q?=E4?=\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	    "--b\r\nContent-Type: text/html; charset=windows-1252\r\n\r\n"
	    "<html><body>x</body></html>\r\n"
	    "--b\r\nContent-Type: application/octet-stream\r\n"
	    "Content-Transfer-Encoding: base64\r\n\r\nZGF0YQ==\r\n--b--\r\n";
	struct scan_reply reply;
	int fd = memfd_create("warm", MFD_CLOEXEC);

	keep_charsets();
	if (fd == -1)
		return;
	if (write(fd, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1)
		engine_scan(e, fd, &reply);
	(void)close(fd);
}
