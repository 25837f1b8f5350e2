
/*
 * Copyright (C) the agntkey authors
 *
 * How an answer of the admin API goes out.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_RESPONSE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_RESPONSE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_agntkey_admin_json.h"


/*
 * All of these send headers and body, and return what is to be given to
 * ngx_http_finalize_request().  Each answer is "Cache-Control: no-store".
 */

/* The object, which is freed; NULL stands for no memory, and gives 500. */
ngx_int_t ngx_http_agntkey_admin_response_json(ngx_http_request_t *r,
    ngx_uint_t status, ngx_http_agntkey_admin_json_t *object);

/* The text, as application/json or, for a problem, application/problem+json */
ngx_int_t ngx_http_agntkey_admin_response_text(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *text);

/*
 * A problem; detail NULL has a standard one.  With 503 goes "Retry-After".
 * id may be NULL: see ngx_http_agntkey_admin_json_problem().
 */
ngx_int_t ngx_http_agntkey_admin_response_problem(ngx_http_request_t *r,
    ngx_uint_t status, const char *code, const char *detail, ngx_str_t *id);

/* Adds a header; the value lives as long as the request. */
ngx_int_t ngx_http_agntkey_admin_response_header(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_RESPONSE_H_INCLUDED_ */
