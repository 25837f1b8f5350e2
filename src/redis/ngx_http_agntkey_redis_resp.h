
/*
 * Copyright (C) the agntkey authors
 *
 * RESP2, the protocol of Redis (redis.io/docs/reference/protocol-spec), as
 * hiredis reads and writes it: bytes in, replies out, no I/O.  Only this pair
 * of files knows hiredis.
 */


#ifndef _NGX_HTTP_AGNTKEY_REDIS_RESP_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_REDIS_RESP_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * What one reply may hold.  A page of 100 keys with the longest names and
 * scopes takes about 300 KB and 1,000 elements; the rest is head-room.
 * The array itself is one of the elements.  Without these bounds 13 bytes
 * ("*2147483647\r\n") ask for 17 GB.
 */
#ifndef NGX_HTTP_AGNTKEY_RESP_BYTES
#define NGX_HTTP_AGNTKEY_RESP_ELEMENTS   16384
#define NGX_HTTP_AGNTKEY_RESP_BYTES      (1024 * 1024)

/*
 * What is beyond these bounds is dropped as it comes, up to the end of its
 * reply, so that the replies behind it can be read: so many bytes at most,
 * which is half a second (agntkey_redis_timeout) of a gigabit.
 */
#define NGX_HTTP_AGNTKEY_RESP_SKIP       (64 * 1024 * 1024)
#endif


typedef enum {
    NGX_HTTP_AGNTKEY_RESP_NIL = 0,
    NGX_HTTP_AGNTKEY_RESP_STRING,
    NGX_HTTP_AGNTKEY_RESP_STATUS,
    NGX_HTTP_AGNTKEY_RESP_ERROR,
    NGX_HTTP_AGNTKEY_RESP_INTEGER,
    NGX_HTTP_AGNTKEY_RESP_ARRAY
} ngx_http_agntkey_redis_resp_e;


typedef struct ngx_http_agntkey_redis_reply_s  ngx_http_agntkey_redis_reply_t;

struct ngx_http_agntkey_redis_reply_s {
    ngx_http_agntkey_redis_resp_e      type;
    ngx_str_t                          str;       /* STRING, STATUS, ERROR */
    int64_t                            integer;
    ngx_uint_t                         nelts;     /* ARRAY */
    ngx_http_agntkey_redis_reply_t   **elts;      /* none of them NULL */

    /* an ERROR that is not from Redis: a reply beyond the bounds was dropped */
    unsigned                           large:1;
};


typedef struct ngx_http_agntkey_redis_resp_s  ngx_http_agntkey_redis_resp_t;


/*
 * A reader for one connection, or NULL without memory.  In place of a reply
 * that is beyond the bounds above it yields an ERROR with "large" set, if no
 * more than skip bytes of it have to be dropped; 0: such a reply is NGX_ERROR.
 */
ngx_http_agntkey_redis_resp_t *ngx_http_agntkey_redis_resp_create(size_t skip);

/* Frees the reader and what it had begun to read.  NULL is fine. */
void ngx_http_agntkey_redis_resp_destroy(ngx_http_agntkey_redis_resp_t *resp);

/*
 * Hands bytes to the reader, which copies them.  Returns NGX_OK, or
 * NGX_ERROR without memory or after a protocol error.
 */
ngx_int_t ngx_http_agntkey_redis_resp_feed(ngx_http_agntkey_redis_resp_t *resp,
    u_char *buf, size_t len);

/*
 * The next whole reply.  The caller frees it.
 *
 * Returns
 *     NGX_OK     *reply is set
 *     NGX_AGAIN  more bytes are needed
 *     NGX_ERROR  not RESP2, or more than may be dropped; the connection is of
 *                no more use, ngx_http_agntkey_redis_resp_error() says why
 */
ngx_int_t ngx_http_agntkey_redis_resp_next(ngx_http_agntkey_redis_resp_t *resp,
    ngx_http_agntkey_redis_reply_t **reply);

/* Why NGX_ERROR; a terminated text that the reader owns. */
char *ngx_http_agntkey_redis_resp_error(ngx_http_agntkey_redis_resp_t *resp);

/* Frees a reply and all it holds.  NULL is fine. */
void ngx_http_agntkey_redis_resp_free(ngx_http_agntkey_redis_reply_t *reply);

/*
 * The value of that name in a map as RESP2 has it, an array of names and values
 * by turns; or NULL.
 */
ngx_http_agntkey_redis_reply_t *ngx_http_agntkey_redis_resp_field(
    ngx_http_agntkey_redis_reply_t *reply, const char *name);

/*
 * An error reply for the log: its first line, up to where Redis
 * begins to quote arguments; of an error inside a script what went wrong,
 * and not where.  buf has room for 128 bytes; *text points there.
 */
void ngx_http_agntkey_redis_resp_error_text(
    ngx_http_agntkey_redis_reply_t *reply, u_char *buf, ngx_str_t *text);

/* The same for a reply that was not expected, whatever its type. */
void ngx_http_agntkey_redis_resp_describe(
    ngx_http_agntkey_redis_reply_t *reply, u_char *buf, ngx_str_t *text);

/*
 * A command as an array of bulk strings.  Sets cmd to memory that the caller
 * gives back with ngx_http_agntkey_redis_resp_format_free().  Returns NGX_OK or
 * NGX_ERROR.
 */
ngx_int_t ngx_http_agntkey_redis_resp_format(ngx_str_t *argv, ngx_uint_t argc,
    ngx_str_t *cmd);
void ngx_http_agntkey_redis_resp_format_free(ngx_str_t *cmd);


#endif /* _NGX_HTTP_AGNTKEY_REDIS_RESP_H_INCLUDED_ */
