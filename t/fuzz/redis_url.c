
/*
 * Copyright (C) the agntkey authors
 *
 * The Redis URL: what is taken for good is good, and no text about a bad one
 * quotes it.
 *
 * Files: redis_url percent
 */


#include "fuzz.h"

#include "ngx_http_agntkey_redis_url.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char                          *wrong;
    ngx_str_t                      url, buf;
    ngx_http_agntkey_redis_url_t   u;

    fuzz_begin();

    url = fuzz_str(data, len);
    buf = fuzz_str(data, len);

    wrong = ngx_http_agntkey_redis_url_parse(&url, buf.data, &u);

    if (wrong) {
        fuzz_check(strlen(wrong) > 0 && strlen(wrong) < 100);

    } else {
        fuzz_check(u.host.len > 0 && fuzz_inside(&u.host, &url));
        fuzz_check(u.user.len + u.password.len <= len);
        fuzz_check(u.user.len == 0 || fuzz_inside(&u.user, &buf));
        fuzz_check(u.password.len == 0 || fuzz_inside(&u.password, &buf));
        fuzz_check(u.db <= NGX_HTTP_AGNTKEY_URL_DB_MAX);
        fuzz_check(u.unix_socket ? u.port == 0 : u.port != 0);
        fuzz_check(!u.unix_socket || u.host.data[0] == '/');
        fuzz_check(!(u.unix_socket && u.tls));

        /* neither a NUL nor a line end gets to a resolver or a log */

        fuzz_check(memchr(u.host.data, '\0', u.host.len) == NULL);
        fuzz_check(memchr(u.host.data, '\n', u.host.len) == NULL);
    }

    fuzz_end();

    return 0;
}
