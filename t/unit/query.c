
/*
 * Copyright (C) the agntkey authors
 *
 * The query of a URI: what is found, and what is refused.
 */


#include "tap.h"

#include "ngx_http_agntkey_query.h"


static const char  *test_names[] = { "workspace", "limit", "cursor", NULL };


/* rc, and the values as "a|b|c", "-" for one that is not there */

static ngx_int_t
test_parse(const char *args, size_t len, char *got, ngx_uint_t *bad)
{
    u_char      *buf;
    ngx_int_t    rc;
    ngx_str_t    s, which, values[3];
    ngx_uint_t   i;

    s.len = len;
    s.data = malloc(len ? len : 1);
    memcpy(s.data, args, len);
    buf = malloc(len ? len : 1);

    rc = ngx_http_agntkey_query_parse(&s, test_names, values, buf, bad,
                                      &which);

    for (i = 0; rc == NGX_OK && got && i < 3; i++) {
        got += sprintf(got, "%s%.*s", i ? "|" : "",
                       values[i].data ? (int) values[i].len : 1,
                       values[i].data ? (char *) values[i].data : "-");
    }

    free(s.data);
    free(buf);

    return rc;
}


static void
test_table(void)
{
    char        got[256];
    ngx_uint_t  i, bad;

    static struct {
        char        *args;
        char        *values;
    } good[] = {
        { "", "-|-|-" },
        { "&", "-|-|-" },
        { "&&&", "-|-|-" },
        { "workspace=acme", "acme|-|-" },
        { "limit=1&workspace=a", "a|1|-" },
        { "&limit=1&&workspace=a&", "a|1|-" },
        { "workspace", "|-|-" },
        { "workspace=", "|-|-" },
        { "workspace==", "=|-|-" },
        { "workspace=a%2Eb%2f", "a.b/|-|-" },
        { "cursor=%26&limit=%3d", "-|=|&" },
        { "workspace=a+b", "a+b|-|-" },
        { "workspace=a=b&limit=", "a=b||-" }
    };

    static struct {
        char        *args;
        ngx_uint_t   bad;
    } refused[] = {
        { "other=1", 3 },
        { "Workspace=1", 3 },
        { "workspace2=1", 3 },
        { "work=1", 3 },
        { "=1", 3 },
        { "work%73pace=1", 3 },
        { "limit=1&limit=1", 1 },
        { "limit&limit", 1 },
        { "cursor=%", 2 },
        { "cursor=%2", 2 },
        { "cursor=%zz", 2 },
        { "cursor=%2&limit=1", 2 },
        { "limit=1&x", 3 }
    };

    tap_case("parameters are found in any order, and decoded");

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        bad = 99;
        tap_int(test_parse(good[i].args, strlen(good[i].args), got, &bad),
                NGX_OK, "%s", good[i].args);
        tap_int(strcmp(got, good[i].values), 0, "%s: %s", good[i].args, got);
    }

    tap_case("unknown, doubled and badly encoded ones are refused by name");

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        bad = 99;
        tap_int(test_parse(refused[i].args, strlen(refused[i].args), NULL,
                           &bad),
                NGX_DECLINED, "%s", refused[i].args);
        tap_int(bad, refused[i].bad, "%s", refused[i].args);
    }
}


static void
test_noise(void)
{
    char         args[40];
    size_t       i, len;
    ngx_int_t    rc;
    ngx_uint_t   n, bad;

    static const char  parts[] = "&=%2a0zlimit";

    tap_case("noise never leaves the buffers");

    srand(1);

    for (n = 0; n < 200000; n++) {
        len = rand() % sizeof(args);

        for (i = 0; i < len; i++) {
            args[i] = (rand() % 8) ? parts[rand() % (sizeof(parts) - 1)]
                                   : (char) rand();
        }

        bad = 0;
        rc = test_parse(args, len, NULL, &bad);

        tap_int(rc == NGX_OK || (rc == NGX_DECLINED && bad <= 3), 1,
                "rc %ld, bad %lu", (long) rc, (unsigned long) bad);
    }
}


int
main(void)
{
    test_table();
    test_noise();

    return tap_done();
}
