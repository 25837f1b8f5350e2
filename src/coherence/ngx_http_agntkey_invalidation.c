
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_invalidation.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_keyspace.h"


#define NGX_HTTP_AGNTKEY_INVALIDATION_INVALIDATE  "__redis__:invalidate"

/* pauses before the next attempt, ms: doubled from min to max, half of each
 * random; and one for a Redis that has shown what it cannot do */
#define NGX_HTTP_AGNTKEY_INVALIDATION_PAUSE_MIN   50
#define NGX_HTTP_AGNTKEY_INVALIDATION_PAUSE_MAX   2000
#define NGX_HTTP_AGNTKEY_INVALIDATION_PAUSE_LONG  15000

/* failures in a row that are worth a word */
#define NGX_HTTP_AGNTKEY_INVALIDATION_FAILURES    3


typedef void (*ngx_http_agntkey_invalidation_reply_pt)(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply);


/* owner of the connection and of the timers */

struct ngx_http_agntkey_invalidation_s {
    ngx_http_agntkey_redis_conn_t             *conn;
    ngx_str_t                                 *channel;
    ngx_log_t                                 *log;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                                  ident;

    ngx_http_agntkey_invalidation_handlers_t   handlers;
    void                                      *data;

    /* who takes the reply that is waited for; NULL: what comes is a message */
    ngx_http_agntkey_invalidation_reply_pt     expected;
    uint64_t                                   offset;   /* of the command */

    /*
     * timer: the pause before an attempt, or the deadline of all set-up
     * reply_timer: the deadline of the reply that is waited for; keeps a
     * worker that is to end alive until then
     */
    ngx_event_t                                timer;
    ngx_event_t                                reply_timer;
    ngx_msec_t                                 timeout;  /* of a reply */
    ngx_msec_t                                 patience; /* of all set-up */
    ngx_uint_t                                 failures;
    ngx_uint_t                                 channels; /* subscribed to */
    int64_t                                    hello;

    unsigned                                   tracking:1;
    unsigned                                   ready:1;
    unsigned                                   pause:1;  /* a long one */
};


static void ngx_http_agntkey_invalidation_up(void *data);
static void ngx_http_agntkey_invalidation_down(void *data,
    ngx_http_agntkey_redis_e rc);
static const char *ngx_http_agntkey_invalidation_reply(void *data,
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_invalidation_exit(void *data);

static void ngx_http_agntkey_invalidation_send(
    ngx_http_agntkey_invalidation_t *inv, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_invalidation_reply_pt handler);
static void ngx_http_agntkey_invalidation_expect(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_invalidation_reply_pt handler);
static void ngx_http_agntkey_invalidation_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_invalidation_reply_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_invalidation_fault(
    ngx_http_agntkey_invalidation_t *inv, const char *what,
    ngx_http_agntkey_redis_reply_t *reply);

static void ngx_http_agntkey_invalidation_hello(
    ngx_http_agntkey_invalidation_t *inv);
static void ngx_http_agntkey_invalidation_hello_handler(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_invalidation_track(
    ngx_http_agntkey_invalidation_t *inv, int64_t id);
static void ngx_http_agntkey_invalidation_track_handler(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_invalidation_subscribe(
    ngx_http_agntkey_invalidation_t *inv);
static void ngx_http_agntkey_invalidation_subscribe_handler(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_invalidation_subscribed(
    ngx_http_agntkey_invalidation_t *inv);

static const char *ngx_http_agntkey_invalidation_deliver(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_invalidation_changed(
    ngx_http_agntkey_invalidation_t *inv, ngx_http_agntkey_redis_reply_t *keys);
static ngx_uint_t ngx_http_agntkey_invalidation_is(ngx_str_t *text,
    const char *s);


static ngx_http_agntkey_redis_conn_handlers_t
    ngx_http_agntkey_invalidation_conn_handlers =
{
    ngx_http_agntkey_invalidation_up,
    ngx_http_agntkey_invalidation_down,
    ngx_http_agntkey_invalidation_reply,
    ngx_http_agntkey_invalidation_exit
};


ngx_http_agntkey_invalidation_t *
ngx_http_agntkey_invalidation_create(ngx_http_agntkey_redis_conf_t *conf,
    ngx_str_t *channel, ngx_uint_t tracking,
    ngx_http_agntkey_invalidation_handlers_t *handlers, void *data,
    ngx_log_t *log)
{
    ngx_http_agntkey_invalidation_t  *inv;

    inv = ngx_calloc(sizeof(ngx_http_agntkey_invalidation_t), log);
    if (inv == NULL) {
        return NULL;
    }

    inv->channel = channel;
    inv->log = log;
    inv->ident = -1;
    inv->handlers = *handlers;
    inv->data = data;
    inv->tracking = tracking ? 1 : 0;
    inv->timeout = conf->timeout;
    inv->patience = conf->connect_timeout + conf->timeout;

    inv->timer.handler = ngx_http_agntkey_invalidation_timer_handler;
    inv->timer.data = inv;
    inv->timer.log = log;
    inv->timer.cancelable = 1;

    inv->reply_timer.handler =
                             ngx_http_agntkey_invalidation_reply_timer_handler;
    inv->reply_timer.data = inv;
    inv->reply_timer.log = log;

    /* it must not go on as long as there is a message it cannot read */

    inv->conn = ngx_http_agntkey_redis_conn_create(conf,
                                  &ngx_http_agntkey_invalidation_conn_handlers,
                                  inv, 0, 1, log);
    if (inv->conn == NULL) {
        ngx_free(inv);
        return NULL;
    }

    ngx_http_agntkey_redis_conn_connect(inv->conn);

    return inv;
}


void
ngx_http_agntkey_invalidation_destroy(ngx_http_agntkey_invalidation_t *inv)
{
    if (inv->timer.timer_set) {
        ngx_del_timer(&inv->timer);
    }

    if (inv->reply_timer.timer_set) {
        ngx_del_timer(&inv->reply_timer);
    }

    ngx_http_agntkey_redis_conn_destroy(inv->conn);
    ngx_free(inv);
}


int64_t
ngx_http_agntkey_invalidation_age(ngx_http_agntkey_invalidation_t *inv)
{
    return ngx_http_agntkey_clock() - inv->hello;
}


void
ngx_http_agntkey_invalidation_reset(ngx_http_agntkey_invalidation_t *inv,
    const char *cause, ngx_uint_t pause)
{
    inv->pause = pause ? 1 : 0;

    ngx_http_agntkey_redis_conn_reset(inv->conn, cause);
}


void
ngx_http_agntkey_invalidation_settled(ngx_http_agntkey_invalidation_t *inv)
{
    inv->failures = 0;
}


static void
ngx_http_agntkey_invalidation_up(void *data)
{
    ngx_http_agntkey_invalidation_t  *inv = data;

    inv->pause = 0;

    ngx_add_timer(&inv->timer, inv->patience);

    if (inv->tracking) {
        ngx_http_agntkey_invalidation_hello(inv);

    } else {
        ngx_http_agntkey_invalidation_subscribe(inv);
    }
}


static void
ngx_http_agntkey_invalidation_down(void *data, ngx_http_agntkey_redis_e rc)
{
    ngx_msec_t                        pause;
    ngx_http_agntkey_invalidation_t  *inv = data;

    inv->ready = 0;
    inv->channels = 0;

    ngx_http_agntkey_invalidation_expect(inv, NULL);
    ngx_http_agntkey_redis_conn_clear(inv->conn);

    if (++inv->failures >= NGX_HTTP_AGNTKEY_INVALIDATION_FAILURES) {
        inv->handlers.fault(inv->data,
                            "no connection for invalidations", NULL);
    }

    inv->handlers.down(inv->data);

    if (inv->timer.timer_set) {
        ngx_del_timer(&inv->timer);
    }

    if (ngx_exiting) {
        return;
    }

    if (inv->pause) {
        pause = NGX_HTTP_AGNTKEY_INVALIDATION_PAUSE_LONG;

    } else {
        pause = (ngx_msec_t) NGX_HTTP_AGNTKEY_INVALIDATION_PAUSE_MIN
                << ngx_min(inv->failures - 1, 16);
        pause = ngx_min(pause, NGX_HTTP_AGNTKEY_INVALIDATION_PAUSE_MAX);
    }

    pause = pause / 2 + (ngx_msec_t) ngx_random() % (pause / 2);

    ngx_add_timer(&inv->timer, pause);
}


static const char *
ngx_http_agntkey_invalidation_reply(void *data,
    ngx_http_agntkey_redis_reply_t *reply)
{
    const char                              *cause;
    ngx_http_agntkey_invalidation_t         *inv = data;
    ngx_http_agntkey_invalidation_reply_pt   handler;

    cause = NULL;
    handler = inv->expected;

    /* is it here before the question has left? */

    if (handler
        && inv->offset >= ngx_http_agntkey_redis_conn_written(inv->conn))
    {
        ngx_http_agntkey_redis_resp_free(reply);
        return NGX_HTTP_AGNTKEY_REDIS_CONN_UNASKED;
    }

    ngx_http_agntkey_redis_conn_settled(inv->conn);

    if (handler) {
        ngx_http_agntkey_invalidation_expect(inv, NULL);
        handler(inv, reply);

    } else {
        cause = ngx_http_agntkey_invalidation_deliver(inv, reply);
    }

    ngx_http_agntkey_redis_resp_free(reply);

    return cause;
}


/* Requests that still run may have to hear something by it: it stays open. */

static ngx_uint_t
ngx_http_agntkey_invalidation_exit(void *data)
{
    return 1;
}


/* While the connection is ready, and no other reply is waited for. */

static void
ngx_http_agntkey_invalidation_send(ngx_http_agntkey_invalidation_t *inv,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_invalidation_reply_pt handler)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    inv->offset = ngx_http_agntkey_redis_conn_written(inv->conn)
                  + ngx_http_agntkey_redis_conn_unwritten(inv->conn);

    rc = ngx_http_agntkey_redis_resp_format(argv, argc, &bytes);

    if (rc == NGX_OK) {
        rc = ngx_http_agntkey_redis_conn_send(inv->conn, &bytes);
        ngx_http_agntkey_redis_resp_format_free(&bytes);
    }

    if (rc != NGX_OK) {
        ngx_http_agntkey_redis_conn_reset(inv->conn, "no memory");
        return;
    }

    ngx_http_agntkey_invalidation_expect(inv, handler);
}


/* The next reply is for the handler, which waits for it; NULL: for nobody. */

static void
ngx_http_agntkey_invalidation_expect(ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_invalidation_reply_pt handler)
{
    inv->expected = handler;

    if (inv->reply_timer.timer_set) {
        ngx_del_timer(&inv->reply_timer);
    }

    if (handler) {
        ngx_add_timer(&inv->reply_timer, inv->timeout);
    }

    ngx_http_agntkey_redis_conn_set_busy(inv->conn, handler != NULL);
}


static void
ngx_http_agntkey_invalidation_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_invalidation_t  *inv;

    inv = ev->data;

    if (ngx_http_agntkey_redis_conn_ready(inv->conn)) {
        ngx_http_agntkey_redis_conn_reset(inv->conn, "not set up in time");
        return;
    }

    ngx_http_agntkey_redis_conn_connect(inv->conn);
}


static void
ngx_http_agntkey_invalidation_reply_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_invalidation_t  *inv;

    inv = ev->data;

    (void) ngx_http_agntkey_redis_conn_overdue(inv->conn);
}


static void
ngx_http_agntkey_invalidation_fault(ngx_http_agntkey_invalidation_t *inv,
    const char *what, ngx_http_agntkey_redis_reply_t *reply)
{
    inv->handlers.fault(inv->data, what, reply);

    ngx_http_agntkey_invalidation_reset(inv, what, 1);
}


/*
 * Who am I, and what are you?  A replica applies in one turn what its primary
 * has done in many, so that what was published arrives before what was
 * written earlier.  redis.io/docs/latest/commands/hello
 */

static void
ngx_http_agntkey_invalidation_hello(ngx_http_agntkey_invalidation_t *inv)
{
    ngx_str_t  argv[2];

    ngx_str_set(&argv[0], "HELLO");
    ngx_str_set(&argv[1], "2");

    inv->hello = ngx_http_agntkey_clock();

    ngx_http_agntkey_invalidation_send(inv, argv, 2,
                                   ngx_http_agntkey_invalidation_hello_handler);
}


static void
ngx_http_agntkey_invalidation_hello_handler(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_redis_reply_t  *id, *role;

    id = ngx_http_agntkey_redis_resp_field(reply, "id");
    role = ngx_http_agntkey_redis_resp_field(reply, "role");

    if (id == NULL || id->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        || role == NULL || role->type != NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        ngx_http_agntkey_invalidation_fault(inv, "HELLO", reply);

    } else if (!ngx_http_agntkey_invalidation_is(&role->str, "master")) {
        ngx_http_agntkey_invalidation_fault(inv, "Redis is a replica", NULL);

    } else {
        ngx_http_agntkey_invalidation_track(inv, id->integer);
    }
}


/* redis.io/docs/latest/commands/client-tracking */

static void
ngx_http_agntkey_invalidation_track(ngx_http_agntkey_invalidation_t *inv,
    int64_t id)
{
    u_char     buf[NGX_INT64_LEN];
    ngx_str_t  argv[10];

    ngx_str_set(&argv[0], "CLIENT");
    ngx_str_set(&argv[1], "TRACKING");
    ngx_str_set(&argv[2], "ON");
    ngx_str_set(&argv[3], "REDIRECT");
    argv[4].data = buf;
    argv[4].len = ngx_sprintf(buf, "%L", id) - buf;
    ngx_str_set(&argv[5], "BCAST");
    ngx_str_set(&argv[6], "PREFIX");
    ngx_str_set(&argv[7], NGX_HTTP_AGNTKEY_NAME_KEY);
    ngx_str_set(&argv[8], "PREFIX");
    ngx_str_set(&argv[9], NGX_HTTP_AGNTKEY_NAME_WORKSPACE);

    ngx_http_agntkey_invalidation_send(inv, argv, 10,
                                   ngx_http_agntkey_invalidation_track_handler);
}


static void
ngx_http_agntkey_invalidation_track_handler(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply)
{
    if (reply->type == NGX_HTTP_AGNTKEY_RESP_STATUS) {
        ngx_http_agntkey_invalidation_subscribe(inv);

    } else {
        ngx_http_agntkey_invalidation_fault(inv, "CLIENT TRACKING", reply);
    }
}


static void
ngx_http_agntkey_invalidation_subscribe(ngx_http_agntkey_invalidation_t *inv)
{
    ngx_str_t   argv[4];
    ngx_uint_t  argc;

    ngx_str_set(&argv[0], "SUBSCRIBE");
    argv[1] = *inv->channel;
    argc = 2;

    if (inv->tracking) {
        ngx_str_set(&argv[2], NGX_HTTP_AGNTKEY_INVALIDATION_INVALIDATE);
        ngx_str_set(&argv[3], NGX_HTTP_AGNTKEY_NAME_BARRIER);
        argc = 4;
    }

    ngx_http_agntkey_invalidation_send(inv, argv, argc,
                               ngx_http_agntkey_invalidation_subscribe_handler);
}


/* The first of the confirmations; the others come like messages. */

static void
ngx_http_agntkey_invalidation_subscribe_handler(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply)
{
    if (ngx_http_agntkey_invalidation_deliver(inv, reply) != NULL) {
        ngx_http_agntkey_invalidation_fault(inv, "SUBSCRIBE", reply);
    }
}


static void
ngx_http_agntkey_invalidation_subscribed(ngx_http_agntkey_invalidation_t *inv)
{
    if (++inv->channels < (ngx_uint_t) (inv->tracking ? 3 : 1)) {
        return;
    }

    inv->ready = 1;

    if (inv->timer.timer_set) {
        ngx_del_timer(&inv->timer);
    }

    inv->handlers.ready(inv->data);
}


/* NULL, or why the connection is of no use. */

static const char *
ngx_http_agntkey_invalidation_deliver(ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_str_t                        *channel;
    ngx_http_agntkey_redis_reply_t  **elts;

    static const char  *corrupt = "a message that makes no sense";

    elts = reply->elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 3
        || elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[1]->type != NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        return corrupt;
    }

    if (!inv->ready
        && ngx_http_agntkey_invalidation_is(&elts[0]->str, "subscribe"))
    {
        ngx_http_agntkey_invalidation_subscribed(inv);
        return NULL;
    }

    if (!ngx_http_agntkey_invalidation_is(&elts[0]->str, "message")) {
        return corrupt;
    }

    channel = &elts[1]->str;

    if (inv->tracking
        && ngx_http_agntkey_invalidation_is(channel,
                                    NGX_HTTP_AGNTKEY_INVALIDATION_INVALIDATE))
    {
        ngx_http_agntkey_invalidation_changed(inv, elts[2]);
        return NULL;
    }

    if (elts[2]->type != NGX_HTTP_AGNTKEY_RESP_STRING) {
        return corrupt;
    }

    if (ngx_http_agntkey_invalidation_is(channel,
                                       NGX_HTTP_AGNTKEY_NAME_BARRIER)) {
        inv->handlers.barrier(inv->data, &elts[2]->str);

    } else {
        inv->handlers.on_message(inv->data, &elts[2]->str);
    }

    return NULL;
}


/*
 * An array of keys; nil when all are gone.  Whatever else it may be, it says
 * that something has changed.
 */

static void
ngx_http_agntkey_invalidation_changed(ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *keys)
{
    ngx_uint_t  i;

    if (keys->type != NGX_HTTP_AGNTKEY_RESP_ARRAY) {
        inv->handlers.changed(inv->data, NULL);
        return;
    }

    for (i = 0; i < keys->nelts; i++) {

        if (keys->elts[i]->type != NGX_HTTP_AGNTKEY_RESP_STRING) {
            inv->handlers.changed(inv->data, NULL);
            return;
        }

        inv->handlers.changed(inv->data, &keys->elts[i]->str);
    }
}


static ngx_uint_t
ngx_http_agntkey_invalidation_is(ngx_str_t *text, const char *s)
{
    return text->len == ngx_strlen(s)
           && ngx_memcmp(text->data, s, text->len) == 0;
}
