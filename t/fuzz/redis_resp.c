
/*
 * Copyright (C) the agntkey authors
 *
 * What Redis says, through to records.  Where the bytes are cut must make no
 * difference: the same replies, the same records, and the same end.
 *
 * Invalidations are replies too, and are parsed here as such; what is made of
 * them is the matter of the target "watch".
 *
 * Files: redis_resp record
 */


#include "fuzz.h"

#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_redis_resp.h"


/* of short inputs all places to cut are tried, of long ones some */
#define FUZZ_SHORT   96
#define FUZZ_CUTS    8


typedef struct {
    u_char       *data;
    size_t        len;
    size_t        size;
} fuzz_notes_t;


static void fuzz_run(const uint8_t *data, size_t len, size_t cut, size_t step,
    fuzz_notes_t *notes);
static ngx_int_t fuzz_feed(ngx_http_agntkey_redis_resp_t *resp,
    const uint8_t *data, size_t len, fuzz_notes_t *notes);
static void fuzz_reply(ngx_http_agntkey_redis_reply_t *reply,
    fuzz_notes_t *notes);
static void fuzz_record(ngx_http_agntkey_redis_reply_t *reply,
    fuzz_notes_t *notes);
static void fuzz_note(fuzz_notes_t *notes, const void *data, size_t len);
static void fuzz_number(fuzz_notes_t *notes, int64_t n);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t               cut, stride;
    static fuzz_notes_t  whole, parts;

    fuzz_begin();
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

    fuzz_end();

    return 0;
}


/* One cut, or pieces of so many bytes. */

static void
fuzz_run(const uint8_t *data, size_t len, size_t cut, size_t step,
    fuzz_notes_t *notes)
{
    size_t                          n;
    ngx_int_t                       rc;
    ngx_http_agntkey_redis_resp_t  *resp;

    notes->len = 0;

    resp = ngx_http_agntkey_redis_resp_create(NGX_HTTP_AGNTKEY_RESP_SKIP);
    fuzz_check(resp);

    rc = NGX_AGAIN;

    while (len && rc == NGX_AGAIN) {
        n = step ? ngx_min(step, len) : ngx_min(cut, len);
        cut = len;

        rc = fuzz_feed(resp, data, n, notes);
        data += n;
        len -= n;
    }

    fuzz_number(notes, rc);

    if (rc == NGX_ERROR) {
        fuzz_check(strlen(ngx_http_agntkey_redis_resp_error(resp)) > 0);
    }

    ngx_http_agntkey_redis_resp_destroy(resp);
}


static ngx_int_t
fuzz_feed(ngx_http_agntkey_redis_resp_t *resp, const uint8_t *data, size_t len,
    fuzz_notes_t *notes)
{
    ngx_int_t                        rc;
    ngx_http_agntkey_redis_reply_t  *reply;

    if (ngx_http_agntkey_redis_resp_feed(resp, (u_char *) data,
                                         len) != NGX_OK) {
        return NGX_ERROR;
    }

    for ( ;; ) {
        rc = ngx_http_agntkey_redis_resp_next(resp, &reply);

        if (rc != NGX_OK) {
            return rc;
        }

        fuzz_reply(reply, notes);
        fuzz_record(reply, notes);
        ngx_http_agntkey_redis_resp_free(reply);
    }
}


static void
fuzz_reply(ngx_http_agntkey_redis_reply_t *reply, fuzz_notes_t *notes)
{
    u_char      buf[128];
    ngx_str_t   text;
    ngx_uint_t  i;

    fuzz_number(notes, reply->type);
    fuzz_number(notes, reply->large);

    switch (reply->type) {

    case NGX_HTTP_AGNTKEY_RESP_ERROR:
        ngx_http_agntkey_redis_resp_error_text(reply, buf, &text);
        fuzz_check(text.len <= sizeof(buf));
        fuzz_check(text.len == 0
                   || memchr(text.data, '\n', text.len) == NULL);
        fuzz_note(notes, text.data, text.len);
        /* fall through */

    case NGX_HTTP_AGNTKEY_RESP_STRING:
    case NGX_HTTP_AGNTKEY_RESP_STATUS:
        fuzz_check(reply->str.len <= NGX_HTTP_AGNTKEY_RESP_BYTES);
        fuzz_note(notes, reply->str.data, reply->str.len);
        break;

    case NGX_HTTP_AGNTKEY_RESP_INTEGER:
        fuzz_number(notes, reply->integer);
        break;

    case NGX_HTTP_AGNTKEY_RESP_ARRAY:
        fuzz_check(reply->nelts <= NGX_HTTP_AGNTKEY_RESP_ELEMENTS);

        for (i = 0; i < reply->nelts; i++) {
            fuzz_check(reply->elts[i]);
            fuzz_reply(reply->elts[i], notes);
        }

        break;

    default:
        fuzz_check(reply->type == NGX_HTTP_AGNTKEY_RESP_NIL);
    }
}


/* The fields of a key, as the store hands them on. */

static void
fuzz_record(ngx_http_agntkey_redis_reply_t *reply, fuzz_notes_t *notes)
{
    ngx_int_t                  rc;
    ngx_str_t                  fields[NGX_HTTP_AGNTKEY_FIELDS];
    ngx_uint_t                 i, bad;
    ngx_http_agntkey_record_t  rec;

    if (reply->type != NGX_HTTP_AGNTKEY_RESP_ARRAY
        || reply->nelts != NGX_HTTP_AGNTKEY_FIELDS)
    {
        return;
    }

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {

        if (reply->elts[i]->type == NGX_HTTP_AGNTKEY_RESP_NIL) {
            ngx_str_null(&fields[i]);

        } else if (reply->elts[i]->type == NGX_HTTP_AGNTKEY_RESP_STRING) {
            fields[i] = fuzz_str(reply->elts[i]->str.data,
                                 reply->elts[i]->str.len);
        } else {
            return;
        }
    }

    bad = 0;
    rc = ngx_http_agntkey_record_parse(fields, &rec, &bad);

    fuzz_number(notes, rc);

    if (rc == NGX_ERROR) {
        fuzz_check(bad < NGX_HTTP_AGNTKEY_FIELDS);
        fuzz_number(notes, bad);
    }

    if (rc == NGX_OK) {
        fuzz_check(ngx_http_agntkey_record_workspace_valid(&rec.workspace));
        fuzz_check(ngx_http_agntkey_record_name_valid(&rec.name));

        /* only a "1" lets anybody in */

        fuzz_check(!rec.active
                   || (fields[NGX_HTTP_AGNTKEY_FIELD_ACTIVE].len == 1
                       && fields[NGX_HTTP_AGNTKEY_FIELD_ACTIVE].data[0]
                          == '1'));

        fuzz_note(notes, rec.digest, sizeof(rec.digest));
        fuzz_number(notes, rec.created_at);
        fuzz_number(notes, rec.expires_at);
        fuzz_number(notes, rec.revoked_at);
    }
}


static void
fuzz_note(fuzz_notes_t *notes, const void *data, size_t len)
{
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
fuzz_number(fuzz_notes_t *notes, int64_t n)
{
    fuzz_note(notes, &n, sizeof(n));
}
