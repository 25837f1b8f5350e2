
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_admin_response.h"
#include "ngx_http_agntkey_response_header.h"


typedef struct {
    const char   *code;
    const char   *title;
} ngx_http_agntkey_title_t;


/* a title belongs to the type (RFC 9457, section 3.1.4), so to the code */

static ngx_http_agntkey_title_t  ngx_http_agntkey_titles[] = {
    { "invalid_json", "Invalid JSON" },
    { "unknown_member", "Unknown member" },
    { "missing_member", "Missing member" },
    { "invalid_member", "Invalid member" },
    { "invalid_query", "Invalid query" },
    { "invalid_cursor", "Invalid cursor" },
    { "invalid_idempotency_key", "Invalid Idempotency-Key" },
    { "token_missing", "No admin token" },
    { "token_unknown", "Unknown admin token" },
    { "workspace_missing", "No workspace" },
    { "not_found", "Not found" },
    { "method_not_allowed", "Method not allowed" },
    { "idempotency_conflict", "Already created" },
    { "key_revoked", "Revoked key" },
    { "key_expired", "Expired key" },
    { "too_many_keys", "Too many keys" },
    { "workspace_deleted", "Deleted workspace" },
    { "body_too_large", "Body too large" },
    { "unsupported_media_type", "Unsupported media type" },
    { "store_unavailable", "Store unavailable" },
    { "store_unknown", "Outcome unknown" },
    { NULL, "Internal error" }
};


ngx_int_t
ngx_http_agntkey_admin_response_json(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_agntkey_admin_json_t *object)
{
    ngx_str_t  text;

    if (object == NULL
        || ngx_http_agntkey_admin_json_text(r->pool, object, &text) != NGX_OK)
    {
        ngx_str_set(&text, "{\"type\":\"urn:agntkey:problem:internal\","
                           "\"title\":\"Internal error\",\"status\":500,"
                           "\"code\":\"internal\",\"detail\":"
                           "\"The answer could not be written.\"}" CRLF);
        status = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_admin_response_text(r, status, &text);
}


ngx_int_t
ngx_http_agntkey_admin_response_problem(ngx_http_request_t *r,
    ngx_uint_t status, const char *code, const char *detail, ngx_str_t *id)
{
    ngx_str_t                  soon = ngx_string("1");
    ngx_http_agntkey_title_t  *t;

    for (t = ngx_http_agntkey_titles; t->code; t++) {
        if (ngx_strcmp(t->code, code) == 0) {
            break;
        }
    }

    if (status == NGX_HTTP_SERVICE_UNAVAILABLE
        && ngx_http_agntkey_admin_response_header(r, "Retry-After", &soon)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_agntkey_admin_response_json(r, status,
                                     ngx_http_agntkey_admin_json_problem(status,
                                     t->title, code, detail, id));
}


ngx_int_t
ngx_http_agntkey_admin_response_text(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *text)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_str_t     no_store = ngx_string("no-store");
    ngx_chain_t   out;

    if (ngx_http_agntkey_admin_response_header(r, "Cache-Control", &no_store)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /*
     * An answer may come before the body: the rest of it must not be taken
     * for the next request, nor is it worth a "100 Continue".
     */

    r->expect_tested = 1;

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        r->keepalive = 0;
    }

    r->headers_out.status = status;
    r->headers_out.content_length_n = text->len;

    if (status >= NGX_HTTP_BAD_REQUEST) {
        ngx_str_set(&r->headers_out.content_type, "application/problem+json");

    } else {
        ngx_str_set(&r->headers_out.content_type, "application/json");
    }

    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = text->data;
    b->last = text->data + text->len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_int_t
ngx_http_agntkey_admin_response_header(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    ngx_str_t  key;

    key.data = (u_char *) name;
    key.len = ngx_strlen(name);

    return ngx_http_agntkey_response_header(r, &key, value) ? NGX_OK
                                                               : NGX_ERROR;
}
