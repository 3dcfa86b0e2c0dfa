/* SPDX-License-Identifier: ISC */

/*
 * command - SMTP command lines and ESMTP parameters
 *
 * RFC 5321 4.1.1, 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 3030 (BDAT),
 * 3461 (DSN), 4954 5 (AUTH=, which is checked and not believed).
 */

#include "core/smtp/command.h"
#include "core/smtp/envelope.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

enum { ENVID_MAX = 100, ORCPT_MAX = 500 };

static const char *const verbs[VERBS] = { NULL, "HELO", "EHLO", "MAIL", "RCPT",
	"DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT" };

static const char bad_value[] = "501 5.5.4 Invalid parameter value";

/* parse_number - decimal digits to 64 bits; -1 if it is none */
static int
parse_number(const char *s, uint64_t *n_r)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; isdigit((unsigned char)s[i]) && i < 19; i++)
		n = n * 10 + (uint64_t)(s[i] - '0');
	if (i == 0 || s[i] != '\0')
		return (-1);
	*n_r = n;
	return (0);
}

/* is_xtext - RFC 3461 4 */
static bool
is_xtext(const char *s, size_t max)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 33 || c > 126 || c == '=' || i >= max)
			return (false);
		if (c != '+')
			continue;
		if (!isxdigit((unsigned char)s[i + 1]) ||
		    !isxdigit((unsigned char)s[i + 2]))
			return (false);
	}
	return (i > 0);
}

static const char *
parse_notify(struct command *c, const char *v)
{
	static const struct {
		const char *word;
		uint8_t bit;
	} words[] = { { "NEVER", NOTIFY_NEVER }, { "SUCCESS", NOTIFY_SUCCESS },
		{ "FAILURE", NOTIFY_FAILURE }, { "DELAY", NOTIFY_DELAY } };
	size_t i, n;

	for (;; v++) {
		n = strcspn(v, ",");
		for (i = 0; i < 4; i++)
			if (strlen(words[i].word) == n &&
			    strncasecmp(v, words[i].word, n) == 0)
				break;
		if (i == 4)
			return (bad_value);
		c->notify |= words[i].bit;
		v += n;
		if (*v == '\0')
			break;
	}
	if ((c->notify & NOTIFY_NEVER) != 0 && c->notify != NOTIFY_NEVER)
		return (bad_value);
	return (NULL);
}

static const char *
mail_param(struct command *c, const char *name, const char *v)
{
	if (strcasecmp(name, "SIZE") == 0)
		return (parse_number(v, &c->size) == 0 ? NULL : bad_value);
	if (strcasecmp(name, "BODY") == 0) {
		c->body_8bit = strcasecmp(v, "8BITMIME") == 0;
		return (c->body_8bit || strcasecmp(v, "7BIT") == 0 ? NULL
		                                                   : bad_value);
	}
	if (strcasecmp(name, "SMTPUTF8") == 0) {
		c->utf8 = true;
		return (*v == '\0' ? NULL : bad_value);
	}
	if (strcasecmp(name, "PRDR") == 0) {
		c->prdr = true;
		return (*v == '\0' ? NULL : bad_value);
	}
	if (strcasecmp(name, "RET") == 0) {
		c->ret_hdrs = strcasecmp(v, "HDRS") == 0;
		return (c->ret_hdrs || strcasecmp(v, "FULL") == 0 ? NULL
		                                                  : bad_value);
	}
	if (strcasecmp(name, "ENVID") == 0) {
		c->envid = v;
		return (is_xtext(v, ENVID_MAX) ? NULL : bad_value);
	}
	if (strcasecmp(name, "AUTH") == 0)
		return (strcmp(v, "<>") == 0 || is_xtext(v, ADDRESS_MAX)
		        ? NULL
		        : bad_value);
	return ("555 5.5.4 MAIL parameter not recognized");
}

static const char *
rcpt_param(struct command *c, const char *name, const char *v)
{
	const char *semi;

	if (strcasecmp(name, "NOTIFY") == 0)
		return (parse_notify(c, v));
	if (strcasecmp(name, "ORCPT") == 0) {
		c->orcpt = v;
		semi = strchr(v, ';');
		return (
		    semi != NULL && semi > v && is_xtext(semi + 1, ORCPT_MAX)
		        ? NULL
		        : bad_value);
	}
	return ("555 5.5.4 RCPT parameter not recognized");
}

static bool
given_twice(const struct command *c, const char *name)
{
	size_t i, n = strlen(name);

	for (i = 0; i + 1 < c->n_params; i++)
		if (strncasecmp(c->params[i], name, n) == 0 &&
		    (c->params[i][n] == '=' || c->params[i][n] == '\0'))
			return (true);
	return (false);
}

/* parse_params - words of line from here on; text keeps them whole */
static const char *
parse_params(struct command *c, char *p)
{
	char name[32], *word;
	const char *v, *bad;
	size_t n;

	for (;;) {
		p += strspn(p, " \t");
		if (*p == '\0')
			return (NULL);
		word = p;
		p += strcspn(p, " \t");
		if (*p != '\0')
			*p++ = '\0';
		if (c->n_params == COMMAND_PARAMS_MAX)
			return ("501 5.5.4 Too many parameters");
		c->params[c->n_params++] = word;
		for (n = 0; isalnum((unsigned char)word[n]) || word[n] == '-';)
			n++;
		if (n == 0 || (word[n] != '=' && word[n] != '\0'))
			return ("501 5.5.4 Syntax error in parameters");
		if (n >= sizeof(name))
			return ("555 5.5.4 Parameter not recognized");
		memcpy(name, word, n);
		name[n] = '\0';
		if (given_twice(c, name))
			return ("501 5.5.4 Parameter given twice");
		v = word[n] == '=' ? word + n + 1 : word + n;
		bad = c->verb == VERB_MAIL ? mail_param(c, name, v)
		                           : rcpt_param(c, name, v);
		if (bad != NULL)
			return (bad);
	}
}

static const char *
path_error(enum verb verb)
{
	bool mail = verb == VERB_MAIL;

	switch (errno) {
	case EDESTADDRREQ:
		return (mail ? "553 5.1.7 Domain name required for sender"
		             : "553 5.1.3 Domain name required for recipient");
	case E2BIG:
		return (mail ? "553 5.1.7 Sender address too long"
		             : "553 5.1.3 Recipient address too long");
	default:
		return (mail ? "501 5.1.7 Syntax error in sender address"
		             : "501 5.1.3 Syntax error in recipient address");
	}
}

/* parse_path - "FROM:<a@b> PARAM=1" */
static const char *
parse_path(struct command *c, char *arg, bool utf8)
{
	const char *key = c->verb == VERB_MAIL ? "FROM:" : "TO:";
	unsigned flags =
	    c->verb == VERB_MAIL ? ADDRESS_NULL : ADDRESS_POSTMASTER;
	size_t n = strlen(key);
	const char *rest, *bad;

	if (strncasecmp(arg, key, n) != 0)
		return (c->verb == VERB_MAIL
		        ? "501 5.5.4 Syntax: MAIL FROM:<address>"
		        : "501 5.5.4 Syntax: RCPT TO:<address>");
	arg += n;
	arg += strspn(arg, " \t");
	if (address_path(arg, flags, c->path, &rest) == -1)
		return (path_error(c->verb));
	if ((bad = parse_params(c, arg + (rest - arg))) != NULL)
		return (bad);
	if (address_is_8bit(c->path) && !utf8 && !c->utf8)
		return ("553 5.6.7 Address needs SMTPUTF8");
	return (NULL);
}

static const char *
parse_bdat(struct command *c, char *arg)
{
	size_t n = strcspn(arg, " \t");
	char *rest = arg + n;

	if (*rest != '\0')
		*rest++ = '\0';
	rest += strspn(rest, " \t");
	c->last = strcasecmp(rest, "LAST") == 0;
	if (parse_number(arg, &c->chunk) == -1 || (*rest != '\0' && !c->last))
		return ("501 5.5.4 Syntax: BDAT size [LAST]");
	return (NULL);
}

/* is_clean - no control byte but TAB: a bare CR or a NUL in a command is a
 * mistake or an attack, never a way to write one */
static bool
is_clean(const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (((unsigned char)s[i] < 32 && s[i] != '\t') || s[i] == 127)
			return (false);
	return (true);
}

const char *
command_parse(struct command *c, const char *line, size_t len, bool utf8)
{
	char *arg;
	size_t n;
	int v;

	memset(c, 0, offsetof(struct command, line));
	c->envid = c->orcpt = c->arg = c->word = "";
	c->line[0] = c->text[0] = '\0';
	if (len > COMMAND_LINE_MAX)
		return ("500 5.5.2 Line too long");
	if (!is_clean(line, len))
		return ("500 5.5.2 Invalid character in command");
	while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	memcpy(c->line, line, len);
	memcpy(c->text, line, len);
	c->line[len] = c->text[len] = '\0';
	n = strcspn(c->line, " \t");
	arg = c->line + n;
	if (*arg != '\0')
		*arg++ = '\0';
	arg += strspn(arg, " \t");
	c->word = c->line;
	c->arg = c->text + (arg - c->line);
	for (v = 1; v < VERBS; v++)
		if (strcasecmp(c->line, verbs[v]) == 0)
			c->verb = (enum verb)v;
	switch (c->verb) {
	case VERB_UNKNOWN:
		return ("500 5.5.1 Command unrecognized");
	case VERB_MAIL:
	case VERB_RCPT:
		return (parse_path(c, arg, utf8));
	case VERB_BDAT:
		return (parse_bdat(c, arg));
	case VERB_DATA:
	case VERB_RSET:
	case VERB_QUIT:
		return (*arg == '\0' ? NULL : "501 5.5.4 No argument allowed");
	default:
		return (NULL);
	}
}
