
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>


#define NGX_HTTP_AGNTKEY_BASE   62

/* the largest multiple of 62 in a byte: what is above would favour 0 to 7 */
#define NGX_HTTP_AGNTKEY_FAIR   (256 / 62 * 62)

/* of a byte that is no digit, a bit that no digit has */
#define NGX_HTTP_AGNTKEY_NONE   0x80

/* 62^4 workspaces' tags */
#define NGX_HTTP_AGNTKEY_TAGS   (62 * 62 * 62 * 62)


static void ngx_http_agntkey_token_tables(void);
static void ngx_http_agntkey_token_base62(uint64_t n, u_char *buf, size_t len);
static ngx_int_t ngx_http_agntkey_token_random(u_char *p, size_t len);


/* one for each process, and a worker has one thread */

static EVP_MD      *ngx_http_agntkey_md;
static EVP_MD_CTX  *ngx_http_agntkey_md_ctx;


static const u_char  ngx_http_agntkey_digits[] =
    "0123456789"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "abcdefghijklmnopqrstuvwxyz";


/*
 * What each byte is worth as a digit of base 62, or NGX_HTTP_AGNTKEY_NONE;
 * and how far a byte goes in CRC-32 when one, two or three follow it.  Made
 * once; the first of the four is nginx's own.
 */

static u_char       ngx_http_agntkey_values[256];
static uint32_t     ngx_http_agntkey_crc[3][256];
static ngx_uint_t   ngx_http_agntkey_tables;


ngx_int_t
ngx_http_agntkey_token_init(void)
{
    if (ngx_http_agntkey_md_ctx) {
        return NGX_OK;
    }

#if (OPENSSL_VERSION_NUMBER >= 0x30000000L)
    ngx_http_agntkey_md = EVP_MD_fetch(NULL, "SHA256", NULL);
#else
    ngx_http_agntkey_md = (EVP_MD *) EVP_sha256();
#endif

    if (ngx_http_agntkey_md == NULL) {
        return NGX_ERROR;
    }

    ngx_http_agntkey_md_ctx = EVP_MD_CTX_new();
    if (ngx_http_agntkey_md_ctx == NULL) {
        ngx_http_agntkey_token_done();
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_agntkey_token_done(void)
{
    EVP_MD_CTX_free(ngx_http_agntkey_md_ctx);
    ngx_http_agntkey_md_ctx = NULL;

#if (OPENSSL_VERSION_NUMBER >= 0x30000000L)
    EVP_MD_free(ngx_http_agntkey_md);
#endif
    ngx_http_agntkey_md = NULL;
}


ngx_http_agntkey_token_e
ngx_http_agntkey_token_outline(ngx_str_t *prefix, ngx_str_t *text,
    ngx_str_t *id)
{
    if (text->len <= prefix->len
        || ngx_memcmp(text->data, prefix->data, prefix->len) != 0
        || text->data[prefix->len] != '_')
    {
        return NGX_HTTP_AGNTKEY_TOKEN_PREFIX;
    }

    if (text->len != prefix->len + 1 + NGX_HTTP_AGNTKEY_TAIL_LEN) {
        return NGX_HTTP_AGNTKEY_TOKEN_LENGTH;
    }

    id->len = NGX_HTTP_AGNTKEY_ID_LEN;
    id->data = text->data + prefix->len + 1;

    return NGX_HTTP_AGNTKEY_TOKEN_OK;
}


ngx_http_agntkey_token_e
ngx_http_agntkey_token_parse(ngx_str_t *prefix, ngx_str_t *text, ngx_str_t *id)
{
    ngx_str_t                 outlined;
    ngx_http_agntkey_token_e  rc;

    rc = ngx_http_agntkey_token_outline(prefix, text, &outlined);

    if (rc == NGX_HTTP_AGNTKEY_TOKEN_OK) {
        rc = ngx_http_agntkey_token_check(text, &outlined);
    }

    if (rc == NGX_HTTP_AGNTKEY_TOKEN_OK) {
        *id = outlined;
    }

    return rc;
}


ngx_http_agntkey_token_e
ngx_http_agntkey_token_check(ngx_str_t *text, ngx_str_t *id)
{
    u_char      *p, *v, bad;
    uint32_t     crc, word;
    uint64_t     check;
    ngx_uint_t   n;

    if (!ngx_http_agntkey_tables) {
        ngx_http_agntkey_token_tables();
    }

    v = ngx_http_agntkey_values;
    p = text->data;
    crc = 0xffffffff;

    for ( /* void */ ; p < id->data; p++) {
        crc = ngx_crc32_table256[(crc ^ *p) & 0xff] ^ (crc >> 8);
    }

    /*
     * The id and the secret, four bytes at a time, for garbage should cost
     * little; zlib, which does that too, is not among the libraries that
     * every nginx is linked with.
     */

    bad = 0;

    for (n = (NGX_HTTP_AGNTKEY_ID_LEN + NGX_HTTP_AGNTKEY_SECRET_LEN) / 4;
         n;
         n--, p += 4)
    {
#if (NGX_HAVE_LITTLE_ENDIAN)
        ngx_memcpy(&word, p, sizeof(uint32_t));
#else
        word = p[0] | (p[1] << 8) | (p[2] << 16) | ((uint32_t) p[3] << 24);
#endif

        bad |= v[word & 0xff] | v[(word >> 8) & 0xff]
               | v[(word >> 16) & 0xff] | v[word >> 24];

        crc ^= word;

        crc = ngx_http_agntkey_crc[2][crc & 0xff]
              ^ ngx_http_agntkey_crc[1][(crc >> 8) & 0xff]
              ^ ngx_http_agntkey_crc[0][(crc >> 16) & 0xff]
              ^ ngx_crc32_table256[crc >> 24];
    }

    check = 0;

    for (n = NGX_HTTP_AGNTKEY_CHECK_LEN; n; n--, p++) {
        bad |= v[*p];
        check = check * NGX_HTTP_AGNTKEY_BASE + v[*p];
    }

    if (bad & NGX_HTTP_AGNTKEY_NONE) {
        return NGX_HTTP_AGNTKEY_TOKEN_ALPHABET;
    }

    return (check == (crc ^ 0xffffffff)) ? NGX_HTTP_AGNTKEY_TOKEN_OK
                                         : NGX_HTTP_AGNTKEY_TOKEN_CHECK;
}


static void
ngx_http_agntkey_token_tables(void)
{
    uint32_t    crc;
    ngx_uint_t  i, n;

    ngx_memset(ngx_http_agntkey_values, NGX_HTTP_AGNTKEY_NONE, 256);

    for (i = 0; i < NGX_HTTP_AGNTKEY_BASE; i++) {
        ngx_http_agntkey_values[ngx_http_agntkey_digits[i]] = (u_char) i;
    }

    for (i = 0; i < 256; i++) {
        crc = ngx_crc32_table256[i];

        for (n = 0; n < 3; n++) {
            crc = ngx_crc32_table256[crc & 0xff] ^ (crc >> 8);
            ngx_http_agntkey_crc[n][i] = crc;
        }
    }

    ngx_http_agntkey_tables = 1;
}


ngx_int_t
ngx_http_agntkey_token_digest(ngx_str_t *text, u_char *digest)
{
    if (ngx_http_agntkey_token_init() != NGX_OK) {
        return NGX_ERROR;
    }

    if (EVP_DigestInit_ex(ngx_http_agntkey_md_ctx, ngx_http_agntkey_md, NULL)
        != 1
        || EVP_DigestUpdate(ngx_http_agntkey_md_ctx, text->data, text->len)
           != 1
        || EVP_DigestFinal_ex(ngx_http_agntkey_md_ctx, digest, NULL) != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_token_tag(ngx_str_t *workspace, u_char *tag)
{
    u_char      digest[NGX_HTTP_AGNTKEY_DIGEST_LEN];
    uint64_t    n;
    ngx_uint_t  i;

    if (ngx_http_agntkey_token_digest(workspace, digest) != NGX_OK) {
        return NGX_ERROR;
    }

    n = 0;

    for (i = 0; i < 8; i++) {
        n = (n << 8) | digest[i];
    }

    ngx_http_agntkey_token_base62(n % NGX_HTTP_AGNTKEY_TAGS, tag,
                                  NGX_HTTP_AGNTKEY_TAG_LEN);

    return NGX_OK;
}


ngx_int_t
ngx_http_agntkey_token_mint(ngx_str_t *prefix, u_char *tag, u_char *key)
{
    u_char  *p;
    size_t   len;

    len = prefix->len + 1 + NGX_HTTP_AGNTKEY_TAIL_LEN;

    p = ngx_cpymem(key, prefix->data, prefix->len);
    *p++ = '_';
    p = ngx_cpymem(p, tag, NGX_HTTP_AGNTKEY_TAG_LEN);

    if (ngx_http_agntkey_token_random(p, NGX_HTTP_AGNTKEY_ID_LEN
                                         - NGX_HTTP_AGNTKEY_TAG_LEN
                                         + NGX_HTTP_AGNTKEY_SECRET_LEN)
        != NGX_OK)
    {
        OPENSSL_cleanse(key, len);
        return NGX_ERROR;
    }

    p = key + len - NGX_HTTP_AGNTKEY_CHECK_LEN;

    ngx_http_agntkey_token_base62(ngx_crc32_long(key, p - key), p,
                                  NGX_HTTP_AGNTKEY_CHECK_LEN);

    return NGX_OK;
}


ngx_uint_t
ngx_http_agntkey_token_equal(u_char *one, u_char *two)
{
    uint64_t  a[4], b[4];

    /*
     * The difference of all before anything is decided.  CRYPTO_memcmp() does
     * the same, a byte at a time: 230 instructions of each request.
     */

    ngx_memcpy(a, one, NGX_HTTP_AGNTKEY_DIGEST_LEN);
    ngx_memcpy(b, two, NGX_HTTP_AGNTKEY_DIGEST_LEN);

    return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) == 0;
}


ngx_uint_t
ngx_http_agntkey_token_prefix_valid(ngx_str_t *prefix)
{
    size_t  i;

    if (prefix->len == 0 || prefix->len > NGX_HTTP_AGNTKEY_PREFIX_MAX
        || !ngx_http_agntkey_token_alnum(prefix->data[0]))
    {
        return 0;
    }

    for (i = 1; i < prefix->len; i++) {
        if (!ngx_http_agntkey_token_alnum(prefix->data[i])
            && prefix->data[i] != '_' && prefix->data[i] != '-')
        {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_http_agntkey_token_random(u_char *p, size_t len)
{
    u_char      buf[64];
    ngx_uint_t  i;

    while (len) {

        if (RAND_priv_bytes(buf, sizeof(buf)) != 1) {
            return NGX_ERROR;
        }

        for (i = 0; i < sizeof(buf) && len; i++) {
            if (buf[i] < NGX_HTTP_AGNTKEY_FAIR) {
                *p++ = ngx_http_agntkey_digits[buf[i]
                                               % NGX_HTTP_AGNTKEY_BASE];
                len--;
            }
        }
    }

    OPENSSL_cleanse(buf, sizeof(buf));

    return NGX_OK;
}


static void
ngx_http_agntkey_token_base62(uint64_t n, u_char *buf, size_t len)
{
    while (len) {
        buf[--len] = ngx_http_agntkey_digits[n % NGX_HTTP_AGNTKEY_BASE];
        n /= NGX_HTTP_AGNTKEY_BASE;
    }
}


ngx_uint_t
ngx_http_agntkey_token_alnum(u_char c)
{
    return (c >= '0' && c <= '9')
           || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}
