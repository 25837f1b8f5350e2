
/*
 * Copyright (C) the agntkey authors
 *
 * A barrier waits until all workers have seen a write.  It asks them by a
 * message on their invalidation connections, behind the invalidation, and waits
 * until all that hold a lease have acknowledged, or the leases of the others
 * have ended.
 *
 *     asks      HMGET record; registry, PUBLISH agntkey:barrier
 *     waits     for the answers, for WAIT and WAITAOF, for leases
 */


#ifndef _NGX_HTTP_AGNTKEY_BARRIER_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_BARRIER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_barrier_ack.h"
#include "ngx_http_agntkey_lease.h"
#include "ngx_http_agntkey_redis_client.h"


typedef struct ngx_http_agntkey_barriers_s  ngx_http_agntkey_barriers_t;
typedef struct ngx_http_agntkey_barrier_s   ngx_http_agntkey_barrier_t;


#define NGX_HTTP_AGNTKEY_WRITTEN_SCOPES       1
#define NGX_HTTP_AGNTKEY_WRITTEN_EXPIRES_AT   2


/*
 * What was written to a record, and must still be there when its workers have
 * been asked: that it is not active, or fields with their values ("": none).
 */

typedef struct {
    ngx_str_t      record;           /* its name in Redis */
    ngx_uint_t     revoked;
    ngx_uint_t     fields;           /* NGX_HTTP_AGNTKEY_WRITTEN_... */
    ngx_str_t      scopes;
    ngx_str_t      expires_at;
} ngx_http_agntkey_written_t;


typedef struct {
    ngx_uint_t     workers;          /* that held a lease */
    ngx_uint_t     acknowledged;     /* the leases of the others are over */
    ngx_uint_t     replicas;         /* that have what was written */
    ngx_int_t      synced;           /* is it on the disk of Redis?  1, 0, or
                                        NGX_DECLINED: not known */
} ngx_http_agntkey_receipt_t;


/*
 * Called once, never from inside ngx_http_agntkey_barrier_start().
 *
 *     NGX_OK     no worker can accept any more what was written off
 *     NGX_ERROR  that is not known: Redis did not answer, or has the record
 *                active; receipt is NULL
 */
typedef void (*ngx_http_agntkey_barrier_handler_pt)(void *data, ngx_int_t rc,
    ngx_http_agntkey_receipt_t *receipt);


/*
 * Asks over the client of administrators, and hears what others say by the
 * acks; all outlive it.  No question about replicas takes more than a quarter
 * of timeout (ms), which is that of a command.  Returns NULL without memory.
 */
ngx_http_agntkey_barriers_t *ngx_http_agntkey_barriers_create(
    ngx_http_agntkey_lease_t *lease, ngx_http_agntkey_barrier_ack_t *acks,
    ngx_http_agntkey_redis_client_t *admin, ngx_msec_t timeout, ngx_log_t *log);

/* Handlers are not called. */
void ngx_http_agntkey_barriers_destroy(ngx_http_agntkey_barriers_t *barriers);

/*
 * Asks, after the reply to what was written to the record, of which the values
 * are copied; over the same client.  Returns the barrier, valid until its
 * handler has been called, or NULL when nothing was sent.
 */
ngx_http_agntkey_barrier_t *ngx_http_agntkey_barrier_start(
    ngx_http_agntkey_barriers_t *barriers, ngx_http_agntkey_written_t *written,
    ngx_http_agntkey_barrier_handler_pt handler, void *data);

/* Whoever asked has gone; the handler will not be called. */
void ngx_http_agntkey_barrier_cancel(ngx_http_agntkey_barrier_t *barrier);


#endif /* _NGX_HTTP_AGNTKEY_BARRIER_H_INCLUDED_ */
