
/*
 * Copyright (C) the agntkey authors
 *
 * The query of a URI, taken apart (application/x-www-form-urlencoded, but for
 * "+", which stands for itself).
 */


#ifndef _NGX_HTTP_AGNTKEY_QUERY_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_QUERY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Finds the values of n parameters by their names, which end with NULL;
 * values[] has room for as many.  One that is not there is { 0, NULL }.  The
 * values are decoded into buf, which has room for args->len bytes.
 *
 * Returns
 *     NGX_OK        *bad is left alone
 *     NGX_DECLINED  *bad is the index of the parameter that stands there
 *                   twice or is badly encoded; of one that is not known, n.
 *                   *which is its name as it stands in the query
 */
ngx_int_t ngx_http_agntkey_query_parse(ngx_str_t *args, const char **names,
    ngx_str_t *values, u_char *buf, ngx_uint_t *bad, ngx_str_t *which);


#endif /* _NGX_HTTP_AGNTKEY_QUERY_H_INCLUDED_ */
