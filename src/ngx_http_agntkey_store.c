
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_store.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_token.h"


/*
 * What is remembered is read again after that many ms, less a random quarter,
 * whatever happens: for a change that Redis does not tell of (SWAPDB).
 */
#define NGX_HTTP_AGNTKEY_STORE_AGE    60000

/* of look-ups under way that others may join; a power of two */
#define NGX_HTTP_AGNTKEY_STORE_BUCKETS  1024


/* owner of all it points to; one for each worker */

struct ngx_http_agntkey_store_s {
    ngx_http_agntkey_redis_t      *redis;
    ngx_http_agntkey_fence_t      *fence;
    ngx_http_agntkey_lookups_t    *lookups;
    ngx_http_agntkey_watch_t      *watch;        /* NULL: no need */
    ngx_http_agntkey_cache_t      *cache;        /* NULL: no memory */
    ngx_log_t                     *log;

    /* what is under way and others may join */
    ngx_http_agntkey_find_t      **finds;

    uint64_t                       asked;        /* look-ups sent so far */

    unsigned                       stale:1;      /* and it was said */
};


/* a look-up, for as many as wait for it; also when all of them have gone */

struct ngx_http_agntkey_find_s {
    ngx_http_agntkey_find_t       *next;         /* in its bucket */
    ngx_http_agntkey_store_t      *store;
    ngx_queue_t                    waiters;
    ngx_http_agntkey_lookup_t      lookup;

    /*
     * What is read is remembered, and others may join, if the epoch is still
     * that in which it was sent.  0: it was sent without trust, or the key
     * has changed since.  The same of the workspace, by its changes.
     */
    uint64_t                       epoch;
    uint64_t                       changes;
    ngx_http_agntkey_workspace_t  *home;         /* NULL: not asked for */
    int64_t                        sent;         /* ms */
    uint64_t                       number;       /* in the order of sending */

    unsigned                       open:1;       /* stands in a bucket */
};


static void ngx_http_agntkey_store_changed(void *data, ngx_str_t *key);
static void ngx_http_agntkey_store_lost(void *data, int64_t good);
static ngx_http_agntkey_find_t **ngx_http_agntkey_store_bucket(
    ngx_http_agntkey_store_t *store, u_char *id);
static ngx_http_agntkey_find_t *ngx_http_agntkey_store_opened(
    ngx_http_agntkey_store_t *store, u_char *id);
static ngx_http_agntkey_find_t *ngx_http_agntkey_store_join(
    ngx_http_agntkey_store_t *store, u_char *id, int64_t now);
static ngx_uint_t ngx_http_agntkey_find_fresh(ngx_http_agntkey_find_t *find);
static void ngx_http_agntkey_find_open(void *data);
static void ngx_http_agntkey_find_home(void *data, ngx_str_t *name);
static void ngx_http_agntkey_find_key_read(void *data,
    ngx_http_agntkey_record_t *key);
static void ngx_http_agntkey_find_home_read(void *data, ngx_str_t *name,
    ngx_uint_t active);
static ngx_uint_t ngx_http_agntkey_find_wanted(void *data);
static void ngx_http_agntkey_find_shut(ngx_http_agntkey_find_t *find);
static void ngx_http_agntkey_find_remember(ngx_http_agntkey_find_t *find,
    ngx_int_t rc);
static void ngx_http_agntkey_find_done(void *data, ngx_int_t rc);
static void ngx_http_agntkey_find_free(ngx_http_agntkey_find_t *find);


ngx_http_agntkey_store_t *
ngx_http_agntkey_store_create(ngx_http_agntkey_server_t *server,
    ngx_http_agntkey_store_conf_t *conf, ngx_uint_t listen, ngx_log_t *log)
{
    ngx_http_agntkey_store_t            *store;
    ngx_http_agntkey_watch_handlers_t    from;
    ngx_http_agntkey_lookup_handlers_t   found;

    store = ngx_calloc(sizeof(ngx_http_agntkey_store_t), log);
    if (store == NULL) {
        return NULL;
    }

    store->log = log;

    store->finds = ngx_calloc(NGX_HTTP_AGNTKEY_STORE_BUCKETS
                              * sizeof(ngx_http_agntkey_find_t *), log);
    if (store->finds == NULL) {
        goto failed;
    }

    store->redis = ngx_http_agntkey_redis_create(server, log);
    if (store->redis == NULL) {
        goto failed;
    }

    store->fence = ngx_http_agntkey_fence_create(store->redis, log);
    if (store->fence == NULL) {
        goto failed;
    }

    found.key_asked = ngx_http_agntkey_find_open;
    found.workspace_asked = ngx_http_agntkey_find_home;
    found.key_read = ngx_http_agntkey_find_key_read;
    found.workspace_read = ngx_http_agntkey_find_home_read;
    found.wanted = ngx_http_agntkey_find_wanted;
    found.done = ngx_http_agntkey_find_done;

    store->lookups = ngx_http_agntkey_lookups_create(store->redis,
                                                     store->fence, &found,
                                                     log);
    if (store->lookups == NULL) {
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

    if (store->lookups) {
        ngx_http_agntkey_lookups_destroy(store->lookups);
    }

    if (store->fence) {
        ngx_http_agntkey_fence_destroy(store->fence);
    }

    if (store->finds) {
        ngx_free(store->finds);
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

        find->lookup.data = find;
        ngx_memcpy(find->lookup.id, id, NGX_HTTP_AGNTKEY_ID_LEN);

        if (ngx_http_agntkey_lookup_start(store->lookups, &find->lookup)
            != NGX_OK)
        {
            ngx_http_agntkey_find_free(find);
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
    n = sizeof(NGX_HTTP_AGNTKEY_LOOKUP_KEY) - 1;

    if (key->len == n + sizeof(NGX_HTTP_AGNTKEY_LOOKUP_SLOT) - 1
        && ngx_strncmp(p, NGX_HTTP_AGNTKEY_LOOKUP_KEY, n) == 0)
    {
        p += n + 1;
        ngx_memcpy(id, p, NGX_HTTP_AGNTKEY_TAG_LEN);
        ngx_memcpy(id + NGX_HTTP_AGNTKEY_TAG_LEN,
                   p + NGX_HTTP_AGNTKEY_TAG_LEN + 1,
                   NGX_HTTP_AGNTKEY_ID_LEN - NGX_HTTP_AGNTKEY_TAG_LEN);

        ngx_http_agntkey_cache_forget(store->cache, id);

        find = ngx_http_agntkey_store_opened(store, id);

        if (find) {
            ngx_http_agntkey_find_shut(find);
        }

        return;
    }

    /* "{tag}" and the name */

    n = sizeof(NGX_HTTP_AGNTKEY_LOOKUP_WORKSPACE) - 1;

    if (key->len > n + NGX_HTTP_AGNTKEY_TAG_LEN + 2
        && ngx_strncmp(p, NGX_HTTP_AGNTKEY_LOOKUP_WORKSPACE, n) == 0)
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


/* The look-up of an id that others may join, or NULL; there is one at most. */

static ngx_http_agntkey_find_t *
ngx_http_agntkey_store_opened(ngx_http_agntkey_store_t *store, u_char *id)
{
    ngx_http_agntkey_find_t  *find;

    for (find = *ngx_http_agntkey_store_bucket(store, id);
         find;
         find = find->next)
    {
        if (ngx_memcmp(find->lookup.id, id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {
            break;
        }
    }

    return find;
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

    find = ngx_http_agntkey_store_opened(store, id);

    return (find && ngx_http_agntkey_find_fresh(find)) ? find : NULL;
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
ngx_http_agntkey_find_open(void *data)
{
    ngx_http_agntkey_find_t   *find = data;
    ngx_http_agntkey_find_t   *other, **bucket;
    ngx_http_agntkey_store_t  *store;

    store = find->store;

    ngx_http_agntkey_find_shut(find);

    if (store->cache == NULL) {
        return;
    }

    find->number = ++store->asked;
    find->sent = ngx_http_agntkey_clock();

    if (!ngx_http_agntkey_watch_trusted(store->watch, find->sent)) {
        return;
    }

    other = ngx_http_agntkey_store_opened(store, find->lookup.id);

    if (other) {
        ngx_http_agntkey_find_shut(other);
    }

    bucket = ngx_http_agntkey_store_bucket(store, find->lookup.id);

    find->epoch = ngx_http_agntkey_cache_epoch(store->cache);
    find->open = 1;

    find->next = *bucket;
    *bucket = find;
}


/* How often the workspace will have changed, nobody knows yet. */

static void
ngx_http_agntkey_find_home(void *data, ngx_str_t *name)
{
    ngx_http_agntkey_find_t   *find = data;
    ngx_http_agntkey_cache_t  *cache;

    cache = find->store->cache;

    if (cache == NULL) {
        return;
    }

    if (find->home) {
        ngx_http_agntkey_cache_unref_workspace(cache, find->home);
    }

    find->home = ngx_http_agntkey_cache_workspace(cache, find->lookup.id,
                                                  name);
    if (find->home == NULL) {
        ngx_http_agntkey_find_shut(find);
        return;
    }

    find->changes = find->home->changes;
}


/*
 * What was read to be otherwise is no more remembered, whatever becomes of the
 * rest of the look-up, with trust or without: agntkey_stale would go on with
 * what this worker knows to be over.  A look-up that was sent earlier and is
 * not whole yet must not bring it back.
 */

static void
ngx_http_agntkey_find_key_read(void *data, ngx_http_agntkey_record_t *key)
{
    ngx_http_agntkey_find_t   *find = data;
    ngx_http_agntkey_find_t   *other;
    ngx_http_agntkey_store_t  *store;

    store = find->store;

    if (store->cache == NULL) {
        return;
    }

    (void) ngx_http_agntkey_cache_compare(store->cache, find->lookup.id, key);

    other = ngx_http_agntkey_store_opened(store, find->lookup.id);

    if (other && other->number < find->number) {
        ngx_http_agntkey_find_shut(other);
    }
}


/* All keys of the workspace are concerned, and not only the one asked for. */

static void
ngx_http_agntkey_find_home_read(void *data, ngx_str_t *name,
    ngx_uint_t active)
{
    ngx_http_agntkey_find_t  *find = data;

    if (find->store->cache && !active) {
        ngx_http_agntkey_cache_inactive(find->store->cache, find->lookup.id,
                                        name);
    }
}


static ngx_uint_t
ngx_http_agntkey_find_wanted(void *data)
{
    ngx_http_agntkey_find_t  *find = data;

    return !ngx_queue_empty(&find->waiters);
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

    p = ngx_http_agntkey_store_bucket(find->store, find->lookup.id);

    while (*p != find) {
        p = &(*p)->next;
    }

    *p = find->next;
}


/*
 * Only what has not changed since it was asked for.  Of what may have, nothing
 * is remembered; what it says against the older knowledge has counted already.
 */

static void
ngx_http_agntkey_find_remember(ngx_http_agntkey_find_t *find, ngx_int_t rc)
{
    int64_t                     until;
    ngx_http_agntkey_cache_t   *cache;
    ngx_http_agntkey_lookup_t  *lookup;

    cache = find->store->cache;
    lookup = &find->lookup;

    if (cache == NULL) {
        return;
    }

    if (rc == NGX_ABORT || !ngx_http_agntkey_find_fresh(find)) {
        return;
    }

    until = find->sent + NGX_HTTP_AGNTKEY_STORE_AGE
            - (int64_t) (ngx_random() % (NGX_HTTP_AGNTKEY_STORE_AGE / 4));

    if (rc == NGX_DECLINED) {
        ngx_http_agntkey_cache_put(cache, lookup->id, NULL, NULL, find->sent,
                                   until);
        return;
    }

    find->home->active = lookup->workspace_active;
    find->home->epoch = find->epoch;

    ngx_http_agntkey_cache_put(cache, lookup->id, &lookup->key, find->home,
                               find->sent, until);
}


/*
 * Whoever is told may begin or give up other look-ups, and with the end of
 * his connection even his neighbours here may go.
 */

static void
ngx_http_agntkey_find_done(void *data, ngx_int_t rc)
{
    ngx_queue_t                *q;
    ngx_http_agntkey_find_t    *find = data;
    ngx_http_agntkey_lookup_t  *lookup;
    ngx_http_agntkey_waiter_t  *waiter;

    lookup = &find->lookup;

    if (rc != NGX_ERROR) {
        ngx_http_agntkey_find_remember(find, rc);
    }

    ngx_http_agntkey_find_shut(find);

    if (rc == NGX_OK || rc == NGX_DECLINED) {
        find->store->stale = 0;
    }

    while (!ngx_queue_empty(&find->waiters)) {
        q = ngx_queue_head(&find->waiters);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_http_agntkey_waiter_t, queue);
        waiter->find = NULL;

        waiter->handler(waiter->data, rc, rc == NGX_OK ? &lookup->key : NULL,
                        lookup->workspace_active);
    }

    ngx_http_agntkey_find_free(find);
}


static void
ngx_http_agntkey_find_free(ngx_http_agntkey_find_t *find)
{
    if (find->home) {
        ngx_http_agntkey_cache_unref_workspace(find->store->cache,
                                               find->home);
    }

    ngx_free(find);
}
