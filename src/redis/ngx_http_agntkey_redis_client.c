
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_redis_client.h"


/* owned by the queue it stands in */

typedef struct {
    ngx_queue_t                                queue;
    ngx_http_agntkey_redis_handler_pt          handler;
    void                                      *data;
    ngx_msec_t                                 deadline;
    uint64_t                                   offset;  /* of its first byte */
} ngx_http_agntkey_redis_client_cmd_t;


typedef struct {
    ngx_http_agntkey_redis_client_handlers_t   handlers;
    void                                      *data;
} ngx_http_agntkey_redis_client_listener_t;


/* owner of its connection, of its commands and of its timer */

struct ngx_http_agntkey_redis_client_s {
    ngx_http_agntkey_redis_conn_t             *conn;
    ngx_msec_t                                 timeout;
    ngx_log_t                                 *log;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                                  ident;

    ngx_queue_t                                commands;
    ngx_uint_t                                 ncommands;

    /*
     * The deadline of the oldest command.  Keeps a worker that is to end alive
     * for as long as a command waits.
     */
    ngx_event_t                                timer;

    ngx_http_agntkey_redis_client_listener_t   listeners[
                                      NGX_HTTP_AGNTKEY_REDIS_CLIENT_LISTENERS];
    ngx_uint_t                                 nlisteners;

    ngx_uint_t                                 generation;
    unsigned                                   exiting:1; /* and it was said */
};


static void ngx_http_agntkey_redis_client_drop(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_redis_client_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_redis_client_up(void *data);
static void ngx_http_agntkey_redis_client_down(void *data,
    ngx_http_agntkey_redis_e rc);
static const char *ngx_http_agntkey_redis_client_reply(void *data,
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_redis_client_exit(void *data);
static void ngx_http_agntkey_redis_client_fail(
    ngx_http_agntkey_redis_client_t *client, ngx_http_agntkey_redis_e rc);


static ngx_http_agntkey_redis_conn_handlers_t
    ngx_http_agntkey_redis_client_conn_handlers =
{
    ngx_http_agntkey_redis_client_up,
    ngx_http_agntkey_redis_client_down,
    ngx_http_agntkey_redis_client_reply,
    ngx_http_agntkey_redis_client_exit
};


ngx_http_agntkey_redis_client_t *
ngx_http_agntkey_redis_client_create(ngx_http_agntkey_redis_conf_t *conf,
    ngx_log_t *log)
{
    ngx_http_agntkey_redis_client_t  *client;

    client = ngx_calloc(sizeof(ngx_http_agntkey_redis_client_t), log);
    if (client == NULL) {
        return NULL;
    }

    client->timeout = conf->timeout;
    client->log = log;
    client->ident = -1;

    ngx_queue_init(&client->commands);

    client->timer.handler = ngx_http_agntkey_redis_client_timer_handler;
    client->timer.data = client;
    client->timer.log = log;
    client->timer.cancelable = 1;

    client->conn = ngx_http_agntkey_redis_conn_create(conf,
                                  &ngx_http_agntkey_redis_client_conn_handlers,
                                  client, NGX_HTTP_AGNTKEY_RESP_SKIP, 0, log);
    if (client->conn == NULL) {
        ngx_free(client);
        return NULL;
    }

    return client;
}


void
ngx_http_agntkey_redis_client_destroy(ngx_http_agntkey_redis_client_t *client)
{
    ngx_queue_t                          *q;
    ngx_http_agntkey_redis_client_cmd_t  *cmd;

    ngx_http_agntkey_redis_conn_destroy(client->conn);

    if (client->timer.timer_set) {
        ngx_del_timer(&client->timer);
    }

    while (!ngx_queue_empty(&client->commands)) {
        q = ngx_queue_head(&client->commands);
        ngx_queue_remove(q);

        cmd = ngx_queue_data(q, ngx_http_agntkey_redis_client_cmd_t, queue);
        ngx_free(cmd);
    }

    ngx_free(client);
}


void
ngx_http_agntkey_redis_client_listen(ngx_http_agntkey_redis_client_t *client,
    ngx_http_agntkey_redis_client_handlers_t *handlers, void *data)
{
    ngx_http_agntkey_redis_client_listener_t  *last;

    if (client->nlisteners < NGX_HTTP_AGNTKEY_REDIS_CLIENT_LISTENERS) {
        last = &client->listeners[client->nlisteners++];

        last->handlers = *handlers;
        last->data = data;
    }
}


void
ngx_http_agntkey_redis_client_connect(ngx_http_agntkey_redis_client_t *client)
{
    ngx_http_agntkey_redis_conn_connect(client->conn);
}


void
ngx_http_agntkey_redis_client_reset(ngx_http_agntkey_redis_client_t *client,
    const char *cause)
{
    ngx_http_agntkey_redis_conn_reset(client->conn, cause);
}


ngx_uint_t
ngx_http_agntkey_redis_client_ready(ngx_http_agntkey_redis_client_t *client)
{
    return ngx_http_agntkey_redis_conn_ready(client->conn);
}


ngx_uint_t
ngx_http_agntkey_redis_client_unavailable(
    ngx_http_agntkey_redis_client_t *client)
{
    return ngx_http_agntkey_redis_conn_unavailable(client->conn);
}


ngx_msec_t
ngx_http_agntkey_redis_client_timeout(ngx_http_agntkey_redis_client_t *client)
{
    return client->timeout;
}


ngx_uint_t
ngx_http_agntkey_redis_client_generation(
    ngx_http_agntkey_redis_client_t *client)
{
    return client->generation;
}


ngx_int_t
ngx_http_agntkey_redis_client_ask(ngx_http_agntkey_redis_client_t *client,
    ngx_str_t *bytes, ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    size_t  unwritten;

    unwritten = ngx_http_agntkey_redis_conn_unwritten(client->conn);

    if (client->ncommands >= NGX_HTTP_AGNTKEY_REDIS_CLIENT_QUEUE
                             - NGX_HTTP_AGNTKEY_REDIS_CLIENT_QUEUE_OWN
        || unwritten + bytes->len > NGX_HTTP_AGNTKEY_REDIS_CONN_BUFFER
                                  - NGX_HTTP_AGNTKEY_REDIS_CLIENT_BUFFER_OWN)
    {
        return NGX_DECLINED;
    }

    return ngx_http_agntkey_redis_client_send(client, bytes, handler, data);
}


ngx_int_t
ngx_http_agntkey_redis_client_send(ngx_http_agntkey_redis_client_t *client,
    ngx_str_t *bytes, ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    ngx_http_agntkey_redis_client_cmd_t  *cmd;

    if (ngx_http_agntkey_redis_conn_unavailable(client->conn)
        || client->ncommands >= NGX_HTTP_AGNTKEY_REDIS_CLIENT_QUEUE)
    {
        return NGX_DECLINED;
    }

    cmd = ngx_alloc(sizeof(ngx_http_agntkey_redis_client_cmd_t), client->log);
    if (cmd == NULL) {
        return NGX_DECLINED;
    }

    cmd->handler = handler;
    cmd->data = data;
    cmd->deadline = ngx_current_msec + client->timeout;
    cmd->offset = ngx_http_agntkey_redis_conn_written(client->conn)
                  + ngx_http_agntkey_redis_conn_unwritten(client->conn);

    if (ngx_http_agntkey_redis_conn_send(client->conn, bytes) != NGX_OK) {
        ngx_free(cmd);
        return NGX_DECLINED;
    }

    ngx_queue_insert_tail(&client->commands, &cmd->queue);
    client->ncommands++;

    client->timer.cancelable = 0;

    if (!client->timer.timer_set) {
        ngx_add_timer(&client->timer, client->timeout);
    }

    ngx_http_agntkey_redis_conn_set_busy(client->conn, 1);

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_redis_client_command(ngx_http_agntkey_redis_client_t *client,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    if (ngx_http_agntkey_redis_resp_format(argv, argc, &bytes) != NGX_OK) {
        return NGX_DECLINED;
    }

    rc = ngx_http_agntkey_redis_client_send(client, &bytes,
                                            handler ? handler
                                   : ngx_http_agntkey_redis_client_drop,
                                            data);

    ngx_http_agntkey_redis_resp_format_free(&bytes);

    return rc;
}


static void
ngx_http_agntkey_redis_client_drop(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_redis_resp_free(reply);
}


void
ngx_http_agntkey_redis_client_send_now(ngx_http_agntkey_redis_client_t *client,
    ngx_str_t *bytes)
{
    ngx_http_agntkey_redis_conn_send_now(client->conn, bytes);
}


/*
 * All commands have the same time to live, so the oldest is the first to run
 * out of it; and as what is behind it cannot be answered before it, they go
 * together.
 */

static void
ngx_http_agntkey_redis_client_timer_handler(ngx_event_t *ev)
{
    ngx_queue_t                          *q;
    ngx_msec_int_t                        left;
    ngx_http_agntkey_redis_client_t      *client;
    ngx_http_agntkey_redis_client_cmd_t  *cmd;

    client = ev->data;

    if (ngx_queue_empty(&client->commands)) {
        return;
    }

    q = ngx_queue_head(&client->commands);
    cmd = ngx_queue_data(q, ngx_http_agntkey_redis_client_cmd_t, queue);

    left = (ngx_msec_int_t) (cmd->deadline - ngx_current_msec);

    if (left > 0) {
        ngx_add_timer(&client->timer, (ngx_msec_t) left);
        return;
    }

    if (ngx_http_agntkey_redis_conn_overdue(client->conn) == NGX_AGAIN) {
        ngx_http_agntkey_redis_client_fail(client,
                                           NGX_HTTP_AGNTKEY_REDIS_UNSENT);
    }
}


static void
ngx_http_agntkey_redis_client_up(void *data)
{
    ngx_uint_t                                 i;
    ngx_http_agntkey_redis_client_t           *client = data;
    ngx_http_agntkey_redis_client_listener_t  *listener;

    for (i = 0; i < client->nlisteners; i++) {
        listener = &client->listeners[i];

        if (listener->handlers.up) {
            listener->handlers.up(listener->data);
        }
    }
}


static void
ngx_http_agntkey_redis_client_down(void *data, ngx_http_agntkey_redis_e rc)
{
    ngx_uint_t                                 i;
    ngx_http_agntkey_redis_client_t           *client = data;
    ngx_http_agntkey_redis_client_listener_t  *listener;

    for (i = 0; i < client->nlisteners; i++) {
        listener = &client->listeners[i];

        if (listener->handlers.down) {
            listener->handlers.down(listener->data);
        }
    }

    ngx_http_agntkey_redis_client_fail(client, rc);
}


/* The reply belongs to the oldest command. */

static const char *
ngx_http_agntkey_redis_client_reply(void *data,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_queue_t                          *q;
    ngx_uint_t                            noauth;
    ngx_http_agntkey_redis_client_t      *client = data;
    ngx_http_agntkey_redis_client_cmd_t  *cmd;

    q = ngx_queue_head(&client->commands);
    cmd = ngx_queue_data(q, ngx_http_agntkey_redis_client_cmd_t, queue);

    /* nobody asked, or the answer is here before the question has left */

    if (ngx_queue_empty(&client->commands)
        || cmd->offset >= ngx_http_agntkey_redis_conn_written(client->conn))
    {
        ngx_http_agntkey_redis_resp_free(reply);
        return NGX_HTTP_AGNTKEY_REDIS_CONN_UNASKED;
    }

    ngx_queue_remove(q);
    client->ncommands--;

    ngx_http_agntkey_redis_conn_settled(client->conn);

    if (ngx_queue_empty(&client->commands)) {
        client->timer.cancelable = 1;
        ngx_http_agntkey_redis_conn_set_busy(client->conn, 0);
    }

    noauth = reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR
             && reply->str.len >= 6
             && ngx_strncmp(reply->str.data, "NOAUTH", 6) == 0;

    cmd->handler(cmd->data, NGX_HTTP_AGNTKEY_REDIS_OK, reply);
    ngx_free(cmd);

    /* a proxy has put another server behind us: introduce ourselves */

    return noauth ? "NOAUTH" : NULL;
}


static ngx_uint_t
ngx_http_agntkey_redis_client_exit(void *data)
{
    ngx_uint_t                                 i;
    ngx_http_agntkey_redis_client_t           *client = data;
    ngx_http_agntkey_redis_client_listener_t  *listener;

    if (client->exiting) {
        return 0;
    }

    client->exiting = 1;

    for (i = 0; i < client->nlisteners; i++) {
        listener = &client->listeners[i];

        if (listener->handlers.exit) {
            listener->handlers.exit(listener->data);
        }
    }

    return !ngx_queue_empty(&client->commands);
}


/*
 * Ends all that waits: with rc what was sent, with UNSENT, and for good, what
 * was not.  Handlers may send anew, which is a matter of the next connection,
 * so nobody relies on anything after this.
 */

static void
ngx_http_agntkey_redis_client_fail(ngx_http_agntkey_redis_client_t *client,
    ngx_http_agntkey_redis_e rc)
{
    uint64_t                              written;
    ngx_queue_t                           lost, *q;
    ngx_http_agntkey_redis_client_cmd_t  *cmd;

    written = ngx_http_agntkey_redis_conn_written(client->conn);
    ngx_http_agntkey_redis_conn_clear(client->conn);

    client->generation++;
    client->timer.cancelable = 1;

    ngx_queue_init(&lost);

    if (!ngx_queue_empty(&client->commands)) {
        ngx_queue_add(&lost, &client->commands);
        ngx_queue_init(&client->commands);
        client->ncommands = 0;
    }

    while (!ngx_queue_empty(&lost)) {
        q = ngx_queue_head(&lost);
        ngx_queue_remove(q);

        cmd = ngx_queue_data(q, ngx_http_agntkey_redis_client_cmd_t, queue);

        cmd->handler(cmd->data,
                     cmd->offset < written ? rc : NGX_HTTP_AGNTKEY_REDIS_UNSENT,
                     NULL);
        ngx_free(cmd);
    }
}
