/* SPDX-License-Identifier: ISC */

/*
 * received - our trace field (RFC 5321 4.4)
 *
 * The HELO name and the client's name are the client's words: whatever could
 * end a comment or a clause is written as '?'.
 */

#include "core/smtp/received.h"
#include "core/smtp/address.h"

#include <string.h>

/* add_word - s with every byte that is special in a field replaced */
static int
add_word(struct buf *out, const char *s)
{
	size_t at = out->len;

	if (buf_add(out, s, strlen(s)) == -1)
		return (-1);
	for (; at < out->len; at++) {
		unsigned char c = (unsigned char)out->data[at];

		if (c <= 32 || c == 127 || strchr("()<>;,\"\\@", c) != NULL)
			out->data[at] = '?';
	}
	return (0);
}

static int
add_client(struct buf *out, const struct envelope *e, bool forged)
{
	const char *v6 = strchr(e->client_addr, ':') != NULL ? "IPv6:" : "";

	if (buf_addf(out, " (") == -1)
		return (-1);
	if (e->client_name[0] != '[' && e->client_name[0] != '\0' &&
	    (add_word(out, e->client_name) == -1 || buf_add(out, " ", 1) == -1))
		return (-1);
	return (buf_addf(out, "[%s%s]%s)", v6, e->client_addr,
	    forged ? " (may be forged)" : ""));
}

int
received_value(struct buf *out, const struct envelope *e, const char *hostname,
    bool forged, time_t now)
{
	const char *proto =
	    (e->flags & ENV_SMTPUTF8) != 0 ? "UTF8SMTP" : e->proto;
	const char *from = e->helo[0] != '\0' ? e->helo : e->client_name;
	char date[64];
	struct tm tm;

	if (gmtime_r(&now, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	/* Day and month names: the C locale is never left. */
	(void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", &tm);
	if (buf_add(out, " from ", 6) == -1 ||
	    add_word(out, from[0] != '\0' ? from : "unknown") == -1 ||
	    add_client(out, e, forged) == -1 ||
	    buf_addf(
	        out, "\r\n\tby %s with %s id %s", hostname, proto, e->id) == -1)
		return (-1);
	if (e->n_rcpts == 1 &&
	    buf_addf(out, "\r\n\tfor <%s>", e->rcpts[0].addr) == -1)
		return (-1);
	return (buf_addf(out, ";%s%s", e->n_rcpts == 1 ? " " : "\r\n\t", date));
}
