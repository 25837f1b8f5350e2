
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_keyspace.h"


#define NGX_HTTP_AGNTKEY_KEYSPACE_REST                                        \
    (NGX_HTTP_AGNTKEY_ID_LEN - NGX_HTTP_AGNTKEY_TAG_LEN)


static void ngx_http_agntkey_keyspace_tagged(u_char *buf, ngx_str_t *name,
    const char *prefix, u_char *tag, u_char *rest, size_t len);
static u_char *ngx_http_agntkey_keyspace_rest(ngx_str_t *name,
    const char *prefix, size_t len, u_char *tag);


void
ngx_http_agntkey_keyspace_key(u_char *buf, ngx_str_t *name, u_char *id)
{
    ngx_http_agntkey_keyspace_tagged(buf, name, NGX_HTTP_AGNTKEY_NAME_KEY, id,
                                     id + NGX_HTTP_AGNTKEY_TAG_LEN,
                                     NGX_HTTP_AGNTKEY_KEYSPACE_REST);
}


void
ngx_http_agntkey_keyspace_workspace(u_char *buf, ngx_str_t *name, u_char *tag,
    ngx_str_t *workspace)
{
    ngx_http_agntkey_keyspace_tagged(buf, name,
                                     NGX_HTTP_AGNTKEY_NAME_WORKSPACE, tag,
                                     workspace->data, workspace->len);
}


void
ngx_http_agntkey_keyspace_index(u_char *buf, ngx_str_t *name, u_char *tag,
    ngx_str_t *workspace)
{
    ngx_http_agntkey_keyspace_tagged(buf, name, "agntkey:index:", tag,
                                     workspace->data, workspace->len);
}


void
ngx_http_agntkey_keyspace_used(u_char *buf, ngx_str_t *name, u_char *tag,
    ngx_str_t *workspace)
{
    ngx_http_agntkey_keyspace_tagged(buf, name, "agntkey:used:", tag,
                                     workspace->data, workspace->len);
}


static void
ngx_http_agntkey_keyspace_tagged(u_char *buf, ngx_str_t *name,
    const char *prefix, u_char *tag, u_char *rest, size_t len)
{
    u_char  *p;

    p = ngx_cpymem(buf, prefix, ngx_strlen(prefix));
    *p++ = '{';
    p = ngx_cpymem(p, tag, NGX_HTTP_AGNTKEY_TAG_LEN);
    *p++ = '}';
    p = ngx_cpymem(p, rest, len);

    name->data = buf;
    name->len = p - buf;
}


ngx_http_agntkey_keyspace_e
ngx_http_agntkey_keyspace_parse(ngx_str_t *name, u_char *id,
    ngx_str_t *workspace)
{
    u_char  *rest;
    size_t   len;

    rest = ngx_http_agntkey_keyspace_rest(name, NGX_HTTP_AGNTKEY_NAME_KEY,
                                     sizeof(NGX_HTTP_AGNTKEY_NAME_KEY) - 1, id);

    if (rest) {
        len = name->data + name->len - rest;

        if (len != NGX_HTTP_AGNTKEY_KEYSPACE_REST) {
            return NGX_HTTP_AGNTKEY_KEYSPACE_OTHER;
        }

        ngx_memcpy(id + NGX_HTTP_AGNTKEY_TAG_LEN, rest, len);

        return NGX_HTTP_AGNTKEY_KEYSPACE_KEY;
    }

    rest = ngx_http_agntkey_keyspace_rest(name,
                                NGX_HTTP_AGNTKEY_NAME_WORKSPACE,
                                sizeof(NGX_HTTP_AGNTKEY_NAME_WORKSPACE) - 1,
                                id);

    if (rest == NULL || rest == name->data + name->len) {
        return NGX_HTTP_AGNTKEY_KEYSPACE_OTHER;
    }

    workspace->data = rest;
    workspace->len = name->data + name->len - rest;

    return NGX_HTTP_AGNTKEY_KEYSPACE_WORKSPACE;
}


/* What follows the prefix and "{tag}", which is copied; NULL: another name. */

static u_char *
ngx_http_agntkey_keyspace_rest(ngx_str_t *name, const char *prefix, size_t len,
    u_char *tag)
{
    u_char  *p;

    if (name->len < len + NGX_HTTP_AGNTKEY_TAG_LEN + 2
        || ngx_memcmp(name->data, prefix, len) != 0)
    {
        return NULL;
    }

    p = name->data + len;

    if (p[0] != '{' || p[NGX_HTTP_AGNTKEY_TAG_LEN + 1] != '}') {
        return NULL;
    }

    ngx_memcpy(tag, p + 1, NGX_HTTP_AGNTKEY_TAG_LEN);

    return p + NGX_HTTP_AGNTKEY_TAG_LEN + 2;
}
