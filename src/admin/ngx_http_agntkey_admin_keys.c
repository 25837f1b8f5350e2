
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_admin_keys.h"
#include "ngx_http_agntkey_admin_conf.h"
#include "ngx_http_agntkey_admin_call.h"
#include "ngx_http_agntkey_admin_response.h"
#include "ngx_http_agntkey_module.h"
#include "ngx_http_agntkey_query.h"


/* seconds that a rotated key goes on, unless the call says otherwise */
#define NGX_HTTP_AGNTKEY_ADMIN_OVERLAP   86400

/* an end that comes sooner is one that workers have to hear of, ms */
#define NGX_HTTP_AGNTKEY_ADMIN_SOON      (2 * NGX_HTTP_AGNTKEY_LEASE_LONGEST)


static ngx_uint_t ngx_http_agntkey_admin_keys_narrows(
    ngx_http_agntkey_admin_call_t *a);
static ngx_int_t ngx_http_agntkey_admin_keys_max(
    ngx_http_agntkey_admin_call_t *a);
static ngx_int_t ngx_http_agntkey_admin_keys_mint(
    ngx_http_agntkey_admin_call_t *a, u_char *tag);
static void ngx_http_agntkey_admin_keys_wipe(void *data);
static ngx_int_t ngx_http_agntkey_admin_keys_idempotency(
    ngx_http_agntkey_admin_call_t *a);
static void ngx_http_agntkey_admin_keys_row_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_keys_row_written(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_keys_read(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t **replies, ngx_uint_t n,
    ngx_http_agntkey_admin_json_t **object);
static void ngx_http_agntkey_admin_keys_create_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_keys_new_written(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_keys_created(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t **replies, ngx_uint_t n,
    ngx_http_agntkey_admin_json_t **object);
static ngx_int_t ngx_http_agntkey_admin_keys_made(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_redis_reply_t *reply,
    ngx_http_agntkey_admin_json_t **object);
static ngx_int_t ngx_http_agntkey_admin_keys_spec(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_redis_reply_t *reply,
    ngx_http_agntkey_admin_json_t **object);
static ngx_int_t ngx_http_agntkey_admin_keys_show(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_admin_json_t *object);
static void ngx_http_agntkey_admin_keys_list_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_keys_page(
    ngx_http_agntkey_admin_call_t *a, ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_admin_keys_row(
    ngx_http_agntkey_admin_call_t *a, ngx_str_t *id,
    ngx_http_agntkey_redis_reply_t *row, ngx_str_t *key,
    ngx_http_agntkey_admin_json_t **object);
static ngx_uint_t ngx_http_agntkey_admin_keys_is_id(ngx_str_t *id);


/* of a call that takes something from a key; and of a rotation */

static ngx_http_agntkey_revocation_handlers_t
    ngx_http_agntkey_admin_keys_row_ends = {
    ngx_http_agntkey_admin_keys_row_written,
    ngx_http_agntkey_admin_call_revoked
};

static ngx_http_agntkey_revocation_handlers_t
    ngx_http_agntkey_admin_keys_new_ends = {
    ngx_http_agntkey_admin_keys_new_written,
    ngx_http_agntkey_admin_call_revoked
};


ngx_int_t
ngx_http_agntkey_admin_keys_create(ngx_http_agntkey_admin_call_t *a)
{
    u_char                        tag[NGX_HTTP_AGNTKEY_TAG_LEN];
    ngx_int_t                     rc;
    ngx_http_request_t           *r;
    ngx_http_agntkey_key_spec_t  *spec;

    r = a->request;
    spec = &a->spec;

    if (!(a->body.present & NGX_HTTP_AGNTKEY_BODY_WORKSPACE)) {

        if (a->caller.pin.len == 0) {
            return ngx_http_agntkey_admin_response_problem(r,
                                         NGX_HTTP_BAD_REQUEST, "missing_member",
                                         "The member \"workspace\" is missing.",
                                         NULL);
        }

        a->body.workspace = a->caller.pin;
    }

    if (!ngx_http_agntkey_admin_call_within(a, &a->body.workspace)) {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    rc = ngx_http_agntkey_admin_keys_idempotency(a);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    spec->workspace = a->body.workspace;
    spec->name = a->body.name;
    spec->scopes = a->body.scopes;

    if ((a->body.present & NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT)
        && a->body.expires_at != NGX_HTTP_AGNTKEY_NEVER
        && ngx_http_agntkey_admin_call_number(a, a->body.expires_at,
                                              &spec->expires_at)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_agntkey_token_tag(&spec->workspace, tag) != NGX_OK
        || ngx_http_agntkey_admin_keys_mint(a, tag) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_agntkey_admin_keys_max(a) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->writes = 1;

    return ngx_http_agntkey_admin_call_wait(a,
                                     ngx_http_agntkey_keystore_create(
                                     a->worker->admin, &a->caller, spec,
                                     ngx_http_agntkey_admin_keys_create_handler,
                                     a));
}


ngx_int_t
ngx_http_agntkey_admin_keys_list(ngx_http_agntkey_admin_call_t *a)
{
    u_char                   *p, *buf, tag[NGX_HTTP_AGNTKEY_TAG_LEN];
    ngx_int_t                 n;
    ngx_str_t                 values[4], *cursor, *status;
    ngx_uint_t                bad;
    ngx_http_request_t       *r;
    ngx_http_agntkey_page_t   page;
    static const char        *names[] = { "workspace", "status", "limit",
                                          "cursor", NULL };

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

    ngx_memzero(&page, sizeof(ngx_http_agntkey_page_t));

    page.workspace = values[0].data ? values[0] : a->caller.pin;

    if (!ngx_http_agntkey_record_workspace_valid(&page.workspace)) {
        return ngx_http_agntkey_admin_call_bad_query(a, "workspace",
                                            " must be given, and be a name.");
    }

    if (!ngx_http_agntkey_admin_call_within(a, &page.workspace)) {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    status = &values[1];

    if (status->data
        && !(status->len == 6 && ngx_strncmp(status->data, "active", 6) == 0)
        && !(status->len == 7 && ngx_strncmp(status->data, "revoked", 7) == 0)
        && !(status->len == 7 && ngx_strncmp(status->data, "expired", 7) == 0))
    {
        return ngx_http_agntkey_admin_call_bad_query(a, "status",
                                       " is active, revoked or expired.");
    }

    page.status = *status;

    if (ngx_http_agntkey_admin_call_limit(a, &values[2]) != NGX_OK) {
        return ngx_http_agntkey_admin_call_bad_query(a, "limit",
                                       " is a number from 1 to 100.");
    }

    page.limit = a->limit;

    cursor = &values[3];

    if (cursor->data) {

        page.after.data = cursor->data;
        page.after.len = ngx_min(cursor->len, NGX_HTTP_AGNTKEY_ID_LEN);

        p = cursor->data + page.after.len;

        page.after_at.data = p + 1;
        page.after_at.len = cursor->len - ngx_min(cursor->len,
                                                NGX_HTTP_AGNTKEY_ID_LEN + 1);

        n = (page.after_at.len > 15)
            ? NGX_ERROR : ngx_atoi(page.after_at.data, page.after_at.len);

        if (!ngx_http_agntkey_admin_keys_is_id(&page.after) || n == NGX_ERROR
            || *p != '.')
        {
            return ngx_http_agntkey_admin_response_problem(r,
                                          NGX_HTTP_BAD_REQUEST,
                                          "invalid_cursor",
                                          "The parameter \"cursor\" is not one "
                                          "that this API has given out.", NULL);
        }
    }

    if (ngx_http_agntkey_token_tag(&page.workspace, tag) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_admin_call_wait(a,
                                       ngx_http_agntkey_keystore_list(
                                       a->worker->admin, &page, tag,
                                       ngx_http_agntkey_admin_keys_list_handler,
                                       a));
}


ngx_int_t
ngx_http_agntkey_admin_keys_get(ngx_http_agntkey_admin_call_t *a)
{
    if (!ngx_http_agntkey_admin_keys_is_id(&a->path_id)) {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    return ngx_http_agntkey_admin_call_wait(a,
                                        ngx_http_agntkey_keystore_get(
                                        a->worker->admin,
                                        &a->caller, a->path_id.data,
                                        ngx_http_agntkey_admin_keys_row_handler,
                                        a));
}


ngx_int_t
ngx_http_agntkey_admin_keys_change(ngx_http_agntkey_admin_call_t *a)
{
    ngx_http_agntkey_key_patch_t  patch;

    if (!ngx_http_agntkey_admin_keys_is_id(&a->path_id)) {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    if (a->body.present == 0) {
        return ngx_http_agntkey_admin_response_problem(a->request,
                             NGX_HTTP_BAD_REQUEST, "missing_member",
                             "Nothing to change: give \"name\", \"scopes\" or "
                             "\"expires_at\".", NULL);
    }

    ngx_memzero(&patch, sizeof(ngx_http_agntkey_key_patch_t));

    if (a->body.present & NGX_HTTP_AGNTKEY_BODY_NAME) {
        patch.name = a->body.name;
    }

    if (a->body.present & NGX_HTTP_AGNTKEY_BODY_SCOPES) {
        patch.scopes = a->body.scopes;
    }

    if (a->body.present & NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT) {

        ngx_str_set(&patch.expires_at, "");

        if (a->body.expires_at != NGX_HTTP_AGNTKEY_NEVER
            && ngx_http_agntkey_admin_call_number(a, a->body.expires_at,
                                                  &patch.expires_at)
               != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    a->writes = 1;

    if (ngx_http_agntkey_admin_keys_narrows(a)) {
        return ngx_http_agntkey_admin_call_wait_revocation(a,
                                 ngx_http_agntkey_revocation_change(a->worker,
                                          &a->caller, a->path_id.data, &patch,
                                          &ngx_http_agntkey_admin_keys_row_ends,
                                          a));
    }

    return ngx_http_agntkey_admin_call_wait(a,
                                      ngx_http_agntkey_keystore_change(
                                      a->worker->admin,
                                      &a->caller, a->path_id.data, &patch,
                                      ngx_http_agntkey_admin_keys_row_handler,
                                      a));
}


/*
 * May a worker that has not heard of the change let in what is refused by it?
 * Other scopes may be fewer; and an end that is farther away than a lease is
 * farther away than anything that such a worker remembers.
 */

static ngx_uint_t
ngx_http_agntkey_admin_keys_narrows(ngx_http_agntkey_admin_call_t *a)
{
    if (a->body.present & NGX_HTTP_AGNTKEY_BODY_SCOPES) {
        return 1;
    }

    return (a->body.present & NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT)
           && a->body.expires_at < a->now + NGX_HTTP_AGNTKEY_ADMIN_SOON;
}


ngx_int_t
ngx_http_agntkey_admin_keys_revoke(ngx_http_agntkey_admin_call_t *a)
{
    if (!ngx_http_agntkey_admin_keys_is_id(&a->path_id)) {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    a->writes = 1;

    return ngx_http_agntkey_admin_call_wait_revocation(a,
                                 ngx_http_agntkey_revocation_revoke(a->worker,
                                          &a->caller, a->path_id.data,
                                          &ngx_http_agntkey_admin_keys_row_ends,
                                          a));
}


ngx_int_t
ngx_http_agntkey_admin_keys_rotate(ngx_http_agntkey_admin_call_t *a)
{
    int64_t    overlap;
    ngx_int_t  rc;
    ngx_str_t  text;

    if (!ngx_http_agntkey_admin_keys_is_id(&a->path_id)) {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    rc = ngx_http_agntkey_admin_keys_idempotency(a);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    overlap = (a->body.present & NGX_HTTP_AGNTKEY_BODY_OVERLAP)
              ? a->body.overlap : NGX_HTTP_AGNTKEY_ADMIN_OVERLAP;

    if (ngx_http_agntkey_admin_call_number(a, overlap * 1000, &text) != NGX_OK
        || ngx_http_agntkey_admin_keys_max(a) != NGX_OK
        || ngx_http_agntkey_admin_keys_mint(a, a->path_id.data) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->spec.name = a->body.name;
    a->writes = 1;

    if (overlap * 1000 < NGX_HTTP_AGNTKEY_ADMIN_SOON) {
        return ngx_http_agntkey_admin_call_wait_revocation(a,
                                 ngx_http_agntkey_revocation_rotate(a->worker,
                                          &a->caller, a->path_id.data,
                                          &a->spec, &text,
                                          &ngx_http_agntkey_admin_keys_new_ends,
                                          a));
    }

    return ngx_http_agntkey_admin_call_wait(a,
                                     ngx_http_agntkey_keystore_rotate(
                                     a->worker->admin,
                                     &a->caller, a->path_id.data, &a->spec,
                                     &text,
                                     ngx_http_agntkey_admin_keys_create_handler,
                                     a));
}


static ngx_int_t
ngx_http_agntkey_admin_keys_max(ngx_http_agntkey_admin_call_t *a)
{
    ngx_http_agntkey_admin_loc_conf_t  *admin;

    admin = ngx_http_get_module_loc_conf(a->request,
                                         ngx_http_agntkey_admin_module);

    return ngx_http_agntkey_admin_call_number(a, admin->max_keys,
                                              &a->spec.max);
}


static ngx_int_t
ngx_http_agntkey_admin_keys_mint(ngx_http_agntkey_admin_call_t *a, u_char *tag)
{
    u_char                         digest[NGX_HTTP_AGNTKEY_DIGEST_LEN];
    ngx_str_t                     *prefix;
    ngx_pool_cleanup_t            *cln;
    ngx_http_request_t            *r;
    ngx_http_agntkey_main_conf_t  *amcf;

    r = a->request;
    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);
    prefix = &amcf->prefix;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_str_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    a->key.len = prefix->len + 1 + NGX_HTTP_AGNTKEY_TAIL_LEN;
    a->key.data = ngx_pnalloc(r->pool, a->key.len);
    if (a->key.data == NULL) {
        return NGX_ERROR;
    }

    *(ngx_str_t *) cln->data = a->key;
    cln->handler = ngx_http_agntkey_admin_keys_wipe;

    if (ngx_http_agntkey_token_mint(prefix, tag, a->key.data) != NGX_OK
        || ngx_http_agntkey_token_digest(&a->key, digest) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "agntkey: OpenSSL made no key");
        return NGX_ERROR;
    }

    ngx_memcpy(a->spec.id, a->key.data + prefix->len + 1,
               NGX_HTTP_AGNTKEY_ID_LEN);
    ngx_hex_dump(a->spec.digest, digest, NGX_HTTP_AGNTKEY_DIGEST_LEN);

    return NGX_OK;
}


static void
ngx_http_agntkey_admin_keys_wipe(void *data)
{
    ngx_str_t  *text = data;

    ngx_explicit_memzero(text->data, text->len);
}


/* NGX_DECLINED: go on; otherwise the answer has been sent. */

static ngx_int_t
ngx_http_agntkey_admin_keys_idempotency(ngx_http_agntkey_admin_call_t *a)
{
    u_char               digest[NGX_HTTP_AGNTKEY_DIGEST_LEN];
    size_t               i;
    ngx_str_t           *value, *hex;
    ngx_uint_t           hash;
    ngx_http_request_t  *r;

    r = a->request;

    hash = ngx_hash_key((u_char *) "idempotency-key",
                        sizeof("idempotency-key") - 1);

    value = ngx_http_agntkey_admin_call_header(r, hash, "idempotency-key");
    if (value == NULL) {
        return NGX_DECLINED;
    }

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < 0x21 || value->data[i] > 0x7e) {
            break;
        }
    }

    if (i == 0 || i > 255 || i < value->len) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_BAD_REQUEST,
                                 "invalid_idempotency_key",
                                 "Idempotency-Key has 1 to 255 visible "
                                 "characters of ASCII.", NULL);
    }

    hex = &a->spec.idempotency;

    hex->len = 2 * NGX_HTTP_AGNTKEY_DIGEST_LEN;
    hex->data = ngx_pnalloc(r->pool, hex->len);

    if (hex->data == NULL
        || ngx_http_agntkey_token_digest(value, digest) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_hex_dump(hex->data, digest, NGX_HTTP_AGNTKEY_DIGEST_LEN);

    return NGX_DECLINED;
}


static void
ngx_http_agntkey_admin_keys_row_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_json_t  *object;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_keys_read(a, rc, replies, n, &object);

    if (object) {
        result = ngx_http_agntkey_admin_response_json(a->request, NGX_HTTP_OK,
                                                      object);
    }

    ngx_http_agntkey_admin_call_done(a, result);
}


/* It is written; or the call ends here. */

static ngx_int_t
ngx_http_agntkey_admin_keys_row_written(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_keys_read(a, rc, replies, n, &a->object);

    return ngx_http_agntkey_admin_call_written(a, result);
}


/* Sets *object, or to NULL: then the answer has been sent. */

static ngx_int_t
ngx_http_agntkey_admin_keys_read(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n, ngx_http_agntkey_admin_json_t **object)
{
    ngx_int_t  result;

    *object = NULL;

    result = ngx_http_agntkey_admin_call_error(a, rc, replies, n);

    if (result != NGX_DECLINED) {
        return result;
    }

    if (replies[0]->type == NGX_HTTP_AGNTKEY_RESP_NIL) {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    switch (ngx_http_agntkey_admin_keys_row(a, &a->path_id, replies[0], NULL,
                                            object))
    {
    case NGX_OK:
        return NGX_OK;

    case NGX_DECLINED:
        *object = NULL;
        return ngx_http_agntkey_admin_call_corrupt(a);

    default:
        *object = NULL;
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


static void
ngx_http_agntkey_admin_keys_create_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_json_t  *object;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_keys_created(a, rc, replies, n, &object);

    if (object) {
        result = ngx_http_agntkey_admin_keys_show(a, object);
    }

    ngx_http_agntkey_admin_call_done(a, result);
}


/* The old key of a rotation ends soon, and nobody may go by what it was. */

static ngx_int_t
ngx_http_agntkey_admin_keys_new_written(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_keys_created(a, rc, replies, n,
                                                 &a->object);

    a->show = ngx_http_agntkey_admin_keys_show;

    return ngx_http_agntkey_admin_call_written(a, result);
}


/* Sets *object, or to NULL: then the answer has been sent. */

static ngx_int_t
ngx_http_agntkey_admin_keys_created(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n, ngx_http_agntkey_admin_json_t **object)
{
    ngx_int_t  result;

    *object = NULL;

    /* the last one tells; before it only a name was added to a list */

    result = ngx_http_agntkey_admin_call_error(a, rc, &replies[n - 1], 1);

    if (result == NGX_DECLINED) {

        if (replies[0]->type == NGX_HTTP_AGNTKEY_RESP_ERROR) {
            ngx_log_error(NGX_LOG_ERR, a->request->connection->log, 0,
                          "agntkey: Redis did not add a workspace to "
                          "agntkey:workspaces");
        }

        result = ngx_http_agntkey_admin_keys_made(a, replies[n - 1], object);
    }

    return result;
}


static ngx_int_t
ngx_http_agntkey_admin_keys_made(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_reply_t *reply,
    ngx_http_agntkey_admin_json_t **object)
{
    ngx_str_t           *what;
    ngx_http_request_t  *r;

    r = a->request;

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_NIL) {
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts == 0
        || reply->elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        return ngx_http_agntkey_admin_call_corrupt(a);
    }

    what = &reply->elts[0]->str;

    if (reply->nelts >= 2 && what->len == 2
        && ngx_strncmp(what->data, "ok", 2) == 0)
    {
        return ngx_http_agntkey_admin_keys_spec(a, reply, object);
    }

    if (reply->nelts == 2 && what->len == 6
        && ngx_strncmp(what->data, "repeat", 6) == 0
        && reply->elts[1]->type == NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_CONFLICT,
                                 "idempotency_conflict",
                                 "A key was made for this Idempotency-Key "
                                 "before, and is not shown again.",
                                 &reply->elts[1]->str);
    }

    if (what->len == 7 && ngx_strncmp(what->data, "revoked", 7) == 0) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_CONFLICT,
                                 "key_revoked",
                                 "A revoked key cannot be rotated: create "
                                 "another.", NULL);
    }

    if (what->len == 7 && ngx_strncmp(what->data, "expired", 7) == 0) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_CONFLICT,
                                 "key_expired",
                                 "An expired key cannot be rotated: create "
                                 "another.", NULL);
    }

    if (what->len == 4 && ngx_strncmp(what->data, "gone", 4) == 0) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_CONFLICT,
                                 "workspace_deleted",
                                 "The record of this workspace was deleted, "
                                 "and its keys may be there still. It has to "
                                 "be written by hand.", NULL);
    }

    if (what->len == 3 && ngx_strncmp(what->data, "odd", 3) == 0) {
        return ngx_http_agntkey_admin_call_corrupt(a);
    }

    if (what->len == 4 && ngx_strncmp(what->data, "full", 4) == 0) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_CONFLICT,
                                 "too_many_keys",
                                 "The workspace has as many keys as it may "
                                 "have. Revoke some, expired ones as well.",
                                 NULL);
    }

    /* "taken": 8 random digits have met 8 others in one of 218 trillions */

    return ngx_http_agntkey_admin_response_problem(r,
                                       NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "store_unavailable",
                                       "The id was taken. Nothing was changed.",
                                       NULL);
}


/*
 * "ok", the row, and when another key was rotated, the end of that one.  Sets
 * *object; or to NULL: then the answer has been sent.
 */

static ngx_int_t
ngx_http_agntkey_admin_keys_spec(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_reply_t *reply,
    ngx_http_agntkey_admin_json_t **object)
{
    u_char     zeros[NGX_HTTP_AGNTKEY_KEY_MAX];
    ngx_int_t  rc;
    ngx_str_t  blank, id;

    ngx_memset(zeros, '0', sizeof(zeros));
    blank.data = zeros;
    blank.len = a->key.len;

    id.data = a->spec.id;
    id.len = NGX_HTTP_AGNTKEY_ID_LEN;

    rc = ngx_http_agntkey_admin_keys_row(a, &id, reply->elts[1], &blank,
                                         object);

    if (rc != NGX_OK) {
        *object = NULL;
        return (rc == NGX_DECLINED) ? ngx_http_agntkey_admin_call_corrupt(a)
                                    : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (a->revocation
        && (reply->nelts != 3
            || reply->elts[2]->type != NGX_HTTP_AGNTKEY_RESP_STRING))
    {
        ngx_http_agntkey_admin_json_drop(*object);
        *object = NULL;
        return ngx_http_agntkey_admin_call_corrupt(a);
    }

    return NGX_OK;
}


/*
 * The one answer that shows a key.  jansson keeps copies of what it is given,
 * so it was given as many zeros, and the key takes their place in the text.
 */

static ngx_int_t
ngx_http_agntkey_admin_keys_show(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_admin_json_t *object)
{
    u_char                    *p;
    ngx_str_t                  text, location, id, *name;
    ngx_pool_cleanup_t        *cln;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = a->request;

    id.data = a->spec.id;
    id.len = NGX_HTTP_AGNTKEY_ID_LEN;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_str_t));
    if (cln == NULL) {
        ngx_http_agntkey_admin_json_drop(object);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_agntkey_admin_json_text(r->pool, object, &text) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *(ngx_str_t *) cln->data = text;
    cln->handler = ngx_http_agntkey_admin_keys_wipe;

    p = ngx_strnstr(text.data, "\"key\":\"", text.len);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(p + sizeof("\"key\":\"") - 1, a->key.data, a->key.len);

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    name = &clcf->name;

    location.data = ngx_pnalloc(r->pool, name->len + sizeof("/keys/")
                                         + id.len);
    if (location.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    location.len = ngx_sprintf(location.data, "%V%skeys/%V", name,
                               name->data[name->len - 1] == '/' ? "" : "/", &id)
                   - location.data;

    if (ngx_http_agntkey_admin_response_header(r, "Location",
                                               &location) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_admin_response_text(r, NGX_HTTP_CREATED, &text);
}


static void
ngx_http_agntkey_admin_keys_list_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n)
{
    ngx_int_t                       result;
    ngx_http_agntkey_admin_call_t  *a = data;

    result = ngx_http_agntkey_admin_call_error(a, rc, replies, n);

    if (result == NGX_DECLINED) {
        result = ngx_http_agntkey_admin_keys_page(a, replies[0]);
    }

    ngx_http_agntkey_admin_call_done(a, result);
}


static ngx_int_t
ngx_http_agntkey_admin_keys_page(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char                            buf[64];
    ngx_int_t                         rc;
    ngx_str_t                         cursor;
    ngx_uint_t                        i;
    ngx_http_agntkey_admin_json_t    *list, *object;
    ngx_http_agntkey_redis_reply_t  **elts, *rows;

    elts = reply->elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 3
        || elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[0]->str.len > NGX_HTTP_AGNTKEY_ID_LEN
        || elts[1]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[1]->str.len > NGX_INT64_LEN
        || elts[2]->type != NGX_HTTP_AGNTKEY_RESP_ARRAY)
    {
        return ngx_http_agntkey_admin_call_corrupt(a);
    }

    list = ngx_http_agntkey_admin_json_list();
    if (list == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rows = elts[2];

    for (i = 0; i + 1 < rows->nelts; i += 2) {

        if (rows->elts[i]->type != NGX_HTTP_AGNTKEY_RESP_STRING) {
            continue;
        }

        rc = ngx_http_agntkey_admin_keys_row(a, &rows->elts[i]->str,
                                             rows->elts[i + 1], NULL, &object);

        /* a record that makes no sense has been logged, and hides nobody */

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

    if (elts[0]->str.len) {
        cursor.data = buf;
        cursor.len = ngx_sprintf(buf, "%V.%V", &elts[0]->str, &elts[1]->str)
                     - buf;

        if (ngx_http_agntkey_admin_json_cursor(list, &cursor) != NGX_OK) {
            ngx_http_agntkey_admin_json_drop(list);
            return ngx_http_agntkey_admin_call_corrupt(a);
        }
    }

    return ngx_http_agntkey_admin_response_json(a->request, NGX_HTTP_OK, list);
}


/* NGX_DECLINED: a row that makes no sense.  NGX_ERROR: no memory. */

static ngx_int_t
ngx_http_agntkey_admin_keys_row(ngx_http_agntkey_admin_call_t *a, ngx_str_t *id,
    ngx_http_agntkey_redis_reply_t *row, ngx_str_t *key,
    ngx_http_agntkey_admin_json_t **object)
{
    off_t                          used;
    ngx_str_t                      fields[NGX_HTTP_AGNTKEY_ROW];
    ngx_uint_t                     i, bad;
    ngx_http_agntkey_key_view_t    view;
    ngx_http_agntkey_main_conf_t  *amcf;

    if (row->type != NGX_HTTP_AGNTKEY_RESP_ARRAY
        || row->nelts != NGX_HTTP_AGNTKEY_ROW
        || !ngx_http_agntkey_admin_keys_is_id(id))
    {
        return NGX_DECLINED;
    }

    for (i = 0; i < NGX_HTTP_AGNTKEY_ROW; i++) {

        ngx_str_null(&fields[i]);

        if (row->elts[i]->type == NGX_HTTP_AGNTKEY_RESP_STRING) {
            fields[i] = row->elts[i]->str;
        }
    }

    bad = 0;

    if (ngx_http_agntkey_record_parse(fields, &view.record, &bad) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, a->request->connection->log, 0,
                      "agntkey: the record of key \"%V\" in Redis "
                      "has a bad field \"%V\"",
                      id, &ngx_http_agntkey_record_fields[bad]);
        return NGX_DECLINED;
    }

    amcf = ngx_http_get_module_main_conf(a->request, ngx_http_agntkey_module);

    view.id = *id;
    view.prefix = amcf->prefix;

    used = 0;

    if (fields[NGX_HTTP_AGNTKEY_FIELDS].len <= 15) {
        used = ngx_atoof(fields[NGX_HTTP_AGNTKEY_FIELDS].data,
                         fields[NGX_HTTP_AGNTKEY_FIELDS].len);
    }

    view.last_used_at = (used > 0) ? used : 0;

    *object = ngx_http_agntkey_admin_json_key(&view, a->now, key);

    return *object ? NGX_OK : NGX_ERROR;
}


static ngx_uint_t
ngx_http_agntkey_admin_keys_is_id(ngx_str_t *id)
{
    size_t  i;

    if (id->len != NGX_HTTP_AGNTKEY_ID_LEN) {
        return 0;
    }

    for (i = 0; i < id->len; i++) {
        if (!ngx_http_agntkey_token_alnum(id->data[i])) {
            return 0;
        }
    }

    return 1;
}
