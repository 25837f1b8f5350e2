
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_redis_url.h"
#include "ngx_http_agntkey_percent.h"

#include <sys/un.h>


static char *ngx_http_agntkey_redis_url_unix(u_char *p, u_char *last,
    ngx_http_agntkey_redis_url_t *u);
static char *ngx_http_agntkey_redis_url_userinfo(u_char *p, u_char *last,
    u_char *buf, ngx_http_agntkey_redis_url_t *u);
static char *ngx_http_agntkey_redis_url_host(u_char *p, u_char *last,
    ngx_http_agntkey_redis_url_t *u);
static char *ngx_http_agntkey_redis_url_db(u_char *p, u_char *last,
    ngx_http_agntkey_redis_url_t *u);


char *
ngx_http_agntkey_redis_url_parse(ngx_str_t *url, u_char *buf,
    ngx_http_agntkey_redis_url_t *u)
{
    char    *err;
    u_char  *p, *at, *slash, *last;

    ngx_memzero(u, sizeof(ngx_http_agntkey_redis_url_t));

    p = url->data;
    last = p + url->len;

    for (at = p; at < last; at++) {
        if (*at <= ' ' || *at == 0x7f) {
            return "a space or a control character";
        }
    }

    if (url->len >= 5 && ngx_strncmp(p, "unix:", 5) == 0) {
        return ngx_http_agntkey_redis_url_unix(p + 5, last, u);
    }

    if (url->len >= 8 && ngx_strncmp(p, "redis://", 8) == 0) {
        p += 8;

    } else if (url->len >= 9 && ngx_strncmp(p, "rediss://", 9) == 0) {
        p += 9;
        u->tls = 1;

    } else {
        return "it must begin with \"redis://\", \"rediss://\" or \"unix:/\"";
    }

    slash = ngx_strlchr(p, last, '/');
    if (slash == NULL) {
        slash = last;
    }

    at = ngx_strlchr(p, slash, '@');

    if (at) {
        err = ngx_http_agntkey_redis_url_userinfo(p, at, buf, u);
        if (err) {
            return err;
        }

        p = at + 1;

    } else if (ngx_strlchr(slash, last, '@')) {
        return "a \"/\" in user or password must be written as \"%2F\"";
    }

    err = ngx_http_agntkey_redis_url_host(p, slash, u);
    if (err) {
        return err;
    }

    if (slash == last || slash + 1 == last) {
        return NULL;
    }

    return ngx_http_agntkey_redis_url_db(slash + 1, last, u);
}


static char *
ngx_http_agntkey_redis_url_unix(u_char *p, u_char *last,
    ngx_http_agntkey_redis_url_t *u)
{
    u_char  *query;

    query = ngx_strlchr(p, last, '?');

    u->unix_socket = 1;
    u->host.data = p;
    u->host.len = (query ? query : last) - p;

    if (u->host.len == 0 || *p != '/') {
        return "the path of a unix socket must be absolute";
    }

    if (u->host.len >= sizeof(((struct sockaddr_un *) 0)->sun_path)) {
        return "the path of the unix socket is too long";
    }

    if (query == NULL) {
        return NULL;
    }

    if (last - query < 4 || ngx_strncmp(query, "?db=", 4) != 0) {
        return "only \"?db=N\" may follow the path";
    }

    return ngx_http_agntkey_redis_url_db(query + 4, last, u);
}


static char *
ngx_http_agntkey_redis_url_userinfo(u_char *p, u_char *last, u_char *buf,
    ngx_http_agntkey_redis_url_t *u)
{
    u_char  *colon;

    colon = ngx_strlchr(p, last, ':');
    if (colon == NULL) {
        return "no \":\" between user and password";
    }

    u->user.data = buf;
    buf = ngx_http_agntkey_percent_decode(buf, p, colon);
    if (buf == NULL) {
        return "a bad percent-encoding in the user";
    }

    u->user.len = buf - u->user.data;

    u->password.data = buf;
    buf = ngx_http_agntkey_percent_decode(buf, colon + 1, last);
    if (buf == NULL) {
        return "a bad percent-encoding in the password";
    }

    u->password.len = buf - u->password.data;

    return NULL;
}


static char *
ngx_http_agntkey_redis_url_host(u_char *p, u_char *last,
    ngx_http_agntkey_redis_url_t *u)
{
    u_char     *end;
    ngx_int_t   port;

    if (p < last && *p == '[') {

        end = ngx_strlchr(p, last, ']');
        if (end == NULL) {
            return "no \"]\" after the IPv6 address";
        }

        u->ipv6 = 1;
        u->host.data = p + 1;
        u->host.len = end - u->host.data;

        end++;

        if (end < last && *end != ':') {
            return "something between \"]\" and the port";
        }

    } else {

        end = ngx_strlchr(p, last, ':');
        if (end == NULL) {
            end = last;
        }

        if (end < last && ngx_strlchr(end + 1, last, ':')) {
            return "an IPv6 address must stand in brackets";
        }

        u->host.data = p;
        u->host.len = end - p;
    }

    if (u->host.len == 0) {
        return "no host";
    }

    if (u->host.len > 255) {
        return "the host is too long";
    }

    for (p = u->host.data; p < u->host.data + u->host.len; p++) {
        if (*p == '@') {
            return "a \"@\" in user or password must be written as \"%40\"";
        }

        if (*p == '?' || *p == '#' || *p == '%') {
            return "invalid host";
        }
    }

    u->port = NGX_HTTP_AGNTKEY_URL_PORT;

    if (end < last) {
        port = ngx_atoi(end + 1, last - end - 1);

        if (port < 1 || port > 65535) {
            return "invalid port";
        }

        u->port = (in_port_t) port;
    }

    return NULL;
}


static char *
ngx_http_agntkey_redis_url_db(u_char *p, u_char *last,
    ngx_http_agntkey_redis_url_t *u)
{
    ngx_int_t  n;

    n = ngx_atoi(p, last - p);

    if (n == NGX_ERROR || n > NGX_HTTP_AGNTKEY_URL_DB_MAX) {
        return "invalid database number";
    }

    u->db = n;

    return NULL;
}
