
/*
 * Copyright (C) the agntkey authors
 *
 * What the product does in Redis, as commands and replies.
 *
 *     agntkey:key:{tag}<8 random>            HMGET, all fields of the record
 *     agntkey:workspace:{tag}<workspace>     HGET active
 */


#ifndef _NGX_HTTP_AGNTKEY_STORE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_STORE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_redis.h"


typedef struct ngx_http_agntkey_store_s  ngx_http_agntkey_store_t;
typedef struct ngx_http_agntkey_find_s   ngx_http_agntkey_find_t;

/*
 * Called once for each look-up, never from inside
 * ngx_http_agntkey_store_find().
 *
 *     NGX_OK        key is a complete record, which lives until the handler
 *                   returns; workspace_active is 1 or 0
 *     NGX_DECLINED  Redis has no such key; key is NULL
 *     NGX_ERROR     nothing is known; key is NULL
 */
typedef void (*ngx_http_agntkey_find_handler_pt)(void *data, ngx_int_t rc,
    ngx_http_agntkey_record_t *key, ngx_uint_t workspace_active);


/*
 * The store of one worker, with a Redis client of its own; connects in the
 * background.  The configuration must outlive it.  Returns NULL without
 * memory.
 */
ngx_http_agntkey_store_t *ngx_http_agntkey_store_create(
    ngx_http_agntkey_server_t *conf, ngx_log_t *log);

/* The store's client, for those who have other things to ask. */
ngx_http_agntkey_redis_t *ngx_http_agntkey_store_redis(
    ngx_http_agntkey_store_t *store);

/* Ends the store and its client; handlers of look-ups are not called. */
void ngx_http_agntkey_store_destroy(ngx_http_agntkey_store_t *store);

/*
 * Looks up the key of an id of NGX_HTTP_AGNTKEY_ID_LEN bytes, and its
 * workspace.  Takes one trip to Redis when this worker has met the key
 * before, else two; never longer than agntkey_redis_timeout for each, and a
 * connection that breaks under it is tried once more.
 *
 * Returns the look-up, valid until its handler has been called, or NULL when
 * Redis cannot be asked.
 */
ngx_http_agntkey_find_t *ngx_http_agntkey_store_find(
    ngx_http_agntkey_store_t *store, u_char *id,
    ngx_http_agntkey_find_handler_pt handler, void *data);

/* Whoever asked has gone; the handler will not be called. */
void ngx_http_agntkey_store_cancel(ngx_http_agntkey_find_t *find);


#endif /* _NGX_HTTP_AGNTKEY_STORE_H_INCLUDED_ */
