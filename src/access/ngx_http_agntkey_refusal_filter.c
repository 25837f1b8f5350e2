
/*
 * Copyright (C) the agntkey authors
 *
 * Puts what was prepared of a refusal into the response.  The body takes the
 * place of nginx's own error page in a filter, so that "error_page" and
 * "satisfy any" stay what they are.
 */


#include "ngx_http_agntkey_access_ctx.h"
#include "ngx_http_agntkey_module.h"


static ngx_int_t ngx_http_agntkey_refusal_filter_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_agntkey_refusal_filter_body(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_agntkey_refusal_filter_init(ngx_conf_t *cf);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static ngx_http_module_t  ngx_http_agntkey_refusal_filter_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_agntkey_refusal_filter_init,  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_agntkey_refusal_filter_module = {
    NGX_MODULE_V1,
    &ngx_http_agntkey_refusal_filter_module_ctx, /* module context */
    NULL,                                  /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_agntkey_refusal_filter_header(ngx_http_request_t *r)
{
    ngx_http_agntkey_ctx_t  *ctx;

    if (r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    /*
     * A challenge, and "try again", belong to the status they came with: when
     * "error_page" has made another of it, the answer is a page.
     */

    for (ctx = ngx_http_agntkey_access_ctx_find(r);
         ctx;
         ctx = ngx_http_agntkey_access_ctx_previous(ctx))
    {
        if (ctx->refusal && r->headers_out.status == ctx->refusal->status) {
            continue;
        }

        if (ctx->challenge) {
            ctx->challenge->hash = 0;
        }

        if (ctx->retry_after) {
            ctx->retry_after->hash = 0;
        }
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_agntkey_access_module);

    /*
     * The context is still here and the status ours: no redirect has led
     * elsewhere, so what follows is nginx's own error page.
     */

    if (ctx == NULL || ctx->refusal == NULL
        || r->headers_out.status != ctx->refusal->status)
    {
        return ngx_http_next_header_filter(r);
    }

    ngx_str_set(&r->headers_out.content_type, "application/problem+json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    if (r->headers_out.content_length) {
        r->headers_out.content_length->hash = 0;
        r->headers_out.content_length = NULL;
    }

    r->headers_out.content_length_n = ctx->refusal->body.len;

    ctx->body_due = 1;

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_agntkey_refusal_filter_body(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t               *b;
    ngx_chain_t              out;
    ngx_http_agntkey_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_agntkey_access_module);

    if (in == NULL || ctx == NULL || !ctx->body_due) {
        return ngx_http_next_body_filter(r, in);
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = ctx->refusal->body.data;
    b->last = b->pos + ctx->refusal->body.len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    ctx->body_due = 0;

    for ( /* void */ ; in; in = in->next) {
        in->buf->pos = in->buf->last;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}


static ngx_int_t
ngx_http_agntkey_refusal_filter_init(ngx_conf_t *cf)
{
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);

    if (!amcf->enabled) {
        return NGX_OK;
    }

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_agntkey_refusal_filter_header;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_agntkey_refusal_filter_body;

    return NGX_OK;
}
