
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_barrier.h"
#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_invalidation.h"
#include "ngx_http_agntkey_keyspace.h"
#include "ngx_http_agntkey_replicas.h"


/* workers that are named in a line of the log */
#define NGX_HTTP_AGNTKEY_BARRIER_SHOWN   8

/* answers that may come before it is known who has to answer */
#define NGX_HTTP_AGNTKEY_BARRIER_EARLY   1024


typedef struct {
    u_char                                 id[NGX_HTTP_AGNTKEY_WORKER_LEN];
    ngx_msec_t                             lease;
    unsigned                               acknowledged:1;
} ngx_http_agntkey_barrier_worker_t;


/* owner of its barriers */

struct ngx_http_agntkey_barriers_s {
    ngx_http_agntkey_lease_t                    *lease;
    ngx_http_agntkey_barrier_ack_t              *acks;
    ngx_http_agntkey_redis_client_t             *admin;
    ngx_log_t                                   *log;

    ngx_queue_t                                  queue;
    uint64_t                                     number;    /* of the last */

    ngx_http_agntkey_replicas_t                 *replicas;
};


/* lives until its commands have been answered, even if who asked has gone */

struct ngx_http_agntkey_barrier_s {
    ngx_http_agntkey_barriers_t           *barriers;
    ngx_http_agntkey_barrier_handler_pt    handler;      /* NULL: no matter */
    void                                  *data;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                              ident;

    ngx_queue_t                            queue;
    uint64_t                               number;
    ngx_event_t                            timer;

    ngx_http_agntkey_barrier_worker_t     *workers;
    ngx_uint_t                             nworkers;
    u_char                                *early;
    ngx_uint_t                             nearly;

    ngx_http_agntkey_written_t             written;      /* all of it here */
    u_char                            record[NGX_HTTP_AGNTKEY_NAME_ROOM];
    ngx_http_agntkey_receipt_t             receipt;
    int64_t                                asked;        /* ms */
    int64_t                                quarantine;   /* ends then, ms */

    ngx_uint_t                             waiting;      /* commands */
    unsigned                               failed:1;
    unsigned                               known:1;      /* the workers are */
    unsigned                               over:1;
    unsigned                               wait_due:1;   /* for a WAIT ... */
    unsigned                               wait_sent:1;  /* ... under way */
    unsigned                               marked:1;     /* after the write */
    ngx_uint_t                             replicas;     /* that there are */
    ngx_uint_t                             generation;   /* of the write */
};


static ngx_http_agntkey_barrier_t *ngx_http_agntkey_barrier_create(
    ngx_http_agntkey_barriers_t *barriers,
    ngx_http_agntkey_written_t *written,
    ngx_http_agntkey_barrier_handler_pt handler, void *data);
static void ngx_http_agntkey_barriers_acknowledged(void *data, off_t number,
    u_char *worker);
static ngx_int_t ngx_http_agntkey_barriers_send(
    ngx_http_agntkey_barriers_t *barriers, ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler, void *data,
    ngx_uint_t *waiting);
static void ngx_http_agntkey_barrier_record_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t ngx_http_agntkey_barrier_stands(
    ngx_http_agntkey_written_t *written, ngx_http_agntkey_redis_reply_t **elts);
static ngx_uint_t ngx_http_agntkey_barrier_is(ngx_str_t *a, ngx_str_t *b);
static void ngx_http_agntkey_barrier_registry_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply);
static ngx_int_t ngx_http_agntkey_barrier_registry(
    ngx_http_agntkey_barrier_t *barrier, ngx_http_agntkey_redis_reply_t *reply);
static void ngx_http_agntkey_barrier_worker(
    ngx_http_agntkey_barrier_t *barrier,
    ngx_http_agntkey_barrier_worker_t *worker,
    ngx_str_t *member);
static void ngx_http_agntkey_barriers_wait(
    ngx_http_agntkey_barriers_t *barriers);
static ngx_uint_t ngx_http_agntkey_barrier_may_sync(
    ngx_http_agntkey_barrier_t *barrier);
static void ngx_http_agntkey_barriers_waited(void *data, ngx_uint_t replicas,
    ngx_int_t synced);
static void ngx_http_agntkey_barrier_acknowledge(
    ngx_http_agntkey_barrier_t *barrier, u_char *id);
static void ngx_http_agntkey_barrier_timer_handler(ngx_event_t *ev);
static void ngx_http_agntkey_barrier_check(
    ngx_http_agntkey_barrier_t *barrier);
static int64_t ngx_http_agntkey_barrier_deadline(
    ngx_http_agntkey_barrier_t *barrier);
static void ngx_http_agntkey_barrier_log_silent(
    ngx_http_agntkey_barrier_t *barrier);
static void ngx_http_agntkey_barrier_done(ngx_http_agntkey_barrier_t *barrier,
    ngx_int_t rc);
static void ngx_http_agntkey_barrier_free(ngx_http_agntkey_barrier_t *barrier);


/* the script in src/lua */

#include "ngx_http_agntkey_lua_barrier.inc"


ngx_http_agntkey_barriers_t *
ngx_http_agntkey_barriers_create(ngx_http_agntkey_lease_t *lease,
    ngx_http_agntkey_barrier_ack_t *acks,
    ngx_http_agntkey_redis_client_t *admin, ngx_msec_t timeout, ngx_log_t *log)
{
    ngx_http_agntkey_barriers_t  *barriers;

    barriers = ngx_calloc(sizeof(ngx_http_agntkey_barriers_t), log);
    if (barriers == NULL) {
        return NULL;
    }

    barriers->lease = lease;
    barriers->acks = acks;
    barriers->admin = admin;
    barriers->log = log;

    barriers->replicas = ngx_http_agntkey_replicas_create(admin, timeout,
                                              ngx_http_agntkey_barriers_waited,
                                              barriers, log);
    if (barriers->replicas == NULL) {
        ngx_free(barriers);
        return NULL;
    }

    ngx_queue_init(&barriers->queue);

    ngx_http_agntkey_barrier_ack_set_handler(acks,
                                         ngx_http_agntkey_barriers_acknowledged,
                                         barriers);

    return barriers;
}


void
ngx_http_agntkey_barriers_destroy(ngx_http_agntkey_barriers_t *barriers)
{
    ngx_queue_t                 *q;
    ngx_http_agntkey_barrier_t  *barrier;

    ngx_http_agntkey_barrier_ack_set_handler(barriers->acks, NULL, NULL);

    while (!ngx_queue_empty(&barriers->queue)) {
        q = ngx_queue_head(&barriers->queue);
        barrier = ngx_queue_data(q, ngx_http_agntkey_barrier_t, queue);
        ngx_http_agntkey_barrier_free(barrier);
    }

    ngx_http_agntkey_replicas_destroy(barriers->replicas);
    ngx_free(barriers);
}


ngx_http_agntkey_barrier_t *
ngx_http_agntkey_barrier_start(ngx_http_agntkey_barriers_t *barriers,
    ngx_http_agntkey_written_t *written,
    ngx_http_agntkey_barrier_handler_pt handler, void *data)
{
    u_char                       text[NGX_HTTP_AGNTKEY_WORKER_CHANNEL_LEN
                                      + 1 + NGX_INT64_LEN];
    u_char                       lease[NGX_INT_T_LEN];
    ngx_str_t                    argv[8];
    ngx_http_agntkey_barrier_t  *barrier;

    barrier = ngx_http_agntkey_barrier_create(barriers, written, handler,
                                              data);
    if (barrier == NULL) {
        return NULL;
    }

    /* a connection made anew may lead to a Redis that has not what we wrote */

    ngx_str_set(&argv[0], "HMGET");
    argv[1] = written->record;
    ngx_str_set(&argv[2], "active");
    ngx_str_set(&argv[3], "scopes");
    ngx_str_set(&argv[4], "expires_at");

    if (ngx_http_agntkey_barriers_send(barriers, argv, 5,
                                      ngx_http_agntkey_barrier_record_handler,
                                      barrier, &barrier->waiting)
        != NGX_OK)
    {
        ngx_http_agntkey_barrier_free(barrier);
        return NULL;
    }

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_agntkey_lua_barrier;
    ngx_str_set(&argv[2], "2");
    ngx_str_set(&argv[3], NGX_HTTP_AGNTKEY_NAME_WORKERS);
    ngx_str_set(&argv[4], NGX_HTTP_AGNTKEY_NAME_REGISTRY);
    ngx_str_set(&argv[5], NGX_HTTP_AGNTKEY_NAME_BARRIER);
    argv[6].data = text;
    argv[6].len = ngx_sprintf(text, "%V %uL",
                           ngx_http_agntkey_lease_channel(barriers->lease),
                           barrier->number)
                  - text;

    argv[7].data = lease;
    argv[7].len = ngx_sprintf(lease, "%M",
                              ngx_http_agntkey_lease_length(barriers->lease))
                  - lease;

    if (ngx_http_agntkey_barriers_send(barriers, argv, 8,
                                    ngx_http_agntkey_barrier_registry_handler,
                                    barrier, &barrier->waiting)
        != NGX_OK)
    {
        /* the first is under way and will find nobody */

        barrier->handler = NULL;
        return NULL;
    }

    return barrier;
}


/* A barrier in the queue; the values are copied behind it. */

static ngx_http_agntkey_barrier_t *
ngx_http_agntkey_barrier_create(ngx_http_agntkey_barriers_t *barriers,
    ngx_http_agntkey_written_t *written,
    ngx_http_agntkey_barrier_handler_pt handler, void *data)
{
    u_char                      *p;
    ngx_http_agntkey_barrier_t  *barrier;

    barrier = ngx_calloc(sizeof(ngx_http_agntkey_barrier_t)
                         + written->scopes.len + written->expires_at.len,
                         barriers->log);
    if (barrier == NULL) {
        return NULL;
    }

    p = (u_char *) (barrier + 1);

    barrier->written = *written;
    barrier->written.scopes.data = p;
    barrier->written.expires_at.data = p + written->scopes.len;

    if (written->scopes.len) {
        p = ngx_cpymem(p, written->scopes.data, written->scopes.len);
    }

    if (written->expires_at.len) {
        ngx_memcpy(p, written->expires_at.data, written->expires_at.len);
    }

    ngx_memcpy(barrier->record, written->record.data,
               ngx_min(written->record.len, NGX_HTTP_AGNTKEY_NAME_ROOM));
    barrier->written.record.data = barrier->record;
    barrier->written.record.len = ngx_min(written->record.len,
                                          NGX_HTTP_AGNTKEY_NAME_ROOM);

    barrier->barriers = barriers;
    barrier->handler = handler;
    barrier->data = data;
    barrier->ident = -1;
    barrier->number = ++barriers->number;
    barrier->receipt.synced = NGX_DECLINED;
    barrier->generation = ngx_http_agntkey_redis_client_generation(
                                                             barriers->admin);

    barrier->timer.handler = ngx_http_agntkey_barrier_timer_handler;
    barrier->timer.data = barrier;
    barrier->timer.log = barriers->log;

    ngx_queue_insert_tail(&barriers->queue, &barrier->queue);

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, barriers->log, 0,
                   "agntkey barrier %uL of worker %*s",
                   barrier->number, (size_t) NGX_HTTP_AGNTKEY_WORKER_LEN,
                   ngx_http_agntkey_lease_worker(barriers->lease));
    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, barriers->log, 0,
                   "agntkey barrier %uL: %V", barrier->number,
                   &barrier->written.record);

    return barrier;
}


void
ngx_http_agntkey_barrier_cancel(ngx_http_agntkey_barrier_t *barrier)
{
    barrier->handler = NULL;
    ngx_http_agntkey_barrier_done(barrier, NGX_ERROR);
}


static void
ngx_http_agntkey_barriers_acknowledged(void *data, off_t number,
    u_char *worker)
{
    ngx_queue_t                  *q;
    ngx_http_agntkey_barrier_t   *barrier;
    ngx_http_agntkey_barriers_t  *barriers = data;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, barriers->log, 0,
                   "agntkey barrier %O: acknowledged by %*s",
                   number, (size_t) NGX_HTTP_AGNTKEY_WORKER_LEN, worker);

    for (q = ngx_queue_head(&barriers->queue);
         q != ngx_queue_sentinel(&barriers->queue);
         q = ngx_queue_next(q))
    {
        barrier = ngx_queue_data(q, ngx_http_agntkey_barrier_t, queue);

        if ((off_t) barrier->number == number) {
            ngx_http_agntkey_barrier_acknowledge(barrier, worker);
            return;
        }
    }
}


/* Counts in *waiting what was sent; the handler takes it off again. */

static ngx_int_t
ngx_http_agntkey_barriers_send(ngx_http_agntkey_barriers_t *barriers,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler, void *data,
    ngx_uint_t *waiting)
{
    ngx_int_t  rc;

    rc = ngx_http_agntkey_redis_client_command(barriers->admin, argv, argc,
                                               handler, data);
    if (rc == NGX_OK) {
        (*waiting)++;
    }

    return rc;
}


static void
ngx_http_agntkey_barrier_record_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_barrier_t  *barrier = data;

    barrier->waiting--;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, barrier->barriers->log, 0,
                   "agntkey barrier %uL: the record, %d", barrier->number, rc);

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK
        || reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 3)
    {
        barrier->failed = 1;

    } else if (!ngx_http_agntkey_barrier_stands(&barrier->written,
                                                reply->elts))
    {
        barrier->failed = 1;

        ngx_log_error(NGX_LOG_ERR, barrier->barriers->log, 0,
                      "agntkey: Redis has lost what was written: the record "
                      "\"%V\" has something that was taken from it",
                      &barrier->written.record);
    }

    ngx_http_agntkey_redis_resp_free(reply);

    ngx_http_agntkey_barrier_check(barrier);
}


static ngx_uint_t
ngx_http_agntkey_barrier_stands(ngx_http_agntkey_written_t *written,
    ngx_http_agntkey_redis_reply_t **elts)
{
    ngx_str_t   *active;
    ngx_uint_t   i;

    for (i = 0; i < 3; i++) {
        if (elts[i]->type != NGX_HTTP_AGNTKEY_RESP_NIL
            && elts[i]->type != NGX_HTTP_AGNTKEY_RESP_STRING)
        {
            return 0;
        }
    }

    active = &elts[0]->str;

    if (active->len != 1 || active->data[0] != '1') {
        return 1;
    }

    if (written->revoked) {
        return 0;
    }

    if ((written->fields & NGX_HTTP_AGNTKEY_WRITTEN_SCOPES)
        && !ngx_http_agntkey_barrier_is(&elts[1]->str, &written->scopes))
    {
        return 0;
    }

    return !(written->fields & NGX_HTTP_AGNTKEY_WRITTEN_EXPIRES_AT)
           || ngx_http_agntkey_barrier_is(&elts[2]->str, &written->expires_at);
}


static ngx_uint_t
ngx_http_agntkey_barrier_is(ngx_str_t *a, ngx_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || ngx_memcmp(a->data, b->data, a->len) == 0);
}


static void
ngx_http_agntkey_barrier_registry_handler(void *data,
    ngx_http_agntkey_redis_e rc, ngx_http_agntkey_redis_reply_t *reply)
{
    u_char                       buf[128];
    ngx_str_t                    text;
    ngx_http_agntkey_barrier_t  *barrier = data;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, barrier->barriers->log, 0,
                   "agntkey barrier %uL: the registry, %d",
                   barrier->number, rc);

    if (rc != NGX_HTTP_AGNTKEY_REDIS_OK) {
        barrier->failed = 1;

    } else if (ngx_http_agntkey_barrier_registry(barrier, reply) != NGX_OK) {
        barrier->failed = 1;

        ngx_http_agntkey_redis_resp_describe(reply, buf, &text);

        ngx_log_error(NGX_LOG_ERR, barrier->barriers->log, 0,
                      "agntkey: Redis did not say which workers hold a lease: "
                      "%V", &text);
    }

    ngx_http_agntkey_redis_resp_free(reply);

    barrier->waiting--;

    ngx_http_agntkey_barrier_check(barrier);
}


/*
 * Now, until when to wait, replicas, the members of the registry, and whether
 * the mark was written.
 */

static ngx_int_t
ngx_http_agntkey_barrier_registry(ngx_http_agntkey_barrier_t *barrier,
    ngx_http_agntkey_redis_reply_t *reply)
{
    int64_t                           now, until;
    ngx_uint_t                        i, n;
    ngx_http_agntkey_redis_reply_t  **elts;

    elts = reply->elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 5
        || elts[0]->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        || elts[1]->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        || elts[2]->type != NGX_HTTP_AGNTKEY_RESP_INTEGER
        || elts[3]->type != NGX_HTTP_AGNTKEY_RESP_ARRAY)
    {
        return NGX_ERROR;
    }

    barrier->asked = ngx_http_agntkey_clock();

    n = elts[3]->nelts;

    if (n) {
        barrier->workers = ngx_calloc(
                                n * sizeof(ngx_http_agntkey_barrier_worker_t),
                                barrier->barriers->log);
        if (barrier->workers == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, barrier->barriers->log, 0,
                   "agntkey barrier %uL: %ui workers hold a lease",
                   barrier->number, n);

    barrier->known = 1;
    barrier->nworkers = n;
    barrier->receipt.workers = n;

    for (i = 0; i < n; i++) {
        ngx_http_agntkey_barrier_worker(barrier, &barrier->workers[i],
                                        &elts[3]->elts[i]->str);
    }

    for (i = 0; i < barrier->nearly; i++) {
        ngx_http_agntkey_barrier_acknowledge(barrier, barrier->early
                                       + i * NGX_HTTP_AGNTKEY_WORKER_LEN);
    }

    /*
     * Whatever the record says of its age: that is for people, and may be
     * missing, or by another clock.
     */

    now = elts[0]->integer;
    until = elts[1]->integer;

    if (now < until) {

        barrier->quarantine = barrier->asked + ngx_http_agntkey_clock_margin(
                  ngx_min(until - now,
                          ngx_http_agntkey_clock_margin(
                                          NGX_HTTP_AGNTKEY_LEASE_LONGEST)));

        ngx_log_error(NGX_LOG_NOTICE, barrier->barriers->log, 0,
                      "agntkey: the revocation of \"%V\" waits for a lease to "
                      "be over: Redis may not know of all of them",
                      &barrier->written.record);
    }

    if (elts[2]->integer > 0) {
        barrier->replicas = (ngx_uint_t) elts[2]->integer;
        barrier->wait_due = 1;
    }

    if (elts[4]->type == NGX_HTTP_AGNTKEY_RESP_INTEGER
        && elts[4]->integer == 1)
    {
        barrier->marked = 1;

        if (ngx_http_agntkey_barrier_may_sync(barrier)) {
            barrier->wait_due = 1;
        }
    }

    if (barrier->wait_due) {
        ngx_http_agntkey_barriers_wait(barrier->barriers);
    }

    return NGX_OK;
}


/* "<host>/<pid>/<worker>/<lease>"; anything else is no worker of ours */

static void
ngx_http_agntkey_barrier_worker(ngx_http_agntkey_barrier_t *barrier,
    ngx_http_agntkey_barrier_worker_t *worker, ngx_str_t *member)
{
    u_char     *p, *last;
    ngx_int_t   lease;

    worker->lease = ngx_http_agntkey_lease_length(barrier->barriers->lease);

    if (member->len == 0) {
        return;
    }

    last = member->data + member->len;

    for (p = last; p > member->data && p[-1] != '/'; p--) {
        /* void */
    }

    lease = ngx_atoi(p, last - p);

    if (lease <= 0 || p - member->data < NGX_HTTP_AGNTKEY_WORKER_LEN + 1) {
        return;
    }

    worker->lease = ngx_min(lease, NGX_HTTP_AGNTKEY_LEASE_LONGEST);
    ngx_memcpy(worker->id, p - 1 - NGX_HTTP_AGNTKEY_WORKER_LEN,
               NGX_HTTP_AGNTKEY_WORKER_LEN);
}


/*
 * How many replicas have it, now or very soon?  Is it on the disk?  Those who
 * come while a question is under way share the next one.
 */

static void
ngx_http_agntkey_barriers_wait(ngx_http_agntkey_barriers_t *barriers)
{
    ngx_uint_t                   n, due, sync;
    ngx_queue_t                 *q;
    ngx_http_agntkey_barrier_t  *barrier;

    if (ngx_http_agntkey_replicas_busy(barriers->replicas)) {
        return;
    }

    n = 0;
    due = 0;
    sync = 0;

    for (q = ngx_queue_head(&barriers->queue);
         q != ngx_queue_sentinel(&barriers->queue);
         q = ngx_queue_next(q))
    {
        barrier = ngx_queue_data(q, ngx_http_agntkey_barrier_t, queue);

        if (barrier->wait_due) {
            barrier->wait_due = 0;
            barrier->wait_sent = 1;
            due = 1;
            n = ngx_max(n, barrier->replicas);

            barrier->marked = ngx_http_agntkey_barrier_may_sync(barrier);
            sync |= barrier->marked;
        }
    }

    if (due) {
        ngx_http_agntkey_replicas_ask(barriers->replicas, n, sync);
    }
}


static ngx_uint_t
ngx_http_agntkey_barrier_may_sync(ngx_http_agntkey_barrier_t *barrier)
{
    return barrier->marked
           && ngx_http_agntkey_replicas_may_sync(barrier->barriers->replicas,
                                                 barrier->generation);
}


/* Whoever is told may be gone then, and have begun others, behind him. */

static void
ngx_http_agntkey_barriers_waited(void *data, ngx_uint_t replicas,
    ngx_int_t synced)
{
    ngx_queue_t                  *q;
    ngx_http_agntkey_barrier_t   *barrier;
    ngx_http_agntkey_barriers_t  *barriers = data;

again:

    for (q = ngx_queue_head(&barriers->queue);
         q != ngx_queue_sentinel(&barriers->queue);
         q = ngx_queue_next(q))
    {
        barrier = ngx_queue_data(q, ngx_http_agntkey_barrier_t, queue);

        if (barrier->wait_sent) {
            barrier->wait_sent = 0;
            barrier->receipt.replicas = replicas;
            barrier->receipt.synced = barrier->marked ? synced : NGX_DECLINED;

            ngx_http_agntkey_barrier_check(barrier);
            goto again;
        }
    }

    ngx_http_agntkey_barriers_wait(barriers);
}


static void
ngx_http_agntkey_barrier_acknowledge(ngx_http_agntkey_barrier_t *barrier,
    u_char *id)
{
    ngx_uint_t                          i;
    ngx_http_agntkey_barrier_worker_t  *worker;

    if (!barrier->known) {

        if (barrier->early == NULL) {
            barrier->early = ngx_alloc(NGX_HTTP_AGNTKEY_BARRIER_EARLY
                                       * NGX_HTTP_AGNTKEY_WORKER_LEN,
                                       barrier->barriers->log);
        }

        if (barrier->early
            && barrier->nearly < NGX_HTTP_AGNTKEY_BARRIER_EARLY)
        {
            ngx_memcpy(barrier->early
                       + barrier->nearly++ * NGX_HTTP_AGNTKEY_WORKER_LEN,
                       id, NGX_HTTP_AGNTKEY_WORKER_LEN);
        }

        return;
    }

    for (i = 0; i < barrier->nworkers; i++) {
        worker = &barrier->workers[i];

        if (!worker->acknowledged
            && ngx_memcmp(worker->id, id, NGX_HTTP_AGNTKEY_WORKER_LEN) == 0)
        {
            worker->acknowledged = 1;
            barrier->receipt.acknowledged++;

            ngx_http_agntkey_barrier_check(barrier);
            return;
        }
    }
}


static void
ngx_http_agntkey_barrier_timer_handler(ngx_event_t *ev)
{
    ngx_http_agntkey_barrier_t  *barrier = ev->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                   "agntkey barrier %uL: timer", barrier->number);

    ngx_http_agntkey_barrier_check(barrier);
}


/* Whatever has happened: is there anything left to wait for? */

static void
ngx_http_agntkey_barrier_check(ngx_http_agntkey_barrier_t *barrier)
{
    int64_t  left;

    if (barrier->waiting) {
        return;
    }

    if (barrier->over) {
        ngx_http_agntkey_barrier_free(barrier);
        return;
    }

    if (barrier->wait_due || barrier->wait_sent) {
        return;
    }

    if (barrier->failed) {
        ngx_http_agntkey_barrier_done(barrier, NGX_ERROR);
        return;
    }

    left = ngx_http_agntkey_barrier_deadline(barrier)
           - ngx_http_agntkey_clock();

    if (left > 0) {

        /* nginx would leave a timer where it is for a small difference */

        if (barrier->timer.timer_set) {
            ngx_del_timer(&barrier->timer);
        }

        ngx_add_timer(&barrier->timer, (ngx_msec_t) left);
        return;
    }

    ngx_http_agntkey_barrier_done(barrier, NGX_OK);
}


/* When the last lease is over, of those who have not answered. */

static int64_t
ngx_http_agntkey_barrier_deadline(ngx_http_agntkey_barrier_t *barrier)
{
    int64_t     deadline, end;
    ngx_uint_t  i;

    deadline = barrier->quarantine;

    for (i = 0; i < barrier->nworkers; i++) {

        if (barrier->workers[i].acknowledged) {
            continue;
        }

        end = barrier->asked
              + ngx_http_agntkey_clock_margin(barrier->workers[i].lease);

        deadline = ngx_max(deadline, end);
    }

    return deadline;
}


/* Which workers: their ids, as they stand in agntkey:workers. */

static void
ngx_http_agntkey_barrier_log_silent(ngx_http_agntkey_barrier_t *barrier)
{
    u_char                       ids[NGX_HTTP_AGNTKEY_BARRIER_SHOWN
                                     * (NGX_HTTP_AGNTKEY_WORKER_LEN + 1)];
    u_char                      *p;
    ngx_uint_t                   i, n;
    ngx_http_agntkey_receipt_t  *all;

    p = ids;
    n = 0;
    all = &barrier->receipt;

    for (i = 0; i < barrier->nworkers; i++) {

        if (!barrier->workers[i].acknowledged
            && n++ < NGX_HTTP_AGNTKEY_BARRIER_SHOWN)
        {
            *p++ = ' ';
            p = ngx_cpymem(p, barrier->workers[i].id,
                           NGX_HTTP_AGNTKEY_WORKER_LEN);
        }
    }

    ngx_log_error(NGX_LOG_WARN, barrier->barriers->log, 0,
                  "agntkey: %ui of %ui workers have not acknowledged the "
                  "revocation of \"%V\", and their leases are over:%*s%s",
                  all->workers - all->acknowledged, all->workers,
                  &barrier->written.record, (size_t) (p - ids), ids,
                  n > NGX_HTTP_AGNTKEY_BARRIER_SHOWN ? " ..." : "");
}


static void
ngx_http_agntkey_barrier_done(ngx_http_agntkey_barrier_t *barrier,
    ngx_int_t rc)
{
    void                                 *data;
    ngx_http_agntkey_receipt_t            receipt, *all;
    ngx_http_agntkey_barrier_handler_pt   handler;

    handler = barrier->handler;
    data = barrier->data;

    barrier->over = 1;
    barrier->handler = NULL;
    barrier->wait_due = 0;
    barrier->wait_sent = 0;

    all = &barrier->receipt;

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, barrier->barriers->log, 0,
                   "agntkey barrier %uL: done, %i, %ui of %ui workers",
                   barrier->number, rc, all->acknowledged, all->workers);

    if (all->workers && all->acknowledged == 0) {
        ngx_http_agntkey_lease_suspect(barrier->barriers->lease);
    }

    if (rc == NGX_OK && all->acknowledged < all->workers) {
        ngx_http_agntkey_barrier_log_silent(barrier);
    }

    receipt = *all;

    if (barrier->waiting == 0) {
        ngx_http_agntkey_barrier_free(barrier);

    } else if (barrier->timer.timer_set) {
        ngx_del_timer(&barrier->timer);
    }

    if (handler) {
        handler(data, rc, rc == NGX_OK ? &receipt : NULL);
    }
}


static void
ngx_http_agntkey_barrier_free(ngx_http_agntkey_barrier_t *barrier)
{
    ngx_queue_remove(&barrier->queue);

    if (barrier->timer.timer_set) {
        ngx_del_timer(&barrier->timer);
    }

    if (barrier->workers) {
        ngx_free(barrier->workers);
    }

    if (barrier->early) {
        ngx_free(barrier->early);
    }

    ngx_free(barrier);
}
