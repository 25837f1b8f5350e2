
/*
 * Copyright (C) the agntkey authors
 *
 * The promise: when a revocation has been answered, no worker of any host
 * accepts what was revoked.  So it is these steps, in this order:
 *
 *     write       into Redis, by a script that does it in one piece
 *     forget      what this worker has in its cache, or is about to put there
 *     barrier     every worker that holds a lease says that it has come as far
 *                 in the invalidations, or its lease has ended; and the record
 *                 still has what was written
 *     receipt     who has acknowledged, and on how many replicas it is
 *
 * The end of a key, other scopes, and the end of a workspace are revocations,
 * too: whatever a worker that has not heard of it would still let in.
 */


#ifndef _NGX_HTTP_AGNTKEY_REVOCATION_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REVOCATION_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_barrier.h"
#include "ngx_http_agntkey_keystore.h"
#include "ngx_http_agntkey_worker.h"


typedef struct ngx_http_agntkey_revocation_s  ngx_http_agntkey_revocation_t;


typedef struct {

    /*
     * Redis has answered, or has not.  The replies are those of the function of
     * ngx_http_agntkey_keystore.h with the same end of its name.  Returns
     * NGX_OK: it was written, and the other steps follow; or anything else: the
     * revocation is over, and gone when this returns.
     */
    ngx_int_t   (*written)(void *data, ngx_http_agntkey_redis_e rc,
                           ngx_http_agntkey_redis_reply_t **replies,
                           ngx_uint_t n);

    /*
     * The end; the revocation is gone.
     *
     *     NGX_OK     no worker accepts any more what was revoked
     *     NGX_ERROR  it was written, and the rest is not known; receipt is NULL
     */
    void        (*done)(void *data, ngx_int_t rc,
                        ngx_http_agntkey_receipt_t *receipt);

} ngx_http_agntkey_revocation_handlers_t;


/*
 * Each sends the write, and returns the revocation, which is valid until its
 * last handler is called; or NULL when nothing was sent.  No handler is called
 * from inside.  The worker has barriers; ids and names are copied.
 *
 *     revoke      a key
 *     change      a key; of the patch, scopes and expires_at are looked at
 *     rotate      the old key, which ends soon or at once
 *     workspace   all keys of a workspace, which is switched off
 */
ngx_http_agntkey_revocation_t *ngx_http_agntkey_revocation_revoke(
    ngx_http_agntkey_worker_t *worker, ngx_http_agntkey_caller_t *caller,
    u_char *id, ngx_http_agntkey_revocation_handlers_t *handlers, void *data);

ngx_http_agntkey_revocation_t *ngx_http_agntkey_revocation_change(
    ngx_http_agntkey_worker_t *worker, ngx_http_agntkey_caller_t *caller,
    u_char *id, ngx_http_agntkey_key_patch_t *patch,
    ngx_http_agntkey_revocation_handlers_t *handlers, void *data);

ngx_http_agntkey_revocation_t *ngx_http_agntkey_revocation_rotate(
    ngx_http_agntkey_worker_t *worker, ngx_http_agntkey_caller_t *caller,
    u_char *id, ngx_http_agntkey_key_spec_t *spec, ngx_str_t *overlap,
    ngx_http_agntkey_revocation_handlers_t *handlers, void *data);

ngx_http_agntkey_revocation_t *ngx_http_agntkey_revocation_workspace(
    ngx_http_agntkey_worker_t *worker, ngx_http_agntkey_caller_t *caller,
    ngx_str_t *name, ngx_http_agntkey_revocation_handlers_t *handlers,
    void *data);

/* Whoever asked has gone: no handler is called any more. */
void ngx_http_agntkey_revocation_cancel(
    ngx_http_agntkey_revocation_t *revocation);


#endif /* _NGX_HTTP_AGNTKEY_REVOCATION_H_INCLUDED_ */
