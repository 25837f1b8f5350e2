
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_query.h"
#include "ngx_http_agntkey_percent.h"


ngx_int_t
ngx_http_agntkey_query_parse(ngx_str_t *args, const char **names,
    ngx_str_t *values, u_char *buf, ngx_uint_t *bad, ngx_str_t *which)
{
    u_char      *p, *last, *end, *eq;
    size_t       len;
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

        buf = ngx_http_agntkey_percent_decode(buf, eq + 1, end);
        if (buf == NULL) {
            return NGX_DECLINED;
        }

        values[i].len = buf - values[i].data;
    }

    return NGX_OK;
}
