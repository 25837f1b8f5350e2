
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_rfc3339.h"


static ngx_int_t ngx_http_agntkey_rfc3339_number(u_char **p, u_char *last,
    ngx_uint_t digits, int64_t *n);
static ngx_int_t ngx_http_agntkey_rfc3339_skip(u_char **p, u_char *last,
    u_char c);
static int64_t ngx_http_agntkey_rfc3339_days(int64_t year, int64_t month,
    int64_t day);


u_char *
ngx_http_agntkey_rfc3339_format(u_char *p, int64_t ms)
{
    ngx_tm_t  tm;

    ngx_gmtime((time_t) (ms / 1000), &tm);

    return ngx_sprintf(p, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec,
                       (int) (ms % 1000));
}


/*
 * By hand, for neither nginx nor the C library reads all of the format:
 * ngx_parse_http_time() is for other formats, strptime() knows no fractions.
 */

ngx_int_t
ngx_http_agntkey_rfc3339_parse(ngx_str_t *text, int64_t *ms)
{
    u_char      *p, *last, sign;
    int64_t      year, month, day, hour, min, sec, offset, oh, om, scale;
    static int   days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    p = text->data;
    last = p + text->len;

    if (ngx_http_agntkey_rfc3339_number(&p, last, 4, &year) != NGX_OK
        || ngx_http_agntkey_rfc3339_skip(&p, last, '-') != NGX_OK
        || ngx_http_agntkey_rfc3339_number(&p, last, 2, &month) != NGX_OK
        || ngx_http_agntkey_rfc3339_skip(&p, last, '-') != NGX_OK
        || ngx_http_agntkey_rfc3339_number(&p, last, 2, &day) != NGX_OK
        || ngx_http_agntkey_rfc3339_skip(&p, last, 't') != NGX_OK
        || ngx_http_agntkey_rfc3339_number(&p, last, 2, &hour) != NGX_OK
        || ngx_http_agntkey_rfc3339_skip(&p, last, ':') != NGX_OK
        || ngx_http_agntkey_rfc3339_number(&p, last, 2, &min) != NGX_OK
        || ngx_http_agntkey_rfc3339_skip(&p, last, ':') != NGX_OK
        || ngx_http_agntkey_rfc3339_number(&p, last, 2, &sec) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (month < 1 || month > 12 || day < 1 || day > days[month - 1]
        || hour > 23 || min > 59 || sec > 60)
    {
        return NGX_ERROR;
    }

    if (month == 2 && day == 29
        && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
    {
        return NGX_ERROR;
    }

    *ms = 0;

    if (p < last && *p == '.') {
        p++;

        if (p == last || *p < '0' || *p > '9') {
            return NGX_ERROR;
        }

        for (scale = 100; p < last && *p >= '0' && *p <= '9'; p++) {
            *ms += (*p - '0') * scale;
            scale /= 10;
        }
    }

    if (p == last) {
        return NGX_ERROR;
    }

    sign = *p++;
    offset = 0;

    if (sign == '+' || sign == '-') {

        if (ngx_http_agntkey_rfc3339_number(&p, last, 2, &oh) != NGX_OK
            || ngx_http_agntkey_rfc3339_skip(&p, last, ':') != NGX_OK
            || ngx_http_agntkey_rfc3339_number(&p, last, 2, &om) != NGX_OK
            || oh > 23 || om > 59)
        {
            return NGX_ERROR;
        }

        offset = (oh * 60 + om) * 60;

        if (sign == '-') {
            offset = -offset;
        }

    } else if (sign != 'Z' && sign != 'z') {
        return NGX_ERROR;
    }

    if (p != last) {
        return NGX_ERROR;
    }

    sec += ngx_http_agntkey_rfc3339_days(year, month, day) * 86400
           + hour * 3600 + min * 60 - offset;

    *ms += sec * 1000;

    return (*ms < 0) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_rfc3339_number(u_char **p, u_char *last, ngx_uint_t digits,
    int64_t *n)
{
    *n = 0;

    while (digits--) {
        if (*p == last || **p < '0' || **p > '9') {
            return NGX_ERROR;
        }

        *n = *n * 10 + *(*p)++ - '0';
    }

    return NGX_OK;
}


/* letters in either case, section 5.6 */

static ngx_int_t
ngx_http_agntkey_rfc3339_skip(u_char **p, u_char *last, u_char c)
{
    if (*p == last || ngx_tolower(**p) != c) {
        return NGX_ERROR;
    }

    (*p)++;

    return NGX_OK;
}


/* since 1970; years are made to begin in March, so that February ends them */

static int64_t
ngx_http_agntkey_rfc3339_days(int64_t year, int64_t month, int64_t day)
{
    if (month <= 2) {
        year--;
        month += 12;
    }

    return 365 * year + year / 4 - year / 100 + year / 400
           + (153 * (month - 3) + 2) / 5 + day - 1 - 719468;
}
