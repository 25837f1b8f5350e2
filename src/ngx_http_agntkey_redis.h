
/*
 * Copyright (C) the agntkey authors
 *
 * One connection to Redis, on the event loop of its worker: commands go in,
 * replies come out in the same order, and it mends itself.
 *
 *     DOWN ---> CONNECTING ---> SETUP ---> READY
 *      ^  ^________|______________|          |
 *      |_____________________________________|
 *
 * SETUP is AUTH, SELECT, PING and CLIENT SETNAME, in one write.  Commands
 * sent while it is on its way wait in the queue; once an attempt has failed
 * ("away") every command is refused at once, until an attempt succeeds.
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_resp.h"
#include "ngx_http_agntkey_server.h"


/* what may wait for replies at a time; beyond it commands are refused */
#define NGX_HTTP_AGNTKEY_REDIS_QUEUE         16384
#define NGX_HTTP_AGNTKEY_REDIS_BUFFER        (8 * 1024 * 1024)

/* between attempts, ms: doubled from min to max, less a random half at most */
#define NGX_HTTP_AGNTKEY_REDIS_BACKOFF_MIN   200
#define NGX_HTTP_AGNTKEY_REDIS_BACKOFF_MAX   2000


typedef enum {
    NGX_HTTP_AGNTKEY_REDIS_OK = 0,    /* a reply; it may be an error reply */
    NGX_HTTP_AGNTKEY_REDIS_UNSENT,    /* did not leave this host */
    NGX_HTTP_AGNTKEY_REDIS_LOST,      /* sent; the connection broke */
    NGX_HTTP_AGNTKEY_REDIS_TIMEOUT    /* sent; no reply in time */
} ngx_http_agntkey_redis_e;


typedef struct ngx_http_agntkey_redis_s  ngx_http_agntkey_redis_t;

/*
 * Called once for each command, never from inside
 * ngx_http_agntkey_redis_send().  With NGX_HTTP_AGNTKEY_REDIS_OK the reply is
 * the handler's, to be freed by ngx_http_agntkey_resp_free(); otherwise it is
 * NULL.
 */
typedef void (*ngx_http_agntkey_redis_handler_pt)(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);


/*
 * A client in its first state; nothing is opened yet.  The configuration
 * must outlive it.  Returns NULL without memory.
 */
ngx_http_agntkey_redis_t *ngx_http_agntkey_redis_create(
    ngx_http_agntkey_server_t *conf, ngx_log_t *log);

/* Closes all and frees all.  Handlers of waiting commands are not called. */
void ngx_http_agntkey_redis_destroy(ngx_http_agntkey_redis_t *redis);

/* Connects in the background, so that a first command finds it done. */
void ngx_http_agntkey_redis_connect(ngx_http_agntkey_redis_t *redis);

/*
 * Sets who hears, once, that the worker is to end and the connection idles.
 * What is sent from there is still answered before the connection closes.
 */
typedef void (*ngx_http_agntkey_redis_ending_pt)(void *data);

void ngx_http_agntkey_redis_set_ending(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_ending_pt handler, void *data);

/*
 * Sends one command, as ngx_http_agntkey_resp_format() made it; the bytes are
 * copied.  All commands of one turn of the event loop leave in one write.
 *
 * Returns NGX_OK; or NGX_DECLINED when Redis is away, too much is waiting, or
 * no memory is left: then the handler is not called.
 */
ngx_int_t ngx_http_agntkey_redis_send(ngx_http_agntkey_redis_t *redis,
    ngx_str_t *bytes, ngx_http_agntkey_redis_handler_pt handler, void *data);

#endif /* _NGX_HTTP_AGNTKEY_REDIS_H_INCLUDED_ */
