
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_access_ctx.h"
#include "ngx_http_agntkey_module.h"


static ngx_http_agntkey_ctx_t *ngx_http_agntkey_access_ctx_search(
    ngx_pool_cleanup_t *cln);
static void ngx_http_agntkey_access_ctx_cleanup(void *data);


ngx_http_agntkey_ctx_t *
ngx_http_agntkey_access_ctx_create(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t      *cln;
    ngx_http_agntkey_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_agntkey_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_agntkey_ctx_t));

    ctx->request = r;
    ctx->cleanup = cln;

    cln->handler = ngx_http_agntkey_access_ctx_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_agntkey_access_module);

    return ctx;
}


ngx_http_agntkey_ctx_t *
ngx_http_agntkey_access_ctx_find(ngx_http_request_t *r)
{
    ngx_http_agntkey_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_agntkey_access_module);

    if (ctx || (!r->internal && !r->filter_finalize)) {
        return ctx;
    }

    return ngx_http_agntkey_access_ctx_search(r->pool->cleanup);
}


ngx_http_agntkey_ctx_t *
ngx_http_agntkey_access_ctx_previous(ngx_http_agntkey_ctx_t *ctx)
{
    return ngx_http_agntkey_access_ctx_search(ctx->cleanup->next);
}


/* the latest stands first */

static ngx_http_agntkey_ctx_t *
ngx_http_agntkey_access_ctx_search(ngx_pool_cleanup_t *cln)
{
    for ( /* void */ ; cln; cln = cln->next) {
        if (cln->handler == ngx_http_agntkey_access_ctx_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}


/*
 * Marks the context in the pool.  A look-up never outlives the request: it is
 * given up when the request ends, long before its pool does.
 */

static void
ngx_http_agntkey_access_ctx_cleanup(void *data)
{
    ngx_http_agntkey_ctx_t        *ctx = data;
    ngx_http_agntkey_main_conf_t  *amcf;

    if (ctx->entry) {
        amcf = ngx_http_get_module_main_conf(ctx->request,
                                             ngx_http_agntkey_module);

        ngx_http_agntkey_lookup_release(amcf->worker->lookup, ctx->entry);
    }

    if (ctx->has_id) {
        ngx_explicit_memzero(ctx->digest, NGX_HTTP_AGNTKEY_DIGEST_LEN);
    }
}
