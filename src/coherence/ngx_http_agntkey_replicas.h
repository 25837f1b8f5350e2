
/*
 * Copyright (C) the agntkey authors
 *
 * On how many replicas is a write, and is it on the disk of Redis?  WAIT and
 * WAITAOF stop all who use their connection
 * (redis.io/docs/latest/commands/wait and waitaof), so one question at a time
 * is asked for all who want to know.
 */


#ifndef _NGX_HTTP_AGNTKEY_REPLICAS_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REPLICAS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_client.h"


typedef struct ngx_http_agntkey_replicas_s  ngx_http_agntkey_replicas_t;


/*
 * The answer: how many replicas have what was written before the question; and
 * is it on the disk?  1, 0, or NGX_DECLINED: not known.
 */
typedef void (*ngx_http_agntkey_replicas_handler_pt)(void *data,
    ngx_uint_t replicas, ngx_int_t synced);


/*
 * Questions go over the client that is given, which outlives it and must be
 * that of the writes.  None takes more than a quarter of timeout (ms), which is
 * that of a command, nor more than 100 ms.  Returns NULL without memory.
 */
ngx_http_agntkey_replicas_t *ngx_http_agntkey_replicas_create(
    ngx_http_agntkey_redis_client_t *client, ngx_msec_t timeout,
    ngx_http_agntkey_replicas_handler_pt handler, void *data, ngx_log_t *log);

/* Not while the client has questions of it. */
void ngx_http_agntkey_replicas_destroy(ngx_http_agntkey_replicas_t *replicas);

/* Is a question under way?  1 or 0. */
ngx_uint_t ngx_http_agntkey_replicas_busy(
    ngx_http_agntkey_replicas_t *replicas);

/*
 * Would WAITAOF tell of a write that was made over the connection with that
 * ngx_http_agntkey_redis_client_generation()?  1 or 0.
 */
ngx_uint_t ngx_http_agntkey_replicas_may_sync(
    ngx_http_agntkey_replicas_t *replicas, ngx_uint_t generation);

/*
 * Asks for n replicas, and with sync for the disk.  The handler is called once;
 * from inside if nothing can be sent.
 */
void ngx_http_agntkey_replicas_ask(ngx_http_agntkey_replicas_t *replicas,
    ngx_uint_t n, ngx_uint_t sync);


#endif /* _NGX_HTTP_AGNTKEY_REPLICAS_H_INCLUDED_ */
