
/*
 * Copyright (C) the agntkey authors
 *
 * What Redis says of a key or of a workspace, as fields in a fixed order, and
 * the same as a record that can be judged.  Pure: points into the fields,
 * allocates nothing.
 */


#ifndef _NGX_HTTP_AGNTKEY_RECORD_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_RECORD_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_AGNTKEY_WORKSPACE_MAX    64
#define NGX_HTTP_AGNTKEY_SCOPE_MAX        64
#define NGX_HTTP_AGNTKEY_SCOPES           32

/* characters; in UTF-8 each takes up to 4 bytes */
#define NGX_HTTP_AGNTKEY_NAME_MAX         100

/* expires_at of a key that never does, ms */
#define NGX_HTTP_AGNTKEY_NEVER            INT64_MAX


/* the fields of agntkey:key:*, in the order in which they are asked for */

typedef enum {
    NGX_HTTP_AGNTKEY_FIELD_DIGEST = 0,
    NGX_HTTP_AGNTKEY_FIELD_ACTIVE,
    NGX_HTTP_AGNTKEY_FIELD_WORKSPACE,
    NGX_HTTP_AGNTKEY_FIELD_NAME,
    NGX_HTTP_AGNTKEY_FIELD_SCOPES,
    NGX_HTTP_AGNTKEY_FIELD_CREATED_AT,
    NGX_HTTP_AGNTKEY_FIELD_EXPIRES_AT,
    NGX_HTTP_AGNTKEY_FIELD_REVOKED_AT,
    NGX_HTTP_AGNTKEY_FIELDS
} ngx_http_agntkey_field_e;


typedef struct {
    u_char        digest[32];            /* SHA-256 of the whole key */

    ngx_str_t     workspace;
    ngx_str_t     name;
    ngx_str_t     scopes;                /* separated by single spaces */

    int64_t       created_at;            /* ms since 1970, as all of them */
    int64_t       expires_at;            /* NGX_HTTP_AGNTKEY_NEVER: never */
    int64_t       revoked_at;            /* 0: not revoked */

    unsigned      active:1;              /* the field "active" is "1" */
} ngx_http_agntkey_record_t;


/* the names of the fields, NGX_HTTP_AGNTKEY_FIELDS of them */
extern ngx_str_t  ngx_http_agntkey_record_fields[];


/*
 * Reads the NGX_HTTP_AGNTKEY_FIELDS fields of a key; one that Redis does not
 * have is { 0, NULL }.  The strings of *rec point into the fields' memory.
 *
 * Returns
 *     NGX_OK        a complete record
 *     NGX_DECLINED  no such key: every field is absent
 *     NGX_ERROR     a record that nobody can have meant: something is
 *                   missing, is no number, or may not stand there; *bad
 *                   names the field
 *
 * "active" is never an error: whatever is not exactly "1" denies.
 */
ngx_int_t ngx_http_agntkey_record_parse(ngx_str_t *fields,
    ngx_http_agntkey_record_t *rec, ngx_uint_t *bad);

/*
 * Is the name one a workspace may have?  [A-Za-z0-9][A-Za-z0-9._-]{0,63}
 * Returns 1 or 0.
 */
ngx_uint_t ngx_http_agntkey_record_workspace_valid(ngx_str_t *name);

/*
 * Is the name one a scope may have?  [A-Za-z0-9][A-Za-z0-9._:/-]{0,63}, which
 * needs no escaping in a challenge, in JSON or in a header.  Returns 1 or 0.
 */
ngx_uint_t ngx_http_agntkey_record_scope_valid(ngx_str_t *name);

/*
 * Is the name one a key may have?  1 to NGX_HTTP_AGNTKEY_NAME_MAX characters
 * of UTF-8 (RFC 3629), no control characters among them.  Returns 1 or 0.
 */
ngx_uint_t ngx_http_agntkey_record_name_valid(ngx_str_t *name);

/* Is the scope one of the list, separated by single spaces?  1 or 0. */
ngx_uint_t ngx_http_agntkey_record_has_scope(ngx_str_t *scopes,
    ngx_str_t *scope);


#endif /* _NGX_HTTP_AGNTKEY_RECORD_H_INCLUDED_ */
