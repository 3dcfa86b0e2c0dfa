/* SPDX-License-Identifier: ISC */

/*
 * policy_fuzz - rules, and the facts of a session, recipient and message
 *
 * Input: options and rules of a policy, a line "%%", then lines of one letter
 * and a text: l listener, c client, n its name, h HELO, t TLS, u login, s
 * sender, r recipient, w minute of the week, z size, f header field, v verdict.
 *
 * Whatever the rules say, the authoriser is first, asked, enforced, and its
 * failure is no consent; content changes nothing but what it may; and the
 * policy that is shown is the policy.
 *
 * coverage: core/policy core/conf/settings_rule.c core/conf/settings_change.c
 */

#include "core/policy/policy.h"
#include "milter-sdk/base/log.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 8, VERDICTS = 4 };

static const char head[] =
    "postmaster = \"p@example.org\"\n"
    "milter access { run = a }\n"
    "milter grey { run = g on-failure = accept }\n"
    "milter virus { run = v timeout = {\"message=2m\"} }\n"
    "milter spam { run = s mode = shadow }\n"
    "milter dlp { run = d content = yes }\n"
    "listener mx { address = {\"127.0.0.1:25\"} policy = in }\n"
    "policy in { authorise = access chain = {grey, virus, spam}\n";

static struct field fields[FIELDS];
static struct policy_verdict verdicts[VERDICTS];

static int
get(void *arg, const char *table, const char *key, struct buf *value)
{
	(void)arg;
	(void)table;
	if (key[0] == '!')
		return (-1);
	return (key[0] < 'n' ? 0 : buf_addf(value, "%s", key) == -1 ? -1 : 1);
}

static void
fact(struct policy_facts *f, char letter, char *text)
{
	struct field *h = &fields[f->n_fields];

	switch (letter) {
	case 'l':
		f->listener = text;
		break;
	case 'c':
		f->client_addr = text;
		break;
	case 'n':
		f->client_name = text;
		break;
	case 'h':
		f->helo = text;
		break;
	case 't':
		f->tls_version = text;
		f->tls_verified = text[0] != '\0' && strlen(text) % 2 == 0;
		break;
	case 'u':
		f->login = text;
		break;
	case 's':
		f->sender = text;
		break;
	case 'r':
		f->recipient = text;
		break;
	case 'w':
		f->week_minute = (unsigned)atoi(text) % (7 * 24 * 60);
		break;
	case 'z':
		f->size = strtoull(text, NULL, 10);
		break;
	case 'f':
		if (f->n_fields == FIELDS || strchr(text, ':') == NULL)
			break;
		h->name = text;
		h->value = strchr(text, ':');
		*h->value++ = '\0';
		h->value_len = strlen(h->value);
		f->n_fields++;
		break;
	case 'v':
		if (f->n_verdicts == VERDICTS)
			break;
		verdicts[f->n_verdicts].milter = (unsigned char)text[0] % 5u;
		verdicts[f->n_verdicts++].answer = text[0] % 4u;
		break;
	default:
		break;
	}
}

static void
read_facts(struct policy_facts *f, char *text)
{
	char *line, *save = NULL;

	memset(f, 0, sizeof(*f));
	memset(fields, 0, sizeof(fields));
	f->listener = "mx";
	f->client_addr = "192.0.2.1";
	f->client_name = "[192.0.2.1]";
	f->helo = f->tls_version = f->login = f->sender = f->recipient = "";
	f->fields = fields;
	f->verdicts = verdicts;
	f->get = get;
	for (line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save))
		fact(f, line[0], line + 1);
}

static void
check_chain(const struct settings *s, const struct policy *p,
    const struct policy_chain *c)
{
	size_t i, k;

	check(c->n_steps <= p->n_reach);
	for (i = 0; i < c->n_steps; i++) {
		const struct policy_step *step = &c->steps[i];

		check(policy_reaches(p, step->milter));
		check(step->milter < s->n_milters);
		for (k = 0; k < i; k++)
			check(c->steps[k].milter != step->milter);
		check(step->skipped ? step->skip.rule != NULL
		                    : step->in.file != NULL);
	}
	if (!p->has_authoriser)
		return;
	check(c->n_steps > 0 && c->steps[0].milter == p->authoriser);
	check(!c->steps[0].skipped && c->steps[0].mode == MODE_ENFORCE);
	check(c->steps[0].on_failure != FAIL_ACCEPT);
}

static const uint32_t stages[] = { 0, POLICY_AT_CONNECT, POLICY_AT_MAIL,
	POLICY_AT_RCPT, POLICY_AT_RCPT | COND_CONTENT };

/* check_content - against the chain without the content */
static void
check_content(const struct settings *s, const struct policy_chain *before,
    const struct policy_chain *after)
{
	size_t i, k;

	for (i = 0; i < after->n_steps; i++) {
		const struct policy_step *a = &after->steps[i];

		for (k = 0; k < before->n_steps; k++)
			if (before->steps[k].milter == a->milter)
				break;
		if (k == before->n_steps || before->steps[k].skipped) {
			check(a->skipped || s->milters[a->milter].content);
			continue;
		}
		check(before->steps[k].mode == a->mode &&
		    before->steps[k].on_failure == a->on_failure &&
		    before->steps[k].message_ms == a->message_ms);
	}
}

/* same_step - is the milter asked alike in both chains? */
static bool
same_step(
    const struct policy_chain *a, const struct policy_chain *b, size_t milter)
{
	const struct policy_step *x = NULL, *y = NULL;
	size_t i;

	for (i = 0; i < a->n_steps; i++)
		if (a->steps[i].milter == milter && !a->steps[i].skipped)
			x = &a->steps[i];
	for (i = 0; i < b->n_steps; i++)
		if (b->steps[i].milter == milter && !b->steps[i].skipped)
			y = &b->steps[i];
	if (x == NULL || y == NULL)
		return (x == y);
	return (x->mode == y->mode && x->on_failure == y->on_failure &&
	    x->connect_ms == y->connect_ms && x->command_ms == y->command_ms &&
	    x->message_ms == y->message_ms);
}

/* check_decided - what is decided at a stage stays so */
static void
check_decided(const struct settings *s, size_t policy, struct policy_facts *f,
    const struct policy_chain *chains)
{
	const struct policy *p = &s->policies[policy];
	bool *open = calloc(p->n_reach + 1, sizeof(*open));
	size_t i, k;

	check(open != NULL);
	for (i = 1; i < 4; i++) {
		f->known = stages[i];
		if (policy_undecided(s, policy, f, open) == -1)
			break;
		for (k = 0; k < p->n_reach; k++)
			check(open[k] ||
			    (same_step(
			         &chains[i], &chains[i + 1], p->reach[k]) &&
			        same_step(
			            &chains[i], &chains[4], p->reach[k])));
	}
	free(open);
}

static void
decide(const struct settings *s, size_t policy, struct policy_facts *f)
{
	struct policy_chain chains[5], again;
	size_t i;

	for (i = 0; i < 5; i++) {
		f->known = stages[i];
		if (policy_decide(s, policy, f, &chains[i]) == -1) {
			check(chains[i].steps == NULL);
			break;
		}
		check_chain(s, &s->policies[policy], &chains[i]);
		check(policy_decide(s, policy, f, &again) == 0);
		check(policy_chain_same(&chains[i], &again));
		policy_chain_fini(&again);
	}
	if (i == 5) {
		check_content(s, &chains[3], &chains[4]);
		check_decided(s, policy, f, chains);
	}
	while (i-- > 0)
		policy_chain_fini(&chains[i]);
}

/* bare - what is shown, without places and hash */
static void
bare(char *text)
{
	char *from = text, *end;

	while ((from = strstr(from, "\t# ")) != NULL) {
		end = from + strcspn(from, "\n");
		memmove(from, end, strlen(end) + 1);
	}
}

/* show - and read it over what it was made of: nothing changes */
static void
show(const struct settings *s, size_t policy, const struct conf_file *file)
{
	struct buf one = BUF_INIT(1 << 20), two = BUF_INIT(1 << 20),
	           errors = BUF_INIT(1 << 20);
	struct conf_file files[2] = { *file, { (char *)"n.conf", NULL, 0 } };
	struct settings *again;

	check(policy_show(s, policy, &one) == 0);
	files[1].text = one.data;
	files[1].len = one.len;
	again = settings_parse(files, 2, &errors);
	check(again != NULL);
	check(policy_show(again, policy, &two) == 0);
	bare(one.data);
	bare(two.data);
	check(strcmp(one.data, two.data) == 0);
	settings_unref(&again);
	buf_fini(&one);
	buf_fini(&two);
	buf_fini(&errors);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct buf errors = BUF_INIT(1 << 20);
	struct policy_facts facts;
	struct conf_file file = { .name = (char *)"m.conf" };
	struct settings *s;
	char *text = calloc(1, size + 1), *mark;
	size_t i;

	log_set_level(LOG_EMERG);
	if (text == NULL || size > 8000)
		goto done;
	memcpy(text, data, size);
	if (strlen(text) != size)
		goto done;
	if ((mark = strstr(text, "\n%%\n")) != NULL)
		*mark = '\0';
	if (asprintf(&file.text, "%s%s\n}\n", head, text) == -1)
		abort();
	file.len = strlen(file.text);
	s = settings_parse(&file, 1, &errors);
	check(s != NULL || errors.len > 0);
	read_facts(&facts, mark != NULL ? mark + 4 : text + size);
	for (i = 0; s != NULL && i < s->n_policies; i++) {
		decide(s, i, &facts);
		show(s, i, &file);
	}
	settings_unref(&s);
	free(file.text);
done:
	buf_fini(&errors);
	free(text);
	return (0);
}
