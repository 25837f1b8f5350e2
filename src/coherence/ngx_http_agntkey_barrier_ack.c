
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_barrier_ack.h"


struct ngx_http_agntkey_barrier_ack_s {
    ngx_http_agntkey_lease_t                 *lease;
    ngx_http_agntkey_redis_client_t          *commands;

    ngx_http_agntkey_barrier_ack_handler_pt   handler;    /* NULL: never asks */
    void                                     *data;
    ngx_log_t                                 *log;
};


static void ngx_http_agntkey_barrier_ack_asked(void *data, ngx_str_t *text);
static void ngx_http_agntkey_barrier_ack_message(void *data, ngx_str_t *text);
static void ngx_http_agntkey_barrier_ack_echo(
    ngx_http_agntkey_barrier_ack_t *acks, ngx_str_t *text);
static void ngx_http_agntkey_barrier_ack_receive(
    ngx_http_agntkey_barrier_ack_t *acks, ngx_str_t *text);
static void ngx_http_agntkey_barrier_ack_publish(
    ngx_http_agntkey_barrier_ack_t *acks, ngx_str_t *channel, ngx_str_t *text);


ngx_http_agntkey_barrier_ack_t *
ngx_http_agntkey_barrier_ack_create(ngx_http_agntkey_lease_t *lease,
    ngx_http_agntkey_redis_client_t *commands, ngx_log_t *log)
{
    ngx_http_agntkey_barrier_ack_t  *acks;

    acks = ngx_calloc(sizeof(ngx_http_agntkey_barrier_ack_t), log);
    if (acks == NULL) {
        return NULL;
    }

    acks->lease = lease;
    acks->commands = commands;
    acks->log = log;

    ngx_http_agntkey_lease_subscribe(lease, ngx_http_agntkey_barrier_ack_asked,
                                     ngx_http_agntkey_barrier_ack_message,
                                     acks);

    return acks;
}


void
ngx_http_agntkey_barrier_ack_destroy(ngx_http_agntkey_barrier_ack_t *acks)
{
    ngx_http_agntkey_lease_subscribe(acks->lease, NULL, NULL, NULL);

    ngx_free(acks);
}


void
ngx_http_agntkey_barrier_ack_set_handler(ngx_http_agntkey_barrier_ack_t *acks,
    ngx_http_agntkey_barrier_ack_handler_pt handler, void *data)
{
    acks->handler = handler;
    acks->data = data;
}


/*
 * A barrier: "<channel> <number>".  All invalidations in front of it have been
 * handled; but those of writes in the same turn of Redis's loop come behind it.
 * So the acknowledgement waits for a message to this worker itself, which can
 * only come in a later turn.
 */

static void
ngx_http_agntkey_barrier_ack_asked(void *data, ngx_str_t *text)
{
    u_char                        buf[sizeof("echo  ") + NGX_INT64_LEN
                                      + NGX_HTTP_AGNTKEY_WORKER_CHANNEL_LEN];
    ngx_str_t                     echo;
    ngx_http_agntkey_barrier_ack_t  *acks = data;

    if (text->len > NGX_HTTP_AGNTKEY_WORKER_CHANNEL_LEN + 1 + NGX_INT64_LEN) {
        return;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, acks->log, 0,
                   "agntkey barrier asked: %V", text);

    echo.data = buf;
    echo.len = ngx_sprintf(buf, "echo %V", text) - buf;

    ngx_http_agntkey_barrier_ack_publish(acks,
                            ngx_http_agntkey_lease_channel(acks->lease),
                            &echo);
}


/* "echo <channel> <number>" from ourselves, "ack <number> <worker>" */

static void
ngx_http_agntkey_barrier_ack_message(void *data, ngx_str_t *text)
{
    ngx_str_t                        rest;
    ngx_http_agntkey_barrier_ack_t  *acks = data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, acks->log, 0,
                   "agntkey message: %V", text);

    if (text->len > 5 && ngx_strncmp(text->data, "echo ", 5) == 0) {

        rest.data = text->data + 5;
        rest.len = text->len - 5;

        ngx_http_agntkey_barrier_ack_echo(acks, &rest);

    } else if (text->len > 4 && ngx_strncmp(text->data, "ack ", 4) == 0) {

        rest.data = text->data + 4;
        rest.len = text->len - 4;

        ngx_http_agntkey_barrier_ack_receive(acks, &rest);
    }
}


static void
ngx_http_agntkey_barrier_ack_echo(ngx_http_agntkey_barrier_ack_t *acks,
    ngx_str_t *text)
{
    u_char     buf[sizeof("ack  ") + NGX_INT64_LEN
                   + NGX_HTTP_AGNTKEY_WORKER_LEN];
    ngx_str_t  channel, number, ack;

    channel.data = text->data;
    channel.len = NGX_HTTP_AGNTKEY_WORKER_CHANNEL_LEN;

    if (text->len < channel.len + 2
        || text->len > channel.len + 1 + NGX_INT64_LEN
        || text->data[channel.len] != ' '
        || ngx_strncmp(text->data, NGX_HTTP_AGNTKEY_NAME_WORKER,
                       sizeof(NGX_HTTP_AGNTKEY_NAME_WORKER) - 1)
           != 0)
    {
        return;
    }

    number.data = text->data + channel.len + 1;
    number.len = text->len - channel.len - 1;

    ack.data = buf;
    ack.len = ngx_sprintf(buf, "ack %V %*s", &number,
                          (size_t) NGX_HTTP_AGNTKEY_WORKER_LEN,
                          ngx_http_agntkey_lease_worker(acks->lease))
              - buf;

    ngx_http_agntkey_barrier_ack_publish(acks, &channel, &ack);
}


static void
ngx_http_agntkey_barrier_ack_receive(ngx_http_agntkey_barrier_ack_t *acks,
    ngx_str_t *text)
{
    off_t    n;
    u_char  *p, *last;

    last = text->data + text->len;

    p = ngx_strlchr(text->data, last, ' ');

    if (p == NULL || last - p != NGX_HTTP_AGNTKEY_WORKER_LEN + 1) {
        return;
    }

    n = ngx_atoof(text->data, p - text->data);

    if (n > 0 && acks->handler) {
        acks->handler(acks->data, n, p + 1);
    }
}


/* What cannot be sent is not missed: who asks does not wait for ever. */

static void
ngx_http_agntkey_barrier_ack_publish(ngx_http_agntkey_barrier_ack_t *acks,
    ngx_str_t *channel, ngx_str_t *text)
{
    ngx_str_t  argv[3];

    ngx_str_set(&argv[0], "PUBLISH");
    argv[1] = *channel;
    argv[2] = *text;

    (void) ngx_http_agntkey_redis_client_command(acks->commands, argv, 3, NULL,
                                                 NULL);
}
