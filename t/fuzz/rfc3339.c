
/*
 * Copyright (C) the agntkey authors
 *
 * Times: what is read can be written, and is read as the same again.
 *
 * Files: rfc3339
 */


#include "fuzz.h"

#include "ngx_http_agntkey_rfc3339.h"


/* 9999-12-31T23:59:59.999Z */
#define FUZZ_LAST   253402300799999LL


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    u_char     buf[NGX_HTTP_AGNTKEY_RFC3339_LEN], *p;
    int64_t    ms, again;
    ngx_str_t  text, written;

    fuzz_begin();

    text = fuzz_str(data, len);

    if (ngx_http_agntkey_rfc3339_parse(&text, &ms) == NGX_OK) {

        /* an offset may carry a time a day beyond the year 9999 */

        fuzz_check(ms >= 0 && ms <= FUZZ_LAST + 86400000);

        if (ms <= FUZZ_LAST) {
            p = ngx_http_agntkey_rfc3339_format(buf, ms);
            fuzz_check(p == buf + NGX_HTTP_AGNTKEY_RFC3339_LEN);

            written = fuzz_str(buf, NGX_HTTP_AGNTKEY_RFC3339_LEN);

            fuzz_check(ngx_http_agntkey_rfc3339_parse(&written, &again)
                       == NGX_OK);
            fuzz_check(again == ms);
        }
    }

    fuzz_end();

    return 0;
}
