
/*
 * Copyright (C) the agntkey authors
 *
 * The directives of a check, and its place among the phases.
 */


#include "ngx_http_agntkey_access.h"
#include "ngx_http_agntkey_access_ctx.h"
#include "ngx_http_agntkey_credentials.h"
#include "ngx_http_agntkey_module.h"
#include "ngx_http_agntkey_refusal.h"
#include "ngx_http_agntkey_value.h"
#include "ngx_http_agntkey_variables.h"


#define NGX_HTTP_AGNTKEY_EVERYWHERE                                           \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static char *ngx_http_agntkey_access_set_enable(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_agntkey_access_set_workspace(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_agntkey_access_set_scope(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_agntkey_access_check_realm(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_agntkey_access_check_stale(ngx_conf_t *cf, void *post,
    void *data);

static void *ngx_http_agntkey_access_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_agntkey_access_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static ngx_int_t ngx_http_agntkey_access_init(ngx_conf_t *cf);


static ngx_conf_post_t  ngx_http_agntkey_access_realm_post =
    { ngx_http_agntkey_access_check_realm };

static ngx_conf_post_t  ngx_http_agntkey_access_stale_post =
    { ngx_http_agntkey_access_check_stale };


static ngx_command_t  ngx_http_agntkey_access_commands[] = {

    { ngx_string("agntkey"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_HTTP_LMT_CONF|NGX_CONF_FLAG,
      ngx_http_agntkey_access_set_enable,
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
      &ngx_http_agntkey_access_realm_post },

    { ngx_string("agntkey_workspace"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_HTTP_LMT_CONF|NGX_CONF_1MORE,
      ngx_http_agntkey_access_set_workspace,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agntkey_scope"),
      NGX_HTTP_AGNTKEY_EVERYWHERE|NGX_HTTP_LMT_CONF|NGX_CONF_1MORE,
      ngx_http_agntkey_access_set_scope,
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
      &ngx_http_agntkey_access_stale_post },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_agntkey_access_module_ctx = {
    ngx_http_agntkey_variables_add,        /* preconfiguration */
    ngx_http_agntkey_access_init,          /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_agntkey_access_create_loc_conf, /* create location configuration */
    ngx_http_agntkey_access_merge_loc_conf /* merge location configuration */
};


ngx_module_t  ngx_http_agntkey_access_module = {
    NGX_MODULE_V1,
    &ngx_http_agntkey_access_module_ctx,   /* module context */
    ngx_http_agntkey_access_commands,      /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static char *
ngx_http_agntkey_access_set_enable(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
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
ngx_http_agntkey_access_set_workspace(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
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
ngx_http_agntkey_access_set_scope(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
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


/* quoted-string, RFC 9110, section 5.6.4 */

static char *
ngx_http_agntkey_access_check_realm(ngx_conf_t *cf, void *post, void *data)
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


/* It is of use with a cache only, about which a later line may decide. */

static char *
ngx_http_agntkey_access_check_stale(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t                    *msec = data;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);

    if (*msec) {
        amcf->stale = 1;
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_agntkey_access_create_loc_conf(ngx_conf_t *cf)
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

    return alcf;
}


static char *
ngx_http_agntkey_access_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_agntkey_loc_conf_t  *prev = parent;
    ngx_http_agntkey_loc_conf_t  *conf = child;

    ngx_flag_t                    written;
    ngx_http_core_loc_conf_t     *clcf;

    written = conf->enable;

    ngx_conf_merge_value(conf->enable, prev->enable, 0);

    conf->check = conf->enable;

    /* an "if" or limit_except is a part of the location around it */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname && prev->alone) {
        conf->alone = 1;
    }

    if (conf->alone && written == NGX_CONF_UNSET) {
        conf->check = clcf->noname ? prev->check : 0;
    }

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
ngx_http_agntkey_access_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt           *h;
    ngx_http_core_main_conf_t     *cmcf;
    ngx_http_agntkey_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);

    if (!amcf->enabled) {
        return NGX_OK;
    }

    if (amcf->stale && amcf->cache.entries == 0) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"agntkey_stale\" is of no use with "
                           "\"agntkey_cache off\"");
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
