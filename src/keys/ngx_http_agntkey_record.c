
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_record.h"


/* 9999-12-31T23:59:59.999Z, the last moment RFC 3339 can write */
#define NGX_HTTP_AGNTKEY_TIME_MAX   253402300799999LL


static ngx_int_t ngx_http_agntkey_record_hex(ngx_str_t *text, u_char *digest);
static ngx_int_t ngx_http_agntkey_record_time(ngx_str_t *text, int64_t *time);
static uint32_t ngx_http_agntkey_record_character(u_char **p, u_char *last);
static ngx_uint_t ngx_http_agntkey_record_scopes_valid(ngx_str_t *scopes);
static ngx_uint_t ngx_http_agntkey_record_word_valid(ngx_str_t *word,
    size_t max, const char *more);


ngx_str_t  ngx_http_agntkey_record_fields[] = {
    ngx_string("digest"),
    ngx_string("active"),
    ngx_string("workspace"),
    ngx_string("name"),
    ngx_string("scopes"),
    ngx_string("created_at"),
    ngx_string("expires_at"),
    ngx_string("revoked_at")
};


ngx_int_t
ngx_http_agntkey_record_parse(ngx_str_t *fields,
    ngx_http_agntkey_record_t *rec, ngx_uint_t *bad)
{
    ngx_str_t   *f;
    ngx_uint_t   i;

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {
        if (fields[i].data) {
            break;
        }
    }

    if (i == NGX_HTTP_AGNTKEY_FIELDS) {
        return NGX_DECLINED;
    }

    f = &fields[NGX_HTTP_AGNTKEY_FIELD_ACTIVE];
    rec->active = (f->data && f->len == 1 && f->data[0] == '1');

    *bad = NGX_HTTP_AGNTKEY_FIELD_DIGEST;

    if (ngx_http_agntkey_record_hex(&fields[*bad], rec->digest) != NGX_OK) {
        return NGX_ERROR;
    }

    *bad = NGX_HTTP_AGNTKEY_FIELD_WORKSPACE;
    rec->workspace = fields[*bad];

    if (!ngx_http_agntkey_record_workspace_valid(&rec->workspace)) {
        return NGX_ERROR;
    }

    *bad = NGX_HTTP_AGNTKEY_FIELD_NAME;
    rec->name = fields[*bad];

    if (!ngx_http_agntkey_record_name_valid(&rec->name)) {
        return NGX_ERROR;
    }

    *bad = NGX_HTTP_AGNTKEY_FIELD_SCOPES;
    rec->scopes = fields[*bad];

    if (!ngx_http_agntkey_record_scopes_valid(&rec->scopes)) {
        return NGX_ERROR;
    }

    *bad = NGX_HTTP_AGNTKEY_FIELD_CREATED_AT;

    if (ngx_http_agntkey_record_time(&fields[*bad], &rec->created_at)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    *bad = NGX_HTTP_AGNTKEY_FIELD_EXPIRES_AT;
    rec->expires_at = NGX_HTTP_AGNTKEY_NEVER;

    if (fields[*bad].data
        && ngx_http_agntkey_record_time(&fields[*bad], &rec->expires_at)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    *bad = NGX_HTTP_AGNTKEY_FIELD_REVOKED_AT;
    rec->revoked_at = 0;

    if (fields[*bad].data
        && ngx_http_agntkey_record_time(&fields[*bad], &rec->revoked_at)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_agntkey_record_workspace_valid(ngx_str_t *name)
{
    return ngx_http_agntkey_record_word_valid(name,
                                   NGX_HTTP_AGNTKEY_WORKSPACE_MAX, "._-");
}


ngx_uint_t
ngx_http_agntkey_record_scope_valid(ngx_str_t *name)
{
    return ngx_http_agntkey_record_word_valid(name,
                                   NGX_HTTP_AGNTKEY_SCOPE_MAX, "._:/-");
}


ngx_uint_t
ngx_http_agntkey_record_has_scope(ngx_str_t *scopes, ngx_str_t *scope)
{
    u_char  *p, *end, *last;

    if (scopes->len == 0) {
        return 0;
    }

    p = scopes->data;
    last = p + scopes->len;

    while (p < last) {

        end = ngx_strlchr(p, last, ' ');
        if (end == NULL) {
            end = last;
        }

        if ((size_t) (end - p) == scope->len
            && ngx_memcmp(p, scope->data, scope->len) == 0)
        {
            return 1;
        }

        p = end + 1;
    }

    return 0;
}


static ngx_int_t
ngx_http_agntkey_record_hex(ngx_str_t *text, u_char *digest)
{
    u_char      c, n;
    ngx_uint_t  i;

    if (text->data == NULL || text->len != 64) {
        return NGX_ERROR;
    }

    for (i = 0; i < 64; i++) {
        c = text->data[i];

        if (c >= '0' && c <= '9') {
            n = c - '0';

        } else if (c >= 'a' && c <= 'f') {
            n = c - 'a' + 10;

        } else {
            return NGX_ERROR;
        }

        digest[i / 2] = (u_char) ((i & 1) ? (digest[i / 2] | n) : n << 4);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_record_time(ngx_str_t *text, int64_t *time)
{
    off_t  n;

    if (text->data == NULL || text->len == 0) {
        return NGX_ERROR;
    }

    n = ngx_atoof(text->data, text->len);

    if (n == NGX_ERROR || n > NGX_HTTP_AGNTKEY_TIME_MAX) {
        return NGX_ERROR;
    }

    *time = n;

    return NGX_OK;
}


/*
 * A name goes into variables and from there into headers of a proxied
 * request: a control character in it must not get past this point, whoever
 * wrote it to Redis.
 */

ngx_uint_t
ngx_http_agntkey_record_name_valid(ngx_str_t *name)
{
    u_char      *p, *last;
    uint32_t     c;
    ngx_uint_t   n;

    if (name->len == 0) {
        return 0;
    }

    p = name->data;
    last = p + name->len;

    for (n = 0; p < last; n++) {

        c = ngx_http_agntkey_record_character(&p, last);

        if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c > 0x10ffff) {
            return 0;
        }
    }

    return n <= NGX_HTTP_AGNTKEY_NAME_MAX;
}


/*
 * The next character, as RFC 3629, section 4 has it, or 0xffffffff.  Not
 * ngx_utf8_decode(): that one takes surrogates, and bytes above 0xbf for
 * continuations.
 */

static uint32_t
ngx_http_agntkey_record_character(u_char **p, u_char *last)
{
    u_char      c;
    uint32_t    u, least;
    ngx_uint_t  n;

    c = *(*p)++;

    if (c < 0x80) {
        return c;
    }

    if (c >= 0xc2 && c < 0xe0) {
        n = 1;
        u = c & 0x1f;
        least = 0x80;

    } else if (c >= 0xe0 && c < 0xf0) {
        n = 2;
        u = c & 0x0f;
        least = 0x800;

    } else if (c >= 0xf0 && c < 0xf5) {
        n = 3;
        u = c & 0x07;
        least = 0x10000;

    } else {
        return 0xffffffff;
    }

    while (n--) {
        if (*p == last || (**p & 0xc0) != 0x80) {
            return 0xffffffff;
        }

        u = (u << 6) | (*(*p)++ & 0x3f);
    }

    if (u < least || (u >= 0xd800 && u < 0xe000)) {
        return 0xffffffff;
    }

    return u;
}


/* absent and empty are both "none" */

static ngx_uint_t
ngx_http_agntkey_record_scopes_valid(ngx_str_t *scopes)
{
    u_char      *p, *last;
    ngx_str_t    scope;
    ngx_uint_t   n;

    if (scopes->len == 0) {
        return 1;
    }

    p = scopes->data;
    last = p + scopes->len;

    for (n = 0; n < NGX_HTTP_AGNTKEY_SCOPES; n++) {

        scope.data = p;

        p = ngx_strlchr(p, last, ' ');
        if (p == NULL) {
            p = last;
        }

        scope.len = p - scope.data;

        if (!ngx_http_agntkey_record_scope_valid(&scope)) {
            return 0;
        }

        if (p == last) {
            return 1;
        }

        p++;
    }

    return 0;
}


static ngx_uint_t
ngx_http_agntkey_record_word_valid(ngx_str_t *word, size_t max,
    const char *more)
{
    u_char  c;
    size_t  i;

    if (word->len == 0 || word->len > max) {
        return 0;
    }

    for (i = 0; i < word->len; i++) {
        c = word->data[i];

        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')
            || (c >= 'A' && c <= 'Z'))
        {
            continue;
        }

        if (i == 0 || c == '\0' || ngx_strchr(more, c) == NULL) {
            return 0;
        }
    }

    return 1;
}
