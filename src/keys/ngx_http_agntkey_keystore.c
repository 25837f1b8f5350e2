
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_keystore.h"
#include "ngx_http_agntkey_token.h"


#if (2 * NGX_HTTP_AGNTKEY_PAGE_MAX > NGX_HTTP_AGNTKEY_BATCH_COMMANDS)
#error a page has two commands for each workspace
#endif


static ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_read(
    ngx_http_agntkey_redis_t *redis, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
static ngx_http_agntkey_redis_batch_t *ngx_http_agntkey_keystore_write(
    ngx_http_agntkey_redis_t *redis, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data);
static void ngx_http_agntkey_keystore_tagged(u_char *buf, ngx_str_t *name,
    const char *kind, u_char *tag, ngx_str_t *workspace);


/*
 * What the scripts have in common.  KEYS[1] is the record of a key, ARGV[1]
 * its id, ARGV[2] the workspace to stay in or "", ARGV[3] and ARGV[4] who and
 * from where.  All keys of a workspace are in one slot, so a script may make
 * up the names of the others from what it has read.
 */

#define NGX_HTTP_AGNTKEY_LUA                                                  \
    "local F={'digest','active','workspace','name','scopes','created_at',"    \
    "'expires_at','revoked_at'} "                                             \
    "local call=redis.call "                                                  \
    "local id=ARGV[1] "                                                       \
    "local tag='{'..string.sub(id,1,4)..'}' "                                 \
    "local function now() local t=call('TIME') "                              \
    "return string.format('%.0f',t[1]*1000+math.floor(t[2]/1000)) end "       \
    "local function row(key,id,get) "                                         \
    "local r=(get or call)('HMGET',key,unpack(F)) "                           \
    "if r.err or not r[3] or (ARGV[2]~='' and r[3]~=ARGV[2]) then "           \
    "return false end "                                                       \
    "local u=redis.pcall('ZSCORE','agntkey:used:'..tag..r[3],id) "            \
    "if type(u)=='table' then u=false end "                                   \
    "r[9]=u return r end "                                                    \
    "local function audit(ws,...) call('XADD','agntkey:audit:'..tag..ws,"     \
    "'MAXLEN','~','10000','*','actor',ARGV[3],'from',ARGV[4],...) end "

/*
 * A change that comes later than its last argument says is none: the call has
 * been answered by then, and whatever was called later stands.  A revocation
 * needs no such time, since nothing takes it back.
 */

#define NGX_HTTP_AGNTKEY_LUA_CHANGE                                           \
    NGX_HTTP_AGNTKEY_LUA                                                      \
    "if tonumber(now())>tonumber(ARGV[#ARGV]) then return {'late'} end "

/*
 * May the workspace have one key more?  The set has the keys that are not
 * revoked, so that nobody has to count them.  One that was revoked by hand is
 * in it still: when the bound is reached, some are looked at, at random.  One
 * of another type is no key; any other error is one of the script.
 */

#define NGX_HTTP_AGNTKEY_LUA_MAKE                                             \
    NGX_HTTP_AGNTKEY_LUA_CHANGE                                               \
    "local function full(ws,max) local live='agntkey:live:'..tag..ws "        \
    "if call('SCARD',live)<max then return false end "                        \
    "for _,one in ipairs(call('SRANDMEMBER',live,100)) do "                   \
    "local key='agntkey:key:'..tag..string.sub(one,5) "                       \
    "local active=redis.pcall('HGET',key,'active') "                          \
    "if type(active)=='table' and not "                                       \
    "string.find(active.err,'WRONGTYPE',1,true) then "                        \
    "call('HGET',key,'active') end "                                          \
    "if active~='1' then call('SREM',live,one) end end "                      \
    "return call('SCARD',live)>=max end "                                     \
    "local function live(ws,id) call('SADD','agntkey:live:'..tag..ws,id) end "

static ngx_str_t  ngx_http_agntkey_keystore_lua_get = ngx_string(
    NGX_HTTP_AGNTKEY_LUA
    "return row(KEYS[1],id)"
);

/*
 * The first key of a Redis that was empty before, but for the name of the
 * workspace: no worker can hold a lease from before, so the registry may have
 * its mark.  In any other Redis without one a revocation has to wait.
 *
 * A workspace comes into being with its first key.  One that has left traces
 * and has no record was taken away by hand, and its keys with it: making it
 * anew would bring them back.  So its record is written before the traces are.
 *
 * The record of the key is written last: a script that fails is not undone, and
 * what is in the index without a record is passed over.
 */

static ngx_str_t  ngx_http_agntkey_keystore_lua_create = ngx_string(
    NGX_HTTP_AGNTKEY_LUA_MAKE
    "pcall(function() if call('EXISTS','agntkey:registry')==0 "
    "and call('DBSIZE')<=1 then "
    "local id=string.match(call('INFO','replication'),"
    "'master_replid:(%x+)') "
    "call('SET','agntkey:registry',id..' '..now()..' 0') end end) "
    "local ws=ARGV[5] local w='agntkey:workspace:'..tag..ws "
    "local i='agntkey:idempotency:'..tag..ws..':'..ARGV[10] "
    "if ARGV[10]~='' then local first=call('GET',i) "
    "if first then return {'repeat',first} end end "
    "if call('EXISTS',KEYS[1])==1 then return {'taken'} end "
    "local t,first=now(),call('EXISTS',w)==0 "
    "if first and call('EXISTS','agntkey:index:'..tag..ws,"
    "'agntkey:live:'..tag..ws,'agntkey:audit:'..tag..ws)>0 then "
    "return {'gone'} end "
    "if full(ws,tonumber(ARGV[11])) then return {'full'} end "
    "if first then call('HSET',w,'active','1','created_at',t) end "
    "live(ws,id) "
    "call('ZADD','agntkey:index:'..tag..ws,t,id) "
    "audit(ws,'action','created','id',id,'at',t) "
    "if ARGV[10]~='' then call('SET',i,id,'EX','86400') end "
    "local new={'digest',ARGV[6],'active','1','workspace',ws,"
    "'name',ARGV[7],'scopes',ARGV[8],'created_at',t} "
    "if ARGV[9]~='' then new[13]='expires_at' new[14]=ARGV[9] end "
    "call('HSET',KEYS[1],unpack(new)) "
    "return {'ok',row(KEYS[1],id)}"
);

/* What is as it is to be is left alone: no write, and nothing to tell of. */

static ngx_str_t  ngx_http_agntkey_keystore_lua_change = ngx_string(
    NGX_HTTP_AGNTKEY_LUA_CHANGE
    "local r=row(KEYS[1],id) if not r then return false end "
    "local what={} "
    "local function set(flag,value,field,old) "
    "if flag=='0' then return end "
    "if flag=='2' then value=false end "
    "if value==old then return end "
    "what[#what+1]=field "
    "if value then call('HSET',KEYS[1],field,value) "
    "else call('HDEL',KEYS[1],field) end end "
    "set(ARGV[5],ARGV[6],'name',r[4]) "
    "set(ARGV[7],ARGV[8],'scopes',r[5] or '') "
    "set(ARGV[9],ARGV[10],'expires_at',r[7]) "
    "if #what==0 then return r end "
    "audit(r[3],'action','changed','id',id,'what',table.concat(what,' '),"
    "'at',now()) "
    "return row(KEYS[1],id)"
);

/*
 * HDEL comes before all other writes: a full Redis takes it, and lets a
 * script that has begun to write finish.  That the set of keys in force cannot
 * be written does not make a revocation fail.
 */

static ngx_str_t  ngx_http_agntkey_keystore_lua_revoke = ngx_string(
    NGX_HTTP_AGNTKEY_LUA
    "local r=row(KEYS[1],id) if not r then return false end "
    "local n=call('HDEL',KEYS[1],'active') "
    "if n==1 or not r[8] then local t=now() "
    "call('HSET',KEYS[1],'revoked_at',t) "
    "audit(r[3],'action','revoked','id',id,'at',t) end "
    "redis.pcall('SREM','agntkey:live:'..tag..r[3],id) "
    "return row(KEYS[1],id)"
);

/*
 * The old one expires when the overlap ends, and never later than before.  A
 * repetition may find it expired, so it is told from that first.  A record with
 * an end that is no time, or without a name, is left as it is: nobody accepts
 * it, and a good end would make it good.
 */

static ngx_str_t  ngx_http_agntkey_keystore_lua_rotate = ngx_string(
    NGX_HTTP_AGNTKEY_LUA_MAKE
    "local r=row(KEYS[1],id) if not r then return false end "
    "local new=ARGV[5] local t=now() "
    "local i='agntkey:idempotency:'..tag..r[3]..':'..ARGV[9] "
    "if ARGV[9]~='' then local first=call('GET',i) "
    "if first then return {'repeat',first} end end "
    "if r[2]~='1' then return {'revoked'} end "
    "if not r[4] or r[7] and (not string.find(r[7],'^%d+$') "
    "or tonumber(r[7])>253402300799999) then return {'odd'} end "
    "if r[7] and tonumber(r[7])<=tonumber(t) then return {'expired'} end "
    "if call('EXISTS',KEYS[2])==1 then return {'taken'} end "
    "if full(r[3],tonumber(ARGV[10])) then return {'full'} end "
    "local name=ARGV[7] if name=='' then name=r[4] end "
    "live(r[3],new) "
    "call('ZADD','agntkey:index:'..tag..r[3],t,new) "
    "audit(r[3],'action','rotated','id',id,'new',new,'at',t) "
    "local e=tonumber(t)+tonumber(ARGV[8]) "
    "if r[7] and tonumber(r[7])<e then e=tonumber(r[7]) end "
    "if ARGV[9]~='' then call('SET',i,new,'EX','86400') end "
    "call('HSET',KEYS[1],'expires_at',string.format('%.0f',e)) "
    "local key={'digest',ARGV[6],'active','1','workspace',r[3],"
    "'name',name,'scopes',r[5] or '','created_at',t} "
    "if r[7] then key[13]='expires_at' key[14]=r[7] end "
    "call('HSET',KEYS[2],unpack(key)) "
    "return {'ok',row(KEYS[2],new),string.format('%.0f',e)}"
);

/*
 * Pages are counted from the place of the last key seen, not from the top:
 * keys made meanwhile push nothing onto the next page.  If that key's entry
 * is gone, its place is looked for among those of the same time: in halves,
 * for there may be any number of them.  Redis orders them by bytes, and Lua
 * would by the locale.
 */

static ngx_str_t  ngx_http_agntkey_keystore_lua_list = ngx_string(
    NGX_HTTP_AGNTKEY_LUA
    "local status,limit,after,at=ARGV[5],tonumber(ARGV[6]),ARGV[7],ARGV[8] "
    "local index,at0,t=KEYS[1],0,tonumber(now()) "
    "if after~='' then at0=call('ZREVRANK',index,after) "
    "if at0 then at0=at0+1 else at0=call('ZCOUNT',index,'('..at,'+inf') "
    "local function above(one) for i=1,#one do "
    "local a,b=string.byte(one,i),string.byte(after,i) or -1 "
    "if a~=b then return a>b end end return false end "
    "local last=at0+call('ZCOUNT',index,at,at) "
    "while at0<last do local half=math.floor((at0+last)/2) "
    "local one=call('ZREVRANGE',index,half,half)[1] "
    "if one and above(one) then at0=half+1 else last=half end end "
    "end end "
    "local out,n,seen,last={},0,0,'' "
    "while n<limit and seen<1000 do "
    "local ids=call('ZREVRANGE',index,at0,at0+limit-1) "
    "if #ids==0 then break end "
    "for _,one in ipairs(ids) do "
    "at0=at0+1 seen=seen+1 last=one "
    "local r=row('agntkey:key:'..tag..string.sub(one,5),one,redis.pcall) "
    "if r then local s='active' "
    "if r[2]~='1' then s='revoked' "
    "elseif r[7] and (tonumber(r[7]) or 0)<=t then s='expired' end "
    "if status=='' or status==s then "
    "n=n+1 out[#out+1]=one out[#out+1]=r end end "
    "if n==limit then break end end end "
    "if call('ZCARD',index)<=at0 then return {'','',out} end "
    "return {last,call('ZSCORE',index,last),out}"
);

static ngx_str_t  ngx_http_agntkey_keystore_lua_workspace = ngx_string(
    NGX_HTTP_AGNTKEY_LUA_CHANGE
    "local ws=ARGV[5] local n=0 "
    "if call('EXISTS',KEYS[1])==0 then return false end "
    "if ARGV[6]=='1' then "
    "if call('HGET',KEYS[1],'active')~='1' then "
    "call('HSET',KEYS[1],'active','1') n=1 end "
    "else n=call('HDEL',KEYS[1],'active') end "
    "if n==1 then local t=now() "
    "call('HSETNX',KEYS[1],'created_at',t) "
    "audit(ws,'action','changed','workspace',ws,'what',"
    "ARGV[6]=='1' and 'active' or 'disabled','at',t) end "
    "local r=call('HMGET',KEYS[1],'active','created_at') "
    "return {r[1],r[2],call('ZCARD','agntkey:index:'..tag..ws)}"
);


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_get(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_RECORD_MAX];
    ngx_str_t  argv[8];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_keystore_lua_get;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keystore_key(key, &argv[3], id);
    argv[4].data = id;
    argv[4].len = NGX_HTTP_AGNTKEY_ID_LEN;
    argv[5] = caller->pin;

    return ngx_http_agntkey_keystore_read(redis, argv, 6, handler, data);
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_create(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_caller_t *caller, ngx_http_agntkey_key_spec_t *spec,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char                           key[NGX_HTTP_AGNTKEY_RECORD_MAX];
    ngx_str_t                        argv[16];
    ngx_http_agntkey_redis_batch_t  *batch;

    batch = ngx_http_agntkey_redis_batch_create(redis, handler, data);
    if (batch == NULL) {
        return NULL;
    }

    /* in another slot, so not in the script; a name too many harms nobody */

    ngx_str_set(&argv[0], "ZADD");
    ngx_str_set(&argv[1], "agntkey:workspaces");
    ngx_str_set(&argv[2], "0");
    argv[3] = spec->workspace;

    if (ngx_http_agntkey_redis_batch_keep(batch, argv, 4) != NGX_OK) {
        goto failed;
    }

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_keystore_lua_create;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keystore_key(key, &argv[3], spec->id);
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
ngx_http_agntkey_keystore_change(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_key_patch_t *patch,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char      key[NGX_HTTP_AGNTKEY_RECORD_MAX];
    ngx_str_t   argv[15], *value[3];
    ngx_uint_t  i;

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_keystore_lua_change;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keystore_key(key, &argv[3], id);
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
ngx_http_agntkey_keystore_revoke(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_RECORD_MAX];
    ngx_str_t  argv[8];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_keystore_lua_revoke;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keystore_key(key, &argv[3], id);
    argv[4].data = id;
    argv[4].len = NGX_HTTP_AGNTKEY_ID_LEN;
    argv[5] = caller->pin;
    argv[6] = caller->actor;
    argv[7] = caller->from;

    return ngx_http_agntkey_keystore_read(redis, argv, 8, handler, data);
}


ngx_http_agntkey_redis_batch_t *
ngx_http_agntkey_keystore_rotate(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_caller_t *caller, u_char *id,
    ngx_http_agntkey_key_spec_t *spec, ngx_str_t *overlap,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_RECORD_MAX];
    u_char     new_key[NGX_HTTP_AGNTKEY_RECORD_MAX];
    ngx_str_t  argv[16];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_keystore_lua_rotate;
    ngx_str_set(&argv[2], "2");
    ngx_http_agntkey_keystore_key(key, &argv[3], id);
    ngx_http_agntkey_keystore_key(new_key, &argv[4], spec->id);
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
ngx_http_agntkey_keystore_list(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_page_t *page, u_char *tag,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_RECORD_MAX], limit[NGX_INT_T_LEN];
    ngx_str_t  argv[12];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_keystore_lua_list;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keystore_tagged(key, &argv[3], "index", tag,
                                     &page->workspace);
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
ngx_http_agntkey_keystore_workspaces(ngx_http_agntkey_redis_t *redis,
    ngx_str_t *from, ngx_http_agntkey_redis_batch_handler_pt handler,
    void *data)
{
    u_char     count[NGX_INT_T_LEN];
    ngx_str_t  argv[7];

    ngx_str_set(&argv[0], "ZRANGEBYLEX");
    ngx_str_set(&argv[1], "agntkey:workspaces");
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
ngx_http_agntkey_keystore_workspace_states(ngx_http_agntkey_redis_t *redis,
    ngx_str_t *names, ngx_uint_t n,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char                           key[NGX_HTTP_AGNTKEY_RECORD_MAX];
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
        ngx_http_agntkey_keystore_tagged(key, &argv[1], "workspace", tag,
                                         &names[i]);
        ngx_str_set(&argv[2], "active");
        ngx_str_set(&argv[3], "created_at");

        if (ngx_http_agntkey_redis_batch_send(batch, argv, 4) != NGX_OK) {
            goto failed;
        }

        ngx_str_set(&argv[0], "ZCARD");
        ngx_http_agntkey_keystore_tagged(key, &argv[1], "index", tag,
                                         &names[i]);

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
ngx_http_agntkey_keystore_workspace_set(ngx_http_agntkey_redis_t *redis,
    ngx_http_agntkey_caller_t *caller, ngx_str_t *name, ngx_uint_t active,
    ngx_http_agntkey_redis_batch_handler_pt handler, void *data)
{
    u_char     key[NGX_HTTP_AGNTKEY_RECORD_MAX];
    u_char     tag[NGX_HTTP_AGNTKEY_TAG_LEN];
    ngx_str_t  argv[11];

    if (ngx_http_agntkey_token_tag(name, tag) != NGX_OK) {
        return NULL;
    }

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_keystore_lua_workspace;
    ngx_str_set(&argv[2], "1");
    ngx_http_agntkey_keystore_tagged(key, &argv[3], "workspace", tag, name);
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
ngx_http_agntkey_keystore_read(ngx_http_agntkey_redis_t *redis,
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
ngx_http_agntkey_keystore_write(ngx_http_agntkey_redis_t *redis,
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


void
ngx_http_agntkey_keystore_key(u_char *buf, ngx_str_t *name, u_char *id)
{
    name->data = buf;
    name->len = ngx_sprintf(buf, "agntkey:key:{%*s}%*s",
                            (size_t) NGX_HTTP_AGNTKEY_TAG_LEN, id,
                            (size_t) (NGX_HTTP_AGNTKEY_ID_LEN
                                      - NGX_HTTP_AGNTKEY_TAG_LEN),
                            id + NGX_HTTP_AGNTKEY_TAG_LEN)
                - buf;
}


ngx_int_t
ngx_http_agntkey_keystore_workspace(u_char *buf, ngx_str_t *name,
    ngx_str_t *workspace)
{
    u_char  tag[NGX_HTTP_AGNTKEY_TAG_LEN];

    if (ngx_http_agntkey_token_tag(workspace, tag) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_agntkey_keystore_tagged(buf, name, "workspace", tag, workspace);

    return NGX_OK;
}


static void
ngx_http_agntkey_keystore_tagged(u_char *buf, ngx_str_t *name,
    const char *kind, u_char *tag, ngx_str_t *workspace)
{
    name->data = buf;
    name->len = ngx_sprintf(buf, "agntkey:%s:{%*s}%V", kind,
                            (size_t) NGX_HTTP_AGNTKEY_TAG_LEN, tag, workspace)
                - buf;
}
