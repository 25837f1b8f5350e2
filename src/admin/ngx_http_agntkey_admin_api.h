
/*
 * Copyright (C) the agntkey authors
 *
 * The admin API: method and path, body in, JSON out.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_API_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_API_H_INCLUDED_


#include "ngx_http_agntkey_access_ctx.h"


/* The setter of "agntkey_admin". */
char *ngx_http_agntkey_admin_api_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/*
 * What a location takes over: nothing, as with all content handlers, unless
 * it is an "if" or "limit_except" of the one above, which keeps handler,
 * tokens and pin.  Returns NGX_OK; NGX_ERROR, after a message, for an admin
 * location that does not say who may call.
 */
ngx_int_t ngx_http_agntkey_admin_api_merge(ngx_conf_t *cf,
    ngx_http_agntkey_loc_conf_t *prev, ngx_http_agntkey_loc_conf_t *conf);

/*
 * Is a key asked for here?  "written" is "agntkey" as this block has it, or
 * NGX_CONF_UNSET; conf->enable and conf->admin are merged.  An admin location
 * asks for a key if it says so itself, an "if" or limit_except of it as the
 * location does; all others as they say or inherit.
 */
ngx_uint_t ngx_http_agntkey_admin_api_check(ngx_conf_t *cf,
    ngx_http_agntkey_loc_conf_t *prev, ngx_http_agntkey_loc_conf_t *conf,
    ngx_flag_t written);

/*
 * For the end of the configuration: NGX_OK, or NGX_ERROR, after a message, if
 * an admin location has been given another content handler.
 */
ngx_int_t ngx_http_agntkey_admin_api_alone(ngx_conf_t *cf,
    ngx_http_agntkey_main_conf_t *amcf);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_API_H_INCLUDED_ */
