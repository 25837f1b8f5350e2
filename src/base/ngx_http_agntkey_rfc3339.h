
/*
 * Copyright (C) the agntkey authors
 *
 * Times as RFC 3339 writes them, and as ms since 1970.
 */


#ifndef _NGX_HTTP_AGNTKEY_RFC3339_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_RFC3339_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_AGNTKEY_RFC3339_LEN                                          \
    (sizeof("1970-01-01T00:00:00.000Z") - 1)


/*
 * Writes NGX_HTTP_AGNTKEY_RFC3339_LEN bytes, in UTC, with milliseconds.  ms
 * is between 0 and the end of the year 9999.  Returns the end of the text.
 */
u_char *ngx_http_agntkey_rfc3339_format(u_char *p, int64_t ms);

/*
 * Reads a date-time (RFC 3339, section 5.6) with any offset; fractions of a
 * millisecond are cut off, a leap second counts as the next second.  Returns
 * NGX_OK, or NGX_ERROR for anything else, dates that do not exist and times
 * before 1970 included.
 */
ngx_int_t ngx_http_agntkey_rfc3339_parse(ngx_str_t *text, int64_t *ms);


#endif /* _NGX_HTTP_AGNTKEY_RFC3339_H_INCLUDED_ */
