
/*
 * Copyright (C) the agntkey authors
 *
 * Queries of the admin API, cursors among them: a value is no longer than
 * what stood there, and all lie one after the other.
 *
 * Files: query percent
 */


#include "fuzz.h"

#include "ngx_http_agntkey_query.h"


static const char  *names[] = { "workspace", "status", "limit", "cursor",
                                NULL };


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t      sum;
    ngx_int_t   rc;
    ngx_str_t   args, buf, values[4], which;
    ngx_uint_t  i, bad;

    fuzz_begin();

    args = fuzz_str(data, len);
    buf = fuzz_str(data, len);
    bad = 100;

    rc = ngx_http_agntkey_query_parse(&args, names, values, buf.data, &bad,
                                      &which);

    fuzz_check(rc == NGX_OK || rc == NGX_DECLINED);

    if (rc == NGX_DECLINED) {
        fuzz_check(bad <= 4 && fuzz_inside(&which, &args));

    } else {
        sum = 0;

        for (i = 0; i < 4; i++) {
            fuzz_check(values[i].data == NULL ? values[i].len == 0
                                              : fuzz_inside(&values[i], &buf));
            sum += values[i].len;
        }

        fuzz_check(sum <= len);
    }

    fuzz_end();

    return 0;
}
