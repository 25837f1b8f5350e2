
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_fence.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_keyspace.h"


/* where Redis does not let us write: the pause before the next attempt, ms */
#define NGX_HTTP_AGNTKEY_FENCE_BLIND   60000

/* between connections to a replica, whose name may lead elsewhere later, ms */
#define NGX_HTTP_AGNTKEY_FENCE_RESET   5000


/* owner of its two commands */

struct ngx_http_agntkey_fence_s {
    ngx_http_agntkey_redis_client_t   *redis;
    ngx_log_t                         *log;

    ngx_str_t                          hello;
    ngx_str_t                          write;

    ngx_uint_t                         generation; /* of the connection asked */
    int64_t                            sent;       /* ms, clock() */
    int64_t                            reset;      /* ms, clock() */

    unsigned                           asked:1;
    unsigned                           replica:1;  /* by its own word */
    unsigned                           refused:1;  /* the last write was */
    unsigned                           blind:1;    /* no right to write */
    unsigned                           closed:1;   /* and the log has it */
};


static ngx_int_t ngx_http_agntkey_fence_commands(
    ngx_http_agntkey_fence_t *fence);
static void ngx_http_agntkey_fence_hello_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_fence_write_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_fence_begins(
    ngx_http_agntkey_redis_reply_t *reply, const char *code);
static void ngx_http_agntkey_fence_close(ngx_http_agntkey_fence_t *fence,
    ngx_uint_t replica, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_fence_reset(ngx_http_agntkey_fence_t *fence);


/*
 * The refusals of a write by a server that others may have replaced.  One that
 * is full, or cannot save, is the primary all the same (redis.io/docs/latest/
 * operate/oss_and_stack/management/replication).
 */

static const char  *ngx_http_agntkey_fence_codes[] = {
    "NOREPLICAS ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "MOVED ",
    "ASK ", NULL
};


ngx_http_agntkey_fence_t *
ngx_http_agntkey_fence_create(ngx_http_agntkey_redis_client_t *redis,
    ngx_log_t *log)
{
    ngx_http_agntkey_fence_t  *fence;

    fence = ngx_calloc(sizeof(ngx_http_agntkey_fence_t), log);
    if (fence == NULL) {
        return NULL;
    }

    fence->redis = redis;
    fence->log = log;

    if (ngx_http_agntkey_fence_commands(fence) != NGX_OK) {
        ngx_http_agntkey_fence_destroy(fence);
        return NULL;
    }

    return fence;
}


void
ngx_http_agntkey_fence_destroy(ngx_http_agntkey_fence_t *fence)
{
    if (fence->hello.data) {
        ngx_http_agntkey_redis_resp_format_free(&fence->hello);
    }

    if (fence->write.data) {
        ngx_http_agntkey_redis_resp_format_free(&fence->write);
    }

    ngx_free(fence);
}


ngx_int_t
ngx_http_agntkey_fence_ask(ngx_http_agntkey_fence_t *fence)
{
    int64_t     now, interval;
    ngx_uint_t  generation;

    now = ngx_http_agntkey_clock();
    generation = ngx_http_agntkey_redis_client_generation(fence->redis);

    interval = fence->blind ? NGX_HTTP_AGNTKEY_FENCE_BLIND
                            : NGX_HTTP_AGNTKEY_FENCE_INTERVAL;

    if (fence->asked && generation == fence->generation
        && now - fence->sent < interval)
    {
        return NGX_OK;
    }

    if (ngx_http_agntkey_redis_client_send(fence->redis, &fence->hello,
                                           ngx_http_agntkey_fence_hello_handler,
                                           fence)
        != NGX_OK
        || ngx_http_agntkey_redis_client_send(fence->redis, &fence->write,
                                           ngx_http_agntkey_fence_write_handler,
                                           fence)
           != NGX_OK)
    {
        return NGX_DECLINED;
    }

    fence->asked = 1;
    fence->generation = generation;
    fence->sent = now;

    return NGX_OK;
}


ngx_uint_t
ngx_http_agntkey_fence_open(ngx_http_agntkey_fence_t *fence)
{
    return !fence->replica && !fence->refused;
}


static ngx_int_t
ngx_http_agntkey_fence_commands(ngx_http_agntkey_fence_t *fence)
{
    ngx_str_t  argv[2];

    ngx_str_set(&argv[0], "HELLO");
    ngx_str_set(&argv[1], "2");

    if (ngx_http_agntkey_redis_resp_format(argv, 2, &fence->hello) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_str_set(&argv[0], "DEL");
    ngx_str_set(&argv[1],
                NGX_HTTP_AGNTKEY_NAME_KEY NGX_HTTP_AGNTKEY_NAME_CANARY "fence");

    return ngx_http_agntkey_redis_resp_format(argv, 2, &fence->write);
}


/*
 * For a replica that takes writes (replica-read-only no).  A server, or a
 * proxy, that does not know the command is judged by its writes alone.
 */

static void
ngx_http_agntkey_fence_hello_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_redis_reply_t  *role;
    ngx_http_agntkey_fence_t        *fence = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    role = ngx_http_agntkey_redis_resp_field(reply, "role");

    if (role == NULL || role->type != NGX_HTTP_AGNTKEY_RESP_STRING
        || (role->str.len == 6
            && ngx_memcmp(role->str.data, "master", 6) == 0))
    {
        fence->replica = 0;

    } else {
        ngx_http_agntkey_fence_close(fence, 1, NULL);
    }

    ngx_http_agntkey_redis_resp_free(reply);
}


static void
ngx_http_agntkey_fence_write_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    const char                **code;
    ngx_http_agntkey_fence_t   *fence = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_INTEGER) {
        fence->blind = 0;
        fence->refused = 0;

    } else if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR) {

        for (code = ngx_http_agntkey_fence_codes; *code; code++) {
            if (ngx_http_agntkey_fence_begins(reply, *code)) {
                ngx_http_agntkey_fence_close(fence, 0, reply);
                break;
            }
        }

        if (ngx_http_agntkey_fence_begins(reply, "NOPERM ")
            && !fence->blind)
        {
            fence->blind = 1;

            ngx_log_error(NGX_LOG_WARN, fence->log, 0,
                          "agntkey: Redis has no right for this user to "
                          "DEL agntkey:key:canary:*, so a primary that is "
                          "cut off from its replicas is not noticed");
        }
    }

    ngx_http_agntkey_redis_resp_free(reply);

    if (!ngx_http_agntkey_fence_open(fence)) {
        ngx_http_agntkey_fence_reset(fence);

    } else if (fence->closed) {
        fence->closed = 0;

        ngx_log_error(NGX_LOG_NOTICE, fence->log, 0,
                      "agntkey: Redis takes writes again");
    }
}


static ngx_uint_t
ngx_http_agntkey_fence_begins(ngx_http_agntkey_redis_reply_t *reply,
    const char *code)
{
    size_t  len;

    len = ngx_strlen(code);

    return reply->str.len >= len
           && ngx_strncmp(reply->str.data, code, len) == 0;
}


static void
ngx_http_agntkey_fence_close(ngx_http_agntkey_fence_t *fence,
    ngx_uint_t replica, ngx_http_agntkey_redis_reply_t *reply)
{
    u_char     buf[128];
    ngx_str_t  text;

    if (replica) {
        fence->replica = 1;
        ngx_str_set(&text, "it is a replica");

    } else {
        fence->refused = 1;
        ngx_http_agntkey_redis_resp_error_text(reply, buf, &text);
    }

    if (!fence->closed) {
        fence->closed = 1;

        ngx_log_error(NGX_LOG_ERR, fence->log, 0,
                      "agntkey: Redis may not be the primary any more, and "
                      "its answers do not count until it takes writes: %V",
                      &text);
    }
}


/* A replica: the name or the address may lead to the primary by now. */

static void
ngx_http_agntkey_fence_reset(ngx_http_agntkey_fence_t *fence)
{
    int64_t  now;

    now = ngx_http_agntkey_clock();

    if (fence->reset && now - fence->reset < NGX_HTTP_AGNTKEY_FENCE_RESET) {
        return;
    }

    fence->reset = now;

    ngx_http_agntkey_redis_client_reset(fence->redis, "it takes no writes");
}
