
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_refusal.h"
#include "ngx_http_agntkey_module.h"
#include "ngx_http_agntkey_response_header.h"


/* the longest body or challenge, but for what the configuration puts in */
#define NGX_HTTP_AGNTKEY_BODY_MAX      1024

/* "in the query, as %V=<key>, or " */
#define NGX_HTTP_AGNTKEY_SOURCE_MAX    48


typedef struct {
    ngx_uint_t   status;
    char        *error;       /* of the challenge; "": a bare one, NULL: none */
    char        *title;
    char        *detail;
} ngx_http_agntkey_refusal_wording_t;


static ngx_int_t ngx_http_agntkey_refusal_keep(ngx_conf_t *cf, ngx_str_t *text,
    u_char *p, u_char *last);
static u_char *ngx_http_agntkey_refusal_challenge(u_char *p, u_char *last,
    ngx_uint_t reason, ngx_http_agntkey_refusal_wording_t *wording,
    ngx_http_agntkey_loc_conf_t *alcf, u_char *scopes);
static size_t ngx_http_agntkey_refusal_room(
    ngx_http_agntkey_loc_conf_t *alcf);
static u_char *ngx_http_agntkey_refusal_scopes(u_char *p,
    ngx_http_agntkey_loc_conf_t *alcf);
static u_char *ngx_http_agntkey_refusal_body(ngx_conf_t *cf, u_char *p,
    u_char *last, ngx_uint_t i, ngx_http_agntkey_refusal_wording_t *wording,
    ngx_http_agntkey_loc_conf_t *alcf, u_char *scopes);
static u_char *ngx_http_agntkey_refusal_missing(u_char *p, u_char *last,
    ngx_http_agntkey_loc_conf_t *alcf);


static ngx_http_agntkey_refusal_wording_t
    ngx_http_agntkey_refusal_wordings[] = {

    /* ok */
    { 0, NULL, NULL, NULL },

    /* missing */
    { NGX_HTTP_UNAUTHORIZED, "",
      "No API key",
      NULL },

    /* malformed */
    { NGX_HTTP_UNAUTHORIZED, "invalid_token",
      "Malformed API key",
      "The last 6 characters, which guard against typing errors, do not fit "
      "the rest." },

    /* unknown */
    { NGX_HTTP_UNAUTHORIZED, "invalid_token",
      "Unknown API key",
      "This key does not exist here. Is it one of another environment?" },

    /* revoked */
    { NGX_HTTP_UNAUTHORIZED, "invalid_token",
      "Revoked API key",
      "This key was revoked, for good. Use another one." },

    /* expired */
    { NGX_HTTP_UNAUTHORIZED, "invalid_token",
      "Expired API key",
      "The time of this key is over. Use another one." },

    /* workspace_disabled */
    { NGX_HTTP_FORBIDDEN, NULL,
      "Workspace disabled",
      "The key is good, but its workspace is switched off." },

    /* workspace_mismatch */
    { NGX_HTTP_FORBIDDEN, NULL,
      "Wrong workspace",
      "The key is good, but its workspace has no access to this." },

    /* insufficient_scope */
    { NGX_HTTP_FORBIDDEN, "insufficient_scope",
      "Insufficient scope",
      NULL },

    /* ambiguous */
    { NGX_HTTP_BAD_REQUEST, "invalid_request",
      "API key given twice",
      "A request may carry one key, in one place." },

    /* store_unavailable */
    { NGX_HTTP_SERVICE_UNAVAILABLE, NULL,
      "API keys cannot be checked",
      "This is a fault of the server; nothing is said about the key. "
      "Try again." }
};


static ngx_str_t  ngx_http_agntkey_www_authenticate =
    ngx_string("WWW-Authenticate");
static ngx_str_t  ngx_http_agntkey_cache_control = ngx_string("Cache-Control");
static ngx_str_t  ngx_http_agntkey_no_store = ngx_string("no-store");
static ngx_str_t  ngx_http_agntkey_retry_after = ngx_string("Retry-After");

/* in seconds: faults of ours are short, or so we hope */
static ngx_str_t  ngx_http_agntkey_soon = ngx_string("1");


ngx_int_t
ngx_http_agntkey_refusal_prepare(ngx_conf_t *cf,
    ngx_http_agntkey_loc_conf_t *alcf)
{
    u_char                              *p, *buf, *scopes;
    size_t                               size;
    ngx_uint_t                           i;
    ngx_http_agntkey_refusal_t          *refusal;
    ngx_http_agntkey_refusal_wording_t  *wording;

    size = ngx_http_agntkey_refusal_room(alcf);

    buf = ngx_pnalloc(cf->temp_pool, size);
    scopes = ngx_pnalloc(cf->temp_pool, size);
    refusal = ngx_pcalloc(cf->pool, NGX_HTTP_AGNTKEY_REFUSALS
                                   * sizeof(ngx_http_agntkey_refusal_t));

    if (buf == NULL || scopes == NULL || refusal == NULL) {
        return NGX_ERROR;
    }

    alcf->refusals = refusal;

    *ngx_http_agntkey_refusal_scopes(scopes, alcf) = '\0';

    for (i = NGX_HTTP_AGNTKEY_MISSING; i < NGX_HTTP_AGNTKEY_REFUSALS; i++) {

        wording =
            &ngx_http_agntkey_refusal_wordings[i < NGX_HTTP_AGNTKEY_REASONS
                                             ? i : NGX_HTTP_AGNTKEY_MALFORMED];

        refusal[i].status = wording->status;

        if (wording->error) {
            p = ngx_http_agntkey_refusal_challenge(buf, buf + size, i, wording,
                                                   alcf, scopes);

            if (ngx_http_agntkey_refusal_keep(cf, &refusal[i].challenge, buf, p)
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }

        p = ngx_http_agntkey_refusal_body(cf, buf, buf + size, i, wording, alcf,
                                          scopes);

        if (ngx_http_agntkey_refusal_keep(cf, &refusal[i].body, buf, p)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_refusal_refuse(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx)
{
    ngx_uint_t                    i;
    ngx_http_agntkey_ctx_t       *prev;
    ngx_http_agntkey_refusal_t   *refusal;
    ngx_http_agntkey_loc_conf_t  *alcf;

    /* an error page may itself be guarded: one refusal is enough */

    for (prev = ngx_http_agntkey_access_ctx_previous(ctx);
         prev;
         prev = ngx_http_agntkey_access_ctx_previous(prev))
    {
        ngx_http_agntkey_refusal_withdraw(prev);
    }

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_access_module);

    i = ctx->reason;

    if (ctx->reason == NGX_HTTP_AGNTKEY_MALFORMED
        && ctx->malformed != NGX_HTTP_AGNTKEY_TOKEN_CHECK)
    {
        i = NGX_HTTP_AGNTKEY_REASONS + ctx->malformed
            - NGX_HTTP_AGNTKEY_TOKEN_PREFIX;
    }

    refusal = &alcf->refusals[i];

    ctx->cache_control = ngx_http_agntkey_response_header(r,
                                           &ngx_http_agntkey_cache_control,
                                           &ngx_http_agntkey_no_store);
    if (ctx->cache_control == NULL) {
        return NGX_ERROR;
    }

    if (refusal->status == NGX_HTTP_SERVICE_UNAVAILABLE) {
        ctx->retry_after = ngx_http_agntkey_response_header(r,
                                           &ngx_http_agntkey_retry_after,
                                           &ngx_http_agntkey_soon);
        if (ctx->retry_after == NULL) {
            return NGX_ERROR;
        }
    }

    if (refusal->challenge.len) {
        ctx->challenge = ngx_http_agntkey_response_header(r,
                                           &ngx_http_agntkey_www_authenticate,
                                           &refusal->challenge);
        if (ctx->challenge == NULL) {
            return NGX_ERROR;
        }

        r->headers_out.www_authenticate = ctx->challenge;
    }

    ctx->refusal = refusal;

    return refusal->status;
}


void
ngx_http_agntkey_refusal_withdraw(ngx_http_agntkey_ctx_t *ctx)
{
    ctx->refusal = NULL;

    if (ctx->challenge) {
        ctx->challenge->hash = 0;
    }

    if (ctx->cache_control) {
        ctx->cache_control->hash = 0;
    }

    if (ctx->retry_after) {
        ctx->retry_after->hash = 0;
    }
}


static ngx_int_t
ngx_http_agntkey_refusal_keep(ngx_conf_t *cf, ngx_str_t *text, u_char *p,
    u_char *last)
{
    text->len = last - p;
    text->data = ngx_pnalloc(cf->pool, text->len);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(text->data, p, text->len);

    return NGX_OK;
}


static u_char *
ngx_http_agntkey_refusal_challenge(u_char *p, u_char *last, ngx_uint_t reason,
    ngx_http_agntkey_refusal_wording_t *wording,
    ngx_http_agntkey_loc_conf_t *alcf, u_char *scopes)
{
    p = ngx_slprintf(p, last, "Bearer realm=\"%V\"", &alcf->realm);

    if (*wording->error) {
        p = ngx_slprintf(p, last, ", error=\"%s\"", wording->error);
    }

    if (reason == NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE) {
        p = ngx_slprintf(p, last, ", scope=\"%s\"", scopes);
    }

    return p;
}


static size_t
ngx_http_agntkey_refusal_room(ngx_http_agntkey_loc_conf_t *alcf)
{
    size_t                      len;
    ngx_str_t                  *scope;
    ngx_uint_t                  i;
    ngx_http_agntkey_source_t  *source;

    len = NGX_HTTP_AGNTKEY_BODY_MAX + alcf->realm.len;

    if (alcf->scopes) {
        scope = alcf->scopes->elts;

        for (i = 0; i < alcf->scopes->nelts; i++) {
            len += scope[i].len + 1;
        }
    }

    if (alcf->sources) {
        source = alcf->sources->elts;

        for (i = 0; i < alcf->sources->nelts; i++) {
            len += source[i].name.len + NGX_HTTP_AGNTKEY_SOURCE_MAX;
        }
    }

    return len;
}


static u_char *
ngx_http_agntkey_refusal_scopes(u_char *p, ngx_http_agntkey_loc_conf_t *alcf)
{
    ngx_str_t   *scope;
    ngx_uint_t   i;

    if (alcf->scopes == NULL) {
        return p;
    }

    scope = alcf->scopes->elts;

    for (i = 0; i < alcf->scopes->nelts; i++) {
        if (i) {
            *p++ = ' ';
        }

        p = ngx_cpymem(p, scope[i].data, scope[i].len);
    }

    return p;
}


/*
 * Nothing in the body comes from the client, and what comes from the
 * configuration holds no character that JSON would escape.
 */

static u_char *
ngx_http_agntkey_refusal_body(ngx_conf_t *cf, u_char *p, u_char *last,
    ngx_uint_t i, ngx_http_agntkey_refusal_wording_t *wording,
    ngx_http_agntkey_loc_conf_t *alcf, u_char *scopes)
{
    ngx_str_t                     *code;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);

    code =
        &ngx_http_agntkey_reasons[wording - ngx_http_agntkey_refusal_wordings];

    p = ngx_slprintf(p, last,
                     "{\"type\":\"urn:agntkey:problem:%V\",\"title\":\"%s\","
                     "\"status\":%ui,\"code\":\"%V\",\"detail\":\"",
                     code, wording->title, wording->status, code);

    switch (i) {

    case NGX_HTTP_AGNTKEY_MISSING:
        p = ngx_http_agntkey_refusal_missing(p, last, alcf);
        break;

    case NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE:
        p = ngx_slprintf(p, last, "The key is good, but this takes one with "
                                  "all of these scopes: %s.", scopes);
        break;

    case NGX_HTTP_AGNTKEY_REASONS:
        p = ngx_slprintf(p, last, "A key of this API begins with %V_.",
                         &amcf->prefix);
        break;

    case NGX_HTTP_AGNTKEY_REASONS + 1:
        p = ngx_slprintf(p, last, "A key of this API has %uz characters; "
                                  "this one was cut off, or something stands "
                                  "behind it.",
                         amcf->prefix.len + 1 + NGX_HTTP_AGNTKEY_TAIL_LEN);
        break;

    case NGX_HTTP_AGNTKEY_REASONS + 2:
        p = ngx_slprintf(p, last, "Only letters and digits follow %V_ in a "
                                  "key of this API.", &amcf->prefix);
        break;

    default:
        p = ngx_slprintf(p, last, "%s", wording->detail);
        break;
    }

    return ngx_slprintf(p, last, "\"}" CRLF);
}


static u_char *
ngx_http_agntkey_refusal_missing(u_char *p, u_char *last,
    ngx_http_agntkey_loc_conf_t *alcf)
{
    u_char                     *end;
    ngx_uint_t                  i;
    ngx_http_agntkey_source_t  *source;

    if (alcf->token) {
        return ngx_slprintf(p, last, "Send your key where this API expects "
                                     "it.");
    }

    p = ngx_slprintf(p, last, "Send your key ");

    if (alcf->sources == NULL) {
        return ngx_slprintf(p, last, "in the header "
                                     "Authorization: Bearer <key>.");
    }

    source = alcf->sources->elts;

    for (i = 0; i < alcf->sources->nelts; i++) {

        if (i) {
            p = ngx_slprintf(p, last, ", or ");
        }

        switch (source[i].from) {

        case NGX_HTTP_AGNTKEY_FROM_HEADER:
            p = ngx_slprintf(p, last, "in the header ");
            end = ngx_slprintf(p, last, "%V", &source[i].name);

            for ( /* void */ ; p < end; p++) {
                if (*p == '_') {
                    *p = '-';
                }
            }

            break;

        case NGX_HTTP_AGNTKEY_FROM_ARG:
            p = ngx_slprintf(p, last, "in the query, as %V=<key>",
                             &source[i].name);
            break;

        case NGX_HTTP_AGNTKEY_FROM_COOKIE:
            p = ngx_slprintf(p, last, "in the cookie %V", &source[i].name);
            break;

        default:
            p = ngx_slprintf(p, last, "where this API expects it");
            break;
        }
    }

    return ngx_slprintf(p, last, ".");
}
