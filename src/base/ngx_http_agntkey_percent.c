
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_percent.h"


u_char *
ngx_http_agntkey_percent_decode(u_char *dst, u_char *p, u_char *last)
{
    ngx_int_t  n;

    while (p < last) {

        if (*p != '%') {
            *dst++ = *p++;
            continue;
        }

        if (last - p < 3) {
            return NULL;
        }

        n = ngx_hextoi(p + 1, 2);

        if (n == NGX_ERROR || n == 0) {
            return NULL;
        }

        *dst++ = (u_char) n;
        p += 3;
    }

    return dst;
}
