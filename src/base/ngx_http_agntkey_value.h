
/*
 * Copyright (C) the agntkey authors
 *
 * Values of the configuration, evaluated without a trace on the request.
 *
 * A map with a regular expression, for one, overwrites $1 and its like, and
 * sets the variables that it names.  What the client writes into one value
 * would then decide what the next one is: a key for another workspace.  So a
 * request is after an evaluation what it was before, but for the values of the
 * variables that were asked for, which stay known as everywhere in nginx.
 */


#ifndef _NGX_HTTP_AGNTKEY_VALUE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_VALUE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * "on" or "off", in any case of letters?  Whoever writes that means a switch:
 * no directive takes it for a name, a file or a text.
 */
ngx_uint_t ngx_http_agntkey_value_is_switch(ngx_str_t *value);

/*
 * As ngx_http_complex_value(): *text is in the pool of the request, or in the
 * configuration if the value has no variables.  Each variable of the value is
 * evaluated by itself, and captures ($1) are those of before.  With keep 0,
 * the values of the variables are forgotten as well.  Returns NGX_OK;
 * NGX_ERROR without memory, or if a variable has no value for a fault.
 */
ngx_int_t ngx_http_agntkey_value(ngx_http_request_t *r,
    ngx_http_complex_value_t *cv, ngx_uint_t keep, ngx_str_t *text);

/* The same for one variable, by its index; *value is a copy. */
ngx_int_t ngx_http_agntkey_value_variable(ngx_http_request_t *r,
    ngx_uint_t index, ngx_uint_t keep, ngx_http_variable_value_t *value);


#endif /* _NGX_HTTP_AGNTKEY_VALUE_H_INCLUDED_ */
