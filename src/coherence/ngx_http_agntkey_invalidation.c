
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


/* owner of the client and of the timer */

struct ngx_http_agntkey_invalidation_s {
    ngx_http_agntkey_redis_t                  *redis;
    ngx_str_t                                 *channel;
    ngx_log_t                                 *log;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                                  ident;

    ngx_http_agntkey_invalidation_handlers_t   handlers;
    void                                      *data;

    ngx_event_t                                timer;    /* pause, deadline */
    ngx_msec_t                                 patience;
    ngx_uint_t                                 failures;
    ngx_uint_t                                 channels; /* subscribed to */
    int64_t                                    hello;

    unsigned                                   tracking:1;
    unsigned                                   ready:1;
    unsigned                                   pause:1;  /* a long one */
};


static ngx_int_t ngx_http_agntkey_invalidation_send(
    ngx_http_agntkey_invalidation_t *inv, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler);
static void ngx_http_agntkey_invalidation_change(void *data, ngx_uint_t up);
static void ngx_http_agntkey_invalidation_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_invalidation_fault(
    ngx_http_agntkey_invalidation_t *inv, const char *what,
    ngx_http_agntkey_redis_reply_t *reply);

static void ngx_http_agntkey_invalidation_hello(
    ngx_http_agntkey_invalidation_t *inv);
static void ngx_http_agntkey_invalidation_hello_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_invalidation_track(
    ngx_http_agntkey_invalidation_t *inv, int64_t id);
static void ngx_http_agntkey_invalidation_track_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_invalidation_subscribe(
    ngx_http_agntkey_invalidation_t *inv);
static void ngx_http_agntkey_invalidation_subscribe_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_invalidation_subscribed(
    ngx_http_agntkey_invalidation_t *inv);

static const char *ngx_http_agntkey_invalidation_message(void *data,
    ngx_http_agntkey_redis_reply_t *reply);
static const char *ngx_http_agntkey_invalidation_deliver(
    ngx_http_agntkey_invalidation_t *inv,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_invalidation_changed(
    ngx_http_agntkey_invalidation_t *inv, ngx_http_agntkey_redis_reply_t *keys);
static ngx_uint_t ngx_http_agntkey_invalidation_is(ngx_str_t *text,
    const char *s);


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
    inv->patience = conf->connect_timeout + conf->timeout;

    inv->timer.handler = ngx_http_agntkey_invalidation_timer_handler;
    inv->timer.data = inv;
    inv->timer.log = log;
    inv->timer.cancelable = 1;

    inv->redis = ngx_http_agntkey_redis_create(conf, log);
    if (inv->redis == NULL) {
        ngx_free(inv);
        return NULL;
    }

    ngx_http_agntkey_redis_set_message(inv->redis,
                                       ngx_http_agntkey_invalidation_message,
                                       inv);
    ngx_http_agntkey_redis_set_change(inv->redis,
                                      ngx_http_agntkey_invalidation_change,
                                      inv);

    ngx_http_agntkey_redis_connect(inv->redis);

    return inv;
}


void
ngx_http_agntkey_invalidation_destroy(ngx_http_agntkey_invalidation_t *inv)
{
    if (inv->timer.timer_set) {
        ngx_del_timer(&inv->timer);
    }

    ngx_http_agntkey_redis_destroy(inv->redis);
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

    ngx_http_agntkey_redis_reset(inv->redis, cause);
}


void
ngx_http_agntkey_invalidation_settled(ngx_http_agntkey_invalidation_t *inv)
{
    inv->failures = 0;
}


static ngx_int_t
ngx_http_agntkey_invalidation_send(ngx_http_agntkey_invalidation_t *inv,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    rc = ngx_http_agntkey_redis_resp_format(argv, argc, &bytes);

    if (rc == NGX_OK) {
        rc = ngx_http_agntkey_redis_send(inv->redis, &bytes, handler,
                                         inv);
        ngx_http_agntkey_redis_resp_format_free(&bytes);
    }

    if (rc != NGX_OK) {
        ngx_http_agntkey_redis_reset(inv->redis, "no memory");
    }

    return rc;
}


static void
ngx_http_agntkey_invalidation_change(void *data, ngx_uint_t up)
{
    ngx_msec_t                        pause;
    ngx_http_agntkey_invalidation_t  *inv = data;

    inv->ready = 0;
    inv->channels = 0;

    if (up) {
        inv->pause = 0;

        ngx_add_timer(&inv->timer, inv->patience);

        if (inv->tracking) {
            ngx_http_agntkey_invalidation_hello(inv);

        } else {
            ngx_http_agntkey_invalidation_subscribe(inv);
        }

        return;
    }

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


static void
ngx_http_agntkey_invalidation_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_invalidation_t  *inv;

    inv = ev->data;

    if (ngx_http_agntkey_redis_ready_now(inv->redis)) {
        ngx_http_agntkey_redis_reset(inv->redis, "not set up in time");
        return;
    }

    ngx_http_agntkey_redis_connect(inv->redis);
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

    (void) ngx_http_agntkey_invalidation_send(inv, argv, 2,
                                   ngx_http_agntkey_invalidation_hello_handler);
}


static void
ngx_http_agntkey_invalidation_hello_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_redis_reply_t   *id, *role;
    ngx_http_agntkey_invalidation_t  *inv = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

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

    ngx_http_agntkey_redis_resp_free(reply);
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

    (void) ngx_http_agntkey_invalidation_send(inv, argv, 10,
                                   ngx_http_agntkey_invalidation_track_handler);
}


static void
ngx_http_agntkey_invalidation_track_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_invalidation_t  *inv = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_STATUS) {
        ngx_http_agntkey_invalidation_subscribe(inv);

    } else {
        ngx_http_agntkey_invalidation_fault(inv, "CLIENT TRACKING", reply);
    }

    ngx_http_agntkey_redis_resp_free(reply);
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

    (void) ngx_http_agntkey_invalidation_send(inv, argv, argc,
                               ngx_http_agntkey_invalidation_subscribe_handler);
}


/* The first of the confirmations; the others come like messages. */

static void
ngx_http_agntkey_invalidation_subscribe_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_invalidation_t  *inv = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (ngx_http_agntkey_invalidation_deliver(inv, reply) != NULL) {
        ngx_http_agntkey_invalidation_fault(inv, "SUBSCRIBE", reply);
    }

    ngx_http_agntkey_redis_resp_free(reply);
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


static const char *
ngx_http_agntkey_invalidation_message(void *data,
    ngx_http_agntkey_redis_reply_t *reply)
{
    const char                       *cause;
    ngx_http_agntkey_invalidation_t  *inv = data;

    cause = ngx_http_agntkey_invalidation_deliver(inv, reply);

    ngx_http_agntkey_redis_resp_free(reply);

    return cause;
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
