/* SPDX-License-Identifier: ISC */

/*
 * edit_envelope - a milter's changes to sender and recipients, on a copy
 *
 * A deletion names the recipient as RCPT carried it; one that is not there is
 * no mistake, nor is adding one that is (Sendmail and Postfix agree).
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ENV_PACK_MAX = 64 << 20 };

/* same_address - local part to the letter, domain in any case */
static bool
same_address(const char *a, const char *b, size_t n)
{
	const char *at = memrchr(b, '@', n);
	size_t local = at != NULL ? (size_t)(at - b) : n;

	return (strlen(a) == n && memcmp(a, b, local) == 0 &&
	    strncasecmp(a + local, b + local, n - local) == 0);
}

static size_t
find_rcpt(const struct envelope *env, const char *addr, size_t n)
{
	size_t i;

	for (i = 0; i < env->n_rcpts; i++)
		if (same_address(env->rcpts[i].addr, addr, n))
			break;
	return (i);
}

/* argument - the value of NAME= in a blank-separated list, or NULL.  One too
 * long for SMTP counts as not there. */
static const char *
argument(const char *args, const char *name, size_t *len)
{
	size_t n = strlen(name);

	for (;;) {
		args += strspn(args, " ");
		if (*args == '\0')
			return (NULL);
		*len = strcspn(args, " ");
		if (*len > n && strncasecmp(args, name, n) == 0) {
			*len -= n;
			return (*len <= EDIT_ARG_MAX ? args + n : NULL);
		}
		args += *len;
	}
}

static uint8_t
notify_bits(const char *s, size_t n)
{
	static const struct {
		const char *word;
		uint8_t bit;
	} words[] = { { "NEVER", NOTIFY_NEVER }, { "SUCCESS", NOTIFY_SUCCESS },
		{ "FAILURE", NOTIFY_FAILURE }, { "DELAY", NOTIFY_DELAY } };
	uint8_t bits = 0;
	size_t i, k;

	for (; n > 0; s += k, n -= k) {
		for (k = 0; k < n && s[k] != ','; k++)
			;
		for (i = 0; i < 4; i++)
			if (strlen(words[i].word) == k &&
			    strncasecmp(s, words[i].word, k) == 0)
				bits |= words[i].bit;
		if (k < n)
			k++;
	}
	return ((bits & NOTIFY_NEVER) != 0 ? NOTIFY_NEVER : bits);
}

static int
set_part(char **member, const char *s, size_t n)
{
	char *copy = strndup(s, n);

	if (copy == NULL)
		return (-1);
	free(*member);
	*member = copy;
	return (0);
}

/* others_have - is it there already for another group of this session? */
static bool
others_have(const struct link *l, const char *addr, size_t n)
{
	const struct chain *c = l->chain;
	size_t k;

	for (k = 0; k < c->n_groups; k++) {
		const struct group *g = &c->groups[k];

		if ((l->groups & 1u << k) != 0 && g->live &&
		    g->out.kind == OUT_NONE &&
		    find_rcpt(g->env, addr, n) < g->env->n_rcpts &&
		    c->n_groups > 1)
			return (true);
	}
	return (false);
}

static int
add_rcpt(struct link *l, struct envelope *env, const struct milter_edit *e)
{
	const char *addr, *arg;
	size_t len, n;
	struct rcpt *r;
	char *copy;

	(void)milter_address(e->name, false, &addr, &len);
	if (find_rcpt(env, addr, len) < env->n_rcpts ||
	    others_have(l, addr, len))
		return (0);
	if ((copy = strndup(addr, len)) == NULL)
		return (-1);
	r = env_add_rcpt(env, copy);
	free(copy);
	if (r == NULL)
		return (-1);
	if ((arg = argument(e->value, "NOTIFY=", &n)) != NULL)
		r->notify = notify_bits(arg, n);
	if ((arg = argument(e->value, "ORCPT=", &n)) != NULL &&
	    set_part(&r->orcpt, arg, n) == -1)
		return (-1);
	record_edit(l, e->code, "recipient", NULL, 0, addr, len);
	return (0);
}

static void
del_rcpt(struct link *l, struct envelope *env, const struct milter_edit *e)
{
	const char *addr;
	size_t len, i;

	(void)milter_address(e->name, false, &addr, &len);
	while ((i = find_rcpt(env, addr, len)) < env->n_rcpts) {
		record_edit(l, e->code, "recipient", addr, len, NULL, 0);
		env_del_rcpt(env, i);
	}
}

static int
change_from(struct link *l, struct envelope *env, const struct milter_edit *e,
    bool first)
{
	const char *addr, *arg;
	size_t len, n;

	(void)milter_address(e->name, true, &addr, &len);
	if (first)
		record_edit(l, e->code, "sender", env->sender,
		    strlen(env->sender), addr, len);
	if (set_part(&env->sender, addr, len) == -1)
		return (-1);
	if ((arg = argument(e->value, "RET=", &n)) != NULL) {
		env->flags &= ~(uint32_t)ENV_RET_HDRS;
		if (n == 4 && strncasecmp(arg, "HDRS", 4) == 0)
			env->flags |= ENV_RET_HDRS;
	}
	if ((arg = argument(e->value, "ENVID=", &n)) != NULL)
		return (set_part(&env->envid, arg, n));
	return (0);
}

static int
clone(const struct envelope *from, struct envelope *to)
{
	struct buf b = BUF_INIT(ENV_PACK_MAX);
	struct packer k = { .b = &b };
	struct unpacker u;
	int r = -1;

	env_pack(&k, from);
	if (pack_end(&k) == 0) {
		u = (struct unpacker){ .p = (unsigned char *)b.data,
			.n = b.len };
		r = env_unpack(&u, to);
	}
	buf_fini(&b);
	return (r);
}

int
env_clone_head(const struct envelope *from, struct envelope *to)
{
	struct envelope head = *from;

	head.rcpts = NULL;
	head.n_rcpts = 0;
	return (clone(&head, to));
}

/* envelope_edits - all of them, on a copy */
static int
envelope_edits(struct link *l, struct envelope *env, bool first)
{
	size_t i;

	for (i = 0; i < l->edits.n; i++) {
		const struct milter_edit *e = &l->edits.v[i].e;

		switch (e->code) {
		case MILTER_ADD_RCPT:
		case MILTER_ADD_RCPT_PAR:
			if (first && add_rcpt(l, env, e) == -1)
				return (-1);
			break;
		case MILTER_DEL_RCPT:
			del_rcpt(l, env, e);
			break;
		case MILTER_CHANGE_FROM:
			if (change_from(l, env, e, first) == -1)
				return (-1);
			break;
		default:
			break;
		}
	}
	return (0);
}

/* fits - could the receiver hand this envelope to the queue? */
static bool
fits(const struct envelope *env)
{
	struct buf b = BUF_INIT(EDIT_ENV_MAX);
	struct packer k = { .b = &b };
	int r;

	env_pack(&k, env);
	r = pack_end(&k);
	buf_fini(&b);
	if (r == -1)
		errno = E2BIG;
	return (r == 0);
}

/* edit_envelope - to is from after the link's edits; empty on failure */
int
edit_envelope(struct link *l, const struct envelope *from, struct envelope *to,
    bool first)
{
	if (clone(from, to) == -1)
		return (-1);
	if (envelope_edits(l, to, first) == -1 || !fits(to)) {
		env_fini(to);
		return (-1);
	}
	return (0);
}
