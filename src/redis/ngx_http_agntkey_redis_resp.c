
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_redis_resp.h"

#include <hiredis/hiredis.h>


#define NGX_HTTP_AGNTKEY_RESP_ARGS   32

/* "$", a length and two line ends around a string */
#define NGX_HTTP_AGNTKEY_RESP_FRAME  32

/* the least bytes that an element takes */
#define NGX_HTTP_AGNTKEY_RESP_LEAST  4

/* a status or an error that is longer is given up, and never dropped */
#define NGX_HTTP_AGNTKEY_RESP_LINE                                            \
    (NGX_HTTP_AGNTKEY_RESP_BYTES + NGX_HTTP_AGNTKEY_RESP_FRAME)

/* no longer is what names a script, or a line of it, in an error */
#define NGX_HTTP_AGNTKEY_RESP_PLACE  64

#if (HIREDIS_MAJOR >= 1)
typedef size_t  ngx_http_agntkey_redis_resp_count_t;
#else
typedef int     ngx_http_agntkey_redis_resp_count_t;
#endif


struct ngx_http_agntkey_redis_resp_s {
    redisReader   *reader;

    /* what the reply being read holds so far */
    size_t         bytes;
    ngx_uint_t     elements;

    /*
     * large: it is beyond the bounds, and nothing more of it is kept
     * dropped: bytes of it that were not kept, and the most there may be
     * left: of a string that is not even handed to hiredis, and of its end
     * nil: which hiredis is given in place of that string
     */
    size_t         dropped;
    size_t         skip;
    size_t         left;

    char          *error;

    unsigned       large:1;
    unsigned       nil:1;
};


static ngx_int_t ngx_http_agntkey_redis_resp_whole(
    ngx_http_agntkey_redis_resp_t *resp, ngx_http_agntkey_redis_reply_t *got,
    ngx_http_agntkey_redis_reply_t **reply);
static ngx_uint_t ngx_http_agntkey_redis_resp_passes_by(
    ngx_http_agntkey_redis_resp_t *resp);
static size_t ngx_http_agntkey_redis_resp_pass_by(
    ngx_http_agntkey_redis_resp_t *resp, u_char *buf, size_t len);
static ngx_int_t ngx_http_agntkey_redis_resp_drop(
    ngx_http_agntkey_redis_resp_t *resp, size_t len);
static ngx_http_agntkey_redis_reply_t *ngx_http_agntkey_redis_resp_create_reply(
    const redisReadTask *task, ngx_http_agntkey_redis_resp_e type,
    size_t extra);
static void *ngx_http_agntkey_redis_resp_create_string(
    const redisReadTask *task, char *str, size_t len);
static void *ngx_http_agntkey_redis_resp_create_array(const redisReadTask *task,
    ngx_http_agntkey_redis_resp_count_t n);
static void *ngx_http_agntkey_redis_resp_create_integer(
    const redisReadTask *task, long long value);
static void *ngx_http_agntkey_redis_resp_create_nil(const redisReadTask *task);
static void ngx_http_agntkey_redis_resp_free_object(void *reply);
static ngx_uint_t ngx_http_agntkey_redis_resp_error_skip(u_char **pos,
    u_char *last, const char *start, const char *end);

#if (HIREDIS_MAJOR >= 1)
static void *ngx_http_agntkey_redis_resp_create_double(
    const redisReadTask *task, double value, char *str, size_t len);
static void *ngx_http_agntkey_redis_resp_create_bool(const redisReadTask *task,
    int value);
#endif


/* stands for all that is not kept; never written to, never freed */

static ngx_http_agntkey_redis_reply_t  ngx_http_agntkey_redis_resp_nothing;


static redisReplyObjectFunctions  ngx_http_agntkey_redis_resp_functions = {
    .createString = ngx_http_agntkey_redis_resp_create_string,
    .createArray = ngx_http_agntkey_redis_resp_create_array,
    .createInteger = ngx_http_agntkey_redis_resp_create_integer,
#if (HIREDIS_MAJOR >= 1)
    .createDouble = ngx_http_agntkey_redis_resp_create_double,
    .createBool = ngx_http_agntkey_redis_resp_create_bool,
#endif
    .createNil = ngx_http_agntkey_redis_resp_create_nil,
    .freeObject = ngx_http_agntkey_redis_resp_free_object
};


ngx_http_agntkey_redis_resp_t *
ngx_http_agntkey_redis_resp_create(size_t skip)
{
    ngx_http_agntkey_redis_resp_t  *resp;

    resp = calloc(1, sizeof(ngx_http_agntkey_redis_resp_t));
    if (resp == NULL) {
        return NULL;
    }

    resp->reader = redisReaderCreateWithFunctions(
                                       &ngx_http_agntkey_redis_resp_functions);
    if (resp->reader == NULL) {
        free(resp);
        return NULL;
    }

    resp->reader->privdata = resp;
    resp->skip = skip;

    return resp;
}


void
ngx_http_agntkey_redis_resp_destroy(ngx_http_agntkey_redis_resp_t *resp)
{
    if (resp) {
        redisReaderFree(resp->reader);
        free(resp);
    }
}


ngx_int_t
ngx_http_agntkey_redis_resp_feed(ngx_http_agntkey_redis_resp_t *resp,
    u_char *buf, size_t len)
{
    size_t  n;

    if (resp->error) {
        return NGX_ERROR;
    }

    if (resp->left) {
        n = ngx_http_agntkey_redis_resp_pass_by(resp, buf, len);

        if (resp->left || resp->error) {
            return NGX_OK;
        }

        if (redisReaderFeed(resp->reader, "-1" CRLF, 4) != REDIS_OK) {
            return NGX_ERROR;
        }

        resp->nil = 1;
        buf += n;
        len -= n;
    }

    if (redisReaderFeed(resp->reader, (char *) buf, len) != REDIS_OK) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_redis_resp_next(ngx_http_agntkey_redis_resp_t *resp,
    ngx_http_agntkey_redis_reply_t **reply)
{
    void         *p;
    redisReader  *reader;

    reader = resp->reader;

    if (resp->error) {
        return NGX_ERROR;
    }

    if (resp->left) {
        return NGX_AGAIN;
    }

    if (redisReaderGetReply(reader, &p) != REDIS_OK) {
        return NGX_ERROR;
    }

    if (p) {
        return ngx_http_agntkey_redis_resp_whole(resp, p, reply);
    }

    /* one string that never ends is not seen by the functions below */

    if (ngx_http_agntkey_redis_resp_passes_by(resp)) {
        return resp->error ? NGX_ERROR : NGX_AGAIN;
    }

    if (reader->len - reader->pos > NGX_HTTP_AGNTKEY_RESP_LINE) {
        resp->error = "reply too long";
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


/* The next reply begins with nothing of this one. */

static ngx_int_t
ngx_http_agntkey_redis_resp_whole(ngx_http_agntkey_redis_resp_t *resp,
    ngx_http_agntkey_redis_reply_t *got, ngx_http_agntkey_redis_reply_t **reply)
{
    ngx_uint_t  large;

    static u_char  text[] = "reply too large";

    large = resp->large;

    resp->bytes = 0;
    resp->elements = 0;
    resp->dropped = 0;
    resp->large = 0;

    if (large) {
        ngx_http_agntkey_redis_resp_free(got);

        got = calloc(1, sizeof(ngx_http_agntkey_redis_reply_t));
        if (got == NULL) {
            resp->error = "no memory for a reply";
            return NGX_ERROR;
        }

        got->type = NGX_HTTP_AGNTKEY_RESP_ERROR;
        got->str.data = text;
        got->str.len = sizeof(text) - 1;
        got->large = 1;
    }

    *reply = got;

    return NGX_OK;
}


/*
 * hiredis gathers a string until it is whole, however long it is going to be.
 * Of all that it has read and cannot go on with, only such a string begins
 * with a line that is whole: its length.  What is there is taken from hiredis.
 */

static ngx_uint_t
ngx_http_agntkey_redis_resp_passes_by(ngx_http_agntkey_redis_resp_t *resp)
{
    char         *p;
    size_t        n, len, digits;
    redisReader  *reader;

    reader = resp->reader;

    p = reader->buf + reader->pos;
    n = reader->len - reader->pos;

    for (digits = 0; digits < n && digits < NGX_SIZE_T_LEN; digits++) {
        if (p[digits] < '0' || p[digits] > '9') {
            break;
        }
    }

    if (digits == 0 || digits + 2 > n || p[digits] != CR
        || p[digits + 1] != LF)
    {
        return 0;
    }

    len = ngx_min((size_t) ngx_atoof((u_char *) p, digits),
                  NGX_MAX_SIZE_T_VALUE - 2);

    if (!resp->large && len < NGX_HTTP_AGNTKEY_RESP_BYTES - resp->bytes) {
        return 0;
    }

    if (ngx_http_agntkey_redis_resp_drop(resp, len + 1) != NGX_OK) {
        return 1;
    }

    n -= digits + 2;

    if (n == len + 1 && p[digits + 2 + len] != CR) {
        resp->error = "text without its end";
        return 1;
    }

    resp->left = len + 2 - n;
    reader->pos = reader->len;

    return 1;
}


/* Returns how many of the bytes belong to that string and its end. */

static size_t
ngx_http_agntkey_redis_resp_pass_by(ngx_http_agntkey_redis_resp_t *resp,
    u_char *buf, size_t len)
{
    size_t  i, n;

    n = ngx_min(len, resp->left);

    for (i = (resp->left > 2) ? ngx_min(n, resp->left - 2) : 0; i < n; i++) {
        if (buf[i] != (resp->left - i == 2 ? CR : LF)) {
            resp->error = "text without its end";
        }
    }

    resp->left -= n;

    return n;
}


/*
 * Counts what is not kept in a way that does not depend on how the bytes come.
 * Returns NGX_OK, or NGX_ERROR when it is too much.
 */

static ngx_int_t
ngx_http_agntkey_redis_resp_drop(ngx_http_agntkey_redis_resp_t *resp,
    size_t len)
{
    resp->large = 1;

    if (resp->nil) {
        resp->nil = 0;
        return NGX_OK;
    }

    if (len > resp->skip
        || resp->dropped + len + NGX_HTTP_AGNTKEY_RESP_LEAST > resp->skip)
    {
        resp->error = "reply too large";
        return NGX_ERROR;
    }

    resp->dropped += len + NGX_HTTP_AGNTKEY_RESP_LEAST;

    return NGX_OK;
}


char *
ngx_http_agntkey_redis_resp_error(ngx_http_agntkey_redis_resp_t *resp)
{
    return resp->error ? resp->error : resp->reader->errstr;
}


void
ngx_http_agntkey_redis_resp_free(ngx_http_agntkey_redis_reply_t *reply)
{
    ngx_uint_t  i;

    if (reply == NULL || reply == &ngx_http_agntkey_redis_resp_nothing) {
        return;
    }

    for (i = 0; i < reply->nelts; i++) {
        ngx_http_agntkey_redis_resp_free(reply->elts[i]);
    }

    free(reply);
}


ngx_int_t
ngx_http_agntkey_redis_resp_format(ngx_str_t *argv, ngx_uint_t argc,
    ngx_str_t *cmd)
{
    int          len;
    char        *p;
    size_t       lens[NGX_HTTP_AGNTKEY_RESP_ARGS];
    ngx_uint_t   i;
    const char  *args[NGX_HTTP_AGNTKEY_RESP_ARGS];

    if (argc > NGX_HTTP_AGNTKEY_RESP_ARGS) {
        return NGX_ERROR;
    }

    for (i = 0; i < argc; i++) {
        args[i] = (char *) argv[i].data;
        lens[i] = argv[i].len;
    }

    p = NULL;
    len = redisFormatCommandArgv(&p, (int) argc, args, lens);

    if (len < 0 || p == NULL) {
        return NGX_ERROR;
    }

    cmd->data = (u_char *) p;
    cmd->len = len;

    return NGX_OK;
}


void
ngx_http_agntkey_redis_resp_format_free(ngx_str_t *cmd)
{
    redisFreeCommand((char *) cmd->data);
    cmd->data = NULL;
    cmd->len = 0;
}


ngx_http_agntkey_redis_reply_t *
ngx_http_agntkey_redis_resp_field(ngx_http_agntkey_redis_reply_t *reply,
    const char *name)
{
    size_t       len;
    ngx_str_t   *text;
    ngx_uint_t   i;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY) {
        return NULL;
    }

    len = ngx_strlen(name);

    for (i = 0; i + 1 < reply->nelts; i += 2) {
        text = &reply->elts[i]->str;

        if (reply->elts[i]->type == NGX_HTTP_AGNTKEY_RESP_STRING
            && text->len == len
            && ngx_memcmp(text->data, name, len) == 0)
        {
            return reply->elts[i + 1];
        }
    }

    return NULL;
}


/*
 * Before version 7 an error inside a script stands behind who ran it and
 * where, which is longer than what is shown:
 *
 *     ERR Error running script (call to f_<sha1>): @user_script:1:
 *     @user_script: 1: -OOM command not allowed ...
 *
 * From 7.0 on that is "OOM command not allowed ...", so here it is, too.
 */

void
ngx_http_agntkey_redis_resp_error_text(ngx_http_agntkey_redis_reply_t *reply,
    u_char *buf, ngx_str_t *text)
{
    size_t   len;
    u_char  *p, *last;

    p = reply->str.data;
    last = p + reply->str.len;

    text->data = buf;

    if (ngx_http_agntkey_redis_resp_error_skip(&p, last,
                                               "ERR Error running script (",
                                               "): "))
    {
        while (ngx_http_agntkey_redis_resp_error_skip(&p, last,
                                                      "@user_script:", ": "))
        {
            /* void */
        }

        if (p < last && *p == '-') {
            p++;
        }

        /* an error code, as "OOM", or the words of an error without one */

        if (last - p < 2 || p[0] < 'A' || p[0] > 'Z' || p[1] < 'A'
            || p[1] > 'Z')
        {
            buf = ngx_cpymem(buf, "ERR ", 4);
        }
    }

    len = ngx_min(last - p, 100);

    last = ngx_strnstr(p, ", with args", len);
    if (last) {
        len = last - p;
    }

    for ( /* void */ ; len; len--, p++) {
        *buf++ = (*p < ' ' || *p >= 0x7f) ? '?' : *p;
    }

    text->len = buf - text->data;
}


void
ngx_http_agntkey_redis_resp_describe(ngx_http_agntkey_redis_reply_t *reply,
    u_char *buf, ngx_str_t *text)
{
    if (reply->type == NGX_HTTP_AGNTKEY_RESP_ERROR) {
        ngx_http_agntkey_redis_resp_error_text(reply, buf, text);

    } else {
        ngx_str_set(text, "a reply of the wrong shape");
    }
}


/* Returns 1 and *pos behind what ends with end, if it begins with start. */

static ngx_uint_t
ngx_http_agntkey_redis_resp_error_skip(u_char **pos, u_char *last,
    const char *start, const char *end)
{
    size_t   len;
    u_char  *p;

    len = ngx_strlen(start);

    if ((size_t) (last - *pos) < len || ngx_memcmp(*pos, start, len) != 0) {
        return 0;
    }

    p = *pos + len;

    /* "@user_script: 1: " has a space that ends nothing */

    if (p < last && *p == ' ') {
        p++;
    }

    p = ngx_strnstr(p, (char *) end,
                    ngx_min(last - p, NGX_HTTP_AGNTKEY_RESP_PLACE));
    if (p == NULL) {
        return 0;
    }

    *pos = p + ngx_strlen(end);

    return 1;
}


/*
 * Everything hiredis wants created passes here: the bounds are kept, and the
 * new reply takes its place in the array it belongs to.  What is beyond them is
 * read like the rest, and not kept.  NULL makes hiredis give up on the
 * connection.
 */

static ngx_http_agntkey_redis_reply_t *
ngx_http_agntkey_redis_resp_create_reply(const redisReadTask *task,
    ngx_http_agntkey_redis_resp_e type, size_t extra)
{
    ngx_http_agntkey_redis_resp_t   *resp;
    ngx_http_agntkey_redis_reply_t  *reply, *parent;

    resp = task->privdata;

    if (resp->large
        || extra > NGX_HTTP_AGNTKEY_RESP_BYTES - resp->bytes
        || resp->elements == NGX_HTTP_AGNTKEY_RESP_ELEMENTS)
    {
        return (ngx_http_agntkey_redis_resp_drop(resp, extra) == NGX_OK)
               ? &ngx_http_agntkey_redis_resp_nothing : NULL;
    }

    resp->bytes += extra;
    resp->elements++;

    reply = calloc(1, sizeof(ngx_http_agntkey_redis_reply_t) + extra);
    if (reply == NULL) {
        resp->error = "no memory for a reply";
        return NULL;
    }

    reply->type = type;

    if (task->parent) {
        parent = task->parent->obj;
        parent->elts[task->idx] = reply;
    }

    return reply;
}


static void *
ngx_http_agntkey_redis_resp_create_string(const redisReadTask *task, char *str,
    size_t len)
{
    ngx_http_agntkey_redis_resp_t   *resp;
    ngx_http_agntkey_redis_reply_t  *reply;
    ngx_http_agntkey_redis_resp_e    type;

    resp = task->privdata;

    switch (task->type) {

    case REDIS_REPLY_STRING:
        type = NGX_HTTP_AGNTKEY_RESP_STRING;
        break;

    case REDIS_REPLY_STATUS:
        type = NGX_HTTP_AGNTKEY_RESP_STATUS;
        break;

    case REDIS_REPLY_ERROR:
        type = NGX_HTTP_AGNTKEY_RESP_ERROR;
        break;

    default:
        resp->error = "not RESP2";
        return NULL;
    }

    /* hiredis has the two bytes behind the text, and does not look at them */

    if (str[len] != CR || str[len + 1] != LF) {
        resp->error = "text without its end";
        return NULL;
    }

    if (type != NGX_HTTP_AGNTKEY_RESP_STRING
        && len >= NGX_HTTP_AGNTKEY_RESP_LINE)
    {
        resp->error = "reply too long";
        return NULL;
    }

    reply = ngx_http_agntkey_redis_resp_create_reply(task, type, len + 1);
    if (reply == NULL || reply == &ngx_http_agntkey_redis_resp_nothing) {
        return reply;
    }

    reply->str.data = (u_char *) (reply + 1);
    reply->str.len = len;
    ngx_memcpy(reply->str.data, str, len);

    return reply;
}


static void *
ngx_http_agntkey_redis_resp_create_array(const redisReadTask *task,
    ngx_http_agntkey_redis_resp_count_t n)
{
    size_t                           count;
    ngx_http_agntkey_redis_resp_t   *resp;
    ngx_http_agntkey_redis_reply_t  *reply;

    resp = task->privdata;

    if (task->type != REDIS_REPLY_ARRAY) {
        resp->error = "not RESP2";
        return NULL;
    }

    count = (size_t) n;

    /* nothing is taken for what is only announced, or could not be dropped */

    if (count > NGX_HTTP_AGNTKEY_RESP_ELEMENTS) {

        if (count > resp->skip / NGX_HTTP_AGNTKEY_RESP_LEAST) {
            resp->error = "reply too large";
            return NULL;
        }

        resp->large = 1;
    }

    reply = ngx_http_agntkey_redis_resp_create_reply(task,
                NGX_HTTP_AGNTKEY_RESP_ARRAY,
                resp->large ? 0
                            : count * sizeof(ngx_http_agntkey_redis_reply_t *));
    if (reply == NULL || reply == &ngx_http_agntkey_redis_resp_nothing) {
        return reply;
    }

    reply->nelts = count;
    reply->elts = (ngx_http_agntkey_redis_reply_t **) (reply + 1);

    return reply;
}


static void *
ngx_http_agntkey_redis_resp_create_integer(const redisReadTask *task,
    long long value)
{
    ngx_http_agntkey_redis_reply_t  *reply;

    reply = ngx_http_agntkey_redis_resp_create_reply(task,
                                          NGX_HTTP_AGNTKEY_RESP_INTEGER, 0);
    if (reply && reply != &ngx_http_agntkey_redis_resp_nothing) {
        reply->integer = value;
    }

    return reply;
}


static void *
ngx_http_agntkey_redis_resp_create_nil(const redisReadTask *task)
{
    ngx_http_agntkey_redis_resp_t  *resp;

    /* "_" of RESP3; in RESP2 a string or an array is nil */

    if (task->type != REDIS_REPLY_STRING && task->type != REDIS_REPLY_ARRAY) {
        resp = task->privdata;
        resp->error = "not RESP2";
        return NULL;
    }

    return ngx_http_agntkey_redis_resp_create_reply(task,
                                                    NGX_HTTP_AGNTKEY_RESP_NIL,
                                                    0);
}


static void
ngx_http_agntkey_redis_resp_free_object(void *reply)
{
    ngx_http_agntkey_redis_resp_free(reply);
}


#if (HIREDIS_MAJOR >= 1)

/* RESP3 was not asked for, and without these hiredis hands out no pointers */

static void *
ngx_http_agntkey_redis_resp_create_double(const redisReadTask *task,
    double value, char *str, size_t len)
{
    ngx_http_agntkey_redis_resp_t  *resp;

    resp = task->privdata;
    resp->error = "not RESP2";

    return NULL;
}


static void *
ngx_http_agntkey_redis_resp_create_bool(const redisReadTask *task, int value)
{
    ngx_http_agntkey_redis_resp_t  *resp;

    resp = task->privdata;
    resp->error = "not RESP2";

    return NULL;
}

#endif
