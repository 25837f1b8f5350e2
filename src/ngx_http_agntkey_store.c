
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_store.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_token.h"


/*
 * Which workspace a key is in never changes, so a worker that has met a key
 * can ask for both records at once.  One hint takes about 200 bytes; keys
 * that share a place push each other out, and then take two trips.
 */
#define NGX_HTTP_AGNTKEY_HINTS        1024

#define NGX_HTTP_AGNTKEY_KEY_PREFIX   "agntkey:key:"
#define NGX_HTTP_AGNTKEY_WS_PREFIX    "agntkey:workspace:"
#define NGX_HTTP_AGNTKEY_WS_KEY_MAX                                           \
    (sizeof(NGX_HTTP_AGNTKEY_WS_PREFIX "{}") + NGX_HTTP_AGNTKEY_TAG_LEN       \
     + NGX_HTTP_AGNTKEY_WORKSPACE_MAX)

/* "*3 $4 HGET $90 <key> $6 active", with a CR LF after each */
#define NGX_HTTP_AGNTKEY_HGET_MAX     (NGX_HTTP_AGNTKEY_WS_KEY_MAX + 40)

/* an id, as it stands in the look-up's ready-made command */
#define NGX_HTTP_AGNTKEY_SLOT         "{0000}00000000"

/* the least time between two lines of one kind, ms */
#define NGX_HTTP_AGNTKEY_LOG_PAUSE    1000

/*
 * What is remembered is read again after that many ms, less a random quarter,
 * whatever happens: for a change that Redis does not tell of (SWAPDB).
 */
#define NGX_HTTP_AGNTKEY_STORE_AGE    60000

/* of look-ups under way that others may join; a power of two */
#define NGX_HTTP_AGNTKEY_STORE_BUCKETS  1024


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


/* owner of all it points to; one for each worker */

struct ngx_http_agntkey_store_s {
    ngx_http_agntkey_redis_t          *redis;
    ngx_http_agntkey_watch_t          *watch;        /* NULL: no need */
    ngx_http_agntkey_cache_t          *cache;        /* NULL: no memory */
    ngx_http_agntkey_hint_t           *hints;
    ngx_log_t                         *log;

    ngx_str_t                          lookup;       /* HMGET of slot's id */
    u_char                            *slot;

    /* look-ups that others may join */
    ngx_http_agntkey_find_t          **finds;

    ngx_http_agntkey_trouble_t         key;
    ngx_http_agntkey_trouble_t         workspace;
    ngx_http_agntkey_trouble_t         record;

    unsigned                           stale:1;      /* and it was said */
};


/*
 * Lives until all its commands have been answered, even when all who asked
 * have gone.  Owner of the reply that key points into.
 */

struct ngx_http_agntkey_find_s {
    ngx_http_agntkey_find_t           *next;         /* in its bucket */
    ngx_http_agntkey_store_t          *store;
    ngx_queue_t                        waiters;

    /*
     * What is read is remembered, and others may join, if the epoch is still
     * that in which it was sent.  0: it was sent without trust, or the key
     * has changed since.  The same of the workspace, by its changes.
     */
    uint64_t                           epoch;
    uint64_t                           changes;
    ngx_http_agntkey_workspace_t      *home;         /* NULL: not asked for */
    int64_t                            sent;         /* ms */

    u_char                             id[NGX_HTTP_AGNTKEY_ID_LEN];

    ngx_http_agntkey_reply_t          *reply;
    ngx_http_agntkey_record_t          key;
    ngx_int_t                          rc;           /* of the key's record */

    u_char                             workspace[
                                            NGX_HTTP_AGNTKEY_WORKSPACE_MAX];
    size_t                             nworkspace;   /* 0: not asked for */

    ngx_uint_t                         waiting;      /* commands */
    unsigned                           workspace_active:1;
    unsigned                           lost:1;
    unsigned                           failed:1;
    unsigned                           again:1;      /* the second try */
    unsigned                           open:1;       /* stands in a bucket */
};


static void ngx_http_agntkey_store_changed(void *data, ngx_str_t *key);
static void ngx_http_agntkey_store_lost(void *data, int64_t good);
static ngx_http_agntkey_find_t **ngx_http_agntkey_store_bucket(
    ngx_http_agntkey_store_t *store, u_char *id);
static ngx_http_agntkey_find_t *ngx_http_agntkey_store_join(
    ngx_http_agntkey_store_t *store, u_char *id, int64_t now);
static ngx_uint_t ngx_http_agntkey_find_fresh(ngx_http_agntkey_find_t *find);
static void ngx_http_agntkey_find_open(ngx_http_agntkey_find_t *find);
static void ngx_http_agntkey_find_shut(ngx_http_agntkey_find_t *find);
static void ngx_http_agntkey_find_remember(ngx_http_agntkey_find_t *find);
static ngx_int_t ngx_http_agntkey_store_init_lookup(
    ngx_http_agntkey_store_t *store);
static ngx_int_t ngx_http_agntkey_find_start(ngx_http_agntkey_find_t *find);
static ngx_int_t ngx_http_agntkey_find_workspace(
    ngx_http_agntkey_find_t *find, ngx_http_agntkey_hint_t *hint);
static void ngx_http_agntkey_find_key_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_find_workspace_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static ngx_int_t ngx_http_agntkey_find_parse(ngx_http_agntkey_find_t *find,
    ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_find_lost(ngx_http_agntkey_find_t *find,
    ngx_http_agntkey_redis_e rc);
static void ngx_http_agntkey_find_conclude(ngx_http_agntkey_find_t *find);
static void ngx_http_agntkey_find_drop(ngx_http_agntkey_find_t *find);
static void ngx_http_agntkey_find_done(ngx_http_agntkey_find_t *find,
    ngx_int_t rc);
static ngx_http_agntkey_hint_t *ngx_http_agntkey_store_hint(
    ngx_http_agntkey_store_t *store, u_char *id);
static ngx_int_t ngx_http_agntkey_store_set_hint(ngx_http_agntkey_hint_t *hint,
    u_char *id, ngx_str_t *workspace);
static void ngx_http_agntkey_store_trouble(ngx_http_agntkey_store_t *store,
    ngx_http_agntkey_trouble_t *trouble, ngx_http_agntkey_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_store_muted(
    ngx_http_agntkey_trouble_t *trouble);


ngx_http_agntkey_store_t *
ngx_http_agntkey_store_create(ngx_http_agntkey_server_t *server,
    ngx_http_agntkey_store_conf_t *conf, ngx_uint_t listen, ngx_log_t *log)
{
    ngx_http_agntkey_store_t           *store;
    ngx_http_agntkey_watch_handlers_t   from;

    store = ngx_calloc(sizeof(ngx_http_agntkey_store_t), log);
    if (store == NULL) {
        return NULL;
    }

    store->log = log;
    store->key.name = "HMGET agntkey:key:";
    store->workspace.name = "HGET agntkey:workspace:";
    store->record.name = "record";

    store->hints = ngx_calloc(NGX_HTTP_AGNTKEY_HINTS
                              * sizeof(ngx_http_agntkey_hint_t), log);
    store->finds = ngx_calloc(NGX_HTTP_AGNTKEY_STORE_BUCKETS
                              * sizeof(ngx_http_agntkey_find_t *), log);

    if (store->hints == NULL || store->finds == NULL) {
        goto failed;
    }

    if (ngx_http_agntkey_store_init_lookup(store) != NGX_OK) {
        goto failed;
    }

    store->redis = ngx_http_agntkey_redis_create(server, log);
    if (store->redis == NULL) {
        goto failed;
    }

    if (conf->entries) {
        store->cache = ngx_http_agntkey_cache_create(conf->entries,
                                                     conf->negative, log);
        if (store->cache == NULL) {
            goto failed;
        }
    }

    if (conf->entries || listen) {
        from.changed = ngx_http_agntkey_store_changed;
        from.lost = ngx_http_agntkey_store_lost;

        store->watch = ngx_http_agntkey_watch_create(server, store->redis,
                                            conf->entries ? conf->lease : 0,
                                            &from, store, log);
        if (store->watch == NULL) {
            goto failed;
        }
    }

    ngx_http_agntkey_redis_connect(store->redis);

    return store;

failed:

    ngx_http_agntkey_store_destroy(store);

    return NULL;
}


void
ngx_http_agntkey_store_destroy(ngx_http_agntkey_store_t *store)
{
    if (store->watch) {
        ngx_http_agntkey_watch_destroy(store->watch);
    }

    if (store->redis) {
        ngx_http_agntkey_redis_destroy(store->redis);
    }

    if (store->cache) {
        ngx_http_agntkey_cache_destroy(store->cache);
    }

    if (store->lookup.data) {
        ngx_http_agntkey_resp_format_free(&store->lookup);
    }

    if (store->finds) {
        ngx_free(store->finds);
    }

    if (store->hints) {
        ngx_free(store->hints);
    }

    ngx_free(store);
}


ngx_http_agntkey_redis_t *
ngx_http_agntkey_store_redis(ngx_http_agntkey_store_t *store)
{
    return store->redis;
}


ngx_http_agntkey_watch_t *
ngx_http_agntkey_store_watch(ngx_http_agntkey_store_t *store)
{
    return store->watch;
}


ngx_http_agntkey_entry_t *
ngx_http_agntkey_store_cached(ngx_http_agntkey_store_t *store, u_char *id)
{
    int64_t                    now;
    ngx_http_agntkey_entry_t  *entry;

    if (store->cache == NULL) {
        return NULL;
    }

    entry = ngx_http_agntkey_cache_find(store->cache, id);

    if (entry == NULL) {
        return NULL;
    }

    now = ngx_http_agntkey_clock();

    if (!ngx_http_agntkey_watch_trusted(store->watch, now)
        || !ngx_http_agntkey_cache_good(store->cache, entry, now))
    {
        return NULL;
    }

    ngx_http_agntkey_cache_ref(entry);

    return entry;
}


ngx_http_agntkey_entry_t *
ngx_http_agntkey_store_stale(ngx_http_agntkey_store_t *store, u_char *id,
    ngx_msec_t ms)
{
    ngx_http_agntkey_entry_t  *entry;

    if (store->cache == NULL || ms == 0) {
        return NULL;
    }

    entry = ngx_http_agntkey_cache_stale(store->cache, id,
                                         ngx_http_agntkey_clock(),
                                         (int64_t) ms);
    if (entry == NULL) {
        return NULL;
    }

    ngx_http_agntkey_cache_ref(entry);

    if (!store->stale) {
        store->stale = 1;

        ngx_log_error(NGX_LOG_WARN, store->log, 0,
                      "agntkey: Redis cannot be asked: keys that were good "
                      "before are accepted (agntkey_stale)");
    }

    return entry;
}


void
ngx_http_agntkey_store_release(ngx_http_agntkey_store_t *store,
    ngx_http_agntkey_entry_t *entry)
{
    ngx_http_agntkey_cache_unref(store->cache, entry);
}


ngx_int_t
ngx_http_agntkey_store_find(ngx_http_agntkey_store_t *store, u_char *id,
    ngx_http_agntkey_waiter_t *waiter)
{
    ngx_http_agntkey_find_t  *find;

    find = ngx_http_agntkey_store_join(store, id, ngx_http_agntkey_clock());

    if (find == NULL) {
        find = ngx_calloc(sizeof(ngx_http_agntkey_find_t), store->log);
        if (find == NULL) {
            return NGX_DECLINED;
        }

        find->store = store;
        ngx_queue_init(&find->waiters);
        ngx_memcpy(find->id, id, NGX_HTTP_AGNTKEY_ID_LEN);

        if (ngx_http_agntkey_find_start(find) != NGX_OK) {
            ngx_free(find);
            return NGX_DECLINED;
        }
    }

    waiter->find = find;
    ngx_queue_insert_tail(&find->waiters, &waiter->queue);

    return NGX_OK;
}


void
ngx_http_agntkey_store_cancel(ngx_http_agntkey_waiter_t *waiter)
{
    if (waiter->find) {
        waiter->find = NULL;
        ngx_queue_remove(&waiter->queue);
    }
}


/*
 * Redis has told of a write.  What is under way may have been read before it,
 * and nobody who comes from now on may be told so.
 */

static void
ngx_http_agntkey_store_changed(void *data, ngx_str_t *key)
{
    ngx_http_agntkey_store_forget(data, key);
}


void
ngx_http_agntkey_store_forget(ngx_http_agntkey_store_t *store, ngx_str_t *key)
{
    u_char                    *p, id[NGX_HTTP_AGNTKEY_ID_LEN];
    size_t                     n;
    ngx_str_t                  name;
    ngx_http_agntkey_find_t   *find;

    if (store->cache == NULL) {
        return;
    }

    if (key == NULL) {
        ngx_http_agntkey_cache_flush(store->cache);
        return;
    }

    p = key->data;
    n = sizeof(NGX_HTTP_AGNTKEY_KEY_PREFIX) - 1;

    if (key->len == n + sizeof(NGX_HTTP_AGNTKEY_SLOT) - 1
        && ngx_strncmp(p, NGX_HTTP_AGNTKEY_KEY_PREFIX, n) == 0)
    {
        p += n + 1;
        ngx_memcpy(id, p, NGX_HTTP_AGNTKEY_TAG_LEN);
        ngx_memcpy(id + NGX_HTTP_AGNTKEY_TAG_LEN,
                   p + NGX_HTTP_AGNTKEY_TAG_LEN + 1,
                   NGX_HTTP_AGNTKEY_ID_LEN - NGX_HTTP_AGNTKEY_TAG_LEN);

        ngx_http_agntkey_cache_forget(store->cache, id);

        for (find = *ngx_http_agntkey_store_bucket(store, id);
             find;
             find = find->next)
        {
            if (ngx_memcmp(find->id, id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {
                ngx_http_agntkey_find_shut(find);
                break;
            }
        }

        return;
    }

    /* "{tag}" and the name */

    n = sizeof(NGX_HTTP_AGNTKEY_WS_PREFIX) - 1;

    if (key->len > n + NGX_HTTP_AGNTKEY_TAG_LEN + 2
        && ngx_strncmp(p, NGX_HTTP_AGNTKEY_WS_PREFIX, n) == 0)
    {
        p += n + 1;

        name.data = p + NGX_HTTP_AGNTKEY_TAG_LEN + 1;
        name.len = key->data + key->len - name.data;

        ngx_http_agntkey_cache_forget_workspace(store->cache, p, &name);
    }
}


static void
ngx_http_agntkey_store_lost(void *data, int64_t good)
{
    ngx_http_agntkey_store_t  *store = data;

    ngx_http_agntkey_cache_end_epoch(store->cache, good);
}


static ngx_http_agntkey_find_t **
ngx_http_agntkey_store_bucket(ngx_http_agntkey_store_t *store, u_char *id)
{
    return &store->finds[ngx_http_agntkey_cache_hash(store->cache, id)
                         & (NGX_HTTP_AGNTKEY_STORE_BUCKETS - 1)];
}


/* For whom it would be good to have been read a moment ago: that is a hit. */

static ngx_http_agntkey_find_t *
ngx_http_agntkey_store_join(ngx_http_agntkey_store_t *store, u_char *id,
    int64_t now)
{
    ngx_http_agntkey_find_t  *find;

    if (store->cache == NULL
        || !ngx_http_agntkey_watch_trusted(store->watch, now))
    {
        return NULL;
    }

    for (find = *ngx_http_agntkey_store_bucket(store, id);
         find;
         find = find->next)
    {
        if (ngx_memcmp(find->id, id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {
            return ngx_http_agntkey_find_fresh(find) ? find : NULL;
        }
    }

    return NULL;
}


/* Is what it reads known not to have changed since? */

static ngx_uint_t
ngx_http_agntkey_find_fresh(ngx_http_agntkey_find_t *find)
{
    return find->epoch
           && find->epoch == ngx_http_agntkey_cache_epoch(find->store->cache)
           && (find->home == NULL || find->home->changes == find->changes);
}


/* From now on, if there is trust, others may join. */

static void
ngx_http_agntkey_find_open(ngx_http_agntkey_find_t *find)
{
    ngx_http_agntkey_find_t   *other, **bucket;
    ngx_http_agntkey_store_t  *store;

    store = find->store;

    find->epoch = 0;

    if (store->cache == NULL) {
        return;
    }

    find->sent = ngx_http_agntkey_clock();

    if (!ngx_http_agntkey_watch_trusted(store->watch, find->sent)) {
        return;
    }

    bucket = ngx_http_agntkey_store_bucket(store, find->id);

    for (other = *bucket; other; other = other->next) {
        if (ngx_memcmp(other->id, find->id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {
            ngx_http_agntkey_find_shut(other);
            break;
        }
    }

    find->epoch = ngx_http_agntkey_cache_epoch(store->cache);
    find->open = 1;

    find->next = *bucket;
    *bucket = find;
}


static void
ngx_http_agntkey_find_shut(ngx_http_agntkey_find_t *find)
{
    ngx_http_agntkey_find_t  **p;

    find->epoch = 0;

    if (!find->open) {
        return;
    }

    find->open = 0;

    p = ngx_http_agntkey_store_bucket(find->store, find->id);

    while (*p != find) {
        p = &(*p)->next;
    }

    *p = find->next;
}


/*
 * The command of a look-up differs from key to key in 12 bytes that stand at
 * the same place, so it is made once.
 */

static ngx_int_t
ngx_http_agntkey_store_init_lookup(ngx_http_agntkey_store_t *store)
{
    ngx_uint_t  i;
    ngx_str_t   argv[2 + NGX_HTTP_AGNTKEY_FIELDS];

    ngx_str_set(&argv[0], "HMGET");
    ngx_str_set(&argv[1], NGX_HTTP_AGNTKEY_KEY_PREFIX NGX_HTTP_AGNTKEY_SLOT);

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {
        argv[2 + i] = ngx_http_agntkey_record_fields[i];
    }

    if (ngx_http_agntkey_resp_format(argv, 2 + NGX_HTTP_AGNTKEY_FIELDS,
                                     &store->lookup)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    store->slot = ngx_strnstr(store->lookup.data, NGX_HTTP_AGNTKEY_SLOT,
                              store->lookup.len);

    return store->slot ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_agntkey_find_start(ngx_http_agntkey_find_t *find)
{
    u_char                    *p;
    ngx_http_agntkey_hint_t   *hint;
    ngx_http_agntkey_store_t  *store;

    store = find->store;

    p = ngx_cpymem(store->slot + 1, find->id, NGX_HTTP_AGNTKEY_TAG_LEN);
    ngx_memcpy(p + 1, find->id + NGX_HTTP_AGNTKEY_TAG_LEN,
               NGX_HTTP_AGNTKEY_ID_LEN - NGX_HTTP_AGNTKEY_TAG_LEN);

    if (ngx_http_agntkey_redis_send(store->redis, &store->lookup,
                                    ngx_http_agntkey_find_key_handler, find)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    find->waiting = 1;

    ngx_http_agntkey_find_open(find);

    hint = ngx_http_agntkey_store_hint(store, find->id);

    if (ngx_memcmp(hint->id, find->id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {

        /* if this one does not get out, it is asked for later */

        (void) ngx_http_agntkey_find_workspace(find, hint);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_find_workspace(ngx_http_agntkey_find_t *find,
    ngx_http_agntkey_hint_t *hint)
{
    ngx_str_t                  bytes, name;
    ngx_http_agntkey_cache_t  *cache;

    bytes.data = hint->bytes;
    bytes.len = hint->nbytes;

    if (ngx_http_agntkey_redis_send(find->store->redis, &bytes,
                                    ngx_http_agntkey_find_workspace_handler,
                                    find)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_memcpy(find->workspace, hint->workspace, hint->nworkspace);
    find->nworkspace = hint->nworkspace;
    find->waiting++;

    cache = find->store->cache;

    if (cache == NULL) {
        return NGX_OK;
    }

    if (find->home) {
        ngx_http_agntkey_cache_unref_workspace(cache, find->home);
    }

    name.data = find->workspace;
    name.len = find->nworkspace;

    find->home = ngx_http_agntkey_cache_workspace(cache, find->id, &name);

    if (find->home) {
        find->changes = find->home->changes;

    } else {
        ngx_http_agntkey_find_shut(find);
    }

    return NGX_OK;
}


static void
ngx_http_agntkey_find_key_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_find_t  *find = data;

    find->waiting--;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        ngx_http_agntkey_find_lost(find, rc);

    } else {
        find->reply = reply;
        find->rc = ngx_http_agntkey_find_parse(find, reply);

        if (find->rc == NGX_ERROR || find->rc == NGX_ABORT) {
            find->failed = 1;
        }
    }

    ngx_http_agntkey_find_conclude(find);
}


static void
ngx_http_agntkey_find_workspace_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_find_t     *find = data;
    ngx_http_agntkey_trouble_t  *trouble;

    find->waiting--;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        ngx_http_agntkey_find_lost(find, rc);
        ngx_http_agntkey_find_conclude(find);
        return;
    }

    trouble = &find->store->workspace;

    switch (reply->type) {

    case NGX_HTTP_AGNTKEY_RESP_STRING:
        find->workspace_active = reply->str.len == 1
                                 && reply->str.data[0] == '1';
        trouble->failing = 0;
        break;

    case NGX_HTTP_AGNTKEY_RESP_NIL:
        find->workspace_active = 0;
        trouble->failing = 0;
        break;

    default:
        find->failed = 1;
        ngx_http_agntkey_store_trouble(find->store, trouble, reply);
        break;
    }

    ngx_http_agntkey_resp_free(reply);

    ngx_http_agntkey_find_conclude(find);
}


/*
 * NGX_OK and NGX_DECLINED as for ngx_http_agntkey_record_parse(), NGX_ABORT
 * for its NGX_ERROR; a reply that is no array of as many strings as were asked
 * for is NGX_ERROR.
 */

static ngx_int_t
ngx_http_agntkey_find_parse(ngx_http_agntkey_find_t *find,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_str_t                   fields[NGX_HTTP_AGNTKEY_FIELDS];
    ngx_int_t                   rc;
    ngx_uint_t                  i, bad;
    ngx_http_agntkey_store_t   *store;
    ngx_http_agntkey_reply_t  **elts;

    store = find->store;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY
        || reply->nelts != NGX_HTTP_AGNTKEY_FIELDS)
    {
        ngx_http_agntkey_store_trouble(store, &store->key, reply);
        return NGX_ERROR;
    }

    elts = reply->elts;

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {

        if (elts[i]->type == NGX_HTTP_AGNTKEY_RESP_NIL) {
            ngx_str_null(&fields[i]);

        } else if (elts[i]->type == NGX_HTTP_AGNTKEY_RESP_STRING) {
            fields[i] = elts[i]->str;

        } else {
            ngx_http_agntkey_store_trouble(store, &store->key, elts[i]);
            return NGX_ERROR;
        }
    }

    store->key.failing = 0;

    rc = ngx_http_agntkey_record_parse(fields, &find->key, &bad);

    if (rc == NGX_ERROR) {
        rc = NGX_ABORT;
    }

    if (rc == NGX_ABORT && !ngx_http_agntkey_store_muted(&store->record)) {
        ngx_log_error(NGX_LOG_ERR, store->log, 0,
                      "agntkey: the record of key \"%*s\" in Redis "
                      "has a bad field \"%V\"",
                      (size_t) NGX_HTTP_AGNTKEY_ID_LEN, find->id,
                      &ngx_http_agntkey_record_fields[bad]);
    }

    if (rc == NGX_OK) {
        store->record.failing = 0;
    }

    return rc;
}


static void
ngx_http_agntkey_find_lost(ngx_http_agntkey_find_t *find,
    ngx_http_agntkey_redis_e rc)
{
    find->failed = 1;

    if (rc == NGX_HTTP_AGNTKEY_REDIS_LOST) {
        find->lost = 1;
    }
}


/* All that was asked for is here; is it enough? */

static void
ngx_http_agntkey_find_conclude(ngx_http_agntkey_find_t *find)
{
    ngx_str_t                *workspace;
    ngx_http_agntkey_hint_t  *hint;

    if (find->waiting) {
        return;
    }

    if (find->lost && !find->again && !ngx_queue_empty(&find->waiters)) {

        /* reading twice harms nobody, and idle connections do get cut */

        ngx_http_agntkey_find_drop(find);
        find->again = 1;

        if (ngx_http_agntkey_find_start(find) != NGX_OK) {
            ngx_http_agntkey_find_done(find, NGX_ERROR);
        }

        return;
    }

    if (find->failed) {
        ngx_http_agntkey_find_done(find, find->rc == NGX_ABORT ? NGX_ABORT
                                                               : NGX_ERROR);
        return;
    }

    if (find->rc == NGX_DECLINED) {
        ngx_http_agntkey_find_remember(find);
        ngx_http_agntkey_find_done(find, NGX_DECLINED);
        return;
    }

    workspace = &find->key.workspace;

    if (find->nworkspace == workspace->len
        && ngx_memcmp(find->workspace, workspace->data, workspace->len) == 0)
    {
        ngx_http_agntkey_find_remember(find);
        ngx_http_agntkey_find_done(find, NGX_OK);
        return;
    }

    if (ngx_queue_empty(&find->waiters)) {
        ngx_http_agntkey_find_done(find, NGX_ERROR);
        return;
    }

    hint = ngx_http_agntkey_store_hint(find->store, find->id);

    if (ngx_http_agntkey_store_set_hint(hint, find->id, workspace) != NGX_OK
        || ngx_http_agntkey_find_workspace(find, hint) != NGX_OK)
    {
        ngx_http_agntkey_find_done(find, NGX_ERROR);
    }
}


/*
 * Only what has not changed since it was asked for.  Of what may have, the
 * older knowledge is not even good for agntkey_stale.
 */

static void
ngx_http_agntkey_find_remember(ngx_http_agntkey_find_t *find)
{
    int64_t                    until;
    ngx_http_agntkey_cache_t  *cache;

    cache = find->store->cache;

    if (cache == NULL) {
        return;
    }

    if (!ngx_http_agntkey_find_fresh(find)) {
        ngx_http_agntkey_cache_forget(cache, find->id);
        return;
    }

    until = find->sent + NGX_HTTP_AGNTKEY_STORE_AGE
            - (int64_t) (ngx_random() % (NGX_HTTP_AGNTKEY_STORE_AGE / 4));

    if (find->rc == NGX_DECLINED) {
        ngx_http_agntkey_cache_put(cache, find->id, NULL, NULL, find->sent,
                                   until);
        return;
    }

    find->home->active = find->workspace_active;
    find->home->epoch = find->epoch;

    ngx_http_agntkey_cache_put(cache, find->id, &find->key, find->home,
                               find->sent, until);
}


/* What it has gathered so far. */

static void
ngx_http_agntkey_find_drop(ngx_http_agntkey_find_t *find)
{
    ngx_http_agntkey_find_shut(find);

    if (find->home) {
        ngx_http_agntkey_cache_unref_workspace(find->store->cache,
                                               find->home);
        find->home = NULL;
    }

    find->lost = 0;
    find->failed = 0;
    find->rc = NGX_OK;
    find->nworkspace = 0;

    ngx_http_agntkey_resp_free(find->reply);
    find->reply = NULL;
}


/*
 * Whoever is told may begin or give up other look-ups, and with the end of
 * his connection even his neighbours here may go.
 */

static void
ngx_http_agntkey_find_done(ngx_http_agntkey_find_t *find, ngx_int_t rc)
{
    ngx_queue_t                *q;
    ngx_http_agntkey_store_t   *store;
    ngx_http_agntkey_waiter_t  *waiter;

    store = find->store;

    ngx_http_agntkey_find_shut(find);

    if (rc == NGX_ABORT && store->cache) {
        ngx_http_agntkey_cache_forget(store->cache, find->id);
    }

    if (rc == NGX_OK || rc == NGX_DECLINED) {
        store->stale = 0;
    }

    while (!ngx_queue_empty(&find->waiters)) {
        q = ngx_queue_head(&find->waiters);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_http_agntkey_waiter_t, queue);
        waiter->find = NULL;

        waiter->handler(waiter->data, rc, rc == NGX_OK ? &find->key : NULL,
                        find->workspace_active);
    }

    ngx_http_agntkey_find_drop(find);
    ngx_free(find);
}


/* The place of a key's hint; it may hold that of another key. */

static ngx_http_agntkey_hint_t *
ngx_http_agntkey_store_hint(ngx_http_agntkey_store_t *store, u_char *id)
{
    return &store->hints[ngx_crc32_short(id, NGX_HTTP_AGNTKEY_ID_LEN)
                         % NGX_HTTP_AGNTKEY_HINTS];
}


static ngx_int_t
ngx_http_agntkey_store_set_hint(ngx_http_agntkey_hint_t *hint, u_char *id,
    ngx_str_t *workspace)
{
    u_char     *p, key[NGX_HTTP_AGNTKEY_WS_KEY_MAX];
    ngx_int_t   rc;
    ngx_str_t   argv[3], bytes;

    p = ngx_cpymem(key, NGX_HTTP_AGNTKEY_WS_PREFIX "{",
                   sizeof(NGX_HTTP_AGNTKEY_WS_PREFIX "{") - 1);
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
ngx_http_agntkey_store_trouble(ngx_http_agntkey_store_t *store,
    ngx_http_agntkey_trouble_t *trouble, ngx_http_agntkey_reply_t *reply)
{
    u_char     buf[128];
    ngx_str_t  text;

    if (ngx_http_agntkey_store_muted(trouble)) {
        return;
    }

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR) {
        ngx_http_agntkey_resp_error_text(reply, buf, &text);

    } else {
        ngx_str_set(&text, "a reply of the wrong shape");
    }

    ngx_log_error(NGX_LOG_ERR, store->log, 0,
                  "agntkey: Redis answered %s with: %V",
                  trouble->name, &text);
}


/* A line when it begins, but never one for each of many requests. */

static ngx_uint_t
ngx_http_agntkey_store_muted(ngx_http_agntkey_trouble_t *trouble)
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
