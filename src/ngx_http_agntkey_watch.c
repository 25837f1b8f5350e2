
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_watch.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_stream.h"

#include <openssl/rand.h>


/* one below each of the prefixes that are tracked */
#define NGX_HTTP_AGNTKEY_WATCH_CANARIES    2
#define NGX_HTTP_AGNTKEY_WATCH_CANARY_MAX                                     \
    (sizeof("agntkey:workspace:canary:") - 1 + NGX_HTTP_AGNTKEY_WORKER_LEN)

/* "<host>/<pid>/<worker>/<lease>" */
#define NGX_HTTP_AGNTKEY_WATCH_MEMBER_MAX                                     \
    (NGX_MAXHOSTNAMELEN + NGX_HTTP_AGNTKEY_WORKER_LEN + 2 * NGX_INT_T_LEN + 3)

/* a proof is begun that many times while a lease lasts */
#define NGX_HTTP_AGNTKEY_WATCH_RENEWALS    4

/* how old the stream's server's word may be when commands can be sent, ms */
#define NGX_HTTP_AGNTKEY_WATCH_AGE         1000

/* the least time for a canary or a proof to arrive, ms */
#define NGX_HTTP_AGNTKEY_WATCH_PATIENCE    1000

/* the pause before a canary that Redis has refused is sent again, ms */
#define NGX_HTTP_AGNTKEY_WATCH_PAUSE       2000

/* what most configurations have, ms */
#define NGX_HTTP_AGNTKEY_WATCH_LEASE       2000


typedef enum {
    NGX_HTTP_AGNTKEY_WATCH_DOWN = 0,
    NGX_HTTP_AGNTKEY_WATCH_READY,
    NGX_HTTP_AGNTKEY_WATCH_CANARY,
    NGX_HTTP_AGNTKEY_WATCH_PROOF,
    NGX_HTTP_AGNTKEY_WATCH_TRUSTED
} ngx_http_agntkey_watch_e;


/* owner of the stream and of the timer */

struct ngx_http_agntkey_watch_s {
    ngx_http_agntkey_redis_t            *commands;
    ngx_http_agntkey_stream_t           *stream;
    ngx_log_t                           *log;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                            ident;

    ngx_http_agntkey_watch_e             state;
    int64_t                              lease_end;    /* ms; 0: none */

    ngx_msec_t                           lease;        /* 0: not asked for */
    ngx_msec_t                           patience;
    ngx_http_agntkey_watch_handlers_t    handlers;
    void                                *data;

    ngx_http_agntkey_watch_said_pt       barrier;
    ngx_http_agntkey_watch_said_pt       letter;
    void                                *said_data;

    /* the proof under way, 0 for none, and when it was begun */
    uint64_t                             proof;
    uint64_t                             proofs;       /* begun so far */
    int64_t                              begun;
    int64_t                              good;         /* begun and proved */

    /* the deadline of a canary or a proof; the next proof; or a pause */
    ngx_event_t                          timer;

    /* of this stream: the next one has another number, and so other names */
    u_char                               number[
                                              NGX_HTTP_AGNTKEY_WORKER_LEN / 2];
    u_char                               worker[NGX_HTTP_AGNTKEY_WORKER_LEN];
    ngx_str_t                            channel;
    ngx_str_t                            member;
    ngx_str_t                            left;         /* the one before */
    ngx_str_t                            canaries[
                                             NGX_HTTP_AGNTKEY_WATCH_CANARIES];
    ngx_uint_t                           seen;         /* of them, bits */

    u_char                               channel_buf[
                                          NGX_HTTP_AGNTKEY_WORKER_CHANNEL_LEN];
    u_char                               member_buf[
                                          NGX_HTTP_AGNTKEY_WATCH_MEMBER_MAX];
    u_char                               left_buf[
                                          NGX_HTTP_AGNTKEY_WATCH_MEMBER_MAX];
    u_char                               canary_buf[
                                          NGX_HTTP_AGNTKEY_WATCH_CANARIES
                                          * NGX_HTTP_AGNTKEY_WATCH_CANARY_MAX];

    unsigned                             registered:1;
    unsigned                             ending:1;
    unsigned                             troubled:1;   /* and it was said */
};


static void ngx_http_agntkey_watch_names(ngx_http_agntkey_watch_t *watch);
static ngx_int_t ngx_http_agntkey_watch_send(ngx_http_agntkey_watch_t *watch,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler);
static void ngx_http_agntkey_watch_drop_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);

static void ngx_http_agntkey_watch_ready(void *data);
static void ngx_http_agntkey_watch_down(void *data);
static void ngx_http_agntkey_watch_change(void *data, ngx_uint_t up);
static void ngx_http_agntkey_watch_ending(void *data);
static void ngx_http_agntkey_watch_leave(ngx_http_agntkey_watch_t *watch);
static void ngx_http_agntkey_watch_remove(ngx_http_agntkey_watch_t *watch);
static void ngx_http_agntkey_watch_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_watch_lose(ngx_http_agntkey_watch_t *watch);

static void ngx_http_agntkey_watch_canary(ngx_http_agntkey_watch_t *watch);
static void ngx_http_agntkey_watch_canary_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_watch_is_canary(
    ngx_http_agntkey_watch_t *watch, ngx_str_t *key);
static void ngx_http_agntkey_watch_prove(ngx_http_agntkey_watch_t *watch);
static void ngx_http_agntkey_watch_prove_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_watch_refused(ngx_http_agntkey_watch_t *watch,
    ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_watch_proved(ngx_http_agntkey_watch_t *watch,
    uint64_t proof);

static void ngx_http_agntkey_watch_changed(void *data, ngx_str_t *key);
static void ngx_http_agntkey_watch_barrier(void *data, ngx_str_t *text);
static void ngx_http_agntkey_watch_letter(void *data, ngx_str_t *text);

static void ngx_http_agntkey_watch_unable(void *data, const char *what,
    ngx_http_agntkey_reply_t *reply);
static void ngx_http_agntkey_watch_arm(ngx_http_agntkey_watch_t *watch,
    ngx_msec_t ms);


/* what a worker that has died over it leaves behind goes by itself */

static ngx_str_t  ngx_http_agntkey_watch_lua_canary = ngx_string(
    "for _,k in ipairs(KEYS) do redis.call('SET',k,'1','PX','10000') end "
    "return redis.call('DEL',unpack(KEYS))"
);

/*
 * The registry is written before the message is sent that the lease hangs on,
 * and by Redis' own clock, which is the one that others read it by.  The mark
 * is looked at before: see NGX_HTTP_AGNTKEY_WATCH_LUA_MARK.
 */

static ngx_str_t  ngx_http_agntkey_watch_lua_prove = ngx_string(
    NGX_HTTP_AGNTKEY_WATCH_LUA_MARK
    "if told~=info then return told end "
    "if not string.find(info,'role:master') then "
    "return redis.error_reply('READONLY not a primary') end "
    "local lease=tonumber(ARGV[2]) "
    "local at,long=mark(lease) "
    "redis.call('ZADD',KEYS[1],string.format('%.0f',now+lease),ARGV[1]) "
    "if at then write(redis.call,at,long) end "
    "return redis.call('PUBLISH',ARGV[3],ARGV[4])"
);


ngx_http_agntkey_watch_t *
ngx_http_agntkey_watch_create(ngx_http_agntkey_server_t *conf,
    ngx_http_agntkey_redis_t *commands, ngx_msec_t lease,
    ngx_http_agntkey_watch_handlers_t *handlers, void *data, ngx_log_t *log)
{
    ngx_http_agntkey_watch_t            *watch;
    ngx_http_agntkey_stream_handlers_t   from;

    watch = ngx_calloc(sizeof(ngx_http_agntkey_watch_t), log);
    if (watch == NULL) {
        return NULL;
    }

    watch->commands = commands;
    watch->log = log;
    watch->ident = -1;
    watch->lease = lease;
    watch->patience = ngx_max(conf->timeout, NGX_HTTP_AGNTKEY_WATCH_PATIENCE);
    watch->handlers = *handlers;
    watch->data = data;

    watch->timer.handler = ngx_http_agntkey_watch_timer_handler;
    watch->timer.data = watch;
    watch->timer.log = log;
    watch->timer.cancelable = 1;

    from.ready = ngx_http_agntkey_watch_ready;
    from.down = ngx_http_agntkey_watch_down;
    from.unable = ngx_http_agntkey_watch_unable;
    from.changed = ngx_http_agntkey_watch_changed;
    from.barrier = ngx_http_agntkey_watch_barrier;
    from.letter = ngx_http_agntkey_watch_letter;

    if (RAND_bytes(watch->number, sizeof(watch->number)) == 1) {
        ngx_http_agntkey_watch_names(watch);

        watch->stream = ngx_http_agntkey_stream_create(conf, &watch->channel,
                                                       lease != 0, &from,
                                                       watch, log);
    }

    if (watch->stream == NULL) {
        ngx_free(watch);
        return NULL;
    }

    if (lease == 0) {
        return watch;
    }

    ngx_http_agntkey_redis_set_change(commands, ngx_http_agntkey_watch_change,
                                      watch);

    ngx_http_agntkey_redis_add_ending(commands, ngx_http_agntkey_watch_ending,
                                      watch);

    return watch;
}


void
ngx_http_agntkey_watch_destroy(ngx_http_agntkey_watch_t *watch)
{
    ngx_str_t  argv[3], bytes;

    if (watch->registered || watch->left.len) {
        ngx_str_set(&argv[0], "ZREM");
        ngx_str_set(&argv[1], "agntkey:workers");
        argv[2] = watch->registered ? watch->member : watch->left;

        if (ngx_http_agntkey_resp_format(argv, 3, &bytes) == NGX_OK) {
            ngx_http_agntkey_redis_farewell(watch->commands, &bytes);
            ngx_http_agntkey_resp_format_free(&bytes);
        }
    }

    if (watch->timer.timer_set) {
        ngx_del_timer(&watch->timer);
    }

    ngx_http_agntkey_stream_destroy(watch->stream);
    ngx_free(watch);
}


ngx_uint_t
ngx_http_agntkey_watch_trusted(ngx_http_agntkey_watch_t *watch, int64_t now)
{
    return now < watch->lease_end;
}


void
ngx_http_agntkey_watch_listen(ngx_http_agntkey_watch_t *watch,
    ngx_http_agntkey_watch_said_pt barrier,
    ngx_http_agntkey_watch_said_pt letter, void *data)
{
    watch->barrier = barrier;
    watch->letter = letter;
    watch->said_data = data;
}


void
ngx_http_agntkey_watch_doubt(ngx_http_agntkey_watch_t *watch)
{
    if (watch->lease == 0) {
        ngx_http_agntkey_stream_reset(watch->stream, "nobody answers", 0);
    }
}


u_char *
ngx_http_agntkey_watch_worker(ngx_http_agntkey_watch_t *watch)
{
    return watch->worker;
}


ngx_str_t *
ngx_http_agntkey_watch_channel(ngx_http_agntkey_watch_t *watch)
{
    return &watch->channel;
}


ngx_msec_t
ngx_http_agntkey_watch_lease(ngx_http_agntkey_watch_t *watch)
{
    return watch->lease ? watch->lease : NGX_HTTP_AGNTKEY_WATCH_LEASE;
}


/*
 * The names of one stream.  None is used again: a command that was written to
 * a connection that is lost may still be carried out, and a ZREM of the name
 * that a lease is held by would take that lease out of the registry.  The
 * number is random at first, so that no two workers meet.
 */

static void
ngx_http_agntkey_watch_names(ngx_http_agntkey_watch_t *watch)
{
    u_char      *p;
    size_t       len;
    ngx_uint_t   i;

    static const char  *prefixes[] = { "agntkey:key:", "agntkey:workspace:" };

    for (i = sizeof(watch->number); i && ++watch->number[i - 1] == 0; i--) {
        /* void */
    }

    ngx_hex_dump(watch->worker, watch->number, sizeof(watch->number));

    len = NGX_HTTP_AGNTKEY_WORKER_LEN;

    p = watch->channel_buf;
    watch->channel.data = p;
    watch->channel.len = ngx_sprintf(p, NGX_HTTP_AGNTKEY_WORKER_CHANNEL "%*s",
                                     len, watch->worker)
                         - p;

    p = watch->member_buf;
    watch->member.data = p;
    watch->member.len = ngx_snprintf(p, NGX_HTTP_AGNTKEY_WATCH_MEMBER_MAX,
                                     "%V/%P/%*s/%M", &ngx_cycle->hostname,
                                     ngx_pid, len, watch->worker,
                                     watch->lease)
                        - p;

    p = watch->canary_buf;

    for (i = 0; i < NGX_HTTP_AGNTKEY_WATCH_CANARIES; i++) {
        watch->canaries[i].data = p;
        p = ngx_sprintf(p, "%scanary:%*s", prefixes[i], len, watch->worker);
        watch->canaries[i].len = p - watch->canaries[i].data;
    }
}


static ngx_int_t
ngx_http_agntkey_watch_send(ngx_http_agntkey_watch_t *watch, ngx_str_t *argv,
    ngx_uint_t argc, ngx_http_agntkey_redis_handler_pt handler)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    if (ngx_http_agntkey_resp_format(argv, argc, &bytes) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_agntkey_redis_send(watch->commands, &bytes, handler, watch);

    ngx_http_agntkey_resp_format_free(&bytes);

    return rc;
}


static void
ngx_http_agntkey_watch_drop_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_resp_free(reply);
}


static void
ngx_http_agntkey_watch_ready(void *data)
{
    ngx_http_agntkey_watch_t  *watch = data;

    if (watch->lease == 0) {
        ngx_http_agntkey_stream_good(watch->stream);
        return;
    }

    watch->state = NGX_HTTP_AGNTKEY_WATCH_READY;

    if (watch->ending) {
        return;
    }

    if (ngx_http_agntkey_redis_ready_now(watch->commands)) {
        ngx_http_agntkey_watch_canary(watch);
        return;
    }

    /* one that was lost while it idled waits for a command otherwise */

    ngx_http_agntkey_redis_connect(watch->commands);
}


static void
ngx_http_agntkey_watch_down(void *data)
{
    ngx_http_agntkey_watch_t  *watch = data;

    ngx_http_agntkey_watch_lose(watch);
    ngx_http_agntkey_watch_leave(watch);
    ngx_http_agntkey_watch_names(watch);

    watch->state = NGX_HTTP_AGNTKEY_WATCH_DOWN;

    if (watch->timer.timer_set) {
        ngx_del_timer(&watch->timer);
    }
}


/*
 * Of the connection for commands.  A new one may lead to another server, so
 * all is proved anew, beginning with what the stream's server is.
 */

static void
ngx_http_agntkey_watch_change(void *data, ngx_uint_t up)
{
    ngx_http_agntkey_watch_t  *watch = data;

    if (watch->ending) {
        return;
    }

    if (!up) {
        if (watch->state > NGX_HTTP_AGNTKEY_WATCH_READY) {
            ngx_http_agntkey_stream_reset(watch->stream,
                                        "the other connection was lost", 0);
        }

        return;
    }

    ngx_http_agntkey_watch_remove(watch);

    if (watch->state != NGX_HTTP_AGNTKEY_WATCH_READY) {
        return;
    }

    if (ngx_http_agntkey_stream_age(watch->stream)
        > NGX_HTTP_AGNTKEY_WATCH_AGE)
    {
        ngx_http_agntkey_stream_reset(watch->stream,
                                      "the other connection is new", 0);
        return;
    }

    ngx_http_agntkey_watch_canary(watch);
}


/*
 * From now on every request asks Redis, so that nobody has to wait for the
 * lease of a worker that is about to be gone.  One that is busy just now goes
 * on as before, and takes its lease back at the very end.
 */

static void
ngx_http_agntkey_watch_ending(void *data)
{
    ngx_http_agntkey_watch_t  *watch = data;

    if (watch->ending) {
        return;
    }

    watch->ending = 1;

    ngx_http_agntkey_watch_lose(watch);
    ngx_http_agntkey_watch_leave(watch);

    if (watch->timer.timer_set) {
        ngx_del_timer(&watch->timer);
    }
}


/*
 * A worker without a lease leaves the registry, so that no revocation waits
 * for it.  If it cannot do so now, it does as soon as commands can be sent.
 */

static void
ngx_http_agntkey_watch_leave(ngx_http_agntkey_watch_t *watch)
{
    if (!watch->registered) {
        return;
    }

    watch->registered = 0;

    watch->left.data = watch->left_buf;
    watch->left.len = watch->member.len;
    ngx_memcpy(watch->left.data, watch->member.data, watch->member.len);

    ngx_http_agntkey_watch_remove(watch);
}


static void
ngx_http_agntkey_watch_remove(ngx_http_agntkey_watch_t *watch)
{
    ngx_str_t  argv[3];

    if (watch->left.len == 0
        || !ngx_http_agntkey_redis_ready_now(watch->commands))
    {
        return;
    }

    ngx_str_set(&argv[0], "ZREM");
    ngx_str_set(&argv[1], "agntkey:workers");
    argv[2] = watch->left;

    if (ngx_http_agntkey_watch_send(watch, argv, 3,
                                    ngx_http_agntkey_watch_drop_handler)
        == NGX_OK)
    {
        watch->left.len = 0;
    }
}


static void
ngx_http_agntkey_watch_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_watch_t  *watch;

    watch = ev->data;

    switch (watch->state) {

    case NGX_HTTP_AGNTKEY_WATCH_DOWN:
        break;

    case NGX_HTTP_AGNTKEY_WATCH_READY:
        if (ngx_http_agntkey_redis_ready_now(watch->commands)) {
            ngx_http_agntkey_watch_canary(watch);
        }

        break;

    case NGX_HTTP_AGNTKEY_WATCH_CANARY:
        ngx_http_agntkey_watch_unable(watch, "no invalidation comes for what "
                                      "is written", NULL);
        ngx_http_agntkey_stream_reset(watch->stream, "no invalidation", 1);
        break;

    default: /* PROOF, TRUSTED */

        if (watch->proof == 0) {
            ngx_http_agntkey_watch_prove(watch);
            break;
        }

        if (ngx_http_agntkey_clock() - watch->begun
            > (int64_t) watch->patience)
        {
            ngx_http_agntkey_watch_unable(watch, "what is published does not "
                                          "come back", NULL);
            ngx_http_agntkey_stream_reset(watch->stream, "no message", 1);
            break;
        }

        ngx_http_agntkey_watch_arm(watch, watch->lease
                                          / NGX_HTTP_AGNTKEY_WATCH_RENEWALS);
        break;
    }
}


static void
ngx_http_agntkey_watch_lose(ngx_http_agntkey_watch_t *watch)
{
    watch->proof = 0;
    watch->lease_end = 0;

    if (watch->state == NGX_HTTP_AGNTKEY_WATCH_TRUSTED) {
        watch->state = NGX_HTTP_AGNTKEY_WATCH_PROOF;
        watch->handlers.lost(watch->data, watch->good);
    }
}


static void
ngx_http_agntkey_watch_canary(ngx_http_agntkey_watch_t *watch)
{
    ngx_str_t  argv[3 + NGX_HTTP_AGNTKEY_WATCH_CANARIES];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_watch_lua_canary;
    ngx_str_set(&argv[2], "2");
    argv[3] = watch->canaries[0];
    argv[4] = watch->canaries[1];

    watch->seen = 0;

    if (ngx_http_agntkey_watch_send(watch, argv, 5,
                                    ngx_http_agntkey_watch_canary_handler)
        == NGX_OK)
    {
        watch->state = NGX_HTTP_AGNTKEY_WATCH_CANARY;
    }

    ngx_http_agntkey_watch_arm(watch, watch->patience);
}


/* What counts is that the stream tells of it; this is for the refusals. */

static void
ngx_http_agntkey_watch_canary_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_watch_t  *watch = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        && watch->state == NGX_HTTP_AGNTKEY_WATCH_CANARY)
    {
        watch->state = NGX_HTTP_AGNTKEY_WATCH_READY;
        ngx_http_agntkey_watch_refused(watch, reply);
    }

    ngx_http_agntkey_resp_free(reply);
}


static ngx_uint_t
ngx_http_agntkey_watch_is_canary(ngx_http_agntkey_watch_t *watch,
    ngx_str_t *key)
{
    ngx_str_t   *canary;
    ngx_uint_t   i;

    for (i = 0; i < NGX_HTTP_AGNTKEY_WATCH_CANARIES; i++) {
        canary = &watch->canaries[i];

        if (key->len == canary->len
            && ngx_memcmp(key->data, canary->data, key->len) == 0)
        {
            watch->seen |= 1 << i;
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_agntkey_watch_prove(ngx_http_agntkey_watch_t *watch)
{
    u_char     lease[NGX_INT_T_LEN], text[sizeof("proof ") + NGX_INT64_LEN];
    ngx_str_t  argv[9];

    watch->proofs++;

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_watch_lua_prove;
    ngx_str_set(&argv[2], "2");
    ngx_str_set(&argv[3], "agntkey:workers");
    ngx_str_set(&argv[4], "agntkey:registry");
    argv[5] = watch->member;
    argv[6].data = lease;
    argv[6].len = ngx_sprintf(lease, "%M", watch->lease) - lease;
    argv[7] = watch->channel;
    argv[8].data = text;
    argv[8].len = ngx_sprintf(text, "proof %uL", watch->proofs) - text;

    /* what the lease is counted from: before any of this has left */

    watch->begun = ngx_http_agntkey_clock();

    if (ngx_http_agntkey_watch_send(watch, argv, 9,
                                    ngx_http_agntkey_watch_prove_handler)
        == NGX_OK)
    {
        watch->proof = watch->proofs;
        watch->registered = 1;
    }

    ngx_http_agntkey_watch_arm(watch,
                             watch->lease / NGX_HTTP_AGNTKEY_WATCH_RENEWALS);
}


static void
ngx_http_agntkey_watch_prove_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_watch_t  *watch = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        && watch->state >= NGX_HTTP_AGNTKEY_WATCH_PROOF)
    {
        /* the lease runs out, and the timer tries again */

        watch->proof = 0;
        ngx_http_agntkey_watch_refused(watch, reply);
    }

    ngx_http_agntkey_resp_free(reply);
}


/*
 * Redis takes no writes, for a while or by its rules.  One that has become a
 * replica since is no place to read from either: its name may lead elsewhere
 * by now.
 */

static void
ngx_http_agntkey_watch_refused(ngx_http_agntkey_watch_t *watch,
    ngx_http_agntkey_reply_t *reply)
{
    ngx_http_agntkey_watch_unable(watch, "Redis grants no lease", reply);

    ngx_http_agntkey_watch_arm(watch,
                               ngx_min(watch->lease,
                                       NGX_HTTP_AGNTKEY_WATCH_PAUSE));

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR
        && ngx_strnstr(reply->str.data, "READONLY", reply->str.len))
    {
        ngx_http_agntkey_redis_reset(watch->commands, "it is a replica");
    }
}


static void
ngx_http_agntkey_watch_proved(ngx_http_agntkey_watch_t *watch, uint64_t proof)
{
    if (watch->ending || watch->state < NGX_HTTP_AGNTKEY_WATCH_PROOF
        || watch->proof == 0 || watch->proof != proof)
    {
        return;
    }

    watch->proof = 0;
    watch->good = watch->begun;
    watch->lease_end = watch->begun + (int64_t) watch->lease;

    if (watch->troubled) {
        watch->troubled = 0;

        ngx_log_error(NGX_LOG_NOTICE, watch->log, 0,
                      "agntkey: keys are cached again");
    }

    if (watch->state != NGX_HTTP_AGNTKEY_WATCH_TRUSTED) {
        watch->state = NGX_HTTP_AGNTKEY_WATCH_TRUSTED;

        ngx_http_agntkey_stream_good(watch->stream);

        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, watch->log, 0,
                       "agntkey: the cache is trusted");
    }
}


/*
 * When everything may have changed, the registry may be gone, too: the worker
 * has to stand there before it remembers anything new.
 */

static void
ngx_http_agntkey_watch_changed(void *data, ngx_str_t *key)
{
    ngx_http_agntkey_watch_t  *watch = data;

    if (key == NULL) {
        ngx_http_agntkey_watch_lose(watch);
        watch->handlers.changed(watch->data, NULL);

        if (watch->state == NGX_HTTP_AGNTKEY_WATCH_PROOF && !watch->ending) {
            ngx_http_agntkey_watch_prove(watch);
        }

        return;
    }

    if (!ngx_http_agntkey_watch_is_canary(watch, key)) {
        watch->handlers.changed(watch->data, key);
        return;
    }

    if (watch->state == NGX_HTTP_AGNTKEY_WATCH_CANARY
        && watch->seen == (1 << NGX_HTTP_AGNTKEY_WATCH_CANARIES) - 1)
    {
        watch->state = NGX_HTTP_AGNTKEY_WATCH_PROOF;
        ngx_http_agntkey_watch_prove(watch);
    }
}


static void
ngx_http_agntkey_watch_barrier(void *data, ngx_str_t *text)
{
    ngx_http_agntkey_watch_t  *watch = data;

    if (watch->barrier) {
        watch->barrier(watch->said_data, text);
    }
}


/* "proof <number>" from ourselves; the rest is not about trust */

static void
ngx_http_agntkey_watch_letter(void *data, ngx_str_t *text)
{
    off_t                      n;
    ngx_http_agntkey_watch_t  *watch = data;

    if (text->len > 6 && ngx_strncmp(text->data, "proof ", 6) == 0) {

        n = ngx_atoof(text->data + 6, text->len - 6);

        if (n > 0) {
            ngx_http_agntkey_watch_proved(watch, (uint64_t) n);
        }

    } else if (watch->letter) {
        watch->letter(watch->said_data, text);
    }
}


/* Said once until keys are cached again; not where Redis is simply away. */

static void
ngx_http_agntkey_watch_unable(void *data, const char *what,
    ngx_http_agntkey_reply_t *reply)
{
    u_char                     buf[128];
    ngx_str_t                  text;
    ngx_http_agntkey_watch_t  *watch = data;

    if (watch->lease == 0 || watch->troubled || watch->ending
        || ngx_http_agntkey_redis_away(watch->commands))
    {
        return;
    }

    watch->troubled = 1;

    if (reply == NULL) {
        ngx_str_set(&text, "");

    } else if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR) {
        ngx_http_agntkey_resp_error_text(reply, buf, &text);

    } else {
        ngx_str_set(&text, "a reply of the wrong shape");
    }

    ngx_log_error(NGX_LOG_WARN, watch->log, 0,
                  "agntkey: keys are not cached: %s%s%V",
                  what, text.len ? ": " : "", &text);
}


static void
ngx_http_agntkey_watch_arm(ngx_http_agntkey_watch_t *watch, ngx_msec_t ms)
{
    if (!watch->ending) {
        ngx_add_timer(&watch->timer, ngx_max(ms, 1));
    }
}
