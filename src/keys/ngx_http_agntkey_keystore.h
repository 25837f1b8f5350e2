
/*
 * Copyright (C) the agntkey authors
 *
 * What an administrator does in Redis.  A change of a workspace's data is one
 * Lua script (redis.io/docs/latest/develop/programmability/eval-intro): all of
 * it or nothing, in one trip, on Redis's own clock.
 */


#ifndef _NGX_HTTP_AGNTKEY_KEYSTORE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_KEYSTORE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_keyspace.h"
#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_redis_batch.h"


/* keys or workspaces on one page */
#define NGX_HTTP_AGNTKEY_PAGE_MAX        100

/* of a key with its last use, as the scripts return it */
#define NGX_HTTP_AGNTKEY_ROW             (NGX_HTTP_AGNTKEY_FIELDS + 1)


/* who does it, for the audit stream */

typedef struct {
    ngx_str_t    actor;       /* 8 hex of the token's digest, or "off" */
    ngx_str_t    from;        /* address of the client */
    ngx_str_t    pin;         /* nothing outside this workspace; empty: all */
} ngx_http_agntkey_caller_t;


/* a key to be made */

typedef struct {
    u_char       id[12];
    u_char       digest[64];              /* hex */
    ngx_str_t    workspace;
    ngx_str_t    name;
    ngx_str_t    scopes;                  /* separated by single spaces */
    ngx_str_t    expires_at;              /* ms, decimal; empty: never */
    ngx_str_t    idempotency;             /* digest, hex; empty: none */
    ngx_str_t    max;                     /* keys in force, decimal */
} ngx_http_agntkey_key_spec_t;


/* what is to change; .data NULL: left as it is */

typedef struct {
    ngx_str_t    name;
    ngx_str_t    scopes;
    ngx_str_t    expires_at;              /* empty: never */
} ngx_http_agntkey_key_patch_t;


/* one page of a workspace's keys, the newest first */

typedef struct {
    ngx_str_t    workspace;
    ngx_str_t    status;                  /* empty: any */
    ngx_str_t    after;                   /* id; empty: from the newest */
    ngx_str_t    after_at;                /* its created_at, ms, decimal */
    ngx_uint_t   limit;
} ngx_http_agntkey_page_t;


/*
 * Each of the following sends its commands in one trip, or in two where it
 * writes and is no revocation, and returns the call, valid until its handler
 * has been called, or NULL when nothing was sent.  What the replies are, for a
 * reply that is no error:
 *
 *     get, change, revoke   nil: no such key; else a row, which is an array
 *                           of NGX_HTTP_AGNTKEY_ROW: the fields of the
 *                           record and the last use in ms
 *     create                (workspaces' name) and an array: "ok" and a row,
 *                           "repeat" and the first one's id, "gone", which
 *                           is the workspace, "full" or "taken"
 *     rotate                nil, or an array: "ok", the new row and the end of
 *                           the old key in ms; "repeat" and the first one's
 *                           id; "revoked", "odd", which is the old record,
 *                           "expired", "full" or "taken"
 *     list                  an array: id and created_at to go on after, or
 *                           two empty strings; then an array of ids and rows
 *                           by turns
 *     workspaces            an array of names
 *     workspace_states      for each: an array of active, created_at; and the
 *                           number of keys
 *     workspace_set         nil, or an array of active, created_at, keys
 */
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_get(
    ngx_http_agntkey_redis_client_t *redis, ngx_http_agntkey_caller_t *caller,
    u_char *id, ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_create(
    ngx_http_agntkey_redis_client_t *redis, ngx_http_agntkey_caller_t *caller,
    ngx_http_agntkey_key_spec_t *key,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_change(
    ngx_http_agntkey_redis_client_t *redis, ngx_http_agntkey_caller_t *caller,
    u_char *id, ngx_http_agntkey_key_patch_t *patch,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_revoke(
    ngx_http_agntkey_redis_client_t *redis, ngx_http_agntkey_caller_t *caller,
    u_char *id, ngx_http_agntkey_redis_batch_handler_pt handler, void *data);

/* key->name empty: the old one's; overlap in ms, decimal */
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_rotate(
    ngx_http_agntkey_redis_client_t *redis, ngx_http_agntkey_caller_t *caller,
    u_char *id, ngx_http_agntkey_key_spec_t *key, ngx_str_t *overlap,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_list(
    ngx_http_agntkey_redis_client_t *redis, ngx_http_agntkey_page_t *page,
    u_char *tag, ngx_http_agntkey_redis_batch_handler_pt handler, void *data);

/*
 * Members of the index of names, from the first ("-") or after one ("(" and
 * the member), one more than a page may have.  Others may write there, so they
 * need not be names.
 */
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_workspaces(
    ngx_http_agntkey_redis_client_t *redis, ngx_str_t *from,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_workspace_states(
    ngx_http_agntkey_redis_client_t *redis, ngx_str_t *names, ngx_uint_t n,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_workspace_set(
    ngx_http_agntkey_redis_client_t *redis, ngx_http_agntkey_caller_t *caller,
    ngx_str_t *name, ngx_uint_t active,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);


#endif /* _NGX_HTTP_AGNTKEY_KEYSTORE_H_INCLUDED_ */
