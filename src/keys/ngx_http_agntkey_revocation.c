
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_revocation.h"
#include "ngx_http_agntkey_keyspace.h"
#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_token.h"


typedef enum {
    NGX_HTTP_AGNTKEY_REVOCATION_REVOKE = 0,
    NGX_HTTP_AGNTKEY_REVOCATION_CHANGE,
    NGX_HTTP_AGNTKEY_REVOCATION_ROTATE,
    NGX_HTTP_AGNTKEY_REVOCATION_WORKSPACE
} ngx_http_agntkey_revocation_e;


/* frees itself before its last handler is called */

struct ngx_http_agntkey_revocation_s {
    ngx_http_agntkey_worker_t               *worker;
    ngx_http_agntkey_revocation_handlers_t   handlers;
    void                                    *data;

    /* the step that it waits for */
    ngx_http_agntkey_redis_batch_t          *batch;
    ngx_http_agntkey_barrier_t              *barrier;

    ngx_http_agntkey_revocation_e            kind;
    ngx_uint_t                               fields;  /* of a change */

    /* whose record: the id of a key; or the tag of a workspace, and its name */
    u_char                            id[NGX_HTTP_AGNTKEY_ID_LEN];
    ngx_str_t                                workspace;
    u_char                            name[NGX_HTTP_AGNTKEY_WORKSPACE_MAX];
};


static ngx_http_agntkey_revocation_t *ngx_http_agntkey_revocation_create(
    ngx_http_agntkey_worker_t *worker, ngx_http_agntkey_revocation_e kind,
    u_char *id, ngx_http_agntkey_revocation_handlers_t *handlers, void *data);
static ngx_http_agntkey_revocation_t *ngx_http_agntkey_revocation_sent(
    ngx_http_agntkey_revocation_t *revocation,
    ngx_http_agntkey_redis_batch_t *batch);
static void ngx_http_agntkey_revocation_written(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static void ngx_http_agntkey_revocation_forget(
    ngx_http_agntkey_revocation_t *revocation);
static ngx_int_t ngx_http_agntkey_revocation_ask(
    ngx_http_agntkey_revocation_t *revocation,
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_revocation_values(
    ngx_http_agntkey_revocation_t *revocation,
    ngx_http_agntkey_redis_reply_t *reply,
    ngx_http_agntkey_written_t *written);
static void ngx_http_agntkey_revocation_done(void *data, ngx_int_t rc,
    ngx_http_agntkey_receipt_t *receipt);


ngx_http_agntkey_revocation_t *
ngx_http_agntkey_revocation_revoke(ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_revocation_handlers_t *handlers, void *data)
{
    ngx_http_agntkey_revocation_t  *revocation;

    revocation = ngx_http_agntkey_revocation_create(worker,
                                       NGX_HTTP_AGNTKEY_REVOCATION_REVOKE, id,
                                       handlers, data);
    if (revocation == NULL) {
        return NULL;
    }

    return ngx_http_agntkey_revocation_sent(revocation,
                   ngx_http_agntkey_keystore_revoke(worker->admin, caller, id,
                                           ngx_http_agntkey_revocation_written,
                                           revocation));
}


ngx_http_agntkey_revocation_t *
ngx_http_agntkey_revocation_change(ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_key_patch_t *patch,
    ngx_http_agntkey_revocation_handlers_t *handlers, void *data)
{
    ngx_http_agntkey_revocation_t  *revocation;

    revocation = ngx_http_agntkey_revocation_create(worker,
                                       NGX_HTTP_AGNTKEY_REVOCATION_CHANGE, id,
                                       handlers, data);
    if (revocation == NULL) {
        return NULL;
    }

    if (patch->scopes.data) {
        revocation->fields |= NGX_HTTP_AGNTKEY_WRITTEN_SCOPES;
    }

    if (patch->expires_at.data) {
        revocation->fields |= NGX_HTTP_AGNTKEY_WRITTEN_EXPIRES_AT;
    }

    return ngx_http_agntkey_revocation_sent(revocation,
                   ngx_http_agntkey_keystore_change(worker->admin, caller, id,
                                           patch,
                                           ngx_http_agntkey_revocation_written,
                                           revocation));
}


ngx_http_agntkey_revocation_t *
ngx_http_agntkey_revocation_rotate(ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_key_spec_t *spec, ngx_str_t *overlap,
    ngx_http_agntkey_revocation_handlers_t *handlers, void *data)
{
    ngx_http_agntkey_revocation_t  *revocation;

    revocation = ngx_http_agntkey_revocation_create(worker,
                                       NGX_HTTP_AGNTKEY_REVOCATION_ROTATE, id,
                                       handlers, data);
    if (revocation == NULL) {
        return NULL;
    }

    return ngx_http_agntkey_revocation_sent(revocation,
                   ngx_http_agntkey_keystore_rotate(worker->admin, caller, id,
                                           spec, overlap,
                                           ngx_http_agntkey_revocation_written,
                                           revocation));
}


ngx_http_agntkey_revocation_t *
ngx_http_agntkey_revocation_workspace(ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_caller_t *caller, ngx_str_t *name,
    ngx_http_agntkey_revocation_handlers_t *handlers, void *data)
{
    u_char                          tag[NGX_HTTP_AGNTKEY_ID_LEN];
    ngx_http_agntkey_revocation_t  *revocation;

    if (name->len > NGX_HTTP_AGNTKEY_WORKSPACE_MAX
        || ngx_http_agntkey_token_tag(name, tag) != NGX_OK)
    {
        return NULL;
    }

    revocation = ngx_http_agntkey_revocation_create(worker,
                                   NGX_HTTP_AGNTKEY_REVOCATION_WORKSPACE, tag,
                                   handlers, data);
    if (revocation == NULL) {
        return NULL;
    }

    ngx_memcpy(revocation->name, name->data, name->len);
    revocation->workspace.data = revocation->name;
    revocation->workspace.len = name->len;

    return ngx_http_agntkey_revocation_sent(revocation,
                   ngx_http_agntkey_keystore_workspace_set(worker->admin,
                                           caller, name, 0,
                                           ngx_http_agntkey_revocation_written,
                                           revocation));
}


static ngx_http_agntkey_revocation_t *
ngx_http_agntkey_revocation_create(ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_revocation_e kind, u_char *id,
    ngx_http_agntkey_revocation_handlers_t *handlers, void *data)
{
    ngx_http_agntkey_revocation_t  *revocation;

    revocation = ngx_calloc(sizeof(ngx_http_agntkey_revocation_t),
                            ngx_cycle->log);
    if (revocation == NULL) {
        return NULL;
    }

    revocation->worker = worker;
    revocation->handlers = *handlers;
    revocation->data = data;
    revocation->kind = kind;

    ngx_memcpy(revocation->id, id,
               kind == NGX_HTTP_AGNTKEY_REVOCATION_WORKSPACE
               ? NGX_HTTP_AGNTKEY_TAG_LEN : NGX_HTTP_AGNTKEY_ID_LEN);

    return revocation;
}


static ngx_http_agntkey_revocation_t *
ngx_http_agntkey_revocation_sent(ngx_http_agntkey_revocation_t *revocation,
    ngx_http_agntkey_redis_batch_t *batch)
{
    if (batch == NULL) {
        ngx_free(revocation);
        return NULL;
    }

    revocation->batch = batch;

    return revocation;
}


/* The write has been answered: the steps that follow it. */

static void
ngx_http_agntkey_revocation_written(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t **replies, ngx_uint_t n)
{
    ngx_http_agntkey_revocation_t  *revocation = data;

    revocation->batch = NULL;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "agntkey revocation, kind %d: written, %d",
                   revocation->kind, rc);

    if (revocation->handlers.written(revocation->data, rc, replies, n)
        != NGX_OK)
    {
        ngx_free(revocation);
        return;
    }

    ngx_http_agntkey_revocation_forget(revocation);

    if (ngx_http_agntkey_revocation_ask(revocation, replies[n - 1]) != NGX_OK) {
        ngx_http_agntkey_revocation_done(revocation, NGX_ERROR, NULL);
    }
}


static void
ngx_http_agntkey_revocation_forget(ngx_http_agntkey_revocation_t *revocation)
{
    ngx_http_agntkey_lookup_t  *lookup;

    lookup = revocation->worker->lookup;

    if (revocation->kind == NGX_HTTP_AGNTKEY_REVOCATION_WORKSPACE) {
        ngx_http_agntkey_lookup_forget_workspace(lookup, revocation->id,
                                                 &revocation->workspace);

    } else {
        ngx_http_agntkey_lookup_forget_key(lookup, revocation->id);
    }
}


static ngx_int_t
ngx_http_agntkey_revocation_ask(ngx_http_agntkey_revocation_t *revocation,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char                      buf[NGX_HTTP_AGNTKEY_NAME_ROOM];
    ngx_http_agntkey_written_t  written;

    ngx_memzero(&written, sizeof(ngx_http_agntkey_written_t));

    if (revocation->kind == NGX_HTTP_AGNTKEY_REVOCATION_WORKSPACE) {
        ngx_http_agntkey_keyspace_workspace(buf, &written.record,
                                            revocation->id,
                                            &revocation->workspace);
    } else {
        ngx_http_agntkey_keyspace_key(buf, &written.record, revocation->id);
    }

    if (ngx_http_agntkey_revocation_values(revocation, reply, &written)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    revocation->barrier =
        ngx_http_agntkey_barrier_start(revocation->worker->barriers, &written,
                                       ngx_http_agntkey_revocation_done,
                                       revocation);

    return revocation->barrier ? NGX_OK : NGX_ERROR;
}


/* What the record must still have when all workers have been asked. */

static ngx_int_t
ngx_http_agntkey_revocation_values(ngx_http_agntkey_revocation_t *revocation,
    ngx_http_agntkey_redis_reply_t *reply, ngx_http_agntkey_written_t *written)
{
    switch (revocation->kind) {

    case NGX_HTTP_AGNTKEY_REVOCATION_CHANGE:

        if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY
            || reply->nelts != NGX_HTTP_AGNTKEY_ROW)
        {
            return NGX_ERROR;
        }

        /* a field that is not there is an empty string */

        written->fields = revocation->fields;
        written->scopes = reply->elts[NGX_HTTP_AGNTKEY_FIELD_SCOPES]->str;
        written->expires_at =
                          reply->elts[NGX_HTTP_AGNTKEY_FIELD_EXPIRES_AT]->str;

        return NGX_OK;

    case NGX_HTTP_AGNTKEY_REVOCATION_ROTATE:

        if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 3
            || reply->elts[2]->type != NGX_HTTP_AGNTKEY_RESP_STRING)
        {
            return NGX_ERROR;
        }

        written->fields = NGX_HTTP_AGNTKEY_WRITTEN_EXPIRES_AT;
        written->expires_at = reply->elts[2]->str;

        return NGX_OK;

    default: /* NGX_HTTP_AGNTKEY_REVOCATION_REVOKE, _WORKSPACE */
        written->revoked = 1;

        return NGX_OK;
    }
}


static void
ngx_http_agntkey_revocation_done(void *data, ngx_int_t rc,
    ngx_http_agntkey_receipt_t *receipt)
{
    void                                    *owner;
    ngx_http_agntkey_revocation_t           *revocation = data;
    ngx_http_agntkey_revocation_handlers_t   handlers;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "agntkey revocation, kind %d: done, %i",
                   revocation->kind, rc);

    handlers = revocation->handlers;
    owner = revocation->data;

    ngx_free(revocation);

    handlers.done(owner, rc, receipt);
}


void
ngx_http_agntkey_revocation_cancel(ngx_http_agntkey_revocation_t *revocation)
{
    if (revocation->batch) {
        ngx_http_agntkey_redis_batch_cancel(revocation->batch);
    }

    if (revocation->barrier) {
        ngx_http_agntkey_barrier_cancel(revocation->barrier);
    }

    ngx_free(revocation);
}
