
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_redis_peer.h"


static ngx_int_t ngx_http_agntkey_redis_peer_bad_ssl(ngx_conf_t *cf,
    const char *what, ngx_str_t *value);
static ngx_uint_t ngx_http_agntkey_redis_peer_is_ip(ngx_str_t *name);
static void ngx_http_agntkey_redis_peer_resolve(
    ngx_http_agntkey_redis_peer_t *peer);
static void ngx_http_agntkey_redis_peer_resolved(ngx_resolver_ctx_t *ctx);
static void ngx_http_agntkey_redis_peer_open(
    ngx_http_agntkey_redis_peer_t *peer, struct sockaddr *sockaddr,
    socklen_t socklen, ngx_str_t *name);
static void ngx_http_agntkey_redis_peer_event(ngx_event_t *ev);
static void ngx_http_agntkey_redis_peer_connected(
    ngx_http_agntkey_redis_peer_t *peer);
static void ngx_http_agntkey_redis_peer_handshake(
    ngx_http_agntkey_redis_peer_t *peer);
static ngx_int_t ngx_http_agntkey_redis_peer_expect_name(
    ngx_http_agntkey_redis_peer_t *peer, SSL *ssl);
static void ngx_http_agntkey_redis_peer_handshaked(ngx_connection_t *c);
static void ngx_http_agntkey_redis_peer_done(
    ngx_http_agntkey_redis_peer_t *peer);
static void ngx_http_agntkey_redis_peer_failed(
    ngx_http_agntkey_redis_peer_t *peer, const char *cause, ngx_err_t err);


ngx_int_t
ngx_http_agntkey_redis_peer_init(ngx_conf_t *cf,
    ngx_http_agntkey_redis_peer_conf_t *conf, ngx_http_agntkey_redis_url_t *url)
{
    ngx_url_t  u;

    conf->host = url->host;
    conf->port = url->port;

    conf->name.data = ngx_pnalloc(cf->pool, url->host.len
                                            + sizeof("unix:[]:65535") - 1);
    if (conf->name.data == NULL) {
        return NGX_ERROR;
    }

    if (url->unix_socket) {
        conf->name.len = ngx_sprintf(conf->name.data, "unix:%V", &url->host)
                         - conf->name.data;

    } else {
        conf->name.len = ngx_sprintf(conf->name.data,
                                     url->ipv6 ? "[%V]:%ui" : "%V:%ui",
                                     &url->host, (ngx_uint_t) url->port)
                         - conf->name.data;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = conf->name;
    u.default_port = url->port;
    u.no_resolve = (conf->resolver != NULL);

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in \"agntkey_redis\" \"%V\"",
                           u.err ? u.err : "invalid address", &conf->name);
        return NGX_ERROR;
    }

    conf->addrs = u.addrs;
    conf->naddrs = u.naddrs;

    if (conf->naddrs) {
        conf->resolver = NULL;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_redis_peer_init_ssl(ngx_conf_t *cf,
    ngx_http_agntkey_redis_peer_conf_t *conf,
    ngx_http_agntkey_redis_peer_ssl_t *ssl)
{
    ngx_str_t           *name;
    ngx_pool_cleanup_t  *cln;

    conf->ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (conf->ssl == NULL) {
        return NGX_ERROR;
    }

    conf->ssl->log = cf->log;

    if (ngx_ssl_create(conf->ssl, ssl->protocols, NULL) != NGX_OK) {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(conf->ssl);
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = conf->ssl;

    /* OpenSSL says what is wrong, and we say where */

    if (ngx_ssl_ciphers(cf, conf->ssl, &ssl->ciphers, 0) != NGX_OK) {
        return ngx_http_agntkey_redis_peer_bad_ssl(cf, "ciphers",
                                                   &ssl->ciphers);
    }

    if (ssl->certificate.len
        && ngx_ssl_certificate(cf, conf->ssl, &ssl->certificate,
                               &ssl->certificate_key, NULL)
           != NGX_OK)
    {
        return ngx_http_agntkey_redis_peer_bad_ssl(cf, "certificate",
                                                   &ssl->certificate);
    }

    if (ngx_ssl_trusted_certificate(cf, conf->ssl, &ssl->trusted_certificate,
                                    ssl->verify_depth)
        != NGX_OK)
    {
        return ngx_http_agntkey_redis_peer_bad_ssl(cf, "trusted_certificate",
                                                   &ssl->trusted_certificate);
    }

    if (ngx_ssl_crl(cf, conf->ssl, &ssl->crl) != NGX_OK) {
        return ngx_http_agntkey_redis_peer_bad_ssl(cf, "crl", &ssl->crl);
    }

    if (ssl->trusted_certificate.len == 0
        && SSL_CTX_set_default_verify_paths(conf->ssl->ctx) != 1)
    {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_ERROR;
    }

    conf->ssl_verify = ssl->verify;

    name = ssl->name.len ? &ssl->name : &conf->host;

    conf->ssl_name.len = name->len;
    conf->ssl_name.data = ngx_pnalloc(cf->pool, name->len + 1);
    if (conf->ssl_name.data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_cpystrn(conf->ssl_name.data, name->data, name->len + 1);

    conf->ssl_ip = ngx_http_agntkey_redis_peer_is_ip(name);

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_redis_peer_bad_ssl(ngx_conf_t *cf, const char *what,
    ngx_str_t *value)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"agntkey_redis_ssl_%s\" \"%V\" cannot be used",
                       what, value);

    return NGX_ERROR;
}


static ngx_uint_t
ngx_http_agntkey_redis_peer_is_ip(ngx_str_t *name)
{
#if (NGX_HAVE_INET6)
    u_char  addr[16];

    if (ngx_inet6_addr(name->data, name->len, addr) == NGX_OK) {
        return 1;
    }
#endif

    return ngx_inet_addr(name->data, name->len) != INADDR_NONE;
}


void
ngx_http_agntkey_redis_peer_connect(ngx_http_agntkey_redis_peer_t *peer)
{
    ngx_addr_t  *addr;

    peer->cause = NULL;
    peer->err = 0;

    if (peer->conf->resolver) {
        ngx_http_agntkey_redis_peer_resolve(peer);
        return;
    }

    /* a name with several addresses: each attempt takes the next */

    addr = &peer->conf->addrs[peer->tries++ % peer->conf->naddrs];

    ngx_http_agntkey_redis_peer_open(peer, addr->sockaddr, addr->socklen,
                                     &peer->conf->name);
}


void
ngx_http_agntkey_redis_peer_close(ngx_http_agntkey_redis_peer_t *peer)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    if (peer->resolving) {
        ngx_resolve_name_done(peer->resolving);
        peer->resolving = NULL;
    }

    c = peer->connection;

    if (c == NULL) {
        return;
    }

    peer->connection = NULL;

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;

        /* a quiet shutdown: never NGX_AGAIN */

        (void) ngx_ssl_shutdown(c);
    }

    pool = c->pool;

    ngx_close_connection(c);
    ngx_destroy_pool(pool);
}


static void
ngx_http_agntkey_redis_peer_resolve(ngx_http_agntkey_redis_peer_t *peer)
{
    ngx_resolver_ctx_t  *ctx;

    peer->action = "resolving";

    ctx = ngx_resolve_start(peer->conf->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_http_agntkey_redis_peer_failed(peer, "the resolver cannot be used",
                                           0);
        return;
    }

    ctx->name = peer->conf->host;
    ctx->handler = ngx_http_agntkey_redis_peer_resolved;
    ctx->data = peer;
    ctx->cancelable = 1;

    /* longer than anybody waits: the caller's own deadline is the shorter */

    ctx->timeout = 30000;

    peer->resolving = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        peer->resolving = NULL;
        ngx_http_agntkey_redis_peer_failed(peer, "the resolver cannot be used",
                                           0);
    }
}


static void
ngx_http_agntkey_redis_peer_resolved(ngx_resolver_ctx_t *ctx)
{
    socklen_t                       socklen;
    ngx_sockaddr_t                  sa;
    ngx_resolver_addr_t            *addr;
    ngx_http_agntkey_redis_peer_t  *peer;

    peer = ctx->data;

    if (ctx->state || ctx->naddrs == 0) {
        ngx_resolve_name_done(ctx);
        peer->resolving = NULL;

        ngx_http_agntkey_redis_peer_failed(peer, "host could not be resolved",
                                           0);
        return;
    }

    addr = &ctx->addrs[peer->tries++ % ctx->naddrs];
    socklen = addr->socklen;

    ngx_memcpy(&sa, addr->sockaddr, socklen);
    ngx_inet_set_port(&sa.sockaddr, peer->conf->port);

    ngx_resolve_name_done(ctx);
    peer->resolving = NULL;

    ngx_http_agntkey_redis_peer_open(peer, &sa.sockaddr, socklen,
                                     &peer->conf->name);
}


static void
ngx_http_agntkey_redis_peer_open(ngx_http_agntkey_redis_peer_t *peer,
    struct sockaddr *sockaddr, socklen_t socklen, ngx_str_t *name)
{
    ngx_err_t               err;
    ngx_int_t               rc;
    ngx_pool_t             *pool;
    ngx_connection_t       *c;
    ngx_peer_connection_t   pc;

    peer->action = "connecting";

    pool = ngx_create_pool(1024, peer->log);
    if (pool == NULL) {
        ngx_http_agntkey_redis_peer_failed(peer, "no memory", 0);
        return;
    }

    ngx_memzero(&pc, sizeof(ngx_peer_connection_t));

    pc.sockaddr = sockaddr;
    pc.socklen = socklen;
    pc.name = name;
    pc.get = ngx_event_get_peer;
    pc.log = peer->log;
    pc.log_error = NGX_ERROR_ERR;

    /* finds a peer that went away without a word while nobody asked it */

    pc.so_keepalive = (sockaddr->sa_family != AF_UNIX);

    ngx_set_socket_errno(0);

    rc = ngx_event_connect_peer(&pc);

    if (rc == NGX_ERROR || rc == NGX_DECLINED) {
        err = ngx_socket_errno;

        ngx_destroy_pool(pool);

        if (rc == NGX_DECLINED) {
            ngx_http_agntkey_redis_peer_failed(peer, "connect failed", err);

        } else {
            ngx_http_agntkey_redis_peer_failed(peer, "no connection is free",
                                               0);
        }

        return;
    }

    c = pc.connection;

    c->pool = pool;
    c->data = peer;
    c->log = peer->log;
    c->read->log = c->log;
    c->write->log = c->log;
    c->sendfile = 0;

    c->read->handler = ngx_http_agntkey_redis_peer_event;
    c->write->handler = ngx_http_agntkey_redis_peer_event;

    peer->connection = c;

    if (rc == NGX_OK) {
        ngx_http_agntkey_redis_peer_connected(peer);
    }
}


static void
ngx_http_agntkey_redis_peer_event(ngx_event_t *ev)
{
    int                             err;
    socklen_t                       len;
    ngx_connection_t               *c;
    ngx_http_agntkey_redis_peer_t  *peer;

    c = ev->data;
    peer = c->data;

    if (c->close) {
        ngx_http_agntkey_redis_peer_failed(peer, "shutting down", 0);
        return;
    }

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        ngx_http_agntkey_redis_peer_failed(peer, "connect failed", err);
        return;
    }

    if (!c->write->ready) {
        return;
    }

    ngx_http_agntkey_redis_peer_connected(peer);
}


static void
ngx_http_agntkey_redis_peer_connected(ngx_http_agntkey_redis_peer_t *peer)
{
    ngx_connection_t  *c;

    c = peer->connection;

    /* two small commands in a row must not wait for each other's ACK */

    if (c->tcp_nodelay != NGX_TCP_NODELAY_DISABLED
        && ngx_tcp_nodelay(c) != NGX_OK)
    {
        ngx_http_agntkey_redis_peer_failed(peer, "setting TCP_NODELAY failed",
                                           0);
        return;
    }

    if (peer->conf->ssl) {
        ngx_http_agntkey_redis_peer_handshake(peer);
        return;
    }

    ngx_http_agntkey_redis_peer_done(peer);
}


static void
ngx_http_agntkey_redis_peer_handshake(ngx_http_agntkey_redis_peer_t *peer)
{
    SSL               *ssl;
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = peer->connection;
    peer->action = "TLS handshaking";

    if (ngx_ssl_create_connection(peer->conf->ssl, c, NGX_SSL_CLIENT)
        != NGX_OK)
    {
        ngx_http_agntkey_redis_peer_failed(peer, "no memory for TLS", 0);
        return;
    }

    ssl = c->ssl->connection;

    /* the buffer of commands grows, and so moves, while a write waits */

    SSL_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                      |SSL_MODE_ENABLE_PARTIAL_WRITE);

    if (ngx_http_agntkey_redis_peer_expect_name(peer, ssl) != NGX_OK) {
        ngx_http_agntkey_redis_peer_failed(peer, "the TLS name cannot be set",
                                           0);
        return;
    }

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = ngx_http_agntkey_redis_peer_handshaked;
        return;
    }

    ngx_http_agntkey_redis_peer_handshaked(c);
}


/*
 * OpenSSL itself compares the name, as a part of verifying the chain: unlike
 * ngx_ssl_check_host() it knows IP addresses.  An address is not sent as SNI
 * (RFC 6066, section 3).
 */

static ngx_int_t
ngx_http_agntkey_redis_peer_expect_name(ngx_http_agntkey_redis_peer_t *peer,
    SSL *ssl)
{
    char               *name;
    X509_VERIFY_PARAM  *param;

    name = (char *) peer->conf->ssl_name.data;
    param = SSL_get0_param(ssl);

    if (peer->conf->ssl_ip) {
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1
               ? NGX_OK : NGX_ERROR;
    }

    if (SSL_set_tlsext_host_name(ssl, name) != 1
        || X509_VERIFY_PARAM_set1_host(param, name, 0) != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_agntkey_redis_peer_handshaked(ngx_connection_t *c)
{
    long                            rc;
    X509                           *cert;
    ngx_http_agntkey_redis_peer_t  *peer;

    peer = c->data;

    if (!c->ssl->handshaked) {
        ngx_http_agntkey_redis_peer_failed(peer, c->close ? "shutting down"
                                                    : "TLS handshake failed",
                                           0);
        return;
    }

    if (peer->conf->ssl_verify) {

        rc = SSL_get_verify_result(c->ssl->connection);

        if (rc != X509_V_OK) {
            ngx_http_agntkey_redis_peer_failed(peer,
                                              X509_verify_cert_error_string(rc),
                                              0);
            return;
        }

        /* X509_V_OK is also the word for "no certificate" */

        cert = SSL_get_peer_certificate(c->ssl->connection);

        if (cert == NULL) {
            ngx_http_agntkey_redis_peer_failed(peer, "no certificate", 0);
            return;
        }

        X509_free(cert);
    }

    ngx_http_agntkey_redis_peer_done(peer);
}


static void
ngx_http_agntkey_redis_peer_done(ngx_http_agntkey_redis_peer_t *peer)
{
    peer->action = "talking";
    peer->handler(peer, NGX_OK);
}


static void
ngx_http_agntkey_redis_peer_failed(ngx_http_agntkey_redis_peer_t *peer,
    const char *cause, ngx_err_t err)
{
    ngx_http_agntkey_redis_peer_close(peer);

    peer->cause = cause;
    peer->err = err;

    peer->handler(peer, NGX_ERROR);
}
