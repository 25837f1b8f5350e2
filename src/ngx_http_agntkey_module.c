
/*
 * Copyright (C) the agntkey authors
 *
 * Directives, configuration, registration.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_agntkey_access.h"
#include "ngx_http_agntkey_access_ctx.h"
#include "ngx_http_agntkey_admin_api.h"
#include "ngx_http_agntkey_admin_auth.h"
#include "ngx_http_agntkey_barrier.h"
#include "ngx_http_agntkey_barrier_ack.h"
#include "ngx_http_agntkey_credentials.h"
#include "ngx_http_agntkey_lookup.h"
#include "ngx_http_agntkey_redis_conf.h"
#include "ngx_http_agntkey_redis_url.h"
#include "ngx_http_agntkey_refusal.h"
#include "ngx_http_agntkey_token.h"
#include "ngx_http_agntkey_value.h"
#include "ngx_http_agntkey_variables.h"


/* of every agntkey_*_timeout, ms */
#define NGX_HTTP_AGNTKEY_TIMEOUT_MIN   1
#define NGX_HTTP_AGNTKEY_TIMEOUT_MAX   60000

/* of agntkey_cache: keys, and ms */
#define NGX_HTTP_AGNTKEY_ENTRIES_MAX   1000000
#define NGX_HTTP_AGNTKEY_LEASE_MIN     100
#define NGX_HTTP_AGNTKEY_LEASE_MAX     NGX_HTTP_AGNTKEY_LEASE_LONGEST

/* of agntkey_last_used, ms */
#define NGX_HTTP_AGNTKEY_LAST_USED_MAX  3600000

/* of agntkey_admin_max_keys */
#define NGX_HTTP_AGNTKEY_KEYS_MAX      1000000000

#define NGX_HTTP_AGNTKEY_EVERYWHERE                                           \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static char *ngx_http_agntkey_set_enable(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_agntkey_set_workspace(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_agntkey_set_scope(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_agntkey_set_admin_workspace(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_agntkey_ssl_protocols(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);

static char *ngx_http_agntkey_set_cache(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_agntkey_set_last_used(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

static char *ngx_http_agntkey_check_realm(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_prefix(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_url(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_timeout(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_stale(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_depth(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_keys(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_check_text(ngx_conf_t *cf, void *post,
    void *data);

static void *ngx_http_agntkey_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_agntkey_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_agntkey_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_agntkey_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

static ngx_int_t ngx_http_agntkey_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_agntkey_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_agntkey_init_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_agntkey_init_worker(
    ngx_http_agntkey_main_conf_t *amcf, ngx_log_t *log);
static void ngx_http_agntkey_exit_process(ngx_cycle_t *cycle);


static ngx_conf_post_t  ngx_http_agntkey_realm_post =
    { ngx_http_agntkey_check_realm };

static ngx_conf_post_t  ngx_http_agntkey_prefix_post =
    { ngx_http_agntkey_check_prefix };

static ngx_conf_post_t  ngx_http_agntkey_redis_url_post =
    { ngx_http_agntkey_check_url };

static ngx_conf_post_t  ngx_http_agntkey_timeout_post =
    { ngx_http_agntkey_check_timeout };

static ngx_conf_post_t  ngx_http_agntkey_stale_post =
    { ngx_http_agntkey_check_stale };

static ngx_conf_post_t  ngx_http_agntkey_depth_post =
    { ngx_http_agntkey_check_depth };

static ngx_conf_post_t  ngx_http_agntkey_keys_post =
    { ngx_http_agntkey_check_keys };

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
      ngx_http_agntkey_set_enable,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, enable),
      NULL },

    { ngx_string("agntkey_token"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_http_agntkey_credentials_slot,
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
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_HTTP_LMT_CONF|NGX_CONF_1MORE,
      ngx_http_agntkey_set_workspace,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agntkey_scope"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_HTTP_LMT_CONF|NGX_CONF_1MORE,
      ngx_http_agntkey_set_scope,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agntkey_dry_run"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, dry_run),
      NULL },

    { ngx_string("agntkey_stale"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, stale),
      &ngx_http_agntkey_stale_post },

    { ngx_string("agntkey_admin"),
      NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_http_agntkey_admin_api_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, admin),
      NULL },

    { ngx_string("agntkey_admin_token_file"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_agntkey_admin_auth_token_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agntkey_admin_workspace"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_agntkey_set_admin_workspace,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, admin_workspace),
      NULL },

    { ngx_string("agntkey_admin_max_keys"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_loc_conf_t, admin_max_keys),
      &ngx_http_agntkey_keys_post },

    { ngx_string("agntkey_prefix"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, prefix),
      &ngx_http_agntkey_prefix_post },

    { ngx_string("agntkey_cache"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE123,
      ngx_http_agntkey_set_cache,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, cache),
      NULL },

    { ngx_string("agntkey_last_used"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_agntkey_set_last_used,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, last_used),
      NULL },

    { ngx_string("agntkey_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.url),
      &ngx_http_agntkey_redis_url_post },

    { ngx_string("agntkey_redis_password_file"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.password_file),
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
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.trusted_certificate),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_crl"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.crl),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.certificate),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_certificate_key"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.certificate_key),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_name"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.name),
      &ngx_http_agntkey_text_post },

    { ngx_string("agntkey_redis_ssl_verify"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.verify),
      NULL },

    { ngx_string("agntkey_redis_ssl_verify_depth"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.verify_depth),
      &ngx_http_agntkey_depth_post },

    { ngx_string("agntkey_redis_ssl_protocols"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_agntkey_ssl_protocols,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.protocols),
      &ngx_http_agntkey_protocols },

    { ngx_string("agntkey_redis_ssl_ciphers"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_agntkey_main_conf_t, redis.ssl.ciphers),
      &ngx_http_agntkey_text_post },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_agntkey_module_ctx = {
    ngx_http_agntkey_variables_add,             /* preconfiguration */
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
    ngx_http_agntkey_init_module,          /* init module */
    ngx_http_agntkey_init_process,         /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_agntkey_exit_process,         /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static char *
ngx_http_agntkey_set_enable(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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
ngx_http_agntkey_set_workspace(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                         *value;
    ngx_uint_t                         i;
    ngx_http_complex_value_t          *cv;
    ngx_http_agntkey_loc_conf_t       *alcf = conf;
    ngx_http_compile_complex_value_t   ccv;

    if (alcf->workspaces != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        alcf->workspaces = NULL;
        return NGX_CONF_OK;
    }

    alcf->workspaces = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                        sizeof(ngx_http_complex_value_t));
    if (alcf->workspaces == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_agntkey_value_is_switch(&value[i])) {
            return "takes names of workspaces, or \"off\" alone";
        }

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
ngx_http_agntkey_set_scope(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                    *value, *scope;
    ngx_uint_t                    i;
    ngx_http_agntkey_loc_conf_t  *alcf = conf;

    if (alcf->scopes != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        alcf->scopes = NULL;
        return NGX_CONF_OK;
    }

    if (cf->args->nelts - 1 > NGX_HTTP_AGNTKEY_SCOPES) {
        return "asks for more scopes than a key can have";
    }

    alcf->scopes = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                    sizeof(ngx_str_t));
    if (alcf->scopes == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_agntkey_value_is_switch(&value[i])) {
            return "takes names of scopes, or \"off\" alone";
        }

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
ngx_http_agntkey_set_admin_workspace(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_http_agntkey_value_is_switch(&value[1])) {
        return "takes a workspace; without the directive there is no pin";
    }

    return ngx_http_set_complex_value_slot(cf, cmd, conf);
}


static char *
ngx_http_agntkey_ssl_protocols(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                          *rv;
    ngx_http_agntkey_main_conf_t  *amcf = conf;

    if (amcf->redis.ssl.protocols) {
        return "is duplicate";
    }

    rv = ngx_conf_set_bitmask_slot(cf, cmd, conf);

    /* which has said what is wrong, but not where */

    return (rv == NGX_CONF_OK) ? NGX_CONF_OK : "has an unknown protocol";
}


static char *
ngx_http_agntkey_set_cache(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_int_t                        n;
    ngx_str_t                       *value, s;
    ngx_uint_t                       i, off;
    ngx_http_agntkey_main_conf_t    *amcf = conf;
    ngx_http_agntkey_lookup_conf_t  *cache;

    cache = &amcf->cache;

    if (cache->entries != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;
    off = 0;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "off") == 0 && cf->args->nelts == 2) {
            off = 1;
            continue;
        }

        if (ngx_strncmp(value[i].data, "entries=", 8) == 0
            && cache->entries == NGX_CONF_UNSET_UINT)
        {
            n = ngx_atoi(value[i].data + 8, value[i].len - 8);

            if (n < 1 || n > NGX_HTTP_AGNTKEY_ENTRIES_MAX) {
                goto invalid;
            }

            cache->entries = n;
            continue;
        }

        if (ngx_strncmp(value[i].data, "negative=", 9) == 0
            && cache->negative == NGX_CONF_UNSET_UINT)
        {
            n = ngx_atoi(value[i].data + 9, value[i].len - 9);

            if (n < 0 || n > NGX_HTTP_AGNTKEY_ENTRIES_MAX) {
                goto invalid;
            }

            cache->negative = n;
            continue;
        }

        if (ngx_strncmp(value[i].data, "lease=", 6) == 0
            && cache->lease == NGX_CONF_UNSET_MSEC)
        {
            s.data = value[i].data + 6;
            s.len = value[i].len - 6;

            n = ngx_parse_time(&s, 0);

            if (n < NGX_HTTP_AGNTKEY_LEASE_MIN
                || n > NGX_HTTP_AGNTKEY_LEASE_MAX)
            {
                goto invalid;
            }

            cache->lease = n;
            continue;
        }

        goto invalid;
    }

    if (off) {
        cache->entries = 0;

    } else if (cache->entries == NGX_CONF_UNSET_UINT) {
        return "needs \"entries=\" or \"off\"";
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\" in \"%V\"",
                       &value[i], &cmd->name);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_agntkey_set_last_used(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                          *rv;
    ngx_str_t                     *value;
    ngx_http_agntkey_main_conf_t  *amcf = conf;

    if (amcf->last_used != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        amcf->last_used = 0;
        return NGX_CONF_OK;
    }

    rv = ngx_conf_set_msec_slot(cf, cmd, conf);

    if (rv == NGX_CONF_OK
        && (amcf->last_used < 1
            || amcf->last_used > NGX_HTTP_AGNTKEY_LAST_USED_MAX))
    {
        return "must be \"off\" or between 1ms and 1h";
    }

    return rv;
}


/* quoted-string, RFC 9110, section 5.6.4 */

static char *
ngx_http_agntkey_check_realm(ngx_conf_t *cf, void *post, void *data)
{
    u_char     *p, *dst;
    size_t      i;
    ngx_str_t  *realm = data;

    if (ngx_http_agntkey_value_is_switch(realm)) {
        return "takes a text; it is \"agntkey\" that switches off and on";
    }

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
    if (ngx_http_agntkey_value_is_switch(data)) {
        return "takes what keys begin with, which they always do";
    }

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
    char                          *err;
    u_char                        *buf;
    ngx_str_t                     *url = data;
    ngx_http_agntkey_redis_url_t   u;

    buf = ngx_pnalloc(cf->temp_pool, url->len + 1);
    if (buf == NULL) {
        return NGX_CONF_ERROR;
    }

    err = ngx_http_agntkey_redis_url_parse(url, buf, &u);

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


/* It is of use with a cache only, about which a later line may decide. */

static char *
ngx_http_agntkey_check_stale(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t                    *msec = data;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);

    if (*msec) {
        amcf->stale = 1;
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
ngx_http_agntkey_check_keys(ngx_conf_t *cf, void *post, void *data)
{
    ngx_int_t  *keys = data;

    if (*keys < 1 || *keys > NGX_HTTP_AGNTKEY_KEYS_MAX) {
        return "must be between 1 and 1000000000";
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

    if (ngx_http_agntkey_value_is_switch(text)) {
        return "cannot be switched; leave the directive out";
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

    amcf->last_used = NGX_CONF_UNSET_MSEC;

    amcf->cache.entries = NGX_CONF_UNSET_UINT;
    amcf->cache.negative = NGX_CONF_UNSET_UINT;
    amcf->cache.lease = NGX_CONF_UNSET_MSEC;

    amcf->redis.connect_timeout = NGX_CONF_UNSET_MSEC;
    amcf->redis.timeout = NGX_CONF_UNSET_MSEC;

    amcf->redis.ssl.verify = NGX_CONF_UNSET;
    amcf->redis.ssl.verify_depth = NGX_CONF_UNSET;

    return amcf;
}


static char *
ngx_http_agntkey_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_agntkey_main_conf_t  *amcf = conf;

    if (amcf->prefix.data == NULL) {
        ngx_str_set(&amcf->prefix, "agnt");
    }

    if (amcf->redis.url.data == NULL) {
        ngx_str_set(&amcf->redis.url, "redis://127.0.0.1:6379");
    }

    if (amcf->redis.ssl.ciphers.data == NULL) {
        ngx_str_set(&amcf->redis.ssl.ciphers, "DEFAULT");
    }

    ngx_conf_init_msec_value(amcf->last_used, 1000);

    ngx_conf_init_uint_value(amcf->cache.entries, 10000);
    ngx_conf_init_uint_value(amcf->cache.negative, 1000);
    ngx_conf_init_msec_value(amcf->cache.lease, 2000);

    ngx_conf_init_msec_value(amcf->redis.connect_timeout, 1000);
    ngx_conf_init_msec_value(amcf->redis.timeout, 500);

    ngx_conf_init_value(amcf->redis.ssl.verify, 1);
    ngx_conf_init_value(amcf->redis.ssl.verify_depth, 1);

    if (amcf->redis.ssl.protocols == 0) {
        amcf->redis.ssl.protocols = NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3;
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
    alcf->stale = NGX_CONF_UNSET_MSEC;
    alcf->workspaces = NGX_CONF_UNSET_PTR;
    alcf->scopes = NGX_CONF_UNSET_PTR;
    alcf->admin = NGX_CONF_UNSET;
    alcf->admin_tokens_off = NGX_CONF_UNSET;
    alcf->admin_max_keys = NGX_CONF_UNSET;

    return alcf;
}


static char *
ngx_http_agntkey_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_agntkey_loc_conf_t  *prev = parent;
    ngx_http_agntkey_loc_conf_t  *conf = child;

    ngx_flag_t                     written;

    written = conf->enable;

    if (ngx_http_agntkey_admin_api_merge(cf, prev, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_value(conf->enable, prev->enable, 0);

    conf->check = ngx_http_agntkey_admin_api_check(cf, prev, conf, written);

    ngx_conf_merge_value(conf->dry_run, prev->dry_run, 0);
    ngx_conf_merge_msec_value(conf->stale, prev->stale, 0);

    ngx_http_agntkey_credentials_merge(cf, prev, conf);

    ngx_conf_merge_str_value(conf->realm, prev->realm, "agntkey");
    ngx_conf_merge_ptr_value(conf->workspaces, prev->workspaces, NULL);
    ngx_conf_merge_ptr_value(conf->scopes, prev->scopes, NULL);

    if (conf->check
        && ngx_http_agntkey_refusal_prepare(cf, conf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_agntkey_init(ngx_conf_t *cf)
{
    ngx_resolver_t                *resolver;
    ngx_http_handler_pt           *h;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_core_main_conf_t     *cmcf;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);

    if (!amcf->enabled) {
        return NGX_OK;
    }

    if (ngx_http_agntkey_admin_api_alone(cf, amcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (amcf->stale && amcf->cache.entries == 0) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"agntkey_stale\" is of no use with "
                           "\"agntkey_cache off\"");
    }

    /* without "resolver" nginx has an empty one */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    resolver = clcf->resolver;

    if (resolver && resolver->connections.nelts == 0) {
        resolver = NULL;
    }

    if (ngx_http_agntkey_redis_conf_init(cf, &amcf->redis,
                                         resolver) != NGX_OK) {
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


/*
 * With "master_process off" a reload makes a new configuration and no new
 * process: nobody calls init_process, and exit_process is called for the new
 * one.  It takes over what the process has.
 */

static ngx_int_t
ngx_http_agntkey_init_module(ngx_cycle_t *cycle)
{
    ngx_http_agntkey_main_conf_t  *amcf, *old;

    if (ngx_process != NGX_PROCESS_SINGLE
        || ngx_is_init_cycle(cycle->old_cycle))
    {
        return NGX_OK;
    }

    amcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_agntkey_module);
    old = ngx_http_cycle_get_module_main_conf(cycle->old_cycle,
                                              ngx_http_agntkey_module);

    if (amcf == NULL || old == NULL) {
        return NGX_OK;
    }

    amcf->lookup = old->lookup;
    amcf->usage = old->usage;
    amcf->acks = old->acks;
    amcf->admin = old->admin;
    amcf->barriers = old->barriers;

    return NGX_OK;
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

    return ngx_http_agntkey_init_worker(amcf, cycle->log);
}


/* What a worker has of its own. */

static ngx_int_t
ngx_http_agntkey_init_worker(ngx_http_agntkey_main_conf_t *amcf, ngx_log_t *log)
{
    ngx_http_agntkey_redis_t  *commands;
    ngx_http_agntkey_lease_t  *lease;

    amcf->lookup = ngx_http_agntkey_lookup_create(&amcf->redis, &amcf->cache,
                                                  amcf->administered, log);
    if (amcf->lookup == NULL) {
        return NGX_ERROR;
    }

    commands = ngx_http_agntkey_lookup_redis(amcf->lookup);
    lease = ngx_http_agntkey_lookup_lease(amcf->lookup);

    if (amcf->last_used) {
        amcf->usage = ngx_http_agntkey_usage_create(commands, amcf->last_used,
                                                    log);
        if (amcf->usage == NULL) {
            return NGX_ERROR;
        }
    }

    if (lease) {
        amcf->acks = ngx_http_agntkey_barrier_ack_create(lease, commands, log);
        if (amcf->acks == NULL) {
            return NGX_ERROR;
        }
    }

    if (!amcf->administered) {
        return NGX_OK;
    }

    /* of its own, so that nothing an administrator does holds up requests */

    amcf->admin = ngx_http_agntkey_redis_create(&amcf->redis, log);
    if (amcf->admin == NULL) {
        return NGX_ERROR;
    }

    amcf->barriers = ngx_http_agntkey_barriers_create(lease, amcf->acks,
                                                      amcf->admin,
                                                      amcf->redis.timeout,
                                                      log);

    return amcf->barriers ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_agntkey_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_agntkey_module);

    if (amcf && amcf->barriers) {
        ngx_http_agntkey_barriers_destroy(amcf->barriers);
        amcf->barriers = NULL;
    }

    if (amcf && amcf->admin) {
        ngx_http_agntkey_redis_destroy(amcf->admin);
        amcf->admin = NULL;
    }

    if (amcf && amcf->acks) {
        ngx_http_agntkey_barrier_ack_destroy(amcf->acks);
        amcf->acks = NULL;
    }

    if (amcf && amcf->usage) {
        ngx_http_agntkey_usage_destroy(amcf->usage);
        amcf->usage = NULL;
    }

    if (amcf && amcf->lookup) {
        ngx_http_agntkey_lookup_destroy(amcf->lookup);
        amcf->lookup = NULL;
    }

    ngx_http_agntkey_token_done();
}
