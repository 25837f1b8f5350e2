
/*
 * Copyright (C) the agntkey authors
 *
 * How a refusal looks: status, challenge (RFC 9110, section 11.6.1; RFC 6750,
 * section 3) and a problem body (RFC 9457).  The only file that tells
 * versions of nginx apart.
 *
 * The headers are set when the refusal is decided; the body takes the place
 * of nginx's own error page in a filter, so that "error_page" and "satisfy
 * any" stay what they are.
 */


#ifndef _NGX_HTTP_AGNTKEY_REFUSAL_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REFUSAL_H_INCLUDED_


#include "ngx_http_agntkey_access_ctx.h"


extern ngx_module_t  ngx_http_agntkey_filter_module;


/*
 * Makes the answers of a location out of its merged configuration.  Returns
 * NGX_OK, or NGX_ERROR without memory.
 */
ngx_int_t ngx_http_agntkey_refusal_prepare(ngx_conf_t *cf,
    ngx_http_agntkey_loc_conf_t *alcf);

/*
 * Sets the headers for ctx->reason, and ctx->answer.  Returns the status, to
 * be returned to nginx, or NGX_ERROR without memory.
 */
ngx_int_t ngx_http_agntkey_refusal_refuse(ngx_http_request_t *r,
    ngx_http_agntkey_ctx_t *ctx);

/* Adds a header to the answer.  NULL without memory. */
ngx_table_elt_t *ngx_http_agntkey_refusal_add_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);

/* Takes all that back: somebody else has let the request in. */
void ngx_http_agntkey_refusal_withdraw(ngx_http_agntkey_ctx_t *ctx);


#endif /* _NGX_HTTP_AGNTKEY_REFUSAL_H_INCLUDED_ */
