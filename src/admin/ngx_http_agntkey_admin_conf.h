
/*
 * Copyright (C) the agntkey authors
 *
 * What the configuration says of the admin API in a location.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_CONF_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_CONF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* of this location alone, not inherited */

typedef struct {
    ngx_flag_t                 enable;
    ngx_array_t               *tokens;       /* digests; or NULL, */
    ngx_flag_t                 tokens_off;   /* and nobody is asked */
    ngx_http_complex_value_t  *workspace;    /* NULL: no pin */
    ngx_int_t                  max_keys;     /* of a workspace, in force */
} ngx_http_agntkey_admin_loc_conf_t;


/* its context of a request is the call, ngx_http_agntkey_admin_call_t */
extern ngx_module_t  ngx_http_agntkey_admin_module;


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_CONF_H_INCLUDED_ */
