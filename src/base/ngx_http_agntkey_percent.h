
/*
 * Copyright (C) the agntkey authors
 *
 * Percent-encoding (RFC 3986, section 2.1), by one rule for all texts that are
 * encoded: "+" is itself, and a zero byte is an error.  nginx's own
 * ngx_unescape_uri() takes what is no encoding as it is, and "%00" as a zero.
 */


#ifndef _NGX_HTTP_AGNTKEY_PERCENT_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_PERCENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Decodes what is from p to last into dst, which has room for as many bytes and
 * may be p.  Returns the end of what was written; or NULL for "%" without two
 * hexadecimal digits, and for "%00".
 */
u_char *ngx_http_agntkey_percent_decode(u_char *dst, u_char *p, u_char *last);


#endif /* _NGX_HTTP_AGNTKEY_PERCENT_H_INCLUDED_ */
