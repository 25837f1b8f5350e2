
/*
 * Copyright (C) the agntkey authors
 *
 * Who may call the admin API, and what he may see.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_AUTH_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_AUTH_H_INCLUDED_


#include "ngx_http_agntkey_admin_call.h"


/*
 * The setter of "agntkey_admin_token_file": digests, one a line, "#" comments;
 * the tokens themselves are nowhere.
 */
char *ngx_http_agntkey_admin_auth_token_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/*
 * Sets a->who.  NGX_DECLINED: go on; otherwise the answer has been sent, and
 * what came of that is returned.
 */
ngx_int_t ngx_http_agntkey_admin_auth_caller(ngx_http_agntkey_admin_call_t *a);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_AUTH_H_INCLUDED_ */
