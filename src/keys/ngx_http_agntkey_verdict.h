
/*
 * Copyright (C) the agntkey authors
 *
 * May this key do this here and now?  Pure: what is known goes in, a reason
 * comes out, and nothing else decides.
 */


#ifndef _NGX_HTTP_AGNTKEY_VERDICT_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_VERDICT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_record.h"


typedef enum {
    NGX_HTTP_AGNTKEY_OK = 0,
    NGX_HTTP_AGNTKEY_MISSING,
    NGX_HTTP_AGNTKEY_MALFORMED,
    NGX_HTTP_AGNTKEY_UNKNOWN,
    NGX_HTTP_AGNTKEY_REVOKED,
    NGX_HTTP_AGNTKEY_EXPIRED,
    NGX_HTTP_AGNTKEY_WORKSPACE_DISABLED,
    NGX_HTTP_AGNTKEY_WORKSPACE_MISMATCH,
    NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE,
    NGX_HTTP_AGNTKEY_AMBIGUOUS,
    NGX_HTTP_AGNTKEY_STORE_UNAVAILABLE,
    NGX_HTTP_AGNTKEY_REASONS
} ngx_http_agntkey_reason_e;


/* what a location asks of a key; an empty list asks nothing */

typedef struct {
    ngx_str_t    *workspaces;        /* one of these; "" matches nothing */
    ngx_uint_t    nworkspaces;
    ngx_str_t    *scopes;            /* all of these */
    ngx_uint_t    nscopes;
} ngx_http_agntkey_rules_t;


/* the reasons' names as users see them, NGX_HTTP_AGNTKEY_REASONS of them */
extern ngx_str_t  ngx_http_agntkey_reasons[];


/*
 * The verdict on a key that was asked for.
 *
 *     key               the record; NULL when there is none
 *     workspace_active  the workspace's record says "active"
 *     digest            SHA-256 of the key the request has shown
 *     now               ms since 1970
 *
 * The digest is compared first, and in constant time: who does not hold the
 * key learns nothing about it but "unknown".  Returns NGX_HTTP_AGNTKEY_OK or
 * the first of these that applies: UNKNOWN, REVOKED, EXPIRED,
 * WORKSPACE_DISABLED, WORKSPACE_MISMATCH, INSUFFICIENT_SCOPE.
 */
ngx_http_agntkey_reason_e ngx_http_agntkey_verdict(
    ngx_http_agntkey_record_t *key, ngx_uint_t workspace_active,
    u_char *digest, ngx_http_agntkey_rules_t *rules, int64_t now);


#endif /* _NGX_HTTP_AGNTKEY_VERDICT_H_INCLUDED_ */
