
/*
 * Copyright (C) the agntkey authors
 *
 * What one worker has: made when it starts, ended when it exits, in one place.
 *
 *     commands <--- lookup, lease, usage, acks       requests
 *     admin    <--- barriers, the admin API          administrators
 */


#ifndef _NGX_HTTP_AGNTKEY_WORKER_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_WORKER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_barrier.h"
#include "ngx_http_agntkey_barrier_ack.h"
#include "ngx_http_agntkey_lease.h"
#include "ngx_http_agntkey_lookup.h"
#include "ngx_http_agntkey_redis_client.h"
#include "ngx_http_agntkey_redis_conf.h"
#include "ngx_http_agntkey_usage.h"


/* owner of all it points to */

typedef struct {
    ngx_http_agntkey_lookup_t        *lookup;
    ngx_http_agntkey_usage_t         *usage;      /* NULL: not noted */

    /* of the two, and of these */
    ngx_http_agntkey_redis_client_t  *commands;
    ngx_http_agntkey_lease_t         *lease;      /* NULL: nobody needs it */
    ngx_http_agntkey_barrier_ack_t   *acks;       /* NULL: without a lease */

    /* of administrators; NULL without an admin location */
    ngx_http_agntkey_redis_client_t  *admin;
    ngx_http_agntkey_barriers_t      *barriers;
} ngx_http_agntkey_worker_t;


/*
 * Connects in the background.  The configurations outlive the worker; last_used
 * is in ms, 0: not noted.  Returns NULL without memory.
 */
ngx_http_agntkey_worker_t *ngx_http_agntkey_worker_create(
    ngx_http_agntkey_redis_conf_t *redis_conf,
    ngx_http_agntkey_lookup_conf_t *lookup_conf, ngx_msec_t last_used,
    ngx_uint_t administered, ngx_log_t *log);

/* Gives up the lease and writes last uses, as far as can be done at once. */
void ngx_http_agntkey_worker_destroy(ngx_http_agntkey_worker_t *worker);


#endif /* _NGX_HTTP_AGNTKEY_WORKER_H_INCLUDED_ */
