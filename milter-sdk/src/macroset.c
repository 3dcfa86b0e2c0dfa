/* SPDX-License-Identifier: ISC */

/*
 * macroset - what the MTA tells beside its commands
 *
 * A set is that of one command, so a command without one of its own has none:
 * libmilter would still show what came with an earlier message, a queue id
 * among it.  A set for CONNECT to RCPT, or such a command, begins something
 * new, before which no later stage's set can have come.  All of it comes from
 * the network; a set is bounded by the packet.
 */

#include "milter-sdk/src/macroset.h"

#include <errno.h>
#include <string.h>

/* The stages in the order of a session */
static const char stages[MILTER_STAGES + 1] = "CHMRTNE";
enum { FIRST_OF_MESSAGE = 2, LAST_THAT_BEGINS = 3, KEEP_MAX = 2048 };

void
macroset_init(struct macroset *m)
{
	size_t i;

	memset(m, 0, sizeof(*m));
	for (i = 0; i < MILTER_STAGES; i++)
		m->sets[i].text.max = MILTER_CHUNK;
}

/* forget - its memory stays for the next one, unless it was much */
static void
forget(struct macro_set *s)
{
	s->text.len = 0;
	s->fresh = false;
	if (s->text.cap > KEEP_MAX)
		buf_fini(&s->text);
}

static void
forget_from(struct macroset *m, size_t i)
{
	for (; i < MILTER_STAGES; i++)
		forget(&m->sets[i]);
}

/* pairs_ok - whether n bytes are pairs of strings */
static bool
pairs_ok(const char *s, size_t n)
{
	size_t i, strings = 0;

	for (i = 0; i < n; i++)
		strings += s[i] == '\0';
	return (n == 0 || (s[n - 1] == '\0' && strings % 2 == 0));
}

int
macroset_put(struct macroset *m, const struct milter_packet *pkt)
{
	const char *at;
	struct macro_set *s;
	size_t i;

	if (pkt->len == 0 || !pairs_ok(pkt->data + 1, pkt->len - 1)) {
		errno = EPROTO;
		return (-1);
	}
	if (pkt->data[0] == '\0' || (at = strchr(stages, pkt->data[0])) == NULL)
		return (0); /* Postfix sends some for L, B and U */
	i = (size_t)(at - stages);
	if (i <= LAST_THAT_BEGINS)
		forget_from(m, i + 1);
	s = &m->sets[i];
	forget(s);
	s->fresh = true;
	return (buf_add(&s->text, pkt->data + 1, pkt->len - 1));
}

void
macroset_at(struct macroset *m, char cmd)
{
	const char *at = cmd != '\0' ? strchr(stages, cmd) : NULL;
	size_t i;

	if (at == NULL)
		return;
	i = (size_t)(at - stages);
	if (!m->sets[i].fresh)
		forget(&m->sets[i]);
	m->sets[i].fresh = false;
	if (i <= LAST_THAT_BEGINS)
		forget_from(m, i + 1);
}

void
macroset_end_message(struct macroset *m)
{
	forget_from(m, FIRST_OF_MESSAGE);
}

void
macroset_fini(struct macroset *m)
{
	size_t i;

	forget_from(m, 0);
	for (i = 0; i < MILTER_STAGES; i++)
		buf_fini(&m->sets[i].text);
}

/* same - one-letter names are meant with and without braces */
static bool
same(const char *have, const char *name, size_t n)
{
	size_t k = strlen(have);

	if (k == 3 && have[0] == '{' && have[2] == '}') {
		have++;
		k = 1;
	}
	return (k == n && memcmp(have, name, n) == 0);
}

const char *
macroset_find(const struct macroset *m, const char *name)
{
	size_t i, n = strlen(name);
	const char *p, *end;

	if (n == 3 && name[0] == '{' && name[2] == '}') {
		name++;
		n = 1;
	}
	for (i = MILTER_STAGES; i-- > 0;) {
		if (m->sets[i].text.len == 0)
			continue;
		p = m->sets[i].text.data;
		end = p + m->sets[i].text.len;
		for (; p < end; p += strlen(p) + 1) {
			if (same(p, name, n))
				return (p + strlen(p) + 1);
			p += strlen(p) + 1;
		}
	}
	return (NULL);
}
