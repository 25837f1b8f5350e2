
/*
 * Copyright (C) the agntkey authors
 *
 * Replies of Redis, whole and in pieces, and of somebody who is no Redis.
 *
 * calloc() and free() pass through here (ld's --wrap): each scenario must
 * give back what it took, ask for no giant block, and survive when memory
 * runs out.
 */


#include "tap.h"

#include "ngx_http_agntkey_redis_resp.h"


/* more than any bound lets a single allocation be */
#define TEST_BLOCK_MAX   (NGX_HTTP_AGNTKEY_RESP_BYTES + 4096)

#define TEST_DUMP_MAX    65536


typedef struct {
    ngx_int_t     rc;            /* of the last call */
    ngx_uint_t    replies;
    char         *dump;          /* the replies, one after the other */
    size_t        len;
    char          error[256];
} test_result_t;


static void test_begin(void);
static void test_end(const char *what);
static ngx_int_t test_drain(ngx_http_agntkey_redis_resp_t *resp,
    test_result_t *result);
static void test_run(const void *data, size_t len, size_t *cuts,
    ngx_uint_t ncuts, test_result_t *result);
static void test_repeat(test_result_t *result, const char *head,
    const char *item, size_t n, const char *tail, size_t chunk);
static void test_dump(test_result_t *result, ngx_http_agntkey_redis_reply_t *r);
static void test_put(test_result_t *result, const char *fmt, ...);

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void __real_free(void *p);
void __wrap_free(void *p);


static ngx_int_t   test_live;        /* blocks taken and not given back */
static size_t      test_taken;       /* bytes since the scenario began */
static size_t      test_largest;
static ngx_int_t   test_fail = -1;   /* good calls before one fails */

static char        test_text[TEST_DUMP_MAX];


void *
__wrap_calloc(size_t n, size_t size)
{
    void  *p;

    if (test_fail == 0) {
        return NULL;
    }

    if (test_fail > 0) {
        test_fail--;
    }

    p = __real_calloc(n, size);

    if (p) {
        test_live++;
        test_taken += n * size;
        test_largest = ngx_max(test_largest, n * size);
    }

    return p;
}


void
__wrap_free(void *p)
{
    if (p) {
        test_live--;
    }

    __real_free(p);
}


/* bytes, and the replies they are; a length because of NULs */

#define test_bytes(s)   s, sizeof(s) - 1

static struct {
    char    *data;
    size_t   len;
    char    *dump;
} test_streams[] = {
    { test_bytes("+OK\r\n"),                     "+\"OK\";" },
    { test_bytes("+\r\n"),                       "+\"\";" },
    { test_bytes("-ERR no such\r\n"),            "-\"ERR no such\";" },
    { test_bytes("-\r\n"),                       "-\"\";" },
    { test_bytes(":0\r\n"),                      ":0;" },
    { test_bytes(":42\r\n"),                     ":42;" },
    { test_bytes(":-1\r\n"),                     ":-1;" },
    { test_bytes(":9223372036854775807\r\n"),    ":9223372036854775807;" },
    { test_bytes(":-9223372036854775808\r\n"),   ":-9223372036854775808;" },
    { test_bytes("$3\r\nfoo\r\n"),               "\"foo\";" },
    { test_bytes("$0\r\n\r\n"),                  "\"\";" },
    { test_bytes("$2\r\n\r\n\r\n"),              "\"\\0d\\0a\";" },
    { test_bytes("$5\r\n+OK\r\n\r\n"),           "\"+OK\\0d\\0a\";" },
    { test_bytes("$4\r\n\0\xff\r\x80\r\n"),      "\"\\00\\ff\\0d\\80\";" },
    { test_bytes("$-1\r\n"),                     "nil;" },
    { test_bytes("*-1\r\n"),                     "nil;" },
    { test_bytes("*0\r\n"),                      "[];" },
    { test_bytes("*1\r\n$-1\r\n"),               "[nil,];" },
    { test_bytes("*1\r\n*-1\r\n"),               "[nil,];" },
    { test_bytes("*1\r\n*0\r\n"),                "[[],];" },
    { test_bytes("*2\r\n*0\r\n:1\r\n"),          "[[],:1,];" },
    { test_bytes("*3\r\n$1\r\na\r\n:2\r\n+b\r\n"), "[\"a\",:2,+\"b\",];" },
    { test_bytes("*2\r\n-ERR x\r\n$1\r\ny\r\n"), "[-\"ERR x\",\"y\",];" },
    { test_bytes("*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n:3\r\n"),
                                                 "[[:1,:2,],[:3,],];" },
    { test_bytes("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n$2\r\nok\r\n"),
                                                 "[[[[[[\"ok\",],],],],],];" },
    { test_bytes("*3\r\n$10\r\ninvalidate\r\n$-1\r\n*1\r\n-E\r\n"),
                                     "[\"invalidate\",nil,[-\"E\",],];" },
    { test_bytes("+a\r\n:1\r\n$1\r\nb\r\n*0\r\n$-1\r\n-c\r\n"),
                                     "+\"a\";:1;\"b\";[];nil;-\"c\";" },
    { test_bytes("*1\r\n:1\r\n*1\r\n:2\r\n*1\r\n:3\r\n"),
                                     "[:1,];[:2,];[:3,];" }
};

#define TEST_STREAMS   (sizeof(test_streams) / sizeof(test_streams[0]))


static void
test_replies(void)
{
    size_t         cuts[64], i, j, len;
    ngx_uint_t     n;
    test_result_t  result;

    tap_case("every type of reply, alone and in arrays, several in a row");

    for (n = 0; n < TEST_STREAMS; n++) {
        test_run(test_streams[n].data, test_streams[n].len, NULL, 0, &result);

        tap_int(result.rc, NGX_AGAIN, "%s: the end",
                test_streams[n].dump);
        tap_mem(result.dump, result.len, test_streams[n].dump,
                strlen(test_streams[n].dump), "stream %lu",
                (unsigned long) n);
    }

    tap_case("wherever the bytes are split, the replies are the same");

    for (n = 0; n < TEST_STREAMS; n++) {
        len = test_streams[n].len;

        for (i = 0; i <= len; i++) {
            for (j = i; j <= len; j++) {
                cuts[0] = i;
                cuts[1] = j;

                test_run(test_streams[n].data, len, cuts, 2, &result);

                tap_int(result.rc, NGX_AGAIN, "stream %lu split at %lu, %lu",
                        (unsigned long) n, (unsigned long) i,
                        (unsigned long) j);
                tap_mem(result.dump, result.len, test_streams[n].dump,
                        strlen(test_streams[n].dump),
                        "stream %lu split at %lu, %lu", (unsigned long) n,
                        (unsigned long) i, (unsigned long) j);
            }
        }
    }

    tap_case("a byte at a time");

    for (n = 0; n < TEST_STREAMS; n++) {
        len = test_streams[n].len;

        for (i = 0; i < len; i++) {
            cuts[i] = i + 1;
        }

        test_run(test_streams[n].data, len, cuts, len, &result);

        tap_int(result.rc, NGX_AGAIN, "stream %lu", (unsigned long) n);
        tap_mem(result.dump, result.len, test_streams[n].dump,
                strlen(test_streams[n].dump), "stream %lu",
                (unsigned long) n);
    }
}


static void
test_unfinished(void)
{
    size_t         i;
    ngx_uint_t     n;
    test_result_t  result;

    tap_case("a reply that is not whole is none, and is freed with the reader");

    for (n = 0; n < TEST_STREAMS; n++) {
        for (i = 0; i < test_streams[n].len; i++) {
            test_run(test_streams[n].data, i, NULL, 0, &result);

            tap_int(result.rc, NGX_AGAIN, "%lu bytes of stream %lu",
                    (unsigned long) i, (unsigned long) n);
            tap_ok(result.len < strlen(test_streams[n].dump)
                   && memcmp(result.dump, test_streams[n].dump, result.len)
                      == 0,
                   "%lu bytes of stream %lu: \"%s\"", (unsigned long) i,
                   (unsigned long) n, result.dump);
        }
    }

    tap_case("NULL may be freed");

    test_begin();
    ngx_http_agntkey_redis_resp_free(NULL);
    ngx_http_agntkey_redis_resp_destroy(NULL);
    test_end("NULL");
}


static void
test_order(void)
{
    char                             stream[16], expected[16];
    size_t                           i, off, len;
    ngx_http_agntkey_redis_reply_t  *reply;
    ngx_http_agntkey_redis_resp_t   *resp;
    u_char                          *buf;

    tap_case("a thousand replies in one piece come in their order");

    buf = malloc(1000 * sizeof(stream));
    if (buf == NULL) {
        tap_ok(0, "no memory");
        return;
    }

    for (i = 0, len = 0; i < 1000; i++) {
        len += sprintf((char *) buf + len, "$4\r\n%04lu\r\n",
                       (unsigned long) i);
    }

    test_begin();

    resp = ngx_http_agntkey_redis_resp_create(0);
    tap_ok(resp != NULL, "create");
    tap_int(ngx_http_agntkey_redis_resp_feed(resp, buf, len), NGX_OK, "feed");

    for (i = 0; i < 1000; i++) {
        sprintf(expected, "%04lu", (unsigned long) i);

        if (!tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_OK,
                     "reply %lu", (unsigned long) i))
        {
            break;
        }

        tap_str(&reply->str, expected, "reply %lu", (unsigned long) i);
        ngx_http_agntkey_redis_resp_free(reply);
    }

    tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_AGAIN,
            "the end");
    ngx_http_agntkey_redis_resp_destroy(resp);
    test_end("a thousand replies");

    tap_case("a reply outlives its reader and the bytes it came from");

    test_begin();

    resp = ngx_http_agntkey_redis_resp_create(0);
    off = sprintf((char *) buf, "*2\r\n$3\r\nfoo\r\n+bar\r\n");
    tap_int(ngx_http_agntkey_redis_resp_feed(resp, buf, off), NGX_OK, "feed");
    memset(buf, '#', 1000);

    if (tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_OK,
                "next")) {
        ngx_http_agntkey_redis_resp_destroy(resp);

        tap_int(reply->type, NGX_HTTP_AGNTKEY_RESP_ARRAY, "type");
        tap_int(reply->nelts, 2, "elements");
        tap_int(reply->elts[0]->type, NGX_HTTP_AGNTKEY_RESP_STRING, "type");
        tap_str(&reply->elts[0]->str, "foo", "first");
        tap_int(reply->elts[1]->type, NGX_HTTP_AGNTKEY_RESP_STATUS, "type");
        tap_str(&reply->elts[1]->str, "bar", "second");

        ngx_http_agntkey_redis_resp_free(reply);
    }

    test_end("a reply on its own");

    __real_free(buf);
}


static void
test_garbage(void)
{
    char           buf[16];
    u_char         c;
    ngx_uint_t     i, n;
    test_result_t  result;

    /* each of these is refused by its last byte at the latest */

    static struct {
        char    *data;
        size_t   len;
    } bad[] = {
        { test_bytes(":\r\n") },
        { test_bytes(":abc\r\n") },
        { test_bytes(": 1\r\n") },
        { test_bytes(":1 \r\n") },
        { test_bytes(":1.5\r\n") },
        { test_bytes(":--1\r\n") },
        { test_bytes(":9223372036854775808\r\n") },
        { test_bytes(":99999999999999999999999\r\n") },
        { test_bytes("$\r\n") },
        { test_bytes("$abc\r\n") },
        { test_bytes("$-2\r\n") },
        { test_bytes("$-9223372036854775808\r\n") },
        { test_bytes("$18446744073709551615\r\n") },
        { test_bytes("$99999999999999999999999\r\n") },
        { test_bytes("$3 \r\nfoo\r\n") },
        { test_bytes("*\r\n") },
        { test_bytes("*abc\r\n") },
        { test_bytes("*-2\r\n") },
        { test_bytes("*9223372036854775807\r\n") },
        { test_bytes("*99999999999999999999999\r\n") },
        { test_bytes("*1\r\nX\r\n") },
        { test_bytes("*2\r\n:1\r\nX\r\n") },
        { test_bytes("*2\r\n$3\r\nfoo\r\n\r\n") },
        { test_bytes("+OK\r\nHTTP/1.1 400 Bad Request\r\n") },
        { test_bytes("HTTP/1.1 400 Bad Request\r\n\r\n") },
        { test_bytes("\x15\x03\x01\x00\x02\x02\x28") },
        { test_bytes("SSH-2.0-OpenSSH\r\n") }
    };

    /* a text whose end is not where its length says */

    static struct {
        char    *data;
        size_t   len;
    } unended[] = {
        { test_bytes("$3\r\nfooXY") },
        { test_bytes("$3\r\nfoo\r\r") },
        { test_bytes("$3\r\nfoo\n\n") },
        { test_bytes("$3\r\nfoo\n\r") },
        { test_bytes("$3\r\nfoo\rX") },
        { test_bytes("$3\r\nfooX\n") },
        { test_bytes("$2\r\nfoo\r\n") },
        { test_bytes("$4\r\nfoo\r\n+OK\r\n") },
        { test_bytes("$0\r\n:1\r\n") },
        { test_bytes("*1\r\n$3\r\nfooXY") },
        { test_bytes("*2\r\n$1\r\na\r\n$3\r\nfooXY") }
    };

    static struct {
        char    *data;
        size_t   len;
    } resp3[] = {
        { test_bytes("_\r\n") },
        { test_bytes("*1\r\n_\r\n") },
        { test_bytes("#t\r\n") },
        { test_bytes("#f\r\n") },
        { test_bytes(",1.5\r\n") },
        { test_bytes(",inf\r\n") },
        { test_bytes("(12345678901234567890\r\n") },
        { test_bytes("%0\r\n") },
        { test_bytes("%1\r\n+a\r\n+b\r\n") },
        { test_bytes("~1\r\n+a\r\n") },
        { test_bytes(">2\r\n+a\r\n+b\r\n") },
        { test_bytes("=7\r\ntxt:abc\r\n") },
        { test_bytes("!5\r\nERR x\r\n") },
        { test_bytes("*1\r\n#t\r\n") },
        { test_bytes("*1\r\n,1.5\r\n") },
        { test_bytes("*1\r\n%1\r\n+a\r\n+b\r\n") },
        { test_bytes("*2\r\n+a\r\n~0\r\n") }
    };

    tap_case("what begins like no reply is refused, byte by byte");

    for (n = 0; n < 256; n++) {
        c = (u_char) n;

        if (c && strchr("+-:$*", c)) {
            continue;
        }

        i = sprintf(buf, "%c?\r\n", c ? c : '#');
        buf[0] = (char) c;

        test_run(buf, i, NULL, 0, &result);
        tap_int(result.rc, NGX_ERROR, "%02x", c);
        tap_int(result.replies, 0, "replies after %02x", c);
        tap_ok(result.error[0] != '\0', "%02x has a reason", c);
    }

    tap_case("numbers and lengths that are none are refused");

    for (n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
        test_run(bad[n].data, bad[n].len, NULL, 0, &result);
        tap_int(result.rc, NGX_ERROR, "\"%.10s\"", bad[n].data);
        tap_ok(result.error[0] != '\0', "\"%.10s\" has a reason",
               bad[n].data);
    }

    tap_case("a text without CR LF where it ends is refused");

    for (n = 0; n < sizeof(unended) / sizeof(unended[0]); n++) {
        test_run(unended[n].data, unended[n].len, NULL, 0, &result);
        tap_int(result.rc, NGX_ERROR, "stream %lu", (unsigned long) n);
        tap_int(result.replies, 0, "replies of stream %lu",
                (unsigned long) n);
        tap_ok(result.error[0] != '\0', "stream %lu has a reason",
               (unsigned long) n);
    }

    tap_case("the types of RESP3 are refused");

    for (n = 0; n < sizeof(resp3) / sizeof(resp3[0]); n++) {
        test_run(resp3[n].data, resp3[n].len, NULL, 0, &result);
        tap_int(result.rc, NGX_ERROR, "\"%.10s\"", resp3[n].data);
        tap_int(result.replies, 0, "replies of \"%.10s\"", resp3[n].data);
        tap_ok(result.error[0] != '\0', "\"%.10s\" has a reason",
               resp3[n].data);
    }
}


static void
test_after_error(void)
{
    ngx_uint_t                       n;
    ngx_http_agntkey_redis_resp_t   *resp;
    ngx_http_agntkey_redis_reply_t  *reply;

    u_char                          *buf;
    size_t                           len;
    test_result_t                    whole, parts;
    char                             head[32];

    static struct {
        char    *data;
        size_t   len;
    } bad[] = {
        { test_bytes("X\r\n") },
        { test_bytes("*4294967295\r\n") },
        { test_bytes("*2\r\n:1\r\n$3\r\nfooXY") }
    };

    tap_case("before an error there is no reason");

    test_begin();
    resp = ngx_http_agntkey_redis_resp_create(0);
    tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_AGAIN, "next");
    tap_int(ngx_http_agntkey_redis_resp_error(resp)[0], '\0', "error");
    ngx_http_agntkey_redis_resp_destroy(resp);
    test_end("an idle reader");

    tap_case("after an error nothing is read any more");

    for (n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
        test_begin();
        resp = ngx_http_agntkey_redis_resp_create(0);

        tap_int(ngx_http_agntkey_redis_resp_feed(resp, (u_char *) bad[n].data,
                                                 bad[n].len),
                NGX_OK, "feed");
        tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_ERROR,
                "next");
        tap_int(ngx_http_agntkey_redis_resp_feed(resp, (u_char *) "+OK\r\n", 5),
                NGX_ERROR, "feed after the error");
        tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_ERROR,
                "next after the error");

        ngx_http_agntkey_redis_resp_destroy(resp);
        test_end("after an error");
    }

    tap_case("what was given up stays so, even when its end comes");

    buf = malloc(2000000);
    if (buf == NULL) {
        tap_ok(0, "no memory");
        return;
    }

    memset(buf, 'x', 2000000);
    buf[0] = '+';

    test_begin();
    resp = ngx_http_agntkey_redis_resp_create(0);
    tap_int(ngx_http_agntkey_redis_resp_feed(resp, buf, 2000000), NGX_OK,
            "feed");
    tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_ERROR, "next");
    tap_int(ngx_http_agntkey_redis_resp_feed(resp, (u_char *) "\r\n+OK\r\n", 7),
            NGX_ERROR, "feed after the error");
    tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_ERROR,
            "next after the error");
    ngx_http_agntkey_redis_resp_destroy(resp);
    test_end("after a reply that is too long");

    __real_free(buf);

    tap_case("at the bound, too, it does not matter how the bytes come");

    for (len = 1048540; len < 1048600; len++) {
        sprintf(head, "$%lu\r\n", (unsigned long) len);

        test_repeat(&whole, head, "x", len, "\r\n", 4000000);
        test_repeat(&parts, head, "x", len, "\r\n",
                    strlen(head) + len + 1);

        tap_int(whole.replies, len < NGX_HTTP_AGNTKEY_RESP_BYTES,
                "%lu bytes", (unsigned long) len);
        tap_int(parts.replies, whole.replies, "%lu bytes in parts",
                (unsigned long) len);
        tap_int(parts.rc, whole.rc, "%lu bytes in parts",
                (unsigned long) len);
    }
}


static void
test_bounds(void)
{
    size_t          i, n;
    u_char         *buf;
    test_result_t   result;

    static struct {
        char    *data;
        size_t   len;
    } huge[] = {
        { test_bytes("*4294967295\r\n") },
        { test_bytes("*4294967296\r\n") },
        { test_bytes("*2147483647\r\n") },
        { test_bytes("*1048576\r\n") },
        { test_bytes("*16385\r\n") },
        { test_bytes("*1\r\n*16385\r\n") },
        { test_bytes("*1\r\n*4294967295\r\n") }
    };

    tap_case("an array beyond the bounds is refused when it is announced");

    for (n = 0; n < sizeof(huge) / sizeof(huge[0]); n++) {
        test_run(huge[n].data, huge[n].len, NULL, 0, &result);
        tap_int(result.rc, NGX_ERROR, "stream %lu", (unsigned long) n);
        tap_ok(test_taken < 8192, "stream %lu took %lu bytes",
               (unsigned long) n, (unsigned long) test_taken);
        tap_ok(result.error[0] != '\0', "stream %lu has a reason",
               (unsigned long) n);
    }

    test_run("*16384\r\n", 8, NULL, 0, &result);
    tap_int(result.rc, NGX_AGAIN, "16384 elements may come");

    tap_case("a reply has at most 16384 elements, the arrays among them");

    test_repeat(&result, "*16383\r\n", ":1\r\n", 16383, "", 4096);
    tap_int(result.rc, NGX_AGAIN, "16383 and their array");
    tap_int(result.replies, 1, "16383 and their array");

    test_repeat(&result, "*16384\r\n", ":1\r\n", 16384, "", 4096);
    tap_int(result.rc, NGX_ERROR, "16384 and their array");
    tap_int(result.replies, 0, "16384 and their array");

    test_repeat(&result, "*8192\r\n", "*1\r\n:1\r\n", 8192, "", 4096);
    tap_int(result.rc, NGX_ERROR, "8192 arrays of one");

    test_repeat(&result, "*10000\r\n", "*0\r\n", 10000, "", 4096);
    tap_int(result.rc, NGX_AGAIN, "10000 empty arrays");
    tap_int(result.replies, 1, "10000 empty arrays");

    /* the count begins anew with each reply */

    test_repeat(&result, "", "*2\r\n:1\r\n:2\r\n", 10000, "", 4096);
    tap_int(result.rc, NGX_AGAIN, "10000 replies of three");
    tap_int(result.replies, 10000, "10000 replies of three");

    tap_case("arrays in arrays do not multiply what is asked for");

    for (i = 4096; i <= 16384; i *= 2) {
        char  item[16];

        sprintf(item, "*%lu\r\n", (unsigned long) i);

        test_repeat(&result, "", item, 1000, "", 4096);
        tap_int(result.rc, NGX_ERROR, "a thousand times %s", item);
        tap_ok(test_taken < 2 * NGX_HTTP_AGNTKEY_RESP_BYTES,
               "%s took %lu bytes", item, (unsigned long) test_taken);
    }

    tap_case("a reply has at most a megabyte of text");

    test_repeat(&result, "*1000\r\n$1000\r\n", "x", 1000, "\r\n", 65536);
    tap_int(result.rc, NGX_AGAIN, "the first of a thousand");

    buf = malloc(1010);
    if (buf == NULL) {
        tap_ok(0, "no memory");
        return;
    }

    memset(buf, 'x', 1010);
    memcpy(buf, "$1000\r\n", 7);
    memcpy(buf + 1007, "\r\n", 3);

    test_repeat(&result, "*1000\r\n", (char *) buf, 1000, "", 65536);
    tap_int(result.rc, NGX_AGAIN, "a thousand times a thousand");
    tap_int(result.replies, 1, "a thousand times a thousand");

    test_repeat(&result, "*1100\r\n", (char *) buf, 1100, "", 65536);
    tap_int(result.rc, NGX_ERROR, "1100 times a thousand");
    tap_int(result.replies, 0, "1100 times a thousand");
    tap_ok(result.error[0] != '\0', "a reason");

    /* five megabytes, none of the replies above one */

    test_repeat(&result, "", (char *) buf, 5000, "", 65536);
    tap_int(result.rc, NGX_AGAIN, "5000 replies of a thousand");
    tap_int(result.replies, 5000, "5000 replies of a thousand");

    __real_free(buf);

    test_repeat(&result, "$1000000\r\n", "x", 1000000, "\r\n", 65536);
    tap_int(result.rc, NGX_AGAIN, "one of a million");
    tap_int(result.replies, 1, "one of a million");

    test_repeat(&result, "$1048577\r\n", "x", 1048577, "\r\n", 4000000);
    tap_int(result.rc, NGX_ERROR, "a megabyte and one, in one piece");
    tap_int(result.replies, 0, "a megabyte and one, in one piece");

    tap_case("what never ends is given up after a megabyte, or before");

    test_repeat(&result, "$34359738368\r\n", "x", 2000000, "", 65536);
    tap_int(result.rc, NGX_ERROR, "a text of 32 GB");
    tap_ok(result.error[0] != '\0', "a reason");

    test_repeat(&result, "$34359738368\r\n", "x", 1, "", 65536);
    tap_int(result.rc, NGX_ERROR, "the first of the 32 GB");

    test_repeat(&result, "+", "x", 2 * 1024 * 1024, "", 65536);
    tap_int(result.rc, NGX_ERROR, "a status");

    test_repeat(&result, "-", "x", 2 * 1024 * 1024, "", 65536);
    tap_int(result.rc, NGX_ERROR, "an error");

    test_repeat(&result, ":", "1", 2 * 1024 * 1024, "", 65536);
    tap_int(result.rc, NGX_ERROR, "an integer");

    test_repeat(&result, "*", "1", 2 * 1024 * 1024, "", 65536);
    tap_int(result.rc, NGX_ERROR, "an array's count");

    test_repeat(&result, "*2\r\n:1\r\n$", "1", 2 * 1024 * 1024, "", 65536);
    tap_int(result.rc, NGX_ERROR, "a text's length inside an array");

    /* not whole by a byte, and only then looked at */

    test_repeat(&result, "+", "x", 2 * 1024 * 1024, "", 4000000);
    tap_int(result.rc, NGX_ERROR, "a status in one piece");
}


/* what is beyond the bounds, and how little of it is kept */

static struct {
    const char  *head;
    const char  *item;
    size_t       n;
    const char  *tail;
} test_larges[] = {
    { "$2000000\r\n", "x", 2000000, "\r\n" },
    { "$1048576\r\n", "x", 1048576, "\r\n" },
    { "*8\r\n$1\r\na\r\n$2000000\r\n", "x", 2000000,
      "\r\n$-1\r\n:1\r\n+OK\r\n-ERR\r\n*0\r\n$1\r\nb\r\n" },
    { "*2\r\n*1\r\n*2\r\n$2000000\r\n", "x", 2000000,
      "\r\n:1\r\n*1\r\n*1\r\n:1\r\n" },
    { "*3000\r\n", "$1000\r\n"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789"
      "01234567890123456789\r\n", 3000, "" },
    { "*16385\r\n", ":1\r\n", 16385, "" },
    { "*16384\r\n", ":1\r\n", 16384, "" },
    { "*8192\r\n", "*1\r\n:1\r\n", 8192, "" },
    { "*100000\r\n", "*2\r\n$2\r\nab\r\n$-1\r\n", 100000, "" },
    { "*1\r\n*1000000\r\n", "+\r\n", 1000000, "" }
};

#define TEST_LARGES   (sizeof(test_larges) / sizeof(test_larges[0]))


/* one of them between two others, as bytes that the caller frees */

static u_char *
test_large_stream(ngx_uint_t n, size_t *len)
{
    size_t   i;
    u_char  *buf, *p;

    buf = malloc(64 + strlen(test_larges[n].head)
                 + test_larges[n].n * strlen(test_larges[n].item)
                 + strlen(test_larges[n].tail));
    if (buf == NULL) {
        printf("Bail out! no memory\n");
        exit(1);
    }

    p = ngx_cpymem(buf, "+before\r\n", 9);
    p = ngx_cpymem(p, test_larges[n].head, strlen(test_larges[n].head));

    for (i = 0; i < test_larges[n].n; i++) {
        p = ngx_cpymem(p, test_larges[n].item, strlen(test_larges[n].item));
    }

    p = ngx_cpymem(p, test_larges[n].tail, strlen(test_larges[n].tail));
    p = ngx_cpymem(p, "*1\r\n:2\r\n+behind\r\n", 17);

    *len = p - buf;

    return buf;
}


/* the bytes in pieces of that size, the first of them of another one */

static void
test_large_run(u_char *buf, size_t len, size_t first, size_t chunk,
    size_t skip, test_result_t *result)
{
    size_t                          n;
    ngx_http_agntkey_redis_resp_t  *resp;

    memset(result, 0, sizeof(test_result_t));
    result->rc = NGX_AGAIN;
    result->dump = test_text;
    test_text[0] = '\0';

    test_begin();
    resp = ngx_http_agntkey_redis_resp_create(skip);

    for (n = ngx_min(first, len);
         len && result->rc == NGX_AGAIN;
         n = ngx_min(chunk, len))
    {
        if (ngx_http_agntkey_redis_resp_feed(resp, buf, n) != NGX_OK) {
            tap_ok(0, "feed");
        }

        result->rc = test_drain(resp, result);
        buf += n;
        len -= n;
    }

    if (result->rc == NGX_ERROR) {
        snprintf(result->error, sizeof(result->error), "%s",
                 ngx_http_agntkey_redis_resp_error(resp));
    }

    ngx_http_agntkey_redis_resp_destroy(resp);
    test_end("what is too large");
}


static void
test_large(void)
{
    size_t          len, i, from, chunk;
    u_char         *buf;
    ngx_uint_t      n;
    const char     *all;
    test_result_t   result;

    static size_t  chunks[] = { 101, 4000, 16384, 10000000 };

    all = "+\"before\";-!\"reply too large\";[:2,];+\"behind\";";

    tap_case("a reply beyond the bounds is passed by, not those behind it");

    for (n = 0; n < TEST_LARGES; n++) {
        buf = test_large_stream(n, &len);

        for (i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
            test_large_run(buf, len, chunks[i], chunks[i],
                           NGX_HTTP_AGNTKEY_RESP_SKIP, &result);

            tap_int(result.rc, NGX_AGAIN, "stream %lu, pieces of %lu: \"%s\"",
                    (unsigned long) n, (unsigned long) chunks[i],
                    result.error);
            tap_mem(result.dump, result.len, all, strlen(all),
                    "stream %lu, pieces of %lu", (unsigned long) n,
                    (unsigned long) chunks[i]);
            tap_ok(test_taken < 2 * NGX_HTTP_AGNTKEY_RESP_BYTES,
                   "stream %lu took %lu bytes", (unsigned long) n,
                   (unsigned long) test_taken);
        }

        __real_free(buf);
    }

    tap_case("wherever it is cut at its beginning and its end");

    for (n = 0; n < TEST_LARGES; n++) {
        buf = test_large_stream(n, &len);

        for (i = 1; i < 80; i += 3) {
            from = (i < 40) ? i : len - (80 - i);

            for (chunk = (i < 40) ? 10000000 : 1;
                 chunk <= 10000000;
                 chunk *= 10000000)
            {
                test_large_run(buf, i < 40 ? ngx_min(len, 100000) : len, from,
                               i < 40 ? 65536 : chunk,
                               NGX_HTTP_AGNTKEY_RESP_SKIP, &result);

                tap_int(result.rc, NGX_AGAIN, "stream %lu cut at %lu",
                        (unsigned long) n, (unsigned long) from);

                if (i >= 40) {
                    tap_mem(result.dump, result.len, all, strlen(all),
                            "stream %lu cut at %lu", (unsigned long) n,
                            (unsigned long) from);
                }
            }
        }

        __real_free(buf);
    }

    tap_case("one that is not whole is none");

    for (n = 0; n < TEST_LARGES; n++) {
        buf = test_large_stream(n, &len);

        for (i = 18; i < 40; i += 5) {
            test_large_run(buf, len - i, 65536, 65536,
                           NGX_HTTP_AGNTKEY_RESP_SKIP, &result);

            tap_int(result.rc, NGX_AGAIN, "stream %lu less %lu",
                    (unsigned long) n, (unsigned long) i);
            tap_int(result.replies, 1, "stream %lu less %lu",
                    (unsigned long) n, (unsigned long) i);
        }

        __real_free(buf);
    }

    tap_case("who may not drop anything gives up");

    for (n = 0; n < TEST_LARGES; n++) {
        buf = test_large_stream(n, &len);

        test_large_run(buf, len, 16384, 16384, 0, &result);
        tap_int(result.rc, NGX_ERROR, "stream %lu", (unsigned long) n);
        tap_int(result.replies, 1, "stream %lu", (unsigned long) n);
        tap_mem(result.error, strlen(result.error), "reply too large", 15,
                "stream %lu", (unsigned long) n);

        /* nor who may drop a little less than this is */

        test_large_run(buf, len, 16384, 16384, (n == 6 || n == 7) ? 3 : 60000,
                       &result);
        tap_int(result.rc, NGX_ERROR, "stream %lu", (unsigned long) n);
        tap_int(result.replies, 1, "stream %lu", (unsigned long) n);

        __real_free(buf);
    }

    tap_case("what is passed by must end where its length says");

    for (i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        for (n = 0; n < 4; n++) {
            buf = test_large_stream(0, &len);
            buf[len - 17 - 2 + (n & 1)] = (n & 2) ? 'x' : CR + LF - buf[len - 17
                                                               - 2 + (n & 1)];

            test_large_run(buf, len, chunks[i], chunks[i],
                           NGX_HTTP_AGNTKEY_RESP_SKIP, &result);
            tap_int(result.rc, NGX_ERROR, "end %lu, pieces of %lu",
                    (unsigned long) n, (unsigned long) chunks[i]);
            tap_mem(result.error, strlen(result.error),
                    "text without its end", 20, "end %lu", (unsigned long) n);

            __real_free(buf);
        }
    }

    tap_case("what is announced is given up when it could not be passed by");

    test_large_run((u_char *) "*16777217\r\n", 11, 20, 20,
                   NGX_HTTP_AGNTKEY_RESP_SKIP, &result);
    tap_int(result.rc, NGX_ERROR, "16777217 elements");

    test_large_run((u_char *) "*16777216\r\n", 11, 20, 20,
                   NGX_HTTP_AGNTKEY_RESP_SKIP, &result);
    tap_int(result.rc, NGX_AGAIN, "16777216 elements");

    test_large_run((u_char *) "$67108864\r\n", 11, 20, 20,
                   NGX_HTTP_AGNTKEY_RESP_SKIP, &result);
    tap_int(result.rc, NGX_ERROR, "64 MB");

    test_large_run((u_char *) "$67108859\r\n", 11, 20, 20,
                   NGX_HTTP_AGNTKEY_RESP_SKIP, &result);
    tap_int(result.rc, NGX_AGAIN, "a little less");
}


static void
test_depth(void)
{
    size_t         depth;
    ngx_uint_t     refused;
    test_result_t  result;

    tap_case("arrays seven deep are read, any depth does no harm");

    refused = 0;

    for (depth = 1; depth < 40000; depth = (depth < 20) ? depth + 1
                                                        : depth * 2)
    {
        test_repeat(&result, "", "*1\r\n", depth, ":1\r\n", 65536);

        if (depth <= 7) {
            tap_int(result.rc, NGX_AGAIN, "depth %lu",
                    (unsigned long) depth);
            tap_int(result.replies, 1, "depth %lu", (unsigned long) depth);
            continue;
        }

        /* a newer hiredis goes deeper, up to the bound on elements */

        if (result.rc == NGX_ERROR) {
            refused = 1;
            tap_ok(result.error[0] != '\0', "depth %lu has a reason",
                   (unsigned long) depth);
            tap_int(result.replies, 0, "depth %lu", (unsigned long) depth);

        } else {
            tap_ok(!refused && depth < 16384, "depth %lu",
                   (unsigned long) depth);
            tap_int(result.replies, 1, "depth %lu", (unsigned long) depth);
        }
    }

    tap_int(refused, 1, "an end to it");
}


static void
test_no_memory(void)
{
    ngx_int_t                        n, rc;
    ngx_uint_t                       i, survived;
    ngx_http_agntkey_redis_resp_t   *resp;
    ngx_http_agntkey_redis_reply_t  *reply;

    tap_case("without memory there is an error, and nothing is lost");

    for (i = 0; i < TEST_STREAMS; i++) {

        survived = 0;

        for (n = 0; n < 100 && !survived; n++) {
            test_begin();
            test_fail = n;

            resp = ngx_http_agntkey_redis_resp_create(0);

            if (n == 0) {
                tap_ok(resp == NULL, "create without memory");
            }

            if (resp == NULL) {
                test_fail = -1;
                test_end("create without memory");
                continue;
            }

            tap_int(ngx_http_agntkey_redis_resp_feed(resp,
                                       (u_char *) test_streams[i].data,
                                       test_streams[i].len),
                    NGX_OK, "feed");

            while ((rc = ngx_http_agntkey_redis_resp_next(resp,
                                                          &reply)) == NGX_OK)
            {
                ngx_http_agntkey_redis_resp_free(reply);
            }

            if (rc == NGX_ERROR) {
                tap_ok(ngx_http_agntkey_redis_resp_error(resp)[0] != '\0',
                       "a reason");

            } else {
                survived = 1;
            }

            ngx_http_agntkey_redis_resp_destroy(resp);
            test_fail = -1;
            test_end("without memory");
        }

        tap_int(survived, 1, "stream %lu with memory enough",
                (unsigned long) i);
        tap_ok(n >= 3, "stream %lu asked for memory %ld times",
               (unsigned long) i, (long) n - 1);
    }
}


#define SCRIPT  "ERR Error running script (call to "                       \
                "f_0123456789abcdef0123456789abcdef01234567): "


static void
test_error_text(void)
{
    u_char                           buf[129], line[400];
    size_t                           len;
    ngx_str_t                        text;
    ngx_uint_t                       i, n;
    ngx_http_agntkey_redis_reply_t   reply;

    static struct {
        char   *error;
        char   *text;
    } errors[] = {
        { "ERR no such", "ERR no such" },
        { "", "" },
        { "NOAUTH Authentication required.",
          "NOAUTH Authentication required." },
        { "ERR unknown command 'FOO', with args beginning with: 's3cret' ",
          "ERR unknown command 'FOO'" },
        { "ERR unknown command `FOO`, with args beginning with: `s3cret`, ",
          "ERR unknown command `FOO`" },
        { ", with args beginning with: 's3cret'", "" },
        { "ERR \x01\t\x1b[31m\x7f\xc3\xa9 ~", "ERR ???[31m??? ~" },

        /* what Redis 6.2 says of an error inside a script */
        { SCRIPT "@user_script:1: @user_script: 1: -OOM command not allowed "
          "when used memory > 'maxmemory'.",
          "OOM command not allowed when used memory > 'maxmemory'." },
        { SCRIPT "@user_script:1: @user_script: 1: The user executing the "
          "script can't run this command or subcommand",
          "ERR The user executing the script can't run this command or "
          "subcommand" },
        { SCRIPT "@user_script:1: user_script:1: attempt to compare nil",
          "ERR user_script:1: attempt to compare nil" },
        { SCRIPT "@user_script:1: WRONGTYPE Operation against a key",
          "WRONGTYPE Operation against a key" },
        { SCRIPT "@user_script:1: ERR unknown command `FOO`, with args "
          "beginning with: `s3cret`, ", "ERR unknown command `FOO`" },
        { SCRIPT "-", "ERR " },
        { SCRIPT "-O", "ERR O" },
        { SCRIPT "", "ERR " },
        { SCRIPT "@user_script:", "ERR @user_script:" },
        { SCRIPT "@user_script: ", "ERR @user_script: " },
        { "ERR Error running script (", "ERR Error running script (" },
        { "ERR Error running script (call to f_00", "ERR Error running script "
          "(call to f_00" }
    };

    tap_case("an error for the log: no arguments, no controls, not too long");

    memset(&reply, 0, sizeof(reply));
    reply.type = NGX_HTTP_AGNTKEY_RESP_ERROR;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        reply.str = tap_text(errors[i].error);
        memset(buf, '#', sizeof(buf));

        ngx_http_agntkey_redis_resp_error_text(&reply, buf, &text);

        tap_ok(text.data == buf, "the text is in the buffer");
        tap_str(&text, errors[i].text, "error %lu", (unsigned long) i);
        tap_int(buf[128], '#', "the byte behind the buffer");
    }

    /* wherever the arguments begin, and however long all of it is */

    for (len = 0; len < 300; len++) {
        memset(line, 'e', sizeof(line));

        if (len >= 150) {
            memcpy(line, SCRIPT, sizeof(SCRIPT) - 1);
        }

        i = len + sprintf((char *) line + len, ", with args: XXXX");
        reply.str = tap_bytes(line, i);
        memset(buf, '#', sizeof(buf));

        ngx_http_agntkey_redis_resp_error_text(&reply, buf, &text);

        tap_ok(text.len <= 128, "%lu bytes", (unsigned long) text.len);
        tap_int(buf[128], '#', "the byte behind the buffer");

        for (n = 0; n < text.len && n < 128; n++) {
            tap_ok(buf[n] != 'X', "an argument, after %lu bytes",
                   (unsigned long) len);
        }
    }
}


static void
test_format(void)
{
    u_char                           all[256];
    uint64_t                         state;
    ngx_str_t                        argv[40], cmd;
    ngx_uint_t                       i, n, argc;
    ngx_http_agntkey_redis_resp_t   *resp;
    ngx_http_agntkey_redis_reply_t  *reply;

    tap_case("a command is an array of bulk strings");

    argv[0] = tap_text("HMGET");
    argv[1] = tap_text("key");
    argv[2] = tap_text("");
    argv[3] = tap_bytes("a\r\nb\0", 5);

    tap_int(ngx_http_agntkey_redis_resp_format(argv, 4, &cmd), NGX_OK,
            "format");

#define TEST_COMMAND                                                          \
    "*4\r\n$5\r\nHMGET\r\n$3\r\nkey\r\n$0\r\n\r\n$5\r\na\r\nb\0\r\n"

    tap_mem(cmd.data, cmd.len, TEST_COMMAND, sizeof(TEST_COMMAND) - 1,
            "command");

    ngx_http_agntkey_redis_resp_format_free(&cmd);
    tap_ok(cmd.data == NULL && cmd.len == 0, "nothing left of it");

    tap_case("at most 32 arguments");

    for (i = 0; i < 40; i++) {
        argv[i] = tap_text("x");
    }

    for (argc = 1; argc <= 40; argc++) {
        n = ngx_http_agntkey_redis_resp_format(argv, argc, &cmd);
        tap_int(n, (argc <= 32) ? NGX_OK : (ngx_uint_t) NGX_ERROR,
                "%lu arguments", (unsigned long) argc);

        if (n == NGX_OK) {
            ngx_http_agntkey_redis_resp_format_free(&cmd);
        }
    }

    tap_case("what was formatted is read back, whatever the bytes");

    state = 5;

    for (i = 0; i < 256; i++) {
        all[i] = (u_char) i;
    }

    for (n = 0; n < 200; n++) {
        argc = 1 + tap_random(&state) % 32;

        for (i = 0; i < argc; i++) {
            argv[i] = tap_bytes(all, tap_random(&state) % 257);

            if (argv[i].len > 1) {
                argv[i].data[tap_random(&state) % argv[i].len] =
                                               (u_char) tap_random(&state);
            }
        }

        if (n == 0) {
            ngx_str_null(&argv[0]);
        }

        tap_int(ngx_http_agntkey_redis_resp_format(argv, argc, &cmd), NGX_OK,
                "format");

        resp = ngx_http_agntkey_redis_resp_create(0);
        tap_int(ngx_http_agntkey_redis_resp_feed(resp, cmd.data, cmd.len),
                NGX_OK, "feed");
        ngx_http_agntkey_redis_resp_format_free(&cmd);

        if (!tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_OK,
                     "next"))
        {
            ngx_http_agntkey_redis_resp_destroy(resp);
            continue;
        }

        tap_int(reply->type, NGX_HTTP_AGNTKEY_RESP_ARRAY, "type");
        tap_int(reply->nelts, argc, "elements");

        for (i = 0; i < reply->nelts && i < argc; i++) {
            tap_int(reply->elts[i]->type, NGX_HTTP_AGNTKEY_RESP_STRING,
                    "type of an argument");
            tap_mem(reply->elts[i]->str.data, reply->elts[i]->str.len,
                    argv[i].data, argv[i].len, "argument %lu",
                    (unsigned long) i);
        }

        ngx_http_agntkey_redis_resp_free(reply);
        tap_int(ngx_http_agntkey_redis_resp_next(resp, &reply), NGX_AGAIN,
                "nothing behind it");
        ngx_http_agntkey_redis_resp_destroy(resp);
    }
}


static void
test_noise(void)
{
    u_char         buf[200];
    size_t         cuts[3], len, i;
    uint64_t       state;
    ngx_uint_t     n;
    test_result_t  whole, parts;
    char           dump[TEST_DUMP_MAX];

    static char  alphabet[] = "+-:$*\r\n\r\n\r\n\r\n01234-x";

    tap_case("noise does no harm, and in pieces it is the same noise");

    state = 6;

    for (n = 0; n < 20000; n++) {
        len = 1 + tap_random(&state) % sizeof(buf);

        for (i = 0; i < len; i++) {
            buf[i] = alphabet[tap_random(&state) % (sizeof(alphabet) - 1)];
        }

        buf[0] = "+-:$*"[tap_random(&state) % 5];

        cuts[0] = tap_random(&state) % (len + 1);
        cuts[1] = cuts[0] + tap_random(&state) % (len - cuts[0] + 1);
        cuts[2] = cuts[1] + tap_random(&state) % (len - cuts[1] + 1);

        test_run(buf, len, NULL, 0, &whole);
        memcpy(dump, whole.dump, whole.len + 1);
        whole.dump = dump;

        test_run(buf, len, cuts, 3, &parts);

        tap_int(parts.rc, whole.rc, "noise %lu", (unsigned long) n);
        tap_mem(parts.dump, parts.len, whole.dump, whole.len, "noise %lu",
                (unsigned long) n);
    }
}


int
main(void)
{
    test_replies();
    test_unfinished();
    test_order();
    test_garbage();
    test_after_error();
    test_bounds();
    test_large();
    test_depth();
    test_no_memory();
    test_error_text();
    test_format();
    test_noise();

    return tap_done();
}


static void
test_begin(void)
{
    test_live = 0;
    test_taken = 0;
    test_largest = 0;
}


static void
test_end(const char *what)
{
    tap_int(test_live, 0, "blocks not given back: %s", what);
    tap_ok(test_largest <= TEST_BLOCK_MAX, "%s asked for %lu bytes", what,
           (unsigned long) test_largest);
}


/* every reply there is; what the last call said */

static ngx_int_t
test_drain(ngx_http_agntkey_redis_resp_t *resp, test_result_t *result)
{
    ngx_int_t                        rc;
    ngx_http_agntkey_redis_reply_t  *reply;

    for ( ;; ) {
        rc = ngx_http_agntkey_redis_resp_next(resp, &reply);

        if (rc != NGX_OK) {
            return rc;
        }

        result->replies++;

        if (result->dump) {
            test_dump(result, reply);
            test_put(result, ";");
        }

        ngx_http_agntkey_redis_resp_free(reply);
    }
}


/* the bytes, cut where it is said, into a new reader */

static void
test_run(const void *data, size_t len, size_t *cuts, ngx_uint_t ncuts,
    test_result_t *result)
{
    size_t                          from, to;
    u_char                         *copy;
    ngx_uint_t                      i;
    ngx_http_agntkey_redis_resp_t  *resp;

    memset(result, 0, sizeof(test_result_t));
    result->rc = NGX_AGAIN;
    result->dump = test_text;
    test_text[0] = '\0';

    test_begin();

    resp = ngx_http_agntkey_redis_resp_create(0);
    if (resp == NULL) {
        tap_ok(0, "no reader");
        return;
    }

    from = 0;

    for (i = 0; i <= ncuts && result->rc != NGX_ERROR; i++) {
        to = (i < ncuts) ? cuts[i] : len;

        /* what was handed over may be gone at once */

        copy = malloc(to - from + 1);
        memcpy(copy, (u_char *) data + from, to - from);

        if (ngx_http_agntkey_redis_resp_feed(resp, copy, to - from) != NGX_OK) {
            tap_ok(0, "feed");
        }

        __real_free(copy);

        result->rc = test_drain(resp, result);
        from = to;
    }

    if (result->rc == NGX_ERROR) {
        snprintf(result->error, sizeof(result->error), "%s",
                 ngx_http_agntkey_redis_resp_error(resp));
    }

    ngx_http_agntkey_redis_resp_destroy(resp);

    test_end("a reader");
}


/* head, n times item, tail; fed in chunks, until there is an error */

static void
test_repeat(test_result_t *result, const char *head, const char *item,
    size_t n, const char *tail, size_t chunk)
{
    u_char                         *buf, *p, *last;
    size_t                          i, size, len;
    ngx_http_agntkey_redis_resp_t  *resp;

    memset(result, 0, sizeof(test_result_t));
    result->rc = NGX_AGAIN;

    len = strlen(item);
    buf = malloc(strlen(head) + n * len + strlen(tail) + 1);
    if (buf == NULL) {
        tap_ok(0, "no memory");
        return;
    }

    p = ngx_cpymem(buf, head, strlen(head));

    for (i = 0; i < n; i++) {
        p = ngx_cpymem(p, item, len);
    }

    last = ngx_cpymem(p, tail, strlen(tail));

    test_begin();
    resp = ngx_http_agntkey_redis_resp_create(0);

    for (p = buf; p < last && result->rc == NGX_AGAIN; p += size) {
        size = ngx_min(chunk, (size_t) (last - p));

        if (ngx_http_agntkey_redis_resp_feed(resp, p, size) != NGX_OK) {
            tap_ok(0, "feed");
        }

        result->rc = test_drain(resp, result);
    }

    if (result->rc == NGX_ERROR) {
        snprintf(result->error, sizeof(result->error), "%s",
                 ngx_http_agntkey_redis_resp_error(resp));
    }

    ngx_http_agntkey_redis_resp_destroy(resp);
    test_end(head);

    __real_free(buf);
}


static void
test_dump(test_result_t *result, ngx_http_agntkey_redis_reply_t *r)
{
    size_t      i;
    ngx_uint_t  n;

    switch (r->type) {

    case NGX_HTTP_AGNTKEY_RESP_NIL:
        test_put(result, "nil");
        return;

    case NGX_HTTP_AGNTKEY_RESP_INTEGER:
        test_put(result, ":%lld", (long long) r->integer);
        return;

    case NGX_HTTP_AGNTKEY_RESP_ARRAY:
        test_put(result, "[");

        for (n = 0; n < r->nelts; n++) {
            test_dump(result, r->elts[n]);
            test_put(result, ",");
        }

        test_put(result, "]");
        return;

    case NGX_HTTP_AGNTKEY_RESP_STATUS:
        test_put(result, "+");
        break;

    case NGX_HTTP_AGNTKEY_RESP_ERROR:
        test_put(result, r->large ? "-!" : "-");
        break;

    case NGX_HTTP_AGNTKEY_RESP_STRING:
        break;

    default:
        test_put(result, "?");
        return;
    }

    test_put(result, "\"");

    for (i = 0; i < r->str.len; i++) {
        if (r->str.data[i] < 0x20 || r->str.data[i] > 0x7e) {
            test_put(result, "\\%02x", r->str.data[i]);

        } else {
            test_put(result, "%c", r->str.data[i]);
        }
    }

    test_put(result, "\"");
}


static void
test_put(test_result_t *result, const char *fmt, ...)
{
    int      n;
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(result->dump + result->len, TEST_DUMP_MAX - result->len,
                  fmt, args);
    va_end(args);

    if (n > 0 && result->len + n < TEST_DUMP_MAX) {
        result->len += n;
    }
}
