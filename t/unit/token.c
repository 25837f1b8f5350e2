
/*
 * Copyright (C) the agntkey authors
 *
 * The grammar of a key.  Everything expected is worked out here a second
 * time and in another way: a CRC-32 bit by bit with the register the other
 * way round, digits from arithmetic instead of a table, a tag by Horner's
 * rule.  No key is written down, each is made when it is needed.
 */


#include "tap.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "ngx_http_agntkey_token.h"


#define TEST_KEYS     5000
#define TEST_DIGITS   40         /* random ones in a key: 8 and 32 */


static u_char test_digit(ngx_uint_t n);
static ngx_int_t test_value(u_char c);
static ngx_uint_t test_alnum(int c);
static uint32_t test_crc32(u_char *p, size_t len);
static void test_check(uint64_t n, u_char *buf);
static ngx_str_t test_key(const char *prefix, uint64_t *state);
static void test_forge(u_char *body, size_t len, uint32_t crc);
static ngx_int_t test_parse(ngx_str_t *prefix, ngx_str_t *text);
static int test_compare(const void *one, const void *two);

int __real_RAND_priv_bytes(unsigned char *buf, int num);
int __wrap_RAND_priv_bytes(unsigned char *buf, int num);


static char  *test_prefixes[] = {
    "agnt", "a", "0", "agnt_test", "my-app_2", "A_",
    "abcdefghijklmnopqrstuvwxyz012345", NULL
};


/* what RAND_priv_bytes() does: -1 is the real thing */

static ngx_int_t  test_random_calls = -1;   /* good calls before one fails */
static u_char    *test_random_bytes;        /* what these give */


int
__wrap_RAND_priv_bytes(unsigned char *buf, int num)
{
    if (test_random_calls == -1) {
        return __real_RAND_priv_bytes(buf, num);
    }

    if (test_random_calls == 0) {
        return 0;
    }

    test_random_calls--;

    memcpy(buf, test_random_bytes, num);
    test_random_bytes += num;

    return 1;
}


static void
test_known_answers(void)
{
    u_char     *p, *check;
    size_t      i, len, body;
    ngx_str_t   prefix, text;

    /* CRC-32, and the same as six digits */

    static struct {
        uint32_t   crc;
        char      *check;
    } answers[] = {
        { 0x00000000, "000000" },
        { 0x00000001, "000001" },
        { 9,          "000009" },
        { 10,         "00000A" },
        { 35,         "00000Z" },
        { 36,         "00000a" },
        { 61,         "00000z" },
        { 62,         "000010" },
        { 62 * 62,    "000100" },
        { 916132831,  "0zzzzz" },
        { 916132832,  "100000" },
        { 0xcbf43926, "3jZRME" },
        { 0x80000000, "2LKcb2" },
        { 0xffffffff, "4gfFC3" }
    };

    tap_case("the CRC-32 of \"123456789\" is cbf43926");

    p = (u_char *) "123456789";
    tap_int(test_crc32(p, 9), 0xcbf43926, "the test's own");
    tap_int(ngx_crc32_long(p, 9), 0xcbf43926, "the table's");

    tap_case("check digits: base 62, 0-9A-Za-z, the highest first, padded");

    prefix = tap_text("agnt");
    len = prefix.len + 1 + NGX_HTTP_AGNTKEY_TAIL_LEN;
    body = len - NGX_HTTP_AGNTKEY_CHECK_LEN;

    for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {

        text = tap_fill('0', len);
        memcpy(text.data, "agnt_", 5);
        check = text.data + body;

        test_forge(text.data, body, answers[i].crc);

        memcpy(check, answers[i].check, NGX_HTTP_AGNTKEY_CHECK_LEN);
        tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_OK,
                "CRC-32 %08x as %s", answers[i].crc, answers[i].check);

        /* the same number written the other way is another */

        for (p = check; p < check + 3; p++) {
            u_char  c = *p;
            *p = check[check + 5 - p];
            check[check + 5 - p] = c;
        }

        if (memcmp(check, answers[i].check, NGX_HTTP_AGNTKEY_CHECK_LEN)) {
            tap_int(test_parse(&prefix, &text),
                    NGX_HTTP_AGNTKEY_TOKEN_CHECK,
                    "CRC-32 %08x the lowest first", answers[i].crc);
        }
    }
}


static void
test_good(void)
{
    char        **name;
    u_char        key[NGX_HTTP_AGNTKEY_KEY_MAX + 1], tag[4];
    u_char        check[NGX_HTTP_AGNTKEY_CHECK_LEN];
    size_t        i, len;
    uint64_t      state;
    ngx_str_t     prefix, text, id, workspace;
    ngx_uint_t    n;

    tap_case("a key that was made here is read");

    state = 1;

    for (name = test_prefixes; *name; name++) {
        for (n = 0; n < 50; n++) {
            prefix = tap_text(*name);
            text = test_key(*name, &state);

            ngx_str_null(&id);

            tap_int(ngx_http_agntkey_token_parse(&prefix, &text, &id),
                    NGX_HTTP_AGNTKEY_TOKEN_OK, "prefix \"%s\"", *name);
            tap_ok(id.data == text.data + prefix.len + 1,
                   "the id lies inside the text");
            tap_int(id.len, 12, "length of the id");
        }
    }

    tap_case("a minted key has prefix, tag, length, alphabet and check");

    for (name = test_prefixes; *name; name++) {
        prefix = tap_text(*name);
        workspace = tap_text("acme");

        tap_int(ngx_http_agntkey_token_tag(&workspace, tag), NGX_OK, "tag");

        for (n = 0; n < 50; n++) {
            memset(key, '#', sizeof(key));

            tap_int(ngx_http_agntkey_token_mint(&prefix, tag, key), NGX_OK,
                    "mint");

            len = strlen(*name) + 1 + 50;

            tap_int(key[len], '#', "the byte behind the key");
            tap_mem(key, strlen(*name), *name, strlen(*name), "prefix");
            tap_int(key[strlen(*name)], '_', "the byte after the prefix");
            tap_mem(key + strlen(*name) + 1, 4, tag, 4, "tag");

            for (i = strlen(*name) + 1; i < len; i++) {
                tap_ok(test_alnum(key[i]), "byte %lu is %02x",
                       (unsigned long) i, key[i]);
            }

            test_check(test_crc32(key, len - 6), check);
            tap_mem(key + len - 6, 6, check, 6, "check");

            text = tap_bytes(key, len);
            tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_OK,
                    "parse");
        }
    }

    tap_case("with the default prefix a key is 55 bytes");

    prefix = tap_text("agnt");
    text = test_key("agnt", &state);
    tap_int(text.len, 55, "length");
    tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_OK, "parse");
}


static void
test_malformed(void)
{
    u_char      c, *tail;
    size_t      i, j;
    uint64_t    state;
    ngx_str_t   prefix, text, good, longer;
    ngx_uint_t  n, expected;

    state = 2;
    prefix.len = 4;
    prefix.data = (u_char *) "agnt";

    tap_case("no prefix of a key is a key");

    good = test_key("agnt", &state);

    for (i = 0; i < good.len; i++) {
        text = tap_bytes(good.data, i);
        tap_int(test_parse(&prefix, &text),
                (i < 5) ? NGX_HTTP_AGNTKEY_TOKEN_PREFIX
                        : NGX_HTTP_AGNTKEY_TOKEN_LENGTH,
                "the first %lu bytes", (unsigned long) i);
    }

    tap_case("a key with something in front or behind is none");

    good = test_key("agnt", &state);

    for (n = 0; n < 256; n++) {
        longer = tap_fill((u_char) n, good.len + 1);
        memcpy(longer.data, good.data, good.len);
        tap_int(test_parse(&prefix, &longer), NGX_HTTP_AGNTKEY_TOKEN_LENGTH,
                "%02lx behind", (unsigned long) n);

        longer = tap_fill((u_char) n, good.len + 1);
        memcpy(longer.data + 1, good.data, good.len);
        tap_int(test_parse(&prefix, &longer), NGX_HTTP_AGNTKEY_TOKEN_PREFIX,
                "%02lx in front", (unsigned long) n);
    }

    longer = tap_fill('0', 8000);
    memcpy(longer.data, good.data, good.len);
    tap_int(test_parse(&prefix, &longer), NGX_HTTP_AGNTKEY_TOKEN_LENGTH,
            "8000 bytes");

    longer = tap_fill('0', good.len * 2);
    memcpy(longer.data, good.data, good.len);
    memcpy(longer.data + good.len, good.data, good.len);
    tap_int(test_parse(&prefix, &longer), NGX_HTTP_AGNTKEY_TOKEN_LENGTH,
            "twice the key");

    tap_case("any change of the prefix or its \"_\" is another prefix");

    good = test_key("agnt", &state);

    for (i = 0; i < 5; i++) {
        for (n = 0; n < 256; n++) {
            if (good.data[i] == n) {
                continue;
            }

            text = tap_bytes(good.data, good.len);
            text.data[i] = (u_char) n;
            tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_PREFIX,
                    "byte %lu is %02lx", (unsigned long) i,
                    (unsigned long) n);
        }
    }

    tap_case("a key of another prefix is not accepted");

    for (i = 0; test_prefixes[i]; i++) {
        for (j = 0; test_prefixes[j]; j++) {
            prefix = tap_text(test_prefixes[i]);
            text = test_key(test_prefixes[j], &state);

            tap_ok((test_parse(&prefix, &text) == NGX_HTTP_AGNTKEY_TOKEN_OK)
                   == (i == j),
                   "a key of \"%s\" for \"%s\"", test_prefixes[j],
                   test_prefixes[i]);
        }
    }

    /* as long as a key of the other, and begun like one */

    prefix = tap_text("agnt");
    text = test_key("agnt_test", &state);
    tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_LENGTH,
            "\"agnt_test\" for \"agnt\"");

    prefix = tap_text("agnt_test");
    text = test_key("agnt", &state);
    tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_PREFIX,
            "\"agnt\" for \"agnt_test\"");

    tap_case("a byte outside 0-9A-Za-z is refused wherever it stands");

    prefix = tap_text("agnt");
    good = test_key("agnt", &state);
    text = tap_bytes(good.data, good.len);
    tail = text.data + 5;

    for (i = 0; i < NGX_HTTP_AGNTKEY_TAIL_LEN; i++) {
        c = tail[i];

        for (n = 0; n < 256; n++) {
            if (n == c) {
                continue;
            }

            tail[i] = (u_char) n;
            expected = test_alnum(n) ? NGX_HTTP_AGNTKEY_TOKEN_CHECK
                                     : NGX_HTTP_AGNTKEY_TOKEN_ALPHABET;

            tap_int(test_parse(&prefix, &text), expected,
                    "byte %lu of the tail is %02lx", (unsigned long) i,
                    (unsigned long) n);
        }

        tail[i] = c;
    }

    tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_OK,
            "the key put right again");

    tap_case("a letter of the wrong case, two bytes swapped: a wrong check");

    prefix = tap_text("agnt");

    for (n = 0; n < 20; n++) {
        good = test_key("agnt", &state);
        text = tap_bytes(good.data, good.len);
        tail = text.data + 5;

        for (i = 0; i < NGX_HTTP_AGNTKEY_TAIL_LEN; i++) {
            c = tail[i];

            if (c > '9') {
                tail[i] = c ^ 0x20;
                tap_int(test_parse(&prefix, &text),
                        NGX_HTTP_AGNTKEY_TOKEN_CHECK,
                        "case of byte %lu", (unsigned long) i);
                tail[i] = c;
            }

            if (i && tail[i - 1] != c) {
                tail[i] = tail[i - 1];
                tail[i - 1] = c;
                tap_int(test_parse(&prefix, &text),
                        NGX_HTTP_AGNTKEY_TOKEN_CHECK,
                        "bytes %lu and %lu swapped", (unsigned long) i - 1,
                        (unsigned long) i);
                tail[i - 1] = tail[i];
                tail[i] = c;
            }
        }
    }

    tap_case("the check covers the prefix");

    prefix = tap_text("agnu");
    good = test_key("agnt", &state);
    text = tap_bytes(good.data, good.len);
    text.data[3] = 'u';
    tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_CHECK,
            "the digits of another prefix");
}


static void
test_mint(void)
{
    double       expected, chi, d;
    u_char       key[NGX_HTTP_AGNTKEY_KEY_MAX], *keys;
    ngx_int_t    v;
    ngx_str_t    prefix;
    ngx_uint_t   i, j, n, count[62];

    prefix.len = 4;
    prefix.data = (u_char *) "agnt";

    tap_case("minted digits are uniform, and no key comes twice");

    keys = malloc(TEST_KEYS * TEST_DIGITS);
    if (keys == NULL) {
        tap_ok(0, "no memory");
        return;
    }

    memset(count, 0, sizeof(count));

    for (i = 0; i < TEST_KEYS; i++) {
        if (ngx_http_agntkey_token_mint(&prefix, (u_char *) "8UvA", key)
            != NGX_OK)
        {
            tap_ok(0, "mint");
            break;
        }

        memcpy(keys + i * TEST_DIGITS, key + 5 + 4, TEST_DIGITS);

        for (j = 0; j < TEST_DIGITS; j++) {
            v = test_value(key[5 + 4 + j]);

            if (v < 0) {
                tap_ok(0, "a byte that is no digit");
                continue;
            }

            count[v]++;
        }
    }

    /*
     * Chi-square has 61 degrees of freedom: mean 61, deviation 11.  170 is
     * ten deviations away; a digit taken modulo 62 without dropping the
     * bytes above 247 gives some 1,400.
     */

    chi = 0;
    expected = (double) TEST_KEYS * TEST_DIGITS / 62;

    for (i = 0; i < 62; i++) {
        d = count[i] - expected;
        chi += d * d / expected;
    }

    tap_ok(chi < 170, "chi-square is %.1f", chi);

    qsort(keys, TEST_KEYS, TEST_DIGITS, test_compare);

    for (i = 1, n = 0; i < TEST_KEYS; i++) {
        n += (memcmp(keys + (i - 1) * TEST_DIGITS, keys + i * TEST_DIGITS,
                     TEST_DIGITS)
              == 0);
    }

    tap_int(n, 0, "keys seen before");

    free(keys);
}


static void
test_random(void)
{
    u_char      key[55], bytes[512];
    ngx_str_t   prefix, text;
    ngx_uint_t  i, n;

    prefix.len = 4;
    prefix.data = (u_char *) "agnt";

    tap_case("each random byte is one digit, and 248 to 255 are none");

    /* every byte in turn, the key's 40 digits begin at byte n */

    for (n = 0; n < 256; n++) {
        u_char   expected[TEST_DIGITS];
        u_char  *p;

        for (i = 0; i < 512; i++) {
            bytes[i] = (u_char) (n + i);
        }

        p = expected;

        for (i = 0; p < expected + TEST_DIGITS; i++) {
            if (bytes[i] < 248) {
                *p++ = test_digit(bytes[i] % 62);
            }
        }

        test_random_bytes = bytes;
        test_random_calls = 2;

        tap_int(ngx_http_agntkey_token_mint(&prefix, (u_char *) "8UvA", key),
                NGX_OK, "mint");
        tap_mem(key + 9, TEST_DIGITS, expected, TEST_DIGITS,
                "bytes from %02lx on", (unsigned long) n);

        text = tap_bytes(key, 55);
        tap_int(test_parse(&prefix, &text), NGX_HTTP_AGNTKEY_TOKEN_OK,
                "parse");
    }

    tap_case("random bytes that give no digit are asked for again");

    memset(bytes, 255, sizeof(bytes));
    memset(bytes + 5 * 64, 61, 64);

    test_random_bytes = bytes;
    test_random_calls = 6;

    tap_int(ngx_http_agntkey_token_mint(&prefix, (u_char *) "8UvA", key),
            NGX_OK, "mint");

    for (i = 9; i < 49; i++) {
        tap_int(key[i], 'z', "byte %lu", (unsigned long) i);
    }

    tap_int(test_random_calls, 0, "calls left");

    tap_case("without random bytes there is no key, and nothing left of one");

    for (n = 0; n < 3; n++) {

        /* 13 digits from each call but the last */
        memset(bytes, 255, sizeof(bytes));
        memset(bytes, 7, 13);
        memset(bytes + 64, 8, 13);

        test_random_bytes = bytes;
        test_random_calls = n;
        memset(key, '#', sizeof(key));

        tap_int(ngx_http_agntkey_token_mint(&prefix, (u_char *) "8UvA", key),
                NGX_ERROR, "mint with %lu good calls", (unsigned long) n);

        for (i = 0; i < sizeof(key); i++) {
            tap_int(key[i], 0, "byte %lu", (unsigned long) i);
        }
    }

    test_random_calls = -1;
}


static void
test_digest(void)
{
    u_char        digest[33], expected[EVP_MAX_MD_SIZE], data[300];
    uint64_t      state;
    ngx_str_t     text;
    ngx_uint_t    i;

    /* FIPS 180-4's own example, and the digest of nothing */

    static u_char  abc[] = {
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
        0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
        0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
        0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad
    };

    static u_char  nothing[] = {
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14,
        0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
        0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c,
        0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55
    };

    tap_case("the digest is SHA-256");

    text = tap_text("abc");
    digest[32] = '#';
    tap_int(ngx_http_agntkey_token_digest(&text, digest), NGX_OK, "abc");
    tap_mem(digest, 32, abc, 32, "abc");
    tap_int(digest[32], '#', "the byte behind the digest");

    text = tap_text("");
    tap_int(ngx_http_agntkey_token_digest(&text, digest), NGX_OK, "nothing");
    tap_mem(digest, 32, nothing, 32, "nothing");

    tap_case("digests made one after the other do not depend on each other");

    state = 3;

    for (i = 0; i < sizeof(data); i++) {
        data[i] = (u_char) tap_random(&state);
    }

    for (i = 0; i <= sizeof(data); i++) {
        text = tap_bytes(data, i);

        EVP_Digest(data, i, expected, NULL, EVP_sha256(), NULL);

        tap_int(ngx_http_agntkey_token_digest(&text, digest), NGX_OK,
                "%lu bytes", (unsigned long) i);
        tap_mem(digest, 32, expected, 32, "%lu bytes", (unsigned long) i);
    }

    tap_case("init and done may be called at any time, and again");

    text = tap_text("abc");

    tap_int(ngx_http_agntkey_token_init(), NGX_OK, "init");
    tap_int(ngx_http_agntkey_token_init(), NGX_OK, "init again");
    tap_int(ngx_http_agntkey_token_digest(&text, digest), NGX_OK, "digest");
    ngx_http_agntkey_token_done();
    ngx_http_agntkey_token_done();

    memset(digest, 0, 32);
    tap_int(ngx_http_agntkey_token_digest(&text, digest), NGX_OK,
            "digest after done");
    tap_mem(digest, 32, abc, 32, "digest after done");
    ngx_http_agntkey_token_done();
}


static void
test_tag(void)
{
    u_char       tag[5], digest[EVP_MAX_MD_SIZE], expected[4];
    uint64_t     n;
    ngx_str_t    name;
    ngx_uint_t   i, j;

    static char  *names[] = {
        "acme", "a", "Acme", "acme.", "0", "z9._-",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    };

    tap_case("the tag of \"acme\" is 8UvA");

    name = tap_text("acme");
    tag[4] = '#';
    tap_int(ngx_http_agntkey_token_tag(&name, tag), NGX_OK, "tag");
    tap_mem(tag, 4, "8UvA", 4, "tag");
    tap_int(tag[4], '#', "the byte behind the tag");

    tap_case("a tag is 8 bytes of SHA-256, big-endian, modulo 62^4");

    for (i = 0; i < 200; i++) {
        char  buf[32];

        sprintf(buf, "workspace-%lu", (unsigned long) i);

        name = tap_text(i < sizeof(names) / sizeof(names[0]) ? names[i]
                                                             : buf);

        EVP_Digest(name.data, name.len, digest, NULL, EVP_sha256(), NULL);

        n = 0;

        for (j = 0; j < 8; j++) {
            n = (n * 256 + digest[j]) % 14776336;
        }

        expected[0] = test_digit(n / 238328);
        expected[1] = test_digit(n / 3844 % 62);
        expected[2] = test_digit(n / 62 % 62);
        expected[3] = test_digit(n % 62);

        tap_int(ngx_http_agntkey_token_tag(&name, tag), NGX_OK, "tag");
        tap_mem(tag, 4, expected, 4, "workspace %lu", (unsigned long) i);
    }
}


static void
test_equal(void)
{
    uint64_t    state;
    ngx_str_t   one, two;
    ngx_uint_t  i;

    tap_case("two digests are equal only when every bit is");

    state = 4;
    one = tap_fill(0, 32);

    for (i = 0; i < 32; i++) {
        one.data[i] = (u_char) tap_random(&state);
    }

    two = tap_bytes(one.data, 32);
    tap_int(ngx_http_agntkey_token_equal(one.data, two.data), 1, "the same");
    tap_int(ngx_http_agntkey_token_equal(one.data, one.data), 1, "itself");

    for (i = 0; i < 256; i++) {
        two.data[i / 8] ^= 1 << (i % 8);
        tap_int(ngx_http_agntkey_token_equal(one.data, two.data), 0,
                "bit %lu", (unsigned long) i);
        two.data[i / 8] ^= 1 << (i % 8);
    }

    tap_int(ngx_http_agntkey_token_equal(one.data, two.data), 1,
            "put right again");
}


static void
test_prefix(void)
{
    ngx_str_t   prefix;
    ngx_uint_t  i, n;

    tap_case("a prefix is 1 to 32 of 0-9A-Za-z_-, the first no sign");

    for (i = 0; test_prefixes[i]; i++) {
        prefix = tap_text(test_prefixes[i]);
        tap_int(ngx_http_agntkey_token_prefix_valid(&prefix), 1, "\"%s\"",
                test_prefixes[i]);
    }

    for (i = 0; i < 40; i++) {
        prefix = tap_fill('a', i);
        tap_int(ngx_http_agntkey_token_prefix_valid(&prefix),
                i >= 1 && i <= 32, "%lu letters", (unsigned long) i);
    }

    for (n = 0; n < 256; n++) {
        prefix = tap_fill((u_char) n, 1);
        tap_int(ngx_http_agntkey_token_prefix_valid(&prefix), test_alnum(n),
                "%02lx alone", (unsigned long) n);

        for (i = 0; i < 3; i++) {
            prefix = tap_text("abc");
            prefix.data[i] = (u_char) n;
            tap_int(ngx_http_agntkey_token_prefix_valid(&prefix),
                    test_alnum(n) || (i && (n == '_' || n == '-')),
                    "%02lx at %lu", (unsigned long) n, (unsigned long) i);
        }
    }
}


int
main(void)
{
    test_known_answers();
    test_good();
    test_malformed();
    test_mint();
    test_random();
    test_digest();
    test_tag();
    test_equal();
    test_prefix();

    ngx_http_agntkey_token_done();

    return tap_done();
}


static u_char
test_digit(ngx_uint_t n)
{
    if (n < 10) {
        return '0' + n;
    }

    return (n < 36) ? 'A' + n - 10 : 'a' + n - 36;
}


static ngx_int_t
test_value(u_char c)
{
    ngx_uint_t  n;

    for (n = 0; n < 62; n++) {
        if (test_digit(n) == c) {
            return n;
        }
    }

    return -1;
}


static ngx_uint_t
test_alnum(int c)
{
    return c && strchr("0123456789abcdefghijklmnopqrstuvwxyz"
                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ", c) != NULL;
}


/* the polynomial as IEEE 802.3 prints it, each bit on its own */

static uint32_t
test_crc32(u_char *p, size_t len)
{
    size_t      i;
    uint32_t    crc, r, in;
    ngx_uint_t  bit;

    crc = 0xffffffff;

    for (i = 0; i < len; i++) {
        for (bit = 0; bit < 8; bit++) {
            in = ((p[i] >> bit) & 1) ^ (crc >> 31);
            crc = (crc << 1) ^ (in ? 0x04c11db7 : 0);
        }
    }

    for (r = 0, bit = 0; bit < 32; bit++) {
        r |= ((crc >> bit) & 1) << (31 - bit);
    }

    return ~r;
}


static void
test_check(uint64_t n, u_char *buf)
{
    uint64_t    power;
    ngx_uint_t  i;

    power = 916132832;                  /* 62^5 */

    for (i = 0; i < 6; i++) {
        buf[i] = test_digit(n / power % 62);
        power /= 62;
    }
}


/* a well-formed key, in memory of its own */

static ngx_str_t
test_key(const char *prefix, uint64_t *state)
{
    size_t      i, len;
    ngx_str_t   key;

    len = strlen(prefix);
    key = tap_fill('_', len + 51);
    memcpy(key.data, prefix, len);

    for (i = len + 1; i < len + 45; i++) {
        key.data[i] = test_digit(tap_random(state) % 62);
    }

    test_check(test_crc32(key.data, len + 45), key.data + len + 45);

    return key;
}


/*
 * Changes "0" to "1" among the last 44 bytes until the CRC-32 is the one
 * asked for.  What a bit changes in a CRC depends on nothing but its place,
 * so this is a system of linear equations.
 */

static void
test_forge(u_char *body, size_t len, uint32_t crc)
{
    u_char      *p;
    uint32_t     base, want, v, vector[32];
    uint64_t     used, set[32];
    ngx_uint_t   i, bit;

    p = body + len - 44;
    base = test_crc32(body, len);

    memset(vector, 0, sizeof(vector));
    memset(set, 0, sizeof(set));

    for (i = 0; i < 44; i++) {
        p[i] ^= 1;
        v = test_crc32(body, len) ^ base;
        p[i] ^= 1;

        used = (uint64_t) 1 << i;

        for (bit = 32; bit--; /* void */) {
            if (!(v >> bit & 1)) {
                continue;
            }

            if (vector[bit] == 0) {
                vector[bit] = v;
                set[bit] = used;
                break;
            }

            v ^= vector[bit];
            used ^= set[bit];
        }
    }

    want = base ^ crc;
    used = 0;

    for (bit = 32; bit--; /* void */) {
        if (want >> bit & 1) {
            want ^= vector[bit];
            used ^= set[bit];
        }
    }

    for (i = 0; i < 44; i++) {
        p[i] ^= (used >> i) & 1;
    }

    tap_int(test_crc32(body, len), crc, "the CRC-32 that was aimed at");
}


/* parses, and sees that the id is set with NGX_HTTP_AGNTKEY_TOKEN_OK only */

static ngx_int_t
test_parse(ngx_str_t *prefix, ngx_str_t *text)
{
    u_char      mark;
    ngx_str_t   id;
    ngx_int_t   rc;

    id.len = 12345;
    id.data = &mark;

    rc = ngx_http_agntkey_token_parse(prefix, text, &id);

    if (rc == NGX_HTTP_AGNTKEY_TOKEN_OK) {
        tap_mem(id.data, id.len, text->data + prefix->len + 1, 12, "id");

    } else {
        tap_ok(id.len == 12345 && id.data == &mark, "the id was left alone");
    }

    return rc;
}


static int
test_compare(const void *one, const void *two)
{
    return memcmp(one, two, TEST_DIGITS);
}
