
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_variables.h"
#include "ngx_http_agntkey_credentials.h"
#include "ngx_http_agntkey_module.h"
#include "ngx_http_agntkey_rfc3339.h"


static ngx_int_t ngx_http_agntkey_variables_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_agntkey_variables_key(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_agntkey_variables_expires(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_agntkey_variables_cache(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_agntkey_variables_status(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static void ngx_http_agntkey_variables_set(ngx_http_variable_value_t *v,
    u_char *data, size_t len);


/* none is cached: an internal redirect leads to another decision */

static ngx_http_variable_t  ngx_http_agntkey_vars[] = {

    { ngx_string("agntkey_id"), NULL,
      ngx_http_agntkey_variables_id, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agntkey_workspace"), NULL,
      ngx_http_agntkey_variables_key,
      offsetof(ngx_http_agntkey_record_t, workspace),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agntkey_name"), NULL,
      ngx_http_agntkey_variables_key,
      offsetof(ngx_http_agntkey_record_t, name),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agntkey_scopes"), NULL,
      ngx_http_agntkey_variables_key,
      offsetof(ngx_http_agntkey_record_t, scopes),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agntkey_expires"), NULL,
      ngx_http_agntkey_variables_expires, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agntkey_cache"), NULL,
      ngx_http_agntkey_variables_cache, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agntkey_status"), NULL,
      ngx_http_agntkey_variables_status, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_agntkey_variables_add(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_agntkey_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/*
 * Before the access phase there is no decision to take it from, and in a
 * location that is not guarded there will be none: the text of the key says
 * it all.
 */

static ngx_int_t
ngx_http_agntkey_variables_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      text, id;
    ngx_uint_t                     copy;
    ngx_http_agntkey_ctx_t        *ctx;
    ngx_http_agntkey_reason_e      reason;
    ngx_http_agntkey_main_conf_t  *amcf;

    ctx = ngx_http_agntkey_access_ctx_find(r);

    if (ctx && ctx->has_id) {
        ngx_http_agntkey_variables_set(v, ctx->id, NGX_HTTP_AGNTKEY_ID_LEN);
        return NGX_OK;
    }

    if (ngx_http_agntkey_credentials(r, &text, &copy, &reason) != NGX_OK) {
        return NGX_ERROR;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);

    ngx_str_null(&id);

    if (reason == NGX_HTTP_AGNTKEY_OK
        && ngx_http_agntkey_token_parse(&amcf->prefix, &text, &id)
           != NGX_HTTP_AGNTKEY_TOKEN_OK)
    {
        ngx_str_null(&id);
    }

    if (copy && id.len) {
        id.data = ngx_pstrdup(r->pool, &id);
    }

    if (copy) {
        ngx_explicit_memzero(text.data, text.len);
    }

    if (id.len && id.data == NULL) {
        return NGX_ERROR;
    }

    ngx_http_agntkey_variables_set(v, id.data, id.len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_variables_key(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t               *s;
    ngx_http_agntkey_ctx_t  *ctx;

    ctx = ngx_http_agntkey_access_ctx_find(r);

    if (ctx == NULL || !ctx->identified) {
        v->not_found = 1;
        return NGX_OK;
    }

    s = (ngx_str_t *) ((char *) ctx->key + data);

    ngx_http_agntkey_variables_set(v, s->data, s->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_variables_expires(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                  *p;
    ngx_http_agntkey_ctx_t  *ctx;

    ctx = ngx_http_agntkey_access_ctx_find(r);

    if (ctx == NULL || !ctx->identified
        || ctx->key->expires_at == NGX_HTTP_AGNTKEY_NEVER)
    {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_AGNTKEY_RFC3339_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_agntkey_variables_set(v, p,
                  ngx_http_agntkey_rfc3339_format(p, ctx->key->expires_at) - p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_variables_cache(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    char                    *text;
    ngx_http_agntkey_ctx_t  *ctx;

    ctx = ngx_http_agntkey_access_ctx_find(r);

    if (ctx == NULL || (!ctx->answered && !ctx->stale)) {
        v->not_found = 1;
        return NGX_OK;
    }

    text = ctx->hit ? "HIT" : ctx->stale ? "STALE" : "MISS";

    ngx_http_agntkey_variables_set(v, (u_char *) text, ngx_strlen(text));

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_variables_status(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t               *s;
    ngx_http_agntkey_ctx_t  *ctx, *prev;

    ctx = ngx_http_agntkey_access_ctx_find(r);

    /* a refusal whose error page was let in is still the refusal */

    for (prev = ctx; prev; prev = ngx_http_agntkey_access_ctx_previous(prev)) {
        if (prev->refusal) {
            ctx = prev;
            break;
        }
    }

    if (ctx == NULL || !ctx->decided) {
        v->not_found = 1;
        return NGX_OK;
    }

    s = &ngx_http_agntkey_reasons[ctx->reason];

    ngx_http_agntkey_variables_set(v, s->data, s->len);

    return NGX_OK;
}


static void
ngx_http_agntkey_variables_set(ngx_http_variable_value_t *v, u_char *data,
    size_t len)
{
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = data;
}
