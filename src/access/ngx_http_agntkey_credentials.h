
/*
 * Copyright (C) the agntkey authors
 *
 * Where in a request the key is: Authorization (RFC 6750, section 2.1), or
 * wherever "agntkey_token" points.
 */


#ifndef _NGX_HTTP_AGNTKEY_CREDENTIALS_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_CREDENTIALS_H_INCLUDED_


#include "ngx_http_agntkey_access_ctx.h"


/* The setter of "agntkey_token". */
char *ngx_http_agntkey_credentials_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* What a location takes over of where keys are, once all has been read. */
void ngx_http_agntkey_credentials_merge(ngx_conf_t *cf,
    ngx_http_agntkey_loc_conf_t *prev, ngx_http_agntkey_loc_conf_t *conf);

/*
 * The credentials of the scheme Bearer in Authorization.  Returns
 * NGX_HTTP_AGNTKEY_OK and *text, or NGX_HTTP_AGNTKEY_MISSING.
 */
ngx_http_agntkey_reason_e ngx_http_agntkey_credentials_bearer(
    ngx_http_request_t *r, ngx_str_t *text);

/*
 * Finds the text that the client presents as its key, by the rules of this
 * location, in what it has sent: the arguments are those of the request line,
 * whatever has become of them.  Leaves no trace on the request.  *key points
 * into the request, unless *copy is set to 1: then it is a copy in the pool of
 * the request, to be wiped after use.
 *
 * *reason becomes
 *     NGX_HTTP_AGNTKEY_OK         there is one
 *     NGX_HTTP_AGNTKEY_MISSING    there is none: no header, another scheme,
 *                                 nothing after "Bearer"
 *     NGX_HTTP_AGNTKEY_AMBIGUOUS  it was given twice (RFC 6750, section 2)
 *
 * Returns NGX_OK, or NGX_ERROR without memory, or if a variable has no value
 * for a fault.
 */
ngx_int_t ngx_http_agntkey_credentials(ngx_http_request_t *r, ngx_str_t *key,
    ngx_uint_t *copy, ngx_http_agntkey_reason_e *reason);


#endif /* _NGX_HTTP_AGNTKEY_CREDENTIALS_H_INCLUDED_ */
