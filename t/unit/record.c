
/*
 * Copyright (C) the agntkey authors
 *
 * What Redis says of a key, and which of it is believed.  The grammars are
 * written a second time here: as tables of ranges, not as arithmetic.
 */


#include "tap.h"

#include "ngx_http_agntkey_record.h"

#include "ngx_http_agntkey_lua_get.inc"


#define TEST_DIGEST                                                           \
    "000102030405060708090a0b0c0d0e0f"                                        \
    "deadbeef9abcdef0fedcba9876543210"

#define TEST_ALNUM                                                            \
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


static void test_fields(ngx_str_t *fields);
static ngx_int_t test_field(ngx_uint_t field, ngx_str_t *value,
    ngx_http_agntkey_record_t *rec, ngx_uint_t *bad);
static ngx_uint_t test_scopes(const char *scopes);
static ngx_uint_t test_in(const char *set, ngx_uint_t c);
static ngx_uint_t test_utf8(u_char *p, size_t len, ngx_uint_t *printable);
static size_t test_encode(uint32_t c, u_char *p);
static ngx_uint_t test_name(const void *p, size_t len);


static char  *test_names[] = {
    "digest", "active", "workspace", "name", "scopes", "created_at",
    "expires_at", "revoked_at"
};


/* What the scripts return is read by the same order. */

static void
test_script(void)
{
    char         text[512], *p;
    ngx_uint_t   i;

    tap_case("the scripts ask for the same fields in the same order");

    p = text + sprintf(text, "local F={");

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {
        p += sprintf(p, "%s'%.*s'", i ? "," : "",
                     (int) ngx_http_agntkey_record_fields[i].len,
                     ngx_http_agntkey_record_fields[i].data);
    }

    (void) strcpy(p, "}");

    tap_ok(strstr((char *) ngx_http_agntkey_lua_get.data, text) != NULL,
           "%s", text);
}


static void
test_complete(void)
{
    u_char                      digest[32];
    ngx_str_t                   fields[NGX_HTTP_AGNTKEY_FIELDS];
    ngx_uint_t                  i, bad;
    ngx_http_agntkey_record_t   rec;

    static u_char  tail[] = {
        0xde, 0xad, 0xbe, 0xef, 0x9a, 0xbc, 0xde, 0xf0,
        0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10
    };

    tap_case("the fields have the names they have in Redis");

    tap_int(NGX_HTTP_AGNTKEY_FIELDS, 8, "how many");

    for (i = 0; i < 8; i++) {
        tap_str(&ngx_http_agntkey_record_fields[i], test_names[i],
                "field %lu", (unsigned long) i);
    }

    tap_case("a complete record is read");

    for (i = 0; i < 16; i++) {
        digest[i] = (u_char) i;
        digest[i + 16] = tail[i];
    }

    /* whatever was in it before */

    for (i = 0; i < 2; i++) {
        memset(&rec, i ? 0xff : 0, sizeof(rec));
        test_fields(fields);

        tap_int(ngx_http_agntkey_record_parse(fields, &rec, &bad), NGX_OK,
                "parse");
        tap_mem(rec.digest, 32, digest, 32, "digest");
        tap_str(&rec.workspace, "acme", "workspace");
        tap_str(&rec.name, "first key", "name");
        tap_str(&rec.scopes, "read write", "scopes");
        tap_int(rec.created_at, 1700000000001, "created_at");
        tap_int(rec.expires_at, 1800000000002, "expires_at");
        tap_int(rec.revoked_at, 1750000000003, "revoked_at");
        tap_int(rec.active, 1, "active");

        tap_ok(rec.workspace.data
               == fields[NGX_HTTP_AGNTKEY_FIELD_WORKSPACE].data,
               "workspace is where it was");
        tap_ok(rec.name.data == fields[NGX_HTTP_AGNTKEY_FIELD_NAME].data,
               "name is where it was");
        tap_ok(rec.scopes.data == fields[NGX_HTTP_AGNTKEY_FIELD_SCOPES].data,
               "scopes are where they were");
    }

    tap_case("no field at all is no key");

    ngx_memzero(fields, sizeof(fields));
    tap_int(ngx_http_agntkey_record_parse(fields, &rec, &bad), NGX_DECLINED,
            "parse");
}


static void
test_missing(void)
{
    ngx_str_t                  fields[NGX_HTTP_AGNTKEY_FIELDS], empty;
    ngx_int_t                  rc;
    ngx_uint_t                 i, bad;
    ngx_http_agntkey_record_t  rec;

    /* what a record says when the field is not there; NGX_OK has defaults */

    static ngx_int_t  missing[] = {
        NGX_ERROR,       /* digest */
        NGX_OK,          /* active */
        NGX_ERROR,       /* workspace */
        NGX_ERROR,       /* name */
        NGX_OK,          /* scopes */
        NGX_ERROR,       /* created_at */
        NGX_OK,          /* expires_at */
        NGX_OK           /* revoked_at */
    };

    static ngx_int_t  blank[] = {
        NGX_ERROR, NGX_OK, NGX_ERROR, NGX_ERROR, NGX_OK, NGX_ERROR,
        NGX_ERROR, NGX_ERROR
    };

    tap_case("a record without one of its fields is none, and says which");

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {
        memset(&rec, 0xff, sizeof(rec));
        test_fields(fields);
        ngx_str_null(&fields[i]);
        bad = 999;

        rc = ngx_http_agntkey_record_parse(fields, &rec, &bad);
        tap_int(rc, missing[i], "no %s", test_names[i]);

        if (missing[i] == NGX_ERROR) {
            tap_int(bad, i, "the bad one without %s", test_names[i]);
        }

        if (rc != NGX_OK) {
            continue;
        }

        tap_int(rec.active, i != NGX_HTTP_AGNTKEY_FIELD_ACTIVE,
                "active without %s", test_names[i]);

        switch (i) {

        case NGX_HTTP_AGNTKEY_FIELD_SCOPES:
            tap_int(rec.scopes.len, 0, "scopes");
            break;

        case NGX_HTTP_AGNTKEY_FIELD_EXPIRES_AT:
            tap_int(rec.expires_at, INT64_MAX, "expires_at");
            break;

        case NGX_HTTP_AGNTKEY_FIELD_REVOKED_AT:
            tap_int(rec.revoked_at, 0, "revoked_at");
            break;
        }
    }

    tap_case("an empty field is not an absent one");

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {
        empty = tap_text("");
        bad = 999;

        tap_int(test_field(i, &empty, &rec, &bad), blank[i], "empty %s",
                test_names[i]);

        if (blank[i] == NGX_ERROR) {
            tap_int(bad, i, "the bad one with an empty %s", test_names[i]);
        }
    }

    tap_case("one field alone is a broken record, not a key that is missing");

    for (i = 0; i < NGX_HTTP_AGNTKEY_FIELDS; i++) {
        test_fields(fields);

        for (bad = 0; bad < NGX_HTTP_AGNTKEY_FIELDS; bad++) {
            if (bad != i) {
                ngx_str_null(&fields[bad]);
            }
        }

        tap_int(ngx_http_agntkey_record_parse(fields, &rec, &bad), NGX_ERROR,
                "%s alone", test_names[i]);
        tap_int(bad, (i == NGX_HTTP_AGNTKEY_FIELD_DIGEST)
                     ? NGX_HTTP_AGNTKEY_FIELD_WORKSPACE
                     : NGX_HTTP_AGNTKEY_FIELD_DIGEST,
                "the bad one with %s alone", test_names[i]);

        ngx_memzero(fields, sizeof(fields));
        fields[i] = tap_text("");

        tap_int(ngx_http_agntkey_record_parse(fields, &rec, &bad), NGX_ERROR,
                "an empty %s alone", test_names[i]);
    }
}


static void
test_digest(void)
{
    ngx_str_t                  value;
    ngx_uint_t                 i, n, bad, place;
    ngx_http_agntkey_record_t  rec;

    tap_case("a digest is 64 of 0-9a-f");

    for (i = 0; i < 130; i++) {
        value = tap_fill('a', i);
        bad = 999;

        tap_int(test_field(NGX_HTTP_AGNTKEY_FIELD_DIGEST, &value, &rec,
                           &bad),
                (i == 64) ? NGX_OK : NGX_ERROR, "%lu digits",
                (unsigned long) i);

        if (i != 64) {
            tap_int(bad, NGX_HTTP_AGNTKEY_FIELD_DIGEST, "the bad one");
        }
    }

    for (n = 0; n < 256; n++) {
        for (place = 0; place < 64; place += 21) {
            value = tap_fill('7', 64);
            value.data[place] = (u_char) n;

            tap_int(test_field(NGX_HTTP_AGNTKEY_FIELD_DIGEST, &value, &rec,
                               &bad),
                    test_in("0123456789abcdef", n) ? NGX_OK : NGX_ERROR,
                    "%02lx at %lu", (unsigned long) n,
                    (unsigned long) place);
        }
    }

    tap_case("every pair of digits is the byte it stands for");

    for (n = 0; n < 256; n++) {
        char  hex[65];

        for (i = 0; i < 32; i++) {
            sprintf(hex + i * 2, "%02x", (u_char) (n + i));
        }

        value = tap_text(hex);
        memset(&rec, 0xff, sizeof(rec));

        tap_int(test_field(NGX_HTTP_AGNTKEY_FIELD_DIGEST, &value, &rec,
                           &bad),
                NGX_OK, "parse");

        for (i = 0; i < 32; i++) {
            tap_int(rec.digest[i], (u_char) (n + i), "byte %lu",
                    (unsigned long) i);
        }
    }
}


static void
test_active(void)
{
    ngx_str_t                  value;
    ngx_uint_t                 i, bad;
    ngx_http_agntkey_record_t  rec;

    static char  *values[] = {
        "", "0", "01", "10", "11", "1 ", " 1", "1\n", "true", "yes", "on",
        "2", "-1", "+1", "1.0", "\xc2\xb9", "l"
    };

    tap_case("active is \"1\", and nothing else is");

    value = tap_text("1");
    tap_int(test_field(NGX_HTTP_AGNTKEY_FIELD_ACTIVE, &value, &rec, &bad),
            NGX_OK, "1");
    tap_int(rec.active, 1, "1");

    for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        value = tap_text(values[i]);
        memset(&rec, 0xff, sizeof(rec));

        tap_int(test_field(NGX_HTTP_AGNTKEY_FIELD_ACTIVE, &value, &rec,
                           &bad),
                NGX_OK, "\"%s\"", values[i]);
        tap_int(rec.active, 0, "\"%s\"", values[i]);
    }

    for (i = 0; i < 256; i++) {
        value = tap_fill((u_char) i, 1);
        (void) test_field(NGX_HTTP_AGNTKEY_FIELD_ACTIVE, &value, &rec, &bad);
        tap_int(rec.active, i == '1', "%02lx", (unsigned long) i);
    }

    value = tap_bytes("1\0", 2);
    (void) test_field(NGX_HTTP_AGNTKEY_FIELD_ACTIVE, &value, &rec, &bad);
    tap_int(rec.active, 0, "1 and a NUL");
}


static void
test_times(void)
{
    int64_t                    got;
    ngx_str_t                  value;
    ngx_int_t                  rc;
    ngx_uint_t                 i, f, n, bad;
    ngx_http_agntkey_record_t  rec;

    static struct {
        char     *text;
        int64_t   value;         /* -1: refused */
    } times[] = {
        { "0",                     0 },
        { "1",                     1 },
        { "1700000000000",         1700000000000 },
        { "253402300799998",       253402300799998 },
        { "253402300799999",       253402300799999 },
        { "253402300800000",       -1 },
        { "253402300800001",       -1 },
        { "999999999999999",       -1 },
        { "9223372036854775807",   -1 },
        { "9223372036854775808",   -1 },
        { "18446744073709551616",  -1 },
        { "99999999999999999999",  -1 },
        { "-1",                    -1 },
        { "-0",                    -1 },
        { "+1",                    -1 },
        { " 1",                    -1 },
        { "1 ",                    -1 },
        { "1\n",                   -1 },
        { "1.0",                   -1 },
        { "1e3",                   -1 },
        { "0x10",                  -1 },
        { "1,000",                 -1 },
        { "a",                     -1 },
        { "never",                 -1 },
        { "inf",                   -1 }
    };

    static ngx_uint_t  fields[] = {
        NGX_HTTP_AGNTKEY_FIELD_CREATED_AT,
        NGX_HTTP_AGNTKEY_FIELD_EXPIRES_AT,
        NGX_HTTP_AGNTKEY_FIELD_REVOKED_AT
    };

    tap_case("a time is digits, up to the end of the year 9999");

    for (f = 0; f < 3; f++) {
        for (i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
            value = tap_text(times[i].text);
            bad = 999;

            rc = test_field(fields[f], &value, &rec, &bad);

            tap_int(rc, (times[i].value == -1) ? NGX_ERROR : NGX_OK,
                    "%s \"%s\"", test_names[fields[f]], times[i].text);

            if (times[i].value == -1) {
                tap_int(bad, fields[f], "the bad one");
                continue;
            }

            got = (f == 0) ? rec.created_at
                           : (f == 1) ? rec.expires_at : rec.revoked_at;

            tap_int(got, times[i].value, "%s \"%s\"", test_names[fields[f]],
                    times[i].text);
        }

        for (n = 0; n < 256; n++) {
            value = tap_fill((u_char) n, 1);
            tap_int(test_field(fields[f], &value, &rec, &bad),
                    test_in("0123456789", n) ? NGX_OK : NGX_ERROR,
                    "%s %02lx", test_names[fields[f]], (unsigned long) n);
        }
    }
}


static void
test_characters(void)
{
    u_char      buf[4];
    size_t      len;
    uint32_t    c, expected;

    tap_case("a name may hold any character but the control characters");

    for (c = 0; c < 0x120000; c++) {
        len = test_encode(c, buf);

        expected = !(c < 0x20 || (c >= 0x7f && c <= 0x9f)
                     || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff);

        tap_int(ngx_http_agntkey_record_name_valid(
                                             &(ngx_str_t) { len, buf }),
                expected, "U+%04X", c);
    }

    tap_case("a control character is refused in front, within and behind");

    for (c = 0; c < 0xa0; c++) {
        u_char   text[8];
        size_t   place;

        for (place = 0; place < 3; place++) {
            memset(text, 'a', sizeof(text));
            len = test_encode(c, text + place) + 2;

            tap_int(test_name(text, len), c >= 0x20 && c < 0x7f,
                    "U+%04X at %lu", c, (unsigned long) place);
        }
    }

    tap_int(test_name("a\nb", 3), 0, "LF");
    tap_int(test_name("a\0b", 3), 0, "NUL");

    tap_int(test_name("a\r\nX-Workspace: b", 17), 0, "CR LF");
}


static void
test_bytes(void)
{
    u_char      b[4];
    size_t      len;
    ngx_uint_t  i, j, k, l, ok, printable;

    /* the edges of the ranges in RFC 3629, section 4 */

    static u_char  edges[] = {
        0x00, 0x20, 0x7e, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0,
        0xc2, 0xdf, 0xe0, 0xef, 0xf0, 0xf4, 0xf5, 0xff
    };

    tap_case("one byte and any two: UTF-8 or refused");

    for (i = 0; i < 256; i++) {
        b[0] = (u_char) i;

        ok = test_utf8(b, 1, &printable) && printable;
        tap_int(test_name(b, 1), ok, "%02lx", (unsigned long) i);

        for (j = 0; j < 256; j++) {
            b[1] = (u_char) j;

            ok = test_utf8(b, 2, &printable) && printable;
            tap_int(ngx_http_agntkey_record_name_valid(
                                                 &(ngx_str_t) { 2, b }),
                    ok, "%02lx %02lx", (unsigned long) i, (unsigned long) j);
        }
    }

    tap_case("three and four bytes: no overlong form, surrogate or excess");

    for (i = 0xc0; i < 256; i++) {
        b[0] = (u_char) i;

        for (j = 0; j < 256; j++) {
            b[1] = (u_char) j;

            for (k = 0; k < sizeof(edges); k++) {
                b[2] = edges[k];

                for (l = 0; l <= sizeof(edges); l++) {
                    len = 3;

                    if (l < sizeof(edges)) {
                        b[3] = edges[l];
                        len = 4;
                    }

                    ok = test_utf8(b, len, &printable) && printable;
                    tap_int(ngx_http_agntkey_record_name_valid(
                                               &(ngx_str_t) { len, b }),
                            ok, "%02x %02x %02x %02x, %lu bytes", b[0], b[1],
                            b[2], b[3], (unsigned long) len);
                }
            }
        }
    }
}


static void
test_name_length(void)
{
    u_char      buf[4], *p, *text;
    size_t      len;
    ngx_str_t   name;
    ngx_uint_t  i, n, bad;

    ngx_http_agntkey_record_t  rec;

    static uint32_t    characters[] = { 'a', 0xe9, 0x20ac, 0x1f511 };
    static ngx_uint_t  lengths[] = { 0, 1, 2, 99, 100, 101, 102, 400, 1000 };

    tap_case("a name is 1 to 100 characters, of however many bytes");

    for (i = 0; i < 4; i++) {
        for (n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++) {
            len = test_encode(characters[i], buf);
            tap_int(len, i + 1, "bytes of U+%04X", characters[i]);

            name = tap_fill(' ', lengths[n] * len);

            for (p = name.data; p < name.data + name.len; p += len) {
                memcpy(p, buf, len);
            }

            tap_int(ngx_http_agntkey_record_name_valid(&name),
                    lengths[n] >= 1 && lengths[n] <= 100, "%lu of U+%04X",
                    (unsigned long) lengths[n], characters[i]);

            bad = 999;

            tap_int(test_field(NGX_HTTP_AGNTKEY_FIELD_NAME, &name, &rec,
                               &bad),
                    (lengths[n] >= 1 && lengths[n] <= 100) ? NGX_OK
                                                           : NGX_ERROR,
                    "a record with %lu of U+%04X",
                    (unsigned long) lengths[n], characters[i]);

            if (lengths[n] == 0 || lengths[n] > 100) {
                tap_int(bad, NGX_HTTP_AGNTKEY_FIELD_NAME, "the bad one");
            }
        }
    }

    tap_case("a character that is cut off is refused, and nothing read behind");

    for (i = 1; i < 4; i++) {
        len = test_encode(characters[i], buf);

        for (n = 1; n < len; n++) {
            tap_int(test_name(buf, n), 0, "%lu of %lu bytes",
                    (unsigned long) n, (unsigned long) len);

            text = tap_fill('x', 50 + n).data;
            memcpy(text + 50, buf, n);
            tap_int(test_name(text, 50 + n), 0, "%lu of %lu bytes at the end",
                    (unsigned long) n, (unsigned long) len);
        }
    }
}


static void
test_words(void)
{
    ngx_str_t                  word;
    ngx_uint_t                 i, n, kind, ok, bad;
    ngx_http_agntkey_record_t  rec;

    static char  *more[] = { "._-", "._:/-" };

    for (kind = 0; kind < 2; kind++) {

        tap_case(kind ? "a scope is [A-Za-z0-9][A-Za-z0-9._:/-]{0,63}"
                      : "a workspace is [A-Za-z0-9][A-Za-z0-9._-]{0,63}");

        for (i = 0; i < 4; i++) {
            for (n = 0; n < 256; n++) {
                word = tap_text("Ab9z");
                word.data[i] = (u_char) n;

                ok = test_in(TEST_ALNUM, n) || (i && test_in(more[kind], n));

                tap_int(kind ? ngx_http_agntkey_record_scope_valid(&word)
                             : ngx_http_agntkey_record_workspace_valid(&word),
                        ok, "%02lx at %lu", (unsigned long) n,
                        (unsigned long) i);

                bad = 999;

                if (kind == 1 && n == ' ' && (i == 1 || i == 2)) {
                    /* two scopes */
                    continue;
                }

                tap_int(test_field(kind ? NGX_HTTP_AGNTKEY_FIELD_SCOPES
                                        : NGX_HTTP_AGNTKEY_FIELD_WORKSPACE,
                                   &word, &rec, &bad),
                        ok ? NGX_OK : NGX_ERROR, "a record with %02lx at %lu",
                        (unsigned long) n, (unsigned long) i);

                if (!ok) {
                    tap_int(bad, kind ? NGX_HTTP_AGNTKEY_FIELD_SCOPES
                                      : NGX_HTTP_AGNTKEY_FIELD_WORKSPACE,
                            "the bad one");
                }
            }
        }

        for (n = 0; n < 256; n++) {
            word = tap_fill((u_char) n, 1);

            tap_int(kind ? ngx_http_agntkey_record_scope_valid(&word)
                         : ngx_http_agntkey_record_workspace_valid(&word),
                    test_in(TEST_ALNUM, n), "%02lx alone",
                    (unsigned long) n);
        }

        for (i = 0; i < 130; i++) {
            word = tap_fill('w', i);

            tap_int(kind ? ngx_http_agntkey_record_scope_valid(&word)
                         : ngx_http_agntkey_record_workspace_valid(&word),
                    i >= 1 && i <= 64, "%lu letters", (unsigned long) i);
        }
    }
}


static void
test_scope_lists(void)
{
    char       *p, list[32 * 65 + 1];
    size_t      len;
    ngx_uint_t  i, n;

    static struct {
        char       *scopes;
        ngx_uint_t  ok;
    } lists[] = {
        { "",              1 },
        { "read",          1 },
        { "r",             1 },
        { "read write",    1 },
        { "a b c d e",     1 },
        { "a:b/c.d_e-f G", 1 },
        { "read read",     1 },
        { " ",             0 },
        { "  ",            0 },
        { " read",         0 },
        { "read ",         0 },
        { "read  write",   0 },
        { "read\twrite",   0 },
        { "read,write",    0 },
        { "read write\n",  0 },
        { "read wr\"ite",  0 },
        { "read wr\\ite",  0 },
        { "read *",        0 },
        { "read -x",       0 },
        { ":read",         0 },
        { "read \xc3\xa9", 0 }
    };

    tap_case("scopes are separated by single spaces");

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        tap_int(test_scopes(lists[i].scopes), lists[i].ok, "\"%s\"",
                lists[i].scopes);
    }

    tap_case("there are at most 32 scopes of at most 64 bytes");

    for (n = 1; n < 40; n++) {
        p = list;

        for (i = 0; i < n; i++) {
            p += sprintf(p, "%ss%lu", i ? " " : "", (unsigned long) i);
        }

        tap_int(test_scopes(list), n <= 32, "%lu scopes", (unsigned long) n);
    }

    /* 32 of 64 bytes, and the same with one byte more in one of them */

    memset(list, 'x', sizeof(list));
    len = 32 * 65 - 1;

    for (i = 64; i < len; i += 65) {
        list[i] = ' ';
    }

    list[len] = '\0';
    tap_int(test_scopes(list), 1, "32 of 64 bytes");

    list[len] = 'x';
    list[len + 1] = '\0';
    tap_int(test_scopes(list), 0, "and one byte more in the last");

    list[len] = '\0';
    list[64] = 'x';
    list[65] = ' ';
    tap_int(test_scopes(list), 0, "and one byte more in the first");
}


static void
test_has_scope(void)
{
    ngx_str_t   scopes, scope;
    ngx_uint_t  i;

    static struct {
        char        *scopes;
        char        *scope;
        ngx_uint_t   has;
    } tests[] = {
        { "read",             "read",      1 },
        { "read write admin", "read",      1 },
        { "read write admin", "write",     1 },
        { "read write admin", "admin",     1 },
        { "read write admin", "rea",       0 },
        { "read write admin", "ead",       0 },
        { "read write admin", "reads",     0 },
        { "read write admin", "writ",      0 },
        { "read write admin", "rite",      0 },
        { "read write admin", "admi",      0 },
        { "read write admin", "dmin",      0 },
        { "read write admin", "admins",    0 },
        { "read write admin", "r",         0 },
        { "read write admin", "Read",      0 },
        { "read write admin", "WRITE",     0 },
        { "read write",       "read write", 0 },
        { "read:all write",   "read",      0 },
        { "read:all write",   "all",       0 },
        { "read:all write",   "read:all",  1 },
        { "read-only",        "read",      0 },
        { "a b c",            "b",         1 },
        { "aa bb cc",         "b",         0 },
        { "aaa aa a",         "a",         1 },
        { "aaa aa a",         "aa",        1 },
        { "aaa aa a",         "aaaa",      0 },
        { "",                 "read",      0 },
        { "read",             "",          0 },
        { "",                 "",          0 }
    };

    tap_case("a scope is held when it is one of the list, whole");

    ngx_str_null(&scopes);
    scope = tap_text("read");
    tap_int(ngx_http_agntkey_record_has_scope(&scopes, &scope), 0, "no list");

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        scopes = tap_text(tests[i].scopes);
        scope = tap_text(tests[i].scope);

        tap_int(ngx_http_agntkey_record_has_scope(&scopes, &scope),
                tests[i].has, "\"%s\" in \"%s\"", tests[i].scope,
                tests[i].scopes);
    }
}


int
main(void)
{
    test_script();
    test_complete();
    test_missing();
    test_digest();
    test_active();
    test_times();
    test_characters();
    test_bytes();
    test_name_length();
    test_words();
    test_scope_lists();
    test_has_scope();

    return tap_done();
}


/* a good record, every field of it there */

static void
test_fields(ngx_str_t *fields)
{
    fields[NGX_HTTP_AGNTKEY_FIELD_DIGEST] = tap_text(TEST_DIGEST);
    fields[NGX_HTTP_AGNTKEY_FIELD_ACTIVE] = tap_text("1");
    fields[NGX_HTTP_AGNTKEY_FIELD_WORKSPACE] = tap_text("acme");
    fields[NGX_HTTP_AGNTKEY_FIELD_NAME] = tap_text("first key");
    fields[NGX_HTTP_AGNTKEY_FIELD_SCOPES] = tap_text("read write");
    fields[NGX_HTTP_AGNTKEY_FIELD_CREATED_AT] = tap_text("1700000000001");
    fields[NGX_HTTP_AGNTKEY_FIELD_EXPIRES_AT] = tap_text("1800000000002");
    fields[NGX_HTTP_AGNTKEY_FIELD_REVOKED_AT] = tap_text("1750000000003");
}


/* a good record but for one field */

static ngx_int_t
test_field(ngx_uint_t field, ngx_str_t *value,
    ngx_http_agntkey_record_t *rec, ngx_uint_t *bad)
{
    ngx_str_t  fields[NGX_HTTP_AGNTKEY_FIELDS];

    test_fields(fields);
    fields[field] = *value;

    return ngx_http_agntkey_record_parse(fields, rec, bad);
}


/* may a record have these scopes? */

static ngx_uint_t
test_scopes(const char *scopes)
{
    ngx_str_t                  value;
    ngx_int_t                  rc;
    ngx_uint_t                 bad;
    ngx_http_agntkey_record_t  rec;

    value = tap_text(scopes);
    bad = 999;

    rc = test_field(NGX_HTTP_AGNTKEY_FIELD_SCOPES, &value, &rec, &bad);

    if (rc == NGX_OK) {
        tap_str(&rec.scopes, scopes, "scopes");
        return 1;
    }

    tap_int(rc, NGX_ERROR, "refused");
    tap_int(bad, NGX_HTTP_AGNTKEY_FIELD_SCOPES, "the bad one");

    return 0;
}


static ngx_uint_t
test_in(const char *set, ngx_uint_t c)
{
    return c && c < 0x80 && strchr(set, (int) c) != NULL;
}


/*
 * RFC 3629, section 4, as it stands there.  Returns 1 when the bytes are
 * characters from end to end, and says whether none is a control character.
 */

static ngx_uint_t
test_utf8(u_char *p, size_t len, ngx_uint_t *printable)
{
    size_t      i, k;
    ngx_uint_t  r;

    static struct {
        u_char  n;               /* bytes that follow the first */
        u_char  from, to;        /* the first */
        u_char  low, high;       /* the second; the others are 80 to bf */
    } ranges[] = {
        { 0, 0x00, 0x7f, 0,    0 },
        { 1, 0xc2, 0xdf, 0x80, 0xbf },
        { 2, 0xe0, 0xe0, 0xa0, 0xbf },
        { 2, 0xe1, 0xec, 0x80, 0xbf },
        { 2, 0xed, 0xed, 0x80, 0x9f },
        { 2, 0xee, 0xef, 0x80, 0xbf },
        { 3, 0xf0, 0xf0, 0x90, 0xbf },
        { 3, 0xf1, 0xf3, 0x80, 0xbf },
        { 3, 0xf4, 0xf4, 0x80, 0x8f }
    };

    *printable = 1;

    for (i = 0; i < len; i += ranges[r].n + 1) {

        for (r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
            if (p[i] >= ranges[r].from && p[i] <= ranges[r].to) {
                break;
            }
        }

        if (r == sizeof(ranges) / sizeof(ranges[0])
            || i + ranges[r].n >= len)
        {
            return 0;
        }

        if (ranges[r].n
            && (p[i + 1] < ranges[r].low || p[i + 1] > ranges[r].high))
        {
            return 0;
        }

        for (k = 2; k <= ranges[r].n; k++) {
            if (p[i + k] < 0x80 || p[i + k] > 0xbf) {
                return 0;
            }
        }

        /* C0, DEL, and C1, which is c2 80 to c2 9f */

        if (p[i] < 0x20 || p[i] == 0x7f
            || (p[i] == 0xc2 && p[i + 1] < 0xa0))
        {
            *printable = 0;
        }
    }

    return 1;
}


/* surrogates and numbers beyond the last one too, for they must be refused */

static size_t
test_encode(uint32_t c, u_char *p)
{
    if (c < 0x80) {
        p[0] = (u_char) c;
        return 1;
    }

    if (c < 0x800) {
        p[0] = (u_char) (0xc0 + c / 64);
        p[1] = (u_char) (0x80 + c % 64);
        return 2;
    }

    if (c < 0x10000) {
        p[0] = (u_char) (0xe0 + c / 4096);
        p[1] = (u_char) (0x80 + c / 64 % 64);
        p[2] = (u_char) (0x80 + c % 64);
        return 3;
    }

    p[0] = (u_char) (0xf0 + c / 262144);
    p[1] = (u_char) (0x80 + c / 4096 % 64);
    p[2] = (u_char) (0x80 + c / 64 % 64);
    p[3] = (u_char) (0x80 + c % 64);

    return 4;
}


static ngx_uint_t
test_name(const void *p, size_t len)
{
    ngx_str_t  name;

    name = tap_bytes(p, len);

    return ngx_http_agntkey_record_name_valid(&name);
}
