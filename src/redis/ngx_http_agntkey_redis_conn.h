
/*
 * Copyright (C) the agntkey authors
 *
 * One connection to Redis, on the event loop of its worker, which mends
 * itself: bytes go in, replies come out.  Which reply belongs to what is a
 * matter of whoever uses it.
 *
 *     DOWN ---> CONNECTING ---> SETUP ---> READY
 *      ^  ^________|______________|          |
 *      |_____________________________________|
 *
 * SETUP is AUTH, SELECT, PING and CLIENT SETNAME, in one write.  An attempt
 * that has failed is followed by another, with pauses.  A connection that was
 * lost is replaced if a reply was waited for; one that idled is opened anew by
 * ngx_http_agntkey_redis_conn_connect() or ngx_http_agntkey_redis_conn_send().
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_CONN_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_CONN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_conf.h"
#include "ngx_http_agntkey_redis_resp.h"


/* what may wait to be written, bytes */
#define NGX_HTTP_AGNTKEY_REDIS_CONN_BUFFER        (8 * 1024 * 1024)

/* between attempts, ms: doubled from min to max, less a random half at most */
#define NGX_HTTP_AGNTKEY_REDIS_CONN_BACKOFF_MIN   200
#define NGX_HTTP_AGNTKEY_REDIS_CONN_BACKOFF_MAX   2000

/* why users of a connection close it, when a reply belongs to nothing */
#define NGX_HTTP_AGNTKEY_REDIS_CONN_UNASKED                                   \
    "a reply that nobody asked for"


/* what has become of a command */

typedef enum {
    NGX_HTTP_AGNTKEY_REDIS_OK = 0,    /* a reply; it may be an error reply */
    NGX_HTTP_AGNTKEY_REDIS_UNSENT,    /* did not leave this host */
    NGX_HTTP_AGNTKEY_REDIS_LOST,      /* sent; the connection broke */
    NGX_HTTP_AGNTKEY_REDIS_TIMEOUT    /* sent; no reply in time */
} ngx_http_agntkey_redis_e;


typedef struct ngx_http_agntkey_redis_conn_s  ngx_http_agntkey_redis_conn_t;


/*
 * What happens to the connection.  All are set.  None of them may destroy it;
 * up and reply may reset it.
 */

typedef struct {

    /* it is ready */
    void         (*up)(void *data);

    /*
     * It is no more, or an attempt has failed; rc is what has become of what
     * was written.  Calls ngx_http_agntkey_redis_conn_clear(), before anything
     * is sent that is meant for the next connection.
     */
    void         (*down)(void *data, ngx_http_agntkey_redis_e rc);

    /*
     * The reply is the handler's, to be freed by
     * ngx_http_agntkey_redis_resp_free().  Returns NULL, or why the connection
     * is to be closed.
     */
    const char  *(*reply)(void *data, ngx_http_agntkey_redis_reply_t *reply);

    /*
     * The worker is to end, and no reply is waited for.  Returns 1 if the
     * connection is to stay open, 0 if it may be closed.
     */
    ngx_uint_t   (*exit)(void *data);

} ngx_http_agntkey_redis_conn_handlers_t;


/*
 * A connection in its first state; nothing is opened yet.  The configuration
 * must outlive it; the handlers are copied.  Of a reply that is too large so
 * many bytes may be skipped, as ngx_http_agntkey_redis_resp_create() has it.
 * A quiet one leaves outages to another to report: its own lines have the
 * level "info".  Returns NULL without memory.
 */
ngx_http_agntkey_redis_conn_t *ngx_http_agntkey_redis_conn_create(
    ngx_http_agntkey_redis_conf_t *conf,
    ngx_http_agntkey_redis_conn_handlers_t *handlers, void *data, size_t skip,
    ngx_uint_t quiet, ngx_log_t *log);

/* Closes all and frees all.  No handler is called. */
void ngx_http_agntkey_redis_conn_destroy(ngx_http_agntkey_redis_conn_t *conn);

/* Connects in the background, unless that is under way or done. */
void ngx_http_agntkey_redis_conn_connect(ngx_http_agntkey_redis_conn_t *conn);

/*
 * Closes the connection, if it is ready.  To who hears of it, what was
 * written is lost.
 */
void ngx_http_agntkey_redis_conn_reset(ngx_http_agntkey_redis_conn_t *conn,
    const char *cause);

/* Is the connection ready?  Has the last attempt failed?  1 or 0. */
ngx_uint_t ngx_http_agntkey_redis_conn_ready(
    ngx_http_agntkey_redis_conn_t *conn);
ngx_uint_t ngx_http_agntkey_redis_conn_unavailable(
    ngx_http_agntkey_redis_conn_t *conn);

/*
 * Copies the bytes, to be written once the connection is ready; all of one
 * turn of the event loop leave in one write.  Connects if need be.  Returns
 * NGX_OK; NGX_ERROR when too much is waiting or no memory is left.
 */
ngx_int_t ngx_http_agntkey_redis_conn_send(ngx_http_agntkey_redis_conn_t *conn,
    ngx_str_t *bytes);

/*
 * Writes at once, if the connection is ready and has nothing else to write:
 * for a process that is about to exit.
 */
void ngx_http_agntkey_redis_conn_send_now(ngx_http_agntkey_redis_conn_t *conn,
    ngx_str_t *bytes);

/*
 * How many bytes were written to this connection since it was ready, and how
 * many of those sent were not yet.  What is sent next begins at their sum.
 */
uint64_t ngx_http_agntkey_redis_conn_written(
    ngx_http_agntkey_redis_conn_t *conn);
size_t ngx_http_agntkey_redis_conn_unwritten(
    ngx_http_agntkey_redis_conn_t *conn);

/*
 * Forgets what was not written, and that a reply is waited for.  Both counts
 * begin anew, so only while the connection is not ready.
 */
void ngx_http_agntkey_redis_conn_clear(ngx_http_agntkey_redis_conn_t *conn);

/*
 * Is a reply waited for?  One that is not busy idles: its loss is no outage,
 * and nginx may close it when the worker ends.
 */
void ngx_http_agntkey_redis_conn_set_busy(ngx_http_agntkey_redis_conn_t *conn,
    ngx_uint_t busy);

/* It works as it should: the next failure is the first one again. */
void ngx_http_agntkey_redis_conn_settled(ngx_http_agntkey_redis_conn_t *conn);

/*
 * A reply was waited for too long: Redis is away.  Returns NGX_OK if the
 * connection was ready, and is closed now, as the handlers have heard; or
 * NGX_AGAIN if it was not: an attempt has a time of its own, and may still
 * succeed.
 */
ngx_int_t ngx_http_agntkey_redis_conn_overdue(
    ngx_http_agntkey_redis_conn_t *conn);


#endif /* _NGX_HTTP_AGNTKEY_REDIS_CONN_H_INCLUDED_ */
