
/*
 * Copyright (C) the agntkey authors
 *
 * A Redis that is cut off from its replicas, or is a replica itself by now,
 * still answers reads: with what was true before.  Whether it takes writes
 * tells the difference, so a harmless write goes ahead of look-ups on their
 * connection, and what is read counts only while such writes are accepted.
 *
 *     HELLO                                  what is its role?
 *     DEL agntkey:key:canary:fence           a name that no key ever has
 */


#ifndef _NGX_HTTP_AGNTKEY_FENCE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_FENCE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_client.h"


/* a write that was accepted counts for look-ups sent that much later, ms */
#define NGX_HTTP_AGNTKEY_FENCE_INTERVAL   250


typedef struct ngx_http_agntkey_fence_s  ngx_http_agntkey_fence_t;


/*
 * The fence of one worker.  The client, which is that of look-ups, outlives it.
 * Returns NULL without memory.
 */
ngx_http_agntkey_fence_t *ngx_http_agntkey_fence_create(
    ngx_http_agntkey_redis_client_t *redis, ngx_log_t *log);

void ngx_http_agntkey_fence_destroy(ngx_http_agntkey_fence_t *fence);

/*
 * To be called before each look-up is sent: sends the two commands if the
 * connection is another one, or the last ones are older than the interval.
 * Replies come in order, so theirs are there before that of the look-up.
 *
 * Returns NGX_OK; or NGX_DECLINED when nothing can be sent to Redis.
 */
ngx_int_t ngx_http_agntkey_fence_ask(ngx_http_agntkey_fence_t *fence);

/*
 * Does a reply count that is read now?  1; or 0 while the server refuses
 * writes as only one does that may not be the primary.
 */
ngx_uint_t ngx_http_agntkey_fence_open(ngx_http_agntkey_fence_t *fence);


#endif /* _NGX_HTTP_AGNTKEY_FENCE_H_INCLUDED_ */
