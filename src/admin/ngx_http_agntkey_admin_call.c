
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_admin_call.h"
#include "ngx_http_agntkey_admin_response.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_module.h"


static void ngx_http_agntkey_admin_call_cleanup(void *data);
static ngx_int_t ngx_http_agntkey_admin_call_begin(
    ngx_http_agntkey_admin_call_t *a);
static ngx_uint_t ngx_http_agntkey_admin_call_half_done(ngx_str_t *error);


ngx_str_t *
ngx_http_agntkey_admin_call_header(ngx_http_request_t *r, ngx_uint_t hash,
    const char *lowcase)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NULL;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].hash == hash
            && h[i].key.len == ngx_strlen(lowcase)
            && ngx_strncmp(h[i].lowcase_key, lowcase, h[i].key.len) == 0)
        {
            return &h[i].value;
        }
    }
}


ngx_uint_t
ngx_http_agntkey_admin_call_within(ngx_http_agntkey_admin_call_t *a,
    ngx_str_t *workspace)
{
    return a->caller.pin.len == 0
           || (a->caller.pin.len == workspace->len
               && ngx_memcmp(a->caller.pin.data, workspace->data,
                             workspace->len)
                  == 0);
}


ngx_int_t
ngx_http_agntkey_admin_call_limit(ngx_http_agntkey_admin_call_t *a,
    ngx_str_t *value)
{
    ngx_int_t  n;

    a->limit = 50;

    if (value->data == NULL) {
        return NGX_OK;
    }

    n = ngx_atoi(value->data, value->len);

    if (n < 1 || n > NGX_HTTP_AGNTKEY_PAGE_MAX) {
        return NGX_ERROR;
    }

    a->limit = n;

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_admin_call_bad_query(ngx_http_agntkey_admin_call_t *a,
    const char *name, const char *rule)
{
    u_char  *p, detail[160];
    size_t   i, len;

    if (name == NULL) {

        /* shown as far as it could be a name */

        p = ngx_sprintf(detail, "This call takes no parameter \"");
        len = ngx_min(a->parameter.len, 64);

        for (i = 0; i < len; i++) {
            *p++ = (ngx_http_agntkey_token_alnum(a->parameter.data[i])
                    || a->parameter.data[i] == '_')
                   ? a->parameter.data[i] : '?';
        }

        *ngx_sprintf(p, "\".") = '\0';

    } else {
        *ngx_snprintf(detail, sizeof(detail) - 1, "The parameter \"%s\"%s",
                      name, *rule ? rule : " is there twice, or badly "
                                           "encoded.") = '\0';
    }

    return ngx_http_agntkey_admin_response_problem(a->request,
                                                   NGX_HTTP_BAD_REQUEST,
                                                   "invalid_query",
                                                   (char *) detail, NULL);
}


ngx_int_t
ngx_http_agntkey_admin_call_number(ngx_http_agntkey_admin_call_t *a, int64_t n,
    ngx_str_t *text)
{
    text->data = ngx_pnalloc(a->request->pool, NGX_INT64_LEN);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    text->len = ngx_sprintf(text->data, "%L", n) - text->data;

    return NGX_OK;
}


/* Returns NGX_DONE, or what came of an answer when nothing could be sent. */

ngx_int_t
ngx_http_agntkey_admin_call_wait(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_batch_t *batch)
{
    a->batch = batch;

    return ngx_http_agntkey_admin_call_begin(a);
}


ngx_int_t
ngx_http_agntkey_admin_call_wait_revocation(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_revocation_t *revocation)
{
    a->revocation = revocation;

    return ngx_http_agntkey_admin_call_begin(a);
}


static ngx_int_t
ngx_http_agntkey_admin_call_begin(ngx_http_agntkey_admin_call_t *a)
{
    ngx_http_cleanup_t  *cln;
    ngx_http_request_t  *r;

    r = a->request;

    if (a->batch == NULL && a->revocation == NULL) {
        return ngx_http_agntkey_admin_response_problem(r,
                                         NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "store_unavailable",
                                         "Redis cannot be reached. Nothing was "
                                         "changed.", NULL);
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        ngx_http_agntkey_admin_call_cleanup(a);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_agntkey_admin_call_cleanup;
    cln->data = a;

    /* what is left of a body that nobody wants is being read by nginx */

    if (!r->discard_body) {
        r->read_event_handler = ngx_http_test_reading;
    }

    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static void
ngx_http_agntkey_admin_call_cleanup(void *data)
{
    ngx_http_agntkey_admin_call_t  *a = data;

    if (a->batch) {
        ngx_http_agntkey_redis_batch_cancel(a->batch);
        a->batch = NULL;
    }

    if (a->revocation) {
        ngx_http_agntkey_revocation_cancel(a->revocation);
        a->revocation = NULL;
    }

    if (a->object) {
        ngx_http_agntkey_admin_json_drop(a->object);
        a->object = NULL;
    }
}


/* The end of every call that has waited. */

void
ngx_http_agntkey_admin_call_done(ngx_http_agntkey_admin_call_t *a, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = a->request->connection;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "agntkey admin call is done: %i", rc);

    ngx_http_finalize_request(a->request, rc);
    ngx_http_run_posted_requests(c);
}


ngx_int_t
ngx_http_agntkey_admin_call_written(ngx_http_agntkey_admin_call_t *a,
    ngx_int_t result)
{
    if (a->object) {
        return NGX_OK;
    }

    /* it is gone when the handler returns */

    a->revocation = NULL;

    ngx_http_agntkey_admin_call_done(a, result);

    return NGX_DECLINED;
}


void
ngx_http_agntkey_admin_call_revoked(void *data, ngx_int_t rc,
    ngx_http_agntkey_receipt_t *receipt)
{
    int64_t                         took;
    ngx_str_t                       id;
    ngx_http_request_t             *r;
    ngx_http_agntkey_admin_json_t  *object;
    ngx_http_agntkey_admin_call_t  *a = data;

    r = a->request;

    ngx_http_set_log_request(r->connection->log, r);

    object = a->object;

    a->object = NULL;
    a->revocation = NULL;

    if (rc != NGX_OK) {
        ngx_http_agntkey_admin_json_drop(object);

        id.data = a->spec.id;
        id.len = NGX_HTTP_AGNTKEY_ID_LEN;

        rc = ngx_http_agntkey_admin_response_problem(r,
                                 NGX_HTTP_SERVICE_UNAVAILABLE, "store_unknown",
                                 a->show
                                 ? "The old key is over and a new one was "
                                   "made, but it is not known whether all "
                                   "workers know. Revoke both, and create "
                                   "another key."
                                 : "It was written, but it is not known "
                                   "whether all workers know. Repeat the "
                                   "call.",
                                 a->show ? &id : NULL);
        ngx_http_agntkey_admin_call_done(a, rc);
        return;
    }

    took = ngx_http_agntkey_clock() - a->begun;

    if (ngx_http_agntkey_admin_json_receipt(object, receipt->workers,
                                            receipt->acknowledged, took,
                                            receipt->replicas, receipt->synced)
        != NGX_OK)
    {
        ngx_http_agntkey_admin_json_drop(object);
        ngx_http_agntkey_admin_call_done(a, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_agntkey_admin_call_done(a, a->show
                ? a->show(a, object)
                : ngx_http_agntkey_admin_response_json(r, NGX_HTTP_OK, object));
}


/*
 * A script that fails after it has begun to write is not undone.  These are
 * the errors with which Redis refuses a script, or its first write; before
 * version 7 the code of the latter stands inside of the text.
 */

static ngx_uint_t
ngx_http_agntkey_admin_call_half_done(ngx_str_t *error)
{
    size_t        len;
    const char  **code;

    static const char  *refusals[] = {
        "OOM ", "READONLY ", "MISCONF ", "NOREPLICAS ", "LOADING ",
        "MASTERDOWN ", "NOAUTH ", "BUSY ", "CLUSTERDOWN ", "MOVED ", "ASK ",
        "TRYAGAIN ", NULL
    };

    for (code = refusals; *code; code++) {
        len = ngx_strlen(*code);

        if (error->len > len
            && (ngx_strncmp(error->data, *code, len) == 0
                || ngx_strnstr(error->data + 1, (char *) *code,
                               error->len - 1)))
        {
            return 0;
        }
    }

    return ngx_strnstr(error->data, "script", error->len) != NULL;
}


/*
 * NGX_DECLINED: the replies are there and none is an error; otherwise the
 * answer has been sent.  Of a write nobody knows the fate of, the answer says
 * so: repeating it is safe.
 */

ngx_int_t
ngx_http_agntkey_admin_call_error(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n)
{
    u_char               buf[128];
    ngx_str_t            text;
    ngx_uint_t           i, unknown;
    ngx_http_request_t  *r;

    r = a->request;
    a->batch = NULL;
    unknown = 0;

    ngx_http_set_log_request(r->connection->log, r);

    if (rc == NGX_HTTP_AGNTKEY_REDIS_OK) {

        for (i = 0; i < n; i++) {
            if (replies[i]->type == NGX_HTTP_AGNTKEY_RESP_ERROR) {
                break;
            }
        }

        if (i == n) {
            return NGX_DECLINED;
        }

        ngx_http_agntkey_redis_resp_error_text(replies[i], buf, &text);

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "agntkey: Redis answered an admin call with: %V", &text);

        unknown = ngx_http_agntkey_admin_call_half_done(&replies[i]->str);

    } else if (rc != NGX_HTTP_AGNTKEY_REDIS_UNSENT) {
        unknown = 1;
    }

    if (unknown && a->writes) {
        return ngx_http_agntkey_admin_response_problem(r,
                                  NGX_HTTP_SERVICE_UNAVAILABLE, "store_unknown",
                                  "Redis did not say whether it has done this. "
                                  "Look, or repeat the call.", NULL);
    }

    return ngx_http_agntkey_admin_response_problem(r,
                             NGX_HTTP_SERVICE_UNAVAILABLE, "store_unavailable",
                             a->writes ? "Redis cannot do this now. Nothing "
                                         "was changed."
                                       : "Redis cannot be asked now.", NULL);
}


ngx_int_t
ngx_http_agntkey_admin_call_not_found(ngx_http_agntkey_admin_call_t *a)
{
    return ngx_http_agntkey_admin_response_problem(a->request,
                                                   NGX_HTTP_NOT_FOUND,
                                                   "not_found",
                                                   "There is nothing here.",
                                                   NULL);
}


/* What Redis holds, or says, is not what this API would have written. */

ngx_int_t
ngx_http_agntkey_admin_call_corrupt(ngx_http_agntkey_admin_call_t *a)
{
    ngx_log_error(NGX_LOG_ERR, a->request->connection->log, 0,
                  "agntkey: Redis holds something odd");

    return ngx_http_agntkey_admin_response_problem(a->request,
                             NGX_HTTP_INTERNAL_SERVER_ERROR, "internal",
                             "What Redis holds makes no sense: see the error "
                             "log.", NULL);
}
