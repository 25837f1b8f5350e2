
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_stream.h"
#include "ngx_http_agntkey_clock.h"


#define NGX_HTTP_AGNTKEY_STREAM_INVALIDATE  "__redis__:invalidate"

/* pauses before the next attempt, ms: doubled from min to max, half of each
 * random; and one for a Redis that has shown what it cannot do */
#define NGX_HTTP_AGNTKEY_STREAM_PAUSE_MIN   50
#define NGX_HTTP_AGNTKEY_STREAM_PAUSE_MAX   2000
#define NGX_HTTP_AGNTKEY_STREAM_PAUSE_LONG  15000

/* failures in a row that are worth a word */
#define NGX_HTTP_AGNTKEY_STREAM_FAILURES    3


/* owner of the client and of the timer */

struct ngx_http_agntkey_stream_s {
    ngx_http_agntkey_redis_t            *redis;
    ngx_str_t                           *channel;
    ngx_log_t                           *log;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                            ident;

    ngx_http_agntkey_stream_handlers_t   handlers;
    void                                *data;

    ngx_event_t                          timer;      /* a pause, a deadline */
    ngx_msec_t                           patience;
    ngx_uint_t                           failures;
    ngx_uint_t                           channels;   /* subscribed to */
    int64_t                              hello;

    unsigned                             tracking:1;
    unsigned                             ready:1;
    unsigned                             pause:1;    /* a long one */
};


static ngx_int_t ngx_http_agntkey_stream_send(
    ngx_http_agntkey_stream_t *stream, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler);
static void ngx_http_agntkey_stream_change(void *data, ngx_uint_t up);
static void ngx_http_agntkey_stream_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_stream_unable(ngx_http_agntkey_stream_t *stream,
    const char *what, ngx_http_agntkey_reply_t *reply);

static void ngx_http_agntkey_stream_hello(ngx_http_agntkey_stream_t *stream);
static void ngx_http_agntkey_stream_hello_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_stream_track(ngx_http_agntkey_stream_t *stream,
    int64_t id);
static void ngx_http_agntkey_stream_track_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_stream_subscribe(
    ngx_http_agntkey_stream_t *stream);
static void ngx_http_agntkey_stream_subscribe_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_stream_subscribed(
    ngx_http_agntkey_stream_t *stream);

static const char *ngx_http_agntkey_stream_message(void *data,
    ngx_http_agntkey_reply_t *reply);
static const char *ngx_http_agntkey_stream_take(
    ngx_http_agntkey_stream_t *stream, ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_stream_changed(ngx_http_agntkey_stream_t *stream,
    ngx_http_agntkey_reply_t *keys);
static ngx_uint_t ngx_http_agntkey_stream_is(ngx_str_t *text, const char *s);


ngx_http_agntkey_stream_t *
ngx_http_agntkey_stream_create(ngx_http_agntkey_server_t *conf,
    ngx_str_t *channel, ngx_uint_t tracking,
    ngx_http_agntkey_stream_handlers_t *handlers, void *data, ngx_log_t *log)
{
    ngx_http_agntkey_stream_t  *stream;

    stream = ngx_calloc(sizeof(ngx_http_agntkey_stream_t), log);
    if (stream == NULL) {
        return NULL;
    }

    stream->channel = channel;
    stream->log = log;
    stream->ident = -1;
    stream->handlers = *handlers;
    stream->data = data;
    stream->tracking = tracking ? 1 : 0;
    stream->patience = conf->connect_timeout + conf->timeout;

    stream->timer.handler = ngx_http_agntkey_stream_timer_handler;
    stream->timer.data = stream;
    stream->timer.log = log;
    stream->timer.cancelable = 1;

    stream->redis = ngx_http_agntkey_redis_create(conf, log);
    if (stream->redis == NULL) {
        ngx_free(stream);
        return NULL;
    }

    ngx_http_agntkey_redis_set_message(stream->redis,
                                       ngx_http_agntkey_stream_message,
                                       stream);
    ngx_http_agntkey_redis_set_change(stream->redis,
                                      ngx_http_agntkey_stream_change, stream);

    ngx_http_agntkey_redis_connect(stream->redis);

    return stream;
}


void
ngx_http_agntkey_stream_destroy(ngx_http_agntkey_stream_t *stream)
{
    if (stream->timer.timer_set) {
        ngx_del_timer(&stream->timer);
    }

    ngx_http_agntkey_redis_destroy(stream->redis);
    ngx_free(stream);
}


int64_t
ngx_http_agntkey_stream_age(ngx_http_agntkey_stream_t *stream)
{
    return ngx_http_agntkey_clock() - stream->hello;
}


void
ngx_http_agntkey_stream_reset(ngx_http_agntkey_stream_t *stream,
    const char *cause, ngx_uint_t pause)
{
    stream->pause = pause ? 1 : 0;

    ngx_http_agntkey_redis_reset(stream->redis, cause);
}


void
ngx_http_agntkey_stream_good(ngx_http_agntkey_stream_t *stream)
{
    stream->failures = 0;
}


static ngx_int_t
ngx_http_agntkey_stream_send(ngx_http_agntkey_stream_t *stream,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    rc = ngx_http_agntkey_resp_format(argv, argc, &bytes);

    if (rc == NGX_OK) {
        rc = ngx_http_agntkey_redis_send(stream->redis, &bytes, handler,
                                         stream);
        ngx_http_agntkey_resp_format_free(&bytes);
    }

    if (rc != NGX_OK) {
        ngx_http_agntkey_redis_reset(stream->redis, "no memory");
    }

    return rc;
}


static void
ngx_http_agntkey_stream_change(void *data, ngx_uint_t up)
{
    ngx_msec_t                  pause;
    ngx_http_agntkey_stream_t  *stream = data;

    stream->ready = 0;
    stream->channels = 0;

    if (up) {
        stream->pause = 0;

        ngx_add_timer(&stream->timer, stream->patience);

        if (stream->tracking) {
            ngx_http_agntkey_stream_hello(stream);

        } else {
            ngx_http_agntkey_stream_subscribe(stream);
        }

        return;
    }

    if (++stream->failures >= NGX_HTTP_AGNTKEY_STREAM_FAILURES) {
        stream->handlers.unable(stream->data,
                                "no connection for invalidations", NULL);
    }

    stream->handlers.down(stream->data);

    if (stream->timer.timer_set) {
        ngx_del_timer(&stream->timer);
    }

    if (ngx_exiting) {
        return;
    }

    if (stream->pause) {
        pause = NGX_HTTP_AGNTKEY_STREAM_PAUSE_LONG;

    } else {
        pause = (ngx_msec_t) NGX_HTTP_AGNTKEY_STREAM_PAUSE_MIN
                << ngx_min(stream->failures - 1, 16);
        pause = ngx_min(pause, NGX_HTTP_AGNTKEY_STREAM_PAUSE_MAX);
    }

    pause = pause / 2 + (ngx_msec_t) ngx_random() % (pause / 2);

    ngx_add_timer(&stream->timer, pause);
}


static void
ngx_http_agntkey_stream_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_stream_t  *stream;

    stream = ev->data;

    if (ngx_http_agntkey_redis_ready_now(stream->redis)) {
        ngx_http_agntkey_redis_reset(stream->redis, "not set up in time");
        return;
    }

    ngx_http_agntkey_redis_connect(stream->redis);
}


static void
ngx_http_agntkey_stream_unable(ngx_http_agntkey_stream_t *stream,
    const char *what, ngx_http_agntkey_reply_t *reply)
{
    stream->handlers.unable(stream->data, what, reply);

    ngx_http_agntkey_stream_reset(stream, what, 1);
}


/*
 * Who am I, and what are you?  A replica applies in one turn what its primary
 * has done in many, so that what was published arrives before what was
 * written earlier.  redis.io/docs/latest/commands/hello
 */

static void
ngx_http_agntkey_stream_hello(ngx_http_agntkey_stream_t *stream)
{
    ngx_str_t  argv[2];

    ngx_str_set(&argv[0], "HELLO");
    ngx_str_set(&argv[1], "2");

    stream->hello = ngx_http_agntkey_clock();

    (void) ngx_http_agntkey_stream_send(stream, argv, 2,
                                       ngx_http_agntkey_stream_hello_handler);
}


static void
ngx_http_agntkey_stream_hello_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_reply_t   *id, *role;
    ngx_http_agntkey_stream_t  *stream = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    id = ngx_http_agntkey_resp_field(reply, "id");
    role = ngx_http_agntkey_resp_field(reply, "role");

    if (id == NULL || id->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        || role == NULL || role->type != NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        ngx_http_agntkey_stream_unable(stream, "HELLO", reply);

    } else if (!ngx_http_agntkey_stream_is(&role->str, "master")) {
        ngx_http_agntkey_stream_unable(stream, "Redis is a replica", NULL);

    } else {
        ngx_http_agntkey_stream_track(stream, id->integer);
    }

    ngx_http_agntkey_resp_free(reply);
}


/* redis.io/docs/latest/commands/client-tracking */

static void
ngx_http_agntkey_stream_track(ngx_http_agntkey_stream_t *stream, int64_t id)
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
    ngx_str_set(&argv[7], "agntkey:key:");
    ngx_str_set(&argv[8], "PREFIX");
    ngx_str_set(&argv[9], "agntkey:workspace:");

    (void) ngx_http_agntkey_stream_send(stream, argv, 10,
                                       ngx_http_agntkey_stream_track_handler);
}


static void
ngx_http_agntkey_stream_track_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_stream_t  *stream = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_STATUS) {
        ngx_http_agntkey_stream_subscribe(stream);

    } else {
        ngx_http_agntkey_stream_unable(stream, "CLIENT TRACKING", reply);
    }

    ngx_http_agntkey_resp_free(reply);
}


static void
ngx_http_agntkey_stream_subscribe(ngx_http_agntkey_stream_t *stream)
{
    ngx_str_t   argv[4];
    ngx_uint_t  argc;

    ngx_str_set(&argv[0], "SUBSCRIBE");
    argv[1] = *stream->channel;
    argc = 2;

    if (stream->tracking) {
        ngx_str_set(&argv[2], NGX_HTTP_AGNTKEY_STREAM_INVALIDATE);
        ngx_str_set(&argv[3], NGX_HTTP_AGNTKEY_STREAM_BARRIER);
        argc = 4;
    }

    (void) ngx_http_agntkey_stream_send(stream, argv, argc,
                                   ngx_http_agntkey_stream_subscribe_handler);
}


/* The first of the confirmations; the others come like messages. */

static void
ngx_http_agntkey_stream_subscribe_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_stream_t  *stream = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (ngx_http_agntkey_stream_take(stream, reply) != NULL) {
        ngx_http_agntkey_stream_unable(stream, "SUBSCRIBE", reply);
    }

    ngx_http_agntkey_resp_free(reply);
}


static void
ngx_http_agntkey_stream_subscribed(ngx_http_agntkey_stream_t *stream)
{
    if (++stream->channels < (ngx_uint_t) (stream->tracking ? 3 : 1)) {
        return;
    }

    stream->ready = 1;

    if (stream->timer.timer_set) {
        ngx_del_timer(&stream->timer);
    }

    stream->handlers.ready(stream->data);
}


static const char *
ngx_http_agntkey_stream_message(void *data, ngx_http_agntkey_reply_t *reply)
{
    const char                 *cause;
    ngx_http_agntkey_stream_t  *stream = data;

    cause = ngx_http_agntkey_stream_take(stream, reply);

    ngx_http_agntkey_resp_free(reply);

    return cause;
}


/* NULL, or why the connection is of no use. */

static const char *
ngx_http_agntkey_stream_take(ngx_http_agntkey_stream_t *stream,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_str_t                  *channel;
    ngx_http_agntkey_reply_t  **elts;

    static const char  *odd = "a message that makes no sense";

    elts = reply->elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 3
        || elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[1]->type != NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        return odd;
    }

    if (!stream->ready
        && ngx_http_agntkey_stream_is(&elts[0]->str, "subscribe"))
    {
        ngx_http_agntkey_stream_subscribed(stream);
        return NULL;
    }

    if (!ngx_http_agntkey_stream_is(&elts[0]->str, "message")) {
        return odd;
    }

    channel = &elts[1]->str;

    if (stream->tracking
        && ngx_http_agntkey_stream_is(channel,
                                      NGX_HTTP_AGNTKEY_STREAM_INVALIDATE))
    {
        ngx_http_agntkey_stream_changed(stream, elts[2]);
        return NULL;
    }

    if (elts[2]->type != NGX_HTTP_AGNTKEY_RESP_STRING) {
        return odd;
    }

    if (ngx_http_agntkey_stream_is(channel, NGX_HTTP_AGNTKEY_STREAM_BARRIER)) {
        stream->handlers.barrier(stream->data, &elts[2]->str);

    } else {
        stream->handlers.letter(stream->data, &elts[2]->str);
    }

    return NULL;
}


/*
 * An array of keys; nil when all are gone.  Whatever else it may be, it says
 * that something has changed.
 */

static void
ngx_http_agntkey_stream_changed(ngx_http_agntkey_stream_t *stream,
    ngx_http_agntkey_reply_t *keys)
{
    ngx_uint_t  i;

    if (keys->type != NGX_HTTP_AGNTKEY_RESP_ARRAY) {
        stream->handlers.changed(stream->data, NULL);
        return;
    }

    for (i = 0; i < keys->nelts; i++) {

        if (keys->elts[i]->type != NGX_HTTP_AGNTKEY_RESP_STRING) {
            stream->handlers.changed(stream->data, NULL);
            return;
        }

        stream->handlers.changed(stream->data, &keys->elts[i]->str);
    }
}


static ngx_uint_t
ngx_http_agntkey_stream_is(ngx_str_t *text, const char *s)
{
    return text->len == ngx_strlen(s)
           && ngx_memcmp(text->data, s, text->len) == 0;
}
