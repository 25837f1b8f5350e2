
/*
 * Copyright (C) the agntkey authors
 *
 * The grammar of a key, and nothing else: no Redis, no request.
 *
 *     <prefix> _ <id: 12> <secret: 32> <check: 6>
 *                 |
 *                 +-- 4 of the workspace's tag, 8 random
 *
 * Digits are base 62, 0-9A-Za-z, the most significant first.
 */


#ifndef _NGX_HTTP_AGNTKEY_TOKEN_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_TOKEN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_agntkey_keyspace.h"


#define NGX_HTTP_AGNTKEY_SECRET_LEN   32
#define NGX_HTTP_AGNTKEY_CHECK_LEN    6

/* all that follows "<prefix>_" */
#define NGX_HTTP_AGNTKEY_TAIL_LEN                                             \
    (NGX_HTTP_AGNTKEY_ID_LEN + NGX_HTTP_AGNTKEY_SECRET_LEN                    \
     + NGX_HTTP_AGNTKEY_CHECK_LEN)

#define NGX_HTTP_AGNTKEY_PREFIX_MAX   32
#define NGX_HTTP_AGNTKEY_KEY_MAX                                              \
    (NGX_HTTP_AGNTKEY_PREFIX_MAX + 1 + NGX_HTTP_AGNTKEY_TAIL_LEN)

/* SHA-256 (FIPS 180-4), in bytes */
#define NGX_HTTP_AGNTKEY_DIGEST_LEN   32


typedef enum {
    NGX_HTTP_AGNTKEY_TOKEN_OK = 0,
    NGX_HTTP_AGNTKEY_TOKEN_PREFIX,       /* does not begin with "<prefix>_" */
    NGX_HTTP_AGNTKEY_TOKEN_LENGTH,       /* cut off, or something appended */
    NGX_HTTP_AGNTKEY_TOKEN_ALPHABET,     /* a byte outside 0-9A-Za-z */
    NGX_HTTP_AGNTKEY_TOKEN_CHECK         /* the check digits do not fit */
} ngx_http_agntkey_token_e;


/*
 * Readies this process for digests: SHA-256 is fetched once and its context
 * reused, which takes well over half off the price of a digest.  Calling it
 * again does nothing.  Returns NGX_OK, or NGX_ERROR when OpenSSL has no
 * SHA-256 to offer or no memory is left.
 */
ngx_int_t ngx_http_agntkey_token_init(void);

/* Gives back what ngx_http_agntkey_token_init() took. */
void ngx_http_agntkey_token_done(void);

/*
 * Is the text a key?  Asks nobody; the prefix is public, so the comparison
 * need not take constant time.  *id is set to the id's bytes inside the text
 * when the answer is NGX_HTTP_AGNTKEY_TOKEN_OK, and left alone otherwise.
 */
ngx_http_agntkey_token_e ngx_http_agntkey_token_parse(ngx_str_t *prefix,
    ngx_str_t *text, ngx_str_t *id);

/*
 * The two halves of it.  Prefix and length alone tell where the id would be:
 * NGX_HTTP_AGNTKEY_TOKEN_OK, _PREFIX or _LENGTH.  After an OK the characters
 * and the check digits tell the rest: _OK, _ALPHABET or _CHECK.
 */
ngx_http_agntkey_token_e ngx_http_agntkey_token_outline(ngx_str_t *prefix,
    ngx_str_t *text, ngx_str_t *id);
ngx_http_agntkey_token_e ngx_http_agntkey_token_check(ngx_str_t *text,
    ngx_str_t *id);

/*
 * SHA-256 of the text into digest[NGX_HTTP_AGNTKEY_DIGEST_LEN].  OpenSSL
 * wipes the block it hashed (OPENSSL_cleanse() in SHA256_Final()), so no copy
 * of the key stays behind.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_agntkey_token_digest(ngx_str_t *text, u_char *digest);

/*
 * The tag of a workspace into tag[NGX_HTTP_AGNTKEY_TAG_LEN]: the first 8
 * bytes of SHA-256(name), big-endian, modulo 62^4.  Returns NGX_OK or
 * NGX_ERROR.
 */
ngx_int_t ngx_http_agntkey_token_tag(ngx_str_t *workspace, u_char *tag);

/*
 * Makes a new key of prefix->len + 1 + NGX_HTTP_AGNTKEY_TAIL_LEN bytes in
 * key[], not terminated, from the CSPRNG of OpenSSL (RAND_priv_bytes(3)); each
 * digit is uniform over the 62.  The caller wipes it.  Returns NGX_OK, or
 * NGX_ERROR when no random bytes are to be had; key[] is wiped then.
 */
ngx_int_t ngx_http_agntkey_token_mint(ngx_str_t *prefix, u_char *tag,
    u_char *key);

/* 1 when the two digests are equal, 0 if not, in constant time. */
ngx_uint_t ngx_http_agntkey_token_equal(u_char *one, u_char *two);

/* Is the byte a digit of base 62, 0-9A-Za-z?  1 or 0. */
ngx_uint_t ngx_http_agntkey_token_alnum(u_char c);

/*
 * May the text be configured as a prefix?  1 to NGX_HTTP_AGNTKEY_PREFIX_MAX
 * letters, digits, "_" and "-", the first a letter or a digit: what a bearer
 * token may hold (RFC 6750, section 2.1) and a double click selects whole.
 */
ngx_uint_t ngx_http_agntkey_token_prefix_valid(ngx_str_t *prefix);


#endif /* _NGX_HTTP_AGNTKEY_TOKEN_H_INCLUDED_ */
