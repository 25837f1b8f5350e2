
/*
 * Copyright (C) the agntkey authors
 *
 * Directives, configuration, registration.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_agntkey_access.h"
#include "ngx_http_agntkey_ctx.h"
#include "ngx_http_agntkey_peer.h"
#include "ngx_http_agntkey_redis.h"
#include "ngx_http_agntkey_store.h"
#include "ngx_http_agntkey_token.h"
#include "ngx_http_agntkey_url.h"
#include "ngx_http_agntkey_vars.h"


/* of every agntkey_*_timeout, ms */
#define NGX_HTTP_AGNTKEY_TIMEOUT_MIN   1
#define NGX_HTTP_AGNTKEY_TIMEOUT_MAX   60000

/* the first line of a password file, bytes */
#define NGX_HTTP_AGNTKEY_PASSWORD_MAX  1024

#define NGX_HTTP_AGNTKEY_EVERYWHERE                                           \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static char *ngx_http_agntkey_enable(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_agntkey_token(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_agntkey_token_sources(ngx_conf_t *cf,
    ngx_str_t *value, ngx_http_agntkey_loc_conf_t *alcf);
static ngx_int_t ngx_http_agntkey_token_source(ngx_conf_t *cf,
    ngx_str_t *name, ngx_http_agntkey_source_t *source);
static char *ngx_http_agntkey_workspace(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_agntkey_scope(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_agntkey_ssl_protocols(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);

static char *ngx_http_agntkey_check_realm(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_prefix(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_url(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_timeout(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_depth(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_text(ngx_conf_t *cf, void *post,
    void *data);

static void *ngx_http_agntkey_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_agntkey_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_agntkey_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_agntkey_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

static ngx_int_t ngx_http_agntkey_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_agntkey_init_redis(ngx_conf_t *cf,
    ngx_http_agntkey_main_conf_t *amcf);
static ngx_int_t ngx_http_agntkey_init_ssl(ngx_conf_t *cf,
    ngx_http_agntkey_main_conf_t *amcf);
static ngx_int_t ngx_http_agntkey_read_password(ngx_conf_t *cf,
    ngx_http_agntkey_main_conf_t *amcf);
static ngx_int_t ngx_http_agntkey_init_process(ngx_cycle_t *cycle);
static void ngx_http_agntkey_exit_process(ngx_cycle_t *cycle);


static ngx_conf_post_t  ngx_http_agntkey_realm_post =
    { ngx_http_agntkey_check_realm };

static ngx_conf_post_t  ngx_http_agntkey_prefix_post =
    { ngx_http_agntkey_check_prefix };

static ngx_conf_post_t  ngx_http_agntkey_url_post =
    { ngx_http_agntkey_check_url };

static ngx_conf_post_t  ngx_http_agntkey_timeout_post =
    { ngx_http_agntkey_check_timeout };

static ngx_conf_post_t  ngx_http_agntkey_depth_post =
    { ngx_http_agntkey_check_depth };

static ngx_conf_post_t  ngx_http_agntkey_text_post =
    { ngx_http_agntkey_check_text };


static ngx_conf_bitmask_t  ngx_http_agntkey_protocols[] = {
    { ngx_string("SSLv2"), NGX_SSL_SSLv2 },
    { ngx_string("SSLv3"), NGX_SSL_SSLv3 },
    { ngx_string("TLSv1"), NGX_SSL_TLSv1 },
    { ngx_string("TLSv1.1"), NGX_SSL_TLSv1_1 },
    { ngx_string("TLSv1.2"), NGX_SSL_TLSv1_2 },
    { ngx_string("TLSv1.3"), NGX_SSL_TLSv1_3 },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_http_agntkey_commands[] = {

    { ngx_string("agntkey"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_HTTP_LMT_CONF|NGX_CONF_FLAG,
      ngx_http_agntkey_enable,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, enable),
      NULL },

    { ngx_string("agntkey_token"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_http_agntkey_token,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agntkey_realm"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, realm),
      &ngx_http_agntkey_realm_post },

    { ngx_string("agntkey_workspace"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_CONF_1MORE,
      ngx_http_agntkey_workspace,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agntkey_scope"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_CONF_1MORE,
      ngx_http_agntkey_scope,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agntkey_dry_run"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, dry_run),
      NULL },

    { ngx_string("agntkey_prefix"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, prefix),
      &ngx_http_agntkey_prefix_post },

    { ngx_string("agntkey_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis_url),
      &ngx_http_agntkey_url_post },

    { ngx_string("agntkey_redis_password_file"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, password_file),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_connect_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.connect_timeout),
      &ngx_http_agntkey_timeout_post },

    { ngx_string("agntkey_redis_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.timeout),
      &ngx_http_agntkey_timeout_post },

    { ngx_string("agntkey_redis_ssl_trusted_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, ssl.trusted_certificate),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, ssl.certificate),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_certificate_key"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, ssl.certificate_key),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_name"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, ssl.name),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_verify"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, ssl.verify),
      NULL },

    { ngx_string("agntkey_redis_ssl_verify_depth"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, ssl.verify_depth),
      &ngx_http_agntkey_depth_post },

    { ngx_string("agntkey_redis_ssl_protocols"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_agntkey_ssl_protocols,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, ssl.protocols),
      &ngx_http_agntkey_protocols },

    { ngx_string("agntkey_redis_ssl_ciphers"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, ssl.ciphers),
      &ngx_http_agntkey_text_post },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_agntkey_module_ctx = {
    ngx_http_agntkey_vars_add,             /* preconfiguration */
    ngx_http_agntkey_init,                 /* postconfiguration */

    ngx_http_agntkey_create_main_conf,     /* create main configuration */
    ngx_http_agntkey_init_main_conf,       /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_agntkey_create_loc_conf,      /* create location configuration */
    ngx_http_agntkey_merge_loc_conf        /* merge location configuration */
};


ngx_module_t  ngx_http_agntkey_module = {
    NGX_MODULE_V1,
    &ngx_http_agntkey_module_ctx,          /* module context */
    ngx_http_agntkey_commands,             /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_agntkey_init_process,         /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_agntkey_exit_process,         /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static char *
ngx_http_agntkey_enable(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                          *rv;
    ngx_http_agntkey_loc_conf_t   *alcf = conf;
    ngx_http_agntkey_main_conf_t  *amcf;

    rv = ngx_conf_set_flag_slot(cf, cmd, conf);

    if (rv == NGX_CONF_OK && alcf->enable) {
        amcf = ngx_http_conf_get_module_main_conf(cf,
                                                  ngx_http_agntkey_module);
        amcf->enabled = 1;
    }

    return rv;
}


static char *
ngx_http_agntkey_token(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_int_t                          rc;
    ngx_str_t                         *value;
    ngx_http_agntkey_loc_conf_t       *alcf = conf;
    ngx_http_compile_complex_value_t   ccv;

    if (alcf->sources || alcf->token) {
        return "is duplicate";
    }

    value = cf->args->elts;

    rc = ngx_http_agntkey_token_sources(cf, &value[1], alcf);

    if (rc != NGX_DECLINED) {
        return rc == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (ngx_http_script_variables_count(&value[1]) == 0) {
        return "needs a value with a variable, such as \"$http_x_api_key\"";
    }

    alcf->token = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (alcf->token == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = alcf->token;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * A value made of variables only ("$http_x_api_key$arg_key") is a list of
 * places to look at; taken apart, it shows a key that was given twice.
 * Returns NGX_OK, NGX_DECLINED for any other value, NGX_ERROR.
 */

static ngx_int_t
ngx_http_agntkey_token_sources(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_agntkey_loc_conf_t *alcf)
{
    u_char                     *p, *last, *end;
    ngx_str_t                   name;
    ngx_array_t                *sources;
    ngx_uint_t                  brace, apart;
    ngx_http_agntkey_source_t  *source;

    sources = ngx_array_create(cf->pool, 2, sizeof(ngx_http_agntkey_source_t));
    if (sources == NULL) {
        return NGX_ERROR;
    }

    p = value->data;
    last = p + value->len;
    apart = 1;

    while (p < last) {

        if (*p++ != '$') {
            return NGX_DECLINED;
        }

        brace = (p < last && *p == '{');
        p += brace;

        for (end = p; end < last; end++) {
            if (!((*end >= 'a' && *end <= 'z') || (*end >= 'A' && *end <= 'Z')
                  || (*end >= '0' && *end <= '9') || *end == '_'))
            {
                break;
            }
        }

        name.data = p;
        name.len = end - p;

        if (name.len == 0 || (brace && (end == last || *end != '}'))) {
            return NGX_DECLINED;
        }

        p = end + brace;

        source = ngx_array_push(sources);
        if (source == NULL) {
            return NGX_ERROR;
        }

        if (ngx_http_agntkey_token_source(cf, &name, source) != NGX_OK) {
            return NGX_ERROR;
        }

        if (source->from == NGX_HTTP_AGNTKEY_FROM_VARIABLE) {
            apart = 0;
        }
    }

    if (sources->nelts == 0) {
        return NGX_DECLINED;
    }

    alcf->sources = sources;
    alcf->apart = apart;

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_token_source(ngx_conf_t *cf, ngx_str_t *name,
    ngx_http_agntkey_source_t *source)
{
    size_t  skip;

    source->index = ngx_http_get_variable_index(cf, name);
    if (source->index == NGX_ERROR) {
        return NGX_ERROR;
    }

    source->from = NGX_HTTP_AGNTKEY_FROM_VARIABLE;
    skip = 0;

    if (name->len > 5 && ngx_strncasecmp(name->data, (u_char *) "http_", 5)
        == 0)
    {
        source->from = NGX_HTTP_AGNTKEY_FROM_HEADER;
        skip = 5;

    } else if (name->len > 4
               && ngx_strncasecmp(name->data, (u_char *) "arg_", 4) == 0)
    {
        source->from = NGX_HTTP_AGNTKEY_FROM_ARG;
        skip = 4;

    } else if (name->len > 7
               && ngx_strncasecmp(name->data, (u_char *) "cookie_", 7) == 0)
    {
        source->from = NGX_HTTP_AGNTKEY_FROM_COOKIE;
        skip = 7;
    }

    source->name.len = name->len - skip;
    source->name.data = ngx_pnalloc(cf->pool, source->name.len);
    if (source->name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_strlow(source->name.data, name->data + skip, source->name.len);

    if (source->from == NGX_HTTP_AGNTKEY_FROM_HEADER
        && source->name.len == sizeof("authorization") - 1
        && ngx_strncmp(source->name.data, "authorization", source->name.len)
           == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"agntkey_token\" takes a bare key, which "
                           "$http_authorization is not; leave the directive "
                           "out to read bearer credentials");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static char *
ngx_http_agntkey_workspace(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                         *value;
    ngx_uint_t                         i;
    ngx_http_complex_value_t          *cv;
    ngx_http_agntkey_loc_conf_t       *alcf = conf;
    ngx_http_compile_complex_value_t   ccv;

    if (alcf->workspaces != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    alcf->workspaces = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                        sizeof(ngx_http_complex_value_t));
    if (alcf->workspaces == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (value[i].len
            && ngx_http_script_variables_count(&value[i]) == 0
            && !ngx_http_agntkey_record_workspace_valid(&value[i]))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid workspace name \"%V\" in \"%V\"",
                               &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }

        cv = ngx_array_push(alcf->workspaces);
        if (cv == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

        ccv.cf = cf;
        ccv.value = &value[i];
        ccv.complex_value = cv;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_agntkey_scope(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                    *value, *scope;
    ngx_uint_t                    i;
    ngx_http_agntkey_loc_conf_t  *alcf = conf;

    if (alcf->scopes != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    if (cf->args->nelts - 1 > NGX_HTTP_AGNTKEY_SCOPES) {
        return "asks for more scopes than a key can have";
    }

    alcf->scopes = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                    sizeof(ngx_str_t));
    if (alcf->scopes == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (!ngx_http_agntkey_record_scope_valid(&value[i])) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid scope \"%V\" in \"%V\"",
                               &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }

        scope = ngx_array_push(alcf->scopes);
        if (scope == NULL) {
            return NGX_CONF_ERROR;
        }

        *scope = value[i];
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_agntkey_ssl_protocols(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_agntkey_main_conf_t  *amcf = conf;

    if (amcf->ssl.protocols) {
        return "is duplicate";
    }

    return ngx_conf_set_bitmask_slot(cf, cmd, conf);
}


/* quoted-string, RFC 9110, section 5.6.4 */

static char *
ngx_http_agntkey_check_realm(ngx_conf_t *cf, void *post, void *data)
{
    u_char     *p, *dst;
    size_t      i;
    ngx_str_t  *realm = data;

    p = realm->data;

    dst = ngx_pnalloc(cf->pool, realm->len * 2 + 1);
    if (dst == NULL) {
        return NGX_CONF_ERROR;
    }

    realm->data = dst;

    for (i = 0; i < realm->len; i++) {

        if (p[i] < 0x20 || p[i] == 0x7f) {
            return "has a control character in it";
        }

        if (p[i] == '"' || p[i] == '\\') {
            *dst++ = '\\';
        }

        *dst++ = p[i];
    }

    realm->len = dst - realm->data;

    return NGX_CONF_OK;
}


static char *
ngx_http_agntkey_check_prefix(ngx_conf_t *cf, void *post, void *data)
{
    if (!ngx_http_agntkey_token_prefix_valid(data)) {
        return "must be 1 to 32 letters, digits, \"_\" and \"-\", "
               "the first a letter or a digit";
    }

    return NGX_CONF_OK;
}


/* Says what is wrong at the line where it stands. */

static char *
ngx_http_agntkey_check_url(ngx_conf_t *cf, void *post, void *data)
{
    char                    *err;
    u_char                  *buf;
    ngx_str_t               *url = data;
    ngx_http_agntkey_url_t   u;

    buf = ngx_pnalloc(cf->temp_pool, url->len + 1);
    if (buf == NULL) {
        return NGX_CONF_ERROR;
    }

    err = ngx_http_agntkey_url_parse(url, buf, &u);

    ngx_explicit_memzero(buf, url->len);

    if (err) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "bad URL in \"agntkey_redis\": %s", err);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_agntkey_check_timeout(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t  *msec = data;

    if (*msec < NGX_HTTP_AGNTKEY_TIMEOUT_MIN
        || *msec > NGX_HTTP_AGNTKEY_TIMEOUT_MAX)
    {
        return "must be between 1ms and 60s";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_agntkey_check_depth(ngx_conf_t *cf, void *post, void *data)
{
    ngx_int_t  *depth = data;

    if (*depth > 100) {
        return "must be between 0 and 100";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_agntkey_check_text(ngx_conf_t *cf, void *post, void *data)
{
    ngx_str_t  *text = data;

    if (text->len == 0) {
        return "must not be empty";
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_agntkey_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_agntkey_main_conf_t));
    if (amcf == NULL) {
        return NULL;
    }

    amcf->redis.connect_timeout = NGX_CONF_UNSET_MSEC;
    amcf->redis.timeout = NGX_CONF_UNSET_MSEC;

    amcf->ssl.verify = NGX_CONF_UNSET;
    amcf->ssl.verify_depth = NGX_CONF_UNSET;

    return amcf;
}


static char *
ngx_http_agntkey_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_agntkey_main_conf_t  *amcf = conf;

    if (amcf->prefix.data == NULL) {
        ngx_str_set(&amcf->prefix, "agnt");
    }

    if (amcf->redis_url.data == NULL) {
        ngx_str_set(&amcf->redis_url, "redis://127.0.0.1:6379");
    }

    if (amcf->ssl.ciphers.data == NULL) {
        ngx_str_set(&amcf->ssl.ciphers, "DEFAULT");
    }

    ngx_conf_init_msec_value(amcf->redis.connect_timeout, 1000);
    ngx_conf_init_msec_value(amcf->redis.timeout, 500);

    ngx_conf_init_value(amcf->ssl.verify, 1);
    ngx_conf_init_value(amcf->ssl.verify_depth, 9);

    if (amcf->ssl.protocols == 0) {
        amcf->ssl.protocols = NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3;
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_agntkey_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_agntkey_loc_conf_t  *alcf;

    alcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_agntkey_loc_conf_t));
    if (alcf == NULL) {
        return NULL;
    }

    alcf->enable = NGX_CONF_UNSET;
    alcf->dry_run = NGX_CONF_UNSET;
    alcf->workspaces = NGX_CONF_UNSET_PTR;
    alcf->scopes = NGX_CONF_UNSET_PTR;

    return alcf;
}


static char *
ngx_http_agntkey_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_agntkey_loc_conf_t  *prev = parent;
    ngx_http_agntkey_loc_conf_t  *conf = child;

    ngx_conf_merge_value(conf->enable, prev->enable, 0);
    ngx_conf_merge_value(conf->dry_run, prev->dry_run, 0);

    if (conf->sources == NULL && conf->token == NULL) {
        conf->sources = prev->sources;
        conf->token = prev->token;
        conf->apart = prev->apart;
    }

    ngx_conf_merge_str_value(conf->realm, prev->realm, "agntkey");
    ngx_conf_merge_ptr_value(conf->workspaces, prev->workspaces, NULL);
    ngx_conf_merge_ptr_value(conf->scopes, prev->scopes, NULL);

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_agntkey_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt           *h;
    ngx_http_core_main_conf_t     *cmcf;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);

    if (!amcf->enabled) {
        return NGX_OK;
    }

    if (ngx_http_agntkey_init_redis(cf, amcf) != NGX_OK) {
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_agntkey_access_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_agntkey_access_passed;

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_init_redis(ngx_conf_t *cf, ngx_http_agntkey_main_conf_t *amcf)
{
    char                           *err;
    u_char                         *buf;
    ngx_http_agntkey_url_t          url;
    ngx_http_core_loc_conf_t       *clcf;
    ngx_http_agntkey_redis_conf_t  *conf;

    conf = &amcf->redis;

    buf = ngx_pnalloc(cf->pool, amcf->redis_url.len + 1);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    err = ngx_http_agntkey_url_parse(&amcf->redis_url, buf, &url);
    if (err) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "bad URL in \"agntkey_redis\": %s", err);
        return NGX_ERROR;
    }

    conf->user = url.user;
    conf->password = url.password;
    conf->db = url.db;

    if (amcf->password_file.len
        && ngx_http_agntkey_read_password(cf, amcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->resolver && clcf->resolver->connections.nelts
        && !url.unix_socket)
    {
        conf->peer.resolver = clcf->resolver;
    }

    if (ngx_http_agntkey_peer_init(cf, &conf->peer, &url) != NGX_OK) {
        return NGX_ERROR;
    }

    return url.tls ? ngx_http_agntkey_init_ssl(cf, amcf) : NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_init_ssl(ngx_conf_t *cf, ngx_http_agntkey_main_conf_t *amcf)
{
    if (!amcf->ssl.certificate.len != !amcf->ssl.certificate_key.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"agntkey_redis_ssl_certificate\" and "
                           "\"agntkey_redis_ssl_certificate_key\" "
                           "go together");
        return NGX_ERROR;
    }

    return ngx_http_agntkey_peer_init_ssl(cf, &amcf->redis.peer, &amcf->ssl);
}


static ngx_int_t
ngx_http_agntkey_read_password(ngx_conf_t *cf,
    ngx_http_agntkey_main_conf_t *amcf)
{
    u_char     *p, *end, *buf;
    ssize_t     n;
    ngx_fd_t    fd;
    ngx_str_t  *name;

    name = &amcf->password_file;

    if (amcf->redis.password.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"agntkey_redis_password_file\" and a password "
                           "in \"agntkey_redis\" exclude each other");
        return NGX_ERROR;
    }

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    buf = ngx_pnalloc(cf->pool, NGX_HTTP_AGNTKEY_PASSWORD_MAX + 1);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"agntkey_redis_password_file\": " ngx_open_file_n
                           " \"%V\" failed", name);
        return NGX_ERROR;
    }

    n = ngx_read_fd(fd, buf, NGX_HTTP_AGNTKEY_PASSWORD_MAX + 1);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"agntkey_redis_password_file\": " ngx_read_fd_n
                           " \"%V\" failed", name);
        n = 0;

    } else {

        end = buf + n;

        for (p = buf; p < end; p++) {
            if (*p == LF || *p == CR) {
                break;
            }
        }

        n = p - buf;

        if (n == 0 || n > NGX_HTTP_AGNTKEY_PASSWORD_MAX) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"agntkey_redis_password_file\": the first "
                               "line of \"%V\" is %s", name,
                               n ? "too long" : "empty");
            n = 0;
        }
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    amcf->redis.password.data = buf;
    amcf->redis.password.len = n;

    return n ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_agntkey_init_process(ngx_cycle_t *cycle)
{
    ngx_http_agntkey_main_conf_t  *amcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    amcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_agntkey_module);

    if (amcf == NULL || !amcf->enabled) {
        return NGX_OK;
    }

    if (ngx_http_agntkey_token_init() != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "agntkey: OpenSSL has no SHA-256");
        return NGX_ERROR;
    }

    amcf->store = ngx_http_agntkey_store_create(&amcf->redis, cycle->log);

    return amcf->store ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_agntkey_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_agntkey_module);

    if (amcf && amcf->store) {
        ngx_http_agntkey_store_destroy(amcf->store);
        amcf->store = NULL;
    }

    ngx_http_agntkey_token_done();
}
