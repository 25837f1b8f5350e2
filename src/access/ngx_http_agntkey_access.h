
/*
 * Copyright (C) the agntkey authors
 *
 * The phase handler: key out of the request, look-up, verdict.
 */


#ifndef _NGX_HTTP_AGNTKEY_ACCESS_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ACCESS_H_INCLUDED_


#include "ngx_http_agntkey_access_ctx.h"


/*
 * Of the access phase.  Returns
 *     NGX_DECLINED  switched off, or a dry run: neither in favour nor against
 *     NGX_OK        the key is good
 *     NGX_AGAIN     Redis was asked; the phases go on when it has answered
 *     NGX_HTTP_...  refused, with the headers of the answer set; or 500
 *                   without memory
 */
ngx_int_t ngx_http_agntkey_access_handler(ngx_http_request_t *r);

/*
 * Of the precontent phase, which only those reach who were let in: "satisfy
 * any" may have let in a request whose key was refused, and then nothing of
 * the refusal may show.  Returns NGX_DECLINED.
 */
ngx_int_t ngx_http_agntkey_access_passed(ngx_http_request_t *r);


#endif /* _NGX_HTTP_AGNTKEY_ACCESS_H_INCLUDED_ */
