
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_lookup.h"


/*
 * Which workspace a key is in never changes, so a worker that has met a key
 * can ask for both records at once.  One hint takes about 200 bytes; keys
 * that share a place push each other out, and then take two trips.
 */
#define NGX_HTTP_AGNTKEY_HINTS        1024

#define NGX_HTTP_AGNTKEY_WS_KEY_MAX                                           \
    (sizeof(NGX_HTTP_AGNTKEY_LOOKUP_WORKSPACE "{}")                           \
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
} ngx_http_agntkey_trouble_t;


/* owner of the hints and the command */

struct ngx_http_agntkey_lookups_s {
    ngx_http_agntkey_redis_t             *redis;
    ngx_http_agntkey_fence_t             *fence;
    ngx_http_agntkey_lookup_handlers_t    handlers;
    ngx_log_t                            *log;

    ngx_http_agntkey_hint_t              *hints;
    ngx_str_t                             command;    /* HMGET of slot's id */
    u_char                               *slot;

    ngx_http_agntkey_trouble_t            key;
    ngx_http_agntkey_trouble_t            workspace;
    ngx_http_agntkey_trouble_t            record;
};


static ngx_int_t ngx_http_agntkey_lookups_init(
    ngx_http_agntkey_lookups_t *lookups);
static ngx_int_t ngx_http_agntkey_lookup_send(
    ngx_http_agntkey_lookup_t *lookup);
static ngx_int_t ngx_http_agntkey_lookup_workspace(
    ngx_http_agntkey_lookup_t *lookup, ngx_http_agntkey_hint_t *hint);
static void ngx_http_agntkey_lookup_key_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_lookup_workspace_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static ngx_int_t ngx_http_agntkey_lookup_workspace_parse(
    ngx_http_agntkey_lookup_t *lookup, ngx_http_agntkey_reply_t *reply);
static ngx_int_t ngx_http_agntkey_lookup_parse(
    ngx_http_agntkey_lookup_t *lookup, ngx_http_agntkey_reply_t *reply);
static ngx_int_t ngx_http_agntkey_lookup_odd(ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_lookup_lost(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_redis_e rc);
static void ngx_http_agntkey_lookup_fenced(ngx_http_agntkey_lookup_t *lookup);
static void ngx_http_agntkey_lookup_conclude(
    ngx_http_agntkey_lookup_t *lookup);
static void ngx_http_agntkey_lookup_done(ngx_http_agntkey_lookup_t *lookup,
    ngx_int_t rc);
static ngx_http_agntkey_hint_t *ngx_http_agntkey_lookup_hint(
    ngx_http_agntkey_lookups_t *lookups, u_char *id);
static ngx_int_t ngx_http_agntkey_lookup_set_hint(
    ngx_http_agntkey_hint_t *hint, u_char *id, ngx_str_t *workspace);
static void ngx_http_agntkey_lookup_trouble(
    ngx_http_agntkey_lookups_t *lookups, ngx_http_agntkey_trouble_t *trouble,
    ngx_http_agntkey_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_lookup_muted(
    ngx_http_agntkey_trouble_t *trouble);


ngx_http_agntkey_lookups_t *
ngx_http_agntkey_lookups_create(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_fence_t *fence,
    ngx_http_agntkey_lookup_handlers_t *handlers, ngx_log_t *log)
{
    ngx_http_agntkey_lookups_t  *lookups;

    lookups = ngx_calloc(sizeof(ngx_http_agntkey_lookups_t), log);
    if (lookups == NULL) {
        return NULL;
    }

    lookups->redis = redis;
    lookups->fence = fence;
    lookups->handlers = *handlers;
    lookups->log = log;
    lookups->key.name = "HMGET agntkey:key:";
    lookups->workspace.name = "HGET agntkey:workspace:";
    lookups->record.name = "record";

    lookups->hints = ngx_calloc(NGX_HTTP_AGNTKEY_HINTS
                                * sizeof(ngx_http_agntkey_hint_t), log);

    if (lookups->hints == NULL
        || ngx_http_agntkey_lookups_init(lookups) != NGX_OK)
    {
        ngx_http_agntkey_lookups_destroy(lookups);
        return NULL;
    }

    return lookups;
}


void
ngx_http_agntkey_lookups_destroy(ngx_http_agntkey_lookups_t *lookups)
{
    if (lookups->command.data) {
        ngx_http_agntkey_resp_format_free(&lookups->command);
    }

    if (lookups->hints) {
        ngx_free(lookups->hints);
    }

    ngx_free(lookups);
}


ngx_int_t
ngx_http_agntkey_lookup_start(ngx_http_agntkey_lookups_t *lookups,
    ngx_http_agntkey_lookup_t *lookup)
{
    lookup->lookups = lookups;

    return ngx_http_agntkey_lookup_send(lookup);
}


/*
 * The command of a look-up differs from key to key in 12 bytes that stand at
 * the same place, so it is made once.
 */

static ngx_int_t
ngx_http_agntkey_lookups_init(ngx_http_agntkey_lookups_t *lookups)
{
    ngx_uint_t  i;
    ngx_str_t   argv[2 + NGX_HTTP_AGNTKEY_FIELDS];

    ngx_str_set(&argv[0], "HMGET");
    ngx_str_set(&argv[1],
                NGX_HTTP_AGNTKEY_LOOKUP_KEY NGX_HTTP_AGNTKEY_LOOKUP_SLOT);

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {
        argv[2 + i] = ngx_http_agntkey_record_fields[i];
    }

    if (ngx_http_agntkey_resp_format(argv, 2 + NGX_HTTP_AGNTKEY_FIELDS,
                                     &lookups->command)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    lookups->slot = ngx_strnstr(lookups->command.data,
                                NGX_HTTP_AGNTKEY_LOOKUP_SLOT,
                                lookups->command.len);

    return lookups->slot ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_agntkey_lookup_send(ngx_http_agntkey_lookup_t *lookup)
{
    u_char                      *p;
    ngx_http_agntkey_hint_t     *hint;
    ngx_http_agntkey_lookups_t  *lookups;

    lookups = lookup->lookups;

    if (ngx_http_agntkey_fence_ask(lookups->fence) != NGX_OK) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(lookups->slot + 1, lookup->id, NGX_HTTP_AGNTKEY_TAG_LEN);
    ngx_memcpy(p + 1, lookup->id + NGX_HTTP_AGNTKEY_TAG_LEN,
               NGX_HTTP_AGNTKEY_ID_LEN - NGX_HTTP_AGNTKEY_TAG_LEN);

    if (ngx_http_agntkey_redis_ask(lookups->redis, &lookups->command,
                                   ngx_http_agntkey_lookup_key_handler,
                                   lookup)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    lookup->waiting = 1;

    lookups->handlers.key_asked(lookup->data);

    hint = ngx_http_agntkey_lookup_hint(lookups, lookup->id);

    if (ngx_memcmp(hint->id, lookup->id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {

        /* if this one does not get out, it is asked for later */

        (void) ngx_http_agntkey_lookup_workspace(lookup, hint);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_lookup_workspace(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_hint_t *hint)
{
    ngx_str_t  bytes, name;

    bytes.data = hint->bytes;
    bytes.len = hint->nbytes;

    if (ngx_http_agntkey_redis_ask(lookup->lookups->redis, &bytes,
                                   ngx_http_agntkey_lookup_workspace_handler,
                                   lookup)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_memcpy(lookup->workspace, hint->workspace, hint->nworkspace);
    lookup->nworkspace = hint->nworkspace;
    lookup->waiting++;

    name.data = lookup->workspace;
    name.len = lookup->nworkspace;

    lookup->lookups->handlers.workspace_asked(lookup->data, &name);

    return NGX_OK;
}


static void
ngx_http_agntkey_lookup_key_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_lookup_t  *lookup = data;

    lookup->waiting--;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        ngx_http_agntkey_lookup_lost(lookup, rc);

    } else {
        ngx_http_agntkey_lookup_fenced(lookup);

        lookup->reply = reply;
        lookup->rc = ngx_http_agntkey_lookup_parse(lookup, reply);

        if (lookup->rc == NGX_ERROR || lookup->rc == NGX_ABORT) {
            lookup->failed = 1;
        }

        if (lookup->rc != NGX_ERROR) {
            lookup->lookups->handlers.key_read(lookup->data,
                                               lookup->rc == NGX_OK
                                               ? &lookup->key : NULL);
        }
    }

    ngx_http_agntkey_lookup_conclude(lookup);
}


static void
ngx_http_agntkey_lookup_workspace_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply)
{
    ngx_int_t                   parsed;
    ngx_str_t                   name;
    ngx_http_agntkey_lookup_t  *lookup = data;

    lookup->waiting--;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        ngx_http_agntkey_lookup_lost(lookup, rc);
        ngx_http_agntkey_lookup_conclude(lookup);
        return;
    }

    ngx_http_agntkey_lookup_fenced(lookup);

    parsed = ngx_http_agntkey_lookup_workspace_parse(lookup, reply);

    if (parsed != NGX_OK) {
        lookup->failed = 1;
    }

    if (parsed != NGX_ERROR) {
        name.data = lookup->workspace;
        name.len = lookup->nworkspace;

        lookup->lookups->handlers.workspace_read(lookup->data, &name,
                                                 lookup->workspace_active);
    }

    ngx_http_agntkey_resp_free(reply);

    ngx_http_agntkey_lookup_conclude(lookup);
}


/* Sets workspace_active.  Returns NGX_OK, NGX_ERROR or NGX_ABORT as below. */

static ngx_int_t
ngx_http_agntkey_lookup_workspace_parse(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_trouble_t  *trouble;

    trouble = &lookup->lookups->workspace;

    lookup->workspace_active = 0;

    switch (reply->type) {

    case NGX_HTTP_AGNTKEY_RESP_STRING:
        lookup->workspace_active = reply->str.len == 1
                                   && reply->str.data[0] == '1';
        break;

    case NGX_HTTP_AGNTKEY_RESP_NIL:
        break;

    default:
        ngx_http_agntkey_lookup_trouble(lookup->lookups, trouble, reply);
        return ngx_http_agntkey_lookup_odd(reply);
    }

    trouble->failing = 0;

    return NGX_OK;
}


/*
 * NGX_OK and NGX_DECLINED as for ngx_http_agntkey_record_parse(), NGX_ABORT
 * for its NGX_ERROR and for a reply that is no array of as many strings as were
 * asked for.  NGX_ERROR: an error reply that says nothing of the record.
 */

static ngx_int_t
ngx_http_agntkey_lookup_parse(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_str_t                     fields[NGX_HTTP_AGNTKEY_FIELDS];
    ngx_int_t                     rc;
    ngx_uint_t                    i, bad;
    ngx_http_agntkey_reply_t    **elts;
    ngx_http_agntkey_lookups_t   *lookups;

    lookups = lookup->lookups;

    if (reply->large) {

        if (!ngx_http_agntkey_lookup_muted(&lookups->record)) {
            ngx_log_error(NGX_LOG_ERR, lookups->log, 0,
                          "agntkey: the record of key \"%*s\" in Redis "
                          "is too large",
                          (size_t) NGX_HTTP_AGNTKEY_ID_LEN, lookup->id);
        }

        return NGX_ABORT;
    }

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY
        || reply->nelts != NGX_HTTP_AGNTKEY_FIELDS)
    {
        ngx_http_agntkey_lookup_trouble(lookups, &lookups->key, reply);
        return ngx_http_agntkey_lookup_odd(reply);
    }

    elts = reply->elts;

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {

        if (elts[i]->type == NGX_HTTP_AGNTKEY_RESP_NIL) {
            ngx_str_null(&fields[i]);

        } else if (elts[i]->type == NGX_HTTP_AGNTKEY_RESP_STRING) {
            fields[i] = elts[i]->str;

        } else {
            ngx_http_agntkey_lookup_trouble(lookups, &lookups->key, elts[i]);
            return ngx_http_agntkey_lookup_odd(reply);
        }
    }

    lookups->key.failing = 0;

    rc = ngx_http_agntkey_record_parse(fields, &lookup->key, &bad);

    if (rc == NGX_ERROR) {
        rc = NGX_ABORT;
    }

    if (rc == NGX_ABORT && !ngx_http_agntkey_lookup_muted(&lookups->record)) {
        ngx_log_error(NGX_LOG_ERR, lookups->log, 0,
                      "agntkey: the record of key \"%*s\" in Redis "
                      "has a bad field \"%V\"",
                      (size_t) NGX_HTTP_AGNTKEY_ID_LEN, lookup->id,
                      &ngx_http_agntkey_record_fields[bad]);
    }

    if (rc == NGX_OK) {
        lookups->record.failing = 0;
    }

    return rc;
}


/*
 * A reply that is not what was asked for.  NGX_ERROR: Redis does not answer,
 * and what it holds is not known.  NGX_ABORT: it holds something else than a
 * record (redis.io/docs/latest/develop/reference/protocol-spec).
 */

static ngx_int_t
ngx_http_agntkey_lookup_odd(ngx_http_agntkey_reply_t *reply)
{
    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ERROR || reply->large) {
        return NGX_ABORT;
    }

    return (reply->str.len > 10
            && ngx_strncmp(reply->str.data, "WRONGTYPE ", 10) == 0)
           ? NGX_ABORT : NGX_ERROR;
}


static void
ngx_http_agntkey_lookup_lost(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_redis_e rc)
{
    lookup->failed = 1;

    if (rc == NGX_HTTP_AGNTKEY_REDIS_LOST) {
        lookup->lost = 1;
    }
}


/* What a server says that may not be the primary does not count. */

static void
ngx_http_agntkey_lookup_fenced(ngx_http_agntkey_lookup_t *lookup)
{
    if (!ngx_http_agntkey_fence_open(lookup->lookups->fence)) {
        lookup->failed = 1;
    }
}


/* All that was asked for is here; is it enough? */

static void
ngx_http_agntkey_lookup_conclude(ngx_http_agntkey_lookup_t *lookup)
{
    ngx_str_t                   *workspace;
    ngx_http_agntkey_hint_t     *hint;
    ngx_http_agntkey_lookups_t  *lookups;

    if (lookup->waiting) {
        return;
    }

    lookups = lookup->lookups;

    if (lookup->lost && !lookup->again
        && lookups->handlers.wanted(lookup->data))
    {
        /* reading twice harms nobody, and idle connections do get cut */

        lookup->again = 1;
        lookup->lost = 0;
        lookup->failed = 0;
        lookup->rc = NGX_OK;
        lookup->nworkspace = 0;

        ngx_http_agntkey_resp_free(lookup->reply);
        lookup->reply = NULL;

        if (ngx_http_agntkey_lookup_send(lookup) != NGX_OK) {
            ngx_http_agntkey_lookup_done(lookup, NGX_ERROR);
        }

        return;
    }

    if (lookup->failed) {
        ngx_http_agntkey_lookup_done(lookup, lookup->rc == NGX_ABORT
                                             ? NGX_ABORT : NGX_ERROR);
        return;
    }

    if (lookup->rc == NGX_DECLINED) {
        ngx_http_agntkey_lookup_done(lookup, NGX_DECLINED);
        return;
    }

    workspace = &lookup->key.workspace;

    if (lookup->nworkspace == workspace->len
        && ngx_memcmp(lookup->workspace, workspace->data, workspace->len) == 0)
    {
        ngx_http_agntkey_lookup_done(lookup, NGX_OK);
        return;
    }

    hint = ngx_http_agntkey_lookup_hint(lookups, lookup->id);

    if (!lookups->handlers.wanted(lookup->data)
        || ngx_http_agntkey_lookup_set_hint(hint, lookup->id, workspace)
           != NGX_OK
        || ngx_http_agntkey_lookup_workspace(lookup, hint) != NGX_OK)
    {
        ngx_http_agntkey_lookup_done(lookup, NGX_ERROR);
    }
}


static void
ngx_http_agntkey_lookup_done(ngx_http_agntkey_lookup_t *lookup, ngx_int_t rc)
{
    ngx_http_agntkey_reply_t  *reply;

    reply = lookup->reply;

    lookup->lookups->handlers.done(lookup->data, rc);

    ngx_http_agntkey_resp_free(reply);
}


/* The place of a key's hint; it may hold that of another key. */

static ngx_http_agntkey_hint_t *
ngx_http_agntkey_lookup_hint(ngx_http_agntkey_lookups_t *lookups, u_char *id)
{
    return &lookups->hints[ngx_crc32_short(id, NGX_HTTP_AGNTKEY_ID_LEN)
                           % NGX_HTTP_AGNTKEY_HINTS];
}


static ngx_int_t
ngx_http_agntkey_lookup_set_hint(ngx_http_agntkey_hint_t *hint, u_char *id,
    ngx_str_t *workspace)
{
    u_char     *p, key[NGX_HTTP_AGNTKEY_WS_KEY_MAX];
    ngx_int_t   rc;
    ngx_str_t   argv[3], bytes;

    p = ngx_cpymem(key, NGX_HTTP_AGNTKEY_LOOKUP_WORKSPACE "{",
                   sizeof(NGX_HTTP_AGNTKEY_LOOKUP_WORKSPACE "{") - 1);
    p = ngx_cpymem(p, id, NGX_HTTP_AGNTKEY_TAG_LEN);
    *p++ = '}';
    p = ngx_cpymem(p, workspace->data, workspace->len);

    ngx_str_set(&argv[0], "HGET");
    argv[1].data = key;
    argv[1].len = p - key;
    ngx_str_set(&argv[2], "active");

    if (ngx_http_agntkey_resp_format(argv, 3, &bytes) != NGX_OK) {
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

    ngx_http_agntkey_resp_format_free(&bytes);

    return rc;
}


static void
ngx_http_agntkey_lookup_trouble(ngx_http_agntkey_lookups_t *lookups,
    ngx_http_agntkey_trouble_t *trouble, ngx_http_agntkey_reply_t *reply)
{
    u_char     buf[128];
    ngx_str_t  text;

    if (ngx_http_agntkey_lookup_muted(trouble)) {
        return;
    }

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR) {
        ngx_http_agntkey_resp_error_text(reply, buf, &text);

    } else {
        ngx_str_set(&text, "a reply of the wrong shape");
    }

    ngx_log_error(NGX_LOG_ERR, lookups->log, 0,
                  "agntkey: Redis answered %s with: %V",
                  trouble->name, &text);
}


/* A line when it begins, but never one for each of many requests. */

static ngx_uint_t
ngx_http_agntkey_lookup_muted(ngx_http_agntkey_trouble_t *trouble)
{
    if (trouble->failing
        || (trouble->logged
            && ngx_current_msec - trouble->logged
               < NGX_HTTP_AGNTKEY_LOG_PAUSE))
    {
        return 1;
    }

    trouble->failing = 1;
    trouble->logged = ngx_current_msec;

    return 0;
}
