
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_redis_conf.h"
#include "ngx_http_agntkey_redis_resp.h"
#include "ngx_http_agntkey_redis_url.h"


/* the first line of a password file, bytes */
#define NGX_HTTP_AGNTKEY_PASSWORD_MAX   1024


static ngx_int_t ngx_http_agntkey_redis_conf_password(ngx_conf_t *cf,
    ngx_str_t *name, ngx_str_t *password);
static ngx_int_t ngx_http_agntkey_redis_conf_setup(ngx_conf_t *cf,
    ngx_http_agntkey_redis_conf_t *conf, ngx_http_agntkey_redis_url_t *url);
static ngx_int_t ngx_http_agntkey_redis_conf_add(ngx_conf_t *cf,
    ngx_http_agntkey_redis_conf_t *conf, const char *name, ngx_str_t *argv,
    ngx_uint_t argc);


ngx_int_t
ngx_http_agntkey_redis_conf_init(ngx_conf_t *cf,
    ngx_http_agntkey_redis_conf_t *conf, ngx_resolver_t *resolver)
{
    char                          *err;
    u_char                        *buf;
    ngx_http_agntkey_redis_url_t   url;

    buf = ngx_pnalloc(cf->pool, conf->url.len + 1);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    err = ngx_http_agntkey_redis_url_parse(&conf->url, buf, &url);
    if (err) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "bad URL in \"agntkey_redis\": %s", err);
        return NGX_ERROR;
    }

    if (conf->password_file.len) {

        if (url.password.len) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"agntkey_redis_password_file\" and a "
                               "password in \"agntkey_redis\" "
                               "exclude each other");
            return NGX_ERROR;
        }

        if (ngx_http_agntkey_redis_conf_password(cf, &conf->password_file,
                                                 &url.password)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ngx_http_agntkey_redis_conf_setup(cf, conf, &url) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!url.unix_socket) {
        conf->peer.resolver = resolver;
    }

    if (ngx_http_agntkey_redis_peer_init(cf, &conf->peer, &url) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!url.tls) {
        return NGX_OK;
    }

    if (!conf->ssl.certificate.len != !conf->ssl.certificate_key.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"agntkey_redis_ssl_certificate\" and "
                           "\"agntkey_redis_ssl_certificate_key\" "
                           "go together");
        return NGX_ERROR;
    }

    return ngx_http_agntkey_redis_peer_init_ssl(cf, &conf->peer, &conf->ssl);
}


static ngx_int_t
ngx_http_agntkey_redis_conf_password(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *password)
{
    u_char    *p, *buf;
    ssize_t    n;
    ngx_fd_t   fd;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    buf = ngx_pnalloc(cf->pool, NGX_HTTP_AGNTKEY_PASSWORD_MAX + 1);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"agntkey_redis_password_file\": " ngx_open_file_n
                           " \"%V\" failed", name);
        return NGX_ERROR;
    }

    n = ngx_read_fd(fd, buf, NGX_HTTP_AGNTKEY_PASSWORD_MAX + 1);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"agntkey_redis_password_file\": " ngx_read_fd_n
                           " \"%V\" failed", name);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    if (n == -1) {
        return NGX_ERROR;
    }

    for (p = buf; p < buf + n; p++) {
        if (*p == LF || *p == CR) {
            break;
        }
    }

    password->data = buf;
    password->len = p - buf;

    if (password->len == 0 || password->len > NGX_HTTP_AGNTKEY_PASSWORD_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"agntkey_redis_password_file\": the first line "
                           "of \"%V\" is %s", name,
                           password->len ? "too long" : "empty");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_redis_conf_setup(ngx_conf_t *cf,
    ngx_http_agntkey_redis_conf_t *conf, ngx_http_agntkey_redis_url_t *url)
{
    u_char      db[NGX_INT_T_LEN];
    ngx_str_t   argv[3];
    ngx_uint_t  n;

    if (url->user.len || url->password.len) {
        n = 0;

        ngx_str_set(&argv[n], "AUTH");
        n++;

        if (url->user.len) {
            argv[n++] = url->user;
        }

        argv[n++] = url->password;

        if (ngx_http_agntkey_redis_conf_add(cf, conf, "AUTH", argv, n)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (url->db) {
        ngx_str_set(&argv[0], "SELECT");
        argv[1].data = db;
        argv[1].len = ngx_sprintf(db, "%ui", url->db) - db;

        if (ngx_http_agntkey_redis_conf_add(cf, conf, "SELECT", argv, 2)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    /* it speaks our protocol, lets us in, and is not still loading */

    ngx_str_set(&argv[0], "PING");

    if (ngx_http_agntkey_redis_conf_add(cf, conf, "PING", argv, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    /* for whoever reads CLIENT LIST; a user who may not is no obstacle */

    ngx_str_set(&argv[0], "CLIENT");
    ngx_str_set(&argv[1], "SETNAME");
    ngx_str_set(&argv[2], "agntkey");

    return ngx_http_agntkey_redis_conf_add(cf, conf, "CLIENT", argv, 3);
}


static ngx_int_t
ngx_http_agntkey_redis_conf_add(ngx_conf_t *cf,
    ngx_http_agntkey_redis_conf_t *conf, const char *name, ngx_str_t *argv,
    ngx_uint_t argc)
{
    u_char     *p;
    ngx_str_t   bytes, *setup;

    if (ngx_http_agntkey_redis_resp_format(argv, argc, &bytes) != NGX_OK) {
        return NGX_ERROR;
    }

    setup = &conf->setup;

    p = ngx_pnalloc(cf->pool, setup->len + bytes.len);

    if (p) {
        if (setup->len) {
            ngx_memcpy(p, setup->data, setup->len);
        }

        ngx_memcpy(p + setup->len, bytes.data, bytes.len);

        setup->data = p;
        setup->len += bytes.len;

        conf->setup_names[conf->nsetup++] = name;
    }

    ngx_explicit_memzero(bytes.data, bytes.len);
    ngx_http_agntkey_redis_resp_format_free(&bytes);

    return p ? NGX_OK : NGX_ERROR;
}
