
/*
 * Copyright (C) the agntkey authors
 *
 * May what this worker remembers be trusted?  As long as it holds a lease.
 *
 *     DOWN ---> READY ---> CANARY ---> PROOF ---> TRUSTED
 *      ^__________|__________|___________|___________|
 *
 *     READY    the stream of invalidations is up
 *     CANARY   keys were written by the connection for commands: that the
 *              stream names them proves what a "+OK" does not
 *     PROOF    the lease is in the registry, and a message sent along with
 *              it is to come back by the stream
 *     TRUSTED  it has; this is repeated a few times while a lease lasts
 *
 * Whoever loses one of the two connections begins anew.  "How a worker gets a
 * lease" in docs/coherence.md says what each step is for.
 */


#ifndef _NGX_HTTP_AGNTKEY_LEASE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_LEASE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_keyspace.h"
#include "ngx_http_agntkey_redis_client.h"
#include "ngx_http_agntkey_redis_conf.h"


/* how a worker is told from others, hex digits, and where it listens */
#define NGX_HTTP_AGNTKEY_WORKER_LEN       16
#define NGX_HTTP_AGNTKEY_WORKER_CHANNEL_LEN                                   \
    (sizeof(NGX_HTTP_AGNTKEY_NAME_WORKER) - 1 + NGX_HTTP_AGNTKEY_WORKER_LEN)


/* no lease is longer, ms; as in src/lua/mark.lua */
#define NGX_HTTP_AGNTKEY_LEASE_LONGEST    60000


typedef struct ngx_http_agntkey_lease_s  ngx_http_agntkey_lease_t;


/* what comes up from it; none of these may destroy the watch */

typedef struct {

    /* that key of Redis was written; NULL: any of them may have been */
    void   (*changed)(void *data, ngx_str_t *key);

    /* trust is over; what was remembered was true up to then, ms */
    void   (*expired)(void *data, int64_t renewed_at);

} ngx_http_agntkey_lease_handlers_t;

/* what was said to all workers, and to this one, in its place in the stream */
typedef void (*ngx_http_agntkey_lease_message_pt)(void *data, ngx_str_t *text);


/*
 * The watch of one worker.  Commands go over the client that is given, which
 * outlives it.  With lease (ms) 0 nothing is ever trusted, and only the
 * answers of other workers are listened to.  Returns NULL without memory.
 */
ngx_http_agntkey_lease_t *ngx_http_agntkey_lease_create(
    ngx_http_agntkey_redis_conf_t *conf,
    ngx_http_agntkey_redis_client_t *commands, ngx_msec_t length,
    ngx_http_agntkey_lease_handlers_t *handlers, void *data, ngx_log_t *log);

/* Takes its lease back, as far as that can be done at once. */
void ngx_http_agntkey_lease_destroy(ngx_http_agntkey_lease_t *lease);

/*
 * May what is remembered be trusted at this time of ngx_http_agntkey_clock()?
 * 1 or 0.
 */
ngx_uint_t ngx_http_agntkey_lease_valid(ngx_http_agntkey_lease_t *lease,
    int64_t now);

/* Sets who hears what others have to say. */
void ngx_http_agntkey_lease_subscribe(ngx_http_agntkey_lease_t *lease,
    ngx_http_agntkey_lease_message_pt barrier,
    ngx_http_agntkey_lease_message_pt on_message, void *data);

/*
 * Nobody has answered a question.  Who holds leases would know by now if the
 * stream were to blame; who only listens begins anew.
 */
void ngx_http_agntkey_lease_suspect(ngx_http_agntkey_lease_t *lease);

/* Who this worker is, and the channel that it listens to. */
u_char *ngx_http_agntkey_lease_worker(ngx_http_agntkey_lease_t *lease);
ngx_str_t *ngx_http_agntkey_lease_channel(ngx_http_agntkey_lease_t *lease);

/* The length of a lease in ms, of this worker or, without, of most. */
ngx_msec_t ngx_http_agntkey_lease_length(ngx_http_agntkey_lease_t *lease);


#endif /* _NGX_HTTP_AGNTKEY_LEASE_H_INCLUDED_ */
