/* SPDX-License-Identifier: ISC */

/*
 * noop - a filter on libmilter that does nothing, as dearly as it can, for
 * cost.py: it has every callback, skips no step and answers each command,
 * header field and body chunk, so each is a round trip.
 *
 *   noop unix:/path
 */

#include <libmilter/mfapi.h>
#include <stdlib.h>
#include <sys/stat.h>

static sfsistat
on_connect(SMFICTX *c, char *host, _SOCK_ADDR *addr)
{
	(void)c;
	(void)host;
	(void)addr;
	return (SMFIS_CONTINUE);
}

static sfsistat
on_text(SMFICTX *c, char *text)
{
	(void)c;
	(void)text;
	return (SMFIS_CONTINUE);
}

static sfsistat
on_address(SMFICTX *c, char **args)
{
	(void)c;
	(void)args;
	return (SMFIS_CONTINUE);
}

static sfsistat
on_event(SMFICTX *c)
{
	(void)c;
	return (SMFIS_CONTINUE);
}

static sfsistat
on_unknown(SMFICTX *c, const char *line)
{
	(void)c;
	(void)line;
	return (SMFIS_CONTINUE);
}

static sfsistat
on_header(SMFICTX *c, char *name, char *value)
{
	(void)c;
	(void)name;
	(void)value;
	return (SMFIS_CONTINUE);
}

static sfsistat
on_body(SMFICTX *c, unsigned char *bytes, size_t n)
{
	(void)c;
	(void)bytes;
	(void)n;
	return (SMFIS_CONTINUE);
}

int
main(int argc, char **argv)
{
	char name[] = "noop";
	/* Without xxfi_negotiate libmilter asks for just these steps. */
	struct smfiDesc d = { .xxfi_name = name,
		.xxfi_version = SMFI_VERSION,
		.xxfi_connect = on_connect,
		.xxfi_helo = on_text,
		.xxfi_envfrom = on_address,
		.xxfi_envrcpt = on_address,
		.xxfi_header = on_header,
		.xxfi_eoh = on_event,
		.xxfi_body = on_body,
		.xxfi_eom = on_event,
		.xxfi_abort = on_event,
		.xxfi_close = on_event,
		.xxfi_unknown = on_unknown,
		.xxfi_data = on_event };

	umask(0);
	if (argc != 2 || smfi_setconn(argv[1]) != MI_SUCCESS ||
	    smfi_register(d) != MI_SUCCESS ||
	    smfi_setbacklog(1024) != MI_SUCCESS)
		return (EXIT_FAILURE);
	return (smfi_main() == MI_SUCCESS ? EXIT_SUCCESS : EXIT_FAILURE);
}
