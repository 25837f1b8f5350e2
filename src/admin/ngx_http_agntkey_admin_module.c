
/*
 * Copyright (C) the agntkey authors
 *
 * The directives of the admin API.
 */


#include "ngx_http_agntkey_access_ctx.h"
#include "ngx_http_agntkey_admin_api.h"
#include "ngx_http_agntkey_admin_auth.h"
#include "ngx_http_agntkey_admin_conf.h"
#include "ngx_http_agntkey_module.h"
#include "ngx_http_agntkey_value.h"


/* of agntkey_admin_max_keys: how many are not revoked, in a workspace */
#define NGX_HTTP_AGNTKEY_ADMIN_MAX_KEYS  10000
#define NGX_HTTP_AGNTKEY_KEYS_MAX        1000000000


static char *ngx_http_agntkey_admin_set_enable(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_agntkey_admin_set_workspace(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_agntkey_admin_check_max_keys(ngx_conf_t *cf, void *post,
    void *data);
static ngx_int_t ngx_http_agntkey_admin_place(ngx_conf_t *cf,
    ngx_http_core_loc_conf_t *clcf);

static void *ngx_http_agntkey_admin_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_agntkey_admin_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_agntkey_admin_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static ngx_int_t ngx_http_agntkey_admin_init(ngx_conf_t *cf);


static ngx_conf_post_t  ngx_http_agntkey_admin_max_keys_post =
    { ngx_http_agntkey_admin_check_max_keys };


static ngx_command_t  ngx_http_agntkey_admin_commands[] = {

    { ngx_string("agntkey_admin"),
      NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_http_agntkey_admin_set_enable,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_admin_loc_conf_t, enable),
      NULL },

    { ngx_string("agntkey_admin_token_file"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_agntkey_admin_auth_token_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agntkey_admin_workspace"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_agntkey_admin_set_workspace,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_admin_loc_conf_t, workspace),
      NULL },

    { ngx_string("agntkey_admin_max_keys"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_agntkey_admin_loc_conf_t, max_keys),
      &ngx_http_agntkey_admin_max_keys_post },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_agntkey_admin_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_agntkey_admin_init,           /* postconfiguration */

    ngx_http_agntkey_admin_create_main_conf, /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_agntkey_admin_create_loc_conf, /* create location configuration */
    ngx_http_agntkey_admin_merge_loc_conf  /* merge location configuration */
};


ngx_module_t  ngx_http_agntkey_admin_module = {
    NGX_MODULE_V1,
    &ngx_http_agntkey_admin_module_ctx,    /* module context */
    ngx_http_agntkey_admin_commands,       /* module directives */
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
ngx_http_agntkey_admin_set_enable(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char                               *rv;
    ngx_http_core_loc_conf_t           *clcf;
    ngx_http_agntkey_loc_conf_t        *alcf;
    ngx_http_agntkey_main_conf_t       *amcf;
    ngx_http_agntkey_admin_loc_conf_t  *admin = conf;

    rv = ngx_conf_set_flag_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK || !admin->enable) {
        return rv;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

#if (NGX_PCRE)
    if (clcf->regex) {
        return "stands in a prefix location only";
    }
#endif

    if (clcf->exact_match || clcf->named || clcf->name.len == 0) {
        return "stands in a prefix location only";
    }

    if (clcf->handler) {
        return "stands beside another content handler";
    }

    clcf->handler = ngx_http_agntkey_admin_api_handler;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_agntkey_module);
    amcf->enabled = 1;
    amcf->administered = 1;

    /*
     * Keys and admin tokens both want Authorization: a location that wants
     * both says so itself.
     */

    alcf = ngx_http_conf_get_module_loc_conf(cf,
                                             ngx_http_agntkey_access_module);
    alcf->alone = 1;

    if (ngx_http_agntkey_admin_place(cf, clcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* To be looked at again when all has been read. */

static ngx_int_t
ngx_http_agntkey_admin_place(ngx_conf_t *cf, ngx_http_core_loc_conf_t *clcf)
{
    ngx_array_t                *places;
    ngx_http_core_loc_conf_t  **place;

    places = ngx_http_conf_get_module_main_conf(cf,
                                                ngx_http_agntkey_admin_module);

    place = ngx_array_push(places);
    if (place == NULL) {
        return NGX_ERROR;
    }

    *place = clcf;

    return NGX_OK;
}


static char *
ngx_http_agntkey_admin_set_workspace(ngx_conf_t *cf, ngx_command_t *cmd,
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
ngx_http_agntkey_admin_check_max_keys(ngx_conf_t *cf, void *post, void *data)
{
    ngx_int_t  *keys = data;

    if (*keys < 1 || *keys > NGX_HTTP_AGNTKEY_KEYS_MAX) {
        return "must be between 1 and 1000000000";
    }

    return NGX_CONF_OK;
}


/* The places where the API is, which are ngx_http_core_loc_conf_t *. */

static void *
ngx_http_agntkey_admin_create_main_conf(ngx_conf_t *cf)
{
    return ngx_array_create(cf->pool, 4, sizeof(ngx_http_core_loc_conf_t *));
}


static void *
ngx_http_agntkey_admin_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_agntkey_admin_loc_conf_t  *admin;

    admin = ngx_pcalloc(cf->pool, sizeof(ngx_http_agntkey_admin_loc_conf_t));
    if (admin == NULL) {
        return NULL;
    }

    admin->enable = NGX_CONF_UNSET;
    admin->tokens_off = NGX_CONF_UNSET;
    admin->max_keys = NGX_CONF_UNSET;

    return admin;
}


/*
 * Nothing is inherited, as with all content handlers, but by an "if" or
 * limit_except: it keeps the handler, the tokens and the pin of its location.
 */

static char *
ngx_http_agntkey_admin_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_agntkey_admin_loc_conf_t  *prev = parent;
    ngx_http_agntkey_admin_loc_conf_t  *conf = child;

    ngx_http_core_loc_conf_t           *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname && prev->enable == 1) {

        *conf = *prev;

        if (clcf->lmt_excpt && clcf->handler == NULL) {
            clcf->handler = ngx_http_agntkey_admin_api_handler;
        }

        if (ngx_http_agntkey_admin_place(cf, clcf) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    ngx_conf_init_value(conf->max_keys, NGX_HTTP_AGNTKEY_ADMIN_MAX_KEYS);

    if (conf->enable != 1 || conf->tokens_off == 1 || conf->tokens) {
        return NGX_CONF_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"agntkey_admin on\" needs \"agntkey_admin_token_file\": "
                  "a file of digests, or \"off\" where something else guards "
                  "the location");

    return NGX_CONF_ERROR;
}


/*
 * Other directives may set the handler before ours, after it, or when blocks
 * are merged, so that only the end shows who has it.  In an "if" nobody may:
 * that of the location around it goes on to count there.
 */

static ngx_int_t
ngx_http_agntkey_admin_init(ngx_conf_t *cf)
{
    ngx_uint_t                 i;
    ngx_array_t               *places;
    ngx_http_core_loc_conf_t  *clcf, **place;

    places = ngx_http_conf_get_module_main_conf(cf,
                                                ngx_http_agntkey_admin_module);
    place = places->elts;

    for (i = 0; i < places->nelts; i++) {

        clcf = place[i];

        if (clcf->handler == ngx_http_agntkey_admin_api_handler
            || (clcf->noname && !clcf->lmt_excpt && clcf->handler == NULL))
        {
            continue;
        }

        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"agntkey_admin on\" stands beside another content "
                      "handler in location \"%V\"", &clcf->name);

        return NGX_ERROR;
    }

    return NGX_OK;
}
