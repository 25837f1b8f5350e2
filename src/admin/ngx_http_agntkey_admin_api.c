
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_admin_api.h"
#include "ngx_http_agntkey_admin_auth.h"
#include "ngx_http_agntkey_admin_call.h"
#include "ngx_http_agntkey_admin_conf.h"
#include "ngx_http_agntkey_admin_keys.h"
#include "ngx_http_agntkey_admin_response.h"
#include "ngx_http_agntkey_admin_workspaces.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_module.h"


/* of a body, bytes */
#define NGX_HTTP_AGNTKEY_ADMIN_BODY   16384

#define NGX_HTTP_AGNTKEY_ADMIN_READ   (NGX_HTTP_GET|NGX_HTTP_HEAD)


struct ngx_http_agntkey_route_s {
    const char   *path;            /* "*" stands for one segment */
    ngx_uint_t    method;
    ngx_uint_t    allowed;         /* members of the body */
    ngx_uint_t    needed;
    unsigned      body:1;          /* it must have one */
    unsigned      query:1;         /* it may have one, and looks at it */
    ngx_int_t   (*handler)(ngx_http_agntkey_admin_call_t *a);
};


static ngx_int_t ngx_http_agntkey_admin_api_route(
    ngx_http_agntkey_admin_call_t *a);
static ngx_int_t ngx_http_agntkey_admin_api_match(const char *path,
    ngx_str_t *rest, ngx_str_t *path_id);
static ngx_int_t ngx_http_agntkey_admin_api_body(
    ngx_http_agntkey_admin_call_t *a);
static ngx_uint_t ngx_http_agntkey_admin_api_encoded(ngx_http_request_t *r);
static void ngx_http_agntkey_admin_api_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_agntkey_admin_api_body_text(ngx_http_request_t *r,
    ngx_str_t *text);
static ngx_int_t ngx_http_agntkey_admin_api_run(
    ngx_http_agntkey_admin_call_t *a, ngx_str_t *text);
static ngx_int_t ngx_http_agntkey_admin_api_openapi(
    ngx_http_agntkey_admin_call_t *a);


static ngx_http_agntkey_route_t  ngx_http_agntkey_routes[] = {

    { "keys", NGX_HTTP_POST,
      NGX_HTTP_AGNTKEY_BODY_WORKSPACE|NGX_HTTP_AGNTKEY_BODY_NAME
      |NGX_HTTP_AGNTKEY_BODY_SCOPES|NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT,
      NGX_HTTP_AGNTKEY_BODY_NAME, 1, 0,
      ngx_http_agntkey_admin_keys_create },

    { "keys", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0, 1,
      ngx_http_agntkey_admin_keys_list },

    { "keys/*", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0, 0,
      ngx_http_agntkey_admin_keys_get },

    { "keys/*", NGX_HTTP_PATCH,
      NGX_HTTP_AGNTKEY_BODY_NAME|NGX_HTTP_AGNTKEY_BODY_SCOPES
      |NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT, 0, 1, 0,
      ngx_http_agntkey_admin_keys_change },

    { "keys/*/revoke", NGX_HTTP_POST, 0, 0, 0, 0,
      ngx_http_agntkey_admin_keys_revoke },

    { "keys/*/rotate", NGX_HTTP_POST,
      NGX_HTTP_AGNTKEY_BODY_NAME|NGX_HTTP_AGNTKEY_BODY_OVERLAP, 0, 0, 0,
      ngx_http_agntkey_admin_keys_rotate },

    { "workspaces", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0, 1,
      ngx_http_agntkey_admin_workspaces_list },

    { "workspaces/*", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0, 0,
      ngx_http_agntkey_admin_workspaces_get },

    { "workspaces/*", NGX_HTTP_PUT, NGX_HTTP_AGNTKEY_BODY_STATUS,
      NGX_HTTP_AGNTKEY_BODY_STATUS, 1, 0,
      ngx_http_agntkey_admin_workspaces_set },

    { "openapi.json", NGX_HTTP_AGNTKEY_ADMIN_READ, 0, 0, 0, 0,
      ngx_http_agntkey_admin_api_openapi },

    { NULL, 0, 0, 0, 0, 0, NULL }
};


/* docs/openapi.json */

#include "ngx_http_agntkey_openapi.inc"


ngx_int_t
ngx_http_agntkey_admin_api_handler(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_time_t                     *tp;
    ngx_http_agntkey_admin_call_t  *a;
    ngx_http_agntkey_main_conf_t   *amcf;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "agntkey admin handler: %V %V", &r->method_name, &r->uri);

    /* nginx asks no access module about a subrequest: nothing guards it */

    if (r != r->main) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "agntkey: admin call refused: subrequest");
        return NGX_HTTP_NOT_FOUND;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);

    a = ngx_pcalloc(r->pool, sizeof(ngx_http_agntkey_admin_call_t));

    if (a == NULL || amcf->worker == NULL || amcf->worker->admin == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    tp = ngx_timeofday();

    a->request = r;
    a->worker = amcf->worker;
    a->now = (int64_t) tp->sec * 1000 + tp->msec;
    a->begun = ngx_http_agntkey_clock();

    rc = ngx_http_agntkey_admin_auth_caller(a);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    rc = ngx_http_agntkey_admin_api_route(a);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (!a->route->query && r->args.len) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_BAD_REQUEST,
                                 "invalid_query",
                                 "This call takes no parameters.", NULL);
    }

    if (a->route->method & NGX_HTTP_AGNTKEY_ADMIN_READ) {

        rc = ngx_http_discard_request_body(r);
        if (rc != NGX_OK) {
            return rc;
        }

        rc = a->route->handler(a);

        if (rc == NGX_DONE) {
            r->main->count++;
        }

        return rc;
    }

    rc = ngx_http_agntkey_admin_api_body(a);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ngx_http_set_ctx(r, a, ngx_http_agntkey_admin_module);

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r,
                                       ngx_http_agntkey_admin_api_body_handler);

    return (rc >= NGX_HTTP_SPECIAL_RESPONSE) ? rc : NGX_DONE;
}


/* NGX_DECLINED: a->route is set; otherwise the answer has been sent. */

static ngx_int_t
ngx_http_agntkey_admin_api_route(ngx_http_agntkey_admin_call_t *a)
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

    if (rest.len && clcf->name.data[clcf->name.len - 1] != '/') {

        /* "location /agntkey" also takes "/agntkeys" */

        if (rest.data[0] != '/') {
            return ngx_http_agntkey_admin_call_not_found(a);
        }

        rest.data++;
        rest.len--;
    }

    allow = ngx_pnalloc(r->pool, sizeof("GET, HEAD, PATCH, POST, PUT"));
    if (allow == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = allow;

    for (route = ngx_http_agntkey_routes; route->path; route++) {

        if (ngx_http_agntkey_admin_api_match(route->path, &rest, &a->path_id)
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
        return ngx_http_agntkey_admin_call_not_found(a);
    }

    value.data = allow;
    value.len = p - allow;

    if (ngx_http_agntkey_admin_response_header(r, "Allow", &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_NOT_ALLOWED,
                             "method_not_allowed",
                             "This path knows other methods only: see Allow.",
                             NULL);
}


static ngx_int_t
ngx_http_agntkey_admin_api_match(const char *path, ngx_str_t *rest,
    ngx_str_t *path_id)
{
    u_char  *p, *last;

    p = rest->data;
    last = p + rest->len;

    for ( /* void */ ; *path; path++) {

        if (*path == '*') {
            path_id->data = p;

            while (p < last && *p != '/') {
                p++;
            }

            path_id->len = p - path_id->data;

            if (path_id->len == 0) {
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
ngx_http_agntkey_admin_api_body(ngx_http_agntkey_admin_call_t *a)
{
    size_t               n;
    ngx_str_t           *type;
    ngx_http_request_t  *r;

    r = a->request;

    if (r->headers_in.content_length_n > NGX_HTTP_AGNTKEY_ADMIN_BODY) {
        return ngx_http_agntkey_admin_response_problem(r,
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
        || ngx_http_agntkey_admin_api_encoded(r))
    {
        return ngx_http_agntkey_admin_response_problem(r,
                             NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                             "unsupported_media_type",
                             "The body must be application/json, without a "
                             "Content-Encoding.", NULL);
    }

    return NGX_DECLINED;
}


static ngx_uint_t
ngx_http_agntkey_admin_api_encoded(ngx_http_request_t *r)
{
    ngx_uint_t  hash;

    hash = ngx_hash_key((u_char *) "content-encoding",
                        sizeof("content-encoding") - 1);

    return ngx_http_agntkey_admin_call_header(r, hash,
                                              "content-encoding") != NULL;
}


static void
ngx_http_agntkey_admin_api_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_str_t                       text;
    ngx_http_agntkey_admin_call_t  *a;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "agntkey admin body");

    a = ngx_http_get_module_ctx(r, ngx_http_agntkey_admin_module);

    rc = ngx_http_agntkey_admin_api_body_text(r, &text);

    if (rc == NGX_OK) {
        rc = ngx_http_agntkey_admin_api_run(a, &text);

    } else if (rc == NGX_DECLINED) {
        rc = ngx_http_agntkey_admin_response_problem(r,
                             NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                             "body_too_large",
                             "A body has 16384 bytes at the most.", NULL);
    }

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


/*
 * NGX_OK, NGX_DECLINED for a body that is too large, or NGX_HTTP_...; a small
 * body is in memory, unless client_body_buffer_size is smaller still.
 */

static ngx_int_t
ngx_http_agntkey_admin_api_body_text(ngx_http_request_t *r, ngx_str_t *text)
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

        if (len == 0) {

            /* a chunked body may end with a buffer that is only a mark */

            continue;
        }

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
ngx_http_agntkey_admin_api_run(ngx_http_agntkey_admin_call_t *a,
    ngx_str_t *text)
{
    char       *code, *detail;
    int64_t     after;
    ngx_int_t   rc;

    if (text->len == 0 && !a->route->body) {
        return a->route->handler(a);
    }

    /* a new key that has expired is a mistake; an old one may be ended */

    after = (a->route->method & NGX_HTTP_PATCH) ? 0 : a->now;

    rc = ngx_http_agntkey_admin_json_read(a->request->pool, text,
                                          a->route->allowed, a->route->needed,
                                          after, &a->body, &code, &detail);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_agntkey_admin_response_problem(a->request,
                                                       NGX_HTTP_BAD_REQUEST,
                                                       code, detail, NULL);
    }

    return a->route->handler(a);
}


static ngx_int_t
ngx_http_agntkey_admin_api_openapi(ngx_http_agntkey_admin_call_t *a)
{
    return ngx_http_agntkey_admin_response_text(a->request, NGX_HTTP_OK,
                                                &ngx_http_agntkey_openapi);
}
