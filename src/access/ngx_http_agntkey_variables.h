
/*
 * Copyright (C) the agntkey authors
 *
 * $agntkey_id, and what is known after the decision.
 */


#ifndef _NGX_HTTP_AGNTKEY_VARIABLES_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_VARIABLES_H_INCLUDED_


#include "ngx_http_agntkey_access_ctx.h"


/* Registers the variables.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_agntkey_variables_add(ngx_conf_t *cf);


#endif /* _NGX_HTTP_AGNTKEY_VARIABLES_H_INCLUDED_ */
