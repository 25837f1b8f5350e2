
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_worker.h"


static ngx_int_t ngx_http_agntkey_worker_init(
    ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_redis_conf_t *redis_conf,
    ngx_http_agntkey_lookup_conf_t *lookup_conf, ngx_msec_t last_used,
    ngx_uint_t administered, ngx_log_t *log);
static ngx_int_t ngx_http_agntkey_worker_init_admin(
    ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_redis_conf_t *redis_conf, ngx_log_t *log);


ngx_http_agntkey_worker_t *
ngx_http_agntkey_worker_create(ngx_http_agntkey_redis_conf_t *redis_conf,
    ngx_http_agntkey_lookup_conf_t *lookup_conf, ngx_msec_t last_used,
    ngx_uint_t administered, ngx_log_t *log)
{
    ngx_http_agntkey_worker_t  *worker;

    worker = ngx_calloc(sizeof(ngx_http_agntkey_worker_t), log);
    if (worker == NULL) {
        return NULL;
    }

    if (ngx_http_agntkey_worker_init(worker, redis_conf, lookup_conf,
                                     last_used, administered, log)
        != NGX_OK)
    {
        ngx_http_agntkey_worker_destroy(worker);
        return NULL;
    }

    ngx_http_agntkey_redis_client_connect(worker->commands);

    return worker;
}


static ngx_int_t
ngx_http_agntkey_worker_init(ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_redis_conf_t *redis_conf,
    ngx_http_agntkey_lookup_conf_t *lookup_conf, ngx_msec_t last_used,
    ngx_uint_t administered, ngx_log_t *log)
{
    ngx_http_agntkey_lease_handlers_t  handlers;

    worker->commands = ngx_http_agntkey_redis_client_create(redis_conf, log);
    if (worker->commands == NULL) {
        return NGX_ERROR;
    }

    worker->lookup = ngx_http_agntkey_lookup_create(worker->commands,
                                                    lookup_conf, log);
    if (worker->lookup == NULL) {
        return NGX_ERROR;
    }

    /* one that caches nothing may have to hear what other workers answer */

    if (lookup_conf->entries || administered) {

        ngx_http_agntkey_lookup_lease_handlers(&handlers);

        worker->lease = ngx_http_agntkey_lease_create(redis_conf,
                             worker->commands,
                             lookup_conf->entries ? lookup_conf->lease : 0,
                             &handlers, worker->lookup, log);
        if (worker->lease == NULL) {
            return NGX_ERROR;
        }

        ngx_http_agntkey_lookup_set_lease(worker->lookup, worker->lease);

        worker->acks = ngx_http_agntkey_barrier_ack_create(worker->lease,
                                                           worker->commands,
                                                           log);
        if (worker->acks == NULL) {
            return NGX_ERROR;
        }
    }

    if (last_used) {
        worker->usage = ngx_http_agntkey_usage_create(worker->commands,
                                                      last_used, log);
        if (worker->usage == NULL) {
            return NGX_ERROR;
        }
    }

    if (!administered) {
        return NGX_OK;
    }

    return ngx_http_agntkey_worker_init_admin(worker, redis_conf, log);
}


/*
 * A connection of its own, so that nothing that an administrator does holds up
 * requests.
 */

static ngx_int_t
ngx_http_agntkey_worker_init_admin(ngx_http_agntkey_worker_t *worker,
    ngx_http_agntkey_redis_conf_t *redis_conf, ngx_log_t *log)
{
    worker->admin = ngx_http_agntkey_redis_client_create(redis_conf, log);
    if (worker->admin == NULL) {
        return NGX_ERROR;
    }

    worker->barriers = ngx_http_agntkey_barriers_create(worker->lease,
                                                        worker->acks,
                                                        worker->admin,
                                                        redis_conf->timeout,
                                                        log);

    return worker->barriers ? NGX_OK : NGX_ERROR;
}


void
ngx_http_agntkey_worker_destroy(ngx_http_agntkey_worker_t *worker)
{
    if (worker->barriers) {
        ngx_http_agntkey_barriers_destroy(worker->barriers);
    }

    if (worker->admin) {
        ngx_http_agntkey_redis_client_destroy(worker->admin);
    }

    if (worker->acks) {
        ngx_http_agntkey_barrier_ack_destroy(worker->acks);
    }

    if (worker->usage) {
        ngx_http_agntkey_usage_destroy(worker->usage);
    }

    if (worker->lease) {
        ngx_http_agntkey_lease_destroy(worker->lease);
    }

    if (worker->commands) {
        ngx_http_agntkey_redis_client_destroy(worker->commands);
    }

    /* what waited for replies is gone now, without a word */

    if (worker->lookup) {
        ngx_http_agntkey_lookup_destroy(worker->lookup);
    }

    ngx_free(worker);
}
