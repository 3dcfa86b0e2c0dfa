/* SPDX-License-Identifier: ISC */

/*
 * route - mailertable, smart host, domain
 *
 * Values come from the administrator; addresses from the network.
 */

#include "core/route/route.h"

#include "milter-sdk/map/map.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 255 }; /* octets of a domain name, RFC 1035 2.3.4 */

/* Sendmail's words for exit states, as op.me lists them for $#error. */
static const struct {
	const char *word, *code, *dsn, *text;
} words[] = {
	{ "nouser", "550", "5.1.1", "User unknown" },
	{ "nohost", "550", "5.1.2", "Host unknown" },
	{ "unavailable", "554", "5.0.0", "Service unavailable" },
	{ "tempfail", "451", "4.0.0", "Temporary failure" },
	{ "usage", "501", "5.5.4", "Command line usage error" },
	{ "software", "554", "5.3.0", "Internal error" },
	{ "protocol", "554", "5.5.0", "Remote protocol error" },
	{ "config", "554", "5.3.5", "Local configuration error" },
};

/* wrong - note the reason; -1 with EINVAL */
static int
wrong(struct buf *error, const char *value, const char *why)
{
	(void)!buf_addf(error, "%s: %s", value, why);
	errno = EINVAL;
	return (-1);
}

/* dsn_len - length of an enhanced code "5.1.1" at s, or 0 */
static size_t
dsn_len(const char *s)
{
	size_t i = 1, part, n;

	if (*s != '2' && *s != '4' && *s != '5')
		return (0);
	for (part = 0; part < 2; part++) {
		if (s[i++] != '.')
			return (0);
		for (n = 0; n < 3 && isdigit((unsigned char)s[i + n]); n++)
			;
		if (n == 0)
			return (0);
		i += n;
	}
	return (i);
}

/* is_code - a reply code of refusal, alone or before a blank */
static bool
is_code(const char *s)
{
	return ((s[0] == '4' || s[0] == '5') && isdigit((unsigned char)s[1]) &&
	    isdigit((unsigned char)s[2]) && (s[3] == '\0' || s[3] == ' '));
}

/* skip - past n bytes and the blanks after them */
static const char *
skip(const char *s, size_t n)
{
	return (s + n + strspn(s + n, " \t"));
}

/* unquote - text without the quotes that m4 habits put round it */
static int
unquote(struct buf *out, const char *s)
{
	size_t i, n = strlen(s);

	if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
		s++;
		n -= 2;
	}
	for (i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f) {
			errno = EINVAL;
			return (-1);
		}
	return (buf_add(out, s, n));
}

/* finish_error - "550" "5.1.1" "text" to a route; text NULL: by the code */
static int
finish_error(struct route *r, const char *addr, const char *value,
    const char *code, const char *dsn, const char *text, struct buf *error)
{
	struct buf b = BUF_INIT(MAP_VALUE_MAX + 64);
	int rc;

	if (code[0] != dsn[0])
		return (wrong(error, value, "code and enhanced code disagree"));
	if (buf_addf(&b, "%.3s %s ", code, dsn) == -1 ||
	    unquote(&b, *text != '\0' ? text : "Address refused") == -1) {
		buf_fini(&b);
		return (wrong(error, value, "text cannot be a reply"));
	}
	rc = route_make(r, MAILER_ERROR, dsn, 0, addr, b.data);
	buf_fini(&b);
	return (rc);
}

/* parse_error - what stands after "error:" */
static int
parse_error(const char *value, const char *s, const char *addr, struct route *r,
    struct buf *error)
{
	char dsn[16];
	const char *code = NULL;
	size_t i, n = dsn_len(s);

	if (n > 0 && (s[n] == ':' || s[n] == ' ' || s[n] == '\0')) {
		memcpy(dsn, s, n);
		dsn[n] = '\0';
		s = s[n] == '\0' ? s + n : skip(s, n + 1);
		code = dsn[0] == '4' ? "451" : "550";
		if (is_code(s)) {
			code = s;
			s = skip(s, 3);
		}
		return (finish_error(r, addr, value, code, dsn, s, error));
	}
	if (is_code(s)) {
		code = s;
		s = skip(s, 3);
		(void)strcpy(dsn, code[0] == '4' ? "4.0.0" : "5.0.0");
		if ((n = dsn_len(s)) > 0 && (s[n] == ' ' || s[n] == '\0')) {
			memcpy(dsn, s, n);
			dsn[n] = '\0';
			s = skip(s, n);
		}
		return (finish_error(r, addr, value, code, dsn, s, error));
	}
	n = strcspn(s, " :");
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i].word) != n ||
		    strncasecmp(words[i].word, s, n) != 0)
			continue;
		s = skip(s, s[n] == '\0' ? n : n + 1);
		if (is_code(s)) {
			code = s;
			s = skip(s, 3);
		}
		return (finish_error(r, addr, value,
		    code != NULL ? code : words[i].code, words[i].dsn,
		    *s != '\0' ? s : words[i].text, error));
	}
	return (wrong(error, value,
	    "after error: comes a reply code, an enhanced code or a word like "
	    "nohost"));
}

/* host_ok - what a host name or the inside of brackets may hold */
static bool
host_ok(const char *s, size_t n, bool brackets)
{
	size_t i;

	if (n == 0 || n > HOST_MAX)
		return (false);
	for (i = 0; i < n; i++)
		if (s[i] == '\0' ||
		    (!isalnum((unsigned char)s[i]) &&
		        strchr(brackets ? "-._:" : "-._", s[i]) == NULL &&
		        (unsigned char)s[i] < 0x80))
			return (false);
	return (true);
}

/* parse_host - what stands after "smtp:": host or [host], perhaps :port */
static int
parse_host(const char *value, const char *s, const char *addr, struct route *r,
    struct buf *error)
{
	char host[HOST_MAX + 3];
	size_t n;
	char *end;
	long port = 0;
	bool ok;

	if (*s == '[') {
		n = strcspn(s, "]");
		ok = s[n] == ']' && host_ok(s + 1, n - 1, true);
		n++;
	} else {
		n = strcspn(s, ":");
		ok = host_ok(s, n, false);
	}
	if (!ok || n >= sizeof(host))
		return (wrong(error, value,
		    "no host; expected smtp:HOST, smtp:[HOST] or "
		    "smtp:[ADDRESS]:PORT"));
	memcpy(host, s, n);
	host[n] = '\0';
	s += n;
	if (*s == ':') {
		errno = 0;
		port = strtol(s + 1, &end, 10);
		if (!isdigit((unsigned char)s[1]) || *end != '\0' || port < 1 ||
		    port > 65535)
			return (wrong(error, value, "port is not 1 to 65535"));
	} else if (*s != '\0')
		return (wrong(error, value, "text after the host"));
	return (route_make(r, MAILER_SMTP, host, (uint16_t)port, addr, ""));
}

int
route_parse(
    const char *value, const char *addr, struct route *r, struct buf *error)
{
	static const char *const smtp[] = { "smtp:", "esmtp:", "relay:" };
	size_t i;

	memset(r, 0, sizeof(*r));
	for (i = 0; i < sizeof(smtp) / sizeof(smtp[0]); i++)
		if (strncasecmp(value, smtp[i], strlen(smtp[i])) == 0)
			return (parse_host(
			    value, value + strlen(smtp[i]), addr, r, error));
	if (strncasecmp(value, "error:", 6) == 0)
		return (parse_error(value, value + 6, addr, r, error));
	if (strcasecmp(value, "discard:") == 0 ||
	    strcasecmp(value, "discard") == 0)
		return (route_make(r, MAILER_DISCARD, "", 0, addr, ""));
	return (wrong(error, value,
	    "mailer is not smtp:, esmtp:, relay:, error: or discard:"));
}

/* look_up - domain, .parents, "."; key_r is the one that was found */
static int
look_up(route_get_fn *get, void *arg, const char *domain, struct buf *value,
    const char **key_r)
{
	const char *key = domain;
	int rc;

	for (;;) {
		*key_r = key;
		if ((rc = get(arg, key, value)) != 0)
			return (rc);
		/* A literal has no parents. */
		key = *domain == '[' ? NULL : strchr(key + 1, '.');
		if (key == NULL || key[1] == '\0')
			break;
	}
	*key_r = ".";
	return (get(arg, ".", value));
}

/* by_table - 1 routed, 0 not in the table, -1 */
static int
by_table(route_get_fn *get, void *arg, const char *domain, const char *addr,
    struct route *r, struct buf *error)
{
	struct buf value = BUF_INIT(MAP_VALUE_MAX);
	const char *key;
	int rc = look_up(get, arg, domain, &value, &key);

	if (rc == -1) {
		(void)!buf_addf(error, "mailertable cannot be read");
		errno = EIO;
	} else if (rc == 1) {
		(void)!buf_addf(error, "mailertable: %s: ", key);
		rc = route_parse(
		    value.data != NULL ? value.data : "", addr, r, error);
		if (rc == 0) {
			error->len = 0;
			rc = 1;
		}
	}
	buf_fini(&value);
	return (rc);
}

int
route_find(route_get_fn *get, void *arg, const char *smart, const char *addr,
    struct route *r, struct buf *error)
{
	const char *at = strrchr(addr, '@');
	char domain[HOST_MAX + 1];
	size_t n;
	int rc;

	memset(r, 0, sizeof(*r));
	n = at != NULL ? strlen(at + 1) : 0;
	if (n > 0 && at[n] == '.')
		n--; /* example.org. is example.org */
	if (n == 0 || n >= sizeof(domain) || at == addr)
		return (route_make(r, MAILER_ERROR, "5.1.3", 0, addr,
		    "553 5.1.3 A domain name is needed"));
	memcpy(domain, at + 1, n);
	domain[n] = '\0';
	if (!host_ok(domain[0] == '[' ? domain + 1 : domain,
	        domain[0] == '[' && domain[n - 1] == ']' ? n - 2 : n,
	        domain[0] == '['))
		return (route_make(r, MAILER_ERROR, "5.1.3", 0, addr,
		    "553 5.1.3 The domain name is not one"));
	if (get != NULL &&
	    (rc = by_table(get, arg, domain, addr, r, error)) != 0)
		return (rc == 1 ? 0 : -1);
	if (smart != NULL)
		return (route_parse(smart, addr, r, error));
	return (route_make(r, MAILER_SMTP, domain, 0, addr, ""));
}
