
/*
 * Copyright (C) the agntkey authors
 *
 * The directives that are about all of nginx; the start and end of a worker.
 */


#include "ngx_http_agntkey_module.h"
#include "ngx_http_agntkey_redis_url.h"
#include "ngx_http_agntkey_token.h"
#include "ngx_http_agntkey_value.h"


/* of every agntkey_*_timeout, ms */
#define NGX_HTTP_AGNTKEY_TIMEOUT_MIN   1
#define NGX_HTTP_AGNTKEY_TIMEOUT_MAX   60000

/* of agntkey_cache: keys, and ms */
#define NGX_HTTP_AGNTKEY_ENTRIES_MAX   1000000
#define NGX_HTTP_AGNTKEY_LEASE_MIN     100
#define NGX_HTTP_AGNTKEY_LEASE_MAX     NGX_HTTP_AGNTKEY_LEASE_LONGEST

/* of agntkey_last_used, ms */
#define NGX_HTTP_AGNTKEY_LAST_USED_MAX  3600000


static char *ngx_http_agntkey_ssl_protocols(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);

static char *ngx_http_agntkey_set_cache(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_agntkey_set_last_used(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

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

static ngx_int_t ngx_http_agntkey_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_agntkey_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_agntkey_init_process(ngx_cycle_t *cycle);
static void ngx_http_agntkey_exit_process(ngx_cycle_t *cycle);


static ngx_conf_post_t  ngx_http_agntkey_prefix_post =
    { ngx_http_agntkey_check_prefix };

static ngx_conf_post_t  ngx_http_agntkey_redis_url_post =
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
    NULL,                                  /* preconfiguration */
    ngx_http_agntkey_init,                 /* postconfiguration */

    ngx_http_agntkey_create_main_conf,     /* create main configuration */
    ngx_http_agntkey_init_main_conf,       /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
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


static ngx_int_t
ngx_http_agntkey_init(ngx_conf_t *cf)
{
    ngx_resolver_t                *resolver;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);

    if (!amcf->enabled) {
        return NGX_OK;
    }

    /* without "resolver" nginx has an empty one */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    resolver = clcf->resolver;

    if (resolver && resolver->connections.nelts == 0) {
        resolver = NULL;
    }

    return ngx_http_agntkey_redis_conf_init(cf, &amcf->redis, resolver);
}


/*
 * The version is that of the code that runs, which a reload does not change.
 *
 * With "master_process off" a reload makes a new configuration and no new
 * process: nobody calls init_process, and exit_process is called for the new
 * one.  It takes over what the process has.
 */

static ngx_int_t
ngx_http_agntkey_init_module(ngx_cycle_t *cycle)
{
    ngx_http_agntkey_main_conf_t  *amcf, *old;

    amcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_agntkey_module);

    if (amcf && amcf->enabled) {
        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "agntkey: version " NGX_HTTP_AGNTKEY_VERSION);
    }

    if (ngx_process != NGX_PROCESS_SINGLE
        || ngx_is_init_cycle(cycle->old_cycle))
    {
        return NGX_OK;
    }

    old = ngx_http_cycle_get_module_main_conf(cycle->old_cycle,
                                              ngx_http_agntkey_module);

    if (amcf == NULL || old == NULL) {
        return NGX_OK;
    }

    amcf->worker = old->worker;

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

    amcf->worker = ngx_http_agntkey_worker_create(&amcf->redis, &amcf->cache,
                                                  amcf->last_used,
                                                  amcf->administered,
                                                  cycle->log);

    return amcf->worker ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_agntkey_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_agntkey_module);

    if (amcf && amcf->worker) {
        ngx_http_agntkey_worker_destroy(amcf->worker);
        amcf->worker = NULL;
    }

    ngx_http_agntkey_token_done();
}
