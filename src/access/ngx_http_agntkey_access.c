
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_access.h"
#include "ngx_http_agntkey_credentials.h"
#include "ngx_http_agntkey_module.h"
#include "ngx_http_agntkey_refusal.h"
#include "ngx_http_agntkey_value.h"


static ngx_int_t ngx_http_agntkey_access_begin(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx);
static ngx_int_t ngx_http_agntkey_access_cached(ngx_http_agntkey_ctx_t *ctx,
    ngx_http_agntkey_worker_t *worker);
static ngx_int_t ngx_http_agntkey_access_find(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx);
static void ngx_http_agntkey_access_found(void *data, ngx_int_t rc,
    ngx_http_agntkey_record_t *key, ngx_uint_t workspace_active);
static ngx_int_t ngx_http_agntkey_access_keep(ngx_http_agntkey_ctx_t *ctx,
    ngx_http_agntkey_record_t *key);
static void ngx_http_agntkey_access_cleanup(void *data);
static ngx_int_t ngx_http_agntkey_access_judge(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx);
static ngx_int_t ngx_http_agntkey_access_verdict(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx, ngx_http_agntkey_reason_e *reason);
static int64_t ngx_http_agntkey_access_now(void);
static void ngx_http_agntkey_access_stale(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx, ngx_msec_t ms);
static ngx_int_t ngx_http_agntkey_access_workspaces(ngx_http_request_t *r,
    ngx_array_t *values, ngx_http_agntkey_rules_t *rules);
static ngx_int_t ngx_http_agntkey_access_decide(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx, ngx_http_agntkey_reason_e reason);
static void ngx_http_agntkey_access_note(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx);
static void ngx_http_agntkey_access_log(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx, ngx_uint_t dry_run);
static u_char *ngx_http_agntkey_access_log_context(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len);


ngx_int_t
ngx_http_agntkey_access_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_http_agntkey_ctx_t       *ctx;
    ngx_http_agntkey_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_access_module);

    if (!alcf->check) {
        return NGX_DECLINED;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "agntkey access handler");

    ctx = ngx_http_get_module_ctx(r, ngx_http_agntkey_access_module);

    if (ctx == NULL) {
        ctx = ngx_http_agntkey_access_ctx_create(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        rc = ngx_http_agntkey_access_begin(r, ctx);

    } else if (ctx->waiter.flight) {

        /* woken by something else, such as a socket that can be written */

        return NGX_AGAIN;

    } else {
        rc = ngx_http_agntkey_access_judge(r, ctx);
    }

    return (rc == NGX_ERROR) ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
}


ngx_int_t
ngx_http_agntkey_access_passed(ngx_http_request_t *r)
{
    ngx_http_agntkey_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_agntkey_access_module);

    if (ctx && ctx->refusal) {
        ngx_http_agntkey_refusal_withdraw(ctx);
    }

    return NGX_DECLINED;
}


/* All that can be said without asking Redis. */

static ngx_int_t
ngx_http_agntkey_access_begin(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx)
{
    ngx_int_t                      rc;
    ngx_str_t                      text, id;
    ngx_uint_t                     copy;
    ngx_http_agntkey_reason_e      reason;
    ngx_http_agntkey_main_conf_t  *amcf;

    if (ngx_http_agntkey_credentials(r, &text, &copy, &reason) != NGX_OK) {
        return NGX_ERROR;
    }

    if (reason != NGX_HTTP_AGNTKEY_OK) {
        rc = ngx_http_agntkey_access_decide(r, ctx, reason);
        goto wipe;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);

    ctx->malformed = ngx_http_agntkey_token_outline(&amcf->prefix, &text, &id);

    if (ctx->malformed != NGX_HTTP_AGNTKEY_TOKEN_OK) {
        rc = ngx_http_agntkey_access_decide(r, ctx,
                                            NGX_HTTP_AGNTKEY_MALFORMED);
        goto wipe;
    }

    ngx_memcpy(ctx->id, id.data, NGX_HTTP_AGNTKEY_ID_LEN);

    /*
     * What has the digest of a key is that key, whose characters and check
     * digits need no look.  Whatever else there is has them looked at.
     */

    if (ngx_http_agntkey_access_cached(ctx, amcf->worker) == NGX_OK) {

        if (ctx->key
            && ngx_http_agntkey_token_digest(&text, ctx->digest) != NGX_OK)
        {
            goto failed;
        }

        if (ngx_http_agntkey_access_verdict(r, ctx, &reason) != NGX_OK) {
            rc = NGX_ERROR;
            goto wipe;
        }

        if (reason != NGX_HTTP_AGNTKEY_UNKNOWN) {
            ctx->has_id = 1;
            rc = ngx_http_agntkey_access_decide(r, ctx, reason);
            goto wipe;
        }
    }

    ctx->malformed = ngx_http_agntkey_token_check(&text, &id);

    if (ctx->malformed != NGX_HTTP_AGNTKEY_TOKEN_OK) {
        ctx->hit = 0;
        ctx->answered = 0;
        rc = ngx_http_agntkey_access_decide(r, ctx,
                                            NGX_HTTP_AGNTKEY_MALFORMED);
        goto wipe;
    }

    ctx->has_id = 1;

    if (ctx->hit) {
        rc = ngx_http_agntkey_access_decide(r, ctx, reason);
        goto wipe;
    }

    if (ngx_http_agntkey_token_digest(&text, ctx->digest) != NGX_OK) {
        goto failed;
    }

    rc = ngx_http_agntkey_access_find(r, ctx);
    goto wipe;

failed:

    ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                  "agntkey: SHA-256 failed");
    rc = NGX_ERROR;

wipe:

    if (copy) {
        ngx_explicit_memzero(text.data, text.len);
    }

    return rc;
}


/* NGX_OK: this worker knows; NGX_DECLINED: Redis has to be asked. */

static ngx_int_t
ngx_http_agntkey_access_cached(ngx_http_agntkey_ctx_t *ctx,
    ngx_http_agntkey_worker_t *worker)
{
    ngx_http_agntkey_entry_t  *entry;

    if (worker == NULL) {
        return NGX_DECLINED;
    }

    entry = ngx_http_agntkey_lookup_cached(worker->lookup, ctx->id);
    if (entry == NULL) {
        return NGX_DECLINED;
    }

    ctx->entry = entry;
    ctx->answered = 1;
    ctx->hit = 1;

    if (entry->workspace == NULL) {
        ctx->rc = NGX_DECLINED;
        return NGX_OK;
    }

    ctx->rc = NGX_OK;
    ctx->key = &entry->key;
    ctx->workspace_active = entry->workspace->active;

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_access_find(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx)
{
    ngx_http_cleanup_t            *cln;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ctx->waiter.handler = ngx_http_agntkey_access_found;
    ctx->waiter.data = ctx;

    if (amcf->worker == NULL
        || ngx_http_agntkey_lookup_find(amcf->worker->lookup, ctx->id,
                                        &ctx->waiter)
           != NGX_OK)
    {
        ctx->rc = NGX_ERROR;
        return ngx_http_agntkey_access_judge(r, ctx);
    }

    cln->handler = ngx_http_agntkey_access_cleanup;
    cln->data = ctx;

    /* a client that leaves is seen while it waits */

    r->read_event_handler = ngx_http_test_reading;

    if (r->connection->read->ready) {
        ngx_post_event(r->connection->read, &ngx_posted_events);

    } else if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    r->connection->log->action = "checking API key";

    return NGX_AGAIN;
}


/*
 * Notes the result of the look-up and lets the phases run; the handler
 * comes by again and decides.
 */

static void
ngx_http_agntkey_access_found(void *data, ngx_int_t rc,
    ngx_http_agntkey_record_t *key, ngx_uint_t workspace_active)
{
    ngx_connection_t        *c;
    ngx_http_request_t      *r;
    ngx_http_agntkey_ctx_t  *ctx = data;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ctx->answered = 1;
    ctx->rc = rc;
    ctx->workspace_active = workspace_active;

    if (rc == NGX_OK && ngx_http_agntkey_access_keep(ctx, key) != NGX_OK) {
        ctx->rc = NGX_ERROR;
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "agntkey look-up of %*s: %i",
                   (size_t) NGX_HTTP_AGNTKEY_ID_LEN, ctx->id, ctx->rc);

    c->log->action = NULL;

    r->read_event_handler = ngx_http_block_reading;

    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_agntkey_access_keep(ngx_http_agntkey_ctx_t *ctx,
    ngx_http_agntkey_record_t *key)
{
    u_char                     *p;
    ngx_http_agntkey_record_t  *copy;

    copy = ngx_palloc(ctx->request->pool,
                      sizeof(ngx_http_agntkey_record_t) + key->workspace.len
                      + key->name.len + key->scopes.len);
    if (copy == NULL) {
        return NGX_ERROR;
    }

    *copy = *key;
    p = (u_char *) (copy + 1);

    copy->workspace.data = p;
    p = ngx_cpymem(p, key->workspace.data, key->workspace.len);

    copy->name.data = p;
    p = ngx_cpymem(p, key->name.data, key->name.len);

    copy->scopes.data = p;

    if (key->scopes.len) {
        ngx_memcpy(p, key->scopes.data, key->scopes.len);
    }

    ctx->key = copy;

    return NGX_OK;
}


static void
ngx_http_agntkey_access_cleanup(void *data)
{
    ngx_http_agntkey_ctx_t  *ctx = data;

    ngx_http_agntkey_lookup_cancel(&ctx->waiter);
}


/* Of what Redis has said, or has not. */

static ngx_int_t
ngx_http_agntkey_access_judge(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx)
{
    ngx_http_agntkey_reason_e     reason;
    ngx_http_agntkey_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_access_module);

    if (ctx->rc == NGX_ERROR && alcf->stale) {
        ngx_http_agntkey_access_stale(r, ctx, alcf->stale);
    }

    if (ctx->rc == NGX_ERROR || ctx->rc == NGX_ABORT) {
        return ngx_http_agntkey_access_decide(r, ctx,
                                          NGX_HTTP_AGNTKEY_STORE_UNAVAILABLE);
    }

    if (ngx_http_agntkey_access_verdict(r, ctx, &reason) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_agntkey_access_decide(r, ctx, reason);
}


static ngx_int_t
ngx_http_agntkey_access_verdict(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx, ngx_http_agntkey_reason_e *reason)
{
    ngx_http_agntkey_rules_t      rules;
    ngx_http_agntkey_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_access_module);

    ngx_memzero(&rules, sizeof(ngx_http_agntkey_rules_t));

    if (alcf->workspaces
        && ngx_http_agntkey_access_workspaces(r, alcf->workspaces, &rules)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (alcf->scopes) {
        rules.scopes = alcf->scopes->elts;
        rules.nscopes = alcf->scopes->nelts;
    }

    *reason = ngx_http_agntkey_verdict(ctx->key, ctx->workspace_active,
                                       ctx->digest, &rules,
                                       ngx_http_agntkey_access_now());

    /* only a key in force speaks for its workspace */

    ctx->identified = (*reason == NGX_HTTP_AGNTKEY_OK
                       || *reason == NGX_HTTP_AGNTKEY_WORKSPACE_MISMATCH
                       || *reason == NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE);

    return NGX_OK;
}


/* ms since 1970 */

static int64_t
ngx_http_agntkey_access_now(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (int64_t) tp->sec * 1000 + tp->msec;
}


/*
 * Redis has no answer, and the location prefers one that was right a while
 * ago.  Only in favour of a key: a refusal would have to be right now.
 */

static void
ngx_http_agntkey_access_stale(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx, ngx_msec_t ms)
{
    ngx_http_agntkey_entry_t      *entry;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);

    if (amcf->worker == NULL || ctx->entry) {
        return;
    }

    entry = ngx_http_agntkey_lookup_stale(amcf->worker->lookup, ctx->id, ms);
    if (entry == NULL) {
        return;
    }

    ctx->entry = entry;

    if (entry->key.expires_at <= ngx_http_agntkey_access_now()
        || !ngx_http_agntkey_token_equal(entry->key.digest, ctx->digest))
    {
        return;
    }

    ctx->rc = NGX_OK;
    ctx->key = &entry->key;
    ctx->workspace_active = 1;
    ctx->stale = 1;
}


static ngx_int_t
ngx_http_agntkey_access_workspaces(ngx_http_request_t *r, ngx_array_t *values,
    ngx_http_agntkey_rules_t *rules)
{
    ngx_uint_t                 i;
    ngx_http_complex_value_t  *cv;

    rules->workspaces = ngx_palloc(r->pool,
                                   values->nelts * sizeof(ngx_str_t));
    if (rules->workspaces == NULL) {
        return NGX_ERROR;
    }

    rules->nworkspaces = values->nelts;

    cv = values->elts;

    for (i = 0; i < values->nelts; i++) {
        if (ngx_http_agntkey_value(r, &cv[i], 1, &rules->workspaces[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * A dry run says neither yes nor no: it changes no outcome, that of "satisfy
 * any" included.
 */

static ngx_int_t
ngx_http_agntkey_access_decide(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx, ngx_http_agntkey_reason_e reason)
{
    ngx_http_agntkey_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_access_module);

    ctx->reason = reason;
    ctx->decided = 1;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "agntkey access: %V", &ngx_http_agntkey_reasons[reason]);

    if (reason == NGX_HTTP_AGNTKEY_OK) {
        ngx_http_agntkey_access_note(r, ctx);

        return alcf->dry_run ? NGX_DECLINED : NGX_OK;
    }

    ngx_http_agntkey_access_log(r, ctx, alcf->dry_run);

    if (alcf->dry_run) {
        return NGX_DECLINED;
    }

    return ngx_http_agntkey_refusal_refuse(r, ctx);
}


static void
ngx_http_agntkey_access_note(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx)
{
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);

    if (amcf->worker->usage) {
        ngx_http_agntkey_usage_note(amcf->worker->usage, ctx->id,
                                    &ctx->key->workspace,
                                    ngx_http_agntkey_access_now());
    }
}


/*
 * An outage has its own line, once, from whoever sees it.  The rest is what
 * the client did; of its request the line shows nothing that it wrote, for
 * any of that may be a key, or pretend to be a line of this log.
 */

static void
ngx_http_agntkey_access_log(ngx_http_request_t *r, ngx_http_agntkey_ctx_t *ctx,
    ngx_uint_t dry_run)
{
    ngx_log_t                *log;
    ngx_http_log_handler_pt   handler;

    if (ctx->reason == NGX_HTTP_AGNTKEY_STORE_UNAVAILABLE) {
        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                       "agntkey: the store is unavailable");
        return;
    }

    log = r->connection->log;

    handler = r->log_handler;
    r->log_handler = ngx_http_agntkey_access_log_context;

    ngx_log_error(NGX_LOG_INFO, log, 0, "agntkey: key %s: %V%s%*s",
                  dry_run ? "would be refused" : "refused",
                  &ngx_http_agntkey_reasons[ctx->reason],
                  ctx->has_id ? ", id: " : "",
                  (size_t) (ctx->has_id ? NGX_HTTP_AGNTKEY_ID_LEN : 0),
                  ctx->id);

    r->log_handler = handler;
}


static u_char *
ngx_http_agntkey_access_log_context(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len)
{
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_core_srv_conf_t  *cscf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    return ngx_snprintf(buf, len, ", server: %V, location: \"%V\"",
                        &cscf->server_name, &clcf->name);
}
