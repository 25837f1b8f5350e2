
/*
 * Copyright (C) the agntkey authors
 *
 * Bodies of the admin API.  The first byte says which members may and must be
 * there; a body that is taken has only values that a record may have, and can
 * be shown and read again.
 *
 * Files: admin_json record rfc3339
 */


#include "fuzz.h"

#include "ngx_http_agntkey_admin_json.h"


static void fuzz_show(ngx_pool_t *pool, ngx_http_agntkey_body_t *body);


static const ngx_uint_t  calls[][2] = {

    /* create, change, rotate, and a workspace */

    { NGX_HTTP_AGNTKEY_BODY_WORKSPACE | NGX_HTTP_AGNTKEY_BODY_NAME
      | NGX_HTTP_AGNTKEY_BODY_SCOPES | NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT,
      NGX_HTTP_AGNTKEY_BODY_WORKSPACE | NGX_HTTP_AGNTKEY_BODY_NAME },

    { NGX_HTTP_AGNTKEY_BODY_NAME | NGX_HTTP_AGNTKEY_BODY_SCOPES
      | NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT, 0 },

    { NGX_HTTP_AGNTKEY_BODY_NAME | NGX_HTTP_AGNTKEY_BODY_OVERLAP, 0 },

    { NGX_HTTP_AGNTKEY_BODY_STATUS, NGX_HTTP_AGNTKEY_BODY_STATUS }
};

static const int64_t  now = 1700000000000;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char                     *code, *detail;
    ngx_int_t                 rc;
    ngx_str_t                 text;
    ngx_uint_t                allowed, needed;
    ngx_pool_t               *pool;
    ngx_http_agntkey_body_t   body;

    if (len == 0) {
        return 0;
    }

    pool = fuzz_begin();

    allowed = calls[data[0] % 4][0];
    needed = calls[data[0] % 4][1];

    text = fuzz_str(data + 1, len - 1);
    code = NULL;
    detail = NULL;

    rc = ngx_http_agntkey_admin_json_read(pool, &text, allowed, needed, now,
                                          &body, &code, &detail);

    if (rc == NGX_DECLINED) {
        fuzz_check(code && strlen(code) > 0);
        fuzz_check(detail && strlen(detail) > 0 && strlen(detail) < 300);

    } else {
        fuzz_check(rc == NGX_OK);
        fuzz_check((body.present & ~allowed) == 0);
        fuzz_check((body.present & needed) == needed);

        fuzz_show(pool, &body);
    }

    fuzz_end();

    return 0;
}


static void
fuzz_show(ngx_pool_t *pool, ngx_http_agntkey_body_t *body)
{
    char                            *code, *detail;
    ngx_str_t                        text;
    ngx_http_agntkey_body_t          again;
    ngx_http_agntkey_admin_json_t   *object;
    ngx_http_agntkey_key_view_t      view;

    memset(&view, 0, sizeof(ngx_http_agntkey_key_view_t));
    ngx_str_set(&view.id, "0123456789ab");
    ngx_str_set(&view.prefix, "agnt");
    ngx_str_set(&view.record.workspace, "acme");
    ngx_str_set(&view.record.name, "a name");
    ngx_str_set(&view.record.scopes, "");
    view.record.expires_at = NGX_HTTP_AGNTKEY_NEVER;

    if (body->present & NGX_HTTP_AGNTKEY_BODY_WORKSPACE) {
        fuzz_check(ngx_http_agntkey_record_workspace_valid(&body->workspace));
        view.record.workspace = body->workspace;
    }

    if (body->present & NGX_HTTP_AGNTKEY_BODY_NAME) {
        fuzz_check(ngx_http_agntkey_record_name_valid(&body->name));
        (void) ngx_http_agntkey_admin_json_poor_name(&body->name);
        view.record.name = body->name;
    }

    if (body->present & NGX_HTTP_AGNTKEY_BODY_SCOPES) {
        fuzz_check(body->scopes.len <= NGX_HTTP_AGNTKEY_SCOPES
                                       * (NGX_HTTP_AGNTKEY_SCOPE_MAX + 1));
        view.record.scopes = body->scopes;
    }

    if (body->present & NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT) {
        fuzz_check(body->expires_at > now);
        view.record.expires_at = body->expires_at;
    }

    if (body->present & NGX_HTTP_AGNTKEY_BODY_OVERLAP) {
        fuzz_check(body->overlap >= 0 && body->overlap <= 7776000);
    }

    object = ngx_http_agntkey_admin_json_key(&view, now, NULL);
    fuzz_check(object);
    fuzz_check(ngx_http_agntkey_admin_json_text(pool, object, &text) == NGX_OK);

    /* valid JSON, though with members that no call takes */

    fuzz_check(ngx_http_agntkey_admin_json_read(pool, &text, 0, 0, now, &again,
                                                &code,
                                                &detail) == NGX_DECLINED);
    fuzz_check(strcmp(code, "unknown_member") == 0);
}
