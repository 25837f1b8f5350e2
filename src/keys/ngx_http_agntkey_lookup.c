
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_lookup.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_keyspace.h"
#include "ngx_http_agntkey_token.h"


/*
 * What is remembered is read again after that many ms, less a random quarter,
 * whatever happens: for a change that Redis does not tell of (SWAPDB).
 */
#define NGX_HTTP_AGNTKEY_LOOKUP_AGE   60000

/* of look-ups under way that others may join; a power of two */
#define NGX_HTTP_AGNTKEY_LOOKUP_BUCKETS  1024


/* owner of all it points to but the lease; one for each worker */

struct ngx_http_agntkey_lookup_s {
    ngx_http_agntkey_fence_t      *fence;
    ngx_http_agntkey_fetcher_t    *fetcher;
    ngx_http_agntkey_lease_t      *lease;        /* NULL: none yet */
    ngx_http_agntkey_cache_t      *cache;        /* NULL: no memory */
    ngx_log_t                     *log;

    /* what is under way and others may join */
    ngx_http_agntkey_flight_t    **flights;

    uint64_t                       asked;        /* look-ups sent so far */

    unsigned                       stale:1;      /* and it was said */
};


/* a look-up, for as many as wait for it; also when all of them have gone */

struct ngx_http_agntkey_flight_s {
    ngx_http_agntkey_flight_t     *next;         /* in its bucket */
    ngx_http_agntkey_lookup_t     *lookup;
    ngx_queue_t                    waiters;
    ngx_http_agntkey_fetch_t       fetch;

    /*
     * What is read is remembered, and others may join, if the epoch is still
     * that in which it was sent.  0: it was sent without a lease, or the key
     * has changed since.  The same of the workspace, by its changes.
     */
    uint64_t                       epoch;
    uint64_t                       changes;
    ngx_http_agntkey_workspace_t  *workspace;    /* NULL: not asked for */
    int64_t                        sent;         /* ms */
    uint64_t                       number;       /* in the order of sending */

    unsigned                       joinable:1;   /* stands in a bucket */
};


static void ngx_http_agntkey_lookup_changed(void *data, ngx_str_t *key);
static void ngx_http_agntkey_lookup_expired(void *data, int64_t good);
static ngx_http_agntkey_flight_t **ngx_http_agntkey_lookup_bucket(
    ngx_http_agntkey_lookup_t *lookup, u_char *id);
static ngx_http_agntkey_flight_t *ngx_http_agntkey_lookup_opened(
    ngx_http_agntkey_lookup_t *lookup, u_char *id);
static ngx_http_agntkey_flight_t *ngx_http_agntkey_lookup_join(
    ngx_http_agntkey_lookup_t *lookup, u_char *id, int64_t now);
static ngx_uint_t ngx_http_agntkey_lookup_flight_fresh(
    ngx_http_agntkey_flight_t *flight);
static void ngx_http_agntkey_lookup_flight_list(void *data);
static void ngx_http_agntkey_lookup_flight_workspace(void *data,
    ngx_str_t *name);
static void ngx_http_agntkey_lookup_flight_key_read(void *data,
    ngx_http_agntkey_record_t *key);
static void ngx_http_agntkey_lookup_flight_workspace_read(void *data,
    ngx_str_t *name, ngx_uint_t active);
static ngx_uint_t ngx_http_agntkey_lookup_flight_has_waiters(void *data);
static void ngx_http_agntkey_lookup_flight_unlist(
    ngx_http_agntkey_flight_t *flight);
static void ngx_http_agntkey_lookup_flight_remember(
    ngx_http_agntkey_flight_t *flight, ngx_int_t rc);
static void ngx_http_agntkey_lookup_flight_done(void *data, ngx_int_t rc);
static void ngx_http_agntkey_lookup_flight_free(
    ngx_http_agntkey_flight_t *flight);


ngx_http_agntkey_lookup_t *
ngx_http_agntkey_lookup_create(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_lookup_conf_t *conf, ngx_log_t *log)
{
    ngx_http_agntkey_lookup_t          *lookup;
    ngx_http_agntkey_fetch_handlers_t   handlers;

    lookup = ngx_calloc(sizeof(ngx_http_agntkey_lookup_t), log);
    if (lookup == NULL) {
        return NULL;
    }

    lookup->log = log;

    lookup->flights = ngx_calloc(NGX_HTTP_AGNTKEY_LOOKUP_BUCKETS
                                 * sizeof(ngx_http_agntkey_flight_t *), log);
    if (lookup->flights == NULL) {
        goto failed;
    }

    lookup->fence = ngx_http_agntkey_fence_create(redis, log);
    if (lookup->fence == NULL) {
        goto failed;
    }

    handlers.key_asked = ngx_http_agntkey_lookup_flight_list;
    handlers.workspace_asked = ngx_http_agntkey_lookup_flight_workspace;
    handlers.key_read = ngx_http_agntkey_lookup_flight_key_read;
    handlers.workspace_read = ngx_http_agntkey_lookup_flight_workspace_read;
    handlers.has_waiters = ngx_http_agntkey_lookup_flight_has_waiters;
    handlers.done = ngx_http_agntkey_lookup_flight_done;

    lookup->fetcher = ngx_http_agntkey_fetcher_create(redis, lookup->fence,
                                                      &handlers, log);
    if (lookup->fetcher == NULL) {
        goto failed;
    }

    if (conf->entries) {
        lookup->cache = ngx_http_agntkey_cache_create(conf->entries,
                                                      conf->negative, log);
        if (lookup->cache == NULL) {
            goto failed;
        }
    }

    return lookup;

failed:

    ngx_http_agntkey_lookup_destroy(lookup);

    return NULL;
}


void
ngx_http_agntkey_lookup_destroy(ngx_http_agntkey_lookup_t *lookup)
{
    if (lookup->cache) {
        ngx_http_agntkey_cache_destroy(lookup->cache);
    }

    if (lookup->fetcher) {
        ngx_http_agntkey_fetcher_destroy(lookup->fetcher);
    }

    if (lookup->fence) {
        ngx_http_agntkey_fence_destroy(lookup->fence);
    }

    if (lookup->flights) {
        ngx_free(lookup->flights);
    }

    ngx_free(lookup);
}


void
ngx_http_agntkey_lookup_lease_handlers(
    ngx_http_agntkey_lease_handlers_t *handlers)
{
    handlers->changed = ngx_http_agntkey_lookup_changed;
    handlers->expired = ngx_http_agntkey_lookup_expired;
}


void
ngx_http_agntkey_lookup_set_lease(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_lease_t *lease)
{
    lookup->lease = lease;
}


ngx_http_agntkey_entry_t *
ngx_http_agntkey_lookup_cached(ngx_http_agntkey_lookup_t *lookup, u_char *id)
{
    int64_t                    now;
    ngx_http_agntkey_entry_t  *entry;

    if (lookup->cache == NULL) {
        return NULL;
    }

    entry = ngx_http_agntkey_cache_find(lookup->cache, id);

    if (entry == NULL) {
        return NULL;
    }

    now = ngx_http_agntkey_clock();

    if (!ngx_http_agntkey_lease_valid(lookup->lease, now)
        || !ngx_http_agntkey_cache_renew(lookup->cache, entry, now))
    {
        return NULL;
    }

    ngx_http_agntkey_cache_ref(entry);

    return entry;
}


ngx_http_agntkey_entry_t *
ngx_http_agntkey_lookup_stale(ngx_http_agntkey_lookup_t *lookup, u_char *id,
    ngx_msec_t ms)
{
    ngx_http_agntkey_entry_t  *entry;

    if (lookup->cache == NULL || ms == 0) {
        return NULL;
    }

    entry = ngx_http_agntkey_cache_stale(lookup->cache, id,
                                         ngx_http_agntkey_clock(),
                                         (int64_t) ms);
    if (entry == NULL) {
        return NULL;
    }

    ngx_http_agntkey_cache_ref(entry);

    if (!lookup->stale) {
        lookup->stale = 1;

        ngx_log_error(NGX_LOG_WARN, lookup->log, 0,
                      "agntkey: Redis cannot be asked: keys that were good "
                      "before are accepted (agntkey_stale)");
    }

    return entry;
}


void
ngx_http_agntkey_lookup_release(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_entry_t *entry)
{
    ngx_http_agntkey_cache_unref(lookup->cache, entry);
}


ngx_int_t
ngx_http_agntkey_lookup_find(ngx_http_agntkey_lookup_t *lookup, u_char *id,
    ngx_http_agntkey_waiter_t *waiter)
{
    ngx_http_agntkey_flight_t  *flight;

    flight = ngx_http_agntkey_lookup_join(lookup, id, ngx_http_agntkey_clock());

    if (flight == NULL) {
        flight = ngx_calloc(sizeof(ngx_http_agntkey_flight_t), lookup->log);
        if (flight == NULL) {
            return NGX_DECLINED;
        }

        flight->lookup = lookup;
        ngx_queue_init(&flight->waiters);

        flight->fetch.data = flight;
        ngx_memcpy(flight->fetch.id, id, NGX_HTTP_AGNTKEY_ID_LEN);

        if (ngx_http_agntkey_fetch_start(lookup->fetcher, &flight->fetch)
            != NGX_OK)
        {
            ngx_http_agntkey_lookup_flight_free(flight);
            return NGX_DECLINED;
        }
    }

    waiter->flight = flight;
    ngx_queue_insert_tail(&flight->waiters, &waiter->queue);

    return NGX_OK;
}


void
ngx_http_agntkey_lookup_cancel(ngx_http_agntkey_waiter_t *waiter)
{
    if (waiter->flight) {
        waiter->flight = NULL;
        ngx_queue_remove(&waiter->queue);
    }
}


/*
 * Redis has told of a write to that key of it, or to any.  What is under way
 * may have been read before it, and nobody who comes from now on may be told.
 */

static void
ngx_http_agntkey_lookup_changed(void *data, ngx_str_t *key)
{
    u_char                      id[NGX_HTTP_AGNTKEY_ID_LEN];
    ngx_str_t                   workspace;
    ngx_http_agntkey_lookup_t  *lookup = data;

    if (key == NULL) {
        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, lookup->log, 0,
                       "agntkey forgets all");

        if (lookup->cache) {
            ngx_http_agntkey_cache_flush(lookup->cache);
        }

        return;
    }

    switch (ngx_http_agntkey_keyspace_parse(key, id, &workspace)) {

    case NGX_HTTP_AGNTKEY_KEYSPACE_KEY:
        ngx_http_agntkey_lookup_forget_key(lookup, id);
        break;

    case NGX_HTTP_AGNTKEY_KEYSPACE_WORKSPACE:
        ngx_http_agntkey_lookup_forget_workspace(lookup, id, &workspace);
        break;

    default: /* NGX_HTTP_AGNTKEY_KEYSPACE_OTHER */
        break;
    }
}


void
ngx_http_agntkey_lookup_forget_key(ngx_http_agntkey_lookup_t *lookup,
    u_char *id)
{
    ngx_http_agntkey_flight_t  *flight;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, lookup->log, 0,
                   "agntkey forgets key %*s",
                   (size_t) NGX_HTTP_AGNTKEY_ID_LEN, id);

    if (lookup->cache == NULL) {
        return;
    }

    ngx_http_agntkey_cache_forget(lookup->cache, id);

    flight = ngx_http_agntkey_lookup_opened(lookup, id);

    if (flight) {
        ngx_http_agntkey_lookup_flight_unlist(flight);
    }
}


void
ngx_http_agntkey_lookup_forget_workspace(ngx_http_agntkey_lookup_t *lookup,
    u_char *tag, ngx_str_t *workspace)
{
    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, lookup->log, 0,
                   "agntkey forgets workspace %V", workspace);

    if (lookup->cache) {
        ngx_http_agntkey_cache_forget_workspace(lookup->cache, tag, workspace);
    }
}


static void
ngx_http_agntkey_lookup_expired(void *data, int64_t good)
{
    ngx_http_agntkey_lookup_t  *lookup = data;

    ngx_http_agntkey_cache_end_epoch(lookup->cache, good);
}


static ngx_http_agntkey_flight_t **
ngx_http_agntkey_lookup_bucket(ngx_http_agntkey_lookup_t *lookup, u_char *id)
{
    return &lookup->flights[ngx_http_agntkey_cache_hash(lookup->cache, id)
                         & (NGX_HTTP_AGNTKEY_LOOKUP_BUCKETS - 1)];
}


/* The look-up of an id that others may join, or NULL; there is one at most. */

static ngx_http_agntkey_flight_t *
ngx_http_agntkey_lookup_opened(ngx_http_agntkey_lookup_t *lookup, u_char *id)
{
    ngx_http_agntkey_flight_t  *flight;

    for (flight = *ngx_http_agntkey_lookup_bucket(lookup, id);
         flight;
         flight = flight->next)
    {
        if (ngx_memcmp(flight->fetch.id, id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {
            break;
        }
    }

    return flight;
}


/* For whom it would be good to have been read a moment ago: that is a hit. */

static ngx_http_agntkey_flight_t *
ngx_http_agntkey_lookup_join(ngx_http_agntkey_lookup_t *lookup, u_char *id,
    int64_t now)
{
    ngx_http_agntkey_flight_t  *flight;

    if (lookup->cache == NULL
        || !ngx_http_agntkey_lease_valid(lookup->lease, now))
    {
        return NULL;
    }

    flight = ngx_http_agntkey_lookup_opened(lookup, id);

    if (flight && ngx_http_agntkey_lookup_flight_fresh(flight)) {
        return flight;
    }

    return NULL;
}


/* Is what it reads known not to have changed since? */

static ngx_uint_t
ngx_http_agntkey_lookup_flight_fresh(ngx_http_agntkey_flight_t *flight)
{
    return flight->epoch
           && flight->epoch
              == ngx_http_agntkey_cache_epoch(flight->lookup->cache)
           && (flight->workspace == NULL
               || flight->workspace->changes == flight->changes);
}


/* From now on, if the lease is valid, others may join. */

static void
ngx_http_agntkey_lookup_flight_list(void *data)
{
    ngx_http_agntkey_flight_t  *flight = data;
    ngx_http_agntkey_flight_t  *other, **bucket;
    ngx_http_agntkey_lookup_t  *lookup;

    lookup = flight->lookup;

    ngx_http_agntkey_lookup_flight_unlist(flight);

    if (lookup->cache == NULL) {
        return;
    }

    flight->number = ++lookup->asked;
    flight->sent = ngx_http_agntkey_clock();

    if (!ngx_http_agntkey_lease_valid(lookup->lease, flight->sent)) {
        return;
    }

    other = ngx_http_agntkey_lookup_opened(lookup, flight->fetch.id);

    if (other) {
        ngx_http_agntkey_lookup_flight_unlist(other);
    }

    bucket = ngx_http_agntkey_lookup_bucket(lookup, flight->fetch.id);

    flight->epoch = ngx_http_agntkey_cache_epoch(lookup->cache);
    flight->joinable = 1;

    flight->next = *bucket;
    *bucket = flight;
}


/* How often the workspace will have changed, nobody knows yet. */

static void
ngx_http_agntkey_lookup_flight_workspace(void *data, ngx_str_t *name)
{
    ngx_http_agntkey_flight_t  *flight = data;
    ngx_http_agntkey_cache_t   *cache;

    cache = flight->lookup->cache;

    if (cache == NULL) {
        return;
    }

    if (flight->workspace) {
        ngx_http_agntkey_cache_unref_workspace(cache, flight->workspace);
    }

    flight->workspace = ngx_http_agntkey_cache_workspace(cache,
                                                         flight->fetch.id,
                                                         name);
    if (flight->workspace == NULL) {
        ngx_http_agntkey_lookup_flight_unlist(flight);
        return;
    }

    flight->changes = flight->workspace->changes;
}


/*
 * What was read to be otherwise is no more remembered, whatever becomes of the
 * rest of the look-up, with a lease or without: agntkey_stale would go on with
 * what this worker knows to be over.  A look-up that was sent earlier and is
 * not whole yet must not bring it back.
 */

static void
ngx_http_agntkey_lookup_flight_key_read(void *data,
    ngx_http_agntkey_record_t *key)
{
    ngx_http_agntkey_flight_t  *flight = data;
    ngx_http_agntkey_flight_t  *other;
    ngx_http_agntkey_lookup_t  *lookup;

    lookup = flight->lookup;

    if (lookup->cache == NULL) {
        return;
    }

    (void) ngx_http_agntkey_cache_compare(lookup->cache, flight->fetch.id, key);

    other = ngx_http_agntkey_lookup_opened(lookup, flight->fetch.id);

    if (other && other->number < flight->number) {
        ngx_http_agntkey_lookup_flight_unlist(other);
    }
}


/* All keys of the workspace are concerned, and not only the one asked for. */

static void
ngx_http_agntkey_lookup_flight_workspace_read(void *data, ngx_str_t *name,
    ngx_uint_t active)
{
    ngx_http_agntkey_flight_t  *flight = data;

    if (flight->lookup->cache && !active) {
        ngx_http_agntkey_cache_inactive(flight->lookup->cache, flight->fetch.id,
                                        name);
    }
}


static ngx_uint_t
ngx_http_agntkey_lookup_flight_has_waiters(void *data)
{
    ngx_http_agntkey_flight_t  *flight = data;

    return !ngx_queue_empty(&flight->waiters);
}


static void
ngx_http_agntkey_lookup_flight_unlist(ngx_http_agntkey_flight_t *flight)
{
    ngx_http_agntkey_flight_t  **p;

    flight->epoch = 0;

    if (!flight->joinable) {
        return;
    }

    flight->joinable = 0;

    p = ngx_http_agntkey_lookup_bucket(flight->lookup, flight->fetch.id);

    while (*p != flight) {
        p = &(*p)->next;
    }

    *p = flight->next;
}


/*
 * Only what has not changed since it was asked for.  Of what may have, nothing
 * is remembered; what it says against the older knowledge has counted already.
 */

static void
ngx_http_agntkey_lookup_flight_remember(ngx_http_agntkey_flight_t *flight,
    ngx_int_t rc)
{
    int64_t                    until;
    ngx_http_agntkey_cache_t  *cache;
    ngx_http_agntkey_fetch_t  *fetch;

    cache = flight->lookup->cache;
    fetch = &flight->fetch;

    if (cache == NULL) {
        return;
    }

    if (rc == NGX_ABORT || !ngx_http_agntkey_lookup_flight_fresh(flight)) {
        return;
    }

    until = flight->sent + NGX_HTTP_AGNTKEY_LOOKUP_AGE
            - (int64_t) (ngx_random() % (NGX_HTTP_AGNTKEY_LOOKUP_AGE / 4));

    if (rc == NGX_DECLINED) {
        ngx_http_agntkey_cache_put(cache, fetch->id, NULL, NULL, flight->sent,
                                   until);
        return;
    }

    flight->workspace->active = fetch->workspace_active;
    flight->workspace->epoch = flight->epoch;

    ngx_http_agntkey_cache_put(cache, fetch->id, &fetch->key, flight->workspace,
                               flight->sent, until);
}


/*
 * Whoever is told may begin or give up other look-ups, and with the end of
 * his connection even his neighbours here may go.
 */

static void
ngx_http_agntkey_lookup_flight_done(void *data, ngx_int_t rc)
{
    ngx_queue_t                *q;
    ngx_http_agntkey_flight_t  *flight = data;
    ngx_http_agntkey_fetch_t   *fetch;
    ngx_http_agntkey_waiter_t  *waiter;

    fetch = &flight->fetch;

    if (rc != NGX_ERROR) {
        ngx_http_agntkey_lookup_flight_remember(flight, rc);
    }

    ngx_http_agntkey_lookup_flight_unlist(flight);

    if (rc == NGX_OK || rc == NGX_DECLINED) {
        flight->lookup->stale = 0;
    }

    while (!ngx_queue_empty(&flight->waiters)) {
        q = ngx_queue_head(&flight->waiters);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_http_agntkey_waiter_t, queue);
        waiter->flight = NULL;

        waiter->handler(waiter->data, rc, rc == NGX_OK ? &fetch->key : NULL,
                        fetch->workspace_active);
    }

    ngx_http_agntkey_lookup_flight_free(flight);
}


static void
ngx_http_agntkey_lookup_flight_free(ngx_http_agntkey_flight_t *flight)
{
    if (flight->workspace) {
        ngx_http_agntkey_cache_unref_workspace(flight->lookup->cache,
                                               flight->workspace);
    }

    ngx_free(flight);
}
