
/*
 * Copyright (C) the agntkey authors
 *
 * The connection by which Redis tells what has changed: it tracks the keys of
 * agntkey:key: and agntkey:workspace: for itself
 * (redis.io/docs/latest/develop/reference/client-side-caching), and listens
 * to what other workers have to say.  In RESP2 such a connection can do
 * nothing else, so no second one can die unseen.
 */


#ifndef _NGX_HTTP_AGNTKEY_INVALIDATION_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_INVALIDATION_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_conf.h"
#include "ngx_http_agntkey_redis_conn.h"


typedef struct ngx_http_agntkey_invalidation_s  ngx_http_agntkey_invalidation_t;


/*
 * Calls to its owner, in the order in which Redis has sent it.  None of these
 * may destroy the connection; any may reset it.
 */

typedef struct {

    /* from now on, every invalidation and message arrives */
    void   (*ready)(void *data);

    /* from now on, nothing arrives; another attempt is under way */
    void   (*down)(void *data);

    /*
     * Before it goes down, for want of what it needs; with the reply that
     * says so, or NULL.
     */
    void   (*fault)(void *data, const char *what,
                    ngx_http_agntkey_redis_reply_t *reply);

    /* that key was written; NULL: any of them may have been */
    void   (*changed)(void *data, ngx_str_t *key);

    /* a message to all workers, or to this one */
    void   (*barrier)(void *data, ngx_str_t *text);
    void   (*on_message)(void *data, ngx_str_t *text);

} ngx_http_agntkey_invalidation_handlers_t;


/*
 * Subscribes to the channel, whose name outlives it; and, if tracking is set,
 * to invalidations and barriers.  Connects in the background, as often as need
 * be.  Returns NULL without memory.
 */
ngx_http_agntkey_invalidation_t *ngx_http_agntkey_invalidation_create(
    ngx_http_agntkey_redis_conf_t *conf, ngx_str_t *channel,
    ngx_uint_t tracking, ngx_http_agntkey_invalidation_handlers_t *handlers,
    void *data, ngx_log_t *log);

void ngx_http_agntkey_invalidation_destroy(
    ngx_http_agntkey_invalidation_t *inv);

/*
 * How long ago the server has said that it is no replica, in ms of
 * ngx_http_agntkey_clock(), while the connection is ready.
 */
int64_t ngx_http_agntkey_invalidation_age(ngx_http_agntkey_invalidation_t *inv);

/* Begins anew: soon, or after a long pause where soon would be no use. */
void ngx_http_agntkey_invalidation_reset(ngx_http_agntkey_invalidation_t *inv,
    const char *cause, ngx_uint_t pause);

/* It works as it should: the next failure is the first one again. */
void ngx_http_agntkey_invalidation_settled(
    ngx_http_agntkey_invalidation_t *inv);


#endif /* _NGX_HTTP_AGNTKEY_INVALIDATION_H_INCLUDED_ */
