
/*
 * Copyright (C) the agntkey authors
 *
 * The lease of one worker: while it is valid, the worker may answer from its
 * cache.
 *
 *     DOWN ---> READY ---> CANARY ---> RENEWING ---> VALID
 *      ^__________|__________|____________|____________|
 *
 *     READY     the invalidation connection is up
 *     CANARY    keys were written over the connection for commands; the
 *               invalidations of them show that tracking works, which a "+OK"
 *               does not
 *     RENEWING  the lease is in the registry of workers, and a message that was
 *               sent with it, with a nonce, is to come back
 *     VALID     it has come back; this is repeated while a lease lasts
 *
 * A worker that loses one of the two connections begins again.  "How a worker
 * gets a lease" in docs/coherence.md gives the reason for each step.
 */


#ifndef _NGX_HTTP_AGNTKEY_LEASE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_LEASE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_keyspace.h"
#include "ngx_http_agntkey_redis_client.h"
#include "ngx_http_agntkey_redis_conf.h"


/* how a worker is told from others, hex digits, and where it listens */
#define NGX_HTTP_AGNTKEY_WORKER_LEN       16
#define NGX_HTTP_AGNTKEY_WORKER_CHANNEL_LEN                                   \
    (sizeof(NGX_HTTP_AGNTKEY_NAME_WORKER) - 1 + NGX_HTTP_AGNTKEY_WORKER_LEN)


/* no lease is longer, ms; as in src/lua/mark.lua */
#define NGX_HTTP_AGNTKEY_LEASE_LONGEST    60000


typedef struct ngx_http_agntkey_lease_s  ngx_http_agntkey_lease_t;


/* calls to its owner; none of these may destroy the lease */

typedef struct {

    /* that key of Redis was written; NULL: any of them may have been */
    void   (*changed)(void *data, ngx_str_t *key);

    /* it has ended; the cache was right up to then, ms */
    void   (*expired)(void *data, int64_t renewed_at);

} ngx_http_agntkey_lease_handlers_t;

/* a message to all workers, or to this one, in order with invalidations */
typedef void (*ngx_http_agntkey_lease_message_pt)(void *data, ngx_str_t *text);


/*
 * The lease of one worker.  Commands go over the client that is given, which
 * outlives it.  With length (ms) 0 it is never valid, and only the messages of
 * other workers are received.  Returns NULL without memory.
 */
ngx_http_agntkey_lease_t *ngx_http_agntkey_lease_create(
    ngx_http_agntkey_redis_conf_t *conf,
    ngx_http_agntkey_redis_client_t *commands, ngx_msec_t length,
    ngx_http_agntkey_lease_handlers_t *handlers, void *data, ngx_log_t *log);

/* Leaves the registry, as far as that can be done at once. */
void ngx_http_agntkey_lease_destroy(ngx_http_agntkey_lease_t *lease);

/*
 * Is it valid at this time of ngx_http_agntkey_clock()?  1 or 0.
 */
ngx_uint_t ngx_http_agntkey_lease_valid(ngx_http_agntkey_lease_t *lease,
    int64_t now);

/* Sets the handlers of messages. */
void ngx_http_agntkey_lease_subscribe(ngx_http_agntkey_lease_t *lease,
    ngx_http_agntkey_lease_message_pt barrier,
    ngx_http_agntkey_lease_message_pt on_message, void *data);

/*
 * No worker has acknowledged.  A worker with a lease notices by itself if its
 * invalidation connection is the reason; one without begins again.
 */
void ngx_http_agntkey_lease_suspect(ngx_http_agntkey_lease_t *lease);

/* The id of this worker, hex digits, and its channel. */
u_char *ngx_http_agntkey_lease_worker(ngx_http_agntkey_lease_t *lease);
ngx_str_t *ngx_http_agntkey_lease_channel(ngx_http_agntkey_lease_t *lease);

/* The length of a lease in ms, of this worker or, without, of most. */
ngx_msec_t ngx_http_agntkey_lease_length(ngx_http_agntkey_lease_t *lease);


#endif /* _NGX_HTTP_AGNTKEY_LEASE_H_INCLUDED_ */
