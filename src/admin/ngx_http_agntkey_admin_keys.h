
/*
 * Copyright (C) the agntkey authors
 *
 * The calls of the admin API that are about keys.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_KEYS_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_KEYS_H_INCLUDED_


#include "ngx_http_agntkey_admin_call.h"


/*
 * Each returns NGX_DONE when it waits for Redis, or what came of an answer
 * that has been sent.
 */
ngx_int_t ngx_http_agntkey_admin_keys_create(ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_keys_list(ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_keys_get(ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_keys_change(ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_keys_revoke(ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_keys_rotate(ngx_http_agntkey_admin_call_t *a);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_KEYS_H_INCLUDED_ */
