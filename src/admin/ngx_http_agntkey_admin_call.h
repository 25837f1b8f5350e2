
/*
 * Copyright (C) the agntkey authors
 *
 * One call of the admin API, and what all calls have in common: waiting for
 * Redis, and the answers that do not depend on what was asked.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_CALL_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_CALL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_agntkey_admin_json.h"
#include "ngx_http_agntkey_keystore.h"
#include "ngx_http_agntkey_revocation.h"


typedef struct ngx_http_agntkey_route_s  ngx_http_agntkey_route_t;


/* one call; lives in the pool of its request */

typedef struct ngx_http_agntkey_admin_call_s  ngx_http_agntkey_admin_call_t;

struct ngx_http_agntkey_admin_call_s {
    ngx_http_request_t                *request;
    ngx_http_agntkey_worker_t         *worker;
    ngx_http_agntkey_redis_batch_t    *batch;      /* set while it waits ... */
    ngx_http_agntkey_revocation_t     *revocation; /* ... or this */
    ngx_http_agntkey_route_t          *route;
    unsigned                           writes:1;  /* may have changed a thing */

    ngx_str_t                          path_id;   /* of the path: id or name */
    ngx_http_agntkey_caller_t          caller;
    int64_t                            now;       /* ms since 1970 */
    int64_t                            begun;     /* ngx_http_agntkey_clock() */
    ngx_http_agntkey_body_t            body;

    /* a key being made; the text is wiped when the request ends */
    ngx_http_agntkey_key_spec_t        spec;
    ngx_str_t                          key;

    /* an answer that waits for its receipt, and how it is sent; NULL: 200 */
    ngx_http_agntkey_admin_json_t     *object;
    ngx_int_t                    (*show)(ngx_http_agntkey_admin_call_t *a,
                                         ngx_http_agntkey_admin_json_t *object);

    /* a page being read, and the parameter that was looked at last */
    ngx_str_t                      parameter;
    ngx_uint_t                     limit;
    ngx_str_t                     *names;
    ngx_uint_t                     nnames;
    ngx_uint_t                     more;
    ngx_uint_t                     trips;      /* for its names */
};


/*
 * Waits for the call.  Returns NGX_DONE: its handler will end the request by
 * ngx_http_agntkey_admin_call_done().  For NULL, which is a call that could not
 * be sent, the answer goes out, and what came of it is returned.
 */
ngx_int_t ngx_http_agntkey_admin_call_wait(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_batch_t *batch);

/* The end of every call that has waited; the request is gone after it. */
void ngx_http_agntkey_admin_call_done(ngx_http_agntkey_admin_call_t *a,
    ngx_int_t rc);

/*
 * The same for a revocation, which ends the request by
 * ngx_http_agntkey_admin_call_revoked(), its handler: with a->object, which is
 * freed in any case, and a receipt.
 */
ngx_int_t ngx_http_agntkey_admin_call_wait_revocation(
    ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_revocation_t *revocation);
void ngx_http_agntkey_admin_call_revoked(void *data, ngx_int_t rc,
    ngx_http_agntkey_receipt_t *receipt);

/*
 * What the "written" handler of a revocation returns: NGX_OK if a->object is
 * set; otherwise the call ends with the result.
 */
ngx_int_t ngx_http_agntkey_admin_call_written(
    ngx_http_agntkey_admin_call_t *a, ngx_int_t result);

/*
 * What a call's handler begins with.  NGX_DECLINED: the replies are there and
 * none is an error; otherwise the answer has been sent.
 */
ngx_int_t ngx_http_agntkey_admin_call_error(ngx_http_agntkey_admin_call_t *a,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t **replies,
    ngx_uint_t n);

/*
 * Answers: 404; 500, when what Redis holds makes no sense; and 400 for the
 * parameter of that name (NULL: an unknown one), whose rule ("": it is there
 * twice, or badly encoded) follows the name.
 */
ngx_int_t ngx_http_agntkey_admin_call_not_found(
    ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_call_corrupt(ngx_http_agntkey_admin_call_t *a);
ngx_int_t ngx_http_agntkey_admin_call_bad_query(
    ngx_http_agntkey_admin_call_t *a, const char *name, const char *rule);

/* May this call see the workspace?  1 or 0. */
ngx_uint_t ngx_http_agntkey_admin_call_within(ngx_http_agntkey_admin_call_t *a,
    ngx_str_t *workspace);

/* The parameter "limit" into a->limit.  NGX_OK, or NGX_ERROR if it is bad. */
ngx_int_t ngx_http_agntkey_admin_call_limit(ngx_http_agntkey_admin_call_t *a,
    ngx_str_t *value);

/* A number as decimal text in the pool.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_agntkey_admin_call_number(ngx_http_agntkey_admin_call_t *a,
    int64_t n, ngx_str_t *text);

/* The first header of that name, whose hash is given, or NULL. */
ngx_str_t *ngx_http_agntkey_admin_call_header(ngx_http_request_t *r,
    ngx_uint_t hash, const char *lowcase);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_CALL_H_INCLUDED_ */
