
/*
 * Copyright (C) the agntkey authors
 *
 * One call of an administrator: commands to Redis, all of whose replies are
 * waited for.
 *
 *     read     commands --------------------------------> handler
 *     write    TIME --> commands with a deadline -------> handler
 *                ^            | late, once      | lost
 *                |____________|                 |--> the deadline passes --^
 *
 * What has been written to a connection that is lost may still arrive at Redis,
 * behind what others have written since.  So a command that a later one may
 * contradict has a deadline by the clock of Redis, after which it does nothing;
 * and when its reply is lost, the handler is called after that deadline.
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_BATCH_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_BATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_client.h"


/* the most commands of one call, and of one that writes */
#define NGX_HTTP_AGNTKEY_BATCH_COMMANDS  200
#define NGX_HTTP_AGNTKEY_BATCH_WRITES    2

/* what is given for a deadline, in the place of ms since 1970 */
#define NGX_HTTP_AGNTKEY_BATCH_DEADLINE  "000000000000000"


typedef struct ngx_http_agntkey_redis_batch_s  ngx_http_agntkey_redis_batch_t;

/*
 * Called once when all commands of a call have been answered, never from
 * inside the function that made the call.  rc is the worst that befell one of
 * them; with NGX_HTTP_AGNTKEY_REDIS_OK there are n replies, in order, which
 * live until the handler returns.  Error replies are among them.
 *
 * For a call that writes, NGX_HTTP_AGNTKEY_REDIS_UNSENT says that nothing was
 * changed, and _LOST and _TIMEOUT that something may have been changed, and
 * will not be changed any more.  An error reply to TIME is the only reply.
 */
typedef void (*ngx_http_agntkey_redis_batch_handler_pt)(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);


/* A call without commands, or NULL without memory. */
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_redis_batch_create(
    ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);

/* Sends a command.  Returns NGX_OK, or NGX_ERROR when it was not sent. */
ngx_int_t ngx_http_agntkey_redis_batch_send(
    ngx_http_agntkey_redis_batch_t *batch, ngx_str_t *argv, ngx_uint_t argc);

/*
 * Keeps a command of a call that writes, up to NGX_HTTP_AGNTKEY_BATCH_WRITES.
 * The last argument of the last one is NGX_HTTP_AGNTKEY_BATCH_DEADLINE, and
 * will be the deadline.  A script that finds it past changes nothing, and
 * returns an array of one text, "late".  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_agntkey_redis_batch_keep(
    ngx_http_agntkey_redis_batch_t *batch, ngx_str_t *argv, ngx_uint_t argc);

/*
 * Asks for the time, and sends what was kept.  Returns NGX_OK, or NGX_ERROR
 * when nothing was sent.
 */
ngx_int_t ngx_http_agntkey_redis_batch_write(
    ngx_http_agntkey_redis_batch_t *batch);

/*
 * Whoever asked has gone; the handler will not be called.  What was sent, or
 * is kept, is done all the same.
 */
void ngx_http_agntkey_redis_batch_cancel(ngx_http_agntkey_redis_batch_t *batch);


#endif /* _NGX_HTTP_AGNTKEY_REDIS_BATCH_H_INCLUDED_ */
