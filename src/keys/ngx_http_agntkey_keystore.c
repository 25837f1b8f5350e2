
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_keystore.h"
#include "ngx_http_agntkey_token.h"


#if (2 * NGX_HTTP_AGNTKEY_PAGE_MAX > NGX_HTTP_AGNTKEY_BATCH_COMMANDS)
#error a page has two commands for each workspace
#endif


static ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_read(
    ngx_http_agntkey_redis_client_t *redis, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
static ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_write(
    ngx_http_agntkey_redis_client_t *redis, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);


/* the scripts in src/lua, which say there what they take and do */

#include "ngx_http_agntkey_lua_get.inc"
#include "ngx_http_agntkey_lua_create.inc"
#include "ngx_http_agntkey_lua_change.inc"
#include "ngx_http_agntkey_lua_revoke.inc"
#include "ngx_http_agntkey_lua_rotate.inc"
#include "ngx_http_agntkey_lua_list.inc"
#include "ngx_http_agntkey_lua_workspace.inc"


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_get(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    ngx_str_t  argv[8];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_get;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keyspace_key(key, &argv[3], id);
    argv[4].data = id;
    argv[4].len = NGX_HTTP_AGNTKEY_ID_LEN;
    argv[5] = caller->pin;

    return ngx_http_agntkey_keystore_read(redis, argv, 6, handler, data);
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_create(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_caller_t *caller, ngx_http_agntkey_key_spec_t *spec,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char                           key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    ngx_str_t                        argv[16];
    ngx_http_agntkey_redis_batch_t  *batch;

    batch = ngx_http_agntkey_redis_batch_create(redis, handler, data);
    if (batch == NULL) {
        return NULL;
    }

    /* in another slot, so not in the script; a name too many harms nobody */

    ngx_str_set(&argv[0], "ZADD");
    ngx_str_set(&argv[1], NGX_HTTP_AGNTKEY_NAME_WORKSPACES);
    ngx_str_set(&argv[2], "0");
    argv[3] = spec->workspace;

    if (ngx_http_agntkey_redis_batch_keep(batch, argv, 4) != NGX_OK) {
        goto failed;
    }

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_create;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keyspace_key(key, &argv[3], spec->id);
    argv[4].data = spec->id;
    argv[4].len = NGX_HTTP_AGNTKEY_ID_LEN;
    ngx_str_null(&argv[5]);
    argv[6] = caller->actor;
    argv[7] = caller->from;
    argv[8] = spec->workspace;
    argv[9].data = spec->digest;
    argv[9].len = 64;
    argv[10] = spec->name;
    argv[11] = spec->scopes;
    argv[12] = spec->expires_at;
    argv[13] = spec->idempotency;
    argv[14] = spec->max;
    ngx_str_set(&argv[15], NGX_HTTP_AGNTKEY_BATCH_DEADLINE);

    if (ngx_http_agntkey_redis_batch_keep(batch, argv, 16) != NGX_OK
        || ngx_http_agntkey_redis_batch_write(batch) != NGX_OK)
    {
        goto failed;
    }

    return batch;

failed:

    ngx_http_agntkey_redis_batch_cancel(batch);

    return NULL;
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_change(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_key_patch_t *patch,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char      key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    ngx_str_t   argv[15], *value[3];
    ngx_uint_t  i;

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_change;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keyspace_key(key, &argv[3], id);
    argv[4].data = id;
    argv[4].len = NGX_HTTP_AGNTKEY_ID_LEN;
    argv[5] = caller->pin;
    argv[6] = caller->actor;
    argv[7] = caller->from;

    value[0] = &patch->name;
    value[1] = &patch->scopes;
    value[2] = &patch->expires_at;

    for (i = 0; i < 3; i++) {

        if (value[i]->data == NULL) {
            ngx_str_set(&argv[8 + 2 * i], "0");

        } else if (i == 2 && value[i]->len == 0) {
            ngx_str_set(&argv[8 + 2 * i], "2");

        } else {
            ngx_str_set(&argv[8 + 2 * i], "1");
        }

        argv[9 + 2 * i] = *value[i];
    }

    return ngx_http_agntkey_keystore_write(redis, argv, 15, handler, data);
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_revoke(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    ngx_str_t  argv[8];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_revoke;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keyspace_key(key, &argv[3], id);
    argv[4].data = id;
    argv[4].len = NGX_HTTP_AGNTKEY_ID_LEN;
    argv[5] = caller->pin;
    argv[6] = caller->actor;
    argv[7] = caller->from;

    return ngx_http_agntkey_keystore_read(redis, argv, 8, handler, data);
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_rotate(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_key_spec_t *spec, ngx_str_t *overlap,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    u_char     new_key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    ngx_str_t  argv[16];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_rotate;
    ngx_str_set(&argv[2], "2");
    ngx_http_agntkey_keyspace_key(key, &argv[3], id);
    ngx_http_agntkey_keyspace_key(new_key, &argv[4], spec->id);
    argv[5].data = id;
    argv[5].len = NGX_HTTP_AGNTKEY_ID_LEN;
    argv[6] = caller->pin;
    argv[7] = caller->actor;
    argv[8] = caller->from;
    argv[9].data = spec->id;
    argv[9].len = NGX_HTTP_AGNTKEY_ID_LEN;
    argv[10].data = spec->digest;
    argv[10].len = 64;
    argv[11] = spec->name;
    argv[12] = *overlap;
    argv[13] = spec->idempotency;
    argv[14] = spec->max;

    return ngx_http_agntkey_keystore_write(redis, argv, 16, handler, data);
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_list(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_page_t *page, u_char *tag,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_NAME_ROOM], limit[NGX_INT_T_LEN];
    ngx_str_t  argv[12];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_list;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keyspace_index(key, &argv[3], tag, &page->workspace);
    argv[4].data = tag;
    argv[4].len = NGX_HTTP_AGNTKEY_TAG_LEN;

    /* the tag may be that of two workspaces, the index is not */

    argv[5] = page->workspace;
    ngx_str_null(&argv[6]);
    ngx_str_null(&argv[7]);
    argv[8] = page->status;
    argv[9].data = limit;
    argv[9].len = ngx_sprintf(limit, "%ui", page->limit) - limit;
    argv[10] = page->after;
    argv[11] = page->after_at;

    return ngx_http_agntkey_keystore_read(redis, argv, 12, handler, data);
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_workspaces(ngx_http_agntkey_redis_client_t *redis,
    ngx_str_t *from, ngx_http_agntkey_redis_batch_handler_pt handler,
    void *data)
{
    u_char     count[NGX_INT_T_LEN];
    ngx_str_t  argv[7];

    ngx_str_set(&argv[0], "ZRANGEBYLEX");
    ngx_str_set(&argv[1], NGX_HTTP_AGNTKEY_NAME_WORKSPACES);
    argv[2] = *from;
    ngx_str_set(&argv[3], "+");
    ngx_str_set(&argv[4], "LIMIT");
    ngx_str_set(&argv[5], "0");
    argv[6].data = count;
    argv[6].len = ngx_sprintf(count, "%d", NGX_HTTP_AGNTKEY_PAGE_MAX + 1)
                  - count;

    return ngx_http_agntkey_keystore_read(redis, argv, 7, handler, data);
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_workspace_states(
    ngx_http_agntkey_redis_client_t *redis, ngx_str_t *names, ngx_uint_t n,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char                           key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    u_char                           tag[NGX_HTTP_AGNTKEY_TAG_LEN];
    ngx_str_t                        argv[4];
    ngx_uint_t                       i;
    ngx_http_agntkey_redis_batch_t  *batch;

    batch = ngx_http_agntkey_redis_batch_create(redis, handler, data);
    if (batch == NULL) {
        return NULL;
    }

    for (i = 0; i < n; i++) {

        if (ngx_http_agntkey_token_tag(&names[i], tag) != NGX_OK) {
            goto failed;
        }

        ngx_str_set(&argv[0], "HMGET");
        ngx_http_agntkey_keyspace_workspace(key, &argv[1], tag, &names[i]);
        ngx_str_set(&argv[2], "active");
        ngx_str_set(&argv[3], "created_at");

        if (ngx_http_agntkey_redis_batch_send(batch, argv, 4) != NGX_OK) {
            goto failed;
        }

        ngx_str_set(&argv[0], "ZCARD");
        ngx_http_agntkey_keyspace_index(key, &argv[1], tag, &names[i]);

        if (ngx_http_agntkey_redis_batch_send(batch, argv, 2) != NGX_OK) {
            goto failed;
        }
    }

    return batch;

failed:

    /* what is under way will find nobody */

    ngx_http_agntkey_redis_batch_cancel(batch);

    return NULL;
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_workspace_set(ngx_http_agntkey_redis_client_t *redis,
    ngx_http_agntkey_caller_t *caller, ngx_str_t *name, ngx_uint_t active,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_NAME_ROOM];
    u_char     tag[NGX_HTTP_AGNTKEY_TAG_LEN];
    ngx_str_t  argv[11];

    if (ngx_http_agntkey_token_tag(name, tag) != NGX_OK) {
        return NULL;
    }

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_workspace;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keyspace_workspace(key, &argv[3], tag, name);
    argv[4].data = tag;
    argv[4].len = NGX_HTTP_AGNTKEY_TAG_LEN;
    argv[5] = caller->pin;
    argv[6] = caller->actor;
    argv[7] = caller->from;
    argv[8] = *name;
    argv[9].data = (u_char *) (active ? "1" : "0");
    argv[9].len = 1;

    return ngx_http_agntkey_keystore_write(redis, argv, 11, handler, data);
}


static ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_read(ngx_http_agntkey_redis_client_t *redis,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    ngx_http_agntkey_redis_batch_t  *batch;

    batch = ngx_http_agntkey_redis_batch_create(redis, handler, data);
    if (batch == NULL) {
        return NULL;
    }

    if (ngx_http_agntkey_redis_batch_send(batch, argv, argc) != NGX_OK) {
        ngx_http_agntkey_redis_batch_cancel(batch);
        return NULL;
    }

    return batch;
}


/* The last argument is for the deadline. */

static ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_write(ngx_http_agntkey_redis_client_t *redis,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    ngx_http_agntkey_redis_batch_t  *batch;

    batch = ngx_http_agntkey_redis_batch_create(redis, handler, data);
    if (batch == NULL) {
        return NULL;
    }

    ngx_str_set(&argv[argc - 1], NGX_HTTP_AGNTKEY_BATCH_DEADLINE);

    if (ngx_http_agntkey_redis_batch_keep(batch, argv, argc) != NGX_OK
        || ngx_http_agntkey_redis_batch_write(batch) != NGX_OK)
    {
        ngx_http_agntkey_redis_batch_cancel(batch);
        return NULL;
    }

    return batch;
}
