
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_redis_conn.h"


#define NGX_HTTP_AGNTKEY_REDIS_CONN_READ    16384
#define NGX_HTTP_AGNTKEY_REDIS_CONN_TEXT    128

/* what is read in one turn of the loop, so that others have theirs; bytes */
#define NGX_HTTP_AGNTKEY_REDIS_CONN_TURN    (512 * 1024)

/* of the buffer of what is not yet written, bytes, when it is empty */
#define NGX_HTTP_AGNTKEY_REDIS_CONN_KEEP    65536


typedef enum {
    NGX_HTTP_AGNTKEY_REDIS_CONN_DOWN = 0,
    NGX_HTTP_AGNTKEY_REDIS_CONN_CONNECTING,
    NGX_HTTP_AGNTKEY_REDIS_CONN_SETTING_UP,
    NGX_HTTP_AGNTKEY_REDIS_CONN_READY
} ngx_http_agntkey_redis_conn_state_e;


/*
 * Owner of its buffers, its three events and, through peer, of the connection
 * of nginx.
 */

struct ngx_http_agntkey_redis_conn_s {
    ngx_http_agntkey_redis_conf_t           *conf;
    ngx_connection_t                        *connection;
    ngx_http_agntkey_redis_resp_t           *resp;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                                ident;

    ngx_http_agntkey_redis_conn_state_e      state;
    ngx_http_agntkey_redis_peer_t            peer;

    ngx_http_agntkey_redis_conn_handlers_t   handlers;
    void                                    *data;

    ngx_log_t                               *log;
    ngx_log_t                                peer_log;
    ngx_uint_t                               log_level;   /* of peer_log */
    ngx_uint_t                               lost_level;  /* of an outage */
    ngx_uint_t                               back_level;  /* of its end */

    /* bytes not yet written, and what was written on this connection */
    ngx_buf_t                                out;
    uint64_t                                 sent;

    size_t                                   skip;
    size_t                                   setup_sent;
    ngx_uint_t                               setup_step;

    /*
     * connect_timer: the deadline of an attempt
     * retry_timer: the pause before the next one
     * post: something to do at the end of this turn of the loop
     */
    ngx_event_t                              connect_timer;
    ngx_event_t                              retry_timer;
    ngx_event_t                              post;

    ngx_uint_t                               failures;
    ngx_msec_t                               away_since;
    uint64_t                                 causes;      /* named, hashed */
    unsigned                                 unavailable:1;
    unsigned                                 busy:1;
};


static ngx_int_t ngx_http_agntkey_redis_conn_append(
    ngx_http_agntkey_redis_conn_t *conn, ngx_str_t *bytes);
static void ngx_http_agntkey_redis_conn_empty(
    ngx_http_agntkey_redis_conn_t *conn);
static void ngx_http_agntkey_redis_conn_post_handler(ngx_event_t *ev);
static void ngx_http_agntkey_redis_conn_connect_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_redis_conn_retry_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_redis_conn_attempt(
    ngx_http_agntkey_redis_conn_t *conn);
static void ngx_http_agntkey_redis_conn_connected(
    ngx_http_agntkey_redis_peer_t *peer, ngx_int_t rc);
static void ngx_http_agntkey_redis_conn_write_handler(ngx_event_t *wev);
static void ngx_http_agntkey_redis_conn_flush(
    ngx_http_agntkey_redis_conn_t *conn);
static ssize_t ngx_http_agntkey_redis_conn_write(
    ngx_http_agntkey_redis_conn_t *conn, u_char *p, size_t len);
static void ngx_http_agntkey_redis_conn_read_handler(ngx_event_t *rev);
static ngx_uint_t ngx_http_agntkey_redis_conn_exit(
    ngx_http_agntkey_redis_conn_t *conn);
static ngx_int_t ngx_http_agntkey_redis_conn_replies(
    ngx_http_agntkey_redis_conn_t *conn);
static ngx_int_t ngx_http_agntkey_redis_conn_set_up(
    ngx_http_agntkey_redis_conn_t *conn,
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_redis_conn_deliver(
    ngx_http_agntkey_redis_conn_t *conn,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_redis_conn_up(
    ngx_http_agntkey_redis_conn_t *conn);
static void ngx_http_agntkey_redis_conn_down(
    ngx_http_agntkey_redis_conn_t *conn, ngx_http_agntkey_redis_e rc,
    const char *cause, ngx_err_t err);
static void ngx_http_agntkey_redis_conn_close(
    ngx_http_agntkey_redis_conn_t *conn);
static void ngx_http_agntkey_redis_conn_retry(
    ngx_http_agntkey_redis_conn_t *conn);
static void ngx_http_agntkey_redis_conn_report(
    ngx_http_agntkey_redis_conn_t *conn, const char *cause, ngx_err_t err);
static u_char *ngx_http_agntkey_redis_conn_log_error(ngx_log_t *log,
    u_char *buf, size_t len);


ngx_http_agntkey_redis_conn_t *
ngx_http_agntkey_redis_conn_create(ngx_http_agntkey_redis_conf_t *conf,
    ngx_http_agntkey_redis_conn_handlers_t *handlers, void *data, size_t skip,
    ngx_uint_t quiet, ngx_log_t *log)
{
    ngx_http_agntkey_redis_conn_t  *conn;

    conn = ngx_calloc(sizeof(ngx_http_agntkey_redis_conn_t), log);
    if (conn == NULL) {
        return NULL;
    }

    conn->conf = conf;
    conn->ident = -1;
    conn->handlers = *handlers;
    conn->data = data;
    conn->skip = skip;

    conn->log = log;
    conn->log_level = log->log_level;
    conn->lost_level = NGX_LOG_ERR;
    conn->back_level = NGX_LOG_NOTICE;

    if (quiet) {

        /* so is what nginx itself says of its attempts */

        conn->log_level = ngx_min(conn->log_level, NGX_LOG_ALERT);
        conn->lost_level = NGX_LOG_INFO;
        conn->back_level = NGX_LOG_INFO;
    }

    conn->peer_log = *log;
    conn->peer_log.handler = ngx_http_agntkey_redis_conn_log_error;
    conn->peer_log.data = conn;
    conn->peer_log.action = NULL;

    conn->peer.conf = &conf->peer;
    conn->peer.log = &conn->peer_log;
    conn->peer.handler = ngx_http_agntkey_redis_conn_connected;
    conn->peer.data = conn;

    conn->connect_timer.handler =
                             ngx_http_agntkey_redis_conn_connect_timer_handler;
    conn->connect_timer.data = conn;
    conn->connect_timer.log = log;
    conn->connect_timer.cancelable = 1;

    conn->retry_timer.handler = ngx_http_agntkey_redis_conn_retry_timer_handler;
    conn->retry_timer.data = conn;
    conn->retry_timer.log = log;
    conn->retry_timer.cancelable = 1;

    conn->post.handler = ngx_http_agntkey_redis_conn_post_handler;
    conn->post.data = conn;
    conn->post.log = log;

    return conn;
}


void
ngx_http_agntkey_redis_conn_destroy(ngx_http_agntkey_redis_conn_t *conn)
{
    ngx_http_agntkey_redis_conn_close(conn);

    if (conn->post.posted) {
        ngx_delete_posted_event(&conn->post);
    }

    if (conn->out.start) {
        ngx_free(conn->out.start);
    }

    ngx_free(conn);
}


void
ngx_http_agntkey_redis_conn_connect(ngx_http_agntkey_redis_conn_t *conn)
{
    /* a worker that starts would sleep over the queue of this turn */

    if (conn->state == NGX_HTTP_AGNTKEY_REDIS_CONN_DOWN) {
        ngx_post_event(&conn->post, &ngx_posted_next_events);
    }
}


void
ngx_http_agntkey_redis_conn_reset(ngx_http_agntkey_redis_conn_t *conn,
    const char *cause)
{
    if (conn->state == NGX_HTTP_AGNTKEY_REDIS_CONN_READY) {
        ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                         cause, 0);
    }
}


ngx_uint_t
ngx_http_agntkey_redis_conn_ready(ngx_http_agntkey_redis_conn_t *conn)
{
    return conn->state == NGX_HTTP_AGNTKEY_REDIS_CONN_READY;
}


ngx_uint_t
ngx_http_agntkey_redis_conn_unavailable(ngx_http_agntkey_redis_conn_t *conn)
{
    return conn->unavailable;
}


ngx_int_t
ngx_http_agntkey_redis_conn_send(ngx_http_agntkey_redis_conn_t *conn,
    ngx_str_t *bytes)
{
    if (ngx_http_agntkey_redis_conn_append(conn, bytes) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a worker is told to end when the queue of this turn is behind it */

    ngx_post_event(&conn->post, ngx_exiting ? &ngx_posted_next_events
                                            : &ngx_posted_events);

    return NGX_OK;
}


void
ngx_http_agntkey_redis_conn_send_now(ngx_http_agntkey_redis_conn_t *conn,
    ngx_str_t *bytes)
{
    ngx_connection_t  *c;

    c = conn->connection;

    if (conn->state == NGX_HTTP_AGNTKEY_REDIS_CONN_READY
        && conn->out.pos == conn->out.last)
    {
        (void) c->send(c, bytes->data, bytes->len);
    }
}


uint64_t
ngx_http_agntkey_redis_conn_written(ngx_http_agntkey_redis_conn_t *conn)
{
    return conn->sent;
}


size_t
ngx_http_agntkey_redis_conn_unwritten(ngx_http_agntkey_redis_conn_t *conn)
{
    return conn->out.last - conn->out.pos;
}


void
ngx_http_agntkey_redis_conn_clear(ngx_http_agntkey_redis_conn_t *conn)
{
    conn->sent = 0;
    conn->busy = 0;

    ngx_http_agntkey_redis_conn_empty(conn);
}


void
ngx_http_agntkey_redis_conn_set_busy(ngx_http_agntkey_redis_conn_t *conn,
    ngx_uint_t busy)
{
    conn->busy = busy ? 1 : 0;

    if (conn->state == NGX_HTTP_AGNTKEY_REDIS_CONN_READY) {
        conn->connection->idle = !conn->busy;
    }
}


void
ngx_http_agntkey_redis_conn_settled(ngx_http_agntkey_redis_conn_t *conn)
{
    conn->failures = 0;
}


ngx_int_t
ngx_http_agntkey_redis_conn_overdue(ngx_http_agntkey_redis_conn_t *conn)
{
    if (conn->state == NGX_HTTP_AGNTKEY_REDIS_CONN_READY) {
        ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_TIMEOUT,
                                         "no reply in time", 0);
        return NGX_OK;
    }

    ngx_http_agntkey_redis_conn_report(conn, "no connection in time", 0);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_agntkey_redis_conn_append(ngx_http_agntkey_redis_conn_t *conn,
    ngx_str_t *bytes)
{
    u_char     *p;
    size_t      used, size;
    ngx_buf_t  *b;

    b = &conn->out;
    used = b->last - b->pos;

    if ((size_t) (b->end - b->last) < bytes->len) {

        size = ngx_max((size_t) (b->end - b->start), 4096);

        while (size - used < bytes->len) {
            size *= 2;
        }

        if (size > NGX_HTTP_AGNTKEY_REDIS_CONN_BUFFER) {
            return NGX_ERROR;
        }

        p = ngx_alloc(size, conn->log);
        if (p == NULL) {
            return NGX_ERROR;
        }

        if (b->start) {
            ngx_memcpy(p, b->pos, used);
            ngx_free(b->start);
        }

        b->start = p;
        b->pos = p;
        b->last = p + used;
        b->end = p + size;
    }

    b->last = ngx_cpymem(b->last, bytes->data, bytes->len);

    return NGX_OK;
}


/* What a bad moment has blown up is given back. */

static void
ngx_http_agntkey_redis_conn_empty(ngx_http_agntkey_redis_conn_t *conn)
{
    ngx_buf_t  *b;

    b = &conn->out;

    if (b->end - b->start > NGX_HTTP_AGNTKEY_REDIS_CONN_KEEP) {
        ngx_free(b->start);
        b->start = NULL;
        b->end = NULL;
    }

    b->pos = b->start;
    b->last = b->start;
}


static void
ngx_http_agntkey_redis_conn_post_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_redis_conn_t  *conn;

    conn = ev->data;

    switch (conn->state) {

    case NGX_HTTP_AGNTKEY_REDIS_CONN_READY:
        ngx_http_agntkey_redis_conn_flush(conn);
        break;

    case NGX_HTTP_AGNTKEY_REDIS_CONN_DOWN:
        if (!conn->retry_timer.timer_set) {
            ngx_http_agntkey_redis_conn_attempt(conn);
        }

        break;

    default: /* on its way */
        break;
    }
}


static void
ngx_http_agntkey_redis_conn_connect_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_redis_conn_down(ev->data, NGX_HTTP_AGNTKEY_REDIS_TIMEOUT,
                                     "no connection in time", 0);
}


static void
ngx_http_agntkey_redis_conn_retry_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_redis_conn_attempt(ev->data);
}


static void
ngx_http_agntkey_redis_conn_attempt(ngx_http_agntkey_redis_conn_t *conn)
{
    conn->state = NGX_HTTP_AGNTKEY_REDIS_CONN_CONNECTING;

    /*
     * The first failure speaks with all its voices; while Redis stays away
     * the messages of nginx itself would come with every attempt.
     */

    conn->peer_log.log_level = conn->log_level;

    if (conn->unavailable && conn->log_level < NGX_LOG_DEBUG) {
        conn->peer_log.log_level = ngx_min(conn->log_level, NGX_LOG_ALERT);
    }

    ngx_add_timer(&conn->connect_timer, conn->conf->connect_timeout);

    ngx_http_agntkey_redis_peer_connect(&conn->peer);
}


static void
ngx_http_agntkey_redis_conn_connected(ngx_http_agntkey_redis_peer_t *peer,
    ngx_int_t rc)
{
    ngx_connection_t               *c;
    ngx_http_agntkey_redis_conn_t  *conn;

    conn = peer->data;

    if (rc != NGX_OK) {
        ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_UNSENT,
                                         peer->cause, peer->err);
        return;
    }

    conn->resp = ngx_http_agntkey_redis_resp_create(conn->skip);
    if (conn->resp == NULL) {
        ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_UNSENT,
                                         "no memory", 0);
        return;
    }

    c = peer->connection;

    c->data = conn;
    c->read->handler = ngx_http_agntkey_redis_conn_read_handler;
    c->write->handler = ngx_http_agntkey_redis_conn_write_handler;

    conn->connection = c;
    conn->state = NGX_HTTP_AGNTKEY_REDIS_CONN_SETTING_UP;
    conn->setup_step = 0;
    conn->setup_sent = 0;

    ngx_http_agntkey_redis_conn_flush(conn);

    if (conn->connection == c && c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


static void
ngx_http_agntkey_redis_conn_write_handler(ngx_event_t *wev)
{
    ngx_connection_t  *c;

    c = wev->data;

    ngx_http_agntkey_redis_conn_flush(c->data);
}


static void
ngx_http_agntkey_redis_conn_flush(ngx_http_agntkey_redis_conn_t *conn)
{
    ssize_t     n;
    ngx_buf_t  *b;
    ngx_str_t  *setup;

    setup = &conn->conf->setup;

    if (conn->setup_sent < setup->len) {
        n = ngx_http_agntkey_redis_conn_write(conn,
                                              setup->data + conn->setup_sent,
                                              setup->len - conn->setup_sent);
        if (n > 0) {
            conn->setup_sent += n;
        }

        return;
    }

    b = &conn->out;

    if (conn->state != NGX_HTTP_AGNTKEY_REDIS_CONN_READY || b->pos == b->last) {
        return;
    }

    n = ngx_http_agntkey_redis_conn_write(conn, b->pos, b->last - b->pos);

    if (n > 0) {
        b->pos += n;
        conn->sent += n;

        if (b->pos == b->last) {
            ngx_http_agntkey_redis_conn_empty(conn);
        }
    }
}


/*
 * Returns the number of bytes written, or 0; after an error the connection
 * is gone.  What is left goes with the next write event.
 */

static ssize_t
ngx_http_agntkey_redis_conn_write(ngx_http_agntkey_redis_conn_t *conn,
    u_char *p, size_t len)
{
    ssize_t            n, total;
    ngx_connection_t  *c;

    c = conn->connection;

    for (total = 0; (size_t) total < len; total += n) {

        n = c->send(c, p + total, len - total);

        if (n == NGX_AGAIN || n == 0) {
            break;
        }

        if (n < 0) {
            ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                             "write failed", 0);
            return 0;
        }
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                         "write failed", 0);
        return 0;
    }

    return total;
}


static void
ngx_http_agntkey_redis_conn_read_handler(ngx_event_t *rev)
{
    u_char                          buf[NGX_HTTP_AGNTKEY_REDIS_CONN_READ];
    size_t                          total;
    ssize_t                         n;
    ngx_connection_t               *c;
    ngx_http_agntkey_redis_conn_t  *conn;

    c = rev->data;
    conn = c->data;

    if (c->close && ngx_http_agntkey_redis_conn_exit(conn)) {
        return;
    }

    if (c->close) {

        /* idle in a worker that is to end, or its time is over: no retries */

        ngx_http_agntkey_redis_conn_down(conn,
                                         conn->busy
                                         ? NGX_HTTP_AGNTKEY_REDIS_TIMEOUT
                                         : NGX_HTTP_AGNTKEY_REDIS_LOST,
                                         "shutting down", 0);
        return;
    }

    total = 0;

    do {
        if (total > NGX_HTTP_AGNTKEY_REDIS_CONN_TURN) {
            ngx_post_event(rev, &ngx_posted_next_events);
            break;
        }

        n = c->recv(c, buf, sizeof(buf));

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                             n ? "read failed"
                                               : "closed by the other side",
                                             0);
            return;
        }

        total += n;

        if (ngx_http_agntkey_redis_resp_feed(conn->resp, buf, n) != NGX_OK) {
            ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                             "no memory", 0);
            return;
        }

        if (ngx_http_agntkey_redis_conn_replies(conn) != NGX_OK) {
            return;
        }

    } while (rev->ready);

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                         "read failed", 0);
    }
}


/* The worker is to end: is there something that the connection stays for? */

static ngx_uint_t
ngx_http_agntkey_redis_conn_exit(ngx_http_agntkey_redis_conn_t *conn)
{
    if (conn->busy || conn->connection->error
        || !conn->handlers.exit(conn->data))
    {
        return 0;
    }

    conn->connection->close = 0;
    conn->connection->idle = 0;

    return 1;
}


/* Returns NGX_OK, or NGX_ERROR when the connection is gone. */

static ngx_int_t
ngx_http_agntkey_redis_conn_replies(ngx_http_agntkey_redis_conn_t *conn)
{
    ngx_int_t                        rc;
    ngx_connection_t                *c;
    ngx_http_agntkey_redis_reply_t  *reply;

    c = conn->connection;

    for ( ;; ) {

        rc = ngx_http_agntkey_redis_resp_next(conn->resp, &reply);

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        if (rc == NGX_ERROR) {
            ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                 ngx_http_agntkey_redis_resp_error(conn->resp),
                                 0);
            return NGX_ERROR;
        }

        if (conn->state == NGX_HTTP_AGNTKEY_REDIS_CONN_SETTING_UP) {
            rc = ngx_http_agntkey_redis_conn_set_up(conn, reply);

        } else {
            rc = ngx_http_agntkey_redis_conn_deliver(conn, reply);
        }

        /* whoever heard the reply may have had enough */

        if (rc != NGX_OK || conn->connection != c) {
            return NGX_ERROR;
        }
    }
}


static ngx_int_t
ngx_http_agntkey_redis_conn_set_up(ngx_http_agntkey_redis_conn_t *conn,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char       cause[NGX_HTTP_AGNTKEY_REDIS_CONN_TEXT * 2];
    u_char       buf[NGX_HTTP_AGNTKEY_REDIS_CONN_TEXT];
    ngx_str_t    text;
    const char  *name, *expected;
    ngx_uint_t   ok;

    name = conn->conf->setup_names[conn->setup_step];
    expected = (ngx_strcmp(name, "PING") == 0) ? "PONG" : "OK";

    ok = reply->type == NGX_HTTP_AGNTKEY_RESP_STATUS
         && reply->str.len == ngx_strlen(expected)
         && ngx_strncmp(reply->str.data, expected, reply->str.len) == 0;

    /* while it cannot save, Redis refuses PING like a write, but does read */

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR
        && ngx_strcmp(name, "PING") == 0
        && reply->str.len > 8
        && ngx_strncmp(reply->str.data, "MISCONF ", 8) == 0)
    {
        ok = 1;
    }

    if (!ok && ngx_strcmp(name, "CLIENT") != 0) {

        if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR) {
            ngx_http_agntkey_redis_resp_error_text(reply, buf, &text);

        } else {
            ngx_str_set(&text, "unexpected reply");
        }

        *ngx_snprintf(cause, sizeof(cause) - 1, "%s: %V", name, &text) = '\0';

        ngx_http_agntkey_redis_resp_free(reply);

        ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_UNSENT,
                                         (char *) cause, 0);
        return NGX_ERROR;
    }

    ngx_http_agntkey_redis_resp_free(reply);

    if (++conn->setup_step == conn->conf->nsetup) {
        ngx_http_agntkey_redis_conn_up(conn);
    }

    return NGX_OK;
}


/* Returns NGX_OK, or NGX_ERROR when the connection is gone. */

static ngx_int_t
ngx_http_agntkey_redis_conn_deliver(ngx_http_agntkey_redis_conn_t *conn,
    ngx_http_agntkey_redis_reply_t *reply)
{
    const char        *cause;
    ngx_connection_t  *c;

    c = conn->connection;

    cause = conn->handlers.reply(conn->data, reply);

    if (conn->connection != c) {
        return NGX_ERROR;
    }

    if (cause) {
        ngx_http_agntkey_redis_conn_down(conn, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                         cause, 0);
        return NGX_ERROR;
    }

    if (ngx_exiting) {

        /* it did not idle when idle connections were told to close */

        (void) ngx_http_agntkey_redis_conn_exit(conn);
    }

    return NGX_OK;
}


static void
ngx_http_agntkey_redis_conn_up(ngx_http_agntkey_redis_conn_t *conn)
{
    ngx_del_timer(&conn->connect_timer);

    conn->state = NGX_HTTP_AGNTKEY_REDIS_CONN_READY;
    conn->connection->idle = !conn->busy;
    conn->peer_log.log_level = conn->log_level;

    if (conn->unavailable) {
        conn->unavailable = 0;

        ngx_log_error(conn->back_level, conn->log, 0,
                      "agntkey: Redis \"%V\" is back after %M ms",
                      &conn->conf->peer.name,
                      ngx_current_msec - conn->away_since);
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, conn->log, 0,
                   "agntkey: Redis \"%V\" is ready", &conn->conf->peer.name);

    ngx_post_event(&conn->post, &ngx_posted_events);

    conn->handlers.up(conn->data);
}


/*
 * The one way down.  rc is what became of what had been written.  Handlers may
 * send anew, which is a matter of the next connection, so nobody relies on
 * anything after this.
 */

static void
ngx_http_agntkey_redis_conn_down(ngx_http_agntkey_redis_conn_t *conn,
    ngx_http_agntkey_redis_e rc, const char *cause, ngx_err_t err)
{
    ngx_uint_t  idle, established;

    established = (conn->state == NGX_HTTP_AGNTKEY_REDIS_CONN_READY);

    /* Redis ends connections that idle, and an old worker ends its own */

    idle = established && rc == NGX_HTTP_AGNTKEY_REDIS_LOST && !conn->busy;

    if (!established || rc == NGX_HTTP_AGNTKEY_REDIS_TIMEOUT) {
        ngx_http_agntkey_redis_conn_report(conn, cause, err);

    } else {
        ngx_log_error((idle ? NGX_LOG_INFO : conn->lost_level), conn->log, err,
                      "agntkey: the connection to Redis \"%V\" was lost: %s",
                      &conn->conf->peer.name, cause);
    }

    ngx_http_agntkey_redis_conn_close(conn);

    if (!idle) {
        ngx_http_agntkey_redis_conn_retry(conn);
    }

    conn->handlers.down(conn->data, rc);
}


static void
ngx_http_agntkey_redis_conn_close(ngx_http_agntkey_redis_conn_t *conn)
{
    conn->connection = NULL;
    conn->state = NGX_HTTP_AGNTKEY_REDIS_CONN_DOWN;

    ngx_http_agntkey_redis_peer_close(&conn->peer);

    ngx_http_agntkey_redis_resp_destroy(conn->resp);
    conn->resp = NULL;

    if (conn->connect_timer.timer_set) {
        ngx_del_timer(&conn->connect_timer);
    }

    if (conn->retry_timer.timer_set) {
        ngx_del_timer(&conn->retry_timer);
    }
}


/*
 * A connection that had worked is replaced at once; after that the pauses
 * grow, and half of each is random, so that the workers of many hosts do not
 * come back in step.
 */

static void
ngx_http_agntkey_redis_conn_retry(ngx_http_agntkey_redis_conn_t *conn)
{
    ngx_uint_t  shift;
    ngx_msec_t  pause;

    if (conn->failures++ == 0 && !conn->unavailable) {
        ngx_post_event(&conn->post, &ngx_posted_events);
        return;
    }

    shift = ngx_min(conn->failures - 1, 16);

    pause = (ngx_msec_t) NGX_HTTP_AGNTKEY_REDIS_CONN_BACKOFF_MIN << shift;
    pause = ngx_min(pause, NGX_HTTP_AGNTKEY_REDIS_CONN_BACKOFF_MAX);
    pause = pause / 2 + (ngx_msec_t) ngx_random() % (pause / 2);

    ngx_add_timer(&conn->retry_timer, pause);
}


/*
 * One line when Redis goes away, and one for each other reason that comes up
 * until it is back: never one for each attempt, even if reasons alternate.
 */

static void
ngx_http_agntkey_redis_conn_report(ngx_http_agntkey_redis_conn_t *conn,
    const char *cause, ngx_err_t err)
{
    uint64_t  bit;

    bit = (uint64_t) 1 << ((ngx_crc32_short((u_char *) cause,
                                            ngx_strlen(cause)) + err) % 64);

    if (!conn->unavailable) {
        conn->unavailable = 1;
        conn->away_since = ngx_current_msec;
        conn->causes = 0;
    }

    if (conn->causes & bit) {
        return;
    }

    conn->causes |= bit;

    ngx_log_error(conn->lost_level, conn->log, err,
                  "agntkey: Redis \"%V\" is away: %s",
                  &conn->conf->peer.name, cause);
}


static u_char *
ngx_http_agntkey_redis_conn_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    ngx_http_agntkey_redis_conn_t  *conn;

    conn = log->data;

    return ngx_snprintf(buf, len, " while %s to Redis \"%V\"",
                        conn->peer.action ? conn->peer.action : "talking",
                        &conn->conf->peer.name);
}
