
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_admin_auth.h"
#include "ngx_http_agntkey_access_ctx.h"
#include "ngx_http_agntkey_admin_call.h"
#include "ngx_http_agntkey_admin_conf.h"
#include "ngx_http_agntkey_admin_response.h"
#include "ngx_http_agntkey_credentials.h"
#include "ngx_http_agntkey_value.h"


/* of a file of token digests, bytes */
#define NGX_HTTP_AGNTKEY_ADMIN_TOKENS    65536


static ngx_int_t ngx_http_agntkey_admin_auth_token(
    ngx_http_agntkey_admin_call_t *a, ngx_array_t *tokens);
static char *ngx_http_agntkey_admin_auth_digests(ngx_conf_t *cf, u_char *p,
    u_char *last, ngx_array_t *tokens);


/*
 * Who is calling, and what may he see?  NGX_DECLINED: go on; otherwise the
 * answer has been sent.
 */

ngx_int_t
ngx_http_agntkey_admin_auth_caller(ngx_http_agntkey_admin_call_t *a)
{
    ngx_int_t                           rc;
    ngx_http_request_t                 *r;
    ngx_http_agntkey_admin_loc_conf_t  *admin;

    r = a->request;
    admin = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_admin_module);

    if (admin->enable != 1
        || (admin->tokens_off != 1 && admin->tokens == NULL))
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->caller.from = r->connection->addr_text;

    if (admin->tokens_off == 1) {
        ngx_str_set(&a->caller.actor, "off");

    } else {
        rc = ngx_http_agntkey_admin_auth_token(a, admin->tokens);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    if (admin->workspace == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_http_agntkey_value(r, admin->workspace, 1, &a->caller.pin)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!ngx_http_agntkey_record_workspace_valid(&a->caller.pin)) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_FORBIDDEN,
                             "workspace_missing",
                             "This location is kept to one workspace, and "
                             "the request belongs to none.", NULL);
    }

    return NGX_DECLINED;
}


/* All digests are compared, and each in constant time. */

static ngx_int_t
ngx_http_agntkey_admin_auth_token(ngx_http_agntkey_admin_call_t *a,
    ngx_array_t *tokens)
{
    u_char                       *p, digest[NGX_HTTP_AGNTKEY_DIGEST_LEN];
    ngx_str_t                     text, challenge;
    ngx_uint_t                    i, found, given;
    ngx_http_request_t           *r;
    ngx_http_agntkey_loc_conf_t  *alcf;

    r = a->request;

    found = 0;
    given = (ngx_http_agntkey_credentials_bearer(r, &text)
             == NGX_HTTP_AGNTKEY_OK);

    if (given) {

        if (ngx_http_agntkey_token_digest(&text, digest) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        p = tokens->elts;

        for (i = 0; i < tokens->nelts; i++) {
            found |= ngx_http_agntkey_token_equal(digest, p);
            p += NGX_HTTP_AGNTKEY_DIGEST_LEN;
        }
    }

    if (found) {
        a->caller.actor.data = ngx_pnalloc(r->pool, 8);
        if (a->caller.actor.data == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        a->caller.actor.len = 8;
        ngx_hex_dump(a->caller.actor.data, digest, 4);

        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "agntkey: admin call refused: %s",
                  given ? "unknown token" : "no token");

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_access_module);

    challenge.data = ngx_pnalloc(r->pool,
                                 sizeof("Bearer realm=\"\", "
                                        "error=\"invalid_token\"")
                                 + alcf->realm.len);
    if (challenge.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    challenge.len = ngx_sprintf(challenge.data, "Bearer realm=\"%V\"%s",
                                &alcf->realm,
                                given ? ", error=\"invalid_token\"" : "")
                    - challenge.data;

    if (ngx_http_agntkey_admin_response_header(r, "WWW-Authenticate",
                                               &challenge) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (given) {
        return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_UNAUTHORIZED,
                                 "token_unknown",
                                 "This admin token is not one of those that "
                                 "may call.", NULL);
    }

    return ngx_http_agntkey_admin_response_problem(r, NGX_HTTP_UNAUTHORIZED,
                             "token_missing",
                             "Send an admin token in the header "
                             "Authorization: Bearer <token>.", NULL);
}


/* Digests, one a line, "#" comments; the tokens themselves are nowhere. */

char *
ngx_http_agntkey_admin_auth_token_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    u_char                             *buf;
    ssize_t                             n;
    ngx_fd_t                            fd;
    ngx_str_t                          *value;
    ngx_http_agntkey_admin_loc_conf_t  *admin = conf;

    if (admin->tokens_off != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        admin->tokens_off = 1;
        return NGX_CONF_OK;
    }

    if (ngx_http_agntkey_value_is_switch(&value[1])) {
        return "takes a file or \"off\"";
    }

    admin->tokens_off = 0;
    admin->tokens = ngx_array_create(cf->pool, 4,
                                          NGX_HTTP_AGNTKEY_DIGEST_LEN);
    buf = ngx_palloc(cf->temp_pool, NGX_HTTP_AGNTKEY_ADMIN_TOKENS + 1);

    if (admin->tokens == NULL || buf == NULL
        || ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    fd = ngx_open_file(value[1].data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\": " ngx_open_file_n " \"%V\" failed",
                           &cmd->name, &value[1]);
        return NGX_CONF_ERROR;
    }

    n = ngx_read_fd(fd, buf, NGX_HTTP_AGNTKEY_ADMIN_TOKENS + 1);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\": " ngx_read_fd_n " \"%V\" failed",
                           &cmd->name, &value[1]);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", &value[1]);
    }

    if (n == -1) {
        return NGX_CONF_ERROR;
    }

    if (n > NGX_HTTP_AGNTKEY_ADMIN_TOKENS) {
        return "has a file of more than 64 KB";
    }

    return ngx_http_agntkey_admin_auth_digests(cf, buf, buf + n,
                                               admin->tokens);
}


static char *
ngx_http_agntkey_admin_auth_digests(ngx_conf_t *cf, u_char *p, u_char *last,
    ngx_array_t *tokens)
{
    u_char      *end, *digest;
    ngx_int_t    n;
    ngx_uint_t   i;

    for ( /* void */ ; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, LF);
        if (end == NULL) {
            end = last;
        }

        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }

        if (p == end || *p == '#' || *p == CR) {
            continue;
        }

        digest = ngx_array_push(tokens);
        if (digest == NULL) {
            return NGX_CONF_ERROR;
        }

        for (i = 0; i < NGX_HTTP_AGNTKEY_DIGEST_LEN; i++) {

            n = (end - p < 2) ? NGX_ERROR : ngx_hextoi(p, 2);
            if (n == NGX_ERROR) {
                return "has a line in its file that is no SHA-256 in hex";
            }

            digest[i] = (u_char) n;
            p += 2;
        }

        while (p < end && (*p == ' ' || *p == '\t' || *p == CR)) {
            p++;
        }

        if (p < end && *p != '#') {
            return "has a line in its file that is no SHA-256 in hex";
        }
    }

    if (tokens->nelts == 0) {
        return "has a file without a digest";
    }

    return NGX_CONF_OK;
}
