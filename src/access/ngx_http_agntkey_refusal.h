
/*
 * Copyright (C) the agntkey authors
 *
 * How a refusal looks: status, challenge (RFC 9110, section 11.6.1; RFC 6750,
 * section 3) and a problem body (RFC 9457).  The headers are set when the
 * refusal is decided; the body comes from ngx_http_agntkey_refusal_filter.c.
 */


#ifndef _NGX_HTTP_AGNTKEY_REFUSAL_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REFUSAL_H_INCLUDED_


#include "ngx_http_agntkey_access_ctx.h"


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

/* Takes all that back: somebody else has let the request in. */
void ngx_http_agntkey_refusal_withdraw(ngx_http_agntkey_ctx_t *ctx);


#endif /* _NGX_HTTP_AGNTKEY_REFUSAL_H_INCLUDED_ */
