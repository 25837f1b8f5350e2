
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_lease.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_invalidation.h"

#include <openssl/rand.h>


/* one below each of the prefixes that are tracked */
#define NGX_HTTP_AGNTKEY_LEASE_CANARIES    2
#define NGX_HTTP_AGNTKEY_LEASE_CANARY_MAX                                     \
    (sizeof(NGX_HTTP_AGNTKEY_NAME_WORKSPACE NGX_HTTP_AGNTKEY_NAME_CANARY) - 1 \
     + NGX_HTTP_AGNTKEY_WORKER_LEN)

/* "<host>/<pid>/<worker>/<lease>" */
#define NGX_HTTP_AGNTKEY_LEASE_MEMBER_MAX                                     \
    (NGX_MAXHOSTNAMELEN + NGX_HTTP_AGNTKEY_WORKER_LEN + 2 * NGX_INT_T_LEN + 3)

/* a renewal is begun that many times while a lease lasts */
#define NGX_HTTP_AGNTKEY_LEASE_RENEWALS    4

/* how old the answer to HELLO may be when commands can be sent, ms */
#define NGX_HTTP_AGNTKEY_LEASE_AGE         1000

/* the least time for a canary or a renewal to arrive, ms */
#define NGX_HTTP_AGNTKEY_LEASE_PATIENCE    1000

/* the pause before a canary that Redis has refused is sent again, ms */
#define NGX_HTTP_AGNTKEY_LEASE_PAUSE       2000

/* what most configurations have, ms */
#define NGX_HTTP_AGNTKEY_LEASE_DEFAULT     2000


typedef enum {
    NGX_HTTP_AGNTKEY_LEASE_DOWN = 0,
    NGX_HTTP_AGNTKEY_LEASE_READY,
    NGX_HTTP_AGNTKEY_LEASE_CANARY,
    NGX_HTTP_AGNTKEY_LEASE_RENEWING,
    NGX_HTTP_AGNTKEY_LEASE_VALID
} ngx_http_agntkey_lease_e;


/* owner of the invalidation connection and of the timer */

struct ngx_http_agntkey_lease_s {
    ngx_http_agntkey_redis_client_t     *commands;
    ngx_http_agntkey_invalidation_t     *invalidation;
    ngx_log_t                           *log;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                            ident;

    ngx_http_agntkey_lease_e             state;
    int64_t                              valid_until;  /* ms; 0: none */

    ngx_msec_t                           length;       /* 0: not asked for */
    ngx_msec_t                           patience;
    ngx_http_agntkey_lease_handlers_t    handlers;
    void                                *data;

    ngx_http_agntkey_lease_message_pt    barrier;
    ngx_http_agntkey_lease_message_pt    on_message;
    void                                *message_data;

    /* the renewal under way, 0 for none, and when it was begun */
    uint64_t                             nonce;
    uint64_t                             nonces;       /* begun so far */
    int64_t                              begun;
    int64_t                              renewed_at;   /* begun, and back */

    /* the deadline of a canary or a renewal; the next one; or a pause */
    ngx_event_t                          timer;

    /* of this connection: the next one has another number and other names */
    u_char                               number[
                                              NGX_HTTP_AGNTKEY_WORKER_LEN / 2];
    u_char                               worker[NGX_HTTP_AGNTKEY_WORKER_LEN];
    ngx_str_t                            channel;
    ngx_str_t                            member;
    ngx_str_t                            left;         /* the one before */
    ngx_str_t                            canaries[
                                             NGX_HTTP_AGNTKEY_LEASE_CANARIES];
    ngx_uint_t                           seen;         /* of them, bits */

    u_char                               channel_buf[
                                          NGX_HTTP_AGNTKEY_WORKER_CHANNEL_LEN];
    u_char                               member_buf[
                                          NGX_HTTP_AGNTKEY_LEASE_MEMBER_MAX];
    u_char                               left_buf[
                                          NGX_HTTP_AGNTKEY_LEASE_MEMBER_MAX];
    u_char                               canary_buf[
                                          NGX_HTTP_AGNTKEY_LEASE_CANARIES
                                          * NGX_HTTP_AGNTKEY_LEASE_CANARY_MAX];

    unsigned                             registered:1;
    unsigned                             exiting:1;
    unsigned                             faulty:1;     /* and it was said */
};


static void ngx_http_agntkey_lease_names(ngx_http_agntkey_lease_t *lease);

static void ngx_http_agntkey_lease_ready(void *data);
static void ngx_http_agntkey_lease_down(void *data);
static void ngx_http_agntkey_lease_commands_up(void *data);
static void ngx_http_agntkey_lease_commands_down(void *data);
static void ngx_http_agntkey_lease_on_exit(void *data);
static void ngx_http_agntkey_lease_leave(ngx_http_agntkey_lease_t *lease);
static void ngx_http_agntkey_lease_remove(ngx_http_agntkey_lease_t *lease);
static void ngx_http_agntkey_lease_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_lease_expire(ngx_http_agntkey_lease_t *lease);

static void ngx_http_agntkey_lease_canary(ngx_http_agntkey_lease_t *lease);
static void ngx_http_agntkey_lease_canary_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_lease_is_canary(
    ngx_http_agntkey_lease_t *lease, ngx_str_t *key);
static void ngx_http_agntkey_lease_renew(ngx_http_agntkey_lease_t *lease);
static void ngx_http_agntkey_lease_renew_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_lease_refused(ngx_http_agntkey_lease_t *lease,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_lease_renewed(ngx_http_agntkey_lease_t *lease,
    uint64_t nonce);

static void ngx_http_agntkey_lease_changed(void *data, ngx_str_t *key);
static void ngx_http_agntkey_lease_barrier(void *data, ngx_str_t *text);
static void ngx_http_agntkey_lease_on_message(void *data, ngx_str_t *text);

static void ngx_http_agntkey_lease_fault(void *data, const char *what,
    ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_lease_arm(ngx_http_agntkey_lease_t *lease,
    ngx_msec_t ms);


/* the scripts in src/lua */

#include "ngx_http_agntkey_lua_canary.inc"
#include "ngx_http_agntkey_lua_renew.inc"


ngx_http_agntkey_lease_t *
ngx_http_agntkey_lease_create(ngx_http_agntkey_redis_conf_t *conf,
    ngx_http_agntkey_redis_client_t *commands, ngx_msec_t length,
    ngx_http_agntkey_lease_handlers_t *handlers, void *data, ngx_log_t *log)
{
    ngx_http_agntkey_lease_t                  *lease;
    ngx_http_agntkey_invalidation_handlers_t   from;
    ngx_http_agntkey_redis_client_handlers_t   listener;

    lease = ngx_calloc(sizeof(ngx_http_agntkey_lease_t), log);
    if (lease == NULL) {
        return NULL;
    }

    lease->commands = commands;
    lease->log = log;
    lease->ident = -1;
    lease->length = length;
    lease->patience = ngx_max(conf->timeout, NGX_HTTP_AGNTKEY_LEASE_PATIENCE);
    lease->handlers = *handlers;
    lease->data = data;

    lease->timer.handler = ngx_http_agntkey_lease_timer_handler;
    lease->timer.data = lease;
    lease->timer.log = log;
    lease->timer.cancelable = 1;

    from.ready = ngx_http_agntkey_lease_ready;
    from.down = ngx_http_agntkey_lease_down;
    from.fault = ngx_http_agntkey_lease_fault;
    from.changed = ngx_http_agntkey_lease_changed;
    from.barrier = ngx_http_agntkey_lease_barrier;
    from.on_message = ngx_http_agntkey_lease_on_message;

    if (RAND_bytes(lease->number, sizeof(lease->number)) == 1) {
        ngx_http_agntkey_lease_names(lease);

        lease->invalidation = ngx_http_agntkey_invalidation_create(conf,
                                                            &lease->channel,
                                                            length != 0, &from,
                                                            lease, log);
    }

    if (lease->invalidation == NULL) {
        ngx_free(lease);
        return NULL;
    }

    if (length == 0) {
        return lease;
    }

    listener.up = ngx_http_agntkey_lease_commands_up;
    listener.down = ngx_http_agntkey_lease_commands_down;
    listener.exit = ngx_http_agntkey_lease_on_exit;

    ngx_http_agntkey_redis_client_listen(commands, &listener, lease);

    return lease;
}


void
ngx_http_agntkey_lease_destroy(ngx_http_agntkey_lease_t *lease)
{
    ngx_str_t  argv[3], bytes;

    if (lease->registered || lease->left.len) {
        ngx_str_set(&argv[0], "ZREM");
        ngx_str_set(&argv[1], NGX_HTTP_AGNTKEY_NAME_WORKERS);
        argv[2] = lease->registered ? lease->member : lease->left;

        if (ngx_http_agntkey_redis_resp_format(argv, 3, &bytes) == NGX_OK) {
            ngx_http_agntkey_redis_client_send_now(lease->commands, &bytes);
            ngx_http_agntkey_redis_resp_format_free(&bytes);
        }
    }

    if (lease->timer.timer_set) {
        ngx_del_timer(&lease->timer);
    }

    ngx_http_agntkey_invalidation_destroy(lease->invalidation);
    ngx_free(lease);
}


ngx_uint_t
ngx_http_agntkey_lease_valid(ngx_http_agntkey_lease_t *lease, int64_t now)
{
    return now < lease->valid_until;
}


void
ngx_http_agntkey_lease_subscribe(ngx_http_agntkey_lease_t *lease,
    ngx_http_agntkey_lease_message_pt barrier,
    ngx_http_agntkey_lease_message_pt on_message, void *data)
{
    lease->barrier = barrier;
    lease->on_message = on_message;
    lease->message_data = data;
}


void
ngx_http_agntkey_lease_suspect(ngx_http_agntkey_lease_t *lease)
{
    if (lease->length == 0) {
        ngx_http_agntkey_invalidation_reset(lease->invalidation,
                                            "nobody answers", 0);
    }
}


u_char *
ngx_http_agntkey_lease_worker(ngx_http_agntkey_lease_t *lease)
{
    return lease->worker;
}


ngx_str_t *
ngx_http_agntkey_lease_channel(ngx_http_agntkey_lease_t *lease)
{
    return &lease->channel;
}


ngx_msec_t
ngx_http_agntkey_lease_length(ngx_http_agntkey_lease_t *lease)
{
    return lease->length ? lease->length : NGX_HTTP_AGNTKEY_LEASE_DEFAULT;
}


/*
 * The names of one connection.  None is used again: a command written to
 * a connection that is lost may still be carried out, and a ZREM of the name
 * that a lease is held by would take that lease out of the registry.  The
 * number is random at first, so that no two workers meet.
 */

static void
ngx_http_agntkey_lease_names(ngx_http_agntkey_lease_t *lease)
{
    u_char      *p;
    size_t       len;
    ngx_uint_t   i;

    static const char  *prefixes[] = {
        NGX_HTTP_AGNTKEY_NAME_KEY NGX_HTTP_AGNTKEY_NAME_CANARY,
        NGX_HTTP_AGNTKEY_NAME_WORKSPACE NGX_HTTP_AGNTKEY_NAME_CANARY
    };

    for (i = sizeof(lease->number); i && ++lease->number[i - 1] == 0; i--) {
        /* void */
    }

    ngx_hex_dump(lease->worker, lease->number, sizeof(lease->number));

    len = NGX_HTTP_AGNTKEY_WORKER_LEN;

    p = lease->channel_buf;
    lease->channel.data = p;
    lease->channel.len = ngx_sprintf(p, NGX_HTTP_AGNTKEY_NAME_WORKER "%*s",
                                     len, lease->worker)
                         - p;

    p = lease->member_buf;
    lease->member.data = p;
    lease->member.len = ngx_snprintf(p, NGX_HTTP_AGNTKEY_LEASE_MEMBER_MAX,
                                     "%V/%P/%*s/%M", &ngx_cycle->hostname,
                                     ngx_pid, len, lease->worker,
                                     lease->length)
                        - p;

    p = lease->canary_buf;

    for (i = 0; i < NGX_HTTP_AGNTKEY_LEASE_CANARIES; i++) {
        lease->canaries[i].data = p;
        p = ngx_sprintf(p, "%s%*s", prefixes[i], len, lease->worker);
        lease->canaries[i].len = p - lease->canaries[i].data;
    }
}


static void
ngx_http_agntkey_lease_ready(void *data)
{
    ngx_http_agntkey_lease_t  *lease = data;

    if (lease->length == 0) {
        ngx_http_agntkey_invalidation_settled(lease->invalidation);
        return;
    }

    lease->state = NGX_HTTP_AGNTKEY_LEASE_READY;

    if (lease->exiting) {
        return;
    }

    if (ngx_http_agntkey_redis_client_ready(lease->commands)) {
        ngx_http_agntkey_lease_canary(lease);
        return;
    }

    /* one that was lost while it idled waits for a command otherwise */

    ngx_http_agntkey_redis_client_connect(lease->commands);
}


static void
ngx_http_agntkey_lease_down(void *data)
{
    ngx_http_agntkey_lease_t  *lease = data;

    ngx_http_agntkey_lease_expire(lease);
    ngx_http_agntkey_lease_leave(lease);
    ngx_http_agntkey_lease_names(lease);

    lease->state = NGX_HTTP_AGNTKEY_LEASE_DOWN;

    if (lease->timer.timer_set) {
        ngx_del_timer(&lease->timer);
    }
}


/*
 * Of the connection for commands.  A new one may lead to another server, so
 * all steps are repeated, beginning with the role of the server.
 */

static void
ngx_http_agntkey_lease_commands_up(void *data)
{
    ngx_http_agntkey_lease_t  *lease = data;

    if (lease->exiting) {
        return;
    }

    ngx_http_agntkey_lease_remove(lease);

    if (lease->state != NGX_HTTP_AGNTKEY_LEASE_READY) {
        return;
    }

    if (ngx_http_agntkey_invalidation_age(lease->invalidation)
        > NGX_HTTP_AGNTKEY_LEASE_AGE)
    {
        ngx_http_agntkey_invalidation_reset(lease->invalidation,
                                            "the other connection is new", 0);
        return;
    }

    ngx_http_agntkey_lease_canary(lease);
}


static void
ngx_http_agntkey_lease_commands_down(void *data)
{
    ngx_http_agntkey_lease_t  *lease = data;

    if (!lease->exiting && lease->state > NGX_HTTP_AGNTKEY_LEASE_READY) {
        ngx_http_agntkey_invalidation_reset(lease->invalidation,
                                        "the other connection was lost", 0);
    }
}


/*
 * From now on every request asks Redis, so that nobody has to wait for the
 * lease of a worker that is about to be gone.  One that is busy just now goes
 * on as before, and takes its lease back at the very end.
 */

static void
ngx_http_agntkey_lease_on_exit(void *data)
{
    ngx_http_agntkey_lease_t  *lease = data;

    if (lease->exiting) {
        return;
    }

    lease->exiting = 1;

    ngx_http_agntkey_lease_expire(lease);
    ngx_http_agntkey_lease_leave(lease);

    if (lease->timer.timer_set) {
        ngx_del_timer(&lease->timer);
    }
}


/*
 * A worker without a lease leaves the registry, so that no revocation waits
 * for it.  If it cannot do so now, it does as soon as commands can be sent.
 */

static void
ngx_http_agntkey_lease_leave(ngx_http_agntkey_lease_t *lease)
{
    if (!lease->registered) {
        return;
    }

    lease->registered = 0;

    lease->left.data = lease->left_buf;
    lease->left.len = lease->member.len;
    ngx_memcpy(lease->left.data, lease->member.data, lease->member.len);

    ngx_http_agntkey_lease_remove(lease);
}


static void
ngx_http_agntkey_lease_remove(ngx_http_agntkey_lease_t *lease)
{
    ngx_str_t  argv[3];

    if (lease->left.len == 0
        || !ngx_http_agntkey_redis_client_ready(lease->commands))
    {
        return;
    }

    ngx_str_set(&argv[0], "ZREM");
    ngx_str_set(&argv[1], NGX_HTTP_AGNTKEY_NAME_WORKERS);
    argv[2] = lease->left;

    if (ngx_http_agntkey_redis_client_command(lease->commands, argv, 3,
                                              NULL, NULL)
        == NGX_OK)
    {
        lease->left.len = 0;
    }
}


static void
ngx_http_agntkey_lease_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_lease_t  *lease;

    lease = ev->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                   "agntkey lease timer, state %d", lease->state);

    switch (lease->state) {

    case NGX_HTTP_AGNTKEY_LEASE_DOWN:
        break;

    case NGX_HTTP_AGNTKEY_LEASE_READY:
        if (ngx_http_agntkey_redis_client_ready(lease->commands)) {
            ngx_http_agntkey_lease_canary(lease);
        }

        break;

    case NGX_HTTP_AGNTKEY_LEASE_CANARY:
        ngx_http_agntkey_lease_fault(lease, "no invalidation comes for what "
                                     "is written", NULL);
        ngx_http_agntkey_invalidation_reset(lease->invalidation,
                                            "no invalidation", 1);
        break;

    default: /* RENEWING, VALID */

        if (lease->nonce == 0) {
            ngx_http_agntkey_lease_renew(lease);
            break;
        }

        if (ngx_http_agntkey_clock() - lease->begun
            > (int64_t) lease->patience)
        {
            ngx_http_agntkey_lease_fault(lease, "what is published does not "
                                         "come back", NULL);
            ngx_http_agntkey_invalidation_reset(lease->invalidation,
                                                "no message", 1);
            break;
        }

        ngx_http_agntkey_lease_arm(lease, lease->length
                                          / NGX_HTTP_AGNTKEY_LEASE_RENEWALS);
        break;
    }
}


static void
ngx_http_agntkey_lease_expire(ngx_http_agntkey_lease_t *lease)
{
    lease->nonce = 0;
    lease->valid_until = 0;

    if (lease->state == NGX_HTTP_AGNTKEY_LEASE_VALID) {
        ngx_log_debug2(NGX_LOG_DEBUG_HTTP, lease->log, 0,
                       "agntkey lease of %*s is over",
                       (size_t) NGX_HTTP_AGNTKEY_WORKER_LEN, lease->worker);

        lease->state = NGX_HTTP_AGNTKEY_LEASE_RENEWING;
        lease->handlers.expired(lease->data, lease->renewed_at);
    }
}


static void
ngx_http_agntkey_lease_canary(ngx_http_agntkey_lease_t *lease)
{
    ngx_str_t  argv[3 + NGX_HTTP_AGNTKEY_LEASE_CANARIES];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_canary;
    ngx_str_set(&argv[2], "2");
    argv[3] = lease->canaries[0];
    argv[4] = lease->canaries[1];

    lease->seen = 0;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, lease->log, 0,
                   "agntkey lease of %*s: canaries",
                   (size_t) NGX_HTTP_AGNTKEY_WORKER_LEN, lease->worker);

    if (ngx_http_agntkey_redis_client_command(lease->commands, argv, 5,
                                          ngx_http_agntkey_lease_canary_handler,
                                          lease)
        == NGX_OK)
    {
        lease->state = NGX_HTTP_AGNTKEY_LEASE_CANARY;
    }

    ngx_http_agntkey_lease_arm(lease, lease->patience);
}


/* What counts is the invalidation; this is for error replies. */

static void
ngx_http_agntkey_lease_canary_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_lease_t  *lease = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        && lease->state == NGX_HTTP_AGNTKEY_LEASE_CANARY)
    {
        lease->state = NGX_HTTP_AGNTKEY_LEASE_READY;
        ngx_http_agntkey_lease_refused(lease, reply);
    }

    ngx_http_agntkey_redis_resp_free(reply);
}


static ngx_uint_t
ngx_http_agntkey_lease_is_canary(ngx_http_agntkey_lease_t *lease,
    ngx_str_t *key)
{
    ngx_str_t   *canary;
    ngx_uint_t   i;

    for (i = 0; i < NGX_HTTP_AGNTKEY_LEASE_CANARIES; i++) {
        canary = &lease->canaries[i];

        if (key->len == canary->len
            && ngx_memcmp(key->data, canary->data, key->len) == 0)
        {
            lease->seen |= 1 << i;
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_agntkey_lease_renew(ngx_http_agntkey_lease_t *lease)
{
    u_char     length[NGX_INT_T_LEN], text[sizeof("proof ") + NGX_INT64_LEN];
    ngx_str_t  argv[9];

    lease->nonces++;

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_renew;
    ngx_str_set(&argv[2], "2");
    ngx_str_set(&argv[3], NGX_HTTP_AGNTKEY_NAME_WORKERS);
    ngx_str_set(&argv[4], NGX_HTTP_AGNTKEY_NAME_REGISTRY);
    argv[5] = lease->member;
    argv[6].data = length;
    argv[6].len = ngx_sprintf(length, "%M", lease->length) - length;
    argv[7] = lease->channel;
    argv[8].data = text;
    argv[8].len = ngx_sprintf(text, "proof %uL", lease->nonces) - text;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, lease->log, 0,
                   "agntkey lease of %*s: renewal %uL",
                   (size_t) NGX_HTTP_AGNTKEY_WORKER_LEN, lease->worker,
                   lease->nonces);

    /* what the lease is counted from: before any of this has left */

    lease->begun = ngx_http_agntkey_clock();

    if (ngx_http_agntkey_redis_client_command(lease->commands, argv, 9,
                                          ngx_http_agntkey_lease_renew_handler,
                                          lease)
        == NGX_OK)
    {
        lease->nonce = lease->nonces;
        lease->registered = 1;
    }

    ngx_http_agntkey_lease_arm(lease,
                             lease->length / NGX_HTTP_AGNTKEY_LEASE_RENEWALS);
}


static void
ngx_http_agntkey_lease_renew_handler(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_lease_t  *lease = data;

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        return;
    }

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        && lease->state >= NGX_HTTP_AGNTKEY_LEASE_RENEWING)
    {
        /* the lease runs out, and the timer tries again */

        lease->nonce = 0;
        ngx_http_agntkey_lease_refused(lease, reply);
    }

    ngx_http_agntkey_redis_resp_free(reply);
}


/*
 * Redis takes no writes, for a while or by its rules.  One that has become a
 * replica since is no place to read from either: its name may lead elsewhere
 * by now.
 */

static void
ngx_http_agntkey_lease_refused(ngx_http_agntkey_lease_t *lease,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_uint_t  replica;

    replica = (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR
               && ngx_strnstr(reply->str.data, "READONLY", reply->str.len));

    ngx_http_agntkey_lease_fault(lease, "Redis grants no lease", reply);

    ngx_http_agntkey_lease_arm(lease,
                               ngx_min(lease->length,
                                       NGX_HTTP_AGNTKEY_LEASE_PAUSE));

    if (replica) {
        ngx_http_agntkey_redis_client_reset(lease->commands,
                                            "it is a replica");
    }
}


static void
ngx_http_agntkey_lease_renewed(ngx_http_agntkey_lease_t *lease, uint64_t nonce)
{
    if (lease->exiting || lease->state < NGX_HTTP_AGNTKEY_LEASE_RENEWING
        || lease->nonce == 0 || lease->nonce != nonce)
    {
        return;
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, lease->log, 0,
                   "agntkey lease of %*s: renewal %uL came back",
                   (size_t) NGX_HTTP_AGNTKEY_WORKER_LEN, lease->worker, nonce);

    lease->nonce = 0;
    lease->renewed_at = lease->begun;
    lease->valid_until = lease->begun + (int64_t) lease->length;

    if (lease->faulty) {
        lease->faulty = 0;

        ngx_log_error(NGX_LOG_NOTICE, lease->log, 0,
                      "agntkey: keys are cached again");
    }

    if (lease->state != NGX_HTTP_AGNTKEY_LEASE_VALID) {
        lease->state = NGX_HTTP_AGNTKEY_LEASE_VALID;

        ngx_http_agntkey_invalidation_settled(lease->invalidation);

        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, lease->log, 0,
                       "agntkey lease is valid");
    }
}


/*
 * When everything may have changed, the registry may be gone, too: the worker
 * has to stand there before it remembers anything new.
 */

static void
ngx_http_agntkey_lease_changed(void *data, ngx_str_t *key)
{
    ngx_http_agntkey_lease_t  *lease = data;

    if (key == NULL) {
        ngx_http_agntkey_lease_expire(lease);
        lease->handlers.changed(lease->data, NULL);

        if (lease->state == NGX_HTTP_AGNTKEY_LEASE_RENEWING
            && !lease->exiting)
        {
            ngx_http_agntkey_lease_renew(lease);
        }

        return;
    }

    if (!ngx_http_agntkey_lease_is_canary(lease, key)) {
        lease->handlers.changed(lease->data, key);
        return;
    }

    if (lease->state == NGX_HTTP_AGNTKEY_LEASE_CANARY
        && lease->seen == (1 << NGX_HTTP_AGNTKEY_LEASE_CANARIES) - 1)
    {
        lease->state = NGX_HTTP_AGNTKEY_LEASE_RENEWING;
        ngx_http_agntkey_lease_renew(lease);
    }
}


static void
ngx_http_agntkey_lease_barrier(void *data, ngx_str_t *text)
{
    ngx_http_agntkey_lease_t  *lease = data;

    if (lease->barrier) {
        lease->barrier(lease->message_data, text);
    }
}


/* "proof <nonce>" is a renewal of ours; other messages are passed on */

static void
ngx_http_agntkey_lease_on_message(void *data, ngx_str_t *text)
{
    off_t                      n;
    ngx_http_agntkey_lease_t  *lease = data;

    if (text->len > 6 && ngx_strncmp(text->data, "proof ", 6) == 0) {

        n = ngx_atoof(text->data + 6, text->len - 6);

        if (n > 0) {
            ngx_http_agntkey_lease_renewed(lease, (uint64_t) n);
        }

    } else if (lease->on_message) {
        lease->on_message(lease->message_data, text);
    }
}


/* Said once until keys are cached again; not where Redis is simply away. */

static void
ngx_http_agntkey_lease_fault(void *data, const char *what,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char                     buf[128];
    ngx_str_t                  text;
    ngx_http_agntkey_lease_t  *lease = data;

    if (lease->length == 0 || lease->faulty || lease->exiting
        || ngx_http_agntkey_redis_client_unavailable(lease->commands))
    {
        return;
    }

    lease->faulty = 1;

    if (reply == NULL) {
        ngx_str_set(&text, "");

    } else {
        ngx_http_agntkey_redis_resp_describe(reply, buf, &text);
    }

    ngx_log_error(NGX_LOG_WARN, lease->log, 0,
                  "agntkey: keys are not cached: %s%s%V",
                  what, text.len ? ": " : "", &text);
}


static void
ngx_http_agntkey_lease_arm(ngx_http_agntkey_lease_t *lease, ngx_msec_t ms)
{
    if (!lease->exiting) {
        ngx_add_timer(&lease->timer, ngx_max(ms, 1));
    }
}
