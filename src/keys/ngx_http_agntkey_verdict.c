
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_verdict.h"
#include "ngx_http_agntkey_token.h"


static ngx_uint_t ngx_http_agntkey_verdict_workspace(
    ngx_http_agntkey_rules_t *rules, ngx_str_t *workspace);
static ngx_uint_t ngx_http_agntkey_verdict_scopes(
    ngx_http_agntkey_rules_t *rules, ngx_str_t *scopes);


ngx_str_t  ngx_http_agntkey_reasons[] = {
    ngx_string("ok"),
    ngx_string("missing"),
    ngx_string("malformed"),
    ngx_string("unknown"),
    ngx_string("revoked"),
    ngx_string("expired"),
    ngx_string("workspace_disabled"),
    ngx_string("workspace_mismatch"),
    ngx_string("insufficient_scope"),
    ngx_string("ambiguous"),
    ngx_string("store_unavailable")
};


ngx_http_agntkey_reason_e
ngx_http_agntkey_verdict(ngx_http_agntkey_record_t *key,
    ngx_uint_t workspace_active, u_char *digest,
    ngx_http_agntkey_rules_t *rules, int64_t now)
{
    if (key == NULL || !ngx_http_agntkey_token_equal(key->digest, digest)) {
        return NGX_HTTP_AGNTKEY_UNKNOWN;
    }

    if (!key->active) {
        return NGX_HTTP_AGNTKEY_REVOKED;
    }

    if (key->expires_at <= now) {
        return NGX_HTTP_AGNTKEY_EXPIRED;
    }

    if (!workspace_active) {
        return NGX_HTTP_AGNTKEY_WORKSPACE_DISABLED;
    }

    if (!ngx_http_agntkey_verdict_workspace(rules, &key->workspace)) {
        return NGX_HTTP_AGNTKEY_WORKSPACE_MISMATCH;
    }

    if (!ngx_http_agntkey_verdict_scopes(rules, &key->scopes)) {
        return NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE;
    }

    return NGX_HTTP_AGNTKEY_OK;
}


static ngx_uint_t
ngx_http_agntkey_verdict_workspace(ngx_http_agntkey_rules_t *rules,
    ngx_str_t *workspace)
{
    ngx_str_t   *one;
    ngx_uint_t   i;

    if (rules->nworkspaces == 0) {
        return 1;
    }

    for (i = 0; i < rules->nworkspaces; i++) {
        one = &rules->workspaces[i];

        if (one->len && one->len == workspace->len
            && ngx_memcmp(one->data, workspace->data, one->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_http_agntkey_verdict_scopes(ngx_http_agntkey_rules_t *rules,
    ngx_str_t *scopes)
{
    ngx_uint_t  i;

    for (i = 0; i < rules->nscopes; i++) {
        if (!ngx_http_agntkey_record_has_scope(scopes, &rules->scopes[i])) {
            return 0;
        }
    }

    return 1;
}
