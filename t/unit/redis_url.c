
/*
 * Copyright (C) the agntkey authors
 *
 * The text of "agntkey_redis": what is taken, what is refused, and that no
 * refusal repeats a password.
 */


#include "tap.h"

#include <sys/un.h>

#include "ngx_http_agntkey_redis_url.h"


/* stands in every password here, and nowhere else */
#define TEST_SECRET   "XyZ"


static char *test_parse(ngx_str_t *url, u_char **buf,
    ngx_http_agntkey_redis_url_t *u);


static void
test_good(void)
{
    char                          *err;
    u_char                        *buf;
    ngx_str_t                      url;
    ngx_uint_t                     i;
    ngx_http_agntkey_redis_url_t   u;

    static struct {
        char        *url;
        char        *host;
        char        *user;       /* NULL: none was given */
        char        *password;
        ngx_uint_t   port;
        ngx_uint_t   db;
        char        *flags;      /* tls, unix socket, ipv6 */
    } good[] = {
        { "redis://127.0.0.1:6379", "127.0.0.1", NULL, NULL, 6379, 0, "" },
        { "redis://localhost", "localhost", NULL, NULL, 6379, 0, "" },
        { "redis://localhost/", "localhost", NULL, NULL, 6379, 0, "" },
        { "redis://h", "h", NULL, NULL, 6379, 0, "" },
        { "redis://h:1", "h", NULL, NULL, 1, 0, "" },
        { "redis://h:65535", "h", NULL, NULL, 65535, 0, "" },
        { "redis://h:6380/", "h", NULL, NULL, 6380, 0, "" },
        { "redis://h/0", "h", NULL, NULL, 6379, 0, "" },
        { "redis://h/5", "h", NULL, NULL, 6379, 5, "" },
        { "redis://h:7000/15", "h", NULL, NULL, 7000, 15, "" },
        { "redis://h/65535", "h", NULL, NULL, 6379, 65535, "" },
        { "redis://redis.internal.example:7001/3",
          "redis.internal.example", NULL, NULL, 7001, 3, "" },

        { "rediss://h", "h", NULL, NULL, 6379, 0, "t" },
        { "rediss://h:6380/2", "h", NULL, NULL, 6380, 2, "t" },
        { "rediss://u:XyZ@h", "h", "u", "XyZ", 6379, 0, "t" },
        { "rediss://[::1]", "::1", NULL, NULL, 6379, 0, "t6" },

        { "redis://[::1]", "::1", NULL, NULL, 6379, 0, "6" },
        { "redis://[::1]:7000", "::1", NULL, NULL, 7000, 0, "6" },
        { "redis://[::1]/4", "::1", NULL, NULL, 6379, 4, "6" },
        { "redis://[2001:db8::a]:7000/4", "2001:db8::a", NULL, NULL, 7000, 4,
          "6" },
        { "redis://u:XyZ@[2001:db8::a]:7000/4", "2001:db8::a", "u", "XyZ",
          7000, 4, "6" },

        { "redis://user:XyZ@h", "h", "user", "XyZ", 6379, 0, "" },
        { "redis://user:XyZ@h:7000/1", "h", "user", "XyZ", 7000, 1, "" },
        { "redis://:XyZ@h", "h", "", "XyZ", 6379, 0, "" },
        { "redis://user:@h", "h", "user", "", 6379, 0, "" },
        { "redis://:@h", "h", "", "", 6379, 0, "" },
        { "redis://user:XyZ:x@h", "h", "user", "XyZ:x", 6379, 0, "" },
        { "redis://user::XyZ@h", "h", "user", ":XyZ", 6379, 0, "" },
        { "redis://u:XyZ%40%3a%2F%2f%25@h", "h", "u", "XyZ@://%", 6379, 0,
          "" },
        { "redis://%75%3A:XyZ%0a@h", "h", "u:", "XyZ\n", 6379, 0, "" },
        { "redis://u:%58y%5A%ff%01@h", "h", "u", "XyZ\xff\x01", 6379, 0,
          "" },
        { "redis://u:XyZ?#[]&;=!@h", "h", "u", "XyZ?#[]&;=!", 6379, 0, "" },
        { "redis://\xc3\xa9:XyZ\xe2\x82\xac@h", "h", "\xc3\xa9",
          "XyZ\xe2\x82\xac", 6379, 0, "" },
        { "redis://u:XyZ%2525@h", "h", "u", "XyZ%25", 6379, 0, "" },

        { "unix:/run/redis.sock", "/run/redis.sock", NULL, NULL, 0, 0, "u" },
        { "unix:/run/redis.sock?db=0", "/run/redis.sock", NULL, NULL, 0, 0,
          "u" },
        { "unix:/run/redis.sock?db=7", "/run/redis.sock", NULL, NULL, 0, 7,
          "u" },
        { "unix:/run/redis.sock?db=65535", "/run/redis.sock", NULL, NULL, 0,
          65535, "u" },
        { "unix:/r", "/r", NULL, NULL, 0, 0, "u" },
        { "unix:/a:b@c/d", "/a:b@c/d", NULL, NULL, 0, 0, "u" }
    };

    tap_case("every form of URL is taken apart");

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        url = tap_text(good[i].url);

        err = test_parse(&url, &buf, &u);

        if (!tap_ok(err == NULL, "%s: %s", good[i].url, err)) {
            continue;
        }

        tap_str(&u.host, good[i].host, "host of %s", good[i].url);
        tap_int(u.port, good[i].port, "port of %s", good[i].url);
        tap_int(u.db, good[i].db, "database of %s", good[i].url);
        tap_int(u.tls, strchr(good[i].flags, 't') != NULL, "TLS of %s",
                good[i].url);
        tap_int(u.unix_socket, strchr(good[i].flags, 'u') != NULL,
                "unix socket of %s", good[i].url);
        tap_int(u.ipv6, strchr(good[i].flags, '6') != NULL, "IPv6 of %s",
                good[i].url);

        tap_ok(u.host.data >= url.data
               && u.host.data + u.host.len <= url.data + url.len,
               "the host is inside %s", good[i].url);

        if (good[i].user == NULL) {
            tap_int(u.user.len, 0, "user of %s", good[i].url);
            tap_int(u.password.len, 0, "password of %s", good[i].url);
            continue;
        }

        tap_str(&u.user, good[i].user, "user of %s", good[i].url);
        tap_str(&u.password, good[i].password, "password of %s",
                good[i].url);
        tap_ok(u.user.data >= buf
               && u.password.data + u.password.len <= buf + url.len,
               "user and password of %s are in the buffer", good[i].url);
    }
}


static void
test_bad(void)
{
    char                          *err;
    u_char                        *buf;
    ngx_str_t                      url;
    ngx_uint_t                     i;
    ngx_http_agntkey_redis_url_t   u;

    /* and a word that the text must have, "" for any */

    static struct {
        char  *url;
        char  *word;
    } bad[] = {
        { "", "begin" },
        { "redis", "begin" },
        { "redis:", "begin" },
        { "redis:/", "begin" },
        { "redis:/h", "begin" },
        { "redis:h", "begin" },
        { "rediss:/", "begin" },
        { "rediss:/h", "begin" },
        { "REDIS://h", "begin" },
        { "http://h", "begin" },
        { "redisss://h", "begin" },
        { "//h", "begin" },
        { "h", "begin" },
        { "127.0.0.1:6379", "begin" },
        { "/run/redis.sock", "begin" },
        { "UNIX:/run/redis.sock", "begin" },
        { "unix", "begin" },
        { "redi\xff://h", "begin" },

        { "redis://", "no host" },
        { "rediss://", "no host" },
        { "redis:///", "no host" },
        { "redis:///1", "no host" },
        { "redis://:6379", "no host" },
        { "redis://u:XyZ@", "no host" },
        { "redis://u:XyZ@:6379", "no host" },
        { "redis://u:XyZ@/1", "no host" },
        { "redis://[]", "no host" },
        { "redis://[]:6379", "no host" },

        { "redis://h:", "invalid port" },
        { "redis://h:0", "invalid port" },
        { "redis://h:65536", "invalid port" },
        { "redis://h:71915", "invalid port" },
        { "redis://h:-1", "invalid port" },
        { "redis://h:+1", "invalid port" },
        { "redis://h:a", "invalid port" },
        { "redis://h:6379x", "invalid port" },
        { "redis://h:0x10", "invalid port" },
        { "redis://h:/1", "invalid port" },
        { "redis://h:6379?db=1", "invalid port" },
        { "redis://h:18446744073709558", "invalid port" },
        { "redis://h:99999999999999999999999", "invalid port" },
        { "redis://[::1]:", "invalid port" },
        { "redis://[::1]:0", "invalid port" },
        { "redis://[::1]:x", "invalid port" },
        { "redis://u:XyZ@h:XyZ", "invalid port" },

        { "redis://::1", "brackets" },
        { "redis://::1:6379", "brackets" },
        { "redis://2001:db8::a/1", "brackets" },
        { "redis://h:1:2", "brackets" },
        { "redis://u:XyZ@::1", "brackets" },

        { "redis://[::1", "]" },
        { "redis://[::1/1", "]" },
        { "redis://[", "]" },
        { "redis://[::1]x", "between" },
        { "redis://[::1]6379", "between" },
        { "redis://[::1]]:6379", "between" },

        { "redis://h?db=1", "invalid host" },
        { "redis://h#x", "invalid host" },
        { "redis://h%2e", "invalid host" },
        { "redis://[fe80::1%25eth0]", "invalid host" },

        { "redis://h/a", "database" },
        { "redis://h/-1", "database" },
        { "redis://h/+1", "database" },
        { "redis://h/1x", "database" },
        { "redis://h/1/", "database" },
        { "redis://h//", "database" },
        { "redis://h/1/2", "database" },
        { "redis://h/65536", "database" },
        { "redis://h/99999999999999999999999", "database" },
        { "redis://h/?db=1", "database" },
        { "redis://u:XyZ@h/XyZ", "database" },

        { "redis://user@h", "user and password" },
        { "redis://XyZ@h", "user and password" },
        { "redis://@h", "user and password" },

        { "redis://u:XyZ/x@h", "%2F" },
        { "redis://u/x:XyZ@h", "%2F" },
        { "redis://u:/XyZ@h:6379/1", "%2F" },

        { "redis://u:XyZ@x@h", "%40" },
        { "redis://u:x@XyZ@h:6379/1", "%40" },
        { "redis://u@x:XyZ@h", "" },
        { "redis://u:x@h:XyZ@h", "invalid port" },
        { "redis://u:x@[XyZ@h]", "%40" },

        { "redis://u:XyZ%@h", "password" },
        { "redis://u:XyZ%4@h", "password" },
        { "redis://u:XyZ%4g@h", "password" },
        { "redis://u:XyZ%g4@h", "password" },
        { "redis://u:XyZ%%40@h", "password" },
        { "redis://u:XyZ%00@h", "password" },
        { "redis://u:XyZ%-1@h", "password" },
        { "redis://u%:XyZ@h", "user" },
        { "redis://u%4:XyZ@h", "user" },
        { "redis://u%zz:XyZ@h", "user" },
        { "redis://%00:XyZ@h", "user" },

        { "redis://h ", "space" },
        { " redis://h", "space" },
        { "redis://h\n", "space" },
        { "redis://h\t/1", "space" },
        { "redis://u:XyZ x@h", "space" },
        { "redis://u:XyZ\x7f@h", "space" },
        { "redis://u:XyZ\r@h", "space" },
        { "unix:/run/re dis", "space" },

        { "unix:", "absolute" },
        { "unix:run/redis.sock", "absolute" },
        { "unix:?db=1", "absolute" },
        { "unix:./redis.sock", "absolute" },
        { "unix:/r?", "?db=N" },
        { "unix:/r?db", "?db=N" },
        { "unix:/r?dB=1", "?db=N" },
        { "unix:/r?x=1", "?db=N" },
        { "unix:/r?password=XyZ", "?db=N" },
        { "unix:/r?db=", "database" },
        { "unix:/r?db=x", "database" },
        { "unix:/r?db=-1", "database" },
        { "unix:/r?db=1&x=2", "database" },
        { "unix:/r?db=65536", "database" }
    };

    tap_case("a URL that is none is refused, and the text says why");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        url = tap_text(bad[i].url);

        err = test_parse(&url, &buf, &u);

        if (!tap_ok(err != NULL, "\"%s\" was taken", bad[i].url)) {
            continue;
        }

        tap_ok(strstr(err, bad[i].word) != NULL,
               "\"%s\": no \"%s\" in \"%s\"", bad[i].url, bad[i].word, err);
    }

    tap_case("a control character or a space is refused wherever it stands");

    for (i = 0; i < 256; i++) {
        ngx_uint_t  place;

        for (place = 0; place < 17; place++) {
            if (i > ' ' && i != 0x7f) {
                continue;
            }

            url = tap_text("redis://u:XyZ@h/1");
            url.data[place] = (u_char) i;

            err = test_parse(&url, &buf, &u);
            tap_ok(err && strstr(err, "space"), "%02lx at %lu",
                   (unsigned long) i, (unsigned long) place);
        }
    }
}


static void
test_percent(void)
{
    char                           text[32];
    char                          *err;
    u_char                        *buf;
    ngx_str_t                      url;
    ngx_uint_t                     i;
    ngx_http_agntkey_redis_url_t   u;

    tap_case("every byte but NUL may be percent-encoded, in either case");

    for (i = 0; i < 512; i++) {
        sprintf(text, (i < 256) ? "redis://u%%%02X:p%%%02X@h"
                                : "redis://u%%%02x:p%%%02x@h",
                (u_char) i, (u_char) i);
        url = tap_text(text);

        err = test_parse(&url, &buf, &u);

        if ((u_char) i == 0) {
            tap_ok(err != NULL, "%s", text);
            continue;
        }

        if (!tap_ok(err == NULL, "%s: %s", text, err)) {
            continue;
        }

        tap_int(u.user.len, 2, "%s", text);
        tap_int(u.password.len, 2, "%s", text);
        tap_int(u.user.data[1], (u_char) i, "%s", text);
        tap_int(u.password.data[1], (u_char) i, "%s", text);
        tap_str(&u.host, "h", "%s", text);
    }
}


static void
test_lengths(void)
{
    char                          *err;
    size_t                         n, max;
    u_char                        *buf;
    ngx_str_t                      url;
    ngx_http_agntkey_redis_url_t   u;

    tap_case("the path of a unix socket fits into a sockaddr_un");

    /* the kernel's structure has room for a terminating NUL, too */
    max = sizeof(((struct sockaddr_un *) 0)->sun_path) - 1;

    for (n = 1; n < 300; n++) {
        url = tap_fill('x', 5 + n);
        memcpy(url.data, "unix:/", 6);

        err = test_parse(&url, &buf, &u);

        if (n <= max) {
            tap_ok(err == NULL, "%lu bytes: %s", (unsigned long) n, err);
            tap_int(u.host.len, n, "host");

        } else {
            tap_ok(err && strstr(err, "too long"), "%lu bytes",
                   (unsigned long) n);
        }

        /* what follows the path is not counted */

        url = tap_fill('x', 5 + n + 5);
        memcpy(url.data, "unix:/", 6);
        memcpy(url.data + 5 + n, "?db=3", 5);

        err = test_parse(&url, &buf, &u);
        tap_ok((err == NULL) == (n <= max), "%lu bytes and a database",
               (unsigned long) n);
    }

    tap_case("a host is at most 255 bytes");

    for (n = 1; n < 300; n++) {
        url = tap_fill('x', 8 + n);
        memcpy(url.data, "redis://", 8);

        err = test_parse(&url, &buf, &u);

        if (n <= 255) {
            tap_ok(err == NULL, "%lu bytes: %s", (unsigned long) n, err);
            tap_int(u.host.len, n, "host");

        } else {
            tap_ok(err && strstr(err, "too long"), "%lu bytes",
                   (unsigned long) n);
        }
    }
}


static void
test_noise(void)
{
    char                          *err;
    size_t                         len, i;
    u_char                         text[80], *buf;
    uint64_t                       state;
    ngx_str_t                      url;
    ngx_uint_t                     n, good;
    ngx_http_agntkey_redis_url_t   u;

    static char   alphabet[] = ":/@[]%?#=:/@%0123456789abXh.";
    static char  *heads[] = { "redis://", "rediss://", "unix:/", "redis://u:",
                              "redis://u:" TEST_SECRET "@h", "" };

    tap_case("noise is refused, or points where it may");

    state = 7;
    good = 0;

    for (n = 0; n < 200000; n++) {

        len = sprintf((char *) text, "%s", heads[tap_random(&state) % 6]);

        for (i = tap_random(&state) % 20; i; i--) {
            text[len++] = alphabet[tap_random(&state)
                                   % (sizeof(alphabet) - 1)];
        }

        url.data = malloc(len + 1);
        memcpy(url.data, text, len);
        url.len = len;

        /* the NUL is for what is said about a failure alone */
        url.data[len] = '\0';

        err = test_parse(&url, &buf, &u);

        if (err == NULL) {
            good++;

            tap_ok(memchr(u.host.data, '@', u.host.len) == NULL
                   || u.unix_socket, "\"@\" in the host of \"%s\"",
                   url.data);
            tap_ok(u.host.len > 0 && u.host.data >= url.data
                   && u.host.data + u.host.len <= url.data + len,
                   "host of \"%s\"", url.data);
            tap_ok(u.user.len + u.password.len <= len,
                   "user and password of \"%s\"", url.data);
            tap_ok(u.unix_socket ? (u.port == 0) : (u.port > 0),
                   "port of \"%s\"", url.data);
            tap_ok(u.db <= NGX_HTTP_AGNTKEY_URL_DB_MAX, "database of \"%s\"",
                   url.data);
        }

        free(url.data);
    }

    tap_ok(good > 1000, "%lu of the noise is a URL", (unsigned long) good);
}


int
main(void)
{
    test_good();
    test_bad();
    test_percent();
    test_lengths();
    test_noise();

    return tap_done();
}


/*
 * Parses into a structure full of rubbish, with a buffer exactly as long as
 * promised, and sees that a text of an error is constant: the password is
 * not in it, it lies neither in the URL nor in the buffer.
 */

static char *
test_parse(ngx_str_t *url, u_char **buf, ngx_http_agntkey_redis_url_t *u)
{
    char       *err;
    ngx_str_t   room;

    memset(u, 0xff, sizeof(ngx_http_agntkey_redis_url_t));

    room = tap_fill('#', url->len);
    *buf = room.data;

    err = ngx_http_agntkey_redis_url_parse(url, room.data, u);

    if (err) {
        tap_ok(strstr(err, TEST_SECRET) == NULL, "a password in \"%s\"", err);
        tap_ok((u_char *) err < url->data
               || (u_char *) err > url->data + url->len, "a text in the URL");
        tap_ok((u_char *) err < room.data
               || (u_char *) err > room.data + room.len,
               "a text in the buffer");
    }

    return err;
}
