
/*
 * Copyright (C) the agntkey authors
 *
 * The admin API: method and path, body in, JSON out.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_H_INCLUDED_


#include "ngx_http_agntkey_ctx.h"


/* The setter of "agntkey_admin". */
char *ngx_http_agntkey_admin_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_H_INCLUDED_ */
