
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_admin_workspaces.h"
#include "ngx_http_agntkey_admin_call.h"
#include "ngx_http_agntkey_admin_response.h"
#include "ngx_http_agntkey_query.h"
#include "ngx_http_agntkey_token.h"


/* in search of a name among others, PAGE_MAX members each */
#define NGX_HTTP_AGNTKEY_ADMIN_TRIPS   100


static ngx_int_t ngx_http_agntkey_admin_workspaces_names_after(
    ngx_http_agntkey_admin_call_t *a, ngx_str_t *after);
static void ngx_http_agntkey_admin_workspaces_names_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_workspaces_names(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_admin_workspaces_states_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_workspaces_states(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static void ngx_http_agntkey_admin_workspaces_row_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_workspaces_written(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_workspaces_read(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t **replies, ngx_uint_t n,
    ngx_http_agntkey_admin_json_t **object);
static ngx_uint_t ngx_http_agntkey_admin_workspaces_absent(
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_admin_workspaces_state(ngx_str_t *name,
    ngx_http_agntkey_redis_reply_t *reply, ngx_http_agntkey_redis_reply_t *keys,
    ngx_http_agntkey_admin_json_t **object);


static ngx_http_agntkey_revocation_handlers_t
    ngx_http_agntkey_admin_workspaces_ends = {
    ngx_http_agntkey_admin_workspaces_written,
    ngx_http_agntkey_admin_call_revoked
};


ngx_int_t
ngx_http_agntkey_admin_workspaces_list(ngx_http_agntkey_admin_call_t *a)
{
    u_char              *buf;
    ngx_str_t            values[2], *cursor;
    ngx_uint_t           bad;
    ngx_http_request_t  *r;
    static const char   *names[] = { "limit", "cursor", NULL };

    r = a->request;

    buf = ngx_pnalloc(r->pool, r->args.len + 1);
    if (buf == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_agntkey_query_parse(&r->args, names, values, buf, &bad,
                                     &a->parameter)
        != NGX_OK)
    {
        return ngx_http_agntkey_admin_call_bad_query(a, names[bad], "");
    }

    if (ngx_http_agntkey_admin_call_limit(a, &values[0]) != NGX_OK) {
        return ngx_http_agntkey_admin_call_bad_query(a, "limit",
                                       " is a number from 1 to 100.");
    }

    cursor = &values[1];

    if (cursor->data && !ngx_http_agntkey_record_workspace_valid(cursor)) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_BAD_REQUEST,
                                 "invalid_cursor",
                                 "The parameter \"cursor\" is not one that "
                                 "this API has given out.", NULL);
    }

    if (a->caller.pin.len) {
        a->names = &a->caller.pin;
        a->nnames = 1;

        return ngx_http_agntkey_admin_call_wait(a,
                            ngx_http_agntkey_keystore_workspace_states(
                            a->worker->admin, a->names, a->nnames,
                            ngx_http_agntkey_admin_workspaces_states_handler,
                            a));
    }

    return ngx_http_agntkey_admin_workspaces_names_after(a, cursor);
}


ngx_int_t
ngx_http_agntkey_admin_workspaces_get(ngx_http_agntkey_admin_call_t *a)
{
    if (!ngx_http_agntkey_record_workspace_valid(&a->path_id)
        || !ngx_http_agntkey_admin_call_within(a, &a->path_id))
    {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    return ngx_http_agntkey_admin_call_wait(a,
                            ngx_http_agntkey_keystore_workspace_states(
                            a->worker->admin, &a->path_id, 1,
                            ngx_http_agntkey_admin_workspaces_row_handler, a));
}


ngx_int_t
ngx_http_agntkey_admin_workspaces_set(ngx_http_agntkey_admin_call_t *a)
{
    if (!ngx_http_agntkey_record_workspace_valid(&a->path_id)
        || !ngx_http_agntkey_admin_call_within(a, &a->path_id))
    {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    a->writes = 1;

    if (!a->body.active) {
        return ngx_http_agntkey_admin_call_wait_revocation(a,
                              ngx_http_agntkey_revocation_workspace(a->worker,
                                        &a->caller, &a->path_id,
                                        &ngx_http_agntkey_admin_workspaces_ends,
                                        a));
    }

    return ngx_http_agntkey_admin_call_wait(a,
                               ngx_http_agntkey_keystore_workspace_set(
                               a->worker->admin,
                               &a->caller, &a->path_id, a->body.active,
                               ngx_http_agntkey_admin_workspaces_row_handler,
                               a));
}


/* One trip; "after" is a member of the index, which may be no name of ours. */

static ngx_int_t
ngx_http_agntkey_admin_workspaces_names_after(ngx_http_agntkey_admin_call_t *a,
    ngx_str_t *after)
{
    ngx_str_t  from;

    ngx_str_set(&from, "-");

    if (after->len) {
        from.len = after->len + 1;
        from.data = ngx_pnalloc(a->request->pool, from.len);
        if (from.data == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        (void) ngx_sprintf(from.data, "(%V", after);
    }

    a->trips++;

    return ngx_http_agntkey_admin_call_wait(a,
                                ngx_http_agntkey_keystore_workspaces(
                                a->worker->admin, &from,
                                ngx_http_agntkey_admin_workspaces_names_handler,
                                a));
}


static void
ngx_http_agntkey_admin_workspaces_names_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_call_error(a, rc, replies, n);

    if (result == NGX_DECLINED) {
        result = ngx_http_agntkey_admin_workspaces_names(a, replies[0]);
    }

    if (result != NGX_DONE) {
        ngx_http_agntkey_admin_call_done(a, result);
    }
}


/* The names are here; now for what is known of each. */

static ngx_int_t
ngx_http_agntkey_admin_workspaces_names(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_str_t   *one;
    ngx_uint_t   i;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY) {
        return ngx_http_agntkey_admin_call_corrupt(a);
    }

    a->nnames = 0;
    a->names = ngx_palloc(a->request->pool, a->limit * sizeof(ngx_str_t));
    if (a->names == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (i = 0; i < reply->nelts && a->nnames < a->limit; i++) {

        if (reply->elts[i]->type != NGX_HTTP_AGNTKEY_RESP_STRING
            || !ngx_http_agntkey_record_workspace_valid(&reply->elts[i]->str))
        {
            continue;
        }

        one = &a->names[a->nnames++];

        one->len = reply->elts[i]->str.len;
        one->data = ngx_pstrdup(a->request->pool, &reply->elts[i]->str);
        if (one->data == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    a->more = (i < reply->nelts || i > NGX_HTTP_AGNTKEY_PAGE_MAX);

    if (a->nnames == 0 && a->more) {

        /* none of these is a name, so none can be a cursor: go on here */

        one = &reply->elts[i - 1]->str;

        if (a->trips == NGX_HTTP_AGNTKEY_ADMIN_TRIPS
            || reply->elts[i - 1]->type != NGX_HTTP_AGNTKEY_RESP_STRING)
        {
            return ngx_http_agntkey_admin_call_corrupt(a);
        }

        return ngx_http_agntkey_admin_workspaces_names_after(a, one);
    }

    if (a->nnames == 0) {
        return ngx_http_agntkey_admin_response_json(a->request, NGX_HTTP_OK,
                                            ngx_http_agntkey_admin_json_list());
    }

    return ngx_http_agntkey_admin_call_wait(a,
                            ngx_http_agntkey_keystore_workspace_states(
                            a->worker->admin, a->names, a->nnames,
                            ngx_http_agntkey_admin_workspaces_states_handler,
                            a));
}


static void
ngx_http_agntkey_admin_workspaces_states_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_call_error(a, rc, replies, n);

    if (result == NGX_DECLINED) {
        result = ngx_http_agntkey_admin_workspaces_states(a, replies, n);
    }

    ngx_http_agntkey_admin_call_done(a, result);
}


static ngx_int_t
ngx_http_agntkey_admin_workspaces_states(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                       rc;
    ngx_uint_t                      i;
    ngx_http_agntkey_admin_json_t  *list, *object;

    list = ngx_http_agntkey_admin_json_list();
    if (list == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (i = 0; 2 * i + 1 < n; i++) {

        rc = ngx_http_agntkey_admin_workspaces_state(&a->names[i],
                                                     replies[2 * i],
                                                     replies[2 * i + 1],
                                                     &object);

        /* a name whose first key was never made */

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc != NGX_OK
            || ngx_http_agntkey_admin_json_append(list, object) != NGX_OK)
        {
            ngx_http_agntkey_admin_json_drop(list);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (a->more
        && ngx_http_agntkey_admin_json_cursor(list, &a->names[a->nnames - 1])
           != NGX_OK)
    {
        ngx_http_agntkey_admin_json_drop(list);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_admin_response_json(a->request, NGX_HTTP_OK, list);
}


static void
ngx_http_agntkey_admin_workspaces_row_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_json_t  *object;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_workspaces_read(a, rc, replies, n, &object);

    if (object) {
        result = ngx_http_agntkey_admin_response_json(a->request, NGX_HTTP_OK,
                                                      object);
    }

    ngx_http_agntkey_admin_call_done(a, result);
}


/* It is switched off; or the call ends here. */

static ngx_int_t
ngx_http_agntkey_admin_workspaces_written(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_workspaces_read(a, rc, replies, n,
                                                    &a->object);

    return ngx_http_agntkey_admin_call_written(a, result);
}


/* Sets *object, or to NULL: then the answer has been sent. */

static ngx_int_t
ngx_http_agntkey_admin_workspaces_read(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n, ngx_http_agntkey_admin_json_t **object)
{
    ngx_int_t                        result, rv;
    ngx_http_agntkey_redis_reply_t  *reply;

    *object = NULL;

    result = ngx_http_agntkey_admin_call_error(a, rc, replies, n);

    if (result != NGX_DECLINED) {
        return result;
    }

    reply = replies[0];

    if (n == 2) {
        rv = ngx_http_agntkey_admin_workspaces_state(&a->path_id, reply,
                                                     replies[1], object);

    } else if (reply->type == NGX_HTTP_AGNTKEY_RESP_ARRAY
               && reply->nelts == 3)
    {
        rv = ngx_http_agntkey_admin_workspaces_state(&a->path_id, reply,
                                                     reply->elts[2], object);

    } else {
        rv = NGX_DECLINED;
    }

    if (rv == NGX_OK) {
        return NGX_OK;
    }

    *object = NULL;

    if (rv == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_admin_workspaces_absent(reply)
           ? ngx_http_agntkey_admin_call_not_found(a)
           : ngx_http_agntkey_admin_call_corrupt(a);
}


/* No record: nil from a script, or an array of nils. */

static ngx_uint_t
ngx_http_agntkey_admin_workspaces_absent(ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_uint_t  i;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY) {
        return reply->type == NGX_HTTP_AGNTKEY_RESP_NIL;
    }

    for (i = 0; i < reply->nelts; i++) {
        if (reply->elts[i]->type != NGX_HTTP_AGNTKEY_RESP_NIL) {
            return 0;
        }
    }

    return 1;
}


/* NGX_DECLINED: there is no such workspace.  NGX_ERROR: no memory. */

static ngx_int_t
ngx_http_agntkey_admin_workspaces_state(ngx_str_t *name,
    ngx_http_agntkey_redis_reply_t *reply, ngx_http_agntkey_redis_reply_t *keys,
    ngx_http_agntkey_admin_json_t **object)
{
    off_t                             created_at;
    ngx_uint_t                        active;
    ngx_http_agntkey_redis_reply_t  **elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts < 2
        || keys->type != NGX_HTTP_AGNTKEY_RESP_INTEGER)
    {
        return NGX_DECLINED;
    }

    elts = reply->elts;

    if (elts[0]->type == NGX_HTTP_AGNTKEY_RESP_NIL
        && elts[1]->type == NGX_HTTP_AGNTKEY_RESP_NIL)
    {
        return NGX_DECLINED;
    }

    active = (elts[0]->type == NGX_HTTP_AGNTKEY_RESP_STRING
              && elts[0]->str.len == 1 && elts[0]->str.data[0] == '1');

    created_at = 0;

    if (elts[1]->type == NGX_HTTP_AGNTKEY_RESP_STRING
        && elts[1]->str.len <= 15)
    {
        created_at = ngx_atoof(elts[1]->str.data, elts[1]->str.len);
    }

    *object = ngx_http_agntkey_admin_json_workspace(name, active,
                                              created_at > 0 ? created_at : 0,
                                              keys->integer);

    return *object ? NGX_OK : NGX_ERROR;
}
