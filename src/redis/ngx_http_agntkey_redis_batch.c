
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_redis_batch.h"
#include "ngx_http_agntkey_clock.h"


/* how often a call that writes is sent, if Redis finds it late */
#define NGX_HTTP_AGNTKEY_BATCH_TRIES   2

#define NGX_HTTP_AGNTKEY_BATCH_DIGITS                                         \
    (sizeof(NGX_HTTP_AGNTKEY_BATCH_DEADLINE) - 1)


/*
 * Owner of its replies, of the commands that are kept, and of the timer.  It
 * frees itself after its handler, or when the last reply has come.
 */

struct ngx_http_agntkey_redis_batch_s {
    ngx_http_agntkey_redis_client_t          *redis;
    ngx_http_agntkey_redis_batch_handler_pt   handler;   /* NULL: cancelled */
    void                                     *data;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                                 ident;

    ngx_http_agntkey_redis_e                  rc;
    ngx_uint_t                                sent;
    ngx_uint_t                                answered;

    /* of a call that writes */
    ngx_str_t                          kept[NGX_HTTP_AGNTKEY_BATCH_WRITES];
    ngx_uint_t                                nkept;
    ngx_uint_t                                tries;
    int64_t                                   deadline;  /* here, ms */
    ngx_event_t                               timer;

    ngx_http_agntkey_redis_reply_t
                                     *replies[NGX_HTTP_AGNTKEY_BATCH_COMMANDS];
};


static ngx_int_t ngx_http_agntkey_redis_batch_format(ngx_str_t *argv,
    ngx_uint_t argc, ngx_str_t *bytes);
static void ngx_http_agntkey_redis_batch_time_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_redis_batch_time(
    ngx_http_agntkey_redis_reply_t *reply, int64_t *ms);
static ngx_int_t ngx_http_agntkey_redis_batch_release(
    ngx_http_agntkey_redis_batch_t *batch, int64_t now);
static void ngx_http_agntkey_redis_batch_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_redis_batch_late(
    ngx_http_agntkey_redis_batch_t *batch);
static ngx_int_t ngx_http_agntkey_redis_batch_hold(
    ngx_http_agntkey_redis_batch_t *batch);
static void ngx_http_agntkey_redis_batch_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_redis_batch_done(
    ngx_http_agntkey_redis_batch_t *batch);
static void ngx_http_agntkey_redis_batch_forget(
    ngx_http_agntkey_redis_batch_t *batch);
static void ngx_http_agntkey_redis_batch_free(
    ngx_http_agntkey_redis_batch_t *batch);


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_redis_batch_create(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    ngx_http_agntkey_redis_batch_t  *batch;

    batch = ngx_calloc(sizeof(ngx_http_agntkey_redis_batch_t), ngx_cycle->log);
    if (batch == NULL) {
        return NULL;
    }

    batch->redis = redis;
    batch->handler = handler;
    batch->data = data;
    batch->ident = -1;

    /* a request waits for it, so a worker that is to end does as well */

    batch->timer.handler = ngx_http_agntkey_redis_batch_timer_handler;
    batch->timer.data = batch;
    batch->timer.log = ngx_cycle->log;

    return batch;
}


ngx_int_t
ngx_http_agntkey_redis_batch_send(ngx_http_agntkey_redis_batch_t *batch,
    ngx_str_t *argv, ngx_uint_t argc)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    if (batch->sent == NGX_HTTP_AGNTKEY_BATCH_COMMANDS
        || ngx_http_agntkey_redis_batch_format(argv, argc, &bytes) != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_agntkey_redis_client_send(batch->redis, &bytes,
                                           ngx_http_agntkey_redis_batch_handler,
                                           batch);

    ngx_http_agntkey_redis_resp_format_free(&bytes);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    batch->sent++;

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_redis_batch_keep(ngx_http_agntkey_redis_batch_t *batch,
    ngx_str_t *argv, ngx_uint_t argc)
{
    if (batch->nkept == NGX_HTTP_AGNTKEY_BATCH_WRITES
        || ngx_http_agntkey_redis_batch_format(argv, argc,
                                               &batch->kept[batch->nkept])
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    batch->nkept++;

    return NGX_OK;
}


/* hiredis copies from each argument, even when there is nothing to copy */

static ngx_int_t
ngx_http_agntkey_redis_batch_format(ngx_str_t *argv, ngx_uint_t argc,
    ngx_str_t *bytes)
{
    ngx_uint_t  i;

    for (i = 0; i < argc; i++) {
        if (argv[i].data == NULL) {
            ngx_str_set(&argv[i], "");
        }
    }

    return ngx_http_agntkey_redis_resp_format(argv, argc, bytes);
}


ngx_int_t
ngx_http_agntkey_redis_batch_write(ngx_http_agntkey_redis_batch_t *batch)
{
    ngx_int_t  rc;
    ngx_str_t  bytes, time;

    ngx_str_set(&time, "TIME");

    if (ngx_http_agntkey_redis_resp_format(&time, 1, &bytes) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_agntkey_redis_client_send(batch->redis, &bytes,
                                     ngx_http_agntkey_redis_batch_time_handler,
                                     batch);

    ngx_http_agntkey_redis_resp_format_free(&bytes);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    batch->tries++;

    return NGX_OK;
}


static void
ngx_http_agntkey_redis_batch_time_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    int64_t                          now;
    ngx_http_agntkey_redis_batch_t  *batch = data;

    if (rc == NGX_HTTP_AGNTKEY_REDIS_OK
        && reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR)
    {
        batch->replies[batch->answered++] = reply;
        ngx_http_agntkey_redis_batch_done(batch);
        return;
    }

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK
        || ngx_http_agntkey_redis_batch_time(reply, &now) != NGX_OK
        || ngx_http_agntkey_redis_batch_release(batch, now) != NGX_OK)
    {
        batch->rc = NGX_HTTP_AGNTKEY_REDIS_UNSENT;
    }

    ngx_http_agntkey_redis_resp_free(reply);

    /* with the first under way, its reply is the end of the call */

    if (batch->sent == 0) {
        ngx_http_agntkey_redis_batch_done(batch);
    }
}


/*
 * Seconds and microseconds, as texts (redis.io/docs/latest/commands/time).
 * Returns NGX_OK, or NGX_ERROR after a message.
 */

static ngx_int_t
ngx_http_agntkey_redis_batch_time(ngx_http_agntkey_redis_reply_t *reply,
    int64_t *ms)
{
    ngx_int_t                         sec, usec;
    ngx_http_agntkey_redis_reply_t  **elts;

    elts = reply->elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 2
        || elts[0]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[1]->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || elts[0]->str.len > NGX_HTTP_AGNTKEY_BATCH_DIGITS - 4)
    {
        goto corrupt;
    }

    sec = ngx_atoi(elts[0]->str.data, elts[0]->str.len);
    usec = ngx_atoi(elts[1]->str.data, elts[1]->str.len);

    if (sec == NGX_ERROR || usec == NGX_ERROR || usec > 999999) {
        goto corrupt;
    }

    *ms = (int64_t) sec * 1000 + usec / 1000;

    return NGX_OK;

corrupt:

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "agntkey: Redis did not say what time it is");

    return NGX_ERROR;
}


/*
 * Redis read its clock before its reply came, so when that clock is at the
 * deadline, no more than the timeout has passed here.
 */

static ngx_int_t
ngx_http_agntkey_redis_batch_release(ngx_http_agntkey_redis_batch_t *batch,
    int64_t now)
{
    u_char       deadline[NGX_INT64_LEN + 1];
    int64_t      budget;
    ngx_str_t   *script;
    ngx_uint_t   i;

    budget = (int64_t) ngx_http_agntkey_redis_client_timeout(batch->redis);

    batch->deadline = ngx_http_agntkey_clock()
                     + ngx_http_agntkey_clock_margin(budget);

    /* the last argument, and the end of its line */

    script = &batch->kept[batch->nkept - 1];

    (void) ngx_sprintf(deadline, "%015L", now + budget);
    ngx_memcpy(script->data + script->len - 2 - NGX_HTTP_AGNTKEY_BATCH_DIGITS,
               deadline, NGX_HTTP_AGNTKEY_BATCH_DIGITS);

    for (i = 0; i < batch->nkept; i++) {

        if (ngx_http_agntkey_redis_client_send(batch->redis, &batch->kept[i],
                                           ngx_http_agntkey_redis_batch_handler,
                                           batch) != NGX_OK)
        {
            return NGX_ERROR;
        }

        batch->sent++;
    }

    return NGX_OK;
}


static void
ngx_http_agntkey_redis_batch_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_redis_batch_t  *batch = data;

    batch->replies[batch->answered++] = reply;

    if (rc > batch->rc) {
        batch->rc = rc;
    }

    if (batch->answered < batch->sent) {
        return;
    }

    if (batch->nkept && batch->rc == NGX_HTTP_AGNTKEY_REDIS_OK
        && ngx_http_agntkey_redis_batch_late(batch))
    {
        ngx_http_agntkey_redis_batch_forget(batch);

        if (batch->tries < NGX_HTTP_AGNTKEY_BATCH_TRIES
            && ngx_http_agntkey_redis_batch_write(batch) == NGX_OK)
        {
            return;
        }

        batch->rc = NGX_HTTP_AGNTKEY_REDIS_UNSENT;
    }

    if (batch->nkept && batch->rc > NGX_HTTP_AGNTKEY_REDIS_UNSENT
        && ngx_http_agntkey_redis_batch_hold(batch) == NGX_AGAIN)
    {
        return;
    }

    ngx_http_agntkey_redis_batch_done(batch);
}


static ngx_uint_t
ngx_http_agntkey_redis_batch_late(ngx_http_agntkey_redis_batch_t *batch)
{
    ngx_str_t                       *text;
    ngx_http_agntkey_redis_reply_t  *reply;

    reply = batch->replies[batch->answered - 1];

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
ngx_http_agntkey_redis_batch_hold(ngx_http_agntkey_redis_batch_t *batch)
{
    int64_t  left;

    if (batch->handler == NULL) {
        return NGX_OK;
    }

    left = batch->deadline - ngx_http_agntkey_clock();

    if (left <= 0) {
        return NGX_OK;
    }

    ngx_add_timer(&batch->timer, (ngx_msec_t) left);

    return NGX_AGAIN;
}


static void
ngx_http_agntkey_redis_batch_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_redis_batch_t  *batch = ev->data;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                   "agntkey: the deadline of a lost write is over");

    /* the timer runs by another clock */

    if (ngx_http_agntkey_redis_batch_hold(batch) == NGX_OK) {
        ngx_http_agntkey_redis_batch_done(batch);
    }
}


void
ngx_http_agntkey_redis_batch_cancel(ngx_http_agntkey_redis_batch_t *batch)
{
    batch->handler = NULL;

    /* a call whose commands are under way, or was never sent */

    if (batch->timer.timer_set || (batch->sent == 0 && batch->tries == 0)) {
        ngx_http_agntkey_redis_batch_free(batch);
    }
}


static void
ngx_http_agntkey_redis_batch_done(ngx_http_agntkey_redis_batch_t *batch)
{
    if (batch->handler) {
        batch->handler(batch->data, batch->rc, batch->replies,
                       ngx_max(batch->answered, 1));
    }

    ngx_http_agntkey_redis_batch_free(batch);
}


/* All replies, and what they said. */

static void
ngx_http_agntkey_redis_batch_forget(ngx_http_agntkey_redis_batch_t *batch)
{
    ngx_uint_t  i;

    for (i = 0; i < batch->answered; i++) {
        ngx_http_agntkey_redis_resp_free(batch->replies[i]);
        batch->replies[i] = NULL;
    }

    batch->sent = 0;
    batch->answered = 0;
}


static void
ngx_http_agntkey_redis_batch_free(ngx_http_agntkey_redis_batch_t *batch)
{
    ngx_uint_t  i;

    ngx_http_agntkey_redis_batch_forget(batch);

    for (i = 0; i < batch->nkept; i++) {
        ngx_http_agntkey_redis_resp_format_free(&batch->kept[i]);
    }

    if (batch->timer.timer_set) {
        ngx_del_timer(&batch->timer);
    }

    ngx_free(batch);
}
