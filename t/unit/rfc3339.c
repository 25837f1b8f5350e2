
/*
 * Copyright (C) the agntkey authors
 *
 * Times as text and back, against what the C library makes of them.
 */


#define _GNU_SOURCE

#include "tap.h"

#include <time.h>

#include "ngx_http_agntkey_rfc3339.h"


static ngx_int_t
test_read(const char *text, int64_t *ms)
{
    ngx_int_t  rc;
    ngx_str_t  s;

    /* a copy of just that size: a byte too many is a report of ASan */

    s.len = strlen(text);
    s.data = malloc(s.len ? s.len : 1);
    memcpy(s.data, text, s.len);

    rc = ngx_http_agntkey_rfc3339_parse(&s, ms);

    free(s.data);

    return rc;
}


static void
test_round_trip(void)
{
    char       expected[64];
    time_t     sec;
    int64_t    ms, got;
    u_char     buf[64];
    struct tm  tm;

    tap_case("what is written is what gmtime() says, and is read back");

    /* steps of 11.57 days and some, over all years that can be written */

    for (ms = 0; ms < 253402300800000LL; ms += 1000000000LL - 123457) {

        sec = (time_t) (ms / 1000);
        gmtime_r(&sec, &tm);

        sprintf(expected, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                tm.tm_min, tm.tm_sec, (int) (ms % 1000));

        *ngx_http_agntkey_rfc3339_format(buf, ms) = '\0';

        tap_int(strcmp((char *) buf, expected), 0, "%s", expected);
        tap_int(test_read(expected, &got), NGX_OK, "%s", expected);
        tap_int(got, ms, "%s", expected);
    }
}


static void
test_days(void)
{
    int        d, m, y, exists;
    char       text[64];
    int64_t    ms;
    struct tm  tm, back;

    tap_case("a day is read if it exists, for each day of 800 years");

    for (y = 1970; y < 2770; y++) {
        for (m = 0; m <= 13; m++) {
            for (d = 0; d <= 32; d++) {

                memset(&tm, 0, sizeof(tm));
                tm.tm_year = y - 1900;
                tm.tm_mon = m - 1;
                tm.tm_mday = d;
                back = tm;

                ms = (int64_t) timegm(&back) * 1000;

                exists = back.tm_year == tm.tm_year
                         && back.tm_mon == tm.tm_mon
                         && back.tm_mday == tm.tm_mday;

                sprintf(text, "%04d-%02d-%02dT00:00:00Z", y, m, d);

                {
                    int64_t    got = -1;
                    ngx_int_t  rc = test_read(text, &got);

                    tap_int(rc == NGX_OK, exists, "%s", text);

                    if (rc == NGX_OK) {
                        tap_int(got, ms, "%s", text);
                    }
                }
            }
        }
    }
}


static void
test_table(void)
{
    int64_t     ms;
    ngx_uint_t  i;

    static struct {
        char     *text;
        int64_t   ms;
    } good[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "1970-01-01T00:00:00.001Z", 1 },
        { "1970-01-01t00:00:00z", 0 },
        { "1970-01-01T00:00:00.1Z", 100 },
        { "1970-01-01T00:00:00.12Z", 120 },
        { "1970-01-01T00:00:00.123999999999Z", 123 },
        { "1970-01-01T01:00:00+01:00", 0 },
        { "1969-12-31T23:00:00-01:00", 0 },
        { "1970-01-02T00:00:00+23:59", 60000 },
        { "1990-12-31T23:59:60Z", 662688000000LL },
        { "1996-12-19T16:39:57-08:00", 851042397000LL },
        { "2000-02-29T12:00:00Z", 951825600000LL },
        { "9999-12-31T23:59:59.999Z", 253402300799999LL }
    };

    static char  *bad[] = {
        "", "1", "2031", "2031-01-01", "2031-01-01T00:00Z",
        "2031-01-01T00:00:00", "2031-01-01 00:00:00Z",
        "2031-01-01T00:00:00.Z", "2031-01-01T00:00:00,5Z",
        "2031-01-01T00:00:00+0100", "2031-01-01T00:00:00+1:00",
        "2031-01-01T00:00:00+24:00", "2031-01-01T00:00:00+01:60",
        "2031-01-01T00:00:00ZZ", "2031-01-01T00:00:00Z ",
        " 2031-01-01T00:00:00Z", "2031-1-01T00:00:00Z",
        "2031-01-01T24:00:00Z", "2031-01-01T00:60:00Z",
        "2031-01-01T00:00:61Z", "10000-01-01T00:00:00Z",
        "+2031-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01", "2031-01-01T00:00:00",
        "2031-01-01T00:00:0xZ", "1924905600000", "tomorrow"
    };

    tap_case("fractions, offsets, leap seconds and either case are read");

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ms = -1;
        tap_int(test_read(good[i].text, &ms), NGX_OK, "%s", good[i].text);
        tap_int(ms, good[i].ms, "%s", good[i].text);
    }

    tap_case("all else is refused");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tap_int(test_read(bad[i], &ms), NGX_ERROR, "%s", bad[i]);
    }
}


static void
test_cut(void)
{
    char        text[] = "2031-01-31T12:34:56.789+01:30", cut[64];
    size_t      len;
    int64_t     ms;

    tap_case("a text that was cut off anywhere is refused");

    for (len = 0; len < sizeof(text) - 1; len++) {
        memcpy(cut, text, len);
        cut[len] = '\0';

        tap_int(test_read(cut, &ms), NGX_ERROR, "%s", cut);
    }
}


int
main(void)
{
    test_round_trip();
    test_days();
    test_table();
    test_cut();

    return tap_done();
}
