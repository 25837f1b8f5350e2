
/*
 * Copyright (C) the agntkey authors
 *
 * The calls of the admin API that are about workspaces.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_WORKSPACES_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_WORKSPACES_H_INCLUDED_


#include "ngx_http_agntkey_admin_call.h"


/* As those in ngx_http_agntkey_admin_keys.h. */
ngx_int_t ngx_http_agntkey_admin_workspaces_list(
    ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_workspaces_get(
    ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_workspaces_set(
    ngx_http_agntkey_admin_call_t *a);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_WORKSPACES_H_INCLUDED_ */
