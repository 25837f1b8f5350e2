
/*
 * Copyright (C) the agntkey authors
 *
 * The admin API: method and path, body in, JSON out.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_API_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_API_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* The content handler of an admin location. */
ngx_int_t ngx_http_agntkey_admin_api_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_API_H_INCLUDED_ */
