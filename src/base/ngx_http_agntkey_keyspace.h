
/*
 * Copyright (C) the agntkey authors
 *
 * The names of ours in Redis, composed and taken apart; see docs/keyspace.md.
 * The scripts in src/lua make up some of them, too.
 *
 *     agntkey:key:{<tag>}<rest of the id>      a record
 *     agntkey:workspace:{<tag>}<workspace>     a record
 *     agntkey:index:{<tag>}<workspace>         and others of a workspace
 */


#ifndef _NGX_HTTP_AGNTKEY_KEYSPACE_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_KEYSPACE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* the tag of a workspace, by which an id begins, and an id */
#define NGX_HTTP_AGNTKEY_TAG_LEN          4
#define NGX_HTTP_AGNTKEY_ID_LEN           12

/* what the names of records begin with; invalidations are of these two */
#define NGX_HTTP_AGNTKEY_NAME_KEY         "agntkey:key:"
#define NGX_HTTP_AGNTKEY_NAME_WORKSPACE   "agntkey:workspace:"

/* what no id and no workspace begins with, behind one of the two */
#define NGX_HTTP_AGNTKEY_NAME_CANARY      "canary:"

/* all workspaces; the workers that hold a lease; the mark */
#define NGX_HTTP_AGNTKEY_NAME_WORKSPACES  "agntkey:workspaces"
#define NGX_HTTP_AGNTKEY_NAME_WORKERS     "agntkey:workers"
#define NGX_HTTP_AGNTKEY_NAME_REGISTRY    "agntkey:registry"

/* channels: to all workers, and to one */
#define NGX_HTTP_AGNTKEY_NAME_BARRIER     "agntkey:barrier"
#define NGX_HTTP_AGNTKEY_NAME_WORKER      "agntkey:worker:"

/* room for a name, bytes: 64 of them are for the workspace */
#define NGX_HTTP_AGNTKEY_NAME_ROOM        128


typedef enum {
    NGX_HTTP_AGNTKEY_KEYSPACE_OTHER = 0,
    NGX_HTTP_AGNTKEY_KEYSPACE_KEY,
    NGX_HTTP_AGNTKEY_KEYSPACE_WORKSPACE
} ngx_http_agntkey_keyspace_e;


/*
 * Each makes *name in buf of NGX_HTTP_AGNTKEY_NAME_ROOM bytes: the record of
 * the key with that id; and of the workspace, whose tag is given, its record,
 * the index of its keys, and the times of last use.  An id is a tag, too.
 */
void ngx_http_agntkey_keyspace_key(u_char *buf, ngx_str_t *name, u_char *id);
void ngx_http_agntkey_keyspace_workspace(u_char *buf, ngx_str_t *name,
    u_char *tag, ngx_str_t *workspace);
void ngx_http_agntkey_keyspace_index(u_char *buf, ngx_str_t *name,
    u_char *tag, ngx_str_t *workspace);
void ngx_http_agntkey_keyspace_used(u_char *buf, ngx_str_t *name,
    u_char *tag, ngx_str_t *workspace);

/*
 * What is the name that of?  For a key, id is its id; for a workspace, the
 * first NGX_HTTP_AGNTKEY_TAG_LEN bytes of id are its tag, and *workspace is a
 * part of the name.
 */
ngx_http_agntkey_keyspace_e ngx_http_agntkey_keyspace_parse(ngx_str_t *name,
    u_char *id, ngx_str_t *workspace);


#endif /* _NGX_HTTP_AGNTKEY_KEYSPACE_H_INCLUDED_ */
