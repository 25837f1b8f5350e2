
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_cache.h"

#include <openssl/rand.h>


/* of what there is a list each */
#define NGX_HTTP_AGNTKEY_CACHE_KEYS     0
#define NGX_HTTP_AGNTKEY_CACHE_NOBODY   1

/* where all are in use somebody has to go; how many may stay before that */
#define NGX_HTTP_AGNTKEY_CACHE_CHANCES  32


/* secret numbers: one, for a tag, the length of a name, the longest name */
#define NGX_HTTP_AGNTKEY_CACHE_SECRET                                         \
    (3 + NGX_HTTP_AGNTKEY_WORKSPACE_MAX / 4)


typedef struct {
    ngx_queue_t                     queue;      /* newest first */
    ngx_uint_t                      n;
    ngx_uint_t                      max;
} ngx_http_agntkey_cache_list_t;


/* owner of the entries and the workspaces */

struct ngx_http_agntkey_cache_s {
    ngx_http_agntkey_entry_t      **buckets;
    ngx_uint_t                      mask;

    ngx_http_agntkey_workspace_t  **homes;
    ngx_uint_t                      home_mask;

    ngx_http_agntkey_cache_list_t   lists[2];

    uint64_t                        epoch;
    uint64_t                        flushed;    /* older ones are worthless */
    uint64_t                        ended;      /* the last epoch, and up to */
    int64_t                         good;       /* when it was true, ms */

    uint64_t                        secret[NGX_HTTP_AGNTKEY_CACHE_SECRET];
    ngx_log_t                      *log;
};


static ngx_uint_t ngx_http_agntkey_cache_size(ngx_uint_t n);
static ngx_uint_t ngx_http_agntkey_cache_bucket(
    ngx_http_agntkey_cache_t *cache, u_char *id);
static uint32_t ngx_http_agntkey_cache_workspace_hash(
    ngx_http_agntkey_cache_t *cache, u_char *tag, ngx_str_t *name);
static ngx_http_agntkey_workspace_t *ngx_http_agntkey_cache_workspace_of(
    ngx_http_agntkey_cache_t *cache, u_char *tag, ngx_str_t *name,
    uint32_t hash);
static ngx_http_agntkey_cache_list_t *ngx_http_agntkey_cache_list(
    ngx_http_agntkey_cache_t *cache, ngx_http_agntkey_entry_t *entry);
static void ngx_http_agntkey_cache_make_room(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_cache_list_t *list);
static void ngx_http_agntkey_cache_remove(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_entry_t *entry);
static void ngx_http_agntkey_cache_copy(ngx_str_t *to, ngx_str_t *from,
    u_char **p);
static ngx_uint_t ngx_http_agntkey_cache_same(ngx_http_agntkey_record_t *one,
    ngx_http_agntkey_record_t *two);
static ngx_uint_t ngx_http_agntkey_cache_same_text(ngx_str_t *one,
    ngx_str_t *two);


ngx_http_agntkey_cache_t *
ngx_http_agntkey_cache_create(ngx_uint_t entries, ngx_uint_t negative,
    ngx_log_t *log)
{
    ngx_uint_t                 n, homes;
    ngx_http_agntkey_cache_t  *cache;

    cache = ngx_calloc(sizeof(ngx_http_agntkey_cache_t), log);
    if (cache == NULL) {
        return NULL;
    }

    cache->log = log;
    cache->epoch = 1;

    ngx_queue_init(&cache->lists[NGX_HTTP_AGNTKEY_CACHE_KEYS].queue);
    ngx_queue_init(&cache->lists[NGX_HTTP_AGNTKEY_CACHE_NOBODY].queue);

    cache->lists[NGX_HTTP_AGNTKEY_CACHE_KEYS].max = entries;
    cache->lists[NGX_HTTP_AGNTKEY_CACHE_NOBODY].max = negative;

    n = ngx_http_agntkey_cache_size(entries + negative);
    homes = ngx_http_agntkey_cache_size(entries / 4);

    cache->mask = n - 1;
    cache->home_mask = homes - 1;

    cache->buckets = ngx_calloc(n * sizeof(ngx_http_agntkey_entry_t *), log);
    cache->homes = ngx_calloc(homes * sizeof(ngx_http_agntkey_workspace_t *),
                              log);

    if (cache->buckets == NULL || cache->homes == NULL
        || RAND_bytes((u_char *) cache->secret, sizeof(cache->secret)) != 1)
    {
        ngx_http_agntkey_cache_destroy(cache);
        return NULL;
    }

    return cache;
}


void
ngx_http_agntkey_cache_destroy(ngx_http_agntkey_cache_t *cache)
{
    ngx_uint_t                 i;
    ngx_queue_t               *q;
    ngx_http_agntkey_entry_t  *entry;

    for (i = 0; i < 2; i++) {

        while (!ngx_queue_empty(&cache->lists[i].queue)) {
            q = ngx_queue_head(&cache->lists[i].queue);
            entry = ngx_queue_data(q, ngx_http_agntkey_entry_t, queue);
            ngx_http_agntkey_cache_remove(cache, entry);
        }
    }

    if (cache->homes) {
        ngx_free(cache->homes);
    }

    if (cache->buckets) {
        ngx_free(cache->buckets);
    }

    ngx_free(cache);
}


uint64_t
ngx_http_agntkey_cache_epoch(ngx_http_agntkey_cache_t *cache)
{
    return cache->epoch;
}


void
ngx_http_agntkey_cache_end_epoch(ngx_http_agntkey_cache_t *cache,
    int64_t good)
{
    cache->ended = cache->epoch;
    cache->good = good;

    cache->epoch++;
}


/* Nothing is freed here: that could take as long as there are entries. */

void
ngx_http_agntkey_cache_flush(ngx_http_agntkey_cache_t *cache)
{
    cache->epoch++;
    cache->flushed = cache->epoch;
}


ngx_http_agntkey_entry_t *
ngx_http_agntkey_cache_find(ngx_http_agntkey_cache_t *cache, u_char *id)
{
    ngx_http_agntkey_entry_t  *entry;

    for (entry = cache->buckets[ngx_http_agntkey_cache_bucket(cache, id)];
         entry;
         entry = entry->next)
    {
        if (ngx_memcmp(entry->id, id, NGX_HTTP_AGNTKEY_ID_LEN) == 0) {
            break;
        }
    }

    return entry;
}


ngx_uint_t
ngx_http_agntkey_cache_renew(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_entry_t *entry, int64_t now)
{
    if (entry->epoch != cache->epoch
        || entry->until <= now
        || (entry->workspace && entry->workspace->epoch != cache->epoch))
    {
        return 0;
    }

    entry->used = 1;

    return 1;
}


ngx_http_agntkey_entry_t *
ngx_http_agntkey_cache_stale(ngx_http_agntkey_cache_t *cache, u_char *id,
    int64_t now, int64_t ms)
{
    int64_t                        verified;
    ngx_http_agntkey_entry_t      *entry;
    ngx_http_agntkey_workspace_t  *workspace;

    entry = ngx_http_agntkey_cache_find(cache, id);

    if (entry == NULL || entry->workspace == NULL
        || entry->epoch < cache->flushed)
    {
        return NULL;
    }

    workspace = entry->workspace;

    if (!entry->key.active || !workspace->active || workspace->epoch == 0
        || workspace->epoch < cache->flushed)
    {
        return NULL;
    }

    verified = entry->verified;

    if (entry->epoch == cache->ended && workspace->epoch == cache->ended) {
        verified = ngx_max(verified, cache->good);
    }

    if (now - verified >= ms) {
        return NULL;
    }

    entry->used = 1;

    return entry;
}


void
ngx_http_agntkey_cache_put(ngx_http_agntkey_cache_t *cache, u_char *id,
    ngx_http_agntkey_record_t *key, ngx_http_agntkey_workspace_t *workspace,
    int64_t verified, int64_t until)
{
    u_char                         *p;
    size_t                          len;
    ngx_http_agntkey_entry_t       *entry, **bucket;
    ngx_http_agntkey_cache_list_t  *list;

    ngx_http_agntkey_cache_forget(cache, id);

    list = &cache->lists[key ? NGX_HTTP_AGNTKEY_CACHE_KEYS
                             : NGX_HTTP_AGNTKEY_CACHE_NOBODY];

    if (list->max == 0) {
        return;
    }

    len = key ? key->name.len + key->scopes.len : 0;

    entry = ngx_alloc(sizeof(ngx_http_agntkey_entry_t) + len, cache->log);
    if (entry == NULL) {
        return;
    }

    ngx_memzero(entry, sizeof(ngx_http_agntkey_entry_t));

    if (list->n == list->max) {
        ngx_http_agntkey_cache_make_room(cache, list);
    }

    if (key) {
        p = (u_char *) (entry + 1);

        entry->key = *key;
        entry->key.workspace = workspace->name;
        ngx_http_agntkey_cache_copy(&entry->key.name, &key->name, &p);
        ngx_http_agntkey_cache_copy(&entry->key.scopes, &key->scopes, &p);

        entry->workspace = workspace;
        workspace->refs++;
    }

    entry->epoch = cache->epoch;
    entry->verified = verified;
    entry->until = until;
    entry->refs = 1;
    ngx_memcpy(entry->id, id, NGX_HTTP_AGNTKEY_ID_LEN);

    bucket = &cache->buckets[ngx_http_agntkey_cache_bucket(cache, id)];

    entry->next = *bucket;
    *bucket = entry;

    ngx_queue_insert_head(&list->queue, &entry->queue);
    list->n++;
}


void
ngx_http_agntkey_cache_forget(ngx_http_agntkey_cache_t *cache, u_char *id)
{
    ngx_http_agntkey_entry_t  *entry;

    entry = ngx_http_agntkey_cache_find(cache, id);

    if (entry) {
        ngx_http_agntkey_cache_remove(cache, entry);
    }
}


void
ngx_http_agntkey_cache_forget_workspace(ngx_http_agntkey_cache_t *cache,
    u_char *tag, ngx_str_t *name)
{
    ngx_http_agntkey_workspace_t  *workspace;

    workspace = ngx_http_agntkey_cache_workspace_of(cache, tag, name,
                                    ngx_http_agntkey_cache_workspace_hash(cache,
                                    tag, name));
    if (workspace) {
        workspace->epoch = 0;
        workspace->changes++;
    }
}


ngx_uint_t
ngx_http_agntkey_cache_compare(ngx_http_agntkey_cache_t *cache, u_char *id,
    ngx_http_agntkey_record_t *key)
{
    ngx_http_agntkey_entry_t  *entry;

    entry = ngx_http_agntkey_cache_find(cache, id);

    if (entry == NULL) {
        return 0;
    }

    if (entry->workspace == NULL && key == NULL) {
        return 0;
    }

    if (entry->workspace && key
        && ngx_http_agntkey_cache_same(&entry->key, key))
    {
        return 0;
    }

    ngx_http_agntkey_cache_remove(cache, entry);

    return 1;
}


/*
 * Where nothing is known, or the same, look-ups under way are not voided: one
 * of them is about to tell.
 */

void
ngx_http_agntkey_cache_inactive(ngx_http_agntkey_cache_t *cache, u_char *tag,
    ngx_str_t *name)
{
    ngx_http_agntkey_workspace_t  *workspace;

    workspace = ngx_http_agntkey_cache_workspace_of(cache, tag, name,
                                    ngx_http_agntkey_cache_workspace_hash(cache,
                                    tag, name));

    if (workspace && workspace->active && workspace->epoch) {
        workspace->epoch = 0;
        workspace->changes++;
    }
}


void
ngx_http_agntkey_cache_ref(ngx_http_agntkey_entry_t *entry)
{
    entry->refs++;
}


void
ngx_http_agntkey_cache_unref(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_entry_t *entry)
{
    if (--entry->refs) {
        return;
    }

    if (entry->workspace) {
        ngx_http_agntkey_cache_unref_workspace(cache, entry->workspace);
    }

    ngx_free(entry);
}


ngx_http_agntkey_workspace_t *
ngx_http_agntkey_cache_workspace(ngx_http_agntkey_cache_t *cache, u_char *tag,
    ngx_str_t *name)
{
    uint32_t                       hash;
    ngx_http_agntkey_workspace_t  *workspace, **home;

    hash = ngx_http_agntkey_cache_workspace_hash(cache, tag, name);

    workspace = ngx_http_agntkey_cache_workspace_of(cache, tag, name, hash);

    if (workspace) {
        workspace->refs++;
        return workspace;
    }

    workspace = ngx_calloc(sizeof(ngx_http_agntkey_workspace_t) + name->len,
                           cache->log);
    if (workspace == NULL) {
        return NULL;
    }

    workspace->hash = hash;
    workspace->refs = 1;
    workspace->name.data = (u_char *) (workspace + 1);
    workspace->name.len = name->len;
    ngx_memcpy(workspace->name.data, name->data, name->len);
    ngx_memcpy(workspace->tag, tag, NGX_HTTP_AGNTKEY_TAG_LEN);

    home = &cache->homes[hash & cache->home_mask];

    workspace->next = *home;
    *home = workspace;

    return workspace;
}


void
ngx_http_agntkey_cache_unref_workspace(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_workspace_t *workspace)
{
    ngx_http_agntkey_workspace_t  **p;

    if (--workspace->refs) {
        return;
    }

    p = &cache->homes[workspace->hash & cache->home_mask];

    while (*p != workspace) {
        p = &(*p)->next;
    }

    *p = workspace->next;

    ngx_free(workspace);
}


/* a power of two, as many buckets as entries or a few more */

static ngx_uint_t
ngx_http_agntkey_cache_size(ngx_uint_t n)
{
    ngx_uint_t  size;

    for (size = 64; size < n; size *= 2) {
        /* void */
    }

    return size;
}


/*
 * Multilinear, after Carter and Wegman, "Universal classes of hash functions"
 * (1979): the high half of a sum of products with secret numbers.
 */

uint32_t
ngx_http_agntkey_cache_hash(ngx_http_agntkey_cache_t *cache, u_char *id)
{
    uint32_t  word[3];
    uint64_t  hash;

    ngx_memcpy(word, id, NGX_HTTP_AGNTKEY_ID_LEN);

    hash = cache->secret[0]
           + cache->secret[1] * word[0]
           + cache->secret[2] * word[1]
           + cache->secret[3] * word[2];

    return (uint32_t) (hash >> 32);
}


static ngx_uint_t
ngx_http_agntkey_cache_bucket(ngx_http_agntkey_cache_t *cache, u_char *id)
{
    return ngx_http_agntkey_cache_hash(cache, id) & cache->mask;
}


/*
 * The same for a workspace: customers may choose its name.  What is longer
 * than a name may be, which Redis can tell of, is not hashed to its end.
 */

static uint32_t
ngx_http_agntkey_cache_workspace_hash(ngx_http_agntkey_cache_t *cache,
    u_char *tag, ngx_str_t *name)
{
    size_t     len;
    u_char    *p;
    uint32_t   word;
    uint64_t   hash, *secret;

    secret = cache->secret;

    ngx_memcpy(&word, tag, NGX_HTTP_AGNTKEY_TAG_LEN);

    hash = *secret++;
    hash += *secret++ * word;
    hash += *secret++ * (uint32_t) name->len;

    p = name->data;

    for (len = ngx_min(name->len, NGX_HTTP_AGNTKEY_WORKSPACE_MAX);
         len >= sizeof(uint32_t);
         len -= sizeof(uint32_t))
    {
        ngx_memcpy(&word, p, sizeof(uint32_t));
        p += sizeof(uint32_t);

        hash += *secret++ * word;
    }

    if (len) {
        word = 0;
        ngx_memcpy(&word, p, len);

        hash += *secret * word;
    }

    return (uint32_t) (hash >> 32);
}


static ngx_http_agntkey_workspace_t *
ngx_http_agntkey_cache_workspace_of(ngx_http_agntkey_cache_t *cache,
    u_char *tag, ngx_str_t *name, uint32_t hash)
{
    ngx_http_agntkey_workspace_t  *workspace;

    for (workspace = cache->homes[hash & cache->home_mask];
         workspace;
         workspace = workspace->next)
    {
        if (workspace->hash == hash
            && workspace->name.len == name->len
            && ngx_memcmp(workspace->name.data, name->data, name->len) == 0
            && ngx_memcmp(workspace->tag, tag, NGX_HTTP_AGNTKEY_TAG_LEN) == 0)
        {
            break;
        }
    }

    return workspace;
}


static ngx_http_agntkey_cache_list_t *
ngx_http_agntkey_cache_list(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_entry_t *entry)
{
    return &cache->lists[entry->workspace ? NGX_HTTP_AGNTKEY_CACHE_KEYS
                                          : NGX_HTTP_AGNTKEY_CACHE_NOBODY];
}


/* From the oldest on, what has been used since the last visit may stay. */

static void
ngx_http_agntkey_cache_make_room(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_cache_list_t *list)
{
    ngx_uint_t                 passed;
    ngx_queue_t               *q;
    ngx_http_agntkey_entry_t  *entry;

    for (passed = 0; /* void */ ; passed++) {
        q = ngx_queue_last(&list->queue);
        entry = ngx_queue_data(q, ngx_http_agntkey_entry_t, queue);

        if (!entry->used || entry->epoch != cache->epoch
            || passed == NGX_HTTP_AGNTKEY_CACHE_CHANCES)
        {
            ngx_http_agntkey_cache_remove(cache, entry);
            return;
        }

        entry->used = 0;

        ngx_queue_remove(q);
        ngx_queue_insert_head(&list->queue, q);
    }
}


static void
ngx_http_agntkey_cache_remove(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_entry_t *entry)
{
    ngx_http_agntkey_entry_t  **p;

    p = &cache->buckets[ngx_http_agntkey_cache_bucket(cache, entry->id)];

    while (*p != entry) {
        p = &(*p)->next;
    }

    *p = entry->next;

    ngx_queue_remove(&entry->queue);
    ngx_http_agntkey_cache_list(cache, entry)->n--;

    ngx_http_agntkey_cache_unref(cache, entry);
}


static void
ngx_http_agntkey_cache_copy(ngx_str_t *to, ngx_str_t *from, u_char **p)
{
    to->data = *p;
    to->len = from->len;

    if (from->len) {
        *p = ngx_cpymem(*p, from->data, from->len);
    }
}


static ngx_uint_t
ngx_http_agntkey_cache_same(ngx_http_agntkey_record_t *one,
    ngx_http_agntkey_record_t *two)
{
    return one->active == two->active
           && one->created_at == two->created_at
           && one->expires_at == two->expires_at
           && one->revoked_at == two->revoked_at
           && ngx_memcmp(one->digest, two->digest, sizeof(one->digest)) == 0
           && ngx_http_agntkey_cache_same_text(&one->workspace,
                                               &two->workspace)
           && ngx_http_agntkey_cache_same_text(&one->name, &two->name)
           && ngx_http_agntkey_cache_same_text(&one->scopes, &two->scopes);
}


static ngx_uint_t
ngx_http_agntkey_cache_same_text(ngx_str_t *one, ngx_str_t *two)
{
    return one->len == two->len
           && (one->len == 0 || ngx_memcmp(one->data, two->data, one->len)
                                == 0);
}
