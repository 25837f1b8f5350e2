
/*
 * Copyright (C) the agntkey authors
 *
 * An address in the configuration becomes a connected socket: resolve,
 * connect, TLS.  Nothing here waits in a system call, and nothing here knows
 * Redis.
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_PEER_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_PEER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>

#include "ngx_http_agntkey_redis_url.h"


#if !(NGX_SSL)
#error "agntkey needs an nginx with OpenSSL (--with-http_ssl_module)"
#endif


/* read-only after start */

typedef struct {
    ngx_str_t                    name;          /* for the log: no password */

    ngx_str_t                    host;
    in_port_t                    port;

    ngx_addr_t                  *addrs;         /* found at start ... */
    ngx_uint_t                   naddrs;
    ngx_resolver_t              *resolver;      /* ... or, if set, each time */

    ngx_ssl_t                   *ssl;           /* NULL: no TLS */
    ngx_str_t                    ssl_name;      /* terminated */
    unsigned                     ssl_verify:1;
    unsigned                     ssl_ip:1;      /* ssl_name is an address */
} ngx_http_agntkey_redis_peer_conf_t;


/* as the proxy_ssl_* directives have it */

typedef struct {
    ngx_flag_t                   verify;
    ngx_int_t                    verify_depth;
    ngx_uint_t                   protocols;
    ngx_str_t                    ciphers;
    ngx_str_t                    name;          /* empty: the host */
    ngx_str_t                    trusted_certificate;
    ngx_str_t                    crl;           /* empty: none */
    ngx_str_t                    certificate;
    ngx_str_t                    certificate_key;
} ngx_http_agntkey_redis_peer_ssl_t;


typedef struct ngx_http_agntkey_redis_peer_s  ngx_http_agntkey_redis_peer_t;

/*
 * Called once for each ngx_http_agntkey_redis_peer_connect(), possibly before
 * that has returned.
 *
 *     NGX_OK     peer->connection is open, and the caller's from now on: it
 *                sets data and handlers, and ends it by
 *                ngx_http_agntkey_redis_peer_close()
 *     NGX_ERROR  peer->cause and peer->err say why; nothing is left open
 */
typedef void (*ngx_http_agntkey_redis_peer_handler_pt)(
    ngx_http_agntkey_redis_peer_t *peer, ngx_int_t rc);

/*
 * Owner of the connection, of its pool and of a name look-up under way.  The
 * time it all may take is the caller's concern.
 */

struct ngx_http_agntkey_redis_peer_s {
    ngx_http_agntkey_redis_peer_conf_t      *conf;
    ngx_log_t                               *log;

    ngx_http_agntkey_redis_peer_handler_pt   handler;
    void                                    *data;

    ngx_connection_t                        *connection;
    ngx_resolver_ctx_t                      *resolving;
    ngx_uint_t                               tries;

    char                                    *action;   /* "connecting", ... */
    const char                              *cause;
    ngx_err_t                                err;
};


/*
 * Readies *conf for the parsed URL.  A host name is looked up here and now,
 * as proxy_pass does it, unless conf->resolver is set, to be asked later.
 * Returns NGX_OK; NGX_ERROR after a message to the log of cf.
 */
ngx_int_t ngx_http_agntkey_redis_peer_init(ngx_conf_t *cf,
    ngx_http_agntkey_redis_peer_conf_t *conf,
    ngx_http_agntkey_redis_url_t *url);

/*
 * Readies the TLS context of *conf, after ngx_http_agntkey_redis_peer_init().
 * Without a trusted certificate those of the system are trusted.  Returns
 * NGX_OK; NGX_ERROR after a message to the log of cf.
 */
ngx_int_t ngx_http_agntkey_redis_peer_init_ssl(ngx_conf_t *cf,
    ngx_http_agntkey_redis_peer_conf_t *conf,
    ngx_http_agntkey_redis_peer_ssl_t *ssl);

/* Begins; the handler of *peer hears how it ended. */
void ngx_http_agntkey_redis_peer_connect(ngx_http_agntkey_redis_peer_t *peer);

/* Gives up or closes, whatever there is; the handler is not called. */
void ngx_http_agntkey_redis_peer_close(ngx_http_agntkey_redis_peer_t *peer);


#endif /* _NGX_HTTP_AGNTKEY_REDIS_PEER_H_INCLUDED_ */
