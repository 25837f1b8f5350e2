
/*
 * Copyright (C) the agntkey authors
 *
 * A client of Redis: commands go in, and their replies come out in the same
 * order, each within its time, by one connection that mends itself.
 *
 * Commands sent while a connection is on its way wait in the queue.  Once an
 * attempt has failed ("away") every command is refused at once, until an
 * attempt succeeds.
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_CLIENT_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_CLIENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_conf.h"
#include "ngx_http_agntkey_redis_conn.h"
#include "ngx_http_agntkey_redis_resp.h"


/* what may wait for replies at a time; beyond it commands are refused */
#define NGX_HTTP_AGNTKEY_REDIS_CLIENT_QUEUE        16384

/*
 * Of it, and of the bytes that wait to be written, what requests leave to the
 * worker: leases must not end by load.
 */
#define NGX_HTTP_AGNTKEY_REDIS_CLIENT_QUEUE_OWN    256
#define NGX_HTTP_AGNTKEY_REDIS_CLIENT_BUFFER_OWN   65536

/* how many may hear what becomes of the connection */
#define NGX_HTTP_AGNTKEY_REDIS_CLIENT_LISTENERS    2


typedef struct ngx_http_agntkey_redis_client_s  ngx_http_agntkey_redis_client_t;

/*
 * Called once for each command, never from inside
 * ngx_http_agntkey_redis_client_send().  With NGX_HTTP_AGNTKEY_REDIS_OK the
 * reply is the handler's, to be freed by ngx_http_agntkey_redis_resp_free();
 * otherwise it is NULL.
 */
typedef void (*ngx_http_agntkey_redis_handler_pt)(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);


/* what becomes of the connection; NULL: of no interest */

typedef struct {

    /* it is ready */
    void   (*up)(void *data);

    /*
     * It is no more, or an attempt has failed.  Comes before the handlers of
     * the commands that were lost with it.
     */
    void   (*down)(void *data);

    /*
     * The worker is to end, and the connection idles; called once.  What is
     * sent from there is still answered before the connection closes.
     */
    void   (*exit)(void *data);

} ngx_http_agntkey_redis_client_handlers_t;


/*
 * A client in its first state; nothing is opened yet.  The configuration
 * must outlive it.  Returns NULL without memory.
 */
ngx_http_agntkey_redis_client_t *ngx_http_agntkey_redis_client_create(
    ngx_http_agntkey_redis_conf_t *conf, ngx_log_t *log);

/* Closes all and frees all.  Handlers of waiting commands are not called. */
void ngx_http_agntkey_redis_client_destroy(
    ngx_http_agntkey_redis_client_t *client);

/*
 * Adds somebody who hears what becomes of the connection, up to
 * NGX_HTTP_AGNTKEY_REDIS_CLIENT_LISTENERS; they hear it in the order in which
 * they were added.  The handlers are copied.
 */
void ngx_http_agntkey_redis_client_listen(
    ngx_http_agntkey_redis_client_t *client,
    ngx_http_agntkey_redis_client_handlers_t *handlers, void *data);

/* Connects in the background, so that a first command finds it done. */
void ngx_http_agntkey_redis_client_connect(
    ngx_http_agntkey_redis_client_t *client);

/*
 * Closes the connection, if there is one; what waits on it is lost.  The next
 * is opened by ngx_http_agntkey_redis_client_connect() or by a command.
 */
void ngx_http_agntkey_redis_client_reset(
    ngx_http_agntkey_redis_client_t *client, const char *cause);

/* Is the connection ready?  Has the last attempt failed?  1 or 0. */
ngx_uint_t ngx_http_agntkey_redis_client_ready(
    ngx_http_agntkey_redis_client_t *client);
ngx_uint_t ngx_http_agntkey_redis_client_unavailable(
    ngx_http_agntkey_redis_client_t *client);

/* How long a command may take, ms. */
ngx_msec_t ngx_http_agntkey_redis_client_timeout(
    ngx_http_agntkey_redis_client_t *client);

/*
 * A number of the connection that is there, or of the next one: commands that
 * are sent while it stays the same leave by one connection, in their order.
 */
ngx_uint_t ngx_http_agntkey_redis_client_generation(
    ngx_http_agntkey_redis_client_t *client);

/*
 * Sends one command, as ngx_http_agntkey_redis_resp_format() made it; the bytes
 * are copied.  All commands of one turn of the event loop leave in one write.
 *
 * Returns NGX_OK; or NGX_DECLINED when Redis is away, too much is waiting, or
 * no memory is left: then the handler is not called.
 */
ngx_int_t ngx_http_agntkey_redis_client_send(
    ngx_http_agntkey_redis_client_t *client, ngx_str_t *bytes,
    ngx_http_agntkey_redis_handler_pt handler, void *data);

/* The same for the words of a command; handler NULL: the reply is dropped. */
ngx_int_t ngx_http_agntkey_redis_client_command(
    ngx_http_agntkey_redis_client_t *client, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler, void *data);

/*
 * As _send(), on behalf of requests, of which there may be any number: declines
 * while there is still room for commands of the worker itself.
 */
ngx_int_t ngx_http_agntkey_redis_client_ask(
    ngx_http_agntkey_redis_client_t *client, ngx_str_t *bytes,
    ngx_http_agntkey_redis_handler_pt handler, void *data);

/*
 * Writes a command at once, if the connection is ready and has nothing else
 * to write, and does not wait for an answer: for a process that is about to
 * exit.
 */
void ngx_http_agntkey_redis_client_send_now(
    ngx_http_agntkey_redis_client_t *client, ngx_str_t *bytes);


#endif /* _NGX_HTTP_AGNTKEY_REDIS_CLIENT_H_INCLUDED_ */
