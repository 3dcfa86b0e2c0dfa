/* SPDX-License-Identifier: ISC */

/*
 * match - a rule's conditions against the facts
 *
 * Facts come from the network: texts are only compared, and lengths are those
 * of the SMTP server's limits.
 */

#include "core/policy/policy_int.h"

#include "core/policy/pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LOCAL_ROOM = 1024, KEY_ROOM = 1024, VALUE_MAX = 4096, DAY = 24 * 60 };

/* has_address - local part and domain each by its pattern, so that no '*' of
 * the one reaches into the other */
static bool
has_address(const struct match *m, const char *address)
{
	char local[LOCAL_ROOM];
	const char *domain;
	size_t n = pattern_local(address, local, sizeof(local), &domain);

	if (m->value == NULL) /* "*", or "<>" for the null sender */
		return (m->key[0] == '*' || address[0] == '\0');
	if (address[0] == '\0')
		return (false);
	/* A bare postmaster is one of every domain's. */
	return (pattern_has(m->key, local, n) &&
	    (domain[0] == '\0' ||
	        pattern_has_domain(m->value, domain, strlen(domain))));
}

static bool
has_domain(const struct match *m, const char *address)
{
	char local[LOCAL_ROOM];
	const char *domain;

	(void)pattern_local(address, local, sizeof(local), &domain);
	return (domain[0] != '\0' &&
	    pattern_has_domain(m->text, domain, strlen(domain)));
}

static bool
has_client(const struct match *m, const struct policy_facts *f)
{
	uint8_t addr[16];

	return (cidr_parse_addr(f->client_addr, addr) == 0 &&
	    cidr_has(&m->net, addr));
}

static bool
has_name(const struct match *m, const char *name)
{
	if (name[0] == '\0')
		return (false);
	if (name[0] == '[' && strcmp(m->text, "unknown") == 0)
		return (true);
	return (pattern_has_domain(m->text, name, strlen(name)));
}

static bool
has_tls(const struct match *m, const struct policy_facts *f)
{
	const char *v = f->tls_version;

	switch ((enum policy_tls)m->word) {
	case TLS_NONE:
		return (v[0] == '\0');
	case TLS_ANY:
		return (v[0] != '\0');
	case TLS_VERIFIED:
		return (v[0] != '\0' && f->tls_verified);
	case TLS_1_2:
		return (strcmp(v, "TLSv1.2") == 0);
	case TLS_1_3:
		return (strcmp(v, "TLSv1.3") == 0);
	}
	return (false);
}

/* has_time - a span over midnight belongs to the day on which it begins */
static bool
has_time(const struct match *m, const struct policy_facts *f)
{
	unsigned day = f->week_minute / DAY % 7, minute = f->week_minute % DAY;

	if (m->from < m->to)
		return ((m->days & 1u << day) != 0 && minute >= m->from &&
		    minute < m->to);
	if (minute >= m->from)
		return ((m->days & 1u << day) != 0);
	return (minute < m->to && (m->days & 1u << (day + 6) % 7) != 0);
}

/* has_value - unfolded, without blanks at its ends; -1 ENOMEM */
static int
has_value(const char *pattern, const struct field *f)
{
	const char *p = f->value;
	size_t n = f->value_len, i, len = 0;
	char *copy;
	int rc;

	while (n > 0 && strchr(" \t\r\n", p[n - 1]) != NULL)
		n--;
	while (n > 0 && strchr(" \t\r\n", *p) != NULL) {
		p++;
		n--;
	}
	if (memchr(p, '\r', n) == NULL && memchr(p, '\n', n) == NULL)
		return (pattern_has(pattern, p, n));
	if ((copy = malloc(n)) == NULL)
		return (-1);
	for (i = 0; i < n; i++)
		if (p[i] != '\r' && p[i] != '\n')
			copy[len++] = p[i];
	rc = pattern_has(pattern, copy, len);
	free(copy);
	return (rc);
}

static int
has_header(const struct match *m, const struct policy_facts *f)
{
	size_t i;
	int rc;

	for (i = 0; i < f->n_fields; i++) {
		if (f->fields[i].hidden ||
		    strcasecmp(f->fields[i].name, m->key) != 0)
			continue;
		rc = m->value == NULL ? 1 : has_value(m->value, &f->fields[i]);
		if (rc != 0)
			return (rc);
	}
	return (0);
}

static bool
has_verdict(const struct match *m, const struct policy_facts *f)
{
	size_t i;

	for (i = 0; i < f->n_verdicts; i++)
		if (f->verdicts[i].milter == m->milter &&
		    f->verdicts[i].answer == (enum policy_answer)m->word)
			return (true);
	return (false);
}

/* ask - one key; errors as policy_decide() */
static int
ask(const struct match *m, const struct policy_facts *f, const char *key)
{
	struct buf value = BUF_INIT(VALUE_MAX);
	int rc;

	if (f->get == NULL) {
		errno = ENOSYS;
		return (-1);
	}
	rc = f->get(f->arg, m->key, key, &value);
	if (rc == 1 && m->value != NULL)
		rc = pattern_has(
		    m->value, value.data != NULL ? value.data : "", value.len);
	buf_fini(&value);
	return (rc);
}

/* ask_parents - the domain, then .parent from the longest; the first entry
 * found is the one that counts */
static int
ask_parents(
    const struct match *m, const struct policy_facts *f, const char *domain)
{
	struct buf value = BUF_INIT(VALUE_MAX);
	const char *key = domain;
	int rc = 0;

	if (f->get == NULL) {
		errno = ENOSYS;
		return (-1);
	}
	while (key != NULL && key[0] != '\0' &&
	    (rc = f->get(f->arg, m->key, key, &value)) == 0)
		key = strchr(key + 1, '.');
	if (rc == 1 && m->value != NULL)
		rc = pattern_has(
		    m->value, value.data != NULL ? value.data : "", value.len);
	buf_fini(&value);
	return (rc);
}

/* lower - a key as tables hold it; false: too long for any */
static bool
lower(char *out, size_t room, const char *a, size_t na, const char *b)
{
	size_t nb = strlen(b), i;

	if (na + nb + 2 > room)
		return (false);
	memcpy(out, a, na);
	out[na] = '@';
	memcpy(out + na + 1, b, nb + 1);
	for (i = 0; out[i] != '\0'; i++)
		if (out[i] >= 'A' && out[i] <= 'Z')
			out[i] = (char)(out[i] + ('a' - 'A'));
	return (true);
}

static int
has_table(const struct match *m, const struct policy_facts *f)
{
	char local[LOCAL_ROOM], key[KEY_ROOM];
	const char *address, *domain;
	size_t n;

	switch ((enum condition_kind)m->word) {
	case COND_LISTENER:
		return (ask(m, f, f->listener));
	case COND_CLIENT:
		return (ask(m, f, f->client_addr));
	case COND_CLIENT_NAME:
		return (f->client_name[0] == '['
		        ? 0
		        : ask_parents(m, f, f->client_name));
	case COND_HELO:
		return (ask_parents(m, f, f->helo));
	case COND_LOGIN:
		return (f->login[0] == '\0' ? 0 : ask(m, f, f->login));
	default:
		break;
	}
	address = m->word == COND_SENDER || m->word == COND_SENDER_DOMAIN
	    ? f->sender
	    : f->recipient;
	n = pattern_local(address, local, sizeof(local), &domain);
	if (m->word == COND_SENDER_DOMAIN || m->word == COND_RECIPIENT_DOMAIN)
		return (ask_parents(m, f, domain));
	if (address[0] == '\0') /* the null sender's key, as in access tables */
		return (ask(m, f, "<>"));
	if (domain[0] == '\0')
		return (ask(m, f, local));
	return (lower(key, sizeof(key), local, n, domain) ? ask(m, f, key) : 0);
}

/* has - one value; -1 with errno */
static int
has(enum condition_kind kind, const struct match *m,
    const struct policy_facts *f)
{
	switch (kind) {
	case COND_LISTENER:
		return (strcmp(m->text, f->listener) == 0);
	case COND_CLIENT:
		return (has_client(m, f));
	case COND_CLIENT_NAME:
		return (has_name(m, f->client_name));
	case COND_HELO:
		return (has_name(m, f->helo));
	case COND_TLS:
		return (has_tls(m, f));
	case COND_LOGIN:
		return (f->login[0] != '\0' &&
		    pattern_has(m->text, f->login, strlen(f->login)));
	case COND_SENDER:
		return (has_address(m, f->sender));
	case COND_SENDER_DOMAIN:
		return (has_domain(m, f->sender));
	case COND_TIME:
		return (has_time(m, f));
	case COND_RECIPIENT:
		return (has_address(m, f->recipient));
	case COND_RECIPIENT_DOMAIN:
		return (has_domain(m, f->recipient));
	case COND_SIZE:
		return (f->size >= m->from && f->size <= m->to);
	case COND_HEADER:
		return (has_header(m, f));
	case COND_VERDICT:
		return (has_verdict(m, f));
	case COND_TABLE:
		return (has_table(m, f));
	case COND_KINDS:
		break;
	}
	return (0);
}

/* is_known - the verdict of one milter may be in, that of another not */
static bool
is_known(const struct condition *c, const struct match *m,
    const struct policy_facts *f)
{
	size_t i;

	if (c->kind == COND_TABLE)
		return ((f->known & COND_BIT(m->word)) != 0);
	if ((f->known & COND_BIT(c->kind)) == 0)
		return (false);
	for (i = 0; c->kind == COND_VERDICT && i < f->n_verdicts; i++)
		if (f->verdicts[i].milter == m->milter)
			return (true);
	return (c->kind != COND_VERDICT);
}

/* condition_fits - some value, or only exceptions, and no exception */
static int
condition_fits(
    const struct condition *c, const struct policy_facts *f, enum fits *fits_r)
{
	enum fits some = FITS_NO, except = FITS_NO;
	bool any = false;
	size_t i;
	int rc;

	for (i = 0; i < c->n_values; i++) {
		const struct match *m = &c->values[i];
		enum fits *to = m->except ? &except : &some;

		any = any || !m->except;
		if (*to == FITS_YES)
			continue;
		if (!is_known(c, m, f)) {
			*to = FITS_OPEN;
			continue;
		}
		if ((rc = has(c->kind, m, f)) == -1)
			return (-1);
		if (rc == 1)
			*to = FITS_YES;
	}
	if (!any)
		some = FITS_YES;
	if (except == FITS_YES || some == FITS_NO)
		*fits_r = FITS_NO;
	else
		*fits_r = except == FITS_OPEN ? FITS_OPEN : some;
	return (0);
}

int
rule_fits(const struct rule *r, const struct policy_facts *f, enum fits *fits_r)
{
	enum fits one;
	size_t i;

	*fits_r = FITS_YES;
	for (i = 0; i < r->n_conditions; i++) {
		/* No table is asked for a rule that is not decided by it. */
		if (r->conditions[i].kind == COND_TABLE && *fits_r == FITS_OPEN)
			return (0);
		if (condition_fits(&r->conditions[i], f, &one) == -1)
			return (-1);
		if (one < *fits_r)
			*fits_r = one;
		if (one == FITS_NO)
			return (0);
	}
	return (0);
}
