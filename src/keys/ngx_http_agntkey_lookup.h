
/*
 * Copyright (C) the agntkey authors
 *
 * What a request wants to know: asked of Redis, once for all who wait for the
 * same key, and cached for as long as the lease is valid.
 */


#ifndef _NGX_HTTP_AGNTKEY_LOOKUP_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_LOOKUP_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_cache.h"
#include "ngx_http_agntkey_fetch.h"
#include "ngx_http_agntkey_lease.h"
#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_redis_client.h"


typedef struct ngx_http_agntkey_lookup_s  ngx_http_agntkey_lookup_t;
typedef struct ngx_http_agntkey_flight_s  ngx_http_agntkey_flight_t;


/* what a worker may remember */

typedef struct {
    ngx_uint_t                         entries;      /* keys; 0: nothing */
    ngx_uint_t                         negative;     /* ids nobody has */
    ngx_msec_t                         lease;
} ngx_http_agntkey_lookup_conf_t;


/*
 * Called once for each look-up, never from inside
 * ngx_http_agntkey_lookup_find().
 *
 *     NGX_OK        key is a complete record, which lives until the handler
 *                   returns; workspace_active is 1 or 0
 *     NGX_DECLINED  Redis has no such key; key is NULL
 *     NGX_ERROR     Redis could not be asked or did not answer; key is NULL
 *     NGX_ABORT     what Redis holds makes no sense; key is NULL
 */
typedef void (*ngx_http_agntkey_lookup_handler_pt)(void *data, ngx_int_t rc,
    ngx_http_agntkey_record_t *key, ngx_uint_t workspace_active);


/* somebody who waits for a look-up, in memory of his own */

typedef struct {
    ngx_queue_t                          queue;
    ngx_http_agntkey_flight_t           *flight;     /* NULL: does not wait */
    ngx_http_agntkey_lookup_handler_pt   handler;
    void                                *data;
} ngx_http_agntkey_waiter_t;


/*
 * The look-up of one worker.  Questions go over the client that is given, which
 * ends before the look-up does.  Returns NULL without memory.
 */
ngx_http_agntkey_lookup_t *ngx_http_agntkey_lookup_create(
    ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_lookup_conf_t *conf, ngx_log_t *log);

/* Handlers of look-ups are not called. */
void ngx_http_agntkey_lookup_destroy(ngx_http_agntkey_lookup_t *lookup);

/*
 * What the lease of the worker has to call, with the look-up as data, and the
 * lease itself: without one, nothing is answered from the cache.
 */
void ngx_http_agntkey_lookup_lease_handlers(
    ngx_http_agntkey_lease_handlers_t *handlers);
void ngx_http_agntkey_lookup_set_lease(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_lease_t *lease);

/*
 * What is remembered of an id of NGX_HTTP_AGNTKEY_ID_LEN bytes, if it may be
 * trusted now; or NULL.  workspace is NULL in it when nobody has the id.  To
 * be given back.
 */
ngx_http_agntkey_entry_t *ngx_http_agntkey_lookup_cached(
    ngx_http_agntkey_lookup_t *lookup, u_char *id);

/*
 * A key that was good no longer than that many ms ago, for a request whose
 * look-up has ended with NGX_ERROR; or NULL.  To be given back.
 */
ngx_http_agntkey_entry_t *ngx_http_agntkey_lookup_stale(
    ngx_http_agntkey_lookup_t *lookup, u_char *id, ngx_msec_t ms);

void ngx_http_agntkey_lookup_release(ngx_http_agntkey_lookup_t *lookup,
    ngx_http_agntkey_entry_t *entry);

/*
 * Looks up the key of an id, and its workspace, or joins a look-up of it that
 * is under way.
 *
 * Returns NGX_OK: the waiter waits until its handler is called; or
 * NGX_DECLINED when Redis cannot be asked.
 */
ngx_int_t ngx_http_agntkey_lookup_find(ngx_http_agntkey_lookup_t *lookup,
    u_char *id, ngx_http_agntkey_waiter_t *waiter);

/*
 * The record of that key, or of that workspace, has changed: nothing that was
 * read before is told to anybody who comes from now on.
 */
void ngx_http_agntkey_lookup_forget_key(ngx_http_agntkey_lookup_t *lookup,
    u_char *id);
void ngx_http_agntkey_lookup_forget_workspace(
    ngx_http_agntkey_lookup_t *lookup, u_char *tag, ngx_str_t *workspace);

/* Whoever asked has gone; the handler will not be called. */
void ngx_http_agntkey_lookup_cancel(ngx_http_agntkey_waiter_t *waiter);


#endif /* _NGX_HTTP_AGNTKEY_LOOKUP_H_INCLUDED_ */
