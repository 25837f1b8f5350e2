
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_query.h"


ngx_int_t
ngx_http_agntkey_query_parse(ngx_str_t *args, const char **names,
    ngx_str_t *values, u_char *buf, ngx_uint_t *bad, ngx_str_t *which)
{
    u_char      *p, *last, *end, *eq;
    size_t       len;
    ngx_int_t    n;
    ngx_uint_t   i;

    for (i = 0; names[i]; i++) {
        ngx_str_null(&values[i]);
    }

    if (args->len == 0) {
        return NGX_OK;
    }

    p = args->data;
    last = p + args->len;

    for ( /* void */ ; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, '&');
        if (end == NULL) {
            end = last;
        }

        if (end == p) {
            continue;
        }

        eq = ngx_strlchr(p, end, '=');
        if (eq == NULL) {
            eq = end;
        }

        len = eq - p;

        for (i = 0; names[i]; i++) {
            if (ngx_strlen(names[i]) == len
                && ngx_strncmp(names[i], p, len) == 0)
            {
                break;
            }
        }

        *bad = i;
        which->data = p;
        which->len = len;

        if (names[i] == NULL || values[i].data) {
            return NGX_DECLINED;
        }

        values[i].data = buf;

        for (p = eq + 1; p < end; p++) {

            if (*p != '%') {
                *buf++ = *p;
                continue;
            }

            n = (end - p < 3) ? NGX_ERROR : ngx_hextoi(p + 1, 2);

            if (n == NGX_ERROR) {
                return NGX_DECLINED;
            }

            *buf++ = (u_char) n;
            p += 2;
        }

        values[i].len = buf - values[i].data;
    }

    return NGX_OK;
}
