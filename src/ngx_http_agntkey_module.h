
/*
 * Copyright (C) the agntkey authors
 *
 * What the configuration says for all of nginx.
 */


#ifndef _NGX_HTTP_AGNTKEY_MODULE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_lookup.h"
#include "ngx_http_agntkey_redis_conf.h"
#include "ngx_http_agntkey_worker.h"


/* as in docs/openapi.json and CHANGELOG.md */
#define NGX_HTTP_AGNTKEY_VERSION   "0.1.0"


/* read-only when the configuration has been read, but for the worker */

typedef struct {
    ngx_str_t                        prefix;
    ngx_http_agntkey_redis_conf_t    redis;
    ngx_http_agntkey_lookup_conf_t   cache;
    ngx_msec_t                       last_used;      /* 0: not noted */

    /* what other modules want somewhere: a flag each */
    ngx_uint_t                       enabled;        /* anything */
    ngx_uint_t                       administered;   /* the admin API */
    ngx_uint_t                       stale;

    /* made when a worker starts; NULL in other processes */
    ngx_http_agntkey_worker_t       *worker;
} ngx_http_agntkey_main_conf_t;


extern ngx_module_t  ngx_http_agntkey_module;


#endif /* _NGX_HTTP_AGNTKEY_MODULE_H_INCLUDED_ */
