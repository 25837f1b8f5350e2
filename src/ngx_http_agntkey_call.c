
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_call.h"
#include "ngx_http_agntkey_clock.h"


/* how often a call that writes is sent, if Redis finds it late */
#define NGX_HTTP_AGNTKEY_CALL_TRIES    2

#define NGX_HTTP_AGNTKEY_CALL_DIGITS                                          \
    (sizeof(NGX_HTTP_AGNTKEY_CALL_DEADLINE) - 1)


/*
 * Owner of its replies, of the commands that are kept, and of the timer.  It
 * frees itself after its handler, or when the last reply has come.
 */

struct ngx_http_agntkey_call_s {
    ngx_http_agntkey_redis_t          *redis;
    ngx_http_agntkey_call_handler_pt   handler;    /* NULL: cancelled */
    void                              *data;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                          ident;

    ngx_http_agntkey_redis_e           rc;
    ngx_uint_t                         sent;
    ngx_uint_t                         answered;

    /* of a call that writes */
    ngx_str_t                          kept[NGX_HTTP_AGNTKEY_CALL_WRITES];
    ngx_uint_t                         nkept;
    ngx_uint_t                         tries;
    int64_t                            deadline;   /* here, ms */
    ngx_event_t                        timer;

    ngx_http_agntkey_reply_t          *replies[NGX_HTTP_AGNTKEY_CALL_COMMANDS];
};


static ngx_int_t ngx_http_agntkey_call_format(ngx_str_t *argv,
    ngx_uint_t argc, ngx_str_t *bytes);
static void ngx_http_agntkey_call_time_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static ngx_int_t ngx_http_agntkey_call_time(ngx_http_agntkey_reply_t *reply,
    int64_t *ms);
static ngx_int_t ngx_http_agntkey_call_release(ngx_http_agntkey_call_t *call,
    int64_t now);
static void ngx_http_agntkey_call_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_call_late(ngx_http_agntkey_call_t *call);
static ngx_int_t ngx_http_agntkey_call_hold(ngx_http_agntkey_call_t *call);
static void ngx_http_agntkey_call_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_call_done(ngx_http_agntkey_call_t *call);
static void ngx_http_agntkey_call_forget(ngx_http_agntkey_call_t *call);
static void ngx_http_agntkey_call_free(ngx_http_agntkey_call_t *call);


ngx_http_agntkey_call_t *
ngx_http_agntkey_call_create(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_call_handler_pt handler, void *data)
{
    ngx_http_agntkey_call_t  *call;

    call = ngx_calloc(sizeof(ngx_http_agntkey_call_t), ngx_cycle->log);
    if (call == NULL) {
        return NULL;
    }

    call->redis = redis;
    call->handler = handler;
    call->data = data;
    call->ident = -1;

    /* a request waits for it, so a worker that is to end does as well */

    call->timer.handler = ngx_http_agntkey_call_timer_handler;
    call->timer.data = call;
    call->timer.log = ngx_cycle->log;

    return call;
}


ngx_int_t
ngx_http_agntkey_call_send(ngx_http_agntkey_call_t *call, ngx_str_t *argv,
    ngx_uint_t argc)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    if (call->sent == NGX_HTTP_AGNTKEY_CALL_COMMANDS
        || ngx_http_agntkey_call_format(argv, argc, &bytes) != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_agntkey_redis_send(call->redis, &bytes,
                                     ngx_http_agntkey_call_handler, call);

    ngx_http_agntkey_resp_format_free(&bytes);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    call->sent++;

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_call_keep(ngx_http_agntkey_call_t *call, ngx_str_t *argv,
    ngx_uint_t argc)
{
    if (call->nkept == NGX_HTTP_AGNTKEY_CALL_WRITES
        || ngx_http_agntkey_call_format(argv, argc, &call->kept[call->nkept])
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    call->nkept++;

    return NGX_OK;
}


/* hiredis copies from each argument, even when there is nothing to copy */

static ngx_int_t
ngx_http_agntkey_call_format(ngx_str_t *argv, ngx_uint_t argc,
    ngx_str_t *bytes)
{
    ngx_uint_t  i;

    for (i = 0; i < argc; i++) {
        if (argv[i].data == NULL) {
            ngx_str_set(&argv[i], "");
        }
    }

    return ngx_http_agntkey_resp_format(argv, argc, bytes);
}


ngx_int_t
ngx_http_agntkey_call_write(ngx_http_agntkey_call_t *call)
{
    ngx_int_t  rc;
    ngx_str_t  bytes, time;

    ngx_str_set(&time, "TIME");

    if (ngx_http_agntkey_resp_format(&time, 1, &bytes) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_agntkey_redis_send(call->redis, &bytes,
                                     ngx_http_agntkey_call_time_handler, call);

    ngx_http_agntkey_resp_format_free(&bytes);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    call->tries++;

    return NGX_OK;
}


static void
ngx_http_agntkey_call_time_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    int64_t                   now;
    ngx_http_agntkey_call_t  *call = data;

    if (rc == NGX_HTTP_AGNTKEY_REDIS_OK
        && reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR)
    {
        call->replies[call->answered++] = reply;
        ngx_http_agntkey_call_done(call);
        return;
    }

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK
        || ngx_http_agntkey_call_time(reply, &now) != NGX_OK
        || ngx_http_agntkey_call_release(call, now) != NGX_OK)
    {
        call->rc = NGX_HTTP_AGNTKEY_REDIS_UNSENT;
    }

    ngx_http_agntkey_resp_free(reply);

    /* with the first under way, its reply is the end of the call */

    if (call->sent == 0) {
        ngx_http_agntkey_call_done(call);
    }
}


/*
 * Seconds and microseconds, as texts (redis.io/docs/latest/commands/time).
 * Returns NGX_OK, or NGX_ERROR after a message.
 */

static ngx_int_t
ngx_http_agntkey_call_time(ngx_http_agntkey_reply_t *reply, int64_t *ms)
{
    ngx_int_t                   sec, usec;
    ngx_http_agntkey_reply_t  **elts;

    elts = reply->elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 2
        || elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[1]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[0]->str.len > NGX_HTTP_AGNTKEY_CALL_DIGITS - 4)
    {
        goto odd;
    }

    sec = ngx_atoi(elts[0]->str.data, elts[0]->str.len);
    usec = ngx_atoi(elts[1]->str.data, elts[1]->str.len);

    if (sec == NGX_ERROR || usec == NGX_ERROR || usec > 999999) {
        goto odd;
    }

    *ms = (int64_t) sec * 1000 + usec / 1000;

    return NGX_OK;

odd:

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "agntkey: Redis did not say what time it is");

    return NGX_ERROR;
}


/*
 * Redis read its clock before its reply came, so when that clock is at the
 * deadline, no more than the timeout has passed here.
 */

static ngx_int_t
ngx_http_agntkey_call_release(ngx_http_agntkey_call_t *call, int64_t now)
{
    u_char      deadline[NGX_INT64_LEN + 1];
    int64_t     budget;
    ngx_str_t  *script;
    ngx_uint_t  i;

    budget = (int64_t) ngx_http_agntkey_redis_timeout(call->redis);

    call->deadline = ngx_http_agntkey_clock()
                     + ngx_http_agntkey_clock_margin(budget);

    /* the last argument, and the end of its line */

    script = &call->kept[call->nkept - 1];

    (void) ngx_sprintf(deadline, "%015L", now + budget);
    ngx_memcpy(script->data + script->len - 2 - NGX_HTTP_AGNTKEY_CALL_DIGITS,
               deadline, NGX_HTTP_AGNTKEY_CALL_DIGITS);

    for (i = 0; i < call->nkept; i++) {

        if (ngx_http_agntkey_redis_send(call->redis, &call->kept[i],
                                        ngx_http_agntkey_call_handler, call)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        call->sent++;
    }

    return NGX_OK;
}


static void
ngx_http_agntkey_call_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_call_t  *call = data;

    call->replies[call->answered++] = reply;

    if (rc > call->rc) {
        call->rc = rc;
    }

    if (call->answered < call->sent) {
        return;
    }

    if (call->nkept && call->rc == NGX_HTTP_AGNTKEY_REDIS_OK
        && ngx_http_agntkey_call_late(call))
    {
        ngx_http_agntkey_call_forget(call);

        if (call->tries < NGX_HTTP_AGNTKEY_CALL_TRIES
            && ngx_http_agntkey_call_write(call) == NGX_OK)
        {
            return;
        }

        call->rc = NGX_HTTP_AGNTKEY_REDIS_UNSENT;
    }

    if (call->nkept && call->rc > NGX_HTTP_AGNTKEY_REDIS_UNSENT
        && ngx_http_agntkey_call_hold(call) == NGX_AGAIN)
    {
        return;
    }

    ngx_http_agntkey_call_done(call);
}


static ngx_uint_t
ngx_http_agntkey_call_late(ngx_http_agntkey_call_t *call)
{
    ngx_str_t                 *text;
    ngx_http_agntkey_reply_t  *reply;

    reply = call->replies[call->answered - 1];

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 1
        || reply->elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        return 0;
    }

    text = &reply->elts[0]->str;

    return text->len == 4 && ngx_strncmp(text->data, "late", 4) == 0;
}


/* NGX_AGAIN while what was lost may still be done, and somebody waits. */

static ngx_int_t
ngx_http_agntkey_call_hold(ngx_http_agntkey_call_t *call)
{
    int64_t  left;

    if (call->handler == NULL) {
        return NGX_OK;
    }

    left = call->deadline - ngx_http_agntkey_clock();

    if (left <= 0) {
        return NGX_OK;
    }

    ngx_add_timer(&call->timer, (ngx_msec_t) left);

    return NGX_AGAIN;
}


static void
ngx_http_agntkey_call_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_call_t  *call = ev->data;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                   "agntkey: the deadline of a lost write is over");

    /* the timer runs by another clock */

    if (ngx_http_agntkey_call_hold(call) == NGX_OK) {
        ngx_http_agntkey_call_done(call);
    }
}


void
ngx_http_agntkey_call_cancel(ngx_http_agntkey_call_t *call)
{
    call->handler = NULL;

    /* a call whose commands are under way, or was never sent */

    if (call->timer.timer_set || (call->sent == 0 && call->tries == 0)) {
        ngx_http_agntkey_call_free(call);
    }
}


static void
ngx_http_agntkey_call_done(ngx_http_agntkey_call_t *call)
{
    if (call->handler) {
        call->handler(call->data, call->rc, call->replies,
                      ngx_max(call->answered, 1));
    }

    ngx_http_agntkey_call_free(call);
}


/* All replies, and what they said. */

static void
ngx_http_agntkey_call_forget(ngx_http_agntkey_call_t *call)
{
    ngx_uint_t  i;

    for (i = 0; i < call->answered; i++) {
        ngx_http_agntkey_resp_free(call->replies[i]);
        call->replies[i] = NULL;
    }

    call->sent = 0;
    call->answered = 0;
}


static void
ngx_http_agntkey_call_free(ngx_http_agntkey_call_t *call)
{
    ngx_uint_t  i;

    ngx_http_agntkey_call_forget(call);

    for (i = 0; i < call->nkept; i++) {
        ngx_http_agntkey_resp_format_free(&call->kept[i]);
    }

    if (call->timer.timer_set) {
        ngx_del_timer(&call->timer);
    }

    ngx_free(call);
}
