
/*
 * Copyright (C) the agntkey authors
 *
 * The text of "agntkey_redis", taken apart:
 *
 *     redis://[[user]:[password]@]host[:port][/db]
 *     rediss://...                                    the same over TLS
 *     unix:/path[?db=N]
 *
 * User and password are percent-encoded (RFC 3986, section 2.1).
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_URL_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_URL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_AGNTKEY_URL_PORT     6379

/* Redis counts its databases in an int; nobody has more than this */
#define NGX_HTTP_AGNTKEY_URL_DB_MAX   65535


typedef struct {
    ngx_str_t     host;        /* or the path of a unix socket; no brackets */
    ngx_str_t     user;
    ngx_str_t     password;
    in_port_t     port;        /* 0 for a unix socket */
    ngx_uint_t    db;

    unsigned      tls:1;
    unsigned      unix_socket:1;
    unsigned      ipv6:1;      /* the host stood in brackets */
} ngx_http_agntkey_redis_url_t;


/*
 * Takes the URL apart into *u.  host points into the URL; user and password,
 * decoded, into buf, which has room for url->len bytes and belongs to the
 * caller.  Looks nothing up.
 *
 * Returns NULL, or what is wrong, as a constant text to follow "in Redis
 * URL: "; the text quotes nothing of the URL, which may hold a password.
 */
char *ngx_http_agntkey_redis_url_parse(ngx_str_t *url, u_char *buf,
    ngx_http_agntkey_redis_url_t *u);


#endif /* _NGX_HTTP_AGNTKEY_REDIS_URL_H_INCLUDED_ */
