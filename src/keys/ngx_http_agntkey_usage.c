
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_usage.h"
#include "ngx_http_agntkey_keyspace.h"
#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_token.h"


/* up to this a worker that ends may wait for the next turn, ms */
#define NGX_HTTP_AGNTKEY_USAGE_PATIENCE   5000

#define NGX_HTTP_AGNTKEY_USAGE_NONE       NGX_HTTP_AGNTKEY_USAGE_KEYS


/* in a bucket's list while there is something to write, else in "free" */

typedef struct {
    ngx_http_agntkey_usage_t   *usage;
    int64_t                     at;
    u_char                      id[NGX_HTTP_AGNTKEY_ID_LEN];
    u_char                      workspace[NGX_HTTP_AGNTKEY_WORKSPACE_MAX];
    u_char                      nworkspace;
    unsigned                    dirty:1;      /* later than what was sent */
    unsigned                    sent:1;       /* a reply is to come */
    unsigned                    refused:1;    /* by Redis, last time */
    uint16_t                    next;
} ngx_http_agntkey_use_t;


struct ngx_http_agntkey_usage_s {
    ngx_http_agntkey_redis_client_t   *redis;
    ngx_msec_t                         interval;
    ngx_log_t                         *log;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                          ident;

    ngx_event_t                        timer;
    ngx_uint_t                         dirty;      /* keys to be written */
    ngx_uint_t                         lost;       /* uses not noted */
    ngx_uint_t                         refused;    /* keys that Redis refused */

    uint16_t                           free;
    uint16_t                           buckets[NGX_HTTP_AGNTKEY_USAGE_KEYS];
    ngx_http_agntkey_use_t             uses[NGX_HTTP_AGNTKEY_USAGE_KEYS];
};


static uint16_t *ngx_http_agntkey_usage_find(ngx_http_agntkey_usage_t *usage,
    u_char *id);
static void ngx_http_agntkey_usage_arm(ngx_http_agntkey_usage_t *usage);
static void ngx_http_agntkey_usage_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_usage_on_exit(void *data);
static void ngx_http_agntkey_usage_write(ngx_http_agntkey_usage_t *usage);
static ngx_int_t ngx_http_agntkey_usage_send(ngx_http_agntkey_use_t *use);
static void ngx_http_agntkey_usage_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_usage_error(ngx_http_agntkey_use_t *use,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_usage_forget(ngx_http_agntkey_use_t *use);


ngx_http_agntkey_usage_t *
ngx_http_agntkey_usage_create(ngx_http_agntkey_redis_client_t *redis,
    ngx_msec_t interval, ngx_log_t *log)
{
    ngx_uint_t                                 i;
    ngx_http_agntkey_usage_t                  *usage;
    ngx_http_agntkey_redis_client_handlers_t   handlers;

    usage = ngx_calloc(sizeof(ngx_http_agntkey_usage_t), log);
    if (usage == NULL) {
        return NULL;
    }

    usage->redis = redis;
    usage->interval = interval;
    usage->log = log;
    usage->ident = -1;

    usage->timer.handler = ngx_http_agntkey_usage_timer_handler;
    usage->timer.data = usage;
    usage->timer.log = log;

    /* with longer pauses a worker's end is heard of by its connection only */

    usage->timer.cancelable = (interval > NGX_HTTP_AGNTKEY_USAGE_PATIENCE);

    for (i = 0; i < NGX_HTTP_AGNTKEY_USAGE_KEYS; i++) {
        usage->buckets[i] = NGX_HTTP_AGNTKEY_USAGE_NONE;
        usage->uses[i].usage = usage;
        usage->uses[i].next = (uint16_t) (i + 1);
    }

    ngx_memzero(&handlers, sizeof(handlers));
    handlers.exit = ngx_http_agntkey_usage_on_exit;

    ngx_http_agntkey_redis_client_listen(redis, &handlers, usage);

    return usage;
}


void
ngx_http_agntkey_usage_destroy(ngx_http_agntkey_usage_t *usage)
{
    if (usage->timer.timer_set) {
        ngx_del_timer(&usage->timer);
    }

    ngx_free(usage);
}


void
ngx_http_agntkey_usage_note(ngx_http_agntkey_usage_t *usage, u_char *id,
    ngx_str_t *workspace, int64_t now)
{
    uint16_t                *place;
    ngx_http_agntkey_use_t  *use;

    place = ngx_http_agntkey_usage_find(usage, id);

    if (*place == NGX_HTTP_AGNTKEY_USAGE_NONE) {

        if (usage->free == NGX_HTTP_AGNTKEY_USAGE_NONE) {
            usage->lost++;
            return;
        }

        *place = usage->free;
        use = &usage->uses[*place];

        usage->free = use->next;
        use->next = NGX_HTTP_AGNTKEY_USAGE_NONE;

        ngx_memcpy(use->id, id, NGX_HTTP_AGNTKEY_ID_LEN);
        ngx_memcpy(use->workspace, workspace->data, workspace->len);
        use->nworkspace = (u_char) workspace->len;

    } else {
        use = &usage->uses[*place];
    }

    use->at = now;

    if (!use->dirty) {
        use->dirty = 1;
        usage->dirty++;
    }

    if (!usage->timer.timer_set) {
        ngx_http_agntkey_usage_arm(usage);
    }
}


/* The place where the index of the key's entry stands, or would stand. */

static uint16_t *
ngx_http_agntkey_usage_find(ngx_http_agntkey_usage_t *usage, u_char *id)
{
    uint32_t   hash;
    uint16_t  *place;

    /* these are keys that Redis has, whose last digits are random */

    ngx_memcpy(&hash, id + NGX_HTTP_AGNTKEY_ID_LEN - sizeof(uint32_t),
               sizeof(uint32_t));

    hash *= 2654435761u;

    place = &usage->buckets[(hash >> 16) % NGX_HTTP_AGNTKEY_USAGE_KEYS];

    while (*place != NGX_HTTP_AGNTKEY_USAGE_NONE
           && ngx_memcmp(usage->uses[*place].id, id, NGX_HTTP_AGNTKEY_ID_LEN)
              != 0)
    {
        place = &usage->uses[*place].next;
    }

    return place;
}


static void
ngx_http_agntkey_usage_arm(ngx_http_agntkey_usage_t *usage)
{
    /* a worker that ends has no time to collect, but that much it has */

    if (ngx_exiting) {
        usage->timer.cancelable = 0;
        ngx_add_timer(&usage->timer, 1);
        return;
    }

    ngx_add_timer(&usage->timer, usage->interval);
}


static void
ngx_http_agntkey_usage_timer_handler(ngx_event_t *ev)
{
    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ev->log, 0, "agntkey usage timer");

    ngx_http_agntkey_usage_write(ev->data);
}


static void
ngx_http_agntkey_usage_on_exit(void *data)
{
    ngx_http_agntkey_usage_t  *usage = data;

    if (usage->timer.timer_set) {
        ngx_del_timer(&usage->timer);
    }

    ngx_http_agntkey_usage_write(usage);
}


/*
 * All commands leave in one write.  What cannot be sent stays, and is tried
 * at the next turn; a worker that ends does not wait for a Redis that is away.
 */

static void
ngx_http_agntkey_usage_write(ngx_http_agntkey_usage_t *usage)
{
    ngx_uint_t               i, left;
    ngx_http_agntkey_use_t  *use;

    left = usage->dirty;

    for (i = 0; left && i < NGX_HTTP_AGNTKEY_USAGE_KEYS; i++) {

        use = &usage->uses[i];

        if (!use->dirty) {
            continue;
        }

        left--;

        if (use->sent) {
            continue;
        }

        if (ngx_http_agntkey_usage_send(use) != NGX_OK) {
            break;
        }

        use->dirty = 0;
        use->sent = 1;
        usage->dirty--;
    }

    if (usage->dirty && !ngx_exiting) {
        ngx_http_agntkey_usage_arm(usage);
    }
}


static ngx_int_t
ngx_http_agntkey_usage_send(ngx_http_agntkey_use_t *use)
{
    u_char     key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    u_char     at[NGX_INT64_LEN];
    ngx_int_t  rc;
    ngx_str_t  workspace, argv[5], bytes;

    workspace.data = use->workspace;
    workspace.len = use->nworkspace;

    ngx_str_set(&argv[0], "ZADD");
    ngx_http_agntkey_keyspace_used(key, &argv[1], use->id, &workspace);
    ngx_str_set(&argv[2], "GT");
    argv[3].data = at;
    argv[3].len = ngx_sprintf(at, "%L", use->at) - at;
    argv[4].data = use->id;
    argv[4].len = NGX_HTTP_AGNTKEY_ID_LEN;

    if (ngx_http_agntkey_redis_resp_format(argv, 5, &bytes) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_agntkey_redis_client_ask(use->usage->redis, &bytes,
                                           ngx_http_agntkey_usage_handler, use);

    ngx_http_agntkey_redis_resp_format_free(&bytes);

    return rc;
}


static void
ngx_http_agntkey_usage_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_use_t    *use = data;
    ngx_http_agntkey_usage_t  *usage;

    usage = use->usage;

    use->sent = 0;

    if (rc == NGX_HTTP_AGNTKEY_REDIS_OK
        && reply->type == NGX_HTTP_AGNTKEY_RESP_INTEGER)
    {
        if (use->refused) {
            use->refused = 0;
            usage->refused--;
        }

        if (usage->lost) {
            ngx_log_error(NGX_LOG_WARN, usage->log, 0,
                          "agntkey: %ui uses of keys were not noted, "
                          "too many waited to be written", usage->lost);
            usage->lost = 0;
        }

        if (!use->dirty) {
            ngx_http_agntkey_usage_forget(use);
        }

    } else {

        if (rc == NGX_HTTP_AGNTKEY_REDIS_OK) {
            ngx_http_agntkey_usage_error(use, reply);
        }

        if (!use->dirty) {
            use->dirty = 1;
            usage->dirty++;
        }

        if (!usage->timer.timer_set && !ngx_exiting) {
            ngx_http_agntkey_usage_arm(usage);
        }
    }

    ngx_http_agntkey_redis_resp_free(reply);
}


/* once, until all that were refused have gone right again */

static void
ngx_http_agntkey_usage_error(ngx_http_agntkey_use_t *use,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char                     buf[128];
    ngx_str_t                  text;
    ngx_http_agntkey_usage_t  *usage;

    usage = use->usage;

    if (use->refused) {
        return;
    }

    use->refused = 1;

    if (usage->refused++) {
        return;
    }

    ngx_http_agntkey_redis_resp_describe(reply, buf, &text);

    ngx_log_error(NGX_LOG_ERR, usage->log, 0,
                  "agntkey: Redis answered ZADD agntkey:used: with: %V", &text);
}


static void
ngx_http_agntkey_usage_forget(ngx_http_agntkey_use_t *use)
{
    uint16_t                  *place;
    ngx_http_agntkey_usage_t  *usage;

    usage = use->usage;

    place = ngx_http_agntkey_usage_find(usage, use->id);

    *place = use->next;

    use->next = usage->free;
    usage->free = (uint16_t) (use - usage->uses);
}
