
/*
 * Copyright (C) the agntkey authors
 *
 * The bodies of the admin API, to and from JSON (RFC 8259).  Only this pair of
 * files knows jansson.
 */


#ifndef _NGX_HTTP_AGNTKEY_ADMIN_JSON_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ADMIN_JSON_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_record.h"


/* what a body may hold, of all calls */

typedef enum {
    NGX_HTTP_AGNTKEY_BODY_WORKSPACE = 0x01,
    NGX_HTTP_AGNTKEY_BODY_NAME = 0x02,
    NGX_HTTP_AGNTKEY_BODY_SCOPES = 0x04,
    NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT = 0x08,
    NGX_HTTP_AGNTKEY_BODY_OVERLAP = 0x10,
    NGX_HTTP_AGNTKEY_BODY_STATUS = 0x20
} ngx_http_agntkey_body_field_e;


typedef struct {
    ngx_uint_t     present;          /* ngx_http_agntkey_body_field_e */
    ngx_str_t      workspace;
    ngx_str_t      name;
    ngx_str_t      scopes;           /* separated by single spaces */
    int64_t        expires_at;       /* ms, or NGX_HTTP_AGNTKEY_NEVER */
    int64_t        overlap;          /* seconds */
    unsigned       active:1;         /* "status" is "active" */
} ngx_http_agntkey_body_t;


/* a key as it is shown; times in ms, 0 where there is none */

typedef struct {
    ngx_str_t                   id;
    ngx_str_t                   prefix;
    ngx_http_agntkey_record_t   record;
    int64_t                     last_used_at;
} ngx_http_agntkey_key_view_t;


/* an object under way; the caller ends it by _text() or _drop() */
typedef struct ngx_http_agntkey_admin_json_s  ngx_http_agntkey_admin_json_t;


/*
 * Reads a body of which the members of "allowed" may be there, and those of
 * "needed" must.  expires_at must be after now, in ms since 1970; with 0 it may
 * be any time since then.  Strings are copied to the pool.
 *
 * Returns
 *     NGX_OK        *body is set
 *     NGX_DECLINED  not as it should be: *code and *detail say why, as
 *                   terminated texts, detail in the pool or constant
 *     NGX_ERROR     no memory
 */
ngx_int_t ngx_http_agntkey_admin_json_read(ngx_pool_t *pool, ngx_str_t *text,
    ngx_uint_t allowed, ngx_uint_t needed, int64_t now,
    ngx_http_agntkey_body_t *body, char **code, char **detail);

/*
 * Objects to answer with.  key may be NULL; with it the clear key and the
 * warnings about the name are in.  NULL without memory.
 */
ngx_http_agntkey_admin_json_t *ngx_http_agntkey_admin_json_key(
    ngx_http_agntkey_key_view_t *view, int64_t now, ngx_str_t *key);
ngx_http_agntkey_admin_json_t *ngx_http_agntkey_admin_json_workspace(
    ngx_str_t *name, ngx_uint_t active, int64_t created_at, int64_t keys);

/*
 * Adds "receipt" to an object: how many workers there are, how many have said
 * that they know, how long that took in ms, on how many replicas it is, and
 * whether it is on the disk of Redis: 1, 0, or less, which is left out.
 * NGX_OK, or NGX_ERROR without memory.
 */
ngx_int_t ngx_http_agntkey_admin_json_receipt(
    ngx_http_agntkey_admin_json_t *object, ngx_uint_t workers,
    ngx_uint_t acknowledged, int64_t took, ngx_uint_t replicas,
    ngx_int_t synced);

/* {"data":[...],"next_cursor":...} and its elements */
ngx_http_agntkey_admin_json_t *ngx_http_agntkey_admin_json_list(void);
ngx_int_t ngx_http_agntkey_admin_json_append(
    ngx_http_agntkey_admin_json_t *list, ngx_http_agntkey_admin_json_t *object);
ngx_int_t ngx_http_agntkey_admin_json_cursor(
    ngx_http_agntkey_admin_json_t *list, ngx_str_t *cursor);

/*
 * A problem (RFC 9457); id, unless NULL, is that of the key that stands in
 * the way.
 */
ngx_http_agntkey_admin_json_t *ngx_http_agntkey_admin_json_problem(
    ngx_uint_t status, const char *title, const char *code, const char *detail,
    ngx_str_t *id);

/* The text of the object, in the pool; the object is freed in any case. */
ngx_int_t ngx_http_agntkey_admin_json_text(ngx_pool_t *pool,
    ngx_http_agntkey_admin_json_t *object, ngx_str_t *text);
void ngx_http_agntkey_admin_json_drop(ngx_http_agntkey_admin_json_t *object);

/* Why the name is of no help to who reads a list, or NULL. */
const char *ngx_http_agntkey_admin_json_poor_name(ngx_str_t *name);


#endif /* _NGX_HTTP_AGNTKEY_ADMIN_JSON_H_INCLUDED_ */
