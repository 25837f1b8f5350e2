
/*
 * Copyright (C) the agntkey authors
 *
 * The stream of invalidations, and all that hangs on it: trust, what is
 * remembered, who is told that a revocation is done.  The connections are
 * made up here; what comes by them, and when, is the input.  An input is a
 * row of events, each up to a byte 0xff, and the first byte of each says what
 * happens:
 *
 *     S ...   the stream brings these bytes       U   who connects, does
 *     C ...   so does the one for commands        D   who connects, fails
 *     A ...   and that of administrators          l L a   one of them is lost
 *     I       Redis confirms what sets a stream up
 *     P       it names both canaries, and brings the message of the proof
 *     G g     it answers a command, an administrator's, as it should
 *     T n     time goes by                        E   the worker is to end
 *     F n, X n   a key is looked up; who asked has gone
 *     B, b n  a barrier begins; who asked has gone
 *     N       Redis refuses writes as if it were no primary, or no more so
 *
 * Beside it runs a model, which hears the same.  It says when there may be
 * trust at most, how old what is remembered may be, and whom a barrier must
 * not forget.  Where the bytes are cut must make no difference to anything.
 *
 * Files: replicas
 * Files: invalidation lease barrier_ack barrier lookup fetch cache record
 * Files: redis_resp token usage worker keyspace
 */


#include "fuzz.h"

#include <ngx_event.h>

#include "ngx_http_agntkey_clock.h"
#include "ngx_http_agntkey_invalidation.h"
#include "ngx_http_agntkey_worker.h"


#define FUZZ_LEASE     2000
#define FUZZ_LEASE_MAX 60000
#define FUZZ_QUEUE     64
#define FUZZ_LISTENERS NGX_HTTP_AGNTKEY_REDIS_CLIENT_LISTENERS
#define FUZZ_TIMERS    64
#define FUZZ_IDS       3
#define FUZZ_HOMES     2
#define FUZZ_ASKING    4

/* of short inputs all places to cut are tried, of long ones some */
#define FUZZ_SHORT     24
#define FUZZ_CUTS      6

/* the longest command there is: a script, and what comes with it */
#define FUZZ_COMMAND   4096
#define FUZZ_PUBLISH   160
#define FUZZ_ID        NGX_HTTP_AGNTKEY_WORKER_LEN

#define FUZZ_CHANNEL   "agntkey:worker:"


typedef struct {
    u_char       *data;
    size_t        len;
    size_t        size;
} fuzz_notes_t;


typedef struct {
    ngx_http_agntkey_redis_handler_pt   handler;
    void                               *data;
    ngx_uint_t                          argc;
    ngx_int_t                           id;         /* of the key, or -1 */
    ngx_int_t                           home;       /* so of a workspace */
    uint64_t                            version;    /* when it was sent */
} fuzz_command_t;


/* what stands for a connection, be it one by itself or that of a client */

typedef struct {
    ngx_http_agntkey_redis_resp_t              *resp;
    ngx_http_agntkey_redis_conn_handlers_t      handlers;
    void                                       *data;
    ngx_http_agntkey_redis_client_handlers_t    listeners[FUZZ_LISTENERS];
    void                                       *listeners_data[FUZZ_LISTENERS];
    ngx_uint_t                                  nlisteners;

    fuzz_command_t                              queue[FUZZ_QUEUE];
    ngx_uint_t                                  n;
    uint64_t                                    written;    /* bytes */

    ngx_uint_t                                  number;     /* of those made */
    unsigned                                    up:1;
    unsigned                                    connecting:1;
    unsigned                                    away:1;
    unsigned                                    ended:1;    /* so it was told */
} fuzz_link_t;


struct ngx_http_agntkey_redis_conn_s {
    fuzz_link_t                         link;
};


struct ngx_http_agntkey_redis_client_s {
    fuzz_link_t                         link;
};


typedef struct {
    u_char                              id[FUZZ_ID];
    int64_t                             lease;
    unsigned                            known:1;    /* what its id is */
} fuzz_member_t;


typedef struct {
    ngx_http_agntkey_barrier_t         *barrier;    /* NULL: none */
    uint64_t                            number;
    int64_t                             asked;
    fuzz_member_t                      *members;
    ngx_uint_t                          nmembers;
    u_char                             *acks;       /* ids, one by one */
    size_t                              nacks;
    unsigned                            inactive:1; /* so Redis has said */
    unsigned                            known:1;    /* the members are */
} fuzz_barrier_t;


/* what may be at most */

typedef struct {
    uint64_t        proof;                          /* under way; 0: none */
    int64_t         begun;
    int64_t         until;                          /* the end of the trust */
    ngx_uint_t      seen;                           /* canaries */
    uint64_t        version[FUZZ_IDS];              /* of what Redis has */
    uint64_t        homes[FUZZ_HOMES];
    uint64_t        read[FUZZ_IDS];                 /* of what was read */
    uint64_t        homes_read[FUZZ_HOMES];
    uint64_t        clock;                          /* of the versions */
    u_char          over[FUZZ_IDS];                 /* so it was read last */
    u_char          homes_over[FUZZ_HOMES];
} fuzz_model_t;


typedef struct {
    ngx_http_agntkey_waiter_t  waiter;
    ngx_uint_t                 id;
    uint64_t                   version;
    uint64_t                   homes[FUZZ_HOMES];
} fuzz_asking_t;


static void fuzz_run(const uint8_t *data, size_t len, size_t cut, size_t step,
    fuzz_notes_t *notes);
static void fuzz_start(ngx_uint_t entries);
static void fuzz_stop(void);
static void fuzz_event(const uint8_t *data, size_t len, size_t from,
    size_t cut, size_t step);
static void fuzz_time(int64_t ms);
static void fuzz_come_up(void);
static void fuzz_fail(void);
static void fuzz_worker_ends(void);

static void fuzz_bring(fuzz_link_t *link, const void *data, size_t len);
static void fuzz_bring_text(fuzz_link_t *link, const char *text);
static void fuzz_reply(fuzz_link_t *link,
    ngx_http_agntkey_redis_reply_t *reply);
static void fuzz_message(fuzz_link_t *link,
    ngx_http_agntkey_redis_reply_t *reply);
static void fuzz_down(fuzz_link_t *link);
static void fuzz_tell_up(fuzz_link_t *link);
static void fuzz_tell_down(fuzz_link_t *link, ngx_http_agntkey_redis_e rc);
static void fuzz_lose(fuzz_link_t *link, ngx_http_agntkey_redis_e rc);
static void fuzz_introduce(void);
static void fuzz_prove(void);
static void fuzz_answer(fuzz_link_t *link);

static void fuzz_model_sent(fuzz_link_t *link, fuzz_command_t *command,
    ngx_http_agntkey_redis_reply_t *argv);
static void fuzz_model_named(ngx_str_t *channel);
static void fuzz_model_answered(fuzz_command_t *command,
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t fuzz_model_over(ngx_http_agntkey_redis_reply_t *reply);
static void fuzz_model_message(ngx_http_agntkey_redis_reply_t *reply);
static void fuzz_model_letter(ngx_str_t *text);
static void fuzz_model_changed(ngx_http_agntkey_redis_reply_t *key);
static void fuzz_model_lost(void);
static void fuzz_hits(void);
static void fuzz_stale(ngx_uint_t i);

static void fuzz_find(ngx_uint_t n);
static void fuzz_found(void *data, ngx_int_t rc,
    ngx_http_agntkey_record_t *key, ngx_uint_t workspace_active);
static void fuzz_barrier_start(void);
static void fuzz_barrier_cancel(ngx_uint_t n);
static void fuzz_barrier_done(void *data, ngx_int_t rc,
    ngx_http_agntkey_receipt_t *receipt);
static void fuzz_barrier_answered(fuzz_command_t *command,
    ngx_http_agntkey_redis_reply_t *reply);
static void fuzz_barrier_member(fuzz_member_t *member,
    ngx_http_agntkey_redis_reply_t *reply);
static ngx_uint_t fuzz_barrier_acked(fuzz_barrier_t *b,
    fuzz_member_t *member);
static void fuzz_barrier_forget(fuzz_barrier_t *b);

static ngx_int_t fuzz_index(ngx_str_t *key, const char **names, ngx_uint_t n);
static ngx_uint_t fuzz_is(ngx_http_agntkey_redis_reply_t *reply,
    const char *text);
static uint64_t fuzz_digits(u_char *p, size_t len);
static void fuzz_note(const void *data, size_t len);
static void fuzz_number(int64_t n);

static fuzz_link_t *fuzz_link(size_t size);
static void fuzz_unlink(fuzz_link_t *link);
static void fuzz_send(fuzz_link_t *link, ngx_str_t *bytes,
    ngx_http_agntkey_redis_handler_pt handler, void *data);


/* of nginx, and of its time */

ngx_uint_t                   ngx_exiting;
ngx_pid_t                    ngx_pid = 1;
volatile ngx_msec_t          ngx_current_msec;
ngx_rbtree_t                 ngx_event_timer_rbtree;
volatile ngx_cycle_t        *ngx_cycle;

static ngx_cycle_t           fuzz_cycle;
static ngx_log_t             fuzz_log;
static ngx_rbtree_node_t    *fuzz_timers[FUZZ_TIMERS];
static ngx_uint_t            fuzz_ntimers;
static int64_t               fuzz_now;


static const char  *fuzz_ids[] = {
    "tag0aaaaaaaa", "tag0bbbbbbbb", "tag1aaaaaaaa"
};

static const char  *fuzz_keys[] = {
    "agntkey:key:{tag0}aaaaaaaa", "agntkey:key:{tag0}bbbbbbbb",
    "agntkey:key:{tag1}aaaaaaaa"
};

static const char  *fuzz_home_names[] = { "acme", "beta" };

static const char  *fuzz_home_keys[] = {
    "agntkey:workspace:{tag0}acme", "agntkey:workspace:{tag0}beta"
};

static ngx_uint_t    fuzz_fenced;

/* of the stream, as it has subscribed: no name may be used by two of them */
static uint64_t      fuzz_number_of_names;
static char          fuzz_worker[FUZZ_ID + 1];
static char          fuzz_canary_texts[2][64];
static const char   *fuzz_canaries[] = {
    fuzz_canary_texts[0], fuzz_canary_texts[1]
};


static ngx_http_agntkey_redis_conf_t  fuzz_server;
static ngx_http_agntkey_worker_t     *fuzz_own;

/* in the order in which they are made */
static fuzz_link_t                  *fuzz_links[3];
static ngx_uint_t                    fuzz_nlinks;

#define fuzz_commands   fuzz_links[0]
#define fuzz_stream     fuzz_links[1]
#define fuzz_admin      fuzz_links[2]

static fuzz_model_t                  fuzz_model;
static fuzz_asking_t                 fuzz_asking[FUZZ_ASKING];
static fuzz_barrier_t                fuzz_asked[FUZZ_ASKING];
static uint64_t                      fuzz_barrier_number;
static ngx_uint_t                    fuzz_sent;
static fuzz_notes_t                 *fuzz_notes;


/* Trust can be had, or the rest would prove nothing. */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static fuzz_notes_t  notes;
    static const char   *events = "U\xffI\xffP\xffG\xffG\xff" "F0\xffG\xffG";

    ngx_cycle = &fuzz_cycle;
    ngx_str_set(&fuzz_cycle.hostname, "host");

    fuzz_server.timeout = 100;
    fuzz_server.connect_timeout = 100;

    fuzz_notes = &notes;
    fuzz_start(4);

    for ( ;; ) {
        fuzz_event((const uint8_t *) events, strcspn(events, "\xff"), 0, 0, 0);
        events += strcspn(events, "\xff");

        if (*events++ == '\0') {
            break;
        }
    }

    fuzz_check(ngx_http_agntkey_lease_valid(fuzz_own->lease, fuzz_now));
    fuzz_check(fuzz_model.read[0] == fuzz_model.version[0]);
    fuzz_hits();
    fuzz_stop();

    return 0;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t               cut, stride;
    static fuzz_notes_t  whole, parts;

    fuzz_run(data, len, len, 0, &whole);

    stride = (len <= FUZZ_SHORT) ? 1 : len / FUZZ_CUTS;

    for (cut = 1; cut < len; cut += stride) {
        fuzz_run(data, len, cut, 0, &parts);
        fuzz_check(whole.len == parts.len
                   && memcmp(whole.data, parts.data, whole.len) == 0);
    }

    /* a byte at a time */

    fuzz_run(data, len, 0, 1, &parts);
    fuzz_check(whole.len == parts.len
               && memcmp(whole.data, parts.data, whole.len) == 0);

    return 0;
}


/* One cut, or pieces of so many bytes. */

static void
fuzz_run(const uint8_t *data, size_t len, size_t cut, size_t step,
    fuzz_notes_t *notes)
{
    size_t          from, n;
    const uint8_t  *p;

    notes->len = 0;
    fuzz_notes = notes;
    fuzz_number(len);

    /* the first byte: is anything remembered at all? */

    fuzz_start(len && data[0] == '0' ? 0 : 4);

    for (from = 0; from < len; from += n + 1) {
        p = memchr(data + from, 0xff, len - from);
        n = p ? (size_t) (p - data) - from : len - from;

        fuzz_event(data + from, n, from, cut, step);

        fuzz_hits();
        fuzz_number(ngx_http_agntkey_lease_valid(fuzz_own->lease, fuzz_now));
    }

    fuzz_stop();
}


static void
fuzz_start(ngx_uint_t entries)
{
    ngx_http_agntkey_lookup_conf_t  conf;

    srandom(1);

    ngx_exiting = 0;
    fuzz_now = 1000000;
    ngx_current_msec = fuzz_now;
    fuzz_nlinks = 0;
    memset(&fuzz_model, 0, sizeof(fuzz_model));
    fuzz_number_of_names = 0;
    fuzz_fenced = 0;
    fuzz_model_lost();

    conf.entries = entries;
    conf.negative = 2;
    conf.lease = FUZZ_LEASE;

    fuzz_own = ngx_http_agntkey_worker_create(&fuzz_server, &conf, 0, 1,
                                              &fuzz_log);
    fuzz_check(fuzz_own);

    ngx_http_agntkey_redis_client_connect(fuzz_own->admin);
}


/* What waits is told so; then nothing may be left. */

static void
fuzz_stop(void)
{
    ngx_uint_t  i;

    for (i = 0; i < 3; i++) {
        fuzz_links[i]->connecting = 1;
    }

    fuzz_fail();

    for (i = 0; i < FUZZ_ASKING; i++) {
        fuzz_check(fuzz_asking[i].waiter.flight == NULL);
    }

    ngx_http_agntkey_worker_destroy(fuzz_own);

    for (i = 0; i < FUZZ_ASKING; i++) {
        fuzz_barrier_forget(&fuzz_asked[i]);
    }

    fuzz_check(fuzz_ntimers == 0);
}


static void
fuzz_event(const uint8_t *data, size_t len, size_t from, size_t cut,
    size_t step)
{
    size_t          n;
    ngx_uint_t      arg, number;
    fuzz_link_t    *link;
    const uint8_t  *p, *last;

    if (len == 0) {
        return;
    }

    arg = (len > 1) ? data[1] : 0;
    link = NULL;

    switch (data[0]) {

    case 'S': link = fuzz_stream; break;
    case 'C': link = fuzz_commands; break;
    case 'A': link = fuzz_admin; break;

    case 'U': fuzz_come_up(); break;
    case 'D': fuzz_fail(); break;
    case 'l': fuzz_down(fuzz_stream); break;
    case 'L': fuzz_down(fuzz_commands); break;
    case 'a': fuzz_down(fuzz_admin); break;
    case 'I': fuzz_introduce(); break;
    case 'P': fuzz_prove(); break;
    case 'G': fuzz_answer(fuzz_commands); break;
    case 'g': fuzz_answer(fuzz_admin); break;
    case 'T': fuzz_time(1 + 16 * (int64_t) arg); break;
    case 'E': fuzz_worker_ends(); break;
    case 'F': fuzz_find(arg); break;

    case 'X':
        ngx_http_agntkey_lookup_cancel(&fuzz_asking[arg % FUZZ_ASKING].waiter);
        break;

    case 'N': fuzz_fenced = !fuzz_fenced; break;
    case 'B': fuzz_barrier_start(); break;
    case 'b': fuzz_barrier_cancel(arg); break;

    default: break;
    }

    if (link == NULL) {
        return;
    }

    /* in pieces, which end with the connection that they began on */

    number = link->number;
    p = data + 1;
    last = data + len;
    from++;

    while (p < last && link->up && link->number == number) {
        n = last - p;

        if (step) {
            n = ngx_min(n, step);

        } else if (from < cut && cut < from + n) {
            n = cut - from;
        }

        fuzz_bring(link, p, n);
        p += n;
        from += n;
    }
}


static void
fuzz_time(int64_t ms)
{
    ngx_uint_t    i, first;
    ngx_event_t  *ev;

    fuzz_now += ms;
    ngx_current_msec = fuzz_now;

    while (fuzz_ntimers) {
        first = 0;

        for (i = 1; i < fuzz_ntimers; i++) {
            if (fuzz_timers[i]->key < fuzz_timers[first]->key) {
                first = i;
            }
        }

        if ((int64_t) fuzz_timers[first]->key > fuzz_now) {
            break;
        }

        ev = (ngx_event_t *) ((u_char *) fuzz_timers[first]
                              - offsetof(ngx_event_t, timer));

        ngx_del_timer(ev);
        ev->handler(ev);
    }
}


static void
fuzz_come_up(void)
{
    ngx_uint_t    i;
    fuzz_link_t  *link;

    for (i = 0; i < 3; i++) {
        link = fuzz_links[i];

        if (!link->connecting) {
            continue;
        }

        link->connecting = 0;
        link->away = 0;
        link->up = 1;
        link->number++;
        link->resp = ngx_http_agntkey_redis_resp_create(
                      link == fuzz_stream ? 0 : NGX_HTTP_AGNTKEY_RESP_SKIP);
        fuzz_check(link->resp);

        fuzz_tell_up(link);
    }
}


static void
fuzz_fail(void)
{
    ngx_uint_t    i;
    fuzz_link_t  *link;

    for (i = 0; i < 3; i++) {
        link = fuzz_links[i];

        if (link->connecting) {
            link->connecting = 0;
            link->away = 1;
            fuzz_down(link);

            fuzz_tell_down(link, NGX_HTTP_AGNTKEY_REDIS_UNSENT);
        }
    }
}


static void
fuzz_worker_ends(void)
{
    ngx_uint_t    i;
    fuzz_link_t  *link;

    ngx_exiting = 1;
    link = fuzz_commands;

    if (!link->up || link->n) {
        return;
    }

    for (i = 0; i < link->nlisteners && !link->ended; i++) {
        if (link->listeners[i].exit) {
            link->listeners[i].exit(link->listeners_data[i]);
        }
    }

    link->ended = 1;

    /* nobody holds a lease that he has given back */

    fuzz_model.until = 0;
}


static void
fuzz_bring(fuzz_link_t *link, const void *data, size_t len)
{
    ngx_int_t                        rc;
    ngx_uint_t                       number;
    ngx_http_agntkey_redis_reply_t  *reply;

    number = link->number;

    rc = ngx_http_agntkey_redis_resp_feed(link->resp, (u_char *) data, len);

    while (rc == NGX_OK) {
        rc = ngx_http_agntkey_redis_resp_next(link->resp, &reply);

        if (rc == NGX_OK) {
            fuzz_reply(link, reply);

            if (!link->up || link->number != number) {
                return;
            }
        }
    }

    if (rc == NGX_ERROR) {
        fuzz_down(link);
    }
}


static void
fuzz_bring_text(fuzz_link_t *link, const char *text)
{
    if (link->up) {
        fuzz_bring(link, text, strlen(text));
    }
}


static void
fuzz_reply(fuzz_link_t *link, ngx_http_agntkey_redis_reply_t *reply)
{
    fuzz_command_t  command;

    if (link->n) {
        command = link->queue[0];
        link->n--;
        memmove(link->queue, link->queue + 1,
                link->n * sizeof(fuzz_command_t));

        fuzz_model_answered(&command, reply);

        if (link == fuzz_stream) {
            fuzz_check(link->handlers.reply(link->data, reply) == NULL);

        } else {
            command.handler(command.data, NGX_HTTP_AGNTKEY_REDIS_OK, reply);
        }

    } else if (link == fuzz_stream) {
        fuzz_message(link, reply);

    } else {
        ngx_http_agntkey_redis_resp_free(reply);
        fuzz_down(link);
    }
}


/* What one message may lead to is bounded by what it says. */

static void
fuzz_message(fuzz_link_t *link, ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_uint_t   most;
    const char  *cause;

    most = 1;

    if (reply->type == NGX_HTTP_AGNTKEY_RESP_ARRAY && reply->nelts == 3
        && reply->elts[2]->type == NGX_HTTP_AGNTKEY_RESP_ARRAY)
    {
        most += reply->elts[2]->nelts;
    }

    fuzz_model_message(reply);
    fuzz_sent = 0;

    cause = link->handlers.reply(link->data, reply);

    fuzz_check(fuzz_sent <= most);

    if (cause) {
        fuzz_down(link);
    }

    fuzz_hits();
}


static void
fuzz_down(fuzz_link_t *link)
{
    if (!link->up) {
        return;
    }

    link->up = 0;
    link->number++;
    ngx_http_agntkey_redis_resp_destroy(link->resp);
    link->resp = NULL;

    if (link != fuzz_admin) {
        fuzz_model_lost();
    }

    fuzz_tell_down(link, NGX_HTTP_AGNTKEY_REDIS_LOST);
}


static void
fuzz_tell_up(fuzz_link_t *link)
{
    ngx_uint_t  i;

    if (link == fuzz_stream) {
        link->handlers.up(link->data);
        return;
    }

    for (i = 0; i < link->nlisteners; i++) {
        if (link->listeners[i].up) {
            link->listeners[i].up(link->listeners_data[i]);
        }
    }
}


static void
fuzz_tell_down(fuzz_link_t *link, ngx_http_agntkey_redis_e rc)
{
    ngx_uint_t  i;

    if (link == fuzz_stream) {
        link->handlers.down(link->data, rc);
        fuzz_check(link->n == 0);
        return;
    }

    for (i = 0; i < link->nlisteners; i++) {
        if (link->listeners[i].down) {
            link->listeners[i].down(link->listeners_data[i]);
        }
    }

    fuzz_lose(link, rc);
}


/* Who is told may send again. */

static void
fuzz_lose(fuzz_link_t *link, ngx_http_agntkey_redis_e rc)
{
    ngx_uint_t      i, n;
    fuzz_command_t  queue[FUZZ_QUEUE];

    n = link->n;
    link->n = 0;
    memcpy(queue, link->queue, n * sizeof(fuzz_command_t));

    for (i = 0; i < n; i++) {
        queue[i].handler(queue[i].data, rc, NULL);
    }
}


static void
fuzz_introduce(void)
{
    char  text[128];

    if (fuzz_stream->n && fuzz_stream->queue[0].argc == 2) {
        fuzz_bring_text(fuzz_stream,
                        "*4\r\n$2\r\nid\r\n:7\r\n$4\r\nrole\r\n"
                        "$6\r\nmaster\r\n");
        fuzz_bring_text(fuzz_stream, "+OK\r\n");
    }

    snprintf(text, sizeof(text),
             "*3\r\n$9\r\nsubscribe\r\n"
             "$31\r\n" FUZZ_CHANNEL "%s\r\n:1\r\n", fuzz_worker);
    fuzz_bring_text(fuzz_stream, text);
    fuzz_bring_text(fuzz_stream,
                    "*3\r\n$9\r\nsubscribe\r\n"
                    "$20\r\n__redis__:invalidate\r\n:2\r\n");
    fuzz_bring_text(fuzz_stream,
                    "*3\r\n$9\r\nsubscribe\r\n"
                    "$15\r\nagntkey:barrier\r\n:3\r\n");
}


static void
fuzz_prove(void)
{
    char  text[256], proof[64];

    snprintf(text, sizeof(text),
             "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
             "*2\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n",
             strlen(fuzz_canaries[0]), fuzz_canaries[0],
             strlen(fuzz_canaries[1]), fuzz_canaries[1]);
    fuzz_bring_text(fuzz_stream, text);

    snprintf(proof, sizeof(proof), "proof %llu",
             (unsigned long long) fuzz_model.proof);
    snprintf(text, sizeof(text),
             "*3\r\n$7\r\nmessage\r\n$31\r\n" FUZZ_CHANNEL "%s\r\n"
             "$%zu\r\n%s\r\n", fuzz_worker, strlen(proof), proof);
    fuzz_bring_text(fuzz_stream, text);
}


/* The oldest command has the answer that a good Redis gives. */

static void
fuzz_answer(fuzz_link_t *link)
{
    char             text[512];
    fuzz_command_t  *command;

    if (!link->up || link->n == 0) {
        return;
    }

    command = &link->queue[0];

    if (command->id != -1) {
        fuzz_bring_text(link,
                        "*8\r\n$64\r\n"
                        "0123456789abcdef0123456789abcdef"
                        "0123456789abcdef0123456789abcdef\r\n"
                        "$1\r\n1\r\n$4\r\nacme\r\n$1\r\nn\r\n$4\r\nread\r\n"
                        "$1\r\n1\r\n$-1\r\n$-1\r\n");

    } else if (command->home != -1) {
        fuzz_bring_text(link, "$1\r\n1\r\n");

    } else if (link == fuzz_admin && command->argc == 5) {
        fuzz_bring_text(link, "*3\r\n$-1\r\n$-1\r\n$-1\r\n");

    } else if (link == fuzz_admin && command->argc == 8) {
        snprintf(text, sizeof(text),
                 "*5\r\n:%lld\r\n:0\r\n:1\r\n*2\r\n"
                 "$28\r\nhost/1/%s/2000\r\n"
                 "$28\r\nhost/2/00000000000000ff/3000\r\n"
                 ":1\r\n",
                 (long long) fuzz_now, fuzz_worker);
        fuzz_bring_text(link, text);

    } else if (link == fuzz_admin && command->argc == 4) {
        fuzz_bring_text(link, "*2\r\n:1\r\n:0\r\n");

    } else {
        fuzz_bring_text(link, ":1\r\n");
    }
}


static void
fuzz_model_sent(fuzz_link_t *link, fuzz_command_t *command,
    ngx_http_agntkey_redis_reply_t *argv)
{
    char        name[64];
    size_t      len;
    ngx_str_t  *text;

    command->id = -1;
    command->home = -1;

    if (link == fuzz_commands && fuzz_is(argv->elts[0], "HMGET")) {
        command->id = fuzz_index(&argv->elts[1]->str, fuzz_keys, FUZZ_IDS);
        fuzz_check(command->id != -1);
        command->version = fuzz_model.version[command->id];

    } else if (link == fuzz_commands && fuzz_is(argv->elts[0], "HGET")) {
        command->home = fuzz_index(&argv->elts[1]->str, fuzz_home_keys,
                                   FUZZ_HOMES);

        if (command->home != -1) {
            command->version = fuzz_model.homes[command->home];
        }

    } else if (link == fuzz_stream && fuzz_is(argv->elts[0], "SUBSCRIBE")) {
        fuzz_model_named(&argv->elts[1]->str);

    } else if (link == fuzz_commands && fuzz_is(argv->elts[0], "EVAL")) {

        if (argv->nelts == 5) {
            fuzz_check(fuzz_is(argv->elts[3], fuzz_canaries[0]));
            fuzz_check(fuzz_is(argv->elts[4], fuzz_canaries[1]));
            fuzz_model.seen = 0;
            fuzz_model.proof = 0;

        } else {
            fuzz_check(argv->nelts == 9);
            snprintf(name, sizeof(name), "host/1/%s/2000", fuzz_worker);
            fuzz_check(fuzz_is(argv->elts[5], name));
            snprintf(name, sizeof(name), FUZZ_CHANNEL "%s", fuzz_worker);
            fuzz_check(fuzz_is(argv->elts[7], name));
            text = &argv->elts[8]->str;
            fuzz_model.proof = fuzz_digits(text->data + 6, text->len - 6);
            fuzz_model.begun = fuzz_now;
            fuzz_check(fuzz_model.proof);
        }

    } else if (link == fuzz_admin && fuzz_is(argv->elts[0], "EVAL")) {
        text = &argv->elts[6]->str;
        len = sizeof(FUZZ_CHANNEL) + FUZZ_ID;
        fuzz_check(text->len > len);
        fuzz_check(memcmp(text->data, FUZZ_CHANNEL,
                          sizeof(FUZZ_CHANNEL) - 1) == 0);
        fuzz_check(text->data[len - 1] == ' ');
        fuzz_barrier_number = fuzz_digits(text->data + len, text->len - len);
        fuzz_check(fuzz_barrier_number);
    }
}


/*
 * A name that was used before may still be in commands that are under way on a
 * connection that was lost.
 */

static void
fuzz_model_named(ngx_str_t *channel)
{
    char      hex[FUZZ_ID + 1];
    size_t    len;
    uint64_t  number;

    len = sizeof(FUZZ_CHANNEL) - 1;
    fuzz_check(channel->len == len + FUZZ_ID);
    fuzz_check(memcmp(channel->data, FUZZ_CHANNEL, len) == 0);

    memcpy(hex, channel->data + len, FUZZ_ID);
    hex[FUZZ_ID] = '\0';

    number = strtoull(hex, NULL, 16);
    fuzz_check(number > fuzz_number_of_names);

    fuzz_number_of_names = number;
    memcpy(fuzz_worker, hex, sizeof(hex));
    snprintf(fuzz_canary_texts[0], 64, "agntkey:key:canary:%s", hex);
    snprintf(fuzz_canary_texts[1], 64, "agntkey:workspace:canary:%s", hex);
}


static void
fuzz_model_answered(fuzz_command_t *command,
    ngx_http_agntkey_redis_reply_t *reply)
{
    if (command->id != -1) {
        fuzz_model.read[command->id] = command->version;

        if (reply->type != NGX_HTTP_AGNTKEY_RESP_ERROR) {
            fuzz_model.over[command->id] = fuzz_model_over(reply);
        }
    }

    if (command->home != -1) {
        fuzz_model.homes_read[command->home] = command->version;

        if (reply->type != NGX_HTTP_AGNTKEY_RESP_ERROR) {
            fuzz_model.homes_over[command->home] = !fuzz_is(reply, "1");
        }
    }

    if (command->argc == 5 || command->argc == 8) {
        fuzz_barrier_answered(command, reply);
    }
}


/* Is it the record of no key, or of one that is not active? */

static ngx_uint_t
fuzz_model_over(ngx_http_agntkey_redis_reply_t *reply)
{
    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY
        || reply->nelts != NGX_HTTP_AGNTKEY_FIELDS)
    {
        return 1;
    }

    return !fuzz_is(reply->elts[NGX_HTTP_AGNTKEY_FIELD_ACTIVE], "1");
}


static void
fuzz_model_message(ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_uint_t                        i;
    ngx_http_agntkey_redis_reply_t  **elts;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY || reply->nelts != 3
        || !fuzz_is(reply->elts[0], "message"))
    {
        return;
    }

    elts = reply->elts;

    if (fuzz_is(elts[1], "__redis__:invalidate")) {

        if (elts[2]->type != NGX_HTTP_AGNTKEY_RESP_ARRAY) {
            fuzz_model_lost();
            return;
        }

        for (i = 0; i < elts[2]->nelts; i++) {
            fuzz_model_changed(elts[2]->elts[i]);
        }

    } else if (!fuzz_is(elts[1], "agntkey:barrier")
               && elts[2]->type == NGX_HTTP_AGNTKEY_RESP_STRING)
    {
        fuzz_model_letter(&elts[2]->str);
    }
}


static void
fuzz_model_letter(ngx_str_t *text)
{
    u_char          *p;
    uint64_t         number;
    ngx_uint_t       i;
    fuzz_barrier_t  *b;

    if (text->len > 6 && memcmp(text->data, "proof ", 6) == 0) {
        number = fuzz_digits(text->data + 6, text->len - 6);

        if (number && number == fuzz_model.proof && fuzz_model.seen == 3) {
            fuzz_model.proof = 0;
            fuzz_model.until = fuzz_model.begun + FUZZ_LEASE;
        }

        return;
    }

    if (text->len <= 4 + 1 + FUZZ_ID || memcmp(text->data, "ack ", 4) != 0) {
        return;
    }

    p = text->data + text->len - FUZZ_ID;

    if (p[-1] != ' ') {
        return;
    }

    number = fuzz_digits(text->data + 4, p - 1 - (text->data + 4));

    for (i = 0; i < FUZZ_ASKING; i++) {
        b = &fuzz_asked[i];

        if (b->barrier && b->number == number) {
            b->acks = realloc(b->acks, (b->nacks + 1) * FUZZ_ID);
            fuzz_check(b->acks);
            memcpy(b->acks + b->nacks++ * FUZZ_ID, p, FUZZ_ID);
        }
    }
}


static void
fuzz_model_changed(ngx_http_agntkey_redis_reply_t *key)
{
    ngx_int_t  n;

    if (key->type != NGX_HTTP_AGNTKEY_RESP_STRING) {
        fuzz_model_lost();
        return;
    }

    n = fuzz_index(&key->str, fuzz_canaries, 2);

    if (n != -1) {
        fuzz_model.seen |= 1 << n;
    }

    n = fuzz_index(&key->str, fuzz_keys, FUZZ_IDS);

    if (n != -1) {
        fuzz_model.version[n] = ++fuzz_model.clock;
    }

    n = fuzz_index(&key->str, fuzz_home_keys, FUZZ_HOMES);

    if (n != -1) {
        fuzz_model.homes[n] = ++fuzz_model.clock;
    }
}


/* Whatever was read, and whatever is proved by now, is worth nothing. */

static void
fuzz_model_lost(void)
{
    ngx_uint_t  i;

    fuzz_model.proof = 0;
    fuzz_model.until = 0;
    fuzz_model.clock++;

    for (i = 0; i < FUZZ_IDS; i++) {
        fuzz_model.version[i] = fuzz_model.clock;
    }

    for (i = 0; i < FUZZ_HOMES; i++) {
        fuzz_model.homes[i] = fuzz_model.clock;
    }
}


/* Nobody is let in by what may have changed. */

static void
fuzz_hits(void)
{
    ngx_int_t                  home;
    ngx_uint_t                 i;
    ngx_http_agntkey_entry_t  *entry;

    if (ngx_http_agntkey_lease_valid(fuzz_own->lease, fuzz_now)) {
        fuzz_check(fuzz_now < fuzz_model.until);
    }

    for (i = 0; i < FUZZ_IDS; i++) {
        entry = ngx_http_agntkey_lookup_cached(fuzz_own->lookup,
                                               (u_char *) fuzz_ids[i]);
        fuzz_number(entry != NULL);
        fuzz_stale(i);

        if (entry == NULL) {
            continue;
        }

        fuzz_check(fuzz_now < fuzz_model.until);
        fuzz_check(fuzz_model.read[i] == fuzz_model.version[i]);

        if (entry->workspace && memcmp(fuzz_ids[i], "tag0", 4) == 0) {
            home = fuzz_index(&entry->workspace->name, fuzz_home_names,
                              FUZZ_HOMES);

            fuzz_check(home == -1 || fuzz_model.homes_read[home]
                                     == fuzz_model.homes[home]);
        }

        ngx_http_agntkey_lookup_release(fuzz_own->lookup, entry);
    }
}


/* What was read to be over is not accepted, however long one may be. */

static void
fuzz_stale(ngx_uint_t i)
{
    ngx_int_t                  home;
    ngx_http_agntkey_entry_t  *entry;

    entry = ngx_http_agntkey_lookup_stale(fuzz_own->lookup,
                                          (u_char *) fuzz_ids[i],
                                          NGX_MAX_INT32_VALUE);
    fuzz_number(entry != NULL);

    if (entry == NULL) {
        return;
    }

    fuzz_check(!fuzz_model.over[i]);

    if (memcmp(fuzz_ids[i], "tag0", 4) == 0) {
        home = fuzz_index(&entry->workspace->name, fuzz_home_names,
                          FUZZ_HOMES);
        fuzz_check(home == -1 || !fuzz_model.homes_over[home]);
    }

    ngx_http_agntkey_lookup_release(fuzz_own->lookup, entry);
}


static void
fuzz_find(ngx_uint_t n)
{
    ngx_uint_t      i;
    fuzz_asking_t  *asking;

    for (i = 0; i < FUZZ_ASKING && fuzz_asking[i].waiter.flight; i++) {
        /* void */
    }

    if (i == FUZZ_ASKING) {
        return;
    }

    asking = &fuzz_asking[i];
    asking->id = n % FUZZ_IDS;
    asking->version = fuzz_model.version[asking->id];
    memcpy(asking->homes, fuzz_model.homes, sizeof(fuzz_model.homes));
    asking->waiter.handler = fuzz_found;
    asking->waiter.data = asking;

    fuzz_number(ngx_http_agntkey_lookup_find(fuzz_own->lookup,
                                             (u_char *) fuzz_ids[asking->id],
                                             &asking->waiter));
}


/* Nobody is told what was read before the last change he could know of. */

static void
fuzz_found(void *data, ngx_int_t rc, ngx_http_agntkey_record_t *key,
    ngx_uint_t workspace_active)
{
    ngx_int_t       home;
    fuzz_asking_t  *asking = data;

    fuzz_check((key != NULL) == (rc == NGX_OK));

    if (rc == NGX_OK || rc == NGX_DECLINED) {
        fuzz_check(!fuzz_fenced);
        fuzz_check(fuzz_model.read[asking->id] >= asking->version);
    }

    if (rc == NGX_OK && memcmp(fuzz_ids[asking->id], "tag0", 4) == 0) {
        home = fuzz_index(&key->workspace, fuzz_home_names, FUZZ_HOMES);

        fuzz_check(home == -1
                   || fuzz_model.homes_read[home] >= asking->homes[home]);
    }

    fuzz_number(rc);
    fuzz_number(rc == NGX_OK ? (int64_t) workspace_active + 2 * key->active
                             : 0);
}


static void
fuzz_barrier_start(void)
{
    ngx_uint_t                   i;
    fuzz_barrier_t              *b;
    ngx_http_agntkey_written_t   written;

    for (i = 0; i < FUZZ_ASKING && fuzz_asked[i].barrier; i++) {
        /* void */
    }

    if (i == FUZZ_ASKING) {
        return;
    }

    b = &fuzz_asked[i];
    fuzz_barrier_forget(b);

    memset(&written, 0, sizeof(written));
    written.record.data = (u_char *) fuzz_keys[0];
    written.record.len = strlen(fuzz_keys[0]);
    written.revoked = 1;

    b->barrier = ngx_http_agntkey_barrier_start(fuzz_own->barriers, &written,
                                                fuzz_barrier_done, b);
    b->number = fuzz_barrier_number;
}


static void
fuzz_barrier_cancel(ngx_uint_t n)
{
    fuzz_barrier_t  *b;

    b = &fuzz_asked[n % FUZZ_ASKING];

    if (b->barrier) {
        ngx_http_agntkey_barrier_cancel(b->barrier);
        fuzz_barrier_forget(b);
    }
}


static void
fuzz_barrier_answered(fuzz_command_t *command,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_uint_t                       i;
    fuzz_barrier_t                  *b;
    ngx_http_agntkey_redis_reply_t  *members;

    for (i = 0; i < FUZZ_ASKING; i++) {
        b = &fuzz_asked[i];

        if (b->barrier == NULL || (void *) b->barrier != command->data
            || reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY)
        {
            continue;
        }

        if (command->argc == 5) {
            b->inactive = reply->nelts == 3 && !fuzz_is(reply->elts[0], "1");
            continue;
        }

        if (reply->nelts != 5
            || reply->elts[3]->type != NGX_HTTP_AGNTKEY_RESP_ARRAY)
        {
            continue;
        }

        members = reply->elts[3];

        b->known = 1;
        b->asked = fuzz_now;
        b->members = calloc(members->nelts + 1, sizeof(fuzz_member_t));
        fuzz_check(b->members);

        for (b->nmembers = 0; b->nmembers < members->nelts; b->nmembers++) {
            fuzz_barrier_member(&b->members[b->nmembers],
                                members->elts[b->nmembers]);
        }
    }
}


/* "<host>/<pid>/<id>/<lease>" */

static void
fuzz_barrier_member(fuzz_member_t *member,
    ngx_http_agntkey_redis_reply_t *reply)
{
    u_char    *p;
    uint64_t   lease;

    member->lease = FUZZ_LEASE;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_STRING
        && reply->type != NGX_HTTP_AGNTKEY_RESP_STATUS)
    {
        return;
    }

    p = memrchr(reply->str.data, '/', reply->str.len);

    if (p == NULL || p - reply->str.data < FUZZ_ID) {
        return;
    }

    lease = fuzz_digits(p + 1, reply->str.data + reply->str.len - p - 1);

    if (lease) {
        member->lease = ngx_min(lease, FUZZ_LEASE_MAX);
        memcpy(member->id, p - FUZZ_ID, FUZZ_ID);
        member->known = 1;
    }
}


/* Who has not answered has no lease any more. */

static void
fuzz_barrier_done(void *data, ngx_int_t rc,
    ngx_http_agntkey_receipt_t *receipt)
{
    ngx_uint_t       i, n;
    fuzz_barrier_t  *b = data;

    fuzz_check(b->barrier);
    fuzz_check((receipt != NULL) == (rc == NGX_OK));

    fuzz_number(rc);

    if (rc == NGX_OK) {
        fuzz_check(b->inactive && b->known);
        fuzz_check(receipt->workers == b->nmembers);

        for (i = 0, n = 0; i < b->nmembers; i++) {
            if (fuzz_barrier_acked(b, &b->members[i])) {
                n++;

            } else {
                fuzz_check(fuzz_now >= b->asked + b->members[i].lease);
            }
        }

        fuzz_check(receipt->acknowledged <= n);

        fuzz_number(receipt->acknowledged);
        fuzz_number(receipt->replicas);
    }

    fuzz_barrier_forget(b);
}


static ngx_uint_t
fuzz_barrier_acked(fuzz_barrier_t *b, fuzz_member_t *member)
{
    ngx_uint_t  i;

    for (i = 0; i < b->nacks; i++) {
        if (member->known && memcmp(member->id, b->acks + i * FUZZ_ID,
                                    FUZZ_ID) == 0)
        {
            return 1;
        }
    }

    return 0;
}


static void
fuzz_barrier_forget(fuzz_barrier_t *b)
{
    free(b->members);
    free(b->acks);
    memset(b, 0, sizeof(fuzz_barrier_t));
}


static ngx_int_t
fuzz_index(ngx_str_t *key, const char **names, ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        if (key->len == strlen(names[i])
            && memcmp(key->data, names[i], key->len) == 0)
        {
            return i;
        }
    }

    return -1;
}


static ngx_uint_t
fuzz_is(ngx_http_agntkey_redis_reply_t *reply, const char *text)
{
    return reply->type == NGX_HTTP_AGNTKEY_RESP_STRING
           && fuzz_index(&reply->str, &text, 1) == 0;
}


/* 0 for all that is no number, or too large a one */

static uint64_t
fuzz_digits(u_char *p, size_t len)
{
    uint64_t  n;

    for (n = 0; len; len--, p++) {
        if (*p < '0' || *p > '9' || n > INT64_MAX / 10 - 1) {
            return 0;
        }

        n = n * 10 + (*p - '0');
    }

    return n;
}


static void
fuzz_note(const void *data, size_t len)
{
    fuzz_notes_t  *notes;

    notes = fuzz_notes;

    if (notes->len + len > notes->size) {
        notes->size = 2 * (notes->len + len);
        notes->data = realloc(notes->data, notes->size);
        fuzz_check(notes->data);
    }

    if (len) {
        memcpy(notes->data + notes->len, data, len);
        notes->len += len;
    }
}


static void
fuzz_number(int64_t n)
{
    fuzz_note(&n, sizeof(n));
}


/* what both kinds of connections have in common */

static fuzz_link_t *
fuzz_link(size_t size)
{
    fuzz_link_t  *link;

    fuzz_check(fuzz_nlinks < 3);

    link = calloc(1, size);
    fuzz_check(link);

    fuzz_links[fuzz_nlinks++] = link;

    return link;
}


static void
fuzz_unlink(fuzz_link_t *link)
{
    ngx_http_agntkey_redis_resp_destroy(link->resp);
    free(link);
}


static void
fuzz_send(fuzz_link_t *link, ngx_str_t *bytes,
    ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    fuzz_command_t                  *command;
    ngx_http_agntkey_redis_resp_t   *resp;
    ngx_http_agntkey_redis_reply_t  *argv;

    fuzz_sent++;
    fuzz_note(bytes->data, bytes->len);
    fuzz_check(bytes->len <= FUZZ_COMMAND);

    /* a command is written as a reply is: an array of strings */

    resp = ngx_http_agntkey_redis_resp_create(0);
    fuzz_check(resp);
    fuzz_check(ngx_http_agntkey_redis_resp_feed(resp, bytes->data, bytes->len)
               == NGX_OK);
    fuzz_check(ngx_http_agntkey_redis_resp_next(resp, &argv) == NGX_OK);
    fuzz_check(argv->type == NGX_HTTP_AGNTKEY_RESP_ARRAY && argv->nelts);
    fuzz_check(!fuzz_is(argv->elts[0], "PUBLISH")
               || bytes->len <= FUZZ_PUBLISH);

    command = &link->queue[link->n++];
    memset(command, 0, sizeof(fuzz_command_t));
    command->handler = handler;
    command->data = data;
    command->argc = argv->nelts;

    link->written += bytes->len;

    fuzz_model_sent(link, command, argv);

    ngx_http_agntkey_redis_resp_free(argv);
    ngx_http_agntkey_redis_resp_destroy(resp);
}


/* the connection, as its header has it; what is sent is written at once */

ngx_http_agntkey_redis_conn_t *
ngx_http_agntkey_redis_conn_create(ngx_http_agntkey_redis_conf_t *conf,
    ngx_http_agntkey_redis_conn_handlers_t *handlers, void *data, size_t skip,
    ngx_uint_t quiet, ngx_log_t *log)
{
    ngx_http_agntkey_redis_conn_t  *conn;

    fuzz_check(skip == 0 && quiet);

    conn = (ngx_http_agntkey_redis_conn_t *)
               fuzz_link(sizeof(ngx_http_agntkey_redis_conn_t));

    conn->link.handlers = *handlers;
    conn->link.data = data;

    return conn;
}


void
ngx_http_agntkey_redis_conn_destroy(ngx_http_agntkey_redis_conn_t *conn)
{
    fuzz_unlink(&conn->link);
}


void
ngx_http_agntkey_redis_conn_connect(ngx_http_agntkey_redis_conn_t *conn)
{
    conn->link.connecting = !conn->link.up;
}


void
ngx_http_agntkey_redis_conn_reset(ngx_http_agntkey_redis_conn_t *conn,
    const char *cause)
{
    fuzz_check(strlen(cause) > 0);
    fuzz_down(&conn->link);
}


ngx_uint_t
ngx_http_agntkey_redis_conn_ready(ngx_http_agntkey_redis_conn_t *conn)
{
    return conn->link.up;
}


ngx_int_t
ngx_http_agntkey_redis_conn_send(ngx_http_agntkey_redis_conn_t *conn,
    ngx_str_t *bytes)
{
    fuzz_check(conn->link.up && conn->link.n == 0);
    fuzz_send(&conn->link, bytes, NULL, NULL);

    return NGX_OK;
}


uint64_t
ngx_http_agntkey_redis_conn_written(ngx_http_agntkey_redis_conn_t *conn)
{
    return conn->link.written;
}


size_t
ngx_http_agntkey_redis_conn_unwritten(ngx_http_agntkey_redis_conn_t *conn)
{
    return 0;
}


void
ngx_http_agntkey_redis_conn_clear(ngx_http_agntkey_redis_conn_t *conn)
{
    fuzz_check(!conn->link.up);

    conn->link.n = 0;
    conn->link.written = 0;
}


void
ngx_http_agntkey_redis_conn_set_busy(ngx_http_agntkey_redis_conn_t *conn,
    ngx_uint_t busy)
{
    fuzz_check(!conn->link.up || busy == (conn->link.n != 0));
}


void
ngx_http_agntkey_redis_conn_settled(ngx_http_agntkey_redis_conn_t *conn)
{
    fuzz_check(conn->link.up);
}


ngx_int_t
ngx_http_agntkey_redis_conn_overdue(ngx_http_agntkey_redis_conn_t *conn)
{
    fuzz_check(conn->link.up && conn->link.n);
    fuzz_down(&conn->link);

    return NGX_OK;
}


/* the client, as its header has it, but for the deadlines of commands */

ngx_http_agntkey_redis_client_t *
ngx_http_agntkey_redis_client_create(ngx_http_agntkey_redis_conf_t *conf,
    ngx_log_t *log)
{
    return (ngx_http_agntkey_redis_client_t *)
               fuzz_link(sizeof(ngx_http_agntkey_redis_client_t));
}


void
ngx_http_agntkey_redis_client_destroy(ngx_http_agntkey_redis_client_t *client)
{
    fuzz_unlink(&client->link);
}


void
ngx_http_agntkey_redis_client_listen(ngx_http_agntkey_redis_client_t *client,
    ngx_http_agntkey_redis_client_handlers_t *handlers, void *data)
{
    fuzz_link_t  *link;

    link = &client->link;

    fuzz_check(link->nlisteners < FUZZ_LISTENERS);

    link->listeners[link->nlisteners] = *handlers;
    link->listeners_data[link->nlisteners++] = data;
}


void
ngx_http_agntkey_redis_client_connect(ngx_http_agntkey_redis_client_t *client)
{
    client->link.connecting = !client->link.up;
}


void
ngx_http_agntkey_redis_client_reset(ngx_http_agntkey_redis_client_t *client,
    const char *cause)
{
    fuzz_check(strlen(cause) > 0);
    fuzz_down(&client->link);
}


ngx_uint_t
ngx_http_agntkey_redis_client_ready(ngx_http_agntkey_redis_client_t *client)
{
    return client->link.up;
}


ngx_uint_t
ngx_http_agntkey_redis_client_unavailable(
    ngx_http_agntkey_redis_client_t *client)
{
    return client->link.away;
}


ngx_uint_t
ngx_http_agntkey_redis_client_generation(
    ngx_http_agntkey_redis_client_t *client)
{
    return client->link.number;
}


void
ngx_http_agntkey_redis_client_send_now(ngx_http_agntkey_redis_client_t *client,
    ngx_str_t *bytes)
{
    fuzz_note(bytes->data, bytes->len);
}


ngx_int_t
ngx_http_agntkey_redis_client_ask(ngx_http_agntkey_redis_client_t *client,
    ngx_str_t *bytes, ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    return ngx_http_agntkey_redis_client_send(client, bytes, handler, data);
}


static void
fuzz_drop(void *data, ngx_http_agntkey_redis_e rc,
    ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_http_agntkey_redis_resp_free(reply);
}


ngx_int_t
ngx_http_agntkey_redis_client_command(ngx_http_agntkey_redis_client_t *client,
    ngx_str_t *argv, ngx_uint_t argc,
    ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    if (ngx_http_agntkey_redis_resp_format(argv, argc, &bytes) != NGX_OK) {
        return NGX_DECLINED;
    }

    rc = ngx_http_agntkey_redis_client_send(client, &bytes,
                                            handler ? handler : fuzz_drop,
                                            data);

    ngx_http_agntkey_redis_resp_format_free(&bytes);

    return rc;
}


ngx_int_t
ngx_http_agntkey_redis_client_send(ngx_http_agntkey_redis_client_t *client,
    ngx_str_t *bytes, ngx_http_agntkey_redis_handler_pt handler, void *data)
{
    fuzz_link_t  *link;

    link = &client->link;

    if (link->away || link->n == FUZZ_QUEUE) {
        return NGX_DECLINED;
    }

    if (!link->up) {
        link->connecting = 1;
    }

    fuzz_send(link, bytes, handler, data);

    return NGX_OK;
}


/* in place of the fence */

ngx_http_agntkey_fence_t *
ngx_http_agntkey_fence_create(ngx_http_agntkey_redis_client_t *redis,
    ngx_log_t *log)
{
    return (ngx_http_agntkey_fence_t *) &fuzz_fenced;
}


void
ngx_http_agntkey_fence_destroy(ngx_http_agntkey_fence_t *fence)
{
}


ngx_int_t
ngx_http_agntkey_fence_ask(ngx_http_agntkey_fence_t *fence)
{
    return NGX_OK;
}


ngx_uint_t
ngx_http_agntkey_fence_open(ngx_http_agntkey_fence_t *fence)
{
    return !fuzz_fenced;
}


/* of other libraries, and of nginx */

int64_t
ngx_http_agntkey_clock(void)
{
    return fuzz_now;
}


int64_t
ngx_http_agntkey_clock_margin(int64_t ms)
{
    return ms + ms / 8 + 10;
}


int
RAND_bytes(unsigned char *buf, int num)
{
    int  i;

    for (i = 0; i < num; i++) {
        buf[i] = (unsigned char) (i + (i < num - 1));
    }

    return 1;
}


void
ngx_rbtree_insert(ngx_rbtree_t *tree, ngx_rbtree_node_t *node)
{
    fuzz_check(fuzz_ntimers < FUZZ_TIMERS);
    fuzz_timers[fuzz_ntimers++] = node;
}


void
ngx_rbtree_delete(ngx_rbtree_t *tree, ngx_rbtree_node_t *node)
{
    ngx_uint_t  i;

    for (i = 0; i < fuzz_ntimers && fuzz_timers[i] != node; i++) {
        /* void */
    }

    fuzz_check(i < fuzz_ntimers);
    fuzz_timers[i] = fuzz_timers[--fuzz_ntimers];
}


u_char *
ngx_hex_dump(u_char *dst, u_char *src, size_t len)
{
    static u_char  hex[] = "0123456789abcdef";

    while (len--) {
        *dst++ = hex[*src >> 4];
        *dst++ = hex[*src++ & 0xf];
    }

    return dst;
}


/* the log's level is 0, so that nobody writes to it */

void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
    fuzz_check(!"logged");
}
