
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
 *
 * With a handler for messages it is a stream: what comes while no command
 * waits is a message (redis.io/docs/latest/develop/interact/pubsub), and what
 * happens to the connection is a matter of whoever reads it, not of the log.
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_conf.h"
#include "ngx_http_agntkey_redis_resp.h"


/* what may wait for replies at a time; beyond it commands are refused */
#define NGX_HTTP_AGNTKEY_REDIS_QUEUE         16384
#define NGX_HTTP_AGNTKEY_REDIS_BUFFER        (8 * 1024 * 1024)

/* of these, what requests leave to the worker: leases must not end by load */
#define NGX_HTTP_AGNTKEY_REDIS_QUEUE_OWN     256
#define NGX_HTTP_AGNTKEY_REDIS_BUFFER_OWN    65536

/* between attempts, ms: doubled from min to max, less a random half at most */
#define NGX_HTTP_AGNTKEY_REDIS_BACKOFF_MIN   200
#define NGX_HTTP_AGNTKEY_REDIS_BACKOFF_MAX   2000

#define NGX_HTTP_AGNTKEY_REDIS_EXITS         2


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
 * the handler's, to be freed by ngx_http_agntkey_redis_resp_free(); otherwise
 * it is NULL.
 */
typedef void (*ngx_http_agntkey_redis_handler_pt)(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);


/*
 * A client in its first state; nothing is opened yet.  The configuration
 * must outlive it.  Returns NULL without memory.
 */
ngx_http_agntkey_redis_t *ngx_http_agntkey_redis_create(
    ngx_http_agntkey_redis_conf_t *conf, ngx_log_t *log);

/* Closes all and frees all.  Handlers of waiting commands are not called. */
void ngx_http_agntkey_redis_destroy(ngx_http_agntkey_redis_t *redis);

/* Connects in the background, so that a first command finds it done. */
void ngx_http_agntkey_redis_connect(ngx_http_agntkey_redis_t *redis);

/*
 * Adds somebody, up to NGX_HTTP_AGNTKEY_REDIS_EXITS, who hears, once, that
 * the worker is to end and the connection idles.  What is sent from there is
 * still answered before the connection closes.  A stream stays open as long
 * as the process lives, and calls nobody.
 */
typedef void (*ngx_http_agntkey_redis_exit_pt)(void *data);

void ngx_http_agntkey_redis_add_exit_handler(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_exit_pt handler, void *data);

/*
 * Sets who hears that the connection is ready (up is 1), and that it is no
 * more, or that an attempt has failed (0): before the handlers of commands
 * that were lost with it.
 */
typedef void (*ngx_http_agntkey_redis_change_pt)(void *data, ngx_uint_t up);

void ngx_http_agntkey_redis_set_change(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_change_pt handler, void *data);

/*
 * Makes it a stream, and sets who takes the messages.  The reply is the
 * handler's.  It returns NULL, or why the connection is to be closed.
 */
typedef const char *(*ngx_http_agntkey_redis_message_pt)(void *data,
    ngx_http_agntkey_redis_reply_t *reply);

void ngx_http_agntkey_redis_set_message(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_message_pt handler, void *data);

/* Is the connection ready?  Has the last attempt failed?  1 or 0. */
ngx_uint_t ngx_http_agntkey_redis_ready_now(ngx_http_agntkey_redis_t *redis);
ngx_uint_t ngx_http_agntkey_redis_unavailable(ngx_http_agntkey_redis_t *redis);

/* How long a command may take, ms. */
ngx_msec_t ngx_http_agntkey_redis_timeout(ngx_http_agntkey_redis_t *redis);

/*
 * A number of the connection that is there, or of the next one: commands that
 * are sent while it stays the same leave by one connection, in their order.
 */
ngx_uint_t ngx_http_agntkey_redis_generation(
    ngx_http_agntkey_redis_t *redis);

/*
 * Closes the connection, if there is one; what waits on it is lost.  The next
 * is opened by ngx_http_agntkey_redis_connect() or by a command.
 */
void ngx_http_agntkey_redis_reset(ngx_http_agntkey_redis_t *redis,
    const char *cause);

/*
 * Writes a command at once, if the connection is ready and has nothing else
 * to write, and does not wait for an answer: for a process that is about to
 * exit.
 */
void ngx_http_agntkey_redis_send_now(ngx_http_agntkey_redis_t *redis,
    ngx_str_t *bytes);

/*
 * Sends one command, as ngx_http_agntkey_redis_resp_format() made it; the bytes
 * are copied.  All commands of one turn of the event loop leave in one write.
 *
 * Returns NGX_OK; or NGX_DECLINED when Redis is away, too much is waiting, or
 * no memory is left: then the handler is not called.
 */
ngx_int_t ngx_http_agntkey_redis_send(ngx_http_agntkey_redis_t *redis,
    ngx_str_t *bytes, ngx_http_agntkey_redis_handler_pt handler, void *data);

/*
 * The same on behalf of requests, of which there may be any number: declines
 * while there is still room for commands of the worker itself.
 */
ngx_int_t ngx_http_agntkey_redis_ask(ngx_http_agntkey_redis_t *redis,
    ngx_str_t *bytes, ngx_http_agntkey_redis_handler_pt handler, void *data);


#endif /* _NGX_HTTP_AGNTKEY_REDIS_H_INCLUDED_ */
