/* SPDX-License-Identifier: ISC */

/* endpoint - addresses of milters, as Sendmail and as Postfix write them */

#include "core/conf/endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int
parse_port(const char *s, size_t n, uint16_t *port_r)
{
	unsigned v = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return (-1);
		if ((v = v * 10 + (unsigned)(s[i] - '0')) > 65535)
			return (-1);
	}
	if (n == 0 || v == 0)
		return (-1);
	*port_r = (uint16_t)v;
	return (0);
}

/* copy_host - n bytes, without the brackets around an address */
static char *
copy_host(const char *s, size_t n)
{
	if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
		s++;
		n -= 2;
	}
	if (n == 0 || memchr(s, '[', n) != NULL || memchr(s, ']', n) != NULL) {
		errno = EINVAL;
		return (NULL);
	}
	return (strndup(s, n));
}

int
hostport_parse(const char *s, char **host_r, uint16_t *port_r)
{
	const char *colon = strrchr(s, ':');

	if (colon == NULL ||
	    parse_port(colon + 1, strlen(colon + 1), port_r) == -1 ||
	    (s[0] != '[' && memchr(s, ':', (size_t)(colon - s)) != NULL)) {
		errno = EINVAL;
		return (-1);
	}
	*host_r = copy_host(s, (size_t)(colon - s));
	return (*host_r == NULL ? -1 : 0);
}

static int
parse_inet(const char *s, struct endpoint *e)
{
	const char *at = strchr(s, '@');

	e->family = ENDPOINT_INET;
	if (at == NULL)
		return (hostport_parse(s, &e->host, &e->port));
	if (parse_port(s, (size_t)(at - s), &e->port) == -1) {
		errno = EINVAL;
		return (-1);
	}
	e->host = copy_host(at + 1, strlen(at + 1));
	return (e->host == NULL ? -1 : 0);
}

int
endpoint_parse(const char *s, struct endpoint *e)
{
	const char *path = NULL;

	memset(e, 0, sizeof(*e));
	if ((e->text = strdup(s)) == NULL)
		return (-1);
	if (strncmp(s, "unix:", 5) == 0)
		path = s + 5;
	else if (strncmp(s, "local:", 6) == 0)
		path = s + 6;
	else if (s[0] == '/')
		path = s;
	if (path != NULL) {
		e->family = ENDPOINT_UNIX;
		if (path[0] != '/' ||
		    strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			goto bad;
		if ((e->path = strdup(path)) == NULL)
			goto fail;
		return (0);
	}
	if (strncmp(s, "inet:", 5) == 0) {
		if (parse_inet(s + 5, e) == 0)
			return (0);
		goto fail;
	}
	if (strncmp(s, "inet6:", 6) == 0) {
		e->v6 = true;
		if (parse_inet(s + 6, e) == 0)
			return (0);
		goto fail;
	}
bad:
	errno = EINVAL;
fail:
	endpoint_fini(e);
	return (-1);
}

void
endpoint_fini(struct endpoint *e)
{
	int saved = errno;

	free(e->text);
	free(e->path);
	free(e->host);
	memset(e, 0, sizeof(*e));
	errno = saved;
}
