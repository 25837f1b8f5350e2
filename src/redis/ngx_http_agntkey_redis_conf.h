
/*
 * Copyright (C) the agntkey authors
 *
 * What the configuration says of the Redis server: where it is, how to get
 * in, how long to wait for it.
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_CONF_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_CONF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_peer.h"


/* AUTH, SELECT, PING, CLIENT */
#define NGX_HTTP_AGNTKEY_SETUP_MAX   4


/* read-only after start */

typedef struct {
    /* as configured */
    ngx_str_t                           url;
    ngx_str_t                           password_file;
    ngx_msec_t                          connect_timeout;
    ngx_msec_t                          timeout; /* of a command, queueing in */
    ngx_http_agntkey_redis_peer_ssl_t   ssl;

    /* made of it */
    ngx_http_agntkey_redis_peer_conf_t  peer;

    /* what every new connection begins with, as one text, and the names */
    ngx_str_t                           setup;
    const char                         *setup_names[NGX_HTTP_AGNTKEY_SETUP_MAX];
    ngx_uint_t                          nsetup;
} ngx_http_agntkey_redis_conf_t;


/*
 * Readies the server for use, from what was configured; the resolver, if not
 * NULL, is asked for the host at each connect.  Returns NGX_OK; NGX_ERROR
 * after a message to the log of cf that names the directive.
 */
ngx_int_t ngx_http_agntkey_redis_conf_init(ngx_conf_t *cf,
    ngx_http_agntkey_redis_conf_t *conf, ngx_resolver_t *resolver);


#endif /* _NGX_HTTP_AGNTKEY_REDIS_CONF_H_INCLUDED_ */
