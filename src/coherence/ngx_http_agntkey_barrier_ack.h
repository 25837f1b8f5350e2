
/*
 * Copyright (C) the agntkey authors
 *
 * What this worker says when somebody asks who has come this far.
 *
 *     asked     agntkey:barrier           "<channel> <number>"
 *     says      agntkey:worker:<itself>   "echo <channel> <number>"
 *     and then  <channel>                 "ack <number> <worker>"
 */


#ifndef _NGX_HTTP_AGNTKEY_BARRIER_ACK_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_BARRIER_ACK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_lease.h"
#include "ngx_http_agntkey_redis_client.h"


typedef struct ngx_http_agntkey_barrier_ack_s  ngx_http_agntkey_barrier_ack_t;

/* That worker (NGX_HTTP_AGNTKEY_WORKER_LEN) has come as far as the barrier. */
typedef void (*ngx_http_agntkey_barrier_ack_handler_pt)(void *data,
    off_t barrier, u_char *worker);


/*
 * Acknowledges what the lease passes on, over the client for commands; both
 * outlive it.  Returns NULL without memory.
 */
ngx_http_agntkey_barrier_ack_t *ngx_http_agntkey_barrier_ack_create(
    ngx_http_agntkey_lease_t *lease, ngx_http_agntkey_redis_client_t *commands,
    ngx_log_t *log);

void ngx_http_agntkey_barrier_ack_destroy(ngx_http_agntkey_barrier_ack_t *acks);

/* Sets who hears what others say when this worker has asked. */
void ngx_http_agntkey_barrier_ack_set_handler(
    ngx_http_agntkey_barrier_ack_t *acks,
    ngx_http_agntkey_barrier_ack_handler_pt handler, void *data);


#endif /* _NGX_HTTP_AGNTKEY_BARRIER_ACK_H_INCLUDED_ */
