
/*
 * Copyright (C) the agntkey authors
 *
 * What one worker remembers of keys and workspaces: bounded, and of no use
 * for a hit in any epoch but the one it was read in.  No I/O and no clock; the
 * times it is given are those of ngx_http_agntkey_clock().
 *
 *      id ----> entry: record of the key, epoch, until ----.
 *      id ----> entry: record of the key, epoch, until ----+--> workspace:
 *      id ----> entry: no such key,       epoch, until          active, epoch
 *
 * Entries of keys and of ids that nobody has are counted apart, so that a
 * flood of the latter pushes out none of the former.  In each of the two
 * lists the one goes first that has not been used for a while (second
 * chance).  A workspace lives as long as somebody refers to it.
 */


#ifndef _NGX_HTTP_AGNTKEY_CACHE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_CACHE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_token.h"


typedef struct ngx_http_agntkey_cache_s      ngx_http_agntkey_cache_t;
typedef struct ngx_http_agntkey_entry_s      ngx_http_agntkey_entry_t;
typedef struct ngx_http_agntkey_workspace_s  ngx_http_agntkey_workspace_t;


struct ngx_http_agntkey_workspace_s {
    ngx_http_agntkey_workspace_t  *next;        /* in its bucket */
    uint64_t                       epoch;       /* 0: active is not known */
    uint64_t                       changes;     /* how often it was forgotten */
    uint32_t                       hash;
    uint32_t                       refs;
    u_char                         tag[NGX_HTTP_AGNTKEY_TAG_LEN];
    ngx_str_t                      name;
    unsigned                       active:1;
};


/* one allocation, with the texts of its record behind it */

struct ngx_http_agntkey_entry_s {
    ngx_http_agntkey_entry_t      *next;        /* in its bucket */
    ngx_queue_t                    queue;       /* of its list */
    ngx_http_agntkey_record_t      key;
    ngx_http_agntkey_workspace_t  *workspace;   /* NULL: no such key */
    uint64_t                       epoch;
    int64_t                        verified;    /* when Redis was asked, ms */
    int64_t                        until;       /* the end of its use, ms */
    uint32_t                       refs;
    u_char                         id[NGX_HTTP_AGNTKEY_ID_LEN];
    unsigned                       used:1;      /* since it was last passed */
};


/*
 * A cache of up to that many keys, and of that many ids that nobody has.
 * Returns NULL without memory.
 */
ngx_http_agntkey_cache_t *ngx_http_agntkey_cache_create(ngx_uint_t entries,
    ngx_uint_t negative, ngx_log_t *log);

/* No entry and no workspace may be referred to any more. */
void ngx_http_agntkey_cache_destroy(ngx_http_agntkey_cache_t *cache);

/* The epoch that is under way; never 0. */
uint64_t ngx_http_agntkey_cache_epoch(ngx_http_agntkey_cache_t *cache);

/*
 * Ends the epoch: no entry is good for a hit any more.  What was read in it,
 * and not forgotten since, was true up to the time that is given.
 */
void ngx_http_agntkey_cache_end_epoch(ngx_http_agntkey_cache_t *cache,
    int64_t good);

/* Ends the epoch, and nothing of it was true: stale entries go as well. */
void ngx_http_agntkey_cache_flush(ngx_http_agntkey_cache_t *cache);

/*
 * The entry of the id (NGX_HTTP_AGNTKEY_ID_LEN bytes), good or not; or NULL.
 * It lives until the cache is changed, and longer for who refers to it.
 */
ngx_http_agntkey_entry_t *ngx_http_agntkey_cache_find(
    ngx_http_agntkey_cache_t *cache, u_char *id);

/* Is the entry good for a hit now, and its workspace?  1 or 0. */
ngx_uint_t ngx_http_agntkey_cache_renew(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_entry_t *entry, int64_t now);

/*
 * The entry of a key that was active, in an active workspace, no longer than
 * that many ms ago, and that nobody has heard a change of; or NULL.
 */
ngx_http_agntkey_entry_t *ngx_http_agntkey_cache_stale(
    ngx_http_agntkey_cache_t *cache, u_char *id, int64_t now, int64_t ms);

/*
 * Remembers, in place of what was known of the id: a record, whose texts are
 * copied, and its workspace; or, with key NULL, that there is none.  Does
 * nothing where there is no room or no memory.
 */
void ngx_http_agntkey_cache_put(ngx_http_agntkey_cache_t *cache, u_char *id,
    ngx_http_agntkey_record_t *key, ngx_http_agntkey_workspace_t *workspace,
    int64_t verified, int64_t until);

/*
 * Something has changed that key, or that workspace, which is found in Redis
 * by its tag (NGX_HTTP_AGNTKEY_TAG_LEN) and its name.
 */
void ngx_http_agntkey_cache_forget(ngx_http_agntkey_cache_t *cache,
    u_char *id);
void ngx_http_agntkey_cache_forget_workspace(ngx_http_agntkey_cache_t *cache,
    u_char *tag, ngx_str_t *name);

/*
 * Redis was read to hold that record, or, with key NULL, none: what is
 * remembered of the id is forgotten if it is anything else.  Returns 1 if it
 * was, or 0.  Nothing is remembered here.
 */
ngx_uint_t ngx_http_agntkey_cache_compare(ngx_http_agntkey_cache_t *cache,
    u_char *id, ngx_http_agntkey_record_t *key);

/* A workspace was read not to be active: is no more remembered to be so. */
void ngx_http_agntkey_cache_inactive(ngx_http_agntkey_cache_t *cache,
    u_char *tag, ngx_str_t *name);

/*
 * A number of 32 bits made of the id and a secret, so that whoever makes up
 * ids cannot have them meet in one bucket.
 */
uint32_t ngx_http_agntkey_cache_hash(ngx_http_agntkey_cache_t *cache,
    u_char *id);

/* Keeps an entry alive, and gives it back. */
void ngx_http_agntkey_cache_ref(ngx_http_agntkey_entry_t *entry);
void ngx_http_agntkey_cache_unref(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_entry_t *entry);

/*
 * The workspace of that tag and name, made if need be, and kept alive until
 * it is given back.  Returns NULL without memory.
 */
ngx_http_agntkey_workspace_t *ngx_http_agntkey_cache_workspace(
    ngx_http_agntkey_cache_t *cache, u_char *tag, ngx_str_t *name);
void ngx_http_agntkey_cache_unref_workspace(ngx_http_agntkey_cache_t *cache,
    ngx_http_agntkey_workspace_t *workspace);


#endif /* _NGX_HTTP_AGNTKEY_CACHE_H_INCLUDED_ */
