
/*
 * Copyright (C) the agntkey authors
 *
 * Asks Redis for a key, and for the workspace that it is in.
 *
 *     agntkey:key:{tag}<8 random>            HMGET, all fields of the record
 *     agntkey:workspace:{tag}<workspace>     HGET active
 */


#ifndef _NGX_HTTP_AGNTKEY_FETCH_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_FETCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_fence.h"
#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_redis_client.h"
#include "ngx_http_agntkey_token.h"


/* an id, as it stands in the name of a key's record */
#define NGX_HTTP_AGNTKEY_FETCH_SLOT         "{0000}00000000"


typedef struct ngx_http_agntkey_fetcher_s  ngx_http_agntkey_fetcher_t;
typedef struct ngx_http_agntkey_fetch_s   ngx_http_agntkey_fetch_t;


/* what comes up from a look-up, with its data */

typedef struct {

    /* the key was asked for; once more, if the connection broke under it */
    void         (*key_asked)(void *data);

    /* the workspace was, which may be another than the one before */
    void         (*workspace_asked)(void *data, ngx_str_t *name);

    /*
     * What a reply says of one of the two records, as soon as it is here: the
     * other reply may never come.  It may be that of a server that is not the
     * primary any more, so it counts against what is known, and for nothing.
     * key is NULL when there is none, or none that makes sense.
     */
    void         (*key_read)(void *data, ngx_http_agntkey_record_t *key);
    void         (*workspace_read)(void *data, ngx_str_t *name,
                                   ngx_uint_t active);

    /* does anybody still want to know?  1 or 0 */
    ngx_uint_t   (*has_waiters)(void *data);

    /*
     * The last call, after which the look-up's memory is the owner's again.
     *
     *     NGX_OK        lookup->key is a complete record, which lives until
     *                   the handler returns
     *     NGX_DECLINED  Redis has no such key
     *     NGX_ERROR     Redis could not be asked, did not answer, or may not
     *                   be the primary
     *     NGX_ABORT     what Redis holds makes no sense
     */
    void         (*done)(void *data, ngx_int_t rc);

} ngx_http_agntkey_fetch_handlers_t;


/*
 * One look-up, in memory of its owner, zeroed and with its id and data set;
 * it lives until all its commands have been answered.
 */

struct ngx_http_agntkey_fetch_s {
    u_char                           id[NGX_HTTP_AGNTKEY_ID_LEN];
    void                            *data;

    ngx_http_agntkey_record_t        key;
    unsigned                         workspace_active:1;

    /* its own affairs */
    unsigned                         lost:1;
    unsigned                         failed:1;
    unsigned                         again:1;      /* the second try */
    ngx_uint_t                       waiting;      /* commands */
    ngx_http_agntkey_fetcher_t      *fetcher;
    ngx_http_agntkey_redis_reply_t  *reply;        /* that key points into */
    ngx_int_t                        rc;           /* of the key's record */
    size_t                           nworkspace;   /* 0: not asked for */
    u_char                           workspace[NGX_HTTP_AGNTKEY_WORKSPACE_MAX];
};


/*
 * What the look-ups of one worker have in common.  The client and the fence,
 * which is that of this client, outlive it.  Returns NULL without memory.
 */
ngx_http_agntkey_fetcher_t *ngx_http_agntkey_fetcher_create(
    ngx_http_agntkey_redis_client_t *redis, ngx_http_agntkey_fence_t *fence,
    ngx_http_agntkey_fetch_handlers_t *handlers, ngx_log_t *log);

/* Look-ups under way are left to themselves; their client goes, too. */
void ngx_http_agntkey_fetcher_destroy(ngx_http_agntkey_fetcher_t *fetcher);

/*
 * Begins.  Takes one trip to Redis when this worker has met the key before,
 * else two; never longer than agntkey_redis_timeout for each, and a
 * connection that breaks under it is tried once more.
 *
 * Returns NGX_OK: the handler "done" will be called, though not from inside
 * here; or NGX_ERROR when Redis cannot be asked.
 */
ngx_int_t ngx_http_agntkey_fetch_start(ngx_http_agntkey_fetcher_t *fetcher,
    ngx_http_agntkey_fetch_t *fetch);


#endif /* _NGX_HTTP_AGNTKEY_FETCH_H_INCLUDED_ */
