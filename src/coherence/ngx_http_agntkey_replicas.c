
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_replicas.h"


/* the longest time for replicas, ms */
#define NGX_HTTP_AGNTKEY_REPLICAS_WAIT   100

/* and of that for the disk, which is asked, not waited for */
#define NGX_HTTP_AGNTKEY_REPLICAS_SYNC   1


struct ngx_http_agntkey_replicas_s {
    ngx_http_agntkey_redis_client_t       *client;
    ngx_log_t                             *log;
    ngx_http_agntkey_replicas_handler_pt   handler;
    void                                  *data;

    ngx_msec_t                             wait;       /* ms */
    ngx_uint_t                             sent;       /* no answer yet */
    ngx_uint_t                             number;     /* of replicas */
    ngx_int_t                              synced;

    ngx_uint_t                             lacks;      /* generation */
    unsigned                               lacking:1;  /* WAITAOF, there */
    unsigned                               silent:1;   /* and was logged */
};


static void ngx_http_agntkey_replicas_send(
    ngx_http_agntkey_replicas_t *replicas, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler);
static void ngx_http_agntkey_replicas_wait_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_replicas_sync_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_replicas_silent(
    ngx_http_agntkey_replicas_t *replicas,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_replicas_answered(
    ngx_http_agntkey_replicas_t *replicas);


ngx_http_agntkey_replicas_t *
ngx_http_agntkey_replicas_create(ngx_http_agntkey_redis_client_t *client,
    ngx_msec_t timeout, ngx_http_agntkey_replicas_handler_pt handler,
    void *data, ngx_log_t *log)
{
    ngx_http_agntkey_replicas_t  *replicas;

    replicas = ngx_calloc(sizeof(ngx_http_agntkey_replicas_t), log);
    if (replicas == NULL) {
        return NULL;
    }

    replicas->client = client;
    replicas->log = log;
    replicas->handler = handler;
    replicas->data = data;
    replicas->wait = ngx_min(NGX_HTTP_AGNTKEY_REPLICAS_WAIT,
                             ngx_max(timeout / 4, 1));

    return replicas;
}


void
ngx_http_agntkey_replicas_destroy(ngx_http_agntkey_replicas_t *replicas)
{
    ngx_free(replicas);
}


ngx_uint_t
ngx_http_agntkey_replicas_busy(ngx_http_agntkey_replicas_t *replicas)
{
    return replicas->sent != 0;
}


/*
 * A connection that is not that of the write knows nothing of it, and would
 * say at once that all is well.
 */

ngx_uint_t
ngx_http_agntkey_replicas_may_sync(ngx_http_agntkey_replicas_t *replicas,
    ngx_uint_t generation)
{
    return generation
           == ngx_http_agntkey_redis_client_generation(replicas->client)
           && !(replicas->lacking && replicas->lacks == generation);
}


void
ngx_http_agntkey_replicas_ask(ngx_http_agntkey_replicas_t *replicas,
    ngx_uint_t n, ngx_uint_t sync)
{
    u_char      number[NGX_INT_T_LEN], ms[NGX_INT_T_LEN];
    ngx_str_t   argv[4];
    ngx_msec_t  wait;
    ngx_uint_t  sent;

    replicas->number = 0;
    replicas->synced = NGX_DECLINED;

    /* one is for us: nobody is told before all is sent */

    replicas->sent = 1;

    if (n) {
        wait = replicas->wait;
        sent = replicas->sent;

        if (sync && wait > NGX_HTTP_AGNTKEY_REPLICAS_SYNC) {
            wait -= NGX_HTTP_AGNTKEY_REPLICAS_SYNC;
        }

        ngx_str_set(&argv[0], "WAIT");
        argv[1].data = number;
        argv[1].len = ngx_sprintf(number, "%ui", n) - number;
        argv[2].data = ms;
        argv[2].len = ngx_sprintf(ms, "%M", wait) - ms;

        ngx_http_agntkey_replicas_send(replicas, argv, 3,
                                       ngx_http_agntkey_replicas_wait_handler);

        if (replicas->sent == sent) {
            sync = 0;
        }
    }

    if (sync) {
        ngx_str_set(&argv[0], "WAITAOF");
        ngx_str_set(&argv[1], "1");
        ngx_str_set(&argv[2], "0");
        argv[3].data = ms;
        argv[3].len = ngx_sprintf(ms, "%M",
                                  (ngx_msec_t) NGX_HTTP_AGNTKEY_REPLICAS_SYNC)
                      - ms;

        ngx_http_agntkey_replicas_send(replicas, argv, 4,
                                       ngx_http_agntkey_replicas_sync_handler);
    }

    ngx_http_agntkey_replicas_answered(replicas);
}


static void
ngx_http_agntkey_replicas_send(ngx_http_agntkey_replicas_t *replicas,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler)
{
    if (ngx_http_agntkey_redis_client_command(replicas->client, argv, argc,
                                              handler, replicas)
        == NGX_OK)
    {
        replicas->sent++;
    }
}


static void
ngx_http_agntkey_replicas_wait_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_replicas_t  *replicas = data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, replicas->log, 0,
                   "agntkey replicas: number, %d", rc);

    /* without an answer none is known to have it */

    if (rc == NGX_HTTP_AGNTKEY_REDIS_OK
        && reply->type == NGX_HTTP_AGNTKEY_RESP_INTEGER
        && reply->integer > 0)
    {
        replicas->number = (ngx_uint_t) reply->integer;
    }

    ngx_http_agntkey_redis_resp_free(reply);

    ngx_http_agntkey_replicas_answered(replicas);
}


static void
ngx_http_agntkey_replicas_sync_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    static char                   off[] = "appendonly is disabled";

    ngx_http_agntkey_replicas_t  *replicas = data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, replicas->log, 0,
                   "agntkey replicas: disk, %d", rc);

    if (rc == NGX_HTTP_AGNTKEY_REDIS_OK) {

        if (reply->type == NGX_HTTP_AGNTKEY_RESP_ARRAY && reply->nelts == 2
            && reply->elts[0]->type == NGX_HTTP_AGNTKEY_RESP_INTEGER
            && reply->elts[1]->type == NGX_HTTP_AGNTKEY_RESP_INTEGER
            && (reply->elts[0]->integer == 0 || reply->elts[0]->integer == 1))
        {
            replicas->synced = (ngx_int_t) reply->elts[0]->integer;
            replicas->silent = 0;

        } else if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR
                   && ngx_strnstr(reply->str.data, off, reply->str.len))
        {
            /* there is no file that could be synced */

            replicas->synced = 0;
            replicas->silent = 0;

        } else {
            ngx_http_agntkey_replicas_silent(replicas, reply);
        }
    }

    ngx_http_agntkey_redis_resp_free(reply);

    ngx_http_agntkey_replicas_answered(replicas);
}


/* A server without the command is not asked again over this connection. */

static void
ngx_http_agntkey_replicas_silent(ngx_http_agntkey_replicas_t *replicas,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char     buf[128];
    ngx_str_t  text;

    static char  unknown[] = "ERR unknown command";

    ngx_http_agntkey_redis_resp_describe(reply, buf, &text);

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR
        && reply->str.len >= sizeof(unknown) - 1
        && ngx_strncmp(reply->str.data, unknown, sizeof(unknown) - 1) == 0)
    {
        replicas->lacking = 1;
        replicas->lacks =
                   ngx_http_agntkey_redis_client_generation(replicas->client);
    }

    if (!replicas->silent) {
        replicas->silent = 1;

        ngx_log_error(NGX_LOG_NOTICE, replicas->log, 0,
                      "agntkey: Redis does not say whether a revocation is on "
                      "its disk, and receipts do not have \"synced\": %V",
                      &text);
    }
}


static void
ngx_http_agntkey_replicas_answered(ngx_http_agntkey_replicas_t *replicas)
{
    if (--replicas->sent == 0) {
        replicas->handler(replicas->data, replicas->number, replicas->synced);
    }
}
