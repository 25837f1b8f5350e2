
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_fetch.h"
#include "ngx_http_agntkey_keyspace.h"


/*
 * Which workspace a key is in never changes, so a worker that has met a key
 * can ask for both records at once.  One hint takes about 200 bytes; keys
 * that share a place push each other out, and then take two trips.
 */
#define NGX_HTTP_AGNTKEY_HINTS        1024

#define NGX_HTTP_AGNTKEY_WS_KEY_MAX                                           \
    (sizeof(NGX_HTTP_AGNTKEY_NAME_WORKSPACE "{}")                            \
     + NGX_HTTP_AGNTKEY_TAG_LEN + NGX_HTTP_AGNTKEY_WORKSPACE_MAX)

/* "*3 $4 HGET $90 <key> $6 active", with a CR LF after each */
#define NGX_HTTP_AGNTKEY_HGET_MAX     (NGX_HTTP_AGNTKEY_WS_KEY_MAX + 40)

/* the least time between two lines of one kind, ms */
#define NGX_HTTP_AGNTKEY_LOG_PAUSE    1000


typedef struct {
    u_char                             id[NGX_HTTP_AGNTKEY_ID_LEN];
    u_char                             nworkspace;
    u_char                             nbytes;
    u_char                             workspace[
                                            NGX_HTTP_AGNTKEY_WORKSPACE_MAX];
    u_char                             bytes[NGX_HTTP_AGNTKEY_HGET_MAX];
} ngx_http_agntkey_hint_t;


/* what goes wrong in Redis is said once, until it has gone right again */

typedef struct {
    const char                        *name;
    ngx_msec_t                         logged;
    unsigned                           failing:1;
} ngx_http_agntkey_fetch_fault_t;


/* owner of the hints and the command */

struct ngx_http_agntkey_fetcher_s {
    ngx_http_agntkey_redis_client_t     *redis;
    ngx_http_agntkey_fence_t            *fence;
    ngx_http_agntkey_fetch_handlers_t    handlers;
    ngx_log_t                           *log;

    ngx_http_agntkey_hint_t             *hints;
    ngx_str_t                            command;     /* HMGET of slot's id */
    u_char                              *slot;

    ngx_http_agntkey_fetch_fault_t       key;
    ngx_http_agntkey_fetch_fault_t       workspace;
    ngx_http_agntkey_fetch_fault_t       record;
};


static ngx_int_t ngx_http_agntkey_fetcher_init(
    ngx_http_agntkey_fetcher_t *fetcher);
static ngx_int_t ngx_http_agntkey_fetch_send(
    ngx_http_agntkey_fetch_t *fetch);
static ngx_int_t ngx_http_agntkey_fetch_workspace(
    ngx_http_agntkey_fetch_t *fetch, ngx_http_agntkey_hint_t *hint);
static void ngx_http_agntkey_fetch_key_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_fetch_workspace_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_fetch_workspace_parse(
    ngx_http_agntkey_fetch_t *fetch, ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_fetch_parse(
    ngx_http_agntkey_fetch_t *fetch, ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_fetch_corrupt(
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_fetch_lost(ngx_http_agntkey_fetch_t *fetch,
    ngx_http_agntkey_redis_e rc);
static void ngx_http_agntkey_fetch_fenced(ngx_http_agntkey_fetch_t *fetch);
static void ngx_http_agntkey_fetch_conclude(
    ngx_http_agntkey_fetch_t *fetch);
static void ngx_http_agntkey_fetch_done(ngx_http_agntkey_fetch_t *fetch,
    ngx_int_t rc);
static ngx_http_agntkey_hint_t *ngx_http_agntkey_fetch_hint(
    ngx_http_agntkey_fetcher_t *fetcher, u_char *id);
static ngx_int_t ngx_http_agntkey_fetch_set_hint(
    ngx_http_agntkey_hint_t *hint, u_char *id, ngx_str_t *workspace);
static void ngx_http_agntkey_fetch_error(
    ngx_http_agntkey_fetcher_t *fetcher, ngx_http_agntkey_fetch_fault_t *fault,
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_fetch_muted(
    ngx_http_agntkey_fetch_fault_t *fault);


ngx_http_agntkey_fetcher_t *
ngx_http_agntkey_fetcher_create(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_fence_t *fence,
    ngx_http_agntkey_fetch_handlers_t *handlers, ngx_log_t *log)
{
    ngx_http_agntkey_fetcher_t  *fetcher;

    fetcher = ngx_calloc(sizeof(ngx_http_agntkey_fetcher_t), log);
    if (fetcher == NULL) {
        return NULL;
    }

    fetcher->redis = redis;
    fetcher->fence = fence;
    fetcher->handlers = *handlers;
    fetcher->log = log;
    fetcher->key.name = "HMGET agntkey:key:";
    fetcher->workspace.name = "HGET agntkey:workspace:";
    fetcher->record.name = "record";

    fetcher->hints = ngx_calloc(NGX_HTTP_AGNTKEY_HINTS
                                * sizeof(ngx_http_agntkey_hint_t), log);

    if (fetcher->hints == NULL
        || ngx_http_agntkey_fetcher_init(fetcher) != NGX_OK)
    {
        ngx_http_agntkey_fetcher_destroy(fetcher);
        return NULL;
    }

    return fetcher;
}


void
ngx_http_agntkey_fetcher_destroy(ngx_http_agntkey_fetcher_t *fetcher)
{
    if (fetcher->command.data) {
        ngx_http_agntkey_redis_resp_format_free(&fetcher->command);
    }

    if (fetcher->hints) {
        ngx_free(fetcher->hints);
    }

    ngx_free(fetcher);
}


ngx_int_t
ngx_http_agntkey_fetch_start(ngx_http_agntkey_fetcher_t *fetcher,
    ngx_http_agntkey_fetch_t *fetch)
{
    fetch->fetcher = fetcher;

    return ngx_http_agntkey_fetch_send(fetch);
}


/*
 * The command of a look-up differs from key to key in 12 bytes that stand at
 * the same place, so it is made once.
 */

static ngx_int_t
ngx_http_agntkey_fetcher_init(ngx_http_agntkey_fetcher_t *fetcher)
{
    ngx_uint_t  i;
    ngx_str_t   argv[2 + NGX_HTTP_AGNTKEY_FIELDS];

    ngx_str_set(&argv[0], "HMGET");
    ngx_str_set(&argv[1],
                NGX_HTTP_AGNTKEY_NAME_KEY NGX_HTTP_AGNTKEY_FETCH_SLOT);

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {
        argv[2 + i] = ngx_http_agntkey_record_fields[i];
    }

    if (ngx_http_agntkey_redis_resp_format(argv, 2 + NGX_HTTP_AGNTKEY_FIELDS,
                                           &fetcher->command)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    fetcher->slot = ngx_strnstr(fetcher->command.data,
                                NGX_HTTP_AGNTKEY_FETCH_SLOT,
                                fetcher->command.len);

    return fetcher->slot ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_agntkey_fetch_send(ngx_http_agntkey_fetch_t *fetch)
{
    u_char                      *p;
    ngx_http_agntkey_hint_t     *hint;
    ngx_http_agntkey_fetcher_t  *fetcher;

    fetcher = fetch->fetcher;

    if (ngx_http_agntkey_fence_ask(fetcher->fence) != NGX_OK) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(fetcher->slot + 1, fetch->id, NGX_HTTP_AGNTKEY_TAG_LEN);
    ngx_memcpy(p + 1, fetch->id + NGX_HTTP_AGNTKEY_TAG_LEN,
               NGX_HTTP_AGNTKEY_ID_LEN - NGX_HTTP_AGNTKEY_TAG_LEN);

    if (ngx_http_agntkey_redis_client_ask(fetcher->redis, &fetcher->command,
                                          ngx_http_agntkey_fetch_key_handler,
                                          fetch)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    fetch->waiting = 1;

    fetcher->handlers.key_asked(fetch->data);

    hint = ngx_http_agntkey_fetch_hint(fetcher, fetch->id);

    if (ngx_memcmp(hint->id, fetch->id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {

        /* if this one does not get out, it is asked for later */

        (void) ngx_http_agntkey_fetch_workspace(fetch, hint);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_fetch_workspace(ngx_http_agntkey_fetch_t *fetch,
    ngx_http_agntkey_hint_t *hint)
{
    ngx_str_t  bytes, name;

    bytes.data = hint->bytes;
    bytes.len = hint->nbytes;

    if (ngx_http_agntkey_redis_client_ask(fetch->fetcher->redis, &bytes,
                                       ngx_http_agntkey_fetch_workspace_handler,
                                       fetch)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_memcpy(fetch->workspace, hint->workspace, hint->nworkspace);
    fetch->nworkspace = hint->nworkspace;
    fetch->waiting++;

    name.data = fetch->workspace;
    name.len = fetch->nworkspace;

    fetch->fetcher->handlers.workspace_asked(fetch->data, &name);

    return NGX_OK;
}


static void
ngx_http_agntkey_fetch_key_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_fetch_t  *fetch = data;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, fetch->fetcher->log, 0,
                   "agntkey fetch of %*s: the key, %d",
                   (size_t) NGX_HTTP_AGNTKEY_ID_LEN, fetch->id, rc);

    fetch->waiting--;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        ngx_http_agntkey_fetch_lost(fetch, rc);

    } else {
        ngx_http_agntkey_fetch_fenced(fetch);

        fetch->reply = reply;
        fetch->rc = ngx_http_agntkey_fetch_parse(fetch, reply);

        if (fetch->rc == NGX_ERROR || fetch->rc == NGX_ABORT) {
            fetch->failed = 1;
        }

        if (fetch->rc != NGX_ERROR) {
            fetch->fetcher->handlers.key_read(fetch->data,
                                              fetch->rc == NGX_OK
                                              ? &fetch->key : NULL);
        }
    }

    ngx_http_agntkey_fetch_conclude(fetch);
}


static void
ngx_http_agntkey_fetch_workspace_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_int_t                  parsed;
    ngx_str_t                  name;
    ngx_http_agntkey_fetch_t  *fetch = data;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, fetch->fetcher->log, 0,
                   "agntkey fetch of %*s: the workspace, %d",
                   (size_t) NGX_HTTP_AGNTKEY_ID_LEN, fetch->id, rc);

    fetch->waiting--;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        ngx_http_agntkey_fetch_lost(fetch, rc);
        ngx_http_agntkey_fetch_conclude(fetch);
        return;
    }

    ngx_http_agntkey_fetch_fenced(fetch);

    parsed = ngx_http_agntkey_fetch_workspace_parse(fetch, reply);

    if (parsed != NGX_OK) {
        fetch->failed = 1;
    }

    if (parsed != NGX_ERROR) {
        name.data = fetch->workspace;
        name.len = fetch->nworkspace;

        fetch->fetcher->handlers.workspace_read(fetch->data, &name,
                                                fetch->workspace_active);
    }

    ngx_http_agntkey_redis_resp_free(reply);

    ngx_http_agntkey_fetch_conclude(fetch);
}


/* Sets workspace_active.  Returns NGX_OK, NGX_ERROR or NGX_ABORT as below. */

static ngx_int_t
ngx_http_agntkey_fetch_workspace_parse(ngx_http_agntkey_fetch_t *fetch,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_fetch_fault_t  *fault;

    fault = &fetch->fetcher->workspace;

    fetch->workspace_active = 0;

    switch (reply->type) {

    case NGX_HTTP_AGNTKEY_RESP_STRING:
        fetch->workspace_active = reply->str.len == 1
                                   && reply->str.data[0] == '1';
        break;

    case NGX_HTTP_AGNTKEY_RESP_NIL:
        break;

    default:
        ngx_http_agntkey_fetch_error(fetch->fetcher, fault, reply);
        return ngx_http_agntkey_fetch_corrupt(reply);
    }

    fault->failing = 0;

    return NGX_OK;
}


/*
 * NGX_OK and NGX_DECLINED as for ngx_http_agntkey_record_parse(), NGX_ABORT
 * for its NGX_ERROR and for a reply that is no array of as many strings as were
 * asked for.  NGX_ERROR: an error reply that says nothing of the record.
 */

static ngx_int_t
ngx_http_agntkey_fetch_parse(ngx_http_agntkey_fetch_t *fetch,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_str_t                         fields[NGX_HTTP_AGNTKEY_FIELDS];
    ngx_int_t                         rc;
    ngx_uint_t                        i, bad;
    ngx_http_agntkey_redis_reply_t  **elts;
    ngx_http_agntkey_fetcher_t       *fetcher;

    fetcher = fetch->fetcher;

    if (reply->large) {

        if (!ngx_http_agntkey_fetch_muted(&fetcher->record)) {
            ngx_log_error(NGX_LOG_ERR, fetcher->log, 0,
                          "agntkey: the record of key \"%*s\" in Redis "
                          "is too large",
                          (size_t) NGX_HTTP_AGNTKEY_ID_LEN, fetch->id);
        }

        return NGX_ABORT;
    }

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY
        || reply->nelts != NGX_HTTP_AGNTKEY_FIELDS)
    {
        ngx_http_agntkey_fetch_error(fetcher, &fetcher->key, reply);
        return ngx_http_agntkey_fetch_corrupt(reply);
    }

    elts = reply->elts;

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {

        if (elts[i]->type == NGX_HTTP_AGNTKEY_RESP_NIL) {
            ngx_str_null(&fields[i]);

        } else if (elts[i]->type == NGX_HTTP_AGNTKEY_RESP_STRING) {
            fields[i] = elts[i]->str;

        } else {
            ngx_http_agntkey_fetch_error(fetcher, &fetcher->key, elts[i]);
            return ngx_http_agntkey_fetch_corrupt(reply);
        }
    }

    fetcher->key.failing = 0;

    rc = ngx_http_agntkey_record_parse(fields, &fetch->key, &bad);

    if (rc == NGX_ERROR) {
        rc = NGX_ABORT;
    }

    if (rc == NGX_ABORT && !ngx_http_agntkey_fetch_muted(&fetcher->record)) {
        ngx_log_error(NGX_LOG_ERR, fetcher->log, 0,
                      "agntkey: the record of key \"%*s\" in Redis "
                      "has a bad field \"%V\"",
                      (size_t) NGX_HTTP_AGNTKEY_ID_LEN, fetch->id,
                      &ngx_http_agntkey_record_fields[bad]);
    }

    if (rc == NGX_OK) {
        fetcher->record.failing = 0;
    }

    return rc;
}


/*
 * A reply that is not what was asked for.  NGX_ERROR: Redis does not answer,
 * and what it holds is not known.  NGX_ABORT: it holds something else than a
 * record (redis.io/docs/latest/develop/reference/protocol-spec).
 */

static ngx_int_t
ngx_http_agntkey_fetch_corrupt(ngx_http_agntkey_redis_reply_t *reply)
{
    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ERROR || reply->large) {
        return NGX_ABORT;
    }

    return (reply->str.len > 10
            && ngx_strncmp(reply->str.data, "WRONGTYPE ", 10) == 0)
           ? NGX_ABORT : NGX_ERROR;
}


static void
ngx_http_agntkey_fetch_lost(ngx_http_agntkey_fetch_t *fetch,
    ngx_http_agntkey_redis_e rc)
{
    fetch->failed = 1;

    if (rc == NGX_HTTP_AGNTKEY_REDIS_LOST) {
        fetch->lost = 1;
    }
}


/* What a server says that may not be the primary does not count. */

static void
ngx_http_agntkey_fetch_fenced(ngx_http_agntkey_fetch_t *fetch)
{
    if (!ngx_http_agntkey_fence_open(fetch->fetcher->fence)) {
        fetch->failed = 1;
    }
}


/* All that was asked for is here; is it enough? */

static void
ngx_http_agntkey_fetch_conclude(ngx_http_agntkey_fetch_t *fetch)
{
    ngx_str_t                   *workspace;
    ngx_http_agntkey_hint_t     *hint;
    ngx_http_agntkey_fetcher_t  *fetcher;

    if (fetch->waiting) {
        return;
    }

    fetcher = fetch->fetcher;

    if (fetch->lost && !fetch->again
        && fetcher->handlers.has_waiters(fetch->data))
    {
        /* reading twice harms nobody, and idle connections do get cut */

        fetch->again = 1;
        fetch->lost = 0;
        fetch->failed = 0;
        fetch->rc = NGX_OK;
        fetch->nworkspace = 0;

        ngx_http_agntkey_redis_resp_free(fetch->reply);
        fetch->reply = NULL;

        if (ngx_http_agntkey_fetch_send(fetch) != NGX_OK) {
            ngx_http_agntkey_fetch_done(fetch, NGX_ERROR);
        }

        return;
    }

    if (fetch->failed) {
        ngx_http_agntkey_fetch_done(fetch, fetch->rc == NGX_ABORT
                                             ? NGX_ABORT : NGX_ERROR);
        return;
    }

    if (fetch->rc == NGX_DECLINED) {
        ngx_http_agntkey_fetch_done(fetch, NGX_DECLINED);
        return;
    }

    workspace = &fetch->key.workspace;

    if (fetch->nworkspace == workspace->len
        && ngx_memcmp(fetch->workspace, workspace->data, workspace->len) == 0)
    {
        ngx_http_agntkey_fetch_done(fetch, NGX_OK);
        return;
    }

    hint = ngx_http_agntkey_fetch_hint(fetcher, fetch->id);

    if (!fetcher->handlers.has_waiters(fetch->data)
        || ngx_http_agntkey_fetch_set_hint(hint, fetch->id, workspace)
           != NGX_OK
        || ngx_http_agntkey_fetch_workspace(fetch, hint) != NGX_OK)
    {
        ngx_http_agntkey_fetch_done(fetch, NGX_ERROR);
    }
}


static void
ngx_http_agntkey_fetch_done(ngx_http_agntkey_fetch_t *fetch, ngx_int_t rc)
{
    ngx_http_agntkey_redis_reply_t  *reply;

    reply = fetch->reply;

    fetch->fetcher->handlers.done(fetch->data, rc);

    ngx_http_agntkey_redis_resp_free(reply);
}


/* The place of a key's hint; it may hold that of another key. */

static ngx_http_agntkey_hint_t *
ngx_http_agntkey_fetch_hint(ngx_http_agntkey_fetcher_t *fetcher, u_char *id)
{
    return &fetcher->hints[ngx_crc32_short(id, NGX_HTTP_AGNTKEY_ID_LEN)
                           % NGX_HTTP_AGNTKEY_HINTS];
}


static ngx_int_t
ngx_http_agntkey_fetch_set_hint(ngx_http_agntkey_hint_t *hint, u_char *id,
    ngx_str_t *workspace)
{
    u_char     key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    ngx_int_t  rc;
    ngx_str_t  argv[3], bytes;

    ngx_str_set(&argv[0], "HGET");
    ngx_http_agntkey_keyspace_workspace(key, &argv[1], id, workspace);
    ngx_str_set(&argv[2], "active");

    if (ngx_http_agntkey_redis_resp_format(argv, 3, &bytes) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = NGX_ERROR;

    if (bytes.len <= NGX_HTTP_AGNTKEY_HGET_MAX) {
        ngx_memcpy(hint->id, id, NGX_HTTP_AGNTKEY_ID_LEN);

        ngx_memcpy(hint->workspace, workspace->data, workspace->len);
        hint->nworkspace = (u_char) workspace->len;

        ngx_memcpy(hint->bytes, bytes.data, bytes.len);
        hint->nbytes = (u_char) bytes.len;

        rc = NGX_OK;
    }

    ngx_http_agntkey_redis_resp_format_free(&bytes);

    return rc;
}


static void
ngx_http_agntkey_fetch_error(ngx_http_agntkey_fetcher_t *fetcher,
    ngx_http_agntkey_fetch_fault_t *fault,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char     buf[128];
    ngx_str_t  text;

    if (ngx_http_agntkey_fetch_muted(fault)) {
        return;
    }

    ngx_http_agntkey_redis_resp_describe(reply, buf, &text);

    ngx_log_error(NGX_LOG_ERR, fetcher->log, 0,
                  "agntkey: Redis answered %s with: %V",
                  fault->name, &text);
}


/* A line when it begins, but never one for each of many requests. */

static ngx_uint_t
ngx_http_agntkey_fetch_muted(ngx_http_agntkey_fetch_fault_t *fault)
{
    if (fault->failing
        || (fault->logged
            && ngx_current_msec - fault->logged
               < NGX_HTTP_AGNTKEY_LOG_PAUSE))
    {
        return 1;
    }

    fault->failing = 1;
    fault->logged = ngx_current_msec;

    return 0;
}
