
/*
 * Copyright (C) the agntkey authors
 *
 * Pools, and what else of nginx the targets want beyond t/unit/shim.c.
 */


#include "fuzz.h"


typedef struct fuzz_memory_s  fuzz_memory_t;

struct fuzz_memory_s {
    void           *data;
    fuzz_memory_t  *next;
};


static ngx_pool_t      fuzz_pool;
static fuzz_memory_t  *fuzz_memory;


ngx_pool_t *
fuzz_begin(void)
{
    fuzz_end();

    return &fuzz_pool;
}


void
fuzz_end(void)
{
    fuzz_memory_t  *m;

    while (fuzz_memory) {
        m = fuzz_memory;
        fuzz_memory = m->next;
        free(m->data);
        free(m);
    }
}


ngx_str_t
fuzz_str(const void *data, size_t len)
{
    ngx_str_t  s;

    s.len = len;
    s.data = ngx_pnalloc(&fuzz_pool, len);

    if (len) {
        memcpy(s.data, data, len);
    }

    return s;
}


ngx_str_t
fuzz_field(const uint8_t **data, size_t *len, u_char separator)
{
    size_t          n, skip;
    ngx_str_t       s;
    const uint8_t  *p;

    p = *len ? memchr(*data, separator, *len) : NULL;

    n = p ? (size_t) (p - *data) : *len;
    skip = p ? n + 1 : n;

    s = fuzz_str(*data, n);

    *data += skip;
    *len -= skip;

    return s;
}


ngx_uint_t
fuzz_inside(ngx_str_t *text, ngx_str_t *outer)
{
    return text->data >= outer->data
           && text->data + text->len <= outer->data + outer->len;
}


void *
ngx_palloc(ngx_pool_t *pool, size_t size)
{
    fuzz_memory_t  *m;

    m = malloc(sizeof(fuzz_memory_t));

    /* malloc(0) may be NULL, which means "absent" here and there */

    if (m == NULL || (m->data = malloc(size ? size : 1)) == NULL) {
        abort();
    }

    m->next = fuzz_memory;
    fuzz_memory = m;

    return m->data;
}


void *
ngx_pnalloc(ngx_pool_t *pool, size_t size)
{
    return ngx_palloc(pool, size);
}


void *
ngx_pcalloc(ngx_pool_t *pool, size_t size)
{
    return memset(ngx_palloc(pool, size), 0, size);
}


ngx_int_t
ngx_strncasecmp(u_char *s1, u_char *s2, size_t n)
{
    return strncasecmp((char *) s1, (char *) s2, n);
}


void
ngx_strlow(u_char *dst, u_char *src, size_t n)
{
    while (n--) {
        *dst++ = ngx_tolower(*src);
        src++;
    }
}
