
/*
 * Copyright (C) the agntkey authors
 *
 * Where the key is, and what a key is.  The input is lines: Authorization, the
 * query, Cookie, and X-Api-Key.  Nobody guesses the check of a key, so the
 * text is also tried with the check that it should have.
 *
 * Files: credentials token
 */


#include "fuzz.h"

#include "ngx_http_agntkey_credentials.h"
#include "ngx_http_agntkey_module.h"


#define FUZZ_SOURCES   3


static ngx_str_t fuzz_target(ngx_str_t *args, ngx_str_t *query);
static void fuzz_key(ngx_str_t *text);
static void fuzz_valid(ngx_str_t *text, ngx_str_t *id);


ngx_module_t  ngx_http_agntkey_access_module;
ngx_module_t  ngx_http_agntkey_module;
ngx_module_t  ngx_http_core_module;

static ngx_str_t                      prefix = ngx_string("agnt");

static ngx_http_agntkey_source_t      sources[FUZZ_SOURCES] = {
    { NGX_HTTP_AGNTKEY_FROM_ARG, 0, ngx_string("key") },
    { NGX_HTTP_AGNTKEY_FROM_COOKIE, 1, ngx_string("key") },
    { NGX_HTTP_AGNTKEY_FROM_HEADER, 2, ngx_string("x_api_key") }
};

static ngx_http_variable_value_t      variables[FUZZ_SOURCES];
static ngx_http_agntkey_main_conf_t   main_conf;
static ngx_http_agntkey_loc_conf_t    loc_conf;
static void                          *main_confs[] = { &main_conf };
static void                          *loc_confs[] = { &loc_conf };


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    ngx_str_t                   key, query, line[4], names[2];
    ngx_uint_t                  i, copy;
    ngx_array_t                 list;
    ngx_table_elt_t             headers[3];
    ngx_http_request_t          r;
    ngx_http_agntkey_reason_e   reason;

    fuzz_begin();

    for (i = 0; i < 4; i++) {
        line[i] = fuzz_field(&data, &len, '\n');
    }

    ngx_str_set(&names[0], "Cookie");
    ngx_str_set(&names[1], "X-Api-Key");

    memset(&r, 0, sizeof(ngx_http_request_t));
    memset(headers, 0, sizeof(headers));

    headers[0].value = line[0];
    r.headers_in.authorization = &headers[0];

    for (i = 0; i < 2; i++) {
        headers[i + 1].hash = 1;
        headers[i + 1].key = names[i];
        headers[i + 1].value = line[i + 2];
    }

    r.headers_in.headers.part.elts = &headers[1];
    r.headers_in.headers.part.nelts = 2;
    r.args = line[1];       /* which may have changed since, and is not read */
    r.unparsed_uri = fuzz_target(&line[1], &query);
    r.main_conf = main_confs;
    r.loc_conf = loc_confs;

    /* Authorization alone */

    main_conf.prefix = prefix;
    loc_conf.sources = NULL;

    fuzz_check(ngx_http_agntkey_credentials(&r, &key, &copy, &reason)
               == NGX_OK);
    fuzz_check(reason == NGX_HTTP_AGNTKEY_OK
               || reason == NGX_HTTP_AGNTKEY_MISSING);
    fuzz_check(copy == 0);

    if (reason == NGX_HTTP_AGNTKEY_OK) {
        fuzz_check(line[0].len > 6);
        fuzz_check(strncasecmp((char *) line[0].data, "bearer", 6) == 0);
        fuzz_check(fuzz_inside(&key, &line[0]));
        fuzz_key(&key);
    }

    /* three other places; of the last two, what nginx would show of them */

    for (i = 0; i < FUZZ_SOURCES; i++) {
        variables[i].valid = 1;
        variables[i].not_found = (line[i + 1].len == 0);
        variables[i].data = line[i + 1].data;
        variables[i].len = line[i + 1].len;
    }

    memset(&list, 0, sizeof(ngx_array_t));
    list.elts = sources;
    list.nelts = FUZZ_SOURCES;
    loc_conf.sources = &list;
    loc_conf.apart = 1;

    fuzz_check(ngx_http_agntkey_credentials(&r, &key, &copy, &reason)
               == NGX_OK);

    if (reason == NGX_HTTP_AGNTKEY_OK) {
        fuzz_check(fuzz_inside(&key, &query) || fuzz_inside(&key, &line[2])
                   || fuzz_inside(&key, &line[3]));
        fuzz_key(&key);
    }

    if (reason == NGX_HTTP_AGNTKEY_OK && fuzz_inside(&key, &query)) {
        fuzz_check(key.data - query.data >= 4);
        fuzz_check(strncasecmp((char *) key.data - 4, "key=", 4) == 0);
    }

    if (reason == NGX_HTTP_AGNTKEY_MISSING) {
        fuzz_check(line[2].len + line[3].len == 0);
    }

    fuzz_end();

    return 0;
}


/* The target of a request line with these arguments, up to a fragment. */

static ngx_str_t
fuzz_target(ngx_str_t *args, ngx_str_t *query)
{
    u_char     *p;
    ngx_str_t   target;

    target.len = args->len + 2;
    target.data = ngx_pnalloc(NULL, target.len);

    memcpy(target.data, "/?", 2);

    if (args->len) {
        memcpy(target.data + 2, args->data, args->len);
    }

    query->data = target.data + 2;
    p = args->len ? memchr(query->data, '#', args->len) : NULL;
    query->len = p ? (size_t) (p - query->data) : args->len;

    return target;
}


static void
fuzz_key(ngx_str_t *text)
{
    u_char                    *check;
    uint32_t                   crc;
    ngx_str_t                  id, whole;
    ngx_uint_t                 i;
    ngx_http_agntkey_token_e   rc;

    rc = ngx_http_agntkey_token_parse(&prefix, text, &id);

    if (rc == NGX_HTTP_AGNTKEY_TOKEN_OK) {
        fuzz_valid(text, &id);
        return;
    }

    if (rc != NGX_HTTP_AGNTKEY_TOKEN_CHECK) {
        return;
    }

    whole = fuzz_str(text->data, text->len);
    check = whole.data + whole.len - NGX_HTTP_AGNTKEY_CHECK_LEN;
    crc = ngx_crc32_long(whole.data, check - whole.data);

    for (i = NGX_HTTP_AGNTKEY_CHECK_LEN; i; i--) {
        check[i - 1] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                       "abcdefghijklmnopqrstuvwxyz"[crc % 62];
        crc /= 62;
    }

    fuzz_check(ngx_http_agntkey_token_parse(&prefix, &whole, &id)
               == NGX_HTTP_AGNTKEY_TOKEN_OK);
    fuzz_valid(&whole, &id);
}


/* A key is all alphanumeric behind its prefix, and no other is like it. */

static void
fuzz_valid(ngx_str_t *text, ngx_str_t *id)
{
    size_t     i;
    ngx_str_t  other, none;

    fuzz_check(text->len == prefix.len + 1 + NGX_HTTP_AGNTKEY_TAIL_LEN);
    fuzz_check(memcmp(text->data, "agnt_", 5) == 0);
    fuzz_check(id->data == text->data + 5);
    fuzz_check(id->len == NGX_HTTP_AGNTKEY_ID_LEN);

    for (i = 5; i < text->len; i++) {
        fuzz_check(isalnum(text->data[i]));
    }

    other = fuzz_str(text->data, text->len);

    for (i = 0; i < text->len; i++) {
        other.data[i] ^= 1;
        fuzz_check(ngx_http_agntkey_token_parse(&prefix, &other, &none)
                   != NGX_HTTP_AGNTKEY_TOKEN_OK);
        other.data[i] ^= 1;
    }

    other.len--;
    fuzz_check(ngx_http_agntkey_token_parse(&prefix, &other, &none)
               == NGX_HTTP_AGNTKEY_TOKEN_LENGTH);
}


/* of nginx: a variable, and what is of use to a configuration only */

ngx_http_variable_value_t *
ngx_http_get_flushed_variable(ngx_http_request_t *r, ngx_uint_t index)
{
    return &variables[index];
}


ngx_int_t
ngx_http_agntkey_value(ngx_http_request_t *r, ngx_http_complex_value_t *cv,
    ngx_uint_t keep, ngx_str_t *text)
{
    abort();
}


ngx_int_t
ngx_http_agntkey_value_variable(ngx_http_request_t *r, ngx_uint_t index,
    ngx_uint_t keep, ngx_http_variable_value_t *value)
{
    abort();
}


ngx_uint_t
ngx_http_script_variables_count(ngx_str_t *value)
{
    abort();
}


ngx_int_t
ngx_http_compile_complex_value(ngx_http_compile_complex_value_t *ccv)
{
    abort();
}


ngx_int_t
ngx_http_get_variable_index(ngx_conf_t *cf, ngx_str_t *name)
{
    abort();
}


ngx_array_t *
ngx_array_create(ngx_pool_t *p, ngx_uint_t n, size_t size)
{
    abort();
}


void *
ngx_array_push(ngx_array_t *a)
{
    abort();
}


void
ngx_conf_log_error(ngx_uint_t level, ngx_conf_t *cf, ngx_err_t err,
    const char *fmt, ...)
{
    abort();
}
