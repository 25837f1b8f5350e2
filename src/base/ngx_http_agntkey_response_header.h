
/*
 * Copyright (C) the agntkey authors
 *
 * A header of the response.  The only file that tells versions of nginx apart.
 */


#ifndef _NGX_HTTP_AGNTKEY_RESPONSE_HEADER_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_RESPONSE_HEADER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * Adds a header to the response; name and value live as long as the request.
 * Returns it, so that it can be taken back (its hash set to 0); NULL without
 * memory.
 */
ngx_table_elt_t *ngx_http_agntkey_response_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);


#endif /* _NGX_HTTP_AGNTKEY_RESPONSE_HEADER_H_INCLUDED_ */
