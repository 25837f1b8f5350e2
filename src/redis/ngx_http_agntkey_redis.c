
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_redis.h"


#define NGX_HTTP_AGNTKEY_REDIS_READ    16384
#define NGX_HTTP_AGNTKEY_REDIS_TEXT    128

/* what is read in one turn of the loop, so that others have theirs; bytes */
#define NGX_HTTP_AGNTKEY_REDIS_TURN    (512 * 1024)

/* of the buffer of commands, bytes, when it is empty */
#define NGX_HTTP_AGNTKEY_REDIS_KEEP    65536


typedef enum {
    NGX_HTTP_AGNTKEY_REDIS_DOWN = 0,
    NGX_HTTP_AGNTKEY_REDIS_CONNECTING,
    NGX_HTTP_AGNTKEY_REDIS_SETTING_UP,
    NGX_HTTP_AGNTKEY_REDIS_READY
} ngx_http_agntkey_redis_state_e;


/* owned by the queue it stands in */

typedef struct {
    ngx_queue_t                         queue;
    ngx_http_agntkey_redis_handler_pt   handler;
    void                               *data;
    ngx_msec_t                          deadline;
    uint64_t                            offset;    /* of its first byte */
} ngx_http_agntkey_redis_cmd_t;


typedef struct {
    ngx_http_agntkey_redis_exit_pt    handler;
    void                             *data;
} ngx_http_agntkey_redis_exit_t;


/*
 * Owner of its commands, its buffers, its three events and, through peer, of
 * its connection.
 */

struct ngx_http_agntkey_redis_s {
    ngx_http_agntkey_redis_conf_t    *conf;
    ngx_connection_t                 *connection;
    ngx_http_agntkey_redis_resp_t    *resp;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                         ident;

    ngx_http_agntkey_redis_state_e    state;
    ngx_http_agntkey_redis_peer_t     peer;

    ngx_log_t                        *log;
    ngx_log_t                         peer_log;
    ngx_uint_t                        log_level;

    ngx_queue_t                       commands;
    ngx_uint_t                        ncommands;

    /* bytes not yet written, and what was written on this connection */
    ngx_buf_t                         out;
    uint64_t                          sent;

    size_t                            setup_sent;
    ngx_uint_t                        setup_step;

    /*
     * timer: the deadline of the oldest command; keeps a worker that is to
     * end alive for as long as a command waits
     * pace: the deadline of an attempt, or the pause before the next
     * post: something to do at the end of this turn of the loop
     */
    ngx_event_t                       timer;
    ngx_event_t                       pace;
    ngx_event_t                       post;

    ngx_http_agntkey_redis_exit_t     exits[NGX_HTTP_AGNTKEY_REDIS_EXITS];
    ngx_uint_t                        nexits;

    ngx_http_agntkey_redis_change_pt  change;
    void                             *change_data;

    ngx_http_agntkey_redis_message_pt message;       /* NULL: no stream */
    void                             *message_data;

    ngx_uint_t                        generation;
    ngx_uint_t                        failures;
    ngx_msec_t                        away_since;
    uint64_t                          causes;    /* already named, hashed */
    unsigned                          unavailable:1;
};


static ngx_int_t ngx_http_agntkey_redis_append(
    ngx_http_agntkey_redis_t *redis, ngx_str_t *bytes);
static void ngx_http_agntkey_redis_empty(ngx_http_agntkey_redis_t *redis);
static void ngx_http_agntkey_redis_post_handler(ngx_event_t *ev);
static void ngx_http_agntkey_redis_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_redis_pace_handler(ngx_event_t *ev);
static void ngx_http_agntkey_redis_attempt(ngx_http_agntkey_redis_t *redis);
static void ngx_http_agntkey_redis_connected(
    ngx_http_agntkey_redis_peer_t *peer, ngx_int_t rc);
static void ngx_http_agntkey_redis_write_handler(ngx_event_t *wev);
static void ngx_http_agntkey_redis_flush(ngx_http_agntkey_redis_t *redis);
static ssize_t ngx_http_agntkey_redis_write(ngx_http_agntkey_redis_t *redis,
    u_char *p, size_t len);
static void ngx_http_agntkey_redis_read_handler(ngx_event_t *rev);
static ngx_uint_t ngx_http_agntkey_redis_exit_handlers(
    ngx_http_agntkey_redis_t *redis);
static ngx_int_t ngx_http_agntkey_redis_replies(
    ngx_http_agntkey_redis_t *redis);
static ngx_int_t ngx_http_agntkey_redis_set_up(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_redis_dispatch(
    ngx_http_agntkey_redis_t *redis, ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_redis_deliver(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_redis_ready(ngx_http_agntkey_redis_t *redis);
static void ngx_http_agntkey_redis_down(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_e rc, const char *cause, ngx_err_t err);
static void ngx_http_agntkey_redis_fail(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_e rc);
static void ngx_http_agntkey_redis_close(ngx_http_agntkey_redis_t *redis);
static void ngx_http_agntkey_redis_retry(ngx_http_agntkey_redis_t *redis);
static void ngx_http_agntkey_redis_report(ngx_http_agntkey_redis_t *redis,
    const char *cause, ngx_err_t err);
static u_char *ngx_http_agntkey_redis_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


ngx_http_agntkey_redis_t *
ngx_http_agntkey_redis_create(ngx_http_agntkey_redis_conf_t *conf,
    ngx_log_t *log)
{
    ngx_http_agntkey_redis_t  *redis;

    redis = ngx_calloc(sizeof(ngx_http_agntkey_redis_t), log);
    if (redis == NULL) {
        return NULL;
    }

    redis->conf = conf;
    redis->ident = -1;
    redis->log = log;

    redis->peer_log = *log;
    redis->peer_log.handler = ngx_http_agntkey_redis_log_error;
    redis->peer_log.data = redis;
    redis->peer_log.action = NULL;
    redis->log_level = log->log_level;

    redis->peer.conf = &conf->peer;
    redis->peer.log = &redis->peer_log;
    redis->peer.handler = ngx_http_agntkey_redis_connected;
    redis->peer.data = redis;

    ngx_queue_init(&redis->commands);

    redis->timer.handler = ngx_http_agntkey_redis_timer_handler;
    redis->timer.data = redis;
    redis->timer.log = log;
    redis->timer.cancelable = 1;

    redis->pace.handler = ngx_http_agntkey_redis_pace_handler;
    redis->pace.data = redis;
    redis->pace.log = log;
    redis->pace.cancelable = 1;

    redis->post.handler = ngx_http_agntkey_redis_post_handler;
    redis->post.data = redis;
    redis->post.log = log;

    return redis;
}


void
ngx_http_agntkey_redis_destroy(ngx_http_agntkey_redis_t *redis)
{
    ngx_queue_t                   *q;
    ngx_http_agntkey_redis_cmd_t  *cmd;

    ngx_http_agntkey_redis_close(redis);

    if (redis->timer.timer_set) {
        ngx_del_timer(&redis->timer);
    }

    if (redis->post.posted) {
        ngx_delete_posted_event(&redis->post);
    }

    while (!ngx_queue_empty(&redis->commands)) {
        q = ngx_queue_head(&redis->commands);
        ngx_queue_remove(q);

        cmd = ngx_queue_data(q, ngx_http_agntkey_redis_cmd_t, queue);
        ngx_free(cmd);
    }

    if (redis->out.start) {
        ngx_free(redis->out.start);
    }

    ngx_free(redis);
}


void
ngx_http_agntkey_redis_connect(ngx_http_agntkey_redis_t *redis)
{
    /* a worker that starts would sleep over the queue of this turn */

    if (redis->state == NGX_HTTP_AGNTKEY_REDIS_DOWN) {
        ngx_post_event(&redis->post, &ngx_posted_next_events);
    }
}


void
ngx_http_agntkey_redis_add_exit_handler(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_exit_pt handler, void *data)
{
    ngx_http_agntkey_redis_exit_t  *last;

    if (redis->nexits < NGX_HTTP_AGNTKEY_REDIS_EXITS) {
        last = &redis->exits[redis->nexits++];

        last->handler = handler;
        last->data = data;
    }
}


void
ngx_http_agntkey_redis_set_change(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_change_pt handler, void *data)
{
    redis->change = handler;
    redis->change_data = data;
}


void
ngx_http_agntkey_redis_set_message(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_message_pt handler, void *data)
{
    redis->message = handler;
    redis->message_data = data;

    /* what nginx says of its attempts is for the other connection to say */

    redis->log_level = ngx_min(redis->log_level, NGX_LOG_ALERT);
}


ngx_uint_t
ngx_http_agntkey_redis_ready_now(ngx_http_agntkey_redis_t *redis)
{
    return redis->state == NGX_HTTP_AGNTKEY_REDIS_READY;
}


ngx_uint_t
ngx_http_agntkey_redis_unavailable(ngx_http_agntkey_redis_t *redis)
{
    return redis->unavailable;
}


ngx_msec_t
ngx_http_agntkey_redis_timeout(ngx_http_agntkey_redis_t *redis)
{
    return redis->conf->timeout;
}


ngx_uint_t
ngx_http_agntkey_redis_generation(ngx_http_agntkey_redis_t *redis)
{
    return redis->generation;
}


void
ngx_http_agntkey_redis_reset(ngx_http_agntkey_redis_t *redis,
    const char *cause)
{
    if (redis->state == NGX_HTTP_AGNTKEY_REDIS_READY) {
        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST, cause,
                                    0);
    }
}


void
ngx_http_agntkey_redis_send_now(ngx_http_agntkey_redis_t *redis,
    ngx_str_t *bytes)
{
    ngx_connection_t  *c;

    c = redis->connection;

    if (redis->state == NGX_HTTP_AGNTKEY_REDIS_READY
        && redis->out.pos == redis->out.last)
    {
        (void) c->send(c, bytes->data, bytes->len);
    }
}


ngx_int_t
ngx_http_agntkey_redis_ask(ngx_http_agntkey_redis_t *redis, ngx_str_t *bytes,
    ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    size_t  used;

    used = redis->out.last - redis->out.pos;

    if (redis->ncommands >= NGX_HTTP_AGNTKEY_REDIS_QUEUE
                            - NGX_HTTP_AGNTKEY_REDIS_QUEUE_OWN
        || used + bytes->len > NGX_HTTP_AGNTKEY_REDIS_BUFFER
                               - NGX_HTTP_AGNTKEY_REDIS_BUFFER_OWN)
    {
        return NGX_DECLINED;
    }

    return ngx_http_agntkey_redis_send(redis, bytes, handler, data);
}


ngx_int_t
ngx_http_agntkey_redis_send(ngx_http_agntkey_redis_t *redis, ngx_str_t *bytes,
    ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    ngx_http_agntkey_redis_cmd_t  *cmd;

    if (redis->unavailable
        || redis->ncommands >= NGX_HTTP_AGNTKEY_REDIS_QUEUE)
    {
        return NGX_DECLINED;
    }

    cmd = ngx_alloc(sizeof(ngx_http_agntkey_redis_cmd_t), redis->log);
    if (cmd == NULL) {
        return NGX_DECLINED;
    }

    cmd->handler = handler;
    cmd->data = data;
    cmd->deadline = ngx_current_msec + redis->conf->timeout;
    cmd->offset = redis->sent + (redis->out.last - redis->out.pos);

    if (ngx_http_agntkey_redis_append(redis, bytes) != NGX_OK) {
        ngx_free(cmd);
        return NGX_DECLINED;
    }

    ngx_queue_insert_tail(&redis->commands, &cmd->queue);
    redis->ncommands++;

    redis->timer.cancelable = 0;

    if (!redis->timer.timer_set) {
        ngx_add_timer(&redis->timer, redis->conf->timeout);
    }

    if (redis->connection) {
        redis->connection->idle = 0;
    }

    /* a worker is told to end when the queue of this turn is behind it */

    ngx_post_event(&redis->post, ngx_exiting ? &ngx_posted_next_events
                                             : &ngx_posted_events);

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_redis_append(ngx_http_agntkey_redis_t *redis,
    ngx_str_t *bytes)
{
    u_char     *p;
    size_t      used, size;
    ngx_buf_t  *b;

    b = &redis->out;
    used = b->last - b->pos;

    if ((size_t) (b->end - b->last) < bytes->len) {

        size = ngx_max((size_t) (b->end - b->start), 4096);

        while (size - used < bytes->len) {
            size *= 2;
        }

        if (size > NGX_HTTP_AGNTKEY_REDIS_BUFFER) {
            return NGX_ERROR;
        }

        p = ngx_alloc(size, redis->log);
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
ngx_http_agntkey_redis_empty(ngx_http_agntkey_redis_t *redis)
{
    ngx_buf_t  *b;

    b = &redis->out;

    if (b->end - b->start > NGX_HTTP_AGNTKEY_REDIS_KEEP) {
        ngx_free(b->start);
        b->start = NULL;
        b->end = NULL;
    }

    b->pos = b->start;
    b->last = b->start;
}


static void
ngx_http_agntkey_redis_post_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_redis_t  *redis;

    redis = ev->data;

    switch (redis->state) {

    case NGX_HTTP_AGNTKEY_REDIS_READY:
        ngx_http_agntkey_redis_flush(redis);
        break;

    case NGX_HTTP_AGNTKEY_REDIS_DOWN:
        if (!redis->pace.timer_set) {
            ngx_http_agntkey_redis_attempt(redis);
        }

        break;

    default: /* on its way */
        break;
    }
}


/*
 * All commands have the same time to live, so the oldest is the first to run
 * out of it; and as what is behind it cannot be answered before it, they go
 * together.
 */

static void
ngx_http_agntkey_redis_timer_handler(ngx_event_t *ev)
{
    ngx_queue_t                   *q;
    ngx_msec_int_t                 left;
    ngx_http_agntkey_redis_t      *redis;
    ngx_http_agntkey_redis_cmd_t  *cmd;

    redis = ev->data;

    if (ngx_queue_empty(&redis->commands)) {
        return;
    }

    q = ngx_queue_head(&redis->commands);
    cmd = ngx_queue_data(q, ngx_http_agntkey_redis_cmd_t, queue);

    left = (ngx_msec_int_t) (cmd->deadline - ngx_current_msec);

    if (left > 0) {
        ngx_add_timer(&redis->timer, (ngx_msec_t) left);
        return;
    }

    if (redis->state == NGX_HTTP_AGNTKEY_REDIS_READY) {
        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_TIMEOUT,
                                    "no reply in time", 0);
        return;
    }

    /* the attempt has a time of its own, and may still succeed */

    ngx_http_agntkey_redis_report(redis, "no connection in time", 0);
    ngx_http_agntkey_redis_fail(redis, NGX_HTTP_AGNTKEY_REDIS_UNSENT);
}


static void
ngx_http_agntkey_redis_pace_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_redis_t  *redis;

    redis = ev->data;

    if (redis->state == NGX_HTTP_AGNTKEY_REDIS_DOWN) {
        ngx_http_agntkey_redis_attempt(redis);
        return;
    }

    ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_TIMEOUT,
                                "no connection in time", 0);
}


static void
ngx_http_agntkey_redis_attempt(ngx_http_agntkey_redis_t *redis)
{
    redis->state = NGX_HTTP_AGNTKEY_REDIS_CONNECTING;

    /*
     * The first failure speaks with all its voices; while Redis stays away
     * the messages of nginx itself would come with every attempt.
     */

    redis->peer_log.log_level = redis->log_level;

    if (redis->unavailable && redis->log_level < NGX_LOG_DEBUG) {
        redis->peer_log.log_level = ngx_min(redis->log_level, NGX_LOG_ALERT);
    }

    ngx_add_timer(&redis->pace, redis->conf->connect_timeout);

    ngx_http_agntkey_redis_peer_connect(&redis->peer);
}


static void
ngx_http_agntkey_redis_connected(ngx_http_agntkey_redis_peer_t *peer,
    ngx_int_t rc)
{
    ngx_connection_t          *c;
    ngx_http_agntkey_redis_t  *redis;

    redis = peer->data;

    if (rc != NGX_OK) {
        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_UNSENT,
                                    peer->cause, peer->err);
        return;
    }

    /* a stream must not go on as long as there is a message it cannot read */

    redis->resp = ngx_http_agntkey_redis_resp_create(
                          redis->message ? 0 : NGX_HTTP_AGNTKEY_RESP_SKIP);
    if (redis->resp == NULL) {
        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_UNSENT,
                                    "no memory", 0);
        return;
    }

    c = peer->connection;

    c->data = redis;
    c->read->handler = ngx_http_agntkey_redis_read_handler;
    c->write->handler = ngx_http_agntkey_redis_write_handler;

    redis->connection = c;
    redis->state = NGX_HTTP_AGNTKEY_REDIS_SETTING_UP;
    redis->setup_step = 0;
    redis->setup_sent = 0;

    ngx_http_agntkey_redis_flush(redis);

    if (redis->connection == c && c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


static void
ngx_http_agntkey_redis_write_handler(ngx_event_t *wev)
{
    ngx_connection_t  *c;

    c = wev->data;

    ngx_http_agntkey_redis_flush(c->data);
}


static void
ngx_http_agntkey_redis_flush(ngx_http_agntkey_redis_t *redis)
{
    ssize_t     n;
    ngx_buf_t  *b;
    ngx_str_t  *setup;

    setup = &redis->conf->setup;

    if (redis->setup_sent < setup->len) {
        n = ngx_http_agntkey_redis_write(redis,
                                         setup->data + redis->setup_sent,
                                         setup->len - redis->setup_sent);
        if (n > 0) {
            redis->setup_sent += n;
        }

        return;
    }

    b = &redis->out;

    if (redis->state != NGX_HTTP_AGNTKEY_REDIS_READY || b->pos == b->last) {
        return;
    }

    n = ngx_http_agntkey_redis_write(redis, b->pos, b->last - b->pos);

    if (n > 0) {
        b->pos += n;
        redis->sent += n;

        if (b->pos == b->last) {
            ngx_http_agntkey_redis_empty(redis);
        }
    }
}


/*
 * Returns the number of bytes written, or 0; after an error the connection
 * is gone.  What is left goes with the next write event.
 */

static ssize_t
ngx_http_agntkey_redis_write(ngx_http_agntkey_redis_t *redis, u_char *p,
    size_t len)
{
    ssize_t            n, total;
    ngx_connection_t  *c;

    c = redis->connection;

    for (total = 0; (size_t) total < len; total += n) {

        n = c->send(c, p + total, len - total);

        if (n == NGX_AGAIN || n == 0) {
            break;
        }

        if (n < 0) {
            ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                        "write failed", 0);
            return 0;
        }
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                    "write failed", 0);
        return 0;
    }

    return total;
}


static void
ngx_http_agntkey_redis_read_handler(ngx_event_t *rev)
{
    u_char                     buf[NGX_HTTP_AGNTKEY_REDIS_READ];
    size_t                     total;
    ssize_t                    n;
    ngx_connection_t          *c;
    ngx_http_agntkey_redis_t  *redis;

    c = rev->data;
    redis = c->data;

    if (c->close && ngx_http_agntkey_redis_exit_handlers(redis)) {
        return;
    }

    if (c->close) {

        /* idle in a worker that is to end, or its time is over: no retries */

        ngx_http_agntkey_redis_down(redis, ngx_queue_empty(&redis->commands)
                                           ? NGX_HTTP_AGNTKEY_REDIS_LOST
                                           : NGX_HTTP_AGNTKEY_REDIS_TIMEOUT,
                                    "shutting down", 0);
        return;
    }

    total = 0;

    do {
        if (total > NGX_HTTP_AGNTKEY_REDIS_TURN) {
            ngx_post_event(rev, &ngx_posted_next_events);
            break;
        }

        n = c->recv(c, buf, sizeof(buf));

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                        n ? "read failed"
                                          : "closed by the other side", 0);
            return;
        }

        total += n;

        if (ngx_http_agntkey_redis_resp_feed(redis->resp, buf, n) != NGX_OK) {
            ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                        "no memory", 0);
            return;
        }

        if (ngx_http_agntkey_redis_replies(redis) != NGX_OK) {
            return;
        }

    } while (rev->ready);

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                    "read failed", 0);
    }
}


/* Has the end of the worker given anybody something to send? */

static ngx_uint_t
ngx_http_agntkey_redis_exit_handlers(ngx_http_agntkey_redis_t *redis)
{
    ngx_uint_t  i, n;

    if (!ngx_queue_empty(&redis->commands) || redis->connection->error) {
        return 0;
    }

    if (redis->message) {

        /* requests that still run may have to hear something by it */

        redis->connection->close = 0;
        redis->connection->idle = 0;

        return 1;
    }

    n = redis->nexits;
    redis->nexits = 0;

    for (i = 0; i < n; i++) {
        redis->exits[i].handler(redis->exits[i].data);
    }

    if (ngx_queue_empty(&redis->commands)) {
        return 0;
    }

    redis->connection->close = 0;

    return 1;
}


/* Returns NGX_OK, or NGX_ERROR when the connection is gone. */

static ngx_int_t
ngx_http_agntkey_redis_replies(ngx_http_agntkey_redis_t *redis)
{
    ngx_int_t                        rc;
    ngx_connection_t                *c;
    ngx_http_agntkey_redis_reply_t  *reply;

    c = redis->connection;

    for ( ;; ) {

        rc = ngx_http_agntkey_redis_resp_next(redis->resp, &reply);

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        if (rc == NGX_ERROR) {
            ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                 ngx_http_agntkey_redis_resp_error(redis->resp),
                                 0);
            return NGX_ERROR;
        }

        if (redis->state == NGX_HTTP_AGNTKEY_REDIS_SETTING_UP) {
            rc = ngx_http_agntkey_redis_set_up(redis, reply);

        } else {
            rc = ngx_http_agntkey_redis_dispatch(redis, reply);
        }

        /* whoever heard the reply may have had enough */

        if (rc != NGX_OK || redis->connection != c) {
            return NGX_ERROR;
        }
    }
}


static ngx_int_t
ngx_http_agntkey_redis_set_up(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char       cause[NGX_HTTP_AGNTKEY_REDIS_TEXT * 2];
    u_char       buf[NGX_HTTP_AGNTKEY_REDIS_TEXT];
    ngx_str_t    text;
    const char  *name, *expected;
    ngx_uint_t   ok;

    name = redis->conf->setup_names[redis->setup_step];
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

        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_UNSENT,
                                    (char *) cause, 0);
        return NGX_ERROR;
    }

    ngx_http_agntkey_redis_resp_free(reply);

    if (++redis->setup_step == redis->conf->nsetup) {
        ngx_http_agntkey_redis_ready(redis);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_redis_dispatch(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_queue_t                   *q;
    ngx_uint_t                     noauth;
    ngx_connection_t              *c;
    ngx_http_agntkey_redis_cmd_t  *cmd;

    c = redis->connection;

    if (redis->message && ngx_queue_empty(&redis->commands)) {
        return ngx_http_agntkey_redis_deliver(redis, reply);
    }

    q = ngx_queue_head(&redis->commands);
    cmd = ngx_queue_data(q, ngx_http_agntkey_redis_cmd_t, queue);

    /* nobody asked, or the answer is here before the question has left */

    if (ngx_queue_empty(&redis->commands) || cmd->offset >= redis->sent) {
        ngx_http_agntkey_redis_resp_free(reply);
        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                    "a reply that nobody asked for", 0);
        return NGX_ERROR;
    }

    ngx_queue_remove(q);
    redis->ncommands--;
    redis->failures = 0;

    if (ngx_queue_empty(&redis->commands)) {
        redis->timer.cancelable = 1;
        redis->connection->idle = 1;
    }

    noauth = reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR
             && reply->str.len >= 6
             && ngx_strncmp(reply->str.data, "NOAUTH", 6) == 0;

    cmd->handler(cmd->data, NGX_HTTP_AGNTKEY_REDIS_OK, reply);
    ngx_free(cmd);

    if (noauth && redis->connection == c) {

        /* a proxy has put another server behind us: introduce ourselves */

        ngx_http_agntkey_redis_down(redis, NGX_HTTP_AGNTKEY_REDIS_LOST,
                                    "NOAUTH", 0);
        return NGX_ERROR;
    }

    if (ngx_exiting && redis->connection == c) {

        /* it did not idle when idle connections were told to close */

        (void) ngx_http_agntkey_redis_exit_handlers(redis);
    }

    return NGX_OK;
}


/* Returns NGX_OK, or NGX_ERROR when the connection is gone. */

static ngx_int_t
ngx_http_agntkey_redis_deliver(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_reply_t *reply)
{
    const char  *cause;

    redis->failures = 0;

    cause = redis->message(redis->message_data, reply);

    if (cause) {
        ngx_http_agntkey_redis_reset(redis, cause);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_agntkey_redis_ready(ngx_http_agntkey_redis_t *redis)
{
    ngx_del_timer(&redis->pace);

    redis->state = NGX_HTTP_AGNTKEY_REDIS_READY;
    redis->connection->idle = ngx_queue_empty(&redis->commands);
    redis->peer_log.log_level = redis->log_level;

    if (redis->unavailable) {
        redis->unavailable = 0;

        ngx_log_error((redis->message ? NGX_LOG_INFO : NGX_LOG_NOTICE),
                      redis->log, 0,
                      "agntkey: Redis \"%V\" is back after %M ms",
                      &redis->conf->peer.name,
                      ngx_current_msec - redis->away_since);
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, redis->log, 0,
                   "agntkey: Redis \"%V\" is ready", &redis->conf->peer.name);

    ngx_post_event(&redis->post, &ngx_posted_events);

    if (redis->change) {
        redis->change(redis->change_data, 1);
    }
}


/*
 * The one way down.  rc is what became of the commands that had been sent;
 * what had not been sent is UNSENT, and will not be sent later.
 */

static void
ngx_http_agntkey_redis_down(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_e rc, const char *cause, ngx_err_t err)
{
    ngx_uint_t  quiet, established;

    established = (redis->state == NGX_HTTP_AGNTKEY_REDIS_READY);

    /* Redis ends connections that idle, and an old worker ends its own */

    quiet = established
            && rc == NGX_HTTP_AGNTKEY_REDIS_LOST
            && ngx_queue_empty(&redis->commands);

    if (!established || rc == NGX_HTTP_AGNTKEY_REDIS_TIMEOUT) {
        ngx_http_agntkey_redis_report(redis, cause, err);

    } else {
        ngx_log_error((quiet || redis->message ? NGX_LOG_INFO : NGX_LOG_ERR),
                      redis->log, err,
                      "agntkey: the connection to Redis \"%V\" was lost: %s",
                      &redis->conf->peer.name, cause);
    }

    ngx_http_agntkey_redis_close(redis);

    if (!quiet) {
        ngx_http_agntkey_redis_retry(redis);
    }

    if (redis->change) {
        redis->change(redis->change_data, 0);
    }

    ngx_http_agntkey_redis_fail(redis, rc);
}


/*
 * Ends all that waits: with rc what was sent, with UNSENT, and for good, what
 * was not.  Handlers may send anew, which is a matter of the next connection,
 * so nobody relies on anything after this.
 */

static void
ngx_http_agntkey_redis_fail(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_redis_e rc)
{
    uint64_t                       sent;
    ngx_queue_t                    lost, *q;
    ngx_http_agntkey_redis_cmd_t  *cmd;

    sent = redis->sent;

    redis->generation++;
    redis->sent = 0;
    ngx_http_agntkey_redis_empty(redis);

    redis->timer.cancelable = 1;

    ngx_queue_init(&lost);

    if (!ngx_queue_empty(&redis->commands)) {
        ngx_queue_add(&lost, &redis->commands);
        ngx_queue_init(&redis->commands);
        redis->ncommands = 0;
    }

    while (!ngx_queue_empty(&lost)) {
        q = ngx_queue_head(&lost);
        ngx_queue_remove(q);

        cmd = ngx_queue_data(q, ngx_http_agntkey_redis_cmd_t, queue);

        cmd->handler(cmd->data,
                     cmd->offset < sent ? rc : NGX_HTTP_AGNTKEY_REDIS_UNSENT,
                     NULL);
        ngx_free(cmd);
    }
}


static void
ngx_http_agntkey_redis_close(ngx_http_agntkey_redis_t *redis)
{
    redis->connection = NULL;
    redis->state = NGX_HTTP_AGNTKEY_REDIS_DOWN;

    ngx_http_agntkey_redis_peer_close(&redis->peer);

    ngx_http_agntkey_redis_resp_destroy(redis->resp);
    redis->resp = NULL;

    if (redis->pace.timer_set) {
        ngx_del_timer(&redis->pace);
    }
}


/*
 * A connection that had worked is replaced at once; after that the pauses
 * grow, and half of each is random, so that the workers of many hosts do not
 * come back in step.
 */

static void
ngx_http_agntkey_redis_retry(ngx_http_agntkey_redis_t *redis)
{
    ngx_uint_t  shift;
    ngx_msec_t  pause;

    if (redis->failures++ == 0 && !redis->unavailable) {
        ngx_post_event(&redis->post, &ngx_posted_events);
        return;
    }

    shift = ngx_min(redis->failures - 1, 16);

    pause = ngx_min((ngx_msec_t) NGX_HTTP_AGNTKEY_REDIS_BACKOFF_MIN << shift,
                    NGX_HTTP_AGNTKEY_REDIS_BACKOFF_MAX);
    pause = pause / 2 + (ngx_msec_t) ngx_random() % (pause / 2);

    ngx_add_timer(&redis->pace, pause);
}


/*
 * One line when Redis goes away, and one for each other reason that comes up
 * until it is back: never one for each attempt, even if reasons alternate.
 */

static void
ngx_http_agntkey_redis_report(ngx_http_agntkey_redis_t *redis,
    const char *cause, ngx_err_t err)
{
    uint64_t  bit;

    bit = (uint64_t) 1 << ((ngx_crc32_short((u_char *) cause,
                                            ngx_strlen(cause)) + err) % 64);

    if (!redis->unavailable) {
        redis->unavailable = 1;
        redis->away_since = ngx_current_msec;
        redis->causes = 0;
    }

    if (redis->causes & bit) {
        return;
    }

    redis->causes |= bit;

    ngx_log_error((redis->message ? NGX_LOG_INFO : NGX_LOG_ERR),
                  redis->log, err,
                  "agntkey: Redis \"%V\" is away: %s",
                  &redis->conf->peer.name, cause);
}


static u_char *
ngx_http_agntkey_redis_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    ngx_http_agntkey_redis_t  *redis;

    redis = log->data;

    return ngx_snprintf(buf, len, " while %s to Redis \"%V\"",
                        redis->peer.action ? redis->peer.action : "talking",
                        &redis->conf->peer.name);
}
