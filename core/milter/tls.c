/* SPDX-License-Identifier: ISC */

/*
 * tls - to endpoints on other machines, each side proving who it is
 *
 * Keys are read when the engine begins, before the sandbox closes; a reload
 * goes on with those that it knows by their paths, and an endpoint whose keys
 * came later cannot be used until the process begins anew.
 */

#include "core/milter/chain_int.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* say_why - the oldest of OpenSSL's errors into c->why; errno is EPROTO */
static int
say_why(struct conn *c, const char *what)
{
	long verify =
	    c->ssl != NULL ? SSL_get_verify_result(c->ssl) : X509_V_OK;
	const char *text;

	if (verify != X509_V_OK)
		text = X509_verify_cert_error_string(verify);
	else
		text = ERR_reason_error_string(ERR_peek_error());
	(void)snprintf(c->why, sizeof(c->why), "%s: %s", what,
	    text != NULL ? text : "closed the connection");
	ERR_clear_error();
	errno = EPROTO;
	return (-1);
}

static char *
name_of(const struct milter_conf *m)
{
	char *s;

	if (asprintf(&s, "%s|%s|%s", m->tls_ca,
	        m->tls_cert != NULL ? m->tls_cert : "",
	        m->tls_key != NULL ? m->tls_key : "") == -1)
		return (NULL);
	return (s);
}

static struct tls *
find(const struct engine *e, const struct milter_conf *m)
{
	char *name = name_of(m);
	struct tls *t;

	for (t = e->tls; name != NULL && t != NULL; t = t->next)
		if (strcmp(t->name, name) == 0)
			break;
	if (name == NULL)
		return (NULL);
	free(name);
	return (t);
}

static SSL_CTX *
make(const struct milter_conf *m)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (ctx == NULL)
		return (NULL);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
	        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	(void)SSL_CTX_set_options(
	    ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_load_verify_file(ctx, m->tls_ca) != 1 ||
	    (m->tls_cert != NULL &&
	        (SSL_CTX_use_certificate_chain_file(ctx, m->tls_cert) != 1 ||
	            SSL_CTX_use_PrivateKey_file(
	                ctx, m->tls_key, SSL_FILETYPE_PEM) != 1 ||
	            SSL_CTX_check_private_key(ctx) != 1))) {
		SSL_CTX_free(ctx);
		return (NULL);
	}
	return (ctx);
}

/* load - one milter's keys, unless they are known */
static void
load(struct engine *e, const struct milter_conf *m)
{
	struct tls *t;
	char text[160];

	if (m->tls_ca == NULL || find(e, m) != NULL)
		return;
	ERR_clear_error();
	if ((t = calloc(1, sizeof(*t))) != NULL &&
	    (t->name = name_of(m)) != NULL && (t->ctx = make(m)) != NULL) {
		t->next = e->tls;
		e->tls = t;
		return;
	}
	ERR_error_string_n(ERR_get_error(), text, sizeof(text));
	log_err("milter=%s: tls: ca=%s cert=%s key=%s: %s", m->name, m->tls_ca,
	    m->tls_cert != NULL ? m->tls_cert : "none",
	    m->tls_key != NULL ? m->tls_key : "none", text);
	ERR_clear_error();
	if (t != NULL)
		free(t->name);
	free(t);
}

void
tls_load(struct engine *e)
{
	size_t i;

	for (i = 0; i < e->settings->n_milters; i++)
		load(e, &e->settings->milters[i]);
}

void
tls_free(struct engine *e)
{
	struct tls *t;

	while ((t = e->tls) != NULL) {
		e->tls = t->next;
		SSL_CTX_free(t->ctx);
		free(t->name);
		free(t);
	}
}

int
tls_begin(struct conn *c)
{
	const struct milter_conf *m = c->conf;
	const char *name = m->tls_name;
	struct tls *t = find(c->engine, m);
	X509_VERIFY_PARAM *param;

	if (name == NULL)
		name = m->endpoints[c->endpoint].host;
	if (t == NULL) {
		(void)snprintf(c->why, sizeof(c->why),
		    "tls: its keys were not read at start");
		errno = EPROTO;
		return (-1);
	}
	ERR_clear_error();
	if ((c->ssl = SSL_new(t->ctx)) == NULL ||
	    SSL_set_fd(c->ssl, c->fd) != 1)
		return (say_why(c, "tls"));
	param = SSL_get0_param(c->ssl);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, name) != 1 &&
	    (SSL_set1_host(c->ssl, name) != 1 ||
	        SSL_set_tlsext_host_name(c->ssl, name) != 1))
		return (say_why(c, "tls"));
	X509_VERIFY_PARAM_set_hostflags(
	    param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	SSL_set_connect_state(c->ssl);
	c->phase = CONN_TLS;
	return (0);
}

int
tls_step(struct conn *c)
{
	int r;

	ERR_clear_error();
	if ((r = SSL_do_handshake(c->ssl)) == 1)
		return (1);
	switch (SSL_get_error(c->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return (event_add(c->ev_read, NULL));
	case SSL_ERROR_WANT_WRITE:
		return (event_add(c->ev_write, NULL));
	default:
		return (say_why(c, "tls"));
	}
}

/* result - of SSL_read() or SSL_write(), as recv() and send() have it */
static ssize_t
result(struct conn *c, int n)
{
	if (n > 0)
		return (n);
	switch (SSL_get_error(c->ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return (-1);
	case SSL_ERROR_ZERO_RETURN:
		return (0);
	case SSL_ERROR_SYSCALL:
		if (ERR_peek_error() == 0 && errno != 0)
			return (-1);
		/* FALLTHROUGH */
	default:
		return (say_why(c, "tls"));
	}
}

ssize_t
conn_recv(struct conn *c, void *room, size_t n)
{
	if (c->ssl == NULL)
		return (recv(c->fd, room, n, 0));
	ERR_clear_error();
	errno = 0;
	return (result(c, SSL_read(c->ssl, room, (int)n)));
}

ssize_t
conn_send(struct conn *c, const void *p, size_t n)
{
	if (c->ssl == NULL)
		return (send(c->fd, p, n, MSG_NOSIGNAL));
	if (n > 1 << 30)
		n = 1 << 30;
	ERR_clear_error();
	errno = 0;
	return (result(c, SSL_write(c->ssl, p, (int)n)));
}

bool
conn_pending(const struct conn *c)
{
	return (c->ssl != NULL && SSL_pending(c->ssl) > 0);
}
