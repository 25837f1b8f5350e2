
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_admin.h"
#include "ngx_http_agntkey_answer.h"
#include "ngx_http_agntkey_credentials.h"
#include "ngx_http_agntkey_json.h"
#include "ngx_http_agntkey_query.h"
#include "ngx_http_agntkey_registry.h"
#include "ngx_http_agntkey_reply.h"


/* of a body, bytes */
#define NGX_HTTP_AGNTKEY_ADMIN_BODY      16384

/* of a file of token digests, bytes */
#define NGX_HTTP_AGNTKEY_ADMIN_TOKENS    65536

/* seconds that a rotated key goes on, unless the call says otherwise */
#define NGX_HTTP_AGNTKEY_ADMIN_OVERLAP   86400

#define NGX_HTTP_AGNTKEY_ADMIN_READ      (NGX_HTTP_GET|NGX_HTTP_HEAD)


typedef struct ngx_http_agntkey_admin_s  ngx_http_agntkey_admin_t;

typedef struct {
    const char   *path;            /* "*" stands for one segment */
    ngx_uint_t    method;
    ngx_uint_t    allowed;         /* members of the body */
    ngx_uint_t    needed;
    unsigned      body:1;          /* it must have one */
    ngx_int_t   (*handler)(ngx_http_agntkey_admin_t *a);
} ngx_http_agntkey_route_t;


/* one call; lives in the pool of its request */

struct ngx_http_agntkey_admin_s {
    ngx_http_request_t            *request;
    ngx_http_agntkey_redis_t      *redis;
    ngx_http_agntkey_call_t       *call;       /* set while it waits */
    ngx_http_agntkey_route_t      *route;
    unsigned                       writes:1;   /* may have changed something */

    ngx_str_t                      segment;    /* what "*" stands for */
    ngx_http_agntkey_who_t         who;
    int64_t                        now;
    ngx_http_agntkey_body_t        body;

    /* a key being made; the text is wiped when the request ends */
    ngx_http_agntkey_new_t         new;
    ngx_str_t                      key;

    /* a page being read */
    ngx_uint_t                     limit;
    ngx_str_t                     *names;
    ngx_uint_t                     nnames;
    ngx_uint_t                     more;
};


static ngx_int_t ngx_http_agntkey_admin_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_agntkey_admin_who(ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_token(ngx_http_agntkey_admin_t *a,
    ngx_array_t *tokens);
static ngx_int_t ngx_http_agntkey_admin_route(ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_match(const char *path,
    ngx_str_t *rest, ngx_str_t *segment);
static ngx_int_t ngx_http_agntkey_admin_body(ngx_http_agntkey_admin_t *a);
static ngx_uint_t ngx_http_agntkey_admin_encoded(ngx_http_request_t *r);
static ngx_str_t *ngx_http_agntkey_admin_header(ngx_http_request_t *r,
    ngx_uint_t hash, const char *lowcase);
static void ngx_http_agntkey_admin_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_agntkey_admin_body_text(ngx_http_request_t *r,
    ngx_str_t *text);
static ngx_int_t ngx_http_agntkey_admin_run(ngx_http_agntkey_admin_t *a,
    ngx_str_t *text);

static ngx_int_t ngx_http_agntkey_admin_create(ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_list(ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_get(ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_change(ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_revoke(ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_rotate(ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_workspaces(
    ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_workspace(
    ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_workspace_set(
    ngx_http_agntkey_admin_t *a);

static ngx_int_t ngx_http_agntkey_admin_openapi(ngx_http_agntkey_admin_t *a);

static ngx_uint_t ngx_http_agntkey_admin_within(ngx_http_agntkey_admin_t *a,
    ngx_str_t *workspace);
static ngx_int_t ngx_http_agntkey_admin_limit(ngx_http_agntkey_admin_t *a,
    ngx_str_t *value);
static ngx_int_t ngx_http_agntkey_admin_bad_query(ngx_http_agntkey_admin_t *a,
    const char *name, const char *rule);
static ngx_int_t ngx_http_agntkey_admin_number(ngx_http_agntkey_admin_t *a,
    int64_t n, ngx_str_t *text);
static ngx_int_t ngx_http_agntkey_admin_mint(ngx_http_agntkey_admin_t *a,
    u_char *tag);
static void ngx_http_agntkey_admin_wipe(void *data);
static ngx_int_t ngx_http_agntkey_admin_idempotency(
    ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_wait(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_call_t *call);
static void ngx_http_agntkey_admin_cleanup(void *data);
static void ngx_http_agntkey_admin_done(ngx_http_agntkey_admin_t *a,
    ngx_int_t rc);
static ngx_int_t ngx_http_agntkey_admin_trouble(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n);

static void ngx_http_agntkey_admin_row_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n);
static void ngx_http_agntkey_admin_new_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_made(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_reply_t *reply);
static ngx_int_t ngx_http_agntkey_admin_show_key(ngx_http_agntkey_admin_t *a,
    ngx_str_t *id, ngx_http_agntkey_reply_t *row);
static void ngx_http_agntkey_admin_list_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_page(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_admin_names_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_names(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_admin_states_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n);
static ngx_int_t ngx_http_agntkey_admin_states(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_reply_t **replies, ngx_uint_t n);
static void ngx_http_agntkey_admin_workspace_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n);
static ngx_http_agntkey_json_t *ngx_http_agntkey_admin_state(ngx_str_t *name,
    ngx_http_agntkey_reply_t *reply, ngx_http_agntkey_reply_t *keys);

static ngx_http_agntkey_json_t *ngx_http_agntkey_admin_row(
    ngx_http_agntkey_admin_t *a, ngx_str_t *id, ngx_http_agntkey_reply_t *row,
    ngx_str_t *key);
static ngx_uint_t ngx_http_agntkey_admin_is_id(ngx_str_t *id);
static ngx_int_t ngx_http_agntkey_admin_not_found(
    ngx_http_agntkey_admin_t *a);
static ngx_int_t ngx_http_agntkey_admin_odd(ngx_http_agntkey_admin_t *a);
static char *ngx_http_agntkey_admin_digests(ngx_conf_t *cf, u_char *p,
    u_char *last, ngx_array_t *tokens);


static ngx_http_agntkey_route_t  ngx_http_agntkey_routes[] = {

    { "keys", NGX_HTTP_POST,
      NGX_HTTP_AGNTKEY_MEMBER_WORKSPACE|NGX_HTTP_AGNTKEY_MEMBER_NAME
      |NGX_HTTP_AGNTKEY_MEMBER_SCOPES|NGX_HTTP_AGNTKEY_MEMBER_EXPIRES_AT,
      NGX_HTTP_AGNTKEY_MEMBER_NAME, 1,
      ngx_http_agntkey_admin_create },

    { "keys", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0,
      ngx_http_agntkey_admin_list },

    { "keys/*", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0,
      ngx_http_agntkey_admin_get },

    { "keys/*", NGX_HTTP_PATCH,
      NGX_HTTP_AGNTKEY_MEMBER_NAME|NGX_HTTP_AGNTKEY_MEMBER_SCOPES
      |NGX_HTTP_AGNTKEY_MEMBER_EXPIRES_AT, 0, 1,
      ngx_http_agntkey_admin_change },

    { "keys/*/revoke", NGX_HTTP_POST, 0, 0, 0,
      ngx_http_agntkey_admin_revoke },

    { "keys/*/rotate", NGX_HTTP_POST,
      NGX_HTTP_AGNTKEY_MEMBER_NAME|NGX_HTTP_AGNTKEY_MEMBER_OVERLAP, 0, 0,
      ngx_http_agntkey_admin_rotate },

    { "workspaces", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0,
      ngx_http_agntkey_admin_workspaces },

    { "workspaces/*", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0,
      ngx_http_agntkey_admin_workspace },

    { "workspaces/*", NGX_HTTP_PUT, NGX_HTTP_AGNTKEY_MEMBER_STATUS,
      NGX_HTTP_AGNTKEY_MEMBER_STATUS, 1,
      ngx_http_agntkey_admin_workspace_set },

    { "openapi.json", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0,
      ngx_http_agntkey_admin_openapi },

    { NULL, 0, 0, 0, 0, NULL }
};


static u_char  ngx_http_agntkey_openapi[] =
#include "ngx_http_agntkey_openapi.inc"
;


static ngx_int_t
ngx_http_agntkey_admin_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_time_t                    *tp;
    ngx_http_agntkey_admin_t      *a;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);

    a = ngx_pcalloc(r->pool, sizeof(ngx_http_agntkey_admin_t));

    if (a == NULL || amcf->store == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    tp = ngx_timeofday();

    a->request = r;
    a->redis = ngx_http_agntkey_store_redis(amcf->store);
    a->now = (int64_t) tp->sec * 1000 + tp->msec;

    rc = ngx_http_agntkey_admin_who(a);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    rc = ngx_http_agntkey_admin_route(a);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (a->route->method & NGX_HTTP_AGNTKEY_ADMIN_READ) {

        rc = ngx_http_discard_request_body(r);
        if (rc != NGX_OK) {
            return rc;
        }

        rc = a->route->handler(a);

        if (rc == NGX_AGAIN) {
            r->main->count++;
            return NGX_DONE;
        }

        return rc;
    }

    rc = ngx_http_agntkey_admin_body(a);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ngx_http_set_ctx(r, a, ngx_http_agntkey_filter_module);

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r,
                                         ngx_http_agntkey_admin_body_handler);

    return (rc >= NGX_HTTP_SPECIAL_RESPONSE) ? rc : NGX_DONE;
}


/*
 * Who is calling, and what may he see?  NGX_DECLINED: go on; otherwise the
 * answer has been sent.
 */

static ngx_int_t
ngx_http_agntkey_admin_who(ngx_http_agntkey_admin_t *a)
{
    ngx_int_t                     rc;
    ngx_http_request_t           *r;
    ngx_http_agntkey_loc_conf_t  *alcf;

    r = a->request;
    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_module);

    a->who.from = r->connection->addr_text;

    if (alcf->admin_tokens_off == 1) {
        ngx_str_set(&a->who.actor, "off");

    } else {
        rc = ngx_http_agntkey_admin_token(a, alcf->admin_tokens);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    if (alcf->admin_workspace == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_http_complex_value(r, alcf->admin_workspace, &a->who.pin)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!ngx_http_agntkey_record_workspace_valid(&a->who.pin)) {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_FORBIDDEN,
                             "workspace_missing",
                             "This location is kept to one workspace, and "
                             "the request belongs to none.", NULL);
    }

    return NGX_DECLINED;
}


/* All digests are compared, and each in constant time. */

static ngx_int_t
ngx_http_agntkey_admin_token(ngx_http_agntkey_admin_t *a, ngx_array_t *tokens)
{
    u_char                       *p, digest[NGX_HTTP_AGNTKEY_DIGEST_LEN];
    ngx_str_t                     text, challenge;
    ngx_uint_t                    i, found, given;
    ngx_http_request_t           *r;
    ngx_http_agntkey_loc_conf_t  *alcf;

    r = a->request;

    found = 0;
    given = (ngx_http_agntkey_credentials_bearer(r, &text)
             == NGX_HTTP_AGNTKEY_OK);

    if (given) {

        if (ngx_http_agntkey_token_digest(&text, digest) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        p = tokens->elts;

        for (i = 0; i < tokens->nelts; i++) {
            found |= ngx_http_agntkey_token_equal(digest, p);
            p += NGX_HTTP_AGNTKEY_DIGEST_LEN;
        }
    }

    if (found) {
        a->who.actor.data = ngx_pnalloc(r->pool, 8);
        if (a->who.actor.data == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        a->who.actor.len = 8;
        ngx_hex_dump(a->who.actor.data, digest, 4);

        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "agntkey: admin call refused: %s",
                  given ? "unknown token" : "no token");

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_module);

    challenge.data = ngx_pnalloc(r->pool,
                                 sizeof("Bearer realm=\"\", "
                                        "error=\"invalid_token\"")
                                 + alcf->realm.len);
    if (challenge.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    challenge.len = ngx_sprintf(challenge.data, "Bearer realm=\"%V\"%s",
                                &alcf->realm,
                                given ? ", error=\"invalid_token\"" : "")
                    - challenge.data;

    if (ngx_http_agntkey_answer_header(r, "WWW-Authenticate", &challenge)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (given) {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_UNAUTHORIZED,
                                 "token_unknown",
                                 "This admin token is not one of those that "
                                 "may call.", NULL);
    }

    return ngx_http_agntkey_answer_problem(r, NGX_HTTP_UNAUTHORIZED,
                             "token_missing",
                             "Send an admin token in the header "
                             "Authorization: Bearer <token>.", NULL);
}


/* NGX_DECLINED: a->route is set; otherwise the answer has been sent. */

static ngx_int_t
ngx_http_agntkey_admin_route(ngx_http_agntkey_admin_t *a)
{
    u_char                    *p;
    u_char                    *allow;
    ngx_str_t                  rest, value;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_agntkey_route_t  *route;

    r = a->request;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    rest.data = r->uri.data + ngx_min(clcf->name.len, r->uri.len);
    rest.len = r->uri.data + r->uri.len - rest.data;

    if (rest.len && rest.data[0] == '/'
        && clcf->name.data[clcf->name.len - 1] != '/')
    {
        rest.data++;
        rest.len--;
    }

    allow = ngx_pnalloc(r->pool, sizeof("GET, HEAD, PATCH, POST, PUT"));
    if (allow == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = allow;

    for (route = ngx_http_agntkey_routes; route->path; route++) {

        if (ngx_http_agntkey_admin_match(route->path, &rest, &a->segment)
            != NGX_OK)
        {
            continue;
        }

        if (route->method & r->method) {
            a->route = route;
            return NGX_DECLINED;
        }

        p = ngx_sprintf(p, "%s%s", p == allow ? "" : ", ",
                        (route->method & NGX_HTTP_GET) ? "GET, HEAD"
                        : (route->method & NGX_HTTP_PATCH) ? "PATCH"
                        : (route->method & NGX_HTTP_POST) ? "POST" : "PUT");
    }

    if (p == allow) {
        return ngx_http_agntkey_admin_not_found(a);
    }

    value.data = allow;
    value.len = p - allow;

    if (ngx_http_agntkey_answer_header(r, "Allow", &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_answer_problem(r, NGX_HTTP_NOT_ALLOWED,
                             "method_not_allowed",
                             "This path knows other methods only: see Allow.",
                             NULL);
}


static ngx_int_t
ngx_http_agntkey_admin_match(const char *path, ngx_str_t *rest,
    ngx_str_t *segment)
{
    u_char  *p, *last;

    p = rest->data;
    last = p + rest->len;

    for ( /* void */ ; *path; path++) {

        if (*path == '*') {
            segment->data = p;

            while (p < last && *p != '/') {
                p++;
            }

            segment->len = p - segment->data;

            if (segment->len == 0) {
                return NGX_DECLINED;
            }

            continue;
        }

        if (p == last || *p != (u_char) *path) {
            return NGX_DECLINED;
        }

        p++;
    }

    return (p == last) ? NGX_OK : NGX_DECLINED;
}


/* What can be said of the body before it is read; NGX_DECLINED: read it. */

static ngx_int_t
ngx_http_agntkey_admin_body(ngx_http_agntkey_admin_t *a)
{
    size_t               n;
    ngx_str_t           *type;
    ngx_http_request_t  *r;

    r = a->request;

    if (r->headers_in.content_length_n > NGX_HTTP_AGNTKEY_ADMIN_BODY) {
        return ngx_http_agntkey_answer_problem(r,
                             NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                             "body_too_large",
                             "A body has 16384 bytes at the most.", NULL);
    }

    if (r->headers_in.content_length_n <= 0 && !r->headers_in.chunked) {
        return NGX_DECLINED;
    }

    n = sizeof("application/json") - 1;
    type = r->headers_in.content_type ? &r->headers_in.content_type->value
                                      : NULL;

    if (type == NULL
        || type->len < n
        || ngx_strncasecmp(type->data, (u_char *) "application/json", n) != 0
        || (type->len > n && type->data[n] != ';' && type->data[n] != ' ')
        || ngx_http_agntkey_admin_encoded(r))
    {
        return ngx_http_agntkey_answer_problem(r,
                             NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                             "unsupported_media_type",
                             "The body must be application/json, without a "
                             "Content-Encoding.", NULL);
    }

    return NGX_DECLINED;
}


static ngx_uint_t
ngx_http_agntkey_admin_encoded(ngx_http_request_t *r)
{
    ngx_uint_t  hash;

    hash = ngx_hash_key((u_char *) "content-encoding",
                        sizeof("content-encoding") - 1);

    return ngx_http_agntkey_admin_header(r, hash, "content-encoding") != NULL;
}


static ngx_str_t *
ngx_http_agntkey_admin_header(ngx_http_request_t *r, ngx_uint_t hash,
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


static void
ngx_http_agntkey_admin_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_str_t                  text;
    ngx_http_agntkey_admin_t  *a;

    a = ngx_http_get_module_ctx(r, ngx_http_agntkey_filter_module);

    rc = ngx_http_agntkey_admin_body_text(r, &text);

    if (rc == NGX_OK) {
        rc = ngx_http_agntkey_admin_run(a, &text);

    } else if (rc == NGX_DECLINED) {
        rc = ngx_http_agntkey_answer_problem(r,
                             NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                             "body_too_large",
                             "A body has 16384 bytes at the most.", NULL);
    }

    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);
    }
}


/*
 * NGX_OK, NGX_DECLINED for a body that is too large, or NGX_HTTP_...; a small
 * body is in memory, unless client_body_buffer_size is smaller still.
 */

static ngx_int_t
ngx_http_agntkey_admin_body_text(ngx_http_request_t *r, ngx_str_t *text)
{
    u_char       *p;
    size_t        len;
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    ngx_str_null(text);

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    len = 0;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        len += ngx_buf_size(cl->buf);
    }

    if (len > NGX_HTTP_AGNTKEY_ADMIN_BODY) {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(r->pool, len + 1);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    text->data = p;
    text->len = len;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {

        b = cl->buf;
        len = ngx_buf_size(b);

        if (ngx_buf_in_memory(b)) {
            p = ngx_cpymem(p, b->pos, len);
            continue;
        }

        n = ngx_read_file(b->file, p, len, b->file_pos);

        if (n == NGX_ERROR || (size_t) n != len) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        p += n;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_admin_run(ngx_http_agntkey_admin_t *a, ngx_str_t *text)
{
    char       *code, *detail;
    ngx_int_t   rc;

    if (text->len == 0 && !a->route->body) {
        return a->route->handler(a);
    }

    rc = ngx_http_agntkey_json_read(a->request->pool, text, a->route->allowed,
                                    a->route->needed, a->now, &a->body,
                                    &code, &detail);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_agntkey_answer_problem(a->request,
                                               NGX_HTTP_BAD_REQUEST, code,
                                               detail, NULL);
    }

    return a->route->handler(a);
}


static ngx_int_t
ngx_http_agntkey_admin_create(ngx_http_agntkey_admin_t *a)
{
    u_char                   tag[NGX_HTTP_AGNTKEY_TAG_LEN];
    ngx_int_t                rc;
    ngx_http_request_t      *r;
    ngx_http_agntkey_new_t  *new;

    r = a->request;
    new = &a->new;

    if (!(a->body.present & NGX_HTTP_AGNTKEY_MEMBER_WORKSPACE)) {

        if (a->who.pin.len == 0) {
            return ngx_http_agntkey_answer_problem(r, NGX_HTTP_BAD_REQUEST,
                                     "missing_member",
                                     "The member \"workspace\" is missing.",
                                     NULL);
        }

        a->body.workspace = a->who.pin;
    }

    if (!ngx_http_agntkey_admin_within(a, &a->body.workspace)) {
        return ngx_http_agntkey_admin_not_found(a);
    }

    rc = ngx_http_agntkey_admin_idempotency(a);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    new->workspace = a->body.workspace;
    new->name = a->body.name;
    new->scopes = a->body.scopes;

    if ((a->body.present & NGX_HTTP_AGNTKEY_MEMBER_EXPIRES_AT)
        && a->body.expires_at != NGX_HTTP_AGNTKEY_NEVER
        && ngx_http_agntkey_admin_number(a, a->body.expires_at,
                                         &new->expires_at)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_agntkey_token_tag(&new->workspace, tag) != NGX_OK
        || ngx_http_agntkey_admin_mint(a, tag) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->writes = 1;

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_create(a->redis, &a->who, new,
                                       ngx_http_agntkey_admin_new_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_list(ngx_http_agntkey_admin_t *a)
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

    if (ngx_http_agntkey_query_parse(&r->args, names, values, buf, &bad)
        != NGX_OK)
    {
        return ngx_http_agntkey_admin_bad_query(a, names[bad], "");
    }

    ngx_memzero(&page, sizeof(ngx_http_agntkey_page_t));

    page.workspace = values[0].data ? values[0] : a->who.pin;

    if (!ngx_http_agntkey_record_workspace_valid(&page.workspace)) {
        return ngx_http_agntkey_admin_bad_query(a, "workspace",
                                            " must be given, and be a name.");
    }

    if (!ngx_http_agntkey_admin_within(a, &page.workspace)) {
        return ngx_http_agntkey_admin_not_found(a);
    }

    status = &values[1];

    if (status->data
        && !(status->len == 6 && ngx_strncmp(status->data, "active", 6) == 0)
        && !(status->len == 7 && ngx_strncmp(status->data, "revoked", 7) == 0)
        && !(status->len == 7 && ngx_strncmp(status->data, "expired", 7) == 0))
    {
        return ngx_http_agntkey_admin_bad_query(a, "status",
                                       " is active, revoked or expired.");
    }

    page.status = *status;

    if (ngx_http_agntkey_admin_limit(a, &values[2]) != NGX_OK) {
        return ngx_http_agntkey_admin_bad_query(a, "limit",
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

        if (!ngx_http_agntkey_admin_is_id(&page.after) || n == NGX_ERROR
            || *p != '.')
        {
            return ngx_http_agntkey_answer_problem(r, NGX_HTTP_BAD_REQUEST,
                                     "invalid_cursor",
                                     "The parameter \"cursor\" is not one "
                                     "that this API has given out.", NULL);
        }
    }

    if (ngx_http_agntkey_token_tag(&page.workspace, tag) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_list(a->redis, &page, tag,
                                      ngx_http_agntkey_admin_list_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_get(ngx_http_agntkey_admin_t *a)
{
    if (!ngx_http_agntkey_admin_is_id(&a->segment)) {
        return ngx_http_agntkey_admin_not_found(a);
    }

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_get(a->redis, &a->who,
                                       a->segment.data,
                                       ngx_http_agntkey_admin_row_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_change(ngx_http_agntkey_admin_t *a)
{
    ngx_http_agntkey_change_t  change;

    if (!ngx_http_agntkey_admin_is_id(&a->segment)) {
        return ngx_http_agntkey_admin_not_found(a);
    }

    if (a->body.present == 0) {
        return ngx_http_agntkey_answer_problem(a->request,
                             NGX_HTTP_BAD_REQUEST, "missing_member",
                             "Nothing to change: give \"name\", \"scopes\" or "
                             "\"expires_at\".", NULL);
    }

    ngx_memzero(&change, sizeof(ngx_http_agntkey_change_t));

    if (a->body.present & NGX_HTTP_AGNTKEY_MEMBER_NAME) {
        change.name = a->body.name;
    }

    if (a->body.present & NGX_HTTP_AGNTKEY_MEMBER_SCOPES) {
        change.scopes = a->body.scopes;
    }

    if (a->body.present & NGX_HTTP_AGNTKEY_MEMBER_EXPIRES_AT) {

        ngx_str_set(&change.expires_at, "");

        if (a->body.expires_at != NGX_HTTP_AGNTKEY_NEVER
            && ngx_http_agntkey_admin_number(a, a->body.expires_at,
                                             &change.expires_at)
               != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    a->writes = 1;

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_change(a->redis, &a->who,
                                       a->segment.data, &change,
                                       ngx_http_agntkey_admin_row_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_revoke(ngx_http_agntkey_admin_t *a)
{
    if (!ngx_http_agntkey_admin_is_id(&a->segment)) {
        return ngx_http_agntkey_admin_not_found(a);
    }

    a->writes = 1;

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_revoke(a->redis, &a->who,
                                       a->segment.data,
                                       ngx_http_agntkey_admin_row_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_rotate(ngx_http_agntkey_admin_t *a)
{
    int64_t    overlap;
    ngx_str_t  text;

    if (!ngx_http_agntkey_admin_is_id(&a->segment)) {
        return ngx_http_agntkey_admin_not_found(a);
    }

    overlap = (a->body.present & NGX_HTTP_AGNTKEY_MEMBER_OVERLAP)
              ? a->body.overlap : NGX_HTTP_AGNTKEY_ADMIN_OVERLAP;

    if (ngx_http_agntkey_admin_number(a, overlap * 1000, &text) != NGX_OK
        || ngx_http_agntkey_admin_mint(a, a->segment.data) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->new.name = a->body.name;
    a->writes = 1;

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_rotate(a->redis, &a->who,
                                       a->segment.data, &a->new, &text,
                                       ngx_http_agntkey_admin_new_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_workspaces(ngx_http_agntkey_admin_t *a)
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

    if (ngx_http_agntkey_query_parse(&r->args, names, values, buf, &bad)
        != NGX_OK)
    {
        return ngx_http_agntkey_admin_bad_query(a, names[bad], "");
    }

    if (ngx_http_agntkey_admin_limit(a, &values[0]) != NGX_OK) {
        return ngx_http_agntkey_admin_bad_query(a, "limit",
                                       " is a number from 1 to 100.");
    }

    cursor = &values[1];

    if (cursor->data && !ngx_http_agntkey_record_workspace_valid(cursor)) {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_BAD_REQUEST,
                                 "invalid_cursor",
                                 "The parameter \"cursor\" is not one that "
                                 "this API has given out.", NULL);
    }

    if (a->who.pin.len) {
        a->names = &a->who.pin;
        a->nnames = 1;

        return ngx_http_agntkey_admin_wait(a,
                   ngx_http_agntkey_registry_workspace_states(a->redis,
                                    a->names, a->nnames,
                                    ngx_http_agntkey_admin_states_handler, a));
    }

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_workspaces(a->redis, cursor, a->limit,
                                     ngx_http_agntkey_admin_names_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_workspace(ngx_http_agntkey_admin_t *a)
{
    if (!ngx_http_agntkey_record_workspace_valid(&a->segment)
        || !ngx_http_agntkey_admin_within(a, &a->segment))
    {
        return ngx_http_agntkey_admin_not_found(a);
    }

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_workspace_states(a->redis,
                                 &a->segment, 1,
                                 ngx_http_agntkey_admin_workspace_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_workspace_set(ngx_http_agntkey_admin_t *a)
{
    if (!ngx_http_agntkey_record_workspace_valid(&a->segment)
        || !ngx_http_agntkey_admin_within(a, &a->segment))
    {
        return ngx_http_agntkey_admin_not_found(a);
    }

    a->writes = 1;

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_workspace_set(a->redis, &a->who,
                                 &a->segment, a->body.active,
                                 ngx_http_agntkey_admin_workspace_handler, a));
}


static ngx_int_t
ngx_http_agntkey_admin_openapi(ngx_http_agntkey_admin_t *a)
{
    ngx_str_t  text;

    text.data = ngx_http_agntkey_openapi;
    text.len = sizeof(ngx_http_agntkey_openapi) - 1;

    return ngx_http_agntkey_answer_text(a->request, NGX_HTTP_OK, &text);
}


/* --- what the calls have in common */


static ngx_uint_t
ngx_http_agntkey_admin_within(ngx_http_agntkey_admin_t *a,
    ngx_str_t *workspace)
{
    return a->who.pin.len == 0
           || (a->who.pin.len == workspace->len
               && ngx_memcmp(a->who.pin.data, workspace->data, workspace->len)
                  == 0);
}


static ngx_int_t
ngx_http_agntkey_admin_limit(ngx_http_agntkey_admin_t *a, ngx_str_t *value)
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


static ngx_int_t
ngx_http_agntkey_admin_bad_query(ngx_http_agntkey_admin_t *a,
    const char *name, const char *rule)
{
    u_char  detail[128];

    if (name == NULL) {
        ngx_memcpy(detail, "There is a parameter that this call does not "
                           "know.", sizeof("There is a parameter that this "
                           "call does not know."));

    } else {
        *ngx_snprintf(detail, sizeof(detail) - 1, "The parameter \"%s\"%s",
                      name, *rule ? rule : " is there twice, or badly "
                                           "encoded.") = '\0';
    }

    return ngx_http_agntkey_answer_problem(a->request, NGX_HTTP_BAD_REQUEST,
                                           "invalid_query", (char *) detail,
                                           NULL);
}


static ngx_int_t
ngx_http_agntkey_admin_number(ngx_http_agntkey_admin_t *a, int64_t n,
    ngx_str_t *text)
{
    text->data = ngx_pnalloc(a->request->pool, NGX_INT64_LEN);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    text->len = ngx_sprintf(text->data, "%L", n) - text->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_admin_mint(ngx_http_agntkey_admin_t *a, u_char *tag)
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
    cln->handler = ngx_http_agntkey_admin_wipe;

    if (ngx_http_agntkey_token_mint(prefix, tag, a->key.data) != NGX_OK
        || ngx_http_agntkey_token_digest(&a->key, digest) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "agntkey: OpenSSL made no key");
        return NGX_ERROR;
    }

    ngx_memcpy(a->new.id, a->key.data + prefix->len + 1,
               NGX_HTTP_AGNTKEY_ID_LEN);
    ngx_hex_dump(a->new.digest, digest, NGX_HTTP_AGNTKEY_DIGEST_LEN);

    return NGX_OK;
}


static void
ngx_http_agntkey_admin_wipe(void *data)
{
    ngx_str_t  *text = data;

    ngx_explicit_memzero(text->data, text->len);
}


/* NGX_DECLINED: go on; otherwise the answer has been sent. */

static ngx_int_t
ngx_http_agntkey_admin_idempotency(ngx_http_agntkey_admin_t *a)
{
    u_char               digest[NGX_HTTP_AGNTKEY_DIGEST_LEN];
    size_t               i;
    ngx_str_t           *value, *hex;
    ngx_uint_t           hash;
    ngx_http_request_t  *r;

    r = a->request;

    hash = ngx_hash_key((u_char *) "idempotency-key",
                        sizeof("idempotency-key") - 1);

    value = ngx_http_agntkey_admin_header(r, hash, "idempotency-key");
    if (value == NULL) {
        return NGX_DECLINED;
    }

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < 0x21 || value->data[i] > 0x7e) {
            break;
        }
    }

    if (i == 0 || i > 255 || i < value->len) {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_BAD_REQUEST,
                                 "invalid_idempotency_key",
                                 "Idempotency-Key has 1 to 255 visible "
                                 "characters of ASCII.", NULL);
    }

    hex = &a->new.idempotency;

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


/* Returns NGX_AGAIN, or what came of an answer when nothing could be sent. */

static ngx_int_t
ngx_http_agntkey_admin_wait(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_call_t *call)
{
    ngx_http_cleanup_t  *cln;
    ngx_http_request_t  *r;

    r = a->request;

    if (call == NULL) {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                 "store_unavailable",
                                 "Redis cannot be reached. Nothing was "
                                 "changed.", NULL);
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        ngx_http_agntkey_registry_cancel(call);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->call = call;
    cln->handler = ngx_http_agntkey_admin_cleanup;
    cln->data = a;

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_AGAIN;
}


static void
ngx_http_agntkey_admin_cleanup(void *data)
{
    ngx_http_agntkey_admin_t  *a = data;

    if (a->call) {
        ngx_http_agntkey_registry_cancel(a->call);
        a->call = NULL;
    }
}


/* The end of every call that has waited. */

static void
ngx_http_agntkey_admin_done(ngx_http_agntkey_admin_t *a, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = a->request->connection;

    ngx_http_finalize_request(a->request, rc);
    ngx_http_run_posted_requests(c);
}


/*
 * NGX_DECLINED: the replies are there and none is an error; otherwise the
 * answer has been sent.  Of a write nobody knows the fate of, the answer says
 * so: repeating it is safe.
 */

static ngx_int_t
ngx_http_agntkey_admin_trouble(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n)
{
    u_char               buf[128];
    ngx_str_t            text, *s;
    ngx_uint_t           i, unknown;
    ngx_http_request_t  *r;

    r = a->request;
    a->call = NULL;
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

        ngx_http_agntkey_resp_error_text(replies[i], buf, &text);

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "agntkey: Redis answered an admin call with: %V", &text);

        /*
         * A script that has begun to write and then fails is not undone; a
         * Redis that is full stops it before it begins.
         */

        s = &replies[i]->str;

        unknown = ngx_strnstr(s->data, "script", s->len) != NULL
                  && !(s->len > 3 && ngx_strncmp(s->data, "OOM", 3) == 0);

    } else if (rc != NGX_HTTP_AGNTKEY_REDIS_UNSENT) {
        unknown = 1;
    }

    if (unknown && a->writes) {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                 "store_unknown",
                                 "Redis did not say whether it has done this. "
                                 "Look, or repeat the call.", NULL);
    }

    return ngx_http_agntkey_answer_problem(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                             "store_unavailable",
                             a->writes ? "Redis cannot do this now. Nothing "
                                         "was changed."
                                       : "Redis cannot be asked now.", NULL);
}


static void
ngx_http_agntkey_admin_row_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                  answer;
    ngx_http_agntkey_json_t   *object;
    ngx_http_agntkey_admin_t  *a = data;

    answer = ngx_http_agntkey_admin_trouble(a, rc, replies, n);

    if (answer == NGX_DECLINED) {

        if (replies[0]->type == NGX_HTTP_AGNTKEY_RESP_NIL) {
            answer = ngx_http_agntkey_admin_not_found(a);

        } else {
            object = ngx_http_agntkey_admin_row(a, &a->segment, replies[0],
                                                NULL);
            answer = object
                     ? ngx_http_agntkey_answer_json(a->request, NGX_HTTP_OK,
                                                    object)
                     : ngx_http_agntkey_admin_odd(a);
        }
    }

    ngx_http_agntkey_admin_done(a, answer);
}


static void
ngx_http_agntkey_admin_new_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                  answer;
    ngx_http_agntkey_admin_t  *a = data;

    answer = ngx_http_agntkey_admin_trouble(a, rc, replies, n);

    if (answer == NGX_DECLINED) {
        answer = ngx_http_agntkey_admin_made(a, replies[n - 1]);
    }

    ngx_http_agntkey_admin_done(a, answer);
}


static ngx_int_t
ngx_http_agntkey_admin_made(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_str_t            id, *what;
    ngx_http_request_t  *r;

    r = a->request;

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_NIL) {
        return ngx_http_agntkey_admin_not_found(a);
    }

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts == 0
        || reply->elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        return ngx_http_agntkey_admin_odd(a);
    }

    what = &reply->elts[0]->str;

    if (reply->nelts == 2 && what->len == 2
        && ngx_strncmp(what->data, "ok", 2) == 0)
    {
        id.data = a->new.id;
        id.len = NGX_HTTP_AGNTKEY_ID_LEN;

        return ngx_http_agntkey_admin_show_key(a, &id, reply->elts[1]);
    }

    if (reply->nelts == 2 && what->len == 6
        && ngx_strncmp(what->data, "repeat", 6) == 0
        && reply->elts[1]->type == NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_CONFLICT,
                                 "idempotency_conflict",
                                 "A key was made for this Idempotency-Key "
                                 "before, and is not shown again.",
                                 &reply->elts[1]->str);
    }

    if (what->len == 7 && ngx_strncmp(what->data, "revoked", 7) == 0) {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_CONFLICT,
                                 "key_revoked",
                                 "A revoked key cannot be rotated: create "
                                 "another.", NULL);
    }

    if (what->len == 7 && ngx_strncmp(what->data, "expired", 7) == 0) {
        return ngx_http_agntkey_answer_problem(r, NGX_HTTP_CONFLICT,
                                 "key_expired",
                                 "An expired key cannot be rotated: create "
                                 "another.", NULL);
    }

    /* "taken": 8 random digits have met 8 others in one of 218 trillions */

    return ngx_http_agntkey_answer_problem(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                             "store_unavailable",
                             "The id was taken. Nothing was changed.", NULL);
}


/*
 * The one answer that shows a key.  jansson keeps copies of what it is given,
 * so it is given as many zeros, and the key takes their place in the text.
 */

static ngx_int_t
ngx_http_agntkey_admin_show_key(ngx_http_agntkey_admin_t *a, ngx_str_t *id,
    ngx_http_agntkey_reply_t *row)
{
    u_char                    *p;
    u_char                     zeros[NGX_HTTP_AGNTKEY_KEY_MAX];
    ngx_str_t                  blank, text, location, *name;
    ngx_pool_cleanup_t        *cln;
    ngx_http_request_t        *r;
    ngx_http_agntkey_json_t   *object;
    ngx_http_core_loc_conf_t  *clcf;

    r = a->request;

    ngx_memset(zeros, '0', sizeof(zeros));
    blank.data = zeros;
    blank.len = a->key.len;

    object = ngx_http_agntkey_admin_row(a, id, row, &blank);
    if (object == NULL) {
        return ngx_http_agntkey_admin_odd(a);
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_str_t));
    if (cln == NULL) {
        ngx_http_agntkey_json_drop(object);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_agntkey_json_text(r->pool, object, &text) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *(ngx_str_t *) cln->data = text;
    cln->handler = ngx_http_agntkey_admin_wipe;

    p = ngx_strnstr(text.data, "\"key\":\"", text.len);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(p + sizeof("\"key\":\"") - 1, a->key.data, a->key.len);

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    name = &clcf->name;

    location.data = ngx_pnalloc(r->pool, name->len + sizeof("/keys/")
                                         + id->len);
    if (location.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    location.len = ngx_sprintf(location.data, "%V%skeys/%V", name,
                               name->data[name->len - 1] == '/' ? "" : "/", id)
                   - location.data;

    if (ngx_http_agntkey_answer_header(r, "Location", &location) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_answer_text(r, NGX_HTTP_CREATED, &text);
}


static void
ngx_http_agntkey_admin_list_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                  answer;
    ngx_http_agntkey_admin_t  *a = data;

    answer = ngx_http_agntkey_admin_trouble(a, rc, replies, n);

    if (answer == NGX_DECLINED) {
        answer = ngx_http_agntkey_admin_page(a, replies[0]);
    }

    ngx_http_agntkey_admin_done(a, answer);
}


static ngx_int_t
ngx_http_agntkey_admin_page(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_reply_t *reply)
{
    u_char                      buf[64];
    ngx_str_t                   cursor;
    ngx_uint_t                  i;
    ngx_http_agntkey_json_t    *list, *object;
    ngx_http_agntkey_reply_t  **elts, *rows;

    elts = reply->elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 3
        || elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[0]->str.len > NGX_HTTP_AGNTKEY_ID_LEN
        || elts[1]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[1]->str.len > NGX_INT64_LEN
        || elts[2]->type != NGX_HTTP_AGNTKEY_RESP_ARRAY)
    {
        return ngx_http_agntkey_admin_odd(a);
    }

    list = ngx_http_agntkey_json_list();
    if (list == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rows = elts[2];

    for (i = 0; i + 1 < rows->nelts; i += 2) {

        if (rows->elts[i]->type != NGX_HTTP_AGNTKEY_RESP_STRING) {
            continue;
        }

        object = ngx_http_agntkey_admin_row(a, &rows->elts[i]->str,
                                            rows->elts[i + 1], NULL);

        /* a record that makes no sense has been logged, and hides nobody */

        if (object
            && ngx_http_agntkey_json_append(list, object) != NGX_OK)
        {
            ngx_http_agntkey_json_drop(list);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (elts[0]->str.len) {
        cursor.data = buf;
        cursor.len = ngx_sprintf(buf, "%V.%V", &elts[0]->str, &elts[1]->str)
                     - buf;

        if (ngx_http_agntkey_json_cursor(list, &cursor) != NGX_OK) {
            ngx_http_agntkey_json_drop(list);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_agntkey_answer_json(a->request, NGX_HTTP_OK, list);
}


static void
ngx_http_agntkey_admin_names_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                  answer;
    ngx_http_agntkey_admin_t  *a = data;

    answer = ngx_http_agntkey_admin_trouble(a, rc, replies, n);

    if (answer == NGX_DECLINED) {
        answer = ngx_http_agntkey_admin_names(a, replies[0]);
    }

    if (answer != NGX_AGAIN) {
        ngx_http_agntkey_admin_done(a, answer);
    }
}


/* The names are here; now for what is known of each. */

static ngx_int_t
ngx_http_agntkey_admin_names(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_str_t   *one;
    ngx_uint_t   i;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY) {
        return ngx_http_agntkey_admin_odd(a);
    }

    a->more = (reply->nelts > a->limit);
    a->nnames = 0;
    a->names = ngx_palloc(a->request->pool,
                          (a->limit + 1) * sizeof(ngx_str_t));
    if (a->names == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (i = 0; i < reply->nelts && i < a->limit; i++) {

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

    if (a->nnames == 0) {
        return ngx_http_agntkey_answer_json(a->request, NGX_HTTP_OK,
                                            ngx_http_agntkey_json_list());
    }

    return ngx_http_agntkey_admin_wait(a,
               ngx_http_agntkey_registry_workspace_states(a->redis, a->names,
                                    a->nnames,
                                    ngx_http_agntkey_admin_states_handler, a));
}


static void
ngx_http_agntkey_admin_states_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t **replies, ngx_uint_t n)
{
    ngx_int_t                  answer;
    ngx_http_agntkey_admin_t  *a = data;

    answer = ngx_http_agntkey_admin_trouble(a, rc, replies, n);

    if (answer == NGX_DECLINED) {
        answer = ngx_http_agntkey_admin_states(a, replies, n);
    }

    ngx_http_agntkey_admin_done(a, answer);
}


static ngx_int_t
ngx_http_agntkey_admin_states(ngx_http_agntkey_admin_t *a,
    ngx_http_agntkey_reply_t **replies, ngx_uint_t n)
{
    ngx_uint_t                i;
    ngx_http_agntkey_json_t  *list, *object;

    list = ngx_http_agntkey_json_list();
    if (list == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (i = 0; 2 * i + 1 < n; i++) {

        object = ngx_http_agntkey_admin_state(&a->names[i], replies[2 * i],
                                              replies[2 * i + 1]);

        /* a name whose first key was never made */

        if (object
            && ngx_http_agntkey_json_append(list, object) != NGX_OK)
        {
            ngx_http_agntkey_json_drop(list);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (a->more
        && ngx_http_agntkey_json_cursor(list, &a->names[a->nnames - 1])
           != NGX_OK)
    {
        ngx_http_agntkey_json_drop(list);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_answer_json(a->request, NGX_HTTP_OK, list);
}


static void
ngx_http_agntkey_admin_workspace_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t **replies,
    ngx_uint_t n)
{
    ngx_int_t                  answer;
    ngx_http_agntkey_json_t   *object;
    ngx_http_agntkey_reply_t  *reply;
    ngx_http_agntkey_admin_t  *a = data;

    answer = ngx_http_agntkey_admin_trouble(a, rc, replies, n);

    if (answer == NGX_DECLINED) {

        reply = replies[0];

        if (n == 2) {
            object = ngx_http_agntkey_admin_state(&a->segment, reply,
                                                  replies[1]);

        } else if (reply->type == NGX_HTTP_AGNTKEY_RESP_ARRAY
                   && reply->nelts == 3)
        {
            object = ngx_http_agntkey_admin_state(&a->segment, reply,
                                                  reply->elts[2]);

        } else {
            object = NULL;
        }

        answer = object ? ngx_http_agntkey_answer_json(a->request, NGX_HTTP_OK,
                                                       object)
                        : ngx_http_agntkey_admin_not_found(a);
    }

    ngx_http_agntkey_admin_done(a, answer);
}


/* NULL when there is no such workspace, or no memory. */

static ngx_http_agntkey_json_t *
ngx_http_agntkey_admin_state(ngx_str_t *name, ngx_http_agntkey_reply_t *reply,
    ngx_http_agntkey_reply_t *keys)
{
    off_t                       created_at;
    ngx_uint_t                  active;
    ngx_http_agntkey_reply_t  **elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts < 2
        || keys->type != NGX_HTTP_AGNTKEY_RESP_INTEGER)
    {
        return NULL;
    }

    elts = reply->elts;

    if (elts[0]->type == NGX_HTTP_AGNTKEY_RESP_NIL
        && elts[1]->type == NGX_HTTP_AGNTKEY_RESP_NIL)
    {
        return NULL;
    }

    active = (elts[0]->type == NGX_HTTP_AGNTKEY_RESP_STRING
              && elts[0]->str.len == 1 && elts[0]->str.data[0] == '1');

    created_at = 0;

    if (elts[1]->type == NGX_HTTP_AGNTKEY_RESP_STRING
        && elts[1]->str.len <= 15)
    {
        created_at = ngx_atoof(elts[1]->str.data, elts[1]->str.len);
    }

    return ngx_http_agntkey_json_workspace(name, active,
                                           created_at > 0 ? created_at : 0,
                                           keys->integer);
}


/* NULL for a row that makes no sense, which is logged, and without memory. */

static ngx_http_agntkey_json_t *
ngx_http_agntkey_admin_row(ngx_http_agntkey_admin_t *a, ngx_str_t *id,
    ngx_http_agntkey_reply_t *row, ngx_str_t *key)
{
    off_t                          used;
    ngx_str_t                      fields[NGX_HTTP_AGNTKEY_ROW];
    ngx_uint_t                     i, bad;
    ngx_http_agntkey_shown_t       shown;
    ngx_http_agntkey_main_conf_t  *amcf;

    if (row->type != NGX_HTTP_AGNTKEY_RESP_ARRAY
        || row->nelts != NGX_HTTP_AGNTKEY_ROW
        || id->len != NGX_HTTP_AGNTKEY_ID_LEN)
    {
        return NULL;
    }

    for (i = 0; i < NGX_HTTP_AGNTKEY_ROW; i++) {

        ngx_str_null(&fields[i]);

        if (row->elts[i]->type == NGX_HTTP_AGNTKEY_RESP_STRING) {
            fields[i] = row->elts[i]->str;
        }
    }

    bad = 0;

    if (ngx_http_agntkey_record_parse(fields, &shown.record, &bad) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, a->request->connection->log, 0,
                      "agntkey: the record of key \"%V\" in Redis "
                      "has a bad field \"%V\"",
                      id, &ngx_http_agntkey_record_fields[bad]);
        return NULL;
    }

    amcf = ngx_http_get_module_main_conf(a->request, ngx_http_agntkey_module);

    shown.id = *id;
    shown.prefix = amcf->prefix;

    used = 0;

    if (fields[NGX_HTTP_AGNTKEY_FIELDS].len <= 15) {
        used = ngx_atoof(fields[NGX_HTTP_AGNTKEY_FIELDS].data,
                         fields[NGX_HTTP_AGNTKEY_FIELDS].len);
    }

    shown.last_used_at = (used > 0) ? used : 0;

    return ngx_http_agntkey_json_key(&shown, a->now, key);
}


static ngx_uint_t
ngx_http_agntkey_admin_is_id(ngx_str_t *id)
{
    size_t  i;

    if (id->len != NGX_HTTP_AGNTKEY_ID_LEN) {
        return 0;
    }

    for (i = 0; i < id->len; i++) {
        if (!((id->data[i] >= '0' && id->data[i] <= '9')
              || (id->data[i] >= 'a' && id->data[i] <= 'z')
              || (id->data[i] >= 'A' && id->data[i] <= 'Z')))
        {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_http_agntkey_admin_not_found(ngx_http_agntkey_admin_t *a)
{
    return ngx_http_agntkey_answer_problem(a->request, NGX_HTTP_NOT_FOUND,
                                           "not_found",
                                           "There is nothing here.", NULL);
}


/* What Redis holds, or says, is not what this API would have written. */

static ngx_int_t
ngx_http_agntkey_admin_odd(ngx_http_agntkey_admin_t *a)
{
    ngx_log_error(NGX_LOG_ERR, a->request->connection->log, 0,
                  "agntkey: Redis holds something odd");

    return ngx_http_agntkey_answer_problem(a->request,
                             NGX_HTTP_INTERNAL_SERVER_ERROR, "internal",
                             "What Redis holds makes no sense: see the error "
                             "log.", NULL);
}


/* --- configuration */


char *
ngx_http_agntkey_admin_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                          *rv;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_agntkey_loc_conf_t   *alcf = conf;
    ngx_http_agntkey_main_conf_t  *amcf;

    rv = ngx_conf_set_flag_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK || !alcf->admin) {
        return rv;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

#if (NGX_PCRE)
    if (clcf->regex) {
        return "stands in a prefix location only";
    }
#endif

    if (clcf->exact_match || clcf->named || clcf->name.len == 0) {
        return "stands in a prefix location only";
    }

    clcf->handler = ngx_http_agntkey_admin_handler;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);
    amcf->enabled = 1;

    return NGX_CONF_OK;
}


/* Digests, one a line, "#" comments; the tokens themselves are nowhere. */

char *
ngx_http_agntkey_admin_token_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    u_char                       *buf;
    ssize_t                       n;
    ngx_fd_t                      fd;
    ngx_str_t                    *value;
    ngx_http_agntkey_loc_conf_t  *alcf = conf;

    if (alcf->admin_tokens_off != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        alcf->admin_tokens_off = 1;
        return NGX_CONF_OK;
    }

    alcf->admin_tokens_off = 0;
    alcf->admin_tokens = ngx_array_create(cf->pool, 4,
                                          NGX_HTTP_AGNTKEY_DIGEST_LEN);
    buf = ngx_palloc(cf->temp_pool, NGX_HTTP_AGNTKEY_ADMIN_TOKENS + 1);

    if (alcf->admin_tokens == NULL || buf == NULL
        || ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    fd = ngx_open_file(value[1].data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\": " ngx_open_file_n " \"%V\" failed",
                           &cmd->name, &value[1]);
        return NGX_CONF_ERROR;
    }

    n = ngx_read_fd(fd, buf, NGX_HTTP_AGNTKEY_ADMIN_TOKENS + 1);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\": " ngx_read_fd_n " \"%V\" failed",
                           &cmd->name, &value[1]);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", &value[1]);
    }

    if (n == -1) {
        return NGX_CONF_ERROR;
    }

    if (n > NGX_HTTP_AGNTKEY_ADMIN_TOKENS) {
        return "has a file of more than 64 KB";
    }

    return ngx_http_agntkey_admin_digests(cf, buf, buf + n,
                                          alcf->admin_tokens);
}


static char *
ngx_http_agntkey_admin_digests(ngx_conf_t *cf, u_char *p, u_char *last,
    ngx_array_t *tokens)
{
    u_char      *end, *digest;
    ngx_int_t    n;
    ngx_uint_t   i;

    for ( /* void */ ; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, LF);
        if (end == NULL) {
            end = last;
        }

        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }

        if (p == end || *p == '#' || *p == CR) {
            continue;
        }

        digest = ngx_array_push(tokens);
        if (digest == NULL) {
            return NGX_CONF_ERROR;
        }

        for (i = 0; i < NGX_HTTP_AGNTKEY_DIGEST_LEN; i++) {

            n = (end - p < 2) ? NGX_ERROR : ngx_hextoi(p, 2);
            if (n == NGX_ERROR) {
                return "has a line in its file that is no SHA-256 in hex";
            }

            digest[i] = (u_char) n;
            p += 2;
        }

        while (p < end && (*p == ' ' || *p == '\t' || *p == CR)) {
            p++;
        }

        if (p < end && *p != '#') {
            return "has a line in its file that is no SHA-256 in hex";
        }
    }

    if (tokens->nelts == 0) {
        return "has a file without a digest";
    }

    return NGX_CONF_OK;
}
