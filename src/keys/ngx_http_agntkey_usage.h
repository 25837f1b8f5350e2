
/*
 * Copyright (C) the agntkey authors
 *
 * When keys were last used: noted by each worker, and written to Redis now
 * and then, one write for each key.
 *
 *     agntkey:used:{tag}<workspace>     ZADD ... GT <ms> <id>
 *
 * GT (redis.io/docs/latest/commands/zadd, since 6.2) makes a write safe to
 * repeat, and workers need not agree on an order.
 */


#ifndef _NGX_HTTP_AGNTKEY_USAGE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_USAGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_redis_client.h"


/* keys that one worker may have to write at a time, about 110 bytes each */
#define NGX_HTTP_AGNTKEY_USAGE_KEYS   4096


typedef struct ngx_http_agntkey_usage_s  ngx_http_agntkey_usage_t;


/*
 * The notes of one worker, to be written every interval (ms).  They are also
 * written when the worker is told to end.  Returns NULL without memory.
 */
ngx_http_agntkey_usage_t *ngx_http_agntkey_usage_create(
    ngx_http_agntkey_redis_client_t *redis, ngx_msec_t interval,
    ngx_log_t *log);

/* What has not been written is lost. */
void ngx_http_agntkey_usage_destroy(ngx_http_agntkey_usage_t *usage);

/*
 * The key (NGX_HTTP_AGNTKEY_ID_LEN bytes) of the workspace was used now, in ms
 * since 1970.  Never waits; when too many are to be written, because Redis is
 * away, the use is counted and forgotten.
 */
void ngx_http_agntkey_usage_note(ngx_http_agntkey_usage_t *usage, u_char *id,
    ngx_str_t *workspace, int64_t now);


#endif /* _NGX_HTTP_AGNTKEY_USAGE_H_INCLUDED_ */
